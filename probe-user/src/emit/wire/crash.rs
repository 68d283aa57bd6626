//! Where a process crashed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a process was when it got the signal that ended it. With `process.exit` it is what the kernel says at that moment;
/// `incident.update` has the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crash {
    /// One sentence for people.
    pub summary: String,
    /// The address that it could not access, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What it was doing with the memory there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<MemoryAccess>,
    /// The place in the code, in hexadecimal digits: with a module or a build id, the offset in that file; else the address in
    /// the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instruction: Option<String>,
    /// The path of the program or library, as the process had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// Its build id, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// The source file and line, as `parse.c:42`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The language's runtime that the process is of, if that is known and has a stack of its own kind: `Go`, `Python`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The core dump: its file, or that of `systemd-coredump`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<String>,
    /// The places that it was called from, the crash first: at most 33.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Vec<String>>,
}

/// An access to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryAccess {
    /// It read from it.
    Read,
    /// It wrote to it.
    Write,
    /// It executed what is there.
    Execute,
}
