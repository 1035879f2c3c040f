//! The state machine of a broadcast.
//!
//! ```text
//! Idle ──Start──▶ Starting ──Published──▶ Live
//! Starting, Live ──Failed(cause), or nothing published in time──▶ Retrying ──deadline──▶ Starting
//! Starting, Live ──Stop──▶ Stopping(draining) ──Drained──▶ Stopping(closing) ──Finished──▶ Idle
//! Retrying ──Stop──▶ Stopping(closing)
//! Idle ──ResumeWithin──▶ Retrying(Clock) ──Resume, Start, deadline──▶ Starting
//! Stopping(closing) ──Failed──▶ Stopping(pausing) ──deadline──▶ Stopping(closing), at most [`CLOSINGS`] times
//! ```
//! A lost signal is not a failure: the slate runs and the state stays Live. Neither is a store that takes nothing: the stream
//! goes on from memory, the [`Outage`] is told beside the state, and the store is asked again from time to time.

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
    /// The store has reached its limit, and nothing in it may go.
    StoreFull,
    /// Only the time says whether a broadcast that was cut off is still wanted, and it is about to be set.
    Clock,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Encoder(why) => write!(f, "encoder: {why}"),
            Cause::Store(why) => write!(f, "store: {why}"),
            Cause::Stalled => f.write_str("no segment in time"),
            Cause::DiskFull => f.write_str("disk full"),
            Cause::StoreFull => f.write_str("store full"),
            Cause::Clock => f.write_str("the time is not known yet"),
        }
    }
}

/// The store does not take what is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    pub cause: Cause,
    /// When the store is asked again.
    until: Instant,
    /// How often it has been asked in vain.
    attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Idle,
    Starting { since: Instant },
    Live { since: Instant, published: Instant },
    Retrying { cause: Cause, until: Instant },
    Stopping { stage: Stage, until: Instant },
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
    /// One was found, and the clock that says whether it is still wanted will be set within this time, or not at all.
    ResumeWithin(Duration),
    /// The operator wants to stop, or the box is shutting down.
    Stop,
    /// The store has opened the broadcast.
    Opened,
    /// The store cannot open it.
    NotOpened(Cause),
    /// A segment of every rendition is in the playlists.
    Published,
    /// A segment is durable.
    Stored,
    /// A segment could not be stored; it is published from memory.
    NotStored(Cause),
    /// The programme has delivered its last segment after `EndProgramme`.
    Drained,
    /// The broadcast is closed: ENDLIST and VOD are published.
    Finished,
    /// The programme has failed, or closing has.
    Failed(Cause),
    /// There is room on the disk again.
    Cleared,
    /// Time has passed; see [`Broadcast::deadline`].
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin a new broadcast, and open it in the store.
    Begin,
    /// The store could not open it: ask again.
    Open,
    /// Offer the next segment to the store again.
    Store,
    /// Build the programme pipeline and a new continuity run.
    StartProgramme,
    /// Let the programme play out what it has and end.
    EndProgramme,
    /// Tear the programme down at once.
    DropProgramme,
    /// Publish ENDLIST and VOD.
    Finish,
    /// Tell viewers of the end; the store cannot be told.
    Abandon,
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

/// First pause before a store that took nothing is asked again; doubles up to [`MAX_STORE_BACKOFF`]. To ask costs viewers the
/// time that the disk takes to refuse.
const STORE_BACKOFF: Duration = Duration::from_secs(2);
const MAX_STORE_BACKOFF: Duration = Duration::from_secs(30);

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
    /// When the last one was, or the broadcast was begun or taken up, while segments are due. Nothing while the clock is awaited.
    heard: Option<Instant>,
    outage: Option<Outage>,
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
            heard: None,
            outage: None,
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

    /// Since when viewers wait for a segment: the last one was published then, or, where there is none yet in this life, the
    /// broadcast was begun or taken up. However often the programme is rebuilt meanwhile, this stands still. Nothing while none is due.
    pub fn waiting_since(&self) -> Option<Instant> {
        let due = matches!(
            self.state,
            State::Starting { .. } | State::Live { .. } | State::Retrying { .. }
        );
        self.heard.filter(|_| due)
    }

    /// Why what is published is not stored.
    pub fn outage(&self) -> Option<&Outage> {
        self.outage.as_ref()
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
            State::Idle => Tally::Off,
            State::Starting { .. } | State::Retrying { .. } => Tally::Blinking,
            // Until the last frame is out, what is said in the room is on air.
            State::Live { .. } | State::Stopping { .. } => Tally::On,
        }
    }

    /// When `Event::Tick` is due.
    pub fn deadline(&self) -> Option<Instant> {
        let again = (self.outage.as_ref()).filter(|_| self.publishes());
        let again = again.map(|outage| outage.until);
        [self.due(), again].into_iter().flatten().min()
    }

    /// When the state's own time is over.
    fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Idle => None,
            State::Starting { since } => Some(*since + self.stall),
            State::Live { published, .. } => Some(*published + self.stall),
            State::Retrying { until, .. } | State::Stopping { until, .. } => Some(*until),
        }
    }

    /// Segments come, or will again.
    fn publishes(&self) -> bool {
        match self.state {
            State::Starting { .. } | State::Live { .. } | State::Retrying { .. } => true,
            State::Stopping { stage, .. } => stage == Stage::Draining,
            State::Idle => false,
        }
    }

    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = self.store(now, &event);
        actions.extend(self.stream(now, event));
        actions
    }

    /// What the store says, and when it is asked again.
    fn store(&mut self, now: Instant, event: &Event) -> Vec<Action> {
        match event {
            Event::Opened if self.opened == Opened::UnderWay => {
                self.opened = Opened::Yes;
                match self.outage.take() {
                    Some(_) => vec![Action::Store],
                    None => vec![],
                }
            }
            Event::NotOpened(cause) if self.opened == Opened::UnderWay => {
                self.opened = Opened::No;
                self.failed(now, cause);
                vec![]
            }
            Event::NotStored(cause) => {
                self.failed(now, cause);
                vec![]
            }
            Event::Stored => {
                self.outage = None;
                vec![]
            }
            Event::Cleared => {
                let full = |outage: &&mut Outage| outage.cause == Cause::DiskFull;
                match self.outage.as_mut().filter(full) {
                    Some(outage) => {
                        outage.until = now;
                        self.ask(now)
                    }
                    None => vec![],
                }
            }
            Event::Tick => self.ask(now),
            _ => vec![],
        }
    }

    fn failed(&mut self, now: Instant, cause: &Cause) {
        if !self.publishes() {
            return;
        }
        let attempts = self.outage.as_ref().map_or(0, |outage| outage.attempts);
        let pause = STORE_BACKOFF * 2u32.saturating_pow(attempts.min(8));
        self.outage = Some(Outage {
            cause: cause.clone(),
            until: now + pause.min(MAX_STORE_BACKOFF),
            attempts: attempts + 1,
        });
    }

    fn ask(&mut self, now: Instant) -> Vec<Action> {
        let publishes = self.publishes();
        let Some(outage) = (self.outage.as_mut()).filter(|it| publishes && it.until <= now) else {
            return vec![];
        };
        // The answer comes with the next segment, or says when to ask again.
        outage.until = now + MAX_STORE_BACKOFF;
        match self.opened {
            Opened::No => {
                self.opened = Opened::UnderWay;
                vec![Action::Open]
            }
            Opened::UnderWay => vec![],
            Opened::Yes => vec![Action::Store],
        }
    }

    /// What becomes of the programme and the broadcast.
    fn stream(&mut self, now: Instant, event: Event) -> Vec<Action> {
        use Action::{DropProgramme, EndProgramme, Finish};
        let due = self.due().is_some_and(|due| due <= now);
        let (next, actions) = match (&self.state, event) {
            (State::Idle, Event::Start) => {
                self.attempt = 0;
                self.unclosed = false;
                self.opened = Opened::UnderWay;
                self.heard = Some(now);
                let starting = State::Starting { since: now };
                (starting, vec![Action::Begin, Action::StartProgramme])
            }
            (State::Idle, Event::Resume) => {
                self.opened = Opened::Yes;
                self.heard = Some(now);
                Broadcast::start(now)
            }
            (State::Idle, Event::ResumeWithin(time)) => {
                self.opened = Opened::Yes;
                self.heard = None;
                let (cause, until) = (Cause::Clock, now + time);
                (State::Retrying { cause, until }, vec![])
            }
            (
                State::Retrying {
                    cause: Cause::Clock,
                    ..
                },
                Event::Start | Event::Resume,
            ) => {
                self.heard = Some(now);
                Broadcast::start(now)
            }

            (State::Starting { .. } | State::Live { .. }, Event::Published) => {
                self.attempt = 0;
                let since = *self.on_air.get_or_insert(now);
                self.heard = Some(now);
                let published = now;
                (State::Live { since, published }, vec![])
            }

            (State::Starting { .. } | State::Live { .. }, Event::Stop) => {
                let (stage, until) = (Stage::Draining, now + DRAIN);
                (State::Stopping { stage, until }, vec![EndProgramme])
            }
            (State::Retrying { .. }, Event::Stop) => {
                self.attempt = 0;
                self.close(now)
            }

            (State::Starting { .. } | State::Live { .. }, Event::Failed(cause)) => {
                (self.retry(now, cause), vec![DropProgramme])
            }
            (State::Starting { .. } | State::Live { .. }, Event::Tick) if due => {
                (self.retry(now, Cause::Stalled), vec![DropProgramme])
            }
            (State::Retrying { .. }, Event::Tick) if due => {
                self.heard.get_or_insert(now);
                Broadcast::start(now)
            }

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
                Event::Failed(_),
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
            // The store has come to itself after it was given up.
            (State::Idle, Event::Finished) => {
                self.unclosed = false;
                return vec![];
            }
            // Nothing was opened, so nothing is to be closed.
            (
                State::Stopping {
                    stage: Stage::Closing | Stage::Pausing,
                    ..
                },
                Event::NotOpened(_),
            ) if self.opened == Opened::No => (State::Idle, vec![Action::Abandon]),
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
            _ => return vec![],
        };
        self.state = next;
        if self.state == State::Idle {
            self.on_air = None;
            self.outage = None;
            self.attempt = 0;
        }
        actions
    }

    /// A new life of the programme.
    fn start(now: Instant) -> (State, Vec<Action>) {
        (State::Starting { since: now }, vec![Action::StartProgramme])
    }

    fn close(&mut self, now: Instant) -> (State, Vec<Action>) {
        if self.opened == Opened::No {
            return (State::Idle, vec![Action::Abandon]);
        }
        let (stage, until) = (Stage::Closing, now + CLOSE);
        (State::Stopping { stage, until }, vec![Action::Finish])
    }

    fn give_up(&mut self) -> (State, Vec<Action>) {
        self.unclosed = true;
        self.opened = Opened::No;
        (State::Idle, vec![Action::Abandon])
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
