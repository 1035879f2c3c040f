//! The conductor's decisions: where each captured picture and sample lands on the programme's timeline.
//!
//! Programme time is counted audio samples: sound is appended without gaps, and video is placed against it by the two
//! capture timestamps, which must share one clock. `offset` is programme time minus capture time. It follows the audio
//! slowly, so that jitter of the timestamps does not move the picture, while a clock that is off by some hundred parts
//! per million is tracked. What is missing is filled: silence for sound, slate for pictures, in real time.

use std::time::{Duration, Instant};

use crate::media::{SAMPLE_RATE, ticks};

/// Programme time of a run's first sample. Not zero, so that subtracting AAC priming never leaves the timeline.
pub const EPOCH: Duration = Duration::from_secs(10);

/// A jump of audio against its timestamps above this is repaired by inserting silence or dropping sound (EBU R37 allows
/// +40 ms).
const JUMP: Duration = Duration::from_millis(40);

/// Input that is absent for this long is replaced. Shorter thresholds gave false slates on a loaded machine (measured).
pub const LOSS: Duration = Duration::from_millis(800);

/// How far a picture may stand behind the sound, and before it, nanoseconds. Capture delays one against the other by less.
const LATEST: f64 = 2.0 * LOSS.as_nanos() as f64;
const EARLIEST: f64 = LOSS.as_nanos() as f64;

/// Time constant with which the offset follows the audio.
const FOLLOW: Duration = Duration::from_secs(5);

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
    /// Append `silence` samples, then the block.
    Append { silence: u64 },
    /// It overlaps what has already been played out: leave it out.
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

/// What has to be filled in because the input does not deliver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fill {
    /// Samples of silence to append, before the slates.
    pub silence: u64,
    pub slates: Vec<VideoPlacement>,
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
    next_keyframe: Duration,
    audio: Presence,
    video: Presence,
}

/// Whether one medium arrives.
#[derive(Debug, Clone, Copy)]
struct Presence {
    /// Up to when the programme is filled; for audio also with silence.
    seen: Instant,
    lost: bool,
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
            next_keyframe: EPOCH,
            audio: presence,
            video: presence,
        }
    }

    /// Programme time of the next sample.
    pub fn position(&self) -> Duration {
        time_of(self.next_sample)
    }

    /// Whether slate stands in for the picture.
    pub fn video_lost(&self) -> bool {
        self.video.lost
    }

    /// Whether silence stands in for the sound.
    pub fn audio_lost(&self) -> bool {
        self.audio.lost
    }

    /// A capture has been started anew: its timestamps have nothing to do with those before.
    pub fn forget_offset(&mut self) {
        self.offset = None;
    }

    /// Places `samples` samples (per channel) that were captured at `pts`.
    pub fn audio(&mut self, now: Instant, pts: Duration, samples: u64) -> AudioPlacement {
        let measured = self.position().as_nanos() as f64 - pts.as_nanos() as f64;
        let mut silence = 0;
        match self.offset {
            Some(offset) if !self.audio.lost => {
                let error = measured - offset;
                if error > JUMP.as_nanos() as f64 {
                    return AudioPlacement::Drop;
                }
                if error < -(LOSS.as_nanos() as f64) {
                    // Not a gap in the sound: the capture's timestamps have jumped.
                    self.offset = Some(measured);
                } else if error < -(JUMP.as_nanos() as f64) {
                    silence = ticks(Duration::from_nanos(-error as u64), SAMPLE_RATE);
                } else {
                    let weight = time_of(samples).as_secs_f64().min(1.0) / FOLLOW.as_secs_f64();
                    self.offset = Some(offset + error * weight);
                }
            }
            _ => self.offset = Some(measured),
        }
        self.next_sample += silence + samples;
        self.audio = Presence {
            seen: now,
            lost: false,
        };
        AudioPlacement::Append { silence }
    }

    /// Places a picture that was captured at `pts`; `None` if there is no room for it.
    pub fn video(&mut self, now: Instant, pts: Duration) -> Option<VideoPlacement> {
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
        let longest = LOSS + self.settings.frame * 2;
        if self.last_picture.is_some_and(|last| at > last + longest) {
            // So long a hole is for the slate to fill first.
            return None;
        }
        // Behind the slates that stood in for it there may be no room yet, and still it is present: a slate more for each
        // picture that comes late would leave no room ever.
        self.video = Presence {
            seen: now,
            lost: false,
        };
        self.place(at)
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
        if now.saturating_duration_since(self.video.seen) > LOSS {
            self.video.lost = true;
        }
        if self.video.lost {
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
        }
        fill
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

fn time_of(samples: u64) -> Duration {
    Duration::from_nanos((u128::from(samples) * 1_000_000_000 / u128::from(SAMPLE_RATE)) as u64)
}
