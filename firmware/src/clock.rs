//! Wall time, as far as it is known.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stream::machine::CLOCK_SANE_FROM;

/// From here on, and before [`CLOCK_SANE_FROM`], the clock says nonsense or has not been set: the box has no battery behind it.
const CLOCK_SANE_UNTIL: Duration = Duration::from_secs(4_102_444_800); // 2100-01-01T00:00:00Z

/// Until when the machine's time is about to be set. There is one clock in a process, and it is asked from everywhere.
static AWAITED: Mutex<Option<Instant>> = Mutex::new(None);

/// Says for how long the machine's time is about to be set, if it is: until then it is not believed, whether anybody says more or not.
pub(crate) fn await_for(time: Option<Duration>) {
    let until = time.map(|time| Instant::now() + time);
    *AWAITED.lock().unwrap_or_else(PoisonError::into_inner) = until;
}

/// Wall time, if the clock can be believed.
pub(crate) fn wall_now() -> Option<SystemTime> {
    let awaited = *AWAITED.lock().unwrap_or_else(PoisonError::into_inner);
    at_least().filter(|_| awaited.is_none_or(|until| until <= Instant::now()))
}

/// Wall time that may be behind, where it is about to be set: so much has gone by at least.
pub(crate) fn at_least() -> Option<SystemTime> {
    let now = SystemTime::now();
    let sane = UNIX_EPOCH + CLOCK_SANE_FROM..UNIX_EPOCH + CLOCK_SANE_UNTIL;
    sane.contains(&now).then_some(now)
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
