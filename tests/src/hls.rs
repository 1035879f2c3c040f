//! A viewer's view of a playlist, read with `m3u8-rs`, and what ffprobe says of the segments it names.

use m3u8_rs::MediaPlaylist;

use crate::{Podium, http, judge};

/// Seconds of one picture at 30 a second.
pub const FRAME: f64 = 1.0 / 30.0;
/// Seconds of one AAC frame at 48 kHz.
pub const AAC_FRAME: f64 = 1024.0 / 48_000.0;

/// Parses a media playlist.
pub fn media_playlist(bytes: &[u8]) -> MediaPlaylist {
    let (_, playlist) = m3u8_rs::parse_media_playlist(bytes).expect("a media playlist");
    playlist
}

/// The playlist of one rendition as it is now.
pub fn live(podium: &Podium, rendition: &str) -> MediaPlaylist {
    media_playlist(&podium.live(&format!("{rendition}.m3u8")).body)
}

/// Number of the oldest segment in the live playlist.
pub fn oldest(podium: &Podium) -> u64 {
    live(podium, "video").media_sequence
}

/// Where a segment is in its broadcast's directory.
pub fn segment_path(rendition: &str, number: u64) -> String {
    format!("{rendition}/{:04}/{number}.m4s", number / 256)
}

/// The sum of what its segments are told to be.
pub fn seconds(playlist: &MediaPlaylist) -> f64 {
    let segments = playlist.segments.iter();
    segments.map(|it| f64::from(it.duration)).sum()
}

/// The longest a picture stands when the input, or a busy machine, does not deliver: until slate takes over, and a little.
pub const HOLE: f64 = 1.0;

/// Fetches every segment of `playlist` (whose address is `url`) and lets ffprobe look at each: it starts with a keyframe, its
/// timestamps rise, and the next segment starts where the playlist says that this one ends, within a millisecond, unless the
/// playlist marks a discontinuity. The last one, which has no next, ends within `frame` seconds after its last packet, or a
/// hole later if that is how its pictures came.
///
/// # Panics
/// With the segment's address, where one of these does not hold.
pub fn check_segments(url: &str, playlist: &MediaPlaylist, frame: f64) {
    let base = &url[..=url.rfind('/').expect("a path")];
    let mut map = None;
    let mut init = Vec::new();
    let mut expected: Option<f64> = None;
    for segment in &playlist.segments {
        if let Some(named) = &segment.map
            && map.as_ref() != Some(&named.uri)
        {
            init = fetch(&format!("{base}{}", named.uri));
            map = Some(named.uri.clone());
        }
        if segment.discontinuity {
            expected = None;
        }
        let at = format!("{base}{}", segment.uri);
        let bytes = fetch(&at);
        let (packets, complaints) = judge::packets(&init, &bytes);
        assert_eq!(complaints, "", "{at}");
        assert!(packets[0].keyframe, "{at} does not start with a keyframe");
        let first = packets[0].pts;
        if let Some(expected) = expected {
            assert!(
                (first - expected).abs() < 0.001,
                "{at} starts at {first}, and the segment before ends at {expected}"
            );
        }
        for pair in packets.windows(2) {
            assert!(pair[1].pts > pair[0].pts, "{at}: timestamps go back");
        }
        let told = f64::from(segment.duration);
        // ffprobe's packet durations ignore irregular frames: the last frame's length is what is left.
        let rest = first + told - packets[packets.len() - 1].pts;
        assert!(
            rest > 0.0 && rest < HOLE + frame,
            "{at}: told to be {told} s, which is {rest} s after its last packet's start"
        );
        expected = Some(first + told);
    }
}

fn fetch(url: &str) -> Vec<u8> {
    let answer = http::get(url);
    assert_eq!(answer.status, 200, "{url}");
    answer.body
}
