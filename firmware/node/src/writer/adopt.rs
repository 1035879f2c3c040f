//! What the writer of a mirror does: it holds what a fetch brings, and takes trees over.
//!
//! Held blocks are durable and counted like garbage, so that the limit is kept; they do not leave before their fetch is over. Then
//! those that no commit has named are garbage with its grace: another try finds them, as it does after a restart.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use node_host::HostError;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Staged, Turn, Writer, cids_of};
use crate::journal::adopt::{Adoption, Place};
use crate::journal::{Named, State};
use crate::{AdoptError, BroadcastId, NameRecord, StoreError};

/// What only a mirror asks of the writer.
#[derive(Debug)]
pub(crate) enum Follow {
    Hold {
        blocks: Vec<(Cid, Bytes)>,
        make_room: bool,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Sees to room on the disk, which others may have filled.
    FindRoom {
        make_room: bool,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// Whether there is room for an earlier broadcast of so many bytes.
    Fits {
        bytes: u64,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    /// What lies in a block's place is another one, and keeps whatever peers give from being written.
    Discard {
        cid: Cid,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    Adopt {
        adoption: Box<Adoption>,
        make_room: bool,
        reply: oneshot::Sender<Result<BroadcastId, AdoptError>>,
    },
    /// A fetch is over. What it brought and nobody named stays for the grace; what was `asked` for and may still have come does
    /// not.
    Release {
        blocks: Vec<(Cid, Bytes)>,
        held: Vec<Cid>,
        asked: Vec<Cid>,
        make_room: bool,
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
            Follow::Hold {
                blocks,
                make_room,
                reply,
            } => {
                let brought = cids(&blocks);
                let held = self.hold(blocks, make_room).await;
                if held.is_err() {
                    self.remove_brought(brought).await;
                }
                drop(reply.send(held));
            }
            Follow::Discard { cid, reply } => drop(reply.send(self.discard(cid).await)),
            Follow::FindRoom { make_room, reply } => {
                drop(reply.send(self.find_room(make_room).await));
            }
            Follow::Fits { bytes, reply } => {
                drop(reply.send(self.check_recordings(bytes).await));
            }
            Follow::Adopt {
                adoption,
                make_room,
                reply,
            } => {
                // A fetch may have brought what the tree does not name.
                let brought = adoption.blocks.iter();
                let brought: Vec<_> = brought.map(|(cid, it)| (*cid, it.len() as u64)).collect();
                let adopted = self.adopt(Arc::new(*adoption), make_room).await;
                if adopted.is_ok() {
                    self.find(&brought);
                }
                self.remove_brought(cids_of(&brought)).await;
                drop(reply.send(adopted));
            }
            Follow::Release {
                blocks,
                mut held,
                mut asked,
                make_room,
            } => {
                let brought = cids(&blocks);
                match self.hold_last(blocks, make_room).await {
                    Ok(()) => held.extend(brought),
                    Err(_) => asked.extend(brought),
                }
                self.remove_brought(asked).await;
                held.retain(|cid| self.held.remove(cid).is_some());
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
                let marked = self.mark_deleting(move |broadcasts| {
                    let there = (broadcasts.iter())
                        .any(|it| it.id == broadcast && it.state != State::Deleting);
                    Ok(there.then_some(broadcast))
                });
                let marked = marked.await.map(drop);
                drop(reply.send(marked));
            }
        }
    }

    /// Removes what lies in a block's place. Where a commit names the block, it is lost until it comes again.
    async fn discard(&mut self, cid: Cid) -> Result<(), StoreError> {
        self.settle_doubt().await?;
        self.finish_removal().await?;
        // Another fetch may have brought it meanwhile.
        if !self.store.is_torn(cid).await? {
            return Ok(());
        }
        // Before it goes: whoever fetches it now must not take it for nameless.
        if let Some(Named::Here(bytes)) = self.store.named(&cid).map_err(HostError::Io)? {
            self.store.lose(&[cid]);
            self.stored_bytes = self.stored_bytes.saturating_sub(bytes);
        }
        Ok(self.store.remove(vec![cid]).await?)
    }

    /// Counts what was lost and has been brought, and that nothing new names.
    fn find(&mut self, brought: &[(Cid, u64)]) {
        for (cid, bytes) in brought {
            if matches!(self.store.named(cid), Ok(Some(Named::Lost))) {
                self.store.own(&[*cid]);
                self.stored_bytes += bytes;
            }
        }
    }

    /// Sees that the disk's reserve is free.
    async fn find_room(&mut self, make_room: bool) -> Result<(), StoreError> {
        if make_room && self.check_disk(0).is_err() {
            self.finish_removal().await?;
            self.look_at_disk()?;
            self.make_room(0, None).await?;
        }
        self.check_disk(0)
    }

    /// Stores blocks and counts them. Without `make_room` they are an earlier broadcast's, which pushes nothing else out.
    async fn hold(&mut self, blocks: Vec<(Cid, Bytes)>, make_room: bool) -> Result<(), StoreError> {
        self.settle_doubt().await?;
        self.look_at_disk()?;
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let mut turn = self.turn_of(&blocks).await?;
        let needed = self.new_bytes(&turn);
        if !make_room {
            self.check_recordings(needed).await?;
        } else if self.check_limit(needed).is_err() {
            self.make_room(needed, None).await?;
            // What a broadcast had that was deleted just now has no name any more.
            turn = self.turn_of(&blocks).await?;
            self.check_limit(self.new_bytes(&turn))?;
        }
        self.store_held(blocks, turn, make_room).await
    }

    /// Holds what a fetch that is over had in memory. It is small, and needs no budget: it goes before anything else does.
    async fn hold_last(
        &mut self,
        blocks: Vec<(Cid, Bytes)>,
        make_room: bool,
    ) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        self.settle_doubt().await?;
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let turn = self.turn_of(&blocks).await?;
        let headroom = match make_room {
            true => 0,
            false => self.headroom_bytes(),
        };
        self.check_limit(self.new_bytes(&turn).saturating_add(headroom))?;
        self.store_held(blocks, turn, make_room).await
    }

    async fn store_held(
        &mut self,
        blocks: Vec<(Cid, Bytes)>,
        turn: Turn,
        make_room: bool,
    ) -> Result<(), StoreError> {
        self.check_disk(self.new_bytes(&turn))?;
        if let Err(error) = self.store.put(blocks).await {
            self.remove_new(&turn).await;
            return Err(error.into());
        }
        self.stored_bytes += self.new_bytes(&turn);
        self.store.own(&cids_of(&turn.found));
        for cid in self.unname(turn.named) {
            self.garbage_since.remove(&cid);
            self.held.insert(cid, make_room);
        }
        Ok(())
    }

    /// Of these blocks, those that no commit names, as if one were about to, and those that are named and were lost.
    async fn turn_of(&self, blocks: &[(Cid, Bytes)]) -> Result<Turn, StoreError> {
        let sizes = blocks.iter().map(|(cid, bytes)| (*cid, bytes.len() as u64));
        let sizes: Vec<_> = sizes.collect();
        let store = self.store.clone();
        self.in_journal(move |journal| journal.naming(&sizes, &|cid| store.named(cid)))
            .await
    }

    async fn adopt(
        &mut self,
        adoption: Arc<Adoption>,
        make_room: bool,
    ) -> Result<BroadcastId, AdoptError> {
        self.look_at_disk()?;
        let (mut staged, mut id) = self.stage_adoption(&adoption).await?;
        if self.is_being_removed(&staged.blocks) {
            drop(staged);
            self.finish_removal().await?;
            (staged, id) = self.stage_adoption(&adoption).await?;
        }
        let needed = self.new_bytes(&staged.turn);
        if needed > 0 {
            if !make_room {
                self.check_recordings(needed).await?;
            } else if self.check_limit(needed).is_err() {
                drop(staged);
                self.make_room(needed, Some(id)).await?;
                // What it shares with a broadcast deleted just now counts as new.
                (staged, id) = self.stage_adoption(&adoption).await?;
                self.check_limit(self.new_bytes(&staged.turn))?;
            }
            self.check_disk(self.new_bytes(&staged.turn))?;
        }
        let record = adoption.record.clone();
        self.settle(staged, move || record).await?;
        if !matches!(adoption.place, Place::Of(_)) {
            // The one before is a recording now, or this is one.
            self.look_at_recordings().await;
        }
        Ok(id)
    }

    /// Of what a fetch has brought, what nothing has taken leaves again.
    async fn remove_brought(&mut self, mut brought: Vec<Cid>) {
        let doubt = self.doubt.iter().flat_map(|turn| &turn.named);
        let in_doubt: HashSet<Cid> = doubt.map(|(cid, _)| *cid).collect();
        brought.retain(|cid| {
            let counted = self.unnamed.contains_key(cid) || in_doubt.contains(cid);
            !counted && matches!(self.store.named(cid), Ok(None))
        });
        self.remove_uncounted(brought).await;
    }

    async fn stage_adoption(
        &mut self,
        adoption: &Arc<Adoption>,
    ) -> Result<(Staged, BroadcastId), AdoptError> {
        self.settle_doubt().await?;
        let adoption = adoption.clone();
        let leaving = self.removal.iter().flat_map(|removal| &removal.cids);
        let leaving: HashSet<Cid> = leaving.copied().collect();
        let (store, most_pinned) = (self.store.clone(), self.budgets.pinned_bytes);
        let staged = crate::in_journal(&self.journal, move |journal| {
            // What is being removed can no longer be named.
            let nameless = |cid: &Cid| match leaving.contains(cid) {
                true => Ok(None),
                false => store.nameless(cid),
            };
            journal.stage_adoption(&adoption, &nameless, most_pinned, &|cid| store.named(cid))
        });
        let staged = staged.await;
        if matches!(staged, Err(AdoptError::Store(StoreError::Journal(_)))) {
            self.journal.close();
        }
        staged
    }
}

fn cids(blocks: &[(Cid, Bytes)]) -> Vec<Cid> {
    blocks.iter().map(|(cid, _)| *cid).collect()
}
