//! The state machine of a broadcast.
//!
//! ```text
//! Idle ──Start──▶ Starting ──Published──▶ Live
//! Starting, Live ──Failed(cause), or nothing published in time──▶ Retrying ──deadline──▶ Starting
//! Starting, Live ──Stop──▶ Stopping ──Drained──▶ (finish) ──Finished──▶ Idle
//! Retrying, Halted ──Stop──▶ Stopping
//! any active ──Failed(disk full)──▶ Halted ──Start, once there is room──▶ Starting
//! ```
//! A lost signal is not a failure: the slate runs and the state stays Live.

use std::fmt;
use std::time::{Duration, Instant};

use crate::status::Tally;

/// Why a broadcast does not run as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The encoder's pipeline failed or gave what cannot be published.
    Encoder(String),
    /// Segments cannot be stored.
    Store(String),
    /// Nothing was published for [`STALL`].
    Stalled,
    DiskFull,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Encoder(why) => write!(f, "encoder: {why}"),
            Cause::Store(why) => write!(f, "store: {why}"),
            Cause::Stalled => f.write_str("no segment in time"),
            Cause::DiskFull => f.write_str("disk full"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Idle,
    Starting { since: Instant },
    Live { since: Instant, published: Instant },
    Retrying { cause: Cause, until: Instant },
    Stopping { since: Instant, finishing: bool },
    Halted { cause: Cause, cleared: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The operator wants to go live.
    Start,
    /// An unfinished broadcast was found at start-up: go on with it.
    Resume,
    /// The operator wants to stop, or the box is shutting down.
    Stop,
    /// A segment of every rendition is durable and in the playlists.
    Published,
    /// The programme has delivered its last segment after `EndProgramme`, and all are published.
    Drained,
    /// The broadcast is closed: ENDLIST and VOD are published.
    Finished,
    Failed(Cause),
    /// There is room on the disk again.
    Cleared,
    /// Time has passed; see [`Broadcast::deadline`].
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a new broadcast in the store.
    Begin,
    /// Build the programme pipeline and a new continuity run.
    StartProgramme,
    /// Let the programme play out what it has and end.
    EndProgramme,
    /// Tear the programme down at once.
    DropProgramme,
    /// Publish ENDLIST and VOD.
    Finish,
}

/// Nothing published for this long is a failure. Long enough for a machine that stutters, short enough for a viewer's
/// buffer of three segments plus patience.
pub const STALL: Duration = Duration::from_secs(15);

/// The programme gets this long to play out its last frames.
const DRAIN: Duration = Duration::from_secs(10);

/// First pause before a retry; doubles up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(8);

/// One box has one of these.
#[derive(Debug)]
pub struct Broadcast {
    state: State,
    /// Failures since the last published segment.
    attempt: u32,
    /// When the first segment of the broadcast was published.
    on_air: Option<Instant>,
}

impl Default for Broadcast {
    fn default() -> Broadcast {
        Broadcast {
            state: State::Idle,
            attempt: 0,
            on_air: None,
        }
    }
}

impl Broadcast {
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Failures in a row, from 1; 0 when all is well.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When this broadcast's first segment was published.
    pub fn on_air(&self) -> Option<Instant> {
        self.on_air
    }

    /// Whether a broadcast is open, on air or trying to be.
    pub fn active(&self) -> bool {
        self.state != State::Idle
    }

    pub fn tally(&self) -> Tally {
        match self.state {
            State::Idle | State::Halted { .. } => Tally::Off,
            State::Starting { .. } | State::Retrying { .. } => Tally::Blinking,
            // Until the last frame is out, what is said in the room is on air.
            State::Live { .. } | State::Stopping { .. } => Tally::On,
        }
    }

    /// When `Event::Tick` is due.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Idle | State::Halted { .. } => None,
            State::Starting { since } => Some(*since + STALL),
            State::Live { published, .. } => Some(*published + STALL),
            State::Retrying { until, .. } => Some(*until),
            State::Stopping {
                finishing: true, ..
            } => None,
            State::Stopping { since, .. } => Some(*since + DRAIN),
        }
    }

    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        use Action::{Begin, DropProgramme, EndProgramme, Finish, StartProgramme};
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        let (next, actions) = match (&self.state, event) {
            (State::Idle, Event::Start) => {
                self.attempt = 0;
                self.on_air = None;
                (State::Starting { since: now }, vec![Begin, StartProgramme])
            }
            (State::Idle, Event::Resume) => (State::Starting { since: now }, vec![StartProgramme]),

            (State::Starting { .. }, Event::Published) => {
                self.attempt = 0;
                let since = *self.on_air.get_or_insert(now);
                (
                    State::Live {
                        since,
                        published: now,
                    },
                    vec![],
                )
            }
            (State::Live { since, .. }, Event::Published) => (
                State::Live {
                    since: *since,
                    published: now,
                },
                vec![],
            ),

            (State::Starting { .. } | State::Live { .. }, Event::Stop) => (
                State::Stopping {
                    since: now,
                    finishing: false,
                },
                vec![EndProgramme],
            ),
            (State::Retrying { .. } | State::Halted { .. }, Event::Stop) => (
                State::Stopping {
                    since: now,
                    finishing: true,
                },
                vec![Finish],
            ),

            (
                State::Starting { .. } | State::Live { .. } | State::Retrying { .. },
                Event::Failed(Cause::DiskFull),
            ) => (
                State::Halted {
                    cause: Cause::DiskFull,
                    cleared: false,
                },
                vec![DropProgramme],
            ),
            (State::Starting { .. } | State::Live { .. }, Event::Failed(cause)) => {
                (self.retry(now, cause), vec![DropProgramme])
            }
            (State::Starting { .. } | State::Live { .. }, Event::Tick) if due => {
                (self.retry(now, Cause::Stalled), vec![DropProgramme])
            }
            (State::Retrying { .. }, Event::Tick) if due => {
                (State::Starting { since: now }, vec![StartProgramme])
            }

            (
                State::Stopping {
                    since,
                    finishing: false,
                },
                Event::Drained,
            ) => (
                State::Stopping {
                    since: *since,
                    finishing: true,
                },
                vec![Finish],
            ),
            (
                State::Stopping {
                    since,
                    finishing: false,
                },
                Event::Failed(_),
            ) => (
                State::Stopping {
                    since: *since,
                    finishing: true,
                },
                vec![DropProgramme, Finish],
            ),
            (
                State::Stopping {
                    since,
                    finishing: false,
                },
                Event::Tick,
            ) if due => (
                State::Stopping {
                    since: *since,
                    finishing: true,
                },
                vec![DropProgramme, Finish],
            ),
            // A broadcast that cannot be closed now is closed by the next start of the process.
            (
                State::Stopping {
                    finishing: true, ..
                },
                Event::Finished | Event::Failed(_),
            ) => (State::Idle, vec![]),

            (State::Halted { cause, .. }, Event::Cleared) => (
                State::Halted {
                    cause: cause.clone(),
                    cleared: true,
                },
                vec![],
            ),
            (State::Halted { cleared: true, .. }, Event::Start) => {
                (State::Starting { since: now }, vec![StartProgramme])
            }
            _ => return vec![],
        };
        self.state = next;
        if self.state == State::Idle {
            self.on_air = None;
            self.attempt = 0;
        }
        actions
    }

    fn retry(&mut self, now: Instant, cause: Cause) -> State {
        let pause = BACKOFF * 2u32.saturating_pow(self.attempt.min(8));
        self.attempt += 1;
        State::Retrying {
            cause,
            until: now + pause.min(MAX_BACKOFF),
        }
    }
}
