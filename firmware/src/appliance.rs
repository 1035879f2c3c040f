//! The loop: next event, `broadcast.step`, perform the actions. It owns all state; everything else talks to it by channel.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use board::sim::Sim;
use board::{Display as _, Tally as _};
use futures::StreamExt as _;
use media::Media;
use node::{
    BroadcastId, Leaf, NewFile, Node, Published, Recovered, RecoveredBroadcast, StoreError,
};
use serde::{Deserialize, Serialize};
use stream::broadcast::{Action, Broadcast, Cause, Event as BroadcastEvent, State};
use stream::buttons::{Button, Edge, Gesture, Gestures};
use stream::publication::{self, Numbers, Publication, Row, Update};
use stream::segmenter::{Output, Segmenter, SegmenterError};
use stream::timeline::EPOCH;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::health::Sample;
use crate::live::{Live, RecentFile};
use crate::panel::Panel;

/// What the operator can ask for over HTTP. Buttons come from the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Start,
    Stop,
}

/// All that can happen to the box.
#[derive(Debug)]
enum Event {
    Media(media::Event),
    Opened(Result<BroadcastId, StoreError>),
    Stored(Result<Published, StoreError>, Vec<RecentFile>),
    Command(Command),
    Button(Edge),
    Sampled(Sample),
    /// A deadline has passed, or the panel is due.
    Tick,
    /// SIGTERM, SIGINT or `q`.
    Shutdown,
}

/// Answers of the node under way: one broadcast being opened and one update.
const ANSWERS: usize = 2;

/// The panel's pace: meters move, buttons feel immediate.
const FRAME: Duration = Duration::from_millis(100);

/// Before this the clock has not been set: the box has no battery behind it.
const CLOCK_SANE_FROM: Duration = Duration::from_secs(1_767_225_600); // 2026-01-01T00:00:00Z

/// What the journal keeps of a broadcast beside its rows.
#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    name: String,
    started_ms: Option<u64>,
    first: Numbers,
}

/// Where the loop reports to and what reports to it.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) media: mpsc::Receiver<media::Event>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) samples: watch::Receiver<Sample>,
    pub(crate) live: watch::Sender<Live>,
    pub(crate) status: watch::Sender<stream::status::Status>,
}

/// One continuity run: an encoder and what cuts its output.
#[derive(Debug)]
struct Run {
    number: u64,
    segmenter: Segmenter,
    /// Wall time of programme time [`EPOCH`], if the clock was sane.
    wall: Option<SystemTime>,
}

pub(crate) struct Appliance {
    config: Config,
    node: Node,
    media: Media,
    display: board::sim::Display,
    tally: board::sim::Tally,
    buttons: board::sim::Buttons,
    channels: Channels,
    answers: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    broadcast: Broadcast,
    publication: Publication,
    /// The open broadcast in the store.
    id: Option<BroadcastId>,
    run: Option<Run>,
    runs: u64,
    gestures: Gestures,
    panel: Panel,
    since: Option<SystemTime>,
    shutting_down: bool,
}

impl Appliance {
    /// Takes up what was left by the last life of the process: an unfinished broadcast is continued or closed.
    pub(crate) async fn new(
        config: Config,
        node: Node,
        recovered: Recovered,
        media: Media,
        board: Sim,
        panel: Panel,
        channels: Channels,
    ) -> anyhow::Result<Appliance> {
        let settings = settings(&config);
        let mut appliance = Appliance {
            publication: Publication::new(settings, Numbers::default()),
            config,
            node,
            media,
            display: board.display,
            tally: board.tally,
            buttons: board.buttons,
            channels,
            answers: mpsc::channel(ANSWERS),
            broadcast: Broadcast::default(),
            id: None,
            run: None,
            runs: 0,
            gestures: Gestures::default(),
            panel,
            since: None,
            shutting_down: false,
        };
        appliance.recover(recovered, settings).await?;
        Ok(appliance)
    }

    async fn recover(
        &mut self,
        recovered: Recovered,
        settings: publication::Settings,
    ) -> anyhow::Result<()> {
        let count = recovered.broadcasts.len();
        for (i, broadcast) in recovered.broadcasts.into_iter().enumerate() {
            let newest = i + 1 == count;
            if !newest && broadcast.finished {
                continue;
            }
            let (meta, rows) = self.read_journal(&broadcast).await?;
            let finished = broadcast.finished;
            let mut publication = Publication::recovered(settings, meta.first, rows, finished);
            let mut root = broadcast.root;
            let resume = newest && !finished && self.recent_enough(&publication);
            if !finished && !resume {
                tracing::info!(id = %broadcast.id, "closing the broadcast that was cut off");
                publication.finish();
                if let Some(update) = publication.next_update() {
                    let (update, _) = to_node(broadcast.id, update)?;
                    root = Some(self.node.publish(update).await?.root);
                    publication.stored();
                }
            }
            if newest {
                if let Some(root) = root {
                    let publication = &publication;
                    self.channels
                        .live
                        .send_modify(|live| live.update(publication, root, vec![]));
                }
                self.publication = publication;
                self.since = meta
                    .started_ms
                    .map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
                if resume {
                    tracing::info!(id = %broadcast.id, "going on with the broadcast that was cut off");
                    self.id = Some(broadcast.id);
                    self.step(BroadcastEvent::Resume);
                }
            }
        }
        Ok(())
    }

    async fn read_journal(
        &self,
        broadcast: &RecoveredBroadcast,
    ) -> anyhow::Result<(Meta, Vec<Row>)> {
        let meta = serde_json::from_slice(&broadcast.meta).with_context(|| {
            format!(
                "the journal of broadcast {} is of another version",
                broadcast.id
            )
        })?;
        let raw = if broadcast.rows.is_empty() {
            self.node.rows(broadcast.id).await?
        } else {
            broadcast.rows.clone()
        };
        let rows = raw
            .iter()
            .map(|row| serde_json::from_slice(row))
            .collect::<Result<_, _>>()
            .with_context(|| {
                format!("a row of broadcast {} is of another version", broadcast.id)
            })?;
        Ok((meta, rows))
    }

    /// Whether viewers may still be waiting for the broadcast that was cut off.
    fn recent_enough(&self, publication: &Publication) -> bool {
        let limit = Duration::from_secs(self.config.broadcast.resume_within_s);
        if limit.is_zero() {
            return false;
        }
        let last = publication.rows().last();
        match (last.and_then(|row| row.program_date_time_ms), wall_now()) {
            // Without a clock nobody can tell; going on loses nothing.
            (None, _) | (_, None) => true,
            (Some(ms), Some(now)) => now
                .duration_since(UNIX_EPOCH + Duration::from_millis(ms))
                .is_ok_and(|age| age <= limit),
        }
    }

    /// Until shut down. What is on air is ended properly first.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut frame = tokio::time::interval(FRAME);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let event = self.next_event(&mut frame, &shutdown).await;
            self.handle(event);
            if self.shutting_down && !self.broadcast.active() {
                break;
            }
        }
        tracing::info!("shutting down: capture, then the node");
        let media = self.media;
        tokio::task::spawn_blocking(move || media.shutdown()).await?;
        self.node.shutdown().await;
        Ok(())
    }

    async fn next_event(
        &mut self,
        frame: &mut tokio::time::Interval,
        shutdown: &CancellationToken,
    ) -> Event {
        let deadline = [self.broadcast.deadline(), self.gestures.deadline()]
            .into_iter()
            .flatten()
            .min();
        let due = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled(), if !self.shutting_down => Event::Shutdown,
            Some(event) = self.answers.1.recv() => event,
            Some(command) = self.channels.commands.recv() => Event::Command(command),
            Some(edge) = self.buttons.next() => Event::Button(edge),
            () = due => Event::Tick,
            _ = frame.tick() => Event::Tick,
            Ok(()) = self.channels.samples.changed() => {
                Event::Sampled(*self.channels.samples.borrow_and_update())
            }
            Some(event) = self.channels.media.recv() => Event::Media(event),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Media(event) => self.media_event(event),
            Event::Opened(Ok(id)) => {
                self.id = Some(id);
                self.pump();
            }
            Event::Opened(Err(error)) => {
                tracing::error!(%error, "cannot open a broadcast");
                self.step(BroadcastEvent::Failed(store_cause(&error)));
            }
            Event::Stored(result, files) => self.stored(result, files),
            Event::Command(Command::Start) => self.step(BroadcastEvent::Start),
            Event::Command(Command::Stop) => self.step(BroadcastEvent::Stop),
            Event::Button(edge) => {
                self.panel.touched(edge.at);
                let gestures = self.gestures.edge(edge);
                self.gestured(gestures);
                self.show();
            }
            Event::Sampled(sample) => {
                self.panel.sample(sample);
                if sample.room() {
                    self.step(BroadcastEvent::Cleared);
                }
            }
            Event::Tick => {
                let gestures = self.gestures.tick(Instant::now());
                self.gestured(gestures);
                self.step(BroadcastEvent::Tick);
                self.show();
            }
            Event::Shutdown => {
                self.shutting_down = true;
                tracing::info!("stopping");
                self.step(BroadcastEvent::Stop);
            }
        }
    }

    fn gestured(&mut self, gestures: Vec<Gesture>) {
        for gesture in gestures {
            match gesture {
                Gesture::Tap(Button::GoLive) => self.step(BroadcastEvent::Start),
                // Somebody who presses long and hard while nothing is on air wants to go live, too.
                Gesture::Hold(Button::GoLive) if !self.broadcast.active() => {
                    self.step(BroadcastEvent::Start);
                }
                Gesture::Hold(Button::GoLive) => self.step(BroadcastEvent::Stop),
                Gesture::Tap(Button::Page) => self.panel.next_page(),
                // MODE is reserved for consent; a hold that has begun shows on the panel by itself.
                Gesture::Tap(Button::Mode) | Gesture::Hold(_) | Gesture::HoldStarted(_) => {}
            }
        }
    }

    fn media_event(&mut self, event: media::Event) {
        let current = self.run.as_ref().map(|run| run.number);
        match event {
            media::Event::Format(_)
            | media::Event::Levels { .. }
            | media::Event::Signal(_)
            | media::Event::CaptureFailed { .. }
            | media::Event::PicturesDropped(_) => self.panel.media(&event, Instant::now()),
            media::Event::VideoConfig { run, config } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.configure_video(config, out));
            }
            media::Event::AudioConfig { run, config } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.configure_audio(config, out));
            }
            media::Event::Video { run, unit } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.push_video(unit, out));
            }
            media::Event::Audio { run, frame } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.push_audio(frame, out));
            }
            media::Event::ProgrammeEnded { run } if Some(run) == current => {
                if let Some(run) = self.run.take() {
                    let mut out = Vec::new();
                    if let Err(error) = run.segmenter.finish(&mut out) {
                        tracing::error!(%error, "the last segment is lost");
                    }
                    self.publish(out, run.wall);
                }
                self.step(BroadcastEvent::Drained);
            }
            media::Event::ProgrammeFailed { run, why } if Some(run) == current => {
                tracing::error!(%why, "the encoder failed");
                self.step(BroadcastEvent::Failed(Cause::Encoder(why)));
            }
            // Of a run that is over.
            _ => {}
        }
    }

    fn cut(
        &mut self,
        push: impl FnOnce(&mut Segmenter, &mut Vec<Output>) -> Result<(), SegmenterError>,
    ) {
        let Some(run) = &mut self.run else { return };
        let mut out = Vec::new();
        let result = push(&mut run.segmenter, &mut out);
        let wall = run.wall;
        self.publish(out, wall);
        if let Err(error) = result {
            tracing::error!(%error, "the encoder's output cannot be cut");
            self.step(BroadcastEvent::Failed(Cause::Encoder(error.to_string())));
        }
    }

    fn publish(&mut self, outputs: Vec<Output>, wall: Option<SystemTime>) {
        for output in outputs {
            self.publication
                .push(output, |start| Some(wall? + start.saturating_sub(EPOCH)));
        }
        self.pump();
    }

    /// Gives the store the next update if it is idle.
    fn pump(&mut self) {
        let Some(id) = self.id else { return };
        let Some(update) = self.publication.next_update() else {
            return;
        };
        let (node, answers) = (self.node.clone(), self.answers.0.clone());
        tokio::spawn(async move {
            let event = match to_node(id, update) {
                Ok((update, files)) => Event::Stored(node.publish(update).await, files),
                Err(error) => unreachable!("rows are plain data: {error}"),
            };
            // The loop may have ended; then nobody waits for the answer.
            let _ = answers.send(event).await;
        });
    }

    fn stored(&mut self, result: Result<Published, StoreError>, files: Vec<RecentFile>) {
        match result {
            Ok(published) => {
                let row = self.publication.stored();
                let publication = &self.publication;
                self.channels
                    .live
                    .send_modify(|live| live.update(publication, published.root, files));
                if let Some(row) = &row {
                    self.panel.published(row, Instant::now());
                    self.step(BroadcastEvent::Published);
                }
                if self.publication.finished() {
                    self.id = None;
                    tracing::info!(root = %published.root, "the broadcast is complete");
                    self.step(BroadcastEvent::Finished);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a segment is lost");
                self.publication.failed();
                self.step(BroadcastEvent::Failed(store_cause(&error)));
            }
        }
        self.pump();
    }

    fn step(&mut self, event: BroadcastEvent) {
        let before = self.broadcast.state().clone();
        let actions = self.broadcast.step(Instant::now(), event);
        let after = self.broadcast.state();
        if std::mem::discriminant(&before) != std::mem::discriminant(after) {
            tracing::info!(from = name_of(&before), to = name_of(after), "state");
        }
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Begin => self.begin(),
            Action::StartProgramme => {
                self.runs += 1;
                self.publication.begin_run();
                self.run = Some(Run {
                    number: self.runs,
                    segmenter: Segmenter::new(segmenter_settings(&self.config)),
                    wall: wall_now(),
                });
                self.media.start_programme(self.runs);
            }
            Action::EndProgramme => self.media.end_programme(),
            Action::DropProgramme => {
                self.run = None;
                self.media.drop_programme();
            }
            Action::Finish => {
                self.publication.finish();
                if self.id.is_none() {
                    // Stopped before the store had opened it: nothing was published, nothing is to be closed.
                    self.step(BroadcastEvent::Finished);
                }
                self.pump();
            }
        }
    }

    fn begin(&mut self) {
        let first = self.publication.numbers();
        self.publication = Publication::new(settings(&self.config), first);
        self.channels.live.send_modify(Live::forget);
        self.id = None;
        self.since = wall_now();
        let meta = Meta {
            name: self.config.name.clone(),
            started_ms: self.since.map(unix_ms),
            first,
        };
        let meta = serde_json::to_vec(&meta).expect("plain data");
        let (node, answers) = (self.node.clone(), self.answers.0.clone());
        tokio::spawn(async move {
            let _ = answers.send(Event::Opened(node.begin(meta).await)).await;
        });
    }

    /// Draws the panel and publishes the status. A display that fails is not the stream's business.
    fn show(&mut self) {
        let now = Instant::now();
        let hold = self.gestures.hold_progress(Button::GoLive, now);
        let stats = *self.node.stats().borrow();
        let (root, public) = {
            let live = self.channels.live.borrow();
            (live.root, live.public.clone())
        };
        let status = self.panel.status(
            now,
            &self.broadcast,
            crate::panel::Published {
                segments: self.publication.rows().len() as u64,
                finished: self.publication.finished(),
            },
            stats,
            root,
            self.since,
        );
        let picture = self.panel.draw(&status, hold, now);
        if let Err(error) = self.display.show(&picture) {
            tracing::debug!(%error, "display");
        }
        if let Err(error) = self.tally.set(self.panel.lit(&status, now)) {
            tracing::debug!(%error, "tally");
        }
        let shown = self.panel.public(&status);
        if shown != public {
            self.channels.live.send_modify(|live| live.public = shown);
        }
        self.channels.status.send_replace(status);
    }
}

/// Translates an update into the node's words; also says which of its files viewers will ask for next.
fn to_node(
    broadcast: BroadcastId,
    update: Update,
) -> anyhow::Result<(node::Update, Vec<RecentFile>)> {
    let mut recent = Vec::new();
    let files = update
        .files
        .into_iter()
        .map(|file| {
            // A part is a leaf: hashed here once, never copied.
            let leaves: Vec<Leaf> = file.parts.iter().cloned().flat_map(Leaf::split).collect();
            if file.path.ends_with(".m4s") {
                recent.push(RecentFile {
                    path: file.path.clone(),
                    cid: node::file_cid(&leaves),
                    parts: file.parts,
                });
            }
            NewFile {
                path: file.path,
                leaves,
            }
        })
        .collect();
    let row = update.row.map(|row| serde_json::to_vec(&row)).transpose()?;
    let update = node::Update {
        broadcast,
        row,
        files,
        finish: update.finish,
    };
    Ok((update, recent))
}

fn store_cause(error: &StoreError) -> Cause {
    match error {
        StoreError::DiskFull | StoreError::Full { .. } => Cause::DiskFull,
        error => Cause::Store(error.to_string()),
    }
}

fn settings(config: &Config) -> publication::Settings {
    publication::Settings {
        segment: config.hls.segment(),
        window: (config.hls.window_s * 1000).div_ceil(config.hls.segment_ms) as usize,
        video_bitrate: u64::from(config.video.bitrate_kbps) * 1000,
        audio_bitrate: u64::from(config.audio.bitrate_kbps) * 1000,
        resolution: (config.video.width, config.video.height),
        frame_rate: f64::from(config.video.fps),
    }
}

fn segmenter_settings(config: &Config) -> stream::segmenter::Settings {
    stream::segmenter::Settings {
        segment: config.hls.segment(),
        part: config.hls.part(),
        frame: Duration::from_secs(1) / config.video.fps,
    }
}

/// Wall time, if the clock can be believed.
fn wall_now() -> Option<SystemTime> {
    let now = SystemTime::now();
    (now >= UNIX_EPOCH + CLOCK_SANE_FROM).then_some(now)
}

pub(crate) fn clock_sane() -> bool {
    wall_now().is_some()
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

fn name_of(state: &State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Starting { .. } => "starting",
        State::Live { .. } => "live",
        State::Retrying { .. } => "retrying",
        State::Stopping { .. } => "stopping",
        State::Halted { .. } => "halted",
    }
}
