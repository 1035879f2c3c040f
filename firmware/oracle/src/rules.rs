//! The judge: timed observations of a live stream in, violations out. No I/O and no clock.
//!
//! A rule that depends on when the origin did something is judged by what the observations prove: a change happened after
//! the request that did not show it was sent, and before the answer that shows it arrived. What lies between is held in
//! the origin's favour.

pub mod catalogue;
mod edits;
mod multivariant;
mod resources;
mod snapshot;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::media::{Init, Run};
use crate::playlist::{MediaPlaylist, MultivariantPlaylist, Resource, Segment};

/// Seconds by which timestamps may be off where they have to go on: rounding of ticks.
pub(crate) const CONTINUITY: f64 = 0.001;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Must,
    Should,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable, for machines: `media-sequence-falls`.
    pub name: &'static str,
    /// Where it is written.
    pub section: &'static str,
    pub level: Level,
    /// What it demands.
    pub says: &'static str,
}

/// One answer of the origin.
#[derive(Debug, Clone)]
pub struct Observation {
    /// When the request was sent, on the observer's clock.
    pub asked: Duration,
    /// When the answer was complete.
    pub at: Duration,
    /// As asked for, with its query.
    pub url: String,
    pub kind: Kind,
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// Without its encoding.
    pub body: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Multivariant,
    /// A media playlist. Its `_HLS_` directives are read from the URL.
    Media,
    /// A segment, init segment or part; where only a range was asked for, its first byte and length.
    Resource(Option<(u64, u64)>),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Violation {
    /// [`Rule::name`].
    pub rule: &'static str,
    pub section: &'static str,
    pub level: Level,
    /// The playlist or media that breaks it.
    pub url: String,
    /// What was seen the first time.
    pub detail: String,
    /// First time.
    pub at: Duration,
    /// How often it was seen.
    pub count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// How much later than allowed something may be seen, beyond what the requests' own times explain.
    pub tolerance: Duration,
    /// Target durations by which a playlist may grow later than allowed, or as much sooner after that: none, but where the machine
    /// that makes the stream is known to be busy with other things.
    pub forgiven: u32,
    /// How far a date may be from what the durations say, in seconds: a frame of video at 25 Hz.
    pub date_tolerance: f64,
    /// Of the first snapshot, how many of the newest segments are looked into.
    pub first_segments: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            tolerance: Duration::from_millis(250),
            forgiven: 0,
            date_tolerance: 0.04,
            first_segments: 6,
        }
    }
}

/// What a resource is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Init,
    Segment {
        list: String,
        number: u64,
    },
    Part {
        list: String,
        number: u64,
        index: usize,
    },
    Hint,
}

/// A segment that was seen in a playlist.
#[derive(Debug, Clone)]
struct Known {
    segment: Segment,
    /// Seconds of the longest playlist that had it.
    longest: f64,
    removed: Option<Duration>,
    probed: bool,
    size: Option<u64>,
    /// Empty until it has been looked into.
    media: Vec<Run>,
}

/// When something last grew: not before the first, not after the second.
type Growth = (Duration, Duration);

/// One media playlist over time.
#[derive(Debug, Clone, Default)]
struct Rendition {
    last: Option<MediaPlaylist>,
    /// Of the snapshot that is being judged.
    asked: Duration,
    /// Of `last`.
    previous_asked: Duration,
    /// Of `last`.
    at: Duration,
    segment_grew: Option<Growth>,
    part_grew: Option<Growth>,
    /// By media sequence number.
    known: BTreeMap<u64, Known>,
    /// Bytes of parts, by segment and index, until the segment is there to compare.
    parts: BTreeMap<u64, BTreeMap<usize, Bytes>>,
    dates: Option<DateSum>,
    /// Next segment for `dates`.
    dated: u64,
    /// Difference of EXTINF and media, in seconds, summed over a run of that number.
    drift: (u64, f64),
    /// Next segment for `drift`.
    summed: u64,
}

/// Durations summed from the first date that was seen of a run. All in seconds.
#[derive(Debug, Clone, Copy)]
struct DateSum {
    run: u64,
    start: f64,
    seconds: f64,
    /// How far the last date was off.
    off: f64,
}

/// Collects observations of one stream and judges them.
#[derive(Debug, Default)]
pub struct Judge {
    settings: Settings,
    multivariant: Option<(String, MultivariantPlaylist)>,
    renditions: BTreeMap<String, Rendition>,
    roles: HashMap<Resource, Role>,
    inits: HashMap<Resource, Init>,
    wanted: VecDeque<Resource>,
    violations: Vec<Violation>,
    index: HashMap<(&'static str, String), usize>,
    pub(crate) snapshots: u64,
    pub(crate) segments: u64,
    pub(crate) parts: u64,
}

impl Judge {
    pub fn new(settings: Settings) -> Judge {
        Judge {
            settings,
            ..Judge::default()
        }
    }

    /// Takes the next answer. Answers come in the order in which they arrived.
    pub fn observe(&mut self, observation: &Observation) {
        match observation.kind {
            Kind::Multivariant => self.multivariant(observation),
            Kind::Media => self.media_playlist(observation),
            Kind::Resource(range) => self.resource(observation, range),
        }
    }

    /// Each broken rule once for each URL, in the order of their first time.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// The next listed init segment, segment or part that should be looked into.
    pub fn next_wanted(&mut self) -> Option<Resource> {
        self.wanted.pop_front()
    }

    /// A removed segment whose retention ends within `margin` after `now`, once each: it has to be there still.
    pub fn next_probe(&mut self, now: Duration, margin: Duration) -> Option<Resource> {
        for known in self
            .renditions
            .values_mut()
            .flat_map(|it| it.known.values_mut())
        {
            let Some(until) = known.available_until() else {
                continue;
            };
            if !known.probed && known.removed.is_some() && now < until && now + margin >= until {
                known.probed = true;
                return Some(known.segment.resource.clone());
            }
        }
        None
    }

    /// Media playlists of the multivariant playlist, each once.
    pub fn media_playlists(&self) -> Vec<String> {
        let mut urls = Vec::new();
        if let Some((_, list)) = &self.multivariant {
            let variants = list.variants.iter().map(|it| it.url.clone());
            let media = list.media.iter().filter_map(|it| it.url.clone());
            for url in variants.chain(media) {
                if !urls.contains(&url) {
                    urls.push(url);
                }
            }
        }
        urls
    }

    /// What a player knows of a media playlist.
    pub fn state(&self, url: &str) -> Option<State> {
        let rendition = self.renditions.get(url)?;
        let last = rendition.last.as_ref()?;
        Some(State {
            target_duration: Duration::try_from_secs_f64(last.target().unwrap_or(1.0))
                .unwrap_or(Duration::from_secs(1)),
            next_part: last.position(),
            ended: last.ended,
            can_block: last.can_block(),
            can_skip: last.control("CAN-SKIP-UNTIL").is_some(),
            has_parts: last.has_parts(),
            hint: last.hints.first().cloned(),
        })
    }

    fn report(
        &mut self,
        rule: &Rule,
        url: impl Into<String>,
        at: Duration,
        detail: impl Into<String>,
    ) {
        let url = url.into();
        let key = (rule.name, url.clone());
        if let Some(&index) = self.index.get(&key) {
            self.violations[index].count += 1;
            return;
        }
        self.index.insert(key, self.violations.len());
        self.violations.push(Violation {
            rule: rule.name,
            section: rule.section,
            level: rule.level,
            url,
            detail: detail.into(),
            at,
            count: 1,
        });
    }

    /// The text of a playlist, if it was delivered as it must be.
    fn playlist_text<'a>(&mut self, seen: &'a Observation, url: &str) -> Option<&'a str> {
        let at = seen.at;
        if seen.status != 200 {
            let detail = format!("status {}", seen.status);
            self.report(&catalogue::PLAYLIST_UNAVAILABLE, url, at, detail);
            return None;
        }
        let content_type = seen.content_type.as_deref().unwrap_or("none");
        let plain = content_type.split(';').next().unwrap_or_default().trim();
        const ACCEPTED: [&str; 4] = [
            "application/vnd.apple.mpegurl",
            "application/x-mpegurl",
            "audio/mpegurl",
            "audio/x-mpegurl",
        ];
        if !ACCEPTED.contains(&plain.to_ascii_lowercase().as_str()) {
            self.report(&catalogue::PLAYLIST_CONTENT_TYPE, url, at, content_type);
        }
        if seen.content_encoding.is_none() {
            let detail = "no Content-Encoding";
            self.report(&catalogue::PLAYLIST_NOT_GZIPPED, url, at, detail);
        }
        let Ok(text) = std::str::from_utf8(&seen.body) else {
            self.report(&catalogue::PLAYLIST_NOT_UTF8, url, at, "not UTF-8");
            return None;
        };
        match text.strip_prefix('\u{feff}') {
            None => Some(text),
            Some(text) => {
                self.report(&catalogue::PLAYLIST_HAS_BOM, url, at, "EF BB BF");
                Some(text)
            }
        }
    }

    fn want(&mut self, resource: &Resource, role: Role) {
        match self.roles.get(resource) {
            // What was hinted at is now listed.
            Some(Role::Hint) if role != Role::Hint => {
                self.wanted.push_back(resource.clone());
            }
            Some(_) => return,
            None if role == Role::Hint => {}
            None => self.wanted.push_back(resource.clone()),
        }
        self.roles.insert(resource.clone(), role);
    }
}

impl Known {
    /// End of the time for which the segment has to be there after it left the playlist.
    fn available_until(&self) -> Option<Duration> {
        let keep = self.segment.duration + self.longest;
        Some(self.removed? + Duration::try_from_secs_f64(keep).ok()?)
    }
}

/// What a player knows of a media playlist.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub target_duration: Duration,
    /// Number of the open segment, and how many parts of it are listed.
    pub next_part: (u64, usize),
    pub ended: bool,
    pub can_block: bool,
    pub can_skip: bool,
    pub has_parts: bool,
    pub hint: Option<Resource>,
}
