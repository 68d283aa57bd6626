//! Units of systemd, as the executor uses them.

use std::{sync::Arc, time::Duration};

use super::{Executor, Outcome, UnitWatch, done, units};
use crate::{
    act::systemd::{JobOutcome, Systemd, SystemdError},
    config::{Config, Identity},
    fact::ServiceId,
};

/// How long systemd's job for a restart is followed. A stop alone may take the unit's `TimeoutStopSec=`, so systemd
/// decides when a job has failed; the engine has a shorter limit for each unit.
const UNIT_JOB: Duration = Duration::from_secs(3600);

impl Executor {
    pub(super) fn reset_failed(&self, service: ServiceId, config: &Config) {
        if let Some((systemd, unit)) = self.unit(service, config) {
            tokio::spawn(async move {
                if let Err(error) = systemd.reset_failed(&unit).await {
                    tracing::warn!("{unit}: could not reset the failed state: {error}");
                }
            });
        }
    }

    /// Reads the state of a unit or a container.
    pub(super) fn inspect_unit(&self, service: ServiceId, config: &Config) {
        if let Some(container) = container(service, config) {
            return self.inspect_container(service, container);
        }
        if let Err(error) = self.systemd.clone() {
            self.outcomes.spawn(async move { Outcome::Unit(service, Err(error)) });
        }
        if let Some((systemd, unit)) = self.unit(service, config) {
            self.outcomes.spawn(async move {
                let state = systemd.unit_state(&unit).await;
                Outcome::Unit(service, state.map(Box::new).map_err(|error| error.to_string()))
            });
        }
    }

    pub(super) fn restart_by_systemd(&self, service: ServiceId, reset_failed: bool, config: &Config) {
        if let Err(error) = self.systemd.clone() {
            self.outcomes.spawn(async move { Outcome::Restart(service, Err(error)) });
        }
        if let Some((systemd, unit)) = self.unit(service, config) {
            let kept = self.kept.clone();
            self.outcomes.spawn(async move {
                done(kept).await;
                Outcome::Restart(service, restart_unit(&systemd, &unit, reset_failed).await)
            });
        }
    }

    /// Stops a unit or a container.
    pub(super) fn stop_managed(&self, service: ServiceId, config: &Config) {
        if let Some(container) = container(service, config) {
            return self.stop_container(service, container);
        }
        if let Err(error) = self.systemd.clone() {
            self.outcomes.spawn(async move { Outcome::Stop(service, Err(error)) });
        }
        if let Some((systemd, unit)) = self.unit(service, config) {
            self.outcomes.spawn(async move {
                let ended = systemd.stop_and_wait(&unit, UNIT_JOB).await;
                Outcome::Stop(service, job_outcome("stop", &unit, ended))
            });
        }
    }

    /// systemd and the service's unit, if the service has a unit and systemd is reachable.
    fn unit(&self, service: ServiceId, config: &Config) -> Option<(Arc<Systemd>, String)> {
        match (&self.systemd, &config.service(service)?.identity) {
            (Ok(systemd), Identity::Unit(unit)) => Some((Arc::clone(systemd), unit.clone())),
            (Ok(_) | Err(_), _) => None,
        }
    }

    /// Begins to use systemd, and subscribes to the changes of the units.
    pub(in crate::daemon) fn set_systemd(&mut self, systemd: Arc<Systemd>, config: &Config) {
        self.systemd = Ok(systemd);
        self.watch_units(units(&config.services));
    }

    /// Subscribes to the changes of these units, if systemd is reachable. The services of a reload have a watch of their
    /// own, so that no change of the others is missed.
    pub(in crate::daemon) fn watch_units(&mut self, units: Vec<(ServiceId, String)>) {
        let Ok(systemd) = self.systemd.clone() else { return };
        if units.is_empty() {
            return;
        }
        let (changes, services) = (self.unit_changes.clone(), units.iter().map(|(id, _)| *id).collect());
        let task = tokio::spawn(async move { systemd.watch(units, changes).await });
        self.unit_watches.push(UnitWatch { services, task: task.abort_handle() });
    }
}

fn container(service: ServiceId, config: &Config) -> Option<&crate::config::Container> {
    config.service(service)?.container()
}

async fn restart_unit(systemd: &Systemd, unit: &str, reset_failed: bool) -> Result<(), String> {
    if reset_failed {
        systemd.reset_failed(unit).await.map_err(|error| error.to_string())?;
    }
    job_outcome("restart", unit, systemd.restart_and_wait(unit, UNIT_JOB).await)
}

fn job_outcome(kind: &str, unit: &str, ended: Result<JobOutcome, SystemdError>) -> Result<(), String> {
    match ended {
        Ok(JobOutcome::Done) => Ok(()),
        Ok(outcome) => Err(format!("systemd's {kind} job for {unit} ended as {outcome:?}")),
        Err(error) => Err(error.to_string()),
    }
}
