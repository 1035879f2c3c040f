//! What the media is: available, readable, and what the playlists say of it.

use std::time::Duration;

use super::{CONTINUITY, Judge, Observation, Role, catalogue};
use crate::media::{self, Init, Kind, Run};
use crate::playlist::Resource;

impl Judge {
    pub(super) fn resource(&mut self, seen: &Observation, range: Option<(u64, u64)>) {
        let resource = Resource {
            url: seen.url.clone(),
            range,
        };
        let Some(role) = self.roles.get(&resource).cloned() else {
            return;
        };
        let detail = format!("status {}", seen.status);
        match seen.status {
            300..400 => self.report(&catalogue::MEDIA_REDIRECTED, &seen.url, seen.at, detail),
            200..300 => self.found(&resource, role, seen),
            _ => self.not_found(&role, seen, &detail),
        }
    }

    fn not_found(&mut self, role: &Role, seen: &Observation, detail: &str) {
        let rule = match role {
            Role::Init => &catalogue::INIT_UNAVAILABLE,
            Role::Part { .. } => &catalogue::PART_UNAVAILABLE,
            Role::Hint => &catalogue::HINT_UNAVAILABLE,
            Role::Segment { list, number } => {
                let Some(rendition) = self.renditions.get(list) else {
                    return;
                };
                let known = rendition.known.get(number);
                if rendition.lists(*number) {
                    &catalogue::SEGMENT_UNAVAILABLE
                } else if known
                    .and_then(super::Known::available_until)
                    .is_some_and(|until| seen.at < until)
                {
                    &catalogue::REMOVED_SEGMENT_GONE
                } else {
                    return;
                }
            }
        };
        if let Role::Part { list, number, .. } = role
            && let Some(rendition) = self.renditions.get(list)
            && let Some(last) = &rendition.last
            && *number < last.end()
            && last
                .segment(*number)
                .is_none_or(|segment| segment.parts.is_empty())
        {
            // It has left the playlist between the two requests.
            return;
        }
        self.report(rule, &seen.url, seen.at, detail);
    }

    fn found(&mut self, resource: &Resource, role: Role, seen: &Observation) {
        let (url, at) = (&seen.url, seen.at);
        let fmp4 = media::is_fmp4(&seen.body);
        if fmp4 && role != Role::Hint {
            const ACCEPTED: [&str; 5] = [
                "video/mp4",
                "audio/mp4",
                "video/iso.segment",
                "audio/iso.segment",
                "application/mp4",
            ];
            let content_type = seen.content_type.as_deref().unwrap_or("none");
            if !ACCEPTED.contains(&content_type) {
                self.report(&catalogue::SEGMENT_CONTENT_TYPE, url, at, content_type);
            }
        }
        match role {
            Role::Init => {
                let init = media::read_init(&seen.body);
                for (rule, detail) in &init.faults {
                    self.report(rule, url, at, detail);
                }
                self.inits.insert(resource.clone(), init);
                self.compare_codecs(at);
            }
            Role::Segment { list, number } => {
                self.segments += 1;
                self.segment(&list, number, fmp4, seen);
            }
            Role::Part {
                list,
                number,
                index,
            } => {
                self.parts += 1;
                self.part(&list, number, index, seen);
            }
            Role::Hint => {}
        }
    }

    fn segment(&mut self, list: &str, number: u64, fmp4: bool, seen: &Observation) {
        let (url, at) = (&seen.url, seen.at);
        let Some(rendition) = self.renditions.get_mut(list) else {
            return;
        };
        let Some(known) = rendition.known.get_mut(&number) else {
            return;
        };
        known.size = Some(seen.body.len() as u64);
        let segment = known.segment.clone();
        if !fmp4 {
            return;
        }
        let Some(map) = &segment.map else {
            let detail = "it is fragmented MP4 and has no EXT-X-MAP";
            self.report(&catalogue::MAP_MISSING, list, at, detail);
            return;
        };
        let Some(init) = self.inits.get(map) else {
            return;
        };
        let mut faults = Vec::new();
        if init.tracks.is_empty() {
            return;
        }
        let mut media = media::read_fragments(&seen.body, init, &mut faults);
        if !faults.is_empty() {
            // Half of a segment would break every other rule too.
            media.clear();
        }
        known.media.clone_from(&media);
        self.part_media(list, number, &media, at);
        for (rule, detail) in faults {
            self.report(rule, url, at, detail);
        }
        for run in media.iter().filter(|run| run.kind == Kind::Video) {
            if !run.sync {
                let detail = "the first sample's flags say that it is not";
                self.report(&catalogue::FIRST_SAMPLE_NOT_SYNC, url, at, detail);
            }
            if run.idr == Some(false) {
                let detail = "the first access unit has no IDR slice";
                self.report(&catalogue::FIRST_SAMPLE_NOT_IDR, url, at, detail);
            }
        }
        if let Some(main) = main_track(&media) {
            let duration = main.seconds(main.end.saturating_sub(main.start));
            let frame = main.seconds(main.longest_sample) + CONTINUITY;
            if (segment.duration - duration).abs() > frame {
                let detail = format!("EXTINF {} s, media {duration:.6} s", segment.duration);
                self.report(&catalogue::EXTINF_DISAGREES, url, at, detail);
            }
        }
        self.join(list, number.wrapping_sub(1), at);
        self.join(list, number, at);
        self.sum_drift(list, at);
        self.compare_bandwidth(at);
        self.compare_timestamps(list, number, at);
    }

    /// Judges the place where segment `number` and the next one meet.
    fn join(&mut self, list: &str, number: u64, at: Duration) {
        let known = &self.renditions[list].known;
        let (Some(one), Some(next)) = (known.get(&number), known.get(&number.wrapping_add(1)))
        else {
            return;
        };
        if next.segment.discontinuity
            || one.segment.run != next.segment.run
            || one.media.is_empty()
            || next.media.is_empty()
        {
            return;
        }
        let url = next.segment.resource.url.clone();
        let tracks = |media: &[Run]| -> Vec<_> {
            let mut all: Vec<_> = media.iter().map(|it| (it.track, it.timescale)).collect();
            all.sort_unstable();
            all
        };
        let codecs = |map: &Option<Resource>| -> Vec<_> {
            let init: Option<&Init> = map.as_ref().and_then(|map| self.inits.get(map));
            let tracks = init.map_or(&[][..], |it| &it.tracks);
            let profile = |codec: &String| codec.split('.').next().unwrap_or_default().to_owned();
            tracks
                .iter()
                .map(|it| it.codec.as_ref().map(profile))
                .collect()
        };
        if tracks(&one.media) != tracks(&next.media)
            || codecs(&one.segment.map) != codecs(&next.segment.map)
        {
            let detail = "its tracks are not those of the segment before";
            self.report(&catalogue::TRACKS_CHANGE, url, at, detail);
            return;
        }
        let mut gap = None;
        for (run, next) in one.media.iter().flat_map(|run| {
            let next = next.media.iter().find(|it| it.track == run.track);
            next.map(|next| (run, next))
        }) {
            if run.seconds(run.end.abs_diff(next.start)) > CONTINUITY {
                let off = next.start as f64 - run.end as f64;
                gap = Some(format!(
                    "track {} starts at {}, the segment before ends at {}: {:+.4} s",
                    run.track,
                    next.start,
                    run.end,
                    off / run.timescale as f64
                ));
            }
        }
        if let Some(detail) = gap {
            self.report(&catalogue::TFDT_GAP, url, at, detail);
        }
    }

    /// Sums what EXTINF and the media differ by, over the segments of a run in their order.
    fn sum_drift(&mut self, list: &str, at: Duration) {
        let Some(rendition) = self.renditions.get_mut(list) else {
            return;
        };
        let mut worst = None;
        let start = rendition.summed;
        for (number, known) in rendition.known.range(start..) {
            let Some(main) = main_track(&known.media) else {
                // It has not come yet, or it came and cannot be read.
                if rendition.summed == 0 || known.size.is_some() {
                    continue;
                }
                break;
            };
            let segment = &known.segment;
            if rendition.drift.0 != segment.run || rendition.summed != *number {
                rendition.drift = (segment.run, 0.0);
            }
            rendition.summed = number + 1;
            let off = segment.duration - main.seconds(main.end.saturating_sub(main.start));
            let frame = main.seconds(main.longest_sample);
            // A segment that is wrong by itself is reported as such.
            if off.abs() <= frame + CONTINUITY {
                rendition.drift.1 += off;
            }
            let sum = rendition.drift.1;
            if sum.abs() > frame + CONTINUITY {
                worst = Some(format!("{sum:+.4} s at {}", segment.resource.url));
            }
        }
        if let Some(detail) = worst {
            self.report(&catalogue::EXTINF_SUM_DRIFTS, list, at, detail);
        }
    }

    fn part(&mut self, list: &str, number: u64, index: usize, seen: &Observation) {
        let Some(rendition) = self.renditions.get_mut(list) else {
            return;
        };
        let body = seen.body.clone();
        rendition
            .parts
            .entry(number)
            .or_default()
            .insert(index, body);
        let Some(last) = &rendition.last else { return };
        let segment = last.segment(number);
        let part = match segment {
            Some(segment) => segment.parts.get(index),
            None => last.open_parts.get(index),
        };
        // A part has the map of its segment, which is that of the segment before unless told otherwise.
        let map = segment
            .or(last.segments.last())
            .and_then(|it| it.map.as_ref());
        let init = map.and_then(|map| self.inits.get(map));
        let (Some(part), Some(init)) = (part.cloned(), init.filter(|it| !it.tracks.is_empty()))
        else {
            return;
        };
        let mut faults = Vec::new();
        let media = media::read_fragments(&seen.body, init, &mut faults);
        for (rule, detail) in faults {
            self.report(rule, &seen.url, seen.at, detail);
        }
        let Some(main) = main_track(&media) else {
            return;
        };
        let independent = main.sync && main.idr != Some(false);
        if part.independent && !independent {
            let detail = "its first sample is not a sync sample";
            self.report(&catalogue::PART_NOT_INDEPENDENT, &seen.url, seen.at, detail);
        } else if !part.independent && independent {
            let detail = "no INDEPENDENT=YES";
            self.report(&catalogue::INDEPENDENT_MISSING, list, seen.at, detail);
        }
    }

    /// Parts may be packed otherwise than their segment (boxes, interleaving), but have its samples.
    fn part_media(&mut self, list: &str, number: u64, segment: &[Run], at: Duration) {
        let Some(rendition) = self.renditions.get_mut(list) else {
            return;
        };
        let (Some(parts), Some(known)) = (
            rendition.parts.remove(&number),
            rendition.known.get(&number),
        ) else {
            return;
        };
        let listed = known.segment.parts.len();
        let init = known.segment.map.as_ref().and_then(|it| self.inits.get(it));
        let Some(init) =
            init.filter(|_| listed > 0 && parts.len() == listed && !segment.is_empty())
        else {
            return;
        };
        // What is wrong with a part alone has been said of the part.
        let joined: Vec<u8> = parts.values().flatten().copied().collect();
        let parts = media::read_fragments(&joined, init, &mut Vec::new());
        for whole in segment {
            let in_parts = parts.iter().find(|run| run.track == whole.track);
            if in_parts.is_none_or(|it| it.start != whole.start || it.content != whole.content) {
                let samples = in_parts.map_or(0, |it| it.samples);
                let detail = format!(
                    "segment {number}, track {}: {samples} samples in parts, {} as a whole, or others",
                    whole.track, whole.samples
                );
                self.report(&catalogue::PART_MEDIA_DIFFERS, list, at, detail);
                return;
            }
        }
    }
}

/// The track that EXTINF speaks of.
pub(super) fn main_track(media: &[Run]) -> Option<&Run> {
    media
        .iter()
        .find(|run| run.kind == Kind::Video)
        .or(media.first())
}
