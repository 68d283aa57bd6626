//! The first process of a virtual machine: mounts the file systems, runs the checks, and turns the machine off.

use std::{
    ffi::CStr,
    fs::{self, File, OpenOptions},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    fs::Mode,
    mount::{MountFlags, mount},
    system::{RebootCommand, reboot},
    termios::{OptionalActions, tcgetattr, tcsetattr},
};
use serde_json::json;

/// The second serial line. The first one carries the kernel's messages; on arm64 its driver has other names.
const RESULTS: &str = if cfg!(target_arch = "aarch64") { "/dev/ttyS0" } else { "/dev/ttyS1" };

/// On the kernel's command line: print the type information too.
const RECORD: &str = "hostprobe.record";

pub fn run() -> ! {
    if let Err(error) = user_space() {
        eprintln!("conformance: {error:#}");
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("conformance: cannot turn the machine off: {error}");
    }
    // The kernel panics when process 1 exits, which ends the machine too.
    std::process::exit(1)
}

fn user_space() -> Result<()> {
    for (what, place, kind) in [
        (c"proc", c"/proc", c"proc"),
        (c"sysfs", c"/sys", c"sysfs"),
        (c"devtmpfs", c"/dev", c"devtmpfs"),
        (c"cgroup2", c"/sys/fs/cgroup", c"cgroup2"),
        (c"tmpfs", c"/tmp", c"tmpfs"),
    ] {
        mount_at(what, place, kind)?;
    }
    let results = OpenOptions::new().write(true).open(RESULTS).context(RESULTS)?;
    let mut line = tcgetattr(&results)?;
    line.make_raw();
    tcsetattr(&results, OptionalActions::Now, &line)?;
    run_self(&["checks", "--exclusive"], &results)?;
    if fs::read_to_string("/proc/cmdline")?.split_whitespace().any(|word| word == RECORD) {
        run_self(&["types"], &results)?;
    }
    Ok(())
}

fn mount_at(what: &CStr, place: &CStr, kind: &CStr) -> Result<()> {
    // The folder may exist. If it cannot be made, the mount fails.
    let _ = rustix::fs::mkdir(place, Mode::from_raw_mode(0o755));
    mount(what, place, kind, MountFlags::empty(), None).with_context(|| format!("cannot mount {place:?}"))
}

/// Runs this program as a child, and reports a failure in the results. The checks must not run as process 1, because the
/// eBPF programs treat children of process 1 differently.
fn run_self(arguments: &[&str], results: &File) -> Result<()> {
    let status = Command::new("/init").args(arguments).stdout(results.try_clone()?).status()?;
    if !status.success() {
        let line = json!({ "ended": format!("{arguments:?}: {status}") });
        let mut results = results;
        std::io::Write::write_all(&mut results, format!("{line}\n").as_bytes())?;
    }
    ensure!(status.success(), "{arguments:?}: {status}");
    Ok(())
}
