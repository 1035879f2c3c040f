//! `podium check`: whether the configuration and its disk can be used, and with `--hardware` every part of this machine, one line each,
//! with what to do. It is how the list in `board/README.md` is worked off on a real box; run it while the box is stopped.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use board::bridge::{self, Bridges, NoSignal, Timings};
use board::{Board, Kind, cards, graph, machine, mixer, watchdog};
use stream::health::{DISK_FULL_BYTES, HOT_C, Seen};
use stream::status::NoCard;

use crate::config::{Config, Source};
use crate::devices::{SYSFS, wanted};
use crate::{encoder, health, print, run};

/// So long the display and the lines may take to show what is wrong with them.
const SETTLE: Duration = Duration::from_secs(4);

/// So long a source may take to send again after it was told anew what it may send: a second or two, and slow ones a few more.
const BEGINS_ANEW: Duration = Duration::from_secs(8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Ok,
    Failed,
    /// This machine has none, or none is configured.
    Absent,
}
use Verdict::{Absent, Failed, Ok as Fine};

/// What was checked, what came out, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    part: &'static str,
    verdict: Verdict,
    says: String,
}

fn line(part: &'static str, verdict: Verdict, says: impl Into<String>) -> Line {
    let says = says.into();
    Line {
        part,
        verdict,
        says,
    }
}

/// Exit status 0: nothing failed. What is absent is no failure.
pub(crate) fn main_command(config: Option<&Path>, hardware: bool) -> ExitCode {
    let config = match run::configure(config, None) {
        Ok(config) => config,
        Err(error) => return run::refuse(&run::told(&error)),
    };
    let recording = recording(&config);
    let wants_card = recording.is_none();
    let mut lines = vec![configuration(&config)];
    lines.extend(recording);
    lines.push(disk(&config.data_dir));
    if hardware {
        lines.extend(front(&config));
        lines.push(encoder(&config));
        if wants_card {
            lines.extend(capture(&config));
        }
        lines.extend(machine(&machine::sample(&config.board.root)));
        let board = &config.board;
        lines.push(dog(board.watchdog.as_deref(), &watchdog::list(&board.root)));
    }
    print(&text(&lines));
    if lines.iter().any(|line| line.verdict == Failed) {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What the file says about other nodes; all else was looked at while it was read.
fn configuration(config: &Config) -> Line {
    const PART: &str = "configuration";
    let node = run::node_config(config);
    match node.and_then(|node| node.check().map_err(Into::into)) {
        Ok(()) => line(PART, Fine, "can be used"),
        Err(error) => line(PART, Failed, run::told(&error)),
    }
}

/// One that takes the card's place.
fn recording(config: &Config) -> Option<Line> {
    const PART: &str = "recording";
    let encoded = config.capture.source == Source::Encoded;
    let file = match config.capture.source {
        Source::File | Source::Encoded => config.capture.file.as_ref()?,
        Source::Test | Source::Device => return None,
    };
    Some(match media::check_recording(file, encoded) {
        Ok(()) => line(PART, Fine, file.display().to_string()),
        Err(error) => line(PART, Failed, error.to_string()),
    })
}

/// Whether the box can write where it keeps all that it has, and how much room there is. Nothing is left behind.
fn disk(data_dir: &Path) -> Line {
    const PART: &str = "disk";
    let at = data_dir.display();
    // Before its first start the box has not made it.
    let there = data_dir.ancestors().find(|it| it.exists());
    let there = there.unwrap_or(Path::new("."));
    let megabytes = |free: u64| format!("{at} has {} MB left", free / 1_000_000);
    match (health::free_bytes(there), try_to_write(there)) {
        (Some(free), _) if free < DISK_FULL_BYTES => {
            line(PART, Failed, megabytes(free) + ": make room")
        }
        (_, Err(error)) => {
            let do_what = match error.kind() {
                ErrorKind::PermissionDenied => "give it to this user (chown), or change data_dir",
                _ => "change data_dir, or put in another card",
            };
            let says = format!("{at} cannot be written to ({error}): {do_what}");
            line(PART, Failed, says)
        }
        (Some(free), Ok(())) => line(PART, Fine, megabytes(free)),
        (None, Ok(())) => line(PART, Fine, format!("{at} can be written to")),
    }
}

fn try_to_write(dir: &Path) -> std::io::Result<()> {
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(b"check")?;
    file.sync_all()
}

fn text(lines: &[Line]) -> String {
    let of = |line: &Line| {
        let word = match line.verdict {
            Fine => "ok",
            Failed => "failed",
            Absent => "absent",
        };
        format!("{word:<7} {:<14} {}\n", line.part, line.says)
    };
    lines.iter().map(of).collect()
}

/// Display, buttons and tally light, by the very code of the box.
fn front(config: &Config) -> Vec<Line> {
    if config.board.kind == Kind::Sim {
        let says = "simulated; set [board] kind = \"linux\" to use real ones";
        return vec![line("front", Absent, says)];
    }
    // Feeding a watchdog and then ending is not for a check.
    let config = board::Config {
        watchdog: None,
        ..config.board.clone()
    };
    // Before the box's own code has the lines: a line has one owner.
    let rest = pull_resistors(&config);
    let mut board = match Board::new(&config) {
        Ok(board) => board,
        Err(error) => return vec![line("front", Failed, error.to_string())],
    };
    let until = Instant::now() + SETTLE;
    let mut lit = false;
    while Instant::now() < until && board.faults.list().len() < 3 {
        let _ = board.display.show(&stream::screen::test_picture(lit));
        let _ = board.tally.set(lit);
        lit = !lit;
        std::thread::sleep(Duration::from_millis(250));
    }
    let faults = board.faults.list();
    let mut lines: Vec<Line> = faults
        .into_iter()
        .map(|fault| line("front", Failed, fault))
        .collect();
    if lines.is_empty() {
        let says =
            "display, buttons and tally light answer; look: the display has blinked, the light too";
        lines.push(line("front", Fine, says));
    }
    lines.push(rest);
    lines
}

fn pull_resistors(config: &board::Config) -> Line {
    const PART: &str = "pull resistors";
    match config.kind {
        // Who asks the kernel for the levels has it set the pulls, which are the registers' here.
        Kind::Pi => line(
            PART,
            Absent,
            "not asked with [board] kind = \"pi\": tap each button",
        ),
        Kind::Sim | Kind::Linux => match board::at_rest(config) {
            Ok(()) => line(PART, Fine, "nobody presses, and no line says so"),
            Err(why) => line(PART, Failed, why),
        },
    }
}

fn encoder(config: &Config) -> Line {
    match encoder::hardware(config) {
        None => line(
            "encoder",
            Absent,
            "no v4l2h264enc: x264 encodes (a Raspberry Pi 5 or a laptop has none; a Pi up to the 4 needs bcm2835-codec)",
        ),
        Some(Ok(())) => line(
            "encoder",
            Fine,
            "v4l2h264enc encodes the configured size and rate",
        ),
        Some(Err(why)) => line(
            "encoder",
            Failed,
            format!("v4l2h264enc does not: {why}; x264 takes over"),
        ),
    }
}

fn capture(config: &Config) -> Vec<Line> {
    let bridges = Bridges::default();
    let pair = match cards::choose(Path::new(SYSFS), &wanted(config), &|device, video| {
        bridges.chip(device, video)
    }) {
        Ok(pair) => pair,
        Err(no) if no.kind == NoCard::Missing => return vec![line("capture card", Absent, no.why)],
        Err(no) => return vec![line("capture card", Failed, no.why)],
    };
    let mut lines = vec![line("capture card", Fine, &*pair.name)];
    lines.extend(
        pair.advice
            .iter()
            .map(|advice| line("capture card", Failed, advice)),
    );
    let woken = (!config.capture.separate_clocks)
        .then(|| mixer::open(&pair.audio))
        .flatten()
        .map(|done| format!("sound woke up muted or quiet: {done}"));
    let notes = pair.notes.into_iter().chain(woken);
    lines.extend(notes.map(|note| line("capture card", Fine, note)));
    if let Some(device) = &pair.bridge {
        let told = bridge::tell(device, config.video.height.into(), config.video.fps);
        lines.push(match told {
            Ok(()) => line("EDID", Fine, "the source knows what to send"),
            Err(why) => line("EDID", Failed, why),
        });
        match signal(device) {
            Ok(timings) => {
                let Timings { width, height, fps } = timings;
                let comes = format!("{width}×{height} at {fps:.2}");
                lines.push(line("signal", Fine, comes));
                lines.extend(receiver(device, &pair.video, &timings));
            }
            Err(why) => lines.push(line("signal", Failed, why.to_string())),
        }
    }
    lines.push(match pair.usb {
        Some(usb) if usb.join("port/disable").exists() => {
            // The kernel makes the switch for every port.
            line(
                "port power",
                Fine,
                "the kernel has a switch for this port; whether the hub obeys it shows on a card with a lamp",
            )
        }
        Some(_) => line(
            "port power",
            Absent,
            "the kernel has no switch for this port (before 6.0): a dead card has to be pulled out by hand",
        ),
        None => line("port power", Absent, "the card is not on USB"),
    });
    lines
}

/// What comes in, when a source that was told anew what to send has had its time.
fn signal(bridge: &Path) -> Result<Timings, NoSignal> {
    let until = Instant::now() + BEGINS_ANEW;
    loop {
        match bridge::incoming(bridge) {
            Err(NoSignal::None | NoSignal::Unstable) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(250));
            }
            found => return found,
        }
    }
}

/// Whether the receiver takes what comes in, where it has to be told.
fn receiver(bridge: &Path, video: &Path, timings: &Timings) -> Option<Line> {
    let led = bridge::take(bridge).and_then(|()| graph::lead(bridge, video, timings));
    match led {
        Ok(format) => format.map(|format| {
            let gives = format!("{} gives {}", video.display(), format.pixels);
            line("receiver", Fine, gives)
        }),
        Err(why) => Some(line("receiver", Failed, why)),
    }
}

fn machine(machine: &stream::machine::Machine) -> Vec<Line> {
    let heat = match machine.temperature_c {
        Some(c) if c >= HOT_C => line("heat", Failed, format!("{c:.0} °C: give it air and shade")),
        Some(c) => line("heat", Fine, format!("{c:.0} °C")),
        None => line("heat", Absent, "no sensor"),
    };
    let power = match (machine.undervoltage, machine.throttled) {
        (Some(Seen::Now), _) => line("power", Failed, "too weak now: use the box's own supply"),
        (Some(Seen::Past), _) => line("power", Failed, "was too weak: use the box's own supply"),
        (_, Some(Seen::Now | Seen::Past)) => line(
            "power",
            Failed,
            "the processor was slowed down: give it air",
        ),
        (None, None) => line("power", Absent, "this machine does not tell"),
        _ => line("power", Fine, "strong enough"),
    };
    let storage = machine.storage;
    let wear = match storage.worn_percent {
        _ if storage.worn() => line("storage", Failed, "is worn out: have a new one ready"),
        Some(worn) => line("storage", Fine, format!("{worn} % of its life is used up")),
        None => line(
            "storage",
            Absent,
            "does not tell its wear, as SD cards do not",
        ),
    };
    let battery = match machine.clock.battery {
        // One without a battery has the time, too, once the network's was written to it, and loses it with the power.
        Some(true) => line(
            "clock",
            Fine,
            "has a time that can be; whether it keeps it without power shows after an hour without",
        ),
        Some(false) => line("clock", Failed, "has lost the time: a new battery"),
        None => line("clock", Absent, "none runs while the box is off"),
    };
    let network = match machine.clock.synchronised {
        Some(true) => line("network time", Fine, "the clock was set"),
        Some(false) => line(
            "network time",
            Failed,
            "the clock was not set since the start: connect the box to the internet",
        ),
        None => line(
            "network time",
            Absent,
            "systemd-timesyncd does not run: the box cannot tell whether another service has set the clock",
        ),
    };
    vec![heat, power, wear, battery, network]
}

/// `found` is what the kernel says of the machine's watchdogs.
fn dog(wanted: Option<&Path>, found: &[(PathBuf, watchdog::About)]) -> Line {
    const PART: &str = "watchdog";
    let Some((first, about)) = found.first() else {
        return line(
            PART,
            Absent,
            "this machine has none, or its kernel does not say",
        );
    };
    let first = first.display();
    let Some(wanted) = wanted else {
        let unused = format!(
            "{} is not used; set [board] watchdog = \"{first}\"",
            about.identity
        );
        return line(PART, Absent, unused);
    };
    // The kernel's other name for the first one (watchdog-api); udev may have given it one more.
    let path = match wanted == Path::new("/dev/watchdog") {
        true => "/dev/watchdog0".into(),
        false => std::fs::canonicalize(wanted).unwrap_or_else(|_| wanted.to_owned()),
    };
    match found.iter().find(|(it, _)| *it == path) {
        None => line(
            PART,
            Failed,
            format!(
                "no {}; set [board] watchdog = \"{first}\"",
                wanted.display()
            ),
        ),
        Some((_, about)) if about.nowayout => line(
            PART,
            Failed,
            "cannot be ended: the machine restarts when the box is stopped; start the kernel with nowayout=0",
        ),
        Some((_, about)) if about.active => line(
            PART,
            Failed,
            "another program has it: the box if it runs, or systemd (RuntimeWatchdogSec=off in system.conf)",
        ),
        Some((_, about)) => line(
            PART,
            Fine,
            format!(
                "{} bites after {} s",
                about.identity,
                about.timeout.as_secs()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use stream::machine::{Clock, Machine, Spare, Storage};

    use super::*;

    fn verdicts(of: &Machine) -> Vec<Verdict> {
        machine(of).iter().map(|line| line.verdict).collect()
    }

    #[test]
    fn each_part_of_the_machine_gets_its_verdict() {
        assert_eq!(verdicts(&Machine::default()), [Absent; 5]);
        let fine = Machine {
            temperature_c: Some(51.0),
            undervoltage: Some(Seen::Never),
            throttled: Some(Seen::Never),
            storage: Storage {
                worn_percent: Some(10),
                spare: Some(Spare::Normal),
            },
            clock: Clock {
                battery: Some(true),
                synchronised: Some(true),
            },
        };
        assert_eq!(verdicts(&fine), [Fine; 5]);
        let broken = Machine {
            temperature_c: Some(86.0),
            undervoltage: Some(Seen::Past),
            throttled: Some(Seen::Now),
            storage: Storage {
                worn_percent: Some(100),
                spare: None,
            },
            clock: Clock {
                battery: Some(false),
                synchronised: Some(false),
            },
        };
        assert_eq!(verdicts(&broken), [Failed; 5]);
    }

    #[test]
    fn the_watchdog_that_is_configured_is_the_one_that_is_judged() {
        let about = |nowayout, active| watchdog::About {
            identity: "dog".into(),
            timeout: Duration::from_secs(15),
            nowayout,
            active,
        };
        let found = [
            (PathBuf::from("/dev/watchdog0"), about(false, false)),
            (PathBuf::from("/dev/watchdog1"), about(false, true)),
            (PathBuf::from("/dev/watchdog2"), about(true, true)),
        ];
        for (wanted, verdict, says) in [
            (None, Absent, "set [board] watchdog = \"/dev/watchdog0\""),
            (Some("/dev/watchdog"), Fine, "dog bites after 15 s"),
            (Some("/dev/watchdog1"), Failed, "another program has it"),
            (Some("/dev/watchdog2"), Failed, "cannot be ended"),
            (Some("/dev/watchdog3"), Failed, "no /dev/watchdog3; set"),
        ] {
            let line = dog(wanted.map(Path::new), &found);
            assert_eq!(line.verdict, verdict, "{line:?}");
            assert!(line.says.contains(says), "{line:?}");
        }
    }

    #[test]
    fn the_lines_are_columns() {
        let lines = [
            line("heat", Fine, "51 °C"),
            line("port power", Absent, "none"),
        ];
        assert_eq!(
            text(&lines),
            "ok      heat           51 °C\nabsent  port power     none\n"
        );
    }
}
