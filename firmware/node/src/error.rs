use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use cid::Cid;
use node_host::HostError;

use crate::{BroadcastId, Name};

/// Why the node did not open. Each is one line that says what to do; nothing that was stored has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another podium is running on this data directory ({}): stop it first; a second box needs another data_dir", dir.display())]
    InUse { dir: PathBuf },
    #[error("{} is not a directory: set data_dir to a directory", dir.display())]
    NotADirectory { dir: PathBuf },
    #[error("cannot write to {} ({source}): make it writable for this user, or set another data_dir", dir.display())]
    ReadOnly {
        dir: PathBuf,
        source: std::io::Error,
    },
    #[error("the disk of {} is full: free some space, or set another data_dir", dir.display())]
    DiskFull { dir: PathBuf },
    #[error("cannot read the key {} ({source}): {}", path.display(), key_todo(source))]
    KeyUnreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the key {} is broken ({reason}): restore it from a copy, or move it away to get a new one", path.display())]
    KeyBroken { path: PathBuf, reason: String },
    #[error("the journal {} is broken ({reason}): run `podium fsck`, which makes it again from the blocks", path.display())]
    JournalBroken { path: PathBuf, reason: String },
    #[error("{} has blocks but no journal.redb: run `podium fsck`, which makes it again from the blocks", dir.display())]
    JournalMissing { dir: PathBuf },
    #[error("there is no store in {}: name the box's data directory with --data-dir", dir.display())]
    NoStore { dir: PathBuf },
    #[error("{} is the data directory of a mirror of {name}: set another data_dir, or run `podium mirror {name}` on it", dir.display())]
    Mirror { dir: PathBuf, name: Name },
    #[error("{} is the data directory of a box with a name of its own: give the mirror another --data-dir", dir.display())]
    NotAMirror { dir: PathBuf },
    #[error("[node] peers: {0}")]
    Peer(HostError),
    /// An address is in use or is none.
    #[error(transparent)]
    Listen(node_host::OpenError),
    #[error("the data directory {} fails: {source}: check the disk, or set another data_dir", dir.display())]
    Io {
        dir: PathBuf,
        source: std::io::Error,
    },
}

fn key_todo(source: &std::io::Error) -> &'static str {
    match source.kind() {
        ErrorKind::NotFound => "name a key, or a data directory, that is there",
        _ => "make it readable for this user",
    }
}

/// Why a key was not copied. Nothing that was there has been changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{} exists and is not overwritten: move it away, or name another", path.display())]
    Exists { path: PathBuf },
    #[error("{} is this box's own name: --replace moves it aside", path.display())]
    HasOne { path: PathBuf },
    #[error("cannot write {} ({source}): name a place that can be written to", path.display())]
    Write {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Read(#[from] OpenError),
}

impl KeyError {
    pub(crate) fn write(path: &Path, source: std::io::Error) -> KeyError {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::AlreadyExists => KeyError::Exists { path },
            _ => KeyError::Write { path, source },
        }
    }
}

impl OpenError {
    pub(crate) fn io(dir: &Path, source: std::io::Error) -> OpenError {
        let dir = dir.to_owned();
        match source.kind() {
            ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => {
                OpenError::ReadOnly { dir, source }
            }
            ErrorKind::NotADirectory => OpenError::NotADirectory { dir },
            _ if is_full(&source) => OpenError::DiskFull { dir },
            _ => OpenError::Io { dir, source },
        }
    }

    pub(crate) fn host(dir: &Path, error: node_host::OpenError) -> OpenError {
        match error {
            node_host::OpenError::Repo { source, .. } => OpenError::io(dir, source),
            error => OpenError::Listen(error),
        }
    }

    pub(crate) fn store(dir: &Path, error: StoreError) -> OpenError {
        match error {
            StoreError::DiskFull => OpenError::DiskFull {
                dir: dir.to_owned(),
            },
            StoreError::Blocks(HostError::Io(source)) => OpenError::io(dir, source),
            StoreError::Journal(error) => OpenError::journal(dir, error),
            error => OpenError::Io {
                dir: dir.to_owned(),
                source: std::io::Error::other(error),
            },
        }
    }

    pub(crate) fn journal(dir: &Path, error: JournalError) -> OpenError {
        match *error.0 {
            // How redb reports a file that is not its own, or one that has been cut.
            redb::Error::Io(source)
                if !matches!(
                    source.kind(),
                    ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                ) =>
            {
                OpenError::io(dir, source)
            }
            error => OpenError::JournalBroken {
                path: dir.join(crate::JOURNAL_FILE),
                reason: error.to_string(),
            },
        }
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Deleting every finished broadcast but the newest would not be enough, or already was not.
    #[error(
        "{needed_bytes} bytes do not fit: {stored_bytes} of {limit_bytes} are stored; stop the broadcast, unpin recordings, or raise [store] recordings_mib or live_mib"
    )]
    Full {
        needed_bytes: u64,
        stored_bytes: u64,
        limit_bytes: u64,
    },
    /// Nothing that is pinned is ever deleted, so that more of it would take the room of the broadcast on air.
    #[error(
        "pinned recordings would take {} MiB of the {} MiB that they may: unpin some, or raise [store] recordings_mib",
        pinned_bytes.div_ceil(1 << 20), most_bytes >> 20
    )]
    PinsFull { pinned_bytes: u64, most_bytes: u64 },
    #[error("the disk is full: free some space")]
    DiskFull,
    #[error(
        "{0} is the newest broadcast, which the name and the pages lead to: it can go once another one has its first segment"
    )]
    Newest(BroadcastId),
    #[error("broadcast {0} is pinned: unpin it first")]
    Pinned(BroadcastId),
    #[error("there is no broadcast {0}")]
    UnknownBroadcast(BroadcastId),
    #[error("broadcast {0} is finished: begin another")]
    Finished(BroadcastId),
    #[error("{path:?} is not a path for a file: {reason}")]
    InvalidPath { path: String, reason: &'static str },
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Blocks(HostError),
    #[error("the node has been shut down")]
    Closed,
}

impl From<HostError> for StoreError {
    fn from(error: HostError) -> StoreError {
        match error {
            HostError::Io(source) if is_full(&source) => StoreError::DiskFull,
            error => StoreError::Blocks(error),
        }
    }
}

/// Why a tree that another box has made was not taken over. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is not such as podium makes it, or too large for anything: asking again does not help.
    #[error("it is refused: {0}")]
    Refused(&'static str),
    /// It was deleted meanwhile, and has to be fetched again.
    #[error("block {0} is no longer stored")]
    Vanished(Cid),
    #[error("broadcast {0} is no longer stored")]
    Gone(BroadcastId),
    /// No peer gave the block.
    #[error("block {cid} does not come: {source}")]
    Fetch { cid: Cid, source: Box<HostError> },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<JournalError> for AdoptError {
    fn from(error: JournalError) -> AdoptError {
        AdoptError::Store(error.into())
    }
}

/// A failure of the journal's database.
#[derive(Debug, thiserror::Error)]
#[error("the journal: {0}")]
pub struct JournalError(pub(crate) Box<redb::Error>);

/// What a panic in the journal says.
pub(crate) const CONTRADICTION: &str = "its pages contradict each other";

impl JournalError {
    pub(crate) fn contradiction() -> JournalError {
        redb::Error::Corrupted(CONTRADICTION.into()).into()
    }
}

/// Why something cannot be read from the local store.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no {path:?} below this root")]
    NotFound { path: String },
    #[error("{path:?} is not a path: {reason}")]
    InvalidPath { path: String, reason: &'static str },
    #[error("{path:?} goes through a file")]
    NotADirectory { path: String },
    #[error("{cid} is a directory")]
    NotAFile { cid: Cid },
    /// The block is not on this box: never published here, or deleted.
    #[error("block {cid} is not stored here")]
    Missing { cid: Cid },
    #[error("{cid} is not a UnixFS file or directory: {reason}")]
    NotUnixFs { cid: Cid, reason: String },
    #[error(transparent)]
    Store(#[from] HostError),
}

pub(crate) fn is_full(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}
