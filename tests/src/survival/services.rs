//! The daemon is killed again and again while its services under `exec` are well: none of them restarts, and none misses
//! a request. One that ends while no daemon runs is started again by the next.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::random::Random;
use crate::{
    daemon::{Daemon, event_action},
    http::{self, free_port},
    incident_events::{is, text},
    leftovers::Leftovers,
    operator::{Home, becomes},
    process::{kill, lives, with_argument},
    victim::Victim,
};

/// The longest life of a daemon; its kill is at a random moment of it, also before it is ready.
const LIFE: Duration = Duration::from_millis(1500);

/// After so many kills, a service is killed as well while no daemon runs.
const EVERY: u32 = 8;

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(5);

/// Far more than the last recovery takes.
const LONG: Duration = Duration::from_secs(60);

/// The services that stay well; the second one writes to a pipe.
const WELL: [&str; 2] = ["plain", "stamped"];
const MORTAL: &str = "mortal";

/// What a run has shown.
#[derive(Debug, Default)]
pub struct Findings {
    pub kills: u32,
    /// Requests to the services that stay well.
    pub requests: u64,
    pub failed: u64,
    /// How often a service ended while no daemon ran, and the incidents of that.
    pub deaths: u32,
    pub incidents: usize,
    /// What was wrong; empty if nothing was.
    pub wrong: Vec<String>,
}

struct Lab {
    home: Home,
    folder: TempDir,
    ports: Vec<(&'static str, u16)>,
    _leftovers: Vec<Leftovers>,
    random: Random,
    events: Vec<Value>,
}

/// Kills the daemon so many times.
pub fn run(kills: u32, seed: u64) -> Findings {
    let ports: Vec<_> = WELL.into_iter().chain([MORTAL]).map(|name| (name, free_port())).collect();
    let mut lab = Lab {
        home: Home::new(),
        folder: TempDir::new().expect("a temporary folder"),
        _leftovers: ports.iter().map(|(_, port)| Leftovers(port.to_string())).collect(),
        ports,
        random: Random(seed),
        events: Vec::new(),
    };
    let mut found = Findings { kills, ..Findings::default() };
    let config = lab.config("leave");
    let first = Daemon::start(&config, &[]);
    for (name, _) in &lab.ports {
        first.wait_for(becomes(name, "healthy"), LONG);
    }
    let well: Vec<(u16, u32)> = WELL.iter().map(|name| (lab.port(name), lab.pid(name))).collect();
    let clients = Clients::start(well.iter().map(|(port, _)| *port));
    lab.end(first);
    for life in 1..kills {
        if life % EVERY == 0 && lives(lab.pid(MORTAL)) {
            kill(lab.pid(MORTAL));
            found.deaths += 1;
        }
        let daemon = Daemon::start(&config, &[]);
        if life % EVERY == 1 {
            // The death before is healed.
            daemon.wait_for(becomes(MORTAL, "healthy"), LONG);
        }
        sleep(LIFE.mul_f64(lab.random.share()));
        let log = lab.end(daemon);
        for (port, pid) in &well {
            let now = with_argument(&port.to_string());
            if now != [*pid] {
                found
                    .wrong
                    .push(format!("life {life}, port {port}: served by {now:?}, not by pid {pid}:\n{log}"));
            }
        }
        if !found.wrong.is_empty() {
            break;
        }
    }
    let mut last = Daemon::start(&lab.config("stop"), &[]);
    for (name, _) in &lab.ports {
        last.wait_for(becomes(name, "healthy"), LONG);
    }
    (found.requests, found.failed) = clients.stop();
    if !last.stop().success() {
        found.wrong.push(format!("the last daemon ended badly: {}", last.log()));
    }
    lab.events.extend(last.events());
    lab.judge(&mut found);
    found
}

impl Lab {
    fn config(&self, on_exit: &str) -> String {
        let program = Victim::program().display().to_string();
        let service = |(name, port): &(&str, u16)| {
            let output = self.folder.path().join(name).display().to_string();
            let stamp = *name == WELL[1];
            format!(
                "[[service]]\nname = {name:?}\nexec = [{program:?}, \"--port\", \"{port}\"]\noutput = {output:?}\n\
                 output_stamp = {stamp}\n[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\n\
                 interval = \"300ms\"\n[service.restart]\nbudget = \"10000 per 1h\"\nbackoff = \"10ms..200ms\"\n"
            )
        };
        let services: String = self.ports.iter().map(service).collect();
        let all = "[restart]\nbudget = \"100000 per 1h\"\n";
        self.home.config(&format!("{all}[supervisor]\non_exit = {on_exit:?}\n{services}"))
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(known, _)| *known == name).expect("a service").1
    }

    /// The process of a service; 0 if it has none or several.
    fn pid(&self, name: &str) -> u32 {
        let pids = with_argument(&self.port(name).to_string());
        if let [pid] = pids[..] { pid } else { 0 }
    }

    /// Kills a daemon, and returns its log.
    fn end(&mut self, mut daemon: Daemon) -> String {
        daemon.signal(Signal::KILL);
        daemon.wait(LONG);
        self.events.extend(daemon.events());
        daemon.log()
    }

    fn judge(&self, found: &mut Findings) {
        for name in WELL {
            let troubles = self.events.iter().filter(|event| {
                let action = event_action(event);
                (action.starts_with("incident.") || action.starts_with("restart.")) && is(event, action, name)
            });
            found.wrong.extend(troubles.map(|event| format!("{name}: {}", text(event, "message"))));
        }
        if found.failed > 0 {
            found.wrong.push(format!("{} of {} requests failed", found.failed, found.requests));
        }
        let told = self.events.iter().filter(|event| {
            let action = event_action(event);
            action.starts_with("incident.") && is(event, action, MORTAL)
        });
        found.incidents = told.map(|event| text(event, "incident.id")).collect::<BTreeSet<_>>().len();
        if found.incidents != found.deaths as usize {
            found.wrong.push(format!("{} deaths, and {} incidents", found.deaths, found.incidents));
        }
    }
}

/// Clients that ask again as soon as they have their answer.
struct Clients {
    ends: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 2]>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    fn start(ports: impl Iterator<Item = u16>) -> Self {
        let (ends, counts) = (Arc::new(AtomicBool::new(false)), Arc::<[AtomicU64; 2]>::default());
        let client = |port: u16| {
            let (ends, counts) = (Arc::clone(&ends), Arc::clone(&counts));
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    let is_good = http::get(port, "/health").is_ok_and(|(status, _)| status == 200);
                    counts[0].fetch_add(1, Ordering::Relaxed);
                    counts[1].fetch_add(u64::from(!is_good), Ordering::Relaxed);
                    sleep(PAUSE);
                }
            })
        };
        let threads = ports.map(client).collect();
        Self { ends, counts, threads }
    }

    /// Ends them: all requests, and those that failed.
    fn stop(self) -> (u64, u64) {
        self.ends.store(true, Ordering::Relaxed);
        for client in self.threads {
            client.join().expect("a client does not panic");
        }
        let count = |at: usize| self.counts[at].load(Ordering::Relaxed);
        (count(0), count(1))
    }
}
