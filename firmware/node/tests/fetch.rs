//! Fetching from a peer over two connections, one of which breaks.

use std::time::Duration;

use bytes::Bytes;
use cid::Cid;
use node::{Leaf, Limits};
use node_host::Host;

mod link;
use link::{Flow, Link, host};

const TIMEOUT: Duration = Duration::from_secs(20);
/// Less than after what a host asks again by itself.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn has_one_more(host: &Host, content: &'static str) -> Cid {
    let leaf = Leaf::split(Bytes::from_static(content.as_bytes()))[0].clone();
    let block = (leaf.cid(), leaf.bytes().clone());
    host.put_blocks(vec![block]).await.unwrap();
    leaf.cid()
}

fn first_address(host: &Host) -> String {
    host.listening().borrow()[0].clone()
}

/// Both have dialled each other at once, so there are two connections. What is under way on the one is lost with it, and comes
/// over the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_on_a_connection_that_broke_is_asked_for_again() {
    let mut lost = 0;
    // Which of the two the hosts prefer is libp2p's business.
    for broken in 0..2 {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (asker, source) = (
            host(here.path(), Limits::default()).await,
            host(there.path(), Limits::default()).await,
        );
        let mut links = [
            Link::to(&first_address(&source)).await,
            Link::to(&first_address(&asker)).await,
        ];
        links.iter().for_each(|link| link.set(Flow::Held));
        let dials = links.each_ref().map(|link| link.address.clone());
        let [there, back] = dials;
        let dialled = tokio::spawn({
            let dials = [asker.connect(there, TIMEOUT), source.connect(back, TIMEOUT)];
            futures::future::try_join_all(dials)
        });
        for link in &mut links {
            let open = link.connections.wait_for(|count| *count == 1);
            drop(tokio::time::timeout(TIMEOUT, open).await.unwrap().unwrap());
        }
        links.iter().for_each(|link| link.set(Flow::On));
        dialled.await.unwrap().unwrap();
        let before = has_one_more(&source, "before").await;
        asker.fetch(before, TIMEOUT).await.unwrap();

        let link = &links[broken];
        link.set(Flow::Held);
        let wanted = has_one_more(&source, "wanted").await;
        let mut fetched = tokio::spawn(asker.fetch(wanted, TIMEOUT));
        let bytes = tokio::select! {
            bytes = &mut fetched => bytes,
            // It would have come over the other at once: the question, or its answer, is held.
            () = tokio::time::sleep(AT_ONCE) => {
                link.set(Flow::Cut);
                lost += 1;
                fetched.await
            }
        };
        assert_eq!(bytes.unwrap().expect("it comes over the other"), "wanted");
        for host in [asker, source] {
            host.shutdown().await;
        }
    }
    assert!(lost > 0, "nothing was under way on either");
}
