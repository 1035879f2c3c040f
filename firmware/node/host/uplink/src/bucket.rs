//! The cap itself: a token bucket that viewers empty and the node waits for.

use std::num::NonZeroU64;
use std::time::Duration;

/// Ethernet, IP, TCP or QUIC, and encryption take between a thirtieth and a seventeenth of what is sent in full packets.
const HEADERS: f64 = 1.0 + 1.0 / 16.0;

/// Of the cap belongs to peers whatever viewers take: a name's records, and the mirrors that take viewers away.
const FLOOR: f64 = 0.1;

/// And to nodes that ask over HTTP, who are strangers mostly, and could take all of it from the mirrors.
const HTTP_FLOOR: f64 = 0.05;

/// So much may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Viewers' bytes are forgotten beyond this: a segment for a crowd goes into the kernel at once and leaves it slowly.
const MEMORY: Duration = Duration::from_secs(10);

/// A write waits for room for so much, so that a block is not sent in crumbs.
const QUANTUM: f64 = 4096.0;

/// A write of at most this is a message of a protocol, not a block: it goes before them, from room that they leave.
const SMALL: usize = 1024;
const KEPT_FOR_SMALL: f64 = 4.0 * SMALL as f64;

/// Token bucket. Time is the caller's, since any beginning, and does not go back.
///
/// In any time T the node is sent at most `cap * T` and a tenth of a second's worth (or 16 KiB, where that is more) beyond.
/// Node and viewers together stay below that as well while viewers take less than 85 % of the cap; where they take more, peers have
/// one tenth, and never less, and nodes that ask over HTTP half of that. For headers of packets, which nobody here sees, a sixteenth is set aside.
/// Viewers are never held back.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Bytes of content a second.
    rate: f64,
    /// Bytes that may be sent. Below zero while what viewers took is made up for.
    credit: f64,
    /// Bytes that may be sent to peers even so.
    floor: f64,
    /// And to nodes over HTTP.
    http_floor: f64,
    /// When the two were right.
    at: Duration,
}

impl Bucket {
    /// Full, at time zero.
    pub fn new(bits_per_second: NonZeroU64) -> Bucket {
        let rate = bits_per_second.get() as f64 / 8.0 / HEADERS;
        let mut bucket = Bucket {
            rate,
            credit: 0.0,
            floor: 0.0,
            http_floor: 0.0,
            at: Duration::ZERO,
        };
        (bucket.credit, bucket.floor) = (bucket.most_credit(), bucket.most_floor());
        bucket.http_floor = QUANTUM;
        bucket
    }

    fn most_credit(&self) -> f64 {
        (self.rate * BURST.as_secs_f64()).max(3.0 * QUANTUM)
    }

    fn most_floor(&self) -> f64 {
        KEPT_FOR_SMALL.max(QUANTUM)
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.credit = (self.credit + passed * self.rate).min(self.most_credit());
        self.floor = (self.floor + passed * self.rate * FLOOR).min(self.most_floor());
        self.http_floor = (self.http_floor + passed * self.rate * HTTP_FLOOR).min(QUANTUM);
    }

    /// Viewers were sent so many bytes.
    pub fn viewers(&mut self, now: Duration, bytes: usize) {
        self.advance(now);
        let least = -self.rate * MEMORY.as_secs_f64();
        self.credit = (self.credit - bytes as f64).max(least);
    }

    /// How many of `wanted` bytes may be sent to a peer now: they are taken. Otherwise how long to wait before asking again.
    pub fn take(&mut self, now: Duration, wanted: usize) -> Result<usize, Duration> {
        self.advance(now);
        let kept = match wanted <= SMALL {
            true => 0.0,
            false => KEPT_FOR_SMALL,
        };
        let taken = self.grant(wanted, kept, (self.floor, FLOOR))?;
        self.credit -= taken as f64;
        self.floor = (self.floor - taken as f64).max(0.0);
        Ok(taken)
    }

    /// How many of `wanted` bytes may be sent now to a node that asks over HTTP. Otherwise how long to wait before asking again. Of
    /// the share of such nodes it is taken at once; of the rest when it is sent, since [`viewers`](Bucket::viewers) counts it then.
    pub fn room(&mut self, now: Duration, wanted: usize) -> Result<usize, Duration> {
        self.advance(now);
        let granted = self.grant(wanted, KEPT_FOR_SMALL, (self.http_floor, HTTP_FLOOR))?;
        self.http_floor = (self.http_floor - granted as f64).max(0.0);
        Ok(granted)
    }

    /// So many of `wanted` bytes are there for a node that leaves `kept` of them to others and has a floor of its own, which is `floor`
    /// now and this share of the rate. Otherwise after which time to look again.
    fn grant(
        &self,
        wanted: usize,
        kept: f64,
        (floor, share): (f64, f64),
    ) -> Result<usize, Duration> {
        let least = (wanted as f64).min(QUANTUM);
        let room = match (self.credit - kept, floor) {
            (room, _) if room >= least => room,
            (_, room) if room >= least => room,
            (room, floor) => {
                let credit = (least - room) / self.rate;
                let floor = (least - floor) / (self.rate * share);
                // A timer is not finer, and a wait that is a hair too short would be asked for again and again.
                let wait = Duration::from_secs_f64(credit.min(floor));
                return Err(wait.max(Duration::from_millis(1)));
            }
        };
        Ok(wanted.min(room as usize))
    }

    /// Of what was taken so much has not been sent.
    pub fn put_back(&mut self, bytes: usize) {
        self.credit = (self.credit + bytes as f64).min(self.most_credit());
        self.floor = (self.floor + bytes as f64).min(self.most_floor());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(kbps: u64) -> Bucket {
        Bucket::new(NonZeroU64::new(kbps * 1000).unwrap())
    }

    /// What a peer gets that takes all there is, in so many seconds, beside viewers that take `viewers_kbps` in segments of
    /// two seconds.
    fn peer(kbps: u64, viewers_kbps: u64, seconds: u64) -> u64 {
        let mut bucket = bucket(kbps);
        let (mut now, mut segments, mut got) = (Duration::ZERO, 0, 0);
        while now < Duration::from_secs(seconds) {
            if now.as_secs() / 2 >= segments {
                segments += 1;
                bucket.viewers(now, (viewers_kbps * 2000 / 8) as usize);
            }
            match bucket.take(now, 1 << 20) {
                Ok(bytes) => got += bytes as u64,
                Err(wait) => now += wait,
            }
        }
        got * 8 / 1000 / seconds
    }

    #[test]
    fn a_peer_gets_what_viewers_leave_and_a_tenth_at_least() {
        for (kbps, viewers, expected) in [
            (1000, 0, 900..=941 + 4),
            (100, 0, 90..=94 + 4),
            (100_000, 0, 93_000..=94_300),
            (1000, 400, 500..=545),
            (1000, 900, 94..=120),
            (1000, 5000, 90..=100),
        ] {
            let got = peer(kbps, viewers, 60);
            assert!(expected.contains(&got), "{kbps} {viewers}: {got}");
        }
    }

    #[test]
    fn a_record_does_not_wait_behind_blocks() {
        let mut bucket = bucket(500);
        let mut now = Duration::ZERO;
        for _ in 0..1000 {
            if let Err(wait) = bucket.take(now, 1 << 20) {
                // All that blocks may have is taken.
                assert_eq!(bucket.take(now, 400), Ok(400));
                now += wait;
            }
            now += Duration::from_millis(7);
        }
    }

    #[test]
    fn a_peer_that_takes_nothing_costs_the_others_nothing() {
        let mut bucket = bucket(1000);
        let mut got = 0;
        for ten_millis in 0..6000 {
            let now = Duration::from_millis(10 * ten_millis);
            bucket.viewers(now, 10_000);
            // Its stream is stalled: it is polled all the same, and takes what there is.
            if let Ok(bytes) = bucket.take(now, 1 << 20) {
                bucket.put_back(bytes);
            }
            got += bucket.take(now, 1 << 20).unwrap_or(0);
        }
        let kbps = got * 8 / 1000 / 60;
        assert!(kbps >= 90, "{kbps} of a tenth of 941");
    }

    #[test]
    fn a_node_over_http_has_what_others_leave_and_a_share_of_its_own() {
        let mut bucket = bucket(1000);
        let second = |number: u64| Duration::from_secs(number);
        // Asking alone takes nothing, and who has asked may go away.
        for _ in 0..100 {
            assert!(bucket.room(second(1), 4096).is_ok());
        }
        let mut sent = 0;
        for hundredth in 100..1100 {
            let now = Duration::from_millis(10 * hundredth);
            if let Ok(bytes) = bucket.room(now, 1 << 20) {
                bucket.viewers(now, bytes);
                sent += bytes;
            }
        }
        let most = 1_000_000 / 8 * 10 + 16_384;
        assert!((most * 9 / 10..=most).contains(&sent), "{sent} of {most}");
        // Viewers take more than there is: peers have their tenth all the same, and this one a share of its own.
        let mut got = (0, 0);
        for hundredth in 1100..2100 {
            let now = Duration::from_millis(10 * hundredth);
            bucket.viewers(now, 10_000);
            if let Ok(bytes) = bucket.room(now, 1 << 20) {
                bucket.viewers(now, bytes);
                got.0 += bytes;
            }
            got.1 += bucket.take(now, 1 << 20).unwrap_or(0);
        }
        let kbps = (got.0 * 8 / 10_000, got.1 * 8 / 10_000);
        assert!(
            (40..=60).contains(&kbps.0) && (90..=105).contains(&kbps.1),
            "{kbps:?}"
        );
    }

    #[test]
    fn a_crowd_of_viewers_is_forgotten_in_time() {
        let mut bucket = bucket(1000);
        bucket.viewers(Duration::ZERO, 1 << 30);
        assert!(bucket.take(Duration::ZERO, 4096).is_ok(), "the floor");
        let at = Duration::from_secs(11);
        assert!(bucket.take(at, 1 << 20).unwrap() > 4096);
    }

    proptest::proptest! {
        /// Whatever the order of things, peers get no more than the cap allows and no less than the floor.
        #[test]
        fn the_cap_and_the_floor_hold(
            kbps in 64u64..50_000,
            steps in proptest::collection::vec((0u64..300, 0usize..200_000, 1usize..2_000_000, 0usize..2), 1..300),
        ) {
            let mut bucket = bucket(kbps);
            let beyond = bucket.most_credit() + bucket.most_floor();
            let (mut now, mut got) = (Duration::ZERO, 0);
            let mut refused = None;
            for (millis, viewers, wanted, put_back) in steps {
                now += Duration::from_millis(millis);
                bucket.viewers(now, viewers);
                match bucket.take(now, wanted) {
                    Ok(bytes) => {
                        assert!(bytes > 0 && bytes <= wanted);
                        let unsent = bytes * put_back;
                        bucket.put_back(unsent);
                        got += bytes - unsent;
                        if bytes > unsent {
                            refused = None;
                        }
                    }
                    Err(_) => {
                        // Whoever waits gets something within the time that the floor takes for a quantum.
                        let since = *refused.get_or_insert(now);
                        let longest = QUANTUM / bucket.rate / FLOOR;
                        assert!((now - since).as_secs_f64() <= longest + 0.001);
                    }
                }
                let allowed = bucket.rate * now.as_secs_f64() + beyond;
                assert!(got as f64 <= allowed, "{got} of {allowed}");
            }
        }
    }
}
