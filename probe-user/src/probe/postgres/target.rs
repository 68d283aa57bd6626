//! Where a PostgreSQL server is, and how to log in to it.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::{Config, config::SslNegotiation, error::SqlState};

use super::{failure::classify, session::Session};
use crate::{
    config::{PostgresAddress, Probe, TlsMode, TlsOptions},
    fact::{ProbeFailure, ProbeOutcome},
    probe::{
        Waiting,
        bounded::Bounded,
        failure::Failure,
        tcp,
        tls::{Alpn, Check, Tls, Wanted},
        unix,
    },
};

pub(super) const LOGIN: &str = "the server to let us in";
pub(super) const OFFER: &str = "the server to say whether it offers TLS";

/// The message that asks for TLS, before all others.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// PostgreSQL 17 takes TLS without that message, and names the protocol by this.
const DIRECT: Alpn = &[b"postgresql"];

pub(super) struct Target<'a> {
    pub(super) config: Config,
    /// The address for people: `host:port`, or the path of the socket.
    pub(super) peer: String,
    socket: Option<String>,
    server_name: String,
    mode: TlsMode,
    options: TlsOptions,
    tls: &'a Tls,
}

/// Why there is no session.
pub(super) enum LoginError {
    /// No connection, or no TLS over it.
    Connect(Failure),
    Refused(tokio_postgres::Error),
}

impl LoginError {
    pub(super) fn classify(self, peer: &str, auth_is_alive: bool) -> Result<ProbeOutcome, Failure> {
        match self {
            Self::Connect(failure) => Err(failure),
            Self::Refused(error) => classify(&error, peer, auth_is_alive),
        }
    }

    pub(super) fn of_server(&self) -> Option<&tokio_postgres::Error> {
        match self {
            Self::Connect(_) => None,
            Self::Refused(error) => Some(error),
        }
    }

    /// Whether the other of encrypted and not may succeed: `pg_hba.conf` has no entry for this one, or TLS fails.
    fn is_of_way(&self) -> bool {
        match self {
            Self::Connect(failure) => matches!(failure.kind, ProbeFailure::Tls | ProbeFailure::Reset),
            Self::Refused(error) => error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION),
        }
    }
}

/// Whether a session is encrypted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    EncryptedIfOffered,
    Encrypted,
}

impl<'a> Target<'a> {
    pub(super) fn of(probe: &Probe, tls: &'a Tls) -> Result<Self, Failure> {
        let parsed = PostgresAddress::parse(probe.target.expose());
        let address = parsed.map_err(|error| {
            Failure::new(
                ProbeFailure::CannotAsk,
                format!("{} is not a PostgreSQL URL: {error}", probe.target),
            )
        })?;
        let (host, port, socket) = (address.host(), address.port(), address.socket());
        let peer = match &socket {
            Some(name) => name.clone(),
            // An IPv6 address has colons of its own.
            None if host.contains(':') => format!("[{host}]:{port}"),
            None => format!("{host}:{port}"),
        };
        let server_name = address.server_name();
        let PostgresAddress { mut config, tls: of_address, .. } = address;
        if config.get_application_name().is_none() {
            config.application_name("hostprobe");
        }
        let (mode, options) = of_address.resolve(probe.tls.as_ref(), &host);
        // As libpq: nothing can be read on the way to a socket.
        let mode = if socket.is_some() { TlsMode::Disable } else { mode };
        Ok(Self { config, peer, socket, server_name, mode, options, tls })
    }

    /// Logs in with this configuration, encrypted or not as `sslmode` says.
    pub(super) async fn log_in(&self, config: &Config, waiting: &Waiting) -> Result<Session, LoginError> {
        let (first, second) = match self.mode {
            TlsMode::Disable => (Way::Plain, None),
            TlsMode::Allow => (Way::Plain, Some(Way::Encrypted)),
            TlsMode::Prefer => (Way::EncryptedIfOffered, Some(Way::Plain)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => (Way::Encrypted, None),
        };
        let error = match self.log_in_by(first, config, waiting).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let Some(second) = second.filter(|_| error.is_of_way()) else { return Err(error) };
        match self.log_in_by(second, config, waiting).await {
            // The server has no TLS, so that what it said first counts.
            Err(other) if other.is_of_way() => Err(error),
            other => other,
        }
    }

    async fn log_in_by(&self, way: Way, config: &Config, waiting: &Waiting) -> Result<Session, LoginError> {
        let stream = self.connect(way, waiting).await.map_err(LoginError::Connect)?;
        waiting.set(LOGIN);
        Session::open(config, stream).await.map_err(LoginError::Refused)
    }

    async fn connect(&self, way: Way, waiting: &Waiting) -> Result<Bounded, Failure> {
        let mut stream = match &self.socket {
            Some(name) => return Ok(Bounded::new(unix::connect(name, waiting).await?)),
            None => Bounded::new(tcp::connect(&self.peer, waiting).await?),
        };
        let is_direct = self.config.get_ssl_negotiation() == SslNegotiation::Direct;
        if way == Way::Plain || (!is_direct && !self.offers_tls(&mut stream, way, waiting).await?) {
            return Ok(stream);
        }
        let verified = !self.options.insecure;
        let check = match self.mode {
            TlsMode::VerifyFull if verified => Check::Full,
            TlsMode::VerifyCa if verified => Check::Chain,
            // As libpq: a file of authorities is there to be used.
            TlsMode::Require if verified && self.options.ca_file.is_some() => Check::Chain,
            TlsMode::Disable
            | TlsMode::Allow
            | TlsMode::Prefer
            | TlsMode::Require
            | TlsMode::VerifyCa
            | TlsMode::VerifyFull => Check::Nothing,
        };
        let alpn = if is_direct { DIRECT } else { &[] };
        let wanted =
            Wanted { options: &self.options, check, alpn, host: &self.server_name, peer: &self.peer };
        Ok(Bounded::new(self.tls.connect(stream, wanted, waiting).await?))
    }

    /// Asks the server for TLS.
    async fn offers_tls(&self, stream: &mut Bounded, way: Way, waiting: &Waiting) -> Result<bool, Failure> {
        waiting.set(OFFER);
        let broken = |error| Failure::io(&error, &self.peer);
        stream.write_all(&SSL_REQUEST).await.map_err(broken)?;
        let peer = &self.peer;
        match stream.read_u8().await.map_err(broken)? {
            b'S' => Ok(true),
            b'N' if way == Way::EncryptedIfOffered => Ok(false),
            b'N' => Err(Failure::new(
                ProbeFailure::Tls,
                format!("no TLS session with {peer}: it offers none (`ssl` is off)"),
            )),
            _ => Err(Failure::new(
                ProbeFailure::Protocol,
                format!("{peer} does not answer as a PostgreSQL server does"),
            )),
        }
    }

    /// The database that is asked for.
    pub(super) fn database(&self) -> &str {
        self.config.get_dbname().or(self.config.get_user()).unwrap_or_default()
    }
}
