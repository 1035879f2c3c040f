//! A box's playlists as a mirror finds them in a broadcast's directory.
//!
//! They are foreign input, and viewers get what they say: only what podium writes is let through, so that no playlist leads a
//! player to another place. Out of `video/live.m3u8` comes `/live/video.m3u8`, with the same segments and dates.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::media::Rendition;
use crate::playlist::DISCONTINUITIES;
use crate::publication::{Inits, init_name, segment_name, segment_path};

/// Beside the playlists: which broadcast it is, and which was before it.
pub const DESCRIPTION: &str = "broadcast.json";

/// Seconds; what a box can be configured to. Players and waiting requests reckon with it.
const TARGET_DURATIONS: RangeInclusive<u64> = 1..=10;

/// Said once, before the first segment.
const HEADER: [&str; 4] = [
    "#EXT-X-VERSION",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY-SEQUENCE",
];

/// More text than an hour of segments makes.
pub const MOST_BYTES: u64 = 1 << 20;

/// What a broadcast's directory says of itself. Its bytes are the same in every root of the broadcast that one life of the box
/// makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The event's name.
    pub name: String,
    /// When it began, milliseconds since 1970, where the box had a clock.
    pub started_ms: Option<u64>,
    /// Media sequence number that its first segment has, at the least: with `started_ms` it tells broadcasts of a box apart.
    pub first: u64,
    /// Root of the broadcast before it that the box had when it began, or in its last life. Not a link: who pins this broadcast does
    /// not pin all of them.
    pub previous: Option<String>,
    /// Roots of those before that, the nearest first: one may be gone, damaged, or closed under another root by now, and does not
    /// know for all what was before it.
    #[serde(default)]
    pub earlier: Vec<String>,
}

/// Broadcasts before its own that a description names at most, two kilobytes of them.
pub const MOST_EARLIER: usize = 32;

impl Description {
    /// What stays the same for as long as it is the same broadcast.
    pub fn identity(&self) -> (u64, Option<u64>) {
        (self.first, self.started_ms)
    }

    /// Roots of broadcasts before it, the nearest first.
    pub fn before(&self) -> Vec<String> {
        let before = self.previous.iter().chain(&self.earlier);
        before.take(MOST_EARLIER).cloned().collect()
    }
}

/// Why text is no playlist that a mirror passes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("line {line} is not what podium writes: {text:?}")]
    Line { line: usize, text: String },
    #[error("it has no {0}")]
    Lacks(&'static str),
}

/// A rendition's sliding playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirrored {
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    /// Number of the last segment; absent in an empty one.
    pub last: Option<u64>,
    pub ended: bool,
    /// Seconds.
    pub target_duration: u64,
    /// Time of the last segment that has one, as it stands there.
    pub last_date: Option<String>,
    /// Segments and init segments that it names, from the broadcast's root.
    pub files: Vec<String>,
    /// As the HTTP origin has it.
    pub text: String,
}

/// Why a playlist must not follow another of the same broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GoesBack {
    #[error("its first segment is {now}, and was {before}")]
    First { before: u64, now: u64 },
    #[error("its last segment is {now:?}, and was {before}")]
    Last { before: u64, now: Option<u64> },
    #[error("its discontinuity sequence is {now}, and was {before}")]
    Discontinuity { before: u64, now: u64 },
    #[error("it had ended, and goes on")]
    Revived,
}

impl Mirrored {
    /// Reads `<rendition>/live.m3u8`.
    pub fn read(rendition: Rendition, text: &str) -> Result<Mirrored, ReadError> {
        let mut read = Mirrored {
            media_sequence: 0,
            discontinuity_sequence: 0,
            last: None,
            ended: false,
            target_duration: 0,
            last_date: None,
            files: Vec::new(),
            text: String::with_capacity(2 * text.len()),
        };
        let (mut sequence, mut timed, mut mapped) = (None, false, false);
        let mut said = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let strange = || ReadError::Line {
                line: index + 1,
                text: line.chars().take(80).collect(),
            };
            if read.ended || (index == 0) != (line == "#EXTM3U") {
                return Err(strange());
            }
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            let number = || value.parse::<u64>().map_err(|_| strange());
            if HEADER.contains(&tag) {
                if said.contains(&tag) || !read.files.is_empty() {
                    return Err(strange());
                }
                said.push(tag);
            }
            match tag {
                "#EXTM3U" | "#EXT-X-DISCONTINUITY" if value.is_empty() => {}
                "#EXT-X-VERSION" => drop(number()?),
                "#EXT-X-TARGETDURATION" => {
                    read.target_duration = number()?;
                    if !TARGET_DURATIONS.contains(&read.target_duration) {
                        return Err(strange());
                    }
                }
                "#EXT-X-MEDIA-SEQUENCE" => {
                    read.media_sequence = number()?;
                    sequence = Some(read.media_sequence);
                }
                "#EXT-X-DISCONTINUITY-SEQUENCE" => read.discontinuity_sequence = number()?,
                "#EXT-X-PROGRAM-DATE-TIME" if is_date(value) => {
                    read.last_date = Some(value.to_owned());
                }
                "#EXTINF" if is_duration(value) => timed = true,
                "#EXT-X-ENDLIST" if value.is_empty() => read.ended = true,
                "#EXT-X-MAP" => {
                    let path = (value.strip_prefix("URI=\""))
                        .and_then(|rest| rest.strip_suffix('"'))
                        .ok_or_else(strange)?;
                    let run = (path.rsplit_once("init-"))
                        .and_then(|(_, rest)| rest.strip_suffix(".mp4"))
                        .and_then(|run| run.parse().ok())
                        .ok_or_else(strange)?;
                    if !Inits::ALL
                        .iter()
                        .any(|inits| path == inits.relative_path(run))
                    {
                        return Err(strange());
                    }
                    let (name, init) = (rendition.name(), init_name(run));
                    let _ = writeln!(read.text, "#EXT-X-MAP:URI=\"{name}/{init}\"");
                    read.files.push(format!("{name}/{path}"));
                    mapped = true;
                    continue;
                }
                _ => {
                    let next = sequence.filter(|_| timed && mapped).ok_or_else(strange)?;
                    let path = segment_path(rendition, next);
                    if path.strip_prefix(rendition.name()) != Some(&format!("/{line}")) {
                        return Err(strange());
                    }
                    let _ = writeln!(read.text, "{}/{}", rendition.name(), segment_name(next));
                    read.files.push(path);
                    read.last = Some(next);
                    sequence = next.checked_add(1);
                    timed = false;
                    continue;
                }
            }
            let _ = writeln!(read.text, "{line}");
        }
        match (read.target_duration, sequence) {
            (0, _) => Err(ReadError::Lacks("target duration")),
            (_, None) => Err(ReadError::Lacks("media sequence number")),
            _ => Ok(read),
        }
    }

    /// Whether it may be served after another one of the same broadcast and rendition.
    pub fn follows(&self, before: &Mirrored) -> Result<(), GoesBack> {
        if self.media_sequence < before.media_sequence {
            return Err(GoesBack::First {
                before: before.media_sequence,
                now: self.media_sequence,
            });
        }
        if let Some(last) = before.last.filter(|_| self.last < before.last) {
            return Err(GoesBack::Last {
                before: last,
                now: self.last,
            });
        }
        // It begins anew after `DISCONTINUITIES`.
        let fell = before
            .discontinuity_sequence
            .saturating_sub(self.discontinuity_sequence);
        if fell > 0 && fell < DISCONTINUITIES / 2 {
            return Err(GoesBack::Discontinuity {
                before: before.discontinuity_sequence,
                now: self.discontinuity_sequence,
            });
        }
        match before.ended && !self.ended {
            true => Err(GoesBack::Revived),
            false => Ok(()),
        }
    }
}

/// Reads the broadcast's `index.m3u8`: the text as the HTTP origin has it, and the renditions that it names.
pub fn read_index(text: &str) -> Result<(String, Vec<Rendition>), ReadError> {
    let mut origin = String::with_capacity(text.len());
    let mut renditions = Vec::new();
    let name = |uri: &str| Rendition::from_name(uri.strip_suffix("/live.m3u8")?);
    for (index, line) in text.lines().enumerate() {
        let strange = || ReadError::Line {
            line: index + 1,
            text: line.chars().take(80).collect(),
        };
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        match tag {
            "#EXTM3U" | "#EXT-X-INDEPENDENT-SEGMENTS" if value.is_empty() => {}
            "#EXT-X-VERSION" => drop(value.parse::<u32>().map_err(|_| strange())?),
            "#EXT-X-STREAM-INF" if !value.contains("URI=") => {}
            "#EXT-X-MEDIA" => {
                let (before, uri) = value.split_once(",URI=\"").ok_or_else(strange)?;
                let rendition = uri.strip_suffix('"').and_then(name).ok_or_else(strange)?;
                if before.contains("URI=") {
                    return Err(strange());
                }
                let _ = writeln!(origin, "{tag}:{before},URI=\"{}.m3u8\"", rendition.name());
                renditions.push(rendition);
                continue;
            }
            _ => {
                let rendition = name(line).ok_or_else(strange)?;
                let _ = writeln!(origin, "{}.m3u8", rendition.name());
                renditions.push(rendition);
                continue;
            }
        }
        let _ = writeln!(origin, "{line}");
    }
    renditions.sort();
    renditions.dedup();
    match renditions.contains(&Rendition::Audio) && text.starts_with("#EXTM3U\n") {
        true => Ok((origin, renditions)),
        false => Err(ReadError::Lacks("sound")),
    }
}

fn is_date(text: &str) -> bool {
    humantime::parse_rfc3339(text).is_ok()
}

/// `2.000000,`
fn is_duration(text: &str) -> bool {
    let seconds = text.strip_suffix(',').and_then(|it| it.parse::<f64>().ok());
    seconds.is_some_and(|it| it.is_finite() && it > 0.0)
}
