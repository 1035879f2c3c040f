//! The whole box, as one program: what waits in one test leaves the processor to the next, and one link makes them all.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod colours;
mod conformance;
mod encoded;
mod foreign;
mod gateway;
mod hardware;
mod kills;
mod lifecycle;
mod live;
mod mirror;
mod names;
mod network;
mod no_disk;
mod outage;
mod outside;
mod recordings;
mod refusals;
mod sync;
mod uplink;

/// One at a time of the tests that judge each picture or a millisecond: two players on two cores hold up the box, which then leaves
/// pictures out as it should, and players and lints see that.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
