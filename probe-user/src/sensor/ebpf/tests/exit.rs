//! Exits, their statuses and their signals.

use std::{io::Write as _, os::unix::process::ExitStatusExt, process::Command};

use super::*;

#[test]
fn a_watched_process_is_reported_with_any_exit_code() {
    let Some(mut fixture) = fixture("a_watched_process_is_reported_with_any_exit_code") else { return };
    for code in [7, 0] {
        let mut child = shell(&format!("exit {code}"));
        fixture.sensor.watch_process(child.id(), 1).unwrap();
        drop(child.stdin.take());
        let exit = fixture.wait_for("exit", exit_of(child.id()));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(exit.status.code(), Some(code as u8));
        assert!(exit.watched && !exit.oom_victim && exit.start_ns < exit.at_ns && exit.max_rss_pages > 0);
        assert_eq!((exit.parent_pid, exit.comm.as_str()), (std::process::id(), "sh"));
        assert_eq!((exit.signal, exit.namespaced_pid), (None, Some(exit.pid)));
        fixture.sensor.unwatch_process(child.id()).unwrap();
    }
    let counters = fixture.sensor.counters();
    assert!(counters.exits_seen >= 2 && counters.exits_filtered <= counters.exits_seen);
}

#[test]
fn a_failed_child_of_a_watched_parent_or_cgroup_is_reported() {
    let Some(mut fixture) = fixture("a_failed_child_of_a_watched_parent_or_cgroup_is_reported") else {
        return;
    };
    fixture.sensor.watch_process(std::process::id(), 1).unwrap();
    let mut child = shell("exit 3");
    drop(child.stdin.take());
    let exit = fixture.wait_for("exit of a child", exit_of(child.id()));
    child.wait().unwrap();
    assert_eq!(exit.status.code(), Some(3));
    fixture.sensor.unwatch_process(std::process::id()).unwrap();

    let cgroup = match exit.cgroups {
        Cgroups { memory_v1: Some(id), .. } => CgroupId::MemoryV1(id),
        Cgroups { v2: Some(id), .. } => CgroupId::Unified(id),
        Cgroups { .. } => panic!("a process without a cgroup: {exit:?}"),
    };
    fixture.sensor.watch_cgroup(cgroup).unwrap();
    let mut child = shell("exit 4");
    drop(child.stdin.take());
    let exit = fixture.wait_for("exit in a cgroup", exit_of(child.id()));
    child.wait().unwrap();
    assert!(exit.watched && exit.status.code() == Some(4));
    fixture.sensor.unwatch_cgroup(cgroup).unwrap();
    fixture.sensor.unwatch_cgroup(cgroup).unwrap();
}

#[test]
fn descendants_keep_their_lineage_over_sweeps() {
    let Some(mut fixture) = fixture("descendants_keep_their_lineage_over_sweeps") else { return };
    // A shell, its child, and a grandchild that waits. Only their lineage makes the latter two watched.
    let mut head = Command::new("/bin/sh")
        .args(["-c", "read line; (sh -c 'read line; exit 6' <&3; :) 3<&0; :"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    fixture.sensor.watch_process(head.id(), 7).unwrap();
    let mut stdin = head.stdin.take().unwrap();
    stdin.write_all(b"begin\n").unwrap();
    let born = |fixture: &Fixture| fixture.sensor.lineages().count() >= 2;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !born(&fixture) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(born(&fixture), "child and grandchild have a lineage");
    for _ in 0..5 {
        fixture.sensor.sweep().unwrap();
    }
    drop(stdin);
    let coded = |record| {
        let Record::Exit(exit) = record else { return None };
        Some(exit).filter(|it| it.lineage == Some(7) && it.status.code() == Some(6))
    };
    assert!(fixture.wait_for("exit of the grandchild", coded).watched);
    head.wait().unwrap();
}

#[test]
fn the_exit_of_a_killed_process_names_the_sender() {
    let Some(mut fixture) = fixture("the_exit_of_a_killed_process_names_the_sender") else { return };
    let mut child = shell("exit 0");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::SEGV).unwrap();
    let exit = fixture.wait_for("exit by signal", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(11));
    assert_eq!(exit.status.signal(), Some(11));
    let signal = exit.signal.unwrap();
    let sender = signal.sender.unwrap();
    assert_eq!((signal.number, sender.pid), (11, std::process::id()));
    assert!(sender.start_ns > 0 && signal.at_ns <= exit.at_ns);
}

#[test]
fn an_alarm_has_no_sender() {
    let Some(mut fixture) = fixture("an_alarm_has_no_sender") else { return };
    // The kernel sends an alarm, which ends a process without a handler.
    let code = "import signal; signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).spawn() else {
        assert!(std::env::var_os("CI").is_none(), "an_alarm_has_no_sender: needs python3");
        eprintln!("skipped an_alarm_has_no_sender: needs python3");
        return;
    };
    let exit = fixture.wait_for("exit by alarm", exit_of(child.id()));
    child.wait().unwrap();
    let signal = exit.signal.unwrap();
    assert_eq!((signal.number, signal.sender), (14, None));
}

#[test]
fn the_status_is_that_of_the_group_not_of_the_leader() {
    let Some(mut fixture) = fixture("the_status_is_that_of_the_group_not_of_the_leader") else { return };
    // The leader is gone when another thread ends the process.
    // The bare system call ends one thread; its number differs.
    let exit = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    let code = "import ctypes, os, threading\nlibc = ctypes.CDLL(None)\nfirst = threading.main_thread()\n\
                def end():\n  while os.path.exists('/proc/self/task/%d' % os.getpid()) and \
                open('/proc/self/task/%d/stat' % os.getpid()).read().split()[2] != 'Z': pass\n  os._exit(9)\n\
                threading.Thread(target=end).start()\nlibc.syscall({}, 3)";
    let Ok(mut child) = Command::new("python3").args(["-c", &code.replace("{}", &exit.to_string())]).spawn()
    else {
        assert!(
            std::env::var_os("CI").is_none(),
            "the_status_is_that_of_the_group_not_of_the_leader: needs python3"
        );
        eprintln!("skipped the_status_is_that_of_the_group_not_of_the_leader: needs python3");
        return;
    };
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    let exit = fixture.wait_for("exit", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(exit.status.code(), Some(9));
}

#[test]
fn a_clean_exit_names_the_sender_of_the_request() {
    let Some(mut fixture) = fixture("a_clean_exit_names_the_sender_of_the_request") else { return };
    // Reports that its handler is installed, and exits on SIGTERM.
    let script = "trap 'exit 0' TERM; echo ready; while :; do read line || sleep 0.01; done";
    let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let exit = fixture.wait_for("orderly exit", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let signal = exit.signal.unwrap();
    assert_eq!((signal.number, signal.sender.unwrap().pid), (15, std::process::id()));
}

#[test]
fn a_process_that_repeats_the_request_to_end_names_its_sender() {
    let Some(mut fixture) = fixture("a_process_that_repeats_the_request_to_end_names_its_sender") else {
        return;
    };
    // The handler restores the default action and sends the signal again, as programs do that clean up first.
    let script =
        "trap 'trap - TERM; kill -TERM $$' TERM; echo ready; while :; do read line || sleep 0.01; done";
    let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let exit = fixture.wait_for("exit by the repeated signal", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    let signal = exit.signal.unwrap();
    assert_eq!((signal.number, signal.sender.unwrap().pid), (15, std::process::id()));

    // Without another sender it is the process itself.
    let mut child = shell("kill -TERM $$");
    fixture.sensor.watch_process(child.id(), 1).unwrap();
    drop(child.stdin.take());
    let exit = fixture.wait_for("exit by its own signal", exit_of(child.id()));
    child.wait().unwrap();
    assert_eq!(exit.signal.unwrap().sender.unwrap().pid, child.id());
}
