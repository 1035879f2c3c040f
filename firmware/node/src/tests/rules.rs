//! Grace, full disks, paths, ranges.

use std::time::Duration;

use futures::TryStreamExt;
use redb::ReadableTable;

use super::disk::{Crash, Disk, now};
use super::{collected, counted, open, read_all, update};
use crate::cids::CidKey;
use crate::journal::{BLOCKS, META, SHARED};
use crate::writer::{GRACE, RESERVE_BYTES};
use crate::{
    BroadcastId, CarOptions, DagScope, Leaf, NewFile, Node, OpenError, ReadError, Resolved,
    StoreError, Update,
};

pub(super) const LIMIT_BYTES: u64 = 1 << 20;

pub(super) async fn finish(node: &Node, broadcast: BroadcastId) {
    node.publish(Update {
        broadcast,
        row: None,
        files: vec![],
        finish: true,
    })
    .await
    .unwrap();
}

/// The disk hangs in deleting a large broadcast for as long as the test likes, and the live one goes on.
#[tokio::test(start_paused = true)]
async fn deleting_keeps_nobody_from_writing_and_reading() {
    let disk = Disk::new();
    let limit_bytes = 32 << 20;
    let (node, _) = open(&disk, limit_bytes).await.unwrap();
    let large = node.begin(vec![]).await.unwrap();
    for i in 0..156u8 {
        let file = NewFile::new(format!("{i}"), vec![i; 200 << 10]);
        node.publish(update(large, vec![file])).await.unwrap();
    }
    finish(&node, large).await;
    disk.gate().send_modify(|gate| gate.shut = true);
    let live = node.begin(vec![]).await.unwrap();
    let mut roots = Vec::new();
    let mut publish = async || {
        let i = roots.len();
        let file = NewFile::new(format!("live/{i}"), format!("segment {i}"));
        let root = node.publish(update(live, vec![file])).await.unwrap().root;
        roots.push(root);
        assert_eq!(read_all(&node, root).await.unwrap().len(), i + 1);
    };
    publish().await;
    // Deleting has begun by itself, before there is no room at all: the limit is less than a sixteenth away.
    let mut gate = disk.gate().subscribe();
    gate.wait_for(|gate| gate.waiting).await.unwrap();
    assert_eq!(
        node.broadcasts().await.unwrap().len(),
        1,
        "it is no longer there for anybody"
    );
    for _ in 0..50 {
        publish().await;
    }
    assert!(gate.borrow().waiting, "not a block has gone");
    disk.gate().send_modify(|gate| gate.shut = false);
    let mut stats = node.stats();
    let gone = stats.wait_for(|stats| stats.stored_bytes < 1 << 20);
    gone.await.unwrap();
    publish().await;
    assert_eq!(node.broadcasts().await.unwrap().len(), 1);
    node.shared.journal.check_invariants();
}

/// An update that wants to write what is just being removed waits for that and writes it.
#[tokio::test(start_paused = true)]
async fn what_is_being_removed_is_written_again() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let name = |content: &str| update(id, vec![NewFile::new("a", content.to_owned())]);
    node.publish(name("first")).await.unwrap();
    disk.gate().send_modify(|gate| gate.shut = true);
    node.publish(name("second")).await.unwrap();
    let mut gate = disk.gate().subscribe();
    gate.wait_for(|gate| gate.waiting).await.unwrap();
    let again = tokio::spawn({
        let (node, update) = (node.clone(), name("first"));
        async move { node.publish(update).await }
    });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!again.is_finished());
    disk.gate().send_modify(|gate| gate.shut = false);
    let root = again.await.unwrap().unwrap().root;
    assert_eq!(read_all(&node, root).await.unwrap()["a"], "first");
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_stays_for_its_grace() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let playlist = |i: u64| update(id, vec![NewFile::new("live.m3u8", format!("playlist {i}"))]);
    let old = node.publish(playlist(0)).await.unwrap().root;
    let last = node.publish(playlist(1)).await.unwrap().root;
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    read_all(&node, old)
        .await
        .expect("a follower still walks it");
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert!(matches!(
        read_all(&node, old).await,
        Err(ReadError::Missing { .. })
    ));
    read_all(&node, last).await.unwrap();
    counted(&node, &disk).await;
    assert_eq!(
        disk.blocks().len(),
        2,
        "the last root and the last playlist"
    );
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_is_published_again_is_no_garbage() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let mut roots = Vec::new();
    for i in 0..120 {
        let content = if i % 2 == 0 { "even" } else { "odd" };
        let files = vec![NewFile::new("a", content)];
        roots.push(node.publish(update(id, files)).await.unwrap().root);
        tokio::time::sleep(Duration::from_secs(7)).await;
        // The root before was replaced seven seconds ago, however long ago it was replaced for the first time.
        for root in &roots[roots.len().saturating_sub(2)..] {
            read_all(&node, *root).await.unwrap();
        }
        node.shared.journal.check_invariants();
    }
    tokio::time::sleep(GRACE * 2).await;
    assert_eq!(read_all(&node, roots[119]).await.unwrap()["a"], "odd");
    assert_eq!(disk.blocks().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_leaves_no_trace() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let first = node
        .publish(update(id, vec![NewFile::new("a", "first")]))
        .await
        .unwrap();
    let before = disk.blocks();
    let files = || vec![NewFile::new("b", "second"), NewFile::new("c", "third")];

    disk.fill_up(1);
    assert!(matches!(
        node.publish(update(id, files())).await,
        Err(StoreError::DiskFull)
    ));
    assert_eq!(disk.blocks(), before);

    disk.set_free_bytes(RESERVE_BYTES);
    assert!(matches!(
        node.publish(update(id, files())).await,
        Err(StoreError::DiskFull)
    ));
    assert_eq!(disk.blocks(), before);
    assert_eq!(node.stats().borrow().stored_bytes, first.stored_bytes);

    disk.set_free_bytes(u64::MAX);
    let root = node.publish(update(id, files())).await.unwrap().root;
    assert_eq!(read_all(&node, root).await.unwrap().len(), 3);
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn lost_blocks_are_reported_and_directories_made_again() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let files = vec![
        NewFile::new("video/0/a", "content"),
        NewFile::new("video/0/b", "other"),
    ];
    let lost = files[0].leaves[0].cid();
    let root = node.publish(update(id, files)).await.unwrap().root;
    let Resolved::Directory { cid: directory, .. } = node.resolve(root, "video").await.unwrap()
    else {
        panic!()
    };
    node.shutdown().await;

    for cid in [root, directory, lost] {
        disk.lose_block(&cid);
    }
    let (node, recovered) = open(&disk, LIMIT_BYTES).await.unwrap();
    assert_eq!(recovered.repaired_directories, 2);
    let missing: Vec<_> = recovered
        .missing
        .iter()
        .map(|file| (file.broadcast, file.path.as_str(), file.cid))
        .collect();
    assert_eq!(missing, [(id, "video/0/a", lost)]);
    assert!(matches!(
        node.resolve(root, "video/0/b").await,
        Ok(Resolved::File { size: 5, .. })
    ));
    // Publishing it again makes it whole.
    node.publish(update(id, vec![NewFile::new("video/0/c", "content")]))
        .await
        .unwrap();
    assert_eq!(read_all(&node, root).await.unwrap()["video/0/a"], "content");
}

#[tokio::test(start_paused = true)]
async fn what_nothing_names_leaves_but_not_without_a_journal() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let root = node
        .publish(update(id, vec![NewFile::new("a", "kept")]))
        .await
        .unwrap()
        .root;
    let orphan = Leaf::split("orphan".into()).remove(0);
    node.shared
        .store
        .put(vec![(orphan.cid(), orphan.bytes().clone())])
        .await
        .unwrap();
    node.shutdown().await;

    let found = disk.after(Crash::Kill);
    let (node, _) = open(&found, LIMIT_BYTES).await.unwrap();
    counted(&node, &found).await;
    tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
    assert!(found.blocks().contains_key(&orphan.cid()));
    collected(&node, &found).await;
    assert_eq!(read_all(&node, root).await.unwrap()["a"], "kept");

    let blocks_only = Disk::new();
    crate::store::BlockStore::put(&blocks_only, disk.blocks().into_iter().collect())
        .await
        .unwrap();
    for _attempt in 0..2 {
        let error = open(&blocks_only, LIMIT_BYTES).await.unwrap_err();
        assert!(matches!(error, OpenError::JournalMissing { .. }), "{error}");
    }
    assert_eq!(blocks_only.blocks(), disk.blocks());
}

/// What an older podium has left: rows of garbage, and lengths in all rows.
#[tokio::test(start_paused = true)]
async fn a_journal_of_an_earlier_version_is_taken_over() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let files = ["a", "b"].map(|path| NewFile::new(path, "shared"));
    let old = node.publish(update(id, files.into())).await.unwrap().root;
    let root = node.publish(update(id, vec![NewFile::new("a", "other")]));
    let root = root.await.unwrap().root;
    let again = vec![NewFile::new("c", "other")];
    let last = node.publish(update(id, again)).await.unwrap().root;
    node.shutdown().await;

    for version in [1, 2] {
        let file = disk.after(Crash::Kill);
        let journal = redb::Builder::new().create_with_backend(file.clone());
        let transaction = journal.unwrap().begin_write().unwrap();
        {
            let mut meta = transaction.open_table(META).unwrap();
            meta.insert("format", version).unwrap();
            let shared = transaction.open_table(SHARED).unwrap();
            let mut blocks = transaction.open_table(BLOCKS).unwrap();
            for row in shared.iter().unwrap() {
                let (key, references) = row.unwrap();
                blocks.insert(key.value(), (references.value(), 5)).unwrap();
            }
            for (garbage, references) in [(old, 0), (root, 0), (last, 1)] {
                let key: CidKey = garbage.to_bytes().try_into().unwrap();
                blocks.insert(key, (references, 99)).unwrap();
            }
        }
        transaction.delete_table(SHARED).unwrap();
        transaction.commit().unwrap();

        let (node, _) = open(&file, LIMIT_BYTES).await.unwrap();
        node.shared.journal.check_invariants();
        counted(&node, &file).await;
        read_all(&node, old).await.expect("a follower may walk it");
        collected(&node, &file).await;
        assert_eq!(read_all(&node, last).await.unwrap()["c"], "other");
        node.shutdown().await;
    }
}

/// Where the disk is short, what nothing names is in the way.
#[tokio::test(start_paused = true)]
async fn garbage_does_not_wait_on_a_full_disk() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    for content in ["first", "second"] {
        let files = vec![NewFile::new("a", content)];
        node.publish(update(id, files)).await.unwrap();
    }
    node.shutdown().await;
    let before = disk.blocks().len();
    disk.set_free_bytes(RESERVE_BYTES - 1);
    let error = open(&disk, LIMIT_BYTES).await.unwrap_err();
    assert!(matches!(error, OpenError::DiskFull { .. }), "{error}");
    assert_eq!(disk.blocks().len(), before - 2, "a root and a file");
}

#[tokio::test(start_paused = true)]
async fn updates_that_cannot_be() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    node.publish(update(id, vec![NewFile::new("dir/file", "x")]))
        .await
        .unwrap();
    for path in [
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "dir",
        "dir/file/x",
        "nul\0",
        &"n".repeat(256),
    ] {
        let error = node
            .publish(update(id, vec![NewFile::new(path, "y")]))
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidPath { .. }),
            "{path:?}: {error}"
        );
    }
    finish(&node, id).await;
    assert!(matches!(
        node.publish(update(id, vec![])).await,
        Err(StoreError::Finished(_))
    ));
    let unknown = BroadcastId(77);
    assert!(matches!(
        node.publish(update(unknown, vec![])).await,
        Err(StoreError::UnknownBroadcast(_))
    ));
    assert!(matches!(
        node.rows(unknown).await,
        Err(StoreError::UnknownBroadcast(_))
    ));
    let other = node.clone();
    node.shutdown().await;
    assert!(matches!(other.begin(vec![]).await, Err(StoreError::Closed)));
    assert!(matches!(other.rows(id).await, Err(StoreError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn paths_and_ranges() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let content: Vec<u8> = (0..1000u32).map(|i| i as u8).collect();
    let leaves = content
        .chunks(300)
        .flat_map(|part| Leaf::split(part.to_vec().into()))
        .collect();
    let files = vec![
        NewFile {
            path: "a/many".to_owned(),
            leaves,
            keep: None,
        },
        NewFile::new("a/one", content.clone()),
        NewFile::new("a/none", ""),
    ];
    let root = node.publish(update(id, files)).await.unwrap().root;

    for path in ["a/many", "a/one"] {
        let Ok(Resolved::File { cid, size: 1000 }) = node.resolve(root, path).await else {
            panic!("{path}")
        };
        for (from, to) in [
            (0, 1000),
            (0, u64::MAX),
            (299, 301),
            (300, 600),
            (999, 1000),
            (5, 5),
            (1000, 2000),
            (250, 950),
        ] {
            let pieces: Vec<_> = node.read(cid, from..to).try_collect().await.unwrap();
            let expected = content
                .get(from as usize..(to as usize).min(1000))
                .unwrap_or_default();
            assert_eq!(pieces.concat(), expected, "{path} {from}..{to}");
        }
    }
    assert!(matches!(
        node.resolve(root, "a/none").await,
        Ok(Resolved::File { size: 0, .. })
    ));
    assert!(
        matches!(node.resolve(root, "/").await, Ok(Resolved::Directory { cid, .. }) if cid == root)
    );
    assert!(matches!(
        node.resolve(root, "/a/").await,
        Ok(Resolved::Directory { .. })
    ));
    assert!(matches!(
        node.resolve(root, "b").await,
        Err(ReadError::NotFound { .. })
    ));
    assert!(matches!(
        node.resolve(root, "a/one/x").await,
        Err(ReadError::NotADirectory { .. })
    ));
    assert!(matches!(
        node.resolve(root, "a/../a").await,
        Err(ReadError::InvalidPath { .. })
    ));
    let stranger = Leaf::split("not here".into())[0].cid();
    assert!(matches!(
        node.resolve(stranger, "").await,
        Err(ReadError::Missing { .. })
    ));
    assert!(matches!(node.block(stranger).await, Ok(None)));
    assert!(matches!(
        node.read(root, 0..1).try_collect::<Vec<_>>().await,
        Err(ReadError::NotAFile { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn the_name_follows_what_is_durable() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let mut records = node.record();
    assert_eq!(*records.borrow_and_update(), None);
    let add = async |node: &Node, id, name: &str| {
        let files = vec![NewFile::new(name, name.to_owned())];
        node.publish(update(id, files)).await.unwrap().root
    };
    let sequence = |node: &Node| node.record().borrow().clone().unwrap().sequence;

    // No clock, no record; it comes by itself when the clock has been set.
    disk.set_clock(None);
    let first = node.begin(vec![]).await.unwrap();
    let root = add(&node, first, "a").await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(*node.record().borrow(), None);
    disk.set_clock(Some(now()));
    let record = records.wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(record.unwrap().root, root);

    // Nothing new, nothing signed, until half of its life is over.
    let before = sequence(&node);
    for (hours, signed) in [(1, false), (23, false), (25, true), (26, false)] {
        let before = sequence(&node);
        disk.set_clock(Some(now() + Duration::from_secs(hours * 3600)));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(sequence(&node) > before, signed, "after {hours} hours");
    }
    assert!(sequence(&node) > before);

    // Closing an older broadcast is not news.
    let second = node.begin(vec![]).await.unwrap();
    let newest = add(&node, second, "b").await;
    finish(&node, first).await;
    add(&node, second, "c").await;
    assert_ne!(node.record().borrow().clone().unwrap().root, newest);
    let known = sequence(&node);
    node.shutdown().await;

    // After a restart, and with a clock that has gone back, numbers go on.
    disk.set_clock(Some(now()));
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    assert_eq!(sequence(&node), known);
    add(&node, second, "d").await;
    assert_eq!(sequence(&node), known + 1);
    node.shutdown().await;
}

fn growing(path: &str, keep: usize, leaves: &[&str]) -> NewFile {
    let leaf = |text: &&str| Leaf::split(text.as_bytes().to_vec().into());
    NewFile {
        path: path.to_owned(),
        leaves: leaves.iter().flat_map(leaf).collect(),
        keep: Some(keep),
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_grows_at_its_end() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let mut leaves: Vec<String> = Vec::new();
    let mut roots = Vec::new();
    for i in 0..150 {
        // Every other time the last leaf becomes longer.
        match leaves.last_mut().filter(|_| i % 2 == 1) {
            Some(last) => last.push_str(" and more;"),
            None => leaves.push(format!("leaf {i}")),
        }
        let file = growing("d/log", leaves.len() - 1, &[leaves.last().unwrap()]);
        let published = node.publish(update(id, vec![file])).await.unwrap();
        let read = read_all(&node, published.root).await.unwrap();
        assert_eq!(read["d/log"], leaves.concat());
        node.shared.journal.check_invariants();
        roots.push((published.root, leaves.concat()));
    }
    // Whoever still has an older root reads what that one had.
    for (root, content) in roots {
        assert_eq!(read_all(&node, root).await.unwrap()["d/log"], content);
    }
    // All of it again is the same file and writes nothing new.
    let before = disk.blocks();
    let all: Vec<&str> = leaves.iter().map(|leaf| &leaf[..]).collect();
    let again = growing("d/log", 0, &all);
    let root = node.publish(update(id, vec![again])).await.unwrap().root;
    assert_eq!(disk.blocks(), before);
    assert_eq!(
        read_all(&node, root).await.unwrap()["d/log"],
        leaves.concat()
    );
    for (file, reason) in [
        (growing("d/log", 80, &["x"]), "fewer leaves"),
        (growing("d/log", 3, &["x"]), "shorter"),
        (growing("d/log", 75, &[]), "shorter"),
        (growing("d", 0, &["x"]), "directory of that name"),
        (growing("d/log/x", 0, &["x"]), "goes through a file"),
        (NewFile::new("d/log/x", "x"), "goes through a file"),
        (NewFile::new("d/log", "x"), "that grows"),
    ] {
        let refused = node.publish(update(id, vec![file])).await.unwrap_err();
        assert!(refused.to_string().contains(reason), "{refused}");
        node.shared.journal.check_invariants();
    }
    // A node that is lost is made again from the journal.
    let Ok((_, way)) = node.resolve_with_way(root, "d/log").await else {
        panic!("the file is there")
    };
    node.shutdown().await;
    disk.lose_block(&way[2]);
    let (node, recovered) = open(&disk, LIMIT_BYTES).await.unwrap();
    assert_eq!(recovered.repaired_directories, 1);
    assert_eq!(
        read_all(&node, root).await.unwrap()["d/log"],
        leaves.concat()
    );
}

#[tokio::test(start_paused = true)]
async fn a_car_without_duplicates_has_every_block_once() {
    let disk = Disk::new();
    let (node, _) = open(&disk, LIMIT_BYTES).await.unwrap();
    let id = node.begin(vec![]).await.unwrap();
    let files = ["a/x", "a/y", "b/x", "b/y"].map(|path| NewFile::new(path, "the same"));
    let root = node.publish(update(id, files.into())).await.unwrap().root;
    for (dups, pieces) in [(true, 1 + 2 + 4), (false, 1 + 1 + 1)] {
        let options = CarOptions {
            scope: DagScope::All,
            bytes: None,
            dups,
        };
        let car: Vec<_> = node.car(&[root], options).try_collect().await.unwrap();
        assert_eq!(car.len(), 1 + pieces, "the header, then block by block");
    }
    // A block that is missing ends the stream with an error: it is not taken for complete.
    let (_, way) = node.resolve_with_way(root, "a/x").await.unwrap();
    disk.lose_block(&way[2]);
    let options = CarOptions {
        scope: DagScope::All,
        bytes: None,
        dups: false,
    };
    let car: Result<Vec<_>, _> = node.car(&[root], options).try_collect().await;
    assert!(matches!(car, Err(ReadError::Missing { .. })));
}
