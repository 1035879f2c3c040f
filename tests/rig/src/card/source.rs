//! What comes in at the HDMI socket, by the source's own time: seconds since the card was plugged in.

use std::f64::consts::TAU;
use std::fs;
use std::io;
use std::path::Path;

use super::descriptors::frame_size;
use super::{Mode, Pixels, Source};

/// How long a flash and a beep last, seconds.
const BLINK: f64 = 0.1;
const BEEP_HZ: f64 = 1000.0;
/// Left and right, of 32768: -8.7 and -14.7 dBFS. They differ, so that it is heard which is which.
const BEEP_LEVELS: [f64; 2] = [12_000.0, 6_000.0];

/// Flashes and beeps of one card. Their distances differ, and not two cards have the same, so that a row of them is found again in
/// what the box publishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blinks(pub(super) u64);

impl Blinks {
    /// When one begins: in the first half of a second, on a twentieth of it.
    pub(super) fn begin(self, number: u64) -> f64 {
        number as f64 + (mixed(self.0 << 32 | number) % 10) as f64 / 20.0
    }

    /// The one that is on.
    pub(super) fn on(self, seconds: f64) -> Option<u64> {
        let number = seconds.floor() as u64;
        let since = seconds - self.begin(number);
        (number > 0 && (0.0..BLINK).contains(&since)).then_some(number)
    }
}

/// SplitMix64's finalizer: with less mixing a row of numbers looks like itself a few seconds later.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The sound at the socket.
#[derive(Debug)]
pub(super) enum Sound {
    Beeps(Blinks),
    /// Frames of a clip in a loop: left and right.
    Clip(Vec<[i16; 2]>),
}

impl Sound {
    pub(super) fn new(source: &Source, blinks: Blinks) -> io::Result<Sound> {
        let Source::Clip { sound, .. } = source else {
            return Ok(Sound::Beeps(blinks));
        };
        let bytes = fs::read(sound)?;
        let (frames, _) = bytes.as_chunks::<4>();
        let frame = |&[l0, l1, r0, r1]: &[u8; 4]| {
            [i16::from_le_bytes([l0, l1]), i16::from_le_bytes([r0, r1])]
        };
        let frames: Vec<_> = frames.iter().map(frame).collect();
        if frames.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Sound::Clip(frames))
    }

    /// The frame at a time.
    pub(super) fn at(&self, seconds: f64) -> [i16; 2] {
        match self {
            Sound::Beeps(blinks) => {
                let beep = |level| (TAU * BEEP_HZ * seconds).sin() * level;
                BEEP_LEVELS.map(|level| blinks.on(seconds).map_or(0, |_| beep(level) as i16))
            }
            Sound::Clip(frames) => frames[(seconds * 48_000.0).round() as usize % frames.len()],
        }
    }
}

/// A clip's pictures as they go over the wire.
pub(super) fn pictures(file: &Path, mode: &Mode) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file)?;
    let pictures: Vec<_> = match mode.pixels {
        Pixels::Yuy2 | Pixels::Nv12 => {
            let size = frame_size(mode) as usize;
            bytes.chunks_exact(size).map(Vec::from).collect()
        }
        Pixels::Mjpeg => split(&bytes),
    };
    if pictures.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(pictures)
}

/// Cuts a row of JPEGs after each end-of-image marker, which stands nowhere else in what ffmpeg writes (ITU-T T.81, B.1.1.2).
fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut begin = 0;
    for end in 2..=bytes.len() {
        if bytes[end - 2..end] == [0xff, 0xd9] {
            found.push(bytes[begin..end].to_vec());
            begin = end;
        }
    }
    found
}
