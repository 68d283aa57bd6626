//! The real parts a test needs: whether they are there, and servers started on a port and in a folder of
//! their own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::{http::free_port, process::Running};

/// Longest wait for a server to be ready, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A program of this workspace, beside the test's own.
///
/// # Panics
/// If it is not built.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test.parent().and_then(Path::parent).expect("a test is two folders below the profile's");
    let program = folder.join(name);
    assert!(
        program.exists(),
        "{} is not built; run `cargo xtask test`, or `cargo build -p hostprobe -p hostprobe-tests --bins`",
        program.display()
    );
    program
}

/// Whether a Debian package's file is there; says what is skipped without it.
///
/// # Panics
/// If it is missing where nothing may be skipped (`CI=true`).
pub fn require(package: &str, path: &str) -> bool {
    available(Path::new(path).exists(), &format!("the package {package} ({path})"))
}

/// Whether the test runs as root; says what is skipped without it.
///
/// # Panics
/// If it does not where nothing may be skipped (`CI=true`).
pub fn require_root() -> bool {
    available(geteuid().is_root(), "root")
}

/// Whether a part is there; says what is skipped without it.
///
/// # Panics
/// If it is missing where nothing may be skipped (`CI=true`).
pub fn available(there: bool, part: &str) -> bool {
    if !there {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "this test needs {part}");
        eprintln!("skipped: needs {part}");
    }
    there
}

/// A Redis server.
#[derive(Debug)]
pub struct Redis {
    /// The process.
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
    folder: TempDir,
}

impl Redis {
    /// Its program.
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

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// A PostgreSQL data folder, made and owned by the user it must be served by.
#[derive(Debug)]
pub struct PostgresFolder {
    folder: TempDir,
    programs: PathBuf,
}

impl PostgresFolder {
    /// Makes one that lets the user `postgres` in without a password; None where it is not installed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Option<Self> {
        let programs = newest_postgres();
        if !available(programs.is_some(), "the package postgresql (/usr/lib/postgresql/*/bin/postgres)") {
            return None;
        }
        let folder = temporary_folder();
        if geteuid().is_root() {
            let (user, group) = owner_ids().expect("the package postgresql makes a user of its name");
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group))
                .expect("root may give folders away");
        }
        let this = Self { folder, programs: programs? };
        let options = ["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"];
        let mut command = this.as_its_user("initdb");
        command.extend(["-D".to_owned(), this.data()]);
        command.extend(options.map(str::to_owned));
        let output = words(&command).current_dir("/").output().expect("initdb can be run");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        Some(this)
    }

    /// The command that serves this folder on a port; its process is the server itself.
    pub fn command(&self, port: u16) -> Vec<String> {
        let mut command = self.as_its_user("postgres");
        let sockets = format!("unix_socket_directories={}", self.folder.path().display());
        let port = port.to_string();
        let options = [
            "-D",
            &self.data(),
            "-p",
            &port,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "fsync=off",
            "-c",
            &sockets,
        ];
        command.extend(options.map(str::to_owned));
        command
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// PostgreSQL refuses to run as root, so root runs it as the user of its package.
    fn as_its_user(&self, program: &str) -> Vec<String> {
        let mut command = Vec::new();
        if geteuid().is_root() {
            let options = ["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
            command.extend(options.map(str::to_owned));
        }
        command.push(self.programs.join(program).display().to_string());
        command
    }
}

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    /// The process.
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
    /// Its folder.
    pub folder: PostgresFolder,
}

impl Postgres {
    /// Starts one with further options, such as `["-c", "max_connections=5"]`; None where it is not installed.
    pub fn start(options: &[&str]) -> Option<Self> {
        let (folder, port) = (PostgresFolder::new()?, free_port());
        // SIGQUIT ends the server and its children at once.
        let process =
            Running::start(words(&folder.command(port)).args(options).current_dir("/"), Signal::QUIT);
        process.wait_until_it_says("ready to accept connections", &process.stderr, START);
        Some(Self { process, port, folder })
    }
}

/// An Alertmanager that keeps what it is told and tells nobody.
#[derive(Debug)]
pub struct Alertmanager {
    /// The process.
    pub process: Running,
    /// The loopback port of its API.
    pub port: u16,
    folder: TempDir,
}

impl Alertmanager {
    /// Its program.
    pub const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

    /// Starts one; None where it is not installed.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    pub fn start() -> Option<Self> {
        if !require("prometheus-alertmanager", Self::PROGRAM) {
            return None;
        }
        let (folder, port) = (temporary_folder(), free_port());
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

    /// Its folder.
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

fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("hostprobe-test-").tempdir().expect("a temporary folder")
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version)?.join("bin");
    newest.join("postgres").exists().then_some(newest)
}

/// User and group id of the user `postgres`.
fn owner_ids() -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
