//! The journal: what is stored and why, in one redb file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number; `format` is the version of these tables |
//! | `broadcasts` | id | meta, root, state |
//! | `rows` | broadcast, index | opaque bytes |
//! | `entries` | broadcast, directory, name | kind, CID, Tsize, and of a file the CIDs of all blocks below it, of a node its content's bytes |
//! | `shared` | CID | references; of blocks that are named more than once |
//! | `names` | IPNS name | its newest signed record |
//! | `pins` | broadcast | nothing: it is never deleted to make room |
//!
//! A file that grows at its end is kept like a directory, of numbered nodes with numbered leaves in them. What a mirror has been
//! told of and does not keep is an entry without blocks.
//!
//! Invariants: a block's references are the places in `entries` and `broadcasts` that name it. Almost every block is named once,
//! and has no row in `shared`: CIDs are random, so that a row for each would cost a page of its own. Whether such a block is named
//! the store says ([`Held`]): blocks are there before they are named, and from then on until nothing names them, unless a broken disk
//! loses them, which opening finds. Those that lie there all the same the store knows as nameless; the journal has nothing of them, and
//! whoever opens it finds them by listing.

pub(crate) mod adopt;
#[cfg(test)]
mod check;
mod delete;
pub(crate) mod repair;
mod tree;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cid::Cid;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::cids::{CidKey, CidSet, cid, key};
use crate::names::{Name, NameRecord};
use crate::{BroadcastId, JournalError, StoreError, Update, path};
use tree::{Change, Counted, Tree};

/// Version of the tables. In version 1 every block had a row, in version 2 also garbage, and each had its length.
const FORMAT: u64 = 3;
/// redb's default is 1 GiB, a whole Raspberry Pi; the working set is a few directories and their blocks' rows.
pub(crate) const CACHE_BYTES: usize = 8 << 20;

type BroadcastRow<'a> = (&'a [u8], Option<CidKey>, u8);
/// Broadcast, directory, name.
type EntryKey = (u64, &'static str, &'static str);
/// Kind, CID, Tsize, CIDs of the leaves of a dag-pb file one after another.
type EntryRow<'a> = (u8, CidKey, u64, &'a [u8]);

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const BROADCASTS: TableDefinition<'_, u64, BroadcastRow<'_>> = TableDefinition::new("broadcasts");
pub(crate) const ROWS: TableDefinition<'_, (u64, u64), &[u8]> = TableDefinition::new("rows");
const ENTRIES: TableDefinition<'_, (u64, &str, &str), EntryRow<'_>> =
    TableDefinition::new("entries");
pub(crate) const SHARED: TableDefinition<'_, CidKey, u64> = TableDefinition::new("shared");
/// What `shared` was up to version 2.
pub(crate) const BLOCKS: TableDefinition<'_, CidKey, (u64, u32)> = TableDefinition::new("blocks");
pub(crate) const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
const PINS: TableDefinition<'_, u64, ()> = TableDefinition::new("pins");

const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
/// Of a file that grows.
const NODE: u8 = 2;
/// Named by its directory, and not kept here: no block of it counts.
const ABSENT: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open = 0,
    Finished = 1,
    /// No longer there for anybody; its entries are being taken apart.
    Deleting = 2,
}

impl State {
    fn from_row(value: u8) -> State {
        match value {
            0 => State::Open,
            1 => State::Finished,
            _ => State::Deleting,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Broadcast {
    pub(crate) id: BroadcastId,
    pub(crate) meta: Vec<u8>,
    pub(crate) root: Option<Cid>,
    pub(crate) state: State,
    pub(crate) pinned: bool,
}

/// A block that a commit names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// It is in the store, and counted: so many bytes.
    Here(u64),
    /// A broken disk has lost it. A fetch may have brought it again, which nobody has counted then.
    Lost,
}

impl Named {
    /// Bytes that count as stored.
    pub(crate) fn bytes(self) -> Option<u64> {
        match self {
            Named::Here(bytes) => Some(bytes),
            Named::Lost => None,
        }
    }
}

/// What the store says of a block's name.
pub(crate) type Held<'a> = &'a dyn Fn(&Cid) -> std::io::Result<Option<Named>>;

/// Bytes of a block that lies in the store without a name.
pub(crate) type Nameless<'a> = &'a dyn Fn(&Cid) -> std::io::Result<Option<u64>>;

/// Opens the database: a file on the box; tests put something else beneath it.
pub(crate) type Opener = Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync>;

pub(crate) struct Journal {
    opener: Opener,
    /// Empty after a failed write: redb refuses everything from then on, until it is opened anew.
    database: Mutex<Option<Arc<Database>>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").finish_non_exhaustive()
    }
}

type Result<T, E = JournalError> = std::result::Result<T, E>;

impl<E: Into<redb::Error>> From<E> for JournalError {
    fn from(error: E) -> JournalError {
        JournalError(Box::new(error.into()))
    }
}

/// An update that is not committed yet. Dropping it changes nothing.
pub(crate) struct Staged {
    transaction: WriteTransaction,
    /// Blocks that must be durable before the commit.
    pub(crate) blocks: Vec<(Cid, Bytes)>,
    pub(crate) root: Cid,
    pub(crate) turn: Turn,
}

/// Which blocks a change gives a name, which it takes the last one from, and which it brings that have one and were lost; with
/// their bytes.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) named: Vec<(Cid, u64)>,
    pub(crate) garbage: Vec<(Cid, u64)>,
    pub(crate) found: Vec<(Cid, u64)>,
}

impl Journal {
    /// Opens the database and makes the tables.
    pub(crate) fn open(opener: Opener) -> Result<Journal> {
        let journal = Journal {
            opener,
            database: Mutex::new(None),
        };
        let transaction = journal.write()?;
        {
            let mut meta = transaction.open_table(META)?;
            let format = meta.get("format")?.map(|value| value.value());
            match format {
                None => drop(meta.insert("format", FORMAT)?),
                Some(FORMAT) => {}
                Some(1 | 2) => {
                    {
                        let blocks = transaction.open_table(BLOCKS)?;
                        let mut shared = transaction.open_table(SHARED)?;
                        for row in blocks.iter()? {
                            let (key, row) = row?;
                            if let (references @ 2.., _) = row.value() {
                                shared.insert(key.value(), references)?;
                            }
                        }
                    }
                    transaction.delete_table(BLOCKS)?;
                    meta.insert("format", FORMAT)?;
                }
                Some(other) => {
                    let reason = format!(
                        "its tables are of version {other}, and this podium knows version {FORMAT}"
                    );
                    return Err(redb::Error::Corrupted(reason).into());
                }
            }
            transaction.open_table(BROADCASTS)?;
            transaction.open_table(ROWS)?;
            transaction.open_table(ENTRIES)?;
            transaction.open_table(SHARED)?;
            transaction.open_table(NAMES)?;
            transaction.open_table(PINS)?;
        }
        transaction.commit()?;
        Ok(journal)
    }

    fn database(&self) -> Result<Arc<Database>> {
        let mut database = self
            .database
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*database {
            Some(database) => Ok(database.clone()),
            None => Ok(database.insert(Arc::new((self.opener)()?)).clone()),
        }
    }

    /// To be called after a failed write.
    pub(crate) fn close(&self) {
        *self
            .database
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    fn write(&self) -> Result<WriteTransaction> {
        Ok(self.database()?.begin_write()?)
    }

    /// The newest record of a name.
    pub(crate) fn record(&self, name: &Name) -> Result<Option<Bytes>> {
        let transaction = self.database()?.begin_read()?;
        let names = transaction.open_table(NAMES)?;
        let record = names.get(name.to_string().as_str())?;
        Ok(record.map(|record| Bytes::copy_from_slice(record.value())))
    }

    /// Keeps a record, which may be used from then on.
    pub(crate) fn put_record(&self, name: &Name, record: &NameRecord) -> Result<()> {
        let transaction = self.write()?;
        put_record(&transaction, name, record)?;
        transaction.commit()?;
        Ok(())
    }

    /// Root of a broadcast.
    #[cfg(test)]
    pub(crate) fn root(&self, broadcast: BroadcastId) -> Result<Option<Cid>> {
        let transaction = self.database()?.begin_read()?;
        let broadcasts = transaction.open_table(BROADCASTS)?;
        let root = broadcasts.get(broadcast.0)?.and_then(|row| row.value().1);
        Ok(root.map(|key| cid(&key)))
    }

    /// Oldest first.
    pub(crate) fn broadcasts(&self) -> Result<Vec<Broadcast>> {
        let transaction = self.database()?.begin_read()?;
        let table = transaction.open_table(BROADCASTS)?;
        let pins = transaction.open_table(PINS)?;
        let mut broadcasts = Vec::new();
        for row in table.iter()? {
            let (id, row) = row?;
            let (meta, root, state) = row.value();
            broadcasts.push(Broadcast {
                id: BroadcastId(id.value()),
                meta: meta.to_vec(),
                root: root.map(|key| cid(&key)),
                state: State::from_row(state),
                pinned: pins.get(id.value())?.is_some(),
            });
        }
        Ok(broadcasts)
    }

    /// Bytes of a broadcast: what another node would store to have it.
    pub(crate) fn size(&self, broadcast: BroadcastId) -> Result<u64> {
        let transaction = self.database()?.begin_read()?;
        size(&transaction.open_table(ENTRIES)?, broadcast)
    }

    /// Bytes of a broadcast that are here: without those that a mirror has been told of and does not keep. It reads every entry.
    pub(crate) fn size_here(&self, broadcast: BroadcastId) -> Result<u64> {
        let transaction = self.database()?.begin_read()?;
        size_here(&transaction.open_table(ENTRIES)?, broadcast)
    }

    /// Broadcasts that are pinned.
    pub(crate) fn pins(&self) -> Result<Vec<BroadcastId>> {
        let transaction = self.database()?.begin_read()?;
        let pins = transaction.open_table(PINS)?;
        let mut found = Vec::new();
        for row in pins.iter()? {
            found.push(BroadcastId(row?.0.value()));
        }
        Ok(found)
    }

    /// Keeps a broadcast from being deleted to make room, unless all that are kept so would have more bytes than `most`, or no
    /// longer does.
    pub(crate) fn pin(
        &self,
        broadcast: BroadcastId,
        pinned: bool,
        most: u64,
    ) -> Result<(), StoreError> {
        let pins = self.pins()?;
        let would_be = || -> Result<u64> {
            let kept = pins.iter().chain([&broadcast]);
            kept.map(|it| self.size_here(*it)).sum()
        };
        let adds = pinned && !pins.contains(&broadcast);
        let bytes = if adds { would_be()? } else { 0 };
        let inner = || -> Result<bool> {
            let transaction = self.write()?;
            let there = is_there(&transaction.open_table(BROADCASTS)?, broadcast)?;
            if there && bytes <= most {
                let mut pins = transaction.open_table(PINS)?;
                match pinned {
                    true => drop(pins.insert(broadcast.0, ())?),
                    false => drop(pins.remove(broadcast.0)?),
                }
            }
            transaction.commit()?;
            Ok(there)
        };
        match inner()? {
            true if bytes > most => Err(StoreError::PinsFull {
                pinned_bytes: bytes,
                most_bytes: most,
            }),
            true => Ok(()),
            false => Err(StoreError::UnknownBroadcast(broadcast)),
        }
    }

    pub(crate) fn rows(&self, broadcast: BroadcastId) -> Result<Vec<Vec<u8>>, StoreError> {
        let inner = || -> Result<Option<Vec<Vec<u8>>>> {
            let transaction = self.database()?.begin_read()?;
            let broadcasts = transaction.open_table(BROADCASTS)?;
            if !is_there(&broadcasts, broadcast)? {
                return Ok(None);
            }
            let table = transaction.open_table(ROWS)?;
            let mut rows = Vec::new();
            for row in table.range((broadcast.0, 0)..=(broadcast.0, u64::MAX))? {
                rows.push(row?.1.value().to_vec());
            }
            Ok(Some(rows))
        };
        inner()?.ok_or(StoreError::UnknownBroadcast(broadcast))
    }

    /// Adds a broadcast after the newest, which has the number `newest` where it has been deleted.
    pub(crate) fn begin(&self, meta: &[u8], newest: u64) -> Result<BroadcastId> {
        let transaction = self.write()?;
        let id = {
            let mut broadcasts = transaction.open_table(BROADCASTS)?;
            // An id is never given twice.
            let last = broadcasts.last()?.map_or(0, |(id, _)| id.value());
            let id = last.max(newest) + 1;
            broadcasts.insert(id, (meta, None, State::Open as u8))?;
            id
        };
        transaction.commit()?;
        Ok(BroadcastId(id))
    }

    /// Prepares an update: the rows are written but not committed, and the directories on the changed paths encoded.
    pub(crate) fn stage(&self, update: &Update, held: Held<'_>) -> Result<Staged, StoreError> {
        let files: Vec<_> = update
            .files
            .iter()
            .map(|file| Ok((path::split(&file.path)?, file)))
            .collect::<Result<_, StoreError>>()?;
        let transaction = self.write()?;
        let mut change = Change::default();
        let root;
        {
            let id = update.broadcast;
            let table_error = |error: redb::TableError| StoreError::from(JournalError::from(error));
            let mut broadcasts = transaction.open_table(BROADCASTS).map_err(table_error)?;
            let (meta, old_root, state) = {
                let row = broadcasts.get(id.0).map_err(JournalError::from)?;
                let row = row.ok_or(StoreError::UnknownBroadcast(id))?;
                let (meta, root, state) = row.value();
                (meta.to_vec(), root, State::from_row(state))
            };
            match state {
                State::Open => {}
                State::Finished => return Err(StoreError::Finished(id)),
                State::Deleting => return Err(StoreError::UnknownBroadcast(id)),
            }
            let mut tree = Tree {
                broadcast: id.0,
                entries: transaction.open_table(ENTRIES).map_err(table_error)?,
            };
            let mut dirty = BTreeMap::new();
            for ((dir, name), file) in files {
                match file.keep {
                    None => tree.put_file(dir, name, file, &mut change)?,
                    Some(keep) => {
                        let nodes = tree.append(dir, name, file, keep, &mut change)?;
                        dirty.extend(nodes.into_iter().map(|node| (node, NODE)));
                    }
                }
                dirty.extend(path::ancestors(dir).map(|dir| (dir.to_owned(), DIRECTORY)));
            }
            root = match (old_root, dirty.is_empty()) {
                (Some(root), true) => cid(&root),
                (old_root, _) => {
                    dirty.insert(String::new(), DIRECTORY);
                    let new_root = tree.encode_directories(&dirty, &mut change)?;
                    change.drop_reference(old_root);
                    new_root
                }
            };
            let state = if update.finish {
                State::Finished
            } else {
                State::Open
            };
            let row = (meta.as_slice(), Some(key(&root)), state as u8);
            broadcasts.insert(id.0, row).map_err(JournalError::from)?;
            if let Some(row) = &update.row {
                append_row(&transaction, id, row)?;
            }
        }
        let counted = change.count(&transaction, held)?;
        Ok(Staged::new(transaction, counted, root))
    }

    /// Blocks that are named. It is as long as the store.
    pub(crate) fn named_blocks(&self) -> Result<CidSet> {
        let mut named = Vec::new();
        self.for_each_name(|key| {
            named.push(*key);
            ControlFlow::Continue(())
        })?;
        Ok(CidSet::new(named))
    }

    /// Whether a block is named. Reads the whole journal.
    pub(crate) fn names(&self, block: &Cid) -> Result<bool> {
        let wanted = key(block);
        let mut found = false;
        self.for_each_name(|key| {
            found = *key == wanted;
            match found {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })?;
        Ok(found)
    }

    fn for_each_name(&self, visit: impl FnMut(&CidKey) -> ControlFlow<()>) -> Result<()> {
        let transaction = self.database()?.begin_read()?;
        let broadcasts = transaction.open_table(BROADCASTS)?;
        for_each_name(&broadcasts, &transaction.open_table(ENTRIES)?, visit)
    }

    /// Calls `visit` with every file: broadcast, path, its blocks, the first of which is its own, and the bytes of all together.
    pub(crate) fn for_each_file(
        &self,
        mut visit: impl FnMut(BroadcastId, String, &[Cid], u64),
    ) -> Result<()> {
        let transaction = self.database()?.begin_read()?;
        let entries = transaction.open_table(ENTRIES)?;
        for row in entries.iter()? {
            let (place, row) = row?;
            let ((broadcast, dir, name), (kind, file, tsize, leaves)) =
                (place.value(), row.value());
            if kind == FILE {
                let mut blocks = vec![cid(&file)];
                blocks.extend(leaf_cids(leaves));
                visit(
                    BroadcastId(broadcast),
                    path::join(dir, name),
                    &blocks,
                    tsize,
                );
            }
        }
        Ok(())
    }

    /// Encodes every directory, and every node of a file that grows, anew and returns the blocks of those that `wanted` picks.
    pub(crate) fn directories(&self, wanted: impl Fn(&Cid) -> bool) -> Result<Vec<(Cid, Bytes)>> {
        let transaction = self.write()?;
        let mut found = Vec::new();
        {
            let mut tree = Tree {
                broadcast: 0,
                entries: transaction.open_table(ENTRIES)?,
            };
            let mut places = Vec::new();
            for row in transaction.open_table(BROADCASTS)?.iter()? {
                let (id, row) = row?;
                places.extend(
                    row.value()
                        .1
                        .map(|root| (id.value(), String::new(), DIRECTORY, cid(&root))),
                );
            }
            for row in tree.entries.iter()? {
                let (place, row) = row?;
                let ((broadcast, dir, name), (kind, node, ..)) = (place.value(), row.value());
                if matches!(kind, DIRECTORY | NODE) {
                    places.push((broadcast, path::join(dir, name), kind, cid(&node)));
                }
            }
            for (broadcast, dir, kind, node) in places {
                if wanted(&node) {
                    tree.broadcast = broadcast;
                    let encoded = tree.encode(&dir, kind)?.0;
                    if encoded.cid == node {
                        found.extend(encoded.node.map(|bytes| (node, bytes)));
                    }
                }
            }
        }
        transaction.abort()?;
        Ok(found)
    }
}

impl Staged {
    fn new(transaction: WriteTransaction, counted: Counted, root: Cid) -> Staged {
        Staged {
            transaction,
            blocks: counted.blocks,
            root,
            turn: counted.turn,
        }
    }

    /// Commits, with the record that names the new root.
    pub(crate) fn commit(self, signed: Option<(Name, &NameRecord)>) -> Result<()> {
        if let Some((name, record)) = signed {
            put_record(&self.transaction, &name, record)?;
        }
        Ok(self.transaction.commit()?)
    }
}

fn size(entries: &impl ReadableTable<EntryKey, EntryRow<'static>>, of: BroadcastId) -> Result<u64> {
    // The player lies there by two names.
    let mut sizes = HashMap::new();
    for row in entries.range((of.0, "", "")..(of.0, "\0", ""))? {
        let row = row?.1;
        let (_, cid, tsize, _) = row.value();
        sizes.insert(cid, tsize);
    }
    Ok(sizes.values().sum())
}

fn size_here(
    entries: &impl ReadableTable<EntryKey, EntryRow<'static>>,
    broadcast: BroadcastId,
) -> Result<u64> {
    let mut absent = 0;
    for row in entries.range(of(broadcast))? {
        if let (ABSENT, _, tsize, _) = row?.1.value() {
            absent += tsize;
        }
    }
    Ok(size(entries, broadcast)?.saturating_sub(absent))
}

fn is_there(
    broadcasts: &impl ReadableTable<u64, BroadcastRow<'static>>,
    broadcast: BroadcastId,
) -> Result<bool> {
    let row = broadcasts.get(broadcast.0)?;
    Ok(row.is_some_and(|row| State::from_row(row.value().2) != State::Deleting))
}

fn put_record(transaction: &WriteTransaction, name: &Name, record: &NameRecord) -> Result<()> {
    let mut names = transaction.open_table(NAMES)?;
    names.insert(name.to_string().as_str(), &*record.bytes)?;
    Ok(())
}

fn append_row(transaction: &WriteTransaction, broadcast: BroadcastId, row: &[u8]) -> Result<()> {
    let mut rows = transaction.open_table(ROWS)?;
    let last = rows
        .range((broadcast.0, 0)..=(broadcast.0, u64::MAX))?
        .next_back()
        .transpose()?;
    let index = last.map_or(0, |(place, _)| place.value().1 + 1);
    rows.insert((broadcast.0, index), row)?;
    Ok(())
}

/// Calls `visit` with each place in entries and broadcasts that names a block, until it breaks.
fn for_each_name(
    broadcasts: &impl ReadableTable<u64, BroadcastRow<'static>>,
    entries: &impl ReadableTable<EntryKey, EntryRow<'static>>,
    mut visit: impl FnMut(&CidKey) -> ControlFlow<()>,
) -> Result<()> {
    for row in broadcasts.iter()? {
        if let Some(root) = row?.1.value().1
            && visit(&root).is_break()
        {
            return Ok(());
        }
    }
    for row in entries.iter()? {
        let row = row?.1;
        let (kind, node, _, leaves) = row.value();
        if kind == ABSENT {
            continue;
        }
        for key in std::iter::once(&node).chain(leaves.as_chunks().0) {
            if visit(key).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The keys of all entries of a broadcast.
fn of(broadcast: BroadcastId) -> std::ops::Range<EntryKey> {
    (broadcast.0, "", "")..(broadcast.0 + 1, "", "")
}

fn leaf_cids(leaves: &[u8]) -> impl Iterator<Item = Cid> {
    leaves.as_chunks().0.iter().map(cid)
}
