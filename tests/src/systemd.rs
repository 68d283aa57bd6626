//! A systemd for tests to break: booted in a container of its own, gone when the test ends.
//!
//! It runs over a copy of this host's root that forgets what is written, with this host's network: a
//! unit's port is reachable on loopback. Nothing but its own manager and bus is started.

mod container;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use self::container::{Cgroups, Container};
use crate::{daemon::Daemon, parts::skip};

/// A running systemd with its bus. Dropping it ends every process of it.
#[derive(Debug)]
pub struct SystemdLab {
    init: u32,
    // Ends the container, in the order of these fields.
    _container: Container,
    _cgroups: Cgroups,
    _folder: tempfile::TempDir,
}

impl SystemdLab {
    /// One for a test. None where this host cannot have one: the test is skipped.
    ///
    /// # Panics
    /// If it does not boot, or nothing may be skipped (`CI=true`).
    pub fn for_test() -> Option<Self> {
        if let Err(missing) = Self::possible() {
            skip(&missing.to_string());
            return None;
        }
        Some(Self::boot().unwrap_or_else(|error| panic!("{error:#}")))
    }

    /// Whether a lab can be had here; if not, what is missing.
    pub fn possible() -> Result<()> {
        ensure!(rustix::process::geteuid().is_root(), "the systemd lab needs root");
        for (program, package) in [
            ("/usr/bin/systemd-nspawn", "systemd-container"),
            ("/usr/lib/systemd/systemd", "systemd"),
            ("/usr/bin/busctl", "systemd"),
            ("/usr/bin/dbus-daemon", "dbus-daemon"),
            ("/usr/bin/unshare", "util-linux"),
            ("/usr/bin/setpriv", "util-linux"),
            ("/usr/bin/nsenter", "util-linux"),
        ] {
            let found = Path::new(program).exists();
            ensure!(found, "the systemd lab needs {program}: apt-get install {package}");
        }
        Ok(())
    }

    /// Boots one; returns once its manager is on its bus. Needs root and the package systemd-container.
    pub fn boot() -> Result<Self> {
        Self::boot_over(Path::new("/"))
    }

    /// The same over a copy of another root, such as that of [`crate::clean_debian`].
    pub fn boot_over(root: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Self::possible()?;
        let name = format!("hostprobe-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let cgroups = Cgroups::make(&name)?;
        let (container, init) = Container::start(root, folder.path(), &name, &cgroups)?;
        let lab = Self { init, _container: container, _cgroups: cgroups, _folder: folder };
        lab.wait_for_bus()?;
        Ok(lab)
    }

    /// systemd says it has booted before it is on its own bus. The bus keeps a call to it until then.
    fn wait_for_bus(&self) -> Result<()> {
        let mut call = Command::new("/usr/bin/busctl");
        call.arg(format!("--address={}", self.bus_address())).args([
            "get-property",
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            "Version",
        ]);
        let output = call.output().context("starting /usr/bin/busctl")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "systemd does not come to its bus: {}", error.trim());
        Ok(())
    }

    /// Starts a daemon that is a client of its bus, and waits until that is ready.
    pub fn start_daemon(&self, config: &str) -> Daemon {
        let bus = self.bus_address();
        let daemon = Daemon::start_with(config, &[], |command| command.env("DBUS_SYSTEM_BUS_ADDRESS", bus));
        daemon.ready();
        daemon
    }

    /// The address of its bus, as in `DBUS_SYSTEM_BUS_ADDRESS`.
    pub fn bus_address(&self) -> String {
        format!("unix:path={}", self.path("run/dbus/system_bus_socket").display())
    }

    /// The pid here of its process 1.
    pub fn init_pid(&self) -> u32 {
        self.init
    }

    /// The path here of a file inside; `inside` counts from its root.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init)).join(inside.trim_start_matches('/'))
    }

    /// Writes a unit file and has systemd read it. `/tmp` inside is not the `/tmp` here; programs
    /// elsewhere on the root file system are.
    pub fn write_unit(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path("etc/systemd/system").join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        self.systemctl(&["daemon-reload"]).map(drop)
    }

    /// Puts a copy of a program into the lab, wherever it lies here; returns its path inside.
    pub fn install(&self, program: &Path) -> Result<String> {
        let name = program.file_name().and_then(|name| name.to_str()).context("a program has a name")?;
        let inside = format!("/usr/local/bin/{name}");
        std::fs::copy(program, self.path(&inside)).with_context(|| format!("cannot install {name}"))?;
        Ok(inside)
    }

    /// Runs systemctl inside; its output.
    pub fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command("/usr/bin/systemctl").args(arguments).output()?;
        ensure!(
            output.status.success(),
            "systemctl {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts its journal, which a lab boots without.
    pub fn start_journal(&self) -> Result<()> {
        const UNITS: [&str; 2] = ["systemd-journald.socket", "systemd-journald.service"];
        for unit in UNITS {
            fs::remove_file(self.path("/etc/systemd/system").join(unit))
                .with_context(|| format!("{unit} cannot be unmasked in the lab"))?;
        }
        self.systemctl(&["daemon-reload"])?;
        self.systemctl(&["start", UNITS[0], UNITS[1]]).map(drop)
    }

    /// A unit's journal down to a priority, one JSON object an entry.
    pub fn journal(&self, unit: &str, priority: &str) -> Result<Vec<Value>> {
        let journalctl = |arguments: &[&str]| -> Result<String> {
            let output = self.command("/usr/bin/journalctl").args(arguments).output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "journalctl {}: {}", arguments.join(" "), error.trim());
            Ok(String::from_utf8(output.stdout)?)
        };
        journalctl(&["--sync"])?;
        let entries = journalctl(&[
            "--unit",
            unit,
            "--priority",
            priority,
            "--output",
            "json",
            "--no-pager",
            "--quiet",
        ])?;
        entries.lines().map(|entry| Ok(serde_json::from_str(entry)?)).collect()
    }

    /// A command that will run inside, given by its absolute path.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd=/"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// The words of a command line that runs a program inside, for a shell or a terminal out here.
    pub fn command_line(&self, line: &str) -> String {
        let init = self.init;
        format!("/usr/bin/nsenter --target {init} --mount --uts --ipc --pid --cgroup --root --wd=/ {line}")
    }

    /// A property of a unit, as systemctl shows it.
    pub fn show(&self, unit: &str, property: &str) -> Result<String> {
        Ok(self.systemctl(&["show", "--value", "--property", property, unit])?.trim().to_owned())
    }

    /// The pid here of the process with this pid inside.
    pub fn host_pid(&self, inner: u32) -> Result<u32> {
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(self.init);
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let innermost =
                status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split('\t').next_back());
            if innermost.and_then(|number| number.parse().ok()) == Some(inner) && namespace(pid) == own {
                return Ok(pid);
            }
        }
        bail!("no process has pid {inner} inside the lab")
    }

    /// The pid here of a unit's main process.
    pub fn host_main_pid(&self, unit: &str) -> Result<u32> {
        let inner = self.show(unit, "MainPID")?.parse()?;
        ensure!(inner != 0, "{unit} has no main process");
        self.host_pid(inner)
    }
}
