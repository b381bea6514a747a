//! A search, step by step.

use super::Brainy;
use crate::base::ids::{CollectionName, Seq};
use crate::base::{Error, Result};
use crate::engine::model::{Consistency, Effort, Query, SearchRequest, SearchResponse};
use crate::filter::Filter;
use serde_json::Value;
use std::future::IntoFuture;
use std::pin::Pin;
use std::time::Duration;

/// What a search starts with.
const LIMIT_DEFAULT: usize = 10;

/// A search that is yet to be awaited.
#[derive(Debug)]
#[must_use = "a search does nothing before it is awaited"]
pub struct Search {
    db: Brainy,
    name: Result<CollectionName>,
    request: SearchRequest,
    fault: Option<Error>,
}

impl Search {
    pub(super) fn new(db: Brainy, name: Result<CollectionName>, query: Query) -> Search {
        let nearest = SearchRequest::nearest(Vec::new(), LIMIT_DEFAULT);
        Search { db, name, request: SearchRequest { query, ..nearest }, fault: None }
    }

    /// How many results, 1 to 10,000; 10 where nothing is said.
    pub fn limit(mut self, limit: usize) -> Search {
        self.request.k = limit;
        self
    }

    /// How many of the closest to leave out first; with the limit at most 10,000.
    pub fn offset(mut self, offset: usize) -> Search {
        self.request.offset = offset;
        self
    }

    /// Which records to consider: JSON as docs/filters.md has it, as a value or as text, or a [`Filter`].
    pub fn filter(mut self, filter: impl IntoFilter) -> Search {
        match filter.into_filter() {
            Ok(filter) => self.request.filter = Some(filter),
            Err(fault) => self.fault = Some(fault),
        }
        self
    }

    /// Results carry their vectors.
    pub fn with_vectors(mut self) -> Search {
        self.request.include_vector = true;
        self
    }

    /// Results carry neither metadata nor text, which is faster.
    pub fn without_metadata(mut self) -> Search {
        self.request.include_metadata = false;
        self
    }

    /// About this share of the true results is found, .5 to 1, as was measured when the index was built; .98 where
    /// nothing is said. With 1 every record is measured.
    pub fn target_recall(mut self, recall: f32) -> Search {
        self.request.effort = Effort::Recall(recall);
        self
    }

    /// How many rows a walk of an index keeps (`efSearch`), 1 to 10,000.
    pub fn ef(mut self, ef: usize) -> Search {
        self.request.effort = Effort::Ef(ef);
        self
    }

    /// It sees every write that was acknowledged anywhere before it began.
    pub fn strong(mut self) -> Search {
        self.request.consistency = Consistency::Strong;
        self
    }

    /// It sees everything up to a version, which a write has returned, and waits for it for so long.
    pub fn at_least(mut self, version: Seq, wait: Duration) -> Search {
        self.request.consistency = Consistency::AtLeast { version, wait };
        self
    }
}

impl IntoFuture for Search {
    type Output = Result<SearchResponse>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let Search { db, name, request, fault } = self;
        Box::pin(async move {
            match fault {
                Some(fault) => Err(fault),
                None => db.search(&name?, request).await,
            }
        })
    }
}

/// What can be read as a filter. Errors: `invalid_filter`, which names the place.
pub trait IntoFilter {
    /// The filter.
    fn into_filter(self) -> Result<Filter>;
}

impl IntoFilter for Filter {
    fn into_filter(self) -> Result<Filter> {
        Ok(self)
    }
}

impl IntoFilter for Value {
    fn into_filter(self) -> Result<Filter> {
        Filter::parse(&self)
    }
}

impl IntoFilter for &Value {
    fn into_filter(self) -> Result<Filter> {
        Filter::parse(self)
    }
}

impl IntoFilter for &str {
    fn into_filter(self) -> Result<Filter> {
        Filter::from_json_str(self)
    }
}
