//! What processes cost, as the kernel counts it in `/proc`.

use std::collections::BTreeMap;
use std::fs;

/// Of one process and the children that it has waited for, since they began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Seconds of processor time, to a hundredth.
    pub cpu: f64,
    /// Bytes of memory that the kernel has to write to a disk, in part or whole: it counts in folios, which may be many pages.
    pub written: u64,
    /// Bytes given to `write`, also to pipes and sockets.
    pub given: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;

    fn add(self, other: Cost) -> Cost {
        Cost {
            cpu: self.cpu + other.cpu,
            written: self.written + other.written,
            given: self.given + other.given,
        }
    }
}

impl std::ops::Sub for Cost {
    type Output = Cost;

    fn sub(self, other: Cost) -> Cost {
        Cost {
            cpu: self.cpu - other.cpu,
            written: self.written - other.written,
            given: self.given - other.given,
        }
    }
}

/// `USER_HZ`, which is 100 on every architecture that Debian has.
const TICKS: f64 = 100.0;

/// # Panics
/// Where there is no such process, or it belongs to somebody else.
pub fn cost(pid: u32) -> Cost {
    let stat = read(pid, "stat");
    // After the name, which may have spaces: state is field 3, utime, stime, cutime and cstime are 14 to 17.
    let (_, fields) = stat.rsplit_once(") ").expect("proc(5)");
    let ticks: u64 = (fields.split(' ').skip(11).take(4))
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    let io = read(pid, "io");
    let bytes = |name: &str| value(&io, name).expect("proc(5)");
    Cost {
        cpu: ticks as f64 / TICKS,
        written: bytes("write_bytes:"),
        given: bytes("wchar:"),
    }
}

/// Resident memory in bytes of a process and all that it has started; zero where there is none any more.
pub fn memory(pid: u32) -> u64 {
    let own = fs::read_to_string(format!("/proc/{pid}/status"));
    let own = own.ok().and_then(|status| value(&status, "VmRSS:"));
    own.unwrap_or(0) * 1024 + children(pid).into_iter().map(memory).sum::<u64>()
}

/// Of that, a process's own program and libraries, as far as nothing was written into them.
pub fn program(pid: u32) -> u64 {
    value(&read(pid, "status"), "RssFile:").expect("proc(5)") * 1024
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
            pids.collect::<Vec<_>>()
        })
        .collect()
}

/// Adds up what the threads of a process cost, by their names.
#[derive(Debug)]
pub struct Threads {
    pid: u32,
    /// Of each thread, when it was last looked at.
    last: BTreeMap<u32, f64>,
    /// Seconds of processor time since the first look. The first thread, which has the process's name, is called `main`.
    pub spent: BTreeMap<String, f64>,
}

impl Threads {
    pub fn new(pid: u32) -> Threads {
        let mut threads = Threads {
            pid,
            last: BTreeMap::new(),
            spent: BTreeMap::new(),
        };
        threads.look();
        threads.spent.clear();
        threads
    }

    /// To be called now and then: what a thread does between the last look and its end is not seen.
    pub fn look(&mut self) {
        let all = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("a process");
        for thread in all.flatten() {
            let tid = thread.file_name().to_str().and_then(|it| it.parse().ok());
            let read = |file: &str| fs::read_to_string(thread.path().join(file)).ok();
            // It may have ended in between.
            let (Some(tid), Some(name), Some(stat)) = (tid, read("comm"), read("schedstat")) else {
                continue;
            };
            let time = on_processor(&stat);
            let before = self.last.insert(tid, time).unwrap_or(0.0);
            let name = if tid == self.pid { "main" } else { name.trim() };
            *self.spent.entry(name.to_owned()).or_default() += time - before;
        }
    }
}

/// Seconds of processor time that the calling thread has taken.
pub fn own_thread() -> f64 {
    on_processor(&fs::read_to_string("/proc/thread-self/schedstat").expect("proc(5)"))
}

fn on_processor(schedstat: &str) -> f64 {
    // Nanoseconds (Documentation/scheduler/sched-stats.rst).
    let time = schedstat.split(' ').next();
    let time = time.and_then(|it| it.parse::<u64>().ok());
    time.expect("proc(5)") as f64 / 1e9
}

/// Model of the processor, and how many there are.
pub fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": "));
    let cores = info.lines().filter(|line| line.starts_with("processor"));
    let name = model.map_or("unknown processor", |(_, name)| name);
    format!("{} × {name}", cores.count())
}

fn read(pid: u32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::wait_for;

    #[test]
    fn what_a_thread_costs_is_under_its_name_and_in_the_sum() {
        let me = std::process::id();
        let before = cost(me).cpu;
        let mut threads = Threads::new(me);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let burner = std::thread::Builder::new().name("burner".into());
            let burn = || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            };
            burner.spawn_scoped(scope, burn).unwrap();
            wait_for("a tenth of a second of its time", || {
                threads.look();
                (*threads.spent.get("burner")? > 0.1).then_some(())
            });
            stop.store(true, Ordering::Relaxed);
        });
        assert!(cost(me).cpu - before > 0.08);
    }

    #[test]
    fn what_children_cost_counts_when_they_are_waited_for() {
        let dir = crate::on_disk();
        let file = dir.path().join("file");
        let before = cost(std::process::id());
        let script = format!("head -c 5000000 /dev/zero > {}", file.display());
        let shell = Command::new("sh").args(["-c", &script]).status();
        assert!(shell.unwrap().success());
        let spent = cost(std::process::id()) - before;
        assert!(spent.given >= 5_000_000, "{spent:?}");
        assert!(memory(std::process::id()) > 1 << 20);
        assert_eq!(memory(u32::MAX), 0);
    }
}
