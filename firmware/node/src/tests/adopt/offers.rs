//! A mirror takes over what boxes might offer, hostile ones too.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;

use super::{adopt, all, name, open, trusting};
use crate::tests::disk::Disk;
use crate::tests::{collected, counted, read_all};
use crate::unixfs::{Encoded, directory, file_node};
use crate::writer::{GRACE, RESERVE_BYTES};
use crate::{
    AdoptError, Allowance, BroadcastId, Budgets, Leaf, MAX_LEAF, Node, Place, StoreError, Want,
};

/// Trees as a box might make them.
#[derive(Default)]
struct Offer {
    blocks: BTreeMap<Cid, Bytes>,
}

impl Offer {
    fn put(&mut self, encoded: Encoded) -> (Cid, u64) {
        let node = encoded.node.unwrap();
        assert!(node.len() <= MAX_LEAF);
        self.blocks.insert(encoded.cid, node);
        (encoded.cid, encoded.tsize)
    }

    /// So many bytes that no other file has.
    fn file(&mut self, content: &str, length: usize) -> (Cid, u64) {
        let bytes: Vec<u8> = content.bytes().cycle().take(length).collect();
        let leaf = Leaf::split(bytes.into()).remove(0);
        self.blocks.insert(leaf.cid(), leaf.bytes().clone());
        (leaf.cid(), length as u64)
    }

    fn directory(&mut self, entries: &[(&str, (Cid, u64))]) -> (Cid, u64) {
        let entries = entries.iter();
        self.put(directory(
            entries.map(|(name, (cid, tsize))| ((*name).to_owned(), *cid, *tsize)),
        ))
    }

    /// A broadcast of files with their names as content.
    fn broadcast(&mut self, files: &[&str], length: usize) -> Cid {
        let files: Vec<_> = (files.iter())
            .map(|name| (*name, self.file(name, length)))
            .collect();
        self.directory(&files).0
    }

    async fn open(&self, allowance: impl Into<Allowance>) -> (Disk, Node) {
        let disk = Disk::new();
        disk.set_remote(self.blocks.clone());
        let (node, _) = open(&disk, name(), allowance).await.unwrap();
        (disk, node)
    }
}

/// The broadcasts that are stored, oldest first.
async fn stored(node: &Node) -> Vec<BroadcastId> {
    let stored = node.broadcasts().await.unwrap();
    stored.iter().map(|it| it.id).collect()
}

/// For nothing of what is stored to be for a time only.
async fn settle(node: &Node, disk: &Disk) {
    tokio::time::sleep(Duration::from_secs(2000)).await;
    counted(node, disk).await;
    node.shared.journal.check_invariants();
}

#[tokio::test(start_paused = true)]
async fn what_a_hostile_box_offers_is_refused_and_leaves_nothing() {
    let mut offer = Offer::default();
    let leaf = offer.file("content", 7);
    let mut deep = offer.directory(&[("a", leaf)]);
    for _ in 0..6 {
        deep = offer.directory(&[("d", deep)]);
    }
    // Each level has thirty times as much in it, and none is larger than a kilobyte.
    let mut bomb = offer.put(file_node(vec![(leaf.0, 7, 7); 30]).0);
    let mut size = 7 * 30;
    for _ in 0..5 {
        bomb = offer.put(file_node(vec![(bomb.0, size, 7); 30]).0);
        size *= 30;
    }
    // As large as a sum of sizes may be, so that it cannot be told again.
    let most = (1 << 48) - 1;
    let huge = offer.put(directory((0..4096).map(|i| (i.to_string(), leaf.0, most))));
    let huge = (huge.0, most);
    let huge: Vec<_> = (0..17).map(|i| (i.to_string(), huge.0, huge.1)).collect();
    let many = (0..5000).map(|i| (i.to_string(), leaf.0, leaf.1));
    let inner = offer.directory(&[("a", leaf)]);
    let roots = [
        deep.0,
        offer.directory(&[("bomb.m4s", (bomb.0, 7))]).0,
        offer.directory(&[("..", leaf)]).0,
        offer.directory(&[("a/b", leaf)]).0,
        offer.directory(&[("", leaf)]).0,
        offer.directory(&[("a", (leaf.0, u64::MAX / 4))]).0,
        offer.put(directory(huge)).0,
        offer.put(directory(many)).0,
        // A directory, and a file, that are not what they say: their Tsize is another one.
        offer.directory(&[("d", (inner.0, 1))]).0,
        offer.directory(&[("a", (leaf.0, 8))]).0,
        leaf.0,
    ];
    let (disk, node) = offer.open(1 << 20).await;
    let good = offer.directory(&[("a", leaf)]).0;
    disk.set_remote(offer.blocks);
    for (i, root) in roots.into_iter().enumerate() {
        let adopted = adopt(&node, Place::Newest, root, true, &all).await;
        assert!(
            matches!(adopted, Err(AdoptError::Refused(_))),
            "{i}: {adopted:?}"
        );
        node.shared.journal.check_invariants();
    }
    // What nobody has does not come, and what is larger than the store does not go in.
    let nobody = Leaf::split(Bytes::from_static(b"nobody has it"))[0].cid();
    let adopted = adopt(&node, Place::Newest, nobody, true, &all).await;
    assert!(
        matches!(adopted, Err(AdoptError::Fetch { .. })),
        "{adopted:?}"
    );
    assert_eq!(stored(&node).await, []);
    settle(&node, &disk).await;
    assert_eq!(node.stats().borrow().stored_bytes, 0);
    adopt(&node, Place::Newest, good, true, &all).await.unwrap();
    node.shutdown().await;
}

/// Files that are read before anything else is known, without a byte in them.
#[tokio::test(start_paused = true)]
async fn a_file_of_nothing_but_links_is_not_walked() {
    let mut offer = Offer::default();
    let mut file = offer.file("", 0);
    for _ in 0..8 {
        // All of it stays in memory, so that no block is brought twice.
        file = offer.put(file_node(vec![(file.0, 0, 0); 9]).0);
    }
    let root = offer.directory(&[("broadcast.json", file)]).0;
    let (disk, node) = offer.open(1 << 20).await;
    let read = node.fetch(root, true).file("broadcast.json", 4096).await;
    assert!(matches!(read, Err(AdoptError::Refused(_))), "{read:?}");
    settle(&node, &disk).await;
    node.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_and_what_nobody_waits_for_leaves_nothing() {
    let mut offer = Offer::default();
    let newest_root = offer.broadcast(&["a", "b", "c"], 5000);
    let root = offer.broadcast(&["d", "e", "f", "g"], 3000);
    let (disk, node) = offer.open(20 << 10).await;
    adopt(&node, Place::Newest, newest_root, true, &all)
        .await
        .unwrap();
    let adopted = adopt(&node, Place::Newest, root, true, &all).await;
    assert!(
        matches!(adopted, Err(AdoptError::Store(StoreError::Full { .. }))),
        "{adopted:?}"
    );
    settle(&node, &disk).await;
    // All of it has come when the first of it is looked at.
    let mut fetch = node.fetch(root, true);
    {
        let mut tree = std::pin::pin!(fetch.tree(&all, &trusting));
        let few = std::future::poll_fn(|cx| {
            let _ = tree.as_mut().poll(cx);
            std::task::Poll::Ready(())
        });
        few.await;
        while disk.blocks().len() < 7 {
            let step = tokio::time::timeout(Duration::ZERO, tree.as_mut());
            assert!(step.await.is_err(), "it is not done yet");
        }
    }
    drop(fetch);
    settle(&node, &disk).await;
    assert_eq!(disk.blocks().len(), 4);
    node.shutdown().await;
}

/// What is refused costs no recording, and what is taken over as the newest may cost the newest before it.
#[tokio::test(start_paused = true)]
async fn a_broadcast_begins_with_what_is_taken_over_of_it() {
    let mut offer = Offer::default();
    let first_root = offer.broadcast(&["a"], 3000);
    let second_root = offer.broadcast(&["b"], 2000);
    let small = offer.broadcast(&["d"], 100);
    let wrong = offer.file("c", 2000);
    let refused = offer.directory(&[("c", (wrong.0, 1))]).0;
    let budgets = Budgets {
        recordings_bytes: 2000,
        pinned_bytes: 2000,
        live_bytes: 2000,
    };
    let (disk, node) = offer.open(budgets).await;
    // Nobody has closed it.
    let first = adopt(&node, Place::Newest, first_root, false, &all).await;
    let first = first.unwrap();
    let adopted = adopt(&node, Place::Newest, refused, true, &all).await;
    assert!(
        matches!(adopted, Err(AdoptError::Refused(_))),
        "{adopted:?}"
    );
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, [first]);
    let second = adopt(&node, Place::Newest, second_root, false, &all).await;
    let second = second.unwrap();
    assert_eq!(stored(&node).await, [second]);
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, [second]);
    // Another one lies there already, and before the first there is no number.
    let before = Place::Before(second);
    adopt(&node, before, small, true, &all).await.unwrap();
    for place in [before, Place::Before(BroadcastId(1))] {
        let adopted = adopt(&node, place, small, true, &all).await;
        assert!(
            matches!(adopted, Err(AdoptError::Refused(_))),
            "{adopted:?}"
        );
    }
    node.shared.journal.check_invariants();
    node.shutdown().await;
}

/// Recordings go, finished or not, but for what the name means.
#[tokio::test(start_paused = true)]
async fn what_the_record_names_is_shown_and_stays() {
    let mut offer = Offer::default();
    let roots = ["a", "b", "c"].map(|name| offer.broadcast(&[name], 2000));
    let budgets = Budgets {
        recordings_bytes: 1000,
        pinned_bytes: 1000,
        live_bytes: 1 << 20,
    };
    let (disk, node) = offer.open(budgets).await;
    let first = adopt(&node, Place::Newest, roots[0], false, &all).await;
    let first = first.unwrap();
    let named = disk.signer().next(roots[0], None).unwrap();
    node.keep_record(named.clone()).await.unwrap();
    adopt(&node, Place::Newest, roots[1], false, &all)
        .await
        .unwrap();
    let third = adopt(&node, Place::Newest, roots[2], false, &all).await;
    let third = third.unwrap();
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, [first, third]);
    let named = disk.signer().next(roots[2], Some(&named)).unwrap();
    node.keep_record(named).await.unwrap();
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, [third]);
    node.shutdown().await;
}

/// What brings blocks from peers could not say that it has no place to put them.
#[tokio::test(start_paused = true)]
async fn a_disk_that_others_have_filled_has_room_before_anything_comes() {
    let mut offer = Offer::default();
    let roots = ["a", "b", "c"].map(|name| offer.broadcast(&[name], 2000));
    let (disk, node) = offer.open(1 << 20).await;
    let mut ids = Vec::new();
    for root in &roots[..2] {
        let adopted = adopt(&node, Place::Newest, *root, true, &all).await;
        ids.push(adopted.unwrap());
    }
    let leave = |bytes: u64| disk.set_capacity(disk.block_bytes() + bytes);
    let room = async |make_room| node.fetch(roots[2], make_room).find_room(true).await;
    let full = |found| {
        let full = AdoptError::Store(StoreError::DiskFull);
        assert_eq!(format!("{found:?}"), format!("{:?}", Err::<(), _>(full)));
    };
    leave(RESERVE_BYTES);
    room(true).await.unwrap();
    leave(RESERVE_BYTES - 1);
    // An earlier broadcast pushes nothing else out.
    full(room(false).await);
    assert_eq!(stored(&node).await, ids);
    room(true).await.unwrap();
    assert_eq!(stored(&node).await, ids[1..]);
    leave(0);
    full(room(true).await);
    assert_eq!(stored(&node).await, ids[1..]);
    // And nothing is refused for good because nothing fits now.
    full(node.fetch(roots[2], true).ahead(&[]).await);
    node.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_pinned_broadcast_grows_no_further_than_recordings_may() {
    let mut offer = Offer::default();
    let small = offer.broadcast(&["a", "b"], 3000);
    let large = offer.broadcast(&["a", "b", "c", "d", "e"], 3000);
    let (disk, node) = offer.open(Budgets::new(10_000, 1 << 20)).await;
    let id = adopt(&node, Place::Newest, small, false, &all).await;
    let id = id.unwrap();
    node.pin(id, true).await.unwrap();
    let place = Place::Of(id);
    let adopted = adopt(&node, place, large, false, &all).await;
    assert!(
        matches!(
            adopted,
            Err(AdoptError::Store(StoreError::PinsFull {
                most_bytes: 10_000,
                ..
            }))
        ),
        "{adopted:?}"
    );
    // What is not kept takes nothing.
    let after_b = |path: &str| match path > "b" {
        true => Want::All,
        false => Want::Nothing,
    };
    adopt(&node, place, large, false, &after_b).await.unwrap();
    // It was pinned since somebody wanted it to go.
    node.delete(id).await.unwrap();
    assert_eq!(stored(&node).await, [id]);
    node.pin(id, false).await.unwrap();
    adopt(&node, place, large, false, &all).await.unwrap();
    node.delete(id).await.unwrap();
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, []);
    node.shutdown().await;
}

/// Of the newest what is held, or not kept, says nothing of the room that recordings have.
#[tokio::test(start_paused = true)]
async fn recordings_are_what_they_are() {
    let mut offer = Offer::default();
    let newest_root = offer.broadcast(&["a", "b", "c", "d", "e"], 3000);
    let next_root = offer.broadcast(&["f", "g", "h", "i", "j"], 3000);
    let one = offer.broadcast(&["k"], 3000);
    let other = offer.broadcast(&["l"], 3000);
    let (disk, node) = offer.open(Budgets::new(5000, 1 << 20)).await;
    let window = |path: &str| match path.len() == 1 && path < "b" {
        true => Want::All,
        false => Want::Nothing,
    };
    let newest = adopt(&node, Place::Newest, newest_root, false, &window).await;
    let newest = newest.unwrap();
    let mut next = node.fetch(next_root, true);
    next.tree(&all, &trusting).await.unwrap();
    assert!(node.stats().borrow().stored_bytes > 10_000);
    let earlier = adopt(&node, Place::Before(newest), one, true, &all).await;
    let earlier = earlier.unwrap();
    let adopted = adopt(&node, Place::Before(earlier), other, true, &all).await;
    assert!(
        matches!(
            adopted,
            Err(AdoptError::Store(StoreError::Full {
                limit_bytes: 5000,
                ..
            }))
        ),
        "{adopted:?}"
    );
    drop(next);
    settle(&node, &disk).await;
    assert_eq!(stored(&node).await, [earlier, newest]);

    // Recordings have what they may, and what a broken link leaves in memory is kept all the same.
    let more = offer.broadcast(&["m"], 3000);
    disk.set_remote(offer.blocks);
    let mut fetch = node.fetch(more, true);
    assert!(fetch.file("m", 4096).await.unwrap().is_some());
    drop(fetch);
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.set_remote(BTreeMap::new());
    let read = node.fetch(more, true).file("m", 4096).await.unwrap();
    assert_eq!(read.map(|it| it.len()), Some(3000));
    settle(&node, &disk).await;
    node.shutdown().await;
}

/// The broadcast that goes to make room has the same file as the one that needs it.
#[tokio::test(start_paused = true)]
async fn what_is_held_is_counted_though_what_named_it_goes_meanwhile() {
    let mut offer = Offer::default();
    let (one, two) = (offer.file("one", 100), offer.file("two", 100));
    let shared = offer.put(file_node([one, two].map(|(cid, size)| (cid, size, size)).into()).0);
    let bulk = offer.file("bulk", 10_000);
    let old_root = offer.directory(&[("a", shared), ("b", bulk)]).0;
    let between = offer.broadcast(&["c"], 1000);
    let bulk = ["d", "e"].map(|name| offer.file(name, 5000));
    let root = offer
        .directory(&[("a", shared), ("d", bulk[0]), ("e", bulk[1])])
        .0;
    let (disk, node) = offer.open(16 << 10).await;
    let mut ids = Vec::new();
    for root in [old_root, between] {
        ids.push(adopt(&node, Place::Newest, root, true, &all).await.unwrap());
    }
    let mut fetch = node.fetch(root, true);
    assert!(fetch.file("a", 4096).await.unwrap().is_some());
    let tree = fetch.tree(&all, &trusting).await.unwrap();
    assert_eq!(stored(&node).await, ids[1..]);
    let adopted = fetch.adopt(Place::Newest, tree, &[], vec![], true, None);
    adopted.await.unwrap();
    node.shared.journal.check_invariants();
    assert_eq!(read_all(&node, root).await.unwrap().len(), 3);
    settle(&node, &disk).await;
    node.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_longer_there_is_told() {
    let mut offer = Offer::default();
    let file = offer.file("a", 100);
    let segments = offer.directory(&[("1.m4s", file), ("2.m4s", file)]);
    let old_root = offer.directory(&[("0000", segments), ("0001", segments)]).0;
    let below = offer.directory(&[("x", file)]);
    let segments = offer.directory(&[("1.m4s", below)]);
    let root = offer.directory(&[("0000", segments), ("0001", file)]).0;
    let (disk, node) = offer.open(1 << 20).await;
    let id = adopt(&node, Place::Newest, old_root, false, &all).await;
    let id = id.unwrap();
    let mut fetch = node.fetch(root, true);
    fetch.goes_on_from(id);
    let tree = fetch.tree(&all, &trusting).await.unwrap();
    let mut gone: Vec<_> = tree.gone().collect();
    gone.sort_unstable();
    assert_eq!(gone, ["0000/1.m4s", "0000/2.m4s", "0001"]);
    let adopted = fetch.adopt(Place::Of(id), tree, &[], vec![], true, None);
    adopted.await.unwrap();
    let found: Vec<_> = read_all(&node, root).await.unwrap().into_keys().collect();
    assert_eq!(found, ["0000/1.m4s/x", "0001"]);
    settle(&node, &disk).await;
    node.shutdown().await;
}

/// A long broadcast has an entry for each file, whether it is kept or not.
#[tokio::test(start_paused = true)]
async fn collecting_garbage_does_not_read_all_that_a_broadcast_names() {
    let mut offer = Offer::default();
    let names: Vec<String> = (0..4000).map(|number| format!("{number:0100}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let short = offer.broadcast(&names[1..], 100);
    let long = offer.broadcast(&names, 100);
    let (disk, node) = offer.open(1 << 30).await;
    let last = |path: &str| match path.ends_with("99") {
        true => Want::All,
        false => Want::Nothing,
    };
    let id = adopt(&node, Place::Newest, short, false, &last).await;
    settle(&node, &disk).await;
    let place = Place::Of(id.unwrap());
    adopt(&node, place, long, false, &last).await.unwrap();
    let before = (node.stats().borrow().stored_bytes, disk.traffic());
    tokio::time::sleep(GRACE + Duration::from_secs(60)).await;
    let after = (node.stats().borrow().stored_bytes, disk.traffic());
    assert!(after.0 < before.0, "the directory before it is gone");
    let read = after.1.journal_read_bytes - before.1.journal_read_bytes;
    assert!(read < 100 << 10, "{read}");
    node.shutdown().await;
}

/// What a broken disk has torn is fetched again, whether a commit names it or not.
#[tokio::test(start_paused = true)]
async fn what_was_torn_is_brought_again() {
    let mut offer = Offer::default();
    let [list, other] = ["list", "other"].map(|name| offer.file(name, 5000));
    let root = offer.directory(&[("list", list), ("other", other)]).0;
    let (disk, node) = offer.open(1 << 20).await;
    // Garbage.
    let read = async || {
        let mut fetch = node.fetch(root, true);
        fetch.file("list", 5000).await.unwrap().unwrap()
    };
    let bytes = read().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    disk.tear_block(&list.0);
    assert_eq!(read().await, bytes);
    let id = adopt(&node, Place::Newest, root, false, &all).await;
    let id = id.unwrap();
    settle(&node, &disk).await;

    disk.tear_block(&list.0);
    let mut fetch = node.fetch(root, true);
    fetch.goes_on_from(id);
    assert_eq!(fetch.file("list", 5000).await.unwrap(), Some(bytes));
    let tree = fetch.tree(&all, &trusting).await.unwrap();
    let place = Place::Of(id);
    let adopted = fetch.adopt(place, tree, &[], vec![], true, None).await;
    adopted.unwrap();
    settle(&node, &disk).await;
    assert_eq!(read_all(&node, root).await.unwrap().len(), 2);
    node.delete(id).await.unwrap();
    settle(&node, &disk).await;
    assert_eq!(disk.block_bytes(), 0);
    node.shutdown().await;
}

/// A block that a broken disk has lost comes with another broadcast that has the same file.
#[tokio::test(start_paused = true)]
async fn what_was_lost_is_found_with_its_name() {
    let mut offer = Offer::default();
    let kept = offer.file("kept", 100);
    let lost = ["large", "small"].map(|name| offer.file(name, 5000));
    let [large, small] = lost;
    let old_root = offer
        .directory(&[("a", large), ("b", small), ("c", kept)])
        .0;
    let root = offer.directory(&[("d", large), ("e", small)]).0;
    let (disk, node) = offer.open(1 << 20).await;
    let old = adopt(&node, Place::Newest, old_root, true, &all).await;
    let old = old.unwrap();
    node.shutdown().await;
    for (cid, _) in lost {
        disk.lose_block(&cid);
    }
    let (node, recovered) = open(&disk, name(), 1 << 20).await.unwrap();
    assert_eq!(recovered.missing.len(), 2);
    // Given up halfway: what came stays with the broadcast that has lost it.
    let mut fetch = node.fetch(root, true);
    fetch.file("d", 5000).await.unwrap();
    drop(fetch);
    settle(&node, &disk).await;
    assert!(disk.blocks().contains_key(&large.0));
    adopt(&node, Place::Newest, root, true, &all).await.unwrap();
    settle(&node, &disk).await;
    node.shared.journal.check_invariants();
    assert_eq!(read_all(&node, old_root).await.unwrap().len(), 3);
    node.delete(old).await.unwrap();
    collected(&node, &disk).await;
    assert_eq!(read_all(&node, root).await.unwrap().len(), 2);
    node.shutdown().await;
}
