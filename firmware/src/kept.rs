//! A small file in the data directory that the loop keeps up to date without waiting for the disk.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the file says last, and who writes it. There is one writer, so that the last change is the one that stays.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    latest: watch::Sender<Option<T>>,
    writer: JoinHandle<()>,
}

impl<T: Serialize + Clone + Send + Sync + 'static> Kept<T> {
    /// `failure` is what people are told where the file cannot be written: what that means for them.
    pub(crate) fn at(path: PathBuf, failure: &'static str) -> Kept<T> {
        let (latest, mut changes) = watch::channel(None::<T>);
        let writer = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                let (value, path) = (changes.borrow_and_update().clone(), path.clone());
                let written = tokio::task::spawn_blocking(move || store(&path, value.as_ref()));
                if let Ok(Err(error)) = written.await {
                    tracing::error!(%error, "{failure}");
                }
            }
        });
        Kept { latest, writer }
    }

    /// `None`: there shall be no file.
    pub(crate) fn keep(&self, value: Option<T>) {
        self.latest.send_replace(value);
    }

    /// Waits until the disk has the last value.
    pub(crate) async fn shutdown(self) {
        drop(self.latest);
        let _ = self.writer.await;
    }
}

/// The file changes at once or not at all.
pub(crate) fn store<T: Serialize>(path: &Path, value: Option<&T>) -> std::io::Result<()> {
    match value {
        Some(value) => {
            let temporary = path.with_extension("tmp");
            step()?;
            let mut file = std::fs::File::create(&temporary)?;
            step()?;
            file.write_all(&serde_json::to_vec(value)?)?;
            step()?;
            file.sync_all()?;
            step()?;
            std::fs::rename(&temporary, path)?;
        }
        None => match step().and_then(|()| std::fs::remove_file(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        },
    }
    sync_dir(path)
}

/// Makes it durable that a file is there, or no longer.
pub(crate) fn sync_dir(file: &Path) -> std::io::Result<()> {
    step()?;
    std::fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Before each thing that a disk can refuse: it is where a test has it do so.
pub(crate) fn step() -> std::io::Result<()> {
    #[cfg(test)]
    if let Some(disk) = refusal::DISK.take() {
        let (left, refuses) = (disk.steps.saturating_sub(1), disk.steps == 0);
        let goes_on = disk.lasts || !refuses;
        refusal::DISK.set(goes_on.then_some(refusal::Disk {
            steps: left,
            ..disk
        }));
        if refuses {
            return Err(disk.error.into());
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod refusal {
    use std::cell::Cell;

    use rustix::io::Errno;

    thread_local! {
        /// This thread's, until it has refused all that it will.
        pub(super) static DISK: Cell<Option<Disk>> = const { Cell::new(None) };
    }

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Disk {
        /// That succeed before it refuses one.
        pub(crate) steps: u64,
        pub(crate) error: Errno,
        /// Whether it refuses all after that one, too.
        pub(crate) lasts: bool,
    }

    /// Full, broken, read-only.
    const ERRORS: [Errno; 3] = [Errno::NOSPC, Errno::IO, Errno::ROFS];

    /// Disks that refuse after so many steps, once or for good.
    pub(crate) fn after(steps: u64) -> impl Iterator<Item = Disk> {
        let ways = ERRORS.into_iter().flat_map(|it| [(it, true), (it, false)]);
        ways.map(move |(error, lasts)| Disk {
            steps,
            error,
            lasts,
        })
    }

    impl Disk {
        /// Does this on such a disk.
        pub(crate) fn with<T>(self, act: impl FnOnce() -> T) -> T {
            DISK.set(Some(self));
            let done = act();
            DISK.set(None);
            done
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_refuses_at_any_step_leaves_the_old_value_or_the_new() {
        let read = |path: &Path| {
            let text = std::fs::read(path).ok()?;
            Some(serde_json::from_slice::<u32>(&text).unwrap())
        };
        for (old, new) in [(Some(1), Some(2)), (None, Some(2)), (Some(1), None)] {
            let all = if new.is_some() { 5 } else { 2 };
            for disk in (0..=all).flat_map(refusal::after) {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("value.json");
                store(&path, old.as_ref()).unwrap();
                let stored = disk.with(|| store(&path, new.as_ref()));
                let there = read(&path);
                assert!([old, new].contains(&there), "{there:?}: {disk:?}");
                let told = stored.err().map(|told| told.raw_os_error().unwrap());
                let refuses = (disk.steps < all).then_some(disk.error.raw_os_error());
                assert_eq!(told, refuses, "{disk:?}");
                assert!(told.is_some() || there == new, "{disk:?}");
                // What is left of it is in nobody's way.
                store(&path, new.as_ref()).unwrap();
                assert_eq!(read(&path), new);
            }
        }
    }
}
