//! A daemon with its services, its receivers and its fleet, over all its lives.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    fault::Role,
    oracle,
    plan::{DaemonEnd, Ending},
    services::{SERVICES, Services},
    told,
};
use crate::{
    daemon::{Daemon, Mark},
    fleet::Nats,
    http::{self, free_port},
    incident_events::{is, text},
    leftovers::Leftovers,
    listeners,
    loop_disk::LoopDisk,
    parts::{Alertmanager, built},
    process::Running,
    shifted_clock::shifted,
    soak::sample::Sample,
    survival::relay::Relay,
};

/// Far more than anything here takes: reaching it is a failure.
pub(super) const LONG: Duration = Duration::from_secs(300);

/// Between two looks at what does not tell when it changes.
const LOOK: Duration = Duration::from_millis(200);

/// What a service was at the beginning of a round.
pub(super) type Pids = BTreeMap<String, u32>;

pub(super) struct Lab {
    // The daemon ends first, then what its services have left.
    pub(super) daemon: Daemon,
    _leftovers: Vec<Leftovers>,
    pub(super) services: Services,
    pub(super) disk: LoopDisk,
    folder: TempDir,
    config: String,
    pub(super) page: u16,
    pub(super) alertmanager: Alertmanager,
    /// What hostprobe says to the Alertmanager.
    pub(super) to_alertmanager: Relay,
    pub(super) webhook: Relay,
    pub(super) nats: Nats,
    /// The services that hostprobe does not start, while they run.
    remote: BTreeMap<&'static str, Running>,
    /// The events of the lives of this round that have ended.
    ended: Vec<Value>,
    /// Where in the stream of the present life the round began.
    mark: Mark,
    /// The lives that have ended, and how.
    pub(super) ends: Vec<DaemonEnd>,
    /// What was wrong with a stream or with the end of a daemon.
    pub(super) wrong: Vec<String>,
}

impl Lab {
    /// Starts all of it. None where a part is missing.
    pub(super) fn start() -> Result<Option<Self>> {
        let (Some(alertmanager), Some(disk)) = (Alertmanager::start(), LoopDisk::new(64, &[])) else {
            return Ok(None);
        };
        let Some((nats, nats_port)) = Nats::on_loopback() else { return Ok(None) };
        let (services, folder, page) = (Services::new()?, TempDir::new()?, free_port());
        let (to_alertmanager, webhook) = (Relay::start(Some(alertmanager.port)), Relay::start(None));
        let leftovers = services.there().map(|spec| Leftovers(services.port(spec.name).to_string()));
        let leftovers = leftovers.collect();
        let alert = |port: u16, path: &str, format: &str| {
            format!(
                "[[alert]]\nwebhook = \"http://127.0.0.1:{port}/{path}\"\nformat = {format:?}\nmin_severity = \"info\"\n"
            )
        };
        let config = [
            format!("[http]\nlisten = \"127.0.0.1:{page}\"\n"),
            format!("[control]\nsocket = {:?}\n", folder.path().join("control.sock")),
            format!("[state]\ndirectory = {:?}\nrecording = \"8MiB\"\n", disk.path().join("state")),
            "[supervisor]\non_exit = \"leave\"\n".to_owned(),
            // Small rings overrun, and many records are due.
            "[kernel]\nurgent_ring = \"64KiB\"\nbulk_ring = \"64KiB\"\nunwatched_exits_per_second = 1000000\n".to_owned(),
            // That of all services would leave them down after some faults.
            "[restart]\nbudget = \"100000 per 1h\"\n".to_owned(),
            format!(
                "[host]\nfilesystems = {{ \"*\" = false, {:?} = {{ percent = 90 }} }}\n",
                disk.path().display().to_string()
            ),
            format!("[snapshots]\ndirectory = {:?}\n", folder.path().join("snapshots")),
            format!("[fleet]\nnats = \"nats://127.0.0.1:{nats_port}\"\nname = \"chaos\"\nspool = \"2MiB\"\n"),
            "[defaults.probe]\ninterval = \"1s\"\ntimeout = \"2s\"\n".to_owned(),
            alert(to_alertmanager.port, "api/v2/alerts", "alertmanager"),
            alert(webhook.port, "hook", "json"),
            services.config()?,
        ]
        .concat();
        let mut remote = BTreeMap::new();
        for spec in services.there().filter(|spec| matches!(spec.role, Role::Remote | Role::RemoteRedis)) {
            remote.insert(spec.name, started(&services.remote_command(spec)));
        }
        let daemon = Daemon::start(&config, &[]);
        Ok(Some(Self {
            daemon,
            _leftovers: leftovers,
            services,
            disk,
            folder,
            config,
            page,
            alertmanager,
            to_alertmanager,
            webhook,
            nats,
            remote,
            ended: Vec::new(),
            mark: Mark::default(),
            ends: Vec::new(),
            wrong: Vec::new(),
        }))
    }

    /// A round begins: its events are those from now on.
    pub(super) fn begin_round(&mut self) {
        self.ended.clear();
        self.mark = self.daemon.mark();
    }

    /// The events of the round so far, of all lives.
    pub(super) fn round_events(&self) -> Vec<Value> {
        [self.ended.clone(), self.daemon.since(self.mark)].concat()
    }

    /// Ends the daemon, and starts the next one after a while.
    pub(super) fn next_life(&mut self, end: &Ending) {
        let signal = match end.how {
            DaemonEnd::Killed => Signal::KILL,
            DaemonEnd::Upgraded => Signal::TERM,
        };
        self.daemon.signal(signal);
        let status = self.daemon.wait(LONG);
        if end.how == DaemonEnd::Upgraded && !status.success() {
            self.wrong.push(format!("a daemon ended with {status}: {}", self.daemon.log()));
        }
        sleep(end.gap);
        let next = Daemon::start_with(&self.config, &[], |command| shifted(command, end.ahead));
        let before = std::mem::replace(&mut self.daemon, next);
        let events = before.events();
        self.wrong.extend(oracle::sequence(&events));
        self.ended.extend(before.since(self.mark));
        self.mark = Mark::default();
        self.ends.push(end.how);
    }

    /// Has a last daemon take over and end with its services.
    pub(super) fn end(&mut self) {
        self.config = self.config.replace("on_exit = \"leave\"", "on_exit = \"stop\"");
        let how = DaemonEnd::Upgraded;
        self.next_life(&Ending { how, at: Duration::ZERO, gap: Duration::ZERO, ahead: 0 });
        self.ends.pop();
        self.daemon.ready();
        let status = self.daemon.stop();
        if !status.success() {
            self.wrong.push(format!("the last daemon ended with {status}: {}", self.daemon.log()));
        }
        self.wrong.extend(oracle::sequence(&self.daemon.events()));
    }

    /// Waits for an event of this round, in whatever life.
    pub(super) fn wait_for(&self, such: impl Fn(&Value) -> bool, within: Duration) -> Option<Value> {
        let found = self.ended.iter().find(|event| such(event)).cloned();
        found.or_else(|| self.daemon.find_after(self.mark, such, within))
    }

    /// Waits until an incident of a service has a verdict of these.
    pub(super) fn wait_for_verdict(&self, service: &str, verdicts: &[&str]) -> Result<()> {
        let such = |event: &Value| {
            ["incident.open", "incident.update"].iter().any(|action| is(event, action, service))
                && verdicts.contains(&text(event, "incident.verdict"))
        };
        match self.wait_for(such, LONG) {
            Some(_) => Ok(()),
            None => bail!("{service}: no incident {verdicts:?} within {LONG:?}"),
        }
    }

    pub(super) fn status(&self) -> Option<Value> {
        let (status, body) = http::get(self.page, "/api/v1/status").ok()?;
        (status == 200).then(|| serde_json::from_str(&body).ok()).flatten()
    }

    /// The main processes of the services.
    pub(super) fn pids(&self) -> Result<Pids> {
        let status = self.status().context("the page does not answer")?;
        let services = status["services"].as_array().context("no services")?;
        let pid = |service: &Value| {
            let pid = service["main_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
            Some((service["name"].as_str()?.to_owned(), pid))
        };
        Ok(services.iter().filter_map(pid).collect())
    }

    /// Waits until all services are healthy and no incident is open, and until the stream has been read so far.
    pub(super) fn until_well(&self) -> Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            let status = self.status();
            let trouble = match &status {
                Some(status) => oracle::trouble_in(status),
                None => vec!["the page does not answer".to_owned()],
            };
            let published = status.and_then(|status| status["counters"]["events"].as_u64());
            let is_read = published.is_some_and(|published| self.daemon.lines().len() as u64 >= published);
            if trouble.is_empty() && is_read {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("not well within {LONG:?}: {}", trouble.join("; "));
            }
            sleep(LOOK);
        }
    }

    /// Waits until each receiver was told of these incidents, which opened then, and takes none for open.
    pub(super) fn until_nothing_fires(&self, due: &BTreeMap<String, SystemTime>) -> Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            let active = http::get(self.alertmanager.port, "/api/v2/alerts?active=true");
            let is_empty = active.as_ref().is_ok_and(|(_, body)| body.trim() == "[]");
            let firing = self.webhook.firing();
            // The messages about an incident that is healed soon are sent at its end.
            let mut untold = Vec::new();
            for (name, relay) in [("Alertmanager", &self.to_alertmanager), ("webhook", &self.webhook)] {
                told::judge(name, relay, due, &mut untold);
            }
            if is_empty && firing.is_empty() && untold.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "after {LONG:?} Alertmanager has {active:?}, and the webhook takes {firing:?} for open"
                );
            }
            sleep(LOOK);
        }
    }

    /// Gives an operator's command until the daemon carries it out: it may be between two lives.
    pub(super) fn order(&self, words: &[&str]) -> Result<()> {
        let deadline = Instant::now() + LONG;
        loop {
            let output = self.run(words)?;
            if output.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("hostprobe {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
            }
            sleep(LOOK);
        }
    }

    fn run(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(built("hostprobe"));
        command.args(words).arg("--socket").arg(self.folder.path().join("control.sock"));
        command.output().context("hostprobe cannot be run")
    }

    /// What a daemon uses now.
    pub(super) fn sample(&self) -> Option<Sample> {
        Sample::take(self.daemon.pid(), self.page)
    }

    /// Ends a service that hostprobe does not start.
    pub(super) fn take_down(&mut self, name: &str) {
        self.remote.remove(name);
    }

    /// Starts those of them again that do not run.
    pub(super) fn bring_up(&mut self) {
        for spec in SERVICES.iter().filter(|spec| matches!(spec.role, Role::Remote | Role::RemoteRedis)) {
            let command = self.services.remote_command(spec);
            self.remote.entry(spec.name).or_insert_with(|| started(&command));
        }
    }

    /// Has the service `looping` crash at its start, or start.
    pub(super) fn break_looping(&self, is_broken: bool) -> Result<()> {
        let file = self.services.crash_file();
        if is_broken {
            fs::write(file, "")?;
        } else if file.exists() {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// A folder for what surrounds the daemon.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Lab {
    /// A daemon that was not ended in order leaves its services.
    fn drop(&mut self) {
        self.daemon.signal(Signal::KILL);
        let ports: Vec<u16> = self.services.there().map(|spec| self.services.port(spec.name)).collect();
        for pid in listeners::on(&ports).into_iter().filter_map(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

fn started(command: &[String]) -> Running {
    Running::start(Command::new(&command[0]).args(&command[1..]), Signal::KILL)
}
