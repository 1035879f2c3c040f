//! The oracle: it watches a live HLS stream and says which rules its origin breaks.
//!
//! It knows nothing of how our box makes its stream and judges any URL. [`rules`] is the pure core: timed observations in,
//! violations out. [`watch()`] is the edge: it plays the part of a patient player, with its own clock.
//!
//! The rules are those of RFC 8216, of rfc8216bis for low latency, and of Apple's authoring specification; each violation
//! names its section. [`rules::catalogue`] lists them.

mod media;
mod playlist;
mod report;
pub mod rules;
mod watch;

pub use playlist::Resource;
pub use report::Report;
pub use rules::{Judge, Kind, Level, Observation, Rule, Settings, Violation};
pub use watch::{Clock, Options, WallClock, WatchError, main_command, watch, watch_with};
