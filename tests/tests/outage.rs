//! A disk that takes nothing while on air: the stream goes on from memory, and nothing that was stored is harmed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use m3u8_rs::MediaPlaylist;
use rustix::process::Signal;
use serde_json::Value;
use tests::{Config, Podium, hls, http, judge, wait_for};

/// Depends on how busy the machine is.
const TIMING: [&str; 3] = ["update-late", "update-early", "part-late"];

const FRAME: f64 = 1.0 / 30.0;

/// A file system of its own for a box's data; unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// In memory. `None`, said aloud, where the tests may not mount.
    fn in_memory(dir: &Path) -> Option<Disk> {
        let disk = Disk::new(dir)?;
        disk.run("mount", &["-t", "tmpfs", "-o", "size=200m", "podium-test"]);
        Some(disk)
    }

    /// ext4, which can be made to abort.
    fn ext4(dir: &Path) -> Option<Disk> {
        let disk = Disk::new(dir)?;
        let image = dir.join("disk.img");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(200 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        assert!(made.unwrap().success());
        disk.mount_image(dir);
        Some(disk)
    }

    fn mount_image(&self, dir: &Path) {
        let image = dir.join("disk.img").display().to_string();
        self.run("mount", &["-o", "loop", &image]);
    }

    fn new(dir: &Path) -> Option<Disk> {
        if !rustix::process::geteuid().is_root() {
            assert!(
                std::env::var_os("PODIUM_NO_SKIP").is_none(),
                "only root can mount a small disk"
            );
            #[expect(clippy::print_stderr, reason = "a skipped test says so")]
            {
                eprintln!("SKIPPED: only root can mount a small disk");
            }
            return None;
        }
        let data = dir.join("data");
        std::fs::create_dir(&data).unwrap();
        Some(Disk(data))
    }

    /// Remounts it with another option.
    fn remount(&self, option: &str) {
        self.run("mount", &["-o", &format!("remount,{option}")]);
    }

    /// Takes all room that is left.
    fn fill(&self) {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        // The box may have written meanwhile.
        self.remount(&format!("size={}", used + (1 << 20)));
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.0).status();
        assert!(status.unwrap().success(), "{program} {arguments:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: where a test fails the box may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

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
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path()) else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(4);
    let url = format!("{}/live/index.m3u8", podium.viewer);
    let oracle = {
        let url = url.clone();
        // To the end of the broadcast.
        let options = oracle::Options {
            duration: Duration::from_secs(600),
            ..oracle::Options::default()
        };
        std::thread::spawn(move || {
            let mut broken = Vec::new();
            let report = oracle::watch(&url, &options, &mut |violation| {
                if !TIMING.contains(&violation.rule) {
                    broken.push(format!("{violation:?}"));
                }
            });
            (report.unwrap().ended, broken)
        })
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
    let root = podium.status()["node"]["root"].clone();
    let before = podium.status()["segments"].as_u64().unwrap();
    podium.wait_for_segments(before + 12);
    // The copy names what is durable, and stays.
    assert_eq!(podium.status()["node"]["root"], root);
    let root = root.as_str().unwrap();
    let copy = format!("{}/ipfs/{root}/video/event.m3u8", podium.viewer);
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
    assert_eq!(live.discontinuity_sequence, 0);
    hls::check_segments(&origin, &live, FRAME);

    // Nobody noticed.
    if let Some(decoder) = decoder {
        assert_eq!(decoder.join().unwrap(), "");
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
    assert_eq!(oracle.join().unwrap(), (true, vec![]));

    // The recording has a gap, and says so.
    let root = podium.status()["node"]["root"].as_str().unwrap().to_owned();
    let url = format!("{}/ipfs/{root}/video/vod.m3u8", podium.viewer);
    let vod = hls::media_playlist(&http::get(&url).body);
    let gaps = vod.segments.iter().filter(|it| it.discontinuity).count();
    assert_eq!(gaps, 1);
    assert!(vod.segments.len() as u64 + missing >= all);
    hls::check_segments(&url, &vod, FRAME);
    if judge::have("ffmpeg") {
        let index = format!("{}/ipfs/{root}/vod.m3u8", podium.viewer);
        assert_eq!(judge::decode(&index, None), "");
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
    let Some(disk) = Disk::in_memory(dir.path()) else {
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
    let Some(disk) = Disk::in_memory(dir.path()) else {
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
    let root = podium.status()["node"]["root"].as_str().unwrap().to_owned();
    let url = format!("{}/ipfs/{root}/video/vod.m3u8", podium.viewer);
    let vod = hls::media_playlist(&http::get(&url).body);
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

    disk.run("umount", &[]);
    disk.mount_image(dir.path());
    // The mark could not be taken away either: without this it would go on.
    let mut closing = config();
    closing.extra += "[broadcast]\nresume_within_s = 0\n";
    let podium = Podium::start(dir.path(), &closing);
    assert_eq!(podium.state(), "idle");
    let root = podium.status()["node"]["root"].as_str().unwrap().to_owned();
    let url = format!("{}/ipfs/{root}/video/vod.m3u8", podium.viewer);
    let vod = hls::media_playlist(&http::get(&url).body);
    assert!(vod.end_list && vod.segments.len() >= 4);
    hls::check_segments(&url, &vod, FRAME);
    check_fsck(podium, dir.path());
}
