//! The service's listening sockets, as the kernel reports them.

use std::time::Duration;

use super::model::{Fault, LISTENER_GONE, LostListener, Service, Timer};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict::{self, Finding},
    },
    fact::{Action, EventId, Listener, Verdict},
};

/// A process that was asked to end may serve its last clients and write its data for this long, as systemd lets it by
/// default (`DefaultTimeoutStopSec=`).
const ENDING: Duration = Duration::from_secs(90);

/// The time limit of the check whether another process holds a listener.
const CHECK: Duration = Duration::from_millis(500);

impl Service {
    /// Until when its main process may take to end, if it was asked to and closed its listeners. Its exit says what comes
    /// next.
    pub(super) fn ends_until(&self, now: Timestamp) -> Option<Timestamp> {
        let until = self.generation.asked_to_end?.plus(ENDING);
        (self.main.is_some() && now < until).then_some(until)
    }

    /// The ports that it listened on before the daemon watched it.
    pub(super) fn on_listening(&mut self, ports: Vec<u16>) {
        self.listeners.clear();
        // Which of its processes began to listen is not known.
        self.generation.listened |= !ports.is_empty();
        for port in ports {
            self.listeners.add(port);
        }
    }

    /// A listener has opened or closed.
    pub(super) fn on_listener<E: Effects>(
        &mut self,
        listener: &Listener,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        if !self.listeners.concerns(listener.address, listener.port) {
            return;
        }
        if self.generation.port_check.as_ref().is_some_and(|it| it.port == listener.port && !it.is_pending())
        {
            self.forget_port_check();
        }
        if listener.up {
            self.listeners.add(listener.port);
            self.generation.listened |= self.main == Some(listener.process);
            if self.generation.lost_listener.is_some_and(|lost| lost.port == listener.port) {
                self.forget_lost_listener();
            }
            if let Some(open) = &mut self.incident {
                open.listening(listener.at);
            }
            ctx.request(Effect::ProbeNow(self.settings.id));
            return;
        }
        if !self.listeners.remove(listener.port) {
            return;
        }
        let needed = self.listeners.expects(listener.port);
        if needed && self.main.is_some() && self.incident.is_none() && self.is_idle() {
            let Listener { at: since, port, source, .. } = *listener;
            self.generation.lost_listener = Some(LostListener { since, event, port, source, checked: false });
            if let Some(until) = self.ends_until(ctx.now) {
                self.timers.set(Timer::ListenerGone, Some(until));
                let why = "another process asked it to end, and it does so in order: its exit is next";
                self.publish_restart(Action::Hold(why.to_owned()), ctx);
                return;
            }
            self.timers.set(Timer::ListenerGone, Some(since.plus(LISTENER_GONE)));
            ctx.request(Effect::ProbeNow(self.settings.id));
        }
    }

    /// An expected listener is still closed although the process lives. The count of its sockets may be wrong, so the
    /// daemon checks whether a process of the service holds one.
    pub(super) fn on_listener_gone<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(lost) = &mut self.generation.lost_listener else { return };
        if lost.checked {
            // The check did not answer.
            return self.fail_listener(ctx);
        }
        lost.checked = true;
        let port = lost.port;
        self.timers.set(Timer::ListenerGone, Some(ctx.now.plus(CHECK)));
        ctx.request(Effect::FindListener { service: self.settings.id, port });
    }

    pub(super) fn on_listener_checked<E: Effects>(&mut self, port: u16, held: bool, ctx: &mut Ctx<'_, E>) {
        self.on_lost_listener_checked(port, held, ctx);
        self.on_port_checked(port, held, ctx);
    }

    fn on_lost_listener_checked<E: Effects>(&mut self, port: u16, held: bool, ctx: &mut Ctx<'_, E>) {
        if self.generation.lost_listener.is_none_or(|lost| lost.port != port || !lost.checked) {
            return;
        }
        if held {
            self.listeners.add(port);
            self.forget_lost_listener();
        } else {
            self.timers.clear(Timer::ListenerGone);
            self.fail_listener(ctx);
        }
    }

    fn fail_listener<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(LostListener { since, event, port, source, .. }) = self.generation.lost_listener.take()
        else {
            return;
        };
        let finding = Finding {
            verdict: Verdict::NotListening,
            confidence: verdict::sure(source),
            summary: format!("its process lives, but it closed its listener on port {port}").into(),
        };
        let fault = Fault { since, detected: since, evidence: vec![event], ..Fault::now(ctx.now, finding) };
        self.fail_alive(fault, ctx);
    }
}
