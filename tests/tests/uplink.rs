//! What the box sends: held below the cap over every transport, and counted as Kubo counts what it gets.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::kubo::Kubo;
use tests::network::Network;
use tests::{Config, Podium, hls, http, wait_for};

/// The box's cap less the headers that it sets aside, in bytes a second, and what may come at once.
fn allowed(kbps: u64, time: Duration) -> f64 {
    let rate = kbps as f64 * 125.0 * 16.0 / 17.0;
    rate * (time.as_secs_f64() + 0.1) + 16384.0
}

/// Those who ask are all on this machine.
fn capped(kbps: u64) -> Config {
    Config {
        extra: format!("uplink_kbps = {kbps}\nuplink_counts_local = true\n"),
        ..Config::default()
    }
}

fn sent(podium: &Podium, to: &str) -> u64 {
    podium.status()["uplink"][format!("{to}_bytes")]
        .as_u64()
        .unwrap()
}

/// Bytes that all peers' streams have brought Kubo: its API has the number, the command line rounds it.
fn received(kubo: &Kubo) -> u64 {
    let answer = kubo.ask("stats/bw", &[]).unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    answer["TotalIn"].as_u64().unwrap()
}

#[test]
fn peers_get_no_more_than_the_cap_over_any_transport() {
    const KBPS: u64 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &capped(KBPS));
    podium.go_live();
    podium.wait_for_segments(4);
    podium.stop();
    for (index, transport) in ["/tcp/", "/quic-v1/", "/ws/"].into_iter().enumerate() {
        let Some(mut kubo) = Kubo::new(dir.path().join(format!("kubo-{index}"))) else {
            return;
        };
        kubo.start();
        let (before, since) = (sent(&podium, "peers"), Instant::now());
        kubo.run(&["swarm", "connect", &podium.address(transport)]);
        kubo.run(&["pin", "add", "--timeout=100s", &podium.root()]);
        let got = sent(&podium, "peers") - before;
        let most = allowed(KBPS, since.elapsed());
        assert!(got as f64 <= most, "{transport}: {got} of {most}");
        let size = kubo.line(&[
            "dag",
            "stat",
            "--progress=false",
            "--enc=json",
            &podium.root(),
        ]);
        let size: serde_json::Value = serde_json::from_str(&size).unwrap();
        let size = size["TotalSize"].as_u64().unwrap();
        assert!(size > 500_000, "{size}");
        wait_for("all of it to be counted", || {
            (sent(&podium, "peers") - before > size).then_some(())
        });
        wait_for("Kubo to count the same", || {
            let (sent, received) = (sent(&podium, "peers") - before, received(&kubo));
            // A ping or a record may be under way.
            (sent.abs_diff(received) < 2000).then_some(())
        });
        kubo.stop();
    }
    let metrics = http::get(&format!("{}/metrics", podium.operator)).text();
    let line = metrics
        .lines()
        .find(|line| line.starts_with("podium_peers_sent_bytes_total "));
    let counted: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(counted as u64 <= sent(&podium, "peers") && counted > 1_500_000.0);
}

/// Who asks for `format=car` or `raw` is a node. (What a player asks for is not held back: `viewers_go_first`.)
#[test]
fn blocks_over_http_are_held_back_as_those_of_peers() {
    const KBPS: u64 = 2000;
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &capped(KBPS));
    podium.go_live();
    podium.wait_for_segments(3);
    podium.stop();
    let root = podium.root();
    let since = Instant::now();
    let mut got = 0;
    for form in ["?format=car", "/player.html?format=raw"] {
        let mut bytes = 0;
        // A block is small: of one alone the burst would hide the cap.
        while bytes < 500_000 {
            let answer = http::get(&format!("{}{root}{form}", podium.viewer));
            assert_eq!(answer.status, 200);
            bytes += answer.body.len() as u64;
        }
        got += bytes;
        let most = allowed(KBPS, since.elapsed());
        assert!(got as f64 <= most, "{form}: {got} of {most}");
    }
}

#[test]
fn viewers_in_the_hall_take_nothing_of_the_uplink() {
    let Some(mut network) = Network::new(17) else {
        return;
    };
    let [host, far] = ["box", "far"].map(|name| network.host(name));
    let _link = network.link(&host, &far);
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        extra: "uplink_kbps = 64\n".into(),
        address: Some(Ipv4Addr::UNSPECIFIED),
        ..Config::default()
    };
    host.enter(|| {
        let podium = Podium::start(dir.path(), &config);
        podium.go_live();
        podium.wait_for_segments(2);
        let port = podium.viewer.rsplit(':').next().unwrap();
        let page = |address: Ipv4Addr| http::get(&format!("http://{address}:{port}/")).body.len();
        // By each of its addresses it is itself.
        let mut least = 0;
        for address in [Ipv4Addr::LOCALHOST, host.address()] {
            least += page(address) as u64;
            wait_for("neighbours to be counted", || {
                (sent(&podium, "local") > least).then_some(())
            });
        }
        assert_eq!(sent(&podium, "viewers"), 0);
        assert_eq!(podium.status()["uplink"]["used_percent"], 0);
        // Who is behind a tunnel is not here, whatever the address.
        let size = far.enter(|| page(host.address())) as u64;
        wait_for("who is far away to be counted", || {
            (sent(&podium, "viewers") > size).then_some(())
        });
    });
}

#[test]
fn viewers_go_first_and_leave_the_node_a_tenth() {
    const KBPS: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let podium = Podium::start(dir.path(), &capped(KBPS));
    podium.go_live();
    podium.wait_for_segments(3);
    podium.stop();
    let segment = format!("video/{}.m4s", hls::oldest(&podium));
    let Some(mut kubo) = Kubo::new(dir.path().join("kubo")) else {
        return;
    };
    kubo.start();
    let before = sent(&podium, "viewers");
    let body = podium.live(&segment).body.len() as u64;
    wait_for("a viewer to be counted", || {
        (sent(&podium, "viewers") > before).then_some(())
    });
    let counted = sent(&podium, "viewers") - before;
    assert!(
        counted > body && counted < body + 2000,
        "{counted} of {body}"
    );

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // More than the cap alone, all the time.
        let viewer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                podium.live(&segment);
            }
        });
        wait_for("viewers to take more than there is", || {
            (podium.status()["uplink"]["used_percent"].as_u64()? > 200).then_some(())
        });
        let (before, since) = (sent(&podium, "peers"), Instant::now());
        kubo.run(&["swarm", "connect", &podium.address("/tcp/")]);
        let pin = scope.spawn(|| kubo.run(&["pin", "add", "--timeout=300s", &podium.root()]));
        let got = wait_for("Kubo to get something even so", || {
            let got = sent(&podium, "peers") - before;
            (got > 64 << 10).then_some(got)
        });
        let most = allowed(KBPS, since.elapsed()) / 10.0 + 16384.0;
        assert!(got as f64 <= most, "{got} of {most}");
        // When they have gone it gets the rest.
        done.store(true, Ordering::Relaxed);
        viewer.join().unwrap();
        pin.join().unwrap();
    });
}
