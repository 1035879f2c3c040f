//! The rig as a test sees it.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use stream::screen::{HEIGHT, WIDTH};
use tempfile::TempDir;
use tests::{PATIENCE, judge, patiently, wait_for};

use crate::card::{Card, Incoming, Mode, Pixels, Source, Spoilt, Stuck};
use crate::emmc::Emmc;
use crate::guest::{ADDRESS, DISK, MARK, SCRATCH};
use crate::oled::Chip;
use crate::protocol::{Bus, GO_LIVE, Gain, LAMP, MODE, Moments, PAGE, Reply, Request, Streams};
use crate::published::Published;
use crate::reading::reads;

/// Memory of the machine: the box's own and the pictures of a card at 1080p.
const MEMORY: &str = "1024M";
/// Size of the disk, most of it never written.
const DISK_BYTES: u64 = 2 << 30;
/// The watchdog bites after this many seconds, unless who opens it wants another time.
const WATCHDOG: &str = "softdog.soft_margin=10";
/// What the kernel says then, before it starts anew.
const BITE: &str = "softdog: Initiating system reboot";
/// How long a finger is on a button.
const TAP: Duration = Duration::from_millis(120);
const HOLD: Duration = Duration::from_millis(1800);

/// The disk of a machine, which outlives a power cut.
#[derive(Debug)]
pub struct Disk(TempDir);

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let image = dir.path().join("disk.img");
        fs::File::create(&image)
            .and_then(|file| file.set_len(DISK_BYTES))
            .expect("the disk can be made");
        let made = Command::new("/usr/sbin/mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&image)
            .status();
        assert!(made.is_ok_and(|status| status.success()), "mkfs.ext4 runs");
        Disk(dir)
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("disk.img")
    }
}

impl Default for Disk {
    fn default() -> Disk {
        Disk::new()
    }
}

/// What a machine is put together from.
#[derive(Debug, Default)]
pub struct Machine {
    pub disk: Disk,
    /// The controller behind the display's glass.
    pub oled: Chip,
    /// What takes HDMI on the camera's connector.
    pub hdmi: Hdmi,
    /// Nobody can end the watch once it has begun.
    pub nowayout: bool,
}

/// A receiver of HDMI on the camera's connector, as the kernel's test drivers play it. `snd-aloop` is the sound card with the chip's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hdmi {
    /// None: `vivid` is a webcam.
    #[default]
    None,
    /// One that has the bridge's timings itself: `vivid` with nothing but an HDMI input.
    Vivid,
    /// One whose links and formats are set from outside, without a bridge that has timings: `vimc`.
    Vimc,
}

impl Hdmi {
    /// The kernel's options.
    fn options(self) -> &'static [&'static str] {
        // Both drivers are in the kernel, and would take each other's numbers.
        match self {
            Hdmi::None => &["initcall_blacklist=vimc_init", "snd_aloop.enable=0"],
            Hdmi::Vivid => &[
                "initcall_blacklist=vimc_init",
                "vivid.node_types=0x1",
                "vivid.num_inputs=1",
                "vivid.input_types=0x3",
                "snd_aloop.pcm_substreams=1",
                "snd_aloop.id=vivid",
            ],
            Hdmi::Vimc => &[
                "initcall_blacklist=vivid_init",
                "snd_aloop.pcm_substreams=1",
                "snd_aloop.id=tc358743",
            ],
        }
    }
}

/// A machine that runs. Dropping it cuts its power.
#[derive(Debug)]
pub struct Rig {
    kernel: Child,
    line: ChildStdin,
    replies: Receiver<String>,
    scratch: TempDir,
    disk: Option<Disk>,
    ready: Value,
    oled: Chip,
    /// Whether the buttons are between their lines and 3.3 V, as the box has been told.
    pressed_is_high: bool,
}

/// The kernel, built on first use.
fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let build = tests::root().join("tests/rig/kernel/build");
        let output = Command::new(build)
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/rig/kernel/build runs");
        assert!(output.status.success(), "the rig's kernel cannot be built");
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}

/// A program of this workspace, beside the tests' own.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    test.ancestors()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not built: run `make test-rig`"))
}

impl Rig {
    /// Switches a machine on with an empty disk and no card in its socket.
    pub fn boot() -> Rig {
        Rig::boot_as(Machine::default())
    }

    /// Switches a machine on with a disk that has been used before.
    pub fn boot_with(disk: Disk) -> Rig {
        Rig::boot_as(Machine {
            disk,
            ..Machine::default()
        })
    }

    /// Switches a machine on with the parts that a test wants.
    pub fn boot_as(machine: Machine) -> Rig {
        let Machine {
            disk,
            oled,
            hdmi,
            nowayout,
        } = machine;
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let log = fs::File::create(scratch.path().join("kernel.log")).expect("it can be written");
        let mut kernel = Command::new(kernel())
            .arg(format!("mem={MEMORY}"))
            .arg(format!("ubda={}", disk.image().display()))
            .arg(format!("init={}", program("rig-guest").display()))
            .arg(format!("rig.scratch={}", scratch.path().display()))
            .args([
                "root=none",
                "rootfstype=hostfs",
                "rootflags=/",
                "ro",
                "seccomp=auto",
                "con=null",
                "con0=null,fd:2",
                "ssl=null",
                "ssl0=fd:0,fd:1",
                "console=tty0",
                "panic=-1",
                WATCHDOG,
            ])
            .args(hdmi.options())
            .arg(format!("softdog.nowayout={}", u8::from(nowayout)))
            .arg(format!("rig.oled={}", oled.name()))
            // The kernel hands what it does not know to its first process, as environment.
            .args(std::env::var("GST_DEBUG").map(|debug| format!("GST_DEBUG={debug}")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            // Its processes die together.
            .process_group(0)
            .spawn()
            .expect("the kernel starts");
        let line = kernel.stdin.take().expect("a pipe");
        let output = kernel.stdout.take().expect("a pipe");
        let (sender, replies) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut text = Vec::new();
            while output
                .read_until(b'\n', &mut text)
                .is_ok_and(|read| read > 0)
            {
                let said = String::from_utf8_lossy(&text);
                if let Some(reply) = said.trim().strip_prefix(MARK)
                    && sender.send(reply.to_owned()).is_err()
                {
                    return;
                }
                text.clear();
            }
        });
        let rig = Rig {
            kernel,
            line,
            replies,
            scratch,
            disk: Some(disk),
            ready: Value::Null,
            oled,
            pressed_is_high: false,
        };
        assert!(matches!(rig.reply(), Reply::Up));
        rig
    }

    /// Cuts the power. What was not synchronised is lost; the disk is what is left.
    pub fn cut_power(mut self) -> Disk {
        self.stop();
        self.disk.take().expect("a machine has a disk")
    }

    fn stop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.kernel), Signal::KILL);
        let _ = self.kernel.wait();
    }

    fn reply(&self) -> Reply {
        let reply = self.replies.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            panic!(
                "the machine does not answer; its kernel said\n{}",
                self.file("kernel.log")
            )
        });
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    fn ask(&mut self, request: &Request) -> Reply {
        match self.try_ask(request) {
            Reply::Failed(why) => panic!("{request:?}: {why}"),
            reply => reply,
        }
    }

    fn try_ask(&mut self, request: &Request) -> Reply {
        let text = serde_json::to_string(request).expect("plain data");
        writeln!(self.line, "{text}").expect("the machine runs");
        self.reply()
    }

    fn file(&self, name: &str) -> String {
        let text = fs::read(self.scratch.path().join(name)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Whether this is in the box's log.
    pub fn logged(&self, text: &str) -> bool {
        let log = fs::read(self.scratch.path().join("podium.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).contains(text)
    }

    /// The last lines of the box's log.
    pub fn log(&self) -> String {
        self.file("podium.log")
    }

    /// Puts a card in the socket, instead of the one that is there.
    pub fn plug(&mut self, card: &Card) {
        self.ask(&Request::Plug(card.clone()));
    }

    pub fn unplug(&mut self) {
        self.ask(&Request::Unplug);
    }

    /// Stops or continues the card's pictures and sound.
    pub fn streams(&mut self, video: bool, audio: bool) {
        self.ask(&Request::Streams(Streams { video, audio }));
    }

    /// The card gives no more pictures until somebody does what cures it.
    pub fn stick(&mut self, stuck: Stuck) {
        self.ask(&Request::Stick(stuck));
    }

    /// Some pictures come broken, or none do.
    pub fn spoil(&mut self, spoilt: Option<Spoilt>) {
        self.ask(&Request::Spoil(spoilt));
    }

    /// The card refuses to give pictures until its endpoint's halt is cleared.
    pub fn halt(&mut self) {
        self.ask(&Request::Halt);
    }

    /// Another signal comes in at the HDMI socket: compressed pictures have its size, all have its rate. `None` is one as the
    /// card's modes say.
    pub fn incoming(&mut self, incoming: Option<Incoming>) {
        self.ask(&Request::Incoming(incoming));
    }

    /// Where the switch and the gain of the card's sound are.
    pub fn gain(&mut self) -> Gain {
        match self.ask(&Request::Gain) {
            Reply::Gain(gain) => gain,
            reply => panic!("{reply:?}"),
        }
    }

    /// What the card has done, by its own clock.
    pub fn moments(&mut self) -> Moments {
        match self.ask(&Request::Moments) {
            Reply::Moments(moments) => moments,
            reply => panic!("{reply:?}"),
        }
    }

    /// Decodes the first `seconds` of a clip into what a card with this mode sends, by ffmpeg.
    pub fn clip(&self, clip: &Path, mode: &Mode, seconds: u32) -> Source {
        let [pictures, sound] =
            ["clip.video", "clip.s16"].map(|name| self.scratch.path().join(name));
        let filter = format!("fps={},scale={}:{}", mode.fps, mode.width, mode.height);
        let packed: &[&str] = match mode.pixels {
            Pixels::Yuy2 => &["-pix_fmt", "yuyv422", "-f", "rawvideo"],
            Pixels::Nv12 => &["-pix_fmt", "nv12", "-f", "rawvideo"],
            Pixels::Mjpeg => &["-pix_fmt", "yuvj422p", "-q:v", "3", "-f", "mjpeg"],
        };
        let to = |path: &Path| path.display().to_string();
        let (input, length) = (to(clip), seconds.to_string());
        let (to_pictures, to_sound) = (to(&pictures), to(&sound));
        let arguments = [
            &[
                "-v", "error", "-i", &input, "-map", "0:v", "-t", &length, "-vf", &filter,
            ],
            packed,
            &[&to_pictures, "-map", "0:a", "-t", &length],
            &["-ar", "48000", "-ac", "2", "-f", "s16le", &to_sound],
        ]
        .concat();
        let (_, complaints) = judge::run("ffmpeg", &arguments, &[]);
        assert_eq!(complaints, "");
        Source::Clip { pictures, sound }
    }

    /// Fits flash that counts its wear, instead of what is there: the kernel asks for the wear when it finds it, and not again.
    pub fn emmc(&mut self, flash: Emmc) {
        self.ask(&Request::Emmc(flash));
    }

    /// Breaks or mends the display's bus.
    pub fn bus(&mut self, bus: Bus) {
        self.ask(&Request::Bus(bus));
    }

    /// The display's plug is loose for a moment, between two transfers.
    pub fn reseat_display(&mut self) {
        self.ask(&Request::Reseat);
    }

    fn finger(&mut self, line: u32, time: Duration) {
        for pressed in [true, false] {
            let high = pressed == self.pressed_is_high;
            self.ask(&Request::Line { line, high });
            std::thread::sleep(time);
        }
    }

    pub fn tap_go_live(&mut self) {
        self.finger(GO_LIVE, TAP);
    }

    pub fn hold_go_live(&mut self) {
        self.finger(GO_LIVE, HOLD);
    }

    pub fn tap_page(&mut self) {
        self.finger(PAGE, TAP);
    }

    pub fn tap_mode(&mut self) {
        self.finger(MODE, TAP);
    }

    /// Another program holds these lines of the GPIO chip, and lets go of all others.
    pub fn hold_lines(&mut self, lines: &[u32]) {
        self.ask(&Request::Hold(lines.to_vec()));
    }

    /// Whether the tally light's line is high.
    pub fn lamp(&mut self) -> bool {
        match self.ask(&Request::Lamp) {
            Reply::Lamp(lit) => lit,
            reply => panic!("{reply:?}"),
        }
    }

    /// What the display shows: 64 rows of 128 `#` and `.`; `None` while it is dark.
    pub fn glass(&mut self) -> Option<Vec<String>> {
        match self.ask(&Request::Glass) {
            Reply::Glass(glass) => glass,
            reply => panic!("{reply:?}"),
        }
    }

    /// How bright the display is told to be, 0 to 255.
    pub fn contrast(&mut self) -> u8 {
        match self.ask(&Request::Contrast) {
            Reply::Contrast(contrast) => contrast,
            reply => panic!("{reply:?}"),
        }
    }

    /// Waits until a line of text stands on the glass, in the font of the panel's sentences, of its lists or of its small print.
    pub fn wait_to_read(&mut self, line: &str) {
        self.wait_for(&format!("\"{line}\" on the glass"), |rig| {
            rig.reads(line).then_some(())
        });
    }

    /// Whether that stands on the glass.
    pub fn reads(&mut self, line: &str) -> bool {
        self.glass().is_some_and(|glass| reads(&glass, line))
    }

    /// Asks until there is an answer. In vain, it says what the box says, if there is one.
    fn wait_for<T>(&mut self, what: &str, mut probe: impl FnMut(&mut Rig) -> Option<T>) -> T {
        patiently(|| probe(self)).unwrap_or_else(|| {
            match self.try_get("operator", "/api/v1/status") {
                Ok((_, status)) => {
                    let status = String::from_utf8_lossy(&status);
                    panic!("waited in vain for {what}; the box says {status}")
                }
                Err(why) => panic!("waited in vain for {what}; {why}"),
            }
        })
    }

    /// All of the last broadcast, which has ended.
    pub fn published(&mut self) -> Published {
        Published::fetch(self)
    }

    /// For how long the machine could not run because this one was busy with something else: seconds since it was switched on, of the
    /// processes that are there. What took longer than this explains was the box's own doing.
    pub fn starved(&self) -> f64 {
        let group = self.kernel.id();
        let entries = fs::read_dir("/proc").expect("Linux").flatten();
        let tasks = entries
            .filter(|entry| {
                // pid (comm) state ppid pgrp …, and a command may have brackets of its own.
                let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
                let fields = stat.rsplit_once(") ").map(|(_, fields)| fields);
                let field = fields.and_then(|fields| fields.split(' ').nth(2)?.parse().ok());
                field == Some(group)
            })
            .flat_map(|entry| {
                fs::read_dir(entry.path().join("task"))
                    .into_iter()
                    .flatten()
            });
        // Time on a processor, time of waiting for one, in nanoseconds (Documentation/scheduler/sched-stats.rst).
        let waited = tasks.flatten().filter_map(|task| {
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split(' ').nth(1)?.parse::<f64>().ok()
        });
        waited.sum::<f64>() / 1e9
    }

    /// Runs a program in the machine.
    pub fn run(&mut self, program: &str, arguments: &[&str]) -> String {
        let request = Request::Run {
            program: program.into(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        };
        match self.ask(&request) {
            Reply::Ran { output, .. } => output,
            reply => panic!("{reply:?}"),
        }
    }

    /// Runs `podium` with arguments of the test's own, to its end.
    pub fn podium(&mut self, arguments: &[&str]) -> String {
        let podium = program("podium").display().to_string();
        self.run(&podium, arguments)
    }

    /// Runs a shell's script, in which `"$@"` is `podium` with these arguments.
    pub fn shell(&mut self, script: &str, arguments: &[&str]) -> String {
        let podium = program("podium").display().to_string();
        self.run("sh", &[&["-c", script, "sh", &podium], arguments].concat())
    }

    /// Starts the box with the `linux` board wired to this machine, and `toml` on top. Returns when it is ready.
    pub fn start(&mut self, toml: &str) {
        self.start_with("", toml);
    }

    /// Writes a configuration with the `linux` board wired to this machine, with more keys for `[board]` and `toml` on top, and returns
    /// its path in the machine.
    pub fn configure(&mut self, board: &str, toml: &str) -> String {
        let bus = self.bus_device();
        let oled = self.oled.name();
        self.pressed_is_high = board.contains("buttons_active = \"high\"");
        let kind = if board.contains("kind = ") {
            ""
        } else {
            "kind = \"linux\"\n"
        };
        let config = format!(
            "name = \"Rig\"\ndata_dir = \"{DISK}/podium\"\n\
             [board]\ni2c_bus = \"{bus}\"\ni2c_address = {ADDRESS}\n\
             go_live_line = {GO_LIVE}\npage_line = {PAGE}\ntally_line = {LAMP}\ndisplay = \"{oled}\"\n{kind}{board}\n\
             [viewer]\nlisten = \"127.0.0.1:8080\"\n[operator]\nlisten = \"127.0.0.1:8081\"\n\
             [node]\nmdns = false\nlisten = [\"/ip4/127.0.0.1/tcp/4001\"]\n{toml}\n"
        );
        fs::write(self.scratch.path().join("podium.toml"), config).expect("it can be written");
        format!("{SCRATCH}/podium.toml")
    }

    /// The same, with more keys for `[board]`.
    pub fn start_with(&mut self, board: &str, toml: &str) {
        let config = self.configure(board, toml);
        self.ask(&Request::Start {
            program: program("podium").display().to_string(),
            arguments: ["run", "--plain", "--config", &config]
                .map(String::from)
                .to_vec(),
        });
        self.ready = wait_for("the box to be ready", || match self.ask(&Request::Ready) {
            Reply::Ready(Some(line)) => serde_json::from_str(&line).ok(),
            _ => match self.ask(&Request::Ended) {
                Reply::Ended(code) => panic!("the box ended with {code:?}\n{}", self.log()),
                _ => None,
            },
        });
    }

    /// The bridge's bus, when its driver has started.
    fn bus_device(&mut self) -> String {
        wait_for("the I2C bus", || {
            let buses = self.run("ls", &["/sys/bus/i2c/devices"]);
            let bus = buses
                .split_whitespace()
                .find(|name| name.starts_with("i2c-"))?;
            Some(format!("/dev/{bus}"))
        })
    }

    /// Sends the box a signal: `STOP` freezes all of it.
    pub fn signal_box(&mut self, signal: Signal) {
        self.ask(&Request::Kill {
            signal: signal.as_raw(),
        });
    }

    /// Waits until the watchdog bites and the machine has started anew: its disk is as a reset leaves it, nothing is plugged in, and
    /// the box does not run. A test that does not wait for a bite fails where there is one.
    pub fn wait_for_bite(&mut self) {
        assert!(matches!(self.reply(), Reply::Up), "the machine is up again");
        let log = fs::read(self.scratch.path().join("kernel.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        assert!(log.contains(BITE), "started anew for another reason\n{log}");
    }

    /// Ends the box as systemd does, and returns its exit status.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal_box(Signal::TERM);
        wait_for("the box to end", || match self.ask(&Request::Ended) {
            Reply::Ended(code) => Some(code),
            _ => None,
        })
    }

    /// A page of the box: status and body. `listener` is `viewer` or `operator`.
    pub fn get(&mut self, listener: &str, path: &str) -> (u16, Vec<u8>) {
        self.try_get(listener, path)
            .unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    fn try_get(&mut self, listener: &str, path: &str) -> Result<(u16, Vec<u8>), String> {
        let base = self.ready[listener].as_str().ok_or("no box is ready")?;
        let url = format!("{base}{path}");
        match self.try_ask(&Request::Get { url }) {
            Reply::Got { status, file } => {
                let path = self.scratch.path().join(file);
                let body = fs::read(&path).expect("the guest has written it");
                let _ = fs::remove_file(path);
                Ok((status, body))
            }
            reply => Err(format!("{reply:?}")),
        }
    }

    /// The picture that the box has drawn, as [`glass`](Self::glass) gives it; by the operator's page, not by the display's bus.
    pub fn drawn(&mut self) -> Vec<String> {
        let (status, png) = self.get("operator", "/api/v1/panel.png");
        assert_eq!(status, 200);
        let mut reader = png::Decoder::new(std::io::Cursor::new(png))
            .read_info()
            .expect("a PNG");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a small picture")];
        let info = reader.next_frame(&mut pixels).expect("a PNG");
        assert_eq!(info.bit_depth, png::BitDepth::One, "dark and lit");
        let scale = info.width / WIDTH;
        let lit = |x: u32, y: u32| {
            let (x, y) = ((x * scale) as usize, (y * scale) as usize);
            pixels[y * info.line_size + x / 8] & 0x80 >> (x % 8) != 0
        };
        let row = |y| {
            (0..WIDTH)
                .map(|x| if lit(x, y) { '#' } else { '.' })
                .collect()
        };
        (0..HEIGHT).map(row).collect()
    }

    pub fn status(&mut self) -> Value {
        let (_, body) = self.get("operator", "/api/v1/status");
        serde_json::from_slice(&body).expect("the status is JSON")
    }

    /// Waits until something is true of the status, and returns it.
    pub fn wait_for_status(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        self.wait_for(what, |rig| Some(rig.status()).filter(|status| is(status)))
    }

    pub fn wait_for_state(&mut self, word: &str) {
        self.wait_for_status(&format!("state {word}"), |status| {
            status["state"]["word"] == word
        });
    }

    pub fn wait_for_signal(&mut self, word: &str) {
        self.wait_for_status(&format!("signal {word}"), |status| {
            status["input"]["signal"] == word
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what the box said")]
            {
                eprintln!(
                    "--- the kernel ---\n{}\n--- the box ---\n{}",
                    self.file("kernel.log"),
                    self.log()
                );
            }
        }
    }
}
