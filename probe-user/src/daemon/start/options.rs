//! The arguments of `hostprobe run`, and the errors that stop the daemon.

use std::path::PathBuf;

use crate::{
    act::alert::AlertError, config::EventOutput, emit::SinkError, host::ReadError, probe::ClientError,
    process::notify::Notifier, sensor::ebpf::Hook, store::directory::DirectoryError,
};

/// The options of a run, beside its configuration.
#[derive(Debug, Default)]
pub struct RunOptions {
    /// The configuration's file.
    pub config_file: Option<PathBuf>,
    /// Where events go, whatever the configuration says.
    pub events: Option<Vec<EventOutput>>,
    /// Restart nothing, whatever the configuration says.
    pub observe: bool,
    /// Have the eBPF programs write debug lines to the daemon's log.
    pub kernel_log: bool,
    /// Hooks to do without, as on a kernel that lacks them.
    pub without: Vec<Hook>,
    /// The notifier of the service manager: start, status and stop.
    pub notifier: Notifier,
}

/// Why the daemon cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Events cannot be written.
    #[error(transparent)]
    Events(#[from] SinkError),
    /// Another daemon has the state directory.
    #[error(transparent)]
    State(DirectoryError),
    /// `/proc` cannot be read.
    #[error("/proc: cannot be read: {0}; mount it")]
    Host(#[from] ReadError),
    #[error("sensors: no descriptors left: {0}; raise RLIMIT_NOFILE")]
    Descriptors(std::io::Error),
    /// `/proc` is that of another pid namespace.
    #[error(
        "/proc shows another pid namespace than hostprobe's own: {0}; mount one of its own (unshare --mount-proc), or run \
         hostprobe in the host's pid namespace (--pid=host)"
    )]
    ForeignProc(String),
    /// A receiver of alerts cannot be set up.
    #[error(transparent)]
    Alerts(#[from] AlertError),
    /// The heartbeat to elsewhere cannot be set up.
    #[error("{0}")]
    Heartbeat(String),
    #[error("signals cannot be caught: {0}")]
    Signals(std::io::Error),
    /// The probes' client cannot be made.
    #[error("the probes cannot be set up: {0}")]
    Probes(#[from] ClientError),
}
