//! What may be stored: the recordings have a budget, and what the broadcast on air needs beyond it is its own.
//!
//! Where the disk has less room than the budgets, its room is the limit, and recordings make way as they do for a budget: but for
//! an update only, so that whoever else fills the disk while nothing is published costs no recording.

use std::collections::HashSet;

use cid::Cid;

use super::{MOST_HEADROOM_BYTES, Writer};
use crate::journal::{Journal, State};
use crate::{BroadcastId, StoreError};

/// Bytes of blocks. The newest broadcast is on air, or was last: it is no recording until the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// What recordings may take: beyond it the oldest finished ones are deleted.
    pub recordings_bytes: u64,
    /// What pinned broadcasts may take, the newest among them. Where recordings are deleted, this is their budget.
    pub pinned_bytes: u64,
    /// Room on top of the recordings' for the newest broadcast, which may also use what they leave.
    pub live_bytes: u64,
}

impl Budgets {
    /// Nothing is ever deleted or refused.
    pub const UNLIMITED: Budgets = Budgets {
        recordings_bytes: u64::MAX,
        pinned_bytes: u64::MAX,
        live_bytes: 0,
    };

    /// Those of a box or a mirror.
    pub fn new(recordings_bytes: u64, live_bytes: u64) -> Budgets {
        Budgets {
            recordings_bytes,
            pinned_bytes: recordings_bytes,
            live_bytes,
        }
    }

    /// Most bytes of all together.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.recordings_bytes.saturating_add(self.live_bytes)
    }
}

/// What may be stored, as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    Fixed(Budgets),
    /// Three quarters of the disk's room when the store is opened, of which `live_bytes`, and half at most, are none of the
    /// recordings'. Other programs find the rest free. What is recorded already when these have taken more stays.
    OfDisk {
        live_bytes: u64,
    },
    /// Only the pins' budget of [`Allowance::OfDisk`]: nothing is deleted.
    PinsOfDisk {
        live_bytes: u64,
    },
}

impl From<Budgets> for Allowance {
    fn from(budgets: Budgets) -> Allowance {
        Allowance::Fixed(budgets)
    }
}

impl Allowance {
    /// The same for pins, and nothing is deleted.
    pub fn without_deleting(self) -> Allowance {
        match self {
            Allowance::Fixed(Budgets { pinned_bytes, .. }) => Allowance::Fixed(Budgets {
                pinned_bytes,
                ..Budgets::UNLIMITED
            }),
            Allowance::OfDisk { live_bytes } | Allowance::PinsOfDisk { live_bytes } => {
                Allowance::PinsOfDisk { live_bytes }
            }
        }
    }

    /// `room_bytes`: what is free on the disk, and what is stored already.
    pub(crate) fn budgets(self, room_bytes: u64) -> Budgets {
        match self {
            Allowance::Fixed(budgets) => budgets,
            Allowance::OfDisk { live_bytes } => {
                let most = room_bytes - room_bytes / 4;
                let live_bytes = live_bytes.min(most / 2);
                Budgets::new(most - live_bytes, live_bytes)
            }
            Allowance::PinsOfDisk { live_bytes } => Budgets {
                pinned_bytes: Allowance::OfDisk { live_bytes }
                    .budgets(room_bytes)
                    .pinned_bytes,
                ..Budgets::UNLIMITED
            },
        }
    }
}

impl Writer {
    pub(super) fn check_limit(&self, needed_bytes: u64) -> Result<(), StoreError> {
        match full(self.stored_bytes, needed_bytes, self.limit_bytes) {
            Err(_) if self.limit_bytes < self.budgets.limit_bytes() => Err(StoreError::DiskFull),
            result => result,
        }
    }

    /// How much more may be stored until the oldest recording goes, which is at the latest when the next broadcast begins; absent where
    /// none may.
    pub(super) fn until_one_goes(&self) -> Option<u64> {
        let limit = self.limit_bytes - self.headroom_bytes();
        let most = limit.min(self.budgets.recordings_bytes);
        (self.recordings_may_go).then(|| most.saturating_sub(self.stored_bytes))
    }

    /// Left free for updates to come.
    pub(super) fn headroom_bytes(&self) -> u64 {
        headroom_bytes(self.limit_bytes)
    }

    /// Whether so much more of an earlier broadcast fits: it pushes nothing else out, and leaves the room in which the newest
    /// goes on.
    pub(super) async fn check_recordings(&self, needed_bytes: u64) -> Result<(), StoreError> {
        self.check_limit(needed_bytes.saturating_add(self.headroom_bytes()))?;
        // What is held for it is a recording already.
        let held = self.held.iter().filter(|(_, newest)| **newest);
        let unnamed = self.leaving().chain(held.map(|(cid, _)| *cid)).collect();
        let recordings = self.recordings_bytes(unnamed).await?;
        full(recordings, needed_bytes, self.budgets.recordings_bytes)
    }

    /// A pinned broadcast that grows leaves the next one its room.
    pub(super) async fn check_pins(
        &self,
        broadcast: BroadcastId,
        needed_bytes: u64,
    ) -> Result<(), StoreError> {
        let most = self.budgets.pinned_bytes;
        let pinned = self.in_journal(move |journal| {
            let pins = journal.pins()?;
            if !pins.contains(&broadcast) {
                return Ok(None);
            }
            let sizes = pins.iter().map(|pinned| journal.size(*pinned));
            Ok(Some(sizes.sum::<Result<u64, _>>()?))
        });
        match pinned.await? {
            Some(bytes) if bytes.saturating_add(needed_bytes) > most => Err(StoreError::PinsFull {
                pinned_bytes: bytes.saturating_add(needed_bytes),
                most_bytes: most,
            }),
            _ => Ok(()),
        }
    }

    /// Sees whether recordings have to go, and whether any may.
    pub(super) async fn look_at_recordings(&mut self) {
        self.look_again = false;
        self.look_at_pins().await;
        // What a fetch has brought may be for the newest, and counts when it is named.
        let unnamed = self.leaving().chain(self.held.keys().copied()).collect();
        let bytes = match self.recordings_bytes(unnamed).await {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "cannot tell what the recordings take");
                self.look_again = true;
                return;
            }
        };
        let budgets = &mut self.budgets;
        if std::mem::take(&mut self.spares_recordings) {
            budgets.recordings_bytes = budgets.recordings_bytes.max(bytes);
            budgets.pinned_bytes = budgets.pinned_bytes.max(bytes);
            self.limit_bytes = budgets.limit_bytes();
        }
        self.recordings_over = bytes > budgets.recordings_bytes;
    }

    /// Sees whether there is a recording that may go.
    pub(super) async fn look_at_pins(&mut self) {
        match self.in_journal(|journal| Ok(journal.broadcasts()?)).await {
            Ok(broadcasts) => {
                let mut finished = broadcasts.iter().filter(|it| it.state == State::Finished);
                self.recordings_may_go = finished.any(|it| !it.pinned);
            }
            Err(error) => tracing::warn!(%error, "cannot tell which recordings are pinned"),
        }
    }

    /// Garbage goes by itself.
    fn leaving(&self) -> impl Iterator<Item = Cid> {
        let removed = self.removal.iter().flat_map(|removal| &removal.cids);
        removed.chain(self.garbage_since.keys()).copied()
    }

    /// On a box, the broadcast that its name means and viewers see: the newest that has anything. One that has just begun has not.
    pub(super) fn named(&self) -> Option<BroadcastId> {
        let newest = self.newest.map(|(id, _)| id);
        newest.filter(|_| !self.signer.follows())
    }

    /// Bytes of all but the newest broadcast and those of these blocks that nothing names. Too few while the newest is on air: what
    /// lies there as parts and as a segment counts twice.
    async fn recordings_bytes(&self, unnamed: HashSet<Cid>) -> Result<u64, StoreError> {
        let unnamed: u64 = (unnamed.iter())
            .filter_map(|cid| self.unnamed.get(cid))
            .sum();
        let follows = self.signer.follows();
        let named = self.named();
        let newest = self.in_journal(move |journal| {
            let newest = match named {
                Some(named) => Some(named),
                None => journal.broadcasts()?.pop().map(|newest| newest.id),
            };
            // On a box all of a broadcast is here.
            let size = match follows {
                true => Journal::size_here,
                false => Journal::size,
            };
            Ok(newest.map_or(Ok(0), |newest| size(journal, newest))?)
        });
        Ok(self.stored_bytes.saturating_sub(newest.await? + unnamed))
    }
}

pub(crate) fn headroom_bytes(limit_bytes: u64) -> u64 {
    (limit_bytes / 16).min(MOST_HEADROOM_BYTES)
}

fn full(stored_bytes: u64, needed_bytes: u64, limit_bytes: u64) -> Result<(), StoreError> {
    match stored_bytes.saturating_add(needed_bytes) > limit_bytes {
        true => Err(StoreError::Full {
            needed_bytes,
            stored_bytes,
            limit_bytes,
        }),
        false => Ok(()),
    }
}
