//! Monit.

use std::{fmt::Write as _, fs, os::unix::fs::PermissionsExt, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::Running;

const PROGRAM: &str = "/usr/bin/monit";

/// Longest wait until it watches.
const START: Duration = Duration::from_secs(30);

/// A running Monit, ended when it is dropped.
#[derive(Debug)]
pub struct Monit {
    /// Its process.
    pub process: Running,
    _folder: TempDir,
}

impl Monit {
    /// Starts one that looks every so many seconds at what a configuration says, such as `check host …`.
    pub fn start(cycle_seconds: u32, checks: &str) -> Result<Self> {
        ensure!(fs::exists(PROGRAM)?, "{PROGRAM} is missing; it is in the package monit");
        let folder = TempDir::new()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (pid, id, state, file) = (path("pid"), path("id"), path("state"), path("monitrc"));
        let config = format!(
            "set daemon {cycle_seconds}\nset pidfile {pid}\nset idfile {id}\nset statefile {state}\n{checks}"
        );
        fs::write(&file, config).context("cannot write Monit's configuration")?;
        // It refuses a file that others may read.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let process = Running::start(Command::new(PROGRAM).args(["-I", "-c", &file]), Signal::TERM);
        let started = |lines: &[String]| lines.iter().any(|line| line.ends_with(" started")).then_some(());
        ensure!(
            process.stdout.wait_for(START, started).is_some(),
            "Monit does not begin: {}",
            process.stderr.all().join("; ")
        );
        Ok(Self { process, _folder: folder })
    }

    /// Checks of HTTP servers on these loopback ports.
    pub fn http_checks(ports: &[u16]) -> String {
        let mut checks = String::new();
        for port in ports {
            // Writing into a string cannot fail.
            let _ = write!(
                checks,
                "check host service-{port} with address 127.0.0.1\n  if failed port {port} protocol http then alert\n"
            );
        }
        checks
    }
}
