//! MariaDB: a data folder, a server of it, and its clients.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::{START, require, temporary_folder, words};
use crate::process::Running;

/// A MariaDB data folder, made and owned by the user it must be served by.
#[derive(Debug)]
pub struct MariadbFolder {
    folder: TempDir,
}

impl MariadbFolder {
    /// Its server.
    pub const PROGRAM: &str = "/usr/sbin/mariadbd";

    /// Makes one that lets `root` in without a password, and runs this SQL in it at each start; None where it is
    /// not installed.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(sql: &str) -> Option<Self> {
        if !require("mariadb-server", Self::PROGRAM) {
            return None;
        }
        let folder = temporary_folder();
        give_to_its_user(folder.path());
        let this = Self { folder };
        this.write("init.sql", sql);
        fs::create_dir(this.temporary()).expect("the folder can be written");
        give_to_its_user(&this.temporary());
        let mut command = Command::new("/usr/bin/mariadb-install-db");
        command.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
        command.args(this.folders()).args(run_as()).current_dir("/");
        let output = command.output().expect("mariadb-install-db can be run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mariadb-install-db failed: {said}");
        Some(this)
    }

    /// The command that serves this folder on a port; its process is the server itself.
    pub fn command(&self, port: u16) -> Vec<String> {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let mut command = vec![Self::PROGRAM.to_owned(), "--no-defaults".to_owned()];
        command.extend(self.folders());
        command.extend([
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--socket={}", file("socket")),
            format!("--pid-file={}", file("pid")),
            format!("--init-file={}", file("init.sql")),
        ]);
        command.extend(run_as().map(str::to_owned));
        command
    }

    /// The same for all addresses of this host; it blocks a host after three logins that were broken off.
    pub fn strict_command(&self, port: u16) -> Vec<String> {
        let mut command = self.command(port);
        command.extend(["--bind-address=0.0.0.0", "--max-connect-errors=3"].map(str::to_owned));
        command
    }

    /// A client that runs SQL in the server on a port; it shows results as they come, without headings.
    pub fn client(port: u16, user: &str, sql: &str) -> Running {
        let command =
            ["/usr/bin/mariadb", "--no-defaults", "-h127.0.0.1", "-nNs", "-u", user, "-e", sql, "-P"];
        let command: Vec<String> = command.into_iter().map(str::to_owned).chain([port.to_string()]).collect();
        Running::start(&mut words(&command), Signal::KILL)
    }

    /// What the server on a port answers to this query of its root.
    ///
    /// # Panics
    /// If it fails.
    pub fn answer(port: u16, sql: &str) -> String {
        let mut client = Self::client(port, "root", sql);
        assert!(client.wait(START).success());
        client.stdout.all().join("\n")
    }

    /// Whether the server at an address lets a user in who has this password.
    ///
    /// # Errors
    /// What the client says if not.
    ///
    /// # Panics
    /// If the client cannot be run.
    pub fn login(address: &str, port: u16, user: &str, password: &str) -> Result<(), String> {
        let mut command = Command::new("/usr/bin/mariadb");
        let [host, user, password] =
            [("-h", address), ("-u", user), ("-p", password)].map(|(a, b)| format!("{a}{b}"));
        command.args(["--no-defaults", &host, "-P", &port.to_string(), &user, &password, "-e", "SELECT 1"]);
        let output = command.output().expect("the client can be run");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Where it keeps its data and its temporary tables. A server that starts removes temporary tables it did not make,
    /// so in the one folder of the system it would take those of the server next to it.
    fn folders(&self) -> [String; 2] {
        let data = self.folder.path().join("data");
        [format!("--datadir={}", data.display()), format!("--tmpdir={}", self.temporary().display())]
    }

    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Writes a file that its user may read, and returns its path.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the folder can be written");
        give_to_its_user(&path);
        path
    }

    /// It holds the socket `socket`, and what the test puts there.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// The server refuses to run as root, unless it gets a user name.
fn run_as() -> Option<&'static str> {
    geteuid().is_root().then_some("--user=mysql")
}

fn give_to_its_user(path: &Path) {
    if geteuid().is_root() {
        let (user, group) = super::ids_of("mysql").expect("the package mariadb-server makes a user mysql");
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("root may give files away");
    }
}
