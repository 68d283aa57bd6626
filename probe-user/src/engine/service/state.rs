//! What a service's state is, and whether its incident is over.

use std::time::Duration;

use super::{ProbeState, RecoveryState, Service, YOUNG};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::Effects,
        rules::{BlockRule, EndRule},
        view::ServiceView,
    },
    fact::{Fact, ServiceState},
};

/// A service without probes counts as well again once it has run for this long.
const SETTLED: Duration = Duration::from_secs(1);

impl Service {
    /// Draws the conclusions of what has changed: an incident that is over, a state that is another.
    pub(in crate::engine) fn settle<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.incident.is_some() && self.is_well(ctx.now) {
            self.resolve(ctx);
        }
        self.note_well(ctx.now);
        let (state, why) = self.conclude();
        if state != self.state {
            let previous = std::mem::replace(&mut self.state, state);
            ctx.publish(Fact::ServiceState(self.id, state, previous, why));
        }
    }

    /// How long it must run to count as well without probes: longer once a restart was not enough.
    pub(super) fn settling(&self) -> Duration {
        let attempts = self.incident.as_ref().map_or(0, |open| open.incident.attempts);
        if attempts < 2 { SETTLED } else { self.policy.grace.max(SETTLED) }
    }

    /// Whether it has proved well since its last start.
    fn is_well(&self, now: Timestamp) -> bool {
        if matches!(
            self.recovery,
            RecoveryState::Restarting { .. }
                | RecoveryState::AwaitingSuccessor { .. }
                | RecoveryState::Inspecting(_)
                | RecoveryState::SystemdRestarting { .. }
                | RecoveryState::FindingPortHolder { .. }
        ) {
            return false;
        }
        let Some(open) = &self.incident else { return true };
        let since = open.incident.since;
        let stopped = open.rule().ends == EndRule::Running;
        if (stopped || !self.is_remote && self.probes.is_empty()) && self.main.is_none() {
            return false;
        }
        let has_its_ports = self.ports.iter().all(|port| self.listeners.contains_key(port));
        if open.needs_listener && !has_its_ports && now.since(self.started) < YOUNG {
            return false;
        }
        if self.lost_listener.is_some() || !self.listens_again() {
            return false;
        }
        let waits =
            matches!(self.recovery, RecoveryState::Backoff { .. } | RecoveryState::CrashLoopBackoff { .. });
        if (waits || open.rule().blocks == BlockRule::Held)
            && self.main.is_none()
            && !self.starts.is_empty()
            && !self.is_remote
        {
            // Something that it left behind answers in its place.
            return false;
        }
        let still = match open.rule().ends {
            EndRule::InTime => self.probes.iter().any(|probe| probe.slow.is_some()),
            EndRule::WithinLimits => self.breaches.words().is_some(),
            EndRule::NotStopped => self.look_at.is_some(),
            EndRule::WorkersLive => self.quiet_at.is_some(),
            EndRule::Answer | EndRule::Running | EndRule::Listening => false,
        };
        if still {
            return false;
        }
        if self.probes.is_empty() {
            now.since(self.started.max(since)) >= self.settling()
        } else {
            self.probes.iter().all(|p| p.ok)
        }
    }

    /// Whether its latest probe timed out.
    pub(in crate::engine) fn times_out(&self) -> bool {
        self.probes.iter().any(|probe| probe.timed_out)
    }

    /// After its listener was gone, answers count only once it listens or was restarted.
    fn listens_again(&self) -> bool {
        let Some(open) = &self.incident else { return true };
        open.rule().ends != EndRule::Listening
            || open.incident.attempts > 0
            || !self.probes.is_empty()
            || self.ports.iter().any(|port| self.listeners.contains_key(port))
    }

    fn conclude(&self) -> (ServiceState, String) {
        let summary =
            || self.incident.as_ref().map_or_else(String::new, |open| open.incident.summary.clone());
        let stopped = self.incident.as_ref().is_some_and(|open| open.rule().ends == EndRule::Running);
        if stopped && self.main.is_none() {
            return (ServiceState::Stopped, summary());
        }
        if self.incident.is_some() {
            let starting = matches!(
                self.recovery,
                RecoveryState::Verifying
                    | RecoveryState::Restarting { .. }
                    | RecoveryState::SystemdRestarting { .. }
            );
            return match (self.main.is_some() || self.is_remote, starting) {
                (_, true) => {
                    let why =
                        self.says_it_starts().unwrap_or_else(|| "waiting for it to prove well".to_owned());
                    (ServiceState::Starting, why)
                }
                (true, false) if self.incident.as_ref().is_some_and(|open| open.degraded) => {
                    (ServiceState::Degraded, summary())
                }
                (true, false) => (ServiceState::Unhealthy, summary()),
                (false, false) => (ServiceState::Down, summary()),
            };
        }
        if let Some(why) = self.says_it_starts() {
            return (ServiceState::Starting, why);
        }
        if self.unit_is_stopped() {
            return (ServiceState::Stopped, "systemd says it is stopped".to_owned());
        }
        let heard = self.main.is_some() || self.probes.iter().any(|probe| probe.ok || probe.failing());
        if !heard {
            return (ServiceState::Starting, "nothing is known of it yet".to_owned());
        }
        if let Some(detail) = self.probes.iter().find_map(ProbeState::complaint) {
            return (ServiceState::Degraded, detail);
        }
        if let Some(breaches) = self.breaches.words() {
            return (ServiceState::Degraded, breaches);
        }
        if self.probes.iter().all(|probe| probe.ok) {
            (ServiceState::Healthy, "all is well".to_owned())
        } else {
            (self.state, "waiting for its probes".to_owned())
        }
    }

    /// What the service itself says of its start, if it says that it is still at it.
    fn says_it_starts(&self) -> Option<String> {
        let detail = self.probes.iter().find_map(|probe| probe.starting.as_ref())?;
        Some(format!("it says it is starting: {detail}"))
    }

    pub(in crate::engine) fn view(&self) -> ServiceView {
        let (_, why) = self.conclude();
        ServiceView {
            state: self.state,
            response_time: self.probes.iter().filter_map(|probe| probe.took).max(),
            error: (self.state != ServiceState::Healthy).then_some(why),
            incident: self.incident.as_ref().map(|open| open.incident.clone()),
            depends_on: Vec::new(),
        }
    }
}
