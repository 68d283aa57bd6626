//! Containers, as the executor uses them: by the API of their engines.

use super::{Executor, Outcome, UnitWatch, done};
use crate::{
    config::{Config, Container, Identity, Service},
    fact::ServiceId,
    inspect::inspector::Lines,
};

impl Executor {
    pub(super) fn inspect_container(&self, service: ServiceId, container: &Container) {
        let (containers, container) = (self.containers.clone(), container.clone());
        self.outcomes.spawn(async move {
            let state = containers.state(&container).await;
            Outcome::Unit(service, state.map(Box::new).map_err(|error| error.to_string()))
        });
    }

    pub(super) fn restart_container(&self, service: ServiceId, config: &Config) {
        let Some(container) = config.service(service).and_then(Service::container).cloned() else { return };
        let (containers, kept) = (self.containers.clone(), self.kept.clone());
        self.outcomes.spawn(async move {
            done(kept).await;
            let restarted = containers.restart(&container).await;
            Outcome::Restart(service, restarted.map_err(|error| format!("{}: {error}", container.name)))
        });
    }

    pub(super) fn stop_container(&self, service: ServiceId, container: &Container) {
        let (containers, container) = (self.containers.clone(), container.clone());
        self.outcomes.spawn(async move {
            let stopped = containers.stop(&container).await;
            Outcome::Stop(service, stopped.map_err(|error| format!("{}: {error}", container.name)))
        });
    }

    /// Reads the last lines that a service's container wrote; None if it is no container.
    pub(super) fn container_lines(&self, service: &Service) -> Option<Lines> {
        let (containers, container) = (self.containers.clone(), service.container()?.clone());
        Some(Box::pin(async move {
            containers.last_lines(&container).await.unwrap_or_else(|error| {
                tracing::debug!("{}: its last lines cannot be read: {error}", container.name);
                Vec::new()
            })
        }))
    }

    /// Subscribes to the changes of these containers. The services of a reload have a watch of their own.
    pub(in crate::daemon) fn watch_containers<'s>(
        &mut self,
        services: impl IntoIterator<Item = &'s Service>,
    ) {
        let containers: Vec<(ServiceId, Container)> = services.into_iter().filter_map(of_container).collect();
        if containers.is_empty() {
            return;
        }
        let (engines, changes) = (self.containers.clone(), self.unit_changes.clone());
        let services = containers.iter().map(|(id, _)| *id).collect();
        let task = tokio::spawn(engines.watch(containers, changes));
        self.unit_watches.push(UnitWatch { services, task: task.abort_handle() });
    }
}

fn of_container(service: &Service) -> Option<(ServiceId, Container)> {
    match &service.identity {
        Identity::Container(container) => Some((service.id, container.clone())),
        Identity::Unit(_) | Identity::Exec(_) | Identity::Match(_) | Identity::Remote => None,
    }
}
