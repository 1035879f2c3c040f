//! The files of rust-ipfs's block store: one a block, at `<shard>/<CID>.data`.
//!
//! rust-ipfs writes each block with two fsyncs of its own, while it holds the lock that every reader needs. A segment has
//! twenty blocks, and what must be durable together may be synced together: so they are written here, in its layout, and it
//! reads them. Nobody can have asked for a block before it is stored, so it misses nothing when it is not told.

use std::fs::File;
use std::io::{ErrorKind, Result, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cid::Cid;

use crate::cids::Lengths;

use crate::steps::step;

/// The directory of blocks. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Blocks {
    dir: PathBuf,
    /// Open since the start: the kernel tells this descriptor of every write that failed since then.
    file_system: Arc<File>,
}

/// What lies in the directory.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Bytes of each block's file.
    pub(crate) blocks: Lengths,
    /// Unfinished files: a killed process leaves at most one for each block that was being written.
    pub(crate) temporary: Vec<PathBuf>,
}

impl Blocks {
    /// Opens the directory of a repository and makes it if need be.
    pub(crate) fn open(repo: &Path) -> Result<Blocks> {
        let dir = repo.join("blockstore");
        std::fs::create_dir_all(&dir)?;
        let file_system = Arc::new(File::open(&dir)?);
        Ok(Blocks { dir, file_system })
    }

    /// Writes blocks; they are durable when it returns, with one sync for all. A CID must be that of its bytes. What lies there
    /// already is read: a power cut may have left a file of the right length that is another one.
    ///
    /// After an error any of the blocks may be there, each of them whole.
    pub(crate) fn put(&self, blocks: &[(Cid, Bytes)]) -> Result<()> {
        for (cid, bytes) in blocks {
            let path = self.path(cid);
            if self
                .get(cid)
                .is_ok_and(|there| there.as_ref() == Some(bytes))
            {
                continue;
            }
            let temporary = path.with_extension("data.tmp");
            let written = write(&temporary, bytes)
                .and_then(|()| step())
                .and_then(|()| std::fs::rename(&temporary, path));
            if let Err(error) = written {
                let _ = std::fs::remove_file(temporary);
                return Err(error);
            }
        }
        step()?;
        rustix::fs::syncfs(&*self.file_system)?;
        Ok(())
    }

    /// Reads a block as it lies there: whether it is what its CID says has not been looked at.
    pub(crate) fn get(&self, cid: &Cid) -> Result<Option<Bytes>> {
        match std::fs::read(self.path(cid)) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn has(&self, cid: &Cid) -> Result<bool> {
        self.path(cid).try_exists()
    }

    /// Bytes of a block's file, if it is there.
    pub(crate) fn length(&self, cid: &Cid) -> Result<Option<u64>> {
        match std::fs::metadata(self.path(cid)) {
            Ok(file) => Ok(Some(file.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes blocks; one that is not there is no error. Who is reading one reads it to its end.
    pub(crate) fn remove(&self, cids: &[Cid]) -> Result<()> {
        for cid in cids {
            remove_file(&self.path(cid))?;
        }
        Ok(())
    }

    pub(crate) fn list(&self) -> Result<Listing> {
        let mut listing = Listing::default();
        for shard in std::fs::read_dir(&self.dir)? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(shard.path())? {
                let file = file?;
                let path = file.path();
                if path.extension().is_some_and(|extension| extension == "tmp") {
                    listing.temporary.push(path);
                    continue;
                }
                let cid = path.file_stem().and_then(|stem| stem.to_str());
                if let Some(cid) = cid.and_then(|stem| stem.parse().ok())
                    && self.path(&cid) == path
                {
                    listing.blocks.push(cid, file.metadata()?.len());
                }
            }
        }
        listing.blocks.sort();
        Ok(listing)
    }

    /// The block's file. The shard is the last two characters but one.
    pub(crate) fn path(&self, cid: &Cid) -> PathBuf {
        let name = cid.to_string();
        let shard = (name.len().checked_sub(3)).map_or("_", |start| &name[start..start + 2]);
        self.dir.join(shard).join(format!("{name}.data"))
    }
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_file(path: &Path) -> Result<()> {
    step()?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    step()?;
    let mut file = match File::create(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            File::create(path)?
        }
        file => file?,
    };
    step()?;
    file.write_all(bytes)
}
