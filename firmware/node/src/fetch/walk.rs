//! What a tree has new: its directories are gone through with what is stored beside them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use cid::Cid;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use node_host::HostError;

use super::{AT_ONCE, Fetch, Tree, Trusts, Want, Wants, check_cid, decode, fetch};
use crate::journal::Named;
use crate::journal::adopt::{AdoptedFile, Entry};
use crate::{AdoptError, StoreError, blocking, in_journal, path, read, unixfs};

/// No directory of podium's is deeper: `video/init/0000/init-0.mp4`.
const MAX_DEPTH: usize = 4;
/// Entries of one directory; podium makes 256 segments, and the playlists beside them.
const MAX_ENTRIES: usize = 4096;
/// Sizes that links state are summed up before anybody can check them: so many links of this size have a sum.
const ABSURD: u64 = 1 << 43;

pub(super) struct Walk<'a> {
    fetch: &'a mut Fetch,
    wants: Wants<'a>,
    trusts: Trusts<'a>,
    pending: Vec<Item>,
    /// Blocks that a commit names and that are here.
    known: HashSet<Cid>,
    tree: Tree,
}

/// What is still to be looked at.
enum Item {
    Entry {
        path: String,
        cid: Cid,
        tsize: u64,
        /// What lies here in the stored broadcast.
        before: Option<Entry>,
    },
    Piece {
        file: usize,
        cid: Cid,
        depth: usize,
    },
}

impl Item {
    fn cid(&self) -> Cid {
        match self {
            Item::Entry { cid, .. } | Item::Piece { cid, .. } => *cid,
        }
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(fetch: &'a mut Fetch, wants: Wants<'a>, trusts: Trusts<'a>) -> Walk<'a> {
        let root = Item::Entry {
            path: String::new(),
            cid: fetch.root,
            tsize: 0,
            before: None,
        };
        Walk {
            fetch,
            wants,
            trusts,
            pending: vec![root],
            known: HashSet::new(),
            tree: Tree::default(),
        }
    }

    pub(super) async fn run(mut self) -> Result<Tree, AdoptError> {
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some(item) = self.pending.pop()
            {
                let cid = item.cid();
                if unixfs::is_raw(&cid) && (self.known.contains(&cid) || self.fetch.has(&cid)) {
                    self.take(item, unixfs::Node::Leaf(Bytes::new())).await?;
                    continue;
                }
                let node = self.fetch.node.clone();
                let timeout = self.fetch.timeout(&cid);
                let at_hand = self.fetch.blocks.get(&cid).cloned();
                if !self.fetch.has(&cid) {
                    self.fetch.asked.insert(cid);
                }
                asked.push(async move {
                    match at_hand {
                        Some(bytes) => (item, Ok(bytes)),
                        None => (item, fetch(&node, cid, timeout).await),
                    }
                });
            }
            let Some((item, bytes)) = asked.next().await else {
                return Ok(self.tree);
            };
            let (cid, bytes) = (item.cid(), bytes?);
            if unixfs::is_raw(&cid) {
                let length = bytes.len() as u64;
                self.fetch.new_leaves.fetch_add(length, Ordering::Relaxed);
            }
            if !self.fetch.has(&cid) {
                self.fetch.brought(cid, bytes.clone()).await?;
            }
            self.take(item, decode(&cid, bytes)?).await?;
        }
    }

    /// Takes a block in; of a leaf that is here its bytes do not matter.
    async fn take(&mut self, item: Item, node: unixfs::Node) -> Result<(), AdoptError> {
        match (item, node) {
            (Item::Entry { path, before, .. }, unixfs::Node::Directory(entries)) => {
                if let Some(Entry::File(_)) = before {
                    self.tree.gone.push(path.clone());
                }
                self.directory(path, entries).await
            }
            (
                Item::Entry {
                    path,
                    cid,
                    tsize,
                    before,
                },
                node,
            ) => {
                if path.is_empty() {
                    return Err(AdoptError::Refused("it is no directory"));
                }
                self.differs(&path, cid, before);
                self.tree.files.push(AdoptedFile {
                    path,
                    cid,
                    tsize,
                    below: Vec::new(),
                });
                match node {
                    unixfs::Node::File { children, .. } => {
                        self.pieces(self.tree.files.len() - 1, 0, children).await
                    }
                    _ => Ok(()),
                }
            }
            (Item::Piece { file, depth, .. }, unixfs::Node::File { children, .. })
                if depth < read::MAX_DEPTH =>
            {
                self.pieces(file, depth, children).await
            }
            (Item::Piece { .. }, unixfs::Node::Leaf(_)) => Ok(()),
            (Item::Piece { .. }, _) => Err(AdoptError::Refused("a file of it is none")),
        }
    }

    /// Notes what a path had where it has a file now.
    fn differs(&mut self, path: &str, cid: Cid, before: Option<Entry>) {
        match before {
            Some(Entry::File(old) | Entry::Absent(old)) if old != cid => {
                self.tree.replaced.insert(path.to_owned());
            }
            Some(Entry::Directory(_)) => self.tree.gone.push(path.to_owned()),
            _ => {}
        }
    }

    async fn pieces(
        &mut self,
        file: usize,
        depth: usize,
        children: Vec<(Cid, u64)>,
    ) -> Result<(), AdoptError> {
        let cids: Vec<Cid> = children.into_iter().map(|(cid, _)| cid).collect();
        self.fetch.count_links(cids.len())?;
        self.look_up(&cids).await?;
        for cid in cids {
            self.tree.files[file].below.push(cid);
            let depth = depth + 1;
            self.pending.push(Item::Piece { file, cid, depth });
        }
        Ok(())
    }

    async fn directory(
        &mut self,
        dir: String,
        entries: Vec<(String, Cid, u64)>,
    ) -> Result<(), AdoptError> {
        if entries.len() > MAX_ENTRIES || dir.split('/').count() >= MAX_DEPTH {
            return Err(AdoptError::Refused(
                "it has more directories than podium makes",
            ));
        }
        self.fetch.count_links(entries.len())?;
        let mut stored = match self.fetch.before {
            Some(broadcast) => {
                let (journal, dir) = (&self.fetch.node.shared.journal, dir.clone());
                in_journal(journal, move |journal| journal.entries_in(broadcast, &dir)).await?
            }
            None => BTreeMap::new(),
        };
        let mut cids = Vec::new();
        let mut names = BTreeSet::new();
        for (name, cid, tsize) in entries {
            if path::split(&name).is_err() || name.contains('/') || !names.insert(name.clone()) {
                return Err(AdoptError::Refused("it has names that are no files'"));
            }
            if tsize >= ABSURD {
                return Err(AdoptError::Refused("it states sizes that nothing has"));
            }
            let path = path::join(&dir, &name);
            let before = stored.remove(&name);
            let want = (self.wants)(&path);
            match before {
                Some(Entry::File(old)) if old == cid && want != Want::Nothing => continue,
                Some(Entry::Absent(old)) if old == cid && want != Want::All => continue,
                Some(Entry::Directory(old)) if old == cid && (self.trusts)(&path) => continue,
                _ => {}
            }
            if want != Want::All {
                check_cid(&cid)?;
                self.differs(&path, cid, before);
                self.tree.absent.push((path, cid, tsize));
                continue;
            }
            cids.push(cid);
            self.pending.push(Item::Entry {
                path,
                cid,
                tsize,
                before,
            });
        }
        let gone = stored.into_keys().map(|name| path::join(&dir, &name));
        self.tree.gone.extend(gone);
        self.look_up(&cids).await
    }

    /// Finds those that a commit names and that are here.
    async fn look_up(&mut self, cids: &[Cid]) -> Result<(), AdoptError> {
        for cid in cids {
            check_cid(cid)?;
        }
        let (store, cids) = (self.fetch.node.shared.store.clone(), cids.to_vec());
        let named = blocking(move || {
            let mut named = Vec::new();
            for cid in cids {
                if let Some(Named::Here(_)) = store.named(&cid).map_err(HostError::Io)? {
                    named.push(cid);
                }
            }
            Ok::<_, StoreError>(named)
        });
        self.known.extend(named.await?);
        Ok(())
    }
}
