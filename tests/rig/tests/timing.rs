//! What the box promises in milliseconds and seconds, judged by the card's and the stream's own time. A machine that is busy with other
//! things holds up the rig itself, so these are not among the tests: `make bench-rig`.

mod common;

use std::time::Duration;

use common::*;

const MINUTE: Duration = Duration::from_secs(62);

/// Sound and picture as far apart as they were when they left the card, although its clocks run apart by 12 ms a minute. The
/// card says when each flash left it, and whether the machine had time for it: how busy that was does not count.
fn sound_and_picture_stay_together(ppm: f64) {
    const PAIRS: usize = 20;
    let mut card = small_card();
    card.audio_ppm = ppm;
    let mut rig = on_air_with(&card);
    // Nobody asks meanwhile: each answer is work for the rig's one processor.
    std::thread::sleep(MINUTE);
    let sent = rig.moments().flashes;
    off_air(&mut rig);
    let published = rig.published();
    assert_eq!(published.runs, 1);
    let certain = sent.iter().filter(|flash| flash.is_certain()).count();
    assert!(
        certain >= PAIRS,
        "the machine was busy: it held up all but {certain} of {} flashes; run it with nothing else",
        sent.len()
    );
    let offsets = offsets(&published, &sent);
    let worst = (offsets.iter()).fold(0.0, |worst: f64, off| worst.max(off.abs()));
    let mean = offsets.iter().sum::<f64>() / offsets.len() as f64;
    report(&format!(
        "{ppm:+} ppm: {} certain pairs, mean {mean:+.1} ms, worst {worst:.1} ms",
        offsets.len()
    ));
    assert!(offsets.len() >= PAIRS, "flashes are missing: {offsets:?}");
    assert!(worst <= SYNC, "{offsets:?}");
}

#[test]
fn sound_and_picture_stay_together_although_the_sound_s_clock_is_fast() {
    sound_and_picture_stay_together(200.0);
}

#[test]
fn sound_and_picture_stay_together_although_the_sound_s_clock_is_slow() {
    sound_and_picture_stay_together(-200.0);
}

#[test]
fn slate_comes_within_a_second_and_a_card_that_is_back_within_three() {
    let mut rig = on_air();
    rig.wait_for_status("three segments", |status| {
        status["segments"].as_u64() >= Some(3)
    });
    const CYCLES: usize = 3;
    let mut cycles = Vec::new();
    for _ in 0..CYCLES {
        let away = out_and_in_again(&mut rig);
        let starved = away.starved;
        assert!(
            starved < STARVED,
            "the machine was busy: the rig waited {starved:.2} s for it; run it with nothing else"
        );
        cycles.push(away);
    }
    stream_goes_on(&mut rig);
    off_air(&mut rig);
    let published = rig.published();
    for away in cycles {
        assert_in_time(&published, &away);
    }
}
