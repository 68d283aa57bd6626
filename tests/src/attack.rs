//! Hostile surroundings: what clients, servers, files and other users' processes can do to a daemon, while a neighbour is
//! killed again and again and has to be restarted each time.

mod clients;
mod files;
mod plan;
mod processes;
mod reader;
mod receivers;
mod servers;
mod services;
mod stream;

use std::{
    any::Any,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use self::{
    plan::{LONG, Plan, Scene},
    reader::BlockedReader,
};
use crate::{
    daemon::{Daemon, field},
    http::{self, free_port},
    incident_events::{IncidentEvents, is},
    process::{cpu_time, kill, peak_resident, until, with_argument},
    supervised::Supervised,
};

/// Between two deaths of the neighbour.
const PAUSE: Duration = Duration::from_millis(50);

/// One kind of hostile surroundings.
pub struct Attack {
    pub name: &'static str,
    /// What it does, in a sentence.
    pub what: &'static str,
    plan: fn(&Scene) -> Result<Plan>,
}

pub const ATTACKS: &[Attack] = &[
    Attack { name: "quiet", what: "nothing", plan: |_| Ok(Plan::default()) },
    Attack {
        name: "half-sent requests",
        what: "1,500 connections to the page with half a head each, and new ones all the time",
        plan: clients::half_sent,
    },
    Attack {
        name: "requests without end",
        what: "32 clients of the page that ask for the metrics and the status as fast as they are answered",
        plan: clients::requests,
    },
    Attack {
        name: "clients that do not read",
        what: "64 clients each of the page and of the control socket that ask and never read",
        plan: clients::mute,
    },
    Attack {
        name: "files",
        what: "pidfiles and outputs that are a FIFO, a link to /dev/zero, a sparse file of 3 GB, a folder, a socket, a \
               terminal, or change between these all the time; a file system that does not answer",
        plan: files::paths,
    },
    Attack {
        name: "PostgreSQL servers",
        what: "messages of 2 GB, notices, parameters, rows and errors without end",
        plan: |_| servers::of("postgres"),
    },
    Attack {
        name: "MySQL servers",
        what: "packets of 16 MB, logins, columns and rows without end",
        plan: |_| servers::of("mysql"),
    },
    Attack {
        name: "Redis servers",
        what: "replies of 2 GB, nested ones, errors of 400 KB that repeat the password and control a terminal",
        plan: |_| servers::of("redis"),
    },
    Attack {
        name: "HTTP servers",
        what: "interim responses, headers, bodies and chunks of 2⁶⁴ bytes without end; redirects to themselves; TLS that \
               never ends its handshake",
        plan: |_| servers::of("http"),
    },
    Attack {
        name: "servers that drip",
        what: "three of each of these, a byte each millisecond",
        plan: |_| servers::dripping(),
    },
    Attack {
        name: "alert receivers",
        what: "receivers that never answer, drip, redirect, and send interim responses, headers and bodies without end",
        plan: |_| receivers::hostile(),
    },
    Attack {
        name: "connections",
        what: "35,000 open connections of another user",
        plan: |_| Ok(Plan::begin(|_| processes::connections())),
    },
    Attack {
        name: "listeners",
        what: "listeners that come and go, and refused connections, as fast as two threads can",
        plan: |_| Ok(Plan::begin(|_| Ok(processes::listeners()))),
    },
    Attack {
        name: "forks",
        what: "another user's processes that fork, exit and execute as fast as they can",
        plan: |_| Ok(Plan::begin(|_| Ok(processes::forks()))),
    },
    Attack {
        name: "deaths by signal",
        what: "another user's processes that die by signals, under a name that controls a terminal",
        plan: |scene| processes::deaths(scene.folder),
    },
    Attack {
        name: "command lines",
        what: "another user's processes with arguments of 1.8 MB that die, and ones that change their arguments all the time",
        plan: |_| Ok(Plan::begin(|_| Ok(processes::command_lines()))),
    },
    Attack {
        name: "cgroups",
        what: "cgroups that come and go under names that control a terminal",
        plan: |_| Ok(Plan::begin(|_| Ok(processes::cgroups()))),
    },
    Attack {
        name: "a service's workers",
        what: "a service whose children die by signals as fast as it can make them",
        plan: |_| Ok(services::workers()),
    },
    Attack {
        name: "a service's listeners",
        what: "a service whose listeners come and go as fast as it can",
        plan: |_| Ok(services::listeners()),
    },
    Attack {
        name: "a service's stops",
        what: "a service that is stopped and continued as fast as its user can",
        plan: |_| Ok(services::stops()),
    },
    Attack {
        name: "kernel log",
        what: "lines in the kernel's log, which is read where the hook for OOM kills is missing",
        plan: |_| Ok(processes::kernel_log()),
    },
    Attack {
        name: "a blocked reader",
        what: "the reader of the stream does not read, and 40,000 processes die",
        plan: |scene| stream::blocked(scene.folder),
    },
];

/// Begins what an attack of this name does to a daemon whose page is on this port. It lasts until the result is dropped.
///
/// # Panics
/// If there is no such attack, or it takes a configuration of its own.
pub fn begin(name: &str, page: u16, folder: &Path, daemon: &Daemon) -> Result<Vec<Box<dyn Any>>> {
    let attack = ATTACKS.iter().find(|attack| attack.name == name).expect("an attack of this name");
    let plan = (attack.plan)(&Scene { folder, page })?;
    assert!(plan.config.is_empty() && plan.reader.is_none(), "{name} takes a daemon of its own");
    let mut held = plan.held;
    if let Some(begin) = plan.begin {
        held.extend(begin(daemon)?);
    }
    Ok(held)
}

/// Clients of a page and of a control socket that ask and never read, until the result is dropped.
pub fn mute(page: u16, socket: &Path) -> Result<Vec<Box<dyn Any>>> {
    clients::mute_clients(page, socket)
}

/// What came of one.
#[derive(Debug, Default)]
pub struct Outcome {
    /// From each death of the neighbour to its detection.
    pub detected_ns: Vec<f64>,
    /// The greatest resident memory of the daemon, bytes.
    pub resident: f64,
    /// Its CPU time during the deaths, in percent of one core.
    pub cpu_percent: f64,
    /// Lines of its stream and of its log in a second.
    pub lines_per_second: f64,
}

/// Kills the neighbour at least so many times amid an attack, and for at least so long.
///
/// # Panics
/// If the neighbour is not restarted, or an event is not as its schema says.
pub fn run(attack: &Attack, kills: usize, least: Duration) -> Result<Outcome> {
    let folder = TempDir::new()?;
    let (service, page) = (Supervised::new(), free_port());
    let Plan { config, arguments, held, begin, reader } =
        (attack.plan)(&Scene { folder: folder.path(), page })?;
    let settings = "interval = \"1s\"\n[service.restart]\nbudget = \"1000 per 1h\"\n\
                    [restart]\nbudget = \"100000 per 1h\"\n";
    let own = service.config(settings).replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let config = own + &config;
    let daemon = match &reader {
        None => Daemon::start(&config, &arguments),
        Some(_) => Daemon::start_to_file(&config, &arguments),
    };
    let mut neighbour = Neighbour { service, daemon, page, reader };
    neighbour.until_healthy();
    let _held = (held, begin.map(|begin| begin(&neighbour.daemon)).transpose()?);

    let pid = neighbour.daemon.pid();
    let (began, lines_before, cpu_before) = (Instant::now(), neighbour.lines(), cpu_time(pid)?);
    let mut detected_ns = Vec::new();
    for killed in 0.. {
        if killed >= kills && began.elapsed() >= least {
            break;
        }
        detected_ns.extend(neighbour.dies_and_recovers());
        thread::sleep(PAUSE);
    }
    let took = began.elapsed();
    let cpu = cpu_time(pid)?.saturating_sub(cpu_before);
    let lines = neighbour.lines().saturating_sub(lines_before);
    let resident = peak_resident(pid) as f64;
    if neighbour.reader.is_some() {
        detected_ns = neighbour.detected_by_its_stream()?;
        ensure!(detected_ns.len() >= kills, "the stream has lost deaths of the neighbour");
    }
    Ok(Outcome {
        detected_ns,
        resident,
        cpu_percent: cpu as f64 / took.as_nanos() as f64 * 100.0,
        lines_per_second: lines as f64 / took.as_secs_f64(),
    })
}

/// The service that is killed, and the daemon that restarts it.
struct Neighbour {
    service: Supervised,
    daemon: Daemon,
    page: u16,
    reader: Option<BlockedReader>,
}

impl Neighbour {
    fn until_healthy(&self) {
        if self.reader.is_none() {
            self.daemon.ready();
            self.service.until_healthy(&self.daemon);
        } else {
            // The status of the answer is 200 for a service that is starting as well.
            until("the daemon finds its service healthy", LONG, || {
                let (_, page) = http::get(self.page, "/health").ok()?;
                let health: Value = serde_json::from_str(&page).ok()?;
                (health["checks"][self.service.name.as_str()]["status"] == "healthy").then_some(())
            });
        }
    }

    /// Kills it and waits until it is healthy again: the time from its death to the detection, as far as the stream
    /// says so at once.
    fn dies_and_recovers(&self) -> Option<f64> {
        if self.reader.is_none() {
            let mark = self.daemon.mark();
            self.service.kill(&self.daemon);
            let events = IncidentEvents::of(&self.daemon, mark, &self.service.name);
            return Some(events.millis("detected") * 1e6);
        }
        let port = self.service.port.to_string();
        let pid = || with_argument(&port).into_iter().next();
        let before = until("the service runs", LONG, pid);
        kill(before);
        until("the service runs again", LONG, || pid().filter(|now| *now != before));
        self.until_healthy();
        None
    }

    fn lines(&self) -> usize {
        self.daemon.lines().len() + self.daemon.log().lines().count()
    }

    /// Ends the daemon, and reads what its stream has of the deaths.
    fn detected_by_its_stream(&mut self) -> Result<Vec<f64>> {
        let reader = self.reader.take().context("no reader")?;
        let events = reader.read_until_the_end_of(&mut self.daemon)?;
        let resolved = events.iter().filter(|event| is(event, "incident.resolve", &self.service.name));
        let detected = resolved.filter_map(|event| field(event, "incident.timing.detected_ms")?.as_f64());
        Ok(detected.map(|millis| millis * 1e6).collect())
    }
}
