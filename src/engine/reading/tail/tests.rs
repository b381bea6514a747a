//! The tail against a naive map per version.

use super::tidy::Tidying;
use super::*;
use crate::base::Timestamp;
use crate::base::ids::{Totals, WriteId};
use crate::log::chunk::{Chunk, ChunkBuilder};
use crate::log::entry::Draft;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy)]
enum Act {
    Upsert(u8),
    Delete,
    /// What was written so many entries before this one, or earlier.
    DeleteUntil(u8),
}
use Act::*;

type Step = (u8, Act);

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![any::<u8>().prop_map(Upsert), Just(Delete), (0u8..20).prop_map(DeleteUntil)]
}

/// The limit of a delete in the entry at `seq`; those of 0 name a position that is not there yet.
fn limit(seq: u64, back: u8) -> Seq {
    if back == 0 { Seq(seq + 1) } else { Seq(seq.saturating_sub(u64::from(back))) }
}

fn batch(seq: u64, steps: &[Step]) -> Batch {
    let mut builder = ChunkBuilder::new(2);
    for (id, act) in steps {
        let id = format!("id{id}");
        match act {
            Upsert(value) => {
                let metadata = format!("{{\"v\":{value}}}");
                builder.upsert(&id, &[f32::from(*value), 1.0], &metadata, None);
            }
            Delete => builder.delete(&id),
            DeleteUntil(back) => builder.delete_until(&id, limit(seq, *back)),
        }
    }
    let draft = Draft::data(1, WriteId([0; 16]), Timestamp(0), &[]);
    Batch {
        header: draft.header(Seq(seq), Totals::default()),
        chunks: vec![Chunk::open(builder.finish().unwrap()).unwrap()],
    }
}

/// For each id the position that wrote it, a value, and metadata.
type Contents = BTreeMap<String, (Seq, f32, String)>;

/// What an entry does to a plain map.
fn change(model: &mut Contents, seq: u64, steps: &[Step]) {
    for (id, act) in steps {
        let id = format!("id{id}");
        match act {
            Upsert(value) => {
                let metadata = format!("{{\"v\":{value}}}");
                model.insert(id, (Seq(seq), f32::from(*value), metadata));
            }
            Delete => drop(model.remove(&id)),
            DeleteUntil(back) => {
                let limit = limit(seq, *back).min(Seq(seq - 1));
                if model.get(&id).is_some_and(|(written, ..)| *written <= limit) {
                    model.remove(&id);
                }
            }
        }
    }
}

/// What a view shows over `below`, what segments hold; fails where a record would be shown twice.
fn contents(view: &View, below: &Contents) -> Contents {
    let mut found: Contents = below
        .iter()
        .filter(|(id, (written, ..))| *written > view.dead_until(record_hash(id), id))
        .map(|(id, value)| (id.clone(), value.clone()))
        .collect();
    for block in view.blocks() {
        for row in (0..block.rows()).filter(|row| view.shows(block, *row)) {
            let value = (block.written(row), block.vector(row)[0], block.metadata(row).to_owned());
            assert!(found.insert(block.id(row).to_owned(), value).is_none(), "shown twice");
        }
    }
    found
}

fn holds(below: &Contents) -> Arc<Below> {
    let ids: BTreeMap<String, Seq> =
        below.iter().map(|(id, (written, ..))| (id.clone(), *written)).collect();
    Arc::new(move |_, id| ids.get(id).copied())
}

/// Applies entries, and tidies as long as there is something to be tidied.
async fn apply(tail: &mut Tail, batches: Vec<Batch>, below: Arc<Below>) {
    tail.apply(batches, below, &Compute::Inline).await.unwrap();
    while let Some(untidy) = tail.untidy() {
        assert!(tail.replace(untidy.run()));
    }
}

const SHAPE: Shape = Shape { dimensions: 2, metric: Some(Metric::Euclidean) };

fn nothing() -> Arc<Below> {
    Arc::new(|_, _| None)
}

proptest! {
    #[test]
    fn every_view_keeps_showing_its_own_version(
        entries in prop::collection::vec(
            prop::collection::vec((0u8..12, acts()), 0..8),
            1..40,
        ),
        group in 1usize..5,
        late in 1usize..4,
        // After which groups the log up to which earlier one is indexed.
        rebases in prop::collection::vec(prop::option::weighted(0.3, any::<prop::sample::Index>()), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
            let mut model = Contents::new();
            let mut below = Contents::new();
            let mut pinned: Vec<(View, Contents, Contents)> = Vec::new();
            // Begun after one group, and taken up after a later one.
            let mut tidied: Option<Tidied> = None;
            for (number, entries) in entries.chunks(group).enumerate() {
                let first = number * group + 1;
                let batches = entries.iter().enumerate();
                let batches = batches.map(|(at, steps)| batch((first + at) as u64, steps)).collect();
                tail.apply(batches, holds(&below), &Compute::Inline).await.unwrap();
                if number % late == 0 {
                    tidied.take().map(|tidied| tail.replace(tidied));
                    tidied = tail.untidy().map(Tidying::run);
                }
                for (at, steps) in entries.iter().enumerate() {
                    change(&mut model, (first + at) as u64, steps);
                }
                pinned.push((tail.view(), model.clone(), below.clone()));
                if let Some(index) = &rebases[number] {
                    let (view, indexed, _) = &pinned[index.index(pinned.len())];
                    if view.version >= tail.view().base {
                        below = indexed.clone();
                        let base = view.version;
                        tail.rebase(base, holds(&below), &Compute::Inline).await.unwrap();
                        pinned.push((tail.view(), model.clone(), below.clone()));
                    }
                }
            }
            for (view, model, below) in &pinned {
                assert_eq!(contents(view, below), *model);
                assert_eq!(view.live + below.len() as u64 - view.shadowed, model.len() as u64);
                for id in (0..12).map(|id| format!("id{id}")) {
                    let hash = record_hash(&id);
                    let found = view.find(hash, &id).map(|(block, row)| block.vector(row)[0]);
                    let dead_until = view.dead_until(hash, &id);
                    let under = below.get(&id).filter(|(written, ..)| *written > dead_until);
                    let shown = found.or(under.map(|(_, value, _)| *value));
                    assert_eq!(shown, model.get(&id).map(|(_, value, _)| *value));
                }
            }
        });
    }
}

#[tokio::test]
async fn overwriting_the_same_ids_does_not_grow_the_tail() {
    let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
    for seq in 1..=500 {
        let steps: Vec<Step> = (0..10).map(|id| (id, Upsert(seq as u8))).collect();
        apply(&mut tail, vec![batch(seq, &steps)], nothing()).await;
    }
    let view = tail.view();
    assert_eq!(view.live, 10);
    assert!(view.rows() <= 40, "{} rows", view.rows());
    tail.rebase(Seq(499), nothing(), &Compute::Inline).await.unwrap();
    assert_eq!(tail.view().live, 10);
    tail.rebase(Seq(500), nothing(), &Compute::Inline).await.unwrap();
    assert_eq!((tail.view().live, tail.view().blocks().len()), (0, 0));
}

#[tokio::test]
async fn many_small_entries_make_few_blocks() {
    let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
    for seq in 1..=1_000 {
        let mut builder = ChunkBuilder::new(2);
        builder.upsert(&seq.to_string(), &[1.0, 1.0], "", None);
        let mut batch = batch(seq, &[]);
        batch.chunks = vec![Chunk::open(builder.finish().unwrap()).unwrap()];
        apply(&mut tail, vec![batch], nothing()).await;
    }
    assert_eq!(tail.view().live, 1_000);
    assert!(tail.view().blocks().len() <= 12, "{}", tail.view().blocks().len());
}

#[tokio::test]
async fn a_gap_in_the_log_is_an_error() {
    let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
    let applied = tail.apply(vec![batch(2, &[])], nothing(), &Compute::Inline).await;
    assert!(applied.unwrap_err().message().contains("does not follow"));
}

#[tokio::test]
async fn a_chunk_that_does_not_fit_is_skipped_and_the_rest_applied() {
    let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
    let mut wide = ChunkBuilder::new(3);
    wide.upsert("wide", &[1.0, 2.0, 3.0], "", None);
    let mut mixed = batch(1, &[(1, Upsert(7))]);
    mixed.chunks.insert(0, Chunk::open(wide.finish().unwrap()).unwrap());
    let applied = tail.apply(vec![mixed, batch(2, &[])], nothing(), &Compute::Inline).await;
    let misfits = applied.unwrap();
    assert_eq!(misfits.iter().map(|misfit| misfit.seq).collect::<Vec<_>>(), [Seq(1)]);
    assert!(misfits[0].reason.contains("3 dimensions in a collection of 2"), "{misfits:?}");
    assert_eq!((tail.view().version, tail.view().live), (Seq(2), 1));
}
