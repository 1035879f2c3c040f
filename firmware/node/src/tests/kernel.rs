//! The files of blocks on a disk that the kernel itself refuses: full, without room for another file, read-only. What lies below
//! is real here; [`faults`](super::faults) has each operation fail, on a disk that is none. An EIO cannot be had without a device
//! that breaks: here it is put in before the call, and `tests/tests/outage.rs` has ext4 abort under the whole box.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;
use std::slice::from_ref;

use bytes::Bytes;
use cid::Cid;
use rustix::io::Errno;

use crate::Leaf;
use crate::blocks::Blocks;
use crate::steps::refusing;

/// A file system in memory; unmounted when dropped.
struct Mount(tempfile::TempDir);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

impl Mount {
    /// `None`, said aloud, where the tests may not mount.
    fn new(options: &str) -> Option<Mount> {
        let mount = Mount(tempfile::tempdir().unwrap());
        if !mount.mount(&["-t", "tmpfs", "-o", options, "podium-test"]) {
            let missing = "a small disk cannot be mounted, which takes root";
            assert!(std::env::var_os("PODIUM_NO_SKIP").is_none(), "{missing}");
            // Past the harness, which keeps to itself what a test prints that passes.
            let _ = writeln!(std::io::stderr(), "SKIPPED: {missing}");
            return None;
        }
        Some(mount)
    }

    fn remount(&self, option: &str) {
        assert!(self.mount(&["-o", &format!("remount,{option}")]));
    }

    fn mount(&self, arguments: &[&str]) -> bool {
        let mut mount = Command::new("mount");
        let status = mount.args(arguments).arg(self.path()).status();
        status.is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

fn block(kib: usize, byte: u8) -> (Cid, Bytes) {
    let leaf = Leaf::split(vec![byte; kib << 10].into())[0].clone();
    (leaf.cid(), leaf.bytes().clone())
}

/// These are there, whole, and nothing else is.
fn check(blocks: &Blocks, expected: &[&(Cid, Bytes)]) {
    let listing = blocks.list().unwrap();
    assert_eq!(listing.temporary, [] as [&Path; 0]);
    assert_eq!(listing.blocks.iter().count(), expected.len());
    for (cid, bytes) in expected {
        assert_eq!(blocks.get(cid).unwrap().as_ref(), Some(bytes));
        assert_eq!(blocks.length(cid).unwrap(), Some(bytes.len() as u64));
    }
}

#[test]
fn a_full_disk_has_whole_blocks_and_takes_more_when_there_is_room() {
    let Some(disk) = Mount::new("size=512k") else {
        return;
    };
    let blocks = Blocks::open(disk.path()).unwrap();
    let (old, fits, large) = (block(100, 1), block(150, 2), block(400, 3));
    blocks.put(from_ref(&old)).unwrap();
    let error = blocks.put(&[fits.clone(), large.clone()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    check(&blocks, &[&old, &fits]);
    blocks.remove(&[old.0, fits.0]).unwrap();
    check(&blocks, &[]);
    blocks.put(from_ref(&large)).unwrap();
    check(&blocks, &[&large]);
}

/// The root of the file system, the directory of blocks, and a shard with its block leave one file more.
#[test]
fn where_no_file_can_be_made_nothing_is_left() {
    let Some(disk) = Mount::new("size=1m,nr_inodes=5") else {
        return;
    };
    let blocks = Blocks::open(disk.path()).unwrap();
    let (old, new) = (block(1, 1), block(1, 2));
    blocks.put(from_ref(&old)).unwrap();
    // Its shard takes the last.
    let error = blocks.put(&[new]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    check(&blocks, &[&old]);
}

#[test]
fn a_read_only_disk_is_read_and_loses_nothing() {
    let Some(disk) = Mount::new("size=1m") else {
        return;
    };
    let blocks = Blocks::open(disk.path()).unwrap();
    let (old, new) = (block(100, 1), block(100, 2));
    blocks.put(from_ref(&old)).unwrap();
    disk.remount("ro");
    let refused = blocks.put(&[old.clone(), new.clone()]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    let refused = blocks.remove(&[old.0]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    check(&blocks, &[&old]);
    // Opening makes nothing that is there, and what is stored already is not written.
    let again = Blocks::open(disk.path()).unwrap();
    again.put(from_ref(&old)).unwrap();
    disk.remount("rw");
    blocks.put(from_ref(&new)).unwrap();
    check(&blocks, &[&old, &new]);
}

#[test]
fn a_disk_that_breaks_at_any_step_leaves_whole_blocks_and_takes_them_again() {
    let (old, first, second) = (block(10, 1), block(10, 2), block(10, 3));
    let both = [first.clone(), second.clone()];
    // Each block is made, filled and renamed; one sync is for both.
    for (steps, there) in [0, 0, 0, 1, 1, 1, 2].into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let blocks = Blocks::open(dir.path()).unwrap();
        blocks.put(from_ref(&old)).unwrap();
        let (put, _) = refusing(steps as u64, Errno::IO, true, || blocks.put(&both));
        let error = put.unwrap_err().raw_os_error();
        assert_eq!(error, Some(Errno::IO.raw_os_error()), "after {steps} steps");
        let expected = [&old, &first, &second];
        check(&blocks, &expected[..=there]);
        blocks.put(&both).unwrap();
        check(&blocks, &expected);
    }
    let dir = tempfile::tempdir().unwrap();
    let blocks = Blocks::open(dir.path()).unwrap();
    let (all, refused) = refusing(7, Errno::IO, true, || blocks.put(&both));
    all.expect("there are no more steps");
    assert_eq!(refused, crate::steps::Refused::None);
}

/// Somebody has tidied up below it: that is a lost block, and no more.
#[test]
fn a_directory_that_is_gone_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = Blocks::open(dir.path()).unwrap();
    let it = block(10, 1);
    blocks.put(from_ref(&it)).unwrap();
    std::fs::remove_dir_all(blocks.path(&it.0).parent().unwrap()).unwrap();
    assert_eq!(blocks.get(&it.0).unwrap(), None);
    assert!(!blocks.has(&it.0).unwrap());
    blocks.remove(&[it.0]).unwrap();
    blocks.put(from_ref(&it)).unwrap();
    check(&blocks, &[&it]);
    // Something else in its place is an error, and not an absence.
    let shard = blocks.path(&it.0).parent().unwrap().to_owned();
    std::fs::remove_dir_all(&shard).unwrap();
    std::fs::write(&shard, "").unwrap();
    assert_eq!(
        blocks.get(&it.0).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
    assert_eq!(
        blocks.put(&[it]).unwrap_err().kind(),
        ErrorKind::NotADirectory
    );
}
