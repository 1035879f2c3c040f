//! What the writer of a mirror does: it holds what a fetch brings, and takes trees over.
//!
//! Held blocks are durable and counted like garbage, so that the limit is kept and nothing is lost by a restart; they do not
//! leave before their fetch is over. Then those that no commit has named are garbage with its grace: another try finds them.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Staged, Writer};
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
    /// Nobody wants the broadcast any more.
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
                if marked.is_ok() {
                    self.deleting.push_back(broadcast);
                }
                drop(reply.send(marked));
            }
        }
    }

    /// Stores blocks and counts them.
    async fn hold(&mut self, blocks: Vec<(Cid, Bytes)>, make_room: bool) -> Result<(), StoreError> {
        if blocks.is_empty() {
            return Ok(());
        }
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let lengths: Vec<(Cid, u32)> = (blocks.iter())
            .map(|(cid, bytes)| (*cid, bytes.len() as u32))
            .collect();
        let cids: Vec<Cid> = lengths.iter().map(|(cid, _)| *cid).collect();
        let (known, store) = (cids.clone(), self.store.clone());
        let unknown = self.in_journal(move |journal| {
            let unknown = journal.unknown(&known, &|cid| store.length(cid))?;
            Ok(HashSet::<Cid>::from_iter(unknown))
        });
        let unknown = unknown.await?;
        let mut unheld = lengths;
        unheld.retain(|(cid, _)| unknown.contains(cid));
        let needed = unheld.iter().map(|(_, length)| u64::from(*length)).sum();
        self.room_for(needed, make_room, None).await?;
        let stored = match self.store.put(blocks).await {
            Ok(()) => {
                self.in_journal(move |journal| Ok(journal.hold(&unheld)?))
                    .await
            }
            Err(error) => Err(error.into()),
        };
        match stored {
            Ok(bytes) => self.stored_bytes += bytes,
            Err(error) => {
                // If the commit is on disk after all, it says garbage of what is gone.
                self.remove_unnamed(unknown.into_iter().collect()).await;
                return Err(error);
            }
        }
        for cid in cids {
            self.garbage_since.remove(&cid);
            self.held.insert(cid);
        }
        Ok(())
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
        if staged.new_bytes > 0 {
            let needed = staged.new_bytes;
            drop(staged);
            self.room_for(needed, make_room, Some(adoption.broadcast))
                .await?;
            // What it shares with a broadcast deleted just now counts as new.
            staged = self.stage_adoption(&adoption).await?;
            self.check_limit(staged.new_bytes)?;
        }
        let record = adoption.record.clone();
        let settled = self.settle(adoption.broadcast, staged, move || record);
        Ok(settled.await?)
    }

    /// Of what a fetch has brought, what nothing has taken leaves again.
    async fn remove_brought(&mut self, mut brought: Vec<Cid>) {
        brought.retain(|cid| matches!(self.store.length(cid), Ok(None)));
        self.remove_unnamed(brought).await;
    }

    async fn stage_adoption(&self, adoption: &Arc<Adoption>) -> Result<Staged, AdoptError> {
        let (adoption, journal) = (adoption.clone(), self.journal.clone());
        let leaving = self.removal.iter().flat_map(|removal| &removal.cids);
        let leaving: HashSet<Cid> = leaving.copied().collect();
        let store = self.store.clone();
        let staged = crate::blocking(move || {
            journal.stage_adoption(&adoption, &leaving, &|cid| store.length(cid))
        });
        let staged = staged.await;
        if matches!(staged, Err(AdoptError::Store(StoreError::Journal(_)))) {
            self.journal.close();
        }
        staged
    }
}
