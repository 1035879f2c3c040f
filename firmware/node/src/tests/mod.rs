//! The node over a disk in memory.

mod adopt;
mod budgets;
mod crash;
mod disk;
mod faults;
mod fsck;
mod kernel;
mod kills;
mod model;
mod rules;
mod work;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;

use crate::journal::{Opener, State};
use crate::writer::GRACE;
use crate::{
    Allowance, BroadcastId, Budgets, NewFile, Node, OpenError, Recovered, Resolved, Update,
};
use disk::Disk;

/// Small, so that redb's cache does not hide its reads.
const CACHE_BYTES: usize = 64 << 10;

/// Everything together; the broadcast on air has no room of its own.
impl From<u64> for Allowance {
    fn from(limit_bytes: u64) -> Allowance {
        Budgets::new(limit_bytes, 0).into()
    }
}

async fn open(
    disk: &Disk,
    allowance: impl Into<Allowance>,
) -> Result<(Node, Recovered), OpenError> {
    open_with_cache(disk, allowance, CACHE_BYTES).await
}

async fn open_with_cache(
    disk: &Disk,
    allowance: impl Into<Allowance>,
    cache_bytes: usize,
) -> Result<(Node, Recovered), OpenError> {
    let file = disk.clone();
    let opener: Opener = Box::new(move || {
        redb::Builder::new()
            .set_cache_size(cache_bytes)
            .create_with_backend(file.clone())
    });
    let store = Arc::new(disk.clone());
    if !disk.has_journal() {
        crate::require_empty(Path::new("/memory"), disk).await?;
        disk.create_journal()
            .map_err(|source| OpenError::io(Path::new("/memory"), source))?;
    }
    let signer = disk.signer();
    let opened = crate::start(
        Path::new("/memory"),
        store,
        opener,
        allowance.into(),
        signer,
        None,
    )
    .await;
    let (shared, recovered) = opened?;
    Ok((
        Node {
            shared: Arc::new(shared),
        },
        recovered,
    ))
}

fn update(broadcast: BroadcastId, files: Vec<NewFile>) -> Update {
    Update {
        broadcast,
        row: None,
        files,
        finish: false,
    }
}

/// Everything below a root: path to content.
async fn read_all(node: &Node, root: Cid) -> Result<BTreeMap<String, Bytes>, crate::ReadError> {
    let mut files = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(path) = pending.pop() {
        match node.resolve(root, &path).await? {
            Resolved::File { cid, size } => {
                let pieces: Vec<Bytes> = node.read(cid, 0..u64::MAX).try_collect().await?;
                let content: Bytes = pieces.concat().into();
                assert_eq!(content.len() as u64, size, "{path}");
                files.insert(path, content);
            }
            Resolved::Directory { entries, .. } => {
                assert!(
                    entries.is_sorted_by(|a, b| a.name < b.name),
                    "{path}: {entries:?}"
                );
                pending.extend(
                    entries
                        .iter()
                        .map(|entry| crate::path::join(&path, &entry.name)),
                );
            }
        }
    }
    Ok(files)
}

/// Waits until all garbage has left: what is there is what is named.
async fn collected(node: &Node, disk: &Disk) {
    tokio::time::sleep(2 * GRACE).await;
    counted(node, disk).await;
    let broadcasts = node.shared.journal.broadcasts().unwrap();
    let going = (broadcasts.iter()).find(|it| it.state == State::Deleting);
    assert!(going.is_none(), "{going:?} has been forgotten");
    let named = node.shared.journal.named_blocks().unwrap();
    let blocks = disk.blocks();
    assert!(
        blocks.keys().all(|cid| named.contains(cid)),
        "something stays that nothing names"
    );
}

/// Waits until the node counts what the disk holds. Garbage may just be leaving.
async fn counted(node: &Node, disk: &Disk) {
    let mut stats = node.stats();
    let counted = stats.wait_for(|stats| stats.stored_bytes == disk.block_bytes());
    // Virtual time.
    let settled = tokio::time::timeout(Duration::from_secs(30), counted).await;
    settled.expect("what is counted is what is there").unwrap();
}
