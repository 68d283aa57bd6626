//! A service in a pid namespace of its own, as in a container.

use std::{process::Command, time::Duration};

use rustix::process::Signal;

use crate::{
    http::{self, free_port},
    parts::require,
    process::{Running, children, until},
    victim::Victim,
};

const UNSHARE: &str = "/usr/bin/unshare";

/// A shell that is the init of its namespace, with a victim for a child.
#[derive(Debug)]
pub struct PidNamespace {
    unshare: Running,
    /// The loopback port that the victim serves.
    pub port: u16,
}

impl PidNamespace {
    /// Starts one; None where that is not possible.
    pub fn start() -> Option<Self> {
        if !require("util-linux", UNSHARE) {
            return None;
        }
        let port = free_port();
        let script = format!("{} --port {port} & wait", Victim::program().display());
        let mut unshare = Command::new(UNSHARE);
        unshare.args(["--pid", "--fork", "--kill-child", "/bin/sh", "-c", &script]);
        let unshare = Running::start(&mut unshare, Signal::KILL);
        until("it listens", Duration::from_secs(60), || http::get(port, "/").ok());
        Some(Self { unshare, port })
    }

    /// The pid of its init here.
    ///
    /// # Panics
    /// If it has ended.
    pub fn init(&self) -> u32 {
        *children(self.unshare.pid()).first().expect("unshare has one child")
    }
}
