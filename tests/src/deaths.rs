//! All deaths by signal of the host, counted beside the daemon under test: what it reports and what it counts as lost
//! must add up to them.

use std::collections::{HashMap, HashSet};

use hostprobe::{
    clock::Timestamp,
    fact::ProcessKey,
    sensor::{
        ebpf::{EbpfSensor, Options},
        loss::LossClass,
        record::{Exit, Record},
    },
};
use serde_json::Value;

use crate::{
    daemon::event_action,
    incident_events::{number, text},
};

/// The kernel's records of deaths, with room for all of them.
pub struct Deaths {
    sensor: EbpfSensor,
    seen: HashMap<ProcessKey, Exit>,
}

/// What a daemon reported and lost, compared with what happened.
#[derive(Debug)]
pub struct Account {
    /// Deaths the daemon should have reported and did not, up to the last death that the test waited for.
    pub missing: u64,
    /// The same, up to its end: it may have ended before it read the latest records.
    pub missing_at_end: u64,
    /// Deaths it said it lost, by class.
    pub lost: HashMap<String, u64>,
}

impl Default for Deaths {
    fn default() -> Self {
        Self::new()
    }
}

impl Deaths {
    /// # Panics
    /// If nothing can be seen of the kernel.
    pub fn new() -> Self {
        let options =
            Options { urgent_ring_bytes: 64 << 20, unwatched_per_second: u32::MAX, ..Options::default() };
        Self { sensor: EbpfSensor::load(&options).expect("the hooks are attached"), seen: HashMap::new() }
    }

    /// Reads what the kernel has written since.
    ///
    /// # Panics
    /// If even this reader has lost something.
    pub fn read(&mut self) {
        let mut records = Vec::new();
        loop {
            self.sensor.drain(&mut records);
            if records.is_empty() {
                break;
            }
            for record in records.drain(..) {
                if let Record::Exit(exit) = record {
                    let start = Timestamp::from_nanos(exit.start_ns);
                    self.seen.insert(ProcessKey::new(exit.pid, start), exit);
                }
            }
        }
        let lost = self.sensor.losses();
        assert!(lost.iter().all(|loss| !loss.class.as_str().starts_with("exit")), "{lost:?}");
    }

    /// The children of a process that died by a signal so far.
    pub fn of_children(&mut self, parent: u32) -> HashSet<ProcessKey> {
        self.read();
        let its = self.seen.iter().filter(|(_, exit)| exit.parent_pid == parent);
        its.map(|(key, _)| *key).collect()
    }

    /// Compares the events of an ended daemon with all deaths since the first one that it reported. `last` is one that
    /// it reported near its end.
    ///
    /// # Panics
    /// If the daemon has not reported the last one.
    pub fn account(&mut self, events: &[Value], last: u32) -> Account {
        self.read();
        let reported: HashSet<ProcessKey> = events.iter().filter_map(reported_death).collect();
        // A budget is lost from, and a ring filled, only after something was reported.
        let known = |key: &ProcessKey| self.seen.get(key).map(|exit| exit.at_ns);
        let first = reported.iter().filter_map(known).min().unwrap_or(u64::MAX);
        let last =
            reported.iter().find(|key| key.pid == last).and_then(known).expect("the last death was reported");
        let missing = |until: u64| {
            let due = |(key, exit): &(&ProcessKey, &Exit)| {
                (first..=until).contains(&exit.at_ns) && !reported.contains(key)
            };
            self.seen.iter().filter(due).count() as u64
        };
        let mut lost: HashMap<String, u64> = HashMap::new();
        for event in events.iter().filter(|event| event_action(event) == "stream.loss") {
            let count = number(event, "loss.count").and_then(|count| u64::try_from(count).ok());
            *lost.entry(text(event, "loss.class").to_owned()).or_default() += count.expect("a count");
        }
        Account { missing: missing(last), missing_at_end: missing(u64::MAX), lost }
    }
}

impl Account {
    /// How many records of this class the daemon counted as lost.
    pub fn lost_of(&self, class: LossClass) -> u64 {
        self.lost.get(class.as_str()).copied().unwrap_or(0)
    }

    /// Asserts that each death is either reported or counted as lost.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn adds_up(&self) {
        let classes = [LossClass::ExitWatched, LossClass::ExitUnwatched, LossClass::ExitThrottled];
        let lost = classes.iter().map(|class| self.lost_of(*class)).sum::<u64>();
        assert!((self.missing..=self.missing_at_end).contains(&lost), "{lost} were lost, but {self:?}");
    }
}

pub fn reported_death(event: &Value) -> Option<ProcessKey> {
    if event_action(event) != "process.exit" {
        return None;
    }
    // Boot, pid and start since then.
    let mut parts = text(event, "process.entity_id").rsplit('-').map(str::parse);
    let (start, pid) = (parts.next()?.ok()?, parts.next()?.ok()?);
    Some(ProcessKey::new(u32::try_from(pid).ok()?, Timestamp::from_nanos(start)))
}
