//! What the daemon's loop gives to the fleet. It never waits for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use super::message::{Cause, Held, HeldService, OpenIncident, ServiceState, State};
use crate::fact::ServiceId;

/// The most connections between a service and an address elsewhere that are looked after.
pub(super) const CONNECTIONS_MAX: usize = 1024;

/// The most ports of a service that are known. The greatest give way: they are those that the kernel chooses.
const PORTS_MAX: usize = 256;

/// A connection that is made again after this long is sent again.
const NOTED: Duration = Duration::from_secs(60);

/// The services of this host, as others are to know them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    pub services: Vec<LocalService>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LocalService {
    pub name: String,
    /// As in the event stream.
    pub state: &'static str,
    pub ports: Vec<u16>,
    /// Whether what depends on it cannot work.
    pub blocks: bool,
    pub incident: Option<LocalIncident>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LocalIncident {
    pub id: String,
    pub verdict: &'static str,
    pub confidence: f32,
    pub severity: &'static str,
    /// Without secrets.
    pub summary: String,
    pub evidence: Vec<String>,
    /// The name of the cause, if that is another service.
    pub cause: Option<String>,
    /// The host and the service that are the cause, if they are elsewhere.
    pub cause_elsewhere: Option<(String, String)>,
    pub held: Vec<String>,
}

impl Local {
    pub(super) fn state(&self) -> State {
        let services = self.services.iter().map(|service| ServiceState {
            name: service.name.clone(),
            state: service.state.to_owned(),
            ports: service.ports.clone(),
            blocks: service.blocks,
            incident: service.incident.as_ref().map(|open| OpenIncident {
                id: open.id.clone(),
                verdict: open.verdict.to_owned(),
                confidence: open.confidence,
                severity: open.severity.to_owned(),
                summary: open.summary.clone(),
                evidence: open.evidence.clone(),
                cause: open.cause.clone(),
                held: open.held.clone(),
                chain: open
                    .cause_elsewhere
                    .iter()
                    .cloned()
                    .map(|(host, service)| Cause { host, service })
                    .collect(),
            }),
        });
        State { services: services.collect(), left_out: 0 }
    }

    /// What is held here because of services of other hosts, by host.
    pub(super) fn held(&self) -> BTreeMap<String, Held> {
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for service in &self.services {
            let cause = service.incident.as_ref().and_then(|open| open.cause_elsewhere.clone());
            if let Some((host, cause)) = cause {
                let one = HeldService { cause, held: service.name.clone() };
                held.entry(host).or_default().services.push(one);
            }
        }
        held.into_iter().map(|(host, held)| (host, held.bounded())).collect()
    }
}

/// The way to the thread of the fleet.
#[derive(Debug)]
pub struct Link {
    local: watch::Sender<Local>,
    connects: mpsc::Sender<(ServiceId, SocketAddr)>,
    /// What was sent there, and since when it is noted.
    connected: HashSet<(ServiceId, SocketAddr)>,
    noted_since: Instant,
    ports: BTreeMap<ServiceId, BTreeSet<u16>>,
    ended: oneshot::Receiver<()>,
}

impl Link {
    pub(super) fn new(
        local: watch::Sender<Local>,
        connects: mpsc::Sender<(ServiceId, SocketAddr)>,
        ended: oneshot::Receiver<()>,
    ) -> Self {
        Self {
            ended,
            local,
            connects,
            connected: HashSet::new(),
            noted_since: Instant::now(),
            ports: BTreeMap::new(),
        }
    }

    /// Leaves the fleet, within this time: an end on purpose is no silence.
    pub async fn leave(self, patience: Duration) {
        drop(self.local);
        let _ = timeout(patience, self.ended).await;
    }

    /// A service connects to an address that is not of this host.
    pub fn connects(&mut self, client: ServiceId, remote: SocketAddr) {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        // The thread of the fleet may have given an address up since.
        if self.connected.len() >= CONNECTIONS_MAX || self.noted_since.elapsed() >= NOTED {
            self.connected.clear();
            self.noted_since = Instant::now();
        }
        if self.connected.contains(&(client, remote)) {
            return;
        }
        // Where there is no room, a later connection is sent.
        if self.connects.try_send((client, remote)).is_ok() {
            self.connected.insert((client, remote));
        }
    }

    /// A service listens on a port, or did.
    pub fn serves(&mut self, service: ServiceId, port: u16) {
        let ports = self.ports.entry(service).or_default();
        ports.insert(port);
        if ports.len() > PORTS_MAX {
            ports.pop_last();
        }
    }

    pub fn ports(&self, service: ServiceId) -> Vec<u16> {
        self.ports.get(&service).into_iter().flatten().copied().collect()
    }

    /// The services of this host have changed, or not.
    pub fn publish(&self, local: Local) {
        self.local.send_if_modified(|known| {
            let is_new = *known != local;
            if is_new {
                *known = local;
            }
            is_new
        });
    }
}
