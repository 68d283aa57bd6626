//! The faults, and the services that they happen to.

use std::{fs, process::Command, sync::Mutex, thread, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use super::tools::Target;
use crate::{
    http::{self, free_port},
    loop_disk::LoopDisk,
    memcg::MemoryCgroup,
    operator::Home,
    parts::{Redis, built},
    process::{Running, until, with_argument},
    victim::Victim,
};

/// The longest wait for a process.
const LONG: Duration = Duration::from_secs(60);

/// How long an outage lasts that nothing on this host can mend.
const OUTAGE: Duration = Duration::from_secs(150);

/// A fault of the table.
#[derive(Debug)]
pub struct Fault {
    pub name: &'static str,
    /// What happens, for the page.
    pub what: &'static str,
    /// How often it happens in the week of the page.
    pub a_week: usize,
    /// Its services, also by the names that the tools have for them.
    pub services: &'static [&'static str],
    pub(super) cause: fn(&Stage, &Home),
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "crash-once",
        what: "a service crashes once (SIGSEGV)",
        a_week: 3,
        services: &["crash-once"],
        cause: |stage, _| stage.hit("crash-once", "/segv"),
    },
    Fault {
        name: "crash-loop",
        what: "a service crashes at every start for 150 s; then its operator mends and restarts it",
        a_week: 1,
        services: &["crash-loop"],
        cause: |stage, home| {
            let file = stage.folder.path().join("broken");
            fs::write(&file, "").expect("the folder can be written");
            stage.hit("crash-loop", "/segv");
            thread::sleep(OUTAGE);
            fs::remove_file(&file).expect("it is there");
            home.done(&["restart", "crash-loop"]);
        },
    },
    Fault {
        name: "hang",
        what: "a service hangs: it takes connections and does not answer",
        a_week: 1,
        services: &["hang"],
        cause: |stage, _| {
            stage.hit("hang", "/hang");
            stage.until_well("hang");
        },
    },
    Fault {
        name: "failing",
        what: "a service answers 500 until it is restarted",
        a_week: 1,
        services: &["failing"],
        cause: |stage, _| {
            stage.hit("failing", "/fail");
            stage.until_well("failing");
        },
    },
    Fault {
        name: "out-of-memory",
        what: "a service reaches the memory limit of its cgroup, and the kernel kills it",
        a_week: 1,
        services: &["out-of-memory"],
        cause: |stage, _| {
            let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
            cgroup.add(stage.pid("out-of-memory")).expect("it is moved");
            stage.hit("out-of-memory", "/alloc?mb=100");
            stage.until_well("out-of-memory");
        },
    },
    Fault {
        name: "dependency",
        what: "a Redis that nothing on this host restarts is down for 150 s, under three services that need it",
        a_week: 1,
        services: &["cache", "app-1", "app-2", "app-3"],
        cause: |stage, _| {
            *stage.redis.lock().expect("no thread panicked") = None;
            thread::sleep(OUTAGE);
            stage.start_redis();
        },
    },
    Fault {
        name: "full-disk",
        what: "a file system is full for 150 s",
        a_week: 1,
        services: &["disk", "host"],
        cause: |stage, _| {
            stage.disk.fill();
            thread::sleep(OUTAGE);
            stage.disk.make_room();
        },
    },
    Fault {
        name: "operator-stop",
        what: "an operator stops a service for 150 s by `hostprobe stop`, and silences no tool",
        a_week: 2,
        services: &["operator-stop"],
        cause: |_, home| {
            home.done(&["stop", "operator-stop"]);
            thread::sleep(OUTAGE);
            home.done(&["start", "operator-stop"]);
        },
    },
    Fault {
        name: "deployment",
        what: "a deployment restarts a service that takes 15 s to start",
        a_week: 10,
        services: &["deployment"],
        cause: |stage, home| {
            home.order(&["restart", "deployment"]);
            stage.until_well("deployment");
        },
    },
    Fault {
        name: "slow",
        what: "a service takes 3 s to answer for 150 s",
        a_week: 3,
        services: &["slow"],
        cause: |stage, _| {
            stage.hit("slow", "/slow?ms=3000");
            thread::sleep(OUTAGE);
            stage.hit("slow", "/slow?ms=0");
        },
    },
    Fault {
        name: "flapping",
        what: "a service crashes five times, every 30 s",
        a_week: 1,
        services: &["flapping"],
        cause: |stage, _| {
            for _ in 0..5 {
                stage.until_well("flapping");
                stage.hit("flapping", "/segv");
                thread::sleep(Duration::from_secs(30));
            }
        },
    },
];

/// The services that are victims, and the further arguments of some.
const VICTIMS: [&str; 9] = [
    "crash-once",
    "crash-loop",
    "hang",
    "failing",
    "out-of-memory",
    "operator-stop",
    "deployment",
    "slow",
    "flapping",
];

const APPS: [&str; 3] = ["app-1", "app-2", "app-3"];

/// All services, on ports of their own.
pub(super) struct Stage {
    folder: TempDir,
    victims: Vec<(&'static str, u16)>,
    apps: Vec<(&'static str, u16)>,
    redis_port: u16,
    redis: Mutex<Option<Running>>,
    disk: LoopDisk,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        let disk = LoopDisk::new(32, &[]).context("a file system on a loop device is needed")?;
        let stage = Self {
            folder: TempDir::new()?,
            victims: VICTIMS.map(|name| (name, free_port())).to_vec(),
            apps: APPS.map(|name| (name, free_port())).to_vec(),
            redis_port: free_port(),
            redis: Mutex::new(None),
            disk,
        };
        stage.start_redis();
        Ok(stage)
    }

    fn start_redis(&self) {
        let command = Redis::command(self.redis_port, self.folder.path());
        let mut process = Command::new(&command[0]);
        let process = Running::start(process.args(&command[1..]), Signal::KILL);
        process.wait_until_it_says("Ready to accept connections", &process.stdout, LONG);
        *self.redis.lock().expect("no thread panicked") = Some(process);
    }

    /// The services that hostprobe starts.
    pub(super) fn supervised(&self) -> impl Iterator<Item = &'static str> {
        self.victims.iter().chain(&self.apps).map(|(name, _)| *name)
    }

    /// The mount point of the file system that becomes full.
    pub(super) fn disk(&self) -> String {
        self.disk.path().display().to_string()
    }

    fn port(&self, name: &str) -> u16 {
        let found = self.victims.iter().find(|(victim, _)| *victim == name);
        found.map(|(_, port)| *port).expect("a victim of this name")
    }

    fn pid(&self, name: &str) -> u32 {
        let port = self.port(name).to_string();
        until("its process", LONG, || with_argument(&port).first().copied())
    }

    /// Asks a victim for a fault.
    fn hit(&self, name: &str, path: &str) {
        // The fault may cut the answer short.
        let _ = http::get(self.port(name), path);
    }

    fn until_well(&self, name: &str) {
        let port = self.port(name);
        let well = || http::get(port, "/health").is_ok_and(|(status, _)| status == 200).then_some(());
        until("it is well again", LONG * 5, well);
    }

    /// hostprobe's services, with the default times of probes and restarts.
    pub(super) fn services(&self) -> String {
        let folder = self.folder.path();
        let mut text = format!(
            "[[service]]\nname = \"cache\"\n[[service.probe]]\nredis = \"redis://127.0.0.1:{}\"\n",
            self.redis_port
        );
        let mut service = |name: &str, command: &[String], port: u16, keys: &str, probe: &str| {
            text += &format!(
                "[[service]]\nname = \"{name}\"\nexec = {command:?}\noutput = {:?}\n{keys}\n[[service.probe]]\n\
                 http = \"http://127.0.0.1:{port}/health\"\n{probe}\n",
                folder.join(format!("{name}.output"))
            );
        };
        for (name, port) in &self.victims {
            let mut command =
                vec![Victim::program().display().to_string(), "--port".to_owned(), port.to_string()];
            if *name == "crash-loop" {
                command.extend(["--crash-if".to_owned(), folder.join("broken").display().to_string()]);
            }
            if *name == "deployment" {
                command.extend(["--start-delay-ms", "15000"].map(str::to_owned));
            }
            service(name, &command, *port, "", if *name == "slow" { "slow = \"2s\"" } else { "" });
        }
        for (name, port) in &self.apps {
            let numbers =
                ["--port", &port.to_string(), "--redis", &self.redis_port.to_string()].map(str::to_owned);
            let command = [&[built("app").display().to_string()][..], &numbers[..]].concat();
            service(name, &command, *port, "depends_on = [\"cache\"]", "");
        }
        text
    }

    /// The same for Monit, as its manual checks servers and file systems.
    pub(super) fn monit_checks(&self) -> String {
        let mut text = format!(
            "check host cache with address 127.0.0.1\n  if failed port {} protocol redis then alert\n\
             check filesystem disk with path {}\n  if space usage > 90% then alert\n",
            self.redis_port,
            self.disk.path().display()
        );
        for (name, port) in self.victims.iter().chain(&self.apps) {
            text += &format!(
                "check host {name} with address 127.0.0.1\n  \
                 if failed port {port} protocol http request \"/health\" then alert\n"
            );
        }
        text
    }

    pub(super) fn targets(&self) -> Vec<Target> {
        let http = |(service, port): &(&'static str, u16)| Target {
            service,
            module: "http_2xx",
            address: format!("http://127.0.0.1:{port}/health"),
        };
        let mut targets: Vec<Target> = self.victims.iter().chain(&self.apps).map(http).collect();
        let address = format!("127.0.0.1:{}", self.redis_port);
        targets.push(Target { service: "cache", module: "tcp_connect", address });
        targets
    }
}
