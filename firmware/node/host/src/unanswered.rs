//! What a peer waits for in vain is answered again.
//!
//! rust-ipfs puts answers that are ready together into one message, with one place for each block (0.16.0,
//! `BitswapMessage::set_responses`). Where a peer asks whether a block is there, and for the block itself before that is answered, the
//! one that was read last stays, and that may be HAVE. Kubo takes it for an answer: it does not ask this peer again as long as
//! they are connected (boxo 0.43, `recallWantlist::refresh`).
//!
//! A Kubo takes back what it got. So a want list that stands still is one that nothing comes for.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A list is looked at so often. What waits for a slow connection comes block by block, and each is taken back.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// That it was the same so often says that it stands still.
const LOOKS: u32 = 3;

/// Who wants more does not take back what it got, as rust-ipfs, or has many things to do. Kubo asks for 32 at a time.
const MOST: usize = 128;

#[derive(Debug)]
struct List<C> {
    wants: Vec<C>,
    seen: u32,
}

/// The short lists, as they were seen last.
#[derive(Debug)]
pub(crate) struct Unanswered<P, C>(Mutex<HashMap<P, List<C>>>);

impl<P, C> Default for Unanswered<P, C> {
    fn default() -> Unanswered<P, C> {
        Unanswered(Mutex::default())
    }
}

impl<P: Eq + Hash, C: Ord + Copy> Unanswered<P, C> {
    /// Looks at the lists of all who are connected, and returns what is to be answered again. Of a list that stays as it is that is once:
    /// not everybody takes back what it got.
    pub(crate) fn look(&self, lists: impl IntoIterator<Item = (P, Vec<C>)>) -> Vec<C> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = mem::take(&mut *last);
        let mut again = Vec::new();
        for (peer, mut wants) in lists {
            if wants.is_empty() || wants.len() > MOST {
                continue;
            }
            wants.sort_unstable();
            let same = before.remove(&peer).filter(|list| list.wants == wants);
            let seen = same.map_or(1, |list| list.seen.saturating_add(1));
            if seen == LOOKS {
                again.extend_from_slice(&wants);
            }
            last.insert(peer, List { wants, seen });
        }
        again.sort_unstable();
        again.dedup();
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_stands_still_is_answered_once() {
        let unanswered = Unanswered::default();
        let check = |lists: &[(char, &[u32])], again: &[u32]| {
            let lists = lists.iter().map(|(peer, wants)| (*peer, wants.to_vec()));
            assert_eq!(unanswered.look(lists), again);
        };
        check(&[('a', &[2, 1]), ('b', &[1])], &[]);
        // The order says nothing, and who has got something is not stuck.
        check(&[('a', &[1, 2]), ('b', &[1, 3])], &[]);
        check(&[('a', &[1, 2]), ('b', &[3])], &[1, 2]);
        check(&[('a', &[1, 2]), ('b', &[3])], &[]);
        check(&[('a', &[1, 2]), ('b', &[3])], &[3]);
        check(&[('a', &[2]), ('b', &[3])], &[]);
        // Whoever has connected anew begins anew.
        check(&[('b', &[3])], &[]);
        check(&[('a', &[2]), ('b', &[3])], &[]);
        check(&[('a', &[2])], &[]);
        check(&[('c', &[2]), ('a', &[2])], &[2]);
    }

    #[test]
    fn a_long_list_is_one_that_is_never_taken_back() {
        let unanswered = Unanswered::default();
        for most in [MOST, MOST + 1] {
            let list = || [('a', (0..most).collect::<Vec<_>>())];
            let answered: usize = (0..5).map(|_| unanswered.look(list()).len()).sum();
            assert_eq!(answered, if most == MOST { MOST } else { 0 });
        }
    }
}
