//! The lives of a collection's name: when it existed, and with which settings.

use brainy::base::ids::Seq;
use brainy::engine::model::CollectionSpec;
use brainy::manifest::{CollectionSettings, Manifest};
use tokio::time::Instant;

/// One life.
#[derive(Debug, Clone)]
pub struct Life {
    pub settings: CollectionSettings,
    pub began: Instant,
    /// When its log was sealed, or its manifest said that it is gone.
    pub ended: Option<Instant>,
}

/// A creation that clients have asked for.
#[derive(Debug)]
pub struct Intent {
    pub spec: CollectionSpec,
    /// The answer was certain: it takes no effect any more.
    pub settled: bool,
}

/// All lives, the first first.
#[derive(Debug, Default)]
pub struct Lives {
    lives: Vec<Life>,
    pub intents: Vec<Intent>,
}

impl Lives {
    /// The settings of the last life, over or not.
    pub fn last(&self) -> Option<&Life> {
        self.lives.last()
    }

    /// Whether it exists now.
    pub fn exists(&self) -> bool {
        self.last().is_some_and(|life| life.ended.is_none())
    }

    pub fn settings(&self, incarnation: u64) -> Option<&CollectionSettings> {
        let life = self.lives.get((incarnation as usize).checked_sub(1)?);
        life.map(|life| &life.settings)
    }

    /// Whether one life lasted from `from` until now.
    pub fn existed_since(&self, from: Instant) -> bool {
        self.last().is_some_and(|life| life.began <= from && life.ended.is_none())
    }

    /// Whether there was a moment since `from` at which it did not exist with just these dimensions.
    pub fn had_other_dimensions(&self, from: Instant, dimensions: usize) -> bool {
        !self.existed_since(from)
            || self
                .last()
                .is_none_or(|life| life.settings.vector().dimensions as usize != dimensions)
    }

    pub fn sealed(&mut self) {
        if let Some(life) = self.lives.last_mut() {
            life.ended.get_or_insert(Instant::now());
        }
    }

    /// A manifest came into force.
    pub fn manifest(&mut self, next: &Manifest) -> Result<(), String> {
        if !next.is_live() {
            self.sealed();
            return Ok(());
        }
        if next.incarnation <= self.lives.len() as u64 {
            return Ok(());
        }
        self.sealed();
        let settings = next.settings.clone();
        let asked =
            self.intents.iter().any(|intent| !intent.settled && fits(&intent.spec, &settings));
        let before = self.last().map(|life| &life.settings);
        let again = before.is_none_or(|before| *before == settings);
        self.lives.push(Life { settings: settings.clone(), began: Instant::now(), ended: None });
        match asked || again {
            true => Ok(()),
            false => {
                Err(format!("{} came back with settings nobody asked for: {settings:?}", next.name))
            }
        }
    }
}

fn fits(spec: &CollectionSpec, settings: &CollectionSettings) -> bool {
    spec.dimensions == settings.vector().dimensions
        && spec.metric == settings.vector().metric
        && spec.partition_count.unwrap_or(1) == settings.partition_count
}

/// Position up to which everything was acknowledged, over time.
#[derive(Debug, Default)]
pub struct Acknowledged(Vec<(Instant, Seq)>);

impl Acknowledged {
    pub fn last(&self) -> Seq {
        self.0.last().map_or(Seq(0), |(_, seq)| *seq)
    }

    pub fn raise(&mut self, seq: Seq) {
        if seq > self.last() {
            self.0.push((Instant::now(), seq));
        }
    }

    /// What was acknowledged by `then`.
    pub fn at(&self, then: Instant) -> Seq {
        let before = self.0.partition_point(|(when, _)| *when <= then);
        before.checked_sub(1).map_or(Seq(0), |at| self.0[at].1)
    }
}
