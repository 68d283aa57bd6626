//! What the daemon has written is read when it does not run, and after it has started again.

use std::{path::Path, time::Duration};

use hostprobe_tests::{
    daemon::Daemon,
    http::free_port,
    incident_events::{is, text},
    operator::{ENDS, Home, ask, crash, end, said},
    parts::require_root,
    process::until,
    supervised::Supervised,
    victim::Victim,
};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

/// The names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// How many events an explanation has. The pressure is of another file.
fn steps(explained: &Value) -> usize {
    let timeline = explained["timeline"].as_array().expect("a list");
    timeline.iter().filter(|entry| entry["action"] != "pressure").count()
}

#[test]
fn incidents_are_shown_while_the_daemon_is_down_and_by_its_successor() {
    if !require_root() {
        return;
    }
    let home = Home::new();
    let service = Supervised::new();
    let text_of_config = home.supervising(&service);
    let config = home.path("hostprobe.toml");
    std::fs::write(&config, &text_of_config).expect("the configuration is written");
    let asked = ask(&config, &["incidents"]);
    assert_eq!(asked.status.code(), Some(3), "there is neither a daemon nor a file");

    let mut ids: Vec<String> = Vec::new();
    for how in ENDS {
        let daemon = Daemon::start(&text_of_config, &[]);
        service.until_healthy(&daemon);
        service.kill(&daemon);
        let over = daemon.wait_for(|event| is(event, "incident.resolve", &service.name), PATIENCE);
        let id = text(&over, "incident.id").to_owned();
        if let Some(before) = ids.first() {
            let listed = said(&ask(&config, &["incidents"]));
            assert!(listed.contains(before) && listed.contains(&id), "{listed}");
            assert!(said(&ask(&config, &["explain", before])).contains("incident opened"));
        }
        ids.push(id.clone());
        // What explains a fault comes after the end of one that is mended at once.
        let live = until("its last lines", PATIENCE, || {
            let live = said(&ask(&config, &["explain", &id, "--json"]));
            live.contains("\"logs\"").then_some(live)
        });
        let live: Value = serde_json::from_str(&live).expect("JSON");
        until("the file has all of it", PATIENCE, || {
            let kept = home.kept(&id)?;
            (kept["incident"] == live["incident"] && steps(&kept) >= steps(&live)).then_some(())
        });
        end(daemon, how);

        let before = names(&home.path("state"));
        let listed = ask(&config, &["incidents", "--service", &service.name]);
        let page = said(&listed);
        assert!(page.starts_with("the daemon does not run; this is from "), "{how:?}: {page}");
        assert!(page.contains(&id), "{how:?}: {page}");
        let explained = ask(&config, &["explain", &id, "--json"]);
        assert!(String::from_utf8_lossy(&explained.stderr).contains("the daemon does not run"));
        let at_rest: Value = serde_json::from_str(&said(&explained)).expect("JSON");
        assert_eq!(at_rest["incident"], live["incident"], "{how:?}");
        assert!(steps(&at_rest) >= steps(&live), "{how:?}: alerts may have come since");
        assert_eq!(names(&home.path("state")), before, "{how:?}: a question creates nothing");
    }
    assert_eq!(ask(&config, &["explain", "nothing"]).status.code(), Some(1));
}

/// A daemon that probes a service which it does not start.
fn probing(home: &Home, name: &str, port: u16) -> String {
    home.config(&format!(
        "[[service]]\nname = {name:?}\n[[service.probe]]\nhttp = \"http://127.0.0.1:{port}/health\"\ninterval = \"200ms\"\n\
         failures = 1\n"
    ))
}

#[test]
fn an_incident_goes_on_with_its_id_and_its_acknowledgement_and_a_replay_decides_alike() {
    let (home, port) = (Home::new(), free_port());
    let config = probing(&home, "api", port);
    let first = Daemon::start(&config, &[]);
    let opened = first.wait_for(|event| is(event, "incident.open", "api"), PATIENCE);
    let id = text(&opened, "incident.id").to_owned();
    home.done(&["ack", &id, "--reason", "it is known"]);
    // The timeline is written after what a later run has to know, which the operator waits for.
    until("the file has the acknowledgement", PATIENCE, || {
        let kept = home.kept(&id)?;
        let mut actions = kept["timeline"].as_array()?.iter().map(|entry| &entry["action"]);
        actions.any(|action| action == "operator.command").then_some(())
    });
    crash(first);

    let mut second = Daemon::start(&config, &[]);
    let again = second.wait_for(|event| is(event, "incident.update", "api"), PATIENCE);
    assert_eq!(text(&again, "incident.id"), id);
    let millis = |event: &Value| text(event, "incident.since").get(..23).map(str::to_owned);
    assert!(millis(&again).is_some() && millis(&again) == millis(&opened), "{again}");
    second.ready();
    let is_taken_up = || {
        let service = home.status("api");
        (service["incident"] == id && service["orders"][0]["reason"] == "it is known").then_some(())
    };
    until("the status has the incident and its acknowledgement", PATIENCE, is_taken_up);
    let victim = Victim::start_on(port);
    let over = second.wait_for(|event| is(event, "incident.resolve", "api"), PATIENCE);
    assert_eq!(text(&over, "incident.id"), id);
    let explained = home.done(&["explain", &id]);
    let steps = ["incident opened", "acknowledged by", "incident updated", "incident resolved"];
    let places: Vec<Option<usize>> = steps.iter().map(|step| explained.find(step)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{explained}");
    let mark = second.mark();
    drop(victim);
    second.wait_for_after(mark, |event| is(event, "incident.open", "api"), PATIENCE);
    assert!(second.stop().success());
    let file = home.path("hostprobe.toml");
    std::fs::write(&file, &config).expect("the configuration is written");
    let replayed = ask(&file, &["replay"]);
    assert!(replayed.status.success(), "{}", String::from_utf8_lossy(&replayed.stdout));

    let third = Daemon::start(&probing(&home, "other", port), &[]);
    let ended = third.wait_for(|event| is(event, "incident.resolve", "api"), PATIENCE);
    assert!(text(&ended, "incident.summary").starts_with("the configuration does not have it any more"));
    assert!(home.done(&["incidents", "--service", "api"]).lines().all(|line| !line.contains("OPEN")));
    let opened = third.wait_for(|event| is(event, "incident.open", "other"), PATIENCE);
    until("the file has the incident", PATIENCE, || home.kept(text(&opened, "incident.id")).map(drop));
    crash(third);
    let fourth = Daemon::start(&probing(&home, "other", port), &[]);
    fourth.wait_for(|event| is(event, "incident.update", "other"), PATIENCE);
    assert_eq!(fourth.count(|event| is(event, "incident.resolve", "api")), 0, "once is enough");
}
