//! Readers that may only read the store: they look on, and the shared config does not list them.
//!
//! A reader whose first heartbeat the store refuses for want of rights goes on without: it reads the shared
//! config as the others do, so that it knows who takes writes, and says that it is not listed. Rights may be
//! granted later (and a new policy takes a while until it holds), so it asks to be listed again now and then.
//! One that was listed and is refused later is another matter: something has broken, and it is degraded.

use super::member::Member;
use super::view::Standing;
use crate::base::settings::Role;
use crate::base::{Code, Error, Result};
use std::time::Duration;
use tokio::time::Instant;

/// How often an instance that is not listed tries to be.
pub(super) const AGAIN: Duration = Duration::from_secs(600);

impl Member {
    /// Whether we can do without being listed: the store has let us read, and it refuses what writes.
    fn is_read_only(&self, error: &Error) -> bool {
        error.code() == Code::StoreDenied && self.own.role == Role::Reader
    }

    /// Goes on without being listed where `error` says that we may not write; otherwise it is an error.
    pub(super) fn go_unlisted(&mut self, error: Error) -> Result<()> {
        if !self.is_read_only(&error) {
            return Err(error);
        }
        tracing::warn!(
            %error, again_in_s = AGAIN.as_secs(),
            "this reader may not write to the store, so it serves without being listed in the cluster"
        );
        self.stay_unlisted();
        Ok(())
    }

    fn stay_unlisted(&mut self) {
        self.standing = Standing::Unlisted;
        self.replaces = None;
        self.beat_due = Instant::now() + AGAIN;
        self.publish();
    }

    /// The rest of a round of one that is not listed: nothing, or, now and then, a try to be.
    pub(super) async fn look_on(&mut self) -> Result<()> {
        if Instant::now() < self.beat_due {
            return Ok(());
        }
        let entry = self.shared.config().instances.get(&*self.options.id);
        let taken = entry.filter(|entry| !self.observer.is_dead(&self.options.id, entry));
        if taken.is_some_and(|taken| taken.session.is_some()) {
            tracing::warn!(
                id = %self.options.id,
                "another instance is listed under this one's id, so this one is not"
            );
            self.stay_unlisted();
            return Ok(());
        }
        self.replaces = entry.and_then(|entry| entry.session.clone());
        self.standing = Standing::Joining;
        match self.enter().await {
            Ok(true) => {
                tracing::info!(id = %self.options.id, "this reader is listed in the cluster now");
                self.entered();
            }
            Ok(false) => self.stay_unlisted(),
            Err(error) => {
                self.stay_unlisted();
                if !self.is_read_only(&error) {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
