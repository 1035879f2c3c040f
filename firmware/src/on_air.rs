//! A mark on the disk for as long as the operator wants to be on air.
//!
//! A power cut leaves it there, and then the box goes on by itself. Whoever stops a broadcast takes the mark away before
//! anything else is tried, so a box that could not close a broadcast, or was killed while it did, never goes on air again
//! by itself. Taking away needs no room on a full disk.
//!
//! The mark has another name while viewers are told of segments that are in memory only: the next life then knows that the
//! journal's last number is not the last that they have seen. A stop leaves a third name of it, which says that and nothing
//! else, and a broadcast that the store has not opened has only that. It stays until the numbers are durable. Renaming needs no
//! room, nor does an empty file; on a disk that is read-only or dead neither can be done, and then numbers may come again after a
//! restart.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use node::BroadcastId;

use crate::kept::{step, sync_dir};

const FILE: &str = "on-air";
const FROM_MEMORY: &str = "on-air-from-memory";
const NUMBERS_AHEAD: &str = "numbers-ahead";

#[derive(Debug, Clone)]
pub(crate) struct OnAirMark {
    file: PathBuf,
    from_memory: PathBuf,
    numbers_ahead: PathBuf,
    /// On a disk that the box could not begin on.
    left: Option<Box<OnAirMark>>,
}

impl OnAirMark {
    pub(crate) fn in_dir(data_dir: &Path) -> OnAirMark {
        OnAirMark {
            file: data_dir.join(FILE),
            from_memory: data_dir.join(FROM_MEMORY),
            numbers_ahead: data_dir.join(NUMBERS_AHEAD),
            left: None,
        }
    }

    /// Takes away that mark too: it must not put anybody on air once its disk is mended.
    pub(crate) fn with_left(self, left: OnAirMark) -> OnAirMark {
        OnAirMark {
            left: Some(Box::new(left)),
            ..self
        }
    }

    /// Marks a broadcast. Without the mark nothing is lost but the continuation after a power cut, so a failure is logged. What a full
    /// disk may leave is an empty file: somebody wants to be on air, and no broadcast goes on by it.
    pub(crate) fn set(&self, broadcast: BroadcastId) {
        let written = step()
            .and_then(|()| File::create(&self.file))
            .and_then(|mut file| {
                step()?;
                file.write_all(broadcast.to_string().as_bytes())?;
                step()?;
                file.sync_all()
            });
        if let Err(error) = written {
            tracing::warn!(%error, "cannot mark the broadcast; it will not go on by itself after a power cut");
        }
    }

    /// Nobody wants to be on air, also after a power cut in the next moment. Which numbers viewers have seen stays true.
    pub(crate) fn clear(&self) {
        // First what `set_from_memory` could give the mark's name at this moment.
        let renamed = rename(&self.from_memory, &self.numbers_ahead);
        let removed = remove(&self.file);
        let synced = match (&renamed, &removed) {
            (Ok(false), Ok(false)) => Ok(()),
            _ => sync_dir(&self.file),
        };
        for (done, file) in [
            (renamed.map(drop), &self.from_memory),
            (removed.and(synced), &self.file),
        ] {
            if let Err(error) = done {
                tracing::error!(%error, file = %file.display(), "cannot take the mark away; delete this file");
            }
        }
        if let Some(left) = &self.left {
            left.clear();
        }
    }

    /// Viewers are told of what is in memory only, or no longer: the journal knows a number behind all that they have seen.
    pub(crate) fn set_from_memory(&self, from_memory: bool) {
        let set = match from_memory {
            // Where there is no mark, the broadcast has been stopped, or was never opened.
            true => match rename(&self.file, &self.from_memory) {
                Ok(false) => step().and_then(|()| std::fs::write(&self.numbers_ahead, "")),
                renamed => renamed.map(drop),
            },
            false => rename(&self.from_memory, &self.file)
                .and_then(|_| remove(&self.numbers_ahead))
                .map(drop),
        };
        if let Err(error) = set {
            tracing::warn!(%error, "cannot rename the mark; after a restart numbers may come again");
        }
    }

    /// Whether viewers were told of what was in memory only, since the journal's last number.
    pub(crate) fn numbers_ahead(&self) -> bool {
        self.from_memory.exists() || self.numbers_ahead.exists()
    }

    /// Whether some broadcast is marked. On a disk that does not say, one may be.
    pub(crate) fn is_there(&self) -> bool {
        [&self.file, &self.from_memory]
            .iter()
            .any(|file| file.try_exists().unwrap_or(true))
    }

    pub(crate) fn is(&self, broadcast: BroadcastId) -> bool {
        [&self.file, &self.from_memory].iter().any(|file| {
            std::fs::read_to_string(file).is_ok_and(|marked| marked == broadcast.to_string())
        })
    }
}

/// Whether there was such a file.
fn there(done: io::Result<()>) -> io::Result<bool> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        done => done.map(|()| true),
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<bool> {
    there(step().and_then(|()| std::fs::rename(from, to)))
}

fn remove(file: &Path) -> io::Result<bool> {
    there(step().and_then(|()| std::fs::remove_file(file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kept::refusal;

    #[test]
    fn where_nobody_can_tell_a_broadcast_may_be_marked() {
        let dir = tempfile::tempdir().unwrap();
        let mark = OnAirMark::in_dir(dir.path());
        assert!(!mark.is_there());
        // An error that is not `NotFound`, as of a disk that fails.
        std::os::unix::fs::symlink(FILE, dir.path().join(FILE)).unwrap();
        assert!(mark.is_there());
    }

    /// A full, broken or read-only disk at any step of what a broadcast does with its mark: who is on air stays so unless it was to be
    /// another, what viewers have seen is not forgotten, and once the disk is well a stop takes the mark away.
    #[test]
    fn a_disk_that_refuses_at_any_step_neither_stops_nor_starts_anybody() {
        let id = BroadcastId::from(7);
        type Act = fn(&OnAirMark);
        // Whether it is still the same one on air, and whether viewers have still seen more than is stored.
        let acts: [(Act, bool, bool); 4] = [
            (|mark| mark.set(BroadcastId::from(8)), false, true),
            (|mark| mark.set_from_memory(true), true, true),
            (|mark| mark.set_from_memory(false), true, false),
            (|mark| mark.clear(), false, true),
        ];
        // None has as many.
        const STEPS: u64 = 4;
        let ways = (0..STEPS).flat_map(refusal::after);
        for (disk, from_memory) in ways.flat_map(|disk| [(disk, false), (disk, true)]) {
            for (act, same, ahead) in acts {
                let dir = tempfile::tempdir().unwrap();
                let mark = OnAirMark::in_dir(dir.path());
                mark.set(id);
                mark.set_from_memory(from_memory);
                disk.with(|| act(&mark));
                assert!(!same || mark.is(id), "{disk:?}");
                assert!(!(ahead && from_memory) || mark.numbers_ahead(), "{disk:?}");
                mark.clear();
                assert!(!mark.is_there(), "{disk:?}");
            }
        }
    }

    /// The place that a mark has on a full disk may have no room for what it says.
    #[test]
    fn a_mark_that_was_cut_short_is_no_broadcasts_and_still_somebodys() {
        let ids = [7, 8].map(BroadcastId::from);
        let marked = |disk: refusal::Disk| {
            let dir = tempfile::tempdir().unwrap();
            let mark = OnAirMark::in_dir(dir.path());
            mark.set(ids[0]);
            disk.with(|| mark.set(ids[1]));
            assert!(mark.is_there(), "{disk:?}");
            ids.map(|id| mark.is(id))
        };
        // Not made, made and empty, written and not durable, done.
        for (steps, expected) in
            (0..).zip([[true, false], [false, false], [false, true], [false, true]])
        {
            for disk in refusal::after(steps) {
                assert_eq!(marked(disk), expected, "{disk:?}");
            }
        }
    }

    #[test]
    fn a_stop_takes_the_mark_and_leaves_what_is_known_of_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let mark = OnAirMark::in_dir(dir.path());
        let id = BroadcastId::from(7);
        let check = |wanted: bool, ahead: bool| {
            assert_eq!((mark.is(id), mark.numbers_ahead()), (wanted, ahead));
        };
        check(false, false);
        mark.set(id);
        check(true, false);
        mark.set_from_memory(true);
        check(true, true);
        mark.set_from_memory(false);
        check(true, false);
        mark.set_from_memory(true);
        mark.clear();
        check(false, true);
        // Of the next one a segment is stored.
        mark.set(id);
        check(true, true);
        mark.set_from_memory(false);
        check(true, false);
        mark.clear();
        check(false, false);
        // Never opened.
        mark.set_from_memory(true);
        check(false, true);
        mark.clear();
        check(false, true);
    }
}
