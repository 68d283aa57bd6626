//! How an alert looks to its receiver.

use std::time::Duration;

use serde_json::{Value, json};

use super::outbox::{Message, Told};
use crate::{
    config::AlertFormat,
    emit::{self, Origin, wire},
    redact::redact,
};

/// How long Alertmanager believes that an incident is on without hearing of it again.
const BELIEVED_FOR: Duration = Duration::from_secs(5 * 60);

/// What decides how alerts look.
#[derive(Clone, Debug)]
pub struct Look {
    /// The receiver's format.
    pub format: AlertFormat,
    /// Who speaks.
    pub origin: Origin,
    /// The daemon's own page for people.
    pub page: Option<String>,
}

impl Look {
    /// What is posted to deliver a message.
    pub fn message(&self, message: &Message) -> Value {
        match self.format {
            AlertFormat::Json => self.json(&message.told),
            AlertFormat::Alertmanager => {
                let mut now = self.alertmanager(&message.told);
                let Some(before) = &message.before else { return json!([now]) };
                // Alertmanager knows an alert by its labels: only with those it was told can it be over, and with
                // others it is another alert, so that the one before is over.
                let mut over = before.clone();
                over.alert.resolved = true;
                let mut over = self.alertmanager(&over);
                if message.told.alert.resolved {
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

    /// What is posted to remind the receiver of what is still on, where it needs to be reminded.
    pub fn reminder(&self, firing: &[Told]) -> Option<Value> {
        match self.format {
            AlertFormat::Json => None,
            AlertFormat::Alertmanager if firing.is_empty() => None,
            AlertFormat::Alertmanager => Some(firing.iter().map(|told| self.alertmanager(told)).collect()),
        }
    }

    /// The objects of the event stream, with the status.
    fn json(&self, told: &Told) -> Value {
        let alert = &told.alert;
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

    /// One alert of Alertmanager's `POST /api/v2/alerts`.
    fn alertmanager(&self, told: &Told) -> Value {
        let alert = &told.alert;
        let incident = &alert.incident;
        let id = self.origin.incident_id(incident.id);
        let now = jiff::Timestamp::now();
        let ends = if alert.resolved {
            // It refuses an alert that ends before it starts.
            now.max(told.since)
        } else {
            now.max(told.since).saturating_add(BELIEVED_FOR).unwrap_or(jiff::Timestamp::MAX)
        };
        let mut description = format!(
            "{} on {}: {} (confidence {:.0} %). See: hostprobe explain {id}",
            alert.names.service(incident.service),
            self.origin.host_name,
            incident.verdict.as_str(),
            incident.confidence * 100.0,
        );
        if incident.cause != incident.service {
            description.push_str(&format!(". The cause lies with {}", alert.names.service(incident.cause)));
        }
        if !incident.held.is_empty() {
            let held: Vec<&str> = incident.held.iter().map(|held| alert.names.service(*held)).collect();
            description.push_str(&format!(". Held because of it: {}", held.join(", ")));
        }
        if let Some(snapshot) = &incident.snapshot {
            description.push_str(&format!(". What its processes did is in {snapshot}"));
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
            "startsAt": format!("{:.3}", told.since),
            "endsAt": format!("{ends:.3}"),
        });
        if let Some(page) = &self.page {
            object["generatorURL"] = json!(page);
        }
        object
    }
}
