//! A filter index of any bytes answers or is refused, and never names a row that does not exist. The
//! first byte says whether the rest is an index, or patches of a whole one.

#![no_main]

use brainy::base::Code;
use brainy::filter::Filter;
use brainy::filter::index::{FilterIndex, FilterIndexBuilder, Limits};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::OnceLock;

fn whole() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let limits = Limits { fields: 6, ..Limits::default() };
        let mut builder = FilterIndexBuilder::with_limits(limits);
        for at in 0..60 {
            builder.push(Some(&json!({
                "k": if at % 3 == 0 { "red" } else { "green" },
                "l": ["x", at, null, "l".repeat(70)],
                "n": f64::from(at) / 2.0,
                "s": format!("{at}{}", "y".repeat(at as usize)),
                "t": at % 2 == 0,
                "w": if at == 7 { json!(u64::MAX) } else { json!(0.5) },
                "z": {"out": 1},
            })));
        }
        builder.finish()
    })
}

fn filters() -> &'static [Filter] {
    static FILTERS: OnceLock<Vec<Filter>> = OnceLock::new();
    FILTERS.get_or_init(|| {
        let filters = [
            json!({"k": {"$in": ["red", "blue"]}, "t": true}),
            json!({"k": {"$gte": "c", "$lt": "h"}}),
            json!({"n": {"$gt": 3, "$lte": 12.5}}),
            json!({"w": {"$ne": u64::MAX}}),
            json!({"w": {"$lt": 3}}),
            json!({"l": {"$nin": [3, null, "l".repeat(70)]}}),
            json!({"s": {"$startsWith": "1"}}),
            json!({"$or": [{"s": {"$contains": "yy"}}, {"z.out": 1}]}),
            json!({"z": {"$exists": false}}),
        ];
        filters.iter().map(|filter| Filter::parse(filter).expect("it is a filter")).collect()
    })
}

fuzz_target!(|bytes: &[u8]| {
    let bytes = match bytes.split_first() {
        Some((0, index)) => index.to_vec(),
        _ => {
            let mut index = whole().to_vec();
            for patch in bytes.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([patch[0], patch[1]])) % index.len();
                index[at] = patch[2];
            }
            index
        }
    };
    let index = match FilterIndex::open(bytes.into()) {
        Ok(index) => index,
        Err(error) => {
            assert!(matches!(error.code(), Code::Corrupt | Code::NewerFormat));
            return;
        }
    };
    for filter in filters() {
        match filter.select(&index) {
            Ok(selection) => {
                assert!(selection.rows.max().is_none_or(|last| last < index.rows()));
                assert!(selection.unsure.is_subset(&selection.rows));
            }
            Err(error) => assert_eq!(error.code(), Code::Corrupt),
        }
    }
});
