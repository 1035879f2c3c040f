//! The terminal view on a real pseudoterminal, made by script(1): it shows the box, takes keys, and gives the terminal back.

use std::{
    env,
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Nothing here takes a second; this is for a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The example `panel` in a terminal of 90 by 28.
struct Session {
    script: Child,
    keys: Option<ChildStdin>,
    output: mpsc::Receiver<Vec<u8>>,
    seen: String,
}

impl Session {
    fn start() -> Session {
        // Tests run in target/<profile>/deps, and cargo builds the examples of the package before its tests.
        let exe = env::current_exe().unwrap();
        let panel: PathBuf = exe.ancestors().nth(2).unwrap().join("examples/panel");
        assert!(
            panel.exists(),
            "{} is built by `cargo test -p board`",
            panel.display()
        );
        let mut script = Command::new("script")
            .args(["-q", "-e", "-c"])
            .arg(format!(
                "stty rows 28 cols 90; '{}'; echo back to the shell",
                panel.display()
            ))
            .arg("/dev/null")
            .env("TERM", "xterm-256color")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1) is there: package bsdutils, essential in Debian");
        let (tx, output) = mpsc::channel();
        let mut stdout = script.stdout.take().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if tx.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Session {
            keys: script.stdin.take(),
            script,
            output,
            seen: String::new(),
        }
    }

    /// Waits until a text has been written after what was waited for before, and returns what came between.
    #[track_caller]
    fn wait_for(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        while !self.seen.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!("{text:?} does not come: {error}"),
            }
        }
        let at = self.seen.find(text).unwrap_or_default();
        let rest = self.seen.split_off(at + text.len());
        std::mem::replace(&mut self.seen, rest)
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.as_mut().unwrap().write_all(keys).unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Its terminal closes with it, and a hangup ends what is left.
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn it_takes_keys_and_gives_the_terminal_back() {
    let mut session = Session::start();
    session.wait_for("\u{1b}[?1049h");
    session.wait_for("Podium");
    session.press(b"g");
    session.wait_for("Tap(GoLive)");
    session.press(b"p");
    session.wait_for("Tap(Page)");
    // An arrow key and F1, whose last letters are keys of ours.
    session.press(b"\x1b[P");
    session.press(b"G");
    assert!(
        !session.wait_for("HoldStarted(GoLive)").contains("Tap"),
        "part of F1 was taken for PAGE"
    );
    session.wait_for("Hold(GoLive)");
    session.press(b"q");
    session.wait_for("\u{1b}[?1049l");
    session.wait_for("\u{1b}[?25h");
    session.wait_for("back to the shell");
    assert!(session.script.wait().unwrap().success());
}

#[test]
fn ctrl_c_asks_to_quit() {
    let mut session = Session::start();
    session.wait_for("Podium");
    session.press(b"\x03");
    session.wait_for("\u{1b}[?1049l");
    session.wait_for("back to the shell");
}
