//! Who follows a live stream by its name, as a viewer's node does, and how late each segment is there. A Kubo asks what the name
//! means, reads the playlists there, and every segment that is new; a Helia does so by its judge; a mirror is asked as viewers do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use crate::judge::Session;
use crate::kubo::Kubo;
use crate::{Mirror, PATIENCE, Podium, hls, http, wait_for};

/// How often the name is resolved. Delays are on average half of it too long.
pub const POLL: Duration = Duration::from_millis(20);

/// Segments by their number, each with when it was complete, if somebody saw that, and the paths of its bytes.
pub type Listed = BTreeMap<u64, (Option<SystemTime>, Vec<String>)>;

/// A segment of all renditions, as it arrived. Seconds are counted from its end.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub number: u64,
    /// Until the name meant it; of a mirror, until it listed it. Not a number where nobody asked.
    pub named: f64,
    /// Until all its bytes were read.
    pub read: f64,
    pub bytes: u64,
}

impl Arrival {
    /// Of a segment that has been read now, if somebody saw it complete.
    fn of(
        number: u64,
        complete: Option<SystemTime>,
        named: Option<SystemTime>,
        bytes: u64,
    ) -> Option<Arrival> {
        let complete = complete?;
        let since = |time: SystemTime| {
            let since = time.duration_since(complete);
            since.map_or(0.0, |it| it.as_secs_f64())
        };
        Some(Arrival {
            number,
            named: named.map_or(f64::NAN, since),
            read: since(SystemTime::now()),
            bytes,
        })
    }
}

/// A file by its path, or `None` where Kubo does not get it within ten seconds.
pub fn read(kubo: &Kubo, path: &str) -> Option<Vec<u8>> {
    kubo.ask("cat", &[("arg", path), ("timeout", "10s")]).ok()
}

fn resolve(kubo: &Kubo, name: &str) -> Option<String> {
    let name = format!("/ipns/{name}");
    let arguments = [("arg", &name[..]), ("nocache", "true"), ("timeout", "5s")];
    let answer = kubo.ask("name/resolve", &arguments).ok()?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    Some(answer["Path"].as_str()?.to_owned())
}

/// When the box had each segment of its video complete, from now on: its origin then lists the last part.
#[derive(Debug)]
pub struct Completed(Arc<Mutex<BTreeMap<u64, SystemTime>>>);

/// The last part of a segment of 2 s: six of a third of a second each.
const LAST_PART: u32 = 5;

impl Completed {
    /// Asks for each segment's last part before it is there; ends with the broadcast, or when nobody wants to know any more.
    pub fn watch(podium: &Podium) -> Completed {
        Completed::watch_at(format!("{}/live/video.m3u8", podium.viewer))
    }

    fn watch_at(url: String) -> Completed {
        let times: Arc<Mutex<BTreeMap<u64, SystemTime>>> = Arc::default();
        let wanted = Arc::downgrade(&times);
        // The one after the one that is being made, of which the last part may be there.
        let after = |playlist: &[u8]| {
            let playlist = hls::media_playlist(playlist);
            playlist.media_sequence + playlist.segments.len() as u64 + 1
        };
        let mut next = after(&http::get(&url).body);
        std::thread::spawn(move || {
            while wanted.strong_count() > 0 {
                let last = format!("{url}?_HLS_msn={next}&_HLS_part={LAST_PART}");
                let Ok(answer) = http::try_get(&last, &[]) else {
                    return;
                };
                let now = SystemTime::now();
                if answer.status != 200 {
                    // Nothing new came for three target durations (503), or what comes is another segment (404, 400).
                    std::thread::sleep(POLL);
                    match http::try_get(&url, &[]) {
                        Ok(answer) if answer.status == 200 => next = after(&answer.body),
                        Ok(_) => {}
                        Err(_) => return,
                    }
                    continue;
                }
                if hls::media_playlist(&answer.body).end_list {
                    return;
                }
                let Some(times) = wanted.upgrade() else {
                    return;
                };
                let mut times = times.lock().expect("nobody panics with it");
                times.insert(next, now);
                next += 1;
            }
        });
        Completed(times)
    }

    /// By this machine's clock; nothing of a segment that was there before.
    pub(crate) fn at(&self, number: u64) -> Option<SystemTime> {
        let times = self.0.lock().expect("nobody panics with it");
        times.get(&number).copied()
    }
}

/// What the box lists below a root.
pub fn of_podium(kubo: &Kubo, root: &str, completed: &Completed) -> Option<Listed> {
    let renditions = ["video", "audio"];
    // At once, as players ask for them: Kubo paces its messages by 20 ms.
    let playlists = std::thread::scope(|scope| {
        let asked = renditions.map(|rendition| {
            scope.spawn(move || read(kubo, &format!("{root}/{rendition}/live.m3u8")))
        });
        asked.map(|it| it.join().expect("it is read"))
    });
    let mut listed = Listed::new();
    for (rendition, playlist) in renditions.into_iter().zip(playlists) {
        let playlist = hls::media_playlist(&playlist?);
        for (number, segment) in (playlist.media_sequence..).zip(&playlist.segments) {
            let path = format!("{root}/{rendition}/{}", segment.uri);
            let entry = listed.entry(number);
            let (_, paths) = entry.or_insert_with(|| (completed.at(number), Vec::new()));
            paths.push(path);
        }
    }
    Some(listed)
}

/// Reads every segment that comes until `enough` of what was read. `list` says what is at a path that the name has meant; what was
/// there before is left out, because nobody waited for it, and so is what nobody saw complete.
///
/// # Panics
/// Where a listed segment cannot be read, where numbers go back, and where none arrives for [`PATIENCE`].
pub fn follow(
    kubo: &Kubo,
    name: &str,
    list: impl Fn(&str) -> Option<Listed>,
    mut enough: impl FnMut(&[Arrival]) -> bool,
) -> Vec<Arrival> {
    let mut last = String::new();
    let mut newest = None;
    let mut arrivals = Vec::new();
    let mut until = Instant::now() + PATIENCE;
    while !enough(&arrivals) {
        assert!(
            Instant::now() < until,
            "{newest:?} was the last that came to {last:?}: {arrivals:?}"
        );
        std::thread::sleep(POLL);
        let Some(now) = resolve(kubo, name).filter(|now| *now != last) else {
            continue;
        };
        let named = SystemTime::now();
        let Some(listed) = list(&now) else { continue };
        last = now;
        let Some(end) = listed.keys().last().copied() else {
            continue;
        };
        let known = *newest.get_or_insert(end);
        assert!(end >= known, "{last} ends at {end}, and {known} was there");
        for (number, (complete, paths)) in listed.into_iter().filter(|(it, _)| *it > known) {
            // Picture and sound at once, as players ask for them.
            let bytes: u64 = std::thread::scope(|scope| {
                let get = |path| scope.spawn(move || wait_for(path, || read(kubo, path)).len());
                let all: Vec<_> = paths.iter().map(|path| get(path)).collect();
                let lengths = all.into_iter().map(|it| it.join().expect("it is read"));
                lengths.sum::<usize>() as u64
            });
            newest = Some(number);
            let Some(arrival) = Arrival::of(number, complete, Some(named), bytes) else {
                continue;
            };
            arrivals.push(arrival);
            until = Instant::now() + PATIENCE;
        }
    }
    arrivals
}

/// Reads every segment that a mirror lists as a viewer would, until `enough`.
///
/// # Panics
/// Where a listed segment cannot be read, and where none arrives for [`PATIENCE`].
pub fn follow_mirror(
    mirror: &Mirror,
    completed: &Completed,
    enough: impl Fn() -> bool,
) -> Vec<Arrival> {
    let mut newest = None;
    let mut arrivals = Vec::new();
    let mut until = Instant::now() + PATIENCE;
    while !enough() {
        std::thread::sleep(POLL);
        assert!(Instant::now() < until, "{newest:?} was the last");
        let answer = mirror.get("/live/video.m3u8");
        if answer.status != 200 {
            continue;
        }
        let named = SystemTime::now();
        let listed = hls::media_playlist(&answer.body);
        let end = listed.media_sequence + listed.segments.len() as u64;
        let first = newest.replace(end).unwrap_or(end);
        if first < end {
            until = Instant::now() + PATIENCE;
        }
        for (number, segment) in (listed.media_sequence..).zip(&listed.segments) {
            if number < first {
                continue;
            }
            // The sound's segments have the same names.
            let of_sound = segment.uri.replace("video/", "audio/");
            let lengths = [&segment.uri, &of_sound].map(|uri| {
                let answer = mirror.get(&format!("/live/{uri}"));
                assert_eq!(answer.status, 200, "{uri}");
                answer.body.len() as u64
            });
            let bytes = lengths.iter().sum();
            arrivals.extend(Arrival::of(
                number,
                completed.at(number),
                Some(named),
                bytes,
            ));
        }
    }
    arrivals
}

/// Every segment that a Helia says it has read (`helia-follow.mjs`), until `enough`; it is asked for nothing else.
///
/// # Panics
/// Where none arrives for [`PATIENCE`].
pub fn follow_helia(
    helia: &Session,
    completed: &Completed,
    enough: impl Fn() -> bool,
) -> Vec<Arrival> {
    let mut half = BTreeMap::new();
    let mut arrivals = Vec::new();
    while !enough() {
        let found = helia.next();
        // `video/0000/12.m4s`
        let Some(path) = found["segment"].as_str() else {
            continue;
        };
        let file = path.rsplit('/').next().and_then(|it| it.split('.').next());
        let number = file.and_then(|it| it.parse().ok());
        let number = number.expect("a segment's file has its number");
        let bytes = found["bytes"].as_u64().expect("a length");
        // Picture and sound.
        match half.remove(&number) {
            None => drop(half.insert(number, bytes)),
            Some(other) => {
                let complete = completed.at(number);
                arrivals.extend(Arrival::of(number, complete, None, bytes + other));
            }
        }
    }
    arrivals
}

/// How many segments are missing between the first and the last.
pub fn gaps(arrivals: &[Arrival]) -> u64 {
    let missing = |pair: &[Arrival]| pair[1].number - pair[0].number - 1;
    arrivals.windows(2).map(missing).sum()
}

/// The least of `values` that this share of them does not exceed; not a number where there are none.
pub fn quantile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(at.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// An origin that has nothing new for a while, and then other segments than were asked for.
    #[test]
    fn what_is_complete_is_seen_after_the_origin_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/video.m3u8", listener.local_addr().unwrap());
        let playlist = |first: u64| {
            format!(
                "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n#EXTINF:2,\n{first}.m4s\n"
            )
        };
        std::thread::spawn(move || {
            let mut refused = 0;
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let (status, body) = match request.split(' ').nth(1).unwrap() {
                    "/video.m3u8" => (200, playlist(10 * refused)),
                    "/video.m3u8?_HLS_msn=2&_HLS_part=5" => (503, String::new()),
                    "/video.m3u8?_HLS_msn=12&_HLS_part=5" => (404, String::new()),
                    "/video.m3u8?_HLS_msn=22&_HLS_part=5" => (200, playlist(22)),
                    _ => (
                        200,
                        "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-ENDLIST\n".into(),
                    ),
                };
                refused += u64::from(status != 200);
                let head = format!("HTTP/1.1 {status} -\r\nconnection: close\r\n");
                let length = body.len();
                let _ = write!(stream, "{head}content-length: {length}\r\n\r\n{body}");
            }
        });
        let completed = Completed::watch_at(url);
        wait_for("a segment to be complete", || completed.at(22));
        assert_eq!([2, 12, 23].map(|number| completed.at(number)), [None; 3]);
    }

    #[test]
    fn quantiles_and_gaps_are_counted() {
        let values = || (1..=20).map(f64::from).rev();
        let found = [0.0, 0.5, 0.95, 1.0].map(|share| quantile(values(), share));
        assert_eq!(found, [1.0, 10.0, 19.0, 20.0]);
        assert!(quantile([], 0.5).is_nan());
        let arrival = |number| Arrival {
            number,
            named: 0.0,
            read: 0.0,
            bytes: 0,
        };
        assert_eq!(gaps(&[3, 4, 7, 8].map(arrival)), 2);
        assert_eq!(gaps(&[]), 0);
    }
}
