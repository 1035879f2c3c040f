//! What the multivariant playlist says of its renditions, and they of each other.

use std::time::Duration;

use super::resources::main_track;
use super::{Judge, Known, Observation, Rendition, catalogue};
use crate::media::{Kind, Run, Track};
use crate::playlist::{Playlist, Variant, parse};

/// Seconds by which matching segments of two renditions may start apart: an AAC frame and a video frame.
const ALIGNMENT: f64 = 0.07;

impl Judge {
    pub(super) fn multivariant(&mut self, seen: &Observation) {
        self.snapshots += 1;
        let Some(text) = self.playlist_text(seen, &seen.url) else {
            return;
        };
        let Some(Playlist::Multivariant(list)) = parse(&seen.url, text) else {
            let detail: String = text.chars().take(60).collect();
            self.report(&catalogue::NOT_A_PLAYLIST, &seen.url, seen.at, detail);
            return;
        };
        for variant in &list.variants {
            let (url, at) = (&variant.url, seen.at);
            let codecs = variant.attributes.get("CODECS");
            let video = codecs.is_some_and(|it| {
                let mut codecs = it.split(',').map(str::trim);
                codecs.any(|it| {
                    ["avc", "hvc", "hev", "av01", "vp09"]
                        .iter()
                        .any(|v| it.starts_with(v))
                })
            });
            for (attribute, rule, needed) in [
                ("BANDWIDTH", &catalogue::BANDWIDTH_MISSING, true),
                (
                    "AVERAGE-BANDWIDTH",
                    &catalogue::AVERAGE_BANDWIDTH_MISSING,
                    true,
                ),
                ("CODECS", &catalogue::CODECS_MISSING, true),
                ("RESOLUTION", &catalogue::RESOLUTION_MISSING, video),
                ("FRAME-RATE", &catalogue::FRAME_RATE_MISSING, video),
            ] {
                if needed && variant.attributes.get(attribute).is_none() {
                    self.report(rule, url, at, format!("no {attribute}"));
                }
            }
        }
        self.multivariant = Some((seen.url.clone(), *list));
        self.compare_codecs(seen.at);
    }

    /// The media playlists that a variant is played from: its own, and those of its audio group.
    fn lists_of(&self, variant: &Variant) -> (String, Vec<String>) {
        let group = variant.attributes.get("AUDIO");
        let media = self.multivariant.iter().flat_map(|(_, list)| &list.media);
        let group = media
            .filter(|media| Some(media.group.as_str()) == group)
            .filter_map(|media| media.url.clone())
            .filter(|url| *url != variant.url);
        (variant.url.clone(), group.collect())
    }

    fn variants(&self) -> Vec<Variant> {
        self.multivariant
            .as_ref()
            .map_or_else(Vec::new, |(_, list)| list.variants.clone())
    }

    /// Tracks by the init segments that a media playlist names now.
    fn tracks(&self, list: &str) -> Vec<Track> {
        let last = self.renditions.get(list).and_then(|it| it.last.as_ref());
        let map = last.and_then(|last| last.segments.last()?.map.as_ref());
        let init = map.and_then(|map| self.inits.get(map));
        init.map_or_else(Vec::new, |init| init.tracks.clone())
    }

    pub(super) fn compare_codecs(&mut self, at: Duration) {
        for variant in self.variants() {
            let (own, group) = self.lists_of(&variant);
            let url = &variant.url;
            let told = variant.attributes.get("CODECS");
            for list in group.iter().chain([&own]) {
                for track in self.tracks(list) {
                    if let (Some(told), Some(codec)) = (told, &track.codec) {
                        let kind = codec.split('.').next().unwrap_or_default();
                        let told: Vec<&str> = told.split(',').map(str::trim).collect();
                        if told.iter().any(|it| it.eq_ignore_ascii_case(codec)) {
                        } else if told.iter().any(|it| it.starts_with(kind)) {
                            let detail = format!("CODECS {told:?}, {list} has {codec}");
                            self.report(&catalogue::CODECS_DISAGREE, url, at, detail);
                        } else {
                            let detail = format!("CODECS {told:?}, {list} has {codec}");
                            self.report(&catalogue::CODECS_INCOMPLETE, url, at, detail);
                        }
                    }
                    if *list == own
                        && let (Some(told), Some((width, height))) =
                            (variant.attributes.get("RESOLUTION"), track.resolution)
                        && told != format!("{width}x{height}")
                    {
                        let detail = format!("RESOLUTION {told}, the SPS says {width}x{height}");
                        self.report(&catalogue::RESOLUTION_DISAGREES, url, at, detail);
                    }
                }
            }
        }
    }

    pub(super) fn compare_bandwidth(&mut self, at: Duration) {
        for variant in self.variants() {
            let (own, group) = self.lists_of(&variant);
            let peak = |list: &String| self.renditions.get(list).map_or(0.0, Rendition::peak_rate);
            let measured = peak(&own) + group.iter().map(peak).fold(0.0, f64::max);
            let url = &variant.url;
            if let Some(told) = variant.attributes.number("BANDWIDTH")
                && measured > 1.1 * told
            {
                let detail = format!("BANDWIDTH {told}, measured {measured:.0}");
                self.report(&catalogue::BANDWIDTH_EXCEEDED, url, at, detail);
            }
            let rate = self.renditions.get(&own).and_then(Rendition::frame_rate);
            if let (Some(told), Some(rate)) = (variant.attributes.number("FRAME-RATE"), rate)
                && rate > 1.05 * told
            {
                let detail = format!("FRAME-RATE {told}, measured {rate:.3}");
                self.report(&catalogue::FRAME_RATE_EXCEEDED, url, at, detail);
            }
        }
    }

    /// Compares the media of a segment with that of the others that show the same time.
    pub(super) fn compare_timestamps(&mut self, list: &str, number: u64, at: Duration) {
        let looked_into = |known: &Known| -> Option<(f64, Run)> {
            let date = known.segment.time.as_ref()?.seconds;
            Some((date, main_track(&known.media)?.clone()))
        };
        let own = self
            .renditions
            .get(list)
            .and_then(|it| it.known.get(&number));
        let Some((date, own)) = own.and_then(looked_into) else {
            return;
        };
        let start = |run: &Run| run.seconds(run.start);
        let mut faults = Vec::new();
        for (other_list, other) in self.renditions.iter().filter(|(it, _)| *it != list) {
            let mut others = other.known.values().filter_map(looked_into);
            let Some((other_date, other)) = others.find(|it| (it.0 - date).abs() <= ALIGNMENT)
            else {
                continue;
            };
            let off = (start(&own) - start(&other)) - (date - other_date);
            // Of two videos the pictures match; where one has fewer of them, to the longer of both.
            let longest = |run: &Run| run.seconds(run.longest_sample) / 2.0;
            let allowed = if own.kind == Kind::Video && other.kind == Kind::Video {
                longest(&own).max(longest(&other))
            } else {
                ALIGNMENT
            };
            if off.abs() > allowed {
                faults.push(format!("its media is {off:+.3} s off that of {other_list}"));
            }
        }
        for detail in faults {
            self.report(&catalogue::VARIANTS_DIFFER_IN_TIMESTAMPS, list, at, detail);
        }
    }

    /// Compares the newest snapshots of this rendition and the others, where they show the same time.
    pub(super) fn compare_renditions(&mut self, url: &str, at: Duration) {
        let urls = self.media_playlists();
        let mut faults = Vec::new();
        let Some(one) = self.renditions.get(url).and_then(|it| it.last.as_ref()) else {
            return;
        };
        for other_url in urls.iter().filter(|it| *it != url) {
            let Some(other) = self
                .renditions
                .get(other_url)
                .and_then(|it| it.last.as_ref())
            else {
                continue;
            };
            if one.target() != other.target() {
                let detail = format!("{:?}, {other_url} has {:?}", one.target(), other.target());
                faults.push((&catalogue::VARIANTS_DIFFER_IN_TARGET_DURATION, detail));
            }
            // A segment without a date starts where the one before ended, unless a run begins there.
            let starts = |list: &crate::playlist::MediaPlaylist| -> Option<Vec<(f64, u64)>> {
                let mut next = None;
                let starts = list.segments.iter().map(|it| {
                    let inferred = next.filter(|_| !it.discontinuity);
                    let start = it.time.map(|time| time.seconds).or(inferred)?;
                    next = Some(start + it.duration);
                    Some((start, it.run))
                });
                starts.collect()
            };
            let (Some(starts), Some(others)) = (starts(one), starts(other)) else {
                continue;
            };
            for (start, run) in starts {
                // Only where the other has segments on both sides.
                let after = others.iter().position(|(it, _)| *it >= start - ALIGNMENT);
                let Some(after) = after.filter(|index| *index > 0) else {
                    continue;
                };
                let (next, next_run) = others[after];
                let before = others[after - 1].0;
                let off = if next - start < start - before {
                    next - start
                } else {
                    before - start
                };
                if off.abs() > ALIGNMENT {
                    let detail = format!("a segment starts {off:+.3} s from that of {other_url}");
                    faults.push((&catalogue::VARIANTS_NOT_ALIGNED, detail));
                    break;
                }
                if run != next_run
                    && one.discontinuity_sequence.is_some()
                    && other.discontinuity_sequence.is_some()
                {
                    let detail = format!("number {run}, {other_url} has {next_run}");
                    faults.push((&catalogue::VARIANTS_DIFFER_IN_DISCONTINUITIES, detail));
                    break;
                }
            }
        }
        for (rule, detail) in faults {
            self.report(rule, url, at, detail);
        }
    }
}

impl Rendition {
    /// Bits per second of the largest set of contiguous segments that lasts between half and one and a half target
    /// durations (RFC 8216 section 4.3.4.2, peak segment bit rate).
    fn peak_rate(&self) -> f64 {
        let target = self.last.as_ref().and_then(|it| it.target()).unwrap_or(0.0);
        let mut peak: f64 = 0.0;
        for first in self.known.keys() {
            let (mut bits, mut seconds) = (0.0, 0.0);
            for (expected, (number, known)) in (*first..).zip(self.known.range(first..)) {
                let Some(size) = known.size.filter(|_| *number == expected) else {
                    break;
                };
                bits += size as f64 * 8.0;
                seconds += known.segment.duration;
                if seconds > 1.5 * target {
                    break;
                }
                if seconds >= 0.5 * target {
                    peak = peak.max(bits / seconds);
                }
            }
        }
        peak
    }

    /// Pictures per second, where some seconds of video have been seen.
    fn frame_rate(&self) -> Option<f64> {
        let (mut pictures, mut seconds) = (0, 0.0);
        let media = self.known.values().flat_map(|it| &it.media);
        for run in media.filter(|run| run.kind == Kind::Video) {
            pictures += run.samples;
            seconds += run.seconds(run.end.saturating_sub(run.start));
        }
        (seconds > 2.0).then(|| pictures as f64 / seconds)
    }
}
