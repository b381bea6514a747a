//! A client that reads everything at every level of consistency.

use crate::world::World;
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::engine::model::Consistency;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_millis(1_500)).await {
        let Some(instance) = world.any(Role::reads) else {
            continue;
        };
        let consistency = match world.rng.below(3) {
            0 => Consistency::Eventual,
            1 => Consistency::Strong,
            _ => Consistency::AtLeast {
                version: world.model().acknowledged,
                wait: Duration::from_secs(20),
            },
        };
        let result = world.read(&instance, consistency).await;
        world.count(|count| {
            count.reads += 1;
            count.reads_failed += u64::from(result.is_err());
        });
        if let Err(error) = result {
            world.event(format_args!("read failed at {}: {}", instance.number, error.code()));
        }
    }
}
