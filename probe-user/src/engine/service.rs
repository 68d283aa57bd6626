//! One service: what is known of it, and what is being done about it.

mod incident;
mod listener;
mod probes;
mod restart;
mod state;
mod systemd;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use incident::Open;
use listener::LISTENER_GONE;
use probes::ProbeState;
use systemd::Inspection;

use super::{
    Effect, Outbox, Turn,
    budget::Budget,
    verdict::{self, Finding},
};
use crate::{
    clock::Timestamp,
    config::{self, Identity, Limits, RestartPolicy},
    fact::{
        EventId, ExitStatus, OomKill, ProcessExit, ProcessKey, RestartMethod, ServiceId, ServiceState,
        UnitState, Verdict,
    },
};

/// How long a successor of a main process that ended well may take to be found.
const SUCCESSION: Duration = Duration::from_millis(250);

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
    lost_listener: Option<(Timestamp, EventId, u16)>,
    oom: Option<(OomKill, EventId)>,
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
    /// When it was started, by whomever.
    starts: VecDeque<Timestamp>,
    /// What is above its limit, in words.
    breaches: Vec<String>,
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
            oom: None,
            unit: None,
            invocation: None,
            needs_reset: false,
            was_reset: false,
            judged_state: None,
            is_matched: matches!(spec.identity, Identity::Match(_)),
            settles_at: None,
            beyond_restart: false,
            starts: VecDeque::new(),
            breaches: Vec::new(),
            step: Step::Idle,
            incident: None,
            policy,
        }
    }

    /// A main process was found running.
    pub(super) fn running<O: Outbox>(&mut self, main: ProcessKey, turn: &mut Turn<'_, O>) {
        if self.main == Some(main) {
            return;
        }
        let first = self.starts.is_empty() && self.incident.is_none();
        self.main = Some(main);
        self.lost_listener = None;
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

    /// Counters and grace start afresh, as after every start.
    fn begin_anew(&mut self, now: Timestamp) {
        self.started = now;
        self.grace_until = now.plus(self.policy.grace);
        self.settles_at = self.probes.is_empty().then(|| now.plus(self.settling()));
        for probe in &mut self.probes {
            probe.begin_anew(now);
        }
    }

    /// A process of the service ended.
    pub(super) fn exited<O: Outbox>(
        &mut self,
        exit: ProcessExit,
        main: bool,
        event: EventId,
        turn: &mut Turn<'_, O>,
    ) {
        if !main || self.main != Some(exit.process.key) {
            return;
        }
        self.main = None;
        self.lost_listener = None;
        self.listeners.clear();
        if matches!(self.step, Step::Restarting { .. }) {
            // It ends because it is being restarted.
            return;
        }
        let oom = self.oom.take().filter(|(kill, _)| kill.victim.key.pid == exit.process.key.pid);
        let finding = verdict::of_exit(&exit, oom.as_ref().map(|(kill, _)| kill));
        let mut evidence = vec![event];
        evidence.extend(oom.map(|(_, event)| event));
        let fault = Fault { since: exit.at, detected: turn.now, finding, evidence, may_help: true };
        if self.is_unit {
            self.inspect(fault, Some(exit), turn);
        } else if self.is_matched && exit.status == ExitStatus::Code(0) {
            // A daemon that forks itself away, or an upgrade in place: its successor is being looked for.
            let until = turn.now.plus(SUCCESSION);
            self.step = Step::Succession { until, fault: Box::new(fault) };
        } else {
            self.fail(fault, turn);
        }
    }

    /// The OOM killer chose one of its processes; the exit that follows is explained by it.
    pub(super) fn oom_killed(&mut self, kill: OomKill, event: EventId) {
        self.oom = Some((kill, event));
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
            | Step::GivenUp { until } => Some(*until),
            Step::Verify => self.settles_at,
        };
        let alert = self.incident.as_ref().and_then(|open| open.alert_at);
        let lost = self.lost_listener.map(|(since, ..)| since.plus(LISTENER_GONE));
        [step, alert, lost].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn due<O: Outbox>(&mut self, turn: &mut Turn<'_, O>) {
        self.alert_if_due(turn);
        if self.lost_listener.is_some_and(|(since, ..)| since.plus(LISTENER_GONE) <= turn.now) {
            return self.listener_is_lost(turn);
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
            Step::Idle
            | Step::Inspect(_)
            | Step::Backoff { .. }
            | Step::Restarting { .. }
            | Step::Succession { .. }
            | Step::TheirRestart { .. }
            | Step::GivenUp { .. } => {}
            Step::Verify => self.settles_at = None,
        }
    }
}

/// Evidence of a fault, before it has become an incident.
#[derive(Clone, Debug)]
struct Fault {
    /// When it happened.
    since: Timestamp,
    /// When the daemon knew of it.
    detected: Timestamp,
    finding: Finding,
    evidence: Vec<EventId>,
    /// Whether a restart could mend it.
    may_help: bool,
}

impl Fault {
    /// A fault of this moment that no event shows.
    fn now(now: Timestamp, finding: Finding) -> Self {
        Self { since: now, detected: now, finding, evidence: Vec::new(), may_help: true }
    }
}
