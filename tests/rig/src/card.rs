//! A cheap HDMI capture stick: USB video class and USB audio class on one device, behind the kernel's USB/IP.
//!
//! `descriptors` says what it is, `Link` answers the transfers, and `source` and `picture` are what comes in at the HDMI socket: a bar
//! that moves, with a white flash and a beep that begin together about once a second of the source's own time, or a clip.
//!
//! All of a card's answers are given under one lock, since a transfer that the kernel takes back (UNLINK) must not be answered too.

mod descriptors;
mod link;
mod picture;
mod source;

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::guest::retry;
use crate::protocol::{Gain, Moments, Streams};
use crate::usbip;
use link::Link;

/// What a card offers, and how good its clocks are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Card {
    pub vendor: u16,
    pub product: u16,
    pub name: String,
    pub usb: Usb,
    pub modes: Vec<Mode>,
    pub sound: Sound,
    /// Whether the sound goes through a switch and a gain (a feature unit): such a stick wakes up muted and at its lowest.
    pub gain: bool,
    /// How much too fast the sound's clock runs against the pictures', parts per million.
    pub audio_ppm: f64,
    /// The kernel finds its pictures so much later than its sound, seconds, if not 0: it takes its time to tell what it has.
    pub late: f64,
    pub source: Source,
}

/// What card and socket can do together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Usb {
    /// USB 2, and no more.
    Two,
    /// USB 3, but the socket or the cable is of USB 2.
    TwoOfThree,
    Three,
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
    /// It gives pictures, and refuses (STALL) to give sound until it is enumerated anew.
    Mute,
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
    Nv12,
    Mjpeg,
}

/// Pictures that come broken: one of `every`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoilt {
    pub every: u64,
    pub how: Spoil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Spoil {
    /// Its second half is missing.
    Truncated,
    /// Its first half is missing.
    Headless,
    /// Some of its bytes are others.
    Garbled,
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
            usb: Usb::Two,
            modes: raw.chain(jpeg).filter(|mode| mode.fps > 0).collect(),
            sound: Sound::Stereo48k,
            gain: false,
            audio_ppm: 0.0,
            late: 0.0,
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

/// The card in its socket, as the kernel shows it, unless it is on USB 3.
pub const SOCKET: &str = "/sys/bus/usb/devices/1-1";

impl Usb {
    /// Port of the virtual controller, the first of its eight for high speed and of those for super speed; the speed as the kernel numbers
    /// them (`USB_SPEED_HIGH`, `USB_SPEED_SUPER`), and the bus of the port.
    fn port(self) -> (u32, u32, u32) {
        match self {
            Usb::Two | Usb::TwoOfThree => (0, 3, 1),
            Usb::Three => (8, 5, 2),
        }
    }

    /// The card in its socket, as the kernel shows it.
    pub fn socket(self) -> String {
        let (_, _, bus) = self.port();
        format!("/sys/bus/usb/devices/{bus}-1")
    }

    /// What switches the socket's power off: its port, and the one of the other speed.
    fn switches(self) -> [String; 2] {
        let (_, _, bus) = self.port();
        let port = format!("/sys/bus/usb/devices/usb{bus}/{bus}-0:1.0/usb{bus}-port1");
        ["", "/peer"].map(|peer| format!("{port}{peer}/disable"))
    }
}

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

    /// Some pictures come broken.
    pub fn spoil(&self, spoilt: Option<Spoilt>) {
        self.link().spoil(spoilt);
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
    let (port, speed, _) = card.usb.port();
    usbip::attach(port, speed, &kernels)?;
    Ok(link)
}

/// The virtual controller has no power to switch. So where the kernel has switched the port off, which takes the card away from it for
/// good, this pulls the card out, and puts a fresh one in when the port is on again. As on a USB 3 hub, the card has had power all the
/// while unless both of the socket's ports were off together, and is as stuck as it was.
fn watch_power(card: &Card, power: &Weak<Mutex<Arc<Link>>>) {
    let (socket, switches) = (card.usb.socket(), card.usb.switches());
    let mut seen = Instant::now();
    let mut cut = false;
    while let Some(link) = power.upgrade() {
        let mut link = link.lock().unwrap_or_else(PoisonError::into_inner);
        if fs::exists(&socket).unwrap_or(true) || !link.is_configured() {
            seen = Instant::now();
        }
        // Before the switches are read: that waits for as long as the kernel sets up a card, which takes a late one longer.
        let away = seen.elapsed() > AWAY;
        let are = |state: &str| {
            let is =
                |switch: &String| fs::read_to_string(switch).is_ok_and(|it| it.trim() == state);
            switches.iter().all(is)
        };
        cut |= are("1");
        if away && are("0") {
            link.unplug();
            let Ok(fresh) = retry(|| attach(card)) else {
                return;
            };
            if !cut {
                fresh.stick(Stuck::Dead);
            }
            (*link, seen, cut) = (fresh, Instant::now(), false);
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
