//! The troubles and the tools, by their names.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// How long most troubles last: three rounds of each tool's probes fit in.
pub(super) const LASTS: Duration = Duration::from_secs(60);

/// A flood.
pub(super) const FLOOD: Duration = Duration::from_secs(45);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Hostprobe,
    Monit,
    /// A small simulation of the kubelet's liveness probes; there is no kubelet here.
    KubeletRules,
}

pub const TOOLS: [Tool; 3] = [Tool::Hostprobe, Tool::Monit, Tool::KubeletRules];

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hostprobe => "hostprobe",
            Self::Monit => "Monit",
            Self::KubeletRules => "kubelet-like rules",
        }
    }
}

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
}

const NONE: Trouble = Trouble {
    name: "",
    what: "",
    program: Program::Victim,
    is_fault: false,
    is_felt_by_all: false,
    lasts: LASTS,
    asked_for: 0,
};

pub const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "starved",
        what: "starvation: for 60 s, its cgroup has the least weight there is beside busy processes",
        is_felt_by_all: true,
        ..NONE
    },
    Trouble {
        name: "slow-dependency",
        what: "the Redis that it needs accepts and does not answer for 60 s",
        program: Program::App,
        ..NONE
    },
    Trouble {
        name: "dead-dependency",
        what: "the Redis that it needs is down for 60 s",
        program: Program::App,
        ..NONE
    },
    Trouble {
        name: "deployment",
        what: "its operator deploys it, and it takes 15 s to start",
        program: Program::StartsSlowly,
        asked_for: 1,
        ..NONE
    },
    Trouble { name: "paused", what: "it is paused for 60 s, as by podman pause or for a snapshot", ..NONE },
    Trouble { name: "slow", what: "it answers in 3 s for 60 s", ..NONE },
    Trouble {
        name: "flooded",
        what: "a flood: 32 clients ask it as fast as it answers, for 45 s",
        is_felt_by_all: true,
        lasts: FLOOD,
        ..NONE
    },
    Trouble {
        name: "forks",
        what: "another user's processes fork, exit and execute as fast as they can, for 45 s",
        is_felt_by_all: true,
        lasts: FLOOD,
        ..NONE
    },
    Trouble { name: "crash", what: "control: it crashes", is_fault: true, ..NONE },
    Trouble { name: "hang", what: "control: it hangs for good", is_fault: true, ..NONE },
];

/// Waits until something is so.
pub(super) fn until(what: &str, within: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + within;
    while !is_so() {
        if Instant::now() > deadline {
            bail!("not within {within:?}: {what}");
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}
