//! The channel's name: signed IPNS records (<https://specs.ipfs.tech/ipns/ipns-record/>).
//!
//! A **name** is a public key; its **record** says which root it means now, is signed with the key and numbered: of two
//! records the one with the higher sequence counts. The writer signs with every update, in the same commit, so that the
//! record and what it names are durable together and a number is never used twice.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use cid::Cid;
use libp2p_identity::{Keypair, PeerId};
use multibase::Base;
use multihash::Multihash;
use rust_ipns::Record;

/// How long a resolver may keep a record: about a segment, since the next one names another root.
pub const TTL: Duration = Duration::from_secs(2);

/// How long a record is valid: as long as the DHT keeps it.
pub const LIFETIME: Duration = Duration::from_secs(48 * 3600);

/// A record is signed again when half of its life is over.
const SIGN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Bytes of a record at most (IPNS Record and Protocol, section 4.3).
pub const MAX_RECORD: usize = 10 << 10;

/// Multicodec `libp2p-key`.
const LIBP2P_KEY: u64 = 0x72;

/// An IPNS name. Its text is base36 (`k51…`); it is read in any form: base32, base58 as a peer id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(PeerId);

impl Name {
    pub(crate) fn of(key: &Keypair) -> Name {
        Name(PeerId::from_public_key(&key.public()))
    }

    /// The key of its records in the DHT: `/ipns/` and the multihash.
    pub(crate) fn routing_key(&self) -> Vec<u8> {
        [b"/ipns/", self.0.to_bytes().as_slice()].concat()
    }

    /// The topic of IPNS over PubSub (<https://specs.ipfs.tech/ipns/ipns-pubsub-router/>).
    pub(crate) fn topic(&self) -> String {
        format!("/record/{}", Base::Base64Url.encode(self.routing_key()))
    }
}

/// The sequence of a message of IPNS over PubSub that is a record of its topic's name.
pub(crate) fn sequence(topic: &str, message: &[u8]) -> Option<u64> {
    let key = Base::Base64Url.decode(topic.strip_prefix("/record/")?);
    let name = PeerId::from_bytes(key.ok()?.strip_prefix(b"/ipns/")?);
    let record = NameRecord::verify(&Name(name.ok()?), Bytes::copy_from_slice(message)).ok()?;
    (message.len() <= MAX_RECORD).then_some(record.sequence)
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hash = Multihash::from_bytes(&self.0.to_bytes()).expect("a peer id is a multihash");
        let text = Cid::new_v1(LIBP2P_KEY, hash).to_string_of_base(Base::Base36Lower);
        f.write_str(&text.expect("CIDv1 has a base36 form"))
    }
}

/// The text is no IPNS name.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an IPNS name: copy the whole of it, from k51 or 12D3Koo to its end")]
pub struct NameError(String);

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        if let Ok(peer) = PeerId::from_str(text) {
            return Ok(Name(peer));
        }
        // The crate's parser would take what stands before an `/ipfs/`, too.
        let cid = Cid::from_str(text).ok().filter(|_| !text.contains('/'));
        cid.filter(|cid| cid.codec() == LIBP2P_KEY)
            .and_then(|cid| PeerId::from_bytes(&cid.hash().to_bytes()).ok())
            .map(Name)
            .ok_or_else(|| NameError(text.to_owned()))
    }
}

/// A signed IPNS record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord {
    pub root: Cid,
    /// Rises with every record, also where the key moves to another box.
    pub sequence: u64,
    pub expires: SystemTime,
    /// As it is published.
    pub bytes: Bytes,
}

/// Why bytes are not a record of a name.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("it is not a record of this name ({0})")]
    Invalid(String),
    #[error("it names {0:?}, which is no root")]
    NoRoot(String),
}

impl NameRecord {
    /// Reads a record and verifies that the name's key has signed it. Whether it has expired is not looked at: that takes a
    /// clock.
    pub fn verify(name: &Name, bytes: Bytes) -> Result<NameRecord, RecordError> {
        let invalid = |error: rust_ipns::Error| RecordError::Invalid(error.to_string());
        let record = Record::decode(&bytes).map_err(invalid)?;
        record.verify_signature(name.0).map_err(invalid)?;
        let value = String::from_utf8_lossy(record.value());
        let root = value
            .strip_prefix("/ipfs/")
            .and_then(|root| root.parse().ok())
            .ok_or_else(|| RecordError::NoRoot(value.clone().into_owned()))?;
        Ok(NameRecord {
            root,
            sequence: record.sequence(),
            expires: record.validity().map_err(invalid)?.into(),
            bytes,
        })
    }
}

/// 2100-01-01T00:00:00Z in milliseconds. No clock says more, so no signer of ours has used it; and after the highest number there is, of
/// which the key's other holder may have signed one, none would be left.
pub(crate) const HIGHEST_BELIEVED: u64 = 4_102_444_800_000;

/// Wall time, or nothing while the clock has not been set.
pub(crate) type Clock = Arc<dyn Fn() -> Option<SystemTime> + Send + Sync>;

/// Signs the channel's records.
pub(crate) struct Signer {
    /// A mirror has none: the name is another box's.
    key: Option<Keypair>,
    name: Name,
    clock: Clock,
    /// The highest sequence that was heard of the name and is not of the last record kept here; 0 before any.
    heard: AtomicU64,
}

impl Signer {
    pub(crate) fn new(key: Keypair, clock: Clock) -> Signer {
        let name = Name::of(&key);
        Signer {
            key: Some(key),
            name,
            clock,
            heard: AtomicU64::new(0),
        }
    }

    /// A record of the name with this sequence has been published, and it is not the last one kept here, nor one before it: the next
    /// is signed above it, or followers would drop that as older. Returns whether such records rise, so that somebody goes on signing
    /// them: what is published again and stands still may be from a life that this box's disk has lost.
    pub(crate) fn hear(&self, sequence: u64) -> bool {
        if sequence > HIGHEST_BELIEVED {
            return true;
        }
        let before = self.heard.fetch_max(sequence, Ordering::Relaxed);
        (1..sequence).contains(&before)
    }

    /// Signs nothing: a mirror passes on what the name's own key has signed.
    pub(crate) fn following(name: Name) -> Signer {
        Signer {
            key: None,
            name,
            clock: Arc::new(|| None),
            heard: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> Name {
        self.name
    }

    /// Whether it is a mirror's.
    pub(crate) fn follows(&self) -> bool {
        self.key.is_none()
    }

    /// The record after `last` that names `root`, if one is needed and the clock can be believed: a record that is valid
    /// until a wrong time would be refused, or outlive its successors.
    ///
    /// The sequence is the wall time in milliseconds, or one more than the last where that is not higher. So it goes on
    /// rising where the key has moved to a box that does not know the last one.
    pub(crate) fn next(&self, root: Cid, last: Option<&NameRecord>) -> Option<NameRecord> {
        let key = self.key.as_ref()?;
        let now = (self.clock)()?;
        if last.is_some_and(|last| last.root == root && last.expires >= now + SIGN_AGAIN) {
            return None;
        }
        let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let sequence = (last.map_or(0, |last| last.sequence + 1))
            .max(self.heard.load(Ordering::Relaxed) + 1)
            .max(since_epoch.as_millis() as u64);
        // Where the clock has gone back, its successor shall not be refused before the last one.
        let expires = last.map_or(now, |last| last.expires).max(now + LIFETIME);
        let (value, eol) = (format!("/ipfs/{root}"), DateTime::<Utc>::from(expires));
        let signed = Record::new(key, value, eol, sequence, TTL);
        match signed.and_then(|record| record.encode()) {
            Ok(bytes) => Some(NameRecord {
                root,
                sequence,
                expires,
                bytes: bytes.into(),
            }),
            Err(error) => {
                tracing::error!(%error, "the name's record cannot be signed");
                None
            }
        }
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::Leaf;

    use super::*;

    fn root(text: &str) -> Cid {
        Leaf::split(text.to_owned().into())[0].cid()
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signer(key: &Keypair, now: Option<SystemTime>) -> Signer {
        Signer::new(key.clone(), Arc::new(move || now))
    }

    const NOW: u64 = 1_790_000_000;

    #[test]
    fn names_are_read_in_every_form() {
        let name = Name::of(&Keypair::generate_ed25519());
        let text = name.to_string();
        let cid: Cid = text.parse().unwrap();
        let base32 = cid.to_string_of_base(Base::Base32Lower).unwrap();
        assert!(text.starts_with("k51"));
        for form in [text, base32, name.0.to_base58()] {
            assert_eq!(form.parse::<Name>().unwrap(), name, "{form}");
        }
        for text in ["", "k51", &root("a file").to_string()] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn records_come_back_and_only_under_their_name() {
        let key = Keypair::generate_ed25519();
        let signer = signer(&key, Some(at(NOW)));
        let record = signer.next(root("a"), None).unwrap();
        assert_eq!(record.expires, at(NOW) + LIFETIME);
        let read = NameRecord::verify(&signer.name(), record.bytes.clone()).unwrap();
        assert_eq!(read, record);
        let other = Name::of(&Keypair::generate_ed25519());
        assert!(NameRecord::verify(&other, record.bytes.clone()).is_err());
        for at in 0..record.bytes.len() {
            let mut bytes = record.bytes.to_vec();
            bytes[at] ^= 1;
            if let Ok(read) = NameRecord::verify(&signer.name(), bytes.into()) {
                // The legacy signature, which nobody looks at.
                assert_eq!((read.root, read.sequence), (record.root, record.sequence));
            }
        }
    }

    #[test]
    fn the_sequence_never_falls() {
        let key = Keypair::generate_ed25519();
        let first = signer(&key, Some(at(NOW))).next(root("a"), None).unwrap();
        // The clock stands still, and goes back.
        for now in [NOW, NOW - 1000] {
            let next = signer(&key, Some(at(now))).next(root("b"), Some(&first));
            assert_eq!(next.unwrap().sequence, first.sequence + 1);
        }
        // The key has moved to a box that knows no record.
        let moved = signer(&key, Some(at(NOW + 1))).next(root("c"), None);
        assert!(moved.unwrap().sequence > first.sequence);
    }

    #[test]
    fn what_others_have_signed_is_outdone_as_far_as_a_clock_can_say() {
        let key = Keypair::generate_ed25519();
        let it = signer(&key, Some(at(NOW)));
        let next = || it.next(root("a"), None).unwrap().sequence;
        assert!(!it.hear(NOW * 1000 + 7), "it may be a record of its own");
        assert_eq!(next(), NOW * 1000 + 8);
        assert!(!it.hear(NOW * 1000 + 7), "again");
        assert!(!it.hear(NOW * 1000 + 3), "an earlier one");
        assert!(it.hear(NOW * 1000 + 9), "somebody goes on signing");
        assert_eq!(next(), NOW * 1000 + 10);
        assert!(it.hear(u64::MAX) && it.hear(HIGHEST_BELIEVED + 1));
        assert_eq!(next(), NOW * 1000 + 10);
    }

    /// A clock that goes on from the last shutdown, a week ago, is set; and one that was right goes back.
    #[test]
    fn a_clock_that_leaps_leaves_no_record_expired() {
        const WEEK: u64 = 7 * 24 * 3600;
        let key = Keypair::generate_ed25519();
        let next = |now, last: &NameRecord| signer(&key, Some(at(now))).next(root("b"), Some(last));
        let stale = signer(&key, Some(at(NOW))).next(root("b"), None).unwrap();
        let set = next(NOW + WEEK, &stale).expect("it has expired");
        assert_eq!(set.expires, at(NOW + WEEK) + LIFETIME);
        assert!(next(NOW, &set).is_none());
        let back = signer(&key, Some(at(NOW))).next(root("c"), Some(&set));
        let back = back.unwrap();
        assert_eq!(
            (back.expires, back.sequence),
            (set.expires, set.sequence + 1)
        );
    }

    #[test]
    fn a_record_is_signed_again_in_time_and_only_with_a_clock() {
        let key = Keypair::generate_ed25519();
        let first = signer(&key, Some(at(NOW))).next(root("a"), None).unwrap();
        let hours = |hours: u64| at(NOW + hours * 3600);
        for (now, root_then, signed) in [
            (Some(hours(0)), root("a"), false),
            (Some(hours(24)), root("a"), false),
            (Some(hours(25)), root("a"), true),
            (Some(hours(0)), root("b"), true),
            (None, root("b"), false),
        ] {
            let next = signer(&key, now).next(root_then, Some(&first));
            assert_eq!(next.is_some(), signed, "{now:?}");
        }
    }
}
