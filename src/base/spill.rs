//! Large buffers of work under way, on a disk where memory is short.
//!
//! A [`Buffer`] grows like a vector. One that spills lies in a file without a name, mapped into memory: the machine
//! writes to the disk what does not fit, and the file is gone with the buffer, or with the process. What a buffer takes
//! of the disk is taken before it is written to, so a full disk is an error.
//!
//! Guarantees:
//!
//! 1. What was added is there, in memory or not.
//! 2. A buffer of less than [`SPILLED_BYTES`] is in memory.
//! 3. A disk without room, or that cannot be written, is an error, and what was added before is there still.

use crate::base::mapped::Unnamed;
use crate::base::{Error, Result};
use bytemuck::Pod;
use bytes::Bytes;
use std::fmt::Display;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Less is not worth a file.
pub const SPILLED_BYTES: usize = 1 << 20;

/// Where large buffers go.
#[derive(Debug, Clone, Default)]
pub struct Spill(Option<Arc<Path>>);

impl Spill {
    /// Nowhere: they stay in memory.
    pub fn none() -> Spill {
        Spill(None)
    }

    /// A folder, by default that for temporary files; none where it cannot be written, or is itself in memory.
    pub fn to(folder: Option<&str>) -> Spill {
        let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
        match Unnamed::new(&folder, 1) {
            Ok(_) if is_in_memory(&folder) => {
                tracing::debug!(folder = %folder.display(), "nothing spills: the folder is in memory");
                Spill(None)
            }
            Ok(_) => Spill(Some(folder.into())),
            Err(error) => {
                tracing::debug!(folder = %folder.display(), %error, "nothing spills");
                Spill(None)
            }
        }
    }

    /// Whether buffers leave memory.
    pub fn is_on_disk(&self) -> bool {
        self.0.is_some()
    }

    /// An empty buffer.
    pub fn buffer<T: Pod>(&self) -> Buffer<T> {
        Buffer { kept: Kept::Memory(Vec::new()), spill: self.clone() }
    }
}

/// Whether a folder is one of a file system that keeps files in memory.
#[cfg(target_os = "linux")]
fn is_in_memory(folder: &Path) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let kind = rustix::fs::statfs(folder).map(|about| about.f_type as u64);
    kind.is_ok_and(|kind| [TMPFS, RAMFS].contains(&(kind & 0xffff_ffff)))
}

#[cfg(not(target_os = "linux"))]
fn is_in_memory(_: &Path) -> bool {
    false
}

/// Values one after the other, in memory or in a file.
#[derive(Debug)]
pub struct Buffer<T> {
    kept: Kept<T>,
    spill: Spill,
}

#[derive(Debug)]
enum Kept<T> {
    Memory(Vec<T>),
    /// And how many bytes of it are in use.
    File(Unnamed, usize),
}

impl<T: Pod> Buffer<T> {
    /// Adds values.
    pub fn extend_from_slice(&mut self, values: &[T]) -> Result<()> {
        self.reserve(values.len())?;
        match &mut self.kept {
            Kept::Memory(all) => all.extend_from_slice(values),
            Kept::File(file, used) => {
                let bytes: &[u8] = bytemuck::cast_slice(values);
                file.bytes_mut()[*used..*used + bytes.len()].copy_from_slice(bytes);
                *used += bytes.len();
            }
        }
        Ok(())
    }

    /// Makes room for so many more values.
    pub fn reserve(&mut self, more: usize) -> Result<()> {
        let needed = (self.len() + more) * size_of::<T>();
        if let Kept::Memory(all) = &mut self.kept {
            let folder = self.spill.0.as_deref().filter(|_| needed >= SPILLED_BYTES);
            let Some(folder) = folder else {
                all.reserve(more);
                return Ok(());
            };
            let file = Unnamed::new(folder, ahead(needed));
            let mut file = file.map_err(|error| full(folder, error))?;
            let bytes: &[u8] = bytemuck::cast_slice(all);
            file.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            self.kept = Kept::File(file, bytes.len());
        }
        if let (Kept::File(file, _), Some(folder)) = (&mut self.kept, &self.spill.0)
            && file.bytes().len() < needed
        {
            file.grow(ahead(needed)).map_err(|error| full(folder, error))?;
        }
        Ok(())
    }
}

impl<T: Pod> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match &self.kept {
            Kept::Memory(all) => all,
            // A mapping begins at a page, and has as many bytes as were added.
            Kept::File(file, used) => bytemuck::cast_slice(&file.bytes()[..*used]),
        }
    }
}

impl Buffer<u8> {
    /// Its bytes, which change no more.
    pub fn freeze(self) -> Result<Bytes> {
        match self.kept {
            Kept::Memory(all) => Ok(all.into()),
            Kept::File(file, used) => file
                .freeze(used)
                .map_err(|error| Error::internal(format!("mapping a file again: {error}"))),
        }
    }
}

/// How many bytes a file gets that needs so many, so that it grows seldom.
fn ahead(needed: usize) -> usize {
    needed + needed / 4
}

fn full(folder: &Path, error: impl Display) -> Error {
    let folder = folder.display();
    Error::unavailable(format!(
        "there is no room for work under way in {folder}: {error}; make room there, or name another folder \
         with spill_dir"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn disk() -> (tempfile::TempDir, Spill) {
        // That for temporary files may be in memory, where nothing would spill.
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let spill = Spill(Some(folder.path().into()));
        (folder, spill)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_was_added_is_there(
            pieces in prop::collection::vec((any::<u32>(), 0usize..200_000), 1..12)
        ) {
            let (folder, spill) = disk();
            let (mut buffer, mut expected) = (spill.buffer::<u32>(), Vec::new());
            for (value, count) in pieces {
                buffer.extend_from_slice(&vec![value; count]).unwrap();
                expected.extend(vec![value; count]);
            }
            prop_assert!(*buffer == *expected);
            let spilled = matches!(buffer.kept, Kept::File(..));
            prop_assert_eq!(spilled, 4 * expected.len() >= SPILLED_BYTES);
            prop_assert_eq!(folder.path().read_dir().unwrap().count(), 0, "files without a name");
        }
    }

    #[test]
    fn bytes_outlive_the_buffer() {
        let (_folder, spill) = disk();
        for length in [0, 10, SPILLED_BYTES, 3 * SPILLED_BYTES + 1] {
            let mut buffer = spill.buffer::<u8>();
            (0..length).try_for_each(|at| buffer.extend_from_slice(&[at as u8])).unwrap();
            let bytes = buffer.freeze().unwrap();
            assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
            assert_eq!(bytes.len(), length);
        }
    }

    #[test]
    fn a_disk_without_room_is_an_error() {
        let (folder, spill) = disk();
        let mut buffer = spill.buffer::<u8>();
        buffer.extend_from_slice(&[7; 2 * SPILLED_BYTES]).unwrap();
        let error = buffer.reserve(1 << 55).unwrap_err();
        assert!(error.message().contains(&folder.path().display().to_string()), "{error}");
        assert!(buffer.iter().all(|byte| *byte == 7));
        assert!(!Spill::to(Some("/no/such/folder")).is_on_disk());
    }
}
