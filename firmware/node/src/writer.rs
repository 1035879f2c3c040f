//! The writer: one actor that alone writes and deletes.
//!
//! The order of a publish: stage in the journal, make room, make the blocks durable, commit, answer. So a commit names
//! only durable blocks, and what a crash leaves behind is blocks that no commit names.
//! The record that makes the channel's name mean the new root is signed and kept in the same commit.
//! Deleting goes the other way round: a commit takes the last name of a block, then the block is removed. Meanwhile it is garbage,
//! of which the journal has nothing: what opens it next finds by listing what nothing names, and gives that a grace anew. Blocks are
//! removed beside the updates: one that wants to write what is being removed waits for that, and no other does.
//!
//! Invariants: `unnamed` are the blocks that count as stored and that no commit names. Each of them the store knows as nameless, and
//! is in exactly one of `garbage_since`, `held` and `removal`. Both change only here, and only when a commit is known to be there or
//! not: where a failing disk leaves that in doubt, no blocks are named or removed before it is settled.

mod adopt;
mod budget;
mod garbage;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cid::Cid;
use node_host::HostError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::journal::{Journal, Staged, Turn};
use crate::names::{NameRecord, Signer};
use crate::store::BlockStore;
use crate::{BroadcastId, Lock, Published, Stats, StoreError, Update};
pub(crate) use adopt::Follow;
pub(crate) use budget::headroom_bytes;
pub use budget::{Allowance, Budgets};
#[cfg(test)]
pub(crate) use garbage::GRACE;
pub(crate) use garbage::can_make_room;
use garbage::{Batch, Removal, ended};

/// Deleting begins when less than this is left below the limit, so that an update finds room and need not wait for it: a
/// sixteenth of the limit, at most eleven minutes at 3 Mbit/s.
const MOST_HEADROOM_BYTES: u64 = 256 << 20;
/// After a failure of the background work.
const RETRY: Duration = Duration::from_secs(60);
/// How often to see whether the name needs another record: its life is half over, or the clock has been set.
const NAME_EVERY: Duration = Duration::from_secs(10);
/// Left free on the disk: the journal and the rest of the system must still be able to write.
pub(crate) const RESERVE_BYTES: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) enum Command {
    Begin {
        meta: Vec<u8>,
        reply: oneshot::Sender<Result<BroadcastId, StoreError>>,
    },
    Publish {
        update: Update,
        reply: oneshot::Sender<Result<Published, StoreError>>,
    },
    Pin {
        broadcast: BroadcastId,
        pinned: bool,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// By hand.
    Delete {
        broadcast: BroadcastId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Follow(Follow),
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

pub(crate) struct Writer {
    store: Arc<dyn BlockStore>,
    journal: Arc<Journal>,
    budgets: Budgets,
    stored_bytes: u64,
    /// What may be stored: the budgets, or what the disk has room for where that is less.
    limit_bytes: u64,
    /// Recordings take more than their budget.
    recordings_over: bool,
    /// There is one that is not pinned.
    recordings_may_go: bool,
    /// The budget is of the disk: those that are there at the first look are within it, lest they go because somebody else uses that.
    spares_recordings: bool,
    /// Oldest first.
    garbage: VecDeque<Batch>,
    /// Batches so far.
    batches: u64,
    /// With which batch each block in `garbage` last became garbage: one that was published again meanwhile starts anew.
    garbage_since: HashMap<Cid, u64>,
    /// Of a mirror: blocks that a fetch has brought, counted and not named yet, and whether it is that of the newest broadcast.
    held: HashMap<Cid, bool>,
    /// Bytes of garbage, of what is held, and of what is being removed.
    unnamed: HashMap<Cid, u64>,
    /// Of a commit of which a failing disk has not told whether it is there.
    doubt: Option<Turn>,
    /// Broadcasts being taken apart.
    deleting: VecDeque<BroadcastId>,
    /// One more may be marked for that, although the commit has failed.
    mark_in_doubt: bool,
    removal: Option<Removal>,
    /// Something was taken apart since it was last seen whether recordings have to go. Collecting garbage changes nothing in that.
    look_again: bool,
    /// Background work waits until then.
    not_before: Instant,
    signer: Arc<Signer>,
    /// What the channel's name is to mean: the root of the newest broadcast that has one.
    newest: Option<(BroadcastId, Cid)>,
    /// What it means.
    record: watch::Sender<Option<NameRecord>>,
    look_at_name: Instant,
    stats: watch::Sender<Stats>,
    /// Keeps other processes out for as long as something may be written.
    _lock: Option<Lock>,
}

/// What the writer takes over at the start.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// What nothing names, with its bytes; its grace starts anew.
    pub(crate) garbage: Vec<(Cid, u64)>,
    pub(crate) deleting: Vec<BroadcastId>,
    /// Garbage included.
    pub(crate) stored_bytes: u64,
    pub(crate) newest: Option<(BroadcastId, Cid)>,
    pub(crate) record: watch::Sender<Option<NameRecord>>,
    pub(crate) lock: Option<Lock>,
    pub(crate) spares_recordings: bool,
}

impl Writer {
    pub(crate) fn new(
        store: Arc<dyn BlockStore>,
        journal: Arc<Journal>,
        budgets: Budgets,
        signer: Arc<Signer>,
        inherited: Inherited,
    ) -> (Writer, watch::Receiver<Stats>) {
        let now = Instant::now();
        let stored_bytes = inherited.stored_bytes;
        let (stats, receiver) = watch::channel(Stats {
            peers: *store.peers().borrow(),
            stored_bytes,
            limit_bytes: budgets.limit_bytes(),
            bytes_until_one_goes: None,
        });
        let mut writer = Writer {
            store,
            journal,
            budgets,
            stored_bytes,
            limit_bytes: budgets.limit_bytes(),
            recordings_over: false,
            recordings_may_go: false,
            spares_recordings: inherited.spares_recordings,
            garbage: VecDeque::new(),
            batches: 0,
            garbage_since: HashMap::new(),
            held: HashMap::new(),
            unnamed: HashMap::new(),
            doubt: None,
            deleting: inherited.deleting.into(),
            mark_in_doubt: false,
            removal: None,
            look_again: false,
            not_before: now,
            signer,
            newest: inherited.newest,
            record: inherited.record,
            look_at_name: now,
            stats,
            _lock: inherited.lock,
        };
        let garbage = writer.unname(inherited.garbage);
        writer.add_garbage(garbage, now);
        (writer, receiver)
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut peers = self.store.peers();
        let mut peers_alive = true;
        self.look_at_recordings().await;
        // What has filled the disk up makes way at once: without room nothing can be published at all.
        if self.check_disk(0).is_err()
            && let Err(error) = self.look_at_disk()
        {
            tracing::warn!(%error, "cannot tell what room the disk has");
        }
        let reply = loop {
            let work_at = self.next_work();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Begin { meta, reply }) => drop(reply.send(self.begin(meta).await)),
                    Some(Command::Publish { update, reply }) => drop(reply.send(self.publish(update).await)),
                    Some(Command::Pin { broadcast, pinned, reply }) => drop(reply.send(self.pin(broadcast, pinned).await)),
                    Some(Command::Delete { broadcast, reply }) => drop(reply.send(self.delete_by_hand(broadcast).await)),
                    Some(Command::Follow(command)) => self.follow(command).await,
                    Some(Command::Shutdown { reply }) => break Some(reply),
                    None => break None,
                },
                changed = peers.changed(), if peers_alive => peers_alive = changed.is_ok(),
                removed = ended(&mut self.removal) => self.removed_in_background(removed).await,
                () = sleep_until(work_at), if work_at.is_some() => self.work().await,
                () = tokio::time::sleep_until(self.look_at_name) => self.keep_name().await,
            }
            let peers = *peers.borrow_and_update();
            let stats = Stats {
                peers,
                stored_bytes: self.stored_bytes,
                limit_bytes: self.limit_bytes,
                bytes_until_one_goes: self.until_one_goes(),
            };
            self.stats
                .send_if_modified(|old| std::mem::replace(old, stats) != stats);
        };
        if let Err(error) = self.finish_removal().await {
            tracing::warn!(%error, "garbage stays until the next start");
        }
        self.store.shutdown().await;
        self.journal.close();
        // The lock goes before the answer, so that the directory can be opened again.
        drop(self);
        if let Some(reply) = reply {
            let _ = reply.send(());
        }
    }

    async fn begin(&mut self, meta: Vec<u8>) -> Result<BroadcastId, StoreError> {
        let needed = meta.len() as u64;
        if self.check_disk(needed).is_err() {
            self.finish_removal().await?;
            self.look_at_disk()?;
            if self.make_room(needed, None).await.is_err() {
                // Even what was on air last, which the box still shows.
                self.make_room(needed, Some(BroadcastId(u64::MAX))).await?;
            }
            self.check_disk(needed)?;
        }
        let newest = self.newest.map_or(0, |(newest, _)| newest.0);
        self.in_journal(move |journal| Ok(journal.begin(&meta, newest)?))
            .await
    }

    async fn pin(&mut self, broadcast: BroadcastId, pinned: bool) -> Result<(), StoreError> {
        let most = self.budgets.pinned_bytes;
        self.in_journal(move |journal| journal.pin(broadcast, pinned, most))
            .await?;
        self.look_at_pins().await;
        Ok(())
    }

    async fn publish(&mut self, update: Update) -> Result<Published, StoreError> {
        if self.check_disk(0).is_err() {
            // What is being removed counts as room only when it is gone.
            self.finish_removal().await?;
        }
        self.look_at_disk()?;
        let update = Arc::new(update);
        let mut staged = self.stage(&update).await?;
        if self.is_being_removed(&staged.blocks) {
            drop(staged);
            self.finish_removal().await?;
            staged = self.stage(&update).await?;
        }
        let needed = self.new_bytes(&staged.turn);
        if !update.finish {
            self.check_pins(update.broadcast, needed).await?;
        }
        if self.check_limit(needed).is_err() {
            drop(staged);
            match self.make_room(needed, Some(update.broadcast)).await {
                // What closes a broadcast is a few playlists, and without them it could never be deleted.
                Err(StoreError::Full { .. } | StoreError::DiskFull) if update.finish => {}
                made => made?,
            }
            // A block that the update shares with a broadcast deleted just now counts as new.
            staged = self.stage(&update).await?;
            if !update.finish {
                self.check_limit(self.new_bytes(&staged.turn))?;
            }
        }
        if !update.finish {
            self.check_disk(self.new_bytes(&staged.turn))?;
        }
        let root = staged.root;
        let names = (self.newest).is_none_or(|(newest, _)| update.broadcast >= newest);
        let (signer, last) = (self.signer.clone(), self.record.borrow().clone());
        let record = move || names.then(|| signer.next(root, last.as_ref())).flatten();
        let published = self.settle(staged, record).await?;
        if names {
            let before = self.newest.replace((update.broadcast, root));
            let has_begun = before.is_some_and(|(before, _)| before != update.broadcast);
            // The one before is a recording now. What it takes is known when this one names no parts beside its segments.
            if has_begun || update.finish {
                self.look_at_recordings().await;
            }
        }
        Ok(published)
    }

    /// Makes what was staged durable, together with the record that names its root.
    async fn settle(
        &mut self,
        mut staged: Staged,
        record: impl FnOnce() -> Option<NameRecord> + Send + 'static,
    ) -> Result<Published, StoreError> {
        let root = staged.root;
        let blocks = std::mem::take(&mut staged.blocks);
        let turn = std::mem::take(&mut staged.turn);
        if let Err(error) = self.store.put(blocks).await {
            drop(staged);
            self.remove_new(&turn).await;
            return Err(error.into());
        }
        let name = self.signer.name();
        let committed = self.commit(turn, move || {
            let record = record();
            staged.commit(record.as_ref().map(|record| (name, record)))?;
            Ok(record)
        });
        let (record, turn) = committed.await?;
        self.use_record(record);
        self.committed(turn);
        Ok(Published {
            root,
            stored_bytes: self.stored_bytes,
        })
    }

    /// Commits, and returns the turn that has taken place with it.
    async fn commit<T: Send + 'static>(
        &mut self,
        turn: Turn,
        commit: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<(T, Turn), StoreError> {
        match self.in_journal(|_| commit()).await {
            Ok(result) => Ok((result, turn)),
            Err(error) => {
                self.doubt = Some(turn);
                if let Err(error) = self.settle_doubt().await {
                    tracing::warn!(%error, "cannot tell yet whether what failed is there");
                }
                Err(error)
            }
        }
    }

    /// Finds out whether a commit that failed is there all the same: that shows when the database is opened anew.
    async fn settle_doubt(&mut self) -> Result<(), StoreError> {
        let Some(turn) = &self.doubt else {
            return Ok(());
        };
        // Not by the root: an adoption may leave it as it is, and only bring or drop blocks below it.
        let first = |turned: &[(Cid, u64)]| turned.first().map(|(cid, _)| *cid);
        let (named, garbage) = (first(&turn.named), first(&turn.garbage));
        let committed = self.in_journal(move |journal| {
            Ok(match (named, garbage) {
                (Some(named), _) => journal.names(&named)?,
                (None, Some(garbage)) => !journal.names(&garbage)?,
                (None, None) => true,
            })
        });
        let committed = committed.await?;
        if let Some(turn) = self.doubt.take() {
            match committed {
                true => self.committed(turn),
                false => self.remove_new(&turn).await,
            }
        }
        Ok(())
    }

    fn committed(&mut self, turn: Turn) {
        // A piece of a broadcast that goes is no update, and names nothing.
        let named = cids_of(&turn.named);
        self.stored_bytes += self.new_bytes(&turn);
        for cid in &named {
            self.unnamed.remove(cid);
            self.garbage_since.remove(cid);
            self.held.remove(cid);
        }
        self.store.own(&named);
        self.store.own(&cids_of(&turn.found));
        let garbage = self.unname(turn.garbage);
        self.add_garbage(garbage, Instant::now());
    }

    /// Takes note of blocks that have lost their last name.
    fn unname(&mut self, garbage: Vec<(Cid, u64)>) -> Vec<Cid> {
        let cids = cids_of(&garbage);
        self.store.disown(&cids);
        self.unnamed.extend(garbage);
        cids
    }

    /// Bytes that will count as stored and do not yet.
    fn new_bytes(&self, turn: &Turn) -> u64 {
        // What a broken disk had lost counts for nothing while it is garbage.
        let counted = |cid| self.unnamed.get(cid).copied().unwrap_or(0);
        let named = (turn.named.iter()).map(|(cid, bytes)| bytes.saturating_sub(counted(cid)));
        named
            .chain(turn.found.iter().map(|(_, bytes)| *bytes))
            .sum()
    }

    /// Signs another record where the last one is about to expire, or could not be signed for want of a clock.
    async fn keep_name(&mut self) {
        self.look_at_name = Instant::now() + NAME_EVERY;
        self.look_for_more_room();
        let Some((_, root)) = self.newest else {
            return;
        };
        let (signer, last) = (self.signer.clone(), self.record.borrow().clone());
        let kept = self.in_journal(move |journal| {
            let record = signer.next(root, last.as_ref());
            if let Some(record) = &record {
                journal.put_record(&signer.name(), record)?;
            }
            Ok(record)
        });
        match kept.await {
            Ok(record) => self.use_record(record),
            Err(error) => {
                tracing::warn!(%error, "the name keeps its old record; trying again in {} s", RETRY.as_secs());
                self.look_at_name = Instant::now() + RETRY;
            }
        }
    }

    /// Only a record that is durable is used: its number must not come again.
    fn use_record(&self, record: Option<NameRecord>) {
        if record.is_some() {
            self.record.send_replace(record);
        }
    }

    async fn stage(&mut self, update: &Arc<Update>) -> Result<Staged, StoreError> {
        self.settle_doubt().await?;
        let (update, store) = (update.clone(), self.store.clone());
        self.in_journal(move |journal| journal.stage(&update, &|cid| store.named(cid)))
            .await
    }

    /// Asks the disk how much may be stored, unless nothing is ever deleted here. While blocks are being removed it would count them
    /// twice: as stored, and as free.
    fn look_at_disk(&mut self) -> Result<(), StoreError> {
        if self.removal.is_some() || self.budgets.limit_bytes() == u64::MAX {
            return Ok(());
        }
        let free = self.store.free_bytes().map_err(HostError::Io)?;
        let room = self.stored_bytes.saturating_add(free);
        self.limit_bytes = (self.budgets.limit_bytes()).min(room.saturating_sub(RESERVE_BYTES));
        Ok(())
    }

    /// Room that is there again counts at once; room that is gone, when an update needs it.
    fn look_for_more_room(&mut self) {
        let before = self.limit_bytes;
        if before < self.budgets.limit_bytes() && self.look_at_disk().is_ok() {
            self.limit_bytes = self.limit_bytes.max(before);
        }
    }

    fn check_disk(&self, needed_bytes: u64) -> Result<(), StoreError> {
        match self.store.free_bytes() {
            Ok(free) if free < needed_bytes.saturating_add(RESERVE_BYTES) => {
                Err(StoreError::DiskFull)
            }
            Ok(_) => Ok(()),
            Err(error) => Err(HostError::Io(error).into()),
        }
    }

    /// The journal syncs files: not on a thread that serves viewers.
    async fn in_journal<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Journal) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = crate::in_journal(&self.journal, f).await;
        // redb refuses everything after a failure of the disk until it is opened anew.
        if matches!(result, Err(StoreError::Journal(_))) {
            self.journal.close();
        }
        result
    }
}

fn cids_of(sized: &[(Cid, u64)]) -> Vec<Cid> {
    sized.iter().map(|(cid, _)| *cid).collect()
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
