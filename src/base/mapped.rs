//! Files mapped into memory: opening them costs no copy, and the machine drops what nobody reads.
#![expect(unsafe_code, reason = "mapping a file is sound only as long as nobody else changes it")]

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};
use std::fs::File;
use std::io;
use std::path::Path;

/// The first `length` bytes of a file, which stay as they are after it is replaced or deleted. Whoever calls this knows
/// that nobody opens the file for writing any more.
pub fn map(file: &File, length: usize) -> io::Result<Bytes> {
    // SAFETY: the bytes must not change, nor the file get shorter, while they are mapped. Objects of
    // a store in a folder are written under other names, then linked or renamed into place, and never opened
    // for writing again; replacing and deleting change a name, not the file behind the mapping.
    // Whoever edits files below the store's folder in place breaks the store in other ways too.
    let mapped = unsafe { MmapOptions::new().len(length).map(file) }?;
    Ok(Bytes::from_owner(mapped))
}

/// A file without a name, which ends with this, mapped to be written.
#[derive(Debug)]
pub struct Unnamed {
    file: File,
    map: MmapMut,
}

impl Unnamed {
    /// One of `length` bytes, at least 1, all of them zeros. The disk has room for all of them, or this fails.
    pub fn new(folder: &Path, length: usize) -> io::Result<Unnamed> {
        let file = tempfile::tempfile_in(folder)?;
        let map = Unnamed::mapped(&file, 0, length)?;
        Ok(Unnamed { file, map })
    }

    /// Makes it longer; what is in it stays.
    pub fn grow(&mut self, length: usize) -> io::Result<()> {
        self.map = Unnamed::mapped(&self.file, self.map.len(), length)?;
        Ok(())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Its bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }

    /// The first `length` of its bytes, which change no more.
    pub fn freeze(self, length: usize) -> io::Result<Bytes> {
        Ok(Bytes::from_owner(self.map.make_read_only()?).slice(..length))
    }

    fn mapped(file: &File, before: usize, length: usize) -> io::Result<MmapMut> {
        // Writing to a page that the disk has no room for would end the process.
        allocate(file, before as u64, (length - before) as u64)?;
        // SAFETY: the file has no name, so no other process can open it, and in this one only the `Unnamed`
        // that owns it knows it. It never gets shorter.
        unsafe { MmapOptions::new().len(length).map_mut(file) }
    }
}

/// Has the disk keep room for `length` more bytes.
fn allocate(file: &File, from: u64, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::empty(), from, length) {
        // Where the file system cannot keep room it is taken.
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {
            let zeros = io::Read::take(io::repeat(0), length);
            io::Seek::seek(&mut &*file, io::SeekFrom::Start(from))?;
            io::copy(&mut { zeros }, &mut &*file).map(drop)
        }
        other => Ok(other?),
    }
}
