//! From the raw edges of three buttons to what a person meant by them.
//!
//! Contacts bounce for milliseconds, so a level counts once it has been the same for [`DEBOUNCE`]. A press that
//! ends before [`HOLD`] is a *tap*; one that reaches it is a *hold*, told while the finger is still on the button.
//!
//! ```text
//!            stable press                0.3 s                      1.5 s
//!  Up ────────────────────▶ Down ──HoldStarted──▶ Down ──────Hold──────▶ Spent ──stable release──▶ Up
//!   ▲                        │                     │
//!   └─────stable release: Tap┴─────────────────────┘
//! ```

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long a level must stay the same to count; 20 ms goes unnoticed. Recordings of a kind of tactile switch are named after the time
/// that the worst bounce took: 9.3 and 14 ms (adamfk/bouncy-button-data, #11 and #23), so no rest in it was as long as this. A switch that
/// rests for longer in the middle of a bounce is taken for two presses; there are some (#6 there: 157 ms and more), and the box wants others.
pub const DEBOUNCE: Duration = Duration::from_millis(20);

/// From here on a press looks like a hold in the making, and the screen says what holding will do.
pub const HOLD_STARTED: Duration = Duration::from_millis(300);

/// How long a button is held until it means something else than a tap.
pub const HOLD: Duration = Duration::from_millis(1500);

/// The three buttons of the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Button {
    GoLive,
    Page,
    Mode,
}

impl Button {
    /// Every button, in the order in which they sit on the box.
    pub const ALL: [Button; 3] = [Button::GoLive, Button::Page, Button::Mode];
}

/// What a finger did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Press,
    Release,
}

/// One change of a button's level, stamped where it was seen. It may be a bounce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    pub button: Button,
    pub action: Action,
    pub at: Instant,
}

/// What a person meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gesture {
    /// Pressed and let go before [`HOLD`].
    Tap(Button),
    /// Pressed for [`HOLD_STARTED`]; a tap or a hold follows.
    HoldStarted(Button),
    /// Pressed for [`HOLD`], and still pressed. The release that follows says nothing.
    Hold(Button),
}

/// Recognises gestures. Edges come in the order of their times; [`tick`](Self::tick) is called at
/// [`deadline`](Self::deadline), or later.
#[derive(Debug, Default)]
pub struct Gestures {
    contacts: [Contact; Button::ALL.len()],
}

impl Gestures {
    /// Takes one edge, and tells what happened up to it.
    pub fn edge(&mut self, edge: Edge) -> Vec<Gesture> {
        let gestures = self.tick(edge.at);
        self.contacts[edge.button as usize].edge(edge.action, edge.at);
        gestures
    }

    /// Tells what has happened up to `now`.
    pub fn tick(&mut self, now: Instant) -> Vec<Gesture> {
        let mut gestures = Vec::new();
        while let Some(due) = self.deadline().filter(|&due| due <= now) {
            for (contact, button) in self.contacts.iter_mut().zip(Button::ALL) {
                gestures.extend(contact.step(button, due));
            }
        }
        gestures
    }

    /// When [`tick`](Self::tick) has something to do next, if no edge comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.contacts.iter().filter_map(Contact::deadline).min()
    }

    /// How much of a hold is done, 0 to 1, from [`Gesture::HoldStarted`] until the release.
    pub fn hold_progress(&self, button: Button, now: Instant) -> Option<f32> {
        let held = match self.contacts[button as usize].finger {
            Finger::Up | Finger::Down { started: false, .. } => return None,
            Finger::Down { since, .. } => now.saturating_duration_since(since),
            Finger::Spent => HOLD,
        };
        Some((held.as_secs_f32() / HOLD.as_secs_f32()).min(1.0))
    }
}

/// One button: the level as it is seen, and what is made of it.
#[derive(Debug, Default)]
struct Contact {
    /// Level that differs from what `finger` says, and since when.
    unsettled: Option<(Action, Instant)>,
    finger: Finger,
}

#[derive(Debug, Default, Clone, Copy)]
enum Finger {
    #[default]
    Up,
    Down {
        since: Instant,
        /// [`Gesture::HoldStarted`] has been told.
        started: bool,
    },
    /// [`Gesture::Hold`] has been told.
    Spent,
}

impl Contact {
    fn edge(&mut self, action: Action, at: Instant) {
        let settled = match self.finger {
            Finger::Up => Action::Release,
            Finger::Down { .. } | Finger::Spent => Action::Press,
        };
        self.unsettled = match self.unsettled {
            // The same edge twice is a lost edge between them; the level has been the same since the first.
            Some((seen, since)) if seen == action => Some((seen, since)),
            _ if action == settled => None,
            _ => Some((action, at)),
        };
    }

    /// When the next step is due.
    fn deadline(&self) -> Option<Instant> {
        let settles = self.unsettled.map(|(_, since)| since + DEBOUNCE);
        // A finger that is being lifted no longer holds: the release decides, unless it proves to be a bounce.
        let holds = match self.finger {
            Finger::Down { since, started } if !self.lifting_before(since, started) => {
                Some(threshold(since, started))
            }
            _ => None,
        };
        settles.into_iter().chain(holds).min()
    }

    /// Whether the finger began to lift before the next threshold of a press since `since`.
    fn lifting_before(&self, since: Instant, started: bool) -> bool {
        let threshold = threshold(since, started);
        self.unsettled
            .is_some_and(|(action, at)| action == Action::Release && at < threshold)
    }

    /// Does the step that is due at `now`, if any, and tells what it means.
    fn step(&mut self, button: Button, now: Instant) -> Option<Gesture> {
        let due = self.deadline().filter(|&due| due <= now)?;
        match (self.finger, self.unsettled) {
            (Finger::Down { since, started }, _)
                if !self.lifting_before(since, started) && due == threshold(since, started) =>
            {
                if started {
                    self.finger = Finger::Spent;
                    Some(Gesture::Hold(button))
                } else {
                    self.finger = Finger::Down {
                        since,
                        started: true,
                    };
                    Some(Gesture::HoldStarted(button))
                }
            }
            (_, Some((Action::Press, since))) => {
                self.unsettled = None;
                self.finger = Finger::Down {
                    since,
                    started: false,
                };
                None
            }
            (finger, Some((Action::Release, _))) => {
                self.unsettled = None;
                self.finger = Finger::Up;
                matches!(finger, Finger::Down { .. }).then_some(Gesture::Tap(button))
            }
            (_, None) => None,
        }
    }
}

/// When a press since `since` means the next thing.
fn threshold(since: Instant, started: bool) -> Instant {
    since + if started { HOLD } else { HOLD_STARTED }
}

#[cfg(test)]
mod tests {
    use super::*;

    use Button::{GoLive, Mode, Page};
    use Gesture::{Hold, HoldStarted, Tap};

    /// Plays a trace like `"0+ 3.5- 5+ 200-"` (milliseconds, `+` press, `-` release, of GO LIVE; a letter before the time
    /// names another button) with ticks exactly at the deadlines, and then once more with no tick before the end.
    #[track_caller]
    fn check(trace: &str, expected: &[(u64, Gesture)]) {
        let start = Instant::now();
        let edges: Vec<Edge> = trace
            .split_whitespace()
            .map(|word| parse(start, word))
            .collect();

        let mut gestures = Gestures::default();
        let mut told = Vec::new();
        let tick_to = |gestures: &mut Gestures, until: Option<Instant>, told: &mut Vec<_>| {
            while let Some(due) = gestures
                .deadline()
                .filter(|&due| until.is_none_or(|until| due < until))
            {
                let now = gestures.tick(due);
                told.extend(
                    now.into_iter()
                        .map(|g| ((due - start).as_millis() as u64, g)),
                );
            }
        };
        for &edge in &edges {
            tick_to(&mut gestures, Some(edge.at), &mut told);
            let now = gestures.edge(edge);
            told.extend(
                now.into_iter()
                    .map(|g| ((edge.at - start).as_millis() as u64, g)),
            );
        }
        tick_to(&mut gestures, None, &mut told);
        assert_eq!(told, expected, "{trace}");

        let mut late = Gestures::default();
        let mut told: Vec<Gesture> = edges.iter().flat_map(|&edge| late.edge(edge)).collect();
        told.extend(late.tick(start + Duration::from_secs(60)));
        let expected: Vec<Gesture> = expected.iter().map(|&(_, gesture)| gesture).collect();
        assert_eq!(told, expected, "{trace}, late");
        assert_eq!(late.deadline(), None, "{trace}: nothing is left to do");
    }

    fn parse(start: Instant, word: &str) -> Edge {
        let (button, rest) = match word.split_at(1) {
            ("p", rest) => (Page, rest),
            ("m", rest) => (Mode, rest),
            _ => (GoLive, word),
        };
        let (ms, sign) = rest.split_at(rest.len() - 1);
        Edge {
            button,
            action: if sign == "+" {
                Action::Press
            } else {
                Action::Release
            },
            at: start + Duration::from_secs_f64(ms.parse::<f64>().unwrap() / 1000.0),
        }
    }

    #[test]
    fn taps_and_holds() {
        check("", &[]);
        check("0+ 100-", &[(120, Tap(GoLive))]);
        check(
            "p0+ p100- m200+ m300-",
            &[(120, Tap(Page)), (320, Tap(Mode))],
        );
        check(
            "0+ 1000-",
            &[(300, HoldStarted(GoLive)), (1020, Tap(GoLive))],
        );
        check(
            "0+ 1499-",
            &[(300, HoldStarted(GoLive)), (1519, Tap(GoLive))],
        );
        check(
            "0+ 1501-",
            &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))],
        );
        check(
            "0+ 9000-",
            &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))],
        );
        check(
            "0+ 2000- 2500+ 2600-",
            &[
                (300, HoldStarted(GoLive)),
                (1500, Hold(GoLive)),
                (2620, Tap(GoLive)),
            ],
        );
        // Never released: a stuck button says it once.
        check("0+", &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))]);
        // Two at once do not disturb each other.
        check(
            "0+ p500+ p600- 1600-",
            &[
                (300, HoldStarted(GoLive)),
                (620, Tap(Page)),
                (1500, Hold(GoLive)),
            ],
        );
    }

    #[test]
    fn bounces() {
        // On the way down, on the way up, and on both.
        check("0+ 1- 2+ 4- 5+ 100-", &[(120, Tap(GoLive))]);
        check("0+ 100- 101+ 103- 108+ 109-", &[(129, Tap(GoLive))]);
        check(
            "0+ 3- 4+ 90- 92+ 95- 300+ 301- 302+ 400-",
            &[(115, Tap(GoLive)), (420, Tap(GoLive))],
        );
        // A spike that is too short to be a finger.
        check("0+ 5-", &[]);
        check("0+ 19-", &[]);
        // A contact that opens for a moment while it is held does not end the hold.
        check(
            "0+ 700- 705+ 2000-",
            &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))],
        );
        check(
            "0+ 1495- 1503+ 2000-",
            &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))],
        );
        // Edges that the board lost or told twice.
        check("0+ 5+ 100- 105-", &[(120, Tap(GoLive))]);
        check("0-", &[]);
    }

    /// Contacts as they were recorded, by the microsecond. Of adamfk/bouncy-button-data only presses, with a release of ours: a toggle
    /// switch (#12, its first and last bursts), and a push button that touched for less than a microsecond (#6). Of adamfk/bouncy-button
    /// presses and releases of one switch, which is not named (`bbb-browser/startingDataText.js`, tests 4, 5, 6 and 11). None is known to
    /// be of a tactile switch: those recordings could not be had.
    #[test]
    fn recorded_bounces() {
        let toggle = "0.188+ 0.196- 0.421+ 0.428- 0.431+ 0.437- 0.500+ 0.507- 0.547+ 0.559- 0.635+ 0.642- 0.645+ 0.650- 0.652+ 0.671- \
                      0.674+ 0.696- 0.702+ 0.713- 0.716+ 4.081- 4.084+ 4.379- 4.387+ 4.420- 4.422+ 4.472- 4.476+ 4.485- 4.487+ 4.528- \
                      4.532+ 4.597- 4.599+";
        check(&format!("{toggle} 100-"), &[(120, Tap(GoLive))]);
        check(
            &format!("{toggle} 2000-"),
            &[(304, HoldStarted(GoLive)), (1504, Hold(GoLive))],
        );
        let push = "0+ 0.000687- 0.069812+";
        check(&format!("{push} 100-"), &[(120, Tap(GoLive))]);
        let press = "0.001+ 0.126- 0.231+ 0.491- 0.495+";
        let release =
            "100.001- 100.002+ 100.048- 100.053+ 100.412- 100.473+ 100.607- 100.614+ 100.737-";
        check(&format!("{press} {release}"), &[(120, Tap(GoLive))]);
        // Nine milliseconds after it opened it touches again for four, and it is still after 13.6 ms.
        check(
            &format!("{press} 100.001- 109.005+ 112.684- 113.643+ 113.645-"),
            &[(133, Tap(GoLive))],
        );
        check(
            &format!("{press} 2000.001- 2009.005+ 2012.684- 2013.643+ 2013.645-"),
            &[(300, HoldStarted(GoLive)), (1500, Hold(GoLive))],
        );
        // A press that rests for 47 ms and is open for 43 ms after that cannot be told from two.
        check(
            "0.001+ 47.114- 47.116+ 47.253- 90.562+ 200-",
            &[(67, Tap(GoLive)), (220, Tap(GoLive))],
        );
    }

    #[test]
    fn progress_shows_from_the_start_of_a_hold_until_the_release() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let edge = |action, ms| Edge {
            button: GoLive,
            action,
            at: at(ms),
        };
        let mut gestures = Gestures::default();
        gestures.edge(edge(Action::Press, 0));
        for (ms, expected) in [
            (100, None),
            (300, Some(0.2)),
            (750, Some(0.5)),
            (1500, Some(1.0)),
            (2000, Some(1.0)),
        ] {
            gestures.tick(at(ms));
            assert_eq!(gestures.hold_progress(GoLive, at(ms)), expected, "{ms} ms");
            assert_eq!(gestures.hold_progress(Page, at(ms)), None);
        }
        gestures.edge(edge(Action::Release, 2000));
        gestures.tick(at(2020));
        assert_eq!(gestures.hold_progress(GoLive, at(2020)), None);
    }
}
