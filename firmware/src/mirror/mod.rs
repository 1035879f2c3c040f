//! `podium mirror`: follows a box by its name, keeps what it publishes and serves it.
//!
//! [`stream::follower`] decides what is believed and fetched, [`stream::extent`] how much of it at a time, [`take`] fetches a broadcast and
//! takes it over, [`follow`] is the loop between them, and the gateway is the box's own.

mod ask;
mod follow;
mod operator;
mod take;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use node::{Name, Node};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::gateway::{self, Gateway};
use crate::listener::{Guests, raise_file_limit};
use crate::live::Live;
use crate::run::{GOODBYE, bind, cap_uplink, configure, local, log_to, node_config, refuse, told};
use crate::{print, recordings};
use follow::Mirror;

/// Records that may wait: one comes with each segment, and another from every mirror.
const HEARD: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The box's IPNS name: `podium run` prints it, and the operator's page shows it.
    name: String,
    /// Where the box or another mirror is: a multiaddress that ends in `/p2p/<peer id>`, or the address of its watch page, as
    /// `http://192.0.2.1:8080`. May be given several times.
    #[arg(long, value_name = "ADDR")]
    peer: Vec<String>,
    /// What to keep: `all` that the box publishes, as far as the store's limit allows, or the `window` that a viewer can go back.
    #[arg(long, value_enum, default_value_t = Keep::All)]
    keep: Keep,
    /// TOML file as the box's, of which `data_dir`, `[viewer]`, `[operator]`, `[node]` and `[store]` are used.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the mirror's keys, store and journal are; overrides the config. Not a box's.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the viewers' pages and streams; overrides the config.
    #[arg(long, value_name = "ADDR")]
    viewer: Option<SocketAddr>,
    /// Address of the status; overrides the config.
    #[arg(long, value_name = "ADDR")]
    operator: Option<SocketAddr>,
    /// Multiaddress of the IPFS node; overrides the config. May be given several times.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Do not believe what comes over PubSub, and ask instead.
    #[arg(long)]
    no_pubsub: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Keep {
    Window,
    All,
}

pub(crate) fn main_command(arguments: &Arguments) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&format!("cannot start threads: {error}")),
    };
    let result = runtime.block_on(life(arguments));
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&told(&error)),
    }
}

fn configured(arguments: &Arguments) -> Result<(Config, Name, Vec<String>)> {
    let name: Name = arguments.name.parse()?;
    let mut config = configure(arguments.config.as_deref(), arguments.data_dir.as_deref())?;
    if let Some(viewer) = arguments.viewer {
        config.viewer.listen = viewer;
    }
    if let Some(operator) = arguments.operator {
        config.operator.listen = operator;
    }
    if !arguments.listen.is_empty() {
        config.node.listen.clone_from(&arguments.listen);
    }
    let (http, multi): (Vec<String>, Vec<String>) = (arguments.peer.iter().cloned())
        .partition(|peer| peer.starts_with("http://") || peer.starts_with("https://"));
    for peer in &multi {
        node::peer_of(peer).map_err(|error| {
            anyhow::anyhow!("--peer: {error}, or the watch page's, like http://192.0.2.1:8080")
        })?;
    }
    config.node.peers.extend(multi);
    Ok((config, name, http))
}

async fn life(arguments: &Arguments) -> Result<()> {
    let (config, name, http) = configured(arguments)?;
    log_to(None);
    let shutdown = CancellationToken::new();
    watch_signals(shutdown.clone())?;
    let guests = Guests::viewers(&config.viewer, raise_file_limit());
    let viewer = bind(config.viewer.listen, "--viewer").await?;
    let operator = bind(config.operator.listen, "--operator").await?;
    cap_uplink(&config);
    let (sender, heard) = mpsc::channel(HEARD);
    let opened = Node::follow(node_config(&config)?, name, sender).await;
    let (node, _) = opened?;
    recordings::announce(&config.data_dir, operator.local_addr()?);

    let (live, live_now) = watch::channel(Live::default());
    let (asked, record_asked) = watch::channel(None);
    let keep = arguments.keep;
    let (mirror, status) = Mirror::new(
        &config,
        node.clone(),
        keep,
        http,
        live,
        record_asked,
        guests.clone(),
    )
    .await?;
    let at = (viewer.local_addr()?, operator.local_addr()?);
    let background = CancellationToken::new();
    let servers = [
        tokio::spawn(gateway::serve(
            viewer,
            guests,
            Gateway {
                node: node.clone(),
                live: live_now,
                host: config.viewer.gateway_host.clone(),
                asked,
            },
            config.node.uplink_counts_local,
            background.clone(),
        )),
        tokio::spawn(operator::serve(
            operator,
            operator::Operator {
                status,
                node: node.clone(),
            },
            background.clone(),
        )),
    ];
    let ready = serde_json::json!({
        "viewer": format!("http://{}", local(at.0)),
        "operator": format!("http://{}", local(at.1)),
        "peer_id": node.peer_id(),
        "listen": node.listen(),
        "ipns": name.to_string(),
        "data_dir": config.data_dir,
    });
    print(&format!("{ready}\n"));
    mirror.run(heard, !arguments.no_pubsub, shutdown).await;
    tracing::info!("shutting down");
    background.cancel();
    for server in servers {
        let _ = tokio::time::timeout(GOODBYE, server).await;
    }
    node.shutdown().await;
    Ok(())
}

fn watch_signals(shutdown: CancellationToken) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let code = tokio::select! {
                _ = terminate.recv() => 143,
                _ = interrupt.recv() => 130,
            };
            if shutdown.is_cancelled() {
                std::process::exit(code);
            }
            shutdown.cancel();
        }
    });
    Ok(())
}
