//! What the sync self-test sees and hears: the brightness of each picture and the loudness of each millisecond, out of the
//! buffers that pass through the conductor anyway.

use std::time::Duration;

use stream::media::SAMPLE_RATE;
use stream::self_test::{Observation, Picture, Sound};
use tokio::sync::mpsc;

use crate::Event;
use crate::conductor::SAMPLE_BYTES;
use crate::picture::luma_grid;

/// Samples of a millisecond.
const WINDOW: usize = SAMPLE_RATE as usize / 1000;

/// An observation is told when it has this much sound, or as many pictures: ten times a second for either.
const SOUNDS: usize = 100;
const PICTURES: usize = 6;

/// A loop that is busy for longer than some seconds loses observations, not memory.
const MOST: usize = 5000;

#[derive(Debug, Default)]
pub(crate) struct Observer {
    observation: Observation,
}

impl Observer {
    /// Another life of the capture has other timestamps: what is left of the last one is worth nothing.
    fn of(&mut self, generation: u64) -> &mut Observation {
        let full = self
            .observation
            .pictures
            .len()
            .max(self.observation.sounds.len())
            > MOST;
        if full || self.observation.generation != generation {
            self.observation = Observation {
                generation,
                ..Observation::default()
            };
        }
        &mut self.observation
    }

    pub(crate) fn picture(
        &mut self,
        generation: u64,
        at: Duration,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
    ) {
        if let Some(grid) = luma_grid(buffer, info) {
            let luma = grid.mean() as u8;
            self.of(generation).pictures.push(Picture { at, luma });
        }
    }

    pub(crate) fn sound(&mut self, generation: u64, at: Duration, buffer: &gst::Buffer) {
        let Ok(map) = buffer.map_readable() else {
            return;
        };
        let sounds = &mut self.of(generation).sounds;
        for (window, bytes) in map.chunks(WINDOW * SAMPLE_BYTES).enumerate() {
            let (samples, _) = bytes.as_chunks::<2>();
            let peak = samples
                .iter()
                .map(|sample| i16::from_le_bytes(*sample).unsigned_abs())
                .max();
            sounds.push(Sound {
                at: at + Duration::from_millis(window as u64),
                peak: peak.unwrap_or(0),
            });
        }
    }

    pub(crate) fn report(&mut self, events: &mpsc::Sender<Event>) {
        let waiting = &self.observation;
        if waiting.sounds.len() < SOUNDS && waiting.pictures.len() < PICTURES {
            return;
        }
        if let Ok(place) = events.try_reserve() {
            let generation = waiting.generation;
            let observation = std::mem::take(&mut self.observation);
            self.observation.generation = generation;
            place.send(Event::Observed(observation));
        }
    }
}
