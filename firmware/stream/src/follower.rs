//! Following a name: which of the records that come is believed, what is fetched next, and whom to ask when nobody tells.
//!
//! The edge verifies signatures and fetches; what a record names is opaque here. One fetch of the name's content is under way
//! at a time. It is not given up for a newer record: a mirror that always did would never finish on a slow link.
//!
//! ```text
//! told ──older, other value, expired──▶ refused
//!   └────▶ newest ──▶ under way ──fetched──▶ served
//!            ▲            ├──failed──▶ waits, unless there is a newer one
//!            └────────────┴──refused──▶ never again
//! ```

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

/// So long after the last record over PubSub the others are asked: two segments, and a little.
pub const SILENCE: Duration = Duration::from_secs(5);
/// A segment's time.
pub const ASK_EVERY: Duration = Duration::from_secs(2);
/// Where nothing has been new for [`IDLE`], in which the DHT is asked once, too.
pub const ASK_IDLE_EVERY: Duration = Duration::from_secs(10);
pub const IDLE: Duration = Duration::from_secs(300);
/// The DHT takes tens of seconds, and is told once a minute.
pub const DHT_EVERY: Duration = Duration::from_secs(60);
/// A live broadcast that has nothing new for so long has lost its box: seven segments.
pub const GONE: Duration = Duration::from_secs(15);

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A record whose signature is the name's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it names.
    pub root: String,
    pub sequence: u64,
    pub expires: SystemTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    PubSub,
    Http,
    Dht,
}

/// Why a record is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A newer one has been seen: this one is played again.
    Older {
        sequence: u64,
        newest: u64,
    },
    /// Two records of one number that name different roots. The first is kept.
    Contradicts {
        sequence: u64,
    },
    Expired {
        sequence: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Older { sequence, newest } => {
                write!(
                    f,
                    "record {sequence} is older than {newest}, which is known"
                )
            }
            Refusal::Contradicts { sequence } => {
                write!(f, "another record {sequence} names another root")
            }
            Refusal::Expired { sequence } => write!(f, "record {sequence} has expired"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Told(Source, Told),
    /// What was to be fetched is served.
    Fetched,
    /// It does not come, for now.
    Failed,
    /// It has come, and is not such as may be served.
    Refused,
    /// Whether any peer is connected.
    Connected(bool),
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Fetch(Told),
    /// A newer record of what is served: signed again.
    Keep(Told),
    AskHttp,
    AskDht,
}

#[derive(Debug)]
pub struct Follower {
    asks_http: bool,
    started: Instant,
    served: Option<Told>,
    /// Of all that was believed.
    newest: Option<Told>,
    under_way: Option<Told>,
    /// Its content was refused.
    bad: Option<u64>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Since when something newer than what is served is known.
    behind_since: Option<Instant>,
    /// Since when something newer than what is under way is known.
    newer_since: Option<Instant>,
    /// The last new record.
    new_at: Option<Instant>,
    pubsub_at: Option<Instant>,
    /// The last record that is not older than the newest, though it may be that one again. Other answers are no sign of life: where
    /// the box was, somebody else may answer now.
    heard_at: Option<Instant>,
    connected: bool,
    ask_http_at: Instant,
    asked_dht_at: Option<Instant>,
    refused: u64,
    refusal: Option<Refusal>,
}

impl Follower {
    /// `asks_http` where there is somebody to ask over HTTP; `served` is what was served last, in an earlier life.
    pub fn new(now: Instant, asks_http: bool, served: Option<Told>) -> Follower {
        Follower {
            asks_http,
            started: now,
            newest: served.clone(),
            served,
            under_way: None,
            bad: None,
            failures: 0,
            retry_at: None,
            behind_since: None,
            newer_since: None,
            new_at: None,
            pubsub_at: None,
            heard_at: None,
            connected: false,
            ask_http_at: now,
            asked_dht_at: None,
            refused: 0,
            refusal: None,
        }
    }

    /// What was served last is not all there, and is fetched again. Nothing older is believed all the same.
    pub fn lost(now: Instant, asks_http: bool, newest: Told) -> Follower {
        Follower {
            newest: Some(newest),
            behind_since: Some(now),
            retry_at: Some(now),
            ..Follower::new(now, asks_http, None)
        }
    }

    /// `wall` is the wall time, or nothing while the clock cannot be believed: then no record is taken for expired.
    pub fn step(&mut self, now: Instant, wall: Option<SystemTime>, event: Event) -> Vec<Action> {
        match event {
            Event::Told(source, told) => self.told(now, wall, source, told),
            Event::Fetched => {
                self.served = self.under_way.take();
                self.behind_since = self.newer_since;
                self.settled()
            }
            Event::Refused => {
                self.bad = self.under_way.take().map(|told| told.sequence);
                self.settled()
            }
            Event::Failed => {
                let Some(failed) = self.under_way.take() else {
                    return Vec::new();
                };
                // A newer root is another one: perhaps that one comes.
                let newer = (self.newest.as_ref()).is_some_and(|it| it.sequence > failed.sequence);
                if newer {
                    return self.fetch();
                }
                let pause = FIRST_RETRY * 2_u32.saturating_pow(self.failures.min(10));
                self.failures += 1;
                self.retry_at = Some(now + pause.min(LAST_RETRY));
                Vec::new()
            }
            Event::Connected(connected) => {
                let came = connected && !self.connected;
                self.connected = connected;
                if came {
                    self.failures = 0;
                    return self.retry();
                }
                Vec::new()
            }
            Event::Tick => self.tick(now),
        }
    }

    fn told(
        &mut self,
        now: Instant,
        wall: Option<SystemTime>,
        source: Source,
        told: Told,
    ) -> Vec<Action> {
        let sequence = told.sequence;
        let newest = self.newest.as_ref();
        let refusal = if wall.is_some_and(|wall| told.expires < wall) {
            Some(Refusal::Expired { sequence })
        } else {
            newest.and_then(|newest| {
                if sequence < newest.sequence {
                    let newest = newest.sequence;
                    return Some(Refusal::Older { sequence, newest });
                }
                let contradicts = sequence == newest.sequence && told.root != newest.root;
                contradicts.then_some(Refusal::Contradicts { sequence })
            })
        };
        if let Some(refusal) = refusal {
            self.refused += 1;
            self.refusal = Some(refusal);
            return Vec::new();
        }
        self.heard_at = Some(now);
        if newest.is_some_and(|newest| newest.sequence == sequence) {
            // Told again, by somebody who may have it.
            return match source {
                Source::PubSub => self.retry(),
                _ => Vec::new(),
            };
        }
        self.new_at = Some(now);
        if source == Source::PubSub {
            // Not for one that is known: anybody can play that again.
            self.pubsub_at = Some(now);
        }
        self.newest = Some(told.clone());
        if self.under_way.is_none()
            && let Some(served) = &mut self.served
            && served.root == told.root
        {
            *served = told.clone();
            self.behind_since = None;
            self.retry_at = None;
            return vec![Action::Keep(told)];
        }
        self.behind_since.get_or_insert(now);
        self.failures = 0;
        if self.under_way.is_some() {
            self.newer_since.get_or_insert(now);
            return Vec::new();
        }
        self.fetch()
    }

    /// A fetch is over and need not be repeated.
    fn settled(&mut self) -> Vec<Action> {
        self.failures = 0;
        self.fetch()
    }

    /// What is not served and may be.
    fn owed(&self) -> Option<&Told> {
        let newest = self.newest.as_ref()?;
        let served = self.served.as_ref().map(|served| served.sequence);
        let done = served.max(self.bad);
        (Some(newest.sequence) > done).then_some(newest)
    }

    fn fetch(&mut self) -> Vec<Action> {
        self.retry_at = None;
        self.newer_since = None;
        self.under_way = self.owed().cloned();
        self.under_way.iter().cloned().map(Action::Fetch).collect()
    }

    fn retry(&mut self) -> Vec<Action> {
        match self.retry_at {
            Some(_) => self.fetch(),
            None => Vec::new(),
        }
    }

    fn tick(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = match self.retry_at {
            Some(at) if at <= now => self.fetch(),
            _ => Vec::new(),
        };
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let silent = since(self.pubsub_at).is_none_or(|it| it >= SILENCE);
        if self.asks_http && silent && self.ask_http_at <= now {
            let idle = since(self.new_at.or(Some(self.started))).is_some_and(|it| it >= IDLE);
            self.ask_http_at = now + if idle { ASK_IDLE_EVERY } else { ASK_EVERY };
            actions.push(Action::AskHttp);
        }
        // Who tells the same again may be the box, which is idle, or somebody who no longer hears it either.
        let pause = match since(self.heard_at) {
            Some(heard) if heard < DHT_EVERY => IDLE,
            _ => DHT_EVERY,
        };
        let long = |at| since(at).is_none_or(|it| it >= pause);
        if self.connected && long(self.new_at) && long(self.asked_dht_at) {
            self.asked_dht_at = Some(now);
            actions.push(Action::AskDht);
        }
        actions
    }

    pub fn served(&self) -> Option<&Told> {
        self.served.as_ref()
    }

    pub fn newest(&self) -> Option<&Told> {
        self.newest.as_ref()
    }

    pub fn under_way(&self) -> Option<&Told> {
        self.under_way.as_ref()
    }

    /// How long something newer has been known than what is served.
    pub fn behind(&self, now: Instant) -> Duration {
        let since = self.behind_since;
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How many records were refused, and why the last one.
    pub fn refusals(&self) -> (u64, Option<Refusal>) {
        (self.refused, self.refusal)
    }

    /// For how long the box has been gone: while a broadcast is `live`, since there was something new; else since anybody was
    /// connected or told a record that was not older.
    pub fn gone(&self, now: Instant, live: bool) -> Option<Duration> {
        let last = match live {
            true => self.new_at,
            false if self.connected => return None,
            false => self.heard_at.max(self.new_at),
        };
        let silent = now.saturating_duration_since(last.unwrap_or(self.started));
        (silent >= GONE).then_some(silent)
    }

    /// What holds between two calls.
    ///
    /// # Panics
    /// Where it does not, for tests.
    pub fn check_invariants(&self) {
        let sequence = |told: &Option<Told>| told.as_ref().map(|told| told.sequence);
        let newest = sequence(&self.newest);
        assert!(sequence(&self.served) <= newest && sequence(&self.under_way) <= newest);
        assert_eq!(self.behind_since.is_some(), sequence(&self.served) < newest);
        if let Some(under_way) = &self.under_way {
            assert!(Some(under_way.sequence) > sequence(&self.served));
            assert!(self.retry_at.is_none());
        } else {
            assert_eq!(self.owed().is_some(), self.retry_at.is_some());
        }
    }
}
