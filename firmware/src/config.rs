//! One TOML file. `Default` is the simulated box, so `podium run` needs none.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Uri;
use node::{Allowance, Budgets};
use serde::Deserialize;
use stream::encoder::Preset;
use stream::status::MOST_TRIM_MS;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// A configuration that cannot be used. The message is one line: the file, the line, what is wrong and what is accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}; name a config file that can be read", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{}:{line}: {message}", path.display())]
    Parse {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("{key} = {value}: must be {accepted}")]
    Value {
        key: &'static str,
        value: String,
        accepted: &'static str,
    },
    #[error(
        "[store] live_mib = {live_mib}: must be at least {needed_mib}, twice what [hls] window_s takes at this bitrate"
    )]
    LiveRoom { live_mib: u64, needed_mib: u64 },
}

/// What the standard library says of an address without a port.
const NO_ADDRESS: &str = "invalid socket address syntax";
const NO_ADDRESS_NOW: &str = "must be an IP address and a port, like \"0.0.0.0:8080\"";

/// What is said of the one budget that the store once had.
const OLD_LIMIT: &str = "unknown field `limit_mib`, expected `recordings_mib` or `live_mib`";
const OLD_LIMIT_NOW: &str = "limit_mib is two budgets now: write recordings_mib and live_mib, which together are what it was";

/// Of each of the store's budgets.
const MOST_STORE_MIB: u64 = 1 << 30;

/// Bitrates of the video that can be asked for: from what a picture needs to move at all to what H.264's level 4 has for the main profile,
/// which is also the most that the Raspberry Pi's encoder starts with.
pub(crate) const VIDEO_KBPS: RangeInclusive<u32> = 100..=20_000;
/// [`VIDEO_KBPS`] in words.
pub(crate) const VIDEO_KBPS_ACCEPTED: &str = "100 to 20000";

/// Below it the node's tenth does not carry a name's records.
const LEAST_UPLINK_KBPS: u32 = 64;

/// Gateways to be checked.
const MOST_CHECKS: usize = 16;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// The event's name, on the panel, the pages and the slate. Default `Podium`.
    pub(crate) name: String,
    /// Keys, store and journal. A box that has none to begin on runs from memory. Default `podium-data` in the working directory.
    pub(crate) data_dir: PathBuf,
    pub(crate) capture: Capture,
    pub(crate) viewer: Viewer,
    pub(crate) operator: Operator,
    pub(crate) node: Node,
    pub(crate) store: Store,
    pub(crate) video: Video,
    pub(crate) audio: Audio,
    pub(crate) hls: Hls,
    pub(crate) broadcast: Broadcast,
    /// The box's own display, buttons and light; see `board/src/config.rs`. Default: simulated.
    pub(crate) board: board::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            name: "Podium".into(),
            data_dir: "podium-data".into(),
            capture: Capture::default(),
            viewer: Viewer::default(),
            operator: Operator::default(),
            node: Node::default(),
            store: Store::default(),
            video: Video::default(),
            audio: Audio::default(),
            hls: Hls::default(),
            broadcast: Broadcast::default(),
            board: board::Config::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// A moving test picture with a running clock and a beep.
    #[default]
    Test,
    /// A recording, played in a loop in real time as if it were a capture card.
    File,
    /// A capture device.
    Device,
    /// A recording that is published as it is encoded, for measurements: `make bench-ipfs`. H.264 without B-frames, with a keyframe
    /// wherever a segment shall begin, and AAC-LC, 48 kHz stereo, in an MP4; `[video]` and `[audio]` say what it has. Mute, bitrate,
    /// slate and levels need what is not encoded yet.
    Encoded,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Capture {
    /// `test`, `file`, `device` or `encoded`. Default `test`.
    pub(crate) source: Source,
    /// The recording for `source = "file"` or `"encoded"`.
    pub(crate) file: Option<PathBuf>,
    /// V4L2 device for `source = "device"`. Default: the first card that has picture and sound; `podium devices` lists them.
    pub(crate) video_device: Option<PathBuf>,
    /// Milliseconds by which the picture is shown later, for a card that is ahead with it; negative for earlier, -500 to 500.
    /// A trim that is set on the box holds over it until this is changed. Default 0.
    pub(crate) av_offset_ms: i32,
    /// ALSA device for `source = "device"`, as `arecord -L` names it. Default: the card's own.
    pub(crate) audio_device: Option<String>,
    /// Take picture and sound of different devices, which drift apart. Default false.
    pub(crate) separate_clocks: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Viewer {
    /// Address of the viewers' pages and streams. Default `0.0.0.0:8080`.
    pub(crate) listen: SocketAddr,
    /// Host name of a subdomain gateway, as `box.example`: content is at `<cid>.ipfs.box.example`, so that DNS or a proxy has to
    /// lead all names below it here. Default: none, and content is below `/ipfs` and `/ipns` only.
    pub(crate) gateway_host: Option<String>,
    /// Connections at a time, 16 to 8192; a browser that follows closely has up to six. Half of them may come from one address. Who
    /// comes beyond is told to come back later, and the panel says so where all are taken: for a crowd behind one proxy or router take twice
    /// as many. At most half of the process's limit of open files. Default 512: more streams than the uplink of a venue carries.
    pub(crate) max_connections: u32,
}

impl Default for Viewer {
    fn default() -> Viewer {
        Viewer {
            listen: ([0, 0, 0, 0], 8080).into(),
            gateway_host: None,
            max_connections: 512,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Operator {
    /// Address of the operator's page. Default `127.0.0.1:8081`: whoever reaches it controls the box.
    pub(crate) listen: SocketAddr,
}

impl Default for Operator {
    fn default() -> Operator {
        Operator {
            listen: ([127, 0, 0, 1], 8081).into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Multiaddresses of the IPFS node. Default TCP 4001, QUIC 4001 and WebSocket 4002 on all interfaces.
    pub(crate) listen: Vec<String>,
    /// Find neighbours on the local network by multicast DNS. Default true.
    pub(crate) mdns: bool,
    /// Mirrors and bootstrap nodes to stay connected with: multiaddresses that end in `/p2p/` and the peer id. Default none.
    pub(crate) peers: Vec<String>,
    /// `client` asks the DHT, `server` answers, too: on a closed network some node has to. Default `client`.
    pub(crate) dht: Dht,
    /// A `swarm.key` as Kubo has it: a private network over TCP and WebSocket, closed to all without the key. Default none.
    pub(crate) swarm_key: Option<PathBuf>,
    /// Connections that other nodes may open, 1 to 4096. Default 96.
    pub(crate) max_incoming: u32,
    /// kbit/s that the node may send to other nodes, all of them and all transports together, 64 to 10000000. HTTP viewers go
    /// first: what they are sent is taken off, down to a tenth of this, which the node always has. They are not held back
    /// themselves, but for `format=raw` and `car`, for which nodes ask: these have what is left. Viewers on the box itself and on
    /// networks that it is directly connected with, but not by a tunnel, cost nothing of it; nodes there are not told from those behind
    /// the uplink. Default none.
    pub(crate) uplink_kbps: Option<u32>,
    /// Viewers on the local network count as well: for where a proxy there, or a router that hides addresses, passes the stream on to
    /// those behind the uplink. Default false.
    pub(crate) uplink_counts_local: bool,
    /// Gateways to be asked for the newest segment while on air, as `https://gateway.example`, at most 16. Those of `peers` are
    /// asked as well. A gateway gets it from this box if it has to: it costs the uplink one part every ten seconds. Default none.
    pub(crate) check: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Dht {
    #[default]
    Client,
    Server,
}

impl Default for Node {
    fn default() -> Node {
        Node {
            listen: vec![
                "/ip4/0.0.0.0/tcp/4001".into(),
                "/ip4/0.0.0.0/udp/4001/quic-v1".into(),
                "/ip4/0.0.0.0/tcp/4002/ws".into(),
            ],
            mdns: true,
            peers: Vec::new(),
            dht: Dht::Client,
            swarm_key: None,
            max_incoming: 96,
            uplink_kbps: None,
            uplink_counts_local: false,
            check: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Store {
    /// MiB of blocks that recordings may take, all broadcasts but the newest; the oldest finished one that is not pinned goes
    /// first. Pins beyond it are refused. 0 keeps none. Default: three quarters of what is free on the disk or recorded when the
    /// box starts, less `live_mib` or half of it; what is recorded already stays.
    pub(crate) recordings_mib: Option<u64>,
    /// MiB on top that recordings never take, even pinned: room for the broadcast on air, which also uses what they leave. At
    /// least twice what `[hls] window_s` needs. Default 2048.
    pub(crate) live_mib: u64,
}

impl Store {
    pub(crate) fn allowance(&self) -> Allowance {
        let live_bytes = self.live_mib << 20;
        match self.recordings_mib {
            Some(mib) => Budgets::new(mib << 20, live_bytes).into(),
            None => Allowance::OfDisk { live_bytes },
        }
    }
}

impl Default for Store {
    fn default() -> Store {
        Store {
            recordings_mib: None,
            live_mib: 2 * 1024,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Video {
    /// Pixels, even, 160 to 1920. Default 1280.
    pub(crate) width: u16,
    /// Pixels, even, 90 to 1080. Default 720.
    pub(crate) height: u16,
    /// Frames per second, 9 to 60. Default 30. Slower input keeps its own rate.
    pub(crate) fps: u32,
    /// `auto`, `v4l2` (the Raspberry Pi's hardware, up to the Pi 4) or `x264`. Default `auto`: the hardware where it encodes this
    /// size and rate when it is tried.
    pub(crate) encoder: EncoderWish,
    /// `ultrafast`, `superfast`, `veryfast`, `faster`, `fast` or `medium`. Default: with a capture card the best that this machine
    /// can afford, found out once for each size and rate, else `superfast`.
    pub(crate) x264_preset: Option<Preset>,
    /// kbit/s, 100 to 20000. Default 3000. The operator's page changes it for one broadcast.
    pub(crate) bitrate_kbps: u32,
    /// A second, smaller video for weak links, at the same frame rate. Costs a second encoder. Default none.
    pub(crate) low: Option<LowVideo>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EncoderWish {
    #[default]
    Auto,
    V4l2,
    X264,
}

/// `[video.low]`. All keys are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LowVideo {
    /// Pixels, even, 64 to less than that of `[video]`.
    pub(crate) width: u16,
    /// Pixels, even, in the shape of `[video]`.
    pub(crate) height: u16,
    /// kbit/s, 100 to less than that of `[video]`.
    pub(crate) bitrate_kbps: u32,
}

impl Default for Video {
    fn default() -> Video {
        Video {
            width: 1280,
            height: 720,
            fps: 30,
            encoder: EncoderWish::Auto,
            x264_preset: None,
            bitrate_kbps: 3000,
            low: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audio {
    /// kbit/s of stereo AAC-LC, 32 to 320. Default 128.
    pub(crate) bitrate_kbps: u32,
}

impl Default for Audio {
    fn default() -> Audio {
        Audio { bitrate_kbps: 128 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Hls {
    /// Length of a part in milliseconds, 100 to 2000. Viewers are three parts behind, and a little. Default 334: a whole
    /// number of pictures at all usual rates lies closely below it.
    pub(crate) part_ms: u64,
    /// Length of a segment in milliseconds, whole seconds from 1000 to 10000. Default 2000.
    pub(crate) segment_ms: u64,
    /// Seconds that a viewer can go back, 20 to 3600. Default 60.
    pub(crate) window_s: u64,
}

impl Default for Hls {
    fn default() -> Hls {
        Hls {
            part_ms: 334,
            segment_ms: 2000,
            window_s: 60,
        }
    }
}

impl Hls {
    pub(crate) fn segment(&self) -> Duration {
        Duration::from_millis(self.segment_ms)
    }

    pub(crate) fn part(&self) -> Duration {
        Duration::from_millis(self.part_ms)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Broadcast {
    /// After a crash or a power cut: go on with the broadcast that was on air, if its last segment is younger than this many
    /// seconds. 0 closes it instead. Default 600.
    pub(crate) resume_within_s: u64,
}

impl Default for Broadcast {
    fn default() -> Broadcast {
        Broadcast {
            resume_within_s: 600,
        }
    }
}

impl Config {
    /// Reads and checks `path`.
    pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.into(),
            source,
        })?;
        let config: Config = toml::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.into(),
            line: error
                .span()
                .map_or(1, |span| text[..span.start].matches('\n').count() + 1),
            message: match error.message() {
                OLD_LIMIT => OLD_LIMIT_NOW.to_owned(),
                NO_ADDRESS => NO_ADDRESS_NOW.to_owned(),
                message => (message.replace('\n', " "))
                    .replace("expected u16", "expected a whole number, at most 65535")
                    .replace("expected u32", "expected a whole number")
                    .replace("expected u64", "expected a whole number"),
            },
        })?;
        config.check()?;
        Ok(config)
    }

    /// The board of a file that is refused, as far as that can be read: what is wrong with the file is told on its display. `None` where
    /// there is no such file, or no hardware named in it.
    pub(crate) fn board_of(path: &Path) -> Option<board::Config> {
        let text = std::fs::read_to_string(path).ok()?;
        // From its line on: what is broken before it may swallow that.
        let mut headers = text.match_indices("[board]");
        let (at, _) = headers.find(|(at, _)| *at == 0 || text[..*at].ends_with('\n'))?;
        let (mut file, _) = DeTable::parse_recoverable(&text[at..]);
        let DeValue::Table(keys) = file.get_mut().remove("board")?.into_inner() else {
            return None;
        };
        let read = |keys: DeTable<'_>| {
            let keys = Spanned::new(0..0, DeValue::Table(keys));
            board::Config::deserialize(ValueDeserializer::from(keys))
        };
        let good = keys.into_iter().filter(|(key, value)| {
            let alone = std::iter::once((key.clone(), value.clone()));
            read(alone.collect()).is_ok()
        });
        let board = read(good.collect()).ok()?;
        (board.kind != board::Kind::Sim).then_some(board)
    }

    /// MiB of two windows: viewers may ask for what has left the playlist for as long as it was in it.
    fn live_mib_needed(&self) -> u64 {
        let low = self.video.low.map_or(0, |low| low.bitrate_kbps);
        let kbps = [self.video.bitrate_kbps, low, self.audio.bitrate_kbps].map(u64::from);
        let bytes = 2 * self.hls.window_s * kbps.iter().sum::<u64>() * 1000 / 8;
        bytes.div_ceil(1 << 20)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let video = &self.video;
        let rules = [
            (
                "[video] width",
                u64::from(video.width),
                (160..=1920).contains(&video.width) && video.width.is_multiple_of(2),
                "even, 160 to 1920",
            ),
            (
                "[video] height",
                u64::from(video.height),
                (90..=1080).contains(&video.height) && video.height.is_multiple_of(2),
                "even, 90 to 1080",
            ),
            (
                "[video] fps",
                u64::from(video.fps),
                (9..=60).contains(&video.fps),
                "9 to 60",
            ),
            (
                "[video] bitrate_kbps",
                u64::from(video.bitrate_kbps),
                VIDEO_KBPS.contains(&video.bitrate_kbps),
                VIDEO_KBPS_ACCEPTED,
            ),
            (
                "[audio] bitrate_kbps",
                u64::from(self.audio.bitrate_kbps),
                (32..=320).contains(&self.audio.bitrate_kbps),
                "32 to 320",
            ),
            (
                "[hls] part_ms",
                self.hls.part_ms,
                (100..=2000).contains(&self.hls.part_ms),
                "100 to 2000",
            ),
            (
                "[hls] segment_ms",
                self.hls.segment_ms,
                (1000..=10_000).contains(&self.hls.segment_ms)
                    && self.hls.segment_ms.is_multiple_of(1000)
                    && self.hls.segment_ms >= self.hls.part_ms,
                "whole seconds from 1000 to 10000, and at least part_ms",
            ),
            (
                "[hls] window_s",
                self.hls.window_s,
                (20..=3600).contains(&self.hls.window_s)
                    && self.hls.window_s.saturating_mul(1000)
                        >= self.hls.segment_ms.saturating_mul(6),
                "20 to 3600, and at least six segments",
            ),
            (
                "[store] recordings_mib",
                self.store.recordings_mib.unwrap_or(0),
                self.store.recordings_mib.unwrap_or(0) <= MOST_STORE_MIB,
                "0 to 1073741824",
            ),
            (
                "[store] live_mib",
                self.store.live_mib,
                (64..=MOST_STORE_MIB).contains(&self.store.live_mib),
                "64 to 1073741824",
            ),
            (
                "[viewer] max_connections",
                u64::from(self.viewer.max_connections),
                (16..=8192).contains(&self.viewer.max_connections),
                "16 to 8192",
            ),
            (
                "[node] max_incoming",
                u64::from(self.node.max_incoming),
                (1..=4096).contains(&self.node.max_incoming),
                "1 to 4096",
            ),
            (
                "[node] uplink_kbps",
                u64::from(self.node.uplink_kbps.unwrap_or(LEAST_UPLINK_KBPS)),
                (LEAST_UPLINK_KBPS..=10_000_000)
                    .contains(&self.node.uplink_kbps.unwrap_or(LEAST_UPLINK_KBPS)),
                "64 to 10000000",
            ),
            (
                "[broadcast] resume_within_s",
                self.broadcast.resume_within_s,
                self.broadcast.resume_within_s <= 7 * 24 * 3600,
                "0 to 604800",
            ),
        ];
        for (key, value, ok, accepted) in rules {
            if !ok {
                return Err(ConfigError::Value {
                    key,
                    value: value.to_string(),
                    accepted,
                });
            }
        }
        if let Some(base) = self.node.check.iter().find(|base| !is_http_base(base)) {
            return Err(ConfigError::Value {
                key: "[node] check",
                value: base.clone(),
                accepted: "a gateway's address without a path, as https://gateway.example or http://192.0.2.1:8080",
            });
        }
        if self.node.check.len() > MOST_CHECKS {
            return Err(ConfigError::Value {
                key: "[node] check",
                value: format!("{} gateways", self.node.check.len()),
                accepted: "at most 16",
            });
        }
        if let Err((key, value, accepted)) = self.board.check() {
            return Err(ConfigError::Value {
                key,
                value,
                accepted,
            });
        }
        if let Some(low) = &video.low {
            low.check(video)?;
        }
        let needed_mib = self.live_mib_needed();
        if self.store.live_mib < needed_mib {
            return Err(ConfigError::LiveRoom {
                live_mib: self.store.live_mib,
                needed_mib,
            });
        }
        if let Some(host) = &self.viewer.gateway_host
            && !is_host_name(host)
        {
            return Err(ConfigError::Value {
                key: "[viewer] gateway_host",
                value: host.clone(),
                accepted: "a host name without port, as box.example",
            });
        }
        if !(-MOST_TRIM_MS..=MOST_TRIM_MS).contains(&self.capture.av_offset_ms) {
            return Err(ConfigError::Value {
                key: "[capture] av_offset_ms",
                value: self.capture.av_offset_ms.to_string(),
                accepted: "-500 to 500",
            });
        }
        let recording = matches!(self.capture.source, Source::File | Source::Encoded);
        if recording && self.capture.file.is_none() {
            return Err(ConfigError::Value {
                key: "[capture] file",
                value: "nothing".into(),
                accepted: "the path of a recording, because source = \"file\" or \"encoded\"",
            });
        }
        Ok(())
    }
}

impl LowVideo {
    fn check(&self, video: &Video) -> Result<(), ConfigError> {
        let product = |a: u16, b: u16| u32::from(a) * u32::from(b);
        // Two pixels of rounding: 426x240 is 16:9.
        let off = product(self.width, video.height).abs_diff(product(self.height, video.width));
        let rules = [
            (
                "[video.low] width",
                u32::from(self.width),
                (64..video.width).contains(&self.width) && self.width.is_multiple_of(2),
                "even, at least 64, and less than [video] width",
            ),
            (
                "[video.low] height",
                u32::from(self.height),
                self.height > 0
                    && self.height.is_multiple_of(2)
                    && off <= 2 * u32::from(video.width.max(video.height)),
                "even, and in the shape of [video], as 640x360 or 320x180 for 1280x720",
            ),
            (
                "[video.low] bitrate_kbps",
                self.bitrate_kbps,
                (100..video.bitrate_kbps).contains(&self.bitrate_kbps),
                "at least 100, and less than [video] bitrate_kbps",
            ),
        ];
        for (key, value, ok, accepted) in rules {
            if !ok {
                return Err(ConfigError::Value {
                    key,
                    value: value.to_string(),
                    accepted,
                });
            }
        }
        Ok(())
    }
}

/// `http://host` or `https://host`, with or without a port.
fn is_http_base(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
            && (uri.authority())
                .is_some_and(|it| !it.host().is_empty() && !it.as_str().contains('@'))
    })
}

/// Labels of letters, digits and hyphens (RFC 1123 section 2.1).
fn is_host_name(text: &str) -> bool {
    text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_refused_in_one_line_or_accepted(
            section in "(\\[(capture|video|audio|hls|store|viewer|broadcast|nonsense)\\])?",
            key in "(name|width|height|fps|bitrate_kbps|segment_ms|part_ms|window_s|limit_gb|listen|resume_within_s|[a-z]{1,6})",
            value in "(-?[0-9]{1,20}|[0-9.e+-]{1,12}|\"[ -~]{0,12}\"|[^\\x00]{0,12}|true|inf|nan)",
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("podium.toml");
            std::fs::write(&path, format!("{section}\n{key} = {value}\n")).unwrap();
            if let Err(error) = Config::load(&path) {
                let said = error.to_string();
                assert!(!said.contains('\n'), "{said:?}");
            }
        }
    }

    #[test]
    fn the_board_of_a_broken_file_is_found_as_far_as_it_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podium.toml");
        let check = |toml: &str, expected: Option<(board::Kind, &Path)>| {
            std::fs::write(&path, toml).unwrap();
            let board = Config::board_of(&path);
            let found = board.as_ref().map(|it| (it.kind, it.i2c_bus.as_path()));
            assert_eq!(found, expected, "for {toml:?}");
        };
        let (linux, bus) = (board::Kind::Linux, Path::new("/dev/i2c-1"));
        let other = "[board]\nkind = \"linux\"\ni2c_bus = \"/dev/i2c-7\"\n";
        let whole = Some((linux, Path::new("/dev/i2c-7")));
        check(&format!("name = \"hall\nnonsense\n{other}"), whole);
        check(&format!("# not [board]\n{other}"), whole);
        check(&format!("{other}[viewer]\nlisten = 8080\n"), whole);
        check(&format!("{other}[viewer\nlisten = = 1\n"), whole);
        check("[board]\nkind = \"linux\"\npins = 3\n", Some((linux, bus)));
        check(&format!("{other}i2c_address = \"?\"\npins = 3\n"), whole);
        check("[board]\nkind = \"linus\"\n", None);
        check("[board]\nkind = \"sim\"\n", None);
        check("board = 3", None);
        check("", None);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(Config::board_of(&path), None);
    }

    fn check(toml: &str, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("podium.toml");
        std::fs::write(&path, toml).unwrap();
        let actual = match Config::load(&path) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error
                .to_string()
                .replace(&format!("{}", path.display()), "FILE"),
        };
        assert_eq!(actual, expected, "for {toml:?}");
    }

    #[test]
    fn what_the_operators_page_tells_to_set_is_accepted() {
        let page = include_str!("../web/console.html");
        let (_, after) = page.split_once("<code>listen = ").unwrap();
        let (value, _) = after.split_once("</code>").unwrap();
        check(&format!("[operator]\nlisten = {value}\n"), "ok");
    }

    #[test]
    fn the_least_config_of_the_design_is_accepted() {
        check(
            r#"
data_dir = "/var/lib/podium"
[capture]
source = "test"
file = "talk.mp4"
[viewer]
listen = "0.0.0.0:8080"
[operator]
listen = "127.0.0.1:8081"
[node]
listen = ["/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/0.0.0.0/tcp/4002/ws"]
[video]
width = 1280
height = 720
fps = 30
bitrate_kbps = 3000
[hls]
part_ms = 334
segment_ms = 2000
"#,
            "ok",
        );
        check("", "ok");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_what_is_accepted() {
        check(
            "\n[video]\nwidht = 1280\n",
            "FILE:3: unknown field `widht`, expected one of `width`, `height`, `fps`, `encoder`, `x264_preset`, `bitrate_kbps`, `low`",
        );
        check(
            "[video.low]\nwidth = 320\nheight = 180\n",
            "FILE:1: missing field `bitrate_kbps`",
        );
        check(
            "[video.low]\nwidth = 426\nheight = 240\nbitrate_kbps = 400\n",
            "ok",
        );
        check(
            "[video.low]\nwidth = 1280\nheight = 720\nbitrate_kbps = 400\n",
            "[video.low] width = 1280: must be even, at least 64, and less than [video] width",
        );
        check(
            "[video.low]\nwidth = 320\nheight = 240\nbitrate_kbps = 400\n",
            "[video.low] height = 240: must be even, and in the shape of [video], as 640x360 or 320x180 for 1280x720",
        );
        check(
            "[video.low]\nwidth = 320\nheight = 180\nbitrate_kbps = 3000\n",
            "[video.low] bitrate_kbps = 3000: must be at least 100, and less than [video] bitrate_kbps",
        );
        check(
            "[capture]\nsource = \"webcam\"\n",
            "FILE:2: unknown variant `webcam`, expected one of `test`, `file`, `device`, `encoded`",
        );
        check(
            "[viewer]\nlisten = \"8080\"\n",
            "FILE:2: must be an IP address and a port, like \"0.0.0.0:8080\"",
        );
        check(
            "[video]\nwidth = \"wide\"\n",
            "FILE:2: invalid type: string \"wide\", expected a whole number, at most 65535",
        );
        check(
            "[viewer]\nmax_connections = 9000\n",
            "[viewer] max_connections = 9000: must be 16 to 8192",
        );
        check("[viewer]\ngateway_host = \"box.example\"\n", "ok");
        check(
            "[viewer]\ngateway_host = \"box.example:8080\"\n",
            "[viewer] gateway_host = box.example:8080: must be a host name without port, as box.example",
        );
        check(
            "[node]\nuplink_kbps = 2000\ncheck = [\"https://gateway.example\", \"http://192.0.2.1:8080/\"]\n",
            "ok",
        );
        check(
            "[node]\nuplink_kbps = 10\n",
            "[node] uplink_kbps = 10: must be 64 to 10000000",
        );
        for wrong in [
            "gateway.example",
            "ftp://gateway.example",
            "https://gateway.example/ipfs",
        ] {
            check(
                &format!("[node]\ncheck = [\"{wrong}\"]\n"),
                &format!(
                    "[node] check = {wrong}: must be a gateway's address without a path, as https://gateway.example or http://192.0.2.1:8080"
                ),
            );
        }
        check(
            "[hls]\nsegment_ms = 9223372036854775807\n",
            "[hls] segment_ms = 9223372036854775807: must be whole seconds from 1000 to 10000, and at least part_ms",
        );
        check(
            "[store]\nlimit_mib = 16384\n",
            "FILE:2: limit_mib is two budgets now: write recordings_mib and live_mib, which together are what it was",
        );
        check(
            "[store]\nlive_mib = 10\n",
            "[store] live_mib = 10: must be 64 to 1073741824",
        );
        // Twice an hour of 3,128 kbit/s.
        check(
            "[hls]\nwindow_s = 3600\n",
            "[store] live_mib = 2048: must be at least 2685, twice what [hls] window_s takes at this bitrate",
        );
        check("[hls]\nwindow_s = 3600\n[store]\nlive_mib = 2685\n", "ok");
        check("[video]\nfps = 5\n", "[video] fps = 5: must be 9 to 60");
        check(
            "[video]\nwidth = 1281\n",
            "[video] width = 1281: must be even, 160 to 1920",
        );
        check(
            "[board]\nkind = \"linux\"\npage_line = 17\n",
            "[board] go_live_line, page_line, mode_line, tally_line = 17: must be four different lines",
        );
        check(
            "[board]\nkind = \"linux\"\nrotation = 90\n",
            "FILE:3: must be 0 or 180",
        );
        check(
            "[board]\ni2c_address = 0x78\n",
            "[board] i2c_address = 0x78: must be 0x08 to 0x77",
        );
        check(
            "[capture]\nsource = \"file\"\n",
            "[capture] file = nothing: must be the path of a recording, because source = \"file\" or \"encoded\"",
        );
    }
}
