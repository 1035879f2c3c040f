//! The HTTP origin's playlist: the plain one, with what a player needs to follow more closely, and what its requests ask to
//! wait for (rfc8216bis sections 4.4.3.7, 4.4.3.8, 4.4.4.9, 4.4.5.2 to 4, 6.2.5 and appendix B.1).
//!
//! A type of its own, so that the IPFS copy cannot carry these tags: a gateway that knows nothing of them would answer a
//! blocking reload with an old playlist.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

use crate::media::MediaDuration;
use crate::playlist::{self, MediaPlaylist, VERSION};

/// `EXT-X-SKIP` needs version 9 (rfc8216bis section 8).
const SKIP_VERSION: u32 = 9;

/// Segments at the end that list their parts: parts leave once they are more than three target durations from the end.
pub const SEGMENTS_WITH_PARTS: usize = 3;

/// `CAN-SKIP-UNTIL` in target durations (rfc8216bis 4.4.3.8: at least six).
const SKIP_UNTIL: u64 = 6;

/// `HOLD-BACK` in target durations, `PART-HOLD-BACK` in part targets: at least three, as Apple demands.
const HOLD_BACK: u32 = 3;

/// Segments beyond the last one that may be asked for (rfc8216bis 6.2.5.2).
const ADVANCE_SEGMENTS: u64 = 2;

#[derive(Debug, Clone, PartialEq)]
pub struct LowLatencyPlaylist {
    pub playlist: MediaPlaylist,
    /// Upper bound of a part.
    pub part_target: Duration,
    /// Parts of the last segments of `playlist`, oldest first.
    pub parts: Vec<Vec<PlaylistPart>>,
    /// The segment that follows the last one of `playlist` in its run, once it has begun.
    pub open: Option<OpenSegment>,
    /// Address of the part that comes next.
    pub preload_hint: Option<String>,
    pub reports: Vec<RenditionReport>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct PlaylistPart {
    pub uri: String,
    pub duration: MediaDuration,
    /// Starts with a keyframe.
    pub independent: bool,
}

/// A segment of which parts may be listed, but not itself.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSegment {
    pub program_date_time: Option<SystemTime>,
    pub parts: Vec<PlaylistPart>,
    /// It has all its parts.
    pub complete: bool,
}

/// How far another rendition has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    pub uri: String,
    pub last_msn: u64,
    /// Absent if the parts of the last segment are not known any more.
    pub last_part: Option<u32>,
}

/// How far a playlist has come: what a blocking reload is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Media sequence number of the last whole segment.
    pub last: u64,
    /// Number of its parts; `None` if they are not listed.
    pub last_parts: Option<u32>,
    /// Parts of the segment after it.
    pub open: u32,
    /// The segment after it has all its parts.
    pub open_complete: bool,
    pub ended: bool,
    /// Parts beyond the last one that may be asked for.
    pub advance_parts: u32,
}

/// What a request for a playlist asks for in its query (rfc8216bis section 6.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Directives {
    /// Wait until this segment is there, or `part` of it.
    pub msn: Option<u64>,
    pub part: Option<u32>,
    /// A delta update will do.
    pub skip: bool,
}

/// How to answer a request for a playlist at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    Ready,
    /// What is asked for comes soon.
    Wait,
    /// It is too far ahead: a bad request.
    TooFar,
}

/// A query that says nothing sensible: a bad request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    #[error("{0} must be a decimal integer")]
    NotANumber(&'static str),
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutMsn,
}

impl Directives {
    /// Reads the directives among the query's pairs; others are none of ours.
    pub fn from_query<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Directives, DirectiveError> {
        let mut directives = Directives::default();
        for (key, value) in pairs {
            match key {
                "_HLS_msn" => {
                    let msn = value.parse();
                    directives.msn = Some(msn.or(Err(DirectiveError::NotANumber("_HLS_msn")))?);
                }
                "_HLS_part" => {
                    let part = value.parse();
                    directives.part = Some(part.or(Err(DirectiveError::NotANumber("_HLS_part")))?);
                }
                // `v2` may leave out date ranges too, of which we have none.
                "_HLS_skip" => directives.skip = matches!(value, "YES" | "v2"),
                _ => {}
            }
        }
        if directives.part.is_some() && directives.msn.is_none() {
            return Err(DirectiveError::PartWithoutMsn);
        }
        Ok(directives)
    }
}

impl Edge {
    pub fn reload(&self, asked: Directives) -> Reload {
        let Some(msn) = asked.msn.filter(|_| !self.ended) else {
            return Reload::Ready;
        };
        let next = self.last + 1;
        if msn > self.last.saturating_add(ADVANCE_SEGMENTS) {
            return Reload::TooFar;
        }
        let Some(part) = asked.part else {
            return self.when(msn < next);
        };
        // A part beyond the last one of its segment means the first one of the next (rfc8216bis 6.2.5.2).
        if msn == self.last && self.last_parts.is_some_and(|parts| part >= parts) {
            return self.when(self.open > 0);
        }
        if msn == next && self.open_complete && part >= self.open {
            return Reload::Wait;
        }
        let newest = if msn == next { self.open } else { 0 };
        if msn >= next && part > newest.saturating_add(self.advance_parts) {
            return Reload::TooFar;
        }
        self.when(msn < next || msn == next && part < self.open)
    }

    fn when(&self, ready: bool) -> Reload {
        if ready { Reload::Ready } else { Reload::Wait }
    }
}

impl LowLatencyPlaylist {
    /// The whole playlist.
    pub fn full(&self) -> String {
        self.render(0)
    }

    /// The playlist without the segments that a player has seen already (`_HLS_skip=YES`), or the whole one if there is
    /// nothing to skip.
    pub fn delta(&self) -> String {
        let boundary = Duration::from_secs(self.playlist.target_duration * SKIP_UNTIL);
        let mut rest = Duration::ZERO;
        let mut kept = 0;
        for segment in self.playlist.segments.iter().rev() {
            kept += 1;
            rest += segment.duration.duration();
            if rest >= boundary {
                break;
            }
        }
        self.render(self.playlist.segments.len() - kept)
    }

    /// `None` while there is no segment.
    pub fn edge(&self) -> Option<Edge> {
        let open = self.open.as_ref();
        let segments = self.playlist.segments.len() as u64;
        Some(Edge {
            last: (self.playlist.media_sequence + segments).checked_sub(1)?,
            last_parts: self.parts.last().map(|parts| parts.len() as u32),
            open: open.map_or(0, |open| open.parts.len() as u32),
            open_complete: open.is_some_and(|open| open.complete),
            ended: self.playlist.ended,
            // rfc8216bis 6.2.5.2: three for parts of a second and more, else those of three seconds.
            advance_parts: (3.0 / self.part_target.as_secs_f64().clamp(0.01, 1.0)).ceil() as u32,
        })
    }

    fn render(&self, skipped: usize) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail, and dates are within the calendar.
        let _ = self.write(&mut out, skipped);
        out
    }

    fn write(&self, f: &mut String, skipped: usize) -> fmt::Result {
        let playlist = &self.playlist;
        playlist.write_head(f, if skipped > 0 { SKIP_VERSION } else { VERSION })?;
        let part_target = self.part_target.as_secs_f64();
        writeln!(
            f,
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={:.1},HOLD-BACK={:.1},PART-HOLD-BACK={:.3}",
            (playlist.target_duration * SKIP_UNTIL) as f64,
            (playlist.target_duration * u64::from(HOLD_BACK)) as f64,
            part_target * f64::from(HOLD_BACK)
        )?;
        writeln!(f, "#EXT-X-PART-INF:PART-TARGET={part_target:.3}")?;
        if skipped > 0 {
            writeln!(f, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}")?;
        }
        let segments = &playlist.segments;
        // The init segment of what was skipped is known to whoever asks for a delta.
        let mut map = match skipped {
            0 => None,
            skipped => Some(segments[skipped - 1].map.as_str()),
        };
        let without_parts = segments.len().saturating_sub(self.parts.len());
        for (i, segment) in segments.iter().enumerate().skip(skipped) {
            segment.write_head(f, &mut map)?;
            if let Some(parts) = i.checked_sub(without_parts).map(|i| &self.parts[i]) {
                write_parts(f, parts)?;
            }
            segment.write_uri(f)?;
        }
        if !playlist.ended {
            self.write_edge(f)?;
        }
        playlist.write_end(f)
    }

    /// What stands after the last segment.
    fn write_edge(&self, f: &mut String) -> fmt::Result {
        if let Some(open) = self.open.as_ref().filter(|open| !open.parts.is_empty()) {
            playlist::write_date(f, open.program_date_time)?;
            write_parts(f, &open.parts)?;
        }
        if let Some(uri) = &self.preload_hint {
            writeln!(f, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"")?;
        }
        for report in &self.reports {
            let (uri, msn) = (&report.uri, report.last_msn);
            write!(f, "#EXT-X-RENDITION-REPORT:URI=\"{uri}\",LAST-MSN={msn}")?;
            match report.last_part {
                Some(part) => writeln!(f, ",LAST-PART={part}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn write_parts(f: &mut String, parts: &[PlaylistPart]) -> fmt::Result {
    for part in parts {
        let seconds = part.duration.seconds();
        write!(f, "#EXT-X-PART:DURATION={seconds:.6},URI=\"{}\"", part.uri)?;
        f.write_str(if part.independent {
            ",INDEPENDENT=YES\n"
        } else {
            "\n"
        })?;
    }
    Ok(())
}
