//! Monit.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{bench::outage::until_well, process::Running, victim::Victim};

/// Its program, of the Debian package of the same name.
pub const PROGRAM: &str = "/usr/bin/monit";

/// systemd's limit on the descriptors of a service. Before each exec, Monit closes every one that there could be: with a
/// higher limit, which a shell may have, that takes most of its time.
const DESCRIPTORS: &str = "--nofile=1024:1024";

/// Its configuration, in a folder of its own.
const CONFIGURATION: &str = "monitrc";

/// The longest it may take to begin.
const START: Duration = Duration::from_secs(30);

/// The longest that Monit is given to tell of a start.
const CYCLES: Duration = Duration::from_secs(4);

/// Between two looks at its log.
const LOOK: Duration = Duration::from_millis(5);

/// A running Monit, ended when it is dropped.
#[derive(Debug)]
pub struct Monit {
    /// The process. What it logs comes on its standard output or error.
    pub process: Running,
    folder: TempDir,
}

impl Monit {
    /// Starts one that looks every `cycle` seconds; `checks` is the rest of its configuration, such as `check host …`.
    pub fn start(cycle: u32, checks: &str) -> Result<Self> {
        let (folder, config) = configuration(cycle, checks)?;
        let mut command = Command::new("/usr/bin/prlimit");
        command.args([DESCRIPTORS, PROGRAM, "-I", "-c"]).arg(config);
        let process = Running::start(&mut command, Signal::TERM);
        let started = |lines: &[String]| lines.iter().any(|line| line.ends_with(" started")).then_some(());
        let begun = process.stdout.wait_for(START, started);
        ensure!(begun.is_some(), "Monit does not begin: {}", process.stderr.all().join("; "));
        Ok(Self { process, folder })
    }

    /// Starts one in a pid namespace of its own, which ends with all that Monit started; the process is that of the
    /// namespace.
    ///
    /// What it starts becomes an orphan, and a zombie until its adopter collects it: for Monit still a process. Not every
    /// machine's first process collects at once as init does, so there is one that does, and takes all along.
    pub fn start_apart(cycle: u32, checks: &str) -> Result<Self> {
        let (folder, config) = configuration(cycle, checks)?;
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc", "/bin/sh", "-c"]);
        command.args(["\"$0\" -I -c \"$1\" & wait $!", PROGRAM]).arg(&config);
        let process = Running::start(&mut command, Signal::KILL);
        Ok(Self { process, folder })
    }

    /// Checks of HTTP servers on these loopback ports.
    pub fn http_checks(ports: &[u16]) -> String {
        let check = |port: &u16| {
            format!(
                "check host service-{port} with address 127.0.0.1\n  if failed port {port} protocol http then alert\n"
            )
        };
        ports.iter().map(check).collect()
    }

    /// Its configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join(CONFIGURATION)
    }

    /// What it has logged so far.
    pub fn log(&self) -> Vec<String> {
        [self.process.stdout.all(), self.process.stderr.all()].concat()
    }
}

/// A folder of its own, with its configuration in it.
fn configuration(cycle: u32, checks: &str) -> Result<(TempDir, PathBuf)> {
    ensure!(fs::exists(PROGRAM)?, "{PROGRAM} is missing; it is in the package monit");
    let folder = tempfile::Builder::new().prefix("hostprobe-bench-monit-").tempdir()?;
    let own = folder.path().display();
    let text = format!(
        "set daemon {cycle}\nset pidfile {own}/pid\nset idfile {own}/id\nset statefile {own}/state\n{checks}\n"
    );
    let config = folder.path().join(CONFIGURATION);
    fs::write(&config, text).context("cannot write Monit's configuration")?;
    // It reads no configuration that others may read.
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600))?;
    Ok((folder, config))
}

/// A victim that a Monit keeps running, restarted when its process is gone, or at the first answer that is missing.
#[derive(Debug)]
pub struct SupervisedVictim {
    pub monit: Monit,
    _folder: TempDir,
}

impl SupervisedVictim {
    /// Starts both, with a cycle of one second, which is the shortest there is. With `probed` it asks for `/health` in
    /// every cycle as well and allows a second for the answer, beginning two seconds after a start.
    pub fn start(port: u16, probed: bool) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("hostprobe-bench-monit-").tempdir()?;
        let pidfile = folder.path().join("pid");
        let (pidfile, program) = (pidfile.display(), Victim::program());
        let program = program.display();
        let probe = if probed {
            format!(
                "  if failed port {port} protocol http request \"/health\" with timeout 1 seconds then restart\n"
            )
        } else {
            String::new()
        };
        // Monit waits for the end of what it starts, as of an init script; and a stopped process hears no polite signal.
        let checks = format!(
            "check process victim with pidfile {pidfile}\n  \
             start program = \"/bin/sh -c '{program} --port {port} >/dev/null 2>&1 & echo $! >{pidfile}'\" with timeout 2 seconds\n  \
             stop program = \"/bin/sh -c 'kill -KILL `cat {pidfile}`'\"\n{probe}"
        );
        let monit = Monit::start_apart(1, &checks)?;
        let victim = Self { monit, _folder: folder };
        until_well(port, None, START)
            .with_context(|| format!("Monit does not start the victim: {}", victim.monit.log().join("; ")))?;
        Ok(victim)
    }

    /// Waits until it has logged more than `seen` starts of the victim, or has had several cycles for it: Monit does not log
    /// every start. Returns how many it has logged.
    pub fn until_noticed(&self, seen: usize) -> usize {
        let begun = Instant::now();
        loop {
            let log = self.monit.log();
            let count = log.iter().filter(|line| line.contains("process is running with pid")).count();
            if count > seen || begun.elapsed() > CYCLES {
                return count;
            }
            thread::park_timeout(LOOK);
        }
    }
}
