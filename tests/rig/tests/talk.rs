//! A real clip goes into the card, and is found again in what was published.

mod common;

use std::process::Command;

use common::*;
use rig::Rig;
use rig::card::{Mode, Pixels};

/// What ffmpeg decodes to.
fn decoded(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args([&["-v", "error", "-copyts"], arguments, &["-"]].concat())
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Pictures as one sees them from afar, ten a second from `start` on: 32 by 18 means of luma.
fn thumbnails(file: &str, start: u32) -> Vec<Vec<f64>> {
    let filter = format!("fps=10:start_time={start},scale=32:18:flags=area,format=gray");
    let bytes = decoded(&["-i", file, "-vf", &filter, "-f", "rawvideo"]);
    let pictures = bytes.chunks_exact(32 * 18);
    pictures
        .map(|picture| picture.iter().map(|&luma| luma.into()).collect())
        .collect()
}

/// How loud it is in each tenth of a second from `start` on, in powers of ten.
fn loudness(file: &str, start: u32) -> Vec<Vec<f64>> {
    // The first time is counted at the rate of what comes in, which is 48 kHz here and there.
    let filter = format!(
        "aresample=async=1:first_pts={},aresample=8000",
        start * 48_000
    );
    let bytes = decoded(&["-i", file, "-vn", "-af", &filter, "-ac", "1", "-f", "s16le"]);
    let (samples, _) = bytes.as_chunks::<2>();
    let square = |&sample: &[u8; 2]| f64::from(i16::from_le_bytes(sample)).powi(2);
    samples
        .chunks_exact(800)
        .map(|tenth| vec![tenth.iter().map(square).sum::<f64>().max(800.0).log10() / 2.0])
        .collect()
}

/// Where each piece of a stream, two seconds long, is in the loop that it was made of: by how many tenths of a second the stream is
/// behind the loop. Pieces that are like nothing in the loop, such as slate, are left out.
fn places(stream: &[Vec<f64>], whole: &[Vec<f64>], alike: f64) -> Vec<(usize, usize)> {
    let apart = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / a.len() as f64
    };
    let place = |(number, piece): (usize, &[Vec<f64>])| {
        let at = |shift: usize| {
            let there = whole.iter().cycle().skip(shift);
            let sum: f64 = piece.iter().zip(there).map(|(a, b)| apart(a, b)).sum();
            (shift, sum / piece.len() as f64)
        };
        let nearest = (0..whole.len()).map(at).min_by(|a, b| a.1.total_cmp(&b.1));
        let (shift, apart) = nearest.expect("a loop has places");
        let behind = (whole.len() + shift - number * PIECE % whole.len()) % whole.len();
        (apart <= alike).then_some((number, behind))
    };
    stream
        .chunks_exact(PIECE)
        .enumerate()
        .filter_map(place)
        .collect()
}

/// Length of a piece, tenths of a second.
const PIECE: usize = 20;

#[test]
fn a_talk_goes_in_and_comes_out_in_step() {
    in_step(&[Pixels::Yuy2]);
    in_step(&[Pixels::Mjpeg]);
}

#[test]
fn a_talk_in_nv12_is_taken_before_the_same_in_jpeg() {
    in_step(&[Pixels::Nv12, Pixels::Mjpeg]);
}

/// A talk through a card that offers these: the box takes the first, in which the talk's pictures come.
fn in_step(offered: &[Pixels]) {
    const SECONDS: usize = 10;
    let pixels = offered[0];
    let mode = Mode {
        pixels,
        width: 320,
        height: 180,
        fps: 10,
    };
    let mut card = small_card();
    let offers = |&pixels: &Pixels| Mode { pixels, ..mode };
    card.modes = offered.iter().map(offers).collect();
    let mut rig = Rig::boot();
    let talk = tests::root().join("tests/media/talk.mp4");
    card.source = rig.clip(&talk, &mode, SECONDS as u32);
    rig.plug(&card);
    rig.start(SMALL);
    rig.wait_for_signal("ok");
    let settled = match pixels {
        Pixels::Yuy2 => "pixels: Raw, width: 320",
        Pixels::Nv12 => "pixels: Nv12, width: 320",
        Pixels::Mjpeg => "pixels: Mjpeg, width: 320",
    };
    assert!(rig.logged(settled), "{}", rig.log());
    rig.tap_go_live();
    rig.wait_for_status("eight segments", |status| {
        status["segments"].as_u64() >= Some(8)
    });
    off_air(&mut rig);
    let published = rig.published();
    let file = |rendition| published.file(rendition).display().to_string();
    for rendition in ["video", "audio"] {
        let kept = tests::artifact(&format!("talk-{pixels:?}-{rendition}.mp4").to_lowercase());
        std::fs::copy(file(rendition), kept).expect("an artifact can be written");
    }
    let talk = talk.display().to_string();
    let length = SECONDS * 10;
    // A programme's time begins at ten seconds.
    let shown = places(
        &thumbnails(&file("video"), 10),
        &thumbnails(&talk, 0)[..length],
        4.0,
    );
    let heard = places(
        &loudness(&file("audio"), 10),
        &loudness(&talk, 0)[..length],
        0.25,
    );
    report(&format!(
        "{pixels:?}: pictures at {shown:?}, sound at {heard:?}"
    ));
    let both = shown.iter().filter_map(|&(number, shown)| {
        let (_, heard) = heard.iter().find(|heard| heard.0 == number)?;
        let apart = shown.abs_diff(*heard);
        Some(apart.min(length - apart))
    });
    let mut apart: Vec<usize> = both.collect();
    apart.sort_unstable();
    assert!(apart.len() >= 4, "{apart:?}");
    // Pictures that a busy machine has held up are not where they were: the median is.
    assert!(apart[apart.len() / 2] <= 1, "{apart:?}");
}
