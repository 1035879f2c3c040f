//! Podium: the firmware of a live-streaming encoder box.

mod addresses;
mod appliance;
mod av_sync;
mod buttons;
mod check;
mod clock;
mod config;
mod console;
mod devices;
mod encoder;
mod fsck;
mod gateway;
mod health;
mod in_memory;
mod kept;
mod key;
mod listener;
mod live;
mod mirror;
mod numbers;
mod on_air;
mod outside;
mod panel;
mod recordings;
mod run;
mod web;
mod wishes;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the box. Without a config it is simulated: a test picture, and the panel in the terminal.
    Run(RunArguments),
    /// Follow a box by its name: keep what it publishes, and serve it to viewers as the box does.
    Mirror(mirror::Arguments),
    /// Back up the channel's key, which is its name, or restore it on another box.
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
    /// Try the encoders; the box does so itself, in a process that may hang.
    #[command(hide = true)]
    TryEncoders { trial: String },
    /// Check the configuration, and with --hardware every part of this machine. Exit status 0: nothing failed.
    Check {
        /// TOML file.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Display, buttons, light, encoder, capture card, heat, power, storage, clock, watchdog. Stop the box first.
        #[arg(long)]
        hardware: bool,
    },
    /// List what is recorded, oldest first: in the order in which it is deleted when room is needed.
    List(recordings::Place),
    /// Keep a recording from being deleted to make room.
    Pin(recordings::Chosen),
    /// Let a recording be deleted when room is needed.
    Unpin(recordings::Chosen),
    /// Delete a recording: not the newest one, which the name leads to, and none that is pinned. Others may have copies.
    Delete(recordings::Chosen),
    /// Verify every block, the recordings and the journal while no box is running, and repair them. Exit status 0: nothing was
    /// wrong, 1: all is repaired, 4: something is left, 2: it could not look.
    Fsck(fsck::Arguments),
    /// List what can be captured from.
    Devices,
    /// Watch any live HLS stream and say which rules its origin breaks. Exit status 0: no MUST is broken.
    CheckHls {
        /// Address of a multivariant or media playlist.
        url: String,
        /// How long to watch.
        #[arg(long, default_value_t = 60, value_name = "N")]
        seconds: u64,
        /// Print the report as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArguments {
    /// TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where keys, store and journal are; overrides the config.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Use simulated hardware whatever the config says: a test picture unless it names a recording.
    #[arg(long)]
    simulate: bool,
    /// Log to the terminal instead of drawing the panel there.
    #[arg(long)]
    plain: bool,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Mirror(arguments) => mirror::main_command(&arguments),
        Command::Key { command } => key::main_command(&command),
        Command::Check { config, hardware } => check::main_command(config.as_deref(), hardware),
        Command::TryEncoders { trial } => encoder::main_command(&trial),
        Command::List(place) => recordings::list(&place),
        Command::Pin(chosen) => recordings::pin(&chosen, true),
        Command::Unpin(chosen) => recordings::pin(&chosen, false),
        Command::Delete(chosen) => recordings::delete(&chosen),
        Command::Fsck(arguments) => fsck::main_command(&arguments),
        Command::Devices => print(&devices::list()),
        Command::CheckHls { url, seconds, json } => match oracle::main_command(&url, seconds, json)
        {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => run::refuse(&error.to_string()),
        },
    }
}

/// Writes a command's answer. A reader that has closed the pipe has seen enough.
pub(crate) fn print(text: &str) -> ExitCode {
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
