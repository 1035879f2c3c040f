//! Taking a broadcast out of the journal, a piece at a time.

use redb::{ReadableTable, WriteTransaction};

use super::tree::Change;
use super::{BROADCASTS, ENTRIES, Held, Journal, PINS, ROWS, Result, State, Turn, of};
use crate::{BroadcastId, StoreError};

/// A piece of a broadcast that is being deleted, not committed yet. Dropping it changes nothing.
pub(crate) struct Piece {
    transaction: WriteTransaction,
    pub(crate) turn: Turn,
    /// With it the broadcast is gone.
    pub(crate) is_last: bool,
}

impl Journal {
    /// Marks a broadcast as gone, unless it is pinned; says whether it is.
    pub(crate) fn mark_deleting(&self, broadcast: BroadcastId) -> Result<bool> {
        let transaction = self.write()?;
        if transaction.open_table(PINS)?.get(broadcast.0)?.is_some() {
            return Ok(false);
        }
        {
            let mut broadcasts = transaction.open_table(BROADCASTS)?;
            let root = broadcasts.get(broadcast.0)?.and_then(|row| row.value().1);
            broadcasts.insert(broadcast.0, ([].as_slice(), root, State::Deleting as u8))?;
        }
        transaction.commit()?;
        Ok(true)
    }

    /// Prepares to take up to `count` entries of a broadcast that is being deleted out of the journal, and at last the broadcast.
    pub(crate) fn take_apart(
        &self,
        broadcast: BroadcastId,
        count: usize,
        held: Held<'_>,
    ) -> Result<Piece, StoreError> {
        let transaction = self.write()?;
        let mut change = Change::default();
        let is_last = Self::take_entries(&transaction, broadcast, count, &mut change)?;
        let counted = change.count(&transaction, held)?;
        Ok(Piece {
            transaction,
            turn: counted.turn,
            is_last,
        })
    }

    fn take_entries(
        transaction: &WriteTransaction,
        broadcast: BroadcastId,
        count: usize,
        change: &mut Change,
    ) -> Result<bool> {
        let done;
        {
            let state = (transaction.open_table(BROADCASTS)?.get(broadcast.0)?)
                .map(|row| State::from_row(row.value().2));
            if state != Some(State::Deleting) {
                // A piece of which nobody could tell whether it was there was the last.
                return Ok(true);
            }
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut taken = Vec::with_capacity(count);
            for row in entries.range(of(broadcast))?.take(count) {
                let (place, entry) = row?;
                let (_, dir, name) = place.value();
                taken.push((dir.to_owned(), name.to_owned()));
                change.drop_entry(entry.value());
            }
            for (dir, name) in &taken {
                entries.remove((broadcast.0, dir.as_str(), name.as_str()))?;
            }
            done = taken.len() < count;
            if done {
                let mut broadcasts = transaction.open_table(BROADCASTS)?;
                let root = broadcasts
                    .remove(broadcast.0)?
                    .and_then(|row| row.value().1);
                change.drop_reference(root);
                transaction.open_table(PINS)?.remove(broadcast.0)?;
                let rows = (broadcast.0, 0)..=(broadcast.0, u64::MAX);
                transaction
                    .open_table(ROWS)?
                    .retain_in(rows, |_, _| false)?;
            }
        }
        Ok(done)
    }
}

impl Piece {
    pub(crate) fn commit(self) -> Result<()> {
        Ok(self.transaction.commit()?)
    }
}
