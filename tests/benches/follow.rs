//! A Kubo, a Helia and a mirror follow a broadcast of the box by IPNS over PubSub for ten minutes, and read every segment. How late
//! the segments are there, and what the box's memory makes of such followers.
//!
//! `make bench-follow` prints one table of them and one of the box; the first argument is for how many seconds. It fails where a
//! segment is missed, where the record's sequence falls, and where ten minutes do not show that the memory levels off. Its short form
//! is among the tests.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::follow::{
    Arrival, Completed, follow, follow_helia, follow_mirror, gaps, of_podium, quantile,
};
use tests::judge::{self, Session};
use tests::kubo::{Kubo, text};
use tests::{Config, Mirror, Podium, hls, http, proc};

const SECONDS: u64 = 600;
/// Of the box's memory at the beginning and the end: it goes up and down with what is under way.
const LOOKS: usize = 5;
/// The last quarter's median against the third's, in a run that is long enough to tell: caches fill in the first minutes.
const MOST_GROWTH: f64 = 1.05;
const LONG_ENOUGH: Duration = Duration::from_secs(600);

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let seconds = Duration::from_secs(seconds.unwrap_or(SECONDS));
    if !judge::have_packages() {
        return;
    }
    let dir = tests::on_disk();
    // Helia asks the DHT, too, before it follows.
    let config = Config {
        extra: "dht = \"server\"\n".into(),
        ..Config::large()
    };
    let podium = Podium::start(dir.path(), &config);
    let peer = podium.address("/tcp/");
    let repo = dir.path().join("kubo");
    let Some(kubo) = Kubo::following(repo, Ipv4Addr::LOCALHOST, &[&peer]) else {
        return;
    };
    let name = podium.name();
    let mirror = Mirror::start(&dir.path().join("mirror"), &name, &["--peer", &peer]);
    podium.go_live();
    kubo.wait_for_name(&name, |_| true);
    mirror.wait_for_segment(hls::oldest(&podium) + 1);
    let helia = Session::start("helia-follow.mjs", &[&peer, &podium.viewer, &name]);
    while helia.next()["route"] != "pubsub" {}

    let record = dir.path().join("record");
    let sequence = || {
        let url = format!("{}/routing/v1/ipns/{name}", podium.viewer);
        std::fs::write(&record, http::get(&url).body).expect("the record can be written");
        let found = kubo.run(&["name", "inspect", "--enc=json", text(&record)]);
        let found: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
        found["Entry"]["Sequence"].as_u64().expect("a sequence")
    };
    let (began, mut seen, mut sequences) = (Instant::now(), 0, vec![sequence()]);
    let mut memory = Vec::new();
    let completed = Completed::watch(&podium);
    let before = proc::cost(podium.pid());
    let over = AtomicBool::new(false);
    let arrivals = std::thread::scope(|scope| {
        let (over, completed, mirror) = (&over, &completed, &mirror);
        let is_over = move || over.load(Ordering::Relaxed);
        let others = [
            scope.spawn(move || follow_helia(&helia, completed, is_over)),
            scope.spawn(move || follow_mirror(mirror, completed, is_over)),
        ];
        let list = |root: &str| of_podium(&kubo, root, completed);
        let of_kubo = follow(&kubo, &name, list, |arrivals| {
            if arrivals.len() > seen {
                seen = arrivals.len();
                sequences.push(sequence());
                memory.push(proc::memory(podium.pid()) as f64 / 1e6);
            }
            let enough = began.elapsed() >= seconds;
            over.store(enough, Ordering::Relaxed);
            enough
        });
        let [of_helia, of_mirror] = others.map(|it| it.join().expect("it does not panic"));
        [
            ("Kubo", of_kubo),
            ("Helia", of_helia),
            ("podium mirror", of_mirror),
        ]
    });
    let cost = proc::cost(podium.pid()) - before;
    for (who, arrivals) in &arrivals {
        let count = arrivals.len();
        assert!(count > LOOKS, "only {count} segments came to {who}");
    }
    let falls = sequences.windows(2).filter(|it| it[1] < it[0]).count();
    let quarter = |number: usize| {
        let looks = &memory[memory.len() * (number - 1) / 4..memory.len() * number / 4];
        quantile(looks.to_vec(), 0.5)
    };
    let growth = quarter(4) / quarter(3);
    let rows = [
        ("times that the record's sequence fell", falls as f64, 0),
        (
            "resident memory, first segments, MB",
            quantile(memory[..LOOKS].to_vec(), 0.5),
            1,
        ),
        ("the same, median of the first quarter, MB", quarter(1), 1),
        ("the same, median of the last quarter, MB", quarter(4), 1),
        ("the last quarter's against the third's", growth, 3),
        (
            "processor time, per cent of one core",
            cost.cpu / seconds.as_secs_f64() * 100.0,
            1,
        ),
    ];
    #[expect(clippy::print_stdout, reason = "a benchmark prints its tables")]
    {
        println!(
            "three nodes on the same machine ({}) follow the test picture, 720p30, segments of 2 s, for {} s by IPNS over PubSub; from \
             segment complete until the name means it (the mirror lists it), and until it is read",
            proc::machine(),
            seconds.as_secs()
        );
        println!("| follower | segments | missed | MB | named, p50 | read, p50 | p95 | max |");
        println!("|---|---|---|---|---|---|---|---|");
        for (who, arrivals) in &arrivals {
            println!("{}", row(who, arrivals));
        }
        println!("\n| the box | |\n|---|---|");
        for (what, value, digits) in rows {
            println!("| {what} | {value:.digits$} |");
        }
    }
    for (who, arrivals) in &arrivals {
        assert_eq!(gaps(arrivals), 0, "{who} has missed segments");
    }
    assert_eq!(falls, 0, "the sequence fell");
    assert!(
        seconds < LONG_ENOUGH || growth <= MOST_GROWTH,
        "the box's memory goes on growing: {memory:?}"
    );
}

/// A follower's row. Nobody asks a Helia when the name means something.
fn row(who: &str, arrivals: &[Arrival]) -> String {
    let (count, missed) = (arrivals.len(), gaps(arrivals));
    let megabytes = arrivals.iter().map(|it| it.bytes).sum::<u64>() as f64 / 1e6;
    let ms = |share: f64, of: fn(&Arrival) -> f64| {
        let ms = quantile(arrivals.iter().map(of), share) * 1e3;
        match ms.is_nan() {
            true => String::new(),
            false => format!("{ms:.0} ms"),
        }
    };
    let named = ms(0.5, |it| it.named);
    let [p50, p95, max] = [0.5, 0.95, 1.0].map(|share| ms(share, |it| it.read));
    format!("| {who} | {count} | {missed} | {megabytes:.1} | {named} | {p50} | {p95} | {max} |")
}
