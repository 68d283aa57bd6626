//! PostgreSQL: can one log in and run `SELECT 1`?

use std::{io, path::Path};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};
use tokio_postgres::{
    Config, NoTls,
    config::{Host, SslMode},
    error::SqlState,
};

use super::{Waiting, failure::Failure, tcp};
use crate::{
    config::Probe,
    fact::{ProbeFailure, ProbeOutcome},
};

const DEFAULT_PORT: u16 = 5432;

/// Logs in, runs `SELECT 1` and says goodbye.
pub(super) async fn run(probe: &Probe, waiting: &Waiting) -> Result<ProbeOutcome, Failure> {
    let mut config: Config = probe.target.expose().parse().map_err(|error| {
        // The parser's words may quote the URL; its source says what is wrong and quotes at most one key.
        let cause =
            std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
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
    match (config.get_hostaddrs().first(), config.get_hosts().first()) {
        (Some(address), _) => {
            let peer = std::net::SocketAddr::new(*address, port).to_string();
            over_tcp(&config, &peer, probe, waiting).await
        }
        (None, Some(Host::Unix(folder))) => {
            let path = folder.join(format!(".s.PGSQL.{port}"));
            let peer = path.display().to_string();
            let stream = unix(&path, waiting).await.map_err(|error| Failure::io(&error, &peer))?;
            select(&config, stream, &peer, probe, waiting).await
        }
        (None, Some(Host::Tcp(host))) => {
            // An IPv6 address has colons of its own.
            let peer = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
            over_tcp(&config, &peer, probe, waiting).await
        }
        (None, None) => over_tcp(&config, &format!("127.0.0.1:{port}"), probe, waiting).await,
    }
}

async fn over_tcp(
    config: &Config,
    peer: &str,
    probe: &Probe,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure> {
    let stream = tcp::connect(peer, waiting).await?;
    select(config, stream, peer, probe, waiting).await
}

async fn unix(path: &Path, waiting: &Waiting) -> io::Result<UnixStream> {
    waiting.set("the connection to be accepted");
    UnixStream::connect(path).await
}

async fn select<S>(
    config: &Config,
    stream: S,
    peer: &str,
    probe: &Probe,
    waiting: &Waiting,
) -> Result<ProbeOutcome, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    waiting.set("the server to let us in");
    let (client, connection) = match config.connect_raw(stream, NoTls).await {
        Ok(connected) => connected,
        Err(error) => return classify(&error, peer, probe.auth_is_alive),
    };
    waiting.set("the result of SELECT 1");
    let query = async move {
        // The client is dropped with the query's end: that is what makes the connection say goodbye to the
        // server and end, so that no backend lingers.
        client.simple_query("SELECT 1").await.map(drop)
    };
    let (result, goodbye) = tokio::join!(query, connection);
    match result.and(goodbye) {
        Ok(()) => Ok(ProbeOutcome::Ok),
        Err(error) => classify(&error, peer, probe.auth_is_alive),
    }
}

fn classify(error: &tokio_postgres::Error, peer: &str, auth_is_alive: bool) -> Result<ProbeOutcome, Failure> {
    let Some(server) = error.as_db_error() else {
        // A password that the server asks for and the URL does not have is noticed on our side.
        let missing = error.to_string().contains("password missing");
        if missing && auth_is_alive {
            return Ok(ProbeOutcome::Ok);
        }
        if missing {
            return Err(Failure::new(
                ProbeFailure::Auth,
                format!("{peer} asks for a password, and none is given"),
            ));
        }
        return Err(if error.is_closed() {
            Failure::io(&io::ErrorKind::UnexpectedEof.into(), peer)
        } else {
            Failure::chain(error, peer)
        });
    };
    let code = server.code();
    let words = format!("{}: {}", server.severity(), server.message());
    let kind = if *code == SqlState::CANNOT_CONNECT_NOW {
        return Ok(ProbeOutcome::Starting(server.message().to_owned()));
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        ProbeFailure::TooManyConnections
    } else if is_about_credentials(code) {
        if auth_is_alive {
            return Ok(ProbeOutcome::Ok);
        }
        ProbeFailure::Auth
    } else {
        ProbeFailure::Protocol
    };
    Err(Failure::new(kind, format!("{peer} answered {words} (SQLSTATE {})", code.code())))
}

fn is_about_credentials(code: &SqlState) -> bool {
    [
        SqlState::INVALID_PASSWORD,
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        SqlState::INVALID_CATALOG_NAME,
    ]
    .contains(code)
}
