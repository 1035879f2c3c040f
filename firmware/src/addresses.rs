//! The addresses that this machine has on the networks that it is on.

use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use if_addrs::{IfAddr, Interface};

/// Addresses for documentation (RFC 5737, RFC 3849), which only a default route leads to.
const FAR: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// A crowd that connects at once does not ask the kernel once each.
const KEPT: Duration = Duration::from_secs(1);

/// The address by which neighbours reach this machine; absent where no cable is in.
pub(crate) fn local_address() -> Option<IpAddr> {
    best(&if_addrs::get_if_addrs().ok()?, &routed())
}

/// Whether what is sent there does not leave by the uplink: this machine itself, and networks that it is directly connected with. Behind a
/// tunnel others are far away.
pub(crate) fn is_neighbour(address: IpAddr) -> bool {
    static INTERFACES: Mutex<Option<(Instant, Vec<Interface>)>> = Mutex::new(None);

    if address.is_loopback() {
        return true;
    }
    let mut kept = INTERFACES.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.as_ref().is_none_or(|(at, _)| at.elapsed() > KEPT) {
        *kept = (if_addrs::get_if_addrs().ok()).map(|interfaces| (Instant::now(), interfaces));
    }
    let mut interfaces = kept.iter().flat_map(|(_, interfaces)| interfaces);
    interfaces.any(|it| is_beside(it, address))
}

fn is_beside(interface: &Interface, address: IpAddr) -> bool {
    let same = match (&interface.addr, address) {
        (IfAddr::V4(own), IpAddr::V4(other)) => {
            (own.ip.to_bits() ^ other.to_bits()) & own.netmask.to_bits() == 0
        }
        (IfAddr::V6(own), IpAddr::V6(other)) => {
            (own.ip.to_bits() ^ other.to_bits()) & own.netmask.to_bits() == 0
        }
        _ => false,
    };
    interface.ip() == address || same && !interface.is_p2p()
}

/// Where the default routes leave from, as the kernel chooses. Connecting a UDP socket sends nothing.
fn routed() -> Vec<IpAddr> {
    let from = |(any, far): (&str, &str)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(far).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    FAR.into_iter().filter_map(from).collect()
}

/// Only of an interface that has a carrier. The kernel says so (`IFF_RUNNING`) of those that cannot tell, too, as USB gadgets. The one with
/// the default route goes before the bridges of containers, and IPv4 before IPv6, as people type it. A tunnel's address is of
/// use to nobody in the hall, even where all traffic goes through it.
fn best(interfaces: &[Interface], routed: &[IpAddr]) -> Option<IpAddr> {
    let reachable = |it: &&Interface| it.is_oper_up() && !it.is_loopback() && !it.is_link_local();
    interfaces
        .iter()
        .filter(reachable)
        .min_by_key(|it| (it.is_p2p(), !routed.contains(&it.ip()), !it.ip().is_ipv4()))
        .map(Interface::ip)
}

#[cfg(test)]
mod tests {
    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(address: &str, up: bool) -> Interface {
        let addr = match address.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: [255, 255, 255, 0].into(),
                prefixlen: 24,
                broadcast: None,
            }),
            IpAddr::V6(ip) => IfAddr::V6(Ifv6Addr {
                ip,
                netmask: "ffff:ffff:ffff:ffff::".parse().unwrap(),
                prefixlen: 64,
                broadcast: None,
            }),
        };
        Interface {
            name: "test".into(),
            addr,
            index: None,
            oper_status: match up {
                true => IfOperStatus::Up,
                false => IfOperStatus::Unknown,
            },
            is_p2p: address.starts_with("10.8."),
        }
    }

    #[test]
    fn who_is_in_the_hall_is_not_behind_the_uplink() {
        let check = |own: &str, address: &str, expected: bool| {
            let beside = is_beside(&interface(own, true), address.parse().unwrap());
            assert_eq!(beside, expected, "{address} from {own}");
        };
        check("192.168.1.7", "192.168.1.200", true);
        check("192.168.1.7", "192.168.2.7", false);
        check("192.168.1.7", "203.0.113.9", false);
        check("192.168.1.7", "fd00::9", false);
        check("fd00::7", "fd00::9", true);
        check("fd00::7", "fd00:0:0:1::9", false);
        check("10.8.0.2", "10.8.0.9", false);
        check("10.8.0.2", "10.8.0.2", true);
        assert!(is_neighbour([127, 0, 0, 1].into()));
        assert!(!is_neighbour([203, 0, 113, 9].into()));
    }

    #[test]
    fn neighbours_reach_the_interface_that_has_a_carrier_and_the_default_route() {
        let check = |up: &[&str], down: &[&str], routed: &[&str], expected: Option<&str>| {
            let up = up.iter().map(|it| interface(it, true));
            let down = down.iter().map(|it| interface(it, false));
            let all: Vec<_> = down.chain(up).collect();
            let routed: Vec<IpAddr> = routed.iter().map(|it| it.parse().unwrap()).collect();
            let best = best(&all, &routed).map(|it| it.to_string());
            assert_eq!(best.as_deref(), expected, "{all:?}");
        };
        let (lan, docker, tunnel) = ("192.168.1.7", "172.17.0.1", "10.8.0.2");
        check(
            &["127.0.0.1", "::1", "fe80::1", "169.254.1.1"],
            &[],
            &[],
            None,
        );
        check(&["127.0.0.1", lan], &[], &[lan], Some(lan));
        // Its cable is out; its route may still be there.
        check(&[], &[lan], &[lan], None);
        check(&[docker], &[lan], &[lan], Some(docker));
        check(&[docker, lan], &[], &[lan], Some(lan));
        check(&[tunnel, docker, lan], &[], &[lan], Some(lan));
        check(&[tunnel, lan], &[], &[tunnel], Some(lan));
        check(&[tunnel], &[], &[], Some(tunnel));
        // A closed network has no route.
        check(&[lan], &[docker], &[], Some(lan));
        check(&["fd00::7", lan], &[], &["fd00::7", lan], Some(lan));
        check(&["fd00::7"], &[], &[], Some("fd00::7"));
    }
}
