//! A card's sound that is left out is tried beside the pictures, which go on meanwhile.

use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use gst::prelude::*;

use super::{End, launch, set};
use crate::closing::Closing;

/// What gives nothing in this time gives nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// One try, on a thread of its own: a driver may take its time to refuse.
#[derive(Debug)]
pub(super) struct Try {
    result: Receiver<Result<(), End>>,
    /// A life of ours may have the device still: that it is busy says nothing of others.
    ours: bool,
}

impl Try {
    pub(super) fn begin(device: &str, closing: &Closing) -> Try {
        let (device, (sender, result)) = (device.to_owned(), sync_channel(1));
        let ours = closing.is_under_way();
        std::thread::spawn(move || {
            let _ = sender.send(listen(&device));
        });
        Try { result, ours }
    }

    /// `None` until it is known.
    pub(super) fn result(&self) -> Option<Result<(), End>> {
        let result = match self.result.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the try broke off".into()),
        };
        Some(result.map_err(|end| match end {
            End::NoSound { why, .. } if self.ours => End::NoSound {
                why,
                refused: false,
            },
            end => end,
        }))
    }
}

/// Captures until something comes.
fn listen(device: &str) -> Result<(), End> {
    let pipeline = launch("alsasrc name=sound num-buffers=1 ! fakesink")?;
    set(&pipeline, "sound", "device", device)?;
    let bus = pipeline.bus().ok_or("no bus")?;
    let _ = pipeline.set_state(gst::State::Playing);
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let patience = gst::ClockTime::try_from(PATIENCE).unwrap_or(gst::ClockTime::SECOND);
    let end = bus.timed_pop_filtered(patience, &ends);
    let _ = pipeline.set_state(gst::State::Null);
    match end.as_ref().map(|end| end.view()) {
        Some(gst::MessageView::Error(error)) => Err(error.into()),
        Some(_) => Ok(()),
        None => Err(End::NoSound {
            why: "it gives none: pull the card out and put it in again".into(),
            refused: false,
        }),
    }
}
