//! Whether a card's pictures come whole. Over a bad cable pieces are missing, and what a decoder makes of the rest is grey from there on.
//!
//! The kernel marks what it knows to be broken (`V4L2_BUF_FLAG_ERROR`), and since 6.14 hands it on. A JPEG tells by itself where its
//! beginning or its end is missing. What is wrong in between is shown: no decoder at hand says so.

use std::time::Duration;

/// A JPEG's first and last two bytes (ITU-T T.81, B.1.1.3). Neither stands within its pixels.
const BEGIN: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];

/// So long pictures are counted before anything is said of them.
const SPAN: Duration = Duration::from_secs(10);
/// Of a hundred: so many are worth a word. Fewer are hardly seen.
const MANY: u32 = 2;

/// A picture as it came.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a> {
    /// The driver says that it is broken.
    pub marked: bool,
    /// Of a JPEG, its bytes.
    pub jpeg: Option<&'a [u8]>,
}

/// Looks at the pictures of one life of a card.
#[derive(Debug, Default)]
pub struct Wholeness {
    /// Some came without a mark, and some had an end: a card that marks all, or ends none, means nothing by it.
    unmarked: bool,
    ended: bool,
    since: Option<Duration>,
    pictures: u32,
    broken: u32,
    share: u32,
}

impl Wholeness {
    /// Whether a picture, captured at this time, is whole, as far as that can be told.
    pub fn push(&mut self, at: Duration, coded: Coded<'_>) -> bool {
        self.unmarked |= !coded.marked;
        let mut whole = !(coded.marked && self.unmarked);
        if let Some(bytes) = coded.jpeg {
            // Some fill up what is behind the end.
            let ends = bytes.windows(2).rev().any(|pair| pair == END);
            self.ended |= ends;
            whole &= bytes.starts_with(&BEGIN) && (ends || !self.ended);
        }
        self.pictures += 1;
        self.broken += u32::from(!whole);
        let since = *self.since.get_or_insert(at);
        if at.saturating_sub(since) >= SPAN {
            let share = (self.broken * 100).div_ceil(self.pictures);
            self.share = if share >= MANY { share } else { 0 };
            (self.since, self.pictures, self.broken) = (Some(at), 0, 0);
        }
        whole
    }

    /// How many of a hundred were broken of late; 0 where it is not worth a word.
    pub fn share(&self) -> u32 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = &[0xff, 0xd8, 1, 2, 3, 0xff, 0xd9];
    const FILLED: &[u8] = &[0xff, 0xd8, 1, 2, 3, 0xff, 0xd9, 0, 0, 0];
    const ENDLESS: &[u8] = &[0xff, 0xd8, 1, 2, 3];
    const HEADLESS: &[u8] = &[3, 0xff, 0xd9];
    const EMPTY: &[u8] = &[];

    fn jpeg(bytes: &[u8]) -> Coded<'_> {
        Coded {
            marked: false,
            jpeg: Some(bytes),
        }
    }

    fn raw(marked: bool) -> Coded<'static> {
        Coded { marked, jpeg: None }
    }

    #[test]
    fn what_is_not_whole_is_known() {
        let check = |coded: &[Coded<'_>], expected: &[bool]| {
            let mut wholeness = Wholeness::default();
            let found: Vec<_> = (coded.iter())
                .map(|coded| wholeness.push(Duration::ZERO, *coded))
                .collect();
            assert_eq!(found, expected, "{coded:?}");
        };
        let pieces = [WHOLE, FILLED, ENDLESS, HEADLESS, EMPTY, WHOLE].map(jpeg);
        check(&pieces, &[true, true, false, false, false, true]);
        // One that never writes an end.
        check(&[jpeg(ENDLESS); 3], &[true; 3]);
        check(&[raw(false), raw(true), raw(false)], &[true, false, true]);
        check(&[raw(true); 3], &[true; 3]);
        let marked = Coded {
            marked: true,
            jpeg: Some(WHOLE),
        };
        check(&[jpeg(WHOLE), marked], &[true, false]);
    }

    /// What is said after so many seconds of 30 pictures each, of which one of `every` is broken.
    #[test]
    fn many_are_told_until_there_are_few() {
        let mut wholeness = Wholeness::default();
        let mut at = Duration::ZERO;
        let mut after = |seconds: u32, every: u32| {
            for number in 1..=seconds * 30 {
                at += Duration::from_secs(1) / 30;
                let broken = number.is_multiple_of(every);
                wholeness.push(at, jpeg(if broken { ENDLESS } else { WHOLE }));
            }
            wholeness.share()
        };
        assert_eq!(after(21, 1_000), 0);
        assert_eq!(after(21, 150), 0);
        assert_eq!(after(21, 10), 10);
        assert_eq!(after(21, 3), 34);
        assert_eq!(after(21, 1_000), 0);
    }
}
