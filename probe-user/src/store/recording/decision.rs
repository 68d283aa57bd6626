//! The engine's decisions in a comparable form: the recorded ones, and those of a replay.

use serde::{Deserialize, Serialize};

use crate::{
    emit::{Names, Origin, detail},
    fact::{Action, Fact, Phase},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The service's name.
    pub service: String,
    /// Its incident.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<String>,
    pub decided: Decided,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decided {
    /// An incident opened, with this verdict.
    Open(String),
    /// The verdict or another property of an incident changed.
    Update(String),
    /// An incident is over.
    Resolve(String),
    /// The daemon requests a restart of the service.
    Restart {},
    /// The restart of the service is held, for this reason.
    Hold(String),
}

impl Decision {
    /// The decision that a fact reports; None for any other fact.
    pub fn of(fact: &Fact, names: &Names, origin: &Origin) -> Option<Self> {
        let (service, incident, decided) = if let Fact::Incident(phase, incident) = fact {
            let verdict = incident.verdict.as_str().to_owned();
            let decided = match phase {
                Phase::Open => Decided::Open(verdict),
                Phase::Update => Decided::Update(verdict),
                Phase::Resolve => Decided::Resolve(verdict),
            };
            (incident.service, Some(incident.id), decided)
        } else if let Fact::Restart(restart) = fact {
            let decided = match &restart.action {
                Action::Request => Decided::Restart {},
                Action::Hold(why) => Decided::Hold(detail(why)),
                Action::Done | Action::Fail(_) => return None,
            };
            (restart.service, restart.incident, decided)
        } else {
            return None;
        };
        let incident = incident.map(|id| origin.incident_id(id));
        Some(Self { service: names.service(service).to_owned(), incident, decided })
    }

    /// The decision in words: `incident opened: killed`, `restart`, `no restart: …`.
    pub fn words(&self) -> String {
        match &self.decided {
            Decided::Open(verdict) => format!("incident opened: {verdict}"),
            Decided::Update(verdict) => format!("incident updated: {verdict}"),
            Decided::Resolve(verdict) => format!("incident over: {verdict}"),
            Decided::Restart {} => "restart".to_owned(),
            Decided::Hold(why) => format!("no restart: {why}"),
        }
    }

    /// Whether an incident is over.
    pub const fn is_resolve(&self) -> bool {
        matches!(self.decided, Decided::Resolve(_))
    }

    /// Whether each can replace the other.
    pub const fn is_like(&self, other: &Self) -> bool {
        matches!(
            (&self.decided, &other.decided),
            (Decided::Open(_), Decided::Open(_))
                | (Decided::Update(_), Decided::Update(_))
                | (Decided::Resolve(_), Decided::Resolve(_))
                | (Decided::Restart {} | Decided::Hold(_), Decided::Restart {} | Decided::Hold(_))
        )
    }
}
