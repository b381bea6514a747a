//! Which of some rows a filter lets through, as the kernel takes it.

use crate::base::Result;
use crate::base::request::Work;
use crate::cache::Recent;
use crate::filter::Filter;
use crate::filter::index::FilterIndex;
use crate::index::RowSet;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Of the bytes of the rows this share, one in so many, may go to sets that were made lately.
const BYTES_SHARE: usize = 32;

/// The rows that a filter lets through.
#[derive(Debug)]
pub struct Allowed {
    /// Those that may be results; `None`: all.
    pub rows: Option<RowSet>,
    /// Those of which the metadata have to be looked at.
    pub unsure: RoaringBitmap,
}

impl Allowed {
    /// The same of `all` rows in all where those that do not pass among the unsure ones are known.
    pub fn without(&self, all: u32, failing: &RoaringBitmap) -> Allowed {
        let rows: RowSet = match &self.rows {
            Some(rows) => rows.iter().filter(|row| !failing.contains(*row)).collect(),
            None => (0..all).filter(|row| !failing.contains(*row)).collect(),
        };
        Allowed { rows: Some(rows), unsure: RoaringBitmap::new() }
    }

    fn bytes(&self) -> usize {
        self.rows.as_ref().map_or(0, RowSet::bytes) + self.unsure.serialized_size()
    }
}

/// The sets of the filters that were asked lately about rows that stay the same.
#[derive(Debug)]
pub struct AllowedRows(Recent<Filter, Allowed>);

impl AllowedRows {
    /// For rows that take `bytes`.
    pub fn new(bytes: usize) -> AllowedRows {
        AllowedRows(Recent::new(bytes / BYTES_SHARE))
    }

    /// What `filter` lets through of the rows of `index` that are not dead.
    pub fn of(
        &self,
        filter: &Filter,
        index: &FilterIndex,
        dead: &RoaringBitmap,
        work: &Work<'_>,
    ) -> Result<Arc<Allowed>> {
        if let Some(known) = self.0.get(filter) {
            return Ok(known);
        }
        let selection = filter.select_within(index, &|units| work.spend(units))?;
        let rows = selection.rows - dead;
        let all = rows.len() == u64::from(index.rows());
        let rows = (!all).then(|| row_set(&rows));
        let allowed = Arc::new(Allowed { rows, unsure: selection.unsure });
        self.remember(filter, allowed.clone());
        Ok(allowed)
    }

    /// What `filter` lets through, for the next time that it is asked.
    pub fn remember(&self, filter: &Filter, allowed: Arc<Allowed>) {
        let bytes = allowed.bytes() + filter.bytes();
        self.0.put(filter.clone(), allowed, bytes);
    }
}

/// The rows of a bitmap.
pub fn row_set(bitmap: &RoaringBitmap) -> RowSet {
    let mut words = vec![0u64; bitmap.max().map_or(0, |last| last as usize / 64 + 1)];
    let (mut rows, mut some) = (bitmap.iter(), [0; 256]);
    loop {
        let some = rows.next_many(&mut some);
        if some.is_empty() {
            return RowSet::from_words(words);
        }
        for row in some {
            words[*row as usize / 64] |= 1 << (*row % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::request::RequestContext;
    use crate::filter::index::FilterIndexBuilder;
    use serde_json::json;

    #[test]
    fn a_set_has_the_rows_of_its_bitmap() {
        for rows in [vec![], vec![0], vec![63, 64, 127, 128], (0..70_000).step_by(3).collect()] {
            let bitmap: RoaringBitmap = rows.iter().copied().collect();
            let set = row_set(&bitmap);
            assert_eq!(set, rows.iter().copied().collect());
            assert_eq!(set.len(), rows.len());
        }
    }

    #[test]
    fn a_filter_that_is_asked_again_is_answered_alike_without_a_look() {
        let mut builder = FilterIndexBuilder::new();
        for row in 0..1_000 {
            builder.push(Some(&json!({"even": row % 2 == 0, "row": row})));
        }
        let index = FilterIndex::open(builder.finish().into()).unwrap();
        let dead: RoaringBitmap = [4, 5].into_iter().collect();
        let filter = |json| Filter::parse(&json).unwrap();
        let even = filter(json!({"even": true}));
        let allowed = AllowedRows::new(1 << 20);
        let context = RequestContext::unlimited();
        let work = Work::unbounded(&context);
        let first = allowed.of(&even, &index, &dead, &work).unwrap();
        let rows: Vec<u32> = first.rows.as_ref().unwrap().iter().collect();
        let expected: Vec<u32> = (0..1_000).step_by(2).filter(|row| *row != 4).collect();
        assert_eq!(rows, expected);
        let again = allowed.of(&filter(json!({"even": true})), &index, &dead, &work).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        let other = allowed.of(&filter(json!({"row": {"$lt": 3}})), &index, &dead, &work).unwrap();
        assert_eq!(other.rows.as_ref().unwrap().len(), 3);
        let all = allowed.of(&filter(json!({})), &index, &RoaringBitmap::new(), &work);
        assert!(all.unwrap().rows.is_none());
        let none = AllowedRows::new(0);
        let one = none.of(&even, &index, &dead, &work).unwrap();
        assert!(
            !Arc::ptr_eq(&one, &none.of(&even, &index, &dead, &work).unwrap()),
            "there is no room"
        );
    }
}
