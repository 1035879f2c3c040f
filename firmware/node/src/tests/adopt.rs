//! A mirror takes over what a box has published, and goes down at each operation on its disk in turn.

mod offers;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::Keypair;
use rustix::io::Errno;

use super::crash::{self, Told, expected, paused};
use super::disk::{Crash, Disk};
use super::{collected, counted, read_all};
use crate::journal::Opener;
use crate::names::{Name, Signer};
use crate::writer::GRACE;
use crate::{
    AdoptError, Allowance, BroadcastId, Budgets, Node, OpenError, Place, Recovered, StoreError,
    Trusts, Want, Wants,
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
    allowance: impl Into<Allowance>,
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
    let started = crate::start(place, store, opener, allowance.into(), signer, None).await;
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
        tokio::time::sleep(GRACE * 5 / 12).await;
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
    let whole = Disk::new();
    paused(async { life(&whole, &from, &mut Kept::default()).await.unwrap() });
    for error in [Errno::IO, Errno::NOSPC, Errno::ROFS] {
        // One that fails once is gone with the process that gives up.
        for fault in whole.faults(error).into_iter().filter(|fault| fault.lasts) {
            let disk = Disk::new();
            disk.set_fault(Some(fault));
            let mut kept = Kept::default();
            paused(async { life(&disk, &from, &mut kept).await.is_ok() });
            assert!(disk.fired(), "{fault:?} has met nothing");
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
