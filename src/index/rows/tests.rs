//! Against a set of the standard library.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

proptest! {
    #[test]
    fn it_holds_what_a_set_would(
        rows in proptest::collection::vec(0u32..300, 0..80), absent in 0u32..1_000,
    ) {
        let mut set = RowSet::new(300);
        let mut expected = BTreeSet::new();
        for &row in &rows {
            prop_assert_eq!(set.insert(row), expected.insert(row));
            prop_assert_eq!(set.len(), expected.len());
        }
        prop_assert_eq!(set.is_empty(), expected.is_empty());
        for row in rows.iter().copied().chain([absent, 299, 300, 319, 320, u32::MAX]) {
            prop_assert_eq!(set.contains(row), expected.contains(&row));
        }
        let collected: RowSet = rows.iter().copied().collect();
        prop_assert_eq!(collected.len(), expected.len());
        prop_assert!(collected.iter().eq(expected.iter().copied()));
        prop_assert!(set.iter().eq(expected));
    }
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn a_row_without_room_panics() {
    RowSet::new(64).insert(64);
}
