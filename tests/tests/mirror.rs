//! `podium mirror`: what it has equals what the box published, whatever happens to box, mirror and the link between them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::dag;
use tests::disk::Disk;
use tests::kubo::{self, Kubo};
use tests::relay::Relay;
use tests::{Config, Mirror, Podium, hls, http, judge, private_swarm, wait_for};

/// The box's TCP address, and the peer id behind it.
fn tcp(podium: &Podium) -> (SocketAddr, String) {
    let address = podium.address("/tcp/");
    let parts: Vec<&str> = address.split('/').collect();
    let address = format!("{}:{}", parts[2], parts[4]).parse().unwrap();
    (address, parts[6].to_owned())
}

fn multiaddress(address: SocketAddr, peer: &str) -> String {
    format!("/ip4/{}/tcp/{}/p2p/{peer}", address.ip(), address.port())
}

/// Waits until the mirror serves all that the box lists now; both may be further on by then.
fn serves_what_is_listed(podium: &Podium, mirror: &Mirror) {
    let video = hls::live(podium, "video");
    mirror.wait_for_segment(video.media_sequence + video.segments.len() as u64 - 1);
}

/// Of a box or a mirror.
fn recordings(operator: &str) -> Vec<Value> {
    let list = http::get(&format!("{operator}/api/v1/recordings")).json();
    list.as_array().unwrap().clone()
}

fn roots(operator: &str) -> Vec<Value> {
    let list = recordings(operator).into_iter();
    list.map(|it| it["root"].clone()).collect()
}

fn pin(operator: &str, recording: &Value) {
    let url = format!("{operator}/api/v1/recordings/{}/pin", recording["id"]);
    let pinned = http::post(&url, &[], &serde_json::json!({ "pinned": true }));
    assert_eq!(pinned.status, 204);
}

/// Waits until box and mirror have the same root, which they are not sure to have at any moment of a broadcast, and all that is
/// before it.
fn caught_up(podium: &Podium, mirror: &Mirror) -> String {
    wait_for("the mirror to have caught up", || {
        let root = podium.cid();
        let status = mirror.status();
        (status["root"] == *root && status["filling"] == false).then_some(root)
    })
}

/// Waits until the mirror has all of what it shows.
fn filled(mirror: &Mirror) -> String {
    wait_for("all that was published before", || {
        let status = mirror.status();
        let all = status["filling"] == false && status["kept_from"].is_null();
        all.then(|| status["root"].as_str().map(str::to_owned))?
    })
}

/// The number of the last segment that the mirror serves.
fn last_segment(mirror: &Mirror) -> u64 {
    mirror.status()["last_segment"].as_u64().unwrap()
}

/// Ends the mirror in `place`, whose store is whole then.
fn end(mirror: Mirror, place: &Path) {
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let data = place.join("data");
    let fsck = tests::podium(&["fsck", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(fsck.code, Some(0), "{}{}", fsck.stdout, fsck.stderr);
}

/// Waits until nobody is connected and nothing is being fetched: after that the mirror takes over nothing more.
fn settled(mirror: &Mirror) {
    wait_for("the end of all fetching", || {
        let status = mirror.status();
        (status["peers"] == 0 && status["fetching"].is_null()).then_some(())
    });
}

/// Every block below a root, in order: equal bytes are an equal broadcast.
fn car(viewer: &str, root: &str) -> Vec<u8> {
    let answer = http::get(&format!(
        "{viewer}/ipfs/{root}?format=car&car-order=dfs&car-dups=n"
    ));
    assert_eq!(answer.status, 200, "{viewer} {root}");
    answer.body
}

fn same(podium: &Podium, mirror: &Mirror, root: &str) {
    let (there, here) = (car(&podium.viewer, root), car(&mirror.viewer, root));
    assert!(there == here, "{} and {} bytes", there.len(), here.len());
}

/// The box's playlist without what only the box can serve.
fn without_low_latency(text: &str) -> String {
    let low_latency = [
        "#EXT-X-SERVER-CONTROL",
        "#EXT-X-PART",
        "#EXT-X-PRELOAD-HINT",
        "#EXT-X-RENDITION-REPORT",
        "#EXT-X-VERSION",
    ];
    let lines = text.lines();
    let plain = lines.filter(|line| !low_latency.iter().any(|tag| line.starts_with(tag)));
    plain.map(|line| format!("{line}\n")).collect()
}

/// Plays what the mirror names, byte for byte as the box has it.
fn same_live(podium: &Podium, mirror: &Mirror) {
    for rendition in ["video", "audio"] {
        let answer = mirror.get(&format!("/live/{rendition}.m3u8"));
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(!text.contains("#EXT-X-PART"), "{text}");
        let playlist = hls::media_playlist(&answer.body);
        for segment in &playlist.segments {
            let path = format!("/live/{}", segment.uri);
            let there = http::get(&format!("{}{path}", podium.viewer));
            let here = mirror.get(&path);
            assert_eq!((there.status, here.status), (200, 200), "{path}");
            assert!(there.body == here.body, "{path}");
        }
    }
}

#[test]
fn it_follows_by_pubsub_and_serves_on_when_the_box_is_gone() {
    let _turn = crate::turn();
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &name,
        &["--peer", &podium.address("/tcp/")],
    );
    assert_eq!(mirror.get("/live/video.m3u8").status, 404);
    podium.go_live();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let root = wait_for("another root on the mirror", || {
            let root = mirror.status()["root"].as_str()?.to_owned();
            (!seen.contains(&root)).then_some(root)
        });
        same(&podium, &mirror, &root);
        same_live(&podium, &mirror);
        seen.push(root);
    }
    let public = mirror.public();
    assert_eq!(public["live"], true, "{public}");
    assert_eq!(public["mirror"]["of"], *name, "{public}");
    assert_eq!(public["mirror"]["gone"], false, "{public}");
    let index = format!("{}/live/index.m3u8", mirror.viewer);
    let report = judge::oracle(&index, Duration::from_secs(20));
    assert_eq!(report.violations, [], "{report}");
    if judge::have_chromium() {
        let screenshot = dir.path().join("watch.png");
        let screenshot = screenshot.to_str().unwrap();
        let page = judge::node("watch.mjs", &[&mirror.viewer, screenshot, "8"]);
        assert_eq!(page["played"], true, "{page}");
        assert_eq!(page["page_errors"], serde_json::json!([]), "{page}");
    }
    podium.stop();
    let last = caught_up(&podium, &mirror);
    same(&podium, &mirror, &last);
    for rendition in ["video", "audio"] {
        let file = format!("/live/{rendition}.m3u8");
        let there = http::get(&format!("{}{file}", podium.viewer)).text();
        let here = mirror.get(&file).text();
        assert_eq!(without_low_latency(&here), without_low_latency(&there));
        assert!(here.ends_with("#EXT-X-ENDLIST\n"));
    }
    let index = mirror.get("/live/index.m3u8").text();
    assert_eq!(index, podium.live("index.m3u8").text());
    let record = format!("/routing/v1/ipns/{name}");
    let there = http::get(&format!("{}{record}", podium.viewer)).body;
    assert_eq!(mirror.get(&record).body, there);
    assert_eq!(mirror.status()["gone_s"], Value::Null);

    // It is told a moment after it was asked.
    let status = wait_for("the question for the record in the status", || {
        let status = mirror.status();
        status["record"]["http_ms"].is_u64().then_some(status)
    });
    assert_eq!(status["heard"]["source"], "pubsub", "{status}");
    assert_eq!(status["record"]["sequence"], status["sequence"], "{status}");
    assert!(status["record"]["age_ms"].is_u64(), "{status}");
    // At the least what was read of its live window.
    let sent = status["uplink"]["local_bytes"].as_u64().unwrap();
    assert!(sent > car(&mirror.viewer, &last).len() as u64, "{status}");
    // The page says the same.
    let page = http::get(&format!("{}/", mirror.operator));
    let kind = page.header("content-type").unwrap().to_owned();
    let page = page.text();
    assert!(kind.starts_with("text/html"), "{kind}");
    for line in [
        &*name,
        "<th>the box<td>idle\n",
        "<td>over pubsub, ",
        "<td>signed ",
    ] {
        assert!(page.contains(line), "{page}");
    }
    let icon = http::get(&format!("{}/icon.svg", mirror.operator));
    assert_eq!(icon.header("content-type"), Some("image/svg+xml"));
    assert!(page.contains("href=/icon.svg"), "{page}");

    podium.signal(Signal::KILL);
    podium.join();
    mirror.wait_for_gone(true);
    assert!(mirror.status()["gone_s"].as_u64() >= Some(15));
    let named = mirror.get(&format!("/ipns/{name}/video/vod.m3u8"));
    assert_eq!(named.status, 200);
    assert!(hls::media_playlist(&named.body).end_list);
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let data = dir.path().join("mirror/data");
    let data = data.to_str().unwrap();
    let fsck = tests::podium(&["fsck", "--data-dir", data]);
    assert_eq!(fsck.code, Some(0), "{}{}", fsck.stdout, fsck.stderr);
    let list = tests::podium(&["list", "--data-dir", data]);
    assert!(
        list.stdout.contains(&last),
        "{}{}",
        list.stdout,
        list.stderr
    );
    // Nobody takes one for the other.
    let other = dir.path().join("data");
    let free = ["--viewer", "127.0.0.1:0", "--operator", "127.0.0.1:0"];
    let command = ["mirror", &name, "--data-dir", other.to_str().unwrap()];
    let refused = tests::podium(&[&command[..], &free].concat());
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("a name of its own"),
        "{}",
        refused.stderr
    );
    let refused = Podium::refuse(&dir.path().join("mirror"), &Config::default());
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.stderr.contains("of a mirror of"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_box_that_is_switched_off_on_air_leaves_when_its_followers_have_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let name = podium.name();
    let tcp = podium.address("/tcp/");
    let told = Mirror::start(&dir.path().join("told"), &name, &["--peer", &tcp]);
    let asks = ["--no-pubsub", "--peer", &podium.viewer];
    let asks = Mirror::start(&dir.path().join("asks"), &name, &asks);
    serves_what_is_listed(&podium, &told);
    serves_what_is_listed(&podium, &asks);
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    for mirror in [&told, &asks] {
        mirror.wait_for_gone(true);
        assert_eq!(mirror.status()["ended"], true, "{}", mirror.status());
        let list = mirror.get("/live/video.m3u8").text();
        assert!(list.ends_with("#EXT-X-ENDLIST\n"), "{list}");
    }
}

#[test]
fn it_follows_by_asking_alone_and_keeps_only_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        extra: "[hls]\nsegment_ms = 1000\nwindow_s = 20\n".into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    let oldest = hls::oldest(&podium);
    let name = podium.name();
    let asks = ["--no-pubsub", "--peer", &podium.viewer];
    let all = Mirror::start(&dir.path().join("all"), &name, &asks);
    let mut seen: Vec<String> = Vec::new();
    while seen.len() < 3 {
        let root = wait_for("another root on the mirror", || {
            let root = all.status()["root"].as_str()?.to_owned();
            (!seen.contains(&root)).then_some(root)
        });
        same(&podium, &all, &root);
        seen.push(root);
    }
    podium.wait_for_segments(26);
    assert!(hls::oldest(&podium) > oldest);
    let oldest = hls::segment_path("video", oldest);
    let window = [&asks[..], &["--keep", "window"]].concat();
    let window = Mirror::start(&dir.path().join("window"), &name, &window);
    serves_what_is_listed(&podium, &window);
    podium.stop();
    let last = caught_up(&podium, &window);
    same_live(&podium, &window);
    caught_up(&podium, &all);
    same(&podium, &all, &last);
    let on = |mirror: &Mirror, path: &str| mirror.get(&format!("/ipfs/{last}/{path}")).status;
    for (path, kept) in [
        ("video/live.m3u8", true),
        ("video/vod.m3u8", false),
        ("video/event.m3u8", false),
        (&oldest, false),
        ("player.html", true),
    ] {
        assert_eq!(on(&all, path), 200, "{path}");
        assert_eq!(on(&window, path) == 200, kept, "{path}");
    }
    end(window, &dir.path().join("window"));

    // All of what has ended is fetched, too.
    drop(all);
    let all = Mirror::start(&dir.path().join("window"), &name, &asks);
    wait_for("all of it", || {
        (all.public()["root_is_vod"] == true).then_some(())
    });
    same(&podium, &all, &last);
    end(all, &dir.path().join("window"));
}

#[test]
fn a_box_that_comes_up_after_its_mirror_is_found_although_a_stranger_is_connected() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let viewer: SocketAddr = podium.viewer["http://".len()..].parse().unwrap();
    let relay = Relay::to(viewer);
    relay.cut();
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Podium::start(elsewhere.path(), &Config::default());
    let (http, stranger) = (
        format!("http://{}", relay.address()),
        stranger.address("/tcp/"),
    );
    let asks = ["--no-pubsub", "--peer", &http, "--peer", &stranger];
    let mirror = Mirror::start(&dir.path().join("mirror"), &podium.name(), &asks);
    wait_for("the stranger", || {
        (mirror.status()["peers"] == 1).then_some(())
    });
    relay.mend(viewer);
    serves_what_is_listed(&podium, &mirror);
}

/// How often the mirror has begun to fetch what was published before the window, and how often it had all of it.
fn told_of_filling(place: &Path) -> (usize, usize) {
    let log = std::fs::read_to_string(place.join("mirror.log")).unwrap();
    let (begun, done) = ("what was published before follows", "all of it is here");
    (log.matches(begun).count(), log.matches(done).count())
}

#[test]
fn viewers_get_the_window_before_what_was_published_earlier() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        extra: "[hls]\nsegment_ms = 1000\nwindow_s = 20\n".into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let name = podium.name();
    let place = dir.path().join("mirror");
    let peer = podium.address("/tcp/");
    let peer = ["--peer", peer.as_str()];
    podium.go_live();
    let window_slides = |from: u64| {
        wait_for("what the window no longer has", || {
            (hls::live(&podium, "video").media_sequence > from).then_some(())
        });
    };
    window_slides(hls::oldest(&podium) + 8);
    let mirror = Mirror::start(&place, &name, &peer);
    serves_what_is_listed(&podium, &mirror);
    same_live(&podium, &mirror);
    let root = filled(&mirror);
    same(&podium, &mirror, &root);
    assert_eq!(told_of_filling(&place), (1, 1));

    // It is away for longer than the window, and comes back to somebody who does not have what it missed: that does not keep it from
    // following.
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let live = hls::live(&podium, "video");
    window_slides(live.media_sequence + live.segments.len() as u64);
    let window = dir.path().join("window");
    let window_only = Mirror::start(&window, &name, &[&peer[..], &["--keep", "window"]].concat());
    window_only.wait_for_segment(live.media_sequence + live.segments.len() as u64);
    let (address, id) = tcp(&podium);
    let relay = Relay::to(address);
    relay.cut();
    let through = multiaddress(relay.address(), &id);
    let there = window_only.ready["listen"][0].as_str().unwrap();
    let mirror = Mirror::start(&place, &name, &["--peer", there, "--peer", &through]);
    serves_what_is_listed(&podium, &mirror);
    wait_for("a step that gives way to what is newer", || {
        let log = std::fs::read_to_string(place.join("mirror.log")).unwrap();
        log.contains("there is something newer").then_some(())
    });
    serves_what_is_listed(&podium, &mirror);
    // Where the machine is slow, the window has slid on, and left another gap.
    let (begun, done) = told_of_filling(&place);
    assert!(begun >= 2 && done == 1, "{begun} {done}");
    relay.mend(address);
    let root = filled(&mirror);
    same(&podium, &mirror, &root);
    assert_eq!(told_of_filling(&place).1, 2);
    drop(mirror);

    // One that has kept the window only has an earlier broadcast, but not all of it.
    podium.stop();
    let earlier = caught_up(&podium, &window_only);
    window_only.signal(Signal::TERM);
    assert_eq!(window_only.join(), Some(0));
    let place = window;
    podium.go_live();
    let mirror = Mirror::start(&place, &name, &peer);
    serves_what_is_listed(&podium, &mirror);
    wait_for("all of the earlier broadcast", || {
        let vod = mirror.get(&format!("/ipfs/{earlier}/video/vod.m3u8"));
        (vod.status == 200 && mirror.status()["catching_up"].is_null()).then_some(())
    });
    same(&podium, &mirror, &earlier);
}

/// Others fill its disk to the last byte, where nothing that peers give can be written and nobody says so.
#[test]
fn a_mirror_on_a_disk_that_others_have_filled_makes_room_and_follows() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = noise(dir.path()) else {
        return;
    };
    let place = dir.path().join("mirror");
    std::fs::create_dir(&place).unwrap();
    let Some(disk) = Disk::in_memory(&place, "200m") else {
        return;
    };
    let podium = Podium::start(dir.path(), &config);
    let peer = podium.address("/tcp/");
    let mirror = Mirror::start(&place, &podium.name(), &["--peer", &peer]);
    podium.go_live();
    wait_for("more than the mirror has to leave free", || {
        (mirror.status()["stored_bytes"].as_u64()? > 32 << 20).then_some(())
    });
    podium.stop();
    let first = caught_up(&podium, &mirror);
    podium.go_live();
    serves_what_is_listed(&podium, &mirror);
    disk.crowd();
    let last = last_segment(&mirror);
    mirror.wait_for_segment(last + 3);
    let stored = roots(&mirror.operator);
    assert!(stored.len() == 1 && stored[0] != *first, "{stored:?}");
    podium.stop();
    wait_for("the end on the mirror", || {
        (mirror.status()["ended"] == true).then_some(())
    });
    same_live_alone(&mirror);
    end(mirror, &place);
}

#[test]
fn one_broadcast_that_fills_the_store_is_followed_on() {
    follows_on("recordings_mib = 0\n", false);
}

/// What is pinned may take less than the store.
#[test]
fn a_pinned_broadcast_that_fills_its_budget_is_followed_on() {
    follows_on("recordings_mib = 48\n", true);
}

fn follows_on(budget: &str, pinned: bool) {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = noise(dir.path()) else {
        return;
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    let place = dir.path().join("mirror");
    let limit = format!("[store]\nlive_mib = 64\n{budget}");
    let peer = podium.address("/tcp/");
    let mirror = Mirror::start_with(&limit, &place, &podium.name(), &["--peer", &peer]);
    mirror.wait_for_segment(hls::oldest(&podium) + 1);
    if pinned {
        pin(&mirror.operator, &recordings(&mirror.operator)[0]);
    }
    let cut = |from: u64| {
        wait_for("the store to be full", || {
            let kept_from = mirror.status()["kept_from"].as_u64()?;
            (kept_from > from).then_some(kept_from)
        })
    };
    cut(cut(0));
    serves_what_is_listed(&podium, &mirror);
    let status = mirror.status();
    let bytes = |key: &str| status[key].as_u64().unwrap();
    assert!(bytes("stored_bytes") <= bytes("limit_bytes"), "{status}");
    let root = status["root"].as_str().unwrap();
    let event = mirror.get(&format!("/ipfs/{root}/video/event.m3u8"));
    assert_eq!(event.status, 404, "it names what is no longer here");
    podium.stop();
    wait_for("the end on the mirror", || {
        (mirror.status()["ended"] == true).then_some(())
    });
    same_live(&podium, &mirror);
    assert_eq!(mirror.public()["root_is_vod"], false);
    let status = mirror.status();
    let kept_from = status["kept_from"].as_u64().unwrap();
    // Where the store has room left, what has gone has its grace.
    let gone = if pinned { 200 } else { 404 };
    for (number, there) in [(kept_from - 1, gone), (kept_from, 200)] {
        let root = status["root"].as_str().unwrap();
        let path = format!("/ipfs/{root}/video/{:04}/{number}.m4s", number / 256);
        assert_eq!(mirror.get(&path).status, there, "{path}");
    }
    end(mirror, &place);
}

/// A box that publishes what no encoder makes small: two megabytes a second.
fn noise(dir: &Path) -> Option<Config> {
    if !judge::have("ffmpeg") {
        return None;
    }
    const KBPS: u64 = 16_000;
    let file = dir.join("noise.mp4");
    let rate = format!("{KBPS}k");
    let done = Command::new("ffmpeg")
        .args(
            "-v error -nostdin -f lavfi -i color=gray:s=640x360:r=30,noise=alls=100:allf=t"
                .split(' '),
        )
        .args("-f lavfi -i anoisesrc=amplitude=0.1 -t 120".split(' '))
        .args("-c:v libx264 -preset ultrafast -tune zerolatency -g 30 -sc_threshold 0".split(' '))
        .args(["-b:v", &rate, "-maxrate", &rate, "-bufsize", "8M"])
        .args("-c:a aac -b:a 128k -ar 48000 -ac 2 -f mp4".split(' '))
        .arg(&file)
        .status();
    assert!(done.expect("ffmpeg").success());
    Some(Config {
        capture: format!("source = \"encoded\"\nfile = \"{}\"\n", file.display()),
        extra: format!(
            "[video]\nwidth = 640\nheight = 360\nbitrate_kbps = {KBPS}\n[hls]\nsegment_ms = 1000\nwindow_s = 20\n"
        ),
        ..Config::default()
    })
}

#[test]
fn what_the_limit_has_deleted_is_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    let peer = podium.address("/tcp/");
    let place = dir.path().join("mirror");
    // Room for one of them.
    let start = || {
        let limit = "[store]\nrecordings_mib = 1\nlive_mib = 64\n";
        Mirror::start_with(limit, &place, &name, &["--peer", &peer])
    };
    let mirror = start();
    let mut roots = Vec::new();
    for _ in 0..3 {
        podium.go_live();
        podium.wait_for_segments(3);
        podium.stop();
        roots.push(caught_up(&podium, &mirror));
    }
    podium.go_live();
    let follows = |mirror: &Mirror| {
        let live = hls::live(&podium, "video");
        mirror.wait_for_segment(live.media_sequence + live.segments.len() as u64);
    };
    follows(&mirror);
    let is_here = |mirror: &Mirror, root: &String| {
        let mut stored = recordings(&mirror.operator).into_iter();
        stored.any(|it| it["root"] == **root)
    };
    wait_for("the limit", || (!is_here(&mirror, &roots[1])).then_some(()));
    assert!(!is_here(&mirror, &roots[0]));
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let mirror = start();
    // It has looked for what it lacks meanwhile.
    follows(&mirror);
    follows(&mirror);
    let log = std::fs::read_to_string(place.join("mirror.log")).unwrap();
    assert!(!log.contains("catching up"), "{log}");
    assert_eq!(mirror.status()["missing"], Value::Array(Vec::new()));
}

/// Neither fits beside the one on air. (What there is no room for is not known before it is looked at.)
#[test]
fn what_lies_behind_a_broadcast_that_is_left_out_is_looked_at_too() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let mut roots: Vec<String> = Vec::new();
    for _ in 0..2 {
        podium.go_live();
        wait_for("more than the mirror's recordings may take", || {
            let root = podium.status()["node"]["root"].as_str()?.to_owned();
            let new = !roots.contains(&root);
            (new && car(&podium.viewer, &root).len() > 1_800_000).then_some(())
        });
        podium.stop();
        roots.insert(0, podium.cid());
    }
    podium.go_live();
    podium.wait_for_segments(1);
    let limit = "[store]\nrecordings_mib = 1\nlive_mib = 64\n";
    let peer = podium.address("/tcp/");
    let place = dir.path().join("mirror");
    let mirror = Mirror::start_with(limit, &place, &podium.name(), &["--peer", &peer]);
    wait_for("both to be left out, the newer first", || {
        (mirror.status()["missing"] == Value::from(roots.clone())).then_some(())
    });
}

/// The first is pinned, and the limit has deleted the one after it.
#[test]
fn what_is_kept_behind_a_broadcast_that_is_gone_comes_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        extra: "[store]\nrecordings_mib = 2\nlive_mib = 64\n".into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let record = |bytes: usize| {
        podium.go_live();
        wait_for("a recording of this length", || {
            let root = podium.status()["node"]["root"].as_str()?.to_owned();
            (car(&podium.viewer, &root).len() > bytes).then_some(())
        });
        podium.stop();
        podium.cid()
    };
    let first = record(0);
    pin(&podium.operator, &recordings(&podium.operator)[0]);
    // With the player, which counts as the newest's.
    record(3_000_000);
    let third = record(0);
    wait_for("the limit", || {
        (roots(&podium.operator) == [first.as_str(), third.as_str()]).then_some(())
    });
    podium.go_live();
    podium.wait_for_segments(1);
    let described = http::get(&format!(
        "{}{}/broadcast.json",
        podium.viewer,
        podium.root()
    ));
    let described = described.json();
    assert_eq!(described["previous"], *third, "{described}");
    assert_eq!(
        described["earlier"],
        Value::from([first.clone()]),
        "{described}"
    );

    let peer = podium.address("/tcp/");
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &podium.name(),
        &["--peer", &peer],
    );
    wait_for("all that the box has", || {
        let earlier = roots(&mirror.operator).into_iter().take(2);
        earlier.eq([first.as_str(), third.as_str()]).then_some(())
    });
    same(&podium, &mirror, &first);
    same(&podium, &mirror, &third);
    assert_eq!(mirror.status()["missing"], Value::Array(Vec::new()));
}

#[test]
fn what_nobody_had_comes_when_its_box_is_back_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let (address, id) = tcp(&podium);
    let relay = Relay::to(address);
    podium.go_live();
    podium.wait_for_segments(1);
    podium.stop();
    let earlier = podium.cid();
    podium.go_live();
    podium.wait_for_segments(1);
    podium.stop();
    let shards = std::fs::read_dir(dir.path().join("data/ipfs/blockstore")).unwrap();
    let mut blocks = shards.map(|shard| shard.unwrap().path().join(format!("{earlier}.data")));
    let block = blocks.find(|file| file.exists()).expect("the root's file");
    let aside = dir.path().join("aside");
    std::fs::rename(&block, &aside).unwrap();

    let through = multiaddress(relay.address(), &id);
    let place = dir.path().join("mirror");
    let mirror = Mirror::start(&place, &podium.name(), &["--peer", &through]);
    wait_for("the mirror to give up", || {
        (mirror.status()["missing"] == Value::from([earlier.clone()])).then_some(())
    });
    relay.cut();
    settled(&mirror);
    std::fs::rename(&aside, &block).unwrap();
    relay.mend(address);
    wait_for("the mirror to try again", || {
        let answer = mirror.get(&format!("/ipfs/{earlier}/vod.m3u8"));
        (answer.status == 200).then_some(())
    });
    wait_for("the end of catching up", || {
        mirror.status()["catching_up"].is_null().then_some(())
    });
    assert_eq!(mirror.status()["missing"], Value::Array(Vec::new()));
    same(&podium, &mirror, &earlier);
}

#[test]
fn what_is_damaged_is_fetched_again_and_no_older_record_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    let place = dir.path().join("mirror");
    let peer = podium.address("/tcp/");
    let peer = ["--peer", peer.as_str()];
    let mirror = Mirror::start(&place, &name, &peer);
    podium.go_live();
    mirror.wait_for_segment(hls::oldest(&podium) + 1);
    let old = podium.record().unwrap();
    podium.stop();
    let last = caught_up(&podium, &mirror);
    let newest = mirror.status()["sequence"].clone();
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));

    let shards = std::fs::read_dir(place.join("data/ipfs/blockstore")).unwrap();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
    let largest = files.max_by_key(|file| file.as_ref().unwrap().metadata().unwrap().len());
    std::fs::remove_file(largest.unwrap().unwrap().path()).unwrap();
    let data = place.join("data");
    let fsck = tests::podium(&["fsck", "--data-dir", data.to_str().unwrap()]);
    assert_eq!(fsck.code, Some(1), "{}{}", fsck.stdout, fsck.stderr);

    let impostor = impostor();
    impostor.says(&old);
    let alone = ["--no-pubsub", "--peer", &impostor.address];
    let mirror = Mirror::start(&place, &name, &alone);
    impostor.was_heard();
    assert_eq!(mirror.status()["sequence"], newest);
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let mirror = Mirror::start(&place, &name, &peer);
    caught_up(&podium, &mirror);
    same(&podium, &mirror, &last);

    // A bit of a playlist flips, and nobody looks before the next start.
    let list = mirror.get(&format!("/ipfs/{last}/video/live.m3u8"));
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let shards = std::fs::read_dir(place.join("data/ipfs/blockstore")).unwrap();
    let mut files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap());
    let file = files.find_map(|file| {
        let file = file.unwrap().path();
        (std::fs::read(&file).unwrap() == list.body).then_some(file)
    });
    let mut torn = list.body.clone();
    torn[0] ^= 1;
    std::fs::write(file.expect("the list's block"), torn).unwrap();
    let mirror = Mirror::start(&place, &name, &peer);
    let path = format!("/ipns/{name}/video/live.m3u8");
    wait_for("the playlist", || {
        (mirror.get(&path).body == list.body).then_some(())
    });
    same_live_alone(&mirror);
    caught_up(&podium, &mirror);
    same(&podium, &mirror, &last);
    end(mirror, &place);
}

#[test]
fn nothing_is_lost_while_box_or_mirror_are_away() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    let (address, id) = tcp(&podium);
    let relay = Relay::to(address);
    let place = dir.path().join("mirror");
    let through = multiaddress(relay.address(), &id);
    let peer = ["--peer", through.as_str()];
    let mirror = Mirror::start(&place, &name, &peer);
    podium.go_live();
    mirror.wait_for_segment(hls::oldest(&podium) + 1);

    let kept = last_segment(&mirror);
    // The mirror is killed, and what it had it has when it comes back to a box that cannot be reached.
    mirror.signal(Signal::KILL);
    mirror.join();
    relay.cut();
    let mirror = Mirror::start(&place, &name, &peer);
    assert!(last_segment(&mirror) >= kept);
    let had = mirror.status()["root"].as_str().unwrap().to_owned();
    same(&podium, &mirror, &had);
    relay.mend(address);
    serves_what_is_listed(&podium, &mirror);

    // It is away while one broadcast ends, another comes and goes, and a third begins.
    mirror.signal(Signal::TERM);
    assert_eq!(mirror.join(), Some(0));
    let mut roots = Vec::new();
    for _ in 0..2 {
        podium.wait_for_segments(3);
        podium.stop();
        roots.push(podium.cid());
        podium.go_live();
    }
    let mirror = Mirror::start(&place, &name, &peer);
    serves_what_is_listed(&podium, &mirror);
    for root in &roots {
        wait_for("an earlier broadcast on the mirror", || {
            let path = format!("/ipfs/{root}/vod.m3u8");
            (mirror.get(&path).status == 200).then_some(())
        });
        wait_for("the end of catching up", || {
            mirror.status()["catching_up"].is_null().then_some(())
        });
        same(&podium, &mirror, root);
    }
    assert_eq!(mirror.status()["missing"], Value::Array(Vec::new()));

    // The box loses its power in the middle of a broadcast, and comes back with it.
    podium.signal(Signal::KILL);
    podium.join();
    mirror.wait_for_gone(true);
    let public = mirror.public();
    assert_eq!(
        (&public["live"], &public["state"]),
        (&true.into(), &"retrying".into())
    );
    same_live_alone(&mirror);
    let podium = Podium::start(dir.path(), &Config::default());
    relay.mend(tcp(&podium).0);
    podium.wait_for_state("live");
    mirror.wait_for_gone(false);
    podium.stop();
    let last = caught_up(&podium, &mirror);
    same(&podium, &mirror, &last);
}

/// A machine that is gone refuses no connection: it only says nothing.
#[test]
fn the_status_page_says_that_its_numbers_are_old_when_nobody_answers() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    let mirror = Mirror::start(dir.path(), name, &[]);
    let mut page = judge::Session::start("silent.mjs", &[&mirror.operator]);
    assert_eq!(page.next()["silent"], false);
    mirror.signal(Signal::STOP);
    page.go_on();
    assert_eq!(page.next()["silent"], true);
    mirror.signal(Signal::CONT);
    page.go_on();
    let again = page.next();
    assert_eq!(again["silent"], false, "{again}");
    assert_eq!(again["page_errors"], serde_json::json!([]), "{again}");
}

/// What viewers see is not shown to them again, however long the box is away.
#[test]
fn pages_hold_the_last_picture_while_the_box_is_away_and_go_on_by_themselves() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let (address, peer) = tcp(&podium);
    let relay = Relay::to(address);
    let through = multiaddress(relay.address(), &peer);
    podium.go_live();
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &podium.name(),
        &["--peer", &through],
    );
    // There is something before what a page begins with.
    mirror.wait_for_segment(hls::oldest(&podium) + 8);
    let screenshot = tests::artifact("away.png").display().to_string();
    let mut pages = judge::Session::start("away.mjs", &[&mirror.viewer, &screenshot]);
    pages.next();

    podium.signal(Signal::KILL);
    podium.join();
    mirror.wait_for_gone(true);
    pages.go_on();
    let ms = |value: &Value| value.as_f64().unwrap();
    let holds = |page: &Value| {
        // A picture, and no more of it.
        assert_eq!(page["ready"], 2, "{page}");
        assert_eq!(page["state"], "away", "{page}");
        let text = page["text"].as_str().unwrap();
        assert!(text.contains("The box is away."), "{page}");
        assert_eq!(page["page_errors"], serde_json::json!([]), "{page}");
    };
    let held = pages.next();
    let last = ms(&held["before"]["last"]);
    for page in [&held["before"], &held["after"]] {
        assert!(ms(&page["back"]) < 300.0, "{page}");
        holds(page);
        assert!((ms(&page["last"]) - last).abs() < 300.0, "{page}");
        assert_eq!(page["start"], true, "{page}");
        // The number is that of the last picture.
        let behind = (ms(&page["clock"]) - ms(&page["now"])) / 1e3;
        assert!((ms(&page["latency"]) - behind).abs() < 2.0, "{page}");
    }
    pages.go_on();
    let ipfs = pages.next();
    assert!(ms(&ipfs["back"]) < 300.0, "{ipfs}");
    holds(&ipfs);
    pages.go_on();
    let end = pages.next();
    holds(&end);
    assert!(ms(&end["begun"]) < ms(&held["after"]["first"]), "{end}");
    assert!((ms(&end["last"]) - last).abs() < 300.0, "{end}");

    let podium = Podium::start(dir.path(), &Config::default());
    relay.mend(tcp(&podium).0);
    podium.wait_for_state("live");
    mirror.wait_for_gone(false);
    pages.go_on();
    let on = pages.next();
    assert!(ms(&on["before"]["back"]) < 300.0, "{on}");
    for page in ["before", "after"] {
        assert!(ms(&on[page]["last"]) > last, "{on}");
        assert_eq!(on[page]["state"], "live", "{on}");
    }
}

/// Everything that the mirror's playlists name is there.
fn same_live_alone(mirror: &Mirror) {
    let playlist = hls::media_playlist(&mirror.get("/live/video.m3u8").body);
    assert!(!playlist.segments.is_empty());
    for segment in &playlist.segments {
        let path = format!("/live/{}", segment.uri);
        assert_eq!(mirror.get(&path).status, 200, "{path}");
    }
}

#[test]
fn a_link_that_breaks_again_and_again_costs_nothing_but_time() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let (address, id) = tcp(&podium);
    let relay = Relay::to(address);
    // Less than the player's page, which is one block: no connection by the relay is enough.
    relay.breaks_after(Some(500 << 10));
    let through = multiaddress(relay.address(), &id);
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &podium.name(),
        &["--peer", through.as_str()],
    );
    podium.go_live();
    podium.wait_for_segments(5);
    // Afterwards the two know each other's addresses, and may leave the relay aside.
    wait_for("the link to have broken in the middle", || {
        (relay.broken() > 0).then_some(())
    });
    relay.cut();
    podium.wait_for_segments(8);
    relay.mend(address);
    mirror.wait_for_segment(hls::oldest(&podium) + 1);
    podium.wait_for_segments(12);
    podium.stop();
    relay.breaks_after(None);
    let last = caught_up(&podium, &mirror);
    same(&podium, &mirror, &last);
}

/// Answers every request for a name's record with the same bytes, or that it has none.
struct Impostor {
    address: String,
    says: Arc<Mutex<Vec<u8>>>,
    /// How often it was asked for the record.
    asked: Arc<AtomicUsize>,
}

impl Impostor {
    fn says(&self, record: &[u8]) {
        *self.says.lock().unwrap() = record.to_vec();
    }

    /// Waits until what it says was told: the next question comes after the answer to the one before was looked at.
    fn was_heard(&self) {
        let before = self.asked.load(Ordering::Relaxed);
        wait_for("questions to the impostor", || {
            (self.asked.load(Ordering::Relaxed) >= before + 2).then_some(())
        });
    }
}

fn impostor() -> Impostor {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let impostor = Impostor {
        address: format!("http://{}", listener.local_addr().unwrap()),
        says: Arc::default(),
        asked: Arc::default(),
    };
    let (shared, asked) = (impostor.says.clone(), impostor.asked.clone());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            if String::from_utf8_lossy(&request[..read]).contains("/routing/v1/ipns/") {
                asked.fetch_add(1, Ordering::Relaxed);
            }
            let body = shared.lock().unwrap().clone();
            let status = if body.is_empty() {
                "404 Not Found"
            } else {
                "200 OK"
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/vnd.ipfs.ipns-record\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    impostor
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_is_old_forged_or_goes_back_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    podium.go_live();
    let old = podium.record().unwrap();
    let impostor = impostor();
    impostor.says(&old);
    let (address, id) = tcp(&podium);
    let relay = Relay::to(address);
    let through = multiaddress(relay.address(), &id);
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &name,
        &["--peer", &through, "--peer", &impostor.address],
    );
    mirror.wait_for_segment(hls::oldest(&podium) + 2);
    podium.signal(Signal::KILL);
    podium.join();
    let refused = |what: &str, why: &str| {
        wait_for(&format!("a refusal: {why}"), || {
            let refusal = mirror.status()[what].as_str()?.to_owned();
            refusal.contains(why).then_some(())
        });
    };
    settled(&mirror);
    let served = mirror.status()["root"].clone();
    // Nobody tells any more, so the impostor is asked. Mirrors that are behind say such records, too.
    impostor.was_heard();
    assert_eq!(mirror.status()["root"], served);
    assert_eq!(mirror.status()["refused_records"], 0);
    let mut forged = old.clone();
    let middle = forged.len() / 2;
    forged[middle] ^= 1;
    impostor.says(&forged);
    refused("record_refusal", "it is not a record of this name");
    assert_eq!(mirror.status()["refused"], 0);
    impostor.says(&[]);
    assert_eq!(mirror.status()["root"], served);

    // The box's card is restored from a copy: its records are genuine and newer, and what they name goes back.
    let data = dir.path().join("data");
    let saved = dir.path().join("saved");
    copy(&data, &saved);
    let last = last_segment(&mirror);
    let podium = Podium::start(dir.path(), &Config::default());
    relay.mend(tcp(&podium).0);
    mirror.wait_for_segment(last + 3);
    podium.signal(Signal::KILL);
    podium.join();
    settled(&mirror);
    let served = last_segment(&mirror);
    std::fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    let podium = Podium::start(dir.path(), &Config::default());
    relay.mend(tcp(&podium).0);
    // At first its last segment is an older one. Further on its numbers come again, and other segments behind them.
    refused("refusal", "was published with other bytes");
    assert_eq!(last_segment(&mirror), served);
    same_live_alone(&mirror);
    // Another broadcast is followed again.
    podium.stop();
    podium.go_live();
    podium.stop();
    let root = caught_up(&podium, &mirror);
    same(&podium, &mirror, &root);
}

/// The lines of the README between these two.
fn recipe(begin: &str, end: &str) -> String {
    let readme = std::fs::read_to_string(tests::root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once(begin).expect("the README has the recipe");
    rest.split_once(end).expect("and its end").0.to_owned()
}

/// Blocks that Kubo reads for a pin beside those that are new: 30, twice.
const FOR_EACH_PIN: u64 = 60;

#[test]
fn kubo_mirrors_by_the_recipe_of_the_readme() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    // Many segments in little time.
    let config = Config {
        extra: "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 200\n[hls]\nsegment_ms = 1000\npart_ms = 250\n"
            .into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let name = podium.name();
    kubo.shell(&recipe("```sh\n# A Kubo that listens\n", "```"), &[]);
    kubo.count_blocks();
    kubo.start();
    let log = dir.path().join("log");
    let variables = [
        ("NAME", name.as_str()),
        ("BOX", &podium.address("/tcp/")),
        ("LOG", kubo::text(&log)),
    ];
    let script = recipe("```sh\n# follows and pins\n", "```");
    let pins = || {
        let pins = kubo.line(&["pin", "ls", "--type=recursive", "--quiet"]);
        pins.lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    // A new repository may have some of its own.
    let before = pins();
    let follows = kubo.spawn_shell(&format!("exec >\"$LOG\"\n{script}"), &variables);
    let mut finished = before.clone();
    let blocks = |root: &str| dag::read_car(&car(&podium.viewer, root)).unwrap().len() as u64;
    let mut published = 0;
    for (broadcast, segments) in [("the first", 30), ("the second", 3), ("the third", 3)] {
        podium.go_live();
        podium.wait_for_segments(segments);
        podium.stop();
        let root = podium.cid();
        finished.insert(root.clone());
        // All finished broadcasts whole, and no root that was replaced by a later one.
        wait_for(&format!("the pin of {broadcast}, and no other"), || {
            (pins() == finished).then_some(())
        });
        // Every block is read once as it comes, and for each pin what changed with it: directories and playlists, not the broadcast.
        let log = std::fs::read_to_string(&log).unwrap();
        let pins = log
            .lines()
            .filter(|it| it.starts_with("pinned ") || it.starts_with("updated "));
        let pins = pins.count() as u64;
        published += blocks(&root);
        let read = kubo.blocks_read();
        let most = published + FOR_EACH_PIN * pins;
        assert!(
            pins > 0 && read <= most,
            "{read} blocks read of {published} for {pins} pins"
        );
        if broadcast == "the second" {
            // Who no longer wants it lifts its pin, and the next is followed all the same.
            kubo.run(&["pin", "rm", &root]);
            finished.remove(&root);
        }
    }
    drop(follows);
    let theirs: Vec<_> = finished.difference(&before).collect();
    let there: Vec<_> = (theirs.iter().map(|root| car(&podium.viewer, root))).collect();
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    for (root, there) in theirs.into_iter().zip(there) {
        assert!(car(&kubo.gateway(), root) == there, "{root}");
    }
    let named = http::get(&format!("{}/ipns/{name}/video/vod.m3u8", kubo.gateway()));
    assert!(hls::media_playlist(&named.body).end_list);
}

/// Nobody tells the mirror of the record, and nobody answers it over HTTP: the box puts it into the DHT of a third node, and there
/// the mirror asks once a minute.
#[test]
fn it_follows_by_the_dht_alone() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let place = dir.path().join(name);
        std::fs::create_dir(&place).unwrap();
        place
    };
    let server = Config {
        extra: "dht = \"server\"\n".into(),
        ..Config::default()
    };
    let server = Podium::start(&place("server"), &server);
    let config = Config {
        extra: format!("peers = [\"{}\"]\n", server.address("/tcp/")),
        ..Config::default()
    };
    let podium = Podium::start(&place("box"), &config);
    podium.go_live();
    let mut told = u64::MAX;
    let mut told_again = || {
        let record = podium.status()["outside"]["record"].clone();
        let before = std::mem::replace(&mut told, record["dht_ms"].as_u64()?);
        (told < before && record["dht_taken"] == true).then_some(())
    };
    wait_for("the record in the DHT", &mut told_again);
    let peers = [podium.address("/tcp/"), server.address("/tcp/")];
    let arguments = ["--no-pubsub", "--peer", &peers[0], "--peer", &peers[1]];
    let mirror = Mirror::start(&dir.path().join("mirror"), &podium.name(), &arguments);
    let shown = || mirror.status()["root"].as_str().map(str::to_owned);
    let first = wait_for("what the DHT names", shown);
    same(&podium, &mirror, &first);
    wait_for("a newer one there", &mut told_again);
    wait_for("what that names", || shown().filter(|root| *root != first));
    let status = mirror.status();
    assert_eq!(status["heard"]["source"], "dht", "{status}");
    same_live(&podium, &mirror);
}

#[test]
fn a_private_swarm_is_followed_by_who_has_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let private = private_swarm(dir.path(), "5c");
    let config = Config {
        extra: private.clone(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    podium.wait_for_segments(1);
    let (address, peer) = tcp(&podium);
    let follow = |name: &str, toml: &str| {
        let relay = Relay::to(address);
        let at = multiaddress(relay.address(), &peer);
        let place = dir.path().join(name);
        let mirror = Mirror::start_with(toml, &place, &podium.name(), &["--peer", &at]);
        (mirror, relay)
    };
    let (stranger, door) = follow("stranger", "");
    let (member, _relay) = follow("member", &private);
    serves_what_is_listed(&podium, &member);
    // A try is over before the next one begins.
    wait_for("the stranger to have been turned away", || {
        (door.connections() > 1).then_some(())
    });
    assert_eq!(stranger.status()["peers"], 0);
    assert!(stranger.status()["root"].is_null());
    assert_eq!(podium.status()["node"]["peers"], 1);
}

/// As out of their cartons: nobody tells either where the other is.
#[test]
fn neighbours_need_no_address() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let multicast = socket.connect("224.0.0.251:5353").is_ok();
    if !tests::needs(multicast, "there is no interface for multicast") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let everywhere = Ipv4Addr::UNSPECIFIED;
    let config = Config {
        mdns: true,
        address: Some(everywhere),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    let place = dir.path().join("mirror");
    let mirror = Mirror::spawn(everywhere, "mdns = true\n", &place, &podium.name(), &[]);
    mirror.wait_for_segment(hls::oldest(&podium) + 1);
    serves_what_is_listed(&podium, &mirror);
}
