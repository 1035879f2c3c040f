//! The capture cards of this machine: the glue between `board`, which finds them, and `media`, which captures from them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use board::bridge::{self, Bridges, NoSignal, Timings};
use board::cards::{self, Pair, Wanted};
use board::chosen::Chosen;
use board::graph::{self, Format};
use board::mixer;
use board::switches::Switches;
use media::cards::{Bridge, Card, Cards, NodeFormat, Revival};
use stream::input::NotFound;
use stream::status::NoCard;

use crate::config::Config;

/// Where the kernel tells of its devices.
pub(crate) const SYSFS: &str = "/sys";

/// What the box has switched off and has to switch on again, in the data directory.
pub(crate) const SWITCHED_OFF: &str = "switched-off";

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
pub(crate) struct Devices {
    wanted: Wanted,
    chosen: Mutex<Chosen>,
    height: u32,
    fps: u32,
    bridges: Bridges,
    switches: Switches,
    /// The sound that was last switched on, and what was done: a card that is opened again is on already.
    woken: Mutex<Option<(String, String)>>,
    /// The bridge that was given the EDID, and whether it has it.
    told: Mutex<Option<(PathBuf, Result<(), String>)>>,
}

impl Devices {
    pub(crate) fn new(config: &Config) -> Devices {
        Devices {
            wanted: wanted(config),
            chosen: Mutex::default(),
            height: config.video.height.into(),
            fps: config.video.fps,
            bridges: Bridges::default(),
            switches: Switches::new(Path::new(SYSFS), config.data_dir.join(SWITCHED_OFF)),
            told: Mutex::default(),
            woken: Mutex::default(),
        }
    }

    fn choose(&self) -> Result<(Pair, Option<Bridge>), NotFound> {
        let (sysfs, chips) = (Path::new(SYSFS), |device: &Path, video: &Path| {
            self.bridges.chip(device, video)
        });
        if self.wanted.video.is_some() || self.wanted.audio.is_some() {
            let pair = cards::choose(sysfs, &self.wanted, &chips)?;
            let bridge = self.ready(&pair)?;
            return Ok((pair, bridge));
        }
        let found = cards::pairs(&cards::list(sysfs, &chips));
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.choose(found, Instant::now(), |pair| self.ready(pair))
    }

    /// Prepares what has to be.
    fn ready(&self, pair: &Pair) -> Result<Option<Bridge>, NotFound> {
        let device = pair.bridge.as_deref();
        let bridge = device.map(|device| self.prepare(device, &pair.video));
        bridge.transpose().map_err(|why| NotFound {
            kind: NoCard::NoSignal,
            why: format!("{}: {why}", pair.name),
        })
    }

    /// Tells the source what it may send, takes what it sends, and leads it to the video node.
    fn prepare(&self, device: &Path, video: &Path) -> Result<Bridge, String> {
        let before = self.told().take().filter(|(bridge, _)| bridge == device);
        let before = before.map(|(_, told)| told);
        // Once: a source begins anew whenever it is told.
        let told = match before {
            Some(Ok(())) => Ok(()),
            _ => bridge::tell(device, self.height, self.fps),
        };
        if let Err(why) = &told
            && before.as_ref() != Some(&told)
        {
            // What it sends without being told may do as well.
            tracing::warn!(device = %device.display(), %why, "the HDMI bridge takes no EDID");
        }
        *self.told() = Some((device.into(), told));
        let timings = self.incoming(device).map_err(|why| why.to_string())?;
        bridge::take(device)?;
        let format = graph::lead(device, video, &timings)?;
        let format = format.map(|Format { pixels, colorspace }| NodeFormat { pixels, colorspace });
        Ok(of(device, timings, format))
    }

    /// Switches a card's sound on, and tells that it was off.
    fn wake(&self, name: &str, audio: &str) -> Option<String> {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(done) = mixer::open(audio) {
            let note = format!("sound woke up muted or quiet: {done}");
            tracing::info!(card = name, "{note}");
            *woken = Some((audio.to_owned(), note));
        }
        woken
            .as_ref()
            .filter(|(of, _)| of == audio)
            .map(|(_, note)| note.clone())
    }

    fn told(&self) -> MutexGuard<'_, Option<(PathBuf, Result<(), String>)>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes in now. A bridge that does not answer may begin anew, and know nothing.
    fn incoming(&self, device: &Path) -> Result<Timings, NoSignal> {
        let found = bridge::incoming(device);
        if let Err(silent @ NoSignal::Silent) = found {
            *self.told() = Some((device.into(), Err(silent.to_string())));
        }
        found
    }
}

fn of(device: &Path, timings: Timings, format: Option<NodeFormat>) -> Bridge {
    Bridge {
        device: device.into(),
        width: timings.width,
        height: timings.height,
        rate: (timings.fps * 1000.0).round() as u32,
        format,
    }
}

impl Cards for Devices {
    fn find(&self) -> Result<Card, NotFound> {
        let restored = self.switches.restore();
        for switch in restored.iter().flatten() {
            tracing::warn!(switch = %switch.display(), "it was left off; switched on again");
        }
        let (pair, bridge) = self.choose().map_err(|no| match restored {
            Err(error) => NotFound {
                why: format!("a card is switched off: {error}; restart the machine"),
                ..no
            },
            Ok(_) => no,
        })?;
        let mut notes = pair.notes;
        // What is set on a sound card of its own is its owner's.
        if !self.wanted.separate_clocks {
            notes.extend(self.wake(&pair.name, &pair.audio));
        }
        Ok(Card {
            name: pair.name,
            video: pair.video,
            audio: pair.audio,
            own_sound: !self.wanted.separate_clocks && pair.usb.is_some(),
            advice: pair.advice,
            notes,
            place: pair.usb,
            bridge,
        })
    }

    fn changed(&self, card: &Card) -> Option<String> {
        let bridge = card.bridge.as_ref()?;
        let name = &card.name;
        match self.incoming(&bridge.device) {
            Err(why) => Some(format!("{name}: {why}")),
            Ok(timings) if of(&bridge.device, timings, bridge.format.clone()) == *bridge => None,
            Ok(Timings { width, height, fps }) => Some(format!(
                "{name}: the source sends {width}×{height} at {fps:.2} now"
            )),
        }
    }

    fn revive(&self, card: &Card, step: Revival) -> Result<(), String> {
        let usb = (card.place.as_deref())
            .ok_or("it is not on USB; switch its source off and on, then restart the box")?;
        let done = match step {
            Revival::Reauthorise => self.switches.reauthorise(usb),
            Revival::CyclePower => self.switches.cycle_power(usb),
        };
        done.map_err(|error| format!("{error}; pull it out and put it in again"))
    }
}

/// What `podium devices` prints: a line a card, and what the box would take.
pub(crate) fn list() -> String {
    let sysfs = Path::new(SYSFS);
    let mut text = String::new();
    let bridges = Bridges::default();
    let chips = |device: &Path, video: &Path| bridges.chip(device, video);
    for card in cards::list(sysfs, &chips) {
        let sound = card.audio.as_deref().unwrap_or("no sound");
        text += &format!("{}  {}  {sound}\n", card.video.display(), card.name);
        for said in card.advice.into_iter().chain(card.notes) {
            text += &format!("  {said}\n");
        }
    }
    text + &match cards::choose(sysfs, &Wanted::default(), &chips) {
        Ok(pair) => format!(
            "source = \"device\" takes {} with {}\n",
            pair.video.display(),
            pair.audio
        ),
        Err(why) => format!("source = \"device\" waits: {why}\n"),
    }
}
