//! What a database reports of its own condition, and the limits of a probe for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Whether a database takes writes of its own or copies another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DatabaseRole {
    Primary,
    /// A standby, or a server that is read-only.
    Replica,
}

impl DatabaseRole {
    pub const ALL: [Self; 2] = [Self::Primary, Self::Replica];

    /// The word used for it in configuration and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Replica => "replica",
        }
    }
}

/// A database's numbers besides its connections and memory. None: it has no such number, or keeps it from the probe's user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerReport {
    pub role: Option<DatabaseRole>,
    /// How far a replica is behind its primary.
    pub lag: Option<Duration>,
    /// What a replica has received and not applied yet, in bytes.
    pub lag_bytes: Option<u64>,
    /// The replicas that are connected to it.
    pub replicas: Option<u64>,
    /// Keys that were evicted since its start.
    pub evicted_keys: Option<u64>,
    /// Changes since its data was last saved.
    pub unsaved_changes: Option<u64>,
    /// Slots of its cluster that no node serves.
    pub uncovered_slots: Option<u64>,
    /// The age of its oldest open transaction.
    pub transaction: Option<Duration>,
    /// The sessions that wait for a lock, or the clients that wait for a connection of a pool.
    pub waiting: Option<u64>,
    /// The longest of these waits so far.
    pub wait: Option<Duration>,
    /// The age of its oldest transaction id that is not frozen, in transactions; at 2^31 it takes no writes.
    pub transaction_id_age: Option<u64>,
    /// It keeps some of this from the probe's user.
    pub withheld: bool,
}

/// What a probe expects of these numbers. None: anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerLimits {
    pub role: Option<DatabaseRole>,
    pub lag: Option<Duration>,
    pub transaction: Option<Duration>,
    pub wait: Option<Duration>,
}

impl ServerReport {
    /// Its numbers by the names that metrics have; times in seconds.
    pub fn measures(&self) -> [(&'static str, Option<f64>); 11] {
        let Self {
            role,
            lag,
            lag_bytes,
            replicas,
            evicted_keys,
            unsaved_changes,
            uncovered_slots,
            transaction,
            waiting,
            wait,
            transaction_id_age,
            withheld: _,
        } = self;
        let count = |number: &Option<u64>| number.map(|number| number as f64);
        let seconds = |time: &Option<Duration>| time.map(|time| time.as_secs_f64());
        [
            ("is_replica", role.map(|role| f64::from(u8::from(role == DatabaseRole::Replica)))),
            ("lag_seconds", seconds(lag)),
            ("lag_bytes", count(lag_bytes)),
            ("replicas", count(replicas)),
            ("evicted_keys", count(evicted_keys)),
            ("unsaved_changes", count(unsaved_changes)),
            ("uncovered_slots", count(uncovered_slots)),
            ("transaction_seconds", seconds(transaction)),
            ("waiting", count(waiting)),
            ("wait_seconds", seconds(wait)),
            ("transaction_id_age", count(transaction_id_age)),
        ]
    }
}
