//! What the store writes for a stream of 3 Mbit/s with 128 kbit/s of sound, on the disk of the working directory:
//! `make bench-store`, which counts the syncs with strace. With the argument `full` the store is full, and a recording of the same
//! length has to go meanwhile.

use std::io::Write as _;
use std::time::{Instant, SystemTime};

use node::{BroadcastId, Budgets, Leaf, NewFile, Node, StoreError, Update};

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

/// Two broadcasts share no bytes.
fn segment(rendition: &str, bytes: usize, index: u64, broadcast: u64) -> NewFile {
    let seed = (broadcast << 40) + index * 100 + bytes as u64;
    let parts = (0..PARTS).map(|part| noise(bytes, seed + part));
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

/// Publishes a segment with all its playlists. Bytes of its media.
async fn publish(
    node: &Node,
    broadcast: BroadcastId,
    index: u64,
    which: u64,
) -> Result<u64, StoreError> {
    let text = |name: &str, bytes, seed| NewFile::new(name, noise(bytes, seed + index));
    let files = vec![
        segment("video", VIDEO_PART, index, which),
        segment("audio", AUDIO_PART, index, which),
        text("video/live.m3u8", PLAYLIST, 1 << 32),
        text("audio/live.m3u8", PLAYLIST, 1 << 33),
        text("index.m3u8", INDEX, 1 << 34),
        text("event.m3u8", INDEX, 1 << 35),
        event("video/event.m3u8", index),
        event("audio/event.m3u8", index),
    ];
    let update = Update {
        broadcast,
        row: Some(noise(400, index)),
        files,
        finish: index + 1 == SEGMENTS,
    };
    node.publish(update).await?;
    Ok(PARTS * (VIDEO_PART + AUDIO_PART) as u64)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let full = std::env::args().nth(1).is_some_and(|it| it == "full");
    let dir = tempfile::tempdir_in(".")?;
    let clock = || Some(SystemTime::now());
    let (mut node, _) = Node::offline(dir.path(), Budgets::UNLIMITED, clock).await?;
    let mut recording = None;
    if full {
        let broadcast = node.begin(Vec::new()).await?;
        for index in 0..SEGMENTS {
            publish(&node, broadcast, index, 0).await?;
        }
        recording = Some(broadcast);
        let stored = node.stats().borrow().stored_bytes;
        node.shutdown().await;
        let budgets = Budgets::new(stored, stored / 8);
        (node, _) = Node::offline(dir.path(), budgets, clock).await?;
    }
    let broadcast = node.begin(Vec::new()).await?;
    let before = written()?;
    let (mut waits, mut while_deleting) = (Vec::new(), Vec::new());
    let mut media = 0;
    for index in 0..SEGMENTS {
        let stored = node.stats().borrow().stored_bytes;
        let asked = Instant::now();
        media += publish(&node, broadcast, index, 1).await?;
        let wait = asked.elapsed();
        match node.stats().borrow().stored_bytes < stored {
            true => while_deleting.push(wait),
            false => waits.push(wait),
        }
    }
    let after = written()?;
    let stored = node.broadcasts().await?;
    node.shutdown().await;
    if let Some(recording) = recording {
        assert!(stored.iter().all(|it| it.id != recording), "it had to go");
    }
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
    for (what, mut waits) in [
        ("", waits),
        (" while the recording is deleted", while_deleting),
    ] {
        waits.sort();
        if waits.is_empty() {
            continue;
        }
        let at = |percent: usize| waits[waits.len() * percent / 100].as_millis();
        writeln!(
            out,
            "from segment complete to durable{what}, {} times: median {} ms, 95 % {} ms",
            waits.len(),
            at(50),
            at(95)
        )?;
    }
    Ok(())
}
