//! What is recorded: listed, pinned, and found again by `fsck` when the disk has lied.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::hls::FRAME;
use tests::{Config, Output, Podium, hls, http, podium, wait_for};

/// Short segments make for many files.
fn config() -> Config {
    Config {
        extra: "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 300\n\
                [hls]\nsegment_ms = 1000\npart_ms = 250\nwindow_s = 20\n"
            .into(),
        ..Config::default()
    }
}

fn record(podium: &Podium, segments: u64) {
    podium.go_live();
    podium.wait_for_segments(segments);
    podium.stop();
}

fn recordings(podium: &Podium) -> Vec<Value> {
    let list = http::get(&format!("{}/api/v1/recordings", podium.operator)).json();
    list.as_array().expect("a list").clone()
}

fn end(podium: Podium) {
    podium.signal(Signal::TERM);
    let exit = podium.join();
    assert_eq!(exit.code, Some(0), "{}", exit.stderr);
}

/// Runs a command on a box's data directory and wants this exit status.
fn command(dir: &Path, arguments: &[&str], code: i32) -> Output {
    let data = dir.join("data");
    let data = data.to_str().expect("a name of ASCII");
    let output = podium(&[arguments, &["--data-dir", data]].concat());
    assert_eq!(output.code, Some(code), "{arguments:?}: {output:?}");
    output
}

#[test]
fn recordings_are_listed_and_pinned_whether_it_runs_or_not() {
    let dir = tempfile::tempdir().unwrap();
    command(dir.path(), &["list"], 2);
    let it = Podium::start(dir.path(), &config());
    record(&it, 2);
    record(&it, 2);

    let listed = command(dir.path(), &["list"], 0).stdout;
    let over_http = recordings(&it);
    assert_eq!((listed.lines().count(), over_http.len()), (2, 2));
    for (line, recording) in listed.lines().zip(&over_http) {
        assert!(line.contains(recording["root"].as_str().unwrap()), "{line}");
        assert_eq!(recording["pinned"], false);
        assert!(recording["bytes"].as_u64().unwrap() > 10_000);
    }
    command(dir.path(), &["pin", "1"], 0);
    assert_eq!(recordings(&it)[0]["pinned"], true);
    let unknown = command(dir.path(), &["pin", "99"], 2);
    assert!(
        unknown.stderr.contains("there is no broadcast 99"),
        "{unknown:?}"
    );
    let pin = |id: u64, body: &Value| {
        let url = format!("{}/api/v1/recordings/{id}/pin", it.operator);
        http::post(&url, &[], body).status
    };
    assert_eq!(pin(2, &json!({ "pinned": true })), 204);
    assert_eq!(pin(99, &json!({ "pinned": true })), 404);
    assert_eq!(pin(2, &json!({ "pin": true })), 422);
    let running = command(dir.path(), &["fsck"], 2);
    assert!(
        running.stderr.contains("another podium is running"),
        "{running:?}"
    );
    end(it);

    assert_eq!(
        command(dir.path(), &["list"], 0)
            .stdout
            .matches("pinned")
            .count(),
        2
    );
    command(dir.path(), &["unpin", "1"], 0);
    let fsck = command(dir.path(), &["fsck"], 0).stdout;
    assert!(
        fsck.contains("2 broadcasts") && fsck.contains("nothing is wrong"),
        "{fsck}"
    );
    let it = Podium::start(dir.path(), &config());
    let pinned: Vec<_> = recordings(&it)
        .iter()
        .map(|it| it["pinned"].clone())
        .collect();
    assert_eq!(pinned, [json!(false), json!(true)]);
}

/// A speaker who takes the permission back is not told to wait until the disk is full.
#[test]
fn a_recording_is_deleted_on_demand_whether_it_runs_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let it = Podium::start(dir.path(), &config());
    for _ in 0..3 {
        record(&it, 2);
    }
    let roots: Vec<String> = (recordings(&it).iter())
        .map(|it| it["root"].as_str().unwrap().to_owned())
        .collect();
    let newest = command(dir.path(), &["delete", "3"], 2);
    assert!(
        newest
            .stderr
            .contains("it can go once another one has its first segment"),
        "{newest:?}"
    );
    command(dir.path(), &["pin", "1"], 0);
    let pinned = command(dir.path(), &["delete", "1"], 2);
    assert!(pinned.stderr.contains("unpin it first"), "{pinned:?}");
    command(dir.path(), &["unpin", "1"], 0);

    let deleted = command(dir.path(), &["delete", "1"], 0);
    assert!(deleted.stdout.contains("mirrors"), "{deleted:?}");
    assert_eq!(recordings(&it).len(), 2);
    let status = |root: &str| http::get(&format!("{}/ipfs/{root}/vod.m3u8", it.viewer)).status;
    wait_for("it to be gone", || (status(&roots[0]) == 404).then_some(()));
    assert_eq!(status(&roots[1]), 200);
    let url = format!("{}/api/v1/recordings/1/delete", it.operator);
    assert_eq!(http::post(&url, &[], &json!({})).status, 404);
    end(it);

    command(dir.path(), &["delete", "2"], 0);
    let listed = command(dir.path(), &["list"], 0).stdout;
    assert!(
        listed.lines().count() == 1 && listed.contains(&roots[2]),
        "{listed}"
    );
    let fsck = command(dir.path(), &["fsck"], 0).stdout;
    assert!(
        fsck.contains("1 broadcast") && fsck.contains("nothing is wrong"),
        "{fsck}"
    );
}

#[test]
fn recordings_keep_to_their_budget_and_so_do_pins() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config();
    config.extra += "[store]\nrecordings_mib = 0\nlive_mib = 64\n";
    let it = Podium::start(dir.path(), &config);
    record(&it, 2);
    assert_eq!(recordings(&it).len(), 1, "the last stays");
    record(&it, 2);
    wait_for("the deletion of the first", || {
        let kept = recordings(&it);
        (kept.len() == 1 && kept[0]["id"] == 2).then_some(())
    });
    let refused = "unpin some, or raise [store] recordings_mib";
    let url = format!("{}/api/v1/recordings/2/pin", it.operator);
    let answer = http::post(&url, &[], &json!({ "pinned": true }));
    assert_eq!(answer.status, 409);
    let pinned = command(dir.path(), &["pin", "2"], 2);
    assert!(pinned.stderr.contains(refused), "{pinned:?}");
    assert_eq!(recordings(&it)[0]["pinned"], false);
    play(&it);
    end(it);

    let toml = dir.path().join("podium.toml");
    let here = ["pin", "2", "--config", toml.to_str().unwrap()];
    let pinned = command(dir.path(), &here, 2);
    assert!(pinned.stderr.contains(refused), "{pinned:?}");
    // The same with the budgets that a box has by default.
    command(dir.path(), &["pin", "2"], 0);
}

fn blocks(dir: &Path) -> Vec<PathBuf> {
    let shards = std::fs::read_dir(dir.join("data/ipfs/blockstore")).unwrap();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

/// The newest recording's VOD playlist: every segment that it names can be read and decoded.
fn play(podium: &Podium) -> usize {
    let root = recordings(podium).pop().unwrap()["root"]
        .as_str()
        .unwrap()
        .to_owned();
    let url = format!("{}/ipfs/{root}/video/vod.m3u8", podium.viewer);
    let vod = hls::media_playlist(&http::get(&url).body);
    assert!(vod.end_list);
    for segment in &vod.segments {
        let path = format!("{}/ipfs/{root}/video/{}", podium.viewer, segment.uri);
        assert_eq!(http::get(&path).status, 200, "{path}");
    }
    if tests::judge::have("ffprobe") {
        hls::check_segments(&url, &vod, FRAME);
    }
    vod.segments.len()
}

fn next_number(podium: &Podium) -> u64 {
    let live = hls::live(podium, "video");
    live.media_sequence + live.segments.len() as u64
}

/// Of the parts those of the video are the largest.
fn damage_a_segment(dir: &Path) {
    let parts = blocks(dir).into_iter().filter(|path| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(4).take(64).any(|name| name == b"moof")
    });
    let largest = parts.max_by_key(|path| std::fs::metadata(path).unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = std::fs::read(&largest).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&largest, bytes).unwrap();
}

/// A broadcast of a box that has ended, and of which a segment is damaged then: how many segments it had, and the number of the next.
fn record_and_damage(dir: &Path) -> (usize, u64) {
    let it = Podium::start(dir, &config());
    record(&it, 5);
    let recorded = (play(&it), next_number(&it));
    end(it);
    damage_a_segment(dir);
    recorded
}

/// As where the power goes in the middle of it: what is lost is dropped, and what named it is not written anew yet.
#[test]
fn what_fsck_could_not_close_the_next_start_closes() {
    let dir = tempfile::tempdir().unwrap();
    let (segments, number) = record_and_damage(dir.path());
    // It keeps the numbers first, and they cannot be kept.
    let in_the_way = dir.path().join("data/numbers.json");
    std::fs::create_dir(&in_the_way).unwrap();
    let repaired = command(dir.path(), &["fsck"], 1).stdout;
    assert!(repaired.contains(".m4s has lost a block"), "{repaired}");
    assert!(!repaired.contains("closed"), "{repaired}");
    std::fs::remove_dir(&in_the_way).unwrap();
    let it = Podium::start(dir.path(), &config());
    assert_eq!(play(&it), segments - 1);
    it.go_live();
    assert!(hls::live(&it, "video").media_sequence >= number);
}

#[test]
fn fsck_closes_a_broadcast_around_what_is_lost_and_numbers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (segments, number) = record_and_damage(dir.path());
    let looked = command(dir.path(), &["fsck", "--check"], 4).stdout;
    let repaired = command(dir.path(), &["fsck"], 1).stdout;
    for said in [&looked, &repaired] {
        assert!(
            said.contains("is corrupt") && said.contains(".m4s has lost a block"),
            "{said}"
        );
    }
    assert!(repaired.contains("broadcast 1: closed"), "{repaired}");
    command(dir.path(), &["fsck"], 0);
    let it = Podium::start(dir.path(), &config());
    assert_eq!(play(&it), segments - 1);
    it.go_live();
    assert!(hls::live(&it, "video").media_sequence >= number);
    it.stop();
    let number = next_number(&it);
    end(it);

    // Nothing but the blocks is left, and not even the meaning of the files is known. The box runs without them.
    std::fs::write(dir.path().join("data/journal.redb"), [7; 1 << 14]).unwrap();
    let it = Podium::start(dir.path(), &config());
    let notes = it.status()["hardware"].to_string();
    assert!(notes.contains("podium fsck"), "{notes}");
    let repaired = command(dir.path(), &["fsck"], 1).stdout;
    assert!(
        repaired.contains("2 broadcasts found among the blocks"),
        "{repaired}"
    );
    command(dir.path(), &["fsck"], 0);
    end(it);
    let it = Podium::start(dir.path(), &config());
    play(&it);
    it.go_live();
    assert!(hls::live(&it, "video").media_sequence >= number);
}
