//! Timelines from events, as a daemon or a file has them.

use super::{timeline::EVENTS, *};
use crate::{
    clock::Timestamp,
    emit::{self, Emitter, tests::samples},
    fact::{EventId, Fact, FaultContext, Incident, IncidentId, Phase, ServiceId, ServiceState},
};

struct Stream {
    emitter: Emitter,
    history: History,
}

impl Stream {
    fn new(room: usize) -> Self {
        let emitter = Emitter::new(samples::origin(), samples::names(), Vec::new());
        Self { emitter, history: History::new(room) }
    }

    fn say(&mut self, fact: &Fact) -> EventId {
        let id = self.emitter.publish(fact, Timestamp::now());
        let record = self.emitter.take_records().pop().unwrap();
        assert_eq!(self.emitter.take_records(), []);
        self.history.take(record);
        id
    }

    fn incident(&mut self, number: u64, phase: Phase, evidence: Vec<EventId>) {
        let Fact::Incident(_, sample) = samples::incident() else { panic!("the sample is an incident") };
        let incident = Incident { id: IncidentId::new(number), evidence, since: Timestamp::now(), ..sample };
        self.say(&Fact::Incident(phase, incident));
    }
}

fn state(state: ServiceState) -> Fact {
    Fact::ServiceState(ServiceId(0), state, ServiceState::Healthy, "so".to_owned())
}

#[test]
fn a_timeline_has_the_evidence_from_before_it_opened() {
    let mut stream = Stream::new(INCIDENTS);
    let death = stream.say(&samples::killed());
    stream.incident(3, Phase::Open, vec![death]);
    stream.say(&state(ServiceState::Down));
    stream.incident(3, Phase::Resolve, vec![death]);
    let explained = stream.history.explain("3").unwrap();
    assert_eq!(stream.history.explain("c0ffee00-i3").as_ref(), Ok(&explained));
    assert!(!explained.open && explained.missing.is_empty());
    let actions: Vec<(What, bool)> =
        explained.timeline.iter().map(|entry| (entry.action, entry.evidence)).collect();
    let expected = [
        (What::Event(Action::ProcessExit), true),
        (What::Event(Action::IncidentOpen), false),
        (What::Event(Action::ServiceState), false),
        (What::Event(Action::IncidentResolve), false),
    ];
    assert_eq!(actions, expected);
    assert!(explained.timeline[0].message.contains("was killed by SIGKILL"));
    assert!(explained.timeline[0].after_ms < explained.timeline[1].after_ms);
}

#[test]
fn an_id_that_none_or_several_have_is_refused() {
    let mut stream = Stream::new(INCIDENTS);
    stream.incident(3, Phase::Open, Vec::new());
    stream.incident(13, Phase::Open, Vec::new());
    assert!(stream.history.explain("3").is_ok(), "13 is another number");
    assert_eq!(stream.history.explain("c0ffee00"), Err(NotOne::None));
    assert_eq!(stream.history.explain(""), Err(NotOne::None));
    let mut record = stream.emitter_record();
    let incident = record.incident.as_mut().unwrap();
    incident.id = "c0ffee01-i3".to_owned();
    stream.history.take(record);
    let several = vec!["c0ffee00-i3".to_owned(), "c0ffee01-i3".to_owned()];
    assert_eq!(stream.history.explain("i3"), Err(NotOne::Several(several)));
}

impl Stream {
    fn emitter_record(&mut self) -> Record {
        self.emitter.publish(&samples::incident(), Timestamp::now());
        self.emitter.take_records().pop().unwrap()
    }
}

#[test]
fn memory_is_bounded_and_dropped_entries_are_reported() {
    let mut stream = Stream::new(2);
    let lost = stream.say(&samples::killed());
    for _ in 0..RECENT {
        stream.say(&state(ServiceState::Down));
    }
    stream.incident(1, Phase::Open, vec![lost]);
    for _ in 0..EVENTS {
        stream.incident(1, Phase::Update, vec![lost]);
    }
    let explained = stream.history.explain("1").unwrap();
    // Those before it are of one kind.
    assert_eq!((explained.timeline.len(), explained.left_out), (EVENTS + 6, 1));
    assert_eq!(explained.left_out_around, surroundings::LATELY as u64 - 7);
    let open = What::Event(Action::IncidentOpen);
    assert!(explained.timeline.iter().any(|entry| entry.action == open), "the beginning stays");
    assert_eq!(explained.missing, ["c0ffee00-1"]);

    stream.incident(2, Phase::Open, Vec::new());
    stream.incident(2, Phase::Resolve, Vec::new());
    stream.incident(4, Phase::Open, Vec::new());
    let ids: Vec<String> = stream.history.incidents().into_iter().map(|incident| incident.id).collect();
    assert_eq!(ids, ["c0ffee00-i4", "c0ffee00-i1"], "one that is over goes before one that is open");
}

#[test]
fn a_timeline_has_what_happened_around_it_in_order_and_a_crowd_leaves_room_for_the_rest() {
    let mut stream = Stream::new(INCIDENTS);
    let other = |to| Fact::ServiceState(ServiceId(1), to, ServiceState::Healthy, "so".to_owned());
    stream.say(&state(ServiceState::Down));
    for _ in 0..surroundings::BEFORE * 2 {
        stream.say(&other(ServiceState::Down));
    }
    stream.incident(3, Phase::Open, Vec::new());
    for _ in 0..surroundings::AFTER * 2 {
        stream.say(&other(ServiceState::Unhealthy));
    }
    stream.say(&samples::killed());
    stream.incident(3, Phase::Resolve, Vec::new());
    stream.say(&other(ServiceState::Healthy));
    let explained = stream.history.explain("3").unwrap();
    let of_other = |entry: &&Entry| entry.service.as_deref() == Some("web");
    let alike = explained.timeline.iter().filter(of_other).count();
    assert_eq!(alike, 12, "some before, and some after its fault: {explained:#?}");
    let left_out = (surroundings::BEFORE + surroundings::AFTER) * 2 - alike;
    assert_eq!(explained.left_out_around, left_out as u64);
    let actions: Vec<What> = explained.timeline.iter().map(|entry| entry.action).collect();
    let place = |action| actions.iter().position(|it| *it == What::Event(action));
    let (open, end) = (place(Action::IncidentOpen), place(Action::IncidentResolve));
    let own = |entry: &Entry| entry.service.as_deref() == Some("api");
    let before = explained.timeline.iter().position(own);
    let killed = place(Action::ProcessExit);
    assert!(before < open && open < killed && killed < end && before.is_some(), "{actions:?}");
    assert_eq!(actions[before.unwrap()], What::Event(Action::ServiceState));
    assert_eq!(end, Some(actions.len() - 1), "nothing comes after its end");

    // What one run has kept, another one reads.
    let kept = serde_json::to_string(stream.history.timelines.back().unwrap()).unwrap();
    let read: Timeline = serde_json::from_str(&kept).unwrap();
    assert_eq!(read.explained(), explained);
    // As an earlier version has kept it.
    let mut earlier: serde_json::Value = serde_json::from_str(&kept).unwrap();
    earlier.as_object_mut().unwrap().remove("surroundings");
    assert!(serde_json::from_value::<Timeline>(earlier).unwrap().explained().timeline.len() < actions.len());
}

#[test]
fn a_change_and_a_pressure_stand_at_their_time() {
    let mut stream = Stream::new(INCIDENTS);
    stream.incident(3, Phase::Open, Vec::new());
    stream.incident(3, Phase::Resolve, Vec::new());
    let mut timeline = stream.history.timelines.back().unwrap().clone();
    let since = surroundings::micros(timeline.incident.since.as_deref().unwrap()).unwrap();
    let ago = |seconds: i64| {
        format!("{:.6}", jiff::Timestamp::from_microsecond(since - seconds * 1_000_000).unwrap())
    };
    timeline.incident.changes = Some(vec!["a".to_owned(), "b".to_owned()]);
    timeline.incident.changed_at = Some(vec![ago(40), ago(400)]);
    let mut explained = timeline.explained();
    let (from, until) = explained.window().unwrap();
    assert_eq!(from, since - surroundings::BEFORE_US);
    explained.add(Further::Pressure, until + 1_000_000, "p".to_owned());
    let messages: Vec<&str> = explained.timeline.iter().map(|entry| entry.message.as_str()).collect();
    assert_eq!((messages[0], messages.last()), ("a", Some(&"p")), "b was long before: {messages:?}");
    assert_eq!(explained.timeline[0].after_ms, -40_000.0);
    let json = serde_json::to_value(&explained.timeline[0]).unwrap();
    assert_eq!((&json["action"], json.get("id")), (&"change".into(), None));
    let read: Entry = serde_json::from_value(json).unwrap();
    assert_eq!(read, explained.timeline[0]);
}

#[test]
fn what_explains_a_fault_is_added_after_its_end_once() {
    let mut stream = Stream::new(INCIDENTS);
    let Fact::Incident(_, sample) = samples::incident() else { panic!("the sample is an incident") };
    let context = FaultContext {
        logs: vec!["token=abc".to_owned()],
        changes: vec!["its program was replaced 40 s before".to_owned()],
        changed_at: vec![1_769_828_360_000_000],
        ..sample.context
    };
    assert!(!stream.explains("api", &context), "it has no incident");
    let bare = |stream: &mut Stream| {
        let incident = &mut stream.history.timelines.back_mut().unwrap().incident;
        (incident.logs, incident.changes, incident.changed_at) = (None, None, None);
        (incident.stacks, incident.crash, incident.culprit, incident.actor) = (None, None, None, None);
    };
    stream.incident(3, Phase::Open, Vec::new());
    bare(&mut stream);
    assert!(!stream.explains("api", &context), "an event will have it");
    stream.incident(3, Phase::Resolve, Vec::new());
    bare(&mut stream);
    assert!(stream.explains("api", &context));
    let added = stream.history.timelines.back().unwrap().incident.clone();
    assert_eq!(added.changes.as_deref(), Some(&context.changes[..]));
    assert_eq!(added.logs.unwrap(), ["token=***"]);
    assert_eq!(added.changed_at.unwrap(), ["2026-01-31T02:59:20.000000Z"]);
    assert!(
        added.culprit.is_some() && added.crash.is_some() && added.actor.is_some() && added.stacks.is_some()
    );
    assert!(!stream.explains("api", &context), "it has it by now");
    assert!(!stream.explains("web", &context));
}

#[test]
fn what_comes_late_is_added_to_what_an_event_had_and_takes_nothing_away() {
    let mut stream = Stream::new(INCIDENTS);
    let Fact::Incident(_, sample) = samples::incident() else { panic!("the sample is an incident") };
    stream.incident(3, Phase::Open, Vec::new());
    stream.incident(3, Phase::Resolve, Vec::new());
    let incident = |stream: &Stream| stream.history.timelines.back().unwrap().incident.clone();
    let had = incident(&stream);
    stream.history.timelines.back_mut().unwrap().incident.culprit = None;
    let late = FaultContext {
        logs: vec!["a later line".to_owned()],
        culprit: sample.context.culprit.clone(),
        ..FaultContext::default()
    };
    assert!(stream.explains("api", &late));
    assert_eq!(incident(&stream), had, "who took the memory alone was missing");
    // With the core dump, the place of the crash is known better.
    let mut site = *sample.context.crash.unwrap();
    site.core = Some("/var/lib/systemd/coredump/core.api".to_owned());
    let named = FaultContext { crash: Some(Box::new(site)), ..FaultContext::default() };
    assert!(stream.explains("api", &named));
    assert_eq!(incident(&stream).crash.unwrap().core.as_deref(), Some("/var/lib/systemd/coredump/core.api"));
    assert!(!stream.explains("api", &named));
}

impl Stream {
    /// Whether the service's last incident takes this in.
    fn explains(&mut self, service: &str, context: &FaultContext) -> bool {
        let context = emit::context(context, &samples::origin(), &samples::names());
        self.history.explain_last(service, context).is_some()
    }
}
