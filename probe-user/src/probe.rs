//! Probes: they use a service as its users do, and report whether it works.
//!
//! Each run opens a new connection, so that it tests the accept too. A run takes no longer than its timeout and what the daemon
//! itself was kept from running meanwhile, and it only fails as a [`ProbeOutcome`]. [`Prober`] decides when to run.
//!
//! A `postgres` or `mysql` probe that can log in keeps the session of its last good run until the next one: a
//! server that refuses new connections still answers the old one, and names who holds them all.

mod bounded;
mod dns;
mod exchange;
mod exec;
mod failure;
mod fair_timeout;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod grpc;
pub mod heartbeat;
pub mod http;
mod icmp;
mod mismatch;
pub mod mysql;
pub mod postgres;
mod progress;
mod reading;
pub mod redis;
mod schedule;
pub mod tcp;
mod tls;
mod udp;
mod unix;
mod usage;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

pub(crate) use self::schedule::next_tick;
use self::{
    heartbeat::Heartbeats,
    mismatch::{Finding, Suspect},
    progress::{Connection, Waiting},
};
pub use self::{
    icmp::{IcmpWay, icmp_way},
    schedule::{ProbeHandle, Prober, Silence},
};
use crate::{
    bounded_thread::OneAtATime,
    config::Probe,
    fact::{ProbeFailure, ProbeKind, ProbeOutcome, ProcessKey, ServerUsage},
    host::Cgroups,
    redact::redact,
};

/// The longest wait, after the run itself, for the open session to list the holders of connections.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// The most of a failure's text that is kept, in bytes. A server's own words may be part of it, and are as long as it likes.
const TEXT_MAX: usize = 1024;

/// The clients that all probes share, because they are costly to set up.
#[derive(Clone, Debug)]
pub struct Clients {
    http: http::Clients,
    programs: Arc<exec::Programs>,
    heartbeats: Heartbeats,
    tls: tls::Tls,
    files: OneAtATime,
    mismatch: Finding,
}

#[derive(Debug, thiserror::Error)]
#[error("HTTP client: setup failed: {0}")]
pub struct ClientError(#[from] reqwest::Error);

impl Clients {
    /// Clients whose programs run without cgroups, and that wait for no heartbeat.
    pub fn new() -> Result<Self, ClientError> {
        Self::with(None, Heartbeats::default())
    }

    /// Clients whose programs run in cgroups of the daemon with this key.
    pub fn with(cgroups: Option<(Cgroups, ProcessKey)>, heartbeats: Heartbeats) -> Result<Self, ClientError> {
        let programs = Arc::new(exec::Programs::new(cgroups));
        Ok(Self {
            http: http::Clients::new()?,
            programs,
            heartbeats,
            tls: tls::Tls::default(),
            files: OneAtATime::default(),
            mismatch: Finding::default(),
        })
    }

    /// Those of one probe. They are set up already, so that setup does not count as response time of its first run.
    fn of(&self, probe: &Probe) -> Self {
        if probe.trusts_the_hosts_store() {
            self.tls.prepare();
        }
        Self {
            tls: self.tls.of_another_probe(),
            files: OneAtATime::default(),
            mismatch: Finding::default(),
            ..self.clone()
        }
    }
}

/// The state that a probe keeps from one run to the next.
#[derive(Default)]
pub struct Kept {
    /// Asks for a further run.
    wake: Option<Arc<dyn Fn() + Send + Sync>>,
    postgres: postgres::Kept,
    mysql: mysql::Kept,
    redis: redis::Counted,
    /// The log has said that the server withholds numbers.
    told_withheld: bool,
    exec: exec::Kept,
}

impl Kept {
    /// Closes the open sessions, which would keep a server from shutting down.
    pub fn close_sessions(&mut self) {
        self.postgres.close();
        self.mysql.close();
    }

    /// The server's connections and their holders, read over the session that was open before the server refused new
    /// ones.
    async fn usage(&mut self) -> Option<ServerUsage> {
        match self.postgres.usage().await {
            Some(usage) => Some(usage),
            None => self.mysql.usage().await,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Run {
    pub took: Duration,
    pub outcome: ProbeOutcome,
    /// As [`ProbeReport::hurried`](crate::fact::ProbeReport::hurried).
    pub hurried: Option<Duration>,
    /// What is wrong although the answer is right: a certificate that expires soon.
    pub remark: Option<String>,
    /// The server's report of its own resources.
    pub server: Option<ServerUsage>,
}

/// Runs a probe without a kept session: its duration and its outcome.
pub async fn run_once(probe: &Probe, clients: &Clients) -> (Duration, ProbeOutcome) {
    let run = run(probe, clients, &mut Kept::default()).await;
    (run.took, run.outcome)
}

pub async fn run(probe: &Probe, clients: &Clients, kept: &mut Kept) -> Run {
    let waiting = Arc::new(Waiting::of_run(probe.timeout, clients.files.clone()));
    let begin = Instant::now();
    let mut server = None;
    let asking = async {
        match probe.kind {
            ProbeKind::Http => http::run(probe, &clients.http, &clients.tls, &waiting).await,
            ProbeKind::Tcp => tcp::run(probe, &waiting).await,
            ProbeKind::Unix => unix::run(probe, &waiting).await,
            ProbeKind::Udp => udp::run(probe, &waiting).await,
            ProbeKind::Exec => exec::run(probe, &clients.programs, &mut kept.exec, &waiting).await,
            ProbeKind::Grpc => grpc::run(probe, &clients.tls, &waiting).await,
            ProbeKind::Dns => dns::run(probe, &waiting).await,
            ProbeKind::Icmp => icmp::run(probe, &waiting).await,
            ProbeKind::Heartbeat => {
                let wake = kept.wake.clone();
                heartbeat::run(probe, &clients.heartbeats, move || wake.into_iter().for_each(|wake| wake()))
            }
            ProbeKind::Redis => redis::run(probe, &clients.tls, &mut kept.redis, &mut server, &waiting).await,
            ProbeKind::Postgres => {
                postgres::run(probe, &clients.tls, &mut kept.postgres, &mut server, &waiting).await
            }
            ProbeKind::Mysql => mysql::run(probe, &clients.tls, &mut kept.mysql, &mut server, &waiting).await,
        }
    };
    let answer = fair_timeout::within(probe.timeout, asking).await;
    let took = begin.elapsed();
    let hurried = answer.as_ref().err().and_then(|none| none.hurried);
    let mut outcome = match answer {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(failure)) => ProbeOutcome::Failed(failure.kind, failure.text),
        Err(_) => late(probe, &waiting),
    };
    if probe.kind == ProbeKind::Postgres && matches!(outcome, ProbeOutcome::Failed(ProbeFailure::Timeout, _))
    {
        let what = waiting.now().what;
        let silence = postgres::silence(probe, &clients.tls, &mut kept.postgres, what);
        if let Some(failure) = silence.await {
            outcome = ProbeOutcome::Failed(failure.kind, failure.text);
        }
    }
    if let ProbeOutcome::Failed(kind, _) = outcome
        && let Some(suspect) = Suspect::of(probe, kind, waiting.now().what)
        && let Some(failure) = clients.mismatch.judge(&suspect).await
    {
        outcome = ProbeOutcome::Failed(failure.kind, failure.text);
    }
    if outcome == ProbeOutcome::Ok {
        clients.mismatch.forget();
    }
    match &mut outcome {
        ProbeOutcome::Failed(ProbeFailure::TooManyConnections, text) => {
            let usage = tokio::time::timeout(AFTERWARDS, kept.usage()).await;
            if let Ok(Some(usage)) = usage {
                if let Some(words) = usage::words(&usage) {
                    text.push_str(": ");
                    text.push_str(&words);
                }
                server = Some(usage);
            }
        }
        ProbeOutcome::Ok
        | ProbeOutcome::Failed(
            ProbeFailure::Connections | ProbeFailure::Timeout | ProbeFailure::ConnectTimeout,
            _,
        ) => {}
        // After any other failure an open session would keep a server from shutting down.
        ProbeOutcome::Starting(_) | ProbeOutcome::Failed(..) => kept.close_sessions(),
    }
    if let ProbeOutcome::Failed(_, text) | ProbeOutcome::Starting(text) = &mut outcome {
        if text.len() > TEXT_MAX {
            // What is left of a secret that is cut would not be recognized.
            *text = redact(text).into_owned();
        }
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.shrink_to_fit();
    }
    if server.as_ref().is_some_and(|server| server.report.withheld) && !kept.told_withheld {
        kept.told_withheld = true;
        tracing::info!(
            "{}: the server keeps some of its numbers from the probe's user; docs/configuration.md has the rights that it needs",
            probe.target
        );
    }
    let remark = waiting.now().remark.filter(|_| outcome == ProbeOutcome::Ok);
    Run { took, outcome, hurried, remark, server: server.filter(|server| *server != ServerUsage::default()) }
}

/// The failure of a run that had no answer within its timeout.
fn late(probe: &Probe, waiting: &Waiting) -> ProbeOutcome {
    let now = waiting.now();
    if probe.kind == ProbeKind::Exec {
        return exec::late(probe, now.what);
    }
    if let Some((_, bytes)) = now.body.filter(|(at, _)| at.elapsed() < probe.timeout / 2)
        && let Some(text) = &probe.expect_body
    {
        // The service answers, and goes on answering.
        let text = format!(
            "expected a body that contains {text:?}, got {bytes} bytes without it within {:?}, and no end of it",
            probe.timeout
        );
        return ProbeOutcome::Failed(ProbeFailure::Body, text);
    }
    if let Some((kind, text)) = now.unexpected {
        return ProbeOutcome::Failed(kind, format!("{text} within {:?}", probe.timeout));
    }
    let kind = match now.connection {
        Connection::Made if probe.kind == ProbeKind::Icmp => ProbeFailure::NoEcho,
        Connection::Files => ProbeFailure::CannotAsk,
        Connection::Resolving => ProbeFailure::Dns,
        Connection::Missing => ProbeFailure::ConnectTimeout,
        Connection::Made => ProbeFailure::Timeout,
    };
    let text =
        format!("{} did not answer within {:?}: still waiting for {}", probe.target, probe.timeout, now.what);
    ProbeOutcome::Failed(kind, text)
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    /// A probe of `target` with usual settings.
    pub(super) fn probe(kind: ProbeKind, target: &str) -> Probe {
        Probe::new(kind, Secret::new(target))
    }

    #[tokio::test]
    async fn files_that_do_not_answer_say_nothing_of_the_service() {
        let probe = probe(ProbeKind::Redis, "rediss://127.0.0.1:1");
        let waiting = Waiting::of_run(probe.timeout, OneAtATime::default());
        waiting.connection(Connection::Made);
        let (_held, block) = std::sync::mpsc::channel::<()>();
        let read = waiting.for_files("the files of `tls`", move || block.recv().is_ok());
        tokio::time::timeout(Duration::from_millis(1), read).await.unwrap_err();
        let ProbeOutcome::Failed(kind, text) = late(&probe, &waiting) else { panic!("it is late") };
        assert_eq!(kind, ProbeFailure::CannotAsk);
        assert!(text.ends_with("still waiting for the files of `tls`"), "{text}");
    }
}
