//! One broadcast's directory tree in the table `entries`, and how a transaction changes references.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use cid::Cid;
use redb::{ReadableTable, WriteTransaction};

use super::{BLOCKS, CidKey, DIRECTORY, EntryRow, FILE, Result, cid, key};
use crate::unixfs::{self, Encoded};
use crate::{JournalError, NewFile, StoreError, path};

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
        let invalid = |reason| StoreError::InvalidPath {
            path: file.path.clone(),
            reason,
        };
        for ancestor in path::ancestors(dir).filter(|ancestor| !ancestor.is_empty()) {
            let (parent, own_name) = path::parent(ancestor);
            let entry = self
                .entries
                .get((self.broadcast, parent, own_name))
                .map_err(JournalError::from)?;
            if entry.is_some_and(|entry| entry.value().0 == FILE) {
                return Err(invalid("it goes through a file"));
            }
        }
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
            if old.value().0 == DIRECTORY {
                return Err(invalid("there is a directory of that name"));
            }
            change.drop_entry(old.value());
        }
        Ok(())
    }

    /// Encodes these directories, the deepest first, and returns the root.
    pub(super) fn encode_directories(
        &mut self,
        dirty: &BTreeSet<String>,
        change: &mut Change,
    ) -> Result<Cid, StoreError> {
        // A directory sorts before all that is below it.
        for dir in dirty.iter().rev() {
            let encoded = self.encode(dir)?;
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
            let row = (DIRECTORY, key(&encoded.cid), encoded.tsize, [].as_slice());
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

    pub(super) fn encode(&self, dir: &str) -> Result<Encoded> {
        // The least string after `dir`: everything before it and from `dir` on is in `dir`.
        let end = format!("{dir}\0");
        let mut links = Vec::new();
        for row in self
            .entries
            .range((self.broadcast, dir, "")..(self.broadcast, end.as_str(), ""))?
        {
            let (place, row) = row?;
            let (_, node, tsize, _) = row.value();
            links.push((place.value().2.to_owned(), cid(&node), tsize));
        }
        Ok(unixfs::directory(links))
    }
}

/// How references change in one transaction.
#[derive(Default)]
pub(super) struct Change {
    delta: HashMap<CidKey, i64>,
    bytes: HashMap<CidKey, Bytes>,
}

pub(super) struct Counted {
    pub(super) blocks: Vec<(Cid, Bytes)>,
    pub(super) new_bytes: u64,
    pub(super) garbage: Vec<Cid>,
}

impl Change {
    pub(super) fn add(&mut self, cid: Cid, bytes: Bytes) {
        let key = key(&cid);
        *self.delta.entry(key).or_default() += 1;
        self.bytes.insert(key, bytes);
    }

    pub(super) fn drop_reference(&mut self, key: Option<CidKey>) {
        if let Some(key) = key {
            *self.delta.entry(key).or_default() -= 1;
        }
    }

    pub(super) fn drop_entry(&mut self, (_, cid, _, leaves): EntryRow<'_>) {
        self.drop_reference(Some(cid));
        for leaf in leaves.as_chunks().0 {
            self.drop_reference(Some(*leaf));
        }
    }

    /// Writes the new counts of references.
    pub(super) fn count(mut self, transaction: &WriteTransaction) -> Result<Counted> {
        let mut table = transaction.open_table(BLOCKS)?;
        let mut counted = Counted {
            blocks: Vec::new(),
            new_bytes: 0,
            garbage: Vec::new(),
        };
        for (key, delta) in self.delta {
            let row = table.get(key)?.map(|row| row.value());
            let bytes = self.bytes.remove(&key);
            let (old, length) = match (row, &bytes) {
                (Some(row), _) => row,
                (None, Some(bytes)) => (0, bytes.len() as u32),
                (None, None) => continue,
            };
            let references = old.saturating_add_signed(delta);
            match references {
                // Named and replaced within one update.
                0 if row.is_none() => continue,
                0 if old > 0 => counted.garbage.push(cid(&key)),
                0 => {}
                _ => {
                    if row.is_none() {
                        counted.new_bytes += u64::from(length);
                    }
                    // Also when it is known: it may be garbage that is half removed, or missing.
                    counted.blocks.extend(bytes.map(|bytes| (cid(&key), bytes)));
                }
            }
            table.insert(key, (references, length))?;
        }
        Ok(counted)
    }
}
