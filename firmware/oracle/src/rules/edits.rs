//! What two snapshots of a media playlist show together, and when they were seen.

use std::time::Duration;

use super::{Judge, Known, Observation, Rendition, Role, catalogue};
use crate::playlist::{MediaPlaylist, Part, Playlist, Segment, parse};

/// `_HLS_` directives of a request.
#[derive(Debug, Default)]
struct Asked {
    msn: Option<u64>,
    part: Option<u64>,
    skip: bool,
}

fn directives(url: &str) -> (String, Asked) {
    let mut asked = Asked::default();
    let Some((path, query)) = url.split_once('?') else {
        return (url.to_owned(), asked);
    };
    let mut rest = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("_HLS_msn", value)) => asked.msn = value.parse().ok(),
            Some(("_HLS_part", value)) => asked.part = value.parse().ok(),
            Some(("_HLS_skip", _)) => asked.skip = true,
            _ => rest.push(pair),
        }
    }
    let plain = if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    (plain, asked)
}

impl Judge {
    pub(super) fn media_playlist(&mut self, seen: &Observation) {
        let (url, asked) = directives(&seen.url);
        self.snapshots += 1;
        let before = self.renditions.get(&url).and_then(|it| it.last.clone());
        if let Some(before) = before.as_ref().filter(|it| it.can_block() && !it.ended) {
            if asked.part.is_some() && asked.msn.is_none() {
                if seen.status != 400 {
                    let detail = format!("status {}", seen.status);
                    let rule = &catalogue::PART_WITHOUT_MSN_ACCEPTED;
                    self.report(rule, &url, seen.at, detail);
                }
                return;
            }
            // One more than the rule: the origin may have grown since.
            if asked.msn.is_some_and(|msn| msn > before.end() + 2) {
                if seen.status != 400 {
                    let detail = format!("status {}", seen.status);
                    self.report(&catalogue::FAR_MSN_ACCEPTED, &url, seen.at, detail);
                }
                return;
            }
            let took = (seen.at - seen.asked).as_secs_f64();
            let limit = 3.0 * before.target().unwrap_or(f64::INFINITY);
            if asked.msn.is_some() && took > limit + self.settings.tolerance.as_secs_f64() {
                let detail = format!("{took:.3} s");
                self.report(&catalogue::BLOCKED_TOO_LONG, &url, seen.at, detail);
            }
            if asked.msn.is_some() && seen.status == 503 {
                return;
            }
        }
        let Some(text) = self.playlist_text(seen, &url) else {
            return;
        };
        let Some(Playlist::Media(mut list)) = parse(&url, text) else {
            let detail: String = text.chars().take(60).collect();
            self.report(&catalogue::NOT_A_PLAYLIST, &url, seen.at, detail);
            return;
        };
        if let Some(before) = &before {
            if asked.skip && !self.delta(&url, &mut list, before, seen.at) {
                return;
            }
            if asked.msn.is_some() && before.can_block() && !list.ended {
                self.blocking(&url, &list, &asked, seen.at);
            }
        } else if list.skipped.is_some() {
            return;
        }
        let rendition = self.renditions.entry(url.clone()).or_default();
        rendition.asked = seen.asked;
        self.snapshot(&url, &list, seen.at);
        let taken = match &before {
            Some(before) => self.compare(&url, before, &list, seen.at),
            None => true,
        };
        if taken {
            // It was asked for exactly what comes next, so that there was nothing new while the answer was awaited.
            let waited = before.as_ref().is_some_and(|before| {
                let (msn, part) = before.position();
                asked.msn == Some(msn) && asked.part.is_none_or(|asked| asked == part as u64)
            });
            self.grown(&url, before.as_ref(), &list, seen, waited);
            self.take(&url, *list, seen);
        }
    }

    /// Completes a delta update with what is known. Returns whether it is a whole playlist now.
    fn delta(
        &mut self,
        url: &str,
        list: &mut MediaPlaylist,
        before: &MediaPlaylist,
        at: Duration,
    ) -> bool {
        let Some(skip_until) = before.control("CAN-SKIP-UNTIL") else {
            return list.skipped.is_none();
        };
        let target = before.target().unwrap_or(0.0);
        let Some(skipped) = list.skipped.take() else {
            // A segment may be skipped when it is whole beyond the boundary.
            if list.duration() > skip_until + 2.0 * target && !list.ended {
                let detail = format!("a full playlist of {:.1} s", list.duration());
                self.report(&catalogue::DELTA_REFUSED, url, at, detail);
            }
            return true;
        };
        let left = list.duration()
            + list
                .open_parts
                .iter()
                .map(|part| part.duration)
                .sum::<f64>();
        if left + 0.001 < skip_until {
            let detail = format!("{left:.3} s are left, CAN-SKIP-UNTIL is {skip_until} s");
            self.report(&catalogue::DELTA_SKIPS_TOO_MUCH, url, at, detail);
        }
        let known = &self.renditions[url].known;
        let mut segments = Vec::new();
        for number in list.media_sequence..list.media_sequence + skipped {
            match known.get(&number) {
                Some(known) => segments.push(known.segment.clone()),
                // The list has moved on further than we have seen; nothing to compare with.
                None => return false,
            }
        }
        let map = segments.last().and_then(|last| last.map.clone());
        for segment in list.segments.iter_mut().filter(|it| it.map.is_none()) {
            segment.map.clone_from(&map);
        }
        let mut differing = None;
        for segment in &list.segments {
            if let Some(known) = known.get(&segment.media_sequence)
                && !same(&known.segment, segment)
            {
                differing = Some(segment.resource.url.clone());
            }
        }
        if let Some(media) = differing {
            let detail = format!("{media} is not as in the full playlist");
            self.report(&catalogue::DELTA_DIFFERS, url, at, detail);
            return false;
        }
        // The first segment's own tag has left with the segment before it, or is counted by `number_runs`.
        let run = segments
            .first()
            .map(|it| it.run - u64::from(it.discontinuity));
        segments.append(&mut list.segments);
        list.segments = segments;
        if let Some(run) = run {
            list.number_runs(run);
        }
        true
    }

    fn blocking(&mut self, url: &str, list: &MediaPlaylist, asked: &Asked, at: Duration) {
        let (open, parts) = list.position();
        let Some(msn) = asked.msn else { return };
        let has_part = asked
            .part
            .is_some_and(|part| msn == open && (part as usize) < parts);
        if msn >= open && !has_part {
            let detail = format!(
                "asked for segment {msn}, part {:?}; the list ends before segment {open}, part {parts}",
                asked.part
            );
            self.report(&catalogue::BLOCKING_RELOAD_UNMET, url, at, detail);
        }
    }

    /// Judges an edit. Returns whether the new snapshot is one to go on from.
    fn compare(
        &mut self,
        url: &str,
        before: &MediaPlaylist,
        list: &MediaPlaylist,
        at: Duration,
    ) -> bool {
        if before.ended {
            if !list.ended || list.numbers() != before.numbers() {
                let detail = format!("segments {:?}, then {:?}", before.numbers(), list.numbers());
                self.report(&catalogue::CHANGED_AFTER_ENDLIST, url, at, detail);
            }
            return false;
        }
        if let (Some(was), Some(is)) = (before.target(), list.target())
            && was != is
        {
            let detail = format!("{was}, then {is}");
            self.report(&catalogue::TARGET_DURATION_CHANGES, url, at, detail);
        }
        let sliding = list.media_sequence > before.media_sequence;
        if before.playlist_type != list.playlist_type {
            let detail = format!("{:?}, then {:?}", before.playlist_type, list.playlist_type);
            self.report(&catalogue::PLAYLIST_TYPE_CHANGES, url, at, detail);
        } else if sliding && list.playlist_type.is_some() {
            let detail = format!("{:?}", list.playlist_type);
            self.report(&catalogue::PLAYLIST_TYPE_ON_SLIDING, url, at, detail);
        }
        if list.media_sequence < before.media_sequence {
            let detail = format!("{}, then {}", before.media_sequence, list.media_sequence);
            self.report(&catalogue::MEDIA_SEQUENCE_FALLS, url, at, detail);
            return false;
        }
        if let Some((rule, detail)) = misplaced(before, list) {
            self.report(rule, url, at, detail);
            return false;
        }
        for segment in &list.segments {
            if let Some(was) = before.segment(segment.media_sequence) {
                let first = segment.media_sequence == list.media_sequence;
                let counted = list.discontinuity_sequence.is_some();
                if !self.compare_segment(was, segment, first, at)
                    && counted
                    && was.run != segment.run
                {
                    let media = &segment.resource.url;
                    let detail = format!("{media} was in run {}, now {}", was.run, segment.run);
                    self.report(&catalogue::DISCONTINUITY_SEQUENCE_WRONG, url, at, detail);
                }
            }
        }
        if list.end() < before.end() {
            let detail = format!(
                "it ended before {}, then before {}",
                before.end(),
                list.end()
            );
            self.report(&catalogue::SEGMENT_WITHDRAWN, url, at, detail);
            return false;
        }
        let target = list.target().unwrap_or(0.0);
        if sliding && !list.ended {
            if list.duration() < 3.0 * target {
                let detail = format!("{:.3} s are left", list.duration());
                self.report(&catalogue::REMOVAL_LEAVES_TOO_LITTLE, url, at, detail);
            } else if list.segments.len() < 6 {
                let detail = format!("{} segments", list.segments.len());
                self.report(&catalogue::TOO_FEW_SEGMENTS, url, at, detail);
            }
        }
        if let Some(hint) = before.hints.first()
            && list.position() > before.position()
            && !list.ended
        {
            let mut parts = list
                .segments
                .iter()
                .flat_map(|it| &it.parts)
                .chain(&list.open_parts);
            // The segment before it may have been listed first.
            if !parts.any(|part| part.resource == *hint) && !list.hints.contains(hint) {
                let detail = format!("{} did not become a part", hint.url);
                self.report(&catalogue::HINT_NOT_KEPT, url, at, detail);
            }
        }
        true
    }

    /// Returns whether it is another segment now.
    fn compare_segment(&mut self, was: &Segment, is: &Segment, first: bool, at: Duration) -> bool {
        let media = &is.resource.url;
        // The tag of the first segment may leave before the segment does.
        if (was.discontinuity != is.discontinuity && !first)
            || was.duration != is.duration
            || was.map != is.map
        {
            let detail = "its tags are others than before";
            self.report(&catalogue::SEGMENT_CHANGED, media, at, detail);
            return true;
        }
        if let (Some(was), Some(is)) = (was.time, is.time)
            && (was.seconds - is.seconds).abs() > 0.0015
        {
            let detail = format!("moved by {:+.3} s", is.seconds - was.seconds);
            self.report(&catalogue::PROGRAM_DATE_TIME_EDITED, media, at, detail);
        }
        false
    }

    /// Judges when the playlist grew.
    fn grown(
        &mut self,
        url: &str,
        before: Option<&MediaPlaylist>,
        list: &MediaPlaylist,
        seen: &Observation,
        waited: bool,
    ) {
        let Some(before) = before else { return };
        let tolerance = self.settings.tolerance;
        let rendition = self.renditions.entry(url.to_owned()).or_default();
        // An answer that was waited for comes when there is something new, else it is late itself.
        let no_earlier = if waited && seen.at - seen.asked > tolerance {
            seen.at
        } else {
            rendition.previous_asked
        };
        let now = (no_earlier, seen.at);
        let seconds = |text: f64| Duration::try_from_secs_f64(text).unwrap_or(Duration::MAX);
        let target = seconds(list.target().unwrap_or(f64::MAX));
        let limit = target.saturating_mul(3) / 2;
        let forgiven = target.saturating_mul(self.settings.forgiven);
        let slack = tolerance.saturating_add(forgiven);
        let segment_grew = list.end() > before.end();
        let part_grew = list.position() > before.position();
        let mut late = None;
        let mut early = None;
        let mut part_late = None;
        if let Some((first, last)) = rendition.segment_grew {
            // What has not grown is judged by the request that shows that.
            let gap = if segment_grew { no_earlier } else { seen.asked }.saturating_sub(last);
            if gap > limit.saturating_add(slack) && !list.ended {
                late = Some(gap);
            }
            let gap = seen.at.saturating_sub(first);
            if segment_grew
                && target < Duration::MAX
                && gap.saturating_add(forgiven) < target / 2
                && !list.ended
                && !list.has_parts()
            {
                early = Some(gap);
            }
        }
        if let (Some((_, last)), Some(limit), false) =
            (rendition.part_grew, list.part_target, list.ended)
        {
            let gap = if part_grew { no_earlier } else { seen.asked }.saturating_sub(last);
            if list.has_parts() && gap > seconds(limit).saturating_add(slack) {
                part_late = Some(gap);
            }
        }
        if segment_grew {
            rendition.segment_grew = Some(now);
        }
        if part_grew {
            rendition.part_grew = Some(now);
        }
        if let Some(gap) = late {
            let detail = format!(
                "at least {gap:.1?} after segment {}",
                before.end() as i64 - 1
            );
            self.report(&catalogue::UPDATE_LATE, url, seen.at, detail);
        } else if let Some(gap) = part_late {
            let detail = format!("at least {gap:.1?} after the part before");
            self.report(&catalogue::PART_LATE, url, seen.at, detail);
        }
        if let Some(gap) = early {
            let detail = format!("at most {gap:.1?} after the segment before");
            self.report(&catalogue::UPDATE_EARLY, url, seen.at, detail);
        }
    }

    /// Goes on from this snapshot.
    fn take(&mut self, url: &str, list: MediaPlaylist, seen: &Observation) {
        let duration = list.duration();
        let first = self.renditions.get(url).is_none_or(|it| it.last.is_none());
        let skip = if first {
            list.segments
                .len()
                .saturating_sub(self.settings.first_segments)
        } else {
            0
        };
        for (index, segment) in list.segments.iter().enumerate() {
            let number = segment.media_sequence;
            if index >= skip && !segment.gap {
                if let Some(map) = &segment.map {
                    self.want(map, Role::Init);
                }
                self.want_parts(url, number, &segment.parts);
                let list = url.to_owned();
                self.want(&segment.resource, Role::Segment { list, number });
            }
            let rendition = self.renditions.entry(url.to_owned()).or_default();
            let known = rendition.known.entry(number).or_insert_with(|| Known {
                segment: segment.clone(),
                longest: 0.0,
                removed: None,
                probed: false,
                size: None,
                media: Vec::new(),
            });
            known.segment.clone_from(segment);
            known.longest = known.longest.max(duration);
        }
        self.want_parts(url, list.end(), &list.open_parts);
        for hint in &list.hints {
            self.want(hint, Role::Hint);
        }
        let rendition = self.renditions.entry(url.to_owned()).or_default();
        for known in rendition.known.range_mut(..list.media_sequence) {
            known.1.removed.get_or_insert(rendition.previous_asked);
        }
        // What nothing can be asked of any more.
        rendition.known.retain(|_, known| {
            known
                .available_until()
                .is_none_or(|until| until + Duration::from_secs(60) > seen.at)
        });
        rendition.parts = rendition.parts.split_off(&list.media_sequence);
        rendition.at = seen.at;
        rendition.previous_asked = seen.asked;
        rendition.last = Some(list);
        self.compare_renditions(url, seen.at);
    }

    fn want_parts(&mut self, url: &str, number: u64, parts: &[Part]) {
        for (index, part) in parts.iter().enumerate().filter(|(_, part)| !part.gap) {
            let list = url.to_owned();
            self.want(
                &part.resource,
                Role::Part {
                    list,
                    number,
                    index,
                },
            );
        }
    }
}

impl Rendition {
    pub(super) fn lists(&self, number: u64) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.numbers().contains(&number))
    }
}

fn same(one: &Segment, other: &Segment) -> bool {
    one.resource == other.resource
        && one.duration == other.duration
        && one.discontinuity == other.discontinuity
        && one.map == other.map
}

/// Why the segments of a new snapshot are not those of the old one at the same numbers, if they are not.
fn misplaced(
    before: &MediaPlaylist,
    list: &MediaPlaylist,
) -> Option<(&'static super::Rule, String)> {
    let differs = |segment: &&Segment| {
        let was = before.segment(segment.media_sequence);
        was.is_some_and(|was| was.resource != segment.resource)
    };
    let place = |list: &MediaPlaylist, what: &Segment| {
        let mut segments = list.segments.iter();
        segments
            .find(|it| it.resource == what.resource)
            .map(|it| it.media_sequence)
    };
    let first = list.segments.first()?;
    let is = list.segments.iter().find(differs);
    if let Some(was) = place(before, first)
        && was != first.media_sequence
    {
        let detail = format!(
            "{} was {was}, now {}",
            first.resource.url, first.media_sequence
        );
        return Some((&catalogue::MEDIA_SEQUENCE_MISCOUNTS, detail));
    }
    let is = is?;
    let was = before.segment(is.media_sequence)?;
    let detail = format!("{} is now {}", was.resource.url, is.resource.url);
    let rule = if place(before, is).is_some_and(|it| it > is.media_sequence) {
        &catalogue::SEGMENT_REMOVED_OUT_OF_ORDER
    } else if place(list, was).is_some_and(|it| it > is.media_sequence) {
        &catalogue::SEGMENT_INSERTED
    } else {
        &catalogue::SEGMENT_CHANGED
    };
    Some((rule, detail))
}
