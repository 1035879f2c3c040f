//! Ballistics of the audio meters: how the bars move between one measurement and the next.

use std::time::Duration;

use crate::status::FLOOR_DBFS;

/// The bar falls 20 dB in 1.7 s, as a type I programme meter does (IEC 60268-10); it rises at once.
const FALL_DB_PER_S: f32 = 20.0 / 1.7;

/// How long the highest peak stays marked.
const HOLD: Duration = Duration::from_millis(1500);

/// How long a clip stays marked: long enough to be seen by somebody who looks up.
const CLIP: Duration = Duration::from_secs(3);

/// A sample this close to full scale (dBFS) has most likely been cut.
const CLIP_DBFS: f32 = -0.1;

/// Two meters, left and right.
#[derive(Debug, Clone, Default)]
pub struct Meters([Meter; 2]);

/// What a meter shows at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterReading {
    /// End of the bar, dBFS.
    pub level_dbfs: f32,
    /// Mark of the highest peak, dBFS.
    pub hold_dbfs: f32,
    /// Whether the sound was cut in the last three seconds.
    pub clip: bool,
}

impl Default for MeterReading {
    /// Silence.
    fn default() -> MeterReading {
        MeterReading {
            level_dbfs: FLOOR_DBFS,
            hold_dbfs: FLOOR_DBFS,
            clip: false,
        }
    }
}

impl Meters {
    /// Takes the peaks (dBFS, left and right) of the window that ended `now` (monotonic, since the start).
    pub fn push(&mut self, now: Duration, peak_dbfs: [f32; 2]) {
        for (meter, peak) in self.0.iter_mut().zip(peak_dbfs) {
            meter.push(now, peak);
        }
    }

    /// What to show at a moment, which is not before the last [`push`](Self::push).
    pub fn read(&self, now: Duration) -> [MeterReading; 2] {
        self.0.each_ref().map(|meter| meter.read(now))
    }
}

#[derive(Debug, Clone)]
struct Meter {
    level: (Duration, f32),
    hold: (Duration, f32),
    clipped_at: Option<Duration>,
}

impl Default for Meter {
    fn default() -> Meter {
        Meter {
            level: (Duration::ZERO, FLOOR_DBFS),
            hold: (Duration::ZERO, FLOOR_DBFS),
            clipped_at: None,
        }
    }
}

impl Meter {
    fn push(&mut self, now: Duration, peak_dbfs: f32) {
        let peak = if peak_dbfs.is_nan() {
            FLOOR_DBFS
        } else {
            peak_dbfs.clamp(FLOOR_DBFS, 0.0)
        };
        let shown = self.read(now);
        self.level = (now, peak.max(shown.level_dbfs));
        if peak >= shown.hold_dbfs {
            self.hold = (now, peak);
        }
        if peak >= CLIP_DBFS {
            self.clipped_at = Some(now);
        }
    }

    fn read(&self, now: Duration) -> MeterReading {
        let fallen = |(at, dbfs): (Duration, f32), rest: Duration| {
            let falls = now.saturating_sub(at).saturating_sub(rest);
            (dbfs - falls.as_secs_f32() * FALL_DB_PER_S).max(FLOOR_DBFS)
        };
        let level_dbfs = fallen(self.level, Duration::ZERO);
        MeterReading {
            level_dbfs,
            hold_dbfs: fallen(self.hold, HOLD).max(level_dbfs),
            clip: self
                .clipped_at
                .is_some_and(|at| now.saturating_sub(at) < CLIP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_at_once_falls_slowly_holds_and_marks_clips() {
        let mut meters = Meters::default();
        let ms = Duration::from_millis;
        let mut at = |now, peak: Option<f32>| {
            if let Some(peak) = peak {
                meters.push(ms(now), [peak, f32::NAN]);
            }
            let [left, right] = meters.read(ms(now));
            assert_eq!(
                right,
                MeterReading::default(),
                "what is no number is silence"
            );
            (left.level_dbfs.round(), left.hold_dbfs.round(), left.clip)
        };
        assert_eq!(at(0, None), (-90.0, -90.0, false));
        assert_eq!(at(100, Some(-10.0)), (-10.0, -10.0, false));
        assert_eq!(
            at(950, Some(-40.0)),
            (-20.0, -10.0, false),
            "falls 10 dB in 0.85 s"
        );
        assert_eq!(
            at(1600, None),
            (-28.0, -10.0, false),
            "the mark holds for 1.5 s"
        );
        assert_eq!(at(2450, None), (-38.0, -20.0, false), "and falls then");
        assert_eq!(
            at(2500, Some(3.0)),
            (0.0, 0.0, true),
            "never above full scale"
        );
        assert_eq!(at(5499, Some(-60.0)), (-35.0, -18.0, true));
        assert_eq!(at(5500, None), (-35.0, -18.0, false));
        assert_eq!(at(60_000, None), (-90.0, -90.0, false));
    }
}
