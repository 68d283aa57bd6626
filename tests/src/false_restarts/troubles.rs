//! The troubles. None but the controls is a fault of the service that has it.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, sleep},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{
    stage::Stage,
    tools::{TOOLS, Tools},
};
use crate::{
    cgroup::{self, Group},
    cpu::CpuCgroup,
    http,
    parts::built,
    process::{Running, lives},
    storm::{Manner, Storm},
};

/// How long most troubles last: three rounds of each tool's probes fit in.
const LASTS: Duration = Duration::from_secs(60);

/// A flood.
const FLOOD: Duration = Duration::from_secs(45);
const CLIENTS: usize = 32;

/// What has the trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Victim,
    /// It listens 15 s after its start.
    StartsSlowly,
    /// It needs a Redis of its own, which no tool restarts.
    App,
}

#[derive(Debug)]
pub struct Trouble {
    /// The name of its services.
    pub name: &'static str,
    pub what: &'static str,
    pub program: Program,
    /// A control: a fault of the service, which a restart mends.
    pub is_fault: bool,
    /// Other services feel it as well, so it has a time of its own.
    pub is_felt_by_all: bool,
    pub lasts: Duration,
    /// Restarts that an operator asks for.
    pub asked_for: usize,
    pub(super) happens: fn(&Stage, &Tools, &Trouble) -> Result<()>,
}

const NONE: Trouble = Trouble {
    name: "",
    what: "",
    program: Program::Victim,
    is_fault: false,
    is_felt_by_all: false,
    lasts: LASTS,
    asked_for: 0,
    happens: |_, _, _| Ok(()),
};

pub const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "starved",
        what: "starvation: for 60 s, its cgroup has the least weight there is beside busy processes",
        is_felt_by_all: true,
        happens: starved,
        ..NONE
    },
    Trouble {
        name: "slow-dependency",
        what: "the Redis that it needs accepts and does not answer for 60 s",
        program: Program::App,
        happens: |stage, _, trouble| {
            stage.signal_dependency(trouble, Signal::STOP);
            sleep(LASTS);
            stage.signal_dependency(trouble, Signal::CONT);
            Ok(())
        },
        ..NONE
    },
    Trouble {
        name: "dead-dependency",
        what: "the Redis that it needs is down for 60 s",
        program: Program::App,
        happens: |stage, _, trouble| {
            stage.end_dependency(trouble);
            sleep(LASTS);
            stage.start_dependency(trouble);
            Ok(())
        },
        ..NONE
    },
    Trouble {
        name: "deployment",
        what: "its operator deploys it, and it takes 15 s to start",
        program: Program::StartsSlowly,
        asked_for: 1,
        happens: |stage, tools, trouble| {
            for tool in TOOLS {
                tools.deploy(stage, trouble, tool)?;
            }
            // What served before has ended by then.
            sleep(Duration::from_secs(10));
            TOOLS.iter().try_for_each(|tool| stage.until_serves(trouble, *tool))
        },
        ..NONE
    },
    Trouble {
        name: "paused",
        what: "it is paused for 60 s, as by podman pause or for a snapshot",
        happens: paused,
        ..NONE
    },
    Trouble {
        name: "slow",
        what: "it answers in 3 s for 60 s",
        happens: |stage, _, trouble| {
            stage.ask(trouble, "/slow?ms=3000");
            sleep(LASTS);
            stage.ask(trouble, "/slow?ms=0");
            Ok(())
        },
        ..NONE
    },
    Trouble {
        name: "flooded",
        what: "a flood: 32 clients ask it as fast as it answers, for 45 s",
        is_felt_by_all: true,
        lasts: FLOOD,
        happens: flooded,
        ..NONE
    },
    Trouble {
        name: "forks",
        what: "another user's processes fork, exit and execute as fast as they can, for 45 s",
        is_felt_by_all: true,
        lasts: FLOOD,
        happens: |_, _, _| {
            let storms = [Manner::Exit, Manner::Exec].map(Storm::endless);
            storms.iter().for_each(Storm::begin);
            sleep(FLOOD);
            Ok(())
        },
        ..NONE
    },
    Trouble {
        name: "crash",
        what: "control: it crashes",
        is_fault: true,
        happens: |stage, _, trouble| {
            stage.ask(trouble, "/segv");
            sleep(LASTS);
            Ok(())
        },
        ..NONE
    },
    Trouble {
        name: "hang",
        what: "control: it hangs for good",
        is_fault: true,
        happens: |stage, _, trouble| {
            stage.ask(trouble, "/hang");
            sleep(LASTS);
            Ok(())
        },
        ..NONE
    },
];

/// The services have the least weight there is, and busy processes the usual one: other programs of the host go on.
fn starved(stage: &Stage, _: &Tools, trouble: &Trouble) -> Result<()> {
    let (little, much) = (CpuCgroup::new(2)?, CpuCgroup::new(1024)?);
    for pid in stage.pids(trouble) {
        little.add(pid)?;
    }
    let mut busy = Command::new(built("busy_loop"));
    let busy = Running::start(busy.args(["--threads", "8"]), Signal::KILL);
    much.add(busy.pid())?;
    sleep(LASTS);
    drop(busy);
    Ok(())
}

/// A service under hostprobe has a cgroup of its own; the others get one.
fn paused(stage: &Stage, _: &Tools, trouble: &Trouble) -> Result<()> {
    let mount = cgroup::hierarchies().into_iter().find(|it| it.v2).context("a mounted cgroup v2")?.mount;
    let own = cgroup::v2_of(std::process::id());
    let (mut groups, mut files) = (Vec::new(), Vec::new());
    for pid in stage.pids(trouble) {
        let mut folder = cgroup::v2_of(pid);
        if folder == own {
            let group = Group::new(&mount, &format!("hostprobe-test-paused-{pid}"));
            group.add(pid);
            folder = group.folder().to_owned();
            groups.push((pid, group));
        }
        files.push(folder.join("cgroup.freeze"));
    }
    for file in &files {
        fs::write(file, "1")?;
    }
    sleep(LASTS);
    for file in &files {
        // A tool that restarts the service may have removed it.
        let _ = fs::write(file, "0");
    }
    for (pid, _) in groups.iter().filter(|(pid, _)| lives(*pid)) {
        fs::write(own.join("cgroup.procs"), pid.to_string())?;
    }
    Ok(())
}

fn flooded(stage: &Stage, _: &Tools, trouble: &Trouble) -> Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    let client = |number: usize| {
        let (ends, port) = (Arc::clone(&ends), stage.port(trouble, TOOLS[number % TOOLS.len()]));
        thread::spawn(move || {
            while !ends.load(Ordering::SeqCst) {
                let _ = http::get(port, "/count");
            }
        })
    };
    let clients: Vec<_> = (0..CLIENTS * TOOLS.len()).map(client).collect();
    sleep(FLOOD);
    ends.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client failed"))?;
    }
    Ok(())
}
