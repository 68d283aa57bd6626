//! The channels from the layers to the daemon's loop.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, Interval, MissedTickBehavior, interval},
};

use crate::{
    act::{supervisor::SupervisorReport, systemd::UnitChange},
    daemon::executor::Outcome,
    fact::{AlertOutcome, HookRun, ProbeReport},
    inspect::answer::Answer,
    outcomes::Outcomes,
    probe::{Silence, next_tick},
    serve::control::{AlertTestRequest, DrillRequest, OperatorRequest, ReloadRequest, Requests},
};

/// The most messages of a kind that may wait for the loop. Further senders wait.
const QUEUE: usize = 1024;

/// The receiving ends.
pub struct Inbox {
    pub units: mpsc::Receiver<UnitChange>,
    pub supervisor: mpsc::Receiver<SupervisorReport>,
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Answers to questions about processes.
    pub answers: mpsc::Receiver<Answer>,
    pub probes: mpsc::Receiver<ProbeReport>,
    pub silences: mpsc::Receiver<Silence>,
    pub alerts: mpsc::Receiver<AlertOutcome>,
    /// Runs of hooks.
    pub hooks: mpsc::Receiver<HookRun>,
    pub hangups: Signal,
    /// Commands of operators.
    pub operations: mpsc::Receiver<OperatorRequest>,
    pub drills: mpsc::Receiver<DrillRequest>,
    pub alert_tests: mpsc::Receiver<AlertTestRequest>,
    /// Requests of clients to reload.
    pub reloads: mpsc::Receiver<ReloadRequest>,
    /// The work of every second.
    pub every_second: Interval,
}

/// The sending ends.
pub(super) struct Senders {
    pub(super) units: mpsc::Sender<UnitChange>,
    pub(super) supervisor: mpsc::Sender<SupervisorReport>,
    pub(super) outcomes: Outcomes<Outcome>,
    pub(super) answers: Outcomes<Answer>,
    pub(super) probes: mpsc::Sender<ProbeReport>,
    pub(super) silences: mpsc::Sender<Silence>,
    pub(super) alerts: mpsc::Sender<AlertOutcome>,
    pub(super) hooks: mpsc::Sender<HookRun>,
    pub(super) requests: Requests,
}

impl Inbox {
    /// Has the work of every second done when probes run, for which the runtime wakes anyway.
    pub(super) fn tick_with(&mut self, epoch: Instant) {
        self.every_second.reset_at(next_tick(epoch, self.every_second.period(), Instant::now()));
    }

    /// Opens the channels. Fails if SIGHUP cannot be caught.
    pub(super) fn open() -> std::io::Result<(Senders, Self)> {
        let (unit_sender, units) = mpsc::channel(QUEUE);
        let (supervisor_sender, supervisor) = mpsc::channel(QUEUE);
        let (outcome_sender, outcomes) = Outcomes::channel(QUEUE);
        let (answer_sender, answers) = Outcomes::channel(QUEUE);
        let (probe_sender, probes) = mpsc::channel(QUEUE);
        let (silence_sender, silences) = mpsc::channel(QUEUE);
        let (alert_sender, alerts) = mpsc::channel(QUEUE);
        let (hook_sender, hooks) = mpsc::channel(QUEUE);
        let (reload_sender, reloads) = mpsc::channel(QUEUE);
        let (operation_sender, operations) = mpsc::channel(QUEUE);
        let (drill_sender, drills) = mpsc::channel(QUEUE);
        let (test_sender, alert_tests) = mpsc::channel(QUEUE);
        let mut every_second = interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let hangups = signal(SignalKind::hangup())?;
        let senders = Senders {
            units: unit_sender,
            supervisor: supervisor_sender,
            outcomes: outcome_sender,
            answers: answer_sender,
            probes: probe_sender,
            silences: silence_sender,
            alerts: alert_sender,
            hooks: hook_sender,
            requests: Requests {
                reloads: reload_sender,
                operations: operation_sender,
                drills: drill_sender,
                alert_tests: test_sender,
            },
        };
        Ok((
            senders,
            Self {
                units,
                supervisor,
                outcomes,
                answers,
                probes,
                silences,
                alerts,
                hooks,
                hangups,
                operations,
                drills,
                alert_tests,
                reloads,
                every_second,
            },
        ))
    }
}
