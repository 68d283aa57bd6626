//! Memories and alerts as the file has them: with services by name, and with what a later run needs to read their times.

use serde::{Deserialize, Serialize};

use crate::{
    act::alert::{Alert, Delivery, KeptAlert, Notification},
    clock::{self, Timestamp},
    emit::{Names, Origin, detail},
    fact::{AlertSilence, ClockChange, Incident, Memory, Observation, ServiceId},
    store::recording::portable,
};

/// Something with its services as positions in a list of names.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved<T> {
    clock: Clock,
    names: Vec<String>,
    kept: T,
}

/// The clocks when it was written.
#[derive(Debug, Serialize, Deserialize)]
struct Clock {
    /// The kernel's boot id.
    boot: String,
    /// How far the wall clock was ahead of the time since boot, in nanoseconds.
    ahead_ns: i64,
    at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SavedAlert {
    incident: Incident,
    /// When the incident began, by the wall clock as it was told first.
    since_us: i64,
    resolved: bool,
    delivery: Delivery,
    /// Earlier versions did not know it.
    #[serde(default)]
    posted: Option<String>,
    #[serde(default)]
    done: Option<String>,
    /// As the receiver was told.
    #[serde(default)]
    silence: Option<AlertSilence>,
}

impl Clock {
    fn now(origin: &Origin) -> Self {
        let ahead = i64::try_from(clock::wall_ahead_of_boot()).unwrap_or_default();
        Self { boot: origin.boot_id.clone(), ahead_ns: ahead, at: Timestamp::now() }
    }

    fn change(&self, origin: &Origin) -> ClockChange {
        let same = self.boot == origin.boot_id && !self.boot.is_empty();
        let shift = if same { 0 } else { i128::from(self.ahead_ns) - clock::wall_ahead_of_boot() };
        ClockChange { same_boot: same, shift, written: self.at, now: Timestamp::now() }
    }
}

impl<T: Serialize> Saved<T> {
    pub(super) fn text(&self) -> String {
        // There are no maps without string keys, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl<T> Saved<T> {
    /// The services that it is about.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// The incident as a later run refers to it.
fn lasting(incident: &mut Incident, origin: &Origin) {
    incident.id = origin.lasting(incident.id);
    let evidence = incident.evidence.drain(..).map(|event| origin.event_id(event));
    incident.earlier.evidence.extend(evidence);
}

impl Saved<Observation> {
    pub(super) fn memory(service: ServiceId, mut memory: Memory, names: &Names, origin: &Origin) -> Self {
        memory.incidents_mut().for_each(|open| lasting(&mut open.incident, origin));
        memory.texts().for_each(|text| *text = detail(text));
        let remembered = Observation::Remembered(service, Box::new(memory));
        let (kept, names) = portable::named(remembered, |id| names.service(id).to_owned());
        Self { clock: Clock::now(origin), names, kept }
    }

    /// It with the services of the present run; None if its own is unknown.
    pub(super) fn place(self, names: &Names, origin: &Origin) -> Option<(ServiceId, Memory)> {
        let clock = self.clock.change(origin);
        let placed = portable::placed(self.kept, &self.names, |name| names.find(name)).ok()?;
        let Observation::Remembered(id, mut memory) = placed else { return None };
        memory.translate(clock);
        Some((id, *memory))
    }
}

impl Saved<SavedAlert> {
    pub(super) fn alert(kept: KeptAlert, origin: &Origin) -> Self {
        let Notification { alert: Alert { mut incident, names, resolved, done, silence, .. }, since } =
            kept.notification;
        let done = done.map(|done| detail(&done));
        let silence = silence.map(|silence| AlertSilence { reason: detail(&silence.reason), ..silence });
        lasting(&mut incident, origin);
        incident.summary = detail(&incident.summary);
        let mut used: Vec<String> = Vec::new();
        // Every service has a place.
        let _ = portable::map_incident(&mut incident, &mut |id| {
            let name = names.service(id);
            let at = used.iter().position(|known| known == name).unwrap_or_else(|| {
                used.push(name.to_owned());
                used.len() - 1
            });
            u32::try_from(at).ok().map(ServiceId)
        });
        let KeptAlert { delivery, posted, .. } = kept;
        let since_us = since.as_microsecond();
        let kept = SavedAlert { incident, since_us, resolved, delivery, posted, done, silence };
        Self { clock: Clock::now(origin), names: used, kept }
    }

    pub(super) fn place(self, number: u64, names: &Names, origin: &Origin) -> Option<KeptAlert> {
        let clock = self.clock.change(origin);
        let SavedAlert { mut incident, since_us, resolved, delivery, posted, done, silence } = self.kept;
        let since = jiff::Timestamp::from_microsecond(since_us).ok()?;
        let used = &self.names;
        portable::map_incident(&mut incident, &mut |id| names.find(used.get(usize::try_from(id.0).ok()?)?))?;
        incident.translate(clock);
        // A summary ends with its run, as an incident like any other.
        let alert = Alert { done, silence, ..Alert::new(incident, names.clone(), resolved) };
        Some(KeptAlert { number, notification: Notification { alert, since }, delivery, posted })
    }
}
