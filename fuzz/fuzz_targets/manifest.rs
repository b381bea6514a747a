//! A manifest of any bytes parses or is refused; one that parses survives being written.

#![no_main]

use brainy::base::ids::CollectionName;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let name = CollectionName::new("c").expect("a valid name");
    if let Ok(manifest) = brainy::manifest::parse(&name, bytes) {
        let text = serde_json::to_vec(&manifest).expect("a manifest can be written");
        let again = brainy::manifest::parse(&name, &text).expect("what was written can be read");
        assert_eq!(manifest, again);
    }
});
