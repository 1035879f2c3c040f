//! A mirror takes over what a box has published, and goes down at each operation on its disk in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::Keypair;

use super::crash::{self, Told, expected, paused};
use super::disk::{Crash, Disk, Fault};
use super::{collected, counted, read_all};
use crate::journal::Opener;
use crate::names::{Name, Signer};
use crate::unixfs::{Encoded, directory, file_node};
use crate::{
    AdoptError, BroadcastId, Budgets, Leaf, MAX_LEAF, Node, OpenError, Place, Recovered,
    StoreError, Trusts, Want, Wants,
};

/// A box's broadcasts as they were published: the root of each update, and all blocks that there ever were.
struct Published {
    roots: Vec<(u64, u64, Cid)>,
    blocks: BTreeMap<Cid, Bytes>,
}

/// Two broadcasts of four updates. Nothing is deleted.
async fn published() -> Published {
    let disk = Disk::new();
    let (node, _) = super::open(&disk, u64::MAX).await.unwrap();
    let mut told = Told::default();
    let mut roots = Vec::new();
    let mut blocks = BTreeMap::new();
    for broadcast in 1..=2 {
        crash::begin(&node, &mut told).await.unwrap();
        for row in 1..=4 {
            crash::publish(&node, &mut told, row == 4).await.unwrap();
            roots.push((
                broadcast,
                row,
                told.broadcasts.last().unwrap().root.unwrap(),
            ));
            blocks.extend(disk.blocks());
        }
    }
    node.shutdown().await;
    Published { roots, blocks }
}

/// Opens the disk as a mirror's.
async fn open(
    disk: &Disk,
    name: Name,
    budgets: impl Into<Budgets>,
) -> Result<(Node, Recovered), OpenError> {
    let file = disk.clone();
    let opener: Opener = Box::new(move || {
        redb::Builder::new()
            .set_cache_size(super::CACHE_BYTES)
            .create_with_backend(file.clone())
    });
    let place = Path::new("/memory");
    if !disk.has_journal() {
        crate::require_empty(place, disk).await?;
        let created = disk.create_journal();
        created.map_err(|source| OpenError::io(place, source))?;
    }
    let signer = Arc::new(Signer::following(name));
    let store = Arc::new(disk.clone());
    let started = crate::start(place, store, opener, budgets.into(), signer, None).await;
    let (shared, recovered) = started?;
    let shared = Arc::new(shared);
    Ok((Node { shared }, recovered))
}

fn name() -> Name {
    Name::of(&Keypair::generate_ed25519())
}

async fn adopt(
    node: &Node,
    place: Place,
    root: Cid,
    finish: bool,
    wants: Wants<'_>,
) -> Result<BroadcastId, AdoptError> {
    let mut fetch = node.fetch(root, !matches!(place, Place::Before(_)));
    if let Place::Of(id) = place {
        fetch.goes_on_from(id);
    }
    let tree = fetch.tree(wants, &trusting).await?;
    let id = fetch.adopt(place, tree, &[], vec![], finish, None).await?;
    assert_eq!(node.shared.journal.root(id)?, Some(root));
    Ok(id)
}

fn all(_: &str) -> Want {
    Want::All
}

fn trusting(_: &str) -> bool {
    true
}

fn doubting(_: &str) -> bool {
    false
}

/// What a mirror has been told is durable: rows of each broadcast.
#[derive(Debug, Default)]
struct Kept {
    ids: BTreeMap<u64, BroadcastId>,
    rows: BTreeMap<u64, (u64, Cid)>,
}

/// Follows from the second update on; the first broadcast is found last.
async fn life(
    disk: &Disk,
    from: &Published,
    kept: &mut Kept,
) -> Result<(), Box<dyn std::error::Error>> {
    disk.set_remote(from.blocks.clone());
    let (node, _) = open(disk, name(), 1 << 20).await?;
    let mut place = Place::Newest;
    for (broadcast, row, root) in &from.roots[5..] {
        assert_eq!(*broadcast, 2);
        let newest = adopt(&node, place, *root, *row == 4, &all).await?;
        place = Place::Of(newest);
        kept.ids.insert(2, newest);
        kept.rows.insert(2, (*row, *root));
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    let newest = kept.ids[&2];
    // One that is given up leaves nothing for good.
    let (_, _, first) = from.roots[3];
    drop(node.fetch(first, false).file("live.m3u8", 1 << 20).await?);
    let earlier = adopt(&node, Place::Before(newest), first, true, &all).await?;
    assert!(earlier < newest);
    kept.ids.insert(1, earlier);
    kept.rows.insert(1, (4, first));
    tokio::time::sleep(Duration::from_secs(1000)).await;
    node.shutdown().await;
    Ok(())
}

/// Opens what was found: what was told is there, the journal holds, and the mirror goes on to the end.
async fn check(disk: &Disk, from: &Published, kept: &Kept) {
    let (node, recovered) = open(disk, name(), u64::MAX).await.unwrap();
    assert_eq!(recovered.missing, []);
    node.shared.journal.check_invariants();
    counted(&node, disk).await;
    for (broadcast, (rows, root)) in &kept.rows {
        let found = recovered
            .broadcasts
            .iter()
            .find(|it| it.id == kept.ids[broadcast]);
        let found = found.unwrap().root.unwrap();
        let told = read_all(&node, *root).await.unwrap();
        assert_eq!(told, expected(*broadcast, *rows));
        // What was under way may have been committed without its answer.
        let now = from
            .roots
            .iter()
            .find(|(_, _, root)| *root == found)
            .unwrap();
        assert!(now.0 == *broadcast && now.1 >= *rows);
    }
    let newest = recovered.broadcasts.last();
    let newest = newest.map_or(Place::Newest, |newest| Place::Of(newest.id));
    let (_, _, last) = from.roots[7];
    adopt(&node, newest, last, true, &all).await.unwrap();
    assert_eq!(read_all(&node, last).await.unwrap(), expected(2, 4));
    collected(&node, disk).await;
    node.shared.journal.check_invariants();
    node.shutdown().await;
    let (node, recovered) = open(disk, name(), u64::MAX).await.unwrap();
    assert_eq!(recovered.missing, []);
    node.shutdown().await;
}

#[test]
fn whatever_the_moment_what_was_taken_over_is_whole() {
    let mut from = None;
    paused(async { from = Some(published().await) });
    let from = from.unwrap();
    let operations = {
        let disk = Disk::new();
        paused(async {
            let mut kept = Kept::default();
            life(&disk, &from, &mut kept).await.unwrap();
            check(&disk, &from, &kept).await;
        });
        let disk = Disk::new();
        paused(async { life(&disk, &from, &mut Kept::default()).await.unwrap() });
        disk.operations()
    };
    for stop_at in 0..operations {
        let disk = Disk::new();
        disk.stop_at(stop_at);
        let mut kept = Kept::default();
        paused(async { life(&disk, &from, &mut kept).await.is_ok() });
        for crash in [Crash::Kill, Crash::PowerCut { seed: stop_at }] {
            let found = disk.after(crash);
            paused(check(&found, &from, &kept));
        }
    }
}

/// A disk that fails at each operation in turn, and works again after the process has given up: an adoption that is there all
/// the same has all its blocks.
#[test]
fn whatever_fails_what_was_taken_over_is_whole() {
    let mut from = None;
    paused(async { from = Some(published().await) });
    let from = from.unwrap();
    let operations = {
        let disk = Disk::new();
        paused(async { life(&disk, &from, &mut Kept::default()).await.unwrap() });
        disk.operations()
    };
    for at in 0..operations {
        for spares_blocks in [false, true] {
            let disk = Disk::new();
            disk.set_fault(Some(Fault {
                at,
                kind: std::io::ErrorKind::Other,
                lasts: true,
                spares_blocks,
            }));
            let mut kept = Kept::default();
            paused(async { life(&disk, &from, &mut kept).await.is_ok() });
            paused(check(&disk.after(Crash::Kill), &from, &kept));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_wanted_is_named_and_not_kept() {
    let from = published().await;
    let disk = Disk::new();
    disk.set_remote(from.blocks.clone());
    let (node, _) = open(&disk, name(), 1 << 20).await.unwrap();
    let window = |path: &str| match path.ends_with("event.m3u8") || path.ends_with("/0.m4s") {
        true => Want::Nothing,
        false => Want::All,
    };
    let (_, _, root) = from.roots[2];
    let adopted = adopt(&node, Place::Newest, root, false, &window).await;
    let id = adopted.unwrap();
    node.shared.journal.check_invariants();
    let has = async |path: &str| node.resolve(root, path).await.is_ok();
    assert!(has("video/0000/1.m4s").await && has("live.m3u8").await);
    assert!(!has("video/0000/0.m4s").await && !has("video/event.m3u8").await);

    // The window goes on: what falls out of it is garbage, and what was left out can still come.
    let (_, _, next) = from.roots[3];
    let mut fetch = node.fetch(next, true);
    fetch.goes_on_from(id);
    let later = |path: &str| match path.ends_with("/1.m4s") {
        true => Want::Nothing,
        false => window(path),
    };
    let tree = fetch.tree(&later, &trusting).await.unwrap();
    let out = ["video/0000/1.m4s".to_owned()];
    let place = Place::Of(id);
    let adopted = fetch.adopt(place, tree, &out, vec![], true, None).await;
    adopted.unwrap();
    node.shared.journal.check_invariants();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    counted(&node, &disk).await;
    assert!(node.resolve(next, "video/0000/1.m4s").await.is_err());
    assert!(node.resolve(next, "video/0001/2.m4s").await.is_ok());
    let mut fetch = node.fetch(next, true);
    fetch.goes_on_from(id);
    let tree = fetch.tree(&all, &doubting).await.unwrap();
    fetch
        .adopt(place, tree, &[], vec![], true, None)
        .await
        .unwrap();
    assert_eq!(read_all(&node, next).await.unwrap(), expected(1, 4));
    node.shared.journal.check_invariants();
    node.shutdown().await;
}

/// A mirror that has come back shows what is new first, and fetches what it missed afterwards.
#[tokio::test(start_paused = true)]
async fn what_is_stored_stays_while_what_was_missed_comes_later() {
    let from = published().await;
    let disk = Disk::new();
    disk.set_remote(from.blocks.clone());
    let (node, _) = open(&disk, name(), 1 << 20).await.unwrap();
    let (_, _, first) = from.roots[0];
    let id = adopt(&node, Place::Newest, first, false, &all).await;
    let id = id.unwrap();
    assert!(node.absent(id).await.unwrap().is_empty());

    let (_, _, last) = from.roots[3];
    let newest = |path: &str| match path.ends_with("event.m3u8") || path.ends_with(".m4s") {
        true if !path.ends_with("/3.m4s") => Want::Stored,
        _ => Want::All,
    };
    let place = Place::Of(id);
    adopt(&node, place, last, false, &newest).await.unwrap();
    let absent = ["video/event.m3u8", "video/0000/1.m4s", "video/0001/2.m4s"];
    assert_eq!(node.absent(id).await.unwrap(), absent);
    let here = node.files_of(id).await.unwrap();
    let segments = here.keys().filter(|path| path.ends_with(".m4s"));
    let segments: Vec<_> = segments
        .map(|path| path.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(segments, ["0.m4s", "3.m4s"]);
    node.shared.journal.check_invariants();

    // A directory that is trusted is not looked at.
    let fill = async |trusts: Trusts<'_>| {
        let mut fetch = node.fetch(last, true);
        fetch.goes_on_from(id);
        let tree = fetch.tree(&all, trusts).await.unwrap();
        let adopted = fetch.adopt(place, tree, &[], vec![], true, None).await;
        assert_eq!(adopted.unwrap(), id);
        node.absent(id).await.unwrap().len()
    };
    assert_eq!(fill(&trusting).await, 3);
    assert_eq!(fill(&doubting).await, 0);
    assert_eq!(read_all(&node, last).await.unwrap(), expected(1, 4));
    counted(&node, &disk).await;
    node.shared.journal.check_invariants();
}

/// What is fetched ahead is asked for only once, and what is not there keeps nobody waiting.
#[tokio::test(start_paused = true)]
async fn what_is_fetched_ahead_is_at_hand() {
    let from = published().await;
    let disk = Disk::new();
    disk.set_remote(from.blocks.clone());
    let (node, _) = open(&disk, name(), 1 << 20).await.unwrap();
    let (_, _, root) = from.roots[3];
    let mut fetch = node.fetch(root, true);
    let paths = [
        "live.m3u8",
        "video/0001/3.m4s",
        "video/9/9.m4s",
        "live.m3u8/x",
        "",
    ]
    .map(str::to_owned);
    fetch.ahead(&paths).await.unwrap();
    disk.set_remote(BTreeMap::new());
    let live = fetch.file("live.m3u8", 1 << 20).await.unwrap();
    assert_eq!(live.as_ref(), expected(1, 4).get("live.m3u8"));
    let wanted = |path: &str| match path {
        "video" | "video/0001" | "video/0000" | "live.m3u8" => Want::All,
        _ => Want::Nothing,
    };
    let tree = fetch.tree(&wanted, &trusting).await;
    // It lies beside those on the way.
    assert!(matches!(tree, Err(AdoptError::Fetch { .. })), "{tree:?}");

    let nowhere = node.fetch(from.roots[7].2, true).ahead(&paths).await;
    nowhere.expect("nobody has it, and nobody waits for ever");
}

#[tokio::test(start_paused = true)]
async fn an_earlier_broadcast_has_the_recordings_budget() {
    let from = published().await;
    let ((_, _, first), (_, _, newest_root)) = (from.roots[3], from.roots[7]);
    for (recordings_bytes, fits) in [(4 << 10, false), (1 << 20, true)] {
        let disk = Disk::new();
        disk.set_remote(from.blocks.clone());
        let budgets = Budgets::new(recordings_bytes, 1 << 20);
        let (node, _) = open(&disk, name(), budgets).await.unwrap();
        let newest = adopt(&node, Place::Newest, newest_root, true, &all).await;
        let newest = newest.unwrap();
        let before = node.stats().borrow().stored_bytes;
        assert!(before > 4 << 10, "it has the room beyond");
        match adopt(&node, Place::Before(newest), first, true, &all).await {
            Ok(_) => assert!(fits),
            Err(AdoptError::Store(StoreError::Full { limit_bytes, .. })) => {
                assert_eq!((limit_bytes, fits), (recordings_bytes, false));
            }
            Err(error) => panic!("{error}"),
        }
        let pin = node.pin(newest, true).await;
        assert_eq!(pin.is_ok(), fits, "{pin:?}");
        counted(&node, &disk).await;
        node.shared.journal.check_invariants();
        node.shutdown().await;
    }
}

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

    async fn open(&self, budgets: impl Into<Budgets>) -> (Disk, Node) {
        let disk = Disk::new();
        disk.set_remote(self.blocks.clone());
        let (node, _) = open(&disk, name(), budgets).await.unwrap();
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
