//! Sends the channel's record out: over PubSub at once, to the DHT now and then. The newest record is all that counts, so
//! nothing queues, and nobody waits for this task; nor do its ways wait for each other, whichever of them hangs.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use futures::future::{BoxFuture, FutureExt, OptionFuture};
use futures::stream::{self, BoxStream, StreamExt};
use node_host::{Host, HostError, TopicEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::follow::Heard;
use crate::names::{Name, NameRecord, Signer};

/// A put walks the DHT and takes tens of seconds; resolvers ask it for a name, not for the live edge.
const DHT_EVERY: Duration = Duration::from_secs(60);
const DHT_TIMEOUT: Duration = Duration::from_secs(55);
/// Until then somebody may have connected.
const DHT_WITHOUT_PEERS: Duration = Duration::from_secs(5);

/// Telling is a few messages within this process.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Who subscribes has heard nothing yet, and the next record may be a day away. Many may come at once: one answer for all.
const GREET_AFTER: Duration = Duration::from_millis(200);

/// Who knows of the newest record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Announced {
    /// Peers that were told of it over PubSub when it was told last.
    pub listeners: usize,
    /// When the DHT answered last, and whether it has taken the record.
    pub dht: Option<(std::time::Instant, bool)>,
    /// When a record of the name was heard last that another holder of its key has signed.
    pub another: Option<std::time::Instant>,
}

/// What announcing needs of the host. A test seam: the tests' network hangs.
trait Network: Clone + Send + Sync + 'static {
    fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, TopicEvent>, HostError>>;
    fn publish(&self, topic: String, message: Bytes) -> BoxFuture<'static, Result<(), HostError>>;
    fn listeners(&self, topic: String) -> BoxFuture<'static, Result<usize, HostError>>;
    fn put_record(&self, key: Vec<u8>, record: Bytes) -> BoxFuture<'static, Result<(), HostError>>;
    fn provide(&self, root: Cid) -> BoxFuture<'static, Result<(), HostError>>;
    fn has_peers(&self) -> bool;
}

impl Network for Host {
    fn subscribe(
        &self,
        topic: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, TopicEvent>, HostError>> {
        Host::subscribe(self, topic)
    }

    fn publish(&self, topic: String, message: Bytes) -> BoxFuture<'static, Result<(), HostError>> {
        Host::publish(self, topic, message)
    }

    fn listeners(&self, topic: String) -> BoxFuture<'static, Result<usize, HostError>> {
        Host::listeners(self, topic)
    }

    fn put_record(&self, key: Vec<u8>, record: Bytes) -> BoxFuture<'static, Result<(), HostError>> {
        Host::put_record(self, key, record)
    }

    fn provide(&self, root: Cid) -> BoxFuture<'static, Result<(), HostError>> {
        Host::provide(self, root)
    }

    fn has_peers(&self) -> bool {
        *self.peers().borrow() > 0
    }
}

struct Announcer<N> {
    network: N,
    announced: watch::Sender<Announced>,
    name: Name,
    signer: Arc<Signer>,
    record: watch::Receiver<Option<NameRecord>>,
    heard: BoxStream<'static, TopicEvent>,
    /// Where a mirror hears of what others publish.
    listener: Option<mpsc::Sender<Heard>>,
    /// The newest record has not been told to all who listen.
    tell_owed: bool,
    /// How many listen to what is being told.
    tell: Option<BoxFuture<'static, usize>>,
    /// When to tell new subscribers.
    greet_at: Option<Instant>,
    /// When the DHT may be told next.
    dht_at: Instant,
    /// The newest record is not in the DHT.
    dht_owed: bool,
    put: Option<BoxFuture<'static, Result<(), HostError>>>,
    /// The root of the record that was put last, on its way.
    provide: Option<BoxFuture<'static, ()>>,
}

/// Until the writer, which signs the records, is gone.
pub(crate) async fn run(
    host: Host,
    signer: Arc<Signer>,
    record: watch::Receiver<Option<NameRecord>>,
    listener: Option<mpsc::Sender<Heard>>,
    announced: watch::Sender<Announced>,
) {
    Announcer::new(host, signer, record, listener, announced)
        .run()
        .await;
}

impl<N: Network> Announcer<N> {
    fn new(
        network: N,
        signer: Arc<Signer>,
        record: watch::Receiver<Option<NameRecord>>,
        listener: Option<mpsc::Sender<Heard>>,
        announced: watch::Sender<Announced>,
    ) -> Announcer<N> {
        let name = signer.name();
        let subscribed = network.subscribe(name.topic()).map(|heard| {
            heard.unwrap_or_else(|error| {
                tracing::warn!(%error, "no IPNS over PubSub");
                stream::pending().boxed()
            })
        });
        Announcer {
            network,
            announced,
            name,
            signer,
            record,
            heard: stream::once(subscribed).flatten().boxed(),
            listener,
            tell_owed: false,
            tell: None,
            greet_at: None,
            dht_at: Instant::now(),
            dht_owed: false,
            put: None,
            provide: None,
        }
    }

    async fn run(mut self) {
        self.record.mark_changed();
        loop {
            let greet_at = self.greet_at.unwrap_or_else(Instant::now);
            tokio::select! {
                // A record that comes when the DHT's turn does is put then, and once.
                biased;
                changed = self.record.changed() => match changed {
                    Ok(()) => {
                        self.dht_owed = true;
                        self.tell();
                    }
                    Err(_) => return,
                },
                () = tokio::time::sleep_until(greet_at), if self.greet_at.is_some() => {
                    self.greet_at = None;
                    self.tell();
                }
                Some(listeners) = OptionFuture::from(self.tell.as_mut()) => {
                    self.tell = None;
                    self.announced.send_modify(|it| it.listeners = listeners);
                    if self.tell_owed {
                        self.tell();
                    }
                }
                () = tokio::time::sleep_until(self.dht_at), if self.dht_owed => self.put(),
                Some(result) = OptionFuture::from(self.put.as_mut()) => {
                    self.put = None;
                    let answer = (std::time::Instant::now(), result.is_ok());
                    self.announced.send_modify(|it| it.dht = Some(answer));
                    if let Err(error) = result {
                        tracing::debug!(%error, "the DHT has not taken the record");
                        self.dht_owed = true;
                    }
                }
                Some(()) = OptionFuture::from(self.provide.as_mut()) => self.provide = None,
                // Last: who floods the topic keeps nothing else from its turn.
                Some(event) = self.heard.next() => match event {
                    TopicEvent::Joined => {
                        self.greet_at.get_or_insert_with(|| Instant::now() + GREET_AFTER);
                    }
                    TopicEvent::Message(bytes) => self.hear(bytes),
                },
            }
        }
    }

    fn hear(&mut self, bytes: Bytes) {
        let heard = NameRecord::verify(&self.name, bytes);
        if let Some(listener) = &self.listener {
            // Who floods the topic floods this queue, and the next record comes with the next segment.
            let _ = listener.try_send(heard);
            return;
        }
        let Ok(heard) = heard else {
            return;
        };
        // Peers repeat what this box has signed. That is kept before it is told, so it is not above the last one.
        let own = (self.record.borrow().as_ref()).is_some_and(|last| {
            heard.sequence < last.sequence
                || (heard.sequence, heard.root) == (last.sequence, last.root)
        });
        if !own && self.signer.hear(heard.sequence) {
            let now = std::time::Instant::now();
            let before = self.announced.borrow().another;
            self.announced.send_modify(|it| it.another = Some(now));
            if before.is_none() {
                tracing::warn!(
                    sequence = heard.sequence,
                    "another box signs for this name, too"
                );
            }
        }
    }

    /// Tells all subscribers: now, or after what they are just being told.
    fn tell(&mut self) {
        self.tell_owed = self.tell.is_some();
        if self.tell_owed {
            return;
        }
        let Some(record) = self.record.borrow().clone() else {
            return;
        };
        let (network, topic) = (self.network.clone(), self.name.topic());
        let tell = async move {
            network.publish(topic.clone(), record.bytes).await?;
            network.listeners(topic).await
        };
        let told = timeout(TELL_TIMEOUT, tell).map(|told| {
            told.unwrap_or(Err(HostError::Timeout(TELL_TIMEOUT)))
                .inspect_err(|error| {
                    // That nobody listens is the usual reason.
                    tracing::debug!(%error, "nobody was told of the record");
                })
                .unwrap_or(0)
        });
        self.tell = Some(told.boxed());
    }

    fn put(&mut self) {
        if !self.network.has_peers() {
            self.dht_at = Instant::now() + DHT_WITHOUT_PEERS;
            return;
        }
        self.dht_owed = false;
        let Some(record) = self.record.borrow().clone() else {
            return;
        };
        self.dht_at = Instant::now() + DHT_EVERY;
        let put = self
            .network
            .put_record(self.name.routing_key(), record.bytes);
        let put = timeout(DHT_TIMEOUT, put)
            .map(|put| put.unwrap_or(Err(HostError::Timeout(DHT_TIMEOUT))));
        self.put = Some(put.boxed());
        self.provide(record.root);
    }

    /// Whoever has the name from the DHT asks it next who has the root.
    fn provide(&mut self, root: Cid) {
        let provide = timeout(DHT_TIMEOUT, self.network.provide(root)).map(|provided| {
            let provided = provided.unwrap_or(Err(HostError::Timeout(DHT_TIMEOUT)));
            if let Err(error) = provided {
                tracing::debug!(%error, "the DHT was not told who has the root");
            }
        });
        self.provide = Some(provide.boxed());
    }
}
