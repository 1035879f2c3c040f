//! The box goes live, and parties that nobody here wrote say what they think of it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tests::dag::Dag;
use tests::hls::{AAC_FRAME, FRAME};
use tests::{Config, Podium, artifact, hls, http, judge, root, wait_for};

fn recording() -> Config {
    Config::file(&root().join("tests/media/talk.mp4"))
}

/// Two encoders, small enough for a machine that runs tests.
fn ladder() -> Config {
    Config {
        extra: format!("{LADDER}[video.low]\nwidth = 320\nheight = 180\nbitrate_kbps = 200\n"),
        ..Config::default()
    }
}

const LADDER: &str = "[video]\nwidth = 640\nheight = 360\nbitrate_kbps = 800\n";

/// Every segment that the box's playlists name now.
fn check_renditions(podium: &Podium) {
    for (rendition, frame) in [("video", FRAME), ("audio", AAC_FRAME)] {
        let url = format!("{}/live/{rendition}.m3u8", podium.viewer);
        hls::check_segments(&url, &hls::live(podium, rendition), frame);
    }
}

fn save_picture(podium: &Podium, name: &str) {
    let picture = http::get(&format!("{}/api/v1/panel.png", podium.operator));
    assert_eq!(picture.header("content-type"), Some("image/png"));
    std::fs::write(artifact(name), picture.body).unwrap();
}

#[test]
fn the_test_picture_is_cut_as_the_playlist_says() {
    if !judge::have("ffprobe") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::large());
    assert_eq!(podium.state(), "idle");
    assert_eq!(
        podium.live("index.m3u8").status,
        404,
        "nothing is published while idle"
    );
    wait_for("the preview's format", || {
        let status = podium.status();
        (status["input"]["format"]["height"] == 720 && status["input"]["signal"] == "ok")
            .then_some(())
    });
    wait_for("the beep on the preview's meters", || {
        let peak = &podium.status()["audio"]["peak_dbfs"];
        (peak[0].as_f64()? > -20.0 && peak[1].as_f64()? > -20.0).then_some(())
    });
    save_picture(&podium, "panel-idle.png");

    podium.go_live();
    podium.wait_for_segments(6);
    save_picture(&podium, "panel-live.png");
    check_renditions(&podium);
    let index = podium.live("index.m3u8").text();
    let (_, index) = m3u8_rs::parse_master_playlist(index.as_bytes()).unwrap();
    let video = &index.variants[0];
    assert_eq!(
        video.resolution.map(|size| (size.width, size.height)),
        Some((1280, 720))
    );
    let codecs = video.codecs.as_deref().unwrap();
    assert!(
        codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2"),
        "{codecs}"
    );
    for segment in hls::live(&podium, "video").segments {
        let time = segment.program_date_time.is_some();
        assert!(time, "a live segment says when it was");
    }

    // Brushing against the button does not end a broadcast; holding it does.
    podium.tap("go_live");
    podium.wait_for_segments(8);
    assert_eq!(podium.state(), "live");
    podium.hold_until_it_works("go_live");
    podium.wait_for_state("idle");
    let ended = hls::live(&podium, "video");
    assert!(ended.end_list, "the playlist has an end");
    check_renditions(&podium);

    assert_eq!(podium.status()["node"]["root_is_vod"], true);
    let (vod, whole) = podium.vod("video");
    assert_eq!(
        whole.segments.len() as u64,
        podium.status()["segments"].as_u64().unwrap()
    );
    assert!(whole.end_list);
    hls::check_segments(&vod, &whole, FRAME);
}

#[test]
fn the_oracle_finds_no_rule_broken() {
    oracle_finds_nothing(&Config::default());
}

#[test]
fn the_oracle_finds_no_rule_broken_with_two_videos() {
    oracle_finds_nothing(&ladder());
}

fn oracle_finds_nothing(config: &Config) {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), config);
    podium.go_live();
    let url = format!("{}/live/index.m3u8", podium.viewer);
    let report = judge::oracle(&url, std::time::Duration::from_secs(20));
    assert_eq!(report.violations, [], "{report}");
}

/// What ffprobe finds in a multivariant playlist: codec, and size, of every stream in order.
fn streams(url: &str) -> Vec<String> {
    let arguments = [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,width,height",
    ];
    let (told, complaints) = judge::run(
        "ffprobe",
        &[&arguments[..], &["-of", "json", url]].concat(),
        &[],
    );
    assert_eq!(complaints, "");
    let told: Value = serde_json::from_str(&told).unwrap();
    let streams = told["streams"].as_array().unwrap().iter();
    let mut streams: Vec<_> = streams
        .map(|it| match it["width"].as_u64() {
            Some(width) => format!(
                "{} {width}x{}",
                it["codec_name"].as_str().unwrap(),
                it["height"]
            ),
            None => it["codec_name"].as_str().unwrap().to_owned(),
        })
        .collect();
    // ffprobe lists the shared sound once for each variant.
    streams.dedup();
    streams
}

#[test]
fn two_videos_are_two_variants_live_and_in_ipfs() {
    if !judge::have("ffprobe") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &ladder());
    podium.go_live();
    podium.wait_for_segments(4);
    assert_eq!(podium.status()["videos"][1]["height"], 180);
    let sizes = |url: &str| -> Vec<String> {
        let mut videos = streams(url);
        videos.retain(|it| it.starts_with("h264"));
        videos
    };
    let expected = ["h264 640x360", "h264 320x180"];
    let index = format!("{}/live/index.m3u8", podium.viewer);
    assert_eq!(sizes(&index), expected);
    judge::decode(&index, Some(4)).check(4.0);
    let (video, low) = (hls::live(&podium, "video"), hls::live(&podium, "low"));
    hls::check_segments(&format!("{}/live/low.m3u8", podium.viewer), &low, FRAME);
    let aligned = video.segments.iter().zip(&low.segments);
    for (video, low) in aligned.clone() {
        assert_eq!(video.duration, low.duration);
        assert_eq!(video.program_date_time, low.program_date_time);
    }
    assert!(aligned.count() >= 4);
    podium.stop();
    let root = podium.root();
    let at = |path: &str| format!("{}{root}/{path}", podium.viewer);
    assert_eq!(sizes(&at("vod.m3u8")), expected);
    assert_eq!(sizes(&at("index.m3u8")), expected);
    let ((_, video), (url, low)) = (podium.vod("video"), podium.vod("low"));
    judge::decode(&url, None).check(hls::seconds(&low));
    assert_eq!(video.segments.len(), low.segments.len());
    hls::check_segments(&url, &low, FRAME);
}

#[test]
fn a_broadcast_that_was_cut_off_with_two_videos_is_closed_by_a_box_with_one() {
    if !judge::have("ffprobe") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &ladder());
    podium.go_live();
    podium.wait_for_segments(3);
    drop(podium);
    let single = Config {
        extra: LADDER.into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &single);
    assert_eq!(
        podium.state(),
        "idle",
        "another ladder is another broadcast"
    );
    assert_eq!(podium.status()["node"]["root_is_vod"], true);
    let streams = streams(&format!("{}{}/vod.m3u8", podium.viewer, podium.root()));
    for expected in ["h264 640x360", "h264 320x180"] {
        assert!(streams.iter().any(|it| it == expected), "{streams:?}");
    }
    // The next one is as configured.
    podium.go_live();
    assert_eq!(podium.live("low.m3u8").status, 404);
    assert_eq!(podium.live("video.m3u8").status, 200);
}

#[test]
fn chromium_changes_between_two_videos_without_a_stall() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &ladder());
    podium.go_live();
    podium.wait_for_segments(6);
    let seen = judge::node("levels.mjs", &[&podium.viewer, "4"]);
    let heights = |list: &Value| -> Vec<u64> {
        let heights = list.as_array().unwrap().iter();
        heights.map(|it| it["height"].as_u64().unwrap()).collect()
    };
    assert_eq!(heights(&seen["levels"]), [180, 360], "{seen}");
    assert_eq!(heights(&seen["changes"]), [180, 360, 360, 180], "{seen}");
    assert_eq!(seen["stalls"], 0, "{seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
    assert_eq!(seen["sound"]["picture_requests"], 0, "{seen}");
    assert_eq!(seen["foreign"], json!([]));
}

/// A judge that finds nothing in anything would be no judge.
#[test]
fn media_doctor_finds_what_is_wrong() {
    let _turn = crate::turn();
    let found = judge::doctor_playlist("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:9.0,\na.m4s\n");
    assert!(
        found
            .iter()
            .any(|it| it.starts_with("hls-extinf-exceeds-target")),
        "{found:?}"
    );
    let dir = root().join("tests/fuzz/media");
    let [mut init, segment] =
        ["init.mp4", "segment.m4s"].map(|name| std::fs::read(dir.join(name)).unwrap());
    assert_eq!(judge::doctor_media(&init, &segment), Vec::<String>::new());
    let avcc = init.windows(4).position(|it| it == b"avcC").unwrap();
    init[avcc + 7] = 0x33;
    assert_ne!(judge::doctor_media(&init, &segment), Vec::<String>::new());
}

/// hlsdemux2, mp4box.js and media-doctor: a player, a parser of boxes and a lint, by three parties.
#[test]
fn players_parsers_and_lints_find_nothing() {
    let _turn = crate::turn();
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    podium.wait_for_segments(6);
    let url = |name: &str| format!("{}/live/{name}", podium.viewer);
    let mut verdicts = Vec::new();

    if judge::have("gst-launch-1.0") {
        let played = judge::play(&url("index.m3u8"), 150);
        assert!(played.hlsdemux2, "another demuxer played it: {played:?}");
        assert_eq!(played.complaints, Vec::<String>::new());
        assert_eq!(
            (played.pictures.len(), played.sound.len()),
            (150, 225),
            "{played:?}"
        );
        for pair in played.pictures.windows(2) {
            assert!(
                pair[1] > pair[0],
                "pictures go back: {pair:?} of {:?}",
                played.pictures
            );
            assert!(pair[1] - pair[0] < hls::HOLE, "a hole: {pair:?}");
        }
        // The first is cut to where playing begins.
        for pair in played.sound.windows(2).skip(1) {
            let off = pair[1] - pair[0] - AAC_FRAME;
            assert!(off.abs() < 0.001, "{off} s between {pair:?}");
        }
        let (pictures, sound) = (played.pictures.len(), played.sound.len());
        verdicts.push(format!(
            "hlsdemux2: {pictures} pictures, {sound} frames of sound, no hole"
        ));
    }

    if judge::have_packages() {
        for rendition in ["video", "audio"] {
            let read = judge::node("mp4box.mjs", &[&url(&format!("{rendition}.m3u8"))]);
            assert_eq!(read["findings"], json!([]), "{read}");
            let segments = read["segments"].as_array().unwrap();
            assert!(segments.len() >= 6, "{read}");
            for segment in segments {
                let boxes = segment["boxes"].as_array().unwrap();
                let whole = boxes
                    .chunks(2)
                    .all(|it| it == [json!("moof"), json!("mdat")]);
                assert!(whole, "{segment}");
            }
            let samples: u64 = segments
                .iter()
                .filter_map(|it| it["samples"].as_u64())
                .sum();
            let count = segments.len();
            verdicts.push(format!(
                "mp4box.js: {rendition}, {count} segments, {samples} samples, no gap"
            ));
        }
    }

    for name in ["index.m3u8", "video.m3u8", "audio.m3u8"] {
        let found = judge::doctor_playlist(&podium.live(name).text());
        assert_eq!(found, Vec::<String>::new(), "{name}");
        verdicts.push(format!("media-doctor: {name}, no finding"));
    }
    for rendition in ["video", "audio"] {
        let list = hls::live(&podium, rendition);
        let segment = list.segments.last().unwrap();
        let init = list.segments.iter().find_map(|it| it.map.as_ref()).unwrap();
        let [init, media] = [&init.uri, &segment.uri].map(|uri| podium.live(uri).body);
        assert_eq!(
            judge::doctor_media(&init, &media),
            Vec::<String>::new(),
            "{}",
            segment.uri
        );
        verdicts.push(format!("media-doctor: {}, no finding", segment.uri));
    }
    #[expect(clippy::print_stdout, reason = "the judges' verdicts are kept")]
    {
        println!("{}", verdicts.join("\n"));
    }
}

#[test]
fn ffmpeg_decodes_a_recording_that_goes_live_without_a_warning() {
    let _turn = crate::turn();
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    podium.wait_for_segments(3);
    let url = format!("{}/live/index.m3u8", podium.viewer);
    judge::decode(&url, Some(20)).check(20.0);
    check_renditions(&podium);
    podium.stop();
    let whole = format!("{}{}/vod.m3u8", podium.viewer, podium.root());
    let (_, video) = podium.vod("video");
    judge::decode(&whole, None).check(hls::seconds(&video));
}

#[test]
fn chromium_shows_and_plays_it_from_this_box_alone() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    let screenshot = artifact("watch.png").display().to_string();
    let seen = judge::node("watch.mjs", &[&podium.viewer, &screenshot, "8"]);
    assert_eq!(seen["played"], true, "{seen}");
    assert_eq!(seen["video"]["width"], 1280, "{seen}");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    assert!(
        number(&seen["video"]["frames"]) > 25.0,
        "frames are decoded: {seen}"
    );
    assert!(
        number(&seen["picture"]["luma_mean"]) > 20.0,
        "the picture is not black: {seen}"
    );
    assert!(
        number(&seen["picture"]["luma_variance"]) > 50.0,
        "it shows something: {seen}"
    );
    assert!(number(&seen["picture"]["moved"]) > 0.5, "it moves: {seen}");
    for side in ["left", "right"] {
        assert!(
            number(&seen["sound"][side]["peak"]) > -40.0,
            "the sound is heard: {seen}"
        );
    }
    assert_eq!(seen["foreign"], json!([]), "no request to another host");
    assert_eq!(seen["console_errors"], json!([]));
    assert_eq!(seen["page_errors"], json!([]));
    let text = seen["text"].as_str().unwrap();
    assert!(text.contains("Plays in your browser"), "{text}");

    let screenshot = artifact("operator.png").display().to_string();
    let page = judge::node(
        "page.mjs",
        &[
            &podium.operator,
            &screenshot,
            "1280",
            "1000",
            "--until",
            "#bitrate-chart canvas",
        ],
    );
    assert_eq!(page["foreign"], json!([]));
    assert_eq!(page["console_errors"], json!([]));
    assert_eq!(page["overflows"], false);

    // The page's own button, held as a finger holds it, ends the broadcast.
    let page = judge::node(
        "page.mjs",
        &[
            &podium.operator,
            &screenshot.replace("operator", "operator-stopped"),
            "--hold",
            "#go-live",
            "2000",
        ],
    );
    assert_eq!(page["actions"][0]["done"], true, "{page}");
    podium.wait_for_state("idle");
}

/// The long form is `make bench-latency`. Here nothing depends on how fast the machine is.
#[test]
fn chromium_follows_the_parts_and_the_picture_says_how_late_it_is() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let seen = judge::node("latency.mjs", &[&podium.viewer, "5"]);
    assert_eq!(seen["why"], Value::Null, "{seen}");
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    for what in ["awaited", "deltas", "parts"] {
        assert!(count(&seen["asked"][what]) > 5, "{what}: {seen}");
    }
    assert!(count(&seen["samples"]) > 5, "the time is read: {seen}");
    assert!(
        count(&seen["samples"]) > 9 * count(&seen["unreadable"]),
        "{seen}"
    );
    // PART-HOLD-BACK, not three target durations.
    let target = seen["target"].as_f64().unwrap();
    assert!(
        target < 1.1 || count(&seen["stalls"]["waiting"]) > 0,
        "{seen}"
    );
    // What the page says is what the picture says, within a second.
    let told = seen["told"].as_f64().expect("the page tells its delay");
    let newest = seen["last"].as_f64().unwrap() / 1000.0;
    assert!((told - newest).abs() < 1.0, "{told} s, {newest} s: {seen}");
    assert_eq!(seen["errors"], json!([]), "{seen}");
}

#[test]
fn the_playlist_with_parts_is_as_good_for_a_plain_player_and_ipfs_has_none() {
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    podium.wait_for_segments(3);
    let url = format!("{}/live/index.m3u8", podium.viewer);
    for rendition in ["video", "audio"] {
        let text = podium.live(&format!("{rendition}.m3u8")).text();
        for tag in [
            "EXT-X-PART-INF",
            "EXT-X-PART:",
            "CAN-BLOCK-RELOAD=YES",
            "EXT-X-RENDITION-REPORT",
        ] {
            assert!(text.contains(tag), "{text}");
        }
        // The origin knows how to wait; a gateway of strangers does not.
        let root = podium.root();
        let copy = http::get(&format!("{}{root}/{rendition}/live.m3u8", podium.viewer));
        let copy = copy.text();
        assert!(copy.contains("#EXTINF"), "{copy}");
        for tag in [
            "PART",
            "SERVER-CONTROL",
            "PRELOAD-HINT",
            "RENDITION-REPORT",
            "SKIP",
        ] {
            assert!(!copy.contains(&format!("#EXT-X-{tag}")), "{copy}");
        }
    }
    judge::decode(&url, Some(10)).check(10.0);

    // Asked for what comes next, the box answers with it.
    let video = hls::live(&podium, "video");
    let next = video.media_sequence + video.segments.len() as u64;
    let url = format!("{}/live/video.m3u8?_HLS_msn={next}", podium.viewer);
    let answer = http::get(&url);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("cache-control"), Some("public, max-age=12"));
    let text = answer.text();
    assert!(text.contains(&format!("video/{next}.m4s")), "{text}");
    // A part is the bytes that its segment has in its place.
    let parts: Vec<_> = text
        .lines()
        .filter(|line| line.contains(&format!("-{next}-")))
        .collect();
    let joined: Vec<u8> = (parts.iter())
        .filter_map(|line| line.split('"').nth(1))
        .flat_map(|uri| podium.live(uri).body)
        .collect();
    assert_eq!(joined, podium.live(&format!("video/{next}.m4s")).body);
    assert_eq!(podium.live("video.m3u8?_HLS_part=0").status, 400);
}

#[test]
fn chromium_plays_it_out_of_ipfs() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    podium.wait_for_segments(4);
    podium.stop();
    // The page offers the recording, which comes from under the broadcast's root.
    let screenshot = artifact("recording.png").display().to_string();
    let page = judge::node(
        "page.mjs",
        &[
            &podium.viewer,
            &screenshot,
            "--click",
            "#watch-recording",
            "--until",
            "#stage[data-phase=recording]",
        ],
    );
    assert_eq!(page["actions"][1]["done"], true, "{page}");
    assert_eq!(page["foreign"], json!([]));
    assert_eq!(page["bad_status"], json!([]));
}

#[test]
fn the_operators_page_keeps_its_focus_and_asks_about_one_broadcast() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    let first = podium.status()["broadcast"].clone();
    let screenshot = artifact("operator-focus.png").display().to_string();
    let mut page = judge::Session::start("console.mjs", &[&podium.operator, &screenshot]);
    let seen = page.next();
    assert_eq!(seen["kept"], true, "{seen}");
    assert_eq!(seen["silence"], false, "{seen}");
    assert_eq!(seen["link"], format!("{}/", podium.viewer), "{seen}");
    let label = seen["label"].as_str().unwrap();
    assert!(label.starts_with("Pin Whole-box test, "), "{seen}");

    page.go_on();
    assert_eq!(page.next()["asks"], true);
    podium.stop();
    podium.go_live();
    page.go_on();
    let next = page.next();
    assert_eq!(next["asks"], false);
    assert_eq!(next["offered"], json!([false, true]), "to be deleted");
    let stop = format!("{}/api/v1/stop", podium.operator);
    let late = http::post(&stop, &[], &json!({ "broadcast": first }));
    assert_eq!(late.status, 409, "{}", late.text());
    assert_eq!(podium.state(), "live");

    page.go_on();
    let again = page.next();
    assert_eq!(again["soon"], false, "{again}");
    assert_eq!(
        again["then"], true,
        "it is told where nobody answers: {again}"
    );
    assert_eq!(again["page_errors"], json!([]), "{again}");
}

#[test]
fn who_pauses_stays_paused_and_what_breaks_off_goes_on_where_it_was() {
    let _turn = crate::turn();
    if !judge::have_chromium() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    podium.go_live();
    let named = format!("{}/ipns/{}/", podium.viewer, podium.name());
    let screenshot = artifact("over.png").display().to_string();
    let mut pages = judge::Session::start("stays.mjs", &[&podium.viewer, &named, &screenshot]);
    let seen = pages.next();
    let repaired = json!({ "same": true, "paused": false });
    assert_eq!(seen["repaired"], repaired, "{seen}");
    assert_eq!(seen["watch"]["paused"], true, "{seen}");
    assert_eq!(seen["watch"]["state"], "live", "{seen}");

    // More than the page seeks to.
    podium.wait_for_segments(4);
    podium.stop();
    pages.go_on();
    let over = pages.next();
    assert_eq!(over["watch"]["state"], "over", "{over}");
    assert_eq!(over["watch"]["paused"], true, "{over}");

    pages.go_on();
    let recorded = pages.next();
    assert_eq!(recorded["began"]["paused"], false, "{recorded}");
    podium.go_live();
    pages.go_on();
    let next = pages.next();
    assert_eq!(next["watch"]["url"], recorded["watch"]["url"], "{next}");
    // A player says where it is four times a second.
    let time = |seen: &Value| seen["watch"]["time"].as_f64().unwrap();
    assert!(
        (time(&next) - time(&recorded)).abs() < 0.5,
        "{recorded} {next}"
    );
    assert_eq!(next["watch"]["paused"], true, "{next}");
    assert_eq!(next["watch"]["state"], "recording", "{next}");
    // Under the name the next one plays by itself, with its own title.
    assert_eq!(next["name"]["note"], "Live", "{next}");
    let title = next["name"]["title"].as_str().unwrap();
    assert!(title.starts_with("Whole-box test, "), "{next}");
    for page in [&next["watch"], &next["name"]] {
        assert_eq!(page["page_errors"], json!([]), "{next}");
    }

    // What is no longer kept is not asked for again and again.
    let list = format!("{}/api/v1/recordings", podium.operator);
    let recording = &http::get(&list).json()[0];
    let id = &recording["id"];
    assert_eq!(
        http::post(&format!("{list}/{id}/delete"), &[], &json!({})).status,
        204
    );
    let playlist = recorded["watch"]["url"].as_str().unwrap();
    wait_for("the recording to be gone", || {
        (http::get(playlist).status == 404).then_some(())
    });
    pages.go_on();
    let gone = pages.next();
    assert!(
        gone["error"]
            .as_str()
            .unwrap()
            .contains("manifestLoadError"),
        "{gone}"
    );
    assert_eq!(gone["watch"]["source"], "box", "{gone}");
    assert_eq!(gone["watch"]["page_errors"], json!([]), "{gone}");
}

#[test]
fn helia_reads_a_live_segment_by_its_cid_and_by_its_path() {
    if !judge::have_packages() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    podium.wait_for_segments(2);
    let root = podium.cid();
    let number = hls::oldest(&podium);
    let path = hls::segment_path("video", number);
    let served = http::get(&format!("{}/ipfs/{root}/{path}", podium.viewer));
    let origin = podium.live(&format!("video/{number}.m4s"));
    assert_eq!(
        served.body, origin.body,
        "the origin and the gateway serve the same bytes"
    );
    let cid = served.header("etag").unwrap().trim_matches('"').to_owned();
    let hash = judge::sha256(&served.body);
    for transport in ["/tcp/", "/ws/"] {
        let address = podium.address(transport);
        let read = judge::node("helia.mjs", &[&address, &root, &path, &cid]);
        assert_eq!(read["path"]["sha256"], hash, "{read}");
        assert_eq!(read["segment"]["sha256"], hash, "{read}");
        // A box that is not told to serves nobody's DHT.
        let protocols = read["path"]["protocols"].as_array().unwrap();
        assert!(protocols.contains(&json!("/ipfs/bitswap/1.2.0")), "{read}");
        assert!(!protocols.contains(&json!("/ipfs/kad/1.0.0")), "{read}");
    }
}

/// Kubo does so where it hears of a block from several sides, and takes the first answer for the last one.
#[test]
fn a_block_comes_that_was_asked_for_before_the_box_had_said_that_it_has_it() {
    if !judge::have_packages() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut dag = Dag::default();
    let cids: Vec<_> = (0..16u8)
        .map(|byte| dag.raw(&[byte; 16 << 10]).cid.to_string())
        .collect();
    let podium = Podium::start(dir.path(), &Config::default());
    dag.store(&dir.path().join("data"));
    let address = podium.address("/tcp/");
    let mut question = vec![address.as_str(), "300"];
    question.extend(cids.iter().map(String::as_str));
    let found = judge::node("bitswap.mjs", &question);
    assert_eq!(found["come"], found["asked"], "{found}");
}

#[test]
fn a_crowd_of_idle_viewers_does_not_end_the_broadcast() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let address: SocketAddr = podium.viewer.trim_start_matches("http://").parse().unwrap();
    let told = |podium: &Podium| podium.status()["health"]["action"][0] == "Too many viewers";
    // More than the box takes from one address, and few enough for the kernel's queue; the rest is told to come back.
    let crowd: Vec<_> = (0..300)
        .map(|_| connect_from("127.0.0.1", address))
        .collect();
    wait_for("one machine to be turned away", || {
        let refused = podium.status()["viewers"]["refused"].as_u64()? as usize;
        (refused >= crowd.len() - 256).then_some(())
    });
    // A crowd behind one router looks the same.
    wait_for("the crowd to be told", || told(&podium).then_some(()));
    let mut last = crowd.last().unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let seen = podium.status()["segments"].as_u64().unwrap();
    podium.wait_for_segments(seen + 3);
    assert_eq!(podium.state(), "live");
    // One machine keeps no other out.
    let neighbour = get_from("127.0.0.2", address, "/live/index.m3u8");
    assert!(neighbour.starts_with("HTTP/1.0 200"), "{neighbour}");
    drop(crowd);
    assert_eq!(podium.live("index.m3u8").status, 200);
}

/// Connects from another address of this machine.
fn connect_from(from: &str, to: SocketAddr) -> std::net::TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

fn get_from(from: &str, to: SocketAddr, path: &str) -> String {
    let mut stream = connect_from(from, to);
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_gateway_speaks_http_as_caches_and_players_expect() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    let root = podium.cid();
    let url = |path: &str| format!("{}{path}", podium.viewer);

    let playlist = podium.live("video.m3u8");
    assert_eq!(
        playlist.header("content-type"),
        Some("application/vnd.apple.mpegurl")
    );
    assert_eq!(playlist.header("cache-control"), Some("public, max-age=1"));
    assert_eq!(playlist.header("access-control-allow-origin"), Some("*"));
    let squeezed = http::get_with(&url("/live/video.m3u8"), &[("accept-encoding", "gzip")]);
    assert_eq!(squeezed.header("content-encoding"), Some("gzip"));

    let stored = http::get(&url(&format!("/ipfs/{root}/video/live.m3u8")));
    let stored = hls::media_playlist(&stored.body);
    let segment = &stored.segments[0];
    let init = &segment.map.as_ref().unwrap().uri;
    let [segment, init] = [&segment.uri, init].map(|uri| format!("/ipfs/{root}/video/{uri}"));
    let live = format!("/live/video/{}.m4s", hls::oldest(&podium));
    for (path, kind) in [
        (segment, "video/iso.segment"),
        (init, "video/mp4"),
        (live, "video/iso.segment"),
    ] {
        let whole = http::get(&url(&path));
        assert_eq!(whole.status, 200, "{path}");
        assert_eq!(whole.header("content-type"), Some(kind), "{path}");
        assert!(
            whole.header("cache-control").unwrap().contains("immutable"),
            "{path}"
        );
        let length = whole.body.len();
        assert_eq!(
            whole.header("content-length").unwrap(),
            length.to_string(),
            "{path}"
        );
        let etag = whole.header("etag").unwrap();
        let head = http::head(&url(&path));
        assert_eq!(head.status, 200);
        assert_eq!(
            head.header("content-length"),
            whole.header("content-length"),
            "{path}"
        );
        assert_eq!(head.header("etag"), Some(etag));
        let again = http::get_with(&url(&path), &[("if-none-match", etag)]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{path}");
        let part = http::get_with(&url(&path), &[("range", "bytes=10-99")]);
        assert_eq!(part.status, 206);
        assert_eq!(part.body, whole.body[10..100], "{path}");
        assert_eq!(
            part.header("content-range").unwrap(),
            format!("bytes 10-99/{length}")
        );
        let tail = http::get_with(&url(&path), &[("range", "bytes=-7")]);
        assert_eq!(tail.body, whole.body[length - 7..], "{path}");
        let beyond = http::get_with(&url(&path), &[("range", "bytes=99999999-")]);
        assert_eq!(beyond.status, 416);
    }

    let name = podium.name();
    let named = http::get(&url(&format!("/ipns/{name}/index.m3u8")));
    assert_eq!(named.status, 200);
    assert!(
        named
            .header("cache-control")
            .unwrap()
            .starts_with("public, max-age=1")
    );
    let directory = http::get(&url(&format!("/ipfs/{root}/video")));
    assert_eq!(directory.status, 301);
    let location = directory.header("location").unwrap().to_owned();
    assert_eq!(location, format!("/ipfs/{root}/video/"));
    assert!(http::get(&url(&location)).text().contains("live.m3u8"));
    let raw = http::get(&url(&format!("/ipfs/{root}?format=raw")));
    assert_eq!(raw.header("content-type"), Some("application/vnd.ipld.raw"));

    // What the box does not hold is answered at once: nothing is fetched for strangers.
    let stranger = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    for (path, status) in [
        (format!("/ipfs/{stranger}"), 404),
        (format!("/ipfs/{stranger}/index.html"), 404),
        (format!("/ipfs/{root}/nothing/here"), 404),
        ("/ipfs/not-a-cid".to_owned(), 400),
        (
            "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8".to_owned(),
            404,
        ),
        ("/live/video/99999.m4s".to_owned(), 404),
        ("/live/video/%2e%2e%2fetc.m4s".to_owned(), 404),
        ("/live/nothing.m3u8".to_owned(), 404),
        ("/live/video/live.m3u8".to_owned(), 404),
        (format!("/ipfs/{root}?format=tar"), 406),
        ("/nothing".to_owned(), 404),
    ] {
        assert_eq!(http::get(&url(&path)).status, status, "{path}");
    }
    // Viewers cannot operate the box, and other sites cannot either.
    for path in ["/api/v1/start", "/api/v1/stop", "/api/v1/button"] {
        let answer = http::post(&url(path), &[], &Value::Null);
        assert!(
            answer.status == 404 || answer.status == 405,
            "{path}: {}",
            answer.status
        );
    }
    let stop = format!("{}/api/v1/stop", podium.operator);
    let elsewhere = http::post(&stop, &[("origin", "http://evil.example")], &Value::Null);
    assert_eq!(elsewhere.status, 403);
    let rebound = http::get_with(
        &format!("{}/api/v1/status", podium.operator),
        &[("host", "evil.example")],
    );
    assert_eq!(rebound.status, 403);
    assert_eq!(podium.state(), "live");
}

/// The loudest sample of a segment, dBFS, as ffmpeg decodes it.
fn max_volume(init: &[u8], segment: &[u8]) -> f64 {
    let arguments = [
        "-hide_banner",
        "-i",
        "-",
        "-af",
        "volumedetect",
        "-f",
        "null",
        "-",
    ];
    let (_, said) = judge::run("ffmpeg", &arguments, &[init, segment].concat());
    let (_, volume) = said.split_once("max_volume:").expect("a volume");
    volume.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_operator_mutes_and_changes_the_bitrate_while_live() {
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &recording());
    let ask = |what: &str, body: Value| {
        http::post(&format!("{}/api/v1/{what}", podium.operator), &[], &body)
    };
    let bandwidth = || -> u64 {
        let index = podium.live("index.m3u8").body;
        let (_, index) = m3u8_rs::parse_master_playlist(&index).unwrap();
        index.variants.iter().map(|it| it.bandwidth).max().unwrap()
    };
    for (what, body) in [
        ("bitrate", json!({ "video_kbps": 99 })),
        ("bitrate", json!({ "video_kbps": 25_001 })),
        ("bitrate", json!({ "video_kbps": -1 })),
        ("bitrate", json!({ "kbps": 500 })),
        ("mute", json!({ "muted": "yes" })),
        ("mute", json!({})),
    ] {
        let answer = ask(what, body.clone());
        assert_eq!(answer.status, 422, "{what} {body}: {}", answer.text());
    }
    let answer = ask("bitrate", json!({ "video_kbps": 99 }));
    assert_eq!(answer.text(), "video_kbps = 99: must be 100 to 20000\n");

    podium.go_live();
    podium.wait_for_segments(3);
    let at_first = bandwidth();
    assert_eq!(ask("mute", json!({ "muted": true })).status, 202);
    assert_eq!(ask("mute", json!({ "muted": true })).status, 202);
    assert_eq!(ask("bitrate", json!({ "video_kbps": 300 })).status, 202);
    wait_for("the wishes in the status", || {
        let status = podium.status();
        (status["audio"]["muted"] == true && status["video_kbps"] == 300).then_some(())
    });
    assert_eq!(podium.status()["health"]["action"][0], "Sound is MUTED");
    save_picture(&podium, "panel-muted.png");
    let changed = podium.status()["segments"].as_u64().unwrap();
    // The open segment and one on its way are of both; after them all is as it was asked for.
    let settled = changed + 2;
    podium.wait_for_segments(settled + 3);
    // What was published before still stands in the playlist, and no segment may be above its BANDWIDTH.
    let lowered = bandwidth();
    assert!(lowered < at_first, "{lowered} of {at_first}");
    let greatest = (hls::live(&podium, "video").segments.iter())
        .map(|segment| {
            let bytes = http::get(&format!("{}/live/{}", podium.viewer, segment.uri)).body;
            bytes.len() as f64 * 8.0 / f64::from(segment.duration)
        })
        .fold(0.0, f64::max);
    assert!(greatest <= lowered as f64, "{greatest} above {lowered}");
    assert_eq!(ask("mute", json!({ "muted": false })).status, 202);
    assert_eq!(ask("bitrate", json!({ "video_kbps": 6000 })).status, 202);
    wait_for("a BANDWIDTH with room for 1.25 times 6000 kbit/s", || {
        (bandwidth() >= 7_500_000).then_some(())
    });
    podium.wait_for_segments(settled + 6);

    for rendition in ["video", "audio"] {
        let playlist = hls::live(&podium, rendition);
        assert_eq!(
            playlist
                .segments
                .iter()
                .filter(|it| it.map.is_some())
                .count(),
            1,
            "one init segment"
        );
        let base = format!("{}/live/", podium.viewer);
        let fetch = |uri: &str| http::get(&format!("{base}{uri}")).body;
        let init = fetch(&playlist.segments[0].map.as_ref().unwrap().uri);
        for segment in &playlist.segments[settled as usize..settled as usize + 3] {
            let bytes = fetch(&segment.uri);
            if rendition == "video" {
                let nominal = 300_000.0 / 8.0 * 2.0;
                assert!(
                    bytes.len() as f64 <= 1.25 * nominal,
                    "{} of {nominal} bytes",
                    bytes.len()
                );
            } else {
                assert!(max_volume(&init, &bytes) < -80.0);
            }
        }
        if rendition == "audio" {
            assert!(max_volume(&init, &fetch(&playlist.segments[0].uri)) > -40.0);
        }
    }
    check_renditions(&podium);
}

#[test]
fn a_black_picture_is_told_and_shown_as_it_is() {
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let clip = dir.path().join("black.mp4");
    // Eight seconds of black, eight of a picture, with sound.
    let graph = "color=black:320x180:r=30:d=8[black];testsrc2=320x180:r=30:d=8[picture];\
                 [black][picture]concat=n=2;sine=1000:r=48000:d=16";
    let arguments = format!("-v error -y -filter_complex {graph} -pix_fmt yuv420p");
    let mut arguments: Vec<_> = arguments.split_whitespace().collect();
    let path = clip.display().to_string();
    arguments.push(&path);
    assert_eq!(judge::run("ffmpeg", &arguments, &[]).1, "");

    let podium = Podium::start(dir.path(), &Config::file(&clip));
    podium.go_live();
    for black in [true, false, true] {
        wait_for(&format!("black: {black}"), || {
            (podium.status()["input"]["black"] == black).then_some(())
        });
        let status = podium.status();
        assert_eq!(status["input"]["signal"], "ok");
        assert_eq!(status["state"]["word"], "live");
        if black {
            assert_eq!(status["health"]["action"][0], "Picture is black");
            save_picture(&podium, "panel-black.png");
        }
    }
}
