//! Programs that ask a device which may hang, and a child that hangs with it.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

/// A device takes some milliseconds an answer; a bus that hangs takes seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Status of a child that could not become the program (POSIX, `posix_spawn`).
const NOT_FOUND: i32 = 127;

/// What a program said.
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) output: Vec<u8>,
}

impl Said {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// Says once that a program is not installed, and what needs it.
pub(crate) struct Missing {
    text: &'static str,
    said: Once,
}

impl Missing {
    pub(crate) const fn new(text: &'static str) -> Missing {
        Missing {
            text,
            said: Once::new(),
        }
    }
}

/// Programs that were ended and are still there, by the device: in the kernel's hands they die when it lets go of them.
static HANGING: Mutex<BTreeMap<String, Child>> = Mutex::new(BTreeMap::new());

/// Whether one hangs with this device. A device that hangs for hours must not fill the machine with them.
fn hangs(device: &str) -> bool {
    let mut hanging = HANGING.lock().unwrap_or_else(PoisonError::into_inner);
    let child = hanging.get_mut(device);
    let hangs = child.is_some_and(|child| matches!(child.try_wait(), Ok(None)));
    if !hangs {
        hanging.remove(device);
    }
    hangs
}

/// Runs a program that asks `device` and says little, in English; `None` where it is not installed, or did not come back within two
/// seconds, also the last time.
pub(crate) fn run(
    device: &str,
    mut command: Command,
    input: &[u8],
    missing: &'static Missing,
) -> Option<Said> {
    if hangs(device) {
        return None;
    }
    let child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match child.and_then(|child| finish(device, child, input)) {
        Ok(said) => Some(said),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            missing
                .said
                .call_once(|| tracing::warn!("{}", missing.text));
            None
        }
        Err(error) => {
            tracing::debug!(device, ?command, %error, "a program");
            None
        }
    }
}

/// All output of a program that says little, within [`PATIENCE`].
fn finish(device: &str, mut child: Child, input: &[u8]) -> io::Result<Said> {
    // All of it fits into a pipe: an EDID has 256 bytes. One that reads nothing has ended by itself.
    let given = child.stdin.take().map(|mut stdin| stdin.write_all(input));
    let until = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
            let mut hanging = HANGING.lock().unwrap_or_else(PoisonError::into_inner);
            hanging.insert(device.into(), child);
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // `posix_spawn` on an emulated processor, and a shell between, say only so that there is no such program.
    if status.code() == Some(NOT_FOUND) {
        return Err(io::ErrorKind::NotFound.into());
    }
    given.transpose()?;
    let mut output = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_end(&mut output)?;
    }
    Ok(Said {
        success: status.success(),
        output,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static MISSING: Missing = Missing::new("no such program");

    #[test]
    fn a_device_that_hangs_holds_one_process() {
        let device = "/dev/hangs";
        let sleep = || {
            let mut sleep = Command::new("sleep");
            sleep.arg("1000");
            sleep
        };
        // A sleep dies of being ended; what the kernel holds is like one that nobody has ended.
        assert!(run(device, sleep(), b"", &MISSING).is_none());
        HANGING
            .lock()
            .unwrap()
            .entry(device.into())
            .and_modify(|it| {
                it.wait().expect("it was ended");
                *it = sleep().spawn().unwrap();
            });
        assert!(hangs(device));
        assert!(run(device, Command::new("true"), b"", &MISSING).is_none());
        let mut hanging = HANGING.lock().unwrap();
        let child = hanging.get_mut(device).expect("the same one");
        child.kill().unwrap();
        child.wait().unwrap();
        drop(hanging);
        assert!(!hangs(device));
        assert!(!HANGING.lock().unwrap().contains_key(device));
        assert!(run(device, Command::new("true"), b"", &MISSING).is_some_and(|said| said.success));
    }

    #[test]
    fn a_program_that_is_not_installed_says_nothing() {
        let command = Command::new("podium-has-no-such-program");
        assert!(run("nothing", command, b"", &MISSING).is_none());
        assert!(MISSING.said.is_completed());
    }
}
