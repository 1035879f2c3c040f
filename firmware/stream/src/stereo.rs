//! Sound that is stereo and that a card calls mono at twice the rate: which of its samples are a pair.
//!
//! An MS2109 begins with a right sample that has no left one: `R LR LR …` (ToadKing/mono-to-stereo, issue 2). Paired as they come, the
//! sides are swapped, and one of them is late by a sample; swapping them back would leave that. Linux leaves the sample out for the two
//! chips that it knows by their numbers (sound/usb/quirks.c, `stream_offset_adj`). About those that it does not know nobody has written
//! anything down but that there are both kinds (issue 4 there: the sides of some cards are swapped by leaving it out). So it is left out
//! first, as for all that are known, and then the sound itself is listened to: most of it is nearly the same on both sides, and then tells
//! when pairs are torn. Leaving out one more sample mends them, either way.

/// Bytes of a sample, and of a pair.
const SAMPLE: usize = 2;
const PAIR: usize = 2 * SAMPLE;

/// So many pairs are listened to at a time: a second.
const WINDOW: usize = 48_000;
/// So often in a row they have to be torn. What is torn for good can wait, and what only sounds so must not be torn.
const AGREE: u32 = 3;
/// Sides that are one sound are this much more alike at their own distance than at the two beside it.
const MORE: f64 = 2.0;
/// And at those they differ by more than numbers are rounded by, as a share of their power.
const ROUNDED: f64 = 1e-6;

/// Puts the samples of one life of a card into pairs.
#[derive(Debug)]
pub struct Pairs {
    /// What came and is no whole pair yet.
    rest: Vec<u8>,
    /// The next sample is left out.
    skip: bool,
    /// The left sides of the last three pairs, the newest last, and the right sides of the same.
    last: [[f64; 3]; 2],
    /// Of right samples with the left ones of their own pair, of the next and of the one after it.
    alike: [Likeness; 3],
    heard: usize,
    torn: u32,
}

impl Default for Pairs {
    fn default() -> Pairs {
        Pairs {
            rest: Vec::new(),
            skip: true,
            last: [[0.0; 3]; 2],
            alike: Default::default(),
            heard: 0,
            torn: 0,
        }
    }
}

impl Pairs {
    /// Takes samples as they came, S16LE, and returns whole pairs, left first.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.rest.extend_from_slice(bytes);
        if self.skip && self.rest.len() >= SAMPLE {
            self.skip = false;
            self.rest.drain(..SAMPLE);
        }
        let whole = self.rest.len() / PAIR * PAIR;
        let rest = self.rest.split_off(whole);
        let pairs = std::mem::replace(&mut self.rest, rest);
        for &[l0, l1, r0, r1] in pairs.as_chunks::<PAIR>().0 {
            let pair = [[l0, l1], [r0, r1]];
            self.listen(pair.map(|sample| i16::from_le_bytes(sample).into()));
        }
        pairs
    }

    fn listen(&mut self, pair: [f64; 2]) {
        for (side, sample) in self.last.iter_mut().zip(pair) {
            side.rotate_left(1);
            side[2] = sample;
        }
        let [left, right] = self.last;
        for (alike, left) in self.alike.iter_mut().zip(left) {
            alike.add(left, right[0]);
        }
        self.heard += 1;
        if self.heard == WINDOW {
            self.judge();
        }
    }

    /// A window is over.
    fn judge(&mut self) {
        let alike = std::mem::take(&mut self.alike);
        let [own, next, after] = alike.map(Likeness::differs);
        self.heard = 0;
        // Both beside it: what two microphones in a room hear is late on one side by far more than a sample, and grows more alike that way.
        if next * MORE < own.min(after) && own.min(after) > ROUNDED {
            self.torn += 1;
        } else if own * MORE < next {
            self.torn = 0;
        }
        if self.torn == AGREE {
            self.torn = 0;
            self.skip = true;
        }
    }
}

/// How alike two sounds are, whatever their levels.
#[derive(Debug, Clone, Copy, Default)]
struct Likeness {
    left: f64,
    right: f64,
    both: f64,
}

impl Likeness {
    fn add(&mut self, left: f64, right: f64) {
        self.left += left * left;
        self.right += right * right;
        self.both += left * right;
    }

    /// The share of one's power that the other does not explain: 0 where they are the same, and where there is none.
    fn differs(self) -> f64 {
        let power = self.left * self.right;
        if power == 0.0 {
            return 0.0;
        }
        (1.0 - self.both * self.both / power).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::*;

    const RATE: usize = 48_000;

    /// Something like a voice: tones that come and go.
    fn voice(n: usize) -> f64 {
        let t = n as f64 / RATE as f64;
        let tones = [(180.0, 0.5), (1230.0, 0.3), (2710.0, 0.2)];
        let swell = 1.0 + (TAU * 3.1 * t).sin();
        (tones.iter().map(|(hz, level)| (TAU * hz * t).sin() * level)).sum::<f64>()
            * swell
            * 8_000.0
    }

    /// Noise that is the same each time.
    fn noise(seed: usize, n: usize) -> f64 {
        let mut x = (n as u64 * 2 + seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x >> 48) as u16).cast_signed().into()
    }

    type Source = fn(usize) -> [f64; 2];

    /// Five seconds of a source behind `stray` samples, in pieces of uneven sizes. Which pairs were whole: the first one, and the last.
    #[track_caller]
    fn check(source: Source, stray: usize, expected: [bool; 2]) {
        let frame = |n: usize| source(n).map(|sample| sample as i16);
        let frames: Vec<[i16; 2]> = (0..5 * RATE).map(frame).collect();
        let stray = std::iter::repeat_n(77_i16, stray);
        let all = stray.chain(frames.iter().flatten().copied());
        let bytes: Vec<u8> = all.flat_map(i16::to_le_bytes).collect();
        let mut pairs = Pairs::default();
        let mut out = Vec::new();
        let mut rest = &bytes[..];
        for size in [1, 1_919, 1_920, 2, 962].into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(size.min(rest.len()));
            let given = pairs.push(now);
            assert_eq!(given.len() % PAIR, 0);
            out.extend(given);
            rest = later;
        }
        assert!(bytes.len() - out.len() <= 3 * SAMPLE, "little is lost");
        let sample = |at: usize| i16::from_le_bytes([out[at], out[at + 1]]);
        let pair = |number: usize| [sample(number * PAIR), sample(number * PAIR + SAMPLE)];
        let count = out.len() / PAIR;
        // A second, each pair of which is one of the source's at the same distance.
        let whole = |begin: usize| {
            let second = begin..(begin + RATE).min(count);
            (0..3).any(|ahead| (second.clone()).all(|n| frames.get(n + ahead) == Some(&pair(n))))
        };
        assert_eq!([whole(0), whole(count - RATE)], expected);
    }

    #[test]
    fn a_stray_sample_is_left_out_and_one_that_is_none_is_found_out() {
        let sources: [Source; 3] = [
            // One voice on both sides; a little different; louder on the left.
            |n| [voice(n); 2],
            |n| [voice(n) + noise(0, n) / 50.0, voice(n) + noise(1, n) / 50.0],
            |n| [voice(n), voice(n) * 0.8],
        ];
        for source in sources {
            check(source, 1, [true; 2]);
            check(source, 0, [false, true]);
        }
    }

    #[test]
    fn sound_that_does_not_tell_is_left_as_it_is() {
        let sources: [Source; 5] = [
            // Two languages, a room's two microphones on either side, and nothing.
            |n| [noise(0, n), noise(1, n) / 2.0],
            |n| [voice(n + 20) + 3.0, voice(n)],
            |n| [voice(n), voice(n + 20) + 3.0],
            |n| [voice(n), 0.0],
            |_| [0.0; 2],
        ];
        for (number, source) in sources.into_iter().enumerate() {
            check(source, 1, [true; 2]);
            let torn = number < 4;
            check(source, 0, [!torn; 2]);
        }
    }
}
