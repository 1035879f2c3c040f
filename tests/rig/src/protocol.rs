//! What test and guest say to each other: one line of JSON each way, a [`Request`] and its [`Reply`].

use serde::{Deserialize, Serialize};

use crate::card::Card;

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

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    Plug(Card),
    Unplug,
    Streams(Streams),
    /// Only USB de-authorisation brings the card's pictures back.
    Wedge,
    Bus(Bus),
    /// Pulls a button's line to ground, or lets go of it.
    Line {
        line: u32,
        pressed: bool,
    },
    Lamp,
    Glass,
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
