//! What the heap of a process holds, by the names of the threads that asked for it: `heap.c` is preloaded and counts.
//!
//! Who asked for memory need not be who has it now: a picture counts where its buffer was made. And what was asked for is not
//! resident before somebody has written to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Bytes of a row: a name of at most 15 with a zero, and a count.
const ROW: usize = 24;
const NAME: usize = 16;

/// What counts one process's heap.
#[derive(Debug)]
pub struct Heap {
    library: PathBuf,
    counts: PathBuf,
}

impl Heap {
    /// Compiles the counter into `dir`.
    pub fn new(dir: &Path) -> Heap {
        let library = dir.join("heap.so");
        let done = Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(crate::root().join("tests/src/heap.c"))
            .status();
        assert!(done.expect("cc can be run").success());
        Heap {
            library,
            counts: dir.join("heap"),
        }
    }

    /// What the process has to be started with. What it starts itself is not counted.
    pub fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("PODIUM_HEAP", self.counts.clone()),
        ]
    }

    /// Bytes by name of thread; the first thread, which has the process's name, is called `main`. Nothing before it has begun.
    pub fn held(&self) -> BTreeMap<String, f64> {
        let counts = std::fs::read(&self.counts).unwrap_or_default();
        let rows = counts.chunks_exact(ROW).map(|row| {
            let (name, count) = row.split_at(NAME);
            let name = String::from_utf8_lossy(name);
            let count = i64::from_ne_bytes(count.try_into().expect("eight bytes"));
            (name.trim_end_matches('\0').to_owned(), count as f64)
        });
        rows.filter(|(name, _)| !name.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Process, judge, wait_for};

    /// Bytes of a picture, the unit of what a pipeline holds.
    const PICTURE: f64 = (1280 * 720 * 3 / 2) as f64;

    #[test]
    fn what_a_thread_asks_for_is_under_its_name_until_it_is_given_back() {
        if !judge::have("gst-launch-1.0") {
            return;
        }
        let dir = crate::on_disk();
        let heap = Heap::new(dir.path());
        let pipeline = |source: &str| {
            let mut command = Command::new("gst-launch-1.0");
            command
                .args(["-q", "videotestsrc"])
                .arg(source)
                .args("! video/x-raw,format=I420,width=1280,height=720 ! queue name=given ! x264enc tune=zerolatency ! fakesink".split(' '))
                .envs(heap.environment());
            command
        };
        let held = |thread: &str| heap.held().get(thread).copied().unwrap_or(0.0);
        let running = Process::start(&mut pipeline("is-live=true"));
        wait_for("pictures, and an encoder that keeps some", || {
            (held("videotestsrc0:s") >= PICTURE && held("given:src") >= 3.0 * PICTURE).then_some(())
        });
        assert!(held("main") < PICTURE * 3.0, "{:?}", heap.held());
        drop(running);
        std::fs::remove_file(&heap.counts).expect("it has counted");
        let ended = pipeline("num-buffers=30").status();
        assert!(ended.expect("gst-launch-1.0").success());
        for thread in ["videotestsrc0:s", "given:src"] {
            let left = heap.held()[thread];
            assert!((0.0..PICTURE).contains(&left), "{thread}: {left}");
        }
    }
}
