//! Glass to player: how late is the picture that Chromium shows, measured from the time in the picture itself?
//!
//! Against rivals on the same machine, one after the other: the box's own stream played without its parts, and ffmpeg's HLS
//! muxer with segments of the same length and the same time in its picture. And does a change of quality at the live edge stall?
//!
//! `make bench-latency` prints one table. The first argument is the length of each measurement in seconds; if absent, ten minutes
//! for the watch page and two for the others.

use std::process::{Command, Stdio};

use serde_json::Value;
use tests::{Config, Podium, Process, judge, wait_for};

const SECONDS: &str = "600";

/// What stays as far behind as it is after a minute needs no ten.
const RIVAL_SECONDS: &str = "120";

/// The part length that the box is told by its default.
const PART: &str = "0.334 s";

fn main() {
    let asked = std::env::args().nth(1);
    let seconds = asked.as_deref().unwrap_or(SECONDS);
    let rivals = asked.as_deref().unwrap_or(RIVAL_SECONDS);
    if !judge::have("ffmpeg") || !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let podium = Podium::start(dir.path(), &Config::large());
    podium.go_live();
    let parts = judge::node("latency.mjs", &[&podium.viewer, seconds]);
    let playlist = format!("{}/live/index.m3u8", podium.viewer);
    let plain = judge::node("latency.mjs", &["--plain", &playlist, rivals]);
    drop(podium);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let podium = Podium::start(dir.path(), &ladder());
    podium.go_live();
    let changing = judge::node("latency.mjs", &["--change", &podium.viewer, rivals]);
    drop(podium);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let playlist = dir.path().join("live.m3u8").display().to_string();
    let ffmpeg = ffmpeg(&playlist);
    // As many segments as the box has by now are not needed, but enough for a player to stay as far behind as it wants to.
    wait_for("ffmpeg's playlist", || {
        let text = std::fs::read_to_string(&playlist).ok()?;
        (text.matches("#EXTINF").count() > 5).then_some(())
    });
    let rival = judge::node("latency.mjs", &["--plain", &playlist, rivals]);
    drop(ffmpeg);
    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    {
        println!(
            "glass to player in Chromium {}, 720p30, 2 s segments; seconds",
            parts["browser"].as_str().unwrap_or_default()
        );
        println!(
            "| {:<38} | part    | measured | p50  | p95  | max  | stalls |",
            "stream"
        );
        println!(
            "|{:-<40}|---------|----------|------|------|------|--------|",
            ""
        );
        println!("{}", row("podium, watch page", PART, &parts));
        println!(
            "{}",
            row("podium, two videos, changed every 10 s", PART, &changing)
        );
        println!("{}", row("podium without parts", "none", &plain));
        println!("{}", row("ffmpeg's HLS", "none", &rival));
        // Whatever spoils a measurement stands beside it.
        for finding in [&parts, &changing, &plain, &rival] {
            println!("{finding}");
        }
    }
}

fn ladder() -> Config {
    Config {
        extra: "[video.low]\nwidth = 640\nheight = 360\nbitrate_kbps = 800\n".into(),
        ..Config::large()
    }
}

/// A stall: the player waits for data, or shows the same picture for a quarter of a second.
fn row(name: &str, part: &str, finding: &Value) -> String {
    let seconds = |key: &str| match finding[key].as_f64() {
        Some(milliseconds) => format!("{:.2}", milliseconds / 1000.0),
        None => "–".into(),
    };
    let count = |key: &str| finding["stalls"][key].as_u64().unwrap_or(0);
    format!(
        "| {name:<38} | {part:<7} | {:<8} | {:<4} | {:<4} | {:<4} | {:<6} |",
        finding["seconds"].to_string(),
        seconds("p50"),
        seconds("p95"),
        seconds("max"),
        count("waiting").max(count("frozen"))
    )
}

/// Makes a stream like the box's: the same size, rate, codecs and segments, and the time in the same strip.
fn ffmpeg(playlist: &str) -> Process {
    // Wall-clock milliseconds as 16 cells and their inverse, drawn a pixel each and enlarged; `T` is the time of day.
    let strip = "color=c=black:s=32x1:r=30,format=gray,realtime,setpts=RTCTIME/(TB*1000000),\
             geq=lum='255*abs(gte(X,16)-mod(floor(mod(floor(T*1000),65536)/pow(2,15-mod(X,16))),2))',\
             setpts=N/(30*TB),scale=1280:24:flags=neighbor,format=yuv420p";
    let picture = format!(
        "testsrc=size=1280x720:rate=30,format=yuv420p[picture];{strip}[strip];[picture][strip]overlay=0:0"
    );
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg
            .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", &picture])
            .args("-re -f lavfi -i sine=sample_rate=48000".split(' '))
            .args("-c:v libx264 -preset superfast -tune zerolatency -g 60 -sc_threshold 0 -b:v 3000k -c:a aac -b:a 128k".split(' '))
            .args("-f hls -hls_time 2 -hls_list_size 30 -hls_flags delete_segments -hls_segment_type fmp4".split(' '))
            .arg(playlist)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    Process::start(&mut ffmpeg)
}
