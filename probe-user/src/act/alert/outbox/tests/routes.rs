//! Who gets which alert, and when: services, escalation, reminders, acknowledgement.

use tokio::time::{advance, pause};

use super::*;
use crate::fact::{IncidentId, ServiceId};

const MINUTE: Duration = Duration::from_secs(60);

fn outbox(route: AlertRoute) -> Outbox {
    Outbox::new(route, false, 9)
}

fn after(after: Duration) -> AlertRoute {
    AlertRoute { after, ..AlertRoute::default() }
}

fn acknowledged() -> AlertSilence {
    AlertSilence { reason: "acknowledged by root".to_owned(), acknowledged: true }
}

/// The opening of an incident whose fault was so long ago.
fn since(number: u64, ago: Duration) -> Alert {
    let mut alert = critical(number);
    // The host may have booted after it.
    alert.incident.earlier.before_boot = ago;
    alert
}

#[test]
fn a_receiver_of_some_services_gets_theirs_alone() {
    let services = vec!["db-*".to_owned()];
    let mut outbox = outbox(AlertRoute { services, ..AlertRoute::default() });
    assert!(!outbox.put(critical(1)), "it is of api");
    outbox.set_route(AlertRoute { services: vec!["a*".to_owned()], ..AlertRoute::default() });
    assert!(outbox.put(critical(1)));
}

#[tokio::test]
async fn an_escalation_is_sent_once_the_incident_has_lasted_and_not_before() {
    pause();
    let mut outbox = outbox(after(10 * MINUTE));
    outbox.put(since(1, 4 * MINUTE));
    assert_eq!(deliver(&mut outbox), None);
    advance(5 * MINUTE).await;
    assert_eq!(deliver(&mut outbox), None);
    advance(MINUTE).await;
    assert_eq!(deliver(&mut outbox), Some((1, false)));
    outbox.put(resolved(1));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
}

#[tokio::test]
async fn an_incident_that_is_over_before_its_escalation_is_never_sent() {
    pause();
    let mut outbox = outbox(after(10 * MINUTE));
    outbox.put(critical(1));
    outbox.put(resolved(1));
    advance(20 * MINUTE).await;
    assert_eq!(deliver(&mut outbox), None);
    assert!(outbox.put(since(2, 11 * MINUTE)), "it has lasted that long already");
    assert_eq!(deliver(&mut outbox), Some((2, false)));
}

#[tokio::test]
async fn an_acknowledged_incident_is_not_escalated_until_that_ends() {
    pause();
    let mut outbox = outbox(after(10 * MINUTE));
    outbox.put(critical(1));
    outbox.silence(IncidentId::new(1), Some(acknowledged()));
    advance(20 * MINUTE).await;
    assert_eq!(deliver(&mut outbox), None);
    outbox.silence(IncidentId::new(1), None);
    assert_eq!(deliver(&mut outbox), Some((1, false)));
}

#[tokio::test]
async fn an_escalation_waits_on_over_a_restart_with_the_latest_state() {
    pause();
    let mut before = outbox(after(10 * MINUTE));
    before.put(alert(1, Severity::Warning));
    before.put(critical(1));
    let kept = before.take_changes().into_iter().filter_map(|change| match change {
        Change::Put(kept) => Some(*kept),
        Change::Remove(_) => None,
    });
    let kept = kept.last().unwrap();
    assert_eq!(kept.delivery, Delivery::Deferred);
    let mut next = outbox(after(10 * MINUTE));
    next.restore(vec![kept]);
    assert_eq!(next.open().count(), 1);
    assert_eq!(deliver(&mut next), None);
    advance(11 * MINUTE).await;
    assert_eq!(take(&mut next).notification.alert.incident.severity, Severity::Critical);
}

#[tokio::test]
async fn an_open_incident_is_repeated_until_it_is_acknowledged_or_over() {
    pause();
    let remind = Some(60 * MINUTE);
    let mut outbox = outbox(AlertRoute { remind, ..AlertRoute::default() });
    outbox.put(critical(1));
    assert_eq!(deliver(&mut outbox), Some((1, false)));
    assert_eq!(deliver(&mut outbox), None);
    for _ in 0..2 {
        advance(60 * MINUTE).await;
        let reminder = take(&mut outbox);
        assert!(reminder.is_reminder && reminder.asks_for_attention());
        outbox.delivered(reminder, None);
        assert_eq!(deliver(&mut outbox), None, "the next is due in an hour");
    }
    outbox.silence(IncidentId::new(1), Some(acknowledged()));
    advance(600 * MINUTE).await;
    assert_eq!(deliver(&mut outbox), None);
    outbox.silence(IncidentId::new(1), None);
    assert!(take(&mut outbox).is_reminder);
    outbox.put(resolved(1));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    advance(600 * MINUTE).await;
    assert_eq!(deliver(&mut outbox), None);
}

#[tokio::test]
async fn a_reminder_that_fails_is_tried_again_soon_and_holds_up_nothing() {
    pause();
    let remind = Some(600 * MINUTE);
    let mut outbox = outbox(AlertRoute { remind, ..AlertRoute::default() });
    outbox.put(critical(1));
    deliver(&mut outbox);
    advance(600 * MINUTE).await;
    let reminder = take(&mut outbox);
    assert!(outbox.failed(&reminder, None));
    outbox.put(resolved(1));
    assert_eq!(deliver(&mut outbox), Some((1, true)));
    outbox.put(critical(2));
    deliver(&mut outbox);
    advance(600 * MINUTE).await;
    let reminder = take(&mut outbox);
    outbox.failed(&reminder, None);
    advance(REMINDER_RETRY).await;
    assert!(take(&mut outbox).is_reminder);
}

#[test]
fn a_receiver_that_shows_acknowledgements_gets_an_update() {
    let mut outbox = Outbox::new(AlertRoute::default(), true, 9);
    outbox.put(critical(1));
    deliver(&mut outbox);
    outbox.silence(IncidentId::new(1), Some(acknowledged()));
    let update = take(&mut outbox);
    assert_eq!(update.notification.alert.silence, Some(acknowledged()));
    assert!(!update.asks_for_attention());
    outbox.delivered(update, None);
    outbox.silence(IncidentId::new(2), Some(acknowledged()));
    assert_eq!(deliver(&mut outbox), None, "it does not know that incident");
}

#[test]
fn a_further_service_that_is_held_is_an_update_and_no_message() {
    let more = |held: &[u32]| {
        let mut alert = critical(1);
        alert.incident.held = held.iter().copied().map(ServiceId).collect();
        alert
    };
    let mut updating = Outbox::new(AlertRoute::default(), true, 9);
    updating.put(more(&[1]));
    deliver(&mut updating);
    updating.put(more(&[1, 2]));
    let update = take(&mut updating);
    assert_eq!(update.notification.alert.incident.held.len(), 2);
    assert!(!update.asks_for_attention());
    updating.delivered(update, None);
    updating.put(more(&[1, 2]));
    assert_eq!(deliver(&mut updating), None, "nothing is new");
    let mut other = Outbox::new(AlertRoute::default(), false, 9);
    other.put(more(&[1]));
    deliver(&mut other);
    other.put(more(&[1, 2]));
    assert_eq!(deliver(&mut other), None, "it would be one more message");
}
