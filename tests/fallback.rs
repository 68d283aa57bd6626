//! The daemon where hooks are refused: each in turn, all of them, and for lack of rights. It reports what it does not see,
//! and restarts what has to be restarted all the same.

use std::{os::unix::process::CommandExt, process::Command, time::Duration};

use hostprobe::sensor::ebpf::Hook;
use hostprobe_tests::{
    daemon::{Daemon, event_action, field},
    http,
    incident_events::{IncidentEvents, is, number, text},
    kernel_hooks::possible,
    memcg::MemoryCgroup,
    parts::require_root,
    supervised::Supervised,
    victim::Victim,
};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

const LONG: Duration = Duration::from_secs(30);

/// What `agent.ready` says of a hook.
fn coverage<'a>(ready: &'a Value, hook: &str) -> &'a Value {
    let all = field(ready, "coverage").and_then(Value::as_array).expect("the coverage");
    all.iter().find(|it| it["hook"] == hook).unwrap_or_else(|| panic!("no {hook} in {ready:#}"))
}

fn confidence(incident: &IncidentEvents) -> f64 {
    let opened = incident.one("incident.open");
    field(opened, "incident.confidence").and_then(Value::as_f64).expect("a confidence")
}

/// A service under a daemon that does without some hooks.
fn without(hooks: &[&str]) -> (Daemon, Supervised, Value) {
    let service = Supervised::new();
    let arguments: Vec<&str> = hooks.iter().flat_map(|hook| ["--without-hook", hook]).collect();
    let daemon = Daemon::start(&service.config(""), &arguments);
    let ready = daemon.ready();
    service.until_healthy(&daemon);
    // Its pid is known when its listener was seen, which may be later than its probe's answer.
    daemon.wait_for(|event| service.listens(service.port, event), LONG);
    (daemon, service, ready)
}

#[test]
fn each_hook_that_is_refused_costs_its_coverage_and_nothing_else() {
    if !require_root() {
        return;
    }
    let possible = possible();
    for refused in possible.clone() {
        let name = refused.tracepoint();
        let (daemon, service, ready) = without(&[name]);
        for hook in possible.clone() {
            let said = coverage(&ready, hook.tracepoint());
            assert_eq!(said["attached"], hook != refused, "{said}");
            assert_eq!(said.get("reason").is_some(), hook == refused, "{said}");
        }
        let has_fallback = coverage(&ready, name).get("fallback").is_some();
        assert_eq!(has_fallback, refused != Hook::SocketReport, "{name}: nothing else reports errors of UDP");
        assert_eq!(text(&ready, "event.outcome"), "failure", "the coverage is not whole");

        let (mark, pid) = (daemon.mark(), i64::from(service.pid(&daemon)));
        service.kill(&daemon);
        let incident = IncidentEvents::of(&daemon, mark, &service.name);
        assert_eq!(incident.verdict(), "killed", "without {name}");
        let reported = |event: &Value| {
            event_action(event) == "process.exit" && number(event, "process.pid") == Some(pid)
        };
        assert_eq!(daemon.count(reported), 1, "without {name}");
        incident.one("restart.done");
        let source = if refused == Hook::Exit { "netlink" } else { "ebpf" };
        assert_eq!(text(incident.one("process.exit"), "event.provider"), source, "without {name}");
        let certain = !matches!(refused, Hook::Exit | Hook::Signal);
        assert_eq!(confidence(&incident) >= 1.0, certain, "without {name}: {}", confidence(&incident));
    }
}

#[test]
fn an_oom_kill_without_its_hook_is_read_from_the_kernel_log_with_its_numbers() {
    if !require_root() {
        return;
    }
    for hooks in [&["mark_victim"][..], &["all"]] {
        let (daemon, service, _) = without(hooks);
        let limit = 30 << 20;
        let cgroup = MemoryCgroup::new(limit).expect("a memory cgroup");
        let pid = service.pid(&daemon);
        cgroup.add(pid).expect("it is moved");
        let mark = daemon.mark();
        let _ = http::get(service.port, "/alloc?mb=100");
        let incident = IncidentEvents::of(&daemon, mark, &service.name);
        assert_eq!(incident.verdict(), "oom_killed");
        let kill = incident.one("process.oom_kill");
        assert_eq!((text(kill, "event.provider"), text(kill, "oom.scope")), ("kmsg", "memcg"));
        assert_eq!(number(kill, "process.pid"), Some(i64::from(pid)));
        assert_eq!(number(kill, "oom.limit_bytes"), Some(limit.cast_signed()));
        let anon = number(kill, "oom.anon_bytes").expect("anonymous bytes");
        assert!((limit.cast_signed() / 2..=limit.cast_signed() + (1 << 20)).contains(&anon), "{anon}");
        let evidence = field(incident.one("incident.open"), "incident.evidence").and_then(Value::as_array);
        let id = field(kill, "event.id").expect("an id");
        assert!(evidence.is_some_and(|ids| ids.contains(id)), "{evidence:?}");
    }
}

#[test]
fn the_death_of_an_unwatched_process_is_reported_without_hooks() {
    if !require_root() {
        return;
    }
    let (daemon, service, _) = without(&["all"]);
    let exit_of = |unwatched: &mut Victim| {
        let pid = unwatched.process.pid();
        unwatched.hit("/segv");
        unwatched.wait();
        let exits = |event: &Value| {
            event_action(event) == "process.exit" && number(event, "process.pid") == Some(pid.into())
        };
        daemon.wait_for(exits, LONG)
    };
    // An unwatched process whose exec the daemon has read is known, however soon its parent reaps it. The kernel tells in
    // order: with the exit of a later process, the earlier exec has been read.
    let mut unwatched = Victim::start();
    exit_of(&mut Victim::start());
    let exit = exit_of(&mut unwatched);
    assert_eq!(
        (text(&exit, "event.provider"), text(&exit, "process.exit_signal.name")),
        ("netlink", "SIGSEGV")
    );
    assert!(text(&exit, "process.executable").ends_with("/victim"), "{exit:#}");
    assert_eq!(field(&exit, "service"), None);
    assert_eq!(daemon.count(|event| is(event, "incident.open", &service.name)), 0);
}

/// Has a command run with no capability at all, as in a container that has none: its user is root all the same.
fn without_rights(command: &mut Command) -> &mut Command {
    let drop_all = || {
        for bit in 0..64 {
            // The kernel has fewer of them than there are bits.
            let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only.
    unsafe { command.pre_exec(drop_all) }
}

#[test]
fn without_any_right_supervised_commands_are_still_restarted() {
    if !require_root() {
        return;
    }
    let service = Supervised::new();
    let daemon = Daemon::start_with(&service.config(""), &[], without_rights);
    let ready = daemon.ready();
    for hook in Hook::ALL {
        let said = coverage(&ready, hook.tracepoint());
        assert_eq!(said["attached"], false);
        let reason = said["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("CAP_BPF") && reason.contains("CAP_PERFMON"), "{reason}");
    }
    daemon.wait_for_log("CAP_BPF");
    service.until_healthy(&daemon);
    daemon.wait_for(|event| service.listens(service.port, event), LONG);
    for (signal, verdict) in [("/segv", "crashed"), ("/exit?code=3", "exited")] {
        let mark = daemon.mark();
        let _ = http::get(service.port, signal);
        let incident = IncidentEvents::of(&daemon, mark, &service.name);
        assert_eq!(incident.verdict(), verdict);
        assert!(confidence(&incident) < 1.0);
        // Its new pid is known when its listener is seen.
        daemon.wait_for_after(mark, |event| service.listens(service.port, event), LONG);
    }
    // Without rights the kernel's log cannot be read, but its counters can.
    let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
    cgroup.add(service.pid(&daemon)).expect("it is moved");
    let mark = daemon.mark();
    let _ = http::get(service.port, "/alloc?mb=100");
    let incident = IncidentEvents::of(&daemon, mark, &service.name);
    assert_eq!(incident.verdict(), "oom_killed");
    assert_eq!(incident.all("process.oom_kill").len(), 0, "the kernel log was not readable");
}

#[test]
fn without_any_right_the_exit_of_a_process_that_is_no_child_is_seen() {
    if !require_root() {
        return;
    }
    let mut victim = Victim::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pidfile = folder.path().join("pid");
    std::fs::write(&pidfile, victim.process.pid().to_string()).expect("it is written");
    // Its probe runs once an hour: only the exit of the process shows the fault.
    let config = format!(
        "[http]\nlisten = \"\"\n[[service]]\nname = \"victim\"\nmatch = {{ pidfile = {pidfile:?} }}\n\
         [[service.probe]]\ntcp = \"127.0.0.1:{}\"\ninterval = \"1h\"\n",
        victim.port
    );
    let daemon = Daemon::start_with(&config, &[], without_rights);
    daemon.ready();
    let healthy =
        |event: &Value| is(event, "service.state", "victim") && text(event, "service.state") == "healthy";
    daemon.wait_for(healthy, LONG);
    victim.hit("/exit?code=3");
    let exit = daemon.wait_for(|event| is(event, "process.exit", "victim"), LONG);
    // Newer kernels allow the process connector without rights.
    assert!(matches!(text(&exit, "event.provider"), "netlink" | "proc"), "{exit:#}");
    let opened = daemon.wait_for(|event| is(event, "incident.open", "victim"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "exited");
    victim.wait();
}
