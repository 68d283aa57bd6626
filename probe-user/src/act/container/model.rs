//! The parts of an engine's answers that are read. Docker and Podman write them alike; a missing part has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// The longest foreign text that is kept, in bytes.
pub(super) const TEXT_MAX: usize = 256;

/// A container, as `GET /containers/NAME/json` describes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Description {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) restart_count: u32,
    #[serde(deserialize_with = "or_default")]
    pub(super) state: State,
    #[serde(deserialize_with = "or_default")]
    pub(super) config: Config,
    #[serde(deserialize_with = "or_default")]
    pub(super) host_config: HostConfig,
    #[serde(deserialize_with = "or_default")]
    pub(super) network_settings: NetworkSettings,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct State {
    /// created, running, paused, restarting, removing, exited, dead; Podman also has configured, initialized, stopped and
    /// stopping.
    pub(super) status: String,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) pid: u32,
    pub(super) exit_code: i32,
    pub(super) error: String,
    pub(super) started_at: String,
    pub(super) finished_at: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) health: Health,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Health {
    /// starting, healthy, unhealthy; none or empty without a health check.
    pub(super) status: String,
    pub(super) failing_streak: u32,
    #[serde(deserialize_with = "or_default")]
    pub(super) log: Vec<HealthRun>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HealthRun {
    pub(super) end: String,
    pub(super) output: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    pub(super) image: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) labels: BTreeMap<String, String>,
    /// Seconds; the engines' default is 10.
    pub(super) stop_timeout: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct HostConfig {
    /// `container:ID` where it shares the network namespace of another one.
    pub(super) network_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) restart_policy: RestartPolicy,
    pub(super) auto_remove: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct RestartPolicy {
    /// no or empty, always, unless-stopped, on-failure.
    pub(super) name: String,
    pub(super) maximum_retry_count: u32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct NetworkSettings {
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) networks: BTreeMap<String, Network>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Network {
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: String,
}

/// A container in a list, as `GET /containers/json` has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Listed {
    #[serde(deserialize_with = "or_default")]
    pub(super) names: Vec<String>,
}

/// An event of the stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    /// Docker adds the outcome to some: `health_status: unhealthy`.
    #[serde(rename = "Action")]
    pub(super) action: String,
    #[serde(rename = "Actor", deserialize_with = "or_default")]
    pub(super) actor: Actor,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub(super) time_nanos: i64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub(super) id: String,
    /// With the labels of the container.
    #[serde(rename = "Attributes", deserialize_with = "or_default")]
    pub(super) attributes: BTreeMap<String, String>,
}

/// The engines write `null` for what is empty.
fn or_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A foreign text of at most so many bytes.
pub(super) fn bounded(text: &str, most: usize) -> String {
    text[..text.floor_char_boundary(most)].to_owned()
}
