//! Earlier broadcasts: those that were published while the mirror was away.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Result;
use cid::Cid;
use node::{Place, StoreError};
use serde::{Deserialize, Serialize};
use stream::extent::Scope;
use stream::mirrored::Description;

use super::{Done, Mirror, Until};
use crate::mirror::Keep;
use crate::mirror::take::{Job, TakeError, Taken, Wish};

/// An earlier broadcast that does not come in so many tries, while somebody is connected, is gone.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Which earlier broadcasts need not be fetched again, although they were deleted here.
pub(super) const SETTLED_FILE: &str = "mirror.json";
const MOST_SETTLED: usize = 1000;
/// With so many that are left out it is looked no further.
const MOST_MISSING: usize = 100;

/// What [`SETTLED_FILE`] says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) roots: Vec<String>,
    /// What the store was kept by.
    #[serde(default)]
    pub(super) keep: Option<Keep>,
}

/// Earlier broadcasts: those that were published while the mirror was away.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    pub(super) settled: Settled,
    missing: Vec<Missing>,
    pub(super) under_way: Option<Cid>,
    pub(super) tries: u32,
    pub(super) not_before: Option<Instant>,
    /// Nothing is left to do until another broadcast begins.
    pub(super) done: bool,
}

/// One that is left out.
#[derive(Debug)]
struct Missing {
    root: String,
    /// What it says was before it, the nearest first, where so much has come.
    before: Vec<String>,
    /// Nobody had it: who connects next may. Otherwise it was refused, or there is no room for it.
    awaited: bool,
    /// Somebody has connected since it did not come.
    hoped: bool,
    /// It is asked for in this round.
    again: bool,
}

impl Earlier {
    /// What an earlier life has settled.
    pub(super) fn after(settled: Settled) -> Earlier {
        Earlier {
            settled,
            ..Earlier::default()
        }
    }

    pub(super) fn missing(&self) -> Vec<String> {
        let roots = self.missing.iter().map(|it| it.root.clone());
        roots.collect()
    }

    fn left_out(&self, root: &str) -> Option<&Missing> {
        self.missing.iter().find(|it| it.root == root)
    }

    /// Somebody has come who may have what did not come. It is asked for in another round, when this one is over: tries that begin anew
    /// with each stranger would never end.
    pub(super) fn hurry(&mut self) {
        self.not_before = None;
        let awaited = self.missing.iter_mut().filter(|it| it.awaited);
        awaited.for_each(|it| it.hoped = true);
        if self.done {
            self.end_round();
        }
    }

    /// All have been asked for. Those of which there is hope are asked for once more.
    fn end_round(&mut self) {
        self.done = true;
        for it in &mut self.missing {
            it.again = std::mem::take(&mut it.hoped);
            self.done &= !it.again;
        }
    }

    /// What does not come is left out.
    fn leave_out(&mut self, missing: Missing) {
        match self.missing.iter_mut().find(|it| it.root == missing.root) {
            // This time less of it may have come, and somebody else meanwhile.
            Some(it) => {
                let (before, hoped) = (std::mem::take(&mut it.before), it.hoped);
                *it = Missing {
                    hoped: hoped && missing.awaited,
                    ..missing
                };
                if it.before.is_empty() {
                    it.before = before;
                }
            }
            None => self.missing.push(missing),
        }
    }

    /// Another broadcast begins.
    pub(super) fn start_anew(&mut self) {
        self.missing.clear();
        self.done = false;
    }
}

/// Earlier broadcasts from the newest on, as far back as those that are known name them, each once. One that is gone and says
/// nothing any more ends it only where nobody names what was before that.
#[derive(Debug)]
struct Chain {
    pending: VecDeque<String>,
    /// What the last that is known says: it has been looked at, but for what is further back.
    further: Vec<String>,
    seen: HashSet<String>,
}

impl Chain {
    fn of(root: String, before: Vec<String>) -> Chain {
        Chain {
            pending: VecDeque::new(),
            further: before,
            seen: HashSet::from([root]),
        }
    }

    /// What the one that was just looked at says was before it, if it says anything.
    fn says(&mut self, before: Vec<String>) {
        if !before.is_empty() {
            self.further = before;
        }
    }

    fn next(&mut self) -> Option<String> {
        if self.pending.is_empty() {
            let further = std::mem::take(&mut self.further).into_iter();
            let new = further.filter(|root| self.seen.insert(root.clone()));
            self.pending = new.collect();
        }
        self.pending.pop_front()
    }
}

impl Mirror {
    /// Looks for an earlier broadcast that is not here, and begins to fetch it.
    pub(super) async fn catch_up(&mut self) {
        let earlier = &self.earlier;
        let waits = earlier.not_before.is_some_and(|at| at > Instant::now());
        let connected = self.node.stats().borrow().peers > 0;
        if self.keep == Keep::Window
            || self.extent.is_due(Instant::now())
            || self.step_under_way.is_some()
            || earlier.done
            || earlier.under_way.is_some()
            || waits
            || !connected
        {
            return;
        }
        let (root, next) = match self.missed().await {
            Ok(Some(missed)) => missed,
            Ok(None) => {
                if self.shown.is_some() {
                    self.earlier.end_round();
                }
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell which earlier broadcasts are here");
                self.earlier.not_before = Some(Instant::now() + TRY_AGAIN);
                return;
            }
        };
        tracing::info!(%root, "catching up with an earlier broadcast");
        self.earlier.under_way = Some(root);
        let described = Arc::new(OnceLock::<Description>::new());
        let job = Job {
            root,
            record: None,
            place: Place::Before(next),
            wish: Wish::Files(Scope::ALL),
            expected: Vec::new(),
            makes_room: false,
            trusted: None,
            described: described.clone(),
        };
        self.begin(job, Until::Alone, move |result| {
            let before = described.get().map(Description::before);
            Done::Earlier(root, before.unwrap_or_default(), result)
        });
    }

    /// The nearest broadcast before the one that is shown that is not here, and the one that names it. Those that are here are
    /// settled: what the limit deletes is not fetched again.
    async fn missed(&mut self) -> Result<Option<(Cid, node::BroadcastId)>> {
        let stored = self.node.broadcasts().await?;
        let Some(shown) = &self.shown else {
            return Ok(None);
        };
        if self.earlier.missing.len() >= MOST_MISSING {
            return Ok(None);
        }
        let mut next = shown.id;
        let mut chain = Chain::of(shown.root.to_string(), shown.description.before());
        while let Some(root) = chain.next() {
            let Ok(cid) = root.parse::<Cid>() else {
                continue;
            };
            let left_out = self.earlier.left_out(&root);
            let known =
                left_out.is_some_and(|it| !it.again) || self.earlier.settled.roots.contains(&root);
            let Some(found) = stored.iter().find(|it| it.root == Some(cid)) else {
                if !known {
                    return Ok(Some((cid, next)));
                }
                // What is behind it may be there, and its own place stays free.
                chain.says(left_out.map_or_else(Vec::new, |it| it.before.clone()));
                next = next.before();
                continue;
            };
            if !known && !self.node.absent(found.id).await?.is_empty() {
                return Ok(Some((cid, next)));
            }
            if left_out.is_none() {
                self.settle(root);
            }
            next = found.id;
            if let Ok(description) = serde_json::from_slice::<Description>(&found.meta) {
                chain.says(description.before());
            }
        }
        Ok(None)
    }

    /// It has been here, and need not be fetched again.
    pub(super) fn settle(&mut self, root: String) {
        let roots = &mut self.earlier.settled.roots;
        if roots.contains(&root) {
            return;
        }
        roots.push(root);
        let surplus = roots.len().saturating_sub(MOST_SETTLED);
        roots.drain(..surplus);
        self.keep_settled();
    }

    pub(super) fn keep_settled(&self) {
        self.keeper.keep(Some(self.earlier.settled.clone()));
    }

    pub(super) fn earlier(
        &mut self,
        root: Cid,
        before: Vec<String>,
        result: Result<Taken, TakeError>,
    ) {
        let earlier = &mut self.earlier;
        earlier.under_way = None;
        let connected = self.node.stats().borrow().peers > 0;
        let text = root.to_string();
        let awaited = match result {
            Ok(taken) => {
                tracing::info!(%root, name = taken.description.name, "caught up");
                earlier.tries = 0;
                earlier.missing.retain(|it| it.root != text);
                self.settle(text);
                return;
            }
            // A disk that others have filled may have room again.
            Err(
                why @ (TakeError::Failed(_)
                | TakeError::Alone(_)
                | TakeError::Full(StoreError::DiskFull)),
            ) => {
                earlier.tries += u32::from(connected);
                earlier.not_before = Some(Instant::now() + TRY_AGAIN);
                tracing::info!(%root, %why, tries = earlier.tries, "an earlier broadcast does not come");
                if earlier.tries < TRIES {
                    return;
                }
                true
            }
            Err(error) => {
                tracing::warn!(%root, %error, "an earlier broadcast is left out");
                false
            }
        };
        earlier.tries = 0;
        earlier.leave_out(Missing {
            root: text,
            before,
            awaited,
            hoped: false,
            again: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn missing(root: &str, before: &[&str], awaited: bool) -> Missing {
        Missing {
            root: root.to_owned(),
            before: roots(before),
            awaited,
            hoped: false,
            again: false,
        }
    }

    #[test]
    fn what_nobody_had_is_asked_for_again_when_somebody_comes() {
        let mut earlier = Earlier {
            tries: 2,
            not_before: Some(Instant::now()),
            ..Earlier::default()
        };
        earlier.leave_out(missing("nobody had it", &["before it"], true));
        earlier.leave_out(missing("refused", &[], false));
        let again = |earlier: &Earlier| earlier.missing.iter().map(|it| it.again).collect();
        // A stranger in the middle of a round begins none, but another one follows.
        earlier.hurry();
        let asked: Vec<bool> = again(&earlier);
        assert_eq!(asked, [false, false]);
        assert_eq!((earlier.tries, earlier.not_before), (2, None));
        earlier.end_round();
        let asked: Vec<bool> = again(&earlier);
        assert_eq!((asked, earlier.done), (vec![true, false], false));
        // In vain, and this time it has not even said what was before it.
        earlier.leave_out(missing("nobody had it", &[], true));
        earlier.end_round();
        assert!(earlier.done);
        earlier.hurry();
        assert!(!earlier.done);
        assert_eq!(earlier.missing(), ["nobody had it", "refused"]);
        let left_out = earlier.left_out("nobody had it").unwrap();
        assert_eq!(left_out.before, ["before it"]);
        assert!(left_out.again);
        earlier.start_anew();
        assert!(earlier.missing().is_empty());
    }

    /// What is looked at, from what `d` says on.
    fn check_chain(says: &[(&str, &[&str])], expected: &[&str]) {
        let said = |root: &str| {
            let said = says.iter().find(|(it, _)| *it == root);
            said.map_or_else(Vec::new, |(_, before)| roots(before))
        };
        let mut chain = Chain::of("d".to_owned(), said("d"));
        let mut looked_at = Vec::new();
        while let Some(root) = chain.next() {
            chain.says(said(&root));
            looked_at.push(root);
        }
        assert_eq!(looked_at, expected);
    }

    #[test]
    fn one_that_is_gone_does_not_hide_what_was_before_it() {
        // Of an earlier version: each names one.
        check_chain(
            &[("d", &["c"]), ("c", &["b"]), ("b", &["a"])],
            &["c", "b", "a"],
        );
        check_chain(&[("d", &["c"]), ("b", &["a"])], &["c"]);
        // "c" is gone, and "a" is further back than "d" says.
        check_chain(&[("d", &["c", "b"]), ("b", &["a"])], &["c", "b", "a"]);
        // "b" has another root by now.
        check_chain(
            &[("d", &["c", "b2"]), ("c", &["b", "a"]), ("b2", &["a"])],
            &["c", "b2", "a"],
        );
        check_chain(
            &[("d", &["c", "b"]), ("c", &["d", "c"]), ("b", &["c", "d"])],
            &["c", "b"],
        );
    }

    #[test]
    fn who_connects_where_nothing_is_awaited_begins_nothing() {
        let mut earlier = Earlier {
            missing: vec![missing("refused", &[], false)],
            done: true,
            ..Earlier::default()
        };
        earlier.hurry();
        assert!(earlier.done);
    }
}
