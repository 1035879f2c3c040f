//! Who follows the box from another machine over a bad network, and how far behind it is.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::follow::{Completed, quantile};
use crate::kubo::Kubo;
use crate::network::{Host, Link, Network};
use crate::{Config, Mirror, Podium, hls, http, wait_for};

/// A node that follows a box by its name, and serves what it has to viewers.
///
/// What it is told to do, it is told on its host.
pub trait Follower: Send + Sync {
    /// Where viewers find its gateway, `http://…`.
    fn gateway(&self) -> String;

    /// Fetches what it lacks of all below `/ipfs/<root>`, which its name means now, and keeps it.
    fn keep(&self, root: &str);
}

impl Follower for Kubo {
    fn gateway(&self) -> String {
        Kubo::gateway(self)
    }

    /// As the recipe does: where the answers are late, a Kubo gives up the only peer that it asks, and waits for ever (boxo 0.43, after
    /// sixteen wants in a row that timed out: `Session.wantBlocks` asks nobody where a peer was found once). What has come is there.
    fn keep(&self, root: &str) {
        wait_for("Kubo to pin all of it", || {
            let pin = ["pin", "add", "--recursive", "--timeout=60s", root];
            match self.try_run(&pin) {
                Ok(_) => Some(()),
                Err(error) if error.contains("context deadline exceeded") => None,
                Err(error) => panic!("{error}"),
            }
        });
    }
}

impl Follower for Mirror {
    fn gateway(&self) -> String {
        self.viewer.clone()
    }

    /// It keeps what it serves. Where it was late it serves the window first, and fills up what lies before that.
    fn keep(&self, root: &str) {
        wait_for("the mirror to have this root, with all of it", || {
            let there = self.get(&format!("{root}/?format=raw")).status == 200;
            (there && self.status()["filling"] == false).then_some(())
        });
    }
}

/// The followers that there are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Kubo with the recipe of README, and with the box among its peers to stay connected with.
    Kubo,
    /// `podium mirror` that is told the box's address.
    Mirror,
}

impl Kind {
    /// Starts it on this host. `None` if it cannot be had, as [`Kubo::new`].
    fn start(self, dir: &Path, host: &Host, name: &str, peer: &str) -> Option<Box<dyn Follower>> {
        match self {
            Kind::Kubo => {
                let kubo = Kubo::following(dir.join("kubo"), host.address(), &[peer])?;
                Some(Box::new(kubo))
            }
            Kind::Mirror => {
                let dir = dir.join("mirror");
                let mirror = Mirror::start_at(host.address(), &dir, name, &["--peer", peer]);
                Some(Box::new(mirror))
            }
        }
    }
}

/// A box on air, its follower and a viewer, each on a machine of its own, with a link between any two.
pub struct Scene {
    pub podium: Podium,
    pub follower: Box<dyn Follower>,
    pub boxed: Host,
    pub mirror: Host,
    pub viewer: Host,
    pub box_to_mirror: Link,
    pub box_to_viewer: Link,
    pub mirror_to_viewer: Link,
    _network: Network,
    _dir: TempDir,
}

/// A tenth of what one TCP connection gets through a link that loses 2 % at a round trip of 0.1 s, which is about 1 Mbit/s (Mathis
/// et al., "The macroscopic behavior of the TCP congestion avoidance algorithm", 1997): the rest is for catching up.
const STREAM: &str =
    "[video]\nwidth = 320\nheight = 180\nbitrate_kbps = 100\n[audio]\nbitrate_kbps = 32\n";

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scene").finish_non_exhaustive()
    }
}

impl Scene {
    /// Goes live and has the follower follow over `transport` (`/tcp/`, `/quic-v1`); each link takes 50 ms one way and loses
    /// 2 %. `None` where machine or follower are missing, which was said loudly.
    pub fn start(kind: Kind, transport: &str, seed: u64) -> Option<Scene> {
        let mut network = Network::new(seed)?;
        let [boxed, mirror, viewer] = ["box", "mirror", "viewer"].map(|name| network.host(name));
        let mut link = |a, b| {
            let link = network.link(a, b);
            link.delay(Duration::from_millis(50)).loss(0.02);
            link
        };
        let (box_to_mirror, box_to_viewer, mirror_to_viewer) = (
            link(&boxed, &mirror),
            link(&boxed, &viewer),
            link(&mirror, &viewer),
        );
        let dir = tempfile::tempdir().expect("a temporary directory");
        let config = Config {
            address: Some(boxed.address()),
            extra: STREAM.into(),
            ..Config::default()
        };
        let podium = boxed.enter(|| {
            let podium = Podium::start(dir.path(), &config);
            podium.go_live();
            podium
        });
        let peer = podium.address(transport);
        let follower = mirror.enter(|| kind.start(dir.path(), &mirror, &podium.name(), &peer))?;
        let scene = Scene {
            podium,
            follower,
            boxed,
            mirror,
            viewer,
            box_to_mirror,
            box_to_viewer,
            mirror_to_viewer,
            _network: network,
            _dir: dir,
        };
        scene.catch_up();
        Some(scene)
    }

    /// `/ipfs/<root>`: what the box says that its name means now.
    pub fn root(&self) -> String {
        self.boxed.enter(|| self.podium.root())
    }

    /// Waits until the follower's gateway serves, under the name, all that the box has listed by now; returns the root that
    /// it takes the name for.
    pub fn catch_up(&self) -> String {
        let wanted = self
            .boxed
            .enter(|| last_number(&hls::live(&self.podium, "video")));
        wait_for("the follower to have caught up", || {
            let (root, playlist) = self.newest()?;
            (last_number(&playlist) >= wanted).then_some(root)
        })
    }

    /// Waits until the follower takes the name for this root.
    pub fn wait_for_root(&self, wanted: &str) {
        wait_for("the follower to have this root", || {
            let (root, _) = self.newest()?;
            (root == wanted).then_some(())
        });
    }

    /// What the follower's gateway has under the name now.
    fn newest(&self) -> Option<(String, m3u8_rs::MediaPlaylist)> {
        let url = self.named("video/live.m3u8");
        let answer = self.mirror.enter(|| http::try_get(&url, &[])).ok()?;
        if answer.status != 200 {
            return None;
        }
        // All CIDs on the path, from the root on (the path gateway's specification).
        let root = answer.header("x-ipfs-roots")?.split(',').next()?;
        Some((format!("/ipfs/{root}"), hls::media_playlist(&answer.body)))
    }

    fn named(&self, file: &str) -> String {
        let gateway = self.mirror.enter(|| self.follower.gateway());
        format!("{gateway}/ipns/{}/{file}", self.podium.name())
    }

    /// How long after a segment of `video` is complete on the box the follower's gateway has sent it whole, for each that the box
    /// completes from now on, until `enough` have been read; asked on their own machines, by one clock, twenty times a second.
    ///
    /// # Panics
    /// Where the follower leaves one out, or sends other bytes than the box.
    pub fn delays(&self, mut enough: impl FnMut(usize) -> bool + Send) -> Vec<Duration> {
        let completed = self.boxed.enter(|| Completed::watch(&self.podium));
        let listed = (self.boxed).enter(|| last_number(&hls::live(&self.podium, "video")));
        let read = (self.mirror).enter(|| self.read_until(listed + 1, &mut enough));
        let wanted = (listed + 1..).take(read.len());
        let numbers: Vec<u64> = read.iter().map(|(number, ..)| *number).collect();
        assert_eq!(numbers, wanted.collect::<Vec<_>>(), "some are missing");
        self.boxed.enter(|| {
            for (number, _, bytes) in &read {
                let there = self.podium.live(&format!("video/{number}.m4s"));
                assert!(there.body == *bytes, "segment {number} is another one");
            }
        });
        // Of one that was complete before it could be seen, nobody knows when.
        let since = |at: SystemTime, number| at.duration_since(completed.at(number)?).ok();
        let delays = read
            .iter()
            .filter_map(|(number, at, _)| since(*at, *number));
        delays.collect()
    }

    /// Each segment from the `first` on as the follower's gateway sends it, and when it had.
    fn read_until(
        &self,
        first: u64,
        enough: &mut impl FnMut(usize) -> bool,
    ) -> Vec<(u64, SystemTime, Vec<u8>)> {
        let mut read = Vec::new();
        let mut next = first;
        while !enough(read.len()) {
            wait_for("the next segment at the follower", || {
                let (_, playlist) = self.newest()?;
                let before = next;
                let numbers = playlist.media_sequence..;
                for (number, segment) in numbers.zip(&playlist.segments) {
                    if number < next {
                        continue;
                    }
                    let url = self.named(&format!("video/{}", segment.uri));
                    let answer = http::get(&url);
                    assert_eq!(answer.status, 200, "{url}");
                    read.push((number, SystemTime::now(), answer.body));
                    next = number + 1;
                }
                (next > before).then_some(())
            });
        }
        read
    }
}

/// The number of the last segment. The box lists one before it says that it is live.
fn last_number(playlist: &m3u8_rs::MediaPlaylist) -> u64 {
    (playlist.media_sequence + playlist.segments.len() as u64).saturating_sub(1)
}

/// A row of the table of delays.
pub fn row(name: &str, delays: &[Duration]) -> String {
    let seconds = || delays.iter().map(Duration::as_secs_f64);
    let [p50, p95, max] = [0.5, 0.95, 1.0].map(|share| quantile(seconds(), share));
    let count = delays.len();
    format!("| {name} | {count} | {p50:.2} s | {p95:.2} s | {max:.2} s |")
}

/// The head of that table.
pub const HEAD: &str = "| follower | segments | p50 | p95 | max |\n|---|---|---|---|---|";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_made_of_nothing_too() {
        assert_eq!(row("nobody", &[]), "| nobody | 0 | NaN s | NaN s | NaN s |");
        let delays = [2, 1].map(Duration::from_secs);
        assert_eq!(
            row("two", &delays),
            "| two | 2 | 1.00 s | 2.00 s | 2.00 s |"
        );
    }
}
