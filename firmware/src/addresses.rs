//! The addresses that this machine has on the networks that it is on.

use std::net::IpAddr;

/// The address by which neighbours reach this machine, IPv4 first.
pub(crate) fn local_address() -> Option<IpAddr> {
    let mut addresses: Vec<_> = if_addrs::get_if_addrs()
        .ok()?
        .into_iter()
        .filter(|interface| !interface.is_loopback() && !interface.is_link_local())
        .map(|interface| interface.ip())
        .collect();
    addresses.sort_by_key(|address| !address.is_ipv4());
    addresses.first().copied()
}
