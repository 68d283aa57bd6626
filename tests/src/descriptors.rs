//! A daemon without descriptors, and services whose probes need them.

use std::{fs, io::Read as _, net::TcpListener, process::Command, thread, time::Duration};

use crate::{daemon::Daemon, http::respond};

/// How long the server of the peers takes to answer, so that many probes wait at a time.
const ANSWER: Duration = Duration::from_millis(300);

/// Descriptors that the daemon gets beyond those that it has between its probes.
const FREE: usize = 4;

/// More than the daemon has open for three services, which it closes when they end.
const OF_ENDED: usize = 24;

/// So many services that are probed, and take their time to answer, in a configuration: `peer-0`, `peer-1` and so on.
pub fn peers(count: usize) -> String {
    let server = slow_server();
    let peer = |at| {
        format!(
            "[[service]]\nname = \"peer-{at}\"\n[[service.probe]]\nhttp = \"http://127.0.0.1:{server}/\"\n\
             interval = \"200ms\"\ntimeout = \"2s\"\nfailures = 3\n"
        )
    };
    (0..count).map(peer).collect()
}

/// An HTTP server that answers each client after a while.
fn slow_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let port = listener.local_addr().expect("a port").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                thread::sleep(ANSWER);
                respond(stream, "200 OK", "ok");
            });
        }
    });
    port
}

/// Leaves the daemon too few descriptors for its probes.
///
/// # Panics
/// If its limit cannot be set.
pub fn take_from(daemon: &Daemon) {
    limit(daemon, fewest(daemon) + FREE);
}

/// Leaves the daemon none for its probes, however fast they are answered, even if services end meanwhile.
///
/// # Panics
/// If its limit cannot be set.
pub fn take_all_from(daemon: &Daemon) {
    limit(daemon, fewest(daemon).saturating_sub(OF_ENDED));
}

/// Gives the daemon enough of them again.
///
/// # Panics
/// If its limit cannot be set.
pub fn give_back(daemon: &Daemon) {
    limit(daemon, 4096);
}

/// Sets the soft limit. To raise the hard one again takes a capability.
fn limit(daemon: &Daemon, limit: usize) {
    let (pid, limit) = (daemon.pid().to_string(), format!("--nofile={limit}:"));
    let status = Command::new("/usr/bin/prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.expect("prlimit runs").success());
}

/// The descriptors that the daemon has open at least.
fn fewest(daemon: &Daemon) -> usize {
    let count = || {
        thread::sleep(Duration::from_millis(20));
        fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("the daemon lives").count()
    };
    (0..100).map(|_| count()).min().expect("a count")
}
