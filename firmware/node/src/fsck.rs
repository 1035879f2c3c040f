//! `fsck`: every block against its CID, every root's closure, the journal.
//!
//! What can be made again is: directories and reference counts from the journal, the journal from the blocks. What cannot is
//! dropped: a corrupt block goes, and with it the files that need it. Their broadcast is open from then on, for the caller to
//! write what named them anew and to finish it.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use cid::Cid;
use rustix::io::Errno;

use crate::blocks::{Blocks, remove_file};
use crate::cids::Lengths;
use crate::error::CONTRADICTION;
use crate::journal::repair::FoundFile;
use crate::journal::{Journal, State};
use crate::names::NameRecord;
use crate::steps::{forgiven, step};
use crate::unixfs::{self, Node};
use crate::{
    BroadcastId, CHANNEL_FILE, IDENTITY_FILE, JOURNAL_FILE, JournalError, OpenError, REPO_DIR,
    StoreError, has_store, keys, lock, make_journal, opener, place_journal,
};

/// What a disk may refuse at the end of a repair.
pub(crate) const CLOSING: &str = "closing the journal";

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The block's bytes are not those of its CID.
    CorruptBlock { cid: Cid },
    /// The journal names it, and it is not there.
    MissingBlock { cid: Cid },
    /// A file that needs a block which is not there.
    LostFile {
        broadcast: BroadcastId,
        path: String,
    },
    /// A directory whose block is not there, or not what its entries make.
    Directory {
        broadcast: BroadcastId,
        path: String,
    },
    /// Rows of the journal that contradict each other.
    References { rows: usize },
    /// Pages of the journal's file that contradict each other, of which redb has kept the consistent state.
    JournalPages,
    /// The journal cannot be read at all, or is gone: of the broadcasts there remain their files.
    Journal { reason: String, broadcasts: usize },
    /// The name's record cannot be read: the next one goes on from the wall time.
    Record { name: String },
    /// A key that cannot be read. Only a copy helps.
    Key { path: PathBuf, reason: String },
}

impl Finding {
    /// Whether anything can be done about it.
    pub fn repairable(&self) -> bool {
        !matches!(self, Finding::Key { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::CorruptBlock { cid } => write!(f, "block {cid} is corrupt: removed"),
            Finding::MissingBlock { cid } => write!(f, "block {cid} is missing"),
            Finding::LostFile { broadcast, path } => {
                write!(f, "broadcast {broadcast}: {path} has lost a block: dropped")
            }
            Finding::Directory { broadcast, path } => write!(
                f,
                "broadcast {broadcast}: the directory /{path} is broken: made again"
            ),
            Finding::References { rows } => {
                write!(f, "the journal has {rows} wrong rows: put right")
            }
            Finding::JournalPages => f.write_str("the journal's file has broken pages: put right"),
            Finding::Journal { reason, broadcasts } => write!(
                f,
                "the journal cannot be read ({reason}): moved aside, and {broadcasts} broadcasts found among the blocks"
            ),
            Finding::Record { name } => {
                write!(
                    f,
                    "the record of the name {name} is broken: the next update signs another"
                )
            }
            Finding::Key { path, reason } => write!(
                f,
                "the key {} is broken ({reason}): restore it from a copy",
                path.display()
            ),
        }
    }
}

/// What was found, and done unless it was only looked.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// Files and blocks that were not finished: what a power cut leaves, and no fault.
    pub leftovers: usize,
    /// Broadcasts that have lost files, oldest first.
    pub damaged: Vec<Damaged>,
    pub broadcasts: usize,
    pub blocks: usize,
    pub bytes: u64,
}

/// A broadcast that has lost files. It is open: what named them has to be written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub broadcast: BroadcastId,
    pub lost: Vec<String>,
}

/// Looks at everything in a data directory on which no box is running, and puts right what can be if `repair` is set. What redb
/// mends of its own file it mends in any case: it cannot be read before.
pub fn fsck(dir: &Path, repair: bool) -> Result<Report, OpenError> {
    if !has_store(dir) {
        return Err(OpenError::NoStore {
            dir: dir.to_owned(),
        });
    }
    let _lock = lock(dir)?;
    let blocks = Blocks::open(&dir.join(REPO_DIR)).map_err(|error| OpenError::io(dir, error))?;
    let mut fsck = Fsck {
        dir,
        blocks,
        repair,
        lengths: Lengths::default(),
        report: Report::default(),
    };
    match fsck.run() {
        Ok(()) => Ok(fsck.report),
        Err(Failure::Io(error)) => Err(OpenError::io(dir, error)),
        Err(Failure::Open(error)) => Err(error),
        Err(Failure::Store(error)) => Err(OpenError::store(dir, error)),
    }
}

#[derive(Debug)]
enum Failure {
    Io(std::io::Error),
    Open(OpenError),
    Store(StoreError),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::Store(error)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::Store(error.into())
    }
}

struct Fsck<'a> {
    dir: &'a Path,
    blocks: Blocks,
    repair: bool,
    /// Bytes of every block that is there.
    lengths: Lengths,
    report: Report,
}

impl Fsck<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        self.list()?;
        self.keys();
        let Some(journal) = self.journal()? else {
            return Ok(());
        };
        let wrong = journal.recount(self.repair)?;
        if wrong > 0 {
            self.found(Finding::References { rows: wrong });
        }
        self.records(&journal)?;
        let bad = self.verify_blocks(&journal)?;
        self.broadcasts(&journal, &bad)?;
        // All that was put right is durable by now. What redb writes at its end spares the next opening a repair of its own, and it does
        // not say whether it could.
        forgiven(CLOSING, || drop(journal));
        Ok(())
    }

    fn found(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    fn list(&mut self) -> Result<(), Failure> {
        let listing = self.blocks.list()?;
        self.lengths = listing.blocks;
        let mut temporary = listing.temporary;
        for file in std::fs::read_dir(self.dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                temporary.push(path);
            }
        }
        self.report.leftovers += temporary.len();
        if self.repair {
            for path in &temporary {
                remove_file(path)?;
            }
        }
        Ok(())
    }

    fn keys(&mut self) {
        for name in [IDENTITY_FILE, CHANNEL_FILE] {
            let path = self.dir.join(name);
            if path.exists()
                && let Err(error) = keys::load(&path)
            {
                let reason = match error {
                    OpenError::KeyBroken { reason, .. } => reason,
                    error => error.to_string(),
                };
                self.found(Finding::Key { path, reason });
            }
        }
    }

    /// The journal, made again if it cannot be read; nothing where that was not asked for.
    fn journal(&mut self) -> Result<Option<Journal>, Failure> {
        let path = self.dir.join(JOURNAL_FILE);
        let reason = match open(&path)? {
            Opened::Journal { journal, intact } => {
                if !intact {
                    self.found(Finding::JournalPages);
                }
                return Ok(Some(journal));
            }
            Opened::Broken(reason) => reason,
        };
        let roots = self.roots()?;
        let broadcasts = roots.len();
        self.found(Finding::Journal { reason, broadcasts });
        if !self.repair {
            return Ok(None);
        }
        // In its place only with all that was found: the blocks of what it does not name would go as garbage.
        let made = make_journal(self.dir).map_err(Failure::Open)?;
        let journal = reopen(&made)?;
        // Blocks of directories that are encoded otherwise than before are new.
        for files in roots {
            let mut staged = journal.adopt(&files)?;
            self.blocks.put(&std::mem::take(&mut staged.blocks))?;
            staged.commit(None)?;
        }
        drop(journal);
        if path.exists() {
            step()?;
            std::fs::rename(&path, aside(&path))?;
        }
        place_journal(self.dir, &made)?;
        Ok(Some(reopen(&path)?))
    }

    /// Trees among the blocks that belong to no other: one of each broadcast, the one with the most in it, oldest first.
    fn roots(&self) -> Result<Vec<Vec<FoundFile>>, Failure> {
        let mut directories = HashMap::new();
        let mut below = HashSet::new();
        for (cid, _) in self.lengths.iter() {
            if let Some(Node::Directory(entries)) = self.node(&cid)? {
                below.extend(entries.iter().map(|(_, cid, _)| *cid));
                directories.insert(cid, entries.iter().map(|(_, _, size)| size).sum::<u64>());
            }
        }
        directories.retain(|cid, _| !below.contains(cid));
        let mut candidates = Vec::new();
        for (root, size) in directories {
            let (files, whole) = self.files(root)?;
            candidates.push((!whole, Reverse(size), root, files));
        }
        // One that has lost something comes after the one that was made in its place.
        candidates.sort_by_key(|(broken, size, root, _)| (*broken, *size, root.to_bytes()));
        let mut taken: HashSet<(String, Cid)> = HashSet::new();
        let mut found = Vec::new();
        for (_, _, root, files) in candidates {
            let name = |file: &FoundFile| (file.path.clone(), file.cid);
            // An earlier root of the same broadcast has its segments in common with the last one, another broadcast's only
            // what lies beside the playlists.
            let known = files.iter().filter(|file| taken.contains(&name(file)));
            if known.count() * 3 >= files.len() {
                continue;
            }
            taken.extend(files.iter().map(name));
            let written = std::fs::metadata(self.blocks.path(&root))?.modified()?;
            found.push((written, files));
        }
        found.sort_by_key(|(written, _): &(SystemTime, _)| *written);
        Ok(found.into_iter().map(|(_, files)| files).collect())
    }

    /// The files below a root whose blocks are all there, and whether that is all of them.
    fn files(&self, root: Cid) -> Result<(Vec<FoundFile>, bool), Failure> {
        let mut files = Vec::new();
        let mut whole = true;
        let mut pending = vec![(String::new(), root)];
        while let Some((dir, cid)) = pending.pop() {
            let Some(Node::Directory(entries)) = self.node(&cid)? else {
                whole = false;
                continue;
            };
            for (name, cid, tsize) in entries {
                let path = crate::path::join(&dir, &name);
                if crate::path::split(&path).is_err() {
                    continue;
                }
                let leaves = match self.node(&cid)? {
                    Some(Node::Directory(_)) => {
                        pending.push((path, cid));
                        continue;
                    }
                    Some(Node::Leaf(_)) => Vec::new(),
                    Some(Node::File { children, .. }) => self.below(children)?,
                    None => {
                        whole = false;
                        continue;
                    }
                };
                let mut blocks = std::iter::once(&cid).chain(&leaves);
                if blocks.all(|cid| self.lengths.of(cid).is_some()) {
                    files.push(FoundFile {
                        path,
                        cid,
                        tsize,
                        leaves,
                    });
                } else {
                    whole = false;
                }
            }
        }
        Ok((files, whole))
    }

    /// All blocks below a file's node: its leaves, and the nodes of a file that grew.
    fn below(&self, children: Vec<(Cid, u64)>) -> Result<Vec<Cid>, Failure> {
        let mut below = Vec::new();
        let mut pending = children;
        while let Some((cid, _)) = pending.pop() {
            below.push(cid);
            if !unixfs::is_raw(&cid)
                && let Some(Node::File { children, .. }) = self.node(&cid)?
            {
                pending.extend(children);
            }
        }
        Ok(below)
    }

    /// A block that is there: one that the disk cannot read is lost.
    fn read(&self, cid: &Cid) -> Result<Option<Bytes>, Failure> {
        match self.blocks.get(cid) {
            Err(error) if is_lost(&error) => Ok(None),
            read => Ok(read?),
        }
    }

    /// A block that is there and whole.
    fn node(&self, cid: &Cid) -> Result<Option<Node>, Failure> {
        let bytes = self.read(cid)?;
        let bytes = bytes.filter(|bytes| unixfs::verifies(cid, bytes));
        Ok(bytes.and_then(|bytes| unixfs::decode(cid, bytes).ok()))
    }

    fn records(&mut self, journal: &Journal) -> Result<(), Failure> {
        for (name, bytes) in journal.records()? {
            let read = (name.parse().ok()).map(|it| NameRecord::verify(&it, bytes.into()));
            if !matches!(read, Some(Ok(_))) {
                if self.repair {
                    journal.drop_record(&name)?;
                }
                self.found(Finding::Record { name });
            }
        }
        Ok(())
    }

    /// Reads every block that the journal names and returns those that are not there or not what they should be.
    fn verify_blocks(&mut self, journal: &Journal) -> Result<HashSet<Cid>, Failure> {
        let named = journal.named_blocks()?;
        let mut useless = Vec::new();
        // Garbage that is whole leaves by itself: somebody may still be walking it, or want it again.
        let listed = self.lengths.iter().map(|(cid, _)| cid);
        for cid in listed.filter(|cid| !named.contains(cid)) {
            let bytes = self.read(&cid)?;
            if !bytes.is_some_and(|bytes| unixfs::verifies(&cid, &bytes)) {
                useless.push(cid);
            }
        }
        self.report.leftovers += useless.len();
        let mut bad = HashSet::new();
        for cid in named.iter() {
            match self.read(&cid)? {
                Some(bytes) if unixfs::verifies(&cid, &bytes) => {
                    self.report.blocks += 1;
                    self.report.bytes += bytes.len() as u64;
                }
                None if self.lengths.of(&cid).is_none() => {
                    bad.insert(cid);
                    self.found(Finding::MissingBlock { cid });
                }
                _ => {
                    bad.insert(cid);
                    useless.push(cid);
                    self.found(Finding::CorruptBlock { cid });
                }
            }
        }
        if self.repair {
            self.blocks.remove(&useless)?;
        }
        Ok(bad)
    }

    fn broadcasts(&mut self, journal: &Journal, bad: &HashSet<Cid>) -> Result<(), Failure> {
        let mut lost: HashMap<BroadcastId, BTreeSet<String>> = HashMap::new();
        journal.for_each_file(|broadcast, path, blocks, _| {
            if blocks.iter().any(|block| bad.contains(block)) {
                lost.entry(broadcast).or_default().insert(path);
            }
        })?;
        let broadcasts = journal.broadcasts()?.into_iter();
        for broadcast in broadcasts.filter(|broadcast| broadcast.state != State::Deleting) {
            self.report.broadcasts += 1;
            let broadcast = broadcast.id;
            let directories = journal.bad_directories(broadcast, |cid| bad.contains(cid))?;
            let lost = lost.remove(&broadcast).unwrap_or_default();
            if self.repair && !(directories.is_empty() && lost.is_empty()) {
                let mut staged = journal.remake(broadcast, &lost)?;
                self.blocks.put(&std::mem::take(&mut staged.blocks))?;
                staged.commit(None)?;
            }
            let made_again = directories.into_iter();
            let made_again = made_again.map(|path| Finding::Directory { broadcast, path });
            let dropped = lost.iter().cloned();
            let dropped = dropped.map(|path| Finding::LostFile { broadcast, path });
            self.report.findings.extend(made_again.chain(dropped));
            if !lost.is_empty() {
                let lost = lost.into_iter().collect();
                self.report.damaged.push(Damaged { broadcast, lost });
            }
        }
        Ok(())
    }
}

enum Opened {
    Journal {
        journal: Journal,
        /// Nothing had to be put right.
        intact: bool,
    },
    /// Why it cannot be read.
    Broken(String),
}

/// Opens a journal and reads all of it. redb asserts what it believes about a file: on a broken one that can be a panic.
fn open(path: &Path) -> Result<Opened, Failure> {
    if let Ok(false) = path.try_exists() {
        return Ok(Opened::Broken("it is not there".to_owned()));
    }
    let opener = opener(path.to_owned());
    let opened = std::thread::spawn(move || {
        let journal = Journal::open(opener)?;
        let intact = journal.verify()?;
        journal.broadcasts()?;
        Ok(Opened::Journal { journal, intact })
    });
    let error = match opened.join() {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(error)) => error,
        Err(_) => return Ok(Opened::Broken(CONTRADICTION.to_owned())),
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    match OpenError::journal(dir, error) {
        OpenError::JournalBroken { reason, .. } => Ok(Opened::Broken(reason)),
        // A disk that is full or read-only has the journal all the same, one that breaks has it if it can be read, and who may not
        // read it, or has too many files open, knows nothing of it.
        error => match read_through(path) {
            Err(unreadable) if is_lost(&unreadable) => Ok(Opened::Broken(error.to_string())),
            _ => Err(Failure::Open(error)),
        },
    }
}

fn read_through(path: &Path) -> io::Result<()> {
    step()?;
    io::copy(&mut File::open(path)?, &mut io::sink())?;
    Ok(())
}

/// Whether a read failed because the disk no longer has what was there, as ext4 tells it of a file's content and of what it knows
/// of the file. All else may be readable the next time.
fn is_lost(error: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::UCLEAN, Errno::BADMSG];
    Errno::from_io_error(error).is_some_and(|errno| lost.contains(&errno))
}

/// One that was just made.
fn reopen(path: &Path) -> Result<Journal, Failure> {
    match open(path)? {
        Opened::Journal { journal, .. } => Ok(journal),
        Opened::Broken(reason) => Err(Failure::Open(OpenError::JournalBroken {
            path: path.to_owned(),
            reason,
        })),
    }
}

/// A name beside the file that is not taken.
fn aside(path: &Path) -> PathBuf {
    let mut names = (1..).map(|number| path.with_extension(format!("broken-{number}")));
    names
        .find(|name| !name.exists())
        .expect("there are enough numbers")
}
