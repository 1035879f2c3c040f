//! The box's own hardware: display, tally light and buttons. The only place that knows pins, buses and sysfs.
//!
//! A *board* is one module with one type for each trait. [`sim`] is an in-memory picture and scripted buttons, shown in the
//! terminal and on the operator's page. [`linux`](Kind::Linux) is any board with the kernel's GPIO and I²C: a Raspberry Pi, a
//! laptop with a USB bridge, and the kernel's own simulated chips, on which the tests run it. [`pi`](Kind::Pi) sets a
//! Raspberry Pi's pull resistors and light by its registers and shares everything else with `linux`.
//!
//! A board decides nothing. It shows the picture that [`stream::screen`] has drawn, and hands over raw edges, bounces
//! included, to [`stream::buttons`].
//!
//! Hardware hangs, is missing and comes back. So nothing here makes its caller wait: each device is kept at the latest of
//! what is wanted by a thread of its own (`keeper`), and what does not work is told by [`Faults`].

pub mod bridge;
pub mod cards;
pub mod chosen;
mod config;
mod faults;
pub mod graph;
mod keeper;
mod linux;
pub mod machine;
pub mod mixer;
mod oled;
mod pi;
pub mod png;
mod program;
pub mod sim;
pub mod switches;
pub mod watchdog;

use std::io;

use futures::Stream;
use futures::stream::{StreamExt as _, select};
use stream::{
    buttons::{Action, Edge},
    screen::Picture,
};
use tokio::sync::mpsc;

pub use config::{Config, Controller, Kind, Level, Rotation};
pub use faults::Faults;
pub use linux::at_rest;
use watchdog::Watchdog;

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

/// The board that the configuration names, put up.
pub struct Board {
    pub display: Box<dyn Display>,
    pub tally: Box<dyn Tally>,
    pub buttons: Box<dyn Buttons>,
    /// The same box on the operator's page and in the terminal: it shows what the hardware shows, and its buttons work too.
    pub front: sim::Front,
    /// What of the hardware does not work at the moment.
    pub faults: Faults,
    /// Where one is configured.
    pub watchdog: Option<Watchdog>,
    /// There is nothing of it but `front`.
    pub simulated: bool,
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Board")
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// Edges of real buttons that may wait for the firmware: a bounce has dozens.
const WAITING_EDGES: usize = 256;

impl Board {
    /// Puts up the board. Hardware that is missing is a fault, not an error: it is looked for until it comes.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(config: &Config) -> io::Result<Board> {
        let sim = sim::Sim::new();
        let faults = Faults::default();
        let watchdog = (config.watchdog.as_deref())
            .map(|path| Watchdog::start(path, &faults))
            .transpose()?;
        if config.kind == Kind::Sim {
            return Ok(Board {
                display: Box::new(sim.display),
                tally: Box::new(sim.tally),
                buttons: Box::new(sim.buttons),
                front: sim.front,
                faults,
                watchdog,
                simulated: true,
            });
        }
        let (edges, pressed) = mpsc::channel(WAITING_EDGES);
        let tally = match config.kind {
            Kind::Pi => pi::start(config, edges, &faults)?,
            Kind::Sim | Kind::Linux => linux::start(config, edges, &faults)?,
        };
        let display = oled::keep(config, &faults)?;
        let pressed = futures::stream::unfold(pressed, async |mut edges| {
            Some((edges.recv().await?, edges))
        });
        Ok(Board {
            display: Box::new(Both(sim.display, display)),
            tally: Box::new(Both(sim.tally, tally)),
            buttons: Box::new(select(sim.buttons, pressed.boxed())),
            front: sim.front,
            faults,
            watchdog,
            simulated: false,
        })
    }
}

/// A simulated part and the real one beside it.
struct Both<S, R>(S, R);

impl<S: Display> Display for Both<S, keeper::Keeper<Picture>> {
    fn show(&mut self, picture: &Picture) -> io::Result<()> {
        self.1.want(picture);
        self.0.show(picture)
    }
}

impl<S: Tally> Tally for Both<S, keeper::Keeper<bool>> {
    fn set(&mut self, lit: bool) -> io::Result<()> {
        self.1.want(&lit);
        self.0.set(lit)
    }
}

/// What a level of a button's line means.
fn action(active: bool) -> Action {
    if active {
        Action::Press
    } else {
        Action::Release
    }
}
