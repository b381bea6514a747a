//! Deletes the whole collection now and then; the next write makes it anew.

use crate::world::World;
use brainy::base::settings::Role;
use std::sync::Arc;
use std::time::Duration;

pub async fn act(world: Arc<World>) {
    while world.pause(Duration::from_secs(40)).await {
        let Some(instance) = world.any(Role::writes) else {
            continue;
        };
        let (brainy, name) = (instance.brainy.clone(), world.collection.clone());
        let call = async move { brainy.delete_collection(&name).await };
        let result = world.call(&instance, call).await;
        world.count(|count| count.deletions += u64::from(result.is_ok()));
        let code = result.map_or_else(|error| error.code().name(), |()| "ok");
        world.event(format_args!("collection deleted by {}: {code}", instance.number));
    }
}
