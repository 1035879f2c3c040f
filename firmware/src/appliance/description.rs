//! What lies beside a broadcast's playlists: the player, and `broadcast.json`, which says to those who follow the box what it is.

use node::{BroadcastId, Node};
use stream::mirrored::{DESCRIPTION, Description, MOST_EARLIER};
use stream::publication::File;

use super::Meta;
use crate::web;

/// The files of a broadcast that has been begun. It names those before it that the box has now.
pub(crate) async fn beside(node: &Node, id: BroadcastId, meta: &Meta) -> Vec<File> {
    let stored = node.broadcasts().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the broadcast does not say which were before it");
        Vec::new()
    });
    let before = stored.iter().rev().filter(|it| it.id < id);
    let roots = before.filter_map(|it| it.root).take(MOST_EARLIER);
    let mut roots = roots.map(|root| root.to_string());
    let description = Description {
        name: meta.name.clone(),
        started_ms: meta.started_ms,
        first: meta.first.media_sequence,
        previous: roots.next(),
        earlier: roots.collect(),
    };
    let text = serde_json::to_vec(&description).expect("plain data");
    let mut files = web::player();
    files.push(File {
        path: DESCRIPTION.to_owned(),
        parts: vec![text.into()],
    });
    files
}
