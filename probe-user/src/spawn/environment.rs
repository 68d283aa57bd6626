//! The environment of a command under `exec`.
//!
//! The daemon's own variables may hold its passwords (`${NAME}`) and describe what only it was given, such as its
//! credentials, its journal stream and its notification socket. So a command gets the few that describe the host and the
//! user, and what its service configures.

use std::{collections::BTreeMap, ffi::OsString};

use crate::{account::User, config::Exec};

/// The search path where the daemon has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the host and the user; those of the locale (`locale(7)`) begin with `LC_`.
const KEPT: [&str; 8] = ["HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TZ", "USER"];

/// Whether a command inherits the variable with this name.
pub(super) fn is_kept(name: &str) -> bool {
    KEPT.contains(&name) || name.starts_with("LC_")
}

/// The variables of a command; those of its user replace the daemon's, and those of its service come last and win.
pub(super) fn of(exec: &Exec, user: Option<&User>) -> BTreeMap<OsString, OsString> {
    let mut environment = BTreeMap::from([("PATH".into(), DEFAULT_PATH.into())]);
    environment.extend(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_kept)));
    if let Some(User { name, home, shell, .. }) = user {
        let own = [("HOME", home), ("LOGNAME", name), ("SHELL", shell), ("USER", name)];
        environment.extend(own.map(|(name, value)| (name.into(), value.clone())));
    }
    let configured = exec.environment.iter();
    environment.extend(configured.map(|(name, value)| (name.into(), value.expose().into())));
    environment
}
