//! What was damaged behind everybody's back, and put back.

use brainy::store::Key;
use std::time::Duration;
use tokio::time::Instant;

/// How long after an object was put back instances may still say that it is missing, or damaged: they look again
/// every half minute.
const REMEMBERED: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Damaged {
    key: Key,
    mended: Option<Instant>,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Damages(Vec<Damaged>);

impl Damages {
    pub fn damaged(&mut self, key: Key) {
        self.0.push(Damaged { key, mended: None });
    }

    pub fn mended(&mut self, key: &Key) {
        for damaged in self.0.iter_mut().filter(|damaged| damaged.key == *key) {
            damaged.mended.get_or_insert(Instant::now());
        }
    }

    /// Whether anything may have been missing, or be believed to be, since `began`.
    pub fn excuse(&self, began: Instant) -> bool {
        self.0.iter().any(|damaged| damaged.mended.is_none_or(|mended| mended + REMEMBERED > began))
    }
}
