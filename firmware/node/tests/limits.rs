//! What strangers may take of a host.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt as _;
use node::{Budgets, Config, DhtMode, Leaf, Limits, MAX_LEAF, NewFile, Node, Place, Update, Want};
use node_host::{Host, TopicEvent};

mod link;
use link::{Flow, Link, host};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Waits until a host is connected with these and nobody else.
async fn is_connected_with(host: &Host, peers: &[&Host]) {
    let expected: std::collections::BTreeSet<_> = peers.iter().map(|it| it.peer_id()).collect();
    let mut connected = host.connected();
    let reached = connected.wait_for(|connected| *connected == expected);
    let reached = tokio::time::timeout(2 * TIMEOUT, reached).await;
    drop(reached.expect("the peers that it should have").unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_that_is_no_good_is_not_passed_on_and_who_sends_it_is_not_heard_any_more() {
    const TOPIC: &str = "/record/a";
    let dir = tempfile::tempdir().unwrap();
    let mut hosts = Vec::new();
    for name in ["middle", "end", "hostile", "honest"] {
        hosts.push(host(&dir.path().join(name), Limits::default()).await);
    }
    let [middle, end, hostile, honest] = &hosts[..] else {
        unreachable!("four");
    };
    let listen = |host: &Host| host.subscribe(TOPIC.to_owned());
    let (mut at_middle, mut at_end) = (listen(middle).await.unwrap(), listen(end).await.unwrap());
    let _hears = (
        listen(hostile).await.unwrap(),
        listen(honest).await.unwrap(),
    );
    let address = middle.listening().borrow()[0].clone();
    for peer in [end, hostile, honest] {
        peer.connect(address.clone(), TIMEOUT).await.unwrap();
    }
    // Nobody is told anything before both sides know who listens.
    let listening = async {
        while middle.listeners(TOPIC.to_owned()).await.unwrap() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for peer in [end, hostile, honest] {
            while peer.listeners(TOPIC.to_owned()).await.unwrap() < 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    tokio::time::timeout(TIMEOUT, listening).await.unwrap();
    let tell = |host: &Host, message: String| host.publish(TOPIC.to_owned(), message.into());
    for number in 0..8 {
        tell(hostile, format!("bad {number}")).await.unwrap();
    }
    let heard = |event: Option<TopicEvent>| match event.expect("the host lives") {
        TopicEvent::Message(message) => Some(String::from_utf8(message.to_vec()).unwrap()),
        TopicEvent::Joined => None,
    };
    let mut bad = 0;
    while bad < 8 {
        let event = tokio::time::timeout(TIMEOUT, at_middle.next()).await;
        bad += usize::from(heard(event.expect("what is bad")).is_some());
    }
    tell(hostile, "good, but from whom".to_owned())
        .await
        .unwrap();
    // What it says after that has come, so that has.
    const LATER: &str = "/record/later";
    let _later = hostile.subscribe(LATER.to_owned()).await.unwrap();
    let read = async {
        while middle.listeners(LATER.to_owned()).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, read).await.unwrap();
    for message in ["good", "good", "good too", "good", "good to know"] {
        tell(honest, message.to_owned()).await.unwrap();
    }
    let mut passed_on = Vec::new();
    while passed_on.last().is_none_or(|it| it != "good to know") {
        let event = tokio::time::timeout(TIMEOUT, at_end.next()).await;
        passed_on.extend(heard(event.expect("what is good")));
    }
    // The same once more says nothing new, and what is older even less.
    assert_eq!(passed_on, ["good", "good too", "good to know"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connect_than_may() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        incoming: 2,
        ..Limits::default()
    };
    let server = host(&dir.path().join("server"), limits).await;
    let address = server.listening().borrow()[0].clone();
    let mut peers = Vec::new();
    for name in ["one", "other", "third"] {
        peers.push(host(&dir.path().join(name), Limits::default()).await);
    }
    let [one, other, third] = peers.try_into().unwrap();
    for peer in [&one, &other] {
        peer.connect(address.clone(), TIMEOUT).await.unwrap();
    }
    is_connected_with(&server, &[&one, &other]).await;
    // It may believe for a moment that it is connected.
    let _ = third.connect(address.clone(), TIMEOUT).await;
    is_connected_with(&third, &[]).await;
    is_connected_with(&server, &[&one, &other]).await;
    // Whom the host itself dials is not counted.
    let theirs = third.listening().borrow()[0].clone();
    server.connect(theirs, TIMEOUT).await.unwrap();
    is_connected_with(&server, &[&one, &other, &third]).await;
    for host in [one, other, third, server] {
        host.shutdown().await;
    }
}

/// Blocks of the greatest size that a host has.
async fn blocks(host: &Host, count: u8) -> Vec<Cid> {
    let leaves = (0..count).map(|i| Leaf::split(vec![i; MAX_LEAF].into())[0].clone());
    let blocks: Vec<(Cid, Bytes)> = leaves.map(|it| (it.cid(), it.bytes().clone())).collect();
    host.put_blocks(blocks.clone()).await.unwrap();
    blocks.into_iter().map(|(cid, _)| cid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_much_and_takes_nothing_is_sent_away() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        waiting: 4 * MAX_LEAF as u64,
        ..Limits::default()
    };
    let server = host(&dir.path().join("server"), limits).await;
    let address = server.listening().borrow()[0].clone();
    let cids = blocks(&server, 24).await;
    let mut stalled = Vec::new();
    let link = Link::to(&address).await;
    for name in ["one", "another", "third"] {
        let host = host(&dir.path().join(name), Limits::default()).await;
        let dialled = host.connect(link.address.clone(), TIMEOUT).await;
        dialled.unwrap();
        stalled.push(host);
    }
    let other = host(&dir.path().join("other"), Limits::default()).await;
    other.connect(address, TIMEOUT).await.unwrap();
    let all: Vec<_> = stalled.iter().chain([&other]).collect();
    is_connected_with(&server, &all).await;

    link.set(Flow::Choked);
    let fetches = (stalled.iter())
        .flat_map(|host| cids.iter().map(|cid| host.fetch(*cid, 4 * TIMEOUT)))
        .map(tokio::spawn);
    let fetches: Vec<_> = fetches.collect();
    is_connected_with(&server, &[&other]).await;
    // Who takes what it wants gets it, and stays.
    for cid in cids {
        other.fetch(cid, TIMEOUT).await.unwrap();
    }
    is_connected_with(&server, &[&other]).await;
    fetches.iter().for_each(|fetch| fetch.abort());
    for host in stalled.into_iter().chain([other, server]) {
        host.shutdown().await;
    }
}

fn config(dir: &Path, limits: Limits) -> Config {
    Config {
        dir: dir.to_owned(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        allowance: Budgets::new(1 << 30, 0).into(),
        mdns: false,
        peers: Vec::new(),
        dht: DhtMode::Client,
        swarm_key: None,
        limits,
        wall_clock: || Some(SystemTime::now()),
    }
}

/// What it wants stays on its list, so it is sent away every few updates, mostly in the middle of a fetch.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_sent_away_again_and_again_misses_nothing() {
    const ENDS: usize = 3;
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits {
        wants: 40,
        ..Limits::default()
    };
    let (source, _) = Node::open(config(&dir.path().join("source"), limits))
        .await
        .unwrap();
    let (heard, _records) = tokio::sync::mpsc::channel(1);
    let following = config(&dir.path().join("mirror"), Limits::default());
    let (mirror, _) = Node::follow(following, source.channel(), heard)
        .await
        .unwrap();
    mirror.keep_peer(source.listen()[0].clone()).unwrap();
    let (ended, ends) = tokio::sync::watch::channel(0);
    let mut stats = source.stats();
    tokio::spawn(async move {
        while stats.wait_for(|stats| stats.peers == 1).await.is_ok()
            && stats.wait_for(|stats| stats.peers == 0).await.is_ok()
        {
            ended.send_modify(|ends| *ends += 1);
        }
    });

    let broadcast = source.begin(Vec::new()).await.unwrap();
    let (mut place, mut count) = (Place::Newest, 0);
    let follows = async {
        while *ends.borrow() < ENDS {
            count += 1;
            let part = |part: u32| Leaf::split(format!("{count} {part}").into());
            let segment = NewFile {
                path: format!("video/{count}.m4s"),
                leaves: (0..6).flat_map(part).collect(),
                keep: None,
            };
            let update = Update {
                broadcast,
                row: Some(Vec::new()),
                files: vec![segment, NewFile::new("live.m3u8", format!("{count}"))],
                finish: false,
            };
            let root = source.publish(update).await.unwrap().root;
            let mut fetch = mirror.fetch(root, true);
            if let Place::Of(stored) = place {
                fetch.goes_on_from(stored);
            }
            let tree = fetch.tree(&|_| Want::All, &|_| true).await.unwrap();
            let adopted = fetch.adopt(place, tree, &[], Vec::new(), false, None);
            let id = adopted.await.unwrap();
            assert_eq!(mirror.absent(id).await.unwrap(), [""; 0]);
            place = Place::Of(id);
        }
    };
    let followed = tokio::time::timeout(3 * TIMEOUT, follows).await;
    followed.expect("it is sent away, and goes on each time");
    let Place::Of(id) = place else {
        unreachable!("it has followed")
    };
    let files = mirror.files_of(id).await.unwrap();
    assert_eq!(files.len(), count + 1);
    assert_eq!(files, source.files_of(broadcast).await.unwrap());
    mirror.shutdown().await;
    source.shutdown().await;
}
