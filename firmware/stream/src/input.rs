//! Which of a card's formats to take.
//!
//! First what the viewers see counts, the rate before the size; then what it costs the processor, as `cost` below has it.

use std::time::Duration;

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
/// the rate is left out evenly, anything else judders. `claimed` is what the card or the signal's timings say, 0 where they do not;
/// `measured` is [`RateMeter`]'s.
pub fn rate_advice(claimed: f64, measured: Option<f64>, wanted: f64) -> Option<String> {
    const LARGEST_DIVISOR: u32 = 8;
    // What is claimed is exact, where it is true.
    let source = measured
        .filter(|measured| !close(claimed, *measured, MEASURED_AS_CLAIMED))
        .map_or(claimed, nominal);
    let even = (1..=LARGEST_DIVISOR).any(|n| (source / f64::from(n) - wanted).abs() < SAME_RATE);
    if source <= 0.0 || even {
        return None;
    }
    let (source, wanted) = (round(source), round(wanted));
    Some(if source < wanted {
        let fps = source.round();
        let slower = match fps >= LEAST_FPS && (source - fps).abs() < SAME_RATE {
            true => format!(", or [video] fps to {fps}"),
            false => String::new(),
        };
        format!(
            "the source gives {source} pictures a second, not {wanted}: set it to {wanted}{slower}"
        )
    } else {
        format!(
            "{source} pictures a second do not go evenly into {wanted}, and move in jerks: set the source to {wanted}"
        )
    })
}

/// The least that `[video] fps` takes.
const LEAST_FPS: f64 = 9.0;

/// A measured rate may be off by so much of itself. 24 and 25 are further apart; 29.97 and 30 are not told apart.
const MEASURED_AS_CLAIMED: f64 = 0.02;

fn close(a: f64, b: f64, share: f64) -> bool {
    (a - b).abs() <= share * b
}

/// Sources have whole rates, or nearly: 24 of a measured 23.97.
fn nominal(measured: f64) -> f64 {
    let whole = measured.round();
    if close(measured, whole, MEASURED_AS_CLAIMED / 2.0) {
        whole
    } else {
        (measured * 10.0).round() / 10.0
    }
}

/// Measures at which rate a card captures, by its own timestamps: a stick may claim 30 pictures a second and pass on the 24 that its
/// source sends. Pictures that the box was too slow to fetch do not count against the source, nor does a pause.
#[derive(Debug, Default)]
pub struct RateMeter {
    /// Timestamp and number of the last picture.
    last: Option<(Duration, Option<u64>)>,
    /// Begin of the measurement that runs.
    since: Duration,
    /// What lay between its pictures.
    intervals: Vec<Duration>,
    /// What the last measurements found, the newest last.
    found: [f64; RateMeter::AGREE],
    rate: Option<f64>,
}

impl RateMeter {
    /// One measurement. The kernel stamps a USB card's pictures some milliseconds early or late.
    const SPAN: Duration = Duration::from_secs(2);
    /// So many measurements in a row have to agree.
    const AGREE: usize = 3;
    /// Of themselves.
    const AGREED: f64 = 0.01;
    /// Fewer intervals than these are no rate.
    const LEAST: usize = 4;

    /// Takes a captured picture: the time at which it was, and its number as the driver counts them, those that nobody fetched as well.
    /// Returns the rate, pictures a second, once it is steady; it stays until it is steadily another one.
    pub fn push(&mut self, at: Duration, number: Option<u64>) -> Option<f64> {
        let last = self.last.replace((at, number));
        let passed = last.and_then(|(last, _)| at.checked_sub(last));
        let Some(passed) = passed.filter(|passed| !passed.is_zero()) else {
            // Time does not go back: another life of the card.
            self.since = at;
            self.intervals.clear();
            return self.rate;
        };
        let counted = last.and_then(|(_, last)| number?.checked_sub(last?));
        let pictures = counted.and_then(|it| u32::try_from(it).ok()).unwrap_or(1);
        self.intervals.push(passed / pictures.max(1));
        if at.saturating_sub(self.since) >= Self::SPAN {
            self.since = at;
            self.measured();
        }
        self.rate
    }

    /// A measurement is complete.
    fn measured(&mut self) {
        let mut intervals = std::mem::take(&mut self.intervals);
        intervals.sort_unstable();
        let Some(median) = intervals.get(intervals.len() / 2).copied() else {
            return;
        };
        // A cadence like 2:3 has two kinds of intervals, to which their mean does justice. What is longer is a pause, or a picture is
        // missing that nobody counted.
        intervals.retain(|interval| *interval <= median * 7 / 4);
        if intervals.len() < Self::LEAST {
            return;
        }
        let sum: Duration = intervals.iter().sum();
        let rate = intervals.len() as f64 / sum.as_secs_f64();
        self.found.rotate_left(1);
        self.found[Self::AGREE - 1] = rate;
        let agree = (self.found.iter()).all(|it| close(*it, rate, Self::AGREED));
        let known = |known: f64| close(known, rate, MEASURED_AS_CLAIMED);
        if agree && !self.rate.is_some_and(known) {
            self.rate = Some(rate);
        }
    }
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
            let advice = rate_advice(source, None, wanted);
            assert_eq!(advice, None, "{source} for {wanted}");
        }
        for (source, wanted, beginning) in [
            (25.0, 30.0, "the source gives 25 pictures a second, not 30"),
            (23.976, 30.0, "the source gives 23.98 pictures a second"),
            (50.0, 30.0, "50 pictures a second do not go evenly into 30"),
            (60.0, 50.0, "60 pictures a second do not go evenly into 50"),
        ] {
            let advice = rate_advice(source, None, wanted).unwrap();
            assert!(advice.starts_with(beginning), "{advice}");
        }
    }

    #[test]
    fn what_is_measured_counts_where_it_is_not_what_is_claimed() {
        for (claimed, measured) in [(30.0, 29.6), (30.0, 60.2), (0.0, 30.1), (29.97, 30.3)] {
            let advice = rate_advice(claimed, Some(measured), 30.0);
            assert_eq!(advice, None, "{measured} for {claimed}");
        }
        for (claimed, measured, expected) in [
            (
                30.0,
                23.97,
                "the source gives 24 pictures a second, not 30: set it to 30, or [video] fps to 24",
            ),
            // Less than the box can be set to.
            (
                30.0,
                5.01,
                "the source gives 5 pictures a second, not 30: set it to 30",
            ),
            (
                60.0,
                12.52,
                "the source gives 12.5 pictures a second, not 30: set it to 30",
            ),
            (
                30.0,
                49.9,
                "50 pictures a second do not go evenly into 30, and move in jerks: set the source to 30",
            ),
            // Said as it is claimed.
            (
                23.976,
                24.1,
                "the source gives 23.98 pictures a second, not 30: set it to 30, or [video] fps to 24",
            ),
        ] {
            let advice = rate_advice(claimed, Some(measured), 30.0);
            assert_eq!(advice.as_deref(), Some(expected));
        }
    }

    /// Pictures that a card captures: when, and their numbers.
    fn pictures(seconds: u64, fps: f64) -> impl Iterator<Item = (Duration, u64)> {
        // The kernel's stamps are off by up to 4 ms.
        let jitter = |number: u64| (number * 7919 % 9) as f64 / 1000.0;
        (0..(seconds as f64 * fps) as u64)
            .map(move |number| (number as f64 / fps + jitter(number), number))
            .map(|(at, number)| (Duration::from_secs_f64(at), number))
    }

    /// What a meter says in the end of pictures of which some are lost, where the driver counts them and where it does not.
    #[track_caller]
    fn check_rate(fps: f64, lost: impl Fn(u64) -> bool, expected: [Option<f64>; 2]) {
        let found = [true, false].map(|counts| {
            let mut meter = RateMeter::default();
            (pictures(20, fps).filter(|(_, number)| !lost(*number)))
                .map(|(at, number)| meter.push(at, counts.then_some(number)))
                .fold(None, |_, rate| rate)
        });
        for (found, expected) in found.into_iter().zip(expected) {
            match (found, expected) {
                (Some(found), Some(expected)) => {
                    assert!(close(found, expected, 0.01), "{found} for {fps}");
                }
                _ => assert_eq!(found, expected, "{fps}"),
            }
        }
    }

    #[test]
    fn the_rate_is_that_of_the_card_however_few_pictures_the_box_fetches() {
        for fps in [5.0, 10.0, 23.976, 25.0, 30.0, 59.94] {
            let both = [Some(fps); 2];
            check_rate(fps, |_| false, both);
            // One in seven, and one second in five.
            check_rate(fps, |number| number % 7 == 0, [Some(fps); 2]);
            check_rate(fps, |number| (number as f64 / fps) as u64 % 5 == 4, both);
        }
        // Two in three: only who counts knows.
        check_rate(30.0, |number| number % 3 > 0, [Some(30.0), Some(10.0)]);
        // Far too few to say.
        check_rate(1.0, |_| false, [None; 2]);
    }

    #[test]
    fn pictures_on_the_grid_of_another_rate_are_measured() {
        let mut meter = RateMeter::default();
        // 24 a second on the grid of 60: two and three of its steps.
        let rate = (0..480)
            .map(|number| (number * 5 / 2, number))
            .map(|(step, number)| (Duration::from_secs(1) * step / 60, number))
            .fold(None, |_, (at, number)| meter.push(at, Some(number.into())));
        assert!(close(rate.unwrap(), 24.0, 0.01), "{rate:?}");
    }

    #[test]
    fn a_rate_is_said_when_it_is_steady_and_does_not_waver() {
        let mut meter = RateMeter::default();
        let mut said = Vec::new();
        let mut begin = Duration::ZERO;
        let mut feed = |meter: &mut RateMeter, seconds, fps| {
            for (at, _) in pictures(seconds, fps) {
                let rate = meter.push(begin + at, None).map(f64::round);
                if said.last() != Some(&rate) {
                    said.push(rate);
                }
            }
            begin += Duration::from_secs(seconds);
        };
        // A cable that is being put in, then a minute within the error, and a change that lasts.
        for fps in [5.0, 60.0, 12.0] {
            feed(&mut meter, 3, fps);
        }
        for fps in [24.0, 24.3, 23.8, 24.2] {
            feed(&mut meter, 15, fps);
        }
        feed(&mut meter, 3, 50.0);
        feed(&mut meter, 15, 24.0);
        feed(&mut meter, 15, 30.0);
        assert_eq!(said, [None, Some(24.0), Some(30.0)]);
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
