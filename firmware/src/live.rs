//! What viewers may see at one moment. The loop makes a new value with every published segment; the gateway only reads.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use serde::Serialize;
use stream::media::Rendition;
use stream::publication::Publication;
use stream::status::Signal;

/// Segments of each rendition that are kept in memory: what a player at the live edge asks for. Older ones are read from
/// the store.
const RECENT: usize = 8;

/// A file as it was published, in memory.
#[derive(Debug, Clone)]
pub(crate) struct RecentFile {
    /// Relative to the broadcast's root.
    pub(crate) path: String,
    pub(crate) cid: Cid,
    pub(crate) parts: Vec<Bytes>,
}

/// A playlist in the words that viewers get.
#[derive(Debug, Clone)]
pub(crate) struct LiveText {
    pub(crate) bytes: Bytes,
    /// Weak: the compressed form has the same (RFC 9110 section 8.8.1).
    pub(crate) etag: String,
}

impl LiveText {
    fn new(text: String) -> LiveText {
        let bytes = Bytes::from(text);
        let leaves = node::Leaf::split(bytes.clone());
        LiveText {
            etag: format!("W/\"{}\"", node::file_cid(&leaves)),
            bytes,
        }
    }
}

/// The broadcast as the HTTP origin shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    pub(crate) public: Public,
    /// Root of the current broadcast, or of the last one.
    pub(crate) root: Option<Cid>,
    pub(crate) index: Option<LiveText>,
    /// Video and audio.
    pub(crate) playlists: [Option<LiveText>; 2],
    recent: VecDeque<Arc<RecentFile>>,
}

/// `/api/v1/public`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Public {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) live: bool,
    /// RFC 3339.
    pub(crate) since: Option<String>,
    pub(crate) title: String,
    /// From the start of the newest segment to its publication.
    pub(crate) latency_ms: Option<u64>,
    pub(crate) ipns: String,
    pub(crate) root: Option<String>,
    pub(crate) root_is_vod: bool,
    pub(crate) signal: Option<Signal>,
}

impl Live {
    /// Takes over what has become durable: the playlists, and the segments just stored.
    pub(crate) fn update(&mut self, publication: &Publication, root: Cid, files: Vec<RecentFile>) {
        self.root = Some(root);
        let text = |playlist: &dyn ToString| LiveText::new(playlist.to_string());
        self.index = publication.origin_index().map(|index| text(&index));
        self.playlists = Rendition::ALL.map(|rendition| {
            publication
                .origin(rendition)
                .map(|playlist| text(&playlist))
        });
        self.recent.extend(files.into_iter().map(Arc::new));
        while self.recent.len() > RECENT * Rendition::ALL.len() {
            self.recent.pop_front();
        }
    }

    /// A file of the current broadcast, if it is among the newest.
    pub(crate) fn recent(&self, path: &str) -> Option<Arc<RecentFile>> {
        (self.recent.iter().rev())
            .find(|file| file.path == path)
            .cloned()
    }

    /// Another broadcast begins: what was recent belongs to the one before.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }
}
