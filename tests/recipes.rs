//! The recipe for RabbitMQ in `docs/recipes.md`, with the real broker: alive, out of memory, and ended.

use std::time::Duration;

use hostprobe_tests::{
    daemon::Daemon,
    incident_events::{is, text},
    parts::{RabbitMq, require_root},
};

/// Far more than anything here takes: reaching it is a failure.
const LONG: Duration = Duration::from_secs(60);

/// The configuration under a heading of the page.
fn recipe(heading: &str) -> String {
    let page = include_str!("../docs/recipes.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect("it has a section");
    let (_, block) = section.split_once("```toml\n").expect("it has a configuration");
    block.split_once("```").expect("its end").0.to_owned()
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

    broker.process.stop();
    daemon.wait_for(|event| is(event, "incident.open", "broker"), LONG);
    assert_eq!(daemon.count(|event| text(event, "event.action") == "restart.request"), 0);
    daemon.stop();
}
