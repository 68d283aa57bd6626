//! A service's state, and the end of its incident.

use super::model::{EARLY_EXIT, OpenIncident, ProbeState, RecoveryState, Service, Timer};
use crate::{
    clock::Timestamp,
    engine::{
        ctx::Ctx,
        effect::Effects,
        rules::{BlockRule, EndRule},
        unit::meaning::{Meaning, Phase, words},
        view::ServiceView,
    },
    fact::{Fact, Incident, ServiceState, Verdict},
};

impl Service {
    /// Resolves the incident if it is over, and publishes a changed state.
    pub fn settle<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.incident.is_some() && self.is_well(ctx.now) {
            self.resolve(ctx);
        }
        self.note_unwell(ctx.now);
        self.forget_stop();
        self.publish_state(ctx);
        self.call_hooks(ctx);
        if self.state == ServiceState::Healthy && self.main.is_some() {
            self.generation.healthy_at.get_or_insert(ctx.now);
        }
    }

    /// Publishes the state if it has changed.
    pub(super) fn publish_state<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let (state, why) = self.conclude();
        let is_judged = !matches!(self.recovery.state(), RecoveryState::Inspecting(_));
        if state == ServiceState::Stopped && self.stopped.is_none() && self.incident.is_none() && !is_judged {
            // Who asked for the stop is said with it, once its end is judged.
            return;
        }
        if state != self.state {
            let previous = std::mem::replace(&mut self.state, state);
            ctx.publish(Fact::ServiceState(self.settings.id, state, previous, why));
        }
    }

    /// Whether it has proved healthy since its last start.
    fn is_well(&self, now: Timestamp) -> bool {
        if matches!(
            self.recovery.state(),
            RecoveryState::Restarting { .. }
                | RecoveryState::AwaitingSuccessor(_)
                | RecoveryState::FindingSuccessor(_)
                | RecoveryState::Inspecting(_)
                | RecoveryState::SystemdRestarting
                | RecoveryState::FindingPortHolder(_)
        ) || self.unit.is_between()
        {
            return false;
        }
        let Some(open) = &self.incident else { return true };
        if self.timers.is_set(Timer::ContextDue) || now < open.unconfirmed_until() {
            return false;
        }
        let since = open.since();
        // A unit can be up without a main process.
        let runs = self.main.is_some() || self.settings.is_remote || self.unit.is_in(Phase::Up);
        if self.probes.is_empty() && !runs {
            return false;
        }
        let has_its_ports = self.listeners.has_all_expected();
        if open.needs_listener() && !has_its_ports && now.since(self.startup.at()) < EARLY_EXIT {
            return false;
        }
        if self.generation.lost_listener.is_some() || !self.listens_again() {
            return false;
        }
        let waits = matches!(
            self.recovery.state(),
            RecoveryState::Backoff
                | RecoveryState::AwaitingHostBudget
                | RecoveryState::AwaitingHost(_)
                | RecoveryState::CrashLoopBackoff
        );
        if (waits || open.rule().blocks == BlockRule::Held)
            && self.main.is_none()
            && self.recovery.was_started()
            && !self.settings.is_remote
        {
            // A process that it left behind answers in its place.
            return false;
        }
        let still = match open.rule().ends {
            EndRule::InTime => self.probes.iter().any(|probe| probe.slow().is_some()),
            EndRule::WithinLimits => {
                self.generation.breaches.words().is_some()
                    || self.probes.iter().any(|probe| probe.remark().is_some())
            }
            EndRule::NotStopped => self.timers.is_set(Timer::Recheck),
            EndRule::WorkersLive => self.timers.is_set(Timer::WorkersQuiet),
            EndRule::Undisturbed => self.timers.is_set(Timer::RestartsQuiet),
            EndRule::Accepts => self.timers.is_set(Timer::BacklogEmpty),
            EndRule::LevelsOff => self.grows(open, now),
            // The last five are of hostprobe itself and of the host.
            EndRule::Answer
            | EndRule::Running
            | EndRule::Listening
            | EndRule::Able
            | EndRule::Room
            | EndRule::BelowLimit
            | EndRule::Quiet
            | EndRule::Heard => false,
        };
        if still || self.container_is_unwell() {
            return false;
        }
        if self.probes.is_empty() {
            now.since(self.startup.at().max(since)) >= self.settling()
        } else {
            self.probes.iter().all(|p| p.is_ok())
        }
    }

    /// Whether its latest probe timed out.
    pub fn times_out(&self) -> bool {
        self.probes.iter().any(|probe| probe.timed_out())
    }

    /// After the loss of a listener, answers count only once it listens again or was restarted.
    fn listens_again(&self) -> bool {
        let Some(open) = &self.incident else { return true };
        open.rule().ends != EndRule::Listening
            || open.attempts() > 0
            || !self.probes.is_empty()
            || self.listeners.has_any_expected()
    }

    pub(super) fn conclude(&self) -> (ServiceState, String) {
        let summary = || self.incident.as_ref().map_or_else(String::new, |open| open.summary().to_string());
        if let Some(why) = self.rest() {
            return (ServiceState::Stopped, why);
        }
        if let Some(open) = &self.incident {
            let starting = self.unit.is_in(Phase::Starting) && open.verdict() != Verdict::StartFailed
                || matches!(
                    self.recovery.state(),
                    RecoveryState::Verifying
                        | RecoveryState::Restarting { .. }
                        | RecoveryState::SystemdRestarting
                );
            return match (self.main.is_some() || self.settings.is_remote, starting) {
                (_, true) => {
                    let why =
                        self.startup_report().unwrap_or_else(|| "waiting for it to prove healthy".to_owned());
                    (ServiceState::Starting, why)
                }
                (true, false) if open.is_degraded() => (ServiceState::Degraded, summary()),
                (true, false) => (ServiceState::Unhealthy, summary()),
                (false, false) => (ServiceState::Down, summary()),
            };
        }
        if let Some(order) = self.recovery.asked() {
            return (ServiceState::Starting, order.to_owned());
        }
        if let RecoveryState::WaitingToStart(Some(others)) = self.recovery.state() {
            return (ServiceState::Starting, format!("its first start waits for {others}"));
        }
        if self.unit.means(Meaning::Starting) {
            let manager = self.unit.meaning().map_or("systemd", |(state, _)| state.manager());
            return (ServiceState::Starting, format!("{manager} is starting it"));
        }
        if let Some(why) = self.startup_report().or_else(|| self.container_is_starting()) {
            return (ServiceState::Starting, why);
        }
        if let Some(stopped) = &self.stopped {
            return (ServiceState::Starting, format!("it runs again; before, {}", stopped.why));
        }
        let heard = self.main.is_some()
            || self.unit.means(Meaning::Runs)
            || self.unit.is_in(Phase::Finished)
            || self.probes.iter().any(|probe| probe.is_ok() || probe.is_failing());
        if !heard {
            return (ServiceState::Starting, "nothing is known of it yet".to_owned());
        }
        if let Some(detail) = self.probes.iter().find_map(ProbeState::slow) {
            return (ServiceState::Degraded, detail.to_owned());
        }
        if let Some(remark) = self.probes.iter().find_map(ProbeState::remark) {
            return (ServiceState::Degraded, remark.to_owned());
        }
        if let Some(breaches) = self.generation.breaches.words() {
            return (ServiceState::Degraded, breaches);
        }
        if self.probes.is_empty()
            && let Some((state, row)) = self.unit.meaning()
        {
            (ServiceState::Healthy, words(row, state))
        } else if self.probes.iter().all(|probe| probe.is_ok()) {
            (ServiceState::Healthy, "all probes succeed".to_owned())
        } else {
            (self.state, "waiting for its probes".to_owned())
        }
    }

    /// The service's own report that it is still starting.
    fn startup_report(&self) -> Option<String> {
        let detail = self.probes.iter().find_map(|probe| probe.starting())?;
        Some(format!("it reports that it is starting: {detail}"))
    }

    /// Its open incident.
    pub fn incident(&self) -> Option<Incident> {
        self.incident.as_ref().map(OpenIncident::published)
    }

    pub fn view(&self) -> ServiceView {
        let (_, why) = self.conclude();
        ServiceView {
            service: self.settings.id,
            state: self.state,
            main: self.main,
            response_time: self.probes.iter().filter_map(|probe| probe.took()).max(),
            error: (self.state != ServiceState::Healthy).then_some(why),
            incident: self.incident(),
            depends_on: Vec::new(),
            stale_since: None,
            orders: self.orders.clone(),
            maintenance: self.maintenance.clone(),
            acknowledged: self.incident.as_ref().and_then(OpenIncident::acknowledged).cloned(),
            growth: self.growth.all(Timestamp::default()).collect(),
        }
    }
}
