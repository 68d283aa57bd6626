//! The daemon is killed again and again at random moments, under random faults: no alert is lost, none fires for ever, and
//! budgets and crash loops hold over all its lives.

pub mod page;
pub(crate) mod random;
pub(crate) mod relay;
pub mod services;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{is, text},
    operator::Home,
    parts::Alertmanager,
    process::Running,
    victim::Victim,
};
use random::Random;
use relay::Relay;

/// The longest life of a daemon; its kill is at a random moment of it, also before it is ready.
const LIFE: Duration = Duration::from_millis(2500);

/// Far more than the last recovery takes.
const LONG: Duration = Duration::from_secs(120);

/// Restarts of the service `limited`, in so long.
const BUDGET: usize = 4;
const WINDOW: Duration = Duration::from_secs(20);

/// Restarts of the service `looping`, which fails at each start.
const LOOP_BUDGET: usize = 2;

/// The shortest long back-off of a crash loop.
const LONG_BACKOFF: Duration = Duration::from_secs(60);

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Findings {
    pub kills: u32,
    pub faults: u32,
    /// The incidents that the streams of all lives opened.
    pub opened: usize,
    /// Those of them that went on in a later life.
    pub taken_up: usize,
    /// What a receiver got: the messages, and those that it got again.
    pub delivered: BTreeMap<&'static str, (usize, usize)>,
    pub restarts: usize,
    /// What was wrong; empty if nothing was.
    pub wrong: Vec<String>,
}

/// The receivers, the services, and what outlives a daemon.
struct Lab {
    home: Home,
    folder: TempDir,
    alertmanager: Alertmanager,
    /// What hostprobe says to the Alertmanager.
    to_alertmanager: Relay,
    webhook: Relay,
    /// Ports of the services that hostprobe starts, and of the remote one.
    web: u16,
    limited: u16,
    looping: u16,
    remote: u16,
    /// The remote service, while it is up.
    victim: Option<Running>,
    random: Random,
    /// The events of all lives.
    events: Vec<Value>,
    faults: u32,
}

/// Kills the daemon so many times. None where Alertmanager is not installed.
pub fn run(kills: u32, seed: u64) -> Option<Findings> {
    let mut lab = Lab::start(seed)?;
    let config = lab.config();
    for _ in 0..kills {
        lab.life(&config);
    }
    let mut wrong = lab.last_life(&config);
    wrong.extend(lab.budgets());
    let mut findings = lab.told(&mut wrong);
    findings.wrong = wrong;
    findings.kills = kills;
    Some(findings)
}

impl Lab {
    fn start(seed: u64) -> Option<Self> {
        let alertmanager = Alertmanager::start()?;
        let to_alertmanager = Relay::start(Some(alertmanager.port));
        let mut lab = Self {
            home: Home::new(),
            folder: TempDir::new().expect("a temporary folder"),
            alertmanager,
            to_alertmanager,
            webhook: Relay::start(None),
            web: free_port(),
            limited: free_port(),
            looping: free_port(),
            remote: free_port(),
            victim: None,
            random: Random(seed),
            events: Vec::new(),
            faults: 0,
        };
        fs::write(lab.crash_file(), "").expect("a file is written");
        lab.start_remote();
        Some(lab)
    }

    /// The service `looping` crashes at its start while this is there.
    fn crash_file(&self) -> PathBuf {
        self.folder.path().join("crash")
    }

    fn config(&self) -> String {
        let program = Victim::program().display().to_string();
        let service = |name: &str, port: u16, further: &str, restart: &str| {
            let output = self.folder.path().join(name).display().to_string();
            format!(
                "[[service]]\nname = {name:?}\nexec = [{program:?}, \"--port\", \"{port}\"{further}]\noutput = {output:?}\n\
                 [[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"300ms\"\n\
                 [service.restart]\n{restart}\nbackoff = \"10ms..200ms\"\ngrace = \"2s\"\n"
            )
        };
        let crash = format!(", \"--crash-if\", {:?}", self.crash_file().display().to_string());
        let alert = |port: u16, path: &str, format: &str| {
            format!(
                "[[alert]]\nwebhook = \"http://127.0.0.1:{port}/{path}\"\nformat = {format:?}\nmin_severity = \"info\"\n"
            )
        };
        let services = [
            // That of all services would leave them down after some faults.
            "[restart]\nbudget = \"100000 per 1h\"\n".to_owned(),
            alert(self.to_alertmanager.port, "api/v2/alerts", "alertmanager"),
            alert(self.webhook.port, "hook", "json"),
            service("web", self.web, "", "budget = \"10000 per 1h\""),
            service("limited", self.limited, "", &format!("budget = \"{BUDGET} per {}s\"", WINDOW.as_secs())),
            service("looping", self.looping, &crash, &format!("budget = \"{LOOP_BUDGET} per 1h\"")),
            format!(
                "[[service]]\nname = \"remote\"\n[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\n\
                 interval = \"300ms\"\nfailures = 2\n",
                self.remote
            ),
        ];
        self.home.config(&services.concat())
    }

    fn start_remote(&mut self) {
        let mut command = Command::new(Victim::program());
        self.victim = Some(Running::start(command.args(["--port", &self.remote.to_string()]), Signal::KILL));
    }

    /// One life of the daemon, which ends at a random moment, with faults at random moments before that.
    fn life(&mut self, config: &str) {
        let daemon = Daemon::start(config, &[]);
        let end = Instant::now() + LIFE.mul_f64(self.random.share());
        while Instant::now() < end {
            let pause = Duration::from_millis(400).mul_f64(self.random.share());
            sleep(pause.min(end.saturating_duration_since(Instant::now())));
            self.fault();
        }
        daemon.signal(Signal::KILL);
        let mut daemon = daemon;
        daemon.wait(LONG);
        self.events.extend(daemon.events());
    }

    fn fault(&mut self) {
        let fault = ["/segv", "/abort", "/exit?code=3", "/exit?code=0", "/fail"][self.random.below(5)];
        let hit = |port: u16| {
            // It may be down already.
            let _ = http::get(port, fault);
        };
        match self.random.below(5) {
            0 => hit(self.web),
            1 => hit(self.limited),
            2 if self.victim.is_some() => self.victim = None,
            2 => self.start_remote(),
            _ => return,
        }
        self.faults += 1;
    }

    /// All faults end, and the daemon lives on until all is well. Returns what is not.
    fn last_life(&mut self, config: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        fs::remove_file(self.crash_file()).expect("it is there");
        if self.victim.is_none() {
            self.start_remote();
        }
        let mut daemon = Daemon::start(config, &[]);
        daemon.ready();
        // Their crash loops have long back-offs.
        for service in ["looping", "limited", "web"] {
            self.home.order(&["start", service]);
        }
        let is_well = || {
            let active = http::get(self.alertmanager.port, "/api/v2/alerts?active=true");
            let is_empty = active.is_ok_and(|(_, body)| body.trim() == "[]");
            is_empty && self.home_is_well() && self.webhook.firing().is_empty()
        };
        let deadline = Instant::now() + LONG;
        let mut was_well = is_well();
        while !was_well && Instant::now() < deadline {
            sleep(Duration::from_millis(100));
            was_well = is_well();
        }
        if !was_well {
            let active =
                http::get(self.alertmanager.port, "/api/v2/alerts?active=true").map(|(_, body)| body);
            wrong.push(format!(
                "after {LONG:?}: Alertmanager has {active:?}, the webhook takes {:?} for open, status {}",
                self.webhook.firing(),
                self.status()
            ));
        }
        if !daemon.stop().success() {
            wrong.push(format!("the last daemon ended badly: {}", daemon.log()));
        }
        self.events.extend(daemon.events());
        wrong
    }

    fn status(&self) -> String {
        let output = self.home.order(&["status", "--json"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn home_is_well(&self) -> bool {
        let status: Value = serde_json::from_str(&self.status()).unwrap_or_default();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        !services.is_empty() && services.iter().all(|it| it["state"] == "healthy" && it["incident"].is_null())
    }

    /// When restarts of a service were requested, over all lives.
    fn restarts(&self, service: &str) -> Vec<jiff::Timestamp> {
        let requests = self.events.iter().filter(|event| is(event, "restart.request", service));
        let own = requests.filter(|event| !text(event, "restart.reason").contains("started by"));
        own.filter_map(|event| text(event, "@timestamp").parse().ok()).collect()
    }

    /// The restarts that exceed a budget over all lives. A crash loop has one more after each long back-off.
    fn budgets(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let limited = self.restarts("limited");
        for (at, first) in limited.iter().enumerate() {
            let within = |other: &&jiff::Timestamp| other.duration_since(*first).unsigned_abs() < WINDOW;
            let count = limited[at..].iter().take_while(within).count();
            if count > BUDGET {
                wrong.push(format!("limited: {count} restarts within {WINDOW:?} from {first}"));
            }
        }
        let looping = self.restarts("looping");
        if let (Some(first), Some(last)) = (looping.first(), looping.last()) {
            let took = last.duration_since(*first).unsigned_abs();
            let most = LOOP_BUDGET + 1 + (took.as_secs() / LONG_BACKOFF.as_secs()) as usize;
            if looping.len() > most {
                wrong.push(format!(
                    "looping: {} restarts within {took:?}, at most {most} are right",
                    looping.len()
                ));
            }
        }
        wrong
    }

    /// Whether each receiver got each incident and its end.
    fn told(&self, wrong: &mut Vec<String>) -> Findings {
        let of = |action: &str| -> BTreeSet<String> {
            let events = self.events.iter().filter(|event| event_action(event) == action);
            events.map(|event| text(event, "incident.id").to_owned()).collect()
        };
        let opened = of("incident.open");
        let run = |event: &Value| text(event, "agent.ephemeral_id").to_owned();
        let later = self.events.iter().filter(|event| {
            event_action(event).starts_with("incident.")
                && !text(event, "incident.id").starts_with(&run(event))
        });
        let taken_up: BTreeSet<&str> = later.map(|event| text(event, "incident.id")).collect();
        let mut delivered = BTreeMap::new();
        for (name, relay) in [("Alertmanager", &self.to_alertmanager), ("webhook", &self.webhook)] {
            let (firing, resolved) = (relay.incidents("firing"), relay.incidents("resolved"));
            let untold: Vec<&String> = opened.iter().filter(|id| !firing.contains_key(*id)).collect();
            if !untold.is_empty() {
                wrong.push(format!("{name} was not told of {untold:?}"));
            }
            let unended: Vec<&String> = firing.keys().filter(|id| !resolved.contains_key(*id)).collect();
            if !unended.is_empty() {
                wrong.push(format!("{name} was not told the end of {unended:?}"));
            }
            let all = firing.values().chain(resolved.values());
            let (count, again) = all.fold((0, 0), |(count, again), times| (count + times, again + times - 1));
            delivered.insert(name, (count, again));
        }
        Findings {
            kills: 0,
            faults: self.faults,
            opened: opened.len(),
            taken_up: taken_up.len(),
            delivered,
            restarts: ["web", "limited", "looping"].iter().map(|name| self.restarts(name).len()).sum(),
            wrong: Vec::new(),
        }
    }
}
