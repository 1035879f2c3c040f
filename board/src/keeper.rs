//! Keeps a device that may fail or hang at the latest of what is wanted, on a thread of its own.
//!
//! An I²C transfer cannot be taken back: a thread that waits for one waits until the kernel's driver gives up, seconds later.
//! So [`Keeper::want`] only leaves a note and never waits for the device; states between two transfers are skipped.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Faults;

/// Between two attempts to bring a device back.
const RETRY: Duration = Duration::from_secs(1);

/// A transfer that takes longer hangs: a whole picture takes 25 ms at 400 kHz, 100 ms at 100 kHz.
const DEADLINE: Duration = Duration::from_secs(3);

/// How long the end waits for the device to be put to rest; one that hangs is left as it is.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// A device that is open.
pub(crate) trait Device<S> {
    /// Brings it to a state. After an error it is opened again.
    fn apply(&mut self, state: &S) -> io::Result<()>;

    /// Dark and silent, for a box that is off must look so.
    fn rest(&mut self) -> io::Result<()>;

    /// After so long it is brought to the same state again, for it may have lost it and not said so.
    fn again(&self) -> Duration {
        Duration::MAX
    }
}

/// Handle of a device. Dropping it puts the device to rest.
#[derive(Debug)]
pub(crate) struct Keeper<S> {
    part: &'static str,
    shared: Arc<Shared<S>>,
    faults: Faults,
    deadline: Duration,
}

#[derive(Debug)]
struct Shared<S> {
    slot: Mutex<Slot<S>>,
    changed: Condvar,
}

#[derive(Debug)]
struct Slot<S> {
    wanted: Option<S>,
    /// Since when the device has been busy.
    busy: Option<Instant>,
    life: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Running,
    Ending,
    Ended,
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Slot<S>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone + PartialEq + Send + 'static> Keeper<S> {
    /// Starts the thread. `open` is called for every life of the device, first when something is wanted of it.
    pub(crate) fn spawn<D: Device<S>>(
        part: &'static str,
        faults: &Faults,
        open: impl FnMut() -> io::Result<D> + Send + 'static,
    ) -> io::Result<Keeper<S>> {
        let shared = Arc::new(Shared {
            slot: Mutex::new(Slot {
                wanted: None,
                busy: None,
                life: Life::Running,
            }),
            changed: Condvar::new(),
        });
        let (ours, reports) = (shared.clone(), faults.clone());
        std::thread::Builder::new()
            .name(part.into())
            .spawn(move || {
                keep(part, &ours, &reports, open);
                ours.lock().life = Life::Ended;
                ours.changed.notify_all();
            })?;
        Ok(Keeper {
            part,
            shared,
            faults: faults.clone(),
            deadline: DEADLINE,
        })
    }

    /// Says what the device should be like from now on. Returns at once.
    pub(crate) fn want(&self, state: &S) {
        let mut slot = self.shared.lock();
        if slot.wanted.as_ref() != Some(state) {
            slot.wanted = Some(state.clone());
            self.shared.changed.notify_all();
        }
        let hangs = slot
            .busy
            .is_some_and(|since| since.elapsed() > self.deadline);
        if hangs {
            // Told before the lock is given back, or a transfer that ends now would take the fault back before it is told.
            let fault = format!("the {} hangs; check its wires", self.part);
            self.faults.set(self.part, Some(fault));
        }
    }
}

impl<S> Drop for Keeper<S> {
    fn drop(&mut self) {
        let mut slot = self.shared.lock();
        if slot.life == Life::Running {
            slot.life = Life::Ending;
        }
        self.shared.changed.notify_all();
        let _ = self
            .shared
            .changed
            .wait_timeout_while(slot, LAST_WAIT, |slot| slot.life != Life::Ended);
    }
}

fn keep<S: Clone + PartialEq, D: Device<S>>(
    part: &'static str,
    shared: &Shared<S>,
    faults: &Faults,
    mut open: impl FnMut() -> io::Result<D>,
) {
    let mut device: Option<D> = None;
    let mut shown: Option<S> = None;
    loop {
        let again = device.as_ref().map_or(Duration::MAX, D::again);
        let Some(state) = next(shared, &shown, again) else {
            break;
        };
        let result = match &mut device {
            Some(device) => device.apply(&state),
            None => open().and_then(|opened| device.insert(opened).apply(&state)),
        };
        shared.lock().busy = None;
        match result {
            Ok(()) => {
                shown = Some(state);
                faults.set(part, None);
            }
            Err(error) => {
                (device, shown) = (None, None);
                faults.set(part, Some(error.to_string()));
                let slot = shared.lock();
                let _ = shared
                    .changed
                    .wait_timeout_while(slot, RETRY, |slot| slot.life == Life::Running);
            }
        }
    }
    if let Some(mut device) = device {
        let _ = device.rest();
    }
}

/// Waits for a state that is not shown yet, or for as long as one may be shown, and notes that the device is busy with it. `None` is the
/// end.
fn next<S: Clone + PartialEq>(shared: &Shared<S>, shown: &Option<S>, again: Duration) -> Option<S> {
    let slot = shared.lock();
    let (mut slot, _) = shared
        .changed
        .wait_timeout_while(slot, again, |slot| {
            slot.life == Life::Running && (slot.wanted.is_none() || slot.wanted == *shown)
        })
        .unwrap_or_else(PoisonError::into_inner);
    if slot.life != Life::Running {
        return None;
    }
    slot.busy = Some(Instant::now());
    slot.wanted.clone()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A device whose every transfer waits for the test's word.
    struct Slow {
        began: Sender<u32>,
        go: Arc<Mutex<Receiver<io::Result<()>>>>,
        again: Duration,
    }

    impl Device<u32> for Slow {
        fn apply(&mut self, state: &u32) -> io::Result<()> {
            self.began.send(*state).unwrap();
            self.go.lock().unwrap().recv().unwrap()
        }

        fn rest(&mut self) -> io::Result<()> {
            self.began.send(0).unwrap();
            Ok(())
        }

        fn again(&self) -> Duration {
            self.again
        }
    }

    struct Bench {
        keeper: Keeper<u32>,
        began: Receiver<u32>,
        go: Sender<io::Result<()>>,
        faults: Faults,
    }

    fn bench(again: Duration) -> Bench {
        let (began_tx, began) = channel();
        let (go, go_rx) = channel();
        let go_rx = Arc::new(Mutex::new(go_rx));
        let faults = Faults::default();
        let keeper = Keeper::spawn("display", &faults, move || {
            Ok(Slow {
                began: began_tx.clone(),
                go: go_rx.clone(),
                again,
            })
        })
        .unwrap();
        Bench {
            keeper,
            began,
            go,
            faults,
        }
    }

    fn wait_for(what: impl Fn() -> bool) {
        while !what() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_latest_state_is_shown_and_those_between_are_skipped() {
        let Bench {
            keeper, began, go, ..
        } = bench(Duration::MAX);
        keeper.want(&1);
        assert_eq!(began.recv(), Ok(1));
        for state in 2..=9 {
            keeper.want(&state);
        }
        go.send(Ok(())).unwrap();
        assert_eq!(began.recv(), Ok(9));
        go.send(Ok(())).unwrap();
        keeper.want(&9);
        drop(keeper);
        // Nothing was shown twice; the last word is the rest.
        assert_eq!(began.iter().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_device_that_may_forget_is_told_the_same_again() {
        let Bench {
            keeper, began, go, ..
        } = bench(Duration::from_millis(1));
        keeper.want(&1);
        for _ in 0..3 {
            assert_eq!(began.recv(), Ok(1));
            go.send(Ok(())).unwrap();
        }
        assert_eq!(began.recv(), Ok(1));
        drop(keeper);
    }

    #[test]
    fn a_device_that_hangs_holds_up_nobody_and_is_named() {
        let Bench {
            mut keeper,
            began,
            go,
            faults,
        } = bench(Duration::MAX);
        keeper.deadline = Duration::from_millis(1);
        keeper.want(&1);
        assert_eq!(began.recv(), Ok(1));
        wait_for(|| {
            keeper.want(&2);
            !faults.list().is_empty()
        });
        assert_eq!(faults.list(), ["the display hangs; check its wires"]);
        go.send(Ok(())).unwrap();
        assert_eq!(began.recv(), Ok(2));
        // It took the first, so it is well again; nobody asks while it is busy with the second.
        assert_eq!(faults.list(), [""; 0]);
        // The end does not wait for it either.
        drop(keeper);
    }

    #[test]
    fn a_device_that_fails_is_opened_again_and_gets_the_same_state() {
        let Bench {
            keeper,
            began,
            go,
            faults,
        } = bench(Duration::MAX);
        keeper.want(&1);
        assert_eq!(began.recv(), Ok(1));
        go.send(Err(io::Error::other("no answer"))).unwrap();
        wait_for(|| !faults.list().is_empty());
        assert_eq!(faults.list(), ["no answer"]);
        assert_eq!(began.recv(), Ok(1));
        go.send(Ok(())).unwrap();
        wait_for(|| faults.list().is_empty());
    }
}
