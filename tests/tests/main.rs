//! The whole box, as one program: what waits in one test leaves the processor to the next, and one link makes them all.

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
