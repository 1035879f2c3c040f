//! What the writer of a mirror does: it holds what a fetch brings, and takes trees over.
//!
//! Held blocks are durable and counted like garbage, so that the limit is kept and nothing is lost by a restart; they do not
//! leave before their fetch is over. Then those that no commit has named are garbage with its grace: another try finds them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Staged, Writer};
use crate::journal::State;
use crate::journal::adopt::{Adoption, Place};
use crate::{AdoptError, BroadcastId, NameRecord, StoreError};

/// What only a mirror asks of the writer.
#[derive(Debug)]
pub(crate) enum Follow {
    Hold {
        blocks: Vec<(Cid, Bytes)>,
        make_room: bool,
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
    /// Nobody wants the broadcast any more, unless it is pinned.
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
                // It may have been pinned since it was looked at.
                let marked = self.in_journal(move |journal| {
                    let goes = (journal.broadcasts()?.iter())
                        .any(|it| it.id == broadcast && it.state != State::Deleting && !it.pinned);
                    if goes {
                        journal.mark_deleting(broadcast)?;
                    }
                    Ok(goes)
                });
                let marked = marked.await;
                if matches!(marked, Ok(true)) {
                    self.deleting.push_back(broadcast);
                }
                drop(reply.send(marked.map(drop)));
            }
        }
    }

    /// Stores blocks and counts them. Without `make_room` they are an earlier broadcast's, which pushes nothing else out.
    async fn hold(&mut self, blocks: Vec<(Cid, Bytes)>, make_room: bool) -> Result<(), StoreError> {
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let mut unknown = self.unknown(&blocks).await?;
        let needed = bytes_of(&unknown);
        if !make_room {
            self.check_recordings(needed).await?;
        } else if self.check_limit(needed).is_err() {
            self.make_room(needed, None).await?;
            // A block that it shares with a broadcast deleted just now is needed, too.
            unknown = self.unknown(&blocks).await?;
            self.check_limit(bytes_of(&unknown))?;
        }
        self.store_held(blocks, unknown, make_room).await
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
        if self.is_being_removed(&blocks) {
            self.finish_removal().await?;
        }
        let unknown = self.unknown(&blocks).await?;
        let headroom = match make_room {
            true => 0,
            false => self.budgets.headroom_bytes(),
        };
        self.check_limit(bytes_of(&unknown).saturating_add(headroom))?;
        self.store_held(blocks, unknown, make_room).await
    }

    /// Of these blocks, those that nothing names or counts, with their lengths.
    async fn unknown(&self, blocks: &[(Cid, Bytes)]) -> Result<HashMap<Cid, u32>, StoreError> {
        let lengths: HashMap<Cid, u32> = (blocks.iter())
            .map(|(cid, bytes)| (*cid, bytes.len() as u32))
            .collect();
        let (known, store) = (cids(blocks), self.store.clone());
        let unknown =
            self.in_journal(move |journal| journal.unknown(&known, &|cid| store.length(cid)));
        let unknown = unknown.await?.into_iter();
        Ok(unknown.map(|cid| (cid, lengths[&cid])).collect())
    }

    async fn store_held(
        &mut self,
        blocks: Vec<(Cid, Bytes)>,
        unknown: HashMap<Cid, u32>,
        make_room: bool,
    ) -> Result<(), StoreError> {
        self.check_disk(bytes_of(&unknown))?;
        let cids = cids(&blocks);
        let unheld: Vec<(Cid, u32)> = unknown.into_iter().collect();
        let unnamed = unheld.iter().map(|(cid, _)| *cid).collect();
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
                self.remove_unnamed(unnamed).await;
                return Err(error);
            }
        }
        for cid in cids {
            self.garbage_since.remove(&cid);
            self.held.insert(cid, make_room);
        }
        Ok(())
    }

    async fn adopt(
        &mut self,
        adoption: Arc<Adoption>,
        make_room: bool,
    ) -> Result<BroadcastId, AdoptError> {
        let (mut staged, mut id) = self.stage_adoption(&adoption).await?;
        if self.is_being_removed(&staged.blocks) {
            drop(staged);
            self.finish_removal().await?;
            (staged, id) = self.stage_adoption(&adoption).await?;
        }
        let needed = staged.new_bytes;
        if needed > 0 {
            if !make_room {
                self.check_recordings(needed).await?;
            } else if self.check_limit(needed).is_err() {
                drop(staged);
                self.make_room(needed, Some(id)).await?;
                // What it shares with a broadcast deleted just now counts as new.
                (staged, id) = self.stage_adoption(&adoption).await?;
                self.check_limit(staged.new_bytes)?;
            }
            self.check_disk(staged.new_bytes)?;
        }
        let record = adoption.record.clone();
        self.settle(id, staged, move || record).await?;
        if !matches!(adoption.place, Place::Of(_)) {
            // The one before is a recording now, or this is one.
            self.look_at_recordings().await;
        }
        Ok(id)
    }

    /// Of what a fetch has brought, what nothing has taken leaves again.
    async fn remove_brought(&mut self, mut brought: Vec<Cid>) {
        brought.retain(|cid| matches!(self.store.length(cid), Ok(None)));
        if !brought.is_empty() {
            self.remove_unnamed(brought).await;
        }
    }

    async fn stage_adoption(
        &self,
        adoption: &Arc<Adoption>,
    ) -> Result<(Staged, BroadcastId), AdoptError> {
        let (adoption, journal) = (adoption.clone(), self.journal.clone());
        let leaving = self.removal.iter().flat_map(|removal| &removal.cids);
        let leaving: HashSet<Cid> = leaving.copied().collect();
        let (store, most_pinned) = (self.store.clone(), self.budgets.pinned_bytes);
        let staged = crate::blocking(move || {
            journal.stage_adoption(&adoption, &leaving, most_pinned, &|cid| store.length(cid))
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

fn bytes_of(lengths: &HashMap<Cid, u32>) -> u64 {
    lengths.values().map(|length| u64::from(*length)).sum()
}
