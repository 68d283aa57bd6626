//! hostprobe as it is installed on a host: its program, its unit and its user, in the systemd of a lab.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    http::free_port,
    incident_events::text,
    parts::{built, require},
    process::Running,
    systemd::SystemdLab,
    victim::Victim,
};

/// Longest wait for anything, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const UNIT: &str = "hostprobe.service";

/// Its event file, inside.
const EVENTS: &str = "/var/log/hostprobe/events.ndjson";

/// Its polkit rule, inside.
pub const POLKIT_RULE: &str = "/etc/polkit-1/rules.d/50-hostprobe.rules";

/// Where a lab keeps what the daemon says on standard error, as it has no journal.
const LOG: &str = "/run/hostprobe.log";

/// An installed daemon, and what it says.
#[derive(Debug)]
pub struct Installed {
    events: Running,
    /// Where it runs.
    pub systemd: SystemdLab,
}

/// A file of the project's, by its path in it.
pub fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(path)
}

impl Installed {
    /// Installs it as docs/rights.md says, and does not start it yet. `services` are those of its configuration.
    pub fn new(systemd: SystemdLab, services: &str) -> Result<Self> {
        let config = format!("[events]\noutput = \"{EVENTS}\"\n[http]\nlisten = \"\"\n{services}");
        let put = |from: &str, to: &str| {
            let to = systemd.path(to);
            fs::create_dir_all(to.parent().context("a file has a folder")?)?;
            fs::copy(shipped(from), &to).with_context(|| format!("writing {}", to.display()))
        };
        // The lab is a copy of this host, on which another hostprobe may have left its state.
        for left in ["/var/lib/hostprobe", "/var/log/hostprobe"] {
            let _ = fs::remove_dir_all(systemd.path(left));
        }
        systemd.install(&built("hostprobe"))?;
        put("hostprobe.sysusers", "/etc/sysusers.d/hostprobe.conf")?;
        put("hostprobe.rules", POLKIT_RULE)?;
        put("hostprobe.service", "/etc/systemd/system/hostprobe.service")?;
        let file = systemd.path("/etc/hostprobe/hostprobe.toml");
        fs::create_dir_all(file.parent().context("a file has a folder")?)?;
        fs::write(&file, config)?;
        let made = systemd.command("/usr/bin/systemd-sysusers").arg("hostprobe.conf").output()?;
        ensure!(made.status.success(), "systemd-sysusers: {}", String::from_utf8_lossy(&made.stderr));
        let mut tail = Command::new("/usr/bin/tail");
        tail.args(["--lines=+1", "--follow=name", "--retry", "--silent"]).arg(systemd.path(EVENTS));
        let events = Running::start(&mut tail, Signal::TERM);
        let installed = Self { events, systemd };
        installed.drop_in("log.conf", &format!("[Service]\nStandardError=append:{LOG}\n"))?;
        Ok(installed)
    }

    /// The same in a lab of its own, with a victim under `exec` that writes to this file, and the victim's port. `further` is
    /// configuration before the service. None where this host cannot have a lab.
    ///
    /// # Panics
    /// If it cannot be installed.
    pub fn with_a_command(output: &str, further: &str) -> Option<(Self, u16)> {
        if !require("polkitd", "/usr/lib/polkit-1/polkitd") {
            return None;
        }
        let systemd = SystemdLab::for_test()?;
        let port = free_port();
        let program = systemd.install(&Victim::program()).expect("the victim is installed");
        let services = format!(
            r#"
            {further}
            [[service]]
            name = "web"
            exec = ["{program}", "--port", "{port}"]
            output = "{output}"
            [[service.probe]]
            http = "http://127.0.0.1:{port}/health"
            "#
        );
        Some((Self::new(systemd, &services).expect("hostprobe is installed"), port))
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

    /// The present end of its stream.
    pub fn mark(&self) -> usize {
        self.events.stdout.all().len()
    }

    /// Waits for the first such event after a mark.
    ///
    /// # Panics
    /// If none comes in time, with what systemd has to say of the unit.
    #[track_caller]
    pub fn wait_for_after(&self, mark: usize, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_within(PATIENCE, mark, what, such)
    }

    /// The same, of an event that takes longer.
    ///
    /// # Panics
    /// If none comes in time, with what systemd has to say of the unit.
    #[track_caller]
    pub fn wait_for_within(
        &self,
        within: Duration,
        mark: usize,
        what: &str,
        such: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut skip = mark;
        let found = self.events.stdout.wait_for(within, |lines| {
            let fresh = &lines[skip.min(lines.len())..];
            skip = skip.saturating_sub(lines.len());
            fresh.iter().filter_map(|line| serde_json::from_str(line).ok()).find(|event| such(event))
        });
        found.unwrap_or_else(|| {
            let said = self.events();
            let said: Vec<_> = said.iter().map(|event| text(event, "message")).collect();
            panic!("no {what} within {within:?}; said were {said:#?}; {}", self.status())
        })
    }

    /// A time stamp of the unit's, in UTC, as `2026-01-01 00:00:00.000000`.
    pub fn show_in_micros(&self, property: &str) -> String {
        let arguments = ["show", "--value", "--timestamp=us+utc", "--property", property, UNIT];
        let shown = self.systemd.systemctl(&arguments).expect("systemd answers");
        let mut words = shown.split_whitespace().skip(1);
        format!("{} {}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The overall exposure that `systemd-analyze security` sees, from 0 to 10.
    pub fn exposure(&self) -> Result<f64> {
        let mut analyze = self.systemd.command("/usr/bin/systemd-analyze");
        let output = analyze.args(["security", "--no-pager", UNIT]).output()?;
        let said = String::from_utf8(output.stdout)?;
        let line = said.lines().find_map(|line| line.split_once("Overall exposure level for "));
        let figure =
            line.and_then(|(_, line)| line.split_whitespace().nth(1)).with_context(|| said.clone())?;
        Ok(figure.parse()?)
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
        let log = fs::read_to_string(self.systemd.path(LOG)).unwrap_or_default();
        format!("{status}\n{log}")
    }
}
