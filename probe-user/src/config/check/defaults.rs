//! `[defaults]`: what holds for all services that do not say otherwise.

use crate::config::{
    file::{Defaults, Limits, ProbeDefaults, Restart, RestartDefaults, Service},
    protocol::ProbeKeys,
    spanned::Spanned,
    values::Table,
};

/// The services with the defaults in place of what they do not say. A value keeps the place where it is written.
pub(super) fn with_defaults(
    defaults: Option<&Table<Defaults>>,
    services: &[Spanned<Table<Service>>],
) -> Vec<Spanned<Table<Service>>> {
    let mut services = services.to_vec();
    if let Some(Table(defaults)) = defaults {
        for service in &mut services {
            apply(defaults, &mut service.get_mut().0);
        }
    }
    services
}

fn apply(defaults: &Defaults, service: &mut Service) {
    let is_remote = service.unit.is_none()
        && service.exec.is_none()
        && service.matcher.is_none()
        && service.container.is_none();
    if let Some(Table(probe)) = &defaults.probe {
        for written in &mut service.probe {
            apply_to_probe(probe, &mut written.get_mut().0);
        }
    }
    if let Some(Table(restart)) = &defaults.restart {
        let Table(written) = service.restart.get_or_insert_with(|| Table(Restart::default()));
        // What hostprobe cannot restart, no default can turn on.
        let can_be_restarted = !is_remote && (service.matcher.is_none() || written.command.is_some());
        apply_to_restart(restart, written, can_be_restarted);
    }
    if let Some(limits) = defaults.limits.as_ref().filter(|_| !is_remote) {
        match &mut service.limits {
            None => service.limits = Some(limits.clone()),
            Some(written) => apply_to_limits(&limits.get_ref().0, &mut written.get_mut().0),
        }
    }
}

fn fill<T: Clone>(written: &mut Option<T>, default: &Option<T>) {
    if written.is_none() {
        written.clone_from(default);
    }
}

// Each table is destructured whole, so that a new key does not compile until it is handled here.

fn apply_to_probe(defaults: &ProbeDefaults, written: &mut ProbeKeys) {
    let ProbeDefaults { interval, timeout, failures, slow } = defaults;
    fill(&mut written.interval, interval);
    fill(&mut written.timeout, timeout);
    fill(&mut written.failures, failures);
    fill(&mut written.slow, slow);
}

fn apply_to_restart(defaults: &RestartDefaults, written: &mut Restart, can_be_restarted: bool) {
    let RestartDefaults { enabled, on_clean_exit, budget, backoff, grace } = defaults;
    if can_be_restarted {
        fill(&mut written.enabled, enabled);
    }
    fill(&mut written.on_clean_exit, on_clean_exit);
    fill(&mut written.budget, budget);
    fill(&mut written.backoff, backoff);
    fill(&mut written.grace, grace);
}

fn apply_to_limits(defaults: &Limits, written: &mut Limits) {
    let Limits { cpu_percent, memory_percent, threads, fds, threads_percent, fds_percent, growth } = defaults;
    fill(&mut written.cpu_percent, cpu_percent);
    fill(&mut written.memory_percent, memory_percent);
    fill(&mut written.threads, threads);
    fill(&mut written.fds, fds);
    fill(&mut written.threads_percent, threads_percent);
    fill(&mut written.fds_percent, fds_percent);
    fill(&mut written.growth, growth);
}
