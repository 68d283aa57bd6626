//! The engine's model of a service: groups of state, each replaced or changed as a whole.

mod breaches;
mod dead_workers;
mod drill;
mod fault;
mod full_queues;
mod generation;
mod growth;
mod listeners;
mod liveness;
mod network;
mod oom_kills;
mod open_incident;
mod outside_requests;
mod port_check;
mod probe_state;
mod recovery;
mod server_breach;
mod settings;
mod startup;
mod stopped;
mod timers;
mod unit_view;

use std::time::Duration;

pub use dead_workers::{DeadWorkers, TOGETHER, WorkerDeaths};
pub use drill::ServiceDrill;
pub use fault::Fault;
pub use full_queues::{EMPTY_FOR, FullQueues, words as full_queue_words};
pub use generation::{DeadChild, Generation};
pub use growth::{CONFIRMED_WITHIN, Growth};
pub use listeners::{LISTENER_GONE, Listeners, LostListener};
pub use network::{OutboundTrouble, Place, Trouble};
pub use oom_kills::OomKills;
pub use open_incident::OpenIncident;
pub use outside_requests::{OutsideRequests, OutsideStop, RESTARTS, WINDOW};
pub use port_check::{CHECK, PortCheck};
pub use probe_state::ProbeState;
pub use recovery::{FailureStreak, Inspection, Recovery, RecoveryState, RequestedRestart, Succession};
pub use settings::Settings;
pub use startup::Startup;
pub use stopped::Stopped;
pub use timers::{Scope, Timer, Timers};
pub use unit_view::UnitView;

use crate::{
    clock::Timestamp,
    fact::{
        AlertSilence, Holder, Memory, Orders, ProcessKey, ServiceId, ServiceSettings, ServiceState, Writes,
    },
};

/// A process that exits with an error sooner than this after its start may have found its port taken.
pub const EARLY_EXIT: Duration = Duration::from_secs(10);

/// The longest wait of a first start for other services: a database may have to recover from its log first.
pub const FIRST_START_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub struct Service {
    pub(super) settings: Settings,
    pub(super) main: Option<ProcessKey>,
    /// The latest start.
    pub(super) startup: Startup,
    pub(super) generation: Generation,
    pub(super) probes: Vec<ProbeState>,
    pub(super) listeners: Listeners,
    pub(super) unit: UnitView,
    /// It was stopped on request and has not been healthy since.
    pub(super) stopped: Option<Stopped>,
    /// What programs asked for of it.
    pub(super) requests: OutsideRequests,
    /// The operator's orders in force.
    pub(super) orders: Orders,
    /// The open window of its maintenance, which is in effect as a pause.
    pub(super) maintenance: Option<String>,
    /// The operator's stop is under way.
    pub(super) stop_pending: bool,
    pub(super) oom_kills: OomKills,
    pub(super) full_queues: FullQueues,
    pub(super) growth: Growth,
    pub(super) network: OutboundTrouble,
    pub(super) worker_deaths: WorkerDeaths,
    /// The holders of its connections, as the service itself or the host's sockets show them.
    pub(super) holders: Vec<Holder>,
    pub(super) incident: Option<OpenIncident>,
    /// The drill that is under way.
    pub(super) drill: Option<ServiceDrill>,
    pub(super) recovery: Recovery,
    pub(super) timers: Timers,
    pub(super) state: ServiceState,
    /// Since when it has been unhealthy.
    pub(super) unwell_since: Option<Timestamp>,
    /// Where its processes were last seen to write to.
    pub(super) writes_to: Writes,
    /// What the daemon was last given to keep.
    pub(super) kept: Memory,
    /// What the daemon was last told to hold back alerts for.
    pub(super) kept_silence: Option<AlertSilence>,
}

impl Service {
    pub fn new(id: ServiceId, given: &ServiceSettings, observe: bool, now: Timestamp) -> Self {
        let settings = Settings::new(id, given, observe);
        Self {
            main: None,
            startup: Startup::new(now, first_grace(&settings)),
            generation: Generation::default(),
            probes: given.probes.iter().map(ProbeState::new).collect(),
            listeners: Listeners::new(given.ports.clone()),
            unit: UnitView::default(),
            stopped: None,
            requests: OutsideRequests::default(),
            orders: Orders::default(),
            maintenance: None,
            stop_pending: false,
            oom_kills: OomKills::default(),
            full_queues: FullQueues::default(),
            growth: Growth::default(),
            network: OutboundTrouble::default(),
            worker_deaths: WorkerDeaths::default(),
            holders: Vec::new(),
            incident: None,
            drill: None,
            recovery: Recovery::new(&settings.restart),
            timers: Timers::default(),
            state: ServiceState::Starting,
            unwell_since: None,
            writes_to: Writes::default(),
            kept: Memory::default(),
            kept_silence: None,
            settings,
        }
        .waiting_to_start(now)
    }

    /// Waits for other services if its command is to start after them.
    fn waiting_to_start(mut self, now: Timestamp) -> Self {
        if !self.settings.start_after.is_empty() {
            self.enter(RecoveryState::WaitingToStart(None), Some(now.plus(FIRST_START_MAX)));
        }
        self
    }

    pub fn has_probes(&self) -> bool {
        !self.probes.is_empty()
    }

    pub fn id(&self) -> ServiceId {
        self.settings.id
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.timers.next()
    }

    /// Enters a state of its recovery, which ends at `until` at the latest. Returns the state before.
    pub(super) fn enter(&mut self, state: RecoveryState, until: Option<Timestamp>) -> RecoveryState {
        self.timers.set(Timer::Recovery, until);
        self.recovery.enter(state)
    }

    /// The main process has ended or was replaced.
    pub(super) fn reset_generation(&mut self) {
        self.generation = Generation::default();
        self.timers.end(Scope::Process);
    }

    /// A start begins the counters and the grace again.
    pub(super) fn reset_startup(&mut self, now: Timestamp) {
        self.startup = Startup::new(now, self.settings.restart.grace);
        self.await_settling(now);
        for probe in &mut self.probes {
            probe.reset(now);
        }
    }

    /// The incident of a service without probes is over once it has run for long enough.
    pub(super) fn await_settling(&mut self, now: Timestamp) {
        let waits = self.incident.is_some() && self.probes.is_empty();
        let settling = self.settling();
        self.timers.set(Timer::Settled, waits.then(|| now.plus(settling)));
    }

    /// How long a service without probes must run to count as healthy; longer after a restart that was not enough.
    pub(super) fn settling(&self) -> Duration {
        const SETTLED: Duration = Duration::from_secs(1);
        let attempts = self.incident.as_ref().map_or(0, OpenIncident::attempts);
        if attempts < 2 { SETTLED } else { self.settings.restart.grace.max(SETTLED) }
    }

    pub(super) fn forget_lost_listener(&mut self) {
        self.generation.lost_listener = None;
        self.timers.clear(Timer::ListenerGone);
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::Idle)
    }

    pub(super) fn is_verifying(&self) -> bool {
        matches!(self.recovery.state(), RecoveryState::Verifying)
    }
}

/// The grace at the start of the daemon or at a reload. The daemon is about to start a supervised command; anything else may run already.
fn first_grace(settings: &Settings) -> Duration {
    if settings.is_supervised { settings.restart.grace } else { Duration::ZERO }
}
