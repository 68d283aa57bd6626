//! A stop on request.

use crate::{clock::Timestamp, fact::Actor};

#[derive(Debug)]
pub struct Stopped {
    /// The evidence that it was requested.
    pub why: String,
    pub since: Timestamp,
    /// Who asked for it, where that is known.
    pub actor: Option<Actor>,
    /// The unit's invocation that was stopped.
    pub invocation: String,
}
