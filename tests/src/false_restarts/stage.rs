//! The services of all tools: one for each tool and trouble, on a port of its own.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    trouble::{Program, TOOLS, TROUBLES, Tool, Trouble, until},
    watch::Watch,
};
use crate::{
    http::{self, free_port},
    leftovers::Leftovers,
    parts::{Redis, built, require},
    process::{Running, with_argument},
    victim::Victim,
};

/// The longest that a tool may take until a service serves again.
const LONG: Duration = Duration::from_secs(240);

/// A Redis that no tool restarts, under the services of all of them.
pub(super) struct Dependency {
    port: u16,
    process: Mutex<Option<Running>>,
}

pub(super) struct Stage {
    folder: TempDir,
    ports: BTreeMap<(&'static str, Tool), u16>,
    dependencies: BTreeMap<&'static str, Dependency>,
    watch: Watch,
    /// The last to go: what the tools have left.
    _leftovers: Vec<Leftovers>,
}

impl Stage {
    pub(super) fn new() -> Result<Self> {
        ensure!(require("redis-server", Redis::PROGRAM), "redis-server is missing");
        let folder = TempDir::new()?;
        let all = TROUBLES.iter().flat_map(|trouble| TOOLS.map(|tool| (trouble.name, tool)));
        let ports: BTreeMap<_, _> = all.map(|key| (key, free_port())).collect();
        let mut dependencies = BTreeMap::new();
        for trouble in TROUBLES.iter().filter(|trouble| trouble.program == Program::App) {
            dependencies.insert(trouble.name, Dependency { port: free_port(), process: Mutex::new(None) });
        }
        let stage = Self {
            folder,
            watch: Watch::start(ports.values().copied().collect()),
            _leftovers: ports.values().map(|port| Leftovers(port.to_string())).collect(),
            ports,
            dependencies,
        };
        TROUBLES.iter().for_each(|trouble| stage.start_dependency(trouble));
        Ok(stage)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn port(&self, trouble: &Trouble, tool: Tool) -> u16 {
        self.ports[&(trouble.name, tool)]
    }

    /// The command of a tool's service.
    pub(super) fn command(&self, trouble: &Trouble, tool: Tool) -> Vec<String> {
        let port = self.port(trouble, tool).to_string();
        let (program, more) = match trouble.program {
            Program::Victim => (Victim::program(), Vec::new()),
            Program::StartsSlowly => {
                (Victim::program(), vec!["--start-delay-ms".to_owned(), "15000".to_owned()])
            }
            Program::App => {
                let redis = self.dependencies[trouble.name].port.to_string();
                (built("app"), vec!["--redis".to_owned(), redis])
            }
        };
        [vec![program.display().to_string(), "--port".to_owned(), port], more].concat()
    }

    /// What the services depend on, as remote services of hostprobe: it learns by itself what needs them.
    pub(super) fn remote_services(&self) -> String {
        let service = |(name, dependency): (&&str, &Dependency)| {
            format!(
                "[[service]]\nname = \"{name}-cache\"\n[[service.probe]]\nredis = \"redis://127.0.0.1:{}\"\n",
                dependency.port
            )
        };
        self.dependencies.iter().map(service).collect()
    }

    /// Runs what a trouble's services depend on.
    pub(super) fn start_dependency(&self, trouble: &Trouble) {
        let Some(dependency) = self.dependencies.get(trouble.name) else { return };
        let command = Redis::command(dependency.port, self.folder.path());
        let mut process = Command::new(&command[0]);
        let process = Running::start(process.args(&command[1..]), Signal::KILL);
        process.wait_until_it_says("Ready to accept connections", &process.stdout, LONG);
        *dependency.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }

    pub(super) fn end_dependency(&self, trouble: &Trouble) {
        *self.dependencies[trouble.name].process.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Sends a signal to what a trouble's services depend on.
    pub(super) fn signal_dependency(&self, trouble: &Trouble, signal: Signal) {
        let process = self.dependencies[trouble.name].process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(process) = process.as_ref() {
            process.signal(signal);
        }
    }

    /// Asks the services of all tools for something.
    pub(super) fn ask(&self, trouble: &Trouble, path: &str) {
        for tool in TOOLS {
            // A restart may be under way, and the answer may be cut short.
            let _ = http::get(self.port(trouble, tool), path);
        }
    }

    /// The present processes of a trouble's services.
    pub(super) fn pids(&self, trouble: &Trouble) -> Vec<u32> {
        TOOLS
            .iter()
            .filter_map(|tool| with_argument(&self.port(trouble, *tool).to_string()).first().copied())
            .collect()
    }

    /// How many processes each tool's service has had so far.
    pub(super) fn served(&self, trouble: &Trouble) -> BTreeMap<Tool, usize> {
        TOOLS.iter().map(|tool| (*tool, self.watch.processes(self.port(trouble, *tool)))).collect()
    }

    pub(super) fn until_serves(&self, trouble: &Trouble, tool: Tool) -> Result<()> {
        let port = self.port(trouble, tool);
        let serves = || http::get(port, "/health").is_ok_and(|(status, _)| status == 200);
        until(&format!("{} serves under {}", trouble.name, tool.name()), LONG, serves)
    }

    pub(super) fn until_all_serve(&self) -> Result<()> {
        for trouble in TROUBLES {
            for tool in TOOLS {
                self.until_serves(trouble, tool)?;
            }
        }
        Ok(())
    }
}
