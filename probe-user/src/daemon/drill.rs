//! Drills: a real fault on purpose, from the request to what came of it.
//!
//! The engine decides whether one may begin, and goes on as with any other fault. `act/drill.rs` causes the fault. The
//! daemon keeps the time, undoes what is not over in time, and keeps the timeline.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::oneshot, time::timeout};

use super::{
    Daemon,
    drill_state::{DrillPreparation, RunningDrill},
    drill_timeline::DrillTimeline,
    executor::Outcome,
};
use crate::{
    act::drill::{self, Caused, DrillTarget, PreparedFault, Undo},
    bounded_thread::{self, NoAnswer},
    clock::Timestamp,
    config::{Probe, Service},
    engine::Effect,
    fact::{
        CommandKind, DrillFault, DrillOutcome, DrillStepKind, Fact, Observation, OperatorCommand,
        OperatorReport, Order, ProcessKey, ServiceId,
    },
    host::ProcReader,
    serve::control::{DrillAnswer, DrillPlan, DrillRequest, Refusal, RefusalKind},
};

/// How long a service may take to recover, besides what its probes need to see the fault and a command to end.
const RECOVERY: Duration = Duration::from_secs(60);

/// How long a fault lasts at most, whatever the times of the probes.
const LIMIT_MAX: Duration = Duration::from_secs(600);

/// How long receivers may take to accept the alerts after the recovery.
const DELIVERY: Duration = Duration::from_secs(15);

/// How long a service may take to answer once its fault is undone. An examination of its processes that began before that has
/// ended by then: they looked stopped in it.
const AFTERWARDS: Duration = Duration::from_secs(5);

/// How long the reads of `/proc` may take.
const LOOK: Duration = Duration::from_secs(5);

/// Between two looks whether a fault is still being caused, when the daemon ends.
const CAUSING: Duration = Duration::from_millis(10);

/// How long a fault may take to be caused, or to be undone. The kernel has ten seconds to run out of memory.
const CAUSE: Duration = Duration::from_secs(20);

impl Daemon {
    /// Answers what a drill would do, or begins it.
    pub fn on_drill_request(&mut self, request: DrillRequest) {
        let config = Arc::clone(&self.config);
        let service = match config.find_service(&request.service) {
            Ok(service) => service,
            Err(message) => {
                let refusal = Refusal { kind: RefusalKind::NotFound, message };
                return drop(request.answer.send(Err(refusal)));
            }
        };
        let id = service.id;
        if let Some(why) = self.obstacle_to_drill(id, request.fault) {
            return self.refuse_drill(id, request, why);
        }
        let Some(main) = self.enricher.members.main_of(id) else {
            return self.refuse_drill(id, request, "hostprobe does not know its main process".to_owned());
        };
        let target = DrillTarget {
            service: service.name.clone(),
            main,
            ports: service.local_ports().into_iter().collect(),
        };
        let (reader, fault) = (self.enricher.reader().clone(), request.fault);
        self.executor.outcomes.spawn(async move {
            let look = move || drill::prepare(fault, target, &reader).map_err(|error| error.to_string());
            let prepared = bounded_thread::answer("drill", LOOK, look).await;
            let prepared =
                prepared.map_err(|error| format!("its processes cannot be read: {error}")).flatten();
            Outcome::DrillPrepared(Box::new(DrillPreparation { service: id, request, prepared }))
        });
    }

    /// Why no drill may begin.
    fn obstacle_to_drill(&mut self, service: ServiceId, fault: DrillFault) -> Option<String> {
        if self.drill.is_some() {
            return Some(
                "another drill is under way, and there is one at a time; wait until it is over".to_owned(),
            );
        }
        if self.drill_directory.is_none() {
            return Some(
                "the daemon has no state directory, where it keeps what a drill has to undo; its log says why".to_owned(),
            );
        }
        let main = self.enricher.members.main_of(service);
        let also = main.map(|main| self.enricher.members.services_of(main)).unwrap_or_default();
        if let Some(other) = also.into_iter().find(|other| *other != service) {
            let name = self.config.name_of(other);
            return Some(format!(
                "its main process is also that of {name}, which would fail without a drill of its own"
            ));
        }
        self.engine.drill_obstacle(service, fault, Timestamp::now())
    }

    /// Refuses what was asked for. A question what a drill would do is no command.
    fn refuse_drill(&mut self, service: ServiceId, request: DrillRequest, why: String) {
        if request.agreed.is_some() {
            let order = order(&request);
            self.publish_drill_command(service, order, request.fault, Some(why.clone()));
        }
        let message = format!("{}: no drill: {why}", self.config.name_of(service));
        let _ = request.answer.send(Err(Refusal { kind: RefusalKind::Failed, message }));
    }

    fn publish_drill_command(
        &mut self,
        service: ServiceId,
        order: Order,
        fault: DrillFault,
        error: Option<String>,
    ) {
        let since = order.since;
        let (service, fault) = (Some(service), Some(fault));
        let report = OperatorReport { service, incident: None, order, fault, error };
        self.publisher.publish(Fact::Operator(report), since);
    }

    /// Whether the fault can be caused is known.
    pub(super) fn on_drill_prepared(&mut self, preparation: DrillPreparation) {
        let DrillPreparation { service, request, prepared } = preparation;
        let Some(spec) = self.config.service(service) else {
            return self.refuse_drill(service, request, "a reload has removed it meanwhile".to_owned());
        };
        let (name, limit) = (spec.name.clone(), limit(spec));
        let prepared = match prepared {
            Err(why) => return self.refuse_drill(service, request, why),
            Ok(prepared) => prepared,
        };
        let other = |key: &ProcessKey| {
            self.enricher.members.services_of(*key).into_iter().find(|other| *other != service)
        };
        if let Some(other) = prepared.family().iter().find_map(other) {
            let why = format!("one of its processes is the main one of {}", self.config.name_of(other));
            return self.refuse_drill(
                service,
                request,
                format!("{why}, which would fail without a drill of its own"),
            );
        }
        let main = prepared.main();
        match request.agreed {
            None => {
                let words = prepared.words();
                let plan =
                    DrillPlan { service: name, fault: request.fault, main, words, limit_s: limit.as_secs() };
                return drop(request.answer.send(Ok(DrillAnswer::Plan(plan))));
            }
            Some(agreed) if agreed != main => {
                let why = format!("its main process was {agreed} and is {main} by now; ask again");
                return self.refuse_drill(service, request, why);
            }
            Some(_) => {}
        }
        // Things may have changed since the request.
        if let Some(why) = self.obstacle_to_drill(service, request.fault) {
            return self.refuse_drill(service, request, why);
        }
        self.begin_drill(service, name, limit, request, prepared);
    }

    fn begin_drill(
        &mut self,
        service: ServiceId,
        name: String,
        limit: Duration,
        request: DrillRequest,
        prepared: PreparedFault,
    ) {
        let order = order(&request);
        self.publish_drill_command(service, order.clone(), request.fault, None);
        self.drills += 1;
        let drill = RunningDrill {
            id: format!("{}-d{}", self.origin.ephemeral_id, self.drills),
            service,
            name,
            fault: request.fault,
            order: order.clone(),
            prepared: Some(prepared),
            causing: Arc::default(),
            caused: None,
            delayed: None,
            undo: None,
            undone: None,
            limit,
            answer: request.answer,
        };
        self.publisher.begin_timeline(DrillTimeline::new(service));
        self.keep_drill(&drill, DrillOutcome::Unfinished);
        self.drill = Some(drill);
        self.observe(Observation::Operator(service, OperatorCommand::Drill(request.fault, order)));
        if !self.engine.is_in_drill(service) {
            self.end_drill(DrillOutcome::NotCaused);
        }
    }

    /// Causes the fault, if the effect is that. A restart of the service waits until the daemon knows that it is caused: a
    /// new process must not be the one that the fault is done to.
    pub(super) fn concerns_drill(&mut self, effect: &Effect) -> bool {
        let Some(drill) = &mut self.drill else { return matches!(effect, Effect::CauseFault { .. }) };
        if let Effect::Restart { service, .. } = effect
            && *service == drill.service
            && drill.caused.is_none()
        {
            drill.delayed = Some(effect.clone());
            return true;
        }
        if !matches!(effect, Effect::CauseFault { .. }) {
            return false;
        }
        let (Some(prepared), Some(directory)) = (drill.prepared.take(), self.drill_directory.clone()) else {
            return true;
        };
        let (reader, causing) = (self.enricher.reader().clone(), Arc::clone(&drill.causing));
        self.executor
            .outcomes
            .spawn(async move { Outcome::FaultCaused(cause(prepared, directory, reader, causing).await) });
        true
    }

    pub(super) fn on_fault_caused(&mut self, caused: Result<Caused, String>) {
        let Some(drill) = &mut self.drill else { return };
        let now = Timestamp::now();
        let is_caused = match caused {
            Ok(Caused { at, what, undo }) => {
                drill.caused = Some(at);
                drill.undo = undo;
                self.publisher.add_drill_step(at, DrillStepKind::Fault, what);
                true
            }
            Err(why) => {
                drill.caused = Some(now);
                self.publisher.add_drill_step(now, DrillStepKind::Fault, format!("not caused: {why}"));
                false
            }
        };
        let (service, delayed) = (drill.service, drill.delayed.take());
        if let Some(restart) = delayed.filter(|_| self.engine.awaits_restart(service)) {
            self.execute(restart);
        }
        if !is_caused {
            self.end_drill(DrillOutcome::NotCaused);
        }
    }

    /// Looks whether the drill is over, or takes too long.
    pub(super) fn check_drill(&mut self) {
        let (Some(drill), Some(timeline)) = (&self.drill, self.publisher.timeline()) else { return };
        let Some(caused) = drill.caused else { return };
        let now = Timestamp::now();
        let is_late = |since: Timestamp, within: Duration| now.since(since) >= within;
        let is_gone = !self.is_watched(drill.service);
        if let Some(undone) = drill.undone {
            if is_late(undone, AFTERWARDS) && (timeline.resolved.is_some() || is_late(undone, DELIVERY)) {
                self.end_drill(DrillOutcome::NotRecovered);
            }
        } else if is_gone || is_late(caused, drill.limit) && timeline.resolved.is_none() {
            self.undo_drill();
        } else if let Some(resolved) = timeline.resolved {
            let is_over = timeline.alerts_owed == 0 || is_late(resolved, DELIVERY);
            // An operator's stop ends an incident as well.
            let has_recovered = timeline.recovered.is_some();
            // A process that the restart has left is still stopped.
            self.undo_drill_quietly();
            if is_over {
                self.end_drill(if has_recovered {
                    DrillOutcome::Recovered
                } else {
                    DrillOutcome::NotRecovered
                });
            }
        }
    }

    /// Undoes what is left of the fault.
    fn undo_drill(&mut self) {
        let done = self.carry_out_undo();
        let now = Timestamp::now();
        if let Some(drill) = &mut self.drill {
            drill.undone = Some(now);
        }
        let done = if done.is_empty() { "nothing was left to undo".to_owned() } else { done.join(", ") };
        self.publisher.add_drill_step(now, DrillStepKind::Undone, format!("the time is over: {done}"));
    }

    /// After a recovery, what is left is mostly the record.
    fn undo_drill_quietly(&mut self) {
        let done = self.carry_out_undo();
        if !done.is_empty() {
            self.publisher.add_drill_step(Timestamp::now(), DrillStepKind::Undone, done.join(", "));
        }
    }

    fn carry_out_undo(&mut self) -> Vec<String> {
        let undo = self.drill.as_mut().and_then(|drill| drill.undo.take());
        let (Some(undo), Some(directory)) = (undo, self.drill_directory.clone()) else { return Vec::new() };
        let reader = self.enricher.reader().clone();
        let work = {
            let (undo, directory, reader) = (undo.clone(), directory.clone(), reader.clone());
            move || undo.carry_out(&directory, &reader)
        };
        match bounded_thread::blocking_answer("drill", LOOK, work) {
            Ok(done) => done,
            Err(NoAnswer::Thread(_)) => undo.carry_out(&directory, &reader),
            Err(error) => {
                tracing::error!("hostprobe: what a drill did is not undone yet: {error}");
                Vec::new()
            }
        }
    }

    fn end_drill(&mut self, outcome: DrillOutcome) {
        let Some(drill) = self.drill.take() else { return };
        let report = self.report_of(&drill, outcome);
        self.publisher.end_timeline();
        let kept = self.publisher.keep_drill(report.clone());
        self.observe(Observation::Operator(drill.service, OperatorCommand::DrillOver));
        tracing::info!("{}: the drill ({}) is over: {}", drill.name, drill.fault.as_str(), outcome.as_str());
        tokio::spawn(async move {
            if let Some(kept) = kept {
                kept.done().await;
            }
            let _ = drill.answer.send(Ok(DrillAnswer::Report(Box::new(report))));
        });
    }

    /// The daemon ends: what is frozen or limited must not stay so.
    pub(super) fn abandon_drill(&mut self) {
        let Some(drill) = &self.drill else { return };
        if drill.prepared.is_none() && drill.caused.is_none() {
            // The fault is being caused. Its record says what is to be undone.
            let begun = Instant::now();
            while Arc::strong_count(&drill.causing) > 1 && begun.elapsed() < LOOK {
                thread::sleep(CAUSING);
            }
            let reader = self.enricher.reader().clone();
            self.undo_left(&reader);
        }
        self.undo_drill_quietly();
        self.end_drill(DrillOutcome::Unfinished);
    }

    /// Undoes what an earlier run of the daemon has left.
    pub(super) fn undo_left(&mut self, reader: &ProcReader) {
        let Some(directory) = self.drill_directory.clone() else { return };
        let reader = reader.clone();
        let undo = move || {
            let left = Undo::left(&directory)?;
            Some((left.service.clone(), left.carry_out(&directory, &reader)))
        };
        match bounded_thread::blocking_answer("drill", LOOK, undo) {
            Ok(Some((service, done))) if !done.is_empty() => tracing::warn!(
                "{service}: a drill of an earlier run of hostprobe was not over; undone by now: {}",
                done.join(", ")
            ),
            Ok(_) => {}
            Err(error) => tracing::error!("hostprobe: what an earlier drill did may not be undone: {error}"),
        }
    }
}

/// Causes a fault on a thread of its own. What comes later than the daemon waits for is undone at once.
async fn cause(
    prepared: PreparedFault,
    directory: PathBuf,
    reader: ProcReader,
    causing: Arc<()>,
) -> Result<Caused, String> {
    let (done, caused) = oneshot::channel();
    let work = move || {
        let caused = prepared.cause(&directory, &reader).map_err(|error| error.to_string());
        if let Err(Ok(Caused { undo: Some(undo), .. })) = done.send(caused) {
            undo.carry_out(&directory, &reader);
        }
        drop(causing);
    };
    bounded_thread::start("drill", work).map_err(|error| error.to_string())?;
    match timeout(CAUSE, caused).await {
        Ok(Ok(caused)) => caused,
        Ok(Err(_)) => Err("its thread ended early".to_owned()),
        Err(_) => Err(format!("it was not done within {CAUSE:?}")),
    }
}

fn order(request: &DrillRequest) -> Order {
    let DrillRequest { by, reason, .. } = request;
    let (by, reason, since) = (by.clone(), reason.clone(), Timestamp::now());
    Order { kind: CommandKind::Drill, by, reason, since, until: None }
}

/// How long a service may take to recover before its fault is undone.
fn limit(service: &Service) -> Duration {
    let row = |probe: &Probe| probe.interval.saturating_add(probe.timeout).saturating_mul(probe.failures);
    let seen = service.probes.iter().map(row).max().unwrap_or_default();
    let stop = service.exec().map(|exec| exec.stop_timeout).unwrap_or_default();
    seen.saturating_add(stop).saturating_add(RECOVERY).min(LIMIT_MAX)
}
