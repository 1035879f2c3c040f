//! What the panel knows: it gathers what the parts of the box report and makes the one [`Status`] of it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use cid::Cid;
use stream::broadcast::{Broadcast, Cause, State as BroadcastState};
use stream::encoder::Choice;
use stream::health::{self, Clip, Facts, FullUplink, OneSided, Silence, TurnedAway};
use stream::input::rate_advice;
use stream::picture::{LumaGrid, PictureWatch, Seen};
use stream::publication::Row;
use stream::rate::{self, Oversize, SizeWatch};
use stream::reach::Outside;
use stream::screen::{self, Meters, Picture, View};
use stream::status::{
    Audio, Disk, FLOOR_DBFS, Input, Mode, Network, NoCard, Node, Page, Signal, State, Status, Sync,
    VideoFormat, VideoRendition, Viewers,
};
use stream::uplink::Uplink;

use crate::health::Sample;
use crate::in_memory::NoDisk;
use crate::live::Public;

/// Levels come ten times a second; without any for this long there is no sound.
const SOUND_LOST: Duration = Duration::from_secs(1);

/// Lost pictures count for the health word for this long.
const DROPS_FOR: Duration = Duration::from_secs(10);

/// Another box with the same name is told of for so long after it was heard last: on air it signs every few seconds.
const ANOTHER_FOR: Duration = Duration::from_secs(180);

/// A segment that was larger than promised is shown for this long.
const OVERSIZE_FOR: Duration = Duration::from_secs(30);

/// What does not change while the box runs.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) name: String,
    pub(crate) source: String,
    /// Of the viewers' listener.
    pub(crate) viewer: SocketAddr,
    /// Of the operator's.
    pub(crate) operator: SocketAddr,
    pub(crate) peer_id: String,
    pub(crate) ipns: String,
    pub(crate) segment: Duration,
    /// As configured.
    pub(crate) video_kbps: u32,
    pub(crate) videos: Vec<VideoRendition>,
    pub(crate) encoder: Choice,
    /// Frames per second, as configured.
    pub(crate) fps: u32,
    /// Why the box runs from memory.
    pub(crate) no_disk: Option<NoDisk>,
    /// Whoever watches a simulated box sits before it.
    pub(crate) simulated: bool,
}

/// The broadcast's state as people read it.
pub(crate) fn state(broadcast: &Broadcast) -> State {
    match broadcast.state() {
        BroadcastState::Idle => State::Idle,
        BroadcastState::Starting { .. } => State::Starting,
        BroadcastState::Live { .. } => State::Live,
        BroadcastState::Retrying { cause, .. } => State::Retrying {
            cause: cause.to_string(),
            attempt: broadcast.attempt(),
        },
        BroadcastState::Stopping { .. } => State::Stopping,
    }
}

/// How far the broadcast has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Published {
    /// See [`Status::broadcast`].
    pub(crate) broadcast: u64,
    pub(crate) segments: u64,
    /// See [`Status::unstored`].
    pub(crate) unstored: u64,
    /// See [`Status::dropped_units`].
    pub(crate) dropped_units: u64,
    pub(crate) finished: bool,
    /// How long the broadcast was on air before this process was started.
    pub(crate) aired: Duration,
    /// When another box was heard that signs for the name, too.
    pub(crate) another: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Panel {
    identity: Identity,
    started: Instant,
    sample: Sample,
    /// By which neighbours reach the box. It stays while a cable is out: it will most likely be the same again.
    address: Option<IpAddr>,
    page: Page,
    touched: Instant,
    format: Option<VideoFormat>,
    signal: (Signal, Instant),
    picture: PictureWatch,
    seen: Option<Seen>,
    /// Pictures come from a card, not from a simulated one.
    card: bool,
    /// Pictures a second that a bridge's signal has by its timings.
    timed: Option<f64>,
    /// Pictures a second that the card captures.
    measured: Option<f64>,
    /// How many of a hundred pictures come broken.
    broken: u32,
    /// What could be better about the card.
    advice: Vec<String>,
    /// What is odd about it and is dealt with.
    notes: Vec<String>,
    /// Why there is no card, and what to do.
    no_card: Option<(NoCard, String)>,
    reviving: Option<String>,
    /// Why the card's sound is left out, and what to do.
    no_sound: Option<String>,
    video_kbps: u32,
    sizes: SizeWatch,
    oversize: Option<(Instant, Oversize)>,
    audio: Audio,
    /// When the last levels came.
    heard: Instant,
    meters: Meters,
    silence: Silence,
    one_sided: OneSided,
    clip: Clip,
    drops: VecDeque<(Instant, u64)>,
    published: Option<(Instant, u32)>,
    latency: Option<Duration>,
    uplink: Uplink,
    full_uplink: FullUplink,
    viewers: Viewers,
    turned_away: TurnedAway,
    /// See [`Facts::cut_off`]; until somebody goes live.
    cut_off: bool,
}

impl Panel {
    pub(crate) fn new(identity: Identity, sample: Sample, now: Instant) -> Panel {
        Panel {
            picture: PictureWatch::default(),
            seen: None,
            card: false,
            timed: None,
            measured: None,
            broken: 0,
            advice: Vec::new(),
            notes: Vec::new(),
            no_card: None,
            reviving: None,
            no_sound: None,
            video_kbps: identity.video_kbps,
            sizes: SizeWatch::new(identity.segment, identity.video_kbps),
            oversize: None,
            cut_off: (identity.no_disk.as_ref()).is_some_and(|it| it.cut_off),
            identity,
            started: now,
            sample,
            address: sample.address,
            page: Page::Main,
            touched: now,
            format: None,
            signal: (Signal::None, now),
            audio: Audio {
                peak_dbfs: [FLOOR_DBFS; 2],
                rms_dbfs: [FLOOR_DBFS; 2],
                level_dbfs: [FLOOR_DBFS; 2],
                hold_dbfs: [FLOOR_DBFS; 2],
                silent: false,
                only: None,
                clipping: false,
                muted: false,
            },
            heard: now,
            meters: Meters::default(),
            silence: Silence::default(),
            one_sided: OneSided::default(),
            clip: Clip::default(),
            drops: VecDeque::new(),
            published: None,
            latency: None,
            uplink: Uplink::default(),
            full_uplink: FullUplink::default(),
            viewers: Viewers::default(),
            turned_away: TurnedAway::default(),
        }
    }

    pub(crate) fn touched(&mut self, at: Instant) {
        self.touched = at;
    }

    pub(crate) fn page(&self) -> Page {
        self.page
    }

    pub(crate) fn open(&mut self, page: Page) {
        self.page = page;
    }

    pub(crate) fn next_page(&mut self) {
        self.page = self.page.next();
    }

    pub(crate) fn sample(&mut self, sample: Sample) {
        self.sample = sample;
        let before = self.network();
        self.address = sample.address.or(self.address);
        let network = self.network();
        if network != before {
            let (watch, operate) = (network.watch_url, network.operator_url);
            tracing::info!(watch, operate, "the box has another address");
        }
    }

    /// Addresses as a neighbour on the network types them.
    fn network(&self) -> Network {
        let url = |listener: SocketAddr| {
            let ip = match listener.ip() {
                any if any.is_unspecified() => self.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
                one => one,
            };
            format!("http://{}/", SocketAddr::new(ip, listener.port()))
        };
        let Identity {
            viewer,
            operator,
            simulated,
            ..
        } = self.identity;
        Network {
            watch_url: url(viewer),
            only_here: viewer.ip().is_unspecified() && self.address.is_none() && !simulated,
            operator_url: url(operator),
            operator_open: !operator.ip().is_loopback(),
        }
    }

    pub(crate) fn media(&mut self, event: &media::Event, now: Instant) {
        match event {
            media::Event::Format(format) => self.format = Some(*format),
            media::Event::Rate(rate) => self.measured = Some(*rate),
            media::Event::Broken(share) => self.broken = *share,
            media::Event::Signal(signal) => {
                self.signal = (*signal, now);
                if *signal == Signal::Ok {
                    (self.no_card, self.reviving) = (None, None);
                }
                if *signal != Signal::Ok {
                    // What comes back may be another picture.
                    (self.picture, self.seen) = (PictureWatch::default(), None);
                }
            }
            media::Event::Picture(grid) => self.picture(now, grid.clone()),
            media::Event::Card(card) => {
                // Opened anew it has the same cable, until its new life tells. Another card may have another.
                if self.identity.source != card.name {
                    self.broken = 0;
                }
                self.identity.source.clone_from(&card.name);
                self.advice.clone_from(&card.advice);
                self.notes.clone_from(&card.notes);
                self.timed = (card.bridge.as_ref()).map(|bridge| f64::from(bridge.rate) / 1000.0);
                self.measured = None;
                self.no_card = None;
                self.card = true;
            }
            media::Event::Reviving(step) => self.reviving.clone_from(step),
            media::Event::NoSound(why) => self.no_sound.clone_from(why),
            media::Event::CaptureFailed { why, no_card } => {
                self.advice.clear();
                self.notes.clear();
                self.no_card = no_card.map(|kind| (kind, why.clone()));
            }
            media::Event::Encoder(choice) => self.identity.encoder = *choice,
            media::Event::Levels { peak, rms } => self.levels(now, *peak, *rms),
            media::Event::PicturesDropped(count) => self.drops.push_back((now, *count)),
            _ => {}
        }
    }

    fn picture(&mut self, now: Instant, grid: LumaGrid) {
        // The last picture that came may be told after its loss.
        if self.signal.0 == Signal::Ok {
            let at = now.saturating_duration_since(self.started);
            self.seen = Some(self.picture.push(at, grid));
        }
    }

    /// What the operator has asked for.
    pub(crate) fn mute(&mut self, muted: bool) {
        self.audio.muted = muted;
    }

    /// What the operator has asked for.
    pub(crate) fn set_video_kbps(&mut self, kbps: u32) {
        self.video_kbps = kbps;
        self.sizes.set(kbps);
    }

    fn levels(&mut self, now: Instant, peak: [f32; 2], rms: [f32; 2]) {
        let at = now.saturating_duration_since(self.started);
        self.heard = now;
        self.meters.push(at, peak);
        self.audio = Audio {
            peak_dbfs: peak,
            rms_dbfs: rms,
            // They move between two of these.
            level_dbfs: [FLOOR_DBFS; 2],
            hold_dbfs: [FLOOR_DBFS; 2],
            silent: self.silence.push(at, rms),
            only: self.one_sided.push(at, rms),
            clipping: self.clip.push(at, peak),
            muted: self.audio.muted,
        };
    }

    /// What leaves the box, and for how many.
    pub(crate) fn traffic(&mut self, now: Instant, uplink: Uplink, viewers: Viewers) {
        let at = now.saturating_duration_since(self.started);
        self.full_uplink.push(at, uplink.used_percent);
        self.turned_away.push(at, viewers.refused);
        (self.uplink, self.viewers) = (uplink, viewers);
    }

    /// A segment is out.
    pub(crate) fn published(&mut self, row: &Row, now: Instant) {
        let bits = row.sizes.iter().sum::<u64>() as f64 * 8.0;
        let kbps = bits / row.durations[0].seconds() / 1000.0;
        self.published = Some((now, kbps as u32));
        let at = now.saturating_duration_since(self.started);
        let busy = self.picture.busy(at);
        if let Some(oversize) = self
            .sizes
            .check(row.sizes[0], row.durations[0].duration(), busy)
        {
            let (segment, percent, cause) = (row.media_sequence, oversize.percent, oversize.cause);
            if cause == rate::Cause::Lowered {
                // The operator has asked for it, and it passes.
                tracing::info!(
                    segment,
                    percent,
                    "a segment from before the bitrate was lowered"
                );
            } else {
                tracing::warn!(
                    segment,
                    percent,
                    ?cause,
                    "a segment is larger than promised"
                );
            }
            self.oversize = Some((now, oversize));
        }
        self.latency = row
            .program_date_time_ms
            .map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
            .and_then(|start| SystemTime::now().duration_since(start).ok());
    }

    /// The status before the loop turns.
    pub(crate) fn idle_status(&mut self, now: Instant, store: node::Stats) -> Status {
        let broadcast = Broadcast::new(self.identity.segment);
        self.status(now, &broadcast, Published::default(), store, None, None)
    }

    pub(crate) fn status(
        &mut self,
        now: Instant,
        broadcast: &Broadcast,
        published: Published,
        store: node::Stats,
        root: Option<Cid>,
        since: Option<SystemTime>,
    ) -> Status {
        let since_then = |then: Instant| now.saturating_duration_since(then);
        if since_then(self.heard) > SOUND_LOST {
            // No sound at all is silence, and is to be seen.
            self.levels(now, [FLOOR_DBFS; 2], [FLOOR_DBFS; 2]);
        }
        self.drops.retain(|(at, _)| since_then(*at) < DROPS_FOR);
        let meters = self.meters.read(since_then(self.started));
        self.oversize
            .take_if(|(at, _)| now.saturating_duration_since(*at) >= OVERSIZE_FOR);
        let oversize = self.oversize.map(|(_, oversize)| oversize);
        let mut videos = self.identity.videos.clone();
        if let Some(video) = videos.first_mut() {
            video.bitrate_kbps = self.video_kbps;
        }
        let seen = self.seen.unwrap_or_default();
        let state = state(broadcast);
        let on_air = broadcast
            .on_air()
            .map(|first| published.aired + since_then(first));
        let segment_age = broadcast.waiting_since().map(since_then);
        let disk = Disk {
            // Where the file system does not say, nothing is known to be wrong.
            free_bytes: self.sample.disk_free_bytes.unwrap_or(store.limit_bytes),
            stored_bytes: store.stored_bytes,
            limit_bytes: store.limit_bytes,
            bytes_until_one_goes: store.bytes_until_one_goes,
        };
        let outage = broadcast.outage().map(|outage| outage.cause.clone());
        let disk_fault = (self.identity.no_disk.as_ref()).map(|it| it.fault);
        self.cut_off &= state == State::Idle;
        let machine = self.sample.machine;
        let facts = Facts {
            state: state.clone(),
            signal: self.signal.0,
            signal_for: since_then(self.signal.1),
            no_card: self.no_card.as_ref().map(|(kind, _)| *kind),
            no_sound: self.no_sound.is_some(),
            audio_silent: self.audio.silent,
            audio_only: self.audio.only,
            clipping: self.audio.clipping,
            muted: self.audio.muted,
            black: seen.black,
            frozen: seen.frozen,
            oversize: oversize.map(|oversize| oversize.cause),
            disk,
            outage: outage.clone(),
            disk_fault,
            cut_off: self.cut_off,
            segment_age,
            segment_duration: self.identity.segment,
            dropped_frames: self.drops.iter().map(|(_, count)| count).sum(),
            clock_sane: self.sample.clock_sane,
            clock_may_be_wrong: machine.clock.may_be_wrong(),
            another_box: published.another.is_some_and(|ago| ago < ANOTHER_FOR),
            awaits_clock: matches!(
                broadcast.state(),
                BroadcastState::Retrying {
                    cause: Cause::Clock,
                    ..
                }
            ),
            peers: store.peers,
            network_up: self.sample.address.is_some(),
            temperature_c: machine.temperature_c,
            throttled: machine.throttled,
            undervoltage: machine.undervoltage,
            worn: machine.storage.worn(),
            turned_away: self.turned_away.now(),
            uplink_full: self.full_uplink.now(),
        };
        Status {
            name: self.identity.name.clone(),
            broadcast: published.broadcast,
            on_air_ms: on_air.map(|time| time.as_millis() as u64),
            since: on_air
                .and(since)
                .map(|time| humantime::format_rfc3339_seconds(time).to_string()),
            input: Input {
                signal: self.signal.0,
                source: self.identity.source.clone(),
                format: self.format,
                black: seen.black,
                frozen: seen.frozen,
                luma: self.seen.map(|seen| seen.luma as u8),
                notes: self.notes.clone(),
            },
            // The bars have gone on falling since.
            audio: Audio {
                level_dbfs: meters.map(|meter| meter.level_dbfs),
                hold_dbfs: meters.map(|meter| meter.hold_dbfs),
                ..self.audio
            },
            // The loop knows.
            sync: Sync::default(),
            bitrate_kbps: on_air.and(self.published).map(|(_, kbps)| kbps),
            video_kbps: self.video_kbps,
            encoder: self.identity.encoder,
            oversize,
            videos,
            health: health::assess(&facts),
            network: self.network(),
            node: Node {
                peer_id: self.identity.peer_id.clone(),
                peers: store.peers,
                ipns: self.identity.ipns.clone(),
                root: root.map(|root| root.to_string()),
                root_is_vod: published.finished,
            },
            uplink: self.uplink,
            viewers: self.viewers,
            // The loop knows.
            outside: Outside::default(),
            disk,
            segments: published.segments,
            unstored: published.unstored,
            outage: outage.map(|cause| cause.to_string()),
            disk_fault,
            dropped_units: published.dropped_units,
            segment_age_ms: segment_age.map(|age| age.as_millis() as u64),
            tally: broadcast.tally(),
            mode: Mode::Stream,
            // The board knows of its own parts.
            hardware: self.notes(seen),
            machine,
            page: self.page,
            state,
        }
    }

    /// What is wrong with disk and card, and what to do.
    fn notes(&self, seen: Seen) -> Vec<String> {
        let disk = (self.identity.no_disk.iter()).map(ToString::to_string);
        disk.chain(self.capture_notes(seen)).collect()
    }

    /// What is wrong with the card and its source, or could be better, and what to do.
    fn capture_notes(&self, seen: Seen) -> Vec<String> {
        let format = self
            .format
            .filter(|_| self.card && self.signal.0 == Signal::Ok);
        let rate = format.and_then(|format| {
            let claimed = f64::from(format.fps_num) / f64::from(format.fps_den);
            let claimed = self.timed.unwrap_or(claimed);
            rate_advice(claimed, self.measured, self.identity.fps.into())
        });
        let broken = (format.is_some() && self.broken > 0).then(|| {
            let share = self.broken;
            format!("{share} of 100 pictures come broken: try another cable, or another socket, without a hub")
        });
        // Nothing tells protection from a lens cap.
        let dark = (self.card && seen.black).then(|| {
            "black: if the source's own screen is not, switch off its copy protection (HDCP)"
                .to_owned()
        });
        let mut notes = self.advice.clone();
        notes.extend(self.no_card.iter().map(|(_, why)| why.clone()));
        notes.extend(self.reviving.clone());
        notes.extend(self.no_sound.clone());
        notes.extend(rate);
        notes.extend(broken);
        notes.extend(dark);
        notes
    }

    pub(crate) fn draw(&self, status: &Status, hold: Option<f32>, now: Instant) -> Picture {
        let at = now.saturating_duration_since(self.started);
        let view = View {
            meters: self.meters.read(at),
            hold,
            since_button: now.saturating_duration_since(self.touched),
        };
        screen::draw(status, &view, at)
    }

    /// Whether the tally light shines at this moment.
    pub(crate) fn lit(&self, status: &Status, now: Instant) -> bool {
        screen::tally_lit(status.tally, now.saturating_duration_since(self.started))
    }

    /// What viewers may know.
    pub(crate) fn public(&self, status: &Status) -> Public {
        Public {
            name: status.name.clone(),
            state: status.state.word(),
            live: matches!(
                status.state,
                State::Live | State::Retrying { .. } | State::Stopping
            ) && status.on_air_ms.is_some(),
            since: status.since.clone(),
            title: status.name.clone(),
            latency_ms: status
                .on_air_ms
                .and(self.latency)
                .map(|latency| latency.as_millis() as u64),
            ipns: status.node.ipns.clone(),
            root: status.node.root.clone(),
            root_is_vod: status.node.root_is_vod,
            signal: Some(status.input.signal),
            mirror: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use media::Event;
    use media::cards::{Bridge, Card};

    use super::*;

    const STATS: node::Stats = node::Stats {
        peers: 1,
        stored_bytes: 0,
        limit_bytes: 1 << 30,
        bytes_until_one_goes: None,
    };

    fn panel(fps: u32) -> Panel {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity {
            name: "Panel".into(),
            source: "capture card".into(),
            viewer: ([0, 0, 0, 0], 8080).into(),
            operator: ([127, 0, 0, 1], 8081).into(),
            peer_id: String::new(),
            ipns: String::new(),
            segment: Duration::from_secs(2),
            video_kbps: 3000,
            videos: Vec::new(),
            encoder: Choice::default(),
            fps,
            no_disk: None,
            simulated: false,
        };
        let sample = Sample {
            address: None,
            ..Sample::take(dir.path(), dir.path())
        };
        Panel::new(identity, sample, Instant::now())
    }

    fn card(rate: Option<u32>) -> Event {
        Event::Card(Card {
            name: "Card".into(),
            video: "/dev/video0".into(),
            audio: "hw:0".into(),
            own_sound: true,
            advice: Vec::new(),
            notes: Vec::new(),
            place: None,
            bridge: rate.map(|rate| Bridge {
                device: "/dev/video0".into(),
                width: 1280,
                height: 720,
                rate,
                format: None,
            }),
        })
    }

    fn format(fps: u32) -> Event {
        Event::Format(VideoFormat {
            width: 1280,
            height: 720,
            fps_num: fps,
            fps_den: 1,
        })
    }

    #[test]
    fn the_codes_lead_to_the_address_that_the_box_has_now() {
        let mut panel = panel(30);
        let now = Instant::now();
        let mut check = |address: Option<[u8; 4]>, watch: &str, simulated| {
            panel.identity.simulated = simulated;
            panel.sample(Sample {
                address: address.map(IpAddr::from),
                disk_free_bytes: None,
                ..panel.sample
            });
            let mut status = panel.idle_status(now, STATS);
            assert_eq!(status.network.watch_url, watch);
            let leads_here = watch.contains("127.0.0.1");
            assert_eq!(status.network.only_here, leads_here && !simulated);
            assert_eq!(status.network.operator_url, "http://127.0.0.1:8081/");
            let said = status.health.action.first().map(String::as_str);
            assert_eq!(said == Some("No network"), address.is_none(), "{said:?}");
            [Page::Watch, Page::Sync].map(|page| {
                status.page = page;
                panel.draw(&status, None, now)
            })
        };
        let at_home = check(None, "http://127.0.0.1:8080/", true);
        let booted = check(None, "http://127.0.0.1:8080/", false);
        let first = check(Some([192, 168, 1, 7]), "http://192.168.1.7:8080/", false);
        let then = check(Some([10, 1, 2, 3]), "http://10.1.2.3:8080/", false);
        for page in 0..2 {
            // A code that leads nowhere is none.
            assert_ne!(at_home[page], booted[page]);
            assert_ne!(booted[page], first[page]);
            assert_ne!(first[page], then[page]);
        }
        // The cable is out: who scans the code now has the page when it is in again.
        let out = check(None, "http://10.1.2.3:8080/", false);
        assert_eq!(out[0], then[0]);
    }

    /// The test picture beeps once a second: who looks in between is told of it, too.
    #[test]
    fn the_status_has_the_meters_that_the_panel_draws() {
        let mut panel = panel(30);
        let started = panel.started;
        let mut at = |ms: u64, peak: Option<f32>| {
            let now = started + Duration::from_millis(ms);
            if let Some(peak) = peak {
                let (peak, rms) = ([peak, FLOOR_DBFS], [peak - 3.0, FLOOR_DBFS]);
                panel.media(&Event::Levels { peak, rms }, now);
            }
            let audio = panel.idle_status(now, STATS).audio;
            let read = panel.meters.read(now.saturating_duration_since(started));
            assert_eq!(audio.level_dbfs, read.map(|meter| meter.level_dbfs));
            assert_eq!(audio.hold_dbfs, read.map(|meter| meter.hold_dbfs));
            assert_eq!(audio.hold_dbfs[1], FLOOR_DBFS);
            audio.hold_dbfs[0].round()
        };
        assert_eq!(at(0, None), FLOOR_DBFS);
        assert_eq!(at(1000, Some(-6.0)), -6.0);
        for beep in 1..5 {
            for tenth in 1..10 {
                assert_eq!(at(beep * 1000 + tenth * 100, Some(FLOOR_DBFS)), -6.0);
            }
            assert_eq!(at(beep * 1000 + 1000, Some(-6.0)), -6.0);
        }
        assert_eq!(at(15_000, Some(FLOOR_DBFS)), FLOOR_DBFS);
    }

    /// After this event the first note about the card's pictures begins so.
    #[track_caller]
    fn tells(panel: &mut Panel, event: Event, expected: Option<&str>) {
        panel.media(&event, Instant::now());
        let notes = panel.capture_notes(Seen::default());
        let beginnings = notes.iter().map(|note| note.split(" pictures").next());
        assert_eq!(beginnings.flatten().next(), expected, "{event:?}");
    }

    #[test]
    fn broken_pictures_are_told_while_many_come() {
        let mut panel = panel(30);
        let mut check = |event, expected| tells(&mut panel, event, expected);
        check(card(None), None);
        check(Event::Signal(Signal::Ok), None);
        check(format(30), None);
        check(Event::Broken(12), Some("12 of 100"));
        check(Event::Signal(Signal::Lost), None);
        check(Event::Signal(Signal::Ok), Some("12 of 100"));
        check(Event::Broken(0), None);
        check(Event::Broken(3), Some("3 of 100"));
        // The card opened anew, as the revival of a bad one does again and again, tells nothing else before it has seen enough.
        check(card(None), Some("3 of 100"));
        check(Event::Broken(0), None);
        check(Event::Broken(30), Some("30 of 100"));
        let Event::Card(other) = card(None) else {
            unreachable!()
        };
        let name = "Another".into();
        check(Event::Card(Card { name, ..other }), None);
    }

    #[test]
    fn a_wrong_rate_is_told_while_its_pictures_come() {
        let mut panel = panel(30);
        let mut check = |event, expected| tells(&mut panel, event, expected);
        let slow = Some("the source gives 24");
        check(card(None), None);
        check(Event::Signal(Signal::Ok), None);
        check(format(30), None);
        check(Event::Rate(23.99), slow);
        check(Event::Signal(Signal::Lost), None);
        check(Event::Signal(Signal::Ok), slow);
        check(Event::Rate(30.01), None);
        check(Event::Rate(23.99), slow);
        // Another size is no other rate.
        check(format(30), slow);
        // Another life of the card may have another source.
        check(card(None), None);
        check(format(50), Some("50"));
        // What a bridge's timings say counts, and not what its driver calls it; what is measured goes before both.
        check(card(Some(24_000)), slow);
        check(format(30), slow);
        check(Event::Rate(30.02), None);
        check(card(Some(59_940)), None);
    }
}
