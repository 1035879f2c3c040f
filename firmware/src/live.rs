//! What viewers may see at one moment. The loop makes a new value with every part and every stored segment; the gateway only
//! reads, and waits for the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use serde::Serialize;
use stream::low_latency::{Edge, SEGMENTS_WITH_PARTS};
use stream::media::Rendition;
use stream::publication::{PartName, Publication};
use stream::status::Signal;

/// Segments that are kept in memory: what a player at the live edge asks for. Older ones are read from the store, if they are
/// there.
const RECENT: u64 = 8;

/// A file as it was published, in memory.
#[derive(Debug, Clone)]
pub(crate) struct RecentFile {
    /// Relative to the broadcast's root.
    pub(crate) path: String,
    pub(crate) cid: Cid,
    pub(crate) parts: Vec<Bytes>,
}

/// The files of one segment: of each rendition, with the init segment where that is not stored.
#[derive(Debug, Clone)]
pub(crate) struct RecentFiles {
    pub(crate) media_sequence: u64,
    pub(crate) files: Vec<Arc<RecentFile>>,
}

/// A playlist in the words that viewers get.
#[derive(Debug, Clone)]
pub(crate) struct LiveText {
    pub(crate) bytes: Bytes,
    /// Weak: the compressed form has the same (RFC 9110 section 8.8.1).
    pub(crate) etag: String,
}

impl LiveText {
    pub(crate) fn new(text: String) -> LiveText {
        let bytes = Bytes::from(text);
        let leaves = node::Leaf::split(bytes.clone());
        LiveText {
            etag: format!("W/\"{}\"", node::file_cid(&leaves)),
            bytes,
        }
    }
}

/// A rendition's playlist, and what comes after it.
#[derive(Debug, Clone)]
pub(crate) struct LivePlaylist {
    pub(crate) full: LiveText,
    /// Without what a player knows that asks for it.
    pub(crate) delta: LiveText,
    pub(crate) edge: Edge,
    /// Path of the part that is announced as the next one, from `/live/`.
    pub(crate) hint: Option<String>,
    /// Seconds.
    pub(crate) target_duration: u64,
}

/// The broadcast as the HTTP origin shows it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {
    pub(crate) public: Public,
    /// Root of the current broadcast, or of the last one.
    pub(crate) root: Option<Cid>,
    pub(crate) index: Option<LiveText>,
    /// Of each [`Rendition`], where there is one.
    pub(crate) playlists: [Option<LivePlaylist>; Rendition::ALL.len()],
    /// By media sequence number. Numbers are global, so those of another broadcast do no harm.
    recent: BTreeMap<u64, Vec<Arc<RecentFile>>>,
    /// Number of the newest of these that is stored, and so can be had by others.
    stored: Option<u64>,
    /// What was listed, or may be asked for next.
    parts: BTreeMap<(Rendition, PartName), Bytes>,
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
    /// Of a mirror only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<Mirroring>,
}

/// What a mirror says of the box that it follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Mirroring {
    /// The box's name.
    pub(crate) of: String,
    /// Nothing has come from the box for a quarter of a minute, although it is on air; or, off air, nobody is connected.
    pub(crate) gone: bool,
    /// For how long something newer has been known than what is served; 0 if nothing is.
    pub(crate) behind_ms: u64,
    /// Start of the newest segment, RFC 3339.
    pub(crate) newest: Option<String>,
    /// Earlier broadcasts that are still to come.
    pub(crate) catching_up: bool,
    /// Roots of earlier broadcasts that the box no longer has, or that do not fit here.
    pub(crate) missing: Vec<String>,
}

impl Live {
    /// Takes over what has been published: the playlists, and the files of the segment. `root` is the broadcast's directory, if
    /// the store has taken them.
    pub(crate) fn update(
        &mut self,
        publication: &Publication,
        root: Option<Cid>,
        files: Option<RecentFiles>,
    ) {
        self.root = root.or(self.root);
        let index = publication.origin_index();
        self.index = index.map(|index| LiveText::new(index.to_string()));
        if let Some(RecentFiles {
            media_sequence,
            files,
        }) = files
        {
            if root.is_some() {
                self.stored = Some(media_sequence);
            }
            self.recent.insert(media_sequence, files);
            (self.recent)
                .retain(|number, _| number + RECENT > media_sequence || publication.keeps(*number));
        }
        self.follow(publication);
    }

    /// Takes over the parts that have come, and the playlists that list them.
    pub(crate) fn follow(&mut self, publication: &Publication) {
        // A broadcast that has no segment yet leaves the one before on show.
        if !publication.on_show() {
            return;
        }
        let mut listed = u64::MAX;
        for part in publication.origin_parts() {
            listed = listed.min(part.name.media_sequence);
            let key = (part.rendition, part.name);
            self.parts.entry(key).or_insert_with(|| part.bytes.clone());
        }
        // What was listed stays for as long again (rfc8216bis 6.2.2).
        if listed < u64::MAX {
            let oldest = listed.saturating_sub(SEGMENTS_WITH_PARTS as u64);
            self.parts
                .retain(|(_, name), _| name.media_sequence >= oldest);
        }
        self.playlists = Rendition::ALL.map(|rendition| {
            let origin = publication.origin(rendition)?;
            Some(LivePlaylist {
                full: LiveText::new(origin.full()),
                delta: LiveText::new(origin.delta()),
                edge: origin.edge()?,
                target_duration: origin.playlist.target_duration,
                hint: origin.preload_hint,
            })
        });
    }

    /// A part near the live edge.
    pub(crate) fn part(&self, rendition: Rendition, name: PartName) -> Option<Bytes> {
        self.parts.get(&(rendition, name)).cloned()
    }

    /// A file of the current broadcast, if it is among the newest.
    pub(crate) fn recent(&self, path: &str) -> Option<Arc<RecentFile>> {
        (self.recent.values().rev().flatten())
            .find(|file| file.path == path)
            .cloned()
    }

    /// The newest segment of the video that is stored, and its number.
    pub(crate) fn newest(&self) -> Option<(u64, Arc<RecentFile>)> {
        let number = self.stored?;
        let files = self.recent.get(&number)?.iter();
        let mut files = files.filter(|file| file.path.ends_with(".m4s"));
        let video = files.find(|file| {
            let rendition = file.path.split_once('/');
            rendition.is_some_and(|(rendition, _)| rendition == Rendition::Video.name())
        });
        video.map(|file| (number, file.clone()))
    }
}
