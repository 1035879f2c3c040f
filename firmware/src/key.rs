//! `podium key export|import FILE`: the channel's key is its name, and whoever has it can speak in that name.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use node::Imported;

use crate::clock::wall_now;
use crate::numbers;
use crate::run::{configure, refuse};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write the key to a new file that only you can read. Keep it off the box.
    Export(Arguments),
    /// Give a box the key in the file. Its numbers go on behind all that another box may have used under that name.
    Import {
        #[command(flatten)]
        arguments: Arguments,
        /// Where the box has a key: move it aside, and say where.
        #[arg(long)]
        replace: bool,
    },
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
        Ok(Imported { name, moved }) => {
            // Whoever closed the pipe does not want to know.
            let _ = writeln!(std::io::stdout(), "{name}");
            if let Some(moved) = moved {
                let moved = moved.display();
                let _ = writeln!(std::io::stderr(), "the key that was here is in {moved} now");
            }
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error.to_string()),
    }
}

fn run(command: &Command) -> Result<Imported> {
    let (Command::Export(arguments) | Command::Import { arguments, .. }) = command;
    let config = configure(arguments.config.as_deref(), arguments.data_dir.as_deref())?;
    let (dir, file) = (&config.data_dir, &arguments.file);
    match command {
        Command::Export(_) => Ok(Imported {
            name: node::export_channel(dir, file)?,
            moved: None,
        }),
        Command::Import { replace, .. } => {
            let may_be_wrong = board::machine::sample(&config.board.root)
                .clock
                .may_be_wrong();
            let Some(now) = wall_now().filter(|_| !may_be_wrong) else {
                bail!(
                    "the clock is not set, and numbers go on from it: connect a network, wait until `timedatectl` says that the clock is \
                     synchronized, then import again"
                );
            };
            let prepare = || numbers::keep(dir, numbers::unused(now));
            Ok(node::import_channel(dir, file, *replace, prepare)?)
        }
    }
}
