//! The panel without the rest of the box: `cargo run -p board --example panel`. GO LIVE goes live, holding it stops, PAGE
//! turns the page, MODE takes the picture away and brings it back; `q` ends it.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use board::{
    Display as _, Tally as _,
    sim::{Sim, terminal},
};
use futures::StreamExt;
use stream::{
    buttons::{Button, Gesture, Gestures},
    health::{self, Facts},
    screen::{self, Meters, View},
    status::{
        Audio, Input, Mode, Network, Node, Page, Signal, State, Status, Sync, Tally, VideoFormat,
    },
};
use tokio::{sync::Notify, time};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Sim {
        mut display,
        mut tally,
        mut buttons,
        front,
    } = Sim::new();
    let log = terminal::LogTail::new(200);
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    let quit = Arc::new(Notify::new());
    let _terminal = terminal::spawn(front, log, {
        let quit = Arc::clone(&quit);
        move || quit.notify_one()
    })?;

    let start = Instant::now();
    let (mut gestures, mut meters) = (Gestures::default(), Meters::default());
    let mut status = status();
    let (mut touched, mut on_air, mut tenth) =
        (start, start, time::interval(Duration::from_millis(100)));
    loop {
        let told = tokio::select! {
            () = quit.notified() => return Ok(()),
            Some(edge) = buttons.next() => {
                touched = edge.at;
                gestures.edge(edge)
            }
            _ = tenth.tick() => gestures.tick(Instant::now()),
        };
        let now = start.elapsed();
        for gesture in told {
            tracing::info!(?gesture, "the buttons say");
            match gesture {
                Gesture::Tap(Button::GoLive) if status.state == State::Idle => {
                    status.state = State::Live;
                    on_air = Instant::now();
                }
                Gesture::Hold(Button::GoLive) => status.state = State::Idle,
                Gesture::Tap(Button::Page) => status.page = status.page.next(),
                Gesture::Tap(Button::Mode) => {
                    status.input.signal = if status.input.signal == Signal::Ok {
                        Signal::Lost
                    } else {
                        Signal::Ok
                    };
                }
                _ => {}
            }
        }
        let live = status.state == State::Live;
        status.on_air_ms = live.then(|| on_air.elapsed().as_millis() as u64);
        status.bitrate_kbps = live.then_some(3040);
        status.tally = if live { Tally::On } else { Tally::Off };
        let facts = Facts {
            state: status.state.clone(),
            signal: status.input.signal,
            ..Facts::healthy()
        };
        status.health = health::assess(&facts);

        let level = |speed: f32| -30.0 + 28.0 * (now.as_secs_f32() * speed).sin();
        meters.push(now, [level(1.3), level(1.1)]);
        let view = View {
            meters: meters.read(now),
            hold: gestures.hold_progress(Button::GoLive, Instant::now()),
            since_button: touched.elapsed(),
        };
        display.show(&screen::draw(&status, &view, now))?;
        tally.set(screen::tally_lit(status.tally, now))?;
    }
}

fn status() -> Status {
    Status {
        name: "Panel alone".to_owned(),
        state: State::Idle,
        broadcast: 0,
        on_air_ms: None,
        since: None,
        input: Input {
            signal: Signal::Ok,
            source: "sine".to_owned(),
            format: Some(VideoFormat {
                width: 1280,
                height: 720,
                fps_num: 30,
                fps_den: 1,
            }),
            black: false,
            frozen: false,
            luma: None,
            notes: Vec::new(),
        },
        audio: Audio {
            peak_dbfs: [-90.0; 2],
            rms_dbfs: [-90.0; 2],
            level_dbfs: [-90.0; 2],
            hold_dbfs: [-90.0; 2],
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
            watch_url: "http://127.0.0.1:8080/".to_owned(),
            only_here: false,
            operator_url: "http://127.0.0.1:8081/".to_owned(),
            operator_open: false,
        },
        node: Node {
            peer_id: String::new(),
            peers: 0,
            ipns: String::new(),
            root: None,
            root_is_vod: false,
        },
        uplink: stream::uplink::Uplink::default(),
        viewers: stream::status::Viewers::default(),
        outside: stream::reach::Outside::default(),
        disk: Facts::healthy().disk,
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
