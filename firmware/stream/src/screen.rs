//! The panel: what 128×64 pixels say about a [`Status`].
//!
//! [`draw`] is a pure function of the status, of the [`View`] and of the time; blinking, the moving meters and the
//! burn-in care come out of these. A volunteer reads it at arm's length, so the order of importance is the order of size:
//! the state and the time on air, then what to do, then the sound, then the rest.
//!
//! OLEDs age where they are lit. The picture is therefore laid out on 126×62 pixels, two pixels less than the glass in each
//! direction, and walks over the nine positions that this leaves; and its contrast falls while the box is idle.
//!
//! Invariant: nothing is drawn outside these, whatever the status says.

mod details;
mod frame;
mod hardware;
mod main;
mod meters;
mod notice;
mod sync;
mod text;
mod watch;

use std::{convert::Infallible, time::Duration};

use embedded_graphics::{
    draw_target::DrawTargetExt,
    geometry::{Point, Size},
    pixelcolor::BinaryColor,
    prelude::DrawTarget,
};

use crate::status::{Mode, Page, State, Status, Tally};

pub use frame::{Frame, HEIGHT, WIDTH};
pub use meters::{MeterReading, Meters};

/// What the pages draw on.
trait Canvas: DrawTarget<Color = BinaryColor, Error = Infallible> {}
impl<D: DrawTarget<Color = BinaryColor, Error = Infallible>> Canvas for D {}

/// Area of the picture in pixels; the rest of the glass is for moving it about.
const LAYOUT: Size = Size::new(WIDTH - 2, HEIGHT - 2);

/// How long the picture stays in one place.
const SHIFT_EVERY: Duration = Duration::from_secs(60);

/// Half a period of everything that blinks.
const BLINK: Duration = Duration::from_millis(500);

/// Contrasts, as in command 81h of the SSD1306 (datasheet, 10.1.7): 0 is dim, not dark.
mod contrast {
    pub(super) const FULL: u8 = 0xcf;
    pub(super) const DIM: u8 = 0x40;
    pub(super) const NIGHT: u8 = 0x01;
}

/// Without a button for this long an idle box is dimmed, and a live one no longer shines at its brightest.
const DIM_AFTER: Duration = Duration::from_secs(2 * 60);

/// Without a button for this long an idle box is as dim as it gets.
const NIGHT_AFTER: Duration = Duration::from_secs(10 * 60);

/// A frame and how brightly to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub frame: Frame,
    /// 0 to 255, as in command 81h of the SSD1306.
    pub contrast: u8,
}

impl Default for Picture {
    /// Dark: what the panel shows before the first picture.
    fn default() -> Picture {
        Picture {
            frame: Frame::default(),
            contrast: contrast::FULL,
        }
    }
}

/// What the panel needs beside the status.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct View {
    /// Left and right, from [`Meters::read`].
    pub meters: [MeterReading; 2],
    /// How much of holding GO LIVE is done, 0 to 1; from [`Gestures::hold_progress`](crate::buttons::Gestures::hold_progress).
    /// Shown where holding means to stop.
    pub hold: Option<f32>,
    /// Since the last touch of any button, or since the start.
    pub since_button: Duration,
}

/// The picture of a moment. `now` is monotonic, since the start of the box.
pub fn draw(status: &Status, view: &View, now: Duration) -> Picture {
    let mut frame = Frame::default();
    paint(&mut frame.translated(shift(now)), status, view, now);
    Picture {
        frame,
        contrast: brightness(status, view),
    }
}

/// Before the box has a status: it starts.
pub fn starting() -> Picture {
    noticed("Starting", "")
}

/// Why it cannot, in one line of text, of which the first hundred characters are shown.
pub fn refused(why: &str) -> Picture {
    noticed("Cannot start", why)
}

fn noticed(state: &str, why: &str) -> Picture {
    let mut picture = Picture::default();
    notice::paint(&mut picture.frame, state, why);
    picture
}

/// All pixels lit or none, for a person who checks a display.
pub fn test_picture(lit: bool) -> Picture {
    let mut picture = Picture::default();
    if lit {
        text::fill(
            &mut picture.frame,
            (0, 0),
            (WIDTH as i32, HEIGHT as i32),
            BinaryColor::On,
        );
    }
    picture
}

/// Whether the tally light is lit at a moment; it blinks in the rhythm of the screen.
pub fn tally_lit(tally: Tally, now: Duration) -> bool {
    match tally {
        Tally::Off => false,
        Tally::Blinking => blink(now),
        Tally::On => true,
    }
}

fn paint<C: Canvas>(canvas: &mut C, status: &Status, view: &View, now: Duration) {
    match status.page {
        Page::Main => main::paint(canvas, status, view, now),
        Page::Watch => watch::paint(canvas, status, now),
        Page::Details => details::paint(canvas, status, now),
        Page::Sync => sync::paint(canvas, status, now),
        Page::Hardware => hardware::paint(canvas, status, now),
    }
    if let Some(progress) = view.hold
        && can_stop(&status.state)
    {
        main::paint_hold(canvas, progress);
    }
}

/// Whether holding GO LIVE ends something.
fn can_stop(state: &State) -> bool {
    matches!(
        state,
        State::Starting | State::Live | State::Retrying { .. }
    )
}

fn blink(now: Duration) -> bool {
    (now.as_millis() / BLINK.as_millis()).is_multiple_of(2)
}

/// Where the layout's origin is: a walk over all nine places in which each step is one pixel.
fn shift(now: Duration) -> Point {
    const WALK: [(i32, i32); 9] = [
        (1, 1),
        (2, 1),
        (2, 2),
        (1, 2),
        (0, 2),
        (0, 1),
        (0, 0),
        (1, 0),
        (2, 0),
    ];
    // There and back, so that the last step is one pixel as well.
    let step = (now.as_secs() / SHIFT_EVERY.as_secs()) % (2 * WALK.len() as u64 - 2);
    let step = step as usize;
    let (x, y) = WALK[step.min(2 * WALK.len() - 2 - step)];
    Point::new(x, y)
}

fn brightness(status: &Status, view: &View) -> u8 {
    let idle = status.state == State::Idle;
    match view.since_button {
        since if since < DIM_AFTER => contrast::FULL,
        since if idle && since >= NIGHT_AFTER => contrast::NIGHT,
        _ if idle => contrast::DIM,
        _ => contrast::FULL,
    }
}

/// The state in one word, as a person reads it.
fn word(state: &State) -> &'static str {
    match state {
        State::Idle => "IDLE",
        State::Starting => "STARTING",
        State::Live => "LIVE",
        State::Retrying { attempt: 0, .. } => "WAITING",
        State::Retrying { .. } => "RETRYING",
        State::Stopping => "STOPPING",
    }
}

/// What is published, in a word; the MODE button will choose it.
fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Stream => "stream",
    }
}

/// Time on air, h:mm:ss.
fn clock(ms: u64) -> String {
    let secs = ms / 1000;
    let hours = (secs / 3600).min(9999);
    format!("{hours}:{:02}:{:02}", secs / 60 % 60, secs % 60)
}

/// An address as a person types it: without scheme and without the last slash.
fn typed(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.strip_suffix('/').unwrap_or(rest)
}

#[cfg(test)]
mod tests;
