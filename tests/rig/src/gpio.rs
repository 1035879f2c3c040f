//! A GPIO chip of the kernel's `gpio-sim`, put up through configfs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Label of the chip, as on a Raspberry Pi 3.
pub const LABEL: &str = "pinctrl-bcm2835";
/// Lines of that chip.
const LINES: u32 = 54;

/// The chip, with its lines' controls in sysfs.
#[derive(Debug)]
pub struct Chip {
    lines: PathBuf,
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
        let lines = Path::new("/sys/devices/platform")
            .join(name(device.join("dev_name"))?)
            .join(name(bank.join("chip_name"))?);
        Ok(Chip { lines })
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
