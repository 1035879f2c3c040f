//! The publication against a model of the store: whatever the order of events, what leaves the box is true.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use expect_test::{Expect, expect};
use m3u8_rs::{parse_master_playlist_res, parse_media_playlist_res};
use proptest::prelude::*;
use stream::low_latency::{LowLatencyPlaylist, RenditionReport};
use stream::media::{MediaDuration, Rendition};
use stream::playlist::{MediaPlaylist, Picture, PlaylistType};
use stream::publication::{
    File, Inits, MAX_WAITING, Numbers, PartName, Publication, Row, SEGMENTS_A_LEAF, Settings, Tail,
    Update, Video, check_rows, rows_without, segment_path,
};
use stream::segmenter::{InitSegment, MediaSegment, Output, PartialSegment};

const SETTINGS: Settings = Settings {
    segment: Duration::from_secs(2),
    part: Duration::from_millis(500),
    window: 6,
    video: Video {
        bitrate: 3_000_000,
        picture: Picture {
            resolution: (1280, 720),
            frame_rate: 30.0,
        },
    },
    low: None,
    audio_bitrate: 128_000,
    inits: Inits::InDirectories,
};

/// With a low video beside the video.
const LADDER: Settings = Settings {
    low: Some(Video {
        bitrate: 400_000,
        picture: Picture {
            resolution: (320, 180),
            frame_rate: 30.0,
        },
    }),
    ..SETTINGS
};

const TARGET_DURATION: u64 = 2;

/// Wall time of a segment that starts at this programme time.
fn wall(start: Duration) -> Option<SystemTime> {
    Some(UNIX_EPOCH + Duration::from_secs(1_795_365_000) + start)
}

/// A segmenter that says in its bytes what they are: `video 3/7` is segment 7 of run 3.
#[derive(Debug, Default)]
struct Fake {
    run: u64,
    /// Segments made of each rendition.
    made: [u64; 3],
    /// Parts made of the next segment.
    parts: [u32; 3],
    start: Duration,
}

impl Fake {
    fn init(&self, rendition: Rendition) -> Output {
        Output::Init(InitSegment {
            rendition,
            codec: format!("{}.{}", rendition.name(), self.run),
            bytes: format!("{} {}", rendition.name(), self.run).into(),
        })
    }

    /// The next part of the next segment.
    fn part(&mut self, rendition: Rendition, ticks: u64) -> Output {
        let segment = self.made[rendition as usize];
        let index = self.parts[rendition as usize];
        self.parts[rendition as usize] += 1;
        let name = format!("{} {}/{segment}", rendition.name(), self.run);
        Output::Part(PartialSegment {
            rendition,
            segment,
            index,
            start: self.start,
            duration: MediaDuration {
                ticks,
                timescale: rendition.timescale(),
            },
            independent: index == 0,
            bytes: if index == 0 {
                name.into()
            } else {
                Bytes::from_static(b"+")
            },
        })
    }

    /// What is missing of the next segment.
    fn segment(&mut self, rendition: Rendition, ticks: u64, parts: u32) -> Vec<Output> {
        let segment = self.made[rendition as usize];
        let mut out = Vec::new();
        while self.parts[rendition as usize] < parts {
            out.push(self.part(rendition, ticks / u64::from(parts)));
        }
        self.made[rendition as usize] += 1;
        self.parts[rendition as usize] = 0;
        let duration = |ticks| MediaDuration {
            ticks,
            timescale: rendition.timescale(),
        };
        out.push(Output::Segment(MediaSegment {
            rendition,
            segment,
            start: self.start,
            duration: duration(ticks),
        }));
        if rendition == Rendition::Video {
            self.start += duration(ticks).duration();
        }
        out
    }
}

/// The box: a publication, what makes its segments, and what its store holds durably.
#[derive(Debug)]
struct World {
    publication: Publication,
    settings: Settings,
    renditions: &'static [Rendition],
    fake: Fake,
    first: Numbers,
    files: BTreeMap<String, Vec<u8>>,
    /// Of the files that grow.
    leaves: BTreeMap<String, Vec<Bytes>>,
    rows: Vec<Row>,
    /// What viewers of the origin were told of since the process began or its numbers leapt, stored or not.
    shown: Vec<Row>,
    /// Which segments those are: the life of the process, the run and the number in it.
    origins: Vec<(u64, u64, u64)>,
    /// Files of what was not stored, by number.
    memory: BTreeMap<u64, BTreeMap<String, Vec<u8>>>,
    unstored: u64,
    /// Viewers have seen higher numbers than those of the rows, in an earlier life.
    behind: bool,
    /// Of what is in memory only: the newest number when it was last listed, and the most segments of a list with it.
    listed: BTreeMap<u64, (u64, usize)>,
    /// The least media sequence and discontinuity sequence numbers that the origin may still show.
    least: [(u64, u64); 3],
    life: u64,
    closed: bool,
    under_way: Option<Update>,
    /// Complete segments pushed, and rows stored, in this life.
    pushed: u64,
    stored: u64,
    /// What could be asked for as a part at some time.
    parts: BTreeMap<(Rendition, PartName), Bytes>,
    /// Dates under which segments were announced, by run and number.
    dates: BTreeMap<(u64, u64), Option<SystemTime>>,
    /// The parts that viewers were told of as the next ones, unless that cannot be kept any more.
    hints: [Option<String>; 3],
    /// The last playlists that viewers got: from the HTTP origin and of the IPFS copy, for each rendition.
    seen: [[Option<MediaSnapshot>; 3]; 2],
}

/// A playlist as a viewer reads it.
#[derive(Debug, Clone, PartialEq)]
struct MediaSnapshot {
    target_duration: u64,
    media_sequence: u64,
    discontinuity_sequence: u64,
    segments: Vec<SegmentSnapshot>,
    ended: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct SegmentSnapshot {
    uri: String,
    map: String,
    duration: f32,
    discontinuity: bool,
    date_ms: Option<i64>,
}

fn read(text: &str) -> MediaSnapshot {
    let read = parse_media_playlist_res(text.as_bytes()).unwrap();
    let mut map = String::new();
    MediaSnapshot {
        target_duration: read.target_duration,
        media_sequence: read.media_sequence,
        discontinuity_sequence: read.discontinuity_sequence,
        ended: read.end_list,
        segments: (read.segments.into_iter())
            .map(|segment| {
                if let Some(tag) = segment.map {
                    map = tag.uri;
                }
                SegmentSnapshot {
                    uri: segment.uri,
                    map: map.clone(),
                    duration: segment.duration,
                    discontinuity: segment.discontinuity,
                    date_ms: segment
                        .program_date_time
                        .map(|time| time.timestamp_millis()),
                }
            })
            .collect(),
    }
}

/// The only edits that RFC 8216 section 6.2.1 and 6.2.2 allow.
fn check_edit(before: &MediaSnapshot, after: &MediaSnapshot) {
    assert_eq!(before.target_duration, after.target_duration);
    assert!(
        after.media_sequence >= before.media_sequence,
        "numbers fall"
    );
    if before.ended {
        assert_eq!(before, after, "what has ended does not change");
    }
    let removed = (after.media_sequence - before.media_sequence) as usize;
    assert!(removed <= before.segments.len(), "numbers leap");
    let (gone, kept) = before.segments.split_at(removed);
    assert!(kept.len() <= after.segments.len(), "removed at the end");
    assert_eq!(
        kept,
        &after.segments[..kept.len()],
        "a published segment changes"
    );
    let tags = gone.iter().filter(|segment| segment.discontinuity).count() as u64;
    assert_eq!(
        after.discontinuity_sequence,
        before.discontinuity_sequence + tags,
        "counts the tags that have left"
    );
    if removed > 0 {
        let left: f32 = after.segments.iter().map(|segment| segment.duration).sum();
        assert!(left >= (3 * after.target_duration) as f32, "{left} s left");
    }
}

impl World {
    fn new(first: Numbers) -> World {
        World::with(SETTINGS, first)
    }

    fn with(settings: Settings, first: Numbers) -> World {
        let count = if settings.low.is_some() { 3 } else { 2 };
        World {
            publication: Publication::new(settings, first),
            settings,
            renditions: &Rendition::ALL[..count],
            fake: Fake::default(),
            first,
            files: BTreeMap::new(),
            leaves: BTreeMap::new(),
            rows: Vec::new(),
            shown: Vec::new(),
            origins: Vec::new(),
            memory: BTreeMap::new(),
            unstored: 0,
            behind: false,
            listed: BTreeMap::new(),
            least: Default::default(),
            life: 0,
            closed: false,
            under_way: None,
            pushed: 0,
            stored: 0,
            parts: BTreeMap::new(),
            dates: BTreeMap::new(),
            hints: Default::default(),
            seen: Default::default(),
        }
    }

    fn push(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            self.publication.push(output, wall);
        }
        self.check_invariants();
    }

    fn begin_run(&mut self) {
        self.hints = Default::default();
        self.publication.begin_run();
        self.fake = Fake {
            run: self.fake.run + 1,
            ..Fake::default()
        };
        let inits = self.renditions.iter();
        let inits = inits.map(|rendition| self.fake.init(*rendition)).collect();
        self.push(inits);
    }

    fn video(&mut self, ticks: u64) {
        let outputs = self.fake.segment(Rendition::Video, ticks, 4);
        self.push(outputs);
    }

    /// The segment of another rendition that belongs to a video segment, if there is one without.
    fn other(&mut self, rendition: Rendition) {
        let i = rendition as usize;
        if self.renditions.contains(&rendition) && self.fake.made[i] < self.fake.made[0] {
            let (lost, complete) = (self.publication.lost(), self.complete());
            let outputs = match rendition {
                Rendition::Audio => self.fake.segment(rendition, 95_232, 2),
                _ => self.fake.segment(rendition, 180_000, 4),
            };
            self.pushed += self.complete() - complete;
            // Whether one was left out, only the publication knows.
            let hints = std::mem::take(&mut self.hints);
            for output in outputs {
                self.publication.push(output, wall);
            }
            if lost == self.publication.lost() {
                self.hints = hints;
            }
            self.check_invariants();
        }
    }

    /// One part of the segment that is being made, but not its last.
    fn part(&mut self, rendition: Rendition) {
        let i = rendition as usize;
        if self.renditions.contains(&rendition)
            && self.fake.parts[i] < [3, 1, 3][i]
            && self.fake.made[i] <= self.fake.made[0]
        {
            let output = self.fake.part(rendition, [45_000, 23_552, 45_000][i]);
            self.push(vec![output]);
        }
    }

    /// Segments of this run of which all renditions are made.
    fn complete(&self) -> u64 {
        let made = self
            .renditions
            .iter()
            .map(|it| self.fake.made[*it as usize]);
        made.min().unwrap()
    }

    fn segment(&mut self, ticks: u64) {
        self.video(ticks);
        for &rendition in &self.renditions[1..] {
            while self.fake.made[rendition as usize] < self.fake.made[0] {
                self.other(rendition);
            }
        }
    }

    fn segments(&mut self, count: usize) {
        for _ in 0..count {
            self.segment(180_000);
        }
    }

    /// The store takes the next update; the answer is still to come.
    fn next(&mut self) -> Option<Update> {
        let update = self.publication.next_update();
        if let Some(update) = &update {
            assert!(
                self.under_way.is_none(),
                "one update is under way at a time"
            );
            self.check_update(update);
            self.under_way = Some(update.clone());
        }
        self.check_invariants();
        update
    }

    fn commit(&mut self) {
        let Some(update) = self.under_way.take() else {
            return;
        };
        assert!(update.store);
        for file in update.files {
            self.files.insert(file.path, file.parts.concat());
        }
        for tail in update.tails {
            let content = self.grown(&tail).concat();
            self.files.insert(tail.path.clone(), content);
            let leaves = self.leaves.entry(tail.path).or_default();
            leaves.truncate(tail.keep);
            leaves.extend(tail.leaves);
        }
        if let Some(row) = update.row {
            self.rows.push(row.clone());
            self.stored += 1;
            self.behind = false;
            self.show(row);
        }
        self.closed |= update.finish;
        for &rendition in self.renditions {
            let text = &self.files[&format!("{}/live.m3u8", rendition.name())];
            self.viewed(1, rendition, read(std::str::from_utf8(text).unwrap()));
        }
        self.check_rows();
    }

    fn show(&mut self, row: Row) {
        let path = segment_path(Rendition::Video, row.media_sequence);
        let (run, ordinal) = made(&self.available()[&path]);
        self.origins.push((self.life, run, ordinal));
        self.shown.push(row);
    }

    /// All that viewers of the origin can get at this moment.
    fn available(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let newest = self.memory.last_key_value().map(|(number, _)| *number);
        for (number, kept) in &self.memory {
            if self.publication.keeps(*number) || Some(*number) == newest {
                files.extend(kept.clone());
            }
        }
        files
    }

    fn stored(&mut self) {
        if self.under_way.as_ref().is_some_and(|update| !update.store) {
            return self.failed();
        }
        let row = self
            .under_way
            .as_ref()
            .and_then(|update| update.row.clone());
        self.commit();
        assert_eq!(self.publication.stored(), row);
        self.check_invariants();
    }

    /// Viewers notice nothing: not even the hint is taken back.
    fn failed(&mut self) {
        let Some(update) = self.under_way.take() else {
            return;
        };
        assert_eq!(self.publication.failed(), update.row);
        if let Some(row) = update.row {
            let files = update.files.into_iter();
            let media = files.filter(|file| !file.path.ends_with(".m3u8"));
            let media = media.map(|file| (file.path, file.parts.concat()));
            self.memory.insert(row.media_sequence, media.collect());
            self.unstored += 1;
            self.show(row);
        }
        self.check_invariants();
    }

    /// The process dies and comes back; whether the update under way was durable, nobody knows beforehand.
    fn crash(&mut self, durable: bool) {
        if durable && self.under_way.as_ref().is_some_and(|update| update.store) {
            self.commit();
        }
        self.under_way = None;
        self.life += 1;
        self.hints = Default::default();
        (self.pushed, self.stored, self.unstored) = (0, 0, 0);
        let past = self.publication.numbers();
        self.publication =
            Publication::recovered(self.settings, self.first, self.rows.clone(), self.closed);
        let in_memory = self.memory.last_key_value().map(|(number, _)| *number);
        if in_memory > self.rows.last().map(|row| row.media_sequence) {
            self.behind = true;
        }
        if self.behind {
            self.publication.leap(past);
        }
        if !std::mem::take(&mut self.memory).is_empty() {
            // What is gone is gone; numbers do not fall.
            self.seen[0] = Default::default();
        }
        self.listed.clear();
        // Behind what was lost the list begins anew.
        let listed = self.publication.origin(Rendition::Video);
        let listed = listed.map_or(0, |origin| origin.playlist.segments.len());
        self.shown = self.rows[self.rows.len() - listed..].to_vec();
        self.check_invariants();
        self.begin_run();
    }

    fn finish(&mut self) {
        self.publication.finish();
        self.hints = Default::default();
        self.fake.parts = [0; 3];
        // What is half done stays so.
        self.fake.made = [self.fake.made[0]; 3];
    }

    /// Everything that waits is stored.
    fn store_all(&mut self) {
        while self.under_way.is_some() || self.next().is_some() {
            self.stored();
        }
    }

    fn waiting(&self) -> u64 {
        let under_way = self
            .under_way
            .as_ref()
            .is_some_and(|update| update.row.is_some());
        self.pushed - self.publication.lost() - self.stored - self.unstored - u64::from(under_way)
    }

    fn viewed(&mut self, from: usize, rendition: Rendition, after: MediaSnapshot) {
        if let Some(before) = &self.seen[from][rendition as usize] {
            let next = before.media_sequence + before.segments.len() as u64;
            if from == 1 && after.media_sequence > next {
                // Numbers are missing in the copy: it begins anew behind them.
                let tags = before.segments.iter().filter(|it| it.discontinuity).count() as u64;
                assert!(after.discontinuity_sequence >= before.discontinuity_sequence + tags);
                assert!(!before.ended);
            } else {
                check_edit(before, &after);
            }
        }
        self.seen[from][rendition as usize] = Some(after);
    }

    fn check_invariants(&mut self) {
        self.publication.check_invariants();
        assert!(
            self.waiting() <= MAX_WAITING as u64,
            "{} wait",
            self.waiting()
        );
        assert_eq!(self.publication.rows(), self.rows);
        assert_eq!(self.publication.finished(), self.closed);
        assert_eq!(self.publication.unstored(), self.unstored);
        assert_eq!(
            self.publication.drained(),
            self.waiting() == 0 && self.under_way.is_none()
        );
        for rendition in Rendition::ALL {
            let Some(origin) = self.publication.origin(rendition) else {
                assert!(self.shown.is_empty() || !self.renditions.contains(&rendition));
                continue;
            };
            self.check_parts(rendition, &origin);
            let least = (
                origin.playlist.media_sequence,
                origin.playlist.discontinuity_sequence,
            );
            let before = std::mem::replace(&mut self.least[rendition as usize], least);
            assert!(before.0 <= least.0 && before.1 <= least.1, "numbers fall");
            // A player that knows nothing of parts reads the same as from a playlist without.
            let snapshot = read(&origin.full());
            assert_eq!(snapshot, read(&origin.playlist.to_string()));
            self.check_playlist(&snapshot, rendition, "", &self.available());
            assert_eq!(snapshot.ended, self.closed);
            self.check_newest(&snapshot, rendition, &self.shown);
            self.check_memory(&snapshot);
            self.viewed(0, rendition, snapshot);
        }
        assert_eq!(
            self.publication.origin_index().is_some(),
            !self.shown.is_empty()
        );
        let next = self.publication.numbers();
        for row in self
            .under_way
            .iter()
            .filter_map(|update| update.row.as_ref())
            .chain(&self.rows)
        {
            assert!(row.media_sequence < next.media_sequence && row.run < next.run);
        }
    }

    /// What is in memory only stays there after it has left the list for as long as the longest list with it
    /// (RFC 8216 section 6.2.2), and not much longer.
    fn check_memory(&mut self, playlist: &MediaSnapshot) {
        let listed = playlist.segments.len();
        let next = playlist.media_sequence + listed as u64;
        for number in playlist.media_sequence..next {
            if self.memory.contains_key(&number) {
                let (newest, most) = self.listed.entry(number).or_default();
                (*newest, *most) = (next - 1, listed.max(*most));
            }
        }
        for (number, (newest, most)) in &self.listed {
            let age = next - 1 - newest;
            assert!(age > *most as u64 || self.publication.keeps(*number));
            assert!(age < 40 || !self.publication.keeps(*number));
        }
    }

    /// Every part that is listed can be had, is listed where its bytes will stay, and is the one that was hinted at.
    fn check_parts(&mut self, rendition: Rendition, origin: &LowLatencyPlaylist) {
        for part in self.publication.origin_parts() {
            let key = (part.rendition, part.name);
            let known = self.parts.entry(key).or_insert_with(|| part.bytes.clone());
            assert_eq!(known, part.bytes, "{} means two things", part.name);
        }
        let bytes = |uri: &str| {
            let name = uri.strip_prefix(rendition.name()).unwrap();
            let name = PartName::parse(name.strip_prefix('/').unwrap()).unwrap();
            let bytes = self.parts.get(&(rendition, name));
            (name, bytes.unwrap_or_else(|| panic!("{uri} cannot be had")))
        };
        let edge = origin.edge().unwrap();
        assert_eq!(edge.last, self.shown.last().unwrap().media_sequence);
        assert_eq!(edge.ended, self.closed);
        let available = self.available();
        let listed = &self.shown[self.shown.len() - origin.parts.len()..];
        for (row, parts) in listed.iter().zip(&origin.parts) {
            let joined: Vec<u8> = parts
                .iter()
                .flat_map(|it| bytes(&it.uri).1.clone())
                .collect();
            assert_eq!(
                joined,
                available[&segment_path(rendition, row.media_sequence)]
            );
            for (part, index) in parts.iter().zip(0..) {
                let (run, media_sequence) = (row.run, row.media_sequence);
                let name = PartName {
                    run,
                    media_sequence,
                    index,
                };
                assert_eq!(bytes(&part.uri).0, name);
            }
            let time = row
                .program_date_time_ms
                .map(|ms| UNIX_EPOCH + Duration::from_millis(ms));
            let told = self.dates.get(&(row.run, row.media_sequence));
            assert!(
                told.is_none_or(|told| *told == time),
                "the date has changed"
            );
        }
        if let Some(open) = origin.open.as_ref().filter(|open| !open.parts.is_empty()) {
            let last = self.shown.last().unwrap();
            let (life, run, ordinal) = self.origins.last().unwrap();
            let (name, first) = bytes(&open.parts[0].uri);
            assert_eq!(
                (name.run, name.media_sequence),
                (last.run, last.media_sequence + 1)
            );
            assert_eq!((*life, made(first)), (self.life, (*run, ordinal + 1)));
            self.dates
                .insert((name.run, name.media_sequence), open.program_date_time);
        }
        let open = origin.open.iter().flat_map(|open| &open.parts);
        let mut all = origin.parts.iter().flatten().chain(open);
        let full = origin.full();
        if let Some(hint) = &self.hints[rendition as usize] {
            let kept = origin.preload_hint.as_ref() == Some(hint) || all.any(|it| it.uri == *hint);
            assert!(kept, "{hint} did not become the next part:\n{full}");
        }
        self.hints[rendition as usize].clone_from(&origin.preload_hint);
        let others = self.renditions.iter().filter(|it| **it != rendition);
        let reports = others.map(|other| {
            let edge = self.publication.origin(*other).unwrap().edge().unwrap();
            let (last_msn, parts) = match (edge.open, edge.last_parts) {
                (0, parts) => (edge.last, parts),
                (parts, _) => (edge.last + 1, Some(parts)),
            };
            RenditionReport {
                uri: format!("{}.m3u8", other.name()),
                last_msn,
                last_part: parts.map(|it| it - 1),
            }
        });
        assert_eq!(origin.reports, reports.collect::<Vec<_>>());
        assert_eq!(full.contains("RENDITION-REPORT"), !self.closed);
        // Whoever asks for a delta update and has the rest has it all.
        let delta = origin.delta();
        if let Some((head, tail)) = delta.split_once("#EXT-X-SKIP:SKIPPED-SEGMENTS=") {
            assert!(head.contains("#EXT-X-VERSION:9\n"));
            let (skipped, tail) = tail.split_once('\n').unwrap();
            let skipped: usize = skipped.parse().unwrap();
            let uri = &origin.playlist.segments[skipped - 1].uri;
            assert!(full.ends_with(&format!("{uri}\n{tail}")), "{full}\n{delta}");
            let left = origin.playlist.segments[skipped..].iter();
            let left: f64 = left.map(|it| it.duration.seconds()).sum();
            assert!(left >= (6 * TARGET_DURATION) as f64);
        } else {
            assert_eq!(delta, full);
        }
    }

    /// All that a playlist in `directory` names is in `files`, and the init segment is that of the segment's run.
    fn check_playlist(
        &self,
        playlist: &MediaSnapshot,
        rendition: Rendition,
        directory: &str,
        files: &BTreeMap<String, Vec<u8>>,
    ) {
        assert_eq!(playlist.target_duration, TARGET_DURATION);
        for (segment, number) in playlist.segments.iter().zip(playlist.media_sequence..) {
            let named = if directory.is_empty() {
                // The origin has names of its own: by number alone.
                assert_eq!(segment.uri, format!("{}/{number}.m4s", rendition.name()));
                segment_path(rendition, number)
            } else {
                format!("{directory}{}", segment.uri)
            };
            let media = files
                .get(&named)
                .unwrap_or_else(|| panic!("{named} is not stored"));
            let init = if directory.is_empty() {
                let run = (segment.map.strip_prefix(rendition.name()))
                    .and_then(|name| name.strip_prefix("/init-")?.strip_suffix(".mp4"));
                Inits::InDirectories.path(rendition, run.unwrap().parse().unwrap())
            } else {
                format!("{directory}{}", segment.map)
            };
            let init = files
                .get(&init)
                .unwrap_or_else(|| panic!("{init} is not stored"));
            let run = format!("{} {}", rendition.name(), made(media).0);
            assert_eq!(init, run.as_bytes(), "segment {number}");
            assert!(segment.duration.round() <= TARGET_DURATION as f32);
            assert!(segment.date_ms.is_some());
        }
    }

    /// The playlist ends with the newest row and says of every segment what its row says.
    fn check_newest(&self, playlist: &MediaSnapshot, rendition: Rendition, rows: &[Row]) {
        let rows = &rows[rows.len() - playlist.segments.len()..];
        let path = |row: &Row| segment_path(rendition, row.media_sequence);
        for (segment, row) in playlist.segments.iter().zip(rows) {
            let name = segment.uri.rsplit('/').next().unwrap();
            assert!(path(row).ends_with(&format!("/{name}")), "{name}");
        }
        let before = std::iter::once(None).chain(rows.iter().map(Some));
        for ((segment, row), before) in playlist.segments.iter().zip(rows).zip(before) {
            let seconds = row.durations[rendition as usize].seconds();
            assert!((f64::from(segment.duration) - seconds).abs() < 0.000_002);
            assert_eq!(
                segment.discontinuity,
                row.discontinuity || follows_a_hole(before, row)
            );
            assert_eq!(
                segment.date_ms,
                row.program_date_time_ms.map(|ms| ms as i64)
            );
        }
        let Some(first) = rows.first() else { return };
        assert_eq!(playlist.media_sequence, first.media_sequence);
        // The number of every segment is that of its run, up to where numbers are missing.
        let mut number = playlist.discontinuity_sequence;
        let mut before = None;
        for row in rows {
            if follows_a_hole(before, row) {
                break;
            }
            number += u64::from(row.discontinuity);
            assert_eq!(number, row.run);
            before = Some(row);
        }
    }

    /// All leaves of a file that grows by this.
    fn grown(&self, tail: &Tail) -> Vec<Bytes> {
        let stored = self.leaves.get(&tail.path).map_or(&[][..], |leaves| leaves);
        assert!(tail.keep <= stored.len(), "it keeps what is not there");
        [&stored[..tail.keep], &tail.leaves].concat()
    }

    fn check_update(&self, update: &Update) {
        if !update.store {
            assert!(!update.finish && update.tails.is_empty() && update.row.is_some());
            let names = update.files.iter().map(|file| &file.path);
            assert!(names.clone().all(|name| !name.ends_with(".m3u8")));
            return;
        }
        let mut files = self.files.clone();
        assert_eq!(update.tails.len(), self.renditions.len());
        for tail in &update.tails {
            let content = self.grown(tail).concat();
            let old = files.insert(tail.path.clone(), content.clone());
            // A file that is only ever appended to (RFC 8216 section 6.2.1).
            assert!(old.is_none_or(|old| content.starts_with(&old)));
            let before = self.stored > 0;
            assert!(!before || tail.leaves.len() == 1, "written again");
        }
        for file in &update.files {
            let content = file.parts.concat();
            if let Some(text) = file
                .path
                .ends_with(".m3u8")
                .then(|| String::from_utf8_lossy(&content))
            {
                for tag in [
                    "PART",
                    "SERVER-CONTROL",
                    "PRELOAD-HINT",
                    "RENDITION-REPORT",
                    "SKIP",
                ] {
                    assert!(
                        !text.contains(&format!("#EXT-X-{tag}")),
                        "{}: {text}",
                        file.path
                    );
                }
            }
            let old = files.insert(file.path.clone(), content);
            let fixed = !file.path.ends_with(".m3u8");
            assert!(!fixed || old.is_none(), "{} is stored twice", file.path);
        }
        let mut rows = self.rows.clone();
        rows.extend(update.row.clone());
        let list = |path: String| {
            files
                .get(&path)
                .map(|text| read(std::str::from_utf8(text).unwrap()))
        };
        for &rendition in self.renditions {
            let directory = format!("{}/", rendition.name());
            let live = list(format!("{directory}live.m3u8")).expect("always there");
            self.check_playlist(&live, rendition, &directory, &files);
            self.check_newest(&live, rendition, &rows);
            assert_eq!(live.ended, update.finish);
            let vod = list(format!("{directory}vod.m3u8"));
            assert_eq!(vod.is_some(), update.finish);
            let event = list(format!("{directory}event.m3u8")).expect("always there");
            self.check_playlist(&event, rendition, &directory, &files);
            self.check_newest(&event, rendition, &rows);
            assert_eq!(event.segments.len(), rows.len(), "from the start");
            assert_eq!(event.ended, update.finish);
            if let Some(vod) = vod {
                self.check_playlist(&vod, rendition, &directory, &files);
                assert_eq!(vod.segments.len(), rows.len(), "the whole broadcast");
                self.check_newest(&vod, rendition, &rows);
                assert!(vod.ended);
            }
        }
        for (index, name) in [
            ("index.m3u8", "live"),
            ("event.m3u8", "event"),
            ("vod.m3u8", "vod"),
        ] {
            let Some(text) = files.get(index) else {
                assert!(rows.is_empty() || !update.finish && name == "vod");
                continue;
            };
            let index = parse_master_playlist_res(text).unwrap();
            let uris: Vec<_> = index
                .variants
                .iter()
                .map(|variant| &variant.uri[..])
                .collect();
            let names = ["video", "low", "audio"].into_iter();
            let names = names.filter(|it| *it != "low" || self.settings.low.is_some());
            let expected: Vec<_> = names.map(|it| format!("{it}/{name}.m3u8")).collect();
            assert_eq!(uris, expected);
            assert!(uris.iter().all(|uri| files.contains_key(*uri)));
        }
    }

    fn check_rows(&self) {
        let origins = &self.origins[self.origins.len() - self.shown.len()..];
        for (pair, origins) in self.shown.windows(2).zip(origins.windows(2)) {
            let (before, after) = (&pair[0], &pair[1]);
            assert_eq!(after.media_sequence, before.media_sequence + 1);
            assert_eq!(after.run, before.run + u64::from(after.discontinuity));
            let (life, run, ordinal) = origins[0];
            assert_eq!(after.discontinuity, origins[1] != (life, run, ordinal + 1));
        }
        assert_eq!(check_rows(self.first, &self.rows), Ok(()));
    }

    /// What the origin shows of the video: first number, discontinuity sequence, and each segment with its tag.
    fn shown(&self) -> String {
        let Some(MediaPlaylist {
            media_sequence,
            discontinuity_sequence,
            segments,
            ended,
            ..
        }) = (self.publication.origin(Rendition::Video)).map(|origin| origin.playlist)
        else {
            return "nothing".into();
        };
        let mut out = format!("{media_sequence} ({discontinuity_sequence}):");
        for (segment, number) in segments.iter().zip(media_sequence..) {
            let tag = if segment.discontinuity { " |" } else { "" };
            let path = segment_path(Rendition::Video, number);
            let (run, ordinal) = self::made(&self.available()[&path]);
            let from_memory = if self.files.contains_key(&path) {
                ""
            } else {
                "*"
            };
            write!(out, "{tag} {run}/{ordinal}{from_memory}").unwrap();
        }
        if ended {
            out.push_str(" end");
        }
        out
    }
}

/// Whether numbers are missing between two rows.
fn follows_a_hole(before: Option<&Row>, row: &Row) -> bool {
    before.is_some_and(|before| before.media_sequence + 1 != row.media_sequence)
}

/// Run and number of a segment that the fake made.
fn made(bytes: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(bytes).unwrap().trim_end_matches('+');
    let (run, ordinal) = text.split_once(' ').unwrap().1.split_once('/').unwrap();
    (run.parse().unwrap(), ordinal.parse().unwrap())
}

/// What is done to a box, in short.
#[derive(Debug, Clone)]
enum Step {
    /// A whole segment of this many ticks of video.
    Segment(u64),
    /// One rendition of it.
    Video(u64),
    Audio,
    /// A part of what is being made.
    Part(Rendition),
    Low,
    BeginRun,
    Next,
    Stored,
    /// The store did not take it.
    Failed,
    /// The store is asked again.
    Again,
    Finish,
    Crash {
        durable: bool,
    },
}

fn perform(world: &mut World, step: Step) {
    match step {
        Step::Segment(ticks) => world.segment(ticks),
        Step::Video(ticks) => world.video(ticks),
        Step::Audio => world.other(Rendition::Audio),
        Step::Low => world.other(Rendition::Low),
        Step::Part(rendition) => world.part(rendition),
        Step::BeginRun => world.begin_run(),
        Step::Next => {
            world.next();
        }
        Step::Stored if world.under_way.is_some() => world.stored(),
        Step::Failed if world.under_way.is_some() => world.failed(),
        Step::Stored | Step::Failed => {}
        Step::Again => world.publication.store_again(),
        Step::Finish => world.finish(),
        Step::Crash { durable } => world.crash(durable),
    }
}

/// From steps to what the origin shows in the end.
fn check(steps: impl IntoIterator<Item = Step>, expected: Expect) {
    check_with(SETTINGS, steps, expected);
}

fn check_with(settings: Settings, steps: impl IntoIterator<Item = Step>, expected: Expect) {
    let mut world = World::with(settings, Numbers::default());
    world.begin_run();
    for step in steps {
        perform(&mut world, step);
    }
    expected.assert_eq(&world.shown());
}

const SEGMENT: Step = Step::Segment(180_000);
use Step::{Again, BeginRun, Crash, Failed, Finish, Next, Stored};

#[test]
fn nothing_is_shown_before_it_is_stored() {
    check([SEGMENT], expect!["nothing"]);
    check([SEGMENT, Next], expect!["nothing"]);
    check([SEGMENT, Next, Stored], expect!["0 (0): 1/0"]);
    check(
        [SEGMENT, Next, Stored, SEGMENT, Next, SEGMENT],
        expect!["0 (0): 1/0"],
    );
}

#[test]
fn a_segment_waits_for_all_its_renditions() {
    check([Step::Video(180_000), Next, Stored], expect!["nothing"]);
    check(
        [
            Step::Video(180_000),
            Step::Video(180_000),
            Step::Audio,
            Next,
            Stored,
            Next,
            Stored,
        ],
        expect!["0 (0): 1/0"],
    );
}

#[test]
fn with_a_low_video_a_segment_waits_for_that_too() {
    let video = || Step::Video(180_000);
    check_with(
        LADDER,
        [video(), Step::Audio, Next, Stored],
        expect!["nothing"],
    );
    check_with(
        LADDER,
        [
            video(),
            video(),
            Step::Low,
            Step::Low,
            Step::Audio,
            Next,
            Stored,
            Next,
            Stored,
        ],
        expect!["0 (0): 1/0"],
    );
    // Whichever comes last.
    check_with(
        LADDER,
        [
            video(),
            Step::Audio,
            Step::Low,
            Next,
            Stored,
            SEGMENT,
            Next,
            Stored,
        ],
        expect!["0 (0): 1/0 1/1"],
    );
}

/// The rows go through their JSON, as in the journal.
fn journalled(rows: &[Row]) -> Vec<Row> {
    let text = serde_json::to_string(rows).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_broadcast_is_closed_with_the_renditions_that_it_has() {
    let mut world = World::with(LADDER, Numbers::default());
    world.begin_run();
    world.segments(3);
    world.store_all();
    let rows = journalled(&world.rows);
    assert_eq!(rows, world.rows);
    let paths = |settings: Settings, rows: &[Row]| {
        let mut publication =
            Publication::recovered(settings, Numbers::default(), rows.to_vec(), false);
        publication.finish();
        let update = publication.next_update().unwrap();
        assert!(update.finish);
        publication.stored();
        assert!(publication.finished());
        let paths = update.files.iter().map(|file| file.path.as_str());
        let tails = update.tails.iter().map(|tail| tail.path.as_str());
        paths.chain(tails).collect::<Vec<_>>().join(" ")
    };
    expect![
        "video/live.m3u8 video/vod.m3u8 audio/live.m3u8 audio/vod.m3u8 low/live.m3u8 low/vod.m3u8 index.m3u8 event.m3u8 vod.m3u8 video/event.m3u8 audio/event.m3u8 low/event.m3u8"
    ]
    .assert_eq(&paths(LADDER, &rows));
    // Settings that know nothing of the low video, and rows that do not: what both have is closed.
    let both = "video/live.m3u8 video/vod.m3u8 audio/live.m3u8 audio/vod.m3u8 index.m3u8 event.m3u8 vod.m3u8 video/event.m3u8 audio/event.m3u8";
    assert_eq!(paths(SETTINGS, &rows), both);
    let mut without = rows.clone();
    for row in &mut without {
        row.codecs.truncate(2);
        row.durations.truncate(2);
        row.sizes.truncate(2);
    }
    assert_eq!(paths(LADDER, &without), both);
    // Rows of a journal that somebody else wrote.
    let mut odd = rows.clone();
    odd[1].sizes.truncate(2);
    assert_eq!(paths(LADDER, &odd), both);
    odd[1].codecs.clear();
    assert_eq!(paths(LADDER, &odd), "");
    for row in &mut odd {
        row.sizes.extend([0; 9]);
        row.durations.clear();
    }
    assert_eq!(paths(LADDER, &odd), "");
}

#[test]
fn a_row_of_a_journal_before_the_low_video_is_still_read() {
    let row = r#"{"media_sequence":7,"run":1,"discontinuity":false,"codecs":["avc1.64001F","mp4a.40.2"],
        "program_date_time_ms":null,"durations":[{"ticks":180000,"timescale":90000},{"ticks":96256,"timescale":48000}],
        "sizes":[750000,32000]}"#;
    let row: Row = serde_json::from_str(row).unwrap();
    let publication = Publication::recovered(SETTINGS, Numbers::default(), vec![row], false);
    assert_eq!(
        publication.renditions(),
        [Rendition::Video, Rendition::Audio]
    );
    assert!(publication.origin(Rendition::Audio).is_some());
    assert!(publication.origin(Rendition::Low).is_none());
}

#[test]
fn the_ladder_in_one_playlist() {
    let mut world = World::with(LADDER, Numbers::default());
    world.begin_run();
    world.segments(2);
    world.store_all();
    expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-INDEPENDENT-SEGMENTS
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Programme",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio.m3u8"
        #EXT-X-STREAM-INF:BANDWIDTH=3890800,AVERAGE-BANDWIDTH=89,CODECS="video.1,audio.1",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO="audio"
        video.m3u8
        #EXT-X-STREAM-INF:BANDWIDTH=640800,AVERAGE-BANDWIDTH=81,CODECS="low.1,audio.1",RESOLUTION=320x180,FRAME-RATE=30.000,AUDIO="audio"
        low.m3u8
        #EXT-X-STREAM-INF:BANDWIDTH=140800,AVERAGE-BANDWIDTH=41,CODECS="audio.1",AUDIO="audio"
        audio.m3u8
    "##]]
    .assert_eq(&world.publication.origin_index().unwrap().to_string());
}

#[test]
fn the_window_slides() {
    let steps = std::iter::repeat_n([SEGMENT, Next, Stored], 9).flatten();
    check(steps, expect!["3 (0): 1/3 1/4 1/5 1/6 1/7 1/8"]);
}

#[test]
fn short_segments_do_not_shrink_the_window_below_three_target_durations() {
    let short = Step::Segment(45_000);
    let steps = std::iter::repeat_n([short, Next, Stored], 14).flatten();
    check(
        steps,
        expect!["2 (0): 1/2 1/3 1/4 1/5 1/6 1/7 1/8 1/9 1/10 1/11 1/12 1/13"],
    );
}

#[test]
fn a_segment_that_cannot_be_stored_goes_on_air_from_memory() {
    check(
        [
            SEGMENT, Next, Stored, SEGMENT, Next, Failed, SEGMENT, Next, Stored, Again, SEGMENT,
            Next, Stored,
        ],
        expect!["0 (0): 1/0 1/1* 1/2* 1/3"],
    );
    // The first one.
    check(
        [SEGMENT, Next, Failed, Again, SEGMENT, Next, Stored],
        expect!["0 (0): 1/0* 1/1"],
    );
    // Another run begins meanwhile.
    check(
        [
            SEGMENT, Next, Stored, SEGMENT, Next, Failed, BeginRun, SEGMENT, Next, Failed, SEGMENT,
            Next, Failed, Again, SEGMENT, Next, Stored,
        ],
        expect!["0 (0): 1/0 1/1* | 2/0* 2/1* 2/2"],
    );
    // For long: the list is as short as may be, and grows again once all of it is stored.
    let settings = Settings {
        window: 12,
        ..SETTINGS
    };
    let many = |count| std::iter::repeat_n([SEGMENT, Next, Stored], count).flatten();
    let outage = || many(13).chain([SEGMENT, Next, Failed]).chain(many(9));
    check_with(
        settings,
        outage(),
        expect!["15 (0): 1/15* 1/16* 1/17* 1/18* 1/19* 1/20* 1/21* 1/22*"],
    );
    let after = |count| outage().chain([Again]).chain(many(count));
    check_with(
        settings,
        after(5),
        expect!["20 (0): 1/20* 1/21* 1/22* 1/23 1/24 1/25 1/26 1/27"],
    );
    check_with(
        settings,
        after(9),
        expect!["23 (0): 1/23 1/24 1/25 1/26 1/27 1/28 1/29 1/30 1/31"],
    );
    check_with(
        settings,
        after(13),
        expect!["24 (0): 1/24 1/25 1/26 1/27 1/28 1/29 1/30 1/31 1/32 1/33 1/34 1/35"],
    );
}

#[test]
fn the_copy_leaves_out_what_was_not_stored() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    for step in [
        SEGMENT, SEGMENT, Next, Stored, Next, Stored, SEGMENT, Next, Failed, SEGMENT, Next, Stored,
    ] {
        perform(&mut world, step);
    }
    for step in [Again, SEGMENT, Next, Stored, SEGMENT, Finish, Next, Stored] {
        perform(&mut world, step);
    }
    let told = |path: &str| {
        let text = String::from_utf8(world.files[path].clone()).unwrap();
        let lines = text.lines().filter(|line| {
            !line.starts_with('#') || line.contains("SEQUENCE") || line.contains("DISC")
        });
        lines.collect::<Vec<_>>().join(" ")
    };
    expect!["#EXT-X-MEDIA-SEQUENCE:0 #EXT-X-DISCONTINUITY-SEQUENCE:0 0000/0.m4s 0000/1.m4s #EXT-X-DISCONTINUITY 0000/4.m4s 0000/5.m4s"].assert_eq(&told("video/vod.m3u8"));
    expect!["#EXT-X-MEDIA-SEQUENCE:4 #EXT-X-DISCONTINUITY-SEQUENCE:0 0000/4.m4s 0000/5.m4s"]
        .assert_eq(&told("video/live.m3u8"));
    // Its init segment is stored once, and the run goes on.
    assert_eq!(world.rows.last().unwrap().run, 0);
    assert_eq!(world.publication.unstored(), 2);
}

#[test]
fn a_broadcast_that_is_in_memory_only_ends_for_its_viewers() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    world.publication.keep_in_memory();
    world.segments(2);
    world.store_all();
    world.segments(1);
    world.publication.abandon();
    let ended = |world: &World| {
        world
            .publication
            .origin(Rendition::Video)
            .unwrap()
            .playlist
            .ended
    };
    assert!(!ended(&world), "the last segment is still to come");
    let update = world.publication.next_update().unwrap();
    assert!(!update.store);
    world.publication.failed();
    assert!(ended(&world) && !world.publication.finished());
    assert_eq!(world.publication.next_update(), None);
}

#[test]
fn a_run_that_failed_to_be_stored_leaves_no_hole_in_the_numbers() {
    check(
        [
            SEGMENT, Next, Stored, BeginRun, SEGMENT, Next, BeginRun, Failed, Again, SEGMENT, Next,
            Stored,
        ],
        expect!["0 (0): 1/0 | 2/0* | 3/0"],
    );
}

#[test]
fn when_the_store_hangs_the_oldest_segments_are_left_out() {
    let mut steps = vec![SEGMENT, Next];
    steps.extend(std::iter::repeat_n(SEGMENT, MAX_WAITING + 3));
    steps.extend(std::iter::repeat_n([Stored, Next], MAX_WAITING + 3).flatten());
    check(steps, expect!["0 (0): 1/0 | 1/4 1/5 1/6 1/7"]);
}

#[test]
fn what_waits_when_a_run_begins_is_published_as_of_its_own_run() {
    check(
        [
            SEGMENT, Next, SEGMENT, SEGMENT, BeginRun, SEGMENT, Stored, Next, Stored, Next, Stored,
            Next, Stored,
        ],
        expect!["0 (0): 1/0 1/1 1/2 | 2/0"],
    );
}

#[test]
fn what_is_open_when_a_run_begins_is_left_out() {
    check(
        [
            SEGMENT,
            Next,
            Stored,
            Step::Video(180_000),
            BeginRun,
            SEGMENT,
            Next,
            Stored,
        ],
        expect!["0 (0): 1/0 | 2/0"],
    );
}

#[test]
fn after_a_crash_a_new_run_goes_on_behind_what_is_stored() {
    check(
        [
            SEGMENT,
            Next,
            Stored,
            SEGMENT,
            Next,
            Crash { durable: true },
            SEGMENT,
            Next,
            Stored,
            SEGMENT,
            Next,
            Crash { durable: false },
            SEGMENT,
            Next,
            Stored,
        ],
        expect!["0 (0): 1/0 1/1 | 2/0 | 3/0"],
    );
}

#[test]
fn the_end_comes_with_the_last_segment() {
    check(
        [SEGMENT, SEGMENT, Finish, Next, Stored],
        expect!["0 (0): 1/0"],
    );
    check(
        [SEGMENT, SEGMENT, Finish, Next, Stored, Next, Stored],
        expect!["0 (0): 1/0 1/1 end"],
    );
    // It was under way when the end was decided: the end follows it.
    check([SEGMENT, Next, Finish, Stored], expect!["0 (0): 1/0"]);
    check(
        [SEGMENT, Next, Finish, Stored, Next, Stored, Next],
        expect!["0 (0): 1/0 end"],
    );
    // It was not stored: the end comes without it, once it is asked for again.
    check(
        [
            SEGMENT, Next, Stored, SEGMENT, Finish, Next, Failed, Next, Finish, Next, Stored,
        ],
        expect!["0 (0): 1/0 1/1* end"],
    );
}

#[test]
fn a_store_that_cannot_close_the_broadcast_is_not_asked_for_ever() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    world.segments(3);
    world.finish();
    let mut asked = 0;
    while world.next().is_some() {
        world.failed();
        asked += 1;
        assert!(asked <= 4, "asked {asked} times");
    }
    assert!(!world.publication.finished());
    // The next life closes it.
    world.crash(false);
    world.finish();
    world.store_all();
    assert!(world.publication.finished());
}

#[test]
fn a_broadcast_without_a_segment_is_closed_with_empty_playlists() {
    let first = Numbers {
        media_sequence: 57,
        run: 4,
    };
    let mut world = World::new(first);
    world.finish();
    world.store_all();
    assert!(world.publication.finished());
    let list = &world.seen[1][0].as_ref().unwrap();
    assert_eq!((list.media_sequence, list.discontinuity_sequence), (57, 4));
    assert_eq!(world.publication.numbers(), first);
}

#[test]
fn a_segment_without_an_init_segment_is_not_published() {
    let mut world = World::new(Numbers::default());
    world.publication.begin_run();
    world.segments(2);
    assert_eq!(world.next(), None);
    assert_eq!(world.publication.lost(), 2);
    world.begin_run();
    world.segments(1);
    world.store_all();
    assert_eq!(world.rows.len(), 1);
}

#[test]
fn directories_stay_small() {
    let mut world = World::new(Numbers {
        media_sequence: 250,
        run: 0,
    });
    // As many runs as segments.
    for _ in 0..300 {
        world.begin_run();
        world.segments(1);
        world.store_all();
    }
    for path in [
        "video/0000/255.m4s",
        "audio/0001/256.m4s",
        "video/init/0000/init-255.mp4",
        "audio/init/0001/init-256.mp4",
    ] {
        assert!(world.files.contains_key(path), "{path}");
    }
    let mut entries = BTreeMap::<&str, usize>::new();
    for (dir, _) in world.files.keys().filter_map(|path| path.rsplit_once('/')) {
        *entries.entry(dir).or_default() += 1;
    }
    assert_eq!(entries.values().max(), Some(&256), "{entries:?}");
}

#[test]
fn the_event_playlist_goes_on_in_another_leaf() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    for _ in 0..SEGMENTS_A_LEAF {
        world.segments(1);
        world.store_all();
    }
    // The init segment that is in force is not told again; another run is, at the head of a leaf too.
    world.segments(1);
    world.store_all();
    let leaves = &world.leaves["video/event.m3u8"];
    assert_eq!(leaves.len(), 2);
    assert!(leaves[1].starts_with(b"#EXT-X-PROGRAM-DATE-TIME"));
    assert!(leaves.iter().all(|leaf| leaf.len() < 6000));
    let before = leaves[0].clone();
    world.begin_run();
    for _ in 0..SEGMENTS_A_LEAF {
        world.segments(1);
        world.store_all();
    }
    world.finish();
    world.store_all();
    let leaves = &world.leaves["video/event.m3u8"];
    assert_eq!((leaves.len(), &leaves[0]), (3, &before));
    assert!(leaves[2].ends_with(b"#EXT-X-ENDLIST\n"));
    // A later life says all of it again, the same to the byte.
    let mut publication =
        Publication::recovered(SETTINGS, Numbers::default(), world.rows.clone(), false);
    publication.finish();
    let update = publication.next_update().unwrap();
    assert_eq!((update.tails[0].keep, &update.tails[0].leaves), (0, leaves));
}

#[test]
fn what_is_attached_is_stored_with_the_first_update_of_each_life() {
    let page = File {
        path: "player.html".into(),
        parts: vec![Bytes::from_static(b"page")],
    };
    let mut world = World::new(Numbers::default());
    world.publication.attach(vec![page.clone()]);
    world.begin_run();
    world.segments(3);
    for stored in [false, true, true] {
        let update = world.next().unwrap();
        assert_eq!(update.files.contains(&page), !stored);
        world.stored();
    }
    let mut publication =
        Publication::recovered(SETTINGS, Numbers::default(), world.rows.clone(), false);
    publication.attach(vec![page.clone()]);
    publication.finish();
    assert!(publication.next_update().unwrap().files.contains(&page));
}

#[test]
fn bandwidth_bounds_every_segment() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    let mut segment = |bytes: usize, ticks: u64| {
        for mut output in world.fake.segment(Rendition::Video, ticks, 1) {
            if let Output::Part(part) = &mut output {
                part.bytes = vec![0; bytes].into();
            }
            world.publication.push(output, wall);
        }
        for output in world.fake.segment(Rendition::Audio, ticks * 48 / 90, 1) {
            world.publication.push(output, wall);
        }
        assert!(world.publication.next_update().is_some());
        world.publication.stored();
        world.publication.origin_index().unwrap().videos.remove(0)
    };
    // 3 Mb/s, as asked: the bound is what rate control promises.
    let video = segment(750_000, 180_000);
    assert_eq!(
        (video.bandwidth, video.average_bandwidth),
        (3_750_000, 3_000_000)
    );
    // 5 Mb/s for once.
    let video = segment(1_250_000, 180_000);
    assert_eq!(
        (video.bandwidth, video.average_bandwidth),
        (5_000_000, 4_000_000)
    );
    // The single keyframe at the end of a run says nothing about the rate.
    let video = segment(100_000, 3000);
    assert_eq!(video.bandwidth, 5_000_000);
}

/// The end of the video's playlist as viewers get it: what follows the last segment.
fn check_edge(steps: impl IntoIterator<Item = Step>, expected: Expect) {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    for step in steps {
        perform(&mut world, step);
    }
    let text = world.publication.origin(Rendition::Video).unwrap().full();
    let (_, edge) = text
        .rsplit_once(".m4s\n#EXT-X-PROGRAM")
        .unwrap_or(("", &text));
    let edge: Vec<_> = (edge.lines())
        .filter(|line| !line.contains("DATE-TIME") && !line.starts_with("-DATE"))
        .collect();
    expected.assert_eq(&edge[edge.len().saturating_sub(7)..].join("\n"));
}

const PART: Step = Step::Part(Rendition::Video);

#[test]
fn parts_are_listed_of_the_segment_after_the_last_stored_one_only() {
    // Being made.
    check_edge(
        [SEGMENT, Next, Stored, PART, PART],
        expect![[r##"
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-1.m4s"
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI="video/part-0-1-2.m4s"
        #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=0,LAST-PART=1"##]],
    );
    // Complete, and not stored yet: the hint is what comes after it, and a part of that is not listed.
    check_edge(
        [SEGMENT, Next, Stored, SEGMENT, Next, PART],
        expect![[r##"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-0.m4s",INDEPENDENT=YES
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-1.m4s"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-2.m4s"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-1-3.m4s"
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI="video/part-0-2-0.m4s"
            #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=1,LAST-PART=1"##]],
    );
    // Not stored: all the same.
    check_edge(
        [SEGMENT, Next, Stored, SEGMENT, PART, Next, Failed, PART],
        expect![[r##"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-2-0.m4s",INDEPENDENT=YES
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-2-1.m4s"
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI="video/part-0-2-2.m4s"
            #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=1,LAST-PART=1"##]],
    );
    // Of another run.
    check_edge(
        [SEGMENT, Next, Stored, PART, BeginRun, PART],
        expect![[r##"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-0.m4s",INDEPENDENT=YES
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-1.m4s"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-2.m4s"
            #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-3.m4s"
            #EXTINF:2.000000,
            video/0.m4s
            #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=0,LAST-PART=1"##]],
    );
    // Over.
    check_edge(
        [SEGMENT, Next, Stored, PART, Finish],
        expect![[r##"
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-1.m4s"
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-2.m4s"
        #EXT-X-PART:DURATION=0.500000,URI="video/part-0-0-3.m4s"
        #EXTINF:2.000000,
        video/0.m4s
        #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=0,LAST-PART=1"##]],
    );
}

#[test]
fn a_part_that_was_withdrawn_never_shares_its_address() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    world.segments(1);
    world.store_all();
    // Announced as the segment with number 1, and left out with its run; another segment gets the number.
    world.part(Rendition::Video);
    world.part(Rendition::Audio);
    world.begin_run();
    world.segments(1);
    world.store_all();
    let names: Vec<_> = (world.parts.keys())
        .filter(|(_, name)| name.media_sequence == 1 && name.index == 0)
        .map(|(rendition, name)| format!("{}/{name}", rendition.name()))
        .collect();
    let expected = [
        "video/part-0-1-0.m4s",
        "video/part-1-1-0.m4s",
        "audio/part-0-1-0.m4s",
        "audio/part-1-1-0.m4s",
    ];
    assert_eq!(names, expected);
}

#[test]
fn a_part_name_is_read_as_it_is_written() {
    let name = PartName {
        run: 3,
        media_sequence: 57,
        index: 2,
    };
    assert_eq!(name.to_string(), "part-3-57-2.m4s");
    assert_eq!(PartName::parse("part-3-57-2.m4s"), Some(name));
    for other in [
        "part-3-57.m4s",
        "part-3-57-2-1.m4s",
        "part-3-57-.m4s",
        "57.m4s",
        "part---.m4s",
        "",
    ] {
        assert_eq!(PartName::parse(other), None, "{other}");
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    // What rounds to the target duration at most, and now and then the short end of a run.
    let ticks = || prop_oneof![9 => 90_000u64..224_000, 1 => 3000u64..90_000];
    prop_oneof![
        6 => ticks().prop_map(Step::Segment),
        1 => ticks().prop_map(Step::Video),
        2 => Just(Step::Audio),
        2 => Just(Step::Low),
        6 => prop::sample::select(&Rendition::ALL).prop_map(Step::Part),
        1 => Just(BeginRun),
        6 => Just(Next),
        6 => Just(Stored),
        2 => Just(Failed),
        2 => Just(Again),
        1 => any::<bool>().prop_map(|durable| Crash { durable }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_the_order_of_events_playlists_are_true_and_the_end_is_reached(
        steps in prop::collection::vec(any_step(), 1..120),
        late in prop::collection::vec(any_step(), 0..10),
        media_sequence in 0u64..1000,
        run in 0u64..10,
        settings in prop::sample::select(&[SETTINGS, LADDER]),
    ) {
        let mut world = World::with(settings, Numbers { media_sequence, run });
        world.begin_run();
        for step in steps {
            perform(&mut world, step);
        }
        let waited = world.waiting();
        world.finish();
        let mut last = None;
        while world.under_way.is_some() || world.next().is_some() {
            last = world.under_way.clone();
            world.stored();
        }
        let last = last.expect("the end");
        prop_assert!(last.finish && world.publication.finished());
        prop_assert_eq!(last.row.is_some(), waited > 0, "the end comes with the last segment");
        // Whatever comes now, nothing changes.
        let shown = world.shown();
        let in_memory = !world.memory.is_empty();
        for step in late.into_iter().filter(|step| !in_memory || !matches!(step, Crash { .. })) {
            perform(&mut world, step);
            prop_assert!(world.under_way.is_none());
        }
        prop_assert_eq!(world.shown(), shown);
    }

    #[test]
    fn numbers_rise_from_broadcast_to_broadcast(
        broadcasts in prop::collection::vec(prop::collection::vec(any_step(), 0..20), 1..6),
        settings in prop::sample::select(&[SETTINGS, LADDER]),
    ) {
        let mut first = Numbers::default();
        for steps in broadcasts {
            let mut world = World::with(settings, first);
            world.begin_run();
            for step in steps {
                perform(&mut world, step);
            }
            let next = world.publication.numbers();
            prop_assert!(next.media_sequence >= first.media_sequence && next.run >= first.run);
            prop_assert!(world.rows.iter().all(|row| row.media_sequence < next.media_sequence));
            first = next;
        }
    }
}

#[test]
fn rows_of_a_damaged_journal_are_refused() {
    let mut world = World::new(Numbers {
        media_sequence: 7,
        run: 2,
    });
    world.begin_run();
    world.segments(2);
    world.store_all();
    world.begin_run();
    world.segments(1);
    world.store_all();
    let check = |damage: fn(&mut Vec<Row>), expected: Result<(), &str>| {
        let mut rows = world.rows.clone();
        damage(&mut rows);
        let result = check_rows(world.first, &rows);
        assert_eq!(
            result.map_err(|error| error.to_string()),
            expected.map_err(String::from)
        );
    };
    check(|_| {}, Ok(()));
    check(
        |rows| rows.swap(0, 1),
        Err("row 1 of the journal cannot be: its media sequence number is not the next"),
    );
    check(|rows| drop(rows.remove(0)), Ok(()));
    check(|rows| rows[2].media_sequence += 5, Ok(()));
    check(
        |rows| rows[2].run = 9,
        Err("row 2 of the journal cannot be: its run is not the next"),
    );
    check(
        |rows| rows[0].discontinuity = true,
        Err("row 0 of the journal cannot be: nothing is before its discontinuity"),
    );
    check(
        |rows| rows[1].durations[1].timescale = 0,
        Err("row 1 of the journal cannot be: it has no length"),
    );
    check(
        |rows| rows[1].sizes[0] = u64::MAX,
        Err("row 1 of the journal cannot be: it is larger than any segment"),
    );
    check(
        |rows| rows[1].program_date_time_ms = Some(u64::MAX),
        Err("row 1 of the journal cannot be: its date is after the year 9999"),
    );
}

/// Of five segments in two runs some are lost: the VOD playlist has a discontinuity there, the sliding one begins behind.
#[test]
fn playlists_lead_around_segments_that_are_lost() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    world.segments(3);
    world.store_all();
    world.begin_run();
    world.segments(2);
    world.store_all();
    let check = |lost: &[u64], vod: &[(&str, bool)], sliding: u64| {
        let rows = rows_without(world.rows.clone(), |row| lost.contains(&row.media_sequence));
        assert_eq!(check_rows(world.first, &rows), Ok(()));
        let mut publication = Publication::recovered(SETTINGS, world.first, rows, false);
        publication.finish();
        let update = publication.next_update().unwrap();
        let text = |path: &str| {
            let file = update.files.iter().find(|file| file.path == path).unwrap();
            String::from_utf8(file.parts.concat()).unwrap()
        };
        let vod_text = text("video/vod.m3u8");
        let playlist = parse_media_playlist_res(vod_text.as_bytes()).unwrap();
        let told: Vec<_> = (playlist.segments.iter())
            .map(|it| (it.uri.as_str(), it.discontinuity))
            .collect();
        assert_eq!(told, vod, "{vod_text}");
        let live = text("video/live.m3u8");
        let live = parse_media_playlist_res(live.as_bytes()).unwrap();
        assert_eq!(live.media_sequence, sliding);
    };
    let name = |i: usize| {
        [
            "0000/0.m4s",
            "0000/1.m4s",
            "0000/2.m4s",
            "0000/3.m4s",
            "0000/4.m4s",
        ][i]
    };
    check(
        &[],
        &[
            (name(0), false),
            (name(1), false),
            (name(2), false),
            (name(3), true),
            (name(4), false),
        ],
        0,
    );
    check(
        &[1],
        &[
            (name(0), false),
            (name(2), true),
            (name(3), true),
            (name(4), false),
        ],
        2,
    );
    check(
        &[0],
        &[
            (name(1), false),
            (name(2), false),
            (name(3), true),
            (name(4), false),
        ],
        1,
    );
    check(
        &[2, 3],
        &[(name(0), false), (name(1), false), (name(4), true)],
        4,
    );
    check(
        &[3, 4],
        &[(name(0), false), (name(1), false), (name(2), false)],
        0,
    );
}

#[test]
fn a_broadcast_on_demand_is_of_the_right_type() {
    let mut world = World::new(Numbers::default());
    world.begin_run();
    world.segments(2);
    world.finish();
    world.store_all();
    let text = String::from_utf8(world.files["video/vod.m3u8"].clone()).unwrap();
    assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n"));
    let live = world.publication.origin(Rendition::Video).unwrap();
    assert_eq!(live.playlist.playlist_type, PlaylistType::Sliding);
}
