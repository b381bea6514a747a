//! Who acts in the simulation. Each actor is a loop that ends when the run does.

mod deleter;
mod killer;
mod reader;
mod weather;
mod writer;

use crate::world::World;
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use std::sync::Arc;

const WRITERS: u64 = 4;
const READERS: u64 = 2;

/// Starts the first instances and every actor.
pub async fn spawn_all(world: &Arc<World>) {
    for role in [Role::Writer, Role::Writer, Role::Reader, Role::Hybrid] {
        world.start(role, weather::draw(world)).await;
    }
    let tasks = &world.network;
    for number in 0..WRITERS {
        tasks.spawn("writing client", writer::act(world.clone(), number));
    }
    for _ in 0..READERS {
        tasks.spawn("reading client", reader::act(world.clone()));
    }
    tasks.spawn("killer", killer::act(world.clone()));
    tasks.spawn("weather", weather::act(world.clone()));
    if world.rng.below(4) == 0 {
        tasks.spawn("deleter", deleter::act(world.clone()));
    }
}
