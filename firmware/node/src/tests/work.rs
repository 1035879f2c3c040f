//! What the store writes for a segment, however long the broadcast is.

use std::time::Duration;

use bytes::Bytes;
use stream::media::{MediaDuration, Rendition};
use stream::playlist::Picture;
use stream::publication::{self, Inits, Numbers, Publication, Row, Settings, Video, segment_path};
use stream::segmenter::{InitSegment, MediaSegment, Output, PartialSegment};

use super::disk::Disk;
use super::{CACHE_BYTES, open_with_cache, read_all, update};
use crate::{BroadcastId, Leaf, NewFile, Node, Update};

const SETTINGS: Settings = Settings {
    segment: Duration::from_secs(2),
    part: Duration::from_millis(334),
    window: 30,
    video: Video {
        bitrate: 3_000_000,
        picture: Picture {
            resolution: (1280, 720),
            frame_rate: 30.0,
        },
    },
    low: None,
    audio_bitrate: 128_000,
    inits: Inits::InDirectories,
};

const RENDITIONS: [Rendition; 2] = [Rendition::Video, Rendition::Audio];
/// As long as a row of the box is.
const ROW: [u8; 400] = [b'r'; 400];
/// One part a segment of a few bytes: what is counted is what comes on top of the media.
const MEDIA_BLOCKS: usize = 2;

fn media(rendition: Rendition, number: u64) -> Bytes {
    format!("{} {number}", rendition.name()).into()
}

fn duration(rendition: Rendition) -> MediaDuration {
    // Sound does not end with the picture, so that the playlists differ.
    let ticks = match rendition {
        Rendition::Audio => 95_232,
        _ => 180_000,
    };
    MediaDuration {
        ticks,
        timescale: rendition.timescale(),
    }
}

/// The rows before segment `number`.
fn rows(number: u64) -> Vec<Row> {
    let row = |media_sequence| Row {
        media_sequence,
        run: 0,
        discontinuity: false,
        codecs: RENDITIONS.map(|it| it.name().to_owned()).into(),
        program_date_time_ms: Some(1_795_365_000_000 + media_sequence * 2000),
        published_ms: Some(1_795_365_002_000 + media_sequence * 2000),
        durations: RENDITIONS.map(duration).into(),
        sizes: vec![750_000, 32_000],
    };
    (0..number).map(row).collect()
}

fn to_node(broadcast: BroadcastId, update: publication::Update) -> Update {
    let leaves = |parts: Vec<Bytes>| parts.into_iter().flat_map(Leaf::split).collect();
    let files = update.files.into_iter().map(|file| NewFile {
        path: file.path,
        leaves: leaves(file.parts),
        keep: None,
    });
    let tails = update.tails.into_iter().map(|tail| NewFile {
        path: tail.path,
        leaves: leaves(tail.leaves),
        keep: Some(tail.keep),
    });
    Update {
        broadcast,
        row: update.row.map(|_| ROW.to_vec()),
        files: files.chain(tails).collect(),
        finish: update.finish,
    }
}

/// A whole segment of a rendition.
fn push(
    publication: &mut Publication,
    rendition: Rendition,
    number: u64,
    segment: u64,
    parts: Vec<Bytes>,
) {
    let whole = duration(rendition);
    let count = parts.len() as u64;
    for (index, bytes) in parts.into_iter().enumerate() {
        let part = PartialSegment {
            rendition,
            segment,
            index: index as u32,
            start: Duration::from_secs(2 * number),
            duration: MediaDuration {
                ticks: whole.ticks / count,
                ..whole
            },
            independent: true,
            bytes,
        };
        publication.push(Output::Part(part), |_| None);
    }
    let segment = MediaSegment {
        rendition,
        segment,
        start: Duration::from_secs(2 * number),
        duration: whole,
    };
    publication.push(Output::Segment(segment), |_| None);
}

/// A broadcast, and the store that it is in.
pub(super) struct Broadcast {
    pub(super) node: Node,
    id: BroadcastId,
    publication: Publication,
    /// The next one's number, and how many of this life there are.
    next: (u64, u64),
}

impl Broadcast {
    /// With all that a box has stored after so many segments: directories, rows, and one segment of the life that goes on.
    pub(super) async fn with_segments(disk: &Disk, count: u64, cache_bytes: usize) -> Broadcast {
        let opened = open_with_cache(disk, 1 << 30, cache_bytes).await;
        let (node, _) = opened.unwrap();
        let id = node.begin(vec![]).await.unwrap();
        let numbers: Vec<u64> = (0..count - 1).collect();
        for some in numbers.chunks(1000) {
            let files = some.iter().flat_map(|&number| {
                RENDITIONS.map(|it| NewFile::new(segment_path(it, number), media(it, number)))
            });
            node.publish(update(id, files.collect())).await.unwrap();
        }
        let stored = numbers.iter().map(|_| ROW.to_vec()).collect();
        node.replace_rows(id, stored).await.unwrap();
        let mut publication =
            Publication::recovered(SETTINGS, Numbers::default(), rows(count - 1), false);
        publication.begin_run();
        for rendition in RENDITIONS {
            publication.push(
                Output::Init(InitSegment {
                    rendition,
                    codec: rendition.name().to_owned(),
                    bytes: Bytes::from_static(b"init"),
                }),
                |_| None,
            );
        }
        let mut broadcast = Broadcast {
            node,
            id,
            publication,
            next: (count - 1, 0),
        };
        // The first update of a life writes the event playlists anew; the next one is as all others.
        broadcast
            .publish(|rendition, number| vec![media(rendition, number)])
            .await;
        broadcast
    }

    /// Another segment, of these parts.
    pub(super) async fn publish(
        &mut self,
        parts: impl Fn(Rendition, u64) -> Vec<Bytes>,
    ) -> cid::Cid {
        let (number, segment) = self.next;
        self.next = (number + 1, segment + 1);
        for rendition in RENDITIONS {
            push(
                &mut self.publication,
                rendition,
                number,
                segment,
                parts(rendition, number),
            );
        }
        let next = self.publication.next_update().expect("a segment is ready");
        let published = self.node.publish(to_node(self.id, next)).await.unwrap();
        self.publication.stored();
        published.root
    }
}

/// Blocks, their bytes, and bytes of the journal for segment `number` of a broadcast.
async fn work(number: u64) -> (usize, usize, u64) {
    let disk = Disk::new();
    let mut broadcast = Broadcast::with_segments(&disk, number, CACHE_BYTES).await;
    disk.written();
    let root = broadcast
        .publish(|rendition, number| vec![media(rendition, number)])
        .await;
    let written = disk.written();
    let event = &read_all(&broadcast.node, root).await.unwrap()["video/event.m3u8"];
    let listed = event.windows(8).filter(|it| it == b"#EXTINF:").count() as u64;
    assert_eq!(listed, number + 1);
    written
}

/// 15,000 is eight hours and twenty minutes.
#[tokio::test(start_paused = true)]
async fn the_work_for_a_segment_does_not_grow_with_the_broadcast() {
    let mut journals = Vec::new();
    // Measured: 6.8, 38.9 and 37.3 kB, which depends on how full the directories and leaves are that are written anew; and of the
    // journal 41, 152 and 205 kB, which are the pages that the changed rows of its tables lie in, and those above them.
    for (number, most_bytes, most_journal) in [
        (10, 7_000, 43_000),
        (1000, 40_000, 158_000),
        (15_000, 38_500, 213_000),
    ] {
        let (blocks, bytes, journal) = work(number).await;
        #[expect(clippy::print_stderr, reason = "a measurement")]
        {
            eprintln!("segment {number}: {blocks} blocks, {bytes} bytes, {journal} of the journal");
        }
        // Of each rendition a directory of segments and its own, live.m3u8, and three of event.m3u8; two playlists of playlists
        // and the root.
        assert_eq!(
            blocks - MEDIA_BLOCKS,
            2 * 6 + 3,
            "blocks for segment {number}"
        );
        assert!(bytes < most_bytes, "{bytes} bytes for segment {number}");
        assert!(
            journal < most_journal,
            "{journal} bytes of the journal for segment {number}"
        );
        journals.push((number as f64, journal as f64));
    }
    // A B-tree gets another level for so many times as many rows: for each doubling the work grows by no more than it did before. Six
    // bytes more for each segment that there is would be more than that.
    let per_doubling = |from: (f64, f64), to: (f64, f64)| (to.1 - from.1) / (to.0 / from.0).log2();
    let early = per_doubling(journals[0], journals[1]);
    let late = per_doubling(journals[1], journals[2]);
    assert!(
        late <= early * 1.1,
        "{late} bytes for a doubling after {early}"
    );
}
