//! Sends the channel's record out: over PubSub at once, to the DHT now and then. The newest record is all that counts, so
//! nothing queues, and nobody waits for this task.

use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use futures::stream::{self, BoxStream, StreamExt};
use node_host::{Host, HostError, TopicEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::follow::Heard;
use crate::names::{Name, NameRecord};

/// A put walks the DHT and takes tens of seconds; resolvers ask it for a name, not for the live edge.
const DHT_EVERY: Duration = Duration::from_secs(60);
const DHT_TIMEOUT: Duration = Duration::from_secs(55);
/// Until then somebody may have connected.
const DHT_WITHOUT_PEERS: Duration = Duration::from_secs(5);

/// Who subscribes has heard nothing yet, and the next record may be a day away. Many may come at once: one answer for all.
const GREET_AFTER: Duration = Duration::from_millis(200);

/// Who knows of the newest record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Announced {
    /// Peers that were told of it over PubSub when it was told last.
    pub listeners: usize,
    /// When the DHT answered last, and whether it has taken the record.
    pub dht: Option<(std::time::Instant, bool)>,
}

struct Announcer {
    host: Host,
    announced: watch::Sender<Announced>,
    name: Name,
    record: watch::Receiver<Option<NameRecord>>,
    heard: BoxStream<'static, TopicEvent>,
    /// Where a mirror hears of what others publish.
    listener: Option<mpsc::Sender<Heard>>,
    /// When to tell new subscribers.
    greet_at: Option<Instant>,
    /// When the DHT may be told next.
    dht_at: Instant,
    /// The newest record is not in the DHT.
    dht_owed: bool,
    put: OptionFuture<BoxFuture<'static, Result<(), HostError>>>,
}

/// Until the writer, which signs the records, is gone.
pub(crate) async fn run(
    host: Host,
    name: Name,
    record: watch::Receiver<Option<NameRecord>>,
    listener: Option<mpsc::Sender<Heard>>,
    announced: watch::Sender<Announced>,
) {
    let heard = match host.subscribe(name.topic()).await {
        Ok(heard) => heard,
        Err(error) => {
            tracing::warn!(%error, "no IPNS over PubSub");
            stream::pending().boxed()
        }
    };
    let announcer = Announcer {
        host,
        announced,
        name,
        record,
        heard,
        listener,
        greet_at: None,
        dht_at: Instant::now(),
        dht_owed: false,
        put: None.into(),
    };
    announcer.run().await;
}

impl Announcer {
    async fn run(mut self) {
        self.record.mark_changed();
        loop {
            let greet_at = self.greet_at.unwrap_or_else(Instant::now);
            tokio::select! {
                changed = self.record.changed() => match changed {
                    Ok(()) => {
                        self.dht_owed = true;
                        self.tell().await;
                    }
                    Err(_) => return,
                },
                Some(event) = self.heard.next() => match event {
                    TopicEvent::Joined => {
                        self.greet_at.get_or_insert_with(|| Instant::now() + GREET_AFTER);
                    }
                    TopicEvent::Message(bytes) => if let Some(listener) = &self.listener {
                        // Who floods the topic floods this queue, and the next record comes with the next segment.
                        let _ = listener.try_send(NameRecord::verify(&self.name, bytes));
                    },
                },
                () = tokio::time::sleep_until(greet_at), if self.greet_at.is_some() => self.tell().await,
                () = tokio::time::sleep_until(self.dht_at), if self.dht_owed => self.put(),
                Some(result) = &mut self.put => {
                    self.put = None.into();
                    let answer = (std::time::Instant::now(), result.is_ok());
                    self.announced.send_modify(|it| it.dht = Some(answer));
                    if let Err(error) = result {
                        tracing::debug!(%error, "the DHT has not taken the record");
                        self.dht_owed = true;
                    }
                }
            }
        }
    }

    /// Tells all subscribers.
    async fn tell(&mut self) {
        self.greet_at = None;
        let Some(record) = self.record.borrow_and_update().clone() else {
            return;
        };
        let told = self.host.publish(self.name.topic(), record.bytes).await;
        let listeners = match told {
            Ok(()) => self.host.listeners(self.name.topic()).await.unwrap_or(0),
            Err(error) => {
                // That nobody listens is the usual reason.
                tracing::debug!(%error, "nobody was told of the record");
                0
            }
        };
        self.announced.send_modify(|it| it.listeners = listeners);
    }

    fn put(&mut self) {
        if *self.host.peers().borrow() == 0 {
            self.dht_at = Instant::now() + DHT_WITHOUT_PEERS;
            return;
        }
        let Some(record) = self.record.borrow().clone() else {
            self.dht_owed = false;
            return;
        };
        self.dht_owed = false;
        self.dht_at = Instant::now() + DHT_EVERY;
        let key = self.name.routing_key();
        let put = self.host.put_record(key, record.bytes, DHT_TIMEOUT);
        self.put = Some(put).into();
    }
}
