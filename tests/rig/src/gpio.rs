//! A GPIO chip of the kernel's `gpio-sim`, put up through configfs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gpiocdev::Request;

/// Label of the chip, as on a Raspberry Pi 3.
pub const LABEL: &str = "pinctrl-bcm2835";
/// Lines of that chip.
const LINES: u32 = 54;

/// The chip, with its lines' controls in sysfs.
#[derive(Debug)]
pub struct Chip {
    lines: PathBuf,
    device: PathBuf,
    held: BTreeMap<u32, Request>,
}

impl Chip {
    /// Puts the chip up; configfs must be mounted.
    pub fn new() -> io::Result<Chip> {
        let device = Path::new("/sys/kernel/config/gpio-sim/pi");
        let bank = device.join("bank0");
        fs::create_dir_all(&bank)?;
        fs::write(bank.join("num_lines"), LINES.to_string())?;
        fs::write(bank.join("label"), LABEL)?;
        fs::write(device.join("live"), "1")?;
        let name = |path: PathBuf| fs::read_to_string(path).map(|name| name.trim().to_owned());
        let chip = name(bank.join("chip_name"))?;
        let lines = Path::new("/sys/devices/platform")
            .join(name(device.join("dev_name"))?)
            .join(&chip);
        Ok(Chip {
            lines,
            device: Path::new("/dev").join(chip),
            held: BTreeMap::new(),
        })
    }

    /// Holds these lines as another program does, and lets go of all others.
    pub fn hold(&mut self, lines: &[u32]) -> io::Result<()> {
        self.held.retain(|line, _| lines.contains(line));
        for &line in lines {
            if self.held.contains_key(&line) {
                continue;
            }
            let request = Request::builder()
                .on_chip(&self.device)
                .with_consumer("another program")
                .with_line(line)
                .as_input()
                .request()
                .map_err(io::Error::other)?;
            self.held.insert(line, request);
        }
        Ok(())
    }

    /// What is at a line: a button pulls it one way, and the resistor the other.
    pub fn pull(&self, line: u32, high: bool) -> io::Result<()> {
        let pull = if high { "pull-up" } else { "pull-down" };
        fs::write(self.lines.join(format!("sim_gpio{line}/pull")), pull)
    }

    /// Level of a line, as a lamp on it shows.
    pub fn level(&self, line: u32) -> io::Result<bool> {
        let value = fs::read_to_string(self.lines.join(format!("sim_gpio{line}/value")))?;
        Ok(value.trim() == "1")
    }
}
