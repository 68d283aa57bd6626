//! The shape of the configuration file: every key there is, with its place, before anything is checked.
//!
//! Every key is optional here, so that a missing one is reported by the checks, which know what it means.

use std::{collections::BTreeMap, time::Duration};

use rustix::process::Signal;
use serde::Deserialize;
use toml::Spanned;

use super::{
    choice::Format,
    exec::{SoftAndHard, Umask},
    maintenance::Window,
    protocol::ProbeKeys,
    template::Template,
    values::{At, Backoff, Budget, Size, Table, Text, Whole},
};
use crate::fact::{OnCleanExit, Response, Severity};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) events: Option<Table<Events>>,
    pub(super) http: Option<Table<Http>>,
    pub(super) control: Option<Table<Control>>,
    pub(super) kernel: Option<Table<Kernel>>,
    pub(super) snapshots: Option<Table<Snapshots>>,
    pub(super) state: Option<Table<State>>,
    pub(super) defaults: Option<Table<Defaults>>,
    #[serde(default)]
    pub(super) alert: Vec<Spanned<Table<Alert>>>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Table<Service>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Events {
    pub(super) output: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub(super) listen: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Control {
    pub(super) socket: At<String>,
    /// The group whose members may use the socket too.
    pub(super) group: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kernel {
    /// Size of the ring that wakes the daemon at once; 256KiB if not given.
    pub(super) urgent_ring: At<Text<Size>>,
    /// Size of the ring that is read about once a second; 1MiB if not given.
    pub(super) bulk_ring: At<Text<Size>>,
    /// Deaths outside of all services that are reported a second, per cgroup; 50 if not given.
    pub(super) unwatched_exits_per_second: At<Whole>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Snapshots {
    /// The folder they are written to; `/var/lib/hostprobe/snapshots` if not given.
    pub(super) directory: At<String>,
    /// How many are kept; 32 if not given.
    pub(super) keep: At<Whole>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The folder; `/var/lib/hostprobe` if not given.
    pub(super) directory: At<String>,
    /// The size of the recording, "" or "0" for none; 64MiB if not given.
    pub(super) recording: At<String>,
}

/// What holds for all services that do not say otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Defaults {
    pub(super) probe: Option<Table<ProbeDefaults>>,
    pub(super) restart: Option<Table<RestartDefaults>>,
    pub(super) limits: At<Table<Limits>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProbeDefaults {
    pub(super) interval: At<Text<Duration>>,
    pub(super) timeout: At<Text<Duration>>,
    pub(super) failures: At<Whole>,
    pub(super) slow: At<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RestartDefaults {
    pub(super) enabled: At<bool>,
    pub(super) on_clean_exit: Option<Text<OnCleanExit>>,
    pub(super) budget: Option<Text<Budget>>,
    pub(super) backoff: Option<Text<Backoff>>,
    pub(super) grace: Option<Text<Duration>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Alert {
    pub(super) webhook: At<Text<Template>>,
    pub(super) password_file: At<String>,
    pub(super) format: At<Text<Format>>,
    pub(super) min_severity: Option<Text<Severity>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: At<String>,
    pub(super) unit: At<String>,
    pub(super) exec: At<Vec<Spanned<String>>>,
    #[serde(rename = "match")]
    pub(super) matcher: At<Table<Matcher>>,
    /// With `exec`: the file its output is appended to; `/var/log/hostprobe/NAME.log` if not given.
    pub(super) output: At<String>,
    /// With `exec`: the size at which that file is rotated; never if not given.
    pub(super) output_max: At<Text<Size>>,
    /// With `exec`: how many old files are kept; 3 if not given.
    pub(super) output_keep: At<Whole>,
    /// With `exec`: whether each line begins with its time; false if not given.
    pub(super) output_stamp: At<bool>,
    /// With `exec`: the folder it runs in; `/` if not given.
    pub(super) directory: At<String>,
    /// With `exec`: variables of its environment.
    pub(super) environment: At<BTreeMap<String, Spanned<String>>>,
    /// With `exec`: a file of further variables, a `NAME=value` a line.
    pub(super) environment_file: At<String>,
    /// With `exec`: the user it runs as; the daemon's if not given.
    pub(super) user: At<String>,
    /// With `exec`: its group; the user's if not given.
    pub(super) group: At<String>,
    /// With `exec`: the permissions that its new files do not have; 022 if not given.
    pub(super) umask: At<Text<Umask>>,
    /// With `exec`: limits of the kernel's by the name of the resource. Those in `limits` are hostprobe's.
    pub(super) rlimits: At<BTreeMap<String, Spanned<SoftAndHard>>>,
    /// With `exec`: the signal that asks it to end; SIGTERM if not given.
    pub(super) stop_signal: At<Text<Signal>>,
    /// With `exec`: the time from that signal to SIGKILL; 10s if not given.
    pub(super) stop_timeout: At<Text<Duration>>,
    #[serde(default)]
    pub(super) depends_on: Vec<Spanned<String>>,
    /// With `exec`: services that are to be healthy before its first start.
    pub(super) start_after: At<Vec<Spanned<String>>>,
    pub(super) critical: Option<bool>,
    #[serde(default)]
    pub(super) maintenance: Vec<Spanned<Text<Window>>>,
    #[serde(default)]
    pub(super) probe: Vec<Spanned<Table<ProbeKeys>>>,
    pub(super) restart: Option<Table<Restart>>,
    pub(super) limits: At<Table<Limits>>,
    pub(super) policy: Option<Table<Policy>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Matcher {
    pub(super) exe: At<String>,
    pub(super) pidfile: At<String>,
    pub(super) port: At<Whole>,
    pub(super) cgroup: At<String>,
    pub(super) container: At<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Restart {
    pub(super) enabled: At<bool>,
    pub(super) on_clean_exit: Option<Text<OnCleanExit>>,
    pub(super) budget: Option<Text<Budget>>,
    pub(super) backoff: Option<Text<Backoff>>,
    pub(super) grace: Option<Text<Duration>>,
    pub(super) command: At<Vec<Spanned<String>>>,
}

/// What to do about failures: `"ignore"`, `"alert"` or `"restart"`; `"alert"` if not given.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub(super) worker_died: Option<Text<Response>>,
    pub(super) memory_full: Option<Text<Response>>,
    /// Here `"restart"` restarts the service that holds most of the connections.
    pub(super) pool_exhausted: Option<Text<Response>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) cpu_percent: At<f64>,
    pub(super) memory_percent: At<f64>,
    pub(super) threads: At<Whole>,
    pub(super) fds: At<Whole>,
}
