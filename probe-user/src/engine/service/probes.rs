//! The results of a service's probes.

use std::time::Duration;

use super::model::{FailureStreak, Fault, ProbeState, RecoveryState, Service, Timer};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        own_trouble,
        rules::{self, Mend, Obstacle},
        verdict::{self, Finding, Remedy},
    },
    fact::{EventId, Examination, Fact, ProbeChange, ProbeFailure, ProbeOutcome, ProbeReport, Verdict},
};

/// A service that has reported for longer that it is starting may wait for something that does not come: a primary, a
/// promotion, a disk. A longer grace of its restarts says that it takes longer.
const STARTING_MAX: Duration = Duration::from_secs(300);

impl Service {
    /// Publishes the failure of an attempt that did not reach the service.
    pub(in crate::engine) fn publish_unasked(
        &mut self,
        report: &ProbeReport,
        effects: &mut impl Effects,
    ) -> Option<EventId> {
        let published = self.probes.get_mut(report.index)?.publish_unasked();
        Some(effects.publish(Fact::Probe(report.clone(), ProbeChange::Fail(published)), report.at))
    }

    pub(super) fn on_probe<E: Effects>(&mut self, report: ProbeReport, ctx: &mut Ctx<'_, E>) {
        if own_trouble::unasked(&report).is_some() {
            return;
        }
        let counts = ctx.now >= self.startup.grace_until()
            && matches!(self.recovery.state(), RecoveryState::Idle | RecoveryState::Verifying);
        let Some(probe) = self.probes.get_mut(report.index) else { return };
        if !probe.note_run(&report) {
            return;
        }
        let report = probe.judge_numbers(report);
        match &report.outcome {
            ProbeOutcome::Ok => {
                // If the probe began after the listener closed, another socket serves the same port.
                let change = probe.succeed(&report);
                let (slow, remark) = (probe.counts_as_slow(), probe.remark_that_counts());
                if self.generation.lost_listener.is_some_and(|lost| report.begun() > lost.since) {
                    self.forget_lost_listener();
                }
                let event =
                    change.map(|change| ctx.effects.publish(Fact::Probe(report.clone(), change), report.at));
                self.generation.liveness.forget_examination();
                if self.generation.port_check.as_ref().is_some_and(|it| it.streak.index == report.index) {
                    self.forget_port_check();
                }
                if let Some((slow, since)) = slow.filter(|_| counts) {
                    self.is_slow(slow, since, event, ctx);
                }
                if let Some((words, since)) = remark.filter(|_| counts && self.incident.is_none()) {
                    let finding =
                        Finding { verdict: Verdict::LimitExceeded, confidence: 1.0, summary: words.into() };
                    let evidence = event.into_iter().collect();
                    let remedy = Remedy::Nothing;
                    let now = Fault::now(ctx.now, finding);
                    self.fail(Fault { since, evidence, remedy, degraded: true, ..now }, ctx);
                }
            }
            ProbeOutcome::Starting(detail) => {
                let since = probe.start(detail.clone(), report.at);
                self.is_starting(since, detail.clone(), ctx);
            }
            ProbeOutcome::Failed(failure, detail) => {
                probe.fail(*failure, report.at);
                let is_about_connections =
                    matches!(failure, ProbeFailure::TooManyConnections | ProbeFailure::Connections);
                if let Some(server) = report.server.as_ref().filter(|_| is_about_connections) {
                    self.holders.clone_from(&server.holders);
                }
                if counts {
                    let (failure, detail) = (*failure, detail.clone());
                    self.probe_failed(report, failure, detail, ctx);
                }
            }
        }
    }

    /// Whether it has reported for too long that it is starting.
    fn is_starting<E: Effects>(&mut self, since: Timestamp, detail: String, ctx: &mut Ctx<'_, E>) {
        let most = self.settings.restart.grace.max(STARTING_MAX);
        let took = ctx.now.since(since);
        if self.incident.is_some() || took < most {
            return;
        }
        let summary = format!("it has been starting for {} s: {detail}", took.as_secs());
        let finding = Finding { verdict: Verdict::Unhealthy, confidence: 0.7, summary: summary.into() };
        let remedy = Remedy::Hold("it is starting, and a restart would begin that again".to_owned());
        self.fail(Fault { since, remedy, ..Fault::now(ctx.now, finding) }, ctx);
    }

    /// Whether its main process is so young that it may still start, though its grace is over: an earlier one has answered,
    /// and this one has not yet. A process that takes requests and is silent does not start.
    pub(super) fn may_be_starting(&self, index: usize, failure: ProbeFailure, now: Timestamp) -> bool {
        let most = self.settings.restart.grace.max(STARTING_MAX);
        let is_young = self.main.is_some_and(|main| now.since(main.start) < most);
        let mend = rules::of_failure(failure).mend;
        is_young
            && !failure.is_timeout()
            && mend == Mend::Restart
            && self.generation.healthy_at.is_none()
            && self.probes.get(index).is_some_and(ProbeState::was_answered_by_another_process)
    }

    /// Whether it is seen to work on its start. A restart would begin that again.
    pub(super) fn works_on_its_start(&self, streak: &FailureStreak, now: Timestamp) -> bool {
        let examination = self.generation.liveness.examination();
        self.may_be_starting(streak.index, streak.failure, now)
            && examination.is_some_and(Examination::is_at_work)
    }

    /// Whether its answers have been slow for long enough.
    fn is_slow<E: Effects>(
        &mut self,
        slow: String,
        since: Timestamp,
        event: Option<EventId>,
        ctx: &mut Ctx<'_, E>,
    ) {
        let pressed = ctx.surroundings.pressed.clone().or_else(|| ctx.surroundings.together.clone());
        // After the host's pressure, slowness is the service's own fault.
        let open = self.incident.as_ref().map(|open| open.verdict());
        if open.is_some_and(|verdict| verdict != Verdict::Overloaded || pressed.is_some()) {
            return;
        }
        let (verdict, summary, remedy) = match pressed {
            Some(why) => {
                let remedy = Remedy::Hold(rules::of_obstacle(Obstacle::Overload).reason.to_owned());
                (Verdict::Overloaded, format!("{why}; {slow}"), remedy)
            }
            None => (Verdict::Slow, slow, Remedy::Nothing),
        };
        let finding = Finding { verdict, confidence: 0.9, summary: summary.into() };
        let evidence = event.into_iter().collect();
        let fault = Fault { since, evidence, remedy, degraded: true, ..Fault::now(ctx.now, finding) };
        self.fail(fault, ctx);
    }

    /// Whether it is not meant to answer: it rests, systemd starts or stops it, or it ends because it was asked to.
    pub(super) fn is_on_its_way(&self, now: Timestamp) -> bool {
        self.is_at_rest() || self.unit.is_between() || self.ends_until(now).is_some()
    }

    /// A failure that counts.
    fn probe_failed<E: Effects>(
        &mut self,
        report: ProbeReport,
        failure: ProbeFailure,
        detail: String,
        ctx: &mut Ctx<'_, E>,
    ) {
        let (at, begun, index, stopped) =
            (report.at, report.begun(), report.index, self.is_on_its_way(ctx.now));
        let Some(probe) = self.probes.get_mut(index) else { return };
        let first = !probe.is_failing();
        let timed_out = failure.is_timeout();
        if timed_out && !first && begun < probe.last_failed() {
            // Attempts side by side are one failure, unless the process is proved to be stuck.
            probe.note_timeout_beside();
            self.judge_if_stuck(ctx);
            return;
        }
        let hurried = report.hurried.map(|lost| {
            format!("hostprobe itself did not run for {} ms while its probe waited", lost.as_millis())
        });
        let late = hurried.or_else(|| ctx.surroundings.late.clone()).filter(|_| timed_out);
        let in_a_row = probe.count_failure(at, failure, late);
        let counted = probe.failed_in_a_row(failure);
        let event = ctx.effects.publish(Fact::Probe(report, ProbeChange::Fail(in_a_row)), at);
        probe.add_evidence(event);
        let ahead = verdict::early_sample(probe.timeout(), begun, at);
        if first {
            // When its failures count, the engine has to know whether a dependency causes them.
            self.generation.liveness.forget_examination();
            for dependency in ctx.surroundings.dependencies.clone() {
                ctx.request(Effect::ProbeNow(dependency));
            }
        }
        if timed_out {
            self.examine(Examination::OVER, Some(ahead), ctx);
        } else if self.may_be_starting(index, failure, ctx.now) {
            self.generation.liveness.forget_examination();
            self.examine(Examination::OVER, None, ctx);
        }
        let examination = self.generation.liveness.examination().filter(|_| timed_out);
        let needed = verdict::failures_needed(self.probes[index].failures(), examination);
        if counted >= needed && self.is_to_be_judged() && !stopped {
            self.judge(FailureStreak { index, failure, detail }, ctx);
        }
    }

    /// Whether a row of failures is to be judged. An open incident is judged again only if a restart failed to mend
    /// it, or if the reason for a hold may be over.
    pub(super) fn is_to_be_judged(&self) -> bool {
        match &self.incident {
            None => true,
            // The next check tells whether its main process is still stopped.
            Some(open) if open.verdict() == Verdict::Paused && self.timers.is_set(Timer::Recheck) => false,
            Some(open) => {
                matches!(self.recovery.state(), RecoveryState::Verifying)
                    || (self.recovery.is_restart_useless() || open.rule().rejudged)
                        && matches!(self.recovery.state(), RecoveryState::Idle)
            }
        }
    }
}
