//! Units of every type in one real systemd, what is done to each, and what hostprobe makes of it.

mod row;
mod rows;

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(crate) use self::row::{Act, UnitRow};
use self::{row::Outcome, rows::rows};
use crate::{
    daemon::{Daemon, Mark, event_action, field},
    incident_events::text,
    systemd::SystemdLab,
};

/// The table of rows and outcomes as Markdown, for the terminal and the page.
pub fn table(outcomes: &[String]) -> String {
    let mut table = "| unit | what happens | service | verdicts | restarts | incident |\n".to_owned();
    table.push_str("|---|---|---|---|---:|---|\n");
    for (row, outcome) in rows().iter().zip(outcomes) {
        let _ = writeln!(table, "| {} | {} | {outcome} |", row.unit, row.event);
    }
    table
}

/// What is right, in cells of the table.
pub fn right() -> Vec<String> {
    rows().iter().map(|row| row.right.cells()).collect()
}

/// The daemon's configuration for all rows.
pub fn config() -> String {
    let mut config = "[http]\nlisten = \"\"\n".to_owned();
    for row in rows() {
        let _ = writeln!(config, "[[service]]\nname = {:?}\n{}", row.name, keys(&row));
    }
    config
}

/// The keys of a row's service in a configuration.
pub(crate) fn keys(row: &UnitRow) -> String {
    let (unit, more) = (row.watched.replace('@', row.name), row.config);
    let restart = if more.contains("[service.restart]") {
        ""
    } else {
        "[service.restart]\nenabled = true\nbackoff = \"3s..10s\"\n"
    };
    format!("unit = {unit:?}\n{more}\n{restart}")
}

/// The row of a name.
///
/// # Panics
/// If there is none.
pub(crate) fn row(name: &str) -> UnitRow {
    rows().into_iter().find(|row| row.name == name).expect("there is such a row")
}

/// Writes all unit files and starts what is to run before the daemon.
pub fn prepare(lab: &SystemdLab) {
    prepare_rows(lab, &rows());
}

/// The same for some rows.
pub(crate) fn prepare_rows(lab: &SystemdLab, rows: &[UnitRow]) {
    for row in rows {
        for (file, text) in row.files {
            let path = lab.path("/etc/systemd/system").join(file.replace('@', row.name));
            std::fs::write(&path, text.replace('@', row.name)).expect("the unit file is written");
        }
    }
    for row in rows.iter().filter(|row| row.watched.starts_with("alias-of-")) {
        let alias = lab.path("/etc/systemd/system").join(row.watched.replace('@', row.name));
        std::os::unix::fs::symlink(format!("{}.service", row.name), alias).expect("an alias is made");
    }
    lab.systemctl(&["daemon-reload"]).expect("systemd reads the units");
    let running = rows.iter().flat_map(|row| row.running.iter().map(move |unit| unit.replace('@', row.name)));
    let running: Vec<String> = running.collect();
    if !running.is_empty() {
        let start: Vec<&str> = std::iter::once("start").chain(running.iter().map(String::as_str)).collect();
        lab.systemctl(&start).expect("the units start");
    }
}

/// Does everything to every unit, some rows at a time.
pub fn act(lab: &SystemdLab, daemon: &Daemon, mark: Mark) {
    const TOGETHER: usize = 8;
    for rows in rows().chunks(TOGETHER) {
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

/// Whether hostprobe has made of a row's unit what is right.
pub(crate) fn is_right(daemon: &Daemon, row: &UnitRow) -> bool {
    outcome(&daemon.events(), row.name) == row.right.cells()
}

fn outcomes_now(events: &[Value]) -> Vec<String> {
    rows().iter().map(|row| outcome(events, row.name)).collect()
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
    for ((row, outcome), right) in rows().iter().zip(outcomes).zip(right()) {
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
