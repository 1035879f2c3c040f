//! Durable directory trees of broadcasts in an embedded IPFS node.
//!
//! A **broadcast** is a directory tree that grows by updates; an **update** adds or replaces files and is there as a
//! whole after a crash, or not at all. The root CID that an update returns can be read in full, by this box and by its
//! peers, until the broadcast is deleted to make room; the roots before it for a grace of ten minutes, unless there is no
//! other room. This crate knows files and directories. What they mean, and what the opaque `meta` and `rows` of a broadcast say, is
//! its caller's.
//!
//! Invariants: blocks are durable before the journal names them; one task alone writes and deletes; nothing but a
//! mirror's fetch reads from the network; stored bytes never exceed the limit; work per update does not grow with the broadcast.
//!
//! In the data directory: `lock`, `identity.key`, `channel.key`, `journal.redb`, and `ipfs/`, which is rust-ipfs's.

mod announce;
mod blocks;
mod car;
mod cids;
mod error;
mod fetch;
mod follow;
mod fsck;
mod journal;
mod keys;
mod names;
mod path;
mod peers;
mod read;
mod recover;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod unixfs;
mod writer;

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cid::Cid;
use futures::Stream;
use tokio::sync::{mpsc, oneshot, watch};

pub use announce::Announced;
pub use car::{CarOptions, DagScope, EntityBytes};
use error::is_full;
pub use error::{AdoptError, JournalError, KeyError, OpenError, ReadError, StoreError};
pub use fetch::{Fetch, Tree, Trusts, Want, Wants};
pub use follow::Heard;
pub use fsck::{Damaged, Finding, Report, fsck};
pub use journal::adopt::Place;
pub use keys::{Imported, export_channel, import_channel};
pub use names::{LIFETIME, MAX_RECORD, Name, NameError, NameRecord, RecordError, TTL};
pub use node_host::{
    Contact, Contacts, DhtMode, HostError, Limits, OpenError as ListenError, machine_of, uplink,
};
pub use read::{DirEntry, Resolved};
pub use recover::{MAX_REPORTED, MissingFile, Recovered, RecoveredBroadcast};
pub use unixfs::{Leaf, MAX_LEAF, file_cid, verifies};
pub use writer::{Allowance, Budgets};

use blocks::Blocks;
use journal::{CACHE_BYTES, Journal, Opener, State};
use names::Signer;
use peers::Peer;
use steps::step;
use store::{BlockStore, Files, HostStore};
use writer::{Command, Inherited, RESERVE_BYTES, Writer};

const LOCK_FILE: &str = "lock";
const IDENTITY_FILE: &str = "identity.key";
const CHANNEL_FILE: &str = "channel.key";
pub(crate) const JOURNAL_FILE: &str = "journal.redb";
const REPO_DIR: &str = "ipfs";

/// Updates waiting for the writer. Each holds a segment of a rendition in memory: two renditions, and one to spare each.
const COMMANDS: usize = 4;

#[derive(Debug, Clone)]
pub struct Config {
    /// Data directory; made when absent. Its file system must have hard links (not FAT).
    pub dir: PathBuf,
    /// Multiaddrs over TCP, QUIC v1 or WebSocket. Port 0 takes a free port.
    pub listen: Vec<String>,
    /// What to store at most. The oldest finished broadcasts are deleted to keep it.
    pub allowance: Allowance,
    /// Whether to find and dial peers on the local network.
    pub mdns: bool,
    /// Multiaddrs ending in `/p2p/<peer id>` of mirrors and bootstrap peers, to be connected at all times.
    pub peers: Vec<String>,
    pub dht: DhtMode,
    /// Contents of a `swarm.key`: a network of its own, closed to all who do not have it.
    pub swarm_key: Option<String>,
    pub limits: Limits,
    /// Wall time, or nothing while the clock cannot be believed: then no record of the name is signed.
    pub wall_clock: fn() -> Option<SystemTime>,
}

/// Number of a broadcast on this box; later ones are larger, and none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BroadcastId(u64);

impl BroadcastId {
    /// The number that [`Place::Before`] this one takes.
    pub fn before(self) -> BroadcastId {
        BroadcastId(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for BroadcastId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A broadcast that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub id: BroadcastId,
    /// As given to [`Node::begin`].
    pub meta: Vec<u8>,
    /// Absent when nothing has been published.
    pub root: Option<Cid>,
    pub finished: bool,
    /// Never deleted to make room.
    pub pinned: bool,
    /// Bytes of all its blocks; what it shares with another counts in both.
    pub bytes: u64,
}

impl From<u64> for BroadcastId {
    fn from(number: u64) -> BroadcastId {
        BroadcastId(number)
    }
}

impl From<BroadcastId> for u64 {
    fn from(id: BroadcastId) -> u64 {
        id.0
    }
}

/// Files and a row that are added to a broadcast in one step.
#[derive(Debug, Clone)]
pub struct Update {
    pub broadcast: BroadcastId,
    /// Appended to the broadcast's rows; opaque.
    pub row: Option<Vec<u8>>,
    pub files: Vec<NewFile>,
    /// Whether the broadcast is complete: it takes no further update, and may be deleted to make room once another has
    /// begun.
    pub finish: bool,
}

/// A file to add; one of the same path is replaced.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Relative to the broadcast's root, e.g. `video/0000/12.m4s`. Callers keep directories to 256 entries: all of a
    /// directory is encoded anew when one of its entries changes.
    pub path: String,
    /// Content in order. A single leaf is the file; several are linked by a node.
    pub leaves: Vec<Leaf>,
    /// Of a file that grows at its end: how many of its first leaves stay, before those of `leaves`. Such a file is a tree
    /// of its own, so that only its last leaf and the nodes above it are written anew, however long it is.
    pub keep: Option<usize>,
}

impl NewFile {
    /// A file whose bytes have not been hashed yet.
    pub fn new(path: impl Into<String>, bytes: impl Into<Bytes>) -> NewFile {
        NewFile {
            path: path.into(),
            leaves: Leaf::split(bytes.into()),
            keep: None,
        }
    }
}

/// An update that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The broadcast's directory.
    pub root: Cid,
    /// Bytes of all blocks in the store.
    pub stored_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Connected peers.
    pub peers: u32,
    /// Bytes of all blocks in the store, those waiting for deletion included.
    pub stored_bytes: u64,
    /// Both budgets together, or what the disk has room for where that is less.
    pub limit_bytes: u64,
    /// How much more may be stored until the oldest recording that is not pinned goes, when the next broadcast begins at the latest;
    /// absent where there is none.
    pub bytes_until_one_goes: Option<u64>,
}

impl Stats {
    /// Whether there is no more than what is left free for updates to come.
    pub fn is_short(&self) -> bool {
        let headroom = writer::headroom_bytes(self.limit_bytes);
        self.stored_bytes.saturating_add(headroom) > self.limit_bytes
    }
}

/// Handle of the running node; clones share it. When the last is dropped, the node stops as if shut down.
#[derive(Debug, Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    peer_id: String,
    listening: watch::Receiver<Vec<String>>,
    channel: Name,
    /// Absent offline.
    host: Option<node_host::Host>,
    store: Arc<dyn BlockStore>,
    journal: Arc<Journal>,
    commands: mpsc::Sender<Command>,
    stats: watch::Receiver<Stats>,
    record: watch::Receiver<Option<NameRecord>>,
    contacts: watch::Receiver<Contacts>,
    announced: watch::Receiver<Announced>,
    swarm_key: Option<String>,
}

impl Node {
    /// Opens the data directory, makes journal and blocks agree, and binds the addresses.
    pub async fn open(config: Config) -> Result<(Node, Recovered), OpenError> {
        Node::open_as(config, None).await
    }

    async fn open_as(
        config: Config,
        follow: Option<follow::Following>,
    ) -> Result<(Node, Recovered), OpenError> {
        let following = follow.as_ref().map(|follow| follow.name);
        let dir = config.dir.clone();
        let opened = blocking(move || {
            let lock = lock(&dir)?;
            let identity = keys::load_or_create(&dir, IDENTITY_FILE)?;
            let signer = follow::signer(&dir, following, Arc::new(config.wall_clock))?;
            Ok((lock, identity, signer))
        });
        let (lock, identity, signer) = opened.await?;
        let peers = config.peers.into_iter().map(Peer::parse);
        let peers: Vec<Peer> = peers.collect::<Result<_, _>>().map_err(OpenError::Peer)?;
        let signer = Arc::new(signer);
        let host = node_host::Host::open(node_host::Config {
            repo: config.dir.join(REPO_DIR),
            identity: keys::encoded(&identity),
            listen: config.listen,
            mdns: config.mdns,
            dht: config.dht,
            swarm_key: config.swarm_key.clone(),
            limits: config.limits,
            judges: names::sequence,
        });
        let host = host
            .await
            .map_err(|error| OpenError::host(&config.dir, error))?;
        let announcer = signer.clone();
        let opened = Self::open_on_host(&config.dir, config.allowance, &host, signer, lock).await;
        let (shared, mut recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                host.shutdown().await;
                return Err(error);
            }
        };
        recovered.removed_temporary = host.removed_temporary();
        let (announced_sender, announced) = watch::channel(Announced::default());
        let shared = Shared {
            peer_id: host.peer_id(),
            listening: host.listening(),
            host: Some(host.clone()),
            contacts: host.contacts(),
            announced,
            swarm_key: config.swarm_key,
            ..shared
        };
        let record = shared.record.clone();
        let listener = follow.map(|follow| follow.heard);
        tokio::spawn(announce::run(
            host.clone(),
            announcer,
            record,
            listener,
            announced_sender,
        ));
        for peer in peers {
            tokio::spawn(peer.keep(host.clone()));
        }
        Ok((
            Node {
                shared: Arc::new(shared),
            },
            recovered,
        ))
    }

    async fn open_on_host(
        dir: &Path,
        allowance: Allowance,
        host: &node_host::Host,
        signer: Arc<Signer>,
        lock: Lock,
    ) -> Result<(Shared, Recovered), OpenError> {
        let path = dir.join(JOURNAL_FILE);
        let is_new = !path.exists();
        let store = Arc::new(HostStore {
            host: host.clone(),
            files: files(dir)?,
        });
        if is_new {
            require_empty(dir, &*store).await?;
            let dir = dir.to_owned();
            blocking(move || create_journal(&dir)).await?;
        }
        let opener = opener(path);
        start(dir, store, opener, allowance, signer, Some(lock)).await
    }

    /// Opens a data directory without a host: nothing is served and nobody is told. For commands while no box is running on it.
    pub async fn offline(
        dir: &Path,
        allowance: impl Into<Allowance>,
        wall_clock: fn() -> Option<SystemTime>,
    ) -> Result<(Node, Recovered), OpenError> {
        let opened = {
            let dir = dir.to_owned();
            blocking(move || {
                let lock = lock(&dir)?;
                let following = follow::followed(&dir)?;
                let signer = follow::signer(&dir, following, Arc::new(wall_clock))?;
                Ok((lock, signer, files(&dir)?))
            })
        };
        let (lock, signer, files) = opened.await?;
        if !dir.join(JOURNAL_FILE).exists() {
            require_empty(dir, &files).await?;
            create_journal(dir)?;
        }
        let signer = Arc::new(signer);
        let opener = opener(dir.join(JOURNAL_FILE));
        let allowance = allowance.into();
        let started = start(dir, Arc::new(files), opener, allowance, signer, Some(lock));
        let (shared, recovered) = started.await?;
        let shared = Arc::new(shared);
        Ok((Node { shared }, recovered))
    }

    /// Peer id, `12D3Koo…`.
    pub fn peer_id(&self) -> &str {
        &self.shared.peer_id
    }

    /// Addresses that are bound now, with real ports and ending in `/p2p/<peer id>`.
    pub fn listen(&self) -> Vec<String> {
        self.shared.listening.borrow().clone()
    }

    /// IPNS name of the box's channel.
    pub fn channel(&self) -> Name {
        self.shared.channel
    }

    /// The newest record of the channel's name, durable and signed; nothing before the first update.
    pub fn record(&self) -> watch::Receiver<Option<NameRecord>> {
        self.shared.record.clone()
    }

    /// Who is connected, and where each can be dialled.
    pub fn contacts(&self) -> watch::Receiver<Contacts> {
        self.shared.contacts.clone()
    }

    /// Who knows of the name's newest record.
    pub fn announced(&self) -> watch::Receiver<Announced> {
        self.shared.announced.clone()
    }

    /// Asks a peer for blocks as a stranger would: by bitswap, over a connection and under an identity of its own. The peer cannot
    /// get them from this box by that connection, nor can this box be asked instead. Returns the blocks, checked against their
    /// CIDs; an error where one does not come in time.
    pub async fn ask_peer(
        &self,
        addresses: Vec<String>,
        cids: Vec<Cid>,
        timeout: Duration,
    ) -> Result<Vec<Bytes>, HostError> {
        node_host::ask(node_host::Question {
            addresses,
            cids,
            swarm_key: self.shared.swarm_key.clone(),
            timeout,
        })
        .await
    }

    /// Starts a broadcast; durable when it returns. `meta` is opaque to the node.
    pub async fn begin(&self, meta: Vec<u8>) -> Result<BroadcastId, StoreError> {
        self.ask(|reply| Command::Begin { meta, reply }).await?
    }

    /// Adds files to a broadcast's directory in one durable step and returns the new root.
    ///
    /// After an error nothing has been added, except that after a failure of the disk itself it is either all there or
    /// not at all. Dropping the future does not undo it.
    pub async fn publish(&self, update: Update) -> Result<Published, StoreError> {
        self.ask(|reply| Command::Publish { update, reply }).await?
    }

    /// Rows of a broadcast in the order in which they were published.
    pub async fn rows(&self, broadcast: BroadcastId) -> Result<Vec<Vec<u8>>, StoreError> {
        if self.shared.commands.is_closed() {
            return Err(StoreError::Closed);
        }
        in_journal(&self.shared.journal, move |journal| journal.rows(broadcast)).await
    }

    /// Puts other rows in place of a broadcast's: where segments were lost, those of what is left.
    pub async fn replace_rows(
        &self,
        broadcast: BroadcastId,
        rows: Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let journal = &self.shared.journal;
        in_journal(journal, move |journal| {
            Ok(journal.replace_rows(broadcast, &rows)?)
        })
        .await
    }

    /// Paths of all files of all broadcasts.
    pub async fn paths(&self) -> Result<Vec<String>, StoreError> {
        in_journal(&self.shared.journal, |journal| {
            let mut paths = Vec::new();
            journal.for_each_file(|_, path, _, _| paths.push(path))?;
            Ok(paths)
        })
        .await
    }

    /// Paths of one broadcast's files, of those whose blocks are kept here.
    pub async fn paths_of(&self, broadcast: BroadcastId) -> Result<BTreeSet<String>, StoreError> {
        let journal = &self.shared.journal;
        in_journal(journal, move |journal| {
            Ok(journal.files_of(broadcast)?.into_keys().collect())
        })
        .await
    }

    /// What is stored, oldest first.
    pub async fn broadcasts(&self) -> Result<Vec<Stored>, StoreError> {
        if self.shared.commands.is_closed() {
            return Err(StoreError::Closed);
        }
        in_journal(&self.shared.journal, |journal| {
            let kept = journal.broadcasts()?.into_iter();
            let kept = kept.filter(|broadcast| broadcast.state != State::Deleting);
            let stored = kept.map(|broadcast| {
                Ok(Stored {
                    bytes: journal.size(broadcast.id)?,
                    id: broadcast.id,
                    meta: broadcast.meta,
                    root: broadcast.root,
                    finished: broadcast.state == State::Finished,
                    pinned: broadcast.pinned,
                })
            });
            stored.collect()
        })
        .await
    }

    /// Keeps a broadcast from being deleted to make room, as far as the budget for that goes, or no longer does; durable when it
    /// returns.
    pub async fn pin(&self, broadcast: BroadcastId, pinned: bool) -> Result<(), StoreError> {
        self.ask(|reply| Command::Pin {
            broadcast,
            pinned,
            reply,
        })
        .await?
    }

    /// Deletes a broadcast that is not pinned, and not the newest. It is in no list when this returns, and survives no crash;
    /// its blocks leave one after the other.
    pub async fn delete_by_hand(&self, broadcast: BroadcastId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Delete { broadcast, reply })
            .await?
    }

    /// Waits until nothing is being deleted, for as long as something leaves. Whether all has left: what a disk refuses goes with the next
    /// start, or never.
    pub async fn deleted(&self) -> Result<bool, StoreError> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let mut stats = self.stats();
        let mut left_at = tokio::time::Instant::now();
        loop {
            let listed = in_journal(&self.shared.journal, |journal| journal.broadcasts());
            let broadcasts = listed.await?;
            if broadcasts.iter().all(|it| it.state != State::Deleting) {
                return Ok(true);
            }
            // Each piece that leaves is counted, but for one without blocks.
            match tokio::time::timeout(Duration::from_secs(1), stats.changed()).await {
                Ok(changed) => {
                    changed.map_err(|_| StoreError::Closed)?;
                    left_at = tokio::time::Instant::now();
                }
                Err(_) if left_at.elapsed() < PATIENCE => {}
                Err(_) => return Ok(false),
            }
        }
    }

    pub fn stats(&self) -> watch::Receiver<Stats> {
        self.shared.stats.clone()
    }

    /// Follows a path from a root through local blocks; the empty path is the root itself. Slashes at either end are
    /// ignored.
    pub async fn resolve(&self, root: Cid, path: &str) -> Result<Resolved, ReadError> {
        read::resolve(&*self.shared.store, root, path).await
    }

    /// The same, with the blocks on the way: the root's first, that of the path's end last.
    pub async fn resolve_with_way(
        &self,
        root: Cid,
        path: &str,
    ) -> Result<(Resolved, Vec<Cid>), ReadError> {
        read::resolve_with_way(&*self.shared.store, root, path).await
    }

    /// The blocks on the way alone; the last one is here, and may be anything that has a CID.
    pub async fn way(&self, root: Cid, path: &str) -> Result<Vec<Cid>, ReadError> {
        read::way(&*self.shared.store, root, path).await
    }

    /// Streams blocks as a CAR (version 1): those on the `way` to a path's end, then what lies below it, depth first.
    ///
    /// One block is in memory at a time, and without `dups` 32 bytes for each that was sent. After an error the stream ends.
    pub fn car(
        &self,
        way: &[Cid],
        options: CarOptions,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        car::stream(self.shared.store.clone(), way.to_vec(), options)
    }

    /// Reads a block from the local store, never from the network.
    pub async fn block(&self, cid: Cid) -> Result<Option<Bytes>, ReadError> {
        Ok(self.shared.store.get(cid).await?)
    }

    /// Whether the local store has a block; does not read it.
    pub async fn has_block(&self, cid: Cid) -> Result<bool, ReadError> {
        Ok(self.shared.store.has(cid).await?)
    }

    /// Streams the bytes of a file within the range, which is cut at the file's end: `0..u64::MAX` reads all.
    ///
    /// At most one leaf is in memory at a time. After an error the stream ends.
    pub fn read(
        &self,
        file: Cid,
        range: Range<u64>,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        read::read(self.shared.store.clone(), file, range)
    }

    /// Completes what was asked before, closes connections and files, and releases the data directory.
    pub async fn shutdown(self) {
        // An error says that it has already stopped.
        let _ = self.ask(|reply| Command::Shutdown { reply }).await;
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared
            .commands
            .send(command(reply))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)
    }
}

impl Config {
    /// Whether [`Node::open`] could use its addresses and its swarm key. Nothing is opened.
    pub fn check(&self) -> Result<(), OpenError> {
        for address in &self.peers {
            peer_of(address).map_err(OpenError::Peer)?;
        }
        node_host::check(&self.listen, self.swarm_key.as_deref()).map_err(OpenError::Listen)
    }
}

/// Peer id at the end of a multiaddr that can be dialled.
pub fn peer_of(address: &str) -> Result<String, HostError> {
    node_host::peer_of(address)
}

/// Whether a directory is the data directory of a box that has run.
pub fn has_store(dir: &Path) -> bool {
    dir.join(JOURNAL_FILE).exists() || dir.join(REPO_DIR).is_dir()
}

/// When something was last published in a data directory.
///
/// # Errors
/// The journal's file does not tell.
pub fn last_published(dir: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(dir.join(JOURNAL_FILE))?.modified()
}

/// The files of the blocks in a data directory.
fn files(dir: &Path) -> Result<Files, OpenError> {
    let blocks = Blocks::open(&dir.join(REPO_DIR)).map_err(|error| OpenError::io(dir, error))?;
    Ok(Files::new(blocks, dir.to_owned()))
}

/// Opens a journal that exists. One that is empty or gone must not be taken for a new one: its blocks would be orphans.
fn opener(path: PathBuf) -> Opener {
    #[cfg(test)]
    if let Some(plan) = steps::plan() {
        return Box::new(move || plan.clone().journal(&path));
    }
    Box::new(move || redb::Builder::new().set_cache_size(CACHE_BYTES).open(&path))
}

/// To be called before a journal is made: with a new one every block would be an orphan.
async fn require_empty(dir: &Path, store: &dyn BlockStore) -> Result<(), OpenError> {
    let listed = store.list().await;
    match listed
        .map_err(|error| OpenError::store(dir, error.into()))?
        .is_empty()
    {
        true => Ok(()),
        false => Err(OpenError::JournalMissing {
            dir: dir.to_owned(),
        }),
    }
}

/// Makes an empty journal, which appears complete or not at all: redb does not open a file whose making was cut off.
fn create_journal(dir: &Path) -> Result<(), OpenError> {
    let made = make_journal(dir)?;
    place_journal(dir, &made).map_err(|source| OpenError::io(dir, source))
}

/// Makes an empty journal beside the place of the box's own.
fn make_journal(dir: &Path) -> Result<PathBuf, OpenError> {
    let temporary = dir.join(format!("{JOURNAL_FILE}.tmp"));
    blocks::remove_file(&temporary).map_err(|source| OpenError::io(dir, source))?;
    let file = temporary.clone();
    let journal = Journal::open(Box::new(move || redb::Database::create(&file)));
    drop(journal.map_err(|error| OpenError::journal(dir, error))?);
    Ok(temporary)
}

/// What was made there is the box's journal from then on.
fn place_journal(dir: &Path, made: &Path) -> std::io::Result<()> {
    step()?;
    File::open(made)?.sync_all()?;
    step()?;
    std::fs::rename(made, dir.join(JOURNAL_FILE))?;
    step()?;
    File::open(dir)?.sync_all()
}

/// Opens the journal over a store, makes the two agree, and starts the writer.
async fn start(
    dir: &Path,
    store: Arc<dyn BlockStore>,
    opener: Opener,
    allowance: Allowance,
    signer: Arc<Signer>,
    lock: Option<Lock>,
) -> Result<(Shared, Recovered), OpenError> {
    let listed = store.list().await;
    let listed = listed.map_err(|error| OpenError::store(dir, error.into()))?;
    let opened = sound(move || Journal::open(opener)).await;
    let journal = Arc::new(opened.map_err(|error| OpenError::journal(dir, error))?);
    let reconciled = recover::reconcile(&*store, &journal, listed).await;
    let (recovered, mut inherited) = reconciled.map_err(|error| OpenError::store(dir, error))?;
    let free = || (store.free_bytes()).map_err(|error| OpenError::io(dir, error));
    let is_short = || Ok(free()? < RESERVE_BYTES);
    let budgets = allowance.budgets(inherited.stored_bytes.saturating_add(free()?));
    if is_short()? {
        // Better than no room: what nothing names goes before its grace is over.
        let garbage = std::mem::take(&mut inherited.garbage);
        inherited.stored_bytes -= garbage.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let removed = store.remove(garbage.into_iter().map(|(cid, _)| cid).collect());
        (removed.await).map_err(|error| OpenError::store(dir, error.into()))?;
        let broadcasts = in_journal(&journal, |journal| journal.broadcasts()).await;
        let broadcasts = broadcasts.map_err(|error| OpenError::journal(dir, error))?;
        let stuck = is_short()? && !writer::can_make_room(&broadcasts, signer.follows());
        // Over the limit, what is open may be closed and go, or be trimmed. Who only looks deletes nothing, and may unpin.
        let stays = inherited.stored_bytes <= budgets.limit_bytes()
            || broadcasts.iter().all(|it| it.pinned);
        if stuck && stays && budgets.limit_bytes() < u64::MAX {
            return Err(OpenError::DiskFull {
                dir: dir.to_owned(),
            });
        }
    }
    let channel = signer.name();
    let (sender, record) = watch::channel(kept_record(dir, &journal, channel).await?);
    let inherited = Inherited {
        record: sender,
        lock,
        spares_recordings: matches!(allowance, Allowance::OfDisk { .. }),
        ..inherited
    };
    let (writer, stats) = Writer::new(store.clone(), journal.clone(), budgets, signer, inherited);
    let (commands, receiver) = mpsc::channel(COMMANDS);
    tokio::spawn(writer.run(receiver));
    let shared = Shared {
        peer_id: String::new(),
        listening: watch::channel(Vec::new()).1,
        channel,
        host: None,
        store,
        journal,
        commands,
        stats,
        record,
        contacts: watch::channel(Contacts::new()).1,
        announced: watch::channel(Announced::default()).1,
        swarm_key: None,
    };
    Ok((shared, recovered))
}

/// The record that was used last; the next one goes on from its number.
async fn kept_record(
    dir: &Path,
    journal: &Arc<Journal>,
    channel: Name,
) -> Result<Option<NameRecord>, OpenError> {
    let kept = in_journal(journal, move |journal| journal.record(&channel)).await;
    let kept = kept.map_err(|error| OpenError::journal(dir, error))?;
    let record = kept.map(|bytes| NameRecord::verify(&channel, bytes));
    record
        .transpose()
        .map_err(|error| OpenError::JournalBroken {
            path: dir.join(JOURNAL_FILE),
            reason: format!("the name's record: {error}"),
        })
}

/// Keeps other processes out of a data directory for as long as it lives.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that is just being started has a copy of the descriptor, and would hold it on.
        let _ = self.0.unlock();
    }
}

/// Says so where another process has this data directory open.
pub fn is_in_use(dir: &Path) -> Option<OpenError> {
    let lock = File::options().write(true).open(dir.join(LOCK_FILE)).ok()?;
    let taken = matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
    taken.then(|| OpenError::InUse {
        dir: dir.to_owned(),
    })
}

/// Makes the directory if need be, sees that it can be written to, and keeps other processes out.
fn lock(dir: &Path) -> Result<Lock, OpenError> {
    let io = |source| OpenError::io(dir, source);
    match std::fs::metadata(dir) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(OpenError::NotADirectory {
                dir: dir.to_owned(),
            });
        }
        Ok(_) => {}
        Err(_) => std::fs::create_dir_all(dir).map_err(io)?,
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK_FILE))
        .map_err(io)?;
    let lock = match lock.try_lock() {
        Ok(()) => Lock(lock),
        Err(TryLockError::WouldBlock) => {
            return Err(OpenError::InUse {
                dir: dir.to_owned(),
            });
        }
        Err(TryLockError::Error(source)) => return Err(io(source)),
    };
    let probe = dir.join("probe.tmp");
    let written = File::create(&probe).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let removed = std::fs::remove_file(&probe);
    match written.and(removed) {
        // What is stored may have to go, and the way to that is through here.
        Err(error) if is_full(&error) && has_store(dir) => Ok(lock),
        probed => probed.map(|()| lock).map_err(io),
    }
}

/// Reads or writes the journal on a thread that may wait for the disk.
pub(crate) async fn in_journal<T, E>(
    journal: &Arc<Journal>,
    f: impl FnOnce(&Journal) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<JournalError> + Send + 'static,
{
    let journal = journal.clone();
    sound(move || f(&journal)).await
}

/// What redb believes about the pages of its file it asserts, and so do we about rows: where a disk has spoilt them, and that was
/// noticed by no checksum, a panic says that the journal is broken.
async fn sound<T, E>(f: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<JournalError> + Send + 'static,
{
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => Err(JournalError::contradiction().into()),
        // The runtime is going down, and the caller with it.
        Err(_) => std::future::pending().await,
    }
}

/// Runs what waits for the disk on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(f).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and the caller with it.
            Err(_) => std::future::pending().await,
        },
    }
}
