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
        self.off_and_on(&[usb.join(AUTHORISED.attribute)], pause)
    }

    /// Switches the power of the device's port off and on, where the hub can.
    ///
    /// # Errors
    /// sysfs refuses, or the kernel has no switch for the port (before 6.0).
    pub fn cycle_power(&self, usb: &Path) -> io::Result<()> {
        self.off_and_on(&of_power(usb), pause)
    }

    /// Switches all off in this order, and on in the other. Where one refuses, those before it are on again.
    fn off_and_on(&self, switches: &[PathBuf], wait: impl FnOnce()) -> io::Result<()> {
        let known = switches.iter().map(|switch| self.known(switch));
        let switches = known.collect::<io::Result<Vec<_>>>()?;
        let names: Vec<&[u8]> = (switches.iter())
            .map(|(switch, _)| switch.as_os_str().as_bytes())
            .collect();
        // A disk that takes no note is no reason to leave the card dead.
        let _ = fs::write(&self.note, names.join(&b'\n'));
        let mut off = 0;
        let done = switches.iter().try_for_each(|(switch, kind)| {
            fs::write(switch, kind.off)?;
            off += 1;
            Ok(())
        });
        if done.is_ok() {
            wait();
        }
        self.on(&switches[..off]).and(done)
    }

    /// Switches all on, the last one first, and forgets them unless one refuses.
    fn on(&self, switches: &[(PathBuf, &Switch)]) -> io::Result<()> {
        let mut done = Ok(());
        for (switch, kind) in switches.iter().rev() {
            let on = fs::write(switch, kind.on);
            done = done.and(on.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", switch.display()))
            }));
        }
        done.map(|()| self.forget())
    }

    /// Switches on what was left off, by a box that was killed or a kernel that refused: which they were, if any.
    ///
    /// # Errors
    /// The kernel refuses still. What the note says is not touched if it is no such switch.
    pub fn restore(&self) -> io::Result<Vec<PathBuf>> {
        let noted = fs::read(&self.note).unwrap_or_default();
        let noted = noted.split(|byte| *byte == b'\n');
        // What is not known is gone with its device, or was never one.
        let switches: Vec<_> = noted
            .filter_map(|switch| self.known(Path::new(OsStr::from_bytes(switch))).ok())
            .collect();
        self.on(&switches)?;
        Ok(switches.into_iter().map(|(switch, _)| switch).collect())
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

/// A USB 3 hub has each socket as two ports, and keeps its power while one of them has any (uhubctl, "USB 3.0 hubs"), so both are
/// switched: the other one first, or the card would come back there. Where the firmware does not tell which two are one socket, the kernel
/// goes by their numbers, and on a root hub those are others' (`find_and_link_peer`, usb/core/port.c): one at which something else hangs stays.
fn of_power(usb: &Path) -> Vec<PathBuf> {
    let port = usb.join("port");
    let peer =
        Some(port.join("peer")).filter(|peer| peer.exists() && !peer.join("device").exists());
    let ports = peer.into_iter().chain([port]);
    ports.map(|port| port.join(DISABLED.attribute)).collect()
}

fn pause() {
    std::thread::sleep(OFF);
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
            ("sys/hub/usb2-port1/disable", "0"),
            ("sys/hub/usb2-port1/connect_type", "hotplug"),
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
        symlink("../usb2-port1", dir.path().join("sys/hub/usb1-port1/peer")).unwrap();
        symlink("../../other", dir.path().join("sys/hub/link")).unwrap();
        let switches = Switches::new(&dir.path().join("sys"), dir.path().join("note"));
        (dir, switches)
    }

    #[test]
    fn a_card_that_is_switched_off_is_noted_until_it_is_on_again() {
        let (dir, switches) = switches();
        let usb = dir.path().join("sys/hub/1-1");
        for (paths, known, off, on) in [
            (
                vec![usb.join("authorized")],
                &["1-1/authorized"][..],
                "0",
                "1",
            ),
            (
                of_power(&usb),
                &["usb2-port1/disable", "usb1-port1/disable"],
                "1",
                "0",
            ),
        ] {
            let hub = fs::canonicalize(dir.path().join("sys/hub")).unwrap();
            let known: Vec<_> = known.iter().map(|path| hub.join(path)).collect();
            let reads = |text: &str| {
                for path in &known {
                    assert_eq!(fs::read_to_string(path).unwrap(), text);
                }
            };
            let done = switches.off_and_on(&paths, || {
                reads(off);
                assert!(switches.note.exists());
            });
            done.unwrap();
            reads(on);
            assert!(!switches.note.exists());
            assert!(switches.restore().unwrap().is_empty());
            // The process ends in between.
            let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                switches.off_and_on(&paths, || std::panic::resume_unwind(Box::new(())))
            }));
            assert!(killed.is_err());
            reads(off);
            assert_eq!(switches.restore().unwrap(), known);
            reads(on);
            assert!(!switches.note.exists());
        }
    }

    #[test]
    fn a_peer_at_which_something_else_hangs_keeps_its_power() {
        let (dir, _) = switches();
        let usb = dir.path().join("sys/hub/1-1");
        assert_eq!(of_power(&usb).len(), 2);
        let peer = dir.path().join("sys/hub/usb2-port1");
        symlink("../1-1", peer.join("device")).unwrap();
        assert_eq!(of_power(&usb), [usb.join("port/disable")]);
    }

    #[test]
    fn a_switch_that_refuses_is_tried_again_and_one_that_is_gone_is_forgotten() {
        let (dir, switches) = switches();
        let [first, second] = ["sys/hub/usb2-port1/disable", "sys/hub/1-1/authorized"]
            .map(|path| dir.path().join(path));
        let both = [first.clone(), second.clone()];
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        // A directory takes no text, whoever writes it.
        let block = |path: &Path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        };
        let unblock = |path: &Path, text: &str| {
            fs::remove_dir(path).unwrap();
            fs::write(path, text).unwrap();
        };
        // One that is not switched off costs the other nothing.
        block(&second);
        assert!(switches.off_and_on(&both, || panic!("it is on")).is_err());
        assert_eq!(read(&first), "0");
        assert!(!switches.note.exists());
        unblock(&second, "1");
        // One that does not go on keeps the other from nothing.
        assert!(switches.off_and_on(&both, || block(&second)).is_err());
        assert_eq!(read(&first), "0");
        assert!(switches.restore().is_err());
        unblock(&second, "0");
        assert_eq!(switches.restore().unwrap().len(), 2);
        assert_eq!(read(&second), "1");
        let gone = switches.off_and_on(&both, || {
            fs::remove_dir_all(second.parent().unwrap()).unwrap()
        });
        assert!(gone.is_err());
        assert_eq!(switches.restore().unwrap().len(), 1);
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
            assert!(
                switches.restore().unwrap().is_empty(),
                "{}",
                noted.display()
            );
            assert_eq!(fs::read(&noted).ok(), before, "{}", noted.display());
            assert!(!switches.note.exists());
        }
        fs::write(&switches.note, [0, 255, b'\n']).unwrap();
        assert!(switches.restore().unwrap().is_empty());
    }
}
