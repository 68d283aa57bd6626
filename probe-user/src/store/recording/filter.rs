//! Leaves out observations that change nothing: a healthy host answers probes all day long, and every answer is the
//! same good news.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    clock::Timestamp,
    config::{self, Limits},
    fact::{
        DatabaseRole, Fact, Observation, Phase, Pressure, ProbeOutcome, ProbeReport, ProbeSettings,
        ResourceUsage, ServerLimits, ServiceId, ServiceSettings, ServiceState, Share,
    },
};

/// After this number of good answers in a row, further ones are not recorded. The first makes the engine forget the
/// past, and the second confirms it.
const RECORDED: u8 = 2;

/// From this percentage of a server's resources on, each answer is recorded.
const NEAR: f64 = 70.0;

/// From these shares of the time (PSI), or this delay of the control probe on, each sample of the host is recorded.
const PRESSED: f64 = 0.2;
const LATE: Duration = Duration::from_millis(50);

/// The last recorded observations, to compare the next one with.
#[derive(Debug)]
pub struct Filter {
    services: BTreeMap<ServiceId, Recorded>,
    pressed: bool,
    /// The recorded connections between services, at most one for each pair.
    connected: BTreeSet<(ServiceId, ServiceId)>,
}

#[derive(Debug)]
struct Recorded {
    limits: Limits,
    healthy: bool,
    incident: bool,
    /// When anything but good news was last observed or published about it.
    stirred: Timestamp,
    probes: Vec<Answers>,
    usage: Option<Level>,
}

#[derive(Debug)]
struct Answers {
    slow: Option<Duration>,
    server: ServerLimits,
    /// The recorded answers in a row that are like the latest.
    row: u8,
    like: Option<Good>,
}

impl Answers {
    fn new(probe: &ProbeSettings) -> Self {
        Self { slow: probe.slow, server: probe.server, row: 0, like: None }
    }
}

/// What makes one good answer like another: its time as a power of two, above 16 ms, and tenths of the server's
/// resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Good {
    time: u32,
    connections: Option<u8>,
    memory: Option<u8>,
    role: Option<DatabaseRole>,
    /// Its lag, oldest transaction and longest wait as powers of two of seconds.
    times: [Option<u32>; 3],
}

/// What makes one use of resources like another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    cpu: u64,
    memory: u64,
    threads: u32,
    fds: u32,
}

impl Filter {
    /// A filter for these services; nothing about them is recorded yet.
    pub fn new(services: &[config::Service]) -> Self {
        let services = (0..).map(ServiceId).zip(services.iter().map(|it| Recorded::new(&it.settings())));
        Self { services: services.collect(), pressed: true, connected: BTreeSet::new() }
    }

    /// Whether to record an observation before the engine observes it at `now`.
    ///
    /// The rule: an observation is left out if the engine has observed an equal one since the last other event of the
    /// service, so that the engine's state is the same before and after it. That holds for
    /// - a good answer of a probe, fast and with room to spare, of a service that is healthy and has no incident,
    ///   if so were two recorded answers before it, whose runs began after the service was last stirred;
    /// - a use of resources below half of each limit, of such a service, if the one before was as low;
    /// - a sample of a host that is not under pressure, if the one before was as low;
    /// - a connection between two services that are known to be connected.
    pub fn wants(&mut self, now: Timestamp, observation: &Observation) -> bool {
        match observation {
            Observation::Probe(report) => {
                self.service(report.service).is_none_or(|service| service.answered(report, now))
            }
            Observation::Usage(id, usage) => self.service(*id).is_none_or(|service| service.used(usage)),
            Observation::Pressure(pressure) => {
                let before = std::mem::replace(&mut self.pressed, is_pressed(pressure));
                before || self.pressed
            }
            Observation::Connected { client, server } => self.connected.insert((*client, *server)),
            // Each changes what is known of a growth, and nothing else.
            Observation::Levels(..)
            | Observation::ConnectionsUnseen
            | Observation::RestartBudget(_)
            | Observation::Fleet(_) => true,
            Observation::Foreign(foreign) => {
                foreign.clients.iter().for_each(|client| self.stir(Some(*client), now));
                true
            }
            Observation::Configured(id, settings) => {
                match self.service(*id) {
                    Some(service) => service.configure(settings, now),
                    None => drop(self.services.insert(*id, Recorded::new(settings))),
                }
                true
            }
            Observation::Removed(id) => {
                self.services.remove(id);
                self.connected.retain(|(client, server)| client != id && server != id);
                true
            }
            Observation::Running(..)
            | Observation::Listening(..)
            | Observation::Exit(..)
            | Observation::OomKill(..)
            | Observation::Listener(..)
            | Observation::Unanswered(..)
            | Observation::Unit(..)
            | Observation::UnitUnknown(..)
            | Observation::RestartOutcome(..)
            | Observation::RestartDelayed(..)
            | Observation::SocketError(..)
            | Observation::Retransmits(..)
            | Observation::AcceptQueue(..)
            | Observation::Suspended(..)
            | Observation::CoreSignal(..)
            | Observation::Examined(..)
            | Observation::Snapshot(..)
            | Observation::Stacks(..)
            | Observation::Context(..)
            | Observation::AskedToEnd(..)
            | Observation::OutsideRequest(..)
            | Observation::PortHolder(..)
            | Observation::Holders(..)
            | Observation::Successor(..)
            | Observation::ListenerChecked(..)
            | Observation::Host(_)
            | Observation::WritesTo(..)
            | Observation::HeldElsewhere(..)
            | Observation::Remembered(..)
            | Observation::Operator(..) => {
                self.stir(observation.service(), now);
                true
            }
        }
    }

    /// Notes a fact about a service, published at `now`, because it shows the engine's state of the service.
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these facts show the engine's state")]
    pub fn on_fact(&mut self, fact: &Fact, now: Timestamp) {
        let id = match fact {
            Fact::ServiceState(id, state, ..) => {
                if let Some(service) = self.service(*id) {
                    service.healthy = *state == ServiceState::Healthy;
                }
                *id
            }
            Fact::Incident(phase, incident) => {
                if let Some(service) = self.service(incident.service) {
                    service.incident = *phase != Phase::Resolve;
                }
                incident.service
            }
            Fact::Restart(restart) => restart.service,
            Fact::Probe(report, _) => report.service,
            _ => return,
        };
        self.stir(Some(id), now);
    }

    fn service(&mut self, id: ServiceId) -> Option<&mut Recorded> {
        self.services.get_mut(&id)
    }

    fn stir(&mut self, id: Option<ServiceId>, now: Timestamp) {
        if let Some(service) = id.and_then(|id| self.service(id)) {
            service.stir(now);
        }
    }
}

impl Recorded {
    fn new(settings: &ServiceSettings) -> Self {
        Self {
            limits: settings.limits,
            healthy: false,
            incident: false,
            stirred: Timestamp::default(),
            probes: settings.probes.iter().map(Answers::new).collect(),
            usage: None,
        }
    }

    /// The engine has other settings from now on, so the next observations are recorded.
    fn configure(&mut self, settings: &ServiceSettings, now: Timestamp) {
        self.limits = settings.limits;
        self.probes = settings.probes.iter().map(Answers::new).collect();
        self.stir(now);
    }

    fn stir(&mut self, now: Timestamp) {
        self.stirred = self.stirred.max(now);
        self.usage = None;
        for probe in &mut self.probes {
            probe.row = 0;
        }
    }

    fn is_well(&self) -> bool {
        self.healthy && !self.incident
    }

    fn answered(&mut self, report: &ProbeReport, now: Timestamp) -> bool {
        let limits = self.probes.get(report.index).map(|probe| (probe.slow, probe.server));
        let (slow, server) = limits.unwrap_or_default();
        let Some(good) = good(report, slow, &server) else {
            self.stir(now);
            return true;
        };
        let took = u64::try_from(report.duration.as_nanos()).unwrap_or(u64::MAX);
        let calm = self.is_well() && report.at.as_nanos().saturating_sub(took) >= self.stirred.as_nanos();
        let Some(probe) = self.probes.get_mut(report.index) else { return true };
        if !calm || probe.like != Some(good) {
            probe.row = u8::from(calm);
            probe.like = Some(good);
            return true;
        }
        let more = probe.row < RECORDED;
        probe.row += u8::from(more);
        more
    }

    fn used(&mut self, usage: &ResourceUsage) -> bool {
        let whole = |limit: Option<u64>| limit.map(|limit| limit as f64);
        let near = [
            (usage.cpu_percent, self.limits.cpu_percent),
            (usage.memory_percent, self.limits.memory_percent),
            (usage.threads as f64, whole(self.limits.threads)),
            (usage.fds as f64, whole(self.limits.fds)),
            (usage.threads_percent, self.limits.threads_percent),
            (usage.fds_percent, self.limits.fds_percent),
        ];
        let near = near.into_iter().any(|(used, limit)| limit.is_some_and(|limit| used * 2.0 > limit));
        // In tenths, and in powers of two, for a replay with other limits.
        let level = Level {
            cpu: (usage.cpu_percent / 10.0) as u64,
            memory: (usage.memory_percent / 10.0) as u64,
            threads: usage.threads.checked_ilog2().unwrap_or(0),
            fds: usage.fds.checked_ilog2().unwrap_or(0),
        };
        let calm = self.is_well() && !near;
        let before = std::mem::replace(&mut self.usage, calm.then_some(level));
        !calm || before != Some(level)
    }
}

/// The kind of a good answer; None if it is not good, slow, or near a limit.
fn good(report: &ProbeReport, slow: Option<Duration>, limits: &ServerLimits) -> Option<Good> {
    match report.outcome {
        ProbeOutcome::Ok => {}
        ProbeOutcome::Starting(_) | ProbeOutcome::Failed(..) => return None,
    }
    let (connections, memory) =
        report.server.as_ref().map_or((None, None), |server| (server.connections, server.memory));
    let of_server = report.server.as_ref().map(|server| server.report.clone()).unwrap_or_default();
    let times = [of_server.lag, of_server.transaction, of_server.wait];
    let most = [limits.lag, limits.transaction, limits.wait];
    let near_limit = times.into_iter().zip(most).any(|pair| match pair {
        (Some(time), Some(limit)) => time.saturating_mul(2) > limit,
        (None, _) | (_, None) => false,
    });
    if near_limit || limits.role.is_some() && of_server.role != limits.role {
        return None;
    }
    let near = [connections, memory].into_iter().flatten().any(|share| share.percent() >= NEAR);
    if near || report.remark.is_some() || slow.is_some_and(|limit| report.duration.saturating_mul(2) > limit)
    {
        return None;
    }
    let power = |time: Duration| time.as_secs().checked_ilog2().map_or(0, |power| power + 1);
    let tenth = |share: Share| (share.percent() / 10.0) as u8;
    let time = report.duration.as_millis().checked_ilog2().unwrap_or(0).max(4);
    Some(Good {
        time,
        connections: connections.map(tenth),
        memory: memory.map(tenth),
        role: of_server.role,
        times: times.map(|time| time.map(power)),
    })
}

pub(in crate::store) fn is_pressed(pressure: &Pressure) -> bool {
    let shares = [pressure.cpu, pressure.memory, pressure.io];
    pressure.late >= LATE || shares.into_iter().flatten().any(|share| share >= PRESSED)
}
