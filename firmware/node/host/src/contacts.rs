//! Who is connected, and where each can be dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use connexa::prelude::identify::Info;
use rust_ipfs::{ConnectedPoint, ConnectionId, Multiaddr, PeerId, Protocol};

/// A connected peer, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contact {
    /// Program and version: `kubo/0.39.0`.
    pub agent: Option<String>,
    /// Where it can be dialled, each ending in `/p2p/<peer id>`: where this host has dialled it, or where it says that it
    /// listens and the connection comes from the same machine. What it says of others is not believed: nobody is dialled on
    /// a stranger's word. Empty behind a router.
    pub addresses: Vec<String>,
    dialled: BTreeSet<Multiaddr>,
    claimed: Vec<Multiaddr>,
    machines: BTreeSet<IpAddr>,
    /// The connections by which it has said what it is.
    identified: BTreeSet<ConnectionId>,
}

/// Connected peers by their ids.
pub type Contacts = BTreeMap<String, Contact>;

/// What rust-ipfs 0.16 speaks.
const BITSWAP: &str = "/ipfs/bitswap/1.2.0";

/// Of what a peer says this much is kept.
const AGENT_CHARS: usize = 40;
const CLAIMS: usize = 16;
const ADDRESSES: usize = 4;

impl Contact {
    pub(crate) fn connected(&mut self, peer: PeerId, at: &ConnectedPoint) {
        let remote = at.get_remote_address();
        self.machines.extend(ip(remote));
        if at.is_dialer() {
            self.dialled.insert(remote.clone());
        }
        self.settle(peer);
    }

    /// Whether it says not for the first time on this connection what it is, and that it has bitswap, and yet is not `heard`: then
    /// it has refused bitswap when it was asked. Of the first time that says nothing, as the answer may be under way.
    pub(crate) fn identified(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        info: &Info,
        heard: bool,
    ) -> bool {
        let agent = info.agent_version.chars();
        let agent: String = agent
            .filter(|c| !c.is_control())
            .take(AGENT_CHARS)
            .collect();
        self.agent = Some(agent).filter(|agent| !agent.is_empty());
        self.claimed = info.listen_addrs.iter().take(CLAIMS).cloned().collect();
        self.settle(peer);
        let bitswap = info.protocols.iter().any(|it| it.as_ref() == BITSWAP);
        let again = !self.identified.insert(connection);
        again && bitswap && !heard
    }

    /// One of several connections.
    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        self.identified.remove(&connection);
    }

    fn settle(&mut self, peer: PeerId) {
        let here = |address: &&Multiaddr| {
            direct(address) && ip(address).is_some_and(|ip| self.machines.contains(&ip))
        };
        let believed = self.claimed.iter().filter(here);
        let mut addresses: Vec<String> = Vec::new();
        for address in self.dialled.iter().filter(|at| direct(at)).chain(believed) {
            let bare = address
                .iter()
                .filter(|part| !matches!(part, Protocol::P2p(_)));
            let full = bare.chain([Protocol::P2p(peer)]).collect::<Multiaddr>();
            let full = full.to_string();
            if addresses.len() < ADDRESSES && !addresses.contains(&full) {
                addresses.push(full);
            }
        }
        self.addresses = addresses;
    }
}

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::from(ip).to_canonical()),
        _ => None,
    }
}

/// Not through a relay, and by a transport that this host has.
pub(crate) fn direct(address: &Multiaddr) -> bool {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return false;
    }
    let mut parts = address.iter().skip(1);
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    let end = |part: &Option<Protocol<'_>>| matches!(part, None | Some(Protocol::P2p(_)));
    match first {
        Some(Protocol::Tcp(_)) => {
            end(&second) || matches!(second, Some(Protocol::Ws(_))) && end(&third)
        }
        Some(Protocol::Udp(_)) => matches!(second, Some(Protocol::QuicV1)) && end(&third),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rust_ipfs::{Keypair, StreamProtocol};

    use super::*;

    #[test]
    fn who_has_bitswap_and_is_not_heard_is_noticed_when_it_says_so_again() {
        let key = Keypair::generate_ed25519().public();
        let (ping, both) = (
            &["/ipfs/ping/1.0.0"][..],
            &["/ipfs/ping/1.0.0", BITSWAP][..],
        );
        let check = |said: &[(usize, &[&'static str], bool)]| {
            let mut contact = Contact::default();
            let noticed = said.iter().map(|(connection, protocols, heard)| {
                let info = Info {
                    public_key: key.clone(),
                    protocol_version: String::new(),
                    agent_version: String::new(),
                    listen_addrs: Vec::new(),
                    protocols: (protocols.iter().copied())
                        .map(StreamProtocol::new)
                        .collect(),
                    observed_addr: Multiaddr::empty(),
                    signed_peer_record: None,
                };
                let connection = ConnectionId::new_unchecked(*connection);
                contact.identified(key.to_peer_id(), connection, &info, *heard)
            });
            noticed.collect::<Vec<_>>()
        };
        // It comes late, and is told at once.
        assert_eq!(
            check(&[(1, ping, false), (1, ping, false), (1, both, false)]),
            [false, false, true]
        );
        // It came after the question for it, and before the one what this peer is.
        assert_eq!(check(&[(1, both, false), (1, both, false)]), [false, true]);
        // It answered before it said so.
        assert_eq!(check(&[(1, ping, true), (1, both, true)]), [false, false]);
        // Two connections at the same time, and neither has answered yet.
        assert_eq!(check(&[(1, both, false), (2, both, false)]), [false, false]);
        // And still not the next time.
        assert_eq!(
            check(&[(1, both, false), (2, both, false), (1, both, false)]),
            [false, false, true]
        );
    }

    #[test]
    fn nobody_is_dialled_on_a_strangers_word() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let mut contact = Contact {
            machines: BTreeSet::from([[192, 0, 2, 7].into()]),
            ..Contact::default()
        };
        let claimed = [
            "/ip4/192.0.2.7/tcp/4001",
            "/ip4/192.0.2.7/udp/4001/quic-v1",
            "/ip4/192.0.2.7/tcp/4002/ws",
            "/ip4/10.0.0.1/tcp/22",
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/192.0.2.7/udp/4001/quic-v1/webtransport",
            "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit",
            "/dns4/box.example/tcp/4001",
        ];
        contact.claimed = claimed.map(|text| text.parse().unwrap()).to_vec();
        contact.settle(peer);
        let expected = [&claimed[0], &claimed[1], &claimed[2]];
        assert_eq!(
            contact.addresses,
            expected.map(|address| format!("{address}/p2p/{peer}"))
        );
    }
}
