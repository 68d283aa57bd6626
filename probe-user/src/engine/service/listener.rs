//! The service's listening sockets, as the kernel reports them.

use super::model::{Fault, LISTENER_GONE, LostListener, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict::{self, Finding},
    },
    fact::{EventId, Listener, Verdict},
};

impl Service {
    /// The ports that it listened on before the daemon watched it.
    pub(super) fn on_listening(&mut self, ports: Vec<u16>) {
        self.listeners.clear();
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
        if listener.up {
            self.listeners.add(listener.port);
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
            self.generation.lost_listener = Some(LostListener { since, event, port, source });
            self.timers.set(Timer::ListenerGone, Some(since.plus(LISTENER_GONE)));
            ctx.request(Effect::ProbeNow(self.settings.id));
        }
    }

    /// An expected listener is still closed although the process lives.
    pub(super) fn on_listener_gone<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(LostListener { since, event, port, source }) = self.generation.lost_listener.take() else {
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
