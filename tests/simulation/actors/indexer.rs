//! Stands in for indexing: declares a prefix of the log indexed, so that it is collected. What was
//! in it stays known to the model, as it would be to segments.

use crate::world::World;
use brainy::base::ids::Seq;
use brainy::base::rng::Rng;
use brainy::log::entry::Header;
use brainy::manifest::{self, Manifest};
use brainy::store::cas::Change;
use brainy::store::{Fetched, get, paths};
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    let env = world.env(0);
    while world.pause(Duration::from_secs(8)).await {
        let tail = world.model().tail();
        let indexed = Seq(tail.0.saturating_sub(world.rng.below(4)));
        let key = paths::wal_entry(&world.collection, indexed);
        let Ok(Fetched::Found(entry)) = get(&*world.recorder, &key).await else {
            continue;
        };
        let header = Header::decode(&entry.bytes).expect("the recorder has read it");
        let result = manifest::update(&world.recorder, &env, &world.collection, |current| {
            match current.filter(|current| current.is_live() && current.wal_indexed < indexed) {
                Some(current) if current.incarnation == header.incarnation => {
                    Ok(Change::Write(Manifest {
                        wal_indexed: indexed,
                        indexed: header.totals,
                        ..current.clone()
                    }))
                }
                _ => Ok(Change::Keep),
            }
        });
        let done = result.await.is_ok();
        world.event(format_args!("indexed up to {indexed}: {done}"));
    }
}
