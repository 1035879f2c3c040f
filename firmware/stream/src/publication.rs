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

mod names;
mod origin;
mod playlists;
mod rows;

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::low_latency::SEGMENTS_WITH_PARTS;
use crate::media::{MediaDuration, Rendition};
use crate::playlist::Picture;
use crate::segmenter::{InitSegment, MediaSegment, Output};

pub use names::{Inits, PartName, init_name, segment_name, segment_path, segments_in};
pub use origin::NamedPart;
pub use playlists::SEGMENTS_A_LEAF;
use playlists::Totals;
pub use rows::{Numbers, Row, RowError, check_rows, rows_without};

/// Segments that may wait to be stored, in memory. At 2 s a segment this is a card that hangs for 8 s.
pub const MAX_WAITING: usize = 4;

/// Segments that the origin lists, at least, while some of them are in memory only. What has left the list stays in memory for
/// as long again (RFC 8216 section 6.2.2), so it may not be long.
const FROM_MEMORY: usize = 8;

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
    pub inits: Inits,
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

impl Place {
    fn next(self) -> Place {
        Place {
            ordinal: self.ordinal + 1,
            ..self
        }
    }
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
            published_ms: None,
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
                    path: self.settings.inits.path(init.rendition, row.run),
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
}
