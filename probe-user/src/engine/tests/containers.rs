//! Containers: their engine's restarts and health checks, stops, deploys and shared networks.

use super::{
    units::{later, running_unit},
    *,
};
use crate::{
    config::Container,
    fact::{ContainerEngine, ContainerHealth, ContainerState},
};

const ID: &str = "aaaaaaaaaaaa";
const NEXT_ID: &str = "bbbbbbbbbbbb";

impl Lab {
    /// A container that runs.
    fn container() -> Self {
        let identity = Identity::Container(Container { name: "web".to_owned(), engine: None });
        let mut lab = Self::of(false, &[service("api", identity, vec![], policy())]);
        lab.see(Observation::Unit(API, running(100, ID)));
        lab.wait(LATER);
        assert_eq!(lab.state(), ServiceState::Healthy);
        lab.published.clear();
        lab.requested.clear();
        lab
    }
}

fn running(pid: u32, id: &str) -> UnitState {
    let container = ContainerState {
        id: id.to_owned(),
        image: "nginx:1".to_owned(),
        ..ContainerState::named("web", ContainerEngine::Podman)
    };
    UnitState {
        kind: "container".to_owned(),
        invocation_id: format!("{id}@{pid}"),
        restarts_itself: false,
        restart_delay: LATER,
        manager_pid: 0,
        container: Some(Box::new(container)),
        ..running_unit(pid)
    }
}

/// It ended at `died`, by a request in these words if there are any.
fn ended(pid: u32, died: Timestamp, request: Option<&str>) -> UnitState {
    let mut state = UnitState {
        active: if request.is_some() { "inactive" } else { "failed" }.into(),
        sub: "exited".into(),
        result: "exit-code".into(),
        main: None,
        main_pid: 0,
        main_exited: later(died, 400),
        active_exit: later(died, if request.is_some() { 399 } else { 400 }),
        ..running(pid, ID)
    };
    if let Some(container) = &mut state.container {
        container.request = request.map(str::to_owned);
    }
    state
}

fn with(mut state: UnitState, change: impl FnOnce(&mut ContainerState)) -> UnitState {
    if let Some(container) = &mut state.container {
        change(container);
    }
    state
}

fn health(status: &str) -> Option<ContainerHealth> {
    Some(ContainerHealth { status: status.to_owned(), failures: 3, output: "no answer".to_owned() })
}

#[test]
fn a_container_that_fails_is_restarted_by_its_engines_api_once_its_state_is_known() {
    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Code(3), None);
    assert_eq!(lab.restarts_asked(), 0, "its state is read first");
    lab.see(Observation::Unit(API, ended(100, lab.now, None)));
    let expected = Effect::Restart { service: API, method: RestartMethod::Container, reset_failed: false };
    assert!(lab.requested.contains(&expected), "{:?}", lab.requested);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Unit(API, running(101, ID)));
    lab.wait(LATER);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_stop_that_the_engine_was_asked_for_is_no_incident() {
    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Code(143), None);
    lab.see(Observation::Unit(API, ended(100, lab.now, Some("Podman was asked to stop it"))));
    lab.wait(LATER);
    assert_eq!((lab.incidents(), lab.restarts_asked(), lab.state()), (vec![], 0, ServiceState::Stopped));
}

#[test]
fn another_container_of_the_same_name_is_a_deploy() {
    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Signal { number: 9, core_dumped: false }, None);
    // Its policy has restarted the new one before, which counts nothing here.
    let next = UnitState { restarts: 1, ..running(101, NEXT_ID) };
    lab.see(Observation::Unit(API, next));
    lab.wait(LATER);
    assert_eq!((lab.incidents(), lab.restarts_asked(), lab.state()), (vec![], 0, ServiceState::Healthy));
}

#[test]
fn a_restart_by_the_engines_own_policy_is_left_to_the_engine() {
    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Code(3), None);
    let again = UnitState { restarts: 1, restarts_itself: true, ..running(101, ID) };
    let again = UnitState { invocation_id: format!("{ID}@101"), ..again };
    lab.see(Observation::Unit(API, again));
    assert_eq!(lab.holds(), ["Podman has restarted it already"]);
    lab.wait(LATER);
    assert_eq!(lab.restarts_asked(), 0);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);

    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Code(3), None);
    let waits =
        UnitState { active: "activating".into(), sub: "auto-restart".into(), ..ended(100, lab.now, None) };
    lab.see(Observation::Unit(API, waits));
    assert_eq!(lab.holds(), ["Podman restarts it itself"]);
    lab.wait(Duration::from_secs(30));
    assert_eq!(lab.restarts_asked(), 0, "an engine may wait for a minute");
}

#[test]
fn a_failed_health_check_is_restarted_and_has_to_succeed_to_end_the_incident() {
    let mut lab = Lab::container();
    lab.see(Observation::Unit(API, with(running(100, ID), |it| it.health = health("unhealthy"))));
    lab.see(Observation::Unit(API, with(running(100, ID), |it| it.health = health("unhealthy"))));
    lab.wait(Duration::from_secs(5));
    assert_eq!(lab.incidents()[0].1, Verdict::Unhealthy);
    assert_eq!(lab.restarts_asked(), 1);
    lab.see(Observation::RestartOutcome(API, Ok(())));
    lab.see(Observation::Unit(API, with(running(101, ID), |it| it.health = health("starting"))));
    lab.wait(LATER);
    assert_ne!(lab.incidents().last().unwrap().0, Phase::Resolve, "it has not proved healthy");
    lab.see(Observation::Unit(API, with(running(101, ID), |it| it.health = health("healthy"))));
    lab.wait(LATER);
    assert_eq!(lab.incidents().last().unwrap().0, Phase::Resolve);
}

#[test]
fn a_container_that_is_left_with_an_ended_network_is_restarted() {
    let mut lab = Lab::container();
    let lost = with(running(100, ID), |it| (it.network_of, it.network_lost) = (Some("gateway".into()), true));
    lab.see(Observation::Unit(API, lost.clone()));
    lab.see(Observation::Unit(API, lost));
    lab.wait(Duration::from_secs(5));
    assert_eq!(lab.restarts_asked(), 1);
}

#[test]
fn a_container_that_no_engine_has_is_held() {
    let mut lab = Lab::container();
    lab.die(100, ExitStatus::Code(3), None);
    let gone = UnitState { load: "not-found".into(), active: "inactive".into(), ..ended(100, lab.now, None) };
    lab.see(Observation::Unit(API, gone));
    assert_eq!(lab.restarts_asked(), 0);
    assert!(lab.holds()[0].contains("Podman has no container of this name"), "{:?}", lab.holds());
}
