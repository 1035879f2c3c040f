//! A recording that is published as it is encoded.

use std::process::Command;

use tests::hls::FRAME;
use tests::kubo::text;
use tests::{Config, Podium, hls, judge};

#[test]
fn what_is_encoded_already_is_published_as_it_is() {
    if !judge::have("ffmpeg") || !judge::have("ffprobe") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("encoded.mp4");
    // It ends before the box is told to: then it begins again, as another run.
    let made = Command::new("ffmpeg")
        .args("-v error -f lavfi -i testsrc2=size=640x360:rate=30 -f lavfi -i sine=sample_rate=48000 -t 9".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 60 -sc_threshold 0 -c:a aac -ac 2".split(' '))
        .arg(&file)
        .status();
    assert!(made.unwrap().success());
    let mut config = Config::file(&file);
    config.capture = config.capture.replace("\"file\"", "\"encoded\"");
    config.extra = "[video]\nwidth = 640\nheight = 360\n".into();
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    podium.wait_for_segments(7);
    podium.stop();
    let (url, vod) = podium.vod("video");
    assert!(vod.end_list);
    hls::check_segments(&url, &vod, FRAME);
    let runs = vod.segments.iter().filter(|it| it.discontinuity).count();
    assert!(runs >= 1, "{:?}", vod.segments);

    // The first pictures of both, decoded, are the same to the bit.
    let sums = |input: &str| {
        let only = ["-v", "error", "-i", input, "-frames:v", "120"];
        let (sums, complaints) = judge::run(
            "ffmpeg",
            &[&only[..], &["-map", "0:v", "-f", "framehash", "-"]].concat(),
            &[],
        );
        assert_eq!(complaints, "");
        let sums = sums.lines().filter(|line| !line.starts_with('#'));
        let last = |line: &str| line.rsplit(',').next().unwrap().trim().to_owned();
        sums.map(last).collect::<Vec<_>>()
    };
    let (published, given) = (sums(&url), sums(text(&file)));
    assert_eq!(published.len(), 120);
    assert_eq!(published, given);
}
