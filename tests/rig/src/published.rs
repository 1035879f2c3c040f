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
        let pictures = self.brightness().into_iter();
        pictures.map(|(at, luma)| (at, kind(luma))).collect()
    }

    /// How bright the pictures of the last run are, mean luma, and when each is shown, seconds.
    pub fn brightness(&self) -> Vec<(f64, f64)> {
        judge::brightness(&self.file("video").display().to_string())
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
    /// only; from there on it is followed flash by flash, since a machine that holds up the sound makes programme time step against
    /// the card's. A flash that was lost on its way is left out.
    ///
    /// # Panics
    /// Where no row fits.
    pub fn matched(&self, sent: &[Flash]) -> Vec<(f64, Flash)> {
        let published = self.flashes();
        let nearest = |at: f64, near: f64| -> Option<Flash> {
            let distance = |flash: &&Flash| (at - flash.sent).abs();
            let found = sent
                .iter()
                .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
            (distance(&found) < near).then_some(*found)
        };
        let length = ROW.min(published.len()).min(sent.len());
        let rows = published.windows(length.max(1)).enumerate();
        let places = rows.flat_map(|(begin, row)| {
            let fit = |shift: f64| {
                let fits = |at: &&f64| nearest(**at - shift, NEAR).is_some();
                row.iter().filter(fits).count()
            };
            let shifts = sent.iter().map(move |flash| row[0] - flash.sent);
            shifts.map(move |shift| (fit(shift), begin, shift))
        });
        let (fit, begin, shift) = places.max_by_key(|place| place.0).unwrap_or_default();
        // Of a row that belongs elsewhere a fifth fits.
        assert!(
            fit > 0 && fit * 4 >= length * 3,
            "{published:?} is not {sent:?}"
        );
        let follow = |shift: &mut f64, &at: &f64| {
            let found = nearest(at - *shift, SAME);
            *shift = found.map_or(*shift, |flash| at - flash.sent);
            Some(found.map(|flash| (at, flash)))
        };
        let (before, after) = published.split_at(begin);
        let mut pairs: Vec<_> = before.iter().rev().scan(shift, follow).flatten().collect();
        pairs.reverse();
        pairs.extend(after.iter().scan(shift, follow).flatten());
        pairs
    }
}

/// Flashes in a row that is looked for.
const ROW: usize = 12;
/// A row of flashes fits where they are this close, seconds: their distances differ by multiples of 50 ms.
const NEAR: f64 = 0.02;
/// Half the least distance of two flashes, less a little: closer than this they are the same one.
const SAME: f64 = 0.3;
