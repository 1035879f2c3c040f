//! A Kubo follows a broadcast of the box by IPNS over PubSub for ten minutes, and reads every segment. What the box's memory makes
//! of such a follower, and how late the segments are.
//!
//! `make bench-follow` prints one table; the first argument is for how many seconds. It fails where a segment is missed, where the
//! record's sequence falls, and where ten minutes do not show that the memory levels off. Its short form is among the tests.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tests::follow::{Completed, follow, gaps, of_podium, quantile};
use tests::kubo::{Kubo, text};
use tests::{Config, Podium, http, proc};

const SECONDS: u64 = 600;
/// Of the box's memory at the beginning and the end: it goes up and down with what is under way.
const LOOKS: usize = 5;
/// The last quarter's median against the third's, in a run that is long enough to tell: caches fill in the first minutes.
const MOST_GROWTH: f64 = 1.05;
const LONG_ENOUGH: Duration = Duration::from_secs(600);

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let seconds = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let dir = tests::on_disk();
    let podium = Podium::start(dir.path(), &Config::large());
    let (repo, peers) = (dir.path().join("kubo"), [&*podium.address("/tcp/")]);
    let Some(kubo) = Kubo::following(repo, Ipv4Addr::LOCALHOST, &peers) else {
        return;
    };
    let name = podium.name();
    podium.go_live();
    kubo.wait_for_name(&name, |_| true);

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
    let arrivals = follow(
        &kubo,
        &name,
        |root| of_podium(&kubo, root, &completed),
        |arrivals| {
            if arrivals.len() > seen {
                seen = arrivals.len();
                sequences.push(sequence());
                memory.push(proc::memory(podium.pid()) as f64 / 1e6);
            }
            began.elapsed() >= seconds
        },
    );
    let cost = proc::cost(podium.pid()) - before;
    assert!(
        arrivals.len() > LOOKS,
        "only {} segments came",
        arrivals.len()
    );
    let falls = sequences.windows(2).filter(|it| it[1] < it[0]).count();
    let read = || arrivals.iter().map(|it| it.read * 1e3);
    let named = arrivals.iter().map(|it| it.named * 1e3);
    let quarter = |number: usize| {
        let looks = &memory[memory.len() * (number - 1) / 4..memory.len() * number / 4];
        quantile(looks.to_vec(), 0.5)
    };
    let growth = quarter(4) / quarter(3);
    let bytes: u64 = arrivals.iter().map(|it| it.bytes).sum();
    let rows = [
        ("segments read", arrivals.len() as f64, 0),
        ("segments missed", gaps(&arrivals) as f64, 0),
        ("times that the record's sequence fell", falls as f64, 0),
        (
            "segment complete until the name means it, median, ms",
            quantile(named, 0.5),
            0,
        ),
        (
            "segment complete until it is read, median, ms",
            quantile(read(), 0.5),
            0,
        ),
        ("the same, 95 %, ms", quantile(read(), 0.95), 0),
        ("the same, most, ms", quantile(read(), 1.0), 0),
        ("bytes read, MB", bytes as f64 / 1e6, 1),
        (
            "the box's resident memory, first segments, MB",
            quantile(memory[..LOOKS].to_vec(), 0.5),
            1,
        ),
        (
            "the same, last segments, MB",
            quantile(memory[memory.len() - LOOKS..].to_vec(), 0.5),
            1,
        ),
        (
            "its median in the last quarter against the third's",
            growth,
            3,
        ),
        (
            "the box's processor time, per cent of one core",
            cost.cpu / seconds.as_secs_f64() * 100.0,
            1,
        ),
    ];
    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    {
        println!(
            "a Kubo on the same machine ({}) follows the test picture, 720p30, segments of 2 s, for {} s by IPNS over PubSub",
            proc::machine(),
            seconds.as_secs()
        );
        println!("| | |");
        println!("|---|---|");
        for (what, value, digits) in rows {
            println!("| {what} | {value:.digits$} |");
        }
    }
    assert_eq!(gaps(&arrivals), 0, "segments are missing");
    assert_eq!(falls, 0, "the sequence fell");
    assert!(
        seconds < LONG_ENOUGH || growth <= MOST_GROWTH,
        "the box's memory goes on growing: {memory:?}"
    );
}
