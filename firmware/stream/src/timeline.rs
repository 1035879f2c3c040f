//! The conductor's decisions: where each captured picture and sample lands on the programme's timeline.
//!
//! Programme time is counted audio samples: sound is appended without gaps, and video is placed against it by the two
//! capture timestamps, which must share one clock. `offset` is programme time minus capture time. It follows the audio
//! slowly, so that jitter of the timestamps does not move the picture, while a clock that is off by some hundred parts
//! per million is tracked; what stays away from it further than jitter can is followed at once. What is missing is filled:
//! silence for sound, slate for pictures, in real time.

use std::time::{Duration, Instant};

use crate::media::{SAMPLE_RATE, ticks};

/// Programme time of a run's first sample. Not zero, so that subtracting AAC priming never leaves the timeline.
pub const EPOCH: Duration = Duration::from_secs(10);

/// A jump of audio against its timestamps above this is repaired by inserting silence or dropping sound (EBU R37 allows
/// +40 ms).
const JUMP: Duration = Duration::from_millis(40);

/// A card's clock may be slower than the machine's by this share; by so much the programme may fall behind real time, and that
/// is no room for silence.
const SLOW: f64 = 0.001;

/// Input that is absent for this long is replaced. Shorter thresholds gave false slates on a loaded machine (measured).
pub const LOSS: Duration = Duration::from_millis(800);

/// How far a picture may stand behind the sound, and before it, nanoseconds. Capture delays one against the other by less.
const LATEST: f64 = 2.0 * LOSS.as_nanos() as f64;
const EARLIEST: f64 = LOSS.as_nanos() as f64;

/// A picture that should begin a segment may come this much later than usual. Then the last one is shown again in its place,
/// or the segment would be longer than its target duration (RFC 8216 section 4.3.3.1), long before the input counts as lost.
const LATE: Duration = Duration::from_millis(400);

/// Time constant with which the offset follows the audio.
const FOLLOW: Duration = Duration::from_secs(5);

/// Sound that is this far from where its timestamps belong is not jitter (2 ms) with a clock that is off (200 ppm are 1 ms
/// after [`FOLLOW`]): samples are missing, too few to be a jump. Following it slowly would show pictures up to [`JUMP`] off
/// for many seconds.
const STRAY: Duration = Duration::from_millis(5);

/// For so long sound must have strayed before it is believed.
const STRAYED: Duration = Duration::from_millis(100);

/// Time constant with which the offset follows sound that has strayed, until it is met.
const CATCH_UP: Duration = Duration::from_millis(100);

/// Pictures that were lost are back when they have come for this long, so that a loose plug does not make the programme
/// flicker. Together with opening the device this stays below the second in which the picture has to be back.
pub const RETURN: Duration = Duration::from_millis(300);

/// While the trim changes, a picture comes earlier or later than usual by this share of its length: seen by nobody, and far from
/// where [`Timeline::video`] leaves pictures out or the slate comes in. 40 ms take ten pictures.
const SLEW: u32 = 8;

/// A longer distance of two pictures begins [`RETURN`] anew. A camera may be slow, but not slower.
const PAUSE: Duration = Duration::from_millis(400);

/// By this share a camera may get slower from one picture to the next. What is more is lost pictures: a camera that halves its
/// rate in the dark is believed after a dozen.
const SLOWER: u32 = 16;

#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Length of one picture at the programme's frame rate.
    pub frame: Duration,
    /// Distance of forced keyframes.
    pub segment: Duration,
}

/// Where a block of captured audio goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AudioPlacement {
    /// Append `silence` samples, then the block without its first `skip` samples, which are fewer than it has.
    Append { silence: u64, skip: u64 },
    /// All of it overlaps what has already been played out: leave it out.
    Drop,
}

/// Where a picture goes, captured or slate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoPlacement {
    /// Programme time.
    pub pts: Duration,
    /// Ask the encoder for a keyframe here: a segment starts.
    pub keyframe: bool,
}

/// Where a captured picture goes, and what goes before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Show the picture before once more, for each one that was lost on the way.
    pub repeats: Vec<VideoPlacement>,
    pub picture: VideoPlacement,
}

/// What has to be filled in because the input does not deliver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    /// Samples of silence to append, before the slates.
    pub silence: u64,
    pub slates: Vec<VideoPlacement>,
    /// Show the last picture once more here, because a segment has to begin and no picture comes.
    pub repeats: Vec<VideoPlacement>,
}

/// Timeline of one continuity run.
#[derive(Debug)]
pub struct Timeline {
    settings: Settings,
    /// Samples since programme time zero.
    next_sample: u64,
    /// Programme time minus capture time, nanoseconds.
    offset: Option<f64>,
    last_picture: Option<Duration>,
    last_captured: Option<Duration>,
    /// Distance of the camera's pictures while none is lost; at least a frame.
    usual: Duration,
    next_keyframe: Duration,
    /// How far the last placed picture was behind the sound when it came.
    lag: Duration,
    /// Samples for which sound has stood further than [`STRAY`] from its place.
    strayed: u64,
    /// Samples that are being left out, because sound overlapped by more than [`JUMP`].
    left_out: u64,
    /// The capture is a new one of which no sound has come.
    restarted: bool,
    audio: Presence,
    video: Arrival,
    lead: Lead,
    /// How much later than its timestamps say sound stood since [`Timeline::placement_error`] was asked: nanoseconds times
    /// samples, and samples.
    misplaced: (f64, u64),
}

/// How much later than captured pictures are shown, in nanoseconds. A change comes about in small steps, so that no picture of
/// a live stream is left out or stays for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    now: i64,
    wanted: i64,
}

impl Trim {
    pub fn new(ms: i32) -> Trim {
        let wanted = i64::from(ms) * 1_000_000;
        Trim {
            now: wanted,
            wanted,
        }
    }

    /// Asks for another one, from the next pictures on.
    pub fn set(&mut self, ms: i32) {
        self.wanted = Trim::new(ms).wanted;
    }

    /// Nobody is watching: what is wanted holds at once.
    pub fn jump(&mut self) {
        self.now = self.wanted;
    }

    /// When a picture that was captured at `pts` is to be shown, in capture time; `None` before its zero. `frame` is the usual
    /// distance of two pictures.
    pub fn shift(&mut self, pts: Duration, frame: Duration) -> Option<Duration> {
        let step = (frame / SLEW).as_nanos() as i64;
        self.now += (self.wanted - self.now).clamp(-step, step);
        let by = Duration::from_nanos(self.now.unsigned_abs());
        if self.now < 0 {
            pts.checked_sub(by)
        } else {
            pts.checked_add(by)
        }
    }
}

/// Whether sound arrives.
#[derive(Debug, Clone, Copy)]
struct Presence {
    /// Up to when the programme is filled, also with silence.
    seen: Instant,
    lost: bool,
}

/// How far the programme is before real time. Sound that is missing has taken time to be missed: timestamps that ask for more
/// silence than time has passed are wrong.
#[derive(Debug, Clone, Copy)]
struct Lead {
    began: Instant,
    /// Programme time minus real time where sound came as early as it ever does, nanoseconds.
    most: f64,
    /// Real time of the sound before.
    seen: Duration,
}

impl Lead {
    /// How long the silence before a block may be, nanoseconds, so that the programme comes to `end` with it.
    fn room(&self, now: Instant, end: Duration) -> f64 {
        let real = now.saturating_duration_since(self.began);
        self.most(real) + JUMP.as_nanos() as f64 - before(end, real)
    }

    /// Sound was appended, to `end`.
    fn appended(&mut self, now: Instant, end: Duration) {
        let real = now.saturating_duration_since(self.began);
        self.most = self.most(real).max(before(end, real));
        self.seen = real;
    }

    fn most(&self, real: Duration) -> f64 {
        self.most - SLOW * before(real, self.seen)
    }
}

/// Whether pictures arrive: lost after [`LOSS`] without one, back when they have come for [`RETURN`].
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    seen: Instant,
    /// Since when there was no [`PAUSE`].
    since: Instant,
    lost: bool,
}

impl Arrival {
    /// Not lost: a picture may come any moment.
    pub fn new(now: Instant) -> Arrival {
        Arrival {
            seen: now,
            since: now,
            lost: false,
        }
    }

    /// A picture has come.
    pub fn arrived(&mut self, now: Instant) {
        if now.saturating_duration_since(self.seen) > PAUSE {
            self.since = now;
        }
        self.seen = now;
        if now.saturating_duration_since(self.since) >= RETURN {
            self.lost = false;
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.seen) > LOSS {
            self.lost = true;
        }
    }

    pub fn lost(&self) -> bool {
        self.lost
    }
}

impl Timeline {
    pub fn new(now: Instant, settings: Settings) -> Timeline {
        let presence = Presence {
            seen: now,
            lost: false,
        };
        Timeline {
            settings,
            next_sample: ticks(EPOCH, SAMPLE_RATE),
            offset: None,
            last_picture: None,
            last_captured: None,
            usual: settings.frame,
            next_keyframe: EPOCH,
            lag: Duration::ZERO,
            strayed: 0,
            left_out: 0,
            restarted: false,
            audio: presence,
            video: Arrival::new(now),
            lead: Lead {
                began: now,
                most: f64::NEG_INFINITY,
                seen: Duration::ZERO,
            },
            misplaced: (0.0, 0),
        }
    }

    /// How much later than it should sound has stood against the pictures since this was asked last, on average, in
    /// milliseconds; negative: earlier. What is left of jitter, of a crystal that is off, and of sound that went missing.
    /// `None` if there was none.
    pub fn placement_error(&mut self) -> Option<f64> {
        let (sum, samples) = std::mem::take(&mut self.misplaced);
        (samples > 0).then(|| sum / samples as f64 / 1e6)
    }

    /// Programme time of the next sample.
    pub fn position(&self) -> Duration {
        time_of(self.next_sample)
    }

    /// Whether slate stands in for the picture.
    pub fn video_lost(&self) -> bool {
        self.video.lost()
    }

    /// Whether silence stands in for the sound.
    pub fn audio_lost(&self) -> bool {
        self.audio.lost
    }

    /// A capture has been started anew: its timestamps have nothing to do with those before.
    pub fn forget_offset(&mut self) {
        self.offset = None;
        self.restarted = true;
    }

    /// Places `samples` samples (per channel) that were captured at `pts`.
    pub fn audio(&mut self, now: Instant, pts: Duration, samples: u64) -> AudioPlacement {
        let measured = self.position().as_nanos() as f64 - pts.as_nanos() as f64;
        let (mut silence, mut skip) = (0, 0);
        match self.offset {
            Some(offset) if !self.audio.lost => {
                let error = measured - offset;
                // All of it, not down to the jump: a machine that holds up the sound now and then would each time leave the
                // programme that much further before real time.
                let fits = match self.left_out {
                    0 => JUMP.as_nanos() as f64,
                    _ => 0.0,
                };
                let (gap, most) = (-error, LOSS.as_nanos() as f64);
                let room = (self.lead).room(now, self.position() + time_of(samples));
                if error > most || gap > most.max(room) {
                    // Neither a gap nor an overlap: the capture's timestamps have jumped. What was left out for them was none
                    // either, and its time has passed.
                    silence = self.left_out;
                    self.offset = Some(measured + nanoseconds(silence));
                } else if error > fits {
                    skip = ticks(Duration::from_nanos(error as u64), SAMPLE_RATE);
                    if skip >= samples {
                        self.left_out += samples;
                        return AudioPlacement::Drop;
                    }
                } else if gap > fits && gap <= room {
                    // Also for what was left out and was no overlap.
                    silence = ticks(Duration::from_nanos(gap as u64), SAMPLE_RATE);
                } else if gap > fits && self.strayed > ticks(STRAYED, SAMPLE_RATE) {
                    // Not one wrong timestamp: they have jumped, by less.
                    self.offset = Some(measured);
                    self.strayed = 0;
                } else {
                    self.misplaced.0 += error * samples as f64;
                    self.misplaced.1 += samples;
                    let weight = time_of(samples).as_secs_f64() / self.follow(error, samples);
                    self.offset = Some(offset + error * weight.min(1.0));
                }
            }
            _ => {
                if self.restarted && !self.audio.lost {
                    // What passed while the capture was started anew belongs to the programme too: left out, each restart
                    // would take the programme further behind real time, and a player's buffer with it.
                    let absent = now.saturating_duration_since(self.audio.seen);
                    silence = ticks(absent.saturating_sub(time_of(samples)), SAMPLE_RATE);
                }
                self.offset = Some(measured + nanoseconds(silence));
                self.strayed = 0;
            }
        }
        (self.restarted, self.left_out) = (false, 0);
        self.next_sample += silence + samples - skip;
        self.lead.appended(now, self.position());
        self.audio = Presence {
            seen: now,
            lost: false,
        };
        AudioPlacement::Append { silence, skip }
    }

    /// Time constant in seconds with which the offset follows sound that stands `error` nanoseconds from its place.
    fn follow(&mut self, error: f64, samples: u64) -> f64 {
        let catching_up = self.strayed > ticks(STRAYED, SAMPLE_RATE);
        // Until a fifth of it: then jitter is all that is left.
        let bound = STRAY.as_nanos() as f64 / if catching_up { 5.0 } else { 1.0 };
        if error.abs() > bound {
            self.strayed = self.strayed.saturating_add(samples);
        } else {
            self.strayed = 0;
        }
        if catching_up { CATCH_UP } else { FOLLOW }.as_secs_f64()
    }

    /// Places a picture that was captured at `pts`; `None` if there is no room for it.
    pub fn video(&mut self, now: Instant, pts: Duration) -> Option<Shown> {
        let position = self.position().as_nanos() as f64;
        let measured = position - pts.as_nanos() as f64;
        let fits = |offset: f64| (-LATEST..=EARLIEST).contains(&(offset - measured));
        let offset = match self.offset {
            Some(offset) if !self.audio.lost => offset,
            // Sound comes any moment and says where the picture belongs.
            None if !self.audio.lost => return None,
            // No sound at all: the picture belongs where the silence has come to, and stays with it.
            Some(offset) if fits(offset) => {
                let weight = self.settings.frame.as_secs_f64().min(1.0) / FOLLOW.as_secs_f64();
                offset + (measured - offset) * weight
            }
            _ => measured,
        };
        self.offset = Some(offset);
        let at = pts.as_nanos() as f64 + offset;
        if at < 0.0 || !fits(offset) {
            // Against the sound this cannot be: wait until the sound says otherwise or the picture counts as lost.
            return None;
        }
        let at = Duration::from_nanos(at as u64);
        let longest = self.longest_hole();
        if self.last_picture.is_some_and(|last| at > last + longest) {
            // So long a hole is for the slate to fill first.
            return None;
        }
        // Behind the slates that stood in for it there may be no room yet, and still it is present: a slate more for each
        // picture that comes late would leave no room ever.
        self.video.arrived(now);
        if self.video.lost() {
            // Until it has come for a while, slate goes on.
            return None;
        }
        let repeats = self.bridge(at);
        let picture = self.place(at)?;
        self.pace(at);
        self.lag = self.position().saturating_sub(at);
        Some(Shown { repeats, picture })
    }

    /// Fills what has been missing for longer than [`LOSS`]. To be called about every 10 ms.
    pub fn tick(&mut self, now: Instant) -> Fill {
        let mut fill = Fill::default();
        let absent = now.saturating_duration_since(self.audio.seen);
        if absent > LOSS || self.audio.lost {
            if !self.audio.lost {
                self.audio.lost = true;
                self.offset = None;
            }
            fill.silence = ticks(absent, SAMPLE_RATE);
            self.next_sample += fill.silence;
            self.audio.seen += time_of(fill.silence);
        }
        self.video.tick(now);
        if self.video.lost() {
            let position = self.position();
            let mut next = match self.last_picture {
                Some(last) => last + self.settings.frame,
                None => EPOCH,
            };
            while next <= position {
                if let Some(placement) = self.place(next) {
                    fill.slates.push(placement);
                }
                next += self.settings.frame;
            }
        } else if let Some(last) = self.last_picture
            && self.position() >= self.next_keyframe + self.lag + LATE
        {
            let at = self.next_keyframe.max(last + self.settings.frame);
            if at <= last + self.longest_hole() {
                fill.repeats = self.bridge(at);
                fill.repeats.extend(self.place(at));
            }
        }
        fill
    }

    /// What holds between two calls.
    ///
    /// # Panics
    /// Where it does not, for tests and fuzzers.
    pub fn check_invariants(&self) {
        assert!(self.position() >= EPOCH, "sound before the programme");
        assert!(self.offset.is_none_or(f64::is_finite));
        let Some(last) = self.last_picture else {
            assert_eq!(self.next_keyframe, EPOCH);
            return;
        };
        assert!(last >= EPOCH, "a picture before the programme");
        assert!(self.usual >= self.settings.frame && self.usual <= self.longest_hole());
        let half = self.settings.frame / 2;
        assert!(
            self.next_keyframe > last + half,
            "the next segment begins after the last picture"
        );
        assert!(self.next_keyframe <= last + half + self.settings.segment);
    }

    /// Longer holes between pictures are for the slate to fill.
    fn longest_hole(&self) -> Duration {
        LOSS + self.settings.frame * 2
    }

    /// Fills a hole before a picture at `at` with the one before it. A part of a segment (RFC 8216bis section 4.4.4.9) has to be
    /// within 15 % of its length, and is made of whole pictures: none may last much longer than the others.
    fn bridge(&mut self, at: Duration) -> Vec<VideoPlacement> {
        let hole = self.usual * 7 / 4;
        let mut repeats = Vec::new();
        while let Some(last) = self.last_picture
            && at >= last + hole
        {
            repeats.extend(self.place(last + self.usual));
        }
        repeats
    }

    /// Learns from a captured picture at `at` how fast the camera is: at once if it is faster than it seemed.
    fn pace(&mut self, at: Duration) {
        if let Some(last) = self.last_captured.replace(at)
            && let Some(distance) = at.checked_sub(last)
        {
            let slower = self.usual + self.usual / SLOWER;
            self.usual = distance.min(slower).max(self.settings.frame);
        }
    }

    /// Puts a picture at programme time `pts` if it does not crowd the one before.
    fn place(&mut self, pts: Duration) -> Option<VideoPlacement> {
        let half = self.settings.frame / 2;
        if pts < EPOCH || self.last_picture.is_some_and(|last| pts < last + half) {
            return None;
        }
        let keyframe = self.last_picture.is_none() || pts + half >= self.next_keyframe;
        if keyframe {
            // The grid of segments starts with the first picture and stays where it is, however late a picture comes.
            if self.last_picture.is_none() {
                self.next_keyframe = pts;
            }
            while self.next_keyframe <= pts + half {
                self.next_keyframe += self.settings.segment;
            }
        }
        self.last_picture = Some(pts);
        Some(VideoPlacement { pts, keyframe })
    }
}

/// `a` minus `b`, nanoseconds.
fn before(a: Duration, b: Duration) -> f64 {
    a.as_nanos() as f64 - b.as_nanos() as f64
}

fn nanoseconds(samples: u64) -> f64 {
    samples as f64 * 1e9 / f64::from(SAMPLE_RATE)
}

fn time_of(samples: u64) -> Duration {
    Duration::from_nanos((u128::from(samples) * 1_000_000_000 / u128::from(SAMPLE_RATE)) as u64)
}
