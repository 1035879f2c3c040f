//! kill -9 at random instants in writing, deleting and publishing: a child does all three without a pause, and says what it has
//! been told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::read_all;
use crate::{BroadcastId, Budgets, Leaf, NewFile, Node, Update, fsck, has_store};

const DIR: &str = "PODIUM_KILLS_DIR";
/// Room for nine broadcasts: later ones have to make room.
const LIMIT_BYTES: u64 = 6 << 20;
const SEGMENTS: u64 = 4;
const PART_BYTES: usize = 50 << 10;

/// What a life has said last.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Of the newest broadcast.
    rows: Option<(BroadcastId, u64)>,
    sequence: u64,
    pinned: Option<BroadcastId>,
}

async fn open(dir: &Path, limit_bytes: u64) -> Node {
    let clock = || Some(SystemTime::now());
    Node::offline(dir, Budgets::new(limit_bytes, 0), clock)
        .await
        .unwrap()
        .0
}

#[expect(clippy::print_stderr, reason = "a failure can be repeated with this")]
fn seed() -> u64 {
    let seed = std::env::var("PODIUM_SEED")
        .ok()
        .and_then(|it| it.parse().ok());
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let seed = seed.unwrap_or(now.as_nanos() as u64);
    eprintln!("PODIUM_SEED={seed}");
    seed
}

fn random(seed: &mut u64, below: u64) -> u64 {
    // splitmix64
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)) % below
}

/// A hundred times, or `PODIUM_KILLS` times.
#[tokio::test]
async fn killed_at_any_instant_the_store_is_whole() {
    let kills = std::env::var("PODIUM_KILLS")
        .ok()
        .and_then(|it| it.parse().ok());
    let mut seed = seed();
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    let mut highest = 0;
    for round in 0..kills.unwrap_or(100) {
        live_and_die(dir.path(), &mut seed, &mut told);
        if !has_store(dir.path()) {
            assert_eq!(told.sequence, 0, "killed before it had made anything");
            continue;
        }
        let report = fsck(dir.path(), true).unwrap();
        assert_eq!(report.findings, [], "round {round}");
        check(dir.path(), &told, &mut highest, round).await;
    }
    assert!(highest > 5, "broadcasts were made and deleted");
}

fn live_and_die(dir: &Path, seed: &mut u64, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kills::a_life", "--nocapture"])
        .env(DIR, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    // Some lives end while they open the store, others behind some updates.
    let answers = random(seed, 8);
    let pause = Duration::from_micros(random(seed, 40_000));
    let mut heard = 0;
    let mut lines = stdout.lines().map_while(Result::ok);
    while heard < answers {
        let line = lines.next().expect("the child lives until it is killed");
        heard += u64::from(hear(&line, told));
    }
    std::thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    // What it has said meanwhile it has been told, too. The last line may be cut off.
    for line in lines {
        hear(&line, told);
    }
}

fn hear(line: &str, told: &mut Told) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["told", id, rows, sequence, "."] => {
            let id = id.parse::<u64>().unwrap().into();
            told.rows = Some((id, rows.parse().unwrap()));
            told.sequence = sequence.parse().unwrap();
        }
        ["pinned", id, "."] => told.pinned = Some(id.parse::<u64>().unwrap().into()),
        _ => return false,
    }
    true
}

async fn check(dir: &Path, told: &Told, highest: &mut u64, round: u32) {
    // With the lives' limit it would go on deleting what is looked at.
    let node = open(dir, u64::MAX).await;
    let record = node.record().borrow().clone();
    let sequence = record.as_ref().map_or(0, |record| record.sequence);
    assert!(
        sequence >= told.sequence,
        "round {round}: {sequence} after {}",
        told.sequence
    );
    let broadcasts = node.broadcasts().await.unwrap();
    for broadcast in &broadcasts {
        if let Some(root) = broadcast.root {
            let files = read_all(&node, root).await;
            let files = files.unwrap_or_else(|error| panic!("round {round}: {error}"));
            let rows = node.rows(broadcast.id).await.unwrap().len();
            assert_eq!(
                files.len(),
                rows + 1,
                "round {round}: its segments and the playlist"
            );
            let playlist = std::str::from_utf8(&files["live.m3u8"]).unwrap();
            for named in playlist.lines() {
                assert!(files.contains_key(named), "round {round}: it names {named}");
            }
        }
    }
    // The newest is never deleted, and has lost nothing.
    if let Some((id, rows)) = told.rows
        && broadcasts.last().is_some_and(|newest| newest.id == id)
    {
        let stored = node.rows(id).await.unwrap().len() as u64;
        assert!(stored >= rows, "round {round}: {stored} segments of {rows}");
    }
    if let Some(pinned) = told.pinned {
        let pinned = broadcasts.iter().find(|it| it.id == pinned);
        assert!(
            pinned.is_some_and(|it| it.pinned),
            "round {round}: {pinned:?}"
        );
    }
    let newest = broadcasts.last().map_or(0, |it| it.id.into());
    assert!(
        newest >= *highest,
        "round {round}: {newest} after {highest}"
    );
    *highest = newest;
    node.shutdown().await;
}

/// Publishes until it is killed. Without the directory in its environment it is nothing.
#[tokio::test]
async fn a_life() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    // The test harness has begun a line.
    say("");
    let node = open(Path::new(&dir), LIMIT_BYTES).await;
    loop {
        // What the last life has left is finished, and goes when its time has come.
        for open in node
            .broadcasts()
            .await
            .unwrap()
            .iter()
            .filter(|it| !it.finished)
        {
            publish(&node, open.id, None, true).await;
        }
        let id = node.begin(vec![]).await.unwrap();
        if u64::from(id) == 1 {
            node.pin(id, true).await.unwrap();
            say(&format!("pinned {id} ."));
        }
        for index in 0..SEGMENTS {
            publish(&node, id, Some(index), false).await;
        }
        publish(&node, id, None, true).await;
    }
}

async fn publish(node: &Node, broadcast: BroadcastId, index: Option<u64>, finish: bool) {
    let mut rows = node.rows(broadcast).await.unwrap().len() as u64;
    let path = |index: u64| format!("video/{:04}/{index}.m4s", index / 2);
    let mut files = Vec::new();
    if index.is_some() {
        let part = |part: u64| format!("{broadcast} {rows} {part} ").repeat(PART_BYTES / 8);
        files.push(NewFile {
            path: path(rows),
            leaves: (0..3).flat_map(|it| Leaf::split(part(it).into())).collect(),
            keep: None,
        });
        rows += 1;
    }
    let playlist: String = (0..rows).map(|index| path(index) + "\n").collect();
    files.push(NewFile::new("live.m3u8", playlist));
    let row = index.map(|_| rows.to_le_bytes().to_vec());
    let update = Update {
        broadcast,
        row,
        files,
        finish,
    };
    node.publish(update).await.unwrap();
    let sequence = node.record().borrow().as_ref().unwrap().sequence;
    say(&format!("told {broadcast} {rows} {sequence} ."));
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).unwrap();
}
