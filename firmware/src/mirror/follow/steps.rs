//! Steps through what was published before the window, and what goes where there is no room: [`stream::extent`] decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use node::{Place, StoreError};
use stream::extent::{self, Extent, Outcome, Scope};
use stream::follower::Event;
use tokio_util::sync::CancellationToken;

use super::{Done, Mirror, Until};
use crate::mirror::Keep;
use crate::mirror::take::{Job, TakeError, Taken, Wish};

/// What is new waits no longer for what was published before.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is shown is being taken over once more, with more files or fewer.
#[derive(Debug)]
pub(super) struct Step {
    scope: Scope,
    since: Instant,
    /// To be given up for what is newer.
    give_way: CancellationToken,
}

impl Mirror {
    /// Fetches a little more of what was published before.
    pub(super) fn take_step(&mut self) {
        let stats = *self.node.stats().borrow();
        if self.keep == Keep::Window
            || self.step_under_way.is_some()
            || self.follower.under_way().is_some()
            || stats.peers == 0
        {
            return;
        }
        let now = Instant::now();
        let Some(scope) = self.extent.step(now) else {
            return;
        };
        if stats.is_short() {
            self.extent.stepped(now, &scope, Outcome::NoRoom);
        } else {
            self.begin_step(scope);
        }
    }

    /// Takes over what is shown once more, with more files or fewer.
    pub(super) fn begin_step(&mut self, scope: Scope) {
        let Some(shown) = &self.shown else { return };
        let job = Job {
            root: shown.root,
            record: None,
            place: Place::Of(shown.id),
            wish: Wish::Files(scope.clone()),
            expected: Vec::new(),
            makes_room: true,
            trusted: self.trusted,
            described: Arc::default(),
        };
        let give_way = CancellationToken::new();
        let until = match scope.drops() {
            // It needs nobody, and what is newer waits for it.
            true => Until::Done,
            false => Until::Newer(give_way.clone()),
        };
        self.begin(job, until, Done::Stepped);
        self.step_under_way = Some(Step {
            scope,
            since: Instant::now(),
            give_way,
        });
    }

    /// What is new waits no longer.
    pub(super) fn make_way(&self) {
        if let Some(step) = &self.step_under_way
            && self.waiting.is_some()
            && step.since.elapsed() > PATIENCE
        {
            step.give_way.cancel();
        }
    }

    pub(super) async fn stepped(&mut self, result: Result<Taken, TakeError>) {
        let Some(step) = self.step_under_way.take() else {
            return;
        };
        let (now, took) = (Instant::now(), step.since.elapsed());
        let outcome = match &result {
            Ok(_) => Outcome::Done { took },
            Err(TakeError::GaveWay { brought }) => Outcome::GaveWay { brought: *brought },
            // A disk that others have filled may have room again.
            Err(TakeError::Full(StoreError::Full { .. })) => Outcome::NoRoom,
            Err(_) => Outcome::Failed,
        };
        self.extent.stepped(now, &step.scope, outcome);
        match &result {
            Ok(taken) if step.scope.drops() => {
                tracing::warn!(
                    name = taken.description.name,
                    "the store is full: its oldest segments go"
                );
            }
            Ok(taken) if self.extent == Extent::Complete => {
                tracing::info!(name = taken.description.name, "all of it is here");
            }
            Ok(_) => {}
            Err(why) => tracing::info!(%why, "a step through what was published before"),
        }
        match self.waiting.take() {
            // Without the room that it was to make.
            Some(_) if step.scope.drops() && result.is_err() => self.step(Event::Failed).await,
            Some(told) => self.fetch(&told),
            None => self.take_step(),
        }
    }

    /// Lets go of the oldest segments of what is shown, so that viewers get what is new. Of what is pinned only while it goes on: what
    /// has ended makes no way for another.
    pub(super) async fn trim(&mut self) -> Result<bool, StoreError> {
        let Some(shown) = self.shown.as_ref().filter(|_| self.keep == Keep::All) else {
            return Ok(false);
        };
        let stored = self.node.broadcasts().await?;
        if stored
            .iter()
            .any(|it| it.id == shown.id && it.pinned && it.finished)
        {
            return Ok(false);
        }
        let files = self.node.files_of(shown.id).await?;
        let scope = extent::trim(files.keys().map(String::as_str), shown.window());
        Ok(scope.map(|scope| self.begin_step(scope)).is_some())
    }
}
