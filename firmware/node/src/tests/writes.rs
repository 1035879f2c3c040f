//! What is written to the disk for each byte of media.

use bytes::Bytes;
use stream::media::Rendition;

use super::disk::Disk;
use super::work::Broadcast;

/// Of 2 s at 3 Mbit/s with 128 kbit/s of sound.
const PARTS: u64 = 6;
const VIDEO_PART: usize = 125_000;
const AUDIO_PART: usize = 5_333;
/// The directory of segments is full every 256 of them.
const MEASURED: u64 = 256;

fn parts(rendition: Rendition, number: u64, video_part: usize) -> Vec<Bytes> {
    let bytes = match rendition {
        Rendition::Audio => AUDIO_PART,
        _ => video_part,
    };
    let part = |part: u64| -> Bytes {
        let mut bytes = vec![part as u8; bytes];
        let name = format!("{} {number} {part}", rendition.name());
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes.into()
    };
    (0..PARTS).map(part).collect()
}

/// Of blocks and of the journal for a byte of media, and syncs a segment, after so many segments.
async fn written(count: u64, video_part: usize) -> (f64, f64, f64) {
    let disk = Disk::new();
    // The box's own cache: with the tests' small one redb writes some pages twice.
    let cache = crate::journal::CACHE_BYTES;
    let mut broadcast = Broadcast::with_segments(&disk, count, cache).await;
    let before = disk.traffic();
    for _ in 0..MEASURED {
        broadcast
            .publish(|rendition, number| parts(rendition, number, video_part))
            .await;
    }
    let after = disk.traffic();
    let media = MEASURED * PARTS * (video_part + AUDIO_PART) as u64;
    let share = |bytes: u64| bytes as f64 / media as f64;
    let syncs = (after.syncs - before.syncs) as f64 / MEASURED as f64;
    broadcast.node.shutdown().await;
    (
        share(after.block_bytes - before.block_bytes),
        share(after.journal_bytes - before.journal_bytes),
        syncs,
    )
}

/// 15,000 segments are eight hours and twenty minutes, 21,600 are twelve hours.
#[tokio::test(start_paused = true)]
async fn little_more_is_written_than_there_is_media() {
    // What comes on top is the same for a segment of half the bytes, and so a greater share of it.
    for (count, video_part, most) in [
        (10, VIDEO_PART, 1.15),
        (1000, VIDEO_PART, 1.15),
        (15_000, VIDEO_PART, 1.15),
        (21_600, VIDEO_PART, 1.15),
        (15_000, VIDEO_PART / 2, 1.3),
    ] {
        let (blocks, journal, syncs) = written(count, video_part).await;
        #[expect(clippy::print_stderr, reason = "a measurement")]
        {
            eprintln!(
                "after {count} segments of 6 x {video_part} bytes {:.3} bytes are written for a byte of media: {blocks:.3} blocks, {journal:.3} journal; {syncs:.2} syncs a segment",
                blocks + journal
            );
        }
        assert!(blocks + journal <= most, "{blocks} + {journal} at {count}");
        // Of the blocks and of the journal; garbage costs none.
        assert!(syncs <= 2.1, "{syncs} at {count}");
    }
}
