//! USB/IP, the device's side (Documentation/usb/usbip_protocol.rst): the kernel's virtual host controller (`vhci-hcd`) takes any
//! socket as a USB device, and this is what goes over it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

const SUBMIT: u32 = 1;
const UNLINK: u32 = 2;
/// Errors that a transfer ends with.
pub(crate) const STALL: i32 = -32;
const UNLINKED: i32 = -104;

/// Bus 1, device 2, as USB/IP numbers the far side's devices.
const DEVICE: u32 = 0x0001_0002;

/// A transfer that the kernel waits for.
#[derive(Debug)]
pub(crate) struct Transfer {
    pub(crate) number: u32,
    pub(crate) endpoint: u32,
    pub(crate) inward: bool,
    pub(crate) length: usize,
    /// What a control transfer begins with.
    pub(crate) setup: [u8; 8],
    /// What goes to the device.
    pub(crate) data: Vec<u8>,
    /// Isochronous packets as they came: offset, length, two fields for the answer.
    pub(crate) packets: Vec<[u32; 4]>,
}

#[derive(Debug)]
pub(crate) enum Message {
    Submit(Transfer),
    /// The kernel takes a transfer back.
    Unlink {
        number: u32,
        transfer: u32,
    },
}

/// Puts the device behind a socket into a port of the virtual controller; `speed` is as the kernel numbers them (`USB_SPEED_HIGH`).
pub(crate) fn attach(port: u32, speed: u32, socket: &UnixStream) -> io::Result<()> {
    let socket = socket.as_raw_fd();
    fs::write(
        "/sys/devices/platform/vhci_hcd.0/attach",
        format!("{port} {socket} {DEVICE} {speed}"),
    )
}

/// Waits for what the kernel says next.
pub(crate) fn read(socket: &mut UnixStream) -> io::Result<Message> {
    let mut head = [0; 48];
    socket.read_exact(&mut head)?;
    let word = |i: usize| u32::from_be_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
    let number = word(4);
    match word(0) {
        SUBMIT => {}
        UNLINK => {
            let transfer = word(20);
            return Ok(Message::Unlink { number, transfer });
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    let inward = word(12) == 1;
    let length = word(24) as usize;
    let mut data = vec![0; if inward { 0 } else { length }];
    socket.read_exact(&mut data)?;
    // Without packets the count is 0 or all ones.
    let count = word(32) as i32;
    let mut packets = Vec::new();
    for _ in 0..count.max(0) {
        let mut packet = [0; 16];
        socket.read_exact(&mut packet)?;
        let (fields, _) = packet.as_chunks::<4>();
        packets.push([0, 1, 2, 3].map(|i| u32::from_be_bytes(fields[i])));
    }
    Ok(Message::Submit(Transfer {
        number,
        endpoint: word(16),
        inward,
        length,
        setup: head[40..].try_into().expect("48 bytes"),
        data,
        packets,
    }))
}

/// Ends a transfer.
pub(crate) fn answer(
    socket: &mut UnixStream,
    number: u32,
    status: i32,
    length: usize,
    data: &[u8],
    packets: &[[u32; 4]],
) -> io::Result<()> {
    let mut message = Vec::with_capacity(48 + data.len() + 16 * packets.len());
    for word in [
        3,
        number,
        0,
        0,
        0,
        status as u32,
        length as u32,
        0,
        packets.len() as u32,
        0,
        0,
        0,
    ] {
        message.extend(word.to_be_bytes());
    }
    message.extend_from_slice(data);
    message.extend(
        packets
            .iter()
            .flatten()
            .flat_map(|field| field.to_be_bytes()),
    );
    socket.write_all(&message)
}

/// Ends a control transfer with what the device says to it; `None` is a stall.
pub(crate) fn answer_control(
    socket: &mut UnixStream,
    transfer: &Transfer,
    says: Option<&[u8]>,
) -> io::Result<()> {
    let (number, length, setup) = (transfer.number, transfer.length, transfer.setup);
    match says {
        Some(says) if transfer.inward => {
            let wanted = usize::from(u16::from_le_bytes([setup[6], setup[7]]));
            let says = &says[..says.len().min(wanted).min(length)];
            answer(socket, number, 0, says.len(), says, &[])
        }
        Some(_) => answer(socket, number, 0, length, &[], &[]),
        None => answer(socket, number, STALL, 0, &[], &[]),
    }
}

/// Says whether a transfer was taken back (`found`) or had been answered.
pub(crate) fn unlinked(socket: &mut UnixStream, number: u32, found: bool) -> io::Result<()> {
    let status = if found { UNLINKED } else { 0 };
    let mut message = Vec::with_capacity(48);
    for word in [4, number, 0, 0, 0, status as u32] {
        message.extend(word.to_be_bytes());
    }
    message.resize(48, 0);
    socket.write_all(&message)
}

/// A descriptor with its length before it.
pub(crate) fn descriptor(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8 + 1], bytes].concat()
}

/// The descriptor of a text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut bytes = vec![3];
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    descriptor(&bytes)
}
