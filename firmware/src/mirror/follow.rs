//! The mirror's loop: what is told, asked and fetched comes in as events, [`Follower`] decides, and viewers see what is durable.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use cid::Cid;
use node::{Heard, Name, NameRecord, Node, Place, StoreError};
use serde::{Deserialize, Serialize};
use stream::follower::{Action, Event, Follower, Refusal, Source, Told};
use stream::low_latency::Edge;
use stream::media::Rendition;
use stream::mirrored::Description;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::Keep;
use super::ask::{self, Answer};
use super::extent::{Extent, Scope};
use super::take::{self, Job, TakeError, Taken, Wish};
use crate::clock::{from_unix_ms, wall_now};
use crate::config::Config;
use crate::kept::Kept;
use crate::live::{Live, LivePlaylist, LiveText, Mirroring, Public};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// The DHT is walked.
const DHT_TIMEOUT: Duration = Duration::from_secs(30);
/// An earlier broadcast that does not come in so many tries, while somebody is connected, is gone.
const TRIES: u32 = 3;
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// What is new waits no longer for what was published before.
const PATIENCE: Duration = Duration::from_secs(3);
/// Answers of jobs that may wait: a fetch of the newest, one of an earlier, and one for each that is asked.
const DONE: usize = 16;
/// Addresses that are dialled because somebody named them; beyond that the oldest are given up.
const MOST_DIALLED: usize = 16;
/// Which earlier broadcasts need not be fetched again, although they were deleted here.
const SETTLED_FILE: &str = "mirror.json";
const MOST_SETTLED: usize = 1000;

/// What a job has come to.
enum Done {
    Newest(Result<Taken, TakeError>),
    Filled(Result<Taken, TakeError>),
    Earlier(Cid, Result<Taken, TakeError>),
    Asked { peer: usize, answer: Option<Answer> },
    AskedDht(Vec<Heard>),
}

/// `/api/v1/status` of a mirror.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Status {
    name: String,
    /// `all` or `window`.
    keep: &'static str,
    peer_id: String,
    peers: u32,
    /// Seconds for which nothing has come from the box; absent while it is there.
    gone_s: Option<u64>,
    /// The newest record that is believed.
    sequence: Option<u64>,
    newest_root: Option<String>,
    /// What viewers get.
    root: Option<String>,
    ended: bool,
    /// Number of the last segment of the video.
    last_segment: Option<u64>,
    behind_ms: u64,
    fetching: Option<String>,
    /// All segments of it from this one on are here, and those before it are not.
    kept_from: Option<u64>,
    /// What was published before is being fetched.
    filling: bool,
    /// An earlier broadcast that is being fetched.
    catching_up: Option<String>,
    missing: Vec<String>,
    /// What was refused of content.
    refused: u64,
    refusal: Option<String>,
    /// Records, but for older ones: every mirror that is behind tells those.
    refused_records: u64,
    record_refusal: Option<String>,
    failure: Option<String>,
    stored_bytes: u64,
    limit_bytes: u64,
}

/// What [`SETTLED_FILE`] says.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Settled {
    roots: Vec<String>,
    /// What the store was kept by.
    #[serde(default)]
    keep: Option<Keep>,
}

/// Earlier broadcasts: those that were published while the mirror was away.
#[derive(Debug, Default)]
struct Earlier {
    settled: Settled,
    missing: Vec<String>,
    under_way: Option<Cid>,
    tries: u32,
    not_before: Option<Instant>,
    /// Nothing is left to do until another broadcast begins.
    done: bool,
}

/// Fetching what was published before the newest, or letting go of it.
#[derive(Debug)]
struct Fill {
    scope: Scope,
    since: Instant,
    /// To be given up for what is newer.
    give_way: CancellationToken,
}

pub(super) struct Mirror {
    node: Node,
    name: Name,
    keep: Keep,
    http: Arc<[String]>,
    asking: HashSet<usize>,
    /// The newest last.
    dialled: VecDeque<(String, AbortHandle)>,
    keeper: Kept<Settled>,
    follower: Follower,
    /// Records that the follower knows, with their bytes.
    records: Vec<NameRecord>,
    shown: Option<Taken>,
    trusted: Option<node::BroadcastId>,
    /// Of what is shown.
    extent: Extent,
    fill: Option<Fill>,
    fill_tries: u32,
    fill_not_before: Option<Instant>,
    /// What is fetched when that is over.
    waiting: Option<Told>,
    earlier: Earlier,
    /// What was refused of content and of records, and what does not come.
    refused: u64,
    refusal: Option<String>,
    refused_records: u64,
    record_refusal: Option<String>,
    failure: Option<String>,
    latency: Option<Duration>,
    live: watch::Sender<Live>,
    status: watch::Sender<Status>,
    done: (mpsc::Sender<Done>, mpsc::Receiver<Done>),
}

impl Mirror {
    /// Takes up what was served in an earlier life.
    pub(super) async fn new(
        config: &Config,
        node: Node,
        keep: Keep,
        http: Vec<String>,
        live: watch::Sender<Live>,
    ) -> Result<(Mirror, watch::Receiver<Status>)> {
        let record = node.record().borrow().clone();
        let served = record.as_ref().map(told);
        let settled_file = config.data_dir.join(SETTLED_FILE);
        let settled = std::fs::read(&settled_file).ok();
        let settled = settled.and_then(|text| serde_json::from_slice(&text).ok());
        let mut mirror = Mirror {
            name: node.channel(),
            follower: Follower::new(Instant::now(), !http.is_empty(), served),
            records: record.iter().cloned().collect(),
            earlier: Earlier {
                settled: settled.unwrap_or_default(),
                ..Earlier::default()
            },
            node,
            keep,
            http: http.into(),
            asking: HashSet::new(),
            dialled: VecDeque::new(),
            keeper: Kept::at(
                settled_file,
                "after a restart earlier broadcasts may be fetched once more",
            ),
            shown: None,
            trusted: None,
            extent: Extent::Unknown,
            fill: None,
            fill_tries: 0,
            fill_not_before: None,
            waiting: None,
            refused: 0,
            refusal: None,
            refused_records: 0,
            record_refusal: None,
            failure: None,
            latency: None,
            live,
            status: watch::Sender::default(),
            done: mpsc::channel(DONE),
        };
        if let Some(record) = record {
            mirror.take_up(&record).await?;
        }
        mirror.show();
        let status = mirror.status.subscribe();
        Ok((mirror, status))
    }

    async fn take_up(&mut self, record: &NameRecord) -> Result<()> {
        let stored = self.node.broadcasts().await?;
        let open =
            |it: &&node::Stored| !it.finished && it.root.is_some() && it.root != Some(record.root);
        if stored.iter().any(|it| open(&it)) {
            // What was cut off, or has lost blocks, is fetched again.
            self.earlier.settled.roots.clear();
        }
        let found = stored.iter().find(|it| it.root == Some(record.root));
        let read = match found {
            Some(found) => take::read_stored(&self.node, found.id, record.root).await,
            None => Err(anyhow!("there is another root in its place")),
        };
        match read {
            Ok(taken) => {
                let whole = !self.node.lacks_files(taken.id).await?;
                self.extent = self.extent.taken(taken.window(), whole, false);
                self.shown = Some(taken);
            }
            Err(error) => {
                tracing::warn!(%error, "what was served last is damaged: it is fetched again");
                self.fetch_again(record);
            }
        }
        let before = self.earlier.settled.keep;
        if before.is_some_and(|before| before != self.keep) {
            // What it has of the newest is too little or too much now.
            self.fetch_again(record);
            self.extent = Extent::Unknown;
            self.earlier.settled.roots.clear();
            if let Some(shown) = self.shown.as_ref().filter(|_| self.keep == Keep::Window) {
                self.delete_all_but(shown.id).await;
            }
        }
        Ok(())
    }

    fn fetch_again(&mut self, record: &NameRecord) {
        self.follower = Follower::lost(Instant::now(), !self.http.is_empty(), told(record));
    }

    /// Until shut down.
    pub(super) async fn run(
        mut self,
        mut heard: mpsc::Receiver<Heard>,
        listens: bool,
        shutdown: CancellationToken,
    ) {
        let mut stats = self.node.stats();
        stats.mark_changed();
        if self.earlier.settled.keep.is_none() {
            self.earlier.settled.keep = Some(self.keep);
            self.keep_settled();
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(done) = self.done.1.recv() => self.done(done).await,
                // Before what others can send as fast as they like.
                _ = ticks.tick() => {
                    self.step(Event::Tick).await;
                    self.hurry();
                    self.go_on();
                    self.catch_up().await;
                }
                Ok(()) = stats.changed() => {
                    let connected = stats.borrow_and_update().peers > 0;
                    self.step(Event::Connected(connected)).await;
                }
                Some(told) = heard.recv() => if listens {
                    self.told(Source::PubSub, told).await;
                },
            }
            self.show();
        }
        self.keeper.shutdown().await;
    }

    async fn told(&mut self, source: Source, heard: Heard) {
        match heard {
            Ok(record) => {
                let event = Event::Told(source, told(&record));
                if !self
                    .records
                    .iter()
                    .any(|known| known.sequence == record.sequence)
                {
                    self.records.push(record);
                }
                self.step(event).await;
                self.forget_records();
            }
            Err(error) => self.refuse_record(error.to_string()),
        }
    }

    /// Records that are no longer needed: all but those that the follower has.
    fn forget_records(&mut self) {
        let follower = &self.follower;
        let needed = [follower.served(), follower.newest(), follower.under_way()];
        let needed = needed.map(|told| told.map(|told| told.sequence));
        self.records
            .retain(|it| needed.contains(&Some(it.sequence)));
    }

    fn refuse(&mut self, why: String) {
        tracing::warn!(%why, "refused");
        self.refused += 1;
        self.refusal = Some(why);
    }

    /// Anybody can send any number of them, so it is no warning.
    fn refuse_record(&mut self, why: String) {
        tracing::debug!(%why, "a record is refused");
        self.refused_records += 1;
        self.record_refusal = Some(why);
    }

    async fn step(&mut self, event: Event) {
        let refused = self.follower.refusals().0;
        let actions = self.follower.step(Instant::now(), wall_now(), event);
        if let (count, Some(why)) = self.follower.refusals()
            && count > refused
        {
            match why {
                Refusal::Older { .. } => tracing::debug!(%why, "a record"),
                _ => self.refuse_record(why.to_string()),
            }
        }
        for action in actions {
            match action {
                // One at a time: both take over what they have.
                Action::Fetch(told) if self.fill.is_some() => self.waiting = Some(told),
                Action::Fetch(told) => self.fetch(&told),
                Action::Keep(told) => self.keep_record(&told).await,
                Action::AskHttp => self.ask_http(),
                Action::AskDht => self.ask_dht(),
            }
        }
    }

    fn record(&self, told: &Told) -> Option<NameRecord> {
        let mut records = self.records.iter();
        records.find(|it| it.sequence == told.sequence).cloned()
    }

    fn fetch(&self, told: &Told) {
        let Some(record) = self.record(told) else {
            return;
        };
        let job = Job {
            root: record.root,
            record: Some(record),
            place: Place::Newest,
            wish: match self.keep {
                Keep::All => Wish::Newer(self.shown.as_ref().map(|it| it.id), self.extent),
                Keep::Window => Wish::Files(Scope::ONLY_WINDOW),
            },
            makes_room: true,
            trusted: self.trusted,
        };
        let (node, done) = (self.node.clone(), self.done.0.clone());
        tokio::spawn(async move {
            let result = take_over(&node, job, CancellationToken::new()).await;
            let _ = done.send(Done::Newest(result)).await;
        });
    }

    /// Fetches a little more of what was published before.
    fn go_on(&mut self) {
        let waits = self.fill_not_before.is_some_and(|at| at > Instant::now());
        let connected = self.node.stats().borrow().peers > 0;
        if self.keep == Keep::Window
            || self.fill.is_some()
            || self.follower.under_way().is_some()
            || waits
            || !connected
        {
            return;
        }
        let Some(shown) = &self.shown else { return };
        if let Some(scope) = self.extent.next(shown.description.first) {
            self.fill(scope);
        }
    }

    /// Takes over the root that is shown once more, with more or fewer files.
    fn fill(&mut self, scope: Scope) {
        let Some(shown) = &self.shown else { return };
        let job = Job {
            root: shown.root,
            record: None,
            place: Place::Of(shown.id),
            wish: Wish::Files(scope.clone()),
            makes_room: true,
            trusted: self.trusted,
        };
        let give_way = CancellationToken::new();
        let (node, done, given_up) = (self.node.clone(), self.done.0.clone(), give_way.clone());
        tokio::spawn(async move {
            let result = take_over(&node, job, given_up).await;
            let _ = done.send(Done::Filled(result)).await;
        });
        self.fill = Some(Fill {
            scope,
            since: Instant::now(),
            give_way,
        });
    }

    /// What is new waits no longer.
    fn hurry(&self) {
        if let Some(fill) = &self.fill
            && self.waiting.is_some()
            && fill.since.elapsed() > PATIENCE
        {
            fill.give_way.cancel();
        }
    }

    async fn filled(&mut self, result: Result<Taken, TakeError>) {
        let Some(fill) = self.fill.take() else { return };
        let made_no_room = fill.scope.drops && result.is_err();
        let connected = self.node.stats().borrow().peers > 0;
        match result {
            Ok(taken) => {
                self.fill_tries = 0;
                if fill.scope.drops {
                    tracing::warn!(
                        name = taken.description.name,
                        "the store is full: its oldest segments are no longer kept"
                    );
                }
                self.extent = self.extent.filled(&fill.scope, fill.since.elapsed());
                if self.extent == Extent::Complete {
                    tracing::info!(name = taken.description.name, "all of it is here");
                }
            }
            Err(_) if fill.give_way.is_cancelled() => self.extent = self.extent.hurries(),
            Err(TakeError::Failed(why)) if self.fill_tries < TRIES => {
                tracing::info!(%why, "what was published before does not come");
                self.fill_tries += u32::from(connected);
                self.fill_not_before = Some(Instant::now() + TRY_AGAIN);
            }
            Err(error) => {
                tracing::warn!(%error, "what was published before is left out");
                self.extent = self.extent.gives_up();
            }
        }
        match self.waiting.take() {
            Some(_) if made_no_room => self.step(Event::Failed).await,
            Some(told) => self.fetch(&told),
            None => self.go_on(),
        }
    }

    /// Lets go of the oldest segments of what is shown, so that viewers get what is new.
    async fn trim(&mut self) -> bool {
        let Some(shown) = self.shown.as_ref().filter(|_| self.keep == Keep::All) else {
            return false;
        };
        let stored = self.node.broadcasts().await.unwrap_or_default();
        let pinned = (stored.iter()).any(|it| it.id == shown.id && it.pinned);
        let scope = self.extent.trim(shown.description.first, shown.window());
        match scope.filter(|_| !pinned) {
            Some(scope) => {
                self.extent = scope.cut();
                self.fill(scope);
                true
            }
            None => false,
        }
    }

    async fn keep_record(&mut self, told: &Told) {
        if let Some(record) = self.record(told)
            && let Err(error) = self.node.keep_record(record).await
        {
            tracing::warn!(%error, "the newer record is not kept");
        }
    }

    fn ask_http(&mut self) {
        for peer in 0..self.http.len() {
            if !self.asking.insert(peer) {
                continue;
            }
            let (http, name, done) = (self.http.clone(), self.name, self.done.0.clone());
            // Where nobody is connected, the box may have come back at another address.
            let with_peers = self.node.stats().borrow().peers == 0;
            tokio::spawn(async move {
                let asked = move || ask::ask(&http[peer], name, with_peers);
                let answer = tokio::task::spawn_blocking(asked).await.ok().flatten();
                let _ = done.send(Done::Asked { peer, answer }).await;
            });
        }
    }

    fn ask_dht(&self) {
        let (node, done) = (self.node.clone(), self.done.0.clone());
        tokio::spawn(async move {
            let found = node.ask_dht(DHT_TIMEOUT).await.unwrap_or_default();
            let _ = done.send(Done::AskedDht(found)).await;
        });
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Newest(result) => {
                self.newest(result).await;
                self.go_on();
            }
            Done::Filled(result) => self.filled(result).await,
            Done::Earlier(root, result) => self.earlier(root, result),
            Done::Asked { peer, answer } => {
                self.asking.remove(&peer);
                let Some(answer) = answer else { return };
                self.step(Event::Answered).await;
                if let Some(record) = answer.record {
                    let said = record.as_ref().ok().map(told);
                    self.told(Source::Http, record).await;
                    // Who names an older one has nothing that is wanted.
                    if said.is_some() && said.as_ref() == self.follower.newest() {
                        self.dial(answer.peers);
                    }
                }
            }
            Done::AskedDht(found) => {
                for record in found {
                    self.told(Source::Dht, record).await;
                }
            }
        }
    }

    /// Dials the node behind an answer, and others that it names.
    fn dial(&mut self, peers: Vec<String>) {
        for address in peers.into_iter().take(MOST_DIALLED) {
            if self.dialled.iter().any(|(known, _)| *known == address) {
                continue;
            }
            match self.node.keep_peer(address.clone()) {
                Ok(Some(dialling)) => self.dialled.push_back((address, dialling)),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "an address of a peer"),
            }
            if self.dialled.len() > MOST_DIALLED
                && let Some((_, oldest)) = self.dialled.pop_front()
            {
                oldest.abort();
            }
        }
    }

    async fn newest(&mut self, result: Result<Taken, TakeError>) {
        match result {
            Ok(taken) => {
                self.failure = None;
                self.trusted = Some(taken.id);
                if self.earlier.settled.keep.replace(self.keep) != Some(self.keep) {
                    // What follows from another mode is done.
                    self.keep_settled();
                }
                let began = self.shown.as_ref().map(|shown| shown.id) != Some(taken.id);
                if began {
                    self.earlier.done = false;
                    self.earlier.missing.clear();
                    let had = matches!(self.extent, Extent::Complete | Extent::Cut { .. });
                    let before = self
                        .shown
                        .as_ref()
                        .filter(|_| self.keep == Keep::All && had);
                    if let Some(before) = before {
                        self.settle(before.root.to_string());
                    }
                    self.extent = Extent::Unknown;
                    self.fill_tries = 0;
                }
                let (window, before) = (taken.window(), self.extent);
                self.extent = before.taken(window, taken.whole, taken.after_hole);
                if self.keep == Keep::All && self.extent != before && !taken.whole {
                    tracing::info!(from = window, "what was published before follows");
                }
                let video = taken.playlists.get(&Rendition::Video);
                let date = video.and_then(|video| video.last_date.as_deref());
                let date = date.and_then(|date| humantime::parse_rfc3339(date).ok());
                self.latency = wall_now()
                    .zip(date)
                    .and_then(|(now, date)| now.duration_since(date).ok());
                let only = (self.keep == Keep::Window && began).then_some(taken.id);
                self.shown = Some(taken);
                self.show_live();
                self.step(Event::Fetched).await;
                if let Some(only) = only {
                    self.delete_all_but(only).await;
                }
            }
            Err(TakeError::Refused(why)) => {
                self.refuse(why);
                self.step(Event::Refused).await;
            }
            Err(error) => {
                tracing::info!(%error, "the newest root does not come");
                self.failure = Some(error.to_string());
                let full = matches!(&error, TakeError::Full(why) if !matches!(why, StoreError::PinsFull { .. }));
                if full && self.trim().await {
                    self.waiting = self.follower.under_way().cloned();
                } else {
                    self.step(Event::Failed).await;
                }
            }
        }
    }

    async fn delete_all_but(&self, kept: node::BroadcastId) {
        let Ok(stored) = self.node.broadcasts().await else {
            return;
        };
        for stored in stored.iter().filter(|it| it.id != kept && !it.pinned) {
            if let Err(error) = self.node.delete(stored.id).await {
                tracing::warn!(%error, "an earlier broadcast stays");
            }
        }
    }

    /// Looks for an earlier broadcast that is not here, and begins to fetch it.
    async fn catch_up(&mut self) {
        let earlier = &self.earlier;
        let waits = earlier.not_before.is_some_and(|at| at > Instant::now());
        let connected = self.node.stats().borrow().peers > 0;
        if self.keep == Keep::Window
            || matches!(self.extent, Extent::Filling { .. })
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
            wish: Wish::Files(Scope::EVERYTHING),
            makes_room: false,
            trusted: None,
        };
        let (node, done) = (self.node.clone(), self.done.0.clone());
        tokio::spawn(async move {
            let result = take_over(&node, job, CancellationToken::new()).await;
            let _ = done.send(Done::Earlier(root, result)).await;
        });
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
            let Some(root) = previous.take_if(|root| !self.earlier.missing.contains(root)) else {
                break;
            };
            let Ok(cid) = root.parse::<Cid>() else { break };
            let Some(found) = stored.iter().find(|it| it.root == Some(cid)) else {
                let settled = self.earlier.settled.roots.contains(&root);
                return Ok((!settled).then_some((cid, next)));
            };
            let settled = self.earlier.settled.roots.contains(&root);
            if !settled && self.node.lacks_files(found.id).await? {
                return Ok(Some((cid, next)));
            }
            self.settle(root);
            let Ok(description) = serde_json::from_slice::<Description>(&found.meta) else {
                break;
            };
            (next, previous) = (found.id, description.previous);
        }
        Ok(None)
    }

    /// It has been here, and need not be fetched again.
    fn settle(&mut self, root: String) {
        let roots = &mut self.earlier.settled.roots;
        if roots.contains(&root) {
            return;
        }
        roots.push(root);
        let surplus = roots.len().saturating_sub(MOST_SETTLED);
        roots.drain(..surplus);
        self.keep_settled();
    }

    fn keep_settled(&self) {
        self.keeper.keep(Some(self.earlier.settled.clone()));
    }

    fn earlier(&mut self, root: Cid, result: Result<Taken, TakeError>) {
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
            Err(TakeError::Failed(why)) => {
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

    /// Viewers get what is durable, all of it at once.
    fn show_live(&self) {
        let Some(shown) = &self.shown else { return };
        self.live.send_modify(|live| {
            live.root = Some(shown.root);
            live.index = Some(LiveText::new(shown.index.clone()));
            live.playlists = Rendition::ALL.map(|rendition| {
                let playlist = shown.playlists.get(&rendition)?;
                let text = LiveText::new(playlist.text.clone());
                Some(LivePlaylist {
                    full: text.clone(),
                    delta: text,
                    edge: Edge {
                        last: playlist.last?,
                        last_parts: None,
                        open: 0,
                        open_complete: false,
                        ended: playlist.ended,
                        advance_parts: 0,
                    },
                    hint: None,
                    target_duration: playlist.target_duration,
                })
            });
        });
    }

    fn show(&self) {
        let now = Instant::now();
        let filling = self.keep == Keep::All && matches!(self.extent, Extent::Filling { .. });
        let shown = self.shown.as_ref();
        let video = shown.and_then(|shown| shown.playlists.get(&Rendition::Video));
        let ended = shown.is_none_or(Taken::ended);
        let gone = self.follower.gone(now, !ended);
        let behind_ms = self.follower.behind(now).as_millis() as u64;
        let description = shown.map(|shown| &shown.description);
        let root = shown.map(|shown| shown.root.to_string());
        let name = description.map_or_else(String::new, |it| it.name.clone());
        let public = Public {
            title: name.clone(),
            state: match (ended, gone) {
                (true, _) => "idle",
                (false, None) => "live",
                // As of a box that is on air and makes nothing.
                (false, Some(_)) => "retrying",
            },
            live: !ended,
            since: description
                .and_then(|it| it.started_ms)
                .map(|ms| humantime::format_rfc3339_seconds(from_unix_ms(ms)).to_string()),
            latency_ms: self
                .latency
                .filter(|_| !ended)
                .map(|it| it.as_millis() as u64),
            ipns: self.name.to_string(),
            root: root.clone(),
            root_is_vod: ended
                && self.keep == Keep::All
                && self.extent == Extent::Complete
                && self.follower.served().is_some(),
            signal: None,
            mirror: Some(Mirroring {
                of: self.name.to_string(),
                gone: gone.is_some(),
                // Viewers need no more, and each change wakes them.
                behind_ms: behind_ms / 1000 * 1000,
                newest: video.and_then(|video| video.last_date.clone()),
                catching_up: self.earlier.under_way.is_some() || filling,
                missing: self.earlier.missing.clone(),
            }),
            name,
        };
        let differs = self.live.borrow().public != public;
        if differs {
            self.live.send_modify(|live| live.public = public);
        }
        if self.live.borrow().root != shown.map(|shown| shown.root) {
            self.show_live();
        }
        let newest = self.follower.newest();
        let stats = *self.node.stats().borrow();
        self.status.send_replace(Status {
            name: self.name.to_string(),
            keep: match self.keep {
                Keep::All => "all",
                Keep::Window => "window",
            },
            peer_id: self.node.peer_id().to_owned(),
            peers: stats.peers,
            gone_s: gone.map(|gone| gone.as_secs()),
            sequence: newest.map(|told| told.sequence),
            newest_root: newest.map(|told| told.root.clone()),
            root,
            ended,
            last_segment: video.and_then(|video| video.last),
            behind_ms,
            fetching: self.follower.under_way().map(|told| told.root.clone()),
            kept_from: shown
                .and_then(|_| self.extent.from())
                .filter(|_| self.keep == Keep::All),
            filling,
            catching_up: self.earlier.under_way.map(|root| root.to_string()),
            missing: self.earlier.missing.clone(),
            refused: self.refused,
            refusal: self.refusal.clone(),
            refused_records: self.refused_records,
            record_refusal: self.record_refusal.clone(),
            failure: self.failure.clone(),
            stored_bytes: stats.stored_bytes,
            limit_bytes: stats.limit_bytes,
        });
    }
}

fn told(record: &NameRecord) -> Told {
    Told {
        root: record.root.to_string(),
        sequence: record.sequence,
        expires: record.expires.max(UNIX_EPOCH),
    }
}

/// A fetch from nobody waits in vain: it is over when the last peer is gone, and begins again with the next. What has been fetched
/// is taken over, whoever is gone.
async fn take_over(node: &Node, job: Job, given_up: CancellationToken) -> Result<Taken, TakeError> {
    let mut stats = node.stats();
    let alone = async {
        match stats.wait_for(|stats| stats.peers == 0).await {
            Ok(_) => "nobody is connected",
            Err(_) => "the node has stopped",
        }
    };
    let ready = tokio::select! {
        biased;
        ready = take::prepare(node, job) => ready?,
        () = given_up.cancelled() => return Err(TakeError::Failed("there is something newer".into())),
        why = alone => return Err(TakeError::Failed(why.to_owned())),
    };
    ready.adopt().await
}
