//! What other hosts report over the fleet.

use serde::{Deserialize, Serialize};

use super::{ServiceId, Verdict};

/// A service of another host that services of this one connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignService {
    /// Its number on this host.
    pub id: ServiceId,
    /// It and its host, such as `redis on db-1`.
    pub name: String,
    /// The services of this host that connect to it.
    pub clients: Vec<ServiceId>,
    pub standing: ForeignStanding,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ForeignStanding {
    Well,
    Failed(ForeignFault),
    /// Nothing is known of it now, for this reason.
    Unknown(String),
}

/// The open incident of a service, by the word of its host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForeignFault {
    pub verdict: Verdict,
    /// 0 to 1.
    pub confidence: f32,
    /// One sentence, without secrets.
    pub summary: String,
    /// The ids of events in that host's stream.
    pub evidence: Vec<String>,
}

impl ForeignService {
    /// Its texts, which come from outside.
    pub fn texts(&mut self) -> impl Iterator<Item = &mut String> {
        let of_standing: Vec<&mut String> = match &mut self.standing {
            ForeignStanding::Well => Vec::new(),
            ForeignStanding::Failed(fault) => {
                std::iter::once(&mut fault.summary).chain(&mut fault.evidence).collect()
            }
            ForeignStanding::Unknown(why) => vec![why],
        };
        std::iter::once(&mut self.name).chain(of_standing)
    }
}

/// What this host knows of the fleet as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetState {
    /// Why the fleet cannot be asked; None if it can.
    pub away: Option<String>,
    /// The silent hosts that this host is the one to report.
    pub silent: Vec<String>,
}
