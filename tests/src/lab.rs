//! A daemon that keeps a service running which fails on demand.

pub mod probed;
pub mod server;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use tempfile::TempDir;

use crate::{
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{IncidentEvents, listening_pid, wait_until_healthy},
    parts::require_root,
    victim::Victim,
};

/// A victim under the built-in supervisor, probed every ten seconds.
pub struct ExecLab {
    pub daemon: Daemon,
    /// The loopback port the victim serves.
    pub port: u16,
    _folder: TempDir,
}

impl ExecLab {
    /// Starts both. None where that takes rights that this user lacks: the test is skipped.
    pub fn start() -> Option<Self> {
        if !require_root() {
            return None;
        }
        let port = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        // A core dump is part of some faults; it goes to the service's folder.
        let unlimited = Rlimit { current: None, maximum: None };
        setrlimit(Resource::Core, unlimited).expect("root may raise its limits");
        let daemon = Daemon::start(
            &format!(
                r#"
                [http]
                listen = ""
                [restart]
                budget = "1000 per 1h"
                [[service]]
                name = "api"
                exec = ["{program}", "--port", "{port}"]
                directory = "{folder}"
                output = "{folder}/output"
                [[service.probe]]
                http = "http://127.0.0.1:{port}/health"
                [service.restart]
                budget = "1000 per 1h"
                "#,
                program = Victim::program().display(),
                folder = folder.path().display(),
            ),
            &[],
        );
        daemon.ready();
        let lab = Self { daemon, port, _folder: folder };
        wait_until_healthy(&lab.daemon, "api");
        Some(lab)
    }

    /// The service's main process, by the latest listener.
    pub fn main_pid(&self) -> u32 {
        listening_pid(&self.daemon, "api")
    }

    /// Lets the fault happen, and waits until the service is well again.
    #[track_caller]
    pub fn heal(&self, fault: impl FnOnce()) -> IncidentEvents {
        let mark = self.daemon.mark();
        fault();
        IncidentEvents::of(&self.daemon, mark, "api")
    }

    /// Asks the service for a fault, and waits until it is well again.
    #[track_caller]
    pub fn hit(&self, path: &str) -> IncidentEvents {
        self.heal(|| {
            // The fault may cut the answer short.
            let _ = http::get(self.port, path);
        })
    }

    /// Sends its main process a signal.
    pub fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.main_pid().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("it lives");
    }
}
