//! The self-test against simulated inputs: phones, cameras, talks, slides, music, and everything between.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use stream::self_test::{Finding, Measurement, Observation, PAIRS, Picture, SelfTest, Sound};

/// What is promised of nine measurements in ten, milliseconds.
const BOUND: f64 = 5.0;

/// Uniform in 0 to 1, the same in every run.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    fn around(&mut self, amplitude: f64) -> f64 {
        (2.0 * self.next() - 1.0) * amplitude
    }
}

/// An input and what happens there. Seconds unless said otherwise.
#[derive(Debug, Clone)]
struct Scene {
    seed: u64,
    seconds: f64,
    fps: f64,
    /// The sound is late by this.
    offset: f64,
    /// And becomes later, parts per million.
    ppm: f64,
    /// Greatest error of a picture's timestamp.
    jitter: f64,
    /// Share of the page's flashes, and of its beeps, that are missing.
    missing: f64,
    /// Flashes and beeps of other origin, for each of the page's.
    extra: f64,
    /// Amplitude of the noise below, of full scale.
    noise: f64,
    /// The page's flashes begin with a picture: source and card are on one clock.
    locked: bool,
}

impl Default for Scene {
    fn default() -> Scene {
        Scene {
            seed: 0x9e37_79b9_7f4a_7c15,
            seconds: 40.0,
            fps: 30.0,
            offset: 0.0,
            ppm: 0.0,
            jitter: 0.0,
            missing: 0.0,
            extra: 0.0,
            noise: 0.003,
            locked: false,
        }
    }
}

const AMPLITUDE: f64 = 0.3;
const LENGTH: f64 = 0.1;

impl Scene {
    /// Beginnings of flashes and of beeps, true time.
    fn events(&self) -> (Vec<f64>, Vec<f64>) {
        let mut random = Random(self.seed | 1);
        let (mut flashes, mut beeps) = (Vec::new(), Vec::new());
        let mut at = 1.0;
        // As the page does: the golden ratio leaves no phase out.
        let mut phase = 0.0;
        while at < self.seconds - 1.5 {
            let begins = if self.locked {
                (at * self.fps).round() / self.fps
            } else {
                at
            };
            if random.next() >= self.missing {
                flashes.push(begins);
            }
            if random.next() >= self.missing {
                beeps.push(begins + self.offset + begins * self.ppm / 1e6);
            }
            if random.next() < self.extra {
                flashes.push(at + random.next());
            }
            if random.next() < self.extra {
                beeps.push(at + random.next() + self.offset);
            }
            phase = (phase + 0.618_034) % 1.0;
            at += 1.0 + 0.4 * phase;
        }
        flashes.sort_by(f64::total_cmp);
        beeps.sort_by(f64::total_cmp);
        (flashes, beeps)
    }

    /// Whether one of the events, in the order of their times, is going on.
    fn inside(events: &[f64], at: f64) -> bool {
        let begun = events.partition_point(|it| *it <= at);
        begun > 0 && at - events[begun - 1] < LENGTH
    }

    fn observe(&self) -> SelfTest {
        let (flashes, beeps) = self.events();
        self.show(
            |at| if Scene::inside(&flashes, at) { 235 } else { 16 },
            |at| {
                if Scene::inside(&beeps, at) {
                    AMPLITUDE
                } else {
                    0.0
                }
            },
        )
    }

    /// Shows a picture and plays a sound, in blocks as the box does. Timestamps begin at ten seconds.
    fn show(&self, luma: impl Fn(f64) -> u8, amplitude: impl Fn(f64) -> f64) -> SelfTest {
        let mut random = Random(self.seed.rotate_left(32) | 1);
        let mut test = SelfTest::default();
        let (mut picture, mut sound) = (0u64, 0u64);
        let stamp = |at: f64| Duration::from_secs_f64(10.0 + at);
        for block in 1..(self.seconds * 10.0) as u64 {
            let mut observation = Observation {
                generation: 1,
                ..Observation::default()
            };
            let until = block as f64 / 10.0;
            while (picture as f64) / self.fps < until {
                let at = picture as f64 / self.fps;
                observation.pictures.push(Picture {
                    at: stamp(at + random.around(self.jitter)),
                    // A hair later: a picture on the grid sees what begins on the grid.
                    luma: luma(at + 1e-9),
                });
                picture += 1;
            }
            while (sound as f64) / 1000.0 < until {
                let at = sound as f64 / 1000.0;
                // What begins within it is in it.
                let peak = amplitude(at).max(amplitude(at + 0.000_75)) + random.next() * self.noise;
                observation.sounds.push(Sound {
                    at: stamp(at),
                    peak: (peak * 32_767.0).min(32_767.0) as u16,
                });
                sound += 1;
            }
            test.observe(&observation);
        }
        test
    }
}

fn measured(test: &SelfTest) -> Measurement {
    match test.finding() {
        Finding::Measured(measured) => measured,
        other => panic!("{other:?}"),
    }
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let fps = prop::sample::select(vec![23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 59.94, 60.0]);
    (
        any::<u64>(),
        fps,
        -0.4..0.4f64,
        -200.0..200f64,
        0.0..0.002f64,
        0.0..0.2f64,
        0.0..0.15f64,
        0.0..0.02f64,
        any::<bool>(),
    )
        .prop_map(
            |(seed, fps, offset, ppm, jitter, missing, extra, noise, locked)| Scene {
                seed,
                fps,
                offset,
                ppm,
                jitter,
                missing,
                extra,
                noise,
                locked,
                ..Scene::default()
            },
        )
}

/// The same scenes in every run: an error is a matter of chance, and its distribution is what is promised.
fn scenes(count: usize) -> Vec<Scene> {
    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| any_scene().new_tree(&mut runner).unwrap().current())
        .collect()
}

#[test]
fn the_offset_is_measured_through_everything() {
    let mut errors = Vec::new();
    let mut covered = 0;
    let scenes = scenes(100);
    for scene in &scenes {
        let found = measured(&scene.observe());
        let truth = (scene.offset + scene.seconds / 2.0 * scene.ppm / 1e6) * 1e3;
        let error = (found.offset_ms - truth).abs();
        assert!(
            error <= 4.0 * found.error_ms,
            "{found:?} for {truth}, {scene:?}"
        );
        assert!(found.pairs >= PAIRS);
        assert!(found.spread_ms <= 1e3 / scene.fps + 15.0);
        covered += usize::from(error <= found.error_ms);
        errors.push(error);
    }
    errors.sort_by(f64::total_cmp);
    assert!(errors[scenes.len() / 2] < 1.0, "{errors:?}");
    assert!(errors[scenes.len() * 9 / 10] <= BOUND, "{errors:?}");
    assert!(covered * 10 >= scenes.len() * 9, "{covered} covered");
}

#[test]
fn drift_is_measured_when_it_goes_on_for_long() {
    for scene in scenes(8) {
        let scene = Scene {
            seconds: 300.0,
            ..scene
        };
        let drift = measured(&scene.observe()).drift.unwrap();
        let error = (drift.ppm - scene.ppm).abs();
        assert!(error <= drift.error_ppm, "{drift:?} for {scene:?}");
        assert!(drift.error_ppm < 60.0, "{drift:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Flashes and beeps that have nothing to do with each other: however many, they are not a measurement.
    #[test]
    fn no_pattern_is_no_measurement(seed: u64, flashes in 0.1..3f64, beeps in 0.1..3f64) {
        let scene = Scene { seed, seconds: 60.0, ..Scene::default() };
        let mut random = Random(seed | 1);
        let mut times = |a_second: f64| -> Vec<f64> {
            let mut times: Vec<f64> =
                (0..(a_second * scene.seconds) as u32).map(|_| random.next() * scene.seconds).collect();
            times.sort_by(f64::total_cmp);
            times
        };
        let (flashes, beeps) = (times(flashes), times(beeps));
        let test = scene.show(
            |at| if Scene::inside(&flashes, at) { 200 } else { 40 },
            |at| if Scene::inside(&beeps, at) { 0.5 } else { 0.0 },
        );
        prop_assert!(!matches!(test.finding(), Finding::Measured(_)), "{:?}", test.finding());
    }

    /// Pictures and sound of any kind, with timestamps of any kind.
    #[test]
    fn nothing_overflows(
        blocks in prop::collection::vec(
            (0u64..3, prop::collection::vec((any::<u64>(), any::<u8>()), 0..9), prop::collection::vec((any::<u64>(), any::<u16>()), 0..9)),
            0..60,
        ),
    ) {
        let mut test = SelfTest::default();
        for (generation, pictures, sounds) in blocks {
            test.observe(&Observation {
                generation,
                pictures: pictures.into_iter().map(|(at, luma)| Picture { at: Duration::from_nanos(at), luma }).collect(),
                sounds: sounds.into_iter().map(|(at, peak)| Sound { at: Duration::from_nanos(at), peak }).collect(),
            });
            if let Finding::Measured(measured) = test.finding() {
                prop_assert!(measured.offset_ms.is_finite() && measured.error_ms.is_finite());
            }
        }
    }
}

#[test]
fn it_says_why_it_cannot_measure() {
    let scene = Scene {
        seconds: 30.0,
        ..Scene::default()
    };
    let (flashes, beeps) = scene.events();
    let flash = |at: f64| if Scene::inside(&flashes, at) { 235 } else { 16 };
    let beep = |at: f64| {
        if Scene::inside(&beeps, at) {
            AMPLITUDE
        } else {
            0.0
        }
    };
    for (found, expected) in [
        (scene.show(|_| 16, |_| 0.0), Finding::NothingFound),
        (scene.show(flash, |_| 0.0), Finding::NoBeep),
        (scene.show(|_| 16, beep), Finding::NoFlash),
        // Music through a mixer that is turned up too far.
        (
            scene.show(flash, |at| 0.95 + (at * 9.0).sin().abs()),
            Finding::TooLoud,
        ),
        // Two phones that know nothing of each other.
        (
            scene.show(flash, |at| {
                let tick = at % 0.97;
                if tick < LENGTH { AMPLITUDE } else { 0.0 }
            }),
            Finding::NoPattern,
        ),
    ] {
        assert_eq!(found.finding(), expected);
        let lines = expected.lines();
        assert!(lines.iter().all(|line| line.is_ascii() && line.len() <= 21));
        assert!(!lines[0].is_empty());
    }
    let early = Scene {
        seconds: 6.0,
        ..Scene::default()
    };
    let found = early.observe().finding();
    assert!(
        matches!(found, Finding::Looking { pairs: 1.. }),
        "{found:?}"
    );
}

/// Slides that change, a talk, and music with a beat: nothing of it is the page.
#[test]
fn a_conference_is_not_a_test() {
    let scene = Scene {
        seconds: 120.0,
        ..Scene::default()
    };
    // A slide every seven seconds, dark and bright ones by turns, and a click with each.
    let slides = |at: f64| {
        if ((at / 7.0) as u64).is_multiple_of(2) {
            40
        } else {
            210
        }
    };
    let click = |at: f64| if at % 7.0 < 0.1 { 0.5 } else { 0.0 };
    // Syllables of a quarter of a second, with pauses.
    let talk = |at: f64| 0.2 * (at * 12.0).sin().max(0.0) * (at * 0.7).sin().max(0.0);
    let beat = |at: f64| if at % 0.5 < 0.08 { 0.9 } else { 0.1 };
    let still = |_: f64| 90;
    for (name, test) in [
        ("slides and clicks", scene.show(slides, click)),
        ("slides and talk", scene.show(slides, talk)),
        ("slides and music", scene.show(slides, beat)),
        ("music over a still picture", scene.show(still, beat)),
    ] {
        let found = test.finding();
        assert!(!matches!(found, Finding::Measured(_)), "{name}: {found:?}");
    }
}

#[test]
fn a_measurement_stays_until_another_life_of_the_capture() {
    let scene = Scene {
        offset: 0.08,
        ..Scene::default()
    };
    let mut test = scene.observe();
    let found = measured(&test);
    // The page is closed, and a minute passes.
    let later = |at: u64| Duration::from_secs(100 + at);
    test.observe(&Observation {
        generation: 1,
        pictures: (0..60)
            .map(|at| Picture {
                at: later(at),
                luma: 16,
            })
            .collect(),
        sounds: Vec::new(),
    });
    assert_eq!(measured(&test), found);
    test.observe(&Observation {
        generation: 2,
        ..Observation::default()
    });
    assert_eq!(test.finding(), Finding::Looking { pairs: 0 });
}
