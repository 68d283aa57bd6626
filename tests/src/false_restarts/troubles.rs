//! What happens in each trouble. None but the controls is a fault of the service that has it.

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
    tools::Tools,
    trouble::{FLOOD, LASTS, TOOLS, Trouble},
};
use crate::{
    cgroup::{self, Group},
    cpu::CpuCgroup,
    http,
    parts::built,
    process::{Running, lives},
    storm::{Manner, Storm},
};

const CLIENTS: usize = 32;

/// Has a trouble happen to the services of all tools.
pub(super) fn happen(stage: &Stage, tools: &Tools, trouble: &Trouble) -> Result<()> {
    let happens: fn(&Stage, &Tools, &Trouble) -> Result<()> = match trouble.name {
        "starved" => starved,
        "slow-dependency" => |stage, _, trouble| {
            stage.signal_dependency(trouble, Signal::STOP);
            sleep(LASTS);
            stage.signal_dependency(trouble, Signal::CONT);
            Ok(())
        },
        "dead-dependency" => |stage, _, trouble| {
            stage.end_dependency(trouble);
            sleep(LASTS);
            stage.start_dependency(trouble);
            Ok(())
        },
        "deployment" => |stage, tools, trouble| {
            for tool in TOOLS {
                tools.deploy(stage, trouble, tool)?;
            }
            // What served before has ended by then.
            sleep(Duration::from_secs(10));
            TOOLS.iter().try_for_each(|tool| stage.until_serves(trouble, *tool))
        },
        "paused" => paused,
        "slow" => |stage, _, trouble| {
            stage.ask(trouble, "/slow?ms=3000");
            sleep(LASTS);
            stage.ask(trouble, "/slow?ms=0");
            Ok(())
        },
        "flooded" => flooded,
        "forks" => |_, _, _| {
            let storms = [Manner::Exit, Manner::Exec].map(Storm::endless);
            storms.iter().for_each(Storm::begin);
            sleep(FLOOD);
            Ok(())
        },
        "crash" => |stage, _, trouble| {
            stage.ask(trouble, "/segv");
            sleep(LASTS);
            Ok(())
        },
        "hang" => |stage, _, trouble| {
            stage.ask(trouble, "/hang");
            sleep(LASTS);
            Ok(())
        },
        other => anyhow::bail!("the trouble {other} is not known"),
    };
    happens(stage, tools, trouble)
}

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
