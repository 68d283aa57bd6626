//! RabbitMQ with its management plugin, known by a user `probe`.

use std::{fs, process::Command, time::Duration};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{require, temporary_folder};
use crate::{
    http::free_port,
    process::{Running, until},
};

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// It starts in 9 s on an idle machine of two cores, and in a minute on a busy one.
const BROKER_START: Duration = Duration::from_secs(240);

/// A RabbitMQ broker.
#[derive(Debug)]
pub struct RabbitMq {
    pub process: Running,
    /// The loopback port that clients connect to.
    pub port: u16,
    /// The loopback port of the management plugin.
    pub management: u16,
    /// The port of the name service of its own.
    names: u16,
    folder: TempDir,
}

impl RabbitMq {
    /// Starts one; None where it is not installed.
    ///
    /// # Panics
    /// If its configuration cannot be written.
    pub fn start() -> Option<Self> {
        if !require("rabbitmq-server", &format!("{PROGRAMS}/rabbitmq-server")) {
            return None;
        }
        let folder = temporary_folder();
        let [port, management, names, between] = [(); 4].map(|()| free_port());
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {management}\n\
             default_user = probe\ndefault_pass = word\n"
        );
        fs::write(folder.path().join("rabbitmq.conf"), config).expect("the folder can be written");
        fs::write(folder.path().join("plugins"), "[rabbitmq_management].\n")
            .expect("the folder can be written");
        let mut command = in_folder("rabbitmq-server", &folder, names);
        command.env("RABBITMQ_DIST_PORT", between.to_string());
        // The script becomes the broker then, instead of its parent.
        command.env("RUNNING_UNDER_SYSTEMD", "1");
        let process = Running::start(&mut command, Signal::KILL);
        process.wait_until_it_says("completed with", &process.stdout, BROKER_START);
        Some(Self { process, port, management, names, folder })
    }

    /// Runs `rabbitmqctl` with these arguments.
    ///
    /// # Panics
    /// If it fails.
    pub fn control(&self, arguments: &[&str]) {
        let output = in_folder("rabbitmqctl", &self.folder, self.names).args(arguments).output();
        let output = output.expect("rabbitmqctl can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.process.stop();
        // The name service outlives its servers. It ends when it is asked to, once it has noticed that the last one is gone.
        let ended = || {
            let ask =
                Command::new("/usr/bin/epmd").args(["-port", &self.names.to_string(), "-kill"]).output();
            ask.is_ok_and(|answer| answer.status.success()).then_some(())
        };
        if !std::thread::panicking() {
            until("the name service has ended", BROKER_START, ended);
        }
    }
}

fn in_folder(program: &str, folder: &TempDir, names: u16) -> Command {
    let file = |name: &str| folder.path().join(name);
    let mut command = Command::new(format!("{PROGRAMS}/{program}"));
    command
        .current_dir("/")
        .env("HOME", folder.path())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", names.to_string())
        .env("RABBITMQ_NODENAME", format!("recipe{names}@localhost"))
        .env("RABBITMQ_MNESIA_BASE", file("mnesia"))
        .env("RABBITMQ_LOG_BASE", file("log"))
        .env("RABBITMQ_CONFIG_FILE", file("rabbitmq"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins"))
        .env("RABBITMQ_PID_FILE", file("pid"));
    command
}
