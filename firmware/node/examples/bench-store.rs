//! What the store writes for a stream of 3 Mbit/s with 128 kbit/s of sound, on the disk of the working directory:
//! `make bench-store`, which counts the syncs with strace.

use std::io::Write as _;
use std::time::{Instant, SystemTime};

use node::{Budgets, Leaf, NewFile, Node, Update};

/// Of 2 s, each.
const SEGMENTS: u64 = 300;
const PARTS: u64 = 6;
const VIDEO_PART: usize = 125_000;
const AUDIO_PART: usize = 5_333;
/// A sliding playlist of 30 segments.
const PLAYLIST: usize = 2600;
/// A playlist of playlists.
const INDEX: usize = 600;

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn segment(rendition: &str, bytes: usize, index: u64) -> NewFile {
    let parts = (0..PARTS).map(|part| noise(bytes, index * 100 + part + bytes as u64));
    NewFile {
        path: format!("{rendition}/{:04}/{index}.m4s", index / 256),
        leaves: parts.flat_map(|part| Leaf::split(part.into())).collect(),
        keep: None,
    }
}

/// A playlist that only grows, of leaves of 64 segments.
fn event(path: &str, index: u64) -> NewFile {
    let last = (index % 64 + 1) as usize * 90;
    NewFile {
        path: path.to_owned(),
        leaves: Leaf::split(noise(last, index + path.len() as u64).into()),
        keep: Some((index / 64) as usize),
    }
}

/// Bytes given to the kernel, and bytes that it has to write.
fn written() -> std::io::Result<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/io")?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|value| value.trim().parse().ok())
            .unwrap_or(0)
    };
    Ok((value("wchar:"), value("write_bytes:")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir_in(".")?;
    let clock = || Some(SystemTime::now());
    let (node, _) = Node::offline(dir.path(), Budgets::UNLIMITED, clock).await?;
    let broadcast = node.begin(Vec::new()).await?;
    let before = written()?;
    let mut waits = Vec::new();
    let mut media = 0;
    for index in 0..SEGMENTS {
        let text = |name: &str, bytes, seed| NewFile::new(name, noise(bytes, seed + index));
        let files = vec![
            segment("video", VIDEO_PART, index),
            segment("audio", AUDIO_PART, index),
            text("video/live.m3u8", PLAYLIST, 1 << 32),
            text("audio/live.m3u8", PLAYLIST, 1 << 33),
            text("index.m3u8", INDEX, 1 << 34),
            text("event.m3u8", INDEX, 1 << 35),
            event("video/event.m3u8", index),
            event("audio/event.m3u8", index),
        ];
        media += PARTS * (VIDEO_PART + AUDIO_PART) as u64;
        let update = Update {
            broadcast,
            row: Some(noise(400, index)),
            files,
            finish: false,
        };
        let asked = Instant::now();
        node.publish(update).await?;
        waits.push(asked.elapsed());
    }
    let after = written()?;
    node.shutdown().await;
    waits.sort();
    let share = |bytes: u64| bytes as f64 / media as f64;
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{SEGMENTS} segments of 2 s, {} MB of media",
        media / 1_000_000
    )?;
    writeln!(
        out,
        "given to the kernel per byte of media: {:.3}",
        share(after.0 - before.0)
    )?;
    writeln!(
        out,
        "written by the kernel per byte of media, in whole pages: {:.3}",
        share(after.1 - before.1)
    )?;
    let at = |percent: usize| waits[waits.len() * percent / 100].as_millis();
    writeln!(
        out,
        "from segment complete to durable: median {} ms, 95 % {} ms",
        at(50),
        at(95)
    )?;
    Ok(())
}
