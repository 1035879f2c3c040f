//! Kubo and Helia follow the box by its name; Kubo keeps what it publishes, and serves it when the box is gone.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use cid::Cid;
use cid::multibase::Base;
use serde_json::{Value, json};
use tests::hls::FRAME;
use tests::kubo::{Kubo, text};
use tests::network::Network;
use tests::{Config, Podium, follow, hls, http, judge, private_swarm, wait_for};

/// Reads each segment that the plain playlists below `path` name with `ipfs cat`; returns how many.
fn read_all(kubo: &Kubo, podium: &Podium, path: &str) -> usize {
    let mut read = 0;
    for rendition in ["video", "audio"] {
        let cat = |file: &str| {
            kubo.run(&[
                "cat",
                "--timeout=60s",
                &format!("{path}/{rendition}/{file}"),
            ])
        };
        for segment in hls::media_playlist(&cat("live.m3u8")).segments {
            let file = segment.uri.rsplit('/').next().unwrap();
            let origin = podium.live(&format!("{rendition}/{file}"));
            assert!(
                cat(&segment.uri) == origin.body,
                "{path}/{rendition}/{}",
                segment.uri
            );
            read += 1;
        }
    }
    read
}

#[test]
fn kubo_follows_by_pubsub_pins_and_serves_when_the_box_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Some(kubo) = Kubo::following(dir.path().join("kubo"), Ipv4Addr::LOCALHOST, &[]) else {
        return;
    };
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    podium.go_live();
    kubo.run(&["swarm", "connect", &podium.address("/tcp/")]);

    // With no other routing, only PubSub can have told it.
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let path = kubo.wait_for_name(&name, |path| !seen.iter().any(|old| old == path));
        assert!(read_all(&kubo, &podium, &path) >= 2);
        seen.push(path);
        if seen.len() == 2 {
            // Links break; who comes back is served as before.
            kubo.run(&["swarm", "disconnect", &podium.address("/tcp/")]);
            kubo.run(&["swarm", "connect", &podium.address("/tcp/")]);
        }
    }
    wait_for("the name to mean the newest root", || {
        let now = podium.root();
        kubo.wait_for_name(&name, |_| true).eq(&now).then_some(())
    });
    podium.stop();
    let finished = podium.root();
    kubo.wait_for_name(&name, |path| path == finished);
    kubo.run(&["pin", "add", "--recursive", "--timeout=120s", &finished]);

    // Who comes after the last update is told all the same.
    let (late, peers) = (dir.path().join("late"), [&*podium.address("/quic-v1/")]);
    let Some(late) = Kubo::following(late, Ipv4Addr::LOCALHOST, &peers) else {
        return;
    };
    late.wait_for_name(&name, |path| path == finished);

    let segments = podium.status()["segments"].as_u64().unwrap();
    podium.signal(rustix::process::Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    let url = format!("{}{finished}/video/vod.m3u8", kubo.gateway());
    let vod = hls::media_playlist(&http::get(&url).body);
    assert!(vod.end_list);
    assert_eq!(vod.segments.len() as u64, segments);
    if judge::have("ffprobe") {
        hls::check_segments(&url, &vod, FRAME);
        let whole = format!("{}{finished}/vod.m3u8", kubo.gateway());
        judge::decode(&whole, None).check(hls::seconds(&vod));
    }
    // Under its name, too: a daemon that has been told keeps the record.
    let named = http::get(&format!("{}/ipns/{name}/video/vod.m3u8", kubo.gateway()));
    assert_eq!(named.status, 200);
}

/// `make bench-follow` does so for ten minutes.
#[test]
fn kubo_reads_every_segment_as_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let (repo, peers) = (dir.path().join("kubo"), [&*podium.address("/tcp/")]);
    let Some(kubo) = Kubo::following(repo, Ipv4Addr::LOCALHOST, &peers) else {
        return;
    };
    let name = podium.name();
    podium.go_live();
    let completed = follow::Completed::watch(&podium);
    let list = |root: &str| follow::of_podium(&kubo, root, &completed);
    let arrivals = follow::follow(&kubo, &name, list, |seen| seen.len() >= 5);
    // Though it has it and is connected: the box fetches nothing for those who ask.
    let file = dir.path().join("stranger");
    std::fs::write(&file, "not of the box").unwrap();
    let cid = kubo.line(&["add", "--quieter", "--cid-version=1", text(&file)]);
    for path in [format!("/ipfs/{cid}"), format!("/ipfs/{cid}?format=raw")] {
        assert_eq!(http::get(&format!("{}{path}", podium.viewer)).status, 404);
    }
    assert_eq!(follow::gaps(&arrivals), 0, "{arrivals:?}");
    let root = podium.root();
    for it in &arrivals {
        let file = |rendition| format!("{rendition}/{}.m4s", it.number);
        let origin = ["video", "audio"].map(|rendition| podium.live(&file(rendition)).body);
        assert_eq!(
            it.bytes,
            origin.iter().map(Vec::len).sum::<usize>() as u64,
            "{it:?}"
        );
        let there = ["video", "audio"].map(|rendition| {
            let path = hls::segment_path(rendition, it.number);
            follow::read(&kubo, &format!("{root}/{path}")).unwrap()
        });
        assert!(there == origin, "{it:?}");
    }
}

#[test]
fn kubo_finds_name_and_segments_by_http_alone() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    podium.go_live();
    // Nobody tells Kubo where the box's node is: it asks the box's `/routing/v1` who has what.
    let here = json!({ "RouterName": "box" });
    let routing = json!({
        "Type": "custom",
        "Routers": { "box": { "Type": "http", "Parameters": { "Endpoint": podium.viewer } } },
        "Methods": {
            "get-ipns": here, "put-ipns": here, "find-providers": here, "find-peers": here, "provide": here
        }
    });
    kubo.configure("Routing", &routing.to_string());
    kubo.start();
    let first = kubo.wait_for_name(&name, |_| true);
    kubo.wait_for_name(&name, |path| path != first);
    let path = kubo.wait_for_name(&name, |path| path == podium.root());
    assert!(read_all(&kubo, &podium, &path) >= 2);
}

/// Kubo keeps to DHT servers with public addresses (go-libp2p-kad-dht, `PublicRoutingTableFilter`), and so both are on a host that
/// has one.
#[test]
fn kubo_finds_the_name_in_the_dht_whose_server_is_the_box() {
    let Some(mut network) = Network::at(Ipv4Addr::new(5, 5, 5, 0), 1) else {
        return;
    };
    let host = network.host("public");
    let dir = tempfile::tempdir().unwrap();
    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    let config = Config {
        address: Some(host.address()),
        extra: "dht = \"server\"\n".into(),
        ..Config::default()
    };
    host.enter(|| {
        let podium = Podium::start(dir.path(), &config);
        let name = podium.name();
        podium.go_live();
        // As a new Kubo is configured, but for the nodes that it knows: without PubSub and without an HTTP router.
        kubo.configure("Routing", r#"{"Type": "dhtclient"}"#);
        kubo.configure("Bootstrap", &json!([podium.address("/tcp/")]).to_string());
        kubo.start();
        let first = kubo.wait_for_name(&name, |path| path.starts_with("/ipfs/"));
        // Since 0.36 a Kubo asks strangers on the internet for blocks only where routing names them as providers
        // (config.md, `Internal.Bitswap.BroadcastControl`): here the DHT does.
        assert!(read_all(&kubo, &podium, &first) >= 2);
        let key = format!("/ipns/{name}");
        let record = kubo.run(&["routing", "get", &key]);
        assert!(!record.is_empty());
    });
}

/// As on the internet: the box, which serves no DHT, puts its name and where its content is into others' nodes.
#[test]
fn kubo_finds_name_and_segments_in_the_dht_of_another_kubo() {
    let Some(mut network) = Network::at(Ipv4Addr::new(5, 5, 5, 0), 2) else {
        return;
    };
    let host = network.host("public");
    let dir = tempfile::tempdir().unwrap();
    let (Some(mut server), Some(mut kubo)) = (
        Kubo::new(dir.path().join("server")),
        Kubo::new(dir.path().join("kubo")),
    ) else {
        return;
    };
    host.enter(|| {
        let public = json!([format!("/ip4/{}/tcp/0", host.address())]);
        server.configure("Addresses.Swarm", &public.to_string());
        server.configure("Routing", r#"{"Type": "dhtserver"}"#);
        server.start();
        let config = Config {
            address: Some(host.address()),
            extra: format!("peers = [\"{}\"]\n", server.address()),
            ..Config::default()
        };
        let podium = Podium::start(dir.path(), &config);
        let name = podium.name();
        podium.go_live();
        kubo.configure("Routing", r#"{"Type": "dhtclient"}"#);
        kubo.configure("Bootstrap", &json!([server.address()]).to_string());
        kubo.start();
        let first = kubo.wait_for_name(&name, |path| path.starts_with("/ipfs/"));
        assert!(read_all(&kubo, &podium, &first) >= 2);
    });
}

#[test]
fn kubo_follows_in_a_private_swarm_only_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let repo = |name: &str| dir.path().join(name);
    let (Some(mut member), Some(mut stranger)) =
        (Kubo::new(repo("member")), Kubo::new(repo("stranger")))
    else {
        return;
    };
    private_swarm(&repo("member"), "5c");
    for kubo in [&mut member, &mut stranger] {
        kubo.configure("Pubsub.Enabled", "true");
        kubo.configure("Ipns.UsePubsub", "true");
        kubo.start();
    }
    let config = Config {
        extra: private_swarm(dir.path(), "5c"),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    let connect = ["swarm", "connect", &podium.address("/tcp/")];
    member.run(&connect);
    let path = member.wait_for_name(&podium.name(), |_| true);
    assert!(read_all(&member, &podium, &path) >= 2);
    let refused = stranger.try_run(&connect).unwrap_err();
    assert!(refused.contains("failed to negotiate"), "{refused}");
    assert_eq!(podium.status()["node"]["peers"], 1);
}

#[test]
fn the_record_and_the_key_are_such_as_kubo_makes() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let name = podium.name();
    let record_at = [
        format!("/ipns/{name}?format=ipns-record"),
        format!("/ipns/{name}"),
        format!("/routing/v1/ipns/{name}"),
    ];
    let get = |path: &str| {
        let accept = [("accept", "application/vnd.ipfs.ipns-record")];
        http::get_with(&format!("{}{path}", podium.viewer), &accept)
    };
    for path in &record_at {
        let (answer, routing) = (get(path), path.starts_with("/routing/"));
        let status = if routing { 200 } else { 404 };
        assert_eq!(answer.status, status, "nothing is published yet: {path}");
        assert!(
            answer
                .header("content-type")
                .unwrap()
                .starts_with("text/plain")
        );
    }
    podium.go_live();
    let sequence = |record: &[u8], kubo: &Kubo| {
        let file = dir.path().join("record");
        std::fs::write(&file, record).unwrap();
        let found = kubo.run(&[
            "name",
            "inspect",
            "--enc=json",
            "--verify",
            &name,
            text(&file),
        ]);
        let found: Value = serde_json::from_slice(&found).unwrap();
        assert_eq!(found["Validation"]["Valid"], true, "{found}");
        let value = found["Entry"]["Value"].as_str().unwrap();
        assert!(value.starts_with("/ipfs/bafy"), "{found}");
        assert_eq!(found["Entry"]["TTL"], 2_000_000_000_u64, "{found}");
        // 48 hours after it was signed, which was a moment ago.
        let end =
            DateTime::parse_from_rfc3339(found["Entry"]["Validity"].as_str().unwrap()).unwrap();
        let minutes = (end.to_utc() - DateTime::<Utc>::from(SystemTime::now())).num_minutes();
        assert!((48 * 60 - 5..48 * 60).contains(&minutes), "{found}");
        found["Entry"]["Sequence"].as_u64().unwrap()
    };
    let Some(kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    let mut last = 0;
    for path in &record_at {
        let answer = get(path);
        assert_eq!(answer.status, 200, "{path}");
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/vnd.ipfs.ipns-record"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=2"));
        let etag = answer.header("etag").unwrap().to_owned();
        let found = sequence(&answer.body, &kubo);
        assert!(found >= last);
        last = found;
        // Unless a segment has come in between.
        let again = http::get_with(
            &format!("{}{path}", podium.viewer),
            &[
                ("accept", "application/vnd.ipfs.ipns-record"),
                ("if-none-match", &etag),
            ],
        );
        assert!(again.status == 304 || again.header("etag") != Some(&etag));
    }
    let saved_as = |query: &str| {
        let answer = get(&format!("/ipns/{name}{query}"));
        answer.header("content-disposition").map(str::to_owned)
    };
    let by_its_name = format!("attachment; filename=\"{name}.ipns-record\"");
    assert_eq!(saved_as(""), Some(by_its_name));
    let as_wanted = "attachment; filename=\"test____.ipns-record\"; filename*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record";
    let query = "?filename=test%D1%82%D0%B5%D1%81%D1%82.ipns-record";
    assert_eq!(saved_as(query).as_deref(), Some(as_wanted));
    // The name as others write it: a peer's id.
    let hash = name.parse::<Cid>().unwrap().hash().to_bytes();
    let peer = Base::Base58Btc.encode(hash);
    let moved = get(&format!("/ipns/{peer}/video/?x=/y"));
    let to = moved.header("location");
    assert_eq!(moved.status, 302);
    assert_eq!(to, Some(&*format!("/ipns/{name}/video/?x=/y")));

    let other = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8";
    for (path, status) in [
        (format!("/ipns/{other}?format=ipns-record"), 404),
        ("/routing/v1/ipns/nonsense".to_owned(), 400),
        (format!("/ipns/{name}/video?format=ipns-record"), 400),
        (format!("{}?format=ipns-record", podium.root()), 400),
    ] {
        assert_eq!(get(&path).status, status, "{path}");
    }
    // A record is what it says wherever it comes from: put into Kubo by hand, it resolves there, offline.
    let record = get(&record_at[2]).body;
    let file = dir.path().join("record");
    std::fs::write(&file, &record).unwrap();
    let key = format!("/ipns/{name}");
    kubo.run(&["routing", "put", "--allow-offline", &key, text(&file)]);
    let resolved = kubo.line(&["name", "resolve", "--offline", &key]);
    let inspected = kubo.run(&["name", "inspect", "--enc=json", text(&file)]);
    let inspected: Value = serde_json::from_slice(&inspected).unwrap();
    assert_eq!(inspected["Entry"]["Value"], resolved);

    // The sequence goes on after a power cut.
    podium.signal(rustix::process::Signal::KILL);
    podium.join();
    let podium = Podium::start(dir.path(), &Config::default());
    let answer = http::get(&format!("{}/routing/v1/ipns/{name}", podium.viewer));
    assert!(sequence(&answer.body, &kubo) >= last);
    podium.signal(rustix::process::Signal::TERM);
    podium.join();

    // The key is a copy that Kubo takes, and another box.
    let data = dir.path().join("data");
    let copy = dir.path().join("channel-copy");
    let at = |command: &'static str, file: &std::path::Path, data: &std::path::Path| {
        tests::podium(&["key", command, text(file), "--data-dir", text(data)])
    };
    let exported = at("export", &copy, &data);
    assert_eq!(
        (exported.code, exported.stdout.trim()),
        (Some(0), name.as_str())
    );
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(kubo.line(&["key", "import", "channel", text(&copy)]), name);
    let moved = dir.path().join("another");
    assert_eq!(at("import", &copy, &moved).stdout.trim(), name);
    let mode = std::fs::metadata(moved.join("channel.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let junk = dir.path().join("junk");
    std::fs::write(&junk, "junk").unwrap();
    for (command, file, data, expected) in [
        ("export", &copy, &data, "exists and is not overwritten"),
        ("import", &copy, &moved, "--replace moves it aside"),
        ("import", &junk, &dir.path().join("third"), "is broken"),
        (
            "export",
            &dir.path().join("x"),
            &dir.path().join("none"),
            "cannot read the key",
        ),
    ] {
        let refused = at(command, file, data);
        assert_eq!(refused.code, Some(2), "{command} {}", file.display());
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
    assert!(!dir.path().join("third/channel.key").exists());
}

/// A box breaks, and another one that has published under a name of its own takes over its name.
#[test]
fn a_name_moves_to_a_box_that_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let [broken, spare] = ["broken", "spare"].map(|name| dir.path().join(name));
    let copy = dir.path().join("copy");
    let publish = |dir: &std::path::Path| {
        std::fs::create_dir_all(dir).unwrap();
        let podium = Podium::start(dir, &Config::default());
        podium.go_live();
        podium.wait_for_segments(2);
        let peer = podium.status()["node"]["peer_id"].clone();
        let (name, playlist) = (podium.name(), hls::live(&podium, "video"));
        podium.signal(rustix::process::Signal::TERM);
        podium.join();
        (name, peer, playlist)
    };
    let key = |arguments: &[&str], dir: &std::path::Path| {
        let data = dir.join("data");
        tests::podium(&[&["key"], arguments, &["--data-dir", text(&data)]].concat())
    };
    let (name, broken_peer, before) = publish(&broken);
    let (own, peer, spared) = publish(&spare);
    assert_ne!(own, name);
    assert_ne!(peer, broken_peer);
    assert_eq!(key(&["export", text(&copy)], &broken).code, Some(0));

    let refused = key(&["import", text(&copy)], &spare);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let done = key(&["import", "--replace", text(&copy)], &spare);
    assert_eq!((done.code, done.stdout.trim()), (Some(0), name.as_str()));
    let aside = spare.join(format!("data/channel-{own}.key"));
    assert!(done.stderr.contains(text(&aside)), "{}", done.stderr);

    // No address means two things, and no number falls.
    let (moved, same, after) = publish(&spare);
    assert_eq!(moved, name);
    // The name moves alone: whoever is told to stay connected with this box still finds it.
    assert_eq!(same, peer);
    for earlier in [before, spared] {
        let next = earlier.media_sequence + earlier.segments.len() as u64;
        assert!(after.media_sequence >= next, "{after:?} after {earlier:?}");
    }

    let back = key(&["import", "--replace", text(&aside)], &spare);
    assert_eq!((back.code, back.stdout.trim()), (Some(0), own.as_str()));
}

#[test]
fn helia_follows_the_name_by_http_alone() {
    if !judge::have_packages() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    podium.go_live();
    podium.wait_for_segments(2);
    let number = hls::oldest(&podium);
    let file = hls::segment_path("video", number);
    let origin = podium.live(&format!("video/{number}.m4s")).body;
    let found = judge::node("helia-name.mjs", &[&podium.viewer, &podium.name(), &file]);
    assert_eq!(found["bytes"], origin.len(), "{found}");
    let hash = judge::sha256(&origin);
    assert_eq!(found["sha256"], hash, "{found}");
}

/// Helia does what Kubo does above: by each of its routes, as a follower, and as a keeper.
#[test]
fn helia_follows_by_pubsub_pins_and_has_all_when_the_box_is_gone() {
    if !judge::have_packages() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The list is long enough for whoever begins late to have all of it.
    let config = Config {
        extra: "dht = \"server\"\n[hls]\nwindow_s = 600\n".into(),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    podium.go_live();
    let (address, name) = (podium.address("/tcp/"), podium.name());
    let arguments = [&*address, &podium.viewer, &name];
    let mut helia = judge::Session::start("helia-follow.mjs", &arguments);

    // A route each, by a node that has no other. Sequences never fall, whoever is asked.
    let mut sequence = 0;
    for route in ["http", "dht", "pubsub"] {
        let found = helia.next();
        assert_eq!(found["route"], route, "{found}");
        assert!(found["value"].as_str().unwrap().starts_with("/ipfs/bafy"));
        let newer: u64 = found["sequence"].as_str().unwrap().parse().unwrap();
        // The DHT is told at most once a minute.
        assert!(
            newer >= sequence || route == "dht",
            "{found} after {sequence}"
        );
        sequence = newer.max(sequence);
    }

    // As they come, while the broadcast goes on; the rest of it and the pin after its end.
    let mut live = BTreeMap::new();
    let text_of = |value: &Value| value.as_str().unwrap().to_owned();
    let mut before = None;
    let pinned = loop {
        let found = helia.next();
        if !found["pinned"].is_null() {
            break found;
        }
        live.insert(text_of(&found["segment"]), text_of(&found["sha256"]));
        // What was there before was not followed; five more have come since, of picture and sound.
        let segments = || podium.status()["segments"].as_u64().unwrap() as usize;
        if live.len() >= 2 * (*before.get_or_insert_with(segments) + 5) && podium.state() == "live"
        {
            podium.stop();
        }
    };
    let root = podium.root();
    assert_eq!(pinned["pinned"], root);
    podium.signal(rustix::process::Signal::KILL);
    podium.join();

    helia.go_on();
    let mut kept = BTreeMap::new();
    loop {
        let found = helia.next();
        if found["end"] == true {
            break;
        }
        kept.insert(text_of(&found["file"]), text_of(&found["sha256"]));
    }
    // Each segment of the whole broadcast was read as it came, none was left out, and it is the same now.
    let segments: BTreeMap<_, _> = (kept.iter().filter(|(path, _)| path.ends_with(".m4s")))
        .map(|(path, sha256)| (path.clone(), sha256.clone()))
        .collect();
    assert_eq!(live, segments);
    let podium = Podium::start(dir.path(), &config);
    for file in ["index.m3u8", "vod.m3u8", "player.html", "video/vod.m3u8"] {
        assert!(kept.contains_key(file), "{kept:?}");
    }
    for (path, sha256) in &kept {
        let origin = http::get(&format!("{}{root}/{path}", podium.viewer));
        assert_eq!(origin.status, 200, "{path}");
        assert_eq!(judge::sha256(&origin.body), *sha256, "{path}");
    }
}
