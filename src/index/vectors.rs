//! Full-precision vectors, which the kernel reads but does not keep.

use crate::index::graph::prefetch;

/// Full-precision vectors by row.
pub trait Vectors: Sync {
    /// Is told which row will be read soon.
    fn prefetch(&self, row: u32, dims: usize) {
        let _ = (row, dims);
    }

    /// Writes the vector of a row into `into`, which is as long as one.
    fn read(&self, row: u32, into: &mut [f32]);
}

/// Vectors that lie one after the other.
impl Vectors for &[f32] {
    fn prefetch(&self, row: u32, dims: usize) {
        prefetch(&self[row as usize * dims..][..dims]);
    }

    fn read(&self, row: u32, into: &mut [f32]) {
        into.copy_from_slice(&self[row as usize * into.len()..][..into.len()]);
    }
}

/// Some of the vectors that lie one after the other, in an order of their own.
#[derive(Debug, Clone, Copy)]
pub(in crate::index) struct Picked<'a> {
    pub(in crate::index) vectors: &'a [f32],
    pub(in crate::index) dims: usize,
    /// Which of them is the first, the second and so on.
    pub(in crate::index) rows: &'a [u32],
}

impl<'a> Picked<'a> {
    pub(in crate::index) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(in crate::index) fn get(&self, at: usize) -> &'a [f32] {
        &self.vectors[self.rows[at] as usize * self.dims..][..self.dims]
    }
}

impl Vectors for Picked<'_> {
    fn prefetch(&self, row: u32, _: usize) {
        prefetch(self.get(row as usize));
    }

    fn read(&self, row: u32, into: &mut [f32]) {
        into.copy_from_slice(self.get(row as usize));
    }
}
