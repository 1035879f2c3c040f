//! What the box costs without its encoder, stage by stage: the real process, with the processor time of its threads by their names.
//!
//! Each input is a recording at the speed of the clock. What the box does for viewers is the difference between ten of them and none.
//! What its heap holds is told apart by the same threads, in a run of its own, since counting that takes time.
//! `make bench-cost` prints two tables; the first argument is for how many seconds each of its numbers is measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tests::heap::Heap;
use tests::proc::{self, Threads};
use tests::{Config, Podium, judge, recording, wait_for};

const SECONDS: u64 = 30;
const VIEWERS: usize = 10;
/// Of the video.
const KBPS: u64 = 5000;
/// After something has begun: what comes once is over.
const SETTLE: Duration = Duration::from_secs(6);
/// Until the segments that are kept for viewers are as many as they become.
const FILLED: Duration = Duration::from_secs(30);
/// Pictures a second.
const RATE: u64 = 30;
/// Of a recording that is played in a loop. Raw, it has 124 MB a second, which stay in the page cache.
const LOOP: u64 = 2;

/// How much slower one core of a Raspberry Pi 4 is, as an estimate: see `PI_SOURCE`.
const PI_FACTOR: f64 = 4.0;
const PI_SOURCE: &str = "by 7-Zip (one thread, per processor time) this machine is 2.7 times a core of a Raspberry Pi 4 at 1.8 GHz, by memcpy \
     3.4 times (8.0 GB/s against sbc-bench's 2.2 to 2.6; its 7-Zip is 5700 MIPS on four cores, \
     github.com/ThomasKaiser/sbc-bench, Results.md), and NEON is narrower; four is taken";

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let seconds = seconds.unwrap_or(SECONDS);
    if !judge::have("ffmpeg") {
        return;
    }
    let dir = tests::on_disk();
    let inputs = INPUTS.map(|input| {
        let file = input.make(dir.path(), seconds);
        let finding = measure(&dir.path().join(input.name), &input, &file, seconds);
        std::fs::remove_file(file).expect("it was made");
        finding
    });
    tell(seconds, &inputs);
}

/// What the box gets.
#[derive(Debug, Clone, Copy)]
struct Input {
    name: &'static str,
    what: &'static str,
    source: &'static str,
    /// For ffmpeg; not used for what is encoded already, which `recording::talk` makes.
    encoding: &'static str,
}

const INPUTS: [Input; 4] = [
    Input {
        name: "yuy2",
        what: "YUY2",
        source: "file",
        encoding: "-c:v rawvideo -pix_fmt yuyv422 -colorspace bt709 -color_primaries bt709 -color_trc bt709 -c:a pcm_s16le -f matroska",
    },
    Input {
        name: "yuy2-601",
        what: "YUY2 that says BT.601",
        source: "file",
        encoding: "-c:v rawvideo -pix_fmt yuyv422 -colorspace smpte170m -color_primaries bt709 -color_trc iec61966-2-1 -c:a pcm_s16le -f matroska",
    },
    Input {
        name: "mjpeg",
        what: "MJPEG",
        source: "file",
        encoding: "-c:v mjpeg -q:v 4 -pix_fmt yuvj422p -c:a pcm_s16le -f matroska",
    },
    Input {
        name: "encoded",
        what: "H.264 and AAC",
        source: "encoded",
        encoding: "",
    },
];

impl Input {
    /// A talk, 1080p30, and its sound.
    fn make(&self, dir: &Path, seconds: u64) -> PathBuf {
        let file = dir.join(format!("{}.recording", self.name));
        if self.source == "encoded" {
            // It is not played in a loop: two measurements, three settlings, and some time to start.
            recording::talk(&file, 2 * seconds + 3 * SETTLE.as_secs() + 30, KBPS);
            return file;
        }
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-stream_loop", "-1", "-i"])
            .arg(tests::root().join("tests/media/talk.mp4"))
            .args(["-t", &LOOP.to_string()])
            .args("-vf scale=1920:1080,fps=30 -ar 48000 -ac 2".split(' '))
            .args(self.encoding.split(' '))
            .arg(&file)
            .status();
        assert!(done.expect("ffmpeg").success());
        file
    }
}

/// Shares of one core.
#[derive(Debug)]
struct Finding {
    input: Input,
    /// Off air, by thread.
    idle: BTreeMap<String, f64>,
    /// On air, by thread.
    live: BTreeMap<String, f64>,
    /// On air, by the kernel's count for the whole process.
    process: f64,
    /// With ten viewers, by thread.
    watched: BTreeMap<String, f64>,
    /// What the kernel takes to copy each picture once.
    copied: f64,
    /// Bytes that these got, a second.
    viewed: f64,
    memory: Memory,
    /// What the box says of itself: one that had no time for every picture did less than it should.
    health: String,
}

/// Bytes.
#[derive(Debug)]
struct Memory {
    /// Resident off air, on air, and with ten viewers.
    resident: [f64; 3],
    /// Of what is resident on air, the program and its libraries.
    program: f64,
    /// The heap on air, by thread.
    live: BTreeMap<String, f64>,
    /// With ten viewers, by thread.
    watched: BTreeMap<String, f64>,
}

/// A box that is not on air yet, but has a picture.
fn start(dir: &Path, input: &Input, file: &Path, heap: Option<&Heap>) -> Podium {
    std::fs::create_dir(dir).expect("a directory");
    let config = Config {
        environment: heap.into_iter().flat_map(Heap::environment).collect(),
        capture: format!(
            "source = \"{}\"\nfile = \"{}\"\n",
            input.source,
            file.display()
        ),
        extra: format!(
            "[video]\nwidth = 1920\nheight = 1080\nbitrate_kbps = {KBPS}\nx264_preset = \"ultrafast\"\n"
        ),
        ..Config::default()
    };
    let podium = Podium::start(dir, &config);
    wait_for("a picture", || {
        (podium.status()["input"]["signal"] == "ok").then_some(())
    });
    podium
}

fn measure(dir: &Path, input: &Input, file: &Path, seconds: u64) -> Finding {
    let podium = start(dir, input, file, None);
    let (idle, _) = spend(&podium, seconds);
    podium.go_live();
    let (live, process) = spend(&podium, seconds);
    let (watched, viewed) = with_viewers(&podium, |bytes| {
        let before = bytes.load(Ordering::Relaxed);
        let (watched, _) = spend(&podium, seconds);
        let got = bytes.load(Ordering::Relaxed) - before;
        (watched, got as f64 / (seconds + SETTLE.as_secs()) as f64)
    });
    let status = podium.status();
    assert_eq!(status["state"]["word"], "live", "{}", input.what);
    // Slate would cost less than pictures.
    assert_eq!(status["input"]["signal"], "ok", "{}", input.what);
    // The next one has the machine for itself, too.
    drop(podium);
    Finding {
        input: *input,
        idle,
        live,
        process,
        watched,
        copied: copy(file, input),
        viewed,
        memory: memory(&dir.join("counted"), input, file),
        health: status["health"].to_string(),
    }
}

/// Of a box whose heap is counted.
fn memory(dir: &Path, input: &Input, file: &Path) -> Memory {
    let counter = tempfile::tempdir().expect("a directory");
    let heap = Heap::new(counter.path());
    let podium = start(dir, input, file, Some(&heap));
    let resident = || proc::memory(podium.pid()) as f64;
    std::thread::sleep(SETTLE);
    let off_air = resident();
    podium.go_live();
    std::thread::sleep(FILLED);
    let (on_air, live) = (resident(), heap.held());
    let program = proc::program(podium.pid()) as f64;
    let (watched, with_viewers) = with_viewers(&podium, |_| (heap.held(), resident()));
    Memory {
        resident: [off_air, on_air, with_viewers],
        program,
        live,
        watched,
    }
}

/// Does something while ten viewers watch, who have settled. It is told how many bytes they have got.
fn with_viewers<T>(podium: &Podium, then: impl FnOnce(&AtomicU64) -> T) -> T {
    let (stop, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for rendition in ["video", "audio"] {
            for _ in 0..VIEWERS {
                scope.spawn(|| watch(&podium.viewer, rendition, &stop, &bytes));
            }
        }
        std::thread::sleep(SETTLE);
        let done = then(&bytes);
        stop.store(true, Ordering::Relaxed);
        done
    })
}

/// Shares of a core that each thread and the whole process take, when what was begun before has settled.
fn spend(podium: &Podium, seconds: u64) -> (BTreeMap<String, f64>, f64) {
    std::thread::sleep(SETTLE);
    let before = proc::cost(podium.pid()).cpu;
    let mut threads = Threads::new(podium.pid());
    for _ in 0..2 * seconds {
        std::thread::sleep(Duration::from_millis(500));
        threads.look();
    }
    let share = |time: f64| time / seconds as f64;
    let spent = (threads.spent.into_iter()).map(|(name, time)| (name, share(time)));
    (
        spent.collect(),
        share(proc::cost(podium.pid()).cpu - before),
    )
}

/// Follows a rendition as hls.js does: blocking reloads of compressed delta updates, and every part.
fn watch(viewer: &str, rendition: &str, stop: &AtomicBool, bytes: &AtomicU64) {
    let agent = ureq::Agent::new_with_defaults();
    let get = |url: &str| {
        let answer = agent.get(url).header("accept-encoding", "gzip").call();
        let mut answer = answer.unwrap_or_else(|error| panic!("{url}: {error}"));
        let zipped = answer.headers().get("content-encoding").is_some();
        let body = answer.body_mut().read_to_vec().expect("a body");
        bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        if !zipped {
            return body;
        }
        let mut plain = Vec::new();
        let mut reader = flate2::read::GzDecoder::new(&body[..]);
        reader.read_to_end(&mut plain).expect("gzip");
        plain
    };
    let mut next = None;
    while !stop.load(Ordering::Relaxed) {
        let query = next.map_or(String::new(), |(segment, part)| {
            format!("?_HLS_msn={segment}&_HLS_part={part}&_HLS_skip=YES")
        });
        let playlist = get(&format!("{viewer}/live/{rendition}.m3u8{query}"));
        let parts = parts(&String::from_utf8(playlist).expect("UTF-8"));
        let last = parts.last().expect("parts at the live edge");
        let new = next.unwrap_or(last.0);
        for (_, uri) in parts.iter().filter(|(place, _)| *place >= new) {
            get(&format!("{viewer}/live/{uri}"));
        }
        let (segment, part) = last.0;
        // Where that was the segment's last part, this means the next one's first (rfc8216bis 6.2.5.2).
        next = Some((segment, part + 1));
    }
}

/// The parts that a playlist lists, by the numbers of their segment and in it.
fn parts(playlist: &str) -> Vec<((u64, u64), String)> {
    let (mut segment, mut part) = (0, 0);
    let mut found = Vec::new();
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    for line in playlist.lines() {
        if let Some(sequence) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
            segment = number(sequence);
        } else if let Some(skipped) = line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS=") {
            segment += number(skipped.split(',').next().unwrap_or_default());
        } else if let Some(attributes) = line.strip_prefix("#EXT-X-PART:") {
            let uri = attributes.split("URI=\"").nth(1).expect("a URI");
            found.push((
                (segment, part),
                uri.split('"').next().unwrap_or_default().to_owned(),
            ));
            part += 1;
        } else if !line.starts_with('#') && !line.is_empty() {
            (segment, part) = (segment + 1, 0);
        }
    }
    found
}

/// Share of a core that the kernel takes to copy as many bytes as a card's pictures have, into a buffer that is there already: so
/// `uvcvideo` copies them out of USB's transfers.
fn copy(file: &Path, input: &Input) -> f64 {
    const PICTURES: u64 = 300;
    if input.source == "encoded" {
        return 0.0;
    }
    let mut file = File::open(file).expect("the recording");
    let size = file.metadata().expect("the recording").len() / (LOOP * RATE);
    let mut buffer = vec![0; size as usize];
    let mut read = |file: &mut File| file.read_exact(&mut buffer).expect("it is as long as that");
    read(&mut file);
    let began = proc::own_thread();
    for picture in 0..PICTURES {
        let at = SeekFrom::Start(picture % (LOOP * RATE) * size);
        file.seek(at).expect("a file");
        read(&mut file);
    }
    (proc::own_thread() - began) / PICTURES as f64 * RATE as f64
}

/// A row of the table, and the names of the threads that do this, or how they begin: the kernel keeps 15 letters.
const STAGES: [(&str, &[&str]); 7] = [
    ("JPEG; raw pictures are only passed on", &["multiqueue"]),
    ("conversion, and handing over", &["video-in:src"]),
    ("sound: conversion and levels", &["audio-in:src"]),
    ("conductor", &["conductor"]),
    ("AAC", &["audio-feed:src"]),
    ("the loop: segmenter, publication, panel", &["main"]),
    ("hashing, storing, node, servers", SERVERS),
];

/// x264 and its workers, and `h264parse` behind it.
const ENCODER: &[&str] = &["video-feed:src"];
/// Reads the recording, which a box does not: its demuxer copies each picture twice.
const RECORDING: &[&str] = &["matroskademux", "typefind:sink"];
/// Who answers viewers.
const SERVERS: &[&str] = &["tokio-rt-worker"];

impl Finding {
    fn stage(&self, threads: &[&str]) -> f64 {
        of(&self.live, threads)
    }

    /// All but the encoder, with one copy of each picture in place of the recording's.
    fn sum(&self) -> f64 {
        self.process - self.stage(ENCODER) - self.stage(RECORDING) + self.copied
    }

    /// On air, what has no stage of its own.
    fn rest(&self) -> f64 {
        let known: f64 = STAGES.iter().map(|(_, threads)| self.stage(threads)).sum();
        self.sum() - known - self.copied
    }

    fn viewers(&self) -> f64 {
        of(&self.watched, SERVERS) - self.stage(SERVERS)
    }
}

impl Memory {
    fn stage(&self, threads: &[&str]) -> f64 {
        of(&self.live, threads)
    }

    /// What is resident on air but for the encoder's and the recording's.
    fn sum(&self) -> f64 {
        self.resident[1] - self.stage(ENCODER) - self.stage(RECORDING)
    }

    /// Stacks, the libraries' tables, and what is free in the heap, less what was asked for and never written to.
    fn rest(&self) -> f64 {
        self.resident[1] - self.program - self.live.values().sum::<f64>()
    }

    /// What threads hold that have no stage.
    fn others(&self) -> f64 {
        let stages = STAGES.iter().map(|(_, threads)| *threads);
        let known = stages.chain([ENCODER, RECORDING]);
        self.live.values().sum::<f64>() - known.map(|it| self.stage(it)).sum::<f64>()
    }

    fn viewers(&self) -> f64 {
        of(&self.watched, SERVERS) - self.stage(SERVERS)
    }
}

/// What threads with such names take together.
fn of(shares: &BTreeMap<String, f64>, threads: &[&str]) -> f64 {
    let named = |name: &str| threads.iter().any(|prefix| name.starts_with(prefix));
    let shares = shares.iter().filter(|(name, _)| named(name));
    // The sum of nothing is -0.0.
    shares.fold(0.0, |sum, (_, share)| sum + share)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn tell(seconds: u64, findings: &[Finding]) {
    println!(
        "1080p30 on {}; per cent of one core, which is 10 ms of processor time per second of stream; {seconds} s each. By the \
         processor time of the threads of the real process on air. A recording takes the card's place: what it costs to read that is \
         left out, and what a copy of each picture costs the kernel is counted instead. What is encoded already is read, parsed and \
         passed on by one thread, which is the rest of the last column.",
        proc::machine()
    );
    let header = |of: &str| {
        let columns = findings.iter().map(|it| format!(" {} |", it.input.what));
        println!("\n| {of} |{}", columns.collect::<String>());
        println!("|---|{}", "---|".repeat(findings.len()));
    };
    let row = |name: &str, scale: f64, of: &dyn Fn(&Finding) -> f64| {
        let cells = findings
            .iter()
            .map(|it| format!(" {:.1} |", of(it) * scale));
        println!("| {name} |{}", cells.collect::<String>());
    };
    header("processor time");
    row("capture: one copy of each picture", 100.0, &|it| it.copied);
    for (name, threads) in STAGES {
        row(name, 100.0, &|it| it.stage(threads));
    }
    row("the rest", 100.0, &Finding::rest);
    row("all but the encoder", 100.0, &Finding::sum);
    row(
        "the same on a Raspberry Pi 4, estimated",
        100.0 * PI_FACTOR,
        &Finding::sum,
    );
    row("ten viewers on top", 100.0, &Finding::viewers);
    row("off air, less the recording", 100.0, &|it| {
        it.idle.values().sum::<f64>() - of(&it.idle, RECORDING)
    });
    row("the encoder, x264 ultrafast, not counted", 100.0, &|it| {
        it.stage(ENCODER)
    });
    row("reading the recording, not counted", 100.0, &|it| {
        it.stage(RECORDING)
    });
    row("what the viewers got, Mbit/s", 8e-6, &|it| it.viewed);
    header("memory, MB");
    for (name, threads) in STAGES {
        row(name, 1e-6, &|it| it.memory.stage(threads));
    }
    row("other threads", 1e-6, &|it| it.memory.others());
    row("the program and its libraries", 1e-6, &|it| {
        it.memory.program
    });
    row(
        "stacks, tables, what is free in the heap, less what was never written to",
        1e-6,
        &|it| it.memory.rest(),
    );
    row("all but the encoder", 1e-6, &|it| it.memory.sum());
    row("ten viewers on top", 1e-6, &|it| it.memory.viewers());
    row("the encoder, x264 ultrafast, not counted", 1e-6, &|it| {
        it.memory.stage(ENCODER)
    });
    row("reading the recording, not counted", 1e-6, &|it| {
        it.memory.stage(RECORDING)
    });
    for (when, name) in ["off air", "on air", "with ten viewers"].iter().enumerate() {
        row(&format!("resident {name}, all of it"), 1e-6, &|it| {
            it.memory.resident[when]
        });
    }
    println!("The Raspberry Pi is an estimate: {PI_SOURCE}.");
    // Whatever spoils a measurement, and the threads that have no row.
    for it in findings {
        println!("{}: {} {:.4?}", it.input.what, it.health, it.live);
        println!("{:.0?}", it.memory.live);
    }
}
