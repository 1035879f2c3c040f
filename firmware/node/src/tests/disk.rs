//! A disk in memory that stops at a chosen operation: the block store and the journal's file share it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cid::Cid;
use futures::future::{BoxFuture, FutureExt};
use libp2p_identity::Keypair;
use node_host::HostError;
use rustix::io::Errno;
use tokio::sync::watch;

use crate::cids::Lengths;
use crate::journal::{Journal, Named};
use crate::names::Signer;
use crate::store::BlockStore;
use crate::unixfs::verifies;

/// What the clock says until a test says otherwise. It stands still: numbers must rise all the same.
pub(super) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

/// How the machine went down.
#[derive(Debug, Clone, Copy)]
pub(super) enum Crash {
    /// kill -9: what was written is there.
    Kill,
    /// Power cut: of the journal's writes since the last sync any may be there, and of the blocks some may be gone or cut off;
    /// the seed chooses.
    PowerCut { seed: u64 },
}

/// One of so many.
fn chosen(seed: &mut u64, of: u64) -> u64 {
    // splitmix64
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*seed ^ (*seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 32) % of
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    state: Arc<Mutex<State>>,
    peers: watch::Sender<u32>,
    /// While it is shut, nothing is deleted.
    gate: watch::Sender<Gate>,
    channel: Keypair,
}

/// A disk that fails and is not dead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    /// The operation.
    pub(super) at: u64,
    pub(super) error: Errno,
    /// Until it is taken away, or just once.
    pub(super) lasts: bool,
    /// Only the journal cannot be written from then on.
    pub(super) spares_blocks: bool,
}

/// What has gone to the disk since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Traffic {
    pub(super) block_bytes: u64,
    pub(super) journal_bytes: u64,
    pub(super) journal_read_bytes: u64,
    /// Of blocks, one for all that are put together, and of the journal.
    pub(super) syncs: u64,
}

/// What a disk that hangs while it deletes is like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) shut: bool,
    /// Somebody waits for it to open.
    pub(super) waiting: bool,
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    /// Everything from this operation on fails: the process is dead, and only does not know it.
    stop_at: Option<u64>,
    fault: Option<Fault>,
    /// A fault has met an operation.
    fired: bool,
    /// Which operations were the journal's.
    of_journal: BTreeSet<u64>,
    traffic: Traffic,
    /// The next so many `put`s find the disk full after their first block.
    full_puts: u64,
    free_bytes: u64,
    /// Bytes for blocks.
    capacity: Option<u64>,
    clock: Option<SystemTime>,
    blocks: BTreeMap<Cid, Bytes>,
    /// Of these, those that no commit names.
    nameless: BTreeSet<Cid>,
    lost: BTreeSet<Cid>,
    /// Of these, those that the disk may not have yet.
    unsynced_blocks: BTreeSet<Cid>,
    /// What peers have.
    remote: BTreeMap<Cid, Bytes>,
    /// Blocks put, and bytes of the journal written, since the last look.
    put: Vec<Bytes>,
    journal_written: u64,
    journal: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Debug)]
enum Write {
    SetLen(u64),
    Data(u64, Vec<u8>),
}

impl Write {
    fn apply(&self, file: &mut Vec<u8>) {
        match self {
            Write::SetLen(length) => file.resize(*length as usize, 0),
            Write::Data(offset, data) => {
                let end = *offset as usize + data.len();
                if file.len() < end {
                    file.resize(end, 0);
                }
                file[*offset as usize..end].copy_from_slice(data);
            }
        }
    }
}

impl State {
    fn alive(&self) -> Result<()> {
        match self
            .stop_at
            .is_some_and(|stop_at| self.operations >= stop_at)
        {
            true => Err(Error::other("stopped by the test")),
            false => Ok(()),
        }
    }

    /// One on a block.
    fn operation(&mut self) -> Result<()> {
        let fault = self.fault.filter(|fault| !fault.spares_blocks);
        self.operate(fault)
    }

    fn journal_operation(&mut self) -> Result<()> {
        self.of_journal.insert(self.operations);
        self.operate(self.fault)
    }

    fn operate(&mut self, fault: Option<Fault>) -> Result<()> {
        self.alive()?;
        let operation = self.operations;
        self.operations += 1;
        match fault {
            Some(fault) if fault.at == operation || fault.lasts && fault.at < operation => {
                self.fired = true;
                Err(fault.error.into())
            }
            _ => Ok(()),
        }
    }
}

impl Disk {
    pub(super) fn new() -> Disk {
        let state = State {
            free_bytes: u64::MAX,
            clock: Some(now()),
            ..State::default()
        };
        Disk {
            state: Arc::new(Mutex::new(state)),
            peers: watch::channel(0).0,
            gate: watch::Sender::default(),
            channel: Keypair::generate_ed25519(),
        }
    }

    /// Signs with the key that lies on this disk, by its machine's clock.
    pub(super) fn signer(&self) -> Arc<Signer> {
        let state = self.state.clone();
        let clock = Arc::new(move || state.lock().unwrap().clock);
        Arc::new(Signer::new(self.channel.clone(), clock))
    }

    pub(super) fn set_clock(&self, now: Option<SystemTime>) {
        self.state().clock = now;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set_fault(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    pub(super) fn fired(&self) -> bool {
        self.state().fired
    }

    /// One fault for each way in which an operation can fail, for each of those that a life on this disk has done: once, or from
    /// then on, and of those on the journal also the journal's alone from then on. (What spares the blocks and fails once is the first
    /// of these, or nothing.)
    pub(super) fn faults(&self, error: Errno) -> Vec<Fault> {
        let state = self.state();
        let fault = |at, lasts, spares_blocks| Fault {
            at,
            error,
            lasts,
            spares_blocks,
        };
        let every =
            (0..state.operations).flat_map(|at| [fault(at, false, false), fault(at, true, false)]);
        let journal = state.of_journal.iter().map(|at| fault(*at, true, true));
        every.chain(journal).collect()
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.state().traffic
    }

    pub(super) fn gate(&self) -> &watch::Sender<Gate> {
        &self.gate
    }

    async fn deleting(&self) {
        let waiting = self.gate.borrow().shut;
        self.gate.send_modify(|gate| gate.waiting = waiting);
        let mut gate = self.gate.subscribe();
        // This disk holds the sender.
        let _ = gate.wait_for(|gate| !gate.shut).await;
    }

    pub(super) fn stop_at(&self, operation: u64) {
        self.state().stop_at = Some(operation);
    }

    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(super) fn set_free_bytes(&self, bytes: u64) {
        self.state().free_bytes = bytes;
    }

    /// What is free is what the blocks leave of so much.
    pub(super) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = Some(bytes);
    }

    pub(super) fn fill_up(&self, puts: u64) {
        self.state().full_puts = puts;
    }

    pub(super) fn blocks(&self) -> BTreeMap<Cid, Bytes> {
        self.state().blocks.clone()
    }

    pub(super) fn set_remote(&self, blocks: BTreeMap<Cid, Bytes>) {
        self.state().remote = blocks;
    }

    pub(super) fn block_bytes(&self) -> u64 {
        self.state()
            .blocks
            .values()
            .map(|block| block.len() as u64)
            .sum()
    }

    /// Blocks and their bytes, and bytes of the journal, that were written since the last look.
    pub(super) fn written(&self) -> (usize, usize, u64) {
        let mut state = self.state();
        let put = std::mem::take(&mut state.put);
        let journal = std::mem::take(&mut state.journal_written);
        (put.len(), put.iter().map(Bytes::len).sum(), journal)
    }

    pub(super) fn lose_block(&self, cid: &Cid) {
        self.state().blocks.remove(cid).expect("the block is there");
    }

    /// A bit of it flips.
    pub(super) fn tear_block(&self, cid: &Cid) {
        let mut state = self.state();
        let block = state.blocks.get_mut(cid).expect("it is here");
        let mut torn = block.to_vec();
        torn[0] ^= 1;
        *block = torn.into();
    }

    pub(super) fn has_journal(&self) -> bool {
        !self.state().journal.is_empty()
    }

    /// A journal appears whole or not at all: on the box by a rename.
    pub(super) fn create_journal(&self) -> Result<()> {
        let scratch = Disk::new();
        let file = scratch.clone();
        let journal = Journal::open(Box::new(move || {
            redb::Builder::new().create_with_backend(file.clone())
        }));
        drop(journal.map_err(Error::other)?);
        let mut state = self.state();
        state.operation()?;
        state.journal = scratch.state().journal.clone();
        state.synced = state.journal.clone();
        Ok(())
    }

    /// What is found after the machine went down.
    pub(super) fn after(&self, crash: Crash) -> Disk {
        let state = self.state();
        let mut blocks = state.blocks.clone();
        let journal = match crash {
            Crash::Kill => state.journal.clone(),
            Crash::PowerCut { mut seed } => {
                let mut file = state.synced.clone();
                for write in &state.unsynced {
                    if chosen(&mut seed, 2) == 0 {
                        write.apply(&mut file);
                    }
                }
                for cid in &state.unsynced_blocks {
                    let torn = |bytes: &Bytes| vec![0; bytes.len()].into();
                    match chosen(&mut seed, 3) {
                        0 => drop(blocks.remove(cid)),
                        1 => drop(blocks.entry(*cid).and_modify(|bytes| *bytes = torn(bytes))),
                        _ => {}
                    }
                }
                file
            }
        };
        let found = Disk {
            channel: self.channel.clone(),
            ..Disk::new()
        };
        *found.state() = State {
            free_bytes: u64::MAX,
            clock: state.clock,
            blocks,
            remote: state.remote.clone(),
            synced: journal.clone(),
            journal,
            ..State::default()
        };
        found
    }
}

impl BlockStore for Disk {
    fn put(
        &self,
        blocks: Vec<(Cid, Bytes)>,
    ) -> BoxFuture<'static, std::result::Result<(), HostError>> {
        let disk = self.clone();
        async move {
            for (i, (cid, bytes)) in blocks.into_iter().enumerate() {
                let mut state = disk.state();
                state.operation()?;
                if i > 0 && state.full_puts > 0 {
                    state.full_puts -= 1;
                    return Err(Error::from(std::io::ErrorKind::StorageFull).into());
                }
                state.put.push(bytes.clone());
                if state.blocks.get(&cid) != Some(&bytes) {
                    state.traffic.block_bytes += bytes.len() as u64;
                    state.unsynced_blocks.insert(cid);
                    state.blocks.insert(cid, bytes);
                }
            }
            let mut state = disk.state();
            state.traffic.syncs += 1;
            state.unsynced_blocks.clear();
            Ok(())
        }
        .boxed()
    }

    fn get(&self, cid: Cid) -> BoxFuture<'static, std::result::Result<Option<Bytes>, HostError>> {
        let disk = self.clone();
        async move {
            disk.state().alive()?;
            Ok(disk.state().blocks.get(&cid).cloned())
        }
        .boxed()
    }

    fn has(&self, cid: Cid) -> BoxFuture<'static, std::result::Result<bool, HostError>> {
        let disk = self.clone();
        async move {
            disk.state().alive()?;
            Ok(disk.state().blocks.contains_key(&cid))
        }
        .boxed()
    }

    fn is_torn(&self, cid: Cid) -> BoxFuture<'static, std::result::Result<bool, HostError>> {
        let state = self.state();
        let here = state.blocks.get(&cid);
        let torn = here.is_some_and(|bytes| !verifies(&cid, bytes));
        futures::future::ready(Ok(torn)).boxed()
    }

    fn named(&self, cid: &Cid) -> Result<Option<Named>> {
        let state = self.state();
        state.alive()?;
        let lost = state.lost.contains(cid).then_some(Named::Lost);
        let here = (state.blocks.get(cid)).map(|bytes| Named::Here(bytes.len() as u64));
        let nameless = state.nameless.contains(cid);
        Ok(lost.or(here).filter(|_| !nameless))
    }

    fn nameless(&self, cid: &Cid) -> Result<Option<u64>> {
        let state = self.state();
        state.alive()?;
        let nameless = (state.blocks.get(cid)).filter(|_| state.nameless.contains(cid));
        Ok(nameless.map(|bytes| bytes.len() as u64))
    }

    fn disown(&self, cids: &[Cid]) {
        let mut state = self.state();
        for cid in cids {
            state.lost.remove(cid);
            state.nameless.insert(*cid);
        }
    }

    fn own(&self, cids: &[Cid]) {
        let mut state = self.state();
        for cid in cids {
            state.lost.remove(cid);
            state.nameless.remove(cid);
        }
    }

    fn lose(&self, cids: &[Cid]) {
        self.state().lost.extend(cids);
    }

    fn fetch(
        &self,
        cid: Cid,
        timeout: Duration,
    ) -> BoxFuture<'static, std::result::Result<Bytes, HostError>> {
        let disk = self.clone();
        async move {
            if let Some(bytes) = disk.get(cid).await? {
                // What is there is not written again.
                return (verifies(&cid, &bytes).then_some(bytes))
                    .ok_or(HostError::Timeout(timeout));
            }
            let found = disk.state().remote.get(&cid).cloned();
            let bytes = found.ok_or(HostError::Timeout(timeout))?;
            {
                let mut state = disk.state();
                state.operation()?;
                // As the host does, which knows nothing of a journal.
                if !state.lost.contains(&cid) {
                    state.nameless.insert(cid);
                }
                state.blocks.insert(cid, bytes.clone());
            }
            // It lies there before those who wait for it go on.
            tokio::task::yield_now().await;
            Ok(bytes)
        }
        .boxed()
    }

    fn remove(&self, cids: Vec<Cid>) -> BoxFuture<'static, std::result::Result<(), HostError>> {
        let disk = self.clone();
        async move {
            disk.deleting().await;
            for cid in cids {
                let mut state = disk.state();
                state.operation()?;
                state.nameless.remove(&cid);
                state.unsynced_blocks.remove(&cid);
                state.blocks.remove(&cid);
            }
            Ok(())
        }
        .boxed()
    }

    fn list(&self) -> BoxFuture<'static, std::result::Result<Lengths, HostError>> {
        let disk = self.clone();
        async move {
            disk.state().alive()?;
            let state = disk.state();
            let listed = state.blocks.iter();
            Ok(listed
                .map(|(cid, bytes)| (*cid, bytes.len() as u64))
                .collect())
        }
        .boxed()
    }

    fn peers(&self) -> watch::Receiver<u32> {
        self.peers.subscribe()
    }

    fn free_bytes(&self) -> Result<u64> {
        let blocks = self.block_bytes();
        let state = self.state();
        let left = state.capacity.map(|bytes| bytes.saturating_sub(blocks));
        Ok(left.unwrap_or(state.free_bytes))
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

/// The journal's file.
impl redb::StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        self.state().alive()?;
        Ok(self.state().journal.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.state();
        state.alive()?;
        state.traffic.journal_read_bytes += out.len() as u64;
        let offset = offset as usize;
        let bytes = state.journal.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| Error::from(std::io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.journal_write(Write::SetLen(len))
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.state();
        state.journal_operation()?;
        state.traffic.syncs += 1;
        // Taken over write by write: a copy of the whole file each time would be most of a test's work.
        let State {
            synced, unsynced, ..
        } = &mut *state;
        for write in unsynced.drain(..) {
            write.apply(synced);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.journal_write(Write::Data(offset, data.to_vec()))
    }
}

impl Disk {
    fn journal_write(&self, write: Write) -> Result<()> {
        let mut state = self.state();
        state.journal_operation()?;
        if let Write::Data(_, data) = &write {
            state.traffic.journal_bytes += data.len() as u64;
            state.journal_written += data.len() as u64;
        }
        write.apply(&mut state.journal);
        state.unsynced.push(write);
        Ok(())
    }
}
