//! What may be stored, what makes room, and what never goes.

use std::time::Duration;

use super::disk::Disk;
use super::rules::{LIMIT_BYTES, finish};
use super::{collected, counted, open, read_all, update};
use crate::writer::{Command, Follow, RESERVE_BYTES};
use crate::{Allowance, BroadcastId, Budgets, Leaf, NewFile, Node, OpenError, StoreError};

#[tokio::test(start_paused = true)]
async fn the_oldest_finished_broadcasts_make_room() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..4u8 {
        let id = node.begin(vec![i]).await.unwrap();
        node.publish(update(id, vec![NewFile::new("a", vec![i; 300 << 10])]))
            .await
            .unwrap();
        assert!(disk.block_bytes() <= LIMIT_BYTES);
        // The second stays unfinished, as after a crash.
        if i != 1 {
            finish(&node, id).await;
        }
        ids.push(id);
    }
    let kept = |node: &Node| -> Vec<BroadcastId> {
        node.shared
            .journal
            .broadcasts()
            .unwrap()
            .iter()
            .map(|b| b.id)
            .collect()
    };
    assert_eq!(kept(&node), [ids[1], ids[2], ids[3]]);

    let id = node.begin(vec![]).await.unwrap();
    let published = node
        .publish(update(id, vec![NewFile::new("a", vec![9; 600 << 10])]))
        .await;
    assert!(
        matches!(published, Ok(p) if p.stored_bytes <= LIMIT_BYTES),
        "{published:?}"
    );
    assert_eq!(kept(&node), [ids[1], id]);

    let before = disk.blocks();
    let error = node
        .publish(update(id, vec![NewFile::new("b", vec![8; 300 << 10])]))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Full {
                limit_bytes: LIMIT_BYTES,
                ..
            }
        ),
        "{error}"
    );
    let error = node
        .publish(update(id, vec![NewFile::new("b", vec![8; 2 << 20])]))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(disk.blocks(), before, "nothing is written");
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_is_never_deleted() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let mut ids = Vec::new();
    let publish = async |node: &Node, i: u8| {
        let id = node.begin(vec![i]).await.unwrap();
        let file = NewFile::new("a", vec![i; 300 << 10]);
        node.publish(update(id, vec![file])).await.map(|_| id)
    };
    for i in 0..2 {
        let id = publish(&node, i).await.unwrap();
        finish(&node, id).await;
        node.pin(id, true).await.unwrap();
        ids.push(id);
    }
    node.shutdown().await;
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let third = publish(&node, 2).await.unwrap();
    finish(&node, third).await;
    // The third makes room for the fourth, and nothing for the fifth.
    let fourth = publish(&node, 3).await.unwrap();
    finish(&node, fourth).await;
    let stored = node.broadcasts().await.unwrap();
    let kept: Vec<_> = stored.iter().map(|it| (it.id, it.pinned)).collect();
    assert_eq!(kept, [(ids[0], true), (ids[1], true), (fourth, false)]);
    assert!(
        stored
            .iter()
            .all(|it| it.bytes >= 300 << 10 && it.bytes < 310 << 10)
    );
    node.pin(fourth, true).await.unwrap();
    let error = publish(&node, 4).await.unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");

    node.pin(ids[0], false).await.unwrap();
    publish(&node, 5).await.unwrap();
    let stored = node.broadcasts().await.unwrap();
    assert!(stored.iter().all(|it| it.id != ids[0]));
    for id in [ids[0], BroadcastId(99)] {
        let error = node.pin(id, true).await.unwrap_err();
        assert!(matches!(error, StoreError::UnknownBroadcast(_)), "{error}");
    }
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_by_hand_is_gone_at_once_and_leaves_the_rest_whole() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..3u8 {
        let id = node.begin(vec![i]).await.unwrap();
        let files = vec![
            NewFile::new("own", vec![i; 100 << 10]),
            NewFile::new("shared", vec![9; 100 << 10]),
        ];
        node.publish(update(id, files)).await.unwrap();
        finish(&node, id).await;
        ids.push(id);
    }
    let list = async |node: &Node| -> Vec<BroadcastId> {
        let stored = node.broadcasts().await.unwrap();
        stored.iter().map(|it| it.id).collect()
    };
    node.pin(ids[1], true).await.unwrap();
    let mut refused = Vec::new();
    let unknown = BroadcastId(99);
    for id in [ids[1], ids[2], unknown] {
        refused.push(node.delete_by_hand(id).await.unwrap_err());
    }
    let [
        StoreError::Pinned(_),
        StoreError::Newest(_),
        StoreError::UnknownBroadcast(_),
    ] = refused[..]
    else {
        panic!("{refused:?}");
    };
    assert_eq!(list(&node).await, ids);

    node.delete_by_hand(ids[0]).await.unwrap();
    assert_eq!(list(&node).await, ids[1..]);
    let again = node.delete_by_hand(ids[0]).await.unwrap_err();
    assert!(matches!(again, StoreError::UnknownBroadcast(_)), "{again}");
    assert!(node.deleted().await.unwrap());
    node.shutdown().await;
    let own = |i: u8| Leaf::split(vec![i; 100 << 10].into())[0].cid();
    let there = disk.blocks();
    let expected = [(own(0), false), (own(1), true), (own(9), true)];
    for (cid, kept) in expected {
        assert_eq!(there.contains_key(&cid), kept, "{cid}");
    }

    // One that has begun and has nothing yet does not make the one before it old.
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let begun = node.begin(vec![]).await.unwrap();
    for id in [ids[2], begun] {
        let refused = node.delete_by_hand(id).await.unwrap_err();
        assert!(matches!(refused, StoreError::Newest(_)), "{refused}");
    }
    let file = NewFile::new("own", vec![7; 100]);
    node.publish(update(begun, vec![file])).await.unwrap();
    node.delete_by_hand(ids[2]).await.unwrap();
    assert!(node.deleted().await.unwrap());
    assert_eq!(list(&node).await, [ids[1], begun]);
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_is_pinned_is_not_deleted_for_nobody_wanting_it() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let (one, other) = (node.begin(vec![]).await, node.begin(vec![]).await);
    let (one, other) = (one.unwrap(), other.unwrap());
    node.pin(one, true).await.unwrap();
    for id in [one, other] {
        node.delete(id).await.unwrap();
    }
    let stored = node.broadcasts().await.unwrap();
    assert_eq!(stored.iter().map(|it| it.id).collect::<Vec<_>>(), [one]);
}

/// The room for what a fetch has brought is that of a broadcast which had some of it.
#[tokio::test(start_paused = true)]
async fn what_is_held_counts_though_it_had_a_name_before_there_was_room() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let old = node.begin(vec![]).await.unwrap();
    let files = [1, 2].map(|i| NewFile::new(format!("{i}"), vec![i; 300 << 10]));
    let shared = files[0].leaves.clone();
    node.publish(update(old, files.into())).await.unwrap();
    finish(&node, old).await;
    let newest = node.begin(vec![]).await.unwrap();
    finish(&node, newest).await;

    let brought = shared
        .into_iter()
        .chain(Leaf::split(vec![3; 500 << 10].into()));
    let blocks = brought.map(|leaf| (leaf.cid(), leaf.bytes().clone()));
    let blocks: Vec<_> = blocks.collect();
    let held: Vec<_> = blocks.iter().map(|(cid, _)| *cid).collect();
    let hold = node.ask(|reply| {
        Command::Follow(Follow::Hold {
            blocks,
            make_room: true,
            reply,
        })
    });
    hold.await.unwrap().unwrap();
    assert_eq!(node.broadcasts().await.unwrap().len(), 1);
    counted(&node, &disk).await;
    for cid in &held {
        assert!(disk.blocks().contains_key(cid));
    }
    let release = Follow::Release {
        blocks: vec![],
        held,
        asked: vec![],
        make_room: true,
    };
    node.shared
        .commands
        .send(Command::Follow(release))
        .await
        .unwrap();
    collected(&node, &disk).await;
}

/// Recordings of 300 KiB, three of which have a budget, and room for one and a half on air.
const BUDGETS: Budgets = Budgets {
    recordings_bytes: 1000 << 10,
    pinned_bytes: 1000 << 10,
    live_bytes: 450 << 10,
};

async fn record(node: &Node, i: u8) -> Result<BroadcastId, StoreError> {
    let id = node.begin(vec![i]).await?;
    let file = NewFile::new("a", vec![i; 300 << 10]);
    node.publish(update(id, vec![file])).await?;
    finish(node, id).await;
    Ok(id)
}

#[tokio::test(start_paused = true)]
async fn recordings_leave_the_broadcast_on_air_its_room() {
    let disk = Disk::new();
    let (node, _) = open(&disk, BUDGETS).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..4 {
        ids.push(record(&node, i).await.unwrap());
    }
    // The newest is no recording yet: all fit.
    let kept = async || -> Vec<BroadcastId> {
        let stored = node.broadcasts().await.unwrap();
        stored.iter().map(|it| it.id).collect()
    };
    assert_eq!(kept().await, ids);
    for id in &ids[..3] {
        node.pin(*id, true).await.unwrap();
    }
    let error = node.pin(ids[3], true).await.unwrap_err();
    let most = BUDGETS.pinned_bytes;
    assert!(
        matches!(error, StoreError::PinsFull { most_bytes, .. } if most_bytes == most),
        "{error}"
    );
    assert!(!node.broadcasts().await.unwrap()[3].pinned);
    node.pin(ids[0], true).await.expect("it already is");

    // What is not pinned makes way, and what is pinned leaves the room that the recordings never take.
    let live = node.begin(vec![]).await.unwrap();
    let file = NewFile::new("a", vec![9; 420 << 10]);
    node.publish(update(live, vec![file])).await.unwrap();
    assert_eq!(kept().await, [&ids[..3], &[live]].concat());
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn recordings_beyond_their_budget_go_though_there_is_room() {
    let disk = Disk::new();
    let roomy = Budgets {
        live_bytes: 16 << 20,
        ..BUDGETS
    };
    let (node, _) = open(&disk, roomy).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..5 {
        ids.push(record(&node, i).await.unwrap());
    }
    let mut stats = node.stats();
    let three_and_the_newest = |bytes: u64| bytes < 1300 << 10;
    let gone = stats.wait_for(|stats| three_and_the_newest(stats.stored_bytes));
    gone.await.unwrap();
    let kept = async |node: &Node| -> Vec<BroadcastId> {
        let stored = node.broadcasts().await.unwrap();
        stored.iter().map(|it| it.id).collect()
    };
    assert_eq!(kept(&node).await, ids[1..]);

    // A lowered budget is kept after opening, but for what is pinned.
    node.pin(ids[1], true).await.unwrap();
    node.shutdown().await;
    let lowered = Budgets {
        recordings_bytes: 400 << 10,
        ..roomy
    };
    let (node, _) = open(&disk, lowered).await.unwrap();
    let mut stats = node.stats();
    let gone = stats.wait_for(|stats| stats.stored_bytes < 700 << 10);
    gone.await.unwrap();
    assert_eq!(kept(&node).await, [ids[1], ids[4]]);
    node.shared.journal.check_invariants();
}

/// Until there is something of the next, the name means the last one, and viewers see it.
#[tokio::test(start_paused = true)]
async fn the_last_recording_stays_until_the_next_has_something() {
    let disk = Disk::new();
    let budgets = Budgets {
        recordings_bytes: 0,
        live_bytes: 16 << 20,
        ..BUDGETS
    };
    let (node, _) = open(&disk, budgets).await.unwrap();
    let last = record(&node, 0).await.unwrap();
    let root = node.record().borrow().as_ref().unwrap().root;
    let next = node.begin(vec![]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    read_all(&node, root).await.unwrap();

    let file = NewFile::new("a", vec![9; 100 << 10]);
    node.publish(update(next, vec![file])).await.unwrap();
    let mut stats = node.stats();
    let gone = stats.wait_for(|stats| stats.stored_bytes < 200 << 10);
    gone.await.unwrap();
    let stored = node.broadcasts().await.unwrap();
    assert!(stored.iter().all(|it| it.id != last), "{stored:?}");
    node.shared.journal.check_invariants();
}

/// A broadcast that is pinned while it is on air grows no further than recordings may.
#[tokio::test(start_paused = true)]
async fn a_pin_on_what_grows_is_no_way_around_the_budget() {
    let disk = Disk::new();
    let (node, _) = open(&disk, BUDGETS).await.unwrap();
    let old = record(&node, 0).await.unwrap();
    node.pin(old, true).await.unwrap();
    let live = node.begin(vec![]).await.unwrap();
    node.pin(live, true).await.unwrap();
    let segment = |i: u8| {
        update(
            live,
            vec![NewFile::new(format!("{i}"), vec![i + 1; 200 << 10])],
        )
    };
    for i in 0..3 {
        node.publish(segment(i)).await.unwrap();
    }
    let before = disk.blocks();
    let error = node.publish(segment(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::PinsFull { .. }), "{error}");
    assert_eq!(disk.blocks(), before, "nothing is written");

    node.pin(live, false).await.unwrap();
    node.publish(segment(3)).await.unwrap();
    node.pin(old, false).await.unwrap();
    node.pin(live, true).await.unwrap();
    node.publish(segment(4)).await.unwrap_err();
    finish(&node, live).await;
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn a_lowered_limit_is_kept_after_opening() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    for i in 0..3u8 {
        let id = node.begin(vec![]).await.unwrap();
        node.publish(update(id, vec![NewFile::new("a", vec![i; 300 << 10])]))
            .await
            .unwrap();
        finish(&node, id).await;
    }
    node.shutdown().await;
    let (node, _) = open(&disk, 400 << 10).await.unwrap();
    let mut stats = node.stats();
    stats
        .wait_for(|stats| stats.stored_bytes <= stats.limit_bytes)
        .await
        .unwrap();
    assert!(disk.block_bytes() <= 400 << 10);
    assert_eq!(node.shared.journal.broadcasts().unwrap().len(), 1);
}

/// More than any disk here has.
const DEFAULTS: Budgets = Budgets {
    recordings_bytes: 14 << 30,
    pinned_bytes: 14 << 30,
    live_bytes: 2 << 30,
};

async fn kept(node: &Node) -> Vec<BroadcastId> {
    let stored = node.broadcasts().await.unwrap();
    stored.iter().map(|it| it.id).collect()
}

#[tokio::test(start_paused = true)]
async fn without_budgets_three_quarters_of_the_disk_are_the_store_s_at_each_start() {
    let disk = Disk::new();
    disk.set_capacity(64 << 20);
    let allowance = Allowance::OfDisk {
        live_bytes: 16 << 20,
    };
    for i in 0..2 {
        let (node, _) = open(&disk, allowance).await.unwrap();
        assert_eq!(node.stats().borrow().limit_bytes, 48 << 20);
        record(&node, i).await.unwrap();
        node.shutdown().await;
    }
    // Pins leave the broadcast on air its room.
    let (node, _) = open(&disk, allowance).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let file = NewFile::new("a", vec![9; (32 << 20) + 1]);
    node.publish(update(id, vec![file])).await.unwrap();
    let refused = node.pin(id, true).await.unwrap_err();
    assert!(matches!(refused, StoreError::PinsFull { most_bytes, .. } if most_bytes == 32 << 20));
}

#[tokio::test(start_paused = true)]
async fn what_others_have_written_costs_no_recording_at_the_next_start() {
    let disk = Disk::new();
    disk.set_capacity(64 << 20);
    let allowance = Allowance::OfDisk {
        live_bytes: 16 << 20,
    };
    let (node, _) = open(&disk, allowance).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..80 {
        ids.push(record(&node, i).await.unwrap());
    }
    node.shutdown().await;
    // Of 64 MiB others have 20 now: three quarters of the rest, but for the live ones, are less than the recordings take.
    disk.set_capacity(44 << 20);
    let (node, _) = open(&disk, allowance).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(kept(&node).await, ids);
    // The next recording is no more on top.
    record(&node, 80).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let file = NewFile::new("a", vec![81; 300 << 10]);
    node.publish(update(id, vec![file])).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_ne!(kept(&node).await[0], ids[0]);
}

#[tokio::test(start_paused = true)]
async fn pins_have_their_budget_where_nothing_is_deleted() {
    let disk = Disk::new();
    disk.set_capacity(64 << 20);
    let allowance = Allowance::OfDisk {
        live_bytes: 16 << 20,
    };
    for allowance in [
        allowance.without_deleting(),
        Allowance::from(Budgets::new(32 << 20, 0)).without_deleting(),
    ] {
        let (node, _) = open(&disk, allowance).await.unwrap();
        let id = node.begin(vec![]).await.unwrap();
        let file = NewFile::new("a", vec![9; (32 << 20) + 1]);
        node.publish(update(id, vec![file])).await.unwrap();
        assert!(node.pin(id, true).await.is_err());
        node.shutdown().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_of_which_all_is_pinned_is_not_opened() {
    let disk = Disk::new();
    let allowance = Allowance::OfDisk { live_bytes: 0 };
    disk.set_capacity(128 << 20);
    let (node, _) = open(&disk, allowance).await.unwrap();
    // So much that it is more than three quarters of the room.
    for i in 0..200 {
        let id = record(&node, i).await.unwrap();
        node.pin(id, true).await.unwrap();
    }
    node.shutdown().await;
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES - 1);
    let refused = open(&disk, allowance).await.err().unwrap();
    assert!(matches!(refused, OpenError::DiskFull { .. }), "{refused}");
    // `podium unpin` mends it.
    assert!(open(&disk, allowance.without_deleting()).await.is_ok());
}

/// It is closed after that, or goes on.
#[tokio::test(start_paused = true)]
async fn a_full_disk_with_a_broadcast_that_was_cut_off_is_opened() {
    let disk = Disk::new();
    let allowance = Allowance::OfDisk { live_bytes: 0 };
    disk.set_capacity(128 << 20);
    let (node, _) = open(&disk, allowance).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    for i in 0..200 {
        let file = NewFile::new(i.to_string(), vec![i; 300 << 10]);
        node.publish(update(id, vec![file])).await.unwrap();
    }
    node.shutdown().await;
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES - 1);
    assert!(open(&disk, allowance).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn whether_a_recording_may_go_is_known() {
    let disk = Disk::new();
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let until = async |node: &Node, may_go| {
        let mut stats = node.stats();
        let told = stats.wait_for(|stats| stats.bytes_until_one_goes.is_some() == may_go);
        let told = tokio::time::timeout(Duration::from_secs(60), told);
        told.await.unwrap().unwrap();
    };
    until(&node, false).await;
    let id = record(&node, 0).await.unwrap();
    until(&node, true).await;
    let stats = *node.stats().borrow();
    let left = DEFAULTS.recordings_bytes - stats.stored_bytes;
    assert_eq!(stats.bytes_until_one_goes, Some(left));
    node.pin(id, true).await.unwrap();
    until(&node, false).await;
    node.pin(id, false).await.unwrap();
    until(&node, true).await;
    node.shutdown().await;
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    until(&node, true).await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_smaller_than_the_budgets_is_the_limit() {
    let disk = Disk::new();
    disk.set_capacity(RESERVE_BYTES + (1400 << 10));
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..8 {
        ids.push(record(&node, i).await.unwrap());
        if i == 0 {
            node.pin(ids[0], true).await.unwrap();
        }
        assert!(disk.block_bytes() <= 1400 << 10);
    }
    // As many as there is room for, the pinned one among them.
    assert_eq!(kept(&node).await, [&ids[..1], &ids[5..]].concat());
    assert_eq!(node.stats().borrow().limit_bytes, 1400 << 10);

    // What is pinned, and what is on air, never goes.
    for id in &ids[5..] {
        node.pin(*id, true).await.unwrap();
    }
    let live = node.begin(vec![]).await.unwrap();
    let publish = |name: &str, bytes: usize| {
        let file = NewFile::new(name, vec![9; bytes]);
        node.publish(update(live, vec![file]))
    };
    publish("a", 50 << 10).await.unwrap();
    let error = publish("b", 300 << 10).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull), "{error}");
    node.pin(ids[5], false).await.unwrap();
    publish("b", 300 << 10).await.unwrap();
    assert_eq!(kept(&node).await, [&ids[..1], &ids[6..], &[live]].concat());
    node.shared.journal.check_invariants();
}

/// A broadcast that has filled the disk makes way for the next one, though nothing else may go.
#[tokio::test(start_paused = true)]
async fn what_has_filled_the_disk_goes_when_another_begins() {
    let disk = Disk::new();
    disk.set_capacity(RESERVE_BYTES + (1000 << 10));
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let long = node.begin(vec![]).await.unwrap();
    let segment = |i: u8| {
        let file = NewFile::new(format!("{i}"), vec![i; 300 << 10]);
        update(long, vec![file])
    };
    for i in 0..3 {
        node.publish(segment(i)).await.unwrap();
    }
    let error = node.publish(segment(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull), "{error}");
    // Closing uses the reserve.
    let end = crate::Update {
        finish: true,
        ..update(long, vec![NewFile::new("vod", vec![9; 200 << 10])])
    };
    node.publish(end).await.unwrap();
    assert!(disk.block_bytes() > 1000 << 10);
    assert_eq!(kept(&node).await, [long]);
    // Though nothing else may go, a restart is no end: the next broadcast takes its room.
    node.shutdown().await;
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    assert_eq!(kept(&node).await, [long]);
    let next = record(&node, 4).await.unwrap();
    assert_eq!(kept(&node).await, [next]);
    assert_ne!(next, long, "an id is never given twice");
}

#[tokio::test(start_paused = true)]
async fn what_others_write_costs_no_more_recordings_than_an_update_needs() {
    let disk = Disk::new();
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..4 {
        ids.push(record(&node, i).await.unwrap());
    }
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES - 1);
    // Nobody needs room.
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(kept(&node).await, ids);
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES + (100 << 10));
    ids.push(record(&node, 4).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(kept(&node).await, ids[1..]);
}

/// `podium list`, `pin` and `fsck` open a store so.
#[tokio::test(start_paused = true)]
async fn whoever_only_looks_deletes_nothing_on_a_full_disk() {
    let disk = Disk::new();
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..3 {
        ids.push(record(&node, i).await.unwrap());
    }
    node.shutdown().await;
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES + (10 << 10));
    for budgets in [Budgets::UNLIMITED, DEFAULTS] {
        let (node, _) = open(&disk, budgets).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(kept(&node).await, ids);
        node.shutdown().await;
    }
}

/// Room that comes back saves what would have gone.
#[tokio::test(start_paused = true)]
async fn what_is_unpinned_when_there_is_room_again_stays() {
    let disk = Disk::new();
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let kept_one = record(&node, 0).await.unwrap();
    node.pin(kept_one, true).await.unwrap();
    let live = node.begin(vec![]).await.unwrap();
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES + (50 << 10));
    let file = NewFile::new("a", vec![9; 40 << 10]);
    node.publish(update(live, vec![file])).await.unwrap();
    disk.set_capacity(1 << 40);
    node.pin(kept_one, false).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(kept(&node).await, [kept_one, live]);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_that_recordings_have_filled_is_opened() {
    let disk = Disk::new();
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let mut ids = Vec::new();
    for i in 0..3 {
        ids.push(record(&node, i).await.unwrap());
    }
    node.shutdown().await;
    disk.set_capacity(disk.block_bytes() + RESERVE_BYTES - (100 << 10));
    let (node, _) = open(&disk, DEFAULTS).await.unwrap();
    let mut stats = node.stats();
    let room = stats.wait_for(|stats| stats.stored_bytes < 700 << 10);
    room.await.unwrap();
    assert_eq!(kept(&node).await, ids[1..]);
}
