//! The real parts a test needs: whether they are there, and servers started on a port and in a folder of
//! their own.

mod certificate;
mod forward;
pub mod gunicorn;
mod haproxy;
mod mariadb;
pub mod nginx;
mod pgbouncer;
mod postgres;
mod rabbitmq;
mod small;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

pub use certificate::{Authority, Certificate, LOCALHOST};
pub use forward::{delayed, nginx_stream, socat, stunnel};
pub use gunicorn::gunicorn;
pub use haproxy::{haproxy, haproxy_http};
pub use mariadb::MariadbFolder;
pub use nginx::nginx;
pub use pgbouncer::pgbouncer;
pub use postgres::{Postgres, PostgresFolder, Standby};
pub use rabbitmq::RabbitMq;
pub use small::{dnsmasq, grpc_command, grpc_server, memcached, smtp_server, webhook_server};

use crate::{http::free_port, process::Running};

/// Longest wait for a server to be ready, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A program of this workspace, beside the running one, or a folder above a test's.
///
/// # Panics
/// If it is not built.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let folders = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let program = folders.reduce(|beside, above| if beside.exists() { beside } else { above });
    let program = program.expect("a program lies in a folder");
    assert!(
        program.exists(),
        "{} is not built; run `cargo xtask test`, or `cargo build -p hostprobe -p hostprobe-tests --bins`",
        program.display()
    );
    program
}

/// Whether a Debian package's file is there. Without it the test is skipped.
///
/// # Panics
/// If it is missing where nothing may be skipped (`CI=true`).
pub fn require(package: &str, path: &str) -> bool {
    available(Path::new(path).exists(), &format!("the package {package} ({path})"))
}

/// Whether the test runs as root. Otherwise it is skipped.
///
/// # Panics
/// If it does not where nothing may be skipped (`CI=true`).
pub fn require_root() -> bool {
    available(geteuid().is_root(), "root")
}

/// Whether a part is there. Without it the test is skipped.
///
/// # Panics
/// If it is missing where nothing may be skipped (`CI=true`).
pub fn available(there: bool, part: &str) -> bool {
    if !there {
        skip(&format!("needs {part}"));
    }
    there
}

/// Has the running test count as skipped, by the line that `cargo xtask test` looks for. The test is to return then.
///
/// # Panics
/// If nothing may be skipped (`CI=true`).
pub fn skip(reason: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped: {reason}");
    eprintln!("skipped: {reason}");
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
    folder: TempDir,
}

impl Redis {
    pub const PROGRAM: &str = "/usr/bin/redis-server";

    /// Starts one with further options, such as `["--maxmemory", "2mb"]`; None where it is not installed.
    pub fn start(options: &[&str]) -> Option<Self> {
        if !require("redis-server", Self::PROGRAM) {
            return None;
        }
        let (folder, port) = (temporary_folder(), free_port());
        let command = Self::command(port, folder.path());
        let process = Running::start(words(&command).args(options), Signal::KILL);
        process.wait_until_it_says("Ready to accept connections", &process.stdout, START);
        Some(Self { process, port, folder })
    }

    /// The command that serves a port from a folder and keeps nothing on disk.
    pub fn command(port: u16, folder: &Path) -> Vec<String> {
        let (port, folder) = (port.to_string(), folder.display().to_string());
        let options =
            ["--port", &port, "--bind", "127.0.0.1", "--dir", &folder, "--save", "", "--appendonly", "no"];
        std::iter::once(Self::PROGRAM).chain(options).map(str::to_owned).collect()
    }

    /// Says something to the server on a port, and returns all it answers.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn request(port: u16, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.set_read_timeout(Some(START)).expect("a timeout is set");
        write!(stream, "{command}\r\nQUIT\r\n").expect("it hears");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// An Alertmanager that stores alerts and notifies no receiver.
#[derive(Debug)]
pub struct Alertmanager {
    pub process: Running,
    /// The loopback port of its API.
    pub port: u16,
    folder: TempDir,
}

impl Alertmanager {
    pub const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

    /// Starts one on a free port; None where it is not installed.
    pub fn start() -> Option<Self> {
        Self::start_on(free_port())
    }

    /// Starts one on this port; None where it is not installed.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    pub fn start_on(port: u16) -> Option<Self> {
        if !require("prometheus-alertmanager", Self::PROGRAM) {
            return None;
        }
        let folder = temporary_folder();
        let config = folder.path().join("alertmanager.yml");
        fs::write(&config, "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n").expect("a file");
        let mut command = Command::new(Self::PROGRAM);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=");
        let process = Running::start(&mut command, Signal::KILL);
        process.wait_until_it_says("Listening on", &process.stderr, START);
        Some(Self { process, port, folder })
    }

    /// The address alerts are posted to and read from.
    pub fn alerts_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v2/alerts", self.port)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn words(command: &[String]) -> Command {
    let (program, arguments) = command.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// User and group id of a user of this host.
fn ids_of(user: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("hostprobe-test-").tempdir().expect("a temporary folder")
}
