//! The screens, as a terminal of a given size shows them.

use hostprobe::{emit::wire::Record, serve::status::Status};
use ratatui::{
    Terminal,
    backend::TestBackend,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
};
use serde_json::json;

use super::{
    feed::{Input, Order},
    local::{Local, Used},
    model::{Mode, Model, Next},
    screen::{self, Look},
};

const PLAIN: Look = Look { colour: false, unicode: true };

fn service(name: &str, state: &str, more: serde_json::Value) -> serde_json::Value {
    let mut service = json!({ "name": name, "critical": false, "state": state });
    let fields = service.as_object_mut().unwrap();
    fields.extend(more.as_object().cloned().unwrap_or_default());
    service
}

fn status(services: Vec<serde_json::Value>) -> Status {
    let open = services.iter().filter(|service| service.get("incident").is_some()).count();
    let status = json!({
        "ready": true,
        "timestamp": "2026-01-31T12:00:10.000Z",
        "host": { "name": "db-1", "boot": { "id": "b" } },
        "agent": { "name": "hostprobe", "version": "0.1.0", "ephemeral_id": "1a2b3c4d" },
        "services": services,
        "coverage": [{ "hook": "sched_process_exit", "attached": true, "absent": false }],
        "counters": { "events": 1, "events_lost": 0, "incidents": 1, "incidents_open": open, "restarts": 0, "alerts_waiting": 0 },
    });
    serde_json::from_value(status).unwrap()
}

/// A service that is well, one that is down, and one with a hostile name.
fn three() -> Status {
    status(vec![
        service(
            "api",
            "healthy",
            json!({ "response_time_ms": 1.5, "main_pid": 7, "since": "2026-01-31T11:58:10Z" }),
        ),
        service(
            "cache",
            "down",
            json!({
                "incident": "1a2b3c4d-i1", "verdict": "oom_killed", "summary": "out of memory in its cgroup",
                "hold": "it is paused", "since": "2026-01-31T12:00:08Z", "error": "nothing listens on port 6379"
            }),
        ),
        service("a\u{1b}[2Jb", "degraded", json!({})),
    ])
}

fn event(action: &str, message: &str) -> Box<Record> {
    let record = json!({
        "@timestamp": "2026-01-31T12:00:08.5Z", "ecs": { "version": "9.0" }, "schema_version": "2",
        "event": {
            "id": "1a2b3c4d-9", "sequence": 9, "kind": "event", "category": ["host"], "type": ["start"],
            "action": action, "outcome": "failure", "provider": "engine"
        },
        "log": { "level": "error" }, "message": message,
        "host": { "name": "db-1", "boot": { "id": "b" } },
        "agent": { "name": "hostprobe", "version": "0.1.0", "ephemeral_id": "1a2b3c4d" },
    });
    Box::new(serde_json::from_value(record).unwrap())
}

fn model(status: Status) -> Model {
    let mut model = Model::default();
    model.take(Input::Status(Box::new(status)));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Next {
    model.take(Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// The screen as lines without the spaces at their ends.
fn screen(model: &mut Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(model, PLAIN, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn the_worst_service_is_first_and_its_incident_is_told() {
    let mut model = model(three());
    model.take(Input::Event(event("incident.open", "cache: out of memory in its cgroup")));
    let mut local = Local { cpu: Some(12.4), memory: Some(34.0), ..Local::default() };
    local.services.insert(7, Used { cpu: Some(3.0), memory: 512 << 20 });
    model.take(Input::Local(Box::new(local)));
    assert_eq!(
        screen(&mut model, 100, 18),
        [
            " db-1  3 services: 1 down, 1 degraded, 1 healthy  1 open incidents  1/1 hooks",
            " cpu 12%  memory 34%  swap -  waits for cpu -, memory -, disk -",
            "SERVICE (need) STATE     SINCE   ANSWER                 CPU   MEMORY  WHAT IS WRONG",
            "cache          down      2.0 s           -                  -       - nothing listens on port 6379",
            "a\\u{1b}[2Jb    degraded                  -                  -       -",
            "api            healthy   2 min      1.5 ms █               3%    512M",
            "",
            "",
            "",
            "",
            "",
            " cache oom_killed (1a2b3c4d-i1), not restarted (it is paused): out of memory in its cgroup",
            " 12:00:08 incident.open    cache: out of memory in its cgroup",
            "",
            "",
            "",
            "",
            " q quit  ? help  / filter  s sort  Enter details  p pause  r restart  a ack",
        ]
    );
}

#[test]
fn it_fits_the_smallest_terminals() {
    for (width, height) in [(80, 24), (40, 10), (20, 5), (8, 3), (1, 1)] {
        let mut model = model(three());
        for mode in [Mode::List, Mode::Help, Mode::Filter] {
            model.mode = mode;
            screen(&mut model, width, height);
        }
    }
    let shown = screen(&mut model(three()), 80, 24);
    assert!(shown.iter().any(|line| line.starts_with("cache") && line.contains("nothing")), "{shown:#?}");
    let shown = screen(&mut model(three()), 40, 6);
    assert!(shown.iter().any(|line| line.starts_with("cache")), "{shown:#?}");
}

#[test]
fn a_thousand_services_are_paged_through() {
    let services = (0..1000).map(|nth| service(&format!("s{nth:03}"), "healthy", json!({}))).collect();
    let mut model = model(status(services));
    let shown = screen(&mut model, 80, 24);
    assert!(shown[3].starts_with("s000 "), "{shown:#?}");
    press(&mut model, KeyCode::End);
    let shown = screen(&mut model, 80, 24);
    assert!(
        shown.iter().any(|line| line.starts_with("s999 ")) && !shown[3].starts_with("s000"),
        "{shown:#?}"
    );
    press(&mut model, KeyCode::PageUp);
    assert_eq!(model.chosen.as_deref(), Some(format!("s{:03}", 999 - model.page).as_str()));
    let first = model.first;
    screen(&mut model, 80, 24);
    press(&mut model, KeyCode::Down);
    screen(&mut model, 80, 24);
    assert!(model.first < first && model.first == 999 - model.page, "the list moves as little as it must");
    press(&mut model, KeyCode::Home);
    assert_eq!(model.chosen.as_deref(), Some("s000"));
}

#[test]
fn a_filter_shows_what_has_its_word() {
    let mut model = model(three());
    press(&mut model, KeyCode::Char('/'));
    "DOWN".chars().for_each(|char| _ = press(&mut model, KeyCode::Char(char)));
    assert_eq!(model.shown().len(), 1);
    press(&mut model, KeyCode::Enter);
    let shown = screen(&mut model, 80, 24);
    assert!(shown.last().is_some_and(|line| line.contains("filter \"DOWN\"")), "{shown:#?}");
    press(&mut model, KeyCode::Esc);
    assert_eq!(model.shown().len(), 3);
}

#[test]
fn nothing_is_ordered_without_a_yes() {
    let mut model = model(three());
    assert_eq!(model.chosen.as_deref(), Some("cache"));
    for key in ['r', 'p', 'a'] {
        press(&mut model, KeyCode::Char(key));
        assert!(matches!(model.mode, Mode::Confirm { .. }), "{key}");
        assert_eq!(press(&mut model, KeyCode::Char('n')), Next::Show);
        assert_eq!(model.mode, Mode::List);
    }
    press(&mut model, KeyCode::Char('r'));
    let shown = screen(&mut model, 80, 24);
    assert_eq!(shown.last().map(String::as_str), Some(" restart cache? (y/n)"));
    let Next::Ask(Order::Operate(operation)) = press(&mut model, KeyCode::Char('y')) else {
        panic!("an order")
    };
    assert_eq!(serde_json::to_value(operation).unwrap()["target"], json!({ "service": "cache" }));
    model.take(Input::Outcome(Err("cache: it is\u{1b} gone".to_owned())));
    let shown = screen(&mut model, 80, 24);
    assert_eq!(shown.last().map(String::as_str), Some(" cache: it is\\u{1b} gone"));
}

#[test]
fn details_are_of_the_open_incident() {
    let mut model = model(three());
    let asked = press(&mut model, KeyCode::Enter);
    assert_eq!(asked, Next::Ask(Order::Explain("1a2b3c4d-i1".to_owned())));
    model.take(Input::Explanation(Err("there is none".to_owned())));
    let shown = screen(&mut model, 80, 24);
    assert!(shown[2].contains("1a2b3c4d-i1") && shown[3].contains("there is none"), "{shown:#?}");
    press(&mut model, KeyCode::Esc);
    press(&mut model, KeyCode::Down);
    press(&mut model, KeyCode::Enter);
    assert_eq!(model.said.as_deref(), Some("a\\u{1b}[2Jb has no open incident"));
}

#[test]
fn a_daemon_that_went_away_leaves_what_was_known() {
    let mut fresh = Model::default();
    assert!(screen(&mut fresh, 80, 24)[0].contains("asking the daemon"));
    let mut model = model(three());
    assert_eq!(model.take(Input::Down("no daemon answers".to_owned())), Next::Show);
    assert_eq!(model.take(Input::Down("no daemon answers".to_owned())), Next::Wait);
    let shown = screen(&mut model, 100, 24);
    assert!(shown[0].starts_with(" last known: db-1") && shown[1] == " no daemon answers", "{shown:#?}");
    assert!(shown.iter().any(|line| line.starts_with("cache")));
}

#[test]
fn a_terminal_without_colours_or_more_than_ascii_is_enough() {
    let mut model = model(three());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let look = Look { colour: false, unicode: false };
    model.mode = Mode::Help;
    terminal.draw(|frame| screen::draw(&mut model, look, frame)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    assert!(buffer.content().iter().all(|cell| cell.symbol().is_ascii()));
    assert!(buffer.content().iter().all(|cell| cell.fg == ratatui::style::Color::Reset));
    let look = Look { colour: true, unicode: true };
    terminal.draw(|frame| screen::draw(&mut model, look, frame)).unwrap();
    assert!(terminal.backend().buffer().content().iter().any(|cell| cell.fg == ratatui::style::Color::Red));
}
