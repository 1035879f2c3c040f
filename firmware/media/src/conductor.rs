//! The conductor: a thread that places what the capture delivers on the programme's timeline. Decisions are
//! [`stream::timeline`]'s; here they are carried out on buffers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use stream::clock::SampleClock;
use stream::encoder::{Choice, Encoder, Preset, Reason};
use stream::media::{Rendition, SAMPLE_RATE};
use stream::mute::Mute;
use stream::status::Signal;
use stream::stuck::StuckWatch;
use stream::timeline::{self, Arrival, AudioPlacement, Shown, Timeline, Trim, VideoPlacement};
use tokio::sync::mpsc;

use crate::matrix::{Matrix, Wanted};
use crate::observer::Observer;
use crate::picture::luma_grid;
use crate::programme::Programme;
use crate::{CONDUCTOR_QUEUE, Config, Control, Event, Sync};

/// How often missing input is looked for.
const TICK: Duration = Duration::from_millis(10);

/// Bytes of one sample of both channels, S16LE.
pub(crate) const SAMPLE_BYTES: usize = 4;

/// How often lost pictures and the clocks are reported.
const REPORT: Duration = Duration::from_secs(1);

/// How often the picture is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// After a hardware that gives nothing.
const FALLBACK: Choice = Choice {
    encoder: Encoder::X264enc(Preset::Superfast),
    reason: Reason::Fallback,
};

#[derive(Debug)]
pub(crate) enum Input {
    Video {
        generation: u64,
        pts: Duration,
        matrix: Matrix,
        buffer: gst::Buffer,
    },
    Audio {
        generation: u64,
        pts: Duration,
        buffer: gst::Buffer,
    },
}

pub(crate) struct Conductor {
    config: Config,
    slate: gst::Buffer,
    control: Sender<Control>,
    events: mpsc::Sender<Event>,
    programme: Option<(Programme, Timeline)>,
    mute: Mute,
    /// The last programme was stuck before all its encoders had made a picture.
    barren: bool,
    /// Of the programme's encoders.
    stuck: [StuckWatch; Rendition::ALL.len()],
    ticked: Instant,
    /// How the pictures lie in memory.
    info: gst_video::VideoInfo,
    looked: Option<Instant>,
    /// Of the last picture.
    matrix: Matrix,
    wanted: Wanted,
    /// The last picture that was placed.
    shown: Option<gst::Buffer>,
    /// A programme that plays out what it has.
    ending: Option<Programme>,
    generation: u64,
    signal: Signal,
    /// What the loop has not heard yet.
    news: Option<Choice>,
    /// Of pictures at the input, on air or not; there is none before the first.
    arrival: Option<Arrival>,
    dropped: u64,
    reported: Instant,
    trim: Trim,
    /// Of this capture.
    clock: SampleClock,
    /// While the self-test runs.
    observer: Option<Observer>,
}

impl Conductor {
    pub(crate) fn new(
        config: Config,
        slate: gst::Buffer,
        info: gst_video::VideoInfo,
        wanted: Wanted,
        control: Sender<Control>,
        events: mpsc::Sender<Event>,
    ) -> Conductor {
        Conductor {
            trim: Trim::new(config.av_offset_ms),
            news: Some(config.encoder),
            config,
            slate,
            info,
            looked: None,
            matrix: Matrix::default(),
            wanted,
            mute: Mute::default(),
            barren: false,
            stuck: [StuckWatch::new(false); Rendition::ALL.len()],
            ticked: Instant::now(),
            control,
            events,
            programme: None,
            shown: None,
            ending: None,
            generation: 0,
            signal: Signal::None,
            arrival: None,
            dropped: 0,
            reported: Instant::now(),
            clock: SampleClock::default(),
            observer: None,
        }
    }

    /// Until `stop`. Commands have a queue of their own, without a bound: whoever gives one must not wait for a driver that holds
    /// up the conductor while the capture fills the other.
    pub(crate) fn run(
        mut self,
        commands: &Receiver<Control>,
        inputs: &Receiver<Input>,
        stop: &AtomicBool,
    ) {
        let mut next_tick = Instant::now() + TICK;
        while !stop.load(Ordering::Relaxed) {
            for command in commands.try_iter() {
                let waiting = inputs.try_iter().take(CONDUCTOR_QUEUE);
                match command {
                    // From before the programme.
                    Control::Start { .. } => {
                        self.obey(command);
                        waiting.for_each(drop);
                    }
                    // Of the programme.
                    Control::End => {
                        waiting.for_each(|input| self.input(input));
                        self.obey(command);
                    }
                    command => self.obey(command),
                }
            }
            let wait = next_tick.saturating_duration_since(Instant::now());
            match inputs.recv_timeout(wait) {
                Ok(input) => self.input(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.tick(now);
            }
        }
    }

    fn input(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Video {
                generation,
                pts,
                matrix,
                buffer,
            } => {
                if self.accept(generation) {
                    self.matrix = matrix;
                    self.video(now, pts, buffer);
                }
            }
            Input::Audio {
                generation,
                pts,
                buffer,
            } => {
                if self.accept(generation) {
                    self.audio(now, pts, buffer);
                }
            }
        }
    }

    fn obey(&mut self, command: Control) {
        match command {
            Control::Start { run } => self.start(run, Instant::now),
            Control::End => {
                if let Some((programme, _)) = self.programme.take() {
                    programme.end();
                    self.ending = Some(programme);
                }
            }
            Control::Drop => {
                self.programme = None;
                self.ending = None;
            }
            Control::Mute(muted) => self.mute.set(muted),
            Control::VideoBitrate { kbps } => {
                self.config.video_bitrate_kbps = kbps;
                if let Some((programme, _)) = &self.programme {
                    programme.set_video_bitrate(kbps);
                }
            }
            Control::Encoder(choice) => self.choose(choice),
            Control::Gone { run } => {
                let gone = (self.programme).take_if(|(programme, _)| programme.run == run);
                // A hardware that fails before it has given anything will do so the next time, too.
                if let Some((programme, _)) = gone
                    && programme.barren()
                {
                    self.leave(programme.kind);
                }
                self.ending.take_if(|programme| programme.run == run);
            }
            Control::Trim { ms } => {
                self.trim.set(ms);
                if self.programme.is_none() {
                    self.trim.jump();
                }
            }
            Control::Observe(wanted) => {
                self.observer = wanted.then(Observer::default);
            }
        }
    }

    /// Late buffers of a dead capture are refused; the first of a new one starts a new relation of the clocks.
    fn accept(&mut self, generation: u64) -> bool {
        if generation > self.generation {
            self.generation = generation;
            self.clock = SampleClock::default();
            if let Some((_, timeline)) = &mut self.programme {
                timeline.forget_offset();
            }
        }
        generation == self.generation
    }

    /// `begin` is asked for the time when the programme is built: the first time its elements come from a slow card, and the wait for them
    /// is no loss of pictures.
    fn start(&mut self, run: u64, begin: impl FnOnce() -> Instant) {
        self.ending = None;
        self.programme = None;
        self.stuck = [StuckWatch::new(self.barren); Rendition::ALL.len()];
        self.trim.jump();
        let control = self.control.clone();
        let gone = move || {
            let _ = control.send(Control::Gone { run });
        };
        // What the hardware writes of a matrix nobody has seen, and players take large pictures for BT.709. Nor does it negotiate
        // whatever a card claims (firmware#1885).
        let matrix = match self.config.encoder.encoder {
            Encoder::V4l2h264enc => Matrix::Bt709,
            Encoder::X264enc(_) => self.matrix,
        };
        match Programme::start(&self.config, matrix, run, &self.events, gone) {
            Ok(programme) => {
                let settings = timeline::Settings {
                    frame: self.frame(),
                    segment: self.config.segment,
                };
                self.ticked = begin();
                let timeline = Timeline::new(self.ticked, settings);
                self.programme = Some((programme, timeline));
            }
            Err(why) => {
                self.leave(self.config.encoder.encoder);
                self.failed(run, why);
            }
        }
    }

    fn choose(&mut self, choice: Choice) {
        self.config.encoder = choice;
        self.news = Some(choice);
    }

    fn leave(&mut self, encoder: Encoder) {
        if encoder == Encoder::V4l2h264enc {
            self.choose(FALLBACK);
        }
    }

    fn failed(&self, run: u64, why: String) {
        // The loop may be waiting for the conductor at this moment, so the conductor does not wait for the loop.
        let events = self.events.clone();
        std::thread::spawn(move || {
            let _ = events.blocking_send(Event::ProgrammeFailed { run, why });
        });
    }

    fn frame(&self) -> Duration {
        Duration::from_secs(1) / self.config.fps
    }

    fn audio(&mut self, now: Instant, pts: Duration, mut buffer: gst::Buffer) {
        let samples = (buffer.size() / SAMPLE_BYTES) as u64;
        let captured = self.clock.push(pts, samples);
        if let Some(observer) = &mut self.observer {
            observer.sound(self.generation, captured, &buffer);
        }
        let Some((programme, timeline)) = &mut self.programme else {
            return;
        };
        let position = timeline.position();
        match timeline.audio(now, pts, samples) {
            AudioPlacement::Append { silence, skip } => {
                push_silence(programme, position, silence);
                let at = position + samples_to_time(silence);
                let begin = skip as usize * SAMPLE_BYTES;
                if begin > 0
                    && let Ok(rest) = buffer.copy_region(gst::BufferCopyFlags::MEMORY, begin..)
                {
                    buffer = rest;
                }
                mute(&mut self.mute, &mut buffer);
                push_audio(programme, at, samples - skip, buffer);
            }
            AudioPlacement::Drop => tracing::debug!(?pts, "sound overlaps; left out"),
        }
    }

    fn video(&mut self, now: Instant, pts: Duration, buffer: gst::Buffer) {
        (self.arrival)
            .get_or_insert_with(|| Arrival::new(now))
            .arrived(now);
        self.look(now, &buffer);
        if let Some(observer) = &mut self.observer {
            observer.picture(self.generation, pts, &buffer, &self.info);
        }
        let frame = self.frame();
        let Some(pts) = self.trim.shift(pts, frame) else {
            return;
        };
        let Some((programme, timeline)) = &mut self.programme else {
            return;
        };
        if self.matrix != programme.matrix {
            // From before the capture was told.
            return;
        }
        if let Some(Shown { repeats, picture }) = timeline.video(now, pts) {
            let before = self
                .shown
                .replace(buffer.clone())
                .unwrap_or_else(|| self.slate.clone());
            for placement in repeats {
                self.dropped += push_picture(programme, before.clone(), placement, frame);
            }
            self.dropped += push_picture(programme, buffer, picture, frame);
        }
    }

    /// Shows the loop the picture; if it is busy the next one does.
    fn look(&mut self, now: Instant, buffer: &gst::Buffer) {
        let due = |looked: Instant| now.saturating_duration_since(looked) >= LOOK;
        if self.looked.is_none_or(due)
            && let Some(grid) = luma_grid(buffer, &self.info)
        {
            self.looked = Some(now);
            let _ = self.events.try_send(Event::Picture(grid));
        }
    }

    /// An encoder that is stuck says nothing by itself.
    fn look_for_stuck(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        let Some((programme, _)) = &self.programme else {
            return;
        };
        let found = (programme.progress())
            .find(|(rendition, progress)| self.stuck[*rendition as usize].look(passed, *progress));
        let barren = programme.barren();
        let Some((encoder, _)) = found else {
            self.barren &= barren;
            return;
        };
        if let Some((programme, _)) = self.programme.take() {
            // It had more time than the one before.
            if self.barren && barren {
                self.leave(programme.kind);
            }
            self.barren = barren;
            let why = format!("{} stuck", encoder.name());
            self.failed(programme.run, why);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.look_for_stuck(now);
        let on_air = self.programme.as_ref();
        self.wanted
            .set(on_air.map(|(programme, _)| programme.matrix));
        let slate = (self.programme.as_ref()).is_some_and(|(_, timeline)| timeline.video_lost());
        let signal = match &mut self.arrival {
            None => Signal::None,
            Some(arrival) => {
                arrival.tick(now);
                // Pictures may come and be of no use, with timestamps that cannot be.
                if arrival.lost() || slate {
                    Signal::Lost
                } else {
                    Signal::Ok
                }
            }
        };
        if signal != self.signal && self.events.try_send(Event::Signal(signal)).is_ok() {
            self.signal = signal;
        }
        if let Some(choice) = self.news
            && self.events.try_send(Event::Encoder(choice)).is_ok()
        {
            self.news = None;
        }
        let frame = self.frame();
        if let Some((programme, timeline)) = &mut self.programme {
            let position = timeline.position();
            let fill = timeline.tick(now);
            push_silence(programme, position, fill.silence);
            for placement in fill.slates {
                self.shown = None;
                self.dropped += push_picture(programme, self.slate.clone(), placement, frame);
            }
            for placement in fill.repeats {
                let again = self.shown.as_ref().unwrap_or(&self.slate).clone();
                self.dropped += push_picture(programme, again, placement, frame);
            }
        }
        if let Some(observer) = &mut self.observer {
            observer.report(&self.events);
        }
        if now.saturating_duration_since(self.reported) > REPORT {
            self.reported = now;
            self.report();
        }
    }

    /// What does not fit into the loop's queue is said a second later.
    fn report(&mut self) {
        let dropped = Event::PicturesDropped(self.dropped);
        if self.dropped > 0 && self.events.try_send(dropped).is_ok() {
            self.dropped = 0;
        }
        let timeline = self.programme.as_mut().map(|(_, timeline)| timeline);
        let sync = Sync {
            drift_ppm: self.clock.drift_ppm(),
            error_ms: timeline.and_then(Timeline::placement_error),
        };
        let _ = self.events.try_send(Event::Sync(sync));
    }
}

fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(time.as_nanos() as u64)
}

fn samples_to_time(samples: u64) -> Duration {
    Duration::from_nanos(samples * 1_000_000_000 / u64::from(SAMPLE_RATE))
}

/// Silence is cut into blocks of at most a second, so that a long absence does not become one large buffer.
fn push_silence(programme: &Programme, from: Duration, mut samples: u64) {
    let mut at = from;
    while samples > 0 {
        let block = samples.min(u64::from(SAMPLE_RATE));
        let buffer = gst::Buffer::from_slice(vec![0u8; block as usize * SAMPLE_BYTES]);
        push_audio(programme, at, block, buffer);
        at += samples_to_time(block);
        samples -= block;
    }
}

/// Mutes a block of captured sound. What cannot be written to becomes silence: nothing that shall not be heard gets out.
fn mute(mute: &mut Mute, buffer: &mut gst::Buffer) {
    if mute.transparent() {
        return;
    }
    let written = (buffer.make_mut().map_writable()).map(|mut block| mute.apply(&mut block));
    if written.is_err() {
        *buffer = gst::Buffer::from_slice(vec![0u8; buffer.size()]);
    }
}

fn push_audio(programme: &Programme, at: Duration, samples: u64, mut buffer: gst::Buffer) {
    let meta = buffer.make_mut();
    meta.set_pts(clock_time(at));
    meta.set_dts(None);
    meta.set_duration(clock_time(samples_to_time(samples)));
    meta.unset_flags(gst::BufferFlags::DISCONT);
    programme.push_audio(buffer);
}

/// Returns how many pictures this one costs.
fn push_picture(
    programme: &mut Programme,
    mut buffer: gst::Buffer,
    placement: VideoPlacement,
    frame: Duration,
) -> u64 {
    let meta = buffer.make_mut();
    meta.set_pts(clock_time(placement.pts));
    meta.set_dts(None);
    meta.set_duration(clock_time(frame));
    meta.unset_flags(gst::BufferFlags::DISCONT);
    programme.push_video(buffer, placement.keyframe)
}

#[cfg(test)]
mod tests;
