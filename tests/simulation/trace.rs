//! What happened, as a running hash: the same seed must give the same one.

use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Events so far.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    prints: bool,
}

impl Trace {
    pub fn new(prints: bool) -> Self {
        Trace { hash: 0, prints }
    }

    pub fn event(&mut self, event: fmt::Arguments<'_>) {
        let text = event.to_string();
        self.hash = xxh3_64_with_seed(text.as_bytes(), self.hash);
        if self.prints {
            println!("{text}");
        }
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }
}
