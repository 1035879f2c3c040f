//! Sound and picture stay together through what happens to a card, as ffmpeg decodes them from the published segments. The
//! long form is `make bench-sync`.

mod flash_and_beep;

use std::time::Duration;

use flash_and_beep::{HEAD, Scenario, Session};
use media::signal::{Lies, Signal};
use stream::status::Signal::{Lost, Ok};

/// What the box promises, milliseconds.
const BOUND: f64 = 5.0;
/// The picture is back within this after the input is, seconds.
const BACK: f64 = 1.0;

/// All beeps are `expected` milliseconds later than their flashes.
fn check(scenarios: &[Scenario], expected: f64) {
    for scenario in scenarios {
        let table = format!("{HEAD}\n{scenario}\n{:.2?}", scenario.offsets);
        assert!(scenario.offsets.len() >= 2, "too few beeps:\n{table}");
        for offset in &scenario.offsets {
            assert!((offset - expected).abs() <= BOUND, "out of sync:\n{table}");
        }
    }
}

#[test]
fn faults_of_the_card_leave_sound_and_picture_together() {
    let mut session = Session::start(Signal::default(), 0);
    session.programme("start");
    session.play(3.5);
    session.scenario("video stall");
    let gone = session.signal.set(|signal| signal.video = false);
    session.play(2.5);
    let back = session.signal.set(|signal| signal.video = true);
    session.play(3.5);
    session.scenario("device loss");
    session.signal.set(|signal| signal.plugged = false);
    session.play(2.5);
    session.signal.set(|signal| signal.plugged = true);
    session.play(4.0);
    session.scenario("another size, matrix and frame rate");
    session.signal.set(|signal| {
        signal.size = (640, 360);
        signal.colorimetry = "bt601";
        signal.fps = (25, 1);
    });
    session.play(4.0);
    let report = session.finish();
    check(&report.scenarios, 0.0);
    // The sound went on, so media time is the device's.
    let [_, stall, loss, _] = &report.scenarios[..] else {
        panic!("a scenario is missing");
    };
    let [slate] = stall.slates[..] else {
        panic!("one slate, not {:?}", stall.slates);
    };
    let absent = (back - gone).as_secs_f64();
    assert!(slate <= absent + BACK, "slate for {slate} s of {absent} s");
    assert_eq!(loss.slates.len(), 1, "{:?}", loss.slates);
    // Without flapping, and never a hole.
    assert_eq!(report.signals, [Ok, Lost, Ok, Lost, Ok]);
    for scenario in &report.scenarios {
        assert!(scenario.longest_gap < 1.0, "{HEAD}\n{scenario}");
    }
}

#[test]
fn after_mute_sound_and_picture_are_together() {
    let mut session = Session::start(Signal::default(), 0);
    session.programme("start");
    session.play(2.5);
    session.media.mute(true);
    // What was on its way to the encoder is still heard.
    session.play(0.5);
    session.scenario("muted");
    session.play(3.0);
    session.scenario("after mute");
    session.media.mute(false);
    session.play(3.5);
    let report = session.finish();
    let [start, muted, after] = &report.scenarios[..] else {
        panic!("a scenario is missing");
    };
    assert_eq!(muted.beeps, 0, "{HEAD}\n{muted}");
    assert!(
        muted.longest_gap < 0.5,
        "the picture goes on: {HEAD}\n{muted}"
    );
    check(&[start.clone(), after.clone()], 0.0);
    assert_eq!(report.signals, [Ok]);
}

#[test]
fn an_input_that_ends_or_lies_about_time_leaves_sound_and_picture_together() {
    let mut session = Session::start(Signal::default(), 0);
    session.programme("start");
    session.play(2.5);
    session.scenario("the input has ended, and begins anew");
    session.signal.set(|signal| signal.ends += 1);
    session.play(6.0);
    for (name, video, audio) in [
        ("the picture's timestamps lie", true, false),
        ("the sound's timestamps lie", false, true),
        ("all timestamps lie", true, true),
    ] {
        session.scenario(name);
        session
            .signal
            .set(|signal| signal.lies = Lies { video, audio });
        session.play(3.0);
        session.scenario("the truth again");
        session.signal.set(|signal| signal.lies = Lies::default());
        session.play(5.0);
    }
    let report = session.finish();
    for scenario in &report.scenarios {
        // Whatever comes in, something goes out.
        assert!(scenario.longest_gap < 1.0, "{HEAD}\n{scenario}");
        if !scenario.name.ends_with("lie") {
            // So the picture is back; how soon, is tested in virtual time.
            check(std::slice::from_ref(scenario), 0.0);
        }
    }
}

#[test]
fn a_programme_that_starts_again_is_in_sync_on_a_jittery_clock() {
    let signal = Signal {
        ppm: 200.0,
        jitter: Duration::from_millis(2),
        ..Signal::default()
    };
    let mut session = Session::start(signal, 0);
    session.programme("start");
    session.play(4.0);
    session.programme("again");
    session.play(4.0);
    session.signal.set(|signal| signal.failures += 1);
    session.scenario("device failed");
    session.play(4.0);
    check(&session.finish().scenarios, 0.0);
}

#[test]
fn the_trim_moves_the_picture() {
    for (trim, expected) in [(40, -40.0), (-120, 120.0)] {
        let mut session = Session::start(Signal::default(), trim);
        session.programme("trim");
        session.play(4.0);
        check(&session.finish().scenarios, expected);
    }
}

#[test]
fn the_self_test_measures_what_the_card_does_and_its_trim_mends_it_on_air() {
    for sound_late_ms in [80, -130] {
        let signal = Signal {
            sound_late_ms,
            ppm: 100.0,
            ..Signal::default()
        };
        let late = f64::from(sound_late_ms);
        let mut session = Session::start(signal, 0);
        session.programme("as the card has it");
        let measured = session.self_test();
        assert!((measured.offset_ms - late).abs() <= BOUND, "{measured:?}");
        session.scenario("while the trim changes");
        session.trim(measured.offset_ms.round() as i32);
        session.play(2.0);
        session.scenario("with the trim");
        session.play(4.0);
        let sync = session.sync();
        let drift = sync.drift_ppm.expect("known");
        assert!((drift - 100.0).abs() <= 10.0, "{sync:?}");
        assert!(
            sync.error_ms.is_some_and(|ms| ms.abs() <= BOUND),
            "{sync:?}"
        );
        let [before, change, after] = &session.finish().scenarios[..] else {
            panic!("three scenarios");
        };
        check(std::slice::from_ref(before), late);
        check(std::slice::from_ref(after), 0.0);
        // A viewer sees it go on: no picture is left out or stays.
        assert!(change.longest_gap < 0.05, "{HEAD}\n{change}");
        assert_eq!(change.slates, [] as [f64; 0]);
    }
}
