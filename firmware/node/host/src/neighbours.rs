//! Neighbours that multicast DNS has found are dialled again for as long as they are there and not connected. libp2p says of each
//! address once that it is there (mdns 0.48), and the one dial that follows may fail: the neighbour is just starting, or full.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connexa::prelude::swarm::dial_opts::DialOpts;
use futures::StreamExt as _;
use futures::stream;
use rust_ipfs::{Ipfs, Multiaddr, PeerId};
use tokio::sync::watch;

const AGAIN: Duration = Duration::from_secs(10);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// Dialled at a time, so that some that do not answer do not hold up the others.
const AT_ONCE: usize = 8;
/// Anybody in the local network announces as many peers as it likes, for as long as it likes. So many are looked after,
const MOST: usize = 64;
/// and so many addresses of each: TCP and QUIC, on each interface.
const MOST_ADDRESSES: usize = 16;

/// Where each of them listens.
pub(crate) type Neighbours = BTreeMap<PeerId, BTreeSet<Multiaddr>>;

/// Takes note of an address; says whether there is room for it.
pub(crate) fn note(neighbours: &mut Neighbours, peer: PeerId, address: Multiaddr) -> bool {
    let full = neighbours.len() >= MOST;
    let addresses = match neighbours.entry(peer) {
        Entry::Vacant(_) if full => return false,
        entry => entry.or_default(),
    };
    let room = addresses.len() < MOST_ADDRESSES || addresses.contains(&address);
    if room {
        addresses.insert(address);
    }
    room
}

/// Looks after them until the host is gone.
pub(crate) fn spawn(
    ipfs: Ipfs,
    mut neighbours: watch::Receiver<Neighbours>,
    connected: watch::Receiver<BTreeSet<String>>,
) {
    tokio::spawn(async move {
        let known = neighbours.clone();
        let rounds = async {
            loop {
                tokio::time::sleep(AGAIN).await;
                let alone = |peer: &PeerId| !connected.borrow().contains(&peer.to_string());
                let mut lost = known.borrow().clone();
                lost.retain(|peer, _| alone(peer));
                stream::iter(lost)
                    .for_each_concurrent(AT_ONCE, |(peer, addresses)| dial(&ipfs, peer, addresses))
                    .await;
            }
        };
        // The swarm holds the sender, and this handle must go with it at once: see `recycle`.
        tokio::select! {
            () = async { while neighbours.changed().await.is_ok() {} } => {}
            () = rounds => {}
        }
    });
}

async fn dial(ipfs: &Ipfs, peer: PeerId, addresses: BTreeSet<Multiaddr>) {
    let addresses = addresses.into_iter().collect();
    let dial = DialOpts::peer_id(peer).addresses(addresses).build();
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, ipfs.connect(dial)).await;
    if !matches!(dialled, Ok(Ok(_))) {
        tracing::debug!(%peer, ?dialled, "a neighbour does not answer");
    }
}

#[cfg(test)]
mod tests {
    use rust_ipfs::Keypair;

    use super::*;
    use crate::{Config, DhtMode, Host, Limits};

    async fn host(key: &Keypair, dir: &std::path::Path, port: u16) -> Host {
        let config = Config {
            repo: dir.to_owned(),
            identity: key.to_protobuf_encoding().unwrap(),
            listen: vec![format!("/ip4/127.0.0.1/tcp/{port}")],
            mdns: false,
            dht: DhtMode::Client,
            swarm_key: None,
            limits: Limits::default(),
            judges: |_, _| Some(0),
        };
        Host::open(config).await.unwrap()
    }

    #[test]
    fn whoever_announces_many_fills_no_memory() {
        let mut neighbours = Neighbours::new();
        let peer = || Keypair::generate_ed25519().public().to_peer_id();
        let address = |port: u16| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap();
        let first = peer();
        for port in 0..100 {
            let room = note(&mut neighbours, first, address(port));
            assert_eq!(room, usize::from(port) < MOST_ADDRESSES);
        }
        for count in 1..200 {
            let room = note(&mut neighbours, peer(), address(1));
            assert_eq!(room, count < MOST);
        }
        // Those that are known are announced again and again.
        assert!(note(&mut neighbours, first, address(1)));
        assert_eq!(neighbours.len(), MOST);
        assert_eq!(neighbours[&first].len(), MOST_ADDRESSES);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_was_not_ready_is_dialled_again() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let key = Keypair::generate_ed25519();
        let peer = key.public().to_peer_id();
        let address = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let found = Neighbours::from([(peer, BTreeSet::from([address]))]);

        let one = host(&Keypair::generate_ed25519(), here.path(), 0).await;
        let (_swarm, neighbours) = watch::channel(found);
        spawn(one.inner.ipfs.clone(), neighbours, one.connected());
        drop(free);
        let other = host(&key, there.path(), port).await;
        let mut connected = one.connected();
        let met = connected.wait_for(|peers| peers.contains(&peer.to_string()));
        drop(
            tokio::time::timeout(Duration::from_secs(60), met)
                .await
                .expect("it is dialled")
                .unwrap(),
        );
        other.shutdown().await;
        one.shutdown().await;
    }
}
