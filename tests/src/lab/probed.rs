//! Services under the daemon's supervisor, each with a quick probe.

use std::path::Path;

use serde_json::Value;

use crate::{
    daemon::{Daemon, Mark},
    incident_events::is,
};

/// A quick probe; failures count after the first second.
pub const QUICK: &str = "interval = \"200ms\"\ntimeout = \"1s\"\nfailures = 3";

/// A service under the supervisor with one probe.
pub fn service(name: &str, command: &[String], probe: &str, times: &str, folder: &Path) -> String {
    format!(
        r#"
        [[service]]
        name = "{name}"
        exec = {command:?}
        output = "{folder}/{name}.output"
        directory = "{folder}"
        [[service.probe]]
        {probe}
        {times}
        [service.restart]
        grace = "1s"
        "#,
        folder = folder.display()
    )
}

pub fn start(services: &str) -> Daemon {
    let daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{services}"), &[]);
    daemon.ready();
    daemon
}

pub fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|&word| word.to_owned()).collect()
}

/// What was done about a service since a mark, besides nothing.
pub fn restarts(daemon: &Daemon, mark: Mark, service: &str) -> Vec<Value> {
    let restarted = |event: &Value| is(event, "restart.request", service);
    daemon.since(mark).into_iter().filter(restarted).collect()
}
