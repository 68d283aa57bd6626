//! The checks of the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::HostCheckName;

/// A check of the host. Events of an incident have its name and its target alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCheck {
    /// What it checks.
    pub name: HostCheckName,
    /// The mount point, the device, or the name of a process; absent for the host as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What it measured, in the unit of the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// The limit of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// The time in milliseconds until nothing is left, at the present rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_left_ms: Option<f64>,
}
