//! Arrays that are owned, or lie in somebody else's bytes: a mapped file, a downloaded object.
#![allow(unsafe_code)]

use crate::index::machine::integer::Line;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that stay where they are, at the same length, as long as they are held.
pub trait Bytes: Send + Sync {
    /// The bytes.
    fn bytes(&self) -> &[u8];
}

impl<T: AsRef<[u8]> + Send + Sync> Bytes for T {
    fn bytes(&self) -> &[u8] {
        self.as_ref()
    }
}

/// What can be read in place: every pattern of bits is a value, without padding.
pub(in crate::index) trait Plain: Copy + Send + Sync + 'static {}

impl Plain for u32 {}
impl Plain for Line {}

/// An array of plain values.
#[derive(Clone)]
pub(in crate::index) enum Buffer<T> {
    Owned(Vec<T>),
    /// Where the values lie in the bytes, checked when this was made.
    Shared {
        _holder: Arc<dyn Bytes>,
        start: *const T,
        length: usize,
    },
}

// SAFETY: the values lie in the holder's bytes, which may be sent and shared, and are only read.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// The values that lie at `range` of the bytes. `None` where the range lies outside of them, is
    /// no whole number of values, or is not aligned for them.
    pub(in crate::index) fn shared(
        holder: Arc<dyn Bytes>,
        range: std::ops::Range<usize>,
    ) -> Option<Self> {
        let bytes = holder.bytes().get(range)?;
        let start = bytes.as_ptr().cast::<T>();
        if !start.is_aligned() || bytes.len() % size_of::<T>() != 0 {
            return None;
        }
        let length = bytes.len() / size_of::<T>();
        Some(Buffer::Shared { start, length, _holder: holder })
    }

    /// The values, to be changed; copied first where they are shared.
    pub(in crate::index) fn to_mut(&mut self) -> &mut Vec<T> {
        if let Buffer::Shared { .. } = self {
            *self = Buffer::Owned(self.to_vec());
        }
        match self {
            Buffer::Owned(values) => values,
            Buffer::Shared { .. } => unreachable!("replaced above"),
        }
    }

    /// The values as bytes.
    pub(in crate::index) fn as_bytes(&self) -> &[u8] {
        let values: &[T] = self;
        // SAFETY: plain values have no padding, so all of their bytes are initialised.
        unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        match self {
            Buffer::Owned(values) => values,
            // SAFETY: `shared` has seen that so many aligned values lie there; the holder keeps them
            // there; every pattern of bits is a value.
            Buffer::Shared { start, length, .. } => unsafe {
                std::slice::from_raw_parts(*start, *length)
            },
        }
    }
}

impl<T> From<Vec<T>> for Buffer<T> {
    fn from(values: Vec<T>) -> Self {
        Buffer::Owned(values)
    }
}

impl<T: std::fmt::Debug> std::fmt::Debug for Buffer<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests;
