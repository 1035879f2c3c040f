//! How far a follower on another machine is behind, over links of 50 ms and 2 % loss: from the moment that the box has a segment
//! complete until the follower's gateway has sent it whole. It fails where one is left out, or has other bytes.
//!
//! `make bench-network` measures for two minutes each (`S=30` for half a minute).

use std::time::{Duration, Instant};

use tests::follower::{HEAD, Kind, Scene, row};

fn main() {
    let seconds = std::env::args().find_map(|it| it.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(120));
    let mut rows = Vec::new();
    for (name, kind) in [("Kubo", Kind::Kubo), ("podium mirror", Kind::Mirror)] {
        for transport in ["tcp", "quic-v1"] {
            let Some(scene) = Scene::start(kind, &format!("/{transport}"), 1) else {
                continue;
            };
            let begun = Instant::now();
            let delays = scene.delays(|read| read > 0 && begun.elapsed() >= length);
            rows.push(row(&format!("{name}, {transport}"), &delays));
        }
    }
    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    {
        println!("{HEAD}\n{}", rows.join("\n"));
    }
}
