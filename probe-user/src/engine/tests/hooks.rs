//! Calls of the user's own programs.

use super::*;
use crate::fact::{HookCall, HookEvent, OperatorCommand};

/// The calls so far: event, and the verdict of the incident.
fn calls(lab: &Lab) -> Vec<(HookEvent, Option<Verdict>)> {
    let of = |effect: &Effect| {
        let Effect::CallHooks(HookCall { event, incident, .. }) = effect else { return None };
        Some((*event, incident.as_ref().map(|incident| incident.verdict)))
    };
    lab.requested.iter().filter_map(of).collect()
}

#[test]
fn an_incident_calls_hooks_at_its_opening_at_the_restart_and_at_its_end() {
    let mut lab = Lab::exec();
    lab.killed(100);
    assert_eq!(calls(&lab), [(HookEvent::IncidentOpen, Some(Verdict::Killed))]);
    lab.comes_back(101);
    let killed = Some(Verdict::Killed);
    assert_eq!(calls(&lab)[1..], [(HookEvent::RestartAfter, killed), (HookEvent::IncidentResolve, killed)]);
}

#[test]
fn another_verdict_calls_the_hooks_again() {
    let restart = RestartPolicy { budget: 1, ..policy() };
    let mut lab = Lab::new(exec_identity(), vec![], restart);
    lab.killed(100);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Running(API, process(101)));
    lab.die(101, SEGV, None);
    let opened = calls(&lab).into_iter().filter(|(event, _)| *event == HookEvent::IncidentOpen);
    let verdicts: Vec<_> = opened.map(|(_, verdict)| verdict).collect();
    assert_eq!(verdicts, [Some(Verdict::Killed), Some(Verdict::CrashLoop)]);
}

#[test]
fn a_pause_holds_hooks_back_until_its_end() {
    let mut lab = Lab::exec();
    let pause = order(CommandKind::Pause, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Pause(pause)));
    lab.killed(100);
    lab.wait(LATER);
    assert_eq!(calls(&lab), []);
    let resume = order(CommandKind::Resume, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Resume(resume)));
    assert_eq!(calls(&lab), [(HookEvent::IncidentOpen, Some(Verdict::Killed))]);
}

#[test]
fn an_incident_that_is_over_within_a_pause_calls_no_hook() {
    let mut lab = Lab::exec();
    let pause = order(CommandKind::Pause, lab.now);
    lab.see(Observation::Operator(API, OperatorCommand::Pause(pause)));
    lab.killed(100);
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().map(|(phase, ..)| *phase), Some(Phase::Resolve));
    assert_eq!(calls(&lab), []);
}
