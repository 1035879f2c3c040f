use std::sync::mpsc::sync_channel;
use std::sync::{Condvar, MutexGuard, OnceLock, PoisonError};

use gst::glib;
use gst::subclass::prelude::*;

use super::*;

/// Opened cards that hang, and whether they go on doing so.
#[derive(Debug, Default)]
struct Hanging {
    opened: usize,
    released: bool,
}

static HANGING: std::sync::Mutex<Hanging> = std::sync::Mutex::new(Hanging {
    opened: 0,
    released: false,
});
static RELEASED: Condvar = Condvar::new();

fn hanging() -> MutexGuard<'static, Hanging> {
    HANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A card in the place of `v4l2src`, which does what its device is called.
#[derive(Debug, Default)]
struct StandIn {
    device: OnceLock<String>,
}

#[glib::object_subclass]
impl ObjectSubclass for StandIn {
    const NAME: &'static str = "StandInV4l2Src";
    type Type = Object;
    type ParentType = gst::Bin;
}

glib::wrapper! {
    struct Object(ObjectSubclass<StandIn>) @extends gst::Bin, gst::Element, gst::Object;
}

impl ObjectImpl for StandIn {
    fn constructed(&self) {
        self.parent_constructed();
        let template = &StandIn::pad_templates()[0];
        let pad = gst::GhostPad::builder_from_template(template).build();
        self.obj().add_pad(&pad).unwrap();
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: OnceLock<Vec<glib::ParamSpec>> = OnceLock::new();
        PROPERTIES.get_or_init(|| vec![glib::ParamSpecString::builder("device").build()])
    }

    fn set_property(&self, _id: usize, value: &glib::Value, _property: &glib::ParamSpec) {
        let device: String = value.get().unwrap();
        let inside = "videotestsrc is-live=true \
             ! capsfilter caps=video/x-raw,format=I420,framerate=30/1,width=320,height=180";
        let inside = gst::parse::bin_from_description(inside, true).unwrap();
        self.obj().add(&inside).unwrap();
        let pad = self.obj().static_pad("src").unwrap();
        let pad: gst::GhostPad = pad.downcast().unwrap();
        pad.set_target(inside.static_pad("src").as_ref()).unwrap();
        self.device.set(device).unwrap();
    }
}

impl GstObjectImpl for StandIn {}

impl ElementImpl for StandIn {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: OnceLock<gst::subclass::ElementMetadata> = OnceLock::new();
        Some(METADATA.get_or_init(|| {
            gst::subclass::ElementMetadata::new("Card", "Source/Video", "A stand-in", "tests")
        }))
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: OnceLock<Vec<gst::PadTemplate>> = OnceLock::new();
        TEMPLATES.get_or_init(|| {
            let (direction, presence) = (gst::PadDirection::Src, gst::PadPresence::Always);
            vec![gst::PadTemplate::new("src", direction, presence, &gst::Caps::new_any()).unwrap()]
        })
    }

    fn change_state(
        &self,
        change: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match (change, self.device.get().map(String::as_str)) {
            (gst::StateChange::PausedToPlaying, Some(HANGS)) => {
                hanging().opened += 1;
                gst::element_imp_error!(self, gst::ResourceError::Read, ["gone"]);
                gst::element_imp_error!(self, gst::ResourceError::Read, ["gone"]);
            }
            (gst::StateChange::ReadyToNull, Some(HANGS)) => {
                let held = RELEASED.wait_while(hanging(), |it| !it.released);
                drop(held.unwrap_or_else(PoisonError::into_inner));
            }
            _ => {}
        }
        self.parent_change_state(change)
    }
}

impl BinImpl for StandIn {}

const WORKS: &str = "/dev/works";
const HANGS: &str = "/dev/hangs";

#[derive(Debug)]
struct One(Card);

impl crate::cards::Cards for One {
    fn find(&self) -> Result<Card, NotFound> {
        Ok(self.0.clone())
    }

    fn changed(&self, _card: &Card) -> Option<String> {
        None
    }

    fn revive(&self, _card: &Card, _step: Revival) -> Result<(), String> {
        Ok(())
    }
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Captures from there while `look` does.
pub(crate) fn captures(
    source: Source,
    look: impl FnOnce(&std::sync::mpsc::Receiver<Input>, &mut mpsc::Receiver<Event>),
) {
    let config = Config {
        name: "Capture".into(),
        source,
        width: 320,
        height: 180,
        fps: 30,
        video_bitrate_kbps: 500,
        encoder: stream::encoder::Choice::default(),
        low: None,
        audio_bitrate_kbps: 128,
        segment: Duration::from_secs(2),
        av_offset_ms: 0,
    };
    let (inputs, received) = sync_channel(64);
    let (events, mut told) = mpsc::channel(64);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| run(&config, &Wanted::default(), &inputs, &events, &stop));
        // A test that fails ends, too.
        let _stop = Stop(&stop);
        look(&received, &mut told);
    });
}

/// ALSA's, which is there on every machine, and one that is not.
const SILENCE: &str = "null";
const NO_SOUND: &str = "hw:CARD=none";

/// A card that does what it is called.
fn card(device: &str, audio: &str) -> Source {
    gst::init().unwrap();
    gst::Element::register(None, "v4l2src", gst::Rank::NONE, Object::static_type()).unwrap();
    Source::Card(Arc::new(One(Card {
        name: "Card".into(),
        video: device.into(),
        audio: audio.into(),
        own_sound: true,
        advice: Vec::new(),
        notes: Vec::new(),
        place: None,
        bridge: None,
    })))
}

/// Waits for what an event says.
fn wait<T>(told: &mut mpsc::Receiver<Event>, of: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = told.blocking_recv().unwrap();
        if let Some(said) = of(&event) {
            return said;
        }
    }
}

fn failure(event: &Event) -> Option<(String, Option<NoCard>)> {
    match event {
        Event::CaptureFailed { why, no_card } => Some((why.clone(), *no_card)),
        _ => None,
    }
}

#[test]
fn pictures_go_on_without_a_sound_that_cannot_be_captured() {
    captures(card(WORKS, NO_SOUND), |inputs, told| {
        let first = inputs.recv_timeout(Duration::from_secs(120));
        assert!(matches!(first, Ok(Input::Video { .. })), "{first:?}");
        let why = wait(told, |event| match event {
            Event::NoSound(why) => Some(why.clone()),
            _ => None,
        });
        assert!(
            why.as_ref()
                .is_some_and(|why| why.starts_with("no sound: ")),
            "{why:?}"
        );
    });
}

#[test]
fn a_driver_that_hangs_twice_is_left_alone_until_it_lets_go() {
    captures(card(HANGS, SILENCE), |_, told| {
        let hangs = wait(told, |event| failure(event).filter(|(_, no)| no.is_some()));
        assert!(hangs.0.starts_with("the card's driver hangs"), "{hangs:?}");
        let mut held = hanging();
        assert_eq!(held.opened, 2);
        held.released = true;
        drop(held);
        RELEASED.notify_all();
        while hanging().opened == 2 {
            std::thread::yield_now();
        }
    });
}
