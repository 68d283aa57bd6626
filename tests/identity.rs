//! A process is who the kernel says it is: by pid and start, by cgroup, by birth. Names, arguments and parents change.

use std::{fs, process::Command, time::Duration};

use hostprobe_tests::{
    cgroup::{self, Group},
    daemon::Daemon,
    family::{Family, LONG, exit_of, listening, owner, verdict},
    gate::Gate,
    http::{self, free_port},
    parts::{built, require_root},
    process::{Running, signal, until},
    story::{is, number, text},
    supervised::Supervised,
    victim::Victim,
};
use rustix::process::Signal;
use serde_json::Value;

const QUIET: &str = "[http]\nlisten = \"\"\n";

/// A daemon that knows a family by this matcher, and names it `family`.
fn watch(family: &Family, matcher: &str) -> Daemon {
    let daemon = Daemon::start(&format!("{QUIET}{}", family.service("family", matcher)), &[]);
    daemon.ready();
    daemon
}

fn by_port(family: &Family) -> String {
    format!("match = {{ port = {} }}", family.port)
}

/// Waits until a matched service is known to run.
fn found(daemon: &Daemon, service: &str) {
    let known = |event: &Value| {
        is(event, "service.state", service) && ["healthy", "starting"].contains(&text(event, "service.state"))
    };
    daemon.wait_for(known, LONG);
}

/// A stranger under this pid, once that is free.
fn reborn(pid: u32, program: &[&str]) -> Running {
    let mut command = Command::new(built("reborn"));
    let running = Running::start(command.arg(pid.to_string()).args(program), Signal::KILL);
    running.wait_until_it_says("reborn as", &running.stdout, LONG);
    let executes = || {
        let file = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (file != built("reborn")).then_some(())
    };
    until("the stranger executes its program", LONG, executes);
    running
}

#[test]
fn a_stranger_with_the_pid_of_a_dead_main_process_is_a_stranger() {
    if !require_root() {
        return;
    }
    let family = Family::new();
    let mut running = family.start(&[]);
    let daemon = watch(&family, &by_port(&family));
    found(&daemon, "family");
    let pid = running.pid();
    let worker = family.make("child");
    signal(pid, Signal::KILL);
    running.wait(LONG);
    let stranger = reborn(pid, &["/usr/bin/sleep", "600"]);
    assert_eq!(owner(&exit_of(&daemon, pid)), ("family", Some(true)));
    assert_eq!(verdict(&daemon, "family"), "killed");

    // A child of the stranger has a parent whose pid was watched; the worker has none of the family left.
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
        "family",
        "it was born to it, and has inherited its listener"
    );
    assert_eq!(daemon.count(|event| is(event, "process.exit", "family")), 2, "not the stranger's");
    drop(stranger);
}

#[test]
fn children_of_a_stranger_with_a_watched_pid_are_strangers() {
    if !require_root() {
        return;
    }
    let (family, other) = (Family::new(), Family::new());
    let mut running = family.start(&[]);
    let daemon = watch(&family, &by_port(&family));
    found(&daemon, "family");
    let pid = running.pid();
    signal(pid, Signal::KILL);
    running.wait(LONG);
    let command = other.command(&[]);
    let stranger = reborn(pid, &command.iter().map(String::as_str).collect::<Vec<_>>());
    let child = other.make("child");
    let orphan = other.make("orphan");
    for process in [child, orphan] {
        signal(process, Signal::ABORT);
        assert_eq!(owner(&exit_of(&daemon, process)), ("", None));
    }
    signal(pid, Signal::KILL);
    drop(stranger);
}

#[test]
fn a_pidfile_that_a_dead_service_left_names_no_stranger() {
    if !require_root() {
        return;
    }
    let family = Family::new();
    let pidfile = family.pidfile().display().to_string();
    let mut running = family.start(&["--pidfile", &pidfile]);
    // Both have to hold, so that whoever listens is looked at once.
    let marker = Family::new();
    let matcher = format!("match = {{ pidfile = {pidfile:?}, port = {} }}", family.port);
    let daemon = Daemon::start(
        &format!(
            "{QUIET}{}{}",
            family.service("family", &matcher),
            marker.service("marker", &by_port(&marker))
        ),
        &[],
    );
    daemon.ready();
    found(&daemon, "family");
    let pid = running.pid();
    signal(pid, Signal::KILL);
    running.wait(LONG);
    assert_eq!(verdict(&daemon, "family"), "killed");

    // The stranger has its pid and its port. The marker is searched for after it, and found.
    let other = Victim::program().display().to_string();
    let stranger = reborn(pid, &[&other, "--port", &family.port.to_string()]);
    until("the stranger listens", LONG, || http::get(family.port, "/health").ok());
    let _marker = marker.start(&[]);
    listening(&daemon, "marker", marker.port);
    let mark = daemon.mark();
    // Now it is the service's: the file is written for it.
    fs::remove_file(&pidfile).expect("it is there");
    fs::write(&pidfile, pid.to_string()).expect("it is written");
    let back = |event: &Value| is(event, "incident.resolve", "family");
    daemon.wait_for_after(mark, back, LONG);
    assert_eq!(daemon.count(back), 1, "not before");
    signal(pid, Signal::KILL);
    drop(stranger);
}

#[test]
fn names_and_arguments_are_not_who_a_process_is() {
    if !require_root() {
        return;
    }
    let (family, other) = (Family::new(), Family::new());
    let (mut one, two) = (family.start(&[]), other.start(&[]));
    let exe = |it: &Family| format!("match = {{ exe = {:?} }}", it.program.display().to_string());
    let config =
        format!("{QUIET}{}{}", family.service("family", &exe(&family)), other.service("other", &exe(&other)));
    let daemon = Daemon::start(&config, &[]);
    daemon.ready();
    found(&daemon, "family");
    found(&daemon, "other");
    let name = format!("family-{}", other.port);
    assert_eq!(family.tell(&format!("rename {name}")), "ok");
    let comm = fs::read_to_string(format!("/proc/{}/comm", one.pid())).expect("it lives");
    assert_eq!(comm.trim(), name, "it calls itself like the other one");
    assert!(fs::read(format!("/proc/{}/cmdline", one.pid())).expect("it lives").starts_with(name.as_bytes()));

    let worker = family.make("child");
    signal(worker, Signal::ABORT);
    let exit = exit_of(&daemon, worker);
    assert_eq!((owner(&exit), text(&exit, "process.name")), (("family", Some(false)), name.as_str()));
    signal(one.pid(), Signal::KILL);
    one.wait(LONG);
    let exit = exit_of(&daemon, one.pid());
    assert_eq!(owner(&exit), ("family", Some(true)));
    assert_eq!(text(&exit, "process.executable"), family.program.display().to_string());
    assert_eq!(daemon.count(|event| is(event, "incident.open", "other")), 0);

    // Who comes next is found by its file, whatever it is called by then.
    let mut again = family.start(&[]);
    daemon.wait_for(|event| is(event, "incident.resolve", "family"), LONG);
    let mark = daemon.mark();
    signal(again.pid(), Signal::KILL);
    again.wait(LONG);
    let exit = daemon.wait_for_after(mark, |event| is(event, "process.exit", "family"), LONG);
    assert_eq!(number(&exit, "process.pid"), Some(again.pid().into()));
    drop(two);
}

#[test]
fn a_daemon_that_forks_twice_is_found_however_it_is_known() {
    if !require_root() {
        return;
    }
    for before in [true, false] {
        for how in ["exe", "port", "pidfile"] {
            let family = Family::new();
            let pidfile = family.pidfile().display().to_string();
            let matcher = match how {
                "exe" => format!("match = {{ exe = {:?} }}", family.program.display().to_string()),
                "port" => by_port(&family),
                _ => format!("match = {{ pidfile = {pidfile:?} }}"),
            };
            let options = ["--daemonize", "--pidfile", &pidfile];
            if before {
                family.start(&options).wait(LONG);
            }
            let daemon = watch(&family, &matcher);
            if !before {
                family.start(&options).wait(LONG);
            }
            let main: u32 = fs::read_to_string(&pidfile).expect("a pidfile").trim().parse().expect("a pid");
            found(&daemon, "family");
            let worker = family.make("orphan");
            signal(worker, Signal::ABORT);
            assert_eq!(owner(&exit_of(&daemon, worker)), ("family", Some(false)), "{how}, {before}");
            signal(main, Signal::KILL);
            assert_eq!(owner(&exit_of(&daemon, main)), ("family", Some(true)), "{how}, {before}");
            let killed = |event: &Value| {
                is(event, "incident.open", "family") && text(event, "incident.verdict") == "killed"
            };
            daemon.wait_for(killed, LONG);
        }
    }
}

#[test]
fn a_supervised_command_that_forks_into_the_background_has_exited_and_what_it_left_is_its_own() {
    if !require_root() {
        return;
    }
    let (family, service) = (Family::new(), Supervised::new());
    let command = family.command(&["--daemonize"]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let restart = "[service.restart]\nenabled = false\n";
    let mut daemon = Daemon::start(&format!("{QUIET}{}{restart}", service.service(&words)), &[]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", &service.name), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited");
    let left = listening(&daemon, &service.name, family.port);
    let worker = family.make("orphan");
    for process in [worker, left] {
        signal(process, Signal::ABORT);
        assert_eq!(owner(&exit_of(&daemon, process)), (service.name.as_str(), Some(false)));
    }
    daemon.stop();
}

#[test]
fn a_main_process_that_becomes_another_program_is_still_the_main_one() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let mut gate = Gate::new(service.folder());
    gate.close();
    let victim = Victim::program().display().to_string();
    let script = format!("{}; exec {victim} --port {}", gate.script(), service.port);
    let daemon = Daemon::start(&format!("{QUIET}{}", service.service(&["/bin/sh", "-c", &script])), &[]);
    daemon.ready();
    found(&daemon, &service.name);
    gate.open();
    let pid = listening(&daemon, &service.name, service.port);
    signal(pid, Signal::KILL);
    let exit = exit_of(&daemon, pid);
    assert_eq!(owner(&exit), (service.name.as_str(), Some(true)));
    assert_eq!(text(&exit, "process.executable"), victim);
    assert_eq!(text(&exit, "process.command_line"), format!("{victim} --port {}", service.port));
    assert_eq!(verdict(&daemon, &service.name), "killed");
}

#[test]
fn a_worker_whose_parents_are_gone_is_still_the_service_s() {
    if !require_root() {
        return;
    }
    let family = Family::new();
    let running = family.start(&[]);
    let early = family.make("child");
    let daemon = watch(&family, &by_port(&family));
    found(&daemon, "family");
    let orphan = family.make("orphan");
    let status = fs::read_to_string(format!("/proc/{orphan}/status")).expect("it lives");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim).expect("a parent");
    assert_ne!(parent, running.pid().to_string(), "its parent is none of the family");
    for worker in [orphan, early] {
        signal(worker, Signal::ABORT);
        let exit = exit_of(&daemon, worker);
        assert_eq!(owner(&exit), ("family", Some(false)), "{exit:#}");
    }
    assert_eq!(verdict(&daemon, "family"), "worker_died");
    assert_eq!(daemon.count(|event| is(event, "process.exit", "family")), 2);
}

#[test]
fn what_is_started_in_another_unit_is_no_longer_of_the_family() {
    if !require_root() {
        return;
    }
    let Some(mount) = cgroup::v2() else { return };
    let (family, session) = (Family::new(), Family::new());
    let _running = family.start(&[]);
    let daemon = watch(&family, &by_port(&family));
    found(&daemon, "family");
    // As a login service does it.
    let scope = Group::new(&mount, &format!("session-hostprobe-{}.scope", std::process::id()));
    let command = format!("session {} {}", scope.folder().display(), session.command(&[]).join(" "));
    let login = family.make(&command);
    // The end of what it starts is told after what it has executed itself.
    let first = session.make("orphan");
    signal(first, Signal::ABORT);
    assert_eq!(owner(&exit_of(&daemon, first)), ("", None));
    let second = session.make("orphan");
    // By its cgroup it could be anybody's.
    fs::write(mount.join("cgroup.procs"), second.to_string()).expect("it is moved");
    signal(second, Signal::ABORT);
    assert_eq!(owner(&exit_of(&daemon, second)), ("", None), "born after that");
    signal(login, Signal::KILL);
    assert_eq!(owner(&exit_of(&daemon, login)), ("", None));
}

#[test]
fn a_worker_that_leaves_its_family_stays_in_its_cgroup() {
    if !require_root() {
        return;
    }
    let (family, service) = (Family::new(), Supervised::new());
    let command = family.command(&[]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&format!("{QUIET}{}", service.service(&words)), &[]);
    let main = listening(&daemon, &service.name, family.port);
    let worker = family.make("orphan");
    signal(worker, Signal::ABORT);
    let exit = exit_of(&daemon, worker);
    assert_eq!(owner(&exit), (service.name.as_str(), Some(false)));
    assert!(text(&exit, "cgroup.path").ends_with(&format!("service-{}", service.name)), "{exit:#}");
    assert_eq!(fs::read_link(format!("/proc/{main}/exe")).expect("it lives"), family.program);
    daemon.stop();
}

#[test]
fn a_main_process_in_another_cgroup_is_still_the_main_one() {
    if !require_root() {
        return;
    }
    let (family, service) = (Family::new(), Supervised::new());
    let name = format!("hostprobe-moved-{}", std::process::id());
    let Some(mount) = cgroup::v2() else { return };
    let group = Group::new(&mount, &name);
    let command = family.command(&[]);
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start(&format!("{QUIET}{}", service.service(&words)), &[]);
    let main = listening(&daemon, &service.name, family.port);
    // It listens a moment before the supervisor has said that it is the main one.
    daemon.wait_for(
        |event| is(event, "service.state", &service.name) && text(event, "service.state") == "healthy",
        LONG,
    );
    group.add(main);
    // Born in the other cgroup, without a parent of the family: only its birth tells whose it is.
    let worker = family.make("orphan");
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
    let again = |event: &Value| service.listens(family.port, event);
    let second = daemon.wait_for_after(mark, again, LONG);
    assert_ne!(number(&second, "process.pid"), Some(main.into()));
    daemon.stop();
}

#[test]
fn a_stranger_in_a_service_s_cgroup_is_one_of_its_processes_and_not_its_main_one() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start(&service.config(""), &[]);
    service.until_healthy(&daemon);
    let stranger = Victim::start();
    let group = service.cgroup(&daemon);
    fs::write(group.join("cgroup.procs"), stranger.process.pid().to_string()).expect("it is moved");
    signal(stranger.process.pid(), Signal::ABORT);
    let exit = exit_of(&daemon, stranger.process.pid());
    assert_eq!(owner(&exit), (service.name.as_str(), Some(false)), "as systemd sees it");
    assert_eq!(verdict(&daemon, &service.name), "worker_died");
    // The one that counts is told apart from it.
    let main = service.pid(&daemon);
    service.kill(&daemon);
    assert_eq!(owner(&exit_of(&daemon, main)), (service.name.as_str(), Some(true)));
}

#[test]
fn hundreds_of_children_come_and_go_and_each_end_is_told_right() {
    if !require_root() {
        return;
    }
    let (family, page) = (Family::new(), free_port());
    let mut running = family.start(&[]);
    let http = format!("[http]\nlisten = \"127.0.0.1:{page}\"\n");
    let daemon = Daemon::start(&format!("{http}{}", family.service("family", &by_port(&family))), &[]);
    daemon.ready();
    found(&daemon, "family");
    let workers = |event: &Value| is(event, "process.exit", "family") && owner(event).1 == Some(false);
    let rounds: usize = 4;
    for round in 1..=rounds {
        assert_eq!(family.tell("many 500"), "ok");
        until("all ends are told", LONG, || (daemon.count(workers) == round * 40).then_some(()));
    }
    let killed = |event: &Value| workers(event) && text(event, "process.exit_signal.name") == "SIGKILL";
    assert_eq!(daemon.count(killed), rounds * 20);
    assert_eq!(
        daemon.count(|event| workers(event) && number(event, "process.exit_code") == Some(3)),
        rounds * 20
    );
    // What else goes on here may cost others their records, never these.
    assert_eq!(daemon.count(|event| text(event, "loss.class") == "exit_watched"), 0);
    // Nothing is kept of those that are gone.
    until("the kernel side has forgotten them", Duration::from_secs(20), || {
        let metrics = http::get(page, "/metrics").ok()?.1;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("hostprobe_table_entries{table=\"descendants\"} "))?;
        line.parse::<u32>().ok().filter(|entries| *entries < 50)
    });
    signal(running.pid(), Signal::KILL);
    running.wait(LONG);
    assert_eq!(owner(&exit_of(&daemon, running.pid())), ("family", Some(true)));
}
