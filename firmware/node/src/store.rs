//! The seam to the block store.
//!
//! [`BlockStore`] is a test seam: the box has [`HostStore`], commands on a data directory on which no box is running have
//! [`Files`], and tests have another that fails at a chosen operation.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
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
use crate::cids::Lengths;
use crate::journal::Named;
use crate::unixfs::verifies;

pub(crate) trait BlockStore: std::fmt::Debug + Send + Sync + 'static {
    /// Durable when it returns; after an error any of the blocks may be stored. Changes nothing in which of them are nameless.
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>>;
    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>>;
    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>>;
    /// Whether there are other bytes in a block's place. As long as they lie there, [`BlockStore::fetch`] fails.
    fn is_torn(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>>;
    /// A block that a commit names, as far as the store can tell: those that are named more than once the journal knows, too.
    fn named(&self, cid: &Cid) -> std::io::Result<Option<Named>>;
    /// Bytes of a nameless block that is here.
    fn nameless(&self, cid: &Cid) -> std::io::Result<Option<u64>>;
    /// No commit names these: they are nameless, wherever they lie. So is what only a fetch has brought.
    fn disown(&self, cids: &[Cid]);
    /// A commit names these, and they are here.
    fn own(&self, cids: &[Cid]);
    /// A commit names these, and they are not here. What brings one of them finds its name.
    fn lose(&self, cids: &[Cid]);
    /// Reads a block from here or, failing that, from connected peers; it may then lie here, too, without having been put.
    fn fetch(&self, cid: Cid, timeout: Duration) -> BoxFuture<'static, Result<Bytes, HostError>>;
    /// Removes nameless blocks. One that is not there is no error.
    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>>;
    /// Every block with its length in bytes.
    fn list(&self) -> BoxFuture<'static, Result<Lengths, HostError>>;
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
    known: Arc<Mutex<Known>>,
}

/// What differs from the rule that what is here has a name, and what is not here has none.
#[derive(Debug, Default)]
struct Known {
    /// They lie here, or may, and no commit names them.
    nameless: HashSet<Cid>,
    /// A commit names them, and when the directory was opened they were not here; what brings one of them has not been counted.
    lost: HashSet<Cid>,
    /// How many fetches there are that may bring a block at any moment.
    coming: HashMap<Cid, usize>,
}

/// A block may come by itself for as long as this lives.
struct Coming {
    known: Arc<Mutex<Known>>,
    cid: Cid,
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut known = locked(&self.known);
        if let Entry::Occupied(mut fetches) = known.coming.entry(self.cid) {
            *fetches.get_mut() -= 1;
            if *fetches.get() == 0 {
                fetches.remove();
            }
        }
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    pub(crate) fn new(blocks: Blocks, dir: PathBuf) -> Files {
        Files {
            blocks,
            dir,
            known: Arc::default(),
        }
    }

    /// Takes note that a block may come here by itself: then it is nameless, unless it is here, or was lost.
    fn expect(&self, cid: Cid) -> std::io::Result<Coming> {
        let mut known = locked(&self.known);
        let noted = known.nameless.contains(&cid) || known.lost.contains(&cid);
        if !noted && !self.blocks.has(&cid)? {
            known.nameless.insert(cid);
        }
        *known.coming.entry(cid).or_default() += 1;
        let known = self.known.clone();
        Ok(Coming { known, cid })
    }

    /// These are no longer here. What may come again stays nameless, and what a fetch that is over has brought meanwhile.
    fn removed(&self, cids: &[Cid]) {
        let mut known = locked(&self.known);
        for cid in cids {
            if !known.coming.contains_key(cid) && self.blocks.has(cid).is_ok_and(|here| !here) {
                known.nameless.remove(cid);
            }
        }
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
        self.blocking(move |files| files.put(&blocks))
    }

    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        self.blocking(move |files| files.get(&cid))
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.blocking(move |files| files.has(&cid))
    }

    fn is_torn(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.blocking(move |files| {
            let bytes = files.get(&cid)?;
            Ok(bytes.is_some_and(|bytes| !verifies(&cid, &bytes)))
        })
    }

    fn named(&self, cid: &Cid) -> std::io::Result<Option<Named>> {
        let known = locked(&self.known);
        if known.nameless.contains(cid) {
            return Ok(None);
        }
        if known.lost.contains(cid) {
            return Ok(Some(Named::Lost));
        }
        Ok(self.blocks.length(cid)?.map(Named::Here))
    }

    fn nameless(&self, cid: &Cid) -> std::io::Result<Option<u64>> {
        match locked(&self.known).nameless.contains(cid) {
            true => self.blocks.length(cid),
            false => Ok(None),
        }
    }

    fn disown(&self, cids: &[Cid]) {
        let mut known = locked(&self.known);
        for cid in cids {
            known.lost.remove(cid);
            known.nameless.insert(*cid);
        }
    }

    fn own(&self, cids: &[Cid]) {
        let mut known = locked(&self.known);
        for cid in cids {
            known.lost.remove(cid);
            known.nameless.remove(cid);
        }
    }

    fn lose(&self, cids: &[Cid]) {
        locked(&self.known).lost.extend(cids);
    }

    fn fetch(&self, _: Cid, _: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let error = HostError::Network("nobody is connected without a host".to_owned());
        futures::future::ready(Err(error)).boxed()
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>> {
        let this = self.clone();
        self.blocking(move |files| {
            files.remove(&cids)?;
            this.removed(&cids);
            Ok(())
        })
    }

    fn list(&self) -> BoxFuture<'static, Result<Lengths, HostError>> {
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

/// What rust-ipfs is just writing for somebody who has given up gets there all the same, on a slow disk after a while.
const LATE: Duration = Duration::from_secs(60);

/// A fetch; where it is given up, its block may still come for [`LATE`].
struct Waited {
    coming: Option<Coming>,
    files: Files,
}

impl Drop for Waited {
    fn drop(&mut self) {
        let late = self
            .coming
            .take()
            .zip(tokio::runtime::Handle::try_current().ok());
        let Some((coming, runtime)) = late else {
            return;
        };
        let files = self.files.clone();
        runtime.spawn(async move {
            tokio::time::sleep(LATE).await;
            let cid = coming.cid;
            drop(coming);
            let forgotten = files.clone().blocking(move |_| {
                files.removed(&[cid]);
                Ok(())
            });
            let _ = forgotten.await;
        });
    }
}

impl BlockStore for HostStore {
    fn put(&self, blocks: Vec<(Cid, Bytes)>) -> BoxFuture<'static, Result<(), HostError>> {
        self.files.put(blocks)
    }

    /// The host verifies what it reads.
    fn get(&self, cid: Cid) -> BoxFuture<'static, Result<Option<Bytes>, HostError>> {
        match inline(&cid) {
            None => self.host.get_block(stored_as(cid)),
            bytes => futures::future::ready(Ok(bytes)).boxed(),
        }
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        match inline(&cid) {
            None => self.files.has(stored_as(cid)),
            Some(_) => futures::future::ready(Ok(true)).boxed(),
        }
    }

    fn is_torn(&self, cid: Cid) -> BoxFuture<'static, Result<bool, HostError>> {
        self.files.is_torn(cid)
    }

    fn named(&self, cid: &Cid) -> std::io::Result<Option<Named>> {
        self.files.named(cid)
    }

    fn nameless(&self, cid: &Cid) -> std::io::Result<Option<u64>> {
        self.files.nameless(cid)
    }

    fn disown(&self, cids: &[Cid]) {
        self.files.disown(cids);
    }

    fn own(&self, cids: &[Cid]) {
        self.files.own(cids);
    }

    fn lose(&self, cids: &[Cid]) {
        self.files.lose(cids);
    }

    fn fetch(&self, cid: Cid, timeout: Duration) -> BoxFuture<'static, Result<Bytes, HostError>> {
        let (files, host) = (self.files.clone(), self.host.clone());
        let expecting = files.clone();
        let expected = files.blocking(move |_| expecting.expect(cid));
        async move {
            let mut waited = Waited {
                coming: Some(expected.await?),
                files,
            };
            let bytes = host.fetch(cid, timeout).await?;
            // It lies here.
            waited.coming = None;
            Ok(bytes)
        }
        .boxed()
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, Result<(), HostError>> {
        self.files.remove(cids)
    }

    fn list(&self) -> BoxFuture<'static, Result<Lengths, HostError>> {
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

/// The CID that a block has in the store: of version 1, whoever asks for it by the older one.
fn stored_as(cid: Cid) -> Cid {
    cid.into_v1().unwrap_or(cid)
}

/// Whether a CID carries its block itself: its hash is the block (multihash `identity`).
pub(crate) fn is_inline(cid: &Cid) -> bool {
    const IDENTITY: u64 = 0x00;
    cid.hash().code() == IDENTITY
}

fn inline(cid: &Cid) -> Option<Bytes> {
    is_inline(cid).then(|| Bytes::copy_from_slice(cid.hash().digest()))
}

/// Bytes that a process without privileges can still write to the directory's file system.
pub(crate) fn free_bytes(dir: &std::path::Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Leaf;

    fn files(dir: &std::path::Path) -> Files {
        Files::new(Blocks::open(dir).unwrap(), dir.to_owned())
    }

    fn block(content: &'static str) -> (Cid, Bytes) {
        let leaf = Leaf::split(Bytes::from_static(content.as_bytes()))[0].clone();
        (leaf.cid(), leaf.bytes().clone())
    }

    /// A follower asks for a block that is garbage and just leaving, and a peer gives it: nothing names it all the same.
    #[tokio::test]
    async fn what_a_fetch_brings_while_it_is_removed_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (cid, bytes) = block("content");
        // As the host writes it.
        let comes = || files.blocks.put(&[(cid, bytes.clone())]).unwrap();
        comes();
        assert!(files.named(&cid).unwrap().is_some());
        files.disown(&[cid]);
        let coming = files.expect(cid).unwrap();
        files.remove(vec![cid]).await.unwrap();
        comes();
        assert_eq!(files.named(&cid).unwrap(), None);
        drop(coming);
        assert_eq!(files.named(&cid).unwrap(), None);
        files.remove(vec![cid]).await.unwrap();
        assert!(locked(&files.known).nameless.is_empty());
        assert!(locked(&files.known).coming.is_empty());

        // The fetch may be over before the removal of others is.
        comes();
        files.disown(&[cid]);
        let coming = files.expect(cid).unwrap();
        files.blocks.remove(&[cid]).unwrap();
        comes();
        drop(coming);
        files.removed(&[cid]);
        assert_eq!(files.named(&cid).unwrap(), None);
        files.remove(vec![cid]).await.unwrap();
        assert!(locked(&files.known).nameless.is_empty());

        // What a commit names stays named while somebody asks for it.
        comes();
        drop(files.expect(cid).unwrap());
        assert!(files.named(&cid).unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_its_fetch_was_given_up_has_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (cid, bytes) = block("content");
        let give_up = || {
            let coming = Some(files.expect(cid).unwrap());
            let files = files.clone();
            drop(Waited { coming, files });
        };
        give_up();
        // As a mirror does with what it has asked for and not got.
        files.remove(vec![cid]).await.unwrap();
        files.blocks.put(&[(cid, bytes)]).unwrap();
        assert_eq!(files.named(&cid).unwrap(), None);
        tokio::time::sleep(2 * LATE).await;
        assert_eq!(files.named(&cid).unwrap(), None);
        files.remove(vec![cid]).await.unwrap();

        // What does not come is forgotten.
        give_up();
        assert!(!locked(&files.known).nameless.is_empty());
        while !locked(&files.known).nameless.is_empty() {
            tokio::time::sleep(LATE).await;
        }
        assert!(locked(&files.known).coming.is_empty());
    }

    #[tokio::test]
    async fn what_a_broken_disk_has_lost_keeps_its_name_when_a_fetch_brings_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (cid, bytes) = block("content");
        files.lose(&[cid]);
        assert_eq!(files.named(&cid).unwrap(), Some(Named::Lost));
        let coming = files.expect(cid).unwrap();
        files.blocks.put(&[(cid, bytes)]).unwrap();
        drop(coming);
        assert_eq!(files.named(&cid).unwrap(), Some(Named::Lost));
        files.own(&[cid]);
        assert_eq!(files.named(&cid).unwrap(), Some(Named::Here(7)));
        // And loses it for good when the last commit that names it is gone.
        files.disown(&[cid]);
        files.remove(vec![cid]).await.unwrap();
        assert_eq!(files.named(&cid).unwrap(), None);
    }

    #[tokio::test]
    async fn what_a_power_cut_has_torn_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let (cid, bytes) = block("content");
        files.put(vec![(cid, bytes.clone())]).await.unwrap();
        std::fs::write(files.blocks.path(&cid), [0; 7]).unwrap();
        files.put(vec![(cid, bytes.clone())]).await.unwrap();
        assert_eq!(files.get(cid).await.unwrap(), Some(bytes));
    }
}
