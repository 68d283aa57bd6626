//! Operators: their commands over the control socket, and what outlives the daemon that got them.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use hostprobe::store::state::Reader;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, Mark, event_action},
    incident_events::{is, text},
    parts::built,
    supervised::Supervised,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A group that every Debian has, and its number.
pub const GROUP: (&str, u32) = ("adm", 4);

/// The state and the socket of several runs of a daemon.
pub struct Home {
    folder: TempDir,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self, services: &str) -> String {
        format!(
            "[http]\nlisten = \"\"\n[control]\nsocket = {:?}\ngroup = {:?}\n[state]\ndirectory = {:?}\n{services}",
            self.path("control.sock"),
            GROUP.0,
            self.path("state")
        )
    }

    /// The configuration of a daemon that supervises a service.
    pub fn supervising(&self, service: &Supervised) -> String {
        self.config(&service.config("").replace("[http]\nlisten = \"\"\n", ""))
    }

    /// Gives a command.
    pub fn order(&self, words: &[&str]) -> Output {
        let mut command = Command::new(built("hostprobe"));
        command.args(words).arg("--socket").arg(self.path("control.sock"));
        command.output().expect("hostprobe can be run")
    }

    /// What a command prints, which is done.
    #[track_caller]
    pub fn done(&self, words: &[&str]) -> String {
        said(&self.order(words))
    }

    /// A service in the status.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        let status: Value = serde_json::from_str(&self.done(&["status", "--json"])).expect("JSON");
        let services = status["services"].as_array().expect("a list");
        services.iter().find(|service| service["name"] == name).expect("the service").clone()
    }

    /// What the state file has of an incident by now, as `explain --json` shows it without the pressure. A daemon that
    /// is killed writes no more.
    pub fn kept(&self, id: &str) -> Option<Value> {
        let explained = Reader::open(&self.path("state")).ok()?.explain(id).ok()?.ok()?;
        // By its text, in which a number has as many digits as in the command's.
        serde_json::from_str(&serde_json::to_string(&explained).ok()?).ok()
    }
}

/// Runs a command that finds the daemon, or what it has left, by its configuration.
///
/// # Panics
/// If it cannot be run.
pub fn ask(config: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(built("hostprobe"));
    command.args(words).arg("--config").arg(config).output().expect("hostprobe can be run")
}

/// What a command printed, which did what it was to do.
///
/// # Panics
/// If it failed.
#[track_caller]
pub fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaint) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{complaint}");
    said
}

pub fn becomes<'s>(service: &'s str, state: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| is(event, "service.state", service) && text(event, "service.state") == state
}

pub fn action<'s>(name: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| event_action(event) == name
}

/// Waits for the operator's command after a mark, and insists on who gave it, and why.
#[track_caller]
pub fn commanded(daemon: &Daemon, mark: Mark, command: &str, reason: &str) -> Value {
    let such = |event: &Value| {
        event_action(event) == "operator.command" && text(event, "operator.command") == command
    };
    let event = daemon.wait_for_after(mark, such, PATIENCE);
    assert_eq!((text(&event, "user.id"), text(&event, "user.name")), ("0", "root"), "{event}");
    assert_eq!(text(&event, "event.reason"), reason, "{event}");
    event
}

/// The two ways in which a daemon ends: at once, as by a crash, and on request, as for an upgrade.
#[derive(Clone, Copy, Debug)]
pub enum End {
    Crash,
    Clean,
}

pub const ENDS: [End; 2] = [End::Crash, End::Clean];

#[track_caller]
pub fn end(mut daemon: Daemon, how: End) {
    match how {
        End::Crash => {
            daemon.signal(Signal::KILL);
            daemon.wait(PATIENCE);
        }
        End::Clean => assert!(daemon.stop().success(), "{}", daemon.log()),
    }
}

pub fn crash(daemon: Daemon) {
    end(daemon, End::Crash);
}
