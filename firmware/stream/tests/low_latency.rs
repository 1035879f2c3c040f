//! The origin's playlist as text, and what a blocking reload waits for.

use std::time::{Duration, UNIX_EPOCH};

use expect_test::{Expect, expect};
use stream::low_latency::{
    Directives, Edge, LowLatencyPlaylist, OpenSegment, PlaylistPart, Reload, RenditionReport,
};
use stream::media::MediaDuration;
use stream::playlist::{MediaPlaylist, PlaylistSegment, PlaylistType};

/// 22 November 2026, 16:30:00 UTC.
const WALL_MS: u64 = 1_795_365_000_000;

fn time(number: u64) -> Option<std::time::SystemTime> {
    Some(UNIX_EPOCH + Duration::from_millis(WALL_MS + number * 2000))
}

fn segment(number: u64, run: u64) -> PlaylistSegment {
    PlaylistSegment {
        uri: format!("video/{number}.m4s"),
        duration: MediaDuration {
            ticks: 180_000,
            timescale: 90_000,
        },
        discontinuity: false,
        map: format!("video/init-{run}.mp4"),
        program_date_time: time(number),
    }
}

fn part(segment: u64, index: u64) -> PlaylistPart {
    PlaylistPart {
        uri: format!("video/part-3-{segment}-{index}.m4s"),
        duration: MediaDuration {
            ticks: 90_000,
            timescale: 90_000,
        },
        independent: index == 0,
    }
}

/// `count` segments, the last with parts, and one part of the next.
fn live(count: u64) -> LowLatencyPlaylist {
    let last = 40 + count;
    LowLatencyPlaylist {
        playlist: MediaPlaylist {
            playlist_type: PlaylistType::Sliding,
            target_duration: 2,
            media_sequence: 41,
            discontinuity_sequence: 3,
            segments: (41..=last).map(|number| segment(number, 3)).collect(),
            ended: false,
        },
        part_target: Duration::from_secs(1),
        parts: vec![vec![part(last, 0), part(last, 1)]],
        open: Some(OpenSegment {
            program_date_time: time(last + 1),
            parts: vec![part(last + 1, 0)],
            complete: false,
        }),
        preload_hint: Some(part(last + 1, 1).uri),
        reports: vec![RenditionReport {
            uri: "audio.m3u8".into(),
            last_msn: last + 1,
            last_part: Some(0),
        }],
    }
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

#[test]
fn a_player_is_told_of_the_parts_and_of_what_comes_next() {
    check(
        &live(2).full(),
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=3.000
        #EXT-X-PART-INF:PART-TARGET=1.000
        #EXT-X-MAP:URI="video/init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.000Z
        #EXTINF:2.000000,
        video/41.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:24.000Z
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-42-0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-42-1.m4s"
        #EXTINF:2.000000,
        video/42.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:26.000Z
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-43-0.m4s",INDEPENDENT=YES
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI="video/part-3-43-1.m4s"
        #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=43,LAST-PART=0
    "##]],
    );
}

#[test]
fn nothing_is_announced_of_what_has_ended() {
    let mut playlist = live(1);
    playlist.playlist.ended = true;
    check(
        &playlist.full(),
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=3.000
        #EXT-X-PART-INF:PART-TARGET=1.000
        #EXT-X-MAP:URI="video/init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.000Z
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-41-0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-41-1.m4s"
        #EXTINF:2.000000,
        video/41.m4s
        #EXT-X-ENDLIST
    "##]],
    );
}

#[test]
fn a_delta_update_leaves_out_what_is_older_than_six_target_durations() {
    assert_eq!(live(6).delta(), live(6).full());
    let mut playlist = live(9);
    // The init segment in force is known; another one is told.
    playlist.playlist.segments[5].map = "video/init-4.mp4".into();
    playlist.playlist.segments[5].discontinuity = true;
    check(
        &playlist.delta(),
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:9
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=3.000
        #EXT-X-PART-INF:PART-TARGET=1.000
        #EXT-X-SKIP:SKIPPED-SEGMENTS=3
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:28.000Z
        #EXTINF:2.000000,
        video/44.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:30.000Z
        #EXTINF:2.000000,
        video/45.m4s
        #EXT-X-DISCONTINUITY
        #EXT-X-MAP:URI="video/init-4.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:32.000Z
        #EXTINF:2.000000,
        video/46.m4s
        #EXT-X-MAP:URI="video/init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:34.000Z
        #EXTINF:2.000000,
        video/47.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:36.000Z
        #EXTINF:2.000000,
        video/48.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:38.000Z
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-49-0.m4s",INDEPENDENT=YES
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-49-1.m4s"
        #EXTINF:2.000000,
        video/49.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:40.000Z
        #EXT-X-PART:DURATION=1.000000,URI="video/part-3-50-0.m4s",INDEPENDENT=YES
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI="video/part-3-50-1.m4s"
        #EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=50,LAST-PART=0
    "##]],
    );
}

#[test]
fn an_open_segment_without_a_part_is_not_mentioned() {
    let mut playlist = live(1);
    playlist.open.as_mut().unwrap().parts.clear();
    let dates = playlist.full().matches("DATE-TIME").count();
    assert_eq!(dates, 1);
}

/// Segments to 10, the last of four parts; two parts of number 11.
const EDGE: Edge = Edge {
    last: 10,
    last_parts: Some(4),
    open: 2,
    open_complete: false,
    ended: false,
    advance_parts: 6,
};

fn check_reload(edge: Edge, rows: &[(u64, Option<u32>, Reload)]) {
    for &(msn, part, expected) in rows {
        let asked = Directives {
            msn: Some(msn),
            part,
            skip: false,
        };
        assert_eq!(edge.reload(asked), expected, "{msn} {part:?} of {edge:?}");
    }
}

use Reload::{Ready, TooFar, Wait};

#[test]
fn a_reload_waits_for_the_segment_or_part_that_it_names() {
    assert_eq!(EDGE.reload(Directives::default()), Ready);
    check_reload(
        EDGE,
        &[
            (0, None, Ready),
            (10, None, Ready),
            (11, None, Wait),
            (12, None, Wait),
            (13, None, TooFar),
            (u64::MAX, None, TooFar),
            (10, Some(3), Ready),
            (11, Some(1), Ready),
            (11, Some(2), Wait),
            (11, Some(8), Wait),
            (11, Some(9), TooFar),
            (12, Some(0), Wait),
            (12, Some(6), Wait),
            (12, Some(7), TooFar),
            (13, Some(0), TooFar),
        ],
    );
}

#[test]
fn a_part_beyond_its_segment_is_the_first_of_the_next() {
    // Of the last one, whose next has parts already.
    check_reload(EDGE, &[(10, Some(4), Ready), (10, Some(99), Ready)]);
    let edge = Edge { open: 0, ..EDGE };
    check_reload(edge, &[(10, Some(3), Ready), (10, Some(4), Wait)]);
    // Of one that is complete and not stored yet.
    let edge = Edge {
        open: 4,
        open_complete: true,
        ..EDGE
    };
    check_reload(
        edge,
        &[
            (11, Some(3), Ready),
            (11, Some(4), Wait),
            (11, Some(99), Wait),
            (11, None, Wait),
        ],
    );
    // How many parts there were is not known any more.
    let edge = Edge {
        last_parts: None,
        ..EDGE
    };
    check_reload(edge, &[(10, Some(9), Ready)]);
}

#[test]
fn nothing_is_awaited_after_the_end() {
    let edge = Edge {
        ended: true,
        ..EDGE
    };
    check_reload(
        edge,
        &[(11, Some(7), Ready), (u64::MAX, Some(u32::MAX), Ready)],
    );
}

#[test]
fn numbers_do_not_overflow() {
    let edge = Edge {
        last: u64::MAX - 1,
        open: u32::MAX,
        advance_parts: u32::MAX,
        ..EDGE
    };
    check_reload(
        edge,
        &[(u64::MAX, Some(u32::MAX), Wait), (u64::MAX, None, Wait)],
    );
}

#[test]
fn the_limit_of_parts_ahead_is_three_seconds_or_three() {
    for (milliseconds, parts) in [(200, 15), (334, 9), (1000, 3), (2000, 3)] {
        let playlist = LowLatencyPlaylist {
            part_target: Duration::from_millis(milliseconds),
            ..live(1)
        };
        assert_eq!(playlist.edge().unwrap().advance_parts, parts);
    }
}

#[test]
fn a_playlist_without_segments_has_no_edge() {
    let mut playlist = live(0);
    playlist.playlist.media_sequence = 0;
    playlist.parts.clear();
    assert_eq!(playlist.edge(), None);
}

#[test]
fn directives_are_read_from_the_query() {
    type Row<'a> = (&'a [(&'a str, &'a str)], Result<Directives, &'a str>);
    let rows: &[Row<'_>] = &[
        (&[], Ok(Directives::default())),
        (&[("other", "x")], Ok(Directives::default())),
        (
            &[("_HLS_msn", "7"), ("_HLS_part", "2"), ("_HLS_skip", "YES")],
            Ok(Directives {
                msn: Some(7),
                part: Some(2),
                skip: true,
            }),
        ),
        (
            &[("_HLS_skip", "v2")],
            Ok(Directives {
                skip: true,
                ..Directives::default()
            }),
        ),
        (&[("_HLS_skip", "NO")], Ok(Directives::default())),
        (&[("_HLS_part", "0")], Err("_HLS_part needs _HLS_msn")),
        (
            &[("_HLS_msn", "-1")],
            Err("_HLS_msn must be a decimal integer"),
        ),
        (
            &[("_HLS_msn", "")],
            Err("_HLS_msn must be a decimal integer"),
        ),
        (
            &[("_HLS_msn", "1"), ("_HLS_part", "4294967296")],
            Err("_HLS_part must be a decimal integer"),
        ),
    ];
    for (pairs, expected) in rows {
        let read = Directives::from_query(pairs.iter().copied());
        let expected = expected.map_err(str::to_owned);
        assert_eq!(
            read.map_err(|error| error.to_string()),
            expected,
            "{pairs:?}"
        );
    }
}
