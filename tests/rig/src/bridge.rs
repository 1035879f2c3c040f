//! A USB-I²C bridge, Microchip MCP2221, that the kernel's own driver `hid-mcp2221` serves, with a display behind it.
//!
//! The bridge is a HID device made through `/dev/uhid`. Reports are 64 bytes each way, a request and its answer (MCP2221A
//! datasheet DS20005565, 3.1). The display is any [`Oled`] at one address; another address is not acknowledged.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::oled::Oled;
use crate::protocol::Bus;

/// Types of events of `/dev/uhid` (linux/uhid.h).
mod uhid {
    pub(super) const DESTROY: u32 = 1;
    pub(super) const OUTPUT: u32 = 6;
    pub(super) const CREATE2: u32 = 11;
    pub(super) const INPUT2: u32 = 12;
    /// Longest report, and length of an event: type, report, its size and kind.
    pub(super) const REPORT: usize = 4096;
    pub(super) const EVENT: usize = 4380;
}

/// Vendor-defined reports of 64 bytes each way.
const REPORTS: [u8; 34] = [
    0x06, 0x00, 0xff, 0x09, 0x01, 0xa1, 0x01, 0x09, 0x02, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08,
    0x95, 0x40, 0x81, 0x02, 0x09, 0x03, 0x15, 0x00, 0x26, 0xff, 0x00, 0x75, 0x08, 0x95, 0x40, 0x91,
    0x02, 0xc0,
];

const BUS_USB: u16 = 3;
const VENDOR: u32 = 0x04d8;
const PRODUCT: u32 = 0x00dd;

/// Data bytes of one request.
const PAYLOAD: usize = 60;

/// The bridge and the display behind it.
#[derive(Debug)]
pub struct Bridge {
    uhid: File,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    oled: Oled,
    address: u8,
    bus: Bus,
    /// The write under way.
    write: Vec<u8>,
    refused: bool,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bridge {
    /// Plugs the bridge in.
    pub fn new(oled: Oled, address: u8) -> io::Result<Bridge> {
        let uhid = File::options().read(true).write(true).open("/dev/uhid")?;
        create(&uhid)?;
        let state = Arc::new(Mutex::new(State {
            oled,
            address,
            bus: Bus::Well,
            write: Vec::new(),
            refused: false,
        }));
        let (ours, mut file) = (state.clone(), uhid.try_clone()?);
        std::thread::spawn(move || {
            let mut event = vec![0; uhid::EVENT];
            while file.read(&mut event).is_ok() {
                if u32::from_ne_bytes([event[0], event[1], event[2], event[3]]) != uhid::OUTPUT {
                    continue;
                }
                if let Some(answer) = lock(&ours).answer(&event[4..68]) {
                    // A bridge that was unplugged in the meantime answers nobody.
                    let _ = send(
                        &file,
                        uhid::INPUT2,
                        &[&64_u16.to_ne_bytes()[..], &answer].concat(),
                    );
                }
            }
        });
        Ok(Bridge { uhid, state })
    }

    /// Changes how the bus behaves.
    pub fn set(&self, bus: Bus) -> io::Result<()> {
        let before = std::mem::replace(&mut lock(&self.state).bus, bus);
        match (before, bus) {
            (Bus::Gone, Bus::Gone) => Ok(()),
            (_, Bus::Gone) => send(&self.uhid, uhid::DESTROY, &[]),
            (Bus::Gone, _) => create(&self.uhid),
            _ => Ok(()),
        }
    }

    /// How bright the glass is told to be, 0 to 255.
    pub fn contrast(&self) -> u8 {
        lock(&self.state).oled.contrast
    }

    /// What the glass shows.
    pub fn glass(&self) -> Option<Vec<Vec<bool>>> {
        lock(&self.state).oled.glass()
    }

    /// The display loses its power and gets it back.
    pub fn replace(&self, oled: Oled) {
        lock(&self.state).oled = oled;
    }
}

fn send(mut file: &File, kind: u32, payload: &[u8]) -> io::Result<()> {
    let mut event = kind.to_ne_bytes().to_vec();
    event.extend_from_slice(payload);
    file.write_all(&event)
}

fn create(file: &File) -> io::Result<()> {
    let mut device = Vec::new();
    for (text, length) in [("MCP2221 of the rig", 128), ("rig", 64), ("", 64)] {
        device.extend_from_slice(text.as_bytes());
        device.resize(device.len() + length - text.len(), 0);
    }
    device.extend((REPORTS.len() as u16).to_ne_bytes());
    device.extend(BUS_USB.to_ne_bytes());
    for number in [VENDOR, PRODUCT, 0, 0] {
        device.extend(number.to_ne_bytes());
    }
    device.extend(REPORTS);
    device.resize(device.len() + uhid::REPORT - REPORTS.len(), 0);
    send(file, uhid::CREATE2, &device)
}

impl State {
    /// The answer to a request of 64 bytes, if the bridge gives one.
    fn answer(&mut self, request: &[u8]) -> Option<[u8; 64]> {
        if matches!(self.bus, Bus::Hang | Bus::Gone) {
            return None;
        }
        let mut answer = [0; 64];
        answer[0] = request[0];
        match request[0] {
            // Write, with and without a stop at its end.
            0x90 | 0x94 => self.take(request),
            // Status, or with 10h the end of a transfer that failed.
            0x10 => {
                if request[2] == 0x10 {
                    answer[2] = 0x10;
                    self.refused = false;
                    self.write.clear();
                } else if self.refused {
                    answer[8] = 0x25;
                    answer[20] = 0x40;
                }
                if request[3] == 0x20 {
                    answer[3] = 0x20;
                }
            }
            // Read: a display of this kind has nothing to say over I²C.
            0x91 | 0x93 => self.refused = true,
            0x40 => answer[1] = 0x41,
            _ => {}
        }
        Some(answer)
    }

    fn take(&mut self, request: &[u8]) {
        let length = usize::from(u16::from_le_bytes([request[1], request[2]]));
        self.refused = self.bus == Bus::Nak || request[3] >> 1 != self.address;
        if self.refused {
            self.write.clear();
            return;
        }
        let missing = length.saturating_sub(self.write.len()).min(PAYLOAD);
        self.write.extend_from_slice(&request[4..4 + missing]);
        if self.write.len() >= length {
            let write = std::mem::take(&mut self.write);
            self.oled.write(&write);
        }
    }
}
