//! Sound against picture: the self-test while it runs, and the trim that is in force.
//!
//! Who spoke last wins. A trim that is set on the box holds over the configured `av_offset_ms`, also after a restart, until it
//! is reset, until somebody changes the configured value, or until another input is configured. It belongs to the card: while
//! another one is found the configuration holds, and the status says so.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use stream::self_test::{self, Observation, SelfTest};
use stream::status::{self, MOST_TRIM_MS};

use crate::config::{self, Config};
use crate::kept::Kept;

pub(crate) const FILE: &str = "av-trim.json";

/// What the operator can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SyncCommand {
    Start,
    End,
    /// Trims by what the self-test has measured.
    Take,
    /// Milliseconds; `None` goes back to the configured ones.
    Trim(Option<i32>),
}

/// What is on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    trim_ms: i32,
    /// The configured value that it took the place of.
    configured_ms: i32,
    /// The configured input that it was measured for.
    input: String,
    /// The card that was found there, as people call it; an earlier version wrote its USB generation, too, and one before it nothing.
    /// Absent without one.
    #[serde(default)]
    card: Option<String>,
}

#[derive(Debug)]
pub(crate) struct AvSync {
    configured_ms: i32,
    input: String,
    /// The card that was found last.
    card: Option<String>,
    taken: Option<Taken>,
    test: Option<(SelfTest, Instant)>,
    clocks: media::Sync,
    file: Kept<Taken>,
}

impl AvSync {
    pub(crate) fn new(config: &Config) -> AvSync {
        let path = config.data_dir.join(FILE);
        let configured_ms = config.capture.av_offset_ms;
        let input = input(&config.capture);
        let taken = load(&path)
            .filter(|taken| taken.configured_ms == configured_ms && taken.input == input);
        if let Some(taken) = &taken {
            tracing::info!(trim_ms = taken.trim_ms, "picture trimmed as set on the box");
        }
        let file = Kept::at(
            path,
            "the trim cannot be kept; it will be gone after a restart",
        );
        AvSync {
            configured_ms,
            input,
            card: None,
            taken,
            test: None,
            clocks: media::Sync::default(),
            file,
        }
    }

    pub(crate) fn trim_ms(&self) -> i32 {
        self.in_force()
            .map_or(self.configured_ms, |taken| taken.trim_ms)
    }

    /// Until a card is found it is taken for the one that was there.
    fn in_force(&self) -> Option<&Taken> {
        let taken = self.taken.as_ref()?;
        let other = (taken.card.as_ref()).zip(self.card.as_ref());
        other
            .is_none_or(|(of, found)| model(of) == found)
            .then_some(taken)
    }

    /// A card was found. What an earlier version kept is this one's.
    pub(crate) fn found(&mut self, card: &str) {
        self.card = Some(model(card).to_owned());
        if let Some(taken) = (self.taken.as_mut()).filter(|taken| taken.card.is_none()) {
            taken.card.clone_from(&self.card);
            self.file.keep(Some(taken.clone()));
        }
    }

    /// What is wrong with the trim, and what to do.
    pub(crate) fn note(&self) -> Option<String> {
        let of = self.taken.as_ref()?.card.as_ref()?;
        self.in_force().is_none().then(|| {
            format!(
                "the A/V trim is that of another card ({of}) and is left out: run the self-test"
            )
        })
    }

    /// Begins the self-test, or begins it anew.
    pub(crate) fn start(&mut self, now: Instant) {
        self.test = Some((SelfTest::default(), now + self_test::LIMIT));
    }

    pub(crate) fn end(&mut self) {
        self.test = None;
    }

    /// Whether the self-test has run for long enough.
    pub(crate) fn overdue(&self, now: Instant) -> bool {
        self.test.as_ref().is_some_and(|(_, until)| now >= *until)
    }

    pub(crate) fn observe(&mut self, observation: &Observation) {
        if let Some((test, _)) = &mut self.test {
            test.observe(observation);
        }
    }

    pub(crate) fn clocks(&mut self, clocks: media::Sync) {
        self.clocks = clocks;
    }

    /// Changes the trim, here and on the disk; `None` goes back to the configured one.
    pub(crate) fn set(&mut self, trim_ms: Option<i32>) {
        self.taken = trim_ms.map(|ms| Taken {
            trim_ms: ms.clamp(-MOST_TRIM_MS, MOST_TRIM_MS),
            configured_ms: self.configured_ms,
            input: self.input.clone(),
            card: self.card.clone(),
        });
        self.file.keep(self.taken.clone());
    }

    pub(crate) fn status(&self) -> status::Sync {
        let sync = status::Sync {
            trim_ms: self.trim_ms(),
            trim_taken: self.in_force().is_some(),
            drift_ppm: self.clocks.drift_ppm,
            error_ms: self.clocks.error_ms,
            test: None,
        };
        match &self.test {
            Some((test, _)) => sync.testing(test.finding()),
            None => sync,
        }
    }

    /// Waits until the disk has the last trim.
    pub(crate) async fn shutdown(self) {
        self.file.shutdown().await;
    }
}

/// A card's name without ` on USB 3`: a loose plug may bring it back as another generation, and it is the same card.
fn model(card: &str) -> &str {
    card.rsplit_once(" on USB ")
        .map_or(card, |(model, _)| model)
}

fn input(capture: &config::Capture) -> String {
    let path = |path: &Option<PathBuf>| {
        (path.as_ref()).map_or_else(String::new, |path| path.display().to_string())
    };
    match capture.source {
        config::Source::Test => "test".into(),
        config::Source::File | config::Source::Encoded => {
            format!("file {}", path(&capture.file))
        }
        config::Source::Device => {
            let audio = capture.audio_device.as_deref().unwrap_or_default();
            format!("device {} {audio}", path(&capture.video_device))
        }
    }
}

fn load(path: &Path) -> Option<Taken> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::error!(%error, file = %path.display(), "the trim cannot be read; the configured one holds");
            }
            return None;
        }
    };
    let taken: Option<Taken> = serde_json::from_slice(&text).ok();
    let taken = taken.filter(|taken| (-MOST_TRIM_MS..=MOST_TRIM_MS).contains(&taken.trim_ms));
    if taken.is_none() {
        tracing::error!(file = %path.display(), "this is not a trim; the configured one holds");
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, av_offset_ms: i32, device: &str) -> Config {
        let mut config = Config {
            data_dir: dir.into(),
            ..Config::default()
        };
        config.capture.source = config::Source::Device;
        config.capture.video_device = Some(device.into()).filter(|_| !device.is_empty());
        config.capture.av_offset_ms = av_offset_ms;
        config
    }

    #[tokio::test]
    async fn who_spoke_last_wins() {
        let dir = tempfile::tempdir().unwrap();
        let open = |configured, device| AvSync::new(&config(dir.path(), configured, device));
        let check = |sync: &AvSync, trim_ms, taken| {
            let status = sync.status();
            assert_eq!((status.trim_ms, status.trim_taken), (trim_ms, taken));
        };
        let mut sync = open(40, "/dev/video0");
        check(&sync, 40, false);
        sync.set(Some(7));
        sync.set(Some(12));
        check(&sync, 12, true);
        sync.shutdown().await;
        // A restart, another card, the same card again, a configuration that was changed.
        check(&open(40, "/dev/video0"), 12, true);
        check(&open(40, "/dev/video1"), 40, false);
        check(&open(40, "/dev/video0"), 12, true);
        check(&open(30, "/dev/video0"), 30, false);
        let mut sync = open(40, "/dev/video0");
        sync.set(None);
        check(&sync, 40, false);
        sync.shutdown().await;
        check(&open(40, "/dev/video0"), 40, false);
        assert!(!dir.path().join(FILE).exists());
    }

    #[tokio::test]
    async fn a_trim_belongs_to_the_card_that_it_was_set_with() {
        const STICK: &str = "HDMI stick MS2109 on USB 2";
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 40, "");
        let check = |sync: &mut AvSync, card: &str, trim_ms: i32| {
            sync.found(card);
            let status = sync.status();
            let taken = trim_ms != 40;
            assert_eq!((status.trim_ms, status.trim_taken), (trim_ms, taken));
            assert_eq!(sync.note().is_none(), taken, "{card}: {:?}", sync.note());
        };
        // Of an earlier version: whose it was nobody has kept.
        let old = r#"{"trim_ms":12,"configured_ms":40,"input":"device  "}"#;
        std::fs::write(dir.path().join(FILE), old).unwrap();
        let mut sync = AvSync::new(&config);
        assert_eq!((sync.trim_ms(), sync.note()), (12, None));
        check(&mut sync, STICK, 12);
        check(&mut sync, "another", 40);
        check(&mut sync, STICK, 12);
        check(&mut sync, "HDMI stick MS2109 on USB 3", 12);
        sync.shutdown().await;

        let mut sync = AvSync::new(&config);
        assert_eq!(sync.trim_ms(), 12, "no card was found yet");
        check(&mut sync, "another", 40);
        sync.set(Some(-7));
        check(&mut sync, "another", -7);
        check(&mut sync, STICK, 40);
        sync.set(None);
        assert_eq!((sync.trim_ms(), sync.note()), (40, None));
        sync.shutdown().await;

        // Of a version that kept the generation, too.
        let old = r#"{"trim_ms":12,"configured_ms":40,"input":"device  ","card":"Stick on USB 3"}"#;
        std::fs::write(dir.path().join(FILE), old).unwrap();
        let mut sync = AvSync::new(&config);
        check(&mut sync, "Stick on USB 2", 12);
        check(&mut sync, "another", 40);
        sync.shutdown().await;
    }

    #[tokio::test]
    async fn what_is_not_a_trim_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 0, "/dev/video0");
        for text in [
            "",
            "{",
            "12",
            r#"{"trim_ms":12}"#,
            r#"{"trim_ms":501,"configured_ms":0,"input":"device /dev/video0 "}"#,
        ] {
            std::fs::write(dir.path().join(FILE), text).unwrap();
            assert_eq!(AvSync::new(&config).trim_ms(), 0, "{text}");
        }
        let good = r#"{"trim_ms":-500,"configured_ms":0,"input":"device /dev/video0 "}"#;
        std::fs::write(dir.path().join(FILE), good).unwrap();
        assert_eq!(AvSync::new(&config).trim_ms(), -500);
    }
}
