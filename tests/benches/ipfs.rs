//! The box against the old way of streaming over IPFS brought up to date (`old-way.sh`): the same recording, at the same time, and a
//! second node that follows both by their names. Neither encodes: the box publishes the recording as it is, as `ffmpeg -c copy` does.
//! Afterwards the box's own kind of second node, `podium mirror`, follows it for a while.
//!
//! `make bench-ipfs` prints one table; the first argument is for how many seconds it measures.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tests::follow::{
    Arrival, Completed, Listed, POLL, follow, follow_mirror, gaps, of_podium, quantile, read,
};
use tests::kubo::Kubo;
use tests::proc::{self, Cost};
use tests::{Config, Mirror, Podium, Process, hls, judge, recording, wait_for};

const SECONDS: u64 = 120;
/// A segment's, which both are told.
const SEGMENT: u64 = 2;
/// Of the video.
const KBPS: u64 = 4500;
/// What is played before and after the measurement: nodes find each other, and the last segments arrive.
const MARGIN: u64 = 60;
/// For how long a mirror is watched.
const MIRRORED: u64 = 60;

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let seconds = seconds.unwrap_or(SECONDS);
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tests::on_disk();
    let node = |name: &str, peers: &[&str]| {
        Kubo::following(dir.path().join(name), Ipv4Addr::LOCALHOST, peers)
    };
    let Some(publisher) = node("publisher", &[]) else {
        return;
    };
    let input = dir.path().join("input.mp4");
    let length = seconds + MARGIN + MIRRORED;
    recording::talk(&input, length, KBPS);
    let size = std::fs::metadata(&input).expect("the recording").len();
    let bitrate = size as f64 * 8.0 / length as f64;

    let podium = Podium::start(dir.path(), &config(&input));
    let addresses = publisher.line(&["id", "-f", "<addrs>"]);
    let first = addresses.lines().next().expect("an address");
    let Some(second) = node("second", &[&podium.address("/tcp/"), first]) else {
        return;
    };

    let old = OldWay::start(&dir.path().join("old"), &input, &publisher);
    podium.go_live();
    let names = [
        podium.name(),
        publisher.line(&["id", "-f", "<id>", "--peerid-base=base36"]),
    ];
    // The first question subscribes to the name's topic.
    for name in &names {
        second.wait_for_name(name, |_| true);
    }

    let completed = Completed::watch(&podium);
    let stop = AtomicBool::new(false);
    let (sides, arrivals) = std::thread::scope(|scope| {
        let (second, stop, old, completed) = (&second, &stop, &old, &completed);
        let [ours, theirs] = names;
        let stopped = move |_: &[Arrival]| stop.load(Ordering::Relaxed);
        let followers = [
            scope.spawn(move || {
                follow(
                    second,
                    &ours,
                    |at| of_podium(second, at, completed),
                    stopped,
                )
            }),
            scope.spawn(move || follow(second, &theirs, |at| of_old_way(second, at, old), stopped)),
        ];
        let mut sides = [
            Side::new(vec![podium.pid()]),
            Side::new(vec![old.ffmpeg.id(), old.script.id(), publisher.pid()]),
        ];
        for _ in 0..seconds {
            std::thread::sleep(Duration::from_secs(1));
            sides.iter_mut().for_each(Side::look);
        }
        sides.iter_mut().for_each(Side::end);
        stop.store(true, Ordering::Relaxed);
        let arrivals = followers.map(|it| it.join().expect("a follower does not panic"));
        (sides, arrivals)
    });
    drop(old);
    let peer = podium.address("/tcp/");
    let mirror = Mirror::start(
        &dir.path().join("mirror"),
        &podium.name(),
        &["--peer", &peer],
    );
    // Until then what is new may wait for a step through what was published before.
    wait_for("all of it on the mirror", || {
        let status = mirror.status();
        (status["root"].is_string() && status["filling"] == false).then_some(())
    });
    let until = Instant::now() + Duration::from_secs(MIRRORED);
    let mirrored = follow_mirror(&mirror, &completed, || Instant::now() > until);
    print(seconds, bitrate, &sides, &arrivals, &mirrored);
}

fn config(input: &Path) -> Config {
    Config {
        capture: format!("source = \"encoded\"\nfile = \"{}\"\n", input.display()),
        extra: format!("[video]\nwidth = 1920\nheight = 1080\nbitrate_kbps = {KBPS}\n"),
        ..Config::default()
    }
}

/// `ffmpeg -c copy`, the script and their directory. Kubo is the caller's.
struct OldWay {
    ffmpeg: Process,
    script: Process,
    dir: PathBuf,
}

impl OldWay {
    fn start(dir: &Path, input: &Path, kubo: &Kubo) -> OldWay {
        std::fs::create_dir(dir).expect("a directory");
        let mut script = kubo.script(&tests::root().join("tests/benches/old-way.sh"));
        script
            .arg(dir)
            .arg(kubo.program())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log")).expect("a log"));
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-nostdin", "-re", "-i"])
            .arg(input)
            .args(["-c", "copy", "-f", "hls", "-hls_time", &SEGMENT.to_string()])
            .args("-hls_list_size 30 -hls_flags temp_file -hls_segment_type fmp4 -hls_segment_filename segment-%d.m4s live.m3u8".split(' '))
            .current_dir(dir)
            .stdout(Stdio::null());
        let script = Process::start(&mut script);
        OldWay {
            ffmpeg: Process::start(&mut ffmpeg),
            script,
            dir: dir.to_owned(),
        }
    }

    /// When ffmpeg had written the last of a segment.
    fn complete(&self, number: u64) -> Option<SystemTime> {
        let file = self.dir.join(format!("segment-{number}.m4s"));
        std::fs::metadata(file).and_then(|it| it.modified()).ok()
    }
}

/// What the old way lists. A segment is complete when ffmpeg has written it.
fn of_old_way(kubo: &Kubo, path: &str, old: &OldWay) -> Option<Listed> {
    let playlist = hls::media_playlist(&read(kubo, path)?);
    let segments = (playlist.media_sequence..).zip(&playlist.segments);
    segments
        .map(|(number, segment)| Some((number, (old.complete(number), vec![segment.uri.clone()]))))
        .collect()
}

/// What the processes of one side cost.
struct Side {
    pids: Vec<u32>,
    cost: Cost,
    /// All that are resident at a time.
    memory: Vec<u64>,
}

impl Side {
    fn new(pids: Vec<u32>) -> Side {
        Side {
            cost: Side::sum(&pids),
            pids,
            memory: Vec::new(),
        }
    }

    fn sum(pids: &[u32]) -> Cost {
        (pids.iter()).fold(Cost::default(), |sum, pid| sum + proc::cost(*pid))
    }

    fn look(&mut self) {
        self.memory
            .push(self.pids.iter().copied().map(proc::memory).sum());
    }

    fn end(&mut self) {
        self.cost = Side::sum(&self.pids) - self.cost;
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn print(
    seconds: u64,
    bitrate: f64,
    sides: &[Side; 2],
    arrivals: &[Vec<Arrival>; 2],
    mirrored: &[Arrival],
) {
    let media = bitrate / 8.0 * seconds as f64;
    println!(
        "{seconds} s of one recording, 1080p30, {:.1} Mbit/s, segments of {SEGMENT} s, published twice at the same time on {}; a Kubo \
         that follows both by IPNS over PubSub, asked every {} ms, is counted on neither side.\n\
         podium: the whole process, with source = \"encoded\". The old way: ffmpeg -c copy, the script and its `ipfs` processes, and Kubo \
         with Pubsub and without routing. Readable: the name means it, the playlist lists it, and all its bytes were read there. Complete: when the \
         box's origin lists the last part, and by the time of ffmpeg's file.",
        bitrate / 1e6,
        proc::machine(),
        POLL.as_millis(),
    );
    println!("| | podium | the old way | ratio |");
    println!("|---|---|---|---|");
    let row = |name: &str, digits: usize, of: &dyn Fn(usize) -> f64| {
        let (ours, theirs) = (of(0), of(1));
        let ratio = match theirs {
            0.0 => String::new(),
            theirs => format!("{:.3}", ours / theirs),
        };
        println!("| {name} | {ours:.digits$} | {theirs:.digits$} | {ratio} |");
    };
    row("processor time per second of stream, ms", 1, &|side| {
        sides[side].cost.cpu / seconds as f64 * 1e3
    });
    let memory = |side: usize| sides[side].memory.iter().map(|it| *it as f64 / 1e6);
    row("resident memory, median, MB", 0, &|side| {
        quantile(memory(side), 0.5)
    });
    row("resident memory, most, MB", 0, &|side| {
        quantile(memory(side), 1.0)
    });
    let named = |side: usize| arrivals[side].iter().map(|it| it.named * 1e3);
    let read = |side: usize| arrivals[side].iter().map(|it| it.read * 1e3);
    row(
        "segment complete until its name means it, median, ms",
        0,
        &|side| quantile(named(side), 0.5),
    );
    row(
        "segment complete until the second node has read it, median, ms",
        0,
        &|side| quantile(read(side), 0.5),
    );
    row("the same, 95 %, ms", 0, &|side| quantile(read(side), 0.95));
    // The old way has no other second node than Kubo.
    let second = |side: usize| match side {
        0 => mirrored.iter().map(|it| it.read * 1e3).collect::<Vec<_>>(),
        side => read(side).collect(),
    };
    row(
        "segment complete until the mirror has served it, median, ms",
        0,
        &|side| quantile(second(side), 0.5),
    );
    row("the same, 95 %, ms", 0, &|side| {
        quantile(second(side), 0.95)
    });
    row("segments read by the second node", 0, &|side| {
        arrivals[side].len() as f64
    });
    row("segments missed", 0, &|side| gaps(&arrivals[side]) as f64);
    row(
        "bytes to be written to the disk, by whole folios, per byte of media",
        2,
        &|side| sides[side].cost.written as f64 / media,
    );
    row(
        "bytes given to write(), sockets too, per byte of media",
        2,
        &|side| sides[side].cost.given as f64 / media,
    );
}
