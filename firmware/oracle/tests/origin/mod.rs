#![allow(dead_code, reason = "each test uses a part of it")]
//! A good live origin in virtual time: what it would answer to any request at any time. The media is real
//! (`testdata/README.md`) and goes round and round, its `tfdt` boxes written anew.

use std::time::Duration;

use bytes::Bytes;
use oracle::{Judge, Kind, Observation, Settings};

/// Seconds of a part; a segment has two.
pub(crate) const PART: f64 = 0.512;
/// Ticks of a part at 48 kHz.
const PART_TICKS: u64 = 24_576;
/// Parts before the media starts over; both files have a whole number of segments up to there.
const PARTS: u64 = 32;
/// Number of the first segment that ever was.
pub(crate) const FIRST: u64 = 100;
const WINDOW: u64 = 10;
/// Segments that are there at time zero.
const HISTORY: u64 = 12;
/// Discontinuity sequence number of the first run.
const RUN: u64 = 5;

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    pub low_latency: bool,
    /// A second video.
    pub ladder: bool,
    /// The segment that begins another run.
    pub discontinuity: Option<u64>,
    /// The segment after the last.
    pub end: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    /// When it is given, if later than asked.
    pub at: Duration,
    pub status: u16,
    pub content_type: &'static str,
    pub body: Bytes,
}

/// An init segment and the fragments.
fn media(rendition: &str) -> (Bytes, Vec<Bytes>) {
    let file: &[u8] = match rendition {
        "video" | "small" => include_bytes!("../../testdata/video.mp4"),
        _ => include_bytes!("../../testdata/audio.mp4"),
    };
    let mut starts = Vec::new();
    let mut at = 0;
    while at < file.len() {
        if &file[at + 4..at + 8] == b"moof" {
            starts.push(at);
        }
        at += u32::from_be_bytes(file[at..at + 4].try_into().expect("four bytes")) as usize;
    }
    let init = Bytes::from_static(&file[..starts[0]]);
    starts.push(file.len());
    let parts = starts
        .windows(2)
        .map(|it| Bytes::from_static(&file[it[0]..it[1]]));
    (init, parts.collect())
}

pub(crate) fn find(bytes: &[u8], what: &[u8; 4]) -> usize {
    let mut windows = bytes.windows(4);
    windows
        .position(|it| it == what)
        .expect("it has such a box")
}

impl Origin {
    fn renditions(&self) -> &'static [&'static str] {
        let all = &["video", "audio", "small"];
        if self.ladder { all } else { &all[..2] }
    }

    /// Parts that exist at a time, counted from the first segment.
    fn parts(&self, now: Duration) -> u64 {
        let parts = 2 * HISTORY + ((now.as_secs_f64() + 1e-6) / PART) as u64;
        self.end.map_or(parts, |end| parts.min(2 * (end - FIRST)))
    }

    /// When there will be so many.
    fn when(parts: u64) -> Duration {
        Duration::from_secs_f64(parts.saturating_sub(2 * HISTORY) as f64 * PART)
    }

    fn part(&self, rendition: &str, number: u64, index: u64) -> Bytes {
        let start = self
            .discontinuity
            .filter(|it| *it <= number)
            .unwrap_or(FIRST);
        let count = 2 * (number - start) + index;
        let (_, parts) = media(rendition);
        let mut part = parts[(count % PARTS) as usize].to_vec();
        let tfdt = find(&part, b"tfdt");
        part[tfdt + 8..tfdt + 16].copy_from_slice(&(count * PART_TICKS).to_be_bytes());
        part.into()
    }

    /// Answers a path with its query.
    pub(crate) fn answer(&self, target: &str, now: Duration) -> Reply {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let name = path.trim_start_matches('/');
        let reply = |status, content_type, body: Bytes| Reply {
            at: now,
            status,
            content_type,
            body,
        };
        let playlist = "application/vnd.apple.mpegurl";
        let missing = reply(404, "text/plain", Bytes::from_static(b"not here"));
        match name {
            "index.m3u8" => {
                let second = if self.ladder { SECOND_VIDEO } else { "" };
                let text = MULTIVARIANT.to_owned() + second;
                return reply(200, playlist, text.into());
            }
            "video.m3u8" | "audio.m3u8" | "small.m3u8" => {
                let rendition = &name[..5];
                return match self.wait(query, now) {
                    None => reply(400, "text/plain", Bytes::from_static(b"bad directive")),
                    Some(at) => {
                        let skip = query.contains("_HLS_skip");
                        Reply {
                            at,
                            ..reply(200, playlist, self.list(rendition, at, skip).into())
                        }
                    }
                };
            }
            _ => {}
        }
        let Some((rendition, file)) = name.split_once('/') else {
            return missing;
        };
        let numbers: Vec<u64> = file.split('.').filter_map(|it| it.parse().ok()).collect();
        let body = match numbers[..] {
            _ if file.starts_with("init-") => media(rendition).0,
            [number] if 2 * (number + 1 - FIRST) <= self.parts(now) => {
                let parts = [0, 1].map(|index| self.part(rendition, number, index));
                parts.concat().into()
            }
            [number, index] => {
                let count = 2 * (number - FIRST) + index + 1;
                if self.end.is_some_and(|end| number >= end) || count > self.parts(now) + 1 {
                    return missing;
                }
                // A hinted part is sent once it is whole.
                let at = now.max(Origin::when(count));
                let body = self.part(rendition, number, index);
                return Reply {
                    at,
                    ..reply(200, "video/mp4", body)
                };
            }
            _ => return missing,
        };
        reply(200, "video/mp4", body)
    }

    /// When a media playlist is answered; `None` for a bad request.
    fn wait(&self, query: &str, now: Duration) -> Option<Duration> {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
            pairs
                .find(|it| it.0 == name)
                .and_then(|it| it.1.parse::<u64>().ok())
        };
        let parts = self.parts(now);
        match (value("_HLS_msn"), value("_HLS_part")) {
            (None, None) => Some(now),
            (None, Some(_)) => None,
            (Some(msn), _) if msn > FIRST + parts / 2 + 2 => None,
            (Some(msn), part) => {
                let count = 2 * (msn - FIRST) + part.map_or(2, |part| part + 1);
                let last = self.end.map_or(u64::MAX, |end| 2 * (end - FIRST));
                Some(now.max(Origin::when(count.min(last))))
            }
        }
    }

    fn list(&self, rendition: &str, now: Duration, skip: bool) -> String {
        let parts = self.parts(now);
        let next = FIRST + parts / 2;
        let first = next - WINDOW;
        let ended = self.end == Some(next);
        let runs = |number: u64| u64::from(self.discontinuity.is_some_and(|it| it < number));
        let skipped = if skip && self.low_latency { 4 } else { 0 };
        let version = if skipped > 0 { 9 } else { 6 };
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:{version}\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{first}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
            RUN + runs(first)
        );
        if self.low_latency {
            text += "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=6.0,HOLD-BACK=3.0,PART-HOLD-BACK=1.536\n\
                     #EXT-X-PART-INF:PART-TARGET=0.512\n";
        }
        if skipped > 0 {
            text += &format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n");
        }
        let part = |number: u64, index: u64| {
            let independent = if index == 0 || rendition == "audio" {
                ",INDEPENDENT=YES"
            } else {
                ""
            };
            format!(
                "#EXT-X-PART:DURATION=0.512000,URI=\"{rendition}/{number}.{index}.m4s\"{independent}\n"
            )
        };
        let mut map = None;
        for number in first + skipped..next {
            if self.discontinuity == Some(number) {
                text += "#EXT-X-DISCONTINUITY\n";
            }
            let run = RUN + runs(number + 1);
            if map != Some(run) {
                text += &format!("#EXT-X-MAP:URI=\"{rendition}/init-{run}.mp4\"\n");
                map = Some(run);
            }
            text += &date((number - FIRST) * 1024);
            if self.low_latency && number + 3 >= next {
                text += &(part(number, 0) + &part(number, 1));
            }
            text += &format!("#EXTINF:1.024000,\n{rendition}/{number}.m4s\n");
        }
        if ended {
            text += "#EXT-X-ENDLIST\n";
        } else if self.low_latency {
            if parts % 2 == 1 {
                text += &part(next, 0);
            }
            let index = parts % 2;
            text +=
                &format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{rendition}/{next}.{index}.m4s\"\n");
            let (msn, last) = match index {
                0 => (next - 1, 1),
                _ => (next, 0),
            };
            for other in self.renditions().iter().filter(|it| **it != rendition) {
                text += &format!(
                    "#EXT-X-RENDITION-REPORT:URI=\"{other}.m3u8\",LAST-MSN={msn},LAST-PART={last}\n"
                );
            }
        }
        text
    }

    /// What a patient player sees in `seconds`.
    pub(crate) fn session(&self, seconds: f64) -> Vec<Observation> {
        let mut player = Player {
            origin: *self,
            now: Duration::ZERO,
            judge: Judge::new(Settings::default()),
            seen: Vec::new(),
        };
        player.get("index.m3u8", Kind::Multivariant);
        let lists: Vec<_> = (self.renditions().iter())
            .map(|it| format!("{it}.m3u8"))
            .collect();
        let mut round = 0;
        while player.now.as_secs_f64() < seconds {
            for list in &lists {
                let state = player.judge.state(&format!("{HOST}{list}"));
                let ask = match &state {
                    Some(state) if state.ended => continue,
                    Some(state) if state.can_skip && round % 5 == 4 => {
                        format!("{list}?_HLS_skip=YES")
                    }
                    Some(state) if state.can_block => {
                        let (msn, part) = state.next_part;
                        format!("{list}?_HLS_msn={msn}&_HLS_part={part}")
                    }
                    _ => list.clone(),
                };
                player.get(&ask, Kind::Media);
                if round == 3 && self.low_latency {
                    player.get(&format!("{list}?_HLS_part=0"), Kind::Media);
                    player.get(&format!("{list}?_HLS_msn=999"), Kind::Media);
                }
                let state = player.judge.state(&format!("{HOST}{list}"));
                if round % 4 == 2
                    && let Some(hint) = state.and_then(|it| it.hint)
                {
                    player.get(&hint.url[HOST.len()..], Kind::Resource(None));
                }
            }
            while let Some(wanted) = player.judge.next_wanted() {
                player.get(&wanted.url[HOST.len()..], Kind::Resource(None));
            }
            let margin = Duration::from_secs(1);
            while let Some(probe) = player.judge.next_probe(player.now, margin) {
                player.get(&probe.url[HOST.len()..], Kind::Resource(None));
            }
            // A blocking origin sets the pace itself.
            player.now += Duration::from_millis(if self.low_latency { 5 } else { 128 });
            round += 1;
        }
        player.seen
    }
}

pub(crate) const HOST: &str = "http://origin/";

struct Player {
    origin: Origin,
    now: Duration,
    judge: Judge,
    seen: Vec<Observation>,
}

impl Player {
    fn get(&mut self, target: &str, kind: Kind) {
        let reply = self.origin.answer(target, self.now);
        let gzipped = !matches!(kind, Kind::Resource(_));
        let observation = Observation {
            asked: self.now,
            at: reply.at + Duration::from_millis(1),
            url: format!("{HOST}{target}"),
            kind,
            status: reply.status,
            content_type: Some(reply.content_type.to_owned()),
            content_encoding: gzipped.then(|| "gzip".to_owned()),
            body: reply.body,
        };
        self.now = observation.at;
        self.judge.observe(&observation);
        self.seen.push(observation);
    }
}

/// The date so many milliseconds after ten o'clock.
pub(crate) fn date(ms: u64) -> String {
    let (minute, second) = (ms / 60_000, ms / 1000 % 60);
    let ms = ms % 1000;
    format!("#EXT-X-PROGRAM-DATE-TIME:2026-11-22T10:{minute:02}:{second:02}.{ms:03}Z\n")
}

const MULTIVARIANT: &str = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-INDEPENDENT-SEGMENTS\n\
    #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"Sound\",DEFAULT=YES,URI=\"audio.m3u8\"\n\
    #EXT-X-STREAM-INF:BANDWIDTH=60000,AVERAGE-BANDWIDTH=40000,CODECS=\"avc1.4D400A,mp4a.40.2\",RESOLUTION=160x90,FRAME-RATE=23.438,AUDIO=\"a\"\n\
    video.m3u8\n\
    #EXT-X-STREAM-INF:BANDWIDTH=30000,AVERAGE-BANDWIDTH=20000,CODECS=\"mp4a.40.2\",AUDIO=\"a\"\n\
    audio.m3u8\n";

const SECOND_VIDEO: &str = "#EXT-X-STREAM-INF:BANDWIDTH=60000,AVERAGE-BANDWIDTH=40000,CODECS=\"avc1.4D400A,mp4a.40.2\",RESOLUTION=160x90,FRAME-RATE=23.438,AUDIO=\"a\"\n\
    small.m3u8\n";
