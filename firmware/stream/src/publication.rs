//! What a broadcast has published, and what it publishes next.
//!
//! Segments come from the [segmenter](crate::segmenter) and leave as [`Update`]s: the files of one segment of every
//! rendition with the playlists that name it, to be stored in one durable step. One update is under way at a time, and
//! a playlist for viewers is made only from rows that have been confirmed with [`Publication::stored`]. Hence no
//! playlist names what is not stored, whatever the order of events.
//!
//! If storing lags behind, whole segments are left out and the next one carries a discontinuity. A segment goes on from
//! the stored one before it only if the segmenter made them one after the other; otherwise it opens a run with a number
//! and init segments of its own. Run numbers have no holes within a broadcast, because players count discontinuities.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::media::{MediaDuration, Rendition};
use crate::playlist::{
    MediaPlaylist, MultivariantPlaylist, PlaylistSegment, PlaylistType, Variant,
};
use crate::rate::BOUND_PERCENT;
use crate::segmenter::{InitSegment, MediaSegment, Output};

/// Segments that may wait to be stored, in memory. At 2 s a segment this is a card that hangs for 8 s.
pub const MAX_WAITING: usize = 4;

/// Directory entries per directory: a block of a directory is written anew with every segment (see `DESIGN`, decision 4).
const DIRECTORY: u64 = 256;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Nominal length of a segment.
    pub segment: Duration,
    /// Segments in a sliding playlist.
    pub window: usize,
    /// Nominal bits per second.
    pub video_bitrate: u64,
    /// Nominal bits per second.
    pub audio_bitrate: u64,
    /// Pixels.
    pub resolution: (u16, u16),
    /// Frames per second.
    pub frame_rate: f64,
}

/// One segment of all renditions, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub media_sequence: u64,
    /// Number of the continuity run: the discontinuity sequence number of its segments.
    pub run: u64,
    /// First of its run, and not the first of the broadcast.
    pub discontinuity: bool,
    /// RFC 6381 codecs of the run, video and audio.
    pub codecs: [String; 2],
    /// Wall time of the start, milliseconds since 1970.
    pub program_date_time_ms: Option<u64>,
    /// Length of the video and of the audio segment.
    pub durations: [MediaDuration; 2],
    /// Bytes of the video and of the audio segment.
    pub sizes: [u64; 2],
}

/// Which numbers come next. They rise for as long as the box lives, across broadcasts and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Numbers {
    pub media_sequence: u64,
    pub run: u64,
}

/// What has to be stored together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// For the journal; absent if the update only closes the broadcast.
    pub row: Option<Row>,
    pub files: Vec<File>,
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

/// What a segment of all renditions needs before it can be stored.
#[derive(Debug)]
struct Pair {
    place: Place,
    program_date_time: Option<SystemTime>,
    video: Half,
    audio: Half,
}

/// Where the segmenter made a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Counts [`Publication::begin_run`].
    run: u64,
    /// Number within the segmenter's run.
    ordinal: u64,
}

#[derive(Debug, Default)]
struct Half {
    parts: Vec<Bytes>,
    end: Option<MediaSegment>,
}

impl Pair {
    fn half(&mut self, rendition: Rendition) -> &mut Half {
        match rendition {
            Rendition::Video => &mut self.video,
            Rendition::Audio => &mut self.audio,
        }
    }

    fn complete(&self) -> bool {
        self.video.end.is_some() && self.audio.end.is_some()
    }

    fn ready(self, inits: &Inits) -> Option<Ready> {
        Some(Ready {
            place: self.place,
            program_date_time: self.program_date_time,
            inits: [inits.video.clone()?, inits.audio.clone()?],
            ends: [self.video.end?, self.audio.end?],
            parts: [self.video.parts, self.audio.parts],
        })
    }
}

/// What the segmenter of one run said first.
#[derive(Debug, Clone, Default)]
struct Inits {
    video: Option<InitSegment>,
    audio: Option<InitSegment>,
}

/// Complete and with all that a decoder needs.
#[derive(Debug)]
struct Ready {
    place: Place,
    program_date_time: Option<SystemTime>,
    /// Video and audio, as are the others.
    inits: [InitSegment; 2],
    ends: [MediaSegment; 2],
    parts: [Vec<Bytes>; 2],
}

#[derive(Debug)]
struct UnderWay {
    row: Option<Row>,
    /// Of the row's segment.
    place: Option<Place>,
    finish: bool,
}

/// Everything published of one broadcast.
#[derive(Debug)]
pub struct Publication {
    settings: Settings,
    rows: Vec<Row>,
    totals: Totals,
    first: Numbers,
    run: u64,
    inits: Inits,
    /// Pairs of which some half is still coming, in order.
    open: VecDeque<Pair>,
    /// Complete, to be stored, in order.
    waiting: VecDeque<Ready>,
    under_way: Option<UnderWay>,
    /// Of the last row, unless it is from an earlier life.
    last: Option<Place>,
    /// Segments left out because storing lagged or failed.
    lost: u64,
    finishing: bool,
    finished: bool,
}

impl Publication {
    /// A new broadcast, whose numbers go on from those of the last.
    pub fn new(settings: Settings, first: Numbers) -> Publication {
        Publication {
            settings,
            rows: Vec::new(),
            totals: Totals::default(),
            first,
            run: 0,
            inits: Inits::default(),
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            under_way: None,
            last: None,
            lost: 0,
            finishing: false,
            finished: false,
        }
    }

    /// A broadcast of which `rows` are stored.
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
        Publication {
            rows,
            totals,
            finished,
            ..Publication::new(settings, first)
        }
    }

    /// Starts a continuity run; what was open of the one before is left out, what is complete is still published.
    pub fn begin_run(&mut self) {
        self.open.clear();
        self.inits = Inits::default();
        self.run += 1;
    }

    /// Takes what the segmenter made. `wall` is the wall time of the segment's start where it is known.
    pub fn push(&mut self, output: Output, wall: impl FnOnce(Duration) -> Option<SystemTime>) {
        match output {
            Output::Init(init) => {
                let slot = match init.rendition {
                    Rendition::Video => &mut self.inits.video,
                    Rendition::Audio => &mut self.inits.audio,
                };
                *slot = Some(init);
            }
            Output::Part(part) => {
                let rendition = part.rendition;
                let pair = self.pair(part.segment);
                pair.half(rendition).parts.push(part.bytes);
            }
            Output::Segment(segment) => {
                let rendition = segment.rendition;
                let start = segment.start;
                let pair = self.pair(segment.segment);
                if rendition == Rendition::Video {
                    pair.program_date_time = wall(start);
                }
                pair.half(rendition).end = Some(segment);
                while self.open.front().is_some_and(Pair::complete) {
                    let pair = self.open.pop_front().expect("front is complete");
                    self.enqueue(pair);
                }
            }
        }
    }

    fn pair(&mut self, ordinal: u64) -> &mut Pair {
        let place = Place {
            run: self.run,
            ordinal,
        };
        let index = match self.open.iter().position(|pair| pair.place == place) {
            Some(index) => index,
            None => {
                self.open.push_back(Pair {
                    place,
                    program_date_time: None,
                    video: Half::default(),
                    audio: Half::default(),
                });
                self.open.len() - 1
            }
        };
        &mut self.open[index]
    }

    fn enqueue(&mut self, pair: Pair) {
        let Some(ready) = pair.ready(&self.inits) else {
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
        self.open.clear();
        self.finishing = true;
    }

    /// What to store next, if nothing is under way. The answer must be [`stored`](Self::stored) or [`failed`](Self::failed).
    pub fn next_update(&mut self) -> Option<Update> {
        if self.under_way.is_some() || self.finished {
            return None;
        }
        let (update, place) = match self.waiting.pop_front() {
            Some(ready) => {
                let place = ready.place;
                (self.update(ready), Some(place))
            }
            None if self.finishing => {
                let update = Update {
                    row: None,
                    files: self.playlists(None, true),
                    finish: true,
                };
                (update, None)
            }
            None => return None,
        };
        self.under_way = Some(UnderWay {
            row: update.row.clone(),
            place,
            finish: update.finish,
        });
        Some(update)
    }

    fn update(&self, ready: Ready) -> Update {
        let goes_on = self.last.is_some_and(|last| {
            let next = Place {
                ordinal: last.ordinal + 1,
                ..last
            };
            ready.place == next
        });
        let last = self.rows.last();
        let row = Row {
            media_sequence: last.map_or(self.first.media_sequence, |last| last.media_sequence + 1),
            run: last.map_or(self.first.run, |last| last.run + u64::from(!goes_on)),
            discontinuity: last.is_some() && !goes_on,
            codecs: [0, 1].map(|i: usize| ready.inits[i].codec.clone()),
            program_date_time_ms: ready
                .program_date_time
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map(|since| since.as_millis() as u64),
            durations: [0, 1].map(|i: usize| ready.ends[i].duration),
            sizes: [0, 1].map(|i: usize| ready.parts[i].iter().map(|part| part.len() as u64).sum()),
        };
        let mut files = Vec::new();
        if !goes_on {
            // Each run has its init segment at its own address, even if the same encoder goes on.
            files.extend(ready.inits.map(|init| File {
                path: format!("{}/{}", init.rendition.name(), init_name(row.run)),
                parts: vec![init.bytes],
            }));
        }
        for (rendition, parts) in Rendition::ALL.into_iter().zip(ready.parts) {
            files.push(File {
                path: segment_path(rendition, row.media_sequence),
                parts,
            });
        }
        let finish = self.finishing && self.waiting.is_empty();
        files.extend(self.playlists(Some(&row), finish));
        Update {
            row: Some(row),
            files,
            finish,
        }
    }

    /// The IPFS copy's playlists as they are with `row` at the end.
    fn playlists(&self, row: Option<&Row>, finish: bool) -> Vec<File> {
        let text = |path: String, content: String| File {
            path,
            parts: vec![content.into()],
        };
        let uri = |row: &Row| relative_path(row.media_sequence);
        let mut files = Vec::new();
        let kinds = if finish {
            [Some("live.m3u8"), Some("vod.m3u8")]
        } else {
            [Some("live.m3u8"), None]
        };
        for name in kinds.into_iter().flatten() {
            for rendition in Rendition::ALL {
                let list = if name == "vod.m3u8" {
                    MediaPlaylist {
                        playlist_type: PlaylistType::Vod,
                        ..self.list(rendition, row, usize::MAX, true, uri, init_name)
                    }
                } else {
                    self.list(rendition, row, self.settings.window, finish, uri, init_name)
                };
                files.push(text(
                    format!("{}/{name}", rendition.name()),
                    list.to_string(),
                ));
            }
            let index = self.multivariant(row, |rendition| format!("{}/{name}", rendition.name()));
            let path = if name == "vod.m3u8" {
                name
            } else {
                "index.m3u8"
            };
            files.extend(index.map(|index| text(path.into(), index.to_string())));
        }
        files
    }

    /// The update under way is durable. Returns its row.
    pub fn stored(&mut self) -> Option<Row> {
        let update = self.under_way.take()?;
        if update.finish {
            self.finished = true;
        }
        let row = update.row?;
        self.last = update.place;
        self.totals.add(&row, self.settings.segment);
        self.rows.push(row.clone());
        Some(row)
    }

    /// The update under way could not be stored: its segment is left out. A broadcast that cannot be closed stays open, and
    /// [`recovered`](Self::recovered) closes it.
    pub fn failed(&mut self) {
        match self.under_way.take() {
            Some(UnderWay { row: Some(_), .. }) => self.lost += 1,
            Some(UnderWay { row: None, .. }) => self.finishing = false,
            None => {}
        }
    }

    /// Another nominal bitrate of the video (bits per second) from the next playlist on. What was published at the one before
    /// still counts: no segment in a playlist is above its BANDWIDTH.
    pub fn set_video_bitrate(&mut self, bits_per_second: u64) {
        self.settings.video_bitrate = bits_per_second;
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Numbers that a later broadcast starts with, whatever becomes of the update under way.
    pub fn numbers(&self) -> Numbers {
        let under_way = self.under_way.as_ref().and_then(|it| it.row.as_ref());
        (under_way.or(self.rows.last())).map_or(self.first, |last| Numbers {
            media_sequence: last.media_sequence + 1,
            run: last.run + 1,
        })
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

    /// The HTTP origin's playlist of one rendition: `/live/video.m3u8`. `None` before the first segment.
    pub fn origin(&self, rendition: Rendition) -> Option<MediaPlaylist> {
        let uri = |row: &Row| format!("{}/{}", rendition.name(), segment_name(row.media_sequence));
        let init = |run| format!("{}/{}", rendition.name(), init_name(run));
        (!self.rows.is_empty()).then(|| {
            let window = self.settings.window;
            self.list(rendition, None, window, self.finished, uri, init)
        })
    }

    /// The HTTP origin's multivariant playlist: `/live/index.m3u8`. `None` before the first segment.
    pub fn origin_index(&self) -> Option<MultivariantPlaylist> {
        self.multivariant(None, |rendition| format!("{}.m3u8", rendition.name()))
    }

    fn list(
        &self,
        rendition: Rendition,
        row: Option<&Row>,
        window: usize,
        ended: bool,
        uri: impl Fn(&Row) -> String,
        init: impl Fn(u64) -> String,
    ) -> MediaPlaylist {
        let target_duration = self.settings.segment.as_secs_f64().ceil() as u64;
        // No less than three target durations may stay (RFC 8216 section 6.2.2), however short the segments are. Both
        // renditions count with the shorter one, so that their playlists begin with the same segment.
        let (mut kept, mut length) = (0, 0.0);
        for row in self.rows.iter().chain(row).rev() {
            if kept >= window && length >= 3.0 * target_duration as f64 {
                break;
            }
            kept += 1;
            length += row.durations[0].seconds().min(row.durations[1].seconds());
        }
        let removed = self.rows.len() + usize::from(row.is_some()) - kept;
        let mut rows = self.rows.iter().chain(row).skip(removed).peekable();
        let first = rows.peek().copied();
        MediaPlaylist {
            playlist_type: PlaylistType::Sliding,
            target_duration,
            media_sequence: first.map_or(self.first.media_sequence, |row| row.media_sequence),
            // The number of the first segment, less the tag that stands before it in this very playlist.
            discontinuity_sequence: first
                .map_or(self.first.run, |row| row.run - u64::from(row.discontinuity)),
            segments: rows
                .map(|row| PlaylistSegment {
                    uri: uri(row),
                    duration: row.durations[rendition as usize],
                    discontinuity: row.discontinuity,
                    map: init(row.run),
                    program_date_time: row
                        .program_date_time_ms
                        .map(|ms| UNIX_EPOCH + Duration::from_millis(ms)),
                })
                .collect(),
            ended,
        }
    }

    fn multivariant(
        &self,
        row: Option<&Row>,
        uri: impl Fn(Rendition) -> String,
    ) -> Option<MultivariantPlaylist> {
        let last = row.or(self.rows.last())?;
        let mut totals = self.totals;
        if let Some(row) = row {
            totals.add(row, self.settings.segment);
        }
        let variant = |rendition: Rendition, nominal: u64, bound: f64| {
            let i = rendition as usize;
            Variant {
                uri: uri(rendition),
                codec: last.codecs[i].clone(),
                bandwidth: (nominal as f64 * bound).max(totals.peak[i]).ceil() as u64,
                average_bandwidth: (totals.bytes[i] as f64 * 8.0 / totals.seconds[i]).ceil() as u64,
            }
        };
        Some(MultivariantPlaylist {
            // Rate control bounds a segment (`rate::BOUND_PERCENT`); AAC at a constant rate needs room for boxes only.
            video: variant(
                Rendition::Video,
                self.settings.video_bitrate,
                f64::from(BOUND_PERCENT) / 100.0,
            ),
            audio: variant(Rendition::Audio, self.settings.audio_bitrate, 1.1),
            resolution: self.settings.resolution,
            frame_rate: self.settings.frame_rate,
        })
    }
}

/// Sums over all rows, kept so that an update costs the same however long the broadcast is.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    bytes: [u64; 2],
    seconds: [f64; 2],
    /// Bits per second of the largest segment.
    peak: [f64; 2],
}

impl Totals {
    fn add(&mut self, row: &Row, segment: Duration) {
        for i in 0..2 {
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
