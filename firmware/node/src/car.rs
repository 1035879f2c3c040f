//! Blocks as a CAR, version 1 (<https://ipld.io/specs/transport/car/carv1/>), as a trustless gateway chooses them
//! (<https://specs.ipfs.tech/http-gateways/trustless-gateway/>): those on the way to a path's end, then what lies below it,
//! depth first in the order of the links.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cid::Cid;
use futures::stream::{self, Stream};

use crate::ReadError;
use crate::read::MAX_DEPTH;
use crate::store::{self, BlockStore};
use crate::unixfs::{self, Node};

/// What is sent of the thing at the path's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DagScope {
    /// Its first block.
    Block,
    /// A whole file, or the list of a directory's entries.
    Entity,
    /// All that is below.
    All,
}

/// A range of a file's bytes, both ends included; negative ones count from the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityBytes {
    pub from: i64,
    pub to: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CarOptions {
    pub scope: DagScope,
    /// Only the blocks of a file that have these bytes; of a directory the list of its entries. Within [`DagScope::Entity`], which
    /// it implies (trustless gateway specification, entity-bytes).
    pub bytes: Option<EntityBytes>,
    /// Whether a block is sent as often as it is met.
    pub dups: bool,
}

/// `from:to`, where `to` may be `*`, as in the query of a request.
impl std::str::FromStr for EntityBytes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<EntityBytes, &'static str> {
        let form = "entity-bytes is from:to, where to may be *";
        let (from, to) = text.split_once(':').ok_or(form)?;
        let number = |text: &str| text.parse::<i64>().map_err(|_| form);
        let (from, to) = (
            number(from)?,
            if to == "*" { None } else { Some(number(to)?) },
        );
        match to {
            Some(to) if (from < 0) == (to < 0) && to < from => {
                Err("entity-bytes ends before it begins")
            }
            to => Ok(EntityBytes { from, to }),
        }
    }
}

impl EntityBytes {
    /// Of a file of `size` bytes.
    fn within(self, size: u64) -> Range<u64> {
        let place = |at: i64| match at {
            0.. => at.unsigned_abs().min(size),
            _ => size.saturating_sub(at.unsigned_abs()),
        };
        let end = match self.to {
            None => size,
            Some(to) if to < 0 => (size + 1).saturating_sub(to.unsigned_abs()),
            Some(to) => (to.unsigned_abs() + 1).min(size),
        };
        place(self.from)..end
    }
}

pub(crate) fn stream(
    store: Arc<dyn BlockStore>,
    way: Vec<Cid>,
    options: CarOptions,
) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
    let (end, before) = way
        .split_last()
        .map_or((None, &[][..]), |(end, before)| (Some(*end), before));
    let mut pending: Vec<Pending> = (end.into_iter())
        .map(|cid| Pending {
            cid,
            below: match options {
                CarOptions {
                    scope: DagScope::Block,
                    ..
                } => Below::Nothing,
                CarOptions {
                    bytes: Some(bytes), ..
                } => Below::Bytes(bytes),
                CarOptions {
                    scope: DagScope::Entity,
                    ..
                } => Below::File,
                CarOptions {
                    scope: DagScope::All,
                    ..
                } => Below::All,
            },
            depth: 0,
        })
        .collect();
    pending.extend(before.iter().rev().map(|&cid| Pending {
        cid,
        below: Below::Nothing,
        depth: 0,
    }));
    let walk = Walk {
        store,
        header: end.map(|root| header(&root)),
        pending,
        sent: (!options.dups).then(HashSet::new),
    };
    stream::try_unfold(walk, |mut walk| async move {
        let piece = walk.next().await?;
        Ok(piece.map(|piece| (piece, walk)))
    })
}

struct Walk {
    store: Arc<dyn BlockStore>,
    header: Option<Bytes>,
    /// Blocks still to be visited, the next one last.
    pending: Vec<Pending>,
    /// Digests of what has been sent, where nothing may be sent twice.
    sent: Option<HashSet<[u8; 32]>>,
}

struct Pending {
    cid: Cid,
    below: Below,
    depth: usize,
}

/// Which children of a block follow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Below {
    Nothing,
    /// Those of a file, not those of a directory.
    File,
    All,
    Bytes(EntityBytes),
    /// Bytes of this node's own content.
    Range(Range<u64>),
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        if let Some(header) = self.header.take() {
            return Ok(Some(header));
        }
        while let Some(Pending { cid, below, depth }) = self.pending.pop() {
            let new = self.is_new(&cid);
            // The same node may be asked for again with another range of its bytes.
            if !new && !matches!(below, Below::Bytes(_) | Below::Range(_)) {
                continue;
            }
            let bytes = self.store.get(cid).await?;
            let bytes = bytes.ok_or(ReadError::Missing { cid })?;
            if below != Below::Nothing && !unixfs::is_raw(&cid) {
                self.descend(cid, &bytes, below, depth + 1)?;
            }
            // A block that its own CID carries is in the block that links it (trustless gateway specification, 6.4).
            if new && !store::is_inline(&cid) {
                return Ok(Some(section(&cid, &bytes)));
            }
        }
        Ok(None)
    }

    /// A digest that is not of 32 bytes is not kept in mind: this box stores no such block.
    fn is_new(&mut self, cid: &Cid) -> bool {
        match (&mut self.sent, cid.hash().digest().try_into()) {
            (Some(sent), Ok(digest)) => sent.insert(digest),
            _ => true,
        }
    }

    fn descend(
        &mut self,
        cid: Cid,
        bytes: &Bytes,
        below: Below,
        depth: usize,
    ) -> Result<(), ReadError> {
        let broken = |reason: String| ReadError::NotUnixFs { cid, reason };
        let node = unixfs::decode(&cid, bytes.clone()).map_err(broken)?;
        let first = self.pending.len();
        match node {
            Node::Leaf(_) => {}
            Node::Directory(entries) if below == Below::All => {
                let children = entries.into_iter().map(|(_, cid, _)| Pending {
                    cid,
                    below: Below::All,
                    depth: 0,
                });
                self.pending.extend(children);
            }
            Node::Directory(_) => {}
            Node::File { .. } if depth > MAX_DEPTH => {
                return Err(broken("a file that is nested too deeply".to_owned()));
            }
            Node::File {
                size,
                inline,
                children,
            } => {
                let range = match below {
                    Below::Bytes(bytes) => Some(bytes.within(size)),
                    Below::Range(ref range) => Some(range.clone()),
                    _ => None,
                };
                let mut start = inline.len() as u64;
                for (cid, size) in children {
                    // The sizes' sum has been checked when the node was decoded.
                    let end = start.saturating_add(size);
                    let below = match &range {
                        None => Some(below.clone()),
                        Some(range) => (start < range.end && end > range.start).then(|| {
                            Below::Range(range.start.saturating_sub(start)..range.end - start)
                        }),
                    };
                    self.pending
                        .extend(below.map(|below| Pending { cid, below, depth }));
                    start = end;
                }
            }
        }
        self.pending[first..].reverse();
        Ok(())
    }
}

/// `{roots: [root], version: 1}` in DAG-CBOR, after its length.
fn header(root: &Cid) -> Bytes {
    const ROOTS_OF_ONE: &[u8] = b"\xa2\x65roots\x81";
    // Tag 42, and a byte string that begins with a zero.
    const LINK: &[u8] = b"\xd8\x2a";
    const VERSION_1: &[u8] = b"\x67version\x01";
    let cid = root.to_bytes();
    let mut header = ROOTS_OF_ONE.to_vec();
    header.put_slice(LINK);
    // The shortest form of a length is the only one in DAG-CBOR. The longest CID here has a digest of 64 bytes.
    match 1 + cid.len() as u8 {
        short @ ..24 => header.put_u8(0x40 | short),
        long => header.put_slice(&[0x58, long]),
    }
    header.put_u8(0);
    header.put_slice(&cid);
    header.put_slice(VERSION_1);
    let mut out = BytesMut::new();
    push_varint(&mut out, header.len() as u64);
    out.put_slice(&header);
    out.freeze()
}

fn section(cid: &Cid, bytes: &Bytes) -> Bytes {
    let cid = cid.to_bytes();
    let mut out = BytesMut::with_capacity(10 + cid.len() + bytes.len());
    push_varint(&mut out, (cid.len() + bytes.len()) as u64);
    out.put_slice(&cid);
    out.put_slice(bytes);
    out.freeze()
}

fn push_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_dag_cbor_however_long_the_root_is() {
        for (root, expected) in [
            // The probe of the specification: 4 bytes, whose length has no byte of its own.
            (
                "bafkqaaa",
                "19a265726f6f747381d82a450001550000677665727369 6f6e01",
            ),
            (
                "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
                "38a265726f6f747381d82a58230012 20e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\
                 6776657273696f6e01",
            ),
        ] {
            let header = header(&root.parse().unwrap());
            let hex: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, expected.replace(' ', ""), "{root}");
        }
    }

    #[test]
    fn entity_bytes_are_within_the_file() {
        let within = |text: &str| text.parse::<EntityBytes>().map(|bytes| bytes.within(100));
        for (text, expected) in [
            ("0:*", 0..100),
            ("0:0", 0..1),
            ("10:19", 10..20),
            ("90:1000", 90..100),
            ("-10:*", 90..100),
            ("-10:-1", 90..100),
            ("-1000:-91", 0..10),
            ("0:-1", 0..100),
            ("0:-101", 0..0),
            ("100:*", 100..100),
            ("9223372036854775807:9223372036854775807", 100..100),
            ("-9223372036854775808:-9223372036854775808", 0..0),
        ] {
            assert_eq!(within(text), Ok(expected), "{text}");
        }
        for text in [
            "", "1", "1:", ":1", "*:1", "a:b", "1:0", "-1:-2", "0:1:2", "0x1:2",
        ] {
            assert!(within(text).is_err(), "{text}");
        }
    }
}
