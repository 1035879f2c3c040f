//! Planted faults in a real data directory: each is named, and what can be made whole is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cid::Cid;
use rustix::io::Errno;

use super::read_all;
use crate::fsck::CLOSING;
use crate::steps::{Refused, refusing};
use crate::{Budgets, Finding, Leaf, NewFile, Node, OpenError, Report, Resolved, Update, fsck};

const LIMIT_BYTES: u64 = 1 << 30;

/// Two finished broadcasts of six segments.
struct DataDir {
    dir: tempfile::TempDir,
    roots: Vec<Cid>,
    /// What the first one's second segment consists of.
    node: Cid,
    leaf: Cid,
    directory: Cid,
}

async fn open(dir: &Path) -> Node {
    let clock = || Some(SystemTime::now());
    Node::offline(dir, Budgets::new(LIMIT_BYTES, 0), clock)
        .await
        .unwrap()
        .0
}

fn segment(broadcast: u64, index: u64) -> NewFile {
    let part = |part: u64| format!("{broadcast} {index} {part} ").repeat(300);
    NewFile {
        path: format!("video/{:04}/{index}.m4s", index / 4),
        leaves: (0..3).flat_map(|it| Leaf::split(part(it).into())).collect(),
        keep: None,
    }
}

impl DataDir {
    async fn new() -> DataDir {
        let dir = tempfile::tempdir().unwrap();
        let node = open(dir.path()).await;
        let mut roots = Vec::new();
        for number in 1..=2 {
            let broadcast = node
                .begin(format!("broadcast {number}").into())
                .await
                .unwrap();
            for index in 0..6 {
                let playlist = NewFile::new("live.m3u8", format!("{number} up to {index}"));
                let update = Update {
                    broadcast,
                    row: Some(vec![index as u8]),
                    files: vec![segment(number, index), playlist],
                    finish: index == 5,
                };
                let root = node.publish(update).await.unwrap().root;
                if index == 5 {
                    roots.push(root);
                }
            }
        }
        let Resolved::Directory { cid: directory, .. } =
            node.resolve(roots[0], "video").await.unwrap()
        else {
            panic!("video is a directory")
        };
        node.shutdown().await;
        let segment = segment(1, 1);
        DataDir {
            roots,
            directory,
            node: crate::file_cid(&segment.leaves),
            leaf: segment.leaves[1].cid(),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn block(&self, cid: Cid) -> PathBuf {
        crate::files(self.dir.path()).unwrap().blocks.path(&cid)
    }

    fn journal(&self, change: impl FnOnce(&redb::WriteTransaction)) {
        let journal = redb::Database::open(self.path("journal.redb")).unwrap();
        let transaction = journal.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
    }

    fn fsck(&self, repair: bool) -> Report {
        fsck(self.dir.path(), repair).unwrap()
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// Plants a fault, and wants it named without being touched, then repaired, then gone. `lost` are the files that nobody can
/// bring back, of the first broadcast.
async fn check(
    fault: &str,
    plant: impl FnOnce(&DataDir),
    named: impl Fn(&Finding) -> bool,
    lost: &[&str],
) {
    let it = DataDir::new().await;
    plant(&it);
    let looked = it.fsck(false);
    assert!(looked.findings.iter().any(&named), "{fault}: {looked:?}");
    let repaired = it.fsck(true);
    assert!(
        repaired.findings.iter().any(&named),
        "{fault}: {repaired:?}"
    );
    let again = it.fsck(true);
    assert_eq!(
        (again.findings.as_slice(), again.leftovers),
        (&[][..], 0),
        "{fault}"
    );
    assert_eq!(again.broadcasts, 2, "{fault}");

    let node = open(it.dir.path()).await;
    has_all_but(lost, &node, fault).await;
    let broadcasts = node.broadcasts().await.unwrap();
    for (number, broadcast) in (1..).zip(&broadcasts) {
        let root = broadcast.root.unwrap();
        if lost.is_empty() {
            assert_eq!(
                root,
                it.roots[number as usize - 1],
                "{fault}: nothing was lost"
            );
            assert!(broadcast.finished, "{fault}");
        }
    }
    let damaged: Vec<_> = repaired.damaged.iter().flat_map(|it| &it.lost).collect();
    assert_eq!(damaged, lost, "{fault}");
    node.shutdown().await;
}

/// All segments of both are there, but for these of the first.
async fn has_all_but(lost: &[&str], node: &Node, fault: &str) {
    let broadcasts = node.broadcasts().await.unwrap();
    assert_eq!(broadcasts.len(), 2, "{fault}");
    for (number, broadcast) in (1..).zip(&broadcasts) {
        let files = read_all(node, broadcast.root.unwrap()).await.unwrap();
        for index in 0..6 {
            let segment = segment(number, index);
            let leaves = segment.leaves.iter();
            let content: Vec<u8> = leaves.flat_map(|it| it.bytes().to_vec()).collect();
            let there = files.get(&segment.path);
            if number == 1 && lost.contains(&segment.path.as_str()) {
                assert_eq!(there, None, "{fault}");
            } else {
                let same = there.is_some_and(|it| *it == content);
                assert!(same, "{fault}: {}", segment.path);
            }
        }
    }
}

const SEGMENT: &[&str] = &["video/0000/1.m4s"];

#[tokio::test]
async fn planted_faults_are_named_and_repaired() {
    let corrupt = |it: &Finding| matches!(it, Finding::CorruptBlock { .. });
    let missing = |it: &Finding| matches!(it, Finding::MissingBlock { .. });
    let directory = |it: &Finding| matches!(it, Finding::Directory { .. });
    let journal = |it: &Finding| matches!(it, Finding::Journal { broadcasts: 2, .. });
    let references = |it: &Finding| matches!(it, Finding::References { .. });

    check(
        "a flipped bit in a leaf",
        |it| flip(&it.block(it.leaf), 100),
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "a flipped bit in a file's node",
        |it| flip(&it.block(it.node), 5),
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "a flipped bit in a directory",
        |it| flip(&it.block(it.directory), 5),
        corrupt,
        &[],
    )
    .await;
    check(
        "an empty block",
        |it| fs::write(it.block(it.leaf), "").unwrap(),
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "a block that was cut off",
        |it| {
            let file = fs::File::options()
                .write(true)
                .open(it.block(it.leaf))
                .unwrap();
            file.set_len(100).unwrap();
        },
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "a block with something behind it",
        |it| {
            let mut bytes = fs::read(it.block(it.leaf)).unwrap();
            bytes.push(0);
            fs::write(it.block(it.leaf), bytes).unwrap();
        },
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "another block under its name",
        |it| fs::write(it.block(it.leaf), "another").unwrap(),
        corrupt,
        SEGMENT,
    )
    .await;
    check(
        "a missing leaf",
        |it| fs::remove_file(it.block(it.leaf)).unwrap(),
        missing,
        SEGMENT,
    )
    .await;
    check(
        "a missing directory",
        |it| fs::remove_file(it.block(it.directory)).unwrap(),
        directory,
        &[],
    )
    .await;
    check(
        "a missing root",
        |it| fs::remove_file(it.block(it.roots[0])).unwrap(),
        directory,
        &[],
    )
    .await;
    check(
        "no journal",
        |it| fs::remove_file(it.path("journal.redb")).unwrap(),
        journal,
        &[],
    )
    .await;
    check(
        "an empty journal",
        |it| fs::write(it.path("journal.redb"), "").unwrap(),
        journal,
        &[],
    )
    .await;
    check(
        "a journal that was cut in half",
        |it| {
            let file = fs::File::options()
                .write(true)
                .open(it.path("journal.redb"))
                .unwrap();
            file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        },
        journal,
        &[],
    )
    .await;
    check(
        "a journal that is none",
        |it| fs::write(it.path("journal.redb"), [7; 1 << 16]).unwrap(),
        journal,
        &[],
    )
    .await;
    check(
        "wrong counts of references",
        |it| {
            it.journal(|transaction| {
                let mut shared = transaction.open_table(crate::journal::SHARED).unwrap();
                let key: [u8; 36] = it.leaf.to_bytes().try_into().unwrap();
                shared.insert(key, 9).unwrap();
            })
        },
        references,
        &[],
    )
    .await;
    check(
        "rows of a broadcast that is not there",
        |it| {
            it.journal(|transaction| {
                let mut rows = transaction.open_table(crate::journal::ROWS).unwrap();
                rows.insert((77, 0), &b"row"[..]).unwrap();
            })
        },
        references,
        &[],
    )
    .await;
    check(
        "a record that is none",
        |it| {
            it.journal(|transaction| {
                let mut names = transaction.open_table(crate::journal::NAMES).unwrap();
                names.insert("k51", &b"record"[..]).unwrap();
            })
        },
        |it| matches!(it, Finding::Record { name } if name == "k51"),
        &[],
    )
    .await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let to = to.join(file.file_name());
        match file.file_type().unwrap().is_dir() {
            true => copy(&file.path(), &to),
            false => drop(fs::copy(file.path(), to).unwrap()),
        }
    }
}

/// A repair on a disk that is full, breaks, or turns read-only, at each of its writes in turn: it says what to do about the disk, and
/// when that is done the next one repairs what this one would have. Nothing that was good is lost.
#[tokio::test]
async fn a_disk_that_refuses_at_any_step_of_a_repair_loses_nothing_more() {
    type Plant = fn(&DataDir);
    let damage: Plant = |it| {
        flip(&it.block(it.leaf), 100);
        fs::remove_file(it.block(it.directory)).unwrap();
        fs::write(it.path("journal.redb.tmp"), "half writ").unwrap();
        it.journal(|transaction| {
            let mut rows = transaction.open_table(crate::journal::ROWS).unwrap();
            rows.insert((77, 0), &b"row"[..]).unwrap();
        });
    };
    let no_journal: Plant = |it| fs::write(it.path("journal.redb"), [7; 1 << 16]).unwrap();
    // It syncs thousands of times, and what a power cut leaves is not asked here.
    let memory = Path::new("/dev/shm");
    let cases: [(&str, Plant, &[&str], bool); 2] = [
        ("blocks, rows and leftovers", damage, SEGMENT, true),
        ("a journal that is none", no_journal, &[], false),
    ];
    for (fault, plant, lost, has_journal) in cases {
        let planted = DataDir::new().await;
        plant(&planted);
        // In turn: which writes a repair does hangs neither on the error nor on whether the next one works again.
        let errors = [
            (Errno::NOSPC, "free some space"),
            (Errno::IO, "check the disk"),
            (Errno::ROFS, "make it writable"),
        ];
        let mut ways = (0..)
            .flat_map(|steps| [(steps, true), (steps, false)])
            .zip(errors.into_iter().cycle());
        loop {
            let ((steps, lasts), (error, advice)) = ways.next().unwrap();
            let dir = tempfile::tempdir_in(memory).unwrap();
            copy(planted.dir.path(), dir.path());
            let (done, refused) = refusing(steps, error, lasts, || fsck(dir.path(), true));
            let fault = format!("{fault}, {error:?} after {steps} steps");
            if let Err(told) = &done {
                assert!(told.to_string().contains(advice), "{fault}: {told}");
            }
            let fails = match refused {
                Refused::None => Some(false),
                // A disk that works again may have been written to after all.
                Refused::Step => lasts.then_some(true),
                Refused::Forgiven(what) => {
                    assert_eq!(what, CLOSING, "{fault}");
                    Some(false)
                }
            };
            assert!(
                fails.is_none_or(|fails| done.is_err() == fails),
                "{fault}: {done:?}"
            );
            fsck(dir.path(), true).unwrap();
            let node = open(dir.path()).await;
            has_all_but(lost, &node, &fault).await;
            for (number, broadcast) in (1..).zip(node.broadcasts().await.unwrap()) {
                let rows = node.rows(broadcast.id).await.unwrap();
                let known = broadcast.meta == format!("broadcast {number}").into_bytes();
                assert_eq!(
                    (known, rows.len() == 6),
                    (has_journal, has_journal),
                    "{fault}"
                );
            }
            node.shutdown().await;
            if refused == Refused::None {
                let again = fsck(dir.path(), true).unwrap();
                assert_eq!((again.findings, again.leftovers), (vec![], 0), "{fault}");
                assert!(steps > 10, "{fault}");
                break;
            }
        }
    }
}

/// Who may not read a file, or has too many open, has not lost it. Only looking, so that nothing is refused but the reading.
#[tokio::test]
async fn a_journal_that_cannot_be_read_for_another_reason_than_the_disk_is_not_broken() {
    let it = DataDir::new().await;
    for (error, broken) in [
        (Errno::IO, true),
        (Errno::UCLEAN, true),
        (Errno::MFILE, false),
        (Errno::ACCESS, false),
        (Errno::NOMEM, false),
    ] {
        let (done, refused) = refusing(0, error, true, || fsck(it.dir.path(), false));
        let findings = done.map(|report| report.findings);
        let found = (findings.as_ref())
            .is_ok_and(|found| matches!(found[..], [Finding::Journal { broadcasts: 2, .. }]));
        assert_eq!(
            (refused, found, findings.is_err()),
            (Refused::Step, broken, !broken),
            "{error:?}: {findings:?}"
        );
    }
}

/// As above, with files that nobody can open: a link to itself.
#[tokio::test]
async fn what_cannot_be_opened_is_neither_moved_nor_dropped() {
    let it = DataDir::new().await;
    for path in [it.path("journal.redb"), it.block(it.leaf)] {
        let away = it.path("away");
        fs::rename(&path, &away).unwrap();
        std::os::unix::fs::symlink(&path, &path).unwrap();
        let told = fsck(it.dir.path(), true).unwrap_err().to_string();
        assert!(told.contains("symbolic link"), "{told}");
        fs::rename(&away, &path).unwrap();
        let report = it.fsck(true);
        assert_eq!((report.findings, report.broadcasts), (vec![], 2));
    }
}

#[tokio::test]
async fn leftovers_are_no_fault() {
    let it = DataDir::new().await;
    let orphan = Leaf::split("orphan".into()).remove(0);
    let path = it.block(orphan.cid());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "orphaned").unwrap();
    fs::write(path.with_extension("data.tmp"), "half writ").unwrap();
    fs::write(it.path("journal.redb.tmp"), "half writ").unwrap();
    for (repair, leftovers) in [(false, 3), (true, 3), (true, 0)] {
        let report = it.fsck(repair);
        assert_eq!((report.findings, report.leftovers), (vec![], leftovers));
    }
}

#[tokio::test]
async fn a_broken_key_is_named_and_left() {
    let it = DataDir::new().await;
    fs::write(it.path("channel.key"), "junk").unwrap();
    for _attempt in 0..2 {
        let report = it.fsck(true);
        assert!(
            matches!(&report.findings[..], [key @ Finding::Key { .. }] if !key.repairable()),
            "{report:?}"
        );
    }
    assert_eq!(fs::read(it.path("channel.key")).unwrap(), b"junk");
}

/// redb looks at no checksum after a clean end, and asserts what it believes about its pages.
#[tokio::test]
async fn a_flipped_bit_in_a_page_of_the_journal_is_an_error_and_no_panic() {
    let clock = || Some(SystemTime::now());
    let it = DataDir::new().await;
    let path = it.path("journal.redb");
    let whole = fs::read(&path).unwrap();
    let used: Vec<usize> = (whole.iter().enumerate())
        .filter(|(_, byte)| **byte != 0)
        .map(|(at, _)| at)
        .collect();
    let mut broken = 0;
    for at in used.iter().step_by(used.len() / 150) {
        fs::write(&path, &whole).unwrap();
        flip(&path, *at);
        match Node::offline(it.dir.path(), Budgets::new(LIMIT_BYTES, 0), clock).await {
            Ok((node, recovered)) => {
                let broadcasts = node.broadcasts().await.unwrap_or_default();
                for broadcast in broadcasts {
                    let _ = node.rows(broadcast.id).await;
                    let _ = node.paths_of(broadcast.id).await;
                    let _ = node.pin(broadcast.id, true).await;
                }
                drop(recovered);
                node.shutdown().await;
            }
            Err(OpenError::JournalBroken { .. }) => broken += 1,
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    assert!(broken > 0);
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_the_journal_is_survived() {
    let it = DataDir::new().await;
    let length = fs::metadata(it.path("journal.redb")).unwrap().len() as usize;
    // Whatever it hits: unused pages, a checksum, the header.
    for at in (0..length).step_by(length / 13) {
        let it = DataDir::new().await;
        flip(&it.path("journal.redb"), at);
        it.fsck(true);
        let again = it.fsck(true);
        assert_eq!(
            (again.findings.as_slice(), again.broadcasts),
            (&[][..], 2),
            "byte {at}"
        );
        let node = open(it.dir.path()).await;
        for broadcast in node.broadcasts().await.unwrap() {
            let files = read_all(&node, broadcast.root.unwrap()).await.unwrap();
            assert_eq!(files.len(), 7, "byte {at}");
        }
        node.shutdown().await;
    }
}
