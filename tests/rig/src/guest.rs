//! Inside the rig's kernel: the first process. It mounts what programs expect, holds the hardware, and does what the test asks
//! over the serial line.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::bridge::Bridge;
use crate::card::{Plugged, Usb};
use crate::emmc::{self, Fitted};
use crate::gpio::Chip;
use crate::oled::{self, Oled};
use crate::protocol::{Bus, GO_LIVE, LAMP, MODE, PAGE, Reply, Request};

/// The line to the test.
const LINE: &str = "/dev/ttyS0";
/// The host's scratch directory, the only place that the guest can write to on the host.
pub const SCRATCH: &str = "/run/rig";
/// The disk: what survives a power cut as far as it was synchronised.
pub const DISK: &str = "/run/disk";
/// The machine's address (RFC 5737, for documentation).
const NETWORK: &str = "192.0.2.2/24";
/// Address of the display.
pub const ADDRESS: u8 = 0x3c;
/// What every reply begins with: the kernel and user-mode Linux itself write on the line too while they start.
pub const MARK: &str = "rig>";

#[derive(Debug)]
struct Hardware {
    gpio: Chip,
    bridge: Bridge,
    chip: oled::Chip,
    card: Option<Plugged>,
    emmc: Option<Fitted>,
    podium: Option<(Child, Receiver<String>)>,
    answers: u32,
}

/// Serves the test until the power is cut.
///
/// # Panics
/// Where the kernel lacks what the rig needs: the test then shows the kernel's last words.
pub fn main() {
    // Until it is mounted, /proc is the host's.
    mount("proc", "proc", "/proc", "defaults");
    let arguments = fs::read_to_string("/proc/cmdline").expect("/proc is mounted");
    let scratch = arguments
        .split_whitespace()
        .find_map(|word| word.strip_prefix("rig.scratch="))
        .expect("the test names its scratch directory");
    let sh1106 = format!("rig.oled={}", oled::Chip::Sh1106.name());
    let chip = if arguments.split_whitespace().any(|word| word == sh1106) {
        oled::Chip::Sh1106
    } else {
        oled::Chip::Ssd1306
    };
    mount("sysfs", "sys", "/sys", "defaults");
    mount("tmpfs", "run", "/run", "defaults");
    mount("configfs", "config", "/sys/kernel/config", "defaults");
    for dir in [SCRATCH, DISK, "/dev/shm", "/dev/pts"] {
        fs::create_dir_all(dir).expect("directories can be made in memory");
    }
    mount("tmpfs", "shm", "/dev/shm", "defaults");
    mount("hostfs", "none", SCRATCH, scratch);
    mount("ext4", "/dev/ubda", DISK, "defaults");
    run("ip", &["link", "set", "lo", "up"]).expect("ip runs");
    // A network, if one that leads nowhere: a box without any says so, and nothing else.
    run("ip", &["addr", "add", NETWORK, "dev", "dummy0"]).expect("ip runs");
    run("ip", &["link", "set", "dummy0", "up"]).expect("ip runs");

    let mut hardware = Hardware {
        gpio: Chip::new().expect("the kernel has gpio-sim"),
        bridge: Bridge::new(Oled::new(chip), ADDRESS).expect("the kernel has uhid"),
        chip,
        card: None,
        emmc: None,
        podium: None,
        answers: 0,
    };
    for line in [GO_LIVE, PAGE, MODE] {
        hardware
            .gpio
            .pull(line, true)
            .expect("the chip has the buttons' lines");
    }
    let line = File::options()
        .read(true)
        .write(true)
        .open(LINE)
        .expect("the kernel has a serial line");
    let mut mode = tcgetattr(&line).expect("it is a terminal");
    mode.make_raw();
    tcsetattr(&line, OptionalActions::Now, &mode).expect("it can be raw");
    let mut writer = line.try_clone().expect("a file");
    let mut say = |reply: &Reply| {
        let text = serde_json::to_string(reply).expect("plain data");
        writeln!(writer, "\n{MARK}{text}").expect("the line works");
    };
    say(&Reply::Up);
    for request in BufReader::new(line).lines() {
        let request = request.expect("the line works");
        let reply = match serde_json::from_str(&request) {
            Ok(request) => hardware.perform(request),
            Err(error) => Err(io::Error::other(format!("{error}: {request}"))),
        };
        say(&reply.unwrap_or_else(|error| Reply::Failed(error.to_string())));
    }
}

fn mount(kind: &str, what: &str, place: &str, options: &str) {
    let result = run("mount", &["-t", kind, "-o", options, what, place]);
    let done = result.as_ref().is_ok_and(|(status, _)| *status == Some(0));
    assert!(done, "{kind} on {place}: {result:?}");
}

fn run(program: &str, arguments: &[&str]) -> io::Result<(Option<i32>, String)> {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .output()?;
    let text = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    ))
}

impl Hardware {
    fn perform(&mut self, request: Request) -> io::Result<Reply> {
        match request {
            Request::Plug(card) => {
                // No hand is so fast that the kernel still sets up the card that was pulled out: it would take the two for one, and leave it
                // without a configuration.
                self.card = None;
                empty(&[&Usb::Two.socket(), &Usb::Three.socket()])?;
                // The kernel frees the port a moment after that.
                self.card = Some(retry(|| Plugged::new(card.clone()))?);
            }
            Request::Unplug => self.card = None,
            Request::Streams(streams) => self.card()?.streams(streams),
            Request::Stick(stuck) => self.card()?.stick(stuck),
            Request::Spoil(spoilt) => self.card()?.spoil(spoilt),
            Request::Halt => self.card()?.halt(),
            Request::Incoming(incoming) => self.card()?.incoming(incoming),
            Request::Gain => return Ok(Reply::Gain(self.card()?.gain())),
            Request::Moments => return Ok(Reply::Moments(self.card()?.moments())),
            Request::Emmc(flash) => {
                self.emmc = None;
                empty(&[emmc::SOCKET])?;
                self.emmc = Some(retry(|| Fitted::new(flash))?);
            }
            Request::Bus(bus) => {
                self.bridge.set(bus)?;
                if bus == Bus::Gone {
                    // Its power comes from the bridge.
                    self.bridge.replace(Oled::new(self.chip));
                }
            }
            Request::Reseat => self.bridge.replace(Oled::new(self.chip)),
            Request::Line { line, high } => self.gpio.pull(line, high)?,
            Request::Hold(lines) => self.gpio.hold(&lines)?,
            Request::Lamp => return Ok(Reply::Lamp(self.gpio.level(LAMP)?)),
            Request::Contrast => return Ok(Reply::Contrast(self.bridge.contrast())),
            Request::Glass => {
                let text =
                    |row: Vec<bool>| row.iter().map(|lit| if *lit { '#' } else { '.' }).collect();
                let glass = self.bridge.glass();
                return Ok(Reply::Glass(
                    glass.map(|rows| rows.into_iter().map(text).collect()),
                ));
            }
            Request::Start { program, arguments } => self.start(&program, &arguments)?,
            Request::Kill { signal } => {
                let (child, _) = self.podium.as_ref().ok_or(io::ErrorKind::NotFound)?;
                let signal = Signal::from_named_raw(signal).ok_or(io::ErrorKind::InvalidInput)?;
                kill_process(Pid::from_child(child), signal)?;
            }
            Request::Ended => {
                let (child, _) = self.podium.as_mut().ok_or(io::ErrorKind::NotFound)?;
                return Ok(match child.try_wait()? {
                    Some(status) => Reply::Ended(status.code()),
                    None => Reply::Done,
                });
            }
            Request::Ready => {
                let (_, lines) = self.podium.as_ref().ok_or(io::ErrorKind::NotFound)?;
                return Ok(Reply::Ready(lines.try_recv().ok()));
            }
            Request::Run { program, arguments } => {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let (status, output) = run(&program, &arguments)?;
                return Ok(Reply::Ran { status, output });
            }
            Request::Get { url } => return self.get(&url),
        }
        Ok(Reply::Done)
    }

    fn card(&self) -> io::Result<&Plugged> {
        self.card
            .as_ref()
            .ok_or_else(|| io::Error::other("no card is plugged in"))
    }

    fn start(&mut self, program: &str, arguments: &[String]) -> io::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(format!("{SCRATCH}/podium.log"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/run")
            .env("XDG_CACHE_HOME", SCRATCH)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let (sender, lines) = channel();
        let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        self.podium = Some((child, lines));
        Ok(())
    }

    /// The body goes by the scratch directory: a serial line is slow.
    fn get(&mut self, url: &str) -> io::Result<Reply> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = agent.get(url).call().map_err(io::Error::other)?;
        self.answers += 1;
        let file = format!("answer-{}", self.answers);
        let body = answer
            .body_mut()
            .with_config()
            .limit(1 << 30)
            .read_to_vec()
            .map_err(io::Error::other)?;
        fs::write(format!("{SCRATCH}/{file}"), body)?;
        Ok(Reply::Got {
            status: answer.status().as_u16(),
            file,
        })
    }
}

/// Waits until nothing is in these sockets any more.
fn empty(sockets: &[&str]) -> io::Result<()> {
    retry(|| {
        for socket in sockets {
            if fs::exists(socket)? {
                return Err(io::Error::other("what was there is still there"));
            }
        }
        Ok(())
    })
}

/// Tries for half a minute: the kernel waits up to five seconds for each answer of a card that is gone.
pub(crate) fn retry<T>(mut what: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..600 {
        if let Ok(done) = what() {
            return Ok(done);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    what()
}
