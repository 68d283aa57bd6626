//! Drills: whether one may begin, and what differs while it is under way.
//!
//! A drill's fault is real, and so is the way from it to the recovery: the rules are those of any other fault. Only its
//! incident says that it is a drill, and processes that hostprobe itself has stopped count as hung, not as stopped on purpose.

use super::model::{RecoveryState, Service, ServiceDrill};
use crate::{
    clock::Timestamp,
    engine::{
        budget::describe,
        ctx::Ctx,
        effect::{Effect, Effects},
        host_budget::HostBudget,
        surroundings::Surroundings,
    },
    fact::{DrillFault, Examination, Order, RestartMethod, ServiceId, ServiceState},
};

impl Service {
    pub(in crate::engine) fn is_in_drill(&self) -> bool {
        self.drill.is_some()
    }

    /// Who asked for the drill that is under way, for people.
    pub(super) fn drilled_by(&self) -> Option<&str> {
        self.drill.as_ref().map(|drill| drill.by.as_str())
    }

    pub(super) fn on_drill<E: Effects>(&mut self, fault: DrillFault, order: &Order, ctx: &mut Ctx<'_, E>) {
        let Ctx { surroundings, host_budget, names, now, .. } = &mut *ctx;
        let name = |id| names.get(&id).cloned().unwrap_or_default();
        let obstacle = self
            .drill_obstacle(fault, *now)
            .or_else(|| self.budget_obstacle(host_budget, *now))
            .or_else(|| dependency_obstacle(surroundings, name));
        if obstacle.is_some() || self.is_in_drill() {
            return;
        }
        self.drill = Some(ServiceDrill { fault, by: order.by.to_string() });
        ctx.request(Effect::CauseFault { service: self.settings.id, fault });
    }

    pub(super) fn on_drill_over(&mut self) {
        self.drill = None;
    }

    /// Whether the daemon itself has stopped its processes.
    pub(super) fn is_stopped_by_drill(&self) -> bool {
        self.drill.as_ref().is_some_and(|drill| drill.fault == DrillFault::Hang)
    }

    /// An examination of processes that the daemon itself has stopped. They do nothing, as those of a service that hangs.
    pub(super) fn seen_in_drill(&self, found: Option<Examination>) -> Option<Examination> {
        let is_stopped = self.is_stopped_by_drill();
        found.map(|found| Examination { stopped: found.stopped && !is_stopped, ..found })
    }

    /// What about the service itself speaks against a drill, and what to do.
    pub(in crate::engine) fn drill_obstacle(&self, fault: DrillFault, now: Timestamp) -> Option<String> {
        let said = |why: &str| Some(why.to_owned());
        if self.settings.is_remote {
            return said("it is not on this host, so hostprobe only probes it; drill it where it runs");
        }
        if self.settings.observe {
            return said("the daemon only observes (--observe), and causes no fault that it would not mend");
        }
        if !self.settings.restart.enabled {
            return said(
                "restart.enabled is not set for it, so hostprobe would not mend the fault; set it first, and see that \
                 a restart is what mends this service",
            );
        }
        if self.settings.method == RestartMethod::None {
            return said("hostprobe cannot restart it; restart.command would tell how it is restarted");
        }
        if let Some(order) = &self.orders.stop {
            return Some(format!("it is {order}; `hostprobe start` ends that"));
        }
        if let Some(order) = &self.orders.pause {
            return Some(format!(
                "it is {order}, so its restarts and alerts are held; `hostprobe resume` ends that"
            ));
        }
        if let Some(window) = &self.maintenance {
            return Some(format!(
                "its maintenance {window} is under way, so its restarts and alerts are held; wait for its end, or \
                 `hostprobe resume` it"
            ));
        }
        if let Some(open) = &self.incident {
            let verdict = open.verdict().as_str();
            return Some(format!(
                "it has an open incident ({verdict}: {}); wait until it is over, `hostprobe incidents` shows it",
                open.summary()
            ));
        }
        if self.state != ServiceState::Healthy {
            let (_, why) = self.conclude();
            return Some(format!("it is {} and not healthy ({why}); wait until it is", self.state.as_str()));
        }
        if !matches!(self.recovery.state(), RecoveryState::Idle) || self.unit.is_between() {
            return said("it is about to be restarted or examined; wait until that is over");
        }
        if self.main.is_none() {
            return said("hostprobe does not know its main process, so there is none to do something to");
        }
        match fault {
            DrillFault::Kill | DrillFault::Oom => None,
            DrillFault::Hang | DrillFault::Refuse => self.unnoticed(fault).or_else(|| self.in_grace(now)),
        }
    }

    /// Why its probes would show the fault late.
    fn in_grace(&self, now: Timestamp) -> Option<String> {
        let left = self.startup.grace_until().since(now);
        (!left.is_zero()).then(|| {
            let (grace, left) = (describe(self.settings.restart.grace), left.as_secs() + 1);
            format!(
                "it was started less than {grace} ago, and failures of its probes do not count before its restart.grace is \
                 over; try again in {left} s"
            )
        })
    }

    /// Why no probe would show the fault.
    fn unnoticed(&self, fault: DrillFault) -> Option<String> {
        match fault {
            DrillFault::Kill | DrillFault::Oom => None,
            DrillFault::Hang => self.probes.is_empty().then(|| {
                "it has no probe, and only a probe shows that a process hangs; add one to the service".to_owned()
            }),
            DrillFault::Refuse => (!self.listens_to_probes()).then(|| {
                "no probe of it connects to a TCP port on which its processes listen, so that nothing would show the \
                 refusals; add a probe of that port"
                    .to_owned()
            }),
        }
    }

    fn listens_to_probes(&self) -> bool {
        let is_open = |port: Option<u16>| port.is_some_and(|port| self.listeners.is_open(port));
        self.probes.iter().any(|probe| is_open(probe.port()))
    }

    /// What the restart budgets have against a drill, which spends a restart as any fault does.
    pub(in crate::engine) fn budget_obstacle(
        &mut self,
        host: &mut HostBudget,
        now: Timestamp,
    ) -> Option<String> {
        let allowed = self.settings.restart.budget;
        let (left, budget) = (self.recovery.budget().left(now), self.recovery.budget().describe());
        if left < allowed.min(2) {
            return Some(format!(
                "its budget of {budget} restarts has {left} left, and a drill spends one: a real fault after it would \
                 be a crash loop; wait until there is room"
            ));
        }
        if host.is_open() || host.left(now) == 0 {
            let budget = host.describe();
            return Some(format!(
                "the budget of {budget} restarts of all services is spent, so its restart would wait; wait until there \
                 is room"
            ));
        }
        None
    }
}

/// What about other services speaks against a drill, and what to do.
pub fn dependency_obstacle(
    surroundings: &Surroundings,
    name: impl Fn(ServiceId) -> String,
) -> Option<String> {
    let causes = surroundings.causes.iter().map(|cause| cause.service);
    let other = causes.chain(surroundings.suspects.iter().copied()).next()?;
    Some(format!("{}, which it depends on, is not healthy; wait until that is", name(other)))
}
