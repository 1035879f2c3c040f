//! As many CIDs as a store has blocks. A day of stream has a third of a million, and a `HashMap<Cid, u64>` takes some 200 bytes for each:
//! opening must not need more memory than a small Raspberry Pi has.

use std::collections::HashMap;

use cid::Cid;

/// A CID as the journal has it: version 1 with sha2-256.
pub(crate) type CidKey = [u8; 36];

/// # Panics
/// If it is another kind of CID.
pub(crate) fn key(cid: &Cid) -> CidKey {
    fitting(cid).expect("our CIDs are version 1 with sha2-256")
}

fn fitting(cid: &Cid) -> Option<CidKey> {
    let mut key = [0; size_of::<CidKey>()];
    let written = cid.write_bytes(&mut key[..]).ok()?;
    (written == key.len()).then_some(key)
}

/// # Panics
/// If that is no CID.
pub(crate) fn cid(key: &CidKey) -> Cid {
    Cid::read_bytes(&key[..]).expect("the journal holds only CIDs that it was given")
}

/// A set that does not change. 36 bytes for each.
#[derive(Debug, Default)]
pub(crate) struct CidSet(Vec<CidKey>);

impl CidSet {
    /// Each may be there more than once.
    pub(crate) fn new(mut keys: Vec<CidKey>) -> CidSet {
        keys.sort_unstable();
        keys.dedup();
        CidSet(keys)
    }

    pub(crate) fn contains(&self, cid: &Cid) -> bool {
        fitting(cid).is_some_and(|key| self.0.binary_search(&key).is_ok())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Cid> {
        self.0.iter().map(cid)
    }
}

/// Blocks with their lengths in bytes. 40 bytes for each that can be ours.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    sorted: Vec<(CidKey, u32)>,
    /// What a fetch has brought, or a broken disk.
    others: HashMap<Cid, u64>,
}

impl FromIterator<(Cid, u64)> for Lengths {
    fn from_iter<T: IntoIterator<Item = (Cid, u64)>>(blocks: T) -> Lengths {
        let mut lengths = Lengths::default();
        (blocks.into_iter()).for_each(|(cid, length)| lengths.push(cid, length));
        lengths.sort();
        lengths
    }
}

impl Lengths {
    /// To be sorted before it is asked.
    pub(crate) fn push(&mut self, cid: Cid, length: u64) {
        match fitting(&cid).zip(u32::try_from(length).ok()) {
            Some(block) => self.sorted.push(block),
            None => drop(self.others.insert(cid, length)),
        }
    }

    pub(crate) fn sort(&mut self) {
        self.sorted.sort_unstable();
    }

    pub(crate) fn of(&self, cid: &Cid) -> Option<u64> {
        let found = fitting(cid).and_then(|key| {
            let at = self.sorted.binary_search_by_key(&key, |(key, _)| *key);
            Some(u64::from(self.sorted[at.ok()?].1))
        });
        found.or_else(|| self.others.get(cid).copied())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Cid, u64)> {
        let sorted = self.sorted.iter();
        let sorted = sorted.map(|(key, length)| (cid(key), u64::from(*length)));
        sorted.chain(self.others.iter().map(|(cid, length)| (*cid, *length)))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sorted.is_empty() && self.others.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use multihash::Multihash;

    use super::*;

    const RAW: u64 = 0x55;
    const SHA2_256: u64 = 0x12;
    const SHA2_512: u64 = 0x13;

    #[test]
    fn whatever_has_a_cid_is_found_again() {
        let blocks: Vec<(Cid, u64)> = (0..100u64)
            .flat_map(|i| {
                let ours = Multihash::wrap(SHA2_256, &[i as u8; 32]).unwrap();
                let long = Multihash::wrap(SHA2_512, &[i as u8; 64]).unwrap();
                let large = u64::from(u32::MAX) + i;
                [
                    (Cid::new_v1(RAW, ours), i),
                    (Cid::new_v1(RAW, long), i),
                    (Cid::new_v0(ours).unwrap(), large),
                ]
            })
            .collect();
        let (there, absent) = blocks.split_at(150);
        let lengths: Lengths = there.iter().copied().collect();
        assert!(
            there
                .iter()
                .all(|(cid, length)| lengths.of(cid) == Some(*length))
        );
        assert!(absent.iter().all(|(cid, _)| lengths.of(cid).is_none()));
        let mut listed: Vec<_> = lengths.iter().collect();
        let mut expected = there.to_vec();
        listed.sort();
        expected.sort();
        assert_eq!(listed, expected);
        assert!(Lengths::default().is_empty() && !lengths.is_empty());

        let ours = |blocks: &[(Cid, u64)]| -> Vec<CidKey> {
            blocks.iter().filter_map(|(cid, _)| fitting(cid)).collect()
        };
        let set = CidSet::new([ours(there), ours(there)].concat());
        assert_eq!(set.iter().count(), ours(there).len());
        for (blocks, expected) in [(there, true), (absent, false)] {
            let keys = ours(blocks);
            assert!(!keys.is_empty());
            assert!(keys.iter().all(|key| set.contains(&cid(key)) == expected));
        }
        let (other, _) = there[1];
        assert!(!set.contains(&other));
    }
}
