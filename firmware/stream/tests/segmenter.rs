//! The segmenter and the fragments that it writes, read back by a box walker of our own and judged by ffmpeg.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use stream::media::{
    AAC_FRAME, AccessUnit, AudioConfig, AudioFrame, Rendition, SAMPLE_RATE, VideoConfig, ticks,
};
use stream::segmenter::{
    InitSegment, MediaSegment, Output, PartialSegment, Segmenter, SegmenterError, Settings,
};

/// Where a run begins, as on the timeline.
const EPOCH: Duration = Duration::from_secs(10);

const SETTINGS: Settings = Settings {
    segment: Duration::from_secs(2),
    part: Duration::from_millis(500),
    frame: Duration::from_nanos(33_333_333),
    low: false,
};

/// With a low video beside the video.
const LADDER: Settings = Settings {
    low: true,
    ..SETTINGS
};

fn video_config() -> VideoConfig {
    VideoConfig {
        avcc: Bytes::from_static(include_bytes!("../testdata/video.avcc")),
        width: 96,
        height: 54,
    }
}

fn low_config() -> VideoConfig {
    VideoConfig {
        width: 48,
        height: 27,
        ..video_config()
    }
}

fn audio_config() -> AudioConfig {
    AudioConfig {
        audio_specific_config: Bytes::from_static(include_bytes!("../testdata/audio.asc")),
        channels: 1,
        bitrate: 24_000,
    }
}

/// Real access units: whether each is a keyframe, and its bytes.
fn samples(mut file: &'static [u8]) -> Vec<(bool, Bytes)> {
    let mut samples = Vec::new();
    while let Some((head, rest)) = file.split_at_checked(5) {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
        samples.push((head[0] == 1, Bytes::from_static(&rest[..length])));
        file = &rest[length..];
    }
    samples
}

/// One NAL unit: an IDR slice or another one (ITU-T H.264 table 7-1).
fn unit(pts: Duration, keyframe: bool) -> AccessUnit {
    AccessUnit {
        pts,
        keyframe,
        data: Bytes::from_static(if keyframe {
            b"\0\0\0\x08\x65picture"
        } else {
            b"\0\0\0\x08\x41picture"
        }),
    }
}

fn aac(pts: Duration) -> AudioFrame {
    AudioFrame {
        pts,
        data: Bytes::from_static(b"aac"),
    }
}

/// Programme time of AAC frame `n` of a run whose sound begins at `start`.
fn aac_pts(start: Duration, n: u64) -> Duration {
    start + Duration::from_nanos(n * AAC_FRAME * 1_000_000_000 / u64::from(SAMPLE_RATE))
}

fn configured(settings: Settings) -> (Segmenter, Vec<Output>) {
    let (mut segmenter, mut out) = (Segmenter::new(settings), Vec::new());
    segmenter
        .configure_video(Rendition::Video, video_config(), &mut out)
        .unwrap();
    segmenter.configure_audio(audio_config(), &mut out).unwrap();
    if settings.low {
        let low = low_config();
        segmenter
            .configure_video(Rendition::Low, low, &mut out)
            .unwrap();
    }
    (segmenter, out)
}

/// A box: its type and its body, and the rest of the file.
fn split_box(bytes: &[u8]) -> ([u8; 4], &[u8], &[u8]) {
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (whole, rest) = bytes.split_at(length);
    (whole[4..8].try_into().unwrap(), &whole[8..], rest)
}

fn seconds(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() - b.as_secs_f64()
}

fn boxes(mut bytes: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut boxes = Vec::new();
    while !bytes.is_empty() {
        let (name, body, rest) = split_box(bytes);
        boxes.push((name, body));
        bytes = rest;
    }
    boxes
}

/// The only box of this type.
fn child<'a>(bytes: &'a [u8], name: &[u8; 4]) -> &'a [u8] {
    let mut found = boxes(bytes).into_iter().filter(|(it, _)| it == name);
    let (_, body) = found.next().unwrap_or_else(|| panic!("no {name:?}"));
    assert!(found.next().is_none());
    body
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// What a demuxer reads in a fragment (ISO/IEC 14496-12, 8.8).
struct Fragment<'a> {
    sequence_number: u32,
    decode_time: u64,
    /// Duration and whether it is a sync sample.
    samples: Vec<(u32, bool)>,
    payload: &'a [u8],
}

fn fragment(bytes: &[u8]) -> Fragment<'_> {
    let (moof_name, moof, rest) = split_box(bytes);
    let (mdat_name, payload, rest) = split_box(rest);
    assert_eq!((&moof_name, &mdat_name, rest.len()), (b"moof", b"mdat", 0));
    let traf = child(moof, b"traf");
    let tfhd = child(traf, b"tfhd");
    assert_eq!(
        u32_at(tfhd, 0),
        0x02_0000,
        "default-base-is-moof and no more"
    );
    assert_eq!(u32_at(tfhd, 4), 1, "track");
    let tfdt = child(traf, b"tfdt");
    assert_eq!(tfdt[0], 1, "64 bits");
    let trun = child(traf, b"trun");
    let count = u32_at(trun, 4) as usize;
    let offset = u32_at(trun, 8) as usize;
    assert_eq!(
        offset,
        moof.len() + 16,
        "the media begins behind the head of mdat"
    );
    // Duration and size of each sample, and its flags; the flags of one alone may stand before it.
    let (rows, alone) = match u32_at(trun, 0) & 0xff_ffff {
        0x701 => (&trun[12..], None),
        0x305 if count == 1 => (&trun[16..], Some(u32_at(trun, 12))),
        flags => panic!("trun flags {flags:x}"),
    };
    let width = if alone.is_some() { 8 } else { 12 };
    assert_eq!(rows.len(), width * count);
    let rows = rows.chunks_exact(width);
    let size: usize = rows.clone().map(|row| u32_at(row, 4) as usize).sum();
    assert_eq!(size, payload.len());
    Fragment {
        sequence_number: u32_at(child(moof, b"mfhd"), 4),
        decode_time: u64::from_be_bytes(tfdt[4..12].try_into().unwrap()),
        samples: rows
            .map(|row| {
                let sync = match alone.unwrap_or_else(|| u32_at(row, 8)) {
                    0x0200_0000 => true,
                    0x0101_0000 => false,
                    flags => panic!("sample flags {flags:x}"),
                };
                (u32_at(row, 0), sync)
            })
            .collect(),
        payload,
    }
}

/// One rendition as it is read back.
#[derive(Default)]
struct Track {
    init: Option<InitSegment>,
    segments: Vec<MediaSegment>,
    /// Parts of the open segment.
    open: Vec<PartialSegment>,
    /// Ticks of the parts of each segment.
    lengths: Vec<Vec<u64>>,
    first_decode_time: Option<u64>,
    next_decode_time: u64,
    fragments: u32,
    /// Total length in ticks.
    length: u64,
    payload: usize,
    /// Shortest part that is not the last of its segment, as a share of the target.
    shortest_part: Option<f64>,
}

/// Reads outputs as they come and checks what must hold whatever the input was.
struct Reader {
    settings: Settings,
    tracks: [Track; 3],
}

impl Reader {
    fn new(settings: Settings) -> Reader {
        Reader {
            settings,
            tracks: Default::default(),
        }
    }

    fn read(settings: Settings, outputs: Vec<Output>) -> Reader {
        let mut reader = Reader::new(settings);
        reader.check_invariants(outputs);
        reader
    }

    fn check_invariants(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Init(init) => {
                    let track = &mut self.tracks[init.rendition as usize];
                    assert!(
                        track.init.is_none() && track.fragments == 0,
                        "one init, first"
                    );
                    track.init = Some(init);
                }
                Output::Part(part) => self.part(part),
                Output::Segment(segment) => self.segment(segment),
            }
        }
    }

    fn part(&mut self, part: PartialSegment) {
        let track = &mut self.tracks[part.rendition as usize];
        assert!(track.init.is_some());
        assert_eq!(part.segment, track.segments.len() as u64);
        assert_eq!(part.index, track.open.len() as u32);
        let fragment = fragment(&part.bytes);
        track.fragments += 1;
        assert_eq!(fragment.sequence_number, track.fragments);
        match track.first_decode_time {
            None => track.first_decode_time = Some(fragment.decode_time),
            Some(_) => assert_eq!(fragment.decode_time, track.next_decode_time, "tfdt goes on"),
        }
        let length: u64 = fragment
            .samples
            .iter()
            .map(|sample| u64::from(sample.0))
            .sum();
        assert_eq!(part.duration.ticks, length);
        assert_eq!(part.duration.timescale, part.rendition.timescale());
        let told = ticks(part.start, part.rendition.timescale());
        assert!(told.abs_diff(fragment.decode_time) <= 1, "a part's start");
        track.next_decode_time = fragment.decode_time + length;
        track.length += length;
        track.payload += fragment.payload.len();

        assert_eq!(part.independent, fragment.samples[0].1);
        assert!(
            part.index > 0 || part.independent,
            "a segment starts with a keyframe"
        );
        let target = ticks(self.settings.part, part.rendition.timescale());
        assert!(
            length <= target || fragment.samples.len() == 1,
            "a part of {length} ticks is longer than its target"
        );
        if let Some(before) = track.open.last() {
            let share = before.duration.ticks as f64 / target as f64;
            track.shortest_part = Some(track.shortest_part.unwrap_or(1.0).min(share));
            assert!(
                before.duration.ticks + u64::from(fragment.samples[0].0) > target,
                "the part before had room for one more"
            );
        }
        track.open.push(part);
    }

    fn segment(&mut self, segment: MediaSegment) {
        let video = &self.video().segments.get(segment.segment as usize);
        let video = video.map(|segment| (segment.start, segment.duration));
        let track = &mut self.tracks[segment.rendition as usize];
        assert_eq!(segment.segment, track.segments.len() as u64);
        assert!(!track.open.is_empty());
        let length: u64 = track.open.iter().map(|part| part.duration.ticks).sum();
        assert_eq!(segment.duration.ticks, length);
        let first = fragment(&track.open[0].bytes).decode_time;
        let told = ticks(segment.start, segment.rendition.timescale());
        assert!(told.abs_diff(first) <= 1, "{told} told, {first} written");
        track
            .lengths
            .push(track.open.iter().map(|part| part.duration.ticks).collect());
        track.open.clear();
        if segment.rendition == Rendition::Low {
            let own = (segment.start, segment.duration);
            // The last one may end before that of the video, when the run ends.
            assert!(
                video.is_none_or(|video| video == own),
                "{video:?} and {own:?}"
            );
        }
        if let (Rendition::Audio, Some((video, _))) = (segment.rendition, video) {
            let off = ticks(segment.start, SAMPLE_RATE).abs_diff(ticks(video, SAMPLE_RATE));
            assert!(
                segment.segment == 0 || off <= AAC_FRAME / 2 + 1,
                "segment {}: sound starts {off} samples off the picture",
                segment.segment
            );
        }
        track.segments.push(segment);
    }

    fn video(&self) -> &Track {
        &self.tracks[0]
    }

    fn low(&self) -> &Track {
        &self.tracks[2]
    }

    fn audio(&self) -> &Track {
        &self.tracks[1]
    }

    fn lengths(&self) -> Vec<f64> {
        (self.video().segments.iter())
            .map(|segment| segment.duration.seconds())
            .collect()
    }
}

/// A whole run of these pictures, each with whether it is a keyframe, and of sound from the epoch on.
fn run(
    settings: Settings,
    pictures: impl Iterator<Item = (Duration, bool)>,
) -> Result<Reader, SegmenterError> {
    let (mut segmenter, mut out) = configured(settings);
    let mut reader = Reader::new(settings);
    let mut sound = 0;
    for (pts, keyframe) in pictures {
        segmenter.push_video(Rendition::Video, unit(pts, keyframe), &mut out)?;
        while aac_pts(EPOCH, sound) <= pts {
            segmenter.push_audio(aac(aac_pts(EPOCH, sound)), &mut out)?;
            sound += 1;
        }
        segmenter.check_invariants();
        reader.check_invariants(std::mem::take(&mut out));
    }
    segmenter.finish(&mut out)?;
    reader.check_invariants(out);
    Ok(reader)
}

/// Programme time of picture `n` at `rate` pictures in `per` seconds.
fn picture(n: u64, (rate, per): (u64, u64)) -> Duration {
    EPOCH + Duration::from_nanos((u128::from(n * per) * 1_000_000_000 / u128::from(rate)) as u64)
}

/// Hours of a frame rate: every duration is exact.
fn check_hours(rate: (u64, u64), hours: u64, expected: f64) {
    let settings = Settings {
        frame: picture(1, rate) - EPOCH,
        ..SETTINGS
    };
    let count = hours * 3600 * rate.0 / rate.1;
    let per_segment = (rate.0 as f64 / rate.1 as f64 * 2.0).round() as u64;
    let pictures = (0..count).map(|n| (picture(n, rate), n.is_multiple_of(per_segment)));
    let reader = run(settings, pictures).unwrap();
    let (video, audio) = (reader.video(), reader.audio());

    let told: u64 = video.segments.iter().map(|it| it.duration.ticks).sum();
    let truth = picture(count - 1, rate) - EPOCH + settings.frame;
    assert_eq!(told, video.length);
    assert!(
        told.abs_diff(ticks(truth, 90_000)) <= 1,
        "{told} ticks for {truth:?}"
    );
    let told: u64 = audio.segments.iter().map(|it| it.duration.ticks).sum();
    assert_eq!(told, audio.length);
    assert_eq!(told % AAC_FRAME, 0);
    assert!(told.abs_diff(ticks(truth, SAMPLE_RATE)) <= AAC_FRAME * 2);

    assert_eq!(video.segments.len() as u64, count.div_ceil(per_segment));
    assert_eq!(video.segments.len(), audio.segments.len());
    let (last, whole) = video.segments.split_last().unwrap();
    for segment in whole {
        let seconds = segment.duration.seconds();
        assert!((seconds - expected).abs() < 0.000_012, "{seconds}");
    }
    assert!(last.duration.seconds() <= expected);
    // rfc8216bis 4.4.4.9: no part but the last of a segment is shorter than 85 % of the target.
    for track in [video, audio] {
        let shortest = track.shortest_part.unwrap();
        assert!(
            shortest >= 0.85,
            "{rate:?}: a part of {shortest} of the target"
        );
    }
}

// Pictures at these rates are whole numbers of ticks: what holds for an hour holds for twelve.
#[test]
fn hours_at_25_and_30_frames_a_second_are_exact() {
    check_hours((25, 1), 1, 2.0);
    check_hours((30, 1), 1, 2.0);
}

#[test]
fn twelve_hours_at_29_97_frames_a_second_are_exact() {
    check_hours((30_000, 1001), 12, 2.002);
}

#[test]
fn twelve_hours_at_59_94_frames_a_second_are_exact() {
    check_hours((60_000, 1001), 12, 2.002);
}

/// The default length of a part is one that all usual rates come close to.
#[test]
fn parts_are_long_enough_at_all_usual_rates() {
    for rate in [
        (10, 1),
        (12, 1),
        (15, 1),
        (20, 1),
        (24_000, 1001),
        (24, 1),
        (25, 1),
        (30_000, 1001),
        (30, 1),
        (50, 1),
        (60_000, 1001),
        (60, 1),
    ] {
        let settings = Settings {
            part: Duration::from_millis(334),
            frame: picture(1, rate) - EPOCH,
            ..SETTINGS
        };
        let per_segment = (2.0 * rate.0 as f64 / rate.1 as f64).round() as u64;
        let pictures =
            (0..60 * per_segment).map(|n| (picture(n, rate), n.is_multiple_of(per_segment)));
        let reader = run(settings, pictures).unwrap();
        for track in [reader.video(), reader.audio()] {
            let shortest = track.shortest_part.unwrap();
            assert!(shortest >= 0.85, "{rate:?}: {shortest} of the target");
        }
    }
}

/// 30 pictures a second with the keyframe number `late` of the grid late by some pictures that never came.
fn with_a_hole(late: u64, missing: u64) -> impl Iterator<Item = (Duration, bool)> {
    let hole = late * 60..late * 60 + missing;
    let after = hole.end;
    (0..600)
        .filter(move |n| !hole.contains(n))
        .map(move |n| (picture(n, (30, 1)), n % 60 == 0 || n == after))
}

#[test]
fn a_late_keyframe_shortens_the_next_segment_and_no_other() {
    for missing in [1, 3, 4, 6, 12, 15, 24] {
        let reader = run(SETTINGS, with_a_hole(4, missing)).unwrap();
        let late = missing as f64 / 30.0;
        let expected = [
            2.0,
            2.0,
            2.0,
            2.0 + late,
            2.0 - late,
            2.0,
            2.0,
            2.0,
            2.0,
            2.0,
        ];
        let lengths = reader.lengths();
        assert_eq!(
            lengths.len(),
            expected.len(),
            "{missing} missing: {lengths:?}"
        );
        for (length, expected) in lengths.iter().zip(expected) {
            assert!(
                (length - expected).abs() < 0.001,
                "{missing} missing: {lengths:?}"
            );
        }
    }
}

#[test]
fn only_a_keyframe_near_the_grid_cuts() {
    // Keyframes at half time, as scene cuts make them, and an early one within the tolerance.
    let pictures = (0..300).map(|n| {
        let keyframe = [0, 30, 58, 90, 118, 120, 125, 178, 240].contains(&n);
        (picture(n, (30, 1)), keyframe)
    });
    let reader = run(SETTINGS, pictures).unwrap();
    let starts: Vec<u64> = (reader.video().segments.iter())
        .map(|segment| ((segment.start - EPOCH).as_secs_f64() * 30.0).round() as u64)
        .collect();
    assert_eq!(starts, [0, 58, 118, 178, 240]);
}

#[test]
fn a_run_whose_first_pictures_were_lost_keeps_to_its_target() {
    for missing in [1, 3, 7, 12, 15] {
        // The requests for keyframes stay where the first picture would have put them, and one comes late.
        let keyframe = move |n| n == missing || (n % 60 == 0 && n != 240) || n == 246;
        let pictures = (missing..480).map(|n| (picture(n, (30, 1)), keyframe(n)));
        let lengths = run(SETTINGS, pictures).unwrap().lengths();
        let first = 2.0 - missing as f64 / 30.0;
        let expected = [first, 2.0, 2.0, 2.2, 1.8, 2.0, 2.0, 2.0];
        assert_eq!(lengths.len(), expected.len(), "{missing}: {lengths:?}");
        for (length, expected) in lengths.iter().zip(expected) {
            assert!((length - expected).abs() < 0.001, "{missing}: {lengths:?}");
        }
    }
}

#[test]
fn keyframes_at_a_pace_of_their_own_still_cut() {
    // An encoder that ignores the requests: one every 57 pictures.
    let pictures = (0..570).map(|n| (picture(n, (30, 1)), n % 57 == 0));
    let reader = run(SETTINGS, pictures).unwrap();
    assert!(
        reader
            .lengths()
            .iter()
            .all(|length| (length - 1.9).abs() < 0.001)
    );
    assert_eq!(reader.video().segments.len(), reader.audio().segments.len());
}

/// Sound that has come before the picture waits for no further picture to be published with it.
#[test]
fn a_segment_of_sound_ends_with_the_pictures() {
    let (mut segmenter, mut out) = configured(SETTINGS);
    for n in 0..100 {
        let frame = aac(aac_pts(EPOCH, n));
        segmenter.push_audio(frame, &mut out).unwrap();
    }
    for n in 0..=60 {
        let picture = unit(picture(n, (30, 1)), n % 60 == 0);
        out.clear();
        segmenter
            .push_video(Rendition::Video, picture, &mut out)
            .unwrap();
    }
    let ended = out.iter().filter_map(|output| match output {
        Output::Segment(segment) => Some((segment.rendition, segment.segment)),
        _ => None,
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(ended, [(Rendition::Video, 0), (Rendition::Audio, 0)]);
}

#[test]
fn what_comes_before_the_first_keyframe_is_left_out() {
    let pictures = (0..120).map(|n| (picture(n, (30, 1)), n == 7 || n == 67));
    let reader = run(SETTINGS, pictures).unwrap();
    let (video, audio) = (reader.video(), reader.audio());
    assert_eq!(
        video.first_decode_time,
        Some(ticks(picture(7, (30, 1)), 90_000))
    );
    let lead = audio.segments[0].start.abs_diff(video.segments[0].start);
    assert!(lead <= Duration::from_micros(10_700), "{lead:?}");
}

#[test]
fn a_run_without_pictures_or_sound_ends_with_nothing() {
    let (segmenter, mut out) = configured(SETTINGS);
    segmenter.finish(&mut out).unwrap();
    assert_eq!(out.len(), 2, "the init segments");

    let (mut segmenter, mut out) = configured(SETTINGS);
    segmenter
        .push_video(Rendition::Video, unit(EPOCH, false), &mut out)
        .unwrap();
    segmenter.push_audio(aac(EPOCH), &mut out).unwrap();
    segmenter.finish(&mut out).unwrap();
    assert_eq!(out.len(), 2);
}

#[test]
fn a_picture_is_as_long_as_the_next_one_says() {
    let (mut segmenter, mut out) = configured(SETTINGS);
    for (ms, keyframe) in [(0, true), (10, false), (130, false), (131, false)] {
        let pts = EPOCH + Duration::from_millis(ms);
        segmenter
            .push_video(Rendition::Video, unit(pts, keyframe), &mut out)
            .unwrap();
    }
    segmenter.finish(&mut out).unwrap();
    let Some(Output::Part(part)) = out.iter().find(|it| matches!(it, Output::Part(_))) else {
        panic!("no part");
    };
    assert_eq!(
        fragment(&part.bytes).samples,
        [(900, true), (10_800, false), (90, false), (3000, false)]
    );
}

#[test]
fn what_cannot_be_cut_is_named() {
    let at = |ms| EPOCH + Duration::from_millis(ms);
    let begin = || {
        let (mut segmenter, mut out) = configured(SETTINGS);
        segmenter
            .push_video(Rendition::Video, unit(at(0), true), &mut out)
            .unwrap();
        segmenter.push_audio(aac(at(0)), &mut out).unwrap();
        (segmenter, out)
    };
    let names = |error: Result<(), SegmenterError>, expected: &str| {
        assert_eq!(error.unwrap_err().to_string(), expected);
    };

    let (mut segmenter, mut out) = begin();
    names(
        segmenter.push_video(
            Rendition::Video,
            unit(at(0) - Duration::from_secs(3), true),
            &mut out,
        ),
        "video went back from 10s to 7s",
    );
    // A picture in order is still welcome.
    segmenter
        .push_video(Rendition::Video, unit(at(33), false), &mut out)
        .unwrap();

    names(
        segmenter.push_audio(aac(at(64)), &mut out),
        "audio jumped by 2048 samples",
    );
    names(
        segmenter.push_audio(aac(at(0) - Duration::from_secs(3)), &mut out),
        "audio jumped by -145024 samples",
    );

    let (mut segmenter, mut out) = begin();
    let late = (1..).find_map(|n| {
        let pts = picture(n, (30, 1));
        segmenter
            .push_audio(aac(aac_pts(EPOCH, n)), &mut out)
            .unwrap();
        segmenter
            .push_video(Rendition::Video, unit(pts, false), &mut out)
            .err()
    });
    names(
        Err(late.unwrap()),
        "no keyframe for 10.033333333s: the encoder ignores the requests for one",
    );

    // A keyframe after a hole that is as long is no better: its segment would break the target duration.
    let (mut segmenter, mut out) = begin();
    let outputs = out.len();
    let result = segmenter.push_video(Rendition::Video, unit(at(14 * 3600 * 1000), true), &mut out);
    names(
        result,
        "no keyframe for 50400s: the encoder ignores the requests for one",
    );
    assert_eq!(out.len(), outputs, "nothing of the hole is written");

    let (mut segmenter, mut out) = begin();
    let alone = (1..).find_map(|n| segmenter.push_audio(aac(aac_pts(EPOCH, n)), &mut out).err());
    names(
        Err(alone.unwrap()),
        "no video for 10s: its encoder has stopped",
    );

    let (mut segmenter, mut out) = begin();
    let alone = (1..).find_map(|n| {
        let pts = picture(n, (30, 1));
        segmenter
            .push_video(Rendition::Video, unit(pts, n % 60 == 0), &mut out)
            .err()
    });
    names(
        Err(alone.unwrap()),
        "no audio for 10s of video: the encoder has stopped",
    );

    let (mut segmenter, mut out) = configured(SETTINGS);
    for n in 0..90 {
        let pts = picture(n, (30, 1));
        segmenter
            .push_video(Rendition::Video, unit(pts, n % 60 == 0), &mut out)
            .unwrap();
    }
    // Sound that begins in the second segment would be numbered as the first.
    let late = segmenter.push_audio(aac(at(2500)), &mut out);
    names(late, "no audio for 2s of video: the encoder has stopped");

    let (mut segmenter, mut out) = begin();
    let changed = VideoConfig {
        width: 128,
        ..video_config()
    };
    names(
        segmenter.configure_video(Rendition::Video, changed, &mut out),
        "the encoder changed its configuration within a run",
    );
    segmenter
        .configure_video(Rendition::Video, video_config(), &mut out)
        .unwrap();
    segmenter.configure_audio(audio_config(), &mut out).unwrap();
    let changed = AudioConfig {
        channels: 2,
        ..audio_config()
    };
    names(
        segmenter.configure_audio(changed, &mut out),
        "the encoder changed its configuration within a run",
    );
    let garbage = VideoConfig {
        avcc: Bytes::from_static(b"\x01\x64"),
        ..video_config()
    };
    let error = Segmenter::new(SETTINGS)
        .configure_video(Rendition::Video, garbage, &mut Vec::new())
        .unwrap_err();
    assert!(error.to_string().starts_with("cannot write the avcC box: "));
}

#[test]
fn what_cannot_be_used_is_dropped_and_counted() {
    let at = |ms| EPOCH + Duration::from_millis(ms);
    let (mut segmenter, mut out) = configured(SETTINGS);
    let bytes = |data: &'static [u8]| Bytes::from_static(data);
    let with = |ms, data: &'static [u8]| AccessUnit {
        data: bytes(data),
        ..unit(at(ms), true)
    };
    let mut dropped = 0;
    let mut push = |segmenter: &mut Segmenter, unit: AccessUnit, drops: bool| {
        let said = format!("{unit:?}");
        segmenter
            .push_video(Rendition::Video, unit, &mut out)
            .unwrap();
        dropped += u64::from(drops);
        assert_eq!(segmenter.dropped(), dropped, "{said}");
        segmenter.check_invariants();
    };
    push(&mut segmenter, unit(at(0), false), true);
    // It says that it is a keyframe, and has no IDR slice.
    push(&mut segmenter, with(0, b"\0\0\0\x02\x41p"), true);
    push(&mut segmenter, unit(at(100), true), false);
    push(&mut segmenter, unit(at(133), false), false);
    push(&mut segmenter, unit(at(133), false), true);
    push(&mut segmenter, unit(at(120), false), true);
    // Less than a tick later.
    push(
        &mut segmenter,
        unit(at(133) + Duration::from_nanos(900), false),
        true,
    );
    push(&mut segmenter, with(166, b""), true);
    push(&mut segmenter, with(166, b"\0\0\0\x09\x65picture"), true);
    push(&mut segmenter, with(166, b"\0\0\0\0"), true);
    push(&mut segmenter, with(166, b"\0\0"), true);
    // Parameter sets without a picture.
    push(&mut segmenter, with(166, b"\0\0\0\x02\x67s"), true);
    push(&mut segmenter, unit(at(200), false), false);

    let mut sound = |segmenter: &mut Segmenter, frame: AudioFrame| {
        segmenter.push_audio(frame, &mut out).unwrap();
        segmenter.check_invariants();
    };
    for n in 0..12 {
        let data = if n == 6 { bytes(b"") } else { bytes(b"aac") };
        let pts = aac_pts(at(100), n);
        sound(&mut segmenter, AudioFrame { pts, data });
        // Again, from a second ago.
        let pts = pts.saturating_sub(Duration::from_secs(1));
        sound(&mut segmenter, aac(pts));
    }
    assert_eq!(segmenter.dropped(), dropped + 1 + 12);
    segmenter.finish(&mut out).unwrap();
    let reader = Reader::read(SETTINGS, out);
    assert_eq!(reader.video().segments[0].duration.ticks, 9000 + 3000);
    // The empty frame has its place, and the one before sounds in it.
    assert_eq!(reader.audio().payload % 3, 0);
    assert_eq!(
        reader.audio().length,
        1024 * (reader.audio().payload as u64 / 3)
    );
}

#[test]
fn another_configuration_is_another_run_and_the_sound_goes_on() {
    let (mut segmenter, mut ended) = configured(SETTINGS);
    for n in 0..30 {
        let pts = picture(n, (30, 1));
        segmenter
            .push_video(Rendition::Video, unit(pts, n == 0), &mut ended)
            .unwrap();
    }
    let mut sound = (0..).map(|n| aac_pts(EPOCH, n));
    for pts in sound.by_ref().take(94) {
        segmenter.push_audio(aac(pts), &mut ended).unwrap();
    }
    let other = VideoConfig {
        width: 128,
        ..video_config()
    };
    let mut begun = Vec::new();
    let mut segmenter = segmenter
        .reconfigure_video(other.clone(), &mut ended, &mut begun)
        .unwrap();
    segmenter.check_invariants();
    assert!(segmenter.reconfigures(&video_config()) && !segmenter.reconfigures(&other));
    for n in 30..60 {
        let pts = picture(n, (30, 1));
        segmenter
            .push_video(Rendition::Video, unit(pts, n == 30), &mut begun)
            .unwrap();
        segmenter.check_invariants();
    }
    segmenter.finish(&mut begun).unwrap();
    let runs = [ended, begun].map(|outputs| Reader::read(SETTINGS, outputs));
    for reader in &runs {
        assert_eq!(reader.lengths(), [1.0]);
        assert_eq!(reader.audio().segments.len(), 1);
    }
    let [first, second] = runs.map(|it| it.tracks[1].segments[0].clone());
    let end = first.start + first.duration.duration();
    let hole = seconds(end, second.start).abs();
    assert!(
        hole < 1e-6,
        "{hole} s of sound are missing between the runs"
    );
}

/// Pictures of an encoder that does what it likes.
#[derive(Debug, Clone)]
struct Wild {
    /// Distance to the picture before in microseconds, and whether it is a keyframe.
    pictures: Vec<(u64, bool)>,
    /// Sound begins this many milliseconds before or after the first picture.
    audio_offset: i64,
    /// It arrives this much before its picture, or behind.
    audio_lead: i64,
    /// Error of its timestamps in samples.
    audio_jitter: i64,
}

fn wild() -> impl Strategy<Value = Wild> {
    let distance = prop_oneof![
        20 => Just(33_333u64),
        2 => 1u64..200_000,
        1 => 200_000u64..1_500_000,
    ];
    let pictures = prop::collection::vec((distance, prop::bool::weighted(0.04)), 0..400);
    (pictures, -2000i64..1500, -3000i64..3000, 0i64..1000).prop_map(
        |(pictures, audio_offset, audio_lead, audio_jitter)| Wild {
            pictures,
            audio_offset,
            audio_lead,
            audio_jitter,
        },
    )
}

proptest! {
    #[test]
    fn whatever_the_timing_what_is_written_holds_together(wild in wild()) {
        let (mut segmenter, mut out) = configured(SETTINGS);
        let epoch_ms = EPOCH.as_millis() as i64;
        let sound = Duration::from_millis((epoch_ms + wild.audio_offset) as u64);
        let (mut pts, mut n, mut failed) = (EPOCH, 0, false);
        for (i, (distance, keyframe)) in wild.pictures.iter().enumerate() {
            pts += Duration::from_micros(*distance);
            let result = segmenter.push_video(Rendition::Video, unit(pts, *keyframe || i == 0), &mut out);
            failed |= result.is_err();
            if !failed {
                segmenter.check_invariants();
            }
            let until = pts.as_millis() as i64 + wild.audio_lead;
            while !failed && aac_pts(sound, n).as_millis() as i64 <= until {
                let jitter = if n % 2 == 0 { 0 } else { wild.audio_jitter };
                let at = aac_pts(sound, n) + Duration::from_nanos(jitter as u64 * 20_833);
                failed |= segmenter.push_audio(aac(at), &mut out).is_err();
                n += 1;
            }
            if failed {
                break;
            }
        }
        let reader = if failed {
            Reader::read(SETTINGS, out)
        } else {
            let ended = segmenter.finish(&mut out);
            let reader = Reader::read(SETTINGS, out);
            if ended.is_ok() {
                prop_assert!(reader.tracks.iter().all(|track| track.open.is_empty()));
            }
            reader
        };
        let (video, audio) = (reader.video(), reader.audio());
        prop_assert!(audio.segments.len() <= video.segments.len());
        for segment in &video.segments {
            prop_assert!(segment.duration.seconds() <= 10.0 + 0.034);
        }
    }

    #[test]
    fn garbage_in_any_order_never_panics(
        pushes in prop::collection::vec((0u8..6, any::<u64>(), any::<bool>(), any::<bool>()), 0..60),
        segment in 1u64..10_000,
        part in 1u64..3000,
        low in any::<bool>(),
    ) {
        let settings = Settings {
            segment: Duration::from_millis(segment),
            part: Duration::from_millis(part),
            frame: Duration::from_millis(33),
            low,
        };
        let (mut segmenter, mut out) = configured(settings);
        let mut failed = false;
        for (kind, pts, keyframe, near) in pushes {
            // A media edge tells nanoseconds in 64 bits.
            let pts = Duration::from_nanos(if near { pts % 60_000_000_000 } else { pts });
            let result = match kind {
                0 | 1 => segmenter.push_video(Rendition::Video, unit(pts, keyframe), &mut out),
                2 => segmenter.push_audio(aac(pts), &mut out),
                3 | 4 => segmenter.push_video(Rendition::Low, unit(pts, keyframe), &mut out),
                _ => segmenter.push_audio(
                    AudioFrame { pts, data: Bytes::new() },
                    &mut out,
                ),
            };
            failed |= result.is_err();
            if !failed {
                segmenter.check_invariants();
            }
        }
        let _ = segmenter.finish(&mut out);
    }
}

/// Two encoders that get the same pictures, one of them later by some of them, and what is cut of it.
fn ladder(
    pictures: &[(Duration, bool)],
    lag: usize,
    ahead: bool,
) -> Result<Reader, SegmenterError> {
    let (mut segmenter, mut out) = configured(LADDER);
    let mut sound = 0;
    for i in 0..pictures.len() + lag {
        let (first, second) = (pictures.get(i), i.checked_sub(lag).map(|i| pictures[i]));
        let (video, low) = if ahead {
            (second, first.copied())
        } else {
            (first.copied(), second)
        };
        for (rendition, picture) in [(Rendition::Low, low), (Rendition::Video, video)] {
            if let Some((pts, keyframe)) = picture {
                segmenter.push_video(rendition, unit(pts, keyframe), &mut out)?;
            }
        }
        let at = pictures[i.min(pictures.len() - 1)].0;
        while aac_pts(EPOCH, sound) <= at {
            segmenter.push_audio(aac(aac_pts(EPOCH, sound)), &mut out)?;
            sound += 1;
        }
    }
    segmenter.finish(&mut out)?;
    Ok(Reader::read(LADDER, out))
}

/// The low video has the segments and parts of the video.
fn check_aligned(reader: &Reader) {
    let (video, low) = (reader.video(), reader.low());
    let places = |track: &Track| -> Vec<_> {
        (track.segments.iter())
            .map(|it| (it.segment, it.start, it.duration))
            .collect()
    };
    assert_eq!(places(video), places(low));
    assert_eq!(video.lengths, low.lengths);
}

#[test]
fn the_low_video_is_cut_where_the_video_is() {
    let regular: Vec<_> = (0..600)
        .map(|n| (picture(n, (30, 1)), n % 60 == 0))
        .collect();
    let holes: Vec<_> = with_a_hole(4, 12).collect();
    // A keyframe that nobody asked for cuts neither.
    let scenes: Vec<_> = (0..600)
        .map(|n| (picture(n, (30, 1)), n % 60 == 0 || n % 60 == 17))
        .collect();
    // The first pictures were lost: the second keyframe comes early, and the grid with it.
    let early: Vec<_> = (12..600)
        .map(|n| (picture(n, (30, 1)), n == 12 || n % 60 == 0))
        .collect();
    for pictures in [regular, holes, scenes, early] {
        for (lag, ahead) in [
            (0, false),
            (1, false),
            (7, false),
            (7, true),
            (200, false),
            (200, true),
        ] {
            let reader = ladder(&pictures, lag, ahead).unwrap();
            assert_eq!(reader.video().segments.len(), 10);
            check_aligned(&reader);
        }
    }
}

#[test]
fn an_encoder_that_fails_the_other_is_named() {
    let at = |n| picture(n, (30, 1));
    let names = |result: Result<(), SegmenterError>, expected: &str| {
        assert_eq!(result.unwrap_err().to_string(), expected);
    };
    let low_dies = "no low video for 10s: its encoder has stopped";
    let video_dies = "no video for 10s: its encoder has stopped";

    // One goes on alone, with the sound.
    let begin = || {
        let (mut segmenter, mut out) = configured(LADDER);
        for rendition in [Rendition::Video, Rendition::Low] {
            (segmenter.push_video(rendition, unit(at(0), true), &mut out)).unwrap();
        }
        segmenter.push_audio(aac(at(0)), &mut out).unwrap();
        segmenter
    };
    for (alive, expected) in [(Rendition::Video, low_dies), (Rendition::Low, video_dies)] {
        let mut segmenter = begin();
        let out = &mut Vec::new();
        let error = (1..).find_map(|n| {
            let picture = unit(at(n), n % 60 == 0);
            let sound = aac(aac_pts(EPOCH, n));
            (segmenter.push_video(alive, picture, out).err())
                .or_else(|| segmenter.push_audio(sound, out).err())
        });
        names(Err(error.unwrap()), expected);
    }
    let (mut segmenter, mut out) = configured(LADDER);
    let never = (0..).find_map(|n| {
        let picture = unit(at(n), n % 60 == 0);
        (segmenter.push_video(Rendition::Low, picture, &mut out)).err()
    });
    names(Err(never.unwrap()), video_dies);

    // Both stop, because one holds up the other: it is a few pictures behind.
    for (held_up, expected) in [(Rendition::Video, low_dies), (Rendition::Low, video_dies)] {
        let mut segmenter = begin();
        for n in 1..4 {
            segmenter
                .push_video(held_up, unit(at(n), false), &mut Vec::new())
                .unwrap();
        }
        let error = (1..).find_map(|n| {
            segmenter
                .push_audio(aac(aac_pts(EPOCH, n)), &mut Vec::new())
                .err()
        });
        names(Err(error.unwrap()), expected);
    }

    let result = |low: &[(u64, bool)]| {
        let (mut segmenter, mut out) = configured(LADDER);
        for n in 0..150 {
            segmenter.push_audio(aac(aac_pts(EPOCH, n)), &mut out)?;
        }
        for n in 0..90 {
            segmenter.push_video(Rendition::Video, unit(at(n), n % 60 == 0), &mut out)?;
        }
        for (n, keyframe) in low {
            segmenter.push_video(Rendition::Low, unit(at(*n), *keyframe), &mut out)?;
        }
        segmenter.finish(&mut out)
    };
    result(&[(0, true), (30, false), (60, true), (61, false)]).unwrap();
    let no_cut = "no keyframe of the low video at 12s, where the video is cut: its encoder ignores the requests for one";
    names(result(&[(0, true), (60, false), (61, true)]), no_cut);
    names(
        result(&[(0, true), (59, true), (61, true), (62, false)]),
        no_cut,
    );
    names(
        result(&[(1, true), (60, true), (61, true)]),
        &no_cut.replace("12s", "10s"),
    );
    // A picture again is dropped; one from more than a segment ago is not a slip.
    result(&[(0, true), (0, true), (60, true), (61, false)]).unwrap();
    names(
        result(&[(0, true), (60, true), (63, false), (0, true)]),
        "low video went back from 12.1s to 10s",
    );
    let hole = "no low video for 11s: its encoder has stopped";
    names(result(&[(0, true), (330, true)]), hole);

    let (mut segmenter, mut out) = configured(LADDER);
    let changed = segmenter.configure_video(Rendition::Low, video_config(), &mut out);
    names(
        changed,
        "the encoder changed its configuration within a run",
    );
}

proptest! {
    #[test]
    fn two_encoders_of_the_same_pictures_are_aligned_whatever_the_timing(
        wild in wild(),
        lag in 0usize..60,
        ahead in any::<bool>(),
    ) {
        let mut pts = EPOCH;
        let mut pictures = vec![(pts, true)];
        for (distance, keyframe) in wild.pictures {
            pts += Duration::from_micros(distance);
            pictures.push((pts, keyframe));
        }
        // A video that cannot be cut fails alone as well.
        if let Ok(reader) = ladder(&pictures, lag, ahead) {
            check_aligned(&reader);
        } else {
            prop_assert!(ladder(&pictures, 0, false).is_err() || lag > 6);
        }
    }
}

/// Real access units, cut: what a player gets of each rendition.
fn real() -> (Reader, [Vec<u8>; 2]) {
    let settings = Settings {
        segment: Duration::from_secs(1),
        part: Duration::from_millis(250),
        frame: Duration::from_millis(40),
        low: false,
    };
    let (mut segmenter, mut out) = configured(settings);
    for (n, (keyframe, data)) in samples(include_bytes!("../testdata/video.samples"))
        .into_iter()
        .enumerate()
    {
        let pts = picture(n as u64, (25, 1));
        let unit = AccessUnit {
            pts,
            keyframe,
            data,
        };
        segmenter
            .push_video(Rendition::Video, unit, &mut out)
            .unwrap();
    }
    for (n, (_, data)) in samples(include_bytes!("../testdata/audio.samples"))
        .into_iter()
        .enumerate()
    {
        let pts = aac_pts(EPOCH, n as u64);
        segmenter
            .push_audio(AudioFrame { pts, data }, &mut out)
            .unwrap();
    }
    segmenter.finish(&mut out).unwrap();
    let mut files = [Vec::new(), Vec::new()];
    for output in &out {
        let (rendition, bytes) = match output {
            Output::Init(init) => (init.rendition, &init.bytes),
            Output::Part(part) => (part.rendition, &part.bytes),
            Output::Segment(_) => continue,
        };
        files[rendition as usize].extend_from_slice(bytes);
    }
    (Reader::read(settings, out), files)
}

/// Feeds `input` to a tool of ffmpeg; returns what it printed on standard output and standard error.
fn judge(tool: &str, arguments: &[&str], input: &[u8]) -> (String, String) {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool}: {error}; run `make deps-test`"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    // A judge that has seen enough may close its end first.
    let _ = writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[test]
fn ffmpeg_reads_what_was_written() {
    let (reader, files) = real();
    let entries = [
        "stream=codec_name,profile,width,height",
        "stream=codec_name,profile,sample_rate,channels",
    ];
    let expected = ["h264,Main,96,54\n", "aac,LC,48000,1\n"];
    for rendition in [Rendition::Video, Rendition::Audio] {
        let i = rendition as usize;
        let arguments = [
            "-v",
            "warning",
            "-of",
            "csv=p=0",
            "-show_entries",
            entries[i],
            "-",
        ];
        let told = judge("ffprobe", &arguments, &files[i]);
        assert_eq!(told, (expected[i].into(), String::new()));

        let (_, warnings) = judge(
            "ffmpeg",
            &["-v", "warning", "-i", "-", "-f", "null", "-"],
            &files[i],
        );
        assert_eq!(warnings, "", "{rendition:?}");

        let packets = "packet=pts,flags";
        let arguments = [
            "-v",
            "error",
            "-of",
            "csv=p=0",
            "-show_entries",
            packets,
            "-",
        ];
        let (told, _) = judge("ffprobe", &arguments, &files[i]);
        // Each version of ffmpeg has flags of its own behind that of a keyframe.
        let told: String = told
            .lines()
            .map(|line| format!("{}\n", line.trim_end_matches('_')))
            .collect();
        let expected: String = match rendition {
            Rendition::Video | Rendition::Low => (0..75u64)
                .map(|n| {
                    let flags = if n % 25 == 0 { "K" } else { "" };
                    format!("{},{flags}\n", 900_000 + n * 3600)
                })
                .collect(),
            Rendition::Audio => (0..reader.audio().length / AAC_FRAME)
                .map(|n| format!("{},K\n", 480_000 + n * 1024))
                .collect(),
        };
        assert_eq!(told, expected);
    }
}

/// Duration in a header box; `before` bytes stand before it in version 0, apart from version and flags, and two times of
/// them are longer in version 1.
fn duration(header: &[u8], before: usize) -> u64 {
    match header[0] {
        0 => u32_at(header, 4 + before + 4).into(),
        _ => u64::from_be_bytes(header[4 + before + 12..][..8].try_into().unwrap()),
    }
}

#[test]
fn an_init_segment_is_empty_and_says_so() {
    // RFC 8216 section 3.3: no samples, no durations, mvex behind the last track.
    let (reader, _) = real();
    for track in [reader.video(), reader.audio()] {
        let init = track.init.as_ref().unwrap();
        let (name, ftyp, rest) = split_box(&init.bytes);
        assert_eq!((&name, &ftyp[..4]), (b"ftyp", &b"iso6"[..]));
        let (name, moov, rest) = split_box(rest);
        assert_eq!((&name, rest.len()), (b"moov", 0));
        let names: Vec<[u8; 4]> = boxes(moov).into_iter().map(|it| it.0).collect();
        let position = |name: &[u8; 4]| names.iter().position(|it| it == name).unwrap();
        assert!(position(b"mvex") > position(b"trak"));
        let trak = child(moov, b"trak");
        let mdia = child(trak, b"mdia");
        assert_eq!(duration(child(moov, b"mvhd"), 8), 0);
        assert_eq!(duration(child(trak, b"tkhd"), 12), 0);
        let mdhd = child(mdia, b"mdhd");
        assert_eq!(duration(mdhd, 8), 0);
        let timescale = u32_at(mdhd, if mdhd[0] == 1 { 20 } else { 12 });
        assert_eq!(timescale, init.rendition.timescale());
        let stbl = child(child(mdia, b"minf"), b"stbl");
        for name in [b"stts", b"stsc", b"stco"] {
            assert_eq!(u32_at(child(stbl, name), 4), 0, "{name:?} is empty");
        }
        assert_eq!(u32_at(child(stbl, b"stsz"), 8), 0);
        assert_eq!(child(child(moov, b"mvex"), b"trex").len(), 24);
    }
    let codec = |track: &Track| track.init.as_ref().unwrap().codec.clone();
    assert_eq!(codec(reader.video()), "avc1.4D400A");
    assert_eq!(codec(reader.audio()), "mp4a.40.2");
}
