//! A good stream breaks no rule; each planted fault breaks the rule that it is made for, and no other.

mod origin;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use oracle::{Judge, Kind, Observation, Settings};
use origin::{HOST, Origin, date, find};

const PLAIN: Origin = Origin {
    low_latency: false,
    ladder: false,
    discontinuity: None,
    end: None,
};
const LADDER: Origin = Origin {
    ladder: true,
    ..PLAIN
};
const RUNS: Origin = Origin {
    discontinuity: Some(115),
    ..PLAIN
};
const ENDED: Origin = Origin {
    end: Some(122),
    ..PLAIN
};
const LOW: Origin = Origin {
    low_latency: true,
    ..PLAIN
};
const LOW_ENDED: Origin = Origin {
    low_latency: true,
    ..ENDED
};

/// Long enough for a segment to come, go, and be due to vanish.
const SECONDS: f64 = 30.0;

type Session = Vec<Observation>;

fn judge(session: &[Observation]) -> Vec<oracle::Violation> {
    judge_with(session, Settings::default())
}

fn judge_with(session: &[Observation], settings: Settings) -> Vec<oracle::Violation> {
    let mut judge = Judge::new(settings);
    for observation in session {
        judge.observe(observation);
    }
    judge.violations().to_vec()
}

#[test]
fn good_streams_break_no_rule() {
    for origin in [
        PLAIN,
        RUNS,
        ENDED,
        LOW,
        LOW_ENDED,
        LADDER,
        Origin {
            low_latency: true,
            ..LADDER
        },
        Origin {
            low_latency: true,
            ..RUNS
        },
    ] {
        let session = origin.session(SECONDS);
        let violations = judge(&session);
        assert!(violations.is_empty(), "{origin:?}: {violations:#?}");
        let media = session
            .iter()
            .filter(|it| matches!(it.kind, Kind::Resource(_)));
        assert!(media.count() > 20, "{origin:?}");
    }
}

/// Only the samples have to be the same (rfc8216bis section 3.2); multimux packs segments with a `styp` box and parts without.
#[test]
fn a_segment_may_be_packed_otherwise_than_its_parts() {
    let mut session = LOW.session(SECONDS);
    rewrite(&mut session, "video/117.m4s", |bytes| {
        let styp = b"\0\0\0\x14stypmsdh\0\0\0\0msdh";
        bytes.splice(0..0, *styp);
    });
    assert_eq!(judge(&session), []);
}

/// Less than a target duration late is nothing on a busy machine, and four are too many.
#[test]
fn what_is_late_is_forgiven_up_to_a_target_duration() {
    let settings = Settings {
        forgiven: 1,
        ..Settings::default()
    };
    for (late_ms, rules) in [(500, &[][..]), (4000, &["blocked-too-long", "update-late"])] {
        let mut session = LOW.session(SECONDS);
        stall(&mut session, late_ms);
        assert!(!judge(&session).is_empty(), "{late_ms} ms");
        let violations = judge_with(&session, settings);
        let found: BTreeSet<&str> = violations.iter().map(|it| it.rule).collect();
        assert_eq!(found, rules.iter().copied().collect(), "{violations:?}");
    }
}

fn text(seen: &Observation) -> String {
    String::from_utf8(seen.body.to_vec()).expect("a playlist is text")
}

fn is(seen: &Observation, name: &str) -> bool {
    let path = seen.url.split('?').next().expect("a path");
    seen.status == 200 && path == format!("{HOST}{name}")
}

/// Edits the text of the snapshots of a playlist (of all of them for `*`), from the `from`-th second on.
fn edit(session: &mut Session, name: &str, from: u64, mut change: impl FnMut(String) -> String) {
    let from = Duration::from_secs(from);
    for seen in session.iter_mut().filter(|it| it.at >= from) {
        let media = seen.kind == Kind::Media && seen.status == 200;
        if is(seen, name) || name == "*" && media {
            let before = text(seen);
            seen.body = change(before).into();
        }
    }
}

fn replace(session: &mut Session, name: &str, from: &str, to: &str) {
    let mut found = false;
    edit(session, name, 0, |text| {
        found |= text.contains(from);
        text.replace(from, to)
    });
    assert!(found, "{name} has no {from}");
}

/// Takes out the lines that begin so.
fn strip(session: &mut Session, name: &str, tag: &str) {
    edit(session, name, 0, |text| without(&text, tag));
}

fn without(text: &str, tag: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(tag));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The first observation of something that is not in the first snapshot.
fn seen<'a>(session: &'a mut Session, name: &str) -> &'a mut Observation {
    let url = format!("{HOST}{name}");
    let mut all = session.iter_mut();
    all.find(|it| it.url == url)
        .unwrap_or_else(|| panic!("{name} is asked for"))
}

fn rewrite(session: &mut Session, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let seen = seen(session, name);
    let mut body = seen.body.to_vec();
    change(&mut body);
    seen.body = body.into();
}

/// Indexes of the snapshots of the video playlist that show a segment more than the one before.
fn growth(session: &Session) -> Vec<usize> {
    let snapshots: Vec<usize> = (0..session.len())
        .filter(|i| is(&session[*i], "video.m3u8"))
        .collect();
    let count = |i: usize| {
        let text = text(&session[i]);
        let first: u64 = number(&text, "#EXT-X-MEDIA-SEQUENCE:");
        first + text.matches("#EXTINF").count() as u64
    };
    let pairs = snapshots.windows(2);
    pairs
        .filter(|it| count(it[1]) > count(it[0]))
        .map(|it| it[1])
        .collect()
}

fn number(text: &str, tag: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(tag));
    line.and_then(|it| it.parse().ok()).expect("a number")
}

/// Leaves the newest `keep` segments of each playlist from the sixth second on.
fn shorten(session: &mut Session, keep: usize) {
    edit(session, "*", 6, |text| {
        let first = number(&text, "#EXT-X-MEDIA-SEQUENCE:");
        let removed = text.matches("#EXTINF").count() - keep;
        let (head, rest) = text.split_once("#EXT-X-PROGRAM").expect("a date");
        let rest = format!("#EXT-X-PROGRAM{rest}");
        let lines = rest.lines().skip(3 * removed);
        let rest: String = lines.flat_map(|line| [line, "\n"]).collect();
        let now = first + removed as u64;
        head.replace(&format!("SEQUENCE:{first}\n"), &format!("SEQUENCE:{now}\n")) + &rest
    });
}

/// Dates of the segments, moved by so many milliseconds, in all playlists.
fn redate(session: &mut Session, name: &str, move_by: impl Fn(u64) -> u64) {
    edit(session, name, 0, |mut text| {
        for number in (100..145).rev() {
            let ms = (number - 100) * 1024;
            text = text.replace(&date(ms), &date(ms + move_by(number)));
        }
        text
    });
}

/// All that comes after the `nth` growth comes later.
fn stall(session: &mut Session, ms: u64) {
    let from = growth(session)[8];
    let delay = Duration::from_millis(ms);
    session[from].at += delay;
    for seen in &mut session[from + 1..] {
        seen.asked += delay;
        seen.at += delay;
    }
}

fn in_one_snapshot(session: &mut Session, change: impl FnOnce(String) -> String) {
    let at = growth(session)[6];
    let text = change(text(&session[at]));
    session[at].body = text.into();
}

/// Without the dates after the first, so that a wrong order does not show in them.
fn first_date_only(text: &str) -> String {
    let (head, rest) = text.split_once("#EXTINF").expect("a segment");
    head.to_owned() + "#EXTINF" + &without(rest, "#EXT-X-PROGRAM")
}

fn rename(body: &mut [u8], from: &[u8; 4], to: &[u8; 4]) {
    let mut at = 0;
    while let Some(next) = body[at..].windows(4).position(|it| it == from) {
        body[at + next..at + next + 4].copy_from_slice(to);
        at += next + 4;
    }
}

/// Answers of the hints and the deltas of the video playlist.
fn asked<'a>(session: &'a mut Session, part: &str) -> &'a mut Observation {
    let mut all = session
        .iter_mut()
        .filter(|it| it.at > Duration::from_secs(4));
    all.find(|it| it.url.contains("video") && it.url.contains(part))
        .unwrap_or_else(|| panic!("{part} is asked for"))
}

/// The answer to a video reload that has waited, and the snapshot before it.
fn waited(session: &Session) -> (usize, usize) {
    let asked = |i: &usize| is(&session[*i], "video.m3u8");
    let mut snapshots = (0..session.len()).filter(asked).skip(6);
    let mut before = snapshots.next().expect("a snapshot");
    for i in snapshots {
        let seen = &session[i];
        if seen.url.contains("_HLS_msn") && seen.at - seen.asked > Duration::from_millis(300) {
            return (before, i);
        }
        before = i;
    }
    panic!("a reload waits")
}

/// What the fault breaks; rules after the first cannot but be broken with it.
type Fault = (&'static [&'static str], Origin, fn(&mut Session));

const FAULTS: &[Fault] = &[
    // Delivery
    (&["playlist-unavailable"], PLAIN, |s| {
        seen(s, "audio.m3u8").status = 503
    }),
    (&["not-a-playlist"], PLAIN, |s| {
        in_one_snapshot(s, |_| "<html>".into())
    }),
    (&["playlist-content-type"], PLAIN, |s| {
        seen(s, "video.m3u8").content_type = Some("text/plain".into())
    }),
    (&["playlist-not-gzipped"], PLAIN, |s| {
        seen(s, "video.m3u8").content_encoding = None
    }),
    (&["playlist-has-bom"], PLAIN, |s| {
        in_one_snapshot(s, |text| format!("\u{feff}{text}"))
    }),
    (&["playlist-not-utf8"], PLAIN, |s| {
        seen(s, "audio.m3u8").body = Bytes::from_static(b"#EXTM3U\n\xff\xfe")
    }),
    (&["media-redirected"], PLAIN, |s| {
        seen(s, "video/115.m4s").status = 302
    }),
    (&["segment-unavailable"], PLAIN, |s| {
        seen(s, "video/115.m4s").status = 404
    }),
    (&["init-unavailable"], PLAIN, |s| {
        seen(s, "audio/init-5.mp4").status = 404
    }),
    (&["removed-segment-gone"], PLAIN, |s| {
        let url = format!("{HOST}video/108.m4s");
        s.iter_mut()
            .rfind(|it| it.url == url)
            .expect("it is probed")
            .status = 404;
    }),
    (&["segment-content-type"], PLAIN, |s| {
        seen(s, "video/115.m4s").content_type = Some("text/plain".into())
    }),
    // Edits
    (&["media-sequence-falls"], PLAIN, |s| {
        let growth = growth(s);
        s[growth[9]].body = s[growth[5]].body.clone();
    }),
    (&["media-sequence-miscounts"], PLAIN, |s| {
        edit(s, "video.m3u8", 9, |text| {
            let first = number(&text, "#EXT-X-MEDIA-SEQUENCE:");
            text.replace(
                &format!("-SEQUENCE:{first}\n"),
                &format!("-SEQUENCE:{}\n", first + 1),
            )
        })
    }),
    (&["segment-changed"], PLAIN, |s| {
        edit(s, "video.m3u8", 9, |text| {
            text.replace("video/116.", "video/x116.")
        })
    }),
    (&["segment-inserted"], PLAIN, |s| {
        in_one_snapshot(s, |text| {
            first_date_only(&text).replace(
                "video/115.m4s",
                "video/x.m4s\n#EXTINF:1.024000,\nvideo/115.m4s",
            )
        })
    }),
    (&["segment-removed-out-of-order"], PLAIN, |s| {
        in_one_snapshot(s, |text| {
            first_date_only(&text).replace("#EXTINF:1.024000,\nvideo/115.m4s\n", "")
        })
    }),
    (&["segment-withdrawn"], PLAIN, |s| {
        let at = growth(s)[6];
        let next = (at + 1..s.len())
            .find(|i| is(&s[*i], "video.m3u8"))
            .expect("another");
        let text = text(&s[next]);
        let (kept, _) = text.rsplit_once("#EXT-X-PROGRAM").expect("a segment");
        s[next].body = kept.to_owned().into();
    }),
    (&["discontinuity-sequence-missing"], RUNS, |s| {
        strip(s, "*", "#EXT-X-DISCONTINUITY-SEQUENCE")
    }),
    (
        &[
            "discontinuity-sequence-wrong",
            "variants-differ-in-discontinuities",
        ],
        RUNS,
        |s| replace(s, "*", "-SEQUENCE:6\n", "-SEQUENCE:5\n"),
    ),
    (&["playlist-type-on-sliding"], PLAIN, |s| {
        replace(
            s,
            "*",
            "#EXT-X-VERSION:6\n",
            "#EXT-X-VERSION:6\n#EXT-X-PLAYLIST-TYPE:EVENT\n",
        )
    }),
    (&["playlist-type-changes"], ENDED, |s| {
        replace(
            s,
            "video.m3u8",
            "#EXT-X-ENDLIST\n",
            "#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-ENDLIST\n",
        )
    }),
    (&["changed-after-endlist"], ENDED, |s| {
        let mut last = s
            .iter()
            .rfind(|it| is(it, "video.m3u8"))
            .expect("a snapshot")
            .clone();
        last.body = text(&last).replace("#EXT-X-ENDLIST\n", "").into();
        last.asked += Duration::from_millis(300);
        last.at += Duration::from_millis(300);
        s.push(last);
    }),
    (&["removal-leaves-too-little"], PLAIN, |s| shorten(s, 2)),
    (&["too-few-segments"], PLAIN, |s| shorten(s, 5)),
    (&["update-late"], PLAIN, |s| {
        let growth = growth(s);
        for i in growth[4]..growth[6] {
            if is(&s[i], "video.m3u8") {
                s[i].body = s[growth[4]].body.clone();
            }
        }
    }),
    (&["update-early"], PLAIN, |s| {
        let growth = growth(s);
        let until = s[growth[5]].at + Duration::from_millis(650);
        for i in growth[5]..growth[6] {
            if is(&s[i], "video.m3u8") && s[i].at < until {
                s[i].body = s[growth[4]].body.clone();
            }
        }
    }),
    // Media playlists
    (&["target-duration-missing"], PLAIN, |s| {
        strip(s, "*", "#EXT-X-TARGETDURATION")
    }),
    (&["target-duration-not-integer"], PLAIN, |s| {
        replace(s, "*", "DURATION:1\n", "DURATION:1.5\n")
    }),
    (
        &[
            "target-duration-changes",
            "variants-differ-in-target-duration",
        ],
        PLAIN,
        |s| {
            edit(s, "*", 9, |text| {
                text.replace("DURATION:1\n", "DURATION:2\n")
            })
        },
    ),
    (
        &[
            "segment-exceeds-target-duration",
            "extinf-disagrees",
            "program-date-time-steps",
        ],
        PLAIN,
        |s| {
            replace(
                s,
                "*",
                "#EXTINF:1.024000,\nvideo/117.",
                "#EXTINF:1.600000,\nvideo/117.",
            );
        },
    ),
    (&["version-too-low"], PLAIN, |s| {
        replace(s, "audio.m3u8", "VERSION:6", "VERSION:3")
    }),
    (&["map-missing"], PLAIN, |s| {
        strip(s, "video.m3u8", "#EXT-X-MAP")
    }),
    (&["program-date-time-missing"], PLAIN, |s| {
        strip(s, "audio.m3u8", "#EXT-X-PROGRAM")
    }),
    (&["program-date-time-imprecise"], PLAIN, |s| {
        replace(s, "*", "Z\n", "\n")
    }),
    (&["program-date-time-steps"], PLAIN, |s| {
        redate(s, "*", |n| if n < 118 { 0 } else { 500 })
    }),
    (&["program-date-time-drifts"], PLAIN, |s| {
        redate(s, "*", |n| (n - 100) * 20)
    }),
    (&["program-date-time-edited"], PLAIN, |s| {
        edit(s, "video.m3u8", 9, |text| {
            text.replace(&date(16 * 1024), &date(16 * 1024 + 20))
        })
    }),
    (&["program-date-time-missing-at-discontinuity"], RUNS, |s| {
        replace(s, "video.m3u8", &date(15 * 1024), "")
    }),
    // Multivariant playlist
    (&["bandwidth-missing"], PLAIN, |s| {
        replace(s, "index.m3u8", ":BANDWIDTH=30000,", ":")
    }),
    (&["bandwidth-exceeded"], PLAIN, |s| {
        replace(s, "index.m3u8", ":BANDWIDTH=60000,", ":BANDWIDTH=20000,")
    }),
    (&["average-bandwidth-missing"], PLAIN, |s| {
        replace(s, "index.m3u8", "AVERAGE-BANDWIDTH=40000,", "")
    }),
    (&["codecs-missing"], PLAIN, |s| {
        replace(s, "index.m3u8", "CODECS=\"mp4a.40.2\",", "")
    }),
    (&["codecs-incomplete"], PLAIN, |s| {
        replace(s, "index.m3u8", ",mp4a.40.2", "")
    }),
    (&["codecs-disagree"], PLAIN, |s| {
        replace(s, "index.m3u8", "avc1.4D400A", "avc1.64001F")
    }),
    (&["resolution-missing"], PLAIN, |s| {
        replace(s, "index.m3u8", "RESOLUTION=160x90,", "")
    }),
    (&["resolution-disagrees"], PLAIN, |s| {
        replace(s, "index.m3u8", "160x90", "160x96")
    }),
    (&["frame-rate-missing"], PLAIN, |s| {
        replace(s, "index.m3u8", "FRAME-RATE=23.438,", "")
    }),
    (&["frame-rate-exceeded"], PLAIN, |s| {
        replace(s, "index.m3u8", "23.438", "20.000")
    }),
    (&["variants-differ-in-target-duration"], PLAIN, |s| {
        replace(s, "audio.m3u8", "DURATION:1\n", "DURATION:2\n")
    }),
    (&["variants-differ-in-discontinuities"], PLAIN, |s| {
        replace(s, "audio.m3u8", "SEQUENCE:5\n", "SEQUENCE:6\n")
    }),
    (&["variants-not-aligned"], PLAIN, |s| {
        redate(s, "audio.m3u8", |_| 300)
    }),
    (&["variants-not-aligned"], LADDER, |s| {
        redate(s, "small.m3u8", |_| 200)
    }),
    (&["variants-differ-in-timestamps"], LADDER, |s| {
        // All of it 42 ms late: a picture. Each playlist for itself is right.
        for seen in (s.iter_mut()).filter(|it| it.url.starts_with(&format!("{HOST}small/1"))) {
            let mut body = seen.body.to_vec();
            let boxes: Vec<_> = (0..body.len() - 4)
                .filter(|i| &body[*i..i + 4] == b"tfdt")
                .collect();
            for at in boxes {
                let time = &mut body[at + 8..at + 16];
                let late = u64::from_be_bytes(time.try_into().unwrap()) + 2048;
                time.copy_from_slice(&late.to_be_bytes());
            }
            seen.body = body.into();
        }
    }),
    (&["variants-differ-in-target-duration"], LADDER, |s| {
        replace(s, "small.m3u8", "DURATION:1\n", "DURATION:2\n")
    }),
    (&["bandwidth-exceeded"], LADDER, |s| {
        let told = "60000,AVERAGE-BANDWIDTH=40000,CODECS=\"avc1.4D400A,mp4a.40.2\",RESOLUTION=160x90,FRAME-RATE=23.438,AUDIO=\"a\"\nsmall";
        replace(s, "index.m3u8", told, &told.replace("60000", "20000"))
    }),
    // Media
    (&["init-unreadable"], PLAIN, |s| {
        rewrite(s, "audio/init-5.mp4", |b| rename(b, b"moov", b"free"))
    }),
    (&["init-brand-too-old"], PLAIN, |s| {
        rewrite(s, "video/init-5.mp4", |b| {
            for brand in [b"iso6", b"cmfc", b"iso8", b"iso9"] {
                rename(b, brand, b"iso4");
            }
        })
    }),
    (&["init-without-mvex"], PLAIN, |s| {
        rewrite(s, "video/init-5.mp4", |b| rename(b, b"mvex", b"free"))
    }),
    (&["init-with-duration"], PLAIN, |s| {
        rewrite(s, "video/init-5.mp4", |b| {
            let at = find(b, b"mvhd");
            b[at + 4 + 16 + 3] = 9;
        })
    }),
    (
        &["avcc-disagrees-with-sps", "codecs-disagree"],
        PLAIN,
        |s| {
            rewrite(s, "video/init-5.mp4", |b| {
                let at = find(b, b"avcC");
                b[at + 7] = 40;
            })
        },
    ),
    (&["segment-unreadable"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let at = find(b, b"tfhd");
            b[at + 11] = 9;
        })
    }),
    (&["tfdt-missing"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| rename(b, b"tfdt", b"free"))
    }),
    (&["addressing-not-relative"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let mut at = 0;
            while let Some(next) = b[at..].windows(4).position(|it| it == b"tfhd") {
                at += next + 8;
                b[at - 1] |= 1;
            }
        })
    }),
    (&["tfdt-gap"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let mut at = 0;
            while let Some(next) = b[at..].windows(4).position(|it| it == b"tfdt") {
                at += next + 16;
                b[at - 2] = b[at - 2].wrapping_add(2);
            }
        })
    }),
    (&["tracks-change-without-discontinuity"], PLAIN, |s| {
        let sound = seen(s, "audio/init-5.mp4").body.clone();
        let other = seen(s, "audio/119.m4s").body.clone();
        replace(
            s,
            "video.m3u8",
            "#EXT-X-MEDIA-SEQUENCE",
            "#EXT-X-X\n#EXT-X-MEDIA-SEQUENCE",
        );
        edit(s, "video.m3u8", 0, |text| {
            text.replace(
                &format!("{}#EXTINF:1.024000,\nvideo/119.", date(19 * 1024)),
                &format!(
                    "#EXT-X-MAP:URI=\"video/init-9.mp4\"\n{}#EXTINF:1.024000,\nvideo/119.",
                    date(19 * 1024)
                ),
            )
        });
        seen(s, "video/119.m4s").body = other;
        let at = s
            .iter()
            .position(|it| it.url.ends_with("video/119.m4s"))
            .expect("it is there");
        let mut init = s[at].clone();
        init.url = format!("{HOST}video/init-9.mp4");
        init.body = sound;
        s.insert(at, init);
        // Only what is before the change and the change itself.
        let next = s
            .iter()
            .position(|it| it.url.ends_with("video/120.m4s"))
            .expect("it is there");
        s.truncate(next);
    }),
    (&["extinf-disagrees", "tfdt-gap"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let second = find(&b[100..], b"moof") + 96;
            b.truncate(second);
        })
    }),
    (&["extinf-sum-drifts"], PLAIN, |s| {
        for n in 114..120 {
            replace(
                s,
                "video.m3u8",
                &format!("1.024000,\nvideo/{n}."),
                &format!("1.036000,\nvideo/{n}."),
            );
        }
    }),
    (&["first-sample-not-sync"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let at = find(b, b"trun");
            b[at + 16..at + 20].copy_from_slice(&[1, 1, 0, 0]);
        })
    }),
    (&["first-sample-not-idr"], PLAIN, |s| {
        rewrite(s, "video/115.m4s", |b| {
            let mut at = find(b, b"mdat") + 4;
            while b[at + 4] & 0x1f != 5 {
                at += 4 + u32::from_be_bytes(b[at..at + 4].try_into().expect("four")) as usize;
            }
            b[at + 4] = b[at + 4] & !0x1f | 1;
        })
    }),
    // Low latency
    (&["part-inf-missing"], LOW, |s| {
        strip(s, "video.m3u8", "#EXT-X-PART-INF")
    }),
    (&["part-hold-back-missing"], LOW, |s| {
        replace(s, "video.m3u8", ",PART-HOLD-BACK=1.536", "")
    }),
    (&["part-hold-back-short"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "PART-HOLD-BACK=1.536",
            "PART-HOLD-BACK=1.0",
        )
    }),
    (&["part-hold-back-below-three"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "PART-HOLD-BACK=1.536",
            "PART-HOLD-BACK=1.2",
        )
    }),
    (&["hold-back-short"], LOW, |s| {
        replace(s, "video.m3u8", ",HOLD-BACK=3.0", ",HOLD-BACK=2.0")
    }),
    (&["can-skip-until-short"], LOW, |s| {
        replace(s, "video.m3u8", "CAN-SKIP-UNTIL=6.0", "CAN-SKIP-UNTIL=5.0")
    }),
    (&["block-reload-not-offered"], LOW, |s| {
        s.retain(|it| it.status == 200);
        replace(s, "video.m3u8", "CAN-BLOCK-RELOAD=YES,", "");
    }),
    (&["part-exceeds-target"], LOW, |s| {
        replace(s, "video.m3u8", "TARGET=0.512", "TARGET=0.500")
    }),
    (&["part-too-short", "independent-missing"], LOW, |s| {
        replace(s, "video.m3u8", "TARGET=0.512", "TARGET=0.700");
        replace(
            s,
            "video.m3u8",
            "PART-HOLD-BACK=1.536",
            "PART-HOLD-BACK=2.1",
        );
        replace(s, "video.m3u8", ",INDEPENDENT=YES", "");
    }),
    (&["parts-do-not-sum"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "DURATION=0.512000,URI=\"video/117.1",
            "DURATION=0.500000,URI=\"video/117.1",
        )
    }),
    (&["part-media-differs"], LOW, |s| {
        rewrite(s, "video/117.m4s", |b| *b.last_mut().expect("bytes") ^= 1)
    }),
    (&["part-unavailable"], LOW, |s| {
        seen(s, "audio/117.0.m4s").status = 404
    }),
    (&["part-not-independent"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "video/117.1.m4s\"\n",
            "video/117.1.m4s\",INDEPENDENT=YES\n",
        )
    }),
    (&["independent-missing"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "video/117.0.m4s\",INDEPENDENT=YES\n",
            "video/117.0.m4s\"\n",
        )
    }),
    (&["part-late"], LOW, |s| stall(s, 500)),
    (&["preload-hint-unavailable"], LOW, |s| {
        // A part that is asked for before it is listed.
        let at = s
            .windows(2)
            .position(|it| {
                it[0].kind == Kind::Media
                    && it[1].kind == Kind::Resource(None)
                    && it[1].at - it[1].asked > Duration::from_millis(100)
            })
            .expect("a hint is asked for");
        s[at + 1].status = 404;
    }),
    (&["preload-hint-not-kept"], LOW, |s| {
        replace(
            s,
            "video.m3u8",
            "TYPE=PART,URI=\"video/118",
            "TYPE=PART,URI=\"video/x118",
        )
    }),
    (&["preload-hint-after-endlist"], LOW_ENDED, |s| {
        replace(
            s,
            "video.m3u8",
            "#EXT-X-ENDLIST\n",
            "#EXT-X-ENDLIST\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"x.m4s\"\n",
        )
    }),
    (&["rendition-report-missing"], LOW, |s| {
        strip(s, "video.m3u8", "#EXT-X-RENDITION")
    }),
    (&["rendition-report-behind"], LOW, |s| {
        replace(s, "video.m3u8", "LAST-MSN=1", "LAST-MSN=0")
    }),
    (&["delta-refused"], LOW, |s| {
        let at = s
            .iter()
            .position(|it| it.url.ends_with("video.m3u8?_HLS_skip=YES"))
            .expect("asked for");
        let before = (0..at)
            .rfind(|i| is(&s[*i], "video.m3u8"))
            .expect("a snapshot");
        s[at].body = s[before].body.clone();
    }),
    (&["delta-differs"], LOW, |s| {
        let seen = asked(s, "_HLS_skip");
        seen.body = text(seen).replacen("1.024000", "1.023000", 1).into();
    }),
    (&["delta-skips-too-much"], LOW, |s| {
        let seen = asked(s, "_HLS_skip");
        let text = text(seen).replace("SEGMENTS=4", "SEGMENTS=5");
        let (head, rest) = text.split_once("#EXT-X-MAP").expect("a map");
        let lines = rest.lines().skip(4);
        seen.body =
            (head.to_owned() + &lines.flat_map(|line| [line, "\n"]).collect::<String>()).into();
    }),
    (&["version-too-low"], LOW, |s| {
        replace(s, "*", "VERSION:9", "VERSION:6")
    }),
    (&["blocking-reload-unmet"], LOW, |s| {
        let (before, at) = waited(s);
        s[at].body = s[before].body.clone();
    }),
    (&["blocked-too-long", "update-late"], LOW, |s| {
        stall(s, 4000)
    }),
    (&["part-without-msn-accepted"], LOW, |s| {
        s.iter_mut()
            .find(|it| it.url.ends_with("?_HLS_part=0"))
            .expect("asked for")
            .status = 200
    }),
    (&["far-msn-accepted"], LOW, |s| {
        s.iter_mut()
            .find(|it| it.url.ends_with("_HLS_msn=999"))
            .expect("asked for")
            .status = 200
    }),
];

#[test]
fn each_planted_fault_is_named_by_its_rule_and_breaks_no_other() {
    let mut wrong = String::new();
    for (index, (rules, origin, plant)) in FAULTS.iter().enumerate() {
        let mut session = origin.session(SECONDS);
        plant(&mut session);
        let violations = judge(&session);
        let found: BTreeSet<&str> = violations.iter().map(|it| it.rule).collect();
        let expected: BTreeSet<&str> = rules.iter().copied().collect();
        if found != expected {
            wrong += &format!("{index}: expected {expected:?}\n");
            for it in violations {
                wrong += &format!("    {} ×{} {} {}\n", it.rule, it.count, it.url, it.detail);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn there_are_more_than_thirty_faults_and_their_rules_exist() {
    let names: BTreeSet<&str> = oracle::rules::catalogue::ALL
        .iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(
        names.len(),
        oracle::rules::catalogue::ALL.len(),
        "names are unique"
    );
    let planted: BTreeSet<&str> = FAULTS.iter().map(|(rules, _, _)| rules[0]).collect();
    assert!(planted.len() >= 30);
    assert!(planted.is_subset(&names));
    // What no fault is planted for, on purpose: it would need a moov of other sizes, or parts that never leave.
    let rest: Vec<_> = names.difference(&planted).collect();
    assert_eq!(rest, [&"init-with-samples", &"parts-too-old"]);
}
