//! Work on many independent pieces at once, with the same result on any number of threads.

use rayon::prelude::*;

/// Who does the work of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The caller's thread alone.
    One,
    /// The threads of the rayon pool that the caller runs in.
    Pool,
}

impl Threads {
    /// Calls `work` for every chunk of `size` items (the last may be shorter) with its number.
    pub(in crate::index) fn chunks_mut<T: Send>(
        self,
        items: &mut [T],
        size: usize,
        work: impl Fn(usize, &mut [T]) + Sync,
    ) {
        match self {
            Threads::One => {
                items.chunks_mut(size).enumerate().for_each(|(at, chunk)| work(at, chunk))
            }
            Threads::Pool => {
                items.par_chunks_mut(size).enumerate().for_each(|(at, chunk)| work(at, chunk))
            }
        }
    }

    /// The same for two slices that are cut into as many chunks each.
    pub(in crate::index) fn pairs_mut<A: Send, B: Send>(
        self,
        (a, a_size): (&mut [A], usize),
        (b, b_size): (&mut [B], usize),
        work: impl Fn(usize, &mut [A], &mut [B]) + Sync,
    ) {
        match self {
            Threads::One => {
                let pairs = a.chunks_mut(a_size).zip(b.chunks_mut(b_size));
                pairs.enumerate().for_each(|(at, (a, b))| work(at, a, b));
            }
            Threads::Pool => {
                let pairs = a.par_chunks_mut(a_size).zip(b.par_chunks_mut(b_size));
                pairs.enumerate().for_each(|(at, (a, b))| work(at, a, b));
            }
        }
    }

    /// Does both.
    pub fn join(self, a: impl FnOnce() + Send, b: impl FnOnce() + Send) {
        match self {
            Threads::One => {
                a();
                b();
            }
            Threads::Pool => {
                rayon::join(a, b);
            }
        }
    }

    /// `work` of each number below `count`, in order. `make` makes what a thread keeps between
    /// pieces and must not change any outcome.
    pub(in crate::index) fn map<S, T: Send>(
        self,
        count: usize,
        make: impl Fn() -> S + Sync + Send,
        work: impl Fn(&mut S, usize) -> T + Sync + Send,
    ) -> Vec<T> {
        match self {
            Threads::One => {
                let mut state = make();
                (0..count).map(|at| work(&mut state, at)).collect()
            }
            Threads::Pool => {
                (0..count).into_par_iter().map_init(make, |state, at| work(state, at)).collect()
            }
        }
    }
}
