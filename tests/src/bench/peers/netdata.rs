//! Netdata, as its package configures it.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    http::{self, free_port},
    process::{Running, until},
};

pub const PROGRAM: &str = "/usr/sbin/netdata";

/// Longest wait until it answers.
const START: Duration = Duration::from_secs(30);

/// A running Netdata with its plugins, ended when it is dropped.
#[derive(Debug)]
pub struct Netdata {
    /// Its main process, the parent of its plugins.
    pub process: Running,
    _folder: TempDir,
}

impl Netdata {
    /// Starts one with what is standard, but for where it writes, the port it serves, and that it stays root.
    pub fn start() -> Result<Self> {
        ensure!(fs::exists(PROGRAM)?, "{PROGRAM} is missing; it is in the package netdata-core");
        let (folder, port) = (TempDir::new()?, free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["cache", "lib", "log"] {
            fs::create_dir(folder.path().join(name))?;
        }
        let file = path("netdata.conf");
        let config = format!(
            "[global]\n run as user = root\n[directories]\n cache = {}\n lib = {}\n log = {}\n\
             [web]\n bind to = 127.0.0.1:{port}\n",
            path("cache"),
            path("lib"),
            path("log")
        );
        fs::write(&file, config).context("cannot write Netdata's configuration")?;
        let mut command = Command::new(PROGRAM);
        let process = Running::start(command.args(["-D", "-c", &file, "-P", &path("pid")]), Signal::TERM);
        until("Netdata answers", START, || http::get(port, "/api/v1/info").ok());
        Ok(Self { process, _folder: folder })
    }
}
