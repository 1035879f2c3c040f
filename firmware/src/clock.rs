//! Wall time, as far as it is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stream::machine::CLOCK_SANE_FROM;

/// From here on, and before [`CLOCK_SANE_FROM`], the clock says nonsense or has not been set: the box has no battery behind it.
const CLOCK_SANE_UNTIL: Duration = Duration::from_secs(4_102_444_800); // 2100-01-01T00:00:00Z

/// The machine's time is about to be set. There is one clock in a process, and it is asked from everywhere.
static AWAITED: AtomicBool = AtomicBool::new(false);

/// Says whether the machine's time is about to be set: until it is, it is not believed.
pub(crate) fn set_awaited(awaited: bool) {
    AWAITED.store(awaited, Ordering::Relaxed);
}

/// Wall time, if the clock can be believed.
pub(crate) fn wall_now() -> Option<SystemTime> {
    let now = SystemTime::now();
    let sane = UNIX_EPOCH + CLOCK_SANE_FROM..UNIX_EPOCH + CLOCK_SANE_UNTIL;
    let known = sane.contains(&now) && !AWAITED.load(Ordering::Relaxed);
    known.then_some(now)
}

pub(crate) fn clock_sane() -> bool {
    wall_now().is_some()
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

pub(crate) fn from_unix_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
