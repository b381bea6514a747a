//! The tail against a naive map per version.

use super::*;
use crate::base::Timestamp;
use crate::base::ids::{Totals, WriteId};
use crate::log::chunk::{Chunk, ChunkBuilder};
use crate::log::entry::Draft;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Some(value) upserts, None deletes.
type Step = (u8, Option<u8>);

fn batch(seq: u64, steps: &[Step]) -> Batch {
    let mut builder = ChunkBuilder::new(2);
    for (id, value) in steps {
        match value {
            Some(value) => {
                let metadata = format!("{{\"v\":{value}}}");
                builder.upsert(&format!("id{id}"), &[f32::from(*value), 1.0], &metadata, None);
            }
            None => builder.delete(&format!("id{id}")),
        }
    }
    let draft = Draft::data(1, WriteId([0; 16]), Timestamp(0), &[]);
    Batch {
        header: draft.header(Seq(seq), Totals::default()),
        chunks: vec![Chunk::open(builder.finish().unwrap()).unwrap()],
    }
}

fn contents(snapshot: &Snapshot) -> BTreeMap<String, (f32, String)> {
    let mut found = BTreeMap::new();
    for block in snapshot.blocks() {
        for row in (0..block.rows()).filter(|row| snapshot.shows(block, *row)) {
            let value = (block.vector(row)[0], block.metadata(row).to_owned());
            assert!(found.insert(block.id(row).to_owned(), value).is_none(), "shown twice");
        }
    }
    found
}

proptest! {
    #[test]
    fn every_snapshot_keeps_showing_its_own_version(
        entries in prop::collection::vec(
            prop::collection::vec((0u8..12, prop::option::of(any::<u8>())), 0..8),
            1..40,
        ),
        group in 1usize..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tail = Tail::new(2, Seq(0), Totals::default());
            let mut model: BTreeMap<String, (f32, String)> = BTreeMap::new();
            let mut pinned = Vec::new();
            for (number, entries) in entries.chunks(group).enumerate() {
                let first = number * group + 1;
                let batches = entries.iter().enumerate();
                let batches = batches.map(|(at, steps)| batch((first + at) as u64, steps)).collect();
                tail.apply(batches, &Compute::Inline).await.unwrap();
                for (id, value) in entries.iter().flatten() {
                    match value {
                        Some(value) => {
                            let value = (f32::from(*value), format!("{{\"v\":{value}}}"));
                            model.insert(format!("id{id}"), value);
                        }
                        None => drop(model.remove(&format!("id{id}"))),
                    }
                }
                pinned.push((tail.snapshot(), model.clone()));
            }
            for (snapshot, model) in &pinned {
                assert_eq!(contents(snapshot), *model);
                assert_eq!(snapshot.live, model.len() as u64);
                for id in (0..12).map(|id| format!("id{id}")) {
                    let found = snapshot.find(&id).map(|(block, row)| block.vector(row)[0]);
                    assert_eq!(found, model.get(&id).map(|(value, _)| *value));
                }
            }
        });
    }
}

#[tokio::test]
async fn overwriting_the_same_ids_does_not_grow_the_tail() {
    let mut tail = Tail::new(2, Seq(0), Totals::default());
    for seq in 1..=500 {
        let steps: Vec<Step> = (0..10).map(|id| (id, Some(seq as u8))).collect();
        tail.apply(vec![batch(seq, &steps)], &Compute::Inline).await.unwrap();
    }
    let snapshot = tail.snapshot();
    assert_eq!(snapshot.live, 10);
    assert!(snapshot.rows() <= 40, "{} rows", snapshot.rows());
}

#[tokio::test]
async fn many_small_entries_make_few_blocks() {
    let mut tail = Tail::new(2, Seq(0), Totals::default());
    for seq in 1..=1_000 {
        let mut builder = ChunkBuilder::new(2);
        builder.upsert(&seq.to_string(), &[1.0, 1.0], "", None);
        let mut batch = batch(seq, &[]);
        batch.chunks = vec![Chunk::open(builder.finish().unwrap()).unwrap()];
        tail.apply(vec![batch], &Compute::Inline).await.unwrap();
    }
    assert_eq!(tail.snapshot().live, 1_000);
    assert!(tail.snapshot().blocks().len() <= 12, "{}", tail.snapshot().blocks().len());
}

#[tokio::test]
async fn a_gap_in_the_log_is_an_error() {
    let mut tail = Tail::new(2, Seq(0), Totals::default());
    let error = tail.apply(vec![batch(2, &[])], &Compute::Inline).await.unwrap_err();
    assert!(error.message().contains("does not follow"));
}
