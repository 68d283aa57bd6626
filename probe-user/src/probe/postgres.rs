//! PostgreSQL: logs in, runs `SELECT 1`, and reads the number of free connections.
//!
//! The session of the last good run stays open until the next one. A server that is asked to end once its
//! clients have left (SIGTERM, a "smart" shutdown) refuses the next run, and that closes the session. Through a pooler,
//! and where its account has few connections, a probe keeps none.

mod failure;
mod pooler;
mod report;
mod session;
mod startup;
mod target;
mod usage;

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use self::{
    failure::classify,
    pooler::{Console, Route},
    session::Session,
    target::{LOGIN, OFFER, Target},
};
use super::{
    failure::Failure,
    progress::{Connection, Waiting},
    tls::{self, Tls},
    usage as limit,
};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome, ServerUsage},
};

/// A server notices within a few milliseconds that a session has ended; these are the waits before a login is tried again.
const GIVEN_BACK: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160)];

/// So often a pooler is asked whether a connection has become free.
const LOOK: Duration = Duration::from_millis(100);

/// How long a pooler may take to tell about its pools.
const CONSOLE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a run waits for before it has a session.
const BEFORE_LOGIN: [&str; 3] = [LOGIN, OFFER, tls::HANDSHAKE];

/// What is kept from one run to the next.
#[derive(Debug, Default)]
pub(super) struct Kept {
    session: Option<Session>,
    route: Option<Route>,
    /// The pooler answers questions about its pools.
    has_console: bool,
    /// The account or the database has so few connections that the probe takes only one at a time.
    is_limited: bool,
    /// The pool was exhausted when the run before this one timed out, and in this one.
    was_exhausted: bool,
    is_exhausted: bool,
    /// What the session reported before it was closed.
    usage: Option<ServerUsage>,
    reported: report::Reported,
}

impl Kept {
    pub(super) fn close(&mut self) {
        self.session = None;
    }

    pub(super) async fn usage(&mut self) -> Option<ServerUsage> {
        match &mut self.session {
            Some(session) => session.usage().await,
            None => self.usage.take(),
        }
    }

    fn keep(&mut self, session: Session) {
        let may = self.route == Some(Route::Direct) && !self.is_limited;
        self.session = Some(session).filter(|_| may);
    }
}

/// Logs in, runs `SELECT 1`, and asks for the connections in use where the probe watches them.
pub(super) async fn run(
    probe: &Probe,
    tls: &Tls,
    kept: &mut Kept,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    kept.usage = None;
    (kept.was_exhausted, kept.is_exhausted) = (kept.is_exhausted, false);
    let target = Target::of(probe, tls)?;
    if kept.has_console && leaves_the_last(&target, server, waiting).await {
        return Ok(ProbeOutcome::Ok);
    }
    let asking = Asking { target: &target, probe, waiting };
    let mut outcome = asking.ask(kept, server).await;
    let is_refused = matches!(
        &outcome,
        Err(failure)
            if matches!(failure.kind, ProbeFailure::AccountLimit | ProbeFailure::TooManyConnections)
    );
    if is_refused && kept.is_limited {
        // The session that the probe keeps, or that of its latest run, may be what takes the last connection.
        let usage = kept.usage().await;
        kept.usage = usage;
        kept.session = None;
        for wait in GIVEN_BACK {
            tokio::time::sleep(wait).await;
            outcome = asking.ask(kept, server).await;
            if outcome.is_ok() {
                break;
            }
        }
    }
    outcome
}

/// Where a further client would take the last connection of a pool, waits until it could: the pooler works then, and the
/// connection is left to the applications.
async fn leaves_the_last(target: &Target<'_>, server: &mut Option<ServerUsage>, waiting: &Waiting) -> bool {
    let Some(mut console) = pooler::console(target).await else { return false };
    waiting.connection(Connection::Made);
    waiting.set("a free connection of the pool");
    loop {
        let Some((pool, holders)) = console.pool(target.database()).await else { return false };
        // Names are searched for on this host, which costs more than to ask.
        *server = Some(pool.usage(if pool.waiting > 0 { holders } else { Vec::new() }));
        if !(pool.is_scarce() && pool.is_exhausted()) {
            return pool.is_scarce();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A run without an answer: None unless a pooler let it in.
pub(super) async fn silence(probe: &Probe, tls: &Tls, kept: &mut Kept, waiting_for: &str) -> Option<Failure> {
    if kept.route == Some(Route::Direct) {
        return None;
    }
    let target = Target::of(probe, tls).ok()?;
    let at_query = !BEFORE_LOGIN.contains(&waiting_for);
    let until = Instant::now() + CONSOLE_TIMEOUT;
    let console = timeout_at(until, pooler::console(&target)).await.ok().flatten();
    let Some(mut console) = console else {
        // A pooler that let the probe in works, although it has no time for its console.
        return (kept.route == Some(Route::Pooler) && at_query)
            .then(|| pooler::silence(&target, at_query, None).0);
    };
    kept.route = Some(Route::Pooler);
    kept.has_console = matches!(console, Console::Open(_));
    let pool = timeout_at(until, console.pool(target.database())).await.ok().flatten();
    kept.is_exhausted = pool.as_ref().is_some_and(|(pool, _)| pool.has_none_left());
    let (failure, usage) = match pool {
        // The run has waited for what has become free only now.
        Some(_) if kept.was_exhausted && !kept.is_exhausted => (pooler::was_exhausted(&target), None),
        pool => pooler::silence(&target, at_query, pool),
    };
    kept.usage = usage;
    Some(failure)
}

struct Asking<'a> {
    target: &'a Target<'a>,
    probe: &'a Probe,
    waiting: &'a Waiting,
}

impl Asking<'_> {
    async fn ask(&self, kept: &mut Kept, server: &mut Option<ServerUsage>) -> Result<ProbeOutcome, Failure> {
        let Self { target, probe, waiting } = self;
        let peer = &target.peer;
        let mut session = match target.log_in(&target.config, waiting).await {
            Ok(session) => session,
            Err(error) => {
                kept.is_limited |= error.of_server().is_some_and(failure::is_limit);
                return error.classify(peer, probe.auth_is_alive);
            }
        };
        waiting.set("the result of SELECT 1");
        if let Err(error) = session.query("SELECT 1").await {
            return classify(&error, peer, probe.auth_is_alive);
        }
        let known = kept.route;
        kept.route = Some(pooler::route(&mut session, known).await);
        if kept.route == Some(Route::Pooler) && known != kept.route {
            // Its connection goes back to the pool before anything else is asked.
            drop(session);
            kept.has_console = matches!(pooler::console(target).await, Some(Console::Open(_)));
            return Ok(ProbeOutcome::Ok);
        }
        let usage = server.get_or_insert_default();
        let mut above = None;
        if probe.connections_percent.is_some() {
            waiting.set("the number of connections");
            let counted = session.query(usage::CONNECTIONS).await.map(|rows| usage::connections(&rows));
            let connections = match counted {
                Ok(Some(connections)) => connections,
                Ok(None) => {
                    let text = format!("{peer} does not show how many connections are in use");
                    return Err(Failure::new(ProbeFailure::Rejected, text));
                }
                Err(error) if error.as_db_error().is_some() => {
                    let text = format!(
                        "{peer} does not show how many connections are in use: {}",
                        failure::words(&error)
                    );
                    return Err(Failure::new(ProbeFailure::Rejected, text));
                }
                Err(error) => return classify(&error, peer, probe.auth_is_alive),
            };
            usage.connections = Some(connections);
            above = limit::above_limit(probe, connections);
        }
        if above.is_some() {
            waiting.set("who holds the connections");
            // That there are too many is known; the names are an extra.
            usage.holders = session.holders().await;
        }
        let mut complaint = None;
        if kept.route == Some(Route::Direct) {
            let asking = report::ask(&mut session, probe, &mut kept.reported);
            if let Ok(answer) = tokio::time::timeout(limit::report_time(probe), asking).await {
                usage.report = answer.report;
                if above.is_none() {
                    usage.holders = answer.holders;
                }
                complaint = answer.complaint;
                kept.keep(session);
            }
            // The server works: a report that takes long is no failure, and its session is closed with it.
        } else {
            kept.keep(session);
        }
        match (above, complaint) {
            (Some(percent), _) => Err(limit::too_many(peer, usage, percent)),
            (None, Some((kind, words))) => Err(Failure::new(kind, format!("{peer} {words}"))),
            (None, None) => Ok(ProbeOutcome::Ok),
        }
    }
}
