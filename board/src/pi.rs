//! Buttons and tally light by the registers of a Raspberry Pi, with the crate `rppal`, which is no longer maintained: nothing
//! else may use it. It finds its chip by itself, so `gpio_chip` has no meaning here. The rig executes it as on a Pi 4 and a Pi 3, with
//! a file for the registers; what only a Pi can show is in `board/README.md`.

use std::io;
use std::time::Duration;

use rppal::gpio::{Event, Gpio, InputPin, OutputPin, Trigger};
use stream::buttons::{Button, Edge};
use tokio::sync::mpsc::Sender;

use crate::keeper::{Device, Keeper};
use crate::{Config, Faults, Level, action, linux};

/// Between two attempts to get the buttons' pins.
const RETRY: Duration = Duration::from_secs(1);

/// Starts reading the buttons into `edges`, and keeps the tally light. Each does without the other.
pub(crate) fn start(
    config: &Config,
    edges: Sender<Edge>,
    faults: &Faults,
) -> io::Result<Keeper<bool>> {
    // Before the box says that it is ready: whoever presses a button then is heard.
    let mut pins = buttons(config, &edges);
    let (ours, reports) = (config.clone(), faults.clone());
    std::thread::Builder::new()
        .name("buttons".into())
        .spawn(move || {
            while !edges.is_closed() {
                let fault = pins.as_ref().err().map(|error| refused("buttons", error));
                reports.set("buttons", fault.map(|fault| fault.to_string()));
                // rppal's own thread reads the pins as long as they are held.
                while pins.is_ok() && !edges.is_closed() {
                    std::thread::sleep(RETRY);
                }
                std::thread::sleep(RETRY);
                if edges.is_closed() {
                    return;
                }
                pins = buttons(&ours, &edges);
            }
        })?;
    let config = config.clone();
    Keeper::spawn("tally", faults, move || {
        let pin = lamp(&config).map_err(|error| refused("tally light", &error))?;
        Ok(Lamp {
            pin,
            active: config.tally_active,
        })
    })
}

fn buttons(config: &Config, edges: &Sender<Edge>) -> rppal::gpio::Result<Vec<InputPin>> {
    let lines = Button::ALL.into_iter().zip(config.button_lines());
    lines
        .map(|(button, line)| watch(config, button, line, edges.clone()))
        .collect()
}

fn refused(part: &str, error: &rppal::gpio::Error) -> io::Error {
    io::Error::other(format!(
        "no {part}: {error}; on anything but a Raspberry Pi set [board] kind = \"linux\""
    ))
}

fn pin(line: u32) -> rppal::gpio::Result<rppal::gpio::Pin> {
    let line = u8::try_from(line).map_err(|_| rppal::gpio::Error::PinNotAvailable(u8::MAX))?;
    Gpio::new()?.get(line)
}

fn watch(
    config: &Config,
    button: Button,
    line: u32,
    edges: Sender<Edge>,
) -> rppal::gpio::Result<InputPin> {
    let active = config.buttons_active;
    let mut pin = match active {
        Level::Low => pin(line)?.into_input_pullup(),
        Level::High => pin(line)?.into_input_pulldown(),
    };
    pin.set_async_interrupt(Trigger::Both, None, move |event: Event| {
        let high = event.trigger == Trigger::RisingEdge;
        // Full: the loop is stuck, and no press matters then.
        let _ = edges.try_send(Edge {
            button,
            action: action(high == (active == Level::High)),
            at: linux::instant(event.timestamp),
        });
    })?;
    Ok(pin)
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
        for (fault, part) in faults.iter().zip(["no buttons: ", "no tally light: "]) {
            let what_to_do = "on anything but a Raspberry Pi set [board] kind = \"linux\"";
            assert!(
                fault.starts_with(part) && fault.ends_with(what_to_do),
                "{faults:?}"
            );
        }
    }
}
