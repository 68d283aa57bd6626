//! One service: its state and its recovery.

mod alive;
mod answers;
mod backlog;
mod configured;
mod container;
mod context;
mod core_dump;
mod death;
mod dependency;
mod drill;
mod first_start;
mod growth;
mod holder;
mod hooks;
mod host;
mod host_budget;
mod incident;
mod limits;
mod listener;
mod memory;
mod model;
mod needed;
mod operator;
mod outside;
mod pause;
mod probes;
mod refusal;
mod restart;
mod state;
mod stop;
mod successor;
mod systemd;
mod timer;
mod unanswered;
mod unit_change;
mod worker;

pub use drill::dependency_obstacle;
pub use memory::end_unknown;
pub use model::Service;

use super::{
    ctx::{Ctx, Input},
    effect::{Effect, Effects},
};
use crate::fact::{Observation, ProcessKey};
use model::RecoveryState;

impl Service {
    pub fn handle<E: Effects>(&mut self, input: Input, ctx: &mut Ctx<'_, E>) {
        match input {
            Input::Observation(observation) => self.on_observation(*observation, ctx),
            Input::Due => self.on_due(ctx),
            Input::Awaited(down) => self.on_awaited(&down, ctx),
            Input::HostBudgetHasRoom => self.on_host_budget_has_room(ctx),
            Input::HostChanged => self.on_host_changed(ctx),
            Input::DependencyChanged => self.on_dependency_changed(ctx),
            Input::DependentHeld(held) => self.on_dependent_held(held, ctx),
            Input::ExhaustsPool(of, why) => self.on_exhausts_pool(of, why, ctx),
        }
        self.settle(ctx);
        self.keep_memory(ctx);
        self.keep_silence(ctx);
    }

    fn on_observation<E: Effects>(&mut self, observation: Observation, ctx: &mut Ctx<'_, E>) {
        match observation {
            Observation::Running(_, main) => self.on_running(main, ctx),
            Observation::Listening(_, ports) => self.on_listening(ports),
            Observation::Exit(exit, member, event) => self.on_exit(exit, member.main, event, ctx),
            Observation::OomKill(kill, _, event) => self.oom_kills.add(kill, event),
            Observation::Listener(listener, _, event) => self.on_listener(&listener, event, ctx),
            Observation::OutsideRequest(_, request) => self.on_outside_request(*request, ctx),
            Observation::AskedToEnd(_, at) => self.generation.asked_to_end = Some(at),
            Observation::ListenerChecked(_, port, held) => self.on_listener_checked(port, held, ctx),
            Observation::Probe(report) => self.on_probe(report, ctx),
            Observation::Unanswered(unanswered, seen) => self.on_unanswered(unanswered, seen, ctx),
            Observation::Unit(_, state) => self.on_unit(state, ctx),
            Observation::UnitUnknown(_, error) => self.on_unit_unknown(&error, ctx),
            Observation::RestartOutcome(_, outcome) => self.on_restarted(outcome, ctx),
            Observation::RestartDelayed(..) => self.on_restart_delayed(ctx),
            Observation::Usage(_, usage) => self.on_usage(usage, ctx),
            Observation::Levels(_, levels) => self.on_levels(&levels, ctx),
            Observation::SocketError(error, _, event) => self.on_socket_error(&error, event),
            Observation::Retransmits(retransmits, _, event) => self.on_retransmits(&retransmits, event),
            Observation::AcceptQueue(queue, _, event) => self.on_accept_queue(&queue, event, ctx),
            // hostprobe itself did it.
            Observation::Suspended(..) if self.is_stopped_by_drill() => {}
            Observation::Suspended(stop, _, event) => self.on_suspended(stop, event, ctx),
            Observation::CoreSignal(signal, _) => self.on_core_signal(signal, ctx),
            Observation::Examined(_, found) => self.on_examined(self.seen_in_drill(found), ctx),
            Observation::Snapshot(_, outcome) => self.on_snapshot(outcome, ctx),
            Observation::Stacks(_, stacks) => self.on_stacks(stacks),
            Observation::Context(_, context) => self.on_context(context, ctx),
            Observation::PortHolder(_, holder) => self.on_port_holder(holder.as_ref(), ctx),
            Observation::Holders(_, holders) => self.on_holders(holders, ctx),
            Observation::Successor(_, found) => self.on_successor(found, ctx),
            Observation::Operator(_, command) => self.on_operator(command, ctx),
            Observation::Remembered(_, memory) => self.on_memory(*memory, ctx),
            Observation::Configured(_, settings) => self.on_configured(&settings, ctx),
            Observation::WritesTo(_, writes) => self.on_writes_to(writes, ctx),
            Observation::HeldElsewhere(_, held) => self.on_held_elsewhere(held, ctx),
            Observation::Removed(_) => self.end_incident("a reload removed it from the configuration", ctx),
            // These concern all services. The engine handles them.
            Observation::Connected { .. }
            | Observation::RestartBudget(_)
            | Observation::Host(_)
            | Observation::Pressure(_)
            | Observation::Foreign(_)
            | Observation::Fleet(_)
            | Observation::ConnectionsUnseen => {}
        }
    }

    pub(super) fn on_running<E: Effects>(&mut self, main: ProcessKey, ctx: &mut Ctx<'_, E>) {
        if self.main == Some(main) {
            return;
        }
        let is_first = !self.recovery.was_started() && self.incident.is_none();
        let is_heir = matches!(self.recovery.state(), RecoveryState::FindingSuccessor(it) if it.adopts);
        self.main = Some(main);
        self.reset_generation();
        self.growth.restart(main.start);
        self.generation.listened = is_heir;
        let by_hostprobe = matches!(self.recovery.state(), RecoveryState::Restarting { .. });
        if self.settings.is_supervised {
            // Its supervisor tells of a start before its process. An adopted process is of an earlier start.
            self.recovery.set_requested(None);
        }
        if !by_hostprobe {
            self.recovery.count_start(ctx.now);
        }
        self.reset_startup(ctx.now);
        self.recall_answers(main);
        if is_first && main.start < ctx.now && ctx.now.since(main.start) > self.settings.restart.grace {
            // It was up long before the daemon started, so it gets no grace.
            self.startup.set_grace_until(ctx.now);
        }
        let is_successor = matches!(
            self.recovery.state(),
            RecoveryState::AwaitingSuccessor(_) | RecoveryState::FindingSuccessor(_)
        );
        if !by_hostprobe && !is_successor && self.settings.is_unit && self.incident.is_some() {
            self.recovery.budget().spend(ctx.now);
        }
        self.verify();
        ctx.request(Effect::ProbeUntilHealthy(self.settings.id));
        self.note_outside_restart(by_hostprobe, ctx);
    }

    /// A service with an incident has to prove healthy.
    pub(super) fn verify(&mut self) {
        let has_incident = self.incident.is_some();
        self.enter(if has_incident { RecoveryState::Verifying } else { RecoveryState::Idle }, None);
    }
}
