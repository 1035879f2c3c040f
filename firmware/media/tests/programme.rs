//! The real pipelines, judged by ffmpeg: what the segmenter makes of them decodes without a warning.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use media::{Config, Event, LowVideo, Media, Source};
use stream::media::{MediaDuration, Rendition};
use stream::segmenter::{Output, Segmenter, Settings};
use tokio::sync::mpsc;

fn config(source: Source) -> Config {
    Config {
        name: "Tests & <Co>".into(),
        source,
        width: 640,
        height: 360,
        fps: 30,
        video_bitrate_kbps: 800,
        encoder: stream::encoder::Choice::default(),
        low: None,
        audio_bitrate_kbps: 128,
        segment: Duration::from_secs(1),
        av_offset_ms: 0,
    }
}

/// A rendition as a player gets it: the init segment and all segments after one another.
#[derive(Default)]
struct Recorded {
    bytes: Vec<u8>,
    parts: Vec<MediaDuration>,
    segments: Vec<f64>,
}

/// Runs the box's media for `segments` segments of each rendition, then ends it properly.
async fn record(config: Config, segments: u64) -> [Recorded; 3] {
    let (sender, mut events) = mpsc::channel(256);
    let low = config.low.is_some();
    let media = Media::start(config, sender).unwrap();
    let mut segmenter = Some(Segmenter::new(Settings {
        segment: Duration::from_secs(1),
        part: Duration::from_millis(250),
        frame: Duration::from_secs(1) / 30,
        low,
    }));
    let mut recorded = [(); 3].map(|()| Recorded::default());
    media.start_programme(7);
    let mut ending = false;
    loop {
        let mut out = Vec::new();
        let event = tokio::time::timeout(Duration::from_secs(120), events.recv());
        let cutter = segmenter.as_mut().unwrap();
        match event.await.expect("media events go on").unwrap() {
            Event::VideoConfig {
                run: 7,
                rendition,
                config,
            } => cutter.configure_video(rendition, config, &mut out),
            Event::AudioConfig { run: 7, config } => cutter.configure_audio(config, &mut out),
            Event::Video {
                run: 7,
                rendition,
                unit,
            } => cutter.push_video(rendition, unit, &mut out),
            Event::Audio { run: 7, frame } => cutter.push_audio(frame, &mut out),
            Event::ProgrammeEnded { run: 7 } => {
                segmenter.take().unwrap().finish(&mut out).unwrap();
                Ok(())
            }
            Event::ProgrammeFailed { why, .. } => panic!("programme failed: {why}"),
            Event::CaptureFailed { why, .. } => panic!("capture failed: {why}"),
            _ => Ok(()),
        }
        .unwrap();
        for output in out {
            match output {
                Output::Init(init) => recorded[init.rendition as usize]
                    .bytes
                    .extend_from_slice(&init.bytes),
                Output::Part(part) => {
                    assert!(
                        part.index > 0 || part.independent,
                        "a segment starts with a keyframe"
                    );
                    let track = &mut recorded[part.rendition as usize];
                    track.bytes.extend_from_slice(&part.bytes);
                    track.parts.push(part.duration);
                }
                Output::Segment(segment) => recorded[segment.rendition as usize]
                    .segments
                    .push(segment.duration.seconds()),
            }
        }
        if !ending && recorded[0].segments.len() as u64 >= segments {
            ending = true;
            media.end_programme();
        }
        if segmenter.is_none() {
            break;
        }
    }
    tokio::task::spawn_blocking(|| media.shutdown())
        .await
        .unwrap();
    recorded
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
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn check(recorded: &[Recorded; 3]) {
    for rendition in Rendition::ALL {
        let track = &recorded[rendition as usize];
        if track.bytes.is_empty() {
            assert_eq!(rendition, Rendition::Low, "nothing was made");
            continue;
        }
        let (_, warnings) = judge(
            "ffmpeg",
            &["-v", "warning", "-i", "-", "-f", "null", "-"],
            &track.bytes,
        );
        assert_eq!(warnings, "", "{rendition:?}");
        // Its packet durations ignore irregular frames, so the timestamps are asked.
        let (times, _) = judge(
            "ffprobe",
            &[
                "-v",
                "error",
                "-show_entries",
                "packet=pts_time",
                "-of",
                "csv=p=0",
                "-",
            ],
            &track.bytes,
        );
        let times: Vec<f64> = times
            .lines()
            .map(|line| line.trim_end_matches(',').parse().unwrap())
            .collect();
        let length = times.last().unwrap() - times[0];
        let told: f64 = track.segments.iter().sum();
        let last_frame = told - length;
        assert!(
            last_frame > 0.0 && last_frame < 0.05,
            "{rendition:?}: {length} s between the first and the last packet, {told} s told"
        );
    }
    let [video, audio, _] = recorded;
    // The run's last pictures may be too few for an AAC frame of their own.
    assert!((0..=1).contains(&(video.segments.len() - audio.segments.len())));
}

#[tokio::test]
async fn the_test_picture_decodes_without_a_warning() {
    let recorded = record(config(Source::Test), 4).await;
    check(&recorded);
    for duration in &recorded[0].segments[..4] {
        assert!((duration - 1.0).abs() <= 1.0 / 30.0 + 0.001, "{duration}");
    }
}

#[tokio::test]
async fn a_recording_is_played_in_a_loop() {
    let clip = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/media/talk.mp4");
    check(&record(config(Source::File(clip)), 24).await);
}

/// What ffprobe tells of a rendition: its codec and size, and the timestamp of each picture with the mark of a keyframe.
fn probe(track: &Recorded) -> (String, Vec<String>) {
    let arguments = [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,width,height:packet=pts,flags",
        "-of",
        "csv=p=0",
        "-",
    ];
    let (told, complaints) = judge("ffprobe", &arguments, &track.bytes);
    assert_eq!(complaints, "");
    let (packets, streams): (Vec<_>, Vec<_>) =
        (told.lines().map(str::to_owned)).partition(|line| !line.starts_with("h264"));
    (streams.join("\n"), packets)
}

#[tokio::test]
async fn two_encoders_make_the_same_pictures_in_two_sizes() {
    let ladder = Config {
        low: Some(LowVideo {
            width: 320,
            height: 180,
            bitrate_kbps: 200,
        }),
        ..config(Source::Test)
    };
    let recorded = record(ladder, 5).await;
    check(&recorded);
    let [video, _, low] = &recorded;
    let (size, pictures) = probe(video);
    let (low_size, low_pictures) = probe(low);
    assert_eq!((&size[..], &low_size[..]), ("h264,640,360", "h264,320,180"));
    // ffprobe sees the same pictures at the same times, and the same keyframes.
    assert_eq!(pictures, low_pictures);
    let keyframes = pictures.iter().filter(|it| it.contains('K')).count();
    assert_eq!(keyframes, video.segments.len());
    assert!(keyframes >= 5, "{keyframes} keyframes");
    assert_eq!(video.segments, low.segments);
    assert_eq!(video.parts, low.parts);
    let bytes = |track: &Recorded| track.bytes.len();
    assert!(bytes(low) * 2 < bytes(video), "the low video is smaller");
}

#[test]
fn a_broken_clip_is_named_at_the_start() {
    let clip = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let (sender, _events) = mpsc::channel(16);
    let error = Media::start(config(Source::File(clip.clone())), sender).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with(&format!("clip {}: ", clip.display())),
        "{message}"
    );
    assert!(
        message.ends_with("name a recording with video in [capture] file"),
        "{message}"
    );
}
