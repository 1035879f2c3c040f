//! A link between two hosts of one process that can be made bad.
#![allow(dead_code, reason = "no test needs all of it")]

use std::path::Path;

use libp2p_identity::Keypair;
use node::{DhtMode, Limits};
use node_host::Host;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Enough for words, and less than two blocks of the greatest size.
const A_LITTLE: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    On,
    /// Bytes are taken and kept.
    Held,
    /// Of what the server sends a little gets through, and no more is taken.
    Choked,
    /// Connections are broken, and what is held is lost.
    Cut,
}

/// A relay of TCP connections to one address.
pub(crate) struct Link {
    /// The multiaddress that leads through it.
    pub(crate) address: String,
    flow: watch::Sender<Flow>,
    pub(crate) connections: watch::Receiver<usize>,
}

impl Link {
    /// Leads to a multiaddress over TCP, `/ip4/127.0.0.1/tcp/<port>/p2p/<peer id>`.
    pub(crate) async fn to(target: &str) -> Link {
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
                tokio::spawn(pump(from_client, to_server, of_all.subscribe(), false));
                tokio::spawn(pump(from_server, to_client, of_all.subscribe(), true));
                counter.send_modify(|count| *count += 1);
            }
        });
        Link {
            address: format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", parts[6]),
            flow,
            connections,
        }
    }

    pub(crate) fn set(&self, flow: Flow) {
        self.flow.send_replace(flow);
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    of_server: bool,
) {
    let mut waiting = Vec::new();
    let mut through = 0;
    let mut buffer = [0; 16 << 10];
    loop {
        let now = *flow.borrow_and_update();
        match now {
            Flow::On | Flow::Choked => {
                if to.write_all(&waiting).await.is_err() {
                    return;
                }
                waiting.clear();
            }
            Flow::Held => {}
            Flow::Cut => return,
        }
        let choked = now == Flow::Choked && of_server;
        tokio::select! {
            changed = flow.changed() => if changed.is_err() {
                return;
            },
            length = from.read(&mut buffer), if !choked || through < A_LITTLE => {
                let Ok(length @ 1..) = length else { return };
                through += if choked { length } else { 0 };
                waiting.extend_from_slice(&buffer[..length]);
            }
        }
    }
}

/// A host with an identity of its own, reached by TCP.
pub(crate) async fn host(repo: &Path, limits: Limits) -> Host {
    let config = node_host::Config {
        repo: repo.to_owned(),
        identity: Keypair::generate_ed25519().to_protobuf_encoding().unwrap(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        mdns: false,
        dht: DhtMode::Client,
        swarm_key: None,
        limits,
        judges: |_, message| message.starts_with(b"good").then_some(message.len() as u64),
    };
    Host::open(config).await.unwrap()
}
