//! The whole box on the rig: the kernel's own drivers below it, a person's fingers and eyes in front of it.

use std::time::{Duration, Instant};

use rig::Rig;
use rig::card::{Card, Sound};
use rig::protocol::Bus;
use serde_json::Value;
use tests::wait_for;

/// Small pictures: the machine has one processor, and the rig's is not the encoder's test.
const SMALL: &str = "[video]\nwidth = 320\nheight = 180\nfps = 10\nbitrate_kbps = 300\n[capture]\nsource = \"device\"\n";

fn small_card() -> Card {
    Card::stick(&[(320, 180, 10, 10)])
}

/// A box with a card, on air.
fn on_air() -> Rig {
    let mut rig = Rig::boot();
    rig.plug(&small_card());
    rig.start(SMALL);
    rig.wait_for_signal("ok");
    rig.tap_go_live();
    rig.wait_for_state("live");
    rig
}

fn segments(rig: &mut Rig) -> u64 {
    rig.status()["segments"].as_u64().expect("a number")
}

/// Waits for one more segment: the stream goes on.
fn stream_goes_on(rig: &mut Rig) {
    let before = segments(rig);
    rig.wait_for_status("one more segment", |status| {
        status["segments"].as_u64() > Some(before)
    });
}

/// Waits until the glass shows what the box has drawn.
fn glass_shows_the_picture(rig: &mut Rig) {
    wait_for("the glass to show the picture", || {
        // The picture may change between the looks; then look again.
        let drawn = rig.drawn();
        (rig.glass() == Some(drawn)).then_some(())
    });
}

fn faults(rig: &mut Rig) -> Vec<String> {
    let status = rig.status();
    let list = status["hardware"].as_array().expect("a list");
    list.iter()
        .map(|fault| fault.as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn from_a_cold_start_to_on_air_and_off_again_with_nothing_but_a_button() {
    let mut rig = Rig::boot();
    rig.plug(&small_card());
    assert_eq!(rig.glass(), None, "dark before the start");
    rig.start(SMALL);
    glass_shows_the_picture(&mut rig);
    let status = rig.wait_for_status("a signal", |status| status["input"]["signal"] == "ok");
    assert_eq!(status["input"]["source"], "HDMI stick MS2109 on USB 2");
    assert_eq!(status["hardware"], serde_json::json!([]));
    rig.tap_go_live();
    rig.wait_for_state("live");
    wait_for("the tally light", || rig.lamp().then_some(()));
    glass_shows_the_picture(&mut rig);
    rig.tap_page();
    rig.wait_for_status("the watch page", |status| status["page"] == "watch");
    stream_goes_on(&mut rig);
    rig.hold_go_live();
    rig.wait_for_state("idle");
    wait_for("the tally light's end", || (!rig.lamp()).then_some(()));
    assert_eq!(rig.terminate(), Some(0));
    assert_eq!(rig.glass(), None, "a box that is off looks off");
}

#[test]
fn a_card_that_is_pulled_out_and_another_one_put_in() {
    let mut rig = on_air();
    rig.unplug();
    let pulled = Instant::now();
    // It is the plug and not a slow machine that the slate comes from.
    wait_for("the loss to be named", || {
        rig.log()
            .contains("no capture card: plug one in")
            .then_some(())
    });
    rig.wait_for_signal("lost");
    let slate = pulled.elapsed();
    stream_goes_on(&mut rig);
    // Another size, and pictures that are compressed.
    rig.plug(&Card::stick(&[(640, 360, 0, 10)]));
    let plugged = Instant::now();
    rig.wait_for_signal("ok");
    let back = plugged.elapsed();
    rig.wait_for_status("the new size", |status| {
        status["input"]["format"]["height"] == 360
    });
    stream_goes_on(&mut rig);
    report(&format!("slate after {slate:?}, picture after {back:?}"));
}

/// Threads and open files of the box.
fn held(rig: &mut Rig) -> (usize, usize) {
    let count = |rig: &mut Rig, what: &str| {
        let script = format!(
            "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" != podium ] || ls $p/{what} | wc -l; done"
        );
        let said = rig.run("sh", &["-c", &script]);
        said.trim().parse().unwrap_or_else(|_| panic!("{said}"))
    };
    (count(rig, "task"), count(rig, "fd"))
}

#[test]
fn forty_times_out_and_in_again() {
    let mut rig = on_air();
    let mut first = None;
    for cycle in 0..40 {
        rig.unplug();
        rig.wait_for_signal("lost");
        rig.plug(&small_card());
        if cycle % 2 == 0 {
            rig.wait_for_signal("ok");
            first.get_or_insert_with(|| held(&mut rig));
        } else {
            // Pulled out again at another moment of its opening each time.
            std::thread::sleep(Duration::from_millis(cycle * 37));
        }
    }
    rig.wait_for_signal("ok");
    stream_goes_on(&mut rig);
    assert_eq!(rig.status()["state"]["word"], "live");
    let (threads, files) = first.expect("forty");
    // An old pipeline is taken down beside the new one, so it may take a moment. GStreamer's v4l2src (1.22) keeps five files of a
    // device that vanished while it streamed: the buffer pool that it cannot stop. That much and no more.
    wait_for("what forty cards held to be let go", || {
        let now = held(&mut rig);
        (now.0 <= threads + 4 && now.1 <= files + 5 * 40).then_some(())
    });
}

#[test]
fn the_sound_of_every_kind_of_stick_is_heard_on_both_sides() {
    let mut rig = Rig::boot();
    let mut card = small_card();
    rig.start(SMALL);
    let known = (card.vendor, card.product);
    // As it should be; an MS2109, which the kernel knows; and a clone, which it does not.
    for (sound, (vendor, product)) in [
        (Sound::Stereo48k, (0x1234, 0x0001)),
        (Sound::Mono96k, known),
        (Sound::Mono96k, (0x1234, 0x0002)),
    ] {
        (card.sound, card.vendor, card.product) = (sound, vendor, product);
        rig.plug(&card);
        rig.wait_for_status("a beep", |status| {
            // 12000 of 32768 are -8.7 dBFS.
            let peaks = &status["audio"]["peak_dbfs"];
            let heard = |peak: &Value| {
                peak.as_f64()
                    .is_some_and(|peak| (-11.0..-7.0).contains(&peak))
            };
            status["input"]["signal"] == "ok" && heard(&peaks[0]) && heard(&peaks[1])
        });
        rig.unplug();
        rig.wait_for_signal("lost");
    }
    assert!(
        rig.log().contains("calls its sound 96 kHz mono"),
        "{}",
        rig.log()
    );
}

#[test]
fn a_card_that_only_a_new_enumeration_brings_back() {
    let mut rig = on_air();
    rig.wedge();
    rig.wait_for_signal("lost");
    rig.wait_for_signal("ok");
    assert!(rig.log().contains("enumerating it anew"), "{}", rig.log());
    stream_goes_on(&mut rig);
}

#[test]
fn a_display_that_is_gone_or_hangs_costs_nothing_but_itself() {
    let mut rig = on_air();
    glass_shows_the_picture(&mut rig);
    for (bus, expected) in [
        (
            Bus::Nak,
            "does not answer; check its wires and [board] i2c_address",
        ),
        (Bus::Hang, "hangs; check its wires"),
        (Bus::Gone, "no display: "),
    ] {
        rig.bus(bus);
        wait_for(&format!("{bus:?} to be named"), || {
            faults(&mut rig)
                .iter()
                .any(|fault| fault.contains(expected))
                .then_some(())
        });
        stream_goes_on(&mut rig);
        rig.bus(Bus::Well);
        wait_for("the display's return", || {
            faults(&mut rig).is_empty().then_some(())
        });
        glass_shows_the_picture(&mut rig);
    }
}

#[test]
fn a_power_cut_on_air_is_survived() {
    let mut rig = on_air();
    rig.wait_for_status("three segments", |status| {
        status["segments"].as_u64() >= Some(3)
    });
    let before = rig.status()["node"]["ipns"].clone();
    let disk = rig.cut_power();
    let mut rig = Rig::boot_with(disk);
    rig.plug(&small_card());
    rig.start(SMALL);
    // Nobody presses anything: the mark on the disk says that the operator wanted to be on air.
    rig.wait_for_state("live");
    let status = rig.status();
    assert_eq!(status["node"]["ipns"], before, "it is the same box");
    assert!(status["segments"].as_u64() > Some(3), "{status}");
    glass_shows_the_picture(&mut rig);
}

#[test]
fn cards_are_listed_and_a_pair_without_a_common_clock_is_refused() {
    let mut rig = Rig::boot();
    assert!(
        rig.podium(&["devices"])
            .ends_with("source = \"device\" waits: no capture card: plug one in\n")
    );
    rig.plug(&small_card());
    let listed = wait_for("the card", || {
        Some(rig.podium(&["devices"])).filter(|list| list.contains("hw:CARD=MS2109"))
    });
    assert!(
        listed.contains("  HDMI stick MS2109 on USB 2  hw:CARD=MS2109\n"),
        "{listed}"
    );
    // The kernel's test driver gives pictures too, and is another device.
    rig.start(&format!(
        "{SMALL}video_device = \"/dev/video0\"\naudio_device = \"hw:CARD=MS2109\"\n"
    ));
    wait_for("the refusal", || {
        rig.log().contains("share no clock").then_some(())
    });
}

/// Numbers for people: nothing is judged by them, because they depend on the machine.
fn report(text: &str) {
    #[expect(clippy::print_stderr, reason = "measured, not judged")]
    {
        eprintln!("{text}");
    }
}
