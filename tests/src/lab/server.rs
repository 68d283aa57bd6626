//! A daemon that watches one server of a protocol other than HTTP.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, Mark},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, listening_pid, text, wait_until_healthy},
    process::{kill, until},
};

/// The name of its service.
pub const DB: &str = "db";

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// The only service of a daemon of its own: a server that is probed ten times a second, one failure counts, and
/// only the first second after a start is excused.
pub struct ServerLab {
    pub daemon: Daemon,
    /// Where the daemon shows its status.
    page: u16,
    folder: TempDir,
}

impl ServerLab {
    /// Starts the daemon; `service` is what it is, `more` is appended to the configuration.
    pub fn start(service: &str, probe: &str, more: &str) -> Self {
        let page = free_port();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output_key = if service.starts_with("exec") {
            format!("output = {:?}", folder.path().join("output"))
        } else {
            String::new()
        };
        let config = format!(
            r#"
            [http]
            listen = "127.0.0.1:{page}"
            [restart]
            budget = "1000 per 1h"
            [[service]]
            name = "{DB}"
            {service}
            {output_key}
            [[service.probe]]
            {probe}
            interval = "100ms"
            timeout = "5s"
            failures = 1
            [service.restart]
            enabled = true
            budget = "1000 per 1h"
            grace = "1s"
            {more}
            "#
        );
        let daemon = Daemon::start(&config, &[]);
        daemon.ready();
        Self { daemon, page, folder }
    }

    /// Waits until it is healthy for the first time.
    pub fn wait_until_healthy(&self) {
        wait_until_healthy(&self.daemon, DB);
    }

    /// What the server has said.
    ///
    /// # Panics
    /// If the supervisor did not start it.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).expect("its output is kept")
    }

    /// Kills the process that listens.
    pub fn kill(&self) -> Mark {
        let mark = self.daemon.mark();
        kill(listening_pid(&self.daemon, DB));
        mark
    }

    /// Waits until the daemon shows that the service says it is starting, and in which words.
    pub fn wait_until_it_says(&self, words: &str) {
        until(words, LONG, || {
            let (_, body) = http::get(self.page, "/api/v1/status").ok()?;
            let status: Value = serde_json::from_str(&body).ok()?;
            let service = &status["services"][0];
            assert_ne!(service["state"], "unhealthy", "{service:#}");
            let said = service["error"].as_str().is_some_and(|error| error.contains(words));
            (said && service["state"] == "starting").then_some(())
        });
    }

    /// Waits for a failed probe of this kind, whose words contain these, and returns it.
    #[track_caller]
    pub fn fails_with(&self, mark: Mark, error: &str, words: &str) -> Value {
        let failed = |event: &Value| {
            is(event, "probe.fail", DB)
                && text(event, "probe.error") == error
                && text(event, "probe.detail").contains(words)
        };
        self.daemon.wait_for_after(mark, failed, LONG)
    }

    /// Waits until an incident with this verdict is open, and then until the service is in this state.
    #[track_caller]
    pub fn is_found(&self, mark: Mark, verdict: &str, state: &str) -> Value {
        let opened =
            |event: &Value| is(event, "incident.open", DB) && text(event, "incident.verdict") == verdict;
        let opened = self.daemon.wait_for_after(mark, opened, LONG);
        let reached = |event: &Value| is(event, "service.state", DB) && text(event, "service.state") == state;
        self.daemon.wait_for_after(mark, reached, LONG);
        opened
    }

    /// Waits until its incident is over.
    #[track_caller]
    pub fn is_resolved(&self, mark: Mark) {
        self.daemon.wait_for_after(mark, |event| is(event, "incident.resolve", DB), LONG);
    }

    /// Asserts that no restart was even requested.
    #[track_caller]
    pub fn was_never_restarted(&self) {
        assert_eq!(self.daemon.count(|event| is(event, "restart.request", DB)), 0);
    }

    /// Waits until the daemon's page of metrics has this number, by its name, at least.
    #[track_caller]
    pub fn wait_until_measured(&self, measure: &str, at_least: f64) {
        let name = format!("measure=\"{measure}\"}} ");
        until(measure, LONG, || {
            let (_, body) = http::get(self.page, "/metrics").ok()?;
            let line = body
                .lines()
                .find(|line| line.starts_with("hostprobe_server_measure{") && line.contains(&name))?;
            let value: f64 = line.rsplit_once(' ')?.1.parse().ok()?;
            (value >= at_least).then_some(())
        });
    }

    /// Asserts that one restart healed a kill, without a failed probe, and returns the events.
    #[track_caller]
    pub fn healed_at_once(&self, mark: Mark) -> IncidentEvents {
        // The end of a command that restarts it may be told after it is well.
        self.daemon.wait_for_after(mark, |event| is(event, "restart.done", DB), LONG);
        let incident = IncidentEvents::of(&self.daemon, mark, DB);
        assert_eq!(incident.verdict(), "killed");
        let summary = text(incident.one("incident.open"), "incident.summary");
        let own_name = std::fs::read_to_string("/proc/self/comm").expect("the test has a name");
        let killer = format!("killed by SIGKILL from {} (pid {}, uid 0", own_name.trim(), std::process::id());
        assert!(summary.contains(&killer), "{summary}");
        incident.one("restart.request");
        incident.one("restart.done");
        assert_eq!(incident.all("restart.fail").len() + incident.all("restart.hold").len(), 0);
        assert_eq!(incident.all("probe.fail").len(), 0);
        incident
    }
}
