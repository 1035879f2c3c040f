//! Whether a card's pictures come whole. Over a bad cable pieces are missing, and what a decoder makes of the rest is grey from there on.
//!
//! The kernel marks what it knows to be broken (`V4L2_BUF_FLAG_ERROR`), and since 6.14 hands it on. A JPEG tells by itself where its
//! beginning or its end is missing. What is wrong in between is shown: no decoder at hand says so.
//!
//! A mark and a missing end mean something only of a card whose pictures mostly are without the one and have the other. Of others, and
//! while most come broken, they are shown as they come: a picture that is half grey says more than slate.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A JPEG's first and last two bytes (ITU-T T.81, B.1.1.3).
const BEGIN: [u8; 2] = [0xff, 0xd8];
const END: [u8; 2] = [0xff, 0xd9];
/// The segment behind which its pixels begin (B.2.3).
const SCAN: u8 = 0xda;
/// Frame headers, which have its size, and what lies among their numbers and is none (B.1.1.3).
const FRAMES: RangeInclusive<u8> = 0xc0..=0xcf;
const NO_FRAMES: [u8; 3] = [0xc4, 0xc8, 0xcc];
/// Pixels that no card's picture is longer on one side. A size of its own is no fault, as of a source that has changed; but a decoder
/// believes it, and for 65,535 × 65,535 it asks 6 GB.
const LONGEST: u16 = 4096;

/// Of the last 32 pictures more than so many have to be whole for another to be left out. So no more than 16 in a row are: at 30 a second
/// that is half of one, and slate begins after 0.8. Of a card that sends fewer than 20, slate stands for a moment where all break at once.
const HALF: u32 = 16;

/// So long pictures are counted before anything is said of them,
const SPAN: Duration = Duration::from_secs(10);
/// unless so many were broken before: a life that ends early has told by then.
const SOON: u32 = 30;
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
    unmarked: Measure,
    ends: Measure,
    since: Option<Duration>,
    pictures: u32,
    broken: u32,
    share: Option<u32>,
}

impl Wholeness {
    /// Whether a picture, captured at this time, is to be shown: it is whole, as far as that can be told, or most are not.
    pub fn push(&mut self, at: Duration, coded: Coded<'_>) -> bool {
        let mut found = self.unmarked.push(!coded.marked);
        if let Some(jpeg) = coded.jpeg {
            found = found.max(match jpeg.strip_prefix(&BEGIN) {
                Some(segments) if !is_too_large(segments) => self.ends.push(ends(segments)),
                // Nothing shows a JPEG without its beginning, and nothing should try such a one.
                _ => Found::LeftOut,
            });
        }
        self.count(at, found != Found::Whole);
        found != Found::LeftOut
    }

    fn count(&mut self, at: Duration, broken: bool) {
        self.pictures += 1;
        self.broken += u32::from(broken);
        let since = *self.since.get_or_insert(at);
        let over = at.saturating_sub(since) >= SPAN;
        if over || (broken && self.broken == SOON) {
            let share = (self.broken * 100).div_ceil(self.pictures);
            self.share = Some(if share >= MANY { share } else { 0 });
        }
        if over {
            (self.since, self.pictures, self.broken) = (Some(at), 0, 0);
        }
    }

    /// How many of a hundred were broken of late; 0 where it is not worth a word, and `None` where it is too early to say.
    pub fn share(&self) -> Option<u32> {
        self.share
    }
}

/// What is found of a picture; what is worst of two measures holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    Whole,
    /// Broken, and shown: most are.
    Shown,
    LeftOut,
}

/// How the last 32 pictures were by one measure: a bit each, set where it was whole. Those that have not come count as broken.
#[derive(Debug, Default)]
struct Measure {
    last: u32,
    /// Most were whole at some time: what is not is broken, and no habit of the card.
    known: bool,
}

impl Measure {
    fn push(&mut self, whole: bool) -> Found {
        let most = self.last.count_ones() > HALF;
        self.last = self.last << 1 | u32::from(whole);
        self.known |= most;
        match whole {
            false if most => Found::LeftOut,
            false if self.known => Found::Shown,
            _ => Found::Whole,
        }
    }
}

/// The segments of a JPEG behind its beginning, up to its pixels' one: the marker, and what stands behind it.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = Some(jpeg);
    std::iter::from_fn(move || {
        let mut at = rest.take()?;
        // One may be filled up in front (B.1.1.2).
        while let [0xff, 0xff, ..] = at {
            at = &at[1..];
        }
        let [0xff, marker, behind @ ..] = at else {
            return None;
        };
        if *marker != SCAN {
            let length = (behind.first_chunk()).map(|it| u16::from_be_bytes(*it).into());
            rest = length.and_then(|length: usize| behind.get(length.max(2)..));
        }
        Some((*marker, behind))
    })
}

/// Whether a JPEG has its end, behind the pixels' beginning: an APP segment may have one of its own, in a thumbnail or in the H.264 that
/// some cameras put there (UVC 1.1). Within pixels there is none (B.1.1.5). All of them are searched, from the end: some cards fill up
/// what is behind it, with up to the rest of a buffer.
fn ends(jpeg: &[u8]) -> bool {
    let scan = segments(jpeg).find(|(marker, _)| *marker == SCAN);
    scan.is_some_and(|(_, pixels)| pixels.windows(2).rev().any(|pair| pair == END))
}

/// Whether a JPEG says that it has a size that no card's picture has (B.2.2).
fn is_too_large(jpeg: &[u8]) -> bool {
    let is_frame = |marker: u8| FRAMES.contains(&marker) && !NO_FRAMES.contains(&marker);
    let sides = segments(jpeg).filter_map(|(marker, header)| match header {
        [_, _, _, h0, h1, w0, w1, ..] if is_frame(marker) => Some([[*h0, *h1], [*w0, *w1]]),
        _ => None,
    });
    sides
        .flatten()
        .any(|side| u16::from_be_bytes(side) > LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = &[0xff, 0xd8, 0xff, 0xda, 0, 3, 9, 1, 2, 3, 0xff, 0xd9];
    const FILLED: &[u8] = &[0xff, 0xd8, 0xff, 0xda, 0, 3, 9, 1, 0xff, 0xd9, 0, 0, 0];
    const ENDLESS: &[u8] = &[0xff, 0xd8, 0xff, 0xda, 0, 3, 9, 1, 2, 3];
    const HEADLESS: &[u8] = &[3, 0xff, 0xd9];
    const EMPTY: &[u8] = &[];
    /// In front of its pixels it has a segment with an end mark in it, and one that is filled up in front.
    const THUMBNAIL: &[u8] = &[
        0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xff, 0xdb, 0, 3, 7, 0xff,
        0xda, 0, 3, 9, 1, 0xff, 0xd9,
    ];

    fn jpeg(bytes: &[u8]) -> Coded<'_> {
        Coded {
            marked: false,
            jpeg: Some(bytes),
        }
    }

    fn marked(bytes: &[u8]) -> Coded<'_> {
        Coded {
            marked: true,
            jpeg: Some(bytes),
        }
    }

    fn raw(marked: bool) -> Coded<'static> {
        Coded { marked, jpeg: None }
    }

    /// How many are shown of so many of a kind in turn.
    #[track_caller]
    fn check(coded: &[(u32, Coded<'_>)], expected: &[u32]) {
        let mut wholeness = Wholeness::default();
        let mut shown = |coded| u32::from(wholeness.push(Duration::ZERO, coded));
        let found: Vec<u32> = (coded.iter())
            .map(|&(count, coded)| (0..count).map(|_| shown(coded)).sum())
            .collect();
        assert_eq!(found, expected, "{coded:?}");
    }

    #[test]
    fn what_is_not_whole_is_known() {
        for broken in [
            ENDLESS,
            HEADLESS,
            EMPTY,
            &WHOLE[..1],
            &WHOLE[..3],
            &WHOLE[..5],
            &THUMBNAIL[..12],
        ] {
            check(
                &[(17, jpeg(WHOLE)), (1, jpeg(broken)), (1, jpeg(WHOLE))],
                &[17, 0, 1],
            );
        }
        for whole in [FILLED, THUMBNAIL] {
            check(
                &[(17, jpeg(WHOLE)), (40, jpeg(whole)), (1, jpeg(ENDLESS))],
                &[17, 40, 0],
            );
        }
        check(
            &[(17, raw(false)), (1, raw(true)), (1, raw(false))],
            &[17, 0, 1],
        );
        check(&[(17, jpeg(WHOLE)), (1, marked(WHOLE))], &[17, 0]);
        // One of three, all the time.
        let mut wholeness = Wholeness::default();
        for number in 0..300 {
            let whole = number % 3 > 0;
            let shown = wholeness.push(Duration::ZERO, jpeg(if whole { WHOLE } else { ENDLESS }));
            assert!(shown == whole || number < 30, "{number}");
        }
    }

    #[test]
    fn what_no_card_sends_is_not_decoded() {
        // A table of Huffman's, a frame header of so many rows and columns, and pixels.
        let of_size = |marker: u8, rows: u16, columns: u16| {
            let mut jpeg = vec![
                0xff, 0xd8, 0xff, 0xc4, 0, 9, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,
            ];
            jpeg.extend([0xff, marker, 0, 11, 8]);
            jpeg.extend([rows, columns].map(u16::to_be_bytes).concat());
            jpeg.extend([1, 1, 0x11, 0]);
            jpeg.extend(&WHOLE[2..]);
            jpeg
        };
        for (marker, rows, columns, shown) in [
            (0xc0, 1080, 1920, 40),
            (0xc0, 2160, 4096, 40),
            (0xc0, 65_500, 65_500, 0),
            (0xc0, 1080, 4097, 0),
            (0xc2, 65_500, 1, 0),
        ] {
            let bytes = of_size(marker, rows, columns);
            check(&[(40, jpeg(&bytes))], &[shown]);
        }
    }

    #[test]
    fn a_card_that_ends_no_picture_is_shown_though_it_once_ends_one() {
        let none = (100, jpeg(ENDLESS));
        check(&[none, (1, jpeg(WHOLE)), none], &[100, 1, 100]);
        check(&[(1, jpeg(WHOLE)), none], &[1, 100]);
        // They have no end, and another measure holds.
        check(&[none, (1, marked(ENDLESS))], &[100, 0]);
    }

    #[test]
    fn a_card_that_marks_nearly_all_is_shown() {
        let all = (100, raw(true));
        check(&[all, (1, raw(false)), all], &[100, 1, 100]);
        check(&[(1, raw(false)), all], &[1, 100]);
    }

    #[test]
    fn a_cable_that_truncates_all_for_a_while_is_shown_after_half_a_second_and_gets_better() {
        let (whole, truncated) = ((100, jpeg(WHOLE)), (100, jpeg(ENDLESS)));
        let once = (1, jpeg(ENDLESS));
        check(
            &[whole, truncated, whole, once, whole],
            &[100, 84, 100, 0, 100],
        );
    }

    const FRAME: Duration = Duration::from_nanos(33_333_334);

    /// What is said after so many pictures in turn, 30 in a second.
    #[track_caller]
    fn said(coded: &[(u32, Coded<'_>)], expected: &[Option<u32>]) {
        let mut wholeness = Wholeness::default();
        let mut at = Duration::ZERO;
        let mut found = Vec::new();
        for &(count, coded) in coded {
            for _ in 0..count {
                at += FRAME;
                wholeness.push(at, coded);
            }
            found.push(wholeness.share());
        }
        assert_eq!(found, expected, "{coded:?}");
    }

    #[test]
    fn what_is_broken_is_told_in_a_life_that_ends_early_and_what_is_a_habit_is_not() {
        let (whole, truncated) = ((70, jpeg(WHOLE)), |count| (count, jpeg(ENDLESS)));
        // 30 of the first 100; also where they are shown.
        said(
            &[whole, truncated(29), truncated(1)],
            &[None, None, Some(30)],
        );
        // All of ten seconds, while they are shown.
        said(&[whole, truncated(700)], &[None, Some(100)]);
        said(&[whole, (700, jpeg(WHOLE))], &[None, Some(0)]);
        said(
            &[truncated(100), (1, jpeg(WHOLE)), truncated(700)],
            &[None, None, Some(0)],
        );
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
        assert_eq!(after(21, 1_000), Some(0));
        assert_eq!(after(21, 150), Some(0));
        assert_eq!(after(21, 10), Some(10));
        assert_eq!(after(21, 3), Some(34));
        assert_eq!(after(21, 1_000), Some(0));
    }
}
