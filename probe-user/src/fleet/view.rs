//! The fleet as any host can show it: from the bucket and the stream, without a database.

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream;
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::{
    bucket,
    client::host_of,
    connect::{connect_once, foreign},
    message::{self, Alive, State},
    peers::SILENT,
    subject::{EVENTS, Key},
};
use crate::config;

/// How long the bucket may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

/// The most hosts that are shown.
const HOSTS_MAX: usize = 10_000;

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FleetHost")]
pub struct Host {
    pub name: String,
    /// Since when it was heard last, in milliseconds, by the clock of the server.
    pub heard_ms: Option<u64>,
    pub is_silent: bool,
    pub services: Vec<HostService>,
    /// How many services it leaves out for want of room.
    pub left_out: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FleetService")]
pub struct HostService {
    pub name: String,
    pub state: String,
    pub ports: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incident: Option<HostIncident>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FleetIncident")]
pub struct HostIncident {
    pub id: String,
    pub verdict: String,
    pub confidence: f32,
    pub severity: String,
    pub summary: String,
    pub evidence: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    pub held: Vec<String>,
}

/// All hosts that the bucket knows, by name. The error says what could not be read.
pub async fn hosts(fleet: &config::Fleet, host_name: &str) -> Result<Vec<Host>, String> {
    let host = host_of(fleet, host_name);
    let client = connect_once(fleet, &host).await?;
    let read = read(jetstream::new(client));
    timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| Err(format!("the bucket is not read within {PATIENCE:?}")))
}

async fn read(jetstream: jetstream::Context) -> Result<Vec<Host>, String> {
    let store = bucket::open(&jetstream).await?;
    let keys = store.keys().await.map_err(|error| foreign(&error.to_string()))?;
    tokio::pin!(keys);
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    while let Some(key) = keys.next().await {
        let key = key.map_err(|error| foreign(&error.to_string()))?;
        let subject = format!("$KV.{}.{key}", super::subject::BUCKET);
        let Some(read) = Key::read(&subject).filter(|it| matches!(it, Key::Alive(_) | Key::State(_))) else {
            continue;
        };
        let name = read.host().to_owned();
        if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&name) {
            continue;
        }
        let Ok(Some(entry)) = store.entry(key).await else { continue };
        let shown = hosts.entry(name.clone()).or_insert_with(|| Host {
            name: name.clone(),
            is_silent: true,
            ..Host::default()
        });
        let place = (subject.as_str(), name.as_str());
        if matches!(read, Key::Alive(_)) {
            let Ok((alive, _)) = message::read::<Alive>(&entry.value, place, None) else { continue };
            let age = entry.created.unix_timestamp_nanos();
            let now = jiff::Timestamp::now().as_nanosecond();
            let age = Duration::from_nanos(u64::try_from((now - age).max(0)).unwrap_or(u64::MAX));
            shown.heard_ms = u64::try_from(age.as_millis()).ok();
            shown.is_silent = age >= SILENT || alive.leaves;
        } else if let Ok((state, _)) = message::read::<State>(&entry.value, place, None) {
            let state = state.bounded();
            shown.left_out = state.left_out;
            shown.services = state.services.into_iter().map(service).collect();
        }
    }
    Ok(hosts.into_values().collect())
}

fn service(service: message::ServiceState) -> HostService {
    let incident = service.incident.map(|open| HostIncident {
        id: open.id,
        verdict: open.verdict,
        confidence: open.confidence,
        severity: open.severity,
        summary: open.summary,
        evidence: open.evidence,
        cause: open.cause,
        held: open.held,
    });
    HostService { name: service.name, state: service.state, ports: service.ports, incident }
}

/// Gives each event of all hosts to `each`, with the name of its host, until that returns false.
pub async fn watch(
    fleet: &config::Fleet,
    host_name: &str,
    mut each: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), String> {
    let host = host_of(fleet, host_name);
    let client = connect_once(fleet, &host).await?;
    let mut events = client.subscribe(EVENTS).await.map_err(|error| foreign(&error.to_string()))?;
    while let Some(message) = events.next().await {
        let subject = message.subject.as_str();
        let Some((_, host)) = subject.rsplit_once('.') else { continue };
        if message.payload.len() <= message::MESSAGE_MAX && !each(host, &message.payload) {
            return Ok(());
        }
    }
    Err("NATS has ended the connection".to_owned())
}
