//! The task that empties one receiver's outbox.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    channel::Failure,
    notification::Alert,
    outbox::{CAPACITY, Message, Next},
    pace::Pace,
    shared::SharedOutbox,
};
use crate::fact::AlertOutcome;

pub(super) struct Receiver {
    pub(super) pace: Pace,
    pub(super) shared: Arc<SharedOutbox>,
    pub(super) outcomes: mpsc::Sender<AlertOutcome>,
    pub(super) closing: watch::Receiver<bool>,
}

impl Receiver {
    /// Delivers until the daemon ends or a reload has removed the receiver, then tries each waiting message once more.
    pub(super) async fn run(mut self) {
        let mut outages = 0;
        let mut paused_until: Option<Instant> = None;
        let mut refresh_at = Instant::now() + self.pace.refresh;
        while !*self.closing.borrow() {
            self.report_dropped().await;
            if self.shared.lock().is_over() {
                return;
            }
            let now = Instant::now();
            let next = match paused_until.filter(|until| *until > now) {
                Some(until) => Next::Wait(until),
                None => self.next(now),
            };
            let wake = match next {
                Next::Deliver(message) => {
                    match self.deliver(*message).await {
                        None => (outages, paused_until) = (0, None),
                        Some(pause) => {
                            outages += 1;
                            paused_until = Some(Instant::now() + self.pace.backoff(outages).max(pause));
                        }
                    }
                    continue;
                }
                Next::Wait(until) => until.min(refresh_at),
                Next::Empty => refresh_at,
            };
            tokio::select! {
                () = self.shared.filled.notified() => {}
                _ = self.closing.changed() => {}
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= refresh_at {
                self.refresh().await;
                refresh_at = Instant::now() + self.pace.refresh;
            }
        }
        self.try_last().await;
    }

    fn next(&self, now: Instant) -> Next {
        let next = self.shared.lock().next(now);
        // What has waited for its time may be queued now.
        self.shared.keep();
        next
    }

    /// Delivers one message and reports the result. If the receiver is out of reach, returns how long it asks to wait.
    async fn deliver(&self, message: Message) -> Option<Duration> {
        self.shared.until_kept().await;
        let told = self.shared.channel().tell(&message).await;
        let outcome = self.outcome(&message.notification.alert, message.attempts, told.as_ref().err());
        match told {
            Ok(posted) => {
                self.shared.delivered(message, posted);
                self.report(outcome).await;
                None
            }
            Err(failure) => {
                let wait = self.pace.backoff(message.attempts);
                let not_before = failure.refused.then(|| Instant::now() + wait);
                let is_first = self.shared.lock().failed(&message, not_before);
                if is_first {
                    self.report(outcome).await;
                }
                (!failure.refused).then(|| failure.pause.unwrap_or_default())
            }
        }
    }

    /// Repeats the firing alerts. A failed repetition is not tried again, because the next one repeats them too.
    async fn refresh(&self) {
        let (firing, channel) = (self.shared.lock().firing(), self.shared.channel());
        if let Err(failure) = channel.refresh(&firing).await {
            tracing::debug!("{}: could not repeat the open alerts: {}", channel.name, failure.why);
        }
    }

    /// Tries each waiting message once more, and stops when the receiver is out of reach.
    async fn try_last(&self) {
        self.shared.lock().hurry();
        loop {
            let next = self.next(Instant::now());
            match next {
                Next::Deliver(message) => {
                    if self.deliver(*message).await.is_some() {
                        return;
                    }
                }
                Next::Wait(_) | Next::Empty => return,
            }
        }
    }

    async fn report_dropped(&self) {
        let dropped = self.shared.lock().take_dropped();
        for alert in dropped {
            let failure = Failure {
                why: format!("the outbox is full with {CAPACITY} alerts, and this was the oldest"),
                refused: true,
                pause: None,
            };
            self.report(self.outcome(&alert, 0, Some(&failure))).await;
        }
    }

    fn outcome(&self, alert: &Alert, attempts: u32, failure: Option<&Failure>) -> AlertOutcome {
        AlertOutcome {
            incident: alert.incident.id,
            service: alert.incident.service,
            receiver: self.shared.channel().name.clone(),
            severity: alert.incident.severity,
            resolved: alert.resolved,
            attempts,
            error: failure.map(|failure| failure.why.clone()),
        }
    }

    async fn report(&self, outcome: AlertOutcome) {
        // The channel closes when the daemon ends. The delivery still counts.
        let _ = self.outcomes.send(outcome).await;
    }
}
