//! The mirror's loop: what is told, asked and fetched comes in as events, [`Follower`] decides, and viewers see what is durable.

mod earlier;
mod show;
mod steps;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use cid::Cid;
use node::{Heard, Name, NameRecord, Node, Place};
use stream::extent::{Extent, Scope};
use stream::follower::{Action, Event, Follower, Refusal, Source, Told};
use stream::media::Rendition;
use stream::uplink::Meter;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub(super) use show::Status;

use earlier::{Earlier, SETTLED_FILE};
use steps::Step;

use super::Keep;
use super::ask::{self, Answer};
use super::take::{self, Job, TakeError, Taken, Wish};
use crate::clock::wall_now;
use crate::config::Config;
use crate::kept::Kept;
use crate::listener::Guests;
use crate::live::Live;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(250);
/// The DHT is walked.
const DHT_TIMEOUT: Duration = Duration::from_secs(30);
/// Target durations after which it is no longer likely what comes next. A window has six segments at the least.
const NEXT_WITHIN: u32 = 3;
/// Answers of jobs that may wait: a fetch of the newest or a step, one of an earlier, and one for each that is asked.
const DONE: usize = 16;
/// Addresses that are dialled because somebody named them; beyond that the oldest are given up.
const MOST_DIALLED: usize = 16;

/// What a job has come to.
enum Done {
    Newest(Result<Taken, TakeError>),
    Stepped(Result<Taken, TakeError>),
    /// With what it says was before it, where so much has come.
    Earlier(Cid, Vec<String>, Result<Taken, TakeError>),
    Asked {
        peer: usize,
        answer: Option<Answer>,
    },
    AskedDht(Vec<Heard>),
}

pub(super) struct Mirror {
    node: Node,
    name: Name,
    keep: Keep,
    http: Arc<[String]>,
    asking: HashSet<usize>,
    /// The newest last.
    dialled: VecDeque<(String, AbortHandle)>,
    keeper: Kept<earlier::Settled>,
    follower: Follower,
    /// Records that the follower knows, with their bytes.
    records: Vec<NameRecord>,
    shown: Option<Taken>,
    /// When this process has taken that over.
    taken_at: Option<Instant>,
    trusted: Option<node::BroadcastId>,
    /// Of what is shown.
    extent: Extent,
    /// The last root did not come: viewers need no more than the window of the next.
    narrow: bool,
    step_under_way: Option<Step>,
    /// What is fetched when that is over: both take over what they have.
    waiting: Option<Told>,
    earlier: Earlier,
    /// What was refused of content and of records, and what does not come.
    refused: u64,
    refusal: Option<String>,
    refused_records: u64,
    record_refusal: Option<String>,
    failure: Option<String>,
    latency: Option<Duration>,
    /// How the newest record came, and when.
    heard: Option<(Source, Instant)>,
    started: Instant,
    uplink: Meter,
    guests: Guests,
    record_asked: watch::Receiver<Option<Instant>>,
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
        record_asked: watch::Receiver<Option<Instant>>,
        guests: Guests,
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
            earlier: Earlier::after(settled.unwrap_or_default()),
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
            taken_at: None,
            trusted: None,
            extent: Extent::Unknown,
            narrow: false,
            step_under_way: None,
            waiting: None,
            refused: 0,
            refusal: None,
            refused_records: 0,
            record_refusal: None,
            failure: None,
            latency: None,
            heard: None,
            started: Instant::now(),
            uplink: Meter::new(config.node.uplink_kbps),
            guests,
            record_asked,
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
                let absent = self.node.absent(taken.id).await?;
                self.extent.lacks(&absent);
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
        let mut peers = 0;
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
                    self.make_way();
                    self.take_step();
                    self.catch_up().await;
                }
                Ok(()) = stats.changed() => {
                    let now = stats.borrow_and_update().peers;
                    if now > std::mem::replace(&mut peers, now) {
                        self.extent.hurry();
                        self.earlier.hurry();
                    }
                    self.step(Event::Connected(now > 0)).await;
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
                let (sequence, event) = (record.sequence, Event::Told(source, told(&record)));
                let before = self.follower.newest().map(|newest| newest.sequence);
                if !self
                    .records
                    .iter()
                    .any(|known| known.sequence == record.sequence)
                {
                    self.records.push(record);
                }
                self.step(event).await;
                let newest = self.follower.newest().map(|newest| newest.sequence);
                if newest == Some(sequence) && before != newest {
                    self.heard = Some((source, Instant::now()));
                }
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
                Action::Fetch(told) if self.step_under_way.is_some() => self.waiting = Some(told),
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
                Keep::All if self.narrow => Wish::Files(Scope::WINDOW),
                Keep::All => Wish::Newer(self.shown.as_ref().map(|it| it.id), self.extent.clone()),
                Keep::Window => Wish::Files(Scope::WINDOW_ALONE),
            },
            expected: self.expected(),
            makes_room: true,
            trusted: self.trusted,
            described: Arc::default(),
        };
        self.begin(job, Until::Alone, Done::Newest);
    }

    /// Takes something over beside the loop, which hears what has come of it.
    fn begin(
        &self,
        job: Job,
        until: Until,
        done: impl FnOnce(Result<Taken, TakeError>) -> Done + Send + 'static,
    ) {
        let (node, answers) = (self.node.clone(), self.done.0.clone());
        tokio::spawn(async move {
            let result = take_over(&node, job, until).await;
            let _ = answers.send(done(result)).await;
        });
    }

    /// What the next root is likely to bring: after a pause somebody who keeps the window only may no longer have that.
    fn expected(&self) -> Vec<String> {
        let (Some(shown), Some(at)) = (&self.shown, self.taken_at) else {
            return Vec::new();
        };
        match at.elapsed() < shown.target_duration() * NEXT_WITHIN {
            true => shown.next_files(),
            false => Vec::new(),
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
            // Where nobody is connected, or nobody who has it, the box may be at another address.
            let with_peers = self.node.stats().borrow().peers == 0 || self.failure.is_some();
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
                self.take_step();
            }
            Done::Stepped(result) => self.stepped(result).await,
            Done::Earlier(root, before, result) => self.earlier(root, before, result),
            Done::Asked { peer, answer } => {
                self.asking.remove(&peer);
                let Some(answer) = answer else { return };
                let said = answer.record.as_ref().ok().map(told);
                self.told(Source::Http, answer.record).await;
                // Who names an older one has nothing that is wanted.
                if said.is_some() && said.as_ref() == self.follower.newest() {
                    self.dial(answer.peers);
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
                self.narrow = false;
                self.trusted = Some(taken.id);
                if self.earlier.settled.keep.replace(self.keep) != Some(self.keep) {
                    // What follows from another mode is done.
                    self.keep_settled();
                }
                let began = self.shown.as_ref().map(|shown| shown.id) != Some(taken.id);
                if began {
                    self.earlier.start_anew();
                    let had = matches!(self.extent, Extent::Complete | Extent::Cut { .. });
                    let before = self
                        .shown
                        .as_ref()
                        .filter(|_| self.keep == Keep::All && had);
                    if let Some(before) = before {
                        self.settle(before.root.to_string());
                    }
                    self.extent = Extent::Unknown;
                }
                let asks =
                    self.extent.taken(taken.whole, taken.after_hole) && self.keep == Keep::All;
                let video = taken.playlists.get(&Rendition::Video);
                let date = video.and_then(|video| video.last_date.as_deref());
                let date = date.and_then(|date| humantime::parse_rfc3339(date).ok());
                self.latency = wall_now()
                    .zip(date)
                    .and_then(|(now, date)| now.duration_since(date).ok());
                let only = (self.keep == Keep::Window && began).then_some(taken.id);
                self.shown = Some(taken);
                self.taken_at = Some(Instant::now());
                self.show_live();
                if asks {
                    self.look_for_holes().await;
                }
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
                self.narrow = matches!(error, TakeError::Failed(_));
                if matches!(error, TakeError::Full(_)) && self.trim().await.is_ok_and(|trims| trims)
                {
                    self.waiting = self.follower.under_way().cloned();
                } else {
                    self.step(Event::Failed).await;
                }
            }
        }
    }

    async fn look_for_holes(&mut self) {
        let Some(shown) = &self.shown else { return };
        match self.node.absent(shown.id).await {
            Ok(absent) => {
                self.extent.lacks(&absent);
                if self.extent != Extent::Complete {
                    tracing::info!(from = shown.window(), "what was published before follows");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot tell what is lacking until the next segment");
                self.extent = Extent::Unknown;
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
}

fn told(record: &NameRecord) -> Told {
    Told {
        root: record.root.to_string(),
        sequence: record.sequence,
        expires: record.expires.max(UNIX_EPOCH),
    }
}

/// What a job is given up for.
enum Until {
    /// Nothing.
    Done,
    /// A fetch from nobody waits in vain: it is over when the last peer is gone, and begins again with the next.
    Alone,
    /// The same, or something newer.
    Newer(CancellationToken),
}

/// What has been fetched is taken over, whoever is gone.
async fn take_over(node: &Node, job: Job, until: Until) -> Result<Taken, TakeError> {
    let fetch = node.fetch(job.root, job.makes_room);
    // What makes room itself is all here.
    if !matches!(until, Until::Done) {
        // What fills up may never come, and no recording goes for that.
        let newest = matches!(until, Until::Alone);
        fetch.find_room(newest).await?;
    }
    let brought = fetch.new_leaves();
    let mut stats = node.stats();
    let alone = async {
        if matches!(until, Until::Done) {
            return std::future::pending().await;
        }
        match stats.wait_for(|stats| stats.peers == 0).await {
            Ok(_) => "nobody is connected",
            Err(_) => "the node has stopped",
        }
    };
    let newer = async {
        match &until {
            Until::Newer(newer) => newer.cancelled().await,
            Until::Done | Until::Alone => std::future::pending().await,
        }
    };
    let ready = tokio::select! {
        biased;
        ready = take::prepare(node, fetch, job) => ready?,
        () = newer => return Err(TakeError::GaveWay { brought: brought.load(Ordering::Relaxed) }),
        why = alone => return Err(TakeError::Alone(why)),
    };
    ready.adopt().await
}
