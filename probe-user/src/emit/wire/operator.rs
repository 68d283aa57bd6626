//! Commands of operators.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandKind, DrillFault, User};

/// An operator's command. Its reason is in `event.reason`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Which command.
    pub command: CommandKind,
    /// The fault of a drill: `kill`, `hang`, `oom` or `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<DrillFault>,
    /// The user who logged in, if the kernel knows: with `sudo`, another one than `user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<User>,
    /// When it ends by itself: RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub until: Option<String>,
}
