//! One object at a time.

use super::{Bench, Check, ensure, lost, text, won};
use crate::store::{ByteRange, Etag, Fetched, GetOptions, Precondition};
use bytes::Bytes;

/// Above the size from which some clients and servers treat objects differently.
const LARGE_BYTES: usize = 9 << 20;

pub(super) async fn put_get(bench: &Bench) -> Check {
    let key = bench.key("put");
    let first = bench.put(&key, "one").await?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == "one" && object.size == 3 && object.etag == first, || {
        format!("after put of \"one\" with etag {first:?} came {object:?}")
    })?;
    let second = bench.put(&key, "two!").await?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == "two!" && object.etag == second, || {
        format!("after an overwrite came {object:?}")
    })?;
    ensure(first != second && !second.0.is_empty(), || {
        format!("the etags {first:?} and {second:?} do not tell two contents apart")
    })?;
    bench.put(&key, "").await?;
    let object = bench.found(&key).await?;
    ensure(object.bytes.is_empty() && object.size == 0, || {
        format!("an empty object came back as {object:?}")
    })
}

pub(super) async fn missing(bench: &Bench) -> Check {
    let key = bench.key("nothing/here");
    let ranges = [None, Some(ByteRange::Bounded(0..10)), Some(ByteRange::Suffix(10))];
    for range in ranges {
        let options = GetOptions { range, if_none_match: None };
        let fetched = bench.get(&key, options.clone()).await?;
        ensure(matches!(fetched, Fetched::Missing), || {
            format!("a missing object came back as {fetched:?} with {options:?}")
        })?;
    }
    Ok(())
}

pub(super) async fn ranges(bench: &Bench) -> Check {
    let (key, empty) = (bench.key("range"), bench.key("range-empty"));
    let etag = bench.put(&key, "0123456789").await?;
    bench.put(&empty, "").await?;
    let bounded = ByteRange::Bounded;
    let cases = [
        (bounded(0..10), "0123456789"),
        (bounded(2..5), "234"),
        (bounded(9..10), "9"),
        (bounded(7..99), "789"),
        (bounded(10..20), ""),
        (bounded(50..60), ""),
        (bounded(3..3), ""),
        (ByteRange::Suffix(3), "789"),
        (ByteRange::Suffix(10), "0123456789"),
        (ByteRange::Suffix(500), "0123456789"),
        (ByteRange::Suffix(0), ""),
    ];
    for (range, expected) in cases {
        let fetched = read(bench, &key, range.clone()).await?;
        ensure(
            matches!(&fetched, Fetched::Found(object)
                if object.bytes == expected && object.size == 10 && object.etag == etag),
            || format!("{range:?} of \"0123456789\" gave {fetched:?}"),
        )?;
    }
    for range in [bounded(0..4), bounded(4..5), ByteRange::Suffix(4)] {
        let fetched = read(bench, &empty, range.clone()).await?;
        ensure(
            matches!(&fetched, Fetched::Found(object) if object.bytes.is_empty() && object.size == 0),
            || format!("{range:?} of an empty object gave {fetched:?}"),
        )?;
    }
    Ok(())
}

async fn read(bench: &Bench, key: &crate::store::Key, range: ByteRange) -> Result<Fetched, String> {
    let options = GetOptions { range: Some(range), if_none_match: None };
    bench.get(key, options).await
}

pub(super) async fn conditional_get(bench: &Bench) -> Check {
    let key = bench.key("conditional-get");
    let first = bench.put(&key, "one").await?;
    let options = GetOptions { range: None, if_none_match: Some(first) };
    let fetched = bench.get(&key, options.clone()).await?;
    ensure(matches!(fetched, Fetched::Unmodified), || {
        format!("an unchanged object came back as {fetched:?}")
    })?;
    bench.put(&key, "two").await?;
    let fetched = bench.get(&key, options.clone()).await?;
    ensure(matches!(&fetched, Fetched::Found(object) if object.bytes == "two"), || {
        format!("a changed object came back as {fetched:?}")
    })?;
    text(bench.store.delete(&key).await)?;
    let fetched = bench.get(&key, options).await?;
    ensure(matches!(fetched, Fetched::Missing), || {
        format!("a deleted object came back as {fetched:?}")
    })
}

pub(super) async fn create(bench: &Bench) -> Check {
    let key = bench.key("create");
    let etag = won(bench.put_if(&key, "one", Precondition::Absent).await)?;
    lost(bench.put_if(&key, "two", Precondition::Absent).await)?;
    lost(bench.put_if(&key, "one", Precondition::Absent).await)?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == "one" && object.etag == etag, || {
        format!("after a lost creation came {object:?}")
    })?;
    text(bench.store.delete(&key).await)?;
    won(bench.put_if(&key, "three", Precondition::Absent).await).map(drop)
}

pub(super) async fn update(bench: &Bench) -> Check {
    let key = bench.key("update");
    let first = bench.put(&key, "one").await?;
    let matches = |etag: &Etag| Precondition::Matches(etag.clone());
    let second = won(bench.put_if(&key, "two", matches(&first)).await)?;
    lost(bench.put_if(&key, "three", matches(&first)).await)?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == "two" && object.etag == second, || {
        format!("after a lost update came {object:?}")
    })?;
    // The etag of a read and of a listing of the same content must do as well.
    won(bench.put_if(&key, "four", matches(&object.etag)).await)?;
    lost(bench.put_if(&key, "five", Precondition::Absent).await)?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == "four", || format!("after an update came {object:?}"))
}

pub(super) async fn update_missing(bench: &Bench) -> Check {
    let key = bench.key("update-missing");
    let etag = bench.put(&key, "one").await?;
    text(bench.store.delete(&key).await)?;
    lost(bench.put_if(&key, "two", Precondition::Matches(etag)).await)?;
    let fetched = bench.get(&key, GetOptions::default()).await?;
    ensure(matches!(fetched, Fetched::Missing), || {
        format!("an update of a missing object left {fetched:?}")
    })
}

pub(super) async fn delete(bench: &Bench) -> Check {
    let key = bench.key("delete");
    bench.put(&key, "one").await?;
    for _ in 0..2 {
        text(bench.store.delete(&key).await)?;
        let fetched = bench.get(&key, GetOptions::default()).await?;
        ensure(matches!(fetched, Fetched::Missing), || {
            format!("a deleted object came back as {fetched:?}")
        })?;
    }
    text(bench.store.delete(&bench.key("never/was")).await)
}

pub(super) async fn keys(bench: &Bench) -> Check {
    let folder = format!("keys/{}", bench.fresh());
    let names = [
        "00000000000000000017.log",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV.3.bin",
        "_under/dash-dot.json",
        "p001/a_b-c.dat",
        "writer-01.example.com.json",
    ];
    for name in names {
        let key = bench.key(&format!("{folder}/{name}"));
        bench.put(&key, name).await?;
        let object = bench.found(&key).await?;
        ensure(object.bytes == name, || format!("{key} came back as {object:?}"))?;
    }
    let prefix = bench.prefix(&format!("{folder}/"));
    let listing = text(bench.store.list(&prefix, None, 100).await)?;
    let listed = listing.objects.iter().map(|object| object.key.as_str());
    let listed: Vec<&str> = listed.filter_map(|key| key.strip_prefix(prefix.as_str())).collect();
    ensure(listed == names, || format!("{names:?} listed as {listed:?}"))
}

pub(super) async fn large(bench: &Bench) -> Check {
    let key = bench.key("large");
    // No two of its kilobytes are alike.
    let words = (0..LARGE_BYTES as u64 / 8).map(|index| index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let body: Bytes = words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into();
    let etag = won(bench.put_if(&key, body.clone(), Precondition::Absent).await)?;
    let object = bench.found(&key).await?;
    ensure(object.bytes == body && object.etag == etag, || {
        format!("{} bytes came back as {}", body.len(), object.bytes.len())
    })?;
    let size = body.len() as u64;
    for (range, expected) in [
        (ByteRange::Bounded(5_000_000..5_100_000), body.slice(5_000_000..5_100_000)),
        (ByteRange::Suffix(65_536), body.slice(body.len() - 65_536..)),
    ] {
        let fetched = read(bench, &key, range.clone()).await?;
        ensure(
            matches!(&fetched, Fetched::Found(object)
                if object.bytes == expected && object.size == size),
            || format!("{range:?} of a large object came back wrong"),
        )?;
    }
    text(bench.store.delete(&key).await)
}
