//! Load around the daemon: processes, cgroups, listeners and connections, as fast as they come.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup, lineage::Lineage, process::with_argument};

/// How often a service is killed.
const KILL_EVERY: Duration = Duration::from_millis(300);

/// How often the children of a service are made in hundreds.
const ROUND: Duration = Duration::from_secs(1);

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Counts {
    /// Programs that unwatched processes executed.
    pub execs: AtomicU64,
    /// Those that died by a signal.
    pub deaths: AtomicU64,
    /// Children of the service, orphans among them.
    pub children: AtomicU64,
    /// Cgroups made and removed.
    pub cgroups: AtomicU64,
    /// Connections refused, and listeners that came and went.
    pub sockets: AtomicU64,
    /// Kills of the other service's main process.
    pub kills: AtomicU64,
}

/// All of it at work, until it is stopped.
#[derive(Debug)]
pub struct Churn {
    stop: Arc<AtomicBool>,
    /// What has happened.
    pub counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Churn {
    /// Begins, with a service that makes children and one that is found by an argument and killed.
    pub fn start(lineage: &Arc<Lineage>, victim: u16) -> Self {
        let (stop, counts) = (Arc::<AtomicBool>::default(), Arc::<Counts>::default());
        let lineage = |work: fn(&Lineage, &Counts)| {
            let lineage = Arc::clone(lineage);
            move |counts: &Counts| work(&lineage, counts)
        };
        let run = |work: Box<dyn FnMut(&Counts) + Send>| {
            let (stop, counts) = (Arc::clone(&stop), Arc::clone(&counts));
            let mut work = work;
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work(&counts);
                }
            })
        };
        let groups = cgroup::telling();
        let threads = vec![
            run(Box::new(unwatched_programs)),
            run(Box::new(lineage(children))),
            run(Box::new(move |counts| groups.iter().for_each(|mount| container(mount, counts)))),
            run(Box::new(move |counts| kill_main(victim, counts))),
        ];
        Self { stop, counts, threads }
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Programs that end well, badly, and by a signal.
fn unwatched_programs(counts: &Counts) {
    for _ in 0..20 {
        let _ = quiet(&mut Command::new("/bin/true"));
    }
    let _ = quiet(Command::new("/bin/sh").args(["-c", "exit 3"]));
    let _ = quiet(Command::new("/bin/sh").args(["-c", "kill -KILL $$"]));
    counts.execs.fetch_add(22, Ordering::Relaxed);
    counts.deaths.fetch_add(1, Ordering::Relaxed);
}

fn quiet(command: &mut Command) -> io::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().map(|_| ())
}

/// Hundreds of children and an orphan; connections that are refused and listeners that go again.
fn children(lineage: &Lineage, counts: &Counts) {
    let begun = Instant::now();
    lineage.request("many 200");
    let orphan = lineage.spawn("orphan");
    kill(orphan, Signal::KILL);
    counts.children.fetch_add(201, Ordering::Relaxed);
    lineage.request("sockets 50");
    counts.sockets.fetch_add(100, Ordering::Relaxed);
    thread::park_timeout(ROUND.saturating_sub(begun.elapsed()));
}

/// A container's cgroup with a process that is killed in it.
fn container(mount: &Path, counts: &Counts) {
    let number = counts.cgroups.fetch_add(1, Ordering::Relaxed);
    let folder = mount.join(format!("docker-{:0>64x}.scope", u64::from(std::process::id()) << 32 | number));
    if fs::create_dir(&folder).is_err() {
        return;
    }
    let script = r#"echo $$ > "$0"/cgroup.procs; kill -KILL $$"#;
    let _ = quiet(Command::new("/bin/sh").args(["-c", script]).arg(&folder));
    while fs::remove_dir(&folder).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy) {
        thread::yield_now();
    }
}

/// Kills the process that was started with such a port.
fn kill_main(port: u16, counts: &Counts) {
    for pid in with_argument(&port.to_string()) {
        kill(pid, Signal::KILL);
        counts.kills.fetch_add(1, Ordering::Relaxed);
    }
    thread::park_timeout(KILL_EVERY);
}

fn kill(pid: u32, signal: Signal) {
    // One that is gone already is as good as killed.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}
