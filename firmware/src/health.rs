//! Samples what the machine says about itself: disk, clock, network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stream::machine::Machine;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::addresses::local_address;
use crate::clock;

/// Twice as often as Linux asks the Raspberry Pi's firmware for its power, which forgets it then.
const PERIOD: Duration = Duration::from_secs(1);

/// With less than this a full disk stays full: a few segments and the journal must fit.
const ROOM_BYTES: u64 = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Free bytes on the data directory's file system; absent where it cannot be asked.
    pub(crate) disk_free_bytes: Option<u64>,
    pub(crate) clock_sane: bool,
    /// By which neighbours reach the box; absent without a network.
    pub(crate) address: Option<IpAddr>,
    /// For how much longer the time is about to be set, if it is.
    pub(crate) clock_awaited: Option<Duration>,
    pub(crate) machine: Machine,
}

impl Sample {
    /// Whether a store that found the disk full may be asked again.
    pub(crate) fn room(&self) -> bool {
        self.disk_free_bytes.is_none_or(|free| free >= ROOM_BYTES)
    }

    /// `root` has the kernel's directories.
    pub(crate) fn take(data_dir: &Path, root: &Path) -> Sample {
        let machine = board::machine::sample(root);
        let clock_awaited = machine.clock.awaited(uptime(root));
        clock::await_for(clock_awaited);
        Sample {
            disk_free_bytes: free_bytes(data_dir),
            clock_sane: clock::clock_sane(),
            address: local_address(),
            clock_awaited,
            machine,
        }
    }
}

/// What a user may still write on the disk of a directory, where there is a limit.
pub(crate) fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    (stat.f_blocks > 0).then_some(stat.f_bavail * stat.f_frsize)
}

/// How long the machine is up.
fn uptime(root: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(root.join("proc/uptime")).ok()?;
    let seconds = text.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Samples until cancelled. Asking the file system may block, so it is done off the runtime's threads.
pub(crate) fn spawn(
    data_dir: PathBuf,
    root: PathBuf,
    cancel: CancellationToken,
) -> watch::Receiver<Sample> {
    let (sender, receiver) = watch::channel(Sample::take(&data_dir, &root));
    tokio::spawn(async move {
        let mut period = tokio::time::interval(PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = period.tick() => {}
            }
            let (dir, root) = (data_dir.clone(), root.clone());
            let sample = tokio::task::spawn_blocking(move || Sample::take(&dir, &root));
            if let Ok(mut sample) = sample.await {
                sample.machine = sample.machine.after(&sender.borrow().machine);
                sender.send_replace(sample);
            }
        }
    });
    receiver
}
