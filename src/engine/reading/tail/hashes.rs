//! Where is a hash among others in ascending order?

/// The place of the first of `hashes`, which ascend, that is not less than `hash`. They are spread evenly, so that it is
/// close to where it should be: a guess and a look around touch fewer lines of memory than halving does.
pub(super) fn first_at_least(hashes: &[u64], hash: u64) -> usize {
    let count = hashes.len();
    // Of 2^64 times as many.
    let scaled = |distance: u64| ((u128::from(distance) * count as u128) >> 64) as usize;
    if count == 0 {
        return 0;
    }
    let guess = scaled(hash);
    let guess = match hashes[guess] < hash {
        true => (guess + scaled(hash - hashes[guess])).min(count - 1),
        false => guess.saturating_sub(scaled(hashes[guess] - hash)),
    };
    // All before `low` are less, and those from `high` on are not.
    let (mut low, mut high, mut step) = (guess, guess, 1);
    while high < count && hashes[high] < hash {
        (low, high, step) = (high + 1, (high + step).min(count), step * 2);
    }
    while low > 0 && hashes[low - 1] >= hash {
        (high, low, step) = (low - 1, low.saturating_sub(step), step * 2);
    }
    low + hashes[low..high].partition_point(|other| *other < hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_guess_finds_what_halving_finds(
            mut hashes in prop_oneof![
                prop::collection::vec(any::<u64>(), 0..300),
                prop::collection::vec(0u64..9, 0..50),
                prop::collection::vec(u64::MAX - 9.., 0..50),
            ],
            other in any::<u64>(),
        ) {
            hashes.sort_unstable();
            let around = |hash: &u64| [hash.saturating_sub(1), *hash, hash.saturating_add(1)];
            let probes: Vec<u64> = hashes.iter().flat_map(around).collect();
            for probe in probes.into_iter().chain([0, u64::MAX, other]) {
                let halved = hashes.partition_point(|hash| *hash < probe);
                prop_assert_eq!(first_at_least(&hashes, probe), halved);
            }
        }
    }
}
