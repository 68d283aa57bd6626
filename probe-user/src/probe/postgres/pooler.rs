//! Whether a pooler is between the probe and the server, and what it says of its pool.
//!
//! A pooler has few connections to its server, and the applications wait for them. Through it a probe keeps no session,
//! and a query without an answer is no fault of the pooler that let the probe in.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use tokio_postgres::SimpleQueryRow;

use super::{session::Session, target::Target};
use crate::{
    fact::{Holder, ProbeFailure, ServerReport, ServerUsage, Share},
    probe::{
        Waiting,
        failure::Failure,
        usage::{HOLDERS, PORTS},
    },
};

/// The way from the probe to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Direct,
    Pooler,
}

/// The largest pid of Linux. A pooler announces a random number of 32 bits instead.
const PID_MAX: i32 = 1 << 22;

/// `PgBouncer`'s database for questions about itself. It takes no connection to the server.
const CONSOLE: &str = "pgbouncer";

/// What a pooler says when it is asked about itself.
pub(super) enum Console {
    /// It works, and does not let this user ask.
    Closed,
    Open(Box<Session>),
}

/// A pool of connections to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pool {
    /// A client keeps its connection until it leaves.
    pub(super) is_per_session: bool,
    pub(super) used: u64,
    pub(super) size: u64,
    pub(super) waiting: u64,
    /// An operator has it wait (`PAUSE`).
    pub(super) is_paused: bool,
    /// How long the first of them has waited.
    pub(super) longest_wait: Duration,
}

/// Whether the process that announced itself at the login is the one that answers queries.
pub(super) async fn route(session: &mut Session, known: Option<Route>) -> Route {
    let Some(announced) = session.announced().filter(|process| (1..=PID_MAX).contains(process)) else {
        return Route::Pooler;
    };
    if known == Some(Route::Direct) {
        return Route::Direct;
    }
    let rows = session.query("SELECT pg_backend_pid()").await.unwrap_or_default();
    let process = rows.first().and_then(|row| row.try_get(0).ok().flatten()?.parse().ok());
    if process == Some(announced) { Route::Direct } else { Route::Pooler }
}

/// Asks the peer for its console; None if it is no pooler, or does not answer.
pub(super) async fn console(target: &Target<'_>) -> Option<Console> {
    let mut config = target.config.clone();
    config.dbname(CONSOLE);
    match target.log_in(&config, &Waiting::default()).await {
        Ok(mut session) => {
            let version = session.query("SHOW VERSION").await;
            version.is_ok().then(|| Console::Open(Box::new(session)))
        }
        // PostgreSQL names the function that raised an error, and a pooler does not.
        Err(error) => {
            let error = error.of_server()?.as_db_error()?;
            error.routine().is_none().then_some(Console::Closed)
        }
    }
}

impl Console {
    /// The pool of a database, and the clients that hold its connections.
    pub(super) async fn pool(&mut self, database: &str) -> Option<(Pool, Vec<Holder>)> {
        let Self::Open(session) = self else { return None };
        let is_ours = |row: &SimpleQueryRow| text(row, "database") == Some(database);
        let databases = session.query("SHOW DATABASES").await.ok()?;
        let ours = databases.iter().find(|row| text(row, "name") == Some(database))?;
        let mut pool = Pool {
            is_per_session: text(ours, "pool_mode") == Some("session"),
            used: 0,
            size: number(ours, "pool_size"),
            waiting: 0,
            is_paused: number(ours, "paused") > 0,
            longest_wait: Duration::ZERO,
        };
        for row in session.query("SHOW POOLS").await.ok()?.iter().filter(|row| is_ours(row)) {
            pool.is_per_session |= text(row, "pool_mode") == Some("session");
            pool.used += ["sv_active", "sv_tested", "sv_login"].map(|of| number(row, of)).iter().sum::<u64>();
            pool.waiting += number(row, "cl_waiting");
            let wait = Duration::from_secs(number(row, "maxwait"))
                .saturating_add(Duration::from_micros(number(row, "maxwait_us")));
            pool.longest_wait = pool.longest_wait.max(wait);
        }
        let clients = session.query("SHOW CLIENTS").await.unwrap_or_default();
        let active = clients.iter().filter(|row| is_ours(row) && text(row, "state") == Some("active"));
        // A client without a server connection is `active` as well, and its `link` is empty.
        Some((pool, holders(active.filter(|row| text(row, "link").is_some_and(|link| !link.is_empty())))))
    }
}

impl Pool {
    /// What a pooler reports of a pool whose connections these clients hold.
    pub(super) fn usage(self, holders: Vec<Holder>) -> ServerUsage {
        let report = ServerReport {
            waiting: Some(self.waiting),
            wait: Some(self.longest_wait),
            ..ServerReport::default()
        };
        let connections = (self.size > 0).then_some(Share { used: self.used, most: self.size });
        ServerUsage { connections, holders, report, ..ServerUsage::default() }
    }

    /// Whether a further client would take the last connection, or wait for one.
    pub(super) fn is_scarce(self) -> bool {
        self.is_per_session && self.used + 1 >= self.size
    }

    pub(super) fn is_exhausted(self) -> bool {
        self.size > 0 && self.used >= self.size
    }

    /// A client waits before the last connection is taken where another limit of the pooler is reached.
    pub(super) fn has_none_left(self) -> bool {
        self.is_exhausted() || self.waiting > 0
    }
}

/// What a run without an answer means if its pool was exhausted until a moment ago.
pub(super) fn was_exhausted(target: &Target<'_>) -> Failure {
    let (peer, database) = (&target.peer, target.database());
    let text = format!("{peer} had no server connection to {database} left until a moment ago");
    Failure::new(ProbeFailure::TooManyConnections, text)
}

/// What a run without an answer means where a pooler let it in.
pub(super) fn silence(
    target: &Target<'_>,
    at_query: bool,
    pool: Option<(Pool, Vec<Holder>)>,
) -> (Failure, Option<ServerUsage>) {
    let (peer, database) = (&target.peer, target.database());
    match pool {
        Some((pool, _)) if pool.is_paused => {
            let text = format!("{peer} is paused for {database}: an operator's RESUME ends that");
            (Failure::new(ProbeFailure::Busy, text), None)
        }
        Some((pool, holders)) if pool.has_none_left() => {
            let usage = pool.usage(holders);
            let text = format!(
                "{peer} has no server connection to {database} left, and {} clients wait",
                pool.waiting
            );
            (Failure::new(ProbeFailure::TooManyConnections, text), Some(usage))
        }
        Some(_) => {
            let text =
                format!("{peer} is a pooler and works; the server of {database} behind it does not answer");
            (Failure::new(ProbeFailure::Upstream, text), None)
        }
        None if at_query => {
            let text = format!(
                "{peer} is a pooler and let the probe in, but it gave it no server connection to {database} in time"
            );
            (Failure::new(ProbeFailure::TooManyConnections, text), None)
        }
        None => {
            let text = format!("{peer} is a pooler and works; its login to {database} did not end in time");
            (Failure::new(ProbeFailure::Upstream, text), None)
        }
    }
}

fn holders<'r>(clients: impl Iterator<Item = &'r SimpleQueryRow>) -> Vec<Holder> {
    let mut found: HashMap<(String, String, Option<IpAddr>), Holder> = HashMap::new();
    for row in clients {
        let owned = |column| text(row, column).unwrap_or_default().to_owned();
        let client = text(row, "addr").and_then(|address| address.parse().ok());
        let (user, application) = (owned("user"), owned("application_name"));
        let holder = found.entry((user.clone(), application.clone(), client)).or_default();
        holder.user = Some(user).filter(|name| !name.is_empty());
        holder.application = Some(application).filter(|name| !name.is_empty());
        holder.client = client;
        holder.connections += 1;
        let port = u16::try_from(number(row, "port")).ok().filter(|port| *port > 0);
        holder.ports.extend(port.filter(|_| holder.ports.len() < PORTS));
    }
    let mut holders: Vec<_> = found.into_iter().collect();
    holders.sort_by(|(a, one), (b, other)| other.connections.cmp(&one.connections).then_with(|| a.cmp(b)));
    holders.truncate(HOLDERS);
    holders.into_iter().map(|(_, holder)| holder).collect()
}

fn text<'r>(row: &'r SimpleQueryRow, column: &str) -> Option<&'r str> {
    row.try_get(column).ok().flatten()
}

fn number(row: &SimpleQueryRow, column: &str) -> u64 {
    text(row, column).and_then(|text| text.parse().ok()).unwrap_or_default()
}
