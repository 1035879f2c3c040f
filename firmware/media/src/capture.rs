//! Capture: one pipeline from the card to raw pictures and samples, on one clock, rebuilt whenever it breaks.

mod probes;
mod sound;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use gst::prelude::*;
use stream::input::NotFound;
use stream::status::{FLOOR_DBFS, NoCard};
use tokio::sync::mpsc;

use crate::cards::{Card, Finder, Ladder, Revival};
use crate::closing::Closing;
use crate::conductor::Input;
use crate::jpeg;
use crate::matrix::{Matrix, Wanted};
use crate::timecode;
use crate::{Config, Event, Source, StartError};
use probes::{Raw, count_coded, leave_out_broken, leave_out_old_sound, measure_rate, watch_format};
use sound::Try;
use source::{description, settle_picture, settle_sound};

/// Between two lives of the pipeline. It does not grow: a card that is plugged in again has to be on air within a second.
const RETRY: Duration = Duration::from_millis(250);
/// A capture that fails for the same reason again is said again after this.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// How often a bridge is asked what comes in. Its driver may announce a change by an event on one of its two devices, or on none;
/// asking works with all of them, and pictures that do not come are slate before that.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A card whose sound has stopped for this long although its pictures come is opened again. One that has none from the start is left as
/// it is: its source may send none.
const MUTE: Duration = Duration::from_secs(4);
/// How often the loop looks at `stop` and at the stall clock.
const POLL: Duration = Duration::from_millis(100);
/// A driver that does not let go of the lives before for this long hangs.
const HANGS: Duration = Duration::from_secs(4);
/// A clip that shows nothing within this time is broken.
const PREROLL: Duration = Duration::from_secs(20);

/// What is wanted of a capture, and where it hands what it has.
#[derive(Debug, Clone, Copy)]
struct Outlet<'a> {
    wanted: &'a Wanted,
    inputs: &'a SyncSender<Input>,
    events: &'a mpsc::Sender<Event>,
    closing: &'a Closing,
}

/// What one life of the pipeline leaves to the next.
#[derive(Debug)]
struct Past {
    ladder: Ladder,
    decoder: jpeg::Faults,
    /// The card was not to be had: nothing is said of it before it gives a picture.
    refused: bool,
    /// One at a time, also where it hangs.
    sound: Option<Try>,
    /// What the loop was too busy to hear yet.
    untold: Option<Card>,
}

impl Past {
    fn tell(&mut self, events: &mpsc::Sender<Event>) {
        if let Some(card) = self.untold.take()
            && events.try_send(Event::Card(card.clone())).is_err()
        {
            self.untold = Some(card);
        }
    }
}

/// Captures until `stop`, however often the pipeline breaks.
pub(crate) fn run(
    config: &Config,
    wanted: &Wanted,
    inputs: &SyncSender<Input>,
    events: &mpsc::Sender<Event>,
    stop: &AtomicBool,
) {
    let closing = Closing::default();
    let outlet = Outlet {
        wanted,
        inputs,
        events,
        closing: &closing,
    };
    let mut generation = 0;
    let mut past = Past {
        ladder: Ladder::new(Instant::now()),
        decoder: jpeg::Faults::default(),
        refused: false,
        sound: None,
        untold: None,
    };
    let mut hangs: Option<Instant> = None;
    let mut said: Option<((String, Option<NoCard>), Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        generation += 1;
        let card = match &config.source {
            Source::Card(finder) => finder.find().map(Some).map_err(End::NoCard),
            _ => Ok(None),
        };
        let life = match &card {
            Ok(_) if closing.is_full() => Err(End::Hangs),
            Ok(card) => {
                let ours = closing.is_under_way();
                let life = run_once(config, card.as_ref(), generation, &mut past, outlet, stop);
                life.map_err(|end| match end {
                    // It is this box that has it, and does not let go.
                    End::Refused(Refusal::Busy) if ours => End::Hangs,
                    end => end,
                })
            }
            Err(end) => Err(end.clone()),
        };
        let Err(end) = life else {
            return;
        };
        let now = Instant::now();
        let mut news = true;
        past.refused = matches!(end, End::Refused(_) | End::Hangs);
        if past.refused || card.is_err() {
            past.untold = None;
        }
        hangs = matches!(end, End::Hangs).then(|| hangs.unwrap_or(now));
        match (&config.source, &card) {
            (Source::Card(_), Err(_)) => {
                news = past.ladder.gone(now);
                if news {
                    let _ = events.try_send(Event::Reviving(None));
                    let _ = events.try_send(Event::NoSound(None));
                    past.sound = None;
                }
            }
            (Source::Card(finder), Ok(Some(card))) => match &end {
                End::Refused(_) | End::SoundIsBack => {}
                End::NoSound { .. } => {
                    news = past.ladder.sound.is_left_out();
                    if news {
                        let _ = events.try_send(Event::NoSound(Some(end.why())));
                    } else {
                        tracing::info!(why = end.why(), "sound that had lasted; opening it again");
                    }
                }
                End::DeadSound => {
                    past.ladder.enumerated();
                    past.sound = None;
                    if !revive(finder, card, Some(Revival::Reauthorise), "sound", events) {
                        past.ladder.sound.give_up();
                    }
                }
                End::Hangs => {
                    // Taking it away may make its driver let go.
                    news = hangs.is_some_and(|since| now.duration_since(since) > HANGS);
                    if let Some(step @ Some(_)) = past.ladder.step(now) {
                        revive(finder, card, step, "pictures", events);
                    }
                }
                _ => {
                    if let Some(step) = past.ladder.step(now) {
                        revive(finder, card, step, "pictures", events);
                    }
                }
            },
            // What is no card is opened again all the same, ever more rarely.
            _ => drop(past.ladder.step(now)),
        }
        let what = (end.why(), end.no_card());
        let again =
            (said.as_ref()).is_some_and(|(before, at)| *before == what && at.elapsed() < SAY_AGAIN);
        if news && !again {
            let (why, no_card) = what.clone();
            tracing::warn!(%why, "capture failed; trying again until it works");
            said = Some((what, now));
            let _ = events.try_send(Event::CaptureFailed { why, no_card });
        }
        let until = Instant::now() + RETRY;
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(POLL.min(RETRY));
        }
    }
}

/// Why a life of the pipeline ended.
#[derive(Debug, Clone)]
enum End {
    NoCard(NotFound),
    Broken(String),
    /// Its pictures are not to be had, and nothing that is done to the card changes that.
    Refused(Refusal),
    /// Its sound cannot be captured.
    NoSound {
        why: String,
        /// Nothing that is done to the card changes that.
        refused: bool,
    },
    /// Sound that was left out can be captured.
    SoundIsBack,
    /// Sound that is left out does not come back by itself.
    DeadSound,
    /// No pictures for so long, although nothing broke.
    Silent(Duration),
    /// The sound has stopped, and the pictures have not.
    Mute,
    /// The hardware's decoder of JPEG failed, or was given pictures and gave none.
    Decoder,
    /// The driver does not let go of earlier lives.
    Hangs,
}

impl End {
    fn why(&self) -> String {
        match self {
            End::NoCard(NotFound { why, .. }) | End::Broken(why) => why.clone(),
            End::Refused(refusal) => refusal.to_string(),
            End::NoSound { why, .. } => format!("no sound: {why}"),
            End::SoundIsBack => "the sound that was left out comes again".into(),
            End::DeadSound => "the sound does not come back by itself".into(),
            End::Silent(patience) => format!("no picture for {} s", patience.as_secs()),
            End::Mute => "the sound has stopped, and pictures come".into(),
            End::Decoder => {
                "the hardware's JPEG decoder gives nothing: in software from now on".into()
            }
            End::Hangs => {
                "the card's driver hangs: pull the card out and put it in again, or restart the machine".into()
            }
        }
    }

    fn no_card(&self) -> Option<NoCard> {
        match self {
            End::NoCard(not_found) => Some(not_found.kind),
            End::Refused(_) | End::Hangs => Some(NoCard::Refused),
            _ => None,
        }
    }
}

impl From<String> for End {
    fn from(why: String) -> End {
        End::Broken(why)
    }
}

impl From<&str> for End {
    fn from(why: &str) -> End {
        End::Broken(why.into())
    }
}

impl From<&gst::message::Error> for End {
    fn from(error: &gst::message::Error) -> End {
        let source = error.src().and_then(|it| it.downcast_ref::<gst::Element>());
        let refusal = Refusal::of(&error.error(), error.debug().as_deref());
        match (source, refusal) {
            (Some(element), _) if jpeg::is_hardware(element) => End::Decoder,
            (Some(element), _) if element.name() == "sound" => End::NoSound {
                why: refusal.map_or_else(|| describe(error), |refusal| refusal.to_string()),
                refused: refusal.is_some(),
            },
            (Some(element), Some(refusal)) if element.name() == "card" => End::Refused(refusal),
            _ => End::Broken(describe(error)),
        }
    }
}

/// Why a device that works is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("another program uses the card: close it")]
    Busy,
    #[error(
        "this user may not open the card: add it to the groups video and audio, then restart the box"
    )]
    Forbidden,
}

impl Refusal {
    fn of(error: &gst::glib::Error, debug: Option<&str>) -> Option<Refusal> {
        // Elements have a code for the one, and only the system's words for the other (EACCES).
        if error.matches(gst::ResourceError::Busy) {
            return Some(Refusal::Busy);
        }
        let forbidden = debug.is_some_and(|debug| debug.contains("Permission denied"));
        forbidden.then_some(Refusal::Forbidden)
    }
}

/// Takes the next step on a card that is there and gives no pictures, or no sound. Whether that is possible.
fn revive(
    finder: &Finder,
    card: &Card,
    step: Option<Revival>,
    what: &str,
    events: &mpsc::Sender<Event>,
) -> bool {
    let doing = step.map_or("opening it again".into(), |step| step.to_string());
    let name = &card.name;
    tracing::warn!(card = name, "no {what}, although it is there; {doing}");
    let note = format!("{name} gives no {what}; {doing}");
    let _ = events.try_send(Event::Reviving(Some(note)));
    if let Some(step) = step
        && let Err(why) = finder.revive(card, step)
    {
        tracing::warn!(card = name, %why, "that is not possible");
        let note = format!("{name} gives no {what}; {doing} is not possible: {why}");
        let _ = events.try_send(Event::Reviving(Some(note)));
        return false;
    }
    true
}

/// One life of the pipeline. `Ok` is the wish to stop, `Err` says why it broke.
fn run_once(
    config: &Config,
    card: Option<&Card>,
    generation: u64,
    past: &mut Past,
    outlet: Outlet<'_>,
    stop: &AtomicBool,
) -> Result<(), End> {
    if let Some(card) = card
        && !past.refused
    {
        past.untold = Some(card.clone());
    }
    past.tell(outlet.events);
    let began = Instant::now();
    let sound = !past.ladder.sound.is_left_out();
    let capture = Capture::build(config, card.map(|card| (card, sound)), generation, outlet)?;
    let life = play(&capture, config, card, past, outlet, stop);
    let pictures = capture.counts.pictures.load(Ordering::Relaxed);
    let now = Instant::now();
    let life = life.map_err(|end| match end {
        // The driver may take a picture or two before it holds up whoever has more.
        End::Silent(_) if capture.counts.swallowed() && jpeg::in_hardware(&capture.pipeline) => {
            End::Decoder
        }
        // What it was given may be to blame.
        End::Decoder if pictures > 0 && past.decoder.forgives(now) => {
            End::Broken("the hardware's JPEG decoder failed".into())
        }
        end => end,
    });
    match life {
        Err(End::Decoder) => jpeg::give_up_hardware(),
        Err(End::NoSound { .. }) if sound => past.ladder.sound.failed(began, now),
        _ => {}
    }
    life
}

fn play(
    capture: &Capture,
    config: &Config,
    card: Option<&Card>,
    past: &mut Past,
    outlet: Outlet<'_>,
    stop: &AtomicBool,
) -> Result<(), End> {
    let Outlet {
        events, closing, ..
    } = outlet;
    let bus = capture.pipeline.bus().ok_or("the pipeline has no bus")?;
    let looped = matches!(config.source, Source::File(_));
    if looped {
        capture.start_loop(&bus)?;
    } else {
        capture.play()?;
    }
    if let Source::Signal(signal) = &config.source {
        signal.open(&capture.pipeline)?;
    }
    let counts = &capture.counts;
    let mut seen = (0, Instant::now());
    let mut heard = (0, Instant::now());
    let mut asked = Instant::now();
    // What the loop has not heard yet, it is told with the next sound.
    let mut heard_of = false;
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        past.tell(events);
        let (ladder, sound) = (&mut past.ladder, &mut past.sound);
        let pictures = counts.pictures.load(Ordering::Relaxed);
        if pictures != seen.0 {
            if seen.0 == 0
                && let Some(card) = card
            {
                let _ = events.try_send(Event::Reviving(None));
                if past.refused {
                    past.untold = Some(card.clone());
                }
            }
            seen = (pictures, now);
            ladder.alive(now);
        } else if now.saturating_duration_since(seen.1) > ladder.patience() {
            return Err(End::Silent(ladder.patience()));
        }
        let sounds = counts.sounds.load(Ordering::Relaxed);
        if sounds != heard.0 {
            if !heard_of && card.is_some() {
                heard_of = events.try_send(Event::NoSound(None)).is_ok();
            }
            heard = (sounds, now);
        } else if card.is_some()
            && sounds > 0
            && now.saturating_duration_since(heard.1) > MUTE
            && seen.1 > heard.1 + MUTE / 2
            && ladder.mute(now)
        {
            return Err(End::Mute);
        }
        if let (Source::Card(finder), Some(card)) = (&config.source, card) {
            if asked.elapsed() > ASK_AGAIN {
                if let Some(why) = finder.changed(card) {
                    return Err(why.into());
                }
                asked = Instant::now();
            }
            match sound.as_ref().map(Try::result) {
                None if ladder.sound.is_due(now) => {
                    *sound = Some(Try::begin(&card.audio, closing));
                }
                None | Some(None) => {}
                Some(Some(Ok(()))) => {
                    *sound = None;
                    ladder.sound.is_back();
                    return Err(End::SoundIsBack);
                }
                Some(Some(Err(end))) => {
                    *sound = None;
                    let _ = events.try_send(Event::NoSound(Some(end.why())));
                    let refused =
                        !card.own_sound || matches!(end, End::NoSound { refused: true, .. });
                    if ladder.sound.tried_in_vain(refused, now) {
                        return Err(End::DeadSound);
                    }
                }
            }
        }
        let timeout = gst::ClockTime::try_from(POLL).unwrap_or(gst::ClockTime::SECOND);
        let Some(message) = bus.timed_pop(timeout) else {
            continue;
        };
        match message.view() {
            gst::MessageView::Error(error) => return Err(error.into()),
            gst::MessageView::Eos(_) => return Err("the input ended".into()),
            gst::MessageView::SegmentDone(_) => capture.seek_to_start(gst::SeekFlags::SEGMENT)?,
            gst::MessageView::Element(element) => {
                if let Some(levels) = element.structure().and_then(levels) {
                    // Levels are shown, not kept: if the loop is busy the next ones do.
                    let _ = events.try_send(levels);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A short reason for people, from GStreamer's error.
pub(crate) fn describe(error: &gst::message::Error) -> String {
    let source = error.src().map(|src| src.name().to_string());
    let text = error.error().message().to_owned();
    match source {
        Some(source) => format!("{text} ({source})"),
        None => text,
    }
}

struct Capture {
    pipeline: gst::Pipeline,
    counts: Arc<Counts>,
    closing: Closing,
}

/// What one life of the pipeline has had.
#[derive(Debug, Default)]
struct Counts {
    /// Buffers that went into the decoder.
    coded: AtomicU64,
    /// Pictures that came out at the end.
    pictures: AtomicU64,
    /// Buffers of sound that did.
    sounds: AtomicU64,
}

impl Counts {
    /// The decoder has taken something and given nothing.
    fn swallowed(&self) -> bool {
        self.coded.load(Ordering::Relaxed) > 0 && self.pictures.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.closing.close(&self.pipeline);
    }
}

impl Capture {
    fn build(
        config: &Config,
        // And whether with its sound.
        card: Option<(&Card, bool)>,
        generation: u64,
        Outlet {
            wanted,
            inputs,
            events,
            closing,
        }: Outlet<'_>,
    ) -> Result<Capture, String> {
        let sound = card.is_none_or(|(_, sound)| sound);
        // Whatever happens from here on, it is taken down.
        let capture = Capture {
            pipeline: launch(&description(config, sound))?,
            counts: Arc::default(),
            closing: closing.clone(),
        };
        let pipeline = &capture.pipeline;
        match &config.source {
            Source::Test => {
                timecode::stamp(&element(pipeline, "stamp")?)?;
            }
            Source::Signal(_) | Source::Card(_) => {}
            Source::File(path) => set(pipeline, "file", "location", &path.to_string_lossy())?,
        }
        if let Some((card, sound)) = card {
            settle_picture(pipeline, config, card)?;
            measure_rate(pipeline, events)?;
            leave_out_broken(pipeline, events)?;
            if sound {
                settle_sound(pipeline, card)?;
                leave_out_old_sound(pipeline)?;
            }
        }
        if let Some(decode) = pipeline.by_name("decode") {
            link_when_known(&decode, pipeline);
            count_coded(&decode, &capture.counts)?;
        }
        let raw = Raw::new(pipeline, config, wanted)?;
        watch_format(pipeline, &raw, events)?;
        connect_video(pipeline, raw, generation, inputs, &capture.counts)?;
        if sound {
            connect_audio(pipeline, generation, inputs, &capture.counts)?;
        }
        Ok(capture)
    }

    fn play(&self) -> Result<(), End> {
        self.pipeline
            .set_state(gst::State::Playing)
            .map(|_| ())
            .map_err(|_| self.why("the input cannot be opened"))
    }

    /// Prerolls, then plays as a segment: at its end the bus says `SegmentDone` instead of the pipeline ending.
    fn start_loop(&self, bus: &gst::Bus) -> Result<(), End> {
        self.pipeline
            .set_state(gst::State::Paused)
            .map_err(|_| self.why("the clip cannot be opened"))?;
        let kinds = [gst::MessageType::AsyncDone, gst::MessageType::Error];
        let preroll = gst::ClockTime::try_from(PREROLL).unwrap_or(gst::ClockTime::SECOND);
        match bus.timed_pop_filtered(preroll, &kinds) {
            Some(message) => {
                if let gst::MessageView::Error(error) = message.view() {
                    return Err(error.into());
                }
            }
            None => return Err(End::Silent(PREROLL)),
        }
        self.seek_to_start(gst::SeekFlags::FLUSH | gst::SeekFlags::SEGMENT)?;
        self.play()
    }

    fn seek_to_start(&self, flags: gst::SeekFlags) -> Result<(), String> {
        self.pipeline
            .seek_simple(flags, gst::ClockTime::ZERO)
            .map_err(|_| "the clip cannot be played in a loop".into())
    }

    /// What the bus has to say about a failed change of state, or else this.
    fn why(&self, otherwise: &str) -> End {
        let kinds = [gst::MessageType::Error];
        let message = self.pipeline.bus().and_then(|bus| bus.pop_filtered(&kinds));
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Error(error)) => error.into(),
            _ => otherwise.into(),
        }
    }
}

pub(crate) fn launch(description: &str) -> Result<gst::Pipeline, String> {
    gst::parse::launch(description)
        .map_err(|error| error.message().to_owned())?
        .downcast()
        .map_err(|_| "not a pipeline".to_owned())
}

fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element, String> {
    pipeline
        .by_name(name)
        .ok_or_else(|| format!("element {name} is missing"))
}

fn set(pipeline: &gst::Pipeline, name: &str, property: &str, value: &str) -> Result<(), String> {
    element(pipeline, name)?.set_property(property, value);
    Ok(())
}

/// `decodebin` knows its streams only when it has seen them: the first of each kind is ours. A clip without sound leaves the
/// audio branch without data, which must not hold up the preroll, so it is taken out.
fn link_when_known(decode: &gst::Element, pipeline: &gst::Pipeline) {
    let weak = pipeline.downgrade();
    decode.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
        let kind = caps
            .structure(0)
            .map_or("", |structure| structure.name().as_str());
        let target = match kind.split('/').next() {
            Some("video") => "video-in",
            Some("audio") => "audio-in",
            _ => return,
        };
        if let Some(sink) = pipeline
            .by_name(target)
            .and_then(|queue| queue.static_pad("sink"))
            .filter(|sink| !sink.is_linked())
        {
            let _ = pad.link(&sink);
        }
    });
    let weak = pipeline.downgrade();
    decode.connect_no_more_pads(move |_| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let Some(queue) = pipeline.by_name("audio-in") else {
            return;
        };
        if queue
            .static_pad("sink")
            .is_some_and(|sink| !sink.is_linked())
        {
            let mut next = Some(queue);
            while let Some(element) = next {
                next = element
                    .static_pad("src")
                    .and_then(|pad| pad.peer())
                    .and_then(|peer| peer.parent_element());
                element.set_locked_state(true);
                let _ = element.set_state(gst::State::Null);
                let _ = pipeline.remove(&element);
            }
        }
    });
}

fn app_sink(pipeline: &gst::Pipeline, name: &str) -> Result<gst_app::AppSink, String> {
    pipeline
        .by_name(name)
        .and_then(|sink| sink.downcast().ok())
        .ok_or_else(|| format!("no appsink {name}"))
}

/// A sample's buffer and its running time: the timestamps of both media on the pipeline's clock.
fn timed(sample: &gst::Sample) -> Option<(Duration, gst::Buffer)> {
    let buffer = sample.buffer_owned()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let pts = segment.to_running_time(buffer.pts()?)?;
    Some((pts.into(), buffer))
}

/// Hands an input to the conductor; one that is full loses it, one that is gone ends the stream.
fn hand(inputs: &SyncSender<Input>, input: Input) -> Result<gst::FlowSuccess, gst::FlowError> {
    match inputs.try_send(input) {
        Ok(()) | Err(TrySendError::Full(_)) => Ok(gst::FlowSuccess::Ok),
        Err(TrySendError::Disconnected(_)) => Err(gst::FlowError::Eos),
    }
}

fn connect_video(
    pipeline: &gst::Pipeline,
    raw: Raw,
    generation: u64,
    inputs: &SyncSender<Input>,
    counts: &Arc<Counts>,
) -> Result<(), String> {
    let (inputs, counts) = (inputs.clone(), counts.clone());
    app_sink(pipeline, "video")?.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                counts.pictures.fetch_add(1, Ordering::Relaxed);
                let Some((pts, buffer)) = timed(&sample) else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                let matrix = sample.caps().map(Matrix::of).unwrap_or_default();
                if let Some(wanted) = raw.wanted.get().filter(|wanted| *wanted != matrix) {
                    raw.set(wanted);
                }
                hand(
                    &inputs,
                    Input::Video {
                        generation,
                        pts,
                        matrix,
                        buffer,
                    },
                )
            })
            .build(),
    );
    Ok(())
}

fn connect_audio(
    pipeline: &gst::Pipeline,
    generation: u64,
    inputs: &SyncSender<Input>,
    counts: &Arc<Counts>,
) -> Result<(), String> {
    let (inputs, counts) = (inputs.clone(), counts.clone());
    app_sink(pipeline, "audio")?.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                counts.sounds.fetch_add(1, Ordering::Relaxed);
                let Some((pts, buffer)) = timed(&sample) else {
                    return Ok(gst::FlowSuccess::Ok);
                };
                hand(
                    &inputs,
                    Input::Audio {
                        generation,
                        pts,
                        buffer,
                    },
                )
            })
            .build(),
    );
    Ok(())
}

/// Reads the `level` element's message. Silence is minus infinity there.
fn levels(structure: &gst::StructureRef) -> Option<Event> {
    if structure.name() != "level" {
        return None;
    }
    let read = |field: &str| -> Option<[f32; 2]> {
        let values = structure.get::<gst::glib::ValueArray>(field).ok()?;
        let value = |i: usize| {
            let value = values.get(i).or_else(|| values.first())?;
            let level = value.get::<f64>().ok()? as f32;
            Some(if level.is_nan() {
                FLOOR_DBFS
            } else {
                level.clamp(FLOOR_DBFS, 0.0)
            })
        };
        Some([value(0)?, value(1)?])
    };
    Some(Event::Levels {
        peak: read("peak")?,
        rms: read("rms")?,
    })
}

/// Plays the clip's first picture, so that a missing or broken one is named at the start and not on air.
pub(crate) fn check_clip(path: &Path) -> Result<(), StartError> {
    let broken = |why: String| StartError::Clip {
        path: path.into(),
        why,
    };
    std::fs::File::open(path).map_err(|error| broken(error.to_string()))?;
    let pipeline =
        launch("filesrc name=file ! decodebin name=decode queue name=video-in ! fakesink")
            .map_err(broken)?;
    let result = (|| {
        set(&pipeline, "file", "location", &path.to_string_lossy())?;
        let decode = pipeline.by_name("decode").ok_or("no decoder")?;
        link_when_known(&decode, &pipeline);
        preroll(&pipeline)
    })();
    result.map_err(broken)
}

/// Plays a file until its first picture is there, and ends.
pub(crate) fn preroll(pipeline: &gst::Pipeline) -> Result<(), String> {
    let bus = pipeline.bus().ok_or("no bus")?;
    let _ = pipeline.set_state(gst::State::Paused);
    let kinds = [
        gst::MessageType::AsyncDone,
        gst::MessageType::Error,
        gst::MessageType::Eos,
    ];
    let patience = gst::ClockTime::try_from(PREROLL).unwrap_or(gst::ClockTime::SECOND);
    let result = match bus.timed_pop_filtered(patience, &kinds) {
        Some(message) => match message.view() {
            gst::MessageView::AsyncDone(_) => Ok(()),
            gst::MessageView::Error(error) => Err(describe(error)),
            _ => Err("it has no picture".to_owned()),
        },
        None => Err("it shows no picture".to_owned()),
    };
    let _ = pipeline.set_state(gst::State::Null);
    result
}

#[cfg(test)]
pub(crate) mod tests;
