//! The bodies of the requests to receivers.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    notification::{Alert, Notification, Summary},
    outbox::Message,
};
use crate::{
    config::AlertFormat,
    emit::{self, Origin, wire},
    fact::Incident,
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
        let mut body = json!({
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
            "incident": match &alert.summary {
                None => emit::incident(&alert.incident, &self.origin, &alert.names),
                Some(_) => self.common(&alert.incident),
            },
        });
        if let Some(summary) = &alert.summary {
            body["summary"] = storm(summary, alert);
        }
        body
    }

    /// What all incidents of a summary have in common.
    fn common(&self, incident: &Incident) -> wire::Incident {
        wire::Incident {
            id: self.origin.incident_id(incident.id),
            severity: Some(incident.severity.into()),
            summary: Some(redact(&incident.summary).into_owned()),
            since: Some(format!("{:.9}", incident.since.to_wall())),
            ..wire::Incident::default()
        }
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
        let mut labels = json!({
            "alertname": "HostprobeIncident",
            "service": alert.names.service(incident.service),
            "verdict": incident.verdict.as_str(),
            "severity": incident.severity.as_str(),
            "instance": self.origin.host_name,
        });
        if incident.drill.is_some() {
            // So that a route can treat drills in a way of their own.
            labels["drill"] = json!("true");
        }
        if alert.summary.is_some() {
            // Its verdicts change. The labels must not.
            labels["alertname"] = json!("HostprobeStorm");
            labels.as_object_mut().map(|labels| labels.remove("verdict"));
            description = format!(
                "On {}: {}. See: hostprobe incidents",
                self.origin.host_name,
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
        if let Some(page) = &self.page {
            object["generatorURL"] = json!(page);
        }
        object
    }
}

/// What a summary says of its incidents.
fn storm(summary: &Summary, alert: &Alert) -> Value {
    let services: Vec<&str> = summary.services.iter().map(|service| alert.names.service(*service)).collect();
    let verdicts: BTreeMap<&str, usize> =
        summary.verdicts.iter().map(|(verdict, count)| (verdict.as_str(), *count)).collect();
    json!({
        "open": summary.open,
        "resolved": summary.resolved,
        "services": services,
        "verdicts": verdicts,
    })
}
