//! What the kernel knows of the machine below it, without any program of a board's maker.

use std::fs;
use std::path::{Path, PathBuf};

use stream::health::Seen;
use stream::machine::{self, CLOCK_SANE_FROM, Clock, Machine, Storage};

/// Names of the sensor that sits in the processor, best first: Raspberry Pi, laptops.
const PROCESSOR: [&str; 2] = ["cpu-thermal", "x86_pkg_temp"];

fn read(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned())
}

/// Entries of a directory in the order of their names.
fn entries(dir: PathBuf) -> Vec<PathBuf> {
    let read = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = read.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Asks for everything. `root` is `/` but for tests. May block in a driver, so not for the loop.
pub fn sample(root: &Path) -> Machine {
    let (undervoltage, throttled) = power(root);
    Machine {
        temperature_c: temperature(root),
        undervoltage,
        throttled,
        storage: storage(root),
        clock: clock(root),
    }
}

fn temperature(root: &Path) -> Option<f32> {
    let zones = entries(root.join("sys/class/thermal"));
    let zones = zones.iter().filter(|zone| zone.join("temp").exists());
    let rank = |zone: &&PathBuf| {
        let kind = read(zone.join("type")).unwrap_or_default();
        let known = PROCESSOR.iter().position(|name| *name == kind);
        known.unwrap_or(PROCESSOR.len())
    };
    let millidegrees: f32 = read(zones.min_by_key(rank)?.join("temp"))?.parse().ok()?;
    Some(millidegrees / 1000.0)
}

/// Undervoltage and throttling of a Raspberry Pi: its firmware knows both (`raspberrypi.c` shows what it last said), the mainline
/// kernel has an alarm for the voltage of this moment (`raspberrypi-hwmon.c`).
fn power(root: &Path) -> (Option<Seen>, Option<Seen>) {
    let bits = firmware(root)
        .and_then(|firmware| read(firmware.join("get_throttled")))
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let (undervoltage, throttled) = bits.map_or((None, None), machine::power);
    let alarm = entries(root.join("sys/class/hwmon"))
        .into_iter()
        .filter(|sensor| read(sensor.join("name")).as_deref() == Some("rpi_volt"))
        .find_map(|sensor| read(sensor.join("in0_lcrit_alarm")));
    let undervoltage = match alarm.as_deref() {
        Some("1") => Some(Seen::Now),
        Some(_) => undervoltage.or(Some(Seen::Never)),
        None => undervoltage,
    };
    (undervoltage, throttled)
}

/// The device of a Raspberry Pi's firmware: `soc/soc:firmware`, on a Pi 5 `soc@107c000000/soc@107c000000:firmware`.
fn firmware(root: &Path) -> Option<PathBuf> {
    let named = |path: &PathBuf, is: fn(&str) -> bool| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(is)
    };
    entries(root.join("sys/devices/platform"))
        .into_iter()
        .filter(|path| named(path, |name| name.starts_with("soc")))
        .flat_map(entries)
        .find(|path| named(path, |name| name.ends_with(":firmware")))
}

/// Of the first flash that counts its wear. It is the wear of the machine's start: the kernel asks for it when it sets up the flash,
/// and not again (drivers/mmc/core/mmc.c).
fn storage(root: &Path) -> Storage {
    entries(root.join("sys/class/block"))
        .into_iter()
        .map(|block| {
            let attribute = |name: &str| read(block.join("device").join(name));
            machine::storage(
                attribute("life_time").as_deref(),
                attribute("pre_eol_info").as_deref(),
            )
        })
        .find(|storage| *storage != Storage::default())
        .unwrap_or_default()
}

fn clock(root: &Path) -> Clock {
    let battery = read(root.join("sys/class/rtc/rtc0/since_epoch")).map(|text| {
        text.parse::<u64>()
            .is_ok_and(|seconds| seconds >= CLOCK_SANE_FROM.as_secs())
    });
    // systemd-timesyncd makes this file when it has set the clock, as systemd-time-wait-sync(8) says.
    let timesync = root.join("run/systemd/timesync");
    let synchronised = timesync
        .is_dir()
        .then(|| timesync.join("synchronized").exists());
    Clock {
        battery,
        synchronised,
    }
}

#[cfg(test)]
mod tests {
    use stream::machine::Spare;

    use super::*;

    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
        dir
    }

    #[test]
    fn a_raspberry_pi_in_trouble_is_understood() {
        let root = root(&[
            ("sys/class/thermal/thermal_zone0/temp", "45000"),
            ("sys/class/thermal/thermal_zone0/type", "wifi"),
            ("sys/class/thermal/thermal_zone1/temp", "82350"),
            ("sys/class/thermal/thermal_zone1/type", "cpu-thermal"),
            (
                "sys/devices/platform/soc/soc:firmware/get_throttled",
                "50005",
            ),
            ("sys/class/block/mmcblk0/device/life_time", "0x09 0x02"),
            ("sys/class/block/mmcblk0/device/pre_eol_info", "0x02"),
            ("sys/class/rtc/rtc0/since_epoch", "1800000000"),
            ("run/systemd/timesync/synchronized", ""),
        ]);
        assert_eq!(
            sample(root.path()),
            Machine {
                temperature_c: Some(82.35),
                undervoltage: Some(Seen::Now),
                throttled: Some(Seen::Now),
                storage: Storage {
                    worn_percent: Some(90),
                    spare: Some(Spare::Warning),
                },
                clock: Clock {
                    battery: Some(true),
                    synchronised: Some(true),
                },
            }
        );
    }

    #[test]
    fn the_alarm_of_the_mainline_kernel_counts_too() {
        let root = root(&[
            ("sys/class/hwmon/hwmon0/name", "cpu_thermal"),
            ("sys/class/hwmon/hwmon1/name", "rpi_volt"),
            ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1"),
            ("sys/class/rtc/rtc0/since_epoch", "12"),
            ("run/systemd/timesync/clock", ""),
        ]);
        let machine = sample(root.path());
        assert_eq!(machine.undervoltage, Some(Seen::Now));
        assert_eq!(machine.throttled, None);
        fs::write(
            root.path().join("sys/class/hwmon/hwmon1/in0_lcrit_alarm"),
            "0\n",
        )
        .unwrap();
        assert_eq!(sample(root.path()).undervoltage, Some(Seen::Never));
        assert_eq!(machine.clock.battery, Some(false));
        assert_eq!(machine.clock.synchronised, Some(false));
    }

    #[test]
    fn the_firmware_of_a_raspberry_pi_5_is_found() {
        let soc = "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled";
        let root = root(&[(soc, "20002")]);
        let machine = sample(root.path());
        assert_eq!(machine.undervoltage, Some(Seen::Never));
        assert_eq!(machine.throttled, Some(Seen::Now));
    }

    #[test]
    fn a_machine_that_says_nothing_or_nonsense_is_not_known() {
        for files in [
            &[][..],
            &[
                ("sys/class/thermal/thermal_zone0/temp", "warm"),
                (
                    "sys/devices/platform/soc/soc:firmware/get_throttled",
                    "0xzz",
                ),
                ("sys/class/block/mmcblk0/device/life_time", "?"),
            ][..],
        ] {
            assert_eq!(sample(root(files).path()), Machine::default());
        }
    }
}
