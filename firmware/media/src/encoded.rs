//! What is encoded already, published as it is: a recording's access units and AAC frames at the speed of the clock, without
//! capture, conductor and encoder. It takes their place behind [`Media`](crate::Media), and is there for measurements: what the box
//! costs without its encoder, and against others that get the same file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use gst::prelude::*;
use stream::media::Rendition;
use stream::status::Signal;
use tokio::sync::mpsc;

use crate::capture::{describe, launch, preroll};
use crate::programme::{self, Counts};
use crate::{Control, Event};

/// How often the thread looks at `stop` and at the bus.
const POLL: Duration = Duration::from_millis(50);

/// One playing of the file.
struct Playing {
    pipeline: gst::Pipeline,
    run: u64,
    /// Its end was asked for.
    ending: bool,
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Callbacks may be waiting for a busy loop; this thread must not wait with them.
        let pipeline = self.pipeline.clone();
        std::thread::spawn(move || {
            let _ = pipeline.set_state(gst::State::Null);
        });
    }
}

/// Obeys until `stop`. Mute, bitrate and trim have nothing to act on.
pub(crate) fn run(
    file: &Path,
    commands: &Receiver<Control>,
    events: &mpsc::Sender<Event>,
    stop: &AtomicBool,
) {
    let _ = events.blocking_send(Event::Signal(Signal::Ok));
    let mut playing: Option<Playing> = None;
    while !stop.load(Ordering::Relaxed) {
        match commands.recv_timeout(POLL) {
            Ok(Control::Start { run }) => {
                playing = None;
                match start(file, run, events) {
                    Ok(started) => playing = Some(started),
                    Err(why) => failed(events, run, why),
                }
            }
            Ok(Control::End) => {
                if let Some(playing) = &mut playing {
                    playing.ending = true;
                    playing.pipeline.send_event(gst::event::Eos::new());
                }
            }
            Ok(Control::Drop) => playing = None,
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if let Some(over) = playing.take_if(|playing| finished(playing, events)) {
            drop(over);
        }
    }
}

/// Whether it is over, which the loop has been told then.
fn finished(playing: &Playing, events: &mpsc::Sender<Event>) -> bool {
    let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = (playing.pipeline.bus()).and_then(|bus| bus.pop_filtered(&kinds));
    let run = playing.run;
    match message.as_ref().map(|message| message.view()) {
        None => return false,
        Some(gst::MessageView::Error(error)) => failed(events, run, describe(error)),
        Some(_) if playing.ending => {
            let events = events.clone();
            std::thread::spawn(move || drop(events.blocking_send(Event::ProgrammeEnded { run })));
        }
        // From its beginning again, as after every failure.
        Some(_) => failed(events, run, "the recording has ended".into()),
    }
    true
}

fn failed(events: &mpsc::Sender<Event>, run: u64, why: String) {
    // The loop may be waiting for this thread at this moment.
    let events = events.clone();
    std::thread::spawn(move || drop(events.blocking_send(Event::ProgrammeFailed { run, why })));
}

/// Reads the first picture and sound, so that a missing or unfit recording is named at the start. A decoder, which would stay in
/// memory, is not needed for that.
pub(crate) fn check(file: &Path) -> Result<(), String> {
    std::fs::File::open(file).map_err(|error| error.to_string())?;
    preroll(&pipeline(file, "queue !", "fakesink", "fakesink")?)
}

/// Both streams of a file, each to a sink of its own.
fn pipeline(file: &Path, feed: &str, video: &str, audio: &str) -> Result<gst::Pipeline, String> {
    let pipeline = launch(&format!(
        "filesrc name=file ! qtdemux name=streams \
         streams.video_0 ! {feed} h264parse ! video/x-h264,stream-format=avc,alignment=au ! {video} \
         streams.audio_0 ! {feed} aacparse ! audio/mpeg,mpegversion=4,stream-format=raw ! {audio}"
    ))?;
    let source = pipeline.by_name("file").ok_or("element is missing")?;
    source.set_property("location", &*file.to_string_lossy());
    Ok(pipeline)
}

fn start(file: &Path, run: u64, events: &mpsc::Sender<Event>) -> Result<Playing, String> {
    let playing = Playing {
        // One thread for both, which an MP4's order allows: sinks that wait for each other's first buffer would stop it.
        pipeline: pipeline(
            file,
            "",
            "appsink name=video-out async=false max-buffers=60",
            "appsink name=audio-out async=false max-buffers=200",
        )?,
        run,
        ending: false,
    };
    let pipeline = &playing.pipeline;
    let counts = || Arc::new(Counts::default());
    programme::connect_video(pipeline, run, Rendition::Video, counts(), events)?;
    // The demuxer leaves the encoder's delay out already, as the file's edit list tells.
    programme::connect_audio(pipeline, run, BITRATE, Duration::ZERO, counts(), events)?;
    pipeline
        .set_state(gst::State::Playing)
        .map_err(|_| "the recording cannot be opened".to_owned())?;
    Ok(playing)
}

/// Of the sound, as its configuration says it; players do not look.
const BITRATE: u32 = 128_000;

#[cfg(test)]
mod tests;
