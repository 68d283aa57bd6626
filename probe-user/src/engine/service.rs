//! One service: what is known of it, and what is being done about it.

mod alive;
mod death;
mod dependency;
mod fault;
mod holder;
mod incident;
mod limits;
mod listener;
mod probes;
mod restart;
mod state;
mod systemd;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use alive::{Pending, Trouble};
pub(super) use dependency::Standing;
use fault::Fault;
use incident::Open;
use limits::Breaches;
use listener::LISTENER_GONE;
use probes::ProbeState;
use systemd::Inspection;
use worker::DeadWorker;

use super::{
    Effect, Outbox, Turn, Work,
    budget::Budget,
    verdict::{Finding, Remedy},
};
use crate::fact::Observation;
use crate::{
    clock::Timestamp,
    config::{self, Identity, Limits, Policy, RestartPolicy},
    fact::{
        EventId, Examination, Holder, OomKill, ProcessKey, RestartMethod, ServiceId, ServiceState, Source,
        Suspension, UnitState, Verdict,
    },
};

/// One that ends with an error sooner than this after its start may not have got its port.
const YOUNG: Duration = Duration::from_secs(10);

/// What the engine is waiting for.
#[derive(Debug)]
enum Step {
    /// Nothing.
    Idle,
    /// systemd's word on what became of the unit.
    Inspect(Box<Inspection>),
    /// The end of the back-off.
    Backoff { until: Timestamp },
    /// The restart that was asked for, and the main process that comes of it.
    Restarting {
        /// It is given up on then.
        until: Timestamp,
        /// It was carried out; only the main process is missing.
        confirmed: bool,
    },
    /// A process that takes the place of a main one that ended well.
    Succession { until: Timestamp, fault: Box<Fault> },
    /// systemd's own restart.
    TheirRestart { until: Timestamp },
    /// What the service does while a row of failures counts.
    Examine { until: Timestamp, pending: Pending },
    /// What can be seen of its processes before they are ended, to be written down.
    Snapshot { until: Timestamp },
    /// The name of the process that has its port.
    FindPortHolder { until: Timestamp, fault: Box<Fault> },
    /// The service to prove well.
    Verify,
    /// The end of the long back-off.
    GivenUp { until: Timestamp },
}

/// A service as the engine knows it.
#[derive(Debug)]
pub(super) struct Service {
    id: ServiceId,
    method: RestartMethod,
    is_unit: bool,
    is_remote: bool,
    critical: bool,
    policy: RestartPolicy,
    /// It would be restarted, were the daemon not told to observe only.
    observed: bool,
    limits: Limits,
    budget: Budget,
    state: ServiceState,
    main: Option<ProcessKey>,
    /// When it was last (re)started, as far as is known.
    started: Timestamp,
    /// Until then, failed probes do not count.
    grace_until: Timestamp,
    probes: Vec<ProbeState>,
    /// Sockets that listen, by port.
    listeners: BTreeMap<u16, u32>,
    /// The ports it is expected to listen on: of its probes and its matcher. Others come and go as it likes.
    ports: BTreeSet<u16>,
    /// A listener it needs is gone since then.
    lost_listener: Option<(Timestamp, EventId, u16, Source)>,
    /// OOM kills whose exits are yet to come.
    ooms: VecDeque<(OomKill, EventId)>,
    /// The unit as last read.
    unit: Option<UnitState>,
    /// The unit's invocation that the main process belongs to.
    invocation: Option<String>,
    /// systemd has given up on the unit: without a reset it refuses every start.
    needs_reset: bool,
    /// hostprobe has cleared its failed state, which makes it look stopped.
    was_reset: bool,
    /// When its state had last changed as it was judged: a later change is somebody else's.
    judged_state: Option<Timestamp>,
    /// Something else starts it, and it is found.
    is_matched: bool,
    /// Without probes: when it has run for long enough to count as well.
    settles_at: Option<Timestamp>,
    /// A restart would not mend what is open now.
    beyond_restart: bool,
    /// What to do about failures that a restart may not be the answer to.
    response: Policy,
    /// Since when it has not been well, if it is not.
    unwell_since: Option<Timestamp>,
    /// What it depended on is well again: until then it may heal by itself.
    healing_until: Option<Timestamp>,
    /// An examination was asked for then, and is not answered yet.
    examined_at: Option<Timestamp>,
    /// The latest examination since its probes began to fail.
    examination: Option<Examination>,
    /// When it is to be looked at again, as long as it is stopped.
    look_at: Option<Timestamp>,
    /// The signal that stopped its main process.
    suspended: Option<(Suspension, EventId)>,
    /// Its connections to other hosts fail.
    trouble: Option<Trouble>,
    /// Workers that have just died.
    dead_worker: Option<DeadWorker>,
    /// How many have, since it was last well.
    dead_workers: u32,
    /// When the latest did.
    worker_died_at: Option<Timestamp>,
    /// When they count as well again, after several have died in a row.
    quiet_at: Option<Timestamp>,
    /// Who holds its connections, by its own word.
    holders: Vec<Holder>,
    /// Somebody else has its port.
    port_taken: bool,
    /// When it was started, by whomever.
    starts: VecDeque<Timestamp>,
    /// What is above its limit.
    breaches: Breaches,
    step: Step,
    incident: Option<Open>,
}

impl Service {
    pub(super) fn new(id: ServiceId, spec: &config::Service, observe: bool, now: Timestamp) -> Self {
        let method = match &spec.identity {
            Identity::Unit(_) => RestartMethod::Systemd,
            Identity::Exec(_) => RestartMethod::Supervisor,
            Identity::Match(_) if spec.restart.command.is_some() => RestartMethod::Command,
            Identity::Match(_) | Identity::Remote => RestartMethod::None,
        };
        let mut policy = spec.restart.clone();
        policy.enabled &= !observe;
        let ports = spec.local_ports();
        Self {
            id,
            method,
            is_unit: matches!(spec.identity, Identity::Unit(_)),
            is_remote: spec.identity == Identity::Remote,
            critical: spec.critical,
            budget: Budget::new(&policy),
            observed: observe && spec.restart.enabled,
            limits: spec.limits,
            state: ServiceState::Starting,
            main: None,
            started: now,
            grace_until: now,
            probes: spec.probes.iter().map(ProbeState::new).collect(),
            listeners: BTreeMap::new(),
            ports,
            lost_listener: None,
            ooms: VecDeque::new(),
            unit: None,
            invocation: None,
            needs_reset: false,
            was_reset: false,
            judged_state: None,
            is_matched: matches!(spec.identity, Identity::Match(_)),
            settles_at: None,
            beyond_restart: false,
            response: spec.policy,
            unwell_since: None,
            healing_until: None,
            examined_at: None,
            examination: None,
            look_at: None,
            suspended: None,
            trouble: None,
            dead_worker: None,
            dead_workers: 0,
            worker_died_at: None,
            quiet_at: None,
            holders: Vec::new(),
            port_taken: false,
            starts: VecDeque::new(),
            breaches: Breaches::default(),
            step: Step::Idle,
            incident: None,
            policy,
        }
    }

    pub(super) fn id(&self) -> ServiceId {
        self.id
    }

    /// Does one piece of work.
    pub(super) fn work<O: Outbox>(&mut self, work: Work, turn: &mut Turn<'_, O>) {
        match work {
            Work::Observe(observation) => self.observe(*observation, turn),
            Work::Due => self.due(turn),
            Work::DependencyChanged => self.dependency_changed(turn),
            Work::Holds(held) => self.holds(held, turn),
            Work::HoldsTooMuch(of, why) => self.holds_too_much(of, why, turn),
        }
        self.settle(turn);
    }

    fn observe<O: Outbox>(&mut self, observation: Observation, turn: &mut Turn<'_, O>) {
        match observation {
            Observation::Running(_, main) => self.running(main, turn),
            Observation::Listening(_, ports) => self.listening(ports),
            Observation::Exit(exit, member, event) => self.exited(exit, member.main, event, turn),
            Observation::OomKill(kill, _, event) => self.oom_killed(kill, event),
            Observation::Listener(listener, _, event) => self.listener(&listener, event, turn),
            Observation::Probe(report) => self.probed(report, turn),
            Observation::Unit(_, state) => self.unit(state, turn),
            Observation::UnitUnknown(_, error) => self.unit_unknown(&error, turn),
            Observation::Restarted(_, outcome) => self.restarted(outcome, turn),
            Observation::Usage(_, usage) => self.used(usage, turn),
            Observation::SocketError(error, _, event) => self.socket_error(&error, event),
            Observation::Retransmits(retransmits, _, event) => self.retransmits(&retransmits, event),
            Observation::AcceptQueue(queue, ..) => self.queue_is_full(&queue, turn),
            Observation::Suspended(stop, _, event) => self.suspended(stop, event, turn),
            Observation::Examined(_, found) => self.examined(found, turn),
            Observation::Snapshot(_, outcome) => self.snapshot_taken(outcome, turn),
            Observation::PortHolder(_, holder) => self.port_holder(holder.as_ref(), turn),
            Observation::Holders(_, holders) => self.found_holders(holders, turn),
            // These concern all services, and the engine takes them in itself.
            Observation::Connected { .. } | Observation::Pressure(_) | Observation::ConnectionsUnseen => {}
        }
    }

    /// A main process was found running.
    pub(super) fn running<O: Outbox>(&mut self, main: ProcessKey, turn: &mut Turn<'_, O>) {
        if self.main == Some(main) {
            return;
        }
        let first = self.starts.is_empty() && self.incident.is_none();
        self.main = Some(main);
        self.is_another_process();
        if !matches!(self.step, Step::Restarting { .. }) {
            self.count_start(turn.now);
        }
        self.begin_anew(turn.now);
        if first && main.start < turn.now && turn.now.since(main.start) > self.policy.grace {
            // It has been up since long before the daemon looked: no grace is due.
            self.grace_until = turn.now;
        }
        let theirs = !matches!(self.step, Step::Restarting { .. } | Step::Succession { .. });
        if theirs && self.is_unit && self.incident.is_some() {
            self.budget.spend(turn.now);
        }
        self.was_reset = false;
        self.step = if self.incident.is_some() { Step::Verify } else { Step::Idle };
        turn.act(Effect::ProbeUntilWell(self.id));
    }

    /// What was known of the process that was says nothing of another one.
    fn is_another_process(&mut self) {
        self.lost_listener = None;
        self.examined_at = None;
        self.examination = None;
        self.suspended = None;
        self.look_at = None;
        self.dead_worker = None;
        self.quiet_at = None;
        self.breaches = Breaches::default();
    }

    /// Counters and grace start afresh, as after every start.
    fn begin_anew(&mut self, now: Timestamp) {
        self.started = now;
        self.grace_until = now.plus(self.policy.grace);
        self.settles_at = self.probes.is_empty().then(|| now.plus(self.settling()));
        for probe in &mut self.probes {
            probe.begin_anew(now);
        }
    }

    /// When something is due for it.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let step = match &self.step {
            Step::Idle => None,
            Step::Inspect(inspection) => inspection.again_at,
            Step::Backoff { until }
            | Step::Restarting { until, .. }
            | Step::Succession { until, .. }
            | Step::TheirRestart { until }
            | Step::Examine { until, .. }
            | Step::Snapshot { until }
            | Step::FindPortHolder { until, .. }
            | Step::GivenUp { until } => Some(*until),
            Step::Verify => None,
        };
        let open = self.incident.as_ref();
        let settles = open.and(self.settles_at);
        let quiet = open.and(self.quiet_at);
        let alert = open.and_then(|open| open.alert_at);
        let lost = self.lost_listener.map(|(since, ..)| since.plus(LISTENER_GONE));
        let worker = self.dead_worker.as_ref().map(|worker| worker.until);
        let others = [settles, quiet, alert, lost, worker, self.healing_until, self.look_at];
        others.into_iter().chain([step]).flatten().min()
    }

    /// Does what is due.
    pub(super) fn due<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.alert_if_due(turn);
        if self.lost_listener.is_some_and(|(since, ..)| since.plus(LISTENER_GONE) <= turn.now) {
            return self.listener_is_lost(turn);
        }
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= turn.now);
        if is_due(self.settles_at) {
            self.settles_at = None;
        }
        if is_due(self.quiet_at) {
            self.quiet_at = None;
        }
        if is_due(self.dead_worker.as_ref().map(|worker| worker.until)) {
            return self.worker_is_dead(turn);
        }
        if is_due(self.healing_until) {
            return self.has_not_healed(turn);
        }
        if is_due(self.look_at) {
            self.look_at = None;
            return self.examine(Examination::OVER, None, turn);
        }
        match &self.step {
            Step::Inspect(inspection) if inspection.again_at.is_some_and(|at| at <= turn.now) => {
                self.inspect_again(turn);
            }
            Step::Backoff { until } | Step::GivenUp { until } if *until <= turn.now => self.retry(turn),
            Step::Succession { until, fault } if *until <= turn.now => {
                let fault = Fault::clone(fault);
                self.step = Step::Idle;
                self.fail(fault, turn);
            }
            Step::Restarting { until, .. } if *until <= turn.now => {
                self.step = Step::Idle;
                let summary = "no main process came of the restart".to_owned();
                let finding = Finding { verdict: Verdict::Exited, confidence: 0.8, summary };
                let fault = Fault::now(turn.now, finding);
                self.fail(fault, turn);
            }
            Step::TheirRestart { until } if *until <= turn.now => self.their_restart_failed(turn),
            Step::Examine { until, .. } if *until <= turn.now => self.examined(None, turn),
            Step::FindPortHolder { until, .. } if *until <= turn.now => self.port_holder(None, turn),
            Step::Snapshot { until } if *until <= turn.now => {
                self.snapshot_taken(Err("it took too long".to_owned()), turn);
            }
            Step::Idle
            | Step::Inspect(_)
            | Step::Backoff { .. }
            | Step::Restarting { .. }
            | Step::Succession { .. }
            | Step::TheirRestart { .. }
            | Step::Examine { .. }
            | Step::Snapshot { .. }
            | Step::FindPortHolder { .. }
            | Step::Verify
            | Step::GivenUp { .. } => {}
        }
    }
}
