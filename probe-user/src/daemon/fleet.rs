//! The fleet: what the daemon gives to it, and what other hosts report.

use std::net::SocketAddr;

use super::{Daemon, executor::Outcome, publisher::Publisher};
use crate::{
    config::{Config, Identity, Probe},
    emit::{Names, Origin},
    engine::{
        Engine, ServiceView,
        rules::{self, BlockRule},
    },
    fact::{Incident, Observation, ServiceId, ServiceState},
    fleet::{Link, Local, LocalIncident, LocalService, Options, Report, spool, start},
    outcomes::Outcomes,
    redact::redact,
};

impl From<Report> for Outcome {
    fn from(report: Report) -> Self {
        Self::Fleet(report)
    }
}

impl Daemon {
    /// Another host reports something.
    pub(super) fn on_fleet(&mut self, report: Report) {
        match report {
            Report::Foreign(foreign) => self.observe(Observation::Foreign(Box::new(foreign))),
            Report::Held { service, held } => {
                if let Some(id) = self.publisher.names().find(&service) {
                    self.observe(Observation::HeldElsewhere(id, held));
                }
            }
            Report::Fleet(state) => self.observe(Observation::Fleet(state)),
        }
    }

    /// Joins the fleet, if there is one. Without one, nothing changes.
    pub(super) fn join_fleet(&mut self, spool: Option<spool::Reader>) {
        let Some(fleet) = self.config.fleet.clone() else { return };
        let options =
            Options { fleet, origin: self.origin.clone(), names: self.publisher.names().clone(), spool };
        let outcomes: Outcomes<Outcome> = self.executor.outcomes.clone();
        match start(options, outcomes) {
            Ok(link) => self.publisher.join_fleet(link),
            Err(error) => tracing::error!("{error}; this host takes no part in the fleet"),
        }
    }
}

impl Publisher {
    pub(super) fn join_fleet(&mut self, link: Link) {
        self.fleet = Some(link);
    }

    /// A service connects to an address that is not of this host.
    pub(super) fn connects(&mut self, client: ServiceId, remote: SocketAddr) {
        if let Some(link) = &mut self.fleet {
            link.connects(client, remote);
        }
    }

    /// A service listens on a port.
    pub(super) fn serves(&mut self, service: ServiceId, port: u16) {
        if let Some(link) = &mut self.fleet {
            link.serves(service, port);
        }
    }

    /// Gives the fleet what has changed.
    pub(super) fn tell_fleet(&mut self, engine: &Engine, config: &Config) {
        let Some(link) = &mut self.fleet else { return };
        let (origin, names) = (self.emitter.origin(), self.emitter.names());
        for service in config.services.iter().filter(|service| service.identity == Identity::Remote) {
            // It stands for what is at its address.
            for address in service.probes.iter().filter_map(Probe::address) {
                link.connects(service.id, address);
            }
        }
        let services = engine.view().filter_map(|view| local(&view, link, config, origin, names));
        let services = services.collect();
        link.publish(Local { services });
    }
}

fn local(
    view: &ServiceView,
    link: &Link,
    config: &Config,
    origin: &Origin,
    names: &Names,
) -> Option<LocalService> {
    let spec = config.service(view.service)?;
    let mut ports = link.ports(view.service);
    ports.extend(spec.local_ports().into_iter().filter(|port| !link.ports(view.service).contains(port)));
    if spec.identity == Identity::Remote {
        ports.clear();
    }
    let blocks = match &view.incident {
        None => view.state == ServiceState::Stopped,
        Some(open) => match rules::of(open.verdict).blocks {
            BlockRule::Never => false,
            BlockRule::UnlessDegraded => matches!(view.state, ServiceState::Unhealthy | ServiceState::Down),
            BlockRule::Always | BlockRule::Held => true,
        },
    };
    Some(LocalService {
        name: spec.name.clone(),
        state: view.state.as_str(),
        ports,
        blocks,
        incident: view.incident.as_ref().map(|open| incident(open, origin, names)),
    })
}

fn incident(open: &Incident, origin: &Origin, names: &Names) -> LocalIncident {
    let evidence = open.evidence.iter().map(|event| origin.event_id(*event));
    let cause = Some(open.cause).filter(|cause| *cause != open.service);
    let elsewhere = cause.and_then(|cause| names.foreign_name(cause));
    LocalIncident {
        id: origin.incident_id(open.id),
        verdict: open.verdict.as_str(),
        confidence: open.confidence,
        severity: open.severity.as_str(),
        summary: redact(&open.summary).into_owned(),
        evidence: open.earlier.evidence.iter().cloned().chain(evidence).collect(),
        cause: cause.map(|cause| names.service(cause).to_owned()),
        cause_elsewhere: elsewhere.map(|name| (name.host.clone(), name.service.clone())),
        held: open.held.iter().map(|held| names.service(*held).to_owned()).collect(),
    }
}
