//! How well the box does, in one word, with the action to take.
//!
//! [`assess`] walks one table of rules, worst first; the first that applies speaks. The five words are Cerevo LiveShell's,
//! and here they mean:
//!
//! | word      | meaning |
//! |-----------|---------|
//! | Dead      | nothing goes out although it should, and the box does not mend it alone |
//! | Emergency | viewers are harmed now |
//! | Warning   | viewers will be harmed, or the sound or picture suffers |
//! | Good      | it works; something is worth knowing |
//! | Excellent | nothing is to be done |

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::broadcast;
use crate::rate;
use crate::status::{Disk, DiskFault, Health, HealthWord, NoCard, Signal, State};

/// Characters that fit in a line of the panel.
pub const LINE_CHARS: usize = 21;

/// Below this much free space (bytes) a segment may fail to be written: a minute of 3 Mb/s is 23 MB.
pub const DISK_FULL_BYTES: u64 = 50_000_000;

/// Below this much free space (bytes) somebody should act: 20 minutes of 3 Mb/s.
pub const DISK_LOW_BYTES: u64 = 500_000_000;

/// When no more than this may be stored (bytes) until the oldest recording goes, it is told: an hour of 3 Mb/s.
pub const RECORDING_GOES_BYTES: u64 = 1_500_000_000;

/// The Raspberry Pi 4 and 5 begin to throttle at 80 °C and brake hard at 85 °C (raspberrypi.com, "frequency management").
pub const HOT_C: f32 = 80.0;
/// See [`HOT_C`].
pub const OVERHEATED_C: f32 = 85.0;

/// A picture that is gone for less than this may be a camera that is being switched.
const SIGNAL_GRACE: Duration = Duration::from_secs(3);

/// Publishing is late when the last segment is older than this many segment durations. One is the rhythm itself, and another half
/// covers the time to encode and to store.
const LATE_SEGMENTS: u32 = 2;
const STUCK_SEGMENTS: u32 = 4;
/// It is dead when the encoder was rebuilt more than once in vain, which begins after [`broadcast::STALL`].
const DEAD_SEGMENTS: u32 = 8;
const DEAD: Duration = Duration::from_secs(40);

/// What is known about the box at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    pub state: State,
    pub signal: Signal,
    /// For how long `signal` has been what it is.
    pub signal_for: Duration,
    /// Why there is no card to capture from; absent while there is one, and for what needs none.
    pub no_card: Option<NoCard>,
    /// The card's sound is left out, because it cannot be captured.
    pub no_sound: bool,
    /// Both channels are silent; see [`Silence`].
    pub audio_silent: bool,
    /// The only side with sound; see [`OneSided`].
    pub audio_only: Option<Side>,
    /// The sound is clipped; see [`Clip`].
    pub clipping: bool,
    /// The operator has muted the programme.
    pub muted: bool,
    /// The picture is black; see [`PictureWatch`](crate::picture::PictureWatch).
    pub black: bool,
    /// The picture stands still; see [`PictureWatch`](crate::picture::PictureWatch).
    pub frozen: bool,
    /// Why a segment of the last half minute was larger than promised.
    pub oversize: Option<rate::Cause>,
    pub disk: Disk,
    /// Why nothing is stored of what is published.
    pub outage: Option<broadcast::Cause>,
    /// Why the box runs from memory.
    pub disk_fault: Option<DiskFault>,
    /// Nor does it go on with what was on air before.
    pub cut_off: bool,
    /// How long viewers have waited for a segment: since the last one, or since the start if there is none yet; absent off air.
    pub segment_age: Option<Duration>,
    /// Target duration of a segment.
    pub segment_duration: Duration,
    /// Video frames dropped in the last ten seconds.
    pub dropped_frames: u64,
    /// Temperature of the processor, °C; absent where the board has no sensor.
    pub temperature_c: Option<f32>,
    /// The processor was slowed down; absent when unknown.
    pub throttled: Option<Seen>,
    /// The supply was below 4.63 V; absent when unknown.
    pub undervoltage: Option<Seen>,
    /// The storage has little life left; see [`Storage::worn`](crate::machine::Storage::worn).
    pub worn: bool,
    /// The clock was set since boot, or the board keeps time alone.
    pub clock_sane: bool,
    /// Viewers are turned away; see [`TurnedAway`].
    pub turned_away: bool,
    /// More leaves than the uplink is said to carry; see [`FullUplink`].
    pub uplink_full: bool,
    /// Nobody has told the time since boot, and no battery keeps it; see [`Clock::may_be_wrong`](crate::machine::Clock::may_be_wrong).
    pub clock_may_be_wrong: bool,
    /// Another box signs for the name, too, and followers get now the one and now the other.
    pub another_box: bool,
    /// A broadcast that was cut off waits for the clock; see [`broadcast::Cause::Clock`].
    pub awaits_clock: bool,
    /// Connected IPFS peers.
    pub peers: u32,
    /// Neighbours can reach the box: an interface other than loopback has a carrier and an address.
    pub network_up: bool,
}

/// When something was seen since the box started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Seen {
    Never,
    Past,
    Now,
}

impl Seen {
    /// What is known after a look, of which nothing may have come.
    pub(crate) fn after(now: Option<Seen>, before: Option<Seen>) -> Option<Seen> {
        match (now, before) {
            (Some(Seen::Now), _) => now,
            (_, Some(Seen::Past | Seen::Now)) => Some(Seen::Past),
            (Some(_), _) => now,
            (None, _) => before,
        }
    }
}

impl Facts {
    /// An idle box with nothing wrong: a base for the fields that are not known.
    pub fn healthy() -> Facts {
        Facts {
            state: State::Idle,
            signal: Signal::Ok,
            signal_for: Duration::from_secs(60),
            no_card: None,
            no_sound: false,
            audio_silent: false,
            audio_only: None,
            clipping: false,
            muted: false,
            black: false,
            frozen: false,
            oversize: None,
            disk: Disk {
                free_bytes: 16_000_000_000,
                stored_bytes: 0,
                limit_bytes: 8_000_000_000,
                bytes_until_one_goes: None,
            },
            outage: None,
            disk_fault: None,
            cut_off: false,
            segment_age: None,
            segment_duration: Duration::from_secs(2),
            dropped_frames: 0,
            temperature_c: None,
            throttled: None,
            undervoltage: None,
            worn: false,
            clock_sane: true,
            turned_away: false,
            uplink_full: false,
            clock_may_be_wrong: false,
            another_box: false,
            awaits_clock: false,
            peers: 8,
            network_up: true,
        }
    }

    /// A broadcast runs, or is meant to.
    fn active(&self) -> bool {
        matches!(
            self.state,
            State::Starting | State::Live | State::Retrying { .. }
        )
    }

    fn late(&self, segments: u32) -> bool {
        matches!(self.state, State::Live)
            && self
                .segment_age
                .is_some_and(|age| age > self.segment_duration * segments)
    }

    fn dead(&self) -> bool {
        let after = DEAD.max(self.segment_duration * DEAD_SEGMENTS);
        self.active() && self.segment_age.is_some_and(|age| age > after)
    }

    fn no_card(&self, why: NoCard) -> bool {
        self.signal != Signal::Ok && self.no_card == Some(why)
    }

    fn no_picture(&self) -> bool {
        self.signal != Signal::Ok && self.signal_for >= SIGNAL_GRACE
    }

    /// Without a disk nothing was to be recorded, and no room on one helps.
    fn outage(&self) -> Option<&broadcast::Cause> {
        let without = self.disk_fault.is_some();
        self.outage.as_ref().filter(|_| !without)
    }

    fn has_less_than(&self, bytes: u64) -> bool {
        self.disk_fault.is_none() && self.disk.free_bytes < bytes
    }

    /// What the store may still grow by, so that a disk that is merely well used is no alarm.
    fn disk_low_bytes(&self) -> u64 {
        let room = self.disk.limit_bytes.saturating_sub(self.disk.stored_bytes);
        room.clamp(DISK_FULL_BYTES, DISK_LOW_BYTES)
    }

    fn recording_goes(&self) -> bool {
        let until = self.disk.bytes_until_one_goes;
        self.active() && until.is_some_and(|bytes| bytes < RECORDING_GOES_BYTES)
    }
}

/// One row: when `applies`, the box is `word`, and `says` why and what to do.
struct Rule {
    word: HealthWord,
    applies: fn(&Facts) -> bool,
    says: Says,
}

enum Says {
    /// What is wrong, and what to do. An empty second line leaves room for the address.
    Lines(&'static str, &'static str),
    /// The same in one sentence that goes on in the second line.
    Sentence(&'static str, &'static str),
    /// The state's own cause, and what to do.
    Cause(&'static str),
}
use Says::{Cause, Lines, Sentence};

/// Worst first; within a word, what to do first comes first.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { word: HealthWord::Dead, applies: Facts::dead,
           says: Lines("Nothing goes out", "Stop, then GO LIVE") },

    Rule { word: HealthWord::Emergency, applies: |f| f.temperature_c.is_some_and(|c| c >= OVERHEATED_C),
           says: Lines("Box is overheating", "Cool it, free vents") },
    Rule { word: HealthWord::Emergency, applies: |f| f.awaits_clock,
           says: Lines("Was on air: when?", "GO LIVE goes on now") },
    Rule { word: HealthWord::Emergency, applies: |f| f.active() && f.no_card(NoCard::Missing),
           says: Lines("No capture card", "Plug it in") },
    Rule { word: HealthWord::Emergency, applies: |f| f.active() && f.no_card(NoCard::Refused),
           says: Lines("Card is not taken", "See page Hardware") },
    Rule { word: HealthWord::Emergency, applies: |f| f.active() && f.no_picture() && f.signal == Signal::Lost,
           says: Lines("Picture is lost", "Check HDMI cable") },
    Rule { word: HealthWord::Emergency, applies: |f| f.active() && f.no_picture(),
           says: Lines("No picture comes in", "Check cable, laptop") },
    Rule { word: HealthWord::Emergency, applies: |f| matches!(f.state, State::Retrying { .. }),
           says: Cause("Wait, it tries again") },
    Rule { word: HealthWord::Emergency, applies: |f| f.late(STUCK_SEGMENTS),
           says: Lines("Stream is stuck", "Wait, or restart it") },
    Rule { word: HealthWord::Emergency, applies: |f| f.cut_off && f.state == State::Idle,
           says: Lines("Off air: disk fault", "Press GO LIVE") },
    Rule { word: HealthWord::Emergency, applies: |f| f.active() && !f.network_up,
           says: Lines("No network", "Check network cable") },

    // Viewers have what they came for; what is not recorded is gone for ever.
    Rule { word: HealthWord::Warning, applies: |f| f.outage() == Some(&broadcast::Cause::DiskFull),
           says: Lines("Full: not recording", "Make room on the card") },
    Rule { word: HealthWord::Warning, applies: |f| f.outage() == Some(&broadcast::Cause::StoreFull),
           says: Lines("Full: not recording", "Unpin or bigger card") },
    Rule { word: HealthWord::Warning, applies: |f| f.outage().is_some(),
           says: Sentence("Not recording: card", "cannot be written to") },
    Rule { word: HealthWord::Warning, applies: |f| f.has_less_than(DISK_FULL_BYTES),
           says: Lines("Card is full", "Put in a new card") },
    Rule { word: HealthWord::Warning, applies: |f| f.undervoltage == Some(Seen::Now),
           says: Lines("Power is too weak", "Use box's own supply") },
    Rule { word: HealthWord::Warning, applies: |f| f.temperature_c.is_some_and(|c| c >= HOT_C),
           says: Lines("Box gets hot", "Give it air and shade") },
    Rule { word: HealthWord::Warning, applies: |f| f.throttled == Some(Seen::Now),
           says: Lines("Box is slowed down", "Give it air and power") },
    Rule { word: HealthWord::Warning, applies: |f| f.another_box,
           says: Sentence("Another box uses this", "name: switch one off") },
    Rule { word: HealthWord::Warning, applies: |f| f.no_card(NoCard::Missing),
           says: Lines("No capture card", "Plug it in") },
    Rule { word: HealthWord::Warning, applies: |f| f.no_card(NoCard::Refused),
           says: Lines("Card is not taken", "See page Hardware") },
    Rule { word: HealthWord::Warning, applies: |f| f.no_picture() && f.signal == Signal::Lost,
           says: Lines("Picture is lost", "Check HDMI cable") },
    Rule { word: HealthWord::Warning, applies: |f| f.no_picture(),
           says: Lines("No picture comes in", "Check cable, laptop") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.signal != Signal::Ok,
           says: Lines("Picture is gone", "") },
    Rule { word: HealthWord::Warning, applies: |f| f.no_sound,
           says: Lines("Card gives no sound", "See page Hardware") },
    // A mute is wanted, and a forgotten one ruins a talk: it comes first of what is not broken.
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.muted,
           says: Lines("Sound is MUTED", "Operator page: unmute") },
    // Black and silent as well: what feeds the box has stopped. Each for itself may be meant.
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.black && f.audio_silent,
           says: Lines("Black and no sound", "Check mixer, laptop") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.black,
           says: Lines("Picture is black", "Check camera, laptop") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.frozen && f.audio_silent,
           says: Lines("Frozen and no sound", "Check mixer, laptop") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.audio_silent,
           says: Lines("No sound", "Check mic and mixer") },
    Rule { word: HealthWord::Warning, applies: |f| f.clipping,
           says: Lines("Sound is too loud", "Turn the mixer down") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.audio_only == Some(Side::Left),
           says: Lines("Sound only on left", "Check plug and mixer") },
    Rule { word: HealthWord::Warning, applies: |f| f.active() && f.audio_only == Some(Side::Right),
           says: Lines("Sound only on right", "Check plug and mixer") },
    Rule { word: HealthWord::Warning, applies: |f| f.uplink_full,
           says: Lines("Uplink is full", "Lower the bitrate") },
    Rule { word: HealthWord::Warning, applies: |f| f.turned_away,
           says: Lines("Too many viewers", "Use a mirror") },
    Rule { word: HealthWord::Warning, applies: |f| f.late(LATE_SEGMENTS),
           says: Lines("Stream runs late", "Wait a moment") },
    Rule { word: HealthWord::Warning, applies: |f| f.dropped_frames > 0,
           says: Lines("Box can't keep up", "Lower size or bitrate") },
    Rule { word: HealthWord::Warning, applies: |f| f.oversize == Some(rate::Cause::Long),
           says: Lines("Segment was too long", "Check camera, cable") },
    Rule { word: HealthWord::Warning, applies: |f| f.oversize == Some(rate::Cause::Busy),
           says: Lines("Picture is too busy", "Raise the bitrate") },
    Rule { word: HealthWord::Warning, applies: |f| f.oversize == Some(rate::Cause::Encoder),
           says: Lines("Encoder over its rate", "Lower the bitrate") },
    // It stays for the whole event: whatever viewers feel comes first.
    Rule { word: HealthWord::Warning, applies: |f| f.disk_fault == Some(DiskFault::ReadOnly),
           says: Lines("Disk is read-only", "Nothing is kept") },
    Rule { word: HealthWord::Warning, applies: |f| f.disk_fault == Some(DiskFault::Full),
           says: Lines("Disk is full", "Nothing is kept") },
    Rule { word: HealthWord::Warning, applies: |f| f.disk_fault == Some(DiskFault::Journal),
           says: Lines("Journal is broken", "Nothing is kept: fsck") },
    Rule { word: HealthWord::Warning, applies: |f| f.disk_fault == Some(DiskFault::Key),
           says: Lines("Key cannot be read", "Nothing is kept") },
    Rule { word: HealthWord::Warning, applies: |f| f.disk_fault.is_some(),
           says: Lines("Disk fails", "Nothing is kept") },
    Rule { word: HealthWord::Warning, applies: |f| f.has_less_than(f.disk_low_bytes()),
           says: Lines("Card is nearly full", "Have a new card ready") },
    Rule { word: HealthWord::Warning, applies: |f| f.worn,
           says: Lines("Card is worn out", "Have a new card ready") },
    Rule { word: HealthWord::Warning, applies: |f| !f.network_up,
           says: Lines("No network", "Check network cable") },

    Rule { word: HealthWord::Good, applies: |f| f.signal != Signal::Ok,
           says: Lines("Waiting for picture", "") },
    Rule { word: HealthWord::Good, applies: |f| f.muted,
           says: Lines("Sound is muted", "") },
    Rule { word: HealthWord::Good, applies: |f| f.oversize == Some(rate::Cause::Lowered),
           says: Lines("Bitrate was lowered", "") },
    Rule { word: HealthWord::Good, applies: |f| f.black,
           says: Lines("Picture is black", "") },
    // A slide may: no reason to hurry anybody.
    Rule { word: HealthWord::Good, applies: |f| f.active() && f.frozen,
           says: Lines("Picture stands still", "") },
    Rule { word: HealthWord::Good, applies: |f| f.audio_silent,
           says: Lines("No sound yet", "") },
    Rule { word: HealthWord::Good, applies: |f| f.audio_only.is_some(),
           says: Lines("Sound on one side", "") },
    Rule { word: HealthWord::Good, applies: |f| f.undervoltage == Some(Seen::Past),
           says: Lines("Power was weak before", "") },
    Rule { word: HealthWord::Good, applies: |f| f.throttled == Some(Seen::Past),
           says: Lines("Box was slowed before", "") },
    Rule { word: HealthWord::Good, applies: Facts::recording_goes,
           says: Sentence("Oldest recording goes", "soon: pin or copy it") },
    Rule { word: HealthWord::Good, applies: |f| !f.clock_sane,
           says: Lines("Clock is not set", "") },
    // What it signs may have expired at birth.
    Rule { word: HealthWord::Good, applies: |f| f.clock_may_be_wrong,
           says: Lines("Clock may be wrong", "Connect a network") },
    Rule { word: HealthWord::Good, applies: |f| f.peers == 0,
           says: Lines("No IPFS peers yet", "") },
];

/// The worst that the facts amount to, in one word, and what to do about it.
pub fn assess(facts: &Facts) -> Health {
    let Some(rule) = RULES.iter().find(|rule| (rule.applies)(facts)) else {
        return Health {
            word: HealthWord::Excellent,
            action: Vec::new(),
            text: String::new(),
        };
    };
    let between = if matches!(rule.says, Sentence(..)) {
        " "
    } else {
        ". "
    };
    let lines = match rule.says {
        Lines(what, action) | Sentence(what, action) => [what.to_owned(), action.to_owned()],
        Cause(action) => {
            let cause = match &facts.state {
                State::Retrying { cause, .. } => cause.as_str(),
                State::Idle | State::Starting | State::Live | State::Stopping => "",
            };
            [line(cause), action.to_owned()]
        }
    };
    let action: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
    Health {
        word: rule.word,
        text: action.join(between),
        action,
    }
}

/// The beginning of a text as a line of the panel: ASCII, and cut to [`LINE_CHARS`].
fn line(text: &str) -> String {
    let mut line: String = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .map(|c| {
            if c.is_ascii() && !c.is_ascii_control() {
                c
            } else {
                '?'
            }
        })
        .collect();
    if line.len() > LINE_CHARS {
        line.truncate(LINE_CHARS - 2);
        line.truncate(line.trim_end().len());
        line.push_str("..");
    }
    line
}

/// Watches for a sound that is missing: both channels below [`Silence::BELOW_DBFS`] (rms) for [`Silence::AFTER`].
///
/// Room noise through an open microphone is 10 dB above that; a mixer that is off, or a wrong input, is below it.
#[derive(Debug, Default)]
pub struct Silence {
    since: Option<Duration>,
}

impl Silence {
    /// dBFS, rms of a window of 100 ms.
    pub const BELOW_DBFS: f32 = -60.0;
    /// A pause in a talk is shorter.
    pub const AFTER: Duration = Duration::from_secs(10);

    /// Takes the levels of a window that ended `now` (monotonic, since the start), and tells whether it is silent.
    pub fn push(&mut self, now: Duration, rms_dbfs: [f32; 2]) -> bool {
        if rms_dbfs.iter().any(|&rms| rms >= Self::BELOW_DBFS) {
            self.since = None;
            return false;
        }
        let since = *self.since.get_or_insert(now);
        now.saturating_sub(since) >= Self::AFTER
    }
}

/// One of the two channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Left,
    Right,
}

/// Watches for a sound that comes on one side alone: a jack that is half in, or one lead of two. The other channel is below
/// [`Silence::BELOW_DBFS`] for [`OneSided::AFTER`], in which there was something to hear.
#[derive(Debug, Default)]
pub struct OneSided {
    /// The side that is heard, since when the other is not, and when it was last loud enough to tell.
    since: Option<(Side, Duration, Duration)>,
}

impl OneSided {
    /// dBFS, rms of a window of 100 ms: somebody speaks.
    pub const HEARD_DBFS: f32 = -40.0;
    pub const AFTER: Duration = Duration::from_secs(30);

    /// Takes the levels of a window that ended `now` (monotonic, since the start), and tells on which side alone there is sound.
    pub fn push(&mut self, now: Duration, rms_dbfs: [f32; 2]) -> Option<Side> {
        let [left, right] = rms_dbfs.map(|rms| rms >= Silence::BELOW_DBFS);
        let heard = rms_dbfs.iter().any(|&rms| rms >= Self::HEARD_DBFS);
        self.since = match (left, right, self.since) {
            (true, true, _) => None,
            // A pause: whoever goes on may do so on both.
            (false, false, since) => since,
            (left, _, since) => {
                let side = if left { Side::Left } else { Side::Right };
                match since.filter(|(of, ..)| *of == side) {
                    Some((_, since, last)) => Some((side, since, if heard { now } else { last })),
                    None => heard.then_some((side, now, now)),
                }
            }
        };
        self.since
            .filter(|(_, since, last)| last.saturating_sub(*since) >= Self::AFTER)
            .map(|(side, ..)| side)
    }
}

/// Watches for a sound that is too loud: a peak of at least [`Clip::AT_DBFS`] in [`Clip::WINDOWS`] of the last ten
/// windows of 100 ms. One such window is a slammed door.
#[derive(Debug, Default)]
pub struct Clip {
    /// Ends of the clipped windows of the last second.
    clipped: VecDeque<Duration>,
}

impl Clip {
    /// dBFS, peak in either channel.
    pub const AT_DBFS: f32 = -0.1;
    /// Of the last ten.
    pub const WINDOWS: usize = 3;
    /// Ten windows.
    const SPAN: Duration = Duration::from_secs(1);

    /// Takes the levels of a window that ended `now` (monotonic, since the start), and tells whether the sound clips.
    pub fn push(&mut self, now: Duration, peak_dbfs: [f32; 2]) -> bool {
        while self
            .clipped
            .front()
            .is_some_and(|&end| end + Self::SPAN <= now)
        {
            self.clipped.pop_front();
        }
        if peak_dbfs.iter().any(|&peak| peak >= Self::AT_DBFS) {
            // Bounded even if the caller's windows are shorter.
            while self.clipped.len() >= 10 {
                self.clipped.pop_front();
            }
            self.clipped.push_back(now);
        }
        self.clipped.len() >= Self::WINDOWS
    }
}

/// Watches for viewers that are turned away: it holds for [`TurnedAway::HOLD`] after the last, as long as a player needs to try again.
#[derive(Debug, Default)]
pub struct TurnedAway {
    refused: u64,
    until: Option<Duration>,
    now: Duration,
}

impl TurnedAway {
    pub const HOLD: Duration = Duration::from_secs(30);

    /// How many were turned away until `now` (both since the start): a crowd behind one router is one, too.
    pub fn push(&mut self, now: Duration, refused: u64) {
        if refused > self.refused {
            self.until = Some(now + Self::HOLD);
        }
        (self.refused, self.now) = (refused, now);
    }

    /// As of the last [`push`](TurnedAway::push).
    pub fn now(&self) -> bool {
        self.until.is_some_and(|until| self.now < until)
    }
}

/// Watches for an uplink that is full: used to more than [`FullUplink::ABOVE_PERCENT`] for [`FullUplink::AFTER`], and until it was
/// used less for as long.
#[derive(Debug, Default)]
pub struct FullUplink {
    full: bool,
    /// Since when it is otherwise.
    since: Option<Duration>,
}

impl FullUplink {
    /// Of the cap. Peers alone never take more than it, and a mirror that catches up takes all of it: that is no harm. Beyond it viewers
    /// take what peers are owed, and sooner or later wait for each other.
    pub const ABOVE_PERCENT: u32 = 105;
    /// Longer than a crowd that fetches the same segment.
    pub const AFTER: Duration = Duration::from_secs(10);

    /// How much of the cap is used `now` (monotonic, since the start); `None` without a cap.
    pub fn push(&mut self, now: Duration, used_percent: Option<u32>) {
        let above = used_percent.is_some_and(|used| used > Self::ABOVE_PERCENT);
        if above == self.full {
            self.since = None;
        } else if now.saturating_sub(*self.since.get_or_insert(now)) >= Self::AFTER {
            (self.full, self.since) = (above, None);
        }
    }

    /// As of the last [`push`](FullUplink::push).
    pub fn now(&self) -> bool {
        self.full
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn rules_are_ordered_by_severity_and_their_lines_fit() {
        for pair in RULES.windows(2) {
            assert!(
                pair[0].word >= pair[1].word,
                "{:?} before {:?}",
                pair[0].word,
                pair[1].word
            );
        }
        for rule in RULES {
            let lines = match rule.says {
                Lines(what, action) | Sentence(what, action) => [what, action],
                Cause(action) => ["", action],
            };
            for line in lines {
                assert!(
                    line.is_ascii() && line.len() <= LINE_CHARS,
                    "{line:?} has {} characters",
                    line.len()
                );
            }
        }
    }

    #[test]
    fn two_lines_are_two_sentences_or_one() {
        let text = |facts: &Facts| assess(facts).text;
        let live = live();
        let recording_goes = Disk {
            bytes_until_one_goes: Some(0),
            ..live.disk
        };
        for (facts, expected) in [
            (
                Facts {
                    another_box: true,
                    ..live.clone()
                },
                "Another box uses this name: switch one off",
            ),
            (
                Facts {
                    disk: recording_goes,
                    ..live.clone()
                },
                "Oldest recording goes soon: pin or copy it",
            ),
            (
                Facts {
                    outage: Some(broadcast::Cause::Store("read-only".into())),
                    ..live.clone()
                },
                "Not recording: card cannot be written to",
            ),
            (
                Facts {
                    clipping: true,
                    ..live.clone()
                },
                "Sound is too loud. Turn the mixer down",
            ),
            (
                Facts {
                    muted: true,
                    state: State::Idle,
                    ..live.clone()
                },
                "Sound is muted",
            ),
            (
                Facts {
                    state: State::Retrying {
                        cause: "it hangs".into(),
                        attempt: 1,
                    },
                    ..live.clone()
                },
                "it hangs. Wait, it tries again",
            ),
            (
                Facts {
                    state: State::Idle,
                    ..live.clone()
                },
                "",
            ),
        ] {
            assert_eq!(text(&facts), expected);
        }
    }

    #[track_caller]
    fn check(facts: Facts, expected: &Expect) {
        let health = assess(&facts);
        assert!(
            health.action.len() <= 2 && health.action.iter().all(|line| line.len() <= LINE_CHARS)
        );
        expected.assert_eq(&format!("{:?}: {}", health.word, health.action.join(" | ")));
    }

    fn live() -> Facts {
        Facts {
            state: State::Live,
            segment_age: Some(Duration::from_secs(1)),
            ..Facts::healthy()
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn rows() {
        let disk = |free_bytes, stored_bytes| Disk {
            free_bytes,
            stored_bytes,
            ..Facts::healthy().disk
        };
        let until_one_goes = |bytes| Disk {
            bytes_until_one_goes: bytes,
            ..Facts::healthy().disk
        };
        let retrying = |cause: &str| State::Retrying {
            cause: cause.to_owned(),
            attempt: 2,
        };
        let lost = |secs_: u64| Facts {
            signal: Signal::Lost,
            signal_for: secs(secs_),
            ..live()
        };
        let out = |cause| Facts {
            outage: Some(cause),
            ..live()
        };
        let age = |secs_: u64| Facts {
            segment_age: Some(secs(secs_)),
            ..live()
        };
        let celsius = |c| Facts {
            temperature_c: Some(c),
            ..live()
        };

        #[rustfmt::skip]
        let rows: &[(Facts, Expect)] = &[
            (Facts::healthy(), expect!["Excellent: "]),
            (live(), expect!["Excellent: "]),
            (Facts { peers: 0, ..live() }, expect!["Good: No IPFS peers yet"]),
            (Facts { clock_sane: false, clock_may_be_wrong: true, ..live() }, expect!["Good: Clock is not set"]),
            (Facts { clock_may_be_wrong: true, ..live() }, expect!["Good: Clock may be wrong | Connect a network"]),
            (Facts { another_box: true, ..live() }, expect!["Warning: Another box uses this | name: switch one off"]),
            (Facts { throttled: Some(Seen::Past), ..live() }, expect!["Good: Box was slowed before"]),
            (Facts { undervoltage: Some(Seen::Past), ..live() }, expect!["Good: Power was weak before"]),
            (Facts { throttled: Some(Seen::Now), ..live() }, expect!["Warning: Box is slowed down | Give it air and power"]),
            (Facts { undervoltage: Some(Seen::Now), ..live() }, expect!["Warning: Power is too weak | Use box's own supply"]),
            (celsius(79.9), expect!["Excellent: "]),
            (celsius(80.0), expect!["Warning: Box gets hot | Give it air and shade"]),
            (celsius(85.0), expect!["Emergency: Box is overheating | Cool it, free vents"]),
            (lost(0), expect!["Warning: Picture is gone"]),
            (lost(3), expect!["Emergency: Picture is lost | Check HDMI cable"]),
            (Facts { state: State::Idle, segment_age: None, ..lost(3) }, expect!["Warning: Picture is lost | Check HDMI cable"]),
            (Facts { signal: Signal::None, signal_for: secs(1), ..Facts::healthy() }, expect!["Good: Waiting for picture"]),
            (Facts { signal: Signal::None, ..Facts::healthy() }, expect!["Warning: No picture comes in | Check cable, laptop"]),
            (Facts { signal: Signal::None, ..live() }, expect!["Emergency: No picture comes in | Check cable, laptop"]),
            (Facts { no_card: Some(NoCard::Missing), ..lost(0) }, expect!["Emergency: No capture card | Plug it in"]),
            (Facts { no_card: Some(NoCard::Refused), ..lost(0) }, expect!["Emergency: Card is not taken | See page Hardware"]),
            (Facts { no_card: Some(NoCard::NoSignal), ..lost(3) }, expect!["Emergency: Picture is lost | Check HDMI cable"]),
            (Facts { no_card: Some(NoCard::Missing), signal: Signal::None, ..Facts::healthy() }, expect!["Warning: No capture card | Plug it in"]),
            (Facts { no_card: Some(NoCard::Refused), signal: Signal::None, ..Facts::healthy() }, expect!["Warning: Card is not taken | See page Hardware"]),
            // Its last pictures are on air still.
            (Facts { no_card: Some(NoCard::Missing), ..live() }, expect!["Excellent: "]),
            (Facts { no_sound: true, audio_silent: true, muted: true, ..live() }, expect!["Warning: Card gives no sound | See page Hardware"]),
            (Facts { no_sound: true, ..Facts::healthy() }, expect!["Warning: Card gives no sound | See page Hardware"]),
            (Facts { audio_silent: true, ..Facts::healthy() }, expect!["Good: No sound yet"]),
            (Facts { audio_silent: true, ..live() }, expect!["Warning: No sound | Check mic and mixer"]),
            (Facts { audio_only: Some(Side::Left), ..live() }, expect!["Warning: Sound only on left | Check plug and mixer"]),
            (Facts { audio_only: Some(Side::Right), ..live() }, expect!["Warning: Sound only on right | Check plug and mixer"]),
            (Facts { audio_only: Some(Side::Right), ..Facts::healthy() }, expect!["Good: Sound on one side"]),
            (Facts { clipping: true, ..live() }, expect!["Warning: Sound is too loud | Turn the mixer down"]),
            (Facts { muted: true, ..live() }, expect!["Warning: Sound is MUTED | Operator page: unmute"]),
            (Facts { muted: true, audio_silent: true, black: true, ..live() }, expect!["Warning: Sound is MUTED | Operator page: unmute"]),
            (Facts { muted: true, ..Facts::healthy() }, expect!["Good: Sound is muted"]),
            (Facts { black: true, ..live() }, expect!["Warning: Picture is black | Check camera, laptop"]),
            (Facts { black: true, audio_silent: true, frozen: true, ..live() }, expect!["Warning: Black and no sound | Check mixer, laptop"]),
            (Facts { black: true, ..Facts::healthy() }, expect!["Good: Picture is black"]),
            (Facts { black: true, ..lost(3) }, expect!["Emergency: Picture is lost | Check HDMI cable"]),
            (Facts { frozen: true, ..live() }, expect!["Good: Picture stands still"]),
            (Facts { frozen: true, ..Facts::healthy() }, expect!["Excellent: "]),
            (Facts { frozen: true, audio_silent: true, ..live() }, expect!["Warning: Frozen and no sound | Check mixer, laptop"]),
            (Facts { oversize: Some(rate::Cause::Long), ..live() }, expect!["Warning: Segment was too long | Check camera, cable"]),
            (Facts { oversize: Some(rate::Cause::Busy), ..live() }, expect!["Warning: Picture is too busy | Raise the bitrate"]),
            (Facts { oversize: Some(rate::Cause::Encoder), ..live() }, expect!["Warning: Encoder over its rate | Lower the bitrate"]),
            (Facts { oversize: Some(rate::Cause::Lowered), ..live() }, expect!["Good: Bitrate was lowered"]),
            (age(4), expect!["Excellent: "]),
            (age(5), expect!["Warning: Stream runs late | Wait a moment"]),
            (age(9), expect!["Emergency: Stream is stuck | Wait, or restart it"]),
            (age(41), expect!["Dead: Nothing goes out | Stop, then GO LIVE"]),
            (Facts { dropped_frames: 3, ..live() }, expect!["Warning: Box can't keep up | Lower size or bitrate"]),
            (Facts { disk: disk(400_000_000, 0), ..live() }, expect!["Warning: Card is nearly full | Have a new card ready"]),
            // The store is at its limit and needs no more than what it frees.
            (Facts { disk: disk(400_000_000, 7_900_000_000), ..live() }, expect!["Excellent: "]),
            (Facts { disk: disk(40_000_000, 8_000_000_000), ..live() }, expect!["Warning: Card is full | Put in a new card"]),
            (out(broadcast::Cause::DiskFull), expect!["Warning: Full: not recording | Make room on the card"]),
            (Facts { disk: disk(40_000_000, 0), ..out(broadcast::Cause::DiskFull) }, expect!["Warning: Full: not recording | Make room on the card"]),
            (out(broadcast::Cause::StoreFull), expect!["Warning: Full: not recording | Unpin or bigger card"]),
            (Facts { disk: until_one_goes(Some(1_500_000_000)), ..live() }, expect!["Excellent: "]),
            (Facts { disk: until_one_goes(Some(1_499_999_999)), ..live() }, expect!["Good: Oldest recording goes | soon: pin or copy it"]),
            // Nothing is recorded, or nothing goes.
            (Facts { disk: until_one_goes(Some(0)), ..Facts::healthy() }, expect!["Excellent: "]),
            (Facts { disk: until_one_goes(None), ..live() }, expect!["Excellent: "]),
            (out(broadcast::Cause::Store("read-only".into())), expect!["Warning: Not recording: card | cannot be written to"]),
            (Facts { turned_away: true, ..live() }, expect!["Warning: Too many viewers | Use a mirror"]),
            (Facts { turned_away: true, uplink_full: true, ..live() }, expect!["Warning: Uplink is full | Lower the bitrate"]),
            // Of the memory that the box runs from nobody can make room.
            (Facts { disk_fault: Some(DiskFault::ReadOnly), disk: disk(1, 0), ..live() }, expect!["Warning: Disk is read-only | Nothing is kept"]),
            (Facts { disk_fault: Some(DiskFault::Full), ..out(broadcast::Cause::StoreFull) }, expect!["Warning: Disk is full | Nothing is kept"]),
            (Facts { disk_fault: Some(DiskFault::Journal), ..Facts::healthy() }, expect!["Warning: Journal is broken | Nothing is kept: fsck"]),
            (Facts { disk_fault: Some(DiskFault::Key), ..live() }, expect!["Warning: Key cannot be read | Nothing is kept"]),
            (Facts { disk_fault: Some(DiskFault::Fails), ..live() }, expect!["Warning: Disk fails | Nothing is kept"]),
            (Facts { disk_fault: Some(DiskFault::Fails), black: true, ..live() }, expect!["Warning: Picture is black | Check camera, laptop"]),
            (Facts { disk_fault: Some(DiskFault::Fails), cut_off: true, ..Facts::healthy() }, expect!["Emergency: Off air: disk fault | Press GO LIVE"]),
            (Facts { disk_fault: Some(DiskFault::Fails), cut_off: true, ..live() }, expect!["Warning: Disk fails | Nothing is kept"]),
            (Facts { state: retrying("encoder: it hangs"), ..age(40) }, expect!["Emergency: encoder: it hangs | Wait, it tries again"]),
            (Facts { state: retrying("encoder: it hangs"), ..age(41) }, expect!["Dead: Nothing goes out | Stop, then GO LIVE"]),
            (Facts { state: State::Starting, ..age(41) }, expect!["Dead: Nothing goes out | Stop, then GO LIVE"]),
            (Facts { state: State::Stopping, ..age(41) }, expect!["Excellent: "]),
            (Facts { network_up: false, ..Facts::healthy() }, expect!["Warning: No network | Check network cable"]),
            (Facts { network_up: false, ..live() }, expect!["Emergency: No network | Check network cable"]),
            (Facts { state: State::Starting, segment_age: Some(secs(9)), ..Facts::healthy() }, expect!["Excellent: "]),
            (Facts { state: State::Stopping, ..live() }, expect!["Excellent: "]),
            (Facts { awaits_clock: true, state: retrying("the time"), ..lost(9) }, expect!["Emergency: Was on air: when? | GO LIVE goes on now"]),
            (Facts { state: retrying("capture card is gone"), ..live() }, expect!["Emergency: capture card is gone | Wait, it tries again"]),
            (Facts { state: retrying("could not open /dev/video0: device or resource busy"), ..live() }, expect!["Emergency: could not open /dev.. | Wait, it tries again"]),
            (Facts { state: retrying("naïve\ncause"), ..live() }, expect!["Emergency: na?ve cause | Wait, it tries again"]),
            (Facts { state: retrying(""), ..live() }, expect!["Emergency: Wait, it tries again"]),
            // The worst speaks.
            (Facts { state: retrying("x264"), clipping: true, ..lost(9) }, expect!["Emergency: Picture is lost | Check HDMI cable"]),
            (Facts { clipping: true, network_up: false, ..live() }, expect!["Emergency: No network | Check network cable"]),
            (Facts { clipping: true, peers: 0, ..live() }, expect!["Warning: Sound is too loud | Turn the mixer down"]),
        ];
        for (facts, expected) in rows {
            check(facts.clone(), expected);
        }
    }

    #[test]
    fn who_is_turned_away_is_told_for_half_a_minute() {
        let mut watch = TurnedAway::default();
        for (now, refused, told) in [
            (0, 0, false),
            (10, 1, true),
            (39, 1, true),
            (40, 1, false),
            (50, 7, true),
            (60, 8, true),
            (89, 8, true),
            (90, 8, false),
        ] {
            watch.push(secs(now), refused);
            assert_eq!(watch.now(), told, "{now} s");
        }
    }

    #[test]
    fn an_uplink_is_full_after_ten_seconds_and_no_longer_ten_seconds_later() {
        let mut watch = FullUplink::default();
        for (now, used, full) in [
            (0, Some(300), false),
            (9, Some(300), false),
            // A mirror catches up.
            (10, Some(101), false),
            (11, Some(106), false),
            (20, Some(200), false),
            (21, Some(200), true),
            (22, Some(80), true),
            (30, Some(120), true),
            (31, Some(80), true),
            (41, Some(80), false),
            (51, None, false),
        ] {
            watch.push(secs(now), used);
            assert_eq!(watch.now(), full, "{now} s");
        }
    }

    /// One row is seconds, levels of both channels, and what the watcher says.
    #[test]
    fn silence_takes_both_channels_and_ten_seconds() {
        let mut silence = Silence::default();
        for (now, rms, silent) in [
            (0, [-90.0, -90.0], false),
            (9, [-61.0, -90.0], false),
            (10, [-61.0, -60.1], true),
            (11, [-60.0, -90.0], false),
            (12, [-90.0, -90.0], false),
            (21, [-90.0, -90.0], false),
            (22, [-90.0, f32::NEG_INFINITY], true),
            (23, [-20.0, -20.0], false),
        ] {
            assert_eq!(silence.push(secs(now), rms), silent, "{now} s");
        }
    }

    #[test]
    fn one_side_alone_is_told_after_half_a_minute_with_something_to_hear() {
        let mut one_sided = OneSided::default();
        for (now, rms, only) in [
            // An open microphone in an empty hall tells nothing.
            (0, [-50.0, -90.0], None),
            (100, [-50.0, -90.0], None),
            (101, [-20.0, -90.0], None),
            (130, [-20.0, f32::NEG_INFINITY], None),
            // Nor does a pause.
            (131, [-90.0, -90.0], None),
            (132, [-20.0, -90.0], Some(Side::Left)),
            (133, [-90.0, -90.0], Some(Side::Left)),
            (134, [-20.0, -55.0], None),
            (135, [-20.0, -90.0], None),
            (170, [-90.0, -20.0], None),
            (199, [-90.0, -20.0], None),
            (200, [-90.0, -20.0], Some(Side::Right)),
            (201, [-20.0, -20.0], None),
        ] {
            assert_eq!(one_sided.push(secs(now), rms), only, "{now} s");
        }
    }

    #[test]
    fn clip_takes_three_of_ten_windows() {
        let loud = [-0.05, -12.0];
        let fine = [-0.2, -12.0];
        let mut clip = Clip::default();
        for (tenth, peak, clipping) in [
            (0, loud, false),
            (1, fine, false),
            (4, loud, false),
            (9, [-12.0, 0.0], true),
            (10, fine, false),
            (11, loud, true),
            (14, fine, false),
            (15, loud, true),
            (19, fine, false),
            (40, loud, false),
        ] {
            assert_eq!(
                clip.push(Duration::from_millis(100 * tenth), peak),
                clipping,
                "window {tenth}"
            );
        }
        for tenth in 41..200 {
            clip.push(Duration::from_millis(tenth), loud);
            assert!(clip.clipped.len() <= 10, "bounded");
        }
    }
}
