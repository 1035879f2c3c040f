//! The state machine of a broadcast.
//!
//! ```text
//! Idle ──Start──▶ Starting ──Published──▶ Live
//! Starting, Live ──Failed(cause), or nothing published in time──▶ Retrying ──deadline──▶ Starting
//! Starting, Live ──Stop──▶ Stopping(draining) ──Drained──▶ Stopping(closing) ──Finished──▶ Idle
//! Retrying, Halted ──Stop──▶ Stopping(closing)
//! Stopping(closing) ──Failed──▶ Stopping(pausing) ──deadline──▶ Stopping(closing), at most [`CLOSINGS`] times
//! Starting, Live, Retrying ──Failed(no room)──▶ Halted ──Start, once there is room──▶ Starting
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
    /// Nothing was published in time.
    Stalled,
    DiskFull,
    /// This broadcast alone has reached the store's limit.
    StoreFull,
}

impl Cause {
    /// Whether trying again is of no use until somebody makes room.
    fn no_room(&self) -> bool {
        matches!(self, Cause::DiskFull | Cause::StoreFull)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Encoder(why) => write!(f, "encoder: {why}"),
            Cause::Store(why) => write!(f, "store: {why}"),
            Cause::Stalled => f.write_str("no segment in time"),
            Cause::DiskFull => f.write_str("disk full"),
            Cause::StoreFull => f.write_str(STORE_FULL),
        }
    }
}

/// [`Cause::StoreFull`] in words.
pub const STORE_FULL: &str = "store full";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Idle,
    Starting { since: Instant },
    Live { since: Instant, published: Instant },
    Retrying { cause: Cause, until: Instant },
    Stopping { stage: Stage, until: Instant },
    Halted { cause: Cause, cleared: bool },
}

/// How far a broadcast that ends has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The programme plays out its last frames.
    Draining,
    /// ENDLIST and VOD are being stored.
    Closing,
    /// They could not be; soon they are tried again.
    Pausing,
}

/// What the store holds of this broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    No,
    UnderWay,
    Yes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The operator wants to go live.
    Start,
    /// An unfinished broadcast was found at start-up: go on with it.
    Resume,
    /// The operator wants to stop, or the box is shutting down.
    Stop,
    /// The store has opened the broadcast.
    Opened,
    /// The store cannot open it.
    NotOpened(Cause),
    /// A segment of every rendition is durable and in the playlists.
    Published,
    /// The programme has delivered its last segment after `EndProgramme`.
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

/// Nothing published for this long is a failure, or for four segments where these are long. Long enough for a machine that
/// stutters, short enough for a viewer's patience.
pub const STALL: Duration = Duration::from_secs(15);

/// The programme gets this long to play out its last frames.
const DRAIN: Duration = Duration::from_secs(10);

/// The store gets this long to close a broadcast; a card that hangs must not keep the box from ending.
const CLOSE: Duration = Duration::from_secs(30);

/// So many times closing is tried. What is not closed then is closed by the next start of the process.
pub const CLOSINGS: u32 = 5;

/// First pause before a retry; doubles up to [`MAX_BACKOFF`].
const BACKOFF: Duration = Duration::from_millis(500);
const MAX_BACKOFF: Duration = Duration::from_secs(8);

/// One box has one of these.
#[derive(Debug)]
pub struct Broadcast {
    state: State,
    opened: Opened,
    stall: Duration,
    /// Failures since the last published segment, or of closing.
    attempt: u32,
    /// When the first segment of the broadcast was published.
    on_air: Option<Instant>,
    unclosed: bool,
}

impl Broadcast {
    /// `segment` is the nominal length of a segment.
    pub fn new(segment: Duration) -> Broadcast {
        Broadcast {
            state: State::Idle,
            opened: Opened::No,
            stall: STALL.max(segment * 4),
            attempt: 0,
            on_air: None,
            unclosed: false,
        }
    }

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

    /// Whether the last broadcast could not be closed: it has no ENDLIST and no VOD playlist yet.
    pub fn unclosed(&self) -> bool {
        self.unclosed
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
            State::Starting { since } => Some(*since + self.stall),
            State::Live { published, .. } => Some(*published + self.stall),
            State::Retrying { until, .. } | State::Stopping { until, .. } => Some(*until),
        }
    }

    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        use Action::{DropProgramme, EndProgramme, Finish};
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        match &event {
            Event::Opened if self.opened == Opened::UnderWay => self.opened = Opened::Yes,
            Event::NotOpened(_) if self.opened == Opened::UnderWay => self.opened = Opened::No,
            Event::Opened | Event::NotOpened(_) => return vec![],
            _ => {}
        }
        let (next, actions) = match (&self.state, event) {
            (State::Idle, Event::Start) => {
                self.attempt = 0;
                self.unclosed = false;
                self.start(now)
            }
            (State::Idle, Event::Resume) => {
                self.opened = Opened::Yes;
                self.start(now)
            }

            (State::Starting { .. } | State::Live { .. }, Event::Published) => {
                self.attempt = 0;
                let since = *self.on_air.get_or_insert(now);
                let published = now;
                (State::Live { since, published }, vec![])
            }

            (State::Starting { .. } | State::Live { .. }, Event::Stop) => {
                let (stage, until) = (Stage::Draining, now + DRAIN);
                (State::Stopping { stage, until }, vec![EndProgramme])
            }
            (State::Retrying { .. } | State::Halted { .. }, Event::Stop) => {
                self.attempt = 0;
                self.close(now)
            }

            (
                State::Starting { .. } | State::Live { .. } | State::Retrying { .. },
                Event::Failed(cause) | Event::NotOpened(cause),
            ) if cause.no_room() => {
                let cleared = false;
                (State::Halted { cause, cleared }, vec![DropProgramme])
            }
            (
                State::Starting { .. } | State::Live { .. },
                Event::Failed(cause) | Event::NotOpened(cause),
            ) => (self.retry(now, cause), vec![DropProgramme]),
            (State::Starting { .. } | State::Live { .. }, Event::Tick) if due => {
                (self.retry(now, Cause::Stalled), vec![DropProgramme])
            }
            (State::Retrying { .. }, Event::Tick) if due => self.start(now),

            (
                State::Stopping {
                    stage: Stage::Draining,
                    ..
                },
                Event::Drained,
            ) => {
                self.attempt = 0;
                self.close(now)
            }
            (
                State::Stopping {
                    stage: Stage::Draining,
                    ..
                },
                Event::Failed(_) | Event::NotOpened(_),
            ) => {
                self.attempt = 0;
                let (state, actions) = self.close(now);
                (state, [vec![DropProgramme], actions].concat())
            }
            (
                State::Stopping {
                    stage: Stage::Draining,
                    ..
                },
                Event::Tick,
            ) if due => {
                self.attempt = 0;
                let (state, actions) = self.close(now);
                (state, [vec![DropProgramme], actions].concat())
            }
            (
                State::Stopping {
                    stage: Stage::Closing,
                    ..
                },
                Event::Finished,
            ) => {
                self.opened = Opened::No;
                (State::Idle, vec![])
            }
            // Nothing was opened, so nothing is to be closed.
            (State::Stopping { .. }, Event::NotOpened(_)) => (State::Idle, vec![]),
            (
                State::Stopping {
                    stage: Stage::Closing,
                    ..
                },
                Event::Failed(_),
            ) => {
                self.attempt += 1;
                if self.attempt < CLOSINGS {
                    let (stage, until) = (Stage::Pausing, now + self.backoff());
                    (State::Stopping { stage, until }, vec![])
                } else {
                    self.give_up()
                }
            }
            (
                State::Stopping {
                    stage: Stage::Pausing,
                    ..
                },
                Event::Tick,
            ) if due => {
                let (stage, until) = (Stage::Closing, now + CLOSE);
                (State::Stopping { stage, until }, vec![Finish])
            }
            (
                State::Stopping {
                    stage: Stage::Closing,
                    ..
                },
                Event::Tick,
            ) if due => self.give_up(),

            (
                State::Halted {
                    cause: Cause::DiskFull,
                    ..
                },
                Event::Cleared,
            ) => {
                let (cause, cleared) = (Cause::DiskFull, true);
                (State::Halted { cause, cleared }, vec![])
            }
            (State::Halted { cleared: true, .. }, Event::Start) => self.start(now),
            _ => return vec![],
        };
        self.state = next;
        if self.state == State::Idle {
            self.on_air = None;
            self.attempt = 0;
        }
        actions
    }

    /// A new life of the programme, in a broadcast that the store has opened or has to open.
    fn start(&mut self, now: Instant) -> (State, Vec<Action>) {
        let mut actions = vec![Action::StartProgramme];
        if self.opened == Opened::No {
            self.opened = Opened::UnderWay;
            actions.insert(0, Action::Begin);
        }
        (State::Starting { since: now }, actions)
    }

    fn close(&mut self, now: Instant) -> (State, Vec<Action>) {
        if self.opened == Opened::No {
            return (State::Idle, vec![]);
        }
        let (stage, until) = (Stage::Closing, now + CLOSE);
        (State::Stopping { stage, until }, vec![Action::Finish])
    }

    fn give_up(&mut self) -> (State, Vec<Action>) {
        self.unclosed = true;
        self.opened = Opened::No;
        (State::Idle, vec![])
    }

    fn retry(&mut self, now: Instant, cause: Cause) -> State {
        let until = now + self.backoff();
        self.attempt += 1;
        State::Retrying { cause, until }
    }

    fn backoff(&self) -> Duration {
        (BACKOFF * 2u32.saturating_pow(self.attempt.min(8))).min(MAX_BACKOFF)
    }
}
