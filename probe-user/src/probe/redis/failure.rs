//! The meaning of a Redis server's error replies.

use crate::fact::ProbeFailure;

/// What an error reply means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It reads its data set.
    Loading,
    /// A replica that answers no client without its primary (`replica-serve-stale-data no`).
    PrimaryDown,
    Failed(ProbeFailure),
}

/// What these words mean.
pub(super) fn meaning(words: &str) -> Meaning {
    Meaning::Failed(match words.split(' ').next().unwrap_or_default() {
        "LOADING" => return Meaning::Loading,
        "MASTERDOWN" => return Meaning::PrimaryDown,
        // DENIED: protected mode lets in clients from loopback alone.
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => ProbeFailure::Auth,
        // A script or a module runs. It has to be ended by `SCRIPT KILL`: a server that has begun to write waits with
        // its own end for the script's, so that a restart would kill it and lose data.
        "BUSY" => ProbeFailure::Busy,
        "CLUSTERDOWN" => ProbeFailure::Upstream,
        // It cannot write to its disk, and takes no more for that reason.
        "MISCONF" => ProbeFailure::Persistence,
        "NOQUORUM" => ProbeFailure::Cluster,
        "OOM" => ProbeFailure::MemoryFull,
        // Envoy's and Twemproxy's words.
        _ if words.contains("upstream") || words.contains("Host is down") => ProbeFailure::Upstream,
        _ if words.contains("max number of clients") => ProbeFailure::TooManyConnections,
        // The replies of servers before version 6 to a wrong password and to a missing one.
        _ if words.contains("invalid password") || words.contains("operation not permitted") => {
            ProbeFailure::Auth
        }
        // A server that answers with an error is alive.
        _ => ProbeFailure::Rejected,
    })
}
