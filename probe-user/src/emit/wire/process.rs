//! Processes, their containers, and their exits.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Crash, OomScope};

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    /// Its start time: RFC 3339, UTC, nanoseconds.
    #[schemars(extend("format" = "date-time"))]
    pub start: String,
    /// Unique among all processes of all boots: boot id (first group), pid, start in ns since boot.
    pub entity_id: String,
    /// Its name (`comm`), which it can set itself; absent if it ended before it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file it executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Its arguments at its start, secrets redacted, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The user of the process; absent if it ended before it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Its pid in its own pid namespace, if that is not the initial one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_ns: Option<u32>,
    /// Its run time, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<f64>,
    /// Its largest resident set, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    /// The code it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_signal: Option<ExitSignal>,
    /// The last fatal signal that it received and that did not end it: it exited with a code, or another signal
    /// ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_signal: Option<ExitSignal>,
    /// Whether the OOM killer chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<bool>,
    /// Where it crashed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

/// A process's parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The numeric user id, as a string as ECS has it.
    pub id: String,
    /// The name, for the user behind an operator's command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A fatal signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitSignal {
    /// Its number.
    pub number: u8,
    /// Its name, such as `SIGSEGV`.
    pub name: Cow<'static, str>,
    /// Whether the kernel wrote, or tried to write, a core dump.
    pub core_dumped: bool,
    /// The sender, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

/// The sender of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// The kind of sender.
    pub origin: SenderOrigin,
    /// Its pid in the initial pid namespace; absent for the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name (`comm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The sender's systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// The kind of a signal's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SenderOrigin {
    /// Another process.
    Process,
    /// The process itself, as by `abort` or `raise`.
    Itself,
    /// The kernel: a fault, an expired limit, or the OOM killer.
    Kernel,
}

/// A control group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Its kernel id: the inode number of its directory.
    pub id: u64,
    /// Its path from the root of its hierarchy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its id, 64 hexadecimal digits; the name of an LXC or systemd-nspawn container.
    pub id: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// "docker" or "podman", if a service names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The image that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ContainerImage>,
    /// The labels that tell what made it, and its version.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The exit code of its last run, if it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Whether its engine saw the OOM killer in its last run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
    /// "starting", "healthy" or "unhealthy", by its engine's health check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

impl Container {
    /// One of which the id alone is known.
    pub fn of_id(id: String) -> Self {
        Self {
            id,
            name: None,
            runtime: None,
            image: None,
            labels: BTreeMap::new(),
            exit_code: None,
            oom_killed: false,
            health: None,
        }
    }
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContainerImage {
    /// Its name, without the tag.
    pub name: String,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tag: Vec<String>,
}

/// The orchestrator of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Orchestrator {
    /// `kubernetes`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The namespace of the pod, if the kubelet's folders have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The pod.
    pub resource: OrchestratorResource,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrchestratorResource {
    /// `pod`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its uid.
    pub id: String,
    /// Its name, if the kubelet's folders have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The OOM killer's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oom {
    /// The scope of the memory that ran out.
    pub scope: OomScope,
    /// Resident anonymous memory of the victim, in bytes.
    pub anon_bytes: u64,
    /// Resident file-backed memory of the victim, in bytes.
    pub file_bytes: u64,
    /// Resident shared memory of the victim, in bytes.
    pub shmem_bytes: u64,
    /// The reached limit, in bytes, if it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// The victim's `oom_score_adj`, −1000 to 1000.
    pub score_adj: i16,
    /// The process whose allocation triggered it.
    pub trigger: OomTrigger,
    /// The path of the victim's cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// The process whose allocation triggered the OOM killer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OomTrigger {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
}
