//! What the checks need to know besides the file itself.

use crate::account::{AccountError, Kind};

pub(in crate::config) struct Outside<'a> {
    /// Looks up a variable of the environment.
    pub(in crate::config) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the host has a user or a group.
    pub(in crate::config) account: &'a dyn Fn(Kind, &str) -> Result<(), AccountError>,
    /// Whether the file's group or everybody may read it.
    pub(in crate::config) readable_by_others: bool,
}
