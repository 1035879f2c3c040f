//! A Kubo that follows a live stream by its name, as a mirror or a viewer's node does: it asks what the name means, reads the
//! playlists there, and every segment that is new.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::kubo::Kubo;
use crate::{Podium, hls, http, wait_for};

/// How often the name is resolved. Delays are on average half of it too long.
pub const POLL: Duration = Duration::from_millis(20);

/// Segments by their number, each with when it was complete, if somebody saw that, and the paths of its bytes.
pub type Listed = BTreeMap<u64, (Option<SystemTime>, Vec<String>)>;

/// A segment of all renditions, as it arrived. Seconds are counted from its end.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub number: u64,
    /// Until the name meant it.
    pub named: f64,
    /// Until all its bytes were read.
    pub read: f64,
    pub bytes: u64,
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
    /// Asks for each segment's last part before it is there; ends with the box, or when nobody wants to know any more.
    pub fn watch(podium: &Podium) -> Completed {
        let times: Arc<Mutex<BTreeMap<u64, SystemTime>>> = Arc::default();
        let wanted = Arc::downgrade(&times);
        let url = format!("{}/live/video.m3u8", podium.viewer);
        let playlist = hls::live(podium, "video");
        let mut next = playlist.media_sequence + playlist.segments.len() as u64 + 1;
        std::thread::spawn(move || {
            while wanted.strong_count() > 0 {
                let last = format!("{url}?_HLS_msn={next}&_HLS_part={LAST_PART}");
                match http::try_get(&last, &[]) {
                    Ok(answer) if answer.status == 200 => {}
                    _ => return,
                }
                let Some(times) = wanted.upgrade() else {
                    return;
                };
                let mut times = times.lock().expect("nobody panics with it");
                times.insert(next, SystemTime::now());
                next += 1;
            }
        });
        Completed(times)
    }

    /// By this machine's clock; nothing of a segment that was there before.
    fn at(&self, number: u64) -> Option<SystemTime> {
        let times = self.0.lock().expect("nobody panics with it");
        times.get(&number).copied()
    }
}

/// What the box lists below a root.
pub fn of_podium(kubo: &Kubo, root: &str, completed: &Completed) -> Option<Listed> {
    let mut listed = Listed::new();
    for rendition in ["video", "audio"] {
        let playlist = hls::media_playlist(&read(kubo, &format!("{root}/{rendition}/live.m3u8"))?);
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
/// Where a listed segment cannot be read, and where numbers go back.
pub fn follow(
    kubo: &Kubo,
    name: &str,
    list: impl Fn(&str) -> Option<Listed>,
    mut enough: impl FnMut(&[Arrival]) -> bool,
) -> Vec<Arrival> {
    let mut last = String::new();
    let mut newest = None;
    let mut arrivals = Vec::new();
    while !enough(&arrivals) {
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
            let Some(complete) = complete else { continue };
            let since = |time: SystemTime| {
                let since = time.duration_since(complete);
                since.map_or(0.0, |it| it.as_secs_f64())
            };
            arrivals.push(Arrival {
                number,
                named: since(named),
                read: since(SystemTime::now()),
                bytes,
            });
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
    use super::*;

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
