//! The box's two keys: who it is (`identity.key`) and what its channel is called (`channel.key`).
//!
//! They are kept apart so that a channel's name can move to another box without the box's identity.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libp2p_identity::{KeyType, Keypair};

use crate::blocks::remove_file;
use crate::names::Name;
use crate::steps::step;
use crate::{CHANNEL_FILE, KeyError, OpenError};

/// Reads the ed25519 key in libp2p's protobuf encoding, or makes it when there is no such file.
pub(crate) fn load_or_create(dir: &Path, name: &str) -> Result<Keypair, OpenError> {
    let path = dir.join(name);
    match load(&path) {
        Ok(key) => {
            tighten(&path);
            Ok(key)
        }
        Err(OpenError::KeyUnreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let key = Keypair::generate_ed25519();
            create(dir, name, &encoded(&key)).map_err(|source| OpenError::io(dir, source))?;
            tracing::info!(path = %path.display(), "made a new key");
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

pub(crate) fn load(path: &Path) -> Result<Keypair, OpenError> {
    let bytes = std::fs::read(path).map_err(|source| OpenError::KeyUnreadable {
        path: path.to_owned(),
        source,
    })?;
    let broken = |reason: String| OpenError::KeyBroken {
        path: path.to_owned(),
        reason,
    };
    let key = Keypair::from_protobuf_encoding(&bytes).map_err(|e| broken(e.to_string()))?;
    match key.key_type() {
        KeyType::Ed25519 => Ok(key),
        other => Err(broken(format!("it is a key of type {other}, not ed25519"))),
    }
}

/// Writes a copy of the data directory's channel key to a file that does not exist yet, for its owner alone to read. It is in
/// the form that `ipfs key export` and `import` use.
pub fn export_channel(dir: &Path, file: &Path) -> Result<Name, KeyError> {
    let key = load(&dir.join(CHANNEL_FILE))?;
    let mut open = std::fs::OpenOptions::new();
    step().map_err(|source| KeyError::write(file, source))?;
    // Not by a link as within the data directory: a memory stick has none.
    let created = open.write(true).create_new(true).mode(0o600).open(file);
    let mut written = created.map_err(|source| KeyError::write(file, source))?;
    let result = step()
        .and_then(|()| written.write_all(&encoded(&key)))
        .and_then(|()| step())
        .and_then(|()| written.sync_all());
    if let Err(source) = result {
        // Half a key is worse than none, and it would be in the way of the next try.
        let _ = std::fs::remove_file(file);
        return Err(KeyError::write(file, source));
    }
    Ok(Name::of(&key))
}

/// A copied key that is a data directory's channel key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    pub name: Name,
    /// Where the one is that was there before.
    pub moved: Option<PathBuf>,
}

/// Makes a copied key the channel key of a data directory that has none, or whose own may be moved aside. No box may be running on
/// it. `prepare` is done before the key is there.
pub fn import_channel(
    dir: &Path,
    file: &Path,
    replace: bool,
    prepare: impl FnOnce() -> std::io::Result<()>,
) -> Result<Imported, KeyError> {
    let key = load(file)?;
    let _lock = crate::lock(dir)?;
    let path = dir.join(CHANNEL_FILE);
    let there = path.exists();
    if there && !replace {
        return Err(KeyError::HasOne { path });
    }
    prepare().map_err(|source| KeyError::write(dir, source))?;
    let moved = there.then(|| aside(dir)).transpose()?;
    let place = match moved {
        Some(_) => replace_with,
        None => create,
    };
    let placed = place(dir, CHANNEL_FILE, &encoded(&key));
    placed.map_err(|source| KeyError::write(&path, source))?;
    let name = Name::of(&key);
    Ok(Imported { name, moved })
}

/// Gives the channel's key a second name, by which its owner finds it.
fn aside(dir: &Path) -> Result<PathBuf, KeyError> {
    let path = dir.join(CHANNEL_FILE);
    let called = match load(&path) {
        Ok(key) => Name::of(&key).to_string(),
        Err(_) => "broken".to_owned(),
    };
    let to = dir.join(format!("channel-{called}.key"));
    let io = |source| KeyError::write(&to, source);
    match step().and_then(|()| std::fs::hard_link(&path, &to)) {
        // The same key, from an earlier time.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        linked => linked.map_err(io)?,
    }
    sync(dir).map_err(io)?;
    Ok(to)
}

pub(crate) fn encoded(key: &Keypair) -> Vec<u8> {
    key.to_protobuf_encoding()
        .expect("an ed25519 key has a protobuf encoding")
}

/// The file appears complete or not at all, and an existing one is never overwritten.
fn create(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = write_temporary(dir, name, bytes)?;
    let linked = step().and_then(|()| std::fs::hard_link(&temporary, dir.join(name)));
    let removed = std::fs::remove_file(&temporary);
    linked.and(removed)?;
    sync(dir)
}

/// There is one at every moment: the old or the new.
fn replace_with(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = write_temporary(dir, name, bytes)?;
    step()?;
    std::fs::rename(&temporary, dir.join(name))?;
    sync(dir)
}

/// What its files are called is durable then.
fn sync(dir: &Path) -> std::io::Result<()> {
    step()?;
    std::fs::File::open(dir)?.sync_all()
}

fn write_temporary(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
    let temporary = dir.join(format!("{name}.tmp"));
    // Left by a process killed in the middle; the caller holds the directory's lock.
    remove_file(&temporary)?;
    step()?;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    step()?;
    file.write_all(bytes)?;
    step()?;
    file.sync_all()?;
    Ok(temporary)
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

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;
    use crate::steps::{Refused, refusing};

    /// A box with a key, and a copy of another box's: where the disk refuses at any step there is one of the two at every moment, its own
    /// old one is not lost, the copy is as it was, and the import is done when it is asked for again.
    #[test]
    fn a_disk_that_refuses_at_any_step_of_an_import_loses_no_key() {
        let (own, other) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
        for (error, lasts) in [
            (Errno::NOSPC, true),
            (Errno::NOSPC, false),
            (Errno::IO, true),
            (Errno::IO, false),
            (Errno::ROFS, true),
        ] {
            for has_one in [true, false] {
                let mut steps = 0;
                loop {
                    let dir = tempfile::tempdir().unwrap();
                    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
                    let path = data.join(CHANNEL_FILE);
                    std::fs::create_dir(&data).unwrap();
                    std::fs::write(&copy, encoded(&other)).unwrap();
                    if has_one {
                        std::fs::write(&path, encoded(&own)).unwrap();
                    }
                    let import = || import_channel(&data, &copy, true, || Ok(()));
                    let (imported, refused) = refusing(steps, error, lasts, import);
                    let held = || match path.exists() {
                        true => Some(Name::of(&load(&path).unwrap())),
                        false => None,
                    };
                    let now = held();
                    let before = has_one.then(|| Name::of(&own));
                    assert!([before, Some(Name::of(&other))].contains(&now), "{steps}");
                    if has_one && now != before {
                        let kept = data.join(format!("channel-{}.key", Name::of(&own)));
                        assert_eq!(load(&kept).unwrap().public(), own.public());
                    }
                    let told = refused != Refused::None;
                    assert_eq!(imported.is_err(), told, "{error:?} at {steps}");
                    if let Err(told) = imported {
                        let told = told.to_string();
                        assert!(
                            told.contains("name a place that can be written to"),
                            "{told}"
                        );
                        assert_eq!(load(&copy).unwrap().public(), other.public());
                        import().unwrap();
                    }
                    assert_eq!(held(), Some(Name::of(&other)));
                    if !told {
                        break;
                    }
                    steps += 1;
                }
                // It makes, fills, syncs and places the key, and syncs the directory.
                assert!(steps >= 5, "{steps}");
            }
        }
    }
}
