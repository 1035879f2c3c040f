//! What the box knows about itself at one moment: the OLED, the operator's page and `/api/v1/status` show the same value.

use serde::Serialize;

use crate::rate::Oversize;

/// Snapshot of the whole box. Times are milliseconds, levels dBFS, sizes bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The event's name, as configured.
    pub name: String,
    pub state: State,
    /// Milliseconds since the first segment of this broadcast was published, without the time that the box was off.
    pub on_air_ms: Option<u64>,
    /// When the broadcast went on air, RFC 3339; absent off air or while the clock is not sane.
    pub since: Option<String>,
    pub input: Input,
    pub audio: Audio,
    /// Video and audio as published, averaged over the last segment; absent off air.
    pub bitrate_kbps: Option<u32>,
    /// What the video encoder is asked for: kbit/s of this broadcast, off air of the next.
    pub video_kbps: u32,
    /// A segment of the last half minute that was larger than promised, in hundredths of its nominal size.
    pub oversize: Option<Oversize>,
    pub health: Health,
    pub network: Network,
    pub node: Node,
    pub disk: Disk,
    /// Number of segments of the current or last broadcast.
    pub segments: u64,
    /// Milliseconds since the last segment was published; absent off air.
    pub segment_age_ms: Option<u64>,
    pub tally: Tally,
    /// What the MODE button will choose; reserved for consent.
    pub mode: Mode,
    pub page: Page,
    /// Parts of the box that do not work (display, buttons, tally light): what is wrong and what to do, one line each.
    pub hardware: Vec<String>,
}

/// The broadcast's state in one word, with the named cause where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum State {
    Idle,
    Starting,
    Live,
    Retrying { cause: String, attempt: u32 },
    Stopping,
    Halted { cause: String },
}

impl State {
    /// The state's word, as in the JSON.
    pub fn word(&self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Starting => "starting",
            State::Live => "live",
            State::Retrying { .. } => "retrying",
            State::Stopping => "stopping",
            State::Halted { .. } => "halted",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Input {
    pub signal: Signal,
    /// `test`, `file` or `device`, and what is behind it ("test picture", "talk.mp4", "/dev/video0").
    pub source: String,
    pub format: Option<VideoFormat>,
    /// Almost all of the picture has been black for two seconds. It is shown as it is.
    pub black: bool,
    /// Nothing in the picture has changed for two minutes: a slide, or a source that hangs. It is shown as it is.
    pub frozen: bool,
    /// Mean luma of the picture, 16 is black and 235 white; absent while there is none.
    pub luma: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    /// Pictures and sound arrive.
    Ok,
    /// They did and no longer do: the slate is shown.
    Lost,
    /// Nothing has arrived yet.
    None,
}

/// Format of the picture at the input, before scaling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct VideoFormat {
    pub width: u32,
    pub height: u32,
    /// Frames per second as a fraction.
    pub fps_num: u32,
    pub fps_den: u32,
}

/// Levels of the last 100 ms, left and right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Audio {
    /// dBFS, at most 0.0; [`FLOOR_DBFS`] is silence.
    pub peak_dbfs: [f32; 2],
    /// dBFS, at most 0.0; [`FLOOR_DBFS`] is silence.
    pub rms_dbfs: [f32; 2],
    /// Both channels were below -60 dBFS (rms) for ten seconds.
    pub silent: bool,
    /// Clipped in at least three of the last ten windows of 100 ms.
    pub clipping: bool,
    /// The operator has muted the programme: viewers hear silence, whatever the levels say.
    pub muted: bool,
}

/// Levels are clamped to this: digital silence is minus infinity, and JSON has no word for it.
pub const FLOOR_DBFS: f32 = -90.0;

/// The five words are Cerevo LiveShell's (`ANCHORS`): each comes with the action to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub word: HealthWord,
    /// What is wrong and what to do: at most two lines of at most 21 ASCII characters, empty when nothing is to be done.
    pub action: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum HealthWord {
    Excellent,
    Good,
    Warning,
    Emergency,
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// The watch page's address as a neighbour on the network opens it, e.g. `http://192.168.1.7:8080/`.
    pub watch_url: String,
    /// The operator's page, e.g. `http://127.0.0.1:8081/`.
    pub operator_url: String,
    /// Whether the operator's page is open to the network although pairing does not exist yet.
    pub operator_open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    pub peer_id: String,
    pub peers: u32,
    /// IPNS name of this box, base36 (`k51…`).
    pub ipns: String,
    /// Root of the current broadcast, or of the last one.
    pub root: Option<String>,
    /// Whether `root` is a finished broadcast with its VOD playlist.
    pub root_is_vod: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Free bytes on the data directory's file system.
    pub free_bytes: u64,
    /// Bytes that the store holds.
    pub stored_bytes: u64,
    /// Limit of the store.
    pub limit_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tally {
    Off,
    Blinking,
    On,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Stream,
}

/// Screens of the panel, in the order in which PAGE walks through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Page {
    Main,
    /// QR code of the watch page.
    Watch,
    /// Addresses, peers, disk.
    Details,
}

impl Page {
    /// The page after this one; after the last comes the first.
    pub fn next(self) -> Page {
        match self {
            Page::Main => Page::Watch,
            Page::Watch => Page::Details,
            Page::Details => Page::Main,
        }
    }
}
