//! The recipes in `docs/recipes.md` with the real servers: alive, silent, short of something, and ended.

use std::time::Duration;

use hostprobe_tests::{
    daemon::{Daemon, Mark},
    http::free_port,
    incident_events::{is, text, wait_until_healthy},
    parts::{RabbitMq, memcached, require_root},
    process::Running,
};
use rustix::process::Signal;
use serde_json::Value;

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// The configuration under a heading of the page.
fn recipe(heading: &str) -> String {
    let page = include_str!("../docs/recipes.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect("it has a section");
    let (_, block) = section.split_once("```toml\n").expect("it has a configuration");
    block.split_once("```").expect("its end").0.to_owned()
}

/// Waits until a service has an incident for this failure of its probe.
fn fails(daemon: &Daemon, mark: Mark, service: &str, error: &str) {
    let such = |event: &Value| is(event, "probe.fail", service) && text(event, "probe.error") == error;
    daemon.wait_for_after(mark, such, LONG);
    daemon.wait_for_after(mark, |event| is(event, "incident.open", service), LONG);
}

/// Stops a server's processes for a while, in which its services fail.
fn is_silent_for_a_while(daemon: &Daemon, server: &Running, services: &[&str]) {
    let mark = daemon.mark();
    server.signal(Signal::STOP);
    services.iter().for_each(|service| fails(daemon, mark, service, "timeout"));
    let mark = daemon.mark();
    server.signal(Signal::CONT);
    for service in services {
        daemon.wait_for_after(mark, |event| is(event, "incident.resolve", service), LONG);
    }
}

#[test]
fn memcached_by_its_recipe_is_found_when_it_is_silent_and_when_it_has_ended() {
    let port = free_port();
    let Some(mut server) = memcached(&["-l", "127.0.0.1", "-p", &port.to_string()]) else { return };
    let config = recipe("memcached")
        .replace("unit = \"memcached.service\"", &format!("match = {{ port = {port} }}"))
        .replace("127.0.0.1:11211", &format!("127.0.0.1:{port}"))
        .replace(
            "[[service.probe]]",
            "[[service.probe]]\ninterval = \"500ms\"\ntimeout = \"2s\"\nfailures = 2",
        );
    let mut daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{config}"), &[]);
    daemon.ready();
    wait_until_healthy(&daemon, "sessions");
    is_silent_for_a_while(&daemon, &server, &["sessions"]);
    let mark = daemon.mark();
    server.stop();
    daemon.wait_for_after(mark, |event| is(event, "incident.open", "sessions"), LONG);
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}

#[test]
fn rabbitmq_by_its_recipe_is_held_with_an_alarm_and_found_when_it_has_ended() {
    if !require_root() {
        return;
    }
    let Some(mut broker) = RabbitMq::start() else { return };
    let config = recipe("RabbitMQ")
        .replace("unit = \"rabbitmq-server.service\"", &format!("match = {{ port = {} }}", broker.port))
        .replace("127.0.0.1:5672", &format!("127.0.0.1:{}", broker.port))
        .replace(
            "http://probe:${RABBITMQ_PASSWORD}@127.0.0.1:15672",
            &format!("http://probe:word@127.0.0.1:{}", broker.management),
        )
        .replace("[[service.probe]]", "[[service.probe]]\ninterval = \"500ms\"\nfailures = 2");
    let mut daemon = Daemon::start(&format!("[http]\nlisten = \"\"\n{config}"), &[]);
    daemon.ready();
    for service in ["broker", "broker-alarms"] {
        let healthy =
            |event: &_| is(event, "service.state", service) && text(event, "service.state") == "healthy";
        daemon.wait_for(healthy, LONG);
    }

    broker.control(&["set_vm_memory_high_watermark", "absolute", "1MB"]);
    let opened = daemon.wait_for(|event| is(event, "incident.open", "broker-alarms"), LONG);
    assert_eq!(text(&opened, "incident.verdict"), "unhealthy", "{opened:#}");
    broker.control(&["set_vm_memory_high_watermark", "0.4"]);
    daemon.wait_for(|event| is(event, "incident.resolve", "broker-alarms"), LONG);
    assert_eq!(daemon.count(|event| is(event, "incident.open", "broker")), 0, "it served all the time");

    is_silent_for_a_while(&daemon, &broker.process, &["broker", "broker-alarms"]);
    broker.process.stop();
    daemon.wait_for(|event| is(event, "incident.open", "broker"), LONG);
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}
