//! The fleet as any host can show it: from the bucket and the stream, without a database.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{
    Message,
    jetstream::{
        self,
        consumer::{DeliverPolicy, push::OrderedConfig},
    },
};
use futures_util::StreamExt;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::{
    client::host_of,
    connect::{connect_once, foreign, read_files},
    events,
    message::{self, Alive, SILENT, State},
    sign::Keys,
    subject::{BUCKET, EVENTS, Key, all_alive, all_states, is_host},
};
use crate::config;

/// How long the bucket may take to be read.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bucket is read to its end if nothing of it comes for as long: keys can be forgotten while it is read.
const PAUSE: Duration = Duration::from_secs(1);

/// The most hosts that are shown.
const HOSTS_MAX: usize = 10_000;

/// The most bytes that are read: a host with 20 services has 2 KiB.
const BYTES_MAX: usize = 64 << 20;

/// One host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FleetHost")]
pub struct Host {
    pub name: String,
    /// Since when it was heard last, in milliseconds, by the clock of the server.
    pub heard_ms: Option<u64>,
    pub is_silent: bool,
    pub services: Vec<HostService>,
    /// How many services it leaves out as it has no room for them.
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
    let keys = read_files(fleet).map_err(|error| error.to_string())?.keys;
    let client = connect_once(fleet, &host).await?;
    let read = read(jetstream::new(client), keys.as_ref());
    timeout(PATIENCE, read)
        .await
        .unwrap_or_else(|_| Err(format!("the bucket is not read within {PATIENCE:?}")))
}

async fn read(jetstream: jetstream::Context, keys: Option<&Keys>) -> Result<Vec<Host>, String> {
    let failed = |error: String| format!("the bucket {BUCKET} cannot be read: {}", foreign(&error));
    let stream = jetstream.get_stream_no_info(format!("KV_{BUCKET}")).await;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let (mut hosts, mut bytes): (BTreeMap<String, Host>, usize) = (BTreeMap::new(), 0);
    for filter_subject in [all_alive(), all_states()] {
        // One answer with all values: a request for each takes a second with a thousand hosts.
        let consumer = stream.create_consumer(OrderedConfig {
            deliver_subject: jetstream.client().new_inbox(),
            filter_subject,
            deliver_policy: DeliverPolicy::LastPerSubject,
            ..OrderedConfig::default()
        });
        let consumer = consumer.await.map_err(|error| failed(error.to_string()))?;
        let mut waiting = consumer.cached_info().num_pending;
        let mut values = consumer.messages().await.map_err(|error| failed(error.to_string()))?;
        while waiting > 0 {
            let Ok(Some(value)) = timeout(PAUSE, values.next()).await else { break };
            let value = value.map_err(|error| failed(error.to_string()))?;
            let info = value.info().map_err(|error| failed(error.to_string()))?;
            waiting = info.pending;
            let published = info.published.unix_timestamp_nanos();
            bytes += value.payload.len();
            if bytes > BYTES_MAX {
                return Err(failed(format!("it has more than {} MiB", BYTES_MAX >> 20)));
            }
            show(&mut hosts, &value, keys, published);
        }
    }
    Ok(hosts.into_values().collect())
}

/// Adds what one value of the bucket says, which was published at this time.
fn show(hosts: &mut BTreeMap<String, Host>, value: &Message, keys: Option<&Keys>, published: i128) {
    let (subject, value) = (value.subject.as_str(), value.payload.as_ref());
    let Some(read) = Key::read(subject) else { return };
    let name = read.host().to_owned();
    if hosts.len() >= HOSTS_MAX && !hosts.contains_key(&name) {
        return;
    }
    let place = (subject, name.as_str());
    let of = |hosts: &mut BTreeMap<String, Host>| {
        let new = || Host { name: name.clone(), is_silent: true, ..Host::default() };
        std::mem::take(hosts.entry(name.clone()).or_insert_with(new))
    };
    let shown = if matches!(read, Key::Alive(_)) {
        let Ok((alive, _)) = message::read::<Alive>(value, place, keys) else { return };
        let now = jiff::Timestamp::now().as_nanosecond();
        let age = Duration::from_nanos(u64::try_from((now - published).max(0)).unwrap_or(u64::MAX));
        let heard_ms = u64::try_from(age.as_millis()).ok();
        Host { heard_ms, is_silent: age >= SILENT || alive.leaves, ..of(hosts) }
    } else {
        let Ok((state, _)) = message::read::<State>(value, place, keys) else { return };
        let state = state.bounded();
        let left_out = state.left_out;
        Host { left_out, services: state.services.into_iter().map(service).collect(), ..of(hosts) }
    };
    hosts.insert(name, shown);
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

/// Whether an event is signed by the key of its host.
fn is_signed(event: &Message, host: &str, keys: &Keys) -> bool {
    let signature = event.headers.as_ref().and_then(|headers| headers.get(events::SIGNATURE));
    let signed = events::signed(event.subject.as_str(), &event.payload);
    signature.is_some_and(|signature| keys.verify(host, &signed, signature.as_str()).is_ok())
}

/// Gives each event of all hosts to `each`, with the name of its host, until that returns false. With a file of keys, those
/// that their hosts have not signed are left out.
pub async fn watch(
    fleet: &config::Fleet,
    host_name: &str,
    mut each: impl FnMut(&str, &[u8]) -> bool,
) -> Result<(), String> {
    let host = host_of(fleet, host_name);
    let keys = read_files(fleet).map_err(|error| error.to_string())?.keys;
    let client = connect_once(fleet, &host).await?;
    let mut events = client.subscribe(EVENTS).await.map_err(|error| foreign(&error.to_string()))?;
    while let Some(message) = events.next().await {
        let subject = message.subject.as_str();
        let Some((_, host)) = subject.rsplit_once('.').filter(|(_, host)| is_host(host)) else { continue };
        if keys.as_ref().is_some_and(|keys| !is_signed(&message, host, keys)) {
            continue;
        }
        if message.payload.len() <= message::MESSAGE_MAX && !each(host, &message.payload) {
            return Ok(());
        }
    }
    Err("NATS has ended the connection".to_owned())
}
