//! What is learned from the containers of services: their names in events, and what compose says they depend on.

use std::{path::Path, time::Duration};

use tokio::time::sleep;

use super::{Daemon, executor::Outcome};
use crate::{
    act::container::labelled,
    bounded_thread,
    fact::{
        COMPOSE_PROJECT, COMPOSE_SERVICE, ContainerState, LabelledContainer, Observation, ServiceId,
        UnitState,
    },
    host::pod::Pods,
};

/// How often the labels of containers are read.
const LABELS: Duration = Duration::from_secs(5);

/// How often the kubelet's folders are read.
const PODS: Duration = Duration::from_secs(10);

impl Daemon {
    /// Has the configuration read again when containers with labels come, go, or change. Each of them is a service then.
    pub(super) fn watch_labels(&mut self, known: Vec<LabelledContainer>) {
        let options = self.config.containers.clone();
        if !options.discover {
            return;
        }
        let (reader, outcomes) = (self.enricher.reader().clone(), self.executor.outcomes.clone());
        tokio::spawn(async move {
            let mut known = known;
            loop {
                sleep(LABELS).await;
                let mut found = labelled(&options, &reader).await;
                for container in found.iter_mut().filter(|it| !it.runs) {
                    // A container that is down is the same service.
                    if let Some(before) = known.iter().find(|before| before.name == container.name) {
                        (container.runs, container.address) = (before.runs, before.address);
                    }
                }
                if found != known {
                    known = found;
                    outcomes.send(Outcome::Labels).await;
                }
            }
        });
    }

    /// Reads the pods of this node again and again, if there is a kubelet.
    pub(super) fn watch_pods(&mut self) {
        let pods = Pods::default();
        self.publisher.set_pods(pods.clone());
        tokio::spawn(async move {
            loop {
                let own = pods.clone();
                let read = move || {
                    let root = Path::new("/");
                    let is_node = root.join("var/log/pods").is_dir();
                    if is_node {
                        own.refresh(root);
                    }
                    is_node
                };
                match bounded_thread::answer("pods", PODS, read).await {
                    Ok(true) | Err(_) => sleep(PODS).await,
                    // A kubelet may be installed later.
                    Ok(false) => sleep(6 * PODS).await,
                }
            }
        });
    }

    /// Takes note of a container before the engine observes its state.
    pub(super) fn note_container(&mut self, service: ServiceId, state: &UnitState) {
        let Some(container) = &state.container else { return };
        let before = self.executor.container_states.insert(service, (**container).clone());
        self.publisher.set_container(service, (**container).clone());
        if before.is_some_and(|before| before.labels == container.labels) {
            return;
        }
        for (client, server) in self.learned_from_compose(service) {
            self.observe(Observation::Connected { client, server });
        }
    }

    /// The dependencies that the labels of compose tell, in which a service takes part. Both sides have to be watched.
    fn learned_from_compose(&self, service: ServiceId) -> Vec<(ServiceId, ServiceId)> {
        let Some(own) = self.executor.container_states.get(&service) else { return Vec::new() };
        let mut learned = Vec::new();
        for (other_id, other) in self.executor.container_states.iter().filter(|(id, _)| **id != service) {
            if depends_on(own, other) {
                learned.push((service, *other_id));
            }
            if depends_on(other, own) {
                learned.push((*other_id, service));
            }
        }
        learned.retain(|(client, server)| self.is_watched(*client) && self.is_watched(*server));
        learned
    }

    /// A reload removed a service.
    pub(super) fn forget_container(&mut self, service: ServiceId) {
        self.executor.container_states.remove(&service);
    }
}

/// Whether a container depends on another one of its project.
fn depends_on(one: &ContainerState, other: &ContainerState) -> bool {
    let project = |container: &ContainerState| container.label(COMPOSE_PROJECT).map(str::to_owned);
    let same = project(one).is_some() && project(one) == project(other);
    let name = other.label(COMPOSE_SERVICE);
    same && name.is_some_and(|name| one.compose_dependencies().any(|on| on == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{COMPOSE_DEPENDS_ON, ContainerEngine};

    fn container(labels: &[(&str, &str)]) -> ContainerState {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        ContainerState { labels: labels.collect(), ..ContainerState::named("", ContainerEngine::Docker) }
    }

    #[test]
    fn compose_tells_what_a_service_of_the_same_project_depends_on() {
        let api = container(&[
            (COMPOSE_PROJECT, "shop"),
            (COMPOSE_SERVICE, "api"),
            (COMPOSE_DEPENDS_ON, "db:service_healthy:false,cache:service_started:true"),
        ]);
        let of = |project, service| container(&[(COMPOSE_PROJECT, project), (COMPOSE_SERVICE, service)]);
        assert!(depends_on(&api, &of("shop", "db")) && depends_on(&api, &of("shop", "cache")));
        assert!(!depends_on(&api, &of("other", "db")) && !depends_on(&api, &of("shop", "web")));
        assert!(!depends_on(&of("shop", "db"), &api));
        assert!(!depends_on(&container(&[]), &container(&[])));
    }
}
