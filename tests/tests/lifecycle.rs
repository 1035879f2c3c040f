//! Ends and beginnings: signals, power cuts, restarts.

use rustix::process::Signal;
use serde_json::json;
use tests::hls::{AAC_FRAME, FRAME};
use tests::{Config, Podium, hls, http, judge, wait_for};

#[test]
fn sigterm_on_air_ends_the_broadcast_properly() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    podium.wait_for_segments(2);
    let peer = podium.ready["peer_id"].clone();
    podium.signal(Signal::TERM);
    let exit = podium.join();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);

    let podium = Podium::start(dir.path(), &Config::default());
    assert_eq!(podium.ready["peer_id"], peer, "the identity stays");
    assert_eq!(podium.state(), "idle");
    assert_eq!(podium.status()["node"]["root_is_vod"], true);
    let (url, vod) = podium.vod("video");
    assert!(vod.end_list && vod.segments.len() >= 2);
    hls::check_segments(&url, &vod, FRAME);
    let live = hls::live(&podium, "video");
    assert!(live.end_list);

    // The next broadcast's numbers go on from there.
    let last = live.media_sequence + live.segments.len() as u64;
    podium.go_live();
    let next = hls::live(&podium, "video");
    assert!(!next.end_list);
    assert!(
        next.media_sequence >= last,
        "{} after {last}",
        next.media_sequence
    );
}

#[test]
fn a_second_signal_ends_the_process_at_once_and_it_does_not_go_on_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    // Both signals wait while the process is stopped; they are two kinds, so that they do not become one.
    podium.signal(Signal::STOP);
    podium.signal(Signal::TERM);
    podium.signal(Signal::INT);
    podium.signal(Signal::CONT);
    let exit = podium.join();
    assert!(matches!(exit.code, Some(130 | 143)), "{:?}", exit.code);

    let podium = Podium::start(dir.path(), &Config::default());
    assert_eq!(podium.state(), "idle", "the broadcast was stopped");
    assert_eq!(
        podium.status()["node"]["root_is_vod"],
        true,
        "and is closed now"
    );
    assert!(hls::live(&podium, "video").end_list);
}

#[test]
fn a_broadcast_cut_off_before_its_first_segment_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.tap("go_live");
    tests::wait_for("the mark", || {
        dir.path().join("data/on-air").exists().then_some(())
    });
    podium.signal(Signal::KILL);
    podium.join();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.wait_for_state("live");
    drop(podium);

    // Not where the config says that nothing goes on by itself.
    let config = Config {
        extra: "[broadcast]\nresume_within_s = 0\n".into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    assert_eq!(podium.state(), "idle");
    assert_eq!(podium.status()["node"]["root_is_vod"], true);
}

/// Killed eight times at random instants: what was published stays, and the box goes on.
#[test]
fn kill_9_at_any_instant_loses_at_most_the_segment_in_progress() {
    let seed = std::env::var("PODIUM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    #[expect(clippy::print_stderr, reason = "a failure can be repeated with this")]
    {
        eprintln!("PODIUM_SEED={seed}");
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    // Short segments make for many writes.
    let config = Config {
        extra: "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 300\n\
                [hls]\nsegment_ms = 1000\npart_ms = 250\nwindow_s = 20\n"
            .into(),
        ..Config::default()
    };
    let mut promised: Vec<(u64, Vec<u8>)> = Vec::new();
    for round in 0..8 {
        let podium = Podium::start(dir.path(), &config);
        if round == 0 {
            podium.tap("go_live");
        }
        let url = format!("{}/live/video.m3u8", podium.viewer);
        // What the last life promised is served before anything new is.
        let restored = http::get(&url);
        if let Some((last, _)) = promised.last() {
            let playlist = hls::media_playlist(&restored.body);
            let end = playlist.media_sequence + playlist.segments.len() as u64;
            assert!(
                end > *last,
                "round {round}: segment {last} is gone, the playlist ends at {end}"
            );
        }
        for (number, bytes) in promised.iter().rev().take(20) {
            let answer = podium.live(&format!("video/{number}.m4s"));
            assert_eq!(answer.status, 200, "round {round}: segment {number}");
            assert!(
                answer.body == *bytes,
                "round {round}: segment {number} has changed"
            );
        }
        podium.wait_for_state("live");
        // At least one new segment, then the cut at a random instant within two.
        let have = promised.last().map_or(0, |(last, _)| last + 1);
        let seen = tests::wait_for("a new segment", || {
            let playlist = hls::media_playlist(&http::try_get(&url, &[]).ok()?.body);
            let end = playlist.media_sequence + playlist.segments.len() as u64;
            (end > have).then_some(playlist)
        });
        for (i, segment) in seen.segments.iter().enumerate() {
            let number = seen.media_sequence + i as u64;
            if number >= have {
                let bytes = http::get(&format!("{}/live/{}", podium.viewer, segment.uri)).body;
                promised.push((number, bytes));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(random.u64(0..2000)));
        podium.signal(Signal::KILL);
        assert_eq!(podium.join().code, None);
    }

    let podium = Podium::start(dir.path(), &config);
    podium.wait_for_state("live");
    podium.wait_for_segments(promised.len() as u64 + 1);
    // The time on air is the broadcast's, not this process's: segments of a second, the last of each life shorter.
    let on_air = podium.status()["on_air_ms"].as_u64().unwrap();
    assert!(on_air > promised.len() as u64 * 500, "{on_air} ms");
    podium.stop();
    let root = podium.root();
    for (rendition, frame) in [("video", FRAME), ("audio", AAC_FRAME)] {
        let (url, vod) = podium.vod(rendition);
        assert!(vod.segments.len() >= promised.len());
        if judge::have("ffprobe") {
            hls::check_segments(&url, &vod, frame);
        }
    }
    for (number, bytes) in &promised {
        let path = format!("{root}/video/{:04}/{number}.m4s", number / 256);
        let served = http::get(&format!("{}{path}", podium.viewer));
        assert!(served.body == *bytes, "{path} has changed");
    }
}

#[test]
fn what_was_muted_stays_muted_after_a_power_cut() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let configured = podium.status()["video_kbps"].clone();
    podium.go_live();
    for (what, body) in [
        ("mute", json!({ "muted": true })),
        ("bitrate", json!({ "video_kbps": 700 })),
    ] {
        let url = format!("{}/api/v1/{what}", podium.operator);
        assert_eq!(http::post(&url, &[], &body).status, 202);
    }
    let kept = dir.path().join("data/wishes.json");
    wait_for("the wishes on the disk", || {
        let text = std::fs::read_to_string(&kept).ok()?;
        (text == "{\"muted\":true,\"video_kbps\":700}").then_some(())
    });
    podium.signal(Signal::KILL);
    podium.join();

    let podium = Podium::start(dir.path(), &Config::default());
    podium.wait_for_state("live");
    let status = podium.status();
    assert_eq!(status["audio"]["muted"], true);
    assert_eq!(status["video_kbps"], 700);
    podium.hold_until_it_works("go_live");
    podium.wait_for_state("idle");
    let status = podium.status();
    assert_eq!(
        status["audio"]["muted"], false,
        "it ended with the broadcast"
    );
    assert_eq!(status["video_kbps"], configured);
}
