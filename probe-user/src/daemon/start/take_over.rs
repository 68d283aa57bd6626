//! The last phase of the start: the daemon finds the services that run, starts those it supervises, and probes all.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::timeout};

use super::inbox::Inbox;
use crate::{
    act::{
        supervisor::{SupervisedProcess, SupervisorReport},
        systemd::Systemd,
    },
    config::{Exec, Identity, Probe},
    daemon::{
        Daemon,
        executor::{Outcome, units},
    },
    fact::{ProcessKey, ServiceId},
    host::ProcReader,
    probe::Prober,
};

/// How long systemd may take to describe the units before the daemon says it is ready without.
const UNITS: Duration = Duration::from_secs(5);

/// How long to wait before systemd's bus is tried again.
const BUS_RETRY: Duration = Duration::from_secs(5);

impl Daemon {
    /// Finds what runs already, starts what is to be started, and probes it all.
    pub(super) fn take_over(
        &mut self,
        reader: &ProcReader,
        reports: &mpsc::Sender<SupervisorReport>,
        prober: &mut Prober,
    ) {
        let config = Arc::clone(&self.config);
        let survey = self.survey();
        for (id, service) in (0..).map(ServiceId).zip(&config.services) {
            match &service.identity {
                Identity::Exec(exec) => self.supervise(id, &service.name, exec, reader, reports),
                Identity::Match(_) => {
                    if let Some(main) = self.search.find_now(id, &survey) {
                        self.found(id, main, &survey);
                    }
                }
                Identity::Unit(_) | Identity::Remote => {}
            }
            let start = |(index, probe): (usize, &Probe)| prober.spawn(id, index, probe.clone());
            self.executor.probes.insert(id, service.probes.iter().enumerate().map(start).collect());
        }
    }

    /// Starts a command under the supervisor, in a cgroup of its own where that can be made.
    fn supervise(
        &mut self,
        id: ServiceId,
        name: &str,
        exec: &Exec,
        reader: &ProcReader,
        reports: &mpsc::Sender<SupervisorReport>,
    ) {
        let cgroup = match reader.key_of(std::process::id()) {
            Some(me) => reader.cgroups().create_for(me, name),
            None => Err(std::io::Error::other("/proc does not show the daemon itself")),
        };
        let lives = |daemon: ProcessKey| reader.key_of(daemon.pid) == Some(daemon);
        let left_behind = reader.cgroups().left_behind(name, lives);
        let cgroup = cgroup
            .inspect_err(|error| tracing::warn!("{name}: runs without a cgroup of its own: {error}"))
            .ok();
        if let Some(cgroup) = &cgroup {
            self.set_cgroup(id, cgroup.id);
        }
        let process =
            SupervisedProcess::new(id, exec.clone(), (cgroup, left_behind), reader.clone(), reports.clone());
        process.restart();
        self.executor.supervised.insert(id, process);
    }

    /// Connects to systemd, if a service is a unit of it, and waits for the states of the units.
    pub(super) async fn connect_to_systemd(&mut self, inbox: &mut Inbox) {
        let units = units(&self.config);
        if units.is_empty() {
            return;
        }
        match Systemd::connect().await {
            Ok(systemd) => self.executor.set_systemd(Arc::new(systemd), &self.config),
            Err(error) => {
                tracing::error!("systemd: cannot reach its bus, so units are not watched yet: {error}");
                self.executor.systemd = Err(error.to_string());
                self.executor.outcomes.spawn(connect_at_last());
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
}

/// Tries systemd's bus until it answers.
async fn connect_at_last() -> Outcome {
    loop {
        tokio::time::sleep(BUS_RETRY).await;
        match Systemd::connect().await {
            Ok(systemd) => return Outcome::Systemd(Arc::new(systemd)),
            Err(error) => tracing::debug!("systemd: still cannot reach its bus: {error}"),
        }
    }
}
