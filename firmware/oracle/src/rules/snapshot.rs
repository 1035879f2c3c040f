//! What one snapshot of a media playlist shows by itself.

use std::time::Duration;

use super::{DateSum, Judge, catalogue};
use crate::playlist::MediaPlaylist;

/// Seconds that dates may be off after summing EXTINF. No document gives a number; a tenth of a second is well above the
/// rounding of dates and the difference between the tracks.
const MAX_DRIFT: f64 = 0.1;

/// And so many seconds a second: dates that follow the wall clock follow a card's crystal away from its nominal rate, which
/// is up to some hundred ppm.
const MAX_DRIFT_RATE: f64 = 0.0005;

impl Judge {
    pub(super) fn snapshot(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        self.header(url, list, at);
        self.dates(url, list, at);
        if list.has_parts() {
            self.low_latency(url, list, at);
        }
        let target = list.target().unwrap_or(0.0);
        if let Some(hold_back) = list.control("HOLD-BACK")
            && hold_back < 3.0 * target
        {
            let detail = format!("{hold_back} s, target duration {target} s");
            self.report(&catalogue::HOLD_BACK_SHORT, url, at, detail);
        }
        if let Some(skip) = list.control("CAN-SKIP-UNTIL")
            && skip < 6.0 * target
        {
            let detail = format!("{skip} s, target duration {target} s");
            self.report(&catalogue::CAN_SKIP_UNTIL_SHORT, url, at, detail);
        }
        if list.ended && !list.hints.is_empty() {
            let detail = list.hints[0].url.clone();
            self.report(&catalogue::HINT_AFTER_ENDLIST, url, at, detail);
        }
    }

    fn header(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        match (&list.target_duration, list.target()) {
            (None, _) => {
                let detail = "no EXT-X-TARGETDURATION";
                self.report(&catalogue::TARGET_DURATION_MISSING, url, at, detail);
            }
            (Some(text), target) => {
                if text.trim().parse::<u64>().is_err() {
                    self.report(&catalogue::TARGET_DURATION_NOT_INTEGER, url, at, text);
                }
                let target = target.unwrap_or(f64::INFINITY);
                for segment in &list.segments {
                    if segment.duration.round() > target {
                        let detail = format!("{} s, target {target} s", segment.duration);
                        let url = &segment.resource.url;
                        let rule = &catalogue::SEGMENT_EXCEEDS_TARGET_DURATION;
                        self.report(rule, url, at, detail);
                    }
                }
            }
        }
        let (needed, feature) = list.needs;
        if list.version < needed {
            let detail = format!("version {}, {feature} needs {needed}", list.version);
            self.report(&catalogue::VERSION_TOO_LOW, url, at, detail);
        }
        let sliding = list.playlist_type.is_none() && !list.ended;
        if sliding
            && list.discontinuity_sequence.is_none()
            && list.segments.iter().any(|segment| segment.discontinuity)
        {
            let detail = "it has a discontinuity and no EXT-X-DISCONTINUITY-SEQUENCE";
            self.report(&catalogue::DISCONTINUITY_SEQUENCE_MISSING, url, at, detail);
        }
    }

    fn dates(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        let dated = list.segments.iter().any(|segment| segment.time.is_some());
        if !dated {
            if !list.ended && !list.segments.is_empty() && list.skipped.is_none() {
                let detail = "no EXT-X-PROGRAM-DATE-TIME";
                self.report(&catalogue::PROGRAM_DATE_TIME_MISSING, url, at, detail);
            }
            return;
        }
        let mut expected = None;
        for segment in &list.segments {
            let media = &segment.resource.url;
            if segment.discontinuity {
                expected = None;
                if segment.time.is_none() {
                    let rule = &catalogue::PROGRAM_DATE_TIME_MISSING_AT_DISCONTINUITY;
                    self.report(rule, media, at, "none after EXT-X-DISCONTINUITY");
                }
            }
            if let Some(time) = segment.time {
                if !time.precise {
                    let rule = &catalogue::PROGRAM_DATE_TIME_IMPRECISE;
                    self.report(rule, url, at, "milliseconds or the zone are missing");
                }
                if let Some(expected) = expected {
                    let off: f64 = time.seconds - expected;
                    if off.abs() > self.settings.date_tolerance {
                        let detail = format!("{off:+.3} s from the segment before and its EXTINF");
                        self.report(&catalogue::PROGRAM_DATE_TIME_STEPS, media, at, detail);
                    }
                }
                expected = Some(time.seconds);
            }
            expected = expected.map(|it| it + segment.duration);
        }
        self.date_drift(url, list, at);
    }

    /// Each segment once, summed from where its run was first seen.
    fn date_drift(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        let tolerance = self.settings.date_tolerance;
        let rendition = self.renditions.entry(url.to_owned()).or_default();
        let mut worst: Option<(&str, f64)> = None;
        for segment in &list.segments {
            let number = segment.media_sequence;
            if number < rendition.dated {
                continue;
            }
            let goes_on = number == rendition.dated;
            rendition.dated = number + 1;
            match (&mut rendition.dates, segment.time) {
                (Some(sum), time) if sum.run == segment.run && goes_on => {
                    if let Some(time) = time {
                        let off = time.seconds - sum.start - sum.seconds;
                        if (off - sum.off).abs() > tolerance {
                            // A step is a fault of its own; the sum starts anew there.
                            (sum.start, sum.seconds, sum.off) = (time.seconds, 0.0, 0.0);
                        } else {
                            sum.off = off;
                            if off.abs() > MAX_DRIFT + MAX_DRIFT_RATE * sum.seconds {
                                worst = Some((&segment.resource.url, off));
                            }
                        }
                    }
                    sum.seconds += segment.duration;
                }
                (dates, time) => {
                    *dates = time.map(|time| DateSum {
                        run: segment.run,
                        start: time.seconds,
                        seconds: segment.duration,
                        off: 0.0,
                    });
                }
            }
        }
        if let Some((media, off)) = worst {
            let detail = format!("{off:+.3} s after summing EXTINF, at {media}");
            self.report(&catalogue::PROGRAM_DATE_TIME_DRIFTS, url, at, detail);
        }
    }

    fn low_latency(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        if !list.can_block() && !list.ended {
            let detail = "no CAN-BLOCK-RELOAD=YES";
            self.report(&catalogue::BLOCK_RELOAD_NOT_OFFERED, url, at, detail);
        }
        let Some(part_target) = list.part_target else {
            let detail = "no EXT-X-PART-INF";
            self.report(&catalogue::PART_INF_MISSING, url, at, detail);
            return;
        };
        match list.control("PART-HOLD-BACK") {
            None => {
                let detail = "no PART-HOLD-BACK";
                self.report(&catalogue::PART_HOLD_BACK_MISSING, url, at, detail);
            }
            Some(hold_back) if hold_back < 3.0 * part_target - 1e-6 => {
                let rule = if hold_back < 2.0 * part_target - 1e-6 {
                    &catalogue::PART_HOLD_BACK_SHORT
                } else {
                    &catalogue::PART_HOLD_BACK_BELOW_THREE
                };
                let detail = format!("{hold_back} s, part target {part_target} s");
                self.report(rule, url, at, detail);
            }
            Some(_) => {}
        }
        let open = (f64::NAN, &list.open_parts);
        let closed = list.segments.iter().map(|it| (it.duration, &it.parts));
        for (duration, parts) in closed.chain([open]) {
            for (index, part) in parts.iter().enumerate() {
                let media = &part.resource.url;
                if part.duration > part_target + 1e-4 {
                    let detail = format!("{} s, part target {part_target} s", part.duration);
                    self.report(&catalogue::PART_EXCEEDS_TARGET, media, at, detail);
                }
                // The last part of a segment may be shorter, and so may one before a gap.
                let before_gap = parts.get(index + 1).is_none_or(|next| next.gap);
                let exempt = part.independent || part.gap || before_gap;
                if part.duration < 0.85 * part_target - 1e-6 && !exempt {
                    let detail = format!("{} s, part target {part_target} s", part.duration);
                    self.report(&catalogue::PART_TOO_SHORT, media, at, detail);
                }
            }
            let sum: f64 = parts.iter().map(|part| part.duration).sum();
            let rounding = 0.001 * (parts.len() + 1) as f64;
            if !parts.is_empty() && (sum - duration).abs() > rounding {
                let detail = format!("parts {sum:.6} s, segment {duration:.6} s");
                self.report(
                    &catalogue::PARTS_DO_NOT_SUM,
                    &parts[0].resource.url,
                    at,
                    detail,
                );
            }
        }
        let target = list.target().unwrap_or(f64::INFINITY);
        let mut to_end: f64 = list.open_parts.iter().map(|part| part.duration).sum();
        for segment in list.segments.iter().rev() {
            // One target duration of grace: they leave a segment at a time.
            if to_end > 4.0 * target && !segment.parts.is_empty() && !list.ended {
                let detail = format!("{} is {to_end:.3} s from the end", segment.resource.url);
                self.report(&catalogue::PARTS_TOO_OLD, url, at, detail);
                break;
            }
            to_end += segment.duration;
        }
        self.rendition_reports(url, list, at);
    }

    fn rendition_reports(&mut self, url: &str, list: &MediaPlaylist, at: Duration) {
        if list.ended {
            return;
        }
        let asked = self.renditions.get(url).map_or(at, |it| it.asked);
        let part_target = Duration::from_secs_f64(list.part_target.unwrap_or(1.0).clamp(0.0, 60.0));
        for other in self.media_playlists() {
            if other == url || self.multivariant.is_none() {
                continue;
            }
            let Some(report) = list.reports.iter().find(|report| report.url == other) else {
                self.report(&catalogue::RENDITION_REPORT_MISSING, url, at, other);
                continue;
            };
            let Some(rendition) = self.renditions.get(&other) else {
                continue;
            };
            let Some(last) = &rendition.last else {
                continue;
            };
            let newest = match last.open_parts.len() {
                0 => (last.end().saturating_sub(1), u64::MAX),
                parts => (last.end(), parts as u64 - 1),
            };
            let told = (report.msn.unwrap_or(0), report.part.unwrap_or(u64::MAX));
            // A playlist is made when it grows: it may be as old as one part, and so may be the next segment's first.
            let fresh = rendition.at + part_target + self.settings.tolerance > asked;
            if fresh && told.0 + 1 >= newest.0 {
                continue;
            }
            if told < newest && !(newest.1 == u64::MAX && told.0 == newest.0) {
                let detail = format!("{other} has {newest:?}, the report says {told:?}");
                self.report(&catalogue::RENDITION_REPORT_BEHIND, url, at, detail);
            }
        }
    }
}
