//! hostprobe as it is installed on a host: its program, its unit and its user, in the systemd of a lab.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{daemon::event_action, parts::built, process::Running, systemd::SystemdLab};

/// Longest wait for anything, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Its unit.
pub const UNIT: &str = "hostprobe.service";

/// Its event file, inside.
const EVENTS: &str = "/var/log/hostprobe/events.ndjson";

/// An installed daemon, and what it says.
#[derive(Debug)]
pub struct Installed {
    events: Running,
    /// Where it runs.
    pub systemd: SystemdLab,
}

/// A file of the project's, by its path in it.
pub fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../probe-user/systemd").join(path)
}

impl Installed {
    /// Installs it as the README says, and does not start it yet. `services` are those of its configuration.
    pub fn new(systemd: SystemdLab, services: &str) -> Result<Self> {
        let config = format!("[events]\noutput = \"{EVENTS}\"\n[http]\nlisten = \"\"\n{services}");
        let put = |from: &str, to: &str| {
            let to = systemd.path(to);
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(shipped(from), &to).with_context(|| format!("writing {}", to.display()))
        };
        systemd.install(&built("hostprobe"))?;
        put("hostprobe.sysusers", "/usr/lib/sysusers.d/hostprobe.conf")?;
        put("hostprobe.rules", "/etc/polkit-1/rules.d/50-hostprobe.rules")?;
        put("hostprobe.service", "/etc/systemd/system/hostprobe.service")?;
        let file = systemd.path("/etc/hostprobe/hostprobe.toml");
        fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        fs::write(&file, config)?;
        let made = systemd.command("/usr/bin/systemd-sysusers").arg("hostprobe.conf").output()?;
        ensure!(made.status.success(), "systemd-sysusers: {}", String::from_utf8_lossy(&made.stderr));
        systemd.systemctl(&["daemon-reload"])?;
        let mut tail = Command::new("/usr/bin/tail");
        tail.args(["--lines=+1", "--follow=name", "--retry", "--silent"]).arg(systemd.path(EVENTS));
        let events = Running::start(&mut tail, Signal::TERM);
        Ok(Self { events, systemd })
    }

    /// Adds a drop-in to the unit.
    pub fn drop_in(&self, name: &str, text: &str) -> Result<()> {
        fs::create_dir_all(self.systemd.path("/etc/systemd/system/hostprobe.service.d"))?;
        self.systemd.write_unit(&format!("hostprobe.service.d/{name}"), text)
    }

    /// Everything it has said.
    pub fn events(&self) -> Vec<Value> {
        self.events.stdout.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for the first such event.
    ///
    /// # Panics
    /// If none comes in time, with what systemd has to say of the unit.
    #[track_caller]
    pub fn wait_for(&self, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        let found = self.events.stdout.wait_for(PATIENCE, |lines| {
            lines.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|event| such(event))
        });
        found.unwrap_or_else(|| {
            let actions: Vec<_> = self.events().iter().map(|event| event_action(event).to_owned()).collect();
            panic!("no {what} within {PATIENCE:?}; {actions:?}; {}", self.status())
        })
    }

    /// What systemd shows of the unit, and the daemon's own log.
    pub fn status(&self) -> String {
        let status = self
            .systemd
            .command("/usr/bin/systemctl")
            .args(["status", "--no-pager", "--full", UNIT])
            .output();
        let status =
            status.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let log = fs::read_to_string(self.systemd.path("/run/hostprobe.log")).unwrap_or_default();
        format!("{status}\n{log}")
    }
}
