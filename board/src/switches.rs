//! The switches in sysfs that take a card away and bring it back.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a device stays switched off while it is revived.
const OFF: Duration = Duration::from_millis(500);

/// A box that ends while one is off would find no card ever after, so a note in a file says which one it is until it is
/// on again. A power cut needs none: the kernel begins with all of them on.
#[derive(Debug)]
pub struct Switches {
    sysfs: PathBuf,
    note: PathBuf,
}

impl Switches {
    /// `sysfs` is `/sys` but for tests; `note` is a file of the box's own, which is there only while something is off.
    pub fn new(sysfs: &Path, note: PathBuf) -> Switches {
        Switches {
            sysfs: sysfs.into(),
            note,
        }
    }

    /// Takes the device away from its drivers and gives it back: it is enumerated anew, as if it had been plugged.
    ///
    /// # Errors
    /// sysfs refuses: this needs root.
    pub fn reauthorise(&self, usb: &Path) -> io::Result<()> {
        self.off_and_on(&usb.join(AUTHORISED.attribute), || std::thread::sleep(OFF))
    }

    /// Switches the power of the device's port off and on, where the hub can.
    ///
    /// # Errors
    /// sysfs refuses, or the kernel has no switch for the port (before 6.0).
    pub fn cycle_power(&self, usb: &Path) -> io::Result<()> {
        let port = fs::canonicalize(usb.join("port"))?;
        self.off_and_on(&port.join(DISABLED.attribute), || std::thread::sleep(OFF))
    }

    fn off_and_on(&self, switch: &Path, wait: impl FnOnce()) -> io::Result<()> {
        let (switch, kind) = self.known(switch)?;
        // A disk that takes no note is no reason to leave the card dead.
        let _ = fs::write(&self.note, switch.as_os_str().as_encoded_bytes());
        match fs::write(&switch, kind.off) {
            Ok(()) => wait(),
            Err(error) => {
                self.forget();
                return Err(error);
            }
        }
        fs::write(&switch, kind.on)?;
        self.forget();
        Ok(())
    }

    /// Switches on what was left off, by a box that was killed or a kernel that refused: which it was, if any.
    ///
    /// # Errors
    /// The kernel refuses still. What the note says is not touched if it is no such switch.
    pub fn restore(&self) -> io::Result<Option<PathBuf>> {
        let Ok(noted) = fs::read(&self.note) else {
            return Ok(None);
        };
        // Gone with its device, or never one.
        let Ok((switch, kind)) = self.known(Path::new(OsStr::from_bytes(&noted))) else {
            self.forget();
            return Ok(None);
        };
        fs::write(&switch, kind.on).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", switch.display()))
        })?;
        self.forget();
        Ok(Some(switch))
    }

    fn forget(&self) {
        let _ = fs::remove_file(&self.note);
    }

    /// A switch of a USB device or of a hub's port, by the path that it has behind all links.
    fn known(&self, switch: &Path) -> io::Result<(PathBuf, &'static Switch)> {
        let switch = fs::canonicalize(switch)?;
        let inside = switch.starts_with(fs::canonicalize(&self.sysfs)?);
        let kind = [&AUTHORISED, &DISABLED].into_iter().find(|kind| {
            let named = switch.file_name() == Some(OsStr::new(kind.attribute));
            // Other devices have attributes of these names too (Thunderbolt, cpuidle).
            named && switch.with_file_name(kind.beside).exists()
        });
        (kind.filter(|_| inside).map(|kind| (switch, kind)))
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}

/// An attribute, and what is written to it.
#[derive(Debug)]
struct Switch {
    attribute: &'static str,
    off: &'static str,
    on: &'static str,
    /// An attribute that tells its device from those of other kinds.
    beside: &'static str,
}

const AUTHORISED: Switch = Switch {
    attribute: "authorized",
    off: "0",
    on: "1",
    beside: "idVendor",
};

const DISABLED: Switch = Switch {
    attribute: "disable",
    off: "1",
    on: "0",
    beside: "connect_type",
};

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with a device, its port, and attributes of the same names that are not ours; and a place for the note.
    fn switches() -> (tempfile::TempDir, Switches) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("sys/hub/usb1-port1/disable", "0"),
            ("sys/hub/usb1-port1/connect_type", "hotplug"),
            ("sys/hub/1-1/idVendor", "534d"),
            ("sys/hub/1-1/authorized", "1"),
            ("sys/thunderbolt/0-1/authorized", "0"),
            ("sys/cpuidle/state0/disable", "1"),
            ("other/idVendor", "534d"),
            ("other/authorized", "0"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink("../usb1-port1", dir.path().join("sys/hub/1-1/port")).unwrap();
        symlink("../../other", dir.path().join("sys/hub/link")).unwrap();
        let switches = Switches::new(&dir.path().join("sys"), dir.path().join("note"));
        (dir, switches)
    }

    #[test]
    fn a_card_that_is_switched_off_is_noted_until_it_is_on_again() {
        let (dir, switches) = switches();
        for (switch, off, on) in [
            ("sys/hub/1-1/authorized", "0", "1"),
            ("sys/hub/1-1/port/disable", "1", "0"),
        ] {
            let switch = dir.path().join(switch);
            let reads = |text: &str| assert_eq!(fs::read_to_string(&switch).unwrap(), text);
            let done = switches.off_and_on(&switch, || {
                reads(off);
                assert!(switches.note.exists());
            });
            done.unwrap();
            reads(on);
            assert!(!switches.note.exists());
            assert_eq!(switches.restore().unwrap(), None);
            // The process ends in between.
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                switches.off_and_on(&switch, || std::panic::resume_unwind(Box::new(())))
            }));
            assert!(killed.is_err());
            reads(off);
            let restored = switches.restore().unwrap();
            assert_eq!(restored, Some(fs::canonicalize(&switch).unwrap()));
            reads(on);
            assert!(!switches.note.exists());
        }
    }

    #[test]
    fn a_switch_that_refuses_is_tried_again_and_one_that_is_gone_is_forgotten() {
        let (dir, switches) = switches();
        let switch = dir.path().join("sys/hub/1-1/authorized");
        // A directory takes no text, whoever writes it.
        let refused = switches.off_and_on(&switch, || {
            fs::remove_file(&switch).unwrap();
            fs::create_dir(&switch).unwrap();
        });
        assert!(refused.is_err());
        assert!(switches.restore().is_err());
        fs::remove_dir(&switch).unwrap();
        fs::write(&switch, "0").unwrap();
        assert!(switches.restore().unwrap().is_some());
        assert_eq!(fs::read_to_string(&switch).unwrap(), "1");
        let gone = switches.off_and_on(&switch, || {
            fs::remove_dir_all(switch.parent().unwrap()).unwrap()
        });
        assert!(gone.is_err());
        assert_eq!(switches.restore().unwrap(), None);
        assert!(!switches.note.exists());
    }

    #[test]
    fn a_note_leads_to_no_other_file() {
        let (dir, switches) = switches();
        for noted in [
            "other/authorized",
            "sys/hub/link/authorized",
            "sys/../other/authorized",
            "sys/thunderbolt/0-1/authorized",
            "sys/cpuidle/state0/disable",
            "sys/hub/1-1/idVendor",
            "sys/hub/1-1",
            "",
        ] {
            let noted = dir.path().join(noted);
            let before = fs::read(&noted).ok();
            fs::write(&switches.note, noted.as_os_str().as_bytes()).unwrap();
            assert_eq!(switches.restore().unwrap(), None, "{}", noted.display());
            assert_eq!(fs::read(&noted).ok(), before, "{}", noted.display());
            assert!(!switches.note.exists());
        }
        fs::write(&switches.note, [0, 255, b'\n']).unwrap();
        assert_eq!(switches.restore().unwrap(), None);
    }
}
