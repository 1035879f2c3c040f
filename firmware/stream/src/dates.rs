//! Which wall time a segment has: `EXT-X-PROGRAM-DATE-TIME` of one continuity run.
//!
//! The wall clock of a box without a battery is wrong at the start, jumps when the network tells the time, and may go back.
//! Within a run the dates follow the durations (RFC 8216 section 4.3.2.6), so they follow the clock slowly: by at most
//! [`SLEW`] of a segment's length. That is more than capture cards and crystals are apart, so twelve hours do not add up to
//! seconds; and it is less than a millisecond a second, so no player sees a step. A jump of the clock is told from its rate
//! by the monotonic clock, and not followed. A run that begins before the clock is set has no dates until it is, and
//! then on all its segments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Part of its length by which a segment's date may deviate from the end of the one before: 500 ppm.
pub const SLEW: f64 = 0.0005;

/// Part of the deviation that is made up for with each segment: pictures arrive some milliseconds more or less late, and that
/// is not the clock's doing.
const GAIN: f64 = 0.02;

/// Between two readings, a frame apart, no clock that runs can gain or lose this much.
const JUMP_NS: i128 = 20_000_000;

/// Dates of one continuity run.
#[derive(Debug, Default)]
pub struct ProgramDates {
    followed: Option<Followed>,
    /// Wall time of programme time zero by the reading that was least late since the last date, nanoseconds since 1970.
    zero: Option<i128>,
    /// Start and date of the last segment that has one.
    last: Option<(Duration, i128)>,
}

/// The wall clock without its jumps.
#[derive(Debug)]
struct Followed {
    read_at: Instant,
    /// What it read.
    read: i128,
    /// What it would have read, had it not jumped.
    steady: i128,
}

impl ProgramDates {
    /// The picture of programme time `pts` is here at `now`, when the wall clock reads `wall`; `None` if it is not set.
    pub fn observe(&mut self, pts: Duration, now: Instant, wall: Option<SystemTime>) {
        let Some(read) = wall.and_then(|wall| wall.duration_since(UNIX_EPOCH).ok()) else {
            return;
        };
        let read = nanoseconds(read);
        let steady = match &self.followed {
            None => read,
            Some(before) => {
                let elapsed = nanoseconds(now.saturating_duration_since(before.read_at));
                let advanced = read - before.read;
                let jumped = (advanced - elapsed).abs() > JUMP_NS;
                before.steady + if jumped { elapsed } else { advanced }
            }
        };
        self.followed = Some(Followed {
            read_at: now,
            read,
            steady,
        });
        let zero = steady - nanoseconds(pts);
        self.zero = Some(self.zero.map_or(zero, |least| least.min(zero)));
    }

    /// Date of the next segment, which starts at this programme time. Segments come in order, each once.
    pub fn date(&mut self, start: Duration) -> Option<SystemTime> {
        let told = self.zero.take().map(|zero| zero + nanoseconds(start));
        let date = match (self.last, told) {
            (None, told) => told?,
            (Some((before, date)), told) => {
                let length = nanoseconds(start.saturating_sub(before));
                let expected = date + length;
                let off = told.map_or(0, |told| told - expected) as f64;
                let most = length as f64 * SLEW;
                expected + (off * GAIN).clamp(-most, most) as i128
            }
        };
        self.last = Some((start, date));
        let since = u64::try_from(date).ok()?;
        Some(UNIX_EPOCH + Duration::from_nanos(since))
    }
}

fn nanoseconds(time: Duration) -> i128 {
    // 2^64 ns are 584 years.
    time.as_nanos() as i128
}
