//! How far back a mirror has the newest broadcast.
//!
//! Viewers wait for the live window, so that comes first. What was published before it, or while the mirror was away, comes afterwards,
//! from the window backwards, a few segments to a step, so that what is new waits a moment at most.
//!
//! ```text
//! Unknown ──goes on from what is stored──▶ Complete ◀────────────┐
//!    └──or has a hole──▶ Filling ──nothing is lacking────────────┤
//!                           ▲   └──no room──▶ Cut ◀──trimmed──── (any)
//!                           └───────a hole─────┴─────────────────┘
//! ```
//!
//! What does not come is asked for again, more and more rarely; only a full store ends that.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::publication::segments_in;

/// Segments to a step.
const FEWEST: usize = 4;
const MOST: usize = 256;
/// How long a step may take: so much later comes what is new meanwhile.
const QUICK: Duration = Duration::from_secs(1);
const SLOW: Duration = Duration::from_secs(2);
/// After a step that brought nothing.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LAST_PAUSE: Duration = Duration::from_secs(300);
/// Steps for which there was no room: older broadcasts may be about to make some.
const CROWDED: u32 = 3;
/// This part of the segments before the window goes in one go.
const TRIM: usize = 16;

/// What is known of the broadcast that a mirror shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Extent {
    /// Whether it has holes.
    #[default]
    Unknown,
    /// All is here.
    Complete,
    Filling(Filling),
    /// All from this segment on is here, and there is no room for what is before.
    Cut {
        from: u64,
    },
}

/// Some segments are not here yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filling {
    /// Their numbers, in order.
    lacking: Vec<u64>,
    /// For those before this number there was no room.
    floor: Option<u64>,
    /// Segments to the next step.
    step: usize,
    /// Most bytes that a step which was not finished has brought: the next one finds them.
    brought: u64,
    /// Steps in a row that brought nothing, and for which there was no room.
    failures: u32,
    crowded: u32,
    not_before: Option<Instant>,
}

/// What a step has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done {
        took: Duration,
    },
    /// There was something newer; bytes of media that had come until then.
    GaveWay {
        brought: u64,
    },
    Failed,
    /// It would be larger than what may be stored.
    NoRoom,
}

impl Extent {
    /// Which files of a newer root to take over; `after_hole` where its playlists do not go on from what is stored.
    pub fn newer(&self, after_hole: bool) -> Scope {
        match self.kept_from() {
            _ if after_hole || *self == Extent::Unknown => Scope::WINDOW,
            Some(from) => Scope::of(Segments::From(from)),
            None => Scope::ALL,
        }
    }

    /// A root was taken over, `whole` or [after a hole](Extent::newer). Says whether [`Extent::lacks`] has to be told what is not
    /// here now.
    #[must_use]
    pub fn taken(&mut self, whole: bool, after_hole: bool) -> bool {
        if whole {
            *self = Extent::Complete;
        }
        let known = matches!(self, Extent::Filling(_) | Extent::Cut { .. });
        !(whole || known && !after_hole)
    }

    /// Paths of the files that the broadcast names and that are not here.
    pub fn lacks(&mut self, files: &[String]) {
        let floor = match self {
            Extent::Cut { from } => Some(*from),
            Extent::Filling(filling) => filling.floor,
            Extent::Unknown | Extent::Complete => None,
        };
        if files.is_empty() {
            *self = Extent::Complete;
            return;
        }
        let numbers: BTreeSet<u64> = files.iter().filter_map(|path| number(path)).collect();
        let wanted = numbers.into_iter().filter(|it| Some(*it) >= floor);
        *self = Extent::Filling(Filling {
            lacking: wanted.collect(),
            floor,
            step: FEWEST,
            brought: 0,
            failures: 0,
            crowded: 0,
            not_before: None,
        });
        self.settle();
    }

    /// Nothing is lacking above what there is no room for.
    fn settle(&mut self) {
        if let Extent::Filling(filling) = self
            && filling.lacking.is_empty()
            && let Some(from) = filling.floor
        {
            *self = Extent::Cut { from };
        }
    }

    /// Whether a step is due.
    pub fn is_due(&self, now: Instant) -> bool {
        match self {
            Extent::Filling(filling) => filling.not_before.is_none_or(|at| at <= now),
            _ => false,
        }
    }

    /// Which files of what is shown to fetch next.
    pub fn step(&self, now: Instant) -> Option<Scope> {
        let Extent::Filling(filling) = self else {
            return None;
        };
        if !self.is_due(now) {
            return None;
        }
        let lacking = &filling.lacking;
        let Some(last) = lacking.last() else {
            // What names every segment.
            return Some(Scope {
                searches: Some(Search::Lists),
                ..Scope::ALL
            });
        };
        let first = lacking[lacking.len().saturating_sub(filling.step)];
        Some(Scope {
            searches: Some(Search::Segments(first..=*last)),
            ..Scope::of(Segments::From(first))
        })
    }

    /// A step is over.
    pub fn stepped(&mut self, now: Instant, scope: &Scope, outcome: Outcome) {
        if scope.drops {
            if let (Outcome::Done { .. }, Segments::From(from)) = (outcome, scope.segments) {
                self.trimmed(from);
            }
            return;
        }
        let Extent::Filling(filling) = self else {
            return;
        };
        if outcome != Outcome::NoRoom {
            filling.crowded = 0;
        }
        match (outcome, &scope.searches) {
            (Outcome::Done { .. }, Some(Search::Lists)) => *self = Extent::Complete,
            (Outcome::Done { took }, Some(Search::Segments(numbers))) => {
                filling.lacking.retain(|it| !numbers.contains(it));
                filling.step = match took {
                    _ if took < QUICK => filling.step * 2,
                    _ if took > SLOW => filling.step / 2,
                    _ => filling.step,
                }
                .clamp(FEWEST, MOST);
                (filling.brought, filling.failures) = (0, 0);
                filling.not_before = None;
                self.settle();
            }
            (Outcome::GaveWay { brought }, _) if brought > filling.brought => {
                let step = (filling.step / 2).max(FEWEST);
                // Of fewer segments fewer bytes come.
                filling.brought = if step < filling.step { 0 } else { brought };
                filling.step = step;
            }
            (Outcome::NoRoom, _) if filling.crowded + 1 == CROWDED => {
                let from = filling.lacking.last().map_or(0, |last| last + 1);
                *self = Extent::Cut { from };
            }
            _ => {
                filling.crowded += u32::from(outcome == Outcome::NoRoom);
                filling.step = (filling.step / 2).max(FEWEST);
                let pause = FIRST_PAUSE * 2_u32.saturating_pow(filling.failures.min(10));
                filling.failures += 1;
                filling.not_before = Some(now + pause.min(LAST_PAUSE));
            }
        }
    }

    /// Nothing is kept before this segment any more. A hole behind it stays one.
    fn trimmed(&mut self, from: u64) {
        match self {
            Extent::Cut { from: before } => *before = from.max(*before),
            Extent::Filling(filling) => {
                let floor = filling.floor.map_or(from, |floor| floor.max(from));
                filling.floor = Some(floor);
                filling.lacking.retain(|number| *number >= floor);
                self.settle();
            }
            Extent::Complete | Extent::Unknown => *self = Extent::Cut { from },
        }
    }

    /// Somebody is there who may have what is lacking.
    pub fn hurry(&mut self) {
        if let Extent::Filling(filling) = self {
            (filling.failures, filling.not_before) = (0, None);
        }
    }

    /// From which segment on all is here, where it is not the first.
    pub fn kept_from(&self) -> Option<u64> {
        match self {
            Extent::Filling(filling) => Some(filling.lacking.last().map_or(0, |last| last + 1)),
            Extent::Cut { from } => Some(*from),
            Extent::Complete | Extent::Unknown => None,
        }
    }
}

/// There is no room for what is new: lets go of the oldest segments, where any of those that are `stored` are before the `window`.
pub fn trim<'a>(stored: impl IntoIterator<Item = &'a str>, window: u64) -> Option<Scope> {
    let numbers: BTreeSet<u64> = stored.into_iter().filter_map(number).collect();
    let before: Vec<u64> = numbers.range(..window).copied().collect();
    let last = before.get(before.len().div_ceil(TRIM).checked_sub(1)?)?;
    Some(Scope {
        drops: true,
        searches: Some(Search::Nothing),
        ..Scope::of(Segments::From(last + 1))
    })
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is fetched where it is not here.
    Fetched,
    /// It stays where it is here.
    Kept,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segments {
    All,
    /// From this number on, and those that the sliding playlists name.
    From(u64),
    /// Those that the sliding playlists name.
    Window,
}

/// What may be missing where no directory has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Search {
    Nothing,
    Segments(RangeInclusive<u64>),
    /// The playlists that name every segment.
    Lists,
}

/// Which files of a broadcast are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    segments: Segments,
    /// What is here of the others goes.
    drops: bool,
    searches: Option<Search>,
}

impl Scope {
    pub const ALL: Scope = Scope::of(Segments::All);
    /// What a live viewer can go back; what else is here stays.
    pub const WINDOW: Scope = Scope::of(Segments::Window);
    /// What a live viewer can go back, and nothing else.
    pub const WINDOW_ALONE: Scope = Scope {
        drops: true,
        ..Scope::WINDOW
    };

    const fn of(segments: Segments) -> Scope {
        Scope {
            segments,
            drops: false,
            searches: None,
        }
    }

    /// Whether files go that are here.
    pub fn drops(&self) -> bool {
        self.drops
    }

    /// `named` are the segments of the sliding playlists.
    pub fn fate(&self, path: &str, named: &BTreeSet<String>) -> Fate {
        let name = path.rsplit('/').next().unwrap_or(path);
        let lists_all = matches!(name, "event.m3u8" | "vod.m3u8");
        let fetched = match self.segments {
            Segments::All => true,
            _ if lists_all => false,
            _ if !is_media(name) || named.contains(path) => true,
            Segments::From(from) => match number(name) {
                Some(number) => number >= from,
                // Of an init segment nobody knows whose it is. What is new needs none that is not named.
                None => matches!(self.searches, Some(Search::Segments(_))),
            },
            Segments::Window => false,
        };
        let is_init = !lists_all && number(name).is_none();
        match (fetched, self.segments) {
            (true, _) => Fate::Fetched,
            (false, Segments::From(_)) if is_init => Fate::Kept,
            (false, _) if self.drops => Fate::Dropped,
            (false, _) => Fate::Kept,
        }
    }

    /// Whether nothing has to be looked for in a directory that has not changed; `sound` where that holds for all of them but what is
    /// searched.
    pub fn trusts(&self, dir: &str, sound: bool) -> bool {
        match (&self.searches, segments_in(dir)) {
            (None, _) => sound,
            (Some(Search::Nothing), _) => true,
            (Some(_), None) => false,
            (Some(Search::Lists), Some(_)) => true,
            (Some(Search::Segments(numbers)), Some(here)) => {
                here.end <= *numbers.start() || here.start > *numbers.end()
            }
        }
    }
}

pub fn is_media(path: &str) -> bool {
    path.ends_with(".m4s") || path.ends_with(".mp4")
}

/// A segment's; other files have none.
fn number(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next()?.strip_suffix(".m4s")?;
    name.parse().ok().filter(|number| *number < u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn paths(numbers: impl IntoIterator<Item = u64>) -> Vec<String> {
        let segments = numbers.into_iter();
        let segments = segments.map(|n| format!("video/{:04}/{n}.m4s", n / 256));
        segments.chain(["video/event.m3u8".into()]).collect()
    }

    fn lacking(extent: &mut Extent, numbers: impl IntoIterator<Item = u64>) {
        extent.lacks(&paths(numbers));
    }

    fn filling(numbers: impl IntoIterator<Item = u64>) -> Extent {
        let mut extent = Extent::default();
        assert!(extent.taken(false, true));
        lacking(&mut extent, numbers);
        extent
    }

    fn searched(scope: &Scope) -> RangeInclusive<u64> {
        match &scope.searches {
            Some(Search::Segments(numbers)) => numbers.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_window_comes_first_and_the_rest_backwards() {
        let now = Instant::now();
        assert_eq!(Extent::default().newer(false), Scope::WINDOW);
        let mut extent = filling(90..99);
        assert_eq!(extent.newer(false), Scope::of(Segments::From(99)));
        assert_eq!(extent.newer(true), Scope::WINDOW);
        assert!(!extent.taken(false, false), "it is known what is lacking");
        for (numbers, kept_from) in [(95..=98, 95), (91..=94, 91), (90..=90, 0)] {
            let scope = extent.step(now).unwrap();
            assert_eq!(searched(&scope), numbers);
            let took = 3 * SECOND;
            extent.stepped(now, &scope, Outcome::Done { took });
            assert_eq!(extent.kept_from(), Some(kept_from));
        }
        let last = extent.step(now).unwrap();
        assert_eq!(
            last.fate("video/event.m3u8", &BTreeSet::new()),
            Fate::Fetched
        );
        extent.stepped(now, &last, Outcome::Done { took: SECOND });
        assert_eq!(extent, Extent::Complete);
        assert_eq!((extent.step(now), extent.kept_from()), (None, None));
        assert_eq!(extent.newer(false), Scope::ALL);
        // What is missed from now on does not hold up the window either.
        assert_eq!(extent.newer(true), Scope::WINDOW);
        assert!(extent.taken(false, true));
    }

    #[test]
    fn a_broadcast_that_is_followed_from_its_beginning_is_whole() {
        let mut extent = Extent::default();
        assert!(!extent.taken(true, false));
        assert_eq!(extent, Extent::Complete);
        let mut stored = Extent::default();
        stored.lacks(&[]);
        assert_eq!(stored, Extent::Complete);
    }

    /// However far apart the numbers of a hostile or clockless box are.
    #[test]
    fn steps_go_over_segments_and_not_over_numbers() {
        let now = Instant::now();
        let mut extent = filling([0, 1, 1 << 62, u64::MAX - 1, u64::MAX]);
        let scope = extent.step(now).unwrap();
        assert_eq!(searched(&scope), 0..=u64::MAX - 1);
        extent.stepped(now, &scope, Outcome::Done { took: SECOND });
        assert!(extent.step(now).unwrap().segments == Segments::All);
        let stored = paths([1, 1 << 62]);
        let scope = trim(stored.iter().map(String::as_str), u64::MAX).unwrap();
        assert_eq!(scope.segments, Segments::From(2));
    }

    #[test]
    fn fast_links_carry_more_to_a_step() {
        let now = Instant::now();
        let mut extent = filling(0..10_000);
        let mut lengths = Vec::new();
        for seconds in [0.1, 0.1, 1.5, 9.0, 9.0, 9.0] {
            let scope = extent.step(now).unwrap();
            lengths.push(searched(&scope).count());
            let took = SECOND.mul_f64(seconds);
            extent.stepped(now, &scope, Outcome::Done { took });
        }
        assert_eq!(lengths, [4, 8, 16, 16, 8, 4]);
    }

    #[test]
    fn what_does_not_come_is_asked_for_ever_more_rarely() {
        let begun = Instant::now();
        let mut extent = filling(0..9);
        let (mut now, mut pauses) = (begun, Vec::new());
        for _ in 0..8 {
            let scope = extent.step(now).unwrap();
            // A mirror that lacks it too is given up for what is newer.
            extent.stepped(now, &scope, Outcome::GaveWay { brought: 0 });
            let before = now;
            while extent.step(now).is_none() {
                now += SECOND;
            }
            pauses.push((now - before).as_secs());
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        let scope = extent.step(now).unwrap();
        extent.stepped(now, &scope, Outcome::Failed);
        assert!(!extent.is_due(now));
        extent.hurry();
        assert!(extent.is_due(now));
    }

    #[test]
    fn a_slow_link_makes_progress_by_steps_that_give_way() {
        let now = Instant::now();
        let mut extent = filling(0..100);
        for brought in [1000, 2000] {
            let scope = extent.step(now).unwrap();
            extent.stepped(now, &scope, Outcome::GaveWay { brought });
            assert!(extent.is_due(now), "the next one brings more");
        }
        let scope = extent.step(now).unwrap();
        extent.stepped(now, &scope, Outcome::GaveWay { brought: 2000 });
        assert!(!extent.is_due(now));
    }

    #[test]
    fn without_room_it_stays_as_far_back_as_it_is() {
        let mut now = Instant::now();
        let mut extent = filling(0..100);
        let scope = extent.step(now).unwrap();
        extent.stepped(now, &scope, Outcome::Done { took: SECOND });
        for _ in 0..3 {
            assert_eq!(extent.kept_from(), Some(96));
            now += LAST_PAUSE;
            let scope = extent.step(now).unwrap();
            extent.stepped(now, &scope, Outcome::NoRoom);
        }
        assert_eq!(extent, Extent::Cut { from: 96 });
        assert_eq!(extent.newer(false), Scope::of(Segments::From(96)));
        assert!(!extent.taken(false, false));
        // A later hole is filled, and what there was no room for is not.
        assert!(extent.taken(false, true));
        lacking(&mut extent, (0..96).chain(200..203));
        let scope = extent.step(now).unwrap();
        assert_eq!(searched(&scope), 200..=202);
        extent.stepped(now, &scope, Outcome::Done { took: SECOND });
        assert_eq!(extent, Extent::Cut { from: 96 });
    }

    #[test]
    fn a_full_store_lets_go_of_the_oldest() {
        let trimmed = |stored: &[u64], window| {
            let stored = paths(stored.iter().copied());
            trim(stored.iter().map(String::as_str), window)
        };
        let stored: Vec<u64> = (100..1700).chain(1700..1730).collect();
        let scope = trimmed(&stored, 1700).unwrap();
        assert!(scope.drops());
        assert_eq!(scope.segments, Segments::From(200));
        let mut extent = Extent::Complete;
        extent.stepped(Instant::now(), &scope, Outcome::Failed);
        assert_eq!(extent, Extent::Complete, "nothing has gone");
        extent.stepped(Instant::now(), &scope, Outcome::Done { took: SECOND });
        assert_eq!(extent, Extent::Cut { from: 200 });
        // It never makes a hole look filled.
        let scope = trimmed(&stored, 1700).unwrap();
        let mut holed = filling([150, 300]);
        holed.stepped(Instant::now(), &scope, Outcome::Done { took: SECOND });
        assert_eq!(holed.kept_from(), Some(301));
        assert_eq!(searched(&holed.step(Instant::now()).unwrap()), 300..=300);
        let mut cut = Extent::Cut { from: 1000 };
        cut.stepped(Instant::now(), &scope, Outcome::Done { took: SECOND });
        assert_eq!(cut, Extent::Cut { from: 1000 });
        // Never what viewers can still ask for.
        assert_eq!(
            trimmed(&[1699, 1700], 1700).unwrap().segments,
            Segments::From(1700)
        );
        assert_eq!(trimmed(&[1700, 1701], 1700), None);
    }

    #[test]
    fn fates() {
        let named = BTreeSet::from([
            "video/0000/9.m4s".to_owned(),
            "video/init/0000/init-2.mp4".to_owned(),
        ]);
        let check = |scope: &Scope, path: &str, expected| {
            assert_eq!(scope.fate(path, &named), expected, "{path} {scope:?}");
        };
        for scope in [Scope::WINDOW, Scope::ALL, Scope::WINDOW_ALONE] {
            check(&scope, "video/0000/9.m4s", Fate::Fetched);
            check(&scope, "video/init/0000/init-2.mp4", Fate::Fetched);
            check(&scope, "video/live.m3u8", Fate::Fetched);
            check(&scope, "video/0000", Fate::Fetched);
        }
        for path in [
            "video/0000/8.m4s",
            "video/init/0000/init-1.mp4",
            "video/event.m3u8",
            "vod.m3u8",
        ] {
            check(&Scope::WINDOW, path, Fate::Kept);
            check(&Scope::ALL, path, Fate::Fetched);
            check(&Scope::WINDOW_ALONE, path, Fate::Dropped);
        }
        let newer = filling(0..9).newer(false);
        check(&newer, "video/init/0000/init-1.mp4", Fate::Kept);
        let trim = trim(["video/0000/1.m4s"], 9).unwrap();
        check(&trim, "video/init/0000/init-1.mp4", Fate::Kept);
        check(&trim, "video/0000/1.m4s", Fate::Dropped);
        check(&trim, "video/event.m3u8", Fate::Dropped);
        assert!(trim.trusts("video", false) && trim.trusts("video/0000", false));
        let scope = filling(0..9).step(Instant::now()).unwrap();
        check(&scope, "video/0000/5.m4s", Fate::Fetched);
        check(&scope, "video/init/0000/init-1.mp4", Fate::Fetched);
        check(&scope, "video/0000/4.m4s", Fate::Kept);
        check(&scope, "video/event.m3u8", Fate::Kept);
    }

    #[test]
    fn only_directories_that_may_have_them_are_read_again() {
        let mut extent = filling(500..600);
        lacking(&mut extent, 508..512);
        let now = Instant::now();
        let scope = extent.step(now).unwrap();
        let dirs = ["video/0000", "video/0001", "video/0002", "video", "0001"];
        let trusted = dirs.map(|dir| scope.trusts(dir, true));
        assert_eq!(trusted, [true, false, true, false, false]);
        extent.stepped(now, &scope, Outcome::Done { took: SECOND });
        let lists = extent.step(now).unwrap();
        assert_eq!(
            dirs.map(|dir| lists.trusts(dir, false)),
            [true, true, true, false, false]
        );
        assert!(Scope::ALL.trusts("video", true));
        assert!(!Scope::ALL.trusts("video", false));
    }
}
