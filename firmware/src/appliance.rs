//! The loop: next event, `broadcast.step`, perform the actions. It owns all state; everything else talks to it by channel.

mod description;
mod recovery;
mod storing;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant, SystemTime};

use board::Board;
use media::Media;
use node::{BroadcastId, Node, Published, Recovered, StoreError};
use stream::broadcast::{Action, Broadcast, Cause, Event as BroadcastEvent, State};
use stream::buttons::{Button, Edge, Gesture, Gestures};
use stream::dates::ProgramDates;
use stream::encoder::Choice;
use stream::media::{Rendition, VideoConfig};
use stream::playlist::Picture;
use stream::publication::{self, File, Inits, Numbers, Publication};
use stream::reach::Outside;
use stream::resume::{CutOff, Verdict};
use stream::segmenter::{Output, Segmenter, SegmenterError};
use stream::status::{Page, SyncPress};
use stream::uplink::Meter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::av_sync::{AvSync, SyncCommand};
use crate::buttons::Pace;
use crate::clock::{at_least, unix_ms, wall_now};
use crate::config::Config;
use crate::health::Sample;
use crate::in_memory::InMemory;
use crate::kept::Kept;
use crate::listener::Guests;
use crate::live::{Live, RecentFiles};
use crate::numbers;
use crate::on_air::OnAirMark;
use crate::panel::{self, Panel};
use crate::wishes::Wishes;
pub(crate) use description::beside;
use recovery::Format;
pub(crate) use recovery::{Meta, close, replace_rows, without_lost};
use storing::{store_cause, to_node};

/// What the operator can ask for over HTTP. Buttons come from the board.
#[derive(Debug)]
pub(crate) enum Command {
    /// Answered with whether it is taken: it is lost while a broadcast ends, and to remember it would put the box on air when nobody
    /// expects it.
    Start(oneshot::Sender<bool>),
    /// Of the broadcast with this number, or whichever there is. Answered with whether it is taken: another one than was meant is
    /// not ended.
    Stop(Option<u64>, oneshot::Sender<bool>),
    Mute(bool),
    /// What was found out about this machine's encoders, not by the operator.
    Encoder(Choice),
    /// kbit/s, of [`VIDEO_KBPS`](crate::config::VIDEO_KBPS).
    VideoBitrate(u32),
    Sync(SyncCommand),
}

/// All that can happen to the box.
#[derive(Debug)]
enum Event {
    Media(media::Event),
    /// `attempt` tells the answer to this request from one to an earlier.
    Opened {
        attempt: u64,
        /// With what lies beside its playlists.
        result: Result<(BroadcastId, Vec<File>), StoreError>,
    },
    /// An update has been stored, or not: then its files are in memory.
    Answered {
        broadcast: u64,
        /// Whether it was to close the broadcast.
        closes: bool,
        /// Nothing where the store was not asked.
        result: Result<Option<Published>, StoreError>,
        files: Option<RecentFiles>,
    },
    Command(Command),
    Buttons(Vec<Edge>),
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

/// Who follows has the end of a broadcast by then: over a link of 50 ms that loses 2 % within four seconds (`make bench-network`), and
/// who polls asks once in two.
const FAREWELL: Duration = Duration::from_secs(5);

/// Who has asked for the name's record within this follows it.
const RECENT: Duration = Duration::from_secs(10);

/// A capture device that hangs does not keep the process from ending for longer.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Where the loop reports to and what reports to it.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) media: mpsc::Receiver<media::Event>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) samples: watch::Receiver<Sample>,
    pub(crate) live: watch::Sender<Live>,
    pub(crate) outside: watch::Receiver<Outside>,
    pub(crate) viewers: Guests,
    pub(crate) status: watch::Sender<stream::status::Status>,
}

/// One continuity run: an encoder and what cuts its output.
#[derive(Debug)]
struct Run {
    number: u64,
    segmenter: Segmenter,
    dates: ProgramDates,
}

pub(crate) struct Appliance {
    config: Config,
    node: Node,
    media: Media,
    board: Board,
    channels: Channels,
    answers: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    broadcast: Broadcast,
    publication: Publication,
    /// The open broadcast in the store.
    id: Option<BroadcastId>,
    /// What it says of itself.
    meta: Option<Meta>,
    /// Counts those that have begun in this life.
    broadcasts: u64,
    /// Counts the requests to open one.
    openings: u64,
    mark: OnAirMark,
    /// The last segment that viewers were told of is in memory only, or was when an earlier life ended.
    from_memory: bool,
    /// Without the disk, and so without a journal that knows the last numbers.
    in_memory: bool,
    /// What the hold that is going on will do: it was begun on air.
    hold_ends: bool,
    /// What goes on, or waits to, although no sure clock has said that it is still wanted.
    unsure: Option<CutOff>,
    run: Option<Run>,
    runs: u64,
    /// What the encoder made and nobody could use, since the start.
    dropped_units: u64,
    pace: Pace,
    gestures: Gestures,
    panel: Panel,
    sync: AvSync,
    uplink: Meter,
    started: Instant,
    /// What was pressed before was pressed while the display said that the box is starting.
    ready: Instant,
    since: Option<SystemTime>,
    /// How long this broadcast was on air in earlier lives of the process.
    aired: Duration,
    /// What the operator wants of this broadcast, or of the next.
    wishes: Wishes,
    keeper: Kept<Wishes>,
    shutting_down: bool,
    /// When something was on air for the last time.
    on_air_at: Option<Instant>,
}

impl Appliance {
    /// Takes up what was left by the last life of the process: an unfinished broadcast is continued or closed.
    pub(crate) async fn new(
        config: Config,
        node: Node,
        recovered: Recovered,
        media: Media,
        board: Board,
        panel: Panel,
        channels: Channels,
    ) -> anyhow::Result<Appliance> {
        let settings = settings(&config);
        let mut appliance = Appliance {
            publication: Publication::new(settings, Numbers::default()),
            broadcast: Broadcast::new(config.hls.segment()),
            mark: OnAirMark::in_dir(&config.data_dir),
            wishes: Wishes::none(&config),
            keeper: Wishes::keeper(&config),
            sync: AvSync::new(&config),
            uplink: Meter::new(config.node.uplink_kbps),
            started: Instant::now(),
            ready: Instant::now(),
            config,
            node,
            media,
            board,
            channels,
            answers: mpsc::channel(ANSWERS),
            id: None,
            meta: None,
            broadcasts: 0,
            openings: 0,
            from_memory: false,
            in_memory: false,
            hold_ends: false,
            unsure: None,
            run: None,
            runs: 0,
            dropped_units: 0,
            pace: Pace::new(),
            gestures: Gestures::default(),
            panel,
            since: None,
            aired: Duration::ZERO,
            shutting_down: false,
            on_air_at: None,
        };
        appliance.media.trim(appliance.sync.trim_ms());
        appliance.recover(recovered, settings).await;
        appliance.ready = Instant::now();
        // Whoever asks as soon as the box is ready is told what it has found.
        appliance.show();
        Ok(appliance)
    }

    /// Goes on without the disk on which the last life was.
    pub(crate) fn replace_disk(&mut self, memory: &InMemory) {
        self.mark = memory.mark.clone();
        self.in_memory = true;
        if memory.no_disk.cut_off {
            self.wish(Wishes::kept(&self.config));
        }
    }

    /// Until shut down. What is on air is ended properly first.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut frame = tokio::time::interval(FRAME);
        frame.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut leave_at = None;
        loop {
            let event = self.next_event(&mut frame, &shutdown).await;
            self.handle(event);
            let now = Instant::now();
            if self.broadcast.active() {
                self.on_air_at = Some(now);
            } else if self.shutting_down
                && now >= *leave_at.get_or_insert_with(|| self.leave_at(now))
            {
                break;
            }
        }
        self.sync.shutdown().await;
        self.keeper.shutdown().await;
        if self.in_memory
            && let Err(error) = numbers::keep(&self.config.data_dir, self.publication.numbers())
        {
            tracing::warn!(%error, "the disk may go on with lower numbers");
        }
        tracing::info!("shutting down: capture");
        let media = self.media;
        let media = tokio::task::spawn_blocking(move || media.shutdown());
        if tokio::time::timeout(LAST_WAIT, media).await.is_err() {
            tracing::warn!("the capture device hangs; leaving it");
        }
        anyhow::ensure!(
            !self.broadcast.unclosed(),
            "the broadcast could not be closed: make room on the disk, and the next start closes it"
        );
        Ok(())
    }

    /// Until when who follows may still take the end of what was on air; now, where nobody does.
    fn leave_at(&self, now: Instant) -> Instant {
        let Some(leave_at) = self.on_air_at.map(|at| at + FAREWELL) else {
            return now;
        };
        let record = &self.channels.outside.borrow().record;
        let viewers = self.channels.viewers.now().connections;
        let by_http = (record.http_ms).is_some_and(|ago| u128::from(ago) < RECENT.as_millis());
        if leave_at <= now || (record.listeners == 0 && viewers == 0 && !by_http) {
            return now;
        }
        tracing::info!(
            nodes = record.listeners,
            viewers,
            "the end of the broadcast is served for {:.0?} more",
            leave_at - now
        );
        leave_at
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
            Some(edges) = self.pace.edges(&mut *self.board.buttons) => Event::Buttons(edges),
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
            Event::Opened { attempt, result } => self.opened(attempt, result),
            Event::Answered {
                broadcast,
                closes,
                result,
                files,
            } if broadcast == self.broadcasts => self.answered(closes, result, files),
            // Of a broadcast that is over.
            Event::Answered { .. } => {}
            Event::Command(Command::Start(answer)) => {
                let ending =
                    self.shutting_down || matches!(self.broadcast.state(), State::Stopping { .. });
                // Who has asked may be gone.
                let _ = answer.send(!ending);
                self.start();
            }
            Event::Command(Command::Stop(meant, answer)) => {
                let this = meant.is_none_or(|it| it == self.broadcasts);
                let _ = answer.send(this);
                if this {
                    self.step(BroadcastEvent::Stop);
                }
            }
            Event::Command(Command::Mute(muted)) => {
                self.wish(Wishes {
                    muted,
                    ..self.wishes
                });
            }
            Event::Command(Command::VideoBitrate(video_kbps)) => {
                self.wish(Wishes {
                    video_kbps,
                    ..self.wishes
                });
            }
            Event::Command(Command::Encoder(choice)) => {
                tracing::info!(encoder = %choice.encoder, "encoder");
                self.media.set_encoder(choice);
            }
            Event::Command(Command::Sync(command)) => self.sync(command),
            Event::Buttons(edges) => {
                for edge in edges {
                    // A hold would end the broadcast that has just been resumed.
                    if edge.at < self.ready {
                        continue;
                    }
                    self.panel.touched(edge.at);
                    let gestures = self.gestures.edge(edge);
                    self.gestured(gestures);
                }
                self.show();
            }
            Event::Sampled(sample) => {
                self.panel.sample(sample);
                if sample.room() {
                    self.step(BroadcastEvent::Cleared);
                }
                self.judge_cut_off(sample);
            }
            Event::Tick => {
                let gestures = self.gestures.tick(Instant::now());
                self.gestured(gestures);
                self.step(BroadcastEvent::Tick);
                if self.sync.overdue(Instant::now()) {
                    self.sync(SyncCommand::End);
                }
                self.show();
            }
            Event::Shutdown => {
                self.shutting_down = true;
                tracing::info!("stopping");
                self.step(BroadcastEvent::Stop);
            }
        }
    }

    /// The operator wants to be on air, and that needs no clock.
    fn start(&mut self) {
        if self.shutting_down {
            return;
        }
        self.unsure = None;
        self.step(BroadcastEvent::Start);
    }

    /// Once the clock is set it says whether what goes on was still wanted.
    fn judge_cut_off(&mut self, sample: Sample) {
        let Some(cut) = self.unsure else {
            return;
        };
        let sure = !sample.machine.clock.may_be_wrong();
        let event = match cut.judge(Instant::now(), at_least(), sure) {
            Verdict::Unsure => return,
            Verdict::GoesOn => BroadcastEvent::Resume,
            Verdict::Over => {
                tracing::warn!("the broadcast was cut off too long ago: ending it");
                BroadcastEvent::Stop
            }
        };
        self.unsure = None;
        self.step(event);
    }

    fn wish(&mut self, wishes: Wishes) {
        let before = std::mem::replace(&mut self.wishes, wishes);
        if wishes.muted != before.muted {
            tracing::info!(muted = wishes.muted, "sound");
            self.media.mute(wishes.muted);
            self.panel.mute(wishes.muted);
        }
        let kbps = wishes.video_kbps;
        if kbps != before.video_kbps {
            tracing::info!(kbps, "video bitrate");
            self.media.set_video_bitrate(kbps);
            self.publication.set_video_bitrate(u64::from(kbps) * 1000);
            self.panel.set_video_kbps(kbps);
        }
        self.keeper.keep(Some(wishes));
        self.show();
    }

    fn gestured(&mut self, gestures: Vec<Gesture>) {
        for gesture in gestures {
            match gesture {
                Gesture::Tap(Button::GoLive) => self.start(),
                Gesture::HoldStarted(Button::GoLive) => self.hold_ends = self.broadcast.active(),
                Gesture::Hold(Button::GoLive) if self.hold_ends => self.step(BroadcastEvent::Stop),
                // Somebody who presses long and hard while nothing is on air wants to go live, too.
                Gesture::Hold(Button::GoLive) => self.start(),
                Gesture::Tap(Button::Page) => self.panel.next_page(),
                Gesture::Tap(Button::Mode) if self.panel.page() == Page::Sync => {
                    self.sync(match self.sync.status().press() {
                        SyncPress::Start => SyncCommand::Start,
                        SyncPress::Trim(ms) => SyncCommand::Trim(Some(ms)),
                        SyncPress::End => SyncCommand::End,
                    });
                }
                // Elsewhere MODE is reserved for consent; a hold that has begun shows on the panel by itself.
                Gesture::Tap(Button::Mode) | Gesture::Hold(_) | Gesture::HoldStarted(_) => {}
            }
        }
    }

    fn sync(&mut self, command: SyncCommand) {
        match command {
            SyncCommand::Start => {
                self.sync.start(Instant::now());
                self.panel.open(Page::Sync);
            }
            SyncCommand::End => self.sync.end(),
            // What was measured may be gone since it was asked for.
            SyncCommand::Take => {
                if let Some(ms) = self.sync.status().best_trim() {
                    self.sync.set(Some(ms));
                }
            }
            SyncCommand::Trim(ms) => self.sync.set(ms),
        }
        tracing::info!(?command, trim_ms = self.sync.trim_ms(), "sync");
        self.media.trim(self.sync.trim_ms());
        self.media.observe(self.sync.status().test.is_some());
    }

    fn media_event(&mut self, event: media::Event) {
        let current = self.run.as_ref().map(|run| run.number);
        match event {
            media::Event::Format(_)
            | media::Event::Rate(_)
            | media::Event::Broken(_)
            | media::Event::Levels { .. }
            | media::Event::Signal(_)
            | media::Event::Picture(_)
            | media::Event::Card(_)
            | media::Event::Reviving(_)
            | media::Event::NoSound(_)
            | media::Event::Encoder(_)
            | media::Event::CaptureFailed { .. }
            | media::Event::PicturesDropped(_) => {
                if let media::Event::Card(card) = &event {
                    self.sync.found(&card.name);
                    self.media.trim(self.sync.trim_ms());
                }
                self.panel.media(&event, Instant::now());
            }
            media::Event::Sync(clocks) => self.sync.clocks(clocks),
            media::Event::Observed(observation) => self.sync.observe(&observation),
            media::Event::VideoConfig {
                run,
                rendition,
                config,
            } if Some(run) == current => {
                self.configure_video(rendition, config);
            }
            media::Event::Unplaceable { run } if Some(run) == current => self.dropped_units += 1,
            media::Event::AudioConfig { run, config } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.configure_audio(config, out));
            }
            media::Event::Video {
                run,
                rendition,
                unit,
            } if Some(run) == current => {
                if let Some(run) = &mut self.run
                    && rendition == Rendition::Video
                {
                    run.dates.observe(unit.pts, Instant::now(), wall_now());
                }
                self.cut(|segmenter, out| segmenter.push_video(rendition, unit, out));
            }
            media::Event::Audio { run, frame } if Some(run) == current => {
                self.cut(|segmenter, out| segmenter.push_audio(frame, out));
            }
            media::Event::ProgrammeEnded { run } if Some(run) == current => {
                if let Some(mut run) = self.run.take() {
                    let mut out = Vec::new();
                    if let Err(error) = run.segmenter.finish(&mut out) {
                        tracing::error!(%error, "the last segment is lost");
                    }
                    // Not given to the store yet: the last segment goes with ENDLIST and the VOD playlists.
                    self.push(out, &mut run.dates);
                }
                self.step(BroadcastEvent::Drained);
                self.pump();
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
        let Some(mut run) = self.run.take() else {
            return;
        };
        let mut out = Vec::new();
        let before = run.segmenter.dropped();
        let result = push(&mut run.segmenter, &mut out);
        self.dropped_units += run.segmenter.dropped() - before;
        self.push(out, &mut run.dates);
        self.run = Some(run);
        self.pump();
        if let Err(error) = result {
            tracing::error!(%error, "the encoder's output cannot be cut");
            self.step(BroadcastEvent::Failed(Cause::Encoder(error.to_string())));
        }
    }

    /// Another configuration within a run begins a continuity run; the encoder goes on.
    fn configure_video(&mut self, rendition: Rendition, config: VideoConfig) {
        let changes = |run: &mut Run| run.segmenter.reconfigures(&config);
        let Some(mut run) = self.run.take_if(changes) else {
            return self.cut(|segmenter, out| segmenter.configure_video(rendition, config, out));
        };
        tracing::warn!("the encoder changed its configuration: a new continuity run");
        let (mut ended, mut begun) = (Vec::new(), Vec::new());
        let next = run
            .segmenter
            .reconfigure_video(config, &mut ended, &mut begun);
        self.push(ended, &mut run.dates);
        match next {
            Ok(segmenter) => {
                self.publication.begin_run();
                self.push(begun, &mut run.dates);
                self.run = Some(Run { segmenter, ..run });
            }
            Err(error) => {
                tracing::error!(%error, "the encoder's output cannot be cut");
                self.step(BroadcastEvent::Failed(Cause::Encoder(error.to_string())));
            }
        }
        self.pump();
    }

    fn push(&mut self, outputs: Vec<Output>, dates: &mut ProgramDates) {
        if outputs.is_empty() {
            return;
        }
        for output in outputs {
            self.publication.push(output, |start| dates.date(start));
        }
        self.follow();
    }

    /// Viewers see what has come. All of a push at once, because only then is it certain which part comes next.
    fn follow(&self) {
        let publication = &self.publication;
        (self.channels.live).send_modify(|live| live.follow(publication));
    }

    /// Gives the store the next update if it is idle, or viewers alone if the store takes none.
    fn pump(&mut self) {
        // Until the store has opened the broadcast, or cannot, segments wait.
        if self.publication.storing() && self.id.is_none() {
            return;
        }
        let Some(mut update) = self.publication.next_update() else {
            return;
        };
        if let Some(row) = &mut update.row {
            row.published_ms = at_least().map(unix_ms);
        }
        let id = self.id.filter(|_| update.store);
        let (broadcast, closes) = (self.broadcasts, update.finish);
        let (node, answers) = (self.node.clone(), self.answers.0.clone());
        tokio::spawn(async move {
            let (update, files) = to_node(update).expect("rows are plain data");
            let result = match id {
                Some(id) => node.publish(update.of(id)).await.map(Some),
                None => Ok(None),
            };
            let answer = Event::Answered {
                broadcast,
                closes,
                result,
                files,
            };
            // The loop may have ended; then nobody waits for the answer.
            let _ = answers.send(answer).await;
        });
    }

    fn opened(&mut self, attempt: u64, result: Result<(BroadcastId, Vec<File>), StoreError>) {
        if attempt != self.openings {
            return;
        }
        match result {
            Ok((id, beside)) => {
                self.id = Some(id);
                self.publication.attach(beside);
                if !matches!(
                    self.broadcast.state(),
                    State::Starting { .. } | State::Live { .. } | State::Retrying { .. }
                ) {
                    self.unmark();
                }
                if self.from_memory {
                    let mark = self.mark.clone();
                    tokio::task::spawn_blocking(move || mark.set_from_memory(true));
                }
                self.step(BroadcastEvent::Opened);
                self.pump();
            }
            Err(error) => {
                tracing::error!(%error, "cannot open a broadcast: it goes on air from memory");
                self.publication.keep_in_memory();
                self.mark_memory(true);
                self.step(BroadcastEvent::NotOpened(store_cause(&error)));
                self.pump();
            }
        }
    }

    /// The operator no longer wants to be on air.
    fn unmark(&self) {
        let mark = self.mark.clone();
        tokio::task::spawn_blocking(move || mark.clear());
    }

    /// Segments are published from memory, or stored.
    fn mark_memory(&mut self, from_memory: bool) {
        if std::mem::replace(&mut self.from_memory, from_memory) != from_memory {
            let mark = self.mark.clone();
            tokio::task::spawn_blocking(move || mark.set_from_memory(from_memory));
        }
    }

    fn answered(
        &mut self,
        closes: bool,
        result: Result<Option<Published>, StoreError>,
        files: Option<RecentFiles>,
    ) {
        let root = result.as_ref().ok().and_then(|it| *it).map(|it| it.root);
        let row = match root {
            Some(_) => self.publication.stored(),
            None => self.publication.failed(),
        };
        let publication = &self.publication;
        (self.channels.live).send_modify(|live| live.update(publication, root, files));
        if let Some(row) = &row {
            self.mark_memory(root.is_none());
            self.panel.published(row, Instant::now());
            self.step(BroadcastEvent::Published);
        }
        match result {
            Ok(Some(_)) => self.step(BroadcastEvent::Stored),
            Ok(None) => {}
            Err(error) if closes => {
                tracing::error!(%error, "the broadcast cannot be closed");
                self.step(BroadcastEvent::Failed(store_cause(&error)));
            }
            Err(error) => {
                tracing::error!(%error, "a segment is not recorded: viewers get it from memory");
                self.step(BroadcastEvent::NotStored(store_cause(&error)));
            }
        }
        if let Some(root) = root.filter(|_| self.publication.finished()) {
            self.id = None;
            tracing::info!(%root, "the broadcast is complete");
            self.step(BroadcastEvent::Finished);
        }
        self.pump();
    }

    fn step(&mut self, event: BroadcastEvent) {
        let before = std::mem::discriminant(self.broadcast.state());
        let actions = self.broadcast.step(Instant::now(), event);
        let after = self.broadcast.state();
        if before != std::mem::discriminant(after) {
            tracing::info!(state = panel::state(&self.broadcast).word(), "state");
            if !self.broadcast.active() {
                self.unsure = None;
                self.wish(Wishes::none(&self.config));
            }
        }
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Begin => self.begin(),
            Action::Open => self.open(),
            Action::Store => self.publication.store_again(),
            Action::StartProgramme => {
                self.runs += 1;
                self.publication.begin_run();
                self.follow();
                self.run = Some(Run {
                    number: self.runs,
                    segmenter: Segmenter::new(segmenter_settings(&self.config)),
                    dates: ProgramDates::default(),
                });
                self.media.start_programme(self.runs);
            }
            Action::EndProgramme => {
                self.unmark();
                self.media.end_programme();
            }
            Action::DropProgramme => {
                self.run = None;
                self.publication.end_run();
                self.follow();
                self.media.drop_programme();
            }
            Action::Finish => {
                self.unmark();
                self.publication.finish();
                self.follow();
                self.pump();
            }
            Action::Abandon => {
                self.unmark();
                self.publication.abandon();
                self.follow();
            }
        }
    }

    fn begin(&mut self) {
        // A new card, or one that was emptied: browsers and caches still have what a box at this address has shown before.
        let by_clock = numbers::by_clock(self.publication.numbers());
        if (!by_clock || self.in_memory && self.clock_sure())
            && let Some(now) = wall_now()
        {
            // Here and not at the start: the clock was perhaps behind then.
            self.publication.raise_numbers(numbers::unused(now));
        }
        let first = self.publication.numbers();
        let mut settings = settings(&self.config);
        settings.video.bitrate = u64::from(self.wishes.video_kbps) * 1000;
        self.publication = Publication::new(settings, first);
        self.keeper.keep(Some(self.wishes));
        self.id = None;
        self.since = wall_now();
        self.aired = Duration::ZERO;
        let meta = Meta {
            name: self.config.name.clone(),
            started_ms: self.since.map(unix_ms),
            first,
            format: Format::of(&self.config),
        };
        self.meta = Some(meta);
        self.broadcasts += 1;
        self.open();
    }

    fn open(&mut self) {
        self.openings += 1;
        let attempt = self.openings;
        let Some(meta) = self.meta.clone() else {
            return;
        };
        let (node, answers) = (self.node.clone(), self.answers.0.clone());
        let mark = self.mark.clone();
        tokio::spawn(async move {
            let open = async {
                let id = node.begin(serde_json::to_vec(&meta).expect("plain data"));
                let id = id.await?;
                let _ = tokio::task::spawn_blocking(move || mark.set(id)).await;
                Ok((id, beside(&node, id, &meta).await))
            };
            let result = open.await;
            let _ = answers.send(Event::Opened { attempt, result }).await;
        });
    }

    fn show(&mut self) {
        self.show_at(Instant::now());
    }

    /// Draws the panel, publishes the status and feeds the watchdog. A display that fails is not the stream's business.
    fn show_at(&mut self, now: Instant) {
        let hold = self.gestures.hold_progress(Button::GoLive, now);
        let stats = *self.node.stats().borrow();
        let root = self.channels.live.borrow().root;
        let sent = node::uplink::sent();
        let running = now.saturating_duration_since(self.started);
        let uplink = self.uplink.read(
            running,
            [
                sent.peers,
                sent.viewers,
                self.channels.viewers.neighbours_bytes(),
            ],
        );
        self.panel.traffic(now, uplink, self.channels.viewers.now());
        let outside = self.channels.outside.borrow().clone();
        let mut status = self.panel.status(
            now,
            &self.broadcast,
            panel::Published {
                broadcast: self.broadcasts,
                segments: self.publication.rows().len() as u64 + self.publication.unstored(),
                unstored: self.publication.unstored(),
                dropped_units: self.dropped_units,
                finished: self.publication.finished(),
                aired: self.aired,
                another: outside.record.another_ms.map(Duration::from_millis),
            },
            stats,
            root,
            self.since,
        );
        status.sync = self.sync.status();
        status.outside = outside;
        let trim = self.sync.note();
        (status.hardware).splice(..0, self.board.faults.list().into_iter().chain(trim));
        let waiting = status.segment_age_ms.map(Duration::from_millis);
        if stream::watchdog::alive(&status.state, waiting, self.config.hls.segment())
            && let Some(watchdog) = &mut self.board.watchdog
        {
            watchdog.feed(now);
        }
        let picture = self.panel.draw(&status, hold, now);
        if let Err(error) = self.board.display.show(&picture) {
            tracing::debug!(%error, "display");
        }
        if let Err(error) = self.board.tally.set(self.panel.lit(&status, now)) {
            tracing::debug!(%error, "tally");
        }
        let shown = self.panel.public(&status);
        self.channels.live.send_if_modified(|live| {
            let differs = live.public != shown;
            if differs {
                live.public = shown;
            }
            differs
        });
        self.channels.status.send_replace(status);
    }
}

pub(crate) fn settings(config: &Config) -> publication::Settings {
    let video = |bitrate_kbps, resolution| publication::Video {
        bitrate: u64::from(bitrate_kbps) * 1000,
        picture: Picture {
            resolution,
            frame_rate: f64::from(config.video.fps),
        },
    };
    publication::Settings {
        segment: config.hls.segment(),
        part: config.hls.part(),
        window: (config.hls.window_s * 1000).div_ceil(config.hls.segment_ms) as usize,
        video: video(
            config.video.bitrate_kbps,
            (config.video.width, config.video.height),
        ),
        low: (config.video.low).map(|low| video(low.bitrate_kbps, (low.width, low.height))),
        audio_bitrate: u64::from(config.audio.bitrate_kbps) * 1000,
        inits: Inits::InDirectories,
    }
}

fn segmenter_settings(config: &Config) -> stream::segmenter::Settings {
    stream::segmenter::Settings {
        segment: config.hls.segment(),
        part: config.hls.part(),
        frame: Duration::from_secs(1) / config.video.fps,
        low: config.video.low.is_some(),
    }
}
