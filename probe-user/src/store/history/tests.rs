//! Timelines from events, as a daemon or a file has them.

use super::{timeline::EVENTS, *};
use crate::{
    clock::Timestamp,
    emit::{Emitter, tests::samples},
    fact::{EventId, Fact, Incident, IncidentId, Phase, ServiceId, ServiceState},
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
        let record = self.emitter.take_last().unwrap();
        assert_eq!(self.emitter.take_last(), None);
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
    let actions: Vec<(Action, bool)> =
        explained.timeline.iter().map(|entry| (entry.action, entry.evidence)).collect();
    let expected = [
        (Action::ProcessExit, true),
        (Action::IncidentOpen, false),
        (Action::ServiceState, false),
        (Action::IncidentResolve, false),
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
        self.emitter.take_last().unwrap()
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
    assert_eq!((explained.timeline.len(), explained.left_out), (EVENTS, 1));
    assert_eq!(explained.timeline[0].action, Action::IncidentOpen, "the beginning stays");
    assert_eq!(explained.missing, ["c0ffee00-1"]);

    stream.incident(2, Phase::Open, Vec::new());
    stream.incident(2, Phase::Resolve, Vec::new());
    stream.incident(4, Phase::Open, Vec::new());
    let ids: Vec<String> = stream.history.incidents().into_iter().map(|incident| incident.id).collect();
    assert_eq!(ids, ["c0ffee00-i4", "c0ffee00-i1"], "one that is over goes before one that is open");
}
