//! An SSD1306 or SH1106 as it looks from the bus and from the front: commands and data in, the lit pixels out.
//!
//! Modelled after the datasheets: control bytes (SSD1306 8.1.5.2), horizontal and page addressing (10.1.3), the commands' lengths
//! (9), segment and row direction (10.1.8, 10.1.12). The glass shows nothing until it is switched on (AFh) and its charge
//! pump runs.

use stream::screen::{HEIGHT, WIDTH};

const PAGES: usize = (HEIGHT / 8) as usize;

/// Which controller it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Chip {
    #[default]
    Ssd1306,
    /// 132 columns, of which the glass shows 2 to 129; page addressing only.
    Sh1106,
}

impl Chip {
    /// As `[board] display` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Chip::Ssd1306 => "ssd1306",
            Chip::Sh1106 => "sh1106",
        }
    }

    fn columns(self) -> usize {
        match self {
            Chip::Ssd1306 => 128,
            Chip::Sh1106 => 132,
        }
    }
}

/// The controller behind the glass.
#[derive(Debug, Clone)]
pub struct Oled {
    chip: Chip,
    ram: Vec<u8>,
    /// A command whose arguments are not complete.
    partial: Vec<u8>,
    horizontal: bool,
    columns: (usize, usize),
    pages: (usize, usize),
    column: usize,
    page: usize,
    on: bool,
    pump: bool,
    inverted: bool,
    mirrored: (bool, bool),
    /// Command 81h.
    pub contrast: u8,
}

impl Oled {
    /// As after power-on: RAM of no meaning (here: all lit, so that what nobody wrote is seen), display off.
    pub fn new(chip: Chip) -> Oled {
        Oled {
            chip,
            ram: vec![0xff; chip.columns() * PAGES],
            partial: Vec::new(),
            horizontal: false,
            columns: (0, chip.columns() - 1),
            pages: (0, PAGES - 1),
            column: 0,
            page: 0,
            on: false,
            // Of the SH1106 it is on by default ("POR" in its datasheet).
            pump: matches!(chip, Chip::Sh1106),
            inverted: false,
            mirrored: (false, false),
            contrast: 0x7f,
        }
    }

    /// One write to the chip's address.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while let [control, rest @ ..] = bytes {
            let data = control & 0x40 != 0;
            // With the continuation bit one byte follows, without it all that is left.
            let (now, later) = if control & 0x80 != 0 {
                rest.split_at(rest.len().min(1))
            } else {
                (rest, &[][..])
            };
            for &byte in now {
                if data {
                    self.data(byte);
                } else {
                    self.command(byte);
                }
            }
            bytes = later;
        }
    }

    /// What the glass shows, as rows of lit pixels seen from the front; `None` while it is dark because it is off.
    pub fn glass(&self) -> Option<Vec<Vec<bool>>> {
        let row = |y| (0..WIDTH as usize).map(|x| self.lit(x, y)).collect();
        (self.on && self.pump).then(|| (0..HEIGHT as usize).map(row).collect())
    }

    fn lit(&self, x: usize, y: usize) -> bool {
        // The glass is wired so that the usual modules, upright, need both directions turned.
        let column = if self.mirrored.0 {
            x
        } else {
            WIDTH as usize - 1 - x
        };
        let row = if self.mirrored.1 {
            y
        } else {
            HEIGHT as usize - 1 - y
        };
        let first = (self.chip.columns() - WIDTH as usize) / 2;
        let byte = self.ram[row / 8 * self.chip.columns() + first + column];
        (byte >> (row % 8) & 1 == 1) != self.inverted
    }

    fn data(&mut self, byte: u8) {
        let width = self.chip.columns();
        self.ram[self.page * width + self.column] = byte;
        if !self.horizontal {
            // Page addressing: the column stays within its page.
            self.column = (self.column + 1) % width;
        } else if self.column < self.columns.1 {
            self.column += 1;
        } else {
            self.column = self.columns.0;
            self.page = if self.page < self.pages.1 {
                self.page + 1
            } else {
                self.pages.0
            };
        }
    }

    fn command(&mut self, byte: u8) {
        self.partial.push(byte);
        if self.partial.len() > self.arguments(self.partial[0]) {
            let command = std::mem::take(&mut self.partial);
            self.execute(command[0], &command[1..]);
        }
    }

    /// How many arguments a command has.
    fn arguments(&self, command: u8) -> usize {
        match (command, self.chip) {
            (0x21 | 0x22, Chip::Ssd1306) => 2,
            (0x20 | 0x8d, Chip::Ssd1306) => 1,
            (0xad, Chip::Sh1106) => 1,
            (0x81 | 0xa8 | 0xd3 | 0xd5 | 0xd9 | 0xda | 0xdb, _) => 1,
            _ => 0,
        }
    }

    fn execute(&mut self, command: u8, arguments: &[u8]) {
        let at = |i: usize, limit: usize| usize::from(arguments[i]).min(limit);
        match (command, self.chip) {
            (0x00..=0x0f, _) => self.column = self.column & 0xf0 | usize::from(command & 0x0f),
            (0x10..=0x1f, _) => {
                self.column = self.column & 0x0f | usize::from(command & 0x0f) << 4;
            }
            (0x20, Chip::Ssd1306) => self.horizontal = arguments[0] & 3 == 0,
            (0x21, Chip::Ssd1306) => {
                self.columns = (at(0, 127), at(1, 127));
                self.column = self.columns.0;
            }
            (0x22, Chip::Ssd1306) => {
                self.pages = (at(0, PAGES - 1), at(1, PAGES - 1));
                self.page = self.pages.0;
            }
            (0x81, _) => self.contrast = arguments[0],
            (0x8d, Chip::Ssd1306) => self.pump = arguments[0] & 0x04 != 0,
            // "The panel display must be off while issuing this command."
            (0xad, Chip::Sh1106) => {
                assert!(!self.on, "the converter is told while the display is on");
                self.pump = arguments[0] & 0x01 != 0;
            }
            (0xa0 | 0xa1, _) => self.mirrored.0 = command == 0xa1,
            (0xc0..=0xcf, _) => self.mirrored.1 = command & 0x08 != 0,
            (0xa6 | 0xa7, _) => self.inverted = command == 0xa7,
            (0xae | 0xaf, _) => self.on = command == 0xaf,
            (0xb0..=0xb7, _) => self.page = usize::from(command & 7),
            _ => {}
        }
        self.column = self.column.min(self.chip.columns() - 1);
    }
}
