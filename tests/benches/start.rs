//! How long after GO LIVE is the first segment served? Against ffmpeg's own HLS muxer, told to make segments of the same
//! length from a test picture of the same size, counted from the start of its process.
//!
//! `make bench` prints one table.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::{Config, Podium, http, judge, wait_for};

const ROUNDS: usize = 7;

fn main() {
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let podium = Podium::start(dir.path(), &Config::large());
    wait_for("the preview", || {
        (podium.status()["input"]["signal"] == "ok").then_some(())
    });
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turns, so that what else the machine does hits both alike.
    for _ in 0..ROUNDS {
        ours.push(of_podium(&podium));
        theirs.push(of_ffmpeg());
    }
    let (ours, theirs) = (Summary::of(ours), Summary::of(theirs));
    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    {
        println!(
            "from the press, or the start of ffmpeg, to the first segment served, {ROUNDS} rounds, 720p30, 2 s segments"
        );
        println!("|        | median | worst |");
        println!("|--------|--------|-------|");
        println!("| podium | {:.2} s | {:.2} s |", ours.median, ours.worst);
        println!(
            "| ffmpeg | {:.2} s | {:.2} s |",
            theirs.median, theirs.worst
        );
        println!(
            "| ratio  | {:.2} | {:.2} |",
            ours.median / theirs.median,
            ours.worst / theirs.worst
        );
    }
}

struct Summary {
    median: f64,
    worst: f64,
}

impl Summary {
    fn of(times: Vec<Duration>) -> Summary {
        let mut seconds: Vec<f64> = times.iter().map(Duration::as_secs_f64).collect();
        seconds.sort_by(f64::total_cmp);
        Summary {
            median: seconds[seconds.len() / 2],
            worst: seconds[seconds.len() - 1],
        }
    }
}

fn of_podium(podium: &Podium) -> Duration {
    let index = format!("{}/live/video.m3u8", podium.viewer);
    let before = http::get(&index).body;
    let pressed = Instant::now();
    podium.tap("go_live");
    let time = wait_for("the first segment", || {
        let answer = http::get(&index);
        let new = answer.status == 200 && answer.body != before;
        (new && !answer.text().contains("ENDLIST")).then(|| pressed.elapsed())
    });
    podium.stop();
    time
}

fn of_ffmpeg() -> Duration {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let playlist = dir.path().join("live.m3u8");
    let started = Instant::now();
    let mut child = Command::new("ffmpeg")
        .args("-v error -nostdin -re -f lavfi -i testsrc=size=1280x720:rate=30 -re -f lavfi -i sine=sample_rate=48000".split(' '))
        .args("-c:v libx264 -preset superfast -tune zerolatency -g 60 -b:v 3000k -c:a aac -b:a 128k".split(' '))
        .args("-f hls -hls_time 2 -hls_segment_type fmp4".split(' '))
        .arg(&playlist)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("ffmpeg starts");
    let time = wait_for("ffmpeg's first segment", || {
        playlist.exists().then(|| started.elapsed())
    });
    let _ = child.kill();
    let _ = child.wait();
    time
}
