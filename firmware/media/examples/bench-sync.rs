//! `make bench-sync`: how far beep and flash are apart, as ffmpeg decodes them from the published segments, in real time through
//! the real pipelines. Takes eleven minutes; prints one table. `BENCH_MINUTES` changes the length of the long scenarios.

#![allow(clippy::print_stdout, reason = "a table for people")]

#[path = "../tests/flash_and_beep/mod.rs"]
mod flash_and_beep;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use flash_and_beep::{HEAD, Scenario, Session};
use media::signal::Signal;

/// What the box promises, milliseconds.
const BOUND: f64 = 5.0;
const JITTER: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let minutes = std::env::var("BENCH_MINUTES").ok();
    let minutes = minutes.and_then(|it| it.parse().ok()).unwrap_or(10.5);
    let long: Vec<_> = [200.0, -200.0]
        .map(|ppm| {
            let name = format!("audio clock {ppm:+} ppm, ±2 ms jitter, {minutes} min");
            thread::spawn(move || steady(&name, with_clock(ppm), 0, minutes * 60.0))
        })
        .into();
    // One after the other: they share the machine with the long ones.
    let mut table = faults();
    let jitter = Signal {
        jitter: JITTER,
        ..Signal::default()
    };
    table.extend(steady("±2 ms jitter", jitter, 0, 60.0));
    for (fps, name) in [
        ((25, 1), "camera of 25 fps"),
        ((30_000, 1001), "camera of 29.97 fps"),
        ((50, 1), "camera of 50 fps"),
    ] {
        let signal = Signal {
            fps,
            ..Signal::default()
        };
        table.extend(steady(name, signal, 0, 20.0));
    }
    let mut trimmed = steady("av_offset_ms = 40, less 40", Signal::default(), 40, 20.0);
    for offset in trimmed.iter_mut().flat_map(|it| &mut it.offsets) {
        // Pictures that are later make the beep earlier.
        *offset += 40.0;
    }
    table.extend(trimmed);
    for thread in long {
        table.extend(thread.join().expect("a scenario panicked"));
    }
    println!("{HEAD}");
    for scenario in &table {
        println!("{scenario}");
    }
    let good = |it: &Scenario| it.offsets.len() >= 3 && it.worst().abs() <= BOUND;
    if table.iter().all(good) {
        ExitCode::SUCCESS
    } else {
        println!("above {BOUND} ms, or too few beeps");
        ExitCode::FAILURE
    }
}

fn judged(session: Session) -> Vec<Scenario> {
    let report = session.finish();
    let names: Vec<_> = report.scenarios.iter().map(|it| &it.name).collect();
    println!("{names:?}: the input was {:?}", report.signals);
    report.scenarios
}

fn with_clock(ppm: f64) -> Signal {
    Signal {
        ppm,
        jitter: JITTER,
        ..Signal::default()
    }
}

fn steady(name: &str, signal: Signal, av_offset_ms: i32, seconds: f64) -> Vec<Scenario> {
    let mut session = Session::start(signal, av_offset_ms);
    session.programme(name);
    session.play(seconds);
    judged(session)
}

/// Everything that happens to a card, one after the other; a scenario is what comes after it.
fn faults() -> Vec<Scenario> {
    const AFTER: f64 = 10.0;
    let mut session = Session::start(with_clock(100.0), 0);
    session.programme("start");
    session.play(AFTER);

    session.scenario("device gone for 4 s");
    session.signal.set(|signal| signal.plugged = false);
    session.play(4.0);
    session.signal.set(|signal| signal.plugged = true);
    session.play(AFTER);

    session.scenario("device failed, back at once");
    session.signal.set(|signal| signal.failures += 1);
    session.play(AFTER);

    // Media time stands still until the slate comes.
    session.scenario("video stalled until the slate");
    session.signal.set(|signal| signal.video = false);
    session.play(0.5);
    session.signal.set(|signal| signal.video = true);
    session.play(AFTER);

    session.scenario("video stalled for 3 s");
    session.signal.set(|signal| signal.video = false);
    session.play(3.0);
    session.signal.set(|signal| signal.video = true);
    session.play(AFTER);

    session.scenario("video stalled for 16 s");
    session.signal.set(|signal| signal.video = false);
    session.play(16.0);
    session.signal.set(|signal| signal.video = true);
    session.play(AFTER);

    for seconds in [0.03, 0.5, 3.0] {
        session.scenario(&format!("sound stalled for {seconds} s"));
        session.signal.set(|signal| signal.audio = false);
        session.play(seconds);
        session.signal.set(|signal| signal.audio = true);
        session.play(AFTER);
    }

    session.scenario("both stalled for 6 s");
    session.signal.set(|signal| {
        signal.audio = false;
        signal.video = false;
    });
    session.play(6.0);
    session.signal.set(|signal| {
        signal.audio = true;
        signal.video = true;
    });
    session.play(AFTER);

    for (size, fps) in [
        ((640, 360), (25, 1)),
        ((320, 180), (50, 1)),
        ((320, 180), (30, 1)),
    ] {
        let (width, height) = size;
        session.scenario(&format!("input changed to {width}×{height}, {} fps", fps.0));
        session
            .signal
            .set(|signal| (signal.size, signal.fps) = (size, fps));
        session.play(AFTER);
    }

    session.media.mute(true);
    session.play(5.0);
    session.scenario("after mute");
    session.media.mute(false);
    session.play(AFTER);

    session.scenario("the input ended, and began anew");
    session.signal.set(|signal| signal.ends += 1);
    session.play(AFTER);

    session.programme("programme restarted");
    session.play(AFTER);
    session.signal.set(|signal| signal.plugged = false);
    session.play(1.0);
    session.programme("programme restarted without a device");
    session.play(3.0);
    session.signal.set(|signal| signal.plugged = true);
    session.play(AFTER);
    judged(session)
}
