//! Processes, where they run, and how they ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::OomScope;

/// A process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    /// When it was started: RFC 3339, UTC, nanoseconds.
    #[schemars(extend("format" = "date-time"))]
    pub start: String,
    /// Unique among all processes of all boots: boot id (first group), pid, start in ns since boot.
    pub entity_id: String,
    /// Its name (`comm`), which it can set itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The file it executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Its arguments as it was started, secrets redacted, at most 4 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_line: Option<String>,
    /// Its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Whose process it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// Its pid in its own pid namespace, if that is not the initial one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_ns: Option<u32>,
    /// How long it ran, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<f64>,
    /// The largest resident set it had, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_bytes: Option<u64>,
    /// The code it exited with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_signal: Option<ExitSignal>,
    /// The last fatal signal it was sent, where it did not die of it: it exited by a code, or died of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_signal: Option<ExitSignal>,
    /// Whether the OOM killer chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom: Option<bool>,
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
}

/// A fatal signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitSignal {
    /// Its number.
    pub number: u8,
    /// Its name, such as `SIGSEGV`.
    pub name: String,
    /// Whether the kernel wrote, or tried to write, a core dump.
    pub core_dumped: bool,
    /// Who sent it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
}

/// Who sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// What kind of sender it was.
    pub origin: SenderOrigin,
    /// Its pid in the initial pid namespace; absent for the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name (`comm`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose process it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The systemd unit it ran in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// What kind of sender a signal had.
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
}

/// The OOM killer's choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oom {
    /// Whose memory ran out.
    pub scope: OomScope,
    /// Resident anonymous memory of the victim, in bytes.
    pub anon_bytes: u64,
    /// Resident file-backed memory of the victim, in bytes.
    pub file_bytes: u64,
    /// Resident shared memory of the victim, in bytes.
    pub shmem_bytes: u64,
    /// The limit that was reached, in bytes, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// The victim's `oom_score_adj`, −1000 to 1000.
    pub score_adj: i16,
    /// The process whose allocation set it off.
    pub trigger: OomTrigger,
    /// The path of the victim's cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// The process whose allocation set the OOM killer off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OomTrigger {
    /// Its pid in the initial pid namespace.
    pub pid: u32,
    /// Its name (`comm`).
    pub name: String,
}
