//! Units of every type in one real systemd, what is done to each, and what hostprobe makes of it.

mod rows;

pub use rows::ROWS;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    daemon::{Daemon, Mark, event_action, field},
    incident_events::{is, text},
    process::signal,
    systemd::SystemdLab,
};

/// The longest that a step may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

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
    fn cells(&self) -> String {
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

/// The table of rows and outcomes as Markdown, for the terminal and the page.
pub fn table(outcomes: &[String]) -> String {
    let mut table = "| unit | what happens | service | verdicts | restarts | incident |\n".to_owned();
    table.push_str("|---|---|---|---|---:|---|\n");
    for (row, outcome) in ROWS.iter().zip(outcomes) {
        let _ = writeln!(table, "| {} | {} | {outcome} |", row.unit, row.event);
    }
    table
}

/// What is right, in cells of the table.
pub fn right() -> Vec<String> {
    ROWS.iter().map(|row| row.right.cells()).collect()
}

/// The daemon's configuration for all rows.
pub fn config() -> String {
    let mut config = "[http]\nlisten = \"\"\n".to_owned();
    for UnitRow { name, watched, config: more, .. } in ROWS {
        let unit = watched.replace('@', name);
        let restart = if more.contains("[service.restart]") {
            String::new()
        } else {
            "[service.restart]\nenabled = true\nbackoff = \"3s..10s\"\n".to_owned()
        };
        let _ = writeln!(config, "[[service]]\nname = {name:?}\nunit = {unit:?}\n{more}\n{restart}");
    }
    config
}

/// Writes the unit files and starts what is to run before the daemon.
pub fn prepare(lab: &SystemdLab) {
    for row in ROWS {
        for (file, text) in row.files {
            let path = lab.path("/etc/systemd/system").join(file.replace('@', row.name));
            std::fs::write(&path, text.replace('@', row.name)).expect("the unit file is written");
        }
    }
    for row in ROWS.iter().filter(|row| row.watched.starts_with("alias-of-")) {
        let alias = lab.path("/etc/systemd/system").join(row.watched.replace('@', row.name));
        std::os::unix::fs::symlink(format!("{}.service", row.name), alias).expect("an alias is made");
    }
    lab.systemctl(&["daemon-reload"]).expect("systemd reads the units");
    let running = ROWS.iter().flat_map(|row| row.running.iter().map(|unit| unit.replace('@', row.name)));
    let running: Vec<String> = running.collect();
    let mut start = vec!["start"];
    start.extend(running.iter().map(String::as_str));
    lab.systemctl(&start).expect("the units start");
}

/// Does everything to every unit, some rows at a time.
pub fn act(lab: &SystemdLab, daemon: &Daemon, mark: Mark) {
    const TOGETHER: usize = 8;
    for rows in ROWS.chunks(TOGETHER) {
        std::thread::scope(|scope| {
            for row in rows {
                scope.spawn(move || (row.act)(&Act { lab, daemon, name: row.name, mark }));
            }
        });
    }
}

/// What hostprobe made of each unit, once that is right, or else when the time is over.
pub fn outcomes(daemon: &Daemon, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    loop {
        let outcomes = outcomes_now(&daemon.events());
        if outcomes == right() || Instant::now() > deadline {
            return outcomes;
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn outcomes_now(events: &[Value]) -> Vec<String> {
    ROWS.iter().map(|row| outcome(events, row.name)).collect()
}

fn outcome(events: &[Value], name: &str) -> String {
    let (mut state, mut verdicts, mut restarts, mut open) = ("", Vec::new(), 0, false);
    for event in events.iter().filter(|event| text(event, "service.name") == name) {
        match event_action(event) {
            "service.state" => state = text(event, "service.state"),
            "restart.request" => restarts += 1,
            action @ ("incident.open" | "incident.update" | "incident.resolve") => {
                open = action != "incident.resolve";
                let verdict = text(event, "incident.verdict");
                if verdicts.last() != Some(&verdict) {
                    verdicts.push(verdict);
                }
            }
            _ => {}
        }
    }
    Outcome { state, verdicts: &verdicts, restarts, open }.cells()
}

/// Prints the events of the services whose outcome is wrong.
pub fn explain(events: &[Value], outcomes: &[String]) {
    for ((row, outcome), right) in ROWS.iter().zip(outcomes).zip(right()) {
        if *outcome == right {
            continue;
        }
        println!("{}: {outcome}, expected {right}", row.name);
        for event in events.iter().filter(|event| text(event, "service.name") == row.name) {
            let time = field(event, "@timestamp").and_then(Value::as_str).and_then(|it| it.get(11..23));
            println!("    {} {} {}", time.unwrap_or_default(), event_action(event), text(event, "message"));
        }
    }
}
