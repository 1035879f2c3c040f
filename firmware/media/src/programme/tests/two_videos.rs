//! Two encoders of one stream of pictures: what is lost is lost for both, and one that hangs is told from one that waits.

use std::time::Instant;

use stream::stuck::StuckWatch;

use super::*;
use crate::slate;

const FRAME: Duration = Duration::from_millis(40);

fn config() -> Config {
    Config {
        fps: 25,
        low: Some(LowVideo {
            width: 320,
            height: 180,
            bitrate_kbps: 200,
        }),
        ..super::config((640, 360), 500, 1)
    }
}

/// A programme, what it makes, and a picture to give it.
fn start() -> (Programme, mpsc::Receiver<Event>, gst::Buffer) {
    gst::init().unwrap();
    let (sender, events) = mpsc::channel(1000);
    let programme = Programme::start(&config(), Matrix::default(), 1, &sender, || {}).unwrap();
    (programme, events, slate::draw(&config()).unwrap())
}

/// Returns how many pictures it cost.
fn push(programme: &mut Programme, picture: &gst::Buffer, n: u32) -> u64 {
    let at = |pts: Duration| gst::ClockTime::from_nseconds(pts.as_nanos() as u64);
    let mut picture = picture.clone();
    let meta = picture.make_mut();
    meta.set_pts(at(FRAME * n));
    meta.set_duration(at(FRAME));
    programme.push_video(picture, n.is_multiple_of(25))
}

/// Everything that a programme makes of the pictures until its end, and which of that are keyframes.
fn finish(
    programme: &Programme,
    events: &mut mpsc::Receiver<Event>,
) -> [Vec<(Duration, bool)>; Rendition::ALL.len()] {
    let mut sound = gst::Buffer::from_slice(vec![0u8; SAMPLE_RATE as usize * 4]);
    sound.make_mut().set_pts(gst::ClockTime::ZERO);
    programme.push_audio(sound);
    programme.end();
    let mut made = [(); Rendition::ALL.len()].map(|()| Vec::new());
    loop {
        match events.blocking_recv().unwrap() {
            Event::Video {
                rendition, unit, ..
            } => made[rendition as usize].push((unit.pts, unit.keyframe)),
            Event::ProgrammeEnded { .. } => return made,
            Event::ProgrammeFailed { why, .. } => panic!("{why}"),
            _ => {}
        }
    }
}

#[test]
fn an_encoder_that_falls_behind_loses_single_pictures() {
    let (mut programme, mut events, picture) = start();
    let (pad, probe) = block(&programme, Rendition::Video);
    // Before the video's encoder wait four, and one is on the way to it.
    let lost: u64 = (0..40).map(|n| push(&mut programme, &picture, n)).sum();
    assert!((5..15).contains(&lost), "{lost}");
    pad.remove_probe(probe);
    let [video, ..] = finish(&programme, &mut events);
    assert_eq!(video.len() as u64, 40 - lost);
    for pair in video.windows(2) {
        assert!(pair[1].0 - pair[0].0 <= FRAME * 2, "{pair:?}");
    }
    let keyframes = video.iter().filter(|(_, keyframe)| *keyframe).count();
    assert_eq!(keyframes, 2);
}

#[test]
fn a_picture_that_is_lost_is_lost_for_both_encoders() {
    let (mut programme, mut events, picture) = start();
    // Faster than any encoder: the queue before them overflows.
    for n in 0..500 {
        push(&mut programme, &picture, n);
    }
    let [video, _, low] = finish(&programme, &mut events);
    assert!(video.len() < 500, "none was lost");
    assert_eq!(video, low);
    assert!(video.iter().filter(|(_, keyframe)| *keyframe).count() > 1);
}

#[test]
fn an_encoder_that_hangs_is_named_and_not_the_one_that_waits_for_it() {
    for hangs in [Rendition::Low, Rendition::Video] {
        for at_work in [true, false] {
            let (mut programme, mut events, picture) = start();
            if at_work {
                // An encoder may hold back what came last.
                for n in 0..3 {
                    push(&mut programme, &picture, n);
                }
                let mut begun = [false; Rendition::ALL.len()];
                while !(begun[Rendition::Video as usize] && begun[Rendition::Low as usize]) {
                    if let Event::Video { rendition, .. } = events.blocking_recv().unwrap() {
                        begun[rendition as usize] = true;
                    }
                }
            }
            block(&programme, hangs);
            let mut watches = [StuckWatch::new(false); Rendition::ALL.len()];
            let mut looked = Instant::now();
            let stuck = (3..).find_map(|n| {
                push(&mut programme, &picture, n);
                std::thread::sleep(Duration::from_millis(10));
                let passed = looked.elapsed();
                looked = Instant::now();
                programme.progress().find_map(|(rendition, progress)| {
                    let stuck = watches[rendition as usize].look(passed, progress);
                    stuck.then_some(rendition)
                })
            });
            assert_eq!(stuck, Some(hangs), "at work before: {at_work}");
        }
    }
}

/// The encoder takes nothing more until the probe is removed.
fn block(programme: &Programme, rendition: Rendition) -> (gst::Pad, gst::PadProbeId) {
    let name = format!("{}-encoder", rendition.name());
    let encoder = programme.pipeline.by_name(&name).unwrap();
    let pad = encoder.static_pad("sink").unwrap();
    let id = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
        gst::PadProbeReturn::Ok
    });
    (pad, id.unwrap())
}
