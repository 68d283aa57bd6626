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
use fault::Fault;
use incident::Open;
use limits::Breaches;
use listener::LISTENER_GONE;
use probes::ProbeState;
use systemd::Inspection;
use worker::DeadWorker;

use super::{
    budget::Budget,
    ctx::{Ctx, Input},
    effect::{Effect, Effects},
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
enum RecoveryState {
    /// Nothing.
    Idle,
    /// systemd's word on what became of the unit.
    Inspecting(Box<Inspection>),
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
    AwaitingSuccessor { until: Timestamp, fault: Box<Fault> },
    /// systemd's own restart.
    SystemdRestarting { until: Timestamp },
    /// What the service does while a row of failures counts.
    Examining { until: Timestamp, pending: Pending },
    /// What can be seen of its processes before they are ended, to be written down.
    Snapshotting { until: Timestamp },
    /// The name of the process that has its port.
    FindingPortHolder { until: Timestamp, fault: Box<Fault> },
    /// The service to prove well.
    Verifying,
    /// The end of the long back-off.
    CrashLoopBackoff { until: Timestamp },
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
    recovery: RecoveryState,
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
            recovery: RecoveryState::Idle,
            incident: None,
            policy,
        }
    }

    pub(super) fn id(&self) -> ServiceId {
        self.id
    }

    /// Does one piece of work.
    pub(super) fn handle<E: Effects>(&mut self, input: Input, ctx: &mut Ctx<'_, E>) {
        match input {
            Input::Observation(observation) => self.observe(*observation, ctx),
            Input::Due => self.due(ctx),
            Input::DependencyChanged => self.dependency_changed(ctx),
            Input::DependentHeld(held) => self.holds(held, ctx),
            Input::ExhaustsPool(of, why) => self.holds_too_much(of, why, ctx),
        }
        self.settle(ctx);
    }

    fn observe<E: Effects>(&mut self, observation: Observation, ctx: &mut Ctx<'_, E>) {
        match observation {
            Observation::Running(_, main) => self.running(main, ctx),
            Observation::Listening(_, ports) => self.listening(ports),
            Observation::Exit(exit, member, event) => self.exited(exit, member.main, event, ctx),
            Observation::OomKill(kill, _, event) => self.oom_killed(kill, event),
            Observation::Listener(listener, _, event) => self.listener(&listener, event, ctx),
            Observation::Probe(report) => self.probed(report, ctx),
            Observation::Unit(_, state) => self.unit(state, ctx),
            Observation::UnitUnknown(_, error) => self.unit_unknown(&error, ctx),
            Observation::Restarted(_, outcome) => self.restarted(outcome, ctx),
            Observation::Usage(_, usage) => self.used(usage, ctx),
            Observation::SocketError(error, _, event) => self.socket_error(&error, event),
            Observation::Retransmits(retransmits, _, event) => self.retransmits(&retransmits, event),
            Observation::AcceptQueue(queue, ..) => self.queue_is_full(&queue, ctx),
            Observation::Suspended(stop, _, event) => self.suspended(stop, event, ctx),
            Observation::Examined(_, found) => self.examined(found, ctx),
            Observation::Snapshot(_, outcome) => self.snapshot_taken(outcome, ctx),
            Observation::PortHolder(_, holder) => self.port_holder(holder.as_ref(), ctx),
            Observation::Holders(_, holders) => self.found_holders(holders, ctx),
            // These concern all services, and the engine takes them in itself.
            Observation::Connected { .. } | Observation::Pressure(_) | Observation::ConnectionsUnseen => {}
        }
    }

    /// A main process was found running.
    pub(super) fn running<E: Effects>(&mut self, main: ProcessKey, ctx: &mut Ctx<'_, E>) {
        if self.main == Some(main) {
            return;
        }
        let first = self.starts.is_empty() && self.incident.is_none();
        self.main = Some(main);
        self.is_another_process();
        if !matches!(self.recovery, RecoveryState::Restarting { .. }) {
            self.count_start(ctx.now);
        }
        self.begin_anew(ctx.now);
        if first && main.start < ctx.now && ctx.now.since(main.start) > self.policy.grace {
            // It has been up since long before the daemon looked: no grace is due.
            self.grace_until = ctx.now;
        }
        let theirs = !matches!(
            self.recovery,
            RecoveryState::Restarting { .. } | RecoveryState::AwaitingSuccessor { .. }
        );
        if theirs && self.is_unit && self.incident.is_some() {
            self.budget.spend(ctx.now);
        }
        self.was_reset = false;
        self.recovery = if self.incident.is_some() { RecoveryState::Verifying } else { RecoveryState::Idle };
        ctx.request(Effect::ProbeUntilHealthy(self.id));
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
        let step = match &self.recovery {
            RecoveryState::Idle => None,
            RecoveryState::Inspecting(inspection) => inspection.again_at,
            RecoveryState::Backoff { until }
            | RecoveryState::Restarting { until, .. }
            | RecoveryState::AwaitingSuccessor { until, .. }
            | RecoveryState::SystemdRestarting { until }
            | RecoveryState::Examining { until, .. }
            | RecoveryState::Snapshotting { until }
            | RecoveryState::FindingPortHolder { until, .. }
            | RecoveryState::CrashLoopBackoff { until } => Some(*until),
            RecoveryState::Verifying => None,
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
    pub(super) fn due<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.alert_if_due(ctx);
        if self.lost_listener.is_some_and(|(since, ..)| since.plus(LISTENER_GONE) <= ctx.now) {
            return self.listener_is_lost(ctx);
        }
        let is_due = |at: Option<Timestamp>| at.is_some_and(|at| at <= ctx.now);
        if is_due(self.settles_at) {
            self.settles_at = None;
        }
        if is_due(self.quiet_at) {
            self.quiet_at = None;
        }
        if is_due(self.dead_worker.as_ref().map(|worker| worker.until)) {
            return self.worker_is_dead(ctx);
        }
        if is_due(self.healing_until) {
            return self.has_not_healed(ctx);
        }
        if is_due(self.look_at) {
            self.look_at = None;
            return self.examine(Examination::OVER, None, ctx);
        }
        match &self.recovery {
            RecoveryState::Inspecting(inspection) if inspection.again_at.is_some_and(|at| at <= ctx.now) => {
                self.inspect_again(ctx);
            }
            RecoveryState::Backoff { until } | RecoveryState::CrashLoopBackoff { until }
                if *until <= ctx.now =>
            {
                self.retry(ctx)
            }
            RecoveryState::AwaitingSuccessor { until, fault } if *until <= ctx.now => {
                let fault = Fault::clone(fault);
                self.recovery = RecoveryState::Idle;
                self.fail(fault, ctx);
            }
            RecoveryState::Restarting { until, .. } if *until <= ctx.now => {
                self.recovery = RecoveryState::Idle;
                let summary = "no main process came of the restart".to_owned();
                let finding = Finding { verdict: Verdict::Exited, confidence: 0.8, summary };
                let fault = Fault::now(ctx.now, finding);
                self.fail(fault, ctx);
            }
            RecoveryState::SystemdRestarting { until } if *until <= ctx.now => self.their_restart_failed(ctx),
            RecoveryState::Examining { until, .. } if *until <= ctx.now => self.examined(None, ctx),
            RecoveryState::FindingPortHolder { until, .. } if *until <= ctx.now => {
                self.port_holder(None, ctx)
            }
            RecoveryState::Snapshotting { until } if *until <= ctx.now => {
                self.snapshot_taken(Err("it took too long".to_owned()), ctx);
            }
            RecoveryState::Idle
            | RecoveryState::Inspecting(_)
            | RecoveryState::Backoff { .. }
            | RecoveryState::Restarting { .. }
            | RecoveryState::AwaitingSuccessor { .. }
            | RecoveryState::SystemdRestarting { .. }
            | RecoveryState::Examining { .. }
            | RecoveryState::Snapshotting { .. }
            | RecoveryState::FindingPortHolder { .. }
            | RecoveryState::Verifying
            | RecoveryState::CrashLoopBackoff { .. } => {}
        }
    }
}
