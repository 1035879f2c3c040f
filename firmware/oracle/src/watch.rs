//! The edge: a player that asks for everything, and tells the [judge](Judge) what it got.
//!
//! One thread asks for one thing after another: what it measures are then the origin's times and not its own. Playlists come
//! first, because the rules about time are theirs.

use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::playlist::{self, Playlist, Resource, resolve};
use crate::report::Report;
use crate::rules::{Judge, Kind, Observation, Settings, State, Violation};

/// No playlist and no segment is larger.
const LARGEST: u64 = 256 << 20;
/// No answer takes longer: even a blocking reload answers within three target durations (rfc8216bis section 6.2.5.2).
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two rounds where the origin blocks: enough to leave it alone if it does not.
const PAUSE: Duration = Duration::from_millis(30);
/// How far beyond the end the bad request asks; two is allowed.
const FAR: u64 = 100;

#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("{url} cannot be had: {source}; check the address and that the stream is live")]
    Unreachable { url: String, source: ureq::Error },
    #[error("{url} answers with status {status}; check the address and that the stream is live")]
    Refused { url: String, status: u16 },
    #[error("{url} is not an HLS playlist: it does not begin with #EXTM3U")]
    NotAPlaylist { url: String },
    #[error("cannot print the report: {0}")]
    Print(#[from] io::Error),
    #[error("cannot write the report as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Stops then, or when the stream ends.
    pub duration: Duration,
    /// Fetch segments and parts too, not only playlists.
    pub media: bool,
    pub settings: Settings,
}

impl Default for Options {
    /// A minute, with media.
    fn default() -> Options {
        Options {
            duration: Duration::from_secs(60),
            media: true,
            settings: Settings::default(),
        }
    }
}

/// Test seam: the end-to-end test's origin and its watcher share a time of their own.
pub trait Clock {
    /// Since any fixed moment.
    fn now(&self) -> Duration;
    fn wait(&self, time: Duration);
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct WallClock(Instant);

impl Default for WallClock {
    fn default() -> WallClock {
        WallClock(Instant::now())
    }
}

impl Clock for WallClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Watches a multivariant or media playlist. `sink` gets each violation when it is first seen.
///
/// # Errors
/// If there is no playlist at `url` to begin with. Later failures are the origin's, and in the report.
pub fn watch(
    url: &str,
    options: &Options,
    sink: &mut dyn FnMut(&Violation),
) -> Result<Report, WatchError> {
    watch_with(url, options, &WallClock::default(), sink)
}

/// [`watch`] with another clock.
///
/// # Errors
/// As [`watch`].
pub fn watch_with(
    url: &str,
    options: &Options,
    clock: &dyn Clock,
    sink: &mut dyn FnMut(&Violation),
) -> Result<Report, WatchError> {
    let mut watcher = Watcher {
        agent: ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into(),
        clock,
        judge: Judge::new(options.settings),
        sink,
        told: 0,
    };
    let begun = clock.now();
    let lists = watcher.begin(url)?;
    let mut ended = false;
    let mut round = 0;
    while clock.now() - begun < options.duration && !ended {
        let pause = watcher.round(&lists, round, options.media);
        let states = lists.iter().map(|list| watcher.judge.state(list));
        ended = states.flatten().filter(|it| it.ended).count() == lists.len();
        if !ended {
            clock.wait(pause);
        }
        round += 1;
    }
    let watched = clock.now() - begun;
    Ok(Report::new(url, watched, ended, &watcher.judge))
}

/// `podium check-hls`: watches, prints the report and returns whether no MUST is violated.
///
/// # Errors
/// As [`watch`], or if the report cannot be printed.
pub fn main_command(url: &str, seconds: u64, json: bool) -> Result<bool, WatchError> {
    let options = Options {
        duration: Duration::from_secs(seconds),
        ..Options::default()
    };
    let report = watch(url, &options, &mut |_| {})?;
    let mut out = io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(report.passed())
}

struct Watcher<'a> {
    agent: ureq::Agent,
    clock: &'a dyn Clock,
    judge: Judge,
    sink: &'a mut dyn FnMut(&Violation),
    /// Violations that the sink has had.
    told: usize,
}

/// An answer, and where it points if it is a redirect.
struct Answer {
    observation: Observation,
    location: Option<String>,
}

impl Watcher<'_> {
    /// Finds the media playlists.
    fn begin(&mut self, url: &str) -> Result<Vec<String>, WatchError> {
        let mut url = url.to_owned();
        let mut answer = self.try_get(&url, Kind::Media)?;
        // A playlist may be redirected; what is relative in it is relative to where it is.
        for _ in 0..5 {
            let Some(location) = answer.location else {
                break;
            };
            url = resolve(&url, &location);
            answer = self.try_get(&url, Kind::Media)?;
        }
        let mut observation = answer.observation;
        if observation.status != 200 {
            let status = observation.status;
            return Err(WatchError::Refused { url, status });
        }
        let text = String::from_utf8_lossy(&observation.body);
        match playlist::parse(&url, text.trim_start_matches('\u{feff}')) {
            None => Err(WatchError::NotAPlaylist { url }),
            Some(Playlist::Media(_)) => {
                self.observe(&observation);
                Ok(vec![url])
            }
            Some(Playlist::Multivariant(_)) => {
                observation.kind = Kind::Multivariant;
                self.observe(&observation);
                Ok(self.judge.media_playlists())
            }
        }
    }

    /// Everything once. Returns how long to wait before the next round.
    fn round(&mut self, lists: &[String], round: u64, media: bool) -> Duration {
        let mut pause = Duration::from_secs(1);
        let mut blocks = !lists.is_empty();
        for (index, list) in lists.iter().enumerate() {
            let state = self.judge.state(list);
            let url = match &state {
                Some(state) if state.ended => continue,
                Some(state) => {
                    pause = pause.min(state.target_duration / 5).max(PAUSE);
                    blocks &= state.can_block;
                    directives(list, state, round)
                }
                None => list.clone(),
            };
            self.get(&url, Kind::Media);
            if round == 3
                && let Some(state) = state.filter(|it| it.can_block)
            {
                let far = state.next_part.0 + FAR;
                self.get(&with(list, "_HLS_part=0"), Kind::Media);
                self.get(&with(list, &format!("_HLS_msn={far}")), Kind::Media);
            }
            // In turns, so that no rendition waits for all of them.
            let turn = (round + index as u64) % 4 == 3;
            if media
                && turn
                && let Some(hint) = self.judge.state(list).and_then(|it| it.hint)
            {
                self.fetch(&hint);
            }
        }
        if media {
            while let Some(resource) = self.judge.next_wanted() {
                self.fetch(&resource);
            }
            let now = self.clock.now();
            while let Some(resource) = self.judge.next_probe(now, pause * 8) {
                self.fetch(&resource);
            }
        }
        if blocks { PAUSE } else { pause }
    }

    fn fetch(&mut self, resource: &Resource) {
        let kind = Kind::Resource(resource.range);
        let mut from = resource.url.clone();
        for _ in 0..5 {
            let Some(location) = self.get_from(&resource.url, &from, kind) else {
                break;
            };
            from = resolve(&from, &location);
        }
    }

    fn get(&mut self, url: &str, kind: Kind) {
        self.get_from(url, url, kind);
    }

    /// Asks for `from` and observes it as `url`. Returns where a redirect points.
    fn get_from(&mut self, url: &str, from: &str, kind: Kind) -> Option<String> {
        let asked = self.clock.now();
        let answer = self.try_get(from, kind).unwrap_or_else(|_| Answer {
            // Nobody answers: no status.
            observation: Observation {
                asked,
                at: self.clock.now(),
                url: url.to_owned(),
                kind,
                status: 0,
                content_type: None,
                content_encoding: None,
                body: Bytes::new(),
            },
            location: None,
        });
        let observation = Observation {
            url: url.to_owned(),
            ..answer.observation
        };
        self.observe(&observation);
        answer.location
    }

    fn observe(&mut self, observation: &Observation) {
        self.judge.observe(observation);
        for violation in &self.judge.violations()[self.told..] {
            (self.sink)(violation);
        }
        self.told = self.judge.violations().len();
    }

    fn try_get(&self, url: &str, kind: Kind) -> Result<Answer, WatchError> {
        let unreachable = |source| WatchError::Unreachable {
            url: url.to_owned(),
            source,
        };
        let asked = self.clock.now();
        let mut request = self.agent.get(url);
        match kind {
            Kind::Resource(Some((start, length))) => {
                let range = format!("bytes={start}-{}", start.saturating_add(length.max(1) - 1));
                request = request.header("Range", range);
            }
            Kind::Resource(None) => {}
            Kind::Media | Kind::Multivariant => {
                request = request.header("Accept-Encoding", "gzip");
            }
        }
        let mut response = request.call().map_err(unreachable)?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let (content_type, content_encoding) = (header("Content-Type"), header("Content-Encoding"));
        let status = response.status().as_u16();
        let location = header("Location").filter(|_| (300..400).contains(&status));
        let body = response.body_mut().with_config().limit(LARGEST);
        let mut body = body.read_to_vec().map_err(unreachable)?;
        if content_encoding.as_deref() == Some("gzip") {
            let mut plain = Vec::new();
            let decoder = flate2::read::MultiGzDecoder::new(&body[..]);
            // Damaged: what there is of it is judged.
            let _ = decoder.take(LARGEST).read_to_end(&mut plain);
            body = plain;
        }
        let observation = Observation {
            asked,
            at: self.clock.now(),
            url: url.to_owned(),
            kind,
            status,
            content_type,
            content_encoding,
            body: body.into(),
        };
        Ok(Answer {
            observation,
            location,
        })
    }
}

fn with(list: &str, directives: &str) -> String {
    let mark = if list.contains('?') { '&' } else { '?' };
    format!("{list}{mark}{directives}")
}

/// What a player asks for next: it waits for the next part or segment, and now and then takes a delta update.
fn directives(list: &str, state: &State, round: u64) -> String {
    if state.can_skip && round % 5 == 4 {
        return with(list, "_HLS_skip=YES");
    }
    let (msn, part) = state.next_part;
    match (state.can_block, state.has_parts) {
        (true, true) => with(list, &format!("_HLS_msn={msn}&_HLS_part={part}")),
        (true, false) => with(list, &format!("_HLS_msn={msn}")),
        (false, _) => list.to_owned(),
    }
}
