//! The outcome of a restart that comes when the service is well again.

use super::{
    races::matched,
    units::{running_unit, waiting_unit},
    *,
};
use crate::fact::{HookCall, HookEvent, IncidentId};

/// A unit whose restart is requested, and which answers before systemd says that its job is done. One of `Type=notify` can.
fn well_before_the_outcome() -> Lab {
    let mut lab = Lab::unit();
    lab.killed(100);
    lab.see(Observation::Unit(API, waiting_unit(100, lab.now, Duration::from_secs(10))));
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::Unit(API, running_unit(101)));
    lab.answer(ProbeOutcome::Ok);
    assert_eq!(lab.incidents().last().map(|it| it.0), Some(Phase::Resolve));
    lab
}

/// The outcomes that were published, each with its incident and its attempt.
fn outcomes(lab: &Lab) -> Vec<(Action, Option<IncidentId>, u32)> {
    let of = |it: &&Restart| (it.action.clone(), it.incident, it.attempt);
    let is_outcome = |it: &&&Restart| matches!(it.action, Action::Done | Action::Fail(_));
    lab.restarts().iter().filter(is_outcome).map(of).collect()
}

fn hooks_after_restart(lab: &Lab) -> Vec<Option<IncidentId>> {
    let of = |effect: &Effect| {
        let Effect::CallHooks(HookCall { event: HookEvent::RestartAfter, incident, .. }) = effect else {
            return None;
        };
        Some(incident.as_ref().map(|incident| incident.id))
    };
    lab.requested.iter().filter_map(of).collect()
}

#[test]
fn a_restart_is_done_also_if_the_service_was_well_before_its_outcome_came() {
    let mut lab = well_before_the_outcome();
    let incident = lab.restarts()[0].incident;
    assert!(incident.is_some() && outcomes(&lab).is_empty());
    lab.see(Observation::RestartOutcome(API, Ok(())));
    assert_eq!(outcomes(&lab), [(Action::Done, incident, 1)]);
    assert_eq!(hooks_after_restart(&lab), [incident]);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    assert_eq!(
        (outcomes(&lab).len(), hooks_after_restart(&lab).len()),
        (1, 1),
        "a second outcome says nothing"
    );
    assert_eq!(lab.state(), ServiceState::Healthy);
}

#[test]
fn a_restart_that_fails_after_the_service_was_well_opens_no_incident() {
    let mut lab = well_before_the_outcome();
    let (incident, before) = (lab.restarts()[0].incident, lab.incidents());
    let why = "the job was cancelled".to_owned();
    lab.see(Observation::RestartOutcome(API, Err(why.clone())));
    assert_eq!(outcomes(&lab), [(Action::Fail(why), incident, 1)]);
    lab.wait(LATER);
    assert_eq!((lab.incidents(), lab.restarts_asked(), lab.state()), (before, 1, ServiceState::Healthy));
    assert!(hooks_after_restart(&lab).is_empty());
}

#[test]
fn the_outcome_of_a_restart_without_a_request_is_not_published() {
    let mut lab = Lab::new(exec_identity(), vec![http_probe()], RestartPolicy::default());
    lab.killed(100);
    assert_eq!((lab.incidents()[0].0, lab.restarts_asked()), (Phase::Open, 0));
    lab.see(Observation::RestartOutcome(API, Ok(())));
    assert_eq!((outcomes(&lab), hooks_after_restart(&lab)), (vec![], vec![]));
}

#[test]
fn a_command_that_fails_after_its_service_was_well_opens_no_incident() {
    let mut lab = matched(vec![http_probe()]);
    lab.wait(LATER);
    lab.killed(100);
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::Running(API, process(101)));
    lab.answer(ProbeOutcome::Ok);
    let before = lab.incidents();
    assert_eq!(before.last().map(|it| it.0), Some(Phase::Resolve));
    lab.see(Observation::RestartOutcome(API, Err("exit code 1".to_owned())));
    assert_eq!(outcomes(&lab).len(), 1);
    lab.wait(LATER);
    assert_eq!((lab.incidents(), lab.restarts_asked(), lab.state()), (before, 1, ServiceState::Healthy));
}
