//! A small disk for a box's data, which can be filled and broken.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs;

/// A file system of its own at `data` in a box's directory; unmounted when dropped.
#[derive(Debug)]
pub struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: where a test fails the box may still be there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

impl Disk {
    /// In memory, of this size (`200m`). `None`, said aloud, where the tests may not mount.
    pub fn in_memory(dir: &Path, size: &str) -> Option<Disk> {
        let disk = Disk::new(dir)?;
        let size = format!("size={size}");
        disk.run("mount", &["-t", "tmpfs", "-o", &size, "podium-test"]);
        Some(disk)
    }

    /// ext4, which can be made to abort.
    pub fn ext4(dir: &Path) -> Option<Disk> {
        let disk = Disk::new(dir)?;
        let image = dir.join("disk.img");
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(200 << 20).expect("its length");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        assert!(made.expect("mkfs.ext4 can be run").success());
        disk.mount_image(dir);
        Some(disk)
    }

    fn mount_image(&self, dir: &Path) {
        let image = dir.join("disk.img").display().to_string();
        self.run("mount", &["-o", "loop", &image]);
    }

    fn new(dir: &Path) -> Option<Disk> {
        let root = rustix::process::geteuid().is_root();
        if !needs(root, "only root can mount a small disk") {
            return None;
        }
        let data = dir.join("data");
        std::fs::create_dir(&data).expect("a new directory");
        Some(Disk(data))
    }

    /// Takes the image of [`Disk::ext4`] out and puts it in again, as after a restart.
    pub fn mount_again(&self, dir: &Path) {
        self.run("umount", &[]);
        self.mount_image(dir);
    }

    /// Remounts it with another option.
    pub fn remount(&self, option: &str) {
        self.run("mount", &["-o", &format!("remount,{option}")]);
    }

    /// Takes all room that is left.
    pub fn fill(&self) {
        let stat = rustix::fs::statvfs(&self.0).expect("a file system");
        let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
        // The box may have written meanwhile.
        self.remount(&format!("size={}", used + (1 << 20)));
    }

    /// Takes all room at once, to the last byte, as another program may that writes there.
    pub fn crowd(&self) {
        let others = std::fs::File::create(self.0.join("others")).expect("a file");
        let mut length = 0;
        loop {
            let stat = rustix::fs::statvfs(&self.0).expect("a file system");
            let free = stat.f_bavail * stat.f_frsize;
            if free == 0 {
                return;
            }
            // Who lives there may have written meanwhile.
            let flags = rustix::fs::FallocateFlags::empty();
            if rustix::fs::fallocate(&others, flags, length, free).is_ok() {
                length += free;
            }
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program).args(arguments).arg(&self.0).status();
        let status = status.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert!(status.success(), "{program} {arguments:?}");
    }
}
