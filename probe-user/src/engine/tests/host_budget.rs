//! The restart budget of all services together.

use super::*;
use crate::fact::OperatorCommand;

const WINDOW: Duration = Duration::from_secs(600);

/// So many services under `exec` without probes, which run; the budget of all of them allows `restarts`.
fn lab(services: u32, restarts: u32) -> Lab {
    let services: Vec<_> = (0..services)
        .map(|number| service(&format!("s{number}"), exec_identity(), vec![], policy()))
        .collect();
    let mut lab = Lab::of(false, &services);
    lab.see(Observation::RestartBudget(RestartBudget { restarts, window: WINDOW }));
    for (number, _) in (0..).zip(&services) {
        lab.see(Observation::Running(ServiceId(number), process(100 + number)));
    }
    lab.wait(LATER);
    lab.published.clear();
    lab
}

fn crash(lab: &mut Lab, service: u32, pid: u32) {
    lab.now = lab.now.plus(Duration::from_millis(1));
    let member = Membership { service: ServiceId(service), main: true };
    lab.see(Observation::Exit(exit(pid, lab.now, SEGV, None), member, EventId(900)));
}

/// The services whose restarts were requested, in order.
fn restarted(lab: &Lab) -> Vec<u32> {
    let of =
        |effect: &Effect| if let Effect::Restart { service, .. } = effect { Some(service.0) } else { None };
    lab.requested.iter().filter_map(of).collect()
}

/// The incidents of hostprobe itself.
fn storms(lab: &Lab) -> Vec<(Phase, Vec<u32>)> {
    let of = |fact: &Fact| {
        let Fact::Incident(phase, incident) = fact else { return None };
        if incident.service != ServiceId::DAEMON {
            return None;
        }
        assert_eq!(incident.verdict, Verdict::RestartStorm);
        Some((*phase, incident.held.iter().map(|held| held.0).collect()))
    };
    lab.published.iter().filter_map(of).collect()
}

#[test]
fn restarts_beyond_the_budget_of_all_services_are_held_and_one_alert_says_so() {
    let mut lab = lab(5, 2);
    for service in [4, 0, 1, 2, 3] {
        crash(&mut lab, service, 100 + service);
    }
    assert_eq!(restarted(&lab), [4, 0]);
    let held: Vec<&Restart> =
        lab.restarts().into_iter().filter(|restart| matches!(restart.action, Action::Hold(_))).collect();
    assert_eq!(held.len(), 3);
    for restart in held {
        let Action::Hold(why) = &restart.action else { unreachable!() };
        assert!(why.contains("the budget of 2 per 10m restarts of all services is spent"), "{why}");
        assert_eq!(restart.budget_left, 5, "its own budget is untouched");
    }
    assert_eq!(storms(&lab), [(Phase::Open, vec![1])], "one incident");
    let storm = |alert: &&(Verdict, Severity, bool)| alert.0 == Verdict::RestartStorm;
    assert_eq!(lab.alerts().iter().filter(storm).count(), 1, "one alert");
    lab.wait(Duration::from_secs(60));
    assert_eq!(storms(&lab), [(Phase::Open, vec![1]), (Phase::Update, vec![1, 2, 3])]);
    assert_eq!(lab.alerts().iter().filter(storm).count(), 1, "while it lasts");
}

#[test]
fn a_held_restart_is_made_once_there_is_room_and_the_longest_wait_comes_first() {
    let mut lab = lab(4, 1);
    for service in [3, 2, 0] {
        crash(&mut lab, service, 100 + service);
    }
    assert_eq!(restarted(&lab), [3]);
    lab.see(Observation::RestartOutcome(ServiceId(3), Ok(())));
    lab.see(Observation::Running(ServiceId(3), process(203)));
    lab.wait(WINDOW);
    assert_eq!(restarted(&lab), [3, 2]);
    lab.see(Observation::RestartOutcome(ServiceId(2), Ok(())));
    lab.see(Observation::Running(ServiceId(2), process(202)));
    lab.wait(WINDOW);
    assert_eq!(restarted(&lab), [3, 2, 0]);
    lab.see(Observation::RestartOutcome(ServiceId(0), Ok(())));
    lab.see(Observation::Running(ServiceId(0), process(200)));
    lab.wait(WINDOW + LATER);
    let phases: Vec<Phase> = storms(&lab).into_iter().map(|(phase, _)| phase).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&Phase::Open), Some(&Phase::Resolve)));
    assert_eq!(phases.iter().filter(|phase| **phase == Phase::Open).count(), 1);
    let end = lab.alerts().into_iter().rfind(|alert| alert.0 == Verdict::RestartStorm);
    assert_eq!(end, Some((Verdict::RestartStorm, Severity::Critical, true)));
}

#[test]
fn a_larger_budget_of_a_reload_releases_restarts_at_once() {
    let mut lab = lab(4, 1);
    for service in 0..4 {
        crash(&mut lab, service, 100 + service);
    }
    assert_eq!(restarted(&lab), [0]);
    lab.see(Observation::RestartBudget(RestartBudget { restarts: 3, window: WINDOW }));
    assert_eq!(restarted(&lab), [0, 1, 2]);
    // A smaller one forgets nothing.
    lab.see(Observation::RestartBudget(RestartBudget { restarts: 1, window: WINDOW }));
    lab.wait(Duration::from_secs(300));
    assert_eq!(restarted(&lab), [0, 1, 2]);
}

#[test]
fn an_operators_restart_neither_spends_the_budget_nor_waits_for_it() {
    let mut lab = lab(3, 1);
    let asked = |service: u32, now| {
        Observation::Operator(ServiceId(service), OperatorCommand::Restart(order(CommandKind::Restart, now)))
    };
    lab.see(asked(2, lab.now));
    assert_eq!(restarted(&lab), [2]);
    crash(&mut lab, 0, 100);
    crash(&mut lab, 1, 101);
    assert_eq!(restarted(&lab), [2, 0], "the operator's was not counted, and the second has no room");
    lab.see(asked(1, lab.now));
    assert_eq!(restarted(&lab), [2, 0, 1]);
    for service in 0..3 {
        lab.see(Observation::RestartOutcome(ServiceId(service), Ok(())));
        lab.see(Observation::Running(ServiceId(service), process(200 + service)));
    }
    lab.wait(WINDOW);
    assert_eq!(restarted(&lab), [2, 0, 1], "nothing waits any more");
}

#[test]
fn a_paused_service_gives_its_turn_to_the_next() {
    let mut lab = lab(3, 1);
    for service in 0..3 {
        crash(&mut lab, service, 100 + service);
    }
    let pause = order(CommandKind::Pause, lab.now);
    lab.see(Observation::Operator(ServiceId(1), OperatorCommand::Pause(pause)));
    lab.wait(WINDOW);
    assert_eq!(restarted(&lab), [0, 2]);
}

#[test]
fn one_free_restart_is_for_one_unit_and_the_others_keep_their_places() {
    let units: Vec<_> = (0..4)
        .map(|number| {
            let unit = Identity::Unit(format!("s{number}.service"));
            service(&format!("s{number}"), unit, vec![], policy())
        })
        .collect();
    let mut lab = Lab::of(false, &units);
    lab.see(Observation::RestartBudget(RestartBudget { restarts: 1, window: WINDOW }));
    for number in 0..4 {
        lab.see(Observation::Running(ServiceId(number), process(100 + number)));
    }
    lab.wait(LATER);
    let mut died = [Timestamp::default(); 4];
    let waiting = |number: u32, died: Timestamp| {
        let state = units::waiting_unit(100 + number, died, Duration::from_secs(3600));
        Observation::Unit(ServiceId(number), state)
    };
    for number in [3, 0, 1, 2] {
        crash(&mut lab, number, 100 + number);
        died[number as usize] = lab.now;
        lab.see(waiting(number, lab.now));
    }
    assert_eq!(restarted(&lab), [3]);
    let holds = |lab: &Lab| {
        lab.restarts().into_iter().filter(|restart| matches!(restart.action, Action::Hold(_))).count()
    };
    assert_eq!(holds(&lab), 3);
    lab.requested.clear();
    lab.wait(WINDOW);
    // Service 3 has not come back.
    let asked = |lab: &Lab, number| lab.requested.contains(&Effect::InspectUnit(ServiceId(number)));
    assert_eq!([0, 1, 2].map(|number| asked(&lab, number)), [true, false, false], "however long it takes");
    lab.see(waiting(0, died[0]));
    assert_eq!(restarted(&lab), [0]);
    lab.requested.clear();
    lab.wait(WINDOW);
    assert!(asked(&lab, 1) && !asked(&lab, 2));
}

#[test]
fn a_later_run_ends_every_incident_of_hostprobe_itself() {
    let mut lab = lab(3, 1);
    for service in 0..3 {
        crash(&mut lab, service, 100 + service);
    }
    let lacks = "/usr/bin/s0: Too many open files (os error 24)".to_owned();
    lab.see(Observation::RestartDelayed(ServiceId(0), lacks));
    let kept = lab.requested.iter().rev().find_map(|effect| {
        if let Effect::KeepMemory { service: ServiceId::DAEMON, memory } = effect {
            Some(memory)
        } else {
            None
        }
    });
    let mut next = Lab::of(false, &[]);
    next.see(Observation::Remembered(ServiceId::DAEMON, kept.unwrap().clone()));
    let ended = next.incidents().into_iter().map(|(phase, verdict, _)| (phase, verdict));
    let both = [Verdict::AgentImpaired, Verdict::RestartStorm].map(|verdict| (Phase::Resolve, verdict));
    assert_eq!(ended.collect::<Vec<_>>(), both);
    assert_eq!(next.alerts().len(), 2, "both have an alert");
}
