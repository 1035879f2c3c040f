//! A program that is not ours.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

/// A process and all that it starts. Dropping it kills them.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Also where it has ended: what it has started may go on. Before it is waited for, so that the number is still its own.
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts it without an input, as the leader of a process group.
    ///
    /// # Panics
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> Process {
        let started = command.process_group(0).stdin(Stdio::null()).spawn();
        Process(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.0.wait().expect("a child")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{proc, wait_for};

    #[test]
    fn what_a_process_has_started_ends_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let shell = Process::start(Command::new("sh").args(["-c", &script]));
        let started = wait_for("the number of what it has started", || {
            std::fs::read_to_string(&file).ok()?.trim().parse().ok()
        });
        assert!(proc::memory(started) > 0);
        drop(shell);
        wait_for("its end", || (proc::memory(started) == 0).then_some(()));
    }
}
