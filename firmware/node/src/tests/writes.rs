//! What is written to the disk for each byte of media.

use std::fmt::Write as _;

use bytes::Bytes;

use super::disk::Disk;
use super::open_with_cache;
use crate::{Leaf, NewFile, Update};

/// Of 2 s at 3 Mbit/s with 128 kbit/s of sound.
const PARTS: u64 = 6;
const VIDEO_PART: usize = 125_000;
const AUDIO_PART: usize = 5_333;
/// Segments in a sliding playlist.
const WINDOW: u64 = 30;
/// The directory of segments is full every 256 of them.
const BEFORE: u64 = 10;
const MEASURED: u64 = 256;

fn segment(rendition: &str, bytes: usize, index: u64) -> NewFile {
    let part = |part: u64| -> Bytes {
        let mut bytes = vec![part as u8; bytes];
        let name = format!("{rendition} {index} {part}");
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes.into()
    };
    NewFile {
        path: format!("{rendition}/{:04}/{index}.m4s", index / 256),
        leaves: (0..PARTS).flat_map(|it| Leaf::split(part(it))).collect(),
        keep: None,
    }
}

fn playlist(rendition: &str, index: u64) -> NewFile {
    let mut text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{index}\n");
    for index in index..index + WINDOW {
        let _ = write!(
            text,
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:{index:06}Z\n#EXTINF:2.000000,\n0000/{index}.m4s\n"
        );
    }
    NewFile::new(format!("{rendition}/live.m3u8"), text)
}

#[tokio::test(start_paused = true)]
async fn little_more_is_written_than_there_is_media() {
    let disk = Disk::new();
    // The box's own cache: with the tests' small one redb writes some pages twice.
    let opened = open_with_cache(&disk, 1 << 30, crate::journal::CACHE_BYTES).await;
    let (node, _) = opened.unwrap();
    let broadcast = node.begin(vec![]).await.unwrap();
    let mut before = disk.traffic();
    let mut media = 0;
    for index in 0..BEFORE + MEASURED {
        if index == BEFORE {
            (before, media) = (disk.traffic(), 0);
        }
        let files = vec![
            segment("video", VIDEO_PART, index),
            segment("audio", AUDIO_PART, index),
            playlist("video", index),
            playlist("audio", index),
            NewFile::new("index.m3u8", format!("#EXTM3U {}", "bandwidth ".repeat(40))),
        ];
        media += PARTS * (VIDEO_PART + AUDIO_PART) as u64;
        let row = Some(vec![b'r'; 400]);
        let update = Update {
            broadcast,
            row,
            files,
            finish: false,
        };
        node.publish(update).await.unwrap();
    }
    let after = disk.traffic();
    let share = |bytes: u64| bytes as f64 / media as f64;
    let blocks = share(after.block_bytes - before.block_bytes);
    let journal = share(after.journal_bytes - before.journal_bytes);
    let syncs = (after.syncs - before.syncs) as f64 / MEASURED as f64;
    #[expect(clippy::print_stderr, reason = "a measurement")]
    {
        eprintln!(
            "written per byte of media: {:.3} ({blocks:.3} blocks, {journal:.3} journal); {syncs:.2} syncs a segment",
            blocks + journal
        );
    }
    // The journal's pages of 4 KiB are most of it.
    assert!(blocks <= 1.05, "{blocks}");
    assert!(blocks + journal <= 1.15, "{blocks} + {journal}");
    // Of the blocks and of the journal; garbage costs none.
    assert!(syncs <= 2.1, "{syncs}");
    node.shutdown().await;
}
