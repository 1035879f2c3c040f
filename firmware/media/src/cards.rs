//! The capture card as a pipeline needs it: found anew for each life of it, and brought back where it is there but dead.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use stream::input::{NotFound, Offer, Pixels};
use stream::timeline::LOSS;

/// Picture and sound of one card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// As people call it.
    pub name: String,
    /// V4L2 device.
    pub video: PathBuf,
    /// ALSA device.
    pub audio: String,
    /// The sound is a part of the picture's device: what is done to that helps the sound, too.
    pub own_sound: bool,
    /// What could be better about it, and how; empty where nothing could.
    pub advice: Vec<String>,
    /// What is odd about it and is dealt with: nothing is to be done.
    pub notes: Vec<String>,
    /// What [`Cards::revive`] needs to find it again; empty where it cannot be revived.
    pub place: Option<PathBuf>,
    /// What a bridge on the board was set to; empty where the card takes what comes in by itself.
    pub bridge: Option<Bridge>,
}

/// A bridge on the board, and the size that it was set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bridge {
    /// The device that has its timings.
    pub device: PathBuf,
    pub width: u32,
    pub height: u32,
    /// Thousandths of pictures a second.
    pub rate: u32,
    /// Empty where the video node has no choice.
    pub format: Option<NodeFormat>,
}

/// What a video node has to give, in V4L2's names: it offers more, and would not start with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFormat {
    /// Four characters: `UYVY`.
    pub pixels: String,
    /// `smpte170m`; empty where nobody says.
    pub colorspace: Option<String>,
}

/// How to bring back a card that is there and gives no pictures, from gentle to rough. Opening it again comes before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revival {
    /// Enumerate the USB device anew.
    Reauthorise,
    /// Switch its port off and on.
    CyclePower,
}

impl fmt::Display for Revival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Revival::Reauthorise => "enumerating it anew",
            Revival::CyclePower => "switching its port off and on",
        })
    }
}

/// Knows the cards of this machine. A seam: `media` names neither sysfs nor USB.
pub trait Cards: fmt::Debug + Send + Sync {
    /// The card to capture from, at this moment.
    fn find(&self) -> Result<Card, NotFound>;

    /// Why a card has to be opened anew, if it has: another signal comes in than it was set to. Asked now and then while it runs.
    fn changed(&self, card: &Card) -> Option<String>;

    /// One step on a card. The error says why it is not possible, and what to do.
    fn revive(&self, card: &Card, step: Revival) -> Result<(), String>;
}

/// A card without a picture for this long is dead although it is there.
const STALL: Duration = Duration::from_secs(4);
/// Each step costs half a second of the sound, and where there is nothing to see none helps: so they become rarer, up to this.
const MAX_STALL: Duration = Duration::from_secs(60);
/// Pictures that have come for this long have come back. A card may give one whenever it is opened, and no more.
const STEADY: Duration = Duration::from_secs(5);
/// A card that was enumerated anew, or whose port was switched, is away for a second or two; one that is away for longer was pulled out.
const AWAY: Duration = Duration::from_secs(5);
/// A card whose sound stops again and again is not opened anew each time: that costs its pictures, too.
const MUTE_AGAIN: Duration = Duration::from_secs(600);

/// What to do next with a card that is there and gives no pictures: open it again, then ever rougher things. An opening that fails at
/// once is tried again anyway; it is time that leads to the next step, so a card that answers with errors gets as far as a silent one.
#[derive(Debug)]
pub(crate) struct Ladder {
    /// When the last picture of those that come steadily came, or the last step was taken.
    since: Instant,
    patience: Duration,
    steps: u32,
    /// The first and the last of the pictures that come now.
    pictures: Option<(Instant, Instant)>,
    /// Since when there is no card.
    missing: Option<Instant>,
    /// When it was last opened again for its sound.
    muted: Option<Instant>,
    pub(crate) sound: Unheard,
}

impl Ladder {
    pub(crate) fn new(now: Instant) -> Ladder {
        Ladder {
            since: now,
            patience: STALL,
            steps: 0,
            pictures: None,
            missing: None,
            muted: None,
            sound: Unheard::default(),
        }
    }

    /// So long pictures may be missing.
    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    /// A picture has come. The ladder begins anew where they come steadily.
    pub(crate) fn alive(&mut self, now: Instant) {
        let goes_on = |(_, last): &(Instant, Instant)| now.saturating_duration_since(*last) < LOSS;
        let first = (self.pictures.filter(goes_on)).map_or(now, |(first, _)| first);
        let pictures = Some((first, now));
        if now.saturating_duration_since(first) < STEADY {
            self.pictures = pictures;
            return;
        }
        *self = Ladder {
            pictures,
            muted: self.muted,
            sound: std::mem::take(&mut self.sound),
            ..Ladder::new(now)
        };
    }

    /// There is no card. Whether that is news, and not what a step has done: then what comes next is another card, or the same one anew.
    pub(crate) fn gone(&mut self, now: Instant) -> bool {
        let missing = *self.missing.get_or_insert(now);
        self.sound.anew();
        if self.steps > 1 && now.saturating_duration_since(missing) < AWAY {
            return false;
        }
        *self = Ladder {
            missing: Some(missing),
            // It may be the same one, which takes its time.
            sound: std::mem::take(&mut self.sound),
            ..Ladder::new(now)
        };
        true
    }

    /// The card was opened, or tried to be, and there are no pictures. `Some` where it is time for a step; in it there is none where
    /// opening it again is the step.
    pub(crate) fn step(&mut self, now: Instant) -> Option<Option<Revival>> {
        self.missing = None;
        if now.saturating_duration_since(self.since) < self.patience {
            return None;
        }
        self.since = now;
        self.steps += 1;
        self.sound.anew();
        Some(match self.steps {
            1 => None,
            steps => {
                self.patience = (self.patience * 2).min(MAX_STALL);
                Some(match steps.is_multiple_of(2) {
                    true => Revival::Reauthorise,
                    false => Revival::CyclePower,
                })
            }
        })
    }

    /// The sound has stopped, and pictures come. Whether the card is opened again for that.
    pub(crate) fn mute(&mut self, now: Instant) -> bool {
        let recent = |then: Instant| now.saturating_duration_since(then) < MUTE_AGAIN;
        if self.muted.is_some_and(recent) {
            return false;
        }
        self.muted = Some(now);
        true
    }

    /// It was enumerated anew for its sound, and is away for a moment.
    pub(crate) fn enumerated(&mut self) {
        self.steps = self.steps.max(2);
        self.sound.anew();
    }
}

/// Sound that cannot be captured is tried again after this, at first.
const TRY_SOUND: Duration = Duration::from_secs(2);
const MAX_TRY_SOUND: Duration = Duration::from_secs(60);
/// Sound that has come for this long before it failed is opened again at once.
const LASTING: Duration = Duration::from_secs(10);
/// And not more often than this: its pictures are opened with it.
const REOPEN_AGAIN: Duration = Duration::from_secs(60);
/// Sound that could not be captured for this long is dead. Enumerating the card anew costs two seconds of slate.
const DEAD: Duration = Duration::from_secs(20);

/// Sound that cannot be captured: the pictures go on without it, and it is tried beside them, ever more rarely.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    /// Since when it is left out.
    since: Option<Instant>,
    tried: Option<Instant>,
    pause: Duration,
    /// When the card was last enumerated anew for it.
    revived: Option<Instant>,
    /// That is not possible here.
    given_up: bool,
    /// When sound that had lasted was last opened again at once.
    reopened: Option<Instant>,
}

impl Unheard {
    pub(crate) fn is_left_out(&self) -> bool {
        self.since.is_some()
    }

    /// A life with sound that began at this time was ended by it.
    pub(crate) fn failed(&mut self, began: Instant, now: Instant) {
        let within = |then: Instant| now.saturating_duration_since(then) < REOPEN_AGAIN;
        let lasted = now.saturating_duration_since(began) >= LASTING;
        if lasted && !self.reopened.is_some_and(within) {
            self.reopened = Some(now);
            return self.anew();
        }
        self.since = Some(now);
        self.tried = Some(now);
        self.pause = (self.pause * 2).clamp(TRY_SOUND, MAX_TRY_SOUND);
    }

    /// Whether it is time to try it.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let waited = |tried| now.saturating_duration_since(tried) >= self.pause;
        self.is_left_out() && self.tried.is_some_and(waited)
    }

    /// It was tried, and there is none. Whether the card is enumerated anew for that.
    pub(crate) fn tried_in_vain(&mut self, refused: bool, now: Instant) -> bool {
        self.tried = Some(now);
        if refused {
            // Whoever has it may let go of it at any time.
            (self.since, self.pause) = (Some(now), TRY_SOUND);
            return false;
        }
        self.pause = (self.pause * 2).min(MAX_TRY_SOUND);
        let within = |then: Option<Instant>, span: Duration| {
            then.is_some_and(|then| now.saturating_duration_since(then) < span)
        };
        let dead = !self.given_up && !within(self.since, DEAD) && !within(self.revived, MUTE_AGAIN);
        if dead {
            self.revived = Some(now);
        }
        dead
    }

    /// The card cannot be enumerated anew, and its pictures shall not suffer for that again.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// It can be captured: the next life has it.
    pub(crate) fn is_back(&mut self) {
        self.since = None;
    }

    /// The device is another one, or the same one enumerated anew.
    pub(crate) fn anew(&mut self) {
        *self = Unheard {
            revived: self.revived,
            given_up: self.given_up,
            reopened: self.reopened,
            ..Unheard::default()
        };
    }
}

/// The cards, shared with the capture thread.
pub type Finder = Arc<dyn Cards>;

/// What a V4L2 device offers, one line a size and rate. Empty where it cannot be asked.
pub(crate) fn offers(caps: &gst::CapsRef) -> Vec<Offer> {
    caps.iter().flat_map(offers_of).collect()
}

fn offers_of(structure: &gst::StructureRef) -> Vec<Offer> {
    let pixels = match (structure.name().as_str(), structure.get::<&str>("format")) {
        ("image/jpeg", _) => Pixels::Mjpeg,
        ("video/x-raw", Ok("NV12")) => Pixels::Nv12,
        ("video/x-raw", Ok("YUY2" | "UYVY" | "YVYU" | "I420" | "YV12")) => Pixels::Raw,
        _ => return Vec::new(),
    };
    // A card with a range of sizes scales as it is told, so nothing has to be chosen.
    let side = |name| {
        structure
            .get::<i32>(name)
            .ok()
            .and_then(|side| side.try_into().ok())
    };
    let (Some(width), Some(height)) = (side("width"), side("height")) else {
        return Vec::new();
    };
    rates(structure)
        .into_iter()
        .map(|fps| Offer {
            pixels,
            width,
            height,
            fps,
        })
        .collect()
}

fn rates(structure: &gst::StructureRef) -> Vec<f64> {
    let rate = |fraction: gst::Fraction| f64::from(fraction.numer()) / f64::from(fraction.denom());
    if let Ok(list) = structure.get::<gst::List>("framerate") {
        let one = |value: &gst::glib::SendValue| value.get::<gst::Fraction>().ok().map(rate);
        return list.as_slice().iter().filter_map(one).collect();
    }
    if let Ok(range) = structure.get::<gst::FractionRange>("framerate") {
        return vec![rate(range.max())];
    }
    structure
        .get::<gst::Fraction>("framerate")
        .ok()
        .map(rate)
        .into_iter()
        .collect()
}

/// Whether an ALSA device claims 96 kHz mono and nothing else. That is how the MS2109 and its relatives call 48 kHz stereo; the kernel
/// knows some of them by their numbers (sound/usb/quirks-table.h) and not their clones.
pub(crate) fn is_stereo_called_mono(caps: &gst::CapsRef) -> bool {
    let claims = |structure: &gst::StructureRef| {
        structure.get::<i32>("rate") == Ok(96_000) && structure.get::<i32>("channels") == Ok(1)
    };
    !caps.is_empty() && !caps.is_any() && caps.iter().all(claims)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[test]
    fn what_a_stick_offers_is_read() {
        gst::init().unwrap();
        let caps = gst::Caps::from_str(
            "video/x-raw,format=YUY2,width=1280,height=720,framerate=10/1;\
             image/jpeg,width=1280,height=720,framerate={60/1,30000/1001};\
             video/x-raw,format=BGR,width=1280,height=720,framerate=30/1;\
             video/x-raw,format=NV12,width=[1,4096],height=[1,2160],framerate=30/1",
        )
        .unwrap();
        let found: Vec<_> = offers(&caps)
            .into_iter()
            .map(|offer| {
                (
                    offer.pixels,
                    offer.width,
                    offer.height,
                    offer.fps.round() as u32,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                (Pixels::Raw, 1280, 720, 10),
                (Pixels::Mjpeg, 1280, 720, 60),
                (Pixels::Mjpeg, 1280, 720, 30)
            ]
        );
    }

    #[test]
    fn stereo_that_calls_itself_mono_is_recognised() {
        gst::init().unwrap();
        for (caps, expected) in [
            ("audio/x-raw,format=S16LE,rate=96000,channels=1", true),
            ("audio/x-raw,format=S16LE,rate=48000,channels=2", false),
            ("audio/x-raw,format=S16LE,rate=48000,channels=1", false),
            (
                "audio/x-raw,rate=96000,channels=1;audio/x-raw,rate=96000,channels=2",
                false,
            ),
            ("audio/x-raw,rate=[8000,96000],channels=1", false),
            ("EMPTY", false),
            ("ANY", false),
        ] {
            let caps = gst::Caps::from_str(caps).unwrap();
            assert_eq!(is_stereo_called_mono(&caps), expected, "{caps}");
        }
    }

    /// Seconds, and what is done then with a card that gives nothing, however often it is opened.
    #[test]
    fn the_ladder_grows_rougher_and_rarer_and_begins_anew_with_a_picture() {
        use Revival::{CyclePower, Reauthorise};
        let start = Instant::now();
        let mut ladder = Ladder::new(start);
        let mut steps = Vec::new();
        for tenth in 0..2_000 {
            let at = Duration::from_millis(100 * tenth);
            if let Some(step) = ladder.step(start + at) {
                steps.push((at.as_secs(), step));
            }
        }
        assert_eq!(
            steps,
            [
                (4, None),
                (8, Some(Reauthorise)),
                (16, Some(CyclePower)),
                (32, Some(Reauthorise)),
                (64, Some(CyclePower)),
                (124, Some(Reauthorise)),
                (184, Some(CyclePower)),
            ]
        );
        assert_eq!(ladder.patience(), MAX_STALL);
        let mut now = start + Duration::from_secs(1000);
        for _ in 0..60 {
            now += Duration::from_millis(100);
            ladder.alive(now);
        }
        assert_eq!(ladder.step(now + STALL / 2), None);
        assert_eq!(ladder.step(now + STALL), Some(None));
    }

    /// What is done with a card that gives so many pictures, ten a second, whenever it is opened, and no more.
    #[test]
    fn pictures_that_do_not_last_do_not_begin_the_ladder_anew() {
        let check = |pictures: u32, expected: &[Option<Revival>]| {
            let mut now = Instant::now();
            let mut ladder = Ladder::new(now);
            let steps: Vec<_> = std::iter::repeat_with(|| {
                for _ in 0..pictures {
                    now += Duration::from_millis(100);
                    ladder.alive(now);
                }
                now += ladder.patience();
                ladder.step(now).unwrap()
            })
            .take(3)
            .collect();
            assert_eq!(steps, expected, "{pictures}");
        };
        let rougher = [None, Some(Revival::Reauthorise), Some(Revival::CyclePower)];
        check(1, &rougher);
        check(40, &rougher);
        check(100, &[None; 3]);
    }

    #[test]
    fn a_card_that_a_step_has_taken_away_for_a_moment_is_the_same_one() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(start);
        // Pulled out by hand.
        assert!(ladder.gone(at(1)));
        assert_eq!(ladder.step(at(5)), Some(None));
        assert_eq!(ladder.step(at(9)), Some(Some(Revival::Reauthorise)));
        assert!(!ladder.gone(at(10)));
        assert!(!ladder.gone(at(12)));
        // It is back, and gives none still: the next step is the next one.
        assert_eq!(ladder.step(at(17)), Some(Some(Revival::CyclePower)));
        assert!(!ladder.gone(at(18)));
        assert!(ladder.gone(at(23)), "it was pulled out meanwhile");
        assert_eq!(ladder.step(at(27)), Some(None));
    }

    #[test]
    fn a_card_that_is_mute_again_and_again_is_not_opened_each_time() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(start);
        let opened = [10, 20, 300, 609, 610, 700].map(|seconds| {
            ladder.alive(at(seconds));
            ladder.mute(at(seconds))
        });
        assert_eq!(opened, [true, false, false, false, true, false]);
    }

    /// Seconds at which dead sound is tried, and those at which its card is enumerated anew for it.
    #[track_caller]
    fn tries(refused: bool, seconds: u64) -> (Vec<u64>, Vec<u64>) {
        let start = Instant::now();
        let mut sound = Unheard::default();
        sound.failed(start, start);
        let (mut tried, mut revived) = (Vec::new(), Vec::new());
        for second in 0..seconds {
            let now = start + Duration::from_secs(second);
            if !sound.is_due(now) {
                continue;
            }
            tried.push(second);
            if sound.tried_in_vain(refused, now) {
                revived.push(second);
                sound.anew();
                sound.failed(now, now);
            }
        }
        (tried, revived)
    }

    #[test]
    fn dead_sound_is_tried_ever_more_rarely_and_its_card_enumerated_anew_once_in_a_while() {
        let (tried, revived) = tries(false, 700);
        assert_eq!(tried[..8], [2, 6, 14, 30, 32, 36, 44, 60]);
        assert!(tried.len() < 25, "{tried:?}");
        assert_eq!(revived, [30, 632]);
        // Another program lets go of it some time, and nothing that is done to the card makes it.
        let (tried, revived) = tries(true, 100);
        assert_eq!(tried, (2..100).step_by(2).collect::<Vec<_>>());
        assert!(revived.is_empty(), "{revived:?}");
    }

    #[test]
    fn sound_that_fails_once_is_opened_again_and_sound_that_does_not_last_is_left_out() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut ladder = Ladder::new(start);
        ladder.sound.failed(start, at(100));
        assert!(!ladder.sound.is_left_out());
        ladder.sound.failed(at(100), at(101));
        assert!(ladder.sound.is_left_out());
        assert!(ladder.sound.is_due(at(103)));
        ladder.sound.is_back();
        assert!(!ladder.sound.is_left_out());
        assert!(!ladder.sound.is_due(at(103)), "the box has it itself");
        // It came back for a moment: the next try takes longer. Pictures that come change nothing about it.
        ladder.sound.failed(at(103), at(104));
        for second in 104..107 {
            ladder.alive(at(second));
            assert!(ladder.sound.is_left_out());
        }
        assert!(!ladder.sound.is_due(at(107)));
        assert!(ladder.sound.is_due(at(108)));
        // What is plugged in now is another card.
        ladder.gone(at(109));
        assert!(!ladder.sound.is_left_out());
        // Sound that drops out again and again does not take the pictures along each time.
        ladder.sound.failed(at(110), at(170));
        assert!(!ladder.sound.is_left_out());
        ladder.sound.failed(at(170), at(190));
        assert!(ladder.sound.is_left_out());
    }

    #[test]
    fn a_card_is_enumerated_anew_for_its_sound_once_in_ten_minutes_also_where_it_is_away_for_long_and_never_where_that_is_not_possible()
     {
        let start = Instant::now();
        let dead = |ladder: &mut Ladder, second: u64| {
            let at = |seconds: u64| start + Duration::from_secs(second + seconds);
            ladder.sound.failed(at(0), at(0));
            ladder.sound.tried_in_vain(false, at(30))
        };
        let mut ladder = Ladder::new(start);
        assert!(dead(&mut ladder, 0));
        ladder.enumerated();
        for second in [31, 40] {
            ladder.gone(start + Duration::from_secs(second));
        }
        assert!(!dead(&mut ladder, 60));
        assert!(dead(&mut ladder, 700));
        ladder.sound.give_up();
        ladder.enumerated();
        assert!(!dead(&mut ladder, 1400));
    }
}
