//! The seam to the block store.
//!
//! [`BlockStore`] is a test seam: the box has one implementation, [`Host`], and tests have another that stops at a
//! chosen operation.

use bytes::Bytes;
use cid::Cid;
use futures::FutureExt;
use futures::future::BoxFuture;
use node_host::{Host, HostError};
use tokio::sync::watch;

pub(crate) trait BlockStore: std::fmt::Debug + Send + Sync + 'static {
    /// Durable when it returns; after an error any of the blocks may be stored.
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>>;
    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>>;
    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>>;
    /// A block that is not there is no error.
    fn remove(&self, cid: Cid) -> BoxFuture<'static, Result<(), HostError>>;
    fn list(&self) -> BoxFuture<'static, Result<Vec<Cid>, HostError>>;
    fn peers(&self) -> watch::Receiver<u32>;
    /// Bytes that can still be written to the file system beneath.
    fn free_bytes(&self) -> std::io::Result<u64>;
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// A host and the directory whose file system it writes to.
#[derive(Debug)]
pub(crate) struct HostStore {
    pub(crate) host: Host,
    pub(crate) dir: std::path::PathBuf,
}

impl BlockStore for HostStore {
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>> {
        self.host.put_blocks(blocks)
    }

    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        self.host.get_block(cid)
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.host.has_block(cid)
    }

    fn remove(&self, cid: Cid) -> BoxFuture<'static, Result<(), HostError>> {
        self.host.remove_block(cid)
    }

    fn list(&self) -> BoxFuture<'static, Result<Vec<Cid>, HostError>> {
        self.host.list_blocks()
    }

    fn peers(&self) -> watch::Receiver<u32> {
        self.host.peers()
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        free_bytes(&self.dir)
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.host.shutdown().boxed()
    }
}

/// Bytes that a process without privileges can still write to the directory's file system.
pub(crate) fn free_bytes(dir: &std::path::Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
