//! What must hold of the journal at every moment.

use std::collections::HashMap;

use redb::ReadableTable;

use super::{ABSENT, BROADCASTS, DIRECTORY, ENTRIES, FILE, Journal, SHARED, State, Tree};
use crate::cids::{CidKey, cid};
use crate::path;

impl Journal {
    /// Panics unless the references are those that entries and broadcasts make, and every directory is what its
    /// entries encode to.
    pub(crate) fn check_invariants(&self) {
        let mut counted: HashMap<CidKey, u64> = HashMap::new();
        let transaction = self.write().unwrap();
        let broadcasts = transaction.open_table(BROADCASTS).unwrap();
        let mut tree = Tree {
            broadcast: 0,
            entries: transaction.open_table(ENTRIES).unwrap(),
        };
        let mut directories = Vec::new();
        for row in broadcasts.iter().unwrap() {
            let (id, row) = row.unwrap();
            let (_, root, state) = row.value();
            if let Some(root) = root {
                *counted.entry(root).or_default() += 1;
                if State::from_row(state) != State::Deleting {
                    directories.push((id.value(), String::new(), DIRECTORY, root));
                }
            }
        }
        for row in tree.entries.iter().unwrap() {
            let (place, row) = row.unwrap();
            let ((broadcast, dir, name), (kind, node, _, leaves)) = (place.value(), row.value());
            let owner = broadcasts
                .get(broadcast)
                .unwrap()
                .expect("no entries without a broadcast");
            if kind == ABSENT {
                continue;
            }
            *counted.entry(node).or_default() += 1;
            for leaf in leaves.as_chunks().0 {
                *counted.entry(*leaf).or_default() += 1;
            }
            if kind != FILE && State::from_row(owner.value().2) != State::Deleting {
                directories.push((broadcast, path::join(dir, name), kind, node));
            }
        }
        for (broadcast, dir, kind, node) in directories {
            tree.broadcast = broadcast;
            assert_eq!(
                tree.encode(&dir, kind).unwrap().0.cid,
                cid(&node),
                "directory {dir:?}"
            );
        }
        for row in transaction.open_table(SHARED).unwrap().iter().unwrap() {
            let (key, row) = row.unwrap();
            let expected = counted.remove(&key.value()).unwrap_or(0);
            let of = cid(&key.value());
            assert_eq!(row.value(), expected, "references of {of}");
            assert!(expected > 1, "{of} needs no row");
        }
        assert!(
            counted.values().all(|references| *references == 1),
            "shared blocks without a row"
        );
    }
}
