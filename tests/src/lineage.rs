//! The service whose processes daemonize, reparent and move (`src/bin/lineage.rs`), and daemons that watch it.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    daemon::{Daemon, field},
    http::free_port,
    incident_events::{is, number, text},
    parts::built,
    process::{Running, until},
};

/// Far more than anything here takes: reaching it is a failure.
pub const LONG: Duration = Duration::from_secs(60);

/// A program that forks, execs and renames itself on request.
#[derive(Debug)]
pub struct Lineage {
    /// The loopback port that takes its requests.
    pub port: u16,
    /// A link to the program of its own, so that its path names no other.
    pub program: PathBuf,
    folder: TempDir,
}

impl Default for Lineage {
    fn default() -> Self {
        Self::new()
    }
}

impl Lineage {
    /// Links the program and chooses a port; starts nothing.
    ///
    /// # Panics
    /// If the program is not built or cannot be copied.
    pub fn new() -> Self {
        let (original, port) = (built("lineage"), free_port());
        // A link, as a copy cannot be executed while a child of another test still has it open for writing.
        let beside = original.parent().expect("a program lies in a folder");
        let folder = TempDir::new_in(beside).expect("a temporary folder");
        let program = folder.path().join(format!("lineage-{port}"));
        fs::hard_link(&original, &program).expect("it is linked");
        Self { port, program, folder }
    }

    /// A folder of its own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where its pidfile is.
    pub fn pidfile(&self) -> PathBuf {
        self.folder().join("pid")
    }

    /// The command that starts it.
    pub fn command(&self, options: &[&str]) -> Vec<String> {
        let (program, port) = (self.program.display().to_string(), self.port.to_string());
        let words = [program.as_str(), "--port", &port].into_iter().chain(options.iter().copied());
        words.map(str::to_owned).collect()
    }

    /// Starts it and waits until it listens.
    pub fn start(&self, options: &[&str]) -> Running {
        let command = self.command(options);
        let running = Running::start(Command::new(&command[0]).args(&command[1..]), Signal::KILL);
        running.wait_until_it_says("listening on", &running.stdout, LONG);
        running
    }

    /// Its service in a configuration; `what` is the matcher, such as `match = { port = 80 }`.
    pub fn service(&self, name: &str, what: &str) -> String {
        format!("[[service]]\nname = {name:?}\n{what}\n")
    }

    /// Sends it one request line; its answer.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn request(&self, what: &str) -> String {
        let connected = || TcpStream::connect(("127.0.0.1", self.port)).ok();
        let mut stream = until("it listens", LONG, connected);
        stream.set_read_timeout(Some(LONG)).expect("a timeout is set");
        writeln!(stream, "{what}").expect("it hears");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("it answers");
        answer.trim().to_owned()
    }

    /// Sends it a request that forks a process; the pid of that process.
    ///
    /// # Panics
    /// If it does not say one.
    #[track_caller]
    pub fn spawn(&self, what: &str) -> u32 {
        self.request(what).parse().expect("a pid")
    }
}

/// The end of the process with this pid, from the event stream.
#[track_caller]
pub fn exit_of(daemon: &Daemon, pid: u32) -> Value {
    let ended = |event: &Value| text(event, "event.action") == "process.exit";
    daemon.wait_for(|event| ended(event) && number(event, "process.pid") == Some(pid.into()), LONG)
}

/// Whose process an event says it was, and whether the main one.
pub fn owner(event: &Value) -> (&str, Option<bool>) {
    (text(event, "service.name"), field(event, "service.main_process").and_then(Value::as_bool))
}

/// Waits until a service's process listens, and returns that one's pid.
#[track_caller]
pub fn listening(daemon: &Daemon, service: &str, port: u16) -> u32 {
    let event = daemon.wait_for(
        |event| is(event, "listener.up", service) && number(event, "server.port") == Some(port.into()),
        LONG,
    );
    number(&event, "process.pid").and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

/// Waits for the verdict of a service's first incident.
#[track_caller]
pub fn verdict(daemon: &Daemon, service: &str) -> String {
    let opened = daemon.wait_for(|event| is(event, "incident.open", service), LONG);
    text(&opened, "incident.verdict").to_owned()
}
