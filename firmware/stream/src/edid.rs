//! What an HDMI bridge tells the source that it can take (EDID): a source sends what is preferred there, if nobody tells it otherwise.
//!
//! One block of VESA's E-EDID 1.3 and one of CTA-861. Only what all bridges can take is offered: a TC358743 on two lanes goes up to
//! 1080p50, and stereo at 48 kHz is what its sound card is opened with. `edid-decode` is the judge, in the tests.

/// Bytes of both blocks.
pub const BYTES: usize = 256;

const BLOCK: usize = 128;

/// Nobody looks at a bridge; what counts is 16 to 9.
const SIZE_CM: [u8; 2] = [48, 27];

/// A way to send pictures, as CTA-861 numbers and times them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    /// Video Identification Code.
    code: u8,
    width: u16,
    height: u16,
    fps: u16,
    /// Horizontal front porch, sync, back porch, in pixels.
    horizontal: [u16; 3],
    /// The same vertically, in lines.
    vertical: [u16; 3],
}

/// CTA-861, table "Video Format Timings".
const MODES: [Mode; 5] = [
    full(31, 50, 528),
    full(34, 30, 88),
    full(33, 25, 528),
    small(4, 60, 110),
    small(19, 50, 440),
];

/// 720p30. Its front porch does not fit in a detailed timing, so it can be offered and not preferred: 720p60 is, and every second
/// picture of it is taken.
const SLOW_720: u8 = 62;

/// 640x480 at 60, which every source of HDMI has.
const FALLBACK: u8 = 1;

const fn full(code: u8, fps: u16, front_porch: u16) -> Mode {
    Mode {
        code,
        width: 1920,
        height: 1080,
        fps,
        horizontal: [front_porch, 44, 148],
        vertical: [4, 5, 36],
    }
}

const fn small(code: u8, fps: u16, front_porch: u16) -> Mode {
    Mode {
        code,
        width: 1280,
        height: 720,
        fps,
        horizontal: [front_porch, 40, 220],
        vertical: [5, 5, 20],
    }
}

impl Mode {
    fn total(active: u16, blank: [u16; 3]) -> u32 {
        u32::from(active) + blank.iter().map(|&it| u32::from(it)).sum::<u32>()
    }

    /// Ten thousands of pixels a second.
    fn clock(&self) -> u16 {
        let pixels = Mode::total(self.width, self.horizontal)
            * Mode::total(self.height, self.vertical)
            * u32::from(self.fps);
        u16::try_from(pixels / 10_000).unwrap_or(u16::MAX)
    }

    /// A detailed timing descriptor (E-EDID 3.10.2): progressive, both syncs positive.
    fn detailed(&self) -> [u8; 18] {
        let [front, sync, _] = self.horizontal;
        let [below, lines, _] = self.vertical;
        let low = |it: u16| it as u8;
        let high = |a: u16, b: u16| (low(a >> 8) << 4) | low(b >> 8);
        let blank = self.horizontal.iter().sum();
        let dark = self.vertical.iter().sum();
        let [across, down] = SIZE_CM.map(|cm| u16::from(cm) * 10);
        let [clock_low, clock_high] = self.clock().to_le_bytes();
        [
            clock_low,
            clock_high,
            low(self.width),
            low(blank),
            high(self.width, blank),
            low(self.height),
            low(dark),
            high(self.height, dark),
            low(front),
            low(sync),
            (low(below & 0xf) << 4) | low(lines & 0xf),
            (low(front >> 8) << 6) | (low(sync >> 8) << 4),
            low(across),
            low(down),
            high(across, down),
            0,
            0,
            0x1e,
        ]
    }

    /// How far this is from what the box makes of it: pictures too small, then too slow, then uneven, then more than needed.
    fn distance(&self, height: u32, fps: u32) -> [u32; 4] {
        let (own_height, own_fps) = (u32::from(self.height), u32::from(self.fps));
        [
            height.saturating_sub(own_height),
            fps.saturating_sub(own_fps),
            u32::from(!own_fps.is_multiple_of(fps.max(1))),
            u32::from(self.width) * own_height * own_fps,
        ]
    }
}

/// The EDID of a box that makes pictures of this height and rate: it prefers the least signal from which nothing has to be made up.
pub fn edid(height: u32, fps: u32) -> [u8; BYTES] {
    let mut modes = MODES;
    // Stable: those that are as near stay in their order.
    modes.sort_by_key(|mode| mode.distance(height, fps));
    let mut edid = [0; BYTES];
    let (base, extension) = edid.split_at_mut(BLOCK);
    let base_bytes = base_block(&modes);
    base[..base_bytes.len()].copy_from_slice(&base_bytes);
    let extension_bytes = extension_block(&modes);
    extension[..extension_bytes.len()].copy_from_slice(&extension_bytes);
    for block in [base, extension] {
        let sum = block.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        block[BLOCK - 1] = sum.wrapping_neg();
    }
    edid
}

/// E-EDID 1.3, without its checksum.
fn base_block(modes: &[Mode]) -> Vec<u8> {
    let mut block = vec![0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
    // "PDM", product 1, no serial number, week unknown, 36 years after 1990.
    block.extend([0x40, 0x8d, 1, 0, 0, 0, 0, 0, 0, 36]);
    // Version 1.3; digital; gamma 2.2; RGB, sRGB, the first timing is preferred.
    block.extend([1, 3, 0x80, SIZE_CM[0], SIZE_CM[1], 120, 0x0e]);
    // The primaries and white of sRGB.
    block.extend([0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54]);
    // 640x480 at 60; no other established and no standard timings.
    block.extend([0x20, 0, 0]);
    block.extend([1; 16]);
    for mode in &modes[..2] {
        block.extend(mode.detailed());
    }
    block.extend(descriptor(0xfc, b"Podium\n"));
    // 24 to 61 Hz, 15 to 68 kHz, 150 MHz, no formula.
    block.extend(descriptor(0xfd, &[24, 61, 15, 68, 15, 0, b'\n']));
    block.push(1);
    block
}

/// A display descriptor: what it is, and its text or numbers, filled up with spaces.
fn descriptor(kind: u8, payload: &[u8]) -> [u8; 18] {
    let mut bytes = [b' '; 18];
    bytes[..5].copy_from_slice(&[0, 0, 0, kind, 0]);
    bytes[5..5 + payload.len()].copy_from_slice(payload);
    bytes
}

/// CTA-861 revision 3, without its checksum.
fn extension_block(modes: &[Mode]) -> Vec<u8> {
    const AUDIO: u8 = 1;
    const VIDEO: u8 = 2;
    const VENDOR: u8 = 3;
    const SPEAKERS: u8 = 4;
    const EXTENDED: u8 = 7;
    let block = |tag: u8, payload: &[u8]| -> Vec<u8> {
        let head = (tag << 5) | payload.len() as u8;
        [&[head], payload].concat()
    };
    let codes = modes.iter().map(|mode| mode.code);
    let codes: Vec<u8> = codes.chain([SLOW_720, FALLBACK]).collect();
    let data = [
        block(VIDEO, &codes),
        // LPCM, two channels; 48 kHz; 16 bits.
        block(AUDIO, &[0x09, 0x04, 0x01]),
        block(SPEAKERS, &[0x01, 0, 0]),
        // HDMI 1.4b: physical address 1.0.0.0, no deep colour, 165 MHz.
        block(VENDOR, &[0x03, 0x0c, 0x00, 0x10, 0x00, 0x00, 33]),
        // Video capabilities: the source says which range its RGB has, and nothing is cut off at the edges.
        block(EXTENDED, &[0, 0x4a]),
    ]
    .concat();
    let timings = 4 + data.len() as u8;
    // Underscan and basic audio; RGB alone, of which the chip makes what its bus wants; the first timing is the native one.
    let head = [0x02, 0x03, timings, 0xc1];
    let rest = modes[2..].iter().flat_map(Mode::detailed);
    head.into_iter().chain(data).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_source_is_asked_for_what_the_box_makes() {
        for ((height, fps), expected) in [
            ((1080, 30), (1080, 30)),
            ((1080, 25), (1080, 25)),
            ((1080, 50), (1080, 50)),
            // More than all bridges can take.
            ((1080, 60), (1080, 50)),
            ((720, 30), (720, 60)),
            ((720, 25), (720, 50)),
            ((720, 60), (720, 60)),
            // Shrunk rather than blown up; every second picture rather than judder.
            ((900, 30), (1080, 30)),
            ((360, 15), (720, 60)),
            ((180, 10), (720, 50)),
            ((720, 24), (720, 50)),
            ((2160, 0), (1080, 25)),
        ] {
            let edid = edid(height, fps);
            let timing = &edid[54..72];
            let lines = u32::from(timing[5]) | (u32::from(timing[7] >> 4) << 8);
            let first = MODES.iter().find(|mode| mode.detailed() == timing);
            let first = first.expect("one of ours");
            assert_eq!(lines, expected.0, "{height} {fps}");
            assert_eq!(u32::from(first.fps), expected.1, "{height} {fps}");
        }
    }

    /// What `edid-decode` says; `None` where it is not installed.
    fn judged(edid: &[u8]) -> Option<String> {
        let judge = Command::new("edid-decode")
            .args(["--check", "--skip-hex-dump"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut judge) = judge else {
            assert!(
                std::env::var_os("PODIUM_NO_SKIP").is_none(),
                "edid-decode is missing: run `make deps-test`"
            );
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("SKIPPED: edid-decode is missing; run `make deps-test`");
            }
            return None;
        };
        judge.stdin.take()?.write_all(edid).ok()?;
        let output = judge.wait_with_output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn another_reads_it_and_finds_no_fault() {
        for (height, fps) in [(1080, 30), (1080, 50), (720, 25), (720, 60), (360, 15)] {
            let Some(said) = judged(&edid(height, fps)) else {
                return;
            };
            assert!(said.contains("EDID conformity: PASS"), "{said}");
            assert!(!said.contains("Warnings:"), "{said}");
        }
    }
}
