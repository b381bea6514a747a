//! Writers with equal load on one collection get equal shares, and none waits for long.

use crate::actors::writer;
use crate::guarantees;
use crate::world::{Instance, World};
use brainy::base::rng::Rng;
use brainy::base::settings::Role;
use brainy::store::layers::FaultSettings;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A store in the next building.
const LATENCY: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(20));
/// Nobody waits longer for a write.
const WAIT_MAX: Duration = Duration::from_secs(6);

/// Two or four writers, each with one client that writes as fast as it can.
pub async fn spawn_all(world: &Arc<World>) {
    let count = 2 + 2 * world.rng.below(2);
    let weather = FaultSettings {
        latency_min: LATENCY.0,
        latency_max: LATENCY.1,
        ..FaultSettings::default()
    };
    let mut clients = Vec::new();
    for client in 0..count {
        let instance = world.start(Role::Writer, weather.clone()).await;
        let writes = write(world.clone(), instance, client);
        clients.push(world.network.spawn("writing client", writes));
    }
    let of = world.clone();
    world.network.spawn("judge", async move {
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.await.ok().flatten());
        }
        judge(&of, &all);
    });
}

/// How many writes a client did, and the longest that it waited for one.
async fn write(world: Arc<World>, instance: Arc<Instance>, client: u64) -> (u64, Duration) {
    let name = world.profile.collections[0].clone();
    let (mut next, mut done, mut longest) = (client * 1_000_000, 0, Duration::ZERO);
    let until = Instant::now() + world.profile.active - 2 * WAIT_MAX;
    while Instant::now() < until {
        let (records, began) = (writer::some_records(&world, &name, &mut next), Instant::now());
        done += u64::from(writer::write(&world, &instance, &name, records, false).await.is_ok());
        longest = longest.max(began.elapsed());
    }
    (done, longest)
}

fn judge(world: &World, all: &[(u64, Duration)]) {
    let sum: u64 = all.iter().map(|(done, _)| done).sum();
    let (mean, least) = (sum / all.len() as u64, all.iter().map(|(done, _)| *done).min());
    let longest = all.iter().map(|(_, longest)| *longest).max().unwrap_or_default();
    world.event(format_args!("writes and longest waits: {all:?}"));
    if guarantees::WRITERS_ARE_FAIR && (least < Some(mean / 2) || longest > WAIT_MAX) {
        world.model().violated(format!("writers got unequal shares, or waited long: {all:?}"));
    }
}
