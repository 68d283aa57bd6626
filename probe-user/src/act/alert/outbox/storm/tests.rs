use tokio::time::{advance, pause};

use super::*;
use crate::{
    act::alert::{
        outbox::{CAPACITY, Next, Outbox},
        tests::{alert, critical, resolved},
    },
    config::AlertRoute,
    emit::{Name, Names},
    fact::Severity,
};

fn outbox() -> Outbox {
    Outbox::new(AlertRoute::default(), false, CAPACITY)
}

/// The opening of incident `number`, of a service of its own.
fn opening(number: u64) -> Alert {
    let mut alert = critical(number);
    alert.incident.service = ServiceId(u32::try_from(number).unwrap());
    let name = |number: u32| Name { service: format!("s{number}"), unit: None };
    alert.names = Names::new((0..100).map(name));
    alert
}

/// Delivers what is due.
fn deliver(outbox: &mut Outbox) -> Vec<Alert> {
    let mut delivered = Vec::new();
    while let Next::Deliver(message) = outbox.next(Instant::now()) {
        delivered.push(message.notification.alert.clone());
        outbox.delivered(*message, None);
    }
    delivered
}

fn numbers(alerts: &[Alert]) -> Vec<(u64, bool)> {
    alerts.iter().map(|alert| (alert.incident.id.number, alert.resolved)).collect()
}

#[tokio::test]
async fn ten_openings_a_minute_go_at_once_and_further_ones_are_one_summary() {
    pause();
    let mut outbox = outbox();
    for number in 1..=50 {
        assert!(outbox.put(opening(number)));
    }
    let first: Vec<(u64, bool)> = (1..=10).map(|number| (number, false)).collect();
    assert_eq!(numbers(&deliver(&mut outbox)), first);
    assert!(matches!(outbox.next(Instant::now()), Next::Wait(_)), "the summary has its time");
    advance(FIRST).await;
    let summaries = deliver(&mut outbox);
    let [summary] = &summaries[..] else { panic!("{summaries:?}") };
    let said = summary.summary.as_ref().unwrap();
    assert_eq!((said.open, said.resolved, said.services.len()), (40, 0, 40));
    assert_eq!(said.verdicts, [(Verdict::Killed, 40)]);
    assert_eq!(
        (summary.incident.severity, summary.incident.service),
        (Severity::Critical, ServiceId::DAEMON)
    );
    assert_eq!(
        summary.incident.summary,
        "40 more incidents are open: 40 killed; of s11, s12, s13, s14, s15 and 35 other services"
    );
    advance(10 * MINUTE).await;
    assert!(deliver(&mut outbox).is_empty(), "there is nothing new to say");
    assert_eq!(outbox.waiting(), 0);
}

#[tokio::test]
async fn further_changes_are_one_summary_a_minute_and_the_last_one_is_its_resolution() {
    pause();
    let mut outbox = outbox();
    for number in 1..=30 {
        outbox.put(opening(number));
    }
    deliver(&mut outbox);
    advance(FIRST).await;
    assert_eq!(numbers(&deliver(&mut outbox)), [(0, false)]);
    for number in 11..=25 {
        assert!(outbox.put(resolved(number)));
    }
    advance(MINUTE - Duration::from_secs(1)).await;
    assert!(deliver(&mut outbox).is_empty());
    advance(Duration::from_secs(1)).await;
    let summaries = deliver(&mut outbox);
    assert_eq!(numbers(&summaries), [(0, false)]);
    assert_eq!(summaries[0].summary.as_ref().map(|said| (said.open, said.resolved)), Some((5, 15)));
    for number in 26..=30 {
        outbox.put(resolved(number));
    }
    advance(MINUTE).await;
    let summaries = deliver(&mut outbox);
    assert_eq!(numbers(&summaries), [(0, true)]);
    assert_eq!(summaries[0].incident.summary, "all 20 more incidents are over");
    assert_eq!(outbox.firing().len(), 10, "those that the receiver knows by themselves");
    for number in 1..=10 {
        outbox.put(resolved(number));
    }
    assert_eq!(numbers(&deliver(&mut outbox)).len(), 10, "each gets its own resolution");
    assert!(outbox.firing().is_empty());
    advance(10 * MINUTE).await;
    assert!(deliver(&mut outbox).is_empty());
}

#[tokio::test]
async fn a_storm_that_is_over_before_its_summary_is_opened_and_resolved() {
    pause();
    let mut outbox = outbox();
    for number in 1..=12 {
        outbox.put(opening(number));
    }
    outbox.put(resolved(11));
    outbox.put(resolved(12));
    deliver(&mut outbox);
    advance(FIRST).await;
    assert_eq!(numbers(&deliver(&mut outbox)), [(0, false), (0, true)]);
    assert!(!outbox.firing().iter().any(|firing| firing.alert.incident.id == SUMMARY));
}

#[tokio::test]
async fn a_minute_later_openings_go_at_once_again() {
    pause();
    let mut outbox = outbox();
    for number in 1..=10 {
        outbox.put(opening(number));
    }
    deliver(&mut outbox);
    advance(MINUTE).await;
    outbox.put(opening(11));
    assert_eq!(numbers(&deliver(&mut outbox)), [(11, false)]);
}

#[tokio::test]
async fn what_a_receiver_does_not_want_counts_for_nothing() {
    pause();
    let mut outbox = outbox();
    for number in 1..=50 {
        assert!(!outbox.put(alert(number, Severity::Info)));
    }
    outbox.put(opening(51));
    assert_eq!(numbers(&deliver(&mut outbox)), [(51, false)]);
}

#[tokio::test]
async fn an_alert_about_hostprobe_itself_is_never_summarised() {
    pause();
    let mut outbox = outbox();
    for number in 1..=20 {
        outbox.put(opening(number));
    }
    let mut own = opening(21);
    own.incident.service = ServiceId::DAEMON;
    outbox.put(own);
    assert!(numbers(&deliver(&mut outbox)).contains(&(21, false)));
}

#[tokio::test]
async fn a_summary_that_waits_is_sent_when_the_daemon_ends() {
    pause();
    let mut outbox = outbox();
    for number in 1..=11 {
        outbox.put(opening(number));
    }
    deliver(&mut outbox);
    assert_eq!(outbox.waiting(), 1);
    outbox.hurry();
    assert_eq!(numbers(&deliver(&mut outbox)), [(0, false)]);
}

#[tokio::test]
async fn what_is_too_much_for_a_summary_is_dropped_and_counted() {
    pause();
    let mut outbox = outbox();
    let most = u64::try_from(AT_ONCE + MOST).unwrap();
    for number in 1..=most + 2 {
        outbox.put(critical(number));
    }
    assert_eq!((outbox.dropped(), outbox.take_dropped().len()), (2, 2));
}

/// What the receiver and the kept changes of an outbox leave to the outbox of a later run.
fn restored(changes: Vec<Change>) -> Outbox {
    let mut kept = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put(alert) => drop(kept.insert(alert.number, *alert)),
            Change::Remove(number) => drop(kept.remove(&number)),
        }
    }
    let mut later = outbox();
    later.restore(kept.into_values().collect());
    later
}

#[tokio::test]
async fn a_later_run_of_the_daemon_knows_what_was_summarised() {
    pause();
    let mut outbox = outbox();
    for number in 1..=14 {
        outbox.put(opening(number));
    }
    deliver(&mut outbox);
    // One more is over before the crash; the summary was not due yet.
    outbox.put(Alert { resolved: true, ..opening(14) });
    let mut later = restored(outbox.take_changes());
    assert_eq!(later.open().count(), 13);
    later.put(Alert { resolved: true, ..opening(13) });
    advance(FIRST).await;
    let summaries = deliver(&mut later);
    let [summary] = &summaries[..] else { panic!("{summaries:?}") };
    assert_eq!(summary.summary.as_ref().map(|said| (said.open, said.resolved)), Some((2, 1)));
    for number in 11..=12 {
        later.put(Alert { resolved: true, ..opening(number) });
    }
    advance(MINUTE).await;
    assert_eq!(numbers(&deliver(&mut later)), [(SUMMARY.number, true)]);
}
