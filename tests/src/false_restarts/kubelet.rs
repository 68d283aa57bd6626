//! A simulation of the kubelet's liveness probes with their defaults: an HTTP probe every 10 s with 1 s to answer, and a restart
//! after three failures in a row. A container that ends is started again. There is no kubelet behind it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    stage::Stage,
    trouble::{TROUBLES, Tool},
};
use crate::process::Running;

const PERIOD: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const FAILURES: u32 = 3;

/// Between two looks at whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);

struct Container {
    command: Vec<String>,
    port: u16,
    process: Mutex<Option<Running>>,
}

impl Container {
    /// Ends it, if it runs, and starts it.
    fn restart(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // The one before frees its port first.
        *process = None;
        let mut command = Command::new(&self.command[0]);
        *process = Some(Running::start(command.args(&self.command[1..]), Signal::KILL));
    }

    fn runs(&self) -> bool {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        process.as_mut().is_some_and(Running::runs)
    }
}

/// The simulation, with its services.
pub(super) struct KubeletRules {
    containers: BTreeMap<&'static str, Arc<Container>>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl KubeletRules {
    pub(super) fn start(stage: &Stage) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (mut containers, mut threads) = (BTreeMap::new(), Vec::new());
        for trouble in TROUBLES {
            let container = Arc::new(Container {
                command: stage.command(trouble, Tool::KubeletRules),
                port: stage.port(trouble, Tool::KubeletRules),
                process: Mutex::new(None),
            });
            container.restart();
            containers.insert(trouble.name, Arc::clone(&container));
            let ends = Arc::clone(&ends);
            threads.push(thread::spawn(move || keep(&container, &ends)));
        }
        Self { containers, ends, threads }
    }

    /// A new version of a service takes the place of the one that runs.
    pub(super) fn deploy(&self, _stage: &Stage, name: &str) {
        self.containers[name].restart();
    }
}

impl Drop for KubeletRules {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Probes a container and restarts it as the rules say.
fn keep(container: &Container, ends: &AtomicBool) {
    let mut failures = 0;
    let mut next = Instant::now() + PERIOD;
    while !ends.load(Ordering::SeqCst) {
        if !container.runs() {
            container.restart();
            failures = 0;
        }
        if Instant::now() < next {
            thread::sleep(LOOK);
            continue;
        }
        next += PERIOD;
        match probe(container.port) {
            Ok(true) => failures = 0,
            Ok(false) | Err(_) => failures += 1,
        }
        if failures >= FAILURES {
            container.restart();
            failures = 0;
        }
    }
}

/// Whether a service answers in time, and with 200 to 399.
fn probe(port: u16) -> io::Result<bool> {
    let deadline = Instant::now() + TIMEOUT;
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from(io::ErrorKind::TimedOut)) } else { Ok(left) }
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut part = [0; 512];
    while answer.len() < 12 {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut part)? {
            0 => break,
            read => answer.extend_from_slice(&part[..read]),
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    Ok(status.is_some_and(|status| (200..400).contains(&status)))
}
