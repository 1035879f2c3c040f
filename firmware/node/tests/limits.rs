//! What strangers may take of a host.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use node::{Leaf, Limits, MAX_LEAF};
use node_host::Host;

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
    let stalled = host(&dir.path().join("stalled"), Limits::default()).await;
    let link = Link::to(&address).await;
    stalled
        .connect(link.address.clone(), TIMEOUT)
        .await
        .unwrap();
    is_connected_with(&server, &[&stalled]).await;
    let other = host(&dir.path().join("other"), Limits::default()).await;
    other.connect(address, TIMEOUT).await.unwrap();
    is_connected_with(&server, &[&stalled, &other]).await;

    link.set(Flow::Choked);
    let fetches = cids.iter().map(|cid| stalled.fetch(*cid, 4 * TIMEOUT));
    let fetches: Vec<_> = fetches.map(tokio::spawn).collect();
    is_connected_with(&server, &[&other]).await;
    // Who takes what it wants gets it, and stays.
    for cid in cids {
        other.fetch(cid, TIMEOUT).await.unwrap();
    }
    is_connected_with(&server, &[&other]).await;
    fetches.iter().for_each(|fetch| fetch.abort());
    for host in [stalled, other, server] {
        host.shutdown().await;
    }
}
