//! What the publication says in the node's words, and the other way round.

use std::sync::Arc;

use node::{BroadcastId, Leaf, NewFile, StoreError};
use stream::broadcast::Cause;
use stream::publication::Update;

use crate::live::{RecentFile, RecentFiles};

/// An update in the node's words, but for the broadcast that it is of.
pub(super) struct ToNode {
    row: Option<Vec<u8>>,
    files: Vec<NewFile>,
    finish: bool,
}

impl ToNode {
    pub(super) fn of(self, broadcast: BroadcastId) -> node::Update {
        let ToNode { row, files, finish } = self;
        node::Update {
            broadcast,
            row,
            files,
            finish,
        }
    }
}

/// Translates an update into the node's words; also says which of its files viewers will ask for next.
pub(super) fn to_node(update: Update) -> anyhow::Result<(ToNode, Option<RecentFiles>)> {
    let mut recent = Vec::new();
    let files = update
        .files
        .into_iter()
        .map(|file| {
            // A part is a leaf: hashed here once, never copied.
            let leaves: Vec<Leaf> = file.parts.iter().cloned().flat_map(Leaf::split).collect();
            if file.path.ends_with(".m4s") || file.path.ends_with(".mp4") {
                recent.push(Arc::new(RecentFile {
                    path: file.path.clone(),
                    cid: node::file_cid(&leaves),
                    parts: file.parts,
                }));
            }
            NewFile {
                path: file.path,
                leaves,
                keep: None,
            }
        })
        .chain(update.tails.into_iter().map(|tail| NewFile {
            path: tail.path,
            leaves: tail.leaves.into_iter().flat_map(Leaf::split).collect(),
            keep: Some(tail.keep),
        }))
        .collect();
    let recent = update.row.as_ref().map(|row| RecentFiles {
        media_sequence: row.media_sequence,
        files: recent,
    });
    let row = update.row.map(|row| serde_json::to_vec(&row)).transpose()?;
    let finish = update.finish;
    Ok((ToNode { row, files, finish }, recent))
}

pub(super) fn store_cause(error: &StoreError) -> Cause {
    match error {
        StoreError::DiskFull => Cause::DiskFull,
        StoreError::Full { .. } | StoreError::PinsFull { .. } => Cause::StoreFull,
        error => Cause::Store(error.to_string()),
    }
}
