//! The capture cards of this machine: the glue between `board`, which finds them, and `media`, which captures from them.

use std::path::Path;

use board::cards::{self, Wanted};
use board::mixer;
use media::cards::{Card, Cards, Revival};

use crate::config::Config;

/// Where the kernel tells of its devices.
pub(crate) const SYSFS: &str = "/sys";

/// What the configuration wants.
pub(crate) fn wanted(config: &Config) -> Wanted {
    let capture = &config.capture;
    Wanted {
        video: capture.video_device.clone(),
        audio: capture.audio_device.clone(),
        separate_clocks: capture.separate_clocks,
    }
}

/// Looks for what the configuration wants.
#[derive(Debug)]
pub(crate) struct Devices(pub(crate) Wanted);

impl Cards for Devices {
    fn find(&self) -> Result<Card, String> {
        let pair = cards::choose(Path::new(SYSFS), &self.0)?;
        mixer::open(&pair.audio);
        Ok(Card {
            name: pair.name,
            video: pair.video,
            audio: pair.audio,
            advice: pair.advice,
            place: pair.usb,
        })
    }

    fn revive(&self, card: &Card, step: Revival) -> Result<(), String> {
        let usb = card.place.as_deref().ok_or("it is not on USB")?;
        let done = match step {
            Revival::Reauthorise => cards::reauthorise(usb),
            Revival::CyclePower => cards::cycle_power(usb),
        };
        done.map_err(|error| error.to_string())
    }
}

/// What `podium devices` prints: a line a card, and what the box would take.
pub(crate) fn list() -> String {
    let sysfs = Path::new(SYSFS);
    let mut text = String::new();
    for card in cards::list(sysfs) {
        let sound = card.audio.as_deref().unwrap_or("no sound");
        text += &format!("{}  {}  {sound}\n", card.video.display(), card.name);
        for advice in card.advice {
            text += &format!("  {advice}\n");
        }
    }
    text + &match cards::choose(sysfs, &Wanted::default()) {
        Ok(pair) => format!(
            "source = \"device\" takes {} with {}\n",
            pair.video.display(),
            pair.audio
        ),
        Err(why) => format!("source = \"device\" waits: {why}\n"),
    }
}
