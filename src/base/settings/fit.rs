//! How much memory may this process use, and how is it shared out?
//!
//! Budgets that nobody has set are shares of the memory that the process may use: what its container gives it
//! (cgroup v1 or v2), or else what the machine has. No budget grows past its default in [`Settings`], so a large
//! machine is used as before. Together they leave room for what an index pass and a merge take.

use super::{Effective, Settings, Source};
use std::fmt;

/// Below this nothing sensible fits: the shares are of so much.
const LEAST: u64 = 128 << 20;

/// Memory that a process may use, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes.
    pub bytes: u64,
    /// Who says so.
    pub bound: Bound,
}

/// What bounds the memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The setting `memory_limit_bytes`.
    Setting,
    /// Its container.
    Container,
    /// Its machine.
    Machine,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = match self.bound {
            Bound::Setting => "memory_limit_bytes",
            Bound::Container => "the container's memory",
            Bound::Machine => "the machine's memory",
        };
        write!(f, "{of}, {} MiB", self.bytes >> 20)
    }
}

/// A budget that follows the memory: one part in so many.
struct Share {
    key: &'static str,
    part: u64,
    get: fn(&mut Settings) -> &mut u64,
}

/// Every budget that follows the memory. What is at most so large stands beside its setting.
const SHARES: &[Share] = &[
    Share { key: "cache_max_bytes", part: 4, get: |settings| &mut settings.cache_max_bytes },
    Share {
        key: "tail_total_max_bytes",
        part: 10,
        get: |settings| &mut settings.tail_total_max_bytes,
    },
    Share { key: "tail_max_bytes", part: 12, get: |settings| &mut settings.tail_max_bytes },
    Share {
        key: "compaction_max_bytes",
        part: 8,
        get: |settings| &mut settings.compaction_max_bytes,
    },
    Share {
        key: "request_memory_bytes",
        part: 8,
        get: |settings| &mut settings.request_memory_bytes,
    },
    Share {
        key: "write_queue_max_bytes",
        part: 16,
        get: |settings| &mut settings.write_queue_max_bytes,
    },
    Share { key: "max_body_bytes", part: 32, get: |settings| &mut settings.max_body_bytes },
    Share { key: "max_answer_bytes", part: 32, get: |settings| &mut settings.max_answer_bytes },
];

impl Effective {
    /// Makes the budgets that nobody has set, and the limit itself, fit the memory that there is.
    pub fn fit(&mut self, available: Memory) {
        let memory = match self.settings.memory_limit_bytes {
            Some(bytes) if bytes < available.bytes => Memory { bytes, bound: Bound::Setting },
            _ => available,
        };
        if self.source("memory_limit_bytes") == &Source::Default {
            self.settings.memory_limit_bytes = Some(memory.bytes);
            self.derive("memory_limit_bytes", memory.to_string());
        }
        let bytes = memory.bytes.max(LEAST);
        for share in SHARES {
            let value = (share.get)(&mut self.settings);
            let fitting = bytes / share.part;
            if fitting >= *value {
                continue;
            }
            if self.source(share.key) == &Source::Default {
                *(share.get)(&mut self.settings) = fitting;
                self.derive(share.key, format!("1/{} of {memory}", share.part));
            }
        }
        self.keep_rules();
    }

    /// What one setting asks of another holds for what was derived, too: a person who sets the one need not know
    /// of the other.
    fn keep_rules(&mut self) {
        let derived = |this: &Self, key: &str| matches!(this.source(key), Source::Derived(_));
        let largest = self.settings.max_body_bytes.max(self.settings.max_answer_bytes);
        if derived(self, "request_memory_bytes") {
            let value = &mut self.settings.request_memory_bytes;
            *value = (*value).max(largest.saturating_mul(4));
        }
        if derived(self, "write_queue_max_bytes") {
            let value = &mut self.settings.write_queue_max_bytes;
            *value = (*value).max(self.settings.batch_max_bytes);
        }
    }
}

impl Settings {
    /// The defaults, with budgets that fit the memory that this process may use.
    pub fn fitted(available: Memory) -> Settings {
        let mut effective = Effective::from(Settings::default());
        effective.fit(available);
        effective.settings
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FlagValue, load};
    use super::*;

    const MIB: u64 = 1 << 20;

    fn container(mib: u64) -> Memory {
        Memory { bytes: mib * MIB, bound: Bound::Container }
    }

    fn fitted(memory: Memory, set: &[(&str, &str)]) -> Effective {
        let flag = |(key, value): &(&str, &str)| FlagValue {
            flag: "--set".to_owned(),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        let flags: Vec<FlagValue> = set.iter().map(flag).collect();
        let mut effective = load(None, [], &flags).unwrap();
        effective.fit(memory);
        effective.settings.validate().unwrap();
        effective
    }

    #[test]
    fn budgets_together_leave_half_of_a_container_for_work() {
        for mib in [256, 512, 1_200, 4_096] {
            let settings = fitted(container(mib), &[]).settings;
            let budgets = settings.cache_max_bytes
                + settings.tail_total_max_bytes
                + settings.request_memory_bytes
                + settings.write_queue_max_bytes;
            assert!(budgets <= mib * MIB * 11 / 20, "{budgets} of {mib} MiB");
            assert!(settings.tail_max_bytes <= settings.tail_total_max_bytes);
            assert_eq!(settings.memory_limit_bytes, Some(mib * MIB));
        }
    }

    #[test]
    fn a_large_machine_is_used_as_before_and_a_tiny_one_starts() {
        let large = Memory { bytes: 1 << 40, bound: Bound::Machine };
        let limit = Some(large.bytes);
        let settings = fitted(large, &[]).settings;
        assert_eq!(settings, Settings { memory_limit_bytes: limit, ..Settings::default() });
        fitted(container(16), &[]);
    }

    #[test]
    fn what_somebody_sets_stays_and_says_so() {
        let set = [("cache_max_bytes", "5000000000"), ("max_body_bytes", "67108864")];
        let effective = fitted(container(1_200), &set);
        assert_eq!(effective.settings.cache_max_bytes, 5_000_000_000);
        // What it needs beside it follows.
        assert_eq!(effective.settings.request_memory_bytes, 4 * 67_108_864);
        let source = |key: &str| effective.source(key).to_string();
        assert_eq!(source("cache_max_bytes"), "flag --set");
        assert_eq!(source("tail_max_bytes"), "1/12 of the container's memory, 1200 MiB");
        let effective = fitted(container(1_200), &[("memory_limit_bytes", "536870912")]);
        assert_eq!(effective.settings.cache_max_bytes, 128 * MIB);
        let source = effective.source("cache_max_bytes").to_string();
        assert_eq!(source, "1/4 of memory_limit_bytes, 512 MiB");
    }

    #[test]
    fn the_documentation_has_every_share() {
        let text = include_str!("../../../docs/settings.md");
        let (_, section) = text.split_once("\n## Memory").unwrap();
        for share in SHARES {
            let row = section.lines().find(|line| line.contains(&format!("`{}`", share.key)));
            let row = row.unwrap_or_else(|| panic!("{} is not there", share.key));
            assert!(row.contains(&format!("| 1/{}", share.part)), "{row}");
        }
    }
}
