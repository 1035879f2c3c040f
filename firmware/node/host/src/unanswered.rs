//! What a peer waits for in vain is answered again.
//!
//! rust-ipfs puts answers that are ready together into one message, with one place for each block (0.16.0,
//! `BitswapMessage::set_responses`). Where a peer asks whether a block is there, and for the block itself before that is answered, the
//! one that was read last stays, and that may be HAVE. Kubo takes it for an answer: it does not ask this peer again as long as
//! they are connected (boxo 0.43, `recallWantlist::refresh`).
//!
//! A Kubo takes back what it got. So a want that stays is one for which nothing has come, or has not come yet, on a slow connection.
//! rust-ipfs can answer a block again to all alone who have it on their lists, and mirrors have what they got long ago: so it is few
//! blocks at a time, and each once in a while, or a stranger could have the box send it to all mirrors again and again.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The lists are looked at so often.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// A want that was there so often stays.
const STAYS: u32 = 3;

/// Who wants more does not take back what it got, as rust-ipfs, or is busy. Kubo asks for 32 at a time for each thing that it does.
const MOST: usize = 128;

/// Blocks that are answered again at a time,
const AT_ONCE: usize = 2;

/// and then not for so many looks, which is ten minutes.
const ONCE_IN: u32 = 120;

/// How often each want of a short list was seen.
type Seen<C> = BTreeMap<C, u32>;

#[derive(Debug)]
struct State<P, C> {
    lists: HashMap<P, Seen<C>>,
    /// What was answered again, and for how many looks it is not any more.
    answered: HashMap<C, u32>,
}

#[derive(Debug)]
pub(crate) struct Unanswered<P, C>(Mutex<State<P, C>>);

impl<P, C> Default for Unanswered<P, C> {
    fn default() -> Unanswered<P, C> {
        Unanswered(Mutex::new(State {
            lists: HashMap::new(),
            answered: HashMap::new(),
        }))
    }
}

impl<P: Eq + Hash, C: Ord + Hash + Copy> Unanswered<P, C> {
    /// Looks at the lists of all who are connected, and returns what is to be answered again.
    pub(crate) fn look(&self, lists: impl IntoIterator<Item = (P, Vec<C>)>) -> Vec<C> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            lists: last,
            answered,
        } = &mut *state;
        answered.retain(|_, looks| {
            *looks -= 1;
            *looks > 0
        });
        let before = mem::take(last);
        let mut again = Vec::new();
        for (peer, wants) in lists {
            if wants.len() > MOST {
                continue;
            }
            let seen = before.get(&peer);
            let count = |want| seen.and_then(|seen| seen.get(want)).map_or(1, |n| n + 1);
            let seen: Seen<C> = wants.iter().map(|want| (*want, count(want))).collect();
            for (want, _) in seen.iter().filter(|(_, count)| **count >= STAYS) {
                if again.len() < AT_ONCE && !answered.contains_key(want) {
                    answered.insert(*want, ONCE_IN);
                    again.push(*want);
                }
            }
            last.insert(peer, seen);
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(unanswered: &Unanswered<char, u32>, lists: &[(char, &[u32])]) -> Vec<u32> {
        unanswered.look(lists.iter().map(|(peer, wants)| (*peer, wants.to_vec())))
    }

    #[test]
    fn a_want_that_stays_is_answered_again_whatever_else_comes_and_goes() {
        let unanswered = Unanswered::default();
        let check = |lists: &[(char, &[u32])], again: &[u32]| {
            assert_eq!(look(&unanswered, lists), again);
        };
        check(&[('a', &[2, 1]), ('b', &[1])], &[]);
        check(&[('a', &[5, 2]), ('b', &[3])], &[]);
        check(&[('a', &[2, 6]), ('b', &[3])], &[2]);
        // It has come; another one has not.
        check(&[('a', &[6]), ('b', &[3])], &[3]);
        // Whoever has connected anew begins anew.
        check(&[('b', &[])], &[]);
        check(&[('a', &[6])], &[]);
        check(&[('a', &[6])], &[]);
        check(&[('c', &[6]), ('a', &[6])], &[6]);
    }

    #[test]
    fn nobody_has_much_answered_again_or_often() {
        let unanswered = Unanswered::default();
        let wants: Vec<u32> = (0..MOST as u32).collect();
        let looks = 3 * ONCE_IN;
        let mut times = HashMap::<u32, u32>::new();
        for _ in 0..looks {
            // Under as many names as one likes.
            let again = look(&unanswered, &[('a', &wants), ('b', &wants)]);
            assert!(again.len() <= AT_ONCE, "{again:?}");
            again
                .into_iter()
                .for_each(|it| *times.entry(it).or_default() += 1);
        }
        assert_eq!(times.len(), MOST);
        assert!(times.values().all(|times| *times <= looks / ONCE_IN));
        assert!(unanswered.0.lock().unwrap().answered.len() <= AT_ONCE * ONCE_IN as usize);
    }

    #[test]
    fn a_long_list_is_one_that_is_never_taken_back() {
        let unanswered = Unanswered::default();
        let wants: Vec<u32> = (0..=MOST as u32).collect();
        for _ in 0..5 {
            assert!(look(&unanswered, &[('a', &wants)]).is_empty());
        }
    }
}
