//! The embedded libp2p host and block store: the only crate that names rust-ipfs.
//!
//! rust-ipfs serves as block store, bitswap and libp2p host, and as nothing else: its garbage collector can deadlock
//! with its own adder, its pins re-read every leaf, and its IPNS calls do not work against other implementations
//! (measured at 0.16.0). Adding, directories, deletion and names are the crate `node`'s.
//!
//! `IpfsBuilder::start()` costs minutes of code generation, and the crate that polls a plain future generates it again.
//! Every method of [`Host`] therefore returns a boxed future, and no type of rust-ipfs appears in a signature.

mod listen;
mod start;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::future::BoxFuture;
use rust_ipfs::{Block, Ipfs, Multiaddr, PeerId};
use tokio::sync::watch;

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
    #[error("{address:?} is not a peer's address ({reason})")]
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

    /// Number of unfinished `*.tmp` files that an earlier, killed process had left and [`Host::open`] removed.
    pub fn removed_temporary(&self) -> usize {
        self.inner.removed_temporary
    }

    /// Addresses that are bound now, with real ports and ending in `/p2p/<peer id>`.
    pub fn listen_addrs(&self) -> BoxFuture<'static, Result<Vec<String>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let addrs = inner.ipfs.listening_addresses().await.map_err(network)?;
            Ok(addrs
                .iter()
                .map(|a| format!("{a}/p2p/{}", inner.peer_id))
                .collect())
        })
    }

    /// Stores blocks; they are durable when it returns. A CID must be that of its bytes: it is not hashed again.
    ///
    /// After an error any of the blocks may be stored.
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

    /// Whether the local store has the block; does not read it.
    pub fn has_block(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.ipfs.repo().contains(cid).await.map_err(io) })
    }

    /// Removes a block; one that is not there is no error.
    pub fn remove_block(&self, cid: Cid) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let repo = inner.ipfs.repo();
            let removed = repo.remove_block(cid, false).await.map_err(io)?;
            // rust-ipfs swallows the error of the unlink itself.
            if removed.is_empty() && repo.contains(cid).await.map_err(io)? {
                let error = std::io::Error::new(
                    std::io::ErrorKind::PermissionDenied,
                    format!("cannot remove {cid}"),
                );
                return Err(error.into());
            }
            Ok(())
        })
    }

    /// Lists every block of the local store.
    pub fn list_blocks(&self) -> BoxFuture<'static, Result<Vec<Cid>, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            // rust-ipfs lists an unreadable directory as an empty one.
            let dir = inner.blocks_dir.clone();
            blocking(move || std::fs::read_dir(dir).map(drop)).await?;
            Ok(inner.ipfs.repo().list_blocks().await.collect().await)
        })
    }

    /// Dials a peer at a multiaddr ending in `/p2p/<peer id>`.
    pub fn connect(
        &self,
        address: String,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<(), HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let addr = Multiaddr::from_str(&address).map_err(|e| HostError::BadAddress {
                address,
                reason: e.to_string(),
            })?;
            match tokio::time::timeout(timeout, inner.ipfs.connect(addr)).await {
                Ok(result) => result.map(drop).map_err(network),
                Err(_) => Err(HostError::Timeout(timeout)),
            }
        })
    }

    /// Reads a block from the local store or, failing that, from connected peers by bitswap, and stores it locally.
    pub fn fetch(
        &self,
        cid: Cid,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let block = async { inner.ipfs.get_block(cid).await };
            match tokio::time::timeout(timeout, block).await {
                Ok(result) => result.map(|block| block.into_inner().1).map_err(network),
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
