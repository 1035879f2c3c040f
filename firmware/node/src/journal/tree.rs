//! One broadcast's directory tree in the table `entries`, and how a transaction changes references.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use cid::Cid;
use redb::{ReadableTable, WriteTransaction};

use node_host::HostError;

use super::{ABSENT, DIRECTORY, EntryRow, FILE, Held, NODE, Named, Result, SHARED, Turn};
use crate::cids::{CidKey, cid, key};
use crate::unixfs::{self, Encoded};
use crate::{JournalError, NewFile, StoreError, path};

/// Leaves to a node of a file that grows, and so entries that are encoded anew when its last leaf changes.
const LEAVES: usize = 64;

/// The directory tree of one broadcast.
pub(super) struct Tree<'txn> {
    pub(super) broadcast: u64,
    pub(super) entries: redb::Table<'txn, (u64, &'static str, &'static str), EntryRow<'static>>,
}

impl Tree<'_> {
    pub(super) fn put_file(
        &mut self,
        dir: &str,
        name: &str,
        file: &NewFile,
        change: &mut Change,
    ) -> Result<(), StoreError> {
        self.check_way(dir, &file.path)?;
        let encoded = unixfs::file(&file.leaves);
        let mut leaves = Vec::new();
        if let Some(node) = &encoded.node {
            change.add(encoded.cid, node.clone());
            for leaf in &file.leaves {
                leaves.extend_from_slice(&key(&leaf.cid()));
                change.add(leaf.cid(), leaf.bytes().clone());
            }
        } else {
            let bytes = file
                .leaves
                .first()
                .map(|leaf| leaf.bytes().clone())
                .unwrap_or_default();
            change.add(encoded.cid, bytes);
        }
        let row = (FILE, key(&encoded.cid), encoded.tsize, leaves.as_slice());
        let old = self
            .entries
            .insert((self.broadcast, dir, name), row)
            .map_err(JournalError::from)?;
        if let Some(old) = old {
            match old.value().0 {
                DIRECTORY => return Err(invalid(&file.path, "there is a directory of that name")),
                NODE => {
                    return Err(invalid(
                        &file.path,
                        "there is a file of that name that grows",
                    ));
                }
                _ => change.drop_entry(old.value()),
            }
        }
        Ok(())
    }

    /// Puts leaves at the end of a file that grows; returns its nodes that are to be encoded anew.
    pub(super) fn append(
        &mut self,
        dir: &str,
        name: &str,
        file: &NewFile,
        keep: usize,
        change: &mut Change,
    ) -> Result<Vec<String>, StoreError> {
        self.check_way(dir, &file.path)?;
        let invalid = |reason| Err(invalid(&file.path, reason));
        let root = path::join(dir, name);
        match self.kind(dir, name)? {
            None | Some(NODE) => {}
            Some(DIRECTORY) => return invalid("there is a directory of that name"),
            Some(_) => return invalid("there is a file of that name that does not grow"),
        }
        let place = |index: usize| {
            let node = format!("{root}/{:08}", index / LEAVES);
            (node, format!("{:02}", index % LEAVES))
        };
        let exists = |tree: &Self, index| {
            let (node, leaf) = place(index);
            Ok::<_, JournalError>(tree.kind(&node, &leaf)?.is_some())
        };
        let end = keep + file.leaves.len();
        if file.leaves.is_empty() || exists(self, end)? {
            return invalid("a file that grows would become shorter");
        }
        if let Some(last) = keep.checked_sub(1)
            && !exists(self, last)?
        {
            return invalid("it has fewer leaves than are to stay");
        }
        let mut dirty = vec![root.clone()];
        for (index, leaf) in (keep..).zip(&file.leaves) {
            let (node, name) = place(index);
            let row = (
                FILE,
                key(&leaf.cid()),
                leaf.bytes().len() as u64,
                [].as_slice(),
            );
            change.add(leaf.cid(), leaf.bytes().clone());
            let old = self
                .entries
                .insert((self.broadcast, node.as_str(), name.as_str()), row)
                .map_err(JournalError::from)?;
            if let Some(old) = old {
                change.drop_entry(old.value());
            }
            if dirty.last() != Some(&node) {
                dirty.push(node);
            }
        }
        Ok(dirty)
    }

    /// Whether all above a file are directories, or nothing yet.
    fn check_way(&self, dir: &str, file: &str) -> Result<(), StoreError> {
        for ancestor in path::ancestors(dir).filter(|ancestor| !ancestor.is_empty()) {
            let (parent, own_name) = path::parent(ancestor);
            if !matches!(self.kind(parent, own_name)?, None | Some(DIRECTORY)) {
                return Err(invalid(file, "it goes through a file"));
            }
        }
        Ok(())
    }

    fn kind(&self, dir: &str, name: &str) -> Result<Option<u8>> {
        let entry = self.entries.get((self.broadcast, dir, name))?;
        Ok(entry.map(|entry| entry.value().0))
    }

    /// Encodes these directories and nodes, the deepest first, and returns the root.
    pub(super) fn encode_directories(
        &mut self,
        dirty: &BTreeMap<String, u8>,
        change: &mut Change,
    ) -> Result<Cid, StoreError> {
        // A directory sorts before all that is below it.
        for (dir, &kind) in dirty.iter().rev() {
            let (encoded, content) = self.encode(dir, kind)?;
            let node = encoded.node.expect("a directory has a node");
            if node.len() > unixfs::MAX_LEAF {
                let reason = "its directory has too many entries for one block";
                return Err(StoreError::InvalidPath {
                    path: dir.clone(),
                    reason,
                });
            }
            change.add(encoded.cid, node);
            if dir.is_empty() {
                return Ok(encoded.cid);
            }
            let (parent, name) = path::parent(dir);
            let content = content.map(u64::to_le_bytes);
            let content = content.as_ref().map_or(&[][..], |bytes| bytes);
            let row = (kind, key(&encoded.cid), encoded.tsize, content);
            let old = self
                .entries
                .insert((self.broadcast, parent, name), row)
                .map_err(JournalError::from)?;
            if let Some(old) = old {
                change.drop_entry(old.value());
            }
        }
        unreachable!("the root sorts first and is always among them")
    }

    /// Encodes a directory or a node; of a node, also says how many bytes of content it has.
    pub(super) fn encode(&self, dir: &str, kind: u8) -> Result<(Encoded, Option<u64>)> {
        // The least string after `dir`: everything before it and from `dir` on is in `dir`.
        let end = format!("{dir}\0");
        let mut links = Vec::new();
        let mut pieces = Vec::new();
        for row in self
            .entries
            .range((self.broadcast, dir, "")..(self.broadcast, end.as_str(), ""))?
        {
            let (place, row) = row?;
            let (entry, node, tsize, content) = row.value();
            if kind == NODE {
                let size = match entry {
                    NODE => u64::from_le_bytes(content.try_into().unwrap_or_default()),
                    _ => tsize,
                };
                pieces.push((cid(&node), size, tsize));
            } else {
                links.push((place.value().2.to_owned(), cid(&node), tsize));
            }
        }
        Ok(match kind {
            NODE => {
                let (encoded, content) = unixfs::file_node(pieces);
                (encoded, Some(content))
            }
            _ => (unixfs::directory(links), None),
        })
    }
}

fn invalid(path: &str, reason: &'static str) -> StoreError {
    StoreError::InvalidPath {
        path: path.to_owned(),
        reason,
    }
}

/// How references change in one transaction.
#[derive(Default)]
pub(super) struct Change {
    delta: HashMap<CidKey, i64>,
    bytes: HashMap<CidKey, Bytes>,
    /// Lengths of blocks that lie in the store without a name.
    nameless: HashMap<CidKey, u64>,
}

pub(super) struct Counted {
    pub(super) blocks: Vec<(Cid, Bytes)>,
    pub(super) turn: Turn,
}

impl Change {
    pub(super) fn add(&mut self, cid: Cid, bytes: Bytes) {
        let key = key(&cid);
        *self.delta.entry(key).or_default() += 1;
        self.bytes.insert(key, bytes);
    }

    /// Names a block that is named already.
    pub(super) fn name(&mut self, cid: &Cid) {
        *self.delta.entry(key(cid)).or_default() += 1;
    }

    /// Names a block that lies in the store without a name.
    pub(super) fn name_nameless(&mut self, cid: &Cid, length: u64) {
        self.nameless.insert(key(cid), length);
        self.name(cid);
    }

    pub(super) fn drop_reference(&mut self, key: Option<CidKey>) {
        if let Some(key) = key {
            *self.delta.entry(key).or_default() -= 1;
        }
    }

    pub(super) fn drop_entry(&mut self, (kind, cid, _, leaves): EntryRow<'_>) {
        if kind == ABSENT {
            return;
        }
        self.drop_reference(Some(cid));
        for leaf in leaves.as_chunks().0 {
            self.drop_reference(Some(*leaf));
        }
    }

    /// Writes the new counts of references. What has no row is named once if it lies in the store with a name, else not at all.
    pub(super) fn count(
        mut self,
        transaction: &WriteTransaction,
        held: Held<'_>,
    ) -> Result<Counted, StoreError> {
        let table_error = |error: redb::TableError| StoreError::from(JournalError::from(error));
        let mut shared = transaction.open_table(SHARED).map_err(table_error)?;
        let mut counted = Counted {
            blocks: Vec::new(),
            turn: Turn::default(),
        };
        for (key, delta) in self.delta {
            let block = cid(&key);
            let bytes = self.bytes.remove(&key);
            let brought = (bytes.as_ref().map(|bytes| bytes.len() as u64))
                .or_else(|| self.nameless.get(&key).copied());
            let row = shared.get(key).map_err(JournalError::from)?;
            let row = row.map(|row| row.value());
            let there = held(&block).map_err(HostError::Io)?;
            let old = match (row, brought) {
                (Some(references), _) => references,
                (None, Some(_)) => u64::from(there.is_some()),
                // Also when a disk has lost it since it was opened.
                (None, None) => 1,
            };
            let references = old.saturating_add_signed(delta);
            match (old, references) {
                // Named and replaced within one update.
                (0, 0) => continue,
                (_, 0) => {
                    let here = there.and_then(Named::bytes);
                    counted.turn.garbage.push((block, here.unwrap_or(0)));
                }
                (0, _) => counted.turn.named.push((block, brought.unwrap_or(0))),
                _ if !matches!(there, Some(Named::Here(_))) => {
                    let found = brought.map(|bytes| (block, bytes));
                    counted.turn.found.extend(found);
                }
                _ => {}
            }
            if references > 0 {
                // Also when it is there: it may be half removed, or missing.
                counted.blocks.extend(bytes.map(|bytes| (block, bytes)));
            }
            match references {
                2.. if row == Some(references) => {}
                2.. => drop(shared.insert(key, references).map_err(JournalError::from)?),
                _ if row.is_none() => {}
                _ => drop(shared.remove(key).map_err(JournalError::from)?),
            }
        }
        Ok(counted)
    }
}
