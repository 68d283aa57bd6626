//! What a container engine says beside what it has in common with systemd: health checks, shared networks, and requests.

use std::borrow::Cow;

use super::{
    model::{Fault, Service},
    outside::is_relay,
};
use crate::{
    engine::{
        ctx::Ctx,
        effect::Effects,
        verdict::{self, Finding},
    },
    fact::{ContainerState, ExitStatus, ProcessExit, RequestVerb, Sender, UnitState, Verdict},
};

impl Service {
    /// A container that runs: its health check fails, or its network is that of a run that has ended. Both are faults of
    /// a living service, which a restart may mend.
    pub(super) fn on_container<E: Effects>(&mut self, state: &UnitState, ctx: &mut Ctx<'_, E>) {
        let Some(container) = &state.container else { return };
        let runs = state.main.is_some() && state.active == "active";
        let is_new = self.incident.is_none() && self.is_idle() || self.is_verifying();
        if !runs || !is_new || self.is_kept_stopped() {
            return;
        }
        let Some(finding) = finding(container) else { return };
        self.fail_alive(Fault::now(ctx.now, finding), ctx);
    }

    /// Whether its engine does not find it well yet.
    pub(super) fn container_is_unwell(&self) -> bool {
        let container = self.unit.meaning().and_then(|(state, _)| state.container.as_ref());
        container.is_some_and(|it| {
            it.network_lost || it.health.as_ref().is_some_and(|health| !health.is_healthy())
        })
    }

    /// The engine's health check has not succeeded yet.
    pub(super) fn container_is_starting(&self) -> Option<String> {
        let (state, _) = self.unit.meaning().filter(|(state, _)| state.active == "active")?;
        let health = state.container.as_ref()?.health.as_ref()?;
        (health.status == "starting")
            .then(|| format!("{}'s health check has not succeeded yet", state.manager()))
    }

    /// Why the end of a container counts as asked for.
    ///
    /// The runtime sends the signals of a stop. SIGKILL from it is the end of a stop that took too long, or a removal;
    /// a kill on request is an event of its own.
    pub(super) fn container_was_asked<E>(
        &self,
        exit: &ProcessExit,
        state: &UnitState,
        ctx: &Ctx<'_, E>,
    ) -> Option<Cow<'static, str>> {
        let container = state.container.as_ref()?;
        let engine = state.manager();
        if container.oom_killed || exit.oom {
            return None;
        }
        if let Some(words) = &container.request {
            return Some(words.clone().into());
        }
        let is_request = |verb: RequestVerb| matches!(verb, RequestVerb::Stop | RequestVerb::Restart);
        if self.requests.latest_verb(ctx.now).is_some_and(is_request) {
            return Some(format!("{engine} was asked to end it").into());
        }
        match &exit.sender {
            Some(Sender::Process { name, .. }) if is_relay(name) => {
                let polite = exit.sent_signal.is_some_and(verdict::asks_to_end);
                let kill = exit.status.signal() == Some(9) && !container.was_killed;
                (polite || kill).then(|| format!("{engine} ended it, as for a stop").into())
            }
            Some(Sender::Process { .. } | Sender::Itself | Sender::Kernel) => None,
            // An engine that announces its kills did not announce this end.
            None => {
                let polite =
                    verdict::is_clean(exit, self.settings.id) && !matches!(exit.status, ExitStatus::Code(0));
                polite.then(|| "an unknown sender sent it a signal that asks a process to end".into())
            }
        }
    }

    /// What a restart on request was, in words: another container of the same name is a deploy.
    pub(super) fn restart_request(&self, state: &UnitState) -> String {
        let Some(container) = &state.container else { return "it was restarted on request".to_owned() };
        let id_of = |run: &str| run.split('@').next().unwrap_or_default().to_owned();
        let before = self.unit.invocation().map(id_of).filter(|id| !id.is_empty());
        let recreated = before.is_some_and(|before| before != id_of(&state.invocation_id));
        let project = container.label(crate::fact::COMPOSE_PROJECT);
        let by = project.map(|project| format!(" by compose project {project}")).unwrap_or_default();
        match recreated {
            true => format!("it was recreated{by}, from the image {}", container.image),
            false => format!("{} was asked to restart it{by}", state.manager()),
        }
    }
}

fn finding(container: &ContainerState) -> Option<Finding> {
    let engine = container.engine.name();
    if let Some(health) = container.health.as_ref().filter(|health| health.is_unhealthy()) {
        let output = match health.output.as_str() {
            "" => String::new(),
            output => format!(": {output}"),
        };
        let times = health.failures;
        let words = format!("{engine}'s health check has failed {times} times in a row{output}");
        return Some(Finding::new(Verdict::Unhealthy, 0.9, words));
    }
    container.network_lost.then(|| {
        let other = container.network_of.as_deref().unwrap_or("another container");
        let words = format!(
            "it has the network namespace of a run of {other} that has ended; only a restart gives it the present one"
        );
        Finding::new(Verdict::Unhealthy, 1.0, words)
    })
}
