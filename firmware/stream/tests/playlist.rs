//! Playlists as text, and read back by a parser that is not ours.

use std::time::{Duration, UNIX_EPOCH};

use expect_test::{Expect, expect};
use m3u8_rs::{MediaPlaylistType, parse_master_playlist_res, parse_media_playlist_res};
use proptest::prelude::*;
use stream::media::MediaDuration;
use stream::playlist::{
    DISCONTINUITIES, MediaPlaylist, MultivariantPlaylist, Picture, PlaylistSegment, PlaylistType,
    Variant,
};

/// 22 November 2026, 16:30:00 UTC.
const WALL_MS: u64 = 1_795_365_000_000;

/// A segment of 29.97 frames a second in its place of a run.
fn segment(number: u64, run: u64) -> PlaylistSegment {
    PlaylistSegment {
        uri: format!("0000/{number}.m4s"),
        duration: MediaDuration {
            ticks: 180_180,
            timescale: 90_000,
        },
        discontinuity: false,
        map: format!("init-{run}.mp4"),
        program_date_time: Some(UNIX_EPOCH + Duration::from_millis(WALL_MS + number * 2002)),
    }
}

fn live() -> MediaPlaylist {
    MediaPlaylist {
        playlist_type: PlaylistType::Sliding,
        target_duration: 2,
        media_sequence: 41,
        discontinuity_sequence: 3,
        segments: vec![segment(41, 3), segment(42, 3)],
        ended: false,
    }
}

/// The text is as expected, and the other parser reads the same in it.
fn check(playlist: &MediaPlaylist, expected: Expect) {
    let text = playlist.to_string();
    expected.assert_eq(&text);
    check_round_trip(playlist);
}

fn check_round_trip(playlist: &MediaPlaylist) {
    let text = playlist.to_string();
    let read = parse_media_playlist_res(text.as_bytes()).unwrap();
    assert_eq!(read.version, Some(6));
    assert_eq!(read.target_duration, playlist.target_duration);
    assert_eq!(read.media_sequence, playlist.media_sequence);
    assert_eq!(
        read.discontinuity_sequence,
        playlist.discontinuity_sequence % DISCONTINUITIES
    );
    assert_eq!(read.end_list, playlist.ended);
    let vod = playlist.playlist_type == PlaylistType::Vod;
    assert_eq!(read.playlist_type, vod.then_some(MediaPlaylistType::Vod));
    assert!(read.unknown_tags.is_empty(), "{:?}", read.unknown_tags);
    assert_eq!(read.segments.len(), playlist.segments.len());
    let mut map = None;
    for (read, told) in read.segments.iter().zip(&playlist.segments) {
        assert_eq!(read.uri, told.uri);
        assert!((f64::from(read.duration) - told.duration.seconds()).abs() < 0.000_01);
        assert_eq!(read.discontinuity, told.discontinuity);
        // The tag holds until the next one.
        map = read.map.as_ref().map(|map| map.uri.clone()).or(map);
        assert_eq!(map.as_ref(), Some(&told.map));
        let read_ms = (read.program_date_time).map(|time| time.timestamp_millis() as u64);
        let told_ms = (told.program_date_time)
            .map(|time| time.duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
        assert_eq!(read_ms, told_ms);
    }
}

#[test]
fn a_live_playlist_slides() {
    check(
        &live(),
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-MAP:URI="init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.082Z
        #EXTINF:2.002000,
        0000/41.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:24.084Z
        #EXTINF:2.002000,
        0000/42.m4s
    "##]],
    );
}

#[test]
fn a_new_run_has_a_discontinuity_and_an_init_segment_of_its_own() {
    let mut playlist = live();
    playlist.segments.push(PlaylistSegment {
        discontinuity: true,
        ..segment(43, 4)
    });
    playlist.segments.push(segment(44, 4));
    check(
        &playlist,
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-MAP:URI="init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.082Z
        #EXTINF:2.002000,
        0000/41.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:24.084Z
        #EXTINF:2.002000,
        0000/42.m4s
        #EXT-X-DISCONTINUITY
        #EXT-X-MAP:URI="init-4.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:26.086Z
        #EXTINF:2.002000,
        0000/43.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:28.088Z
        #EXTINF:2.002000,
        0000/44.m4s
    "##]],
    );
}

#[test]
fn without_a_clock_there_is_no_date() {
    let mut playlist = live();
    for segment in &mut playlist.segments {
        segment.program_date_time = None;
    }
    check(
        &playlist,
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-MAP:URI="init-3.mp4"
        #EXTINF:2.002000,
        0000/41.m4s
        #EXTINF:2.002000,
        0000/42.m4s
    "##]],
    );
}

#[test]
fn an_ended_broadcast_says_so() {
    let playlist = MediaPlaylist {
        ended: true,
        ..live()
    };
    check(
        &playlist,
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-MAP:URI="init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.082Z
        #EXTINF:2.002000,
        0000/41.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:24.084Z
        #EXTINF:2.002000,
        0000/42.m4s
        #EXT-X-ENDLIST
    "##]],
    );
}

#[test]
fn a_broadcast_on_demand_is_whole() {
    let playlist = MediaPlaylist {
        playlist_type: PlaylistType::Vod,
        ended: true,
        ..live()
    };
    check(
        &playlist,
        expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-PLAYLIST-TYPE:VOD
        #EXT-X-MAP:URI="init-3.mp4"
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:22.082Z
        #EXTINF:2.002000,
        0000/41.m4s
        #EXT-X-PROGRAM-DATE-TIME:2026-11-22T16:31:24.084Z
        #EXTINF:2.002000,
        0000/42.m4s
        #EXT-X-ENDLIST
    "##]],
    );
}

#[test]
fn a_broadcast_of_nothing_is_still_a_playlist() {
    let playlist = MediaPlaylist {
        segments: vec![],
        ended: true,
        ..live()
    };
    check(
        &playlist,
        expect![[r#"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-TARGETDURATION:2
        #EXT-X-MEDIA-SEQUENCE:41
        #EXT-X-DISCONTINUITY-SEQUENCE:3
        #EXT-X-ENDLIST
    "#]],
    );
}

#[test]
fn each_video_and_the_sound_alone_are_variants() {
    let variant = |name: &str, codec: &str, bandwidth, resolution: Option<(u16, u16)>| Variant {
        uri: format!("{name}.m3u8"),
        codec: codec.into(),
        bandwidth,
        average_bandwidth: bandwidth / 2,
        picture: resolution.map(|resolution| Picture {
            resolution,
            frame_rate: 30_000.0 / 1001.0,
        }),
    };
    let playlist = MultivariantPlaylist {
        videos: vec![
            variant("video", "avc1.64001F", 3_750_000, Some((1280, 720))),
            variant("low", "avc1.64000D", 500_000, Some((320, 180))),
        ],
        audio: variant("audio", "mp4a.40.2", 140_800, None),
    };
    let text = playlist.to_string();
    expect![[r##"
        #EXTM3U
        #EXT-X-VERSION:6
        #EXT-X-INDEPENDENT-SEGMENTS
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Programme",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio.m3u8"
        #EXT-X-STREAM-INF:BANDWIDTH=3890800,AVERAGE-BANDWIDTH=1945400,CODECS="avc1.64001F,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO="audio"
        video.m3u8
        #EXT-X-STREAM-INF:BANDWIDTH=640800,AVERAGE-BANDWIDTH=320400,CODECS="avc1.64000D,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=29.970,AUDIO="audio"
        low.m3u8
        #EXT-X-STREAM-INF:BANDWIDTH=140800,AVERAGE-BANDWIDTH=70400,CODECS="mp4a.40.2",AUDIO="audio"
        audio.m3u8
    "##]].assert_eq(&text);

    let read = parse_master_playlist_res(text.as_bytes()).unwrap();
    assert_eq!(read.version, Some(6));
    assert!(read.independent_segments);
    assert!(read.unknown_tags.is_empty());
    let [video, low, audio] = &read.variants[..] else {
        panic!("three variants");
    };
    assert_eq!((&low.uri[..], low.bandwidth), ("low.m3u8", 640_800));
    assert_eq!(video.uri, "video.m3u8");
    assert_eq!(video.bandwidth, 3_890_800);
    assert_eq!(video.average_bandwidth, Some(1_945_400));
    assert_eq!(video.codecs.as_deref(), Some("avc1.64001F,mp4a.40.2"));
    let resolution = video.resolution.unwrap();
    assert_eq!((resolution.width, resolution.height), (1280, 720));
    assert_eq!(video.frame_rate, Some(29.97));
    assert_eq!(audio.uri, "audio.m3u8");
    assert_eq!(audio.bandwidth, 140_800);
    assert_eq!(audio.codecs.as_deref(), Some("mp4a.40.2"));
    let [sound] = &read.alternatives[..] else {
        panic!("one group");
    };
    assert_eq!(sound.uri.as_deref(), Some("audio.m3u8"));
    for variant in [video, low, audio] {
        assert_eq!(variant.audio.as_ref(), Some(&sound.group_id));
    }
}

fn any_playlist() -> impl Strategy<Value = MediaPlaylist> {
    let segment = (
        1u64..1_000_000,
        any::<bool>(),
        0u64..3,
        any::<Option<u32>>(),
    );
    (
        any::<bool>(),
        1u64..20,
        any::<u32>(),
        any::<u32>(),
        prop::collection::vec(segment, 1..20),
        any::<bool>(),
    )
        .prop_map(|(vod, target_duration, sequence, runs, segments, ended)| {
            let playlist_type = if vod {
                PlaylistType::Vod
            } else {
                PlaylistType::Sliding
            };
            MediaPlaylist {
                playlist_type,
                target_duration,
                media_sequence: sequence.into(),
                discontinuity_sequence: runs.into(),
                segments: (segments.into_iter().zip(u64::from(sequence)..))
                    .map(
                        |((ticks, discontinuity, run, second), number)| PlaylistSegment {
                            uri: format!("{:04}/{number}.m4s", number / 256),
                            duration: MediaDuration {
                                ticks,
                                timescale: 90_000,
                            },
                            discontinuity,
                            map: format!("init-{run}.mp4"),
                            program_date_time: second.map(|second| {
                                UNIX_EPOCH + Duration::from_millis(u64::from(second) * 999)
                            }),
                        },
                    )
                    .collect(),
                ended,
            }
        })
}

proptest! {
    #[test]
    fn any_playlist_is_read_back_as_it_was(playlist in any_playlist()) {
        check_round_trip(&playlist);
    }
}
