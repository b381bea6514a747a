//! One round with the shared config: read it, judge who lives, say that we live, and, for the leader,
//! keep house.

use super::config::{LeaderNote, SharedConfig, Status};
use super::liveness::Observer;
use super::member::{BEAT_ATTEMPTS, Member, change};
use super::membership::MemberOptions;
use super::view::Standing;
use crate::base::{Code, Error, Result};
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// So many instances, about, step in at a time where the leader does not fold heartbeats in.
const HELPERS: u64 = 8;
/// Overflow heartbeats that nobody needs, deleted in one round at most.
const LEFTOVERS_MAX: usize = 100;

/// What there is to do in a round.
#[derive(Debug, Clone, Copy)]
struct Work {
    /// Whether our heartbeat is due.
    beat: bool,
    /// Whether overflow heartbeats were collected and are to be folded in.
    fold: bool,
    /// The epoch under which we lead.
    epoch: Option<u64>,
}

impl Member {
    /// Takes a round and publishes what came of it; whether it went through.
    pub(super) async fn round(&mut self) -> bool {
        let result = self.try_round().await;
        if let Err(error) = &result {
            self.heartbeat.failures = self.heartbeat.failures.saturating_add(1);
            self.heartbeat.error = Some(error.message().to_owned());
            if let Some(times) = self.complaint.due() {
                tracing::warn!(%error, times, "heartbeat did not get through");
            }
        } else {
            self.complaint.over();
        }
        self.publish();
        result.is_ok()
    }

    async fn try_round(&mut self) -> Result<()> {
        self.look().await?;
        match self.standing {
            Standing::Superseded => return Ok(()),
            Standing::Unlisted => return self.look_on().await,
            Standing::Joining | Standing::Member | Standing::Left => {}
        }
        let beat = Instant::now() >= self.beat_due;
        if beat {
            self.own.beat += 1;
            self.own.last_heartbeat = self.env().clock.now();
            self.own.metrics = self.options.vitals.sample().bounded();
            if self.own.status == Status::Starting {
                self.own.status = Status::Active;
            }
        }
        let epoch = self.leadership.epoch();
        let helps = self.helps(epoch);
        let fold = self.folds(epoch, helps);
        if fold {
            self.collected = Some(Instant::now());
            // Our own heartbeat must not wait for others'; what was collected before is folded again.
            if let Err(error) = self.overflow.collect().await {
                tracing::warn!(%error, "could not collect heartbeats");
            }
        }
        let work = Work { beat, fold, epoch };
        let direct = self.shared.is_writable() && (self.is_small() || epoch.is_some() || helps);
        let written = match direct {
            true => self.write(work).await,
            false => {
                if fold && self.shared.fault.is_some() {
                    self.keep_folded();
                }
                Err(self.shared.unreadable())
            }
        };
        match written {
            Ok(()) => self.beaten(beat, false),
            Err(error) if error.code() == Code::InstanceSuperseded => self.supersede(),
            // Lost too often, too many to try, or broken by hand: beside it the heartbeat gets through.
            Err(_) if beat => {
                let heartbeat = self.heartbeat();
                self.overflow.put(&self.options.id, &heartbeat).await?;
                self.beaten(true, true);
            }
            Err(error) if direct => return Err(error),
            Err(_) => {}
        }
        if let Some(epoch) = epoch
            && let Err(error) = self.clean(epoch).await
        {
            tracing::warn!(%error, "could not delete heartbeats that nobody needs");
        }
        self.stand_in().await
    }

    /// Reads the shared config and judges everybody by it.
    pub(super) async fn look(&mut self) -> Result<()> {
        if self.shared.look().await? {
            self.env().metrics.cluster_state_replications.inc();
        }
        self.read_at = Some(self.env().clock.now());
        let config = self.shared.config().clone();
        let listed = self.standing != Standing::Unlisted;
        if let Some(own) = config.instances.get(&*self.options.id).filter(|_| listed) {
            if own.session == self.own.session {
                self.replaces = None;
                self.standing = Standing::Member;
                if own.beat > self.visible.1 || own.beat == self.own.beat {
                    self.visible = (Instant::now(), own.beat);
                }
            } else if self.is_foreign(own.session.as_deref()) {
                self.supersede();
            }
        }
        // While the object cannot be read, only overflow heartbeats tell who lives.
        if self.shared.fault.is_none() {
            self.observer.look(&config, self.planned);
        }
        Ok(())
    }

    /// Whether `session`, in our entry, is that of a process that took over.
    fn is_foreign(&self, session: Option<&str>) -> bool {
        session.is_some() && session != Some(&*self.session) && session != self.replaces.as_deref()
    }

    fn supersede(&mut self) {
        tracing::error!(id = %self.options.id, "another process took over this instance's id");
        self.standing = Standing::Superseded;
    }

    fn beaten(&mut self, beat: bool, overflowed: bool) {
        if self
            .shared
            .config()
            .instances
            .get(&*self.options.id)
            .is_some_and(|own| own.session == self.own.session && own.beat == self.own.beat)
        {
            (self.standing, self.replaces) = (Standing::Member, None);
            self.visible = (Instant::now(), self.own.beat);
        }
        if !beat {
            return;
        }
        self.env().metrics.heartbeats.inc();
        let last_at = Some(self.env().clock.now());
        self.heartbeat = super::view::HeartbeatView { last_at, overflowed, ..Default::default() };
        // A tenth of jitter, downward only: nobody may come late.
        let jitter = self.env().rng.jitter(self.interval() / 10);
        self.beat_due = Instant::now() + self.interval() - jitter;
    }

    /// Whether we step in for a leader that does not fold heartbeats in or repair the object: when that
    /// has shown for half a beat longer than it may, and only a few at a time.
    fn helps(&self, epoch: Option<u64>) -> bool {
        let count = self.shared.config().instances.len() as u64;
        let late = self.visible.0.elapsed() > self.interval() * 2;
        epoch.is_none() && !self.is_small() && late && self.env().rng.below(count) < HELPERS
    }

    /// Whether to collect overflow heartbeats in this round.
    fn folds(&self, epoch: Option<u64>, helps: bool) -> bool {
        let broken = self.shared.fault.is_some();
        let every = match epoch {
            Some(_) if !self.is_small() || broken || !self.overflow.is_empty() => self.pace(),
            Some(_) => self.interval(),
            // A standby has to know when the writer dies.
            None if broken && (self.is_small() || self.own.standby) => self.pace(),
            None if helps => Duration::ZERO,
            None => return false,
        };
        // A round comes a little early at times; it must not wait for the one after.
        self.collected.is_none_or(|at| at.elapsed() >= every * 9 / 10)
    }

    /// Takes up what was collected while the object cannot be written.
    pub(super) fn keep_folded(&mut self) {
        let mut next = (**self.shared.config()).clone();
        self.overflow.fold(&mut next);
        let next = Arc::new(next);
        self.observer.look(&next, self.planned);
        self.shared.keep_in_mind(next);
    }

    async fn write(&mut self, work: Work) -> Result<()> {
        let gone = match work.epoch {
            Some(_) => self.gone().await,
            None => Vec::new(),
        };
        let MemberOptions { env, id, settings, .. } = &*self.options;
        let (own, replaces) = (&self.own, &self.replaces);
        let (observer, overflow) = (&self.observer, &self.overflow);
        change(&mut self.shared, env, BEAT_ATTEMPTS, |config, dirty| {
            let mut changed = config.settings.fill(settings);
            let entry = config.instances.get(&**id);
            let session = entry.and_then(|entry| entry.session.as_ref());
            let ours = session == own.session.as_ref();
            if session.is_some() && !ours && session != replaces.as_ref() && !dirty {
                return Err(superseded(id));
            }
            let behind = entry.is_none_or(|entry| !ours || entry.beat < own.beat);
            if behind && (work.beat || dirty || !ours) {
                config.enter(id, own);
                changed = true;
            }
            if work.fold {
                changed |= overflow.fold(config);
            }
            if let Some(epoch) = work.epoch {
                changed |= note_leader(config, id, epoch, env.clock.now());
                changed |= mark_dead(config, id, observer);
                for id in &gone {
                    let dead = |entry| observer.is_dead(id, entry);
                    if config.instances.get(id).is_some_and(dead) {
                        config.take_out(id, env.clock.now());
                        changed = true;
                    }
                }
            }
            Ok(changed)
        })
        .await
    }

    /// Who has been dead for so long that the entry goes. Their overflow heartbeats go first: left
    /// behind, they would be folded in again.
    async fn gone(&mut self) -> Vec<String> {
        let timing = &self.options.timing;
        let bound = timing.instance_timeout + timing.instance_remove;
        let instances = self.shared.config().instances.iter();
        let gone = instances.filter(|(id, entry)| {
            self.observer.silent(id) >= bound
                && self.observer.is_dead(id, entry)
                && ***id != *self.options.id
        });
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).take(LEFTOVERS_MAX).collect();
        let mut cleared = Vec::new();
        for id in gone {
            if self.overflow.delete(&id).await.is_ok() {
                cleared.push(id);
            }
        }
        cleared
    }

    /// Deletes overflow heartbeats that nobody needs.
    async fn clean(&mut self, epoch: u64) -> Result<()> {
        let age = self.options.timing.instance_timeout * 2;
        let broken = self.shared.fault.is_some();
        let leftovers = self.overflow.leftovers(self.shared.config(), age, broken);
        for id in leftovers.into_iter().take(LEFTOVERS_MAX) {
            if self.leadership.epoch() != Some(epoch) {
                break;
            }
            self.overflow.delete(&id).await?;
        }
        Ok(())
    }

    /// How often the leader, a standby and the members of a small cluster look.
    fn pace(&self) -> Duration {
        self.interval() / 3
    }

    /// When to take the next round, after one that went through or did not.
    pub(super) fn plan(&mut self, done: bool) -> Instant {
        let now = Instant::now();
        let pace = self.pace();
        if !done {
            let rng = self.env().rng.clone();
            return now + self.backoff.failed(&*rng);
        }
        self.backoff.succeeded();
        if self.standing == Standing::Unlisted {
            self.planned = self.interval();
            return now + self.interval();
        }
        let often = self.is_small() || self.leadership.epoch().is_some() || self.own.standby;
        if !often {
            self.planned = self.interval();
            return self.beat_due.max(now);
        }
        self.planned = pace;
        // A death is noticed when it is due, not at the next look.
        let death = self.observer.next_death().map(|death| death.max(pace / 20));
        let look = death.map_or(pace, |death| death.min(pace));
        // To collect the heartbeats of thousands takes seconds, which must not come on top of the pace.
        let collects = self.leadership.epoch().is_some() && !self.is_small();
        let next = self.collected.filter(|_| collects).map(|began| began + pace);
        let next = next.map_or(now + look, |next| next.max(now + pace / 10).min(now + look));
        self.beat_due.min(next).max(now)
    }
}

fn superseded(id: &str) -> Error {
    Error::new(
        Code::InstanceSuperseded,
        format!("another process took over the id {id}: stop this one or give it another id"),
    )
    .with("id", id)
}

/// Names the leader; one that follows another which has not stepped down has stepped in.
fn note_leader(
    config: &mut SharedConfig,
    id: &str,
    epoch: u64,
    now: crate::base::Timestamp,
) -> bool {
    let extra = match config.leader.take() {
        Some(note) if note.id == id && note.epoch >= epoch => {
            config.leader = Some(note);
            return false;
        }
        Some(note) => {
            config.failover.count += 1;
            config.failover.last_at = Some(now);
            note.extra
        }
        None => Map::new(),
    };
    config.leader = Some(LeaderNote { id: id.to_owned(), epoch, extra });
    true
}

fn mark_dead(config: &mut SharedConfig, own: &str, observer: &Observer) -> bool {
    let mut changed = false;
    for (id, entry) in &mut config.instances {
        if id != own && entry.status != Status::Dead && observer.is_dead(id, entry) {
            tracing::warn!(%id, "instance is dead");
            entry.status = Status::Dead;
            changed = true;
        }
    }
    changed
}
