//! The order of the rows, and the directory of it.

use super::*;
use std::ops::Range;

fn assert_cover(ranges: &[Range<u32>], rows: usize) {
    let mut sorted = ranges.to_vec();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut free = 0;
    for range in sorted {
        assert_eq!(range.start, free, "rows in no cluster, or in two");
        assert!(range.end > range.start, "a cluster without rows");
        free = range.end;
    }
    assert_eq!(free as usize, rows);
}

#[test]
fn every_row_is_in_one_cluster() {
    let sets = [data::clustered(1_500, 24), data::duplicates(900, 8), data::gaussian(20, 3)];
    for set in sets.iter().chain([&Set { dims: 3, rows: vec![], queries: vec![1.0, 2.0, 3.0] }]) {
        for metric in METRICS {
            let mut built = Built::of(metric, set, Builder::Brainy);
            let mut scratch = Scratch::default();
            for query in set.queries() {
                assert_cover(&built.index.ranges(query, &mut scratch), set.count());
            }
            // Rows that come later are behind the others.
            let more: Vec<f32> = set.queries.iter().map(|value| value + 0.1).collect();
            built.index.append(&more, params(Builder::Brainy), Threads::One);
            let ranges = built.index.ranges(&set.queries[..set.dims], &mut scratch);
            assert_cover(&ranges, built.index.len());
            let last = set.count() as u32..built.index.len() as u32;
            assert_eq!(ranges.last(), Some(&last));
        }
    }
}

/// Of data in clusters, the nearest fifth of the rows holds nearly all that is near.
#[test]
fn near_clusters_hold_what_is_near() {
    let set = data::clustered(3_000, 24);
    for metric in METRICS {
        let built = Built::of(metric, &set, Builder::Brainy);
        let mut scratch = Scratch::default();
        let held = set.queries().map(|query| {
            let mut read = RowSet::new(set.count());
            for range in built.index.ranges(query, &mut scratch) {
                if read.len() >= set.count() / 5 {
                    break;
                }
                for row in range {
                    read.insert(row);
                }
            }
            let exact = built.exact(query, 10, None);
            exact.iter().filter(|result| read.contains(result.row)).count() as f32 / 10.0
        });
        let held = mean(held);
        assert!(held >= 0.95, "{metric:?}: {held}");
    }
}
