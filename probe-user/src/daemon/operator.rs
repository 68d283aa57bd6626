//! The commands of operators: what they are about, whether they can be carried out, and what came of them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Daemon, operator_wait::OperatorWait};
use crate::{
    clock::Timestamp,
    config::{Identity, Service},
    fact::{
        CommandKind, Fact, IncidentId, Observation, OperatorCommand, OperatorReport, Order, Orders,
        ServiceId, is_incident_meant,
    },
    serve::control::{AlertTestRequest, Operation, OperatorRequest, Refusal, RefusalKind, Target},
};

/// What a command is about.
enum Aim {
    All,
    Service(ServiceId),
    Incident(ServiceId, IncidentId),
}

/// The longest that an operator waits for the state file to have an order.
const ORDER_KEPT: Duration = Duration::from_secs(1);

impl Daemon {
    /// Carries out a command, and answers the operator once its outcome is known.
    pub fn on_operator_request(&mut self, request: OperatorRequest) {
        let OperatorRequest { operation, by, answer } = request;
        let since = Timestamp::now();
        let until = operation.seconds.map(|seconds| since.plus(Duration::from_secs(seconds)));
        let kind = operation.operation;
        let order = Order { kind, by, reason: operation.reason.clone(), since, until };
        let aim = match self.aim(&operation) {
            Ok(aim) => aim,
            Err(refusal) => return drop(answer.send(Err(refusal))),
        };
        let (service, incident) = match aim {
            Aim::All => (None, None),
            Aim::Service(id) => (Some(id), None),
            Aim::Incident(id, incident) => (Some(id), Some(incident)),
        };
        let error = service.and_then(|id| self.obstacle(kind, id)).map(str::to_owned);
        let report =
            OperatorReport { service, incident, order: order.clone(), fault: None, error: error.clone() };
        self.publisher.publish(Fact::Operator(report), since);
        if let Some(why) = error {
            let message = format!("{}: {why}", self.subject(service));
            return drop(answer.send(Err(Refusal { kind: RefusalKind::Failed, message })));
        }
        let done = format!("{}: {order}", self.subject(service));
        match aim {
            Aim::All => {
                for service in &Arc::clone(&self.config).services {
                    self.observe(Observation::Operator(service.id, command(&order)));
                }
            }
            Aim::Incident(id, incident) => {
                self.observe(Observation::Operator(id, OperatorCommand::Ack(incident, order)));
            }
            Aim::Service(id) => {
                let runs = self.engine.runs(id);
                self.observe(Observation::Operator(id, command(&order)));
                match kind {
                    CommandKind::Start if runs => {
                        let message = format!("{}: it runs already", self.subject(service));
                        return drop(answer.send(Ok(message)));
                    }
                    CommandKind::Start | CommandKind::Restart | CommandKind::Stop => {
                        return self.await_outcome(OperatorWait { service: id, order, answer });
                    }
                    CommandKind::Pause
                    | CommandKind::Resume
                    | CommandKind::Ack
                    | CommandKind::Reload
                    | CommandKind::Drill => {}
                }
            }
        }
        self.unanswered.push((answer, done));
    }

    /// Answers the operators whose orders were carried out, once the state file has them: a crash of the daemon loses no
    /// order that was acknowledged.
    pub(super) fn answer_operators(&mut self) {
        let answers = std::mem::take(&mut self.unanswered);
        if answers.is_empty() {
            return;
        }
        let kept = self.executor.store.as_ref().and_then(|store| store.flush_for(ORDER_KEPT));
        tokio::spawn(async move {
            if let Some(kept) = kept {
                kept.done().await;
            }
            for (answer, done) in answers {
                // A client that went away needs no answer.
                let _ = answer.send(Ok(done));
            }
        });
    }

    /// Sends test messages, and answers the operator once all receivers have answered.
    pub fn on_alert_test_request(&mut self, request: AlertTestRequest) {
        let AlertTestRequest { receiver, by, answer } = request;
        let Some(test) = self.executor.test_alerts(receiver.as_deref(), &by.to_string()) else {
            let message = match receiver {
                Some(name) => self.config.no_receiver(&name),
                None => "there is no [[alert]] in the configuration".to_owned(),
            };
            return drop(answer.send(Err(Refusal { kind: RefusalKind::NotFound, message })));
        };
        tracing::info!("hostprobe: {by} tests the receivers of alerts");
        tokio::spawn(async move {
            let _ = answer.send(Ok(test.await));
        });
    }

    fn await_outcome(&mut self, wait: OperatorWait) {
        self.operator_waits.retain(|wait| !wait.answer.is_closed());
        self.operator_waits.push(wait);
    }

    /// A service was started, or could not be.
    pub(super) fn on_start(&mut self, service: ServiceId, outcome: &Result<(), String>) {
        self.publisher.start_is_over();
        self.answer_waits(service, outcome, |kind| kind != CommandKind::Stop);
    }

    /// A service was stopped for an operator, or could not be.
    pub(super) fn on_stopped(&mut self, service: ServiceId, outcome: Result<(), String>) {
        if let Err(error) = &outcome {
            let failed = self
                .operator_waits
                .iter()
                .find(|wait| wait.service == service && wait.order.kind == CommandKind::Stop);
            if let Some(order) = failed.map(|wait| wait.order.clone()) {
                let (service, error) = (Some(service), Some(error.clone()));
                let report = OperatorReport { service, incident: None, order, fault: None, error };
                self.publisher.publish(Fact::Operator(report), Timestamp::now());
            }
            self.observe(Observation::Operator(service, OperatorCommand::StopFailed(error.clone())));
        }
        self.answer_waits(service, &outcome, |kind| kind == CommandKind::Stop);
    }

    fn answer_waits(
        &mut self,
        service: ServiceId,
        outcome: &Result<(), String>,
        is_meant: impl Fn(CommandKind) -> bool,
    ) {
        let ended = |wait: &mut OperatorWait| wait.service == service && is_meant(wait.order.kind);
        let ended: Vec<OperatorWait> = self.operator_waits.extract_if(.., ended).collect();
        for OperatorWait { order, answer, .. } in ended {
            let subject = self.subject(Some(service));
            let _ = answer.send(match outcome {
                Ok(()) => Ok(format!("{subject}: {order}")),
                Err(error) => {
                    let message = format!("{subject}: {} failed: {error}", order.kind.as_str());
                    Err(Refusal { kind: RefusalKind::Failed, message })
                }
            });
        }
    }

    /// Lets the engine observe the orders that an earlier run of the daemon got.
    pub(super) fn observe_remembered(&mut self, mut remembered: BTreeMap<String, Orders>) {
        let config = Arc::clone(&self.config);
        for (id, name) in config.services.iter().map(|service| (service.id, &service.name)) {
            let Some(orders) = remembered.remove(name) else { continue };
            for order in [&orders.stop, &orders.pause].into_iter().flatten() {
                tracing::info!("{name}: {order}; the order is from an earlier run of hostprobe");
            }
            self.observe(Observation::Operator(id, OperatorCommand::Remembered(orders)));
        }
    }

    /// Why a command cannot be carried out.
    fn obstacle(&self, kind: CommandKind, service: ServiceId) -> Option<&'static str> {
        let changes_the_host = matches!(kind, CommandKind::Stop | CommandKind::Start | CommandKind::Restart);
        if self.only_observes && changes_the_host {
            return Some("the daemon only observes (--observe), and starts and stops nothing");
        }
        lack_of_method(kind, self.config.service(service)?)
    }

    fn subject(&self, service: Option<ServiceId>) -> &str {
        service.map_or("all services", |id| self.config.name_of(id))
    }

    /// Finds what a command is about.
    fn aim(&self, operation: &Operation) -> Result<Aim, Refusal> {
        let refuse = |kind, message| Err(Refusal { kind, message });
        let kind = operation.operation;
        match &operation.target {
            Target::All if matches!(kind, CommandKind::Pause | CommandKind::Resume) => Ok(Aim::All),
            // A drill has a request of its own.
            Target::Service(name)
                if !matches!(kind, CommandKind::Ack | CommandKind::Reload | CommandKind::Drill) =>
            {
                let found = self.config.find_service(name);
                found
                    .map(|service| Aim::Service(service.id))
                    .map_err(|message| Refusal { kind: RefusalKind::NotFound, message })
            }
            Target::Incident(which) if kind == CommandKind::Ack => self.open_incident(which),
            Target::All | Target::Service(_) | Target::Incident(_) => {
                refuse(RefusalKind::BadRequest, format!("{} has another target", kind.as_str()))
            }
        }
    }

    /// An open incident by its id, or by the number at the end of it.
    fn open_incident(&self, which: &str) -> Result<Aim, Refusal> {
        let is_meant = |id: IncidentId| is_incident_meant(which, &self.origin.incident_id(id));
        let found = self.engine.view().find_map(|view| {
            let id = view.incident?.id;
            is_meant(id).then_some(Aim::Incident(view.service, id))
        });
        found.ok_or_else(|| Refusal {
            kind: RefusalKind::NotFound,
            message: format!("no service has an open incident {which:?}; `hostprobe incidents` lists them"),
        })
    }
}

/// What the engine observes of an order about a service.
fn command(order: &Order) -> OperatorCommand {
    let order = order.clone();
    match order.kind {
        CommandKind::Stop => OperatorCommand::Stop(order),
        CommandKind::Start => OperatorCommand::Start(order),
        CommandKind::Restart => OperatorCommand::Restart(order),
        CommandKind::Pause => OperatorCommand::Pause(order),
        CommandKind::Resume | CommandKind::Ack | CommandKind::Reload | CommandKind::Drill => {
            OperatorCommand::Resume(order)
        }
    }
}

/// Why there is no method for a command.
fn lack_of_method(kind: CommandKind, service: &Service) -> Option<&'static str> {
    let has_command = service.restart.command.is_some();
    match (kind, &service.identity) {
        (CommandKind::Stop | CommandKind::Start | CommandKind::Restart, Identity::Remote) => {
            Some("hostprobe only probes it, and cannot start or stop it")
        }
        (CommandKind::Stop, Identity::Match(_)) => {
            Some("hostprobe did not start it, and cannot stop it; stop it by what runs it, after a pause")
        }
        (CommandKind::Start | CommandKind::Restart, Identity::Match(_)) if !has_command => {
            Some("hostprobe did not start it; restart.command would tell how it is restarted")
        }
        (
            CommandKind::Stop
            | CommandKind::Start
            | CommandKind::Restart
            | CommandKind::Pause
            | CommandKind::Resume
            | CommandKind::Ack
            | CommandKind::Reload
            | CommandKind::Drill,
            Identity::Unit(_)
            | Identity::Exec(_)
            | Identity::Match(_)
            | Identity::Container(_)
            | Identity::Remote,
        ) => None,
    }
}
