//! The daemon: every layer, and the way from one to the next.

mod containers;
mod drill;
mod drill_report;
mod drill_state;
mod drill_timeline;
pub(crate) mod executor;
mod fleet;
mod hooks;
mod ingest;
mod last_actions;
mod losses;
mod maintenance;
mod missed_exits;
mod next_config;
mod operator;
mod operator_log;
mod operator_wait;
mod publisher;
mod reboot;
mod reload;
mod reload_state;
mod rollups;
mod search;
mod sockets;
mod start;
mod stop;
mod supervise;
mod tables;
mod watching;
mod windows;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::process::notify::Notifier;
use drill_state::RunningDrill;
use executor::{Executor, Outcome};
use missed_exits::MissedExits;
use operator_wait::{OperatorAnswer, OperatorWait};
use publisher::Publisher;
use reload_state::ReloadState;
use search::Search;
use sockets::state::Sockets;
pub use start::{Inbox, RunError, RunOptions};
use tokio::time::{Instant, sleep_until};
use windows::OpenWindows;

use crate::{
    act::supervisor::{LostLines, SupervisorReport},
    clock::Timestamp,
    config::Config,
    emit::Origin,
    engine::{Effect, Engine},
    enrich::Enricher,
    fact::{
        AlertOutcome, ExitStatus, Fact, Holder, Membership, Observation, Peer, PortHolder, ProbeOutcome,
        ProbeReport, ProcessExit, ServiceId, Source, UnitState,
    },
    host::Awaited,
    inspect::answer::Answer,
    probe::Silence,
    sensor::{Sensors, record::Record},
    store::{directory::StateDirectory, last_run::LastRun},
};

/// With nothing due, the engine is not asked again for this long.
const IDLE: Duration = Duration::from_secs(3600);

pub struct Daemon {
    config: Arc<Config>,
    sensors: Sensors,
    /// Records that are not handled yet; kept for its room.
    records: Vec<Record>,
    /// Exits of supervised commands whose start the supervisor has not reported yet.
    early: HashMap<ServiceId, ProcessExit>,
    enricher: Enricher,
    engine: Engine,
    publisher: Publisher,
    executor: Executor,
    search: Search,
    sockets: Sockets,
    missed_exits: MissedExits,
    /// When the sensors were attached.
    began: Timestamp,
    /// When the tables were measured the last time.
    measured: Timestamp,
    stopping: bool,
    /// `--observe`: the daemon changes nothing on the host.
    only_observes: bool,
    reloads: ReloadState,
    /// The daemon has kept the rights that the start of programs takes.
    may_start_programs: bool,
    operator_waits: Vec<OperatorWait>,
    /// The operators whose orders were carried out, each with what to answer.
    unanswered: Vec<(OperatorAnswer, String)>,
    windows: OpenWindows,
    /// The drill that is under way.
    drill: Option<RunningDrill>,
    /// The services that an earlier daemon was about to restart when it was killed.
    restarting: BTreeSet<ServiceId>,
    /// How many drills this run has begun.
    drills: u64,
    /// Where a drill keeps what is to be undone; None without a state directory.
    drill_directory: Option<PathBuf>,
    /// How often what runs before a restart was started.
    preparations: u64,
    notifier: Notifier,
    /// None without a state directory.
    last_run: Option<LastRun>,
    origin: Origin,
    /// Keeps other daemons off the state directory. None without one.
    _directory: Option<StateDirectory>,
}

impl Daemon {
    /// Waits until the sensors have something urgent to report.
    pub async fn sensors_readable(&mut self) {
        if let Err(error) = self.sensors.readable().await {
            tracing::error!(%error, "sensors: cannot wait for records; they are read every second");
            std::future::pending().await
        }
    }

    /// A future that ends when the engine is due.
    pub fn due(&self) -> impl Future<Output = ()> + use<> {
        let now = Timestamp::now();
        let wait = self.engine.deadline().map_or(IDLE, |due| due.since(now));
        sleep_until(Instant::now() + wait)
    }

    /// A future that ends when events that were held may be written.
    pub fn held_events(&self) -> impl Future<Output = ()> + use<> {
        self.publisher.held()
    }

    pub fn release_events(&mut self) {
        self.update_views();
        self.publisher.release();
    }

    /// Lets the engine do what is due.
    pub fn tick(&mut self) {
        let now = Timestamp::now();
        if self.engine.deadline().is_some_and(|due| due <= now) {
            self.publisher.record_tick(now);
            self.engine.tick(now, &mut self.publisher);
        }
    }

    /// Executes the effects that the engine requested, and updates the views.
    pub fn execute_effects(&mut self) {
        let mut restarts = false;
        loop {
            let effects = self.publisher.take_effects();
            restarts |= effects.iter().any(|effect| matches!(effect, Effect::Restart { .. }));
            self.publisher.on_effects(&effects, &self.config);
            self.publisher.release_after(self.executor.keep(
                &effects,
                &self.config,
                self.publisher.last_actions(),
            ));
            if effects.is_empty() {
                break;
            }
            effects.into_iter().for_each(|effect| self.execute(effect));
        }
        self.answer_operators();
        self.check_drill();
        // A restart that waits for the state file needs the processor more. The views follow with the events, or with the next
        // turn, which is that of its outcome at the latest.
        if restarts && self.publisher.awaits_state() {
            self.publisher.await_start();
        } else {
            self.update_views();
        }
    }

    /// Does what follows from a turn of the loop and is not urgent.
    fn update_views(&mut self) {
        self.publisher.write_logs();
        self.publisher.flush_state();
        self.read_connections();
        self.publisher.update_changed_views(&self.engine, &self.config);
    }

    fn execute(&mut self, effect: Effect) {
        let adopts =
            if let Effect::Adopt { service, process } = &effect { Some((*service, *process)) } else { None };
        if self.concerns_drill(&effect) || self.waits_for_hooks(&effect) {
            return;
        }
        self.executor.execute(effect, &self.config, &self.enricher);
        if let Some((service, process)) = adopts {
            self.adopt(service, process);
        }
    }

    /// Notifies the service manager's watchdog that the loop runs.
    pub fn notify_watchdog(&mut self) {
        self.notifier.notify_watchdog(Timestamp::now());
    }

    /// Handles the state of a unit, or the reason that it is unknown.
    pub fn on_unit(&mut self, service: ServiceId, state: Result<UnitState, String>) {
        if !self.is_watched(service) {
            return;
        }
        match state {
            Ok(mut state) => {
                // Records that the sensors have by now came first.
                self.drain_sensors();
                let known = self.enricher.members.main_of(service);
                // The cgroup comes first: it decides to which service a process belongs.
                if let Some(id) = state.cgroup_id {
                    self.set_cgroup(service, id);
                }
                // The process may have ended since systemd named it. If it was known before, the sensors report its exit.
                if let Some(main) = state.main {
                    let (is_known, ends) = (known == Some(main), state.active == "deactivating");
                    if is_known && !ends {
                        self.set_main(service, known);
                    }
                    let runs = is_known
                        || if ends { self.enricher.lives(main) } else { self.take_for_main(service, main) };
                    state.main = Some(main).filter(|_| runs);
                }
                let main = state.main.filter(|main| known != Some(*main));
                self.note_container(service, &state);
                self.observe(Observation::Unit(service, state));
                if let Some(main) = main {
                    self.observe_listeners(service, main, &self.survey());
                }
            }
            Err(error) => self.observe(Observation::UnitUnknown(service, error)),
        }
    }

    pub fn on_supervisor_report(&mut self, report: SupervisorReport) {
        // The sensors' record of an exit has more detail than the supervisor's report, so it comes first.
        if let SupervisorReport::Ended(_, key, _) = &report {
            self.sensors.settle(key.pid);
        }
        self.drain_sensors();
        match report {
            // A reload removed it, and its end follows.
            SupervisorReport::Started(service, _) | SupervisorReport::Adopted(service, _)
                if !self.is_watched(service) => {}
            SupervisorReport::Adopted(service, command) => {
                self.executor.keep_command(self.config.name_of(service), Some(command));
            }
            SupervisorReport::Started(service, command) => {
                let key = command.process;
                self.executor.keep_command(self.config.name_of(service), Some(command));
                self.set_main(service, Some(key));
                self.observe(Observation::RestartOutcome(service, Ok(())));
                self.on_start(service, &Ok(()));
                self.observe(Observation::Running(service, key));
                if let Some(exit) = self.early.remove(&service) {
                    let main = exit.process.key == key;
                    self.on_process_exit(exit, Some(Membership { service, main }));
                }
            }
            SupervisorReport::Delayed(service, error) => {
                self.forget_command(service);
                self.observe(Observation::RestartDelayed(service, error.to_string()));
            }
            SupervisorReport::Failed(service, error) => {
                self.forget_command(service);
                // The error already explains a fork that could not execute the command.
                self.early.remove(&service);
                self.on_start(service, &Err(error.to_string()));
                self.observe(Observation::RestartOutcome(service, Err(error.to_string())));
            }
            SupervisorReport::Halted(service) => {
                self.forget_command(service);
                self.on_stopped(service, Ok(()));
            }
            SupervisorReport::OutputLost(service, LostLines { count, error }) => {
                let name = self.executor.names.service(service);
                tracing::warn!("{name}: {count} lines of its output were lost: {error}");
                let place = format!("the output of {name}");
                self.publisher
                    .publish(Fact::Loss { class: "output".to_owned(), count, place }, Timestamp::now());
            }
            SupervisorReport::Ended(service, key, status) => {
                self.forget_command(service);
                if self.enricher.members.main_of(service) == Some(key) {
                    let status = status.map_or(ExitStatus::Unknown, ExitStatus::from_wait_status);
                    let exit = self.enricher.ended(key, std::process::id(), status, Timestamp::now());
                    let exit = ProcessExit { source: Source::Supervisor, ..exit };
                    self.on_process_exit(exit, Some(Membership { service, main: true }));
                }
            }
        }
    }

    /// Handles the outcome of an effect.
    pub fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Restart(service, outcome) => {
                self.on_start(service, &outcome);
                self.observe(Observation::RestartOutcome(service, outcome));
                self.look_for(vec![service]);
            }
            Outcome::RestartDelayed(service, error) => {
                self.observe(Observation::RestartDelayed(service, error));
            }
            Outcome::Stop(service, outcome) => self.on_stopped(service, outcome),
            Outcome::Unit(service, state) => self.on_unit(service, state.map(|state| *state)),
            Outcome::Found(service, main) => {
                if let Some(main) = self.on_found(service, main) {
                    self.observe_listeners(service, main, &self.survey());
                }
            }
            Outcome::Connections(service, _) if !self.is_watched(service) => {}
            Outcome::Connections(service, connections) => self.on_connections(service, connections),
            Outcome::Reloaded(next) => self.on_reloaded(*next),
            Outcome::Prepared(service, number) => self.on_prepared(service, number),
            Outcome::DrillPrepared(preparation) => self.on_drill_prepared(*preparation),
            Outcome::FaultCaused(caused) => self.on_fault_caused(caused),
            Outcome::Fleet(report) => self.on_fleet(report),
            Outcome::Removed(name) => self.on_removed_command(&name),
            Outcome::Labels => self.reload(),
            Outcome::Systemd(systemd) => self.executor.set_systemd(systemd, &self.config),
        }
    }

    pub fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Host(readings) => readings.into_iter().for_each(|it| self.observe(Observation::Host(it))),
            Answer::WritesTo(service, writes) => self.observe(Observation::WritesTo(service, writes)),
            Answer::Usage(service, usage) => self.observe(Observation::Usage(service, usage)),
            Answer::Levels(service, levels) => self.observe(Observation::Levels(service, levels)),
            Answer::Examined(service, seen) => {
                self.observe(Observation::Examined(service, seen.map(|seen| *seen)))
            }
            Answer::Unanswered(unanswered, Some(seen)) if self.is_watched(unanswered.service) => {
                self.observe(Observation::Unanswered(*unanswered, *seen));
            }
            Answer::Unanswered(..) => {}
            Answer::Awaited(service, awaited) => {
                // Of a service that is watched, its own probes say whether it answers.
                let mut is_watched =
                    |it: &Awaited| matches!(self.enricher.peer(it.server, None), Peer::Service(_));
                let unwatched = awaited.filter(|it| !is_watched(it));
                self.executor.inspector.awaits(service, unwatched);
            }
            Answer::Snapshot(service, written) => {
                self.executor.resume_probes(service);
                self.observe(Observation::Snapshot(service, written));
            }
            Answer::Stacks(service, stacks) => self.observe(Observation::Stacks(service, stacks)),
            Answer::Context(service, context) => self.on_context(service, context),
            Answer::PortHolder(service, holder) => {
                let of = |pid| self.enricher.service_of(pid);
                let holder = holder.map(|holder| PortHolder { service: of(holder.pid), ..holder });
                self.observe(Observation::PortHolder(service, holder));
            }
            Answer::Listeners(service, port, Some(sockets)) => self.on_listeners(service, port, &sockets),
            // The engine does not wait for an answer for ever.
            Answer::Listeners(_, _, None) => {}
            Answer::Successor(service, found) => self.observe(Observation::Successor(service, found)),
            Answer::Holders(service, mut holders) => {
                self.name_services(&mut holders);
                self.observe(Observation::Holders(service, holders));
            }
            Answer::Probed(report) => {
                for report in self.executor.holders.ended(*report) {
                    self.observe_probe(report);
                }
            }
            Answer::FullElsewhere((elsewhere, full)) => {
                self.executor.queues.sampled_elsewhere(elsewhere);
                for (queue, service) in full {
                    if self.is_watched(service) {
                        self.on_full_queue(queue, service);
                    }
                }
            }
            Answer::QueueOwners(owners) => {
                self.executor.queues.searched(owners);
                self.publish_full_queues();
            }
        }
    }

    /// A service is silent while probes still wait for it.
    pub fn on_silence(&mut self, silence: Silence) {
        let service = silence.service();
        let Some(main) = self.enricher.members.main_of(service).filter(|_| self.is_watched(service)) else {
            return;
        };
        match silence {
            Silence::Twice(unanswered) => self.executor.inspector.examine_unanswered(unanswered, main),
            Silence::Whole(_) => self.executor.inspector.sample_early(service, main),
            Silence::Late(_) => self.executor.inspector.find_awaited(service, main),
        }
    }

    pub fn on_probe(&mut self, report: ProbeReport) {
        if !self.is_watched(report.service) {
            return;
        }
        self.publisher.probed(&report);
        if let Some(connections) = report.server.as_ref().and_then(|server| server.connections) {
            self.executor.usage.on_connections(report.service, connections);
        }
        if let Some(report) = self.executor.holders.take(report) {
            self.observe_probe(report);
        }
    }

    fn observe_probe(&mut self, mut report: ProbeReport) {
        if matches!(report.outcome, ProbeOutcome::Failed(..)) {
            // The exit of a server that resets its connections came first. A success says nothing of an end.
            self.drain_sensors();
        }
        if let Some(server) = &mut report.server {
            self.name_services(&mut server.holders);
        }
        self.observe(Observation::Probe(report));
    }

    /// Fills in the services that the processes behind connections belong to.
    fn name_services(&self, holders: &mut [Holder]) {
        for holder in holders.iter_mut().filter(|holder| holder.service.is_none()) {
            let pid = holder.process.as_ref().map(|(pid, _)| *pid);
            holder.service = pid.and_then(|pid| self.enricher.service_of(pid));
        }
    }

    /// Publishes the full listeners of services, and lets the engine observe each.
    fn publish_full_queues(&mut self) {
        for (queue, service) in self.executor.queues.found() {
            self.on_full_queue(queue, service);
        }
    }

    pub fn on_alert(&mut self, outcome: AlertOutcome) {
        self.publisher.publish(Fact::Alert(outcome), Timestamp::now());
    }

    /// The work of every second: records that wake no task, losses, and searches.
    pub fn every_second(&mut self) {
        self.executor.heartbeat.beat();
        self.drain_sensors();
        self.check_sensors();
        self.sum_up_sockets();
        self.publish_losses();
        self.report_missed_exits();
        self.check_maintenance();
        self.look_for(self.search.due(Timestamp::now()));
        if let Some(orphans) = &mut self.executor.orphans {
            orphans.reap();
        }
        self.executor.sample_usage(&self.config, &self.enricher);
        self.executor.sample_host(&self.config, &self.enricher, self.last_run.clone());
        self.executor.queues.sample(self.enricher.members.mains());
        self.publish_full_queues();
        if let Some(pressure) = self.executor.pressure.read() {
            self.observe(Observation::Pressure(pressure));
        }
        self.publisher.every_second(
            Timestamp::now(),
            &self.engine,
            &self.config,
            &self.executor.alerts_waiting(),
            self.executor.heartbeat.counts(),
        );
        self.notifier.status(|| self.publisher.status_line());
        self.measure_tables();
    }

    fn observe(&mut self, observation: Observation) {
        // What was under way for a service that a reload removed comes too late.
        let is_late = observation.service().is_some_and(|service| !self.is_watched(service))
            && !matches!(observation, Observation::Remembered(..));
        if !self.stopping && !is_late {
            let now = Timestamp::now();
            self.publisher.record(&observation, now);
            self.engine.observe(now, observation, &mut self.publisher);
        }
    }
}

#[cfg(test)]
mod tests;
