//! Neighbours that multicast DNS has found are dialled again for as long as they are there and not connected. libp2p says of each
//! address once that it is there (mdns 0.48), and the one dial that follows may fail: the neighbour is just starting, or full.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connexa::prelude::swarm::dial_opts::DialOpts;
use rust_ipfs::{Ipfs, Multiaddr, PeerId};
use tokio::sync::watch;

const AGAIN: Duration = Duration::from_secs(10);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Where each of them listens.
pub(crate) type Neighbours = BTreeMap<PeerId, BTreeSet<Multiaddr>>;

/// Looks after them until the host is gone.
pub(crate) fn spawn(
    ipfs: Ipfs,
    mut neighbours: watch::Receiver<Neighbours>,
    connected: watch::Receiver<BTreeSet<String>>,
) {
    tokio::spawn(async move {
        loop {
            // The swarm holds the sender, and this handle must go with it at once: see `recycle`.
            tokio::select! {
                gone = async { while neighbours.changed().await.is_ok() {} } => return gone,
                () = tokio::time::sleep(AGAIN) => {}
            }
            let alone = |peer: &PeerId| !connected.borrow().contains(&peer.to_string());
            let lost = neighbours.borrow().clone().into_iter();
            for (peer, addresses) in lost.filter(|(peer, _)| alone(peer)) {
                let addresses = addresses.into_iter().collect();
                let dial = DialOpts::peer_id(peer).addresses(addresses).build();
                let dialled = tokio::time::timeout(DIAL_TIMEOUT, ipfs.connect(dial)).await;
                if !matches!(dialled, Ok(Ok(_))) {
                    tracing::debug!(%peer, ?dialled, "a neighbour does not answer");
                }
            }
        }
    });
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
        };
        Host::open(config).await.unwrap()
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
