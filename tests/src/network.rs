//! A network namespace for one test: every port is free, and no other process listens.

use std::{process::Command, thread, time::Duration};

use rustix::process::Signal;

use crate::{
    http::free_port,
    parts::{available, require},
    process::Running,
    victim::Victim,
};

/// Runs `test` on a thread in a fresh network namespace that has nothing but a loopback interface; what the test
/// starts is in it as well. Where there can be none, the test is skipped.
///
/// # Panics
/// If the test does.
pub fn in_its_own(test: impl FnOnce() + Send + 'static) {
    let run = || {
        if enter() {
            test();
        }
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Moves the calling thread, and all that it starts from now on, to a fresh network namespace with a loopback
/// interface. False where there can be none: the test is skipped.
///
/// # Panics
/// If its loopback interface does not come up.
pub fn enter() -> bool {
    if !require("iproute2", "/sbin/ip") {
        return false;
    }
    // SAFETY: takes one number; a thread may leave its network namespace at any time, and no other is affected.
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    if available(left, "a network namespace (root)") {
        ip(&["link", "set", "lo", "up"]);
    }
    left
}

/// Runs `ip` in the calling thread's network namespace.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn ip(arguments: &[&str]) {
    let output = Command::new("/sbin/ip").args(arguments).output().expect("ip can be run");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const IPTABLES: &str = "/usr/sbin/iptables";

/// A firewall in the calling thread's network namespace that drops what would open a connection to a port, until it is
/// dropped itself.
#[derive(Debug)]
pub struct Firewall {
    port: u16,
    /// What iptables does with a packet, such as `DROP`.
    target: &'static [&'static str],
}

impl Firewall {
    /// Whether there can be one. Without it the test is skipped.
    pub fn is_there() -> bool {
        require("iptables", IPTABLES)
    }

    /// Drops connections to this port.
    ///
    /// # Panics
    /// If the kernel refuses the rule.
    pub fn before(port: u16) -> Self {
        Self::with_target(port, &["DROP"])
    }

    /// The same, with another target for the packets.
    ///
    /// # Panics
    /// If the kernel refuses the rule.
    pub fn with_target(port: u16, target: &'static [&'static str]) -> Self {
        let firewall = Self { port, target };
        assert!(firewall.rule("--append"), "iptables takes the rule");
        firewall
    }

    fn rule(&self, operation: &str) -> bool {
        let port = self.port.to_string();
        let rule = [operation, "INPUT", "-p", "tcp", "--dport", &port, "--syn", "-j"];
        Command::new(IPTABLES).args(rule).args(self.target).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        self.rule("--delete");
    }
}

/// Another host: a server in a network namespace of its own, at the other end of a cable.
#[derive(Debug)]
pub struct Peer {
    server: Running,
    /// The port it serves at [`Peer::ADDRESS`].
    pub port: u16,
}

impl Peer {
    /// Where it is reached.
    pub const ADDRESS: &str = "10.99.0.2";

    /// Where it sees this namespace.
    const NEAR: &str = "10.99.0.1";

    /// Connects one that runs a victim to the calling thread's network namespace.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn connect() -> Self {
        let victim = |port: u16| {
            let program = Victim::program().display().to_string();
            [&program, "--address", "0.0.0.0", "--port", &port.to_string()].map(str::to_owned).to_vec()
        };
        Self::connect_to(victim, "listening on")
    }

    /// Connects one that runs this command on a port, and says this on its standard output once it listens.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn connect_to(command: impl FnOnce(u16) -> Vec<String>, ready: &str) -> Self {
        let port = free_port();
        let mut alone = Command::new("/usr/bin/unshare");
        let server = Running::start(alone.arg("--net").args(command(port)), Signal::KILL);
        server.wait_until_it_says(ready, &server.stdout, Duration::from_secs(10));
        let peer = Self { server, port };
        let pid = peer.server.pid().to_string();
        ip(&["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &pid]);
        ip(&["address", "add", &format!("{}/24", Self::NEAR), "dev", "near"]);
        ip(&["link", "set", "near", "up"]);
        peer.ip(&["address", "add", &format!("{}/24", Self::ADDRESS), "dev", "far"]);
        peer.ip(&["link", "set", "far", "up"]);
        peer
    }

    /// Has everything it sends vanish without a word.
    #[track_caller]
    pub fn vanish(&self) {
        self.ip(&["route", "add", "blackhole", &format!("{}/32", Self::NEAR)]);
    }

    /// Has it be heard again.
    #[track_caller]
    pub fn come_back(&self) {
        self.ip(&["route", "delete", "blackhole", &format!("{}/32", Self::NEAR)]);
    }

    #[track_caller]
    fn ip(&self, arguments: &[&str]) {
        let mut command = Command::new("/usr/bin/nsenter");
        command.args(["--net", "--target", &self.server.pid().to_string(), "/sbin/ip"]).args(arguments);
        let output = command.output().expect("ip can be run");
        assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
