//! A receiver is told what a later run of the daemon knows, too.

use super::*;
use crate::progress::{Awaited, Progress};

/// A fake state file, on a disk that has written what the test says.
#[derive(Debug)]
struct SlowDisk {
    written: Progress,
    limit: Duration,
}

impl Keeper for SlowDisk {
    fn keep(&self, _: &str, _: Vec<Change>) -> Option<Awaited> {
        self.written.patiently(1, self.limit)
    }
}

async fn alerter_on(limit: Duration) -> (Alerter, FakeReceiver, Progress, mpsc::Receiver<AlertOutcome>) {
    let (listener, address) = listener().await;
    let fake = FakeReceiver::start(listener, &[]);
    let written = Progress::default();
    let disk = SlowDisk { written: written.clone(), limit };
    let kept = Kept { keeper: Some(Arc::new(disk)), ..Kept::default() };
    let (outcomes, reports) = mpsc::channel(100);
    let receiver = AlertReceiver::new(AlertFormat::Json, Secret::new(format!("http://{address}/hook/t0ken")));
    let alerter = Alerter::with_pace(&[receiver], &origin(), None, outcomes, kept, QUICK).unwrap();
    (alerter, fake, written, reports)
}

#[tokio::test]
async fn an_alert_waits_until_it_is_kept() {
    let (alerter, mut fake, written, _reports) = alerter_on(Duration::from_secs(60)).await;
    alerter.notify(critical(1));
    alerter.notify(resolved(1));
    let early = tokio::time::timeout(Duration::from_millis(200), fake.request()).await;
    assert!(early.is_err(), "{early:?}");
    written.set(1);
    assert_eq!(fake.request().await["status"], "firing");
    assert_eq!(fake.request().await["status"], "resolved");
}

#[tokio::test]
async fn a_disk_that_hangs_delays_alerts_once() {
    let limit = Duration::from_millis(100);
    let (alerter, mut fake, _written, _reports) = alerter_on(limit).await;
    let begun = std::time::Instant::now();
    (1..=100).for_each(|number| alerter.notify(critical(number)));
    fake.request().await;
    assert!(begun.elapsed() >= limit);
    assert_eq!(alerter.shutdown(Duration::from_secs(5)).await, 0, "they do not wait one after the other");
}
