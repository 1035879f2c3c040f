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
use crate::{AdoptError, BroadcastId, Budgets, Node, OpenError, Place, Recovered, StoreError};

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
    id: BroadcastId,
    root: Cid,
    finish: bool,
    wanted: &(dyn Fn(&str) -> bool + Send + Sync),
) -> Result<(), AdoptError> {
    let mut fetch = node.fetch(root, true);
    fetch.goes_on_from(id, true);
    let tree = fetch.tree(wanted).await?;
    let adopted = fetch.adopt(id, tree, &[], vec![], finish, None).await?;
    assert_eq!(adopted.root, root);
    Ok(())
}

fn all(_: &str) -> bool {
    true
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
    let newest = node.begin_at(Place::Newest, vec![]).await?.unwrap();
    kept.ids.insert(2, newest);
    for (broadcast, row, root) in &from.roots[5..] {
        assert_eq!(*broadcast, 2);
        adopt(&node, newest, *root, *row == 4, &all).await?;
        kept.rows.insert(2, (*row, *root));
        tokio::time::sleep(Duration::from_secs(25)).await;
    }
    // One that is given up leaves nothing for good.
    let (_, _, first) = from.roots[3];
    drop(node.fetch(first, false).file("live.m3u8", 1 << 20).await?);
    let earlier = node.begin_at(Place::Before(newest), vec![]).await?.unwrap();
    assert!(earlier < newest);
    kept.ids.insert(1, earlier);
    adopt(&node, earlier, first, true, &all).await?;
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
    let newest = match recovered.broadcasts.last() {
        Some(newest) => newest.id,
        None => node.begin_at(Place::Newest, vec![]).await.unwrap().unwrap(),
    };
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
    let id = node.begin_at(Place::Newest, vec![]).await.unwrap().unwrap();
    let window = |path: &str| !path.ends_with("event.m3u8") && !path.ends_with("/0.m4s");
    let (_, _, root) = from.roots[2];
    adopt(&node, id, root, false, &window).await.unwrap();
    node.shared.journal.check_invariants();
    let has = async |path: &str| node.resolve(root, path).await.is_ok();
    assert!(has("video/0000/1.m4s").await && has("live.m3u8").await);
    assert!(!has("video/0000/0.m4s").await && !has("video/event.m3u8").await);

    // The window goes on: what falls out of it is garbage, and what was left out can still come.
    let (_, _, next) = from.roots[3];
    let mut fetch = node.fetch(next, true);
    fetch.goes_on_from(id, true);
    let later = |path: &str| window(path) && !path.ends_with("/1.m4s");
    let tree = fetch.tree(&later).await.unwrap();
    let out = ["video/0000/1.m4s".to_owned()];
    let adopted = fetch.adopt(id, tree, &out, vec![], true, None).await;
    adopted.unwrap();
    node.shared.journal.check_invariants();
    tokio::time::sleep(Duration::from_secs(1000)).await;
    counted(&node, &disk).await;
    assert!(node.resolve(next, "video/0000/1.m4s").await.is_err());
    assert!(node.resolve(next, "video/0001/2.m4s").await.is_ok());
    let mut fetch = node.fetch(next, true);
    fetch.goes_on_from(id, false);
    let tree = fetch.tree(&all).await.unwrap();
    fetch
        .adopt(id, tree, &[], vec![], true, None)
        .await
        .unwrap();
    assert_eq!(read_all(&node, next).await.unwrap(), expected(1, 4));
    node.shared.journal.check_invariants();
    node.shutdown().await;
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
        let newest = node.begin_at(Place::Newest, vec![]).await.unwrap().unwrap();
        adopt(&node, newest, newest_root, true, &all).await.unwrap();
        let before = node.stats().borrow().stored_bytes;
        assert!(before > 4 << 10, "it has the room beyond");
        let earlier = node.begin_at(Place::Before(newest), vec![]).await;
        let earlier = earlier.unwrap().unwrap();
        let mut fetch = node.fetch(first, false);
        let tree = fetch.tree(&all).await.unwrap();
        let adopted = fetch.adopt(earlier, tree, &[], vec![], true, None).await;
        match adopted {
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

#[tokio::test(start_paused = true)]
async fn what_a_hostile_box_offers_is_refused_and_leaves_nothing() {
    use crate::unixfs::{directory, file_node};
    use crate::{Leaf, MAX_LEAF};

    let mut blocks = BTreeMap::new();
    let leaf = Leaf::split(Bytes::from_static(b"content"))[0].clone();
    blocks.insert(leaf.cid(), leaf.bytes().clone());
    let mut put = |encoded: crate::unixfs::Encoded| {
        blocks.insert(encoded.cid, encoded.node.unwrap());
        (encoded.cid, encoded.tsize)
    };
    let entry = |name: &str| (name.to_owned(), leaf.cid(), 7);
    let mut deep = put(directory([entry("a")]));
    for _ in 0..6 {
        deep = put(directory([("d".to_owned(), deep.0, deep.1)]));
    }
    // Each level has twice as much in it, and none is larger than a kilobyte.
    let mut bomb = put(file_node(vec![(leaf.cid(), 7, 7); 30]).0);
    let mut size = 7 * 30;
    for _ in 0..5 {
        bomb = put(file_node(vec![(bomb.0, size, 7); 30]).0);
        size *= 30;
    }
    let inner = directory([entry("a")]);
    let roots = [
        deep.0,
        put(directory([("bomb.m4s".to_owned(), bomb.0, 7)])).0,
        put(directory([entry("..")])).0,
        put(directory([entry("a/b")])).0,
        put(directory([entry("")])).0,
        put(directory([("a".to_owned(), leaf.cid(), u64::MAX / 4)])).0,
        put(directory((0..5000).map(|i| entry(&i.to_string())))).0,
        // A directory that is not what it says: its Tsize is another one.
        put(directory([("d".to_owned(), inner.cid, 1)])).0,
        leaf.cid(),
    ];
    blocks.insert(inner.cid, inner.node.unwrap());
    assert!(blocks.values().all(|block| block.len() <= MAX_LEAF));
    let disk = Disk::new();
    disk.set_remote(blocks);
    let (node, _) = open(&disk, name(), 1 << 20).await.unwrap();
    let id = node.begin_at(Place::Newest, vec![]).await.unwrap().unwrap();
    for (i, root) in roots.into_iter().enumerate() {
        let adopted = adopt(&node, id, root, true, &all).await;
        assert!(
            matches!(adopted, Err(AdoptError::Refused(_))),
            "{i}: {adopted:?}"
        );
        node.shared.journal.check_invariants();
    }
    // What nobody has does not come, and what is larger than the store does not go in.
    let nobody = Leaf::split(Bytes::from_static(b"nobody has it"))[0].cid();
    let adopted = adopt(&node, id, nobody, true, &all).await;
    assert!(
        matches!(adopted, Err(AdoptError::Fetch { .. })),
        "{adopted:?}"
    );
    tokio::time::sleep(Duration::from_secs(2000)).await;
    counted(&node, &disk).await;
    assert_eq!(node.stats().borrow().stored_bytes, 0);
    node.shutdown().await;
}
