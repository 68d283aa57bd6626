//! Who took the memory, and who asked for an end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::User;

/// Who took the memory before something ended a process for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Culprit {
    /// All of it as a sentence for people.
    pub text: String,
    /// What ended the victim: `the OOM killer`, `systemd-oomd`, `earlyoom` or the like.
    pub killer: String,
    /// The process that was ended.
    pub victim: MemoryHolder,
    /// The limit that was reached; absent where a program made room before one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<MemoryLimit>,
    /// The process that grew most within that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<GrownProcess>,
    /// The memory cgroup that grew most within that limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<GrownCgroup>,
    /// The time over which both grew, in milliseconds: about a minute, or less where hostprobe has just started.
    pub over_ms: f64,
    /// The processes that held most at the kill, by the kernel's own report, at most three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest: Vec<MemoryHolder>,
    /// How hard the kernel tried to free memory, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaim: Option<String>,
}

/// A process and the memory that it held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryHolder {
    /// Its pid in the initial pid namespace; 0 if it is not known.
    pub pid: u32,
    pub name: String,
    /// Resident memory.
    pub bytes: u64,
}

/// A limit of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryLimit {
    /// The path of the memory cgroup that has it; absent for the memory of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The file that sets it, such as `memory.max`.
    pub file: String,
    pub bytes: u64,
}

/// A process that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrownProcess {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    pub name: String,
    /// What it is to the service: `main process`, `worker`, or its own unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// By how much it grew.
    pub grown_bytes: u64,
    /// It may have grown by more: before, it was not among the largest.
    pub at_least: bool,
    /// What it held.
    pub bytes: u64,
}

/// A memory cgroup that grew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrownCgroup {
    pub path: String,
    /// By how much it grew.
    pub grown_bytes: u64,
    /// What it held.
    pub bytes: u64,
}

/// The program that asked for a stop, a restart or an end, or that sent the signal, with what is behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// All of it as a sentence for people.
    pub text: String,
    /// When it was executed, or when it sent its signal: RFC 3339, UTC, nanoseconds.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// The program.
    pub process: ActorProcess,
    /// Its real user.
    pub user: User,
    /// The user of the login that it descends from; absent without a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<User>,
    /// Its controlling terminal, such as `pts/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<String>,
    /// The systemd unit it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// What started it, nearest first, without process 1; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ancestors: Vec<ActorProcess>,
}

/// A program of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ActorProcess {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
    /// Its arguments, secrets redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
}
