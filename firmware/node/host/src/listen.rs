//! Addresses to listen on.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use rust_ipfs::{Ipfs, Multiaddr, Protocol};

use crate::OpenError;

/// Binding is immediate; only an interface that never comes up takes longer.
const BIND_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Address {
    multiaddr: Multiaddr,
    socket: Socket,
}

#[derive(Debug, Clone, Copy)]
enum Socket {
    Tcp(SocketAddr),
    Udp(SocketAddr),
}

impl Address {
    pub(crate) fn is_quic(&self) -> bool {
        matches!(self.socket, Socket::Udp(_))
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.multiaddr.fmt(f)
    }
}

pub(crate) fn parse(addresses: &[String]) -> Result<Vec<Address>, OpenError> {
    addresses.iter().map(|address| parse_one(address)).collect()
}

fn parse_one(address: &str) -> Result<Address, OpenError> {
    let bad = |reason: &str| OpenError::BadAddress {
        address: address.to_owned(),
        reason: reason.to_owned(),
    };
    let multiaddr = Multiaddr::from_str(address).map_err(|e| bad(&e.to_string()))?;
    let mut protocols = multiaddr.iter();
    let ip: IpAddr = match protocols.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Err(bad("it must begin with /ip4 or /ip6")),
    };
    let socket = match (protocols.next(), protocols.next(), protocols.next()) {
        (Some(Protocol::Tcp(port)), None | Some(Protocol::Ws(_)), None) => {
            Socket::Tcp((ip, port).into())
        }
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1), None) => Socket::Udp((ip, port).into()),
        _ => {
            return Err(bad(
                "after the IP address comes /tcp/PORT, /tcp/PORT/ws or /udp/PORT/quic-v1",
            ));
        }
    };
    Ok(Address { multiaddr, socket })
}

/// Listens on the address; the error names it.
pub(crate) async fn bind(ipfs: &Ipfs, address: Address) -> Result<(), OpenError> {
    let Address { multiaddr, socket } = address;
    // libp2p sets SO_REUSEPORT, with which two processes share a TCP port without a word and each gets half of the
    // connections. A plain socket is refused.
    let probe = match socket {
        Socket::Tcp(address) => TcpListener::bind(address).map(drop),
        Socket::Udp(address) => UdpSocket::bind(address).map(drop),
    };
    match probe {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            return Err(OpenError::AddressInUse {
                address: multiaddr.to_string(),
            });
        }
        Err(error) => return Err(failed(&multiaddr, error)),
    }
    match tokio::time::timeout(BIND_TIMEOUT, ipfs.add_listening_address(multiaddr.clone())).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(failed(&multiaddr, error)),
        Err(_) => Err(failed(&multiaddr, "no interface has that address")),
    }
}

fn failed(address: &Multiaddr, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Listen {
        address: address.to_string(),
        reason: reason.to_string(),
    }
}
