//! pollable-map 0.2 in the place of 0.1.7.
//!
//! In 0.1.7 an entry that was removed keeps its key until it happens to be polled, and until then nothing can be inserted
//! under that key. rust-ipfs 0.16.0 keeps its bitswap sessions in such a map, by peer: a peer that loses its connection and
//! comes back gets no session, and neither side sends the other a block again. 0.2 looks at what is there.

pub use upstream::{futures, optional, stream};
