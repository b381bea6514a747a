//! Which data objects does an entry name? Read from its header and its part table alone: an entry may hold
//! megabytes inline, and whoever collects it needs none of them.

use crate::base::ids::{CollectionName, Seq, Ulid};
use crate::base::{Error, Result};
use crate::log::entry::{HEADER_BYTES, Header, PART_BYTES};
use crate::store::{ByteRange, DynStore, Fetched, GetOptions, Object, paths};

/// Parts of which the rows come with the header, in one read.
const PARTS_AT_ONCE: usize = 16;

/// The data objects that an entry names; `None` where there is no such entry.
pub async fn names_at(
    store: &DynStore,
    collection: &CollectionName,
    seq: Seq,
) -> Result<Option<Vec<Ulid>>> {
    let first = HEADER_BYTES + PARTS_AT_ONCE * PART_BYTES;
    let Some(head) = head(store, collection, seq, first).await? else { return Ok(None) };
    let key = paths::wal_entry(collection, seq);
    let header = Header::decode(&head.bytes).map_err(|error| error.context(&key))?;
    if header.seq != seq {
        return Err(Error::corrupt(format!("{key} says that it is entry {}", header.seq)));
    }
    let head = match header.table_end() {
        end if end <= first => head,
        end => match self::head(store, collection, seq, end).await? {
            Some(longer) => longer,
            None => return Ok(None),
        },
    };
    // What is there as a whole is checked as a whole.
    let whole = head.bytes.len() as u64 == head.size;
    let checked = if whole { header.check_body(&head.bytes[HEADER_BYTES..]) } else { Ok(()) };
    let names = checked.and_then(|()| header.objects(&head.bytes));
    names.map(Some).map_err(|error| error.context(&key))
}

async fn head(
    store: &DynStore,
    collection: &CollectionName,
    seq: Seq,
    bytes: usize,
) -> Result<Option<Object>> {
    let range = Some(ByteRange::Bounded(0..bytes as u64));
    let options = GetOptions { range, if_none_match: None };
    match store.get(&paths::wal_entry(collection, seq), options).await? {
        Fetched::Found(object) => Ok(Some(object)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Timestamp;
    use crate::base::ids::{Totals, WriteId};
    use crate::log::entry::{Draft, Part};
    use crate::store::memory::MemoryStore;
    use bytes::Bytes;
    use std::sync::Arc;

    fn draft(objects: u128, inline: &'static [u8]) -> Draft {
        let inline = Part::Inline { operations: 1, chunk: Bytes::from_static(inline) };
        let object = |id| Part::Object { operations: 1, id: Ulid(id), length: 9, crc: 9 };
        let parts: Vec<Part> = [inline].into_iter().chain((0..objects).map(object)).collect();
        Draft::data(1, WriteId([3; 16]), Timestamp(5), &parts)
    }

    #[tokio::test]
    async fn names_are_read_without_the_bodies() {
        let store: DynStore = Arc::new(MemoryStore::default());
        let name = CollectionName::new("things").unwrap();
        assert_eq!(names_at(&store, &name, Seq(1)).await.unwrap(), None);
        for objects in [0, 1, 15, 16, 40] {
            let draft = draft(objects, &[7; 5_000]);
            let entry = draft.encode(&draft.header(Seq(1), Totals::default()));
            store.put(&paths::wal_entry(&name, Seq(1)), entry).await.unwrap();
            let names = names_at(&store, &name, Seq(1)).await.unwrap().unwrap();
            assert_eq!(names, (0..objects).map(Ulid).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn an_entry_that_is_read_as_a_whole_is_checked_as_a_whole() {
        let store: DynStore = Arc::new(MemoryStore::default());
        let name = CollectionName::new("things").unwrap();
        let draft = draft(3, b"short");
        let good = draft.encode(&draft.header(Seq(1), Totals::default()));
        for at in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            store.put(&paths::wal_entry(&name, Seq(1)), bad.into()).await.unwrap();
            assert!(names_at(&store, &name, Seq(1)).await.is_err(), "bit {at}");
        }
        // Under another position's key.
        store.put(&paths::wal_entry(&name, Seq(2)), good).await.unwrap();
        assert!(names_at(&store, &name, Seq(2)).await.is_err());
    }
}
