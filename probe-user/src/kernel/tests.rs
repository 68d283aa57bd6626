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
    lab_with(test, &Options::default())
}

fn lab_with(test: &str, options: &Options) -> Option<Lab> {
    match Kernel::load(options) {
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
    move |record| if let Record::Exit(exit) = record { Some(exit).filter(|it| it.pid == pid) } else { None }
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
    let code = "import signal; signal.setitimer(signal.ITIMER_REAL, 0.05); signal.pause()";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).spawn() else {
        eprintln!("skipped a_crash_is_the_kernels_signal: needs python3");
        return;
    };
    let exit = lab.wait_for("exit by alarm", exit_of(child.id()));
    child.wait().unwrap();
    let signal = exit.signal.unwrap();
    assert_eq!((signal.number, signal.sender), (14, None));
}

/// A memory cgroup with a limit, removed when dropped.
struct MemoryCgroup(std::path::PathBuf);

impl MemoryCgroup {
    /// `None` if this host lets nobody make one, or has no memory controller.
    fn new(limit: u64) -> Option<Self> {
        let name = format!("hostprobe-test-{}", std::process::id());
        let tries = [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")];
        for (root, file) in tries {
            let path = std::path::Path::new(root).join(&name);
            if std::fs::create_dir(&path).is_ok() {
                let cgroup = Self(path);
                if std::fs::write(cgroup.0.join(file), limit.to_string()).is_ok() {
                    return Some(cgroup);
                }
            }
        }
        None
    }
}

impl Drop for MemoryCgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn an_oom_kill_in_a_cgroup_has_victim_scope_and_numbers() {
    use std::os::unix::fs::MetadataExt;
    let test = "an_oom_kill_in_a_cgroup_has_victim_scope_and_numbers";
    let Some(mut lab) = lab(test) else { return };
    let Some(cgroup) = MemoryCgroup::new(32 << 20) else {
        assert!(std::env::var_os("CI").is_none(), "{test}: needs a writable memory cgroup");
        eprintln!("skipped {test}: needs a writable memory cgroup");
        return;
    };
    // Doubles a string until the limit is hit.
    let mut child = shell("x=xxxxxxxx; while :; do x=$x$x; done");
    std::fs::write(cgroup.0.join("cgroup.procs"), child.id().to_string()).unwrap();
    drop(child.stdin.take());
    let oom = lab.wait_for("OOM kill", |record| {
        if let Record::Oom(oom) = record { Some(oom).filter(|it| it.pid == Some(child.id())) } else { None }
    });
    let exit = lab.wait_for("exit", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!((oom.scope, oom.tid, oom.comm.as_str()), (OomScope::Memcg, child.id(), "sh"), "{oom:x?}");
    assert!(oom.anon_pages > 1000 && oom.anon_pages <= (32 << 20) / 4096 && oom.file_pages > 0, "{oom:?}");
    assert_eq!((oom.trigger_pid, oom.start_ns), (child.id(), exit.start_ns));
    let id = std::fs::metadata(&cgroup.0).unwrap().ino();
    assert_eq!(oom.cgroups.memory_v1.or(oom.cgroups.v2), Some(id));
    assert!(exit.oom_victim && !exit.watched && exit.max_rss_pages >= oom.anon_pages / 2, "{exit:?}");
    assert_eq!((exit.cgroups, exit.signal.unwrap().sender), (oom.cgroups, None));
}

#[test]
fn the_status_is_the_groups_not_the_leaders() {
    let Some(mut lab) = lab("the_status_is_the_groups_not_the_leaders") else { return };
    // The first thread is long gone when another one ends the process.
    let code = "import ctypes, os, threading\nlibc = ctypes.CDLL(None)\nfirst = threading.main_thread()\n\
                def end():\n  while os.path.exists(f'/proc/self/task/{os.getpid()}/wchan') and \
                open(f'/proc/self/task/{os.getpid()}/stat').read().split()[2] != 'Z': pass\n  os._exit(9)\n\
                threading.Thread(target=end).start()\nlibc.syscall(60, 3)";
    let Ok(mut child) = Command::new("python3").args(["-c", code]).spawn() else {
        assert!(std::env::var_os("CI").is_none(), "the_status_is_the_groups_not_the_leaders: needs python3");
        eprintln!("skipped the_status_is_the_groups_not_the_leaders: needs python3");
        return;
    };
    lab.kernel.watch_process(child.id()).unwrap();
    let exit = lab.wait_for("exit", exit_of(child.id()));
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert_eq!(exit.status.code(), Some(9));
}

#[test]
fn a_flood_of_strangers_is_cut_off_and_counted() {
    let options = Options { unwatched_per_second: 5, ..Options::default() };
    let Some(mut lab) = lab_with("a_flood_of_strangers_is_cut_off_and_counted", &options) else { return };
    let mut records = Vec::new();
    let mut children: Vec<_> = (0..40).map(|_| shell("exit 0")).collect();
    let pids: Vec<_> = children.iter().map(std::process::Child::id).collect();
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    lab.kernel.drain(&mut records);
    let seen =
        records.iter().filter(|it| matches!(it, Record::Exit(exit) if pids.contains(&exit.pid))).count();
    let lost: u64 =
        lab.kernel.losses().iter().filter(|it| it.class == "exit_throttled").map(|it| it.count).sum();
    // Other tests share the cgroup, and the second may turn in between.
    assert!(seen <= 20 && lost >= 20, "{seen} seen, {lost} lost");
    // A watched process is not subject to any of that.
    let mut child = shell("exit 0");
    lab.kernel.watch_process(child.id()).unwrap();
    child.kill().unwrap();
    lab.wait_for("exit of the watched", exit_of(child.id()));
    child.wait().unwrap();
}

#[test]
fn strangers_never_fill_the_ring() {
    let options =
        Options { unwatched_per_second: u32::MAX, urgent_ring_bytes: 64 * 1024, ..Options::default() };
    let Some(mut lab) = lab_with("strangers_never_fill_the_ring", &options) else { return };
    for _ in 0..350 {
        let mut child = Command::new("/bin/sh").args(["-c", "kill -9 $$"]).spawn().unwrap();
        child.wait().unwrap();
    }
    let mut child = shell("exit 6");
    lab.kernel.watch_process(child.id()).unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    let losses = lab.kernel.losses();
    assert!(losses.iter().any(|it| it.class == "exit_unwatched" && it.count > 0), "{losses:?}");
    assert!(losses.iter().all(|it| it.class != "exit_watched"), "{losses:?}");
    assert_eq!(lab.wait_for("exit of the watched", exit_of(child.id())).status.code(), Some(6));
}

#[test]
fn listeners_come_and_go() {
    let Some(mut lab) = lab("listeners_come_and_go") else { return };
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(address).unwrap();
        let local = listener.local_addr().unwrap();
        let of_port = |record| {
            if let Record::Listen(listen) = record {
                Some(listen).filter(|it| it.port == local.port())
            } else {
                None
            }
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
    let exec = lab.wait_for("exec", |record| {
        if let Record::Exec(exec) = record { Some(exec).filter(|it| it.pid == child.id()) } else { None }
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
