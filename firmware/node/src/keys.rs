//! The box's two keys: who it is (`identity.key`) and what its channel is called (`channel.key`).
//!
//! They are kept apart so that a channel's name can move to another box without the box's identity.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use cid::Cid;
use libp2p_identity::{KeyType, Keypair, PeerId};
use multibase::Base;
use multihash::Multihash;

use crate::OpenError;

/// Multicodec `libp2p-key`.
const LIBP2P_KEY: u64 = 0x72;

/// Reads the ed25519 key in libp2p's protobuf encoding, or makes it when there is no such file.
pub(crate) fn load_or_create(dir: &Path, name: &str) -> Result<Keypair, OpenError> {
    let path = dir.join(name);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let broken = |reason: String| OpenError::KeyBroken {
                path: path.clone(),
                reason,
            };
            let key = Keypair::from_protobuf_encoding(&bytes).map_err(|e| broken(e.to_string()))?;
            if key.key_type() != KeyType::Ed25519 {
                return Err(broken(format!(
                    "it is a key of type {}, not ed25519",
                    key.key_type()
                )));
            }
            tighten(&path);
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            create(dir, name, &encoded(&key)).map_err(|source| OpenError::io(dir, source))?;
            tracing::info!(path = %path.display(), "made a new key");
            Ok(key)
        }
        Err(source) => Err(OpenError::KeyUnreadable { path, source }),
    }
}

pub(crate) fn encoded(key: &Keypair) -> Vec<u8> {
    key.to_protobuf_encoding()
        .expect("an ed25519 key has a protobuf encoding")
}

/// IPNS name of a key: base36 CIDv1 with the codec libp2p-key (<https://specs.ipfs.tech/ipns/ipns-record/>).
pub(crate) fn ipns_name(key: &Keypair) -> String {
    let peer = PeerId::from_public_key(&key.public());
    let hash = Multihash::from_bytes(&peer.to_bytes()).expect("a peer id is a multihash");
    let cid = Cid::new_v1(LIBP2P_KEY, hash);
    cid.to_string_of_base(Base::Base36Lower)
        .expect("CIDv1 has a base36 form")
}

/// The file appears complete or not at all, and an existing one is never overwritten.
fn create(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    // Left by a process killed in the middle; the caller holds the directory's lock.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| std::fs::hard_link(&temporary, dir.join(name)));
    let removed = std::fs::remove_file(&temporary);
    linked.and(removed)?;
    std::fs::File::open(dir)?.sync_all()
}

/// A copied key often comes with a wider mode.
fn tighten(path: &Path) {
    let wide =
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
    if wide {
        tracing::warn!(path = %path.display(), "the key was readable by others; its mode is now 0600");
        if let Err(error) = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)) {
            tracing::warn!(path = %path.display(), %error, "cannot change the key's mode");
        }
    }
}
