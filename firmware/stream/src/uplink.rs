//! How fast bytes leave the box: sums as they are counted, and a rate over the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

/// A segment of two seconds goes out in bursts; over less the rate would jump between nothing and all.
const OVER: Duration = Duration::from_secs(5);

const EVERY: Duration = Duration::from_millis(500);

/// What the box sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Uplink {
    /// Bytes to IPFS peers since the start, over all transports, as their streams carry them.
    pub peers_bytes: u64,
    /// Bytes to viewers over HTTP since the start, but for those on the local network.
    pub viewers_bytes: u64,
    /// Bytes to viewers on the local network since the start: the uplink does not carry them.
    pub local_bytes: u64,
    /// kbit/s over the last five seconds.
    pub peers_kbps: u32,
    /// kbit/s over the last five seconds.
    pub viewers_kbps: u32,
    /// kbit/s over the last five seconds.
    pub local_kbps: u32,
    /// `[node] uplink_kbps`.
    pub cap_kbps: Option<u32>,
    /// How much of the cap peers and viewers take, headers of packets included. Above 100 viewers alone take more.
    pub used_percent: Option<u32>,
}

/// Reads the counters again and again.
#[derive(Debug)]
pub struct Meter {
    cap_kbps: Option<u32>,
    /// When, and the sums until then; oldest first.
    samples: VecDeque<(Duration, [u64; 3])>,
}

impl Meter {
    pub fn new(cap_kbps: Option<u32>) -> Meter {
        Meter {
            cap_kbps,
            samples: VecDeque::new(),
        }
    }

    /// Bytes to peers, viewers and those on the local network. `now` is since any beginning and does not go back, nor do the sums.
    pub fn read(&mut self, now: Duration, sums: [u64; 3]) -> Uplink {
        let due = |(at, _): &(Duration, _)| now.saturating_sub(*at) >= EVERY;
        if self.samples.back().is_none_or(due) {
            self.samples.push_back((now, sums));
        }
        while (self.samples.get(1)).is_some_and(|(at, _)| now.saturating_sub(*at) >= OVER) {
            self.samples.pop_front();
        }
        let (since, then) = self.samples.front().copied().unwrap_or((now, sums));
        let passed = now.saturating_sub(since).as_secs_f64();
        let kbps = |index: usize| match passed >= EVERY.as_secs_f64() {
            true => ((sums[index].saturating_sub(then[index])) as f64 / 125.0 / passed) as u32,
            false => 0,
        };
        let [peers_bytes, viewers_bytes, local_bytes] = sums;
        let [peers_kbps, viewers_kbps, local_kbps] = [kbps(0), kbps(1), kbps(2)];
        let used = f64::from(peers_kbps) + f64::from(viewers_kbps);
        Uplink {
            peers_bytes,
            viewers_bytes,
            local_bytes,
            peers_kbps,
            viewers_kbps,
            local_kbps,
            cap_kbps: self.cap_kbps,
            used_percent: (self.cap_kbps)
                .map(|cap| (used * HEADERS * 100.0 / f64::from(cap)).round() as u32),
        }
    }
}

/// As the cap counts them.
const HEADERS: f64 = 17.0 / 16.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut meter = Meter::new(Some(1000));
        let mut sums = [0, 0, 0];
        let mut rates = Vec::new();
        // A second of nothing, ten of 400, 80 and 8000 kbit/s, and nothing again.
        for tenth in 0..200u64 {
            if (10..110).contains(&tenth) {
                sums = [sums[0] + 5000, sums[1] + 1000, sums[2] + 100_000];
            }
            let read = meter.read(Duration::from_millis(tenth * 100), sums);
            let read_sums = [read.peers_bytes, read.viewers_bytes, read.local_bytes];
            assert_eq!(read_sums, sums);
            let kbps = [read.peers_kbps, read.viewers_kbps, read.local_kbps];
            rates.push((kbps, read.used_percent));
        }
        assert_eq!(rates[0], ([0; 3], Some(0)));
        assert_eq!(rates[9], ([0; 3], Some(0)));
        assert_eq!(rates[100], ([400, 80, 8000], Some(51)));
        assert!((150..300).contains(&rates[135].0[0]), "{:?}", rates[135]);
        assert_eq!(rates[199], ([0; 3], Some(0)));
        assert!(meter.samples.len() < 13);
        let mut free = Meter::new(None);
        assert_eq!(free.read(Duration::ZERO, [7, 9, 0]).used_percent, None);
    }
}
