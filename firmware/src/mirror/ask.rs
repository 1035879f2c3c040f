//! Asking a box or another mirror over HTTP: for the name's record, and where its IPFS node is.

use std::time::Duration;

use node::{Heard, MAX_RECORD, Name, NameRecord};
use serde::Deserialize;

use crate::gateway::IPNS_RECORD;

const TIMEOUT: Duration = Duration::from_secs(5);
const MOST_PROVIDERS: u64 = 64 << 10;
/// Addresses of one node that are tried.
const MOST_ADDRESSES: usize = 4;

/// What was asked for, and came. Nothing where nobody has it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) record: Heard,
    /// Multiaddresses that end in `/p2p/<peer id>`.
    pub(super) peers: Vec<String>,
}

/// Asks for the record and, once it is known what it names, who has that.
pub(super) fn ask(base: &str, name: Name, with_peers: bool) -> Option<Answer> {
    let base = base.trim_end_matches('/');
    let agent = agent();
    let url = format!("{base}/routing/v1/ipns/{name}");
    let answer = agent.get(url).header("accept", IPNS_RECORD).call();
    let mut answer = answer.ok()?;
    let kind = answer.headers().get("content-type");
    // Who has none says so in plain text (IPIP-513), or as others did before, with 404.
    let is_record = kind.is_some_and(|kind| kind.as_bytes().starts_with(IPNS_RECORD.as_bytes()));
    if !answer.status().is_success() || !is_record {
        return None;
    }
    let body = answer.body_mut().with_config().limit(MAX_RECORD as u64);
    let record = NameRecord::verify(&name, body.read_to_vec().ok()?.into());
    let peers = match &record {
        Ok(record) if with_peers => providers(&agent, base, &record.root.to_string()),
        _ => Vec::new(),
    };
    Some(Answer { record, peers })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Providers {
    providers: Vec<Provider>,
}

#[derive(Debug, Deserialize)]
struct Provider {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Addrs", default)]
    addresses: Vec<String>,
}

fn providers(agent: &ureq::Agent, base: &str, root: &str) -> Vec<String> {
    let Ok(mut answer) = agent
        .get(format!("{base}/routing/v1/providers/{root}"))
        .call()
    else {
        return Vec::new();
    };
    let body = answer.body_mut().with_config().limit(MOST_PROVIDERS);
    let Ok(found) = body.read_json::<Providers>() else {
        return Vec::new();
    };
    // An address on the other machine's own loopback leads to this one.
    let here = base.contains("//127.") || base.contains("//localhost") || base.contains("//[::1]");
    let reachable = |address: &String| {
        here || !(address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/"))
    };
    let mut peers = Vec::new();
    for provider in found.providers {
        let addresses = provider.addresses.into_iter().filter(reachable);
        peers.extend(
            addresses
                .take(MOST_ADDRESSES)
                .map(|address| format!("{address}/p2p/{}", provider.id)),
        );
    }
    peers
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT));
    config.http_status_as_error(false).build().into()
}
