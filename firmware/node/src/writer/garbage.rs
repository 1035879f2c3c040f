//! What leaves the store: broadcasts that make room, and what nothing names any more.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use node_host::HostError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{RETRY, Writer, cids_of};
use crate::journal::{Broadcast, State, Turn};
use crate::{BroadcastId, StoreError};

/// A follower may still be walking an earlier root, and a viewer may be playing from it: what an update replaced, some 30 kB, stays
/// for so long, unless its room is needed. Of a mirror that keeps the window it is what has left it.
pub(crate) const GRACE: Duration = Duration::from_secs(600);

/// Blocks leave in bundles.
const COLLECT_EVERY: Duration = Duration::from_secs(10);
/// Blocks removed in one go.
const COLLECT_AT_ONCE: usize = 256;
/// Entries of a deleted broadcast taken apart in one go: a segment is about five blocks.
const ENTRIES_AT_ONCE: usize = 48;

/// Garbage that is leaving the store.
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) cids: Vec<Cid>,
    task: JoinHandle<Result<(), HostError>>,
}

/// Blocks that became garbage with one update.
#[derive(Debug)]
pub(super) struct Batch {
    since: Instant,
    /// Its own.
    number: u64,
    cids: VecDeque<Cid>,
}

impl Writer {
    /// Deletes the oldest finished broadcasts until so many bytes fit.
    pub(super) async fn make_room(
        &mut self,
        needed_bytes: u64,
        current: Option<BroadcastId>,
    ) -> Result<(), StoreError> {
        // Deleting would not help.
        if needed_bytes > self.limit_bytes {
            return self.check_limit(needed_bytes);
        }
        self.find_marked().await?;
        while self.check_limit(needed_bytes).is_err() {
            if self.removal.is_some() {
                self.finish_removal().await?;
                continue;
            }
            let garbage_first = self.signer.follows() && !self.garbage.is_empty();
            if !self.deleting.is_empty() || !garbage_first && self.choose_oldest(current).await? {
                self.take_apart().await?;
            } else if !self.remove_early() {
                break;
            }
        }
        self.check_limit(needed_bytes)
    }

    /// Marks the oldest finished broadcast that is not pinned as being deleted; never the newest, which is what the box shows,
    /// and which may just be `current`. Until that has anything the box shows the one before: that goes only where `current` has no
    /// room without it. A mirror shows what its record names, and what is open of the others nobody closes.
    pub(super) async fn choose_oldest(
        &mut self,
        current: Option<BroadcastId>,
    ) -> Result<bool, StoreError> {
        let follows = self.signer.follows();
        let record = self.record.borrow().as_ref().map(|record| record.root);
        let shown = record.filter(|_| follows && current.is_none());
        let named = self.named().filter(|_| current.is_none());
        let chosen = self.mark_deleting(move |broadcasts| {
            let mut others = (broadcasts.iter())
                .filter(|it| it.root.is_none() || it.root != shown)
                .filter(|it| ![current, named].contains(&Some(it.id)));
            let newest = broadcasts.last().map(|newest| newest.id).max(current);
            let oldest = others.find(|it| may_go(it, newest, follows));
            Ok(oldest.map(|oldest| oldest.id))
        });
        let chosen = chosen.await?;
        if let Some(broadcast) = chosen {
            tracing::info!(%broadcast, "deleting the oldest broadcast to make room");
        }
        Ok(chosen.is_some())
    }

    /// Marks a broadcast as being deleted; its blocks leave one after the other, without grace.
    pub(super) async fn delete_by_hand(
        &mut self,
        broadcast: BroadcastId,
    ) -> Result<(), StoreError> {
        let (named, follows) = (self.named(), self.signer.follows());
        let record = self.record.borrow().as_ref().map(|record| record.root);
        self.mark_deleting(move |broadcasts| {
            let found = (broadcasts.iter()).find(|it| it.id == broadcast);
            let found = found.filter(|it| it.state != State::Deleting);
            let found = found.ok_or(StoreError::UnknownBroadcast(broadcast))?;
            // The last may have nothing yet, and then the one before is what the name leads to.
            let last = broadcasts.last().map(|last| last.id);
            let shown = follows && found.root.is_some() && found.root == record;
            if shown || [named, last].contains(&Some(broadcast)) {
                return Err(StoreError::Newest(broadcast));
            }
            match found.pinned {
                true => Err(StoreError::Pinned(broadcast)),
                false => Ok(Some(broadcast)),
            }
        })
        .await?;
        Ok(())
    }

    /// Marks the broadcast that is chosen, unless it is pinned.
    pub(super) async fn mark_deleting(
        &mut self,
        choose: impl FnOnce(&[Broadcast]) -> Result<Option<BroadcastId>, StoreError> + Send + 'static,
    ) -> Result<Option<BroadcastId>, StoreError> {
        let marked = self.in_journal(move |journal| {
            let Some(chosen) = choose(&journal.broadcasts()?)? else {
                return Ok(None);
            };
            let marked = journal.mark_deleting(chosen)?;
            Ok(marked.then_some(chosen))
        });
        let marked = marked.await;
        self.mark_in_doubt |= matches!(marked, Err(StoreError::Journal(_)));
        let marked = marked?;
        self.deleting.extend(marked);
        Ok(marked)
    }

    /// Looks for a broadcast whose mark seemed to fail and is there.
    pub(super) async fn find_marked(&mut self) -> Result<(), StoreError> {
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
        self.look_again = true;
        let ((), turn) = self.commit(turn, || Ok(piece.commit()?)).await?;
        if is_last {
            self.deleting.pop_front();
        }
        let garbage = self.unname(turn.garbage);
        self.remove(garbage);
        Ok(())
    }

    /// Better than no room: the oldest garbage goes before its grace is over, where there is any.
    fn remove_early(&mut self) -> bool {
        let Some(mut batch) = self.garbage.pop_front() else {
            return false;
        };
        let garbage = self.take_garbage(&mut batch, usize::MAX);
        self.remove(garbage);
        true
    }

    /// Removes garbage from the store, beside what else is done.
    fn remove(&mut self, cids: Vec<Cid>) {
        debug_assert!(self.removal.is_none(), "one removal at a time");
        if !cids.is_empty() {
            let task = tokio::spawn(self.store.remove(cids.clone()));
            self.removal = Some(Removal { cids, task });
        }
    }

    pub(super) fn is_being_removed(&self, blocks: &[(Cid, Bytes)]) -> bool {
        (self.removal.as_ref())
            .is_some_and(|removal| blocks.iter().any(|(cid, _)| removal.cids.contains(cid)))
    }

    pub(super) async fn finish_removal(&mut self) -> Result<(), StoreError> {
        if self.removal.is_none() {
            return Ok(());
        }
        let result = ended(&mut self.removal).await;
        self.removed(result).await
    }

    pub(super) async fn removed_in_background(&mut self, result: Result<(), HostError>) {
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
        // A fetch that is over may have brought some again.
        let back = cids
            .iter()
            .filter_map(|cid| Some((*cid, self.store.nameless(cid).ok()??)));
        let back: Vec<_> = back.collect();
        self.stored_bytes += back.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let garbage = self.unname(back);
        self.add_garbage(garbage, Instant::now());
        if self.deleting.is_empty() && self.look_again {
            self.look_at_recordings().await;
        }
        Ok(())
    }

    /// After a failed update: its blocks must not stay until the next open.
    pub(super) async fn remove_new(&mut self, turn: &Turn) {
        let mut new = cids_of(&turn.named);
        new.retain(|cid| !self.unnamed.contains_key(cid));
        self.remove_uncounted(new).await;
    }

    pub(super) async fn remove_uncounted(&mut self, cids: Vec<Cid>) {
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

    pub(super) fn add_garbage(&mut self, cids: Vec<Cid>, since: Instant) {
        if cids.is_empty() {
            return;
        }
        self.batches += 1;
        self.garbage_since
            .extend(cids.iter().map(|cid| (*cid, self.batches)));
        self.garbage.push_back(Batch {
            since,
            number: self.batches,
            cids: cids.into(),
        });
    }

    /// When there is background work to do.
    pub(super) fn next_work(&self) -> Option<Instant> {
        if self.removal.is_some() {
            return None;
        }
        // What a failing disk has left in doubt is not counted until it is settled, and no update may come for long.
        if self.deletes() || self.doubt.is_some() {
            return Some(self.not_before);
        }
        let batch = self.garbage.front()?;
        Some((batch.since + GRACE).max(self.not_before))
    }

    /// Whether broadcasts have to go.
    fn deletes(&self) -> bool {
        !self.deleting.is_empty()
            || self.mark_in_doubt
            || self.recordings_over
            || self.check_limit(self.headroom_bytes()).is_err()
    }

    pub(super) async fn work(&mut self) {
        self.look_for_more_room();
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
        // On a mirror that is what has left the window: of that there may be more than of anything else.
        if self.deleting.is_empty()
            && !self.recordings_over
            && self.signer.follows()
            && self.remove_early()
        {
            return Ok(());
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
            if due.len() == COLLECT_AT_ONCE || now < batch.since + GRACE {
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
}

/// Whether a broadcast is deleted where there is no room. On a mirror nobody closes what is open of the others.
fn may_go(it: &Broadcast, newest: Option<BroadcastId>, follows: bool) -> bool {
    let done = it.state == State::Finished || follows && it.state == State::Open;
    done && !it.pinned && Some(it.id) != newest
}

/// Whether deleting would make room, or already does. On a box the next broadcast takes even the room of the last.
pub(crate) fn can_make_room(broadcasts: &[Broadcast], follows: bool) -> bool {
    let newest = broadcasts.last().map(|newest| newest.id);
    let newest = newest.filter(|_| follows);
    (broadcasts.iter()).any(|it| it.state == State::Deleting || may_go(it, newest, follows))
}

/// Waits for the end of the removal, if there is one. Its answer must be given to [`Writer::removed`].
pub(super) async fn ended(removal: &mut Option<Removal>) -> Result<(), HostError> {
    match removal {
        Some(removal) => match (&mut removal.task).await {
            Ok(result) => result,
            Err(error) => Err(std::io::Error::other(error).into()),
        },
        None => std::future::pending().await,
    }
}
