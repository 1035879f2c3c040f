//! The HTTP origin's playlist: the plain one, with what a player needs to follow more closely (rfc8216bis sections 4.4.3.7,
//! 4.4.4.9, 4.4.5.2 to 4, 6.2.5 and appendix B.1).
//!
//! A type of its own, so that the IPFS copy cannot carry these tags: a gateway that knows nothing of them would answer a
//! blocking reload with an old playlist.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::media::MediaDuration;
use crate::playlist::{MediaPlaylist, PlaylistSegment, VERSION};

/// `EXT-X-SKIP` needs version 9 (rfc8216bis section 8).
const SKIP_VERSION: u32 = 9;

/// Segments at the end that list their parts: parts leave once they are more than three target durations from the end.
pub const SEGMENTS_WITH_PARTS: usize = 3;

/// `CAN-SKIP-UNTIL` in target durations (rfc8216bis 4.4.3.8: at least six).
const SKIP_UNTIL: u64 = 6;

/// `HOLD-BACK` in target durations, `PART-HOLD-BACK` in part targets: at least three, as Apple demands.
const HOLD_BACK: u32 = 3;

#[derive(Debug, Clone, PartialEq)]
pub struct LowLatencyPlaylist {
    pub playlist: MediaPlaylist,
    /// Upper bound of a part.
    pub part_target: Duration,
    /// Parts of the last segments of `playlist`, oldest first.
    pub parts: Vec<Vec<PlaylistPart>>,
    /// The segment that is being made.
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

/// A segment of which only parts exist.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSegment {
    /// `uri` and `duration` are not known yet and not written.
    pub head: PlaylistSegment,
    pub parts: Vec<PlaylistPart>,
}

/// How far another rendition has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenditionReport {
    pub uri: String,
    pub last_msn: u64,
    /// Absent if the last segment is complete.
    pub last_part: Option<u32>,
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

    fn render(&self, skipped: usize) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
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
            if let Some(open) = &self.open {
                open.head.write_head(f, &mut map)?;
                write_parts(f, &open.parts)?;
            }
            if let Some(uri) = &self.preload_hint {
                writeln!(f, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"")?;
            }
            for report in &self.reports {
                write!(
                    f,
                    "#EXT-X-RENDITION-REPORT:URI=\"{}\",LAST-MSN={}",
                    report.uri, report.last_msn
                )?;
                match report.last_part {
                    Some(part) => writeln!(f, ",LAST-PART={part}")?,
                    None => writeln!(f)?,
                }
            }
        }
        playlist.write_end(f)
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
