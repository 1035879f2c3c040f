//! The seam to the block store.
//!
//! [`BlockStore`] is a test seam: the box has [`HostStore`], commands on a data directory on which no box is running have
//! [`Files`], and tests have another that fails at a chosen operation.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::FutureExt;
use futures::future::BoxFuture;
use node_host::{Host, HostError};
use tokio::sync::watch;

use crate::blocks::Blocks;

pub(crate) trait BlockStore: std::fmt::Debug + Send + Sync + 'static {
    /// Durable when it returns; after an error any of the blocks may be stored.
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>>;
    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>>;
    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>>;
    /// Reads a block from here or, failing that, from connected peers; it may then be stored, too, and no commit names it.
    fn fetch(&self, cid: Cid, timeout: Duration) -> BoxFuture<'static, Result<Bytes, HostError>>;
    /// A block that is not there is no error.
    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>>;
    /// Every block with its length in bytes.
    fn list(&self) -> BoxFuture<'static, Result<Vec<(Cid, u64)>, HostError>>;
    fn peers(&self) -> watch::Receiver<u32>;
    /// Bytes that can still be written to the file system beneath.
    fn free_bytes(&self) -> std::io::Result<u64>;
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// A directory's blocks without a host.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) blocks: Blocks,
    /// A directory on the file system that they are on.
    pub(crate) dir: PathBuf,
}

impl Files {
    fn blocking<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Blocks) -> std::io::Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, HostError>> {
        let blocks = self.blocks.clone();
        async move { Ok(crate::blocking(move || f(&blocks)).await?) }.boxed()
    }
}

impl BlockStore for Files {
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>> {
        self.blocking(move |files| files.put(&blocks))
    }

    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        self.blocking(move |files| files.get(&cid))
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.blocking(move |files| files.has(&cid))
    }

    fn fetch(&self, _: Cid, _: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let error = HostError::Network("nobody is connected without a host".to_owned());
        futures::future::ready(Err(error)).boxed()
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>> {
        self.blocking(move |files| files.remove(&cids))
    }

    fn list(&self) -> BoxFuture<'static, Result<Vec<(Cid, u64)>, HostError>> {
        self.blocking(move |files| Ok(files.list()?.blocks))
    }

    fn peers(&self) -> watch::Receiver<u32> {
        watch::channel(0).1
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        free_bytes(&self.dir)
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

/// A host and the files of its blocks.
#[derive(Debug)]
pub(crate) struct HostStore {
    pub(crate) host: Host,
    pub(crate) files: Files,
}

impl BlockStore for HostStore {
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>> {
        self.files.put(blocks)
    }

    /// The host verifies what it reads.
    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        self.host.get_block(cid)
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.files.has(cid)
    }

    fn fetch(&self, cid: Cid, timeout: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        self.host.fetch(cid, timeout)
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>> {
        self.files.remove(cids)
    }

    fn list(&self) -> BoxFuture<'static, Result<Vec<(Cid, u64)>, HostError>> {
        self.files.list()
    }

    fn peers(&self) -> watch::Receiver<u32> {
        self.host.peers()
    }

    fn free_bytes(&self) -> std::io::Result<u64> {
        self.files.free_bytes()
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
