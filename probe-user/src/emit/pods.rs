//! The pods of events: of the process that an event is about, and of the service whose process it was.

use std::collections::BTreeMap;

use super::{
    render::Renderer,
    wire::{Container, Orchestrator, OrchestratorResource, Record},
};
use crate::host::pod::{Pod, Pods};

/// The most services whose pod is kept for their later events.
const SERVICES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct KnownPods {
    pods: Pods,
    /// The pod and the container's name of the latest process of a service, by the name of the service.
    services: BTreeMap<String, (Orchestrator, Option<Container>)>,
}

impl KnownPods {
    pub(super) fn set(&mut self, pods: Pods) {
        self.pods = pods;
    }

    /// Adds the pod to an event.
    pub(super) fn add(&mut self, renderer: &Renderer<'_>, record: &mut Record) {
        let path = record.cgroup.as_ref().and_then(|cgroup| cgroup.path.as_deref());
        if let Some(pod) = path.and_then(|path| self.pods.of(path)) {
            let names = pod.name.as_ref();
            if let (Some(container), Some(names)) = (&mut record.container, names) {
                container.name = names.container.as_deref().map(|name| renderer.foreign_name(name));
            }
            let found = orchestrator(renderer, &pod);
            if let Some(service) = record.service.as_ref().filter(|_| self.services.len() < SERVICES_MAX) {
                self.services.insert(service.name.clone(), (found.clone(), record.container.clone()));
            }
            record.orchestrator = Some(found);
        } else if let Some(service) = record.service.as_ref().filter(|_| record.process.is_none())
            && let Some((orchestrator, container)) = self.services.get(&service.name)
        {
            record.orchestrator = Some(orchestrator.clone());
            record.container = record.container.take().or_else(|| container.clone());
        }
    }
}

fn orchestrator(renderer: &Renderer<'_>, pod: &Pod) -> Orchestrator {
    let names = pod.name.as_ref();
    Orchestrator {
        kind: "kubernetes".to_owned(),
        namespace: names.map(|names| renderer.foreign_name(&names.namespace)),
        resource: OrchestratorResource {
            kind: "pod".to_owned(),
            id: renderer.foreign_name(&pod.uid),
            name: names.map(|names| renderer.foreign_name(&names.pod)),
        },
    }
}
