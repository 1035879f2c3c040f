//! A disk that is full, broken or read-only at each of its writes in turn, once or until somebody helps: the process goes on,
//! what is stored can be read all the while, and afterwards everything is as if nothing had been.

use std::io::ErrorKind;
use std::time::Duration;

use super::crash::{Told, begin, check, expected, paused, publish};
use super::disk::{Disk, Fault};
use super::{collected, open, read_all};
use crate::Node;
use crate::writer::GRACE;

/// Room for the second broadcast only when the first goes.
const LIMIT_BYTES: u64 = 10 << 10;

/// Failures after which somebody has made room, or put in another card.
const PATIENCE: u32 = 2;

/// Two broadcasts, the first deleted to make room for the second.
async fn life(disk: &Disk, told: &mut Told) {
    let node = match open(disk, LIMIT_BYTES).await {
        Ok((node, _)) => node,
        Err(_) => {
            disk.set_fault(None);
            open(disk, LIMIT_BYTES).await.unwrap().0
        }
    };
    for _ in 0..2 {
        let mut failures = 0;
        while begin(&node, told).await.is_err() {
            help(disk, &node, told, &mut failures).await;
        }
        for i in 0..3 {
            let rows = told.broadcasts.last().unwrap().rows;
            let mut failures = 0;
            while told.broadcasts.last().unwrap().rows == rows {
                if publish(&node, told, i == 2).await.is_err() {
                    help(disk, &node, told, &mut failures).await;
                    found(&node, told).await;
                }
            }
            // Paused time goes on when all is idle: garbage is collected meanwhile.
            tokio::time::sleep(GRACE + Duration::from_secs(10)).await;
        }
    }
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
    each_fails(ErrorKind::StorageFull, 0);
}

#[test]
fn a_broken_disk_harms_nothing_that_is_stored() {
    each_fails(ErrorKind::Other, 1);
}

#[test]
fn a_read_only_disk_harms_nothing_that_is_stored() {
    each_fails(ErrorKind::ReadOnlyFilesystem, 2);
}

/// Each operation fails. Whether it fails once or until somebody helps, and whether the files of blocks are spared, take turns: each
/// operation has either with one of the three kinds or another.
fn each_fails(kind: ErrorKind, turn: u64) {
    let operations = {
        let disk = Disk::new();
        let mut told = Told::default();
        paused(async {
            life(&disk, &mut told).await;
            let (node, recovered) = open(&disk, LIMIT_BYTES).await.unwrap();
            assert_eq!(recovered.broadcasts.len(), 1, "the first made room");
            node.shutdown().await;
        });
        disk.operations()
    };
    for at in 0..operations {
        let disk = Disk::new();
        let fault = Fault {
            at,
            kind,
            lasts: (at + turn).is_multiple_of(2),
            spares_blocks: (at + turn).is_multiple_of(3),
        };
        disk.set_fault(Some(fault));
        let mut told = Told::default();
        paused(async {
            life(&disk, &mut told).await;
            check(&disk, &told).await;
        });
    }
}
