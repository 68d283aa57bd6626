//! Upgrades of hostprobe as a service of a real systemd: its services under `exec` go on.

use std::{fs, process::Command};

use hostprobe_tests::{
    daemon::event_action,
    http::free_port,
    incident_events::{is, text},
    installed::{Installed, PATIENCE, UNIT, shipped},
    parts::require,
    process::{Running, kill, with_argument},
    systemd::SystemdLab,
};
use rustix::process::Signal;
use serde_json::Value;

fn becomes(service: &str, state: &str) -> impl Fn(&Value) -> bool {
    move |event| is(event, "service.state", service) && text(event, "service.state") == state
}

fn action(name: &str) -> impl Fn(&Value) -> bool {
    move |event| event_action(event) == name
}

/// Restarts hostprobe, and waits until the next one is ready.
#[track_caller]
fn restart(installed: &Installed) {
    let mark = installed.mark();
    let restarted = installed.systemd.systemctl(&["restart", UNIT]);
    restarted.unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(mark, "agent.ready", action("agent.ready"));
}

#[test]
fn in_the_sandbox_a_command_outlives_the_daemon_and_its_end_is_seen() {
    let Some((installed, port)) = Installed::with_a_command("/var/log/hostprobe/web.log", "") else { return };
    let systemd = &installed.systemd;
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("web", "healthy"));
    let [main] = with_argument(&port.to_string())[..] else { panic!("one process serves") };
    restart(&installed);
    assert_eq!(with_argument(&port.to_string()), [main], "{}", installed.status());
    let mark = installed.mark();
    kill(main);
    let over =
        installed.wait_for_after(mark, "end of the incident", |event| is(event, "incident.resolve", "web"));
    assert_eq!(text(&over, "incident.verdict"), "killed");
    systemd.systemctl(&["stop", UNIT]).expect("it stops");
    assert_eq!(systemd.show(UNIT, "Result").expect("a result"), "success");
    let left = with_argument(&port.to_string());
    assert!(left.len() == 1 && left[0] != main, "{left:?}");
}

#[test]
fn an_upgrade_of_hostprobe_under_load_fails_no_request_to_its_services() {
    if !require("wrk", "/usr/bin/wrk") || !require("nginx-light", "/usr/sbin/nginx") {
        return;
    }
    let Some(systemd) = SystemdLab::for_test() else { return };
    let port = free_port();
    let nginx = format!(
        "daemon off; pid /run/web.pid; error_log stderr; worker_processes 2;\nevents {{ worker_connections 256; }}\n\
         http {{ access_log off; keepalive_requests 100; server {{ listen 127.0.0.1:{port}; location / {{ \
         default_type text/plain; return 200 \"ok\"; }} }} }}\n"
    );
    fs::write(systemd.path("/etc/web.conf"), nginx).expect("it is written");
    let services = format!(
        r#"
        [[service]]
        name = "web"
        exec = ["/usr/sbin/nginx", "-c", "/etc/web.conf"]
        output = "/root/web.log"
        output_max = "8MiB"
        output_stamp = true
        [[service.probe]]
        http = "http://127.0.0.1:{port}/"
        interval = "1s"
        "#
    );
    let installed = Installed::new(systemd, &services).expect("hostprobe is installed");
    let systemd = &installed.systemd;
    installed
        .drop_in("exec.conf", &fs::read_to_string(shipped("exec.conf")).expect("a file"))
        .expect("a drop-in");
    systemd.systemctl(&["start", UNIT]).unwrap_or_else(|error| panic!("{error:#}\n{}", installed.status()));
    installed.wait_for_after(0, "healthy service", becomes("web", "healthy"));
    let main = || fs::read_to_string(systemd.path("/run/web.pid")).expect("nginx writes its pid");
    let first = main();

    let mut wrk = Command::new("/usr/bin/wrk");
    wrk.args(["--threads", "1", "--connections", "8", "--duration", "600s"]);
    // It says what it has done when it is interrupted.
    let mut load = Running::start(wrk.arg(format!("http://127.0.0.1:{port}/")), Signal::INT);
    for _ in 0..3 {
        let program = systemd.path("/usr/local/bin/hostprobe");
        let next = program.with_extension("next");
        fs::copy(&program, &next).and_then(|_| fs::rename(&next, &program)).expect("it is installed");
        restart(&installed);
    }
    let mark = installed.mark();
    kill(systemd.host_main_pid(UNIT).expect("it runs"));
    installed.wait_for_after(mark, "agent.ready", action("agent.ready"));
    assert!(load.runs(), "{:?}", load.stdout.all());
    load.signal(Signal::INT);
    load.wait(PATIENCE);
    let said = load.stdout.all().join("\n");
    println!("{said}");
    assert!(said.contains(" requests in ") && !said.contains(" 0 requests in "), "{said}");
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    assert_eq!(main(), first);
    let events = installed.events();
    let troubles: Vec<&str> = events
        .iter()
        .filter(|event| {
            event_action(event).starts_with("incident.") || event_action(event).starts_with("restart.")
        })
        .map(|event| text(event, "message"))
        .collect();
    assert_eq!(troubles, [""; 0]);
}
