//! Probes: asking a service, the way its users do, whether it works.
//!
//! Every run opens a connection of its own, so that accepting one is part of what is tested. A run never
//! takes longer than its timeout and never fails in any way but as a [`ProbeOutcome`]. [`Prober`] decides
//! when to run.

mod failure;
pub mod http;
pub mod mysql;
pub mod postgres;
pub mod redis;
mod schedule;
pub mod tcp;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

pub use self::schedule::{ProbeHandle, Prober};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeKind, ProbeOutcome},
};

/// What probes share: clients that are costly to set up.
#[derive(Clone, Debug)]
pub struct Clients {
    http: reqwest::Client,
}

/// The clients could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Clients {
    /// Sets up the clients.
    pub fn new() -> Result<Self, ClientError> {
        Ok(Self { http: http::client()? })
    }
}

/// Runs a probe once: how long it took, and how it ended.
pub async fn run_once(probe: &Probe, clients: &Clients) -> (Duration, ProbeOutcome) {
    let waiting = Arc::new(Waiting::default());
    let begin = Instant::now();
    let run = async {
        match probe.kind {
            ProbeKind::Http => http::run(probe, &clients.http, &waiting).await,
            ProbeKind::Tcp => tcp::run(probe, &waiting).await,
            ProbeKind::Redis => redis::run(probe, &waiting).await,
            ProbeKind::Postgres => postgres::run(probe, &waiting).await,
            ProbeKind::Mysql => mysql::run(probe, &waiting).await,
        }
    };
    let outcome = match tokio::time::timeout(probe.timeout, run).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => ProbeOutcome::Failed(failure.kind, failure.text),
        Err(_) => ProbeOutcome::Failed(
            ProbeFailure::Timeout,
            format!(
                "{} did not answer within {:?}: still waiting for {}",
                probe.target,
                probe.timeout,
                waiting.get()
            ),
        ),
    };
    (begin.elapsed(), outcome)
}

/// What a run is waiting for, so that a timeout can say it.
#[derive(Debug)]
pub(crate) struct Waiting(Mutex<&'static str>);

impl Default for Waiting {
    fn default() -> Self {
        Self(Mutex::new("the connection"))
    }
}

impl Waiting {
    /// From here on the run waits for this.
    fn set(&self, what: &'static str) {
        if let Ok(mut now) = self.0.lock() {
            *now = what;
        }
    }

    fn get(&self) -> &'static str {
        self.0.lock().map_or("its answer", |what| *what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// A probe of `target` with usual settings.
    pub(super) fn probe(kind: ProbeKind, target: &str) -> Probe {
        Probe::new(kind, Secret::new(target))
    }
}
