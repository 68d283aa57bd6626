//! The daemon where it is not on the host itself, and containers where it is: whose pids they are, and what they are
//! called.

use std::{fs, process::Command};

use hostprobe_tests::{
    cgroup::{self, Group},
    daemon::{Daemon, field},
    http::{self, free_port},
    incident_events::{IncidentEvents, is, number, text},
    lineage::{LONG, Lineage, exit_of, owner},
    parts::{built, require, require_root},
    podman::Podman,
    process::{Running, kill, signal, until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::{Value, json};

const UNSHARE: &str = "/usr/bin/unshare";

/// A daemon in a pid namespace of its own, where it is process 1.
fn inside(config: &str) -> Option<Daemon> {
    if !require_root() || !require("util-linux", UNSHARE) {
        return None;
    }
    let unshare = [UNSHARE, "--pid", "--fork", "--mount-proc", "--kill-child"];
    Some(Daemon::start_under(&unshare, config, &[]))
}

/// The pid out here of the process that unshare started.
fn here(daemon: &Daemon) -> u32 {
    let (pid, children) =
        (daemon.pid(), |pid| fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")));
    until("it has a child", LONG, || children(pid).ok()?.split_whitespace().next()?.parse().ok())
}

/// Runs a command in the daemon's namespaces.
#[track_caller]
fn run_inside(daemon: &Daemon, command: &[&str]) {
    let target = here(daemon).to_string();
    let mut nsenter = Command::new("/usr/bin/nsenter");
    nsenter.args(["--target", &target, "--pid", "--mount"]).args(command);
    // A command that is to die by a signal has not failed.
    let status = nsenter.status().expect("nsenter runs");
    assert_ne!(status.code(), Some(127), "{command:?} is there");
}

/// All pids of a process, from the outermost namespace in.
fn pids(pid: u32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:")).expect("its pids");
    line.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect()
}

#[test]
fn in_a_pid_namespace_events_have_the_pids_of_the_namespace_and_name_it() {
    let (service, page) = (Supervised::new(), free_port());
    let http = format!("[http]\nlisten = \"127.0.0.1:{page}\"\n");
    let config = service.config("").replace("[http]\nlisten = \"\"\n", &http);
    let Some(daemon) = inside(&config) else { return };
    let ready = daemon.ready();
    assert_eq!(field(&ready, "place.pid_namespace.initial"), Some(&json!(false)));
    let own = fs::read_link(format!("/proc/{}/ns/pid", here(&daemon))).expect("it lives");
    let inode = number(&ready, "place.pid_namespace.inode").expect("an inode");
    assert_eq!(own.display().to_string(), format!("pid:[{inode}]"));
    let said = "where only processes of its own pid namespace are seen";
    assert!(text(&ready, "message").contains(said), "{ready:#}");
    daemon.wait_for_log("run it in the host's pid namespace");
    let attached = field(&ready, "coverage").and_then(Value::as_array).expect("coverage");
    for hook in hostprobe_tests::kernel_hooks::possible() {
        let covered = attached.iter().find(|it| it["hook"] == hook.tracepoint());
        assert!(covered.is_some_and(|it| it["attached"] == json!(true)), "{hook:?}: {ready:#}");
    }
    assert_eq!(field(&ready, "self_test.passed"), Some(&json!(true)));
    service.until_healthy(&daemon);

    let main_out_here = || {
        let found = with_argument(&service.port.to_string());
        assert_eq!(found.len(), 1);
        (found[0], pids(found[0]))
    };
    // By a process inside, then by one outside the namespace.
    for outside in [false, true] {
        let (pid, numbers) = main_out_here();
        let &[first, own] = numbers.as_slice() else { panic!("{numbers:?}") };
        assert_eq!((first, service.pid(&daemon)), (pid, own));
        let mark = daemon.mark();
        if outside {
            kill(pid);
        } else {
            run_inside(&daemon, &["/bin/kill", "-KILL", &own.to_string()]);
        }
        let incident = IncidentEvents::of(&daemon, mark, &service.name);
        assert_eq!(incident.verdict(), "killed");
        let exit = incident.one("process.exit");
        assert_eq!(number(exit, "process.pid"), Some(own.into()));
        assert_eq!(number(exit, "process.parent.pid"), Some(1), "the daemon is process 1");
        assert_eq!(field(exit, "process.pid_ns"), None);
        assert_eq!(owner(exit), (service.name.as_str(), Some(true)));
        let sender = number(exit, "process.exit_signal.sender.pid").expect("a sender");
        if outside {
            assert_eq!(sender, 0, "it has no pid in here: {exit:#}");
            assert!(text(exit, "message").contains("outside of this pid namespace"), "{exit:#}");
        } else {
            assert_eq!(text(exit, "process.exit_signal.sender.name"), "kill");
            assert!((2..10_000).contains(&sender), "{exit:#}");
        }
    }

    // Processes outside the namespace are only counted; those in a nested namespace are reported.
    let mut outsider = Victim::start();
    let mark = daemon.mark();
    outsider.hit("/abort");
    outsider.wait();
    let nested = "sh -c 'kill -ABRT $$'; true";
    run_inside(&daemon, &[UNSHARE, "--pid", "--fork", "/bin/sh", "-c", nested]);
    let aborted = |event: &Value| text(event, "process.exit_signal.name") == "SIGABRT";
    let seen = daemon.wait_for_after(mark, aborted, LONG);
    assert_eq!(number(&seen, "process.pid_ns"), Some(2), "{seen:#}");
    assert!(number(&seen, "process.pid").is_some_and(|pid| pid > 2), "{seen:#}");
    assert_eq!(text(&seen, "process.name"), "sh");
    until("processes outside are counted", LONG, || {
        let metrics = http::get(page, "/metrics").ok()?.1;
        let line =
            metrics.lines().find_map(|line| line.strip_prefix("hostprobe_process_exits_elsewhere_total "))?;
        line.parse::<u64>().ok().filter(|count| *count > 0)
    });
    assert_eq!(
        daemon
            .count(|event| text(event, "process.name") == "victim" && text(event, "service.name").is_empty()),
        0
    );
}

#[test]
fn in_a_pid_namespace_forks_show_the_service_of_a_worker() {
    let lineage = Lineage::new();
    let Some(daemon) = inside(&format!(
        "[http]\nlisten = \"\"\n{}",
        lineage.service("lineage", &format!("match = {{ port = {} }}", lineage.port))
    )) else {
        return;
    };
    daemon.ready();
    let mut command = vec!["/usr/bin/setsid", "--fork"];
    let start = lineage.command(&[]);
    command.extend(start.iter().map(String::as_str));
    run_inside(&daemon, &command);
    daemon.wait_for(
        |event| is(event, "service.state", "lineage") && text(event, "service.state") == "healthy",
        LONG,
    );
    let orphan = lineage.spawn("orphan");
    run_inside(&daemon, &["/bin/kill", "-ABRT", &orphan.to_string()]);
    assert_eq!(owner(&exit_of(&daemon, orphan)), ("lineage", Some(false)));
    let main = pids(with_argument(&lineage.port.to_string())[0])[1];
    run_inside(&daemon, &["/bin/kill", "-KILL", &main.to_string()]);
    assert_eq!(owner(&exit_of(&daemon, main)), ("lineage", Some(true)));
}

#[test]
fn with_the_proc_of_another_namespace_the_daemon_says_what_to_mount_and_exits() {
    if !require_root() || !require("util-linux", UNSHARE) {
        return;
    }
    let mut command = Command::new(UNSHARE);
    command.args(["--pid", "--fork"]).arg(built("hostprobe")).arg("run");
    let mut daemon = Running::start(&mut command, Signal::KILL);
    assert_eq!(daemon.wait(LONG).code(), Some(3));
    let said = daemon.stderr.all().join("\n");
    assert!(said.contains("/proc shows another pid namespace") && said.contains("--mount-proc"), "{said}");
}

/// A daemon that watches a container by what it is called, as the service `box`.
fn watch_container(name: &str) -> Daemon {
    let config =
        format!("[http]\nlisten = \"\"\n[[service]]\nname = \"box\"\nmatch = {{ container = {name:?} }}\n");
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    daemon.wait_for(
        |event| is(event, "service.state", "box") && text(event, "service.state") == "healthy",
        LONG,
    );
    daemon
}

#[test]
fn a_container_is_matched_by_its_id_and_its_exit_names_it() {
    let Some(podman) = Podman::new() else { return };
    let id = podman.start(&[], &["/bin/sleep", "600"]);
    let (main, daemon) = (podman.pid(&id), watch_container(&id[..12]));
    kill(main);
    let exit = exit_of(&daemon, main);
    assert_eq!((owner(&exit), text(&exit, "container.id")), (("box", Some(true)), id.as_str()));
    assert!(text(&exit, "cgroup.path").contains(&id), "{exit:#}");
    assert_eq!(number(&exit, "process.pid_ns"), Some(1), "it was process 1 in there");
    let opened = daemon.wait_for(|event| is(event, "incident.open", "box"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "killed");

    // The exit of a container that is already gone with its cgroup still has its id.
    let brief = podman.run_to_its_end(&["--pid=host"], &["/bin/sh", "-c", "kill -ABRT $$"]);
    let reported = |event: &Value| text(event, "container.id") == brief;
    let exit = daemon.wait_for(reported, LONG);
    assert_eq!(text(&exit, "process.exit_signal.name"), "SIGABRT");
    assert_eq!(owner(&exit), ("", None));
}

#[test]
fn a_container_that_crashes_has_the_verdict_crashed() {
    let Some(podman) = Podman::new() else { return };
    // Process 1 of a pid namespace is deaf to its own signals, so it is the host's.
    let shared = format!("--volume={}:/shared", podman.folder().join("run").display());
    let script = "while [ ! -e /shared/go ]; do sleep 0.05; done; kill -SEGV $$";
    let id = podman.start(&["--pid=host", &shared], &["/bin/sh", "-c", script]);
    let (main, daemon) = (podman.pid(&id), watch_container(&id));
    fs::write(podman.folder().join("run/go"), "").expect("it is written");
    let exit = exit_of(&daemon, main);
    assert_eq!((owner(&exit), text(&exit, "container.id")), (("box", Some(true)), id.as_str()));
    let opened = daemon.wait_for(|event| is(event, "incident.open", "box"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "crashed");
}

#[test]
fn the_exit_of_a_container_process_that_was_never_seen_alive_names_its_container() {
    if !require_root() {
        return;
    }
    let lineage = Lineage::new();
    let _running = lineage.start(&[]);
    let daemon = Daemon::start("[http]\nlisten = \"\"\n", &[]);
    daemon.ready();
    let digits = format!("{:0>64x}", std::process::id());
    let own = std::process::id();
    for mount in cgroup::telling() {
        for (name, id) in [
            (format!("libpod-{digits}.scope"), digits.clone()),
            (format!("docker-{digits}.scope"), digits.clone()),
            (format!("cri-containerd-{digits}.scope"), digits.clone()),
            (format!("lxc.payload.web{own}"), format!("web{own}")),
            (format!(r"machine-web\x2d{own}.scope"), format!("web-{own}")),
        ] {
            let group = Group::new(&mount, &name);
            // It is forked and executes nothing: no record has named it before.
            let child = lineage.spawn("child");
            group.add(child);
            signal(child, Signal::ABORT);
            drop(group);
            let exit = exit_of(&daemon, child);
            let reported = (text(&exit, "container.id"), text(&exit, "cgroup.path"));
            assert_eq!(reported, (id.as_str(), format!("/{name}").as_str()), "{}", mount.display());
        }
    }
}
