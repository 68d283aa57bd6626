//! One unit, what happens to it, and what hostprobe makes of it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::{Daemon, Mark},
    incident_events::{is, text},
    process::signal,
    systemd::SystemdLab,
};

/// The longest that a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One unit, what happens to it, and what is right.
#[derive(Clone, Copy, Debug)]
pub struct UnitRow {
    /// The name of the service, and of its unit unless `watched` says otherwise.
    pub name: &'static str,
    /// The unit, for a person.
    pub unit: &'static str,
    /// What happens, for a person.
    pub event: &'static str,
    /// The unit files. `@` stands for the name.
    pub files: &'static [(&'static str, &'static str)],
    /// The unit that the configuration names. `@` stands for the name.
    pub watched: &'static str,
    /// More of the service's configuration.
    pub config: &'static str,
    /// The units that run before the daemon.
    pub running: &'static [&'static str],
    pub act: fn(&Act<'_>),
    pub right: Outcome<'static>,
}

/// What hostprobe made of it in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    pub state: &'a str,
    /// The verdicts of its incidents, in order.
    pub verdicts: &'a [&'a str],
    /// Restarts that hostprobe asked for.
    pub restarts: usize,
    /// Whether an incident is open.
    pub open: bool,
}

impl Outcome<'_> {
    /// Its cells in the table.
    pub(super) fn cells(&self) -> String {
        let verdicts = if self.verdicts.is_empty() { "–".to_owned() } else { self.verdicts.join(", ") };
        let incident = match (self.open, self.verdicts.is_empty()) {
            (true, _) => "open",
            (false, true) => "none",
            (false, false) => "over",
        };
        format!("{} | {verdicts} | {} | {incident}", self.state, self.restarts)
    }
}

/// The means of a row to do something to its unit.
#[derive(Debug)]
pub struct Act<'a> {
    pub lab: &'a SystemdLab,
    pub daemon: &'a Daemon,
    pub name: &'a str,
    pub mark: Mark,
}

impl Act<'_> {
    /// Runs systemctl, with `@` for the name. A start that fails is part of some rows.
    pub fn systemctl(&self, arguments: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(|text| text.replace('@', self.name)).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Err(error) = self.lab.systemctl(&arguments) {
            println!("{}: {error:#}", self.name);
        }
    }

    /// Sends a signal to the main process of a unit.
    #[track_caller]
    pub fn signal(&self, unit: &str, which: Signal) {
        let unit = unit.replace('@', self.name);
        signal(self.lab.host_main_pid(&unit).unwrap_or_else(|error| panic!("{unit}: {error:#}")), which);
    }

    /// Kills the main process.
    #[track_caller]
    pub fn kill(&self) {
        self.signal("@.service", Signal::KILL);
    }

    /// Kills the main process twice, so that hostprobe waits before the second restart.
    #[track_caller]
    pub fn kill_twice(&self) {
        self.kill();
        self.until("the first restart", |event| is(event, "restart.done", self.name));
        self.kill();
        self.until("the back-off", |event| is(event, "restart.hold", self.name));
    }

    /// Masks a unit whose file is below /etc, where systemctl does not replace it.
    #[track_caller]
    pub fn mask(&self) {
        let file = self.lab.path("/etc/systemd/system").join(format!("{}.service", self.name));
        std::fs::remove_file(&file).expect("the unit file is there");
        std::os::unix::fs::symlink("/dev/null", &file).expect("the unit is masked");
        self.systemctl(&["daemon-reload"]);
    }

    #[track_caller]
    pub fn until_state(&self, state: &str) {
        self.until(state, |event| {
            is(event, "service.state", self.name) && text(event, "service.state") == state
        });
    }

    #[track_caller]
    fn until(&self, what: &str, such: impl Fn(&Value) -> bool) {
        let found = self.daemon.find_after(self.mark, such, PATIENCE);
        assert!(found.is_some(), "{}: it never came: {what}", self.name);
    }
}
