use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::chaos::plan::{DaemonEnd, Ending};

const LIFE: &str = "aaaaaaaa";

fn round(service: &str, fault: Fault) -> Round {
    let planned = Planned { service: of_name(service), fault, at: Duration::ZERO };
    Round { number: 0, surroundings: Surroundings::Calm, faults: vec![planned], end: None }
}

fn event(action: &str, service: &str) -> Value {
    json!({"event": {"action": action}, "service": {"name": service}, "agent": {"ephemeral_id": LIFE}})
}

fn incident(action: &str, service: &str, number: u32, verdict: &str) -> Value {
    let mut event = event(action, service);
    event["incident"] = json!({"id": format!("{LIFE}-i{number}"), "verdict": verdict});
    event
}

fn restart(service: &str, reason: &str) -> Value {
    let mut event = event("restart.request", service);
    event["restart"] = json!({"reason": reason});
    event
}

/// What a daemon says of a service that was killed.
fn healed() -> Vec<Value> {
    vec![
        incident("incident.open", "victim-1", 1, "killed"),
        restart("victim-1", "it was killed"),
        incident("incident.resolve", "victim-1", 1, "killed"),
    ]
}

#[track_caller]
fn is_wrong(round: &Round, events: &[Value], part: &str) {
    let wrong = judge(round, events).wrong;
    assert!(wrong.len() == 1 && wrong[0].contains(part), "{wrong:?}");
}

#[test]
fn a_fault_that_was_found_once_and_healed_is_right() {
    let shown = judge(&round("victim-1", Fault::Kill), &healed());
    assert_eq!(shown.wrong, [""; 0]);
    assert_eq!((shown.opened.len(), shown.due.len(), shown.restarts), (1, 1, 1));
    assert_eq!(judge(&round("victim-1", Fault::OperatorStops), &[]).wrong, [""; 0]);
}

#[test]
fn a_fault_that_was_found_twice_or_under_another_verdict_is_wrong() {
    let killed = round("victim-1", Fault::Kill);
    let again =
        [incident("incident.open", "victim-1", 2, "killed"), incident("incident.resolve", "victim-1", 2, "")];
    is_wrong(&killed, &[healed(), again.to_vec()].concat(), "2 incidents");
    let hung = healed().into_iter().map(|mut event| {
        if event["incident"].is_object() {
            event["incident"]["verdict"] = json!("hung");
        }
        event
    });
    is_wrong(&killed, &hung.collect::<Vec<_>>(), "the verdict hung");
    assert_eq!(judge(&killed, &[]).wrong.len(), 2, "neither found nor restarted");
}

#[test]
fn a_death_that_no_daemon_saw_may_have_any_verdict_of_a_death() {
    let mut unseen = round("victim-1", Fault::Segfault);
    is_wrong(&unseen, &healed(), "the verdict killed");
    unseen.end = Some(Ending { how: DaemonEnd::Killed, at: Duration::ZERO, gap: Duration::ZERO, ahead: 0 });
    assert_eq!(judge(&unseen, &healed()).wrong, [""; 0]);
    let looping = |end: Option<Ending>| {
        let open = incident("incident.open", "looping", 1, "exited");
        let events = [open, incident("incident.resolve", "looping", 1, "crash_loop")];
        judge(&Round { end, ..round("looping", Fault::CrashLoop) }, &events).wrong
    };
    assert_eq!((looping(None).len(), looping(unseen.end)), (1, Vec::new()));
}

#[test]
fn a_restart_of_a_service_that_is_well_or_only_paused_is_wrong() {
    let other = restart("victim-2", "its probe failed 3 times in a row");
    is_wrong(
        &round("victim-1", Fault::Kill),
        &[healed(), vec![other]].concat(),
        "victim-2 was well and was restarted",
    );
    let paused = [
        incident("incident.open", "victim-1", 1, "paused"),
        restart("victim-1", "it does not answer"),
        incident("incident.resolve", "victim-1", 1, "paused"),
    ];
    is_wrong(&round("victim-1", Fault::Frozen), &paused, "1 restarts");
    let ordered = restart("victim-1", "started by root");
    assert_eq!(judge(&round("victim-1", Fault::OperatorRestarts), &[ordered]).wrong, [""; 0]);
}

#[test]
fn services_wait_for_what_they_need_and_for_nothing_else() {
    let of_cache = |service: &str, verdict: &str| {
        [incident("incident.open", service, 2, verdict), incident("incident.resolve", service, 2, verdict)]
    };
    let cache = [
        incident("incident.open", "cache-1", 1, "killed"),
        restart("cache-1", "it was killed"),
        incident("incident.resolve", "cache-1", 1, "killed"),
    ];
    let killed = round("cache-1", Fault::Kill);
    for front in ["app-1a", "front-1"] {
        let events = [&cache[..], &of_cache(front, "dependency_down")].concat();
        let shown = judge(&killed, &events);
        assert_eq!((shown.wrong, shown.held), (Vec::new(), 1));
    }
    is_wrong(&killed, &[&cache[..], &of_cache("app-2a", "dependency_down")].concat(), "app-2a was well");
    is_wrong(&killed, &[&cache[..], &of_cache("app-1a", "hung")].concat(), "app-1a was well");
    let busy = judge(&killed, &[&cache[..], &of_cache("app-2a", "overloaded")].concat());
    assert_eq!((busy.wrong, busy.of_load), (Vec::new(), 1));
}

#[test]
fn an_incident_without_an_end_and_a_loss_without_a_cause_are_wrong() {
    let killed = round("victim-1", Fault::Kill);
    is_wrong(&killed, &healed()[..2], "has no end");
    let with_loss = |class: &str| {
        let mut loss = event("stream.loss", "");
        loss["loss"] = json!({"class": class, "count": 3});
        loss["message"] = json!("3 were lost");
        [healed(), vec![loss]].concat()
    };
    is_wrong(&killed, &with_loss("connect"), "a loss: 3 were lost");
    let starved = Round { surroundings: Surroundings::Starved, ..killed };
    assert_eq!(judge(&starved, &with_loss("connect")).wrong, [""; 0]);
    is_wrong(&starved, &with_loss("exit_watched"), "a loss: 3 were lost");
}

#[test]
fn a_gap_in_the_numbers_of_a_stream_is_found() {
    let numbered = |numbers: &[u64]| -> Vec<Value> {
        numbers.iter().map(|number| json!({"event": {"sequence": number}})).collect()
    };
    assert_eq!(sequence(&numbered(&[1, 2, 3])), None);
    assert_eq!(sequence(&numbered(&[1, 3])), Some("event 2 of a stream has the number 3".to_owned()));
    assert!(sequence(&numbered(&[2])).is_some());
}
