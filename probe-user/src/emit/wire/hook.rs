//! Runs of the user's own programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A run of a program of the user's. The reason of a failure is in `error.message`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// What it ran at: `incident.open`, `incident.resolve`, `restart.before` or `restart.after`.
    pub event: String,
    /// The path of the program, without its arguments.
    pub command: String,
    /// How long it ran, in milliseconds.
    pub duration_ms: f64,
    /// Its exit status; absent if a signal or the time limit ended it, or it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}
