//! What is worked on is cut into runs that are bounded.

/// Cuts `items` into runs of at most `most` bytes, as `bytes_of` says, and `count_max` items. A run has one item at
/// least, however large it is.
pub(super) fn runs<T>(
    items: impl IntoIterator<Item = T>,
    bytes_of: impl Fn(&T) -> u64,
    (bytes_max, count_max): (u64, usize),
) -> Vec<Vec<T>> {
    let (mut runs, mut bytes) = (Vec::<Vec<T>>::new(), 0_u64);
    for item in items {
        let of_item = bytes_of(&item);
        bytes = bytes.saturating_add(of_item);
        match runs.last_mut() {
            Some(run) if run.len() < count_max && bytes <= bytes_max => run.push(item),
            _ => {
                runs.push(vec![item]);
                bytes = of_item;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_bounded_by_bytes_and_by_number_and_lose_nothing() {
        let cut = |items: &[u64], bytes, count| runs(items.to_vec(), |item| *item, (bytes, count));
        assert_eq!(
            cut(&[3, 3, 3, 9, 1, 1, 1, 1], 6, 3),
            [vec![3, 3], vec![3], vec![9], vec![1, 1, 1], vec![1]]
        );
        assert_eq!(cut(&[u64::MAX, u64::MAX], u64::MAX, 9), [[u64::MAX, u64::MAX]]);
        assert_eq!(cut(&[0, 7], 0, 1), [[0], [7]]);
        assert!(cut(&[], 1, 1).is_empty());
    }
}
