//! Addresses of peers.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use hickory_resolver::TokioResolver;
use rust_ipfs::{Multiaddr, PeerId, Protocol};

use crate::contacts::direct;
use crate::{HostError, network};

/// Of one `/dnsaddr`, and of those that it names.
const MOST_LOOKUPS: usize = 8;

/// Splits a peer's address into who and where.
pub(crate) fn parse(address: &str) -> Result<(PeerId, Multiaddr), HostError> {
    let bad = |reason: &str| HostError::BadAddress {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let parsed = Multiaddr::from_str(address).map_err(|e| bad(&e.to_string()))?;
    match parsed.iter().next() {
        Some(
            Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_)
            | Protocol::Dnsaddr(_),
        ) => {}
        _ => {
            return Err(bad(
                "it must begin with /ip4, /ip6, /dns, /dns4, /dns6 or /dnsaddr",
            ));
        }
    }
    match parsed.iter().last() {
        Some(Protocol::P2p(peer)) => Ok((peer, parsed)),
        _ => Err(bad("it must end in /p2p/<peer id>")),
    }
}

/// Puts an IP address in the place of a host name: connexa 0.5.3 looks names up for its in-memory transport alone.
pub(crate) async fn resolve(address: &str) -> Result<Multiaddr, HostError> {
    let (peer, mut parsed) = parse(address)?;
    if let Some(Protocol::Dnsaddr(name)) = parsed.iter().next() {
        parsed = dnsaddr(&name, peer, texts).await?;
    }
    let (name, wanted): (String, fn(&SocketAddr) -> bool) = match parsed.iter().next() {
        Some(Protocol::Dns(name)) => (name.into_owned(), |_| true),
        Some(Protocol::Dns4(name)) => (name.into_owned(), SocketAddr::is_ipv4),
        Some(Protocol::Dns6(name)) => (name.into_owned(), SocketAddr::is_ipv6),
        _ => return Ok(parsed),
    };
    let found = tokio::net::lookup_host((name.as_str(), 0)).await;
    let ip = found.map_err(network)?.find(wanted);
    let ip = match ip.map(|found| found.ip()) {
        Some(IpAddr::V4(ip)) => Protocol::Ip4(ip),
        Some(IpAddr::V6(ip)) => Protocol::Ip6(ip),
        None => return Err(network(format!("{name} has no address of that kind"))),
    };
    Ok(std::iter::once(ip).chain(parsed.iter().skip(1)).collect())
}

/// One of the addresses that `/dnsaddr/<name>/p2p/<peer>` stands for: those in the TXT records of `_dnsaddr.<name>`, which may name
/// others of the kind (github.com/multiformats/multiaddr, protocols/DNSADDR.md).
async fn dnsaddr<L: Future<Output = Result<Vec<String>, HostError>>>(
    name: &str,
    peer: PeerId,
    lookup: impl Fn(String) -> L,
) -> Result<Multiaddr, HostError> {
    let mut names = vec![name.to_owned()];
    let (mut found, mut failed) = (Vec::new(), None);
    for _ in 0..MOST_LOOKUPS {
        let Some(next) = names.pop() else { break };
        let texts = match lookup(format!("_dnsaddr.{next}")).await {
            Ok(texts) => texts,
            Err(error) => {
                failed = Some(error);
                continue;
            }
        };
        let named = (texts.iter())
            .filter_map(|text| Multiaddr::from_str(text.strip_prefix("dnsaddr=")?).ok())
            .filter(|named| named.iter().last() == Some(Protocol::P2p(peer)));
        for named in named {
            match named.iter().next() {
                Some(Protocol::Dnsaddr(name)) => names.push(name.into_owned()),
                _ if direct(&named) => found.push(named),
                _ => {}
            }
        }
    }
    // Another one each time: not all of them lead there from every network.
    let any = RandomState::new().build_hasher().finish();
    if let Some(index) = any.checked_rem(found.len() as u64) {
        return Ok(found.swap_remove(index as usize));
    }
    Err(failed.unwrap_or_else(|| {
        network(format!(
            "_dnsaddr.{name} has no address of {peer} over TCP, WebSocket or QUIC"
        ))
    }))
}

/// A name's TXT records.
async fn texts(name: String) -> Result<Vec<String>, HostError> {
    let resolver = TokioResolver::builder_tokio().map_err(network)?.build();
    let found = resolver.txt_lookup(name).await.map_err(network)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA";

    #[tokio::test]
    async fn a_host_name_is_looked_up() {
        for (address, expected) in [
            ("/dns4/localhost/tcp/4001", "/ip4/127.0.0.1/tcp/4001"),
            (
                "/ip4/192.0.2.1/udp/1/quic-v1",
                "/ip4/192.0.2.1/udp/1/quic-v1",
            ),
        ] {
            let resolved = resolve(&format!("{address}{PEER}")).await.unwrap();
            assert_eq!(resolved.to_string(), format!("{expected}{PEER}"));
        }
    }

    #[test]
    fn what_is_no_address_of_a_peer_is_said() {
        for (address, expected) in [
            ("mirror.example", "is not a peer's address"),
            ("/ip4/192.0.2.1/tcp/4001", "must end in /p2p/"),
            ("/tcp/4001", "must begin with /ip4"),
            ("/dnsaddr/mirror.example", "must end in /p2p/"),
        ] {
            let error = parse(address).unwrap_err().to_string();
            assert!(error.contains(expected), "{address}: {error}");
        }
    }

    /// As the public bootstrap nodes are named.
    #[tokio::test]
    async fn a_dnsaddr_is_one_of_those_that_it_stands_for() {
        let peer = PeerId::from_str(PEER.strip_prefix("/p2p/").unwrap()).unwrap();
        let other = "12D3KooWGRUVh8smkxgaP3T2zQ2VcqfCEzyv6AaGZGEtm3CnNWCK";
        let zone = |name: String| async move {
            match name.as_str() {
                "_dnsaddr.bootstrap.example" => Ok(vec![
                    "v=spf1 -all".to_owned(),
                    format!("dnsaddr=/ip4/192.0.2.9/tcp/4001/p2p/{other}"),
                    format!("dnsaddr=/dnsaddr/loop.example{PEER}"),
                    format!("dnsaddr=/dnsaddr/gone.example{PEER}"),
                    format!("dnsaddr=/dnsaddr/one.example{PEER}"),
                    format!("dnsaddr=/dnsaddr/gone.example{PEER}"),
                ]),
                "_dnsaddr.one.example" => Ok(vec![
                    format!("dnsaddr=/dns4/one.example/tcp/443/wss{PEER}"),
                    format!("dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1/webtransport{PEER}"),
                    format!("dnsaddr=/ip4/192.0.2.7/udp/4001/quic-v1{PEER}"),
                    format!("dnsaddr=/ip4/192.0.2.7/tcp/4001{PEER}"),
                ]),
                "_dnsaddr.loop.example" => Ok(vec![format!("dnsaddr=/dnsaddr/loop.example{PEER}")]),
                _ => Err(network("no such name")),
            }
        };
        let mut expected = ["udp/4001/quic-v1", "tcp/4001"]
            .map(|at| format!("/ip4/192.0.2.7/{at}{PEER}"))
            .to_vec();
        // Each of them sooner or later.
        while !expected.is_empty() {
            let found = dnsaddr("bootstrap.example", peer, zone).await.unwrap();
            assert!(found.to_string().starts_with("/ip4/192.0.2.7/"), "{found}");
            expected.retain(|it| *it != found.to_string());
        }
        for (name, expected) in [
            ("gone.example", "no such name"),
            ("loop.example", "has no address of"),
        ] {
            let error = dnsaddr(name, peer, zone).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
    }
}
