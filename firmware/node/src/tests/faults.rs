//! A disk that is full, broken or read-only at each of its writes in turn, once or until somebody helps: the process goes on,
//! what is stored can be read all the while, and afterwards everything is as if nothing had been.

use std::time::Duration;

use rustix::io::Errno;

use super::crash::{Told, begin, check, expected, paused, publish};
use super::disk::Disk;
use super::{collected, open, read_all};
use crate::Node;
use crate::writer::GRACE;

/// Room for the second broadcast only when the first goes.
const LIMIT_BYTES: u64 = 8 << 10;

/// Updates of each. The first has a second directory of segments; the second is short, as each operation costs a life.
const ROWS: [u64; 2] = [3, 2];

/// Failures after which somebody has made room, or put in another card.
const PATIENCE: u32 = 2;

/// Two broadcasts, the first deleted to make room for the second.
async fn life(disk: &Disk, told: &mut Told) -> Node {
    let node = match open(disk, LIMIT_BYTES).await {
        Ok((node, _)) => node,
        Err(_) => {
            disk.set_fault(None);
            open(disk, LIMIT_BYTES).await.unwrap().0
        }
    };
    for updates in ROWS {
        let mut failures = 0;
        while begin(&node, told).await.is_err() {
            help(disk, &node, told, &mut failures).await;
        }
        for i in 1..=updates {
            let rows = told.broadcasts.last().unwrap().rows;
            let mut failures = 0;
            while told.broadcasts.last().unwrap().rows == rows {
                if publish(&node, told, i == updates).await.is_err() {
                    help(disk, &node, told, &mut failures).await;
                    found(&node, told).await;
                }
            }
            // Paused time goes on when all is idle: garbage is collected meanwhile.
            tokio::time::sleep(GRACE + Duration::from_secs(10)).await;
        }
    }
    node
}

/// The disk is well at last.
async fn end(disk: &Disk, node: Node) {
    disk.set_fault(None);
    collected(&node, disk).await;
    node.shutdown().await;
}

/// While it fails, what was promised is there.
async fn help(disk: &Disk, node: &Node, told: &Told, failures: &mut u32) {
    for (number, broadcast) in (1..).zip(&told.broadcasts) {
        let newest = number == told.broadcasts.len() as u64;
        if let Some(root) = broadcast.root.filter(|_| newest) {
            let files = read_all(node, root).await.unwrap();
            assert_eq!(files, expected(number, broadcast.rows));
        }
    }
    *failures += 1;
    if *failures == PATIENCE {
        disk.set_fault(None);
    }
}

/// An update that failed with the disk is there as a whole or not at all.
async fn found(node: &Node, told: &mut Told) {
    let broadcast = told.broadcasts.last_mut().unwrap();
    // Where the journal cannot be read either, the next attempt tells.
    let Ok(rows) = node.rows(broadcast.id).await else {
        return;
    };
    if rows.len() as u64 > broadcast.rows {
        let stored = node.broadcasts().await.unwrap().pop().unwrap();
        assert_eq!(stored.id, broadcast.id);
        (broadcast.root, broadcast.finished) = (stored.root, stored.finished);
        broadcast.rows += 1;
    }
}

#[test]
fn a_full_disk_harms_nothing_that_is_stored() {
    each_fails(Errno::NOSPC);
}

#[test]
fn a_broken_disk_harms_nothing_that_is_stored() {
    each_fails(Errno::IO);
}

#[test]
fn a_read_only_disk_harms_nothing_that_is_stored() {
    each_fails(Errno::ROFS);
}

/// Each operation fails, [in each way](Disk::faults).
fn each_fails(error: Errno) {
    let mut faults = Vec::new();
    paused(async {
        let disk = Disk::new();
        let node = life(&disk, &mut Told::default()).await;
        faults = disk.faults(error);
        end(&disk, node).await;
        let (node, recovered) = open(&disk, LIMIT_BYTES).await.unwrap();
        assert_eq!(recovered.broadcasts.len(), 1, "the first made room");
        node.shutdown().await;
    });
    for fault in faults {
        let disk = Disk::new();
        disk.set_fault(Some(fault));
        let mut told = Told::default();
        paused(async {
            let node = life(&disk, &mut told).await;
            assert!(disk.fired(), "{fault:?} has met nothing");
            end(&disk, node).await;
            check(&disk, &told).await;
        });
    }
}
