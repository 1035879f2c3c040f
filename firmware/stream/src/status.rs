//! What the box knows about itself at one moment: the OLED, the operator's page and `/api/v1/status` show the same value.

use serde::{Deserialize, Serialize};

use crate::encoder::Choice;
use crate::health::Side;
use crate::machine::Machine;
use crate::rate::Oversize;
use crate::reach::Outside;
use crate::self_test::{Finding, Measurement};
use crate::uplink::Uplink;

/// Snapshot of the whole box. Times are milliseconds, levels dBFS, sizes bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The event's name, as configured.
    pub name: String,
    pub state: State,
    /// Number of the current or last broadcast of this run of the box: tells it from the next.
    pub broadcast: u64,
    /// Milliseconds since the first segment of this broadcast was published, without the time that the box was off.
    pub on_air_ms: Option<u64>,
    /// When the broadcast went on air, RFC 3339; absent off air or while the clock is not sane.
    pub since: Option<String>,
    pub input: Input,
    pub audio: Audio,
    pub sync: Sync,
    /// All renditions together as published, averaged over the last segment; absent off air.
    pub bitrate_kbps: Option<u32>,
    /// What the video encoder is asked for: kbit/s of this broadcast, off air of the next.
    pub video_kbps: u32,
    /// What encodes the picture from the next run of the encoder on, and why.
    pub encoder: Choice,
    /// A segment of the last half minute that was larger than promised, in hundredths of its nominal size.
    pub oversize: Option<Oversize>,
    /// The videos that viewers can choose from, best first.
    pub videos: Vec<VideoRendition>,
    pub health: Health,
    pub network: Network,
    pub node: Node,
    pub uplink: Uplink,
    pub viewers: Viewers,
    /// Who holds the newest segment, and where the name is known.
    pub outside: Outside,
    pub disk: Disk,
    /// Number of segments of the current or last broadcast.
    pub segments: u64,
    /// Segments of them that the store did not take: viewers got them from memory, and the recording has gaps.
    pub unstored: u64,
    /// Why the store takes none at the moment.
    pub outage: Option<String>,
    /// The box could not begin on its disk and runs from memory: nothing of this life is kept.
    pub disk_fault: Option<DiskFault>,
    /// Pictures and AAC frames that the encoder gave damaged, empty, twice or without a time: left out since the box started.
    pub dropped_units: u64,
    /// Milliseconds since the last segment was published; absent off air.
    pub segment_age_ms: Option<u64>,
    pub tally: Tally,
    /// What the MODE button will choose; reserved for consent.
    pub mode: Mode,
    pub page: Page,
    /// Parts of the box that do not work, or not as well as they could (display, buttons, tally light, capture card): what is wrong
    /// and what to do, one line each.
    pub hardware: Vec<String>,
    pub machine: Machine,
}

/// The broadcast's state in one word, with the named cause where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "word", rename_all = "lowercase")]
pub enum State {
    Idle,
    Starting,
    Live,
    /// `attempt` is 0 where a broadcast that was cut off waits for the time, which says whether it is still wanted.
    Retrying {
        cause: String,
        attempt: u32,
    },
    Stopping,
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
    /// What is odd about the card and is dealt with: nothing is to be done.
    pub notes: Vec<String>,
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

/// What is wrong with the data directory, so that the box could not begin on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskFault {
    ReadOnly,
    Full,
    /// The journal is broken or gone.
    Journal,
    /// A key is broken or cannot be read.
    Key,
    /// The disk answers with errors.
    Fails,
}

/// Why there is no capture card to capture from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NoCard {
    /// There is none.
    Missing,
    /// It is not what the configuration wants, or has no sound.
    Refused,
    /// It is there, and what its source sends cannot be taken.
    NoSignal,
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

/// A video that viewers get. The sound is the same with each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VideoRendition {
    /// As in paths: `video`, `low`.
    pub name: &'static str,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// What its encoder is asked for.
    pub bitrate_kbps: u32,
}

/// Levels of the last 100 ms, left and right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Audio {
    /// dBFS, at most 0.0; [`FLOOR_DBFS`] is silence.
    pub peak_dbfs: [f32; 2],
    /// dBFS, at most 0.0; [`FLOOR_DBFS`] is silence.
    pub rms_dbfs: [f32; 2],
    /// The meters' bars at this moment, as on the panel: they fall slowly. dBFS, [`FLOOR_DBFS`] is silence.
    pub level_dbfs: [f32; 2],
    /// Their marks of the highest peak, which stay for a moment. dBFS, [`FLOOR_DBFS`] is silence.
    pub hold_dbfs: [f32; 2],
    /// Both channels were below -60 dBFS (rms) for ten seconds.
    pub silent: bool,
    /// For half a minute there was sound on this side alone; see [`OneSided`](crate::health::OneSided).
    pub only: Option<Side>,
    /// Clipped in at least three of the last ten windows of 100 ms.
    pub clipping: bool,
    /// The operator has muted the programme: viewers hear silence, whatever the levels say.
    pub muted: bool,
}

/// How sound and picture go together. Of every number, positive means that the sound is late against the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Sync {
    /// Milliseconds by which pictures are shown later than they were captured; negative: earlier.
    pub trim_ms: i32,
    /// Whether the trim was set on the box; otherwise it is the configured one.
    pub trim_taken: bool,
    /// How much faster the sound's crystal is than the clock of the timestamps, parts per million: what is followed. `None`
    /// until it is known.
    pub drift_ppm: Option<f64>,
    /// Milliseconds by which sound was published late in the last second against where its timestamps belong, on average: what
    /// is left. `None` off air.
    pub error_ms: Option<f64>,
    /// The self-test that runs.
    pub test: Option<SyncTest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SyncTest {
    #[serde(flatten)]
    pub finding: Finding,
    /// Milliseconds that are left for viewers with the trim of now.
    pub left_ms: Option<f64>,
}

/// What a press of MODE does on the page of the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPress {
    Start,
    Trim(i32),
    End,
}

/// The greatest trim, and with a minus the least.
pub const MOST_TRIM_MS: i32 = 500;

/// What is left is not worth another trim below this: nobody sees it, and the next measurement would say something else.
const IN_SYNC_MS: f64 = 3.0;

impl Sync {
    /// With what the self-test has found.
    pub fn testing(self, finding: Finding) -> Sync {
        let left_ms = match finding {
            Finding::Measured(measured) => Some(measured.offset_ms - f64::from(self.trim_ms)),
            _ => None,
        };
        Sync {
            test: Some(SyncTest { finding, left_ms }),
            ..self
        }
    }

    pub fn measured(&self) -> Option<Measurement> {
        match self.test?.finding {
            Finding::Measured(measured) => Some(measured),
            _ => None,
        }
    }

    /// The trim that leaves nothing, as far as there is one.
    pub fn best_trim(&self) -> Option<i32> {
        let offset = self.measured()?.offset_ms.round() as i32;
        Some(offset.clamp(-MOST_TRIM_MS, MOST_TRIM_MS))
    }

    pub fn in_sync(&self) -> bool {
        (self.test.and_then(|test| test.left_ms)).is_some_and(|left| left.abs() < IN_SYNC_MS)
    }

    pub fn press(&self) -> SyncPress {
        match self.best_trim() {
            None if self.test.is_none() => SyncPress::Start,
            Some(trim) if trim != self.trim_ms && !self.in_sync() => SyncPress::Trim(trim),
            _ => SyncPress::End,
        }
    }
}

/// Levels are clamped to this: digital silence is minus infinity, and JSON has no word for it.
pub const FLOOR_DBFS: f32 = -90.0;

/// The five words are Cerevo LiveShell's (`ANCHORS`): each comes with the action to take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub word: HealthWord,
    /// What is wrong and what to do: at most two lines of at most 21 ASCII characters, empty when nothing is to be done.
    pub action: Vec<String>,
    /// The same where there is room for it: one sentence, or two with a full stop between them.
    pub text: String,
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
    /// `watch_url` leads to the box itself: no network has given it an address yet.
    pub only_here: bool,
    /// The operator's page, e.g. `http://127.0.0.1:8081/`.
    pub operator_url: String,
    /// Whether the operator's page is open to the network although pairing does not exist yet.
    pub operator_open: bool,
}

/// Who is connected to the viewers' port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Viewers {
    /// Now; a browser has up to six.
    pub connections: u32,
    /// `[viewer] max_connections`.
    pub max_connections: u32,
    /// Connections that were one too many, of all or of one address, since the start.
    pub refused: u64,
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
    /// How much more may be stored until the oldest recording that is not pinned goes, when the next broadcast begins at the latest;
    /// absent where there is none.
    pub bytes_until_one_goes: Option<u64>,
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
    /// The sync self-test.
    Sync,
    /// Encoder, temperature, power, card, clock, and what does not work.
    Hardware,
}

impl Page {
    /// The page after this one; after the last comes the first.
    pub fn next(self) -> Page {
        match self {
            Page::Main => Page::Watch,
            Page::Watch => Page::Details,
            Page::Details => Page::Sync,
            Page::Sync => Page::Hardware,
            Page::Hardware => Page::Main,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(offset_ms: f64) -> Finding {
        Finding::Measured(Measurement {
            offset_ms,
            error_ms: 1.0,
            spread_ms: 30.0,
            pairs: 12,
            drift: None,
        })
    }

    #[test]
    fn a_press_does_what_is_left_to_do() {
        use SyncPress::{End, Start, Trim};
        let check = |trim_ms, finding: Option<Finding>, left_ms, expected| {
            let sync = Sync {
                trim_ms,
                ..Sync::default()
            };
            let sync = finding.map_or(sync, |finding| sync.testing(finding));
            let said = sync.test.and_then(|test| test.left_ms);
            assert_eq!((said, sync.press()), (left_ms, expected), "{sync:?}");
        };
        check(0, None, None, Start);
        check(40, None, None, Start);
        check(0, Some(Finding::Looking { pairs: 3 }), None, End);
        check(0, Some(Finding::NoBeep), None, End);
        check(0, Some(measured(12.0)), Some(12.0), Trim(12));
        check(12, Some(measured(12.0)), Some(0.0), End);
        check(12, Some(measured(13.5)), Some(1.5), End);
        check(40, Some(measured(-20.5)), Some(-60.5), Trim(-21));
        // More than there is: as far as it goes, and then nothing is left to do.
        check(0, Some(measured(730.0)), Some(730.0), Trim(500));
        check(500, Some(measured(730.0)), Some(230.0), End);
    }
}
