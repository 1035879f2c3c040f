//! How files are called.

use std::fmt;
use std::ops::Range;

use crate::media::Rendition;

/// Directory entries per directory: a block of a directory is written anew with every segment (see `DESIGN`, decision 4).
const DIRECTORY: u64 = 256;

/// Where a part belongs. Its file name is unique for as long as the box lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartName {
    pub run: u64,
    pub media_sequence: u64,
    pub index: u32,
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run, msn, index) = (self.run, self.media_sequence, self.index);
        write!(f, "part-{run}-{msn}-{index}.m4s")
    }
}

impl PartName {
    /// Reads a file name.
    pub fn parse(name: &str) -> Option<PartName> {
        let numbers = name.strip_prefix("part-")?.strip_suffix(".m4s")?;
        let mut numbers = numbers.split('-');
        let name = PartName {
            run: numbers.next()?.parse().ok()?,
            media_sequence: numbers.next()?.parse().ok()?,
            index: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then_some(name)
    }
}

/// Where a broadcast's init segments lie. It must not change while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inits {
    InDirectories,
    /// As in broadcasts of earlier versions.
    BesidePlaylists,
}

impl Inits {
    pub const ALL: [Inits; 2] = [Inits::InDirectories, Inits::BesidePlaylists];

    /// Path of a run's init segment in the broadcast's directory: at most 256 a subdirectory.
    pub fn path(self, rendition: Rendition, run: u64) -> String {
        format!("{}/{}", rendition.name(), self.relative_path(run))
    }

    /// The path as seen from the rendition's playlists.
    pub(crate) fn relative_path(self, run: u64) -> String {
        let name = init_name(run);
        match self {
            Inits::InDirectories => format!("init/{:04}/{name}", run / DIRECTORY),
            Inits::BesidePlaylists => name,
        }
    }
}

/// File name of a run's init segment.
pub fn init_name(run: u64) -> String {
    format!("init-{run}.mp4")
}

/// File name of a segment.
pub fn segment_name(media_sequence: u64) -> String {
    format!("{media_sequence}.m4s")
}

/// Path of a segment in the broadcast's directory: at most 256 segments a subdirectory.
pub fn segment_path(rendition: Rendition, media_sequence: u64) -> String {
    format!("{}/{}", rendition.name(), relative_path(media_sequence))
}

/// Numbers of the segments that a subdirectory may have, by its path; nothing for another directory.
pub fn segments_in(dir: &str) -> Option<Range<u64>> {
    let (rendition, index) = dir.split_once('/')?;
    Rendition::ALL.iter().find(|it| it.name() == rendition)?;
    let first = index.parse::<u64>().ok()?.checked_mul(DIRECTORY)?;
    Some(first..first.checked_add(DIRECTORY)?)
}

/// The path of a segment as seen from the rendition's playlists.
pub(super) fn relative_path(media_sequence: u64) -> String {
    format!(
        "{:04}/{}",
        media_sequence / DIRECTORY,
        segment_name(media_sequence)
    )
}
