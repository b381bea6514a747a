//! The tail against a naive map per version.

use super::tidy::Tidying;
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

type Contents = BTreeMap<String, (f32, String)>;

/// What a view shows over `below`, what segments hold; fails where a record would be shown twice.
fn contents(view: &View, below: &Contents) -> Contents {
    let visible = |id: &String| !view.shadows(record_hash(id), id);
    let mut found: Contents = below
        .iter()
        .filter(|(id, _)| visible(id))
        .map(|(id, value)| (id.clone(), value.clone()))
        .collect();
    for block in view.blocks() {
        for row in (0..block.rows()).filter(|row| view.shows(block, *row)) {
            let value = (block.vector(row)[0], block.metadata(row).to_owned());
            assert!(found.insert(block.id(row).to_owned(), value).is_none(), "shown twice");
        }
    }
    found
}

fn holds(below: &Contents) -> Arc<Below> {
    let ids: std::collections::BTreeSet<String> = below.keys().cloned().collect();
    Arc::new(move |_, id| ids.contains(id))
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
    Arc::new(|_, _| false)
}

proptest! {
    #[test]
    fn every_view_keeps_showing_its_own_version(
        entries in prop::collection::vec(
            prop::collection::vec((0u8..12, prop::option::of(any::<u8>())), 0..8),
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
                for (id, value) in entries.iter().flatten() {
                    match value {
                        Some(value) => {
                            let value = (f32::from(*value), format!("{{\"v\":{value}}}"));
                            model.insert(format!("id{id}"), value);
                        }
                        None => drop(model.remove(&format!("id{id}"))),
                    }
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
                    let under = below.get(&id).filter(|_| !view.shadows(hash, &id));
                    let shown = found.or(under.map(|(value, _)| *value));
                    assert_eq!(shown, model.get(&id).map(|(value, _)| *value));
                }
            }
        });
    }
}

#[tokio::test]
async fn overwriting_the_same_ids_does_not_grow_the_tail() {
    let mut tail = Tail::new(SHAPE, Seq(0), Totals::default());
    for seq in 1..=500 {
        let steps: Vec<Step> = (0..10).map(|id| (id, Some(seq as u8))).collect();
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
