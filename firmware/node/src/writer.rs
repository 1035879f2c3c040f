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

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use node_host::HostError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::journal::{Journal, Staged, State, Turn};
use crate::names::{NameRecord, Signer};
use crate::store::BlockStore;
use crate::{BroadcastId, Lock, Published, Stats, StoreError, Update};
pub(crate) use adopt::Follow;
pub use budget::Budgets;

/// A follower of the last root may still be walking it: what an update replaced stays for so long,
pub(crate) const GRACE: Duration = Duration::from_secs(60);
/// and for so many further updates,
pub(crate) const GRACE_UPDATES: u64 = 4;
/// or, when no more come, for so long.
pub(crate) const GRACE_WITHOUT_UPDATES: Duration = Duration::from_secs(600);

/// Blocks leave in bundles.
const COLLECT_EVERY: Duration = Duration::from_secs(10);
/// Blocks removed in one go.
const COLLECT_AT_ONCE: usize = 256;
/// Entries of a deleted broadcast taken apart in one go: a segment is about five blocks.
const ENTRIES_AT_ONCE: usize = 48;
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
    Follow(Follow),
    Shutdown {
        reply: oneshot::Sender<()>,
    },
}

/// Garbage that is leaving the store.
#[derive(Debug)]
struct Removal {
    cids: Vec<Cid>,
    task: JoinHandle<Result<(), HostError>>,
}

/// Blocks that became garbage with one update.
#[derive(Debug)]
struct Batch {
    since: Instant,
    /// Its own.
    number: u64,
    /// Number of the update.
    update: u64,
    cids: VecDeque<Cid>,
}

pub(crate) struct Writer {
    store: Arc<dyn BlockStore>,
    journal: Arc<Journal>,
    budgets: Budgets,
    stored_bytes: u64,
    /// Recordings take more than their budget.
    recordings_over: bool,
    /// Updates since the start.
    updates: u64,
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
        });
        let mut writer = Writer {
            store,
            journal,
            budgets,
            stored_bytes,
            recordings_over: false,
            updates: 0,
            garbage: VecDeque::new(),
            batches: 0,
            garbage_since: HashMap::new(),
            held: HashMap::new(),
            unnamed: HashMap::new(),
            doubt: None,
            deleting: inherited.deleting.into(),
            mark_in_doubt: false,
            removal: None,
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
        if !writer.signer.follows() {
            // A follower that comes back after a restart walks the root it knew. A mirror has to find its box first: what its fetch had
            // brought waits longer.
            writer.updates = GRACE_UPDATES;
        }
        (writer, receiver)
    }

    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut peers = self.store.peers();
        let mut peers_alive = true;
        self.look_at_recordings().await;
        let reply = loop {
            let work_at = self.next_work();
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Begin { meta, reply }) => drop(reply.send(self.begin(meta).await)),
                    Some(Command::Publish { update, reply }) => drop(reply.send(self.publish(update).await)),
                    Some(Command::Pin { broadcast, pinned, reply }) => drop(reply.send(self.pin(broadcast, pinned).await)),
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
                limit_bytes: self.budgets.limit_bytes(),
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
        self.check_disk(meta.len() as u64)?;
        let result = self
            .in_journal(move |journal| Ok(journal.begin(&meta)?))
            .await;
        if result.is_ok() {
            // The one before is a recording now.
            self.look_at_recordings().await;
        }
        result
    }

    async fn pin(&mut self, broadcast: BroadcastId, pinned: bool) -> Result<(), StoreError> {
        let most = self.budgets.pinned_bytes;
        self.in_journal(move |journal| journal.pin(broadcast, pinned, most))
            .await
    }

    async fn publish(&mut self, update: Update) -> Result<Published, StoreError> {
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
                Err(StoreError::Full { .. }) if update.finish => {}
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
            self.newest = Some((update.broadcast, root));
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
            let blocks = journal.named_blocks()?;
            Ok(match named {
                Some(named) => blocks.contains_key(&named),
                None => garbage.is_none_or(|garbage| !blocks.contains_key(&garbage)),
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
        self.updates += u64::from(!turn.named.is_empty());
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

    /// Deletes the oldest finished broadcasts until so many bytes fit.
    async fn make_room(
        &mut self,
        needed_bytes: u64,
        current: Option<BroadcastId>,
    ) -> Result<(), StoreError> {
        // Deleting would not help.
        if needed_bytes > self.budgets.limit_bytes() {
            return self.check_limit(needed_bytes);
        }
        self.find_marked().await?;
        while self.check_limit(needed_bytes).is_err() {
            if self.removal.is_some() {
                self.finish_removal().await?;
                continue;
            }
            if !self.deleting.is_empty() || self.choose_oldest(current).await? {
                self.take_apart().await?;
            } else if let Some(mut batch) = self.garbage.pop_front() {
                // Better than no room: what was replaced goes before its grace is over.
                let garbage = self.take_garbage(&mut batch, usize::MAX);
                self.remove(garbage);
            } else {
                break;
            }
        }
        self.check_limit(needed_bytes)
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

    /// Marks the oldest finished broadcast that is not pinned as being deleted; never the newest, which is what the box shows,
    /// and which may just be `current`. A mirror shows what its record names, and what is open of the others nobody closes.
    async fn choose_oldest(&mut self, current: Option<BroadcastId>) -> Result<bool, StoreError> {
        let follows = self.signer.follows();
        let record = self.record.borrow().as_ref().map(|record| record.root);
        let shown = record.filter(|_| follows && current.is_none());
        let chosen = self
            .in_journal(move |journal| {
                let broadcasts = journal.broadcasts()?;
                let newest = broadcasts.last().map(|newest| newest.id).max(current);
                let mut others = broadcasts.iter().filter(|b| {
                    let done = b.state == State::Finished || follows && b.state == State::Open;
                    let kept = Some(b.id) == newest || Some(b.id) == current;
                    done && !b.pinned && !kept && (shown.is_none() || b.root != shown)
                });
                let Some(oldest) = others.next() else {
                    return Ok(None);
                };
                let marked = journal.mark_deleting(oldest.id)?;
                Ok(marked.then_some(oldest.id))
            })
            .await;
        self.mark_in_doubt |= chosen.is_err();
        let chosen = chosen?;
        if let Some(broadcast) = chosen {
            tracing::info!(%broadcast, "deleting the oldest broadcast to make room");
            self.deleting.push_back(broadcast);
        }
        Ok(chosen.is_some())
    }

    /// Looks for a broadcast whose mark seemed to fail and is there.
    async fn find_marked(&mut self) -> Result<(), StoreError> {
        if !self.mark_in_doubt {
            return Ok(());
        }
        let broadcasts = self.in_journal(|journal| Ok(journal.broadcasts()?)).await?;
        self.mark_in_doubt = false;
        for marked in broadcasts {
            if marked.state == State::Deleting && !self.deleting.contains(&marked.id) {
                self.deleting.push_back(marked.id);
            }
        }
        Ok(())
    }

    /// One step of deleting a broadcast. Without grace: the room is needed now.
    async fn take_apart(&mut self) -> Result<(), StoreError> {
        let Some(&broadcast) = self.deleting.front() else {
            return Ok(());
        };
        self.settle_doubt().await?;
        let store = self.store.clone();
        let taken = self.in_journal(move |journal| {
            journal.take_apart(broadcast, ENTRIES_AT_ONCE, &|cid| store.named(cid))
        });
        let mut piece = taken.await?;
        let (turn, is_last) = (std::mem::take(&mut piece.turn), piece.is_last);
        let ((), turn) = self.commit(turn, || Ok(piece.commit()?)).await?;
        if is_last {
            self.deleting.pop_front();
        }
        let garbage = self.unname(turn.garbage);
        self.remove(garbage);
        Ok(())
    }

    /// Removes garbage from the store, beside what else is done.
    fn remove(&mut self, cids: Vec<Cid>) {
        debug_assert!(self.removal.is_none(), "one removal at a time");
        if !cids.is_empty() {
            let task = tokio::spawn(self.store.remove(cids.clone()));
            self.removal = Some(Removal { cids, task });
        }
    }

    fn is_being_removed(&self, blocks: &[(Cid, Bytes)]) -> bool {
        (self.removal.as_ref())
            .is_some_and(|removal| blocks.iter().any(|(cid, _)| removal.cids.contains(cid)))
    }

    async fn finish_removal(&mut self) -> Result<(), StoreError> {
        if self.removal.is_none() {
            return Ok(());
        }
        let result = ended(&mut self.removal).await;
        self.removed(result).await
    }

    async fn removed_in_background(&mut self, result: Result<(), HostError>) {
        if let Err(error) = self.removed(result).await {
            self.pause_work(&error);
        }
    }

    /// What has left the store counts no longer.
    async fn removed(&mut self, result: Result<(), HostError>) -> Result<(), StoreError> {
        let cids = self.removal.take().map(|removal| removal.cids);
        let cids = cids.unwrap_or_default();
        if let Err(error) = result {
            // It stays garbage and comes up again.
            self.add_garbage(cids, Instant::now());
            return Err(error.into());
        }
        let gone = cids.iter().filter_map(|cid| self.unnamed.remove(cid));
        self.stored_bytes = self.stored_bytes.saturating_sub(gone.sum());
        if self.recordings_over && self.deleting.is_empty() {
            self.look_at_recordings().await;
        }
        Ok(())
    }

    /// After a failed update: its blocks must not stay until the next open.
    async fn remove_new(&mut self, turn: &Turn) {
        let mut new = cids_of(&turn.named);
        new.retain(|cid| !self.unnamed.contains_key(cid));
        self.remove_uncounted(new).await;
    }

    async fn remove_uncounted(&mut self, cids: Vec<Cid>) {
        // Before they go: whoever fetches one now must not find it here.
        self.store.disown(&cids);
        if let Err(error) = self.store.remove(cids.clone()).await {
            tracing::warn!(%error, "blocks that nothing names stay for now");
            let here = cids.into_iter().filter_map(|cid| {
                let bytes = self.store.nameless(&cid).ok()??;
                Some((cid, bytes))
            });
            let here: Vec<_> = here.collect();
            self.stored_bytes += here.iter().map(|(_, bytes)| bytes).sum::<u64>();
            let garbage = self.unname(here);
            self.add_garbage(garbage, Instant::now());
        }
    }

    fn add_garbage(&mut self, cids: Vec<Cid>, since: Instant) {
        if cids.is_empty() {
            return;
        }
        self.batches += 1;
        self.garbage_since
            .extend(cids.iter().map(|cid| (*cid, self.batches)));
        self.garbage.push_back(Batch {
            since,
            number: self.batches,
            update: self.updates,
            cids: cids.into(),
        });
    }

    /// When there is background work to do.
    fn next_work(&self) -> Option<Instant> {
        if self.removal.is_some() {
            return None;
        }
        if self.deletes() {
            return Some(self.not_before);
        }
        let batch = self.garbage.front()?;
        Some((batch.since + self.grace(batch)).max(self.not_before))
    }

    /// Whether broadcasts have to go.
    fn deletes(&self) -> bool {
        !self.deleting.is_empty()
            || self.mark_in_doubt
            || self.recordings_over
            || self.check_limit(self.budgets.headroom_bytes()).is_err()
    }

    async fn work(&mut self) {
        let result = match self.deletes() {
            true => self.delete().await,
            false => self.collect().await,
        };
        if let Err(error) = result {
            self.pause_work(&error);
        }
    }

    fn pause_work(&mut self, error: &StoreError) {
        tracing::warn!(%error, "cannot delete; trying again in {} s", RETRY.as_secs());
        self.not_before = Instant::now() + RETRY;
    }

    async fn delete(&mut self) -> Result<(), StoreError> {
        if self.mark_in_doubt {
            return self.find_marked().await;
        }
        if self.deleting.is_empty() && !self.choose_oldest(None).await? {
            // Nothing may go. Collecting may still help.
            self.collect().await?;
            if self.removal.is_none() {
                self.not_before = Instant::now() + RETRY;
            }
            return Ok(());
        }
        self.take_apart().await
    }

    /// Removes the garbage whose grace is over.
    async fn collect(&mut self) -> Result<(), StoreError> {
        self.settle_doubt().await?;
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some(mut batch) = self.garbage.pop_front() {
            if due.len() == COLLECT_AT_ONCE || now < batch.since + self.grace(&batch) {
                self.garbage.push_front(batch);
                break;
            }
            due.extend(self.take_garbage(&mut batch, COLLECT_AT_ONCE - due.len()));
            if !batch.cids.is_empty() {
                self.garbage.push_front(batch);
            }
        }
        self.not_before = if due.len() < COLLECT_AT_ONCE {
            now + COLLECT_EVERY
        } else {
            now
        };
        self.remove(due);
        Ok(())
    }

    fn grace(&self, batch: &Batch) -> Duration {
        match self.updates >= batch.update + GRACE_UPDATES {
            true => GRACE,
            false => GRACE_WITHOUT_UPDATES,
        }
    }

    /// Takes so much out of a batch that is garbage still, and since then.
    fn take_garbage(&mut self, batch: &mut Batch, most: usize) -> Vec<Cid> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(cid) = batch.cids.pop_front()
        {
            if self.garbage_since.get(&cid) == Some(&batch.number) {
                self.garbage_since.remove(&cid);
                taken.push(cid);
            }
        }
        taken
    }

    /// The journal syncs files: not on a thread that serves viewers.
    async fn in_journal<T: Send + 'static>(
        &self,
        f: impl FnOnce(&Journal) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let journal = self.journal.clone();
        let result = crate::blocking(move || f(&journal)).await;
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

/// Waits for the end of the removal, if there is one. Its answer must be given to [`Writer::removed`].
async fn ended(removal: &mut Option<Removal>) -> Result<(), HostError> {
    match removal {
        Some(removal) => match (&mut removal.task).await {
            Ok(result) => result,
            Err(error) => Err(std::io::Error::other(error).into()),
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
