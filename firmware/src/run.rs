//! `podium run`: bind everything, say where it is, wait for a signal, shut down in order.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use board::sim::Front;
use board::sim::terminal::{self, LogTail, Terminal};
use board::{Board, Kind};
use media::Media;
use node::{Node, Recovered};
use stream::media::Rendition;
use stream::screen;
use stream::status::{Network, VideoRendition};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::appliance::{Appliance, Channels};
use crate::clock::wall_now;
use crate::config::{Config, Dht, Source};
use crate::console::{self, Console};
use crate::devices::Devices;
use crate::gateway::{self, Gateway};
use crate::in_memory::{self, InMemory, NoDisk};
use crate::listener::{Guests, raise_file_limit};
use crate::live::Live;
use crate::on_air::OnAirMark;
use crate::panel::{Identity, Panel};
use crate::{RunArguments, encoder, health, outside, recordings};

/// For so long a signal waits for the mark to be taken away.
const UNMARK: Duration = Duration::from_secs(1);

/// Media events that may wait for the loop: two seconds of frames. More waiting holds the encoder back.
const MEDIA_EVENTS: usize = 256;

/// Commands that may wait: an operator does not press faster.
const COMMANDS: usize = 16;

/// How long viewers' last requests may take at the end.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);

/// Lines of the log that the terminal shows below the panel.
const LOG_LINES: usize = 200;

/// Quiet about the libraries: what they complain about is seldom for the operator. rust-ipfs, and connexa below it, call each dial in vain an
/// error, each record that the DHT has not taken, and each stranger who does not get in. Peers and record are on the operator's page.
const LOG_DEFAULT: &str =
    "warn,podium=info,board=info,media=info,node=info,rust_ipfs=off,connexa=off,libp2p=error";

/// How long the display shows why the box cannot start.
const REFUSAL: Duration = Duration::from_secs(10);

/// Exit status of a box that could not start because of its surroundings.
const CANNOT_START: u8 = 2;

pub(crate) fn run(arguments: &RunArguments) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start threads: {error}")),
    };
    let code = runtime.block_on(begin(arguments));
    // Threads that hang in a driver must not keep a process alive that has finished.
    runtime.shutdown_background();
    code
}

async fn begin(arguments: &RunArguments) -> ExitCode {
    let shutdown = CancellationToken::new();
    let log = LogTail::new(LOG_LINES);
    let (mut board, mut started) = (None, false);
    let result = life(arguments, &shutdown, &log, &mut board, &mut started).await;
    terminal::restore();
    leave_log(&log);
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    let error = told(&error);
    let refused = refuse(&error);
    if started {
        return ExitCode::FAILURE;
    }
    let file = arguments.config.as_deref().filter(|_| !arguments.simulate);
    let of_broken_file = || Board::new(&Config::board_of(file?)?).ok();
    if let Some(mut board) = board
        .or_else(of_broken_file)
        .filter(|board| !board.simulated)
    {
        let _ = board.display.show(&screen::refused(&error));
        // Whoever has switched the box on stands before it and has no log. systemd starts it anew all the while.
        let _ = tokio::time::timeout(REFUSAL, shutdown.cancelled()).await;
    }
    refused
}

/// The panel took the terminal, and what was below it goes with it; here it can be scrolled.
fn leave_log(log: &LogTail) {
    let mut terminal = std::io::stderr().lock();
    for line in log.last(LOG_LINES) {
        // It may have hung up, which is what ended us.
        let _ = writeln!(terminal, "{line}");
    }
}

/// With its causes, and each of these once: most of our errors say theirs themselves.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |said, cause| {
        let cause = cause.to_string();
        match said.is_empty() {
            true => cause,
            false if said.contains(&cause) => said,
            false => format!("{said}: {cause}"),
        }
    })
}

/// One line that says what to do.
#[expect(
    clippy::print_stderr,
    reason = "the last word of a process that cannot do what was asked"
)]
pub(crate) fn refuse(why: &str) -> ExitCode {
    eprintln!("podium: {}", why.replace('\n', " "));
    ExitCode::from(CANNOT_START)
}

/// `board` is left there until the box has a status to show.
async fn life(
    arguments: &RunArguments,
    shutdown: &CancellationToken,
    log: &LogTail,
    board: &mut Option<Board>,
    started: &mut bool,
) -> Result<()> {
    let mut config = configure(arguments.config.as_deref(), arguments.data_dir.as_deref())?;
    if arguments.simulate {
        config.board.kind = board::Kind::Sim;
        if config.capture.source == Source::Device {
            config.capture.source = Source::Test;
        }
    }
    let draw = !arguments.plain && terminal::available();
    log_to(draw.then(|| log.clone()));

    let (mark, marked) = watch::channel(in_memory::marks(&config.data_dir));
    let ending = Shutdown {
        mark: marked,
        token: shutdown.clone(),
    };
    watch_signals(ending.clone())?;

    // First: a store that is large takes a while to open, and what fails is told on the display.
    let display = &mut board.insert(Board::new(&config.board)?).display;
    let _ = display.show(&screen::starting());
    let guests = Guests::viewers(&config.viewer, raise_file_limit());
    let in_use = |error| node::is_in_use(&config.data_dir).map_or(error, Into::into);
    let viewer = bind(config.viewer.listen, "[viewer] listen").await;
    let viewer = viewer.map_err(in_use)?;
    let operator = bind(config.operator.listen, "[operator] listen").await;
    let operator = operator.map_err(in_use)?;
    cap_uplink(&config);
    let background = CancellationToken::new();
    // First: the node signs by a clock that may just be about to be set.
    health::Sample::take(&config.data_dir, &config.board.root);
    let (node, recovered, memory) = open(&mut config).await?;
    if let Some(memory) = &memory {
        mark.send_replace(memory.mark.clone());
    }
    let no_disk = memory.as_ref().map(|memory| memory.no_disk.clone());
    let samples = health::spawn(
        config.data_dir.clone(),
        config.board.root.clone(),
        background.clone(),
    );
    let (media_sender, media_events) = mpsc::channel(MEDIA_EVENTS);
    let media_config = media_config(&config);
    let source = config.capture.source;
    let media = tokio::task::spawn_blocking(move || match (source, &media_config.source) {
        (Source::Encoded, media::Source::File(file)) => Media::start_encoded(file, media_sender),
        _ => Media::start(media_config, media_sender),
    });
    let media = media.await??;

    let at = (viewer.local_addr()?, operator.local_addr()?);
    let board = board.take().context("the board is put up")?;
    let front = board.front.clone();
    let now = Instant::now();
    let mut panel = Panel::new(
        Identity {
            no_disk: no_disk.clone(),
            ..identity(&config, &node, at.0, at.1)
        },
        *samples.borrow(),
        now,
    );
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    encoder::try_out(&config, commands.clone(), background.clone());
    let (live, live_now) = watch::channel(Live::default());
    let (asked, record_asked) = watch::channel(None);
    let outside = outside::spawn(
        &config.node,
        node.clone(),
        live_now.clone(),
        record_asked,
        background.clone(),
    );
    let first = panel.idle_status(now, *node.stats().borrow());
    let network = first.network.clone();
    let mut channels = Channels {
        media: media_events,
        commands: command_queue,
        samples,
        live,
        outside,
        viewers: guests.clone(),
        status: watch::channel(first).0,
    };
    let status = channels.status.subscribe();
    channels.samples.mark_unchanged();
    let host = config.viewer.gateway_host.clone();
    let counts_local = config.node.uplink_counts_local;
    recordings::announce(&config.data_dir, operator.local_addr()?);
    let ready = ready_line(&config, &node, at, no_disk.as_ref());
    let mut appliance = Appliance::new(
        config,
        node.clone(),
        recovered,
        media,
        board,
        panel,
        channels,
    )
    .await?;
    if let Some(memory) = &memory {
        appliance.replace_disk(memory);
    }

    let last = node.clone();
    let gateway = Gateway {
        node,
        live: live_now,
        asked,
        host,
    };
    let console = Console::new(status, commands, front.clone(), last.clone());
    let servers = [
        tokio::spawn(gateway::serve(
            viewer,
            guests,
            gateway,
            counts_local,
            background.clone(),
        )),
        tokio::spawn(console::serve(operator, console, background.clone())),
    ];

    *started = true;
    announce(&ready, &network)?;
    let _terminal = draw
        .then(|| draw_panel(front, log.clone(), ending))
        .flatten();
    let result = appliance.run(shutdown.clone()).await;
    tracing::info!("shutting down: the pages, then the node");
    background.cancel();
    for server in servers {
        // Who is being answered gets the answer; who keeps a connection open does not keep the box from ending.
        let _ = tokio::time::timeout(GOODBYE, server).await;
    }
    last.shutdown().await;
    if let Some(memory) = memory {
        memory.end();
    }
    result
}

/// Opens the node on the disk, or in memory, where the data directory is then.
async fn open(config: &mut Config) -> Result<(Node, Recovered, Option<InMemory>)> {
    if let Some((node, recovered, memory)) = in_memory::go_on(config).await? {
        return Ok((node, recovered, Some(memory)));
    }
    match Node::open(node_config(config)?).await {
        Ok((node, recovered)) => {
            in_memory::forget(&config.data_dir);
            Ok((node, recovered, None))
        }
        Err(error) => {
            let (node, recovered, memory) = in_memory::open(config, error).await?;
            Ok((node, recovered, Some(memory)))
        }
    }
}

/// The config file, or the simulated box; a data directory on the command line goes before the one there.
pub(crate) fn configure(file: Option<&Path>, data_dir: Option<&Path>) -> Result<Config> {
    let mut config = match file {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    if let Some(dir) = data_dir {
        dir.clone_into(&mut config.data_dir);
    }
    Ok(config)
}

pub(crate) fn log_to(tail: Option<LogTail>) {
    let filter = || EnvFilter::try_from_default_env().unwrap_or_else(|_| LOG_DEFAULT.into());
    let builder = || tracing_subscriber::fmt().with_env_filter(filter());
    let installed = match tail {
        Some(tail) => install(builder().with_ansi(false).with_target(false), tail),
        None if std::io::stderr().is_terminal() => {
            install(builder().with_target(false), std::io::stderr)
        }
        None => builder()
            .with_writer(std::io::stderr)
            .json()
            .try_init()
            .is_ok(),
    };
    debug_assert!(installed, "one logger in a process");
}

fn install<W>(
    builder: tracing_subscriber::fmt::SubscriberBuilder<
        tracing_subscriber::fmt::format::DefaultFields,
        tracing_subscriber::fmt::format::Format,
        EnvFilter,
    >,
    writer: W,
) -> bool
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    builder.with_writer(writer).try_init().is_ok()
}

/// What ends the box, asked for once, and what ends the process, asked for again.
#[derive(Debug, Clone)]
struct Shutdown {
    mark: watch::Receiver<OnAirMark>,
    token: CancellationToken,
}

impl Shutdown {
    /// The mark goes here, and not only where the broadcast ends: the process may be ended before that has begun.
    fn first(&self) {
        let mark = self.mark.borrow().clone();
        mark.clear();
        self.token.cancel();
    }

    fn second(code: i32) -> ! {
        terminal::restore();
        std::process::exit(code);
    }
}

fn watch_signals(shutdown: Shutdown) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        let mut asked = false;
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if asked || shutdown.token.is_cancelled() {
                Shutdown::second(code);
            }
            asked = true;
            let first = shutdown.clone();
            let done = tokio::task::spawn_blocking(move || first.first());
            // A disk that hangs must not keep the second signal from being heard.
            let _ = tokio::time::timeout(UNMARK, done).await;
            shutdown.token.cancel();
        }
    });
    Ok(())
}

/// Holds for the whole process, from now on.
pub(crate) fn cap_uplink(config: &Config) {
    let bits = |kbps| NonZeroU64::new(u64::from(kbps) * 1000);
    node::uplink::limit(config.node.uplink_kbps.and_then(bits));
}

pub(crate) async fn bind(address: SocketAddr, key: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let todo = match error.kind() {
            ErrorKind::AddrInUse => "stop what uses it, or choose another port in",
            ErrorKind::PermissionDenied => "choose a port above 1023 in",
            ErrorKind::AddrNotAvailable => "name an address of this machine in",
            _ => "choose another address in",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}; {todo} {key}")
    })
}

pub(crate) fn node_config(config: &Config) -> Result<node::Config> {
    let swarm_key = config.node.swarm_key.as_ref().map(|path| {
        std::fs::read_to_string(path)
            .with_context(|| format!("[node] swarm_key: cannot read {}", path.display()))
    });
    Ok(node::Config {
        dir: config.data_dir.clone(),
        listen: config.node.listen.clone(),
        allowance: config.store.allowance(),
        mdns: config.node.mdns,
        peers: config.node.peers.clone(),
        dht: match config.node.dht {
            Dht::Client => node::DhtMode::Client,
            Dht::Server => node::DhtMode::Server,
        },
        swarm_key: swarm_key.transpose()?,
        limits: node::Limits {
            incoming: config.node.max_incoming,
            ..node::Limits::default()
        },
        wall_clock: wall_now,
    })
}

pub(crate) fn media_config(config: &Config) -> media::Config {
    media::Config {
        name: config.name.clone(),
        source: match config.capture.source {
            Source::Test => media::Source::Test,
            Source::File | Source::Encoded => {
                media::Source::File(config.capture.file.clone().unwrap_or_default())
            }
            Source::Device => media::Source::Card(Arc::new(Devices::new(config))),
        },
        width: config.video.width,
        height: config.video.height,
        fps: config.video.fps,
        video_bitrate_kbps: config.video.bitrate_kbps,
        encoder: encoder::at_start(config),
        low: config.video.low.map(|low| media::LowVideo {
            width: low.width,
            height: low.height,
            bitrate_kbps: low.bitrate_kbps,
        }),
        audio_bitrate_kbps: config.audio.bitrate_kbps,
        segment: config.hls.segment(),
        av_offset_ms: config.capture.av_offset_ms,
    }
}

fn identity(config: &Config, node: &Node, viewer: SocketAddr, operator: SocketAddr) -> Identity {
    let file_name = |path: &std::path::Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let source = match media_config(config).source {
        media::Source::File(path) => file_name(&path).unwrap_or_default(),
        media::Source::Card(_) => "capture card".to_owned(),
        media::Source::Test | media::Source::Signal(_) => "test picture".to_owned(),
    };
    Identity {
        name: config.name.clone(),
        source,
        viewer,
        operator,
        peer_id: node.peer_id().to_owned(),
        ipns: node.channel().to_string(),
        segment: config.hls.segment(),
        video_kbps: config.video.bitrate_kbps,
        encoder: encoder::at_start(config),
        fps: config.video.fps,
        videos: videos(config),
        no_disk: None,
        simulated: config.board.kind == Kind::Sim,
    }
}

/// What viewers can choose from.
pub(crate) fn videos(config: &Config) -> Vec<VideoRendition> {
    let video = &config.video;
    let rendition = |name: Rendition, width, height, bitrate_kbps| VideoRendition {
        name: name.name(),
        width,
        height,
        bitrate_kbps,
    };
    let low = video.low;
    std::iter::once(rendition(
        Rendition::Video,
        video.width,
        video.height,
        video.bitrate_kbps,
    ))
    .chain(low.map(|low| rendition(Rendition::Low, low.width, low.height, low.bitrate_kbps)))
    .collect()
}

/// The address by which this machine reaches a listener of its own.
pub(crate) fn local(address: SocketAddr) -> SocketAddr {
    let ip = if address.ip().is_unspecified() {
        [127, 0, 0, 1].into()
    } else {
        address.ip()
    };
    SocketAddr::new(ip, address.port())
}

/// For tests and scripts: where everything is, as one JSON object.
fn ready_line(
    config: &Config,
    node: &Node,
    (viewer, operator): (SocketAddr, SocketAddr),
    no_disk: Option<&NoDisk>,
) -> String {
    serde_json::json!({
        "viewer": format!("http://{}", local(viewer)),
        "operator": format!("http://{}", local(operator)),
        "peer_id": node.peer_id(),
        "listen": node.listen(),
        "ipns": node.channel().to_string(),
        "data_dir": config.data_dir,
        "disk_fault": no_disk.map(|it| it.fault),
    })
    .to_string()
}

fn announce(ready: &str, network: &Network) -> Result<()> {
    let mut out = std::io::stdout().lock();
    // A script that has closed the pipe has seen enough; that is not the stream's business.
    let _ = writeln!(out, "{ready}").and_then(|()| out.flush());
    tracing::info!("watch:    {}", network.watch_url);
    tracing::info!("operate:  {}", network.operator_url);
    if network.operator_open {
        tracing::warn!(
            "anyone on this network can control this box: set [operator] listen to 127.0.0.1:8081"
        );
    } else {
        tracing::info!("only this machine can operate it");
    }
    Ok(())
}

/// A terminal that cannot be drawn on costs the picture there and nothing else.
fn draw_panel(front: Front, log: LogTail, shutdown: Shutdown) -> Option<Terminal> {
    let quit = move || {
        if shutdown.token.is_cancelled() {
            Shutdown::second(130);
        }
        shutdown.first();
    };
    terminal::spawn(front, log, quit)
        .inspect_err(|error| tracing::warn!(%error, "no panel in the terminal"))
        .ok()
}
