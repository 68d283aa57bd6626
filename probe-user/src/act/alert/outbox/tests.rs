use super::*;
use crate::{
    act::alert::tests::{alert, critical, resolved},
    fact::Verdict,
};

fn outbox(capacity: usize) -> Outbox {
    Outbox::new(Severity::Warning, capacity)
}

/// Delivers the next message: its incident, and whether it says that it is over.
fn deliver(outbox: &mut Outbox) -> Option<(u64, bool)> {
    match outbox.next(Instant::now()) {
        Next::Deliver(message) => {
            let said = (message.incident().0, message.told.alert.resolved);
            outbox.delivered(*message);
            Some(said)
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
fn a_resolution_follows_its_opening_even_if_that_is_late() {
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
    assert_eq!(deliver(&mut outbox), None, "it was too quiet to be told");
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
fn an_incident_is_told_when_it_becomes_loud_enough() {
    let mut outbox = outbox(9);
    assert!(!outbox.put(alert(1, Severity::Info)));
    assert!(outbox.put(critical(1)));
    assert_eq!(deliver(&mut outbox), Some((1, false)));
}

#[test]
fn an_update_is_told_only_if_it_says_something_else() {
    let mut outbox = outbox(9);
    outbox.put(alert(1, Severity::Warning));
    deliver(&mut outbox);
    assert!(!outbox.put(alert(1, Severity::Warning)));
    let mut worse = critical(1);
    worse.incident.verdict = Verdict::CrashLoop;
    assert!(outbox.put(worse));
    let update = take(&mut outbox);
    assert_eq!(update.before.unwrap().alert.incident.severity, Severity::Warning);
}

#[test]
fn what_is_not_said_yet_is_said_as_it_is_now() {
    let mut outbox = outbox(9);
    outbox.put(alert(1, Severity::Warning));
    outbox.put(critical(1));
    assert_eq!(outbox.waiting(), 1);
    assert_eq!(take(&mut outbox).told.alert.incident.severity, Severity::Critical);
}

#[test]
fn a_refused_message_holds_up_its_own_incident_only() {
    let mut outbox = outbox(9);
    outbox.put(critical(1));
    outbox.put(critical(2));
    outbox.put(resolved(1));
    let refused = take(&mut outbox);
    let later = Instant::now() + Duration::from_secs(600);
    assert!(outbox.failed(&refused, Some(later)), "the first failure is news");
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
fn a_full_outbox_gives_up_the_oldest_opening_and_never_a_resolution() {
    let mut outbox = outbox(3);
    outbox.put(critical(1));
    deliver(&mut outbox);
    outbox.put(resolved(1));
    outbox.put(critical(2));
    outbox.put(resolved(2));
    outbox.put(critical(3));
    let given_up: Vec<u64> = outbox.take_given_up().iter().map(|a| a.incident.id.0).collect();
    assert_eq!((given_up, outbox.dropped()), (vec![2], 1));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    assert_eq!(deliver(&mut outbox), Some((3, false)), "nobody is told that 2 is over");
    assert_eq!(deliver(&mut outbox), None);
}

#[test]
fn where_only_resolutions_wait_a_new_opening_is_given_up() {
    let mut outbox = outbox(1);
    outbox.put(critical(1));
    deliver(&mut outbox);
    outbox.put(resolved(1));
    outbox.put(critical(2));
    assert_eq!(outbox.take_given_up().len(), 1);
    assert!(!outbox.put(resolved(2)));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
}

#[test]
fn waits_double_up_to_a_limit() {
    let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
    let waits: Vec<u64> =
        [1, 2, 3, 6, 7, 4_000_000_000].map(|tries| back_off(tries, first, longest).as_secs()).into();
    assert_eq!(waits, [1, 2, 4, 32, 60, 60]);
}
