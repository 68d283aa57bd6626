//! What a running daemon may do, thread by thread, and what it sees as a user with a few capabilities.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hostprobe_tests::{
    daemon::{Daemon, event_action, field},
    incident_events::{number, text},
    memcg::MemoryCgroup,
    parts::{require, require_root},
    process::until,
    rights::{Rights, UNPRIVILEGED, of_all_threads},
    supervised::Supervised,
    victim::Victim,
};
use serde_json::Value;
use tempfile::TempDir;

/// Longest wait for anything, on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Two users that own nothing on this host: the numbers need no name.
const HOSTPROBE: u32 = 54_321;
const OTHER_USER: u32 = 54_322;

const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;
const DAC_OVERRIDE: u64 = 1 << 1;
const KILL: u64 = 1 << 5;
const BPF: u64 = 1 << 39;

/// The sets of every thread, once there are several; the kernel may want CAP_BPF for the use of maps.
#[track_caller]
fn all_threads_have(daemon: &Daemon, kept: u64) -> Rights {
    let threads = until("several threads", LONG, || {
        Some(of_all_threads(daemon.pid())).filter(|threads| threads.len() > 1)
    });
    for (name, rights) in &threads {
        assert_eq!(rights.effective & !BPF, kept, "effective of {name}");
        assert_eq!((rights.inheritable, rights.ambient), (0, 0), "{name}");
        assert_eq!(rights, &threads[0].1, "{name}");
    }
    threads[0].1
}

/// A process of another user that ends itself by SIGSEGV when its input ends.
fn process_of_other_user() -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "read line; kill -SEGV $$", "other-user"]).stdin(Stdio::piped());
    command.uid(OTHER_USER).gid(OTHER_USER).spawn().expect("a shell starts")
}

/// Ends it; its pid.
fn end(mut other: Child) -> u32 {
    drop(other.stdin.take());
    other.wait().expect("it ends");
    other.id()
}

fn is_exit_of(event: &Value, pid: u32) -> bool {
    event_action(event) == "process.exit" && number(event, "process.pid") == Some(pid.into())
}

#[test]
fn a_daemon_that_only_watches_cannot_regain_a_right() {
    if !require_root() {
        return;
    }
    let daemon = Daemon::start("[http]\nlisten = \"127.0.0.1:0\"\n", &[]);
    daemon.ready();
    let rights = all_threads_have(&daemon, SYS_PTRACE | DAC_READ_SEARCH);
    assert_eq!((rights.permitted, rights.bounding), (rights.effective, 0));
    assert!(rights.no_new_privileges);
}

#[test]
fn a_supervised_service_has_all_the_rights_that_its_daemon_was_started_with() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start_with(&service.config(""), &[], |command| {
        command.env("NOTIFY_SOCKET", "/nonexistent/notify").env("WATCHDOG_USEC", "1")
    });
    service.until_healthy(&daemon);
    let own = of_all_threads(std::process::id()).remove(0).1;
    let rights = all_threads_have(&daemon, SYS_PTRACE | DAC_READ_SEARCH | DAC_OVERRIDE | KILL);
    // What a program of root's may have and its parent may not would cost it its core dumps.
    assert_eq!((rights.permitted, rights.bounding), (own.permitted, own.bounding));
    assert!(!rights.no_new_privileges);

    let pid = service.pid(&daemon);
    let (_, served) = of_all_threads(pid).remove(0);
    assert_eq!((served.permitted, served.effective), (own.bounding, own.bounding));
    assert!(!served.no_new_privileges);
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
    daemon.wait_for_log("NOTIFY_SOCKET=/nonexistent/notify");
}

#[test]
fn fallbacks_still_report_after_the_rights_are_given_up() {
    if !require_root() {
        return;
    }
    let other = process_of_other_user();
    let daemon = Daemon::start("[http]\nlisten = \"\"\n", &["--without-hook", "all"]);
    daemon.ready();
    all_threads_have(&daemon, SYS_PTRACE | DAC_READ_SEARCH);
    let died = end(other);
    let died = daemon.wait_for(|event| is_exit_of(event, died), LONG);
    assert_eq!(
        (text(&died, "event.provider"), text(&died, "process.exit_signal.name")),
        ("netlink", "SIGSEGV")
    );

    let victim = Victim::start();
    let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
    cgroup.add(victim.process.pid()).expect("it is moved");
    victim.hit("/alloc?mb=100");
    let killed = |event: &Value| {
        event_action(event) == "process.oom_kill"
            && number(event, "process.pid") == Some(victim.process.pid().into())
    };
    assert_eq!(text(&daemon.wait_for(killed, LONG), "event.provider"), "kmsg");
}

/// A daemon of another user with these capabilities, in a folder of its own.
fn unprivileged(capabilities: &[&str], services: &str) -> (Daemon, TempDir) {
    let folder = TempDir::new().expect("a temporary folder");
    chown(folder.path(), Some(HOSTPROBE), Some(HOSTPROBE)).expect("a folder of its own");
    let within = |name: &str| folder.path().join(name).display().to_string();
    let config = format!(
        "[http]\nlisten = \"\"\n[control]\nsocket = {:?}\n[snapshots]\ndirectory = {:?}\n{services}",
        within("control.sock"),
        within("snapshots"),
    );
    let daemon = Daemon::start_with(&config, &[], |command| {
        let config = command.get_args().skip_while(|word| *word != "--config").nth(1).expect("a file");
        chown(config, Some(HOSTPROBE), Some(HOSTPROBE)).expect("a file of its own");
        let added: Vec<String> = capabilities.iter().map(|name| format!("+{name}")).collect();
        let mut lowered = Command::new("/usr/bin/setpriv");
        lowered
            .args([&format!("--reuid={HOSTPROBE}"), &format!("--regid={HOSTPROBE}"), "--clear-groups"])
            .arg(format!("--bounding-set=-all,{}", added.join(",")))
            .arg(format!("--inh-caps=-all,{}", added.join(",")))
            .arg(format!("--ambient-caps=-all,{}", added.join(",")))
            .arg(command.get_program())
            .args(command.get_args());
        *command = lowered;
        command
    });
    (daemon, folder)
}

#[test]
fn a_user_with_four_capabilities_attaches_every_hook_and_sees_another_user_die() {
    if !require_root() || !require("util-linux", "/usr/bin/setpriv") {
        return;
    }
    let other = process_of_other_user();
    let other_exe = fs::read_link(format!("/proc/{}/exe", other.id())).expect("a link");
    let (daemon, _folder) = unprivileged(&UNPRIVILEGED, "[[service]]\nname = \"a\"\nmatch = { port = 1 }\n");
    let ready = daemon.ready();
    let coverage = field(&ready, "coverage").and_then(Value::as_array).expect("a list");
    assert_eq!(coverage.len(), hostprobe::sensor::ebpf::Hook::ALL.len());
    for hook in hostprobe_tests::kernel_hooks::possible() {
        let covered = coverage.iter().find(|it| it["hook"] == hook.tracepoint());
        assert!(covered.is_some_and(|it| it["attached"] == true), "{hook:?}: {ready:#}");
    }
    assert_eq!(ready["self_test"]["passed"], true, "{ready:#}");
    let rights = all_threads_have(&daemon, SYS_PTRACE | DAC_READ_SEARCH);
    assert_eq!((rights.permitted, rights.no_new_privileges), (rights.effective, true));

    let died = end(other);
    let died = daemon.wait_for(|event| is_exit_of(event, died), LONG);
    assert_eq!(text(&died, "process.exit_signal.name"), "SIGSEGV");
    assert_eq!(text(&died, "process.name"), "sh");
    assert_eq!(text(&died, "process.executable"), other_exe.display().to_string());
    assert_eq!(text(&died, "process.command_line"), "/bin/sh -c read line; kill -SEGV $$ other-user");
}

#[test]
fn without_a_right_less_is_seen_and_the_log_says_so() {
    if !require_root() || !require("util-linux", "/usr/bin/setpriv") {
        return;
    }
    let other = process_of_other_user();
    let (daemon, _folder) =
        unprivileged(&["bpf", "perfmon"], "[[service]]\nname = \"a\"\nmatch = { port = 1 }\n");
    daemon.ready();
    all_threads_have(&daemon, 0);
    let died = end(other);
    let died = daemon.wait_for(|event| is_exit_of(event, died), LONG);
    assert_eq!((text(&died, "process.exit_signal.name"), text(&died, "process.name")), ("SIGSEGV", "sh"));
    assert_eq!(text(&died, "process.command_line"), "/bin/sh -c read line; kill -SEGV $$ other-user");
    assert_eq!(field(&died, "process.executable"), None);
    for missing in ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] {
        daemon.wait_for_log(&format!("without {missing}, the "));
    }
}
