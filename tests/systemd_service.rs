//! hostprobe as a service of a real systemd, with the files that it is shipped with: its unit, its user, its polkit
//! rule, and the drop-in for services that it starts itself.

use std::fs;

use hostprobe_tests::{
    daemon::{event_action, field},
    http::{free_port, get},
    incident_events::{is, text},
    installed::{Installed, PATIENCE, POLKIT_RULE, UNIT, shipped},
    kernel_hooks::possible,
    memcg::MemoryCgroup,
    parts::require,
    process::{kill, until, with_argument},
    rights::of_all_threads,
    systemd::SystemdLab,
    victim::Victim,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What `systemd-analyze security` may say of the unit, at most.
const EXPOSURE: f64 = 2.0;

/// Without it, services under `exec` outlive a daemon that systemd has started.
const STOP: &str = "[supervisor]\non_exit = \"stop\"";

const SYS_PTRACE: u64 = 1 << 19;
const DAC_READ_SEARCH: u64 = 1 << 2;

/// A lab with a unit that hostprobe watches and may restart; hostprobe is not started yet.
fn with_a_unit() -> Option<Installed> {
    if !require("polkitd", "/usr/lib/polkit-1/polkitd") {
        return None;
    }
    let systemd = SystemdLab::for_test()?;
    let port = free_port();
    let program = systemd.install(&Victim::program()).expect("the victim is installed");
    let unit = format!("[Service]\nExecStart={program} --port {port}\nRestart=no\n");
    systemd.write_unit("api.service", &unit).expect("the unit is written");
    systemd.systemctl(&["start", "api.service"]).expect("the unit starts");
    let services = format!(
        r#"
        [[service]]
        name = "api"
        unit = "api.service"
        [[service.probe]]
        http = "http://127.0.0.1:{port}/health"
        [service.restart]
        enabled = true
        "#
    );
    Some(Installed::new(systemd, &services).expect("hostprobe is installed"))
}

fn becomes(service: &str, state: &str) -> impl Fn(&Value) -> bool {
    move |event| is(event, "service.state", service) && text(event, "service.state") == state
}

fn action(name: &str) -> impl Fn(&Value) -> bool {
    move |event| event_action(event) == name
}

/// Waits until a service is well, kills its main process, and waits until it is well again; the incident's end.
#[track_caller]
fn kill_and_heal(installed: &Installed, service: &str, main: impl Fn() -> u32) -> Value {
    installed.wait_for_after(0, "healthy service", becomes(service, "healthy"));
    let mark = installed.mark();
    kill(main());
    let over =
        installed.wait_for_after(mark, "end of the incident", |event| is(event, "incident.resolve", service));
    installed.wait_for_after(mark, "healthy service", becomes(service, "healthy"));
    over
}

#[test]
fn the_shipped_unit_is_sandboxed_and_every_feature_works_in_it() {
    let Some(installed) = with_a_unit() else { return };
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    let ready = installed.wait_for_after(0, "agent.ready", action("agent.ready"));
    let coverage = field(&ready, "coverage").and_then(Value::as_array).expect("a list");
    let possible = possible();
    let is_attached = |name: &str| coverage.iter().any(|it| it["hook"] == name && it["attached"] == true);
    assert!(possible.iter().all(|hook| is_attached(hook.tracepoint())), "{ready:#}");

    // It was not active before it said that it is ready.
    let since = installed.show_in_micros("ActiveEnterTimestamp");
    let said = text(&ready, "@timestamp").replace('T', " ");
    assert!(since.as_str() >= &said[.."2026-01-01 00:00:00.000000".len()], "{since} is before {said}");
    let main = systemd.host_main_pid(UNIT).expect("it runs");
    for (name, rights) in of_all_threads(main) {
        assert_eq!(rights.permitted, SYS_PTRACE | DAC_READ_SEARCH, "{name}");
        assert_eq!((rights.ambient, rights.no_new_privileges), (0, true), "{name}");
    }
    let owner = fs::metadata(systemd.path("/var/log/hostprobe/events.ndjson")).expect("an event file");
    assert_ne!(std::os::unix::fs::MetadataExt::uid(&owner), 0);

    let exposure = installed.exposure().expect("systemd-analyze says so");
    println!("systemd-analyze security {UNIT}: {exposure}");
    assert!(exposure <= EXPOSURE, "{exposure}");

    let before = systemd.show("api.service", "InvocationID").expect("an id");
    let mark = installed.mark();
    let over = kill_and_heal(&installed, "api", || systemd.host_main_pid("api.service").expect("it runs"));
    assert_eq!(text(&over, "incident.verdict"), "killed");
    println!(
        "killed and healthy again after {} ms",
        field(&over, "incident.timing.healthy_ms").expect("a time")
    );
    let asked = installed.wait_for_after(mark, "restart", |event| is(event, "restart.request", "api"));
    assert_eq!(text(&asked, "restart.method"), "systemd");
    installed.wait_for_after(mark, "restart", |event| is(event, "restart.done", "api"));
    assert_ne!(systemd.show("api.service", "InvocationID").expect("an id"), before);

    let died = systemd.command("/bin/sh").args(["-c", "kill -SEGV $$", "unwatched"]).status();
    died.expect("a shell starts");
    let unwatched = installed.wait_for_after(mark, "exit of an unwatched process", |event| {
        event_action(event) == "process.exit" && text(event, "process.exit_signal.name") == "SIGSEGV"
    });
    assert_eq!((text(&unwatched, "process.name"), text(&unwatched, "event.provider")), ("sh", "ebpf"));

    // The kernel's symbols show why the OOM killer ran; the unit itself may not read them.
    let hog_port = free_port();
    systemd
        .write_unit("hog.service", &format!("[Service]\nExecStart=/usr/local/bin/victim --port {hog_port}\n"))
        .expect("the unit is written");
    systemd.systemctl(&["start", "hog.service"]).expect("it starts");
    until("its listener", PATIENCE, || get(hog_port, "/health").ok());
    let cgroup = MemoryCgroup::new(30 << 20).expect("a memory cgroup");
    cgroup.add(systemd.host_main_pid("hog.service").expect("it runs")).expect("it is moved");
    let _ = get(hog_port, "/alloc?mb=100");
    let kill = installed.wait_for_after(mark, "OOM kill", action("process.oom_kill"));
    assert_eq!((text(&kill, "process.name"), text(&kill, "oom.scope")), ("victim", "memcg"));

    let status = until("a status", PATIENCE, || {
        Some(systemd.show(UNIT, "StatusText").ok()?).filter(|status| status.starts_with("1 of 1"))
    });
    let hooks = possible.len();
    assert_eq!(status, format!("1 of 1 services healthy, {hooks} of {hooks} hooks attached"));
    let asked = systemd.command("/usr/local/bin/hostprobe").arg("status").output().expect("it runs");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));

    systemd.systemctl(&["reload", UNIT]).expect("it reloads");
    installed.wait_for_after(mark, "agent.reload", action("agent.reload"));
    let file = systemd.path("/etc/hostprobe/hostprobe.toml");
    let before = fs::read_to_string(&file).expect("its configuration");
    let remote =
        format!("[[service]]\nname = \"remote\"\n[[service.probe]]\ntcp = \"127.0.0.1:{hog_port}\"\n");
    fs::write(&file, format!("{before}{remote}")).expect("it is written");
    systemd.systemctl(&["reload", UNIT]).expect("it reloads");
    let adds = |event: &Value| event["reload"]["services"]["added"][0] == "remote";
    installed.wait_for_after(mark, "the new service", adds);
    let of_two =
        || Some(systemd.show(UNIT, "StatusText").ok()?).filter(|status| status.contains(" of 2 services"));
    until("a status of two services", PATIENCE, of_two);
    fs::write(&file, format!("{before}{remote}nonsense = 1\n")).expect("it is written");
    systemd.systemctl(&["reload", UNIT]).expect_err("systemd takes the refusal for a failure");
    let refused = |event: &Value| action("agent.reload")(event) && text(event, "event.outcome") == "failure";
    let refusal = installed.wait_for_after(mark, "the refusal", refused);
    assert!(text(&refusal, "error.message").contains("unknown key `nonsense`"), "{refusal}");
    of_two().expect("the status of two services");
    until("running again", PATIENCE, || (systemd.show(UNIT, "SubState").ok()? == "running").then_some(()));
    systemd.systemctl(&["stop", UNIT]).expect("it stops");
    installed.wait_for_after(mark, "agent.stop", action("agent.stop"));
    assert_eq!(systemd.show(UNIT, "Result").expect("a result"), "success");
}

#[test]
fn the_journal_has_an_incident_at_its_priority() {
    let Some(installed) = with_a_unit() else { return };
    let systemd = &installed.systemd;
    systemd.start_journal().expect("the journal starts");
    // It comes after the drop-in that sends standard error to a file.
    installed.drop_in("z-journal.conf", "[Service]\nStandardError=journal\n").expect("a drop-in");
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    kill_and_heal(&installed, "api", || systemd.host_main_pid("api.service").expect("it runs"));

    let warnings = systemd.journal(UNIT, "warning").expect("the journal is read");
    let all = systemd.journal(UNIT, "info").expect("the journal is read");
    let begins = |entries: &[Value], start: &str| {
        entries.iter().find(|entry| text(entry, "MESSAGE").starts_with(start)).cloned()
    };
    let opened = begins(&warnings, "api: incident ").unwrap_or_else(|| panic!("{warnings:#?}\n{all:#?}"));
    assert!(text(&opened, "MESSAGE").contains(" opened: killed: main process "), "{opened:#}");
    assert_eq!(text(&opened, "PRIORITY"), "3", "{opened:#}");
    let restart = begins(&all, "api: restart 1 requested by systemd").unwrap_or_else(|| panic!("{all:#?}"));
    assert_eq!(text(&restart, "PRIORITY"), "6", "{restart:#}");
    assert!(begins(&warnings, "api: restart").is_none(), "{warnings:#?}");
}

#[test]
fn a_daemon_with_a_stuck_loop_is_restarted_by_the_watchdog() {
    let Some(installed) = with_a_unit() else { return };
    let systemd = &installed.systemd;
    // A stopped process does not even see the signal that asks for a core dump.
    installed.drop_in("watchdog.conf", "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n").expect("a drop-in");
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "agent.ready", action("agent.ready"));
    let heard = || systemd.show(UNIT, "WatchdogTimestampMonotonic").expect("a time");
    let mut last = heard();
    for _ in 0..3 {
        last = until("a sign of life", PATIENCE, || Some(heard()).filter(|now| *now != last));
    }
    assert_eq!(systemd.show(UNIT, "NRestarts").expect("a number"), "0");

    let (mark, main) = (installed.mark(), systemd.host_main_pid(UNIT).expect("it runs"));
    kill_process(Pid::from_raw(main.cast_signed()).expect("a pid"), Signal::STOP).expect("it lives");
    installed.wait_for_after(mark, "agent.ready", action("agent.ready"));
    assert_eq!(systemd.show(UNIT, "NRestarts").expect("a number"), "1");
    assert_ne!(systemd.host_main_pid(UNIT).expect("it runs"), main);
}

#[test]
fn without_any_hook_the_shipped_unit_restarts_a_service() {
    let Some(installed) = with_a_unit() else { return };
    let start = "[Service]\nExecStart=\nExecStart=/usr/local/bin/hostprobe run --without-hook all\n";
    installed.drop_in("hooks.conf", start).expect("a drop-in");
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    let ready = installed.wait_for_after(0, "agent.ready", action("agent.ready"));
    let coverage = field(&ready, "coverage").and_then(Value::as_array).expect("a list");
    assert!(coverage.iter().all(|hook| hook["attached"] == false), "{ready:#}");
    for hook in coverage {
        println!("{}: {}", hook["hook"], hook["fallback"]);
    }
    let over = kill_and_heal(&installed, "api", || systemd.host_main_pid("api.service").expect("it runs"));
    println!("{}", text(&over, "message"));
    assert_eq!(text(&over, "incident.verdict"), "killed");
}

#[test]
fn without_the_polkit_rule_a_refused_restart_says_what_to_do_and_root_needs_no_rule() {
    let Some(installed) = with_a_unit() else { return };
    fs::remove_file(installed.systemd.path(POLKIT_RULE)).expect("the rule was there");
    installed
        .systemd
        .systemctl(&["start", UNIT])
        .unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("api", "healthy"));
    let mark = installed.mark();
    kill(installed.systemd.host_main_pid("api.service").expect("it runs"));
    let failed = installed.wait_for_after(mark, "failed restart", |event| is(event, "restart.fail", "api"));
    let message = text(&failed, "message");
    println!("{message}");
    assert!(message.contains("polkit"), "{message}");
    assert_eq!(installed.systemd.show("api.service", "ActiveState").expect("a state"), "failed");

    installed.drop_in("root.conf", "[Service]\nUser=root\n").expect("a drop-in");
    installed.systemd.systemctl(&["start", "api.service"]).expect("it starts");
    let mark = installed.mark();
    installed
        .systemd
        .systemctl(&["restart", UNIT])
        .unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(mark, "agent.ready", action("agent.ready"));
    println!(
        "systemd-analyze security with User=root: {}",
        installed.exposure().expect("systemd-analyze says so")
    );
    installed.wait_for_after(mark, "healthy service", becomes("api", "healthy"));
    let mark = installed.mark();
    kill(installed.systemd.host_main_pid("api.service").expect("it runs"));
    installed.wait_for_after(mark, "restart", |event| is(event, "restart.done", "api"));
    installed.wait_for_after(mark, "healthy service", becomes("api", "healthy"));
}

#[test]
fn without_the_drop_in_for_commands_one_runs_all_the_same_and_the_log_names_the_drop_in() {
    let Some((installed, port)) = Installed::with_a_command("/var/log/hostprobe/web.log", STOP) else {
        return;
    };
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("web", "healthy"));
    let [main] = with_argument(&port.to_string())[..] else { panic!("one process serves") };
    let over = kill_and_heal(&installed, "web", || main);
    assert_eq!(text(&over, "incident.verdict"), "killed");
    let status = installed.status();
    assert!(status.contains("install the drop-in exec.conf"), "{status}");
    systemd.systemctl(&["stop", UNIT]).expect("it stops");
    assert_eq!(with_argument(&port.to_string()), [0_u32; 0]);
}

#[test]
fn with_the_drop_in_for_commands_a_service_runs_unconfined_and_ends_with_its_daemon_if_asked_to() {
    let Some((installed, port)) = Installed::with_a_command("/root/web.log", STOP) else { return };
    let systemd = &installed.systemd;
    installed
        .drop_in("exec.conf", &fs::read_to_string(shipped("exec.conf")).expect("a file"))
        .expect("a drop-in");
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("web", "healthy"));

    let served = with_argument(&port.to_string());
    let [main] = served[..] else { panic!("one process, not {served:?}") };
    let of = |pid: u32| of_all_threads(pid).remove(0).1;
    let everything = of(systemd.init_pid()).bounding;
    assert_eq!((of(main).effective, of(main).no_new_privileges), (everything, false));
    let cgroup = fs::read_to_string(format!("/proc/{main}/cgroup")).expect("it lives");
    assert!(cgroup.contains("hostprobe.service/hostprobe-") && cgroup.contains("/service-web"), "{cgroup}");
    let environment = fs::read(format!("/proc/{main}/environ")).expect("it lives");
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));

    let over = kill_and_heal(&installed, "web", || main);
    println!("{}", text(&over, "message"));
    systemd.systemctl(&["stop", UNIT]).expect("it stops");
    assert_eq!(with_argument(&port.to_string()), [0_u32; 0]);
    assert_eq!(systemd.show(UNIT, "Result").expect("a result"), "success");
}

#[test]
fn in_the_sandbox_a_command_runs_with_the_rights_of_hostprobe_and_a_missing_one_is_named() {
    let Some(systemd) = SystemdLab::for_test() else { return };
    let port = free_port();
    let program = systemd.install(&Victim::program()).expect("the victim is installed");
    let services = format!(
        r#"
        {STOP}
        [[service]]
        name = "web"
        exec = ["{program}", "--port", "{port}"]
        user = "hostprobe"
        output = "/var/log/hostprobe/{port}.log"
        output_stamp = true
        umask = "027"
        [[service.probe]]
        http = "http://127.0.0.1:{port}/health"
        [[service]]
        name = "other-user"
        exec = ["/bin/sleep", "1000"]
        user = "nobody"
        "#
    );
    let installed = Installed::new(systemd, &services).expect("hostprobe is installed");
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("web", "healthy"));
    let served = with_argument(&port.to_string());
    let [main] = served[..] else { panic!("one process, not {served:?}") };
    assert!(of_all_threads(main).remove(0).1.no_new_privileges);
    let refused = installed.wait_for_after(0, "incident", |event| is(event, "incident.open", "other-user"));
    let summary = text(&refused, "incident.summary");
    println!("{summary}");
    assert!(summary.contains("cannot run as the user nobody") && summary.contains("exec.conf"), "{summary}");

    let over = kill_and_heal(&installed, "web", || main);
    println!("{}", text(&over, "message"));
    // The daemon writes a line once it has read it from its pipe.
    let output = until("a line of each start", PATIENCE, || {
        let output = fs::read_to_string(systemd.path(&format!("/var/log/hostprobe/{port}.log"))).ok()?;
        (output.lines().count() >= 2 && output.ends_with('\n')).then_some(output)
    });
    let stamped = |line: &str| line.starts_with("20") && line.ends_with(&format!("Z listening on {port}"));
    assert!(output.lines().count() == 2 && output.lines().all(stamped), "{output}");
    systemd.systemctl(&["stop", UNIT]).expect("it stops");
    assert_eq!(with_argument(&port.to_string()), [0_u32; 0]);
    assert_eq!(systemd.show(UNIT, "Result").expect("a result"), "success");
}
