//! The faults, in the order in which they are done.

use std::io;

use rustix::process::Signal;

use super::stack::{CACHE, DB, JOBS, SHOP, Stack, WEB};
use crate::{
    http,
    matrix::scene::PATIENCE,
    memcg::MemoryCgroup,
    process::{signal, until},
};

/// What has to stay until the fault has been done.
pub(super) type Guard = Option<MemoryCgroup>;

/// One fault, and what is right for it.
pub(super) struct Step {
    /// What happens, for a person.
    pub fault: &'static str,
    /// Services and their verdicts; the first is the one that it is done to.
    pub incidents: &'static [(&'static str, &'static str)],
    /// The services that must be restarted, once each.
    pub restarts: &'static [&'static str],
    /// Whether an alert must be sent.
    pub alert: bool,
    /// What the incident must name; empty if nothing in particular.
    pub named: &'static str,
    /// Whether the grace after the last fault must be over, because probes alone can tell of this one.
    pub by_probes: bool,
    /// Whether it takes a memory cgroup, which not every host has.
    pub by_memcg: bool,
    /// Does it.
    pub happen: fn(&Stack) -> io::Result<Guard>,
    /// Undoes it once it has its verdict.
    pub undo: fn(&Stack),
}

impl Step {
    /// A fault of the web application that a restart heals.
    const fn web(fault: &'static str, verdict: &'static [(&'static str, &'static str)]) -> Self {
        Self {
            fault,
            incidents: verdict,
            restarts: &[WEB],
            alert: false,
            named: "",
            by_probes: false,
            by_memcg: false,
            happen: |_| Ok(None),
            undo: |_| {},
        }
    }
}

pub(super) const STEPS: &[Step] = &[
    Step {
        named: "SIGKILL",
        happen: |stack| {
            signal(stack.pid(WEB), Signal::KILL);
            Ok(None)
        },
        ..Step::web("web: killed by SIGKILL", &[(WEB, "killed")])
    },
    Step {
        named: "SIGSEGV",
        happen: |stack| Ok(hit(stack, "/segv")),
        ..Step::web("web: writes through a null pointer", &[(WEB, "crashed")])
    },
    Step {
        happen: |stack| Ok(hit(stack, "/exit?code=1")),
        ..Step::web("web: exits with 1", &[(WEB, "exited")])
    },
    Step {
        by_memcg: true,
        happen: |stack| run_out_of_memory(stack.pid(WEB), stack.web),
        ..Step::web("web: needs 100 MB, its cgroup has 30", &[(WEB, "oom_killed")])
    },
    Step {
        happen: |stack| Ok(hit(stack, "/close")),
        ..Step::web("web: closes its listener, lives on", &[(WEB, "not_listening")])
    },
    Step {
        by_probes: true,
        happen: |stack| {
            signal(stack.pid(WEB), Signal::STOP);
            Ok(None)
        },
        ..Step::web("web: stopped by SIGSTOP", &[(WEB, "hung")])
    },
    Step {
        restarts: &[],
        alert: true,
        named: "OOM",
        by_memcg: true,
        // The worker that answers says who it is.
        happen: |stack| {
            let (_, worker) = http::get(stack.jobs, "/health")?;
            run_out_of_memory(worker.parse().map_err(io::Error::other)?, stack.jobs)
        },
        ..Step::web("jobs: a worker runs out of memory", &[(JOBS, "worker_died")])
    },
    Step {
        restarts: &[CACHE],
        alert: true,
        named: "SIGKILL",
        by_probes: true,
        happen: |stack| {
            signal(stack.pid(CACHE), Signal::KILL);
            Ok(None)
        },
        ..Step::web("Redis: killed, takes 1.2 s to start", &[(CACHE, "killed"), (WEB, "dependency_down")])
    },
    Step {
        restarts: &[DB],
        named: "SIGKILL",
        happen: |stack| {
            signal(stack.pid(DB), Signal::KILL);
            Ok(None)
        },
        ..Step::web("PostgreSQL: killed, has to recover", &[(DB, "killed")])
    },
    Step {
        restarts: &[],
        alert: true,
        named: SHOP,
        by_probes: true,
        happen: take_connections,
        undo: |stack| drop(http::get(stack.shop, "/take?n=0")),
        ..Step::web("PostgreSQL: shop takes all connections", &[(DB, "pool_exhausted")])
    },
    Step {
        restarts: &[],
        alert: true,
        by_probes: true,
        happen: |stack| Ok(hit(stack, "/slow?ms=600")),
        undo: |stack| drop(http::get(stack.web, "/slow?ms=0")),
        ..Step::web("web: answers in 600 ms, limit 500 ms", &[(WEB, "slow")])
    },
];

/// Asks the web application for a fault, which may cut its answer short.
fn hit(stack: &Stack, path: &str) -> Guard {
    let _ = http::get(stack.web, path);
    None
}

/// Gives a process little memory, and asks the service for a lot.
fn run_out_of_memory(pid: u32, port: u16) -> io::Result<Guard> {
    let cgroup = MemoryCgroup::new(30 << 20)?;
    cgroup.add(pid)?;
    let _ = http::get(port, "/alloc?mb=100");
    Ok(Some(cgroup))
}

fn take_connections(stack: &Stack) -> io::Result<Guard> {
    // One of the twelve may be in use by the probe at that moment, so it asks until it has the others.
    until("shop has all connections", PATIENCE, || {
        let (_, taken) = http::get(stack.shop, "/take?n=20").ok()?;
        taken.parse::<u32>().ok().filter(|&taken| taken >= 11)
    });
    Ok(None)
}
