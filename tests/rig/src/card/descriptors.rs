//! What the card says it is (USB 2.0 chapter 9; UVC 1.0 and UAC 1.0, class-specific descriptors).

use super::{Card, Mode, Pixels, Sound, Usb};
use crate::usbip::{self, descriptor as d};

/// Interfaces: video control and streaming, audio control and streaming.
pub(super) const AUDIO_CONTROL: u8 = 2;
pub(super) const AUDIO_STREAMING: u16 = 3;
pub(super) const VIDEO_STREAMING: u16 = 1;

/// Largest transfer of pictures, header included.
pub(super) const PAYLOAD: usize = 16_384;

/// Bytes of sound in a millisecond: 48 frames of two channels of 16 bits, whatever the descriptors call it.
pub(super) const AUDIO_PACKET: u16 = 192;

/// The unit with the sound's switch and gain.
pub(super) const FEATURE_UNIT: u8 = 3;
/// Its gain: lowest, highest and one step, in 1/256 dB. 0 dB is not at an end.
pub(super) const GAIN: [i16; 3] = [-32 * 256, 8 * 256, 256];

/// The modes of one format, in the order of their frame indices.
pub(super) fn modes(card: &Card, pixels: Pixels) -> impl Iterator<Item = &Mode> {
    card.modes.iter().filter(move |mode| mode.pixels == pixels)
}

/// The formats in the order of their indices: those that have modes.
pub(super) fn formats(card: &Card) -> Vec<Pixels> {
    [Pixels::Yuy2, Pixels::Nv12, Pixels::Mjpeg]
        .into_iter()
        .filter(|&pixels| modes(card, pixels).next().is_some())
        .collect()
}

/// Largest picture of a mode, bytes.
pub(super) fn frame_size(mode: &Mode) -> u32 {
    let pixels = u32::from(mode.width) * u32::from(mode.height);
    match mode.pixels {
        Pixels::Yuy2 | Pixels::Mjpeg => pixels * 2,
        Pixels::Nv12 => pixels * 3 / 2,
    }
}

/// Length of a picture, 100 ns.
pub(super) fn interval(mode: &Mode) -> u32 {
    10_000_000 / mode.fps
}

pub(super) fn device(card: &Card) -> Vec<u8> {
    let ([v0, v1], [p0, p1]) = (card.vendor.to_le_bytes(), card.product.to_le_bytes());
    // The largest packet of endpoint 0 is 64 bytes, which USB 3 says as 512's power of two.
    let (usb, packet) = match card.usb {
        Usb::Two => ([0x00, 2], 64),
        Usb::TwoOfThree => ([0x10, 2], 64),
        Usb::Three => ([0x00, 3], 9),
    };
    let [u0, u1] = usb;
    // A device of several functions, strings 1 to 3, one configuration.
    d(&[
        1, u0, u1, 0xef, 2, 1, packet, v0, v1, p0, p1, 0, 0x21, 1, 2, 3, 1,
    ])
}

/// What it can do beyond USB 2.0 (USB 3.2, 9.6.2): nothing but being fast, if it can do that.
pub(super) fn capabilities(card: &Card) -> Option<Vec<u8>> {
    (card.usb != Usb::Two).then(|| {
        [
            d(&[0x0f, 22, 0, 2]),
            // USB 2.0 extension: no link power management.
            d(&[0x10, 2, 0, 0, 0, 0]),
            // SuperSpeed: full, high and super speed, all of it from full speed on, and how long it takes to wake up.
            d(&[0x10, 3, 0, 0x0e, 0, 1, 10, 0xff, 7]),
        ]
        .concat()
    })
}

/// An endpoint, with its companion where it is of USB 3 (USB 3.2, 9.6.7).
fn endpoint(card: &Card, number: u8, kind: u8, packet: u16, interval: u8, more: &[u8]) -> Vec<u8> {
    let [p0, p1] = packet.to_le_bytes();
    let itself = d(&[&[5, number, kind, p0, p1, interval], more].concat());
    // One packet at a time; of those that come regularly, so many bytes.
    let [b0, b1] = if kind & 3 == 1 { [p0, p1] } else { [0, 0] };
    let companion = match card.usb {
        Usb::Three => d(&[0x30, 0, 0, b0, b1]),
        Usb::Two | Usb::TwoOfThree => Vec::new(),
    };
    [itself, companion].concat()
}

pub(super) fn qualifier() -> Vec<u8> {
    d(&[6, 0, 2, 0xef, 2, 1, 64, 1, 0])
}

pub(super) fn string(card: &Card, index: u8) -> Option<Vec<u8>> {
    let text = match index {
        0 => return Some(d(&[3, 0x09, 0x04])),
        1 => "MACROSILICON",
        2 => &card.name,
        3 => "RIG0001",
        _ => return None,
    };
    Some(usbip::text(text))
}

pub(super) fn configuration(card: &Card) -> Vec<u8> {
    // Drivers take the functions in this order.
    let mut functions = [video(card), audio(card)];
    if card.late > 0.0 {
        functions.reverse();
    }
    let body = functions.concat();
    let [l0, l1] = (body.len() as u16 + 9).to_le_bytes();
    [d(&[2, l0, l1, 4, 1, 0, 0x80, 50]), body].concat()
}

fn video(card: &Card) -> Vec<u8> {
    // A camera terminal behind an output terminal, that is all.
    let units = [
        d(&[0x24, 2, 1, 0x01, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]),
        d(&[0x24, 3, 2, 0x01, 0x01, 0, 1, 0]),
    ]
    .concat();
    let [u0, u1] = (13 + units.len() as u16).to_le_bytes();
    let bulk = match card.usb {
        Usb::Two | Usb::TwoOfThree => 512,
        Usb::Three => 1024,
    };
    let [c0, c1, c2, c3] = 48_000_000_u32.to_le_bytes();
    let formats = formats(card);
    let table: Vec<u8> = (1..)
        .zip(&formats)
        .flat_map(|(index, &pixels)| format(card, pixels, index))
        .collect();
    let mut header = vec![0x24, 1, formats.len() as u8, 0, 0, 0x81, 0, 2, 0, 0, 0, 1];
    header.extend(formats.iter().map(|_| 0));
    let length = header.len() as u16 + 1 + table.len() as u16;
    header[3..5].copy_from_slice(&length.to_le_bytes());
    [
        d(&[0x0b, 0, 2, 0x0e, 3, 0, 2]),
        d(&[4, 0, 0, 0, 0x0e, 1, 0, 2]),
        d(&[0x24, 1, 0, 1, u0, u1, c0, c1, c2, c3, 1, 1]),
        units,
        d(&[4, 1, 0, 1, 0x0e, 2, 0, 0]),
        d(&header),
        table,
        endpoint(card, 0x81, 2, bulk, 0, &[]),
    ]
    .concat()
}

fn format(card: &Card, pixels: Pixels, index: u8) -> Vec<u8> {
    let count = modes(card, pixels).count() as u8;
    let (head, frame_type) = match pixels {
        Pixels::Yuy2 | Pixels::Nv12 => {
            let (name, bits) = match pixels {
                Pixels::Nv12 => (b"NV12", 12),
                _ => (b"YUY2", 16),
            };
            let mut head = vec![0x24, 4, index, count];
            head.extend(name);
            head.extend(b"\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71");
            head.extend([bits, 1, 0, 0, 0, 0]);
            (head, 5)
        }
        Pixels::Mjpeg => (vec![0x24, 6, index, count, 1, 1, 0, 0, 0, 0], 7),
    };
    let mut table = d(&head);
    for (number, mode) in (1..).zip(modes(card, pixels)) {
        let mut frame = vec![0x24, frame_type, number, 0];
        frame.extend(mode.width.to_le_bytes());
        frame.extend(mode.height.to_le_bytes());
        let rate = frame_size(mode) * 8;
        frame.extend(rate.to_le_bytes());
        frame.extend(rate.saturating_mul(mode.fps).to_le_bytes());
        frame.extend(frame_size(mode).to_le_bytes());
        frame.extend(interval(mode).to_le_bytes());
        frame.push(1);
        frame.extend(interval(mode).to_le_bytes());
        table.extend(d(&frame));
    }
    // Colours as in BT.709.
    table.extend(d(&[0x24, 13, 1, 1, 1]));
    table
}

fn audio(card: &Card) -> Vec<u8> {
    let (channels, spread, rate) = match card.sound {
        Sound::Stereo48k => (2, 3, 48_000_u32),
        Sound::Mono96k => (1, 0, 96_000),
    };
    let [r0, r1, r2, _] = rate.to_le_bytes();
    let input = d(&[0x24, 2, 1, 0x02, 0x06, 0, channels, spread, 0, 0, 0]);
    let output = |source| d(&[0x24, 3, 2, 0x01, 0x01, 0, source, 0]);
    let units = if card.gain {
        // A switch and a gain for all channels together, none for each.
        let mut feature = vec![0x24, 6, FEATURE_UNIT, 1, 1, 3];
        feature.extend((0..channels).map(|_| 0));
        feature.push(0);
        [input, d(&feature), output(FEATURE_UNIT)].concat()
    } else {
        [input, output(1)].concat()
    };
    let [u0, u1] = (9 + units.len() as u16).to_le_bytes();
    [
        d(&[0x0b, 2, 2, 1, 1, 0, 2]),
        d(&[4, 2, 0, 0, 1, 1, 0, 2]),
        d(&[0x24, 1, 0, 1, u0, u1, 1, 3]),
        units,
        d(&[4, 3, 0, 0, 1, 2, 0, 0]),
        d(&[4, 3, 1, 1, 1, 2, 0, 0]),
        d(&[0x24, 1, 2, 1, 1, 0]),
        d(&[0x24, 2, 1, channels, 2, 16, 1, r0, r1, r2]),
        // Isochronous and asynchronous, every millisecond.
        endpoint(card, 0x82, 5, AUDIO_PACKET, 4, &[0, 0]),
        d(&[0x25, 1, 0, 0, 0, 0]),
    ]
    .concat()
}
