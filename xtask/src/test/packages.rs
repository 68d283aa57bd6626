//! Installs the Debian packages that tests use, or names those that are missing.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cargo::run;

/// Tests start programs of these packages.
const PACKAGES: [&str; 49] = [
    "binutils",
    "bsdutils",
    "busybox-static",
    "chromium",
    "chromium-driver",
    "crun",
    "curl",
    "dbus",
    "dnsmasq-base",
    "docker.io",
    "earlyoom",
    "g++",
    "gcc",
    "golang-go",
    "gunicorn",
    "haproxy",
    "iproute2",
    "iptables",
    "libnginx-mod-stream",
    "mariadb-server",
    "memcached",
    "mmdebstrap",
    "monitoring-plugins-basic",
    "musl-tools",
    "nats-server",
    "nginx-light",
    "openssl",
    "pgbouncer",
    "podman",
    "polkitd",
    "postgresql",
    "prometheus",
    "prometheus-alertmanager",
    "python3-aiosmtpd",
    "python3-grpcio",
    "python3-venv",
    "rabbitmq-server",
    "redis-server",
    "rpm",
    "rsyslog",
    "socat",
    "strace",
    "stunnel4",
    "systemd-container",
    "tmux",
    "util-linux",
    "wrk",
    "xfsprogs",
    "zstd",
];

/// Debian's package scripts ask this program whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs the packages that the tests need, or prints which of them are missing.
pub fn prepare() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("this user is not root: the tests that need root are skipped");
    }
    let mut packages = PACKAGES.to_vec();
    // It comes with packages of other names as well.
    if !Path::new("/usr/bin/npm").exists() {
        packages.push("npm");
    }
    let missing = provide(&packages)?;
    if !missing.is_empty() {
        eprintln!("packages {}: missing; the tests that need them are skipped", missing.join(", "));
    }
    Ok(())
}

/// Installs those of some packages that are missing, as root on Debian. Elsewhere returns them, or fails in CI.
pub fn provide<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !installed(package)).collect();
    if missing.is_empty() {
        return Ok(missing);
    }
    let list = missing.join(", ");
    if rustix::process::geteuid().is_root() && Path::new("/usr/bin/apt-get").exists() {
        install(&missing).with_context(|| format!("packages {list}: cannot install them"))?;
        return Ok(Vec::new());
    }
    if in_ci() {
        bail!("packages {list}: missing; run this as root on Debian, or install the programs");
    }
    Ok(missing)
}

/// Whether this run decides about a change, so that it must not leave out a test.
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
    run(apt_get().arg("update"))?;
    run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("/usr/bin/apt-get");
    command.arg("--quiet").env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// While this exists, installing a package starts none of its services: the tests start their own, and the host stays as
/// it is.
struct NoServices {
    /// Whether this process wrote the policy.
    ours: bool,
}

impl NoServices {
    fn new() -> Result<Self> {
        match fs::File::create_new(POLICY) {
            Ok(_) => {}
            // The host's owner has decided on a policy.
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
