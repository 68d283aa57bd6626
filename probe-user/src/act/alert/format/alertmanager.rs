//! Alertmanager's `POST /api/v2/alerts`.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    call::{Call, Format},
    json::{Webhook, message_id},
    text::Writer,
};
use crate::{
    act::alert::{notification::Notification, outbox::Message},
    redact::redact,
};

/// Alertmanager resolves an alert that is not repeated for so long.
const EXPIRES_AFTER: Duration = Duration::from_secs(5 * 60);

#[derive(Debug)]
pub(super) struct Alertmanager {
    pub(super) writer: Writer,
    pub(super) webhook: Webhook,
}

impl Format for Alertmanager {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let body = self.body(message);
        Ok(self.webhook.request(&body, &message_id(&self.writer, message), jiff::Timestamp::now()))
    }

    fn refresh(&self, firing: &[Notification]) -> Option<Call> {
        if firing.is_empty() {
            return None;
        }
        let body = firing.iter().map(|notification| self.alert(notification)).collect();
        let now = jiff::Timestamp::now();
        Some(self.webhook.request(&body, &format!("msg_refresh-{}", now.as_millisecond()), now))
    }
}

impl Alertmanager {
    fn body(&self, message: &Message) -> Value {
        let mut now = self.alert(&message.notification);
        let Some(previous) = &message.previous else { return json!([now]) };
        // Alertmanager identifies an alert by its labels. A resolution must carry the labels of the previous
        // notification. New labels make another alert, so the previous one has to be resolved.
        let mut over = previous.clone();
        over.alert.resolved = true;
        let mut over = self.alert(&over);
        if message.notification.alert.resolved {
            now["labels"] = over["labels"].take();
            json!([now])
        } else if over["labels"] == now["labels"] {
            json!([now])
        } else {
            json!([over, now])
        }
    }

    /// An alert as in Alertmanager's `POST /api/v2/alerts`.
    fn alert(&self, notification: &Notification) -> Value {
        let alert = &notification.alert;
        let incident = &alert.incident;
        let id = self.writer.origin.incident_id(incident.id);
        let now = jiff::Timestamp::now();
        let ends = if alert.resolved {
            // Alertmanager refuses an alert that ends before it starts.
            now.max(notification.since)
        } else {
            now.max(notification.since).saturating_add(EXPIRES_AFTER).unwrap_or(jiff::Timestamp::MAX)
        };
        let mut description = format!(
            "{} on {}: {} (confidence {:.0} %). See: hostprobe explain {id}",
            alert.names.service(incident.service),
            self.writer.origin.host_name,
            incident.verdict.as_str(),
            incident.confidence * 100.0,
        );
        if incident.cause != incident.service {
            description.push_str(&format!(". The cause is {}", alert.names.service(incident.cause)));
        }
        if !incident.held.is_empty() {
            let held: Vec<&str> = incident.held.iter().map(|held| alert.names.service(*held)).collect();
            description.push_str(&format!(". Held because of it: {}", held.join(", ")));
        }
        if let Some(snapshot) = &incident.snapshot {
            description.push_str(&format!(". The snapshot of its processes is {snapshot}"));
        }
        let mut labels = json!({
            "alertname": "HostprobeIncident",
            "service": alert.names.service(incident.service),
            "verdict": incident.verdict.as_str(),
            "severity": incident.severity.as_str(),
            "instance": self.writer.origin.host_name,
        });
        if incident.drill.is_some() {
            // So that a route can treat drills in a way of their own.
            labels["drill"] = json!("true");
        }
        if alert.test {
            labels["alertname"] = json!("HostprobeTest");
        }
        if alert.summary.is_some() {
            // Its verdicts change. The labels must not.
            labels["alertname"] = json!("HostprobeStorm");
            labels.as_object_mut().map(|labels| labels.remove("verdict"));
            description = format!(
                "On {}: {}. See: hostprobe incidents",
                self.writer.origin.host_name,
                redact(&incident.summary)
            );
        }
        let mut object = json!({
            "labels": labels,
            "annotations": {
                "summary": redact(&incident.summary),
                "description": description,
                "incident": id,
            },
            "startsAt": format!("{:.3}", notification.since),
            "endsAt": format!("{ends:.3}"),
        });
        if let Some(page) = &self.writer.page {
            object["generatorURL"] = json!(page);
        }
        object
    }
}
