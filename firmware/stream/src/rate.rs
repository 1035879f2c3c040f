//! The promise about sizes: a video segment has at most 1.25 times its nominal size. Rate control keeps it; what breaks it
//! is announced with its cause where the cause can be known.

use std::time::Duration;

use serde::Serialize;

/// A segment may have this many hundredths of its nominal size: bitrate times nominal length.
pub const BOUND_PERCENT: u32 = 125;

/// After a change of the bitrate, segments that may hold pictures from before it: the open one, and one that is on its way.
const CHANGING: u8 = 2;

/// Why a segment is larger than promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// Its bitrate is as promised, but the picture that should end it came late.
    Long,
    /// Most of it was made before the bitrate was lowered.
    Lowered,
    /// Cuts, noise or confetti: more than the encoder can press into the bitrate.
    Busy,
    /// None of these: the encoder does not keep to its bitrate.
    Encoder,
}

/// A segment that is larger than promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Oversize {
    /// Of the nominal size.
    pub percent: u32,
    pub cause: Cause,
}

/// Watches the sizes of one broadcast's video segments.
#[derive(Debug, Clone, Copy)]
pub struct SizeWatch {
    segment: Duration,
    kbps: u32,
    /// The highest bitrate that the next segments may hold pictures of, and how many these are.
    before: Option<(u32, u8)>,
}

impl SizeWatch {
    /// `segment` is the nominal length, `kbps` the nominal bitrate.
    pub fn new(segment: Duration, kbps: u32) -> SizeWatch {
        SizeWatch {
            segment,
            kbps,
            before: None,
        }
    }

    /// The bitrate is another one from now on.
    pub fn set(&mut self, kbps: u32) {
        let before = self
            .before
            .map_or(self.kbps, |(before, _)| before.max(self.kbps));
        self.before = Some((before, CHANGING));
        self.kbps = kbps;
    }

    /// Judges the next segment. `busy` says whether its pictures may have been too much for an encoder.
    pub fn check(&mut self, bytes: u64, duration: Duration, busy: bool) -> Option<Oversize> {
        let before = self.before.map(|(kbps, _)| kbps);
        self.before = (self.before)
            .map(|(kbps, segments)| (kbps, segments - 1))
            .filter(|(_, segments)| *segments > 0);
        let percent = |kbps: u32, length: Duration| {
            // kbit/s times milliseconds are bits.
            let bits = u128::from(kbps) * length.as_millis();
            u32::try_from((u128::from(bytes) * 800).div_ceil(bits.max(1))).unwrap_or(u32::MAX)
        };
        let of_nominal = percent(self.kbps, self.segment);
        if of_nominal <= BOUND_PERCENT {
            return None;
        }
        let within = |kbps, length| percent(kbps, length) <= BOUND_PERCENT;
        let cause = if within(self.kbps, duration) {
            Cause::Long
        } else if before.is_some_and(|before| within(before, self.segment.max(duration))) {
            Cause::Lowered
        } else if busy {
            Cause::Busy
        } else {
            Cause::Encoder
        };
        Some(Oversize {
            percent: of_nominal,
            cause,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Duration = Duration::from_secs(2);

    /// Bytes of `percent` of two seconds at `kbps`.
    fn bytes(kbps: u64, percent: u64) -> u64 {
        kbps * 1000 * 2 / 8 * percent / 100
    }

    #[test]
    fn a_segment_above_the_bound_is_announced_with_its_cause() {
        let check = |size, seconds, busy, expected: Option<(u32, Cause)>| {
            let mut watch = SizeWatch::new(SEGMENT, 1000);
            let found = watch.check(size, Duration::from_secs_f64(seconds), busy);
            let found = found.map(|it| (it.percent, it.cause));
            assert_eq!(found, expected, "{size} bytes, {seconds} s");
        };
        check(bytes(1000, 100), 2.0, false, None);
        check(bytes(1000, 125), 2.0, true, None);
        check(
            bytes(1000, 125) + 1,
            2.0,
            false,
            Some((126, Cause::Encoder)),
        );
        check(bytes(1000, 140), 2.0, true, Some((140, Cause::Busy)));
        // The rate is what was promised, for longer.
        check(bytes(1000, 140), 2.4, true, Some((140, Cause::Long)));
        check(bytes(1000, 200), 2.4, false, Some((200, Cause::Encoder)));
        // A run's last segment may be short, and then its rate says nothing.
        check(bytes(1000, 20), 0.1, false, None);
        check(0, 0.0, false, None);
    }

    #[test]
    fn a_bitrate_that_was_lowered_explains_two_segments() {
        let mut watch = SizeWatch::new(SEGMENT, 3000);
        let check =
            |watch: &mut SizeWatch, size| watch.check(size, SEGMENT, false).map(|it| it.cause);
        assert_eq!(check(&mut watch, bytes(3000, 110)), None);
        watch.set(1000);
        assert_eq!(check(&mut watch, bytes(3000, 110)), Some(Cause::Lowered));
        assert_eq!(check(&mut watch, bytes(1000, 160)), Some(Cause::Lowered));
        assert_eq!(check(&mut watch, bytes(1000, 160)), Some(Cause::Encoder));
        // The bound follows upwards at once.
        watch.set(6000);
        assert_eq!(check(&mut watch, bytes(6000, 120)), None);
        // Lowered twice in a row: the first still explains.
        watch.set(3000);
        watch.set(500);
        assert_eq!(check(&mut watch, bytes(6000, 100)), Some(Cause::Lowered));
    }

    #[test]
    fn nothing_divides_by_zero() {
        let mut watch = SizeWatch::new(Duration::ZERO, 0);
        assert!(watch.check(u64::MAX / 2, Duration::ZERO, false).is_some());
    }
}
