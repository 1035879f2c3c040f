//! Which encoder this machine takes: as configured, as an earlier trial found, or as a trial finds out while the box is up already.
//!
//! The trial is a process of its own, of low priority and with a deadline: a driver may hang. It never holds up the box, and what
//! it finds holds from the next run of the encoder on.

use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use media::encoder::{Findings, Trial, v4l2_exists};
use serde::{Deserialize, Serialize};
use stream::encoder::{Choice, Encoder, Job, Reason, affordable};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::appliance::Command;
use crate::config::{Config, EncoderWish, Source};
use crate::{kept, print, run};

/// Six presets of 1080p60 take less on a Raspberry Pi 4; a driver that hangs takes for ever.
const DEADLINE: Duration = Duration::from_secs(120);
/// What was found, in the data directory.
pub(crate) const FILE: &str = "encoders.json";
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What an earlier trial found, and of what.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    /// Processor, version and trial: another one is measured anew.
    of: String,
    findings: Findings,
}

fn file(config: &Config) -> PathBuf {
    config.data_dir.join(FILE)
}

/// What to begin with: nothing is waited for.
pub(crate) fn at_start(config: &Config) -> Choice {
    configured(config, v4l2_exists())
        .or_else(|| {
            let (trial, machine) = (trial(config)?, processor());
            let known = known(&file(config), &of(&trial, &machine))?;
            Some(decide(config, &trial, &known))
        })
        .unwrap_or_default()
}

/// Starts a trial where it is not known what this machine can do; what it finds is a command to the loop.
pub(crate) fn try_out(config: &Config, commands: mpsc::Sender<Command>, stop: CancellationToken) {
    let exists = v4l2_exists();
    if config.video.encoder == EncoderWish::V4l2 && !exists {
        tracing::warn!(
            "[video] encoder = \"v4l2\", but this machine has no hardware encoder (v4l2h264enc): x264 is taken; \
             load its driver (bcm2835-codec), or set encoder = \"auto\""
        );
    }
    let Some(trial) = trial(config).filter(|_| configured(config, exists).is_none()) else {
        return;
    };
    let (of, file) = (of(&trial, &processor()), file(config));
    let Some(open) = open(&trial, known(&file, &of)) else {
        return;
    };
    let config = config.clone();
    tokio::task::spawn_blocking(move || {
        let findings = match ask(&open.trial, &stop) {
            Ok(findings) => open.with(findings),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "the encoders cannot be tried");
                return;
            }
        };
        let choice = decide(&config, &trial, &findings);
        tracing::info!(?findings, "the encoders were tried");
        if let Err(error) = kept::store(&file, Some(&Found { of, findings })) {
            tracing::warn!(%error, "the next start tries the encoders again");
        }
        let _ = commands.blocking_send(Command::Encoder(choice));
    });
}

/// What is still to be found out.
struct Open {
    trial: Trial,
    known: Option<Findings>,
}

impl Open {
    fn with(&self, findings: Findings) -> Findings {
        match &self.known {
            Some(known) => Findings {
                v4l2: findings.v4l2,
                x264: known.x264.clone(),
            },
            None => findings,
        }
    }
}

/// A hardware that did not encode is asked again at each start, and what x264 costs is not measured again: its device may have been in
/// use, or short of memory, that one time.
fn open(trial: &Trial, known: Option<Findings>) -> Option<Open> {
    let trial = trial.clone();
    match &known {
        None => Some(Open { trial, known }),
        Some(Findings { v4l2: Some(_), .. }) if trial.v4l2 => {
            let trial = Trial {
                x264: false,
                ..trial
            };
            Some(Open { trial, known })
        }
        Some(_) => None,
    }
}

/// What needs no trial, on a machine that has the hardware's encoder (`v4l2_exists`) or not.
fn configured(config: &Config, v4l2_exists: bool) -> Option<Choice> {
    let video = &config.video;
    let encoder = match (video.encoder, video.x264_preset) {
        (EncoderWish::V4l2, _) if v4l2_exists => Encoder::V4l2h264enc,
        (wish, Some(preset)) if wish == EncoderWish::X264 || !v4l2_exists => {
            Encoder::X264enc(preset)
        }
        _ => return None,
    };
    Some(Choice {
        encoder,
        reason: Reason::Configured,
    })
}

/// What has to be found out; a simulated box has nothing to find out.
fn trial(config: &Config) -> Option<Trial> {
    let trial = job(config);
    (trial.v4l2 || trial.x264).then_some(trial)
}

fn job(config: &Config) -> Trial {
    let video = &config.video;
    let job = |width, height, kbps| Job {
        width,
        height,
        fps: video.fps,
        kbps,
    };
    let low = video.low;
    Trial {
        jobs: std::iter::once(job(video.width, video.height, video.bitrate_kbps))
            .chain(low.map(|low| job(low.width, low.height, low.bitrate_kbps)))
            .collect(),
        segment: config.hls.segment(),
        v4l2: video.encoder == EncoderWish::Auto && v4l2_exists(),
        x264: video.x264_preset.is_none() && config.capture.source == Source::Device,
        cores: std::thread::available_parallelism().map_or(1, usize::from),
    }
}

fn decide(config: &Config, trial: &Trial, findings: &Findings) -> Choice {
    let measured = |encoder| Choice {
        encoder,
        reason: Reason::Measured,
    };
    if trial.v4l2 && findings.v4l2.is_none() {
        return measured(Encoder::V4l2h264enc);
    }
    match config.video.x264_preset {
        Some(preset) => Choice {
            encoder: Encoder::X264enc(preset),
            reason: Reason::Configured,
        },
        None if trial.x264 => measured(Encoder::X264enc(affordable(&findings.x264, trial.cores))),
        None => Choice::default(),
    }
}

/// Whether the hardware's encoder encodes what is configured; `None` where there is none.
pub(crate) fn hardware(config: &Config) -> Option<Result<(), String>> {
    let trial = Trial {
        v4l2: v4l2_exists(),
        x264: false,
        ..job(config)
    };
    trial.v4l2.then(|| {
        let found = ask(&trial, &CancellationToken::new());
        let found = found.map_err(|error| format!("{error:#}"))?;
        found.v4l2.map_or(Ok(()), Err)
    })
}

/// This machine's processor, as the kernel names it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key| text.lines().find(|line| line.starts_with(key));
    let line = named("model name").or_else(|| named("Model"));
    line.unwrap_or_default().to_owned()
}

fn of(trial: &Trial, processor: &str) -> String {
    format!("{} {processor} {trial:?}", env!("CARGO_PKG_VERSION"))
}

fn known(file: &Path, of: &str) -> Option<Findings> {
    let found: Found = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    (found.of == of).then_some(found.findings)
}

/// Runs the trial in a process of its own.
fn ask(trial: &Trial, stop: &CancellationToken) -> Result<Findings> {
    // Itself, also where the file was replaced by an update meanwhile.
    let mut child = Process::new("/proc/self/exe")
        .arg("try-encoders")
        .arg(serde_json::to_string(trial)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    await_or_kill(&mut child, DEADLINE, stop)?;
    let output = child.stdout.take().context("no output")?;
    serde_json::from_reader(output).context("it said something else")
}

fn await_or_kill(child: &mut Child, deadline: Duration, stop: &CancellationToken) -> Result<()> {
    let ended = wait(child, deadline, stop);
    if ended.is_err() {
        let _ = child.kill();
        // One that hangs in a driver does not even die; it is left behind then, and nobody waits for it.
        let _ = child.try_wait();
    }
    ended
}

fn wait(child: &mut Child, deadline: Duration, stop: &CancellationToken) -> Result<()> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "the trial ended with {status}");
            return Ok(());
        }
        ensure!(!stop.is_cancelled(), "the box is being switched off");
        ensure!(
            begun.elapsed() < deadline,
            "the trial hangs: a driver does not answer"
        );
        std::thread::sleep(LOOK);
    }
}

/// The process of the trial.
pub(crate) fn main_command(trial: &str) -> ExitCode {
    let trial = match serde_json::from_str(trial) {
        Ok(trial) => trial,
        Err(error) => return run::refuse(&error.to_string()),
    };
    // The stream goes first; without the right to be nice it is as it is.
    let _ = rustix::process::nice(19);
    match media::encoder::try_out(&trial) {
        Ok(findings) => print(&serde_json::to_string(&findings).expect("plain data")),
        Err(error) => run::refuse(&error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use stream::encoder::Preset;

    use super::*;

    fn config(toml: &str) -> Config {
        toml::from_str(toml).unwrap()
    }

    fn findings(v4l2: Option<&str>) -> Findings {
        Findings {
            v4l2: v4l2.map(Into::into),
            x264: vec![
                (Preset::Ultrafast, 0.1),
                (Preset::Superfast, 0.2),
                (Preset::Veryfast, 9.0),
            ],
        }
    }

    #[test]
    fn a_simulated_box_and_a_configured_one_try_nothing() {
        assert_eq!(trial(&Config::default()), None);
        let fixed = config(
            "[video]\nencoder = \"x264\"\nx264_preset = \"faster\"\n[capture]\nsource = \"device\"",
        );
        for exists in [true, false] {
            assert_eq!(
                configured(&fixed, exists),
                Some(Choice {
                    encoder: Encoder::X264enc(Preset::Faster),
                    reason: Reason::Configured
                })
            );
        }
        let card = config(
            "[capture]\nsource = \"device\"\n[video.low]\nwidth = 320\nheight = 180\nbitrate_kbps = 300",
        );
        let trial = trial(&card).unwrap();
        assert_eq!(trial.jobs.len(), 2);
        assert!(trial.x264);
    }

    #[test]
    fn a_hardware_that_is_insisted_on_is_taken_untried_where_there_is_one() {
        // Beyond what it is rated for, too: a trial would refuse that.
        let forced = "[video]\nencoder = \"v4l2\"\nwidth = 1920\nheight = 1080\nfps = 60";
        let preset = "\nx264_preset = \"fast\"";
        let check = |toml: &str, exists, expected: Option<Encoder>| {
            let found = configured(&config(toml), exists);
            let expected = expected.map(|encoder| Choice {
                encoder,
                reason: Reason::Configured,
            });
            assert_eq!(found, expected, "{toml} {exists}");
        };
        check(forced, true, Some(Encoder::V4l2h264enc));
        check(forced, false, None);
        let both = format!("{forced}{preset}");
        let fast = Some(Encoder::X264enc(Preset::Fast));
        check(&both, true, Some(Encoder::V4l2h264enc));
        check(&both, false, fast);
        check("", true, None);
        check("", false, None);
        // Without a hardware there is nothing to try before the preset.
        let auto = format!("[video]{preset}");
        check(&auto, true, None);
        check(&auto, false, fast);
        // It is not tried either; x264 is, on a machine without.
        let card = config(&format!("{forced}\n[capture]\nsource = \"device\""));
        let trial = trial(&card).unwrap();
        assert_eq!((trial.v4l2, trial.x264), (false, true));
    }

    #[test]
    fn the_hardware_goes_first_then_what_can_be_afforded() {
        let check = |toml: &str, v4l2: bool, found: Option<&str>, expected: (Encoder, Reason)| {
            let config = config(toml);
            let trial = Trial {
                jobs: Vec::new(),
                segment: config.hls.segment(),
                v4l2,
                x264: config.video.x264_preset.is_none(),
                cores: 1,
            };
            let choice = decide(&config, &trial, &findings(found));
            assert_eq!((choice.encoder, choice.reason), expected, "{toml}");
        };
        let (hangs, none) = (
            Some("it made 0 of 30 pictures"),
            Some("this machine has none"),
        );
        let measured = |preset| (Encoder::X264enc(preset), Reason::Measured);
        check("", true, None, (Encoder::V4l2h264enc, Reason::Measured));
        check("", true, hangs, measured(Preset::Superfast));
        check("", false, none, measured(Preset::Superfast));
        let preset = "[video]\nx264_preset = \"fast\"";
        let fast = (Encoder::X264enc(Preset::Fast), Reason::Configured);
        check(preset, true, None, (Encoder::V4l2h264enc, Reason::Measured));
        check(preset, true, hangs, fast);
    }

    #[test]
    fn only_a_hardware_that_did_not_encode_is_tried_again() {
        let trial = |v4l2| Trial {
            jobs: Vec::new(),
            segment: std::time::Duration::from_secs(2),
            v4l2,
            x264: true,
            cores: 4,
        };
        let asks = |v4l2, known| open(&trial(v4l2), known).map(|it| (it.trial.v4l2, it.trial.x264));
        let busy = findings(Some("it takes no pictures"));
        assert_eq!(asks(true, None), Some((true, true)));
        assert_eq!(asks(true, Some(findings(None))), None);
        assert_eq!(asks(false, Some(busy.clone())), None);
        assert_eq!(asks(true, Some(busy.clone())), Some((true, false)));
        let now = Findings {
            v4l2: None,
            x264: Vec::new(),
        };
        let merged = open(&trial(true), Some(busy)).unwrap().with(now);
        assert_eq!(merged, findings(None));
    }

    #[test]
    fn what_was_found_is_kept_for_this_machine_and_job_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("encoders.json");
        assert_eq!(known(&file, "this"), None);
        let found = Found {
            of: "this".into(),
            findings: findings(None),
        };
        kept::store(&file, Some(&found)).unwrap();
        assert_eq!(known(&file, "this"), Some(found.findings));
        assert_eq!(known(&file, "another size"), None);
        std::fs::write(&file, "{").unwrap();
        assert_eq!(known(&file, "this"), None);
    }

    #[test]
    fn a_trial_that_hangs_or_is_not_wanted_any_more_is_killed() {
        let check = |program: &str, deadline, stopped: bool, expected: Option<&str>| {
            let mut child = Process::new("sh").args(["-c", program]).spawn().unwrap();
            let stop = CancellationToken::new();
            if stopped {
                stop.cancel();
            }
            let ended = await_or_kill(&mut child, deadline, &stop);
            let why = ended.err().map(|error| error.to_string());
            assert_eq!(why.as_deref(), expected, "{program}");
            child.wait().unwrap()
        };
        const HANGS: &str = "exec sleep 60";
        let (short, long) = (Duration::from_millis(1), DEADLINE);
        let hangs = Some("the trial hangs: a driver does not answer");
        let off = Some("the box is being switched off");
        for (deadline, stopped, why) in [(short, false, hangs), (long, true, off)] {
            let killed = check(HANGS, deadline, stopped, why);
            assert_eq!(killed.signal(), Some(9));
        }
        assert!(check("exit 0", long, false, None).success());
        let failed = Some("the trial ended with exit status: 2");
        check("exit 2", long, false, failed);
    }
}
