//! The kernel identifies a process: by pid and start time, by cgroup, by fork. Names, arguments and parents change.

use std::{fs, process::Command, time::Duration};

use hostprobe::sensor::loss::LossClass;
use hostprobe_tests::{
    cgroup::{self, Group},
    daemon::Daemon,
    http::{self, free_port},
    incident_events::{is, number, text},
    latch::Latch,
    lineage::{LONG, Lineage, exit_of, listening, owner, verdict},
    parts::{built, require_root},
    process::{Running, signal, until},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

const QUIET: &str = "[http]\nlisten = \"\"\n";

/// A daemon that watches a lineage by this matcher, as the service `lineage`.
fn watch(lineage: &Lineage, matcher: &str) -> Daemon {
    let daemon = Daemon::start(&format!("{QUIET}{}", lineage.service("lineage", matcher)), &[]);
    daemon.ready();
    daemon
}

fn by_port(lineage: &Lineage) -> String {
    format!("match = {{ port = {} }}", lineage.port)
}

/// Waits until a matched service is known to run.
fn found(daemon: &Daemon, service: &str) {
    let known = |event: &Value| {
        is(event, "service.state", service) && ["healthy", "starting"].contains(&text(event, "service.state"))
    };
    daemon.wait_for(known, LONG);
}

/// Runs a program under this pid, once the pid is free.
fn start_with_pid(pid: u32, program: &[&str]) -> Running {
    let mut command = Command::new(built("pid_reuse"));
    let running = Running::start(command.arg(pid.to_string()).args(program), Signal::KILL);
    running.wait_until_it_says("running as", &running.stdout, LONG);
    let executes = || {
        let file = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (file != built("pid_reuse")).then_some(())
    };
    until("the new process executes its program", LONG, executes);
    running
}

#[test]
fn a_process_that_reuses_the_pid_of_a_dead_main_process_is_unwatched() {
    if !require_root() {
        return;
    }
    let lineage = Lineage::new();
    let mut running = lineage.start(&[]);
    let daemon = watch(&lineage, &by_port(&lineage));
    found(&daemon, "lineage");
    let pid = running.pid();
    let worker = lineage.spawn("child");
    signal(pid, Signal::KILL);
    running.wait(LONG);
    let other_process = start_with_pid(pid, &["/usr/bin/sleep", "600"]);
    assert_eq!(owner(&exit_of(&daemon, pid)), ("lineage", Some(true)));
    assert_eq!(verdict(&daemon, "lineage"), "killed");

    // A child of the new process has a parent whose pid was watched; the worker has no living ancestor in the lineage.
    let mark = daemon.mark();
    signal(pid, Signal::ABORT);
    let of_pid = |event: &Value| {
        text(event, "event.action") == "process.exit" && number(event, "process.pid") == Some(pid.into())
    };
    let second = daemon.wait_for_after(mark, of_pid, LONG);
    assert_eq!(owner(&second), ("", None), "{second:#}");
    assert_eq!(text(&second, "process.executable"), "/usr/bin/sleep");
    signal(worker, Signal::ABORT);
    assert_eq!(
        owner(&exit_of(&daemon, worker)).0,
        "lineage",
        "the service forked it, and it has inherited the listener"
    );
    assert_eq!(
        daemon.count(|event| is(event, "process.exit", "lineage")),
        2,
        "not that of the other process"
    );
    drop(other_process);
}

#[test]
fn children_of_a_process_that_reuses_a_watched_pid_are_unwatched() {
    if !require_root() {
        return;
    }
    let (lineage, other) = (Lineage::new(), Lineage::new());
    let mut running = lineage.start(&[]);
    let daemon = watch(&lineage, &by_port(&lineage));
    found(&daemon, "lineage");
    let pid = running.pid();
    signal(pid, Signal::KILL);
    running.wait(LONG);
    let command = other.command(&[]);
    let other_process = start_with_pid(pid, &command.iter().map(String::as_str).collect::<Vec<_>>());
    let child = other.spawn("child");
    let orphan = other.spawn("orphan");
    for process in [child, orphan] {
        signal(process, Signal::ABORT);
        assert_eq!(owner(&exit_of(&daemon, process)), ("", None));
    }
    signal(pid, Signal::KILL);
    drop(other_process);
}

#[test]
fn a_stale_pidfile_does_not_match_a_process_that_reuses_the_pid() {
    if !require_root() {
        return;
    }
    let lineage = Lineage::new();
    let pidfile = lineage.pidfile().display().to_string();
    let mut running = lineage.start(&["--pidfile", &pidfile]);
    // Both have to hold, so that the daemon examines the listening process at once.
    let marker = Lineage::new();
    let matcher = format!("match = {{ pidfile = {pidfile:?}, port = {} }}", lineage.port);
    let daemon = Daemon::start(
        &format!(
            "{QUIET}{}{}",
            lineage.service("lineage", &matcher),
            marker.service("marker", &by_port(&marker))
        ),
        &[],
    );
    daemon.ready();
    found(&daemon, "lineage");
    let pid = running.pid();
    signal(pid, Signal::KILL);
    running.wait(LONG);
    assert_eq!(verdict(&daemon, "lineage"), "killed");

    // The new process has its pid and its port. The daemon searches for the marker after it, and finds it.
    let other = Victim::program().display().to_string();
    let other_process = start_with_pid(pid, &[&other, "--port", &lineage.port.to_string()]);
    until("the new process listens", LONG, || http::get(lineage.port, "/health").ok());
    let _marker = marker.start(&[]);
    listening(&daemon, "marker", marker.port);
    let mark = daemon.mark();
    // Now it is the service's: the file is written for it.
    fs::remove_file(&pidfile).expect("it is there");
    fs::write(&pidfile, pid.to_string()).expect("it is written");
    let back = |event: &Value| is(event, "incident.resolve", "lineage");
    daemon.wait_for_after(mark, back, LONG);
    assert_eq!(daemon.count(back), 1, "not before");
    signal(pid, Signal::KILL);
    drop(other_process);
}

#[test]
fn names_and_arguments_do_not_identify_a_process() {
    if !require_root() {
        return;
    }
    let (lineage, other) = (Lineage::new(), Lineage::new());
    let (mut one, two) = (lineage.start(&[]), other.start(&[]));
    let exe = |it: &Lineage| format!("match = {{ exe = {:?} }}", it.program.display().to_string());
    let config = format!(
        "{QUIET}{}{}",
        lineage.service("lineage", &exe(&lineage)),
        other.service("other", &exe(&other))
    );
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    found(&daemon, "lineage");
    found(&daemon, "other");
    let name = format!("lineage-{}", other.port);
    assert_eq!(lineage.request(&format!("rename {name}")), "ok");
    let comm = fs::read_to_string(format!("/proc/{}/comm", one.pid())).expect("it lives");
    assert_eq!(comm.trim(), name, "it calls itself like the other one");
    assert!(fs::read(format!("/proc/{}/cmdline", one.pid())).expect("it lives").starts_with(name.as_bytes()));

    let worker = lineage.spawn("child");
    signal(worker, Signal::ABORT);
    let exit = exit_of(&daemon, worker);
    assert_eq!((owner(&exit), text(&exit, "process.name")), (("lineage", Some(false)), name.as_str()));
    signal(one.pid(), Signal::KILL);
    one.wait(LONG);
    let exit = exit_of(&daemon, one.pid());
    assert_eq!(owner(&exit), ("lineage", Some(true)));
    assert_eq!(text(&exit, "process.executable"), lineage.program.display().to_string());
    assert_eq!(daemon.count(|event| is(event, "incident.open", "other")), 0);

    // The next process is found by its executable, whatever its name.
    let mut again = lineage.start(&[]);
    // The incident of its worker may be over before the one of its death.
    let resolved = |event: &Value| {
        is(event, "incident.resolve", "lineage") && text(event, "incident.verdict") == "killed"
    };
    daemon.wait_for(resolved, LONG);
    let mark = daemon.mark();
    signal(again.pid(), Signal::KILL);
    again.wait(LONG);
    let exit = daemon.wait_for_after(mark, |event| is(event, "process.exit", "lineage"), LONG);
    assert_eq!(number(&exit, "process.pid"), Some(again.pid().into()));
    drop(two);
}

#[test]
fn a_daemon_that_forks_twice_is_found_by_every_matcher() {
    if !require_root() {
        return;
    }
    for before in [true, false] {
        for how in ["exe", "port", "pidfile"] {
            let lineage = Lineage::new();
            let pidfile = lineage.pidfile().display().to_string();
            let matcher = match how {
                "exe" => format!("match = {{ exe = {:?} }}", lineage.program.display().to_string()),
                "port" => by_port(&lineage),
                _ => format!("match = {{ pidfile = {pidfile:?} }}"),
            };
            let options = ["--daemonize", "--pidfile", &pidfile];
            if before {
                lineage.start(&options).wait(LONG);
            }
            let daemon = watch(&lineage, &matcher);
            if !before {
                lineage.start(&options).wait(LONG);
            }
            let main: u32 = fs::read_to_string(&pidfile).expect("a pidfile").trim().parse().expect("a pid");
            found(&daemon, "lineage");
            let worker = lineage.spawn("orphan");
            signal(worker, Signal::ABORT);
            assert_eq!(owner(&exit_of(&daemon, worker)), ("lineage", Some(false)), "{how}, {before}");
            signal(main, Signal::KILL);
            assert_eq!(owner(&exit_of(&daemon, main)), ("lineage", Some(true)), "{how}, {before}");
            // If its worker's death was known for more than a moment, there is an incident already.
            let killed = |event: &Value| {
                ["incident.open", "incident.update"].iter().any(|action| is(event, action, "lineage"))
                    && text(event, "incident.verdict") == "killed"
            };
            daemon.wait_for(killed, LONG);
        }
    }
}

#[test]
fn a_supervised_command_that_daemonizes_has_exited_and_its_daemon_becomes_the_main_process() {
    if !require_root() {
        return;
    }
    let (lineage, service) = (Lineage::new(), Supervised::new());
    let command = lineage.command(&["--daemonize"]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let restart = "[service.restart]\nenabled = false\n";
    let mut daemon = Daemon::start(&format!("{QUIET}{}{restart}", service.service(&words)), &[]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited");
    let left = listening(&daemon, &service.name, lineage.port);
    let worker = lineage.spawn("orphan");
    for (process, is_main) in [(worker, false), (left, true)] {
        signal(process, Signal::ABORT);
        assert_eq!(owner(&exit_of(&daemon, process)), (service.name.as_str(), Some(is_main)));
    }
    daemon.stop();
}

#[test]
fn a_main_process_that_execs_another_program_is_still_the_main_one() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let mut latch = Latch::new(service.folder());
    latch.close();
    let victim = Victim::program().display().to_string();
    let script = format!("{}; exec {victim} --port {}", latch.script(), service.port);
    let daemon = Daemon::start(&format!("{QUIET}{}", service.service(&["/bin/sh", "-c", &script])), &[]);
    daemon.ready();
    found(&daemon, &service.name);
    latch.open();
    let pid = listening(&daemon, &service.name, service.port);
    signal(pid, Signal::KILL);
    let exit = exit_of(&daemon, pid);
    assert_eq!(owner(&exit), (service.name.as_str(), Some(true)));
    assert_eq!(text(&exit, "process.executable"), victim);
    assert_eq!(text(&exit, "process.command_line"), format!("{victim} --port {}", service.port));
    assert_eq!(verdict(&daemon, &service.name), "killed");
}

#[test]
fn an_orphaned_worker_still_belongs_to_its_service() {
    if !require_root() {
        return;
    }
    let lineage = Lineage::new();
    let running = lineage.start(&[]);
    let early = lineage.spawn("child");
    let daemon = watch(&lineage, &by_port(&lineage));
    found(&daemon, "lineage");
    let orphan = lineage.spawn("orphan");
    let status = fs::read_to_string(format!("/proc/{orphan}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim).expect("a parent");
    assert_ne!(parent, running.pid().to_string(), "its parent is outside the lineage");
    for worker in [orphan, early] {
        signal(worker, Signal::ABORT);
        let exit = exit_of(&daemon, worker);
        assert_eq!(owner(&exit), ("lineage", Some(false)), "{exit:#}");
    }
    assert_eq!(verdict(&daemon, "lineage"), "worker_died");
    assert_eq!(daemon.count(|event| is(event, "process.exit", "lineage")), 2);
}

#[test]
fn a_descendant_that_execs_in_another_unit_leaves_the_lineage() {
    if !require_root() {
        return;
    }
    let Some(mount) = cgroup::v2() else { return };
    let (lineage, session) = (Lineage::new(), Lineage::new());
    let _running = lineage.start(&[]);
    let daemon = watch(&lineage, &by_port(&lineage));
    found(&daemon, "lineage");
    // As a login service does it.
    let scope = Group::new(&mount, &format!("session-hostprobe-{}.scope", std::process::id()));
    let command = format!("session {} {}", scope.folder().display(), session.command(&[]).join(" "));
    let login = lineage.spawn(&command);
    // The exit of its child is reported after its own exec.
    let first = session.spawn("orphan");
    signal(first, Signal::ABORT);
    assert_eq!(owner(&exit_of(&daemon, first)), ("", None));
    let second = session.spawn("orphan");
    // Its cgroup names no unit.
    fs::write(mount.join("cgroup.procs"), second.to_string()).expect("it is moved");
    signal(second, Signal::ABORT);
    assert_eq!(owner(&exit_of(&daemon, second)), ("", None), "born after that");
    signal(login, Signal::KILL);
    assert_eq!(owner(&exit_of(&daemon, login)), ("", None));
}

#[test]
fn an_orphaned_worker_stays_in_the_cgroup_of_its_service() {
    if !require_root() {
        return;
    }
    let (lineage, service) = (Lineage::new(), Supervised::new());
    let command = lineage.command(&[]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&format!("{QUIET}{}", service.service(&words)), &[]);
    let main = listening(&daemon, &service.name, lineage.port);
    let worker = lineage.spawn("orphan");
    signal(worker, Signal::ABORT);
    let exit = exit_of(&daemon, worker);
    assert_eq!(owner(&exit), (service.name.as_str(), Some(false)));
    assert!(text(&exit, "cgroup.path").ends_with(&format!("service-{}", service.name)), "{exit:#}");
    assert_eq!(fs::read_link(format!("/proc/{main}/exe")).expect("it lives"), lineage.program);
    daemon.stop();
}

#[test]
fn a_main_process_in_another_cgroup_is_still_the_main_one() {
    if !require_root() {
        return;
    }
    let (lineage, service) = (Lineage::new(), Supervised::new());
    let name = format!("hostprobe-moved-{}", std::process::id());
    let Some(mount) = cgroup::v2() else { return };
    let group = Group::new(&mount, &name);
    let command = lineage.command(&[]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&format!("{QUIET}{}", service.service(&words)), &[]);
    let main = listening(&daemon, &service.name, lineage.port);
    // It listens a moment before the supervisor has said that it is the main one.
    daemon.wait_for(
        |event| is(event, "service.state", &service.name) && text(event, "service.state") == "healthy",
        LONG,
    );
    group.add(main);
    // Forked in the other cgroup, without a living parent in the lineage: only the fork shows its service.
    let worker = lineage.spawn("orphan");
    signal(worker, Signal::ABORT);
    let exit = exit_of(&daemon, worker);
    assert_eq!(
        (owner(&exit), text(&exit, "cgroup.path")),
        ((service.name.as_str(), Some(false)), format!("/{name}").as_str())
    );
    let mark = daemon.mark();
    signal(main, Signal::KILL);
    let exit = exit_of(&daemon, main);
    assert_eq!(
        (owner(&exit), text(&exit, "cgroup.path")),
        ((service.name.as_str(), Some(true)), format!("/{name}").as_str())
    );
    let again = |event: &Value| service.listens(lineage.port, event);
    let second = daemon.wait_for_after(mark, again, LONG);
    assert_ne!(number(&second, "process.pid"), Some(main.into()));
    daemon.stop();
}

#[test]
fn an_unrelated_process_in_the_cgroup_of_a_service_is_its_worker_not_its_main_process() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&daemon);
    let other_process = Victim::start();
    let group = service.cgroup(&daemon);
    fs::write(group.join("cgroup.procs"), other_process.process.pid().to_string()).expect("it is moved");
    signal(other_process.process.pid(), Signal::ABORT);
    let exit = exit_of(&daemon, other_process.process.pid());
    assert_eq!(owner(&exit), (service.name.as_str(), Some(false)), "as systemd sees it");
    assert_eq!(verdict(&daemon, &service.name), "worker_died");
    // The main process is distinguished from it.
    let main = service.pid(&daemon);
    service.kill(&daemon);
    assert_eq!(owner(&exit_of(&daemon, main)), (service.name.as_str(), Some(true)));
}

#[test]
fn hundreds_of_children_end_and_each_exit_is_reported_with_its_status() {
    if !require_root() {
        return;
    }
    let (lineage, page) = (Lineage::new(), free_port());
    let mut running = lineage.start(&[]);
    let http = format!("[http]\nlisten = \"127.0.0.1:{page}\"\n");
    let daemon = Daemon::start(&format!("{http}{}", lineage.service("lineage", &by_port(&lineage))), &[]);
    daemon.ready();
    found(&daemon, "lineage");
    let workers = |event: &Value| is(event, "process.exit", "lineage") && owner(event).1 == Some(false);
    let rounds: usize = 4;
    for round in 1..=rounds {
        assert_eq!(lineage.request("many 500"), "ok");
        until("all exits are reported", LONG, || (daemon.count(workers) == round * 40).then_some(()));
    }
    let killed = |event: &Value| workers(event) && text(event, "process.exit_signal.name") == "SIGKILL";
    assert_eq!(daemon.count(killed), rounds * 20);
    assert_eq!(
        daemon.count(|event| workers(event) && number(event, "process.exit_code") == Some(3)),
        rounds * 20
    );
    // What else goes on here may cost others their records, never these.
    assert_eq!(daemon.count(|event| text(event, "loss.class") == LossClass::ExitWatched.as_str()), 0);
    // No entry remains for ended processes.
    until("the kernel side has forgotten them", Duration::from_secs(20), || {
        let metrics = http::get(page, "/metrics").ok()?.1;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("hostprobe_table_entries{table=\"descendants\"} "))?;
        line.parse::<u32>().ok().filter(|entries| *entries < 50)
    });
    signal(running.pid(), Signal::KILL);
    running.wait(LONG);
    assert_eq!(owner(&exit_of(&daemon, running.pid())), ("lineage", Some(true)));
}
