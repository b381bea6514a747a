//! Deletes that carry the version at which they were decided on.

use crate::support::*;
use brainy::base::ids::Seq;
use brainy::base::rng::{Rng, SeededRng};
use brainy::base::settings::{Role, Settings};
use brainy::engine::Brainy;
use brainy::engine::model::*;
use brainy::filter::Filter;
use brainy::log::ChunkBuilder;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

fn before(year: u32) -> DeleteTarget {
    DeleteTarget::Filter(Filter::parse(&json!({"year": {"$lt": year}})).unwrap())
}

async fn ids(brainy: &Brainy) -> Vec<String> {
    let page = brainy.list(&things(), 10_000, None, false).await.unwrap();
    page.records.into_iter().map(|record| record.id).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delete_by_filter_leaves_later_writes_alone() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let two = instance(&store, Role::Hybrid, 2).await;
    let (x, y) = (|year| record("x", &[1.0, 0.0], year), record("y", &[1.0, 0.0], 2010));
    let first = one.upsert(&things(), vec![x(2010), y]).await.unwrap().version;
    let later = two.clone();
    // It still matches: what counts is that it was written again.
    store.before_put(".wal", async move {
        later.upsert(&things(), vec![record("x", &[1.0, 0.0], 2011)]).await.unwrap();
        later.index(&things()).await.unwrap();
    });
    let deleted = one.delete(&things(), before(2020)).await.unwrap();
    assert!(store.is_done());
    assert_eq!((deleted.deleted, deleted.as_of), (2, Some(first)));
    assert!(deleted.version > first.next());
    for brainy in [&one, &two, &instance(&store, Role::Reader, 3).await] {
        assert_eq!(found(brainy, &[1.0, 0.0]).await.unwrap(), ["x"]);
        assert_eq!(
            brainy.get(&things(), "x").await.unwrap().record.metadata.as_ref(),
            "{\"year\":2011}"
        );
        assert_eq!(brainy.describe(&things()).await.unwrap().vector_count, Some(1));
    }
    two.index(&things()).await.unwrap();
    for brainy in [&one, &two, &instance(&store, Role::Reader, 3).await] {
        assert_eq!(found(brainy, &[1.0, 0.0]).await.unwrap(), ["x"]);
        assert_eq!(brainy.describe(&things()).await.unwrap().vector_count, Some(1));
    }
    let nothing = one.delete(&things(), before(1_000)).await.unwrap();
    assert_eq!((nothing.deleted, nothing.as_of), (0, Some(nothing.version)));
}

#[tokio::test(start_paused = true)]
async fn a_delete_of_more_ids_than_one_write_takes_was_decided_on_once() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let two = instance(&store, Role::Writer, 2).await;
    for start in [0, 10_000, 20_000] {
        let count = if start == 20_000 { 1 } else { 10_000 };
        let records = (start..start + count).map(|n| record(&format!("{n:05}"), &[1.0], 2010));
        one.upsert(&things(), records.collect()).await.unwrap();
    }
    let again = |ids: [&str; 3]| ids.map(|id| record(id, &[1.0], 2011)).to_vec();
    let spared = again(["00000", "10000", "20000"]);
    store.before_put(".wal", async {});
    store.before_put(".wal", async move {
        two.upsert(&things(), spared).await.unwrap();
    });
    let deleted = one.delete(&things(), before(2020)).await.unwrap();
    assert!(store.is_done());
    assert_eq!((deleted.deleted, deleted.as_of), (20_001, Some(Seq(3))));
    // The third entry of the delete is behind the write.
    assert_eq!(deleted.version, Seq(7));
    assert_eq!(ids(&one).await, ["00000", "10000", "20000"]);
    one.index(&things()).await.unwrap();
    assert_eq!(ids(&one).await, ["00000", "10000", "20000"]);
}

#[tokio::test(start_paused = true)]
async fn a_delete_begins_again_where_the_collection_is_made_again_in_the_middle() {
    let store = Arc::new(Hooked::default());
    let one = instance(&store, Role::Hybrid, 1).await;
    let two = instance(&store, Role::Hybrid, 2).await;
    for start in [0, 10_000] {
        let records = (start..start + 6_000).map(|n| record(&format!("{n:05}"), &[1.0], 2010));
        one.upsert(&things(), records.collect()).await.unwrap();
    }
    store.before_put(".wal", async {});
    store.before_put(".wal", async move {
        two.delete_collection(&things()).await.unwrap();
        two.create_collection(spec(2, Metric::Cosine)).await.unwrap();
        let both = vec![record("00000", &[1.0, 0.0], 2010), record("b", &[1.0, 0.0], 2030)];
        two.upsert(&things(), both).await.unwrap();
    });
    let deleted = one.delete(&things(), before(2020)).await.unwrap();
    assert!(store.is_done());
    assert_eq!(deleted.deleted, 1);
    assert_eq!(ids(&one).await, ["b"]);
}

/// For each id the position that wrote it, and the value.
type Model = BTreeMap<String, (Seq, f32)>;

struct World {
    store: Arc<Hooked>,
    rng: SeededRng,
    /// Those who index: one has segments in memory, one reads what it needs of them.
    makers: [Brainy; 2],
    reader: Brainy,
    model: Model,
    version: Seq,
}

impl World {
    async fn new(seed: u64) -> World {
        let store = Arc::new(Hooked::default());
        let settings = || Settings { segment_max_rows: 16, ..quiet() };
        let makers = [
            instance_with(&store, Role::Hybrid, settings(), seed).await,
            instance_with(&store, Role::Writer, settings(), seed + 1).await,
        ];
        let reader = instance(&store, Role::Reader, seed + 2).await;
        makers[0].create_collection(spec(1, Metric::Euclidean)).await.unwrap();
        let rng = SeededRng::new(seed);
        World { store, rng, makers, reader, model: Model::new(), version: Seq(0) }
    }

    fn id(&self) -> String {
        format!("id-{:02}", self.rng.below(40))
    }

    /// One entry of a few operations, each with its effect on the model.
    async fn write(&mut self) {
        let mut builder = ChunkBuilder::new(1);
        let seq = self.version.next();
        for _ in 0..=self.rng.below(6) {
            let id = self.id();
            match self.rng.below(5) {
                0 | 1 => {
                    let value = self.rng.below(1_000) as f32;
                    builder.upsert(&id, &[value], "", None);
                    self.model.insert(id, (seq, value));
                }
                2 => {
                    builder.delete(&id);
                    self.model.remove(&id);
                }
                _ => {
                    let limit = Seq(self.rng.below(seq.0 + 1));
                    builder.delete_until(&id, limit);
                    let dies = |(written, _): &(Seq, f32)| *written <= limit && *written < seq;
                    if self.model.get(&id).is_some_and(dies) {
                        self.model.remove(&id);
                    }
                }
            }
        }
        let operations = builder.operations() as u32;
        self.version = append(&self.store, builder.finish().unwrap(), operations).await;
        assert_eq!(self.version, seq);
    }

    async fn check(&self, brainy: &Brainy) {
        // A strong look first: a listing shows what has been applied.
        found(brainy, &[0.0]).await.unwrap();
        let page = brainy.list(&things(), 10_000, None, true).await.unwrap();
        assert_eq!(page.version, self.version);
        let shown: Model = page
            .records
            .into_iter()
            .map(|record| (record.id, (record.version, record.vector.unwrap()[0])))
            .collect();
        assert_eq!(shown, self.model);
        let info = brainy.describe(&things()).await.unwrap();
        assert_eq!(info.vector_count, Some(self.model.len() as u64));
        let wanted: Vec<String> = (0..40).map(|n| format!("id-{n:02}")).collect();
        let fetched = brainy.fetch(&things(), &wanted, false).await.unwrap();
        assert_eq!(fetched.records.len(), self.model.len());
        let mut request = strong(&[500.0]);
        request.k = 100;
        let hits = brainy.search(&things(), request).await.unwrap().hits;
        let mut ids: Vec<String> = hits.into_iter().map(|hit| hit.id).collect();
        ids.sort();
        assert!(ids.iter().eq(self.model.keys()), "{ids:?}");
    }

    /// A delete by id says how many there were, also where it looks without segments in memory.
    async fn delete(&mut self, maker: usize) {
        let ids: Vec<String> = (0..5).map(|_| self.id()).collect();
        let mut there = ids.clone();
        there.retain(|id| self.model.contains_key(id));
        there.sort();
        there.dedup();
        let target = DeleteTarget::Ids(ids);
        let deleted = self.makers[maker].delete(&things(), target).await.unwrap();
        assert_eq!((deleted.deleted, deleted.as_of), (there.len(), None));
        for id in &there {
            self.model.remove(id);
        }
        self.version = deleted.version;
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_is_indexed_and_compacted_when_rows_die_up_to_their_limits() {
    for seed in 0..12 {
        let mut world = World::new(seed * 10 + 1).await;
        for _ in 0..60 {
            let maker = world.rng.below(2) as usize;
            match world.rng.below(10) {
                0 | 1 => world.makers[maker].index(&things()).await.unwrap(),
                2 => drop(world.makers[maker].compact(&things()).await.unwrap()),
                3 => world.delete(maker).await,
                4 => world.check(&world.reader).await,
                5 => world.check(&world.makers[0]).await,
                _ => world.write().await,
            }
        }
        world.check(&world.reader).await;
        world.makers[1].index(&things()).await.unwrap();
        let fresh = instance(&world.store, Role::Reader, 999).await;
        world.check(&fresh).await;
        let live = manifest(&world.store).await.unwrap().live();
        assert_eq!(live, world.model.len() as u64, "seed {seed}");
    }
}
