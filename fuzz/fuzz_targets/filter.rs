//! Any bytes as a filter, the rest after the first newline as metadata: nothing panics, a fault is
//! located, and the canonical form means the same.
#![no_main]

use brainy::base::Code;
use brainy::filter::Filter;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else {
        return Corpus::Reject;
    };
    let (filter, metadata) = text.split_once('\n').unwrap_or((text, ""));
    let filter = match Filter::from_json_str(filter) {
        Ok(filter) => filter,
        Err(error) => {
            assert_eq!(error.code(), Code::InvalidFilter);
            assert!(
                error.details()["path"]
                    .as_str()
                    .is_some_and(|path| path.starts_with('$'))
            );
            return Corpus::Keep;
        }
    };
    let canonical = filter.to_json();
    let again = Filter::parse(&canonical).expect("the canonical form is a filter");
    assert_eq!(again, filter);
    assert_eq!(again.to_string(), filter.to_string());

    let metadata: Value = serde_json::from_str(metadata).unwrap_or(Value::Null);
    let passes = filter.matches(&metadata);
    assert_eq!(again.matches(&metadata), passes);
    // One level deeper may be one too many.
    if let Ok(negated) = Filter::parse(&json!({ "$not": canonical })) {
        assert_eq!(negated.matches(&metadata), !passes);
    }
    Corpus::Keep
});
