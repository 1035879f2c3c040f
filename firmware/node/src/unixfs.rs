//! UnixFS: files and directories as blocks.
//!
//! A **leaf** is a raw block. A file of one leaf *is* that block; a file of several is a dag-pb node linking them. A
//! directory is a dag-pb node with sorted links. Every CID is version 1 with sha2-256. PBNode is ipld-dagpb's; the
//! `Data` message inside it is a handful of fields (<https://specs.ipfs.tech/unixfs/>) and written out here.

use bytes::Bytes;
use cid::Cid;
use ipld_dagpb::{PbLink, PbNode};
use multihash::Multihash;
use sha2::{Digest, Sha256};

/// Largest leaf in bytes. Bitswap's frames are capped at 2 MiB and its peers serve batches of 1 MiB.
pub const MAX_LEAF: usize = 1 << 20;

const RAW: u64 = 0x55;
const DAG_PB: u64 = 0x70;
const SHA2_256: u64 = 0x12;

/// One raw block of at most [`MAX_LEAF`] bytes and its CID. Bytes are hashed once, here, and shared afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    cid: Cid,
    bytes: Bytes,
}

impl Leaf {
    /// Cuts bytes into leaves, without copying: one up to [`MAX_LEAF`], and one (empty) for no bytes at all.
    pub fn split(mut bytes: Bytes) -> Vec<Leaf> {
        let mut leaves = Vec::with_capacity(bytes.len().div_ceil(MAX_LEAF).max(1));
        loop {
            let leaf = bytes.split_to(bytes.len().min(MAX_LEAF));
            leaves.push(Leaf {
                cid: cid_of(RAW, &leaf),
                bytes: leaf,
            });
            if bytes.is_empty() {
                return leaves;
            }
        }
    }

    pub fn cid(&self) -> Cid {
        self.cid
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// CID of the file that consists of these leaves, known before it is stored.
pub fn file_cid(leaves: &[Leaf]) -> Cid {
    file(leaves).cid
}

/// A file or directory, ready to be linked.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    pub(crate) cid: Cid,
    /// Bytes of all blocks from here down ("Tsize").
    pub(crate) tsize: u64,
    /// The node's own block; a file of a single leaf has none.
    pub(crate) node: Option<Bytes>,
}

pub(crate) fn file(leaves: &[Leaf]) -> Encoded {
    let size = leaves.iter().map(|leaf| leaf.bytes.len() as u64).sum();
    match leaves {
        [] => Encoded {
            cid: cid_of(RAW, &[]),
            tsize: 0,
            node: None,
        },
        [leaf] => Encoded {
            cid: leaf.cid,
            tsize: size,
            node: None,
        },
        _ => {
            let pieces = leaves.iter().map(|leaf| {
                let size = leaf.bytes.len() as u64;
                (leaf.cid, size, size)
            });
            file_node(pieces.collect()).0
        }
    }
}

/// Encodes a file of (CID, content bytes, Tsize), leaves or nodes like this one; also returns its content bytes.
pub(crate) fn file_node(pieces: Vec<(Cid, u64, u64)>) -> (Encoded, u64) {
    let block_sizes: Vec<u64> = pieces.iter().map(|(_, size, _)| *size).collect();
    let size = block_sizes.iter().sum();
    let links = pieces
        .into_iter()
        .map(|(cid, _, tsize)| link("", cid, tsize))
        .collect();
    let data = Data {
        kind: Kind::File,
        inline: &[],
        size: Some(size),
        block_sizes,
    };
    (encode(links, &data), size)
}

/// Encodes a directory of (name, CID, Tsize).
pub(crate) fn directory(entries: impl IntoIterator<Item = (String, Cid, u64)>) -> Encoded {
    let links = entries
        .into_iter()
        .map(|(name, cid, tsize)| link(&name, cid, tsize))
        .collect();
    let data = Data {
        kind: Kind::Directory,
        inline: &[],
        size: None,
        block_sizes: Vec::new(),
    };
    encode(links, &data)
}

fn link(name: &str, cid: Cid, tsize: u64) -> PbLink {
    PbLink {
        cid,
        name: Some(name.to_owned()),
        size: Some(tsize),
    }
}

fn encode(links: Vec<PbLink>, data: &Data<'_>) -> Encoded {
    let below: u64 = links.iter().filter_map(|link| link.size).sum();
    // Sorts the links by name and keeps the order of a file's nameless ones.
    let bytes = PbNode {
        links,
        data: Some(data.encode().into()),
    }
    .into_bytes();
    Encoded {
        cid: cid_of(DAG_PB, &bytes),
        tsize: below + bytes.len() as u64,
        node: Some(bytes.into()),
    }
}

pub(crate) fn is_raw(cid: &Cid) -> bool {
    cid.codec() == RAW
}

/// Whether it is such a CID as is made here.
pub(crate) fn is_ours(cid: &Cid) -> bool {
    cid.version() == cid::Version::V1
        && matches!(cid.codec(), RAW | DAG_PB)
        && cid.hash().code() == SHA2_256
        && cid.hash().size() == 32
}

/// Whether bytes are what a CID of our kind says.
pub fn verifies(cid: &Cid, bytes: &[u8]) -> bool {
    cid_of(cid.codec(), bytes) == *cid
}

fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    let digest = Sha256::digest(bytes);
    Cid::new_v1(
        codec,
        Multihash::wrap(SHA2_256, &digest).expect("a sha2-256 digest fits a multihash"),
    )
}

/// What a block turned out to be.
#[derive(Debug)]
pub(crate) enum Node {
    /// All of the content, or a piece of it.
    Leaf(Bytes),
    /// Inline bytes first, then children with the content bytes that each holds.
    File {
        size: u64,
        inline: Bytes,
        children: Vec<(Cid, u64)>,
    },
    /// (name, CID, Tsize)
    Directory(Vec<(String, Cid, u64)>),
}

/// Decodes a block; the error says what is wrong with it.
pub(crate) fn decode(cid: &Cid, bytes: Bytes) -> Result<Node, String> {
    match cid.codec() {
        RAW => return Ok(Node::Leaf(bytes)),
        DAG_PB => {}
        codec => return Err(format!("codec {codec:#x} is neither raw nor dag-pb")),
    }
    let node = PbNode::from_bytes(bytes).map_err(|e| e.to_string())?;
    let data_bytes = node.data.ok_or("dag-pb without UnixFS data")?;
    let data = Data::decode(&data_bytes)?;
    match data.kind {
        Kind::Directory => {
            let entry = |link: PbLink| {
                (
                    link.name.unwrap_or_default(),
                    link.cid,
                    link.size.unwrap_or(0),
                )
            };
            Ok(Node::Directory(node.links.into_iter().map(entry).collect()))
        }
        Kind::Raw | Kind::File => {
            if data.block_sizes.len() != node.links.len() {
                return Err("a file whose links and block sizes differ in number".to_owned());
            }
            let children: Vec<_> = node
                .links
                .into_iter()
                .map(|link| link.cid)
                .zip(data.block_sizes)
                .collect();
            let below = children
                .iter()
                .try_fold(data.inline.len() as u64, |sum, (_, size)| {
                    sum.checked_add(*size)
                });
            let size = below.ok_or("a file whose block sizes overflow")?;
            if data.size.is_some_and(|stated| stated != size) {
                return Err("a file whose size is not the sum of its blocks".to_owned());
            }
            Ok(Node::File {
                size,
                inline: data_bytes.slice_ref(data.inline),
                children,
            })
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw = 0,
    Directory = 1,
    File = 2,
}

/// UnixFS's `Data` message.
#[derive(Debug, PartialEq, Eq)]
struct Data<'a> {
    kind: Kind,
    inline: &'a [u8],
    size: Option<u64>,
    block_sizes: Vec<u64>,
}

/// Protobuf tags: field number and wire type.
mod tag {
    pub(super) const TYPE: u64 = 1 << 3;
    pub(super) const DATA: u64 = 2 << 3 | 2;
    pub(super) const FILE_SIZE: u64 = 3 << 3;
    pub(super) const BLOCK_SIZE: u64 = 4 << 3;
    pub(super) const BLOCK_SIZES_PACKED: u64 = 4 << 3 | 2;
}

impl<'a> Data<'a> {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 5 * self.block_sizes.len());
        let mut field = |tag: u64, value: u64| {
            push_varint(&mut out, tag);
            push_varint(&mut out, value);
        };
        field(tag::TYPE, self.kind as u64);
        debug_assert!(
            self.inline.is_empty(),
            "our files keep their bytes in raw leaves"
        );
        if let Some(size) = self.size {
            field(tag::FILE_SIZE, size);
        }
        for size in &self.block_sizes {
            field(tag::BLOCK_SIZE, *size);
        }
        out
    }

    fn decode(mut bytes: &'a [u8]) -> Result<Data<'a>, String> {
        let mut kind = None;
        let mut data = Data {
            kind: Kind::Raw,
            inline: &[],
            size: None,
            block_sizes: Vec::new(),
        };
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            match tag {
                tag::TYPE => {
                    kind = Some(match take_varint(&mut bytes)? {
                        0 => Kind::Raw,
                        1 => Kind::Directory,
                        2 => Kind::File,
                        other => return Err(format!("UnixFS type {other} is not supported")),
                    });
                }
                tag::DATA => data.inline = take_slice(&mut bytes)?,
                tag::FILE_SIZE => data.size = Some(take_varint(&mut bytes)?),
                tag::BLOCK_SIZE => data.block_sizes.push(take_varint(&mut bytes)?),
                tag::BLOCK_SIZES_PACKED => {
                    let mut packed = take_slice(&mut bytes)?;
                    while !packed.is_empty() {
                        data.block_sizes.push(take_varint(&mut packed)?);
                    }
                }
                // Mode, modification time and whatever comes later do not change the content.
                _ => match tag & 7 {
                    0 => drop(take_varint(&mut bytes)?),
                    2 => drop(take_slice(&mut bytes)?),
                    5 => drop(take(&mut bytes, 4)?),
                    1 => drop(take(&mut bytes, 8)?),
                    wire => return Err(format!("UnixFS data with wire type {wire}")),
                },
            }
        }
        data.kind = kind.ok_or("UnixFS data without a type")?;
        Ok(data)
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err("UnixFS data with an endless number".to_owned())
}

fn take_slice<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let length = take_varint(bytes)?;
    take(bytes, usize::try_from(length).unwrap_or(usize::MAX))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], String> {
    let (head, tail) = bytes
        .split_at_checked(length)
        .ok_or("UnixFS data that ends too early")?;
    *bytes = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cids_are_those_of_kubo() {
        // `printf hello | ipfs add --raw-leaves --cid-version 1` and `ipfs add -r` of an empty directory.
        let hello = &Leaf::split(Bytes::from_static(b"hello"))[0];
        assert_eq!(
            hello.cid().to_string(),
            "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
        );
        let empty = directory([]);
        assert_eq!(
            empty.cid.to_string(),
            "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
        );
    }

    #[test]
    fn split_shares_and_bounds() {
        let bytes = Bytes::from(vec![7; 2 * MAX_LEAF + 1]);
        let sizes: Vec<_> = Leaf::split(bytes.clone())
            .iter()
            .map(|leaf| leaf.bytes().len())
            .collect();
        assert_eq!(sizes, [MAX_LEAF, MAX_LEAF, 1]);
        assert_eq!(
            Leaf::split(bytes.clone())[1].bytes().as_ptr(),
            bytes[MAX_LEAF..].as_ptr()
        );
        assert_eq!(Leaf::split(Bytes::new()).len(), 1);
    }

    proptest! {
        #[test]
        fn files_come_back(sizes in prop::collection::vec(0usize..3000, 2..20)) {
            let leaves: Vec<Leaf> =
                sizes.iter().enumerate().flat_map(|(i, n)| Leaf::split(vec![i as u8; *n].into())).collect();
            let encoded = file(&leaves);
            let total = sizes.iter().sum::<usize>() as u64;
            let node = encoded.node.clone().unwrap();
            prop_assert_eq!(encoded.tsize, total + node.len() as u64);
            let Node::File { size, children, .. } = decode(&encoded.cid, node).unwrap() else { panic!("a file") };
            prop_assert_eq!(size, total);
            let expected: Vec<_> = leaves.iter().map(|leaf| (leaf.cid(), leaf.bytes().len() as u64)).collect();
            prop_assert_eq!(children, expected);
        }

        #[test]
        fn decoding_anything_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Data::decode(&bytes);
            let _ = decode(&cid_of(DAG_PB, &bytes), bytes.into());
        }
    }
}
