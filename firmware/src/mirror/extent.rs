//! How far back a mirror has the newest broadcast.
//!
//! Viewers wait for the live window, so that comes first, and what was published before it, or while the mirror was away, afterwards:
//! from the window backwards, a few segments at a time, so that what is new waits a moment at most.
//!
//! ```text
//! window taken, begins where the stored ends ──▶ Complete ──store full──▶ Cut
//!        └──begins later──▶ Filling ──all is here──▶ Complete             ▲ trims itself
//!                              └──────────store full, or it is gone───────┘
//! ```

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use node::Want;
use stream::publication::segments_in;

/// Segments fetched at a time.
const FEWEST: u64 = 4;
const MOST: u64 = 256;
/// How long these may take: so much later comes what is new meanwhile.
const QUICK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(2);
/// This part of what there is before the window goes in one go.
const TRIM: u64 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// What is stored is not known to have no holes.
    Unknown,
    /// All is here.
    Complete,
    /// All from this segment on is here; what is before it is being fetched, so many at a time.
    Filling { from: u64, step: u64 },
    /// All from this segment on is here, and no more will be.
    Cut { from: u64 },
}

impl Extent {
    /// What to take of a newer root; `after_hole` where its playlists do not go on from what is stored.
    pub(super) fn newest(self, after_hole: bool) -> Scope {
        match self {
            Extent::Complete if !after_hole => Scope::EVERYTHING,
            Extent::Filling { from, .. } | Extent::Cut { from } if !after_hole => Scope {
                from,
                ..Scope::WINDOW
            },
            _ => Scope::WINDOW,
        }
    }

    /// After a root of the broadcast was taken over whose playlists list all from `window` on, `whole` or after a hole.
    pub(super) fn taken(self, window: u64, whole: bool, after_hole: bool) -> Extent {
        match self {
            _ if whole => Extent::Complete,
            Extent::Filling { .. } | Extent::Cut { .. } if !after_hole => self,
            Extent::Cut { .. } => Extent::Cut { from: window },
            _ => Extent::Filling {
                from: window,
                step: FEWEST,
            },
        }
    }

    /// What to fetch next of what is before; `first` is the number of the broadcast's first segment, at the least.
    pub(super) fn next(self, first: u64) -> Option<Scope> {
        let Extent::Filling { from, step } = self else {
            return None;
        };
        let next = from.saturating_sub(step);
        Some(match next <= first {
            true => Scope {
                looks_at: Some(0..from),
                ..Scope::EVERYTHING
            },
            false => Scope {
                from: next,
                looks_at: Some(next..from),
                ..Scope::WINDOW
            },
        })
    }

    /// What [`Extent::next`] has named is here, after so long.
    pub(super) fn filled(self, scope: &Scope, took: Duration) -> Extent {
        match self {
            Extent::Filling { .. } if scope.from == 0 => Extent::Complete,
            Extent::Filling { step, .. } => Extent::Filling {
                from: scope.from,
                step: match took {
                    _ if took < QUICK => step * 2,
                    _ if took > SLOW => step / 2,
                    _ => step,
                }
                .clamp(FEWEST, MOST),
            },
            _ => self,
        }
    }

    /// It took too long.
    pub(super) fn hurries(self) -> Extent {
        match self {
            Extent::Filling { from, step } => Extent::Filling {
                from,
                step: (step / 2).max(FEWEST),
            },
            _ => self,
        }
    }

    /// What is before cannot be had.
    pub(super) fn gives_up(self) -> Extent {
        match self {
            Extent::Filling { from, .. } => Extent::Cut { from },
            _ => self,
        }
    }

    /// From which segment on all is here, where it is not the first.
    pub(super) fn from(self) -> Option<u64> {
        match self {
            Extent::Filling { from, .. } | Extent::Cut { from } => Some(from),
            Extent::Complete | Extent::Unknown => None,
        }
    }

    /// There is no room for what is new: which of the oldest segments go, where any are older than the window.
    pub(super) fn trim(self, first: u64, window: u64) -> Option<Scope> {
        let from = match self {
            Extent::Complete | Extent::Unknown => first,
            Extent::Filling { from, .. } | Extent::Cut { from } => from,
        };
        let before = window.checked_sub(from).filter(|before| *before > 0)?;
        Some(Scope {
            from: from + before.div_ceil(TRIM),
            drops: true,
            ..Scope::WINDOW
        })
    }
}

/// Which files of a broadcast are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Segments from this number on are fetched. Of those before it only what the sliding playlists name.
    from: u64,
    /// What is stored beyond that goes.
    pub(super) drops: bool,
    /// Segments that are looked for where nothing has changed, too.
    looks_at: Option<Range<u64>>,
}

impl Scope {
    /// What a live viewer can go back; what else is stored stays.
    pub(super) const WINDOW: Scope = Scope {
        from: u64::MAX,
        drops: false,
        looks_at: None,
    };

    /// What a live viewer can go back, and nothing else.
    pub(super) const ONLY_WINDOW: Scope = Scope {
        drops: true,
        ..Scope::WINDOW
    };

    /// Everything that is new.
    pub(super) const EVERYTHING: Scope = Scope {
        from: 0,
        ..Scope::WINDOW
    };

    /// How far back a broadcast is kept of which no more is fetched.
    pub(super) fn cut(&self) -> Extent {
        Extent::Cut { from: self.from }
    }

    /// `named` are the segments of the sliding playlists.
    pub(super) fn want(&self, path: &str, named: &BTreeSet<String>) -> Want {
        let name = path.rsplit('/').next().unwrap_or(path);
        let wanted = match name {
            // They name every segment.
            "event.m3u8" | "vod.m3u8" => self.from == 0,
            _ if !is_media(name) => true,
            _ if named.contains(path) => true,
            // Nobody knows of which segments an init segment is.
            _ => number(name).map_or(self.from < u64::MAX, |number| number >= self.from),
        };
        match wanted {
            true => Want::All,
            false if self.drops => Want::Nothing,
            false => Want::Stored,
        }
    }

    /// Whether a directory that has not changed has all that is wanted; `sound` where that can be said of the whole broadcast.
    pub(super) fn trusts(&self, dir: &str, sound: bool) -> bool {
        let Some(looked_at) = &self.looks_at else {
            return sound;
        };
        let segments = segments_in(dir);
        segments.is_some_and(|it| it.end <= looked_at.start || it.start >= looked_at.end)
    }
}

pub(super) fn is_media(path: &str) -> bool {
    path.ends_with(".m4s") || path.ends_with(".mp4")
}

/// A segment's; init segments have none.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".m4s")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling(from: u64, step: u64) -> Extent {
        Extent::Filling { from, step }
    }

    #[test]
    fn the_window_comes_first_and_the_rest_backwards() {
        let mut extent = Extent::Unknown.taken(100, false, true);
        assert_eq!(extent, filling(100, FEWEST));
        assert_eq!(extent.newest(false).from, 100);
        let mut fetched = Vec::new();
        while let Some(scope) = extent.next(90) {
            fetched.push(scope.looks_at.clone().unwrap());
            extent = extent.filled(&scope, Duration::from_secs(3));
        }
        assert_eq!(fetched, [96..100, 92..96, 0..92]);
        assert_eq!(extent, Extent::Complete);
        assert_eq!(extent.newest(false), Scope::EVERYTHING);
        // What was missed meanwhile does not hold up the window.
        assert_eq!(extent.newest(true), Scope::WINDOW);
        assert_eq!(extent.taken(200, false, true), filling(200, FEWEST));
    }

    #[test]
    fn a_broadcast_that_is_followed_from_its_beginning_is_whole() {
        assert_eq!(Extent::Unknown.taken(0, true, false), Extent::Complete);
        assert_eq!(Extent::Complete.taken(5, true, false), Extent::Complete);
        assert_eq!(filling(7, 8).taken(9, false, false), filling(7, 8));
    }

    #[test]
    fn fast_links_carry_more_at_a_time() {
        let step = |step, seconds| {
            let extent = filling(10_000, step);
            let scope = extent.next(0).unwrap();
            match extent.filled(&scope, Duration::from_secs_f64(seconds)) {
                Extent::Filling { step, .. } => step,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([step(4, 0.1), step(4, 1.5), step(4, 9.0)], [8, 4, 4]);
        assert_eq!([step(256, 0.1), step(256, 9.0)], [256, 128]);
    }

    #[test]
    fn a_full_store_lets_go_of_the_oldest() {
        let scope = Extent::Complete.trim(100, 1700).unwrap();
        assert_eq!((scope.from, scope.drops), (200, true));
        assert_eq!(scope.cut(), Extent::Cut { from: 200 });
        assert_eq!(scope.cut().next(0), None);
        assert_eq!(scope.cut().taken(1701, false, false), scope.cut());
        // Never what viewers can still ask for.
        assert_eq!(Extent::Cut { from: 1699 }.trim(0, 1700).unwrap().from, 1700);
        assert_eq!(Extent::Cut { from: 1700 }.trim(0, 1700), None);
    }

    #[test]
    fn wants() {
        let named = BTreeSet::from(["video/0000/9.m4s".to_owned(), "video/init-2.mp4".to_owned()]);
        let check = |scope: &Scope, path: &str, expected| {
            assert_eq!(scope.want(path, &named), expected, "{path} {scope:?}");
        };
        for scope in [Scope::WINDOW, Scope::EVERYTHING, Scope::ONLY_WINDOW] {
            check(&scope, "video/0000/9.m4s", Want::All);
            check(&scope, "video/init-2.mp4", Want::All);
            check(&scope, "video/live.m3u8", Want::All);
            check(&scope, "video/0000", Want::All);
        }
        for path in [
            "video/0000/8.m4s",
            "video/init-1.mp4",
            "video/event.m3u8",
            "vod.m3u8",
        ] {
            check(&Scope::WINDOW, path, Want::Stored);
            check(&Scope::EVERYTHING, path, Want::All);
            check(&Scope::ONLY_WINDOW, path, Want::Nothing);
        }
        let scope = filling(9, 4).next(0).unwrap();
        check(&scope, "video/0000/5.m4s", Want::All);
        check(&scope, "video/init-1.mp4", Want::All);
        check(&scope, "video/0000/4.m4s", Want::Stored);
        check(&scope, "video/event.m3u8", Want::Stored);
    }

    #[test]
    fn only_directories_that_may_have_them_are_read_again() {
        let scope = filling(600, 100).next(0).unwrap();
        let trusted = [
            "video/0000",
            "video/0001",
            "video/0002",
            "video/0003",
            "video",
            "0002",
        ]
        .map(|dir| scope.trusts(dir, true));
        assert_eq!(trusted, [true, false, false, true, false, false]);
        assert!(Scope::EVERYTHING.trusts("video", true));
        assert!(!Scope::EVERYTHING.trusts("video", false));
    }
}
