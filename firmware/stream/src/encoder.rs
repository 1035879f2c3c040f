//! Which encoder makes the H.264, and what it has to be told.
//!
//! The rules of `v4l2h264enc` are those of the Raspberry Pi's driver, `bcm2835-codec`: its source (commit 00d3b7d), and what
//! others have run into, each with its number at `raspberrypi/…`. Nothing here has met the hardware (`board/README.md`).

use serde::{Deserialize, Serialize};

/// An encoder, with what makes it fast or good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "element", content = "preset", rename_all = "lowercase")]
pub enum Encoder {
    /// The Raspberry Pi's hardware, up to the Pi 4.
    V4l2h264enc,
    X264enc(Preset),
}

impl Default for Encoder {
    /// Fast enough for 720p30 on every machine that the box was tried on.
    fn default() -> Encoder {
        Encoder::X264enc(Preset::Superfast)
    }
}

impl std::fmt::Display for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Encoder::V4l2h264enc => f.write_str("v4l2h264enc"),
            Encoder::X264enc(preset) => write!(f, "x264 {}", preset.name()),
        }
    }
}

/// x264's presets, fastest first. Slower ones than these gain little and cost latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    Ultrafast,
    Superfast,
    Veryfast,
    Faster,
    Fast,
    Medium,
}

impl Preset {
    pub const ALL: [Preset; 6] = [
        Preset::Ultrafast,
        Preset::Superfast,
        Preset::Veryfast,
        Preset::Faster,
        Preset::Fast,
        Preset::Medium,
    ];

    /// As x264 calls it.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Ultrafast => "ultrafast",
            Preset::Superfast => "superfast",
            Preset::Veryfast => "veryfast",
            Preset::Faster => "faster",
            Preset::Fast => "fast",
            Preset::Medium => "medium",
        }
    }
}

/// Why this encoder and not another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The configuration says so.
    Configured,
    /// Nothing is known of this machine, or it need not be.
    Default,
    /// It was tried on this machine, with the configured size and rate.
    Measured,
    /// The hardware's encoder gave nothing.
    Fallback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    #[serde(flatten)]
    pub encoder: Encoder,
    pub reason: Reason,
}

impl Default for Choice {
    fn default() -> Choice {
        Choice {
            encoder: Encoder::default(),
            reason: Reason::Default,
        }
    }
}

/// What is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Frames per second.
    pub fps: u32,
    /// kbit/s.
    pub kbps: u32,
}

/// Macroblocks a second of level 4 (Table A-1): 1080p30.
const LEVEL_4: u32 = 245_760;

impl Job {
    /// The H.264 level that is declared: 4 has room for every bitrate up to 1080p30, 4.2 for 60 pictures a second. Left to the
    /// encoder, it would follow from the bitrate at the start, and a bitrate that is raised later would break it.
    pub fn level(&self) -> &'static str {
        let side = |pixels: u16| u32::from(pixels.div_ceil(16));
        if side(self.width) * side(self.height) * self.fps <= LEVEL_4 {
            "4"
        } else {
            "4.2"
        }
    }

    /// Why the hardware is not asked for this unless the configuration insists; `None` if it may be tried.
    pub fn unfit_for_v4l2(&self) -> Option<&'static str> {
        // It hangs below (linux#4739).
        if self.fps < 9 {
            return Some("fewer than 9 pictures a second");
        }
        // Corrupt pictures at sizes that are padded, such as 1296x972 (firmware#1608).
        if !self.width.is_multiple_of(32) {
            return Some("a width that is no multiple of 32");
        }
        // Rated for 1080p30; what is above may be late (userland#678).
        if self.level() != "4" {
            return Some("more than level 4: 1080p30");
        }
        None
    }
}

/// The profile that is declared to the hardware. Constant bitrate would need another one (firmware#250). It allows B-frames, and the
/// driver makes none.
pub const V4L2_PROFILE: &str = "high";

/// What the hardware takes, kbit/s: with less it gives up on pictures (rpicam-apps#664), with the 25 Mbit/s of its own table it does
/// not start (linux#4938).
const V4L2_KBPS: std::ops::RangeInclusive<u32> = 100..=20_000;

/// Between two keyframes that nobody asked for. By default there would be one in 60 pictures.
const V4L2_GOP: i32 = 100_000;

/// The controls of the hardware's encoder in the order in which they have to be set, with the names of `v4l2-ctl -L`. The quantiser
/// is left as it is: with a least one of 20 a slide that stands still stays below its bitrate.
pub fn v4l2_controls(kbps: u32) -> [(&'static str, i32); 4] {
    [
        // Variable, within what `rate` tolerates. The mode before the bitrate, which it may reset …
        ("video_bitrate_mode", 0),
        v4l2_bitrate(kbps),
        ("h264_i_frame_period", V4L2_GOP),
        // … and before this one, which it overwrites: the driver's case for the mode falls through into it.
        ("repeat_sequence_header", 1),
    ]
}

/// The one control that may be set while it runs.
pub fn v4l2_bitrate(kbps: u32) -> (&'static str, i32) {
    let kbps = kbps.clamp(*V4L2_KBPS.start(), *V4L2_KBPS.end());
    ("video_bitrate", kbps as i32 * 1000)
}

/// The part of all cores that the encoder may take. Capture, sound, hashing and viewers need the other half at their peaks.
const SHARE: f64 = 0.5;

/// How many processors' time the encoder may take on a machine with so many.
pub fn budget(cores: usize) -> f64 {
    cores as f64 * SHARE
}

/// The slowest, and so the best, preset that the machine can afford. `costs` are seconds of processor time for a second of
/// video, in any order; presets that were not tried are not taken. The fastest is taken where none can be afforded.
pub fn affordable(costs: &[(Preset, f64)], cores: usize) -> Preset {
    let fits = |(preset, cost): &(Preset, f64)| (*cost <= budget(cores)).then_some(*preset);
    costs
        .iter()
        .filter_map(fits)
        .max()
        .unwrap_or(Preset::Ultrafast)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(width: u16, height: u16, fps: u32) -> Job {
        Job {
            width,
            height,
            fps,
            kbps: 3000,
        }
    }

    #[test]
    fn the_hardware_gets_what_it_is_rated_for() {
        let check = |width, height, fps, expected: Option<&str>| {
            let found = job(width, height, fps).unfit_for_v4l2();
            assert_eq!(found, expected, "{width}x{height} at {fps}");
        };
        check(1280, 720, 30, None);
        check(1920, 1080, 30, None);
        check(1280, 720, 60, None);
        check(640, 360, 9, None);
        let above = Some("more than level 4: 1080p30");
        check(1920, 1080, 60, above);
        check(1920, 1080, 31, above);
        check(1280, 720, 8, Some("fewer than 9 pictures a second"));
        let padded = Some("a width that is no multiple of 32");
        check(1296, 972, 30, padded);
    }

    #[test]
    fn the_level_is_never_below_4_and_the_bitrate_never_beyond_what_starts() {
        // Below 3 it hangs (linux#4906), whatever the size.
        for (width, height, fps) in [(160, 90, 9), (640, 480, 30), (1920, 1080, 30)] {
            assert_eq!(job(width, height, fps).level(), "4");
        }
        assert_eq!(v4l2_bitrate(50).1, 100_000);
        assert_eq!(v4l2_bitrate(3000).1, 3_000_000);
        assert_eq!(v4l2_bitrate(25_000).1, 20_000_000);
    }

    #[test]
    fn the_mode_comes_before_what_it_would_overwrite() {
        let names = v4l2_controls(3000).map(|(name, _)| name);
        let place = |name| names.iter().position(|it| *it == name);
        assert_eq!(place("video_bitrate_mode"), Some(0));
        assert!(place("video_bitrate_mode") < place("video_bitrate"));
        assert!(place("video_bitrate_mode") < place("repeat_sequence_header"));
    }

    #[test]
    fn the_best_preset_that_can_be_afforded_is_taken() {
        use Preset::{Faster, Superfast, Ultrafast, Veryfast};
        let costs = [
            (Ultrafast, 0.2),
            (Superfast, 0.4),
            (Veryfast, 0.9),
            (Faster, 1.6),
        ];
        for (cores, expected) in [
            (1, Superfast),
            (2, Veryfast),
            (4, Faster),
            // None fits: the fastest has to do.
            (0, Ultrafast),
        ] {
            assert_eq!(affordable(&costs, cores), expected, "{cores} cores");
        }
        assert_eq!(affordable(&[], 4), Ultrafast);
        // What was not tried is not taken.
        assert_eq!(affordable(&costs[..2], 64), Superfast);
    }
}
