//! Puts the daemon together, in the order that leaves no gap: the kernel is listened to first, then the host
//! is looked at, then services are started and probed.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval, timeout},
};

use super::{
    Daemon,
    executor::{Executor, Outcome, units},
    publisher::Publisher,
    search::Search,
    sockets::Sockets,
};
use crate::{
    act::{
        alert::{AlertError, Alerter},
        supervisor::{SupervisedProcess, SupervisorReport},
        systemd::{Systemd, UnitChange},
    },
    clock::Timestamp,
    config::{Config, Identity, KernelOptions, Probe, Service},
    emit::{Emitter, Names, Origin, Sink, SinkError},
    engine::Engine,
    enrich::{Enricher, Members},
    fact::{
        AgentReady, AgentStart, AlertOutcome, Fact, HookCoverage, Observation, Place, ProbeReport,
        ProcessKey, ServiceId,
    },
    host::{ProcReader, ReadError},
    probe::{Clients, Prober},
    sensor::{
        ebpf::{Hook, Options},
        fallback::sockets::{Look, Wanted},
    },
    serve::{self, Shown},
    store::recording::Recording,
};
use crate::{
    inspect::{
        holders::HolderSearch, inspector::Inspector, pressure::PressureMonitor, queues::AcceptQueues,
        usage::UsageSampler,
    },
    process::{
        memory,
        notify::Notifier,
        privileges,
        self_test::{self, Seen},
    },
    sensor::Sensors,
};

/// How many messages of a kind may wait for the daemon; who sends more waits.
const QUEUE: usize = 1024;

/// How long systemd may take to describe the units before the daemon says it is ready without.
const UNITS: Duration = Duration::from_secs(5);

/// How long to wait before systemd's bus is tried again.
const BUS_RETRY: Duration = Duration::from_secs(5);

/// How the daemon runs, beside its configuration.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// The file the configuration came from.
    pub config_file: Option<PathBuf>,
    /// Restart nothing, whatever the configuration says.
    pub observe: bool,
    /// Have the eBPF programs write debug lines to the daemon's log.
    pub kernel_log: bool,
    /// Hooks to do without, as on a kernel that lacks them.
    pub without: Vec<Hook>,
    /// Who is told that it is ready, how it is, and that it ends.
    pub notifier: Notifier,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Events cannot be written.
    #[error(transparent)]
    Events(#[from] SinkError),
    /// `/proc` cannot be read.
    #[error("this host cannot be looked at: {0}; mount /proc")]
    Host(#[from] ReadError),
    /// There are no descriptors left.
    #[error("what happens cannot be waited for: {0}; raise RLIMIT_NOFILE")]
    Descriptors(std::io::Error),
    /// `/proc` is that of another pid namespace.
    #[error(
        "/proc shows another pid namespace than hostprobe's own: {0}; mount one of its own (unshare --mount-proc), or run \
         hostprobe in the host's pid namespace (--pid=host)"
    )]
    ForeignProc(String),
    /// A receiver of alerts cannot be set up.
    #[error(transparent)]
    Alerts(#[from] AlertError),
    /// Signals cannot be caught.
    #[error("signals cannot be caught: {0}")]
    Signals(std::io::Error),
    /// The probes' client cannot be made.
    #[error("the probes cannot be set up: {0}")]
    Probes(#[from] crate::probe::ClientError),
}

/// Where the layers' messages come in.
pub struct Inbox {
    /// Changes of units.
    pub units: mpsc::Receiver<UnitChange>,
    /// What became of supervised commands.
    pub supervisor: mpsc::Receiver<SupervisorReport>,
    /// How what was asked for went.
    pub outcomes: mpsc::Receiver<Outcome>,
    /// Results of probes.
    pub probes: mpsc::Receiver<ProbeReport>,
    /// Services that are silent while probes still wait for them.
    pub silences: mpsc::Receiver<ServiceId>,
    /// Deliveries of alerts.
    pub alerts: mpsc::Receiver<AlertOutcome>,
    /// SIGHUP.
    pub hangups: Signal,
    /// The slow round.
    pub every_second: Interval,
}

impl Daemon {
    /// Attaches to the kernel, takes stock of the host, and starts what is to be started.
    ///
    /// Once attached, the calling thread gives up the rights that the daemon does not go on using. It has to be the
    /// only one: others keep theirs.
    pub async fn start(config: Config, options: RunOptions) -> Result<(Self, Inbox), RunError> {
        let began = Timestamp::now();
        let place = locate()?;
        let reader = ProcReader::new("/")?;
        let mut sensors = Sensors::open(&kernel_options(&config.kernel, &options), &reader)
            .map_err(RunError::Descriptors)?;
        if let Some(kernel) = &mut sensors.kernel {
            kernel.spawn_log();
        }
        sensors.coverage.iter().for_each(warn_of);
        // A port below 1024 takes a right as well.
        let page = listen(config.http).await;
        privileges::give_up(&config, sensors.kernel.as_ref());
        let config = Arc::new(config);
        let origin = Origin::read("/proc".as_ref());
        let names = Names::of(&config);
        let emitter = Emitter::new(origin.clone(), names.clone(), vec![Sink::open(&config.events)?]);
        let (views, view) = watch::channel(Arc::default());
        let start = Timestamp::now();
        let recording = record(&config, options.observe, &origin, &names, start);
        let mut publisher =
            Publisher::new(&config, emitter, origin.clone(), recording, sensors.coverage.clone(), views);
        let config_file = options.config_file.as_ref().map(|file| file.display().to_string());
        let engine = Engine::new(&config.services, options.observe, start);
        publisher.publish(Fact::AgentStart(AgentStart { config_file }), start);
        let mut seen = Seen::default();
        let self_test = self_test::run(&mut sensors, &reader, &mut seen).await;
        let Sensors { kernel, stand_ins, coverage } = sensors;

        let mut enricher = Enricher::new(reader.clone(), members(&config))?;
        if let Some(kernel) = &kernel {
            enricher.learn_from(kernel.lineages());
        }
        let (unit_changes, units_inbox) = mpsc::channel(QUEUE);
        let (supervisor, supervisor_inbox) = mpsc::channel(QUEUE);
        let (outcomes, outcomes_inbox) = mpsc::channel(QUEUE);
        let (probes, probes_inbox) = mpsc::channel(QUEUE);
        let (silences, silences_inbox) = mpsc::channel(QUEUE);
        let (alert_outcomes, alerts_inbox) = mpsc::channel(QUEUE);
        let mut every_second = interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);

        let shown = Shown {
            origin: Arc::new(origin.clone()),
            view,
            metrics: publisher.metrics(),
            history: publisher.history(),
        };
        control(config.control.as_deref(), &shown).await;
        let page = page.map(|listener| show(listener, shown));
        let alerter = Alerter::spawn(&config.alerts, &origin, page.as_deref(), alert_outcomes)?;
        let search = Search::new(&config, reader.clone(), outcomes.clone());
        let mut prober = Prober::new(Clients::new()?, probes, silences);
        let inspector = Inspector::new(reader.clone(), outcomes.clone(), config.snapshots.clone());
        let executor = Executor {
            holders: HolderSearch::new(reader.clone(), inspector.blocking_reads.clone(), outcomes.clone()),
            queues: AcceptQueues::new(reader.clone(), inspector.blocking_reads.clone(), outcomes.clone()),
            pressure: PressureMonitor::new(reader.clone(), &config),
            inspector,
            outcomes,
            unit_changes,
            systemd: Err("its bus is not connected yet".to_owned()),
            supervised: Default::default(),
            probes: Default::default(),
            alerter: Some(alerter),
            names,
            usage: UsageSampler::new(reader.clone()),
        };
        let mut daemon = Self {
            config,
            kernel,
            records: seen.records,
            sightings: seen.sightings,
            socket_look: Some(stand_ins.wanted_of_sockets())
                .filter(Wanted::any)
                .map(|wanted| Look::new(reader.clone(), began, wanted)),
            stand_ins,
            early: Default::default(),
            enricher,
            engine,
            publisher,
            executor,
            search,
            sockets: Sockets::default(),
            ends: Default::default(),
            began,
            measured: Timestamp::default(),
            stopping: false,
            config_file: options.config_file,
            notifier: options.notifier,
        };
        let mut inbox = Inbox {
            units: units_inbox,
            supervisor: supervisor_inbox,
            outcomes: outcomes_inbox,
            probes: probes_inbox,
            silences: silences_inbox,
            alerts: alerts_inbox,
            hangups: signal(SignalKind::hangup()).map_err(RunError::Signals)?,
            every_second,
        };
        if !daemon.kernel.as_ref().is_some_and(|kernel| kernel.has(Hook::Socket)) {
            daemon.observe(Observation::ConnectionsUnseen);
        }
        daemon.watch_expected_ports(&reader);
        daemon.take_over(&reader, &supervisor, &mut prober);
        daemon.connect_to_systemd(&mut inbox).await;

        let services = &daemon.config.services;
        let restartable =
            services.iter().filter(|service| service.restart.enabled && !options.observe).count();
        let ready = AgentReady {
            place,
            coverage,
            self_test,
            services: services.len() as u32,
            restartable: restartable as u32,
        };
        daemon.publisher.publish(Fact::AgentReady(ready), Timestamp::now());
        daemon.execute_effects();
        daemon.notifier.status(|| daemon.publisher.status_line());
        daemon.notifier.ready();
        memory::give_back();
        Ok((daemon, inbox))
    }

    /// Finds what runs already, starts what is to be started, and probes it all.
    fn take_over(
        &mut self,
        reader: &ProcReader,
        supervisor: &mpsc::Sender<SupervisorReport>,
        prober: &mut Prober,
    ) {
        let config = Arc::clone(&self.config);
        let survey = self.survey();
        for (id, service) in (0..).map(ServiceId).zip(&config.services) {
            match &service.identity {
                Identity::Exec(exec) => {
                    let cgroup = match reader.key_of(std::process::id()) {
                        Some(me) => reader.cgroups().create_for(me, &service.name),
                        None => Err(std::io::Error::other("/proc does not show the daemon itself")),
                    };
                    let lives = |daemon: ProcessKey| reader.key_of(daemon.pid) == Some(daemon);
                    let left_behind = reader.cgroups().left_behind(&service.name, lives);
                    if let Err(error) = &cgroup {
                        tracing::warn!(%error, service = service.name, "runs without a cgroup of its own");
                    }
                    let cgroup = cgroup.ok();
                    if let Some(cgroup) = &cgroup {
                        self.set_cgroup(id, cgroup.id);
                    }
                    let process = SupervisedProcess::new(
                        id,
                        exec.clone(),
                        (cgroup, left_behind),
                        reader.clone(),
                        supervisor.clone(),
                    );
                    process.restart();
                    self.executor.supervised.insert(id, process);
                }
                Identity::Match(_) => {
                    if let Some(main) = self.search.find_now(id, &survey) {
                        self.found(id, main, &survey);
                    }
                }
                Identity::Unit(_) | Identity::Remote => {}
            }
            let start =
                |(index, probe): (usize, &crate::config::Probe)| prober.spawn(id, index, probe.clone());
            self.executor.probes.insert(id, service.probes.iter().enumerate().map(start).collect());
        }
    }

    /// Connects to systemd, if a service is a unit of it, and waits for what it has to say of the units.
    async fn connect_to_systemd(&mut self, inbox: &mut Inbox) {
        let units = units(&self.config);
        if units.is_empty() {
            return;
        }
        match Systemd::connect().await {
            Ok(systemd) => self.executor.set_systemd(Arc::new(systemd), &self.config),
            Err(error) => {
                tracing::error!(%error, "units are not watched until systemd's bus can be reached");
                self.executor.systemd = Err(error.to_string());
                tokio::spawn(keep_connecting(self.executor.outcomes.clone()));
                return;
            }
        }
        let described = async {
            for _ in units {
                match inbox.units.recv().await {
                    Some(change) => self.on_unit(change.service, Ok(change.state)),
                    None => return,
                }
            }
        };
        if timeout(UNITS, described).await.is_err() {
            tracing::error!("systemd has not described all units in time; they are watched as it does");
        }
    }
}

/// Finds out where the daemon runs, and says so. It has to be a place where `/proc` and the kernel call a process the same.
fn locate() -> Result<Place, RunError> {
    let place = crate::host::place::find("/".as_ref(), std::process::id());
    if let Some(why) = place.foreign_proc {
        return Err(RunError::ForeignProc(why));
    }
    if place.sees_the_host() {
        tracing::info!("hostprobe runs {place}");
    } else {
        tracing::warn!(
            "hostprobe runs {place}; to watch the host, run it in the host's pid namespace (--pid=host)"
        );
    }
    Ok(place)
}

/// Starts the recording. Where it cannot be written, the daemon goes on without.
fn record(
    config: &Config,
    observe: bool,
    origin: &Origin,
    names: &Names,
    start: Timestamp,
) -> Option<Recording> {
    let opened = Recording::open(&config.state, &config.services, observe, origin, names, start);
    opened.inspect_err(|error| tracing::warn!("{error}")).ok().flatten()
}

fn kernel_options(options: &KernelOptions, run: &RunOptions) -> Options {
    Options {
        urgent_ring_bytes: options.urgent_ring_bytes,
        bulk_ring_bytes: options.bulk_ring_bytes,
        unwatched_per_second: options.unwatched_exits_per_second,
        log: run.kernel_log,
        without: run.without.clone(),
        ..Options::default()
    }
}

/// Says in the log what is not seen, and what stands in for it.
fn warn_of(hook: &HookCoverage) {
    if let Some(missing) = &hook.missing {
        let stand_in = hook.stand_in.as_deref().unwrap_or("nothing");
        tracing::warn!("{} is not attached: {missing}; instead: {stand_in}", hook.hook);
    }
    for lacking in &hook.lacking {
        tracing::warn!("{} tells less than it could: {lacking}", hook.hook);
    }
}

/// The way in to health and metrics. Where it cannot listen, the daemon goes on without: watching matters more than
/// being watched.
async fn listen(address: Option<SocketAddr>) -> Option<TcpListener> {
    let bound = serve::bind(address?).await;
    bound.inspect_err(|error| tracing::error!("health and metrics are not served: {error}")).ok()
}

/// Serves health and metrics, and returns the address for people.
fn show(listener: TcpListener, shown: Shown) -> String {
    let address = listener.local_addr().map(|address| address.to_string());
    let page = format!("http://{}/", address.as_deref().unwrap_or("localhost"));
    tracing::info!("health and metrics are at {page}");
    tokio::spawn(async move {
        if let Err(error) = serve::serve(listener, shown, std::future::pending()).await {
            tracing::error!(%error, "health and metrics are no longer served");
        }
    });
    page
}

/// Answers at the control socket. Where there can be none, the daemon goes on without.
async fn control(path: Option<&Path>, shown: &Shown) {
    let Some(path) = path else { return };
    match serve::control::open(path).await {
        Ok(socket) => {
            tokio::spawn(serve::control::serve(socket, shown.clone()));
        }
        Err(error) => tracing::warn!("`hostprobe status` cannot ask this daemon: {error}"),
    }
}

/// What is known of the services' processes before any is found.
fn members(config: &Config) -> Members {
    let mut members = Members::default();
    for (id, service) in (0..).map(ServiceId).zip(&config.services) {
        members.expect_ports(id, Service::local_ports(service));
        if service.identity == Identity::Remote {
            members.expect_elsewhere(id, service.probes.iter().filter_map(Probe::address).collect());
        }
    }
    members
}

/// Tries systemd's bus until it answers.
async fn keep_connecting(outcomes: mpsc::Sender<Outcome>) {
    loop {
        tokio::time::sleep(BUS_RETRY).await;
        match Systemd::connect().await {
            Ok(systemd) => {
                let _ = outcomes.send(Outcome::Systemd(Arc::new(systemd))).await;
                return;
            }
            Err(error) => tracing::debug!(%error, "systemd's bus still cannot be reached"),
        }
    }
}
