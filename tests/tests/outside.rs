//! The stream from outside: gateways and peers are asked whether they have it, and the box says what they answer.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use rustix::process::Signal;
use serde_json::Value;
use tests::kubo::Kubo;
use tests::{Config, Mirror, Podium, artifact, http, judge, private_swarm, wait_for};

/// A gateway that answers every request with this; returns its address.
fn gateway(answer: impl Fn(&str) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..read]).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/");
            let _ = stream.write_all(answer(path).as_bytes());
        }
    });
    base
}

fn witness(podium: &Podium, name: &str) -> Value {
    let outside = podium.status()["outside"]["witnesses"].clone();
    let mut found = outside.as_array().unwrap().iter();
    let found = found.find(|it| it["name"].as_str().unwrap() == name);
    found.cloned().unwrap_or_default()
}

fn peer_id(kubo: &Kubo) -> String {
    kubo.line(&["id", "--format=<id>"])
}

#[test]
fn gateways_and_peers_are_asked_for_the_newest_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (Some(mut near), Some(mut alone), Some(mut idle)) = (
        Kubo::new(dir.path().join("near")),
        Kubo::new(dir.path().join("alone")),
        Kubo::new(dir.path().join("idle")),
    ) else {
        return;
    };
    near.start();
    alone.start();
    idle.start();
    let lies = gateway(|_| {
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\njunk".to_owned()
    });
    let to = near.gateway();
    let moved = gateway(move |path| {
        format!(
            "HTTP/1.1 302 Found\r\nlocation: {to}{path}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
    });
    let gateways = [near.gateway(), alone.gateway(), lies.clone(), moved.clone()];
    let config = Config {
        extra: format!("check = {}\n", serde_json::to_string(&gateways).unwrap()),
        ..Config::default()
    };
    let podium = Podium::start(dir.path(), &config);
    assert_eq!(
        podium.status()["outside"]["summary"],
        Value::Null,
        "off air"
    );
    let address = podium.address("/tcp/");
    near.run(&["swarm", "connect", &address]);
    podium.go_live();

    for (name, error) in [(&gateways[1], "no answer in 10 s"), (&lies, "wrong bytes")] {
        let found = wait_for(name, || {
            let found = witness(&podium, name);
            (found["seen"] == false).then_some(found)
        });
        assert_eq!(found["error"], error, "{found}");
        assert_eq!(found["sequence"], Value::Null, "{found}");
    }
    for name in [&gateways[0], &moved] {
        let found = wait_for(name, || {
            let found = witness(&podium, name);
            (found["seen"] == true && found["sequence"].as_u64()? >= 2).then_some(found)
        });
        assert!(found["behind_ms"].as_u64().is_some(), "{found}");
    }
    let summary = wait_for("two of four", || {
        let summary = podium.status()["outside"]["summary"].clone();
        (summary["seen"] == 2).then_some(summary)
    });
    assert_eq!(summary["of"], 4, "{summary}");
    let metrics = http::get(&format!("{}/metrics", podium.operator)).text();
    assert!(metrics.contains("\npodium_checks 4\n"), "{metrics}");

    // A peer that has asked for nothing has nothing, though it is connected with the box, which has it.
    idle.run(&["swarm", "connect", &address]);
    let found = wait_for("a peer that has nothing", || {
        let found = witness(&podium, &peer_id(&idle));
        (found["seen"] == false).then_some(found)
    });
    assert_eq!(found["error"], "not had in 10 s", "{found}");
    assert!(
        found["agent"].as_str().unwrap().starts_with("kubo/"),
        "{found}"
    );
    assert!(
        found["address"]
            .as_str()
            .unwrap()
            .ends_with(&peer_id(&idle))
    );

    if judge::have_packages() {
        let picture = artifact("outside.png");
        let arguments = [
            podium.operator.as_str(),
            picture.to_str().unwrap(),
            "1280",
            "2400",
            "--until",
            "#witnesses li",
        ];
        let sent = || podium.status()["uplink"]["peers_bytes"].as_f64().unwrap();
        let before = sent();
        let page = judge::node("page.mjs", &arguments);
        let text = page["text"].as_str().unwrap();
        // `peers 102 kB, now 49 kb/s`, to its last digit.
        let shown = text.split_once("; peers ").unwrap().1;
        let (value, unit) = shown.split(',').next().unwrap().split_once(' ').unwrap();
        let unit = match unit {
            "kB" => 1e3,
            "MB" => 1e6,
            _ => panic!("{text}"),
        };
        let shown = value.parse::<f64>().unwrap() * unit;
        let bounds = before * 0.99..=sent() * 1.01;
        assert!(bounds.contains(&shown), "{shown} of {bounds:?}");
        for expected in [
            "Seen by ",
            "wrong bytes",
            "not had in 10 s",
            "kubo/",
            "signed ",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert_eq!(page["overflows"], false, "{page}");
    }

    // A gateway that is gone keeps what it had, and falls behind.
    near.stop();
    let found = wait_for("the end of a gateway", || {
        let found = witness(&podium, &gateways[0]);
        (found["seen"] == false).then_some(found)
    });
    assert_eq!(found["error"], "cannot be reached", "{found}");
    assert!(found["sequence"].as_u64().is_some(), "{found}");
    podium.stop();
    wait_for("nobody to be asked off air", || {
        let status = podium.status();
        let witnesses = status["outside"]["witnesses"].as_array()?.clone();
        (status["outside"]["summary"].is_null() && witnesses.iter().all(|it| it["seen"].is_null()))
            .then_some(())
    });
}

#[test]
fn a_peer_that_follows_has_the_newest_segment() {
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &Config::default());
    let (repo, peers) = (dir.path().join("kubo"), [&*podium.address("/tcp/")]);
    let Some(kubo) = Kubo::following(repo, Ipv4Addr::LOCALHOST, &peers) else {
        return;
    };
    podium.go_live();
    let name = podium.name();
    kubo.wait_for_name(&name, |_| true);
    let found = wait_for("a peer that has the newest", || {
        kubo.run(&["refs", "--recursive", "--timeout=60s", &podium.root()]);
        let found = witness(&podium, &peer_id(&kubo));
        (found["seen"] == true).then_some(found)
    });
    assert_eq!(found["kind"], "peer", "{found}");
    let record = podium.status()["outside"]["record"].clone();
    assert_eq!(record["listeners"], 1, "{record}");
    assert!(record["age_ms"].as_u64().unwrap() < 60_000, "{record}");
    assert_eq!(record["http_ms"], Value::Null, "{record}");
    http::get(&format!("{}/routing/v1/ipns/{name}", podium.viewer));
    wait_for("the record to be asked for", || {
        podium.status()["outside"]["record"]["http_ms"].as_u64()
    });
}

/// In a private swarm, where what asks needs the key, too.
#[test]
fn a_mirror_is_asked_by_its_address_and_falls_behind_when_it_stands_still() {
    let dir = tempfile::tempdir().unwrap();
    let private = private_swarm(dir.path(), "7a");
    let with = |more: &str| Config {
        extra: format!("{private}{more}"),
        ..Config::default()
    };
    // A mirror needs the box's name, and the box its mirror's address.
    let podium = Podium::start(dir.path(), &with(""));
    let name = podium.name();
    podium.signal(Signal::TERM);
    assert_eq!(podium.join().code, Some(0));
    let mirror = Mirror::start_with(&private, &dir.path().join("mirror"), &name, &[]);
    let address = mirror.ready["listen"][0].as_str().unwrap().to_owned();
    let id = address.rsplit('/').next().unwrap();
    let podium = Podium::start(dir.path(), &with(&format!("peers = [\"{address}\"]\n")));
    podium.go_live();
    let seen = |expected: bool, after: u64| {
        wait_for(&format!("seen = {expected} of the mirror"), || {
            let found = witness(&podium, id);
            let sequence = found["sequence"].as_u64()?;
            (found["seen"] == expected && sequence >= after).then_some(found)
        })
    };
    let found = seen(true, 2);
    assert_eq!(found["kind"], "mirror", "{found}");
    mirror.signal(Signal::STOP);
    let found = seen(false, 0);
    let had = found["sequence"].as_u64().unwrap();
    assert!(found["behind_ms"].as_u64().unwrap() > 0, "{found}");
    mirror.signal(Signal::CONT);
    seen(true, had + 1);
}
