//! A victim under the daemon's built-in supervisor.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    cgroup,
    daemon::Daemon,
    http::free_port,
    incident_events::{is, number, text},
    process::until,
    victim::Victim,
};

/// The longest a service may take to be well on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service to be: its name, its port, and where its output goes.
#[derive(Debug)]
pub struct Supervised {
    pub name: String,
    /// The loopback port it serves.
    pub port: u16,
    folder: TempDir,
}

impl Default for Supervised {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervised {
    /// A service on a free port.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    pub fn new() -> Self {
        let port = free_port();
        Self { name: format!("victim-{port}"), port, folder: TempDir::new().expect("a temporary folder") }
    }

    /// It in a configuration, probed and serving nothing over HTTP itself; `further` follows its probe, such as
    /// `[service.restart]`.
    pub fn config(&self, further: &str) -> String {
        let (port, command) = (self.port, Victim::program().display().to_string());
        let service = self.service(&[&command, "--port", &port.to_string()]);
        format!(
            "[http]\nlisten = \"\"\n{service}[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n{further}"
        )
    }

    /// A service of its name with another command, in a configuration.
    pub fn service(&self, command: &[&str]) -> String {
        format!(
            "[[service]]\nname = {:?}\nexec = {command:?}\noutput = {:?}\n",
            self.name,
            self.output_file().display().to_string()
        )
    }

    fn output_file(&self) -> PathBuf {
        self.folder().join("output")
    }

    /// A folder of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_file()).unwrap_or_default()
    }

    /// Waits until the daemon has found it healthy.
    #[track_caller]
    pub fn until_healthy(&self, daemon: &Daemon) {
        daemon.wait_for(
            |event| is(event, "service.state", &self.name) && text(event, "service.state") == "healthy",
            PATIENCE,
        );
    }

    /// Whether an event says that one of its processes listens on this port.
    pub fn listens(&self, port: u16, event: &Value) -> bool {
        is(event, "listener.up", &self.name) && number(event, "server.port") == Some(port.into())
    }

    /// Its main process: the latest to listen on its port, or the one that the daemon has taken over. Without hooks, the
    /// daemon sees a listener within a second.
    ///
    /// # Panics
    /// If it never listened.
    #[track_caller]
    pub fn pid(&self, daemon: &Daemon) -> u32 {
        until("its main process", PATIENCE, || {
            let events = daemon.events();
            let latest = events.iter().rev().find(|event| self.listens(self.port, event));
            let listens = latest.and_then(|event| u32::try_from(number(event, "process.pid")?).ok());
            listens.or_else(|| self.taken_over(daemon))
        })
    }

    /// Its process, if an earlier daemon has started it.
    fn taken_over(&self, daemon: &Daemon) -> Option<u32> {
        let log = daemon.log();
        let (_, rest) = log.split_once(&format!("{}: goes on as pid ", self.name))?;
        rest.split(',').next()?.parse().ok()
    }

    /// The folder of the v2 cgroup that its main process is in.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn cgroup(&self, daemon: &Daemon) -> PathBuf {
        cgroup::v2_of(self.pid(daemon))
    }

    /// Kills its main process.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn kill(&self, daemon: &Daemon) {
        let pid = Pid::from_raw(self.pid(daemon).cast_signed()).expect("a pid");
        kill_process(pid, Signal::KILL).expect("it lives");
    }
}
