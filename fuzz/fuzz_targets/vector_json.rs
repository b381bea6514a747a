//! A vector in any JSON is read or refused.

#![no_main]

use brainy::engine::writing::vector_json::VectorInput;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = serde_json::from_slice::<VectorInput>(bytes);
});
