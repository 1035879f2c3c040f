//! Peers that the operator has named: mirrors and bootstrap nodes. Each is dialled, kept, and dialled again.

use std::time::Duration;

use node_host::{Host, HostError};
use tokio::time::Instant;

const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// After a connection that lasted.
const SOON: Duration = Duration::from_millis(500);
/// A mirror that is switched on is found within this time.
const AT_LAST: Duration = Duration::from_secs(60);
/// A connection that lasted so long was a good one.
const LASTED: Duration = Duration::from_secs(30);

/// A peer to keep connected.
#[derive(Debug)]
pub(crate) struct Peer {
    id: String,
    address: String,
}

impl Peer {
    /// Checks an address that ends in `/p2p/<peer id>`.
    pub(crate) fn parse(address: String) -> Result<Peer, HostError> {
        let id = node_host::peer_of(&address)?;
        Ok(Peer { id, address })
    }

    /// Dials whenever the peer is not connected, ever more patiently, until the host is gone.
    pub(crate) async fn keep(self, host: Host) {
        let mut connected = host.connected();
        let mut pause = SOON;
        loop {
            let since = Instant::now();
            let dialled = host.connect_and_keep(self.address.clone(), DIAL_TIMEOUT);
            tokio::select! {
                result = dialled => if let Err(error) = result {
                    tracing::debug!(peer = %self.address, %error, "cannot connect");
                },
                // It has connected by itself.
                found = connected.wait_for(|peers| peers.contains(&self.id)) => if found.is_err() {
                    return;
                },
            }
            if connected
                .wait_for(|peers| !peers.contains(&self.id))
                .await
                .is_err()
            {
                return;
            }
            if since.elapsed() >= LASTED {
                pause = SOON;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (2 * pause).min(AT_LAST),
                // It connects by itself, or the host is gone.
                found = connected.wait_for(|peers| peers.contains(&self.id)) => if found.is_err() {
                    return;
                },
            }
        }
    }
}
