//! Fetching from a peer over two connections, one of which breaks.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use libp2p_identity::Keypair;
use node::{DhtMode, Leaf, Limits};
use node_host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const TIMEOUT: Duration = Duration::from_secs(20);
/// Less than after what a host asks again by itself.
const AT_ONCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    /// Bytes are taken and kept.
    Held,
    /// Connections are broken, and what is held is lost.
    Cut,
}

/// A relay of TCP connections to one address.
struct Link {
    /// The multiaddress that leads through it.
    address: String,
    flow: watch::Sender<Flow>,
    connections: watch::Receiver<usize>,
}

impl Link {
    /// Leads to a multiaddress over TCP, `/ip4/127.0.0.1/tcp/<port>/p2p/<peer id>`.
    async fn to(target: &str) -> Link {
        let parts: Vec<&str> = target.split('/').collect();
        let there = format!("{}:{}", parts[2], parts[4]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let flow = watch::Sender::new(Flow::On);
        let (counter, connections) = watch::channel(0);
        let of_all = flow.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&there).await.unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                for (from, to) in [(from_client, to_server), (from_server, to_client)] {
                    tokio::spawn(pump(from, to, of_all.subscribe()));
                }
                counter.send_modify(|count| *count += 1);
            }
        });
        Link {
            address: format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", parts[6]),
            flow,
            connections,
        }
    }

    fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut flow: watch::Receiver<Flow>) {
    let mut waiting = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let now = *flow.borrow_and_update();
        match now {
            Flow::On => {
                if to.write_all(&waiting).await.is_err() {
                    return;
                }
                waiting.clear();
            }
            Flow::Held => {}
            Flow::Cut => return,
        }
        tokio::select! {
            changed = flow.changed() => if changed.is_err() {
                return;
            },
            length = from.read(&mut buffer) => {
                let Ok(length @ 1..) = length else { return };
                waiting.extend_from_slice(&buffer[..length]);
            }
        }
    }
}

async fn host(repo: &Path) -> Host {
    let config = node_host::Config {
        repo: repo.to_owned(),
        identity: Keypair::generate_ed25519().to_protobuf_encoding().unwrap(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        dht: DhtMode::Client,
        swarm_key: None,
        limits: Limits::default(),
    };
    Host::open(config).await.unwrap()
}

async fn has_one_more(host: &Host, content: &'static str) -> Cid {
    let leaf = Leaf::split(Bytes::from_static(content.as_bytes()))[0].clone();
    let block = (leaf.cid(), leaf.bytes().clone());
    host.put_blocks(vec![block]).await.unwrap();
    leaf.cid()
}

async fn first_address(host: &Host) -> String {
    host.listening().borrow()[0].clone()
}

/// Both have dialled each other at once, so there are two connections. What is under way on the one is lost with it, and comes
/// over the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_on_a_connection_that_broke_is_asked_for_again() {
    let mut lost = 0;
    // Which of the two the hosts prefer is libp2p's business.
    for broken in 0..2 {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (asker, source) = (host(here.path()).await, host(there.path()).await);
        let mut links = [
            Link::to(&first_address(&source).await).await,
            Link::to(&first_address(&asker).await).await,
        ];
        links.iter().for_each(|link| link.set(Flow::Held));
        let dials = links.each_ref().map(|link| link.address.clone());
        let [there, back] = dials;
        let dialled = tokio::spawn({
            let dials = [asker.connect(there, TIMEOUT), source.connect(back, TIMEOUT)];
            futures::future::try_join_all(dials)
        });
        for link in &mut links {
            let open = link.connections.wait_for(|count| *count == 1);
            drop(tokio::time::timeout(TIMEOUT, open).await.unwrap().unwrap());
        }
        links.iter().for_each(|link| link.set(Flow::On));
        dialled.await.unwrap().unwrap();
        let before = has_one_more(&source, "before").await;
        asker.fetch(before, TIMEOUT).await.unwrap();

        let link = &links[broken];
        link.set(Flow::Held);
        let wanted = has_one_more(&source, "wanted").await;
        let mut fetched = tokio::spawn(asker.fetch(wanted, TIMEOUT));
        let bytes = tokio::select! {
            bytes = &mut fetched => bytes,
            // It would have come over the other at once: the question, or its answer, is held.
            () = tokio::time::sleep(AT_ONCE) => {
                link.set(Flow::Cut);
                lost += 1;
                fetched.await
            }
        };
        assert_eq!(bytes.unwrap().expect("it comes over the other"), "wanted");
        for host in [asker, source] {
            host.shutdown().await;
        }
    }
    assert!(lost > 0, "nothing was under way on either");
}
