//! Peers that the operator has named: mirrors and bootstrap nodes. Each is dialled, kept, and dialled again.

use std::time::Duration;

use node_host::{Host, HostError};
use tokio::time::Instant;

const DIAL_TIMEOUT: Duration = Duration::from_secs(20);
/// After a connection that lasted.
const SOON: Duration = Duration::from_millis(500);
/// A mirror that is switched on is found within this time.
const AT_LAST: Duration = Duration::from_secs(60);
/// Who was connected, however briefly, is there: a link that breaks again and again still carries something each time.
const THERE: Duration = Duration::from_secs(4);
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
        let mut patience = Patience(SOON);
        loop {
            let dialled = host.connect_and_keep(self.address.clone(), DIAL_TIMEOUT);
            let is_there = tokio::select! {
                result = dialled => match result {
                    Ok(()) => true,
                    Err(error) => {
                        tracing::debug!(peer = %self.address, %error, "cannot connect");
                        false
                    }
                },
                // It has connected by itself.
                found = connected.wait_for(|peers| peers.contains(&self.id)) => match found {
                    Ok(_) => true,
                    Err(_) => return,
                },
            };
            let is_there = is_there || connected.borrow().contains(&self.id);
            let since = Instant::now();
            if connected
                .wait_for(|peers| !peers.contains(&self.id))
                .await
                .is_err()
            {
                return;
            }
            let pause = patience.next(is_there.then(|| since.elapsed()));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // It connects by itself, or the host is gone.
                found = connected.wait_for(|peers| peers.contains(&self.id)) => if found.is_err() {
                    return;
                },
            }
        }
    }
}

/// How long to wait before the next dial.
#[derive(Debug)]
struct Patience(Duration);

impl Patience {
    /// After a dial that led to a connection of so long, or to none.
    fn next(&mut self, connected: Option<Duration>) -> Duration {
        let pause = match connected {
            Some(lasted) if lasted >= LASTED => SOON,
            Some(_) => self.0.min(THERE),
            None => self.0,
        };
        self.0 = (2 * pause).min(AT_LAST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_there_is_dialled_soon_and_who_is_not_ever_more_rarely() {
        let mut patience = Patience(SOON);
        let mut pauses = |connected: [Option<u64>; 9]| {
            connected.map(|it| patience.next(it.map(Duration::from_secs)).as_secs_f32())
        };
        assert_eq!(
            pauses([None; 9]),
            [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
        );
        assert_eq!(pauses([Some(2); 9]), [4.0; 9]);
        assert_eq!(
            pauses([
                Some(30),
                Some(2),
                Some(2),
                Some(2),
                Some(2),
                None,
                None,
                Some(2),
                None
            ]),
            [0.5, 1.0, 2.0, 4.0, 4.0, 8.0, 16.0, 4.0, 8.0]
        );
    }
}
