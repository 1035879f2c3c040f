//! A mirror's side: another box's name instead of one of its own, and trees that another box has made.
//!
//! A tree is fetched with what it has new against the broadcast that is stored, and taken over in one durable step. Nothing
//! of it is believed: its directories are encoded again and must come out as its root, so that the journal's entries say
//! all that there is to say of it, and `fsck`, limits, pins and deletion work as on the box.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node_host::HostError;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::journal::Named;
use crate::journal::adopt::{AdoptedFile, Adoption, Entry, Place};
use crate::names::{Clock, Name, NameRecord, RecordError, Signer};
use crate::peers::Peer;
use crate::store::BlockStore;
use crate::writer::{Command, Follow};
use crate::{
    AdoptError, BroadcastId, CHANNEL_FILE, Config, Node, OpenError, Recovered, StoreError,
    blocking, keys, path, unixfs,
};

/// Says whose mirror a data directory is: the name.
const FOLLOWS_FILE: &str = "follows";

/// Blocks asked for at a time: 16 MiB on a fast link, and enough for one that takes a second to answer.
const AT_ONCE: usize = 16;
/// How long a block is waited for: time for a leaf on a link that carries 150 kbit/s, though it was asked for more than once.
const BLOCK_TIMEOUT: Duration = Duration::from_secs(90);
/// The first block of a tree is small, and tells whether anybody has it.
const ROOT_TIMEOUT: Duration = Duration::from_secs(10);
/// Held in memory before it is stored. Trees in tests are small.
const MOST_IN_MEMORY: usize = if cfg!(test) { 4 << 10 } else { 8 << 20 };

/// No directory of podium's is deeper: `video/0000/12.m4s`.
const MAX_DEPTH: usize = 4;
/// Entries of one directory; podium makes 256 segments, and the playlists beside them.
const MAX_ENTRIES: usize = 4096;
/// Links in a whole tree: two days of two renditions with seven leaves to a segment.
const MAX_LINKS: usize = 1_500_000;
/// Sizes that links state are summed up before anybody can check them: so many links of this size have a sum.
const ABSURD: u64 = 1 << 43;
/// Blocks that are fetched before anybody has asked for them: a few playlists and segments, and the directories that lead there.
const MAX_AHEAD: usize = 64;
/// Blocks of a file that is read whole before the tree is fetched: a playlist has a leaf or two.
const MAX_PIECES: usize = 64;

/// What comes over PubSub: a record, or why it is none.
pub type Heard = Result<NameRecord, RecordError>;

#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) name: Name,
    pub(crate) heard: mpsc::Sender<Heard>,
}

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

/// The name that a data directory mirrors, if it is a mirror's.
pub(crate) fn followed(dir: &Path) -> Result<Option<Name>, OpenError> {
    let path = dir.join(FOLLOWS_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let name = text.trim().parse::<Name>();
            let broken = |error: crate::NameError| OpenError::KeyBroken {
                path,
                reason: error.to_string(),
            };
            name.map(Some).map_err(broken)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(OpenError::io(dir, error)),
    }
}

/// Who signs in a data directory: a box its own records, a mirror none.
pub(crate) fn signer(dir: &Path, wanted: Option<Name>, clock: Clock) -> Result<Signer, OpenError> {
    match (followed(dir)?, wanted) {
        (Some(name), Some(wanted)) if name == wanted => Ok(Signer::following(name)),
        (Some(name), _) => Err(OpenError::Mirror {
            dir: dir.to_owned(),
            name,
        }),
        (None, Some(name)) => {
            if dir.join(CHANNEL_FILE).exists() {
                return Err(OpenError::NotAMirror {
                    dir: dir.to_owned(),
                });
            }
            let temporary = dir.join("follows.tmp");
            let written = std::fs::write(&temporary, format!("{name}\n"))
                .and_then(|()| std::fs::File::open(&temporary)?.sync_all())
                .and_then(|()| std::fs::rename(&temporary, dir.join(FOLLOWS_FILE)))
                .and_then(|()| std::fs::File::open(dir)?.sync_all());
            written.map_err(|error| OpenError::io(dir, error))?;
            Ok(Signer::following(name))
        }
        (None, None) => Ok(Signer::new(keys::load_or_create(dir, CHANNEL_FILE)?, clock)),
    }
}

impl Node {
    /// Opens the data directory of a mirror of `name`, as [`Node::open`] does that of a box. It signs nothing: its
    /// [`record`](Node::record) is the last one that it was given with what it names. What comes over PubSub goes to `heard`,
    /// and is lost while that is full.
    pub async fn follow(
        config: Config,
        name: Name,
        heard: mpsc::Sender<Heard>,
    ) -> Result<(Node, Recovered), OpenError> {
        Node::open_as(config, Some(Following { name, heard })).await
    }

    /// Dials a peer at an address that ends in `/p2p/<peer id>`, and again whenever it is gone, until that is aborted. Nothing where
    /// there is no network.
    pub fn keep_peer(&self, address: String) -> Result<Option<AbortHandle>, HostError> {
        let peer = Peer::parse(address)?;
        let host = self.shared.host.clone();
        Ok(host.map(|host| tokio::spawn(peer.keep(host)).abort_handle()))
    }

    /// The records of the channel's name that the DHT has.
    pub async fn ask_dht(&self, timeout: Duration) -> Result<Vec<Heard>, HostError> {
        let Some(host) = &self.shared.host else {
            return Ok(Vec::new());
        };
        let name = self.channel();
        let found = host.get_records(name.routing_key(), timeout).await?;
        let found = found.into_iter();
        Ok(found
            .map(|bytes| NameRecord::verify(&name, bytes))
            .collect())
    }

    /// Keeps a record that names what is stored.
    pub async fn keep_record(&self, record: NameRecord) -> Result<(), StoreError> {
        self.ask(|reply| Command::Follow(Follow::Record { record, reply }))
            .await?
    }

    /// Deletes a followed broadcast, unless it is pinned.
    pub async fn delete(&self, broadcast: BroadcastId) -> Result<(), StoreError> {
        self.ask(|reply| Command::Follow(Follow::Delete { broadcast, reply }))
            .await?
    }

    /// CID of each file of a broadcast whose blocks are here, by path.
    pub async fn files_of(
        &self,
        broadcast: BroadcastId,
    ) -> Result<BTreeMap<String, Cid>, StoreError> {
        let journal = self.shared.journal.clone();
        blocking(move || Ok(journal.files_of(broadcast)?)).await
    }

    /// Paths of the files that a broadcast names and that are not kept here.
    pub async fn absent(&self, broadcast: BroadcastId) -> Result<Vec<String>, StoreError> {
        let journal = self.shared.journal.clone();
        blocking(move || Ok(journal.absent(broadcast)?)).await
    }

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

/// How a tree is looked at.
#[derive(Clone, Copy)]
struct Looks<'a> {
    wants: Wants<'a>,
    trusts: Trusts<'a>,
}

/// What is still to be looked at.
enum Item {
    Entry {
        path: String,
        cid: Cid,
        tsize: u64,
        /// What lies here in the stored broadcast.
        before: Option<Entry>,
    },
    Piece {
        file: usize,
        cid: Cid,
        depth: usize,
    },
}

impl Item {
    fn cid(&self) -> Cid {
        match self {
            Item::Entry { cid, .. } | Item::Piece { cid, .. } => *cid,
        }
    }
}

impl Fetch {
    /// Bytes of leaves that [`Fetch::tree`] has had of what is new here, also when it has been given up.
    pub fn new_leaves(&self) -> Arc<AtomicU64> {
        self.new_leaves.clone()
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
                let store = self.node.shared.store.clone();
                self.asked.insert(cid);
                asked.push(async move { (cid, below, fetch(&*store, cid, ROOT_TIMEOUT).await) });
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
                let bytes = fetch(&*self.node.shared.store.clone(), cid, timeout).await?;
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
            return Err(AdoptError::Refused("it is larger than the store"));
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
        let looks = Looks { wants, trusts };
        let mut tree = Tree::default();
        let mut pending = vec![Item::Entry {
            path: String::new(),
            cid: self.root,
            tsize: 0,
            before: None,
        }];
        let mut asked = FuturesUnordered::new();
        let mut known: HashSet<Cid> = HashSet::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some(item) = pending.pop()
            {
                let cid = item.cid();
                if unixfs::is_raw(&cid) && (known.contains(&cid) || self.has(&cid)) {
                    self.take(item, None, looks, &mut tree, &mut pending, &mut known)
                        .await?;
                    continue;
                }
                let (store, timeout) = (self.node.shared.store.clone(), self.timeout(&cid));
                let at_hand = self.blocks.get(&cid).cloned();
                if !self.has(&cid) {
                    self.asked.insert(cid);
                }
                asked.push(async move {
                    match at_hand {
                        Some(bytes) => (item, Ok(bytes)),
                        None => (item, fetch(&*store, cid, timeout).await),
                    }
                });
            }
            let Some((item, bytes)) = asked.next().await else {
                return Ok(tree);
            };
            let (cid, bytes) = (item.cid(), bytes?);
            if unixfs::is_raw(&cid) {
                let length = bytes.len() as u64;
                self.new_leaves.fetch_add(length, Ordering::Relaxed);
            }
            if !self.has(&cid) {
                self.brought(cid, bytes.clone()).await?;
            }
            self.take(
                item,
                Some(bytes),
                looks,
                &mut tree,
                &mut pending,
                &mut known,
            )
            .await?;
        }
    }

    fn has(&self, cid: &Cid) -> bool {
        self.blocks.contains_key(cid) || self.held.contains(cid)
    }

    /// Takes a block in; of a leaf that is stored there are no bytes.
    async fn take(
        &mut self,
        item: Item,
        bytes: Option<Bytes>,
        looks: Looks<'_>,
        tree: &mut Tree,
        pending: &mut Vec<Item>,
        known: &mut HashSet<Cid>,
    ) -> Result<(), AdoptError> {
        let cid = item.cid();
        let decoded = match bytes {
            Some(bytes) => decode(&cid, bytes)?,
            None => unixfs::Node::Leaf(Bytes::new()),
        };
        let children = match (item, decoded) {
            (Item::Entry { path, before, .. }, unixfs::Node::Directory(entries)) => {
                if let Some(Entry::File(_)) = before {
                    tree.gone.push(path.clone());
                }
                return self
                    .directory(path, entries, looks, tree, pending, known)
                    .await;
            }
            (
                Item::Entry {
                    path,
                    tsize,
                    before,
                    ..
                },
                decoded,
            ) => {
                if path.is_empty() {
                    return Err(AdoptError::Refused("it is no directory"));
                }
                match before {
                    Some(Entry::File(old) | Entry::Absent(old)) if old != cid => {
                        tree.replaced.insert(path.clone());
                    }
                    Some(Entry::Directory(_)) => tree.gone.push(path.clone()),
                    _ => {}
                }
                tree.files.push(AdoptedFile {
                    path,
                    cid,
                    tsize,
                    below: Vec::new(),
                });
                match decoded {
                    unixfs::Node::File { children, .. } => (tree.files.len() - 1, 0, children),
                    _ => return Ok(()),
                }
            }
            (Item::Piece { file, depth, .. }, unixfs::Node::File { children, .. })
                if depth < crate::read::MAX_DEPTH =>
            {
                (file, depth, children)
            }
            (Item::Piece { .. }, unixfs::Node::Leaf(_)) => return Ok(()),
            (Item::Piece { .. }, _) => return Err(AdoptError::Refused("a file of it is none")),
        };
        let (file, depth, children) = children;
        let cids: Vec<Cid> = children.into_iter().map(|(cid, _)| cid).collect();
        self.count_links(cids.len())?;
        self.look_up(&cids, known).await?;
        for cid in cids {
            tree.files[file].below.push(cid);
            let depth = depth + 1;
            pending.push(Item::Piece { file, cid, depth });
        }
        Ok(())
    }

    async fn directory(
        &mut self,
        dir: String,
        entries: Vec<(String, Cid, u64)>,
        looks: Looks<'_>,
        tree: &mut Tree,
        pending: &mut Vec<Item>,
        known: &mut HashSet<Cid>,
    ) -> Result<(), AdoptError> {
        if entries.len() > MAX_ENTRIES || dir.split('/').count() >= MAX_DEPTH {
            return Err(AdoptError::Refused(
                "it has more directories than podium makes",
            ));
        }
        self.count_links(entries.len())?;
        let mut before = match self.before {
            Some(broadcast) => {
                let (journal, dir) = (self.node.shared.journal.clone(), dir.clone());
                blocking(move || journal.entries_in(broadcast, &dir)).await?
            }
            None => BTreeMap::new(),
        };
        let mut cids = Vec::new();
        let mut names = BTreeSet::new();
        for (name, cid, tsize) in entries {
            if path::split(&name).is_err() || name.contains('/') || !names.insert(name.clone()) {
                return Err(AdoptError::Refused("it has names that are no files'"));
            }
            if tsize >= ABSURD {
                return Err(AdoptError::Refused("it states sizes that nothing has"));
            }
            let path = path::join(&dir, &name);
            let before = before.remove(&name);
            let want = (looks.wants)(&path);
            match before {
                Some(Entry::File(old)) if old == cid && want != Want::Nothing => continue,
                Some(Entry::Absent(old)) if old == cid && want != Want::All => continue,
                Some(Entry::Directory(old)) if old == cid && (looks.trusts)(&path) => continue,
                _ => {}
            }
            if want != Want::All {
                check_cid(&cid)?;
                match before {
                    Some(Entry::Directory(_)) => tree.gone.push(path.clone()),
                    Some(Entry::File(old) | Entry::Absent(old)) if old != cid => {
                        tree.replaced.insert(path.clone());
                    }
                    _ => {}
                }
                tree.absent.push((path, cid, tsize));
                continue;
            }
            cids.push(cid);
            pending.push(Item::Entry {
                path,
                cid,
                tsize,
                before,
            });
        }
        tree.gone
            .extend(before.into_keys().map(|name| path::join(&dir, &name)));
        self.look_up(&cids, known).await
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

    /// Finds those that a commit names and that are here.
    async fn look_up(&self, cids: &[Cid], known: &mut HashSet<Cid>) -> Result<(), AdoptError> {
        for cid in cids {
            check_cid(cid)?;
        }
        let (store, cids) = (self.node.shared.store.clone(), cids.to_vec());
        let named = blocking(move || {
            let mut named = Vec::new();
            for cid in cids {
                if let Some(Named::Here(_)) = store.named(&cid).map_err(HostError::Io)? {
                    named.push(cid);
                }
            }
            Ok::<_, StoreError>(named)
        });
        known.extend(named.await?);
        Ok(())
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
        let journal = self.node.shared.journal.clone();
        let found = blocking(move || journal.sizes(broadcast, &left)).await?;
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

async fn fetch(store: &dyn BlockStore, cid: Cid, timeout: Duration) -> Result<Bytes, AdoptError> {
    check_cid(&cid)?;
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
