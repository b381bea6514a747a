//! Bytes of somebody else, read in place.

use super::*;
use crate::index::build::random::Random;

/// Bytes that are aligned to a line and say when they are gone.
struct Held {
    lines: Buffer<Line>,
    watch: Arc<()>,
}

impl Bytes for Held {
    fn bytes(&self) -> &[u8] {
        assert!(Arc::strong_count(&self.watch) > 0);
        self.lines.as_bytes()
    }
}

fn held(lines: usize) -> (Arc<Held>, Vec<u8>) {
    let random = &mut Random::new(lines as u64);
    let line = |_| Line(std::array::from_fn(|_| random.bits() as u8));
    let lines: Buffer<Line> = (0..lines).map(line).collect::<Vec<_>>().into();
    let bytes = lines.as_bytes().to_vec();
    (Arc::new(Held { lines, watch: Arc::new(()) }), bytes)
}

#[test]
fn values_are_read_where_they_lie() {
    let (holder, bytes) = held(3);
    let lines = Buffer::<Line>::shared(holder.clone(), 64..192).expect("aligned");
    assert_eq!(lines.as_ptr(), &raw const holder.lines[1]);
    assert_eq!(*lines, holder.lines[1..]);
    assert_eq!(lines.as_bytes(), &bytes[64..]);
    let numbers = Buffer::<u32>::shared(holder, 4..24).expect("aligned");
    let expected = bytes[4..24].as_chunks().0.iter().map(|&bytes| u32::from_ne_bytes(bytes));
    assert!(numbers.iter().copied().eq(expected));
    assert_eq!(numbers.as_bytes(), &bytes[4..24]);
}

#[test]
fn what_is_not_aligned_not_whole_or_not_inside_is_refused() {
    let (holder, bytes) = held(2);
    let lines = |range| Buffer::<Line>::shared(holder.clone(), range).map(|lines| lines.len());
    let numbers = |range| Buffer::<u32>::shared(holder.clone(), range).map(|all| all.len());
    assert_eq!([lines(0..128), lines(64..128), lines(64..64)], [Some(2), Some(1), Some(0)]);
    assert_eq!([lines(32..96), lines(4..68), lines(1..65)], [None; 3], "not aligned");
    assert_eq!([lines(0..63), lines(0..65), lines(64..96)], [None; 3], "not whole");
    assert_eq!([lines(64..192), lines(128..192)], [None; 2], "not inside");
    #[allow(clippy::reversed_empty_ranges)]
    let backwards = lines(64..0);
    assert_eq!(backwards, None);
    assert_eq!([numbers(0..128), numbers(4..12), numbers(128..128)], [Some(32), Some(2), Some(0)]);
    assert_eq!([numbers(1..5), numbers(2..6), numbers(0..3), numbers(126..130)], [None; 4]);
    assert_eq!(bytes.len(), 128);
}

#[test]
fn the_bytes_are_kept_as_long_as_they_are_read() {
    let (holder, bytes) = held(2);
    let watch = Arc::downgrade(&holder.watch);
    let shared = Buffer::<u32>::shared(holder, 0..128).expect("aligned");
    let copy = shared.clone();
    drop(shared);
    // On another thread.
    let read = || std::thread::scope(|scope| scope.spawn(|| copy.as_bytes() == bytes).join());
    assert!(read().expect("it reads"));
    drop(copy);
    assert!(watch.upgrade().is_none(), "the last reader has let go of them");
}

#[test]
fn a_change_goes_to_a_copy() {
    let (holder, bytes) = held(1);
    let shared = Buffer::<u32>::shared(holder.clone(), 0..64).expect("aligned");
    let mut changed = shared.clone();
    changed.to_mut().push(7);
    changed.to_mut()[0] ^= 1;
    assert_eq!((changed.len(), changed[16], changed[0]), (17, 7, shared[0] ^ 1));
    assert_eq!(shared.as_bytes(), bytes);
    assert_eq!(holder.lines.as_bytes(), bytes);
    assert_eq!(format!("{:?}", Buffer::from(vec![1u32, 2])), "[1, 2]");
}
