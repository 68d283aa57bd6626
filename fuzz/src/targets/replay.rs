//! Recordings and event files: lines that another version wrote, or a person edited.
use std::{cell::RefCell, sync::OnceLock};

use hostprobe::{
    config::{Config, fuzz::check},
    emit::for_each_event,
    replay::{Replay, Scope},
    store::history::History,
};

/// The services that the recordings of `seeds/replay` are about.
const SERVICES: &str = include_str!("../../seeds/replay.toml");

fn config() -> &'static Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    CONFIG.get_or_init(|| check(SERVICES, "x").expect("a valid configuration"))
}

pub fn fuzz(input: &[u8]) {
    let incident = Scope { incident: Some("1".to_owned()), since: None };
    let since = Scope { incident: None, since: "2026-01-01T00:00:01Z".parse().ok() };
    let all = replayed(input, Scope::default());
    assert_eq!(all, replayed(input, Scope::default()), "two replays of one recording differ");
    let _ = (replayed(input, incident), replayed(input, since));
    read_events(input);
}

fn replayed(recording: &[u8], scope: Scope) -> String {
    let mut replay = Replay::new(config(), scope);
    replay.read("recording", recording).expect("bytes can be read");
    serde_json::to_string(&replay.finish()).expect("a report is JSON")
}

fn read_events(events: &[u8]) {
    let history = RefCell::new(History::new(3));
    for_each_event(events, |_, record| {
        if let Some(record) = record {
            history.borrow_mut().take(record);
        }
    })
    .expect("bytes can be read");
    let history = history.into_inner();
    let listed = history.incidents();
    assert!(listed.len() <= 3);
    for incident in &listed {
        let _ = history.explain(&incident.id);
        let _ = history.hold(&incident.service);
    }
}
