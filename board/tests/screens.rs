//! Pictures of the panel that a person has looked at: `tests/screens/*.png`.
//!
//! A picture that changed on purpose is rewritten with `UPDATE_EXPECT=1 cargo test -p board --test screens`; look at it.

use std::{fs, path::Path, time::Duration};

use stream::broadcast::Cause;
use stream::{
    health::{self, Facts},
    screen::{self, MeterReading, Picture, View},
    self_test::{Finding, Measurement},
    status::{
        Audio, Disk, DiskFault, Input, Mode, Network, Node, Page, Signal, State, Status, Sync,
        Tally, VideoFormat,
    },
};

/// Each pixel of the panel becomes a square of this many.
const SCALE: u32 = 6;

/// An idle box with a picture and sound, in the first second of its life.
fn idle() -> Status {
    Status {
        name: "Rust Meetup Brno".to_owned(),
        state: State::Idle,
        broadcast: 0,
        on_air_ms: None,
        since: None,
        input: Input {
            signal: Signal::Ok,
            source: "test picture".to_owned(),
            format: Some(VideoFormat {
                width: 1280,
                height: 720,
                fps_num: 30,
                fps_den: 1,
            }),
            black: false,
            frozen: false,
            luma: Some(110),
            notes: Vec::new(),
        },
        audio: Audio {
            peak_dbfs: [-9.0, -14.0],
            rms_dbfs: [-20.0, -24.0],
            level_dbfs: [-16.0, -21.0],
            hold_dbfs: [-9.0, -14.0],
            silent: false,
            only: None,
            clipping: false,
            muted: false,
        },
        sync: Sync::default(),
        bitrate_kbps: None,
        video_kbps: 3000,
        oversize: None,
        videos: vec![],
        health: health::assess(&Facts::healthy()),
        network: Network {
            watch_url: "http://192.168.1.7:8080/".to_owned(),
            only_here: false,
            operator_url: "http://127.0.0.1:8081/".to_owned(),
            operator_open: false,
        },
        node: Node {
            peer_id: "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf".to_owned(),
            peers: 12,
            ipns: "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel3r".to_owned(),
            root: None,
            root_is_vod: false,
        },
        uplink: stream::uplink::Uplink::default(),
        viewers: stream::status::Viewers::default(),
        outside: stream::reach::Outside::default(),
        disk: Disk {
            free_bytes: 21_700_000_000,
            stored_bytes: 3_400_000_000,
            limit_bytes: 8_000_000_000,
            bytes_until_one_goes: None,
        },
        segments: 0,
        unstored: 0,
        outage: None,
        disk_fault: None,
        dropped_units: 0,
        segment_age_ms: None,
        tally: Tally::Off,
        mode: Mode::Stream,
        page: Page::Main,
        hardware: Vec::new(),
        machine: stream::machine::Machine::default(),
        encoder: stream::encoder::Choice::default(),
    }
}

fn live() -> Status {
    Status {
        state: State::Live,
        on_air_ms: Some(42 * 60_000 + 17_000),
        bitrate_kbps: Some(3120),
        sync: Sync {
            drift_ppm: Some(3.2),
            error_ms: Some(-0.1),
            ..Sync::default()
        },
        videos: vec![],
        health: health::assess(&live_facts()),
        segments: 1268,
        segment_age_ms: Some(900),
        tally: Tally::On,
        node: Node {
            root: Some("bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi".to_owned()),
            ..idle().node
        },
        ..idle()
    }
}

fn live_facts() -> Facts {
    Facts {
        state: State::Live,
        segment_age: Some(Duration::from_millis(900)),
        ..Facts::healthy()
    }
}

fn talking() -> View {
    let meter = |level_dbfs, hold_dbfs| MeterReading {
        level_dbfs,
        hold_dbfs,
        clip: false,
    };
    View {
        meters: [meter(-16.0, -9.0), meter(-21.0, -14.0)],
        ..View::default()
    }
}

fn silent() -> View {
    View::default()
}

#[track_caller]
fn check(name: &str, status: &Status, view: &View, now_ms: u64) {
    let drawn = screen::draw(status, view, Duration::from_millis(now_ms));
    compare(name, &drawn);
}

#[track_caller]
fn compare(name: &str, drawn: &Picture) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/screens")
        .join(name)
        .with_extension("png");
    let png = board::png::encode(drawn, SCALE);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        if fs::read(&path).is_ok_and(|seen| pixels(&seen) == pixels(&png)) {
            return;
        }
        fs::write(&path, png).unwrap();
        return;
    }
    let seen = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(
        pixels(&seen) == pixels(&png),
        "{name} is drawn otherwise than the picture that was looked at: {:?}",
        drawn.frame
    );
}

/// What a picture shows, however it was compressed.
fn pixels(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(png));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut buffer = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut buffer).unwrap();
    buffer.truncate(info.buffer_size());
    (info.width, info.height, buffer)
}

#[test]
fn main_idle() {
    check("idle", &idle(), &talking(), 0);
    let view = View {
        since_button: Duration::from_secs(150),
        ..silent()
    };
    check("idle-dimmed", &idle(), &view, 150_000);
    let facts = Facts {
        signal: Signal::None,
        ..Facts::healthy()
    };
    let mut status = Status {
        health: health::assess(&facts),
        ..idle()
    };
    status.input = Input {
        signal: Signal::None,
        source: "/dev/video0".to_owned(),
        format: None,
        black: false,
        frozen: false,
        luma: None,
        notes: Vec::new(),
    };
    check("idle-no-picture", &status, &silent(), 0);
}

#[test]
fn main_starting_and_stopping() {
    let starting = Status {
        state: State::Starting,
        tally: Tally::Blinking,
        ..idle()
    };
    check("starting-lit", &starting, &talking(), 0);
    check("starting-dark", &starting, &talking(), 500);
    let stopping = Status {
        state: State::Stopping,
        ..live()
    };
    check("stopping", &stopping, &talking(), 0);
}

#[test]
fn main_live() {
    check("live", &live(), &talking(), 0);
    let good = health::assess(&Facts {
        peers: 0,
        ..live_facts()
    });
    let long = Status {
        on_air_ms: Some(36_000_000 + 59 * 60_000 + 59_000),
        health: good,
        ..live()
    };
    check("live-long-good", &long, &talking(), 0);
    check(
        "live-hold",
        &live(),
        &View {
            hold: Some(0.6),
            ..talking()
        },
        0,
    );
    check(
        "live-held",
        &live(),
        &View {
            hold: Some(1.0),
            ..talking()
        },
        0,
    );

    let loud = MeterReading {
        level_dbfs: -0.5,
        hold_dbfs: 0.0,
        clip: true,
    };
    let clipping = health::assess(&Facts {
        clipping: true,
        ..live_facts()
    });
    let status = Status {
        health: clipping,
        ..live()
    };
    check(
        "live-clipping",
        &status,
        &View {
            meters: [loud; 2],
            ..View::default()
        },
        0,
    );
}

#[test]
fn main_muted() {
    let facts = Facts {
        muted: true,
        ..live_facts()
    };
    let mut muted = Status {
        health: health::assess(&facts),
        ..live()
    };
    muted.audio.muted = true;
    check("live-muted", &muted, &talking(), 0);
    let facts = Facts {
        muted: true,
        ..Facts::healthy()
    };
    let mut muted = Status {
        health: health::assess(&facts),
        ..idle()
    };
    muted.audio.muted = true;
    check("idle-muted", &muted, &silent(), 500);
}

#[test]
fn main_input_notices() {
    let status = |facts| Status {
        health: health::assess(&facts),
        ..live()
    };
    let black = Facts {
        black: true,
        ..live_facts()
    };
    check("live-black", &status(black), &talking(), 0);
    let frozen = Facts {
        frozen: true,
        ..live_facts()
    };
    check("live-frozen", &status(frozen), &talking(), 0);
    let busy = Facts {
        oversize: Some(stream::rate::Cause::Busy),
        ..live_facts()
    };
    check("live-busy", &status(busy), &talking(), 0);
}

#[test]
fn main_faults() {
    let facts = Facts {
        signal: Signal::Lost,
        ..live_facts()
    };
    let mut lost = Status {
        health: health::assess(&facts),
        ..live()
    };
    lost.input.signal = Signal::Lost;
    check("live-signal-lost", &lost, &silent(), 0);
    check("live-signal-lost-blink", &lost, &silent(), 500);

    let state = State::Retrying {
        cause: "capture card is gone".to_owned(),
        attempt: 3,
    };
    let facts = Facts {
        state: state.clone(),
        ..live_facts()
    };
    let retrying = Status {
        state,
        health: health::assess(&facts),
        tally: Tally::Blinking,
        on_air_ms: None,
        ..live()
    };
    check("retrying", &retrying, &silent(), 0);
    let retrying = Status {
        on_air_ms: Some(39_000_000),
        ..retrying
    };
    check("retrying-on-air", &retrying, &silent(), 500);

    let facts = Facts {
        state: State::Live,
        outage: Some(Cause::DiskFull),
        ..Facts::healthy()
    };
    let unrecorded = Status {
        health: health::assess(&facts),
        ..live()
    };
    check("not-recording", &unrecorded, &silent(), 0);

    let facts = Facts {
        disk_fault: Some(DiskFault::ReadOnly),
        cut_off: true,
        ..Facts::healthy()
    };
    let cut_off = Status {
        health: health::assess(&facts),
        ..idle()
    };
    check("disk-fault-cut-off", &cut_off, &talking(), 0);
    let facts = Facts {
        state: State::Live,
        ..facts
    };
    let from_memory = Status {
        health: health::assess(&facts),
        ..live()
    };
    check("disk-fault-live", &from_memory, &talking(), 0);
}

#[test]
fn watch() {
    let page = Page::Watch;
    check("watch", &Status { page, ..live() }, &talking(), 0);
    let mut hostname = Status { page, ..idle() };
    hostname.network.watch_url =
        "http://podium-3f2a.faculty-of-informatics.example.org:8080/".to_owned();
    check("watch-hostname", &hostname, &talking(), 0);
    hostname.network.watch_url = format!("http://{}.example/", "long".repeat(80));
    check("watch-too-long", &hostname, &talking(), 0);
    hostname.network.only_here = true;
    check("watch-no-network", &hostname, &talking(), 0);
}

#[test]
fn details() {
    let page = Page::Details;
    check("details", &Status { page, ..live() }, &talking(), 0);
    let mut long = Status {
        page,
        name: "Mezinárodní konference o šířkách".to_owned(),
        ..idle()
    };
    long.network.operator_open = true;
    long.network.operator_url = "http://192.168.1.7:8081/".to_owned();
    check("details-idle", &long, &talking(), 0);
}

#[test]
fn sync() {
    let page = Page::Sync;
    check("sync", &Status { page, ..idle() }, &talking(), 0);
    let mut status = Status { page, ..live() };
    let mut test = |name: &str, trim_ms, finding: Finding| {
        status.sync.trim_ms = trim_ms;
        status.sync = status.sync.testing(finding);
        check(name, &status, &talking(), 0);
    };
    test("sync-looking", 0, Finding::Looking { pairs: 0 });
    test("sync-no-beep", 0, Finding::NoBeep);
    let measured = |offset_ms| {
        Finding::Measured(Measurement {
            offset_ms,
            error_ms: 2.4,
            spread_ms: 16.0,
            pairs: 14,
            drift: None,
        })
    };
    test("sync-late", 0, measured(12.3));
    test("sync-trimmed", 12, measured(12.3));
    test("sync-early", -40, measured(-171.0));
}

#[test]
fn hardware() {
    use stream::encoder::{Choice, Encoder, Reason};
    use stream::health::Seen;
    use stream::machine::{Clock, Machine, Spare, Storage};
    let page = Page::Hardware;
    let fine = Status {
        page,
        machine: Machine {
            undervoltage: Some(Seen::Never),
            throttled: Some(Seen::Never),
            ..Machine::default()
        },
        ..live()
    };
    check("hardware", &fine, &talking(), 0);
    let mut odd = fine;
    odd.input.notes =
        vec!["sound is called 96 kHz mono, and taken as the 48 kHz stereo that it is".to_owned()];
    check("hardware-note", &odd, &talking(), 4_000);
    let trouble = Status {
        page,
        encoder: Choice {
            encoder: Encoder::V4l2h264enc,
            reason: Reason::Measured,
        },
        machine: Machine {
            temperature_c: Some(82.4),
            undervoltage: Some(Seen::Now),
            throttled: Some(Seen::Now),
            storage: Storage {
                worn_percent: Some(90),
                spare: Some(Spare::Urgent),
            },
            clock: Clock {
                battery: Some(false),
                synchronised: Some(true),
            },
        },
        hardware: vec![
            "the display hangs; check its wires".to_owned(),
            "HDMI stick MS2130 on USB 2 could be on USB 3: use a blue socket, or another cable"
                .to_owned(),
        ],
        ..idle()
    };
    check("hardware-trouble", &trouble, &talking(), 0);
    check("hardware-second", &trouble, &talking(), 4_000);
}

/// The ends of the walk against burn-in: the outermost rows and columns are used and nothing is cut.
#[test]
fn shifted() {
    check("live-shifted", &live(), &talking(), 6 * 60_000);
}

#[test]
fn a_box_that_starts_or_cannot() {
    compare("starting", &screen::starting());
    let why = "cannot listen on 0.0.0.0:80: Permission denied (os error 13); choose a port above 1023 in [viewer] listen";
    compare("refused", &screen::refused(why));
}
