//! A stop on request.

use crate::clock::Timestamp;

#[derive(Debug)]
pub struct Stopped {
    /// The evidence that it was requested.
    pub why: String,
    pub since: Timestamp,
    /// The unit's invocation that was stopped.
    pub invocation: String,
}
