//! Publishes facts: to the event stream, the log, the metrics and the views that health and status show.

mod held;
mod wait;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use self::wait::Wait;
use super::{
    drill_timeline::DrillTimeline, last_actions::LastActions, operator_log::OperatorLog, rollups::Rollups,
};
use crate::{
    act::outward_heartbeat::HeartbeatCounts,
    clock::Timestamp,
    config::{Config, Service},
    emit::{self, Emitter, Names, Origin, Sink, Tail},
    engine::{Effect, Effects, Engine},
    fact::{
        Action, ContainerState, DrillReport, DrillStepKind, EventId, Fact, FaultContext, HookCoverage,
        Observation, Phase, ProbeReport, ServiceId, ServiceState,
    },
    fleet::Link,
    host::pod::Pods,
    progress::Awaited,
    redact::redact,
    serve::{Counters, Dependency, HostIncident, Metrics, ServiceView, View},
    store::{
        history::{self, History, Timeline},
        recording::Recording,
        state::StateStore,
    },
};

/// How long the end of a drill waits for the state file, which a report that follows reads.
const DRILL_KEPT: Duration = Duration::from_secs(2);

/// Publishes facts, and queues the effects that the engine requests.
pub struct Publisher {
    log: OperatorLog,
    /// That of the drill that is under way.
    timeline: Option<DrillTimeline>,
    pub(super) emitter: Emitter,
    metrics: Arc<Metrics>,
    views: watch::Sender<Arc<View>>,
    coverage: Vec<HookCoverage>,
    effects: VecDeque<Effect>,
    /// None without a recording.
    recording: Option<Recording>,
    /// None without a state directory.
    store: Option<StateStore>,
    wait: Wait,
    /// For alerts.
    last_actions: LastActions,
    /// None without a state directory.
    rollups: Option<Rollups>,
    history: Arc<Mutex<History>>,
    /// The time of each service's last change of state.
    since: BTreeMap<ServiceId, Timestamp>,
    counters: Counters,
    ready: bool,
    /// A service in the views has changed.
    changed: bool,
    /// None without a fleet.
    pub(super) fleet: Option<Link>,
}

impl Effects for Publisher {
    fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.publish(fact, at)
    }

    fn request(&mut self, effect: Effect) {
        self.changed |= matches!(effect, Effect::KeepOrders { .. });
        self.effects.push_back(effect);
    }
}

impl Publisher {
    /// `views` is what health, metrics and status read.
    pub(super) fn new(
        emitter: Emitter,
        origin: Origin,
        (recording, store): (Option<Recording>, Option<StateStore>),
        coverage: Vec<HookCoverage>,
        views: watch::Sender<Arc<View>>,
    ) -> Self {
        let metrics = Arc::new(Metrics::new(emitter.names().clone()));
        let (effects, counters) = (VecDeque::new(), Counters::default());
        Self {
            log: OperatorLog::new(origin, emitter.names().clone()),
            timeline: None,
            emitter,
            metrics,
            views,
            coverage,
            effects,
            recording,
            rollups: store.clone().map(Rollups::new),
            store,
            wait: Wait::default(),
            last_actions: LastActions::default(),
            history: Arc::default(),
            since: BTreeMap::new(),
            counters,
            ready: false,
            changed: true,
            fleet: None,
        }
    }

    pub(super) fn publish(&mut self, fact: Fact, at: Timestamp) -> EventId {
        self.count(&fact, at);
        self.log.on_fact(&fact);
        if let Some(timeline) = &mut self.timeline {
            timeline.on_fact(&fact, Timestamp::now());
        }
        self.metrics.observe(&fact);
        self.last_actions.on_fact(&fact);
        if let Some(rollups) = &mut self.rollups {
            rollups.on_fact(&fact, at);
        }
        if let Some(recording) = &mut self.recording {
            recording.on_fact(&fact, at);
        }
        if self.store.is_some() && matches!(fact, Fact::Incident(Phase::Open, _)) {
            // What the stream says of an incident, a later run of the daemon has to know.
            self.emitter.hold();
        }
        let id = self.emitter.publish(&fact, at);
        self.take_records();
        id
    }

    /// Takes what was rendered into the history.
    fn take_records(&mut self) {
        for record in self.emitter.take_records() {
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            if let (Some(timeline), Some(store)) = (history.take(record), &self.store) {
                store.keep_incident(timeline.clone());
            }
        }
    }

    /// Updates the views with a fact.
    fn count(&mut self, fact: &Fact, at: Timestamp) {
        self.changed |= matches!(
            fact,
            Fact::ServiceState(..) | Fact::Incident(..) | Fact::AgentReady(_) | Fact::Operator(_)
        );
        self.ready |= matches!(fact, Fact::AgentReady(_));
        self.counters.incidents += u64::from(matches!(fact, Fact::Incident(Phase::Open, _)));
        if let Fact::Restart(restart) = fact {
            self.counters.restarts += u64::from(restart.action == Action::Done);
        }
        if let Fact::ServiceState(id, ..) = fact {
            self.since.insert(*id, at);
        }
    }

    /// Records an observation that the engine gets at `now`, if a replay needs it.
    pub(super) fn record(&mut self, observation: &Observation, now: Timestamp) {
        if let Some(recording) = &mut self.recording {
            recording.on_observation(now, observation);
        }
    }

    pub(super) fn begin_timeline(&mut self, timeline: DrillTimeline) {
        self.timeline = Some(timeline);
    }

    /// The timeline of the drill that is under way.
    pub(super) fn timeline(&self) -> Option<&DrillTimeline> {
        self.timeline.as_ref()
    }

    pub(super) fn add_drill_step(&mut self, at: Timestamp, step: DrillStepKind, text: String) {
        if let Some(timeline) = &mut self.timeline {
            timeline.add(at, step, text);
        }
    }

    pub(super) fn end_timeline(&mut self) {
        self.timeline = None;
    }

    /// Has what is known of a drill written to the state file. Returns what may be waited for.
    pub(super) fn keep_drill(&self, report: DrillReport) -> Option<Awaited> {
        let store = self.store.as_ref()?;
        store.keep_drill(report);
        store.flush_for(DRILL_KEPT)
    }

    /// What hostprobe did last about incidents.
    pub(super) fn last_actions(&self) -> &LastActions {
        &self.last_actions
    }

    /// Takes the requested alerts into the timeline of a drill.
    pub(super) fn on_effects(&mut self, effects: &VecDeque<Effect>, config: &Config) {
        if let Some(timeline) = &mut self.timeline {
            effects.iter().for_each(|effect| timeline.on_effect(effect, config));
        }
    }

    /// Records that the engine does what is due at `now`.
    pub(super) fn record_tick(&mut self, now: Timestamp) {
        if let Some(recording) = &mut self.recording {
            recording.on_tick(now);
        }
    }

    /// Has what was published of incidents written to the state file. A wake-up of its writer would delay a restart.
    pub(super) fn flush_state(&self) {
        if let Some(store) = &self.store {
            store.flush();
        }
    }

    /// Counts a probe's result, published or not.
    pub(super) fn probed(&mut self, report: &ProbeReport) {
        self.metrics.probe(report);
        if let Some(rollups) = &mut self.rollups {
            rollups.on_probe(report);
        }
    }

    /// Keeps what services did up to now, before the state file is closed.
    pub(super) fn keep_rollups(&mut self) {
        if let Some(rollups) = &mut self.rollups {
            rollups.keep(Timestamp::now(), self.emitter.names());
        }
    }

    /// The effects that the engine requested since the last call.
    pub(super) fn take_effects(&mut self) -> VecDeque<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Shows the incidents that an earlier run has left open.
    pub(super) fn remember_incidents(&mut self, open: Vec<Timeline>) {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).remember_open(open);
    }

    /// What those who watch the stream live get.
    pub(super) fn tail(&self) -> Tail {
        self.emitter.tail()
    }

    /// The text of `/metrics`.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// The fill of the history: each table with its entries and its limit.
    pub(super) fn sizes(&self) -> [(&'static str, usize, usize); 2] {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        [
            ("recent_events", history.recent_count(), history::RECENT),
            ("incidents", history.incident_count(), history::INCIDENTS),
        ]
    }

    /// Adds what explains the fault of a service's last incident, if that was over before it came.
    pub(super) fn explain_last(&mut self, service: ServiceId, context: &FaultContext) {
        self.render_held();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let names = self.emitter.names();
        let context = emit::context(context, self.emitter.origin(), names);
        let timeline = history.explain_last(names.service(service), context);
        if let (Some(timeline), Some(store)) = (timeline, &self.store) {
            store.keep_incident(timeline.clone());
        }
    }

    /// The latest incidents and their events.
    pub(super) fn history(&self) -> Arc<Mutex<History>> {
        Arc::clone(&self.history)
    }

    /// Updates the views if anything but response times has changed.
    pub(super) fn update_changed_views(&mut self, engine: &Engine, config: &Config) {
        if std::mem::take(&mut self.changed) {
            self.update_views(engine, config);
        }
    }

    /// Updates the views, and reports events that the sinks lost.
    pub(super) fn every_second(
        &mut self,
        now: Timestamp,
        engine: &Engine,
        config: &Config,
        alerts_waiting: &[(String, u64)],
        heartbeat: Option<HeartbeatCounts>,
    ) {
        self.emitter.report_losses(now);
        self.report_recording_loss(now);
        if let Some(recording) = &mut self.recording {
            recording.every_second(now);
        }
        self.metrics.stream_lost(self.emitter.lost());
        self.metrics.alerting(alerts_waiting, heartbeat);
        self.counters.alerts_waiting = alerts_waiting.iter().map(|(_, count)| count).sum();
        self.update_views(engine, config);
        if let Some(rollups) = &mut self.rollups {
            rollups.every_second(now, self.emitter.names());
        }
    }

    fn report_recording_loss(&mut self, now: Timestamp) {
        let Some(recording) = &self.recording else { return };
        let count = recording.take_loss();
        if count > 0 {
            let place = recording.place().to_owned();
            self.publish(Fact::Loss { class: "recording".to_owned(), count, place }, now);
        }
    }

    fn update_views(&mut self, engine: &Engine, config: &Config) {
        self.counters.events = self.emitter.published();
        self.counters.events_lost = self.emitter.lost();
        self.tell_fleet(engine, config);
        let names = self.emitter.names();
        let (rollups, now) = (&mut self.rollups, Timestamp::now());
        let metrics = &self.metrics;
        let views = engine.view().inspect(|view| {
            metrics.growth(view.service, &view.growth);
            if let Some(rollups) = rollups {
                rollups.on_view(view, now);
            }
        });
        let known = views.filter_map(|view| Some((config.service(view.service)?, view)));
        let services = known.map(|(spec, view)| ServiceView {
            name: spec.name.clone(),
            unit: names.unit(spec.id).map(str::to_owned),
            critical: spec.critical,
            state: view.state,
            main_pid: view.main.map(|main| main.pid),
            response_time: view.response_time,
            error: view.error.map(|error| redact(&error).into_owned()),
            verdict: view.incident.as_ref().map(|incident| incident.verdict),
            summary: view.incident.as_ref().map(|incident| redact(&incident.summary).into_owned()),
            held: view.incident.as_ref().map_or_else(Vec::new, |incident| {
                incident.held.iter().map(|held| names.service(*held).to_owned()).collect()
            }),
            incident: view.incident.map(|incident| incident.id),
            since: self.since.get(&spec.id).copied(),
            stale_since: view.stale_since,
            maintenance: view.maintenance,
            orders: [view.orders.stop, view.orders.pause, view.acknowledged].into_iter().flatten().collect(),
            depends_on: depends_on(spec, &view.depends_on, names),
        });
        let services: Vec<ServiceView> = services.collect();
        let host = engine.host_incidents().map(|open| HostIncident {
            id: open.id,
            verdict: open.verdict,
            severity: open.severity,
            summary: redact(&open.summary).into_owned(),
            since: open.since,
            held: open.held.iter().map(|held| names.service(*held).to_owned()).collect(),
        });
        let host = host.collect();
        self.views.send_replace(Arc::new(View {
            ready: self.ready,
            observes: engine.only_observes(),
            services,
            host: Some(host),
            coverage: self.coverage.clone(),
            counters: self.counters,
        }));
    }

    /// Writes what operators are to know to the log, and the recording.
    pub(super) fn write_logs(&mut self) {
        self.log.write();
        if let Some(recording) = &mut self.recording {
            recording.render_waiting();
        }
    }

    /// The status in one line: how many services are healthy, and the first that are not.
    pub(super) fn status_line(&self) -> String {
        const NAMED: usize = 5;
        let view = self.views.borrow();
        let (attached, hooks) = HookCoverage::counts(&view.coverage);
        let others = || view.services.iter().filter(|service| service.state != ServiceState::Healthy);
        let (all, unwell) = (view.services.len(), others().count());
        let mut line =
            format!("{} of {all} services healthy, {attached} of {hooks} hooks attached", all - unwell);
        for service in others().take(NAMED) {
            line.push_str(&format!("; {} {}", service.name, service.state.as_str()));
        }
        if unwell > NAMED {
            line.push_str(&format!("; and {} more", unwell - NAMED));
        }
        line
    }

    pub(super) fn names(&self) -> &Names {
        self.emitter.names()
    }

    /// Names the services of another configuration in facts from now on.
    pub(super) fn rename_facts(&mut self, names: &Names) {
        self.log.rename(names.clone());
        self.emitter.rename(names.clone());
        if let Some(recording) = &mut self.recording {
            recording.rename(names.clone());
        }
    }

    /// Shows the services of another configuration, after the last facts about those that it does not have. The probes
    /// of `reprobed` services are new.
    pub(super) fn rename_services(&mut self, reprobed: &[ServiceId]) {
        let names = self.emitter.names();
        self.metrics.rename(names.clone(), reprobed);
        let kept: BTreeSet<ServiceId> = names.ids().collect();
        self.since.retain(|id, _| kept.contains(id));
        if let Some(rollups) = &mut self.rollups {
            rollups.retain(&kept);
        }
        self.changed = true;
    }

    /// Publishes to other outputs from now on.
    pub(super) fn replace_outputs(&mut self, outputs: Vec<Sink>, patience: Duration) {
        self.emitter.replace_outputs(outputs, patience);
    }

    /// The pods of this node.
    pub(super) fn set_pods(&mut self, pods: Pods) {
        self.emitter.set_pods(pods);
    }

    /// The container that a service is.
    pub(super) fn set_container(&mut self, service: ServiceId, container: ContainerState) {
        self.emitter.set_container(service, container);
    }

    /// Reopens the event files, after logrotate moved them away.
    pub(super) fn reopen(&self) {
        self.emitter.reopen();
    }

    /// Writes out the queued events.
    pub(super) async fn flush(mut self, patience: Duration) {
        // Those who watch the stream live get its last events.
        tokio::task::yield_now().await;
        self.log.write();
        if let Some(recording) = self.recording {
            let place = recording.place().to_owned();
            let lost = recording.shutdown(patience);
            if lost > 0 {
                tracing::warn!("{place}: {lost} lines of the recording were lost");
            }
        }
        let lost = self.emitter.shutdown(patience);
        if lost > 0 {
            tracing::warn!("event stream: {lost} events were not written before the stop");
        }
        if let Some(link) = self.fleet {
            link.leave(patience).await;
        }
    }
}

/// The dependencies of a service: first the declared ones, then the learned ones.
fn depends_on(spec: &Service, known: &[ServiceId], names: &Names) -> Vec<Dependency> {
    let learned = known.iter().filter(|id| !spec.depends_on.contains(id));
    let all = spec.depends_on.iter().map(|id| (id, false)).chain(learned.map(|id| (id, true)));
    all.map(|(id, learned)| Dependency { service: names.service(*id).to_owned(), learned }).collect()
}
