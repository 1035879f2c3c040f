//! Flash that counts its wear, as it is soldered to a Compute Module: an eMMC, here behind a USB host for memory cards that the
//! kernel's own driver `vub300` serves. The kernel's MMC core sets it up as any other, with `life_time` and `pre_eol_info` in sysfs.
//!
//! The host, Elan's VUB300, takes commands of 64 bytes and gives the flash's answers (drivers/mmc/host/vub300.c). The flash is an
//! eMMC 5.1 (JEDEC JESD84-B51) that is never busy. Its blocks are empty, and it has no commands that write.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use crate::usbip::{self, Message, STALL, Transfer, descriptor as d};

/// What the flash says of its wear (JESD84-B51, 7.4.20 and 7.4.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emmc {
    /// How much of its two kinds' life is used up, in tenths: 1 is a tenth at most, 10 all of it, 11 more than that.
    pub life_time: [u8; 2],
    /// How many of the spare blocks are used up: 1 normal, 2 eight tenths, 3 nine tenths.
    pub pre_eol_info: u8,
}

/// Flash that the kernel has. Dropping it takes it out.
#[derive(Debug)]
pub struct Fitted(UnixStream);

/// The virtual controller's second port, as it counts from 0, and its speed (`USB_SPEED_HIGH`). The first one is the card's.
const PORT: u32 = 1;
const HIGH_SPEED: u32 = 3;
/// The host in its socket, as the kernel shows it.
pub(crate) const SOCKET: &str = "/sys/bus/usb/devices/1-2";

/// Endpoints: commands and their answers, and what is read.
const COMMAND: u32 = 1;
const DATA: u32 = 2;

/// Kinds of the host's answers, and its word for a command that the flash does not answer.
const ANSWERED: u8 = 0;
const FAILED: u8 = 2;
const TIMEOUT: u8 = 1;

/// The flash is ready, counts in sectors, and takes 2.7 to 3.6 V, or 1.8 V.
const OCR: u32 = 0xc0ff_8080;
/// In the state of transfers, and ready for data.
const STATUS: u32 = 4 << 9 | 1 << 8;
/// Who made it: nobody (52h), in a BGA; its name is `RIGMMC`.
const CID: [u8; 16] = *b"\x52\x01\x00RIGMMC\x10\x00\x00\x00\x01\x17\x01";
/// 26 MHz, and the commands of classes 0 and 2: basic, and to read blocks of 512 bytes. How many there are is in the extended one.
const CSD: [u8; 16] = [
    0xd0, 0x27, 0x01, 0x32, 0x00, 0x59, 0x03, 0xff, 0xc0, 0x03, 0x80, 0x00, 0x02, 0x40, 0x00, 0x01,
];
/// Blocks of 512 bytes: 16 MiB.
const SECTORS: u32 = 32_768;

impl Fitted {
    /// Fits flash.
    pub fn new(flash: Emmc) -> io::Result<Fitted> {
        let (ours, kernels) = UnixStream::pair()?;
        let socket = ours.try_clone()?;
        std::thread::spawn(move || {
            let mut host = Host {
                socket,
                registers: registers(flash),
                says: [None, None],
                waiting: Vec::new(),
            };
            // Until it is taken out.
            let _ = host.serve();
        });
        usbip::attach(PORT, HIGH_SPEED, &kernels)?;
        Ok(Fitted(ours))
    }
}

impl Drop for Fitted {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The extended CSD register (JESD84-B51, 7.4).
fn registers(flash: Emmc) -> [u8; 512] {
    let mut registers = [0; 512];
    registers[212..216].copy_from_slice(&SECTORS.to_le_bytes());
    let [a, b] = flash.life_time;
    for (place, value) in [
        // Revision 1.8, for eMMC 5.1; the CSD's version; up to 52 MHz.
        (192, 8),
        (194, 2),
        (196, 3),
        // Groups of 512 KiB that are erased and protected together, and how long that takes, 300 ms.
        (221, 1),
        (223, 1),
        (224, 1),
        // A switch of a mode may take 500 ms.
        (248, 50),
        (267, flash.pre_eol_info),
        (268, a),
        (269, b),
    ] {
        registers[place] = value;
    }
    registers
}

#[derive(Debug)]
struct Host {
    socket: UnixStream,
    registers: [u8; 512],
    /// What goes to the kernel next, from each of the two endpoints.
    says: [Option<Vec<u8>>; 2],
    /// Transfers that the kernel waits for it with.
    waiting: Vec<Transfer>,
}

impl Host {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let transfer = match usbip::read(&mut self.socket)? {
                Message::Submit(transfer) => transfer,
                Message::Unlink { number, transfer } => {
                    let place = self.waiting.iter().position(|it| it.number == transfer);
                    let found = place.map(|it| self.waiting.remove(it)).is_some();
                    usbip::unlinked(&mut self.socket, number, found)?;
                    continue;
                }
            };
            match (transfer.endpoint, transfer.inward) {
                (0, _) => {
                    let says = control(transfer.setup);
                    usbip::answer_control(&mut self.socket, &transfer, says.as_deref())?;
                }
                (COMMAND, false) => {
                    self.says = self.command(&transfer.data);
                    let (number, length) = (transfer.number, transfer.length);
                    usbip::answer(&mut self.socket, number, 0, length, &[], &[])?;
                }
                (COMMAND | DATA, true) => self.waiting.push(transfer),
                _ => usbip::answer(&mut self.socket, transfer.number, STALL, 0, &[], &[])?,
            }
            self.say()?;
        }
    }

    /// Says what there is to say to whoever waits for it.
    fn say(&mut self) -> io::Result<()> {
        for (says, endpoint) in self.says.iter_mut().zip([COMMAND, DATA]) {
            let place = self.waiting.iter().position(|it| it.endpoint == endpoint);
            if let Some(place) = place
                && let Some(says) = says.take()
            {
                let Transfer { number, length, .. } = self.waiting.remove(place);
                let says = &says[..says.len().min(length)];
                usbip::answer(&mut self.socket, number, 0, says.len(), says, &[])?;
            }
        }
        Ok(())
    }

    /// What the two endpoints say to a command.
    fn command(&mut self, command: &[u8]) -> [Option<Vec<u8>>; 2] {
        let word = |at: usize| Some(u32::from_be_bytes(*command.get(at..)?.first_chunk()?));
        let (Some(&index), Some(length), Some(argument)) = (command.get(4), word(5), word(10))
        else {
            return [None, None];
        };
        let Some((response, data)) = self.execute(index, argument, length) else {
            return [Some(vec![4, FAILED, 0, TIMEOUT]), None];
        };
        let mut answer = vec![0, ANSWERED, 0, 0, index];
        if !response.is_empty() {
            // As on the wire, where the command's number is in front of it.
            answer.push(index);
            answer.extend(response);
        }
        answer[0] = answer.len() as u8;
        [Some(answer), data]
    }

    /// The flash's response to a command, and the data that are read; `None` where it is silent, as to those of SD cards and SDIO.
    fn execute(
        &mut self,
        index: u8,
        argument: u32,
        length: u32,
    ) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let [access, place, value, _] = argument.to_be_bytes();
        let status = || [&STATUS.to_be_bytes()[..], &[0]].concat();
        Some(match (index, length) {
            // GO_IDLE_STATE, SEND_OP_COND, ALL_SEND_CID, SEND_CSD.
            (0, 0) => (Vec::new(), None),
            (1, 0) => ([&OCR.to_be_bytes()[..], &[0]].concat(), None),
            (2, 0) => (CID.to_vec(), None),
            (9, 0) => (CSD.to_vec(), None),
            // SWITCH, to write a byte of the extended CSD.
            (6, 0) => {
                if access == 3 {
                    self.registers[usize::from(place)] = value;
                }
                (status(), None)
            }
            // SET_RELATIVE_ADDR, SELECT_CARD, STOP_TRANSMISSION, SEND_STATUS.
            (3 | 7 | 12 | 13, 0) => (status(), None),
            // SEND_EXT_CSD. Without data it is another command, of SD cards.
            (8, 512) => (status(), Some(self.registers.to_vec())),
            // READ_SINGLE_BLOCK, READ_MULTIPLE_BLOCK.
            (17 | 18, length) => (status(), Some(vec![0; length as usize])),
            _ => return None,
        })
    }
}

/// Answers a control transfer of the host; `None` is a stall.
fn control(setup: [u8; 8]) -> Option<Vec<u8>> {
    let [kind, request, index, which, ..] = setup;
    Some(match (kind, request) {
        (0x80, 6) => match which {
            1 => d(&[
                1, 0x00, 2, 0xff, 0, 0, 64, 0x24, 0x04, 0x2c, 0x01, 0, 1, 1, 2, 3, 1,
            ]),
            2 => configuration(),
            3 => match index {
                0 => d(&[3, 0x09, 0x04]),
                1 => usbip::text("Elan Digital Systems"),
                2 => usbip::text("VUB300"),
                3 => usbip::text("RIG0002"),
                _ => return None,
            },
            _ => return None,
        },
        (0x80, 0) => vec![0, 0],
        // The state of the slot, of which only that there is a card is read, and the host's version.
        (0xc0, 0) => [&[15, 3, 0, 1, 0][..], &[0; 10]].concat(),
        (0xc0, 1) => vec![4, 0, 1, 1],
        // The configuration, a halt that is cleared, and of the host power, clock, wait states: it takes them all.
        (0x00 | 0x02 | 0x40, _) => Vec::new(),
        _ => return None,
    })
}

fn configuration() -> Vec<u8> {
    let endpoints = [COMMAND, 0x80 | COMMAND, DATA, 0x80 | DATA];
    let body = [
        d(&[4, 0, 0, 4, 0xff, 0, 0, 0]),
        endpoints.map(|it| d(&[5, it as u8, 2, 0, 2, 0])).concat(),
    ]
    .concat();
    let [l0, l1] = (body.len() as u16 + 9).to_le_bytes();
    [d(&[2, l0, l1, 1, 1, 0, 0x80, 50]), body].concat()
}
