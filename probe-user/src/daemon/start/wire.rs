//! The third phase of the start: the parts of the daemon, connected by channels.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    announce::{Announced, State},
    attach::{Attached, Page},
    inbox::{Inbox, Senders},
    options::{RunError, RunOptions},
};
use crate::{
    act::{
        alert::{Alerter, Keeper, Kept},
        container::Containers,
        hook::Hooks,
        outward_heartbeat::OutwardHeartbeat,
    },
    bounded_thread::Threads,
    clock::Timestamp,
    config::{Config, OnExit},
    daemon::{
        Daemon, executor::Executor, reload_state::ReloadState, search::Search, sockets::state::Sockets,
    },
    emit::{Names, Origin},
    enrich::{Enricher, Members},
    fact::{IncidentId, Memory, Orders, ServiceId},
    host::{ProcReader, Scanning},
    inspect::{
        holders::HolderSearch, host::HostMonitor, inspector::Inspector, pressure::PressureMonitor,
        queues::AcceptQueues, usage::UsageSampler,
    },
    probe::{
        Clients, Prober,
        heartbeat::{BeatKeeper, Earlier, Heartbeats},
    },
    process::{notify::Notifier, privileges::Plan},
    serve::{self, Hosts, Past, Shown},
    spawn::RunCgroup,
    store::{
        last_run::{EarlierRun, LastRun},
        state::Remembered,
    },
};

/// The daemon, and what an earlier one left.
pub(super) struct Wired {
    pub(super) daemon: Daemon,
    pub(super) inbox: Inbox,
    /// The operators' orders in force, by service.
    pub(super) orders: BTreeMap<String, Orders>,
    /// What the engine has to know of an earlier run.
    pub(super) memories: Vec<(ServiceId, Memory)>,
    /// The run before this one.
    pub(super) earlier_run: Option<EarlierRun>,
}

/// Puts the daemon together, and begins to serve health and metrics.
pub(super) async fn wire(
    config: Arc<Config>,
    options: RunOptions,
    attached: Attached,
    announced: Announced,
    scanning: Scanning,
) -> Result<Wired, RunError> {
    let Attached { began, place: _, reader, sensors, page, control, oom_log } = attached;
    let Announced { origin, names, publisher, state, view, engine, seen, self_test: _, spool } = announced;
    let drill_directory = state.as_ref().map(|_| config.state.directory.clone());
    let begun = drill_directory.as_deref().map(|directory| LastRun::begin(directory, &origin.boot_id));
    let (last_run, earlier_run) = begun.map_or((None, None), |(run, earlier)| (Some(run), earlier));
    let off = earlier_run
        .as_ref()
        .map(|earlier| earlier.off_before(&origin.boot_id, Timestamp::default().to_wall()));
    let heartbeats = heartbeats(&config, state.as_ref(), off.unwrap_or_default());
    let mut enricher = Enricher::of(reader.clone(), scanning.finish()?, members(&config));
    if let Some(lineages) = sensors.lineages() {
        enricher.learn_from(lineages);
    }
    let (senders, inbox) = Inbox::open().map_err(RunError::Signals)?;
    let shown = Shown {
        origin: Arc::new(origin.clone()),
        view,
        metrics: publisher.metrics(),
        history: publisher.history(),
        tail: publisher.tail(),
        heartbeats: heartbeats.clone(),
        past: Past::new(state.as_ref().map(|_| config.state.directory.clone())),
        hosts: Hosts::of(config.fleet.clone(), &origin.host_name),
    };
    if let Some(socket) = control {
        tokio::spawn(serve::control::serve(socket, shown.clone(), senders.requests.clone()));
    }
    let own_page = page.map(|page| show(page, shown));
    let page = config.public_url.clone().or(own_page);
    let (directory, store, mut remembered, memories) = match state {
        Some(State { directory, store, remembered, memories }) => {
            (Some(directory), store, remembered, memories)
        }
        None => (None, None, Remembered::default(), Vec::new()),
    };
    let keeper = store.clone().map(|store| Arc::new(store) as Arc<dyn Keeper>);
    let kept = Kept { keeper, alerts: remembered.take_alerts(&names, &origin) };
    let alerter = Alerter::spawn(&config.alerts, &origin, page.as_deref(), senders.alerts.clone(), kept)?;
    let remembered_open = memories.iter().flat_map(|(_, memory)| memory.incidents());
    let open: BTreeSet<IncidentId> = remembered_open.map(|open| open.incident.id).collect();
    alerter.end_unknown(|id| open.contains(&id));
    let next_id = names.next_id();
    let reloads = ReloadState::new(options.config_file, options.events, next_id);
    let may_start_programs = Plan::of(&config).starts_programs;
    let cgroups = reader.key_of(std::process::id()).map(|me| (reader.cgroups().clone(), me));
    if !options.observe {
        reader.abandoned_runs().into_iter().map(RunCgroup::new).for_each(drop);
    }
    let prober =
        Prober::new(Clients::with(cgroups, heartbeats)?, senders.probes.clone(), senders.silences.clone());
    let hooks = (!options.observe).then(|| hooks(&config, &origin, &reader, &senders));
    let state_directory = directory.as_ref().map(|directory| directory.id);
    let left = std::mem::take(&mut remembered.commands);
    let on_exit = on_exit(&config, &options.notifier, store.is_some());
    let mut heartbeat = OutwardHeartbeat::default();
    heartbeat.configure(config.heartbeat.as_ref()).map_err(RunError::Heartbeat)?;
    let mut executor = Executor {
        store,
        heartbeat,
        hooks,
        state_directory,
        on_exit,
        left,
        ..executor(&config, names, &reader, alerter, prober, &senders)
    };
    executor.inspector.read_from(oom_log);
    let mut daemon = Daemon {
        origin,
        _directory: directory,
        sensors,
        records: seen,
        early: Default::default(),
        enricher,
        engine,
        publisher,
        search: Search::new(&config, reader.clone(), senders.outcomes.clone()),
        executor,
        config,
        sockets: Sockets::default(),
        missed_exits: Default::default(),
        began,
        measured: Timestamp::default(),
        stopping: false,
        only_observes: options.observe,
        reloads,
        may_start_programs,
        operator_waits: Vec::new(),
        unanswered: Vec::new(),
        windows: Default::default(),
        drill: None,
        restarting: BTreeSet::new(),
        drills: 0,
        drill_directory,
        preparations: 0,
        notifier: options.notifier,
        last_run,
    };
    daemon.join_fleet(spool);
    Ok(Wired { daemon, inbox, orders: remembered.orders, memories, earlier_run })
}

fn executor(
    config: &Config,
    names: Names,
    reader: &ProcReader,
    alerter: Alerter,
    prober: Prober,
    senders: &Senders,
) -> Executor {
    let answers = senders.answers.clone();
    let inspector = Inspector::new(reader.clone(), answers.clone(), config.snapshots.clone());
    Executor {
        holders: HolderSearch::new(reader.clone(), inspector.blocking_reads.clone(), answers.clone()),
        queues: AcceptQueues::new(reader.clone(), inspector.blocking_reads.clone(), answers.clone()),
        pressure: PressureMonitor::new(reader.clone(), config, prober.epoch()),
        host: HostMonitor::new(reader.clone()),
        inspector,
        outcomes: senders.outcomes.clone(),
        answers,
        unit_changes: senders.units.clone(),
        systemd: Err("its bus is not connected yet".to_owned()),
        kept: None,
        unit_watches: Vec::new(),
        containers: Containers::new(&config.containers, reader),
        container_states: Default::default(),
        connects_to_systemd: false,
        supervised: Default::default(),
        orphans: None,
        starts: Threads::lasting("exec"),
        reports: senders.supervisor.clone(),
        removals: Vec::new(),
        prober,
        probes: Default::default(),
        alerter: Some(alerter),
        heartbeat: OutwardHeartbeat::default(),
        on_exit: OnExit::Stop,
        left: Default::default(),
        state_directory: None,
        store: None,
        hooks: None,
        prepared: Default::default(),
        names,
        usage: UsageSampler::new(reader.clone()),
    }
}

/// What commands under `exec` do when the daemon ends. Without its state, the next daemon could not take them over.
fn on_exit(config: &Config, notifier: &Notifier, has_state: bool) -> OnExit {
    let by_start = if notifier.is_of_a_manager() { OnExit::Leave } else { OnExit::Stop };
    match config.on_exit {
        Some(OnExit::Leave) if !has_state => {
            tracing::warn!(
                "supervisor.on_exit: commands under exec end with the daemon, because it keeps no state of them in {}",
                config.state.directory.display()
            );
            OnExit::Stop
        }
        _ if !has_state => OnExit::Stop,
        configured => configured.unwrap_or(by_start),
    }
}

fn hooks(config: &Config, origin: &Origin, reader: &ProcReader, senders: &Senders) -> Hooks {
    let cgroups = reader.key_of(std::process::id()).map(|me| (reader.cgroups().clone(), me));
    let mut hooks = Hooks::new(origin.clone(), senders.hooks.clone(), cgroups);
    hooks.configure(&config.hooks);
    hooks
}

/// The heartbeats that are waited for, with what an earlier run knows of them.
fn heartbeats(config: &Config, state: Option<&State>, off: Duration) -> Heartbeats {
    let store = state.and_then(|state| state.store.clone());
    let heartbeats = Heartbeats::new(store.map(|store| Arc::new(store) as Arc<dyn BeatKeeper>));
    let beats = state.map(|state| &state.remembered.heartbeats);
    heartbeats.configure(&config.services, Earlier { beats, off });
    heartbeats
}

/// Serves health and metrics, and returns the address for people.
fn show(Page { listener, access }: Page, shown: Shown) -> String {
    let address = listener.local_addr().map(|address| address.to_string());
    let page = format!("{}://{}/", access.scheme(), address.as_deref().unwrap_or("localhost"));
    tracing::info!("http: health and metrics are at {page}");
    tokio::spawn(async move {
        if let Err(error) = serve::serve(listener, access, shown, std::future::pending()).await {
            tracing::error!("http: health and metrics are no longer served: {error}");
        }
    });
    page
}

/// The enricher before any process is found.
fn members(config: &Config) -> Members {
    let mut members = Members::default();
    config.services.iter().for_each(|service| members.expect(service));
    members
}
