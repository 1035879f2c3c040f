//! Looks at the stream from outside: asks mirrors and connected peers for the newest segment by bitswap, gateways over HTTP.
//! Whom to ask for what, and what the answers mean, is [`Reach`]'s to say.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cid::Cid;
use node::{HostError, Leaf, MAX_LEAF, Node};
use stream::reach::{Kind, NameRecord, Outside, Peer, Question, Reach};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::wall_now;
use crate::config;
use crate::live::{Live, RecentFile};

/// A gateway that does not have it looks for it among its peers; a viewer waits no longer either.
const TIMEOUT: Duration = Duration::from_secs(10);

const TICK: Duration = Duration::from_secs(1);

/// Blocks of segments that may be asked for; as many as [`Reach`] remembers.
const REMEMBERED: usize = 64;

struct Outsider {
    node: Node,
    started: Instant,
    reach: Reach,
    /// Addresses of `[node] peers` by their ids.
    mirrors: BTreeMap<String, String>,
    /// By media sequence number: a segment's own block and its last leaf.
    segments: BTreeMap<u64, Vec<Cid>>,
    /// The highest of these numbers that there was.
    last: Option<u64>,
    questions: JoinSet<(Question, Result<(), String>)>,
    /// When somebody asked for the name's record over HTTP.
    record_asked: watch::Receiver<Option<Instant>>,
    outside: watch::Sender<Outside>,
}

/// Asks until cancelled. Nobody is asked while nothing is on air.
pub(crate) fn spawn(
    config: &config::Node,
    node: Node,
    live: watch::Receiver<Live>,
    record_asked: watch::Receiver<Option<Instant>>,
    cancel: CancellationToken,
) -> watch::Receiver<Outside> {
    let gateways = config.check.iter();
    let gateways: Vec<String> = gateways
        .map(|base| base.trim_end_matches('/').to_owned())
        .collect();
    // The node has refused what is no peer's address.
    let mirrors = (config.peers.iter())
        .filter_map(|address| Some((node::peer_of(address).ok()?, address.clone())));
    let mirrors: Vec<(String, String)> = mirrors.collect();
    let reach = Reach::new(&gateways, &mirrors);
    let (sender, receiver) = watch::channel(reach.outside(Duration::ZERO));
    let outsider = Outsider {
        node,
        started: Instant::now(),
        reach,
        mirrors: mirrors.into_iter().collect(),
        segments: BTreeMap::new(),
        last: None,
        questions: JoinSet::new(),
        record_asked,
        outside: sender,
    };
    tokio::spawn(outsider.run(live, cancel));
    receiver
}

impl Outsider {
    async fn run(mut self, mut live: watch::Receiver<Live>, cancel: CancellationToken) {
        let mut contacts = self.node.contacts();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Ok(()) = live.changed() => {
                    let (on_air, newest) = {
                        let live = live.borrow_and_update();
                        (live.public.live, live.newest())
                    };
                    self.follow(on_air, newest);
                }
                Ok(()) = contacts.changed() => {
                    let contacts = contacts.borrow_and_update().clone().into_iter();
                    let peers = contacts.map(|(id, contact)| Peer {
                        id,
                        agent: contact.agent,
                        address: contact.addresses.into_iter().next(),
                    });
                    self.reach.connected(peers.collect());
                }
                Some(Ok((question, answer))) = self.questions.join_next() => {
                    self.reach.answered(self.started.elapsed(), &question, answer);
                }
                _ = tick.tick() => {}
            }
            let now = self.started.elapsed();
            while let Some(question) = self.reach.next(now) {
                self.ask(question);
            }
            let outside = Outside {
                record: record(&self.node, *self.record_asked.borrow()),
                ..self.reach.outside(now)
            };
            self.outside.send_if_modified(|before| {
                let differs = *before != outside;
                *before = outside;
                differs
            });
        }
    }

    fn follow(&mut self, on_air: bool, newest: Option<(u64, std::sync::Arc<RecentFile>)>) {
        if !on_air {
            if !self.segments.is_empty() {
                self.segments.clear();
                self.reach.off_air();
            }
            return;
        }
        // While the store takes nothing, there is none that others can have, or it is one of the broadcast before.
        let Some((number, segment)) = newest.filter(|(number, _)| Some(*number) > self.last) else {
            return;
        };
        self.last = Some(number);
        let last =
            (segment.parts.last()).and_then(|part| Leaf::split(part.clone()).last().map(Leaf::cid));
        let mut blocks = vec![segment.cid];
        blocks.extend(last.filter(|leaf| *leaf != segment.cid));
        self.segments.insert(number, blocks);
        if self.segments.len() > REMEMBERED {
            self.segments.pop_first();
        }
        self.reach.published(self.started.elapsed(), number);
    }

    fn ask(&mut self, question: Question) {
        let blocks = self.segments.get(&question.sequence).cloned();
        let Some(blocks) = blocks else {
            let none = Err("nothing to ask for".to_owned());
            return self.reach.answered(self.started.elapsed(), &question, none);
        };
        if question.kind == Kind::Gateway {
            self.questions.spawn(async move {
                let base = question.name.clone();
                let asked = tokio::task::spawn_blocking(move || gateway(&base, &blocks)).await;
                (question, asked.unwrap_or(Err("the check failed".into())))
            });
            return;
        }
        let named = self.mirrors.get(&question.name).cloned();
        let contacts = self.node.contacts();
        let contact = contacts.borrow().get(&question.name).cloned();
        let known = contact.map(|contact| contact.addresses).unwrap_or_default();
        let addresses = named.into_iter().chain(known).collect();
        let node = self.node.clone();
        self.questions.spawn(async move {
            let answer = node.ask_peer(addresses, blocks, TIMEOUT).await;
            let answer = answer.map(drop).map_err(|error| match error {
                HostError::Timeout(_) => "not had in 10 s".to_owned(),
                _ => "cannot be reached".to_owned(),
            });
            (question, answer)
        });
    }
}

/// The record of the name that a node has or follows: how old it is, and who knows it. `asked` is when somebody last asked for it
/// over HTTP.
pub(crate) fn record(node: &Node, asked: Option<Instant>) -> NameRecord {
    let ago = |then: Instant| then.elapsed().as_millis() as u64;
    let record = node.record().borrow().clone();
    let age = record.as_ref().and_then(|record| {
        let signed = record.expires.checked_sub(node::LIFETIME)?;
        wall_now()?.duration_since(signed).ok()
    });
    let announced = *node.announced().borrow();
    NameRecord {
        sequence: record.map(|record| record.sequence),
        age_ms: age.map(|age| age.as_millis() as u64),
        listeners: announced.listeners,
        dht_ms: announced.dht.map(|(at, _)| ago(at)),
        dht_taken: announced.dht.map(|(_, taken)| taken),
        http_ms: asked.map(ago),
        another_ms: announced.another.map(ago),
    }
}

/// Asks a gateway for blocks and verifies them: a trustless gateway's answer is worth no more than its bytes.
fn gateway(base: &str, blocks: &[Cid]) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        // To the subdomain of the content, and from http to https.
        .max_redirects(4)
        .build()
        .into();
    for block in blocks {
        let asked = agent
            .get(format!("{base}/ipfs/{block}?format=raw"))
            .header("accept", "application/vnd.ipld.raw")
            .call();
        let mut answer = asked.map_err(words)?;
        let body = answer.body_mut().with_config().limit(MAX_LEAF as u64 + 1);
        let bytes = body.read_to_vec().map_err(words)?;
        if !node::verifies(block, &bytes) {
            return Err("wrong bytes".into());
        }
    }
    Ok(())
}

fn words(error: ureq::Error) -> String {
    match error {
        ureq::Error::StatusCode(status) => format!("answers {status}"),
        ureq::Error::Timeout(_) => "no answer in 10 s".into(),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::BodyExceedsLimit(_) => "wrong bytes".into(),
        ureq::Error::TooManyRedirects => "redirects in circles".into(),
        ureq::Error::Io(_) | ureq::Error::ConnectionFailed => "cannot be reached".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use node::Budgets;
    use stream::reach::Summary;

    use super::*;

    #[tokio::test]
    async fn while_the_store_takes_nothing_others_have_what_they_had() {
        let dir = tempfile::tempdir().unwrap();
        let (node, _) = Node::offline(dir.path(), Budgets::UNLIMITED, wall_now)
            .await
            .unwrap();
        let mut it = Outsider {
            node,
            started: Instant::now(),
            reach: Reach::new(&["http://gateway".into()], &[]),
            mirrors: BTreeMap::new(),
            segments: BTreeMap::new(),
            last: None,
            questions: JoinSet::new(),
            record_asked: watch::channel(None).1,
            outside: watch::Sender::default(),
        };
        let stored = |number: u64| {
            let parts = vec!["a part".into()];
            let file = RecentFile {
                path: format!("video/0000/{number}.m4s"),
                cid: node::file_cid(&Leaf::split("a part".into())),
                parts,
            };
            Some((number, Arc::new(file)))
        };
        // Whoever is asked has it. Returns what was asked for, and how many have something.
        let ask = |it: &mut Outsider, second: u64| {
            let now = Duration::from_secs(second);
            let question = it.reach.next(now);
            if let Some(question) = &question {
                it.reach.answered(now, question, Ok(()));
            }
            let summary = it.reach.outside(now).summary;
            let seen = summary.map(|Summary { seen, .. }| seen);
            (question.map(|question| question.sequence), seen)
        };
        it.follow(true, stored(7));
        assert_eq!(ask(&mut it, 0), (Some(7), Some(1)));
        // What is stored has left the memory.
        it.follow(true, None);
        assert_eq!(ask(&mut it, 20), (Some(7), Some(1)));
        it.follow(false, None);
        assert_eq!(ask(&mut it, 40), (None, None));
        // Another broadcast begins, from memory.
        it.follow(true, stored(7));
        assert_eq!(ask(&mut it, 60), (None, None));
        it.follow(true, stored(9));
        assert_eq!(ask(&mut it, 80), (Some(9), Some(1)));
    }
}
