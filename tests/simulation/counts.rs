//! How much runs did, so that it shows when they did nothing.

use brainy::base::metrics::Metrics;
use brainy::store::layers::RequestCounts;
use std::fmt;

macro_rules! counts {
    ($($field:ident = $text:literal,)*) => {
        /// How much a run did.
        #[derive(Debug, Default, Clone)]
        pub struct Counts { $(pub $field: u64,)* }

        impl Counts {
            pub fn add(&mut self, other: &Counts) {
                let idle = self.idle.max(other.idle);
                $(self.$field += other.$field;)*
                self.idle = idle;
            }
        }

        impl fmt::Display for Counts {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let parts = [$((self.$field, $text),)*];
                for (at, (count, text)) in parts.iter().enumerate() {
                    write!(f, "{}{count} {text}", if at == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
        }
    };
}

counts! {
    writes = "writes",
    writes_uncertain = "without a certain answer",
    deletes = "deletes",
    reads = "reads",
    reads_failed = "of them refused",
    kills = "kills",
    freezes = "freezes",
    jumps = "jumps of clocks",
    damages = "objects damaged",
    partial = "answers that say so",
    entries = "log entries",
    strays = "created below the floor",
    faults = "store faults",
    created = "collections created",
    deletions = "deleted",
    passes = "indexing passes",
    compactions = "compactions",
    passes_lost = "of both lost",
    collected = "objects collected",
    gets = "reads of objects",
    listings = "listings",
    puts = "writes of objects",
    conditional = "conditional ones",
    idle = "at most by one instance in a minute of rest",
}

impl Counts {
    /// What an instance did until it ended.
    pub fn instance(&mut self, metrics: &Metrics, requests: RequestCounts, faults: u64) {
        self.faults += faults;
        self.passes += metrics.index_passes.get();
        self.compactions += metrics.compactions.get();
        self.passes_lost += metrics.upkeep_lost.get();
        self.collected += metrics.objects_collected.get();
        self.gets += requests.reads;
        self.listings += requests.listings;
        self.puts += requests.writes;
        self.conditional += requests.conditional;
    }
}
