//! Peers whose want list has grown too long are disconnected once: rust-ipfs forgets a want only when the peer takes it
//! back or goes, and as a client it does not take back what it got (measured at 0.16.0: 2376 blocks sent, 2376 entries).
//!
//! So are peers that want more than the uplink carries. rust-ipfs reads a block when it is wanted and keeps it until the
//! connection takes it, however many are waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use rust_ipfs::{Error, Ipfs, PeerId};
use tokio::sync::watch;

use crate::Limits;

/// A follower of a fast stream adds a few entries in this time, and a fast disk reads as much as may wait.
const EVERY: Duration = Duration::from_secs(1);

/// Blocks that were read to be sent, against what was sent.
#[derive(Debug, Default)]
struct Backlog {
    read: u64,
    sent: u64,
    /// Bytes that wait in memory. It may be more where somebody has left.
    waiting: u64,
}

impl Backlog {
    /// Sums since the start, of those peers alone that are connected now, and of all.
    fn observe(&mut self, read: u64, sent: u64) {
        let gone = sent.saturating_sub(self.sent);
        self.waiting = match read.checked_sub(self.read) {
            Some(come) => (self.waiting + come).saturating_sub(gone),
            // What waited for a peer went with it: at most all that was ever read for it.
            None => (self.waiting).saturating_sub(self.read - read + gone),
        };
        (self.read, self.sent) = (read, sent);
    }
}

/// Looks after the lists until the host is gone.
pub(crate) fn spawn(ipfs: Ipfs, limits: Limits, mut connected: watch::Receiver<BTreeSet<String>>) {
    tokio::spawn(async move {
        let mut backlog = Backlog::default();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The swarm, which holds the sender, goes with a shutdown, and this handle must go at once: the
                // repository's lock hangs on it.
                changed = connected.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                _ = ticks.tick() => {}
            }
            let (Ok(wants), Ok(stats)) = (wants(&ipfs).await, ipfs.bitswap_stats().await) else {
                continue;
            };
            backlog.observe(stats.bytes_sent, uplink::sent().peers);
            let longest = wants.iter().max_by_key(|(_, count)| *count).copied();
            let too_long = wants.into_iter().filter(|(_, count)| *count > limits.wants);
            let behind = longest.filter(|_| backlog.waiting > limits.waiting);
            for (peer, count) in too_long.chain(behind) {
                let waiting = backlog.waiting;
                tracing::info!(%peer, count, waiting, "a long want list: this peer has to connect anew");
                if let Err(error) = ipfs.disconnect(peer).await {
                    tracing::debug!(%peer, %error, "cannot disconnect");
                }
            }
        }
    });
}

/// How many blocks each connected peer has on its want list.
pub(crate) async fn wants(ipfs: &Ipfs) -> Result<Vec<(PeerId, usize)>, Error> {
    let mut wants = Vec::new();
    for peer in ipfs.connected().await? {
        wants.push((peer, ipfs.bitswap_wantlist(peer).await?.len()));
    }
    Ok(wants)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_was_read_and_not_sent() {
        let mut backlog = Backlog::default();
        for (read, sent, waiting) in [
            (0, 0, 0),
            // More is sent than blocks: the protocols around them.
            (100, 300, 0),
            (1000, 400, 800),
            (1000, 900, 300),
            (5000, 1000, 4200),
            // Somebody left, and what waited for it; what waits for others goes on waiting.
            (4000, 1000, 3200),
            (3500, 1200, 2500),
            // One for whom more was read than waits.
            (500, 1200, 0),
            (1000, 1300, 400),
        ] {
            backlog.observe(read, sent);
            assert_eq!(backlog.waiting, waiting, "{read} {sent}");
        }
    }
}
