//! The oracle against our box and against origins that are not ours, side by side and with the same eyes.
//!
//! `make bench-oracle` watches each for ten minutes (`S=60` for a minute) and prints one table, then every report.

use std::time::Duration;

use oracle::{Level, Options, Report};
use tests::foreign::Origin;
use tests::{Config, Podium};

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let options = Options {
        duration: Duration::from_secs(seconds.unwrap_or(600)),
        ..Options::default()
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let podium = Podium::start(dir.path(), &Config::large());
    podium.go_live();
    let (plain, low) = (Origin::ffmpeg_and_nginx(), Origin::multimux());
    let mut streams = vec![("podium", format!("{}/live/index.m3u8", podium.viewer))];
    streams.extend(plain.iter().map(|it| ("ffmpeg + nginx", it.url.clone())));
    streams.extend(low.iter().map(|it| ("multimux", it.url.clone())));
    let reports: Vec<(&str, Report)> = std::thread::scope(|scope| {
        let watches: Vec<_> = streams
            .iter()
            .map(|(name, url)| {
                (
                    *name,
                    scope.spawn(|| oracle::watch(url, &options, &mut |_| {})),
                )
            })
            .collect();
        let done = watches.into_iter().map(|(name, it)| {
            let report = it.join().expect("a watcher does not panic");
            (
                name,
                report.unwrap_or_else(|error| panic!("{name}: {error}")),
            )
        });
        done.collect()
    });
    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    {
        println!(
            "| origin         | watched | snapshots | segments | parts | MUST broken | SHOULD broken |"
        );
        println!(
            "|----------------|---------|-----------|----------|-------|-------------|---------------|"
        );
        for (name, it) in &reports {
            println!(
                "| {name:<14} | {:>5.0} s | {:>9} | {:>8} | {:>5} | {:>11} | {:>13} |",
                it.watched.as_secs_f64(),
                it.snapshots,
                it.segments,
                it.parts,
                broken(it, Level::Must),
                broken(it, Level::Should),
            );
        }
        for (name, report) in &reports {
            println!("\n{name}: {report}");
        }
    }
}

/// How many rules of a level are broken.
fn broken(report: &Report, level: Level) -> usize {
    let rules = report.violations.iter().filter(|it| it.level == level);
    let mut rules: Vec<_> = rules.map(|it| it.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules.len()
}
