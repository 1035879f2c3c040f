//! What `fsck` does to a journal.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};

use super::tree::{Change, Tree};
use super::{
    BROADCASTS, DIRECTORY, ENTRIES, FILE, Journal, NAMES, NODE, Named, PINS, ROWS, Result, SHARED,
    Staged, State, for_each_name,
};
use crate::cids::{CidKey, cid, key};
use crate::{BroadcastId, Cid, StoreError, path};

/// A file for a journal that is made again: path, CID, Tsize, leaves.
#[derive(Debug)]
pub(crate) struct FoundFile {
    pub(crate) path: String,
    pub(crate) cid: Cid,
    pub(crate) tsize: u64,
    pub(crate) leaves: Vec<Cid>,
}

impl Journal {
    /// Reads every page; `false` if redb has put something right.
    pub(crate) fn verify(&self) -> Result<bool> {
        self.close();
        Ok((self.opener)()?.check_integrity()?)
    }

    /// Counts the references anew and drops what belongs to no broadcast. Returns how many rows were wrong; with `repair` none
    /// is from then on.
    pub(crate) fn recount(&self, repair: bool) -> Result<usize> {
        let transaction = self.write()?;
        let mut wrong = drop_strays(&transaction)?;
        wrong += recount(&transaction)?;
        match repair && wrong > 0 {
            true => transaction.commit()?,
            false => transaction.abort()?,
        }
        Ok(wrong)
    }

    /// Directories of a broadcast that are not what its entries encode to, or whose block `lacks` says is not there.
    pub(crate) fn bad_directories(
        &self,
        broadcast: BroadcastId,
        lacks: impl Fn(&Cid) -> bool,
    ) -> Result<Vec<String>> {
        let transaction = self.write()?;
        let mut bad = Vec::new();
        {
            let tree = Tree {
                broadcast: broadcast.0,
                entries: transaction.open_table(ENTRIES)?,
            };
            let broadcasts = transaction.open_table(BROADCASTS)?;
            let root = broadcasts.get(broadcast.0)?.and_then(|row| row.value().1);
            let root = root
                .into_iter()
                .map(|root| (String::new(), DIRECTORY, root));
            let mut places: Vec<(String, u8, CidKey)> = root.collect();
            for row in tree.entries.range(super::of(broadcast))? {
                let (place, row) = row?;
                let ((_, dir, name), (kind, node, ..)) = (place.value(), row.value());
                if matches!(kind, DIRECTORY | NODE) {
                    places.push((path::join(dir, name), kind, node));
                }
            }
            for (dir, kind, node) in places {
                let node = cid(&node);
                if lacks(&node) || tree.encode(&dir, kind)?.0.cid != node {
                    bad.push(dir);
                }
            }
        }
        transaction.abort()?;
        Ok(bad)
    }

    /// Encodes all directories of a broadcast anew, without these files. One that loses files is open from then on: what names
    /// them has to be written again.
    pub(crate) fn remake(
        &self,
        broadcast: BroadcastId,
        without: &BTreeSet<String>,
    ) -> Result<Staged, StoreError> {
        let named = self.named_blocks()?;
        // What else lies in the store nothing names yet.
        let held = |cid: &Cid| Ok(named.contains(cid).then_some(Named::Here(0)));
        let transaction = self.write()?;
        let mut change = Change::default();
        let root = {
            let mut inner = || -> Result<_> {
                let mut entries = transaction.open_table(ENTRIES)?;
                let mut directories = BTreeMap::from([(String::new(), DIRECTORY)]);
                for row in entries.range(super::of(broadcast))? {
                    let (place, row) = row?;
                    let (_, dir, name) = place.value();
                    for dir in path::ancestors(dir) {
                        directories.entry(dir.to_owned()).or_insert(DIRECTORY);
                    }
                    if row.value().0 == NODE {
                        directories.insert(path::join(dir, name), NODE);
                    }
                }
                let growing = |path: &str| directories.get(path) == Some(&NODE);
                let mut dropped = Vec::new();
                for row in entries.range(super::of(broadcast))? {
                    let (place, row) = row?;
                    let (_, dir, name) = place.value();
                    let path = path::join(dir, name);
                    // A file that grows cannot become shorter: it is written anew, too.
                    let grows = !without.is_empty() && (growing(dir) || growing(&path));
                    if grows || row.value().0 == FILE && without.contains(&path) {
                        change.drop_entry(row.value());
                        dropped.push((dir.to_owned(), name.to_owned()));
                    }
                }
                if !without.is_empty() {
                    directories.retain(|_, kind| *kind != NODE);
                }
                for (dir, name) in &dropped {
                    entries.remove((broadcast.0, dir.as_str(), name.as_str()))?;
                }
                Ok((entries, directories))
            };
            let (entries, directories) = inner()?;
            let mut tree = Tree {
                broadcast: broadcast.0,
                entries,
            };
            tree.encode_directories(&directories, &mut change)?
        };
        let mut finish = || -> Result<()> {
            {
                let mut broadcasts = transaction.open_table(BROADCASTS)?;
                let (meta, old, state) = {
                    let row = broadcasts.get(broadcast.0)?;
                    let row = row.as_ref().map(|row| row.value());
                    let (meta, old, state) = row.unwrap_or((&[], None, State::Open as u8));
                    (meta.to_vec(), old, state)
                };
                let state = if without.is_empty() {
                    state
                } else {
                    State::Open as u8
                };
                change.drop_reference(old);
                broadcasts.insert(broadcast.0, (meta.as_slice(), Some(key(&root)), state))?;
            }
            Ok(())
        };
        finish()?;
        let counted = change.count(&transaction, &held)?;
        Ok(Staged::new(transaction, counted, root))
    }

    /// Puts other rows in place of a broadcast's.
    pub(crate) fn replace_rows(&self, broadcast: BroadcastId, rows: &[Vec<u8>]) -> Result<()> {
        let transaction = self.write()?;
        {
            let mut table = transaction.open_table(ROWS)?;
            let all = (broadcast.0, 0)..=(broadcast.0, u64::MAX);
            table.retain_in(all, |_, _| false)?;
            for (row, index) in rows.iter().zip(0..) {
                table.insert((broadcast.0, index), row.as_slice())?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Adds a finished broadcast of which only the files are known; its tree is to be stored and committed.
    pub(crate) fn adopt(&self, files: &[FoundFile]) -> Result<Staged, StoreError> {
        let broadcast = self.begin(&[], 0)?;
        let inner = || -> Result<()> {
            let transaction = self.write()?;
            {
                let mut entries = transaction.open_table(ENTRIES)?;
                for file in files {
                    let leaves: Vec<u8> = file.leaves.iter().flat_map(key).collect();
                    let (dir, name) = path::parent(&file.path);
                    let row = (FILE, key(&file.cid), file.tsize, leaves.as_slice());
                    entries.insert((broadcast.0, dir, name), row)?;
                }
                let mut broadcasts = transaction.open_table(BROADCASTS)?;
                broadcasts.insert(broadcast.0, ([].as_slice(), None, State::Finished as u8))?;
            }
            recount(&transaction)?;
            transaction.commit()?;
            Ok(())
        };
        inner()?;
        self.remake(broadcast, &BTreeSet::new())
    }

    /// The newest records of all names, as they lie there.
    pub(crate) fn records(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let transaction = self.database()?.begin_read()?;
        let names = transaction.open_table(NAMES)?;
        let mut records = Vec::new();
        for row in names.iter()? {
            let (name, record) = row?;
            records.push((name.value().to_owned(), record.value().to_vec()));
        }
        Ok(records)
    }

    pub(crate) fn drop_record(&self, name: &str) -> Result<()> {
        let transaction = self.write()?;
        transaction.open_table(NAMES)?.remove(name)?;
        transaction.commit()?;
        Ok(())
    }
}

/// Drops entries, rows and pins of broadcasts that are not there; returns how many.
fn drop_strays(transaction: &WriteTransaction) -> Result<usize> {
    let broadcasts = transaction.open_table(BROADCASTS)?;
    let mut known = BTreeSet::new();
    for row in broadcasts.iter()? {
        known.insert(row?.0.value());
    }
    let mut count = 0;
    let mut stray = |broadcast: u64| {
        let stray = !known.contains(&broadcast);
        count += usize::from(stray);
        !stray
    };
    let mut entries = transaction.open_table(ENTRIES)?;
    entries.retain(|(broadcast, _, _), _| stray(broadcast))?;
    let mut rows = transaction.open_table(ROWS)?;
    rows.retain(|(broadcast, _), _| stray(broadcast))?;
    let mut pins = transaction.open_table(PINS)?;
    pins.retain(|broadcast, ()| stray(broadcast))?;
    Ok(count)
}

/// Puts the rows of shared blocks right; returns how many were wrong.
fn recount(transaction: &WriteTransaction) -> Result<usize> {
    let mut names = Vec::new();
    for_each_name(
        &transaction.open_table(BROADCASTS)?,
        &transaction.open_table(ENTRIES)?,
        |key| {
            names.push(*key);
            ControlFlow::Continue(())
        },
    )?;
    names.sort_unstable();
    let shared = names.chunk_by(|a, b| a == b).filter(|it| it.len() > 1);
    let mut counted: HashMap<CidKey, u64> = shared.map(|it| (it[0], it.len() as u64)).collect();
    let mut shared = transaction.open_table(SHARED)?;
    let mut rows = Vec::new();
    for row in shared.iter()? {
        let (key, references) = row?;
        let (key, references) = (key.value(), references.value());
        let expected = counted.remove(&key).unwrap_or(0);
        if references != expected {
            rows.push((key, expected));
        }
    }
    rows.extend(counted);
    let wrong = rows.len();
    for (key, references) in rows {
        match references {
            0 => drop(shared.remove(key)?),
            _ => drop(shared.insert(key, references)?),
        }
    }
    Ok(wrong)
}
