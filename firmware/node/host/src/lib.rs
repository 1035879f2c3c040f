//! The embedded libp2p host and block store: the only crate that names rust-ipfs.
//!
//! rust-ipfs serves as block store, bitswap and libp2p host, and as nothing else: its garbage collector can deadlock
//! with its own adder, its pins re-read every leaf, and its IPNS calls do not work against other implementations
//! (measured at 0.16.0). Adding, directories, deletion and names are the crate `node`'s.
//!
//! `IpfsBuilder::start()` costs minutes of code generation, and the crate that polls a plain future generates it again.
//! Every method of [`Host`] therefore returns a boxed future, and no type of rust-ipfs appears in a signature.

mod contacts;
mod dial;
mod fetch;
mod gossip;
mod listen;
mod neighbours;
mod outsider;
mod pings;
mod places;
mod provided;
mod recycle;
mod start;
mod unanswered;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use connexa::prelude::GossipsubEvent;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use rust_ipfs::{AddPeerOpt, Block, Ipfs, PeerId, Quorum};

use tokio::sync::watch;

pub use contacts::{Contact, Contacts};
pub use outsider::Question;
pub use places::machine_of;
pub use uplink;

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of rust-ipfs's repository; created when absent. The caller keeps other processes out of it.
    pub repo: PathBuf,
    /// ed25519 key in libp2p's protobuf encoding: who this host is.
    pub identity: Vec<u8>,
    /// Multiaddrs over TCP, QUIC v1 or WebSocket. Port 0 takes a free port.
    pub listen: Vec<String>,
    /// Whether to find and dial peers on the local network.
    pub mdns: bool,
    pub dht: DhtMode,
    /// Contents of a `swarm.key` as go-libp2p writes it: only peers that have the same key can connect, over TCP and
    /// WebSocket.
    pub swarm_key: Option<String>,
    pub limits: Limits,
    /// How new a message is, on each topic that this host listens to. One that is older than another, or not its topic's, is not passed on.
    pub judges: fn(&str, &[u8]) -> Option<u64>,
}

/// What the host does for the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DhtMode {
    /// Asks, and answers nobody: for a box behind a venue's NAT, whom nobody could reach.
    #[default]
    Client,
    /// Keeps records for others: on a closed network somebody has to.
    Server,
}

/// What strangers may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that others may open, half of them from one address. Those that this host opens are not counted.
    pub incoming: u32,
    /// Blocks being read by bitswap at a time, for all peers together. Each may take 1 MiB of memory.
    pub serving: usize,
    /// Bytes of blocks that may wait for the network, about: rust-ipfs reads what is wanted at once. Beyond it those who want most
    /// are disconnected.
    pub waiting: u64,
    /// Blocks that all peers together may have on their want lists. rust-ipfs as a client does not take back what it got, and the list
    /// grows with every segment: beyond it the peers with the longest are disconnected once, and their next connections start with
    /// empty lists. An entry is 201 bytes in a table that is 7/16 full or more, so it is 15 MB at most
    /// for who only follows: a table that was longer for a moment stays as long until its peer goes.
    pub wants: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            incoming: 96,
            serving: 64,
            waiting: 96 << 20,
            wants: 32 << 10,
        }
    }
}

/// What happens on a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicEvent {
    /// A peer listens from now on.
    Joined,
    Message(Bytes),
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{address:?} is not an address to listen on ({reason}): write [node] listen like \"/ip4/0.0.0.0/tcp/4001\""
    )]
    BadAddress { address: String, reason: String },
    #[error("{address} is in use: change [node] listen")]
    AddressInUse { address: String },
    #[error("cannot listen on {address} ({reason}): change [node] listen")]
    Listen { address: String, reason: String },
    #[error(
        "the swarm key is broken ({reason}): give the swarm.key that the other nodes have, or none"
    )]
    SwarmKey { reason: String },
    #[error(
        "{address} is QUIC, which has no private swarms: leave it out of [node] listen, or swarm_key out of [node]"
    )]
    PrivateQuic { address: String },
    #[error("the identity key is not an ed25519 key in libp2p's protobuf encoding ({reason})")]
    Identity { reason: String },
    #[error("the block store in {} does not open: {source}", repo.display())]
    Repo {
        repo: PathBuf,
        source: std::io::Error,
    },
}

/// Why an operation on blocks or peers failed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the block store: {0}")]
    Io(#[from] std::io::Error),
    #[error(
        "{address:?} is not a peer's address ({reason}): write one like \"/ip4/192.0.2.1/tcp/4001/p2p/12D3Koo…\""
    )]
    BadAddress { address: String, reason: String },
    #[error("the network: {0}")]
    Network(String),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// A running libp2p host with its block store; clones share it.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    ipfs: Ipfs,
    peer_id: PeerId,
    blocks_dir: PathBuf,
    peers: watch::Receiver<u32>,
    connected: watch::Receiver<BTreeSet<String>>,
    contacts: watch::Receiver<Contacts>,
    listening: watch::Receiver<Vec<String>>,
    /// How many connections have ended of peers that kept another one.
    thinned: watch::Receiver<u64>,
    asked: fetch::Asked,
    removed_temporary: usize,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host")
            .field("peer_id", &self.inner.peer_id)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Starts the host; when it returns, every configured address is bound. Must be called within a tokio runtime.
    pub fn open(config: Config) -> BoxFuture<'static, Result<Host, OpenError>> {
        Box::pin(start::open(config))
    }

    /// Peer id, `12D3Koo…`.
    pub fn peer_id(&self) -> String {
        self.inner.peer_id.to_string()
    }

    /// Number of connected peers, as it changes.
    pub fn peers(&self) -> watch::Receiver<u32> {
        self.inner.peers.clone()
    }

    /// Ids of the connected peers, as they change.
    pub fn connected(&self) -> watch::Receiver<BTreeSet<String>> {
        self.inner.connected.clone()
    }

    /// Who the connected peers are, and where each can be dialled.
    pub fn contacts(&self) -> watch::Receiver<Contacts> {
        self.inner.contacts.clone()
    }

    /// Number of unfinished `*.tmp` files that an earlier, killed process had left and [`Host::open`] removed.
    pub fn removed_temporary(&self) -> usize {
        self.inner.removed_temporary
    }

    /// Addresses that are bound, with real ports and ending in `/p2p/<peer id>`, as they change with the machine's interfaces.
    pub fn listening(&self) -> watch::Receiver<Vec<String>> {
        self.inner.listening.clone()
    }

    /// Stores blocks; they are durable when it returns. A CID must be that of its bytes: it is not hashed again.
    ///
    /// After an error any of the blocks may be stored.
    ///
    /// For tests: the crate `node` writes its blocks itself.
    pub fn put_blocks(
        &self,
        blocks: Vec<(Cid, Bytes)>,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            // One by one: rust-ipfs's own batch holds the store's lock, which readers need, over all of its fsyncs.
            for (cid, bytes) in blocks {
                let block = Block::new_unchecked(cid, bytes);
                inner.ipfs.repo().put_block(&block).await.map_err(io)?;
            }
            // rust-ipfs syncs each block and its shard's directory, but not the entry of a shard it has just created.
            let dir = inner.blocks_dir.clone();
            blocking(move || std::fs::File::open(dir)?.sync_all()).await?;
            Ok(())
        })
    }

    /// Reads a block from the local store, never from the network. The bytes have been checked against the CID.
    pub fn get_block(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let block = inner.ipfs.repo().get_block_now(cid).await.map_err(io)?;
            Ok(block.map(|block| block.into_inner().1))
        })
    }

    /// Dials a peer at a multiaddr ending in `/p2p/<peer id>`; a host name is looked up.
    pub fn connect(
        &self,
        address: String,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let dial = async {
                let address = dial::resolve(&address).await?;
                inner.ipfs.connect(address).await.map_err(network)
            };
            match tokio::time::timeout(timeout, dial).await {
                Ok(result) => result.map(drop),
                Err(_) => Err(HostError::Timeout(timeout)),
            }
        })
    }

    /// Dials a peer and from then on keeps connections with it even while they are idle.
    pub fn connect_and_keep(
        &self,
        address: String,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let (this, inner) = (self.clone(), self.inner.clone());
        Box::pin(async move {
            let (peer, at) = dial::parse(&address)?;
            let keep = AddPeerOpt::with_peer_id(peer).add_address(at).keepalive();
            inner.ipfs.add_peer(keep).await.map_err(network)?;
            this.connect(address, timeout).await
        })
    }

    /// Listens to a topic of gossipsub. What comes while nobody polls is dropped beyond a few dozen events.
    pub fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, TopicEvent>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let listener = inner.ipfs.pubsub_listener(topic.clone());
            let events = listener.await.map_err(network)?;
            inner.ipfs.pubsub_subscribe(topic).await.map_err(network)?;
            let events = events.filter_map(async |event| match event {
                GossipsubEvent::Subscribed { .. } => Some(TopicEvent::Joined),
                GossipsubEvent::Message { message } => Some(TopicEvent::Message(message.data)),
                GossipsubEvent::Unsubscribed { .. } => None,
            });
            Ok(events.boxed())
        })
    }

    /// Sends a message to all who listen to a topic; fails if nobody does.
    pub fn publish(
        &self,
        topic: String,
        message: Bytes,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let publish = inner.ipfs.pubsub_publish(topic, message);
            publish.await.map_err(network)
        })
    }

    /// How many connected peers listen to a topic.
    pub fn listeners(&self, topic: String) -> BoxFuture<'static, Result<usize, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let peers = inner.ipfs.pubsub_peers(topic).await.map_err(network)?;
            Ok(peers.len())
        })
    }

    /// Puts a record into the DHT; fails unless a DHT server has taken it. It may take for ever.
    pub fn put_record(
        &self,
        key: Vec<u8>,
        record: Bytes,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let put = inner.ipfs.dht_put(key, record, Quorum::One);
            put.await.map_err(network)
        })
    }

    /// Tells the DHT that this node has a block, and again every twelve hours while it is one of the last sixteen. It may take for ever.
    pub fn provide(&self, cid: Cid) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.ipfs.provide(cid).await.map_err(network) })
    }

    /// Records that the DHT has under a key, none of them verified: all, or those that have come in this time.
    pub fn get_records(
        &self,
        key: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<Bytes>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let records = inner.ipfs.dht_get(key).await.map_err(network)?;
            let records = records.map(|record| Bytes::from(record.value));
            Ok(collect_within(timeout, records).await)
        })
    }

    /// How many blocks each connected peer has on its want list here.
    ///
    /// For tests.
    pub fn wants(&self) -> BoxFuture<'static, Result<Vec<(String, usize)>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut wants = Vec::new();
            for (peer, count) in recycle::wants(&inner.ipfs).await.map_err(network)? {
                wants.push((peer.to_string(), count));
            }
            Ok(wants)
        })
    }

    /// Reads a block from the local store or, failing that, from connected peers by bitswap, and stores it locally. It asks
    /// again by itself where what was asked may have been lost.
    pub fn fetch(
        &self,
        cid: Cid,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            match tokio::time::timeout(timeout, fetch::fetch(&inner, cid)).await {
                Ok(result) => result,
                Err(_) => Err(HostError::Timeout(timeout)),
            }
        })
    }

    /// Reads a whole file at `/ipfs/<cid>/<path>` from the local store with rust-ipfs's own UnixFS reader.
    ///
    /// A judge for tests of the crate `node`, whose writer and reader are its own.
    pub fn cat(&self, path: String) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let path = rust_ipfs::IpfsPath::from_str(&path).map_err(network)?;
            let cat = async { inner.ipfs.cat_unixfs(path).local().await };
            cat.await.map_err(|e| HostError::Network(format!("{e:?}")))
        })
    }

    /// Closes connections and listeners. The local store can still be read through other clones.
    pub fn shutdown(&self) -> BoxFuture<'static, ()> {
        let ipfs = self.inner.ipfs.clone();
        Box::pin(ipfs.exit_daemon())
    }
}

/// Asks a peer for blocks from outside: over a connection and under an identity that have nothing to do with any [`Host`] of
/// this process. Returns the bytes in the order of the question; they have been checked against the CIDs. An error where any
/// of the blocks does not come in time.
pub fn ask(question: Question) -> BoxFuture<'static, Result<Vec<Bytes>, HostError>> {
    Box::pin(outsider::ask(question))
}

/// Whether a [`Config`] with these addresses and this key could be opened, as far as what is written there says.
pub fn check(listen: &[String], swarm_key: Option<&str>) -> Result<(), OpenError> {
    start::parse(listen, swarm_key).map(drop)
}

/// Peer id at the end of a multiaddr, if it is an address that [`Host::connect`] can dial.
pub fn peer_of(address: &str) -> Result<String, HostError> {
    Ok(dial::parse(address)?.0.to_string())
}

/// What comes in this time.
async fn collect_within<T>(time: Duration, stream: impl Stream<Item = T>) -> Vec<T> {
    stream.take_until(tokio::time::sleep(time)).collect().await
}

/// rust-ipfs's errors are boxed; the kind inside tells a full disk from a broken one.
fn io(error: rust_ipfs::Error) -> HostError {
    match error.downcast::<std::io::Error>() {
        Ok(error) => HostError::Io(error),
        Err(error) => HostError::Io(std::io::Error::other(error.to_string())),
    }
}

fn network(error: impl std::fmt::Display) -> HostError {
    HostError::Network(error.to_string())
}

async fn blocking(f: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(f)
        .await
        .map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk through the DHT ends with the slowest of those who are asked, which may take a minute.
    #[tokio::test(start_paused = true)]
    async fn what_has_come_in_time_is_not_lost_with_what_comes_later() {
        let time = Duration::from_secs(30);
        let slow = futures::stream::iter([1, 2]).chain(futures::stream::pending());
        assert_eq!(collect_within(time, slow).await, [1, 2]);
        let began = tokio::time::Instant::now();
        let done = collect_within(time, futures::stream::iter([1, 2])).await;
        assert_eq!((done, began.elapsed()), (vec![1, 2], Duration::ZERO));
    }
}
