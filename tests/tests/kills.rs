//! kill -9 of the real box in the middle of all that it does: it records, ends broadcasts, begins others, and deletes the oldest
//! because its store is small. And of a mirror that takes all that over.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rust_ipns::Record;
use rustix::process::Signal;
use serde_json::Value;
use tests::{Config, Mirror, Podium, hls, http, judge, podium, wait_for};

/// Each has a data directory of its own; most of a life is waiting for a segment's second.
const BOXES: u64 = 4;
/// Lives of each, or `PODIUM_KILLS`: a hundred of all.
const LIVES: u64 = 25;

/// Of a mirror, or `PODIUM_KILLS`.
const MIRROR_LIVES: u64 = 15;

/// Two or three broadcasts of a few seconds are more than a mebibyte.
fn config() -> Config {
    Config {
        extra: "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 2000\n\
                [hls]\nsegment_ms = 1000\npart_ms = 250\nwindow_s = 20\n\
                [store]\nrecordings_mib = 1\nlive_mib = 64\n"
            .into(),
        ..Config::default()
    }
}

#[test]
fn killed_while_it_records_and_deletes_the_box_never_lies() {
    let (seed, lives) = seed_and_lives(LIVES);
    let oldest: Vec<_> = std::thread::scope(|scope| {
        let boxes = (0..BOXES).map(|its| {
            let random = fastrand::Rng::with_seed(seed.wrapping_add(its));
            scope.spawn(move || live_and_die(random, lives))
        });
        let boxes: Vec<_> = boxes.collect();
        let ended = boxes.into_iter().map(|it| it.join().expect("a box"));
        ended.collect()
    });
    // A few lives may all belong to one broadcast, and some boxes record little.
    let deleted = oldest.iter().any(|oldest| *oldest > Some(1));
    assert!(deleted || lives < LIVES, "{oldest:?}");
}

fn seed_and_lives(lives: u64) -> (u64, u64) {
    let number = |variable| std::env::var(variable).ok()?.parse().ok();
    let seed = number("PODIUM_SEED").unwrap_or_else(|| fastrand::u64(..));
    #[expect(clippy::print_stderr, reason = "a failure can be repeated with this")]
    {
        eprintln!("PODIUM_SEED={seed}");
    }
    (seed, number("PODIUM_KILLS").unwrap_or(lives))
}

/// The box goes on air again and again meanwhile, so that there is something earlier to catch up with.
#[test]
fn killed_while_it_takes_over_the_mirror_never_lies() {
    let (seed, lives) = seed_and_lives(MIRROR_LIVES);
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        extra: config()
            .extra
            .replace("recordings_mib = 1", "recordings_mib = 64"),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    let place = dir.path().join("mirror");
    let peer = podium.address("/tcp/");
    let start = || Mirror::start(&place, &podium.name(), &["--peer", &peer]);
    let mut told = Told::default();
    for life in 0..lives {
        press(&podium, &mut random);
        let mirror = start();
        for _ in 0..random.u32(1..5) {
            told.check_shown(&mirror.viewer, &mirror.operator, &podium.name());
            std::thread::sleep(Duration::from_millis(random.u64(0..700)));
        }
        mirror.signal(Signal::KILL);
        assert_eq!(mirror.join(), None);
        let fsck = command(&place, &["fsck"]);
        assert!(fsck.contains("nothing is wrong"), "life {life}: {fsck}");
    }
    if podium.state() == "idle" {
        podium.go_live();
    }
    podium.wait_for_state("live");
    podium.stop();
    let mirror = start();
    let roots = |operator: &str| -> Vec<Value> {
        let list = recordings(operator).into_iter();
        list.map(|it| it["root"].clone()).collect()
    };
    let all = wait_for("all that the box has", || {
        let there = roots(&podium.operator);
        (roots(&mirror.operator) == there && mirror.status()["filling"] == false).then_some(there)
    });
    let car = |viewer: &str, root: &Value| {
        let root = root.as_str().expect("a root");
        http::get(&format!("{viewer}/ipfs/{root}?format=car")).body
    };
    for root in &all {
        let (there, here) = (car(&podium.viewer, root), car(&mirror.viewer, root));
        assert!(
            there == here,
            "{root}: {} and {} bytes",
            there.len(),
            here.len()
        );
    }
    told.check_shown(&mirror.viewer, &mirror.operator, &podium.name());
    assert!(told.sequence > 0 && told.end > 0, "{told:?}");
}

/// The oldest broadcast that is there in the end.
fn live_and_die(mut random: fastrand::Rng, lives: u64) -> Option<u64> {
    let dir = tempfile::tempdir().unwrap();
    let mut told = Told::default();
    for life in 0..lives {
        let podium = Podium::start(dir.path(), &config());
        told.check(&podium);
        press(&podium, &mut random);
        for _ in 0..random.u32(0..4) {
            told.check(&podium);
            std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        }
        podium.signal(Signal::KILL);
        assert_eq!(podium.join().code, None);
        // What only looks leaves it to the next start to go on with what was under way; both have to find nothing wrong.
        let look = ["fsck", "--check"];
        let fsck = command(dir.path(), if random.bool() { &look } else { &look[..1] });
        assert!(fsck.contains("nothing is wrong"), "life {life}: {fsck}");
    }
    let podium = Podium::start(dir.path(), &config());
    told.check(&podium);
    recordings(&podium.operator)[0]["id"].as_u64()
}

/// Goes on, ends, or ends and begins the next; some of it is still under way when it returns.
fn press(podium: &Podium, random: &mut fastrand::Rng) {
    let press = |command: &str| {
        let url = format!("{}/api/v1/{command}", podium.operator);
        assert_eq!(http::post(&url, &[], &Value::Null).status, 202);
    };
    if podium.state() == "idle" {
        return press("start");
    }
    match random.u32(0..3) {
        0 => {}
        1 => {
            podium.wait_for_state("live");
            press("stop");
        }
        _ => {
            podium.wait_for_state("live");
            podium.stop();
            press("start");
        }
    }
}

fn recordings(operator: &str) -> Vec<Value> {
    let list = http::get(&format!("{operator}/api/v1/recordings")).json();
    list.as_array().expect("a list").clone()
}

fn command(dir: &Path, arguments: &[&str]) -> String {
    let data = dir.join("data");
    let data = ["--data-dir", data.to_str().expect("a name of ASCII")];
    let output = podium(&[arguments, &data].concat());
    assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
    output.stdout
}

/// Their hashes by their paths.
type Files = BTreeMap<String, String>;

/// What somebody outside has seen of a box or a mirror, which holds for ever.
#[derive(Debug, Default)]
struct Told {
    /// The name's record.
    sequence: u64,
    /// The number after the last that `/live` has listed.
    end: u64,
    /// The newest broadcast that had anything, and what its playlists have named.
    broadcast: u64,
    files: Files,
}

impl Told {
    /// The name and what is live lead to what is there, and do not go back.
    fn check_shown(&mut self, viewer: &str, operator: &str, name: &str) {
        let record = http::record(viewer, name);
        if let Some(record) = &record {
            let sequence = Record::decode(record).expect("a record").sequence();
            assert!(sequence >= self.sequence, "{sequence} after {self:?}");
            self.sequence = sequence;
        }
        assert!(record.is_some() || self.sequence == 0);

        let live = format!("{viewer}/live");
        let video = http::get(&format!("{live}/video.m3u8"));
        // Nothing is there where one was cut off before its first segment.
        if video.status == 200 {
            let video = hls::media_playlist(&video.body);
            let end = video.media_sequence + video.segments.len() as u64;
            assert!(end >= self.end, "{end} after {self:?}");
            self.end = end;
            let shown = newest(operator);
            read_all(&live, "index.m3u8", &|list, uri| {
                // Parts leave with the list that named them, and what was shown before may go when there is something newer.
                !named(&http::get(list).text()).contains(uri) || newest(operator) != shown
            });
        }
    }

    /// All that the box says now is true, and nothing goes back.
    fn check(&mut self, podium: &Podium) {
        self.check_shown(&podium.viewer, &podium.operator, &podium.name());
        let Some((id, root, finished)) = newest(&podium.operator) else {
            return assert_eq!(self.broadcast, 0);
        };
        assert!(id >= self.broadcast, "{id} after {self:?}");
        if id > self.broadcast {
            (self.broadcast, self.files) = (id, Files::new());
        }
        let base = format!("{}/ipfs/{root}", podium.viewer);
        // The same case: it has no playlists.
        if self.files.is_empty() && http::get(&format!("{base}/event.m3u8")).status == 404 {
            return;
        }
        // A recording may go when there is a newer broadcast. A root that another has replaced stays for ten minutes, and this
        // takes seconds: only what the box has deleted from the broadcast itself, and so from the newest root too, is not there.
        let replaced = |list: &str, uri: &String| {
            let within = &list[base.len()..];
            let path = match uri.as_str() {
                "" => within.to_owned(),
                uri => format!("{}/{uri}", within.rsplit_once('/').expect("a path").0),
            };
            let gone = |root: &str| {
                http::get(&format!("{}/ipfs/{root}{path}", podium.viewer)).status == 404
            };
            newest(&podium.operator)
                .is_some_and(|(now, newest, _)| now > id || newest != root && gone(&newest))
        };
        let Some(files) = read_all(&base, "event.m3u8", &replaced) else {
            return;
        };
        for (path, sum) in &self.files {
            assert_eq!(files.get(path), Some(sum), "{root}/{path}");
        }
        if finished && let Some(vod) = read_all(&base, "vod.m3u8", &replaced) {
            assert_eq!(files, vod, "{root}");
        }
        self.files = files;
    }
}

/// The newest broadcast that has anything: its number, its root, and whether it has ended.
fn newest(operator: &str) -> Option<(u64, String, bool)> {
    let recordings = recordings(operator);
    let newest = recordings.iter().rev().find(|it| it["root"].is_string())?;
    let root = newest["root"].as_str()?.to_owned();
    Some((newest["id"].as_u64()?, root, newest["finished"] == true))
}

/// Reads what a playlist names, and what the playlists among that name. Nothing where something cannot be read that the box has
/// meanwhile let go of.
///
/// # Panics
/// Where it has not: `let_go` says so of a list's address and a name in it.
fn read_all(base: &str, playlist: &str, let_go: &dyn Fn(&str, &String) -> bool) -> Option<Files> {
    let list = format!("{base}/{playlist}");
    // It may go while it is read.
    let read = |path: &str, uri: &String| match http::try_get(&format!("{base}/{path}"), &[]) {
        Ok(answer) if answer.status == 200 => Some(answer),
        unread => {
            assert!(let_go(&list, uri), "{list} names {uri:?}: {unread:?}");
            None
        }
    };
    let answer = read(playlist, &String::new())?;
    let within = playlist.rfind('/').map_or("", |at| &playlist[..=at]);
    let mut files = Files::new();
    for uri in named(&answer.text()) {
        let path = format!("{within}{uri}");
        if path.ends_with(".m3u8") {
            files.extend(read_all(base, &path, let_go)?);
            continue;
        }
        let sum = judge::sha256(&read(&path, &uri)?.body);
        files.insert(path, sum);
    }
    Some(files)
}

/// Playlists, init segments, segments and parts; not what comes next, nor what other playlists have.
fn named(playlist: &str) -> Vec<String> {
    let uri = |line: &str| {
        let hint = ["#EXT-X-PRELOAD-HINT", "#EXT-X-RENDITION-REPORT"];
        match line.strip_prefix('#') {
            None if line.is_empty() => None,
            None => Some(line.to_owned()),
            Some(_) if hint.iter().any(|tag| line.starts_with(tag)) => None,
            Some(tag) => Some(tag.split_once("URI=\"")?.1.split_once('"')?.0.to_owned()),
        }
    };
    playlist.lines().filter_map(uri).collect()
}
