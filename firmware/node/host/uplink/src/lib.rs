//! What the box sends: to IPFS peers, counted in their streams and held below a cap, and to HTTP viewers, counted where
//! they are served.
//!
//! rust-ipfs has no hook between its protocols and the socket, and its transports cannot be replaced. The crates
//! `libp2p-yamux` and `libp2p-quic` beside this one take the place of upstream's through `[patch]` and hand out
//! [`Metered`] connections. Nothing can be handed to them, so that there is one uplink in a process.

mod bucket;
mod metered;

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub use bucket::Bucket;
pub use metered::{Metered, MeteredStream};

/// Bytes since the process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// What the streams of all peers have carried: blocks, records and the protocols around them. Kubo counts the same in
    /// `ipfs stats bw`. Packets' headers, encryption and retransmissions are not in it.
    pub peers: u64,
    /// Of these, what went over connections that are closed.
    pub closed: u64,
    /// What viewers have got over HTTP, header fields included.
    pub viewers: u64,
}

static PEERS: AtomicU64 = AtomicU64::new(0);
static CLOSED: AtomicU64 = AtomicU64::new(0);
static VIEWERS: AtomicU64 = AtomicU64::new(0);
static CAP: Mutex<Option<Cap>> = Mutex::new(None);

#[derive(Debug)]
struct Cap {
    bucket: Bucket,
    since: Instant,
}

/// Caps what peers are sent, or no longer does; what that promises stands at [`Bucket`].
pub fn limit(bits_per_second: Option<NonZeroU64>) {
    let cap = bits_per_second.map(|bits| Cap {
        bucket: Bucket::new(bits),
        since: Instant::now(),
    });
    *CAP.lock().unwrap_or_else(PoisonError::into_inner) = cap;
}

pub fn sent() -> Sent {
    Sent {
        peers: PEERS.load(Ordering::Relaxed),
        closed: CLOSED.load(Ordering::Relaxed),
        viewers: VIEWERS.load(Ordering::Relaxed),
    }
}

/// Viewers have been sent so much more.
pub fn count_viewers(bytes: usize) {
    VIEWERS.fetch_add(bytes as u64, Ordering::Relaxed);
    with_cap(|bucket, now| bucket.viewers(now, bytes));
}

/// Waits until a node that asks for blocks over HTTP may be sent some of so many bytes, and says how many. [`count_viewers`] counts
/// them when they are sent.
pub async fn wait_for_room(wanted: usize) -> usize {
    loop {
        match with_cap(|bucket, now| bucket.room(now, wanted)) {
            None => return wanted,
            Some(Ok(room)) => return room,
            Some(Err(wait)) => sleep(wait).await,
        }
    }
}

/// What a connection has carried; dropping it closes the account.
#[derive(Debug, Default)]
struct Carried(AtomicU64);

impl Carried {
    fn count(&self, bytes: usize) {
        PEERS.fetch_add(bytes as u64, Ordering::Relaxed);
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        CLOSED.fetch_add(*self.0.get_mut(), Ordering::Relaxed);
    }
}

/// `None` without a cap.
fn with_cap<T>(f: impl FnOnce(&mut Bucket, Duration) -> T) -> Option<T> {
    let mut cap = CAP.lock().unwrap_or_else(PoisonError::into_inner);
    let cap = cap.as_mut()?;
    let now = cap.since.elapsed();
    Some(f(&mut cap.bucket, now))
}
