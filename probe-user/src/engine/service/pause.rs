//! Pauses, by an operator or a window of maintenance: probes and incidents go on, restarts and alerts do not.

use super::model::{OpenIncident, RecoveryState, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
    },
    fact::{Action, AlertSilence, Order},
};

impl Service {
    /// Why it is paused, if it is.
    pub(super) fn pause(&self) -> Option<String> {
        let window = self.maintenance.as_ref().map(|window| format!("maintenance {window}"));
        self.orders.pause.as_ref().map(Order::to_string).or(window)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.orders.pause.is_some() || self.maintenance.is_some()
    }

    pub(super) fn on_pause<E: Effects>(&mut self, order: Order, ctx: &mut Ctx<'_, E>) {
        self.timers.set(Timer::PauseOver, order.until);
        self.orders.pause = Some(order);
        self.keep_orders(ctx);
    }

    pub(super) fn on_maintenance<E: Effects>(&mut self, window: Option<String>, ctx: &mut Ctx<'_, E>) {
        let was_open = self.maintenance.is_some();
        self.maintenance = window;
        self.restart_in_window(ctx);
        if was_open {
            self.act_if_not_paused(ctx);
        }
    }

    /// Ends a window of maintenance early, too.
    pub(super) fn on_resume<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.maintenance = None;
        self.on_pause_over(ctx);
    }

    pub(super) fn on_pause_over<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.timers.clear(Timer::PauseOver);
        if self.orders.pause.take().is_some() {
            self.keep_orders(ctx);
        }
        self.act_if_not_paused(ctx);
    }

    /// Once no pause is left, what is still wrong is alerted and acted on.
    pub(super) fn act_if_not_paused<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.is_paused() {
            return;
        }
        self.alert_if_muted(ctx);
        let is_held = matches!(self.recovery.state(), RecoveryState::Backoff);
        if is_held && !self.timers.is_set(Timer::Recovery) {
            self.retry(ctx);
        }
    }

    /// Holds a restart until the pause is over.
    pub(super) fn hold_for_pause<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(why) = self.pause() else { return };
        self.publish_restart(Action::Hold(why), ctx);
        self.enter(RecoveryState::Backoff, None);
    }

    /// Why its alerts are held back, if they are.
    pub(super) fn silence(&self) -> Option<String> {
        let acknowledged = self.incident.as_ref().and_then(OpenIncident::acknowledged);
        self.pause().or_else(|| acknowledged.map(Order::to_string))
    }

    /// Has the daemon hold back reminders and escalations of its incident, if that has changed.
    pub(super) fn keep_silence<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let alerted = self.incident.as_ref().filter(|open| open.alerted());
        let silence = alerted.and_then(|open| {
            let acknowledged = self.pause().is_none() && open.acknowledged().is_some();
            self.silence().map(|reason| AlertSilence { reason, acknowledged })
        });
        let incident = alerted.map(OpenIncident::id);
        if silence == self.kept_silence {
            return;
        }
        self.kept_silence.clone_from(&silence);
        if let Some(incident) = incident {
            ctx.request(Effect::Silence { incident, silence });
        }
    }

    pub(super) fn alert_if_muted<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.incident.as_ref().is_some_and(OpenIncident::is_muted) {
            self.alert_now(ctx);
        }
    }
}
