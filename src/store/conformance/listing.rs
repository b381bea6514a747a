//! What is there, and in which order?

use super::{Bench, Check, ensure, text};
use crate::store::Key;

/// Keys whose order differs between "by folder" and "by byte", as `-`, `.` and `/` do.
const NAMES: [&str; 9] = [
    "00000000000000000009.log",
    "00000000000000000010.log",
    "A",
    "a!b",
    "a-b/x",
    "a/b",
    "a/b-c",
    "a0",
    "b",
];

async fn filled(bench: &Bench, folder: &str) -> Result<Vec<Key>, String> {
    // Not in order.
    for name in NAMES.iter().rev() {
        bench.put(&bench.key(&format!("{folder}/{name}")), *name).await?;
    }
    let keys = NAMES.map(|name| bench.key(&format!("{folder}/{name}")));
    Ok(keys.to_vec())
}

async fn list(
    bench: &Bench,
    prefix: &str,
    after: Option<&Key>,
    limit: usize,
) -> Result<(Vec<Key>, bool), String> {
    let listing = text(bench.store.list(&bench.prefix(prefix), after, limit).await)?;
    let keys = listing.objects.into_iter().map(|object| object.key);
    Ok((keys.collect(), listing.more))
}

/// In one folder the order is that of the bytes on every store.
pub(super) async fn flat(bench: &Bench) -> Check {
    let mut names = ["9.log", "10.log", "A", "a!b", "a-b", "a.b", "a0", "aa", "b", "b-"];
    for name in names {
        bench.put(&bench.key(&format!("flat/{name}")), name).await?;
    }
    names.sort_unstable();
    let keys = names.map(|name| bench.key(&format!("flat/{name}")));
    for limit in [1000, 1, 2, 4, names.len()] {
        let all = paged(bench, "flat/", limit).await?;
        ensure(all == keys, || format!("pages of {limit} listed {all:?} in place of {keys:?}"))?;
    }
    for (index, key) in keys.iter().enumerate() {
        let (listed, _) = list(bench, "flat/", Some(key), 1000).await?;
        ensure(listed == keys[index + 1..], || format!("after {key} came {listed:?}"))?;
    }
    // Keys that are not there do as well, also before and behind everything.
    for (name, rest) in [("", 0), ("a", 3), ("a-", 4), ("a-c", 5), ("zzz", 10)] {
        let key = bench.key(&format!("flat/{name}"));
        let (listed, _) = list(bench, "flat/", Some(&key), 1000).await?;
        ensure(listed == keys[rest..], || {
            format!("after {key}, which is no object, came {listed:?}")
        })?;
    }
    Ok(())
}

/// Over folders a listing is complete and its pages fit together, whatever their order.
pub(super) async fn pages(bench: &Bench) -> Check {
    let keys = filled(bench, "pages").await?;
    let (whole, more) = list(bench, "pages/", None, 1000).await?;
    let mut sorted = whole.clone();
    sorted.sort_unstable();
    ensure(sorted == keys && !more, || {
        format!("expected {keys:?}, listed {whole:?}, more: {more}")
    })?;
    for limit in [1, 2, 4, NAMES.len()] {
        let all = paged(bench, "pages/", limit).await?;
        ensure(all == whole, || format!("pages of {limit} listed {all:?} in place of {whole:?}"))?;
    }
    let sizes = text(bench.store.list(&bench.prefix("pages/"), None, 1000).await)?;
    let folder = format!("{}/pages/", bench.folder);
    let wrong = sizes.objects.iter().filter(|object| {
        let name = object.key.as_str().strip_prefix(folder.as_str());
        name.is_none_or(|name| name.len() as u64 != object.size)
    });
    let wrong: Vec<_> = wrong.collect();
    ensure(wrong.is_empty(), || format!("sizes differ: {wrong:?}"))
}

async fn paged(bench: &Bench, prefix: &str, limit: usize) -> Result<Vec<Key>, String> {
    let mut all = Vec::new();
    loop {
        let (page, more) = list(bench, prefix, all.last(), limit).await?;
        // Whoever goes on from the last key needs one.
        ensure(page.len() <= limit && (!page.is_empty() || !more), || {
            format!("a page of {limit} held {}, more: {more}", page.len())
        })?;
        all.extend(page);
        if !more {
            return Ok(all);
        }
    }
}

/// The order over folders is that of the bytes, too. Servers that keep folders (SeaweedFS) list
/// `a/b` before `a-b`.
pub(super) async fn across_folders(bench: &Bench) -> Check {
    let keys = filled(bench, "across").await?;
    let all = paged(bench, "across/", 2).await?;
    ensure(all == keys, || format!("listed {all:?} in place of {keys:?}"))?;
    for (name, rest) in [("a", 3), ("a/", 5), ("a/b!", 6), ("a-b/x", 5)] {
        let key = bench.key(&format!("across/{name}"));
        let (listed, _) = list(bench, "across/", Some(&key), 1000).await?;
        ensure(listed == keys[rest..], || format!("after {key} came {listed:?}"))?;
    }
    Ok(())
}

pub(super) async fn prefixes(bench: &Bench) -> Check {
    let keys = filled(bench, "prefix").await?;
    let sorted = |mut keys: Vec<Key>| {
        keys.sort_unstable();
        keys
    };
    for (prefix, range) in [
        ("prefix/0", 0..2),
        ("prefix/a", 3..8),
        ("prefix/a/", 5..7),
        ("prefix/a/b", 5..7),
        ("prefix/a-b/", 4..5),
        ("prefix/nothing", 0..0),
        ("prefix/no/thing/", 0..0),
    ] {
        let (listed, more) = list(bench, prefix, None, 1000).await?;
        let listed = sorted(listed);
        ensure(listed == keys[range] && !more, || {
            format!("the prefix {prefix} listed {listed:?}, more: {more}")
        })?;
    }
    let (listed, _) = list(bench, "prefix/a/", Some(&keys[5]), 2).await?;
    ensure(listed == keys[6..7], || format!("a prefix with start-after listed {listed:?}"))
}

pub(super) async fn folders(bench: &Bench) -> Check {
    filled(bench, "folders").await?;
    bench.put(&bench.key("folders/deep/er/still"), "x").await?;
    for (prefix, expected) in [
        ("folders/", vec!["a", "a-b", "deep"]),
        ("folders/deep/", vec!["er"]),
        ("folders/a/", vec![]),
        ("folders/nothing/", vec![]),
    ] {
        let found = text(bench.store.list_dirs(&bench.prefix(prefix)).await)?;
        ensure(found == expected, || {
            format!("below {prefix} are the folders {found:?}, not {expected:?}")
        })?;
    }
    text(bench.store.delete(&bench.key("folders/deep/er/still")).await)?;
    let found = text(bench.store.list_dirs(&bench.prefix("folders/")).await)?;
    // A server that keeps folders needs a moment to notice.
    ensure(found == ["a", "a-b"] || !bench.effort.flat, || {
        format!("an empty folder is still listed: {found:?}")
    })
}
