//! Large files mapped into memory: opening them costs no copy, and the machine drops what nobody reads.
#![expect(unsafe_code, reason = "mapping a file is sound only as long as nobody changes it")]

use bytes::Bytes;
use memmap2::MmapOptions;
use std::fs::File;
use std::io;

/// The first `length` bytes of a file, which stay as they are after it is replaced or deleted.
pub(super) fn map(file: &File, length: usize) -> io::Result<Bytes> {
    // SAFETY: the bytes must not change, nor the file get shorter, while they are mapped. Objects of
    // the store are written under other names, then linked or renamed into place, and never opened
    // for writing again; replacing and deleting change a name, not the file behind the mapping.
    // Whoever edits files below the store's folder in place breaks the store in other ways too.
    let mapped = unsafe { MmapOptions::new().len(length).map(file) }?;
    Ok(Bytes::from_owner(mapped))
}
