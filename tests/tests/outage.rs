//! A disk that takes nothing while on air: the stream goes on from memory, and nothing that was stored is harmed.

use std::path::Path;
use std::time::Duration;

use m3u8_rs::MediaPlaylist;
use rustix::process::Signal;
use serde_json::Value;
use tests::disk::Disk;
use tests::hls::FRAME;
use tests::{Config, Podium, hls, http, judge, wait_for};

fn config() -> Config {
    Config {
        extra: "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 300\n\
                [hls]\nsegment_ms = 1000\npart_ms = 250\nwindow_s = 20\n"
            .into(),
        ..Config::default()
    }
}

fn stored(podium: &Podium) -> u64 {
    let status = podium.status();
    status["segments"].as_u64().unwrap() - status["unstored"].as_u64().unwrap()
}

fn metric(podium: &Podium, name: &str) -> f64 {
    let text = http::get(&format!("{}/metrics", podium.operator)).text();
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with(&format!("{name} ")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

fn wait_for_outage(podium: &Podium, because: &str) {
    wait_for("the outage", || {
        let outage = podium.status()["outage"].as_str()?.to_owned();
        assert!(outage.contains(because), "{outage}");
        Some(())
    });
    assert_eq!(podium.state(), "live");
    assert_eq!(metric(podium, "podium_store_refuses"), 1.0);
    let health = podium.status()["health"].clone();
    assert_eq!(health["word"], "Warning", "{health}");
    let said = health["action"][0].as_str().unwrap();
    assert!(said.contains("ot recording"), "{health}");
}

#[test]
fn a_disk_that_is_full_costs_the_recording_a_gap_and_viewers_nothing() {
    let _turn = crate::turn();
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), "200m") else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(4);
    let discontinuities = hls::live(&podium, "video").discontinuity_sequence;
    let url = format!("{}/live/index.m3u8", podium.viewer);
    let oracle = {
        let url = url.clone();
        // To the end of the broadcast.
        std::thread::spawn(move || judge::oracle(&url, Duration::from_secs(600)))
    };
    let seconds = 40;
    let player = judge::have_chromium().then(|| {
        let viewer = podium.viewer.clone();
        let screenshot = tests::artifact("outage.jpg").display().to_string();
        let seconds = seconds.to_string();
        std::thread::spawn(move || judge::node("watch.mjs", &[&viewer, &screenshot, &seconds]))
    });
    let decoder = judge::have("ffmpeg")
        .then(|| std::thread::spawn(move || judge::decode(&url, Some(seconds))));
    podium.wait_for_segments(8);

    disk.fill();
    wait_for_outage(&podium, "disk full");
    let root = podium.root();
    let before = podium.status()["segments"].as_u64().unwrap();
    podium.wait_for_segments(before + 12);
    // The copy names what is durable, and stays.
    assert_eq!(podium.root(), root);
    let copy = format!("{}{root}/video/event.m3u8", podium.viewer);
    hls::check_segments(&copy, &hls::media_playlist(&http::get(&copy).body), FRAME);
    let origin = format!("{}/live/video.m3u8", podium.viewer);
    hls::check_segments(&origin, &hls::live(&podium, "video"), FRAME);

    disk.remount("size=200m");
    wait_for("the end of the outage", || {
        podium.status()["outage"].is_null().then_some(())
    });
    let before = stored(&podium);
    wait_for("more in the store", || {
        (stored(&podium) >= before + 10).then_some(())
    });
    assert_eq!(metric(&podium, "podium_store_refuses"), 0.0);
    let missing = podium.status()["unstored"].as_u64().unwrap();
    assert!(missing >= 12, "{missing}");
    let live = hls::live(&podium, "video");
    assert!(live.segments.iter().all(|it| !it.discontinuity));
    assert_eq!(live.discontinuity_sequence, discontinuities);
    hls::check_segments(&origin, &live, FRAME);

    // Nobody noticed.
    if let Some(decoder) = decoder {
        decoder.join().unwrap().check(f64::from(seconds));
    }
    if let Some(player) = player {
        let seen = player.join().unwrap();
        assert_eq!(seen["played"], true, "{seen}");
        // On a busy machine the player may lose patience; all that it asked for was there.
        assert_eq!(seen["bad_status"], Value::Array(vec![]), "{seen}");
        let mut failed = seen["failed"].as_array().unwrap().iter();
        assert!(failed.all(|it| it["error"] == "net::ERR_ABORTED"), "{seen}");
        let errors = seen["hls"]["errors"].as_array().unwrap();
        assert!(errors.iter().all(|it| it["fatal"] == false), "{seen}");
    }
    let all = podium.status()["segments"].as_u64().unwrap();
    podium.stop();
    let report = oracle.join().unwrap();
    assert_eq!(report.violations, [], "{report}");
    assert!(report.ended, "{report}");

    // The recording has a gap, and says so.
    let (url, vod) = podium.vod("video");
    let gaps = vod.segments.iter().filter(|it| it.discontinuity).count();
    assert_eq!(gaps, 1);
    assert!(vod.segments.len() as u64 + missing >= all);
    hls::check_segments(&url, &vod, FRAME);
    if judge::have("ffmpeg") {
        let index = format!("{}{}/vod.m3u8", podium.viewer, podium.root());
        judge::decode(&index, None).check(hls::seconds(&vod));
    }
    check_fsck(podium, dir.path());
}

/// Viewers were told that the segments and init segments of an earlier broadcast never change: this one has others.
fn check_behind(podium: &Podium, earlier: &MediaPlaylist) {
    let run = |playlist: &MediaPlaylist| {
        let maps = playlist.segments.iter().filter_map(|it| it.map.as_ref());
        let runs = maps.map(|map| {
            let name = map.uri.rsplit("init-").next().unwrap();
            name.strip_suffix(".mp4").unwrap().parse::<u64>().unwrap()
        });
        runs.max().expect("an init segment")
    };
    let now = hls::live(podium, "video");
    let next = earlier.media_sequence + earlier.segments.len() as u64;
    assert!(now.media_sequence >= next, "{now:?} after {earlier:?}");
    assert!(run(&now) > run(earlier), "{now:?} after {earlier:?}");
}

#[test]
fn numbers_that_were_shown_from_memory_do_not_come_again_after_a_stop_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), "200m") else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(2);
    disk.fill();
    wait_for_outage(&podium, "disk full");
    let before = podium.status()["segments"].as_u64().unwrap();
    podium.wait_for_segments(before + 3);
    podium.stop();
    let ended = hls::live(&podium, "video");
    assert!(ended.end_list);
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0), "it could be closed");

    disk.remount("size=200m");
    let podium = Podium::start(dir.path(), &config());
    assert_eq!(podium.state(), "idle");
    podium.go_live();
    check_behind(&podium, &ended);
    let next = hls::live(&podium, "video");
    podium.stop();
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    // What is known of numbers is on the disk: nothing leaps any more.
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    let first = hls::live(&podium, "video").media_sequence;
    assert!(first < next.media_sequence + 100, "{first} after {next:?}");
    podium.stop();
    check_fsck(podium, dir.path());
}

/// Ends the box and looks at what it leaves.
fn check_fsck(podium: Podium, dir: &Path) {
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    let data = dir.join("data").display().to_string();
    let fsck = tests::podium(&["fsck", "--data-dir", &data]);
    assert_eq!(fsck.code, Some(0), "{}{}", fsck.stdout, fsck.stderr);
}

#[test]
fn a_broadcast_begins_on_a_full_disk_and_is_recorded_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), "200m") else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    disk.fill();
    podium.go_live();
    wait_for_outage(&podium, "disk full");
    podium.wait_for_segments(3);
    assert_eq!(stored(&podium), 0);
    let origin = format!("{}/live/video.m3u8", podium.viewer);
    hls::check_segments(&origin, &hls::live(&podium, "video"), FRAME);
    // What has never been in the store ends for its viewers, too.
    podium.stop();
    let mut ended = hls::live(&podium, "video");
    assert!(ended.end_list);
    hls::check_segments(&origin, &ended, FRAME);

    // Nor do its numbers come again, in this life or the next.
    podium.go_live();
    check_behind(&podium, &ended);
    podium.wait_for_segments(2);
    podium.stop();
    ended = hls::live(&podium, "video");
    podium.signal(Signal::KILL);
    podium.join();
    disk.remount("size=200m");
    let podium = Podium::start(dir.path(), &config());
    disk.fill();
    podium.go_live();
    check_behind(&podium, &ended);
    let next = hls::live(&podium, "video").media_sequence;
    wait_for_outage(&podium, "disk full");
    disk.remount("size=200m");
    wait_for("a recording", || (stored(&podium) >= 3).then_some(()));
    podium.stop();
    let (url, vod) = podium.vod("video");
    assert!(vod.end_list && vod.media_sequence > next && vod.segments.len() >= 3);
    hls::check_segments(&url, &vod, FRAME);
    check_fsck(podium, dir.path());
}

#[test]
fn a_disk_that_becomes_read_only_costs_viewers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::ext4(dir.path()) else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(4);
    disk.remount("abort");
    wait_for_outage(&podium, "store:");
    let before = podium.status()["segments"].as_u64().unwrap();
    podium.wait_for_segments(before + 10);
    let origin = format!("{}/live/video.m3u8", podium.viewer);
    hls::check_segments(&origin, &hls::live(&podium, "video"), FRAME);
    // It cannot be closed on the disk; viewers see the end, and the next start closes it.
    podium.stop();
    let ended = hls::live(&podium, "video");
    assert!(ended.end_list);
    hls::check_segments(&origin, &ended, FRAME);
    podium.signal(Signal::KILL);
    podium.join();

    disk.mount_again(dir.path());
    // The mark could not be taken away either: without this it would go on.
    let mut closing = config();
    closing.extra += "[broadcast]\nresume_within_s = 0\n";
    let podium = Podium::start(dir.path(), &closing);
    assert_eq!(podium.state(), "idle");
    let (url, vod) = podium.vod("video");
    assert!(vod.end_list && vod.segments.len() >= 4);
    hls::check_segments(&url, &vod, FRAME);
    check_fsck(podium, dir.path());
}
