//! The last phase of the start: the daemon finds the running services, takes over or starts those that it supervises,
//! and probes all.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::inbox::Inbox;
use crate::{
    act::systemd::Systemd,
    config::Identity,
    daemon::{
        Daemon,
        executor::{Outcome, units},
    },
};

/// The longest wait for systemd's states of the units before the daemon reports that it is ready.
const UNITS: Duration = Duration::from_secs(5);

/// The longest wait for the searches for matched services: a pidfile can be on a file system that does not answer.
const SEARCHES: Duration = Duration::from_secs(5);

/// The wait before the daemon tries systemd's bus again.
const BUS_RETRY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Finds the running services, takes over or starts the supervised ones, and probes all.
    pub(super) async fn take_over(&mut self, inbox: &mut Inbox) {
        self.find_matched(inbox).await;
        self.end_unconfigured();
        let config = Arc::clone(&self.config);
        for service in &config.services {
            if let Identity::Exec(exec) = &service.identity {
                if self.executor.awaits_removals() && !self.executor.left.contains_key(&service.name) {
                    // Its port may be that of a command that has not ended yet.
                    self.reloads.to_start.push(service.id);
                } else {
                    self.supervise(service.id, &service.name, exec);
                }
            }
            self.executor.spawn_probes(service);
        }
    }

    /// Searches for the main processes of all matched services. What they listen on is read once for all of them.
    async fn find_matched(&mut self, inbox: &mut Inbox) {
        let matched = self.search.interested(|_| true);
        self.look_for(matched);
        let mut found = Vec::new();
        let ended = async {
            while self.search.is_under_way() {
                match inbox.outcomes.recv().await {
                    Some(Outcome::Found(service, main)) => {
                        found.extend(self.on_found(service, main).map(|main| (service, main)));
                    }
                    Some(outcome) => self.on_outcome(outcome),
                    None => return,
                }
            }
        };
        if timeout(SEARCHES, ended).await.is_err() {
            tracing::error!(
                "processes of matched services: some searches take longer than {SEARCHES:?}; each is watched once it is \
                 found"
            );
        }
        // All are watched by now, so what opens after the survey is reported.
        let survey = self.survey();
        for (service, main) in found {
            if self.enricher.members.main_of(service) == Some(main) {
                self.observe_listeners(service, main, &survey);
            }
        }
    }

    /// Watches the containers, and waits for their states. An engine that does not answer holds up nothing else.
    pub(super) async fn connect_to_engines(&mut self, inbox: &mut Inbox) {
        let config = Arc::clone(&self.config);
        let containers = config.services.iter().filter(|service| service.container().is_some()).count();
        self.executor.watch_containers(&config.services);
        let described = async {
            for _ in 0..containers {
                match inbox.units.recv().await {
                    Some(change) => self.on_unit(change.service, Ok(change.state)),
                    None => return,
                }
            }
        };
        if timeout(UNITS, described).await.is_err() {
            tracing::error!(
                "container engines: have not described all containers within {UNITS:?}; each is watched once it is \
                 described. `hostprobe doctor` tells what answers"
            );
        }
    }

    /// Connects to systemd if a service has a unit, and waits for the states of the units.
    pub(super) async fn connect_to_systemd(&mut self, inbox: &mut Inbox) {
        let units = units(&self.config.services);
        if units.is_empty() {
            return;
        }
        match Systemd::connect().await {
            Ok(systemd) => self.executor.set_systemd(Arc::new(systemd), &self.config),
            Err(error) => {
                tracing::error!("systemd: cannot reach its bus, so units are not watched yet: {error}");
                self.executor.systemd = Err(error.to_string());
                self.connect_at_last(BUS_RETRY);
                return;
            }
        }
        let described = async {
            for _ in units {
                match inbox.units.recv().await {
                    Some(change) => self.on_unit(change.service, Ok(change.state)),
                    None => return,
                }
            }
        };
        if timeout(UNITS, described).await.is_err() {
            tracing::error!(
                "systemd: has not described all units within {UNITS:?}; each is watched once it is described"
            );
        }
    }

    /// Tries systemd's bus, for the first time after `first`, until it answers.
    pub(in crate::daemon) fn connect_at_last(&mut self, first: Duration) {
        if std::mem::replace(&mut self.executor.connects_to_systemd, true) {
            return;
        }
        self.executor.outcomes.spawn(async move {
            tokio::time::sleep(first).await;
            loop {
                match Systemd::connect().await {
                    Ok(systemd) => return Outcome::Systemd(Arc::new(systemd)),
                    Err(error) => tracing::debug!("systemd: still cannot reach its bus: {error}"),
                }
                tokio::time::sleep(BUS_RETRY).await;
            }
        });
    }
}
