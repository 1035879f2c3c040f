//! What the writer of a mirror does: it holds what a fetch brings, and takes trees over.
//!
//! Held blocks are durable and counted like garbage, so that the limit is kept; they do not leave before their fetch is over. Then
//! those that no commit has named are garbage with its grace: another try finds them, as it does after a restart.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Staged, Turn, Writer};
use crate::journal::adopt::{Adoption, Place};
use crate::{AdoptError, BroadcastId, NameRecord, Published, StoreError};

/// What only a mirror asks of the writer.
#[derive(Debug)]
pub(crate) enum Follow {
    Begin {
        place: Place,
        meta: Vec<u8>,
        reply: oneshot::Sender<Result<Option<BroadcastId>, StoreError>>,
    },
    Hold {
        blocks: Vec<(Cid, Bytes)>,
        make_room: bool,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Adopt {
        adoption: Box<Adoption>,
        make_room: bool,
        reply: oneshot::Sender<Result<Published, AdoptError>>,
    },
    /// A fetch is over. What it brought and nobody named stays for the grace.
    Release {
        blocks: Vec<(Cid, Bytes)>,
        held: Vec<Cid>,
    },
    /// A record that names what is stored.
    Record {
        record: NameRecord,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Nobody wants the broadcast any more. One that is pinned stays.
    Delete {
        broadcast: BroadcastId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
}

impl Writer {
    pub(super) async fn follow(&mut self, command: Follow) {
        match command {
            Follow::Begin { place, meta, reply } => {
                let begun = self.in_journal(move |journal| Ok(journal.begin_at(place, &meta)?));
                let begun = begun.await;
                self.look_at_recordings().await;
                drop(reply.send(begun));
            }
            Follow::Hold {
                blocks,
                make_room,
                reply,
            } => drop(reply.send(self.hold(blocks, make_room).await)),
            Follow::Adopt {
                adoption,
                make_room,
                reply,
            } => {
                // A fetch may have brought what the tree does not name.
                let brought: Vec<Cid> = adoption.blocks.keys().copied().collect();
                let adopted = self.adopt(Arc::new(*adoption), make_room).await;
                self.remove_brought(brought).await;
                drop(reply.send(adopted));
            }
            Follow::Release { blocks, mut held } => {
                let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
                match self.hold(blocks, false).await {
                    Ok(()) => held.extend(cids),
                    Err(_) => self.remove_brought(cids).await,
                }
                held.retain(|cid| self.held.remove(cid));
                self.add_garbage(held, Instant::now());
            }
            Follow::Record { record, reply } => {
                let (name, kept) = (self.signer.name(), record.clone());
                let result = self.in_journal(move |journal| Ok(journal.put_record(&name, &kept)?));
                let result = result.await;
                if result.is_ok() {
                    self.use_record(Some(record));
                }
                drop(reply.send(result));
            }
            Follow::Delete { broadcast, reply } => {
                let marked = self.in_journal(move |journal| Ok(journal.mark_deleting(broadcast)?));
                let marked = marked.await;
                if let Ok(true) = marked {
                    self.deleting.push_back(broadcast);
                }
                drop(reply.send(marked.map(drop)));
            }
        }
    }

    /// Stores blocks and counts them.
    async fn hold(&mut self, blocks: Vec<(Cid, Bytes)>, make_room: bool) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        self.settle_doubt().await?;
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let needed = self.new_bytes(&self.nameless(&blocks).await?);
        self.room_for(needed, make_room, None).await?;
        // What a broadcast had that was deleted just now has no name any more.
        let turn = self.nameless(&blocks).await?;
        self.check_limit(self.new_bytes(&turn))?;
        if let Err(error) = self.store.put(blocks).await {
            self.remove_new(&turn).await;
            return Err(error.into());
        }
        self.stored_bytes += self.new_bytes(&turn);
        for cid in self.unname(turn.named) {
            self.garbage_since.remove(&cid);
            self.held.insert(cid);
        }
        Ok(())
    }

    /// Of these blocks, those that no commit names, as if one were about to.
    async fn nameless(&self, blocks: &[(Cid, Bytes)]) -> Result<Turn, StoreError> {
        let cids: Vec<Cid> = blocks.iter().map(|(cid, _)| *cid).collect();
        let store = self.store.clone();
        let named = self
            .in_journal(move |journal| journal.named(&cids, &|cid| store.length(cid)))
            .await?;
        let nameless = blocks.iter().filter(|(cid, _)| !named.contains(cid));
        Ok(Turn {
            named: nameless
                .map(|(cid, bytes)| (*cid, bytes.len() as u64))
                .collect(),
            garbage: Vec::new(),
        })
    }

    /// An older broadcast pushes nothing else out, and leaves the room in which the newest goes on.
    async fn room_for(
        &mut self,
        needed_bytes: u64,
        make_room: bool,
        current: Option<BroadcastId>,
    ) -> Result<(), StoreError> {
        if make_room {
            if self.check_limit(needed_bytes).is_err() {
                let current = current.unwrap_or(BroadcastId(u64::MAX));
                self.make_room(needed_bytes, current).await?;
            }
        } else {
            let headroom = self.budgets.headroom_bytes();
            self.check_limit(needed_bytes.saturating_add(headroom))?;
            self.check_recordings(needed_bytes).await?;
        }
        self.check_disk(needed_bytes)
    }

    async fn adopt(
        &mut self,
        adoption: Arc<Adoption>,
        make_room: bool,
    ) -> Result<Published, AdoptError> {
        let mut staged = self.stage_adoption(&adoption).await?;
        if self.is_being_removed(&staged.blocks) {
            drop(staged);
            self.finish_removal().await?;
            staged = self.stage_adoption(&adoption).await?;
        }
        let needed = self.new_bytes(&staged.turn);
        if needed > 0 {
            drop(staged);
            self.room_for(needed, make_room, Some(adoption.broadcast))
                .await?;
            // What it shares with a broadcast deleted just now counts as new.
            staged = self.stage_adoption(&adoption).await?;
            self.check_limit(self.new_bytes(&staged.turn))?;
        }
        let record = adoption.record.clone();
        let settled = self.settle(adoption.broadcast, staged, move || record);
        Ok(settled.await?)
    }

    /// Of what a fetch has brought, what nothing has taken leaves again.
    async fn remove_brought(&mut self, mut brought: Vec<Cid>) {
        let doubt = self.doubt.iter().flat_map(|doubt| &doubt.turn.named);
        let in_doubt: HashSet<Cid> = doubt.map(|(cid, _)| *cid).collect();
        brought.retain(|cid| {
            let counted = self.unnamed.contains_key(cid) || in_doubt.contains(cid);
            !counted && matches!(self.store.length(cid), Ok(None))
        });
        self.remove_uncounted(brought).await;
    }

    async fn stage_adoption(&mut self, adoption: &Arc<Adoption>) -> Result<Staged, AdoptError> {
        self.settle_doubt().await?;
        let (adoption, journal) = (adoption.clone(), self.journal.clone());
        let leaving = self.removal.iter().flat_map(|removal| &removal.cids);
        let leaving: HashSet<Cid> = leaving.copied().collect();
        let store = self.store.clone();
        let staged = crate::blocking(move || {
            // What is being removed can no longer be named.
            let nameless = |cid: &Cid| match leaving.contains(cid) {
                true => Ok(None),
                false => store.nameless(cid),
            };
            journal.stage_adoption(&adoption, &nameless, &|cid| store.length(cid))
        });
        let staged = staged.await;
        if matches!(staged, Err(AdoptError::Store(StoreError::Journal(_)))) {
            self.journal.close();
        }
        staged
    }
}
