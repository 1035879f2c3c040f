//! What viewers of the HTTP origin get, who see the parts of the segment that follows, too.

use bytes::Bytes;

use crate::low_latency::{LowLatencyPlaylist, OpenSegment, PlaylistPart, RenditionReport};
use crate::media::Rendition;
use crate::playlist::{MediaPlaylist, MultivariantPlaylist};

use super::names::{PartName, init_name, segment_name};
use super::playlists::listed_segments;
use super::{Date, Part, PerRendition, Place, Publication, Row, from_milliseconds};

/// A part that viewers may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPart<'a> {
    pub rendition: Rendition,
    pub name: PartName,
    pub bytes: &'a Bytes,
}

/// A segment that may follow the last published one: what there is of it.
struct Coming<'a> {
    place: Place,
    media_sequence: u64,
    run: u64,
    date: Date,
    parts: PerRendition<&'a [Part]>,
    complete: PerRendition<bool>,
}

impl Coming<'_> {
    /// Parts that may be listed: the segment's date stands before the first one and never changes.
    fn listable(&self, rendition: Rendition) -> &[Part] {
        match self.date {
            Date::Open => &[],
            Date::Told(_) => self.parts[rendition as usize],
        }
    }

    fn listed(&self, rendition: Rendition) -> OpenSegment {
        let parts = self.listable(rendition);
        OpenSegment {
            program_date_time: self.date.milliseconds().map(from_milliseconds),
            parts: listed(rendition, self.run, self.media_sequence, parts),
            complete: self.complete[rendition as usize],
        }
    }
}

fn listed(
    rendition: Rendition,
    run: u64,
    media_sequence: u64,
    parts: &[Part],
) -> Vec<PlaylistPart> {
    let name = |index| PartName {
        run,
        media_sequence,
        index,
    };
    (parts.iter().zip(0..))
        .map(|(part, index)| PlaylistPart {
            uri: format!("{}/{}", rendition.name(), name(index)),
            duration: part.duration,
            independent: part.independent,
        })
        .collect()
}

impl Publication {
    /// The HTTP origin's playlist of one rendition: `/live/video.m3u8`. `None` before the first segment, and for a rendition
    /// that there is not.
    pub fn origin(&self, rendition: Rendition) -> Option<LowLatencyPlaylist> {
        let last = (self.newest()).filter(|_| self.renditions.contains(&rendition))?;
        let uri = |row: &Row| format!("{}/{}", rendition.name(), segment_name(row.media_sequence));
        let init = |run| format!("{}/{}", rendition.name(), init_name(run));
        let first = self.shown.front().map(|it| &it.row);
        let rows = self.shown.iter().map(|it| &it.row);
        let playlist = MediaPlaylist {
            segments: listed_segments(rendition, None, rows, uri, init),
            ended: self.finished || self.abandoned && self.drained(),
            ..self.empty_from(first)
        };
        let mut coming = self.coming();
        let open = coming.next();
        let hint = self.next_part(rendition, last, open.as_ref(), coming.next().as_ref());
        Some(LowLatencyPlaylist {
            playlist,
            part_target: self.settings.part,
            parts: (self.with_parts())
                .map(|(row, parts)| {
                    let parts = &parts[rendition as usize];
                    listed(rendition, row.run, row.media_sequence, parts)
                })
                .collect(),
            open: open.map(|open| open.listed(rendition)),
            preload_hint: hint.map(|name| format!("{}/{name}", rendition.name())),
            reports: (self.renditions.iter().copied())
                .filter(|other| *other != rendition)
                .map(|other| self.report(other, last))
                .collect(),
        })
    }

    /// Parts of the last published segments and of those that follow, in order: what may be asked for under its name.
    pub fn origin_parts(&self) -> impl Iterator<Item = NamedPart<'_>> {
        let stored = (self.with_parts()).map(|(row, parts)| {
            (
                row.run,
                row.media_sequence,
                parts.each_ref().map(|it| &it[..]),
            )
        });
        let coming = (self.coming()).map(|it| (it.run, it.media_sequence, it.parts));
        (stored.chain(coming)).flat_map(|(run, media_sequence, parts)| {
            (Rendition::ALL.into_iter().zip(parts)).flat_map(move |(rendition, parts)| {
                parts.iter().zip(0..).map(move |(part, index)| NamedPart {
                    rendition,
                    name: PartName {
                        run,
                        media_sequence,
                        index,
                    },
                    bytes: &part.bytes,
                })
            })
        })
    }

    /// The last rows with their parts.
    fn with_parts(&self) -> impl Iterator<Item = (&Row, &PerRendition<Vec<Part>>)> {
        let first = self.shown.len().saturating_sub(self.recent.len());
        let rows = self.shown.iter().skip(first).map(|it| &it.row);
        rows.zip(&self.recent)
    }

    /// The segments that go on from the last published one without a gap, as far as they have come. Where one between is lost or
    /// another run begins, nobody knows yet under which numbers the next will be published.
    fn coming(&self) -> impl Iterator<Item = Coming<'_>> {
        const WHOLE: PerRendition<bool> = [true; Rendition::ALL.len()];
        let under_way = self.under_way.iter().filter_map(|it| it.segment.as_ref());
        let under_way = under_way.map(|it| {
            let date = Date::Told(it.row.program_date_time_ms);
            (it.place, date, it.parts.each_ref(), WHOLE)
        });
        let waiting =
            (self.waiting.iter()).map(|it| (it.place, it.date, it.parts.each_ref(), WHOLE));
        let open = self.open.iter().map(|it| {
            let parts = it.shares.each_ref().map(|share| &share.parts);
            let complete = it.shares.each_ref().map(|share| share.end.is_some());
            (it.place, it.date, parts, complete)
        });
        let last = self.last.zip(self.newest());
        (under_way.chain(waiting).chain(open).zip(1..)).map_while(
            move |((place, date, parts, complete), ahead)| {
                let (published, row) = last?;
                let expected = Place {
                    ordinal: published.ordinal + ahead,
                    ..published
                };
                (place == expected).then(|| Coming {
                    place,
                    media_sequence: row.media_sequence + ahead,
                    run: row.run,
                    date,
                    parts: parts.map(|parts| &parts[..]),
                    complete,
                })
            },
        )
    }

    /// The part that will be listed next, if that is certain. `open` follows `last`, `after` follows `open`.
    fn next_part(
        &self,
        rendition: Rendition,
        last: &Row,
        open: Option<&Coming<'_>>,
        after: Option<&Coming<'_>>,
    ) -> Option<PartName> {
        let name = |ahead: u64, index: usize| PartName {
            run: last.run,
            media_sequence: last.media_sequence + ahead,
            index: index as u32,
        };
        let (next, begun) = match open {
            Some(open) if open.complete[rendition as usize] => (name(2, 0), after.is_some()),
            Some(open) => (name(1, open.listable(rendition).len()), true),
            None => (name(1, 0), false),
        };
        // Of a segment that has not begun it is certain only if nothing lies between.
        let newest = after.or(open).map(|it| it.place).or(self.last)?;
        let comes = self.begun == Some(newest);
        (begun || comes).then_some(next)
    }

    fn report(&self, rendition: Rendition, last: &Row) -> RenditionReport {
        let open = self.coming().next();
        let parts = open.map_or(0, |open| open.listable(rendition).len());
        let (last_msn, parts) = match (parts, self.recent.back()) {
            (0, Some(recent)) => (last.media_sequence, recent[rendition as usize].len()),
            (0, None) => (last.media_sequence, 0),
            (parts, _) => (last.media_sequence + 1, parts),
        };
        RenditionReport {
            uri: format!("{}.m3u8", rendition.name()),
            last_msn,
            last_part: parts.checked_sub(1).map(|part| part as u32),
        }
    }

    /// The HTTP origin's multivariant playlist: `/live/index.m3u8`. `None` before the first segment.
    pub fn origin_index(&self) -> Option<MultivariantPlaylist> {
        let uri = |rendition: Rendition| format!("{}.m3u8", rendition.name());
        self.multivariant(self.newest(), self.totals, uri)
    }
}
