//! Fetching a block from peers, asked for again where the question or its answer may be lost.
//!
//! rust-ipfs sends what it has to say to a peer over any one of its connections, notes it as said, and forgets that only when the
//! last of them is gone: what was under way on one that ended while another stayed is never said again. Its repetition every 30 s
//! leaves out what it has noted (0.16.0). Two nodes that find each other at once have two connections.
//!
//! Only a want that was withdrawn is sent anew, and withdrawing is a message to the swarm: who asks again before the swarm
//! has read it, which on a busy machine takes a while, joins in the old want, and nothing is sent.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use rust_ipfs::PeerId;

use crate::{HostError, Inner, network};

/// Asked again after this time, then after twice as long each time: a peer answers twice who was only slow.
const AGAIN: Duration = Duration::from_secs(4);
/// The peer has seen by then, too, that the connection has ended, and answers over the other one. A stranger who opens and ends
/// connections makes this host ask no more often.
const SEEN: Duration = Duration::from_secs(1);

/// Blocks that are being fetched, and by how many.
#[derive(Debug, Default)]
pub(crate) struct Asked(Mutex<HashMap<Cid, usize>>);

impl Asked {
    fn count(&self, cid: Cid, change: impl Fn(usize) -> usize) -> usize {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = change(asked.get(&cid).copied().unwrap_or(0));
        match count {
            0 => asked.remove(&cid),
            _ => asked.insert(cid, count),
        };
        count
    }
}

/// One who fetches a block.
struct Asking<'a> {
    asked: &'a Asked,
    cid: Cid,
}

impl<'a> Asking<'a> {
    fn new(asked: &'a Asked, cid: Cid) -> Asking<'a> {
        asked.count(cid, |count| count + 1);
        Asking { asked, cid }
    }

    fn is_alone(&self) -> bool {
        self.asked.count(self.cid, |count| count) == 1
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.asked.count(self.cid, |count| count - 1);
    }
}

pub(crate) async fn fetch(inner: &Inner, cid: Cid) -> Result<Bytes, HostError> {
    let asking = Asking::new(&inner.asked, cid);
    let mut again = AGAIN;
    loop {
        withdrawn(inner, &asking).await;
        let mut thinned = inner.thinned.clone();
        thinned.mark_unchanged();
        let lost = async {
            match thinned.changed().await {
                Ok(()) => tokio::time::sleep(SEEN).await,
                // The host is gone, and `get_block` says so.
                Err(_) => std::future::pending().await,
            }
        };
        let block = async { inner.ipfs.get_block(cid).await };
        tokio::select! {
            block = block => return block.map(|block| block.into_inner().1).map_err(network),
            () = lost => {}
            () = tokio::time::sleep(again) => again *= 2,
        }
    }
}

/// Waits until the want of an earlier asking is off rust-ipfs's list. One that is shared stays there.
async fn withdrawn(inner: &Inner, asking: &Asking<'_>) {
    while asking.is_alone()
        && let Ok(wants) = inner.ipfs.bitswap_wantlist(None::<PeerId>).await
        && wants.contains(&asking.cid)
    {}
}
