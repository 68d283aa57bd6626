//! A daemon without descriptors: one incident of its own, and none of a service.

use std::{collections::BTreeSet, thread, time::Duration};

use hostprobe_tests::{
    daemon::{Daemon, event_action},
    descriptors,
    http::{self, free_port},
    incident_events::{IncidentEvents, is, text},
    parts::require_root,
    process::until,
    supervised::Supervised,
};

const LONG: Duration = Duration::from_secs(60);

/// Probed services beside the one that is killed.
const PEERS: usize = 40;

#[test]
fn a_lack_of_descriptors_is_an_incident_of_the_daemon_and_of_no_service() {
    if !require_root() {
        return;
    }
    let (page, victim) = (free_port(), Supervised::new());
    let config = victim.config("").replace("listen = \"\"", &format!("listen = \"127.0.0.1:{page}\""));
    let daemon = Daemon::start(&format!("{config}{}", descriptors::peers(PEERS)), &[]);
    daemon.ready();
    victim.until_healthy(&daemon);
    let mut healthy = BTreeSet::new();
    let all_healthy = |event: &serde_json::Value| {
        event_action(event) == "service.state" && text(event, "service.state") == "healthy"
    };
    daemon.stream().wait_for(LONG, |lines| {
        let events = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        healthy.extend(events.filter(all_healthy).map(|event| text(&event, "service.name").to_owned()));
        (healthy.len() > PEERS).then_some(())
    });
    assert_eq!(healthy.len(), PEERS + 1, "all are healthy at first");

    let mark = daemon.mark();
    descriptors::take_from(&daemon);
    let open = daemon.wait_for_after(mark, |event| is(event, "incident.open", "hostprobe"), LONG);
    assert_eq!(text(&open, "incident.verdict"), "agent_impaired");
    assert!(text(&open, "incident.summary").contains("Too many open files"), "{open:#}");
    // A death is still seen, and the restart has descriptors in reserve.
    let killed = daemon.mark();
    victim.kill(&daemon);
    daemon.wait_for_after(killed, |event| is(event, "restart.done", &victim.name), LONG);
    thread::sleep(Duration::from_secs(5));
    // A probe that finds a free descriptor makes its service's state a fresh one again.
    until("the page says that a state is the last known one", LONG, || {
        let (status, health) = http::get(page, "/health").expect("the page answers");
        assert_eq!(status, 200, "{health}");
        health.contains("\"stale\":true").then_some(())
    });

    descriptors::give_back(&daemon);
    daemon.wait_for_after(mark, |event| is(event, "incident.resolve", "hostprobe"), LONG);
    let events = IncidentEvents::of(&daemon, killed, &victim.name);
    assert_eq!(events.verdict(), "killed");
    let of_peers = |event: &serde_json::Value| {
        text(event, "service.name").starts_with("peer-")
            && matches!(event_action(event), "service.state" | "incident.open" | "restart.request")
    };
    let moved: Vec<_> = daemon.since(mark).into_iter().filter(of_peers).collect();
    assert!(moved.is_empty(), "{moved:#?}");
}
