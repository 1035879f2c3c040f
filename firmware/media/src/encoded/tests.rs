use std::process::Command;
use std::sync::mpsc::channel;

use super::*;

/// What the thread says until the programme is over.
fn play(seconds: u32, end_after: Option<usize>) -> (Vec<Event>, Vec<u8>) {
    gst::init().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("encoded.mp4");
    let length = seconds.to_string();
    let made = Command::new("ffmpeg")
        .args(
            "-v error -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi -i sine=sample_rate=48000"
                .split(' '),
        )
        .args(["-t", &length])
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 15 -c:a aac -ac 2".split(' '))
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    let (control, commands) = channel();
    let (sender, mut events) = mpsc::channel(256);
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (file, stop) = (file.clone(), stop.clone());
        std::thread::spawn(move || run(&file, &commands, &sender, &stop))
    };
    control.send(Control::Start { run: 7 }).unwrap();
    let mut seen = Vec::new();
    let mut units = 0;
    while let Some(event) = events.blocking_recv() {
        units += usize::from(matches!(event, Event::Video { .. }));
        if Some(units) == end_after && matches!(event, Event::Video { .. }) {
            control.send(Control::End).unwrap();
        }
        let over = matches!(
            event,
            Event::ProgrammeEnded { .. } | Event::ProgrammeFailed { .. }
        );
        seen.push(event);
        if over {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let judged = Command::new("ffprobe")
        .args(
            "-v error -select_streams v -show_entries packet=size,pts_time,flags -of csv=p=0"
                .split(' '),
        )
        .arg(&file)
        .output();
    (seen, judged.unwrap().stdout)
}

/// Needs ffmpeg, which `make deps-test` installs.
#[test]
fn a_recording_comes_as_ffprobe_sees_it() {
    let (events, judged) = play(2, None);
    let judged = String::from_utf8(judged).unwrap();
    let expected: Vec<_> = judged
        .lines()
        .map(|line| {
            let mut fields = line.split(',');
            let pts: f64 = fields.next().unwrap().parse().unwrap();
            let size: usize = fields.next().unwrap().parse().unwrap();
            (
                (pts * 1000.0).round(),
                size,
                fields.next().unwrap().starts_with('K'),
            )
        })
        .collect();
    let units: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Video {
                run: 7,
                rendition: Rendition::Video,
                unit,
            } => Some((
                (unit.pts.as_secs_f64() * 1000.0).round(),
                unit.data.len(),
                unit.keyframe,
            )),
            _ => None,
        })
        .collect();
    assert_eq!(units, expected);
    let sound = |event: &&Event| matches!(event, Event::Audio { run: 7, .. });
    let frames = events.iter().filter(sound).count();
    assert!((92..=95).contains(&frames), "{frames} frames of 2 s");
    // It ends by itself: the box begins it anew, with another init segment.
    let last = events.last();
    assert!(
        matches!(last, Some(Event::ProgrammeFailed { run: 7, why }) if why.contains("has ended")),
        "{last:?}"
    );
}

#[test]
fn it_ends_when_it_is_told_to() {
    let (events, _) = play(20, Some(10));
    let units = |event: &&Event| matches!(event, Event::Video { .. });
    assert!(events.iter().filter(units).count() < 20 * 30);
    assert!(matches!(
        events.last(),
        Some(Event::ProgrammeEnded { run: 7 })
    ));
}
