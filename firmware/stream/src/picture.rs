//! What the picture at the input says by itself: black, or standing still.
//!
//! Both are noticed and shown, never replaced: a black picture may be meant, and a slide stands still for as long as its
//! speaker wants. [`PictureWatch`] looks at one [`LumaGrid`] about every 100 ms.

use std::time::Duration;

/// Columns and rows of a grid.
pub const TILES: (usize, usize) = (64, 36);

/// Mean luma of each tile of a picture, row by row; video range, black is 16 (ITU-R BT.709, 4.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LumaGrid(Box<[u8]>);

/// How far two pictures differ, in steps of luma.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// Over all tiles.
    pub mean: f32,
    /// Of the tile that differs most.
    pub greatest: u8,
}

impl LumaGrid {
    /// `tile` gives the mean luma at a column and a row.
    pub fn new(mut tile: impl FnMut(usize, usize) -> u8) -> LumaGrid {
        let (columns, rows) = TILES;
        LumaGrid(
            (0..columns * rows)
                .map(|i| tile(i % columns, i / columns))
                .collect(),
        )
    }

    /// Mean luma of the picture.
    pub fn mean(&self) -> f32 {
        self.0.iter().map(|&luma| f32::from(luma)).sum::<f32>() / self.0.len() as f32
    }

    pub fn change(&self, other: &LumaGrid) -> Change {
        let (mut sum, mut greatest) = (0, 0);
        for (a, b) in self.0.iter().zip(&other.0) {
            let differ = a.abs_diff(*b);
            sum += u32::from(differ);
            greatest = greatest.max(differ);
        }
        Change {
            mean: sum as f32 / self.0.len() as f32,
            greatest,
        }
    }

    /// Whether almost all of it is black, as ffmpeg's `blackdetect` judges by default: 98 % below a tenth of the range.
    fn is_black(&self) -> bool {
        const DARK: u8 = 16 + 219 / 10;
        let dark = self.0.iter().filter(|&&luma| luma <= DARK).count();
        dark * 100 >= self.0.len() * 98
    }
}

/// What [`PictureWatch`] has noticed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Seen {
    pub black: bool,
    pub frozen: bool,
    /// Mean luma.
    pub luma: f32,
}

/// Watches the pictures of one input; a new input needs a new one.
#[derive(Debug, Default)]
pub struct PictureWatch {
    black: bool,
    /// Since when the picture is not what `black` says.
    otherwise: Option<Duration>,
    /// The picture that has stood since then.
    still: Option<(LumaGrid, Duration)>,
    last: Option<LumaGrid>,
    /// When the picture last was [busy](Self::BUSY).
    busy: Option<Duration>,
}

impl PictureWatch {
    /// As ffmpeg's `blackdetect` by default: a cut through black is shorter.
    pub const BLACK_AFTER: Duration = Duration::from_secs(2);
    /// A flash in the dark is shorter.
    pub const BRIGHT_AFTER: Duration = Duration::from_secs(1);
    /// ffmpeg's `freezedetect` takes 2 s by default, which a slide outlasts; what stands for longer than most slides is worth
    /// a word.
    pub const FROZEN_AFTER: Duration = Duration::from_secs(120);
    /// Mean change that is noise, as in `freezedetect` by default: -60 dB of full scale.
    const NOISE: f32 = 255.0 / 1000.0;
    /// Change of a single tile that is noise. More is a clock or a pointer, which the mean does not show.
    const TILE_NOISE: u8 = 3;
    /// Mean change within 100 ms that only cuts, confetti and noise reach; a person who walks through the picture makes 3.
    pub const BUSY: f32 = 10.0;
    /// For so long a busy picture explains a large segment: it takes that until it is encoded, cut and stored.
    const BUSY_FOR: Duration = Duration::from_secs(15);

    /// Takes the picture of a moment (monotonic, since the start).
    pub fn push(&mut self, now: Duration, grid: LumaGrid) -> Seen {
        if grid.is_black() == self.black {
            self.otherwise = None;
        } else {
            let since = *self.otherwise.get_or_insert(now);
            let after = if self.black {
                Self::BRIGHT_AFTER
            } else {
                Self::BLACK_AFTER
            };
            if now.saturating_sub(since) >= after {
                self.black = !self.black;
                self.otherwise = None;
            }
        }
        if let Some(last) = &self.last
            && grid.change(last).mean >= Self::BUSY
        {
            self.busy = Some(now);
        }
        let luma = grid.mean();
        let since = match &self.still {
            Some((picture, since)) if Self::same(picture, &grid) => *since,
            _ => {
                self.still = Some((grid.clone(), now));
                now
            }
        };
        self.last = Some(grid);
        Seen {
            black: self.black,
            frozen: now.saturating_sub(since) >= Self::FROZEN_AFTER,
            luma,
        }
    }

    /// Whether so much has moved lately that an encoder may not keep its rate.
    pub fn busy(&self, now: Duration) -> bool {
        self.busy
            .is_some_and(|busy| now.saturating_sub(busy) < Self::BUSY_FOR)
    }

    /// Against the first picture that stood, not the one before: what creeps is not frozen.
    fn same(a: &LumaGrid, b: &LumaGrid) -> bool {
        let change = a.change(b);
        change.mean <= Self::NOISE && change.greatest <= Self::TILE_NOISE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(luma: u8) -> LumaGrid {
        LumaGrid::new(|_, _| luma)
    }

    /// A grid with one tile of its own.
    fn with(luma: u8, own: u8) -> LumaGrid {
        LumaGrid::new(|x, y| if (x, y) == (60, 2) { own } else { luma })
    }

    /// Until when (tenths of a second), the picture of each tenth, and whether it is noticed as black and frozen at the end.
    type Row = (u64, fn(u64) -> LumaGrid, (bool, bool));

    /// Pushes ten pictures a second.
    fn check(rows: &[Row]) {
        let mut watch = PictureWatch::default();
        let mut tenth = 0;
        for (until, picture, expected) in rows {
            let mut seen = Seen::default();
            while tenth < *until {
                tenth += 1;
                seen = watch.push(Duration::from_millis(tenth * 100), picture(tenth));
            }
            assert_eq!((seen.black, seen.frozen), *expected, "at {tenth} tenths");
        }
    }

    #[test]
    fn black_takes_two_seconds_and_does_not_flap() {
        let bright = |tenth| flat(100 + (tenth % 2) as u8);
        check(&[
            (50, bright, (false, false)),
            (70, |_| flat(16), (false, false)),
            (71, |_| flat(16), (true, false)),
            // A flash in the dark.
            (76, |_| flat(200), (true, false)),
            (90, |_| flat(37), (true, false)),
            (100, bright, (true, false)),
            (101, bright, (false, false)),
            // A cut through black.
            (119, |_| flat(20), (false, false)),
            (130, bright, (false, false)),
        ]);
    }

    #[test]
    fn a_few_white_words_on_black_are_a_picture() {
        // 46 tiles are 2 %.
        let words =
            |tiles: usize| LumaGrid::new(move |x, y| if y == 0 && x < tiles { 200 } else { 16 });
        assert!(words(46).is_black());
        assert!(!words(47).is_black());
        assert!(!flat(38).is_black());
    }

    #[test]
    fn what_stands_still_for_two_minutes_is_frozen_and_a_clock_on_a_slide_is_not() {
        check(&[
            (1200, |_| flat(90), (false, false)),
            (1201, |_| flat(90), (false, true)),
            // The noise of a converter.
            (
                1300,
                |tenth| with(90, 90 + (tenth % 4) as u8),
                (false, true),
            ),
            // A digit that changes once a minute, in one tile of 2304.
            (
                5000,
                |tenth| with(90, 100 + (tenth / 600) as u8 * 4),
                (false, false),
            ),
            (6200, |_| flat(80), (false, false)),
            (6201, |_| flat(80), (false, true)),
            (6202, |_| flat(82), (false, false)),
            // Creeps by less than the noise, and is not frozen.
            (
                9000,
                |tenth| flat(((tenth / 100) % 200) as u8 + 16),
                (false, false),
            ),
        ]);
    }

    #[test]
    fn a_cut_is_busy_for_a_while_and_a_walk_through_the_picture_is_not() {
        let at = |tenth: u64| Duration::from_millis(tenth * 100);
        let mut watch = PictureWatch::default();
        watch.push(at(1), flat(50));
        watch.push(at(2), flat(53));
        assert!(!watch.busy(at(2)));
        watch.push(at(3), flat(150));
        assert!(watch.busy(at(3)));
        assert!(watch.busy(at(152)));
        assert!(!watch.busy(at(153)));
    }

    #[test]
    fn a_change_is_told_by_its_mean_and_its_greatest() {
        let change = flat(100).change(&with(101, 120));
        assert_eq!(change.greatest, 20);
        assert!((change.mean - 1.008).abs() < 0.001, "{change:?}");
        assert_eq!(flat(77).mean(), 77.0);
    }
}
