//! Asks a peer from outside what it can serve: a host of its own for each question, with an identity that nobody knows, no
//! store, no DHT and no listener. It knows nobody but the peer that it dials, so that what comes has come from there.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use connexa::prelude::transport::pnet::PreSharedKey;
use rust_ipfs::{DialOpts, Ipfs, Keypair};

use crate::{HostError, dial, network, start};

/// What a peer is asked for.
#[derive(Debug, Clone)]
pub struct Question {
    /// Multiaddrs of one peer, each ending in `/p2p/<peer id>`.
    pub addresses: Vec<String>,
    pub cids: Vec<Cid>,
    /// Contents of a `swarm.key`, where the peer has one.
    pub swarm_key: Option<String>,
    /// For dialling and each block together.
    pub timeout: Duration,
}

pub(crate) async fn ask(question: Question) -> Result<Vec<Bytes>, HostError> {
    let key = question.swarm_key.as_deref().map(PreSharedKey::from_str);
    let key = key.transpose().map_err(network)?;
    let ipfs = start::on_one_thread(move || begin(key))
        .await
        .map_err(network)?;
    let asked = tokio::time::timeout(question.timeout, answers(&ipfs, &question)).await;
    ipfs.exit_daemon().await;
    asked.unwrap_or(Err(HostError::Timeout(question.timeout)))
}

async fn begin(swarm_key: Option<PreSharedKey>) -> Result<Ipfs, rust_ipfs::Error> {
    let builder = start::Builder::with_keypair(Keypair::generate_ed25519())?
        .with_identify(start::identify())
        .with_bitswap()
        .enable_tcp()
        .enable_websocket();
    let builder = match swarm_key {
        Some(key) => builder.enable_pnet(key),
        None => builder.enable_quic_with_config(|quic| quic),
    };
    builder.start().await
}

async fn answers(ipfs: &Ipfs, question: &Question) -> Result<Vec<Bytes>, HostError> {
    let mut peer = None;
    let mut addresses = Vec::new();
    for address in &question.addresses {
        peer = Some(dial::parse(address)?.0);
        addresses.push(dial::resolve(address).await?);
    }
    let Some(peer) = peer else {
        return Err(network("it has no address to dial"));
    };
    let dial = DialOpts::peer_id(peer).addresses(addresses).build();
    ipfs.connect(dial).await.map_err(network)?;
    let mut blocks = Vec::new();
    for cid in &question.cids {
        let block = async { ipfs.get_block(cid).await };
        blocks.push(block.await.map_err(network)?.into_inner().1);
    }
    Ok(blocks)
}
