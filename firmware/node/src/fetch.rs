//! Trees that another box has made.
//!
//! A tree is fetched with what it has new against the broadcast that is stored, and taken over in one durable step. Nothing
//! of it is believed: its directories are encoded again and must come out as its root, so that the journal's entries say
//! all that there is to say of it, and `fsck`, limits, pins and deletion work as on the box.

mod walk;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node_host::HostError;

use crate::journal::adopt::{AdoptedFile, Adoption, Place};
use crate::names::NameRecord;
use crate::writer::{Command, Follow, RESERVE_BYTES};
use crate::{AdoptError, BroadcastId, Node, StoreError, in_journal, unixfs};

use walk::Walk;

/// Blocks asked for at a time: 16 MiB on a fast link, and enough for one that takes a second to answer.
const AT_ONCE: usize = 16;
/// How long a block is waited for: time for a leaf on a link that carries 150 kbit/s, though it was asked for more than once.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(90);
/// The first block of a tree is small, and tells whether anybody has it.
const ROOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Held in memory before it is stored. Trees in tests are small.
const MOST_IN_MEMORY: usize = if cfg!(test) { 4 << 10 } else { 8 << 20 };

/// Links in a whole tree: two days of two renditions with seven leaves to a segment.
const MAX_LINKS: usize = 1_500_000;
/// Blocks that are fetched before anybody has asked for them: a few playlists and segments, and the directories that lead there.
const MAX_AHEAD: usize = 64;
/// Blocks of a file that is read whole before the tree is fetched: a playlist has a leaf or two.
const MAX_PIECES: usize = 64;

/// What becomes of a file that a tree names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It is fetched where it is not here.
    All,
    /// It stays where it is here, and is not fetched.
    Stored,
    /// It is not kept.
    Nothing,
}

/// What is wanted of each path of a tree. Below a directory that is not to be fetched nothing is looked at.
pub type Wants<'a> = &'a (dyn Fn(&str) -> Want + Send + Sync);

/// Of which directories what is stored is taken to have all that is wanted, where they have not changed.
pub type Trusts<'a> = &'a (dyn Fn(&str) -> bool + Send + Sync);

impl Node {
    /// Begins to fetch a tree from peers. Dropping it gives up; what it has brought stays for ten minutes. With `make_room` older
    /// broadcasts are deleted where the store is full.
    pub fn fetch(&self, root: Cid, make_room: bool) -> Fetch {
        Fetch {
            node: self.clone(),
            root,
            make_room,
            before: None,
            blocks: HashMap::new(),
            in_memory: 0,
            fetched_bytes: 0,
            new_leaves: Arc::default(),
            links: 0,
            asked: HashSet::new(),
            held: HashSet::new(),
        }
    }
}

/// A tree that is being fetched.
#[derive(Debug)]
pub struct Fetch {
    node: Node,
    root: Cid,
    make_room: bool,
    /// The stored broadcast that the tree goes on from.
    before: Option<BroadcastId>,
    /// Not stored by the writer yet.
    blocks: HashMap<Cid, Bytes>,
    in_memory: usize,
    fetched_bytes: u64,
    /// Bytes of leaves of the tree that no commit had named.
    new_leaves: Arc<AtomicU64>,
    links: usize,
    /// Not brought yet. It may come after nobody waits for it any more.
    asked: HashSet<Cid>,
    held: HashSet<Cid>,
}

/// How a tree differs from the broadcast that is stored.
#[derive(Debug, Default)]
pub struct Tree {
    files: Vec<AdoptedFile>,
    absent: Vec<(String, Cid, u64)>,
    gone: Vec<String>,
    /// Files that were there, or named, with other bytes.
    replaced: BTreeSet<String>,
}

impl Tree {
    /// Files whose bytes are new here.
    pub fn new_files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.path.as_str())
    }

    /// Files and directories that the broadcast had, and that are no longer there, or no longer such.
    pub fn gone(&self) -> impl Iterator<Item = &str> {
        self.gone.iter().map(String::as_str)
    }

    /// Files that the broadcast had, or named, with other bytes.
    pub fn replaced(&self) -> impl Iterator<Item = &str> {
        self.replaced.iter().map(String::as_str)
    }
}

impl Fetch {
    /// Bytes of leaves that [`Fetch::tree`] has had of what is new here, also when it has been given up.
    pub fn new_leaves(&self) -> Arc<AtomicU64> {
        self.new_leaves.clone()
    }

    /// Sees to room on the disk before anything comes. What peers give the host writes by itself: it tells nobody that it could not,
    /// and whoever waits for the block waits in vain.
    ///
    /// With `make_room` recordings go for it, where they may for this fetch.
    pub async fn find_room(&self, make_room: bool) -> Result<(), AdoptError> {
        let make_room = make_room && self.make_room;
        let found = |reply| Command::Follow(Follow::FindRoom { make_room, reply });
        Ok(self.node.ask(found).await??)
    }

    /// The tree goes on from that of a stored broadcast.
    pub fn goes_on_from(&mut self, broadcast: BroadcastId) {
        self.before = Some(broadcast);
    }

    /// Fetches the directories that lead to these paths and the first block of each file there, as many at once as can be: a peer far
    /// away answers after a round trip or two, and whoever asks for one after the other waits for each. It ends after ten seconds,
    /// and leaves out what is not there or does not come.
    pub async fn ahead(&mut self, paths: &[String]) -> Result<(), AdoptError> {
        let walk = tokio::time::timeout(ROOT_TIMEOUT, self.walk_ahead(paths));
        walk.await.unwrap_or(Ok(()))
    }

    async fn walk_ahead(&mut self, paths: &[String]) -> Result<(), AdoptError> {
        let wanted = paths.iter().map(String::as_str).collect();
        let mut pending: Vec<(Cid, Vec<&str>)> = vec![(self.root, wanted)];
        let mut seen = HashSet::from([self.root]);
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some((cid, below)) = pending.pop()
            {
                let node = self.node.clone();
                self.asked.insert(cid);
                asked.push(async move { (cid, below, fetch(&node, cid, ROOT_TIMEOUT).await) });
            }
            let Some((cid, below, bytes)) = asked.next().await else {
                return Ok(());
            };
            let Ok(bytes) = bytes else { continue };
            if !self.has(&cid) {
                self.brought(cid, bytes.clone()).await?;
            }
            let Ok(unixfs::Node::Directory(entries)) = decode(&cid, bytes) else {
                continue;
            };
            for (name, child, _) in entries {
                let below = below.iter().filter_map(|path| {
                    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
                    (!path.is_empty() && first == name).then_some(rest)
                });
                let below: Vec<&str> = below.collect();
                if !below.is_empty() && seen.len() < MAX_AHEAD && seen.insert(child) {
                    pending.push((child, below));
                }
            }
        }
    }

    /// Reads a file of the tree of at most so many bytes; nothing if there is none at this path.
    pub async fn file(&mut self, path: &str, most_bytes: u64) -> Result<Option<Bytes>, AdoptError> {
        let mut cid = self.root;
        for name in path.split('/') {
            let unixfs::Node::Directory(entries) = self.node(cid).await? else {
                return Ok(None);
            };
            match entries.into_iter().find(|entry| entry.0 == name) {
                Some((_, child, _)) => cid = child,
                None => return Ok(None),
            }
        }
        let mut content = Vec::new();
        let mut pending = vec![(cid, 0)];
        let mut visits = 0;
        while let Some((cid, depth)) = pending.pop() {
            // A file can name the same nodes again and again, and have no bytes in the end.
            visits += 1;
            if visits > MAX_PIECES {
                return Err(AdoptError::Refused("a file of it has too many pieces"));
            }
            let bytes = match self.node(cid).await? {
                unixfs::Node::Leaf(bytes) => bytes,
                unixfs::Node::File {
                    inline, children, ..
                } if depth < crate::read::MAX_DEPTH => {
                    self.count_links(children.len())?;
                    let children = children.into_iter().rev();
                    pending.extend(children.map(|(cid, _)| (cid, depth + 1)));
                    inline
                }
                _ => return Err(AdoptError::Refused("a file of it is none")),
            };
            content.extend_from_slice(&bytes);
            if content.len() as u64 > most_bytes {
                return Err(AdoptError::Refused("a file of it is too large"));
            }
        }
        Ok(Some(content.into()))
    }

    async fn node(&mut self, cid: Cid) -> Result<unixfs::Node, AdoptError> {
        let timeout = self.timeout(&cid);
        let bytes = match self.blocks.get(&cid) {
            Some(bytes) => bytes.clone(),
            None => {
                self.asked.insert(cid);
                let bytes = fetch(&self.node, cid, timeout).await?;
                self.brought(cid, bytes.clone()).await?;
                bytes
            }
        };
        decode(&cid, bytes)
    }

    fn timeout(&self, cid: &Cid) -> Duration {
        match *cid == self.root {
            true => ROOT_TIMEOUT,
            false => BLOCK_TIMEOUT,
        }
    }

    /// Keeps a block until it is stored, in memory as far as there is room.
    async fn brought(&mut self, cid: Cid, bytes: Bytes) -> Result<(), AdoptError> {
        self.fetched_bytes += bytes.len() as u64;
        if self.fetched_bytes > self.node.stats().borrow().limit_bytes {
            let free = self.node.shared.store.free_bytes();
            // A disk that others have filled may have room again.
            let needed = self.fetched_bytes.saturating_add(RESERVE_BYTES);
            return Err(
                match free.map_err(HostError::Io).map_err(StoreError::from)? < needed {
                    true => StoreError::DiskFull.into(),
                    false => AdoptError::Refused("it is larger than the store"),
                },
            );
        }
        self.in_memory += bytes.len();
        self.blocks.insert(cid, bytes);
        self.asked.remove(&cid);
        if self.in_memory > MOST_IN_MEMORY {
            self.in_memory = 0;
            let blocks: Vec<_> = self.blocks.drain().collect();
            self.held.extend(blocks.iter().map(|(cid, _)| *cid));
            let make_room = self.make_room;
            let held = self.node.ask(|reply| {
                Command::Follow(Follow::Hold {
                    blocks,
                    make_room,
                    reply,
                })
            });
            held.await??;
        }
        Ok(())
    }

    /// Fetches what is new and wanted.
    pub async fn tree(&mut self, wants: Wants<'_>, trusts: Trusts<'_>) -> Result<Tree, AdoptError> {
        if !self.make_room && self.before.is_none() {
            self.check_room().await?;
        }
        Walk::new(self, wants, trusts).run().await
    }

    /// What does not fit by its own account is not fetched to see that. What lies about it is stopped when there is no more room.
    async fn check_room(&mut self) -> Result<(), AdoptError> {
        let unixfs::Node::Directory(entries) = self.node(self.root).await? else {
            return Ok(());
        };
        let sizes = entries.iter().map(|(_, _, size)| *size);
        let bytes = sizes.fold(0, u64::saturating_add);
        // Tsize counts twice what two names have in common: playlists, mostly.
        let bytes = bytes - bytes / 16;
        let fits = |reply| Command::Follow(Follow::Fits { bytes, reply });
        Ok(self.node.ask(fits).await??)
    }

    fn has(&self, cid: &Cid) -> bool {
        self.blocks.contains_key(cid) || self.held.contains(cid)
    }

    fn count_links(&mut self, more: usize) -> Result<(), AdoptError> {
        self.links += more;
        match self.links > MAX_LINKS {
            true => Err(AdoptError::Refused(
                "it has more files than the store takes",
            )),
            false => Ok(()),
        }
    }

    /// Takes the tree over: from then on the broadcast, which may begin with it, is this root, and the name's record, if one is
    /// given, names it. All of it is durable when it returns.
    ///
    /// `drop` are files that the broadcast has and that shall no longer be kept.
    pub async fn adopt(
        mut self,
        place: Place,
        mut tree: Tree,
        drop: &[String],
        meta: Vec<u8>,
        finish: bool,
        record: Option<NameRecord>,
    ) -> Result<BroadcastId, AdoptError> {
        if let Place::Of(broadcast) = place {
            self.leave_out(broadcast, &mut tree, drop).await?;
        }
        let adoption = Box::new(Adoption {
            place,
            meta,
            root: self.root,
            finish,
            files: tree.files,
            absent: tree.absent,
            gone: tree.gone,
            blocks: std::mem::take(&mut self.blocks),
            record,
        });
        let make_room = self.make_room;
        let adopted = self.node.ask(|reply| {
            Command::Follow(Follow::Adopt {
                adoption,
                make_room,
                reply,
            })
        });
        adopted.await?
    }

    /// Makes files that lie where nothing has changed absent.
    async fn leave_out(
        &self,
        broadcast: BroadcastId,
        tree: &mut Tree,
        drop: &[String],
    ) -> Result<(), AdoptError> {
        let told: HashSet<String> = (tree.absent.iter().map(|(path, ..)| path.clone()))
            .chain(tree.files.iter().map(|file| file.path.clone()))
            .chain(tree.gone.iter().cloned())
            .collect();
        let left: Vec<String> = drop
            .iter()
            .filter(|path| !told.contains(*path))
            .cloned()
            .collect();
        let journal = &self.node.shared.journal;
        let found = in_journal(journal, move |journal| journal.sizes(broadcast, &left)).await?;
        tree.absent.extend(found);
        Ok(())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let blocks: Vec<_> = self.blocks.drain().collect();
        let held: Vec<Cid> = self.held.drain().collect();
        let asked: Vec<Cid> = self.asked.drain().collect();
        if blocks.is_empty() && held.is_empty() && asked.is_empty() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let commands = self.node.shared.commands.clone();
            let release = Follow::Release {
                blocks,
                held,
                asked,
                make_room: self.make_room,
            };
            runtime.spawn(async move {
                let _ = commands.send(Command::Follow(release)).await;
            });
        }
    }
}

/// CIDs that podium makes: version 1 with sha2-256, raw or dag-pb.
fn check_cid(cid: &Cid) -> Result<(), AdoptError> {
    match unixfs::is_ours(cid) {
        true => Ok(()),
        false => Err(AdoptError::Refused("it has CIDs of another kind")),
    }
}

async fn fetch(node: &Node, cid: Cid, timeout: Duration) -> Result<Bytes, AdoptError> {
    check_cid(&cid)?;
    let store = &node.shared.store;
    if store.is_torn(cid).await.map_err(StoreError::from)? {
        let discarded = node.ask(|reply| Command::Follow(Follow::Discard { cid, reply }));
        discarded.await??;
    }
    let bytes = (store.fetch(cid, timeout).await).map_err(|source| AdoptError::Fetch {
        cid,
        source: source.into(),
    })?;
    match bytes.len() <= unixfs::MAX_LEAF && unixfs::verifies(&cid, &bytes) {
        true => Ok(bytes),
        false => Err(AdoptError::Refused(
            "a block of it is too large, or another one",
        )),
    }
}

fn decode(cid: &Cid, bytes: Bytes) -> Result<unixfs::Node, AdoptError> {
    unixfs::decode(cid, bytes).map_err(|_| AdoptError::Refused("a block of it is no UnixFS"))
}
