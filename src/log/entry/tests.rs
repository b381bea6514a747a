//! What an entry says comes back, and nothing else is taken for one.

use super::*;
use proptest::prelude::*;

fn draft() -> Draft {
    let inline = Part::Inline { operations: 2, chunk: Bytes::from_static(b"chunk") };
    let object = Part::Object { operations: 3, id: Ulid(7), length: 100, crc: 9 };
    Draft::data(1, WriteId([3; 16]), Timestamp(5), &[inline, object])
}

#[test]
fn an_entry_round_trips_with_running_totals() {
    let draft = draft();
    let header = draft.header(Seq(4), Totals { records: 10, bytes: 1_000 });
    let bytes = draft.encode(&header);
    let entry = Entry::decode(&bytes).unwrap();
    assert_eq!(entry.header, header);
    assert_eq!(entry.header.totals.records, 15);
    assert_eq!(entry.header.totals.bytes, 1_000 + bytes.len() as u64 + 100);
    assert_eq!(entry.parts.len(), 2);
    assert_eq!(Header::decode(&bytes[..HEADER_BYTES]).unwrap(), header);
}

/// The same bytes as an entry of another kind, with checksums that are right.
fn with_kind(entry: &Bytes, kind: u16) -> Bytes {
    let mut bytes = entry.to_vec();
    bytes[10..12].copy_from_slice(&kind.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]).to_le_bytes();
    bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc);
    bytes.into()
}

#[test]
fn an_entry_of_another_kind_is_skipped_where_it_may_be() {
    let draft = draft();
    let good = draft.encode(&draft.header(Seq(1), Totals::default()));
    let skipped = Entry::decode(&with_kind(&good, OPTIONAL | 7)).unwrap();
    assert_eq!((skipped.parts.len(), skipped.header.seq), (0, Seq(1)));
    assert_eq!(skipped.header.totals.records, 5, "whoever wrote it counted it");
    let objects = skipped.header.objects(&good).unwrap();
    assert_eq!(objects, [Ulid(7)], "what it names is not collected");
    let error = Entry::decode(&with_kind(&good, 7)).unwrap_err();
    assert_eq!(error.code(), Code::NewerFormat);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let draft = draft();
    let good = draft.encode(&draft.header(Seq(1), Totals::default()));
    for at in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        assert!(Entry::decode(&bad.into()).is_err(), "bit {at}");
    }
}

#[test]
fn a_head_tells_whose_writes_an_entry_holds() {
    let inline = |text| Part::Inline { operations: 1, chunk: Bytes::from_static(text) };
    let object = Part::Object { operations: 3, id: Ulid(7), length: 100, crc: 9 };
    let (ours, theirs) =
        (Submission { writer: 1 << 63, number: 5 }, Submission { writer: 2, number: 9 });
    let parts = [inline(b"a"), object, inline(b"b")];
    let author = Author { writer: ours.writer, next: 2, serves: true };
    let groups = [(ours, &parts[..]), (theirs, &parts[..1])];
    let draft = Draft::shared(1, author.write_id(77), Timestamp(5), &groups);
    let bytes = draft.encode(&draft.header(Seq(4), Totals::default()));
    // Whoever knows nothing of heads reads the same parts.
    let read = Entry::decode(&bytes).unwrap().parts;
    assert_eq!(read, [&parts[..], &parts[..1]].concat());
    let head = Head::decode(&bytes).unwrap();
    assert_eq!((head.author, &head.submissions[..]), (Some(author), &[ours, theirs][..]));
    assert_eq!(Submission::waiting_in(ours.write_id()), ours);
    let length = Head::length(&head.header);
    assert_eq!(Head::decode(&bytes[..length]).unwrap(), head);
    for at in HEADER_BYTES * 8..length * 8 {
        let mut bad = bytes[..length].to_vec();
        bad[at / 8] ^= 1 << (at % 8);
        assert!(Head::decode(&bad).is_err(), "bit {at}");
    }
}

#[test]
fn an_entry_of_an_older_build_has_no_author() {
    let draft = draft();
    let head = Head::decode(&draft.encode(&draft.header(Seq(1), Totals::default()))).unwrap();
    assert_eq!((head.author, head.submissions), (None, Vec::new()));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Head::decode(&bytes);
        let _ = Entry::decode(&bytes.into());
    }
}
