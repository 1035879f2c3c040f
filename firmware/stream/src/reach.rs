//! What the stream looks like from outside: who is asked for which segment when, and what the answers mean.
//!
//! A **witness** is a mirror, a gateway or a connected peer that can be asked. It is asked for the newest published segment;
//! when it does not have that in time, for one further back the next time, twice as far with every failure. So it follows how
//! far behind it is, without asking it for every segment.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

/// Segments that are remembered: a witness that is further behind is not following.
const REMEMBERED: usize = 64;

/// Questions under way. Each may take as long as its timeout.
const AT_A_TIME: usize = 4;

/// Between two questions to a mirror or gateway that the operator has named.
const NAMED_EVERY: Duration = Duration::from_secs(10);

/// Between two questions to another peer, and between two such questions at all: they only connect to be served.
const PEER_EVERY: Duration = Duration::from_secs(30);
const PEERS_EVERY: Duration = Duration::from_secs(5);

/// An answer that is older than this is no longer shown as one.
const STALE: Duration = Duration::from_secs(90);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Of `[node] check`.
    Gateway,
    /// Of `[node] peers`.
    Mirror,
    /// Anybody who is connected.
    Peer,
}

/// What is known of a witness.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Witness {
    pub kind: Kind,
    /// A gateway's address, or a peer's id.
    pub name: String,
    /// Program and version, as a connected peer says.
    pub agent: Option<String>,
    /// Where it was or can be asked. `None` where a peer cannot be dialled: nobody knows what it holds.
    pub address: Option<String>,
    /// `None` before the first answer, and when it is old.
    pub seen: Option<bool>,
    /// The newest segment that it is known to have.
    pub sequence: Option<u64>,
    /// Age of that segment when it was had from there, at most. Where it no longer answers, since when the segment after
    /// that has been out.
    pub behind_ms: Option<u64>,
    /// Why the last question failed, in a few words.
    pub error: Option<String>,
}

/// The named witnesses in a line: "seen by 2 of 3, 8 s behind".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub seen: usize,
    pub of: usize,
    /// Of the one that is the furthest behind among those.
    pub behind_ms: Option<u64>,
}

/// Where the record of the box's name is known. Times are milliseconds ago.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct NameRecord {
    /// `None` before the first broadcast.
    pub sequence: Option<u64>,
    /// Since it was signed; `None` while the clock is not set.
    pub age_ms: Option<u64>,
    /// Peers that are told at once, over PubSub.
    pub listeners: usize,
    /// The last answer of the DHT.
    pub dht_ms: Option<u64>,
    /// Whether it has taken the record.
    pub dht_taken: Option<bool>,
    /// When somebody last asked for it over HTTP.
    pub http_ms: Option<u64>,
    /// When another box was heard last that has the key and signs for this name, too.
    pub another_ms: Option<u64>,
}

/// The box as others see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Outside {
    /// `None` off air, and where nobody is named.
    pub summary: Option<Summary>,
    /// Those that the operator has named, in this order; then connected peers.
    pub witnesses: Vec<Witness>,
    pub record: NameRecord,
}

/// A question to be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub kind: Kind,
    pub name: String,
    /// The segment's media sequence number.
    pub sequence: u64,
}

#[derive(Debug)]
struct Known {
    kind: Kind,
    agent: Option<String>,
    address: Option<String>,
    asked: Option<Duration>,
    pending: bool,
    /// How many segments before the newest it is asked for.
    back: usize,
    answered: Option<(Duration, bool)>,
    sequence: Option<u64>,
    /// At the last answer that was a success.
    age: Option<Duration>,
    error: Option<String>,
}

/// A peer that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub id: String,
    pub agent: Option<String>,
    pub address: Option<String>,
}

/// Asks and concludes. Time is the caller's, since any beginning.
#[derive(Debug, Default)]
pub struct Reach {
    /// Number and time of the last published segments, oldest first.
    published: VecDeque<(u64, Duration)>,
    /// In the order in which they are shown.
    names: Vec<String>,
    known: BTreeMap<String, Known>,
    /// When a peer that nobody has named was asked last.
    peer_asked: Option<Duration>,
}

impl Reach {
    /// Gateways by their addresses; mirrors by peer id and address.
    pub fn new(gateways: &[String], mirrors: &[(String, String)]) -> Reach {
        let mut reach = Reach::default();
        for gateway in gateways {
            reach.add(Kind::Gateway, gateway.clone(), Some(gateway.clone()));
        }
        for (id, address) in mirrors {
            reach.add(Kind::Mirror, id.clone(), Some(address.clone()));
        }
        reach
    }

    fn add(&mut self, kind: Kind, name: String, address: Option<String>) {
        if self.known.contains_key(&name) {
            return;
        }
        self.names.push(name.clone());
        let known = Known {
            kind,
            agent: None,
            address,
            asked: None,
            pending: false,
            back: 0,
            answered: None,
            sequence: None,
            age: None,
            error: None,
        };
        self.known.insert(name, known);
    }

    /// Another segment is out. A number that does not rise begins anew.
    pub fn published(&mut self, now: Duration, sequence: u64) {
        if (self.published.back()).is_some_and(|(last, _)| *last >= sequence) {
            self.published.clear();
        }
        self.published.push_back((sequence, now));
        if self.published.len() > REMEMBERED {
            self.published.pop_front();
        }
    }

    /// Nothing is on air: nobody is asked, and what was answered is over.
    pub fn off_air(&mut self) {
        self.published.clear();
        self.peer_asked = None;
        for known in self.known.values_mut() {
            (known.asked, known.answered, known.error) = (None, None, None);
            (known.sequence, known.age, known.back) = (None, None, 0);
        }
    }

    /// All peers that are connected now.
    pub fn connected(&mut self, peers: Vec<Peer>) {
        let here: BTreeMap<String, Peer> =
            peers.into_iter().map(|it| (it.id.clone(), it)).collect();
        let gone = |name: &str, known: &Known| known.kind == Kind::Peer && !here.contains_key(name);
        self.known.retain(|name, known| !gone(name, known));
        self.names.retain(|name| self.known.contains_key(name));
        for (id, peer) in here {
            self.add(Kind::Peer, id.clone(), None);
            let Some(known) = self.known.get_mut(&id) else {
                continue;
            };
            known.agent = peer.agent;
            if known.kind == Kind::Peer {
                known.address = peer.address;
            }
        }
    }

    /// Whom to ask for what now, if anybody. Each question that is returned must be [`answered`](Reach::answered).
    pub fn next(&mut self, now: Duration) -> Option<Question> {
        if self.known.values().filter(|known| known.pending).count() >= AT_A_TIME {
            return None;
        }
        let name = self.due(now)?;
        let known = self.known.get_mut(&name)?;
        let newest = self.published.len().checked_sub(1)?;
        let (sequence, _) = self.published[newest.saturating_sub(known.back)];
        known.asked = Some(now);
        known.pending = true;
        if known.kind == Kind::Peer {
            self.peer_asked = Some(now);
        }
        Some(Question {
            kind: known.kind,
            name,
            sequence,
        })
    }

    /// Who has waited longest among those whose turn it is; named ones first.
    fn due(&self, now: Duration) -> Option<String> {
        let since = |then: Option<Duration>, least: Duration| {
            then.is_none_or(|then| now.saturating_sub(then) >= least)
        };
        let peers = since(self.peer_asked, PEERS_EVERY);
        let due = self.names.iter().filter_map(|name| {
            let known = self.known.get(name)?;
            let turn = match known.kind {
                Kind::Peer => peers && known.address.is_some() && since(known.asked, PEER_EVERY),
                Kind::Gateway | Kind::Mirror => since(known.asked, NAMED_EVERY),
            };
            let order = (known.kind == Kind::Peer, known.asked);
            (turn && !known.pending).then_some((order, name))
        });
        due.min().map(|(_, name)| name.clone())
    }

    /// What came of a question. Whoever has left in the meantime, and segments of another broadcast, do not count.
    pub fn answered(&mut self, now: Duration, question: &Question, answer: Result<(), String>) {
        let published = (self.published.iter()).find(|(number, _)| *number == question.sequence);
        let Some(known) = self.known.get_mut(&question.name) else {
            return;
        };
        known.pending = false;
        let Some((sequence, at)) = published else {
            return;
        };
        known.answered = Some((now, answer.is_ok()));
        match answer {
            Ok(()) => {
                known.sequence = known.sequence.max(Some(*sequence));
                known.age = Some(now.saturating_sub(*at));
                known.back /= 2;
                known.error = None;
            }
            Err(error) => {
                known.back = (known.back * 2).clamp(1, REMEMBERED - 1);
                known.error = Some(error);
            }
        }
    }

    /// Without the record.
    pub fn outside(&self, now: Duration) -> Outside {
        let named = |it: &&Witness| it.kind != Kind::Peer;
        let witnesses: Vec<Witness> = (self.names.iter())
            .filter_map(|name| Some(self.witness(now, name, self.known.get(name)?)))
            .collect();
        let (seen, of) = (
            witnesses
                .iter()
                .filter(named)
                .filter(|it| it.seen == Some(true)),
            witnesses.iter().filter(named).count(),
        );
        let summary = Summary {
            seen: seen.clone().count(),
            of,
            behind_ms: seen.filter_map(|it| it.behind_ms).max(),
        };
        Outside {
            summary: (of > 0 && !self.published.is_empty()).then_some(summary),
            witnesses,
            record: NameRecord::default(),
        }
    }

    fn witness(&self, now: Duration, name: &str, known: &Known) -> Witness {
        let answered = known.answered;
        let fresh = answered.filter(|(at, _)| now.saturating_sub(*at) < STALE);
        let seen = fresh.map(|(_, seen)| seen);
        // The first that it is not known to have.
        let after = |sequence| (self.published.iter()).find(|(number, _)| *number > sequence);
        let missing = known.sequence.and_then(after).map(|(_, at)| *at);
        let behind = match seen {
            Some(true) => known.age,
            Some(false) => missing.map(|at| now.saturating_sub(at)),
            None => None,
        };
        Witness {
            kind: known.kind,
            name: name.to_owned(),
            agent: known.agent.clone(),
            address: known.address.clone(),
            seen,
            sequence: known.sequence,
            behind_ms: behind.map(|behind| behind.as_millis() as u64),
            error: known.error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A segment every two seconds; a witness that has each after `delay`, asked until `end`.
    fn follow(delay: Duration, timeout: Duration, end: u64) -> Outside {
        let mut reach = Reach::new(&["http://gateway".into()], &[]);
        let mut pending: Option<(Duration, Question, bool)> = None;
        for tenth in 0..end * 10 {
            let now = Duration::from_millis(tenth * 100);
            if tenth % 20 == 0 {
                reach.published(now, tenth / 20);
            }
            if let Some((_, question, has)) = pending.take_if(|(at, ..)| *at <= now) {
                reach.answered(now, &question, has.then_some(()).ok_or("no answer".into()));
            }
            if let Some(question) = reach.next(now) {
                let has_at = s(question.sequence * 2) + delay;
                let waits = has_at.saturating_sub(now).min(timeout);
                pending = Some((now + waits, question, waits < timeout));
            }
        }
        reach.outside(s(end))
    }

    #[test]
    fn how_far_behind_a_witness_is() {
        for (delay, behind) in [(0, 0..=2000), (3, 3000..=5000), (30, 30_000..=50_000)] {
            let outside = follow(s(delay), s(10), 200);
            let witness = &outside.witnesses[0];
            // One far behind is asked for the newest now and then, and fails.
            let (seen, said) = (witness.seen.unwrap(), witness.behind_ms.unwrap());
            assert!(behind.contains(&said), "{delay} s: {witness:?}");
            assert!(seen || delay > 10, "{witness:?}");
        }
        let never = follow(s(1000), s(10), 200);
        let summary = never.summary.unwrap();
        assert_eq!((summary.seen, summary.of, summary.behind_ms), (0, 1, None));
        assert_eq!(never.witnesses[0].error.as_deref(), Some("no answer"));
    }

    #[test]
    fn seen_by_two_of_three_eight_seconds_behind() {
        let gateways = ["http://a", "http://b", "http://c"].map(str::to_owned);
        let mut reach = Reach::new(&gateways, &[]);
        assert_eq!(reach.next(s(0)), None, "nothing is out");
        assert_eq!(reach.outside(s(0)).summary, None);
        reach.published(s(0), 7);
        let questions: Vec<Question> = std::iter::from_fn(|| reach.next(s(0))).collect();
        assert_eq!(questions.len(), 3);
        assert!(questions.iter().all(|question| question.sequence == 7));
        reach.answered(s(1), &questions[0], Ok(()));
        reach.answered(s(8), &questions[1], Ok(()));
        reach.answered(s(8), &questions[2], Err("wrong bytes".into()));
        let summary = reach.outside(s(8)).summary.unwrap();
        let expected = Summary {
            seen: 2,
            of: 3,
            behind_ms: Some(8000),
        };
        assert_eq!(summary, expected);
        // Old answers are none.
        let summary = reach.outside(s(200)).summary.unwrap();
        assert_eq!((summary.seen, summary.behind_ms), (0, None));
        reach.off_air();
        assert_eq!(reach.next(s(201)), None);
        assert_eq!(reach.outside(s(201)).summary, None);
    }

    #[test]
    fn one_that_stopped_falls_behind() {
        let mut reach = Reach::new(&["http://a".into()], &[]);
        reach.published(s(0), 0);
        let question = reach.next(s(0)).unwrap();
        reach.answered(s(1), &question, Ok(()));
        for number in 1..10 {
            reach.published(s(number * 2), number);
        }
        let question = reach.next(s(18)).unwrap();
        assert_eq!(question.sequence, 9);
        reach.answered(s(20), &question, Err("unreachable".into()));
        let witness = reach.outside(s(20)).witnesses.remove(0);
        assert_eq!(
            (witness.sequence, witness.behind_ms),
            (Some(0), Some(18_000))
        );
        // The next question is for one further back.
        assert_eq!(reach.next(s(28)).unwrap().sequence, 8);
    }

    #[test]
    fn peers_take_turns_and_named_ones_go_first() {
        let mirror = ("mirror".to_owned(), "/dns4/mirror".to_owned());
        let mut reach = Reach::new(&[], &[mirror]);
        let peer = |id: &str, address: Option<&str>| Peer {
            id: id.into(),
            agent: Some("kubo".into()),
            address: address.map(str::to_owned),
        };
        reach.connected(vec![
            peer("a", Some("/ip4/a")),
            peer("hidden", None),
            peer("b", Some("/ip4/b")),
            peer("mirror", Some("/ip4/other")),
        ]);
        let mut asked = Vec::new();
        for second in 0..60 {
            if second % 2 == 0 {
                reach.published(s(second), second / 2);
            }
            while let Some(question) = reach.next(s(second)) {
                asked.push((second, question.name.clone()));
                reach.answered(s(second), &question, Ok(()));
            }
        }
        let of = |name: &str| -> Vec<u64> {
            let asked = asked.iter().filter(|(_, it)| it == name);
            asked.map(|(second, _)| *second).collect()
        };
        assert_eq!(of("mirror"), [0, 10, 20, 30, 40, 50]);
        assert_eq!(of("a"), [0, 30]);
        assert_eq!(of("b"), [5, 35]);
        assert!(of("hidden").is_empty());
        let outside = reach.outside(s(60));
        let names: Vec<&str> = outside
            .witnesses
            .iter()
            .map(|it| it.name.as_str())
            .collect();
        assert_eq!(names, ["mirror", "a", "b", "hidden"]);
        // Its address is the operator's, and it counts once.
        assert_eq!(
            outside.witnesses[0].address.as_deref(),
            Some("/dns4/mirror")
        );
        assert_eq!(outside.witnesses[0].agent.as_deref(), Some("kubo"));
        assert_eq!(outside.witnesses[3].seen, None);
        assert_eq!(outside.summary.unwrap().of, 1);
        reach.connected(Vec::new());
        assert_eq!(reach.outside(s(60)).witnesses.len(), 1);
    }

    #[test]
    fn no_more_than_a_few_questions_are_under_way() {
        let gateways: Vec<String> = (0..9).map(|n| format!("http://{n}")).collect();
        let mut reach = Reach::new(&gateways, &[]);
        reach.published(s(0), 0);
        let asked: Vec<Question> = std::iter::from_fn(|| reach.next(s(0))).collect();
        assert_eq!(asked.len(), AT_A_TIME);
        reach.answered(s(1), &asked[0], Ok(()));
        assert_eq!(reach.next(s(1)).unwrap().name, "http://4");
        assert_eq!(reach.next(s(1)), None);
    }
}
