//! What does this process cost its machine?

use crate::base::settings::{Bound, Memory};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::time::Instant;

/// How much memory this process may use: as much as its container gives it, or else its machine.
pub fn memory() -> Memory {
    let machine = Memory { bytes: 1 << 40, bound: Bound::Machine };
    let Ok(mut system) = System::new() else { return machine };
    system.refresh_memory();
    let machine = match system.total_memory() {
        0 => machine,
        bytes => Memory { bytes, bound: Bound::Machine },
    };
    let pid = Pid::from_u32(std::process::id());
    let kind = ProcessRefreshKind::nothing().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    let limits = system.process(pid).and_then(|process| process.cgroup_limits());
    let limit = limits.map(|limits| limits.total_memory).filter(|limit| *limit > 0);
    match limit.filter(|limit| *limit < machine.bytes) {
        Some(bytes) => Memory { bytes, bound: Bound::Container },
        None => machine,
    }
}

/// Bytes that only this process holds and that the system cannot take back, as it can mapped files. Zero where
/// the system does not tell.
fn private_bytes() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/self/statm") else { return 0 };
    let mut pages = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (Some(Some(resident)), Some(Some(shared))) = (pages.next(), pages.next()) else { return 0 };
    resident.saturating_sub(shared) * rustix::param::page_size() as u64
}

/// Shortest time between two looks at what only this process holds: it grows by hundreds of MB a second.
const PRIVATE_INTERVAL_MS: u64 = 20;

/// Shortest time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Memory and CPU of the process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// CPU time over wall time since the look before, in percent of one core.
    pub cpu_percent: f64,
}

/// What the operating system tells of the process, since its start where that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfSystem {
    /// CPU time spent, in milliseconds.
    pub cpu_ms: u64,
    /// When the process started, in seconds since 1970.
    pub started_s: u64,
    /// Resident memory.
    pub memory_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Open files, where that is told.
    pub open_files: Option<u64>,
    /// How many may be open.
    pub open_files_max: Option<u64>,
}

#[derive(Debug)]
struct Sample {
    /// `None` where the operating system does not tell.
    system: Option<System>,
    taken: Instant,
    cpu_ms: u64,
    usage: Usage,
}

/// Looks at the process at most once a second.
#[derive(Debug)]
pub struct Sampler {
    last: Mutex<Sample>,
    private: Private,
}

/// What only this process holds, as it was seen last.
#[derive(Debug)]
struct Private {
    since: Option<Instant>,
    looked_ms: AtomicU64,
    bytes: AtomicU64,
}

impl Default for Sampler {
    /// Looks at nothing and says zero, as it has to be where a seed decides everything.
    fn default() -> Self {
        Sampler::of(None)
    }
}

/// Resident bytes and CPU milliseconds since the start; zeros where the system does not tell.
fn look(system: &mut Option<System>) -> (u64, u64) {
    let Some(system) = system else {
        return (0, 0);
    };
    let pid = Pid::from_u32(std::process::id());
    let kind = ProcessRefreshKind::nothing().with_cpu().with_memory().without_tasks();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
    system.process(pid).map_or((0, 0), |process| (process.memory(), process.accumulated_cpu_time()))
}

impl Sampler {
    /// Looks at this process.
    pub fn of_process() -> Sampler {
        Sampler::of(System::new().ok())
    }

    /// Bytes of memory that only this process holds.
    pub fn private_bytes(&self) -> u64 {
        let Private { since: Some(since), looked_ms, bytes } = &self.private else { return 0 };
        // Zero says that nobody has looked.
        let now = since.elapsed().as_millis() as u64 + 1;
        let before = looked_ms.load(Ordering::Relaxed);
        if before == 0 || now.saturating_sub(before) >= PRIVATE_INTERVAL_MS {
            looked_ms.store(now, Ordering::Relaxed);
            bytes.store(private_bytes(), Ordering::Relaxed);
        }
        bytes.load(Ordering::Relaxed)
    }

    fn of(mut system: Option<System>) -> Sampler {
        let private = Private {
            since: system.is_some().then(Instant::now),
            looked_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        let (memory_bytes, cpu_ms) = look(&mut system);
        let usage = Usage { memory_bytes, cpu_percent: 0.0 };
        Sampler {
            last: Mutex::new(Sample { system, taken: Instant::now(), cpu_ms, usage }),
            private,
        }
    }

    /// What the operating system tells, now or up to a second ago; `None` where it does not.
    pub fn of_system(&self) -> Option<OfSystem> {
        self.usage();
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let process = last.system.as_ref()?.process(Pid::from_u32(std::process::id()))?;
        Some(OfSystem {
            cpu_ms: process.accumulated_cpu_time(),
            started_s: process.start_time(),
            memory_bytes: process.memory(),
            virtual_bytes: process.virtual_memory(),
            open_files: process.open_files().map(|count| count as u64),
            open_files_max: process.open_files_limit().map(|count| count as u64),
        })
    }

    /// What the process uses now, or used up to a second ago.
    pub fn usage(&self) -> Usage {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = last.taken.elapsed();
        if elapsed >= INTERVAL {
            let (memory_bytes, cpu_ms) = look(&mut last.system);
            let busy_ms = cpu_ms.saturating_sub(last.cpu_ms) as f64;
            let cpu_percent = 100.0 * busy_ms / (elapsed.as_secs_f64() * 1_000.0);
            last.usage = Usage { memory_bytes, cpu_percent };
            last.cpu_ms = cpu_ms;
            last.taken = Instant::now();
        }
        last.usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_resident_and_looks_are_a_second_apart() {
        let sampler = Sampler::of_process();
        let first = sampler.usage();
        assert!(first.memory_bytes > 1 << 20, "{first:?}");
        assert_eq!(sampler.usage(), first, "the same look");
        let before = sampler.last.lock().unwrap().taken;
        tokio::time::advance(INTERVAL).await;
        assert!(sampler.usage().cpu_percent >= 0.0);
        assert!(sampler.last.lock().unwrap().taken > before);
    }
}
