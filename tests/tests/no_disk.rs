//! A data directory that a box cannot begin on: it goes on in memory, says so, and changes nothing there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::disk::Disk;
use tests::{Config, Podium, hls, http, judge, wait_for};

/// Seconds of a picture.
const FRAME: f64 = 1.0 / 15.0;

fn config() -> Config {
    Config {
        extra: "[video]\nwidth = 320\nheight = 180\nfps = 15\nbitrate_kbps = 300\nx264_preset = \"ultrafast\"\n\
                [hls]\nsegment_ms = 1000\nwindow_s = 20\n[store]\nlive_mib = 64\n"
            .into(),
        ..Config::default()
    }
}

/// What lies below a directory, to the byte, but for what has these names.
fn tree(dir: &Path, but: &[&str]) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if but.iter().any(|but| entry.file_name() == *but) {
                continue;
            }
            let is_dir = entry.file_type().unwrap().is_dir();
            let content = (!is_dir).then(|| std::fs::read(entry.path()).unwrap());
            found.insert(entry.path(), content);
            if is_dir {
                dirs.push(entry.path());
            }
        }
    }
    found
}

fn recordings(podium: &Podium) -> Value {
    http::get(&format!("{}/api/v1/recordings", podium.operator)).json()
}

fn post(podium: &Podium, path: &str, body: &Value) -> u16 {
    http::post(&format!("{}/api/v1/{path}", podium.operator), &[], body).status
}

fn end(podium: Podium) {
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
}

fn kill(podium: Podium) {
    podium.signal(Signal::KILL);
    podium.join();
}

/// Where it is in memory.
fn memory(podium: &Podium) -> PathBuf {
    podium.ready["data_dir"].as_str().unwrap().into()
}

/// Of the next segment.
fn next_number(podium: &Podium) -> u64 {
    let playlist = hls::live(podium, "video");
    playlist.media_sequence + playlist.segments.len() as u64
}

/// What the box shows and tells from its start on.
fn check_said(podium: &Podium, fault: &str, lines: [&str; 2], dir: &Path) {
    assert_eq!(podium.ready["disk_fault"], fault);
    let status = podium.status();
    assert_eq!(status["disk_fault"], fault);
    assert_eq!(status["health"]["action"], json!(lines), "{status}");
    let notes = status["hardware"].to_string();
    let data = dir.join("data").display().to_string();
    assert!(
        notes.contains(&data) && notes.contains("keeps nothing"),
        "{notes}"
    );
}

/// A box with a recording that may not go, whose disk is broken, and mended again.
fn check(
    dir: &Path,
    fault: &str,
    line: [&str; 2],
    break_it: impl FnOnce(&Path),
    mend_it: impl FnOnce(&Path),
) {
    let data = dir.join("data");
    let podium = Podium::start(dir, &config());
    assert_eq!(podium.ready["disk_fault"], Value::Null);
    podium.go_live();
    podium.wait_for_segments(3);
    podium.stop();
    let (_, earlier) = podium.vod("video");
    let id = recordings(&podium)[0]["id"].as_u64().unwrap();
    assert_eq!(
        post(
            &podium,
            &format!("recordings/{id}/pin"),
            &json!({ "pinned": true })
        ),
        204
    );
    let before = recordings(&podium);
    let (peer, name) = (podium.ready["peer_id"].clone(), podium.name());
    end(podium);

    break_it(&data);
    // What is full is opened first, and what nothing names makes way.
    let but: &[&str] = match fault {
        "full" => &["journal.redb", "ipfs"],
        _ => &[],
    };
    let broken = tree(&data, but);
    let podium = Podium::start(dir, &config());
    check_said(&podium, fault, line, dir);
    assert_eq!(podium.state(), "idle");
    // Of its own name it may sign nothing whose number it cannot keep.
    assert_ne!(podium.ready["peer_id"], peer);
    assert_ne!(podium.name(), name);
    podium.go_live();
    podium.wait_for_segments(5);
    assert_eq!(podium.status()["disk_fault"], fault);
    let origin = format!("{}/live/video.m3u8", podium.viewer);
    let live = hls::live(&podium, "video");
    hls::check_segments(&origin, &live, FRAME);
    assert!(live.media_sequence > earlier.media_sequence + earlier.segments.len() as u64);
    let copy = format!("{}{}/video/event.m3u8", podium.viewer, podium.root());
    hls::check_segments(&copy, &hls::media_playlist(&http::get(&copy).body), FRAME);
    let named = format!("{}/ipns/{}/index.m3u8", podium.viewer, podium.name());
    assert_eq!(http::get(&named).status, 200);
    podium.stop();
    let (url, vod) = podium.vod("video");
    hls::check_segments(&url, &vod, FRAME);
    if judge::have("ffmpeg") {
        let index = format!("{}{}/vod.m3u8", podium.viewer, podium.root());
        judge::decode(&index, None).check(hls::seconds(&vod));
    }
    let (number, memory) = (next_number(&podium), memory(&podium));
    assert!(memory.join("ipfs").is_dir() && memory != data);
    end(podium);
    let left = tree(&memory, &["numbers.json"]);
    assert_eq!(left.len(), 0, "the memory is given back");
    assert!(
        tree(&data, but) == broken,
        "something in the data directory was changed"
    );

    mend_it(&data);
    let podium = Podium::start(dir, &config());
    assert_eq!(podium.ready["disk_fault"], Value::Null);
    assert_eq!(podium.ready["peer_id"], peer);
    assert_eq!(podium.name(), name);
    let now = recordings(&podium);
    let root = |list: &Value| list[0]["root"].clone();
    assert_eq!(root(&now), root(&before), "{now} after {before}");
    assert_eq!(now.as_array().unwrap().len(), 1, "{now}");
    assert!(!memory.exists());
    podium.go_live();
    assert!(hls::live(&podium, "video").media_sequence >= number);
    podium.stop();
    end(podium);
}

#[test]
fn a_box_on_a_read_only_disk_goes_on_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::ext4(dir.path()) else {
        return;
    };
    check(
        dir.path(),
        "read-only",
        ["Disk is read-only", "Nothing is kept"],
        |_| disk.remount("ro"),
        |_| disk.remount("rw"),
    );
}

#[test]
fn a_box_on_a_full_disk_goes_on_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), "200m") else {
        return;
    };
    check(
        dir.path(),
        "full",
        ["Disk is full", "Nothing is kept"],
        |_| disk.fill(),
        |_| disk.remount("size=200m"),
    );
}

/// Others may have filled it to the last block: then what podium has is where room can be made.
#[test]
fn a_disk_without_a_free_block_is_opened_where_a_recording_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), "200m") else {
        return;
    };
    let podium = Podium::start(dir.path(), &config());
    let peer = podium.ready["peer_id"].clone();
    for _ in 0..2 {
        podium.go_live();
        podium.wait_for_segments(3);
        podium.stop();
    }
    end(podium);
    disk.fill();
    let data = dir.path().join("data").display().to_string();
    let said = |arguments: &[&str]| {
        let ran = tests::podium(&[arguments, &["--data-dir", &data]].concat());
        assert_eq!(
            ran.code,
            Some(0),
            "{arguments:?}: {}{}",
            ran.stdout,
            ran.stderr
        );
        ran.stdout
    };
    assert_eq!(said(&["list"]).lines().count(), 2);
    let podium = Podium::start(dir.path(), &config());
    assert_eq!(podium.ready["disk_fault"], Value::Null);
    assert_eq!(podium.ready["peer_id"], peer);
    wait_for("room, made with the older one", || {
        (recordings(&podium).as_array()?.len() == 1).then_some(())
    });
    end(podium);
    assert_eq!(said(&["list"]).lines().count(), 1);
}

#[test]
fn a_box_with_a_broken_journal_goes_on_in_memory_until_fsck_has_made_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let fsck = |data: &Path| {
        let fsck = tests::podium(&["fsck", "--data-dir", &data.display().to_string()]);
        assert_eq!(fsck.code, Some(1), "{}{}", fsck.stdout, fsck.stderr);
    };
    check(
        dir.path(),
        "journal",
        ["Journal is broken", "Nothing is kept: fsck"],
        |data| std::fs::write(data.join("journal.redb"), [0; 4096]).unwrap(),
        fsck,
    );
}

#[test]
fn a_box_with_a_broken_key_goes_on_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("channel.key");
    check(
        dir.path(),
        "key",
        ["Key cannot be read", "Nothing is kept"],
        |data| {
            std::fs::copy(data.join("channel.key"), &copy).unwrap();
            std::fs::write(data.join("channel.key"), "no key").unwrap();
        },
        |data| {
            std::fs::copy(&copy, data.join("channel.key")).unwrap();
        },
    );
}

/// Whoever was on air is told to press the button; what was set stays set. A life in memory that is killed is taken up as any other,
/// and whoever stops it takes the mark on the disk away, too.
#[test]
fn a_broadcast_that_the_disk_has_cut_off_goes_on_only_when_somebody_presses_go_live() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (journal, away) = (data.join("journal.redb"), dir.path().join("journal.redb"));
    let mark = data.join("on-air");
    let podium = Podium::start(dir.path(), &config());
    let peer = podium.ready["peer_id"].clone();
    assert_eq!(post(&podium, "sync/trim", &json!({ "ms": 35 })), 202);
    podium.go_live();
    assert_eq!(post(&podium, "mute", &json!({ "muted": true })), 202);
    podium.wait_for_segments(3);
    let earlier = hls::live(&podium, "video");
    let next = earlier.media_sequence + earlier.segments.len() as u64;
    kill(podium);
    std::fs::rename(&journal, &away).unwrap();
    assert!(mark.exists());

    let start = || {
        let podium = Podium::start(dir.path(), &config());
        check_said(
            &podium,
            "journal",
            ["Off air: disk fault", "Press GO LIVE"],
            dir.path(),
        );
        let status = podium.status();
        assert_eq!(status["state"]["word"], "idle");
        assert_eq!(status["health"]["word"], "Emergency");
        assert_eq!(status["audio"]["muted"], true);
        assert_eq!(status["sync"]["trim_ms"], 35);
        podium
    };
    // Nobody has pressed it before the box is killed again.
    let podium = start();
    kill(podium);
    let podium = start();
    podium.go_live();
    podium.wait_for_segments(3);
    let status = podium.status();
    assert_eq!(status["audio"]["muted"], true);
    assert_eq!(status["health"]["word"], "Warning", "{status}");
    let first = hls::live(&podium, "video").media_sequence;
    assert!(first > next, "{first} after {next}");
    let (peer_in_memory, name) = (podium.ready["peer_id"].clone(), podium.name());
    assert_ne!(peer_in_memory, peer);
    kill(podium);
    assert!(mark.exists());

    let podium = Podium::start(dir.path(), &config());
    assert_ne!(podium.state(), "idle");
    assert_eq!(podium.ready["peer_id"], peer_in_memory);
    assert_eq!(podium.name(), name);
    podium.wait_for_segments(6);
    let live = hls::live(&podium, "video");
    assert!(live.segments.iter().any(|it| it.discontinuity));
    assert!(live.media_sequence >= first && live.media_sequence < first + 100);
    assert_eq!(podium.status()["audio"]["muted"], true);
    podium.stop();
    wait_for("the end of the mark", || (!mark.exists()).then_some(()));
    let memory = memory(&podium);
    kill(podium);
    assert!(memory.exists());

    std::fs::rename(&away, &journal).unwrap();
    let podium = Podium::start(dir.path(), &config());
    assert_eq!(podium.ready["peer_id"], peer);
    assert_eq!(podium.state(), "idle");
    let (url, vod) = podium.vod("video");
    assert!(vod.end_list);
    hls::check_segments(&url, &vod, FRAME);
    assert!(!memory.exists(), "the memory is given back");
}

/// The operator is not asked again, and the disk's own broadcast, which was cut off before, does not come in its place.
#[test]
fn what_is_on_air_from_memory_goes_on_there_after_a_crash_although_the_disk_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (journal, away) = (data.join("journal.redb"), dir.path().join("journal.redb"));
    let start = || Podium::start(dir.path(), &config());
    let podium = start();
    let peer = podium.ready["peer_id"].clone();
    podium.go_live();
    podium.wait_for_segments(2);
    kill(podium);
    std::fs::rename(&journal, &away).unwrap();
    let podium = start();
    podium.go_live();
    podium.wait_for_segments(3);
    let (name, first) = (podium.name(), hls::live(&podium, "video").media_sequence);
    kill(podium);
    std::fs::rename(&away, &journal).unwrap();

    let podium = start();
    assert_ne!(podium.state(), "idle");
    assert_eq!(podium.ready["disk_fault"], "journal");
    assert_eq!(podium.name(), name);
    podium.wait_for_segments(5);
    let live = hls::live(&podium, "video");
    assert!(live.media_sequence >= first && live.media_sequence < first + 100);
    podium.stop();
    let number = next_number(&podium);
    end(podium);

    let podium = start();
    assert_eq!(podium.ready["disk_fault"], Value::Null);
    assert_eq!(podium.ready["peer_id"], peer);
    assert_eq!(podium.state(), "idle");
    podium.go_live();
    assert!(hls::live(&podium, "video").media_sequence >= number);
    podium.stop();
    end(podium);
}

#[test]
fn a_broadcast_that_was_stopped_in_memory_does_not_go_on_air_once_its_disk_is_writable() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::ext4(dir.path()) else {
        return;
    };
    let mark = dir.path().join("data/on-air");
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(2);
    kill(podium);
    disk.remount("ro");
    let podium = Podium::start(dir.path(), &config());
    podium.go_live();
    podium.wait_for_segments(2);
    podium.stop();
    kill(podium);
    assert!(mark.exists());
    disk.remount("rw");
    let podium = Podium::start(dir.path(), &config());
    assert_eq!(podium.ready["disk_fault"], Value::Null);
    assert_eq!(podium.state(), "idle");
    assert!(!mark.exists());
    end(podium);
}
