//! The sockets a service listens on, by the kernel's word.

use std::time::Duration;

use super::{Fault, Finding, RecoveryState, Service};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        verdict,
    },
    fact::{EventId, Listener, Verdict},
};

/// How long a listener may be gone before a living process counts as not listening: a reload that closes
/// and reopens it takes less.
pub(super) const LISTENER_GONE: Duration = Duration::from_millis(250);

impl Service {
    /// It listened on these ports before anybody watched.
    pub(in crate::engine) fn listening(&mut self, ports: Vec<u16>) {
        self.listeners.clear();
        for port in ports {
            self.has_listener(port);
        }
    }

    fn has_listener(&mut self, port: u16) {
        *self.listeners.entry(port).or_default() += 1;
    }

    /// A listener came or went.
    pub(in crate::engine) fn listener<E: Effects>(
        &mut self,
        listener: &Listener,
        event: EventId,
        ctx: &mut Ctx<'_, E>,
    ) {
        if listener.up {
            self.has_listener(listener.port);
            if self.lost_listener.is_some_and(|(_, _, port, _)| port == listener.port) {
                self.lost_listener = None;
            }
            if let Some(open) = &mut self.incident {
                open.listening(listener.at);
            }
            ctx.request(Effect::ProbeNow(self.id));
            return;
        }
        // A socket nobody counted is none that was needed.
        let Some(count) = self.listeners.get_mut(&listener.port) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.listeners.remove(&listener.port);
        let needed = self.ports.contains(&listener.port);
        if needed
            && self.main.is_some()
            && self.incident.is_none()
            && matches!(self.recovery, RecoveryState::Idle)
        {
            self.lost_listener = Some((listener.at, event, listener.port, listener.source));
            ctx.request(Effect::ProbeNow(self.id));
        }
    }

    /// A listener it needs has stayed away although its process lives.
    pub(super) fn listener_is_lost<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some((since, event, port, source)) = self.lost_listener.take() else { return };
        let finding = Finding {
            verdict: Verdict::NotListening,
            confidence: verdict::sure(source),
            summary: format!("its process lives, but it closed its listener on port {port}"),
        };
        let fault = Fault { since, detected: since, evidence: vec![event], ..Fault::now(ctx.now, finding) };
        self.fail_alive(fault, ctx);
    }
}
