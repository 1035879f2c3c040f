//! The box's own hardware: display, tally light and buttons. The only place that knows pins, buses and sysfs.
//!
//! A *board* is one module with one type for each trait. There is one so far, [`sim`]: an in-memory picture and scripted
//! buttons, shown in the terminal and on the operator's page. The Raspberry Pi (`pi`) and every other board with the
//! kernel's GPIO and I²C (`linux`) follow as modules beside it, behind the same traits.
//!
//! A board decides nothing. It shows the picture that [`stream::screen`] has drawn, and hands over raw edges, bounces
//! included, to [`stream::buttons`].

pub mod png;
pub mod sim;

use std::io;

use futures::Stream;
use stream::{buttons::Edge, screen::Picture};

/// The panel's picture, 128×64 pixels. A seam for the tests and for the boards.
pub trait Display: Send {
    /// Shows a picture until the next one. An error means that the glass may show anything; the caller goes on without.
    fn show(&mut self, picture: &Picture) -> io::Result<()>;
}

/// The tally light: on while the box is on air. Blinking is the caller's, so that it keeps the rhythm of the screen.
pub trait Tally: Send {
    fn set(&mut self, lit: bool) -> io::Result<()>;
}

/// Raw edges of the buttons, in the order of their times. The stream ends when the buttons are gone.
pub trait Buttons: Stream<Item = Edge> + Send + Unpin {}
impl<S: Stream<Item = Edge> + Send + Unpin> Buttons for S {}
