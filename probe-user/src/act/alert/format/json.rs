//! A webhook that gets hostprobe's own JSON, and what all webhooks of the user have in common.
//!
//! A body is signed as Standard Webhooks 1.0 says: HMAC-SHA256 over `id.timestamp.body`, in the header `webhook-signature`.
//! The id stays the same when a delivery is tried again.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, Url};
use ring::hmac;
use serde_json::{Value, json};

use super::{
    call::{Call, Format, Request},
    text::Writer,
};
use crate::{
    act::alert::{
        notification::{Alert, Notification, Summary},
        outbox::Message,
    },
    config::{AlertReceiver, Secret},
    emit::{self, wire},
    fact::Incident,
    redact::redact,
};

/// The address of a user's program, and how requests show that they come from here.
#[derive(Debug)]
pub(super) struct Webhook {
    url: Url,
    headers: Vec<(String, Secret)>,
    token: Option<Secret>,
    signing_key: Option<hmac::Key>,
}

impl Webhook {
    pub(super) fn new(receiver: &AlertReceiver, url: Url) -> Self {
        let key = receiver.signing_key.as_ref().map(|key| signing_key(key.expose()));
        Self { url, headers: receiver.headers.clone(), token: receiver.token.clone(), signing_key: key }
    }

    /// `id` is the same for each attempt to deliver the same message.
    pub(super) fn request(&self, body: &Value, id: &str, now: jiff::Timestamp) -> Call {
        let mut request = Request::json(Method::POST, &self.url, body);
        request = request.with_token(self.token.as_ref().map(Secret::expose));
        let own = self.headers.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        request.headers.extend(own);
        if let Some(key) = &self.signing_key {
            let time = now.as_second().to_string();
            let signed = [id.as_bytes(), b".", time.as_bytes(), b".", &request.body].concat();
            let signature = format!("v1,{}", STANDARD.encode(hmac::sign(key, &signed)));
            let headers = [
                ("webhook-id", id.to_owned()),
                ("webhook-timestamp", time),
                ("webhook-signature", signature),
            ];
            request.headers.extend(headers.map(|(name, value)| (name.to_owned(), value)));
        }
        Call::Request(request)
    }
}

/// A key in the notation of Standard Webhooks, `whsec_` and Base64, or any other text as it is.
fn signing_key(text: &str) -> hmac::Key {
    let decoded = text.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    hmac::Key::new(hmac::HMAC_SHA256, &decoded.unwrap_or_else(|| text.as_bytes().to_vec()))
}

#[derive(Debug)]
pub(super) struct Json {
    pub(super) writer: Writer,
    pub(super) webhook: Webhook,
}

impl Format for Json {
    fn post(&self, message: &Message, _: Option<&str>) -> Result<Call, String> {
        let mut body = self.body(&message.notification);
        if message.is_reminder {
            body["reminder"] = json!(true);
        }
        Ok(self.webhook.request(&body, &message_id(&self.writer, message), jiff::Timestamp::now()))
    }
}

/// The same for each attempt to deliver a message.
pub(super) fn message_id(writer: &Writer, message: &Message) -> String {
    let id = writer.id(&message.notification.alert.incident);
    let number = match message.is_reminder {
        true => format!("r{}", jiff::Timestamp::now().as_second()),
        false => message.number.to_string(),
    };
    format!("msg_{id}-{number}")
}

impl Json {
    /// The same objects as in the event stream, with the alert's status.
    fn body(&self, notification: &Notification) -> Value {
        let alert = &notification.alert;
        let service = alert.incident.service;
        let origin = &self.writer.origin;
        let mut body = json!({
            "status": wire::AlertStatus::of(alert.resolved),
            "schema_version": wire::SCHEMA_VERSION,
            "@timestamp": format!("{:.9}", jiff::Timestamp::now()),
            "message": redact(&alert.incident.summary),
            "host": origin.host(),
            "agent": origin.agent(),
            "service": wire::Service {
                name: alert.names.service(service).to_owned(),
                unit: alert.names.unit(service).map(str::to_owned),
                state: None,
                previous: None,
                main_process: None,
            },
            "incident": match &alert.summary {
                None => emit::incident(&alert.incident, origin, &alert.names),
                Some(_) => self.common(&alert.incident),
            },
        });
        if let Some(summary) = &alert.summary {
            body["summary"] = storm(summary, alert);
        }
        if let Some(done) = &alert.done {
            body["done"] = json!(redact(done));
        }
        if alert.test {
            body["test"] = json!(true);
        }
        body
    }

    /// What all incidents of a summary have in common.
    fn common(&self, incident: &Incident) -> wire::Incident {
        wire::Incident {
            id: self.writer.id(incident),
            severity: Some(incident.severity.into()),
            summary: Some(redact(&incident.summary).into_owned()),
            since: Some(format!("{:.9}", incident.since.to_wall())),
            ..wire::Incident::default()
        }
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
