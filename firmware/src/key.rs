//! `podium key export|import FILE`: the channel's key is its name, and whoever has it can speak in that name.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::run::{configure, refuse};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write the key to a new file that only you can read. Keep it off the box.
    Export(Arguments),
    /// Give a box that has no key yet the one in the file.
    Import(Arguments),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The copy, in the form that `ipfs key` has, too.
    file: PathBuf,
    /// TOML file of the box.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the box's keys are; overrides the config.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Prints the channel's name.
pub(crate) fn main_command(command: &Command) -> ExitCode {
    match run(command) {
        Ok(name) => {
            // Whoever closed the pipe does not want to know.
            let _ = writeln!(std::io::stdout(), "{name}");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error.to_string()),
    }
}

fn run(command: &Command) -> Result<node::Name> {
    let (Command::Export(arguments) | Command::Import(arguments)) = command;
    let config = configure(arguments.config.as_deref(), arguments.data_dir.as_deref())?;
    Ok(match command {
        Command::Export(_) => node::export_channel(&config.data_dir, &arguments.file)?,
        Command::Import(_) => node::import_channel(&config.data_dir, &arguments.file)?,
    })
}
