//! What a reload of the configuration changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a reload changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// The services that it concerns.
    pub services: ReloadedServices,
    /// Keys of the daemon as a whole that took effect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Keys that only a restart of hostprobe applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs_restart: Vec<String>,
}

/// The services that a reload concerns, at most 64 of each kind by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadedServices {
    /// New services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// Services that the daemon no longer watches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
    /// Services with other settings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<ReloadedService>,
}

/// A service with other settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadedService {
    /// The service.
    pub name: String,
    /// Its keys that changed.
    pub keys: Vec<String>,
    /// Whether its command changes at its next start only.
    pub at_next_start: bool,
}
