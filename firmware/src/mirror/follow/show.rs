//! What viewers and the operator see of a mirror.

use std::time::Instant;

use serde::Serialize;
use stream::extent::Extent;
use stream::follower::Source;
use stream::low_latency::Edge;
use stream::media::Rendition;
use stream::reach::NameRecord;
use stream::status::Viewers;
use stream::uplink::Uplink;

use super::Mirror;
use crate::clock::from_unix_ms;
use crate::live::{LivePlaylist, LiveText, Mirroring, Public};
use crate::mirror::Keep;
use crate::mirror::take::Taken;
use crate::outside;

/// `/api/v1/status` of a mirror.
#[derive(Debug, Clone, Default, Serialize)]
pub(in crate::mirror) struct Status {
    pub(in crate::mirror) name: String,
    /// `all` or `window`.
    keep: &'static str,
    peer_id: String,
    peers: u32,
    /// Seconds for which nothing has come from the box; absent while it is there.
    gone_s: Option<u64>,
    /// The newest record that is believed.
    sequence: Option<u64>,
    newest_root: Option<String>,
    /// What viewers get.
    root: Option<String>,
    ended: bool,
    /// Number of the last segment of the video.
    last_segment: Option<u64>,
    behind_ms: u64,
    fetching: Option<String>,
    /// All segments of it from this one on are here, and those before it are not.
    kept_from: Option<u64>,
    /// What was published before is being fetched.
    filling: bool,
    /// An earlier broadcast that is being fetched.
    catching_up: Option<String>,
    missing: Vec<String>,
    /// What was refused of content.
    refused: u64,
    refusal: Option<String>,
    /// Records, but for older ones: every mirror that is behind tells those.
    refused_records: u64,
    record_refusal: Option<String>,
    failure: Option<String>,
    stored_bytes: u64,
    limit_bytes: u64,
    /// What leaves for peers and viewers, as a box has it.
    uplink: Uplink,
    viewers: Viewers,
    /// Of the name, with what is served: how old it is, and who knows it from here, as a box has it.
    record: NameRecord,
    /// How the newest record came.
    heard: Option<HeardFrom>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct HeardFrom {
    /// `pubsub`, `http` or `dht`.
    source: &'static str,
    /// Milliseconds ago.
    ms: u64,
}

impl Status {
    /// What the operator reads on the page, and what it is.
    pub(in crate::mirror) fn lines(&self) -> Vec<(&'static str, String)> {
        let ago = |ms: u64| format!("{} s ago", ms / 1000);
        let (uplink, viewers, record) = (&self.uplink, &self.viewers, &self.record);
        let box_is = match (self.gone_s, self.ended) {
            (Some(s), _) => format!("gone for {s} s"),
            (None, true) => "idle".to_owned(),
            (None, false) => "on air".to_owned(),
        };
        let heard = self.heard.map_or_else(
            || "nothing since the start".to_owned(),
            |heard| format!("over {}, {}", heard.source, ago(heard.ms)),
        );
        let known = [
            record.age_ms.map(|ms| format!("signed {}", ago(ms))),
            Some(format!(
                "{} listen to this mirror on PubSub",
                record.listeners
            )),
            record
                .http_ms
                .map(|ms| format!("asked for over HTTP {}", ago(ms))),
        ];
        let known: Vec<String> = known.into_iter().flatten().collect();
        let sent = |bytes, kbps| format!("{}, now {kbps} kbit/s", size(bytes));
        let last = self.last_segment.map(|last| last.to_string());
        let mut lines = vec![
            ("the box", box_is),
            ("last segment", last.unwrap_or_else(|| "none".to_owned())),
            ("behind", format!("{:.1} s", self.behind_ms as f64 / 1e3)),
            ("newest record", heard),
            ("record served", known.join(", ")),
            ("peers", self.peers.to_string()),
            ("sent to peers", sent(uplink.peers_bytes, uplink.peers_kbps)),
            (
                "sent to viewers",
                sent(uplink.viewers_bytes, uplink.viewers_kbps),
            ),
            (
                "sent to viewers beside it",
                sent(uplink.local_bytes, uplink.local_kbps),
            ),
            (
                "connections",
                format!(
                    "{} of {}, {} turned away",
                    viewers.connections, viewers.max_connections, viewers.refused
                ),
            ),
            (
                "stored",
                format!("{} of {}", size(self.stored_bytes), size(self.limit_bytes)),
            ),
            ("refused", (self.refused + self.refused_records).to_string()),
        ];
        if self.filling || self.catching_up.is_some() {
            lines.push(("catching up", "what was published before".to_owned()));
        }
        if !self.missing.is_empty() {
            lines.push(("the box no longer had", self.missing.join(", ")));
        }
        let told = [&self.failure, &self.refusal, &self.record_refusal];
        lines.extend(
            told.into_iter()
                .flatten()
                .map(|why| ("last trouble", why.clone())),
        );
        lines
    }
}

/// Powers of 1000, as on the label of a disk: `7.3 MB`, `55.8 GB`.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let fits = |power: &usize| bytes < 1000_u64.pow(*power as u32 + 1);
    let power = (0..units.len()).find(fits).unwrap_or(units.len() - 1);
    let decimals = usize::from(power > 0);
    let value = bytes as f64 / 1000_f64.powi(power as i32);
    format!("{value:.decimals$} {}", units[power])
}

impl Mirror {
    /// Viewers get what is durable, all of it at once.
    pub(super) fn show_live(&self) {
        let Some(shown) = &self.shown else { return };
        self.live.send_modify(|live| {
            live.root = Some(shown.root);
            live.index = Some(LiveText::new(shown.index.clone()));
            live.playlists = Rendition::ALL.map(|rendition| {
                let playlist = shown.playlists.get(&rendition)?;
                let text = LiveText::new(playlist.text.clone());
                Some(LivePlaylist {
                    full: text.clone(),
                    delta: text,
                    edge: Edge {
                        last: playlist.last?,
                        last_parts: None,
                        open: 0,
                        open_complete: false,
                        ended: playlist.ended,
                        advance_parts: 0,
                    },
                    hint: None,
                    target_duration: playlist.target_duration,
                })
            });
        });
    }

    pub(super) fn show(&mut self) {
        let now = Instant::now();
        let filling = self.keep == Keep::All && matches!(self.extent, Extent::Filling(_));
        let shown = self.shown.as_ref();
        let video = shown.and_then(|shown| shown.playlists.get(&Rendition::Video));
        let ended = shown.is_none_or(Taken::ended);
        let gone = self.follower.gone(now, !ended);
        let behind_ms = self.follower.behind(now).as_millis() as u64;
        let description = shown.map(|shown| &shown.description);
        let root = shown.map(|shown| shown.root.to_string());
        let name = description.map_or_else(String::new, |it| it.name.clone());
        let public = Public {
            title: name.clone(),
            state: match (ended, gone) {
                (true, _) => "idle",
                (false, None) => "live",
                // As of a box that is on air and makes nothing.
                (false, Some(_)) => "retrying",
            },
            live: !ended,
            since: description
                .and_then(|it| it.started_ms)
                .map(|ms| humantime::format_rfc3339_seconds(from_unix_ms(ms)).to_string()),
            latency_ms: self
                .latency
                .filter(|_| !ended)
                .map(|it| it.as_millis() as u64),
            ipns: self.name.to_string(),
            root: root.clone(),
            root_is_vod: ended
                && self.keep == Keep::All
                && self.extent == Extent::Complete
                && self.follower.served().is_some(),
            signal: None,
            mirror: Some(Mirroring {
                of: self.name.to_string(),
                gone: gone.is_some(),
                // Viewers need no more, and each change wakes them.
                behind_ms: behind_ms / 1000 * 1000,
                newest: video.and_then(|video| video.last_date.clone()),
                catching_up: self.earlier.under_way.is_some() || filling,
                missing: self.earlier.missing(),
            }),
            name,
        };
        let differs = self.live.borrow().public != public;
        if differs {
            self.live.send_modify(|live| live.public = public);
        }
        if self.live.borrow().root != shown.map(|shown| shown.root) {
            self.show_live();
        }
        let sent = node::uplink::sent();
        let uplink = (self.uplink).read(
            self.started.elapsed(),
            [sent.peers, sent.viewers, self.guests.neighbours_bytes()],
        );
        let newest = self.follower.newest();
        let stats = *self.node.stats().borrow();
        self.status.send_replace(Status {
            name: self.name.to_string(),
            keep: match self.keep {
                Keep::All => "all",
                Keep::Window => "window",
            },
            peer_id: self.node.peer_id().to_owned(),
            peers: stats.peers,
            gone_s: gone.map(|gone| gone.as_secs()),
            sequence: newest.map(|told| told.sequence),
            newest_root: newest.map(|told| told.root.clone()),
            root,
            ended,
            last_segment: video.and_then(|video| video.last),
            behind_ms,
            fetching: (self.follower.under_way())
                .filter(|_| self.waiting.is_none())
                .map(|told| told.root.clone()),
            kept_from: shown
                .and_then(|_| self.extent.kept_from())
                .filter(|_| self.keep == Keep::All),
            filling,
            catching_up: self.earlier.under_way.map(|root| root.to_string()),
            missing: self.earlier.missing(),
            refused: self.refused,
            refusal: self.refusal.clone(),
            refused_records: self.refused_records,
            record_refusal: self.record_refusal.clone(),
            failure: self.failure.clone(),
            stored_bytes: stats.stored_bytes,
            limit_bytes: stats.limit_bytes,
            uplink,
            viewers: self.guests.now(),
            record: outside::record(&self.node, *self.record_asked.borrow()),
            heard: self.heard.map(|(source, at)| HeardFrom {
                source: match source {
                    Source::PubSub => "pubsub",
                    Source::Http => "http",
                    Source::Dht => "dht",
                },
                ms: at.elapsed().as_millis() as u64,
            }),
        });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_as_on_the_label_of_a_disk() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (7_340_032, "7.3 MB"),
            (55_766_155_264, "55.8 GB"),
            (3_000_000_000_000_000, "3000.0 TB"),
        ] {
            assert_eq!(super::size(bytes), expected);
        }
    }
}
