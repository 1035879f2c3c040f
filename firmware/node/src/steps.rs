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

/// Does what is no failure where the disk refuses it, by name: nobody is told.
#[cfg(not(test))]
pub(crate) fn forgiven<T>(_name: &'static str, act: impl FnOnce() -> T) -> T {
    act()
}

#[cfg(test)]
pub(crate) fn forgiven<T>(name: &'static str, act: impl FnOnce() -> T) -> T {
    let set = |name| {
        if let Some(plan) = plan() {
            plan.state.lock().unwrap().forgiven = name;
        }
    };
    set(Some(name));
    let done = act();
    set(None);
    done
}

/// A disk that takes so many steps and refuses the next, or all after them.
#[cfg(test)]
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    state: Arc<Mutex<PlanState>>,
    error: rustix::io::Errno,
    lasts: bool,
}

#[cfg(test)]
#[derive(Debug)]
struct PlanState {
    /// Steps to the one that is refused, which is at 1.
    left: u64,
    /// What is being done that is forgiven.
    forgiven: Option<&'static str>,
    refused: Refused,
}

/// The first step that was refused.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    None,
    Step,
    Forgiven(&'static str),
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

/// Does this with such a disk; returns what it has refused, too.
#[cfg(test)]
pub(crate) fn refusing<T>(
    steps: u64,
    error: rustix::io::Errno,
    lasts: bool,
    act: impl FnOnce() -> T,
) -> (T, Refused) {
    let state = Arc::new(Mutex::new(PlanState {
        left: steps + 1,
        forgiven: None,
        refused: Refused::None,
    }));
    let plan = Plan {
        state: state.clone(),
        error,
        lasts,
    };
    PLAN.set(Some(plan));
    let done = act();
    PLAN.set(None);
    let refused = state.lock().unwrap().refused;
    (done, refused)
}

#[cfg(test)]
impl Plan {
    fn step(&self) -> Result<()> {
        let mut state = self.state.lock().unwrap();
        let before = state.left;
        state.left = before.saturating_sub(1);
        match before {
            1 => {
                state.refused = state.forgiven.map_or(Refused::Step, Refused::Forgiven);
                Err(self.error.into())
            }
            0 if self.lasts => Err(self.error.into()),
            _ => Ok(()),
        }
    }

    /// The journal in this file, on such a disk.
    pub(crate) fn journal(
        self,
        path: &std::path::Path,
    ) -> std::result::Result<redb::Database, redb::DatabaseError> {
        self.step().map_err(redb::StorageError::Io)?;
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
