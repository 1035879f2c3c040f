//! A viewer's view of a playlist, read with `m3u8-rs`, and what ffprobe says of the segments it names.

use m3u8_rs::MediaPlaylist;

use crate::{Podium, http, judge};

/// Parses a media playlist.
pub fn media_playlist(bytes: &[u8]) -> MediaPlaylist {
    let (_, playlist) = m3u8_rs::parse_media_playlist(bytes).expect("a media playlist");
    playlist
}

/// The playlist of one rendition as it is now.
pub fn live(podium: &Podium, rendition: &str) -> MediaPlaylist {
    media_playlist(&podium.live(&format!("{rendition}.m3u8")).body)
}

/// Fetches every segment of `playlist` (whose address is `url`) and lets ffprobe look at each: it starts with a keyframe, its
/// length is what the playlist says within `frame` seconds, and its timestamps go on from the segment before, unless the
/// playlist marks a discontinuity.
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
            let step = pair[1].pts - pair[0].pts;
            assert!(
                step > 0.0 && step < 2.5 * frame,
                "{at}: {step} s between two packets"
            );
        }
        let told = f64::from(segment.duration);
        // ffprobe's packet durations ignore irregular frames: the last frame's length is what is left.
        let last = packets[packets.len() - 1].pts;
        let rest = first + told - last;
        assert!(
            rest > 0.0 && rest < 2.0 * frame,
            "{at}: told to be {told} s, and its last packet starts after {} s",
            last - first
        );
        expected = Some(first + told);
    }
}

fn fetch(url: &str) -> Vec<u8> {
    let answer = http::get(url);
    assert_eq!(answer.status, 200, "{url}");
    answer.body
}
