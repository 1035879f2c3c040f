//! Inputs that lie: what a fuzzer makes up is given to everything that reads what others made.
//!
//! Each target takes bytes, plays a script that it reads from them, and calls `check_invariants` after every step. Nothing may
//! panic. `cargo test -p fuzz` replays `corpus/` with seeded mutations on any compiler; `make fuzz` lets libFuzzer look for
//! new ones.

use std::time::{Duration, Instant, UNIX_EPOCH};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use oracle::{Judge, Kind, Observation};
use stream::low_latency::Directives;
use stream::media::{
    AAC_FRAME, AccessUnit, AudioConfig, AudioFrame, MediaDuration, Rendition, VideoConfig,
};
use stream::playlist::Picture;
use stream::publication::{self, Inits, Numbers, PartName, Publication, Row, check_rows};
use stream::segmenter::{self, InitSegment, MediaSegment, Output, PartialSegment, Segmenter};
use stream::timeline::{self, EPOCH, Timeline};

/// A target.
pub type Target = fn(&[u8]);

/// All of them by name, which is also that of their corpus.
pub const TARGETS: [(&str, Target); 6] = [
    ("segmenter", segmenter),
    ("timeline", timeline),
    ("publication", publication),
    ("address", address),
    ("playlist", playlist),
    ("media", media),
];

const INIT: &[u8] = include_bytes!("../media/init.mp4");
const SEGMENT: &[u8] = include_bytes!("../media/segment.m4s");

fn avcc() -> Bytes {
    Bytes::from_static(include_bytes!(
        "../../../firmware/stream/testdata/video.avcc"
    ))
}

fn asc() -> Bytes {
    Bytes::from_static(include_bytes!(
        "../../../firmware/stream/testdata/audio.asc"
    ))
}

/// Any moment that 64 bits of nanoseconds can tell, often one that is nearly right.
fn time(u: &mut Unstructured<'_>, near: Duration) -> Result<Duration> {
    Ok(match u.int_in_range(0..=9)? {
        0 => Duration::from_nanos(u.arbitrary()?),
        1 => near.saturating_sub(Duration::from_millis(u.int_in_range(0..=5000)?)),
        2 => near + Duration::from_millis(u.int_in_range(0..=12_000)?),
        3 => near + Duration::from_nanos(u.int_in_range(0..=30_000)?),
        _ => near + Duration::from_millis(u.int_in_range(10..=50)?),
    })
}

/// An encoder that lies to the segmenter: order, times, sizes, bytes, configurations.
pub fn segmenter(data: &[u8]) {
    let _ = lie_to_segmenter(&mut Unstructured::new(data));
}

fn lie_to_segmenter(u: &mut Unstructured<'_>) -> Result<()> {
    let settings = segmenter::Settings {
        segment: Duration::from_millis(u.int_in_range(1..=10_000)?),
        part: Duration::from_millis(u.int_in_range(1..=3000)?),
        frame: Duration::from_millis(u.int_in_range(1..=1000)?),
        low: u.arbitrary()?,
    };
    let mut segmenter = Segmenter::new(settings);
    let mut out = Vec::new();
    let (mut pictures, mut audio) = ([EPOCH; 3], EPOCH);
    if !u.ratio(1, 10)? {
        let _ = segmenter.configure_video(video(u)?, video_config(u)?, &mut out);
        let _ = segmenter.configure_audio(audio_config(u)?, &mut out);
    }
    while !u.is_empty() {
        let step = u.int_in_range(0..=20)?;
        let result = match step {
            0 => segmenter.configure_video(video(u)?, video_config(u)?, &mut out),
            1 => segmenter.configure_audio(audio_config(u)?, &mut out),
            2 => {
                let mut begun = Vec::new();
                let config = video_config(u)?;
                match segmenter.reconfigure_video(config, &mut out, &mut begun) {
                    Ok(next) => segmenter = next,
                    Err(_) => return Ok(()),
                }
                check_outputs(&std::mem::replace(&mut out, begun));
                Ok(())
            }
            3..=11 => {
                let rendition = video(u)?;
                let near = &mut pictures[rendition as usize];
                let pts = time(u, *near)?;
                if pts < *near + Duration::from_secs(60) {
                    *near = pts;
                }
                let keyframe = u.ratio(1, 4)?;
                let data = access_unit(u, keyframe)?;
                segmenter.push_video(
                    rendition,
                    AccessUnit {
                        pts,
                        keyframe,
                        data,
                    },
                    &mut out,
                )
            }
            _ => {
                let frame = Duration::from_nanos(AAC_FRAME * 1_000_000_000 / 48_000);
                let pts = if u.ratio(1, 20)? {
                    time(u, audio)?
                } else {
                    audio + frame
                };
                audio = if pts < audio + Duration::from_secs(60) {
                    pts
                } else {
                    audio
                };
                let data = some_bytes(u, b"aac")?;
                segmenter.push_audio(AudioFrame { pts, data }, &mut out)
            }
        };
        if result.is_err() {
            break;
        }
        segmenter.check_invariants();
    }
    let _ = segmenter.finish(&mut out);
    check_outputs(&out);
    Ok(())
}

fn video(u: &mut Unstructured<'_>) -> Result<Rendition> {
    Ok(if u.ratio(1, 3)? {
        Rendition::Low
    } else {
        Rendition::Video
    })
}

fn video_config(u: &mut Unstructured<'_>) -> Result<VideoConfig> {
    Ok(VideoConfig {
        avcc: if u.ratio(1, 8)? {
            some_bytes(u, b"\x01\x64")?
        } else {
            avcc()
        },
        width: if u.ratio(1, 4)? { u.arbitrary()? } else { 96 },
        height: 54,
    })
}

fn audio_config(u: &mut Unstructured<'_>) -> Result<AudioConfig> {
    Ok(AudioConfig {
        audio_specific_config: if u.ratio(1, 8)? {
            some_bytes(u, b"")?
        } else {
            asc()
        },
        channels: if u.ratio(1, 8)? { u.arbitrary()? } else { 2 },
        bitrate: 128_000,
    })
}

fn some_bytes(u: &mut Unstructured<'_>, usual: &'static [u8]) -> Result<Bytes> {
    if !u.ratio(1, 8)? {
        return Ok(Bytes::from_static(usual));
    }
    let length = u.int_in_range(0..=20)?;
    Ok(Bytes::copy_from_slice(u.bytes(length.min(u.len()))?))
}

fn access_unit(u: &mut Unstructured<'_>, keyframe: bool) -> Result<Bytes> {
    let right = if keyframe {
        b"\0\0\0\x02\x65p"
    } else {
        b"\0\0\0\x02\x41p"
    };
    some_bytes(u, right)
}

/// What a publication relies on: numbers without holes, parts that add up to their segment, and no sample without a length.
fn check_outputs(outputs: &[Output]) {
    let mut segments = [0; 3];
    let mut open = [(0u32, 0u64); 3];
    for output in outputs {
        match output {
            Output::Init(_) => {}
            Output::Part(part) => {
                let i = part.rendition as usize;
                assert_eq!((part.segment, part.index), (segments[i], open[i].0));
                assert!(part.duration.ticks > 0 && part.bytes.len() > 8);
                open[i] = (part.index + 1, open[i].1 + part.duration.ticks);
            }
            Output::Segment(segment) => {
                let i = segment.rendition as usize;
                assert_eq!(segment.segment, segments[i]);
                assert_eq!(segment.duration.ticks, open[i].1);
                segments[i] += 1;
                open[i] = (0, 0);
            }
        }
    }
}

/// A capture that lies to the conductor's timeline.
pub fn timeline(data: &[u8]) {
    let _ = lie_to_timeline(&mut Unstructured::new(data));
}

fn lie_to_timeline(u: &mut Unstructured<'_>) -> Result<()> {
    let mut now = Instant::now();
    let settings = timeline::Settings {
        // From a picture a second to the absurd.
        frame: Duration::from_micros(u.int_in_range(100..=1_000_000)?),
        segment: Duration::from_millis(u.int_in_range(500..=10_000)?),
    };
    let mut timeline = Timeline::new(now, settings);
    let (mut sound, mut picture) = (Duration::from_secs(5), Duration::from_secs(5));
    let mut last = None;
    let mut placed = |pts: Duration| {
        assert!(last.is_none_or(|last| pts > last), "a picture goes back");
        last = Some(pts);
    };
    while !u.is_empty() {
        now += Duration::from_millis(u.int_in_range(0..=60)?);
        let before = timeline.position();
        match u.int_in_range(0..=9)? {
            0 => timeline.forget_offset(),
            1..=4 => {
                sound = time(u, sound)?;
                timeline.audio(now, sound, u.int_in_range(0..=9600)?);
            }
            5..=7 => {
                picture = time(u, picture)?;
                if let Some(it) = timeline.video(now, picture) {
                    for it in it.repeats.into_iter().chain([it.picture]) {
                        placed(it.pts);
                    }
                }
            }
            _ => {
                let fill = timeline.tick(now);
                for it in fill.slates.into_iter().chain(fill.repeats) {
                    placed(it.pts);
                }
            }
        }
        assert!(timeline.position() >= before, "sound goes back");
        timeline.check_invariants();
    }
    Ok(())
}

/// Events in any order, and rows that a damaged journal gives back.
pub fn publication(data: &[u8]) {
    let _ = lie_to_publication(&mut Unstructured::new(data));
}

fn lie_to_publication(u: &mut Unstructured<'_>) -> Result<()> {
    let video = publication::Video {
        bitrate: 3_000_000,
        picture: Picture {
            resolution: (1280, 720),
            frame_rate: 30.0,
        },
    };
    let settings = publication::Settings {
        segment: Duration::from_millis(u.int_in_range(500..=10_000)?),
        part: Duration::from_millis(u.int_in_range(100..=2000)?),
        window: u.int_in_range(1..=20)?,
        video,
        low: u.arbitrary::<bool>()?.then_some(video),
        audio_bitrate: 128_000,
        inits: *u.choose(&Inits::ALL)?,
    };
    let first = Numbers {
        media_sequence: u.int_in_range(0..=1000)?,
        run: u.int_in_range(0..=1000)?,
    };
    let mut publication = Publication::new(settings, first);
    while !u.is_empty() {
        match u.int_in_range(0..=13)? {
            0 => publication.begin_run(),
            13 => publication.store_again(),
            1 => {
                publication.stored();
            }
            2 => {
                publication.failed();
            }
            3 if u.ratio(1, 8)? => publication.finish(),
            4 => {
                let mut rows = publication.rows().to_vec();
                damage(u, &mut rows)?;
                if check_rows(first, &rows).is_ok() {
                    let finished = publication.finished();
                    publication = Publication::recovered(settings, first, rows, finished);
                }
            }
            5 | 6 => {
                publication.next_update();
            }
            _ => {
                let date = Duration::from_millis(u.int_in_range(0..=253_402_300_799_999)?);
                let output = output(u)?;
                publication.push(output, |_| Some(UNIX_EPOCH + date));
            }
        }
        publication.check_invariants();
        for rendition in Rendition::ALL {
            let Some(list) = publication.origin(rendition) else {
                continue;
            };
            let whole = list.full();
            assert!(whole.starts_with("#EXTM3U\n") && list.delta().len() <= whole.len());
            if let Some(edge) = list.edge() {
                edge.reload(Directives {
                    msn: u.arbitrary()?,
                    part: u.arbitrary()?,
                    skip: false,
                });
            }
        }
        for part in publication.origin_parts() {
            assert_eq!(PartName::parse(&part.name.to_string()), Some(part.name));
        }
        let index = publication.origin_index().map(|it| it.to_string());
        assert!(index.is_none_or(|it| !it.contains("NaN") && !it.contains("inf")));
    }
    Ok(())
}

fn output(u: &mut Unstructured<'_>) -> Result<Output> {
    let rendition = *u.choose(&Rendition::ALL)?;
    let segment = u.int_in_range(0..=8)?;
    let duration = MediaDuration {
        ticks: u.int_in_range(1..=900_000)?,
        timescale: rendition.timescale(),
    };
    Ok(match u.int_in_range(0..=2)? {
        0 => Output::Init(InitSegment {
            rendition,
            codec: "avc1.64001F".into(),
            bytes: Bytes::from_static(b"init"),
        }),
        1 => Output::Part(PartialSegment {
            rendition,
            segment,
            index: u.int_in_range(0..=4)?,
            start: EPOCH,
            duration,
            independent: u.arbitrary()?,
            bytes: Bytes::from_static(b"part"),
        }),
        _ => Output::Segment(MediaSegment {
            rendition,
            segment,
            start: EPOCH,
            duration,
        }),
    })
}

fn damage(u: &mut Unstructured<'_>, rows: &mut Vec<Row>) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let at = u.choose_index(rows.len())?;
    let row = &mut rows[at];
    match u.int_in_range(0..=8)? {
        0 => row.media_sequence = u.arbitrary()?,
        1 => row.run = u.arbitrary()?,
        2 => row.discontinuity ^= true,
        3 => row.durations[0].ticks = u.arbitrary()?,
        4 => row.durations[1].timescale = u.arbitrary()?,
        5 => row.sizes[1] = u.arbitrary()?,
        6 => {
            row.program_date_time_ms = u.arbitrary()?;
            row.published_ms = u.arbitrary()?;
        }
        7 => drop(rows.remove(at)),
        _ => {}
    }
    Ok(())
}

/// What a viewer puts into the address: a part's name, or the query of a playlist.
pub fn address(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(name) = PartName::parse(&text) {
        assert_eq!(PartName::parse(&name.to_string()), Some(name));
    }
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    if let Ok(asked) = Directives::from_query(pairs) {
        assert!(asked.part.is_none() || asked.msn.is_some());
    }
}

const HOST: &str = "http://origin/";

fn observation(at: u64, name: &str, kind: Kind, body: &[u8]) -> Observation {
    Observation {
        asked: Duration::from_millis(at),
        at: Duration::from_millis(at + 100),
        url: format!("{HOST}{name}"),
        kind,
        status: 200,
        content_type: Some("application/vnd.apple.mpegurl".into()),
        content_encoding: Some("gzip".into()),
        body: Bytes::copy_from_slice(body),
    }
}

/// A foreign origin's playlists: snapshots one after the other, each ended by a zero byte. Their first byte says which list
/// it is, and what was asked of it.
pub fn playlist(data: &[u8]) {
    let mut judge = Judge::default();
    for (text, at) in data.split(|byte| *byte == 0).zip((0..).step_by(500)) {
        let Some((head, text)) = text.split_first() else {
            continue;
        };
        let (name, kind) = match head % 8 {
            0 => ("index.m3u8", Kind::Multivariant),
            1 => ("audio.m3u8", Kind::Media),
            2 => ("video.m3u8?_HLS_msn=12&_HLS_part=1", Kind::Media),
            3 => ("video.m3u8?_HLS_skip=YES", Kind::Media),
            _ => ("video.m3u8", Kind::Media),
        };
        judge.observe(&observation(at, name, kind, text));
        while let Some(wanted) = judge.next_wanted() {
            let body = if wanted.url.contains("init") {
                INIT
            } else {
                SEGMENT
            };
            let seen = Observation {
                url: wanted.url,
                ..observation(at, "", Kind::Resource(wanted.range), body)
            };
            judge.observe(&seen);
        }
        judge.next_probe(Duration::from_millis(at), Duration::from_secs(1));
        judge.state(&format!("{HOST}video.m3u8"));
    }
}

/// A foreign origin's media: an init segment, a segment and its only part. The first byte says which of them the bytes are.
pub fn media(data: &[u8]) {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    let (init, segment) = match which % 2 {
        0 => (body, SEGMENT),
        _ => (INIT, body),
    };
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-PART-INF:PART-TARGET=2\n#EXT-X-MAP:URI=\"init.mp4\"\n\
        #EXT-X-PART:DURATION=1,URI=\"part.m4s\"\n#EXTINF:1,\nsegment.m4s\n#EXTINF:1,\nnext.m4s\n";
    let mut judge = Judge::default();
    judge.observe(&observation(0, "video.m3u8", Kind::Media, list.as_bytes()));
    while let Some(wanted) = judge.next_wanted() {
        let body = if wanted.url.ends_with("init.mp4") {
            init
        } else {
            segment
        };
        let seen = Observation {
            url: wanted.url,
            ..observation(1, "", Kind::Resource(None), body)
        };
        judge.observe(&seen);
    }
}
