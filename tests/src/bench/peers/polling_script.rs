//! The script that many a host has: it asks every ten seconds, and restarts after three failures in a row.

use std::{fs, process::Command, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{bench::outage::until_well, process::Running, victim::Victim};

/// The longest it may take to begin.
const START: Duration = Duration::from_secs(30);

/// The script; its arguments are a program and the port it serves.
const SCRIPT: &str = r#"
start() { "$1" --port "$2" >/dev/null 2>&1 & pid=$!; }
trap 'kill -KILL $pid $nap; exit 0' TERM
failures=0
start "$1" "$2"
while :; do
    sleep 10 >/dev/null 2>&1 &
    nap=$!
    wait $nap
    if curl --silent --fail --max-time 5 --output /dev/null "http://127.0.0.1:$2/health"; then
        failures=0
        continue
    fi
    failures=$((failures + 1))
    if [ $failures -ge 3 ]; then
        kill -KILL $pid 2>/dev/null
        start "$1" "$2"
        failures=0
    fi
done
"#;

/// The running script and its victim; both end when it is dropped.
#[derive(Debug)]
pub struct PollingScript {
    _process: Running,
    _folder: TempDir,
}

impl PollingScript {
    pub fn start(port: u16) -> Result<Self> {
        ensure!(fs::exists("/usr/bin/curl")?, "/usr/bin/curl is missing: apt-get install curl");
        let folder = tempfile::Builder::new().prefix("hostprobe-bench-script-").tempdir()?;
        let script = folder.path().join("keep-alive.sh");
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new("/bin/sh");
        command.arg(&script).arg(Victim::program()).arg(port.to_string());
        let process = Running::start(&mut command, Signal::TERM);
        let peer = Self { _process: process, _folder: folder };
        until_well(port, None, START)?;
        Ok(peer)
    }
}
