//! The machine's watchdog: it resets the machine that does not feed it (Linux, `watchdog-api`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::Faults;
use crate::keeper::{Device, Keeper};

/// Between two meals: watchdogs bite after ten seconds at the earliest.
const MEAL: Duration = Duration::from_secs(1);

/// Ends the watch ("magic close"), unless the kernel was built never to.
const MAGIC: &[u8] = b"V";

/// Handle of the watchdog. From the first meal on, only dropping it ends the watch: a process that dies does not.
#[derive(Debug)]
pub struct Watchdog {
    keeper: Keeper<u64>,
    meals: u64,
    last: Option<Instant>,
}

impl Watchdog {
    /// Watches from the first meal on.
    ///
    /// # Errors
    /// A thread cannot be started. A device that is missing is a fault, and looked for.
    pub fn start(path: &Path, faults: &Faults) -> io::Result<Watchdog> {
        let path = path.to_owned();
        let keeper = Keeper::spawn("watchdog", faults, move || Dog::open(&path))?;
        Ok(Watchdog {
            keeper,
            meals: 0,
            last: None,
        })
    }

    /// Feeds it, as often as it needs. Returns at once.
    pub fn feed(&mut self, now: Instant) {
        if self
            .last
            .is_none_or(|last| now.duration_since(last) >= MEAL)
        {
            self.last = Some(now);
            self.meals += 1;
            self.keeper.want(&self.meals);
        }
    }
}

struct Dog(File);

impl Dog {
    fn open(path: &Path) -> io::Result<Dog> {
        let file = File::options().append(true).open(path).map_err(|error| {
            io::Error::other(format!(
                "no watchdog {}: {error}; is systemd using it? set [board] watchdog",
                path.display()
            ))
        })?;
        Ok(Dog(file))
    }
}

impl Device<u64> for Dog {
    fn apply(&mut self, _: &u64) -> io::Result<()> {
        self.0.write_all(b"\n")
    }

    fn rest(&mut self) -> io::Result<()> {
        self.0.write_all(MAGIC)
    }
}

/// What the kernel says of a watchdog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    pub identity: String,
    /// After so long without a meal it bites.
    pub timeout: Duration,
    /// It cannot be ended: the machine restarts although the box was stopped properly.
    pub nowayout: bool,
    /// Somebody has it.
    pub active: bool,
}

/// The watchdogs of this machine. `root` is `/` but for tests.
pub fn list(root: &Path) -> Vec<(PathBuf, About)> {
    let read = fs::read_dir(root.join("sys/class/watchdog"));
    let mut found: Vec<_> = (read.into_iter().flatten().flatten())
        .filter_map(|entry| {
            let attribute = |name: &str| {
                let text = fs::read_to_string(entry.path().join(name)).ok()?;
                Some(text.trim().to_owned())
            };
            let about = About {
                identity: attribute("identity")?,
                timeout: Duration::from_secs(attribute("timeout")?.parse().ok()?),
                nowayout: attribute("nowayout").as_deref() == Some("1"),
                active: attribute("state").as_deref() == Some("active"),
            };
            Some((Path::new("/dev").join(entry.file_name()), about))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(what: impl Fn() -> bool) {
        while !what() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn it_is_fed_at_its_pace_and_put_to_sleep_at_the_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let eaten = || fs::read(file.path()).unwrap();
        let faults = Faults::default();
        let mut dog = Watchdog::start(file.path(), &faults).unwrap();
        // Nobody asked to be watched yet.
        let begun = Instant::now();
        for ms in [0, 100, 900, 999] {
            dog.feed(begun + Duration::from_millis(ms));
        }
        wait_for(|| eaten() == b"\n");
        dog.feed(begun + Duration::from_millis(1000));
        wait_for(|| eaten() == b"\n\n");
        drop(dog);
        assert_eq!(eaten(), b"\n\nV");
        assert_eq!(faults.list(), [""; 0]);
    }

    #[test]
    fn one_that_is_missing_is_a_fault_and_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog");
        let faults = Faults::default();
        let mut dog = Watchdog::start(&path, &faults).unwrap();
        dog.feed(Instant::now());
        wait_for(|| !faults.list().is_empty());
        assert!(faults.list()[0].starts_with("no watchdog"));
        File::create(&path).unwrap();
        wait_for(|| faults.list().is_empty());
        assert_eq!(fs::read(&path).unwrap(), b"\n");
    }

    #[test]
    fn what_the_kernel_says_is_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in [
            ("identity", "Broadcom BCM2835 Watchdog timer\n"),
            ("timeout", "15\n"),
            ("nowayout", "0\n"),
            ("state", "active\n"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        let about = About {
            identity: "Broadcom BCM2835 Watchdog timer".into(),
            timeout: Duration::from_secs(15),
            nowayout: false,
            active: true,
        };
        assert_eq!(list(root.path()), [("/dev/watchdog0".into(), about)]);
        assert_eq!(list(&dir), []);
    }
}
