//! Searches: which records, at which distance, in which order.

use crate::guarantees;
use crate::model::collection::Checked;
use crate::model::record::{distance, ties};
use crate::model::{Condition, Contents, Live};
use brainy::engine::model::{Consistency, Hit, Metric, Query, SearchRequest};
use serde_json::Value;

/// How far a distance in single precision may be from the exact one.
const TOLERANCE: f64 = 1e-4;

/// A search with a filter that the model can evaluate.
#[derive(Debug, Clone)]
pub struct Search {
    pub query: Query,
    pub k: usize,
    pub offset: usize,
    pub condition: Option<Condition>,
    pub include_metadata: bool,
    pub include_vector: bool,
}

impl Search {
    /// Everything that is there.
    pub fn all(dimensions: usize) -> Search {
        let query = Query::Vector(vec![1.0; dimensions]);
        let condition = None;
        Search {
            query,
            k: 1_000,
            offset: 0,
            condition,
            include_metadata: true,
            include_vector: true,
        }
    }

    pub fn to_send(&self, consistency: Consistency) -> SearchRequest {
        SearchRequest {
            query: self.query.clone(),
            offset: self.offset,
            filter: self.condition.as_ref().map(Condition::to_send),
            include_metadata: self.include_metadata,
            include_vector: self.include_vector,
            consistency,
            ..SearchRequest::nearest(Vec::new(), self.k)
        }
    }

    /// Some of what the log holds is not found, and what is found is right.
    pub fn check_some(&self, metric: Metric, contents: &Contents, hits: &[Hit]) -> Checked {
        let (mut found, mut seen) = (Contents::new(), Search { offset: 0, ..self.clone() });
        if let Query::Id(id) = &self.query {
            let Some(live) = contents.get(id) else { return Ok(()) };
            seen.query = Query::Vector(live.record.vector.clone());
        }
        for hit in hits {
            let Some(live) = contents.get(&hit.id) else {
                return Err(format!("found {}, which is not there: {self:?}", hit.id));
            };
            found.insert(hit.id.clone(), live.clone());
        }
        seen.check(metric, &found, hits)
    }

    /// Invariants 1 and 2: the answer is that of a scan of all that the log holds.
    pub fn check(&self, metric: Metric, contents: &Contents, hits: &[Hit]) -> Checked {
        let (query, own) = match &self.query {
            Query::Vector(vector) => (vector.as_slice(), None),
            Query::Id(id) => match contents.get(id) {
                Some(live) => (live.record.vector.as_slice(), Some(id)),
                None => return Err(format!("a search by {id}, which is not there, has an answer")),
            },
        };
        let far = |live: &Live| distance(metric, query, &live.record.vector);
        let mut ranked: Vec<(f64, &String, &Live)> = contents
            .iter()
            .filter(|(id, live)| Some(*id) != own && self.passes(live))
            .map(|(id, live)| (far(live), id, live))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
        let wanted: Vec<_> = ranked.iter().skip(self.offset).take(self.k).collect();
        let ids = || hits.iter().map(|hit| (&hit.id, hit.distance)).collect::<Vec<_>>();
        if wanted.len() != hits.len() {
            let wanted: Vec<_> = wanted.iter().map(|(_, id, _)| id).collect();
            return Err(format!("found {:?}, the log says {wanted:?}: {self:?}", ids()));
        }
        for (rank, (hit, (wanted_far, wanted_id, wanted))) in hits.iter().zip(&wanted).enumerate() {
            let Some(live) = contents.get(&hit.id).filter(|live| self.passes(live)) else {
                return Err(format!("found {}, which is not to be found: {self:?}", hit.id));
            };
            self.check_hit(hit, live, far(live))?;
            let near = |a: f64| (a - wanted_far).abs() <= TOLERANCE * (1.0 + a.abs());
            if !near(hit.distance.into()) {
                return Err(format!(
                    "rank {rank} is {} at {}, it is {wanted_id} at {wanted_far}: {self:?} gave {:?}",
                    hit.id,
                    hit.distance,
                    ids()
                ));
            }
            let tied =
                |other: &Live| ties(metric, query, &wanted.record.vector, &other.record.vector);
            let is_clear = ranked.iter().all(|(far, _, other)| !near(*far) || tied(other));
            if guarantees::TIES_GO_BY_ID && is_clear && hit.id != **wanted_id {
                return Err(format!(
                    "rank {rank} of a tie is {}, it is {wanted_id}: {self:?} gave {:?}",
                    hit.id,
                    ids()
                ));
            }
        }
        match hits.windows(2).find(|pair| key(&pair[0]) >= key(&pair[1])) {
            Some(pair) => {
                Err(format!("{} before {}: {self:?} gave {:?}", pair[0].id, pair[1].id, ids()))
            }
            None => Ok(()),
        }
    }

    fn passes(&self, live: &Live) -> bool {
        self.condition.as_ref().is_none_or(|condition| condition.passes(&live.record.metadata))
    }

    /// What a hit carries.
    fn check_hit(&self, hit: &Hit, live: &Live, far: f64) -> Checked {
        let record = &live.record;
        let off = (f64::from(hit.distance) - far).abs() > TOLERANCE * (1.0 + far.abs());
        let vector = self.include_vector.then_some(&record.vector);
        let metadata = self.include_metadata.then_some(&record.metadata);
        let parsed = hit.metadata.as_deref().map(serde_json::from_str::<Value>);
        let parsed = parsed.transpose().map_err(|error| format!("{}: {error}", hit.id))?;
        let text = record.text.as_deref().filter(|_| self.include_metadata);
        let same = hit.vector.as_ref() == vector
            && parsed.as_ref() == metadata
            && hit.text.as_deref() == text;
        match off || !same {
            true => Err(format!("found {hit:?}, it is {record:?} at {far}")),
            false => Ok(()),
        }
    }
}

/// What hits are in the order of.
fn key(hit: &Hit) -> (i64, &str) {
    // Floats in the order of integers: for those below zero all other bits count backward.
    let bits = i64::from(hit.distance.to_bits() as i32);
    let bits = if hit.distance == 0.0 { 0 } else { bits };
    (if bits < 0 { i64::from(i32::MIN) - bits } else { bits }, &hit.id)
}
