//! A mark on the disk for as long as the operator wants to be on air.
//!
//! A power cut leaves it there, and then the box goes on by itself. Whoever stops a broadcast takes the mark away before
//! anything else is tried, so a box that could not close a broadcast, or was killed while it did, never goes on air again
//! by itself. Taking away needs no room on a full disk.
//!
//! The mark has another name while viewers are told of segments that are in memory only: the next life then knows that the
//! journal's last number is not the last that they have seen. Renaming needs no room either; on a disk that is read-only or
//! dead it cannot be done, and then numbers may come again after a power cut.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use node::BroadcastId;

const FILE: &str = "on-air";
const FROM_MEMORY: &str = "on-air-from-memory";

#[derive(Debug, Clone)]
pub(crate) struct OnAirMark {
    file: PathBuf,
    from_memory: PathBuf,
}

impl OnAirMark {
    pub(crate) fn in_dir(data_dir: &Path) -> OnAirMark {
        OnAirMark {
            file: data_dir.join(FILE),
            from_memory: data_dir.join(FROM_MEMORY),
        }
    }

    /// Marks a broadcast. Without the mark nothing is lost but the continuation after a power cut, so a failure is logged.
    pub(crate) fn set(&self, broadcast: BroadcastId) {
        let written = std::fs::write(&self.file, broadcast.to_string())
            .and_then(|()| std::fs::File::open(&self.file)?.sync_all());
        if let Err(error) = written {
            tracing::warn!(%error, "cannot mark the broadcast; it will not go on by itself after a power cut");
        }
    }

    pub(crate) fn clear(&self) {
        for file in [&self.file, &self.from_memory] {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::error!(%error, file = %file.display(), "cannot take the mark away; delete this file");
                }
                _ => {}
            }
        }
    }

    /// Viewers are told of what is in memory only, or no longer.
    pub(crate) fn set_from_memory(&self, from_memory: bool) {
        let (from, to) = match from_memory {
            true => (&self.file, &self.from_memory),
            false => (&self.from_memory, &self.file),
        };
        // Where there is none, the broadcast has been stopped, or was never opened.
        if let Err(error) = std::fs::rename(from, to)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot rename the mark; after a power cut numbers may come again");
        }
    }

    /// Whether viewers were told of what was in memory only when the last life ended.
    pub(crate) fn was_from_memory(&self) -> bool {
        self.from_memory.exists()
    }

    pub(crate) fn is(&self, broadcast: BroadcastId) -> bool {
        [&self.file, &self.from_memory].iter().any(|file| {
            std::fs::read_to_string(file).is_ok_and(|marked| marked == broadcast.to_string())
        })
    }
}
