//! What goes into a chunk comes out, and nothing else is taken for one.

use super::*;
use proptest::prelude::*;

fn sample() -> Bytes {
    let mut builder = ChunkBuilder::new(2);
    builder.upsert("a", &[1.0, 2.0], "{\"x\":1}", None);
    builder.delete("b");
    builder.upsert("ö", &[-1.0, 0.5], "", Some(""));
    builder.finish().unwrap()
}

#[test]
fn operations_come_back_in_order() {
    let chunk = Chunk::open(sample()).unwrap();
    assert_eq!((chunk.operations(), chunk.vectors()), (3, 2));
    let operations: Vec<_> = chunk.iter().collect();
    let halves = [0x00, 0x3c, 0x00, 0x40];
    let vector = StoredVector { encoding: Encoding::F16, bytes: &halves };
    let first = Operation::Upsert { id: "a", vector, metadata: "{\"x\":1}", text: None };
    assert_eq!(operations[0], first);
    assert_eq!(operations[1], Operation::Delete { id: "b", limit: None });
    assert!(matches!(operations[2], Operation::Upsert { id: "ö", text: Some(""), .. }));
}

fn limited() -> Bytes {
    let mut builder = ChunkBuilder::new(1);
    builder.delete_until("a", Seq(7));
    builder.upsert("b", &[1.5], "", None);
    builder.delete("c");
    builder.delete_until("d", Seq(u64::MAX));
    builder.finish().unwrap()
}

#[test]
fn limits_belong_to_their_operations() {
    let chunk = Chunk::open(limited()).unwrap();
    let operations: Vec<_> = chunk.iter().collect();
    assert_eq!(operations[0], Operation::Delete { id: "a", limit: Some(Seq(7)) });
    assert!(matches!(operations[1], Operation::Upsert { id: "b", .. }));
    assert_eq!(operations[2], Operation::Delete { id: "c", limit: None });
    assert_eq!(operations[3], Operation::Delete { id: "d", limit: Some(Seq(u64::MAX)) });
    let killed: Vec<Seq> = operations.iter().map(|one| one.kills_until(Seq(9))).collect();
    assert_eq!(killed, [Seq(7), Seq(8), Seq(8), Seq(8)]);
}

#[test]
fn builds_that_know_no_limits_read_what_has_none() {
    assert_eq!((sample()[8], limited()[8]), (1, 2));
}

/// The same bytes with other kinds of operations, and checksums that are right.
fn with_kind(chunk: &Bytes, row: usize, kind: u8) -> Bytes {
    let mut bytes = chunk.to_vec();
    bytes[HEADER_BYTES + row] = kind;
    let body = crc32c::crc32c(&bytes[HEADER_BYTES..]).to_le_bytes();
    bytes[36..40].copy_from_slice(&body);
    let header = crc32c::crc32c(&bytes[..40]).to_le_bytes();
    bytes[40..44].copy_from_slice(&header);
    bytes.into()
}

#[test]
fn an_operation_that_is_not_known_makes_a_misfit_of_the_chunk() {
    let good = Chunk::open(sample()).unwrap();
    assert_eq!((good.misfit(2), good.misfit(3).is_some()), (None, true));
    for kind in [0, 3, 6, UPSERT | LIMITED, DELETE | HAS_TEXT, 64] {
        let odd = Chunk::open(with_kind(&sample(), 1, kind)).unwrap();
        assert!(odd.misfit(2).is_some(), "{kind}");
        assert_eq!((odd.operations(), odd.iter().count()), (3, 0));
    }
    // A limit for every operation that says that it has one.
    assert!(Chunk::open(with_kind(&limited(), 2, DELETE | LIMITED)).is_err());
    assert!(Chunk::open(with_kind(&sample(), 1, DELETE | LIMITED)).is_err());
}

#[test]
fn an_operation_that_may_be_skipped_is_and_its_parts_of_the_columns_too() {
    let all: Vec<_> = [sample(), limited()].map(|bytes| Chunk::open(bytes).unwrap()).into();
    for (chunk, bytes) in all.iter().zip([sample(), limited()]) {
        let operations: Vec<Operation<'_>> = chunk.iter().collect();
        for row in 0..operations.len() {
            let kind = bytes[HEADER_BYTES + row];
            for odd in [kind | OPTIONAL, kind | OPTIONAL | 64] {
                let newer = Chunk::open(with_kind(&bytes, row, odd)).unwrap();
                assert_eq!(newer.misfit(chunk.dimensions() as usize), None);
                let mut left = operations.clone();
                left.remove(row);
                assert!(newer.iter().eq(left.iter().copied()), "{row} {odd}");
                assert_eq!(newer.vectors(), chunk.vectors());
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    [sample(), limited()].iter().for_each(every_flipped_bit_of);
}

fn every_flipped_bit_of(good: &Bytes) {
    for at in 0..good.len() * 8 {
        // The last four header bytes are reserved padding, outside both checksums.
        if (44..48).contains(&(at / 8)) {
            continue;
        }
        let mut bad = good.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        assert!(Chunk::open(bad.into()).is_err(), "bit {at}");
    }
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = sample().to_vec();
    bytes[8] = 9;
    let error = Chunk::open(bytes.into()).unwrap_err();
    assert_eq!(error.code(), Code::NewerFormat);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Chunk::open(bytes.into());
    }

    #[test]
    fn whatever_goes_in_comes_out(
        rows in prop::collection::vec((".{0,8}", any::<bool>(), ".{0,8}", prop::option::of(".{0,8}"), any::<[f32; 3]>()), 0..20),
        limits in prop::collection::vec(prop::option::of(any::<u64>()), 20)
    ) {
        let mut builder = ChunkBuilder::new(3);
        for ((id, upsert, metadata, text, vector), limit) in rows.iter().zip(&limits) {
            match limit {
                _ if *upsert => builder.upsert(id, vector, metadata, text.as_deref()),
                Some(limit) => builder.delete_until(id, Seq(*limit)),
                None => builder.delete(id),
            }
        }
        let chunk = Chunk::open(builder.finish().unwrap()).unwrap();
        let rows_and_limits = rows.iter().zip(&limits);
        for (found, ((id, upsert, metadata, text, vector), limit)) in chunk.iter().zip(rows_and_limits) {
            match found {
                Operation::Upsert { id: found, vector: stored, metadata: json, text: words } => {
                    prop_assert!(*upsert);
                    prop_assert_eq!((found, json, words), (&**id, &**metadata, text.as_deref()));
                    prop_assert_eq!(stored.to_vec(), vector.to_vec());
                }
                Operation::Delete { id: found, limit: until } => {
                    prop_assert_eq!((false, &**id), (*upsert, found));
                    prop_assert_eq!(until, limit.map(Seq));
                }
            }
        }
        prop_assert_eq!(chunk.operations(), rows.len());
    }
}
