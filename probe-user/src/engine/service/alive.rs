//! A service whose process lives: its timeouts, queues and connections.

use std::time::Duration;

use super::model::{FailureStreak, Fault, Place, ProbeState, RecoveryState, Service, Timer, Trouble};
use crate::{
    clock::Timestamp,
    config::Response,
    engine::{
        ctx::Ctx,
        effect::{EarlySample, Effect, Effects},
        rules::{self, BlameRule, Extra, Impact},
        verdict::{self, Remedy},
    },
    fact::{
        Direction, EventId, Examination, Peer, ProbeFailure, Retransmits, SocketError, Suspension, Verdict,
        socket::errno_name,
    },
};

/// The delay from a stop signal to the check whether the process is still stopped. A debugger or a core dump stops
/// it for less.
const STOPPED_FOR: Duration = Duration::from_millis(400);

/// Between two checks of a stopped process that is not restarted.
const RECHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long the judgement on a service waits for what the host of another one may report: a death there is known within
/// milliseconds, and a probe here can fail before the report comes.
const WORD_OF_OTHER_HOSTS: Duration = Duration::from_millis(500);

impl Service {
    /// Requests an examination of its processes.
    pub(super) fn examine<E: Effects>(
        &mut self,
        over: Duration,
        ahead: Option<EarlySample>,
        ctx: &mut Ctx<'_, E>,
    ) {
        if self.main.is_some() && !self.generation.liveness.awaits_answer(ctx.now) {
            self.generation.liveness.request(ctx.now);
            ctx.request(Effect::Examine { service: self.settings.id, over, ahead });
        }
    }

    pub(super) fn on_examined<E: Effects>(&mut self, found: Option<Examination>, ctx: &mut Ctx<'_, E>) {
        let stopped = found.as_ref().is_some_and(|found| found.stopped) && self.main.is_some();
        let at_work = found.as_ref().is_some_and(Examination::progressed);
        let ahead = found.as_ref().is_some_and(|found| found.ahead);
        self.generation.liveness.answer(found);
        let streak = self.leave_examining();
        if self.main_dumps_core() {
            return self.on_core_dump(ctx);
        }
        if stopped && !at_work && !ahead {
            return self.on_stopped(ctx);
        }
        if stopped && (ahead || self.generation.liveness.suspension().is_some()) {
            // It has just been stopped, or a CPU limiter stops and continues it in turns.
            self.timers.set(Timer::Recheck, Some(ctx.now.plus(STOPPED_FOR)));
        } else {
            self.generation.liveness.resume();
            self.timers.clear(Timer::Recheck);
        }
        match streak {
            Some(streak) => self.judge(streak, ctx),
            None => self.judge_if_stuck(ctx),
        }
    }

    /// Goes back to the state before the examination. Returns the row of failures that waited for it.
    fn leave_examining(&mut self) -> Option<FailureStreak> {
        let RecoveryState::Examining { streak, verifying } = self.recovery.state() else { return None };
        let (streak, verifying) = (streak.clone(), *verifying);
        self.enter(if verifying { RecoveryState::Verifying } else { RecoveryState::Idle }, None);
        Some(streak)
    }

    /// Judges a service that times out and is proved to be stuck, by fewer attempts than are usual, which may have run side
    /// by side.
    pub(super) fn judge_if_stuck<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        // A service that waits for another one can look the same, so the engine waits for the other's probes.
        let is_alone = ctx.surroundings.alone && ctx.surroundings.dependencies.is_empty();
        let stuck = self.generation.liveness.examination().filter(|seen| is_alone && seen.is_stuck());
        let is_proved = |probe: &ProbeState| {
            let needed = verdict::failures_needed(probe.failures(), stuck);
            probe.is_failing() && probe.timed_out() && probe.failed_attempts() >= needed
        };
        let proved = self.probes.iter().position(is_proved).filter(|_| stuck.is_some());
        if let (Some(index), true) =
            (proved, self.is_idle() && self.is_to_be_judged() && !self.is_on_its_way(ctx.now))
        {
            let (failure, detail) = (ProbeFailure::Timeout, "no answer".to_owned());
            self.judge(FailureStreak { index, failure, detail }, ctx);
        }
    }

    /// A signal stopped the main process. The engine checks later whether it is still stopped.
    pub(super) fn on_suspended<E: Effects>(
        &mut self,
        stop: Suspension,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        if self.main != Some(stop.process) {
            return;
        }
        let awaited = self.generation.liveness.awaits_answer(ctx.now);
        let watched =
            self.generation.liveness.suspend(stop, event) && (awaited || self.timers.is_set(Timer::Recheck));
        if !watched {
            self.generation.liveness.forget_request();
            self.examine(STOPPED_FOR, None, ctx);
        }
    }

    /// The main process is still stopped.
    fn on_stopped<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.timers.set(Timer::Recheck, Some(ctx.now.plus(RECHECK_INTERVAL)));
        let free = matches!(self.recovery.state(), RecoveryState::Idle | RecoveryState::Verifying);
        let proving = self.is_verifying();
        let known = !proving
            && self
                .incident
                .as_ref()
                .is_some_and(|open| matches!(open.verdict(), Verdict::Hung | Verdict::Paused));
        let Some(main) = self.main.filter(|_| free && !known) else { return };
        let stopped_at = self.generation.liveness.suspension().map(|(stop, _)| stop.at);
        let since = stopped_at.or_else(|| self.failing_since()).unwrap_or(ctx.now);
        let (finding, remedy) =
            verdict::of_suspension(main.pid, self.generation.liveness.suspension().map(|(stop, _)| stop));
        let mut evidence: Vec<_> =
            self.generation.liveness.suspension().iter().map(|(_, event)| *event).collect();
        evidence.extend(self.probes.iter_mut().flat_map(|probe| probe.take_evidence()));
        self.enter(RecoveryState::Idle, None);
        self.fail_alive(Fault { since, evidence, remedy, ..Fault::now(ctx.now, finding) }, ctx);
    }

    /// When the first of the probes that fail began to.
    pub(super) fn failing_since(&self) -> Option<Timestamp> {
        self.probes.iter().filter_map(|probe| probe.is_failing().then_some(probe.first_failed())).min()
    }

    /// Judges the failures of a probe once there are as many as its `failures`.
    pub(super) fn judge<E: Effects>(&mut self, streak: FailureStreak, ctx: &mut Ctx<'_, E>) {
        let FailureStreak { index, failure, detail } = &streak;
        let timed_out = failure.is_timeout();
        let is_unexamined = self.generation.liveness.examination().is_none();
        let until = self.generation.liveness.answer_until().filter(|until| *until > ctx.now);
        let is_examined = timed_out || self.may_be_starting(*index, *failure, ctx.now);
        if is_examined && self.main.is_some() && is_unexamined && until.is_some() {
            let verifying = self.is_verifying();
            self.enter(RecoveryState::Examining { streak, verifying }, until);
            return;
        }
        if self.main_dumps_core() {
            // Its exit is next, and says more than connections that break off with it.
            return self.on_core_dump(ctx);
        }
        let Some(probe) = self.probes.get(*index).filter(|probe| probe.is_failing()) else { return };
        let first_failed = probe.first_failed();
        let cause = self.cause(ctx).map(|cause| cause.guessed);
        if cause.is_none() && !ctx.surroundings.suspects.is_empty() {
            // A dependency may be the cause. The next failure is judged when that is known.
            for suspect in std::mem::take(&mut ctx.surroundings.suspects) {
                ctx.request(Effect::ProbeNow(suspect));
            }
            return;
        }
        if cause.is_none() && self.awaits_port_check(&streak, ctx) {
            return;
        }
        if cause.is_none() && self.works_on_its_start(&streak, ctx.now) {
            return;
        }
        let heard_by = first_failed.plus(WORD_OF_OTHER_HOSTS);
        let is_unexamined = self.generation.liveness.examination().is_none();
        if cause.is_none() && ctx.surroundings.elsewhere.may_fail && is_unexamined && ctx.now < heard_by {
            let verifying = self.is_verifying();
            self.enter(RecoveryState::Examining { streak, verifying }, Some(heard_by));
            return;
        }
        let Some(probe) = self.probes.get(*index) else { return };
        let explains = |place| self.network.explains(place, probe.wrong_since(), ctx.now);
        let (network, backend) = (explains(Place::OtherHost), explains(Place::ThisHost));
        // The kernel drops the packets of new connections, those of a probe as well.
        let conntrack = ctx.surroundings.host.conntrack.as_deref().filter(|_| failure.is_timeout());
        let (mut finding, remedy) = verdict::of_failures(&verdict::Circumstances {
            failure: *failure,
            detail,
            failures: probe.failed_in_a_row(*failure),
            alive: self.main.is_some(),
            remote: self.settings.is_remote,
            port: probe.port(),
            has_one_loop: probe.has_one_loop(),
            listens: self.listens_in_vain(&streak, ctx),
            proved: self.has_proved_right(&streak),
            examination: self.generation.liveness.examination(),
            network: network.map(Trouble::words).or(conntrack),
            backend: backend.map(Trouble::words),
            pressed: ctx.surroundings.pressed.as_deref(),
            late: ctx.surroundings.late.as_deref().or(probe.late()),
            together: ctx.surroundings.together.as_deref(),
        });
        let is_elsewhere = network.is_some() || !ctx.surroundings.elsewhere.unknown.is_empty();
        if let Some(silence) = ctx.surroundings.elsewhere.silence.take().filter(|_| is_elsewhere) {
            finding.summary.add(silence);
        }
        let trouble = if finding.verdict == Verdict::Network { network } else { backend };
        let explained = matches!(finding.verdict, Verdict::Network | Verdict::Unhealthy);
        let trouble = trouble.map(Trouble::event).filter(|_| explained);
        let degraded = rules::of_failure(*failure).impact == Impact::Degraded;
        let remedy = match self.response_to(finding.verdict) {
            Response::Ignore => return,
            Response::Alert => remedy,
            Response::Restart => Remedy::Restart,
        };
        let mut fault = Fault { since: first_failed, remedy, degraded, ..Fault::now(ctx.now, finding) };
        let blamed = match rules::of(fault.finding.verdict).blame {
            BlameRule::Never => false,
            // The missing CPU time is measured, so it explains more than a guessed dependency.
            BlameRule::WhenFound => cause != Some(true),
            BlameRule::Always => true,
        };
        if blamed {
            fault = self.blamed(fault, ctx);
        }
        let cause = fault.cause.unwrap_or(self.settings.id);
        // The same verdict matters again if a restart could mend it by now.
        let mendable = self.recovery.is_restart_useless() && fault.remedy == Remedy::Restart;
        let known = self.incident.as_ref().is_some_and(|open| {
            open.verdict() == fault.finding.verdict && open.cause() == cause && !mendable
        });
        if known && !matches!(self.recovery.state(), RecoveryState::Verifying) {
            return;
        }
        fault.evidence = self.probes.get_mut(*index).map(|it| it.take_evidence()).unwrap_or_default();
        fault.evidence.extend(trouble);
        self.fail_alive(fault, ctx);
    }

    /// The policy's response to a verdict, besides the rule's.
    fn response_to(&self, verdict: Verdict) -> Response {
        match rules::of(verdict).extra {
            Extra::MemoryPolicy => self.settings.policy.memory_full,
            // This restarts the holder, not the database.
            Extra::Holders if self.settings.policy.pool_exhausted == Response::Ignore => Response::Ignore,
            Extra::Holders
            | Extra::None
            | Extra::AwaitsDependencies
            | Extra::Snapshot
            | Extra::BacklogPolicy
            | Extra::InMaintenance => Response::Alert,
        }
    }

    pub(super) fn on_socket_error(&mut self, error: &SocketError, event: EventId) {
        const ELSEWHERE: [i32; 6] = [
            libc::ECONNREFUSED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::EHOSTDOWN,
            libc::ENETUNREACH,
            libc::ENETDOWN,
        ];
        if error.direction != Direction::Outbound || !ELSEWHERE.contains(&i32::from(error.errno)) {
            return;
        }
        let place = match error.peer {
            Peer::Remote => Place::OtherHost,
            // Where its own processes listened, it has only itself to blame.
            Peer::Local if !self.listeners.has_listened(error.remote.port()) => Place::ThisHost,
            // What is watched is a dependency, which has a state of its own.
            Peer::Local | Peer::Service(_) => return,
        };
        let words = format!("its connection to {} failed with {}", error.remote, errno_name(error.errno));
        self.network.note((error.remote, place), (error.at, event), None, words);
    }

    pub(super) fn on_retransmits(&mut self, retransmits: &Retransmits, event: EventId) {
        if retransmits.peer == Peer::Remote {
            let words = format!("{} does not acknowledge what it sends", retransmits.remote);
            let (remote, at) = (retransmits.remote, retransmits.at);
            self.network.note((remote, Place::OtherHost), (at, event), Some(retransmits.count), words);
        }
    }
}
