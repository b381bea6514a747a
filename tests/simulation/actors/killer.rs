//! Kills a process and starts another with the same role.

use crate::actors::weather;
use crate::world::World;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_secs(12)).await {
        let Some(victim) = world.any(|_| true) else {
            continue;
        };
        world.kill(&victim);
        world.count(|count| count.kills += 1);
        world.pause(Duration::from_secs(2)).await;
        world.start(victim.role, weather::draw(&world)).await;
    }
}
