//! What podium writes is read and passed on with other addresses; whatever else there is in a playlist is refused.

use proptest::prelude::*;
use stream::media::Rendition;
use stream::mirrored::{GoesBack, Mirrored, ReadError, read_index};
use stream::playlist::DISCONTINUITIES;

const LIVE: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:255
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI=\"init-3.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T09:00:00.000Z
#EXTINF:2.000000,
0000/255.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"init/0000/init-4.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T09:00:02.500Z
#EXTINF:1.966667,
0001/256.m4s
";

const ORIGIN: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:255
#EXT-X-DISCONTINUITY-SEQUENCE:3
#EXT-X-MAP:URI=\"video/init-3.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T09:00:00.000Z
#EXTINF:2.000000,
video/255.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"video/init-4.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T09:00:02.500Z
#EXTINF:1.966667,
video/256.m4s
";

const INDEX: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Programme\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio/live.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=3,AVERAGE-BANDWIDTH=2,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO=\"audio\"
video/live.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=1,AVERAGE-BANDWIDTH=1,CODECS=\"mp4a.40.2\",AUDIO=\"audio\"
audio/live.m3u8
";

fn read(text: &str) -> Result<Mirrored, ReadError> {
    Mirrored::read(Rendition::Video, text)
}

#[test]
fn what_podium_writes_is_passed_on() {
    let found = read(LIVE).unwrap();
    assert_eq!(found.text, ORIGIN);
    assert_eq!((found.media_sequence, found.last), (255, Some(256)));
    assert_eq!((found.ended, found.target_duration), (false, 2));
    assert_eq!(found.last_date.as_deref(), Some("2026-11-29T09:00:02.500Z"));
    let files = [
        "video/init-3.mp4",
        "video/0000/255.m4s",
        "video/init/0000/init-4.mp4",
        "video/0001/256.m4s",
    ];
    assert_eq!(found.files, files);
    assert!(read(&format!("{LIVE}#EXT-X-ENDLIST\n")).unwrap().ended);

    let (index, renditions) = read_index(INDEX).unwrap();
    assert_eq!(renditions, [Rendition::Video, Rendition::Audio]);
    let expected = INDEX.replace("/live.m3u8", ".m3u8");
    assert_eq!(index, expected);
}

#[test]
fn whatever_leads_elsewhere_is_refused() {
    for (from, to) in [
        ("0000/255.m4s", "https://example.org/255.m4s"),
        ("0000/255.m4s", "0000/254.m4s"),
        ("0000/255.m4s", "0001/255.m4s"),
        ("0000/255.m4s", "../0000/255.m4s"),
        ("init-3.mp4", "https://example.org/init-3.mp4"),
        ("init-3.mp4", "init-03.mp4"),
        ("init/0000/", "init/0001/"),
        ("init/0000/", "init/0/"),
        ("init/0000/", "../video/"),
        ("init-3.mp4\"", "init-3.mp4\",BYTERANGE=\"1@1\""),
        ("#EXTINF:2.000000,", "#EXTINF:nan,"),
        ("#EXTINF:2.000000,\n", ""),
        ("#EXT-X-VERSION:6", "#EXT-X-KEY:METHOD=NONE"),
        ("#EXT-X-VERSION:6", "#EXT-X-ENDLIST"),
        ("#EXTM3U\n", ""),
        ("#EXT-X-TARGETDURATION:2\n", ""),
        ("#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:0"),
        ("#EXT-X-TARGETDURATION:2", "#EXT-X-TARGETDURATION:11"),
        (
            "#EXT-X-TARGETDURATION:2",
            "#EXT-X-TARGETDURATION:18446744073709551615",
        ),
        // What is said of the whole playlist would hold for what came before.
        (
            "#EXT-X-DISCONTINUITY\n",
            "#EXT-X-DISCONTINUITY\n#EXT-X-MEDIA-SEQUENCE:256\n",
        ),
        ("1/256.m4s\n", "1/256.m4s\n#EXT-X-MEDIA-SEQUENCE:500\n"),
        (
            "1/256.m4s\n",
            "1/256.m4s\n#EXT-X-DISCONTINUITY-SEQUENCE:9\n",
        ),
        ("1/256.m4s\n", "1/256.m4s\n#EXT-X-TARGETDURATION:9\n"),
        (
            "#EXT-X-MEDIA-SEQUENCE:255\n",
            "#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-MEDIA-SEQUENCE:255\n",
        ),
        ("2026-11-29T09:00:00.000Z", "soon"),
        (":255", ":18446744073709551615"),
    ] {
        assert!(LIVE.contains(from));
        let text = LIVE.replacen(from, to, 1);
        assert!(read(&text).is_err(), "{text}");
    }
    for (from, to) in [
        ("video/live.m3u8", "https://example.org/live.m3u8"),
        ("\"audio/live.m3u8\"", "\"//example.org/audio/live.m3u8\""),
        (",CHANNELS=\"2\"", ",URI=\"x\""),
        (
            "#EXT-X-VERSION:6",
            "#EXT-X-SESSION-DATA:DATA-ID=\"x\",URI=\"x\"",
        ),
        ("#EXTM3U\n", ""),
    ] {
        assert!(INDEX.contains(from));
        let text = INDEX.replacen(from, to, 1);
        assert!(read_index(&text).is_err(), "{text}");
    }
}

#[test]
fn nothing_goes_back() {
    let before = read(LIVE).unwrap();
    assert_eq!(before.follows(&before), Ok(()));
    let mut first = before.clone();
    first.media_sequence = 254;
    let back = GoesBack::First {
        before: 255,
        now: 254,
    };
    assert_eq!(first.follows(&before), Err(back));
    let mut last = before.clone();
    last.last = Some(255);
    let back = GoesBack::Last {
        before: 256,
        now: Some(255),
    };
    assert_eq!(last.follows(&before), Err(back));
    let mut run = before.clone();
    run.discontinuity_sequence = 2;
    assert!(run.follows(&before).is_err());
    // After the greatest number it begins anew, and that is no step back.
    let with = |discontinuity_sequence| Mirrored {
        discontinuity_sequence,
        ..before.clone()
    };
    assert_eq!(with(1).follows(&with(DISCONTINUITIES - 1)), Ok(()));
    assert!(with(DISCONTINUITIES - 1).follows(&with(1)).is_ok());
    assert!(with(1).follows(&with(3)).is_err());
    let mut ended = before.clone();
    ended.ended = true;
    assert_eq!(ended.follows(&before), Ok(()));
    assert_eq!(before.follows(&ended), Err(GoesBack::Revived));
}

proptest! {
    #[test]
    fn what_is_let_through_names_only_what_lies_here(
        at in 0..LIVE.len(),
        with in "(https://|[\\x20-\\x7e]{0,6}|#EXT-X-[A-Z]{1,8}:|\n)",
        index in any::<bool>(),
    ) {
        let mut text = if index { INDEX } else { LIVE }.to_owned();
        let at = at.min(text.len());
        text.insert_str(at, &with);
        let through = match index {
            true => read_index(&text).map(|(text, _)| text),
            false => read(&text).map(|read| read.text),
        };
        if let Ok(through) = through {
            for line in through.lines().filter(|line| !line.starts_with('#')) {
                let own = ["video", "audio", "low"].iter().any(|name| line.starts_with(name));
                prop_assert!(own && !line.contains(':'), "{}", through);
            }
            let uris = through.matches("URI=\"").count();
            let own = ["URI=\"video", "URI=\"audio", "URI=\"low"];
            let own: usize = own.iter().map(|uri| through.matches(uri).count()).sum();
            prop_assert_eq!(uris, own, "{}", through);
        }
    }

    #[test]
    fn anything_is_read_or_refused(text in "[ -~\n]{0,200}") {
        let _ = read(&text);
        let _ = read_index(&text);
    }
}
