//! A chunk of any bytes opens or is refused, and what opens can be read to its end. The checksums
//! are made right first, or nothing would get past them.

#![no_main]

use brainy::log::chunk::{Chunk, Operation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    if bytes.len() >= 48 {
        bytes[..8].copy_from_slice(b"BRNYCHK1");
        let body = crc32c::crc32c(&bytes[48..]).to_le_bytes();
        bytes[36..40].copy_from_slice(&body);
        let header = crc32c::crc32c(&bytes[..40]).to_le_bytes();
        bytes[40..44].copy_from_slice(&header);
    }
    let Ok(chunk) = Chunk::open(bytes.into()) else { return };
    let mut upserts = 0;
    for operation in chunk.iter() {
        if let Operation::Upsert { vector, .. } = operation {
            assert_eq!(vector.to_vec().len(), chunk.dimensions() as usize);
            upserts += 1;
        }
    }
    // Others that may be skipped have vectors as well.
    assert!(upserts <= chunk.vectors());
});
