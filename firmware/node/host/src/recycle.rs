//! Where want lists have grown too long, the peers with the longest are disconnected once: rust-ipfs forgets a want only when the peer takes it
//! back or goes, and as a client it does not take back what it got (measured at 0.16.0: 2376 blocks sent, 2376 entries).
//!
//! So are peers that want more than the uplink carries. rust-ipfs reads a block when it is wanted and keeps it until the
//! connection takes it, however many are waiting.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use rust_ipfs::{Error, Ipfs, PeerId};
use tokio::sync::watch;
use uplink::Sent;

use crate::Limits;

/// A follower of a fast stream adds a few entries in this time, and a fast disk reads as much as may wait.
const EVERY: Duration = Duration::from_secs(1);

/// Blocks that were read to be sent, against what was sent.
///
/// Neither is known of one peer: rust-ipfs tells a sum of all who are connected, and the transports do not know who a peer is. But
/// they know what a connection had carried when it was closed. So where the sum falls because somebody has left, what still waited
/// for it, and no longer does, is what had been read for it less what its connections had carried.
#[derive(Debug, Default)]
struct Backlog {
    read: u64,
    sent: u64,
    closed: u64,
    /// Bytes that wait in memory, about.
    waiting: u64,
}

impl Backlog {
    /// What was read since the start for those peers alone that are connected now, and what was sent: to all, and over connections
    /// that are closed.
    fn observe(&mut self, read: u64, Sent { peers, closed, .. }: Sent) {
        let come = read.saturating_sub(self.read);
        let fallen = self.read.saturating_sub(read);
        let lost = fallen.saturating_sub(closed.saturating_sub(self.closed));
        let gone = peers.saturating_sub(self.sent);
        self.waiting = (self.waiting + come).saturating_sub(gone + lost);
        (self.read, self.sent, self.closed) = (read, peers, closed);
    }
}

/// Looks after the lists until the host is gone.
pub(crate) fn spawn(ipfs: Ipfs, limits: Limits, mut connected: watch::Receiver<BTreeSet<String>>) {
    tokio::spawn(async move {
        let mut backlog = Backlog::default();
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = tokio::select! {
                // The swarm, which holds the sender, goes with a shutdown, and this handle must go at once: the
                // repository's lock hangs on it.
                // Looked at at once, so that what leaves with a peer is not taken for what comes for another.
                changed = connected.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                _ = ticks.tick() => true,
            };
            if let Ok(stats) = ipfs.bitswap_stats().await {
                backlog.observe(stats.bytes_sent, uplink::sent());
            }
            if !due {
                continue;
            }
            let Ok(wants) = wants(&ipfs).await else {
                continue;
            };
            let waiting = backlog.waiting;
            for (peer, count) in too_many(wants, waiting, limits) {
                tracing::info!(%peer, count, waiting, "a long want list: this peer has to connect anew");
                if let Err(error) = ipfs.disconnect(peer).await {
                    tracing::debug!(%peer, %error, "cannot disconnect");
                }
            }
        }
    });
}

/// Those who have to go, the longest list first, until what is above the limits is gone with them. Of what waits nobody knows for whom,
/// so each entry is taken to have the same share, and each peer one entry more: it may have taken back what it wanted.
fn too_many<P>(mut wants: Vec<(P, usize)>, waiting: u64, limits: Limits) -> Vec<(P, usize)> {
    wants.sort_by_key(|(_, count)| Reverse(*count));
    let entries: usize = wants.iter().map(|(_, count)| count).sum();
    let mut entries_over = entries.saturating_sub(limits.wants);
    let share = waiting as f64 / (entries + wants.len()) as f64;
    let mut bytes_over = waiting.saturating_sub(limits.waiting) as f64;
    let goes = wants.into_iter().take_while(|(_, count)| {
        let over = entries_over > 0 || bytes_over > 0.0;
        entries_over = entries_over.saturating_sub(*count);
        bytes_over -= share * (count + 1) as f64;
        over
    });
    goes.collect()
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
        for (read, peers, closed, waiting) in [
            (0, 0, 0, 0),
            // More is sent than blocks: the protocols around them.
            (100, 300, 0, 0),
            (1000, 400, 0, 800),
            (1000, 900, 0, 300),
            (5000, 1000, 0, 4200),
            // Somebody left for whom 1000 had been read, of which 200 were sent.
            (4000, 1000, 200, 3400),
            // A connection ends, and its peer has another.
            (4000, 1000, 900, 3400),
            // Another one leaves, who was sent more than blocks.
            (3500, 1200, 1500, 3200),
            (3500, 2200, 1500, 2200),
        ] {
            let sent = Sent {
                peers,
                closed,
                viewers: 0,
            };
            backlog.observe(read, sent);
            assert_eq!(backlog.waiting, waiting, "{read} {peers} {closed}");
        }
    }

    #[test]
    fn the_lists_of_all_peers_fit_in_a_small_boards_memory() {
        // Measured at rust-ipfs 0.16.0: its table has a byte more for each place, and doubles when 7/8 of them are taken.
        const PLACE: usize = 202;
        let most = Limits::default().wants * PLACE * 16 / 7;
        assert!(most < 16 << 20, "{most}");
    }

    fn check_too_many(wants: &[(char, usize)], waiting: u64, expected: &str) {
        let limits = Limits {
            wants: 100,
            waiting: 1000,
            ..Limits::default()
        };
        let goes = too_many(wants.to_vec(), waiting, limits);
        let goes: String = goes.into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(goes, expected, "{wants:?} {waiting}");
    }

    #[test]
    fn the_longest_lists_go_until_what_is_too_much_is_covered() {
        check_too_many(&[], 5000, "");
        check_too_many(&[('a', 60), ('b', 40)], 1000, "");
        check_too_many(&[('a', 20), ('b', 50), ('c', 31)], 0, "b");
        check_too_many(&[('a', 90), ('b', 150), ('c', 31)], 0, "ba");
        // Four fifths wait beyond the limit, and each of four has a quarter.
        check_too_many(&[('a', 9), ('b', 9), ('c', 9), ('d', 9)], 5000, "abcd");
        check_too_many(&[('a', 9), ('b', 9), ('c', 9), ('d', 9)], 1400, "ab");
        check_too_many(&[('a', 1), ('b', 29), ('c', 9)], 1300, "b");
        // Nobody wants anything any more, and what was read for them waits.
        check_too_many(&[('a', 0), ('b', 0)], 1001, "a");
    }

    /// One peer takes nothing, and another fetches much and leaves, again and again.
    #[test]
    fn who_comes_and_goes_hides_nothing_that_waits() {
        const STALLED: u64 = 90 << 20;
        let mut backlog = Backlog::default();
        let mut sent = Sent::default();
        backlog.observe(STALLED, sent);
        for _ in 0..10 {
            for _ in 0..20 {
                sent.peers += 5 << 20;
                backlog.observe(STALLED + (100 << 20), sent);
            }
            sent.closed += 100 << 20;
            backlog.observe(STALLED, sent);
            assert_eq!(backlog.waiting, STALLED);
        }
    }
}
