//! Whether a broadcast that was cut off is still wanted: after a power cut it is, the next morning it is not, and somebody else
//! may stand before the camera.
//!
//! Only a clock tells the two apart, and that of a machine without a battery goes on from before the cut until the network
//! says what time it is. So there are three answers, and one that was found without a sure clock is looked at again.

use std::time::{Duration, Instant, SystemTime};

/// A broadcast that was found unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutOff {
    /// When its last segment was stored, by the wall clock of then. What viewers got from memory after that leaves no trace.
    pub last: SystemTime,
    /// Nobody waits for it for longer.
    pub limit: Duration,
    /// When it was found; how old it was then counts.
    pub found: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    GoesOn,
    /// By a clock that may be behind nobody can tell yet.
    Unsure,
    Over,
}

impl CutOff {
    /// `wall` is what the wall clock reads at `now`, if that can be a time; where it is not `sure`, it is behind if anything.
    pub fn judge(&self, now: Instant, wall: Option<SystemTime>, sure: bool) -> Verdict {
        let waited = now.saturating_duration_since(self.found);
        let Some(found) = wall.and_then(|wall| wall.checked_sub(waited)) else {
            return Verdict::Unsure;
        };
        match found.duration_since(self.last) {
            // By a clock that is behind, too: a box that its watchdog restarts again and again would go on for ever otherwise.
            Ok(age) if age > self.limit => Verdict::Over,
            _ if !sure => Verdict::Unsure,
            Ok(_) => Verdict::GoesOn,
            // Of a clock that was set since, the age is a little negative.
            Err(ahead) if ahead.duration() > self.limit => Verdict::Over,
            Err(_) => Verdict::GoesOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn only_a_sure_clock_says_that_it_goes_on_and_any_that_it_is_over() {
        let found = Instant::now();
        let secs = Duration::from_secs;
        let last = UNIX_EPOCH + secs(1_790_000_000);
        let cut = CutOff {
            last,
            limit: secs(600),
            found,
        };
        /// Seconds after the last segment.
        type Wall = Option<i64>;
        let check = |waited, wall: Wall, sure, expected| {
            let wall = wall.map(|wall| match wall {
                0.. => last + secs(wall.unsigned_abs()),
                _ => last - secs(wall.unsigned_abs()),
            });
            let verdict = cut.judge(found + secs(waited), wall, sure);
            assert_eq!(verdict, expected, "{waited} {wall:?} {sure}");
        };
        check(0, Some(600), true, Verdict::GoesOn);
        check(0, Some(601), true, Verdict::Over);
        check(0, Some(-600), true, Verdict::GoesOn);
        check(0, Some(-601), true, Verdict::Over);
        // A clock that goes on from before the cut.
        check(0, Some(-3000), false, Verdict::Unsure);
        check(0, Some(20), false, Verdict::Unsure);
        check(0, Some(601), false, Verdict::Over);
        check(0, None, true, Verdict::Unsure);
        // What went on meanwhile makes it no older: an hour later the clock is set, and it was off for ten minutes, or for a night.
        check(3600, Some(3600 + 600), true, Verdict::GoesOn);
        check(3600, Some(3600 + 12 * 3600), true, Verdict::Over);
    }
}
