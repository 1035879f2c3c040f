//! A cheap HDMI capture stick: USB video class and USB audio class on one device, behind the kernel's USB/IP.
//!
//! The kernel's virtual host controller (`vhci-hcd`) takes any socket as a USB device and speaks USB/IP over it
//! (Documentation/usb/usbip_protocol.rst). This is the device's side. `descriptors` says what it is, `Link` answers the
//! transfers, and `source` and `picture` are what comes in at the HDMI socket: a bar that moves, with a white flash and a beep that
//! begin together about once a second of the source's own time, or a clip.
//!
//! All of a card's answers are given under one lock, since a transfer that the kernel takes back (UNLINK) must not be answered too.

mod descriptors;
mod link;
mod picture;
mod source;

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::guest::retry;
use crate::protocol::{Gain, Moments, Streams};
use link::Link;

/// What a card offers, and how good its clocks are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub vendor: u16,
    pub product: u16,
    pub name: String,
    pub modes: Vec<Mode>,
    pub sound: Sound,
    /// Whether the sound goes through a switch and a gain (a feature unit): such a stick wakes up muted and at its lowest.
    pub gain: bool,
    /// How much too fast the sound's clock runs against the pictures', parts per million.
    pub audio_ppm: f64,
    pub source: Source,
}

/// What comes in at the HDMI socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Source {
    /// A bar that moves, and flashes and beeps that begin together.
    FlashAndBeep,
    /// Black, with the beeps: what a protected source (HDCP) shows to a card that must not have it.
    Black,
    /// A clip in a loop: files of the host with its pictures one after the other, packed as the card's first mode says, and its sound
    /// in S16LE, 48 kHz, stereo.
    Clip { pictures: PathBuf, sound: PathBuf },
}

/// A size and a rate that come in at the HDMI socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    pub width: u16,
    pub height: u16,
    pub fps: u32,
}

/// How a card is stuck, and so what cures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stuck {
    /// It gives no pictures until it is enumerated anew.
    Silent,
    /// It also refuses (STALL) to be opened until then.
    Refusing,
    /// It gives no pictures until its power was off.
    Dead,
}

/// One line of the card's table of formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    pub pixels: Pixels,
    pub width: u16,
    pub height: u16,
    pub fps: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pixels {
    Yuy2,
    Mjpeg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sound {
    /// 48 kHz stereo, and says so.
    Stereo48k,
    /// 48 kHz stereo that calls itself 96 kHz mono, as the MS2109 does.
    Mono96k,
}

/// Those of which the kernel leaves out the first sample each time that their sound is opened (sound/usb/quirks.c,
/// `snd_usb_set_format_quirk`), whatever they call it.
const STRAY: [(u16, u16); 2] = [(0x534d, 0x2109), (0x534d, 0x0021)];

impl Card {
    /// A stick as they are sold: raw pictures slowly or small, compressed ones fast. `sizes` are its sizes with their rates in
    /// YUY2 and MJPEG.
    pub fn stick(sizes: &[(u16, u16, u32, u32)]) -> Card {
        let mode = |pixels, width, height, fps| Mode {
            pixels,
            width,
            height,
            fps,
        };
        let raw = sizes
            .iter()
            .map(|&(w, h, fps, _)| mode(Pixels::Yuy2, w, h, fps));
        let jpeg = sizes
            .iter()
            .map(|&(w, h, _, fps)| mode(Pixels::Mjpeg, w, h, fps));
        Card {
            vendor: 0x534d,
            product: 0x2109,
            name: "USB Video".into(),
            modes: raw.chain(jpeg).filter(|mode| mode.fps > 0).collect(),
            sound: Sound::Stereo48k,
            gain: false,
            audio_ppm: 0.0,
            source: Source::FlashAndBeep,
        }
    }

    /// Whether its sound begins with a right sample that has no left one (`R LR LR …`), each time that it is opened, as the MS2109's does.
    /// Nobody has looked at its clones; here they do so, too.
    fn begins_with_a_stray_sample(&self) -> bool {
        self.sound == Sound::Mono96k || STRAY.contains(&(self.vendor, self.product))
    }

    /// The table of an MS2109 (as `v4l2-ctl --list-formats-ext` shows it, less its odd sizes): raw 1080p crawls.
    pub fn ms2109() -> Card {
        let sizes = [
            (1920, 1080, 5, 30),
            (1280, 720, 10, 60),
            (720, 480, 30, 60),
            (640, 480, 30, 60),
        ];
        Card {
            sound: Sound::Mono96k,
            ..Card::stick(&sizes)
        }
    }
}

/// A card in the socket. Dropping it pulls it out.
#[derive(Debug)]
pub struct Plugged {
    /// Another one after each time without power.
    link: Arc<Mutex<Arc<Link>>>,
}

/// Port of the virtual controller: the first of high speed.
const PORT: u32 = 0;
/// Bus 1, device 2, as USB/IP numbers the far side's devices.
const DEVICE: u32 = 0x0001_0002;
/// `USB_SPEED_HIGH`.
const SPEED: u32 = 3;

/// The card in its socket, as the kernel shows it.
pub const SOCKET: &str = "/sys/bus/usb/devices/1-1";
/// What switches the socket's power off.
const SWITCH: &str = "/sys/bus/usb/devices/usb1/1-0:1.0/usb1-port1/disable";
/// A card that the kernel has taken, and that is away for this long, has no power: enumerating it anew takes less.
const AWAY: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(100);

impl Plugged {
    /// Plugs a card in.
    pub fn new(card: Card) -> io::Result<Plugged> {
        let link = Arc::new(Mutex::new(attach(&card)?));
        let power = Arc::downgrade(&link);
        std::thread::spawn(move || watch_power(&card, &power));
        Ok(Plugged { link })
    }

    fn link(&self) -> MutexGuard<'_, Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn streams(&self, streams: Streams) {
        self.link().streams(streams);
    }

    /// The pictures stop until somebody does what cures it.
    pub fn stick(&self, stuck: Stuck) {
        self.link().stick(stuck);
    }

    /// The card refuses to give pictures (STALL) until the halt of their endpoint is cleared.
    pub fn halt(&self) {
        self.link().halt();
    }

    /// Another signal comes in; `None` is one as the modes say.
    pub fn incoming(&self, incoming: Option<Incoming>) {
        self.link().incoming(incoming);
    }

    /// Where the sound's switch and gain are.
    pub fn gain(&self) -> Gain {
        self.link().gain()
    }

    /// What the card has done, and when.
    pub fn moments(&self) -> Moments {
        self.link().moments()
    }
}

fn attach(card: &Card) -> io::Result<Arc<Link>> {
    let (ours, kernels) = UnixStream::pair()?;
    let link = Link::start(card.clone(), ours)?;
    fs::write(
        "/sys/devices/platform/vhci_hcd.0/attach",
        format!("{PORT} {} {DEVICE} {SPEED}", kernels.as_raw_fd()),
    )?;
    Ok(link)
}

/// The virtual controller has no power to switch. So where the kernel has switched the port off, which takes the card away from it for
/// good, this pulls the card out, and puts a fresh one in when the port is on again.
fn watch_power(card: &Card, power: &Weak<Mutex<Arc<Link>>>) {
    let mut seen = Instant::now();
    while let Some(link) = power.upgrade() {
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::exists(SOCKET).unwrap_or(true) || !link.is_configured() {
            seen = Instant::now();
        }
        let is_on = || fs::read_to_string(SWITCH).is_ok_and(|off| off.trim() == "0");
        if seen.elapsed() > AWAY && is_on() {
            link.unplug();
            let Ok(fresh) = retry(|| attach(card)) else {
                return;
            };
            (*link, seen) = (fresh, Instant::now());
        }
        drop(link);
        std::thread::sleep(LOOK);
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        self.link().unplug();
    }
}
