//! What the box has published of a broadcast, as ffmpeg decodes it. All times are the stream's own.

use std::path::PathBuf;

use tempfile::TempDir;
use tests::{hls, judge};

use crate::Rig;
use crate::protocol::Flash;

/// Mean luma of pictures: the slate is darker than the bar's pictures (90), the flash brighter (235).
const SLATE: f64 = 75.0;
const FLASH: f64 = 160.0;

/// A broadcast, or its last continuity run.
#[derive(Debug)]
pub struct Published {
    files: TempDir,
    /// How many continuity runs there were.
    pub runs: usize,
}

/// What a picture of the card's own pattern shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Picture {
    Bar,
    Flash,
    Slate,
}

impl Published {
    pub(crate) fn fetch(rig: &mut Rig) -> Published {
        let node = rig.status()["node"].clone();
        assert_eq!(node["root_is_vod"], true, "the broadcast has ended");
        let root = node["root"].as_str().expect("a CID").to_owned();
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        let mut runs = 0;
        for rendition in ["video", "audio"] {
            let base = format!("/ipfs/{root}/{rendition}");
            let mut get = |path: &str| {
                let (status, body) = rig.get("viewer", &format!("{base}/{path}"));
                assert_eq!(status, 200, "{path}");
                body
            };
            let playlist = hls::media_playlist(&get("vod.m3u8"));
            let mut bytes = Vec::new();
            runs = 0;
            for segment in &playlist.segments {
                if let Some(init) = &segment.map {
                    runs += 1;
                    bytes = get(&init.uri);
                }
                bytes.extend(get(&segment.uri));
            }
            std::fs::write(files.path().join(rendition), bytes).expect("it can be written");
        }
        Published { files, runs }
    }

    /// The last run of a rendition in one file.
    pub fn file(&self, rendition: &str) -> PathBuf {
        self.files.path().join(rendition)
    }

    /// The pictures of the last run, and when each is shown, seconds.
    pub fn pictures(&self) -> Vec<(f64, Picture)> {
        let kind = |luma| match luma {
            ..SLATE => Picture::Slate,
            FLASH.. => Picture::Flash,
            _ => Picture::Bar,
        };
        let file = self.file("video").display().to_string();
        let pictures = judge::brightness(&file).into_iter();
        pictures.map(|(at, luma)| (at, kind(luma))).collect()
    }

    /// When flashes begin, seconds.
    pub fn flashes(&self) -> Vec<f64> {
        let pictures = self.pictures();
        let pairs = pictures.windows(2);
        pairs
            .filter(|pair| pair[1].1 == Picture::Flash && pair[0].1 != Picture::Flash)
            .map(|pair| pair[1].0)
            .collect()
    }

    /// When beeps begin, seconds.
    pub fn beeps(&self) -> Vec<f64> {
        judge::beeps(&self.file("audio").display().to_string())
    }

    /// The published flashes with what the card did. The card's flashes have uneven distances, so a row of them fits in one place
    /// only. A flash that was lost on its way is left out. Where the machine held up the sound, the stream's time steps against the
    /// card's by up to a tenth of a second or two (seen), so a quarter of a long row has to fit, and the rest to be near.
    ///
    /// # Panics
    /// Where it fits nowhere.
    pub fn matched(&self, sent: &[Flash]) -> Vec<(f64, Flash)> {
        let published = self.flashes();
        let pairs = |shift: f64, near: f64| -> Vec<(f64, Flash)> {
            let partner = |&at: &f64| {
                let distance = |flash: &Flash| (at - shift - flash.sent).abs();
                let nearest = sent
                    .iter()
                    .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
                (distance(nearest) < near).then_some((at, *nearest))
            };
            published.iter().filter_map(partner).collect()
        };
        let shifts = published
            .iter()
            .flat_map(|at| sent.iter().map(move |flash| at - flash.sent));
        let shift = shifts
            .max_by_key(|&shift| pairs(shift, NEAR).len())
            .unwrap_or_default();
        let fit = pairs(shift, NEAR).len();
        let enough = published.len().min(sent.len());
        // Of one that belongs elsewhere one flash in ten or so fits.
        assert!(
            fit > 0 && fit * 4 >= enough && fit * 2 >= enough.min(10),
            "{published:?} is not {sent:?}"
        );
        pairs(shift, SAME)
    }
}

/// A row of flashes fits where they are this close, seconds: their distances differ by multiples of 50 ms.
const NEAR: f64 = 0.02;
/// Half the least distance of two flashes, less a little: closer than this they are the same one.
const SAME: f64 = 0.3;
