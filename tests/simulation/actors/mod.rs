//! Who acts in the simulation. Each actor is a loop that ends when the run does.

mod collections;
mod freezer;
mod killer;
pub mod reader;
mod vandal;
mod weather;
pub mod writer;

use crate::profile::Mode;
use crate::world::World;
use brainy::base::settings::Role;
use std::sync::Arc;

const WRITERS: u64 = 4;
const READERS: u64 = 2;

/// Starts the first instances and every actor.
pub async fn spawn_all(world: &Arc<World>) {
    if world.profile.mode == Mode::Fair {
        return crate::checks::fair::spawn_all(world).await;
    }
    for role in [Role::Writer, Role::Writer, Role::Reader, Role::Hybrid] {
        world.start(role, weather::draw(world)).await;
    }
    let (tasks, profile) = (&world.network, &world.profile);
    for number in 0..WRITERS {
        tasks.spawn("writing client", writer::act(world.clone(), number));
    }
    for _ in 0..READERS {
        tasks.spawn("reading client", reader::act(world.clone()));
    }
    tasks.spawn("killer", killer::act(world.clone()));
    tasks.spawn("weather", weather::act(world.clone()));
    if profile.mode == Mode::Damage {
        tasks.spawn("vandal", vandal::act(world.clone()));
    }
    if profile.deletes {
        tasks.spawn("owner", collections::act(world.clone()));
    }
    if profile.freezes {
        tasks.spawn("freezer", freezer::freeze(world.clone()));
    }
    if profile.clocks {
        tasks.spawn("clock setter", freezer::set_clocks(world.clone()));
    }
}
