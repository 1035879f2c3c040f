//! Trees of UnixFS as other tools make them, for a box that did not: blocks of raw bytes and of dag-pb
//! (<https://ipld.io/specs/codecs/dag-pb/spec/>), written without the box's own code.

use std::collections::BTreeMap;
use std::path::Path;

use cid::Cid;
use cid::multihash::Multihash;
use sha2::{Digest as _, Sha256};

const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const IDENTITY: u64 = 0x00;
const SHA2_256: u64 = 0x12;

/// UnixFS's types.
const DIRECTORY: u64 = 1;
const FILE: u64 = 2;
const SYMLINK: u64 = 4;

/// What a link says of a block and all below it.
#[derive(Debug, Clone, Copy)]
pub struct Linked {
    pub cid: Cid,
    pub tsize: u64,
}

/// Of a CID, and of the links in the node that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `Qm…`, and files as they were made then: their bytes are in dag-pb, too.
    V0,
    V1,
}

/// Blocks by their CIDs.
#[derive(Debug, Default)]
pub struct Dag {
    pub blocks: BTreeMap<Cid, Vec<u8>>,
}

impl Dag {
    /// A file of one raw block.
    pub fn raw(&mut self, bytes: &[u8]) -> Linked {
        let cid = Cid::new_v1(RAW, sha2_256(bytes));
        self.put(cid, bytes.to_vec(), 0)
    }

    /// A file of raw blocks of so many bytes, the last one excepted.
    pub fn chunked(&mut self, bytes: &[u8], size: usize) -> Linked {
        let leaves = bytes.chunks(size).map(|leaf| (self.raw(leaf), leaf.len()));
        let leaves = leaves.collect::<Vec<_>>();
        self.file(Version::V1, &leaves)
    }

    /// The same as older tools make it.
    pub fn chunked_v0(&mut self, bytes: &[u8], size: usize) -> Linked {
        let leaves = bytes
            .chunks(size)
            .map(|leaf| (self.inline_v0(leaf), leaf.len()));
        let leaves = leaves.collect::<Vec<_>>();
        self.file(Version::V0, &leaves)
    }

    fn file(&mut self, version: Version, leaves: &[(Linked, usize)]) -> Linked {
        let size: usize = leaves.iter().map(|(_, size)| size).sum();
        let mut data = number(1, FILE);
        data.extend(number(3, size as u64));
        for (_, size) in leaves {
            data.extend(number(4, *size as u64));
        }
        let links: Vec<_> = leaves.iter().map(|(leaf, _)| ("", *leaf)).collect();
        self.node(version, &links, &data)
    }

    /// A file of one block, as older tools make it.
    pub fn inline_v0(&mut self, bytes: &[u8]) -> Linked {
        let mut data = number(1, FILE);
        data.extend(field(2, bytes));
        data.extend(number(3, bytes.len() as u64));
        self.node(Version::V0, &[], &data)
    }

    pub fn symlink_v0(&mut self, target: &str) -> Linked {
        let mut data = number(1, SYMLINK);
        data.extend(field(2, target.as_bytes()));
        self.node(Version::V0, &[], &data)
    }

    /// A directory; names are put in their order.
    pub fn directory(&mut self, version: Version, entries: &[(&str, Linked)]) -> Linked {
        let mut entries = entries.to_vec();
        entries.sort_by_key(|(name, _)| *name);
        self.node(version, &entries, &number(1, DIRECTORY))
    }

    fn node(&mut self, version: Version, links: &[(&str, Linked)], data: &[u8]) -> Linked {
        let mut block = Vec::new();
        for (name, Linked { cid, tsize }) in links {
            let mut link = field(1, &cid.to_bytes());
            link.extend(field(2, name.as_bytes()));
            link.extend(number(3, *tsize));
            block.extend(field(2, &link));
        }
        block.extend(field(1, data));
        let below = links.iter().map(|(_, linked)| linked.tsize).sum();
        let cid = match version {
            Version::V0 => Cid::new_v0(sha2_256(&block)).expect("sha2-256"),
            Version::V1 => Cid::new_v1(DAG_PB, sha2_256(&block)),
        };
        self.put(cid, block, below)
    }

    /// A block of dag-pb that something else has encoded.
    pub fn encoded(&mut self, block: Vec<u8>) -> Linked {
        let cid = Cid::new_v1(DAG_PB, sha2_256(&block));
        self.put(cid, block, 0)
    }

    fn put(&mut self, cid: Cid, block: Vec<u8>, below: u64) -> Linked {
        let tsize = block.len() as u64 + below;
        self.blocks.insert(cid, block);
        Linked { cid, tsize }
    }

    /// Puts all blocks into a box's data directory, where it looks for them. Those of version 0 lie there by the newer name.
    pub fn store(&self, data: &Path) {
        for (cid, block) in &self.blocks {
            let name = cid.into_v1().expect("a CID of version 1").to_string();
            let shard = data
                .join("ipfs/blockstore")
                .join(&name[name.len() - 3..name.len() - 1]);
            std::fs::create_dir_all(&shard).expect("the shard can be made");
            std::fs::write(shard.join(format!("{name}.data")), block)
                .expect("the block is written");
        }
    }
}

/// What needs no block: a file that its CID has in it.
pub fn inlined(bytes: &[u8]) -> Linked {
    let hash = Multihash::wrap(IDENTITY, bytes).expect("at most 64 bytes");
    Linked {
        cid: Cid::new_v1(RAW, hash),
        tsize: bytes.len() as u64,
    }
}

/// The CIDs of a CAR's blocks, in order. Nothing where one is not what its CID says, or the end is missing.
pub fn read_car(mut car: &[u8]) -> Option<Vec<Cid>> {
    let _header = take(&mut car)?;
    let mut cids = Vec::new();
    while !car.is_empty() {
        let mut section = take(&mut car)?;
        let cid = Cid::read_bytes(&mut section).ok()?;
        let hash = cid.hash();
        if *hash != sha2_256(section) && (hash.code(), hash.digest()) != (IDENTITY, section) {
            return None;
        }
        cids.push(cid);
    }
    Some(cids)
}

/// What stands behind its length.
fn take<'a>(car: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let (byte, rest) = car.split_first()?;
        *car = rest;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            break;
        }
    }
    let (head, tail) = car.split_at_checked(length)?;
    *car = tail;
    Some(head)
}

fn sha2_256(bytes: &[u8]) -> Multihash<64> {
    Multihash::wrap(SHA2_256, &Sha256::digest(bytes)).expect("32 bytes")
}

/// A field of protobuf that is a number.
fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

/// A field of protobuf that is bytes.
fn field(tag: u64, bytes: &[u8]) -> Vec<u8> {
    [&varint(tag << 3 | 2), &varint(bytes.len() as u64), bytes].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}
