//! What the machine says about itself: heat, power, the wear of its storage, its clocks. Read by `board`, understood here.

use std::time::Duration;

use serde::Serialize;

use crate::health::Seen;

/// 2026-01-01T00:00:00Z, since 1970. A clock that is earlier has not been set, or has lost its battery.
pub const CLOCK_SANE_FROM: Duration = Duration::from_secs(1_767_225_600);

/// What is not known is absent: most machines know only some of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Of the processor, °C.
    pub temperature_c: Option<f32>,
    /// The supply was below 4.63 V.
    pub undervoltage: Option<Seen>,
    /// The processor was slowed down.
    pub throttled: Option<Seen>,
    pub storage: Storage,
    pub clock: Clock,
}

impl Machine {
    /// What is known after an earlier look: what was seen then is not forgotten. The firmware would remember it, but Linux has it forget
    /// every two seconds (`raspberrypi-hwmon.c` clears the sticky bits whenever it asks).
    #[must_use]
    pub fn after(self, before: &Machine) -> Machine {
        Machine {
            undervoltage: Seen::after(self.undervoltage, before.undervoltage),
            throttled: Seen::after(self.throttled, before.throttled),
            ..self
        }
    }
}

/// The wear of built-in flash (eMMC), which counts it. SD cards do not tell theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Storage {
    /// Hundredths of the life that are used up, at most; above 100 where it has outlived its estimate.
    pub worn_percent: Option<u8>,
    pub spare: Option<Spare>,
}

/// The blocks that replace broken ones (JEDEC JESD84-B51, `PRE_EOL_INFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Spare {
    Normal,
    /// 80 % are used up.
    Warning,
    /// 90 % are used up.
    Urgent,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Clock {
    /// Whether the clock that runs while the box is off has a time that can be; absent where there is no such clock.
    pub battery: Option<bool>,
    /// Whether the time was taken from the network since boot; absent where nobody says.
    pub synchronised: Option<bool>,
}

/// A time service that reaches anybody has set the clock so long after the machine's start. Where nobody is reached, as on a
/// network of its own, the clock is believed as it is: it is all that there is.
const TIME_COMES_WITHIN: Duration = Duration::from_secs(60);

impl Clock {
    /// Whether the time may be that of the last shutdown, which a machine without a battery goes on from (`fake-hwclock`): then it
    /// is behind.
    pub fn may_be_wrong(&self) -> bool {
        self.synchronised == Some(false) && self.battery != Some(true)
    }

    /// For how much longer a time that may be wrong is about to be set; `up` is how long the machine is up, where that is known.
    pub fn awaited(&self, up: Option<Duration>) -> Option<Duration> {
        let left = TIME_COMES_WITHIN.checked_sub(up?)?;
        (self.may_be_wrong() && !left.is_zero()).then_some(left)
    }
}

/// Life that is used up from which on somebody should act.
const WORN_PERCENT: u8 = 90;

impl Storage {
    pub fn worn(&self) -> bool {
        self.worn_percent.is_some_and(|worn| worn >= WORN_PERCENT)
            || matches!(self.spare, Some(Spare::Warning | Spare::Urgent))
    }
}

/// Undervoltage and throttling, from the bits of the Raspberry Pi's `get_throttled`: 0 to 3 is now, 16 to 19 is since they were cleared
/// (raspberrypi.com, "vcgencmd"). Capped and soft-limited are slowed down, too.
pub fn power(bits: u32) -> (Option<Seen>, Option<Seen>) {
    const VOLTAGE: u32 = 0b0001;
    const SLOW: u32 = 0b1110;
    let seen = |mask: u32| {
        if bits & mask != 0 {
            Some(Seen::Now)
        } else if bits & (mask << 16) != 0 {
            Some(Seen::Past)
        } else {
            Some(Seen::Never)
        }
    };
    (seen(VOLTAGE), seen(SLOW))
}

/// The wear of an eMMC: `life_time` is two estimates in steps of a tenth, of which the worse counts, `pre_eol_info` one step.
pub fn storage(life_time: Option<&str>, pre_eol_info: Option<&str>) -> Storage {
    let number = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let estimates = life_time.into_iter().flat_map(str::split_whitespace);
    // 0 is not defined, 11 is beyond its estimate.
    let worst = (estimates.filter_map(number))
        .filter(|step| (1..=11).contains(step))
        .max();
    Storage {
        worn_percent: worst.map(|step| step * 10),
        spare: match pre_eol_info.and_then(number) {
            Some(1) => Some(Spare::Normal),
            Some(2) => Some(Spare::Warning),
            Some(3) => Some(Spare::Urgent),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bits_of_the_firmware_are_told_apart() {
        use Seen::{Never, Now, Past};
        for (bits, (undervoltage, throttled)) in [
            (0, (Never, Never)),
            (0x5_0005, (Now, Now)),
            (0x5_0000, (Past, Past)),
            (0x1_0000, (Past, Never)),
            (0x2, (Never, Now)),
            (0x8_0000, (Never, Past)),
            (0x1, (Now, Never)),
            (0xfff0_fff0, (Never, Never)),
        ] {
            let expected = (Some(undervoltage), Some(throttled));
            assert_eq!(power(bits), expected, "{bits:#x}");
        }
    }

    #[test]
    fn what_was_seen_is_not_forgotten() {
        use Seen::{Never, Now, Past};
        let mut machine = Machine::default();
        for (sees, expected) in [
            (None, None),
            (Some(Never), Some(Never)),
            (Some(Now), Some(Now)),
            (Some(Never), Some(Past)),
            // The file could not be read for a moment.
            (None, Some(Past)),
            (Some(Never), Some(Past)),
            (Some(Now), Some(Now)),
            (Some(Past), Some(Past)),
        ] {
            let looked = Machine {
                undervoltage: sees,
                ..Machine::default()
            };
            machine = looked.after(&machine);
            assert_eq!((machine.undervoltage, machine.throttled), (expected, None));
        }
    }

    #[test]
    fn the_time_is_awaited_where_somebody_may_still_say_it() {
        let check = |battery, synchronised, up: Option<u64>, awaited| {
            let clock = Clock {
                battery,
                synchronised,
            };
            let up = up.map(Duration::from_secs);
            assert_eq!(clock.awaited(up).is_some(), awaited, "{clock:?} {up:?}");
        };
        check(None, Some(false), Some(5), true);
        check(Some(false), Some(false), Some(59), true);
        // Nobody says it on this network.
        check(None, Some(false), Some(60), false);
        check(None, Some(true), Some(5), false);
        check(Some(true), Some(false), Some(5), false);
        check(None, None, Some(5), false);
        check(None, Some(false), None, false);
    }

    #[test]
    fn wear_is_the_worse_of_two_estimates() {
        let check = |life: Option<&str>, eol: Option<&str>, percent, spare, worn| {
            let found = storage(life, eol);
            assert_eq!((found.worn_percent, found.spare), (percent, spare));
            assert_eq!(found.worn(), worn, "{found:?}");
        };
        check(None, None, None, None, false);
        check(
            Some("0x01 0x02"),
            Some("0x01"),
            Some(20),
            Some(Spare::Normal),
            false,
        );
        check(Some("0x09 0x01"), None, Some(90), None, true);
        check(
            Some("0x0b 0x0b"),
            Some("0x03"),
            Some(110),
            Some(Spare::Urgent),
            true,
        );
        check(None, Some("0x02"), None, Some(Spare::Warning), true);
        // Not defined, or nonsense.
        check(Some("0x00 0x00"), Some("0x00"), None, None, false);
        check(Some("0xff zebra"), Some(""), None, None, false);
    }
}
