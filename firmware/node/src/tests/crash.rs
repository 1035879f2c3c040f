//! Every crash point: the machine goes down at each operation on the disk in turn, by kill and by power cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use cid::Cid;

use super::disk::{Crash, Disk};
use super::{collected, counted, open, read_all};
use crate::writer::GRACE;
use crate::{BroadcastId, Leaf, NewFile, Node, StoreError, Update};

/// Room for the second broadcast only when the first goes.
const LIMIT_BYTES: u64 = 16 << 10;
const SEGMENT_BYTES: usize = 2400;

/// What the caller has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) broadcasts: Vec<ToldBroadcast>,
    /// The number of the record that was used last.
    sequence: u64,
}

#[derive(Debug)]
pub(super) struct ToldBroadcast {
    pub(super) id: BroadcastId,
    pub(super) root: Option<Cid>,
    pub(super) rows: u64,
    pub(super) finished: bool,
}

/// A segment of three parts; the middle one is the same in all of them, so that its block is shared.
fn segment(broadcast: u64, index: u64) -> Vec<Leaf> {
    let part = |fill: String| Leaf::split(fill.repeat(SEGMENT_BYTES / 3 / fill.len()).into());
    [
        part(format!("{broadcast:04}/{index:07}")),
        part("slate".to_owned()),
        part(format!("{index:06}")),
    ]
    .concat()
}

fn playlist(broadcast: u64, rows: u64) -> Bytes {
    (0..rows)
        .map(|i| format!("{broadcast} video/{:04}/{i}.m4s\n", i / 2))
        .collect::<String>()
        .into()
}

/// A line for each row; two rows to a leaf.
fn event_leaf(broadcast: u64, leaf: u64, rows: u64) -> Bytes {
    let lines = (2 * leaf..rows.min(2 * leaf + 2)).map(|row| format!("{broadcast} {row}\n"));
    lines.collect::<String>().into()
}

/// What was replaced is written again by the update after it, while it is garbage.
fn turn(rows: u64) -> &'static str {
    ["even", "odd"][(rows % 2) as usize]
}

pub(super) fn expected(broadcast: u64, rows: u64) -> BTreeMap<String, Bytes> {
    let mut files = BTreeMap::from([("live.m3u8".to_owned(), playlist(broadcast, rows))]);
    for i in 0..rows {
        let leaves = segment(broadcast, i);
        let content: Vec<u8> = leaves
            .iter()
            .flat_map(|leaf| leaf.bytes().to_vec())
            .collect();
        files.insert(format!("video/{:04}/{i}.m4s", i / 2), content.into());
    }
    if rows > 0 {
        let leaves = (0..rows.div_ceil(2)).map(|leaf| event_leaf(broadcast, leaf, rows));
        let content = leaves.collect::<Vec<_>>().concat();
        files.insert("video/event.m3u8".to_owned(), content.into());
        files.insert("turn".to_owned(), turn(rows).into());
    }
    files
}

pub(super) async fn begin(node: &Node, told: &mut Told) -> Result<(), StoreError> {
    let id = node.begin(b"meta".to_vec()).await?;
    told.broadcasts.push(ToldBroadcast {
        id,
        root: None,
        rows: 0,
        finished: false,
    });
    Ok(())
}

pub(super) async fn publish(node: &Node, told: &mut Told, finish: bool) -> Result<(), StoreError> {
    let number = told.broadcasts.len() as u64;
    let broadcast = told.broadcasts.last_mut().unwrap();
    let row = broadcast.rows;
    let files = vec![
        NewFile {
            path: format!("video/{:04}/{row}.m4s", row / 2),
            leaves: segment(number, row),
            keep: None,
        },
        NewFile {
            path: "video/event.m3u8".to_owned(),
            leaves: Leaf::split(event_leaf(number, row / 2, row + 1)),
            keep: Some(row as usize / 2),
        },
        NewFile::new("live.m3u8", playlist(number, row + 1)),
        NewFile::new("turn", turn(row + 1)),
    ];
    let update = Update {
        broadcast: broadcast.id,
        row: Some(vec![row as u8]),
        files,
        finish,
    };
    let root = node.publish(update).await?.root;
    broadcast.root = Some(root);
    let record = node.record().borrow().clone().unwrap();
    assert_eq!(record.root, root);
    assert!(record.sequence > told.sequence);
    told.sequence = record.sequence;
    broadcast.rows += 1;
    broadcast.finished = finish;
    Ok(())
}

/// Two broadcasts, garbage collected in between, and the first deleted to make room for the second.
async fn life(disk: &Disk, told: &mut Told) -> Result<(), Box<dyn std::error::Error>> {
    let (node, _) = open(disk, LIMIT_BYTES).await?;
    begin(&node, told).await?;
    for i in 0..5 {
        publish(&node, told, i == 4).await?;
    }
    begin(&node, told).await?;
    for i in 0..5 {
        // Paused time goes on when all is idle: collections happen meanwhile.
        tokio::time::sleep(GRACE * 5 / 12).await;
        publish(&node, told, i == 4).await?;
    }
    tokio::time::sleep(2 * GRACE).await;
    node.shutdown().await;
    Ok(())
}

/// Opens what was found and holds it against what the caller has been told.
pub(super) async fn check(disk: &Disk, told: &Told) {
    // With the life's limit it would go on deleting what is looked at.
    let (node, recovered) = open(disk, u64::MAX).await.unwrap();
    assert_eq!(recovered.missing, []);
    node.shared.journal.check_invariants();
    let newest = recovered.broadcasts.iter().rev().find_map(|b| b.root);
    let record = node.record().borrow().clone();
    assert_eq!(record.as_ref().map(|record| record.root), newest);
    let sequence = record.map_or(0, |record| record.sequence);
    assert!(
        sequence >= told.sequence,
        "{sequence} after {}",
        told.sequence
    );
    counted(&node, disk).await;

    let count = told.broadcasts.len();
    for (i, broadcast) in told.broadcasts.iter().enumerate() {
        let newest = i + 1 == count;
        let Some(found) = recovered
            .broadcasts
            .iter()
            .find(|found| found.id == broadcast.id)
        else {
            assert!(
                !newest && broadcast.finished,
                "only a finished broadcast is deleted, and never the newest"
            );
            continue;
        };
        let number = i as u64 + 1;
        // The update in flight may have been committed without its answer.
        let rows = node.rows(found.id).await.unwrap();
        assert_eq!(
            rows,
            (0..rows.len())
                .map(|row| vec![row as u8])
                .collect::<Vec<_>>()
        );
        let unanswered = rows.len() as u64 - broadcast.rows;
        assert!(unanswered <= u64::from(newest), "{unanswered}");
        match (found.root, broadcast.root) {
            (None, None) => assert!(rows.is_empty()),
            (None, Some(root)) => panic!("the root {root} is lost"),
            (Some(root), told_root) => {
                assert_eq!(
                    read_all(&node, root).await.unwrap(),
                    expected(number, rows.len() as u64)
                );
                if let Some(told_root) = told_root {
                    assert_eq!(unanswered == 0, told_root == root);
                    assert_eq!(
                        read_all(&node, told_root).await.unwrap(),
                        expected(number, broadcast.rows)
                    );
                }
            }
        }
        if newest && !found.finished {
            let files = vec![NewFile::new("after.txt", "goes on")];
            let update = Update {
                broadcast: found.id,
                row: None,
                files,
                finish: false,
            };
            let published = node.publish(update).await.unwrap();
            let record = node.record().borrow().clone().unwrap();
            assert_eq!(record.root, published.root);
            assert!(record.sequence > sequence);
            assert!(
                read_all(&node, published.root)
                    .await
                    .unwrap()
                    .contains_key("after.txt")
            );
        }
    }
    assert!(node.stats().borrow().stored_bytes <= LIMIT_BYTES);
    collected(&node, disk).await;
    node.shared.journal.check_invariants();
    node.shutdown().await;

    let (node, recovered) = open(disk, u64::MAX).await.unwrap();
    assert_eq!(recovered.missing, []);
    node.shutdown().await;
}

pub(super) fn paused(test: impl Future) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(test);
}

#[test]
fn whatever_the_moment_nothing_told_is_lost() {
    paused(async {
        let disk = Disk::new();
        let mut told = Told::default();
        life(&disk, &mut told).await.unwrap();
        check(&disk, &told).await;
        let (node, recovered) = open(&disk, LIMIT_BYTES).await.unwrap();
        assert_eq!(
            recovered.broadcasts.len(),
            1,
            "the first broadcast made room: the life has all that can crash"
        );
        node.shutdown().await;
    });

    let operations = {
        let disk = Disk::new();
        paused(life(&disk, &mut Told::default()));
        disk.operations()
    };
    for stop_at in 0..operations {
        let disk = Disk::new();
        disk.stop_at(stop_at);
        let mut told = Told::default();
        paused(async { life(&disk, &mut told).await.is_ok() });
        for crash in [Crash::Kill, Crash::PowerCut { seed: stop_at }] {
            paused(check(&disk.after(crash), &told));
        }
    }
}
