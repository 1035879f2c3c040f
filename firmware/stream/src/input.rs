//! Which of a card's formats to take.
//!
//! First what the viewers see counts, the rate before the size; then what it costs the processor, as `cost` below has it.

use crate::status::NoCard;

/// Why there is no card to capture from, and what to do, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotFound {
    pub kind: NoCard,
    pub why: String,
}

/// How a card packs its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pixels {
    /// Half the lines of colour. GStreamer has no short way from it to the I420 that the encoder gets.
    Nv12,
    /// Another raw format, usually YUY2.
    Raw,
    Mjpeg,
}

/// One line of a card's table of formats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    pub pixels: Pixels,
    pub width: u32,
    pub height: u32,
    /// Highest rate, frames per second.
    pub fps: f64,
}

/// Rates are this close when they are the same: 30000/1001 is 30.
const SAME_RATE: f64 = 0.1;

/// What a second of 1080p30 costs: per cent of one core of the machine that the tests run on (`make bench-cost`, README). On a
/// Raspberry Pi all are about four times that.
mod cost {
    /// Pixels to which the costs refer.
    pub(super) const REFERENCE: f64 = 1920.0 * 1080.0 * 30.0;
    /// One copy of each raw picture, as the kernel makes one; NV12 has three quarters of the bytes.
    pub(super) const COPY: f64 = 0.7;
    /// YUY2 with the colours that cards mostly claim: pictures keep BT.601.
    pub(super) const RAW: f64 = 2.8;
    /// As much more than YUY2 as `gst-launch-1.0` takes for it (2.0 on 30 November 2026, GStreamer 1.22).
    pub(super) const NV12: f64 = 4.8;
    /// JPEG is of full range, whoever decodes it, so its colours are computed anew.
    pub(super) const FULL_RANGE: f64 = 13.6;
    /// In software.
    pub(super) const DECODE: f64 = 14.8;
    /// To 720p (`facts/gstreamer`, 7).
    pub(super) const SCALE: f64 = 7.0;
}

impl Offer {
    fn pixels_a_picture(&self) -> f64 {
        f64::from(self.width) * f64::from(self.height)
    }

    /// How much worse than wanted this looks, and then its cost; less is better.
    fn rank(&self, width: u32, height: u32, fps: f64, hardware_jpeg: bool) -> [f64; 3] {
        let slow = if self.fps + SAME_RATE >= fps {
            0.0
        } else {
            fps - self.fps
        };
        let wanted = f64::from(width) * f64::from(height);
        let small = (wanted - self.pixels_a_picture()).max(0.0);
        let (capture, convert) = match self.pixels {
            Pixels::Nv12 => (0.75 * cost::COPY, cost::NV12),
            Pixels::Raw => (cost::COPY, cost::RAW),
            Pixels::Mjpeg if hardware_jpeg => (0.0, cost::FULL_RANGE),
            Pixels::Mjpeg => (cost::DECODE, cost::FULL_RANGE),
        };
        let scale = if (self.width, self.height) == (width, height) {
            0.0
        } else {
            cost::SCALE
        };
        // Pictures beyond the wanted rate are captured and decoded all the same, and dropped before they are converted.
        let a_picture = capture * self.fps + (convert + scale) * self.fps.min(fps);
        let cost = a_picture * self.pixels_a_picture() / cost::REFERENCE;
        [slow, small, cost]
    }
}

/// The best offer for pictures of `width` times `height` pixels and `fps`; `None` of nothing. `hardware_jpeg`: this machine has a
/// decoder of JPEG beside its processor.
pub fn choose(
    offers: &[Offer],
    width: u32,
    height: u32,
    fps: f64,
    hardware_jpeg: bool,
) -> Option<Offer> {
    let better = |a: &&Offer, b: &&Offer| {
        let [a, b] = [a, b].map(|it| it.rank(width, height, fps, hardware_jpeg));
        a.iter()
            .zip(&b)
            .map(|(a, b)| a.total_cmp(b))
            .find(|order| order.is_ne())
            .unwrap_or(std::cmp::Ordering::Equal)
    };
    offers.iter().min_by(better).copied()
}

/// What is wrong with the rate of the source for people who see `wanted` pictures a second, and what to do. A half or a third of
/// the rate is left out evenly, anything else judders.
pub fn rate_advice(source: f64, wanted: f64) -> Option<String> {
    const LARGEST_DIVISOR: u32 = 8;
    let even = (1..=LARGEST_DIVISOR).any(|n| (source / f64::from(n) - wanted).abs() < SAME_RATE);
    if source <= 0.0 || even {
        return None;
    }
    let (source, wanted) = (round(source), round(wanted));
    Some(if source < wanted {
        format!(
            "the source gives {source} pictures a second, not {wanted}: set it to {wanted}, or [video] fps to {source}"
        )
    } else {
        format!(
            "{source} pictures a second do not go evenly into {wanted}, and move in jerks: set the source to {wanted}"
        )
    })
}

/// To two digits: 29.97 and 30.
fn round(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_does_not_fit_is_told() {
        for (source, wanted) in [
            (30.0, 30.0),
            (29.97, 30.0),
            (60.0, 30.0),
            (59.94, 30.0),
            (50.0, 25.0),
            (60.0, 10.0),
            // Not known.
            (0.0, 30.0),
        ] {
            assert_eq!(rate_advice(source, wanted), None, "{source} for {wanted}");
        }
        for (source, wanted, beginning) in [
            (25.0, 30.0, "the source gives 25 pictures a second, not 30"),
            (23.976, 30.0, "the source gives 23.98 pictures a second"),
            (50.0, 30.0, "50 pictures a second do not go evenly into 30"),
            (60.0, 50.0, "60 pictures a second do not go evenly into 50"),
        ] {
            let advice = rate_advice(source, wanted).unwrap();
            assert!(advice.starts_with(beginning), "{advice}");
        }
    }

    /// Which offer is chosen: with the decoder of JPEG in software, and in hardware.
    #[track_caller]
    fn check(
        offers: &[(Pixels, u32, u32, f64)],
        (width, height, fps): (u32, u32, f64),
        expected: [usize; 2],
    ) {
        let offers: Vec<Offer> = offers
            .iter()
            .map(|&(pixels, width, height, fps)| Offer {
                pixels,
                width,
                height,
                fps,
            })
            .collect();
        let chosen = [false, true].map(|hardware| choose(&offers, width, height, fps, hardware));
        assert_eq!(chosen, expected.map(|it| Some(offers[it])));
    }

    #[test]
    fn the_viewers_come_first_then_the_processor() {
        use Pixels::{Mjpeg, Nv12, Raw};
        // The table of an MS2109: raw 720p crawls.
        let ms2109 = [
            (Raw, 1920, 1080, 5.0),
            (Raw, 1280, 720, 10.0),
            (Raw, 640, 480, 30.0),
            (Mjpeg, 1920, 1080, 30.0),
            (Mjpeg, 1280, 720, 60.0),
            (Mjpeg, 640, 480, 60.0),
        ];
        check(&ms2109, (1920, 1080, 30.0), [3, 3]);
        check(&ms2109, (640, 480, 30.0), [2, 2]);
        check(&ms2109, (1280, 720, 10.0), [1, 1]);
        // Decoding 60 pictures of 720p costs less than decoding 30 of 1080p and scaling them.
        check(&ms2109, (1280, 720, 30.0), [4, 4]);
        let hd = (1280, 720, 30.0);
        // On USB 3 raw is there, and cheaper, also where decoding costs nothing: the colours of JPEG are computed anew.
        check(
            &[(Mjpeg, 1280, 720, 30.0), (Raw, 1280, 720, 30.0)],
            hd,
            [1, 1],
        );
        // Where raw has to be scaled, it depends on who decodes.
        check(
            &[(Raw, 1920, 1080, 30.0), (Mjpeg, 1280, 720, 30.0)],
            hd,
            [0, 1],
        );
        check(
            &[(Raw, 1280, 720, 60.0), (Mjpeg, 1280, 720, 30.0)],
            hd,
            [0, 0],
        );
        check(
            &[(Nv12, 1280, 720, 30.0), (Raw, 1280, 720, 30.0)],
            hd,
            [1, 1],
        );
        check(
            &[(Mjpeg, 1280, 720, 30.0), (Nv12, 1280, 720, 30.0)],
            hd,
            [1, 1],
        );
        // 29.97 is 30.
        check(
            &[(Raw, 1280, 720, 29.97), (Mjpeg, 1280, 720, 30.0)],
            hd,
            [0, 0],
        );
        // Too small at the right rate is better than jerky.
        check(&[(Raw, 1280, 720, 10.0), (Raw, 640, 360, 30.0)], hd, [1, 1]);
        assert_eq!(choose(&[], 1280, 720, 30.0, true), None);
    }
}
