//! An HDMI bridge on the board, such as a TC358743 on the camera's connector. Unlike a card on USB it has to be told what the source
//! may send (EDID), and which timings to take once the source sends (DV timings).
//!
//! Asked of `v4l2-ctl` (Debian's `v4l-utils`), the kernel developers' own program: a crate that speaks the EDID's ioctls and leaves
//! no `unsafe` to us is not to be had. What it prints is read in English, and one that hangs with its bus is ended.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use stream::edid;

use crate::graph;
use crate::program::{self, Missing, Said};

/// How the source sends its pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timings {
    pub width: u32,
    pub height: u32,
    /// Pictures a second.
    pub fps: f64,
}

/// What comes in at the socket, if it is no picture. Each says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSignal {
    #[error("no HDMI signal: switch the source on and check the cable")]
    None,
    #[error("the HDMI signal is not stable: try another cable")]
    Unstable,
    #[error("the HDMI signal is too large or too fast: set the source to 720p or 1080p30")]
    TooMuch,
    #[error("the HDMI signal is interlaced: set the source to 720p or 1080p30")]
    Interlaced,
    #[error("the HDMI bridge does not answer; restart the box")]
    Silent,
}

/// Which devices are bridges. Nobody plugs one in while the box runs, so each is asked once.
#[derive(Debug, Default)]
pub struct Bridges(Mutex<HashMap<(PathBuf, PathBuf), Option<String>>>);

impl Bridges {
    /// The chip behind a V4L2 device, in capitals; `None` where it has no DV timings, as a camera has none, or where its pictures cannot
    /// come out of this video node.
    pub fn chip(&self, device: &Path, video: &Path) -> Option<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = (device.to_owned(), video.to_owned());
        if let Some(chip) = known.get(&asked) {
            return chip.clone();
        }
        let said = v4l2_ctl(device, &["--get-dv-timings", "--info"], &[]);
        let mut chip = chip(&said?.text());
        // Who does not answer in time is asked again.
        if chip.is_some() && device != video && !graph::leads(device, video)? {
            chip = None;
        }
        known.insert(asked, chip.clone());
        chip
    }
}

/// The chip's name out of `--get-dv-timings --info`.
fn chip(text: &str) -> Option<String> {
    if text.contains("VIDIOC_G_DV_TIMINGS: failed") || !text.contains("Active width") {
        return None;
    }
    let word = |key: &str, opening: &str| {
        let line = text.lines().find(|line| line.trim().starts_with(key))?;
        let name = line.split_once(opening)?.1;
        name.split_whitespace().next()
    };
    // An input is called after what is behind it ("tc358743 10-000f"), if that is a chip and not a socket. A subdevice is no card, and
    // its entity is called so.
    let is_chip = |name: &&str| name.contains(|c: char| c.is_ascii_digit());
    let name = word("Video input", "(").filter(is_chip);
    let name = name.or_else(|| word("Card type", ": "));
    let name = name.or_else(|| word("Name", ": "));
    name.map(str::to_ascii_uppercase)
}

/// Tells the source what to send, unless it has been told: it takes a second or two to begin anew.
///
/// # Errors
/// The bridge takes none; what its driver says.
pub fn tell(device: &Path, height: u32, fps: u32) -> Result<(), String> {
    let ours = edid::edid(height, fps);
    let told = v4l2_ctl(device, &["--get-edid=pad=0,format=raw,file=-"], &[]);
    if told.is_some_and(|told| told.output == ours) {
        return Ok(());
    }
    let said = v4l2_ctl(device, &["--set-edid=pad=0,file=-,format=raw"], &ours);
    answer(said).map(drop)
}

/// What comes in now.
///
/// # Errors
/// Nothing, or nothing that can be taken.
pub fn incoming(device: &Path) -> Result<Timings, NoSignal> {
    let said = v4l2_ctl(device, &["--query-dv-timings"], &[]).ok_or(NoSignal::Silent)?;
    timings(&said.text())
}

/// Takes what comes in now.
///
/// # Errors
/// Nothing comes in, or the device streams still with other timings.
pub fn take(device: &Path) -> Result<(), String> {
    let said = v4l2_ctl(device, &["--set-dv-bt-timings", "query"], &[]);
    answer(said).map(drop)
}

/// What a program printed that was told something, or why it was not done.
pub(crate) fn answer(said: Option<Said>) -> Result<String, String> {
    match said {
        Some(said @ Said { success: true, .. }) => Ok(said.text()),
        Some(said) => Err(said.text().trim().to_owned()),
        None => Err(NoSignal::Silent.to_string()),
    }
}

/// Reads what `--query-dv-timings` prints.
fn timings(text: &str) -> Result<Timings, NoSignal> {
    // ENOLINK, ENOLCK and ERANGE (Documentation/userspace-api/media/v4l/vidioc-query-dv-timings.rst).
    for (error, signal) in [
        ("Link has been severed", NoSignal::None),
        ("No locks available", NoSignal::Unstable),
        ("Numerical result out of range", NoSignal::TooMuch),
    ] {
        if text.contains(error) {
            return Err(signal);
        }
    }
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(": "))
    };
    let number = |key| value(key)?.split(' ').next()?.parse::<u32>().ok();
    let read = || {
        let (width, height) = (number("Active width")?, number("Active height")?);
        let total = f64::from(number("Total width")?) * f64::from(number("Total height")?);
        let clock = f64::from(number("Pixelclock")?);
        let fps = clock / total;
        (width > 0 && height > 0 && fps.is_finite()).then_some(Timings { width, height, fps })
    };
    match value("Frame format") {
        Some("interlaced") => Err(NoSignal::Interlaced),
        // A chip that has lost its signal may report a picture of no size.
        _ => read().ok_or(NoSignal::None),
    }
}

/// Of `v4l2-ctl` and `media-ctl`.
pub(crate) static MISSING: Missing =
    Missing::new("no v4l2-ctl: an HDMI bridge on the board needs the package v4l-utils");

/// Runs it; `None` where it is not installed or did not come back, also the last time.
pub(crate) fn v4l2_ctl(device: &Path, arguments: &[&str], input: &[u8]) -> Option<Said> {
    let mut command = Command::new("v4l2-ctl");
    command.arg("-d").arg(device).args(arguments);
    program::run(&device.to_string_lossy(), command, input, &MISSING)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// v4l2-ctl 1.22 of vivid.
    const HD: &str = "\tActive width: 1280\n\tActive height: 720\n\tTotal width: 1650\n\tTotal height: 750\n\tFrame format: progressive\n\
        \tPolarities: +vsync +hsync\n\tPixelclock: 74250000 Hz (60.00 frames per second)\n\tHorizontal frontporch: 110\n";

    #[test]
    fn timings_and_their_absence_are_read() {
        let hd = Timings {
            width: 1280,
            height: 720,
            fps: 60.0,
        };
        assert_eq!(timings(HD), Ok(hd));
        let ntsc = timings(&HD.replace("74250000", "74175824")).expect("a picture");
        assert!((ntsc.fps - 59.94).abs() < 0.01, "{ntsc:?}");
        for (text, expected) in [
            (
                "VIDIOC_QUERY_DV_TIMINGS: failed: Link has been severed",
                NoSignal::None,
            ),
            (
                "VIDIOC_QUERY_DV_TIMINGS: failed: No locks available",
                NoSignal::Unstable,
            ),
            (
                "VIDIOC_QUERY_DV_TIMINGS: failed: Numerical result out of range",
                NoSignal::TooMuch,
            ),
            (
                &*HD.replace("progressive", "interlaced"),
                NoSignal::Interlaced,
            ),
            (&*HD.replace("1280", "0"), NoSignal::None),
            (&*HD.replace("1650", "0"), NoSignal::None),
            (&*HD.replace("1280", "4294967296"), NoSignal::None),
            ("", NoSignal::None),
        ] {
            assert_eq!(timings(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_bridge_is_called_after_its_chip() {
        let of = |info: &str| chip(&format!("{info}\n{HD}"));
        let unicam = "Driver Info:\n\tDriver name      : unicam\n\tCard type        : unicam\nVideo input : 0 (tc358743 10-000f: ok)";
        assert_eq!(of(unicam).as_deref(), Some("TC358743"));
        let subdevice = "Driver Info:\n\tDriver version : 6.12.0\nInterface Info:\n\tID : 0x03000014\nEntity Info:\n\tID : 0x00000011 (17)\n\tName : tc358743 10-000f";
        assert_eq!(of(subdevice).as_deref(), Some("TC358743"));
        let vivid =
            "\tDriver name      : vivid\n\tCard type        : vivid\nVideo input : 0 (HDMI: ok)";
        assert_eq!(of(vivid).as_deref(), Some("VIVID"));
        // A camera; a webcam's input of the same driver.
        for failed in ["No data available", "Inappropriate ioctl for device"] {
            let text = format!("{unicam}\nVIDIOC_G_DV_TIMINGS: failed: {failed}\n");
            assert_eq!(chip(&text), None);
        }
    }
}
