//! PostgreSQL: logs in, runs `SELECT 1`, and reads the number of free connections.
//!
//! The session of the last good run stays open until the next one. A server that is asked to end once its
//! clients have left (SIGTERM, a "smart" shutdown) refuses the next run, and that closes the session.

mod failure;
mod session;
mod usage;

use std::error::Error;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use self::failure::classify;
pub(super) use self::session::Session;
use super::{failure::Failure, progress::Waiting, tcp, usage as limit};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome, ServerUsage},
};

const DEFAULT_PORT: u16 = 5432;

/// Logs in, runs `SELECT 1`, and asks for the connections in use where the probe watches them.
pub(super) async fn run(
    probe: &Probe,
    kept: &mut Option<Session>,
    server: &mut Option<ServerUsage>,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let mut config: Config = probe.target.expose().parse().map_err(|error: tokio_postgres::Error| {
        // The parser's message may quote the URL. Its source has the reason and quotes at most one key.
        let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
        Failure::new(ProbeFailure::Local, format!("{} is not a PostgreSQL URL{cause}", probe.target))
    })?;
    if config.get_application_name().is_none() {
        config.application_name("hostprobe");
    }
    if config.get_ssl_mode() == SslMode::Require {
        let text = format!("{} requires TLS, which the postgres probe cannot do", probe.target);
        return Err(Failure::new(ProbeFailure::Local, text));
    }
    let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
    let peer = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
        (Some(address), _) => std::net::SocketAddr::new(*address, port).to_string(),
        (None, Some(Host::Unix(folder))) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let stream = tcp::connect_unix(&path, waiting).await?;
            let peer = path.display().to_string();
            return ask(Asking { config: &config, peer: &peer, probe, waiting }, stream, kept, server).await;
        }
        // An IPv6 address has colons of its own.
        (None, Some(Host::Tcp(host))) if host.contains(':') => format!("[{host}]:{port}"),
        (None, Some(Host::Tcp(host))) => format!("{host}:{port}"),
        (None, None) => format!("127.0.0.1:{port}"),
    };
    let stream = tcp::connect(&peer, waiting).await?;
    ask(Asking { config: &config, peer: &peer, probe, waiting }, stream, kept, server).await
}

struct Asking<'a> {
    config: &'a Config,
    peer: &'a str,
    probe: &'a Probe,
    waiting: &'a Waiting,
}

async fn ask<S>(
    asking: Asking<'_>,
    stream: S,
    kept: &mut Option<Session>,
    server: &mut Option<ServerUsage>,
) -> Result<ProbeOutcome, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Asking { config, peer, probe, waiting } = asking;
    waiting.set("the server to let us in");
    let mut session = match Session::open(config, stream).await {
        Ok(session) => session,
        Err(error) => return classify(&error, peer, probe.auth_is_alive),
    };
    waiting.set("the result of SELECT 1");
    if let Err(error) = session.query("SELECT 1").await {
        return classify(&error, peer, probe.auth_is_alive);
    }
    if probe.connections_percent.is_none() {
        *kept = Some(session);
        return Ok(ProbeOutcome::Ok);
    }
    waiting.set("the number of connections");
    let counted = session.query(usage::CONNECTIONS).await.map(|rows| usage::connections(&rows));
    let connections = match counted {
        Ok(Some(connections)) => connections,
        Ok(None) => {
            let text = format!("{peer} does not show how many connections are in use");
            return Err(Failure::new(ProbeFailure::Local, text));
        }
        Err(error) if error.as_db_error().is_some() => {
            let text =
                format!("{peer} does not show how many connections are in use: {}", failure::words(&error));
            return Err(Failure::new(ProbeFailure::Local, text));
        }
        Err(error) => return classify(&error, peer, probe.auth_is_alive),
    };
    let usage = server.insert(ServerUsage { connections: Some(connections), ..ServerUsage::default() });
    let above = limit::above_limit(probe, connections);
    if above.is_some() {
        waiting.set("who holds the connections");
        // That there are too many is known; the names are an extra.
        usage.holders = session.holders().await;
    }
    *kept = Some(session);
    match above {
        Some(percent) => Err(limit::too_many(peer, usage, percent)),
        None => Ok(ProbeOutcome::Ok),
    }
}
