//! The node on a real host and file system, read back by rust-ipfs's own reader and by a second host.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::TryStreamExt;
use libp2p_identity::Keypair;
use node::{Config, Leaf, MAX_LEAF, NewFile, Node, OpenError, Resolved, StoreError, Update};
use node_host::Host;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const TIMEOUT: Duration = Duration::from_secs(20);

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_owned(),
        listen: vec![TCP.to_owned()],
        limit_bytes: 1 << 30,
        mdns: false,
    }
}

async fn second_host(repo: &Path) -> Host {
    let identity = Keypair::generate_ed25519().to_protobuf_encoding().unwrap();
    let config = node_host::Config {
        repo: repo.to_owned(),
        identity,
        listen: vec![TCP.to_owned()],
        mdns: false,
    };
    Host::open(config).await.unwrap()
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
    let (peer_id, channel) = (node.peer_id().to_owned(), node.channel().to_owned());
    assert!(
        peer_id.starts_with("12D3Koo") && channel.starts_with("k51"),
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
        (peer_id.as_str(), channel.as_str())
    );
    assert_eq!(
        (
            recovered.removed_temporary,
            recovered.removed_orphans,
            recovered.missing.len()
        ),
        (1, 0, 0)
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
    assert_eq!(
        (recovered.removed_orphans, recovered.missing.len()),
        (0, 0),
        "nothing stored was harmed"
    );
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
        limit_bytes,
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
