//! The rules by name. A rule's level is that of its source: what Apple's authoring specification demands is a MUST here.

use super::Level::{Must, Should};
use super::Rule;

macro_rules! rules {
    ($($constant:ident $name:literal $level:ident $section:literal $says:literal)*) => {
        $(
            #[doc = $says]
            pub const $constant: Rule = Rule { name: $name, section: $section, level: $level, says: $says };
        )*
        /// All of them.
        pub const ALL: &[Rule] = &[$($constant),*];
    };
}

rules! {
    // Delivery
    PLAYLIST_UNAVAILABLE "playlist-unavailable" Must "RFC 8216 6.2.1" "a playlist is always there"
    NOT_A_PLAYLIST "not-a-playlist" Must "RFC 8216 4.3.1.1" "a playlist begins with #EXTM3U"
    PLAYLIST_CONTENT_TYPE "playlist-content-type" Must "RFC 8216 4" "a playlist has the type application/vnd.apple.mpegurl"
    PLAYLIST_NOT_GZIPPED "playlist-not-gzipped" Must "Apple 10.1" "playlists are delivered with gzip"
    PLAYLIST_HAS_BOM "playlist-has-bom" Must "RFC 8216 4.1" "a playlist has no byte order mark"
    PLAYLIST_NOT_UTF8 "playlist-not-utf8" Must "RFC 8216 4.1" "a playlist is UTF-8"
    MEDIA_REDIRECTED "media-redirected" Must "Apple 8.18" "media is not redirected"
    SEGMENT_UNAVAILABLE "segment-unavailable" Must "RFC 8216 6.2.1" "a listed segment can be had at once"
    INIT_UNAVAILABLE "init-unavailable" Must "RFC 8216 6.2.1" "a listed init segment can be had at once"
    REMOVED_SEGMENT_GONE "removed-segment-gone" Must "RFC 8216 6.2.2" "a removed segment stays for its duration plus that of the longest playlist that had it"
    SEGMENT_CONTENT_TYPE "segment-content-type" Should "Apple 10" "fragmented MP4 is video/iso.segment or video/mp4 (or audio)"
    // Edits
    MEDIA_SEQUENCE_FALLS "media-sequence-falls" Must "RFC 8216 6.2.2" "the media sequence number never falls"
    MEDIA_SEQUENCE_MISCOUNTS "media-sequence-miscounts" Must "RFC 8216 6.2.2" "the media sequence number rises by one for each removed segment"
    SEGMENT_CHANGED "segment-changed" Must "RFC 8216 6.2.1" "a listed segment keeps its URI, tags and place"
    SEGMENT_INSERTED "segment-inserted" Must "RFC 8216 6.2.1" "segments are added at the end"
    SEGMENT_REMOVED_OUT_OF_ORDER "segment-removed-out-of-order" Must "RFC 8216 6.2.2" "segments leave at the head, in order"
    SEGMENT_WITHDRAWN "segment-withdrawn" Must "RFC 8216 6.2.1" "the newest segments are not taken back"
    DISCONTINUITY_SEQUENCE_MISSING "discontinuity-sequence-missing" Must "Apple 8.17" "a sliding playlist with a discontinuity has EXT-X-DISCONTINUITY-SEQUENCE"
    DISCONTINUITY_SEQUENCE_WRONG "discontinuity-sequence-wrong" Must "RFC 8216 6.2.2" "the discontinuity sequence number rises when a discontinuity leaves, and only then"
    PLAYLIST_TYPE_ON_SLIDING "playlist-type-on-sliding" Must "RFC 8216 6.2.2" "a playlist that loses segments has no EXT-X-PLAYLIST-TYPE"
    PLAYLIST_TYPE_CHANGES "playlist-type-changes" Must "RFC 8216 6.2.1" "EXT-X-PLAYLIST-TYPE neither comes nor goes"
    CHANGED_AFTER_ENDLIST "changed-after-endlist" Must "RFC 8216 4.3.3.4" "nothing changes after EXT-X-ENDLIST"
    REMOVAL_LEAVES_TOO_LITTLE "removal-leaves-too-little" Must "RFC 8216 6.2.2" "no removal leaves less than three target durations"
    TOO_FEW_SEGMENTS "too-few-segments" Must "Apple 8.11" "a live playlist has at least six segments"
    UPDATE_LATE "update-late" Must "RFC 8216 6.2.2" "a new segment comes within 1.5 target durations"
    UPDATE_EARLY "update-early" Must "RFC 8216 6.2.2" "a new segment comes no earlier than half a target duration after the last"
    // Media playlists
    TARGET_DURATION_MISSING "target-duration-missing" Must "RFC 8216 4.3.3.1" "EXT-X-TARGETDURATION is there"
    TARGET_DURATION_NOT_INTEGER "target-duration-not-integer" Must "RFC 8216 4.3.3.1" "the target duration is a whole number"
    TARGET_DURATION_CHANGES "target-duration-changes" Must "RFC 8216 6.2.1" "the target duration never changes"
    SEGMENT_EXCEEDS_TARGET_DURATION "segment-exceeds-target-duration" Must "RFC 8216 4.3.3.1" "EXTINF, rounded, is at most the target duration"
    VERSION_TOO_LOW "version-too-low" Must "RFC 8216 7" "EXT-X-VERSION allows the features in use"
    MAP_MISSING "map-missing" Must "RFC 8216 3.3" "fragmented MP4 has an EXT-X-MAP"
    PROGRAM_DATE_TIME_MISSING "program-date-time-missing" Must "Apple 8.4" "a live playlist has EXT-X-PROGRAM-DATE-TIME"
    PROGRAM_DATE_TIME_IMPRECISE "program-date-time-imprecise" Should "RFC 8216 4.3.2.6" "EXT-X-PROGRAM-DATE-TIME has milliseconds and a zone"
    PROGRAM_DATE_TIME_STEPS "program-date-time-steps" Must "RFC 8216 4.3.2.6" "within a continuity run the date follows the durations"
    PROGRAM_DATE_TIME_DRIFTS "program-date-time-drifts" Should "RFC 8216 4.3.2.6" "over a continuity run the dates do not run away from the sum of the durations"
    PROGRAM_DATE_TIME_EDITED "program-date-time-edited" Must "RFC 8216 6.2.1" "a segment's date never changes"
    PROGRAM_DATE_TIME_MISSING_AT_DISCONTINUITY "program-date-time-missing-at-discontinuity" Should "RFC 8216 6.2.1" "each discontinuity has a date"
    // Multivariant playlist
    BANDWIDTH_MISSING "bandwidth-missing" Must "RFC 8216 4.3.4.2" "each variant has BANDWIDTH"
    BANDWIDTH_EXCEEDED "bandwidth-exceeded" Must "RFC 8216 4.3.4.2" "no segment needs more than BANDWIDTH (10 % are let pass)"
    AVERAGE_BANDWIDTH_MISSING "average-bandwidth-missing" Must "Apple 9" "each variant has AVERAGE-BANDWIDTH"
    CODECS_MISSING "codecs-missing" Must "Apple 9" "each variant has CODECS"
    CODECS_INCOMPLETE "codecs-incomplete" Must "RFC 8216 4.3.4.2" "CODECS lists every format of the variant and its renditions"
    CODECS_DISAGREE "codecs-disagree" Must "RFC 6381" "CODECS says what the init segments say"
    RESOLUTION_MISSING "resolution-missing" Must "Apple 9" "a variant with video has RESOLUTION"
    RESOLUTION_DISAGREES "resolution-disagrees" Must "RFC 8216 4.3.4.2" "RESOLUTION is that of the SPS"
    FRAME_RATE_MISSING "frame-rate-missing" Must "Apple 9" "a variant with video has FRAME-RATE"
    FRAME_RATE_EXCEEDED "frame-rate-exceeded" Should "RFC 8216 4.3.4.2" "FRAME-RATE is the highest rate of the video"
    VARIANTS_DIFFER_IN_TARGET_DURATION "variants-differ-in-target-duration" Must "RFC 8216 6.2.4" "all variants have the same target duration"
    VARIANTS_DIFFER_IN_DISCONTINUITIES "variants-differ-in-discontinuities" Must "RFC 8216 6.2.4" "matching segments have the same discontinuity number"
    VARIANTS_DIFFER_IN_TIMESTAMPS "variants-differ-in-timestamps" Must "RFC 8216 6.2.4" "matching segments have matching timestamps in their media"
    VARIANTS_NOT_ALIGNED "variants-not-aligned" Must "RFC 8216 6.2.4" "matching segments begin at the same time"
    // Media
    INIT_UNREADABLE "init-unreadable" Must "RFC 8216 3.3" "an init segment can be read"
    INIT_BRAND_TOO_OLD "init-brand-too-old" Must "RFC 8216 3.3" "the init segment's brand is iso6 or newer"
    INIT_WITHOUT_MVEX "init-without-mvex" Must "RFC 8216 3.3" "an mvex box follows the last trak"
    INIT_WITH_DURATION "init-with-duration" Must "RFC 8216 3.3" "durations in mvhd and tkhd are zero"
    INIT_WITH_SAMPLES "init-with-samples" Must "RFC 8216 3.3" "the init segment has no samples"
    AVCC_DISAGREES_WITH_SPS "avcc-disagrees-with-sps" Must "ISO/IEC 14496-15 5.3.3" "avcC repeats profile and level of the SPS"
    SEGMENT_UNREADABLE "segment-unreadable" Must "RFC 8216 3.3" "a segment can be read with its init segment"
    TFDT_MISSING "tfdt-missing" Must "RFC 8216 3.3" "each traf has a tfdt"
    ADDRESSING_NOT_RELATIVE "addressing-not-relative" Must "RFC 8216 3.3" "fragments are addressed relative to themselves"
    TFDT_GAP "tfdt-gap" Must "RFC 8216 6.2.1" "without a discontinuity each fragment starts where the one before ended"
    TRACKS_CHANGE "tracks-change-without-discontinuity" Must "RFC 8216 4.3.2.3" "tracks and formats change at a discontinuity only"
    EXTINF_DISAGREES "extinf-disagrees" Must "RFC 8216 4.3.2.1" "EXTINF is the media's duration within one frame"
    EXTINF_SUM_DRIFTS "extinf-sum-drifts" Must "Apple 8.1" "summed EXTINF stay within one frame of the media"
    FIRST_SAMPLE_NOT_SYNC "first-sample-not-sync" Must "Apple 7.4" "a video segment's first sample is flagged as a sync sample"
    FIRST_SAMPLE_NOT_IDR "first-sample-not-idr" Must "Apple 7.4" "a video segment's first picture is an IDR picture"
    // Low latency
    PART_INF_MISSING "part-inf-missing" Must "rfc8216bis 4.4.3.7" "a playlist with parts has EXT-X-PART-INF"
    PART_HOLD_BACK_MISSING "part-hold-back-missing" Must "rfc8216bis 4.4.3.8" "a playlist with parts has PART-HOLD-BACK"
    PART_HOLD_BACK_SHORT "part-hold-back-short" Must "rfc8216bis 4.4.3.8" "PART-HOLD-BACK is at least twice PART-TARGET"
    PART_HOLD_BACK_BELOW_THREE "part-hold-back-below-three" Should "rfc8216bis 4.4.3.8" "PART-HOLD-BACK is at least three times PART-TARGET"
    HOLD_BACK_SHORT "hold-back-short" Must "rfc8216bis 4.4.3.8" "HOLD-BACK is at least three target durations"
    CAN_SKIP_UNTIL_SHORT "can-skip-until-short" Must "rfc8216bis 4.4.3.8" "CAN-SKIP-UNTIL is at least six target durations"
    BLOCK_RELOAD_NOT_OFFERED "block-reload-not-offered" Must "rfc8216bis B.1" "a playlist with parts offers CAN-BLOCK-RELOAD"
    PART_EXCEEDS_TARGET "part-exceeds-target" Must "rfc8216bis 4.4.4.9" "no part is longer than PART-TARGET"
    PART_TOO_SHORT "part-too-short" Must "rfc8216bis 4.4.4.9" "a part is at least 85 % of PART-TARGET, except some"
    PARTS_DO_NOT_SUM "parts-do-not-sum" Must "rfc8216bis 4.4.4.9" "the parts of a segment last as long as it"
    PART_MEDIA_DIFFERS "part-media-differs" Must "rfc8216bis 3.2" "the parts of a segment have its samples, with the same timing"
    PART_UNAVAILABLE "part-unavailable" Must "rfc8216bis 6.2.1" "a listed part can be had at once"
    PART_NOT_INDEPENDENT "part-not-independent" Must "rfc8216bis 4.4.4.9" "a part with INDEPENDENT=YES has an independent frame"
    INDEPENDENT_MISSING "independent-missing" Should "rfc8216bis 4.4.4.9" "a part that begins with a sync sample says INDEPENDENT=YES"
    PART_LATE "part-late" Must "rfc8216bis 6.2.1" "a new part comes within PART-TARGET"
    PARTS_TOO_OLD "parts-too-old" Should "rfc8216bis 6.2.2" "parts leave once they are three target durations from the end"
    HINT_UNAVAILABLE "preload-hint-unavailable" Must "rfc8216bis 4.4.5.3" "a hinted part can be asked for"
    HINT_NOT_KEPT "preload-hint-not-kept" Should "rfc8216bis 4.4.5.3" "the hinted part is the next part"
    HINT_AFTER_ENDLIST "preload-hint-after-endlist" Must "rfc8216bis 4.4.5.3" "an ended playlist hints at nothing"
    RENDITION_REPORT_MISSING "rendition-report-missing" Must "rfc8216bis B.1" "each other rendition has a report"
    RENDITION_REPORT_BEHIND "rendition-report-behind" Must "rfc8216bis 4.4.5.4" "a rendition report is not behind the rendition"
    DELTA_REFUSED "delta-refused" Must "rfc8216bis 6.2.5.1" "with CAN-SKIP-UNTIL, _HLS_skip=YES gives a delta update"
    DELTA_DIFFERS "delta-differs" Must "rfc8216bis 6.2.5.1" "a delta update and what it skips are the full playlist"
    DELTA_SKIPS_TOO_MUCH "delta-skips-too-much" Must "rfc8216bis 4.4.5.2" "nothing within CAN-SKIP-UNTIL of the end is skipped"
    BLOCKING_RELOAD_UNMET "blocking-reload-unmet" Must "rfc8216bis 6.2.5.2" "a blocking reload answers with the segment or part asked for"
    BLOCKED_TOO_LONG "blocked-too-long" Should "rfc8216bis 6.2.5.2" "no request is blocked for more than three target durations"
    PART_WITHOUT_MSN_ACCEPTED "part-without-msn-accepted" Must "rfc8216bis 6.2.5.2" "_HLS_part without _HLS_msn is a bad request"
    FAR_MSN_ACCEPTED "far-msn-accepted" Should "rfc8216bis 6.2.5.2" "_HLS_msn more than two beyond the last is a bad request"
}
