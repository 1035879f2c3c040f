//! What opening finds: the journal against the blocks that are there.

use std::collections::HashSet;
use std::sync::Arc;

use cid::Cid;
use tokio::sync::watch;

use crate::cids::Lengths;
use crate::journal::{Journal, State};
use crate::store::BlockStore;
use crate::writer::Inherited;
use crate::{BroadcastId, StoreError, in_journal};

/// What was found when the node opened.
#[derive(Debug, Clone, Default)]
pub struct Recovered {
    /// Oldest first.
    pub broadcasts: Vec<RecoveredBroadcast>,
    /// Unfinished `*.tmp` files, removed.
    pub removed_temporary: usize,
    /// Directory blocks that were missing and have been made again from the journal.
    pub repaired_directories: usize,
    /// Files with blocks that are missing or that cannot be listed: a broken disk. At most [`MAX_REPORTED`].
    pub missing: Vec<MissingFile>,
}

/// Files beyond this number are counted in the log only: a store that was emptied by hand misses all of them.
pub const MAX_REPORTED: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredBroadcast {
    pub id: BroadcastId,
    /// As given to [`Node::begin`](crate::Node::begin).
    pub meta: Vec<u8>,
    /// Of the newest broadcast only; [`Node::rows`](crate::Node::rows) reads those of another.
    pub rows: Vec<Vec<u8>>,
    /// Absent when nothing has been published.
    pub root: Option<Cid>,
    pub finished: bool,
}

/// A file that cannot be read in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    pub broadcast: BroadcastId,
    pub path: String,
    pub cid: Cid,
}

/// Makes journal and store agree. Removes nothing: what no commit names is garbage of an earlier process, which a follower may still
/// be walking, what a fetch has brought, or what a crash in the middle of an update has left. Nobody can tell them apart.
pub(crate) async fn reconcile(
    store: &dyn BlockStore,
    journal: &Arc<Journal>,
    listed: Lengths,
) -> Result<(Recovered, Inherited), StoreError> {
    let mut recovered = Recovered::default();

    let found = in_journal::<_, StoreError>(journal, move |journal| {
        let named = journal.named_blocks()?;
        let garbage: Vec<(Cid, u64)> = (listed.iter())
            .filter(|(cid, _)| !named.contains(cid))
            .collect();
        let stored_bytes: u64 = listed.iter().map(|(_, length)| length).sum();
        let lost = named.iter().filter(|cid| listed.of(cid).is_none());
        let lost: Vec<Cid> = lost.collect();
        drop(named);
        let mut missing: HashSet<Cid> = lost.iter().copied().collect();
        // Of what a failed disk has left in doubt.
        let wrong = journal.recount(true)?;
        if wrong > 0 {
            tracing::warn!(rows = wrong, "references counted anew");
        }
        // Cut off: as good as not there.
        journal.for_each_file(|_, _, blocks, bytes| {
            let lengths = blocks.iter().map(|block| listed.of(block));
            if lengths.sum::<Option<u64>>().is_some_and(|sum| sum != bytes) {
                missing.insert(blocks[0]);
            }
        })?;
        let directories = match missing.is_empty() {
            true => Vec::new(),
            false => journal.directories(|cid| missing.contains(cid))?,
        };
        Ok((garbage, lost, missing, directories, stored_bytes))
    });
    let (garbage, lost, mut missing, directories, mut stored_bytes) = found.await?;

    for (cid, bytes) in &directories {
        // Broadcasts may have the same one.
        if missing.remove(cid) {
            recovered.repaired_directories += 1;
            stored_bytes += bytes.len() as u64;
        }
    }
    if !directories.is_empty() {
        store.put(directories).await?;
    }
    let lost = lost.into_iter().filter(|cid| missing.contains(cid));
    store.lose(&lost.collect::<Vec<_>>());

    let summary = in_journal::<_, StoreError>(journal, move |journal| {
        let mut files = Vec::new();
        let mut count = 0;
        if !missing.is_empty() {
            journal.for_each_file(|broadcast, path, blocks, _| {
                if blocks.iter().any(|block| missing.contains(block)) {
                    count += 1;
                    if files.len() < MAX_REPORTED {
                        files.push(MissingFile {
                            broadcast,
                            path,
                            cid: blocks[0],
                        });
                    }
                }
            })?;
        }
        let (deleting, kept): (Vec<_>, Vec<_>) = journal
            .broadcasts()?
            .into_iter()
            .partition(|broadcast| broadcast.state == State::Deleting);
        let newest = match kept.last() {
            Some(newest) => journal.rows(newest.id)?,
            None => Vec::new(),
        };
        Ok((files, count, deleting, kept, newest))
    });
    let (files, count, deleting, kept, newest) = summary.await?;
    if count > 0 {
        tracing::error!(
            files = count,
            "blocks are missing from the store: check the disk"
        );
    }
    recovered.missing = files;
    recovered.broadcasts = kept
        .into_iter()
        .map(|b| RecoveredBroadcast {
            id: b.id,
            meta: b.meta,
            rows: Vec::new(),
            root: b.root,
            finished: b.state == State::Finished,
        })
        .collect();
    if let Some(last) = recovered.broadcasts.last_mut() {
        last.rows = newest;
    }
    let deleting = deleting.into_iter().map(|broadcast| broadcast.id).collect();
    let newest = recovered.broadcasts.iter().rev();
    let newest = newest.filter_map(|b| Some((b.id, b.root?))).next();
    Ok((
        recovered,
        Inherited {
            garbage,
            deleting,
            stored_bytes,
            newest,
            record: watch::Sender::default(),
            lock: None,
            spares_recordings: false,
        },
    ))
}
