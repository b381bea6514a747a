//! What this instance does at the moment: its role, which may change while it runs.
//!
//! 1. A write is admitted by [`Duty::admit_write`] and holds its guard until it is answered. Once the station
//!    takes no writes, none is admitted, and [`Duty::drained`] waits for those that were.
//! 2. Whoever works for a role in the background looks at [`Duty::station`] before each round.

use crate::base::settings::Role;
use crate::base::{Code, Error, Result};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Who serves what this instance does not, as far as is known.
pub trait Others: std::fmt::Debug + Send + Sync {
    /// Endpoints of instances that write, or of those that read.
    fn endpoints(&self, writes: bool) -> Vec<String>;

    /// Whether, of all instances that write, this is the one that does what one is enough for on the thing of
    /// this name. All find the same one as long as they see the same instances; nothing may depend on it.
    fn falls_to_us(&self, what: &str) -> bool;
}

/// What an instance is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its role.
    pub role: Role,
    /// Whether it waits to write until nobody else does.
    pub standby: bool,
}

impl Station {
    /// Whether it takes writes.
    pub fn takes_writes(self) -> bool {
        self.role.writes() && !self.standby
    }
}

/// The station in force. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Duty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    station: watch::Sender<Station>,
    writes_in_flight: watch::Sender<usize>,
    others: Mutex<Option<Arc<dyn Others>>>,
}

/// A write that was admitted.
#[derive(Debug)]
pub struct Admitted(Arc<Inner>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.writes_in_flight.send_modify(|count| *count -= 1);
    }
}

impl Duty {
    /// A station to begin with.
    pub fn new(station: Station) -> Duty {
        Duty(Arc::new(Inner {
            station: watch::Sender::new(station),
            writes_in_flight: watch::Sender::new(0),
            others: Mutex::default(),
        }))
    }

    /// The station in force.
    pub fn station(&self) -> Station {
        *self.0.station.borrow()
    }

    /// From now on this is the station.
    pub fn set(&self, station: Station) {
        self.0.station.send_replace(station);
    }

    /// Where errors learn who serves what this instance does not.
    pub fn refer_to(&self, others: Arc<dyn Others>) {
        *self.0.others.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(others);
    }

    /// Whether work on the thing of this name, for which one of the instances that write is enough, is this
    /// one's; so it is where there are no others.
    pub fn falls_to_us(&self, what: &str) -> bool {
        let others = self.0.others.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        others.is_none_or(|others| others.falls_to_us(what))
    }

    /// Admits a write, or says who takes it.
    pub fn admit_write(&self) -> Result<Admitted> {
        // Counted first: who waits for the last write must see it, or it must see the new role.
        self.0.writes_in_flight.send_modify(|count| *count += 1);
        let admitted = Admitted(self.0.clone());
        self.check(true).map(|()| admitted)
    }

    /// Whether reads are served here, or who serves them.
    pub fn check_read(&self) -> Result<()> {
        self.check(false)
    }

    /// Waits until no write that was admitted is in flight.
    pub async fn drained(&self) {
        let mut count = self.0.writes_in_flight.subscribe();
        // The sender lives as long as this value.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    fn check(&self, writes: bool) -> Result<()> {
        let station = self.station();
        let (allowed, code, verb, other, key) = if writes {
            let code = Code::ReadOnlyInstance;
            (station.takes_writes(), code, "writes", "writer or hybrid", "writers")
        } else {
            (station.role.reads(), Code::WriteOnlyInstance, "reads", "reader or hybrid", "readers")
        };
        if allowed {
            return Ok(());
        }
        let others = self.0.others.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let endpoints = others.map(|others| others.endpoints(writes)).unwrap_or_default();
        let (role, standby) =
            (station.role.name(), if station.standby { " on standby" } else { "" });
        let message = format!(
            "this instance is a {role}{standby} and does not serve {verb}; send them to a {other}"
        );
        Err(Error::new(code, message).with("role", role).with(key, endpoints))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct One;

    impl Others for One {
        fn endpoints(&self, writes: bool) -> Vec<String> {
            vec![format!("http://other?writes={writes}")]
        }

        fn falls_to_us(&self, what: &str) -> bool {
            what == "ours"
        }
    }

    fn active(role: Role) -> Station {
        Station { role, standby: false }
    }

    #[tokio::test]
    async fn a_demoted_instance_admits_no_write_and_waits_for_those_in_flight() {
        let duty = Duty::new(active(Role::Hybrid));
        assert!(duty.falls_to_us("theirs"), "there are no others");
        duty.refer_to(Arc::new(One));
        assert!(duty.falls_to_us("ours") && !duty.falls_to_us("theirs"));
        let admitted = duty.admit_write().unwrap();
        duty.set(active(Role::Reader));
        let refused = duty.admit_write().unwrap_err();
        assert_eq!(refused.code(), Code::ReadOnlyInstance);
        assert!(format!("{:?}", refused.details()).contains("http://other?writes=true"));
        let mut drained = std::pin::pin!(duty.drained());
        assert!(futures::poll!(&mut drained).is_pending());
        drop(admitted);
        drained.await;
        duty.check_read().unwrap();
        duty.set(active(Role::Writer));
        assert_eq!(duty.check_read().unwrap_err().code(), Code::WriteOnlyInstance);
        duty.admit_write().unwrap();
        duty.set(Station { role: Role::Writer, standby: true });
        assert!(duty.admit_write().unwrap_err().message().contains("on standby"));
    }
}
