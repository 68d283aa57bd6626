//! Test messages: whether alerts arrive, without an incident.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{
    Alerter,
    channel::Channel,
    notification::{Alert, Notification},
    outbox::Message,
};
use crate::{
    clock::Timestamp,
    emit::Names,
    fact::{AlertTestOutcome, Earlier, Incident, IncidentId, ServiceId, Severity, Timing, Verdict},
};

impl Alerter {
    /// Sends a test message, and its end, to the receiver of this name, or to all. None if there is no such receiver. The
    /// future resolves once all have answered.
    pub fn test(
        &self,
        name: Option<&str>,
        by: &str,
    ) -> Option<impl Future<Output = Vec<AlertTestOutcome>> + Send + 'static> {
        let channels = self.receivers.iter().map(|running| running.shared.channel());
        let channels: Vec<Arc<Channel>> =
            channels.filter(|channel| name.is_none_or(|name| name == channel.name)).collect();
        if channels.is_empty() {
            return None;
        }
        let opening = opening(by);
        Some(async move {
            let mut tests = JoinSet::new();
            for channel in channels {
                let opening = opening.clone();
                tests.spawn(async move {
                    let error = test(&channel, opening).await.err();
                    AlertTestOutcome { receiver: channel.name.clone(), error }
                });
            }
            let mut outcomes = tests.join_all().await;
            outcomes.sort_by(|one, other| one.receiver.cmp(&other.receiver));
            outcomes
        })
    }
}

async fn test(channel: &Channel, opening: Alert) -> Result<(), String> {
    let since = opening.incident.began();
    let first = Message::new(1, Notification { alert: opening.clone(), since });
    let posted = channel.tell(&first).await.map_err(|failure| failure.why)?;
    let over = Notification { alert: Alert { resolved: true, ..opening }, since };
    let mut end = Message::new(2, over);
    (end.previous, end.posted) = (Some(first.notification), posted);
    let ended = channel.tell(&end).await;
    ended.map(drop).map_err(|failure| format!("it took the opening, and not its end: {}", failure.why))
}

fn opening(by: &str) -> Alert {
    let now = Timestamp::now();
    let seconds = u64::try_from(now.to_wall().as_second()).unwrap_or_default();
    let incident = Incident {
        // No incident of the daemon gets so far, and each test has a key of its own.
        id: IncidentId::new(seconds),
        service: ServiceId::DAEMON,
        verdict: Verdict::AgentImpaired,
        confidence: 1.0,
        summary: format!(
            "{by} tests whether alerts arrive here. Nothing has failed, and nothing is to be done."
        ),
        severity: Severity::Info,
        cause: ServiceId::DAEMON,
        evidence: Vec::new(),
        held: Vec::new(),
        since: now,
        timing: Timing::default(),
        attempts: 0,
        snapshot: None,
        context: Default::default(),
        drill: None,
        host: None,
        earlier: Earlier::default(),
    };
    Alert { test: true, ..Alert::new(incident, Names::default(), false) }
}
