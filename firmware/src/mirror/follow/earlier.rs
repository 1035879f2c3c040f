//! Earlier broadcasts: those that were published while the mirror was away.

use std::time::{Duration, Instant};

use anyhow::Result;
use cid::Cid;
use node::Place;
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
    pub(super) missing: Vec<String>,
    pub(super) under_way: Option<Cid>,
    pub(super) tries: u32,
    pub(super) not_before: Option<Instant>,
    /// Nothing is left to do until another broadcast begins.
    pub(super) done: bool,
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
                self.earlier.done = self.shown.is_some();
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
        let job = Job {
            root,
            record: None,
            place: Place::Before(next),
            wish: Wish::Files(Scope::ALL),
            expected: Vec::new(),
            makes_room: false,
            trusted: None,
        };
        self.begin(job, Until::Alone, move |result| Done::Earlier(root, result));
    }

    /// The nearest broadcast before the one that is shown that is not here, and the one that names it. Those that are here are
    /// settled: what the limit deletes is not fetched again.
    async fn missed(&mut self) -> Result<Option<(Cid, node::BroadcastId)>> {
        let stored = self.node.broadcasts().await?;
        let Some(shown) = &self.shown else {
            return Ok(None);
        };
        let (mut next, mut previous) = (shown.id, shown.description.previous.clone());
        // Each is named by one that is here, so a circle would be seen.
        for _ in 0..=stored.len() {
            let Some(root) = previous.take() else { break };
            let Ok(cid) = root.parse::<Cid>() else { break };
            let known =
                self.earlier.missing.contains(&root) || self.earlier.settled.roots.contains(&root);
            let Some(found) = stored.iter().find(|it| it.root == Some(cid)) else {
                return Ok((!known).then_some((cid, next)));
            };
            if !known && !self.node.absent(found.id).await?.is_empty() {
                return Ok(Some((cid, next)));
            }
            if !self.earlier.missing.contains(&root) {
                self.settle(root);
            }
            let Ok(description) = serde_json::from_slice::<Description>(&found.meta) else {
                break;
            };
            (next, previous) = (found.id, description.previous);
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

    pub(super) fn earlier(&mut self, root: Cid, result: Result<Taken, TakeError>) {
        let earlier = &mut self.earlier;
        earlier.under_way = None;
        let connected = self.node.stats().borrow().peers > 0;
        let text = root.to_string();
        match result {
            Ok(taken) => {
                tracing::info!(%root, name = taken.description.name, "caught up");
                earlier.tries = 0;
                self.settle(text);
                return;
            }
            Err(why @ (TakeError::Failed(_) | TakeError::Alone(_))) => {
                earlier.tries += u32::from(connected);
                earlier.not_before = Some(Instant::now() + TRY_AGAIN);
                tracing::info!(%root, %why, tries = earlier.tries, "an earlier broadcast does not come");
                if earlier.tries < TRIES {
                    return;
                }
            }
            Err(error) => tracing::warn!(%root, %error, "an earlier broadcast is left out"),
        }
        earlier.tries = 0;
        earlier.missing.push(text);
    }
}
