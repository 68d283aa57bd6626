//! Commands under `exec` where the daemon cannot make cgroups: a restart and a stop still leave nothing behind.

use std::{io, os::unix::process::CommandExt as _, process::Command, time::Duration};

use hostprobe_tests::{
    cgroup::hierarchies,
    daemon::{Daemon, event_action},
    http::free_port,
    incident_events::IncidentEvents,
    operator::{End, Home, end},
    parts::require_root,
    process::{until, with_argument},
    supervised::Supervised,
    victim::Victim,
};
use rustix::{
    mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount},
    process::Signal,
    thread::{UnshareFlags, unshare_unsafe},
};

const LONG: Duration = Duration::from_secs(30);

/// Has the daemon see the hierarchies of cgroups, and write none.
fn without_cgroups(command: &mut Command) -> &mut Command {
    let mounts: Vec<_> = hierarchies().into_iter().map(|hierarchy| hierarchy.mount).collect();
    let read_only = move || {
        // SAFETY: the process is about to execute the daemon, and has one thread.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        mounts.iter().try_for_each(|mount| {
            Ok::<(), io::Error>(mount_remount(mount, MountFlags::BIND | MountFlags::RDONLY, "")?)
        })
    };
    // SAFETY: between fork and exec it makes system calls on paths; the test has no other thread that holds a lock.
    unsafe { command.pre_exec(read_only) }
}

/// The pids of the victim that listens on a port.
fn listening_on(port: u16) -> Vec<u32> {
    with_argument(&port.to_string())
}

/// A restart and a stop end a grandchild that leads a session of its own and has lost its parent.
fn a_grandchild_ends_with_its_service(hooks: &[&str]) {
    let (service, detached) = (Supervised::new(), free_port());
    let victim = Victim::program().display().to_string();
    // The session's process group has no member left: the shell in between has ended.
    let script = format!(
        "(setsid sh -c '{victim} --port {detached} & exit' &); exec {victim} --port {}",
        service.port
    );
    let other = Supervised::new();
    let config = format!(
        "[http]\nlisten = \"\"\n{}[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\n{}",
        service.service(&["/bin/sh", "-c", &script]),
        service.port,
        other.service(&[&victim, "--port", &other.port.to_string()])
    );
    let mut daemon = Daemon::start_with(&config, hooks, without_cgroups);
    service.until_healthy(&daemon);
    let first = until("the grandchild", LONG, || listening_on(detached).first().copied());
    let mark = daemon.mark();
    let main = until("the main process", LONG, || listening_on(service.port).first().copied());
    hostprobe_tests::process::kill(main);
    IncidentEvents::of(&daemon, mark, &service.name);
    let second = until("its successor", LONG, || {
        let pids = listening_on(detached);
        pids.first().copied().filter(|pid| pids.len() == 1 && *pid != first)
    });
    // What has ended below the daemon is waited for.
    until("the end of the first", LONG, || {
        (!std::path::Path::new(&format!("/proc/{first}")).exists()).then_some(())
    });
    daemon.wait_for_log("without cgroups of their own");
    let log = daemon.log();
    assert_eq!(log.matches("without cgroups of their own").count(), 1, "said once for both services: {log}");
    daemon.stop();
    assert_eq!(listening_on(detached), [] as [u32; 0], "{second} ends with its service");
    assert_eq!(listening_on(service.port), [] as [u32; 0]);
}

#[test]
fn a_restart_without_cgroups_ends_what_left_the_process_group() {
    if require_root() {
        a_grandchild_ends_with_its_service(&[]);
    }
}

#[test]
fn it_does_without_hooks_too() {
    if require_root() {
        a_grandchild_ends_with_its_service(&["--without-hook", "all"]);
    }
}

#[test]
fn the_next_daemon_ends_what_a_killed_one_left_and_nothing_of_another() {
    if !require_root() {
        return;
    }
    let (service, other) = (Supervised::new(), Supervised::new());
    let victim = Victim::program().display().to_string();
    let config = |service: &Supervised| {
        let run = service.service(&[&victim, "--port", &service.port.to_string()]);
        format!(
            "[http]\nlisten = \"\"\n{run}[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\n",
            service.port
        )
    };
    // Both daemons have a service of this name.
    let namesake = config(&other).replace(&other.name, &service.name);
    let living = Daemon::start_with(&namesake, &[], without_cgroups);
    let mut killed = Daemon::start_with(&config(&service), &[], without_cgroups);
    service.until_healthy(&killed);
    let kept = until("the other one", LONG, || listening_on(other.port).first().copied());
    let left = listening_on(service.port);
    killed.signal(Signal::KILL);
    killed.wait(LONG);
    assert_eq!(listening_on(service.port), left, "it outlives its daemon");

    let next = Daemon::start_with(&config(&service), &[], without_cgroups);
    service.until_healthy(&next);
    // The one that was left answers the first probes until it is ended.
    let own = || Some(listening_on(service.port)).filter(|own| own.len() == 1 && *own != left);
    until("a process of its own", LONG, own);
    assert_eq!(next.count(|event| event_action(event) == "incident.open"), 0);
    assert_eq!(listening_on(other.port), [kept]);
    drop(living);
}

fn a_service_is_taken_over(hooks: &[&str]) {
    let (home, service, detached) = (Home::new(), Supervised::new(), free_port());
    let victim = Victim::program().display().to_string();
    let script = format!(
        "(setsid sh -c '{victim} --port {detached} & exit' &); exec {victim} --port {}",
        service.port
    );
    let probed = format!("[[service.probe]]\nhttp = \"http://127.0.0.1:{}/health\"\n", service.port);
    let config = |on_exit: &str| {
        let run = service.service(&["/bin/sh", "-c", &script]);
        home.config(&format!("[supervisor]\non_exit = {on_exit:?}\n{run}{probed}"))
    };
    let first = Daemon::start_with(&config("leave"), hooks, without_cgroups);
    service.until_healthy(&first);
    let main = until("the main process", LONG, || listening_on(service.port).first().copied());
    let grandchild = until("the grandchild", LONG, || listening_on(detached).first().copied());
    end(first, End::Clean);

    let mut daemon = Daemon::start_with(&config("stop"), hooks, without_cgroups);
    service.until_healthy(&daemon);
    assert_eq!((listening_on(service.port), listening_on(detached)), (vec![main], vec![grandchild]));
    // A daemon of its own with a service of the same name touches nothing of it.
    let (other, namesake) = (Home::new(), Supervised::new());
    let run = namesake.service(&[&victim, "--port", &namesake.port.to_string()]);
    let stranger = Daemon::start_with(
        &other.config(&run.replace(&namesake.name, &service.name)),
        hooks,
        without_cgroups,
    );
    service.until_healthy(&stranger);
    assert_eq!((listening_on(service.port), listening_on(detached)), (vec![main], vec![grandchild]));
    drop(stranger);

    let mark = daemon.mark();
    hostprobe_tests::process::kill(main);
    IncidentEvents::of(&daemon, mark, &service.name);
    let second = until("the second grandchild", LONG, || {
        let pids = listening_on(detached);
        pids.first().copied().filter(|pid| pids.len() == 1 && *pid != grandchild)
    });
    assert_eq!(daemon.count(|event| event_action(event) == "incident.open"), 1);
    daemon.stop();
    assert_eq!(listening_on(detached), [] as [u32; 0], "{second} ends with its service");
    assert_eq!(listening_on(service.port), [] as [u32; 0]);
}

#[test]
fn a_service_without_a_cgroup_is_taken_over_with_all_that_it_has_started() {
    if require_root() {
        a_service_is_taken_over(&[]);
    }
}

#[test]
fn it_is_taken_over_without_hooks_too() {
    if require_root() {
        a_service_is_taken_over(&["--without-hook", "all"]);
    }
}
