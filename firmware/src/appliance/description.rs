//! `broadcast.json`: what a broadcast's directory says of itself, for those who follow the box.

use stream::mirrored::{DESCRIPTION, Description};
use stream::publication::File;

use super::Meta;

/// The file, with the root of the broadcast before as it is known now.
pub(super) fn file(meta: &Meta, previous: Option<String>) -> File {
    let description = Description {
        name: meta.name.clone(),
        started_ms: meta.started_ms,
        first: meta.first.media_sequence,
        previous,
    };
    let text = serde_json::to_vec(&description).expect("plain data");
    File {
        path: DESCRIPTION.to_owned(),
        parts: vec![text.into()],
    }
}
