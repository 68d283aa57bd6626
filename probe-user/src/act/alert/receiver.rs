//! The task that empties one receiver's outbox.

use std::sync::Arc;

use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{
    client::{client, reason},
    error::AlertError,
    format::Formatter,
    notification::Alert,
    outbox::{CAPACITY, Message, Next},
    pace::Pace,
    request,
    shared::SharedOutbox,
};
use crate::{config::Secret, fact::AlertOutcome, redact::redact};

pub(super) struct Receiver {
    url: Url,
    /// Scheme and host only, because a path may hold a token.
    name: String,
    client: Client,
    formatter: Formatter,
    pace: Pace,
    shared: Arc<SharedOutbox>,
    outcomes: mpsc::Sender<AlertOutcome>,
    closing: watch::Receiver<bool>,
}

/// Why a delivery failed.
struct Failure {
    why: String,
    /// The receiver answers but refuses this message. It may accept others.
    refused: bool,
}

impl Receiver {
    pub(super) fn new(
        webhook: &Secret,
        formatter: Formatter,
        pace: Pace,
        shared: Arc<SharedOutbox>,
        outcomes: mpsc::Sender<AlertOutcome>,
        closing: watch::Receiver<bool>,
    ) -> Result<Self, AlertError> {
        let bad = |reason: String| AlertError::Webhook { webhook: webhook.to_string(), reason };
        let url = Url::parse(webhook.expose()).map_err(|error| bad(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(bad(format!("its scheme is {}", url.scheme())));
        }
        let name = url.origin().ascii_serialization();
        let client = client(&url, pace.timeout)
            .map_err(|error| AlertError::Client { receiver: name.clone(), reason: reason(error) })?;
        Ok(Self { url, name, client, formatter, pace, shared, outcomes, closing })
    }

    /// Delivers until the daemon ends or a reload has removed the receiver, then tries each waiting message once more.
    pub(super) async fn run(mut self) {
        let mut outages = 0;
        let mut paused_until: Option<Instant> = None;
        let mut remind_at = Instant::now() + self.pace.refresh;
        while !*self.closing.borrow() {
            self.report_dropped().await;
            if self.shared.lock().is_over() {
                return;
            }
            let now = Instant::now();
            let next = match paused_until.filter(|until| *until > now) {
                Some(until) => Next::Wait(until),
                None => self.shared.lock().next(now),
            };
            let wake = match next {
                Next::Deliver(message) => {
                    if self.deliver(*message).await {
                        (outages, paused_until) = (0, None);
                    } else {
                        outages += 1;
                        let wait = self.pace.backoff(outages);
                        paused_until = Some(Instant::now() + wait);
                    }
                    continue;
                }
                Next::Wait(until) => until.min(remind_at),
                Next::Empty => remind_at,
            };
            tokio::select! {
                () = self.shared.filled.notified() => {}
                _ = self.closing.changed() => {}
                () = sleep_until(wake) => {}
            }
            if Instant::now() >= remind_at {
                self.remind().await;
                remind_at = Instant::now() + self.pace.refresh;
            }
        }
        self.try_last().await;
    }

    /// Delivers one message and reports the result. False if the receiver is out of reach.
    async fn deliver(&self, message: Message) -> bool {
        let failure = self.post(&self.formatter.body(&message)).await.err();
        let outcome = self.outcome(&message.notification.alert, message.attempts, failure.as_ref());
        match failure {
            None => {
                self.shared.delivered(message);
                self.report(outcome).await;
                true
            }
            Some(failure) => {
                let wait = self.pace.backoff(message.attempts);
                let not_before = failure.refused.then(|| Instant::now() + wait);
                let is_first = self.shared.lock().failed(&message, not_before);
                if is_first {
                    self.report(outcome).await;
                }
                failure.refused
            }
        }
    }

    /// Repeats the firing alerts. A failed reminder is not tried again, because the next one repeats them too.
    async fn remind(&self) {
        let firing = self.shared.lock().firing();
        if let Some(body) = self.formatter.reminder(&firing)
            && let Err(failure) = self.post(&body).await
        {
            tracing::debug!("{}: could not repeat the open alerts: {}", self.name, failure.why);
        }
    }

    /// Tries each waiting message once more, and stops when the receiver is out of reach.
    async fn try_last(&self) {
        self.shared.lock().hurry();
        loop {
            let next = self.shared.lock().next(Instant::now());
            match next {
                Next::Deliver(message) => {
                    if !self.deliver(*message).await {
                        return;
                    }
                }
                Next::Wait(_) | Next::Empty => return,
            }
        }
    }

    async fn post(&self, body: &Value) -> Result<(), Failure> {
        let unreached = |why| Failure { why, refused: false };
        let request = self.client.post(self.url.clone()).json(body).build();
        let request = request.map_err(|error| unreached(reason(error)))?;
        let answer =
            request::send(self.client.clone(), request, self.pace.timeout).await.map_err(unreached)?;
        let (status, words) = (answer.status, answer.words);
        if status.is_success() {
            return Ok(());
        }
        let why = if words.is_empty() {
            format!("the receiver answered {status}")
        } else {
            format!("the receiver answered {status}: {}", redact(&words))
        };
        let busy = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
        Err(Failure { why, refused: !status.is_server_error() && !busy })
    }

    async fn report_dropped(&self) {
        let dropped = self.shared.lock().take_dropped();
        for alert in dropped {
            let failure = Failure {
                why: format!("the outbox is full with {CAPACITY} alerts, and this was the oldest"),
                refused: true,
            };
            self.report(self.outcome(&alert, 0, Some(&failure))).await;
        }
    }

    fn outcome(&self, alert: &Alert, attempts: u32, failure: Option<&Failure>) -> AlertOutcome {
        AlertOutcome {
            incident: alert.incident.id,
            service: alert.incident.service,
            receiver: self.name.clone(),
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
