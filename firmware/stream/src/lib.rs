//! The pure core of Podium: it takes `now` and an event and returns actions.
//!
//! Nothing here performs I/O, reads a clock, spawns or blocks, so nothing here can fail on the outside world.

pub mod broadcast;
pub mod buttons;
pub mod clock;
pub mod dates;
pub mod edid;
pub mod encoder;
pub mod extent;
pub mod fmp4;
pub mod follower;
pub mod health;
pub mod input;
pub mod low_latency;
pub mod machine;
pub mod media;
pub mod mirrored;
pub mod mute;
pub mod picture;
pub mod playlist;
pub mod publication;
pub mod rate;
pub mod reach;
pub mod resume;
pub mod screen;
pub mod segmenter;
pub mod self_test;
pub mod status;
pub mod stuck;
pub mod timeline;
pub mod uplink;
pub mod watchdog;
pub mod whole;
