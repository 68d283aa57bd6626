//! The programs in the running kernel: arm, cause, see the record. Events are waited for, and told from the host's
//! own by process id.

use std::{
    net::TcpListener,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use super::*;

/// The kernel side, and a runtime to wait for it in.
struct Lab {
    kernel: Kernel,
    runtime: Runtime,
}

/// Says why the kernel cannot be tested here. Under `CI` that is a failure.
fn lab(test: &str) -> Option<Lab> {
    match Kernel::load(&Options::default()) {
        Ok(kernel) => {
            Some(Lab { kernel, runtime: Builder::new_current_thread().enable_all().build().unwrap() })
        }
        Err(KernelError::NotPermitted { missing }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped {test}: needs {missing:?}");
            None
        }
        Err(error) => panic!("{test}: {error}"),
    }
}

impl Lab {
    /// The first record that `pick` accepts; fails after ten seconds without one.
    fn wait_for<T>(&mut self, what: &str, mut pick: impl FnMut(Record) -> Option<T>) -> T {
        let Self { kernel, runtime } = self;
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut records = Vec::new();
        while Instant::now() < deadline {
            kernel.drain(&mut records);
            if let Some(found) = records.drain(..).find_map(&mut pick) {
                return found;
            }
            // Records of the bulk ring wake nobody, hence the short limit.
            let limit = Duration::from_millis(20);
            let _ = runtime.block_on(async { tokio::time::timeout(limit, kernel.readable()).await });
        }
        panic!("no record: {what}; losses: {:?}", kernel.losses());
    }
}

fn exit_of(pid: u32) -> impl FnMut(Record) -> Option<Exit> {
    move |record| match record {
        Record::Exit(exit) if exit.pid == pid => Some(exit),
        _ => None,
    }
}

/// A shell that does `after` once its standard input ends.
fn shell(after: &str) -> std::process::Child {
    let script = format!("read line; {after}");
    Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap()
}

#[test]
fn every_hook_attaches_and_lacks_nothing() {
    let Some(Lab { kernel, .. }) = lab("every_hook_attaches_and_lacks_nothing") else { return };
    for hook in kernel.coverage() {
        assert!(hook.attached && hook.lacking.is_empty(), "{hook:?}");
    }
}

#[test]
fn a_watched_process_is_heard_of_whatever_its_code() {
    let Some(mut lab) = lab("a_watched_process_is_heard_of_whatever_its_code") else { return };
    for code in [7, 0] {
        let mut child = shell(&format!("exit {code}"));
        lab.kernel.watch_process(child.id()).unwrap();
        drop(child.stdin.take());
        let exit = lab.wait_for("exit", exit_of(child.id()));
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(exit.status.code(), Some(code as u8));
        assert!(exit.watched && !exit.oom_victim && exit.start_ns < exit.at_ns && exit.max_rss_pages > 0);
        assert_eq!((exit.parent_pid, exit.comm.as_str()), (std::process::id(), "sh"));
        assert_eq!((exit.signal, exit.namespaced_pid), (None, Some(exit.pid)));
        lab.kernel.unwatch_process(child.id()).unwrap();
    }
    let counters = lab.kernel.counters();
    assert!(counters.exits_seen >= 2 && counters.exits_filtered <= counters.exits_seen);
}

#[test]
fn a_failure_of_a_watched_parents_child_or_a_watched_cgroup_is_heard_of() {
    let Some(mut lab) = lab("a_failure_of_a_watched_parents_child_or_a_watched_cgroup_is_heard_of") else {
        return;
    };
    lab.kernel.watch_process(std::process::id()).unwrap();
    let mut child = shell("exit 3");
    drop(child.stdin.take());
    let exit = lab.wait_for("exit of a child", exit_of(child.id()));
    child.wait().unwrap();
    assert_eq!(exit.status.code(), Some(3));
    lab.kernel.unwatch_process(std::process::id()).unwrap();

    let cgroup = match exit.cgroups {
        Cgroups { memory_v1: Some(id), .. } => CgroupId::MemoryV1(id),
        Cgroups { v2: Some(id), .. } => CgroupId::Unified(id),
        Cgroups { .. } => panic!("a process without a cgroup: {exit:?}"),
    };
    lab.kernel.watch_cgroup(cgroup).unwrap();
    let mut child = shell("exit 4");
    drop(child.stdin.take());
    let exit = lab.wait_for("exit in a cgroup", exit_of(child.id()));
    child.wait().unwrap();
    assert!(exit.watched && exit.status.code() == Some(4));
    lab.kernel.unwatch_cgroup(cgroup).unwrap();
    lab.kernel.unwatch_cgroup(cgroup).unwrap();
}

#[test]
fn a_killed_process_names_its_killer() {
    let Some(mut lab) = lab("a_killed_process_names_its_killer") else { return };
    let mut child = shell("exit 0");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::SEGV).unwrap();
    let exit = lab.wait_for("exit by signal", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(11));
    assert_eq!(exit.status.signal(), Some(11));
    let signal = exit.signal.unwrap();
    let sender = signal.sender.unwrap();
    assert_eq!((signal.number, sender.pid), (11, std::process::id()));
    assert!(sender.start_ns > 0 && signal.at_ns <= exit.at_ns);
}

#[test]
fn a_crash_is_the_kernels_signal() {
    let Some(mut lab) = lab("a_crash_is_the_kernels_signal") else { return };
    // An alarm is sent by the kernel, and ends a process that does not expect it.
    let code = "import signal; signal.alarm(1); signal.pause()";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).spawn() else {
        eprintln!("skipped a_crash_is_the_kernels_signal: needs python3");
        return;
    };
    let exit = lab.wait_for("exit by alarm", exit_of(child.id()));
    child.wait().unwrap();
    let signal = exit.signal.unwrap();
    assert_eq!((signal.number, signal.sender), (14, None));
}

#[test]
fn listeners_come_and_go() {
    let Some(mut lab) = lab("listeners_come_and_go") else { return };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let local = listener.local_addr().unwrap();
        let of_port = |record| match record {
            Record::Listen(listen) if listen.port == local.port() => Some(listen),
            _ => None,
        };
        let up = lab.wait_for("listener up", of_port);
        assert!(up.up && up.address == local.ip() && up.pid == std::process::id(), "{up:?}");
        drop(listener);
        let down = lab.wait_for("listener down", of_port);
        assert!(!down.up && down.address == local.ip(), "{down:?}");
    }
}

#[test]
fn an_exec_leaves_its_command_line() {
    let Some(mut lab) = lab("an_exec_leaves_its_command_line") else { return };
    let long = "x".repeat(1000);
    let mut child = Command::new("/bin/true").args(["one", "", "two words", &long]).spawn().unwrap();
    let exec = lab.wait_for("exec", |record| match record {
        Record::Exec(exec) if exec.pid == child.id() => Some(exec),
        _ => None,
    });
    child.wait().unwrap();
    assert_eq!((exec.filename.as_str(), exec.comm.as_str()), ("/bin/true", "true"));
    assert_eq!(exec.arguments[..4], ["/bin/true", "one", "", "two words"]);
    assert!(exec.arguments_truncated && exec.arguments[4].starts_with("xxx"));
    assert_eq!(exec.parent_pid, std::process::id());
}

#[test]
fn a_waiting_daemon_is_woken_once_and_can_be_cancelled() {
    let Some(Lab { mut kernel, runtime }) = lab("a_waiting_daemon_is_woken_once_and_can_be_cancelled") else {
        return;
    };
    runtime.block_on(async {
        for _ in 0..3 {
            let mut child = shell("exit 9");
            kernel.watch_process(child.id()).unwrap();
            // A wait given up half way must not cost the next one anything.
            let _ = tokio::time::timeout(Duration::from_millis(1), kernel.readable()).await;
            let mut records = Vec::new();
            kernel.drain(&mut records);
            drop(child.stdin.take());
            let mut pick = exit_of(child.id());
            let found = async {
                loop {
                    kernel.readable().await.unwrap();
                    kernel.drain(&mut records);
                    if let Some(exit) = records.drain(..).find_map(&mut pick) {
                        return exit;
                    }
                }
            };
            let exit = tokio::time::timeout(Duration::from_secs(10), found).await.unwrap();
            assert_eq!(exit.status.code(), Some(9));
            child.wait().unwrap();
        }
    });
}

#[test]
fn the_programs_can_log() {
    let options = Options { log: true, ..Options::default() };
    match Kernel::load(&options) {
        Ok(kernel) => assert!(kernel.coverage().iter().all(|it| it.attached), "{:?}", kernel.coverage()),
        Err(KernelError::NotPermitted { missing }) if std::env::var_os("CI").is_none() => {
            eprintln!("skipped the_programs_can_log: needs {missing:?}");
        }
        Err(error) => panic!("the_programs_can_log: {error}"),
    }
}
