//! One row's stage: services under a daemon of their own, a bystander that is well all the time, and a receiver of
//! alerts.

use std::{path::Path, process::Command, thread, time::Duration};

use rustix::process::Resource;
use serde_json::Value;
use tempfile::TempDir;

use super::{receiver::Receiver, source::Source};
use crate::{
    daemon::{Daemon, Mark},
    http::{self, free_port},
    incident_events::{is, listening_pid, text},
    process::until,
    victim::Victim,
};

/// The longest wait for anything in the matrix: reaching it is a failure. While the host is busy, what is slow is overloaded
/// first.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The name of the service that nothing happens to.
pub const BYSTANDER: &str = "bystander";

/// How often the bystander is probed after the last event a row waits for: what was about to be done to a service
/// that is well would have been done by then.
const MORE_PROBES: u64 = 6;

/// Between two looks at the daemon's status or at the bystander: often enough to see each probe, and seldom enough to cost
/// little.
const BETWEEN_LOOKS: Duration = Duration::from_millis(40);

/// A service in a row's configuration.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    /// `exec = …`, `unit = …`, `match = …`, or nothing for a remote one.
    how: String,
    keys: String,
    probe: String,
    times: String,
    restart: String,
    /// Whether it has to be well before the fault.
    awaited: bool,
}

impl Service {
    /// A service that is what `how` says, with an HTTP probe of `/health` on this port.
    pub fn new(name: &str, how: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            how: how.to_owned(),
            keys: String::new(),
            probe: format!("http = \"http://127.0.0.1:{port}/health\""),
            times: "interval = \"250ms\"\ntimeout = \"800ms\"\nfailures = 2".to_owned(),
            restart: "enabled = true\nbudget = \"5 per 10m\"\nbackoff = \"100ms..2s\"\ngrace = \"1s\""
                .to_owned(),
            awaited: true,
        }
    }

    /// One that cannot be well before the fault.
    pub fn unawaited(mut self) -> Self {
        self.awaited = false;
        self
    }

    /// A command under the supervisor.
    pub fn exec(name: &str, command: &[String], port: u16) -> Self {
        Self::new(name, &format!("exec = {command:?}"), port)
    }

    /// A victim under the supervisor.
    pub fn victim(name: &str, port: u16) -> Self {
        Self::exec(name, &victim(port), port)
    }

    /// With further keys of the service itself, such as `depends_on`.
    pub fn keys(mut self, keys: &str) -> Self {
        keys.clone_into(&mut self.keys);
        self
    }

    /// With another probe: its address, or more of its keys.
    pub fn probe(mut self, probe: &str) -> Self {
        probe.clone_into(&mut self.probe);
        self
    }

    /// With other times of its probe.
    pub fn times(mut self, times: &str) -> Self {
        times.clone_into(&mut self.times);
        self
    }

    /// With another `[service.restart]`.
    pub fn restart(mut self, restart: &str) -> Self {
        restart.clone_into(&mut self.restart);
        self
    }

    /// Its part of a configuration; what it prints goes to a file in this folder.
    pub fn config(&self, folder: &Path) -> String {
        let Self { name, how, keys, probe, times, restart, awaited: _ } = self;
        let output = if how.starts_with("exec") {
            format!("output = {:?}", folder.join(format!("{name}.log")))
        } else {
            String::new()
        };
        let probe =
            if probe.is_empty() { String::new() } else { format!("[[service.probe]]\n{probe}\n{times}\n") };
        let restart =
            if restart.is_empty() { String::new() } else { format!("[service.restart]\n{restart}\n") };
        format!("[[service]]\nname = {name:?}\n{how}\n{output}\n{keys}\n{probe}{restart}\n")
    }
}

/// The command of a victim on this port.
pub fn victim(port: u16) -> Vec<String> {
    vec![Victim::program().display().to_string(), "--port".to_owned(), port.to_string()]
}

/// A running daemon with a row's services.
#[derive(Debug)]
pub struct Scene {
    pub daemon: Daemon,
    /// Where the daemon's alerts go.
    pub receiver: Receiver,
    /// What happened before the fault is no part of the row.
    pub mark: Mark,
    bystander: u16,
    /// Where the daemon shows its status.
    page: u16,
    _folder: TempDir,
}

impl Scene {
    /// Starts a daemon with these services, and waits until all of them are well.
    ///
    /// # Panics
    /// If they are not in time.
    #[track_caller]
    pub fn start(services: &[Service]) -> Self {
        Self::start_with(services, "", |command| command)
    }

    /// The same, with more of the configuration and a say in the daemon's command.
    ///
    /// # Panics
    /// If they are not in time.
    #[track_caller]
    pub fn start_with(
        services: &[Service],
        more: &str,
        adjust: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("hostprobe-matrix-").tempdir().expect("a folder");
        let (receiver, bystander, page) = (Receiver::start(), free_port(), free_port());
        // A core dump is part of some faults.
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        rustix::process::setrlimit(Resource::Core, unlimited).expect("root may raise its limits");
        let others: String = services.iter().map(|service| service.config(folder.path())).collect();
        let config = format!(
            "[http]\nlisten = \"127.0.0.1:{page}\"\n{more}\n{}{others}{}",
            receiver.config(),
            Service::victim(BYSTANDER, bystander).config(folder.path())
        );
        let daemon = Daemon::start_with(&config, Source::of_row().arguments(), adjust);
        daemon.ready();
        let mut scene = Self { daemon, receiver, mark: Mark::default(), bystander, page, _folder: folder };
        for service in services.iter().filter(|service| service.awaited && !service.probe.is_empty()) {
            scene.until_state(&service.name, "healthy");
        }
        scene.until_state(BYSTANDER, "healthy");
        // By then the second of grace after a start is over, and a failed probe counts.
        scene.more_probes();
        scene.mark = scene.daemon.mark();
        scene
    }

    /// The process of a service that listens.
    #[track_caller]
    pub fn pid(&self, service: &str) -> u32 {
        listening_pid(&self.daemon, service)
    }

    /// Waits until a service is in a state, counting from the fault.
    #[track_caller]
    pub fn until_state(&self, service: &str, state: &str) {
        self.event(&format!("{service} is {state}"), |event| {
            is(event, "service.state", service) && text(event, "service.state") == state
        });
    }

    /// Waits for an event after the fault.
    ///
    /// # Panics
    /// If it does not come in time, with what it was.
    #[track_caller]
    pub fn event(&self, what: &str, such: impl Fn(&Value) -> bool) -> Value {
        self.find(PATIENCE, such).unwrap_or_else(|| panic!("it never came: {what}"))
    }

    /// Waits until a service's incident has this verdict; None when the time is over.
    pub fn verdict(&self, service: &str, verdict: &str) -> Option<Value> {
        self.find(PATIENCE, |event| {
            (is(event, "incident.open", service)
                || is(event, "incident.update", service)
                || is(event, "incident.resolve", service))
                && text(event, "incident.verdict") == verdict
        })
    }

    /// Waits until a service's latest incident is over; false when the time is over.
    pub fn healed(&self, service: &str) -> bool {
        let events = self.daemon.since(self.mark);
        let opened = events.iter().rfind(|event| is(event, "incident.open", service));
        let latest = opened.map(|event| text(event, "incident.id").to_owned());
        let is_latest = |event: &Value| latest.as_ref().is_none_or(|id| text(event, "incident.id") == id);
        self.find(PATIENCE, |event| is(event, "incident.resolve", service) && is_latest(event)).is_some()
    }

    /// Waits until a service was restarted; false when the time is over.
    pub fn restarted(&self, service: &str) -> bool {
        self.find(PATIENCE, |event| is(event, "restart.done", service)).is_some()
    }

    /// Waits until the bystander was probed some more.
    #[track_caller]
    pub fn more_probes(&self) {
        let probed = || {
            thread::sleep(BETWEEN_LOOKS);
            http::get(self.bystander, "/count").ok()?.1.parse::<u64>().ok()
        };
        let before = until("the bystander counts its probes", PATIENCE, probed);
        until("the bystander is probed on", PATIENCE, || probed().filter(|&now| now >= before + MORE_PROBES));
    }

    /// Waits until a service was probed some more: what was about to be done to it would have been done by then.
    #[track_caller]
    pub fn looked_at(&self, service: &str) {
        let took = || Some(self.status(service)?["response_time_ms"].clone()).filter(|took| !took.is_null());
        let mut last = until(&format!("{service} is probed"), PATIENCE, took);
        for _ in 0..MORE_PROBES {
            last = until(&format!("{service} is probed on"), PATIENCE, || took().filter(|now| *now != last));
        }
    }

    /// Waits until the daemon shows that a service says it is starting, and in which words.
    #[track_caller]
    pub fn until_it_starts(&self, service: &str, words: &str) {
        until(&format!("{service} is starting: {words}"), PATIENCE, || {
            let status = self.status(service)?;
            let says = status["error"].as_str().is_some_and(|error| error.contains(words));
            (says && status["state"] == "starting").then_some(())
        });
    }

    /// What the daemon shows of a service.
    fn status(&self, service: &str) -> Option<Value> {
        thread::sleep(BETWEEN_LOOKS);
        let status: Value = serde_json::from_str(&http::get(self.page, "/api/v1/status").ok()?.1).ok()?;
        status["services"].as_array()?.iter().find(|shown| shown["name"] == service).cloned()
    }

    fn find(&self, within: Duration, such: impl Fn(&Value) -> bool) -> Option<Value> {
        self.daemon.find_after(self.mark, such, within)
    }
}
