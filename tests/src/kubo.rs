//! Kubo, as its users run it: a repository, `ipfs daemon`, and the command line.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::json;

use crate::{PATIENCE, Process, http, needs, root, wait_for};

/// A repository of Kubo, with a daemon if one has been started. Dropping it ends the daemon.
#[derive(Debug)]
pub struct Kubo {
    program: PathBuf,
    repo: PathBuf,
    daemon: Option<Child>,
}

impl Drop for Kubo {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Kubo {
    /// A new repository: only this machine, free ports, no bootstrap nodes. `None` where there is no Go to build Kubo with,
    /// which the test says loudly.
    ///
    /// # Panics
    /// Where nothing may be skipped (`PODIUM_NO_SKIP`), and where Kubo does not do as it is told.
    pub fn new(repo: PathBuf) -> Option<Kubo> {
        let setup = Command::new(root().join("tests/setup/kubo"))
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/setup/kubo can be run");
        let go = setup.status.code() != Some(3);
        if !needs(
            go,
            "there is no Go to build Kubo with, or none as new as tests/judges/kubo/go.mod says",
        ) {
            return None;
        }
        assert!(setup.status.success(), "Kubo cannot be built");
        let program = String::from_utf8(setup.stdout).expect("a path");
        let kubo = Kubo {
            program: program.trim().into(),
            repo,
            daemon: None,
        };
        kubo.run(&["init", "--profile=test"]);
        // With the test profile alone it still follows the network's recommended settings.
        kubo.configure("Routing", r#"{"Type": "none"}"#);
        Some(kubo)
    }

    /// One that follows names as the README tells it to: by PubSub, and with `peers` to stay connected with. It is started, and its
    /// gateway and its node are at `at`. `None` as [`Kubo::new`].
    pub fn following(repo: PathBuf, at: Ipv4Addr, peers: &[&str]) -> Option<Kubo> {
        let mut kubo = Kubo::new(repo)?;
        kubo.configure("Pubsub.Enabled", "true");
        kubo.configure("Ipns.UsePubsub", "true");
        kubo.configure("Addresses.Gateway", &format!("\"/ip4/{at}/tcp/0\""));
        let swarm = format!("[\"/ip4/{at}/tcp/0\", \"/ip4/{at}/udp/0/quic-v1\"]");
        kubo.configure("Addresses.Swarm", &swarm);
        kubo.start();
        for peer in peers {
            kubo.run(&["swarm", "peering", "add", peer]);
        }
        Some(kubo)
    }

    /// Sets a key of the configuration to JSON.
    pub fn configure(&self, key: &str, json: &str) {
        self.run(&["config", "--json", key, json]);
    }

    /// Starts the daemon and waits until it is ready.
    pub fn start(&mut self) {
        let mut daemon = self
            .command(&["daemon"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Kubo starts");
        let out = BufReader::new(daemon.stdout.take().expect("a pipe"));
        self.daemon = Some(daemon);
        let (sender, ready) = mpsc::channel();
        std::thread::spawn(move || {
            // To its end, so that the daemon never writes to a closed pipe.
            for line in out.lines().map_while(Result::ok) {
                if line.contains("Daemon is ready") {
                    let _ = sender.send(());
                }
            }
        });
        let ready = ready.recv_timeout(PATIENCE);
        ready.expect("Kubo's daemon becomes ready");
    }

    /// Ends the daemon.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
            // What a daemon that was killed leaves would be taken for a running one.
            let _ = std::fs::remove_file(self.repo.join("api"));
        }
    }

    /// Where another node dials the daemon over TCP, with its peer id.
    pub fn address(&self) -> String {
        let all = self.line(&["id", "--format=<addrs>"]);
        let tcp = all.lines().find(|it| it.contains("/tcp/"));
        tcp.expect("the daemon listens").trim().to_owned()
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Asks the daemon by its RPC API, as the command line does, without a process for each question.
    pub fn ask(&self, command: &str, arguments: &[(&str, &str)]) -> Result<Vec<u8>, String> {
        let query = arguments
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let query = query.collect::<Vec<_>>().join("&");
        let url = format!("{}/api/v0/{command}?{query}", self.api());
        let answer = http::request("POST", &url, &[]);
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(String::from_utf8_lossy(&answer.body).into_owned()),
        }
    }

    fn api(&self) -> String {
        let api = std::fs::read_to_string(self.repo.join("api")).expect("the daemon runs");
        // `/ip4/127.0.0.1/tcp/5001`
        let mut parts = api.trim().split('/').skip(2).step_by(2);
        let (host, port) = (parts.next().expect("a host"), parts.next().expect("a port"));
        format!("http://{host}:{port}")
    }

    /// Has the store of blocks counted from the daemon's start on, for [`Kubo::blocks_read`].
    pub fn count_blocks(&self) {
        let of = |mountpoint, prefix, child| json!({ "mountpoint": mountpoint, "type": "measure", "prefix": prefix, "child": child });
        let blocks = json!({ "type": "flatfs", "path": "blocks", "sync": false, "shardFunc": "/repo/flatfs/shard/v1/next-to-last/2" });
        let others = json!({ "type": "levelds", "path": "datastore", "compression": "none" });
        let mounts = [
            of("/blocks", "flatfs.datastore", blocks),
            of("/", "leveldb.datastore", others),
        ];
        let spec = json!({ "type": "mount", "mounts": mounts });
        self.configure("Datastore.Spec", &spec.to_string());
    }

    /// How many blocks the daemon has read from its store, or looked for there.
    pub fn blocks_read(&self) -> u64 {
        let metrics = http::get(&format!("{}/debug/metrics/prometheus", self.api())).text();
        let line = metrics
            .lines()
            .find_map(|it| it.strip_prefix("flatfs_datastore_get_total "));
        let count = line.expect("its store is counted").parse::<f64>();
        count.expect("a number") as u64
    }

    /// The gateway's address, `http://127.0.0.1:…`.
    pub fn gateway(&self) -> String {
        let address = std::fs::read_to_string(self.repo.join("gateway"));
        address.expect("the daemon runs").trim().to_owned()
    }

    /// Runs a command; standard output, or what it complained about.
    pub fn try_run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        let output = output.expect("Kubo can be run");
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs a command that must do.
    pub fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = self.try_run(arguments);
        output.unwrap_or_else(|error| panic!("ipfs {}: {error}", arguments.join(" ")))
    }

    /// The same for one line of text.
    pub fn line(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        String::from_utf8(output).expect("UTF-8").trim().to_owned()
    }

    /// Asks until the name means this path.
    pub fn wait_for_name(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("{name} in Kubo"), || {
            let name = format!("/ipns/{name}");
            let found = self.try_run(&["name", "resolve", "--nocache", "--timeout=5s", &name]);
            let found = String::from_utf8(found.ok()?).ok()?.trim().to_owned();
            wanted(&found).then_some(found)
        })
    }

    /// The program, for a script that runs it.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Such a script, with this repository.
    pub fn script(&self, script: &Path) -> Command {
        let mut command = Command::new(script);
        command.env("IPFS_PATH", &self.repo);
        command
    }

    /// Runs a script of a shell in which `ipfs` is this Kubo with this repository.
    pub fn shell(&self, script: &str, variables: &[(&str, &str)]) {
        let status = self.spawn_shell(script, variables).wait();
        assert!(status.success(), "{script}");
    }

    /// The same without waiting for its end.
    pub fn spawn_shell(&self, script: &str, variables: &[(&str, &str)]) -> Process {
        let programs = self.program.parent().expect("a program is in a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", script])
            .env("PATH", format!("{}:{path}", programs.display()))
            .env("IPFS_PATH", &self.repo)
            .envs(variables.iter().copied());
        Process::start(&mut shell)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("IPFS_PATH", &self.repo);
        if self.repo.join("swarm.key").exists() {
            // It would rather not start than be in the public swarm.
            command.env("LIBP2P_FORCE_PNET", "1");
        }
        command
    }
}

/// The path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is UTF-8")
}
