mod routes;

use std::time::Duration;

use super::*;
use crate::{
    act::alert::tests::{alert, critical, resolved},
    fact::{Severity, Verdict},
};

fn outbox(capacity: usize) -> Outbox {
    Outbox::new(AlertRoute::default(), false, capacity)
}

/// Delivers the next message; its incident, and whether it is resolved.
fn deliver(outbox: &mut Outbox) -> Option<(u64, bool)> {
    match outbox.next(Instant::now()) {
        Next::Deliver(message) => {
            let delivered = (message.incident().number, message.notification.alert.resolved);
            outbox.delivered(*message, None);
            Some(delivered)
        }
        Next::Wait(_) | Next::Empty => None,
    }
}

fn take(outbox: &mut Outbox) -> Message {
    match outbox.next(Instant::now()) {
        Next::Deliver(message) => *message,
        other @ (Next::Wait(_) | Next::Empty) => panic!("nothing to deliver: {other:?}"),
    }
}

#[test]
fn a_resolution_waits_for_its_opening() {
    let mut outbox = outbox(9);
    outbox.put(alert(1, Severity::Warning));
    outbox.put(resolved(1));
    assert_eq!(deliver(&mut outbox), Some((1, false)));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    assert_eq!(deliver(&mut outbox), None);
}

#[test]
fn a_resolution_without_an_opening_is_not_sent() {
    let mut outbox = outbox(9);
    assert!(!outbox.put(resolved(1)));
    outbox.put(alert(2, Severity::Info));
    outbox.put(resolved(2));
    assert_eq!(deliver(&mut outbox), None, "its severity is too low for this receiver");
}

#[test]
fn a_resolution_is_sent_once() {
    let mut outbox = outbox(9);
    outbox.put(critical(1));
    deliver(&mut outbox);
    assert!(outbox.put(resolved(1)));
    assert!(!outbox.put(resolved(1)));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    assert!(!outbox.put(resolved(1)));
    assert!(outbox.firing().is_empty());
}

#[test]
fn an_incident_is_sent_when_its_severity_reaches_the_minimum() {
    let mut outbox = outbox(9);
    assert!(!outbox.put(alert(1, Severity::Info)));
    assert!(outbox.put(critical(1)));
    assert_eq!(deliver(&mut outbox), Some((1, false)));
}

#[test]
fn an_update_is_sent_only_if_the_incident_has_changed() {
    let mut outbox = outbox(9);
    outbox.put(alert(1, Severity::Warning));
    deliver(&mut outbox);
    assert!(!outbox.put(alert(1, Severity::Warning)));
    let mut worse = critical(1);
    worse.incident.verdict = Verdict::CrashLoop;
    assert!(outbox.put(worse));
    let update = take(&mut outbox);
    assert_eq!(update.previous.unwrap().alert.incident.severity, Severity::Warning);
}

#[test]
fn a_queued_opening_takes_over_the_latest_state() {
    let mut outbox = outbox(9);
    outbox.put(alert(1, Severity::Warning));
    outbox.put(critical(1));
    assert_eq!(outbox.waiting(), 1);
    assert_eq!(take(&mut outbox).notification.alert.incident.severity, Severity::Critical);
}

#[test]
fn a_refused_message_delays_its_own_incident_only() {
    let mut outbox = outbox(9);
    outbox.put(critical(1));
    outbox.put(critical(2));
    outbox.put(resolved(1));
    let refused = take(&mut outbox);
    let later = Instant::now() + Duration::from_secs(600);
    assert!(outbox.failed(&refused, Some(later)), "the first failure is reported");
    assert_eq!(deliver(&mut outbox), Some((2, false)));
    match outbox.next(Instant::now()) {
        Next::Wait(until) => assert_eq!(until, later),
        other @ (Next::Deliver(_) | Next::Empty) => panic!("the resolution has to wait: {other:?}"),
    }
    let Next::Deliver(again) = outbox.next(later) else { panic!("it is time") };
    assert_eq!(again.attempts, 2);
    assert!(!outbox.failed(&again, None), "the second failure is not");
}

#[test]
fn a_full_outbox_drops_the_oldest_opening_and_never_a_resolution() {
    let mut outbox = outbox(3);
    outbox.put(critical(1));
    deliver(&mut outbox);
    outbox.put(resolved(1));
    outbox.put(critical(2));
    outbox.put(resolved(2));
    outbox.put(critical(3));
    let dropped: Vec<u64> = outbox.take_dropped().iter().map(|a| a.incident.id.number).collect();
    assert_eq!((dropped, outbox.dropped()), (vec![2], 1));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    assert_eq!(deliver(&mut outbox), Some((3, false)), "incident 2 is not resolved at the receiver");
    assert_eq!(deliver(&mut outbox), None);
}

#[test]
fn an_outbox_full_of_resolutions_drops_a_new_opening() {
    let mut outbox = outbox(1);
    outbox.put(critical(1));
    deliver(&mut outbox);
    outbox.put(resolved(1));
    outbox.put(critical(2));
    assert_eq!(outbox.take_dropped().len(), 1);
    assert!(!outbox.put(resolved(2)));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
}
