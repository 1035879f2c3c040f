//! What the oracle says at the end: a table for people, JSON for machines.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::rules::{Judge, Level, Violation};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub url: String,
    /// How long it was watched.
    pub watched: Duration,
    /// Answers that were playlists.
    pub snapshots: u64,
    /// Segments that were looked into.
    pub segments: u64,
    /// Parts that were looked into.
    pub parts: u64,
    /// The stream came to its end.
    pub ended: bool,
    /// In the order of their first time.
    pub violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn new(url: &str, watched: Duration, ended: bool, judge: &Judge) -> Report {
        Report {
            url: url.to_owned(),
            watched,
            snapshots: judge.snapshots,
            segments: judge.segments,
            parts: judge.parts,
            ended,
            violations: judge.violations().to_vec(),
        }
    }

    /// No MUST is violated.
    pub fn passed(&self) -> bool {
        self.violations.iter().all(|it| it.level != Level::Must)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}\n{:.0} s, {} snapshots, {} segments, {} parts{}",
            self.url,
            self.watched.as_secs_f64(),
            self.snapshots,
            self.segments,
            self.parts,
            if self.ended { ", ended" } else { "" }
        )?;
        let mut rules: BTreeMap<(Level, &str), Vec<&Violation>> = BTreeMap::new();
        for it in &self.violations {
            rules.entry((it.level, it.rule)).or_default().push(it);
        }
        if rules.is_empty() {
            return writeln!(f, "no rule is broken");
        }
        for ((level, rule), violations) in rules {
            let times: u64 = violations.iter().map(|it| it.count).sum();
            let first = violations[0];
            let level = match level {
                Level::Must => "MUST",
                Level::Should => "SHOULD",
            };
            writeln!(f, "{level:<6} {rule:<42} {times:>5} ×  {}", first.section)?;
            for it in violations.iter().take(3) {
                let at = it.at.as_secs_f64();
                writeln!(f, "         {at:>7.1} s  {}: {}", it.url, it.detail)?;
            }
            if violations.len() > 3 {
                writeln!(f, "         … and {} more", violations.len() - 3)?;
            }
        }
        Ok(())
    }
}
