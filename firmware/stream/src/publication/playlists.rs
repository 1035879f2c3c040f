//! The playlists that are stored with an update, and what they share with the origin's.

use std::time::Duration;

use bytes::Bytes;

use crate::media::Rendition;
use crate::playlist::{
    MediaPlaylist, MultivariantPlaylist, PlaylistSegment, PlaylistType, Variant,
};
use crate::rate::BOUND_PERCENT;

use super::names::relative_path;
use super::{File, PerRendition, Publication, Row, Tail, Video, from_milliseconds};

/// Segments to a leaf of `event.m3u8`: the last leaf is written anew with every segment, at most 6 KB of text.
pub const SEGMENTS_A_LEAF: usize = 64;

/// Segments of rows in order. `before` is what the playlist has before them.
pub(super) fn listed_segments<'a>(
    rendition: Rendition,
    mut before: Option<&'a Row>,
    rows: impl Iterator<Item = &'a Row>,
    uri: impl Fn(&Row) -> String,
    init: impl Fn(u64) -> String,
) -> Vec<PlaylistSegment> {
    rows.map(|row| {
        let hole = (before.replace(row))
            .is_some_and(|before| before.media_sequence + 1 != row.media_sequence);
        PlaylistSegment {
            uri: uri(row),
            duration: row.durations[rendition as usize],
            discontinuity: row.discontinuity || hole,
            map: init(row.run),
            program_date_time: row.program_date_time_ms.map(from_milliseconds),
        }
    })
    .collect()
}

impl Publication {
    /// The IPFS copy's playlists as they are with `row` at the end.
    pub(super) fn playlists(&self, row: Option<&Row>, finish: bool) -> Vec<File> {
        let text = |path: String, content: String| File {
            path,
            parts: vec![content.into()],
        };
        let mut files = match self.going_on {
            true => Vec::new(),
            false => self.attached.clone(),
        };
        for &rendition in self.renditions {
            let list = self.copied(rendition, row, self.settings.window, finish);
            let path = |name| format!("{}/{name}", rendition.name());
            files.push(text(path("live.m3u8"), list.to_string()));
            if finish {
                let vod = MediaPlaylist {
                    playlist_type: PlaylistType::Vod,
                    ..self.copied(rendition, row, usize::MAX, true)
                };
                files.push(text(path("vod.m3u8"), vod.to_string()));
            }
        }
        let mut totals = self.totals;
        if let Some(row) = row {
            totals.add(row, self.settings.segment);
        }
        let kinds = [
            Some(("index.m3u8", "live.m3u8")),
            Some(("event.m3u8", "event.m3u8")),
            finish.then_some(("vod.m3u8", "vod.m3u8")),
        ];
        for (path, name) in kinds.into_iter().flatten() {
            let uri = |rendition: Rendition| format!("{}/{name}", rendition.name());
            let index = self.multivariant(row.or(self.rows.last()), totals, uri);
            files.extend(index.map(|index| text(path.into(), index.to_string())));
        }
        files
    }

    /// What is new in each rendition's `event.m3u8` with `row` at the end.
    pub(super) fn tails(&self, row: Option<&Row>, finish: bool) -> Vec<Tail> {
        let rows = self.rows.len() + usize::from(row.is_some());
        let last = rows.saturating_sub(1) / SEGMENTS_A_LEAF;
        // An earlier life may have written less, or nothing: that is not known here, and the same leaves cost nothing.
        let keep = if self.going_on { last } else { 0 };
        (self.renditions.iter())
            .map(|&rendition| Tail {
                path: format!("{}/event.m3u8", rendition.name()),
                keep,
                leaves: (keep..=last)
                    .map(|leaf| self.event_leaf(rendition, row, leaf, finish && leaf == last))
                    .map(Bytes::from)
                    .collect(),
            })
            .collect()
    }

    /// A leaf of `event.m3u8`: the same text in every update once its segments are all there.
    fn event_leaf(
        &self,
        rendition: Rendition,
        row: Option<&Row>,
        leaf: usize,
        ended: bool,
    ) -> String {
        let first = leaf * SEGMENTS_A_LEAF;
        let before = first.checked_sub(1).map(|index| &self.rows[index]);
        let rows = self.rows[first.min(self.rows.len())..].iter().chain(row);
        let playlist = MediaPlaylist {
            playlist_type: PlaylistType::Event,
            ended,
            ..self.copied_rows(rendition, before, rows.take(SEGMENTS_A_LEAF))
        };
        match before {
            None => playlist.to_string(),
            Some(before) => playlist.continued(&self.settings.inits.relative_path(before.run)),
        }
    }

    /// A sliding playlist of the IPFS copy, or with a boundless window the whole of it, with `row` at the end.
    fn copied(
        &self,
        rendition: Rendition,
        row: Option<&Row>,
        window: usize,
        ended: bool,
    ) -> MediaPlaylist {
        // No less than three target durations may stay (RFC 8216 section 6.2.2), however short the segments are. All
        // renditions count with the shortest one, so that their playlists begin with the same segment.
        let (mut kept, mut length) = (0, 0.0);
        let mut after: Option<&Row> = None;
        for row in self.rows.iter().chain(row).rev() {
            // Numbers in a sliding playlist have no holes: behind one it begins anew.
            let hole = after.is_some_and(|after| row.media_sequence + 1 != after.media_sequence);
            let enough = kept >= window && length >= self.least_seconds();
            if enough || hole && window != usize::MAX {
                break;
            }
            after = Some(row);
            kept += 1;
            length += self.shortest(row);
        }
        let removed = self.rows.len() + usize::from(row.is_some()) - kept;
        let rows = self.rows.iter().chain(row).skip(removed);
        MediaPlaylist {
            ended,
            ..self.copied_rows(rendition, None, rows)
        }
    }

    /// `before` is what the playlist has before these rows.
    fn copied_rows<'a>(
        &self,
        rendition: Rendition,
        before: Option<&'a Row>,
        rows: impl Iterator<Item = &'a Row>,
    ) -> MediaPlaylist {
        let mut rows = rows.peekable();
        let first = rows.peek().copied();
        let uri = |row: &Row| relative_path(row.media_sequence);
        let init = |run| self.settings.inits.relative_path(run);
        MediaPlaylist {
            segments: listed_segments(rendition, before, rows, uri, init),
            ..self.empty_from(first)
        }
    }

    /// A playlist that begins with `first`.
    pub(super) fn empty_from(&self, first: Option<&Row>) -> MediaPlaylist {
        MediaPlaylist {
            playlist_type: PlaylistType::Sliding,
            target_duration: self.target_duration(),
            media_sequence: first.map_or(self.first.media_sequence, |row| row.media_sequence),
            // The number of the first segment, less the tag that stands before it in this very playlist.
            discontinuity_sequence: first.map_or(self.first.run, |row| {
                row.run.saturating_sub(u64::from(row.discontinuity))
            }),
            segments: Vec::new(),
            ended: false,
        }
    }

    /// Seconds.
    fn target_duration(&self) -> u64 {
        self.settings.segment.as_secs_f64().ceil() as u64
    }

    /// What a sliding playlist has at least.
    pub(super) fn least_seconds(&self) -> f64 {
        3.0 * self.target_duration() as f64
    }

    /// Seconds of the segment in the rendition in which it is shortest.
    pub(super) fn shortest(&self, row: &Row) -> f64 {
        let lengths = self.renditions.iter().zip(&row.durations);
        let lengths = lengths.map(|(_, duration)| duration.seconds());
        lengths.fold(f64::INFINITY, f64::min)
    }

    /// `last` is the last segment of the playlists that it names.
    pub(super) fn multivariant(
        &self,
        last: Option<&Row>,
        totals: Totals,
        uri: impl Fn(Rendition) -> String,
    ) -> Option<MultivariantPlaylist> {
        let last = last?;
        let variant = |rendition: Rendition, nominal: u64, bound: f64, picture| {
            let i = rendition as usize;
            let average = totals.bytes[i] as f64 * 8.0 / totals.seconds[i];
            Variant {
                uri: uri(rendition),
                codec: last.codecs[i].clone(),
                picture,
                bandwidth: (nominal as f64 * bound)
                    .max(totals.peak[i])
                    .max(average)
                    .ceil() as u64,
                average_bandwidth: average.ceil() as u64,
            }
        };
        // Rate control bounds a segment (`rate::BOUND_PERCENT`); AAC at a constant rate needs room for boxes only.
        let bound = f64::from(BOUND_PERCENT) / 100.0;
        let video =
            |rendition, video: Video| variant(rendition, video.bitrate, bound, Some(video.picture));
        let has = |rendition: &Rendition| self.renditions.contains(rendition);
        let videos = [
            (Rendition::Video, Some(self.settings.video)),
            (Rendition::Low, self.settings.low),
        ];
        let videos = videos.into_iter().filter(|(rendition, _)| has(rendition));
        has(&Rendition::Audio).then(|| MultivariantPlaylist {
            videos: videos
                .filter_map(|(rendition, settings)| Some(video(rendition, settings?)))
                .collect(),
            audio: variant(Rendition::Audio, self.settings.audio_bitrate, 1.1, None),
        })
    }
}

/// Sums over all rows, kept so that an update costs the same however long the broadcast is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    bytes: PerRendition<u64>,
    seconds: PerRendition<f64>,
    /// Bits per second of the largest segment.
    peak: PerRendition<f64>,
}

impl Totals {
    pub(super) fn add(&mut self, row: &Row, segment: Duration) {
        for i in 0..row.renditions().len() {
            let seconds = row.durations[i].seconds();
            self.bytes[i] += row.sizes[i];
            self.seconds[i] += seconds;
            // A run ends with a segment that may be a single frame long, and says nothing about the rate.
            if seconds * 2.0 > segment.as_secs_f64() {
                self.peak[i] = self.peak[i].max(row.sizes[i] as f64 * 8.0 / seconds);
            }
        }
    }
}
