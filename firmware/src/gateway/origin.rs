//! The live stream's playlists and parts, which answer when there is something to answer (rfc8216bis section 6.2.5.2). How far
//! to wait is decided in [`stream::low_latency`]; here is the waiting, on the value that the loop publishes.

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stream::low_latency::{Directives, Reload};
use stream::media::Rendition;
use stream::publication::PartName;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::SEGMENT_CACHE;
use super::content::{self, Content};
use crate::live::Live;

/// No request is held for longer, in target durations (rfc8216bis 6.2.5.2).
const LONGEST_BLOCK: u32 = 3;

/// How long what was awaited may be cached, in target durations (rfc8216bis 6.2.5.2): its address names what is in it.
const AWAITED_CACHE: u64 = 6;

/// What a request gets at this moment.
enum Answer {
    Ready(Response),
    /// It comes within the time.
    Wait {
        target_duration: u64,
    },
}

pub(super) fn missing() -> Response {
    refusal(StatusCode::NOT_FOUND, "no such segment\n")
}

/// There is none, or none of this name: not every broadcast has every rendition.
fn no_playlist(live: &Live) -> Response {
    let why = if live.index.is_some() {
        "no such playlist: index.m3u8 names those that there are\n"
    } else {
        "nothing is on air yet\n"
    };
    refusal(StatusCode::NOT_FOUND, why)
}

fn refusal(status: StatusCode, why: &str) -> Response {
    let cache = [(header::CACHE_CONTROL, "no-store")];
    (status, cache, why.to_owned()).into_response()
}

/// A playlist by its name under `/live/`.
pub(super) async fn playlist(
    live: watch::Receiver<Live>,
    name: &str,
    query: &[(String, String)],
    headers: &HeaderMap,
) -> Response {
    let pairs = query.iter().map(|(key, value)| (&key[..], &value[..]));
    let asked = match Directives::from_query(pairs) {
        Ok(asked) => asked,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    };
    let name = name.strip_suffix(".m3u8").unwrap_or_default();
    answered(live, |live| match Rendition::from_name(name) {
        Some(rendition) => media_playlist(live, rendition, asked, headers),
        None => Answer::Ready(match live.index.clone().filter(|_| name == "index") {
            Some(index) => index.respond(headers, &fresh(1)),
            None => no_playlist(live),
        }),
    })
    .await
}

fn media_playlist(
    live: &Live,
    rendition: Rendition,
    asked: Directives,
    headers: &HeaderMap,
) -> Answer {
    let Some(playlist) = &live.playlists[rendition as usize] else {
        return Answer::Ready(no_playlist(live));
    };
    let target_duration = playlist.target_duration;
    match playlist.edge.reload(asked) {
        Reload::Wait => Answer::Wait { target_duration },
        Reload::TooFar => {
            let why = format!("the last segment is {}\n", playlist.edge.last);
            Answer::Ready(refusal(StatusCode::BAD_REQUEST, &why))
        }
        Reload::Ready => {
            let text = if asked.skip {
                &playlist.delta
            } else {
                &playlist.full
            };
            let cache = match asked.msn {
                Some(_) => fresh(AWAITED_CACHE * target_duration),
                // Longer, and a viewer is shown a playlist that has moved on.
                None => fresh(target_duration.div_ceil(2)),
            };
            Answer::Ready(text.clone().respond(headers, &cache))
        }
    }
}

fn fresh(seconds: u64) -> String {
    format!("public, max-age={seconds}")
}

/// A part. One that is announced as the next is waited for; its bytes are sent when it is whole.
pub(super) async fn part(
    live: watch::Receiver<Live>,
    rendition: Rendition,
    name: PartName,
    headers: &HeaderMap,
) -> Response {
    let path = format!("{}/{name}", rendition.name());
    answered(live, |live| {
        if let Some(bytes) = live.part(rendition, name) {
            let kind = content::media_type(&path);
            let part = Content::memory(name, kind, vec![bytes]);
            return Answer::Ready(part.respond(headers, SEGMENT_CACHE));
        }
        let playlist = live.playlists[rendition as usize].as_ref();
        match playlist.filter(|playlist| playlist.hint.as_ref() == Some(&path)) {
            Some(playlist) => Answer::Wait {
                target_duration: playlist.target_duration,
            },
            None => Answer::Ready(missing()),
        }
    })
    .await
}

/// Asks for the answer at every moment until there is one.
async fn answered(
    mut live: watch::Receiver<Live>,
    answer: impl Fn(&Live) -> Answer + Send,
) -> Response {
    let asked = Instant::now();
    loop {
        let target_duration = match answer(&live.borrow_and_update()) {
            Answer::Ready(response) => return response,
            Answer::Wait { target_duration } => target_duration,
        };
        let longest = Duration::from_secs(target_duration) * LONGEST_BLOCK;
        // Ends also when the box shuts down.
        if !matches!(
            timeout_at(asked + longest, live.changed()).await,
            Ok(Ok(()))
        ) {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, "nothing new has come\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use axum::body::to_bytes;
    use bytes::Bytes;
    use cid::Cid;
    use stream::media::MediaDuration;
    use stream::playlist::Picture;
    use stream::publication::{Inits, Numbers, Publication, Settings, Video};
    use stream::segmenter::{InitSegment, MediaSegment, Output, PartialSegment};

    use super::*;

    /// Four parts of half a second make a segment.
    const PARTS: u32 = 4;

    /// A broadcast that a test makes by hand, and what viewers see of it.
    struct Box {
        publication: Publication,
        live: watch::Sender<Live>,
        segment: u64,
        index: u32,
    }

    impl Box {
        /// On air with one stored segment, number 7.
        fn on_air() -> Box {
            Box::with(false)
        }

        fn with(ladder: bool) -> Box {
            let video = |bitrate, resolution| Video {
                bitrate,
                picture: Picture {
                    resolution,
                    frame_rate: 30.0,
                },
            };
            let settings = Settings {
                segment: Duration::from_secs(2),
                part: Duration::from_millis(500),
                window: 10,
                video: video(3_000_000, (1280, 720)),
                low: ladder.then(|| video(400_000, (320, 180))),
                audio_bitrate: 128_000,
                inits: Inits::InDirectories,
            };
            let first = Numbers {
                media_sequence: 7,
                run: 3,
            };
            let mut it = Box {
                publication: Publication::new(settings, first),
                live: watch::Sender::new(Live::default()),
                segment: 0,
                index: 0,
            };
            it.publication.begin_run();
            for rendition in Rendition::ALL {
                it.push(Output::Init(InitSegment {
                    rendition,
                    codec: rendition.name().into(),
                    bytes: Bytes::from_static(b"init"),
                }));
            }
            it.segment();
            it.stored();
            it
        }

        fn push(&mut self, output: Output) {
            let date = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_365_000);
            self.publication.push(output, |start| Some(date + start));
        }

        fn follow(&self) {
            self.live.send_modify(|live| live.follow(&self.publication));
        }

        /// A part of every rendition, and the end of the segment after its last.
        fn part(&mut self) {
            let half = |rendition: Rendition, halves: u32| MediaDuration {
                ticks: u64::from(rendition.timescale() / 2 * halves),
                timescale: rendition.timescale(),
            };
            let start = Duration::from_secs(2) * self.segment as u32;
            for rendition in Rendition::ALL {
                self.push(Output::Part(PartialSegment {
                    rendition,
                    segment: self.segment,
                    index: self.index,
                    start: start + Duration::from_millis(500) * self.index,
                    duration: half(rendition, 1),
                    independent: self.index == 0,
                    bytes: format!("{} {}/{}", rendition.name(), self.segment, self.index).into(),
                }));
                if self.index + 1 == PARTS {
                    self.push(Output::Segment(MediaSegment {
                        rendition,
                        segment: self.segment,
                        start,
                        duration: half(rendition, PARTS),
                    }));
                }
            }
            self.index = (self.index + 1) % PARTS;
            self.segment += u64::from(self.index == 0);
            self.follow();
        }

        fn segment(&mut self) {
            (0..PARTS).for_each(|_| self.part());
        }

        fn stored(&mut self) {
            self.publication.next_update().expect("something to store");
            self.publication.stored();
            (self.live)
                .send_modify(|live| live.update(&self.publication, Some(Cid::default()), None));
        }

        fn not_stored(&mut self) {
            self.publication.next_update().expect("something to store");
            self.publication.failed();
            self.follow();
        }

        /// A viewer's request for a playlist.
        fn asks(&self, query: &str) -> Request {
            self.asks_of("video.m3u8", query)
        }

        fn asks_of(&self, name: &'static str, query: &str) -> Request {
            let query: Vec<(String, String)> = (query.split('&'))
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            let live = self.live.subscribe();
            Request::new(async move { playlist(live, name, &query, &HeaderMap::new()).await })
        }

        fn asks_for(&self, part: &str) -> Request {
            let (live, name) = (self.live.subscribe(), PartName::parse(part).unwrap());
            Request::new(async move {
                super::part(live, Rendition::Video, name, &HeaderMap::new()).await
            })
        }
    }

    /// A request that is under way. Time stands still while anything can go on.
    struct Request(tokio::task::JoinHandle<Response>, Instant);

    impl Request {
        fn new(answer: impl Future<Output = Response> + Send + 'static) -> Request {
            Request(tokio::spawn(answer), Instant::now())
        }

        /// Whether there is no answer yet, although everything that can happen has happened.
        async fn waits(&self) -> bool {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            !self.0.is_finished()
        }

        /// Status, how long it may be cached, and the body.
        async fn answer(self) -> (u16, String, String) {
            let (status, cache, body, _) = self.answer_after().await;
            (status, cache, body)
        }

        async fn answer_after(self) -> (u16, String, String, Duration) {
            let response = self.0.await.unwrap();
            let cache = response.headers()[header::CACHE_CONTROL].to_str().unwrap();
            let (status, cache) = (response.status().as_u16(), cache.to_owned());
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            let body = String::from_utf8(body.to_vec()).unwrap();
            (status, cache, body, self.1.elapsed())
        }

        async fn at_once(self) -> (u16, String, String) {
            assert!(!self.waits().await, "it waits");
            self.answer().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_player_that_asks_for_nothing_special_is_answered_at_once() {
        let it = Box::on_air();
        let (status, cache, text) = it.asks("").at_once().await;
        assert_eq!((status, &cache[..]), (200, "public, max-age=1"));
        assert!(text.contains("video/7.m4s\n"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_waits_for_the_part_and_no_longer() {
        let mut it = Box::on_air();
        let (first, second) = (
            it.asks("_HLS_msn=8&_HLS_part=0"),
            it.asks("_HLS_msn=8&_HLS_part=1"),
        );
        assert!(first.waits().await && second.waits().await);
        it.part();
        let (status, cache, text) = first.at_once().await;
        assert_eq!((status, &cache[..]), (200, "public, max-age=12"));
        assert!(text.contains("video/part-3-8-0.m4s"), "{text}");
        assert!(second.waits().await);
        it.part();
        assert_eq!(second.at_once().await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_segment_is_there_when_it_is_stored() {
        let mut it = Box::on_air();
        let whole = it.asks("_HLS_msn=8");
        // A part beyond its last is the first of the next.
        let beyond = it.asks("_HLS_msn=8&_HLS_part=4");
        it.segment();
        it.part();
        assert!(whole.waits().await && beyond.waits().await);
        it.stored();
        let (_, _, text) = whole.at_once().await;
        assert!(text.contains("video/8.m4s\n"), "{text}");
        let (_, _, text) = beyond.at_once().await;
        assert!(text.contains("video/part-3-9-0.m4s"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn each_rendition_is_followed_by_its_parts() {
        let mut it = Box::with(true);
        let names = ["video.m3u8", "audio.m3u8", "low.m3u8"];
        let asked = names.map(|name| (name, it.asks_of(name, "_HLS_msn=8&_HLS_part=0")));
        it.part();
        for (name, request) in asked {
            let (status, _, text) = request.at_once().await;
            assert_eq!(status, 200);
            let own = name.strip_suffix(".m3u8").unwrap();
            assert!(text.contains(&format!("{own}/part-3-8-0.m4s")), "{text}");
            for other in names {
                let report =
                    format!("#EXT-X-RENDITION-REPORT:URI=\"{other}\",LAST-MSN=8,LAST-PART=0\n");
                assert_eq!(text.contains(&report), name != other, "{text}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_playlist_that_there_is_not_is_told_from_nothing_on_air() {
        let mut it = Box::on_air();
        let none = "no such playlist: index.m3u8 names those that there are\n";
        for name in ["low.m3u8", "other.m3u8", "low"] {
            let (status, cache, text) = it.asks_of(name, "").at_once().await;
            assert_eq!((status, &cache[..], &text[..]), (404, "no-store", none));
        }
        assert_eq!(it.asks_of("index.m3u8", "").at_once().await.0, 200);
        it.live = watch::Sender::new(Live::default());
        for name in ["low.m3u8", "video.m3u8", "index.m3u8"] {
            let (status, _, text) = it.asks_of(name, "").at_once().await;
            assert_eq!((status, &text[..]), (404, "nothing is on air yet\n"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_makes_no_sense_is_refused_at_once() {
        let it = Box::on_air();
        for query in [
            "_HLS_part=0",
            "_HLS_msn=10",
            "_HLS_msn=x",
            "_HLS_msn=8&_HLS_part=-1",
            "_HLS_msn=8&_HLS_part=7",
            "_HLS_msn=18446744073709551615&_HLS_part=4294967295",
        ] {
            let (status, cache, _) = it.asks(query).at_once().await;
            assert_eq!((status, &cache[..]), (400, "no-store"), "{query}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_more_than_three_target_durations() {
        let mut it = Box::on_air();
        let asked = it.asks("_HLS_msn=8");
        // Parts come, but the segment is never stored.
        for _ in 0..PARTS {
            it.part();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let (status, cache, _, after) = asked.answer_after().await;
        assert_eq!((status, &cache[..]), (503, "no-store"));
        assert_eq!(after, Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_answers_everybody() {
        let mut it = Box::on_air();
        let asked = [it.asks("_HLS_msn=8&_HLS_part=0"), it.asks("_HLS_msn=9")];
        it.publication.finish();
        it.follow();
        it.stored();
        for request in asked {
            let (status, _, text) = request.at_once().await;
            assert_eq!(status, 200);
            assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
        }
        assert_eq!(it.asks("_HLS_msn=99").at_once().await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_box_that_goes_away_lets_nobody_wait() {
        let it = Box::on_air();
        let asked = it.asks("_HLS_msn=8");
        assert!(asked.waits().await);
        drop(it);
        assert_eq!(asked.at_once().await.0, 503);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delta_update_skips_what_is_known() {
        let mut it = Box::on_air();
        for _ in 0..9 {
            it.segment();
            it.stored();
        }
        let (_, _, text) = it.asks("_HLS_skip=YES").at_once().await;
        assert!(text.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n"), "{text}");
        let (_, _, text) = it.asks("").at_once().await;
        assert!(!text.contains("#EXT-X-SKIP"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_hinted_part_is_sent_when_it_is_whole() {
        let mut it = Box::on_air();
        let (_, _, text) = it.asks("").at_once().await;
        assert!(
            text.contains("PRELOAD-HINT:TYPE=PART,URI=\"video/part-3-8-0.m4s\""),
            "{text}"
        );
        let hinted = it.asks_for("part-3-8-0.m4s");
        assert!(hinted.waits().await);
        it.part();
        let (status, cache, body) = hinted.at_once().await;
        assert_eq!((status, &body[..]), (200, "video 1/0"));
        assert!(cache.contains("immutable"));
        // What nobody has announced is not waited for.
        for other in [
            "part-3-8-2.m4s",
            "part-3-9-0.m4s",
            "part-2-8-1.m4s",
            "part-3-6-0.m4s",
        ] {
            assert_eq!(it.asks_for(other).at_once().await.0, 404, "{other}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hint_that_cannot_be_kept_is_taken_back() {
        let mut it = Box::on_air();
        // The next segment has all its parts, and the store does not take it: viewers notice nothing.
        it.segment();
        let hinted = it.asks_for("part-3-9-0.m4s");
        assert!(hinted.waits().await);
        it.not_stored();
        assert!(hinted.waits().await);
        let (_, _, text) = it.asks("").at_once().await;
        assert!(text.contains("video/8.m4s"), "{text}");
        it.part();
        assert_eq!(hinted.at_once().await.0, 200);
        // The encoder is gone.
        let hinted = it.asks_for("part-3-9-1.m4s");
        assert!(hinted.waits().await);
        it.publication.end_run();
        it.follow();
        assert_eq!(hinted.at_once().await.0, 404);
        let (_, _, text) = it.asks("").at_once().await;
        assert!(
            !text.contains("PRELOAD-HINT") && !text.contains("part-3-9-"),
            "{text}"
        );
        // What was listed can still be had: a player may be about to ask for it.
        assert_eq!(it.asks_for("part-3-9-0.m4s").at_once().await.0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn parts_stay_twice_as_long_as_they_are_listed_and_no_longer() {
        let mut it = Box::on_air();
        for _ in 0..20 {
            it.segment();
            it.stored();
        }
        let (_, _, text) = it.asks("").at_once().await;
        for number in 22..=27 {
            let name = format!("part-3-{number}-0.m4s");
            assert_eq!(text.contains(&name), number >= 25, "{name}");
            let status = it.asks_for(&name).at_once().await.0;
            assert_eq!(status, 200, "{name}");
        }
        assert_eq!(it.asks_for("part-3-21-0.m4s").at_once().await.0, 404);
    }
}
