//! The whole box on the rig: the kernel's own drivers below it, a person's fingers and eyes in front of it.

use std::process::Command;
use std::time::{Duration, Instant};

use rig::card::{Card, Incoming, Mode, Pixels, Sound};
use rig::protocol::{Bus, Flash};
use rig::{Picture, Rig};
use serde_json::Value;
use tests::wait_for;

/// Small pictures: the machine has one processor, and the rig's is not the encoder's test.
const SMALL: &str = "[video]\nwidth = 320\nheight = 180\nfps = 10\nbitrate_kbps = 300\n[capture]\nsource = \"device\"\n";

fn small_card() -> Card {
    Card::stick(&[(320, 180, 10, 10)])
}

/// A box with a card, on air.
fn on_air() -> Rig {
    on_air_with(&small_card())
}

fn on_air_with(card: &Card) -> Rig {
    let mut rig = Rig::boot();
    rig.plug(card);
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

/// Ends the broadcast.
fn off_air(rig: &mut Rig) {
    rig.hold_go_live();
    rig.wait_for_state("idle");
}

/// What the box promises about sound and picture, milliseconds.
const SYNC: f64 = 5.0;

/// Sound and picture as far apart as they were when they left the card, although its clocks run apart by 12 ms a minute. The
/// card says when each flash left it, and whether the machine had time for it: how busy that was does not count.
fn sound_and_picture_stay_together(ppm: f64) {
    const PAIRS: usize = 20;
    let mut card = small_card();
    card.audio_ppm = ppm;
    let mut rig = on_air_with(&card);
    rig.wait_for_status("a minute", |status| status["segments"].as_u64() >= Some(31));
    let sent = rig.moments().flashes;
    off_air(&mut rig);
    let published = rig.published();
    assert_eq!(published.runs, 1);
    let beeps = published.beeps();
    let offset = |&(at, flash): &(f64, Flash)| {
        let offs = beeps.iter().map(|beep| beep - at - (flash.beep - flash.sent));
        let nearest = offs.min_by(|a, b| a.abs().total_cmp(&b.abs()))?;
        // A beep without its flash, or the other way around, was lost on the way.
        Some((flash, nearest * 1000.0)).filter(|(_, off)| off.abs() < 300.0)
    };
    let all: Vec<_> = published.matched(&sent).iter().filter_map(offset).collect();
    for (f, o) in &all { report(&format!("{o:+.1} late {:.1} held {:.1}", f.sound_late*1e3, f.taken.map_or(9.0, |t| t - f.sent)*1e3)); }
    let offsets: Vec<f64> = all
        .iter()
        .filter_map(|(flash, off)| flash.is_certain().then_some(*off))
        .collect();
    let worst = (offsets.iter()).fold(0.0, |worst: f64, off| worst.max(off.abs()));
    let mean = offsets.iter().sum::<f64>() / offsets.len() as f64;
    report(&format!(
        "{ppm:+} ppm: {} pairs, mean {mean:+.1} ms, worst {worst:.1} ms",
        offsets.len()
    ));
    assert!(offsets.len() >= PAIRS, "{offsets:?}");
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
fn streams_that_stall_are_named_on_the_glass_and_come_back() {
    let mut rig = on_air();
    for (video, audio, line) in [
        (false, true, "Picture is lost"),
        (true, false, "No sound"),
        (false, false, "Picture is lost"),
    ] {
        rig.streams(video, audio);
        rig.wait_to_read(line);
        stream_goes_on(&mut rig);
        rig.streams(true, true);
        rig.wait_for_status("picture and sound", |status| {
            let peak = status["audio"]["peak_dbfs"][0].as_f64();
            status["input"]["signal"] == "ok" && peak.is_some_and(|peak| peak > -20.0)
        });
        stream_goes_on(&mut rig);
    }
    // It refuses to give pictures, until its endpoint's halt is cleared: opening it again does that.
    rig.halt();
    rig.wait_to_read("Picture is lost");
    rig.wait_for_signal("ok");
    off_air(&mut rig);
    let published = rig.published();
    assert_eq!(published.runs, 1, "the stream was never interrupted");
    assert!(
        slates(&published.pictures()).len() >= 3,
        "one for each loss"
    );
}

/// Where slate stands in: last picture before, first slate, last slate, first picture after. Seconds.
fn slates(pictures: &[(f64, Picture)]) -> Vec<[f64; 4]> {
    let is_slate = |it: &(f64, Picture)| it.1 == Picture::Slate;
    let mut found = Vec::new();
    let mut before = None;
    let mut open: Option<[f64; 3]> = None;
    for picture in pictures {
        match (&mut open, is_slate(picture)) {
            (Some(slate), true) => slate[2] = picture.0,
            (None, true) => open = before.map(|before| [before, picture.0, picture.0]),
            (Some([before, first, last]), false) => {
                found.push([*before, *first, *last, picture.0]);
                open = None;
            }
            (None, false) => {}
        }
        before = Some(picture.0);
    }
    found
}

#[test]
fn slate_comes_within_a_second_and_a_card_that_is_back_within_three() {
    let mut rig = on_air();
    rig.wait_for_status("three segments", |status| {
        status["segments"].as_u64() >= Some(3)
    });
    let mut flashes = Vec::new();
    let mut starved = Vec::new();
    const CYCLES: usize = 3;
    for _ in 0..CYCLES {
        rig.unplug();
        rig.wait_for_signal("lost");
        let before = rig.starved();
        rig.plug(&small_card());
        rig.wait_for_signal("ok");
        starved.push(rig.starved() - before);
        wait_for("flashes enough to know them by", || {
            (rig.moments().flashes.len() >= 10).then_some(())
        });
        let moments = rig.moments();
        report(&format!(
            "configured at {:.2?}, opened at {:.2?}, first picture at {:.2?} s",
            moments.configured, moments.opened, moments.picture
        ));
        flashes.push(moments.flashes);
    }
    stream_goes_on(&mut rig);
    off_air(&mut rig);
    let published = rig.published();
    let slates = slates(&published.pictures());
    for (flashes, starved) in flashes.into_iter().zip(starved) {
        // The card's time began when it was plugged in, and its flashes tell where that was in the stream.
        let (at, flash) = published.matched(&flashes)[0];
        let plugged = at - flash.sent;
        let slate = slates.iter().find(|it| it[0] < plugged && plugged < it[3]);
        let [before, first, _, back] =
            *slate.unwrap_or_else(|| panic!("plugged in at {plugged}, without slate: {slates:?}"));
        let (slate, back) = (first - before, back - plugged);
        report(&format!(
            "slate after {slate:.2} s, picture after {back:.2} s, {starved:.2} s of them without a processor"
        ));
        assert!(slate <= 1.0, "{slate}");
        assert!(back - starved <= 3.0, "{back} {starved}");
    }
}

#[test]
fn a_signal_of_another_size_and_rate_is_taken_as_it_comes() {
    let mut rig = on_air_with(&Card::stick(&[(320, 180, 0, 10)]));
    let format = |height: u64| {
        move |status: &Value| {
            status["input"]["signal"] == "ok" && status["input"]["format"]["height"] == height
        }
    };
    rig.wait_for_status("the size", format(180));
    for (width, height, fps) in [(640, 360, 5), (160, 120, 25)] {
        rig.incoming(Some(Incoming { width, height, fps }));
        rig.wait_for_status("the other size", format(height.into()));
        stream_goes_on(&mut rig);
    }
    rig.incoming(None);
    rig.wait_for_status("the size as before", format(180));
    off_air(&mut rig);
    assert_eq!(rig.published().runs, 1, "the stream was never interrupted");
}

#[test]
fn the_table_of_a_1080p_stick_is_read_and_its_pictures_come() {
    let mut rig = Rig::boot();
    rig.plug(&Card::ms2109());
    // Nothing is encoded: the machine has one processor.
    rig.start("[video]\nwidth = 1920\nheight = 1080\nfps = 10\n[capture]\nsource = \"device\"\n");
    let status = rig.wait_for_status("a signal", |status| status["input"]["signal"] == "ok");
    assert_eq!(status["input"]["format"]["height"], 1080, "{status}");
    glass_shows_the_picture(&mut rig);
    let log = rig.log();
    assert!(
        log.contains("pixels: Mjpeg, width: 1920, height: 1080, fps: 30.0"),
        "{log}"
    );
}

/// What ffmpeg decodes to.
fn decoded(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args([&["-v", "error", "-copyts"], arguments, &["-"]].concat())
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Pictures as one sees them from afar, ten a second from `start` on: 32 by 18 means of luma.
fn thumbnails(file: &str, start: u32) -> Vec<Vec<f64>> {
    let filter = format!("fps=10:start_time={start},scale=32:18:flags=area,format=gray");
    let bytes = decoded(&["-i", file, "-vf", &filter, "-f", "rawvideo"]);
    let pictures = bytes.chunks_exact(32 * 18);
    pictures
        .map(|picture| picture.iter().map(|&luma| luma.into()).collect())
        .collect()
}

/// How loud it is in each tenth of a second from `start` on, in powers of ten.
fn loudness(file: &str, start: u32) -> Vec<Vec<f64>> {
    let filter = format!("aresample=8000:async=1:first_pts={}", start * 8000);
    let bytes = decoded(&["-i", file, "-vn", "-af", &filter, "-ac", "1", "-f", "s16le"]);
    let (samples, _) = bytes.as_chunks::<2>();
    let square = |&sample: &[u8; 2]| f64::from(i16::from_le_bytes(sample)).powi(2);
    samples
        .chunks_exact(800)
        .map(|tenth| vec![tenth.iter().map(square).sum::<f64>().max(800.0).log10() / 2.0])
        .collect()
}

/// Where each piece of a stream, two seconds long, is in the loop that it was made of: by how many tenths of a second the stream is
/// behind the loop. Pieces that are like nothing in the loop, such as slate, are left out.
fn places(stream: &[Vec<f64>], whole: &[Vec<f64>], alike: f64) -> Vec<(usize, usize)> {
    let apart = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
    };
    let place = |(number, piece): (usize, &[Vec<f64>])| {
        let at = |shift: usize| {
            let there = whole.iter().cycle().skip(shift);
            let sum: f64 = piece.iter().zip(there).map(|(a, b)| apart(a, b)).sum();
            (shift, sum / piece.len() as f64)
        };
        let nearest = (0..whole.len()).map(at).min_by(|a, b| a.1.total_cmp(&b.1));
        let (shift, apart) = nearest.expect("a loop has places");
        let behind = (whole.len() + shift - number * PIECE % whole.len()) % whole.len();
        (apart <= alike).then_some((number, behind))
    };
    stream
        .chunks_exact(PIECE)
        .enumerate()
        .filter_map(place)
        .collect()
}

/// Length of a piece, tenths of a second.
const PIECE: usize = 20;

#[test]
fn a_talk_goes_in_and_comes_out_in_step() {
    const SECONDS: usize = 10;
    for pixels in [Pixels::Yuy2, Pixels::Mjpeg] {
        let mode = Mode {
            pixels,
            width: 320,
            height: 180,
            fps: 10,
        };
        let mut card = small_card();
        card.modes = vec![mode];
        let mut rig = Rig::boot();
        let talk = tests::root().join("tests/media/talk.mp4");
        card.source = rig.clip(&talk, &mode, SECONDS as u32);
        rig.plug(&card);
        rig.start(SMALL);
        rig.wait_for_signal("ok");
        rig.tap_go_live();
        rig.wait_for_status("sixteen segments", |status| {
            status["segments"].as_u64() >= Some(16)
        });
        off_air(&mut rig);
        let published = rig.published();
        let file = |rendition| published.file(rendition).display().to_string();
        for rendition in ["video", "audio"] {
            let kept = tests::artifact(&format!("talk-{pixels:?}-{rendition}.mp4").to_lowercase());
            std::fs::copy(file(rendition), kept).expect("an artifact can be written");
        }
        let talk = talk.display().to_string();
        let length = SECONDS * 10;
        // A programme's time begins at ten seconds.
        let shown = places(
            &thumbnails(&file("video"), 10),
            &thumbnails(&talk, 0)[..length],
            4.0,
        );
        let heard = places(
            &loudness(&file("audio"), 10),
            &loudness(&talk, 0)[..length],
            0.25,
        );
        report(&format!(
            "{pixels:?}: pictures at {shown:?}, sound at {heard:?}"
        ));
        let both = shown.iter().filter_map(|&(number, shown)| {
            let (_, heard) = heard.iter().find(|heard| heard.0 == number)?;
            let apart = shown.abs_diff(*heard);
            Some(apart.min(length - apart))
        });
        let apart: Vec<usize> = both.collect();
        assert!(apart.len() >= 5, "{apart:?}");
        let together = apart.iter().filter(|&&apart| apart <= 1).count();
        assert!(together * 4 >= apart.len() * 3, "{apart:?}");
    }
}

#[test]
fn the_watchdog_bites_who_does_not_feed_it_and_nobody_else() {
    let mut rig = Rig::boot();
    // Fed for longer than it waits, and then let go without the letter that disarms it.
    let feed = "exec 3>/dev/watchdog; for i in $(seq 15); do echo >&3; sleep 1; done";
    assert_eq!(rig.run("sh", &["-c", feed]), "");
    assert!(!rig.lamp(), "the machine is there");
    rig.wait_for_bite();
    assert_eq!(rig.run("ls", &["/dev/watchdog"]), "/dev/watchdog\n");
}

/// Numbers for people: nothing is judged by them, because they depend on the machine.
fn report(text: &str) {
    #[expect(clippy::print_stderr, reason = "measured, not judged")]
    {
        eprintln!("{text}");
    }
}
