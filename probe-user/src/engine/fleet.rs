//! What other hosts report: services there that may be the cause of failures here, and hosts that are silent.

use std::collections::BTreeMap;

use super::{
    effect::Effects,
    own_incident::OwnIncident,
    surroundings::{Cause, Elsewhere},
};
use crate::{
    clock::Timestamp,
    fact::{FleetState, ForeignFault, ForeignStanding, Incident, ServiceId, Verdict},
};

/// So many silent hosts are named in the summary of their incident.
const NAMED: usize = 8;

/// Bounded by the numbers that foreign services can have.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    services: BTreeMap<ServiceId, Known>,
    state: FleetState,
    open: OwnIncident,
}

#[derive(Debug)]
struct Known {
    standing: ForeignStanding,
    /// When this host learned of the failure. The clocks of other hosts decide nothing.
    since: Timestamp,
}

impl Fleet {
    pub(super) fn incident(&mut self) -> &mut OwnIncident {
        &mut self.open
    }

    /// A foreign service as a cause of failures here, if it has failed.
    pub(super) fn cause(&self, id: ServiceId) -> Option<Cause> {
        let known = self.services.get(&id)?;
        let ForeignStanding::Failed(ForeignFault { verdict, confidence, summary, evidence }) =
            &known.standing
        else {
            return None;
        };
        Some(Cause {
            service: id,
            verdict: *verdict,
            summary: summary.clone(),
            since: known.since,
            declared: false,
            // Its own host alerts.
            alerts: true,
            attempts: 0,
            circular: false,
            guessed: false,
            foreign: Some((*confidence, evidence.clone())),
        })
    }

    /// What is known of those among these services that are foreign.
    pub(super) fn elsewhere(&self, services: impl Iterator<Item = ServiceId>) -> Elsewhere {
        let mut elsewhere = Elsewhere::default();
        for (id, known) in services.filter_map(|id| Some((id, self.services.get(&id)?))) {
            match &known.standing {
                ForeignStanding::Well => elsewhere.may_fail = true,
                ForeignStanding::Failed(_) => {}
                ForeignStanding::Unknown(why) => {
                    elsewhere.unknown.push(id);
                    elsewhere.silence.get_or_insert_with(|| why.clone());
                }
            }
        }
        if let Some(why) = &self.state.away {
            elsewhere.may_fail = false;
            elsewhere.silence =
                Some(format!("the fleet cannot say whether another host is the cause: {why}"));
        }
        elsewhere
    }

    fn summary(&self) -> String {
        let silent = &self.state.silent;
        let named = silent.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match silent.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (hosts, are) = if silent.len() == 1 { ("host", "is") } else { ("hosts", "are") };
        format!(
            "{hosts} {named}{more} of the fleet {are} silent: the daemon, the host or its way to NATS has failed"
        )
    }

    /// A service of another host is like this now.
    pub(super) fn note(&mut self, id: ServiceId, standing: ForeignStanding, now: Timestamp) {
        let is_failed = |standing: &ForeignStanding| matches!(standing, ForeignStanding::Failed(_));
        let before = self.services.get(&id).filter(|known| is_failed(&known.standing));
        let since = before.filter(|_| is_failed(&standing)).map_or(now, |known| known.since);
        self.services.insert(id, Known { standing, since });
    }

    /// The fleet can be asked or not, or other hosts are silent or heard again. `incidents` numbers those of this daemon.
    pub(super) fn observe(
        &mut self,
        state: FleetState,
        now: Timestamp,
        incidents: &mut u64,
        effects: &mut impl Effects,
    ) {
        let is_away = state.away.is_some();
        let before = std::mem::replace(&mut self.state, state);
        if is_away {
            // What is not heard now may be well.
            self.state.silent = before.silent;
        } else if self.state.silent.is_empty() {
            self.open.resolve(now, effects);
        } else if !self.open.is_open() {
            let incident = OwnIncident::next(Verdict::HostSilent, self.summary(), now, incidents);
            self.open.open(Incident { confidence: 0.9, ..incident }, now, effects);
        } else if self.state.silent != before.silent {
            let summary = self.summary();
            if let Some(open) = self.open.get_mut() {
                open.summary = summary;
            }
            self.open.update(now, effects);
        }
    }
}
