//! Programme: raw pictures and samples in, H.264 access units and AAC frames out. Not live, never stops while on air.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use gst::prelude::*;
use stream::encoder::{Encoder, Job};
use stream::media::{
    AAC_FRAME, AccessUnit, AudioConfig, AudioFrame, Rendition, SAMPLE_RATE, VideoConfig,
};
use stream::stuck::Progress;
use tokio::sync::mpsc;

use crate::capture::describe;
use crate::matrix::Matrix;
use crate::slate::raw_video_caps;
use crate::{Config, Event, LowVideo, Source};

/// Raw pictures that may wait for the encoder: those of a second. More means that it does not keep up. Fewer, and the slates
/// that replace lost pictures, all of `stream::timeline::LOSS` at once, would push each other out.
fn queue_pictures(config: &Config) -> u64 {
    u64::from(config.fps).max(30)
}

/// Raw pictures that wait for one of two encoders: enough for one of them to be a keyframe behind, and few beside those that
/// wait for both.
const TEE_PICTURES: u32 = 4;

/// From raw pictures to access units in the appsink `{rendition}-out`. Each encoder has a parser of its own: two branches that share one
/// behind a `tee` have to agree on avc or byte-stream, and do not (not-negotiated, `facts/gstreamer`, 6).
fn encoder(rendition: Rendition, encoder: Encoder, job: &Job, segment: Duration) -> String {
    let name = rendition.name();
    let element = match encoder {
        Encoder::V4l2h264enc => crate::encoder::v4l2(job),
        Encoder::X264enc(preset) => crate::encoder::x264(job, preset, segment),
    };
    format!(
        "{element} name={name}-encoder ! {} ! h264parse ! video/x-h264,stream-format=avc,alignment=au ! appsink name={name}-out async=false sync=false max-buffers=60",
        crate::encoder::caps(encoder, job)
    )
}

/// All encoders of the picture. They get the same pictures and requests for keyframes from one queue, so that what it loses
/// is lost for all.
fn encoders(config: &Config) -> String {
    let encoder = |rendition, kbps, (width, height)| {
        let job = Job {
            width,
            height,
            fps: config.fps,
            kbps,
        };
        encoder(rendition, config.encoder.encoder, &job, config.segment)
    };
    let size = (config.width, config.height);
    let video = encoder(Rendition::Video, config.video_bitrate_kbps, size);
    let Some(low) = config.low else {
        return video;
    };
    let LowVideo { width, height, .. } = low;
    let low = encoder(Rendition::Low, low.bitrate_kbps, (width, height));
    let queue = |rendition: Rendition| {
        let name = rendition.name();
        format!(
            "queue name={name}-queue max-size-buffers={TEE_PICTURES} max-size-bytes=0 max-size-time=0"
        )
    };
    let (video_queue, low_queue) = (queue(Rendition::Video), queue(Rendition::Low));
    // The configuration refuses another shape than that of the video; what is left is rounding, and needs no border.
    format!(
        "tee name=pictures ! {video_queue} ! {video} \
         pictures. ! {low_queue} ! videoscale add-borders=false ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 ! {low}"
    )
}

/// How long an AAC frame lasts.
const AAC_FRAME_TIME: Duration =
    Duration::from_nanos(AAC_FRAME * 1_000_000_000 / SAMPLE_RATE as u64);

/// An AAC encoder and by how many samples what it plays is behind what it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AacEncoder {
    element: &'static str,
    /// Properties: avenc_aac's default takes three times the processor time of `fast`, which ffmpeg calls better at our rates, and
    /// which is nearer to what it was given (`asdr`: 77 and 91 against 64 dB for a talk at 128 kbit/s).
    options: &'static str,
    /// Samples that the decoder plays before the first one that was given (measured, `facts/gstreamer`, 3).
    priming: u64,
}

impl AacEncoder {
    const KNOWN: [AacEncoder; 2] = [
        AacEncoder {
            element: "avenc_aac",
            options: "aac-coder=fast",
            priming: 1024,
        },
        AacEncoder {
            element: "voaacenc",
            options: "",
            priming: 1600,
        },
    ];

    pub(crate) fn find() -> Option<AacEncoder> {
        AacEncoder::KNOWN
            .into_iter()
            .find(|encoder| crate::is_there(encoder.element))
    }

    fn priming(self) -> Duration {
        Duration::from_nanos(self.priming * 1_000_000_000 / u64::from(SAMPLE_RATE))
    }
}

/// How far one encoder has come, as its two ends see it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    given: AtomicU64,
    made: AtomicU64,
    held: AtomicBool,
}

/// One of a programme's encoders, as the conductor watches it.
#[derive(Debug)]
struct Watched {
    rendition: Rendition,
    counts: Arc<Counts>,
    /// Before each of two encoders of the picture.
    queue: Option<gst::Element>,
}

impl Watched {
    fn new(pipeline: &gst::Pipeline, rendition: Rendition) -> Watched {
        Watched {
            rendition,
            counts: Arc::default(),
            queue: pipeline.by_name(&format!("{}-queue", rendition.name())),
        }
    }

    fn progress(&self) -> Progress {
        // Where one of two encoders hangs, nothing gets past the tee: the other one has nothing to do.
        let starved = (self.queue.as_ref())
            .is_some_and(|queue| queue.property::<u32>("current-level-buffers") == 0);
        Progress {
            given: self.counts.given.load(Relaxed),
            made: self.counts.made.load(Relaxed),
            held: starved || self.counts.held.load(Relaxed),
        }
    }
}

pub(crate) struct Programme {
    pipeline: gst::Pipeline,
    /// Of the video.
    encoder: gst::Element,
    pub(crate) kind: Encoder,
    /// Of its pictures.
    pub(crate) matrix: Matrix,
    video: gst_app::AppSrc,
    audio: gst_app::AppSrc,
    encoders: Vec<Watched>,
    queue: u64,
    /// The last picture was left out.
    skipped: bool,
    pub(crate) run: u64,
}

impl Drop for Programme {
    fn drop(&mut self) {
        // Callbacks may be waiting for a busy loop; the conductor must not wait with them.
        let pipeline = self.pipeline.clone();
        std::thread::spawn(move || {
            let _ = pipeline.set_state(gst::State::Null);
        });
    }
}

impl Programme {
    /// Builds and starts the pipeline; `gone` is called once when it has ended or failed by itself.
    pub(crate) fn start(
        config: &Config,
        matrix: Matrix,
        run: u64,
        events: &mpsc::Sender<Event>,
        gone: impl Fn() + Send + Sync + 'static,
    ) -> Result<Programme, String> {
        let aac = AacEncoder::find().ok_or("no AAC encoder")?;
        let queue = queue_pictures(config);
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=video-feed format=time max-buffers={queue} max-bytes=0 max-time=0 leaky-type=downstream caps=\"{},framerate={}/1\" \
             ! {} \
             appsrc name=audio-feed format=time caps=audio/x-raw,format=S16LE,rate={SAMPLE_RATE},channels=2,layout=interleaved \
             ! audioconvert ! {} {} bitrate={} ! aacparse ! audio/mpeg,mpegversion=4,stream-format=raw ! appsink name=audio-out async=false sync=false max-buffers=200",
            raw_video_caps(config, matrix),
            config.fps,
            encoders(config),
            aac.element,
            aac.options,
            config.audio_bitrate_kbps * 1000,
        ))
        .map_err(|error| error.message().to_owned())?
        .downcast::<gst::Pipeline>()
        .map_err(|_| "not a pipeline".to_owned())?;
        let source = |name: &str| -> Result<gst_app::AppSrc, String> {
            let element = pipeline.by_name(name).ok_or("no appsrc")?;
            element.downcast().map_err(|_| "not an appsrc".to_owned())
        };
        let (video, audio) = (source("video-feed")?, source("audio-feed")?);
        let mut encoders = vec![Watched::new(&pipeline, Rendition::Video)];
        encoders.extend((config.low).map(|_| Watched::new(&pipeline, Rendition::Low)));
        for encoder in &encoders {
            let counts = encoder.counts.clone();
            connect_video(&pipeline, run, encoder.rendition, counts, events)?;
        }
        let sound = Watched::new(&pipeline, Rendition::Audio);
        let bitrate = config.audio_bitrate_kbps * 1000;
        let counts = sound.counts.clone();
        connect_audio(&pipeline, run, bitrate, aac.priming(), counts, events)?;
        encoders.push(sound);
        let encoder = pipeline
            .by_name(&format!("{}-encoder", Rendition::Video.name()))
            .ok_or("no encoder")?;
        if let Source::Signal(signal) = &config.source {
            signal.break_encoder(&encoder, run)?;
        }
        watch(&pipeline, run, events, gone)?;
        let programme = Programme {
            pipeline,
            encoder,
            kind: config.encoder.encoder,
            matrix,
            encoders,
            video,
            audio,
            queue,
            skipped: false,
            run,
        };
        // Where it fails, what has started already is taken down.
        (programme.pipeline)
            .set_state(gst::State::Playing)
            .map_err(|_| "the encoder does not start".to_owned())?;
        Ok(programme)
    }

    /// Encodes a picture, as a keyframe if asked. Returns how many pictures that costs: an encoder that is half a queue behind
    /// gets every other one, so that none has to last longer than two, and a queue that is full nevertheless loses its oldest.
    pub(crate) fn push_video(&mut self, buffer: gst::Buffer, keyframe: bool) -> u64 {
        let waiting = self.video.current_level_buffers();
        self.skipped = waiting >= self.queue / 2 && !keyframe && !self.skipped;
        if self.skipped {
            return 1;
        }
        if keyframe {
            let event = gst_video::DownstreamForceKeyUnitEvent::builder()
                .all_headers(true)
                .build();
            self.video.send_event(event);
        }
        self.given(|rendition| rendition != Rendition::Audio);
        // An error here is also on the bus.
        let _ = self.video.push_buffer(buffer);
        u64::from(waiting >= self.queue)
    }

    pub(crate) fn push_audio(&self, buffer: gst::Buffer) {
        self.given(|rendition| rendition == Rendition::Audio);
        let _ = self.audio.push_buffer(buffer);
    }

    fn given(&self, to: impl Fn(Rendition) -> bool) {
        for encoder in self.encoders.iter().filter(|it| to(it.rendition)) {
            encoder.counts.given.fetch_add(1, Relaxed);
        }
    }

    /// Of the video, from one of the next pictures on. The encoder scales its buffer (VBV) along, and its parameter sets stay.
    pub(crate) fn set_video_bitrate(&self, kbps: u32) {
        match self.kind {
            Encoder::V4l2h264enc => crate::encoder::set_v4l2_bitrate(&self.encoder, kbps),
            Encoder::X264enc(_) => self.encoder.set_property("bitrate", kbps),
        }
    }

    /// How far each encoder has come.
    pub(crate) fn progress(&self) -> impl Iterator<Item = (Rendition, Progress)> {
        (self.encoders.iter()).map(|encoder| (encoder.rendition, encoder.progress()))
    }

    /// Whether an encoder of the picture has made nothing yet.
    pub(crate) fn barren(&self) -> bool {
        (self.progress())
            .any(|(rendition, progress)| rendition != Rendition::Audio && progress.made == 0)
    }

    pub(crate) fn end(&self) {
        let _ = self.video.end_of_stream();
        let _ = self.audio.end_of_stream();
    }
}

/// Ends and errors come on GStreamer's threads; the conductor and the loop hear of them.
fn watch(
    pipeline: &gst::Pipeline,
    run: u64,
    events: &mpsc::Sender<Event>,
    gone: impl Fn() + Send + Sync + 'static,
) -> Result<(), String> {
    let events = events.clone();
    let bus = pipeline.bus().ok_or("the pipeline has no bus")?;
    bus.set_sync_handler(move |_, message| {
        let event = match message.view() {
            gst::MessageView::Eos(_) => Event::ProgrammeEnded { run },
            gst::MessageView::Error(error) => Event::ProgrammeFailed {
                run,
                why: describe(error),
            },
            _ => return gst::BusSyncReply::Drop,
        };
        // Before the loop has the programme dropped: what has failed is known by then.
        gone();
        // The loop may be busy, and this the conductor's thread, where the pipeline fails while it starts.
        let events = events.clone();
        std::thread::spawn(move || {
            let _ = events.blocking_send(event);
        });
        gst::BusSyncReply::Drop
    });
    Ok(())
}

/// What the encoder made: its caps, running time and bytes, without a copy.
struct Encoded {
    caps: gst::Caps,
    /// Absent if the encoder did not say.
    pts: Option<Duration>,
    keyframe: bool,
    data: Bytes,
}

fn pull(sink: &gst_app::AppSink) -> Result<Encoded, gst::FlowError> {
    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
    let read = || -> Option<Encoded> {
        let buffer = sample.buffer_owned()?;
        // x264enc shifts its timestamps by 1000 h and says so in the segment: only running time means anything.
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let pts = buffer.pts().and_then(|pts| segment.to_running_time(pts));
        let keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        Some(Encoded {
            caps: sample.caps_owned()?,
            pts: pts.map(Into::into),
            keyframe,
            data: Bytes::from_owner(buffer.into_mapped_buffer_readable().ok()?),
        })
    };
    read().ok_or(gst::FlowError::Error)
}

fn codec_data(caps: &gst::CapsRef) -> Option<Bytes> {
    let buffer = caps.structure(0)?.get::<gst::Buffer>("codec_data").ok()?;
    let map = buffer.map_readable().ok()?;
    Some(Bytes::copy_from_slice(&map))
}

fn sink(pipeline: &gst::Pipeline, name: &str) -> Result<gst_app::AppSink, String> {
    let element = pipeline.by_name(name).ok_or("no appsink")?;
    element.downcast().map_err(|_| "not an appsink".to_owned())
}

/// Sends to the loop, waiting while it is busy: that is what holds the encoder back.
fn send(events: &mpsc::Sender<Event>, counts: &Counts, event: Event) -> Result<(), gst::FlowError> {
    counts.held.store(true, Relaxed);
    let sent = events.blocking_send(event).map_err(|_| gst::FlowError::Eos);
    counts.held.store(false, Relaxed);
    sent
}

pub(crate) fn connect_video(
    pipeline: &gst::Pipeline,
    run: u64,
    rendition: Rendition,
    counts: Arc<Counts>,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let events = events.clone();
    let mut known: Option<gst::Caps> = None;
    sink(pipeline, &format!("{}-out", rendition.name()))?.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let encoded = pull(sink)?;
                counts.made.fetch_add(1, Relaxed);
                if known.as_ref() != Some(&encoded.caps) {
                    let config =
                        video_config(&encoded.caps).ok_or(gst::FlowError::NotNegotiated)?;
                    let event = Event::VideoConfig {
                        run,
                        rendition,
                        config,
                    };
                    send(&events, &counts, event)?;
                    known = Some(encoded.caps);
                }
                let event = match encoded.pts {
                    Some(pts) => Event::Video {
                        run,
                        rendition,
                        unit: AccessUnit {
                            pts,
                            keyframe: encoded.keyframe,
                            data: encoded.data,
                        },
                    },
                    None => Event::Unplaceable { run },
                };
                send(&events, &counts, event)?;
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(())
}

fn video_config(caps: &gst::CapsRef) -> Option<VideoConfig> {
    let structure = caps.structure(0)?;
    Some(VideoConfig {
        avcc: codec_data(caps)?,
        width: structure.get::<i32>("width").ok()?.try_into().ok()?,
        height: structure.get::<i32>("height").ok()?.try_into().ok()?,
    })
}

/// `bitrate` is in bits a second; `priming` is how much later what is heard is than what was given.
pub(crate) fn connect_audio(
    pipeline: &gst::Pipeline,
    run: u64,
    bitrate: u32,
    priming: Duration,
    counts: Arc<Counts>,
    events: &mpsc::Sender<Event>,
) -> Result<(), String> {
    let events = events.clone();
    let mut configured = false;
    let mut next: Option<Duration> = None;
    sink(pipeline, "audio-out")?.set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let encoded = pull(sink)?;
                counts.made.fetch_add(1, Relaxed);
                if !configured {
                    let config = AudioConfig {
                        audio_specific_config: codec_data(&encoded.caps)
                            .ok_or(gst::FlowError::NotNegotiated)?,
                        channels: 2,
                        bitrate,
                    };
                    send(&events, &counts, Event::AudioConfig { run, config })?;
                    configured = true;
                }
                // A frame that does not say where it belongs follows the one before.
                let event = match encoded.pts.or(next) {
                    Some(pts) => {
                        next = Some(pts + AAC_FRAME_TIME);
                        Event::Audio {
                            run,
                            frame: AudioFrame {
                                pts: pts.saturating_sub(priming),
                                data: encoded.data,
                            },
                        }
                    }
                    None => Event::Unplaceable { run },
                };
                send(&events, &counts, event)?;
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(())
}

#[cfg(test)]
mod tests;
