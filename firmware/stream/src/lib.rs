//! The pure core of Podium: it takes `now` and an event and returns actions.
//!
//! Nothing here performs I/O, reads a clock, spawns or blocks, so nothing here can fail on the outside world.

pub mod status;
