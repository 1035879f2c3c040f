//! What the journal has of each segment, and the numbers that go on from there.

use serde::{Deserialize, Serialize};

use crate::media::{MediaDuration, Rendition};

/// One segment of all renditions, as the journal keeps it. Its lists are in the order of [`Rendition::ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub media_sequence: u64,
    /// Number of the continuity run: the discontinuity sequence number of its segments.
    pub run: u64,
    /// First of its run, and not the first of the broadcast. A playlist has a discontinuity also where numbers are missing.
    pub discontinuity: bool,
    /// RFC 6381 codecs of the run.
    pub codecs: Vec<String>,
    /// Wall time of the start, milliseconds since 1970.
    pub program_date_time_ms: Option<u64>,
    /// What the wall clock read when it was given to the store, milliseconds since 1970. Dates do not follow a clock that leaps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_ms: Option<u64>,
    pub durations: Vec<MediaDuration>,
    /// Bytes.
    pub sizes: Vec<u64>,
}

impl Row {
    /// Wall time by which viewers had it, as far as is known, milliseconds since 1970.
    pub fn seen_ms(&self) -> Option<u64> {
        self.published_ms.or(self.program_date_time_ms)
    }

    /// Renditions of which it tells everything.
    pub(super) fn renditions(&self) -> &'static [Rendition] {
        let told = (self.codecs.len())
            .min(self.durations.len())
            .min(self.sizes.len());
        &Rendition::ALL[..told.min(Rendition::ALL.len())]
    }
}

/// The rows of a broadcast that cannot be its rows: the journal is damaged, or another program has written it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("row {index} of the journal cannot be: {why}")]
pub struct RowError {
    pub index: usize,
    pub why: &'static str,
}

/// The last millisecond that has a date (RFC 3339 section 5.6 has four digits for the year).
const LAST_DATE_MS: u64 = 253_402_300_799_999;

/// No number or length of a row comes near this, and sums of them stay exact.
const ABSURD: u64 = 1 << 48;

/// Bytes, and no segment comes near this. In a segment of a single tick it still gives a rate that 64 bits can tell.
const LARGEST_SEGMENT: u64 = 1 << 36;

/// Whether `rows` can be those of a broadcast that began with `first`. What comes out of a journal has to pass before
/// [`Publication::recovered`](super::Publication::recovered) takes it.
pub fn check_rows(first: Numbers, rows: &[Row]) -> Result<(), RowError> {
    let mut next = first;
    for (index, row) in rows.iter().enumerate() {
        let fault = |why| Err(RowError { index, why });
        if row.media_sequence < next.media_sequence || row.media_sequence >= ABSURD {
            return fault("its media sequence number is not the next");
        }
        // Where segments were lost or not stored, so may have been whole runs.
        let hole = row.media_sequence > next.media_sequence;
        let begins = index > 0 && row.discontinuity;
        let follows = row.run == next.run + u64::from(begins && !hole);
        if !(follows || hole && row.run > next.run) || row.run >= ABSURD {
            return fault("its run is not the next");
        }
        if index == 0 && !hole && row.discontinuity {
            return fault("nothing is before its discontinuity");
        }
        if row.renditions().len() < 2 {
            return fault("it does not tell of video and audio");
        }
        for (rendition, duration) in Rendition::ALL.into_iter().zip(&row.durations) {
            if duration.timescale != rendition.timescale() || !(1..ABSURD).contains(&duration.ticks)
            {
                return fault("it has no length");
            }
        }
        if row.sizes.iter().any(|size| *size >= LARGEST_SEGMENT) {
            return fault("it is larger than any segment");
        }
        let times = [row.program_date_time_ms, row.published_ms];
        if times.iter().flatten().any(|ms| *ms > LAST_DATE_MS) {
            return fault("its date is after the year 9999");
        }
        next = Numbers {
            media_sequence: row.media_sequence + 1,
            run: row.run,
        };
    }
    Ok(())
}

/// The rows of which `lost` does not say that their segments are gone: [`check_rows`] accepts them if it accepted all.
pub fn rows_without(rows: Vec<Row>, lost: impl Fn(&Row) -> bool) -> Vec<Row> {
    let mut kept: Vec<Row> = rows.into_iter().filter(|row| !lost(row)).collect();
    if let Some(first) = kept.first_mut() {
        first.discontinuity = false;
    }
    kept
}

/// Which numbers come next. They rise for as long as the box lives, across broadcasts and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    pub media_sequence: u64,
    pub run: u64,
}

impl Numbers {
    /// What comes next behind a row.
    pub fn after(last: &Row) -> Numbers {
        Numbers {
            media_sequence: last.media_sequence + 1,
            run: last.run + 1,
        }
    }

    /// The higher of each.
    pub fn max(self, other: Numbers) -> Numbers {
        Numbers {
            media_sequence: self.media_sequence.max(other.media_sequence),
            run: self.run.max(other.run),
        }
    }
}
