//! Changes how good each process's connection is: clear, bad, stalled, cut off.

use crate::world::World;
use brainy::base::rng::Rng;
use brainy::store::layers::FaultSettings;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_secs(5)).await {
        let Some(instance) = world.any(|_| true) else {
            continue;
        };
        let cut_off = world.rng.below(8) == 0;
        instance.faults.partition(cut_off);
        instance.faults.set(draw(&world));
        world.event(format_args!("weather changes for {}, cut off: {cut_off}", instance.number));
    }
}

/// The weather of a process.
pub fn draw(world: &World) -> FaultSettings {
    let weather = match world.rng.below(9) {
        0..=2 => FaultSettings::every(0.0),
        3 | 4 => FaultSettings::every(0.01),
        5 => FaultSettings::every(0.05),
        6 => FaultSettings { delay_max: Duration::from_secs(60), ..FaultSettings::every(0.1) },
        // Requests that take longer than the grace period, and succeed: a process that stands
        // still and wakes.
        _ => FaultSettings { latency_max: Duration::from_secs(35), ..FaultSettings::every(0.02) },
    };
    match world.profile.resends {
        true => weather,
        false => FaultSettings { resent: 0.0, ..weather },
    }
}
