//! Starts the real `podium` binary and asks parties that nobody here wrote what they think of it.
//!
//! Nothing here depends on how fast the machine is: tests wait for events, and the deadlines are only there so that a
//! test that waits for what never comes ends with a reason. The oracle alone judges by the clock, and forgives a busy machine
//! as much as [`judge::oracle`] says.

pub mod dag;
pub mod disk;
pub mod follow;
pub mod follower;
pub mod foreign;
pub mod heap;
pub mod hls;
pub mod http;
pub mod judge;
pub mod kubo;
mod mirror;
pub mod network;
mod podium;
pub mod proc;
mod process;
pub mod recording;
pub mod relay;

pub use mirror::Mirror;
pub use podium::{Config, Exit, Output, Podium, podium, private_swarm};
pub use process::Process;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// No healthy box takes this long for anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the repository")
        .to_owned()
}

/// Where screenshots and other build products go, made on demand.
pub fn artifact(name: &str) -> PathBuf {
    let dir = root().join("tests/artifacts");
    std::fs::create_dir_all(&dir).expect("tests/artifacts can be made");
    dir.join(name)
}

/// A directory for what shall be written to a disk: /tmp may be memory, and what the tests were built on is not.
pub fn on_disk() -> tempfile::TempDir {
    let program = std::env::current_exe().expect("a test is a program");
    let dir = program.parent().expect("it is in a directory");
    tempfile::tempdir_in(dir).expect("a temporary directory")
}

/// Says loudly that a test is skipped where what it needs was not found; returns whether it was.
///
/// # Panics
/// Where nothing may be skipped (`PODIUM_NO_SKIP`).
pub fn needs(found: bool, missing: &str) -> bool {
    assert!(
        found || std::env::var_os("PODIUM_NO_SKIP").is_none(),
        "{missing}"
    );
    if !found {
        aloud(&format!("SKIPPED: {missing}"));
    }
    found
}

/// Says something for people to read, past the harness: it keeps what a test prints to itself where the test passes.
pub fn aloud(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asks `probe` until it has an answer.
///
/// # Panics
/// After [`PATIENCE`], with `what`.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    patiently(probe).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

/// Asks `probe` until it has an answer; `None` after [`PATIENCE`].
pub fn patiently<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        let found = probe();
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
