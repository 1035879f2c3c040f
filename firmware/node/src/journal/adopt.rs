//! What a mirror does to a journal: it takes over trees that another box has made.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cid::Cid;
use node_host::HostError;
use redb::{ReadableDatabase, ReadableTable};

use super::tree::{Change, Tree};
use super::{
    ABSENT, BROADCASTS, DIRECTORY, ENTRIES, EntryKey, EntryRow, FILE, Held, Journal, Named,
    Nameless, PINS, Result, SHARED, Staged, State, Turn, cid, key, size_here,
};
use crate::names::NameRecord;
use crate::{AdoptError, BroadcastId, JournalError, StoreError, path};

/// Left between the numbers of broadcasts that are followed one after the other, for those that are found to lie between.
const GAP: u64 = 1000;

/// Where a followed broadcast belongs among those that are stored: their order is the one in which they are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is one of them.
    Of(BroadcastId),
    /// After all of them.
    Newest,
    /// Directly before this one.
    Before(BroadcastId),
}

/// A file as another box has made it.
#[derive(Debug)]
pub(crate) struct AdoptedFile {
    pub(crate) path: String,
    pub(crate) cid: Cid,
    pub(crate) tsize: u64,
    /// Every block below its own, once for each link.
    pub(crate) below: Vec<Cid>,
}

/// How a broadcast's tree becomes another one. Everything that is not named here stays as it is.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) place: Place,
    pub(crate) meta: Vec<u8>,
    /// What the tree must be in the end.
    pub(crate) root: Cid,
    pub(crate) finish: bool,
    pub(crate) files: Vec<AdoptedFile>,
    /// Path, CID and Tsize of what is named and not kept.
    pub(crate) absent: Vec<(String, Cid, u64)>,
    /// Paths that are no longer there, with all below them.
    pub(crate) gone: Vec<String>,
    /// Blocks to be stored with it.
    pub(crate) blocks: HashMap<Cid, Bytes>,
    /// Kept in the same step.
    pub(crate) record: Option<NameRecord>,
}

/// What lies in a directory of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Directory(Cid),
    File(Cid),
    Absent(Cid),
}

impl Journal {
    /// What lies directly in a directory of a broadcast.
    pub(crate) fn entries_in(
        &self,
        broadcast: BroadcastId,
        dir: &str,
    ) -> Result<BTreeMap<String, Entry>> {
        let transaction = self.database()?.begin_read()?;
        let entries = transaction.open_table(ENTRIES)?;
        let end = format!("{dir}\0");
        let mut found = BTreeMap::new();
        for row in entries.range((broadcast.0, dir, "")..(broadcast.0, end.as_str(), ""))? {
            let (place, row) = row?;
            let (kind, node, ..) = row.value();
            let entry = match kind {
                DIRECTORY => Entry::Directory,
                ABSENT => Entry::Absent,
                _ => Entry::File,
            };
            found.insert(place.value().2.to_owned(), entry(cid(&node)));
        }
        Ok(found)
    }

    /// CID of each file of a broadcast whose blocks are here, by path.
    pub(crate) fn files_of(&self, broadcast: BroadcastId) -> Result<BTreeMap<String, Cid>> {
        Ok(self.entries_of_kind(broadcast, FILE)?.into_iter().collect())
    }

    /// Paths of the files that a broadcast names and that are not kept here.
    pub(crate) fn absent(&self, broadcast: BroadcastId) -> Result<Vec<String>> {
        let absent = self.entries_of_kind(broadcast, ABSENT)?.into_iter();
        Ok(absent.map(|(path, _)| path).collect())
    }

    fn entries_of_kind(&self, broadcast: BroadcastId, wanted: u8) -> Result<Vec<(String, Cid)>> {
        let transaction = self.database()?.begin_read()?;
        let entries = transaction.open_table(ENTRIES)?;
        let mut found = Vec::new();
        for row in entries.range(super::of(broadcast))? {
            let (place, row) = row?;
            let ((_, dir, name), (kind, node, ..)) = (place.value(), row.value());
            if kind == wanted {
                found.push((path::join(dir, name), cid(&node)));
            }
        }
        Ok(found)
    }

    /// Path, CID and Tsize of files of a broadcast whose blocks are here.
    pub(crate) fn sizes(
        &self,
        broadcast: BroadcastId,
        paths: &[String],
    ) -> Result<Vec<(String, Cid, u64)>> {
        let transaction = self.database()?.begin_read()?;
        let entries = transaction.open_table(ENTRIES)?;
        let mut found = Vec::new();
        for path in paths {
            let (dir, name) = path::parent(path);
            if let Some(row) = entries.get((broadcast.0, dir, name))? {
                let (kind, node, tsize, _) = row.value();
                if kind == FILE {
                    found.push((path.clone(), cid(&node), tsize));
                }
            }
        }
        Ok(found)
    }

    /// What would change if a commit named these blocks.
    pub(crate) fn naming(&self, blocks: &[(Cid, u64)], held: Held<'_>) -> Result<Turn, StoreError> {
        let error = |error: redb::Error| StoreError::from(JournalError::from(error));
        let transaction = (self.database()?.begin_read()).map_err(|e| error(e.into()))?;
        let shared = transaction
            .open_table(SHARED)
            .map_err(|e| error(e.into()))?;
        let mut turn = Turn::default();
        for (cid, bytes) in blocks {
            // Most blocks that are named are named once, and have no row.
            let row = shared.get(key(cid)).map_err(|e| error(e.into()))?;
            match (held(cid).map_err(HostError::Io)?, row) {
                (Some(Named::Here(_)), _) => {}
                (None, None) => turn.named.push((*cid, *bytes)),
                _ => turn.found.push((*cid, *bytes)),
            }
        }
        Ok(turn)
    }

    /// Prepares an adoption, and says of which broadcast. Each block that it names and does not bring must be here, with a name or
    /// without: `nameless` says its bytes. What is pinned may not become more than `most_pinned` bytes.
    pub(crate) fn stage_adoption(
        &self,
        adoption: &Adoption,
        nameless: Nameless<'_>,
        most_pinned: u64,
        held: Held<'_>,
    ) -> Result<(Staged, BroadcastId), AdoptError> {
        let transaction = self.write().map_err(AdoptError::from)?;
        let mut change = Change::default();
        let (id, root) = {
            let mut broadcasts = transaction
                .open_table(BROADCASTS)
                .map_err(JournalError::from)?;
            let (id, old_root) = match adoption.place {
                Place::Of(id) => {
                    let row = broadcasts.get(id.0).map_err(JournalError::from)?;
                    let row = row.as_ref().map(|row| row.value());
                    let row =
                        row.filter(|(_, _, state)| State::from_row(*state) != State::Deleting);
                    (id, row.ok_or(AdoptError::Gone(id))?.1)
                }
                Place::Newest => {
                    let last = broadcasts.last().map_err(JournalError::from)?;
                    let last = last.map_or(0, |(id, _)| id.value());
                    (BroadcastId(last + GAP), None)
                }
                Place::Before(next) => {
                    let BroadcastId(id) = next.before();
                    if id == 0 || broadcasts.get(id).map_err(JournalError::from)?.is_some() {
                        return Err(AdoptError::Refused("there is no number left for it"));
                    }
                    (BroadcastId(id), None)
                }
            };
            let mut tree = Tree {
                broadcast: id.0,
                entries: transaction
                    .open_table(ENTRIES)
                    .map_err(JournalError::from)?,
            };
            let mut dirty = BTreeMap::new();
            let mut touch = |path: &str| {
                let dirs = path::ancestors(path::parent(path).0);
                dirty.extend(dirs.map(|dir| (dir.to_owned(), DIRECTORY)));
            };
            for path in &adoption.gone {
                touch(path);
                tree.remove(path, &mut change)?;
            }
            for file in &adoption.files {
                touch(&file.path);
                let mut bytes = 0;
                for cid in std::iter::once(&file.cid).chain(&file.below) {
                    bytes += match adoption.blocks.get(cid) {
                        Some(bytes) => {
                            change.add(*cid, bytes.clone());
                            bytes.len() as u64
                        }
                        None => {
                            let io = |error| StoreError::from(HostError::Io(error));
                            match (nameless(cid).map_err(io)?, held(cid).map_err(io)?) {
                                (Some(length), _) => {
                                    change.name_nameless(cid, length);
                                    length
                                }
                                (None, Some(Named::Here(length))) => {
                                    change.name(cid);
                                    length
                                }
                                _ => return Err(AdoptError::Vanished(*cid)),
                            }
                        }
                    };
                }
                if bytes != file.tsize {
                    return Err(AdoptError::Refused("a file of it has another size"));
                }
                let below: Vec<u8> = file.below.iter().flat_map(key).collect();
                tree.place(&file.path, FILE, &file.cid, file.tsize, &below, &mut change)?;
            }
            for (path, cid, tsize) in &adoption.absent {
                touch(path);
                tree.place(path, ABSENT, cid, *tsize, &[], &mut change)?;
            }
            let root = match old_root {
                Some(root) if dirty.is_empty() => cid(&root),
                old_root => {
                    dirty.insert(String::new(), DIRECTORY);
                    let root = tree.encode_directories(&dirty, &mut change)?;
                    change.drop_reference(old_root);
                    root
                }
            };
            if root != adoption.root {
                return Err(AdoptError::Refused(
                    "its directories are not encoded as podium does it",
                ));
            }
            let state = if adoption.finish {
                State::Finished
            } else {
                State::Open
            };
            let row = (adoption.meta.as_slice(), Some(key(&root)), state as u8);
            broadcasts.insert(id.0, row).map_err(JournalError::from)?;
            let pins = transaction.open_table(PINS).map_err(JournalError::from)?;
            let pinned_bytes = pinned_bytes(&pins, &tree.entries, id)?;
            if pinned_bytes > most_pinned {
                return Err(AdoptError::Store(StoreError::PinsFull {
                    pinned_bytes,
                    most_bytes: most_pinned,
                }));
            }
            (id, root)
        };
        let counted = change.count(&transaction, held)?;
        Ok((Staged::new(transaction, counted, root), id))
    }
}

/// Bytes of all that is pinned, if this broadcast is.
fn pinned_bytes(
    pins: &impl ReadableTable<u64, ()>,
    entries: &impl ReadableTable<EntryKey, EntryRow<'static>>,
    broadcast: BroadcastId,
) -> Result<u64> {
    let mut bytes = 0;
    if pins.get(broadcast.0)?.is_some() {
        for pin in pins.iter()? {
            bytes += size_here(entries, BroadcastId(pin?.0.value()))?;
        }
    }
    Ok(bytes)
}

impl Tree<'_> {
    /// Puts a row in the place of whatever lies there.
    fn place(
        &mut self,
        path: &str,
        kind: u8,
        cid: &Cid,
        tsize: u64,
        below: &[u8],
        change: &mut Change,
    ) -> Result<()> {
        let (dir, name) = path::parent(path);
        let row = (kind, key(cid), tsize, below);
        let old = self.entries.insert((self.broadcast, dir, name), row)?;
        if let Some(old) = old {
            change.drop_entry(old.value());
        }
        Ok(())
    }

    /// Removes what lies at a path, and below it.
    fn remove(&mut self, path: &str, change: &mut Change) -> Result<()> {
        let (dir, name) = path::parent(path);
        if let Some(old) = self.entries.remove((self.broadcast, dir, name))? {
            change.drop_entry(old.value());
        }
        // The directory itself, and everything that begins with it and a slash, which sorts before the digit after it.
        let below = format!("{path}/");
        let end = format!("{path}0");
        for (start, end) in [(path, format!("{path}\0")), (&below, end)] {
            let mut taken = Vec::new();
            let range = (self.broadcast, start, "")..(self.broadcast, end.as_str(), "");
            for row in self.entries.range(range)? {
                let (place, entry) = row?;
                let (_, dir, name) = place.value();
                taken.push((dir.to_owned(), name.to_owned()));
                change.drop_entry(entry.value());
            }
            for (dir, name) in &taken {
                self.entries
                    .remove((self.broadcast, dir.as_str(), name.as_str()))?;
            }
        }
        Ok(())
    }
}
