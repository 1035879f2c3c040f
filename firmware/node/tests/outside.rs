//! A node is asked from outside for what it has.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use cid::Cid;
use node::{Budgets, Config, DhtMode, HostError, Leaf, Limits, NewFile, Node, Update};
use tokio::runtime::Handle;

const PATIENCE: Duration = Duration::from_secs(20);
const ASKED: usize = 10;

async fn open(dir: &Path, peers: Vec<String>) -> Node {
    let config = Config {
        dir: dir.to_owned(),
        listen: ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
            .map(Into::into)
            .to_vec(),
        allowance: Budgets::new(1 << 30, 0).into(),
        mdns: false,
        peers,
        dht: DhtMode::Server,
        swarm_key: None,
        limits: Limits::default(),
        wall_clock: || Some(SystemTime::now()),
    };
    Node::open(config).await.unwrap().0
}

/// Publishes a file and returns its CID.
async fn publish(node: &Node, content: &'static str) -> Cid {
    let broadcast = node.begin(Vec::new()).await.unwrap();
    let file = NewFile::new("file", content);
    let cid = node::file_cid(&file.leaves);
    let update = Update {
        broadcast,
        row: None,
        files: vec![file],
        finish: true,
    };
    node.publish(update).await.unwrap();
    cid
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_gives_what_it_has_and_nothing_of_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(&dir.path().join("mirror"), Vec::new()).await;
    let address = mirror.listen().to_vec();
    let here = open(&dir.path().join("box"), address.clone()).await;
    let mut contacts = here.contacts();
    let known = contacts.wait_for(|known| {
        let known = known.get(mirror.peer_id());
        known.is_some_and(|known| known.agent.is_some() && known.addresses.len() == 2)
    });
    let known = known.await.unwrap()[mirror.peer_id()].clone();
    assert!(known.agent.unwrap().starts_with("podium/"));
    let mut both = (known.addresses.clone(), address.clone());
    both.0.sort();
    both.1.sort();
    assert_eq!(both.0, both.1);

    let (theirs, ours) = (
        publish(&mirror, "theirs").await,
        publish(&here, "ours").await,
    );
    let tasks = Handle::current().metrics().num_alive_tasks();
    for _ in 0..ASKED {
        let answer = here.ask_peer(known.addresses.clone(), vec![theirs], PATIENCE);
        assert_eq!(answer.await.unwrap(), ["theirs"]);
    }
    // The mirror is connected with the box, which has it: the answer is the mirror's all the same. It has several times as long
    // as it takes for its own.
    let began = Instant::now();
    let answer = here.ask_peer(address.clone(), vec![theirs], PATIENCE).await;
    assert_eq!(answer.unwrap(), ["theirs"]);
    let asked = Duration::from_secs(2) + 4 * began.elapsed();
    let answer = here.ask_peer(address, vec![ours], asked).await;
    assert!(matches!(answer, Err(HostError::Timeout(_))), "{answer:?}");
    // Nothing of those who asked is left; the nodes themselves have now more tasks, now less.
    let gone = async {
        while Handle::current().metrics().num_alive_tasks() >= tasks + ASKED {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    gone.expect("what was started for a question ends with it");
    // Where it listens, there is somebody else.
    let id = Leaf::split("nobody".into())[0].cid();
    let elsewhere = here.listen()[0].replace(here.peer_id(), mirror.peer_id());
    let answer = here.ask_peer(vec![elsewhere], vec![id], PATIENCE).await;
    assert!(matches!(answer, Err(HostError::Network(_))), "{answer:?}");
}
