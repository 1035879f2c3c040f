//! The box and who follows it, on machines of their own with a network between them that delays, loses and breaks.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use tests::follower::{HEAD, Kind, Scene, row};
use tests::network::{Host, Link, Network};
use tests::{Config, PATIENCE, Podium, hls, http, judge, wait_for};

/// Sends so many datagrams to `to`, in batches that no queue of the kernel is too short for, and waits for the relay to have
/// dealt with each. Returns how many have arrived.
fn datagrams(link: &Link, from: &Host, to: &Host, count: u64) -> u64 {
    let receiver = to.enter(|| UdpSocket::bind((to.address(), 0)).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = from.enter(|| UdpSocket::bind((from.address(), 0)).unwrap());
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    let before = link.counters();
    let mut received = 0;
    for begin in (0..count).step_by(50) {
        let end = count.min(begin + 50);
        for n in begin..end {
            sender.send(&n.to_be_bytes()).unwrap();
        }
        wait_for("the relay", || {
            (link.counters().all() - before.all() == end).then_some(())
        });
        let arrived = link.counters().arrived - before.arrived;
        for _ in received..arrived {
            receiver.recv(&mut [0; 8]).unwrap();
        }
        received = arrived;
    }
    receiver.set_nonblocking(true).unwrap();
    assert!(
        receiver.recv(&mut [0; 8]).is_err(),
        "more than was let through"
    );
    received
}

#[test]
fn delay_loss_and_partition_are_what_the_link_is_told() {
    let Some(mut network) = Network::new(7) else {
        return;
    };
    let [a, b, alone] = ["a", "b", "alone"].map(|name| network.host(name));
    let link = network.link(&a, &b);
    let delay = Duration::from_millis(40);
    link.delay(delay);

    // A connection is a round trip, and so is each answer.
    let listener = b.enter(|| TcpListener::bind((b.address(), 0)).unwrap());
    let there = listener.local_addr().unwrap();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 65536];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).unwrap();
        }
    });
    let begun = Instant::now();
    let mut stream = a.enter(|| TcpStream::connect(there).unwrap());
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());
    let begun = Instant::now();
    stream.write_all(b"ping").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    assert!(begun.elapsed() >= 2 * delay, "{:?}", begun.elapsed());

    // Half a megabyte there and back arrives whole, though some of its packets do not.
    link.delay(Duration::from_millis(5)).loss(0.05);
    let sent: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = stream.try_clone().unwrap();
    let payload = sent.clone();
    let writer = std::thread::spawn(move || writer.write_all(&payload).unwrap());
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    writer.join().unwrap();
    assert!(back == sent);
    assert!(link.counters().lost > 0, "{:?}", link.counters());
    drop(stream);
    echo.join().unwrap();

    // Datagrams do not come again. The connection's last packets are waited for by who closed it, so the counting is done on
    // hosts that say nothing else.
    let [c, d] = ["c", "d"].map(|name| network.host(name));
    let link = network.link(&c, &d);
    assert_eq!(datagrams(&link, &c, &d, 100), 100);
    link.loss(0.2);
    let received = datagrams(&link, &c, &d, 1000);
    let lost = link.counters().lost;
    assert_eq!(received + lost, 1000);
    assert!((150..250).contains(&lost), "{lost} of 1000");
    link.loss(0.0);
    let partition = link.partition();
    assert_eq!(datagrams(&link, &c, &d, 20), 0);
    assert_eq!(link.counters().cut, 20);
    drop(partition);
    assert_eq!(datagrams(&link, &d, &c, 20), 20);
    // 36 bytes at 100 kbit/s take 2.88 ms.
    link.rate(Some(100_000));
    let begun = Instant::now();
    assert_eq!(datagrams(&link, &c, &d, 50), 50);
    assert!(begun.elapsed() >= 50 * Duration::from_micros(2880));

    // Who is not linked is not reached: what was sent later has arrived by then.
    let before = link.counters();
    let link_to_a = network.link(&alone, &a);
    alone.enter(|| {
        let socket = UdpSocket::bind((alone.address(), 0)).unwrap();
        socket.send_to(b"hello", (d.address(), 9)).unwrap();
    });
    assert_eq!(datagrams(&link_to_a, &alone, &a, 1), 1);
    assert_eq!(link.counters(), before);
}

/// It has started before its cable was put in, or DHCP has answered.
#[test]
fn the_box_tells_the_addresses_that_it_has_now() {
    let Some(mut network) = Network::new(5) else {
        return;
    };
    let host = network.host("box");
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        address: Some(Ipv4Addr::UNSPECIFIED),
        ..Config::default()
    };
    let podium = host.enter(|| Podium::start(dir.path(), &config));
    let id = podium.ready["peer_id"].as_str().unwrap();
    let url = format!("{}/routing/v1/peers/{id}", podium.viewer);
    let wait_for_address = |address: Ipv4Addr, there: bool| {
        wait_for(&format!("{address} told = {there}"), || {
            let told = host.enter(|| http::get(&url).text());
            let each = ["tcp", "udp"].map(|kind| told.contains(&format!("/ip4/{address}/{kind}/")));
            (each == [there; 2]).then_some(())
        });
    };
    let later = Ipv4Addr::new(192, 168, 77, 7);
    wait_for_address(host.address(), true);
    wait_for_address(later, false);
    let cable = network.cable(&host, later);
    wait_for_address(later, true);
    drop(cable);
    wait_for_address(later, false);
    wait_for_address(host.address(), true);

    // So do the panel and the operator's page, which say it where there is none.
    let port = podium.viewer.rsplit(':').next().unwrap();
    let wait_for_panel = |address: Ipv4Addr, network: bool| {
        let url = format!("http://{address}:{port}/");
        wait_for(&format!("{url}, network = {network}"), || {
            let status = host.enter(|| podium.status());
            let down = status["health"]["action"][0] == "No network";
            (status["network"]["watch_url"] == url && down != network).then_some(())
        });
    };
    wait_for_panel(host.address(), true);
    let cable = network.cable(&host, later);
    host.unplug();
    wait_for_panel(later, true);
    drop(cable);
    wait_for_panel(later, false);
}

/// The loopback and nothing else: no route, so nobody to ask for a name, and no address that others could reach.
#[test]
fn without_any_network_it_is_seen_and_found_on_the_box_itself() {
    let Some(mut network) = Network::new(11) else {
        return;
    };
    let host = network.host("box");
    host.unplug();
    let dir = tempfile::tempdir().unwrap();
    // As a box is, with a mirror that it would dial.
    let mirror =
        "/dns4/mirror.example/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    let config = Config {
        mdns: true,
        address: Some(Ipv4Addr::UNSPECIFIED),
        extra: format!("peers = [\"{mirror}\"]\n"),
        ..Config::default()
    };
    host.enter(|| {
        let neighbour = (Ipv4Addr::from_bits(host.address().to_bits() + 1), 9);
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let error = socket.connect(neighbour).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);

        let podium = Podium::start(dir.path(), &config);
        podium.go_live();
        podium.wait_for_segments(2);
        let viewer = podium.viewer.replace("0.0.0.0", "127.0.0.1");
        if judge::have_chromium() {
            let screenshot = dir.path().join("watch.png");
            let screenshot = screenshot.to_str().unwrap();
            let page = judge::node("watch.mjs", &[&viewer, screenshot, "8"]);
            assert_eq!(page["played"], true, "{page}");
            assert_eq!(page["page_errors"], serde_json::json!([]), "{page}");
        }
        let name = podium.name();
        let listed = http::get(&format!("{viewer}/ipns/{name}/video/live.m3u8"));
        assert_eq!(listed.status, 200);
        assert!(hls::media_playlist(&listed.body).segments.len() >= 2);
        let record = http::get(&format!("{viewer}/routing/v1/ipns/{name}"));
        let kind = record.header("content-type");
        assert_eq!(kind, Some("application/vnd.ipfs.ipns-record"));
        assert!(!record.body.is_empty());
    });
}

/// Segments that the box makes while the others are cut off from it.
const MISSED: u64 = 6;

#[test]
fn kubo_has_all_of_it_after_a_partition_over_tcp() {
    catches_up(Kind::Kubo, "/tcp/");
}

#[test]
fn kubo_has_all_of_it_after_a_partition_over_quic() {
    catches_up(Kind::Kubo, "/quic-v1");
}

#[test]
fn a_mirror_has_all_of_it_after_a_partition_over_tcp() {
    catches_up(Kind::Mirror, "/tcp/");
}

#[test]
fn a_mirror_has_all_of_it_after_a_partition_over_quic() {
    catches_up(Kind::Mirror, "/quic-v1");
}

/// Everything below `root` as its gateway sends it: blocks of playlists, directories and media, in one order.
fn tree(host: &Host, gateway: &str, root: &str) -> Vec<u8> {
    let url = format!("{gateway}{root}?format=car&car-dups=n");
    let answer = host.enter(|| http::get(&url));
    assert_eq!(answer.status, 200, "{url}");
    answer.body
}

fn catches_up(kind: Kind, transport: &str) {
    let Some(scene) = Scene::start(kind, transport, 5) else {
        return;
    };
    let (podium, viewer) = (&scene.podium, &scene.viewer);
    let on_box = &scene.boxed;
    let segments = || on_box.enter(|| podium.status()["segments"].as_u64().unwrap());
    let gateway = scene.mirror.enter(|| scene.follower.gateway());

    let delays = scene.delays(|read| read >= 5);
    // All but the first, which may have been complete before anybody looked.
    assert!(delays.len() >= 4, "{delays:?}");
    let row = row(&format!("{kind:?}, {transport}"), &delays);
    #[expect(clippy::print_stdout, reason = "what was measured is kept")]
    {
        println!("{HEAD}\n{row}");
    }
    let root = scene.catch_up();
    let own = tree(on_box, &podium.viewer, &root);
    scene.mirror.enter(|| scene.follower.keep(&root));

    std::thread::scope(|scope| {
        // A player of the box's own stream, through all of it.
        let seconds = 2 * MISSED as u32 + 12;
        let player = judge::have("ffmpeg").then(|| {
            let begun = scene.box_to_viewer.counters().arrived;
            let url = format!("{}/live/index.m3u8", podium.viewer);
            let player = scope.spawn(move || viewer.enter(|| judge::decode(&url, Some(seconds))));
            wait_for("the player to fetch segments", || {
                let arrived = scene.box_to_viewer.counters().arrived - begun;
                (arrived > 200).then_some(())
            });
            player
        });
        let links = [&scene.box_to_mirror, &scene.box_to_viewer];
        let partitions = links.map(Link::partition);
        let counted = links.map(Link::counters);
        let before = segments();
        // What the follower has, it serves.
        assert!(tree(&scene.mirror, &gateway, &root) == own);
        on_box.enter(|| podium.wait_for_segments(before + MISSED));
        for (link, counted) in links.iter().zip(counted) {
            let now = link.counters();
            assert!(counted.lost > 0 && now.cut > counted.cut, "{now:?}");
            assert_eq!(now.arrived, counted.arrived);
        }
        drop(partitions);
        scene.catch_up();
        if let Some(player) = player {
            // It has shown more than there was before the cut, so it went on by itself. It may say that it could not connect
            // meanwhile (this one leaves a segment out then, and has no option to ask again), and nothing else.
            let shown = player.join().unwrap();
            assert!(shown.seconds > f64::from(seconds) - 0.2, "{shown:?}");
            let mut said = shown.complaints.lines().filter(|line| {
                let unreachable = ["[tcp @", "Failed to open segment", "Failed to reload"];
                !unreachable.iter().any(|it| line.contains(it))
            });
            assert_eq!(said.next(), None);
        }
    });

    on_box.enter(|| podium.stop());
    let finished = scene.root();
    scene.wait_for_root(&finished);
    scene.mirror.enter(|| scene.follower.keep(&finished));
    let _gone = [&scene.box_to_mirror, &scene.box_to_viewer].map(Link::partition);
    // By the follower's own word, and to a viewer whose way to it is no better.
    let whole = tree(on_box, &podium.viewer, &finished);
    assert!(tree(&scene.mirror, &gateway, &finished) == whole);
    let vod = format!("{gateway}{finished}/video/vod.m3u8");
    let vod = hls::media_playlist(&viewer.enter(|| http::get(&vod)).body);
    assert!(vod.end_list);
    assert_eq!(vod.segments.len() as u64, segments());
    if judge::have("ffmpeg") {
        let whole = format!("{gateway}{finished}/vod.m3u8");
        let decoded = viewer.enter(|| judge::decode(&whole, None));
        decoded.check(hls::seconds(&vod));
    }
}
