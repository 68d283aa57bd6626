//! The host as a service: what its checks find, and an incident for each that lasts.
//!
//! The daemon sends a reading only of what is at its limit or near it. So a healthy host costs nothing here, and a state
//! of which nothing more is heard is over.

use std::{collections::BTreeMap, time::Duration};

use super::{
    effect::{Effect, Effects},
    own_incident::OwnIncident,
    rules::{self, EndRule, SeverityRule},
};
use crate::{
    clock::Timestamp,
    fact::{
        EventId, Fact, HostCheck, HostReading, HostState, HostSubject, Incident, Memory, RememberedIncident,
        ServiceId, Severity, Verdict,
    },
};

/// What the kernel reports as it happens is over when it has reported no more for this long.
const QUIET: Duration = Duration::from_secs(600);

/// What is measured is over when there has been no reading for this long. The daemon measures every ten seconds.
const STALE: Duration = Duration::from_secs(180);

/// What changes in an open incident is published as often, at most.
const INTERVAL: Duration = Duration::from_secs(60);

/// Further subjects are left out: names of devices and tasks come from outside.
const MOST: usize = 256;

/// What of the host keeps services from working.
#[derive(Clone, Debug, Default)]
pub struct HostTrouble {
    /// File systems that take no more data.
    pub file_systems: Vec<FullFileSystem>,
    /// Why no process can be started.
    pub pids: Option<(HostSubject, String)>,
    /// Why packets of new connections are dropped.
    pub conntrack: Option<String>,
}

/// A file system that takes no more data.
#[derive(Clone, Debug)]
pub struct FullFileSystem {
    /// Its device number, as `major:minor`.
    pub device: String,
    pub subject: HostSubject,
    /// What is wrong with it, for people.
    pub words: String,
    /// Root can still write.
    pub root_has_room: bool,
}

#[derive(Debug, Default)]
pub struct Host {
    states: BTreeMap<HostSubject, State>,
    /// An incident was opened or resolved, and the daemon is to keep that.
    is_changed: bool,
}

#[derive(Debug)]
struct State {
    /// The latest one that was bad.
    reading: HostReading,
    bad_since: Timestamp,
    /// When it was last bad.
    seen: Timestamp,
    /// Since when it is not bad any more.
    well_since: Option<Timestamp>,
    /// How often the kernel has reported it.
    count: f64,
    /// When the incident was last published.
    published: Timestamp,
    incident: OwnIncident,
}

impl Host {
    /// Takes in a reading. True if it changes what services can do.
    pub fn observe(
        &mut self,
        reading: HostReading,
        now: Timestamp,
        incidents: &mut u64,
        effects: &mut impl Effects,
    ) -> bool {
        let subject = reading.subject.clone();
        let Some(state) = self.states.get_mut(&subject) else {
            if !reading.is_bad() || self.states.len() >= MOST {
                return false;
            }
            let state = self.states.entry(subject).or_insert(State::new(reading, now));
            let is_open = state.open_if_due(now, incidents, effects);
            self.is_changed |= is_open;
            return is_open;
        };
        if state.stays_bad(&reading) {
            let before = (state.is_exhausted(), state.reading.root_has_room);
            let was_open = state.incident.is_open();
            state.take(reading, now);
            if was_open {
                state.publish_change(now, effects);
            } else {
                self.is_changed |= state.open_if_due(now, incidents, effects);
            }
            return (state.is_exhausted(), state.reading.root_has_room) != before;
        }
        if !state.incident.is_open() {
            self.states.remove(&subject);
            return false;
        }
        state.well_since.get_or_insert(now);
        state.reading = HostReading { limit: state.reading.limit, ..reading };
        self.tick(now, effects)
    }

    /// Ends what is over. True if that changes what services can do.
    pub fn tick(&mut self, now: Timestamp, effects: &mut impl Effects) -> bool {
        let over: Vec<HostSubject> =
            self.states.iter().filter(|(_, it)| it.ends_at() <= now).map(|(it, _)| it.clone()).collect();
        for subject in &over {
            if let Some(mut state) = self.states.remove(subject)
                && state.incident.is_open()
            {
                self.is_changed = true;
                state.resolve(now, effects);
            }
        }
        !over.is_empty()
    }

    pub fn deadline(&self) -> Option<Timestamp> {
        self.states.values().map(State::ends_at).min()
    }

    /// Takes up the incidents of an earlier run. The first readings confirm them, or they end.
    pub fn remember(&mut self, memory: Memory, now: Timestamp, effects: &mut impl Effects) {
        for remembered in memory.incident.into_iter().chain(memory.further) {
            let Some(subject) = remembered.incident.host.clone() else { continue };
            effects.publish(Fact::Incident(crate::fact::Phase::Update, remembered.incident.clone()), now);
            self.states.insert(subject.clone(), State::remembered(subject, remembered.incident, now));
        }
        self.is_changed = true;
    }

    /// What keeps services from working now.
    pub fn trouble(&self) -> HostTrouble {
        let mut trouble = HostTrouble::default();
        for (subject, state) in self.states.iter().filter(|(_, state)| state.is_exhausted()) {
            let words = state.reading.words.clone();
            match (subject.check, &state.reading.device) {
                (HostCheck::Space | HostCheck::Inodes | HostCheck::ReadOnly, Some(device)) => {
                    let (device, subject) = (device.clone(), subject.clone());
                    let root_has_room = state.reading.root_has_room;
                    trouble.file_systems.push(FullFileSystem { device, subject, words, root_has_room });
                }
                (HostCheck::Pids, _) => trouble.pids = Some((subject.clone(), words)),
                (HostCheck::Conntrack, _) => trouble.conntrack = Some(words),
                (_, _) => {}
            }
        }
        trouble
    }

    /// The open incidents, in the order of their subjects.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.states.values().filter_map(|state| state.incident.get())
    }

    /// Names the services that each incident holds. `held` is each of them with what it waits for.
    pub fn set_held(
        &mut self,
        held: &[(ServiceId, HostSubject)],
        now: Timestamp,
        effects: &mut impl Effects,
    ) {
        for (subject, state) in &mut self.states {
            let of_it = held.iter().filter(|(_, by)| by == subject).map(|(service, _)| *service).collect();
            if let Some(open) = state.incident.get_mut()
                && open.held != of_it
            {
                open.held = of_it;
                state.incident.update(now, effects);
            }
        }
    }

    /// Has the daemon keep the open incidents, so that a later run goes on with them.
    pub fn keep_changes(&mut self, effects: &mut impl Effects) {
        if !std::mem::take(&mut self.is_changed) {
            return;
        }
        let mut open = self.incidents().cloned().map(RememberedIncident::alerted);
        let memory = Memory { incident: open.next(), further: open.collect(), ..Memory::default() };
        effects.request(Effect::KeepMemory { service: ServiceId::HOST, memory: Box::new(memory) });
    }
}

impl State {
    fn new(reading: HostReading, now: Timestamp) -> Self {
        let (bad_since, count) = (reading.at.min(now), reading.value);
        Self {
            reading,
            bad_since,
            seen: now,
            well_since: None,
            count,
            published: now,
            incident: OwnIncident::default(),
        }
    }

    /// That of an earlier run, of which only the incident is known.
    fn remembered(subject: HostSubject, incident: Incident, now: Timestamp) -> Self {
        let reading = HostReading {
            at: now,
            subject,
            source: crate::fact::Source::Engine,
            value: 0.0,
            limit: 0.0,
            time_left: None,
            exhausted: false,
            root_has_room: false,
            device: None,
            words: incident.summary.clone(),
            fault: None,
        };
        let bad_since = incident.since;
        Self { bad_since, incident: OwnIncident::of_earlier_run(incident), ..Self::new(reading, now) }
    }

    fn check(&self) -> HostCheck {
        self.reading.subject.check
    }

    /// The kernel reports it as it happens.
    fn is_reported(&self) -> bool {
        rules::of(verdict_of(self.check())).ends == EndRule::Quiet
    }

    fn is_exhausted(&self) -> bool {
        self.reading.exhausted && self.incident.is_open() && self.well_since.is_none()
    }

    /// What is open ends only well below its limit, so that it does not come and go.
    fn stays_bad(&self, reading: &HostReading) -> bool {
        let clear = if self.incident.is_open() { self.check().clear_share() } else { 1.0 };
        reading.value >= reading.limit * clear || reading.is_bad()
    }

    fn take(&mut self, reading: HostReading, now: Timestamp) {
        self.count += reading.value;
        (self.seen, self.well_since) = (now, None);
        self.reading = reading;
    }

    fn ends_at(&self) -> Timestamp {
        let lasts = if self.is_reported() { QUIET } else { STALE };
        let silent = self.seen.plus(lasts);
        self.well_since.map_or(silent, |since| since.plus(settling(self.check())).min(silent))
    }

    fn open_if_due(&mut self, now: Timestamp, incidents: &mut u64, effects: &mut impl Effects) -> bool {
        let is_due = self.reading.exhausted || now.since(self.bad_since) >= hold(self.check());
        if !is_due || self.incident.is_open() {
            return false;
        }
        let event = self.publish_state(false, effects);
        let verdict = verdict_of(self.check());
        let incident = OwnIncident::next(verdict, self.summary(), self.bad_since, incidents);
        let incident = Incident {
            service: ServiceId::HOST,
            cause: ServiceId::HOST,
            severity: self.severity(),
            confidence: if self.is_reported() { 0.9 } else { 1.0 },
            evidence: vec![event],
            host: Some(self.reading.subject.clone()),
            ..incident
        };
        self.incident.open(incident, now, effects);
        self.published = now;
        true
    }

    fn publish_state(&self, is_well: bool, effects: &mut impl Effects) -> EventId {
        let state = HostState { reading: self.reading.clone(), is_well };
        effects.publish(Fact::HostState(state), self.reading.at)
    }

    /// Publishes the incident again if it became worse, or has another summary for a while.
    fn publish_change(&mut self, now: Timestamp, effects: &mut impl Effects) {
        let (summary, severity) = (self.summary(), self.severity());
        let Some(open) = self.incident.get_mut() else { return };
        let before = open.severity;
        let is_old = now.since(self.published) >= INTERVAL && open.summary != summary;
        if before == severity && !is_old {
            return;
        }
        (open.summary, open.severity) = (summary, severity);
        let alerts = (severity > before).then(|| open.clone());
        if before != severity {
            self.publish_state(false, effects);
        }
        self.incident.update(now, effects);
        self.published = now;
        if let Some(incident) = alerts {
            effects.request(Effect::Alert { incident, resolved: false });
        }
    }

    fn resolve(&mut self, now: Timestamp, effects: &mut impl Effects) {
        self.reading.at = now;
        if self.well_since.is_none() {
            // What it last said is not true any more, or is not repeated.
            self.reading.words = format!("no more is reported since: {}", self.reading.words);
        }
        self.publish_state(true, effects);
        self.incident.resolve(now, effects);
    }

    fn severity(&self) -> Severity {
        match rules::of(verdict_of(self.check())).severity {
            SeverityRule::Info => Severity::Info,
            SeverityRule::WhenExhausted if !self.reading.exhausted => Severity::Warning,
            SeverityRule::Warning | SeverityRule::OfService => Severity::Warning,
            SeverityRule::WhenExhausted | SeverityRule::Critical => Severity::Critical,
        }
    }

    fn summary(&self) -> String {
        let words = &self.reading.words;
        if self.is_reported() && self.count > 1.0 {
            format!("{words}; {:.0} such reports so far", self.count)
        } else {
            words.clone()
        }
    }
}

/// The verdict of an incident of a check.
const fn verdict_of(check: HostCheck) -> Verdict {
    match check {
        HostCheck::Space => Verdict::HostDiskFull,
        HostCheck::Inodes => Verdict::HostInodes,
        HostCheck::ReadOnly => Verdict::HostReadOnly,
        HostCheck::Memory | HostCheck::MemoryPressure => Verdict::HostMemory,
        HostCheck::CpuPressure | HostCheck::IoPressure => Verdict::HostPressure,
        HostCheck::CpuSteal => Verdict::HostCpuSteal,
        HostCheck::Pids => Verdict::HostPids,
        HostCheck::Files => Verdict::HostFiles,
        HostCheck::Conntrack => Verdict::HostConntrack,
        HostCheck::Ports => Verdict::HostPorts,
        HostCheck::Neighbours => Verdict::HostNeighbours,
        HostCheck::ClockOffset | HostCheck::ClockSync | HostCheck::ClockStep => Verdict::HostClock,
        HostCheck::Reboot => Verdict::HostRebooted,
        HostCheck::HungTask => Verdict::HostHungTask,
        HostCheck::BlockErrors => Verdict::HostBlockErrors,
        HostCheck::FsErrors => Verdict::HostFsErrors,
        HostCheck::MemoryErrors => Verdict::HostMemoryErrors,
        HostCheck::Thermal => Verdict::HostThermal,
    }
}

/// How long a value is at its limit before it is an incident. What is exhausted is one at once.
fn hold(check: HostCheck) -> Duration {
    let seconds = match check {
        HostCheck::ReadOnly
        | HostCheck::ClockSync
        | HostCheck::ClockStep
        | HostCheck::Reboot
        | HostCheck::HungTask
        | HostCheck::BlockErrors
        | HostCheck::FsErrors
        | HostCheck::MemoryErrors => 0,
        HostCheck::Space
        | HostCheck::Inodes
        | HostCheck::Pids
        | HostCheck::Files
        | HostCheck::Conntrack
        | HostCheck::Ports => 20,
        HostCheck::Memory | HostCheck::MemoryPressure | HostCheck::Neighbours => 60,
        HostCheck::ClockOffset => 120,
        HostCheck::CpuPressure | HostCheck::IoPressure | HostCheck::CpuSteal | HostCheck::Thermal => 300,
    };
    Duration::from_secs(seconds)
}

/// How long it is below that before the incident ends.
fn settling(check: HostCheck) -> Duration {
    let varies = check.clear_share() < 0.9;
    if varies { Duration::from_secs(60) } else { Duration::ZERO }
}
