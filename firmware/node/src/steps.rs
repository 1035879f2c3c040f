//! Where a disk can refuse: a test has it do so at each step in turn, with the error that it likes.

use std::io::Result;
#[cfg(test)]
use std::sync::{Arc, Mutex};

#[cfg(not(test))]
pub(crate) fn step() -> Result<()> {
    Ok(())
}

/// Before each thing that a disk can refuse.
#[cfg(test)]
pub(crate) fn step() -> Result<()> {
    plan().map_or(Ok(()), |plan| plan.step())
}

/// A disk that takes so many steps and refuses the next, or all after them.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Steps to the one that is refused, which is at 1.
    left: Arc<Mutex<u64>>,
    error: rustix::io::Errno,
    lasts: bool,
}

#[cfg(test)]
thread_local! {
    static PLAN: std::cell::RefCell<Option<Plan>> = const { std::cell::RefCell::new(None) };
}

/// What this thread's disk is like.
#[cfg(test)]
pub(crate) fn plan() -> Option<Plan> {
    PLAN.with_borrow(Clone::clone)
}

/// Does this with such a disk; returns whether it has refused anything, too.
#[cfg(test)]
pub(crate) fn refusing<T>(
    steps: u64,
    error: rustix::io::Errno,
    lasts: bool,
    act: impl FnOnce() -> T,
) -> (T, bool) {
    let left = Arc::new(Mutex::new(steps + 1));
    let plan = Plan {
        left: left.clone(),
        error,
        lasts,
    };
    PLAN.set(Some(plan));
    let done = act();
    PLAN.set(None);
    let refused = *left.lock().unwrap() == 0;
    (done, refused)
}

#[cfg(test)]
impl Plan {
    fn step(&self) -> Result<()> {
        let mut left = self.left.lock().unwrap();
        let before = *left;
        *left = before.saturating_sub(1);
        match before {
            1 => Err(self.error.into()),
            0 if self.lasts => Err(self.error.into()),
            _ => Ok(()),
        }
    }

    /// The journal in this file, on such a disk.
    pub(crate) fn journal(
        self,
        path: &std::path::Path,
    ) -> std::result::Result<redb::Database, redb::DatabaseError> {
        let file = std::fs::File::options().read(true).write(true).open(path);
        let file = redb::backends::FileBackend::new(file.map_err(redb::StorageError::Io)?)?;
        redb::Builder::new().create_with_backend(Backend { file, plan: self })
    }
}

#[cfg(test)]
#[derive(Debug)]
struct Backend {
    file: redb::backends::FileBackend,
    plan: Plan,
}

#[cfg(test)]
impl redb::StorageBackend for Backend {
    fn len(&self) -> Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<()> {
        self.plan.step()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<()> {
        self.plan.step()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.plan.step()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<()> {
        self.file.close()
    }
}
