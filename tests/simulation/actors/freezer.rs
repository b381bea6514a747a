//! Holds processes where they stand, longer and shorter than the grace period, and sets their clocks.

use crate::instance::GRACE;
use crate::world::World;
use brainy::base::rng::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub async fn freeze(world: Arc<World>) {
    while world.pause(Duration::from_secs(10)).await {
        let Some(victim) = world.any(|_| true) else { continue };
        let longest = if world.rng.below(2) == 0 { GRACE / 4 } else { GRACE * 4 };
        let pause = world.rng.jitter(longest);
        world.event(format_args!("instance {} stands still for {pause:?}", victim.number));
        world.count(|count| count.freezes += 1);
        // A machine that is paused, not only the process.
        let clocks_stop = world.profile.clocks && world.rng.below(2) == 0;
        let began = Instant::now();
        victim.tasks.gate().close();
        // It wakes although the run ends.
        let until = tokio::time::sleep(pause);
        tokio::select! {
            biased;
            () = until => {}
            () = world.stop.cancelled() => {}
        }
        if clocks_stop {
            victim.stood_still(began.elapsed());
        }
        victim.tasks.gate().open();
        world.event(format_args!("instance {} wakes, stopped: {clocks_stop}", victim.number));
    }
}

pub async fn set_clocks(world: Arc<World>) {
    while world.pause(Duration::from_secs(10)).await {
        let Some(victim) = world.any(|_| true) else { continue };
        let longest = [1_000, 30_000, 3_600_000][world.rng.below(3) as usize];
        let ahead = world.rng.below(2 * longest) as i64 - longest as i64;
        world.event(format_args!("the clock of {} is {ahead} ms ahead", victim.number));
        world.count(|count| count.jumps += 1);
        victim.clock.set_ahead_ms(ahead);
    }
}
