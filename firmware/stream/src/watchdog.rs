//! Whether the machine's watchdog is fed: for what viewers get, never for mere life of the process.

use std::time::Duration;

use crate::status::State;

/// On air without a segment for so many of them the box is beyond what rebuilding the encoder cures …
const SEGMENTS: u32 = 8;
/// … but never sooner than this: the encoder has been rebuilt three times by then, and restarting the machine costs viewers half a minute.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asked by the loop whenever it turns. On air only segments count, whatever the box tries meanwhile: `waiting` is how long viewers have
/// waited for one ([`Broadcast::waiting_since`](crate::broadcast::Broadcast::waiting_since)). Off air the loop's turning is what has to
/// go on; so it is while a broadcast ends, which has deadlines of its own.
pub fn alive(state: &State, waiting: Option<Duration>, segment: Duration) -> bool {
    let patient = |waiting| waiting < PATIENCE.max(segment * SEGMENTS);
    match state {
        State::Starting | State::Live => waiting.is_some_and(patient),
        // While the clock is awaited none is due.
        State::Retrying { .. } => waiting.is_none_or(patient),
        State::Idle | State::Stopping => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_air_only_segments_count() {
        let secs = Duration::from_secs;
        let retrying = State::Retrying {
            cause: "no segment in time".into(),
            attempt: 7,
        };
        for (state, waiting, segment, expected) in [
            (State::Idle, None, 2, true),
            (State::Idle, Some(9999), 2, true),
            (State::Stopping, Some(9999), 2, true),
            (State::Starting, Some(59), 2, true),
            (State::Starting, Some(60), 2, false),
            (retrying.clone(), Some(59), 2, true),
            (retrying.clone(), Some(60), 2, false),
            (retrying, None, 2, true),
            (State::Live, Some(0), 2, true),
            (State::Live, Some(59), 2, true),
            (State::Live, Some(60), 2, false),
            (State::Live, Some(79), 10, true),
            (State::Live, Some(80), 10, false),
            (State::Live, None, 2, false),
        ] {
            let found = alive(&state, waiting.map(secs), secs(segment));
            assert_eq!(found, expected, "{state:?} {waiting:?}");
        }
    }
}
