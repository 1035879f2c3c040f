//! The hardware's decoder of JPEG, for cards that compress their pictures. Where the kernel has one (`bcm2835-codec` on a Raspberry Pi up to
//! the 4), GStreamer ranks it above the one in software, so `decodebin` takes it. One that takes pictures and gives none is not
//! taken again in this life of the process, nor one that fails again and again.

use std::time::{Duration, Instant};

use gst::prelude::*;

const HARDWARE: &str = "v4l2jpegdec";

pub(crate) fn is_hardware(element: &gst::Element) -> bool {
    element.factory().is_some_and(|it| it.name() == HARDWARE)
}

/// Whether the hardware would decode: there is one, and it has not been given up.
pub(crate) fn hardware() -> bool {
    gst::ElementFactory::find(HARDWARE).is_some_and(|it| it.rank() > gst::Rank::NONE)
}

/// Whether the hardware decodes in this pipeline.
pub(crate) fn in_hardware(pipeline: &gst::Pipeline) -> bool {
    let mut elements = pipeline.iterate_recurse().into_iter().flatten();
    elements.any(|element| is_hardware(&element))
}

pub(crate) fn give_up_hardware() {
    if let Some(factory) = gst::ElementFactory::find(HARDWARE) {
        factory.set_rank(gst::Rank::NONE);
    }
}

/// In this time a decoder that otherwise works may fail once: over a bad cable it is given what no camera makes.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// When the hardware's decoder failed although it had given pictures.
#[derive(Debug, Default)]
pub(crate) struct Faults(Option<Instant>);

impl Faults {
    /// Whether it is taken again after a failure.
    pub(crate) fn forgives(&mut self, now: Instant) -> bool {
        let last = self.0.replace(now);
        last.is_none_or(|last| now.saturating_duration_since(last) >= FORGOTTEN)
    }
}

#[cfg(test)]
mod tests {
    use gst::glib;
    use gst::subclass::prelude::*;
    use std::path::Path;

    use super::*;
    use crate::capture::tests::captures;
    use crate::conductor::Input;
    use crate::{Event, Source, capture};

    #[test]
    fn one_failure_of_a_decoder_that_works_is_forgiven() {
        let start = Instant::now();
        let mut faults = Faults::default();
        let forgiven = [0, 59, 200, 261, 270].map(|second| {
            let now = start + Duration::from_secs(second);
            faults.forgives(now)
        });
        assert_eq!(forgiven, [true, false, true, true, false]);
    }

    /// The hardware's decoder as a driver that has wedged: it takes pictures and gives none.
    #[derive(Debug, Default)]
    struct Wedged;

    #[glib::object_subclass]
    impl ObjectSubclass for Wedged {
        const NAME: &'static str = "StandInV4l2JpegDec";
        type Type = Object;
        type ParentType = gst::Element;
    }

    glib::wrapper! {
        struct Object(ObjectSubclass<Wedged>) @extends gst::Element, gst::Object;
    }

    impl ObjectImpl for Wedged {
        fn constructed(&self) {
            self.parent_constructed();
            let templates = Wedged::pad_templates();
            let sink = gst::Pad::builder_from_template(&templates[0])
                .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
                .build();
            let source = gst::Pad::from_template(&templates[1]);
            self.obj().add_pad(&sink).unwrap();
            self.obj().add_pad(&source).unwrap();
        }
    }

    impl GstObjectImpl for Wedged {}

    impl ElementImpl for Wedged {
        fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
            static METADATA: std::sync::OnceLock<gst::subclass::ElementMetadata> =
                std::sync::OnceLock::new();
            Some(METADATA.get_or_init(|| {
                let class = "Codec/Decoder/Image/Hardware";
                gst::subclass::ElementMetadata::new("JPEG", class, "A wedged driver", "tests")
            }))
        }

        fn pad_templates() -> &'static [gst::PadTemplate] {
            static TEMPLATES: std::sync::OnceLock<Vec<gst::PadTemplate>> =
                std::sync::OnceLock::new();
            TEMPLATES.get_or_init(|| {
                let template = |name, direction, caps| {
                    let caps = gst::Caps::builder(caps).build();
                    gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).unwrap()
                };
                vec![
                    template("sink", gst::PadDirection::Sink, "image/jpeg"),
                    template("src", gst::PadDirection::Src, "video/x-raw"),
                ]
            })
        }
    }

    /// A recording as a card that compresses would give it.
    fn record(file: &Path) {
        let pipeline = capture::launch(&format!(
            "videotestsrc num-buffers=60 pattern=snow ! video/x-raw,width=320,height=180,framerate=30/1 ! jpegenc ! matroskamux ! filesink location={}",
            file.display()
        ))
        .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let ends = [gst::MessageType::Eos, gst::MessageType::Error];
        let bus = pipeline.bus().unwrap();
        let end = bus.timed_pop_filtered(gst::ClockTime::NONE, &ends).unwrap();
        assert_eq!(end.type_(), gst::MessageType::Eos);
        pipeline.set_state(gst::State::Null).unwrap();
    }

    #[test]
    fn a_decoder_in_hardware_that_gives_nothing_is_left_for_the_one_in_software() {
        gst::init().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jpeg.mkv");
        record(&file);
        // As GStreamer ranks it.
        let rank = gst::Rank::PRIMARY + 1;
        gst::Element::register(None, HARDWARE, rank, Object::static_type()).unwrap();
        assert!(hardware());
        let mut failures = Vec::new();
        captures(Source::File(file), |inputs, told| {
            let first = inputs.recv_timeout(Duration::from_secs(120));
            assert!(matches!(first, Ok(Input::Video { .. })), "{first:?}");
            failures.extend(
                std::iter::from_fn(|| told.try_recv().ok()).filter_map(|event| match event {
                    Event::CaptureFailed { why, .. } => Some(why),
                    _ => None,
                }),
            );
        });
        assert_eq!(
            failures.first().map(String::as_str),
            Some("the hardware's JPEG decoder gives nothing: in software from now on")
        );
        assert!(!hardware(), "formats are chosen without it");
    }
}
