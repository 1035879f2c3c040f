//! Dates of segments, with clocks that drift, jump and go back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use stream::dates::{ProgramDates, SLEW};

const FRAME: Duration = Duration::from_millis(40);
const FRAMES: u32 = 50;
const SEGMENT: Duration = Duration::from_secs(2);

/// 22 November 2026, 16:30:00 UTC.
fn wall() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_365_000)
}

/// A run of segments of two seconds under a wall clock of the test's making.
struct Run {
    dates: ProgramDates,
    begun: Instant,
    /// Programme seconds per second: what the card's clock is off.
    card: f64,
    pts: Duration,
    /// When the last picture came: the next one comes no earlier.
    came: Duration,
    told: Vec<Option<SystemTime>>,
}

impl Run {
    fn new() -> Run {
        Run {
            dates: ProgramDates::default(),
            begun: Instant::now(),
            card: 1.0,
            pts: Duration::ZERO,
            came: Duration::ZERO,
            told: Vec::new(),
        }
    }

    /// Segments whose pictures come `late` after they were taken. `clock` tells the wall time at a time since the begin.
    fn segments(
        &mut self,
        count: usize,
        late: impl Fn(u32) -> Duration,
        clock: impl Fn(Duration) -> Option<SystemTime>,
    ) {
        for _ in 0..count {
            let start = self.pts;
            for frame in 0..FRAMES {
                let taken = self.pts.div_f64(self.card);
                let now = self.came.max(taken + late(frame));
                self.came = now;
                self.dates.observe(self.pts, self.begun + now, clock(now));
                self.pts += FRAME;
                // The first part of the segment tells its date.
                if frame == 10 {
                    self.told.push(self.dates.date(start));
                }
            }
        }
        self.check_steps();
    }

    fn check_steps(&self) {
        for pair in self.told.windows(2) {
            match pair {
                [Some(before), Some(after)] => {
                    let step = after.duration_since(*before).expect("dates rise");
                    let off = step.as_secs_f64() - SEGMENT.as_secs_f64();
                    assert!(off.abs() <= SEGMENT.as_secs_f64() * SLEW + 1e-6, "{off} s");
                }
                [Some(_), None] => panic!("a date is gone"),
                [None, _] => {}
                _ => unreachable!(),
            }
        }
    }

    /// Seconds by which the last segment's date is ahead of `clock` at the time when it was taken.
    fn ahead(&self, clock: impl Fn(Duration) -> SystemTime) -> f64 {
        let taken = (self.pts - SEGMENT).div_f64(self.card);
        let told = self.told.last().unwrap().expect("a date");
        match told.duration_since(clock(taken)) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        }
    }
}

fn right(now: Duration) -> SystemTime {
    wall() + now
}

fn prompt(_: u32) -> Duration {
    Duration::ZERO
}

#[test]
fn a_right_clock_is_told_as_it_is() {
    let mut run = Run::new();
    run.segments(10, prompt, |now| Some(right(now)));
    assert_eq!(run.told[0], Some(wall()));
    assert_eq!(run.told[9], Some(wall() + SEGMENT * 9));
}

#[test]
fn pictures_that_come_late_now_and_then_do_not_move_the_dates() {
    let late = |frame: u32| Duration::from_millis(if frame % 10 < 5 { 60 } else { 5 });
    let mut run = Run::new();
    run.segments(300, late, |now| Some(right(now)));
    assert!(
        (run.ahead(right) - 0.005).abs() < 0.001,
        "{}",
        run.ahead(right)
    );
}

#[test]
fn a_card_that_drifts_for_twelve_hours_does_not_carry_the_dates_away() {
    for ppm in [-100.0, 100.0, 300.0] {
        let mut run = Run::new();
        run.card = 1.0 + ppm / 1e6;
        run.segments(12 * 1800, prompt, |now| Some(right(now)));
        assert!(
            run.ahead(right).abs() < 0.05,
            "{ppm} ppm: {} s",
            run.ahead(right)
        );
    }
}

#[test]
fn a_clock_that_jumps_is_not_followed() {
    for (jump, forward) in [
        (3600, true),
        (3600, false),
        (1, true),
        (10 * 365 * 86_400, false),
    ] {
        let jump = Duration::from_secs(jump);
        let jumped = |now: Duration| match forward {
            true => right(now) + jump,
            false => right(now) - jump,
        };
        let mut run = Run::new();
        run.segments(30, prompt, |now| Some(right(now)));
        run.segments(600, prompt, |now| Some(jumped(now)));
        assert!(run.ahead(right).abs() < 0.001, "{} s", run.ahead(right));
        // And back again.
        run.segments(600, prompt, |now| Some(right(now)));
        assert!(run.ahead(right).abs() < 0.001, "{} s", run.ahead(right));
    }
}

#[test]
fn a_clock_that_is_slowly_set_right_is_followed() {
    // 400 ppm fast for an hour, as time daemons slew.
    let slewed = |now: Duration| right(now) + now.mul_f64(0.0004);
    let mut run = Run::new();
    run.segments(1800, prompt, |now| Some(slewed(now)));
    assert!(run.ahead(slewed).abs() < 0.05, "{} s", run.ahead(slewed));
}

#[test]
fn dates_begin_when_the_clock_is_set_and_stay() {
    let mut run = Run::new();
    run.segments(5, prompt, |_| None);
    assert_eq!(run.told, [None; 5]);
    run.segments(5, prompt, |now| Some(right(now)));
    assert_eq!(run.told[5], Some(wall() + SEGMENT * 5));
    run.segments(5, prompt, |_| None);
    assert_eq!(run.told[14], Some(wall() + SEGMENT * 14));
    // The clock is back, and an hour off.
    run.segments(500, prompt, |now| {
        Some(right(now) + Duration::from_secs(3600))
    });
    assert!(run.ahead(right).abs() < 0.001, "{} s", run.ahead(right));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// `Run::segments` checks that no date ever steps.
    #[test]
    fn whatever_the_clock_says_dates_do_not_step(
        readings in prop::collection::vec(prop::option::weighted(0.8, 0u64..4_000_000_000_000), 1..40),
        late in prop::collection::vec(0u64..3000, FRAMES as usize),
    ) {
        let mut run = Run::new();
        for reading in readings {
            let late = |frame: u32| Duration::from_millis(late[frame as usize]);
            run.segments(1, late, |now| {
                reading.map(|ms| UNIX_EPOCH + Duration::from_millis(ms) + now)
            });
        }
    }
}
