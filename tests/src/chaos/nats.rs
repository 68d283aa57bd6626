//! A NATS server with JetStream on loopback, which can be down for a while.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{fleet::Nats, http::free_port, parts::require, process::Running};

#[derive(Debug)]
pub(super) struct LoopbackNats {
    pub(super) port: u16,
    process: Option<Running>,
    config: PathBuf,
    _folder: TempDir,
}

impl LoopbackNats {
    /// None where it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub(super) fn start() -> Option<Self> {
        if !require("nats-server", Nats::PROGRAM) {
            return None;
        }
        let (folder, port) = (TempDir::new().expect("a temporary folder"), free_port());
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?}, max_mem: 64M, max_file: 2G }}\n",
            folder.path().join("store").display().to_string()
        );
        let config = folder.path().join("nats.conf");
        fs::write(&config, text).expect("a temporary file");
        let mut server = Self { port, process: None, config, _folder: folder };
        server.run_again();
        Some(server)
    }

    pub(super) fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it, with what it has on disk.
    pub(super) fn run_again(&mut self) {
        let process =
            Running::start(Command::new(Nats::PROGRAM).arg("--config").arg(&self.config), Signal::KILL);
        process.wait_until_it_says("Server is ready", &process.stderr, Duration::from_secs(20));
        self.process = Some(process);
    }
}
