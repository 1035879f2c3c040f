//! What others may send by gossip.
//!
//! gossipsub as rust-ipfs 0.16 sets it up keeps and passes on whatever anybody has signed, up to 2 MiB a message, before this crate's
//! user sees it; `with_pubsub` offers no validation. So the behaviour is exchanged before there is a connection, for one that waits to
//! be told which messages are good.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use connexa::prelude::gossipsub::{
    ConfigBuilder, Event, IdentTopic, Message, MessageAcceptance, MessageAuthenticity, TopicHash,
};
use connexa::prelude::swarm::behaviour::toggle::Toggle;
use libp2p_gossipsub::Behaviour;
use rust_ipfs::{Keypair, PeerId};

/// Bytes of one frame, in which a Kubo tells all that it listens to, too: 3,000 names. Each connection may hold as much.
const FRAME: usize = 256 << 10;

/// Bad messages of a peer, and then none of its messages is looked at any more. One or two may be a relay's that does not look itself.
const STRIKES: u32 = 8;

/// Topics of one peer: more than the names that a node follows.
const TOPICS: u32 = 4096;

/// What a peer has sent.
#[derive(Debug, Default, Clone, Copy)]
struct Peer {
    strikes: u32,
    topics: u32,
}

#[derive(Debug, Default)]
struct State {
    exchanged: bool,
    /// Connected ones.
    peers: HashMap<PeerId, Peer>,
    /// The last good message on each topic, and how new it is: several nodes tell the same, each under its own name.
    last: HashMap<TopicHash, (u64, Vec<u8>)>,
}

pub(crate) struct Gossip {
    key: Keypair,
    /// How new a message is, where it is one of its topic's.
    judges: fn(&str, &[u8]) -> Option<u64>,
    state: Mutex<State>,
}

impl State {
    /// What is to become of a message.
    fn judge(
        &mut self,
        message: &Message,
        judges: fn(&str, &[u8]) -> Option<u64>,
    ) -> MessageAcceptance {
        let last = self.last.get(&message.topic);
        if last.is_some_and(|(_, data)| *data == message.data) {
            return MessageAcceptance::Ignore;
        }
        let Some(new) = judges(message.topic.as_str(), &message.data) else {
            return MessageAcceptance::Reject;
        };
        if last.is_some_and(|(newest, _)| new < *newest) {
            return MessageAcceptance::Ignore;
        }
        let last = (new, message.data.clone());
        self.last.insert(message.topic.clone(), last);
        MessageAcceptance::Accept
    }
}

impl Gossip {
    pub(crate) fn new(key: Keypair, judges: fn(&str, &[u8]) -> Option<u64>) -> Gossip {
        Gossip {
            key,
            judges,
            state: Mutex::default(),
        }
    }

    /// To be called with the swarm's events until there is a connection: the new behaviour would not know it. There is an event of
    /// listening, or of an address that is to be dialled, before that.
    pub(crate) fn exchange(&self, gossipsub: &mut Toggle<Behaviour>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut state.exchanged, true) {
            return;
        }
        let Some(old) = gossipsub.as_mut() else {
            return;
        };
        let config = ConfigBuilder::default()
            .max_transmit_size(FRAME)
            .validate_messages()
            .build();
        let config = config.map_err(|error| error.to_string());
        let signed = MessageAuthenticity::Signed(self.key.clone());
        match config.and_then(|config| Behaviour::new(signed, config).map_err(str::to_owned)) {
            Ok(mut new) => {
                for topic in old.topics() {
                    if let Err(error) = new.subscribe(&IdentTopic::new(topic.as_str())) {
                        tracing::warn!(%error, %topic, "gossip about a topic is lost");
                    }
                }
                *gossipsub = Some(new).into();
            }
            Err(error) => tracing::warn!(%error, "gossip is not looked at"),
        }
    }

    /// Returns who is to be disconnected.
    pub(crate) fn heard(&self, gossipsub: &mut Toggle<Behaviour>, event: &Event) -> Option<PeerId> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Message {
                propagation_source: from,
                message_id,
                message,
            } => {
                let gossipsub = gossipsub.as_mut()?;
                let acceptance = state.judge(message, self.judges);
                let bad = matches!(acceptance, MessageAcceptance::Reject);
                gossipsub.report_message_validation_result(message_id, from, acceptance);
                let peer = state.peers.entry(*from).or_default();
                peer.strikes += u32::from(bad);
                if bad && peer.strikes == STRIKES {
                    tracing::warn!(peer = %from, "sends what no name's key has signed; it is not listened to any more");
                    gossipsub.blacklist_peer(from);
                }
                None
            }
            Event::Subscribed { peer_id, .. } => {
                let peer = state.peers.entry(*peer_id).or_default();
                peer.topics += 1;
                (peer.topics > TOPICS).then_some(*peer_id)
            }
            Event::Unsubscribed { peer_id, .. } => {
                let peer = state.peers.get_mut(peer_id)?;
                peer.topics = peer.topics.saturating_sub(1);
                None
            }
            _ => None,
        }
    }

    /// The last connection with a peer is closed.
    pub(crate) fn gone(&self, gossipsub: &mut Toggle<Behaviour>, peer: &PeerId) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.peers.remove(peer);
        if let Some(gossipsub) = gossipsub.as_mut() {
            gossipsub.remove_blacklisted_peer(peer);
        }
    }
}
