//! The box against the old way of streaming over IPFS brought up to date (`old-way.sh`): the same recording, at the same time, and a
//! second node that follows both by their names. Neither encodes: the box publishes the recording as it is, as `ffmpeg -c copy` does.
//!
//! `make bench-ipfs` prints one table; the first argument is for how many seconds it measures.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tests::kubo::Kubo;
use tests::proc::{self, Cost};
use tests::{Config, Podium, hls, judge, wait_for};

const SECONDS: u64 = 120;
/// A segment's, which both are told.
const SEGMENT: u64 = 2;
/// What is played before and after the measurement: nodes find each other, and the last segments arrive.
const MARGIN: u64 = 40;
/// How often the second node is asked. The delay of both sides is as much too long on average as half of it.
const POLL: Duration = Duration::from_millis(20);

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let seconds = seconds.unwrap_or(SECONDS);
    if !judge::have("ffmpeg") {
        return;
    }
    // Not in /tmp, which may be memory: what is written shall be written to a disk.
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let node = |name: &str| Kubo::new(dir.path().join(name));
    let (Some(mut publisher), Some(mut second)) = (node("publisher"), node("second")) else {
        return;
    };
    for kubo in [&mut publisher, &mut second] {
        kubo.configure("Pubsub.Enabled", "true");
        kubo.configure("Ipns.UsePubsub", "true");
        kubo.start();
    }
    let input = dir.path().join("input.mp4");
    let bitrate = encode(&input, seconds + MARGIN);

    let podium = Podium::start(dir.path(), &config(&input));
    let to = podium.ready["listen"][0].as_str().expect("an address");
    second.run(&["swarm", "connect", to]);
    let to = publisher.line(&["id", "-f", "<addrs>"]);
    second.run(&["swarm", "connect", to.lines().next().expect("an address")]);

    let old = OldWay::start(&dir.path().join("old"), &input, &publisher);
    podium.go_live();
    let names = [
        podium.ready["ipns"].as_str().expect("a name").to_owned(),
        publisher.line(&["id", "-f", "<id>", "--peerid-base=base36"]),
    ];
    // The first question subscribes to the name's topic.
    for name in &names {
        second.wait_for_name(name, |_| true);
    }

    let stop = AtomicBool::new(false);
    let (sides, delays) = std::thread::scope(|scope| {
        let (second, stop, old) = (&second, &stop, &old);
        let [ours, theirs] = names;
        let delays = [
            scope.spawn(move || follow(second, &ours, stop, |path| of_podium(second, path))),
            scope
                .spawn(move || follow(second, &theirs, stop, |path| of_old_way(second, path, old))),
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
        let delays = delays.map(|it| it.join().expect("a follower does not panic"));
        (sides, delays)
    });
    print(seconds, bitrate, &sides, &delays);
}

/// A talk, 1080p30, without B-frames and with a keyframe a segment; returns its bits a second.
fn encode(file: &Path, seconds: u64) -> f64 {
    let talk = tests::root().join("tests/media/talk.mp4");
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-stream_loop", "-1", "-i"])
        .arg(talk)
        .args(["-t", &seconds.to_string()])
        .args("-vf scale=1920:1080,fps=30,noise=alls=8:allf=t -c:v libx264 -preset ultrafast -tune zerolatency -g 60 -sc_threshold 0".split(' '))
        .args("-b:v 4500k -maxrate 4500k -bufsize 2250k -c:a aac -b:a 128k -ar 48000 -ac 2 -movflags +faststart".split(' '))
        .arg(file)
        .status();
    assert!(done.expect("ffmpeg").success());
    let size = std::fs::metadata(file).expect("the recording").len();
    size as f64 * 8.0 / seconds as f64
}

fn config(input: &Path) -> Config {
    Config {
        capture: format!("source = \"encoded\"\nfile = \"{}\"\n", input.display()),
        extra: "[video]\nwidth = 1920\nheight = 1080\nbitrate_kbps = 4500\n".into(),
        ..Config::default()
    }
}

/// `ffmpeg -c copy`, the script and their directory. Kubo is the caller's.
struct OldWay {
    ffmpeg: Child,
    script: Child,
    dir: PathBuf,
}

impl Drop for OldWay {
    fn drop(&mut self) {
        for child in [&mut self.ffmpeg, &mut self.script] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl OldWay {
    fn start(dir: &Path, input: &Path, kubo: &Kubo) -> OldWay {
        std::fs::create_dir(dir).expect("a directory");
        let script = kubo
            .script(&tests::root().join("tests/benches/old-way.sh"))
            .arg(dir)
            .arg(kubo.program())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log")).expect("a log"))
            .spawn();
        let ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-re", "-i"])
            .arg(input)
            .args(["-c", "copy", "-f", "hls", "-hls_time", &SEGMENT.to_string()])
            .args("-hls_list_size 30 -hls_flags temp_file -hls_segment_type fmp4 -hls_segment_filename segment-%d.m4s live.m3u8".split(' '))
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn();
        OldWay {
            ffmpeg: ffmpeg.expect("ffmpeg starts"),
            script: script.expect("bash starts"),
            dir: dir.to_owned(),
        }
    }

    /// When ffmpeg had written the last of a segment.
    fn complete(&self, number: u64) -> Option<SystemTime> {
        let file = self.dir.join(format!("segment-{number}.m4s"));
        std::fs::metadata(file).and_then(|it| it.modified()).ok()
    }
}

/// Segments by their number, each with when it was complete and the paths of its bytes.
type Listed = BTreeMap<u64, (SystemTime, Vec<String>)>;

fn read(kubo: &Kubo, path: &str) -> Option<Vec<u8>> {
    kubo.ask("cat", &[("arg", path), ("timeout", "10s")]).ok()
}

fn resolve(kubo: &Kubo, name: &str) -> Option<String> {
    let name = format!("/ipns/{name}");
    let arguments = [("arg", &name[..]), ("nocache", "true"), ("timeout", "5s")];
    let answer = kubo.ask("name/resolve", &arguments).ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    Some(answer["Path"].as_str()?.to_owned())
}

/// What the box lists below a root. A segment is complete when the next one begins: its date and its length say when, by this
/// machine's clock.
fn of_podium(kubo: &Kubo, root: &str) -> Option<Listed> {
    let mut listed = Listed::new();
    for rendition in ["video", "audio"] {
        let playlist = hls::media_playlist(&read(kubo, &format!("{root}/{rendition}/live.m3u8"))?);
        let mut end: Option<SystemTime> = None;
        for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            let begin = segment.program_date_time.map(SystemTime::from).or(end)?;
            let complete = begin + Duration::from_secs_f32(segment.duration);
            end = Some(complete);
            let path = format!("{root}/{rendition}/{}", segment.uri);
            listed
                .entry(number)
                .or_insert((complete, Vec::new()))
                .1
                .push(path);
        }
    }
    Some(listed)
}

/// The same of the old way: a segment is complete when ffmpeg has written it.
fn of_old_way(kubo: &Kubo, path: &str, old: &OldWay) -> Option<Listed> {
    let playlist = hls::media_playlist(&read(kubo, path)?);
    let segments = (playlist.media_sequence..).zip(&playlist.segments);
    segments
        .map(|(number, segment)| Some((number, (old.complete(number)?, vec![segment.uri.clone()]))))
        .collect()
}

/// Seconds from complete to read of every segment that comes until `stop`.
fn follow(
    kubo: &Kubo,
    name: &str,
    stop: &AtomicBool,
    list: impl Fn(&str) -> Option<Listed>,
) -> Vec<f64> {
    let mut last = String::new();
    // What was there before is not measured: nobody waited for it.
    let mut newest = None;
    let mut delays = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(POLL);
        let Some(now) = resolve(kubo, name).filter(|now| *now != last) else {
            continue;
        };
        let Some(listed) = list(&now) else { continue };
        last = now;
        let known = *newest.get_or_insert_with(|| listed.keys().last().copied().unwrap_or(0));
        for (number, (complete, paths)) in listed.into_iter().filter(|(it, _)| *it > known) {
            for path in &paths {
                let bytes = wait_for(path, || read(kubo, path));
                assert!(!bytes.is_empty(), "{path}");
            }
            let late = SystemTime::now().duration_since(complete);
            delays.push(late.map_or(0.0, |it| it.as_secs_f64()));
            newest = Some(number);
        }
    }
    delays
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

/// What there is of `values` below and at this share of them.
fn share(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
fn print(seconds: u64, bitrate: f64, sides: &[Side; 2], delays: &[Vec<f64>; 2]) {
    let media = bitrate / 8.0 * seconds as f64;
    println!(
        "{seconds} s of one recording, 1080p30, {:.1} Mbit/s, segments of {SEGMENT} s, published twice at the same time on {}; a Kubo \
         that follows both by IPNS over PubSub, asked every {} ms, is counted on neither side.\n\
         podium: the whole process, with source = \"encoded\". The old way: ffmpeg -c copy, the script and its `ipfs` processes, and Kubo \
         with Pubsub and without routing. Readable: the name means it, the playlist lists it, and all its bytes were read there.",
        bitrate / 1e6,
        proc::machine(),
        POLL.as_millis(),
    );
    println!("| | podium | the old way | ratio |");
    println!("|---|---|---|---|");
    let row = |name: &str, digits: usize, of: &dyn Fn(usize) -> f64| {
        let (ours, theirs) = (of(0), of(1));
        println!(
            "| {name} | {ours:.digits$} | {theirs:.digits$} | {:.3} |",
            ours / theirs
        );
    };
    row("processor time per second of stream, ms", 1, &|side| {
        sides[side].cost.cpu / seconds as f64 * 1e3
    });
    let memory = |side: usize| {
        sides[side]
            .memory
            .iter()
            .map(|it| *it as f64 / 1e6)
            .collect::<Vec<_>>()
    };
    row("resident memory, median, MB", 0, &|side| {
        share(&memory(side), 0.5)
    });
    row("resident memory, most, MB", 0, &|side| {
        share(&memory(side), 1.0)
    });
    row(
        "segment complete to readable by the second node, median, ms",
        0,
        &|side| share(&delays[side], 0.5) * 1e3,
    );
    row("the same, 95 %, ms", 0, &|side| {
        share(&delays[side], 0.95) * 1e3
    });
    row("segments read by the second node", 0, &|side| {
        delays[side].len() as f64
    });
    row(
        "bytes to be written to the disk per byte of media",
        2,
        &|side| sides[side].cost.written as f64 / media,
    );
    row("bytes given to write() per byte of media", 2, &|side| {
        sides[side].cost.given as f64 / media
    });
}
