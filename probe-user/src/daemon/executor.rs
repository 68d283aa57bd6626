//! Executes the effects that the engine requests, and waits for the outcome of none: each is a task, and its outcome comes
//! back through a channel.

mod alerts;
mod commands;
mod containers;
mod units;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{drill_state::DrillPreparation, last_actions::LastActions, next_config::NextConfig};
use crate::{
    act::{
        alert::{Alert, Alerter},
        command,
        container::Containers,
        drill::Caused,
        hook::Hooks,
        outward_heartbeat::OutwardHeartbeat,
        supervisor::{Orphans, RunningCommand, SupervisedProcess, SupervisorReport},
        systemd::{Systemd, UnitChange},
    },
    bounded_thread::Threads,
    config::{Config, Identity, OnExit, Service},
    emit::Names,
    engine::{Effect, verdict},
    enrich::Enricher,
    fact::{ContainerState, ProcessExit, ProcessKey, RestartMethod, ServiceId, UnitState},
    host::{FileId, LeftProcesses, Outbound},
    inspect::{
        answer::Answer, holders::HolderSearch, host::HostMonitor, inspector::Inspector,
        pressure::PressureMonitor, queues::AcceptQueues, usage::UsageSampler,
    },
    outcomes::Outcomes,
    probe::{ProbeHandle, Prober},
    progress::Awaited,
    store::{last_run::LastRun, state::StateStore},
};

/// The wait before a restart that the daemon lacked something for is tried again.
const SHORTAGE_RETRY: Duration = Duration::from_secs(1);

/// How much longer than the longest `stop_timeout` the commands under `exec` may take to end: 1 s each for what is left
/// in their cgroups. A process that hangs in the kernel takes longer, and holds up no more than itself.
const STOP_SLACK: Duration = Duration::from_secs(4);

/// How long a restart waits for the file to have what a later run of the daemon needs: it takes some tenths of a millisecond,
/// unless the disk is busy.
const KEPT: Duration = Duration::from_millis(3);

/// How long the last changes of the state may take to be written at the end.
const LAST_STATE: Duration = Duration::from_secs(2);

/// How long the last alerts may take to be delivered at the end.
const LAST_ALERTS: Duration = Duration::from_secs(2);

pub enum Outcome {
    Restart(ServiceId, Result<(), String>),
    /// A restart that the daemon lacks something for, with the error. It is tried again.
    RestartDelayed(ServiceId, String),
    /// An operator's stop of a unit.
    Stop(ServiceId, Result<(), String>),
    /// The state of a unit or a container.
    Unit(ServiceId, Result<Box<UnitState>, String>),
    /// A search for a matched service's main process.
    Found(ServiceId, Option<ProcessKey>),
    /// The connections that a service's processes opened before the daemon started.
    Connections(ServiceId, Outbound),
    /// The configuration file, read again, and what it needs; or why that failed.
    Reloaded(Box<Result<NextConfig, String>>),
    /// What runs before a restart has ended.
    Prepared(ServiceId, u64),
    /// Whether the fault of a drill can be caused is known.
    DrillPrepared(Box<DrillPreparation>),
    /// It was caused, or could not be.
    FaultCaused(Result<Caused, String>),
    /// The command of a removed service with this name has ended.
    Removed(String),
    /// Containers have other labels than when the configuration was read.
    Labels,
    Fleet(crate::fleet::Report),
    /// systemd's bus is reachable at last.
    Systemd(Arc<Systemd>),
}

/// A restart that waits for what runs before it.
pub(super) struct Prepared {
    pub(super) number: u64,
    pub(super) restart: Effect,
}

pub struct Executor {
    pub(super) outcomes: Outcomes<Outcome>,
    pub(super) answers: Outcomes<Answer>,
    pub(super) unit_changes: mpsc::Sender<UnitChange>,
    /// systemd, or the reason that it is unreachable.
    pub(super) systemd: Result<Arc<Systemd>, String>,
    pub(super) unit_watches: Vec<UnitWatch>,
    /// The container engines, whether they answer or not.
    pub(super) containers: Containers,
    /// What the engines said of each container last.
    pub(super) container_states: BTreeMap<ServiceId, ContainerState>,
    /// A task tries to reach systemd's bus.
    pub(super) connects_to_systemd: bool,
    pub(super) supervised: HashMap<ServiceId, SupervisedProcess>,
    /// What commands do when the daemon ends.
    pub(super) on_exit: OnExit,
    /// The commands that an earlier daemon has left, by service, until they are taken over.
    pub(super) left: BTreeMap<String, RunningCommand>,
    /// Where commands have no cgroups.
    pub(super) orphans: Option<Orphans>,
    /// The supervisor starts commands on these.
    pub(super) starts: Threads,
    /// What the supervisor reports goes there.
    pub(super) reports: mpsc::Sender<SupervisorReport>,
    /// Commands of removed services that have not ended yet.
    pub(super) removals: Vec<Removal>,
    pub(super) prober: Prober,
    pub(super) probes: HashMap<ServiceId, Vec<ProbeHandle>>,
    /// None once the daemon stops.
    pub(super) alerter: Option<Alerter>,
    /// A dead man's switch elsewhere.
    pub(super) heartbeat: OutwardHeartbeat,
    /// None without one.
    pub(super) state_directory: Option<FileId>,
    /// None without a state directory.
    pub(super) store: Option<StateStore>,
    /// What the store was given last, if that is worth a wait. A restart waits for it.
    pub(super) kept: Option<Awaited>,
    /// None with `--observe`.
    pub(super) hooks: Option<Hooks>,
    /// Restarts that wait for what runs before them.
    pub(super) prepared: HashMap<ServiceId, Prepared>,
    pub(super) names: Names,
    pub(super) usage: UsageSampler,
    pub(super) inspector: Inspector,
    pub(super) holders: HolderSearch,
    pub(super) queues: AcceptQueues,
    pub(super) pressure: PressureMonitor,
    pub(super) host: HostMonitor,
}

impl Executor {
    /// Has the store keep what a later run has to know, and puts alerts into the outboxes, before any other of the effects is
    /// carried out. Returns what events wait for that tell of it, if anything is to be kept.
    pub(super) fn keep(
        &mut self,
        effects: &VecDeque<Effect>,
        config: &Config,
        actions: &LastActions,
    ) -> Option<Awaited> {
        let is_kept = effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::Alert { .. }
                    | Effect::Silence { .. }
                    | Effect::KeepMemory { .. }
                    | Effect::KeepOrders { .. }
            )
        });
        if !is_kept {
            return None;
        }
        // Alerts come last: they wait for what is kept by then.
        if let Some(store) = &self.store {
            self.keep_memories(store, effects, config);
        }
        self.put_alerts(effects, actions);
        let store = self.store.as_ref()?;
        self.kept = store.flush_for(KEPT);
        store.flush_to_tell()
    }

    fn keep_memories(&self, store: &StateStore, effects: &VecDeque<Effect>, config: &Config) {
        if effects.iter().any(|effect| matches!(effect, Effect::Restart { .. })) {
            store.hold_restart();
        }
        for effect in effects {
            if let Effect::KeepMemory { service, memory } = effect {
                store.keep_memory(*service, memory.clone(), &self.names);
            } else if let Effect::KeepOrders { service, orders } = effect
                // A removed service has no orders any more.
                && let Some(service) = config.service(*service)
            {
                store.keep_orders(&service.name, orders.clone());
            }
        }
    }

    fn put_alerts(&self, effects: &VecDeque<Effect>, actions: &LastActions) {
        let Some(alerter) = &self.alerter else { return };
        for effect in effects {
            if let Effect::Alert { incident, resolved } = effect {
                let done = actions.of(incident.id);
                let alert = Alert::new(incident.clone(), self.names.clone(), *resolved);
                alerter.notify(Alert { done, ..alert });
            } else if let Effect::Silence { incident, silence } = effect {
                alerter.silence(*incident, silence.as_ref());
            }
        }
    }

    /// Starts one effect.
    pub(super) fn execute(&mut self, effect: Effect, config: &Config, enricher: &Enricher) {
        match effect {
            Effect::Restart { service, method, reset_failed } => {
                self.restart(service, method, reset_failed, config, enricher)
            }
            Effect::Stop(service) => {
                self.await_kept();
                self.stop_service(service, config, enricher);
            }
            Effect::ResetFailed(service) => self.reset_failed(service, config),
            Effect::InspectUnit(service) => self.inspect_unit(service, config),
            Effect::ProbeNow(service) => self.probes_of(service).for_each(ProbeHandle::now),
            Effect::ProbeUntilHealthy(service) => self.probes_of(service).for_each(ProbeHandle::recover),
            Effect::Examine { service, over, ahead } => {
                self.inspector.examine(service, enricher.members.main_of(service), over, ahead)
            }
            Effect::Snapshot(service) => {
                self.probes_of(service).for_each(ProbeHandle::pause);
                let name = config.name_of(service);
                let services = enricher.members.addresses(|service| config.name_of(service).to_owned());
                self.inspector.snapshot(service, name, enricher.members.main_of(service), services);
            }
            Effect::GatherContext { service, invocation, since, for_memory } => {
                if let Some(watched) = config.service(service) {
                    let lines = self.container_lines(watched);
                    let run = self.supervised.get(&service).map(SupervisedProcess::output_run);
                    self.inspector.gather_context(watched, (invocation, run), since, for_memory, lines);
                }
            }
            Effect::FindPortHolder { service, ports } => self.inspector.find_port_holder(service, ports),
            Effect::FindListener { service, port } => {
                self.inspector.find_listener(service, enricher.members.main_of(service), port)
            }
            Effect::FindSuccessor { service, of, ports } => {
                let left = match self.supervised.get(&service).and_then(SupervisedProcess::cgroup) {
                    Some(cgroup) => LeftProcesses::InCgroup(cgroup.clone()),
                    None => LeftProcesses::OfGroup(of, enricher.descendants_of(service)),
                };
                self.inspector.find_successor(service, left, ports);
            }
            Effect::Adopt { service, process } => {
                if let Some(supervised) = self.supervised.get(&service) {
                    supervised.adopt_descendant(process);
                }
            }
            Effect::FindHolders { service, ports } => {
                self.inspector.find_holders(service, enricher.members.main_of(service), ports)
            }
            // The daemon has begun it.
            Effect::CauseFault { .. } => {}
            // [`Self::keep`] has carried them out.
            Effect::Alert { .. }
            | Effect::Silence { .. }
            | Effect::KeepMemory { .. }
            | Effect::KeepOrders { .. } => {}
            Effect::CallHooks(call) => {
                if self.hooks.as_ref().is_some_and(Hooks::has_any) {
                    self.await_kept();
                }
                if let Some(hooks) = &mut self.hooks {
                    hooks.call(&call, &self.names);
                }
            }
        }
    }

    fn restart(
        &self,
        service: ServiceId,
        method: RestartMethod,
        reset_failed: bool,
        config: &Config,
        enricher: &Enricher,
    ) {
        match method {
            RestartMethod::Supervisor => {
                if let Some(process) = self.supervised.get(&service) {
                    process.restart(descendants(service, process, enricher), self.kept.clone());
                }
            }
            RestartMethod::Systemd => self.restart_by_systemd(service, reset_failed, config),
            RestartMethod::Container => self.restart_container(service, config),
            RestartMethod::Command => {
                let Some(argv) = config.service(service).and_then(|it| it.restart.command.clone()) else {
                    return;
                };
                let (delays, kept) = (self.outcomes.clone(), self.kept.clone());
                self.outcomes.spawn(async move {
                    done(kept).await;
                    let outcome = loop {
                        match command::run(&argv).await {
                            Err(error) if error.is_shortage() => {
                                delays.send(Outcome::RestartDelayed(service, error.to_string())).await;
                                tokio::time::sleep(SHORTAGE_RETRY).await;
                            }
                            outcome => break outcome,
                        }
                    };
                    Outcome::Restart(service, outcome.map_err(|error| error.to_string()))
                });
            }
            RestartMethod::None => {}
        }
    }

    /// Stops a unit, a container or a supervised command. Nothing else can be stopped.
    fn stop_service(&self, service: ServiceId, config: &Config, enricher: &Enricher) {
        if let Some(process) = self.supervised.get(&service) {
            if !process.halt(descendants(service, process, enricher)) {
                let busy = "its supervisor is busy; try again".to_owned();
                self.outcomes.spawn(async move { Outcome::Stop(service, Err(busy)) });
            }
            return;
        }
        self.stop_managed(service, config);
    }

    /// Waits for the state file. An effect that this does not delay by a wake-up of the loop does without.
    fn await_kept(&self) {
        if let Some(kept) = &self.kept {
            kept.wait();
        }
    }

    fn probes_of(&self, service: ServiceId) -> impl Iterator<Item = &ProbeHandle> {
        self.probes.get(&service).into_iter().flatten()
    }

    /// Whether other processes of a supervised service may live on after its main process.
    pub(super) fn has_left_processes(&self, service: ServiceId, exit: &ProcessExit) -> bool {
        let Some(supervised) = self.supervised.get(&service) else { return false };
        match supervised.cgroup() {
            Some(cgroup) => {
                let others = || cgroup.members().unwrap_or_default().into_iter();
                cgroup.is_populated().unwrap_or(true) && others().any(|pid| pid != exit.process.key.pid)
            }
            // The search reads all processes. A command that failed is started again without it.
            None => verdict::is_clean(exit, service),
        }
    }

    /// Resumes a service's probes after a snapshot.
    pub(super) fn resume_probes(&self, service: ServiceId) {
        self.probes_of(service).for_each(ProbeHandle::resume);
    }

    /// A reload removed a service. Its command ends, with all its descendants.
    pub(super) fn remove(&mut self, service: &Service, enricher: &Enricher) {
        let id = service.id;
        self.probes.remove(&id);
        self.prepared.remove(&id);
        self.inspector.remove(id);
        for watch in &mut self.unit_watches {
            watch.services.retain(|watched| *watched != id);
        }
        self.unit_watches.retain(|watch| !watch.services.is_empty());
        if let Some(process) = self.supervised.remove(&id) {
            let descendants = descendants(id, &process, enricher);
            let stop_timeout = service.exec().map_or(Duration::ZERO, |exec| exec.stop_timeout);
            self.end_command(service.name.clone(), process, descendants, stop_timeout);
        }
    }

    /// Samples the resource usage of services with limits, when that is due.
    pub(super) fn sample_usage(&mut self, config: &Config, enricher: &Enricher) {
        self.usage.sample(config, enricher, &self.answers);
        self.inspector.memory.sample();
    }

    pub(super) fn sample_host(&mut self, config: &Config, enricher: &Enricher, last_run: Option<LastRun>) {
        let touch = move || last_run.iter().for_each(LastRun::touch);
        self.host.sample(config, enricher, &self.answers, touch);
    }

    /// Stops the processes that the supervisor started, or leaves them to the next daemon, and delivers the last alerts.
    pub(super) async fn stop(&mut self, config: &Config, enricher: &Enricher) {
        self.probes.clear();
        self.end_commands(config, enricher).await;
        if let Some(alerter) = self.alerter.take() {
            let waiting = alerter.shutdown(LAST_ALERTS).await;
            if waiting > 0 {
                tracing::warn!(
                    "hostprobe: {waiting} alerts were not delivered before the stop; its next run delivers them, if it has \
                     a state directory"
                );
            }
        }
        if let Some(store) = self.store.take() {
            store.shutdown(LAST_STATE);
        }
    }
}

/// The descendants of a command that has no cgroup.
fn descendants(service: ServiceId, process: &SupervisedProcess, enricher: &Enricher) -> Vec<u32> {
    if process.cgroup().is_some() { Vec::new() } else { enricher.descendants_of(service) }
}

/// The end of a command whose service a reload removed.
pub(super) struct Removal {
    stop_timeout: Duration,
    /// Closed once it has ended.
    ended: oneshot::Receiver<()>,
}

/// The services that have a unit.
pub(super) fn units<'s>(services: impl IntoIterator<Item = &'s Service>) -> Vec<(ServiceId, String)> {
    let unit = |service: &Service| match &service.identity {
        Identity::Unit(unit) => Some((service.id, unit.clone())),
        Identity::Exec(_) | Identity::Match(_) | Identity::Container(_) | Identity::Remote => None,
    };
    services.into_iter().filter_map(unit).collect()
}

/// A subscription to the changes of units. Dropping it ends it.
pub(super) struct UnitWatch {
    services: Vec<ServiceId>,
    task: AbortHandle,
}

impl Drop for UnitWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the state file has it.
async fn done(kept: Option<Awaited>) {
    if let Some(kept) = kept {
        kept.done().await;
    }
}

#[cfg(test)]
mod tests;
