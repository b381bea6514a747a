//! Compares what instances said with what is true, by brute force.

pub mod fair;
pub mod records;
pub mod rest;
pub mod search;

use crate::guarantees;
use crate::instance::STALE_MAX;
use crate::model::collection::Checked;
use crate::model::{Collection, Model};
use crate::world::{Instance, World};
use brainy::base::ids::{CollectionName, Seq};
use brainy::base::{Code, Error};
use brainy::engine::model::{Consistency, Partial};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Beside the poll interval, or a second where that is less, how old an eventual read may be.
const QUICK_LOOK: Duration = Duration::from_secs(1);

/// A read that is under way, and what was true when it began.
pub struct Asked {
    pub instance: Arc<Instance>,
    pub name: CollectionName,
    began: Instant,
    /// What the consistency level promises at least, and what this instance has written itself.
    at_least: Seq,
    is_eventual: bool,
    /// The largest version that this instance had answered with before the read began.
    answered_before: Seq,
}

impl Asked {
    pub fn new(
        world: &World,
        instance: &Arc<Instance>,
        name: &CollectionName,
        consistency: Consistency,
    ) -> Asked {
        let at_least = match consistency {
            Consistency::Eventual => Seq(0),
            Consistency::Strong => world.model().of(name).acknowledged.last(),
            Consistency::AtLeast { version, .. } => version,
        };
        Asked {
            began: Instant::now(),
            answered_before: instance.answered(name),
            is_eventual: consistency == Consistency::Eventual,
            instance: instance.clone(),
            name: name.clone(),
            at_least: at_least.max(instance.wrote(name)),
        }
    }

    /// What was promised, as seen when the answer is there.
    fn promised(&self, collection: &Collection) -> Seq {
        if !self.is_eventual || !guarantees::EVENTUAL_IS_BOUNDED {
            return self.at_least;
        }
        let age = self.instance.poll.max(Duration::from_secs(1)) + QUICK_LOOK;
        // The store may have been out of reach, and nobody has told it yet that its clocks stood still.
        let age = age.max(STALE_MAX) + *self.instance.stood_still.lock().unwrap();
        let then = self.began.checked_sub(age).unwrap_or(self.began);
        self.at_least.max(collection.acknowledged.at(then))
    }

    /// The least version that a right answer may have.
    pub fn least(&self, collection: &Collection) -> Seq {
        self.promised(collection).max(self.answered_before)
    }

    /// Whether something may have been missing meanwhile.
    pub fn excuses(&self, model: &Model) -> bool {
        model.damages.excuse(self.began)
    }

    /// Invariant 5: it answered at `version`, and said whether that is all.
    pub fn version(&self, model: &Model, version: Seq, partial: &Partial) -> Checked {
        let collection = model.of(&self.name);
        let who = format!("instance {} on {}", self.instance.number, self.name);
        if partial.is_some() && !self.excuses(model) {
            return Err(format!("{who} says that this is missing, and it is not: {partial:?}"));
        }
        let promised = self.promised(collection);
        if version < promised && partial.is_none() {
            return Err(format!("{who} answered at {version}, it had to reach {promised}"));
        }
        if version < self.answered_before {
            let before = self.answered_before;
            return Err(format!("{who} went from version {before} back to {version}"));
        }
        let tail = collection.log.tail();
        // An empty life may be seen at the position of the seal before it.
        if version > tail {
            return Err(format!("{who} answered at {version}, the log ends at {tail}"));
        }
        self.instance.has_answered(&self.name, version);
        Ok(())
    }

    pub fn who(&self, version: Seq) -> String {
        format!("instance {} on {} at {version}", self.instance.number, self.name)
    }
}

/// A collection is missing, and an instance is shutting down, only where that is so.
pub fn refused(
    instance: &Instance,
    model: &Model,
    name: &CollectionName,
    began: Instant,
    error: &Error,
) -> Checked {
    let (who, collection) = (instance.number, model.of(name));
    match error.code() {
        Code::Corrupt | Code::LogDamaged if model.damages.excuse(began) => Ok(()),
        Code::Internal | Code::Corrupt | Code::LogDamaged => {
            Err(format!("instance {who} on {name}: {error}"))
        }
        Code::CollectionNotFound | Code::ShuttingDown if guarantees::NOT_FOUND_WHERE_IT_IS_NOT => {
            let wrong = collection.lives.existed_since(began) || error.code() == Code::ShuttingDown;
            match wrong {
                true => {
                    let ms = began.elapsed().as_millis();
                    let there = format!("which has been there for these {ms} ms");
                    Err(format!("instance {who} says of {name}, {there}: {error}"))
                }
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
