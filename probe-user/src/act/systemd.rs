//! systemd over D-Bus: reads units and restarts them.
//!
//! One connection makes the calls, and reconnects after a restart of the bus. [`Systemd::watch`] has its own
//! connection, so that a flood of signals cannot delay an answer. A hung systemd costs a caller at most
//! [`PATIENCE`].

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

use self::link::{JobKind, Link};
pub use self::{error::SystemdError, job::JobOutcome, link::PATIENCE, watch::UnitChange};
use crate::fact::UnitState;

/// The systemd of this host, or of a container on it.
#[derive(Debug)]
pub struct Systemd {
    /// The bus's address; None for the system bus.
    address: Option<String>,
    /// The connection for calls.
    link: Mutex<Link>,
    /// The manager's pid when last seen. It changes when a container restarts.
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

    /// The pid of systemd's manager process in the daemon's namespace.
    ///
    /// A SIGTERM from this pid means that systemd stopped the unit. [`judge`](crate::engine::unit::judge) tells an
    /// operator's request from a watchdog or an OOM policy.
    pub fn manager_pid(&self) -> u32 {
        self.manager_pid.load(Ordering::Relaxed)
    }

    /// Reads a unit's state. A unit that does not exist has a state as well: see [`UnitState::load`].
    pub async fn unit_state(&self, unit: &str) -> Result<UnitState, SystemdError> {
        let read = async {
            let link = self.link().await?;
            match link.unit_state(unit).await {
                // A read may be repeated after the bus went away.
                Err(_) if link.is_closed() => self.link().await?.unit_state(unit).await,
                answer => answer,
            }
        };
        in_time(|| format!("reading {unit}"), read).await
    }

    /// Restarts a unit, or starts it if it is down; returns once systemd has accepted the job.
    ///
    /// This calls RestartUnit for a stopped unit too, because StartUnit does not shorten the wait of `RestartSec=`.
    /// After [`SystemdError::Timeout`] the job may still come: a hung systemd runs it once it continues.
    pub async fn restart(&self, unit: &str) -> Result<(), SystemdError> {
        let restart = async { self.link().await?.enqueue(JobKind::Restart, unit).await.map(drop) };
        in_time(|| format!("RestartUnit({unit})"), restart).await
    }

    /// Restarts a unit and waits for the outcome, at most `limit`. The job of a unit of `Type=notify` is done when
    /// the unit is ready; that of a simple unit when its process has started.
    pub async fn restart_and_wait(&self, unit: &str, limit: Duration) -> Result<JobOutcome, SystemdError> {
        let link = in_time(|| format!("RestartUnit({unit})"), self.link()).await?;
        job::run_and_wait(&link, JobKind::Restart, unit, limit).await
    }

    /// Stops a unit and waits for the outcome, at most `limit`.
    pub async fn stop_and_wait(&self, unit: &str, limit: Duration) -> Result<JobOutcome, SystemdError> {
        let link = in_time(|| format!("StopUnit({unit})"), self.link()).await?;
        job::run_and_wait(&link, JobKind::Stop, unit, limit).await
    }

    /// Clears a unit's failed state, and with it the count of starts that `StartLimitBurst=` limits.
    pub async fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        let reset = async { self.link().await?.reset_failed(unit).await };
        in_time(|| format!("ResetFailedUnit({unit})"), reset).await
    }

    /// The connection, after a reconnect if the bus closed it.
    async fn link(&self) -> Result<Link, SystemdError> {
        let mut link = self.link.lock().await;
        if link.is_closed() {
            *link = Link::open(self.address.as_deref()).await?;
            self.manager_pid.store(link.manager_pid(), Ordering::Relaxed);
        }
        Ok(link.clone())
    }
}

/// Waits for systemd for at most [`PATIENCE`], with reconnects and the wait for the connection.
async fn in_time<T>(
    call: impl FnOnce() -> String,
    work: impl Future<Output = Result<T, SystemdError>>,
) -> Result<T, SystemdError> {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(done) => done,
        Err(_) => Err(SystemdError::Timeout { call: call(), after: PATIENCE }),
    }
}
