//! The last phase of the start: the daemon finds the running services, starts those that it supervises, and probes
//! all.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::inbox::Inbox;
use crate::{
    act::{
        supervisor::{Orphans, SupervisedProcess},
        systemd::Systemd,
    },
    config::{Exec, Identity},
    daemon::{
        Daemon,
        executor::{Outcome, units},
    },
    fact::{ProcessKey, ServiceId},
    host::ProcReader,
};

/// The longest wait for systemd's states of the units before the daemon reports that it is ready.
const UNITS: Duration = Duration::from_secs(5);

/// The longest wait for the searches for matched services: a pidfile can be on a file system that does not answer.
const SEARCHES: Duration = Duration::from_secs(5);

/// The wait before the daemon tries systemd's bus again.
const BUS_RETRY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Finds the running services, starts the supervised ones, and probes all.
    pub(super) async fn take_over(&mut self, inbox: &mut Inbox) {
        self.find_matched(inbox).await;
        let config = Arc::clone(&self.config);
        for service in &config.services {
            if let Identity::Exec(exec) = &service.identity {
                self.supervise(service.id, &service.name, exec);
            }
            self.executor.spawn_probes(service);
        }
    }

    /// Searches for the main processes of all matched services.
    async fn find_matched(&mut self, inbox: &mut Inbox) {
        let matched = self.search.interested(|_| true);
        self.look_for(matched);
        let ended = async {
            while self.search.under_way() > 0 {
                match inbox.outcomes.recv().await {
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
    }

    /// Puts a command under the supervisor, in its own cgroup if the daemon can create one, and starts it if it waits for
    /// nothing.
    pub(in crate::daemon) fn supervise(&mut self, id: ServiceId, name: &str, exec: &Exec) {
        let (reader, reports) = (self.enricher.reader().clone(), self.executor.reports.clone());
        let cgroup = match reader.key_of(std::process::id()) {
            Some(me) => reader.cgroups().create_for(me, name),
            None => Err(std::io::Error::other("/proc does not show the daemon itself")),
        };
        let lives = |daemon: ProcessKey| reader.key_of(daemon.pid) == Some(daemon);
        let left_behind = reader.cgroups().left_behind(name, lives);
        match &cgroup {
            Ok(cgroup) => self.set_cgroup(id, cgroup.id),
            Err(error) => self.adopt_orphans(error, &reader),
        }
        let cgroups = (cgroup.ok(), left_behind);
        let process = SupervisedProcess::new((id, name), exec.clone(), cgroups, reader, reports);
        if self.engine.is_kept_stopped(id) || self.engine.is_backing_off(id) {
            // An earlier daemon may have left processes behind.
            process.halt(Vec::new());
        } else if !self.engine.waits_to_start(id) {
            process.restart(Vec::new(), None);
        }
        self.executor.supervised.insert(id, process);
    }

    /// Commands have no cgroups of their own, so their processes are found in other ways.
    fn adopt_orphans(&mut self, error: &std::io::Error, reader: &ProcReader) {
        if self.executor.orphans.is_some() {
            return;
        }
        tracing::warn!(
            "commands under exec run without cgroups of their own: {error}; a restart finds their processes by process \
             group, session, parent and environment. Under systemd, install the drop-in exec.conf of the package"
        );
        match Orphans::adopt(reader.clone()) {
            Ok(orphans) => self.executor.orphans = Some(orphans),
            Err(error) => tracing::warn!("hostprobe: cannot become the parent of orphans: {error}"),
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
