//! A mirror: a process of the real binary that follows a box.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{http, podium, wait_for};

/// A running mirror. Dropping it kills it.
#[derive(Debug)]
pub struct Mirror {
    child: Child,
    pub ready: Value,
    pub viewer: String,
    pub operator: String,
    log: PathBuf,
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        podium::show_log("mirror", &self.log);
    }
}

impl Mirror {
    /// Starts a mirror of `name` with its data in `dir` and waits until it is ready.
    pub fn start(dir: &Path, name: &str, arguments: &[&str]) -> Mirror {
        Mirror::start_at(Ipv4Addr::LOCALHOST, dir, name, arguments)
    }

    /// The same with more TOML.
    pub fn start_with(toml: &str, dir: &Path, name: &str, arguments: &[&str]) -> Mirror {
        Mirror::spawn(Ipv4Addr::LOCALHOST, toml, dir, name, arguments)
    }

    /// The same where viewers and peers reach it at `address`.
    pub fn start_at(address: Ipv4Addr, dir: &Path, name: &str, arguments: &[&str]) -> Mirror {
        Mirror::spawn(address, "", dir, name, arguments)
    }

    /// All of it.
    pub fn spawn(
        address: Ipv4Addr,
        toml: &str,
        dir: &Path,
        name: &str,
        arguments: &[&str],
    ) -> Mirror {
        std::fs::create_dir_all(dir).expect("the directory can be made");
        let config = dir.join("mirror.toml");
        let alone = if toml.contains("mdns") {
            ""
        } else {
            "mdns = false\n"
        };
        std::fs::write(&config, format!("[node]\n{alone}{toml}"))
            .expect("the config can be written");
        let log = dir.join("mirror.log");
        let stderr = (std::fs::OpenOptions::new().create(true).append(true))
            .open(&log)
            .expect("the log can be written");
        // A private swarm has none.
        let quic = (!toml.contains("swarm_key")).then(|| format!("/ip4/{address}/udp/0/quic-v1"));
        let mut child = Command::new(podium::binary())
            .args(["mirror", name, "--operator", "127.0.0.1:0"])
            .args(["--viewer", &format!("{address}:0")])
            .args(["--listen", &format!("/ip4/{address}/tcp/0")])
            .args(quic.iter().flat_map(|at| ["--listen", at.as_str()]))
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(dir.join("data"))
            .args(arguments)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("podium starts");
        let ready = podium::ready(&mut child, &log);
        let address = |key: &str| ready[key].as_str().expect("an address").to_owned();
        Mirror {
            viewer: address("viewer"),
            operator: address("operator"),
            child,
            ready,
            log,
        }
    }

    pub fn status(&self) -> Value {
        http::get(&format!("{}/api/v1/status", self.operator)).json()
    }

    /// `/api/v1/public`, as viewers get it.
    pub fn public(&self) -> Value {
        http::get(&format!("{}/api/v1/public", self.viewer)).json()
    }

    /// Waits until it says that the box is gone, or that it is there.
    pub fn wait_for_gone(&self, gone: bool) {
        wait_for(&format!("gone = {gone} of the mirror"), || {
            (self.public()["mirror"]["gone"] == gone).then_some(())
        });
    }

    pub fn get(&self, path: &str) -> http::Answer {
        http::get(&format!("{}{path}", self.viewer))
    }

    /// Waits until it serves the video up to this segment, at the least.
    pub fn wait_for_segment(&self, number: u64) {
        wait_for(&format!("segment {number} on the mirror"), || {
            (self.status()["last_segment"].as_u64()? >= number).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the mirror runs");
    }

    /// Waits for its end; the exit status, `None` if a signal ended it.
    pub fn join(mut self) -> Option<i32> {
        wait_for("the mirror to end", || {
            self.child.try_wait().expect("a child")
        })
        .code()
    }
}
