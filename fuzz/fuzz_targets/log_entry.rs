//! A log entry of any bytes decodes or is refused. The checksums are made right first.

#![no_main]

use brainy::log::entry::{Entry, Header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 80 {
        bytes[..8].copy_from_slice(b"BRNYWAL1");
        let body = crc32c::crc32c(&bytes[80..]).to_le_bytes();
        bytes[72..76].copy_from_slice(&body);
        let header = crc32c::crc32c(&bytes[..76]).to_le_bytes();
        bytes[76..80].copy_from_slice(&header);
    }
    let header = Header::decode(&bytes);
    if let Ok(entry) = Entry::decode(&bytes.into()) {
        assert_eq!(entry.header, header.expect("an entry that decodes has a header"));
    }
});
