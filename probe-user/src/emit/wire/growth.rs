//! Resources that run out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Resource;

/// The steady growth of a resource towards its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// What grows.
    pub resource: Resource,
    /// What limits it.
    pub limit: String,
    /// The most that was used lately: bytes of memory, else a number.
    pub used: u64,
    /// How much there is.
    pub ceiling: u64,
    /// How much more is used after an hour.
    pub per_hour: u64,
    /// The time until the limit is reached, at that slope.
    pub left_ms: f64,
    /// The same at the steepest slope of its interval of confidence (95 %).
    pub earliest_ms: f64,
    /// The same at the flattest slope of that interval.
    pub latest_ms: f64,
    /// How long it has been growing for.
    pub over_ms: f64,
}
