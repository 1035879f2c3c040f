//! The sync self-test from the outside: a clip with flashes and beeps for a card, ffmpeg and Chromium for judges.

use std::path::Path;

use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::{Config, Podium, artifact, hls, judge, wait_for};

/// What the box promises, milliseconds.
const BOUND: f64 = 5.0;
/// By how much the clip's sound is late, milliseconds.
const LATE: f64 = 80.0;

/// Half a minute of flashes, each at the beginning of a picture, and of beeps that are `late` milliseconds later, as ffmpeg
/// makes and encodes them.
fn clip(path: &Path, late: f64, codecs: &[&str]) {
    let pictures = (0..24).scan(15, |at, n: u64| {
        *at += 30 + n * 7 % 12;
        Some(*at)
    });
    let begins: Vec<f64> = pictures.map(|picture| picture as f64 / 30.0).collect();
    let during = |later: f64| -> String {
        let spans = (begins.iter()).map(|at| {
            let at = at + later;
            format!("between(t,{:.6},{:.6})", at, at + 0.1)
        });
        spans.collect::<Vec<_>>().join("+")
    };
    let length = begins.last().unwrap() + 1.5;
    let flashes = during(-0.001);
    let beeps = during(late / 1000.0);
    let picture =
        format!("color=black:s=320x180:r=30:d={length},drawbox=c=white:t=fill:enable='{flashes}'");
    let sound = format!("aevalsrc='0.5*sin(2000*PI*t)*({beeps})':s=48000:d={length}");
    let made = path.display().to_string();
    let inputs = [
        "-v", "error", "-f", "lavfi", "-i", &picture, "-f", "lavfi", "-i", &sound,
    ];
    let arguments = [&inputs, codecs, &[made.as_str()]].concat();
    let (_, complaints) = judge::run("ffmpeg", &arguments, &[]);
    assert_eq!(complaints, "");
}

/// Asks the box for something about sync.
fn ask(podium: &Podium, what: &str, body: &Value) -> Answer {
    http::post(
        &format!("{}/api/v1/sync/{what}", podium.operator),
        &[],
        body,
    )
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// What is measured at the input.
fn measured(podium: &Podium) -> Value {
    wait_for("a measurement", || {
        let test = podium.status()["sync"]["test"].clone();
        (test["word"] == "measured").then_some(test)
    })
}

/// A rendition as a player gets it now, in one file.
fn download(podium: &Podium, rendition: &str, dir: &Path) -> String {
    let mut bytes = Vec::new();
    let playlist = hls::live(podium, rendition);
    let base = format!("{}/live/", podium.viewer);
    let init = playlist.segments[0].map.as_ref().expect("an init segment");
    let files = playlist.segments.iter().map(|segment| &segment.uri);
    for uri in std::iter::once(&init.uri).chain(files) {
        bytes.extend(http::get(&format!("{base}{uri}")).body);
    }
    let path = dir.join(format!("{rendition}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// Milliseconds by which each beep is later than its flash, as ffmpeg decodes two files; those without a partner are left out.
fn distances(video: &str, audio: &str) -> Vec<f64> {
    let (mut bright, mut flashes) = (true, Vec::new());
    for (at, luma) in judge::brightness(video) {
        if luma > 120.0 && !bright {
            flashes.push(at);
        }
        bright = luma > 120.0;
    }
    let beeps = judge::beeps(audio);
    let nearest = |flash: &f64| {
        let distances = beeps.iter().map(|beep| (beep - flash) * 1000.0);
        distances
            .min_by(|a, b| a.abs().total_cmp(&b.abs()))
            .filter(|distance| distance.abs() < 450.0)
    };
    flashes.iter().filter_map(nearest).collect()
}

#[test]
fn what_the_self_test_measures_is_mended_by_a_press_and_kept() {
    let _turn = crate::turn();
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let card = dir.path().join("card.mov");
    clip(
        &card,
        LATE,
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "15",
            "-c:a",
            "pcm_s16le",
        ],
    );
    let mut config = Config::file(&card);
    config.extra = "[video]\nwidth = 320\nheight = 180\n".into();
    let podium = Podium::start(dir.path(), &config);
    let refused = ask(&podium, "take", &Value::Null);
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("start the self-test"));
    for (trim, status) in [
        (json!({"ms": 501}), 422),
        (json!({"ms": "1"}), 422),
        (json!({}), 202),
    ] {
        assert_eq!(ask(&podium, "trim", &trim).status, status, "{trim}");
    }
    for host in [&podium.viewer, &podium.operator] {
        assert_eq!(http::get(&format!("{host}/sync")).status, 200);
    }

    assert_eq!(ask(&podium, "start", &Value::Null).status, 202);
    let test = measured(&podium);
    assert!((number(&test["offset_ms"]) - LATE).abs() <= BOUND, "{test}");
    assert_eq!(
        test["offset_ms"], test["left_ms"],
        "without a trim all of it is left"
    );
    let metrics = http::get(&format!("{}/metrics", podium.operator)).text();
    assert!(
        metrics.contains("\npodium_av_self_test_seconds 0.0"),
        "{metrics}"
    );
    let picture = http::get(&format!("{}/api/v1/panel.png", podium.operator));
    std::fs::write(artifact("panel-sync.png"), picture.body).unwrap();
    if judge::have_chromium() {
        let screenshot = artifact("operator-sync.png").display().to_string();
        let page = judge::node(
            "page.mjs",
            &[
                &podium.operator,
                &screenshot,
                "1280",
                "1700",
                "--until",
                "#sync-take",
            ],
        );
        let text = page["text"].as_str().unwrap();
        assert!(text.contains("ms late."), "{text}");
        assert_eq!(page["console_errors"], json!([]));
        assert_eq!(page["overflows"], false);
    }

    // The panel says what MODE does, and shows this page since the test began.
    assert_eq!(podium.status()["page"], "sync");
    podium.tap("mode");
    let sync = wait_for("the trim", || {
        let sync = podium.status()["sync"].clone();
        (sync["trim_taken"] == true).then_some(sync)
    });
    let trim = number(&sync["trim_ms"]);
    assert!((trim - LATE).abs() <= BOUND, "{sync}");
    assert!(number(&sync["test"]["left_ms"]).abs() < 2.0, "{sync}");
    podium.tap("mode");
    wait_for("the end of the test", || {
        podium.status()["sync"]["test"].is_null().then_some(())
    });

    podium.go_live();
    podium.wait_for_segments(8);
    let published = distances(
        &download(&podium, "video", dir.path()),
        &download(&podium, "audio", dir.path()),
    );
    assert!(published.len() >= 8, "{published:?}");
    for distance in &published {
        assert!(distance.abs() <= BOUND, "{published:?}");
    }
    let sync = podium.status()["sync"].clone();
    assert!(number(&sync["error_ms"]).abs() <= BOUND, "{sync}");

    podium.signal(rustix::process::Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    let podium = Podium::start(dir.path(), &config);
    wait_for("the trim that was set before", || {
        (podium.status()["sync"]["trim_ms"] == trim).then_some(())
    });
    assert_eq!(ask(&podium, "trim", &json!({"ms": null})).status, 202);
    wait_for("the configured trim", || {
        let sync = podium.status()["sync"].clone();
        (sync["trim_taken"] == false && sync["trim_ms"] == 0).then_some(())
    });
}

/// One picture of the recording, milliseconds: a flash cannot be told more exactly, and a browser that shares its processor
/// records every second picture of a screen with 60 a second.
const SCREEN: f64 = 1000.0 / 30.0;

#[test]
fn the_sync_page_flashes_when_it_beeps() {
    let _turn = crate::turn();
    if !judge::have("ffmpeg") || !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let url = format!("{}/sync", podium.viewer);
    let together = dir.path().join("together.webm");
    clip(
        &together,
        0.0,
        &[
            "-c:v",
            "libvpx",
            "-deadline",
            "realtime",
            "-g",
            "15",
            "-c:a",
            "libopus",
        ],
    );
    let together = together.display().to_string();
    let record = |name: &str, clip: &[&str]| -> (Value, f64) {
        let file = dir.path().join(name).display().to_string();
        let page = judge::node("sync.mjs", &[&[&url, &file, "20"], clip].concat());
        let mut distances = distances(&file, &file);
        assert!(distances.len() >= 8, "{name}: {distances:?}, {page}");
        distances.sort_by(f64::total_cmp);
        (page, distances[distances.len() / 2])
    };
    let (page, ours) = record("page.webm", &[]);
    assert_eq!(page["fullscreen"], true, "{page}");
    for what in ["foreign", "console_errors", "page_errors"] {
        assert_eq!(page[what], json!([]), "{page}");
    }
    // What recording itself takes is the same for a clip that Chromium plays.
    let (_, player) = record("clip.webm", &[&together]);
    let skew = ours - player;
    assert!(
        skew.abs() <= SCREEN,
        "the beep is {skew} ms late ({ours}, {player})"
    );
}
