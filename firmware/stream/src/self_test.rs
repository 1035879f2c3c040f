//! The sync self-test: finds the flashes and beeps of the sync page in the box's own input, and says how far sound and
//! picture are apart there.
//!
//! Terms: a *flash* is a picture that is suddenly much brighter than those before, and dark again after about [`FLASH`]; a
//! *beep* is sound that is suddenly louder than before, for as long. Their *distance* is the beep's beginning minus the
//! capture time of the flash's first picture. Positive: **the sound is late**, and the picture has to be shown later by as
//! much, which is what `av_offset_ms` does.
//!
//! A flash is seen up to one picture late, never early, because a camera or a card looks only now and then. So the
//! distances of many pairs lie between the truth and one picture less. The page flashes at irregular times: some flashes hit
//! the beginning of a picture, and the greatest distances are the truth. Where the source and the card run on one clock, all
//! distances are the same, and are the truth too.
//!
//! Talks, slides and music have flashes and beeps of their own. They count only as a pattern: at least [`PAIRS`] pairs at one
//! distance, and at least half of all flashes.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

use crate::clock::{median, slope};

/// Length of the page's flash and beep.
pub const FLASH: Duration = Duration::from_millis(100);

/// So many pairs make a measurement.
pub const PAIRS: usize = 10;

/// The test ends by itself after this: looking costs a little, and nobody looks any more.
pub const LIMIT: Duration = Duration::from_secs(15 * 60);

/// Farther apart they are not a pair. The page leaves at least a second between two flashes, so a beep has one flash only.
const FARTHEST_S: f64 = 0.5;

/// Pairs older than this say little about now.
const RECENT_S: f64 = 40.0;

/// Within this something must have been seen and heard, or it is missed.
const PATIENCE_S: f64 = 8.0;

/// Flashes and beeps that are remembered: many more than the page makes in that time, and few enough for the work.
const REMEMBERED: usize = 80;

/// How often the offset is noted for the drift.
const NOTED_S: f64 = 20.0;

/// The drift is known from so many on.
const FEWEST_NOTES: usize = 5;

/// What timestamps, and slopes that are not tried, make of a distance.
const TOLERANCE_S: f64 = 0.005;

/// Slopes that are tried for the pattern, parts per million, the likely ones first. Between two of them there is a millisecond
/// in the time of the pattern.
const SLOPES: [f64; 13] = [
    0.0, 50.0, -50.0, 100.0, -100.0, 150.0, -150.0, 200.0, -200.0, 250.0, -250.0, 300.0, -300.0,
];

/// Sound and picture of one card do not move apart faster, parts per million.
const STEEPEST_PPM: i32 = 300;

/// A flash is brighter than the pictures before by at least this much of 8-bit luma.
const RISE: u8 = 40;
/// Bounds of a flash's length as it is seen, to one picture at 24 fps on either side.
const SHORTEST_FLASH_S: f64 = 0.045;
const LONGEST_FLASH_S: f64 = 0.25;

/// A beep is at least this loud, of 16-bit full scale: -40 dBFS.
const LOUD: u16 = 328;
/// And louder than what was before by at least this factor: 12 dB.
const ABOVE: f64 = 4.0;
/// What was before is forgotten by this factor each millisecond: 20 dB in 230 ms.
const FORGET: f64 = 0.99;
/// Below its loudest by [`ABOVE`] for this long, and a beep is over.
const PAUSE_S: f64 = 0.015;
const SHORTEST_BEEP_S: f64 = 0.06;
/// An echo makes it longer.
const LONGEST_BEEP_S: f64 = 0.2;
/// A sample from here on is clipped: -0.1 dBFS.
const CLIPPED: u16 = 32_400;

/// Jitter of the pictures' timestamps, standard deviation: no card has more, what looks like more is another frame rate.
const MOST_JITTER_S: f64 = 0.0015;

/// What is seen and heard at the input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observation {
    /// Number of the capture's life: another one has timestamps of its own.
    pub generation: u64,
    pub pictures: Vec<Picture>,
    pub sounds: Vec<Sound>,
}

/// A captured picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// Capture time.
    pub at: Duration,
    /// Mean of the luma.
    pub luma: u8,
}

/// A millisecond of captured sound, or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sound {
    /// Capture time of its first sample, on the pictures' clock.
    pub at: Duration,
    /// Greatest amplitude of all channels.
    pub peak: u16,
}

/// What the test has found up to now.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Finding {
    /// It is too early to say.
    Looking {
        pairs: usize,
    },
    Measured(Measurement),
    NothingFound,
    NoFlash,
    NoBeep,
    /// The sound is at full scale: a beep does not stand out.
    TooLoud,
    /// Both are there, but at no common distance.
    NoPattern,
}

/// How far sound and picture are apart at the input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Measurement {
    /// Milliseconds by which the sound is late against the picture, on average of the last 40 s; negative: early.
    pub offset_ms: f64,
    /// How far the truth may be from it: nine times in ten it is nearer (`tests/self_test.rs`).
    pub error_ms: f64,
    /// Between the smallest and the greatest distance: about one picture for a source with a clock of its own.
    pub spread_ms: f64,
    /// Pairs that it is made of.
    pub pairs: usize,
    /// How fast sound and picture move apart at the input although their timestamps are followed; positive: the sound becomes
    /// later.
    pub drift: Option<Drift>,
}

/// Parts per million; 1 is a millisecond in a quarter of an hour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Drift {
    pub ppm: f64,
    pub error_ppm: f64,
}

impl Finding {
    /// What is found in words for the panel: at most two lines of 21 ASCII characters, empty for a measurement.
    pub fn lines(&self) -> [&'static str; 2] {
        match self {
            Finding::Looking { pairs: 0 } => ["Looking for flashes", "and beeps"],
            Finding::Looking { .. } => ["Found some:", "keep it flashing"],
            Finding::Measured(_) => ["", ""],
            Finding::NothingFound => ["No flash, no beep:", "open the sync page"],
            Finding::NoFlash => ["Beeps but no flash:", "check the picture"],
            Finding::NoBeep => ["Flash but no beep:", "check the sound"],
            Finding::TooLoud => ["The sound clips:", "turn it down"],
            Finding::NoPattern => ["Beeps fit no flash:", "use one phone, silent"],
        }
    }
}

/// A flash and its beep.
#[derive(Debug, Clone, Copy)]
struct Pair {
    /// Capture time of the flash, seconds.
    at: f64,
    /// Seconds by which the beep is later.
    distance: f64,
}

impl Pair {
    /// Its distance at another time, if the distances have this slope.
    fn level(&self, slope: f64, at: f64) -> f64 {
        self.distance + (at - self.at) * slope
    }
}

/// What was measured at a time, seconds.
#[derive(Debug, Clone, Copy)]
struct Note {
    at: f64,
    offset_ms: f64,
    error_ms: f64,
}

#[derive(Debug, Default)]
pub struct SelfTest {
    generation: u64,
    eye: Eye,
    ear: Ear,
    /// Capture times of the flashes' first pictures, seconds; of the last [`RECENT_S`].
    flashes: VecDeque<f64>,
    /// Capture times of the beeps' beginnings, seconds; of the last [`RECENT_S`].
    beeps: VecDeque<f64>,
    /// Offsets up to now, for the drift: capture time, seconds late, error. [`LIMIT`] bounds them.
    notes: Vec<Note>,
    /// The last measurement: it stays when the page is closed.
    measured: Option<Measurement>,
    /// How many pairs the pattern has now.
    pairs: usize,
    /// First and last capture time of the input, seconds.
    began: Option<f64>,
    now: f64,
}

impl SelfTest {
    pub fn observe(&mut self, observation: &Observation) {
        if observation.generation != self.generation {
            *self = SelfTest {
                generation: observation.generation,
                ..SelfTest::default()
            };
        }
        let mut found = false;
        for picture in &observation.pictures {
            self.passed(picture.at);
            if let Some(flash) = self.eye.look(*picture) {
                self.flashes.push_back(flash);
                found = true;
            }
        }
        for sound in &observation.sounds {
            self.passed(sound.at);
            if let Some(beep) = self.ear.listen(*sound) {
                self.beeps.push_back(beep);
                found = true;
            }
        }
        let since = self.now - RECENT_S;
        let beyond = self.flashes.len().saturating_sub(REMEMBERED);
        self.flashes.drain(..beyond);
        self.flashes.retain(|at| *at >= since);
        let beyond = self.beeps.len().saturating_sub(REMEMBERED);
        self.beeps.drain(..beyond);
        self.beeps.retain(|at| *at >= since);
        if found {
            self.measure();
        }
    }

    fn passed(&mut self, at: Duration) {
        let at = at.as_secs_f64();
        self.began.get_or_insert(at);
        self.now = self.now.max(at);
    }

    pub fn finding(&self) -> Finding {
        if let Some(measured) = self.measured {
            return Finding::Measured(measured);
        }
        let waited = self.began.map_or(0.0, |began| self.now - began);
        let missing = |last: Option<f64>| {
            last.is_none_or(|last| self.now - last > PATIENCE_S) && waited > PATIENCE_S
        };
        let no_flash = missing(self.flashes.back().copied());
        let no_beep = missing(self.beeps.back().copied());
        let plenty = self.flashes.len() >= 2 * PAIRS && self.beeps.len() >= 2 * PAIRS;
        match (no_flash, no_beep) {
            (false, true) if self.ear.clips() => Finding::TooLoud,
            (true, true) => Finding::NothingFound,
            (true, false) => Finding::NoFlash,
            (false, true) => Finding::NoBeep,
            (false, false) if plenty => Finding::NoPattern,
            (false, false) => Finding::Looking { pairs: self.pairs },
        }
    }

    /// Looks for the pattern again after a flash or a beep.
    fn measure(&mut self) {
        let pairs = self.pattern();
        self.pairs = pairs.len();
        let half = self.flashes.len().div_ceil(2);
        if pairs.len() < PAIRS || pairs.len() < half || pairs.len() * 3 < self.beeps.len() {
            return;
        }
        let (at, mut measured) = measurement(&pairs, self.eye.jitter());
        if (self.notes.last()).is_none_or(|last| at - last.at >= NOTED_S) {
            self.notes.push(Note {
                at,
                offset_ms: measured.offset_ms,
                error_ms: measured.error_ms,
            });
        }
        measured.drift = drift(&self.notes);
        self.measured = Some(measured);
    }

    /// The pairs at the distance that most have in common, in the order of their times.
    fn pattern(&self) -> Vec<Pair> {
        let mut pairs: Vec<Pair> = self
            .flashes
            .iter()
            .flat_map(|flash| self.beeps.iter().map(move |beep| (flash, beep)))
            .map(|(&at, beep)| Pair {
                at,
                distance: beep - at,
            })
            .filter(|pair| pair.distance.abs() <= FARTHEST_S)
            .collect();
        let width = self.eye.period() + TOLERANCE_S;
        let best = SLOPES
            .map(|ppm| Band::around_most(&pairs, self.now, ppm * 1e-6, width))
            .into_iter()
            .reduce(|best, band| if band.pairs > best.pairs { band } else { best });
        if let Some(band) = best {
            let inside = band.upper - width..=band.upper;
            pairs.retain(|pair| inside.contains(&pair.level(band.slope, self.now)));
        }
        pairs.sort_by(|a, b| a.at.total_cmp(&b.at));
        pairs
    }
}

/// Distances that have a slope in common, one picture wide.
#[derive(Debug, Clone, Copy)]
struct Band {
    slope: f64,
    upper: f64,
    /// How many are inside.
    pairs: usize,
}

impl Band {
    fn around_most(pairs: &[Pair], at: f64, slope: f64, width: f64) -> Band {
        let mut levels: Vec<f64> = pairs.iter().map(|pair| pair.level(slope, at)).collect();
        levels.sort_by(f64::total_cmp);
        let mut band = Band {
            slope,
            upper: 0.0,
            pairs: 0,
        };
        let mut first = 0;
        for (last, upper) in levels.iter().enumerate() {
            while upper - levels[first] > width {
                first += 1;
            }
            if last + 1 - first > band.pairs {
                band.pairs = last + 1 - first;
                band.upper = *upper;
            }
        }
        band
    }
}

/// Of at least one pair: the upper edge of the distances in the middle of their time, which is told too.
fn measurement(pairs: &[Pair], jitter: f64) -> (f64, Measurement) {
    let count = pairs.len() as f64;
    let middle = pairs.iter().map(|pair| pair.at).sum::<f64>() / count;
    let slope = steepness(pairs, middle);
    let highest = second_highest(pairs, slope, middle);
    let levels = pairs.iter().map(|pair| pair.level(slope, middle));
    let spread = highest - levels.fold(highest, f64::min);
    // From one distance to the next there is about as much as from the greatest to the truth.
    let gap = spread / (count - 2.0).max(1.0);
    // And jitter makes the greatest greater, by about this.
    let excess = (1.5 * jitter).min(spread / 2.0);
    let measurement = Measurement {
        offset_ms: (highest + 2.0 * gap - excess) * 1e3,
        error_ms: (2.0 * gap + jitter + 0.001) * 1e3,
        spread_ms: spread * 1e3,
        pairs: pairs.len(),
        drift: None,
    };
    (middle, measurement)
}

/// How steep the upper edge of the distances is at a time: as the slope with which it is lowest there. Seconds a second.
fn steepness(pairs: &[Pair], at: f64) -> f64 {
    let slopes = (-STEEPEST_PPM / 10..=STEEPEST_PPM / 10).map(|ten| f64::from(ten) * 1e-5);
    let heights = slopes.map(|slope| (second_highest(pairs, slope, at), slope));
    heights
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(0.0, |(_, slope)| slope)
}

/// The highest may be a clap that came with a flash.
fn second_highest(pairs: &[Pair], slope: f64, at: f64) -> f64 {
    let (mut highest, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for level in pairs.iter().map(|pair| pair.level(slope, at)) {
        second = second.max(level.min(highest));
        highest = highest.max(level);
    }
    second
}

fn drift(notes: &[Note]) -> Option<Drift> {
    let (first, last) = (notes.first()?, notes.last()?);
    if notes.len() < FEWEST_NOTES {
        return None;
    }
    let points: Vec<_> = notes.iter().map(|note| (note.at, note.offset_ms)).collect();
    let count = notes.len() as f64;
    let error = notes.iter().map(|note| note.error_ms).sum::<f64>() / count;
    Some(Drift {
        ppm: slope(&points)? * 1e3,
        // Twice the standard error of a line through evenly spaced points.
        error_ppm: 2.0 * error * (12.0 / count).sqrt() / (last.at - first.at) * 1e3,
    })
}

/// Finds flashes.
#[derive(Debug, Default)]
struct Eye {
    /// The last two pictures: a sensor that is just being exposed shows half a flash first.
    last: [Option<Picture>; 2],
    open: Option<OpenFlash>,
    /// Distances of the last pictures, seconds.
    periods: VecDeque<f64>,
}

#[derive(Debug, Clone, Copy)]
struct OpenFlash {
    at: f64,
    dark: u8,
    bright: u8,
}

impl Eye {
    /// Distances of pictures that are kept: those of some seconds.
    const PERIODS: usize = 120;

    /// The beginning of a flash that is over, seconds.
    fn look(&mut self, picture: Picture) -> Option<f64> {
        let at = picture.at.as_secs_f64();
        if let Some(last) = self.last[0] {
            self.periods.push_back(at - last.at.as_secs_f64());
            if self.periods.len() > Eye::PERIODS {
                self.periods.pop_front();
            }
        }
        let dark = self.last.iter().flatten().map(|last| last.luma).min();
        self.last = [Some(picture), self.last[0]];
        let Some(mut open) = self.open.take() else {
            let dark = dark.filter(|dark| picture.luma >= dark.saturating_add(RISE))?;
            self.open = Some(OpenFlash {
                at,
                dark,
                bright: picture.luma,
            });
            return None;
        };
        open.bright = open.bright.max(picture.luma);
        let length = at - open.at;
        let over = picture.luma < open.dark + (open.bright - open.dark) / 2;
        if over {
            let fits = (SHORTEST_FLASH_S..=LONGEST_FLASH_S).contains(&length);
            return fits.then_some(open.at);
        }
        // What stays bright is another slide.
        if (0.0..=LONGEST_FLASH_S).contains(&length) {
            self.open = Some(open);
        }
        None
    }

    /// Usual distance of two pictures, seconds.
    fn period(&self) -> f64 {
        let mut periods: Vec<f64> = self.periods.iter().copied().collect();
        median(&mut periods).unwrap_or(0.0).clamp(0.0, 0.1)
    }

    /// Standard deviation of the timestamps, seconds.
    fn jitter(&self) -> f64 {
        let period = self.period();
        let mut errors: Vec<f64> = self.periods.iter().map(|it| (it - period).abs()).collect();
        // The median of absolute errors is 0.67 deviations, and a distance has the errors of two timestamps.
        let deviation = median(&mut errors).unwrap_or(0.0) * 1.4826 / std::f64::consts::SQRT_2;
        deviation.min(MOST_JITTER_S)
    }
}

/// Finds beeps.
#[derive(Debug, Default)]
struct Ear {
    /// How loud it has been, slowly forgotten.
    before: f64,
    state: Hearing,
    /// Clipped sound of late, slowly forgotten; in seconds.
    clipped: f64,
    last: Option<f64>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Hearing {
    #[default]
    Quiet,
    Loud {
        since: f64,
        /// Last millisecond that belonged to it.
        until: f64,
        loudest: u16,
    },
}

impl Ear {
    /// The beginning of a beep that is over, seconds.
    fn listen(&mut self, sound: Sound) -> Option<f64> {
        let at = sound.at.as_secs_f64();
        let passed = self.last.map_or(0.0, |last| (at - last).clamp(0.0, 1.0));
        self.last = Some(at);
        self.clipped *= (1.0 - passed / 5.0).max(0.0);
        if sound.peak >= CLIPPED {
            self.clipped += passed;
        }
        let peak = f64::from(sound.peak);
        match self.state {
            Hearing::Quiet => {
                if sound.peak >= LOUD && peak >= ABOVE * self.before {
                    self.state = Hearing::Loud {
                        since: at,
                        until: at,
                        loudest: sound.peak,
                    };
                } else {
                    self.before = (self.before * FORGET.powf(passed * 1e3)).max(peak);
                }
                None
            }
            Hearing::Loud {
                since,
                until,
                loudest,
            } => {
                let goes_on = peak * ABOVE >= f64::from(loudest);
                let until = if goes_on { at } else { until };
                let over = at - until > PAUSE_S;
                if over || at - since > LONGEST_BEEP_S + PAUSE_S {
                    self.state = Hearing::Quiet;
                    // What lasts is not a beep, and the next one has to be louder than that.
                    self.before = if over { peak } else { f64::from(loudest) };
                } else {
                    self.state = Hearing::Loud {
                        since,
                        until,
                        loudest: loudest.max(sound.peak),
                    };
                }
                let length = until - since;
                let fits = (SHORTEST_BEEP_S..=LONGEST_BEEP_S).contains(&length);
                (over && fits).then_some(since)
            }
        }
    }

    /// Whether the sound is at full scale so often that nothing stands out.
    fn clips(&self) -> bool {
        self.clipped > 0.5
    }
}
