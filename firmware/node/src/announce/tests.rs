//! On a network that hangs, in virtual time.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use libp2p_identity::Keypair;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::*;
use crate::Leaf;

/// What was asked of the network: when, and the sequence of the record.
type Asked = Arc<Mutex<Vec<(Duration, u64)>>>;

#[derive(Clone)]
struct Fake {
    since: Instant,
    hangs: Hangs,
    told: Asked,
    put: Asked,
    provided: Arc<Mutex<Vec<(Duration, Cid)>>>,
    events: Arc<Mutex<Option<mpsc::Receiver<TopicEvent>>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hangs {
    Nothing,
    Subscribing,
    PubSub,
    Dht,
}

impl Fake {
    fn answer<T: Send + 'static>(
        &self,
        hangs: bool,
        answer: T,
    ) -> BoxFuture<'static, Result<T, HostError>> {
        match hangs {
            true => std::future::pending().boxed(),
            false => std::future::ready(Ok(answer)).boxed(),
        }
    }

    fn note(&self, asked: &Asked, record: &Bytes) {
        let sequence = u64::from_be_bytes(record[..].try_into().unwrap());
        asked.lock().unwrap().push((self.since.elapsed(), sequence));
    }
}

impl Network for Fake {
    fn subscribe(
        &self,
        _: String,
    ) -> BoxFuture<'static, Result<BoxStream<'static, TopicEvent>, HostError>> {
        let events = self
            .events
            .lock()
            .unwrap()
            .take()
            .expect("one subscription");
        let heard = stream::unfold(events, async |mut events| {
            events.recv().await.map(|event| (event, events))
        });
        self.answer(self.hangs == Hangs::Subscribing, heard.boxed())
    }

    fn publish(&self, _: String, message: Bytes) -> BoxFuture<'static, Result<(), HostError>> {
        self.note(&self.told, &message);
        self.answer(self.hangs == Hangs::PubSub, ())
    }

    fn listeners(&self, _: String) -> BoxFuture<'static, Result<usize, HostError>> {
        self.answer(false, 7)
    }

    fn put_record(&self, _: Vec<u8>, record: Bytes) -> BoxFuture<'static, Result<(), HostError>> {
        self.note(&self.put, &record);
        self.answer(self.hangs == Hangs::Dht, ())
    }

    fn provide(&self, root: Cid) -> BoxFuture<'static, Result<(), HostError>> {
        let provided = (self.since.elapsed(), root);
        self.provided.lock().unwrap().push(provided);
        self.answer(self.hangs == Hangs::Dht, ())
    }

    fn has_peers(&self) -> bool {
        true
    }
}

/// An announcer whose network hangs in one way, or not at all.
struct Scene {
    network: Fake,
    key: Keypair,
    record: watch::Sender<Option<NameRecord>>,
    events: mpsc::Sender<TopicEvent>,
    announced: watch::Receiver<Announced>,
    task: JoinHandle<()>,
}

impl Scene {
    fn new(hangs: Hangs) -> Scene {
        let (events, received) = mpsc::channel(8);
        let network = Fake {
            since: Instant::now(),
            hangs,
            told: Asked::default(),
            put: Asked::default(),
            provided: Arc::default(),
            events: Arc::new(Mutex::new(Some(received))),
        };
        let key = Keypair::generate_ed25519();
        let signer = Arc::new(Signer::new(key.clone(), Arc::new(|| None)));
        let (record, receiver) = watch::channel(None);
        let (announced_sender, announced) = watch::channel(Announced::default());
        let announcer = Announcer::new(network.clone(), signer, receiver, None, announced_sender);
        Scene {
            network,
            key,
            record,
            events,
            announced,
            task: tokio::spawn(announcer.run()),
        }
    }

    fn sign(&self, sequence: u64) {
        self.record.send_replace(Some(NameRecord {
            root: root(sequence),
            sequence,
            expires: SystemTime::UNIX_EPOCH,
            bytes: sequence.to_be_bytes().to_vec().into(),
        }));
    }

    /// A record every two seconds, numbered by the second in which it is signed.
    async fn broadcast(&self, seconds: u64) {
        for second in (0..seconds).step_by(2) {
            self.sign(second);
            sleep(Duration::from_secs(2)).await;
        }
    }

    /// Seconds in which something was asked of the network, and the record's.
    fn asked(asked: &Asked) -> Vec<(u64, u64)> {
        let asked = asked.lock().unwrap();
        asked.iter().map(|(at, it)| (at.as_secs(), *it)).collect()
    }

    fn told(&self) -> Vec<(u64, u64)> {
        Scene::asked(&self.network.told)
    }

    fn put(&self) -> Vec<(u64, u64)> {
        Scene::asked(&self.network.put)
    }

    /// The writer goes, and what announces with it.
    async fn end(self) {
        drop(self.record);
        let ended = timeout(Duration::from_secs(1), self.task).await;
        ended.expect("it ends at once").unwrap();
    }
}

/// What a record with this sequence names.
fn root(sequence: u64) -> Cid {
    Leaf::split(sequence.to_string().into())[0].cid()
}

fn every(step: usize, seconds: u64) -> Vec<(u64, u64)> {
    (0..seconds).step_by(step).map(|at| (at, at)).collect()
}

#[tokio::test(start_paused = true)]
async fn all_are_told_at_once_and_the_dht_once_a_minute() {
    let scene = Scene::new(Hangs::Nothing);
    scene.broadcast(303).await;
    assert_eq!(scene.told(), every(2, 303));
    assert_eq!(scene.put(), every(60, 303));
    let announced = *scene.announced.borrow();
    assert_eq!(announced.listeners, 7);
    assert!(announced.dht.is_some_and(|(_, taken)| taken));
    // The last one is put, too, and then there is nothing to say.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(scene.put().last(), Some(&(360, 302)));
    assert_eq!(scene.told().len(), 152);
    // Whom the DHT has told the name it also tells who has its root.
    let put = scene.network.put.lock().unwrap().clone();
    let roots: Vec<_> = put.iter().map(|(at, it)| (*at, root(*it))).collect();
    assert_eq!(*scene.network.provided.lock().unwrap(), roots);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dht_that_hangs_is_given_up_and_in_nobodys_way() {
    let scene = Scene::new(Hangs::Dht);
    scene.broadcast(301).await;
    assert_eq!(scene.told(), every(2, 301));
    assert_eq!(scene.put(), every(60, 301));
    let announced = *scene.announced.borrow();
    assert!(announced.dht.is_some_and(|(_, taken)| !taken));
    // It is asked again, though there is nothing new.
    sleep(Duration::from_secs(120)).await;
    assert_eq!(scene.put()[6..], [(360, 300), (420, 300)]);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pubsub_that_hangs_is_given_up_and_then_told_the_newest() {
    let scene = Scene::new(Hangs::PubSub);
    scene.broadcast(61).await;
    let told = scene.told();
    // One at a time, each for five seconds.
    let expected = (0..13).map(|i| (5 * i, 5 * i / 2 * 2));
    let expected: Vec<_> = expected.take_while(|(at, _)| *at < 62).collect();
    assert_eq!(told, expected);
    assert_eq!(scene.put(), every(60, 61));
    assert_eq!(scene.announced.borrow().listeners, 0);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_hangs_keeps_nobody_from_being_told() {
    let scene = Scene::new(Hangs::Subscribing);
    scene.broadcast(61).await;
    assert_eq!(scene.told(), every(2, 61));
    assert_eq!(scene.put(), every(60, 61));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_joins_is_told_soon_and_all_of_them_at_once() {
    let scene = Scene::new(Hangs::Nothing);
    scene.sign(5);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(scene.told(), [(0, 5)]);
    for _ in 0..3 {
        scene.events.send(TopicEvent::Joined).await.unwrap();
    }
    sleep(Duration::from_secs(100)).await;
    assert_eq!(scene.told(), [(0, 5), (100, 5)]);
    assert_eq!(scene.put(), [(0, 5)], "the DHT knows it");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn another_box_is_one_that_goes_on_signing_and_no_echo() {
    let scene = Scene::new(Hangs::Nothing);
    // A record of the scene's name, as a box signs it at this millisecond.
    let signed = |ms: u64| {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let other = Signer::new(scene.key.clone(), Arc::new(move || Some(now)));
        other.next(root(ms), None).unwrap()
    };
    let hear = async |record: NameRecord, another: bool| {
        let sequence = record.sequence;
        let event = TopicEvent::Message(record.bytes);
        scene.events.send(event).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let heard = scene.announced.borrow().another.is_some();
        assert_eq!(heard, another, "{sequence}");
    };
    // Before it has signed anything: its own, from a life that is lost, or that of the box from which the key came.
    hear(signed(100), false).await;
    hear(signed(100), false).await;
    // Late echoes, and one of the newest.
    scene.sign(110);
    for ms in [90, 105, 110] {
        hear(signed(ms), false).await;
    }
    hear(signed(111), true).await;
    scene.end().await;
}
