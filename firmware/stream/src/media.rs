//! Terms that the segmenter, the playlists and the media edge share.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A track that is published as a stream of its own (RFC 8216 section 4.3.4.1). Every box makes video and audio; where there
/// are lists, they are in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rendition {
    Video,
    Audio,
    /// The same pictures as `Video`, smaller: for weak links.
    Low,
}

impl Rendition {
    pub const ALL: [Rendition; 3] = [Rendition::Video, Rendition::Audio, Rendition::Low];

    /// Name in paths: `/live/video.m3u8`, `video/0000/12.m4s`.
    pub fn name(self) -> &'static str {
        match self {
            Rendition::Video => "video",
            Rendition::Audio => "audio",
            Rendition::Low => "low",
        }
    }

    pub fn from_name(name: &str) -> Option<Rendition> {
        Rendition::ALL.into_iter().find(|r| r.name() == name)
    }

    /// Ticks per second of the track's timestamps. 90 kHz divides by all common frame rates; audio counts samples.
    pub fn timescale(self) -> u32 {
        match self {
            Rendition::Video | Rendition::Low => 90_000,
            Rendition::Audio => SAMPLE_RATE,
        }
    }
}

/// Samples per second of the programme's audio, the unit of programme time.
pub const SAMPLE_RATE: u32 = 48_000;

/// Samples in one AAC-LC frame (ISO/IEC 14496-3, 4.5.1.1).
pub const AAC_FRAME: u64 = 1024;

/// How a decoder is set up for H.264: the body of an `avcC` box (ISO/IEC 14496-15, 5.3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoConfig {
    pub avcc: Bytes,
    pub width: u16,
    pub height: u16,
}

/// How a decoder is set up for AAC: an AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioConfig {
    pub audio_specific_config: Bytes,
    pub channels: u16,
    /// Bits per second.
    pub bitrate: u32,
}

/// One encoded picture, AVC format (length-prefixed NAL units), in decoding order without reordering.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// Programme time.
    pub pts: Duration,
    pub keyframe: bool,
    pub data: Bytes,
}

/// One raw AAC frame (no ADTS header) of [`AAC_FRAME`] samples.
#[derive(Debug, Clone)]
pub struct AudioFrame {
    /// Programme time of the first sample that the decoder will play for it, priming already subtracted.
    pub pts: Duration,
    pub data: Bytes,
}

/// Length of media in the ticks of its rendition, so that sums stay exact for as long as a broadcast runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaDuration {
    pub ticks: u64,
    pub timescale: u32,
}

impl MediaDuration {
    pub fn seconds(self) -> f64 {
        self.ticks as f64 / f64::from(self.timescale)
    }

    pub fn duration(self) -> Duration {
        Duration::from_nanos(
            (u128::from(self.ticks) * 1_000_000_000 / u128::from(self.timescale)) as u64,
        )
    }
}

/// Ticks of `timescale` at `time`, rounded to the nearest.
pub fn ticks(time: Duration, timescale: u32) -> u64 {
    ((time.as_nanos() * u128::from(timescale) + 500_000_000) / 1_000_000_000) as u64
}
