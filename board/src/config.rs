//! `[board]` of the configuration: which hardware the box has, and where it is wired.

use std::path::PathBuf;

use serde::Deserialize;

/// Which board it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No hardware: the panel is on the operator's page and in the terminal.
    #[default]
    Sim,
    /// Buttons, tally light and display through the kernel's GPIO and I²C. Right for every machine, a Raspberry Pi included.
    Linux,
    /// A Raspberry Pi whose pull resistors and light are set by its registers, for a kernel whose driver leaves the pulls as they are
    /// (`podium check --hardware` says so with `linux`). The buttons' edges come by the GPIO character device, as with `linux`.
    Pi,
}

/// A level of a GPIO line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Low,
    High,
}

/// The display's controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Most displays of 0.96 inch.
    Ssd1306,
    /// Most of 1.3 inch.
    Sh1106,
}

/// How the display is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u16")]
pub enum Rotation {
    /// Its pins at the top.
    Upright,
    /// Its pins at the bottom.
    UpsideDown,
}

impl TryFrom<u16> for Rotation {
    type Error = &'static str;

    fn try_from(degrees: u16) -> Result<Rotation, &'static str> {
        match degrees {
            0 => Ok(Rotation::Upright),
            180 => Ok(Rotation::UpsideDown),
            _ => Err("must be 0 or 180"),
        }
    }
}

/// Where the hardware is. Lines are numbers on the GPIO chip; on a Raspberry Pi these are the BCM numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `sim`, `linux` or `pi`. Default `sim`.
    pub kind: Kind,
    /// Beginning of the GPIO chip's label, as `gpiodetect` prints it. Default `pinctrl-`, which is the header of any Raspberry Pi.
    pub gpio_chip: String,
    /// Default 17, pin 11 of the header.
    pub go_live_line: u32,
    /// Default 27, pin 13.
    pub page_line: u32,
    /// Default 22, pin 15.
    pub mode_line: u32,
    /// Default 24, pin 18.
    pub tally_line: u32,
    /// The level of a pressed button; the other one comes from the line's own pull resistor. Default `low`: the button
    /// connects the line to ground.
    pub buttons_active: Level,
    /// The level at which the tally light shines. Default `high`.
    pub tally_active: Level,
    /// `ssd1306` or `sh1106`. Default `ssd1306`.
    pub display: Controller,
    /// Default `/dev/i2c-1`, pins 3 and 5 of the header.
    pub i2c_bus: PathBuf,
    /// 0x08 to 0x77. Default 0x3c; 0x3d is common too.
    pub i2c_address: u8,
    /// 0 or 180 degrees. Default 0.
    pub rotation: Rotation,
    /// Contrast at full brightness, 0 to 255; dimming scales it. Default 207.
    pub contrast: u8,
    /// The watchdog that restarts the machine when nothing goes out any more, `/dev/watchdog` on a Raspberry Pi. Default none: it also
    /// restarts a machine whose box was killed.
    pub watchdog: Option<PathBuf>,
    /// Where the kernel's directories are (`sys`, `run`): tests put their own there. Default `/`.
    pub root: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            kind: Kind::Sim,
            gpio_chip: "pinctrl-".into(),
            go_live_line: 17,
            page_line: 27,
            mode_line: 22,
            tally_line: 24,
            buttons_active: Level::Low,
            tally_active: Level::High,
            display: Controller::Ssd1306,
            i2c_bus: "/dev/i2c-1".into(),
            i2c_address: 0x3c,
            rotation: Rotation::Upright,
            contrast: 207,
            watchdog: None,
            root: "/".into(),
        }
    }
}

impl Config {
    /// The buttons' lines in the order of [`Button::ALL`](stream::buttons::Button::ALL).
    pub(crate) fn button_lines(&self) -> [u32; 3] {
        [self.go_live_line, self.page_line, self.mode_line]
    }

    /// What cannot be: the key and what is accepted.
    ///
    /// # Errors
    /// Two parts on one line, or an address that I²C keeps for itself.
    pub fn check(&self) -> Result<(), (&'static str, String, &'static str)> {
        let mut lines = self.button_lines().to_vec();
        lines.push(self.tally_line);
        lines.sort_unstable();
        if let Some(pair) = lines.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err((
                "[board] go_live_line, page_line, mode_line, tally_line",
                pair[0].to_string(),
                "four different lines",
            ));
        }
        if !(0x08..=0x77).contains(&self.i2c_address) {
            return Err((
                "[board] i2c_address",
                format!("{:#04x}", self.i2c_address),
                "0x08 to 0x77",
            ));
        }
        Ok(())
    }
}
