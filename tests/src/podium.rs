//! One box: a process of the real binary on free ports, with its own data directory.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use m3u8_rs::MediaPlaylist;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{PATIENCE, hls, http, wait_for};

/// The speed of the encoder is told, too: a box that is new measures how fast it may be.
const SMALL: &str =
    "[video]\nwidth = 640\nheight = 360\nbitrate_kbps = 800\nx264_preset = \"ultrafast\"\n";

/// What a test wants to be different from the simulated box on free ports.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// More TOML, appended.
    pub extra: String,
    /// `[capture]` keys.
    pub capture: String,
    /// `[viewer]` keys.
    pub viewer: String,
    /// Whether it looks for its neighbours: in tests they are many, and strangers.
    pub mdns: bool,
    /// Whether its test picture is as large as a box makes it. A small one leaves the processor to the test.
    pub large: bool,
    /// Where viewers and peers reach it. Default 127.0.0.1; the operator always comes from there.
    pub address: Option<Ipv4Addr>,
    /// Added to the process's environment.
    pub environment: Vec<(&'static str, PathBuf)>,
}

/// How a box ended.
#[derive(Debug)]
pub struct Exit {
    /// Exit status; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stderr: String,
}

/// A running box. Dropping it kills it.
#[derive(Debug)]
pub struct Podium {
    child: Child,
    /// What it printed when it was ready.
    pub ready: Value,
    pub viewer: String,
    pub operator: String,
    log: PathBuf,
}

impl Drop for Podium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        show_log("box", &self.log);
        if std::thread::panicking() && !self.ready["disk_fault"].is_null() {
            // It would stay in memory.
            let _ = std::fs::remove_dir_all(self.ready["data_dir"].as_str().unwrap_or_default());
        }
    }
}

/// The binary that `make build` has made, beside the tests' own.
pub(crate) fn binary() -> PathBuf {
    let tests = std::env::current_exe().expect("a test is a program");
    let path = tests
        .ancestors()
        .map(|dir| dir.join("podium"))
        .find(|path| path.is_file());
    path.expect("podium is not built: run `make build`")
}

/// Writes the key of a private swarm into `dir`; the `[node]` key that names it.
pub fn private_swarm(dir: &Path, digits: &str) -> String {
    let path = dir.join("swarm.key");
    let text = format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", digits.repeat(32));
    std::fs::write(&path, text).expect("the key can be written");
    format!("swarm_key = \"{}\"\n", path.display())
}

impl Config {
    /// With the test picture that a box has: what is measured.
    pub fn large() -> Config {
        Config {
            large: true,
            ..Config::default()
        }
    }

    /// A recording as the source.
    pub fn file(path: &Path) -> Config {
        Config {
            capture: format!("source = \"file\"\nfile = \"{}\"\n", path.display()),
            ..Config::default()
        }
    }

    fn write(&self, dir: &Path) -> PathBuf {
        let data = dir.join("data");
        let path = dir.join("podium.toml");
        let address = self.address.unwrap_or(Ipv4Addr::LOCALHOST);
        // A private swarm has none.
        let quic = match self.extra.contains("swarm_key") {
            true => String::new(),
            false => format!("\"/ip4/{address}/udp/0/quic-v1\", "),
        };
        let as_it_comes = self.large || self.extra.contains("[video]") || !self.capture.is_empty();
        let video = if as_it_comes { "" } else { SMALL };
        let text = format!(
            "name = \"Whole-box test\"\ndata_dir = \"{}\"\n\
             [capture]\n{}\n\
             [viewer]\nlisten = \"{address}:0\"\n{}\n\
             [operator]\nlisten = \"127.0.0.1:0\"\n\
             [node]\nmdns = {}\nlisten = [\"/ip4/{address}/tcp/0\", {quic}\"/ip4/{address}/tcp/0/ws\"]\n\
             {}\n{video}",
            data.display(),
            self.capture,
            self.viewer,
            self.mdns,
            self.extra
        );
        std::fs::write(&path, text).expect("the config can be written");
        path
    }
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(binary());
    command
        .args(["run", "--plain", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        // A panic must be seen by the tests as people would see it.
        .env("RUST_BACKTRACE", "0");
    command
}

/// What a command said that does not go on running.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command of the binary to its end.
pub fn podium(arguments: &[&str]) -> Output {
    let output = Command::new(binary())
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let output = output.expect("podium can be run");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Podium {
    /// Starts a box with its data in `dir` and waits until it is ready.
    pub fn start(dir: &Path, config: &Config) -> Podium {
        let log = dir.join("podium.log");
        let stderr = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be written");
        let mut child = command(&config.write(dir))
            .envs(config.environment.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("podium starts");
        let ready = ready(&mut child, &log);
        let address = |key: &str| ready[key].as_str().expect("an address").to_owned();
        Podium {
            viewer: address("viewer"),
            operator: address("operator"),
            child,
            ready,
            log,
        }
    }

    /// Runs a box that is expected to refuse.
    pub fn refuse(dir: &Path, config: &Config) -> Exit {
        Podium::refuse_with(dir, &config.write(dir), &[])
    }

    /// The same with a config file and environment of the test's own.
    pub fn refuse_with(dir: &Path, config: &Path, environment: &[(&str, &str)]) -> Exit {
        let log = std::fs::File::create(dir.join("refused.log")).expect("the log can be written");
        let mut child = command(config)
            .envs(environment.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("podium starts");
        let code = exit_code(&mut child);
        let mut stderr = String::new();
        let log = std::fs::File::open(dir.join("refused.log"));
        log.and_then(|mut log| log.read_to_string(&mut stderr))
            .expect("the log can be read");
        Exit { code, stderr }
    }

    pub fn status(&self) -> Value {
        http::get(&format!("{}/api/v1/status", self.operator)).json()
    }

    pub fn state(&self) -> String {
        self.status()["state"]["word"]
            .as_str()
            .expect("a state")
            .to_owned()
    }

    /// The channel's name, `k51…`.
    pub fn name(&self) -> String {
        self.ready["ipns"].as_str().expect("a name").to_owned()
    }

    /// The first address of its node that has this in it (`/tcp/`, `/quic-v1/`, `/ws/`); a WebSocket's for `/ws/` alone.
    pub fn address(&self, transport: &str) -> String {
        let listen = self.ready["listen"].as_array().expect("addresses");
        let mut addresses = listen.iter().filter_map(Value::as_str);
        let found = addresses.find(|address| {
            address.contains(transport) && address.contains("/ws") == transport.contains("/ws")
        });
        found.expect("an address of this kind").to_owned()
    }

    /// `/ipfs/<root>`: what it says that its name means now.
    pub fn root(&self) -> String {
        format!("/ipfs/{}", self.cid())
    }

    /// That root's CID.
    pub fn cid(&self) -> String {
        let root = &self.status()["node"]["root"];
        root.as_str().expect("a root").to_owned()
    }

    /// The VOD playlist of a rendition of the newest broadcast, and its address.
    pub fn vod(&self, rendition: &str) -> (String, MediaPlaylist) {
        let url = format!("{}{}/{rendition}/vod.m3u8", self.viewer, self.root());
        let playlist = hls::media_playlist(&http::get(&url).body);
        (url, playlist)
    }

    pub fn wait_for_state(&self, word: &str) {
        wait_for(&format!("state {word}"), || {
            (self.state() == word).then_some(())
        });
    }

    pub fn wait_for_segments(&self, count: u64) {
        wait_for(&format!("{count} segments"), || {
            (self.status()["segments"].as_u64()? >= count).then_some(())
        });
    }

    /// Presses or releases a button on the operator's page.
    pub fn button(&self, button: &str, action: &str) {
        let answer = http::post(
            &format!("{}/api/v1/button", self.operator),
            &[],
            &json!({ "button": button, "action": action }),
        );
        assert_eq!(answer.status, 202);
    }

    /// A finger's tap.
    pub fn tap(&self, button: &str) {
        self.button(button, "press");
        std::thread::sleep(Duration::from_millis(100));
        self.button(button, "release");
    }

    /// Holds a button, as the page does, until the box is no longer in the state it is in.
    pub fn hold_until_it_works(&self, button: &str) {
        let before = self.state();
        wait_for(&format!("the end of {before}"), || {
            self.button(button, "press");
            (self.state() != before).then_some(())
        });
        self.button(button, "release");
    }

    /// GO LIVE, and the wait for the first segment.
    pub fn go_live(&self) {
        self.tap("go_live");
        self.wait_for_state("live");
    }

    /// Ends the broadcast, and waits until it is closed.
    pub fn stop(&self) {
        let stop = format!("{}/api/v1/stop", self.operator);
        assert_eq!(http::post(&stop, &[], &Value::Null).status, 202);
        self.wait_for_state("idle");
    }

    /// The signed record of its name, once there is one.
    pub fn record(&self) -> Option<Vec<u8>> {
        http::record(&self.viewer, &self.name())
    }

    /// A file of the HTTP origin.
    pub fn live(&self, name: &str) -> http::Answer {
        http::get(&format!("{}/live/{name}", self.viewer))
    }

    /// Of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the box runs");
    }

    /// Waits for its end.
    pub fn join(mut self) -> Exit {
        let code = exit_code(&mut self.child);
        let stderr = std::fs::read_to_string(&self.log).unwrap_or_default();
        Exit { code, stderr }
    }
}

/// The line that a process prints when it is ready.
pub(crate) fn ready(child: &mut Child, log: &Path) -> Value {
    let (sender, line) = mpsc::channel();
    let stdout = child.stdout.take().expect("standard output is a pipe");
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = line.recv_timeout(PATIENCE).unwrap_or_default();
    serde_json::from_str(&line).unwrap_or_else(|_| {
        let log = std::fs::read_to_string(log).unwrap_or_default();
        panic!("it is not ready; it printed {line:?} and logged\n{log}")
    })
}

/// Shows a failed test what a process said last.
pub(crate) fn show_log(whose: &str, log: &Path) {
    if std::thread::panicking()
        && let Ok(log) = std::fs::read_to_string(log)
    {
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        #[expect(clippy::print_stderr, reason = "a failed test shows what was said")]
        {
            eprintln!("--- the {whose}'s log, its last lines ---\n{tail}");
        }
    }
}

fn exit_code(child: &mut Child) -> Option<i32> {
    wait_for("the box to end", || child.try_wait().expect("a child")).code()
}
