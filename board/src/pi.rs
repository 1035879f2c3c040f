//! Buttons and tally light of a Raspberry Pi with the crate `rppal`, which is no longer maintained: nothing else may use it. Pull
//! resistors and light are set by the Pi's registers, so no kernel's driver has to know of the pulls. The edges come from the GPIO
//! character device all the same, whose chip rppal finds by itself: so `gpio_chip` has no meaning here. The rig executes it as on a Pi 4 and a
//! Pi 3, with a file for the registers; what only a Pi can show is in `board/README.md`.

use std::io;

use rppal::gpio::{Error, Gpio, InputPin, OutputPin, Trigger};
use stream::buttons::{Button, Edge};
use tokio::sync::mpsc::Sender;

use crate::keeper::{Device, Keeper};
use crate::linux::{self, LOOK_UP};
use crate::{Config, Faults, Level, action};

/// Starts reading the buttons into `edges`, and keeps the tally light. Each does without the other.
pub(crate) fn start(
    config: &Config,
    edges: Sender<Edge>,
    faults: &Faults,
) -> io::Result<Keeper<bool>> {
    linux::keep_reading(config, edges, faults, Pins::request, Pins::read)?;
    let config = config.clone();
    Keeper::spawn("tally", faults, move || {
        let pin = lamp(&config).map_err(|error| {
            let why = refused(config.tally_line, &error);
            io::Error::other(format!("no tally light: {why}"))
        })?;
        Ok(Lamp {
            pin,
            active: config.tally_active,
        })
    })
}

/// What rppal says, and what to do.
fn refused(line: u32, error: &Error) -> String {
    let what_to_do = match error {
        Error::Io(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            "is another program using it?"
        }
        Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "it takes /dev/gpiomem and the Pi's /dev/gpiochip"
        }
        Error::PermissionDenied(_) => "let the box's user into the group gpio",
        _ => "on anything but a Raspberry Pi set [board] kind = \"linux\"",
    };
    format!("line {line}: {error}; {what_to_do}")
}

fn pin(line: u32) -> rppal::gpio::Result<rppal::gpio::Pin> {
    let line = u8::try_from(line).map_err(|_| Error::PinNotAvailable(u8::MAX))?;
    Gpio::new()?.get(line)
}

/// The buttons' pins, in the order of [`Button::ALL`]. rppal has a thread for each that would read them, and says nothing when it cannot
/// have a line or loses it; so they are polled.
struct Pins(Vec<InputPin>);

impl Pins {
    fn request(config: &Config) -> Result<Pins, String> {
        let mut pins = Pins(Vec::new());
        for line in config.button_lines() {
            let watched = pin(line).and_then(|pin| {
                let mut pin = match config.buttons_active {
                    Level::Low => pin.into_input_pullup(),
                    Level::High => pin.into_input_pulldown(),
                };
                pin.set_interrupt(Trigger::Both, None)?;
                Ok(pin)
            });
            pins.0.push(watched.map_err(|error| refused(line, &error))?);
        }
        Ok(pins)
    }

    /// One life of the pins. `Ok` when nobody reads the edges any more.
    fn read(config: &Config, pins: &Pins, edges: &Sender<Edge>) -> Result<(), String> {
        let gone = |error: Error| format!("the lines are gone: {error}");
        let gpio = Gpio::new().map_err(gone)?;
        let pins: Vec<&InputPin> = pins.0.iter().collect();
        while !edges.is_closed() {
            let (pin, event) = match gpio.poll_interrupts(&pins, false, Some(LOOK_UP)) {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(gone(error)),
            };
            let Some(position) = pins.iter().position(|it| *it == pin) else {
                continue;
            };
            let high = event.trigger == Trigger::RisingEdge;
            // Full: the kernel keeps the later ones. Closed: nobody reads them.
            let _ = edges.blocking_send(Edge {
                button: Button::ALL[position],
                action: action(high == (config.buttons_active == Level::High)),
                at: linux::instant(event.timestamp),
            });
        }
        Ok(())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // rppal keeps their lines otherwise, as long as the tally light has its own.
        for pin in &mut self.0 {
            let _ = pin.clear_interrupt();
        }
    }
}

fn lamp(config: &Config) -> rppal::gpio::Result<OutputPin> {
    let pin = pin(config.tally_line)?;
    Ok(match config.tally_active {
        Level::Low => pin.into_output_high(),
        Level::High => pin.into_output_low(),
    })
}

struct Lamp {
    pin: OutputPin,
    active: Level,
}

impl Device<bool> for Lamp {
    fn apply(&mut self, lit: &bool) -> io::Result<()> {
        if *lit == (self.active == Level::High) {
            self.pin.set_high();
        } else {
            self.pin.set_low();
        }
        Ok(())
    }

    fn rest(&mut self) -> io::Result<()> {
        self.apply(&false)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::{Board, Config, Kind};

    /// The one test that calls this file, and so what links it into the tests for a Pi (`make test-aarch64`).
    #[test]
    fn a_machine_that_is_no_pi_lacks_both_parts_and_says_what_to_do() {
        assert!(
            rppal::system::DeviceInfo::new().is_err(),
            "on a Raspberry Pi nothing is refused: `podium check --hardware` tells there what works"
        );
        let config = Config {
            kind: Kind::Pi,
            ..Config::default()
        };
        let mut board = Board::new(&config).expect("what is missing is no error");
        // The lamp is opened when it is first wanted.
        board.tally.set(true).expect("nobody waits for it");
        let until = Instant::now() + Duration::from_secs(30);
        while board.faults.list().len() < 2 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let faults = board.faults.list();
        assert_eq!(faults.len(), 2, "{faults:?}");
        for (fault, part) in faults
            .iter()
            .zip(["no buttons: line 17: ", "no tally light: line 24: "])
        {
            let what_to_do = "on anything but a Raspberry Pi set [board] kind = \"linux\"";
            assert!(
                fault.starts_with(part) && fault.ends_with(what_to_do),
                "{faults:?}"
            );
        }
    }
}
