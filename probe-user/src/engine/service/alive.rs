//! A service whose process lives: what its silence, its queues and its connections say.

use std::time::Duration;

use super::{Fault, RecoveryState, Remedy, Service};
use crate::{
    clock::Timestamp,
    config::Response,
    engine::{
        ctx::Ctx,
        effect::{EarlySample, Effect, Effects},
        rules::{self, BlameRule, Extra},
        verdict,
    },
    fact::{
        AcceptQueue, Direction, EventId, Examination, Peer, ProbeFailure, Retransmits, SocketError,
        Suspension, Verdict, socket::errno_name,
    },
};

/// How long an examination may take to be answered.
const EXAMINATION: Duration = Duration::from_secs(2);

/// How long after a stop signal it is looked whether the process is still stopped: a debugger or a snapshot of
/// its memory stops it for less.
const STOPPED_FOR: Duration = Duration::from_millis(400);

/// How often a stopped process is looked at that is not restarted.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Evidence against the network counts for this long…
const TROUBLE_LASTS: Duration = Duration::from_secs(60);

/// …and so many segments sent again are evidence.
const MANY_RETRANSMITS: u64 = 2;

/// Connections of a service to other hosts that fail.
#[derive(Debug)]
pub(super) struct Trouble {
    first: Timestamp,
    last: Timestamp,
    retransmits: u64,
    event: EventId,
    words: String,
}

/// A failure that counts, while it is looked at what the service does.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) index: usize,
    pub(super) failure: ProbeFailure,
    pub(super) detail: String,
}

impl Service {
    /// What do its processes do?
    pub(super) fn examine<E: Effects>(
        &mut self,
        over: Duration,
        ahead: Option<EarlySample>,
        ctx: &mut Ctx<'_, E>,
    ) {
        if self.main.is_some() && self.examined_at.is_none_or(|asked| ctx.now >= asked.plus(EXAMINATION)) {
            self.examined_at = Some(ctx.now);
            ctx.request(Effect::Examine { service: self.id, over, ahead });
        }
    }

    /// What it did while it was looked at.
    pub(super) fn examined<E: Effects>(&mut self, found: Option<Examination>, ctx: &mut Ctx<'_, E>) {
        self.examined_at = None;
        let stopped = found.as_ref().is_some_and(|found| found.stopped) && self.main.is_some();
        let at_work = found.as_ref().is_some_and(Examination::progressed);
        let ahead = found.as_ref().is_some_and(|found| found.ahead);
        self.examination = found;
        if stopped && !at_work && !ahead {
            return self.is_stopped(ctx);
        }
        if stopped && (ahead || self.suspended.is_some()) {
            // It was only now stopped, or is stopped and continued in turns by whoever limits its CPU.
            self.look_at = Some(ctx.now.plus(STOPPED_FOR));
        } else {
            self.suspended = None;
            self.look_at = None;
        }
        if let RecoveryState::Examining { pending, .. } = &self.recovery {
            let pending = pending.clone();
            self.recovery = RecoveryState::Idle;
            return self.judge(pending, ctx);
        }
        // One that waits for another service looks the same: what that one answers is to be known first. Nor is one
        // timeout enough where nothing was seen beyond it.
        let alone = ctx.surroundings.dependencies.is_empty();
        let shows_hang = |it: &Examination| !it.ahead && verdict::shows_hang(it);
        let shows_hang = alone && self.examination.as_ref().is_some_and(shows_hang);
        let failing = self.probes.iter().position(|probe| probe.failing() && probe.timed_out);
        if let (true, Some(index)) = (shows_hang && matches!(self.recovery, RecoveryState::Idle), failing) {
            let (failure, detail) = (ProbeFailure::Timeout, "no answer".to_owned());
            self.judge(Pending { index, failure, detail }, ctx);
        }
    }

    /// Its main process was stopped by a signal: it is looked whether it stays so.
    pub(super) fn suspended<E: Effects>(&mut self, stop: Suspension, event: EventId, ctx: &mut Ctx<'_, E>) {
        if self.main != Some(stop.process) {
            return;
        }
        let asked = self.examined_at.is_some_and(|asked| ctx.now < asked.plus(EXAMINATION));
        let watched = self.suspended.replace((stop, event)).is_some() && (asked || self.look_at.is_some());
        if !watched {
            self.examined_at = None;
            self.examine(STOPPED_FOR, None, ctx);
        }
    }

    /// Its main process is stopped.
    fn is_stopped<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.look_at = Some(ctx.now.plus(LOOK_AGAIN));
        let free = matches!(
            self.recovery,
            RecoveryState::Idle | RecoveryState::Verifying | RecoveryState::Examining { .. }
        );
        let proving = matches!(self.recovery, RecoveryState::Verifying);
        let known =
            !proving && self.incident.as_ref().is_some_and(|open| open.incident.verdict == Verdict::Hung);
        let Some(main) = self.main.filter(|_| free && !known) else { return };
        let failed =
            self.probes.iter().filter_map(|probe| probe.failing().then_some(probe.first_failed)).min();
        let since = match (&self.suspended, failed) {
            (Some((stop, _)), _) => stop.at,
            (None, failed) => failed.unwrap_or(ctx.now),
        };
        let finding = verdict::of_suspension(main.pid, self.suspended.as_ref().map(|(stop, _)| stop));
        let mut evidence: Vec<_> = self.suspended.iter().map(|(_, event)| *event).collect();
        evidence.extend(self.probes.iter_mut().flat_map(|probe| std::mem::take(&mut probe.evidence)));
        self.recovery = RecoveryState::Idle;
        self.fail_alive(Fault { since, evidence, ..Fault::now(ctx.now, finding) }, ctx);
    }

    /// A row of failures counts: what does it mean?
    pub(super) fn judge<E: Effects>(&mut self, pending: Pending, ctx: &mut Ctx<'_, E>) {
        let Pending { index, failure, detail } = &pending;
        let timed_out = failure.is_timeout();
        if timed_out && self.main.is_some() && self.examination.is_none() && self.examined_at.is_some() {
            let until = self.examined_at.unwrap_or(ctx.now).plus(EXAMINATION);
            if until > ctx.now {
                self.recovery = RecoveryState::Examining { until, pending };
                return;
            }
        }
        let Some(probe) = self.probes.get(*index).filter(|probe| probe.failing()) else { return };
        let first_failed = probe.first_failed;
        let cause = self.cause(ctx).map(|cause| cause.guessed);
        if cause.is_none() && !ctx.surroundings.suspects.is_empty() {
            // Something it depends on may be the cause; the next failure is judged when that is known.
            for suspect in std::mem::take(&mut ctx.surroundings.suspects) {
                ctx.request(Effect::ProbeNow(suspect));
            }
            return;
        }
        let (finding, remedy) = verdict::of_failures(&verdict::Circumstances {
            failure: *failure,
            detail,
            failures: probe.in_a_row,
            alive: self.main.is_some(),
            remote: self.is_remote,
            examination: self.examination.as_ref(),
            network: self.network_trouble(first_failed, ctx.now),
            pressed: ctx.surroundings.pressed.as_deref(),
            together: ctx.surroundings.together.as_deref(),
        });
        let trouble = self.trouble.as_ref().map(|trouble| trouble.event);
        let trouble = trouble.filter(|_| finding.verdict == Verdict::Network);
        let degraded =
            matches!(failure, ProbeFailure::Memory | ProbeFailure::MemoryFull | ProbeFailure::Connections);
        let remedy = match self.response_to(finding.verdict) {
            Response::Ignore => return,
            Response::Alert => remedy,
            Response::Restart => Remedy::Restart,
        };
        let mut fault = Fault { since: first_failed, remedy, degraded, ..Fault::now(ctx.now, finding) };
        let blamed = match rules::of(fault.finding.verdict).blame {
            BlameRule::Never => false,
            // That it lacks the CPU is no guess, and explains more than a dependency that is one.
            BlameRule::WhenFound => cause != Some(true),
            BlameRule::Always => true,
        };
        if blamed {
            fault = self.blamed(fault, ctx);
        }
        let cause = fault.cause.unwrap_or(self.id);
        // The same verdict says something new if a restart could mend it by now.
        let mendable = self.beyond_restart && fault.remedy == Remedy::Restart;
        let known = self.incident.as_ref().is_some_and(|open| {
            open.incident.verdict == fault.finding.verdict && open.incident.cause == cause && !mendable
        });
        if known && !matches!(self.recovery, RecoveryState::Verifying) {
            return;
        }
        fault.evidence =
            self.probes.get_mut(*index).map(|it| std::mem::take(&mut it.evidence)).unwrap_or_default();
        fault.evidence.extend(trouble);
        self.fail_alive(fault, ctx);
    }

    /// What the policy says to do about such a verdict beside what follows from it.
    fn response_to(&self, verdict: Verdict) -> Response {
        match rules::of(verdict).extra {
            Extra::MemoryPolicy => self.response.memory_full,
            // A restart is then that of the holder, not of the database.
            Extra::Holders if self.response.pool_exhausted == Response::Ignore => Response::Ignore,
            Extra::Holders | Extra::None | Extra::AwaitsDependencies | Extra::Snapshot => Response::Alert,
        }
    }

    /// One of its sockets had an error.
    pub(super) fn socket_error(&mut self, error: &SocketError, event: EventId) {
        const ELSEWHERE: [i32; 6] = [
            libc::ECONNREFUSED,
            libc::ETIMEDOUT,
            libc::EHOSTUNREACH,
            libc::EHOSTDOWN,
            libc::ENETUNREACH,
            libc::ENETDOWN,
        ];
        let outbound = error.direction == Direction::Outbound;
        if outbound && error.peer == Peer::Remote && ELSEWHERE.contains(&i32::from(error.errno)) {
            let words = format!("its connection to {} failed with {}", error.remote, errno_name(error.errno));
            self.is_in_trouble(error.at, event, 0, words);
        }
    }

    /// Segments of its had to be sent again.
    pub(super) fn retransmits(&mut self, retransmits: &Retransmits, event: EventId) {
        if retransmits.peer == Peer::Remote {
            let words = format!("{} does not acknowledge what it sends", retransmits.remote);
            self.is_in_trouble(retransmits.at, event, retransmits.count, words);
        }
    }

    fn is_in_trouble(&mut self, at: Timestamp, event: EventId, retransmits: u64, words: String) {
        let earlier = self.trouble.take().filter(|trouble| at.since(trouble.last) < 2 * TROUBLE_LASTS);
        let (first, before) = earlier.map_or((at, 0), |trouble| (trouble.first, trouble.retransmits));
        let retransmits =
            if retransmits == 0 { MANY_RETRANSMITS } else { before.saturating_add(retransmits) };
        self.trouble = Some(Trouble { first, last: at, retransmits, event, words });
    }

    /// Connections to other hosts that began to fail about when its probes did. Those that have failed for long
    /// while it was well are none that it needs.
    fn network_trouble(&self, first_failed: Timestamp, now: Timestamp) -> Option<&str> {
        let trouble = self.trouble.as_ref()?;
        let fresh = now.since(trouble.last) < TROUBLE_LASTS;
        let fits = trouble.first.plus(TROUBLE_LASTS) >= first_failed;
        (fresh && fits && trouble.retransmits >= MANY_RETRANSMITS).then_some(trouble.words.as_str())
    }

    /// A listener of its has no room for more connections: is it at work, or stuck?
    pub(super) fn queue_is_full<E: Effects>(&mut self, queue: &AcceptQueue, ctx: &mut Ctx<'_, E>) {
        if !self.ports.contains(&queue.port) || self.incident.is_some() {
            return;
        }
        ctx.request(Effect::ProbeNow(self.id));
        self.examine(Examination::OVER, None, ctx);
    }
}
