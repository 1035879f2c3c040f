//! What the DHT is told that this node has.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use connexa::prelude::dht::store::MemoryStore;
use connexa::prelude::dht::{AddProviderError, Behaviour, Event, QueryResult, RecordKey};

/// Keys that stay: while live one comes a minute, and a root is kept for ten. libp2p-kad tells all it has told before again after twelve hours,
/// a hundred at once, and takes no more than 1024.
const KEPT: usize = 16;

/// Keys that were told, oldest first.
#[derive(Default)]
pub(crate) struct Provided(Mutex<VecDeque<RecordKey>>);

impl Provided {
    /// Takes back what is no longer among the last.
    pub(crate) fn note(&self, kademlia: &mut Behaviour<MemoryStore>, event: &Event) {
        let Event::OutboundQueryProgressed {
            result: QueryResult::StartProviding(told),
            ..
        } = event
        else {
            return;
        };
        let key = match told {
            Ok(told) => &told.key,
            Err(AddProviderError::Timeout { key }) => key,
        };
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|known| known != key);
        keys.push_back(key.clone());
        while keys.len() > KEPT
            && let Some(oldest) = keys.pop_front()
        {
            kademlia.stop_providing(&oldest);
        }
    }
}
