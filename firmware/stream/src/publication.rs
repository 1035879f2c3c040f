//! What a broadcast has published, and what it publishes next.
//!
//! Segments come from the [segmenter](crate::segmenter) and leave as [`Update`]s: the files of one segment of every
//! rendition with the playlists that name it, to be stored in one durable step. One update is under way at a time, and
//! a playlist for viewers is made only from rows that have been answered. Hence no playlist names what cannot be had,
//! whatever the order of events.
//!
//! What could not be stored ([`Publication::failed`]) goes on air from memory: the HTTP origin ([`Publication::origin`]) lists
//! it for as long as [`Publication::keeps`] it, with its number, as if nothing had happened. The IPFS copy leaves its number
//! out. Until [`Publication::store_again`] the store is not asked for the segments that follow.
//!
//! Viewers of the HTTP origin get the parts of the one segment that follows the last published one, too. A part's address
//! says its run, so that one of a segment that was left out never shares it with its successor.
//!
//! If storing lags behind, whole segments are left out and the next one carries a discontinuity. A segment goes on from
//! the published one before it only if the segmenter made them one after the other; otherwise it opens a run with a number
//! and init segments of its own. Run numbers have no holes within a broadcast, because players count discontinuities.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::low_latency::{
    LowLatencyPlaylist, OpenSegment, PlaylistPart, RenditionReport, SEGMENTS_WITH_PARTS,
};
use crate::media::{MediaDuration, Rendition};
use crate::playlist::{
    MediaPlaylist, MultivariantPlaylist, Picture, PlaylistSegment, PlaylistType, Variant,
};
use crate::rate::BOUND_PERCENT;
use crate::segmenter::{InitSegment, MediaSegment, Output};

/// Segments that may wait to be stored, in memory. At 2 s a segment this is a card that hangs for 8 s.
pub const MAX_WAITING: usize = 4;

/// Segments that the origin lists, at least, while some of them are in memory only. What has left the list stays in memory for
/// as long again (RFC 8216 section 6.2.2), so it may not be long.
const FROM_MEMORY: usize = 8;

/// Directory entries per directory: a block of a directory is written anew with every segment (see `DESIGN`, decision 4).
const DIRECTORY: u64 = 256;

/// Segments to a leaf of `event.m3u8`: the last leaf is written anew with every segment, at most 6 KB of text.
pub const SEGMENTS_A_LEAF: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Nominal length of a segment.
    pub segment: Duration,
    /// Upper bound of a part.
    pub part: Duration,
    /// Segments in a sliding playlist.
    pub window: usize,
    pub video: Video,
    /// Absent: there is no low video.
    pub low: Option<Video>,
    /// Nominal bits per second.
    pub audio_bitrate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Video {
    /// Nominal bits per second.
    pub bitrate: u64,
    pub picture: Picture,
}

impl Settings {
    /// What there is of [`Rendition::ALL`]: always its first ones.
    fn renditions(&self) -> &'static [Rendition] {
        &Rendition::ALL[..if self.low.is_some() { 3 } else { 2 }]
    }
}

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
    pub durations: Vec<MediaDuration>,
    /// Bytes.
    pub sizes: Vec<u64>,
}

impl Row {
    /// Renditions of which it tells everything.
    fn renditions(&self) -> &'static [Rendition] {
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
/// [`Publication::recovered`] takes it.
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
        if row.program_date_time_ms.is_some_and(|ms| ms > LAST_DATE_MS) {
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

/// What has to be stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Otherwise the store is not asked: the files go to memory, and the answer is [`Publication::failed`].
    pub store: bool,
    /// For the journal; absent if the update only closes the broadcast.
    pub row: Option<Row>,
    pub files: Vec<File>,
    /// Files that grow at their ends.
    pub tails: Vec<Tail>,
    /// The broadcast is complete with this.
    pub finish: bool,
}

/// A file of the broadcast's directory. Its content is the parts one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the broadcast's root.
    pub path: String,
    pub parts: Vec<Bytes>,
}

/// The end of a file that is only ever appended to. Its content is leaves one after the other, and all but the last are final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Relative to the broadcast's root.
    pub path: String,
    /// How many of its first leaves stay as they are.
    pub keep: usize,
    /// What comes after them; never empty.
    pub leaves: Vec<Bytes>,
}

/// A segment of which some rendition is still coming.
#[derive(Debug)]
struct Open {
    place: Place,
    date: Date,
    shares: PerRendition<Share>,
}

/// Indexed by [`Rendition`], whether there is one or not.
type PerRendition<T> = [T; Rendition::ALL.len()];

/// Wall time of a segment's start, milliseconds since 1970, where that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Date {
    /// The picture that tells it has not come.
    Open,
    Told(Option<u64>),
}

impl Date {
    fn milliseconds(self) -> Option<u64> {
        match self {
            Date::Open => None,
            Date::Told(date) => date,
        }
    }
}

/// Where the segmenter made a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Counts [`Publication::begin_run`].
    run: u64,
    /// Number within the segmenter's run.
    ordinal: u64,
}

/// One rendition's share of a segment.
#[derive(Debug, Default)]
struct Share {
    parts: Vec<Part>,
    end: Option<MediaSegment>,
}

#[derive(Debug)]
struct Part {
    bytes: Bytes,
    duration: MediaDuration,
    independent: bool,
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

/// A part that viewers may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPart<'a> {
    pub rendition: Rendition,
    pub name: PartName,
    pub bytes: &'a Bytes,
}

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

impl Place {
    fn next(self) -> Place {
        Place {
            ordinal: self.ordinal + 1,
            ..self
        }
    }
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

/// Segments of rows in order. `before` is what the playlist has before them.
fn listed_segments<'a>(
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

fn from_milliseconds(since: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(since)
}

impl Open {
    fn complete(&self, renditions: &[Rendition]) -> bool {
        (renditions.iter()).all(|rendition| self.shares[*rendition as usize].end.is_some())
    }

    fn ready(self, inits: &PerRendition<Option<InitSegment>>) -> Option<Ready> {
        let shares = self.shares.iter().zip(inits);
        let tracks = shares.filter_map(|(share, init)| {
            let duration = share.end.as_ref()?.duration;
            Some(init.clone().map(|init| ReadyTrack { init, duration }))
        });
        Some(Ready {
            place: self.place,
            date: self.date,
            tracks: tracks.collect::<Option<_>>()?,
            parts: self.shares.map(|share| share.parts),
        })
    }
}

/// Complete and with all that a decoder needs.
#[derive(Debug)]
struct Ready {
    place: Place,
    date: Date,
    /// In the order of [`Rendition::ALL`].
    tracks: Vec<ReadyTrack>,
    parts: PerRendition<Vec<Part>>,
}

#[derive(Debug)]
struct ReadyTrack {
    init: InitSegment,
    duration: MediaDuration,
}

#[derive(Debug)]
struct UnderWay {
    segment: Option<SegmentUnderWay>,
    store: bool,
    finish: bool,
}

#[derive(Debug)]
struct SegmentUnderWay {
    row: Row,
    place: Place,
    parts: PerRendition<Vec<Part>>,
}

/// Everything published of one broadcast.
#[derive(Debug)]
pub struct Publication {
    settings: Settings,
    renditions: &'static [Rendition],
    rows: Vec<Row>,
    totals: Totals,
    first: Numbers,
    /// What a later broadcast may begin with at the earliest.
    least: Numbers,
    /// What this one goes on with at the earliest.
    leap: Option<Numbers>,
    run: u64,
    /// What the segmenter of this run said first.
    inits: PerRendition<Option<InitSegment>>,
    /// The last segment that has begun, while its run goes on.
    begun: Option<Place>,
    /// In order.
    open: VecDeque<Open>,
    /// Complete, to be stored, in order.
    waiting: VecDeque<Ready>,
    under_way: Option<UnderWay>,
    /// What the origin lists, in order and without holes.
    shown: VecDeque<Shown>,
    /// Segments in memory only that have left the list, and the newest number with which they may go.
    leaving: VecDeque<(u64, u64)>,
    /// Parts of the last segments shown, unless they are from an earlier life.
    recent: VecDeque<PerRendition<Vec<Part>>>,
    /// Of the last segment shown, unless it is from an earlier life.
    last: Option<Place>,
    /// The store is asked for what comes next.
    storing: bool,
    /// Segments that were published from memory and never stored.
    unstored: u64,
    /// Segments left out because storing lagged or failed.
    lost: u64,
    /// Files that lie beside the playlists.
    attached: Vec<File>,
    /// Something has been stored since this life began: from then on an update says only what is new.
    going_on: bool,
    finishing: bool,
    finished: bool,
    /// No more is published, and nothing will be closed.
    abandoned: bool,
}

/// A segment that the origin lists.
#[derive(Debug)]
struct Shown {
    row: Row,
    /// Otherwise it is in memory only.
    stored: bool,
}

impl Publication {
    /// A new broadcast, whose numbers go on from those of the last.
    pub fn new(settings: Settings, first: Numbers) -> Publication {
        Publication {
            settings,
            renditions: settings.renditions(),
            rows: Vec::new(),
            totals: Totals::default(),
            first,
            least: Numbers::default(),
            leap: None,
            run: 0,
            inits: PerRendition::default(),
            begun: None,
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            under_way: None,
            shown: VecDeque::new(),
            leaving: VecDeque::new(),
            recent: VecDeque::new(),
            last: None,
            storing: true,
            unstored: 0,
            lost: 0,
            attached: Vec::new(),
            going_on: false,
            finishing: false,
            finished: false,
            abandoned: false,
        }
    }

    /// Lays files that never change beside the playlists. They are stored with the first update of each life.
    pub fn attach(&mut self, files: Vec<File>) {
        self.attached = files;
    }

    /// A broadcast of which `rows` are stored; see [`check_rows`]. Its renditions are those that all of them have.
    pub fn recovered(
        settings: Settings,
        first: Numbers,
        rows: Vec<Row>,
        finished: bool,
    ) -> Publication {
        let mut totals = Totals::default();
        for row in &rows {
            totals.add(row, settings.segment);
        }
        let shared = (rows.iter()).map(Row::renditions);
        let renditions = shared
            .chain([settings.renditions()])
            .min_by_key(|it| it.len());
        let mut publication = Publication {
            renditions: renditions.unwrap_or_default(),
            totals,
            finished,
            ..Publication::new(settings, first)
        };
        for row in &rows {
            publication.list(row.clone(), true);
        }
        publication.rows = rows;
        publication
    }

    /// Starts a continuity run; what was open of the one before is left out, what is complete is still published.
    pub fn begin_run(&mut self) {
        self.end_run();
        self.inits = PerRendition::default();
        self.run += 1;
    }

    /// The encoder is gone: what was open is left out, and no part comes next.
    pub fn end_run(&mut self) {
        self.open.clear();
        self.begun = None;
    }

    /// Takes what the segmenter made. `date` is asked once for each segment, in order, for the wall time of its start.
    pub fn push(&mut self, output: Output, date: impl FnOnce(Duration) -> Option<SystemTime>) {
        match output {
            Output::Init(init) => {
                let rendition = init.rendition;
                self.inits[rendition as usize] = Some(init);
            }
            Output::Part(part) if self.renditions.contains(&part.rendition) => {
                let rendition = part.rendition;
                let open = self.open(part.segment);
                if rendition == Rendition::Video && open.date == Date::Open {
                    let since = date(part.start).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                    open.date = Date::Told(since.map(|since| since.as_millis() as u64));
                }
                open.shares[rendition as usize].parts.push(Part {
                    bytes: part.bytes,
                    duration: part.duration,
                    independent: part.independent,
                });
            }
            Output::Segment(segment) if self.renditions.contains(&segment.rendition) => {
                let rendition = segment.rendition;
                let open = self.open(segment.segment);
                open.shares[rendition as usize].end = Some(segment);
                while let Some(open) = self.open.pop_front_if(|it| it.complete(self.renditions)) {
                    self.enqueue(open);
                }
            }
            // Of a rendition that the broadcast does not have.
            Output::Part(_) | Output::Segment(_) => {}
        }
    }

    fn open(&mut self, ordinal: u64) -> &mut Open {
        let place = Place {
            run: self.run,
            ordinal,
        };
        let index = match self.open.iter().position(|open| open.place == place) {
            Some(index) => index,
            None => {
                self.begun = Some(place);
                self.open.push_back(Open {
                    place,
                    date: Date::Open,
                    shares: PerRendition::default(),
                });
                self.open.len() - 1
            }
        };
        &mut self.open[index]
    }

    fn enqueue(&mut self, open: Open) {
        let Some(ready) = open.ready(&self.inits) else {
            // No decoder could be set up for it.
            self.lost += 1;
            return;
        };
        if self.waiting.len() == MAX_WAITING {
            // The oldest goes: viewers are better served with what is recent.
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.waiting.push_back(ready);
    }

    /// No more segments will come: what is waiting is published, the last with ENDLIST and the VOD playlists.
    pub fn finish(&mut self) {
        self.end_run();
        self.finishing = true;
        self.storing = true;
    }

    /// Viewers see the end, and the store does not: it has never opened the broadcast, or cannot close it.
    pub fn abandon(&mut self) {
        self.end_run();
        self.finishing = false;
        self.storing = false;
        self.abandoned = true;
    }

    /// The store cannot take segments yet: they are published from memory.
    pub fn keep_in_memory(&mut self) {
        self.storing = false;
    }

    /// The next segment is offered to the store again.
    pub fn store_again(&mut self) {
        self.storing = !self.abandoned;
    }

    /// Whether the store is asked for what comes next.
    pub fn storing(&self) -> bool {
        self.storing
    }

    /// What to store next, if nothing is under way. The answer must be [`stored`](Self::stored) or [`failed`](Self::failed).
    pub fn next_update(&mut self) -> Option<Update> {
        if self.under_way.is_some() || self.finished {
            return None;
        }
        let (update, segment) = match self.waiting.pop_front() {
            Some(ready) => {
                let (update, segment) = self.update(ready);
                (update, Some(segment))
            }
            None if self.finishing => {
                let update = Update {
                    store: true,
                    row: None,
                    files: self.playlists(None, true),
                    tails: self.tails(None, true),
                    finish: true,
                };
                (update, None)
            }
            None => return None,
        };
        self.under_way = Some(UnderWay {
            segment,
            store: update.store,
            finish: update.finish,
        });
        Some(update)
    }

    fn update(&self, ready: Ready) -> (Update, SegmentUnderWay) {
        let goes_on = (self.last).is_some_and(|last| ready.place == last.next());
        let last = self.newest();
        let next = match last {
            Some(last) if goes_on => Numbers {
                media_sequence: last.media_sequence + 1,
                run: last.run,
            },
            Some(last) => Numbers::after(last),
            None => self.first,
        };
        let Numbers {
            media_sequence,
            run,
        } = self.leap.map_or(next, |leap| leap.max(next));
        let row = Row {
            media_sequence,
            run,
            discontinuity: last.is_some() && !goes_on,
            codecs: (ready.tracks.iter())
                .map(|track| track.init.codec.clone())
                .collect(),
            program_date_time_ms: ready.date.milliseconds(),
            durations: ready.tracks.iter().map(|track| track.duration).collect(),
            sizes: (ready.tracks.iter().zip(&ready.parts))
                .map(|(_, parts)| parts.iter().map(|part| part.bytes.len() as u64).sum())
                .collect(),
        };
        let mut files = Vec::new();
        for (ReadyTrack { init, .. }, parts) in ready.tracks.into_iter().zip(&ready.parts) {
            if self.rows.last().is_none_or(|last| last.run != row.run) {
                // Each run has its init segment at its own address, even if the same encoder goes on. In memory each segment
                // of the run has it, until it is stored.
                files.push(File {
                    path: format!("{}/{}", init.rendition.name(), init_name(row.run)),
                    parts: vec![init.bytes],
                });
            }
            files.push(File {
                path: segment_path(init.rendition, row.media_sequence),
                parts: parts.iter().map(|part| part.bytes.clone()).collect(),
            });
        }
        let store = self.storing;
        let finish = store && self.finishing && self.waiting.is_empty();
        let mut tails = Vec::new();
        if store {
            files.extend(self.playlists(Some(&row), finish));
            tails = self.tails(Some(&row), finish);
        }
        let segment = SegmentUnderWay {
            row: row.clone(),
            place: ready.place,
            parts: ready.parts,
        };
        let update = Update {
            store,
            row: Some(row),
            files,
            tails,
            finish,
        };
        (update, segment)
    }

    /// The IPFS copy's playlists as they are with `row` at the end.
    fn playlists(&self, row: Option<&Row>, finish: bool) -> Vec<File> {
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
    fn tails(&self, row: Option<&Row>, finish: bool) -> Vec<Tail> {
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
            Some(before) => playlist.continued(&init_name(before.run)),
        }
    }

    /// Seconds.
    fn target_duration(&self) -> u64 {
        self.settings.segment.as_secs_f64().ceil() as u64
    }

    /// The update under way is durable. Returns its row.
    pub fn stored(&mut self) -> Option<Row> {
        let update = self.under_way.take()?;
        self.going_on = true;
        if update.finish {
            self.finished = true;
        }
        let segment = update.segment?;
        self.rows.push(segment.row.clone());
        Some(self.show(segment, true))
    }

    /// The update under way is not stored. Its files are in memory, and viewers get its segment from there; the next ones, too,
    /// until the store is asked [again](Self::store_again). A broadcast that cannot be closed stays open until it is
    /// [finished](Self::finish) again, here or by a later life. Returns its row.
    pub fn failed(&mut self) -> Option<Row> {
        let update = self.under_way.take()?;
        if update.store {
            self.storing = false;
        }
        if update.finish {
            self.finishing = false;
        }
        let segment = update.segment?;
        self.unstored += 1;
        Some(self.show(segment, false))
    }

    fn show(&mut self, segment: SegmentUnderWay, stored: bool) -> Row {
        let SegmentUnderWay { row, place, parts } = segment;
        self.last = Some(place);
        self.recent.push_back(parts);
        if self.recent.len() > SEGMENTS_WITH_PARTS {
            self.recent.pop_front();
        }
        self.totals.add(&row, self.settings.segment);
        self.list(row.clone(), stored);
        row
    }

    /// Puts a segment at the end of the origin's list, and takes from its beginning what it need not have any more.
    fn list(&mut self, row: Row, stored: bool) {
        let number = row.media_sequence;
        // Numbers in a sliding playlist have no holes: behind one it begins anew.
        if (self.newest()).is_some_and(|newest| newest.media_sequence + 1 != number) {
            self.shown.clear();
        }
        self.shown.push_back(Shown { row, stored });
        self.leaving.retain(|(_, until)| *until > number);
        loop {
            let listed = self.shown.len();
            let window = match self.shown.iter().all(|it| it.stored) {
                true => self.settings.window,
                false => self.settings.window.min(FROM_MEMORY),
            };
            let rest = self.shown.iter().skip(1);
            let rest: f64 = rest.map(|it| self.shortest(&it.row)).sum();
            if listed <= window || rest < self.least_seconds() {
                return;
            }
            let first = self.shown.pop_front();
            if let Some(Shown { row, stored: false }) = first {
                let until = number + listed.max(FROM_MEMORY) as u64 + 1;
                self.leaving.push_back((row.media_sequence, until));
            }
        }
    }

    /// Whether a segment must stay in memory: viewers may ask for it, and the store does not have it.
    pub fn keeps(&self, media_sequence: u64) -> bool {
        let mut shown = self.shown.iter().filter(|it| !it.stored);
        shown.any(|it| it.row.media_sequence == media_sequence)
            || (self.leaving.iter()).any(|(number, _)| *number == media_sequence)
    }

    /// The last segment that viewers of the origin were told of.
    fn newest(&self) -> Option<&Row> {
        self.shown.back().map(|it| &it.row)
    }

    /// Another nominal bitrate of the video (bits per second) from the next playlist on. What was published at the one before
    /// still counts: no segment in a playlist is above its BANDWIDTH. The low video keeps its own.
    pub fn set_video_bitrate(&mut self, bits_per_second: u64) {
        self.settings.video.bitrate = bits_per_second;
    }

    /// Those that the broadcast has.
    pub fn renditions(&self) -> &'static [Rendition] {
        self.renditions
    }

    /// What holds between two calls.
    ///
    /// # Panics
    /// Where it does not, for tests and fuzzers.
    pub fn check_invariants(&self) {
        assert_eq!(check_rows(self.first, &self.rows), Ok(()));
        assert!(
            self.waiting.len() <= MAX_WAITING,
            "segments wait without bound"
        );
        assert!(
            self.open
                .front()
                .is_none_or(|pair| !pair.complete(self.renditions)),
            "a complete segment is not waiting to be stored"
        );
        let current = |open: &Open| open.place.run == self.run;
        assert!(
            self.open.iter().all(current),
            "a run that is over is still open"
        );
        assert!(!self.finished || self.under_way.is_none());
        let next = self.numbers();
        let numbers = self.shown.iter().map(|it| it.row.media_sequence);
        assert!(
            numbers
                .clone()
                .zip(numbers.skip(1))
                .all(|(before, after)| after == before + 1),
            "the origin's list has a hole"
        );
        assert!(
            self.leaving.len() <= 4 * FROM_MEMORY + self.shown.len(),
            "memory without bound"
        );
        let last = self.newest();
        assert!(
            last.is_none_or(|row| row.media_sequence < next.media_sequence && row.run < next.run)
        );
        let under_way = self.under_way.as_ref().and_then(|it| it.segment.as_ref());
        if let Some(SegmentUnderWay { row, .. }) = under_way {
            let follows = last.map_or(self.first, |last| Numbers {
                media_sequence: last.media_sequence + 1,
                run: last.run + u64::from(row.discontinuity),
            });
            assert!(
                self.leap.is_some()
                    || (row.media_sequence, row.run) == (follows.media_sequence, follows.run)
            );
        }
    }

    /// What is stored.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Segments of this life that viewers got from memory, and that were never stored.
    pub fn unstored(&self) -> u64 {
        self.unstored
    }

    /// Whether there is a segment for viewers of the origin.
    pub fn on_show(&self) -> bool {
        !self.shown.is_empty()
    }

    /// Numbers that a later broadcast starts with, whatever becomes of the update under way.
    pub fn numbers(&self) -> Numbers {
        let under_way = self.under_way.as_ref().and_then(|it| it.segment.as_ref());
        let under_way = under_way.map(|segment| &segment.row);
        let next = (under_way.or(self.newest())).map_or(self.first, Numbers::after);
        next.max(self.least).max(self.leap.unwrap_or_default())
    }

    /// A later broadcast starts with no lower numbers: others that nobody can read any more have had them.
    pub fn raise_numbers(&mut self, least: Numbers) {
        self.least = self.least.max(least);
    }

    /// Viewers have seen up to these numbers of the life before, from memory: the origin's list begins anew behind them.
    pub fn leap(&mut self, past: Numbers) {
        self.raise_numbers(past);
        self.leap = Some(past);
        self.shown.clear();
    }

    /// Segments that were left out.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Nothing waits to be stored.
    pub fn drained(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// ENDLIST and VOD are stored.
    pub fn finished(&self) -> bool {
        self.finished
    }

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
        MediaPlaylist {
            segments: listed_segments(rendition, before, rows, uri, init_name),
            ..self.empty_from(first)
        }
    }

    /// A playlist that begins with `first`.
    fn empty_from(&self, first: Option<&Row>) -> MediaPlaylist {
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

    /// What a sliding playlist has at least.
    fn least_seconds(&self) -> f64 {
        3.0 * self.target_duration() as f64
    }

    /// Seconds of the segment in the rendition in which it is shortest.
    fn shortest(&self, row: &Row) -> f64 {
        let lengths = self.renditions.iter().zip(&row.durations);
        let lengths = lengths.map(|(_, duration)| duration.seconds());
        lengths.fold(f64::INFINITY, f64::min)
    }

    /// `last` is the last segment of the playlists that it names.
    fn multivariant(
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
struct Totals {
    bytes: PerRendition<u64>,
    seconds: PerRendition<f64>,
    /// Bits per second of the largest segment.
    peak: PerRendition<f64>,
}

impl Totals {
    fn add(&mut self, row: &Row, segment: Duration) {
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

/// The same as seen from the rendition's playlists.
fn relative_path(media_sequence: u64) -> String {
    format!(
        "{:04}/{}",
        media_sequence / DIRECTORY,
        segment_name(media_sequence)
    )
}
