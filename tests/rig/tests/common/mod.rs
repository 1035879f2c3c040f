//! What the rig's tests share.

#![allow(dead_code, reason = "each of its users needs another part")]

use std::time::Instant;

use rig::card::Card;
use rig::protocol::Flash;
use rig::{Picture, Published, Rig};
use tests::wait_for;

/// Small pictures and no trial of encoders: the machine has one processor, and the rig's is not the encoder's test.
pub(crate) const SMALL: &str = "[video]\nwidth = 320\nheight = 180\nfps = 10\nbitrate_kbps = 300\nx264_preset = \"ultrafast\"\n\
     [capture]\nsource = \"device\"\n";

pub(crate) fn small_card() -> Card {
    Card::stick(&[(320, 180, 10, 10)])
}

/// A box with a card, on air.
pub(crate) fn on_air() -> Rig {
    on_air_with(&small_card())
}

pub(crate) fn on_air_with(card: &Card) -> Rig {
    let mut rig = Rig::boot();
    rig.plug(card);
    rig.start(SMALL);
    rig.wait_for_signal("ok");
    rig.tap_go_live();
    rig.wait_for_state("live");
    rig
}

pub(crate) fn segments(rig: &mut Rig) -> u64 {
    rig.status()["segments"].as_u64().expect("a number")
}

/// Waits for one more segment: the stream goes on.
pub(crate) fn stream_goes_on(rig: &mut Rig) {
    let before = segments(rig);
    rig.wait_for_status("one more segment", |status| {
        status["segments"].as_u64() > Some(before)
    });
}

/// Ends the broadcast.
pub(crate) fn off_air(rig: &mut Rig) {
    rig.hold_go_live();
    rig.wait_for_state("idle");
}

/// Numbers for people: nothing is judged by them, because they depend on the machine. Said past the harness, which keeps what a test
/// prints to itself where it passes.
pub(crate) fn report(text: &str) {
    tests::aloud(text);
}

/// Where slate stands in: last picture before, first slate, last slate, first picture after. Seconds.
pub(crate) fn slates(pictures: &[(f64, Picture)]) -> Vec<[f64; 4]> {
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

/// What the box promises about sound and picture, milliseconds.
pub(crate) const SYNC: f64 = 5.0;

/// How late each beep is against its flash in what was published, milliseconds. The card says when each flash left it, and whether the
/// machine had time for it: how busy that was does not count.
pub(crate) fn offsets(published: &Published, sent: &[Flash]) -> Vec<f64> {
    let beeps = published.beeps();
    let offset = |&(at, flash): &(f64, Flash)| {
        let offs = beeps
            .iter()
            .map(|beep| (beep - at - (flash.beep - flash.sent)) * 1000.0);
        offs.min_by(|a, b| a.abs().total_cmp(&b.abs()))
    };
    let pairs = published.matched(sent);
    let certain = pairs.iter().filter(|(_, flash)| flash.is_certain());
    // The broadcast may begin and end between a flash and its beep.
    let [first, .., last] = beeps[..] else {
        panic!("beeps are missing: {beeps:?}");
    };
    certain
        .filter(|(at, _)| (first - 0.3..last).contains(at))
        .filter_map(offset)
        .collect()
}

/// For how long the rig may have waited for a processor while a card came back, seconds, all its threads together: what comes late by
/// more says nothing about the box.
pub(crate) const STARVED: f64 = 0.5;

/// A card that was pulled out and put in again.
#[derive(Debug)]
pub(crate) struct Away {
    /// From the pull until the box said that the picture was lost, seconds. Slate is on from then on: the conductor decides both at once.
    pub lost: f64,
    /// How long the rig waited for a processor until the card was back, seconds.
    pub starved: f64,
    /// Of the card that was put in: to know by when that was.
    pub flashes: Vec<Flash>,
}

/// Pulls the card out and puts it in again, and judges how soon there was slate where the machine had time for it.
pub(crate) fn out_and_in_again(rig: &mut Rig) -> Away {
    let before = rig.starved();
    let pulled = Instant::now();
    rig.unplug();
    rig.wait_for_signal("lost");
    let lost = pulled.elapsed().as_secs_f64();
    let waited = rig.starved() - before;
    if waited < STARVED {
        assert!(lost - waited <= 1.0, "{lost}, of which {waited} waiting");
    }
    rig.plug(&small_card());
    rig.wait_for_signal("ok");
    let starved = rig.starved() - before;
    wait_for("flashes enough to know them by", || {
        (rig.moments().flashes.len() >= 12).then_some(())
    });
    let moments = rig.moments();
    report(&format!(
        "lost after {lost:.2} s, starved for {waited:.2} s of it; configured at {:.2?}, opened at {:.2?}, first picture at {:.2?} s; \
         starved for {starved:.2} s",
        moments.configured, moments.opened, moments.picture
    ));
    Away {
        lost,
        starved,
        flashes: moments.flashes,
    }
}

/// That slate came in time when a card was pulled out, and its picture when it was put in again. Its time began then, and its flashes
/// tell where that was in the stream. When slate came is in the stream not to be seen: it is placed back to the last picture, however
/// late that is noticed.
pub(crate) fn assert_in_time(published: &Published, away: &Away) {
    /// Two pictures of [`SMALL`], and a little.
    const AT_ONCE: f64 = 0.21;
    let (at, flash) = published.matched(&away.flashes)[0];
    let plugged = at - flash.sent;
    let slates = slates(&published.pictures());
    let slate = slates.iter().find(|it| it[0] < plugged && plugged < it[3]);
    let [before, first, _, back] =
        *slate.unwrap_or_else(|| panic!("plugged in at {plugged}, without slate: {slates:?}"));
    let (lost, gap, back) = (away.lost, first - before, back - plugged);
    report(&format!(
        "slate after {lost:.2} s, {gap:.2} s behind the last picture; picture after {back:.2} s"
    ));
    assert!(gap <= AT_ONCE, "{gap}");
    assert!(back <= 3.0, "{back}");
}
