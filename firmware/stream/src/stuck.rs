//! Notices an encoder that takes what it is given and makes nothing of it.

use std::time::Duration;

/// An encoder that is given something and makes nothing for so long is stuck.
pub const STUCK: Duration = Duration::from_millis(1500);

/// So long it may take to begin where the one before it made nothing at all. One that is slow to begin would be dropped under the same
/// load again and again, and the box never be on air. x264 does not need it (its first picture of 1080p was there within a third of a
/// second, from the start of a process on, with nine others waiting for two cores). A driver's encoder may: it allocates all its buffers
/// then, on a Raspberry Pi from memory that others may have to leave first, and nobody has measured that (board/README).
pub const BEGIN_AGAIN: Duration = Duration::from_millis(4500);

/// At most this much counts from one look to the next: a machine that stood still did not let the encoder work either.
const LOOK: Duration = Duration::from_millis(25);

/// How far an encoder has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Buffers that were given.
    pub given: u64,
    /// Buffers that it made.
    pub made: u64,
    /// It waits: for somebody to take what it made, or for somebody who hangs before it.
    pub held: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct StuckWatch {
    begin: Duration,
    /// When something was made last.
    last: Progress,
    idle: Duration,
}

impl StuckWatch {
    /// Of an encoder that begins; `barren` if the one before it made nothing at all.
    pub fn new(barren: bool) -> StuckWatch {
        StuckWatch {
            begin: if barren { BEGIN_AGAIN } else { STUCK },
            last: Progress::default(),
            idle: Duration::ZERO,
        }
    }

    /// Looks again after `passed`; whether it is stuck.
    pub fn look(&mut self, passed: Duration, now: Progress) -> bool {
        if now.held || now.made != self.last.made || now.given == self.last.given {
            self.last = now;
            self.idle = Duration::ZERO;
            return false;
        }
        self.idle += passed.min(LOOK);
        self.idle >= if now.made == 0 { self.begin } else { STUCK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(10);

    /// After how many looks the encoder counts as stuck, of at most a thousand.
    fn stuck(passed: Duration, progress: impl Fn(u64) -> Progress) -> Option<u64> {
        let mut watch = StuckWatch::new(false);
        (0..1000).find(|&i| watch.look(passed, progress(i)))
    }

    fn progress(given: u64, made: u64, held: bool) -> Progress {
        Progress { given, made, held }
    }

    #[test]
    fn stuck_is_who_makes_nothing_of_what_is_given() {
        assert_eq!(stuck(TICK, |i| progress(i, i / 2, false)), None);
        // After 100 buffers it stops: noticed within two seconds.
        assert_eq!(stuck(TICK, |i| progress(i, i.min(100), false)), Some(250));
        // One that never begins, and the one after it.
        assert_eq!(stuck(TICK, |i| progress(i, 0, false)), Some(150));
        let mut again = StuckWatch::new(true);
        let found = (0..1000).find(|&i| again.look(TICK, progress(i, 0, false)));
        assert_eq!(found, Some(450));
        // Nothing is given, so nothing can be made.
        assert_eq!(stuck(TICK, |_| progress(7, 5, false)), None);
        // It is the loop that is slow.
        assert_eq!(stuck(TICK, |i| progress(i, i.min(100), i > 100)), None);
    }

    #[test]
    fn a_machine_that_stood_still_is_no_stuck_encoder() {
        let hour = Duration::from_secs(3600);
        assert_eq!(stuck(hour, |i| progress(i, i / 20, false)), None);
    }
}
