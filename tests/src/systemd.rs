//! A systemd for tests to break: booted in a container of its own, gone when the test ends.
//!
//! It runs over a copy of this host's root that forgets what is written, with this host's network: a
//! unit's port is reachable on loopback. Nothing but its own manager and bus is started.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// It boots in about a second; a busy machine may take much longer.
const BOOT: Duration = Duration::from_secs(60);

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
    /// Boots one; returns once its manager and its bus are up. Needs root and the package
    /// systemd-container.
    pub fn boot() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        ensure!(rustix::process::geteuid().is_root(), "the systemd lab needs root");
        for (program, package) in [
            ("/usr/bin/systemd-nspawn", "systemd-container"),
            ("/usr/lib/systemd/systemd", "systemd"),
            ("/usr/bin/dbus-daemon", "dbus"),
            ("/usr/bin/unshare", "util-linux"),
        ] {
            let found = Path::new(program).exists();
            ensure!(found, "the systemd lab needs {program}: apt-get install {package}");
        }
        let name = format!("hostprobe-lab-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let cgroups = Cgroups::make(&name)?;
        let (container, init) = Container::start(folder.path(), &name, &cgroups)?;
        Ok(Self { init, _container: container, _cgroups: cgroups, _folder: folder })
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

    /// A command that will run inside, given by its absolute path.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg("--target").arg(self.init.to_string());
        command.args(["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd=/"]).arg(program);
        command.stdin(Stdio::null());
        command
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
            let innermost = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split('\t').next_back());
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

/// The container's processes.
#[derive(Debug)]
struct Container {
    /// The first process of a pid namespace around all of them: its end is theirs.
    first: OwnedFd,
    /// Starts them and waits for them. The kernel ends them when this thread ends, so that a test that is
    /// killed leaves nothing behind.
    keeper: Option<JoinHandle<()>>,
}

impl Container {
    /// Starts it; returns with the pid of its process 1 once that says it has booted.
    fn start(folder: &Path, name: &str, cgroups: &Cgroups) -> Result<(Self, u32)> {
        let (log, mount) = (folder.join("console.log"), folder.join("fs"));
        fs::create_dir(&mount)?;
        let notify = folder.join("notify");
        let notices = UnixDatagram::bind(&notify)?;
        let console = fs::File::create(&log)?;
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "/usr/bin/unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.args(["/bin/sh", "-c", include_str!("systemd/boot.sh"), "boot.sh"]);
        command.arg(&mount).arg(name).args(&cgroups.0);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("NOTIFY_SOCKET", &notify);
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);

        let (started, start) = std::sync::mpsc::channel();
        let keeper = std::thread::spawn(move || match command.spawn() {
            Ok(mut child) => {
                let _ = started.send(Ok(child.id()));
                let _ = child.wait();
                if let Ok(socket) = UnixDatagram::unbound() {
                    let _ = socket.send_to(b"ENDED=1", &notify);
                }
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        });
        let unshare = start.recv()?.context("starting /usr/bin/setpriv")?;
        let mut container = Self { first: pidfd(unshare)?, keeper: Some(keeper) };
        let init = booted(&notices).and_then(|()| {
            let first = child(unshare)?;
            container.first = pidfd(first)?;
            child(first)
        });
        let init = init.map_err(|error| {
            anyhow!("the systemd lab did not boot: {error:#}\n{}", fs::read_to_string(&log).unwrap_or_default())
        })?;
        Ok((container, init))
    }
}

fn pidfd(pid: u32) -> Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("not a pid")?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// The only child of a process, or the one that is the first of a pid namespace.
fn child(parent: u32) -> Result<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let children = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let first = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|status| status.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1")))
    };
    let found = children.split_whitespace().find(first).context("the container has no first process")?;
    Ok(found.parse()?)
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.first, Signal::KILL);
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Waits until the container says it has booted.
fn booted(notices: &UnixDatagram) -> Result<()> {
    let deadline = Instant::now() + BOOT;
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        notices.set_read_timeout(Some(left))?;
        let length = notices.recv(&mut buffer).with_context(|| format!("nothing heard for {BOOT:?}"))?;
        for notice in String::from_utf8_lossy(&buffer[..length]).lines() {
            match notice {
                "READY=1" => return Ok(()),
                "ENDED=1" => bail!("it ended"),
                _ => {}
            }
        }
    }
}

/// The cgroups of a lab, one in each hierarchy systemd may use: two labs in one would share their units'.
#[derive(Debug)]
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    fn make(name: &str) -> Result<Self> {
        let mut made = Self(Vec::new());
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            let Some((front, back)) = line.split_once(" - ") else { continue };
            if !back.starts_with("cgroup2 ") && !back.ends_with("name=systemd") {
                continue;
            }
            let Some(mount) = front.split(' ').nth(4) else { continue };
            let path = Path::new(mount).join(name);
            fs::create_dir(&path).with_context(|| format!("making the cgroup {}", path.display()))?;
            made.0.push(path);
        }
        ensure!(!made.0.is_empty(), "no cgroup hierarchy for systemd is mounted");
        Ok(made)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        fn remove(path: &Path) {
            for entry in fs::read_dir(path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    remove(&entry.path());
                }
            }
            // The kernel may take a moment to see that the last process has gone.
            let deadline = Instant::now() + Duration::from_secs(2);
            while fs::remove_dir(path).is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
                && Instant::now() < deadline
            {
                std::thread::yield_now();
            }
        }
        self.0.iter().for_each(|path| remove(path));
    }
}
