//! What the rig's tests share.

#![allow(dead_code, reason = "each of its users needs another part")]

use rig::card::Card;
use rig::{Picture, Rig};

/// Small pictures: the machine has one processor, and the rig's is not the encoder's test.
pub(crate) const SMALL: &str = "[video]\nwidth = 320\nheight = 180\nfps = 10\nbitrate_kbps = 300\n[capture]\nsource = \"device\"\n";

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

/// Numbers for people: nothing is judged by them, because they depend on the machine.
pub(crate) fn report(text: &str) {
    #[expect(clippy::print_stderr, reason = "measured, not judged")]
    {
        eprintln!("{text}");
    }
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
