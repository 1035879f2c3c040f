//! Whether the machine's watchdog is fed: for what viewers get, never for mere life of the process.

use std::time::Duration;

use crate::status::State;

/// On air without a new segment for so many of them the box is beyond what rebuilding the encoder cures …
const SEGMENTS: u32 = 5;
/// … but never sooner than this: restarting the machine costs viewers half a minute.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asked by the loop whenever it turns. On air only segments count: `segment_age` is the time since the last one was published.
/// In every other state the loop's turning is what has to go on; states on the way have deadlines of their own.
pub fn alive(state: &State, segment_age: Option<Duration>, segment: Duration) -> bool {
    match state {
        State::Live => segment_age.is_some_and(|age| age < PATIENCE.max(segment * SEGMENTS)),
        State::Idle | State::Starting | State::Retrying { .. } | State::Stopping => true,
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
        for (state, age, segment, expected) in [
            (State::Idle, None, 2, true),
            (State::Idle, Some(9999), 2, true),
            (State::Starting, Some(9999), 2, true),
            (State::Stopping, Some(9999), 2, true),
            (retrying, Some(9999), 2, true),
            (State::Live, Some(0), 2, true),
            (State::Live, Some(29), 2, true),
            (State::Live, Some(30), 2, false),
            (State::Live, Some(49), 10, true),
            (State::Live, Some(50), 10, false),
            (State::Live, None, 2, false),
        ] {
            let found = alive(&state, age.map(secs), secs(segment));
            assert_eq!(found, expected, "{state:?} {age:?}");
        }
    }
}
