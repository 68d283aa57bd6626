//! What other programs do with a service: who asked for a stop, and who restarts it again and again.

use super::model::{Fault, OutsideStop, RESTARTS, RecoveryState, Service, Stopped, Timer, WINDOW};
use crate::{
    engine::{
        ctx::Ctx,
        effect::Effects,
        verdict::{Finding, Remedy},
    },
    fact::{Actor, Fact, OutsideRequest, Phase, RequestVerb, Verdict},
};

/// What hostprobe knows where no command was seen: a program may call systemd by its bus, and without the hook on execs
/// short ones are missed.
const UNKNOWN: &str = "it is not known who asked: no command was seen";

/// Why hostprobe does not restart it beside something else.
const WOULD_INTERFERE: &str =
    "something else restarts it again and again, and two would work against each other";

impl Service {
    /// The command may be seen after what it does.
    pub(super) fn on_outside_request<E: Effects>(&mut self, request: OutsideRequest, ctx: &mut Ctx<'_, E>) {
        self.requests.add(request);
        if let Some(Stopped { why, actor: actor @ None, since, .. }) = &mut self.stopped
            && let Some(before) = why.strip_suffix(UNKNOWN)
            && let Some(OutsideRequest { actor: found, .. }) = self.requests.take(ctx.now)
            && found.at <= *since
        {
            *why = format!("{}: {found}", before.trim_end_matches("; "));
            self.requests.stopped(Some(found.clone()));
            *actor = Some(found);
        }
    }

    /// systemd, or another manager, was asked to stop or restart it.
    pub(super) fn on_outside_stop<E: Effects>(&mut self, why: &str, restarts: bool, ctx: &mut Ctx<'_, E>) {
        let runs_since = self.main.and(self.unit.invocation());
        if self.stopped.as_ref().is_some_and(|it| runs_since.is_some_and(|run| run != it.invocation)) {
            // A further request, before it was healthy again.
            self.stopped = None;
        }
        if let Some(Stopped { actor, .. }) = &self.stopped {
            self.requests.stopped_again(actor.as_ref());
            return self.on_stop_request(why, restarts, ctx);
        }
        let request = self.requests.take(ctx.now);
        // The stop is all that is seen of a restart at first.
        let restarts = restarts || request.as_ref().is_some_and(|it| it.verb == RequestVerb::Restart);
        let verb = if restarts { "restarted" } else { "stopped" };
        let why = match &request {
            Some(OutsideRequest { actor, .. }) if self.settings.is_container => {
                format!("{why}: {verb} by {actor}")
            }
            Some(OutsideRequest { actor, .. }) => format!("{verb} by {actor}"),
            None => format!("{why}; {UNKNOWN}"),
        };
        self.on_stop_request(&why, restarts, ctx);
        let actor = request.map(|request| request.actor);
        self.requests.stopped(actor.clone());
        if let Some(stopped) = &mut self.stopped {
            stopped.actor = actor;
        }
    }

    /// Who ended it by a signal: the sender, or who asked the unit's manager or the container's runtime to send it.
    pub(super) fn ended_by<E>(&mut self, fault: &Fault, ctx: &Ctx<'_, E>) -> Option<Box<Actor>> {
        let is_kill = matches!(fault.finding.verdict, Verdict::Killed | Verdict::Stopped);
        let relays = fault.actor.as_ref().is_none_or(|actor| is_relay(&actor.name));
        let asked = if is_kill && relays { self.requests.take(ctx.now) } else { None };
        asked.map(|request| Box::new(request.actor)).or_else(|| fault.actor.clone())
    }

    /// It runs again after a stop on request. A person at a terminal tries something out.
    pub(super) fn note_outside_restart<E: Effects>(&mut self, by_hostprobe: bool, ctx: &mut Ctx<'_, E>) {
        let by_operator = by_hostprobe || self.recovery.asked().is_some() || self.orders.stop.is_some();
        let Some(OutsideStop { actor }) =
            self.requests.take_stop().filter(|_| self.settings.is_unit && !by_operator)
        else {
            return;
        };
        // systemd itself ends and starts a unit again, by `RuntimeMaxSec=` for example: without a command, no one is accused.
        let Some(actor) = actor.filter(|actor| actor.terminal.is_none()) else { return };
        self.requests.restarted(ctx.now, actor.fingerprint);
        let count = self.requests.restarts_by(actor.fingerprint, ctx.now);
        let is_open = self.has_verdict(Verdict::RestartedByOther);
        if count < RESTARTS && !is_open {
            return;
        }
        let minutes = WINDOW.as_secs() / 60;
        let words = format!("it was restarted {count} times within {minutes} min by {actor}");
        self.timers.set(Timer::RestartsQuiet, Some(ctx.now.plus(WINDOW)));
        match &mut self.incident {
            None => {
                let finding = Finding::new(Verdict::RestartedByOther, 1.0, words);
                let remedy = Remedy::Hold(WOULD_INTERFERE.to_owned());
                let actor = Some(Box::new(actor));
                self.fail(Fault { remedy, degraded: true, actor, ..Fault::now(ctx.now, finding) }, ctx);
            }
            Some(open) if is_open => {
                open.set_summary(words.into());
                // Published less and less often.
                if count.is_power_of_two() {
                    ctx.publish(Fact::Incident(Phase::Update, open.published()));
                }
                self.enter(RecoveryState::Idle, None);
            }
            // What failed is worse. The next restart counts again.
            Some(_) => {}
        }
    }

    /// Why hostprobe's own restart is held, if something else restarts it.
    pub(super) fn restarted_by_other(&self) -> Option<&'static str> {
        self.timers.is_set(Timer::RestartsQuiet).then_some(WOULD_INTERFERE)
    }

    /// Nothing else has restarted it for the whole window.
    pub(super) fn on_restarts_quiet<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let is_it = self.has_verdict(Verdict::RestartedByOther);
        if is_it && self.main.is_none() && self.stopped.is_some() {
            self.end_incident("it was stopped, and nothing restarts it any more", ctx);
        } else if !is_it && self.incident.is_some() && self.is_idle() && !self.recovery.is_restart_useless() {
            // Its own restart waited.
            self.retry(ctx);
        }
    }
}

/// Whether a program of this name sends signals because others ask it to. Names are cut to 15 characters.
pub(super) fn is_relay(name: &str) -> bool {
    matches!(
        name,
        "systemd"
            | "runc"
            | "crun"
            | "youki"
            | "dockerd"
            | "containerd"
            | "containerd-shim"
            | "conmon"
            | "podman"
    )
}
