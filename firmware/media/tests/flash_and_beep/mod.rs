//! Flash and beep through the real pipelines and the segmenter, judged by ffmpeg: when is the flash shown, when is the beep
//! heard? Everything is measured in media time, so a slow machine makes fewer measurements, not worse ones.

#![allow(dead_code, reason = "each of its users needs another part")]

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use media::signal::{FLASH, FLASH_LUMA, Handle, PICTURE_LUMA, Signal};
use media::{Config, Event, Media, Source, Sync};
use stream::media::{Rendition, SAMPLE_RATE};
use stream::segmenter::{Output, Segmenter, Settings};
use stream::self_test::{Finding, Measurement, SelfTest};
use stream::status::Signal as SignalState;
use tokio::sync::{mpsc, watch};

const SEGMENT: Duration = Duration::from_secs(1);
const FPS: u32 = 30;
/// Nothing hangs for longer than this.
const PATIENCE: Duration = Duration::from_secs(120);
/// A measurement is waited for until it is as sure as this, milliseconds: some thirty pairs.
const SURE_MS: f64 = 3.0;

/// The box's media with the test signal at its input.
pub(crate) struct Session {
    pub(crate) signal: Handle,
    pub(crate) media: Media,
    progress: watch::Receiver<Progress>,
    collector: JoinHandle<(Vec<Run>, Vec<SignalState>)>,
    heard: watch::Receiver<Heard>,
    run: u64,
    marks: Vec<Mark>,
    runtime: tokio::runtime::Runtime,
}

/// What the box says about sound and picture.
#[derive(Debug, Default)]
struct Heard {
    test: SelfTest,
    sync: Sync,
    signal: Option<SignalState>,
}

/// How far the segmenter has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Progress {
    run: u64,
    /// Programme time of the last picture.
    at: Duration,
    ended: bool,
}

/// Where a scenario begins.
#[derive(Debug, Clone)]
struct Mark {
    name: String,
    run: u64,
    at: f64,
}

/// One continuity run as a player gets it: the init segment and all segments of each rendition.
#[derive(Default)]
struct Run {
    run: u64,
    bytes: [Vec<u8>; 2],
}

impl Session {
    pub(crate) fn start(signal: Signal, av_offset_ms: i32) -> Session {
        let signal = Handle::new(signal);
        let config = Config {
            name: "Flash & Beep".into(),
            source: Source::Signal(signal.clone()),
            width: 320,
            height: 180,
            fps: FPS,
            video_bitrate_kbps: 500,
            encoder: stream::encoder::Choice::default(),
            low: None,
            audio_bitrate_kbps: 128,
            segment: SEGMENT,
            av_offset_ms,
        };
        let (sender, events) = mpsc::channel(256);
        let (progress_sender, progress) = watch::channel(Progress::default());
        let (heard_sender, heard) = watch::channel(Heard::default());
        let collector =
            std::thread::spawn(move || collect(events, &progress_sender, &heard_sender));
        let media = Media::start(config, sender).expect("media start");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let mut session = Session {
            signal,
            media,
            progress,
            collector,
            heard,
            run: 0,
            marks: Vec::new(),
            runtime,
        };
        // That its input is well.
        session.hear(|heard| heard.signal == Some(SignalState::Ok));
        session
    }

    /// Begins a run, after the one before has delivered everything, and in it a scenario.
    pub(crate) fn programme(&mut self, name: &str) {
        self.end();
        self.run += 1;
        self.media.start_programme(self.run);
        let run = self.run;
        self.wait(|progress| progress.run == run);
        self.marks.push(Mark {
            name: name.into(),
            run,
            at: 0.0,
        });
    }

    fn end(&mut self) {
        if self.run > 0 {
            self.media.end_programme();
            self.wait(|progress| progress.ended);
        }
    }

    /// Begins another scenario of the same run.
    pub(crate) fn scenario(&mut self, name: &str) {
        let at = self.progress.borrow().at.as_secs_f64();
        self.marks.push(Mark {
            name: name.into(),
            run: self.run,
            at,
        });
    }

    /// Runs the self-test until it has measured.
    pub(crate) fn self_test(&mut self) -> Measurement {
        self.media.observe(true);
        let measured = |heard: &Heard| match heard.test.finding() {
            // Enough pairs for a promise of a few milliseconds.
            Finding::Measured(measured) if measured.error_ms <= SURE_MS => Some(measured),
            _ => None,
        };
        let mut found = None;
        self.hear(|heard| {
            found = measured(heard);
            found.is_some()
        });
        let measured = found.expect("just heard");
        self.media.observe(false);
        measured
    }

    /// What the box says about its clocks as soon as it knows.
    pub(crate) fn sync(&mut self) -> Sync {
        self.hear(|heard| heard.sync.drift_ppm.is_some());
        self.heard.borrow().sync
    }

    /// Until the box has said it.
    fn hear(&mut self, it: impl FnMut(&Heard) -> bool) {
        let wait = self.heard.wait_for(it);
        let waited = (self.runtime).block_on(async { tokio::time::timeout(PATIENCE, wait).await });
        waited.expect("it says so").expect("media go on");
    }

    pub(crate) fn trim(&self, ms: i32) {
        self.media.trim(ms);
    }

    /// Until this much more has been encoded.
    pub(crate) fn play(&mut self, seconds: f64) {
        let until = self.progress.borrow().at + Duration::from_secs_f64(seconds);
        self.wait(|progress| progress.at >= until);
    }

    /// Until `done`, as long as something goes on.
    fn wait(&mut self, done: impl Fn(&Progress) -> bool) {
        loop {
            if done(&self.progress.borrow_and_update()) {
                return;
            }
            let changed = self.progress.changed();
            let changed = self
                .runtime
                .block_on(async { tokio::time::timeout(PATIENCE, changed).await });
            changed.expect("media go on").expect("media go on");
        }
    }

    /// Ends the programme and lets ffmpeg judge every scenario.
    pub(crate) fn finish(mut self) -> Report {
        self.end();
        self.media.shutdown();
        let (runs, signals) = self.collector.join().expect("collector");
        let mut scenarios = Vec::new();
        for run in runs {
            let decoded = decode(&run);
            let marks: Vec<_> = self.marks.iter().filter(|it| it.run == run.run).collect();
            for (i, mark) in marks.iter().enumerate() {
                let end = marks.get(i + 1).map_or(f64::INFINITY, |next| next.at);
                scenarios.push(decoded.scenario(mark, end));
            }
        }
        Report { scenarios, signals }
    }
}

/// What the box said and what ffmpeg saw.
pub(crate) struct Report {
    pub(crate) scenarios: Vec<Scenario>,
    /// The input's states as the box told them.
    pub(crate) signals: Vec<SignalState>,
}

/// Segments what the media deliver until they stop.
fn collect(
    mut events: mpsc::Receiver<Event>,
    progress: &watch::Sender<Progress>,
    heard: &watch::Sender<Heard>,
) -> (Vec<Run>, Vec<SignalState>) {
    let mut runs: Vec<Run> = Vec::new();
    let mut signals = Vec::new();
    let mut segmenter = None;
    while let Some(event) = events.blocking_recv() {
        let run = match &event {
            Event::VideoConfig { run, .. }
            | Event::AudioConfig { run, .. }
            | Event::Video { run, .. }
            | Event::Audio { run, .. }
            | Event::ProgrammeEnded { run } => *run,
            Event::ProgrammeFailed { why, .. } => panic!("programme failed: {why}"),
            Event::Signal(signal) => {
                signals.push(*signal);
                heard.send_modify(|heard| heard.signal = Some(*signal));
                continue;
            }
            Event::Observed(observation) => {
                heard.send_modify(|heard| heard.test.observe(observation));
                continue;
            }
            Event::Sync(sync) => {
                heard.send_modify(|heard| heard.sync = *sync);
                continue;
            }
            _ => continue,
        };
        if runs.last().is_none_or(|last| last.run < run) {
            runs.push(Run {
                run,
                ..Run::default()
            });
            segmenter = Some(Segmenter::new(Settings {
                segment: SEGMENT,
                part: Duration::from_millis(250),
                frame: Duration::from_secs(1) / FPS,
                low: false,
            }));
        }
        let Some(cutter) = segmenter.as_mut() else {
            continue;
        };
        let mut out = Vec::new();
        let mut ended = false;
        match event {
            Event::VideoConfig {
                rendition, config, ..
            } => cutter.configure_video(rendition, config, &mut out),
            Event::AudioConfig { config, .. } => cutter.configure_audio(config, &mut out),
            Event::Video {
                rendition, unit, ..
            } => {
                let at = unit.pts;
                progress.send_replace(Progress { run, at, ended });
                cutter.push_video(rendition, unit, &mut out)
            }
            Event::Audio { frame, .. } => cutter.push_audio(frame, &mut out),
            _ => {
                ended = true;
                segmenter
                    .take()
                    .map_or(Ok(()), |it: Segmenter| it.finish(&mut out))
            }
        }
        .expect("the segmenter takes what the programme makes");
        let last = runs.last_mut().expect("just pushed");
        for output in out {
            let (rendition, bytes) = match output {
                Output::Init(init) => (init.rendition, init.bytes),
                Output::Part(part) => (part.rendition, part.bytes),
                Output::Segment(_) => continue,
            };
            last.bytes[rendition as usize].extend_from_slice(&bytes);
        }
        if ended {
            progress.send_modify(|progress| progress.ended = true);
        }
    }
    (runs, signals)
}

/// A decoded picture: programme time in seconds and mean luma.
#[derive(Debug, Clone, Copy)]
struct Picture {
    at: f64,
    luma: f64,
}

impl Picture {
    /// Brighter than any picture between flashes.
    fn is_flash(self) -> bool {
        self.luma > f64::from(PICTURE_LUMA[1]) + 15.0
    }

    fn is_slate(self) -> bool {
        self.luma < f64::from(PICTURE_LUMA[0]) - 15.0
    }
}

struct Decoded {
    pictures: Vec<Picture>,
    /// Programme times of beeps that are complete.
    beeps: Vec<f64>,
}

/// What ffmpeg found in one scenario.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// Beeps that are heard, whole, with or without a flash.
    pub(crate) beeps: usize,
    /// How much later than its flash each beep is, milliseconds; flashes or beeps of which a part is missing are left out.
    pub(crate) offsets: Vec<f64>,
    /// How long slate stood in for the picture, each time, seconds.
    pub(crate) slates: Vec<f64>,
    /// Greatest distance of two pictures, seconds.
    pub(crate) longest_gap: f64,
}

impl Scenario {
    pub(crate) fn mean(&self) -> f64 {
        self.offsets.iter().sum::<f64>() / self.offsets.len() as f64
    }

    /// The one furthest from zero.
    pub(crate) fn worst(&self) -> f64 {
        let further = |a: f64, b: &f64| if b.abs() > a.abs() { *b } else { a };
        self.offsets.iter().fold(0.0, further)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slates: Vec<_> = (self.slates.iter().map(|it| format!("{it:.2}"))).collect();
        write!(
            f,
            "{:<44} {:>5} {:>5} {:>+8.2} {:>+8.2} {:>7.0}   {}",
            self.name,
            self.beeps,
            self.offsets.len(),
            self.mean(),
            self.worst(),
            self.longest_gap * 1000.0,
            slates.join(" ")
        )
    }
}

/// Head of the table that [`Scenario`]s print.
pub(crate) const HEAD: &str =
    "scenario                                     beeps pairs  mean ms worst ms  gap ms   slate s";

impl Decoded {
    fn scenario(&self, mark: &Mark, end: f64) -> Scenario {
        let inside = |at: f64| at >= mark.at && at < end;
        let pictures: Vec<_> = (self.pictures.iter().filter(|it| inside(it.at))).collect();
        let mut offsets = Vec::new();
        let mut slates = Vec::new();
        let mut slate_since = None;
        let mut longest_gap = 0.0f64;
        for pair in pictures.windows(2) {
            let (last, picture) = (pair[0], pair[1]);
            longest_gap = longest_gap.max(picture.at - last.at);
            if picture.is_slate() {
                slate_since.get_or_insert(picture.at);
            } else if let Some(since) = slate_since.take() {
                slates.push(picture.at - since);
            }
            if picture.is_flash() && !last.is_flash() {
                let flash = picture.at - (f64::from(FLASH_LUMA) - picture.luma) / 1000.0;
                let distance = |beep: &&f64| (**beep - flash).abs();
                let nearest =
                    (self.beeps.iter()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
                if let Some(beep) = nearest.filter(|beep| distance(beep) < 0.45) {
                    offsets.push((beep - flash) * 1000.0);
                }
            }
        }
        Scenario {
            name: mark.name.clone(),
            beeps: self.beeps.iter().filter(|at| inside(**at)).count(),
            offsets,
            slates,
            longest_gap,
        }
    }
}

/// ffmpeg decodes both renditions with the timestamps that they have.
fn decode(run: &Run) -> Decoded {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name);
    for rendition in [Rendition::Video, Rendition::Audio] {
        let file = path(rendition.name()).with_extension("mp4");
        std::fs::write(file, &run.bytes[rendition as usize]).expect("room for the recording");
    }
    let video = ffmpeg(
        &path("video.mp4"),
        &[
            "-vf",
            "settb=1/90000,signalstats,metadata=print:key=lavfi.signalstats.YAVG:file=-",
            "-f",
            "null",
            "-",
        ],
    );
    let text = String::from_utf8_lossy(&video.stdout);
    let mut pictures = Vec::new();
    let mut at = 0.0;
    for line in text.lines() {
        if let Some(pts) = field(line, "pts:") {
            at = pts / 90_000.0;
        } else if let Some(luma) = field(line, "YAVG=") {
            pictures.push(Picture { at, luma });
        }
    }
    let pcm = path("sound.pcm");
    let audio = ffmpeg(
        &path("audio.mp4"),
        &[
            "-af",
            "aformat=s16:48000:mono,asettb=1/48000,ashowinfo",
            "-f",
            "s16le",
            &pcm.to_string_lossy(),
        ],
    );
    let pcm = std::fs::read(pcm).expect("decoded sound");
    let (samples, _) = pcm.as_chunks::<2>();
    let mut samples = samples.iter().map(|bytes| i16::from_le_bytes(*bytes));
    let mut beeps = Beeps::default();
    for line in String::from_utf8_lossy(&audio.stderr).lines() {
        if let (Some(pts), Some(count)) = (field(line, "pts:"), field(line, "nb_samples:")) {
            for i in 0..count as u64 {
                beeps.push(pts as u64 + i, samples.next().unwrap_or(0));
            }
        }
    }
    assert!(samples.next().is_none(), "every decoded sample has a time");
    Decoded {
        pictures,
        beeps: beeps.complete,
    }
}

fn ffmpeg(input: &Path, arguments: &[&str]) -> std::process::Output {
    // Without -copyts ffmpeg lets every file begin at zero, and the offset is gone.
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostats", "-copyts", "-y", "-i"])
        .arg(input)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("ffmpeg: {error}; run `make deps-test`"));
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The number behind `name` in a line of ffmpeg's.
fn field(line: &str, name: &str) -> Option<f64> {
    let (_, rest) = line.split_once(name)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Finds beeps in samples with their times.
#[derive(Default)]
struct Beeps {
    /// First and last loud sample of the beep in progress.
    open: Option<(u64, u64)>,
    /// Starts of beeps of the right length, seconds.
    complete: Vec<f64>,
}

impl Beeps {
    const LOUD: u16 = 6000;
    /// A period of 1 kHz and a half.
    const PAUSE: u64 = 72;
    /// Another length means that a block is missing, and then the beginning may be.
    const TOLERANCE: i64 = 3 * SAMPLE_RATE as i64 / 1000;

    fn push(&mut self, at: u64, sample: i16) {
        if sample.unsigned_abs() > Self::LOUD {
            self.open.get_or_insert((at, at)).1 = at;
        } else if let Some((start, last)) = self.open
            && at > last + Self::PAUSE
        {
            self.open = None;
            let expected = FLASH as i64 * i64::from(SAMPLE_RATE) / 1_000_000_000;
            if ((last - start) as i64 - expected).abs() <= Self::TOLERANCE {
                self.complete.push(start as f64 / f64::from(SAMPLE_RATE));
            }
        }
    }
}
