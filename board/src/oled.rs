//! The display: SSD1306 or SH1106 on I²C.
//!
//! Both controllers keep the picture in RAM of their own, 8 pages of 8 rows. The SSD1306 has exactly the glass's 128 columns
//! and is driven by the crate of that name; the SH1106 has 132, of which the glass shows 2 to 129, and no horizontal
//! addressing, so each page is addressed (SH1106 datasheet, "Page Address Setting").
//!
//! A display that has lost its power for a moment acknowledges everything and stays dark until it is set up, so that is done again and
//! again: the settings that it has do nothing, and it is not switched off for them, which would be seen.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

use embedded_hal::i2c::I2c;
use linux_embedded_hal::I2cdev;
use ssd1306::command::{AddrMode, Command, Page, VcomhLevel};
use ssd1306::prelude::{DisplayRotation, DisplaySize128x64};
use ssd1306::{I2CDisplayInterface, Ssd1306};
use stream::screen::{Picture, WIDTH};

use crate::keeper::{Device, Keeper};
use crate::{Config, Controller, Faults, Rotation};

/// So often it is set up.
const AGAIN: Duration = Duration::from_secs(5);

/// Opens the display whenever it is needed and keeps it at the latest picture.
pub(crate) fn keep(config: &Config, faults: &Faults) -> io::Result<Keeper<Picture>> {
    let config = config.clone();
    Keeper::spawn("display", faults, move || {
        let bus = config.i2c_bus.display();
        let fails = |error: io::Error| {
            io::Error::other(format!(
                "no display: {bus}: {error}; switch I2C on, or set [board] i2c_bus"
            ))
        };
        // A second box on this machine would draw into the picture of the first, and put its display out when it ends.
        let lock = File::open(&config.i2c_bus).map_err(fails)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                io::Error::other(format!("no display: another podium has {bus}; stop it"))
            }
            TryLockError::Error(error) => fails(error),
        })?;
        let i2c = I2cdev::new(&config.i2c_bus).map_err(|error| fails(error.into()))?;
        Ok(Oled {
            _lock: Some(lock),
            ..Oled::new(i2c, &config)
        })
    })
}

/// A display, not yet set up: the first picture does that.
struct Oled<I> {
    i2c: I,
    address: u8,
    controller: Controller,
    rotation: Rotation,
    set_up: Option<Instant>,
    again: Duration,
    /// Contrast at full brightness.
    contrast: u8,
    /// For people: where it is.
    place: String,
    /// Of the bus, for as long as it is used.
    _lock: Option<File>,
}

impl<I: I2c> Oled<I> {
    fn new(i2c: I, config: &Config) -> Oled<I> {
        Oled {
            i2c,
            address: config.i2c_address,
            controller: config.display,
            rotation: config.rotation,
            set_up: None,
            again: AGAIN,
            contrast: config.contrast,
            place: format!(
                "{:#04x} on {}",
                config.i2c_address,
                config.i2c_bus.display()
            ),
            _lock: None,
        }
    }

    /// The picture's contrast within what the display is allowed.
    fn contrast(&self, picture: &Picture) -> u8 {
        let full = u32::from(Picture::default().contrast);
        let share = u32::from(picture.contrast).min(full);
        (u32::from(self.contrast) * share / full) as u8
    }

    fn draw(&mut self, picture: &Picture) -> Result<(), Silent> {
        let contrast = self.contrast(picture);
        let bytes = picture.frame.as_bytes();
        let set_up = self.set_up.is_some_and(|at| at.elapsed() < self.again);
        match self.controller {
            Controller::Ssd1306 => {
                if !set_up {
                    self.set_up_ssd1306()?;
                }
                self.draw_ssd1306(bytes, contrast)?;
            }
            Controller::Sh1106 => {
                if !set_up {
                    self.set_up_sh1106()?;
                }
                self.draw_sh1106(bytes, contrast)?;
            }
        }
        if !set_up {
            self.set_up = Some(Instant::now());
        }
        Ok(())
    }

    /// As the crate does it at the beginning, but for switching it off.
    fn set_up_ssd1306(&mut self) -> Result<(), Silent> {
        let upright = self.rotation == Rotation::Upright;
        self.ssd1306(&[
            Command::DisplayClockDiv(8, 0),
            Command::Multiplex(63),
            Command::DisplayOffset(0),
            Command::StartLine(0),
            Command::ChargePump(true),
            Command::AddressMode(AddrMode::Horizontal),
            Command::ComPinConfig(true, false),
            Command::SegmentRemap(upright),
            Command::ReverseComDir(upright),
            Command::PreChargePeriod(1, 2),
            Command::VcomhDeselect(VcomhLevel::Auto),
            Command::AllOn(false),
            Command::Invert(false),
            Command::EnableScroll(false),
        ])
    }

    fn draw_ssd1306(&mut self, bytes: &[u8], contrast: u8) -> Result<(), Silent> {
        self.ssd1306(&[
            Command::ColumnAddress(0, WIDTH as u8 - 1),
            Command::PageAddress(Page::Page0, Page::Page7),
        ])?;
        let interface = I2CDisplayInterface::new_custom_address(&mut self.i2c, self.address);
        let mut driver = Ssd1306::new(interface, DisplaySize128x64, DisplayRotation::Rotate0);
        driver.draw(bytes).map_err(Silent::of)?;
        self.ssd1306(&[Command::Contrast(contrast), Command::DisplayOn(true)])
    }

    fn ssd1306(&mut self, commands: &[Command]) -> Result<(), Silent> {
        let mut interface = I2CDisplayInterface::new_custom_address(&mut self.i2c, self.address);
        (commands.iter()).try_for_each(|command| command.send(&mut interface).map_err(Silent::of))
    }

    fn set_up_sh1106(&mut self) -> Result<(), Silent> {
        let (segments, rows) = match self.rotation {
            Rotation::Upright => (0xa1, 0xc8),
            Rotation::UpsideDown => (0xa0, 0xc0),
        };
        // SH1106 datasheet, "Command table": clock, 64 rows, no offset, first line 0, directions, pins, pre-charge,
        // VCOMH, follow the RAM, not inverted. It is switched on with the first picture.
        self.commands(&[
            0xd5, 0x80, 0xa8, 0x3f, 0xd3, 0x00, 0x40, segments, rows, 0xda, 0x12, 0xd9, 0x22, 0xdb,
            0x35, 0xa4, 0xa6,
        ])?;
        // It is on where there was no power, too, and may be told only in the dark.
        match self.set_up {
            None => self.commands(&[0xae, 0xad, 0x8b]),
            Some(_) => Ok(()),
        }
    }

    fn draw_sh1106(&mut self, bytes: &[u8], contrast: u8) -> Result<(), Silent> {
        for (page, columns) in bytes.chunks(WIDTH as usize).enumerate() {
            let first = SH1106_FIRST_COLUMN;
            self.commands(&[0xb0 | page as u8, first & 0x0f, 0x10 | first >> 4])?;
            let mut write = vec![0x40];
            write.extend_from_slice(columns);
            self.write(&write)?;
        }
        self.commands(&[0x81, contrast, 0xaf])
    }

    fn commands(&mut self, commands: &[u8]) -> Result<(), Silent> {
        let mut write = vec![0x00];
        write.extend_from_slice(commands);
        self.write(&write)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Silent> {
        self.i2c.write(self.address, bytes).map_err(Silent::of)
    }
}

/// Column of the SH1106's RAM that the glass shows first.
const SH1106_FIRST_COLUMN: u8 = 2;

/// The bus reported an error. Which one differs between drivers for one and the same missing display (ENXIO behind a USB
/// bridge, EREMOTEIO on a Raspberry Pi), so it is not told.
struct Silent;

impl Silent {
    fn of<E>(_: E) -> Silent {
        Silent
    }
}

impl<I: I2c> Device<Picture> for Oled<I> {
    fn apply(&mut self, picture: &Picture) -> io::Result<()> {
        self.draw(picture).map_err(|Silent| {
            io::Error::other(format!(
                "the display at {} does not answer; check its wires and [board] i2c_address",
                self.place
            ))
        })
    }

    fn rest(&mut self) -> io::Result<()> {
        // Display off, of both controllers.
        let off = self.commands(&[0xae]);
        off.map_err(|Silent| io::Error::other("the display does not answer"))
    }

    fn again(&self) -> Duration {
        self.again
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use embedded_graphics::draw_target::DrawTarget as _;
    use embedded_graphics::pixelcolor::BinaryColor;
    use embedded_graphics::prelude::{Pixel, Point};
    use embedded_hal::i2c::{self, ErrorKind, ErrorType, NoAcknowledgeSource, Operation};
    use stream::screen::HEIGHT;

    use super::*;

    /// The bus with one chip on it.
    #[derive(Clone)]
    struct Bus {
        chip: Arc<Mutex<rig::oled::Oled>>,
        address: u8,
        /// After each write: whether anything was shown.
        lit: Arc<Mutex<Vec<bool>>>,
    }

    impl ErrorType for Bus {
        type Error = ErrorKind;
    }

    impl i2c::I2c for Bus {
        fn transaction(
            &mut self,
            address: u8,
            todo: &mut [Operation<'_>],
        ) -> Result<(), ErrorKind> {
            if address != self.address {
                return Err(ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address));
            }
            for operation in todo {
                if let Operation::Write(bytes) = operation {
                    let mut chip = self.chip.lock().unwrap();
                    chip.write(bytes);
                    self.lit.lock().unwrap().push(chip.glass().is_some());
                }
            }
            Ok(())
        }
    }

    /// A picture without symmetry, other than the one before.
    fn picture(seed: u32) -> Picture {
        let mut picture = Picture::default();
        let points = (0..WIDTH * HEIGHT).map(|i| (i % WIDTH, i / WIDTH));
        let lit = points.filter(|(x, y)| (x * 7 + y * 13 + x * y * seed) % 5 < 2);
        let pixels = lit.map(|(x, y)| Pixel(Point::new(x as i32, y as i32), BinaryColor::On));
        picture.frame.draw_iter(pixels).unwrap();
        picture
    }

    fn rows(picture: &Picture) -> Vec<Vec<bool>> {
        let row = |y| (0..WIDTH).map(|x| picture.frame.get(x, y)).collect();
        (0..HEIGHT).map(row).collect()
    }

    fn check(display: Controller, chip: rig::oled::Chip, rotation: Rotation) {
        let bus = Bus {
            chip: Arc::new(Mutex::new(rig::oled::Oled::new(chip))),
            address: 0x3d,
            lit: Arc::default(),
        };
        let config = Config {
            display,
            rotation,
            i2c_address: 0x3d,
            contrast: 100,
            ..Config::default()
        };
        let mut oled = Oled::new(bus.clone(), &config);
        // It is set up for each picture.
        oled.again = Duration::ZERO;
        assert_eq!(
            bus.chip.lock().unwrap().glass(),
            None,
            "dark until it is drawn on"
        );
        for (seed, resets) in [(1, false), (2, false), (3, true), (3, true), (4, false)] {
            let mut picture = picture(seed);
            picture.contrast /= 2;
            if resets {
                // Its plug was loose between two pictures.
                *bus.chip.lock().unwrap() = rig::oled::Oled::new(chip);
            }
            bus.lit.lock().unwrap().clear();
            oled.apply(&picture).unwrap();
            let flickers = bus.lit.lock().unwrap().contains(&false);
            assert_eq!(flickers, resets || seed == 1, "{chip:?}");
            let chip = bus.chip.lock().unwrap();
            assert_eq!(chip.contrast, 49, "half of 100");
            let mut seen = chip.glass().expect("it is on");
            if rotation == Rotation::UpsideDown {
                // Somebody who stands on his head, as the display does.
                seen.reverse();
                seen.iter_mut().for_each(|row| row.reverse());
            }
            assert!(seen == rows(&picture), "{chip:?} {rotation:?}");
        }
        oled.rest().unwrap();
        assert_eq!(bus.chip.lock().unwrap().glass(), None);

        let elsewhere = Config::default();
        let mut missing = Oled::new(bus, &elsewhere);
        assert_eq!(
            missing.apply(&picture(1)).unwrap_err().to_string(),
            "the display at 0x3c on /dev/i2c-1 does not answer; check its wires and [board] i2c_address"
        );
    }

    #[test]
    fn the_glass_shows_the_picture() {
        for rotation in [Rotation::Upright, Rotation::UpsideDown] {
            check(Controller::Ssd1306, rig::oled::Chip::Ssd1306, rotation);
            check(Controller::Sh1106, rig::oled::Chip::Sh1106, rotation);
        }
    }
}
