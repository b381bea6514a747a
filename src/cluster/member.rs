//! The one task that keeps an instance's place in the cluster: it alone reads and writes the shared
//! config, round after round, and carries out commands in between.

use super::config::{Instance, SharedConfig, Status};
use super::election::{Candidacy, Election, Leadership, Seat, holder};
use super::lease::Lease;
use super::liveness::Observer;
use super::membership::{MemberOptions, Reply};
use super::overflow::{FORMAT_VERSION, Heartbeat, Overflow};
use super::shared::{Shared, Written};
use super::view::{
    ClusterView, FailoverView, HeartbeatView, LeaderState, LeaderView, Orders, Standing,
};
use crate::base::backoff::{Backoff, Complaint};
use crate::base::settings::Role;
use crate::base::{Code, Env, Error, Result, Timestamp};
use crate::store::paths;
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Up to so many instances write their heartbeats into the shared config themselves.
pub(super) const DIRECT_MAX: usize = 32;
/// So many instances stand for election.
const CANDIDATES: usize = 7;
/// How often a heartbeat is tried again after a lost compare-and-swap, and a command.
pub(super) const BEAT_ATTEMPTS: u32 = 4;
pub(super) const COMMAND_ATTEMPTS: u32 = 16;
/// How long a clean leave may take.
pub(super) const LEAVE_MAX: Duration = Duration::from_secs(10);
/// The first and the longest pause between two attempts; full jitter.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What others ask of the task.
#[derive(Debug)]
pub(super) enum Command {
    SetRole { id: String, role: Option<Role>, force: bool, reply: Reply },
    Remove { id: String, reply: Reply },
    UpdateSelf { role: Role, status: Status, reply: Reply },
    Report { status: Status, reply: Reply },
    Refresh { reply: Reply },
    Leave { reply: Reply },
}

pub(super) struct Member {
    pub options: Arc<MemberOptions>,
    pub session: Arc<str>,
    commands: mpsc::Receiver<Command>,
    pub view: watch::Sender<Arc<ClusterView>>,
    pub orders: watch::Sender<Orders>,
    pub leadership: Leadership,
    candidacy: watch::Sender<Candidacy>,
    seat: watch::Receiver<Option<Seat>>,
    seat_sender: Option<watch::Sender<Option<Seat>>>,
    stop_election: CancellationToken,
    pub shared: Shared,
    pub observer: Observer,
    pub overflow: Overflow,
    /// Our entry as the next heartbeat will say it.
    pub own: Instance,
    /// The life of our id that we took over, until the shared config shows ours.
    pub replaces: Option<String>,
    pub standing: Standing,
    pub heartbeat: HeartbeatView,
    pub read_at: Option<Timestamp>,
    /// When the next heartbeat is due.
    pub beat_due: Instant,
    /// When the shared config last showed a new heartbeat of ours, and which.
    pub visible: (Instant, u64),
    /// How long after the last look the next one was meant to be.
    pub planned: Duration,
    pub collected: Option<Instant>,
    /// After rounds that did not go through.
    pub backoff: Backoff,
    pub complaint: Complaint,
    /// Since when no writer was seen although this standby waits for one.
    pub writerless: Option<Instant>,
    pub saw_writer: bool,
    pub writer_lease: Option<Lease>,
    pub elections: u64,
}

impl Member {
    pub(super) fn new(options: MemberOptions, commands: mpsc::Receiver<Command>) -> Member {
        let MemberOptions { store, env, timing, .. } = &options;
        let session: Arc<str> = env.ulid().to_string().into();
        let own = Instance {
            role: options.role,
            status: Status::Starting,
            last_heartbeat: env.clock.now(),
            endpoint: options.endpoint.clone(),
            metrics: options.vitals.sample().bounded(),
            session: Some(session.to_string()),
            beat: 0,
            started: env.clock.now(),
            build: options.build.clone(),
            interval_ms: u64::try_from(timing.heartbeat_interval.as_millis()).ok(),
            configured_role: Some(options.role),
            wanted_role: None,
            standby: options.standby,
            extra: Map::new(),
        };
        // One request may take half a beat, so that two in a row still fit.
        let patience = (timing.heartbeat_interval / 2).max(Duration::from_secs(1));
        let (key, parsed) = (options.config_key.clone(), options.parsed.clone());
        let shared = Shared::new(store.clone(), env.clone(), key, parsed, patience);
        let (seat_sender, seat) = watch::channel(None);
        let mut member = Member {
            session,
            commands,
            view: watch::Sender::new(Arc::new(unseen(&options))),
            orders: watch::Sender::new(Orders { role: None, standby: options.standby }),
            leadership: Leadership::new(env.clone(), timing.leader_lease),
            candidacy: watch::Sender::new(Candidacy::default()),
            seat,
            seat_sender: Some(seat_sender),
            stop_election: CancellationToken::new(),
            shared,
            observer: Observer::new(env.clone(), timing.instance_timeout),
            overflow: Overflow::new(store.clone(), env.clone(), patience),
            own,
            replaces: None,
            standing: Standing::Joining,
            heartbeat: HeartbeatView::default(),
            read_at: None,
            beat_due: Instant::now(),
            visible: (Instant::now(), 0),
            planned: timing.heartbeat_interval,
            collected: None,
            // Never longer than it takes two beats to be missed.
            backoff: Backoff::new(timing.heartbeat_interval / 6, timing.heartbeat_interval / 2),
            complaint: Complaint::default(),
            writerless: None,
            saw_writer: false,
            writer_lease: None,
            elections: 0,
            options: Arc::new(options),
        };
        member.publish();
        member
    }

    pub(super) fn env(&self) -> &Env {
        &self.options.env
    }

    pub(super) fn interval(&self) -> Duration {
        self.options.timing.heartbeat_interval
    }

    /// The task that stands for election.
    pub(super) fn election(&mut self) -> Result<Election> {
        let MemberOptions { store, env, id, timing, .. } = &*self.options;
        let seat = self.seat_sender.take();
        let seat = seat.ok_or_else(|| Error::internal("an instance stands for election once"))?;
        let (key, ttl) = (paths::cluster_lease("leader"), timing.leader_lease);
        let holder = holder(id, &self.session);
        Ok(Election {
            env: env.clone(),
            lease: Lease::new(store.clone(), env.clone(), key, holder, ttl),
            ttl,
            candidacy: self.candidacy.subscribe(),
            leadership: self.leadership.clone(),
            seat,
            stop: self.stop_election.clone(),
            polled: None,
            precise: false,
            backoff: Backoff::new(ttl / 20, ttl / 3),
        })
    }

    /// Keeps the place until the instance stops, leaves or is superseded.
    pub(super) async fn run(mut self) {
        let stopping = self.env().tasks.stopping().clone();
        let mut wake = self.plan(true);
        while self.standing != Standing::Superseded {
            tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    let _ = tokio::time::timeout(LEAVE_MAX, self.leave()).await;
                    break;
                }
                Some(command) = self.commands.recv() => match command {
                    Command::Leave { reply } => {
                        let left = tokio::time::timeout(LEAVE_MAX, self.leave()).await;
                        let _ = reply.send(left.unwrap_or_else(|_| Err(slow_leave())));
                        break;
                    }
                    // Whoever asked hears that this instance has left where it stops meanwhile.
                    command => {
                        tokio::select! {
                            biased;
                            () = stopping.cancelled() => {}
                            next = self.carry_out(command) => wake = next,
                        }
                    }
                },
                // Who leads has duties at once.
                Ok(()) = self.seat.changed() => {
                    let new = self.leadership.epoch().is_some()
                        && self.leadership.epoch() != self.noted_epoch();
                    if new { wake = Instant::now() } else { self.publish() }
                }
                // A round waits for the store, and to leave must not wait for that.
                () = tokio::time::sleep_until(wake) => {
                    let done = tokio::select! {
                        biased;
                        () = stopping.cancelled() => continue,
                        done = self.round() => done,
                    };
                    wake = self.plan(done);
                }
            }
        }
        self.stop_election.cancel();
    }

    /// The epoch under which the shared config names us as the leader.
    fn noted_epoch(&self) -> Option<u64> {
        let note = self.shared.config().leader.as_ref()?;
        (*note.id == *self.options.id).then_some(note.epoch)
    }

    /// Carries a command out; when to wake up next.
    async fn carry_out(&mut self, command: Command) -> Instant {
        let (reply, result) = match command {
            Command::SetRole { id, role, force, reply } => {
                (reply, self.set_role(&id, role, force).await)
            }
            Command::Remove { id, reply } => (reply, self.remove(&id).await),
            Command::UpdateSelf { role, status, reply } => {
                (self.own.role, self.own.status) = (role, status);
                self.beat_soon();
                (reply, self.round_now().await)
            }
            Command::Report { reply, .. } if self.own.status == Status::Draining => (reply, Ok(())),
            Command::Report { status, reply } => {
                self.own.status = status;
                self.beat_soon();
                (reply, self.round_now().await)
            }
            Command::Refresh { reply } => (reply, self.round_now().await),
            Command::Leave { reply } => (reply, Ok(())),
        };
        self.publish();
        let _ = reply.send(result);
        self.plan(true)
    }

    /// The next round writes a heartbeat, where we write any.
    fn beat_soon(&mut self) {
        if self.standing != Standing::Unlisted {
            self.beat_due = Instant::now();
        }
    }

    async fn round_now(&mut self) -> Result<()> {
        if self.round().await {
            return Ok(());
        }
        let error = self.heartbeat.error.clone().unwrap_or_default();
        Err(Error::unavailable(format!("the heartbeat did not get through: {error}")))
    }

    /// Asks `id` for a role, or, without one, takes back what was asked.
    async fn set_role(&mut self, id: &str, role: Option<Role>, force: bool) -> Result<()> {
        self.shared.look().await?;
        let MemberOptions { env, .. } = &*self.options;
        let observer = &self.observer;
        change(&mut self.shared, env, COMMAND_ATTEMPTS, |config, _| {
            let Some(entry) = config.instances.get(id) else {
                // What was asked of one that is away can be taken back, too.
                let known = role.is_none() && config.absent_roles.remove(id).is_some();
                return if known { Ok(true) } else { Err(not_found(id)) };
            };
            let writes = |id: &String, entry: &Instance| {
                entry.is_active_writer() && !observer.is_dead(id, entry)
            };
            let stops =
                entry.role.writes() && !role.or(entry.configured_role).is_none_or(Role::writes);
            let mut others = config.instances.iter().filter(|(other, _)| *other != id);
            // One that is about to become a reader counts no more.
            let stays = |entry: &Instance| entry.wanted_role.is_none_or(Role::writes);
            let none_left = !others.any(|(other, entry)| writes(other, entry) && stays(entry));
            if stops && none_left && !force {
                return Err(last_writer(id));
            }
            let entry = config.instances.get_mut(id).ok_or_else(|| not_found(id))?;
            Ok(std::mem::replace(&mut entry.wanted_role, role) != role)
        })
        .await
    }

    async fn remove(&mut self, id: &str) -> Result<()> {
        self.look().await?;
        if !self.shared.config().instances.contains_key(id) {
            return Err(not_found(id));
        }
        let MemberOptions { env, id: own, .. } = &*self.options;
        let alive = || {
            Error::new(
                Code::InstanceAlive,
                format!("instance {id} is alive: stop it and it leaves by itself"),
            )
            .with("id", id)
        };
        let observer = &self.observer;
        // Its own heartbeat goes first: left behind, it would be folded in again.
        let is_dead =
            |entry: &Instance| entry.status == Status::Dead || observer.is_dead(id, entry);
        if **own == *id || !self.shared.config().instances.get(id).is_some_and(is_dead) {
            return Err(alive());
        }
        self.overflow.delete(id).await?;
        change(&mut self.shared, env, COMMAND_ATTEMPTS, |config, _| {
            match config.instances.get(id) {
                None => Ok(false),
                Some(entry) if !is_dead(entry) => Err(alive()),
                Some(_) => {
                    config.take_out(id, env.clock.now());
                    Ok(true)
                }
            }
        })
        .await
    }

    /// Steps down and takes our entry out, or asks the leader to do so.
    async fn leave(&mut self) -> Result<()> {
        self.stop_election.cancel();
        self.leadership.set(None);
        self.own.status = Status::Left;
        self.own.beat += 1;
        let left = match self.standing {
            Standing::Unlisted => Ok(()),
            _ => self.take_own_out().await,
        };
        if left.is_err() {
            let heartbeat = self.heartbeat();
            self.overflow.put(&self.options.id, &heartbeat).await?;
        }
        self.standing = Standing::Left;
        self.publish();
        Ok(())
    }

    async fn take_own_out(&mut self) -> Result<()> {
        let MemberOptions { env, id, .. } = &*self.options;
        self.overflow.delete(id).await?;
        self.shared.look().await?;
        let (session, replaces) = (self.own.session.as_ref(), self.replaces.as_ref());
        change(&mut self.shared, env, COMMAND_ATTEMPTS, |config, _| {
            let Some(entry) = config.instances.get(&**id) else { return Ok(false) };
            // Another life of our id has its own right to the entry.
            if entry.session.as_ref() != session && entry.session.as_ref() != replaces {
                return Ok(false);
            }
            config.take_out(id, env.clock.now());
            if config.leader.as_ref().is_some_and(|leader| *leader.id == **id) {
                config.leader = None;
            }
            Ok(true)
        })
        .await
    }

    /// What our object says while heartbeats do not go into the shared config.
    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            format_version: FORMAT_VERSION,
            replaces: self.replaces.clone(),
            instance: self.own.clone(),
            extra: Map::new(),
        }
    }

    /// Whether there are so few instances that each writes its heartbeats itself.
    pub(super) fn is_small(&self) -> bool {
        self.shared.config().instances.len() <= DIRECT_MAX
    }

    /// Shows what is known now.
    pub(super) fn publish(&mut self) {
        let silent = self.observer.dead();
        let config = self.shared.config().clone();
        let own = config.instances.get(&*self.options.id);
        let own = own.filter(|_| self.standing != Standing::Unlisted);
        let (wanted, standby) = (own.map(|own| own.wanted_role), self.own.standby);
        self.orders.send_if_modified(|orders| {
            // Where our entry is missing nobody has taken the order back.
            let next = Orders { role: wanted.unwrap_or(orders.role), standby };
            std::mem::replace(orders, next) != next
        });
        self.stand(&config, &silent);
        let mut view = ClusterView {
            session: self.session.clone(),
            standing: self.standing,
            read_at: self.read_at,
            silent,
            fault: self.shared.fault.clone(),
            heartbeat: self.heartbeat.clone(),
            config,
            ..unseen(&self.options)
        };
        view.leader = self.leader(&view);
        if view.leader.epoch > self.elections {
            self.env().metrics.cluster_leader_elections.inc_by(view.leader.epoch - self.elections);
            self.elections = view.leader.epoch;
        }
        view.elections = self.elections;
        let failover = &view.config.failover;
        let vacant = view.leader.state == LeaderState::Vacant && view.elections > 0;
        let in_progress = vacant || (self.writerless.is_some() && self.saw_writer);
        let (last_at, count) = (failover.last_at, failover.count);
        view.failover = FailoverView { in_progress, last_at, count };
        self.view.send_replace(Arc::new(view));
    }

    /// Who leads: the lease says so to those that look at it, the shared config to the others.
    fn leader(&self, view: &ClusterView) -> LeaderView {
        if let Some(epoch) = self.leadership.epoch() {
            let (id, state) = (Some(self.options.id.to_string()), LeaderState::Acting);
            return LeaderView { id, epoch, state };
        }
        let noted = view.config.leader.as_ref();
        if let Some(Seat { id, epoch, vacant }) = self.seat.borrow().clone() {
            let own = id.as_deref() == Some(&*self.options.id);
            let vacant = vacant || own;
            let state = if vacant { LeaderState::Vacant } else { LeaderState::Following };
            let epoch = epoch.max(noted.map_or(0, |noted| noted.epoch));
            return LeaderView { id: id.filter(|_| !vacant), epoch, state };
        }
        let alive = noted.filter(|noted| view.node(&noted.id).is_some_and(|node| node.alive));
        let state = if alive.is_some() { LeaderState::Following } else { LeaderState::Vacant };
        let epoch = noted.map_or(self.elections, |noted| noted.epoch);
        LeaderView { id: alive.map(|noted| noted.id.clone()), epoch, state }
    }

    /// Stands for election if we are one of the living that have been here longest.
    fn stand(&self, config: &SharedConfig, silent: &std::collections::BTreeSet<String>) {
        let own = self.session.as_ref();
        let older = config.instances.iter().filter(|(id, entry)| {
            let lives = entry.status.serves() && !silent.contains(*id);
            lives && entry.session.as_deref().is_some_and(|session| session < own)
        });
        let stands = self.standing == Standing::Member && older.count() < CANDIDATES;
        let epoch = config.leader.as_ref().map_or(0, |leader| leader.epoch);
        let candidacy = Candidacy { stands, epoch };
        self.candidacy.send_if_modified(|now| std::mem::replace(now, candidacy) != candidacy);
    }
}

/// Changes the shared config: `edit` sees what is in force and whether that is not what stands in the
/// store, and says whether there is anything to write. It is called anew after every lost attempt.
pub(super) async fn change(
    shared: &mut Shared,
    env: &Env,
    attempts: u32,
    mut edit: impl FnMut(&mut SharedConfig, bool) -> Result<bool>,
) -> Result<()> {
    for attempt in 1..=attempts {
        if !shared.is_writable() {
            return Err(shared.unreadable());
        }
        let mut next = (**shared.config()).clone();
        let dirty = shared.dirty;
        if !edit(&mut next, dirty)? && !dirty {
            return Ok(());
        }
        if shared.replace(next).await? == Written::Won {
            return Ok(());
        }
        let longest = PAUSE_FIRST.saturating_mul(1 << attempt.min(8)).min(PAUSE_MAX);
        tokio::time::sleep(env.rng.jitter(longest)).await;
        shared.look().await?;
    }
    Err(Error::new(
        Code::Overloaded,
        "the shared config is being changed by too many at once; try again",
    )
    .retry_after_ms(1_000))
}

fn last_writer(id: &str) -> Error {
    Error::new(
        Code::LastWriter,
        format!(
            "{id} is the last instance alive that takes writes: promote another one first, or say force to \
             have none"
        ),
    )
    .with("id", id)
}

/// What whoever asked to leave hears when that takes too long.
pub(super) fn slow_leave() -> Error {
    Error::unavailable("could not leave the cluster in time; the others will see this instance die")
}

fn not_found(id: &str) -> Error {
    Error::new(Code::InstanceNotFound, format!("there is no instance {id} in the cluster"))
        .with("id", id)
}

/// The view before anything was read.
fn unseen(options: &MemberOptions) -> ClusterView {
    ClusterView {
        id: options.id.clone(),
        session: "".into(),
        standing: Standing::Joining,
        config: Arc::default(),
        read_at: None,
        silent: Default::default(),
        leader: LeaderView { id: None, epoch: 0, state: LeaderState::Vacant },
        elections: 0,
        failover: FailoverView { in_progress: false, last_at: None, count: 0 },
        fault: None,
        heartbeat: HeartbeatView::default(),
    }
}
