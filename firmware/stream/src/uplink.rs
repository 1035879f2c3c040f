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
    /// Bytes to viewers over HTTP since the start.
    pub viewers_bytes: u64,
    /// kbit/s over the last five seconds.
    pub peers_kbps: u32,
    /// kbit/s over the last five seconds.
    pub viewers_kbps: u32,
    /// `[node] uplink_kbps`.
    pub cap_kbps: Option<u32>,
    /// How much of the cap both take, headers of packets included. Above 100 viewers alone take more.
    pub used_percent: Option<u32>,
}

/// Reads two counters again and again.
#[derive(Debug)]
pub struct Meter {
    cap_kbps: Option<u32>,
    /// When, and bytes to peers and viewers until then; oldest first.
    samples: VecDeque<(Duration, [u64; 2])>,
}

impl Meter {
    pub fn new(cap_kbps: Option<u32>) -> Meter {
        Meter {
            cap_kbps,
            samples: VecDeque::new(),
        }
    }

    /// `now` is since any beginning and does not go back, nor do the sums.
    pub fn read(&mut self, now: Duration, peers_bytes: u64, viewers_bytes: u64) -> Uplink {
        let sums = [peers_bytes, viewers_bytes];
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
        let (peers_kbps, viewers_kbps) = (kbps(0), kbps(1));
        let used = f64::from(peers_kbps) + f64::from(viewers_kbps);
        Uplink {
            peers_bytes,
            viewers_bytes,
            peers_kbps,
            viewers_kbps,
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
        let mut sums = [0, 0];
        let mut rates = Vec::new();
        // A second of nothing, ten of 400 and 80 kbit/s, and nothing again.
        for tenth in 0..200u64 {
            if (10..110).contains(&tenth) {
                sums = [sums[0] + 5000, sums[1] + 1000];
            }
            let read = meter.read(Duration::from_millis(tenth * 100), sums[0], sums[1]);
            assert_eq!([read.peers_bytes, read.viewers_bytes], sums);
            rates.push((read.peers_kbps, read.viewers_kbps, read.used_percent));
        }
        assert_eq!(rates[0], (0, 0, Some(0)));
        assert_eq!(rates[9], (0, 0, Some(0)));
        assert_eq!(rates[100], (400, 80, Some(51)));
        assert!((150..300).contains(&rates[135].0), "{:?}", rates[135]);
        assert_eq!(rates[199], (0, 0, Some(0)));
        assert!(meter.samples.len() < 13);
        let mut free = Meter::new(None);
        assert_eq!(free.read(Duration::ZERO, 7, 9).used_percent, None);
    }
}
