//! The service that fails on demand (see `src/bin/victim.rs` for its faults).

use std::{
    path::PathBuf,
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::Signal;

use crate::{http, parts::built, process::Running};

/// A running victim.
#[derive(Debug)]
pub struct Victim {
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
}

impl Victim {
    /// Its program, for services that hostprobe or systemd starts.
    pub fn program() -> PathBuf {
        built("victim")
    }

    /// Starts one on a free port and waits until it listens.
    pub fn start() -> Self {
        Self::start_on(http::free_port())
    }

    /// Starts one on this port and waits until it listens.
    pub fn start_on(port: u16) -> Self {
        let mut command = Command::new(Self::program());
        let process = Running::start(command.args(["--port", &port.to_string()]), Signal::KILL);
        process.wait_until_it_says("listening on", &process.stdout, Duration::from_secs(10));
        Self { process, port }
    }

    /// Asks for a fault, such as `/segv`; the answer may be cut short by it.
    pub fn hit(&self, path: &str) {
        let _ = http::get(self.port, path);
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(Duration::from_secs(20))
    }
}
