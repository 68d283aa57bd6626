//! The daemon is started again: open incidents, budgets and back-offs go on.

use super::*;
use crate::fact::{HookEvent, IncidentId, Memory, OperatorCommand, Order, Orders, RememberedIncident};

impl Lab {
    /// The last memory that the daemon was asked to keep, as a later run has it.
    fn memory(&self) -> Memory {
        let kept = |effect: &Effect| {
            if let Effect::KeepMemory { memory, .. } = effect { Some(memory.clone()) } else { None }
        };
        let mut memory = *self.requested.iter().rev().find_map(kept).unwrap();
        if let Some(RememberedIncident { incident, .. }) = &mut memory.incident {
            incident.id.run = Some(7);
        }
        memory
    }

    /// The daemon is killed, and the next one begins a second later.
    fn again(&self, services: &[config::Service]) -> Self {
        let mut next = Self::of(false, services);
        next.now = self.now.plus(Duration::from_secs(1));
        next.engine = Engine::new(services, false, next.now);
        next.see(Observation::Remembered(API, Box::new(self.memory())));
        next
    }

    /// The daemon starts the command.
    fn starts(&mut self, pid: u32) {
        self.see(Observation::RestartOutcome(API, Ok(())));
        self.see(Observation::Running(API, process(pid)));
    }

    fn ids(&self) -> Vec<(Phase, IncidentId)> {
        let id = |fact: &Fact| {
            if let Fact::Incident(phase, incident) = fact { Some((*phase, incident.id)) } else { None }
        };
        self.published.iter().filter_map(id).collect()
    }
}

const EARLIER: IncidentId = IncidentId { number: 1, run: Some(7) };

fn services() -> Vec<config::Service> {
    vec![service("api", exec_identity(), vec![http_probe()], policy())]
}

#[test]
fn an_open_incident_goes_on_and_ends_with_its_id_once_the_service_is_healthy() {
    let mut lab = Lab::exec();
    lab.killed(100);
    let mut next = lab.again(&services());
    assert_eq!(next.ids(), [(Phase::Update, EARLIER)]);
    next.starts(200);
    assert_eq!(next.ids().len(), 1, "it has yet to prove healthy");
    next.answer(ProbeOutcome::Ok);
    assert_eq!(next.ids()[1..], [(Phase::Resolve, EARLIER)]);
    assert_eq!(next.memory().incident, None);
    next.killed(200);
    assert_eq!(next.ids()[2..], [(Phase::Open, IncidentId::new(1))], "a further one has another id");
}

#[test]
fn the_alert_of_an_earlier_run_is_due_when_it_was_due_and_is_ended() {
    let mut lab = Lab::exec();
    lab.killed(100);
    let mut next = lab.again(&services());
    next.wait(LATER);
    assert_eq!(next.alerts().first(), Some(&(Verdict::Killed, Severity::Critical, false)));
    let mut third = next.again(&services());
    third.starts(200);
    third.wait(LATER);
    assert_eq!(third.alerts(), [], "it was sent already");
    third.answer(ProbeOutcome::Ok);
    assert!(matches!(third.alerts()[..], [(_, _, true)]));
}

#[test]
fn what_is_kept_comes_with_the_restart() {
    let mut lab = Lab::exec();
    lab.killed(100);
    let memory = lab.memory();
    assert_eq!((lab.restarts_asked(), memory.spent.len()), (1, 1));
    assert_eq!(memory.incident.unwrap().incident.attempts, 1);
}

#[test]
fn restarts_of_all_runs_count_against_the_budget_and_a_crash_loop_stays_one() {
    let mut lab = Lab::exec();
    for pid in 100..105 {
        lab.killed(pid);
        lab.comes_back(pid + 1);
    }
    let mut next = lab.again(&services());
    next.starts(200);
    next.answer(ProbeOutcome::Ok);
    next.killed(200);
    assert_eq!(next.restarts_asked(), 0, "the budget is spent");
    assert_eq!(next.incidents().last(), Some(&(Phase::Update, Verdict::CrashLoop, Severity::Critical)));

    let mut third = next.again(&services());
    assert!(third.engine.is_backing_off(API), "so the daemon does not start its command");
    third.wait(Duration::from_secs(290));
    assert_eq!(third.restarts_asked(), 0);
    third.wait(Duration::from_secs(20));
    assert_eq!(third.restarts_asked(), 1);
    third.comes_back(300);
    assert_eq!(third.ids().last(), Some(&(Phase::Resolve, EARLIER)));
}

#[test]
fn an_acknowledgement_goes_on() {
    let mut lab = Lab::exec();
    lab.killed(100);
    let order = order(CommandKind::Ack, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Ack(IncidentId::new(1), order.clone())));
    let mut next = lab.again(&services());
    assert_eq!(next.engine.view().next().unwrap().acknowledged, Some(order));
    next.starts(200);
    next.wait(LATER);
    assert_eq!(next.alerts(), []);
}

#[test]
fn the_incident_of_a_service_that_is_not_configured_any_more_ends_and_says_why() {
    let mut lab = Lab::exec();
    lab.killed(100);
    lab.wait(LATER);
    let next = lab.again(&[]);
    let Some(Fact::Incident(Phase::Resolve, incident)) = next.published.last() else {
        panic!("it ends: {:?}", next.published)
    };
    assert!(incident.summary.starts_with("the configuration does not have it any more; "), "{incident:?}");
    assert!(matches!(next.alerts()[..], [(_, _, true)]));
    assert_eq!(next.memory(), Memory::default());
}

#[test]
fn a_unit_that_still_fails_is_restarted_within_its_incident() {
    let unit = vec![service("api", Identity::Unit("api.service".into()), vec![http_probe()], policy())];
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::Unit(API, units::waiting_unit(100, lab.now, Duration::from_secs(10))));
    assert_eq!(lab.restarts_asked(), 1);
    let mut next = lab.again(&unit);
    next.see(Observation::Unit(API, units::running_unit(200)));
    next.refuse();
    assert_eq!(next.ids(), [(Phase::Update, EARLIER)]);
    for _ in 0..3 {
        next.refuse();
    }
    assert!(
        next.ids().iter().all(|(phase, id)| (*phase, *id) == (Phase::Update, EARLIER)),
        "{:?}",
        next.ids()
    );
    next.answer(ProbeOutcome::Ok);
    assert_eq!(next.ids().last(), Some(&(Phase::Resolve, EARLIER)));
}

#[test]
fn hooks_are_called_for_an_incident_of_an_earlier_run_only_at_its_end() {
    let opened = |lab: &Lab| {
        let is_open = |effect: &&Effect| matches!(effect, Effect::CallHooks(call) if call.event == HookEvent::IncidentOpen);
        lab.requested.iter().filter(is_open).count()
    };
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(opened(&lab), 1);
    let mut next = lab.again(&services());
    next.starts(200);
    next.die(200, SEGV, None);
    assert_eq!((next.incidents().last().unwrap().1, opened(&next)), (Verdict::Crashed, 0));
    next.comes_back(201);
    let ended = |effect: &Effect| matches!(effect, Effect::CallHooks(call) if call.event == HookEvent::IncidentResolve);
    assert!(next.requested.iter().any(ended));
}

/// A paused service that was killed, and whose alert was held back.
fn killed_in_a_pause() -> (Lab, Order) {
    let mut lab = Lab::exec();
    let pause = order(CommandKind::Pause, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Pause(pause.clone())));
    lab.killed(100);
    lab.wait(LATER);
    assert_eq!((lab.restarts_asked(), lab.alerts()), (0, vec![]));
    (lab, pause)
}

#[test]
fn a_pause_that_ended_while_no_daemon_ran_holds_nothing_back() {
    let (lab, _) = killed_in_a_pause();
    let mut next = lab.again(&services());
    next.wait(Duration::from_secs(1));
    assert_eq!((next.restarts_asked(), next.alerts().len()), (1, 1));
}

#[test]
fn a_pause_that_goes_on_holds_back_what_an_earlier_run_held_back() {
    let (lab, pause) = killed_in_a_pause();
    let mut next = lab.again(&services());
    let orders = Orders { pause: Some(pause), ..Orders::default() };
    next.see(Observation::Operator(API, OperatorCommand::Remembered(orders)));
    next.wait(LATER);
    assert_eq!((next.restarts_asked(), next.alerts()), (0, vec![]));
    let resume = order(CommandKind::Resume, next.now);
    next.see(Observation::Operator(API, OperatorCommand::Resume(resume)));
    assert_eq!((next.restarts_asked(), next.alerts().len()), (1, 1));
}

/// What is kept of a service that `process(100)` has answered for.
fn answered() -> Lab {
    let mut lab = Lab::of(false, &services());
    lab.see(Observation::Running(API, process(100)));
    lab.answer(ProbeOutcome::Ok);
    lab
}

/// The probe of the present process fails more often than is needed.
fn fails(lab: &mut Lab, failure: ProbeFailure) {
    lab.wait(LATER);
    for _ in 0..6 {
        lab.answer(ProbeOutcome::Failed(failure, "as it says".into()));
        if failure == ProbeFailure::Timeout {
            lab.see(Observation::Examined(API, Some(at_work())));
        }
    }
    lab.see(snapshot());
}

const LASTING: [(ProbeFailure, Verdict); 3] = [
    (ProbeFailure::Refused, Verdict::NotListening),
    (ProbeFailure::Timeout, Verdict::Hung),
    (ProbeFailure::Protocol, Verdict::Unhealthy),
];

#[test]
fn a_process_that_has_answered_an_earlier_run_is_restarted_when_it_fails() {
    for (failure, verdict) in LASTING {
        let mut next = answered().again(&services());
        next.see(Observation::Running(API, process(100)));
        fails(&mut next, failure);
        assert_eq!((next.incidents()[0].1, next.restarts_asked()), (verdict, 1), "{failure:?}");
    }
}

#[test]
fn what_an_earlier_run_knew_of_answers_goes_on_until_another_process_has_answered() {
    let mut first = Lab::exec();
    first.killed(100);
    first.comes_back(101);
    // The second run keeps something else of the service before it finds the process.
    let mut second = first.again(&services());
    second.see(Observation::Running(API, process(102)));
    second.killed(102);
    assert_eq!(second.memory().answers.unwrap().process, process(101));
    let mut third = second.again(&services());
    third.comes_back(103);
    assert_eq!(third.memory().answers.unwrap().process, process(103));
}

#[test]
fn another_process_has_answered_nothing_and_is_held() {
    let (pid, start) = (process(100).pid, process(100).start);
    let later = start.plus(Duration::from_secs(1));
    for other in [process(101), ProcessKey { pid, start: later }] {
        for (failure, _) in LASTING {
            let mut next = answered().again(&services());
            next.see(Observation::Running(API, other));
            fails(&mut next, failure);
            assert_eq!(
                (next.incidents()[0].1, next.restarts_asked()),
                (Verdict::Unhealthy, 0),
                "{failure:?}"
            );
            assert_eq!(next.restarts().last().unwrap().action, Action::Hold(rules::UNANSWERED.into()));
        }
    }
}

#[test]
fn an_answer_to_another_probe_proves_nothing() {
    let target = Secret::new("http://127.0.0.1:8080/other");
    let other = vec![service("api", exec_identity(), vec![Probe::new(ProbeKind::Http, target)], policy())];
    let mut next = answered().again(&other);
    next.see(Observation::Running(API, process(100)));
    fails(&mut next, ProbeFailure::Refused);
    assert_eq!((next.incidents()[0].1, next.restarts_asked()), (Verdict::Unhealthy, 0));
}

#[test]
fn answers_are_kept_once_for_each_process_and_not_with_each_answer() {
    let kept = |lab: &Lab| lab.requested.iter().filter(|it| matches!(it, Effect::KeepMemory { .. })).count();
    let mut lab = answered();
    for _ in 0..5 {
        lab.answer(ProbeOutcome::Ok);
    }
    lab.refuse();
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(kept(&lab), 1);
    let mut next = lab.again(&services());
    next.see(Observation::Running(API, process(100)));
    next.answer(ProbeOutcome::Ok);
    assert_eq!(kept(&next), 0, "the file has it");
}

#[test]
fn a_process_that_has_answered_an_earlier_run_does_not_start_any_more() {
    let mut lab = Lab::of(false, &services());
    let young = ProcessKey { start: lab.now, ..process(100) };
    lab.see(Observation::Running(API, young));
    lab.answer(ProbeOutcome::Ok);
    let mut next = lab.again(&services());
    next.see(Observation::Running(API, young));
    next.wait(LATER);
    for _ in 0..3 {
        next.refuse();
        next.see(Observation::Examined(API, Some(at_work())));
    }
    assert_eq!((next.incidents()[0].1, next.restarts_asked()), (Verdict::NotListening, 1));
}
