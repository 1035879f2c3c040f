//! The seam to the block store.
//!
//! [`BlockStore`] is a test seam: the box has [`HostStore`], commands on a data directory on which no box is running have
//! [`Files`], and tests have another that fails at a chosen operation.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Bytes of a block that was put here. None of one that only a fetch has brought, or that was disowned.
    fn length(&self, cid: &Cid) -> std::io::Result<Option<u64>>;
    /// No commit names these, wherever they lie: as if they had never been put.
    fn disown(&self, cids: &[Cid]);
    /// Reads a block from here or, failing that, from connected peers; it may then lie here, too, without having been put.
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
    /// Blocks that may lie here without having been put. Those of an earlier process went when it was opened.
    nameless: Arc<Mutex<HashSet<Cid>>>,
}

impl Files {
    pub(crate) fn new(blocks: Blocks, dir: PathBuf) -> Files {
        Files {
            blocks,
            dir,
            nameless: Arc::default(),
        }
    }

    fn nameless(&self) -> MutexGuard<'_, HashSet<Cid>> {
        (self.nameless.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that a block may come here by itself, unless it is here.
    fn expect(&self, cid: Cid) -> std::io::Result<()> {
        // In this order: what is put meanwhile is found.
        let first = self.nameless().insert(cid);
        if first && self.blocks.has(&cid)? {
            self.nameless().remove(&cid);
        }
        Ok(())
    }

    /// These have been put, or are gone.
    fn own(&self, cids: &[Cid]) {
        self.nameless().retain(|cid| !cids.contains(cid));
    }

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
        let this = self.clone();
        let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
        self.blocking(move |files| {
            files.put(&blocks)?;
            this.own(&cids);
            Ok(())
        })
    }

    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        self.blocking(move |files| files.get(&cid))
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.blocking(move |files| files.has(&cid))
    }

    fn length(&self, cid: &Cid) -> std::io::Result<Option<u64>> {
        match self.nameless().contains(cid) {
            true => Ok(None),
            false => self.blocks.length(cid),
        }
    }

    fn disown(&self, cids: &[Cid]) {
        self.nameless().extend(cids);
    }

    fn fetch(&self, _: Cid, _: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let error = HostError::Network("nobody is connected without a host".to_owned());
        futures::future::ready(Err(error)).boxed()
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>> {
        let this = self.clone();
        self.blocking(move |files| {
            files.remove(&cids)?;
            this.own(&cids);
            Ok(())
        })
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
        match inline(&cid) {
            None => self.host.get_block(cid),
            bytes => futures::future::ready(Ok(bytes)).boxed(),
        }
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        match inline(&cid) {
            None => self.files.has(cid),
            Some(_) => futures::future::ready(Ok(true)).boxed(),
        }
    }

    fn length(&self, cid: &Cid) -> std::io::Result<Option<u64>> {
        self.files.length(cid)
    }

    fn disown(&self, cids: &[Cid]) {
        self.files.disown(cids);
    }

    fn fetch(&self, cid: Cid, timeout: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let (files, host) = (self.files.clone(), self.host.clone());
        let expected = self.files.blocking(move |_| files.expect(cid));
        async move {
            expected.await?;
            host.fetch(cid, timeout).await
        }
        .boxed()
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

/// The block that a CID carries itself: its hash is the block (multihash `identity`).
fn inline(cid: &Cid) -> Option<Bytes> {
    const IDENTITY: u64 = 0x00;
    let hash = cid.hash();
    (hash.code() == IDENTITY).then(|| Bytes::copy_from_slice(hash.digest()))
}

/// Bytes that a process without privileges can still write to the directory's file system.
pub(crate) fn free_bytes(dir: &std::path::Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
