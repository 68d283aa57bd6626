//! PostgreSQL: a data folder, and a server of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::{START, available, temporary_folder, words};
use crate::{http::free_port, process::Running};

/// A PostgreSQL data folder, made and owned by the user it must be served by.
#[derive(Debug)]
pub struct PostgresFolder {
    folder: TempDir,
    programs: PathBuf,
}

impl PostgresFolder {
    /// Whether the package is installed.
    pub fn is_installed() -> bool {
        newest_postgres().is_some()
    }

    /// Makes one that lets the user `postgres` in without a password; None where it is not installed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new() -> Option<Self> {
        Self::in_folder(temporary_folder())
    }

    /// The same in a folder of its own below this one, such as on a disk of the test's own.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn below(parent: &Path) -> Option<Self> {
        Self::in_folder(TempDir::new_in(parent).expect("a temporary folder"))
    }

    fn in_folder(folder: TempDir) -> Option<Self> {
        let programs = newest_postgres();
        if !available(programs.is_some(), "the package postgresql (/usr/lib/postgresql/*/bin/postgres)") {
            return None;
        }
        give_to_its_user(folder.path());
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

    /// Serves the folder for as long as it takes to run SQL in it.
    ///
    /// # Panics
    /// If that fails.
    pub fn serve_once(&self, port: u16, sql: &str) {
        let mut server = Running::start(words(&self.command(port)).current_dir("/"), Signal::INT);
        server.wait_until_it_says("ready to accept connections", &server.stderr, START);
        self.sql(port, sql);
        server.stop();
    }

    /// Runs SQL in the server on a port, and returns what `psql` shows of it, without headings.
    ///
    /// # Panics
    /// If it fails.
    pub fn sql(&self, port: u16, sql: &str) -> String {
        let output = self.psql(port, sql).output().expect("psql can be run");
        assert!(output.status.success(), "psql failed: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs SQL that may fail in the server on a port.
    ///
    /// # Panics
    /// If `psql` cannot be run.
    pub fn try_sql(&self, port: u16, sql: &str) {
        self.psql(port, sql).output().expect("psql can be run");
    }

    /// Lets the server on a port work on SQL that takes long.
    pub fn keep_busy(&self, port: u16, sql: &str) -> Running {
        Running::start(&mut self.psql(port, sql), Signal::KILL)
    }

    /// Lets the server on a port work on statements one after the other, each in a transaction of its own, with
    /// their results shown as they come.
    pub fn keep_busy_in_turn(&self, port: u16, sql: &str) -> Running {
        let (first, rest) = sql.split_once(';').unwrap_or((sql, ""));
        let mut command = self.psql(port, first);
        command.args(["-c", rest]);
        Running::start(&mut command, Signal::KILL)
    }

    fn psql(&self, port: u16, sql: &str) -> Command {
        let mut command = words(&self.as_its_user("psql"));
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "postgres", "-qAtX", "-c", sql]);
        command.current_dir("/");
        command
    }

    /// Writes a file that its user may read and remove, such as `data/recovery.signal`, and returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the folder can be written");
        give_to_its_user(&path);
        path
    }

    /// It holds the folder `data`, the sockets, and what the test puts there.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    /// The command that runs SQL as a user in the server on a port.
    pub fn command_as(&self, user: &str, port: u16, sql: &str) -> Vec<String> {
        let port = port.to_string();
        let options = ["-h", "127.0.0.1", "-p", &port, "-U", user, "-d", "postgres", "-qAtX", "-c", sql]
            .map(str::to_owned);
        [self.as_its_user("psql"), options.to_vec()].concat()
    }

    /// Runs a command beside the server.
    pub fn run(&self, command: &[String]) -> Running {
        Running::start(words(command).current_dir("/"), Signal::KILL)
    }

    /// PostgreSQL and its poolers refuse to run as root, so root runs them as the user of their package.
    pub fn as_server_user() -> Vec<String> {
        if !geteuid().is_root() {
            return Vec::new();
        }
        let options = ["/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
        options.map(str::to_owned).to_vec()
    }

    fn as_its_user(&self, program: &str) -> Vec<String> {
        let mut command = Self::as_server_user();
        command.push(self.programs.join(program).display().to_string());
        command
    }
}

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
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

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions.map(|entry| entry.path()).max_by_key(version)?.join("bin");
    newest.join("postgres").exists().then_some(newest)
}

fn give_to_its_user(path: &Path) {
    if geteuid().is_root() {
        let (user, group) =
            super::ids_of("postgres").expect("the package postgresql makes a user of its name");
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}

/// A standby that follows a primary.
#[derive(Debug)]
pub struct Standby {
    pub process: Running,
    /// The loopback port it serves.
    pub port: u16,
    pub folder: PostgresFolder,
}

impl Standby {
    /// Copies a primary, and starts the copy as its standby.
    ///
    /// # Panics
    /// If that fails.
    pub fn of(primary: &Postgres) -> Self {
        let (folder, port) = (temporary_folder(), free_port());
        give_to_its_user(folder.path());
        let folder = PostgresFolder { folder, programs: primary.folder.programs.clone() };
        let mut command = folder.as_its_user("pg_basebackup");
        let source = format!("host=127.0.0.1 port={} user=postgres", primary.port);
        command.extend(["-d", &source, "-D", &folder.data(), "-R", "-c", "fast"].map(str::to_owned));
        let output = words(&command).current_dir("/").output().expect("pg_basebackup can be run");
        assert!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
        let process = Running::start(words(&folder.command(port)).current_dir("/"), Signal::QUIT);
        process.wait_until_it_says("ready to accept read-only connections", &process.stderr, START);
        Self { process, port, folder }
    }

    /// Runs SQL in it, and returns what `psql` shows.
    pub fn sql(&self, sql: &str) -> String {
        self.folder.sql(self.port, sql)
    }

    /// The command that serves its folder on its port, once its own process has ended.
    pub fn command(&self) -> Vec<String> {
        self.folder.command(self.port)
    }

    /// The number of its timeline: each promotion begins the next one.
    ///
    /// # Panics
    /// If it says none.
    pub fn timeline(&self) -> usize {
        self.sql("CHECKPOINT");
        let said = self.sql("SELECT timeline_id FROM pg_control_checkpoint()");
        said.parse().expect("a number")
    }
}
