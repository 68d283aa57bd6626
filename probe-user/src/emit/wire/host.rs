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
    /// What a kernel hook saw of a fault, as far as the fault has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<HostFault>,
}

/// A fault of the host, as a kernel hook saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostFault {
    /// The pid of the process that hangs, or that the kernel was working for; 0 outside hostprobe's pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The id of its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<u32>,
    /// The name of the process (`comm`), which it can set itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// What the disk was to do, such as `read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The first sector that failed, in units of 512 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sector: Option<u64>,
    /// How many bytes failed from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The kernel's word for the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The physical address, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The function or file of the kernel's source that found it, and the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}
