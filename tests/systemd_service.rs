//! hostprobe as a service of a real systemd, with the unit that it is shipped with.

use hostprobe_tests::{
    daemon::{event_action, field},
    http::free_port,
    installed::{Installed, UNIT, shipped},
    story::{is, text},
    systemd::SystemdLab,
    victim::Victim,
};

fn start(systemd: SystemdLab) -> Installed {
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
    let installed = Installed::new(systemd, &services).expect("it is installed");
    installed
        .drop_in("log.conf", "[Service]\nStandardError=truncate:/run/hostprobe.log\n")
        .expect("the drop-in is written");
    installed
}

#[test]
fn try_it() {
    let Some(systemd) = SystemdLab::for_test() else { return };
    let installed = start(systemd);
    let started = installed.systemd.systemctl(&["start", UNIT]);
    println!("{started:?}\n{}", installed.status());
    let ready = installed.wait_for("agent.ready", |event| event_action(event) == "agent.ready");
    println!("{ready:#}");
    installed.wait_for("healthy", |event| {
        is(event, "service.state", "api") && text(event, "service.state") == "healthy"
    });
    let pid = installed.systemd.host_main_pid("api.service").unwrap();
    hostprobe_tests::process::kill(pid);
    let resolved = installed.wait_for("incident.resolve", |event| is(event, "incident.resolve", "api"));
    println!("{resolved:#} {:?} {}", field(&resolved, "x"), shipped("x").display());
    println!("{}", installed.status());
}
