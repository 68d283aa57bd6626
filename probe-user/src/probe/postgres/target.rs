//! Where a PostgreSQL server is, and how to log in to it.

use std::{error::Error, path::PathBuf};

use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use crate::{
    config::Probe,
    fact::ProbeFailure,
    probe::{Waiting, bounded::Bounded, failure::Failure, tcp},
};

const DEFAULT_PORT: u16 = 5432;

pub(super) struct Target {
    pub(super) config: Config,
    /// The address for people: `host:port`, or the path of the socket.
    pub(super) peer: String,
    socket: Option<PathBuf>,
}

impl Target {
    pub(super) fn of(probe: &Probe) -> Result<Self, Failure> {
        let unusable = |text: String| Failure::new(ProbeFailure::CannotAsk, text);
        let parsed = probe.target.expose().parse::<Config>();
        let mut config = parsed.map_err(|error| {
            // The parser's message may quote the URL. Its source has the reason and quotes at most one key.
            let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
            unusable(format!("{} is not a PostgreSQL URL{cause}", probe.target))
        })?;
        if config.get_application_name().is_none() {
            config.application_name("hostprobe");
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(unusable(format!(
                "{} requires TLS, which the postgres probe cannot do",
                probe.target
            )));
        }
        let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        let (peer, socket) = match (config.get_hostaddrs().first(), config.get_hosts().first()) {
            (Some(address), _) => (std::net::SocketAddr::new(*address, port).to_string(), None),
            (None, Some(Host::Unix(folder))) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                (path.display().to_string(), Some(path))
            }
            // An IPv6 address has colons of its own.
            (None, Some(Host::Tcp(host))) if host.contains(':') => (format!("[{host}]:{port}"), None),
            (None, Some(Host::Tcp(host))) => (format!("{host}:{port}"), None),
            (None, None) => (format!("127.0.0.1:{port}"), None),
        };
        Ok(Self { config, peer, socket })
    }

    pub(super) async fn connect(&self, waiting: &Waiting) -> Result<Bounded, Failure> {
        Ok(match &self.socket {
            Some(path) => Bounded::new(tcp::connect_unix(path, waiting).await?),
            None => Bounded::new(tcp::connect(&self.peer, waiting).await?),
        })
    }

    /// The database that is asked for.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or_default()
    }
}
