//! An object of deletions of any bytes is read or refused, and what was read is what is written. The
//! checksum is made right first, or nothing would get past it.

#![no_main]

use brainy::segment::Deletions;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 20 {
        bytes[..12].copy_from_slice(b"BRNYDEL1\x01\0\0\0");
        let end = bytes.len() - 4;
        let crc = crc32c::crc32c(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&crc);
    }
    let Ok(deletions) = Deletions::read(&bytes) else { return };
    let counted: u64 = deletions.iter().map(|(_, rows)| rows.len()).sum();
    assert_eq!(counted, deletions.rows());
    let again = Deletions::read(&deletions.write()).expect("it was just written");
    assert_eq!(again, deletions);
});
