//! The node on a real host and file system, read back by rust-ipfs's own reader and by a second host.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cid::Cid;
use futures::{StreamExt, TryStreamExt};
use libp2p_identity::Keypair;
use node::{
    Budgets, Config, DhtMode, Leaf, Limits, MAX_LEAF, NameRecord, NewFile, Node, OpenError,
    Resolved, StoreError, Update,
};
use node_host::{Host, TopicEvent};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const TIMEOUT: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_owned(),
        listen: vec![TCP.to_owned()],
        allowance: Budgets::new(1 << 30, 0).into(),
        mdns: false,
        peers: Vec::new(),
        dht: DhtMode::Client,
        swarm_key: None,
        limits: Limits::default(),
        wall_clock: || Some(SystemTime::now()),
    }
}

fn host_config(repo: &Path) -> node_host::Config {
    node_host::Config {
        repo: repo.to_owned(),
        identity: Keypair::generate_ed25519().to_protobuf_encoding().unwrap(),
        listen: vec![TCP.to_owned()],
        mdns: false,
        dht: DhtMode::Client,
        swarm_key: None,
        limits: Limits::default(),
        judges: |_, _| Some(0),
    }
}

async fn second_host(repo: &Path) -> Host {
    Host::open(host_config(repo)).await.unwrap()
}

/// Bytes that do not compress or repeat.
fn noise(length: usize, mut seed: u64) -> Bytes {
    let next = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    std::iter::repeat_with(next)
        .take(length)
        .collect::<Vec<_>>()
        .into()
}

struct Segment {
    path: String,
    leaves: Vec<Leaf>,
}

impl Segment {
    /// Four parts; one of them is larger than a leaf.
    fn new(index: u64) -> Segment {
        let sizes = [70_000, MAX_LEAF + 5, 90_000, 10];
        let parts = sizes
            .iter()
            .enumerate()
            .map(|(i, size)| noise(*size, index * 10 + i as u64));
        Segment {
            path: format!("video/{:04}/{index}.m4s", index / 256),
            leaves: parts.flat_map(Leaf::split).collect(),
        }
    }

    fn content(&self) -> Vec<u8> {
        self.leaves
            .iter()
            .flat_map(|leaf| leaf.bytes().to_vec())
            .collect()
    }
}

async fn publish_three(node: &Node) -> Cid {
    let broadcast = node.begin(b"talk".to_vec()).await.unwrap();
    let mut root = None;
    for index in 0..3 {
        let segment = Segment::new(index);
        let files = vec![
            NewFile {
                path: segment.path,
                leaves: segment.leaves,
                keep: None,
            },
            NewFile::new("live.m3u8", format!("#EXTM3U {index}")),
        ];
        let row = Some(index.to_le_bytes().to_vec());
        root = Some(
            node.publish(Update {
                broadcast,
                row,
                files,
                finish: index == 2,
            })
            .await
            .unwrap()
            .root,
        );
    }
    root.unwrap()
}

async fn read(node: &Node, root: Cid, path: &str) -> Vec<u8> {
    let Resolved::File { cid, .. } = node.resolve(root, path).await.unwrap() else {
        panic!("{path} is a directory")
    };
    node.read(cid, 0..u64::MAX)
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_survives_and_rust_ipfs_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let (node, recovered) = Node::open(config(dir.path())).await.unwrap();
    assert!(recovered.broadcasts.is_empty());
    let (peer_id, channel) = (node.peer_id().to_owned(), node.channel());
    assert!(
        peer_id.starts_with("12D3Koo") && channel.to_string().starts_with("k51"),
        "{peer_id} {channel}"
    );
    assert!(
        node.listen()
            .iter()
            .all(|address| address.ends_with(&format!("/p2p/{peer_id}")))
    );
    let root = publish_three(&node).await;
    node.shutdown().await;

    for name in ["identity.key", "channel.key"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let shard = std::fs::read_dir(dir.path().join("ipfs/blockstore"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    std::fs::write(shard.path().join("half.data.1.1.tmp"), b"half").unwrap();

    let (node, recovered) = Node::open(config(dir.path())).await.unwrap();
    assert_eq!(
        (node.peer_id(), node.channel()),
        (peer_id.as_str(), channel)
    );
    assert_eq!(
        (recovered.removed_temporary, recovered.missing.len()),
        (1, 0)
    );
    let [broadcast] = &recovered.broadcasts[..] else {
        panic!("{recovered:?}")
    };
    assert_eq!(
        (&broadcast.meta[..], broadcast.root, broadcast.finished),
        (&b"talk"[..], Some(root), true)
    );
    assert_eq!(broadcast.rows.len(), 3);
    for index in 0..3 {
        let segment = Segment::new(index);
        assert!(
            read(&node, root, &segment.path).await == segment.content(),
            "{}",
            segment.path
        );
    }
    node.shutdown().await;

    let judge = second_host(&dir.path().join("ipfs")).await;
    for index in 0..3 {
        let segment = Segment::new(index);
        let content = judge
            .cat(format!("/ipfs/{root}/{}", segment.path))
            .await
            .unwrap();
        assert!(content == segment.content(), "{}", segment.path);
    }
    assert_eq!(
        judge.cat(format!("/ipfs/{root}/live.m3u8")).await.unwrap(),
        "#EXTM3U 2"
    );
    judge.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_fetches_a_segment_by_bitswap() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for listen in [
        TCP,
        "/ip4/127.0.0.1/udp/0/quic-v1",
        "/ip4/127.0.0.1/tcp/0/ws",
    ] {
        let dir = here.path().join(listen.replace('/', "-"));
        let (node, _) = Node::open(Config {
            listen: vec![listen.to_owned()],
            ..config(&dir)
        })
        .await
        .unwrap();
        let root = publish_three(&node).await;
        let peer = second_host(&there.path().join(listen.replace('/', "-"))).await;
        peer.connect(node.listen()[0].clone(), TIMEOUT)
            .await
            .unwrap();
        let mut stats = node.stats();
        tokio::time::timeout(TIMEOUT, stats.wait_for(|stats| stats.peers == 1))
            .await
            .unwrap()
            .unwrap();
        // A connection on which nothing happens for a while stays.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(stats.borrow().peers, 1, "{listen}");

        let segment = Segment::new(1);
        peer.fetch(root, TIMEOUT).await.unwrap();
        for path in ["video", "video/0000"] {
            let Resolved::Directory { cid, .. } = node.resolve(root, path).await.unwrap() else {
                panic!("{path}")
            };
            peer.fetch(cid, TIMEOUT).await.unwrap();
        }
        peer.fetch(node::file_cid(&segment.leaves), TIMEOUT)
            .await
            .unwrap();
        for leaf in &segment.leaves {
            assert!(peer.fetch(leaf.cid(), TIMEOUT).await.unwrap() == leaf.bytes());
        }
        let content = peer
            .cat(format!("/ipfs/{root}/{}", segment.path))
            .await
            .unwrap();
        assert!(content == segment.content(), "{listen}");
        peer.shutdown().await;
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_is_not_here_is_not_sought() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = Node::open(config(dir.path())).await.unwrap();
    let stranger = Leaf::split("elsewhere".into())[0].cid();
    let answer = tokio::time::timeout(TIMEOUT, node.block(stranger))
        .await
        .expect("it answers at once");
    assert!(answer.unwrap().is_none());
    node.shutdown().await;
}

/// Each row: what is wrong, and what the line says.
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_opening_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _) = Node::open(config(dir.path())).await.unwrap();
    let root = publish_three(&node).await;
    let tcp_in_use = node.listen()[0].split("/p2p/").next().unwrap().to_owned();
    let error = Node::open(config(dir.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    check_line(&error, "another podium is running on this data directory");

    let other = tempfile::tempdir().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_in_use = format!(
        "/ip4/127.0.0.1/udp/{}/quic-v1",
        udp.local_addr().unwrap().port()
    );
    for in_use in [tcp_in_use, udp_in_use] {
        let listen = vec![TCP.to_owned(), in_use.clone()];
        let error = Node::open(Config {
            listen,
            ..config(other.path())
        })
        .await
        .unwrap_err();
        check_line(&error, &format!("{in_use} is in use: change [node] listen"));
    }
    for address in [
        "nonsense",
        "/dns4/example.org/tcp/1",
        "/ip4/127.0.0.1/tcp/1/http",
        "/ip4/127.0.0.1/udp/1",
    ] {
        let error = Node::open(Config {
            listen: vec![address.to_owned()],
            ..config(other.path())
        })
        .await
        .unwrap_err();
        check_line(&error, "is not an address to listen on");
    }
    let error = Node::open(Config {
        peers: vec!["/ip4/192.0.2.1/tcp/4001".to_owned()],
        ..config(other.path())
    });
    check_line(
        &error.await.unwrap_err(),
        "[node] peers: \"/ip4/192.0.2.1/tcp/4001\" is not a peer's address",
    );
    let error = Node::open(Config {
        listen: vec!["/ip4/192.0.2.1/tcp/0".to_owned()],
        ..config(other.path())
    })
    .await;
    check_line(&error.unwrap_err(), "cannot listen on /ip4/192.0.2.1/tcp/0");
    node.shutdown().await;

    let file = dir.path().join("lock");
    check_line(
        &Node::open(config(&file)).await.unwrap_err(),
        "is not a directory: set data_dir",
    );
    check_line(
        &Node::open(config(&file.join("below"))).await.unwrap_err(),
        "is not a directory: set data_dir",
    );
    // The kernel lets nobody make a directory here, not even root.
    check_line(
        &Node::open(config(Path::new("/proc/podium")))
            .await
            .unwrap_err(),
        "/proc/podium",
    );

    for (name, broken, expected) in [
        ("identity.key", &b"junk"[..], "identity.key is broken"),
        ("channel.key", b"", "channel.key is broken"),
        ("journal.redb", b"", "journal.redb is broken"),
        ("journal.redb", b"junk", "journal.redb is broken"),
        ("journal.redb", &[7; 1 << 16], "journal.redb is broken"),
    ] {
        let path = dir.path().join(name);
        let good = std::fs::read(&path).unwrap();
        std::fs::write(&path, broken).unwrap();
        let error = Node::open(config(dir.path())).await.unwrap_err();
        check_line(&error, expected);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            broken,
            "{name} is left as it is"
        );
        std::fs::write(&path, good).unwrap();
    }
    let journal = dir.path().join("journal.redb");
    let good = std::fs::read(&journal).unwrap();
    for length in [good.len() / 2, 4096, 100] {
        std::fs::write(&journal, &good[..length]).unwrap();
        check_line(
            &Node::open(config(dir.path())).await.unwrap_err(),
            "journal.redb is broken",
        );
    }
    std::fs::remove_file(&journal).unwrap();
    check_line(
        &Node::open(config(dir.path())).await.unwrap_err(),
        "has blocks but no journal.redb",
    );
    std::fs::write(&journal, good).unwrap();

    let (node, recovered) = Node::open(config(dir.path())).await.unwrap();
    assert_eq!(recovered.missing, [], "nothing stored was harmed");
    assert!(read(&node, root, "video/0000/2.m4s").await == Segment::new(2).content());
    node.shutdown().await;
}

fn check_line(error: &OpenError, expected: &str) {
    let line = error.to_string();
    assert!(
        line.contains(expected),
        "{line:?} does not say {expected:?}"
    );
    assert!(!line.contains('\n') && !line.ends_with('.'), "{line:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_kept_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let limit_bytes = 5 << 20;
    let (node, _) = Node::open(Config {
        allowance: Budgets::new(limit_bytes, 0).into(),
        ..config(dir.path())
    })
    .await
    .unwrap();
    let blocks = || -> u64 {
        let shards = std::fs::read_dir(dir.path().join("ipfs/blockstore")).unwrap();
        let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    for i in 0..4 {
        let broadcast = node.begin(vec![]).await.unwrap();
        let files = vec![NewFile::new("a", noise(2 << 20, i))];
        let published = node
            .publish(Update {
                broadcast,
                row: None,
                files,
                finish: true,
            })
            .await
            .unwrap();
        assert!(published.stored_bytes <= limit_bytes);
        assert!(blocks() <= limit_bytes, "{}", blocks());
    }
    let broadcast = node.begin(vec![]).await.unwrap();
    let files = vec![NewFile::new("a", noise(6 << 20, 9))];
    let error = node
        .publish(Update {
            broadcast,
            row: None,
            files,
            finish: false,
        })
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert_eq!(node.stats().borrow().stored_bytes, blocks());
    node.shutdown().await;
}

/// Publishes one more file, which moves the name on.
async fn publish_one(node: &Node, broadcast: node::BroadcastId, name: &str) -> Cid {
    let update = Update {
        broadcast,
        row: None,
        files: vec![NewFile::new(name, name.to_owned())],
        finish: false,
    };
    node.publish(update).await.unwrap().root
}

/// `/ipns/` and the name's multihash, and the topic made of it (IPNS PubSub router specification), put together here anew.
fn routing_key(node: &Node) -> (Vec<u8>, String) {
    let cid: Cid = node.channel().to_string().parse().unwrap();
    let key = [b"/ipns/", cid.hash().to_bytes().as_slice()].concat();
    let topic = multibase::Base::Base64Url.encode(&key);
    (key, format!("/record/{topic}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_goes_out_by_pubsub_and_to_the_dht() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (node, _) = Node::open(config(here.path())).await.unwrap();
    let broadcast = node.begin(vec![]).await.unwrap();
    let first = publish_one(&node, broadcast, "a").await;
    let (key, topic) = routing_key(&node);
    let read = |bytes: Bytes| NameRecord::verify(&node.channel(), bytes).unwrap();

    // Who comes late is told what there is, and then what is new.
    let server = node_host::Config {
        dht: DhtMode::Server,
        ..host_config(&there.path().join("server"))
    };
    let peer = Host::open(server).await.unwrap();
    let address = node.listen()[0].clone();
    peer.connect(address.clone(), TIMEOUT).await.unwrap();
    let mut heard = peer.subscribe(topic).await.unwrap();
    let mut next = async |wanted: Cid| {
        let hear = async {
            while let Some(event) = heard.next().await {
                if let TopicEvent::Message(bytes) = event
                    && read(bytes).root == wanted
                {
                    break;
                }
            }
        };
        tokio::time::timeout(TIMEOUT, hear).await.expect("a record");
    };
    next(first).await;
    let second = publish_one(&node, broadcast, "b").await;
    next(second).await;

    // A third party asks the DHT, of which the second alone is a server.
    let asker = second_host(&there.path().join("asker")).await;
    let server = peer.listening().borrow()[0].clone();
    asker.connect(server, TIMEOUT).await.unwrap();
    let found = async {
        loop {
            let records = asker.get_records(key.clone(), TIMEOUT).await;
            if let Some(bytes) = records.unwrap_or_default().pop() {
                return read(bytes);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let found = tokio::time::timeout(3 * TIMEOUT, found).await;
    let found = found.expect("the record is in the DHT");
    assert!([first, second].contains(&found.root));
    for host in [asker, peer] {
        host.shutdown().await;
    }
    node.shutdown().await;
}

/// The key was brought to a second box, whose clock is that of its last shutdown a month ago, and the first one still runs.
#[tokio::test(flavor = "multi_thread")]
async fn two_boxes_with_one_name_notice_each_other_and_neither_is_locked_out() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, _) = Node::open(config(here.path())).await.unwrap();
    let copy = here.path().join("copy");
    node::export_channel(here.path(), &copy).unwrap();
    node::import_channel(there.path(), &copy, false, || Ok(())).unwrap();
    let stale = Config {
        wall_clock: || Some(SystemTime::now() - Duration::from_secs(30 * 24 * 3600)),
        peers: vec![first.listen()[0].clone()],
        ..config(there.path())
    };
    let (second, _) = Node::open(stale).await.unwrap();
    assert_eq!(first.channel(), second.channel());
    let (of_first, of_second) = (
        first.begin(vec![]).await.unwrap(),
        second.begin(vec![]).await.unwrap(),
    );
    let sequence = |node: &Node| node.record().borrow().as_ref().unwrap().sequence;
    let noticed = |node: &Node| node.announced().borrow().another.is_some();
    let both = async {
        for round in 0.. {
            // Until the second has heard of the first, which then says no more.
            if !noticed(&second) {
                publish_one(&first, of_first, &format!("first {round}")).await;
            }
            publish_one(&second, of_second, &format!("second {round}")).await;
            let outdone = sequence(&second) > sequence(&first);
            if outdone && noticed(&first) && noticed(&second) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let both = tokio::time::timeout(2 * TIMEOUT, both).await;
    assert!(both.is_ok(), "{} {}", noticed(&first), noticed(&second));
    second.shutdown().await;
    first.shutdown().await;
}

/// Peers go on telling what a box has signed before it was restarted.
#[tokio::test(flavor = "multi_thread")]
async fn an_echo_after_a_restart_is_no_other_box() {
    const HOUR: Duration = Duration::from_secs(3600);
    let [here, there, peers] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let newest = |node: &Node| node.record().borrow().clone().unwrap();
    let (node, _) = Node::open(config(here.path())).await.unwrap();
    let broadcast = node.begin(vec![]).await.unwrap();
    let mut told = Vec::new();
    for name in ["a", "b"] {
        publish_one(&node, broadcast, name).await;
        told.push(newest(&node));
    }
    node.shutdown().await;
    // Another box with the key, which the network does not reach.
    let copy = there.path().join("copy");
    node::export_channel(here.path(), &copy).unwrap();
    node::import_channel(there.path(), &copy, false, || Ok(())).unwrap();
    let clocks: [fn() -> Option<SystemTime>; 2] = [
        || Some(SystemTime::now() + HOUR),
        || Some(SystemTime::now() + 2 * HOUR),
    ];
    let mut foreign = Vec::new();
    for (name, clock) in ["c", "d"].into_iter().zip(clocks) {
        let (other, _) = Node::offline(there.path(), Budgets::UNLIMITED, clock)
            .await
            .unwrap();
        let broadcast = other.begin(vec![]).await.unwrap();
        publish_one(&other, broadcast, name).await;
        foreign.push(newest(&other));
        other.shutdown().await;
    }

    let (node, _) = Node::open(config(here.path())).await.unwrap();
    let (_, topic) = routing_key(&node);
    let peer = second_host(peers.path()).await;
    peer.connect(node.listen()[0].clone(), TIMEOUT)
        .await
        .unwrap();
    let _heard = peer.subscribe(topic.clone()).await.unwrap();
    let tell = async |record: &NameRecord| {
        let told = async {
            while peer.listeners(topic.clone()).await.unwrap() == 0
                || (peer.publish(topic.clone(), record.bytes.clone()).await).is_err()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, told).await.unwrap();
    };
    for record in told.iter().chain(&foreign[..1]) {
        tell(record).await;
    }
    // What was told last has been heard when the next record is above it.
    let outdone = async {
        for round in 0.. {
            publish_one(&node, broadcast, &format!("{round}")).await;
            if newest(&node).sequence > foreign[0].sequence {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, outdone).await.unwrap();
    assert!(node.announced().borrow().another.is_none());
    tell(&foreign[1]).await;
    let mut announced = node.announced();
    let noticed = announced.wait_for(|it| it.another.is_some());
    tokio::time::timeout(TIMEOUT, noticed)
        .await
        .expect("it goes on signing")
        .unwrap();
    peer.shutdown().await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_peer_is_kept_connected() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mirror = host_config(there.path());
    let peer = Host::open(mirror.clone()).await.unwrap();
    let address = peer.listening().borrow()[0].clone();
    let (node, _) = Node::open(Config {
        peers: vec![address.clone()],
        ..config(here.path())
    })
    .await
    .unwrap();
    let mut stats = node.stats();
    let mut peers_are = async |count: u32| {
        let reached = stats.wait_for(|stats| stats.peers == count);
        let reached = tokio::time::timeout(2 * TIMEOUT, reached).await;
        reached
            .unwrap_or_else(|_| panic!("never {count} peers"))
            .unwrap();
    };
    peers_are(1).await;
    peer.shutdown().await;
    drop(peer);
    peers_are(0).await;
    // It comes back with the same name at the same place, after a while without it.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let back = node_host::Config {
        listen: vec![address.split("/p2p/").next().unwrap().to_owned()],
        ..mirror
    };
    let peer = Host::open(back).await.unwrap();
    peers_are(1).await;
    peer.shutdown().await;
    node.shutdown().await;
}

/// A follower that stays connected fetches block after block. What it got stays on its want list, since rust-ipfs does not take
/// it back: without the limit the list would end at the number of blocks.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_followers_want_list_is_bounded() {
    const LIMIT: usize = 40;
    const BLOCKS: usize = 4 * LIMIT;
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = Host::open(node_host::Config {
        limits: Limits {
            wants: LIMIT,
            ..Limits::default()
        },
        ..host_config(here.path())
    });
    let source = source.await.unwrap();
    let address = source.listening().borrow()[0].clone();
    let follower = second_host(there.path()).await;
    let (mut longest, mut fetched) = (0, 0);
    while fetched < BLOCKS {
        follower.connect(address.clone(), TIMEOUT).await.unwrap();
        // One more than may stay, unless it is disconnected in the middle.
        for _ in 0..=LIMIT {
            let leaf = Leaf::split(noise(100, fetched as u64))[0].clone();
            let block = (leaf.cid(), leaf.bytes().clone());
            source.put_blocks(vec![block]).await.unwrap();
            follower.fetch(leaf.cid(), TIMEOUT).await.unwrap();
            fetched += 1;
        }
        let wants = source.wants().await.unwrap();
        longest = longest.max(wants.first().map_or(0, |(_, count)| *count));
        // Both must have seen it: who believes to be connected does not dial.
        for host in [&source, &follower] {
            let mut connected = host.connected();
            let gone = connected.wait_for(|peers| peers.is_empty());
            let gone = tokio::time::timeout(TIMEOUT, gone).await;
            drop(gone.expect("a long list is ended").unwrap());
        }
    }
    assert!(
        longest > LIMIT,
        "the list grows while the peer is connected"
    );
    assert!(
        longest <= 2 * LIMIT,
        "{longest} entries after {fetched} blocks"
    );
    source.shutdown().await;
    follower.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neighbours_find_each_other() {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if let Err(error) = socket.connect("224.0.0.251:5353") {
        assert!(std::env::var_os("PODIUM_NO_SKIP").is_none(), "{error}");
        // Past the harness, which keeps to itself what a test prints that passes.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no interface for multicast: {error}"
        );
        return;
    }
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let neighbour = |dir: &Path| Config {
        listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()],
        mdns: true,
        ..config(dir)
    };
    let (one, _) = Node::open(neighbour(here.path())).await.unwrap();
    let (other, _) = Node::open(neighbour(there.path())).await.unwrap();
    let mut stats = one.stats();
    let met = stats.wait_for(|stats| stats.peers >= 1);
    let met = tokio::time::timeout(3 * TIMEOUT, met).await;
    drop(met.expect("multicast DNS finds the other").unwrap());
    other.shutdown().await;
    one.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_swarm_lets_nobody_in_without_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = |digit: &str| format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", digit.repeat(64));
    let (member, _) = Node::open(Config {
        swarm_key: Some(key("a")),
        ..config(&dir.path().join("member"))
    })
    .await
    .unwrap();
    for (name, swarm_key, expected) in [
        ("another member", Some(key("a")), true),
        ("another swarm", Some(key("b")), false),
        ("no swarm", None, false),
    ] {
        let peer = Host::open(node_host::Config {
            swarm_key,
            ..host_config(&dir.path().join(name))
        });
        let peer = peer.await.unwrap();
        let address = member.listen()[0].clone();
        let dialled = peer.connect(address, Duration::from_secs(5)).await;
        assert_eq!(dialled.is_ok(), expected, "{name}: {dialled:?}");
        peer.shutdown().await;
    }
    member.shutdown().await;

    for (swarm_key, listen, expected) in [
        ("junk".to_owned(), TCP, "the swarm key is broken"),
        (
            key("a"),
            "/ip4/127.0.0.1/udp/0/quic-v1",
            "has no private swarms",
        ),
    ] {
        let config = Config {
            swarm_key: Some(swarm_key),
            listen: vec![listen.to_owned()],
            ..config(&dir.path().join("refused"))
        };
        check_line(&Node::open(config).await.unwrap_err(), expected);
    }
}
