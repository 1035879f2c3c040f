//! One direction of a link. [`Line`] decides and knows no clock; [`Way`] waits and carries.

use std::ops::Add;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_tun::Tun;

/// How much a link with a rate keeps waiting: what an access router does, more or less.
const QUEUE: Duration = Duration::from_millis(200);
/// Packets under way at a time. Enough for 100 Mbit/s over 0.1 s.
const UNDER_WAY: usize = 1024;

/// What happens to packets.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conditions {
    pub(super) delay: Duration,
    pub(super) loss: f64,
    pub(super) rate: Option<u64>,
    pub(super) cut: bool,
}

/// What became of packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Arrived.
    pub arrived: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost in a partition.
    pub cut: u64,
    /// Found the queue full.
    pub full: u64,
}

impl Counters {
    /// All that have come to their end.
    pub fn all(&self) -> u64 {
        self.arrived + self.lost + self.cut + self.full
    }
}

impl Add for Counters {
    type Output = Counters;

    fn add(self, other: Counters) -> Counters {
        Counters {
            arrived: self.arrived + other.arrived,
            lost: self.lost + other.lost,
            cut: self.cut + other.cut,
            full: self.full + other.full,
        }
    }
}

#[derive(Debug)]
struct Line {
    conditions: Conditions,
    chance: fastrand::Rng,
    counters: Counters,
    /// When the last packet has left the sender.
    free: Option<Instant>,
    /// When the last packet arrives.
    last: Option<Instant>,
}

impl Line {
    /// When a packet of so many bytes arrives that is sent now, if it does.
    fn send(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let it = self.conditions;
        if it.cut {
            self.counters.cut += 1;
            return None;
        }
        // Drawn for each packet, so that a change of one condition leaves the others' luck alone.
        let luck = self.chance.f64();
        let mut left = now;
        if let Some(rate) = it.rate {
            let begins = self.free.map_or(now, |free| free.max(now));
            if begins - now > QUEUE {
                self.counters.full += 1;
                return None;
            }
            left = begins + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
            self.free = Some(left);
        }
        if luck < it.loss {
            self.counters.lost += 1;
            return None;
        }
        let arrives = left + it.delay;
        let arrives = self.last.map_or(arrives, |last| arrives.max(last));
        self.last = Some(arrives);
        Some(arrives)
    }
}

type UnderWay = (Instant, Vec<u8>);

#[derive(Debug)]
pub(super) struct Way {
    line: Mutex<Line>,
    under_way: mpsc::Sender<UnderWay>,
}

impl Way {
    pub(super) fn new(chance: fastrand::Rng) -> (Way, mpsc::Receiver<UnderWay>) {
        let (under_way, arrivals) = mpsc::channel(UNDER_WAY);
        let line = Mutex::new(Line {
            conditions: Conditions::default(),
            chance,
            counters: Counters::default(),
            free: None,
            last: None,
        });
        (Way { line, under_way }, arrivals)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().expect("nobody panics with it")
    }

    pub(super) fn set(&self, change: impl Fn(&mut Conditions)) {
        change(&mut self.line().conditions);
    }

    pub(super) fn counters(&self) -> Counters {
        self.line().counters
    }

    pub(super) fn send(&self, packet: &[u8]) {
        let mut line = self.line();
        if let Some(at) = line.send(Instant::now(), packet.len())
            && self.under_way.try_send((at, packet.to_vec())).is_err()
        {
            line.counters.full += 1;
        }
    }

    /// Gives each packet to the host at the other end when its time has come.
    pub(super) async fn deliver(
        self: Arc<Way>,
        mut arrivals: mpsc::Receiver<UnderWay>,
        device: Arc<Tun>,
    ) {
        while let Some((at, packet)) = arrivals.recv().await {
            tokio::time::sleep_until(at.into()).await;
            // In one go, so that nothing arrives after a cut. A device that takes nothing is as good as cut.
            let mut line = self.line();
            let arrived = !line.conditions.cut && device.try_send(&packet).is_ok();
            match arrived {
                true => line.counters.arrived += 1,
                false => line.counters.cut += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(conditions: Conditions) -> Line {
        Line {
            conditions,
            chance: fastrand::Rng::with_seed(1),
            counters: Counters::default(),
            free: None,
            last: None,
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn what_is_sent_later_arrives_no_earlier() {
        let mut line = line(Conditions {
            delay: ms(50),
            ..Conditions::default()
        });
        let now = Instant::now();
        assert_eq!(line.send(now, 1500), Some(now + ms(50)));
        line.conditions.delay = ms(20);
        assert_eq!(line.send(now + ms(10), 1500), Some(now + ms(50)));
        assert_eq!(line.send(now + ms(40), 1500), Some(now + ms(60)));
    }

    #[test]
    fn a_rate_spaces_packets_and_a_full_queue_loses_them() {
        let mut line = line(Conditions {
            // 1250 bytes take 10 ms.
            rate: Some(1_000_000),
            ..Conditions::default()
        });
        let now = Instant::now();
        let sent: Vec<_> = (0..30).map(|_| line.send(now, 1250)).collect();
        let arrived: Vec<_> = sent.iter().flatten().map(|at| *at - now).collect();
        assert_eq!(arrived, (1..=21).map(|n| ms(10 * n)).collect::<Vec<_>>());
        assert_eq!(line.counters.full, 9);
        assert_eq!(line.send(now + ms(210), 1250), Some(now + ms(220)));
    }

    #[test]
    fn loss_is_as_often_as_told_and_the_same_again() {
        let lost = || -> Vec<bool> {
            let mut line = line(Conditions {
                loss: 0.02,
                ..Conditions::default()
            });
            let now = Instant::now();
            (0..10_000).map(|_| line.send(now, 100).is_none()).collect()
        };
        let count = lost().iter().filter(|it| **it).count();
        assert!((150..250).contains(&count), "{count} of 10000");
        assert_eq!(lost(), lost());
    }
}
