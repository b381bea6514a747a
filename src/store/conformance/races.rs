//! Many at once.

use super::{Bench, Check, ensure, text};
use crate::base::{Env, Error, Result};
use crate::store::{DynStore, Etag, Fetched, Key, Precondition, PutOutcome, get};
use bytes::Bytes;
use futures::future::{join_all, try_join_all};
use std::time::Duration;
use tokio::time::Instant;

/// Of any number of creators exactly one wins, and its content is what stays.
pub(super) async fn create(bench: &Bench) -> Check {
    for round in 0..bench.effort.creations {
        let key = bench.key(&format!("race-create/{round}"));
        let winners = race_to_create(&bench.store, &bench.env, &key, bench.effort.racers).await;
        let winners = text(winners)?;
        ensure(winners.len() == 1, || {
            format!("{} creators of {key} won: {winners:?}", winners.len())
        })?;
        let object = bench.found(&key).await?;
        ensure(winners[0] == object.bytes, || {
            format!("the winner {winners:?} does not own {object:?}")
        })?;
    }
    Ok(())
}

/// The contents of those that won `key`, after everybody was told how it ended.
pub(crate) async fn race_to_create(
    store: &DynStore,
    env: &Env,
    key: &Key,
    racers: usize,
) -> Result<Vec<Bytes>> {
    let tasks = (0..racers).map(|racer| {
        let (store, key) = (store.clone(), key.clone());
        env.tasks.spawn("race to create", async move {
            let body = Bytes::from(format!("racer {racer}"));
            // A busy server may answer nobody clearly: then ask again, and look.
            for _ in 0..20 {
                let absent = Precondition::Absent;
                match store.put_if(&key, body.clone(), absent).await {
                    PutOutcome::Won(_) => return Ok(Some(body)),
                    PutOutcome::Failed(error) => return Err(error),
                    PutOutcome::Lost | PutOutcome::Ambiguous(_) => {}
                }
                match get(&*store, &key).await {
                    Ok(Fetched::Found(object)) => {
                        return Ok((object.bytes == body).then_some(body));
                    }
                    Err(error) if !error.is_transient() => return Err(error),
                    _ => {}
                }
            }
            Err(Error::unavailable("no attempt had a clear outcome"))
        })
    });
    let mut winners = Vec::new();
    for ended in join_all(tasks).await {
        winners.extend(outcome(ended)?);
    }
    Ok(winners)
}

/// Every acknowledged increment of a counter is in its final value.
pub(super) async fn update(bench: &Bench) -> Check {
    let key = bench.key("race-update");
    let (racers, updates) = (bench.effort.racers, bench.effort.updates);
    let race = race_to_update(&bench.store, &bench.env, &key, racers, updates).await;
    let Count { acknowledged, kept } = text(race)?;
    ensure(acknowledged == kept && kept >= (racers * updates) as u64, || {
        format!("{acknowledged} updates were acknowledged and {kept} were kept")
    })
}

/// How a race of updates ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count {
    /// Updates that were acknowledged, or found in the object afterwards.
    pub(crate) acknowledged: u64,
    /// Updates that the object holds in the end.
    pub(crate) kept: u64,
}

/// Lets `racers` add their marks to one object, `updates` times each.
///
/// The object holds every mark, so that an update whose outcome was not told is found.
pub(crate) async fn race_to_update(
    store: &DynStore,
    env: &Env,
    key: &Key,
    racers: usize,
    updates: usize,
) -> Result<Count> {
    store.put(key, Bytes::new()).await?;
    let tasks = (0..racers).map(|racer| {
        let (store, key) = (store.clone(), key.clone());
        let work = async move { add_marks(&store, &key, racer, updates).await };
        env.tasks.spawn("race to update", work)
    });
    let ended = try_join_all(tasks).await;
    let mut acknowledged = 0;
    for marks in ended.map_err(|error| Error::internal("a racer failed").caused_by(error))? {
        acknowledged += marks.unwrap_or_else(|| Err(Error::internal("a racer was stopped")))?;
    }
    let object = get(&**store, key).await?.required(key)?;
    let kept = object.bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
    Ok(Count { acknowledged, kept })
}

/// Lets `racers` replace one content at the same moment, all on the same etag, up to `rounds` times
/// or until `time_max` has passed. Every round takes over the etag of the one before, so that
/// little but racing is done. Returns how many rounds there were, or what is wrong.
pub(crate) async fn volleys(
    store: &DynStore,
    env: &Env,
    key: &Key,
    racers: usize,
    rounds: usize,
    time_max: Duration,
) -> Result<Result<usize, String>> {
    let start = Instant::now();
    let mut etag = None;
    for round in 0..rounds {
        if start.elapsed() > time_max {
            return Ok(Ok(round));
        }
        let current = match etag {
            Some(etag) => etag,
            None => store.put(key, Bytes::from(format!("{round}"))).await?,
        };
        let winners = volley(store, env, key, racers, round, &current).await?;
        if winners.len() > 1 {
            return Ok(Err(format!(
                "{} of {racers} puts with If-Match on the same etag won in round {round}",
                winners.len()
            )));
        }
        // Without a winner (everybody met a conflict, or nobody was told) we start afresh.
        etag = winners.into_iter().next();
    }
    Ok(Ok(rounds))
}

/// One round: the new etags of those that won.
async fn volley(
    store: &DynStore,
    env: &Env,
    key: &Key,
    racers: usize,
    round: usize,
    etag: &Etag,
) -> Result<Vec<Etag>> {
    let tasks = (0..racers).map(|racer| {
        let (store, key) = (store.clone(), key.clone());
        let body = Bytes::from(format!("{round} {racer}"));
        let matches = Precondition::Matches(etag.clone());
        let work = async move { store.put_if(&key, body, matches).await };
        env.tasks.spawn("volley", work)
    });
    let mut winners = Vec::new();
    for ended in join_all(tasks).await {
        match ended {
            Ok(Some(PutOutcome::Won(etag))) => winners.push(etag),
            Ok(Some(PutOutcome::Lost | PutOutcome::Ambiguous(_))) => {}
            Ok(Some(PutOutcome::Failed(error))) => return Err(error),
            _ => return Err(Error::internal("a racer was stopped")),
        }
    }
    Ok(winners)
}

async fn add_marks(store: &DynStore, key: &Key, racer: usize, updates: usize) -> Result<u64> {
    for update in 0..updates {
        let mark = format!("{racer}.{update}\n");
        let mut attempts = 0..1_000;
        loop {
            if attempts.next().is_none() {
                return Err(Error::unavailable(format!("could not update {key}")));
            }
            let object = match get(&**store, key).await {
                Ok(fetched) => fetched.required(key)?,
                Err(error) if error.is_transient() => continue,
                Err(error) => return Err(error),
            };
            let mut lines = object.bytes.split_inclusive(|&byte| byte == b'\n');
            if lines.any(|line| line == mark.as_bytes()) {
                break;
            }
            let mut body = object.bytes.to_vec();
            body.extend_from_slice(mark.as_bytes());
            let matches = Precondition::Matches(object.etag);
            match store.put_if(key, body.into(), matches).await {
                PutOutcome::Won(_) => break,
                PutOutcome::Failed(error) => return Err(error),
                PutOutcome::Lost | PutOutcome::Ambiguous(_) => {}
            }
        }
    }
    Ok(updates as u64)
}

fn outcome<T, E>(ended: Result<Option<Result<T>>, E>) -> Result<T> {
    match ended {
        Ok(Some(result)) => result,
        _ => Err(Error::internal("a racer was stopped")),
    }
}
