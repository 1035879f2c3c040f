//! The timeline in virtual time: where pictures and sound of a simulated capture land.

use std::fmt::Write;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use stream::timeline::{
    Arrival, AudioPlacement, EPOCH, Fill, LOSS, RETURN, Settings, Shown, Timeline, Trim,
    VideoPlacement,
};

const FRAME: Duration = Duration::from_nanos(33_333_333);
const SEGMENT: Duration = Duration::from_secs(2);
/// Samples in a block of captured sound: 10 ms.
const BLOCK: u64 = 480;
const STEP: Duration = Duration::from_millis(10);

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings() -> Settings {
    Settings {
        frame: FRAME,
        segment: SEGMENT,
    }
}

fn seconds(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() - b.as_secs_f64()
}

/// What is said to the timeline; capture timestamps in milliseconds.
#[derive(Debug)]
enum Input {
    /// A block of 10 ms.
    Audio(u64),
    /// This many blocks one after the other.
    Blocks(u64, u64),
    Video(u64),
    NewCapture,
    Tick,
}
use Input::{Audio, Blocks, NewCapture, Tick, Video};

/// Rows of milliseconds and inputs in; what the timeline answers out, relative to the epoch. Answers that are as boring as
/// can be are left out for `Blocks`.
fn check(rows: &[(u64, Input)], expected: Expect) {
    expected.assert_eq(&run(rows));
}

fn run(rows: &[(u64, Input)]) -> String {
    let start = Instant::now();
    let mut timeline = Timeline::new(start, settings());
    let mut out = String::new();
    let since = |at: Duration| format!("{:.3}", seconds(at, EPOCH) * 1000.0);
    for (at, input) in rows {
        let now = start + ms(*at);
        let answer = match input {
            Audio(pts) => format!("{:?}", timeline.audio(now, ms(*pts), BLOCK)),
            Blocks(pts, count) => {
                for i in 0..*count {
                    let placed = timeline.audio(now + ms(10 * i), ms(pts + 10 * i), BLOCK);
                    assert_eq!(
                        placed,
                        AudioPlacement::Append {
                            silence: 0,
                            skip: 0
                        }
                    );
                }
                "appended".into()
            }
            Video(pts) => match timeline.video(now, ms(*pts)) {
                Some(Shown { repeats, picture }) => {
                    let before = match repeats.first() {
                        Some(first) => {
                            format!("{} repeats from {}, ", repeats.len(), since(first.pts))
                        }
                        None => String::new(),
                    };
                    let keyframe = if picture.keyframe { ", keyframe" } else { "" };
                    format!("{before}at {}{keyframe}", since(picture.pts))
                }
                None => "no room".into(),
            },
            NewCapture => {
                timeline.forget_offset();
                String::new()
            }
            Tick => {
                let Fill {
                    silence,
                    slates,
                    repeats,
                } = timeline.tick(now);
                let told = match (slates.first(), slates.last()) {
                    (Some(first), Some(last)) => format!(
                        "silence {silence}, {} slates at {}–{}",
                        slates.len(),
                        since(first.pts),
                        since(last.pts)
                    ),
                    _ => format!("silence {silence}"),
                };
                match (repeats.first(), repeats.last()) {
                    (Some(first), Some(last)) => format!(
                        "{told}, {} repeats at {}–{}",
                        repeats.len(),
                        since(first.pts),
                        since(last.pts)
                    ),
                    _ => told,
                }
            }
        };
        let position = since(timeline.position());
        writeln!(out, "{at} {input:?}: {answer} → {position}").unwrap();
    }
    out
}

#[test]
fn the_first_sound_is_the_epoch_and_pictures_wait_for_it() {
    check(
        &[
            (0, Video(5000)),
            (5, Audio(5010)),
            (33, Video(5033)),
            (34, Audio(5020)),
            (66, Video(5066)),
            (67, Tick),
        ],
        expect![[r#"
            0 Video(5000): no room → 0.000
            5 Audio(5010): Append { silence: 0, skip: 0 } → 10.000
            33 Video(5033): at 23.000, keyframe → 10.000
            34 Audio(5020): Append { silence: 0, skip: 0 } → 20.000
            66 Video(5066): at 56.000 → 20.000
            67 Tick: silence 0 → 20.000
        "#]],
    );
}

#[test]
fn a_picture_from_before_the_first_sound_has_no_room() {
    check(
        &[(0, Audio(5000)), (1, Video(4999)), (2, Video(5000))],
        expect![[r#"
            0 Audio(5000): Append { silence: 0, skip: 0 } → 10.000
            1 Video(4999): no room → 10.000
            2 Video(5000): at 0.000, keyframe → 10.000
        "#]],
    );
}

#[test]
fn a_segment_begins_with_the_last_picture_where_no_new_one_comes_in_time() {
    let mut inputs = vec![(0, Audio(5000)), (1, Video(5000))];
    // Sound goes on, a block of 10 ms every 10 ms; the camera stops at 1.96 s and is back at 2.6 s.
    for at in (10..3000).step_by(10) {
        inputs.push((at, Audio(5000 + at)));
        if at % 40 == 0 && !(1960..2600).contains(&at) {
            inputs.push((at, Video(5000 + at)));
        }
        if at % 400 == 0 {
            inputs.push((at, Tick));
        }
    }
    let told = run(&inputs);
    let repeats: Vec<_> = (told.lines())
        .filter(|line| line.contains("repeats"))
        .collect();
    assert_eq!(
        repeats,
        [
            "2400 Tick: silence 0, 2 repeats at 1960.000–2000.000 → 2410.000",
            "2600 Video(7600): 14 repeats from 2040.000, at 2600.000 → 2610.000",
        ]
    );
    // The next segment begins where it would have, and the camera's pictures go on after the hole.
    let keyframes: Vec<_> = told
        .lines()
        .filter(|line| line.contains("keyframe"))
        .collect();
    assert_eq!(keyframes.len(), 1, "{keyframes:?}");
}

#[test]
fn a_trim_that_changes_on_air_costs_no_picture() {
    for (from, to) in [(0, 12), (0, -12), (500, -500), (-500, 500)] {
        let start = Instant::now();
        let mut timeline = Timeline::new(start, settings());
        let mut trim = Trim::new(from);
        let mut placed = Vec::new();
        for block in 0..2000u64 {
            let now = start + STEP * block as u32;
            timeline.audio(now, ms(1000) + STEP * block as u32, BLOCK);
            if block == 500 {
                trim.set(to);
            }
            if block % 4 == 0 {
                let pts = trim.shift(ms(1000) + STEP * block as u32, FRAME);
                let place = timeline.video(now, pts.unwrap());
                placed.extend(place.map(|place| (block, place.picture.pts)));
            }
            assert_eq!(timeline.tick(now).slates, []);
        }
        // All but those before the first sound.
        let early = usize::try_from(-from.min(0)).unwrap() / 40 + 1;
        assert!(
            placed.len() >= 500 - early,
            "{} of 500, {from}",
            placed.len()
        );
        for pair in placed.windows(2) {
            let distance = (pair[1].1 - pair[0].1).as_secs_f64();
            assert!(
                (0.035..0.045).contains(&distance),
                "{distance} at {}",
                pair[0].0
            );
        }
        let (block, last) = *placed.last().unwrap();
        let shift = seconds(last, EPOCH + STEP * block as u32) * 1000.0;
        assert!((shift - f64::from(to)).abs() < 1.0, "{shift} ms for {to}");
    }
    // Off air nobody sees the step, and before the capture's zero there is nothing.
    let mut trim = Trim::new(0);
    trim.set(-40);
    trim.jump();
    assert_eq!(trim.shift(ms(100), FRAME), Some(ms(60)));
    assert_eq!(trim.shift(ms(30), FRAME), None);
}

#[test]
fn pictures_that_crowd_are_left_out() {
    check(
        &[
            (0, Audio(0)),
            (0, Video(0)),
            (5, Video(5)),
            (16, Video(16)),
            (17, Video(17)),
            (17, Video(17)),
            (17, Video(3)),
        ],
        expect![[r#"
            0 Audio(0): Append { silence: 0, skip: 0 } → 10.000
            0 Video(0): at 0.000, keyframe → 10.000
            5 Video(5): no room → 10.000
            16 Video(16): no room → 10.000
            17 Video(17): at 17.000 → 10.000
            17 Video(17): no room → 10.000
            17 Video(3): no room → 10.000
        "#]],
    );
}

#[test]
fn a_small_gap_in_the_sound_moves_the_offset_a_larger_one_becomes_silence() {
    check(
        &[
            (0, Blocks(0, 10)),
            // 40 ms are missing: within what a viewer may hear.
            (140, Audio(140)),
            (150, Audio(150)),
            // 41 ms more.
            (201, Audio(201)),
            (211, Audio(211)),
        ],
        expect![[r#"
            0 Blocks(0, 10): appended → 100.000
            140 Audio(140): Append { silence: 0, skip: 0 } → 110.000
            150 Audio(150): Append { silence: 0, skip: 0 } → 120.000
            201 Audio(201): Append { silence: 3880, skip: 0 } → 210.833
            211 Audio(211): Append { silence: 0, skip: 0 } → 220.833
        "#]],
    );
}

#[test]
fn sound_that_overlaps_is_dropped_until_all_of_it_fits() {
    check(
        &[
            (0, Blocks(0, 10)),
            (100, Audio(50)),
            (110, Audio(59)),
            (120, Audio(68)),
            (130, Audio(77)),
            (140, Audio(86)),
            (150, Audio(95)),
            (160, Audio(105)),
        ],
        expect![[r#"
            0 Blocks(0, 10): appended → 100.000
            100 Audio(50): Drop → 100.000
            110 Audio(59): Drop → 100.000
            120 Audio(68): Drop → 100.000
            130 Audio(77): Drop → 100.000
            140 Audio(86): Drop → 100.000
            150 Audio(95): Append { silence: 0, skip: 240 } → 105.000
            160 Audio(105): Append { silence: 0, skip: 0 } → 115.000
        "#]],
    );
}

/// A machine that is busy reads the sound late and stamps it late, and what had to wait behind it comes at once with the times
/// when it was captured. Programme time may not gain from that: players would be further behind with each time.
#[test]
fn sound_that_is_held_up_again_and_again_leaves_programme_time_where_real_time_is() {
    let start = Instant::now();
    let mut timeline = Timeline::new(start, settings());
    let (mut silence, mut left_out) = (0, 0);
    for block in 0..6_000_u64 {
        let captured = ms(10 * block);
        // Each two seconds 70 ms late; the next ones come with it.
        let late = ms(if block % 200 == 199 { 70 } else { 0 });
        match timeline.audio(start + captured + late, ms(1000) + captured + late, BLOCK) {
            AudioPlacement::Append {
                silence: added,
                skip,
            } => {
                silence += added;
                left_out += skip;
            }
            AudioPlacement::Drop => left_out += BLOCK,
        }
        timeline.check_invariants();
    }
    let ahead = seconds(timeline.position(), EPOCH) - 60.0;
    assert!(ahead.abs() < 0.07 + 0.01, "{ahead}");
    assert!(
        silence > 0 && left_out.abs_diff(silence) <= 8 * BLOCK,
        "{silence} {left_out}"
    );
}

#[test]
fn a_jump_of_timestamps_is_not_a_gap() {
    check(
        &[
            (0, Blocks(0, 10)),
            (100, Audio(901)),
            (110, Audio(911)),
            (111, Video(911)),
        ],
        expect![[r#"
            0 Blocks(0, 10): appended → 100.000
            100 Audio(901): Append { silence: 0, skip: 0 } → 110.000
            110 Audio(911): Append { silence: 0, skip: 0 } → 120.000
            111 Video(911): at 110.000, keyframe → 120.000
        "#]],
    );
}

#[test]
fn timestamps_that_go_back_far_are_no_overlap() {
    check(
        &[
            (0, Blocks(100_000, 10)),
            (100, Audio(500)),
            (110, Audio(510)),
            (111, Video(511)),
        ],
        expect![[r#"
            0 Blocks(100000, 10): appended → 100.000
            100 Audio(500): Append { silence: 0, skip: 0 } → 110.000
            110 Audio(510): Append { silence: 0, skip: 0 } → 120.000
            111 Video(511): at 111.000, keyframe → 120.000
        "#]],
    );
}

#[test]
fn a_new_capture_has_timestamps_of_its_own() {
    check(
        &[
            (0, Blocks(70_000, 10)),
            (90, Video(70_090)),
            (400, NewCapture),
            (401, Video(3)),
            (402, Audio(0)),
            (403, Video(3)),
            (436, Video(36)),
        ],
        expect![[r#"
            0 Blocks(70000, 10): appended → 100.000
            90 Video(70090): at 90.000, keyframe → 100.000
            400 NewCapture:  → 100.000
            401 Video(3): no room → 100.000
            402 Audio(0): Append { silence: 14496, skip: 0 } → 412.000
            403 Video(3): 8 repeats from 123.333, at 405.000 → 412.000
            436 Video(36): at 438.000 → 412.000
        "#]],
    );
}

#[test]
fn no_input_at_all_is_slate_and_silence_from_the_start() {
    check(
        &[
            (799, Tick),
            (800, Tick),
            (801, Tick),
            (834, Tick),
            (900, Tick),
        ],
        expect![[r#"
            799 Tick: silence 0 → 0.000
            800 Tick: silence 0 → 0.000
            801 Tick: silence 38448, 25 slates at 0.000–800.000 → 801.000
            834 Tick: silence 1584, 1 slates at 833.333–833.333 → 834.000
            900 Tick: silence 3168, 2 slates at 866.667–900.000 → 900.000
        "#]],
    );
}

/// A capture in true time, which is also that of its timestamps; its audio clock may be off.
struct Bench {
    timeline: Timeline,
    start: Instant,
    now: Duration,
    /// How fast the card counts samples against the timestamps, parts per million.
    ppm: f64,
    /// How fast the clock of the timestamps runs, parts per million.
    clock_ppm: f64,
    /// Greatest error of a timestamp.
    jitter: Duration,
    /// A picture is delivered this much later than it was captured.
    delay: Duration,
    /// Distance of captured pictures.
    interval: Duration,
    audio: bool,
    video: bool,
    next_block: Duration,
    next_picture: Duration,
    random: u64,
    placements: Vec<Placement>,
    silence: u64,
}

#[derive(Debug, Clone, Copy)]
struct Placement {
    pts: Duration,
    keyframe: bool,
    from: From,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum From {
    /// True time of capture.
    Captured(Duration),
    Repeat,
    Slate,
}

impl Placement {
    /// True time of capture; a repeated picture has none.
    ///
    /// # Panics
    /// At a slate.
    fn captured(&self) -> Option<Duration> {
        match self.from {
            From::Captured(at) => Some(at),
            From::Repeat => None,
            From::Slate => panic!("a slate at {:?}", self.pts),
        }
    }
}

impl Bench {
    fn new() -> Bench {
        let start = Instant::now();
        Bench {
            timeline: Timeline::new(start, settings()),
            start,
            now: Duration::ZERO,
            ppm: 0.0,
            clock_ppm: 0.0,
            jitter: Duration::ZERO,
            delay: Duration::ZERO,
            interval: FRAME,
            audio: true,
            video: true,
            next_block: Duration::ZERO,
            next_picture: Duration::ZERO,
            random: 1,
            placements: Vec::new(),
            silence: 0,
        }
    }

    /// Xorshift: the same in every run.
    fn jittered(&mut self, pts: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let span = 2 * self.jitter.as_nanos() as u64 + 1;
        let pts = pts.mul_f64(1.0 + self.clock_ppm / 1e6);
        // Capture began long before the programme, so that there is room below.
        ms(1000) + pts + Duration::from_nanos(self.random % span) - self.jitter
    }

    /// Lets `time` pass in steps of a tick.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now += STEP;
            let now = self.start + self.now;
            let block = Duration::from_nanos((1e7 / (1.0 + self.ppm / 1e6)) as u64);
            while self.next_block + block <= self.now {
                if self.audio {
                    let pts = self.jittered(self.next_block);
                    match self.timeline.audio(now, pts, BLOCK) {
                        AudioPlacement::Append { silence, skip: 0 } => self.silence += silence,
                        other => panic!("{other:?} at {:?}", self.now),
                    }
                }
                self.next_block += block;
            }
            while self.next_picture + self.delay <= self.now {
                if self.video {
                    let captured = self.next_picture;
                    let pts = self.jittered(captured);
                    if let Some(Shown { repeats, picture }) = self.timeline.video(now, pts) {
                        for repeat in repeats {
                            self.placed(repeat, From::Repeat);
                        }
                        self.placed(picture, From::Captured(captured));
                    }
                }
                self.next_picture += self.interval;
            }
            let fill = self.timeline.tick(now);
            self.silence += fill.silence;
            for slate in fill.slates {
                self.placed(slate, From::Slate);
            }
            for repeat in fill.repeats {
                self.placed(repeat, From::Repeat);
            }
        }
    }

    fn placed(&mut self, placed: VideoPlacement, from: From) {
        if let Some(last) = self.placements.last() {
            assert!(placed.pts > last.pts, "{placed:?} after {last:?}");
        }
        self.placements.push(Placement {
            pts: placed.pts,
            keyframe: placed.keyframe,
            from,
        });
    }

    /// Takes out what has been placed so far.
    fn take(&mut self) -> Vec<Placement> {
        std::mem::take(&mut self.placements)
    }
}

fn slates(placements: &[Placement]) -> usize {
    count(placements, From::Slate)
}

fn repeats(placements: &[Placement]) -> usize {
    count(placements, From::Repeat)
}

fn count(placements: &[Placement], from: From) -> usize {
    placements.iter().filter(|it| it.from == from).count()
}

fn pts(placements: &[Placement]) -> impl Iterator<Item = Duration> {
    placements.iter().map(|placement| placement.pts)
}

/// Greatest distance of two pictures, one after the other.
fn longest_gap(placements: &[Placement]) -> Duration {
    (placements.windows(2))
        .map(|pair| pair[1].pts - pair[0].pts)
        .max()
        .unwrap_or_default()
}

/// Every picture stands where the sample that was captured with it stands.
fn check_sync(ppm: f64, jitter: Duration, hours: u64, bound: Duration) {
    let mut bench = Bench {
        ppm,
        jitter,
        ..Bench::new()
    };
    let mut keyframes = Vec::new();
    let mut worst = 0.0f64;
    for _ in 0..hours * 60 {
        bench.run(Duration::from_secs(60));
        for placement in bench.take() {
            let captured = placement.captured().expect("the input never fails");
            // Sample n stands at n / 48000 and was captured at n / (48000 * (1 + ppm)).
            let truth = captured.as_secs_f64() * (1.0 + ppm / 1e6);
            worst = worst.max((seconds(placement.pts, EPOCH) - truth).abs());
            if placement.keyframe {
                keyframes.push(placement.pts);
            }
        }
    }
    assert_eq!(bench.silence, 0, "no sound is missing");
    assert!(
        worst <= bound.as_secs_f64(),
        "{ppm} ppm, jitter {jitter:?}: {worst} s off"
    );
    // The grid: every keyframe within a frame of its point, after hours as at the start.
    // An audio clock that is off makes a programme that is a little longer or shorter.
    assert!(keyframes.len() as u64 >= hours * 1800 - 3);
    for (i, at) in keyframes.iter().enumerate() {
        let grid = (keyframes[0] + SEGMENT * i as u32).as_secs_f64();
        let off = (at.as_secs_f64() - grid).abs();
        assert!(
            off <= FRAME.as_secs_f64(),
            "keyframe {i} is {off} s off the grid"
        );
    }
}

#[test]
fn pictures_stay_with_the_sound_for_hours() {
    check_sync(0.0, Duration::ZERO, 1, ms(1));
    check_sync(0.0, ms(2), 1, ms(5));
}

#[test]
fn an_audio_clock_that_is_fast_is_followed_for_eight_hours() {
    check_sync(200.0, ms(2), 8, ms(10));
}

#[test]
fn an_audio_clock_that_is_slow_is_followed_for_eight_hours() {
    check_sync(-200.0, ms(2), 8, ms(10));
}

#[test]
fn without_video_the_slate_keeps_the_exact_frame_rate() {
    let mut bench = Bench {
        video: false,
        ..Bench::new()
    };
    bench.run(Duration::from_secs(600));
    let placements = bench.take();
    assert_eq!(bench.silence, 0);
    assert!(placements.len() as f64 > 600.0 * 30.0 - 2.0);
    for (i, at) in pts(&placements).enumerate() {
        assert_eq!(at, EPOCH + FRAME * i as u32);
    }
    let keyframes: Vec<_> = placements.iter().filter(|it| it.keyframe).collect();
    for pair in keyframes.windows(2) {
        let length = seconds(pair[1].pts, pair[0].pts);
        assert!((length - 2.0).abs() <= FRAME.as_secs_f64(), "{length}");
    }
}

#[test]
fn without_sound_silence_keeps_real_time_and_pictures_stay() {
    let mut bench = Bench {
        audio: false,
        jitter: ms(2),
        ..Bench::new()
    };
    bench.run(Duration::from_secs(10));
    let off = bench.now.as_secs_f64() - seconds(bench.timeline.position(), EPOCH);
    assert!(off.abs() < 0.001, "{off}");
    // Until the sound counts as lost, nobody knows where pictures belong.
    let unknown = LOSS + RETURN + FRAME * 2;
    assert!(FRAME * slates(&bench.take()) as u32 <= unknown);
    assert!(bench.timeline.audio_lost() && !bench.timeline.video_lost());

    bench.run(Duration::from_secs(3600));
    let placements = bench.take();
    assert_eq!(slates(&placements), 0);
    assert_eq!(placements.len(), 3600 * 30);
}

#[test]
fn without_sound_a_capture_clock_that_drifts_does_not_lose_the_picture() {
    let mut bench = Bench {
        audio: false,
        clock_ppm: 500.0,
        ..Bench::new()
    };
    bench.run(Duration::from_secs(2));
    bench.take();
    bench.run(Duration::from_secs(2 * 3600));
    let placements = bench.take();
    assert_eq!(slates(&placements), 0);
    assert!(longest_gap(&placements) < FRAME * 2);
}

#[test]
fn without_sound_a_jump_of_the_pictures_timestamps_is_survived() {
    for jump in [ms(700), ms(1000), ms(1700), Duration::from_secs(3600)] {
        let mut bench = Bench {
            audio: false,
            ..Bench::new()
        };
        bench.run(Duration::from_secs(5));
        bench.take();
        let start = bench.start;
        // From here on timestamps are larger.
        let mut timestamps = bench.next_picture + jump;
        let mut placed = 0;
        for _ in 0..90 {
            bench.now += FRAME;
            timestamps += FRAME;
            bench.timeline.tick(start + bench.now);
            placed += u32::from(
                bench
                    .timeline
                    .video(start + bench.now, timestamps)
                    .is_some(),
            );
        }
        assert!(placed >= 60, "{placed} of 90 pictures");
    }
}

#[test]
fn no_input_from_the_start_gives_a_full_programme() {
    let mut bench = Bench {
        audio: false,
        video: false,
        ..Bench::new()
    };
    bench.run(Duration::from_secs(60));
    let off = bench.now.as_secs_f64() - seconds(bench.timeline.position(), EPOCH);
    assert!(off.abs() < 0.001, "{off}");
    let placements = bench.take();
    assert_eq!(slates(&placements), placements.len());
    for (i, at) in pts(&placements).enumerate() {
        assert_eq!(at, EPOCH + FRAME * i as u32);
    }
}

/// The input goes for `absent` and comes back. However late its pictures are delivered, they come back too.
fn check_return(absent: Duration, delay: Duration) {
    let mut bench = Bench {
        delay,
        ..Bench::new()
    };
    bench.run(Duration::from_secs(10));
    assert_eq!(
        slates(&bench.take()),
        0,
        "no slate while there is a picture"
    );
    bench.video = false;
    bench.run(absent);
    bench.video = true;
    bench.run(Duration::from_secs(10));
    let placements = bench.take();
    // The picture is back when it has come for a while.
    let expected = if absent > LOSS + delay {
        absent + RETURN
    } else {
        Duration::ZERO
    };
    let filled = FRAME * slates(&placements) as u32;
    assert!(
        filled <= expected + delay + FRAME * 2 && filled + ms(50) >= expected,
        "absent for {absent:?}, late by {delay:?}: slate for {filled:?}"
    );
    assert!(longest_gap(&placements) < FRAME * 7 / 4);
    let back = bench.now - ms(9000);
    let late: Vec<_> = (placements.iter())
        .filter(|it| seconds(it.pts, EPOCH) > back.as_secs_f64())
        .collect();
    assert!(
        late.iter().all(|it| matches!(it.from, From::Captured(_))),
        "absent for {absent:?}, late by {delay:?}: the slate stays"
    );
    for placement in placements {
        let From::Captured(captured) = placement.from else {
            continue;
        };
        let off = seconds(placement.pts, EPOCH) - captured.as_secs_f64();
        assert!(off.abs() < 0.001, "{off}");
    }
}

#[test]
fn pictures_come_back_after_the_slate_however_late_they_are_delivered() {
    for absent in [ms(300), ms(700), ms(2000), ms(60_000)] {
        for delay in [0, 10, 30, 60, 100, 200, 400] {
            check_return(absent, ms(delay));
        }
    }
}

/// A camera with jitter, for long enough that the timeline knows how fast it is.
fn known_camera(interval: Duration) -> Bench {
    let mut bench = Bench {
        interval,
        jitter: ms(2),
        ..Bench::new()
    };
    bench.run(Duration::from_secs(3));
    bench.take();
    bench
}

#[test]
fn a_slower_camera_is_not_filled_up_once_it_is_known() {
    for interval in [ms(40), ms(50), ms(67), ms(100)] {
        let mut bench = known_camera(interval);
        bench.run(Duration::from_secs(60));
        let placements = bench.take();
        assert_eq!((slates(&placements), repeats(&placements)), (0, 0));
        assert!(placements.len() as u128 >= 60_000 / interval.as_millis() - 1);
    }
}

#[test]
fn pictures_that_are_lost_are_shown_by_the_ones_before_them() {
    for interval in [FRAME, ms(40), ms(67), ms(100)] {
        let mut bench = known_camera(interval);
        for lost in 1..7 {
            bench.video = false;
            bench.run(interval * lost);
            bench.video = true;
            bench.run(Duration::from_secs(1));
            let placements = bench.take();
            assert_eq!(slates(&placements), 0);
            let repeated = repeats(&placements) as u32;
            assert!(repeated.abs_diff(lost) <= 1, "{repeated} for {lost}");
            assert!(longest_gap(&placements) < interval * 7 / 4 + ms(4));
        }
    }
}

#[test]
fn sound_that_comes_back_meets_its_picture_again() {
    let mut bench = Bench {
        delay: ms(60),
        ..Bench::new()
    };
    bench.run(Duration::from_secs(10));
    bench.audio = false;
    bench.run(Duration::from_secs(5));
    bench.audio = true;
    bench.run(Duration::from_secs(1));
    bench.take();
    bench.run(Duration::from_secs(10));
    let placements = bench.take();
    assert_eq!(slates(&placements), 0);
    let before = bench.timeline.position();
    let lag = seconds(before, EPOCH) - bench.now.as_secs_f64();
    for placement in placements {
        let captured = placement.captured().expect("nothing is lost");
        let off = seconds(placement.pts, EPOCH) - captured.as_secs_f64() - lag;
        assert!(off.abs() < 0.011, "{off}");
    }
}

#[test]
fn a_few_samples_that_are_missing_do_not_leave_the_picture_behind() {
    for missing in [10, 20, 30] {
        let mut bench = Bench {
            jitter: ms(2),
            ppm: 200.0,
            ..Bench::new()
        };
        bench.run(Duration::from_secs(10));
        bench.audio = false;
        bench.run(ms(missing));
        bench.audio = true;
        bench.run(Duration::from_secs(1));
        bench.take();
        let blocks = (missing / 10) as f64 * 0.01;
        bench.run(Duration::from_secs(10));
        for placement in bench.take() {
            let captured = placement.captured().expect("nothing is lost");
            let truth = captured.as_secs_f64() * (1.0 + 200e-6) - blocks;
            let off = seconds(placement.pts, EPOCH) - truth;
            assert!(off.abs() <= 0.005, "{missing} ms missing: {off}");
        }
    }
}

#[test]
fn a_capture_that_starts_anew_again_and_again_keeps_real_time_and_sync() {
    let mut bench = Bench::new();
    for _ in 0..100 {
        bench.run(ms(4000));
        (bench.audio, bench.video) = (false, false);
        bench.run(ms(500));
        (bench.audio, bench.video) = (true, true);
        bench.timeline.forget_offset();
    }
    bench.run(ms(1000));
    let behind = bench.now.as_secs_f64() - seconds(bench.timeline.position(), EPOCH);
    assert!((0.0..0.02).contains(&behind), "{behind}");
    for placement in bench.take() {
        // No slate for half a second.
        let Some(captured) = placement.captured() else {
            continue;
        };
        let off = seconds(placement.pts, EPOCH) - captured.as_secs_f64();
        assert!(off.abs() < 0.011, "{off}");
    }
}

#[test]
fn a_loose_plug_does_not_flicker() {
    let start = Instant::now();
    for (deliver, pause) in [(1, 900), (200, 900), (250, 500), (33, 1500)] {
        let mut arrival = Arrival::new(start);
        let mut changes = 0;
        for at in 0..60_000 {
            let was = arrival.lost();
            if at % (deliver + pause) < deliver && at % 33 == 0 {
                arrival.arrived(start + ms(at));
            }
            arrival.tick(start + ms(at));
            changes += u32::from(was != arrival.lost());
        }
        assert!(changes <= 1, "{deliver} of {pause} ms: {changes} changes");
    }
}

#[test]
fn pictures_are_lost_and_back_within_a_second() {
    let start = Instant::now();
    for interval in [17, 33, 40, 100, 250] {
        let mut arrival = Arrival::new(start);
        let mut changes = Vec::new();
        for at in 0..20_000 {
            let was = arrival.lost();
            let absent = (5000..10_000).contains(&at);
            if !absent && at % interval == 0 {
                arrival.arrived(start + ms(at));
            }
            arrival.tick(start + ms(at));
            if was != arrival.lost() {
                changes.push(at);
            }
        }
        let [lost, back] = changes[..] else {
            panic!("every {interval} ms: {changes:?}");
        };
        assert!((5500..6000).contains(&lost), "every {interval} ms: {lost}");
        assert!(
            (10_000..=10_700).contains(&back),
            "every {interval} ms: {back}"
        );
    }
}

/// One step of a capture that lies.
#[derive(Debug, Clone)]
enum Lie {
    /// Both media deliver for this many ticks.
    Run(u16),
    /// Only one of them does.
    AudioOnly(u16),
    VideoOnly(u16),
    Nothing(u16),
    /// From here on timestamps are off by this many milliseconds.
    AudioJumps(i32),
    VideoJumps(i32),
    /// Pictures and blocks with any timestamp at all.
    Picture(u64),
    Block(u64),
    NewCapture,
    /// The machine stutters: everything is late by this many ticks.
    Pause(u8),
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        (1u16..300).prop_map(Lie::Run),
        (1u16..200).prop_map(Lie::AudioOnly),
        (1u16..200).prop_map(Lie::VideoOnly),
        (1u16..200).prop_map(Lie::Nothing),
        (-3000i32..3000).prop_map(Lie::AudioJumps),
        (-3000i32..3000).prop_map(Lie::VideoJumps),
        (0u64..u64::MAX).prop_map(Lie::Picture),
        (0u64..40_000_000_000).prop_map(Lie::Picture),
        (0u64..u64::MAX).prop_map(Lie::Block),
        Just(Lie::NewCapture),
        (1u8..30).prop_map(Lie::Pause),
    ]
}

/// The sound's timestamps are rubbish for three seconds, and the picture's too if asked for.
fn rubbish(seed: u64, video: bool) {
    let mut capture = Liar::new();
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut lie = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // Of every size, as a driver's rubbish is.
        Duration::from_nanos(random >> (random % 60 + 1))
    };
    for _ in 0..300 {
        capture.feed(capture.truth(), capture.truth());
    }
    assert!(capture.ahead().abs() < 1.0);
    for _ in 0..300 {
        let picture = if video { lie() } else { capture.truth() };
        capture.feed(lie(), picture);
    }
    let ahead = capture.ahead();
    assert!(ahead.abs() < 100.0, "seed {seed}: {ahead} ms");
    let ended = capture.true_time;
    let mut back = None;
    for _ in 0..200 {
        if capture.feed(capture.truth(), capture.truth()) {
            back.get_or_insert(capture.true_time - ended);
        }
    }
    // Rubbish that happens to be close to the truth looks like an overlap until it is met.
    let most = LOSS + RETURN + FRAME * 2;
    assert!(
        back.is_some_and(|back| back <= most),
        "seed {seed}: {back:?}"
    );
    let (ahead, loss) = (capture.ahead(), LOSS.as_millis() as f64);
    assert!(ahead < 100.0 && ahead >= -loss, "seed {seed}: {ahead} ms");
}

#[test]
fn timestamps_that_are_rubbish_neither_hurry_the_programme_nor_hold_it_up() {
    for seed in 0..1000 {
        rubbish(seed, false);
        rubbish(seed, true);
    }
}

#[test]
fn one_wrong_timestamp_costs_neither_sound_nor_picture() {
    for off in [-790, -500, -100, -50, 50, 100, 300, 500, 790] {
        let mut capture = Liar::new();
        let mut shown = 0;
        for i in 1..=3000 {
            let truth = capture.truth();
            let wrong = match (i + 50) % 100 {
                0 => truth.as_millis() as i64 + off,
                _ => truth.as_millis() as i64,
            };
            shown += usize::from(capture.feed(ms(wrong as u64), truth));
        }
        let ahead = capture.ahead();
        assert!(ahead.abs() < 1.0, "{off} ms: {ahead} ms");
        assert!(shown >= 999, "{off} ms: {shown} of 1000 pictures");
    }
}

#[test]
fn what_a_machine_that_stood_still_has_missed_is_silence_whoever_comes_first() {
    for (pause, tick_first) in [(300, false), (2000, true), (2000, false)] {
        let mut capture = Liar::new();
        for _ in 0..300 {
            capture.feed(capture.truth(), capture.truth());
        }
        capture.pause(ms(pause));
        if tick_first {
            capture.tick();
        }
        for _ in 0..300 {
            capture.feed(capture.truth(), capture.truth());
        }
        let ahead = capture.ahead();
        assert!(ahead.abs() <= 10.0, "{pause} ms, {tick_first}: {ahead} ms");
    }
}

/// Drives a timeline and checks what must hold whatever the input does.
struct Liar {
    timeline: Timeline,
    now: Instant,
    true_time: Duration,
    audio_off: i64,
    video_off: i64,
    ticks: u64,
    last_picture: Option<Duration>,
    position: Duration,
}

impl Liar {
    fn new() -> Liar {
        let now = Instant::now();
        Liar {
            timeline: Timeline::new(now, settings()),
            now,
            true_time: Duration::ZERO,
            audio_off: 0,
            video_off: 0,
            ticks: 0,
            last_picture: None,
            position: EPOCH,
        }
    }

    fn truth(&self) -> Duration {
        self.time(0)
    }

    /// How far the programme is before real time, milliseconds.
    fn ahead(&self) -> f64 {
        (seconds(self.timeline.position(), EPOCH) - self.true_time.as_secs_f64()) * 1000.0
    }

    /// The machine stands still, and the input goes on.
    fn pause(&mut self, pause: Duration) {
        self.now += pause;
        self.true_time += pause;
    }

    fn time(&self, off: i64) -> Duration {
        // Well above zero, so that jumps back stay above it.
        Duration::from_nanos(
            (3_600_000_000_000 + self.true_time.as_nanos() as i64 + off).max(0) as u64,
        )
    }

    fn step(&mut self, audio: bool, video: bool) {
        let audio = audio.then(|| self.time(self.audio_off));
        let video = video.then(|| self.time(self.video_off));
        self.feed(audio, video);
    }

    /// The next ten milliseconds: a block, and a picture every thirty, at these timestamps. Whether a picture is shown.
    fn feed(
        &mut self,
        audio: impl Into<Option<Duration>>,
        video: impl Into<Option<Duration>>,
    ) -> bool {
        self.pause(STEP);
        self.ticks += 1;
        if let Some(pts) = audio.into() {
            self.block(pts);
        }
        let due = self.ticks.is_multiple_of(3);
        let picture = video.into().filter(|_| due);
        let shown = picture.is_some_and(|pts| self.picture(pts));
        self.tick();
        shown
    }

    fn tick(&mut self) {
        let fill = self.timeline.tick(self.now);
        for slate in fill.slates.into_iter().chain(fill.repeats) {
            self.check_placement(slate.pts);
        }
        self.check_invariants();
        if self.timeline.video_lost() {
            let behind = self
                .last_picture
                .map_or(0.0, |last| seconds(self.position, last));
            assert!(
                behind <= FRAME.as_secs_f64(),
                "the slate lags by {behind} s"
            );
        }
    }

    fn block(&mut self, pts: Duration) {
        self.timeline.audio(self.now, pts, BLOCK);
        self.check_invariants();
    }

    /// Whether it is shown.
    fn picture(&mut self, pts: Duration) -> bool {
        let Some(Shown { repeats, picture }) = self.timeline.video(self.now, pts) else {
            return false;
        };
        for placed in repeats.into_iter().chain([picture]) {
            self.check_placement(placed.pts);
        }
        true
    }

    fn check_placement(&mut self, pts: Duration) {
        assert!(pts >= EPOCH);
        if let Some(last) = self.last_picture {
            assert!(pts > last, "{pts:?} after {last:?}");
            let gap = pts - last;
            assert!(gap <= LOSS + FRAME * 3, "a hole of {gap:?} at {pts:?}");
        }
        self.last_picture = Some(pts);
    }

    fn check_invariants(&mut self) {
        self.timeline.check_invariants();
        let position = self.timeline.position();
        assert!(position >= self.position, "sound goes back");
        self.position = position;
    }
}

proptest! {
    #[test]
    fn whatever_the_input_pictures_go_forward_without_holes_and_sound_never_goes_back(
        lies in prop::collection::vec(lie(), 1..40),
    ) {
        let mut liar = Liar::new();
        for lie in lies {
            match lie {
                Lie::Run(ticks) => (0..ticks).for_each(|_| liar.step(true, true)),
                Lie::AudioOnly(ticks) => (0..ticks).for_each(|_| liar.step(true, false)),
                Lie::VideoOnly(ticks) => (0..ticks).for_each(|_| liar.step(false, true)),
                Lie::Nothing(ticks) => (0..ticks).for_each(|_| liar.step(false, false)),
                Lie::AudioJumps(by) => liar.audio_off += i64::from(by) * 1_000_000,
                Lie::VideoJumps(by) => liar.video_off += i64::from(by) * 1_000_000,
                Lie::Picture(pts) => drop(liar.picture(Duration::from_nanos(pts))),
                Lie::Block(pts) => liar.block(Duration::from_nanos(pts)),
                Lie::NewCapture => liar.timeline.forget_offset(),
                Lie::Pause(ticks) => liar.pause(STEP * u32::from(ticks)),
            }
        }
        // What comes back for good is shown, whatever was before.
        liar.video_off = liar.audio_off;
        (0..500).for_each(|_| liar.step(true, true));
        prop_assert!(!liar.timeline.video_lost() && !liar.timeline.audio_lost());
    }
}
