//! Three hosts that need one Redis.

use std::time::{Duration, Instant};

use nkeys::KeyPair;
use serde_json::Value;

use super::{Host, application, can_be, make_hub, redis};
use crate::{
    daemon::{Daemon, Mark, event_action, field},
    incident_events::{is, listening_pid, text, time_of, wait_until_healthy},
    matrix::receiver::Receiver,
    network,
    parts::{built, require_root},
    process::{kill, until},
};

/// Far more than anything here takes.
pub const LONG: Duration = Duration::from_secs(60);

/// Redis on `a`, an API on `b` and a web server on `c` that need it.
#[derive(Debug)]
pub struct Lab {
    pub hosts: [Host; 3],
    pub daemons: [(Daemon, Receiver); 3],
}

impl Lab {
    /// `fleet` are the keys of each host's `[fleet]`.
    ///
    /// # Panics
    /// If a host does not start.
    pub fn start(fleet: impl Fn(&Host) -> String) -> Self {
        Self::with_pause(3, fleet)
    }

    /// The same, of hosts that sign with these keys and know those of the others.
    ///
    /// # Panics
    /// If a host does not start, or has no key among them.
    pub fn signed(keys: &[(&str, KeyPair)]) -> Self {
        let known: String = keys.iter().map(|(name, key)| format!("{name} {}\n", key.public_key())).collect();
        Self::start(|host| {
            let (_, key) = keys.iter().find(|(name, _)| *name == host.name).expect("it has a key");
            let seed = host.file("fleet.seed", &key.seed().expect("a new key has a seed"));
            let keys = host.file("fleet.keys", &known);
            format!("credentials_file = {seed:?}\nsign = true\nkeys_file = {keys:?}")
        })
    }

    /// The same, with so many seconds before a restart of Redis.
    ///
    /// # Panics
    /// If a host does not start.
    pub fn with_pause(seconds: u32, fleet: impl Fn(&Host) -> String) -> Self {
        let hosts = [Host::connect("a", 1), Host::connect("b", 2), Host::connect("c", 3)];
        let cache = &hosts[0].address;
        let slow_redis =
            redis(&hosts[0]).replace("\"/bin/sleep\", \"3\"", &format!("\"/bin/sleep\", \"{seconds}\""));
        let services =
            [slow_redis, application(&hosts[1], "api", cache), application(&hosts[2], "web", cache)];
        let mut daemons = hosts.iter().zip(services).map(|(host, services)| {
            let daemon = host.daemon(&fleet(host), &services);
            daemon.0.ready();
            daemon
        });
        let mut next = || daemons.next().expect("three hosts");
        let daemons = [next(), next(), next()];
        let lab = Self { hosts, daemons };
        for (daemon, service) in lab.services() {
            wait_until_healthy(daemon, service);
        }
        lab
    }

    pub fn services(&self) -> [(&Daemon, &'static str); 3] {
        let [(a, _), (b, _), (c, _)] = &self.daemons;
        [(a, "redis"), (b, "api"), (c, "web")]
    }

    pub fn marks(&self) -> [Mark; 3] {
        self.services().map(|(daemon, _)| daemon.mark())
    }

    /// Waits until the hosts `b` and `c` know whose the address is that their services connect to.
    pub fn know_each_other(&self) {
        for (daemon, service) in &self.services()[1..] {
            until("a dependency on another host is known", LONG, || {
                let shown = depends_on(daemon, service);
                shown.iter().any(|name| name == "redis on a").then_some(())
            });
        }
    }

    /// The alerts of each host that fire: service and verdict.
    pub fn alerts(&self) -> [Vec<(String, String)>; 3] {
        let [(_, a), (_, b), (_, c)] = &self.daemons;
        [a, b, c].map(Receiver::firing)
    }

    /// How often each service was restarted since then.
    pub fn restarts(&self, marks: [Mark; 3]) -> [usize; 3] {
        [0, 1, 2].map(|of| {
            let (daemon, service) = self.services()[of];
            daemon.since(marks[of]).iter().filter(|event| is(event, "restart.request", service)).count()
        })
    }

    /// Waits until the incidents of all services are over.
    pub fn all_resolve(&self, marks: [Mark; 3]) {
        for ((daemon, service), mark) in self.services().into_iter().zip(marks) {
            daemon.wait_for_after(mark, |event| is(event, "incident.resolve", service), LONG);
        }
    }

    /// Kills Redis, and returns when.
    pub fn kill_redis(&self) -> Instant {
        let pid = listening_pid(&self.daemons[0].0, "redis");
        let at = Instant::now();
        kill(pid);
        at
    }
}

/// What a service depends on, as `hostprobe status` shows it.
pub fn depends_on(daemon: &Daemon, service: &str) -> Vec<String> {
    let output = std::process::Command::new(built("hostprobe"))
        .args(["status", "--json", "--socket"])
        .arg(daemon.socket())
        .output()
        .expect("hostprobe runs");
    let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return Vec::new() };
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let of = services.into_iter().find(|it| it["name"] == service).unwrap_or_default();
    let names = of["depends_on"].as_array().cloned().unwrap_or_default();
    names.iter().filter_map(|it| it["service"].as_str().map(str::to_owned)).collect()
}

pub fn has_verdict<'s>(service: &'s str, verdict: &'s str) -> impl Fn(&Value) -> bool + 's {
    move |event| {
        event_action(event).starts_with("incident.")
            && text(event, "service.name") == service
            && text(event, "incident.verdict") == verdict
    }
}

pub fn held(event: &Value) -> Vec<&str> {
    let held = field(event, "incident.held").and_then(Value::as_array);
    held.into_iter().flatten().filter_map(Value::as_str).collect()
}

pub fn in_a_lab(test: fn()) {
    if require_root() && can_be() {
        network::in_its_own(move || {
            make_hub();
            test();
        });
    }
}

/// Redis is killed. Both others name it while it is down, it alone is restarted, and its alert alone is sent.
pub fn one_cause(lab: &Lab) {
    let marks = lab.marks();
    let alerts = lab.alerts();
    let killed = lab.kill_redis();
    let [(a, _), others @ ..] = lab.services();
    for ((daemon, service), mark) in others.into_iter().zip(&marks[1..]) {
        let event = daemon.wait_for_after(*mark, has_verdict(service, "dependency_down"), LONG);
        println!("{service} named the cause {:?} after the kill", killed.elapsed());
        let again = a.wait_for_after(marks[0], |event| is(event, "restart.done", "redis"), LONG);
        assert!(time_of(&event) < time_of(&again), "{event:#}");
        assert_eq!(text(&event, "incident.cause.service"), "redis on a");
        assert!(text(&event, "incident.summary").contains("(killed)"), "{event:#}");
    }
    let named = |event: &Value| {
        let mut held = held(event);
        held.sort_unstable();
        has_verdict("redis", "killed")(event) && held == ["api on b", "web on c"]
    };
    a.wait_for_after(marks[0], named, LONG);
    lab.all_resolve(marks);
    assert_eq!(lab.restarts(marks), [1, 0, 0]);
    // In a fleet that is younger than the watch of its hosts, each of them tells of a silent one, in its own time.
    let of_services = |(_, verdict): &(String, String)| verdict != "host_silent";
    let new = |of: usize| {
        let told = lab.alerts()[of].split_off(alerts[of].len());
        told.into_iter().filter(of_services).collect::<Vec<_>>()
    };
    until("the alert is there", LONG, || (!new(0).is_empty()).then_some(()));
    assert_eq!(new(0), [("redis".to_owned(), "killed".to_owned())]);
    assert_eq!((new(1), new(2)), (vec![], vec![]), "one alert in all");
}
