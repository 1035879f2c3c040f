//! Pipelines that are taken down on threads of their own: a driver that hangs must not take what comes next with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gst::prelude::*;

/// A driver on which so many hang is left alone: each next one would cost a thread and its buffers, too.
const MOST: usize = 2;

/// How many are being taken down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing(Arc<AtomicUsize>);

impl Closing {
    pub(crate) fn close(&self, pipeline: &gst::Pipeline) {
        let (pipeline, under_way) = (pipeline.clone(), self.0.clone());
        under_way.fetch_add(1, Ordering::Relaxed);
        std::thread::spawn(move || {
            let _ = pipeline.set_state(gst::State::Null);
            under_way.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Whether one of ours may have the device still.
    pub(crate) fn is_under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Whether as many as may hang are under way.
    pub(crate) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MOST
    }
}
