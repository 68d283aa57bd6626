//! The operator's commands.

use super::model::{RecoveryState, Service, Stopped, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        unit::meaning::{self, Phase},
    },
    fact::{IncidentId, OperatorCommand, Order, Orders, RestartMethod, UnitState},
};

impl Service {
    pub(super) fn on_operator<E: Effects>(&mut self, command: OperatorCommand, ctx: &mut Ctx<'_, E>) {
        match command {
            OperatorCommand::Stop(order) => self.on_stop(order, ctx),
            OperatorCommand::StopFailed(_) => self.on_stop_failed(ctx),
            OperatorCommand::Start(order) => self.on_start(&order, ctx),
            OperatorCommand::Restart(order) => self.on_restart(&order, ctx),
            OperatorCommand::Pause(order) => self.on_pause(order, ctx),
            OperatorCommand::Resume(_) => self.on_resume(ctx),
            OperatorCommand::Maintenance(window) => self.on_maintenance(window, ctx),
            OperatorCommand::Ack(incident, order) => self.on_ack(incident, order),
            OperatorCommand::Drill(fault, order) => self.on_drill(fault, &order, ctx),
            OperatorCommand::DrillOver => self.on_drill_over(),
            OperatorCommand::Remembered(orders) => self.on_remembered(orders, ctx),
        }
    }

    /// Whether its process runs, and no stop of it is under way.
    pub fn runs(&self) -> bool {
        let is_up = self.unit.is_in(Phase::Up) || self.unit.is_in(Phase::Finished);
        !self.stop_pending && (self.main.is_some() || self.settings.is_unit && is_up)
    }

    pub fn is_kept_stopped(&self) -> bool {
        self.orders.stop.is_some()
    }

    fn on_stop<E: Effects>(&mut self, order: Order, ctx: &mut Ctx<'_, E>) {
        if !matches!(
            self.settings.method,
            RestartMethod::Systemd | RestartMethod::Supervisor | RestartMethod::Container
        ) {
            return;
        }
        self.stopped = None;
        self.stop_pending = self.runs();
        let why = order.to_string();
        self.orders.stop = Some(order);
        self.keep_orders(ctx);
        self.on_stop_request(&why, false, ctx);
        ctx.request(Effect::Stop(self.settings.id));
    }

    /// It may still run, so it is watched as before.
    fn on_stop_failed<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.orders.stop.is_none() {
            return;
        }
        self.end_stop(ctx);
        if self.settings.is_unit {
            ctx.request(Effect::InspectUnit(self.settings.id));
        }
    }

    fn on_start<E: Effects>(&mut self, order: &Order, ctx: &mut Ctx<'_, E>) {
        if self.settings.method == RestartMethod::None {
            return;
        }
        let runs = self.runs();
        self.end_stop(ctx);
        if !runs {
            self.recovery.set_asked(Some(order.to_string()));
            self.request_restart(ctx);
        }
    }

    /// A restart on request is no incident, and spends no budget. An open incident has to prove mended.
    fn on_restart<E: Effects>(&mut self, order: &Order, ctx: &mut Ctx<'_, E>) {
        if self.settings.method == RestartMethod::None {
            return;
        }
        let runs = self.runs();
        self.end_stop(ctx);
        if runs {
            self.on_stop_request(&order.to_string(), true, ctx);
        }
        self.recovery.set_asked(Some(order.to_string()));
        self.request_restart(ctx);
    }

    fn end_stop<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        self.stop_pending = false;
        if self.orders.stop.take().is_some() {
            self.stopped = None;
            self.keep_orders(ctx);
        }
    }

    /// Whether it stays stopped in this state of its unit. A later start, as by `systemctl start`, ends the order.
    pub(super) fn stays_stopped<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) -> bool {
        let Some(order) = &self.orders.stop else { return false };
        let is_up = matches!(meaning::phase(state), Phase::Up | Phase::Starting | Phase::Finished);
        let is_later = state.started.is_some_and(|started| started > order.since);
        if is_up && (is_later || state.main.is_some() && !self.stop_pending) {
            self.end_stop(ctx);
            return false;
        }
        if state.main.is_none() {
            self.main = None;
        }
        self.stop_pending &= meaning::phase(state) != Phase::Down;
        true
    }

    fn on_ack(&mut self, incident: IncidentId, order: Order) {
        let Some(open) = self.incident.as_mut().filter(|open| open.id() == incident) else { return };
        self.timers.set(Timer::AckOver, order.until);
        open.set_acknowledged(Some(order));
    }

    pub(super) fn on_ack_over<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if let Some(open) = &mut self.incident {
            open.set_acknowledged(None);
        }
        self.alert_if_muted(ctx);
    }

    /// The daemon has just started.
    fn on_remembered<E: Effects>(&mut self, orders: Orders, ctx: &mut Ctx<'_, E>) {
        let was_paused = self.is_paused();
        self.timers.set(Timer::PauseOver, orders.pause.as_ref().and_then(|order| order.until));
        self.stopped = orders.stop.as_ref().map(|order| Stopped {
            why: order.to_string(),
            actor: None,
            since: ctx.now,
            invocation: String::new(),
        });
        self.orders = orders;
        if self.is_kept_stopped() {
            self.enter(RecoveryState::Idle, None);
        }
        if was_paused {
            self.act_if_not_paused(ctx);
        }
    }

    pub(super) fn keep_orders<E: Effects>(&self, ctx: &mut Ctx<'_, E>) {
        ctx.request(Effect::KeepOrders { service: self.settings.id, orders: self.orders.clone() });
    }
}
