//! The harness keeps its promises: every fault of the victim is the fault it claims to be, and the real
//! servers start.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, time::Duration};

use hostprobe_tests::{
    http,
    memcg::MemoryCgroup,
    parts::{Alertmanager, Postgres, Redis, available, require_root},
    victim::Victim,
};

fn ends_after(path: &str) -> ExitStatus {
    let mut victim = Victim::start();
    assert_eq!(http::get(victim.port, "/health").expect("an answer"), (200, "ok".to_owned()));
    victim.hit(path);
    victim.wait()
}

#[test]
fn the_victim_ends_as_requested() {
    assert_eq!(ends_after("/segv").signal(), Some(11));
    assert_eq!(ends_after("/abort").signal(), Some(6));
    assert_eq!(ends_after("/exit?code=3").code(), Some(3));
    assert_eq!(ends_after("/leader-exits").code(), Some(9));
}

#[test]
fn the_victim_can_end_thread_by_thread() {
    // Kernels before 5.17 report the main thread's code, later ones that of the last thread.
    let code = ends_after("/sys-exit?code=7").code();
    assert!(matches!(code, Some(7) | Some(0)), "{code:?}");
}

#[test]
fn the_victim_can_fail_and_live() {
    let mut victim = Victim::start();
    victim.hit("/fork-child-crash");
    victim.hit("/fail");
    let failing = (500, "failing".to_owned());
    // The fault follows the answer, so it may take a request or two to show.
    while http::get(victim.port, "/health").unwrap() != failing {}
    victim.hit("/close");
    while http::get(victim.port, "/health").is_ok() {}
    assert_eq!(http::get(victim.port, "/health").unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(victim.process.stop().signal(), Some(9), "it lived until it was killed");
}

#[test]
fn the_victim_crashes_at_start_if_asked_to() {
    let mut command = std::process::Command::new(Victim::program());
    let status = command.args(["--port", "1", "--crash-at-start"]).status().unwrap();
    assert_eq!(status.signal(), Some(11));
}

#[test]
fn the_oom_killer_ends_a_victim_in_its_cgroup() {
    if !require_root() {
        return;
    }
    let cgroup = match MemoryCgroup::new(32 << 20) {
        Ok(cgroup) => cgroup,
        Err(error) => {
            available(false, &format!("a memory cgroup ({error})"));
            return;
        }
    };
    let mut victim = Victim::start();
    cgroup.add(victim.process.pid()).unwrap();
    victim.hit("/alloc?mb=200");
    assert_eq!(victim.wait().signal(), Some(9));
}

#[test]
fn the_servers_start_and_stop() {
    if let Some(mut redis) = Redis::start(&["--maxmemory", "2mb"]) {
        assert!(std::net::TcpStream::connect(("127.0.0.1", redis.port)).is_ok());
        assert_eq!(redis.process.stop().signal(), Some(9));
    }
    if let Some(mut postgres) = Postgres::start(&["-c", "max_connections=5"]) {
        assert!(std::net::TcpStream::connect(("127.0.0.1", postgres.port)).is_ok());
        postgres.process.stop();
    }
    if let Some(alertmanager) = Alertmanager::start() {
        assert_eq!(http::get(alertmanager.port, "/api/v2/alerts").unwrap().0, 200);
        assert!(alertmanager.process.stdout.wait_for(Duration::ZERO, |_| None::<()>).is_none());
    }
}
