//! The incident of a service: opens, updates, resolves and alerts it.

use std::time::Duration;

use super::model::{Fault, OpenIncident, RecoveryState, Scope, Service, Timer};
use crate::{
    engine::{
        ctx::Ctx,
        effect::{Effect, Effects},
        rules::{self, AlertRule, Extra, SeverityRule},
        unit::meaning as unit,
        verdict::Remedy,
    },
    fact::{Fact, Phase, RestartMethod, Severity, SuppressedAlert, Verdict},
};

/// How long an incident with a restart in progress may last before its alert. An incident that a restart heals
/// sooner is for the record only.
const ALERT_PATIENCE: Duration = Duration::from_secs(10);

/// The alert's wait for the names of a database's connection holders.
const HOLDERS_PATIENCE: Duration = Duration::from_secs(1);

/// The alert's wait for the context of a fault. Most logs are complete a tenth of a second after a death.
const CONTEXT_PATIENCE: Duration = Duration::from_millis(500);

impl Service {
    /// Opens or updates the incident with a fault, and decides on the action.
    pub(super) fn fail<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        if self.is_kept_stopped() {
            // It is not meant to run.
            return;
        }
        if fault.finding.verdict == Verdict::Stopped {
            let by =
                self.ended_by(&fault, ctx).map_or_else(String::new, |actor| format!("; stopped by {actor}"));
            let why = format!("{}; `on_clean_exit` is \"never\"{by}", fault.finding.summary);
            return self.on_stop_request(&why, false, ctx);
        }
        if fault.early_exit {
            return self.find_port_holder(fault, ctx);
        }
        // A service that needs its dependency to start is started when the dependency is back.
        let awaits = rules::of(fault.finding.verdict).extra == Extra::AwaitsDependencies;
        let fault = if awaits { self.blamed(fault, ctx) } else { fault };
        let remedy = fault.remedy.clone();
        let not_yet = !self.settings.is_remote
            && rules::of(fault.finding.verdict).extra == Extra::AwaitsDependencies
            && self.awaits_dependency(ctx);
        self.open_or_update(fault, ctx);
        if let (Some(open), true) = (&mut self.incident, self.recovery.port_taken()) {
            open.set_needs_listener();
        }
        if not_yet {
            self.wait_for_dependency(ctx);
        } else {
            self.decide(remedy, ctx);
        }
        self.recovery.set_port_taken(false);
        if self.incident.as_ref().is_some_and(|open| open.rule().extra == Extra::Holders) {
            self.find_connection_holders(ctx);
        }
    }

    /// Opens or updates the incident with a fault.
    pub(super) fn open_or_update<E: Effects>(&mut self, fault: Fault, ctx: &mut Ctx<'_, E>) {
        self.stopped = None;
        self.requests.take_stop();
        let mut fault = self.blamed_on_host(fault, ctx);
        fault.actor = self.ended_by(&fault, ctx);
        let severity = self.severity(fault.finding.verdict);
        let patience = patience(&fault, self.can_restart());
        // An alert at once waits a moment for what explains the fault.
        let for_memory = fault.oom || fault.finding.verdict == Verdict::OomKilled;
        let has_context = self.has_context(fault.finding.verdict) || for_memory;
        let awaits_context = has_context && patience == Some(Duration::ZERO);
        let patience = if awaits_context { Some(CONTEXT_PATIENCE) } else { patience };
        self.timers.clear(Timer::Healing);
        self.forget_lost_listener();
        for probe in &mut self.probes {
            probe.distrust_before(fault.since);
        }
        let now = ctx.now;
        let due = |patience| now.plus(patience);
        match &mut self.incident {
            None => {
                let id = (ctx.next_incident(), self.drilled_by().map(str::to_owned));
                let open = OpenIncident::new(id, self.settings.id, fault, severity, ctx.now);
                ctx.publish(Fact::Incident(Phase::Open, open.published()));
                self.incident = Some(open);
                self.timers.set(Timer::Alert, patience.map(due));
            }
            Some(open) => {
                let is_worse = open.update(fault, severity, ctx.now);
                if !open.alerted() || is_worse || patience.is_none() {
                    // A requested stop clears a pending alert. A failure after the stop sets it again.
                    let before = self.timers.get(Timer::Alert);
                    self.timers.set(Timer::Alert, patience.map(due).map(|at| before.unwrap_or(at).min(at)));
                }
                ctx.publish(Fact::Incident(Phase::Update, open.published()));
            }
        }
        if let (Some(open), true) = (&mut self.incident, awaits_context) {
            open.set_awaits_context();
        }
        if for_memory {
            // It heals sooner than it is known who took the memory.
            self.timers.set(Timer::ContextDue, Some(ctx.now.plus(CONTEXT_PATIENCE)));
        }
        if has_context {
            self.gather_context(for_memory, ctx);
        }
        self.await_settling(ctx.now);
        self.alert_if_due(ctx);
    }

    pub(super) fn become_crash_loop<E: Effects>(&mut self, why: &str, ctx: &mut Ctx<'_, E>) {
        let severity = self.severity(Verdict::CrashLoop);
        let Some(open) = &mut self.incident else { return };
        open.become_crash_loop(why, severity);
        ctx.publish(Fact::Incident(Phase::Update, open.published()));
        self.alert_now(ctx);
    }

    /// Whether the open incident has this verdict.
    pub(super) fn has_verdict(&self, verdict: Verdict) -> bool {
        self.incident.as_ref().is_some_and(|open| open.verdict() == verdict)
    }

    /// The service has proved healthy.
    pub(super) fn resolve<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let Some(mut open) = self.incident.take() else { return };
        self.enter(RecoveryState::Idle, None);
        self.recovery.set_held_since(None);
        self.timers.end(Scope::Incident);
        self.timers.clear(Timer::WorkersQuiet);
        self.worker_deaths.reset_count();
        self.holders.clear();
        let answered = self.probes.iter().filter_map(|probe| probe.well_at()).max();
        let healthy = answered.filter(|_| open.rule().ends.is_answer()).unwrap_or(ctx.now);
        open.healthy(healthy);
        // A stop causes no alert, and an incident with another cause alerts with that cause. A receiver that got no
        // alert before an order held it back gets none.
        let quiet = open.rule().alert.is_silent() || self.is_paused() || open.acknowledged().is_some();
        if !open.alerted() {
            open.downgrade();
            if !quiet {
                ctx.request(Effect::Alert { incident: open.published(), resolved: false });
            }
        }
        ctx.publish(Fact::Incident(Phase::Resolve, open.published()));
        self.call_hooks_at_end(&open, ctx);
        if open.alerted() || !quiet {
            ctx.request(Effect::Alert { incident: open.published(), resolved: true });
        }
    }

    /// Alerts if the incident has lasted long enough.
    pub(super) fn alert_if_due<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        if self.timers.get(Timer::Alert).is_some_and(|at| at <= ctx.now) {
            self.alert_now(ctx);
        }
    }

    pub(super) fn alert_now<E: Effects>(&mut self, ctx: &mut Ctx<'_, E>) {
        let silence = self.silence();
        let Some(open) = &mut self.incident else { return };
        self.timers.clear(Timer::Alert);
        if let Some(reason) = silence {
            if open.mute() {
                let (incident, service, severity) = (open.id(), self.settings.id, open.severity());
                ctx.publish(Fact::AlertSuppressed(SuppressedAlert { incident, service, severity, reason }));
            }
            return;
        }
        open.set_alerted();
        ctx.request(Effect::Alert { incident: open.published(), resolved: false });
    }

    /// Whether hostprobe or, after a death, something else may restart it.
    fn can_restart(&self) -> bool {
        let own = self.settings.restart.enabled
            && !self.settings.only_observed
            && self.settings.method != RestartMethod::None;
        // What hostprobe itself starts, nothing else starts again. systemd leaves a unit that is down as it is.
        let other =
            self.main.is_none() && !self.settings.is_supervised && !self.unit.is_in(unit::Phase::Down);
        !self.settings.is_remote && (own || other)
    }

    fn severity(&self, verdict: Verdict) -> Severity {
        match rules::of(verdict).severity {
            SeverityRule::Info => Severity::Info,
            SeverityRule::Warning => Severity::Warning,
            SeverityRule::OfService if !self.settings.critical => Severity::Warning,
            SeverityRule::OfService | SeverityRule::Critical | SeverityRule::WhenExhausted => {
                Severity::Critical
            }
        }
    }
}

/// The delay of a fault's alert. None: no alert.
fn patience(fault: &Fault, can_restart: bool) -> Option<Duration> {
    match rules::of(fault.finding.verdict).alert {
        AlertRule::Never => None,
        AlertRule::AtOnce => Some(Duration::ZERO),
        AlertRule::Delayed => Some(ALERT_PATIENCE),
        AlertRule::WithCause => (!fault.cause_alerts).then_some(ALERT_PATIENCE),
        AlertRule::WithHolders => Some(if fault.cause_alerts { ALERT_PATIENCE } else { HOLDERS_PATIENCE }),
        AlertRule::AtOnceIfOwnFault => Some(if fault.urgent { Duration::ZERO } else { ALERT_PATIENCE }),
        AlertRule::DelayedIfRestarted | AlertRule::WhenBudgetIsSpent => {
            let held = matches!(fault.remedy, Remedy::Hold(_)) || !can_restart;
            Some(if held { Duration::ZERO } else { ALERT_PATIENCE })
        }
    }
}
