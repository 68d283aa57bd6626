//! The container a lab lives in: its processes, and the cgroups they are in.

use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// It boots in a quarter of a second; a busy machine may take much longer.
const BOOT: Duration = Duration::from_secs(60);

/// The container's processes.
#[derive(Debug)]
pub(super) struct Container {
    /// The first process of a pid namespace around all of them: its end is theirs.
    first: OwnedFd,
    /// Starts them and waits for them. The kernel ends them when this thread ends, so that a test that is
    /// killed leaves nothing behind.
    parent_thread: Option<JoinHandle<()>>,
}

impl Container {
    /// Starts it over a copy of `root`; returns with the pid of its process 1 once that says it has booted.
    pub(super) fn start(root: &Path, folder: &Path, name: &str, cgroups: &Cgroups) -> Result<(Self, u32)> {
        let (log, mount) = (folder.join("console.log"), folder.join("fs"));
        fs::create_dir(&mount)?;
        let notify = folder.join("notify");
        let notices = UnixDatagram::bind(&notify)?;
        let console = fs::File::create(&log)?;
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "/usr/bin/unshare", "--mount", "--propagation", "private"]);
        command.args(["--pid", "--fork", "--kill-child=KILL", "--mount-proc"]);
        command.args(["/bin/sh", "-c", include_str!("boot.sh"), "boot.sh"]);
        command.arg(&mount).arg(name).arg(root).args(&cgroups.0);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("NOTIFY_SOCKET", &notify);
        command.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);

        let (started, start) = std::sync::mpsc::channel();
        let parent_thread = std::thread::spawn(move || match command.spawn() {
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
        let mut container = Self { first: pidfd(unshare)?, parent_thread: Some(parent_thread) };
        let init = booted(&notices).and_then(|()| {
            let first = child(unshare)?;
            container.first = pidfd(first)?;
            child(first)
        });
        let init = init.map_err(|error| {
            anyhow!(
                "the systemd lab did not boot: {error:#}\n{}",
                fs::read_to_string(&log).unwrap_or_default()
            )
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
        if let Some(parent_thread) = self.parent_thread.take() {
            let _ = parent_thread.join();
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
pub(super) struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    pub(super) fn make(name: &str) -> Result<Self> {
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
