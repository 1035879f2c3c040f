//! A share of the connections that others may open for each address, so that one machine with many identities leaves places for mirrors.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use connexa::prelude::swarm::ConnectionId;
use connexa::prelude::{Multiaddr, Protocol};

/// Connections that others have opened, by the machine or network that they come from.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// For one address.
    limit: u32,
    taken: HashMap<IpAddr, u32>,
    from: HashMap<ConnectionId, IpAddr>,
}

/// This address has its share.
#[derive(Debug, thiserror::Error)]
#[error("too many connections from {0}")]
pub(crate) struct TooMany(IpAddr);

impl Places {
    /// Half of all places for one address: several mirrors behind one router are no attack.
    pub(crate) fn new(places: u32) -> Places {
        Places {
            limit: places.div_ceil(2),
            ..Places::default()
        }
    }

    pub(crate) fn take(
        &mut self,
        connection: ConnectionId,
        remote: &Multiaddr,
    ) -> Result<(), TooMany> {
        let Some(from) = machine(remote) else {
            return Ok(());
        };
        let taken = self.taken.entry(from).or_default();
        if *taken >= self.limit {
            return Err(TooMany(from));
        }
        *taken += 1;
        self.from.insert(connection, from);
        Ok(())
    }

    pub(crate) fn leave(&mut self, connection: ConnectionId) {
        let Some(from) = self.from.remove(&connection) else {
            return;
        };
        if let Some(taken) = self.taken.get_mut(&from) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(&from);
            }
        }
    }
}

/// Who is behind an address: of IPv6 the network, as each machine has all of it to choose from.
pub fn machine_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64))
        }
        ip => ip,
    }
}

/// Nothing for this machine.
fn machine(remote: &Multiaddr) -> Option<IpAddr> {
    let ip = machine_of(match remote.iter().next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    });
    (!ip.is_loopback()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_has_half_of_the_places_and_gives_them_back() {
        let mut places = Places::new(5);
        let mut next = 0;
        let mut take = |places: &mut Places, remote: &str| {
            next += 1;
            let connection = ConnectionId::new_unchecked(next);
            let taken = places.take(connection, &remote.parse().unwrap());
            taken
                .map(|()| connection)
                .map_err(|error| error.to_string())
        };
        let tcp = |host: &str| format!("/ip4/{host}/tcp/4001");
        let first: Vec<_> = (0..3)
            .map(|_| take(&mut places, &tcp("192.0.2.1")).unwrap())
            .collect();
        for at in [
            tcp("192.0.2.1"),
            "/ip6/::ffff:192.0.2.1/udp/1/quic-v1".into(),
        ] {
            assert_eq!(
                take(&mut places, &at),
                Err("too many connections from 192.0.2.1".into())
            );
        }
        take(&mut places, &tcp("192.0.2.2")).unwrap();
        places.leave(first[0]);
        places.leave(first[0]);
        take(&mut places, &tcp("192.0.2.1")).unwrap();
        assert!(take(&mut places, &tcp("192.0.2.1")).is_err());

        for host in 1..=3 {
            take(&mut places, &format!("/ip6/2001:db8::{host}/tcp/1")).unwrap();
        }
        assert!(take(&mut places, "/ip6/2001:db8::9/tcp/1").is_err());
        take(&mut places, "/ip6/2001:db8:0:1::9/tcp/1").unwrap();

        for _ in 0..10 {
            take(&mut places, &tcp("127.0.0.1")).unwrap();
            take(&mut places, "/ip6/::1/tcp/1").unwrap();
        }
        for connection in 0..next {
            places.leave(ConnectionId::new_unchecked(connection + 1));
        }
        assert!(places.taken.is_empty() && places.from.is_empty());
    }
}
