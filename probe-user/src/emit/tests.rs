//! Each fact, rendered, checked against the schema, and written.

#[path = "../../../tests/src/ecs.rs"]
mod ecs;
mod elasticsearch;
mod reference;
pub(crate) mod samples;

use std::{collections::HashSet, io, sync::mpsc};

use serde_json::Value;

use super::{action::Action, *};
use crate::fact::ServiceId;

/// A destination that shows each write to the test and waits for its permission.
struct Watched {
    seen: mpsc::Sender<Vec<u8>>,
    gate: mpsc::Receiver<()>,
}

impl Destination for Watched {
    fn name(&self) -> String {
        "watched".to_owned()
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let _ = self.seen.send(lines.to_vec());
        let _ = self.gate.recv();
        Ok(lines.len())
    }
}

fn watched(limits: QueueLimits) -> (Emitter, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
    let (seen, written) = mpsc::channel();
    let (open, gate) = mpsc::channel();
    let sink = Sink::spawn(Watched { seen, gate }, limits).unwrap();
    (Emitter::new(samples::origin(), samples::names(), vec![sink]), written, open)
}

/// The lines of these facts.
fn lines(facts: &[Fact]) -> Vec<String> {
    let (mut emitter, written, open) = watched(QueueLimits::default());
    drop(open);
    for fact in facts {
        emitter.publish(fact, Timestamp::now());
    }
    assert_eq!(emitter.shutdown(Duration::from_secs(20)), 0);
    let text: Vec<u8> = written.into_iter().flatten().collect();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}

fn event(fact: &Fact) -> Value {
    serde_json::from_str(&lines(std::slice::from_ref(fact))[0]).unwrap()
}

#[test]
fn every_event_is_valid_and_reads_back() {
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    let mut actions = HashSet::new();
    for (at, line) in lines(&samples::facts()).iter().enumerate() {
        let value: Value = serde_json::from_str(line).unwrap();
        let errors: Vec<String> =
            schema.iter_errors(&value).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?} in {line}");
        assert_eq!(value["event"]["sequence"], at as u64 + 1);
        let record: wire::Record = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), value);
        assert!(!record.message.is_empty());
        actions.insert(record.event.action);
    }
    assert_eq!(actions.len(), Action::ALL.len(), "there is a sample of every action");
}

#[test]
fn events_that_are_held_are_rendered_later_as_they_were_published() {
    let (mut emitter, written, open) = watched(QueueLimits::default());
    drop(open);
    let published = |emitter: &mut Emitter| {
        emitter.publish(&samples::down(), Timestamp::now());
        // It has the state that the service is in by then.
        emitter.publish(&samples::killed(), Timestamp::now());
    };
    published(&mut emitter);
    emitter.hold();
    published(&mut emitter);
    assert_eq!(emitter.take_records().len(), 2, "what is held is not rendered");
    emitter.rename(Names::new([Name { service: "other".to_owned(), unit: None }]));
    emitter.release();
    assert_eq!(emitter.take_records().len(), 2);
    assert_eq!(emitter.shutdown(Duration::from_secs(20)), 0);
    let text: Vec<u8> = written.into_iter().flatten().collect();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
    let [first, second, third, fourth] = std::array::from_fn(|_| lines.next().unwrap());
    for (at, line) in [&first, &second, &third, &fourth].into_iter().enumerate() {
        assert_eq!(line["event"]["sequence"], at as u64 + 1);
    }
    for (at_once, held) in [(first, third), (second, fourth)] {
        assert_eq!((&at_once["message"], &at_once["service"]), (&held["message"], &held["service"]));
    }
}

#[test]
fn an_index_with_ecs_mappings_accepts_every_event() {
    let mut check = ecs::Check::default();
    for line in lines(&samples::facts()) {
        check.add("samples", &serde_json::from_str(&line).unwrap());
    }
    assert_eq!(check.findings(), [""; 0]);
    assert_eq!(check.events(), samples::facts().len() as u64);
}

#[test]
fn the_schema_refuses_missing_and_unknown_fields() {
    let schema = jsonschema::draft202012::new(&schema()).unwrap();
    let exit = event(&samples::killed());
    let mut without = exit.clone();
    without["process"].as_object_mut().unwrap().remove("exit_signal");
    assert!(schema.is_valid(&without), "its status may be unknown");
    without["process"].as_object_mut().unwrap().remove("uptime_ms");
    assert!(!schema.is_valid(&without));
    let mut both = exit.clone();
    both["process"]["exit_code"] = 1.into();
    assert!(!schema.is_valid(&both), "an exit has a code or a signal");
    let mut more = exit.clone();
    more["process"]["color"] = "red".into();
    assert!(!schema.is_valid(&more));
    let mut null = exit;
    null["process"]["executable"] = Value::Null;
    assert!(!schema.is_valid(&null), "a field without a value is left out");
}

#[test]
fn a_kill_names_its_sender() {
    let event = event(&samples::killed());
    assert_eq!(
        event["message"],
        "api (pid 4242) was killed by SIGKILL from bash (pid 4000, uid 0) after 2 min"
    );
    assert_eq!(event["event"]["id"], "c0ffee00-1");
    assert_eq!(event["log"]["level"], "error");
    assert_eq!(event["event"]["provider"], "ebpf");
    assert_eq!(event["process"]["exit_signal"]["sender"]["user"]["id"], "0");
    assert_eq!(event["process"]["uptime_ms"], 125_000.25);
    assert_eq!(event["process"]["command_line"], "/usr/bin/api --token *** --port 80");
    assert_eq!(event["service"]["main_process"], true);
}

#[test]
fn a_received_signal_differs_from_the_fatal_one() {
    let asked = event(&samples::asked());
    assert_eq!(asked["process"]["exit_code"], 0);
    assert_eq!(asked["process"]["received_signal"]["name"], "SIGTERM");
    assert_eq!(asked["process"]["received_signal"]["sender"]["pid"], 4000);
    assert_eq!(asked["event"]["outcome"], "success");
    assert_eq!(event(&samples::killed())["process"].get("received_signal"), None);
}

#[test]
fn a_kernel_fact_is_stamped_with_the_kernels_time() {
    let fact = samples::killed();
    let Fact::ProcessExit(exit, _) = &fact else { panic!("the sample is an exit") };
    let stamped: jiff::Timestamp = event(&fact)["@timestamp"].as_str().unwrap().parse().unwrap();
    let error = stamped.duration_since(exit.at.to_wall()).abs();
    assert!(error < jiff::SignedDuration::from_secs(1), "{error}");
}

#[test]
fn events_carry_the_last_reported_state_of_their_service() {
    let lines = lines(&[samples::down(), samples::killed()]);
    let event: Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(event["service"]["state"], "down");
}

#[test]
fn an_incident_event_has_all_fields() {
    let event = event(&samples::incident());
    let incident = &event["incident"];
    assert_eq!(incident["id"], "c0ffee00-i3");
    assert_eq!(incident["confidence"], 0.9);
    assert_eq!(incident["evidence"][0], "c0ffee00-1");
    assert_eq!(incident["held"][0], "web");
    assert_eq!(incident["cause"]["service"], "api");
    assert_eq!(incident["timing"]["detected_ms"], 0.123);
    assert_eq!(incident["timing"].get("acted_ms"), None);
}

#[test]
fn a_full_database_names_the_holders_of_its_connections() {
    let event = event(&samples::full_database());
    let server = &event["probe"]["server"];
    assert_eq!(server["connections"], serde_json::json!({ "used": 97, "max": 97 }));
    assert_eq!(server["memory"]["max"], 1 << 30);
    assert_eq!(server["holders"].as_array().unwrap().len(), 8);
    assert_eq!(
        server["holders"][0],
        serde_json::json!({
            "user": "web", "application": "orders", "client": { "ip": "127.0.0.1" }, "service": "api",
            "process": { "pid": 4711, "name": "api" }, "connections": 90
        })
    );
}

#[test]
fn the_longest_event_fits_a_line() {
    // Escapes make six bytes of such a character.
    for line in lines(&[samples::enormous("\u{1}"), samples::enormous("ä"), samples::enormous("x")]) {
        assert!(line.len() < MAX_LINE, "{} bytes", line.len());
        let record: wire::Record = serde_json::from_str(&line).unwrap();
        assert!(!record.process.unwrap().command_line.unwrap().is_empty());
    }
}

#[test]
fn a_loss_is_reported_as_soon_as_there_is_room() {
    let (mut emitter, written, open) = watched(QueueLimits { lines: 1, bytes: 1 << 20 });
    emitter.publish(&samples::killed(), Timestamp::now());
    written.recv().unwrap();
    let lost = emitter.publish(&samples::killed(), Timestamp::now());
    assert_eq!((lost, emitter.lost()), (EventId(2), 1), "a lost event leaves a gap in the numbers");
    drop(open);
    // The blocked write is over once the next line appears. Until then there is no room.
    while emitter.published() == 2 {
        emitter.report_losses(Timestamp::now());
        std::thread::yield_now();
    }
    let line = written.recv().unwrap();
    let event: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(event["event"]["action"], "stream.loss");
    assert_eq!(event["event"]["sequence"], 3);
    assert_eq!(event["loss"], serde_json::json!({ "class": "events", "count": 1, "where": "watched" }));
}

#[test]
fn an_event_of_an_unknown_service_is_published() {
    let fact = Fact::ServiceState(
        ServiceId(99),
        crate::fact::ServiceState::Down,
        crate::fact::ServiceState::Healthy,
        "gone".to_owned(),
    );
    assert_eq!(event(&fact)["service"]["name"], "?");
}
