//! Buttons and tally light on the kernel's GPIO character device.
//!
//! The chip is found by its label: numbers of chips change with the order in which drivers start, and a USB bridge adds one.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use gpiocdev::Request;
use gpiocdev::line::{Bias, EdgeDetection, EdgeEvent, EdgeKind, EventClock, Value};
use rustix::time::{ClockId, clock_gettime};
use stream::buttons::{Button, Edge};
use tokio::sync::mpsc::Sender;

use crate::keeper::{Device, Keeper};
use crate::{Config, Faults, Level, action};

/// Between two attempts to get the buttons' lines.
const RETRY: Duration = Duration::from_secs(1);

/// How often the thread looks whether anybody still reads the buttons.
pub(crate) const LOOK_UP: Duration = Duration::from_millis(500);

/// Edges that the kernel keeps. Beyond that it drops the oldest (`linereq_put_event` in `gpiolib-cdev.c`), so how a line is in the end is
/// always told: a lost release would look like a hold.
const KERNEL_EDGES: u32 = 512;

/// How often and how soon after each other [`at_rest`] looks.
const LOOKS: u32 = 25;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Starts reading the buttons into `edges`, and keeps the tally light.
pub(crate) fn start(
    config: &Config,
    edges: Sender<Edge>,
    faults: &Faults,
) -> io::Result<Keeper<bool>> {
    keep_reading(config, edges, faults, request, read)?;
    let config = config.clone();
    Keeper::spawn("tally", faults, move || {
        Lamp::open(&config).map_err(|error| io::Error::other(format!("no tally light: {error}")))
    })
}

/// Reads the buttons on a thread of its own, and requests their lines again when they are gone. The first time before it returns, and so
/// before the box says that it is ready: whoever presses a button then is heard.
pub(crate) fn keep_reading<L: Send + 'static>(
    config: &Config,
    edges: Sender<Edge>,
    faults: &Faults,
    request: impl Fn(&Config) -> Result<L, String> + Send + 'static,
    read: impl Fn(&Config, &L, &Sender<Edge>) -> Result<(), String> + Send + 'static,
) -> io::Result<()> {
    let mut lines = request(config);
    let (config, faults) = (config.clone(), faults.clone());
    let thread = std::thread::Builder::new().name("buttons".into());
    thread.spawn(move || {
        let report = |why: Option<&String>| {
            faults.set("buttons", why.map(|why| format!("no buttons: {why}")));
        };
        while !edges.is_closed() {
            report(lines.as_ref().err());
            match lines.and_then(|lines| read(&config, &lines, &edges)) {
                Ok(()) => return,
                Err(why) => report(Some(&why)),
            }
            std::thread::sleep(RETRY);
            lines = request(&config);
        }
    })?;
    Ok(())
}

/// The chip whose label begins as the configuration says.
fn chip(config: &Config) -> Result<PathBuf, String> {
    let label = &config.gpio_chip;
    let labelled = |path: &PathBuf| {
        let info = gpiocdev::Chip::from_path(path).and_then(|chip| chip.info());
        info.is_ok_and(|info| info.label.starts_with(label.as_str()))
    };
    let chips = gpiocdev::chip::chips().unwrap_or_default();
    chips.into_iter().find(labelled).ok_or_else(|| {
        format!("no GPIO chip's label begins with {label:?}; gpiodetect lists them, set [board] gpio_chip")
    })
}

/// The buttons' lines.
fn request(config: &Config) -> Result<Request, String> {
    let lines = config.button_lines();
    let mut builder = Request::builder();
    builder
        .on_chip(chip(config)?)
        .with_consumer("podium buttons")
        .with_lines(&lines)
        .as_input();
    match config.buttons_active {
        Level::Low => builder.as_active_low().with_bias(Bias::PullUp),
        Level::High => builder.as_active_high().with_bias(Bias::PullDown),
    };
    builder
        .with_edge_detection(EdgeDetection::BothEdges)
        .with_event_clock(EventClock::Monotonic)
        .with_kernel_event_buffer_size(KERNEL_EDGES)
        .request()
        .map_err(|error| format!("lines {lines:?}: {error}; is another program using them?"))
}

/// Whether the buttons' lines are at rest while nobody presses. What the kernel says of a pull resistor is what it was asked for, also
/// where the chip has none, so the levels are looked at, for as long as a line that floats may stay where it was.
///
/// # Errors
/// What is wrong and what to do, in one line.
pub fn at_rest(config: &Config) -> Result<(), String> {
    let request = request(config)?;
    for _ in 0..LOOKS {
        std::thread::sleep(BETWEEN_LOOKS);
        for line in config.button_lines() {
            let level = request.value(line).map_err(|error| error.to_string())?;
            if level == Value::Active {
                return Err(format!(
                    "line {line} is at the level of a pressed button: let go of it; if nobody presses, put a resistor of 10 kilo-ohms there"
                ));
            }
        }
    }
    Ok(())
}

/// One life of the buttons' lines. `Ok` when nobody reads the edges any more.
fn read(config: &Config, request: &Request, edges: &Sender<Edge>) -> Result<(), String> {
    let lines = config.button_lines();
    let gone = |error: gpiocdev::Error| format!("the lines are gone: {error}");
    while !edges.is_closed() {
        if !request.wait_edge_event(LOOK_UP).map_err(gone)? {
            continue;
        }
        let event = request.read_edge_event().map_err(gone)?;
        if let Some(edge) = edge(&lines, &event) {
            // Full: the kernel keeps the later ones. Closed: nobody reads them.
            let _ = edges.blocking_send(edge);
        }
    }
    Ok(())
}

fn edge(lines: &[u32; 3], event: &EdgeEvent) -> Option<Edge> {
    let position = lines.iter().position(|&line| line == event.offset)?;
    Some(Edge {
        button: Button::ALL[position],
        // The kernel has turned the levels: rising is from released to pressed.
        action: action(event.kind == EdgeKind::Rising),
        at: instant(Duration::from_nanos(event.timestamp_ns)),
    })
}

/// The instant of a moment of the kernel's monotonic clock, which is [`Instant`]'s own.
pub(crate) fn instant(moment: Duration) -> Instant {
    let now = clock_gettime(ClockId::Monotonic);
    let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32);
    let at = Instant::now();
    at.checked_sub(now.saturating_sub(moment)).unwrap_or(at)
}

struct Lamp(Request);

impl Lamp {
    fn open(config: &Config) -> Result<Lamp, String> {
        let line = config.tally_line;
        let mut builder = Request::builder();
        builder
            .on_chip(chip(config)?)
            .with_consumer("podium tally")
            .with_line(line)
            .as_output(Value::Inactive);
        match config.tally_active {
            Level::Low => builder.as_active_low(),
            Level::High => builder.as_active_high(),
        };
        let request = builder
            .request()
            .map_err(|error| format!("line {line}: {error}; is another program using it?"))?;
        Ok(Lamp(request))
    }
}

impl Device<bool> for Lamp {
    fn apply(&mut self, lit: &bool) -> io::Result<()> {
        self.0
            .set_lone_value(Value::from(*lit))
            .map_err(|error| io::Error::other(format!("the tally light's line is gone: {error}")))
    }

    fn rest(&mut self) -> io::Result<()> {
        self.apply(&false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{Board, Config, Kind};

    #[test]
    fn a_chip_that_is_not_there_is_named_for_both_parts() {
        let config = Config {
            kind: Kind::Linux,
            gpio_chip: "no-such-chip".into(),
            ..Config::default()
        };
        let mut board = Board::new(&config).expect("what is missing is no error");
        // The lamp is opened when it is first wanted.
        board.tally.set(true).expect("nobody waits for it");
        let until = Instant::now() + Duration::from_secs(30);
        while board.faults.list().len() < 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let why = "no GPIO chip's label begins with \"no-such-chip\"; gpiodetect lists them, set [board] gpio_chip";
        assert_eq!(
            board.faults.list(),
            ["no buttons", "no tally light"].map(|part| format!("{part}: {why}"))
        );
    }
}
