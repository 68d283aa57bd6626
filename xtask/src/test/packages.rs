//! The Debian packages that tests use: installed where that is possible, else named.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cargo::insist;

/// Every package a test starts something of.
const PACKAGES: [&str; 13] = [
    "busybox-static",
    "crun",
    "dbus",
    "iproute2",
    "mariadb-server",
    "nginx-light",
    "podman",
    "polkitd",
    "postgresql",
    "prometheus-alertmanager",
    "redis-server",
    "systemd-container",
    "util-linux",
];

/// Debian's scripts ask this program whether a service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs what the tests need and is missing, or says what is and what that means.
pub fn prepare() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: the tests that need to be are skipped");
    }
    let missing = provide(&PACKAGES)?;
    if !missing.is_empty() {
        eprintln!("missing packages: {}; what needs them is skipped", missing.join(" "));
    }
    Ok(())
}

/// Installs what is missing of these packages where that is possible. Those that still are missing, which under CI is
/// an error.
pub fn provide<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let list = missing.join(" ");
    if rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists() {
        install(&missing).with_context(|| format!("cannot install {list}"))?;
        return Ok(Vec::new());
    }
    if in_ci() {
        bail!("missing packages: {list}; they can only be installed as root on Debian");
    }
    Ok(missing)
}

/// Whether nothing may be left out, because this is a run that decides about a change.
pub fn in_ci() -> bool {
    std::env::var("CI").as_deref() == Ok("true")
}

fn installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]).stderr(Stdio::null());
    query.output().is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

fn install(packages: &[&str]) -> Result<()> {
    let _policy = NoServices::new()?;
    insist(apt_get().arg("update"))?;
    insist(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("/usr/bin/apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// As long as this lives, installing a package starts none of its services: the tests start their own, and
/// the host is to stay as it is.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        match fs::File::create_new(POLICY) {
            Ok(_) => {}
            // The host has a policy of its own, which is its owner's decision.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Self { ours: false }),
            Err(error) => return Err(error).with_context(|| format!("cannot write {POLICY}")),
        }
        let policy = Self { ours: true };
        // 101 is "not allowed".
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))?;
        Ok(policy)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("cannot remove {POLICY}: {error}");
        }
    }
}
