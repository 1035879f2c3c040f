//! A mark on the disk for as long as the operator wants to be on air.
//!
//! A power cut leaves it there, and then the box goes on by itself. Whoever stops a broadcast takes the mark away before
//! anything else is tried, so a box that could not close a broadcast, or was killed while it did, never goes on air again
//! by itself. Taking away needs no room on a full disk.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use node::BroadcastId;

const FILE: &str = "on-air";

#[derive(Debug, Clone)]
pub(crate) struct OnAirMark(PathBuf);

impl OnAirMark {
    pub(crate) fn in_dir(data_dir: &Path) -> OnAirMark {
        OnAirMark(data_dir.join(FILE))
    }

    /// Marks a broadcast. Without the mark nothing is lost but the continuation after a power cut, so a failure is logged.
    pub(crate) fn set(&self, broadcast: BroadcastId) {
        let written = std::fs::write(&self.0, broadcast.to_string())
            .and_then(|()| std::fs::File::open(&self.0)?.sync_all());
        if let Err(error) = written {
            tracing::warn!(%error, "cannot mark the broadcast; it will not go on by itself after a power cut");
        }
    }

    pub(crate) fn clear(&self) {
        match std::fs::remove_file(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::error!(%error, file = %self.0.display(), "cannot take the mark away; delete this file");
            }
            _ => {}
        }
    }

    pub(crate) fn is(&self, broadcast: BroadcastId) -> bool {
        std::fs::read_to_string(&self.0).is_ok_and(|marked| marked == broadcast.to_string())
    }
}
