//! What test and guest say to each other: one line of JSON each way, a [`Request`] and its [`Reply`].

use serde::{Deserialize, Serialize};

use crate::card::{Card, Incoming, Spoilt, Stuck};
use crate::emmc::Emmc;

/// How the I²C bus behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bus {
    Well,
    /// Nobody acknowledges an address, as with a loose wire.
    Nak,
    /// The bridge takes requests and never answers: the driver waits four seconds for each.
    Hang,
    /// The bridge is unplugged.
    Gone,
}

/// What the card does with its two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    pub video: bool,
    pub audio: bool,
}

/// The switch and the gain of the card's sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gain {
    pub muted: bool,
    /// In 1/256 dB, as the audio class counts.
    pub volume: i16,
}

/// What the card did, in seconds since it was plugged in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// When it was configured the last time: its drivers take it from then on.
    pub configured: Option<f64>,
    /// When the box first waited for pictures after that.
    pub opened: Option<f64>,
    /// When the first picture after that went out.
    pub picture: Option<f64>,
    /// When the last picture went out.
    pub last: Option<f64>,
    /// How many have gone out since then.
    pub pictures: u64,
    /// Flashes, in their order.
    pub flashes: Vec<Flash>,
}

/// A flash and the beep that belongs to it, seconds since the card was plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flash {
    /// When both begin at the source, and so when the beep is.
    pub beep: f64,
    /// Which of the card's pictures its first one is.
    pub number: u64,
    /// When its first picture began to leave the card: on the next beat of the pictures, or later on a busy machine.
    pub sent: f64,
    /// When the kernel had certainly taken the beginning of that picture; its own timestamp is between the two.
    pub taken: Option<f64>,
    /// How late the sound left the card at worst in the five seconds before.
    pub sound_late: f64,
}

impl Flash {
    /// Whether the machine had time for the card: a flash that it held up says nothing about the box.
    pub fn is_certain(&self) -> bool {
        let held = self.taken.map(|taken| taken - self.sent);
        held.is_some_and(|held| held < 0.002) && self.sound_late < 0.03
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    Plug(Card),
    Unplug,
    Streams(Streams),
    Stick(Stuck),
    /// The endpoint of the pictures halts until somebody clears that.
    Halt,
    Incoming(Option<Incoming>),
    Spoil(Option<Spoilt>),
    Gain,
    Moments,
    /// Fits flash, instead of what is there.
    Emmc(Emmc),
    Bus(Bus),
    /// The display loses its power and gets it back.
    Reseat,
    /// Pulls a button's line up or to ground.
    Line {
        line: u32,
        high: bool,
    },
    /// Another program holds these lines of the GPIO chip, and no others.
    Hold(Vec<u32>),
    Lamp,
    Glass,
    Contrast,
    /// Starts `podium` with these arguments.
    Start {
        program: String,
        arguments: Vec<String>,
    },
    Kill {
        signal: i32,
    },
    /// Whether `podium` has ended.
    Ended,
    /// Runs a program to its end.
    Run {
        program: String,
        arguments: Vec<String>,
    },
    Get {
        url: String,
    },
    /// The first line that `podium` printed.
    Ready,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    Done,
    /// The guest is up, or the request makes no sense now.
    Up,
    Failed(String),
    Lamp(bool),
    Contrast(u8),
    Gain(Gain),
    Moments(Moments),
    /// Rows of `#` and `.`; `None` is a dark glass.
    Glass(Option<Vec<String>>),
    Ended(Option<i32>),
    /// Standard output and standard error together.
    Ran {
        status: Option<i32>,
        output: String,
    },
    /// The body is in this file of the scratch directory.
    Got {
        status: u16,
        file: String,
    },
    Ready(Option<String>),
}

/// Lines of the GPIO chip, as a fresh configuration has them.
pub const GO_LIVE: u32 = 17;
pub const PAGE: u32 = 27;
pub const MODE: u32 = 22;
pub const LAMP: u32 = 24;
