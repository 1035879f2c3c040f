//! What a broadcast has published, and what it publishes next.
//!
//! Segments come from the [segmenter](crate::segmenter) and leave as [`Update`]s: the files of one segment of every
//! rendition with the playlists that name it, to be stored in one durable step. One update is under way at a time, and
//! a playlist for viewers is made only from rows that have been confirmed with [`Publication::stored`]. Hence no
//! playlist names what is not stored, whatever the order of events.
//!
//! If storing lags behind, whole segments are left out and the next one carries a discontinuity.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::media::{MediaDuration, Rendition};
use crate::playlist::{
    MediaPlaylist, MultivariantPlaylist, PlaylistSegment, PlaylistType, Variant,
};
use crate::segmenter::{InitSegment, MediaSegment, Output, PartialSegment};

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
#[derive(Debug, Default)]
struct Pair {
    ordinal: u64,
    program_date_time: Option<SystemTime>,
    video: Half,
    audio: Half,
}

#[derive(Debug, Default)]
struct Half {
    parts: Vec<PartialSegment>,
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
}

#[derive(Debug, Default)]
struct Run {
    video: Option<InitSegment>,
    audio: Option<InitSegment>,
    /// The init segments are in the store.
    stored: bool,
}

/// Everything published of one broadcast.
#[derive(Debug)]
pub struct Publication {
    settings: Settings,
    rows: Vec<Row>,
    totals: Totals,
    next: Numbers,
    run: Run,
    /// Pairs of which some half is still coming, in order.
    open: VecDeque<Pair>,
    /// Complete, to be stored, in order.
    waiting: VecDeque<Pair>,
    under_way: Option<Update>,
    /// Segments left out because storing lagged or failed.
    lost: u64,
    finishing: bool,
    finished: bool,
}

impl Publication {
    /// A new broadcast, whose numbers go on from those of the last.
    pub fn new(settings: Settings, next: Numbers) -> Publication {
        Publication {
            settings,
            rows: Vec::new(),
            totals: Totals::default(),
            next,
            run: Run::default(),
            open: VecDeque::new(),
            waiting: VecDeque::new(),
            under_way: None,
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
        let next = rows.last().map_or(first, |last| Numbers {
            media_sequence: last.media_sequence + 1,
            run: last.run + 1,
        });
        let mut totals = Totals::default();
        for row in &rows {
            totals.add(row, settings.segment);
        }
        Publication {
            rows,
            totals,
            finished,
            ..Publication::new(settings, next)
        }
    }

    /// Starts a continuity run; what was open of the one before is left out.
    pub fn begin_run(&mut self) {
        self.open.clear();
        self.run = Run::default();
        self.break_run();
    }

    /// The next segment does not go on from the last one: it belongs to another run.
    fn break_run(&mut self) {
        if self.run_used() {
            self.next.run += 1;
            // Each run has its init segment at its own address, even if the same encoder goes on.
            self.run.stored = false;
        }
    }

    fn run_used(&self) -> bool {
        let mine = |run: u64| run == self.next.run;
        self.rows.last().is_some_and(|row| mine(row.run))
            || (self.under_way.as_ref())
                .and_then(|update| update.row.as_ref())
                .is_some_and(|row| mine(row.run))
    }

    /// Takes what the segmenter made. `wall` is the wall time of the segment's start where it is known.
    pub fn push(&mut self, output: Output, wall: impl FnOnce(Duration) -> Option<SystemTime>) {
        match output {
            Output::Init(init) => {
                let slot = match init.rendition {
                    Rendition::Video => &mut self.run.video,
                    Rendition::Audio => &mut self.run.audio,
                };
                *slot = Some(init);
            }
            Output::Part(part) => {
                let rendition = part.rendition;
                self.pair(part.segment).half(rendition).parts.push(part);
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
        let index = match self.open.iter().position(|pair| pair.ordinal == ordinal) {
            Some(index) => index,
            None => {
                self.open.push_back(Pair {
                    ordinal,
                    ..Pair::default()
                });
                self.open.len() - 1
            }
        };
        &mut self.open[index]
    }

    fn enqueue(&mut self, pair: Pair) {
        if self.waiting.len() == MAX_WAITING {
            // The oldest goes: viewers are better served with what is recent.
            self.waiting.pop_front();
            self.leave_out();
        }
        self.waiting.push_back(pair);
    }

    fn leave_out(&mut self) {
        self.lost += 1;
        self.break_run();
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
        let update = match self.waiting.pop_front() {
            Some(pair) => self.update(pair),
            None if self.finishing => Update {
                row: None,
                files: self.playlists(None, true),
                finish: true,
            },
            None => return None,
        };
        self.under_way = Some(update.clone());
        Some(update)
    }

    fn update(&mut self, pair: Pair) -> Update {
        let (Some(video), Some(audio)) = (&pair.video.end, &pair.audio.end) else {
            unreachable!("only complete pairs wait");
        };
        let size = |half: &Half| half.parts.iter().map(|part| part.bytes.len() as u64).sum();
        let codec = |init: &Option<InitSegment>| {
            (init.as_ref()).map_or_else(String::new, |init| init.codec.clone())
        };
        let row = Row {
            media_sequence: self.next.media_sequence,
            run: self.next.run,
            discontinuity: (self.rows.last()).is_some_and(|last| last.run != self.next.run),
            codecs: [codec(&self.run.video), codec(&self.run.audio)],
            program_date_time_ms: pair
                .program_date_time
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
                .map(|since| since.as_millis() as u64),
            durations: [video.duration, audio.duration],
            sizes: [size(&pair.video), size(&pair.audio)],
        };
        let mut files = Vec::new();
        if !self.run.stored {
            for init in [&self.run.video, &self.run.audio].into_iter().flatten() {
                files.push(File {
                    path: format!("{}/{}", init.rendition.name(), init_name(row.run)),
                    parts: vec![init.bytes.clone()],
                });
            }
        }
        for (rendition, half) in [
            (Rendition::Video, pair.video),
            (Rendition::Audio, pair.audio),
        ] {
            files.push(File {
                path: segment_path(rendition, row.media_sequence),
                parts: half.parts.into_iter().map(|part| part.bytes).collect(),
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
        self.next.media_sequence = row.media_sequence + 1;
        self.run.stored |= row.run == self.next.run;
        self.totals.add(&row, self.settings.segment);
        self.rows.push(row.clone());
        Some(row)
    }

    /// The update under way could not be stored: its segment is left out.
    pub fn failed(&mut self) {
        if self
            .under_way
            .take()
            .is_some_and(|update| update.row.is_some())
        {
            self.leave_out();
        }
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Numbers that a later broadcast starts with.
    pub fn numbers(&self) -> Numbers {
        Numbers {
            media_sequence: self.next.media_sequence,
            run: self.next.run + u64::from(!self.rows.is_empty()),
        }
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
        let removed = (self.rows.len() + usize::from(row.is_some())).saturating_sub(window);
        let mut rows = self.rows.iter().chain(row).skip(removed).peekable();
        let first = rows.peek().copied();
        MediaPlaylist {
            playlist_type: PlaylistType::Sliding,
            target_duration: self.settings.segment.as_secs_f64().ceil() as u64,
            media_sequence: first.map_or(0, |row| row.media_sequence),
            // The number of the first segment, less the tag that stands before it in this very playlist.
            discontinuity_sequence: first.map_or(0, |row| row.run - u64::from(row.discontinuity)),
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
            // Rate control bounds a segment to 1.25 times its nominal size; AAC at a constant rate needs room for boxes only.
            video: variant(Rendition::Video, self.settings.video_bitrate, 1.25),
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

/// Path of a segment in the broadcast's directory: at most [`DIRECTORY`] segments a subdirectory.
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
