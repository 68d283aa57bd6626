//! systemd over D-Bus: what it knows of a unit, and restarting one.
//!
//! One connection asks and orders; it is made anew when the bus was restarted. [`Systemd::watch`] listens
//! on a connection of its own, so that a flood of signals cannot hold up an answer. A hung systemd costs a
//! caller [`PATIENCE`], never more.

mod cgroup;
mod error;
mod job;
mod link;
mod namespace;
mod state;
mod watch;

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::sync::Mutex;

use self::link::Link;
pub use self::{error::SystemdError, job::JobOutcome, link::PATIENCE, watch::UnitChange};
use crate::fact::UnitState;

/// The systemd of this host, or of a container on it.
#[derive(Debug)]
pub struct Systemd {
    /// Where its bus is; None for the system bus.
    address: Option<String>,
    /// The connection that asks and orders.
    link: Mutex<Link>,
    /// The pid last seen of the manager, which changes when a container is started again.
    manager_pid: AtomicU32,
}

impl Systemd {
    /// Connects to the systemd of the system bus, or of `DBUS_SYSTEM_BUS_ADDRESS` where that is set.
    pub async fn connect() -> Result<Self, SystemdError> {
        Self::open(None).await
    }

    /// Connects to the systemd behind a bus address, such as `unix:path=/run/dbus/system_bus_socket`.
    pub async fn connect_to(address: &str) -> Result<Self, SystemdError> {
        Self::open(Some(address.to_owned())).await
    }

    async fn open(address: Option<String>) -> Result<Self, SystemdError> {
        let link = Link::open(address.as_deref()).await?;
        let manager_pid = AtomicU32::new(link.manager_pid());
        Ok(Self { address, link: Mutex::new(link), manager_pid })
    }

    /// The pid of systemd's manager process, of our own namespace.
    ///
    /// A SIGTERM from it means that it stopped the unit; whether somebody asked for that, or a watchdog or
    /// its OOM policy did, is for [`judge`](crate::engine::unit::judge) to say.
    pub fn manager_pid(&self) -> u32 {
        self.manager_pid.load(Ordering::Relaxed)
    }

    /// Reads a unit's state. A unit that does not exist has a state as well: see [`UnitState::load`].
    pub async fn unit_state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let read = async {
            let link = self.link().await?;
            match link.unit_state(unit).await {
                // A question may be put twice: the bus went away while we waited.
                Err(_) if link.is_closed() => self.link().await?.unit_state(unit).await,
                answer => answer,
            }
        };
        in_time(|| format!("reading {unit}"), read).await
    }

    /// Restarts a unit, or starts it if it is down; returns once systemd has accepted the job.
    ///
    /// It is RestartUnit for a unit that is down as well: StartUnit would let a unit that waits out its
    /// own `RestartSec=` wait on. After [`SystemdError::Timeout`] the order still stands: a systemd that was
    /// hung carries it out once it goes on.
    pub async fn restart(&self, unit: &str) -> Result<(), SystemdError> {
        let restart = async { self.link().await?.restart(unit).await.map(drop) };
        in_time(|| format!("RestartUnit({unit})"), restart).await
    }

    /// Restarts a unit and waits for the outcome, at most `limit`. For a unit of `Type=notify` the job is
    /// done when it says it is ready; for a simple one when its process is started.
    pub async fn restart_and_wait(&self, unit: &str, limit: Duration) -> Result<JobOutcome, SystemdError> {
        let link = in_time(|| format!("RestartUnit({unit})"), self.link()).await?;
        job::restart_and_wait(&link, unit, limit).await
    }

    /// Clears a unit's failed state, and with it the count of starts that `StartLimitBurst=` limits.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        let reset = async { self.link().await?.reset_failed(unit).await };
        in_time(|| format!("ResetFailedUnit({unit})"), reset).await
    }

    /// The connection, made anew if the bus closed it.
    async fn link(&self) -> Result<Link, SystemdError> {
        let mut link = self.link.lock().await;
        if link.is_closed() {
            *link = Link::open(self.address.as_deref()).await?;
            self.manager_pid.store(link.manager_pid(), Ordering::Relaxed);
        }
        Ok(link.clone())
    }
}

/// Waits for systemd no longer than [`PATIENCE`], connecting again and waiting for our turn included.
async fn in_time<T>(
    call: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, SystemdError>>,
) -> Result<T, SystemdError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(SystemdError::Timeout { call: call(), after: PATIENCE }),
    }
}
