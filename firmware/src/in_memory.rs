//! Where the data directory cannot be begun on, the box goes on in memory: a missing part never stops the rest.
//!
//! Its store is then an ordinary one, on a tmpfs, in a directory that belongs to this data directory: a process that is killed finds its
//! names, numbers and broadcast there again. It goes with an orderly end, with a start on a good disk, and with the machine. Where it
//! was on air when it was killed it goes on before the disk is looked at. Its
//! keys are its own: of the box's name no record may be signed whose number cannot be kept. In the data directory it changes
//! nothing, but that a stop takes the on-air mark away.

use std::fmt;
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use node::{Node, OpenError, Recovered};
use serde::{Deserialize, Serialize};
use stream::machine::CLOCK_SANE_FROM;
use stream::publication::Numbers;
use stream::status::DiskFault;

use crate::clock::{at_least, wall_now};
use crate::config::{Config, Store};
use crate::on_air::OnAirMark;
use crate::run::node_config;
use crate::{av_sync, devices, encoder, kept, numbers, wishes};

/// Where distributions have a tmpfs.
const PLACES: [&str; 2] = ["/dev/shm", "/run"];

/// As Linux names it (`magic.h`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// With less than a minute of 3 Mbit/s and a little, nothing would come of it.
const LEAST_BYTES: u64 = 32 << 20;

/// Within so long a start without the time leaps. A longer one would only bring the disk's numbers farther before the clock.
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is taken along, where it can be read. The trim is the box's most careful setting; a port that was switched off has to be
/// switched on again.
const TAKEN: [&str; 3] = [av_sync::FILE, encoder::FILE, devices::SWITCHED_OFF];

/// Why the box runs from memory, for a life that goes on there.
const WHY: &str = "no-disk.json";

/// Why the box runs from memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NoDisk {
    pub(crate) fault: DiskFault,
    /// What is wrong, and what to do.
    why: String,
    /// The box was on air, and does not go on by itself: a mark that perhaps nobody could take away must not put a room on air.
    pub(crate) cut_off: bool,
}

impl fmt::Display for NoDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "runs from memory and keeps nothing, under another name: {}, then restart the box",
            self.why
        )
    }
}

/// A life in memory.
#[derive(Debug)]
pub(crate) struct InMemory {
    pub(crate) no_disk: NoDisk,
    /// With that of the data directory, which cannot be begun on.
    pub(crate) mark: OnAirMark,
    dir: PathBuf,
}

impl InMemory {
    fn new(no_disk: NoDisk, dir: PathBuf, data_dir: &Path) -> InMemory {
        let left = OnAirMark::in_dir(data_dir);
        InMemory {
            no_disk,
            mark: OnAirMark::in_dir(&dir).with_left(left),
            dir,
        }
    }

    /// An orderly end. That there was such a life is kept, and which numbers it has given.
    pub(crate) fn end(self) {
        let given = numbers::kept(&self.dir);
        remove(&self.dir);
        let kept = make(&self.dir).and_then(|()| numbers::keep(&self.dir, given));
        if let Err(error) = kept {
            tracing::warn!(%error, "the next start does not know which numbers were given");
        }
    }
}

/// Goes on with a life in memory that was killed on air, whatever the disk is now: its viewers are there, and the operator has
/// pressed no button. Nothing where there is none.
pub(crate) async fn go_on(config: &mut Config) -> Result<Option<(Node, Recovered, InMemory)>> {
    let within = Duration::from_secs(config.broadcast.resume_within_s);
    // For a broadcast that is over nobody needs to stay off a good disk.
    let lately = |dir: &Path| {
        let age = node::last_published(dir).map(|then| then.elapsed().unwrap_or_default());
        age.is_ok_and(|age| age < within)
    };
    let on_air = |dir: &Path| OnAirMark::in_dir(dir).is_there() && lately(dir);
    let Some((dir, store)) = place(config).filter(|(dir, _)| on_air(dir)) else {
        return Ok(None);
    };
    let Some(no_disk) = why(&dir) else {
        return Ok(None);
    };
    let in_memory = at(&dir, store, config);
    match Node::open(node_config(&in_memory)?).await {
        Ok((node, recovered)) => {
            tracing::error!("{no_disk}");
            let memory = InMemory::new(no_disk, dir, &config.data_dir);
            *config = in_memory;
            Ok(Some((node, recovered, memory)))
        }
        Err(error) if fault(&error).is_none() => Err(error.into()),
        Err(error) => {
            tracing::warn!(%error, "what was on air from memory is lost");
            Ok(None)
        }
    }
}

/// The mark of the data directory, with those of lives in memory that may be gone on with: a stop that comes before it is known where
/// the box begins takes all away.
pub(crate) fn marks(data_dir: &Path) -> OnAirMark {
    let dirs = PLACES.map(|place| dir_in(Path::new(place), data_dir));
    dirs.iter()
        .filter(|dir| is_ours(dir))
        .fold(OnAirMark::in_dir(data_dir), |marks, dir| {
            OnAirMark::in_dir(dir).with_left(marks)
        })
}

/// Opens a node in memory where the disk is why it did not open, and makes its directory the data directory.
pub(crate) async fn open(
    config: &mut Config,
    error: OpenError,
) -> Result<(Node, Recovered, InMemory)> {
    let Some(fault) = fault(&error) else {
        return Err(error.into());
    };
    let Some((dir, store)) = place(config) else {
        tracing::error!("nor is there room in memory to go on");
        return Err(error.into());
    };
    let mut no_disk = NoDisk {
        fault,
        why: error.to_string(),
        cut_off: false,
    };
    tracing::error!("{no_disk}");
    let in_memory = at(&dir, store, config);
    let data_dir = std::mem::replace(config, in_memory).data_dir;
    if node::has_store(&dir) {
        match Node::open(node_config(config)?).await {
            Ok((node, recovered)) => {
                tracing::info!("going on from what an earlier life has in memory");
                // Nobody has pressed the button yet.
                no_disk.cut_off =
                    recovered.broadcasts.is_empty() && why(&dir).is_some_and(|it| it.cut_off);
                let memory = InMemory::new(no_disk, dir, &data_dir);
                return Ok((node, recovered, memory));
            }
            Err(error) if self::fault(&error).is_none() => return Err(error.into()),
            Err(error) => {
                tracing::warn!(%error, "beginning anew in memory");
                remove(&dir);
            }
        }
    }
    // Whoever has stopped a life in memory could perhaps not take the mark on the disk away.
    no_disk.cut_off = !dir.exists() && OnAirMark::in_dir(&data_dir).is_there();
    let made = make(&dir)
        .and_then(|()| take_along(&data_dir, &dir, no_disk.cut_off))
        .and_then(|()| kept::store(&dir.join(WHY), Some(&no_disk)));
    made.with_context(|| format!("cannot go on in {}", dir.display()))?;
    let opened = Node::open(node_config(config)?).await;
    let (node, recovered) = opened.inspect_err(|_| remove(&dir))?;
    let memory = InMemory::new(no_disk, dir, &data_dir);
    Ok((node, recovered, memory))
}

/// On a good disk again: its numbers go on above those that were given in memory, of which nothing is left.
pub(crate) fn forget(data_dir: &Path) {
    let dirs = PLACES.map(|place| dir_in(Path::new(place), data_dir));
    for dir in dirs.iter().filter(|dir| is_ours(dir)) {
        forget_one(dir, data_dir);
    }
}

fn forget_one(dir: &Path, data_dir: &Path) {
    // Whoever has stopped a broadcast in memory could perhaps not take it away.
    OnAirMark::in_dir(data_dir).clear();
    // A life that was killed has not said how many it has given.
    let given = numbers::a_day_after(numbers::kept(dir));
    match numbers::keep(data_dir, above_all().max(given)) {
        Ok(()) => remove(dir),
        // What is known of them stays for the next start.
        Err(error) => tracing::warn!(%error, "numbers are lower than they were in memory"),
    }
}

/// Numbers above all that the box can have given, if its clock is not behind.
fn above_all() -> Numbers {
    numbers::unused(at_least().unwrap_or(UNIX_EPOCH + CLOCK_SANE_FROM))
}

/// Why a life began in a directory.
fn why(dir: &Path) -> Option<NoDisk> {
    serde_json::from_slice(&std::fs::read(dir.join(WHY)).ok()?).ok()
}

/// What is configured, in memory.
fn at(dir: &Path, store: Store, config: &Config) -> Config {
    Config {
        data_dir: dir.into(),
        store,
        ..config.clone()
    }
}

/// The directory in memory, and what may be stored there.
fn place(config: &Config) -> Option<(PathBuf, Store)> {
    (PLACES.iter()).find_map(|place| find(Path::new(place), config))
}

/// What is wrong with the disk, if that is why the node did not open. What is configured wrongly is refused: it is seen at once by
/// who has done it. So is a directory in which this user may not write, unless a box has run there.
fn fault(error: &OpenError) -> Option<DiskFault> {
    match error {
        OpenError::ReadOnly { dir, source } => {
            let box_ran = node::has_store(dir);
            (source.kind() != ErrorKind::PermissionDenied || box_ran).then_some(DiskFault::ReadOnly)
        }
        OpenError::DiskFull { .. } => Some(DiskFault::Full),
        OpenError::KeyUnreadable { source, .. } if source.kind() != ErrorKind::PermissionDenied => {
            Some(DiskFault::Fails)
        }
        OpenError::KeyUnreadable { .. } | OpenError::KeyBroken { .. } => Some(DiskFault::Key),
        OpenError::JournalBroken { .. } | OpenError::JournalMissing { .. } => {
            Some(DiskFault::Journal)
        }
        OpenError::Io { .. } => Some(DiskFault::Fails),
        OpenError::InUse { .. }
        | OpenError::NotADirectory { .. }
        | OpenError::NoStore { .. }
        | OpenError::Mirror { .. }
        | OpenError::NotAMirror { .. }
        | OpenError::Peer(_)
        | OpenError::Listen(_) => None,
    }
}

/// The directory in a place that has the room, and what may be stored there.
fn find(place: &Path, config: &Config) -> Option<(PathBuf, Store)> {
    let bytes = room(place, &config.board.root)?;
    let dir = dir_in(place, &config.data_dir);
    // Everybody may write to /dev/shm: what lies there under this name need not be ours.
    (bytes >= LEAST_BYTES && (is_ours(&dir) || std::fs::symlink_metadata(&dir).is_err()))
        .then(|| (dir, within(&config.store, bytes >> 20)))
}

/// Bytes that the store may take in a tmpfs: half of it, and a quarter of the memory that is available, since encoding needs the rest.
fn room(place: &Path, root: &Path) -> Option<u64> {
    let stat = rustix::fs::statfs(place).ok()?;
    let block = stat.f_bsize as u64;
    let (size, free) = (stat.f_blocks * block, stat.f_bfree * block);
    // What an earlier life has there counts as available.
    let available = available_bytes(root)? + size.saturating_sub(free);
    (stat.f_type as u64 == TMPFS_MAGIC).then(|| (size / 2).min(available / 4))
}

/// Memory that can be had without swapping.
fn available_bytes(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// What is configured, as far as there is room: the broadcast on air comes first.
fn within(store: &Store, mib: u64) -> Store {
    let live_mib = store.live_mib.min(mib);
    let left_mib = mib - live_mib;
    Store {
        live_mib,
        recordings_mib: Some(store.recordings_mib.map_or(left_mib, |it| it.min(left_mib))),
    }
}

/// The same for each life on a data directory.
fn dir_in(place: &Path, data_dir: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    let absolute = std::path::absolute(data_dir);
    absolute.as_deref().unwrap_or(data_dir).hash(&mut hasher);
    place.join(format!("podium-{:016x}", hasher.finish()))
}

/// Nobody else may have made it, or look into it: it has keys.
fn is_ours(dir: &Path) -> bool {
    std::fs::symlink_metadata(dir).is_ok_and(|it| {
        it.is_dir() && it.uid() == rustix::process::geteuid().as_raw() && it.mode() & 0o077 == 0
    })
}

fn make(dir: &Path) -> std::io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(dir) {
        // Of a life that has ended, or was killed at its beginning.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && is_ours(dir) => Ok(()),
        made => made,
    }
}

fn remove(dir: &Path) {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(dir = %dir.display(), %error, "memory stays taken until the next start of the machine");
        }
        _ => {}
    }
}

fn take_along(from: &Path, to: &Path, cut_off: bool) -> std::io::Result<()> {
    // What was set for a broadcast that was cut off is for the one that goes on in its place; of any other it is over.
    for file in (TAKEN.into_iter()).chain(cut_off.then_some(wishes::FILE)) {
        match std::fs::read(from.join(file)) {
            Ok(bytes) => std::fs::write(to.join(file), bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file, %error, "cannot be read");
                // Whoever muted a broadcast must not be heard: what is not to be read counts as that.
                if file == wishes::FILE {
                    std::fs::write(to.join(file), "")?;
                }
            }
        }
    }
    // The journal knows the last ones and cannot be asked.
    numbers::keep(to, unlike_others(wall_now()).max(numbers::kept(from)))
}

/// Numbers that the box has not given, as far as it can know. A clock that goes on from the last shutdown says the same at each start, and
/// on a disk that takes nothing no shutdown moves it on.
fn unlike_others(set: Option<SystemTime>) -> Numbers {
    let least = above_all();
    let leap = match set {
        Some(_) => 0,
        None => RandomState::new().hash_one(()) % (A_WEEK.as_secs() * numbers::A_SECOND),
    };
    Numbers {
        media_sequence: least.media_sequence + leap,
        run: least.run + leap,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_configured_wrongly_is_refused_and_what_a_disk_does_is_not() {
        let store = tempfile::tempdir().unwrap();
        std::fs::create_dir(store.path().join("ipfs")).unwrap();
        let none = tempfile::tempdir().unwrap();
        let read_only = |dir: &Path, kind: ErrorKind| OpenError::ReadOnly {
            dir: dir.into(),
            source: kind.into(),
        };
        let dir = || none.path().to_owned();
        let source = || std::io::Error::other("I/O error");
        for (error, expected) in [
            // A partition that is not mounted leaves an empty directory on a read-only system.
            (
                read_only(none.path(), ErrorKind::ReadOnlyFilesystem),
                Some(DiskFault::ReadOnly),
            ),
            (read_only(none.path(), ErrorKind::PermissionDenied), None),
            (
                read_only(store.path(), ErrorKind::PermissionDenied),
                Some(DiskFault::ReadOnly),
            ),
            (OpenError::DiskFull { dir: dir() }, Some(DiskFault::Full)),
            (
                OpenError::Io {
                    dir: dir(),
                    source: source(),
                },
                Some(DiskFault::Fails),
            ),
            (
                OpenError::KeyUnreadable {
                    path: dir(),
                    source: source(),
                },
                Some(DiskFault::Fails),
            ),
            (
                OpenError::KeyUnreadable {
                    path: dir(),
                    source: ErrorKind::PermissionDenied.into(),
                },
                Some(DiskFault::Key),
            ),
            (
                OpenError::JournalMissing { dir: dir() },
                Some(DiskFault::Journal),
            ),
            (OpenError::InUse { dir: dir() }, None),
            (OpenError::NotADirectory { dir: dir() }, None),
        ] {
            assert_eq!(fault(&error), expected, "{error}");
        }
    }

    #[test]
    fn the_broadcast_on_air_has_the_memory_before_recordings() {
        let configured = Store {
            recordings_mib: Some(200),
            live_mib: 100,
        };
        for (mib, live_mib, recordings_mib) in [(60, 60, 0), (150, 100, 50), (4000, 100, 200)] {
            let expected = Store {
                live_mib,
                recordings_mib: Some(recordings_mib),
            };
            assert_eq!(within(&configured, mib), expected, "{mib} MiB");
        }
    }

    #[test]
    fn a_place_without_a_tmpfs_or_with_what_is_not_ours_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        // Neither a file system of the kernel's nor its directories.
        assert_eq!(room(Path::new("/proc"), Path::new("/")), None);
        assert_eq!(available_bytes(dir.path()), None);

        let ours = dir.path().join("ours");
        make(&ours).unwrap();
        make(&ours).unwrap();
        assert!(is_ours(&ours));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&ours, &link).unwrap();
        assert!(!is_ours(&link));
        let open = dir.path().join("open");
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&open)
            .unwrap();
        assert!(!is_ours(&open) && make(&open).is_err());
    }

    #[test]
    fn the_numbers_of_the_disk_go_on_above_those_of_a_life_in_memory() {
        let (data, places) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = dir_in(places.path(), data.path());
        // Higher than by any clock.
        let given = Numbers {
            media_sequence: 1 << 40,
            run: 1 << 40,
        };
        make(&dir).unwrap();
        numbers::keep(&dir, given).unwrap();
        let no_disk = NoDisk {
            fault: DiskFault::Fails,
            why: String::new(),
            cut_off: false,
        };
        // What the disk does not take stays known.
        let file = data.path().join("numbers.json");
        std::fs::create_dir(&file).unwrap();
        forget_one(&dir, data.path());
        assert_eq!(numbers::kept(&dir), given);
        std::fs::remove_dir(&file).unwrap();

        let store = dir.join("ipfs");
        std::fs::create_dir(&store).unwrap();
        InMemory::new(no_disk, dir.clone(), data.path()).end();
        assert!(!store.exists());
        forget_one(&dir, data.path());
        assert_eq!(numbers::kept(data.path()), numbers::a_day_after(given));
        assert!(!dir.exists());
    }

    #[test]
    fn what_is_set_is_taken_along_and_numbers_leap_over_all_that_may_have_been_given() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |file, text| std::fs::write(from.path().join(file), text).unwrap();
        let taken = |file| std::fs::read_to_string(to.path().join(file)).ok();
        write(av_sync::FILE, "trim");
        write(wishes::FILE, "muted");
        take_along(from.path(), to.path(), false).unwrap();
        assert_eq!(taken(av_sync::FILE).as_deref(), Some("trim"));
        assert_eq!(taken(wishes::FILE), None);
        take_along(from.path(), to.path(), true).unwrap();
        assert_eq!(taken(wishes::FILE).as_deref(), Some("muted"));
        // One that cannot be read.
        std::fs::remove_file(from.path().join(wishes::FILE)).unwrap();
        std::fs::create_dir(from.path().join(wishes::FILE)).unwrap();
        take_along(from.path(), to.path(), true).unwrap();
        assert_eq!(taken(wishes::FILE).as_deref(), Some(""));

        // Starts that nobody has told the time.
        let starts = [(); 3].map(|()| unlike_others(None));
        assert!(starts.iter().any(|it| it != &starts[0]), "{starts:?}");

        let leapt = numbers::kept(to.path());
        // 12 years of segments of a second.
        assert!(leapt.media_sequence > 12 * 366 * 24 * 3600);
        let far = Numbers {
            media_sequence: u64::MAX / 2,
            run: 1,
        };
        numbers::keep(from.path(), far).unwrap();
        take_along(from.path(), to.path(), false).unwrap();
        assert_eq!(numbers::kept(to.path()), leapt.max(far));
    }
}
