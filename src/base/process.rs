//! What does this process cost its machine?

use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::time::Instant;

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

    fn of(mut system: Option<System>) -> Sampler {
        let (memory_bytes, cpu_ms) = look(&mut system);
        let usage = Usage { memory_bytes, cpu_percent: 0.0 };
        Sampler { last: Mutex::new(Sample { system, taken: Instant::now(), cpu_ms, usage }) }
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
