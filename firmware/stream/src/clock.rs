//! The sound's crystal against the clock of the timestamps.
//!
//! A card counts samples with a crystal of its own, and each block of sound carries a timestamp that jitters by a millisecond
//! or two. The jitter is averaged away for whoever wants to know when a sample was captured; what stays over a minute is how
//! far the crystal is off.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::SAMPLE_RATE;

/// As in [`crate::timeline`]: timestamps that are further away than this from where the samples are have jumped.
const JUMP_NS: f64 = 40e6;

/// Time constant with which the relation of both clocks is followed, seconds of sound.
const FOLLOW_S: f64 = 5.0;

/// Length of sound over which timestamps are averaged to one point of the line, seconds. Jitter of 2 ms leaves 0.1 ms.
const POINT_S: f64 = 1.0;

/// Points of the line: with fewer, jitter of 2 ms makes more than 5 ppm; with more, it would follow a crystal that warms up
/// too slowly.
const FEWEST_POINTS: usize = 20;
const MOST_POINTS: usize = 60;

/// Two points that are further apart are not one clock against another: samples are missing. A crystal that is off by 200 ppm
/// makes 0.2 ms.
const STEP_NS: f64 = 5e6;

/// Follows one life of a capture; another one has other timestamps and begins anew.
#[derive(Debug, Default)]
pub struct SampleClock {
    samples: u64,
    /// Capture time minus counted time, nanoseconds.
    relation: Option<f64>,
    /// Seconds of sound since the relation is followed.
    followed: f64,
    open: Point,
    /// Counted time in seconds, mean relation in nanoseconds.
    points: VecDeque<(f64, f64)>,
}

/// The mean that is being taken.
#[derive(Debug, Default, Clone, Copy)]
struct Point {
    seconds: f64,
    weighted: f64,
}

impl SampleClock {
    /// Takes a block of `samples` samples (per channel) stamped `pts`; returns when its first sample was captured, without the
    /// jitter.
    pub fn push(&mut self, pts: Duration, samples: u64) -> Duration {
        let counted = self.samples as f64 * 1e9 / f64::from(SAMPLE_RATE);
        let length = samples as f64 / f64::from(SAMPLE_RATE);
        let measured = pts.as_nanos() as f64 - counted;
        let relation = match self.relation {
            Some(relation) if (measured - relation).abs() <= JUMP_NS => {
                let weight = length / (self.followed + length).clamp(f64::MIN_POSITIVE, FOLLOW_S);
                relation + (measured - relation) * weight.min(1.0)
            }
            _ => {
                self.followed = 0.0;
                self.open = Point::default();
                self.points.clear();
                measured
            }
        };
        self.relation = Some(relation);
        self.followed += length;
        self.samples += samples;
        self.measure(measured, length);
        Duration::from_nanos((counted + relation).max(0.0) as u64)
    }

    fn measure(&mut self, measured: f64, length: f64) {
        self.open.seconds += length;
        self.open.weighted += measured * length;
        if self.open.seconds < POINT_S {
            return;
        }
        let mean = self.open.weighted / self.open.seconds;
        if (self.points.back()).is_some_and(|(_, last)| (mean - last).abs() > STEP_NS) {
            self.points.clear();
        }
        let at = self.samples as f64 / f64::from(SAMPLE_RATE) - self.open.seconds / 2.0;
        self.points.push_back((at, mean));
        if self.points.len() > MOST_POINTS {
            self.points.pop_front();
        }
        self.open = Point::default();
    }

    /// How much faster the sound's crystal is than the clock of the timestamps, parts per million; `None` until it is known to
    /// 5 ppm, which takes 20 s.
    pub fn drift_ppm(&self) -> Option<f64> {
        if self.points.len() < FEWEST_POINTS {
            return None;
        }
        let points: Vec<_> = self.points.iter().copied().collect();
        // Nanoseconds a second are a thousandth of a part per million.
        Some(-slope(&points)? / 1000.0)
    }
}

/// The median of the slopes between any two points (Theil 1950, Sen 1968): up to a quarter of them may be anything. `None`
/// without two points apart.
pub(crate) fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes: Vec<f64> = points
        .iter()
        .enumerate()
        .flat_map(|(i, a)| points[i + 1..].iter().map(move |b| (a, b)))
        .filter(|(a, b)| a.0 != b.0)
        .map(|(a, b)| (b.1 - a.1) / (b.0 - a.0))
        .collect();
    median(&mut slopes)
}

pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BLOCK: u64 = 480;

    /// A card whose crystal is fast by `ppm`, with timestamps off by what `jitter` says (nanoseconds).
    fn play(
        clock: &mut SampleClock,
        seconds: u64,
        ppm: f64,
        mut jitter: impl FnMut() -> i64,
    ) -> f64 {
        let mut worst = 0f64;
        for block in 0..seconds * 100 {
            let truth = 1e9 + block as f64 * 1e7 / (1.0 + ppm / 1e6);
            let pts = Duration::from_nanos((truth + jitter() as f64) as u64);
            let said = clock.push(pts, BLOCK).as_nanos() as f64;
            if block > 300 {
                worst = worst.max((said - truth).abs());
            }
        }
        worst
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn drift_is_measured_through_jitter(ppm in -300f64..300.0, seed: u64) {
            let mut random = seed | 1;
            let mut jitter = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random % 4_000_001) as i64 - 2_000_000
            };
            let mut clock = SampleClock::default();
            play(&mut clock, 19, ppm, &mut jitter);
            prop_assert_eq!(clock.drift_ppm(), None);
            let mut clock = SampleClock::default();
            let worst = play(&mut clock, 60, ppm, &mut jitter);
            let measured = clock.drift_ppm().unwrap();
            prop_assert!((measured - ppm).abs() < 5.0, "{measured} for {ppm}");
            // Half a millisecond of what jitter leaves, and what is followed late.
            prop_assert!(worst < 0.5e6 + ppm.abs() * 1000.0 * FOLLOW_S, "{worst} ns");
        }

        #[test]
        fn whatever_the_timestamps_say_nothing_overflows(blocks in prop::collection::vec((any::<u64>(), 0u64..1 << 40), 0..200)) {
            let mut clock = SampleClock::default();
            for (pts, samples) in blocks {
                clock.push(Duration::from_nanos(pts), samples);
                prop_assert!(clock.drift_ppm().is_none_or(f64::is_finite));
            }
        }
    }

    #[test]
    fn missing_samples_are_not_drift() {
        let mut clock = SampleClock::default();
        play(&mut clock, 30, 0.0, || 0);
        // 20 ms are missing, from here on.
        for block in 0..1000 {
            clock.push(Duration::from_millis(31_020 + block * 10), BLOCK);
        }
        assert_eq!(clock.drift_ppm(), None);
        for block in 1000..4000 {
            clock.push(Duration::from_millis(31_020 + block * 10), BLOCK);
        }
        let ppm = clock.drift_ppm().unwrap();
        assert!(ppm.abs() < 1.0, "{ppm}");
    }
}
