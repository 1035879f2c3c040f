//! Whatever the updates, the tree reads as a plain map would.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::disk::Disk;
use super::{collected, counted, open, read_all};
use crate::{Leaf, NewFile, Update};

/// Paths from a small set, so that files are replaced; contents too, so that blocks are shared.
fn file() -> impl Strategy<Value = (String, Vec<u8>)> {
    let path = prop::sample::select(vec!["a", "b", "d/a", "d/b", "d/e/a", "f/a", "f/e/g/a"]);
    let content = prop::collection::vec(prop::sample::select(vec![b'x', b'y']), 0..6);
    (path.prop_map(str::to_owned), content)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn trees_are_maps(updates in prop::collection::vec((prop::collection::vec(file(), 0..4), 0u64..400), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let disk = Disk::new();
            let (node, _) = open(&disk, 1 << 20).await.unwrap();
            let broadcast = node.begin(vec![]).await.unwrap();
            let mut model: BTreeMap<String, Bytes> = BTreeMap::new();
            for (files, pause) in updates {
                let files: Vec<NewFile> = files
                    .into_iter()
                    .map(|(path, content)| {
                        model.insert(path.clone(), content.clone().into());
                        // A leaf for every two bytes.
                        let leaves = content.chunks(2).flat_map(|two| Leaf::split(two.to_vec().into())).collect();
                        NewFile { path, leaves, keep: None }
                    })
                    .collect();
                let published = node.publish(Update { broadcast, row: None, files, finish: false }).await.unwrap();
                assert_eq!(read_all(&node, published.root).await.unwrap(), model);
                node.shared.journal.check_invariants();
                tokio::time::sleep(Duration::from_secs(pause)).await;
                counted(&node, &disk).await;
            }
            collected(&node, &disk).await;
            node.shutdown().await;
            let (node, recovered) = open(&disk, 1 << 20).await.unwrap();
            assert_eq!(recovered.missing, []);
            assert_eq!(read_all(&node, recovered.broadcasts[0].root.unwrap()).await.unwrap(), model);
        });
    }
}
