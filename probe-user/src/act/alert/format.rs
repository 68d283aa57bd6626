//! The bodies of the requests to receivers.

use std::time::Duration;

use serde_json::{Value, json};

use super::{notification::Notification, outbox::Message};
use crate::{
    config::AlertFormat,
    emit::{self, Origin, wire},
    redact::redact,
};

/// Alertmanager resolves an alert that is not repeated for so long.
const EXPIRES_AFTER: Duration = Duration::from_secs(5 * 60);

#[derive(Clone, Debug)]
pub struct Formatter {
    pub format: AlertFormat,
    pub origin: Origin,
    /// The address of the daemon's page for people.
    pub page: Option<String>,
}

impl Formatter {
    pub fn body(&self, message: &Message) -> Value {
        match self.format {
            AlertFormat::Json => self.json(&message.notification),
            AlertFormat::Alertmanager => {
                let mut now = self.alertmanager(&message.notification);
                let Some(previous) = &message.previous else { return json!([now]) };
                // Alertmanager identifies an alert by its labels. A resolution must carry the labels of the previous
                // notification. New labels make another alert, so the previous one has to be resolved.
                let mut over = previous.clone();
                over.alert.resolved = true;
                let mut over = self.alertmanager(&over);
                if message.notification.alert.resolved {
                    now["labels"] = over["labels"].take();
                    json!([now])
                } else if over["labels"] == now["labels"] {
                    json!([now])
                } else {
                    json!([over, now])
                }
            }
        }
    }

    /// Repeats all firing alerts; None if this receiver needs no reminder.
    pub fn reminder(&self, firing: &[Notification]) -> Option<Value> {
        match self.format {
            AlertFormat::Json => None,
            AlertFormat::Alertmanager if firing.is_empty() => None,
            AlertFormat::Alertmanager => {
                Some(firing.iter().map(|notification| self.alertmanager(notification)).collect())
            }
        }
    }

    /// The same objects as in the event stream, with the alert's status.
    fn json(&self, notification: &Notification) -> Value {
        let alert = &notification.alert;
        let service = alert.incident.service;
        json!({
            "status": wire::AlertStatus::of(alert.resolved),
            "schema_version": wire::SCHEMA_VERSION,
            "@timestamp": format!("{:.9}", jiff::Timestamp::now()),
            "message": redact(&alert.incident.summary),
            "host": self.origin.host(),
            "agent": self.origin.agent(),
            "service": wire::Service {
                name: alert.names.service(service).to_owned(),
                unit: alert.names.unit(service).map(str::to_owned),
                state: None,
                previous: None,
                main_process: None,
            },
            "incident": emit::incident(&alert.incident, &self.origin, &alert.names),
        })
    }

    /// An alert as in Alertmanager's `POST /api/v2/alerts`.
    fn alertmanager(&self, notification: &Notification) -> Value {
        let alert = &notification.alert;
        let incident = &alert.incident;
        let id = self.origin.incident_id(incident.id);
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
            self.origin.host_name,
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
        let mut object = json!({
            "labels": {
                "alertname": "HostprobeIncident",
                "service": alert.names.service(incident.service),
                "verdict": incident.verdict.as_str(),
                "severity": incident.severity.as_str(),
                "instance": self.origin.host_name,
            },
            "annotations": {
                "summary": redact(&incident.summary),
                "description": description,
                "incident": id,
            },
            "startsAt": format!("{:.3}", notification.since),
            "endsAt": format!("{ends:.3}"),
        });
        if let Some(page) = &self.page {
            object["generatorURL"] = json!(page);
        }
        object
    }
}
