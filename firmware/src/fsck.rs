//! `podium fsck`: looks at every block, puts right what can be, and says what it did.
//!
//! The node knows files; what names them is known here: a broadcast that has lost segments gets playlists without them and is
//! closed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use node::{BroadcastId, Budgets, Damaged, Finding, Node, Report};
use stream::publication::{self, Numbers, Publication, Row};

use crate::appliance::{self, Meta};
use crate::clock::wall_now;
use crate::config::Config;
use crate::numbers;
use crate::on_air::OnAirMark;
use crate::run::{configure, refuse, told};

/// As e2fsck has them: nothing wrong; wrong and put right; wrong and left.
const REPAIRED: u8 = 1;
const LEFT: u8 = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only look, and change nothing but the journal's own broken pages, without which it cannot be read.
    #[arg(long)]
    check: bool,
    /// TOML file of the box.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the box's store is; overrides the config.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(crate) fn main_command(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok((report, closed)) => {
            crate::print(&text(&report, &closed, arguments.check));
            let left = arguments.check || report.findings.iter().any(|it| !it.repairable());
            ExitCode::from(match report.findings.is_empty() {
                true => 0,
                false if left => LEFT,
                false => REPAIRED,
            })
        }
        Err(error) => refuse(&told(&error)),
    }
}

/// The report, and which broadcasts were closed around what they have lost.
fn run(arguments: &Arguments) -> Result<(Report, Vec<BroadcastId>)> {
    let config = configure(arguments.config.as_deref(), arguments.data_dir.as_deref())?;
    let dir = &config.data_dir;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let report = node::fsck(dir, !arguments.check)?;
    if arguments.check {
        return Ok((report, Vec::new()));
    }
    let made_again = (report.findings.iter()).any(|it| matches!(it, Finding::Journal { .. }));
    let mut closed = Vec::new();
    if made_again || !report.damaged.is_empty() {
        runtime.block_on(async {
            let (node, _) = Node::offline(dir, Budgets::UNLIMITED, wall_now).await?;
            let result = close(&node, &config, &report.damaged, made_again, &mut closed).await;
            node.shutdown().await;
            result
        })?;
    }
    Ok((report, closed))
}

async fn close(
    node: &Node,
    config: &Config,
    damaged: &[Damaged],
    made_again: bool,
    closed: &mut Vec<BroadcastId>,
) -> Result<()> {
    if made_again {
        numbers::keep(&config.data_dir, numbers::of_files(node).await?)?;
    }
    for damaged in damaged {
        let id = damaged.broadcast;
        if let Err(error) = close_one(node, config, damaged).await {
            // Its files are there, and the next start does what can be done.
            tracing::warn!(%id, error = format!("{error:#}"), "cannot be closed");
            continue;
        }
        closed.push(id);
    }
    Ok(())
}

async fn close_one(node: &Node, config: &Config, damaged: &Damaged) -> Result<()> {
    let id = damaged.broadcast;
    let stored = node.broadcasts().await?;
    let stored = stored.iter().find(|it| it.id == id).context("it is gone")?;
    let meta: Meta = serde_json::from_slice(&stored.meta).context("nobody knows what it was")?;
    let rows = node.rows(id).await?;
    let rows = rows.iter().map(|row| serde_json::from_slice(row));
    let rows = rows.collect::<Result<Vec<Row>, _>>()?;
    publication::check_rows(meta.first, &rows)?;
    if let Some(last) = rows.last() {
        numbers::keep(&config.data_dir, Numbers::after(last))?;
    }
    let settings = meta.format.apply(appliance::settings(config));
    let lost: BTreeSet<&str> = damaged.lost.iter().map(String::as_str).collect();
    let rows = appliance::without_lost(rows, &settings, |path| lost.contains(path));
    let mark = OnAirMark::in_dir(&config.data_dir);
    appliance::replace_rows(node, &mark, id, &rows).await?;
    let mut publication = Publication::recovered(settings, meta.first, rows, false);
    publication.attach(appliance::beside(node, id, &meta).await);
    appliance::close(node, id, &mut publication).await?;
    Ok(())
}

/// `1 block`, `2 blocks`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn text(report: &Report, closed: &[BroadcastId], check: bool) -> String {
    let mut lines: Vec<String> = (report.findings.iter()).map(ToString::to_string).collect();
    lines.extend(
        closed
            .iter()
            .map(|id| format!("broadcast {id}: closed, with playlists of what is left")),
    );
    if report.leftovers > 0 {
        lines.push(format!(
            "{} unfinished files and blocks{}",
            report.leftovers,
            if check { "" } else { ": removed" }
        ));
    }
    let (broadcasts, blocks) = (report.broadcasts, report.blocks);
    let mib = report.bytes.div_ceil(1 << 20);
    let faults = report.findings.len();
    let verdict = match (faults, check) {
        (0, _) => "nothing is wrong".to_owned(),
        (_, true) => {
            let but = match report.findings.contains(&Finding::JournalPages) {
                true => " but the journal's pages",
                false => "",
            };
            format!("{}, and nothing was changed{but}", count(faults, "fault"))
        }
        (_, false) => count(faults, "fault"),
    };
    let broadcasts = count(broadcasts, "broadcast");
    let blocks = count(blocks, "block");
    lines.push(format!("{broadcasts}, {blocks}, {mib} MiB read: {verdict}"));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_told_as_many() {
        for (number, expected) in [
            (0, "0 broadcasts, 0 blocks, 1 MiB read: nothing is wrong\n"),
            (1, "1 broadcast, 1 block, 1 MiB read: nothing is wrong\n"),
            (2, "2 broadcasts, 2 blocks, 1 MiB read: nothing is wrong\n"),
        ] {
            let report = Report {
                findings: Vec::new(),
                leftovers: 0,
                damaged: Vec::new(),
                broadcasts: number,
                blocks: number,
                bytes: 1,
            };
            assert_eq!(text(&report, &[], true), expected);
        }
    }

    #[test]
    fn what_a_look_has_changed_is_told() {
        let report = Report {
            findings: vec![Finding::JournalPages],
            ..Report::default()
        };
        let said = text(&report, &[], true);
        assert!(said.ends_with("1 fault, and nothing was changed but the journal's pages\n"));
    }
}
