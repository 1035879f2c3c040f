//! Addresses of peers.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use rust_ipfs::{Multiaddr, PeerId, Protocol};

use crate::{HostError, network};

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
            | Protocol::Dns6(_),
        ) => {}
        _ => return Err(bad("it must begin with /ip4, /ip6, /dns, /dns4 or /dns6")),
    }
    match parsed.iter().last() {
        Some(Protocol::P2p(peer)) => Ok((peer, parsed)),
        _ => Err(bad("it must end in /p2p/<peer id>")),
    }
}

/// Puts an IP address in the place of a host name: connexa 0.5.3 looks names up for its in-memory transport alone.
pub(crate) async fn resolve(address: &str) -> Result<Multiaddr, HostError> {
    let (_, parsed) = parse(address)?;
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
            ("/dnsaddr/mirror.example", "must begin with /ip4"),
        ] {
            let error = parse(address).unwrap_err().to_string();
            assert!(error.contains(expected), "{address}: {error}");
        }
    }
}
