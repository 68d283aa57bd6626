//! Metrics for Prometheus: blackbox_exporter's names for probes, `process_*` for the daemon itself, `hostprobe_*` for the
//! rest.

mod alerts;
mod labels;
mod own;
mod plain;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use self::alerts::AlertMetrics;
use self::labels::{
    ExitLabels, HookLabels, HostLabels, IncidentLabels, LossLabels, MeasureLabels, ProbeLabels,
    ResourceLabels, RestartLabels, ServiceLabels, SocketErrorLabels, StateLabels, TableLabels,
};
use crate::{
    act::outward_heartbeat::HeartbeatCounts,
    emit::Names,
    fact::{
        Action, ExitStatus, Fact, Membership, Phase, ProbeOutcome, ProbeReport, ProcessExit, ServerReport,
        ServiceGrowth, ServiceId, ServiceState, socket::errno_name,
    },
};

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' older text format, for clients that do not ask for the other.
    Plain,
}

impl Format {
    /// The format for a client that accepts these media types.
    pub fn accepted(accept: &str) -> Self {
        let named = accept.split(',').filter(|kind| kind.trim().starts_with("application/openmetrics-text"));
        let refused = |kind: &str| {
            let weights = kind.split(';').filter_map(|parameter| parameter.trim().strip_prefix("q="));
            weights.filter_map(|weight| weight.parse::<f64>().ok()).any(|weight| weight <= 0.0)
        };
        if named.into_iter().any(|kind| !refused(kind)) { Self::OpenMetrics } else { Self::Plain }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// From an immediate restart to a quarter of an hour, in seconds.
const RECOVERY_BUCKETS: [f64; 14] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0];

const STATES: [ServiceState; 7] = [
    ServiceState::Starting,
    ServiceState::Healthy,
    ServiceState::Degraded,
    ServiceState::Unhealthy,
    ServiceState::Down,
    ServiceState::Stopped,
    ServiceState::Paused,
];

const RESTART_OUTCOMES: [&str; 3] = ["done", "fail", "hold"];

type Seconds = Gauge<f64, AtomicU64>;

/// The daemon's metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    names: Mutex<Names>,
    /// The probes of each service that have been measured.
    probed: Mutex<HashMap<ServiceId, BTreeSet<String>>>,
    probe_success: Family<ProbeLabels, Gauge>,
    probe_duration: Family<ProbeLabels, Seconds>,
    server_measure: Family<MeasureLabels, Seconds>,
    exits: Family<ExitLabels, Counter>,
    oom_kills: Family<ServiceLabels, Counter>,
    restarts: Family<RestartLabels, Counter>,
    lost: Family<LossLabels, Counter>,
    recovery: Family<ServiceLabels, Histogram>,
    incidents: Family<IncidentLabels, Counter>,
    state: Family<StateLabels, Gauge>,
    alerts: AlertMetrics,
    hooks: Family<HookLabels, Gauge>,
    host: Family<HostLabels, Gauge>,
    socket_errors: Family<SocketErrorLabels, Counter>,
    table_entries: Family<TableLabels, Gauge>,
    table_limit: Family<TableLabels, Gauge>,
    elsewhere: Counter,
    time_left: Family<ResourceLabels, Seconds>,
    /// The resources of each service that grow.
    growing: Mutex<HashMap<ServiceId, BTreeSet<&'static str>>>,
}

impl Metrics {
    /// Metrics of these services, all of which are starting.
    pub fn new(names: Names) -> Self {
        let mut registry = Registry::default();
        let probe_success = Family::default();
        let probe_duration = Family::default();
        registry.register("probe_success", "Whether the last probe succeeded", probe_success.clone());
        registry.register(
            "probe_duration_seconds",
            "How long the last probe took, in seconds",
            probe_duration.clone(),
        );
        registry.register_collector(Box::new(own::OwnProcess));
        let own = registry.sub_registry_with_prefix("hostprobe");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        own.register("build", "The version of hostprobe", version);
        let server_measure = Family::default();
        own.register(
            "server_measure",
            "What a database reports of itself, by the name of the number; times in seconds",
            server_measure.clone(),
        );
        let exits = Family::default();
        own.register("process_exits", "Processes that ended, by service and manner", exits.clone());
        let oom_kills = Family::default();
        own.register("oom_kills", "Processes that the OOM killer chose, by service", oom_kills.clone());
        let restarts = Family::default();
        own.register("restarts", "Restarts done, failed or held", restarts.clone());
        let lost = Family::default();
        own.register("events_lost", "What was lost on its way, by class", lost.clone());
        let recovery = Family::new_with_constructor(recovery_histogram as fn() -> Histogram);
        own.register(
            "recovery_seconds",
            "From the fault to the service being healthy, or listening, again, in seconds",
            recovery.clone(),
        );
        let incidents = Family::default();
        own.register("incidents", "Incidents opened, by service and first verdict", incidents.clone());
        let state = Family::default();
        own.register("service_state", "1 for the state each service is in, else 0", state.clone());
        let alerts = AlertMetrics::register(own);
        let hooks = Family::default();
        own.register(
            "hook_attached",
            "Whether each kernel hook is attached; without those that this kernel has no part for",
            hooks.clone(),
        );
        let host = Family::default();
        own.register("host_trouble", "1 for each check of the host that is at its limit", host.clone());
        let socket_errors = Family::default();
        own.register(
            "socket_errors",
            "Errors of services' sockets, by name and by who asked for the connection",
            socket_errors.clone(),
        );
        let table_entries = Family::default();
        own.register("table_entries", "Entries of the daemon's tables", table_entries.clone());
        let table_limit = Family::default();
        own.register(
            "table_limit",
            "The most entries that the daemon's tables can have now",
            table_limit.clone(),
        );
        let elsewhere = Counter::default();
        own.register(
            "process_exits_elsewhere",
            "Processes that ended outside of the daemon's pid namespace, and were not examined",
            elsewhere.clone(),
        );
        let time_left = Family::default();
        own.register(
            "resource_time_left_seconds",
            "Until a resource that grows steadily reaches its limit, in seconds; missing if it does not grow",
            time_left.clone(),
        );
        let metrics = Self {
            registry,
            names: Mutex::default(),
            probed: Mutex::default(),
            probe_success,
            probe_duration,
            server_measure,
            exits,
            oom_kills,
            restarts,
            lost,
            recovery,
            incidents,
            state,
            alerts,
            hooks,
            host,
            socket_errors,
            table_entries,
            table_limit,
            elsewhere,
            time_left,
            growing: Mutex::default(),
        };
        let _ = metrics.lost.get_or_create(&LossLabels { class: "events".to_owned() });
        metrics.rename(names, &[]);
        metrics
    }

    /// Takes over the services of another configuration. What was measured of the probes of removed and of `reprobed`
    /// services is forgotten, and all of a removed one, so that a name that comes and goes costs nothing.
    pub fn rename(&self, names: Names, reprobed: &[ServiceId]) {
        let kept: BTreeSet<ServiceId> = names.ids().collect();
        let before: BTreeSet<ServiceId> = lock(&self.names).ids().collect();
        for service in before.difference(&kept).chain(reprobed) {
            let probes = lock(&self.probed).remove(service).unwrap_or_default();
            for probe in probes {
                let labels = ProbeLabels { service: self.name(*service), probe };
                self.probe_success.remove(&labels);
                self.probe_duration.remove(&labels);
                self.measure(&labels, &ServerReport::default());
            }
        }
        before.difference(&kept).for_each(|service| self.remove(*service));
        *lock(&self.names) = names;
        kept.difference(&before).for_each(|service| self.add(*service));
    }

    fn add(&self, service: ServiceId) {
        self.state(service, ServiceState::Starting);
        // A rate needs the zero before the first one.
        let service = self.name(service);
        for outcome in RESTART_OUTCOMES {
            let _ = self.restarts.get_or_create(&RestartLabels { service: service.clone(), outcome });
        }
        let _ = self.oom_kills.get_or_create(&ServiceLabels { service });
    }

    fn remove(&self, service: ServiceId) {
        self.growth(service, &[]);
        let service = self.name(service);
        for state in STATES {
            self.state.remove(&StateLabels { service: service.clone(), state: state.as_str() });
        }
        for outcome in RESTART_OUTCOMES {
            self.restarts.remove(&RestartLabels { service: service.clone(), outcome });
        }
        let labels = ServiceLabels { service };
        self.oom_kills.remove(&labels);
        self.recovery.remove(&labels);
    }

    /// Shows how many alerts wait for each receiver, and what came of the heartbeat to elsewhere.
    pub fn alerting(&self, waiting: &[(String, u64)], heartbeat: Option<HeartbeatCounts>) {
        self.alerts.waiting(waiting);
        if let Some(counts) = heartbeat {
            self.alerts.heartbeat(counts);
        }
    }

    /// Counts a fact of the event stream.
    #[expect(clippy::wildcard_enum_match_arm, reason = "most facts have no metric of their own")]
    pub fn observe(&self, fact: &Fact) {
        match fact {
            Fact::ProcessExit(exit, of) => self.exit(exit, *of),
            Fact::OomKill(_, of) => {
                let service = of.map(|of| self.name(of.service)).unwrap_or_default();
                self.oom_kills.get_or_create(&ServiceLabels { service }).inc();
            }
            Fact::Probe(report, _) => self.probe(report),
            Fact::ServiceState(service, state, _, _) => self.state(*service, *state),
            Fact::Incident(Phase::Open, incident) => {
                let labels = IncidentLabels {
                    service: self.name(incident.service),
                    verdict: incident.verdict.as_str(),
                };
                self.incidents.get_or_create(&labels).inc();
            }
            Fact::Incident(Phase::Resolve, incident) => {
                if let Some(took) = incident.timing.healthy.or(incident.timing.listening) {
                    let labels = ServiceLabels { service: self.name(incident.service) };
                    self.recovery.get_or_create(&labels).observe(took.as_secs_f64());
                }
            }
            Fact::Restart(restart) => {
                let outcome = match restart.action {
                    Action::Request => return,
                    Action::Done => "done",
                    Action::Fail(_) => "fail",
                    Action::Hold(_) => "hold",
                };
                let service = self.name(restart.service);
                self.restarts.get_or_create(&RestartLabels { service, outcome }).inc();
            }
            Fact::Alert(alert) => self.alerts.on_outcome(alert),
            Fact::Loss { class, count, .. } => {
                self.lost.get_or_create(&LossLabels { class: class.clone() }).inc_by(*count);
            }
            Fact::AgentReady(ready) => {
                for hook in ready.coverage.iter().filter(|hook| !hook.absent) {
                    let attached = i64::from(hook.missing.is_none());
                    self.hooks.get_or_create(&HookLabels { hook: hook.hook }).set(attached);
                }
            }
            Fact::HostState(state) => {
                let subject = &state.reading.subject;
                let labels = HostLabels { check: subject.check.as_str(), target: subject.target.clone() };
                if state.is_well {
                    self.host.remove(&labels);
                } else {
                    self.host.get_or_create(&labels).set(1);
                }
            }
            Fact::SocketError(error, service) => {
                let labels = SocketErrorLabels {
                    service: self.name(*service),
                    error: errno_name(error.errno),
                    direction: error.direction.as_str(),
                };
                self.socket_errors.get_or_create(&labels).inc_by(error.count);
            }
            _ => {}
        }
    }

    /// Counts a probe's result, even if it is no event.
    pub fn probe(&self, report: &ProbeReport) {
        let kind = report.kind.as_str();
        // Almost every service has one probe; further ones are numbered by their place.
        let probe = match report.index {
            0 => kind.to_owned(),
            index => format!("{kind}-{index}"),
        };
        lock(&self.probed).entry(report.service).or_default().insert(probe.clone());
        let labels = ProbeLabels { service: self.name(report.service), probe };
        let success = matches!(report.outcome, ProbeOutcome::Ok);
        self.probe_success.get_or_create(&labels).set(i64::from(success));
        self.probe_duration.get_or_create(&labels).set(report.duration.as_secs_f64());
        self.measure(
            &labels,
            report.server.as_ref().map_or(&ServerReport::default(), |server| &server.report),
        );
    }

    /// Shows what a database has reported, and nothing of what it reports no more.
    fn measure(&self, probe: &ProbeLabels, report: &ServerReport) {
        for (measure, value) in report.measures() {
            let labels =
                MeasureLabels { service: probe.service.clone(), probe: probe.probe.clone(), measure };
            match value {
                Some(value) => drop(self.server_measure.get_or_create(&labels).set(value)),
                None => drop(self.server_measure.remove(&labels)),
            }
        }
    }

    /// Shows the resources of a service that grow, and no others.
    pub fn growth(&self, service: ServiceId, growth: &[ServiceGrowth]) {
        let mut growing = lock(&self.growing);
        if growth.is_empty() && !growing.contains_key(&service) {
            return;
        }
        let labels = |resource| ResourceLabels { service: self.name(service), resource };
        for gone in growing.remove(&service).unwrap_or_default() {
            if growth.iter().all(|it| it.resource.as_str() != gone) {
                self.time_left.remove(&labels(gone));
            }
        }
        for it in growth {
            let resource = it.resource.as_str();
            self.time_left.get_or_create(&labels(resource)).set(it.forecast.left.as_secs_f64());
            growing.entry(service).or_default().insert(resource);
        }
    }

    /// Notes how full a table of the daemon's is, and how full it can be.
    pub fn table(&self, table: &'static str, entries: usize, limit: usize) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.table_entries.get_or_create(&TableLabels { table }).set(number(entries));
        self.table_limit.get_or_create(&TableLabels { table }).set(number(limit));
    }

    /// Notes how many processes have ended since the daemon's start that its pid namespace does not have.
    pub fn exits_elsewhere(&self, total: u64) {
        self.elsewhere.inner().store(total, Ordering::Relaxed);
    }

    /// Notes how many events the stream's own sinks have lost since the daemon's start; the stream reports these
    /// by itself, so that they are no fact that [`Self::observe`] is given.
    pub fn stream_lost(&self, total: u64) {
        let lost = self.lost.get_or_create(&LossLabels { class: "events".to_owned() });
        lost.inner().store(total, Ordering::Relaxed);
    }

    /// All metrics as text.
    pub fn encode(&self, format: Format) -> String {
        let mut text = String::new();
        // Writing into a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        match format {
            Format::OpenMetrics => text,
            Format::Plain => plain::from_openmetrics(&text),
        }
    }

    fn exit(&self, exit: &ProcessExit, of: Option<Membership>) {
        let manner = match exit.status {
            _ if exit.oom => "oom",
            ExitStatus::Code(0) => "success",
            ExitStatus::Code(_) => "code",
            ExitStatus::Signal { .. } => "signal",
            ExitStatus::Unknown => "unknown",
        };
        let service = of.map(|of| self.name(of.service)).unwrap_or_default();
        self.exits.get_or_create(&ExitLabels { service, manner }).inc();
    }

    fn state(&self, service: ServiceId, now: ServiceState) {
        for state in STATES {
            let labels = StateLabels { service: self.name(service), state: state.as_str() };
            self.state.get_or_create(&labels).set(i64::from(state == now));
        }
    }

    fn name(&self, service: ServiceId) -> String {
        lock(&self.names).service(service).to_owned()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn recovery_histogram() -> Histogram {
    Histogram::new(RECOVERY_BUCKETS)
}

#[cfg(test)]
mod tests;
