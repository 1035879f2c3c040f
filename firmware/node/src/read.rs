//! Reading: paths and ranges, from the local store only.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;
use futures::stream::{self, Stream};

use crate::ReadError;
use crate::store::BlockStore;
use crate::unixfs::{self, Node};

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    File {
        cid: Cid,
        /// Content bytes.
        size: u64,
    },
    Directory {
        cid: Cid,
        /// Sorted by name.
        entries: Vec<DirEntry>,
    },
}

/// One link of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub cid: Cid,
    /// Bytes of all blocks of the entry, with the structure around the content ("Tsize").
    pub size: u64,
}

/// A file tree deeper than this is none that anybody made in good faith: 1 MiB nodes of 20 000 links reach any size.
pub(crate) const MAX_DEPTH: usize = 8;

pub(crate) async fn resolve(
    store: &dyn BlockStore,
    root: Cid,
    path: &str,
) -> Result<Resolved, ReadError> {
    Ok(resolve_with_way(store, root, path).await?.0)
}

/// The blocks on the way to a path's end, that one last. It is here, and may be anything; those before it are directories.
pub(crate) async fn way(
    store: &dyn BlockStore,
    root: Cid,
    path: &str,
) -> Result<Vec<Cid>, ReadError> {
    Ok(walk(store, root, path).await?.way)
}

struct Walked {
    way: Vec<Cid>,
    /// As the directory says; the root stands in none.
    tsize: Option<u64>,
}

async fn walk(store: &dyn BlockStore, root: Cid, path: &str) -> Result<Walked, ReadError> {
    let mut cid = root;
    let mut walked = Walked {
        way: vec![root],
        tsize: None,
    };
    for name in components(path)? {
        let Node::Directory(entries) = node(store, cid).await? else {
            return Err(ReadError::NotADirectory {
                path: path.to_owned(),
            });
        };
        let entry = entries.into_iter().find(|entry| entry.0 == name);
        let (_, child, tsize) = entry.ok_or_else(|| ReadError::NotFound {
            path: path.to_owned(),
        })?;
        cid = child;
        walked.way.push(cid);
        walked.tsize = Some(tsize);
    }
    // A mirror may have left it out.
    match store.has(cid).await? {
        true => Ok(walked),
        false => Err(ReadError::Missing { cid }),
    }
}

pub(crate) async fn resolve_with_way(
    store: &dyn BlockStore,
    root: Cid,
    path: &str,
) -> Result<(Resolved, Vec<Cid>), ReadError> {
    let Walked { way, tsize } = walk(store, root, path).await?;
    let cid = way.last().copied().unwrap_or(root);
    let node = match tsize.filter(|_| unixfs::is_raw(&cid)) {
        // A raw leaf need not be read to know its size: a media segment would be read twice.
        Some(size) => Node::File {
            size,
            inline: Bytes::new(),
            children: Vec::new(),
        },
        None => node(store, cid).await?,
    };
    let resolved = match node {
        Node::Leaf(bytes) => Resolved::File {
            cid,
            size: bytes.len() as u64,
        },
        Node::File { size, .. } => Resolved::File { cid, size },
        Node::Directory(entries) => {
            let entries = entries
                .into_iter()
                .map(|(name, cid, size)| DirEntry { name, cid, size })
                .collect();
            Resolved::Directory { cid, entries }
        }
    };
    Ok((resolved, way))
}

fn components(path: &str) -> Result<impl Iterator<Item = &str>, ReadError> {
    let invalid = |reason| {
        Err(ReadError::InvalidPath {
            path: path.to_owned(),
            reason,
        })
    };
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if !inner.is_empty() {
        for name in inner.split('/') {
            match name {
                "" => return invalid("it has an empty component"),
                "." | ".." => return invalid("it has a dot component"),
                _ => {}
            }
        }
    }
    Ok(inner.split('/').filter(|name| !name.is_empty()))
}

/// Streams the bytes of a file within the range, block by block.
pub(crate) fn read(
    store: Arc<dyn BlockStore>,
    file: Cid,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
    let root = Pending {
        cid: file,
        start: 0,
        size: None,
        depth: 0,
    };
    let walk = Walk {
        store,
        range,
        pending: vec![root],
    };
    stream::try_unfold(walk, |mut walk| async move {
        let bytes = walk.next().await?;
        Ok(bytes.map(|bytes| (bytes, walk)))
    })
}

struct Walk {
    store: Arc<dyn BlockStore>,
    range: Range<u64>,
    /// Blocks still to be visited, the next one last.
    pending: Vec<Pending>,
}

struct Pending {
    cid: Cid,
    /// Position of its first content byte in the file.
    start: u64,
    /// Content bytes, as its parent says; the root has none.
    size: Option<u64>,
    depth: usize,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        while let Some(Pending {
            cid,
            start,
            size,
            depth,
        }) = self.pending.pop()
        {
            let broken = |reason: &str| ReadError::NotUnixFs {
                cid,
                reason: reason.to_owned(),
            };
            let (bytes, own_size) = match node(&*self.store, cid).await? {
                Node::Directory(_) if depth == 0 => return Err(ReadError::NotAFile { cid }),
                Node::Directory(_) => return Err(broken("a directory within a file")),
                Node::Leaf(bytes) => {
                    let size = bytes.len() as u64;
                    (bytes, size)
                }
                Node::File { .. } if depth >= MAX_DEPTH => {
                    return Err(broken("a file that is nested too deeply"));
                }
                Node::File {
                    size: own_size,
                    inline,
                    children,
                } => {
                    self.push_children(start + inline.len() as u64, children, depth + 1);
                    (inline, own_size)
                }
            };
            if size.is_some_and(|size| size != own_size) {
                return Err(broken("its size is not what the file says"));
            }
            let bytes = self.clip(start, bytes);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Pushes those children that the range touches, the first one last.
    fn push_children(&mut self, mut start: u64, children: Vec<(Cid, u64)>, depth: usize) {
        let first = self.pending.len();
        for (cid, size) in children {
            // The sizes' sum has been checked when the node was decoded.
            let end = start.saturating_add(size);
            if start < self.range.end && end > self.range.start {
                self.pending.push(Pending {
                    cid,
                    start,
                    size: Some(size),
                    depth,
                });
            }
            start = end;
        }
        self.pending[first..].reverse();
    }

    fn clip(&self, start: u64, bytes: Bytes) -> Bytes {
        let length = bytes.len() as u64;
        let from = self.range.start.saturating_sub(start).min(length);
        let to = self.range.end.saturating_sub(start).min(length);
        if from >= to {
            Bytes::new()
        } else {
            bytes.slice(from as usize..to as usize)
        }
    }
}

async fn node(store: &dyn BlockStore, cid: Cid) -> Result<Node, ReadError> {
    let bytes = store.get(cid).await?.ok_or(ReadError::Missing { cid })?;
    unixfs::decode(&cid, bytes).map_err(|reason| ReadError::NotUnixFs { cid, reason })
}
