//! The daemon's own trouble: one incident of its own, and none of a service.

use super::*;

fn unasked() -> ProbeOutcome {
    let detail = "cannot probe 127.0.0.1:8080 from this host: Too many open files (os error 24)";
    ProbeOutcome::Failed(ProbeFailure::Local, detail.into())
}

fn two_services() -> Lab {
    let names = ["api", "web"];
    let services = names.map(|name| service(name, exec_identity(), vec![http_probe()], policy()));
    let mut lab = Lab::of(false, &services);
    for (id, pid) in [(API, 100), (ServiceId(1), 101)] {
        lab.see(Observation::Running(id, process(pid)));
        lab.answer_of(id, ProbeOutcome::Ok);
    }
    // Failures count after the grace.
    lab.wait(LATER);
    lab.published.clear();
    lab
}

fn own_incidents(lab: &Lab) -> Vec<Phase> {
    let mut phases = Vec::new();
    for fact in &lab.published {
        if let Fact::Incident(phase, incident) = fact {
            assert_eq!((incident.service, incident.verdict), (ServiceId::DAEMON, Verdict::AgentImpaired));
            assert!(incident.summary.contains("Too many open files"), "{}", incident.summary);
            phases.push(*phase);
        }
    }
    phases
}

#[test]
fn probes_that_fail_without_descriptors_are_one_incident_of_the_daemon_itself() {
    let mut lab = two_services();
    for _ in 0..20 {
        for id in [API, ServiceId(1)] {
            lab.answer_of(id, unasked());
        }
    }
    assert_eq!(own_incidents(&lab), [Phase::Open]);
    assert_eq!(lab.alerts(), [(Verdict::AgentImpaired, Severity::Critical, false)]);
    for view in lab.engine.view() {
        assert_eq!((view.state, view.incident), (ServiceState::Healthy, None), "the last known state");
        assert!(view.stale_since.is_some());
    }
    assert_eq!(lab.restarts_asked(), 0);
    let failures = lab.published.iter().filter(|fact| matches!(fact, Fact::Probe(..))).count();
    assert_eq!(failures, 2, "one event a probe");

    lab.wait(LATER);
    assert_eq!(own_incidents(&lab), [Phase::Open, Phase::Update], "it names both services");
    for id in [API, ServiceId(1)] {
        lab.answer_of(id, ProbeOutcome::Ok);
    }
    assert!(lab.engine.view().all(|view| view.stale_since.is_none()));
    lab.wait(LATER);
    assert_eq!(own_incidents(&lab), [Phase::Open, Phase::Update, Phase::Resolve]);
    assert_eq!(lab.alerts().last(), Some(&(Verdict::AgentImpaired, Severity::Critical, true)));
}

#[test]
fn a_failure_of_the_service_counts_through_the_daemons_own_trouble() {
    let mut lab = two_services();
    for _ in 0..3 {
        lab.refuse();
        lab.answer(unasked());
    }
    assert_eq!(lab.restarts_asked(), 1, "three refusals in a row, with nothing known in between");
}

#[test]
fn a_restart_that_waits_for_descriptors_is_one_restart_of_the_budget() {
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(lab.restarts_asked(), 1);
    let left = lab.restarts()[0].budget_left;
    // Far longer than a restart may take.
    for _ in 0..300 {
        lab.wait(Duration::from_secs(1));
        let why = "/usr/bin/api: Too many open files (os error 24)".to_owned();
        lab.see(Observation::RestartDelayed(API, why));
    }
    assert_eq!(lab.restarts_asked(), 1);
    lab.comes_back(101);
    lab.wait(LATER);
    assert_eq!(lab.state(), ServiceState::Healthy);
    assert_eq!(lab.restarts().last().map(|restart| restart.budget_left), Some(left));
    let own = |fact: &&Fact| matches!(fact, Fact::Incident(Phase::Open | Phase::Resolve, incident) if incident.service == ServiceId::DAEMON);
    assert_eq!(lab.published.iter().filter(own).count(), 2);
}
