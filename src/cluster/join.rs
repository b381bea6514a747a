//! Joining: no two processes under one id, and none with other settings than the cluster.

use super::config::{Instance, Status};
use super::member::{COMMAND_ATTEMPTS, Member, change};
use super::membership::{MemberOptions, Peer, Presence};
use super::standby::has_writer;
use super::view::Standing;
use crate::base::{Code, Error, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How often the entry may change under our hands before we give up.
const TRIES: u32 = 4;
/// How long a peer may take to answer.
const PROBE_MAX: Duration = Duration::from_secs(5);

impl Member {
    /// Enters the shared config, or, in a large cluster, leaves a first heartbeat for the leader.
    pub(super) async fn register(&mut self) -> Result<()> {
        for _ in 0..TRIES {
            self.look_patiently().await?;
            self.shared.config().settings.check(&self.options.settings)?;
            let entry = self.shared.config().instances.get(&*self.options.id).cloned();
            if let Some(entry) = &entry {
                self.ensure_gone(entry).await?;
            }
            self.replaces = entry.and_then(|entry| entry.session);
            match self.enter().await {
                Ok(false) => {}
                Ok(true) => {
                    self.observer.look(self.shared.config(), self.planned);
                    let (config, id) = (self.shared.config(), &*self.options.id);
                    self.saw_writer = has_writer(config, id, &self.observer);
                    self.entered();
                    return Ok(());
                }
                Err(error) => {
                    self.observer.look(self.shared.config(), self.planned);
                    return self.go_unlisted(error);
                }
            }
        }
        Err(self.in_use("it keeps joining at the same time"))
    }

    /// Takes note of our first heartbeat.
    pub(super) fn entered(&mut self) {
        self.env().metrics.heartbeats.inc();
        self.beat_due = Instant::now() + self.interval();
        self.visible = (Instant::now(), self.own.beat);
        self.publish();
    }

    /// Reads the shared config; what cannot be parsed is no reason not to join.
    async fn look_patiently(&mut self) -> Result<()> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.shared.look().await {
                Ok(_) => break,
                Err(error) if tries == 0 || !error.is_transient() => return Err(error),
                Err(_) => tokio::time::sleep(self.env().rng.jitter(Duration::from_secs(1))).await,
            }
        }
        self.read_at = Some(self.env().clock.now());
        Ok(())
    }

    /// Writes our first heartbeat; `false` where the entry has changed in between.
    pub(super) async fn enter(&mut self) -> Result<bool> {
        self.own.status = Status::Active;
        self.own.beat += 1;
        self.own.last_heartbeat = self.env().clock.now();
        if !self.shared.is_writable() || !self.is_small() {
            let heartbeat = self.heartbeat();
            self.overflow.put(&self.options.id, &heartbeat).await?;
            return Ok(true);
        }
        let MemberOptions { env, id, settings, .. } = &*self.options;
        let (own, replaces) = (&self.own, &self.replaces);
        let mut moved = false;
        let edit = |config: &mut super::SharedConfig, _| {
            config.settings.check(settings)?;
            let session = config.instances.get(&**id).and_then(|entry| entry.session.as_ref());
            let ours = session == own.session.as_ref();
            moved = session != replaces.as_ref() && !ours;
            if moved || ours {
                return Ok(false);
            }
            config.settings.fill(settings);
            config.enter(id, own);
            Ok(true)
        };
        match change(&mut self.shared, env, COMMAND_ATTEMPTS, edit).await {
            Ok(()) if moved => Ok(false),
            Ok(()) => {
                (self.standing, self.replaces) = (Standing::Member, None);
                Ok(true)
            }
            // Others join as well, and the leader will take our heartbeat in.
            Err(error) if error.code() == Code::Overloaded => {
                let heartbeat = self.heartbeat();
                self.overflow.put(&self.options.id, &heartbeat).await?;
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses to join while the process behind `entry` lives: it may answer, and if nobody can tell,
    /// its heartbeat decides.
    async fn ensure_gone(&mut self, entry: &Instance) -> Result<()> {
        let Some(session) = entry.session.clone() else { return Ok(()) };
        if !matches!(entry.status, Status::Dead | Status::Left) {
            let (id, endpoint) = (self.options.id.to_string(), entry.endpoint.clone());
            let peer = Peer { id, session, endpoint };
            let probe = tokio::time::timeout(PROBE_MAX, self.options.probe.probe(&peer));
            match probe.await.unwrap_or(Presence::Unknown) {
                Presence::Alive => return Err(self.in_use("it answers")),
                Presence::Gone => return Ok(()),
                Presence::Unknown => return self.ensure_silent(entry).await,
            }
        }
        Ok(())
    }

    /// Watches the heartbeat of `entry` for as long as a living process could let us wait.
    async fn ensure_silent(&mut self, entry: &Instance) -> Result<()> {
        let interval = entry.interval_ms.map_or(self.interval(), Duration::from_millis);
        // In a large cluster it takes the leader's round, or a helper's, until a heartbeat shows.
        let margin = if self.is_small() { interval / 3 } else { interval };
        let until = Instant::now() + interval + margin;
        while Instant::now() < until {
            let left = until.saturating_duration_since(Instant::now());
            tokio::time::sleep(left.min(interval / 6)).await;
            self.look_patiently().await?;
            let Some(now) = self.shared.config().instances.get(&*self.options.id) else {
                return Ok(());
            };
            if now.status == Status::Dead {
                return Ok(());
            }
            let beats = (&now.session, now.beat, now.last_heartbeat);
            if beats != (&entry.session, entry.beat, entry.last_heartbeat) {
                return Err(self.in_use("it writes heartbeats"));
            }
        }
        Ok(())
    }

    fn in_use(&self, why: &str) -> Error {
        let id = &self.options.id;
        Error::new(
            Code::InstanceIdInUse,
            format!(
                "another process runs under the id {id}: {why}; stop it, or give this one another \
                 instance_id"
            ),
        )
        .with("id", id.to_string())
    }
}
