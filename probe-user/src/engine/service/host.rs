//! What the host lacks, and a restart with it.

use super::model::{Fault, RecoveryState, Service};
use crate::{
    engine::{ctx::Ctx, effect::Effects},
    fact::{Action, Fact, HostSubject, Phase, ServiceId, Verdict, Writes},
};

/// What of the host a restart would not get past.
#[derive(Clone, Debug)]
pub(super) struct HostObstacle {
    subject: HostSubject,
    why: String,
    words: String,
}

impl Service {
    /// Its processes write there.
    pub(super) fn on_writes_to<E: Effects>(&mut self, writes: Writes, ctx: &mut Ctx<'_, E>) {
        self.writes_to = writes;
        self.on_host_changed(ctx);
    }

    /// What the host lacks for a start of this service: room on a file system that it was seen to write to, or, if it does
    /// not run, a process.
    fn host_obstacle<E>(&self, ctx: &Ctx<'_, E>) -> Option<HostObstacle> {
        let host = &ctx.surroundings.host;
        let Writes { devices, as_root } = &self.writes_to;
        let full = host.file_systems.iter().find(|full| {
            // What is reserved for root may be all that a service of root needs.
            devices.contains(&full.device) && !(full.root_has_room && *as_root)
        });
        if let Some(full) = full {
            let (subject, words) = (full.subject.clone(), full.words.clone());
            let of = if full.root_has_room { " of other users than root" } else { "" };
            let why = format!("it writes to {}, which takes no more data{of}", subject.target);
            return Some(HostObstacle { subject, why, words });
        }
        let (subject, words) = host.pids.clone().filter(|_| self.main.is_none())?;
        Some(HostObstacle { subject, why: "the host can start no further process".to_owned(), words })
    }

    /// Holds the restart until the host has what it takes. True if it does not have it now.
    pub(super) fn waits_for_host<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) -> bool {
        let Some(obstacle) = self.host_obstacle(ctx) else { return false };
        if self.held_by_host() != Some(&obstacle.subject) {
            let then = if self.main.is_some() { "restarted" } else { "started" };
            let why = format!("{}: {}; it is {then} once that is over", obstacle.why, obstacle.words);
            self.publish_restart(Action::Hold(why), ctx);
        }
        self.enter(RecoveryState::AwaitingHost(obstacle.subject), None);
        true
    }

    /// What of the host its restart waits for.
    pub fn held_by_host(&self) -> Option<&HostSubject> {
        if let RecoveryState::AwaitingHost(subject) = self.recovery.state() { Some(subject) } else { None }
    }

    /// A fault with the host as its cause, if the host lacks what the service needs.
    pub(super) fn blamed_on_host<E>(&self, fault: Fault, ctx: &Ctx<'_, E>) -> Fault {
        // A worker that failed by itself, as one of PostgreSQL that cannot write its log.
        let is_worker = fault.finding.verdict == Verdict::WorkerDied && fault.urgent;
        let can_be = fault.cause.is_none() && (is_worker || can_be_of_host(fault.finding.verdict));
        let Some(obstacle) = self.host_obstacle(ctx).filter(|_| can_be) else { return fault };
        let mut fault = Fault { cause: Some(ServiceId::HOST), ..fault };
        fault.finding.summary = fault.finding.summary.caused_by(obstacle.why, obstacle.words);
        fault
    }

    /// The host lacks something, or has it again.
    pub(super) fn on_host_changed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(obstacle) = self.host_obstacle(ctx) else {
            if self.held_by_host().is_some() {
                self.retry(ctx);
            }
            return;
        };
        let own = self.settings.id;
        let Some(open) = &mut self.incident else { return };
        if open.cause() == own && can_be_of_host(open.verdict()) {
            open.blame(ServiceId::HOST, obstacle.why, obstacle.words);
            ctx.publish(Fact::Incident(Phase::Update, open.published()));
        }
        let waits = matches!(
            self.recovery.state(),
            RecoveryState::Backoff | RecoveryState::AwaitingHostBudget | RecoveryState::AwaitingHost(_)
        );
        if waits {
            self.waits_for_host(ctx);
        }
    }
}

/// Whether a shortage of the host can lead to this. Who sends a signal has other reasons.
fn can_be_of_host(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Crashed
            | Verdict::Exited
            | Verdict::StartFailed
            | Verdict::NotListening
            | Verdict::Unhealthy
            | Verdict::Unhealed
            | Verdict::Hung
            | Verdict::CrashLoop
    )
}
