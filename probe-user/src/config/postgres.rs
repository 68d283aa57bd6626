//! The address of a PostgreSQL server, as libpq has it: `postgres://USER@HOST/DATABASE?sslmode=MODE`.

use std::{borrow::Cow, error::Error as _, path::PathBuf};

use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Config, Host, SslMode};

use super::{
    socket,
    tls::{DatabaseTls, TlsIdentity, TlsMode},
};

const DEFAULT_PORT: u16 = 5432;

#[derive(Clone, Debug)]
pub struct PostgresAddress {
    /// It asks for no TLS.
    pub config: Config,
    pub tls: DatabaseTls,
    /// The folder of the server's socket, or the beginning of an abstract name; it goes before the hosts of `config`.
    folder: Option<String>,
    /// The port among the options, which goes before that of the host.
    port: Option<u16>,
}

/// It must not repeat any part of the address but the name of an option.
#[derive(Debug, thiserror::Error)]
pub enum WrongPostgresAddress {
    #[error("a wrong PostgreSQL address{0}")]
    Url(String),
    #[error("an address without a host")]
    NoHost,
    #[error(
        "a wrong PostgreSQL address: `sslmode` is disable, allow, prefer, require, verify-ca or verify-full"
    )]
    Mode,
    #[error("a wrong PostgreSQL address: `{0}` is the absolute path of a file")]
    File(&'static str),
    #[error("a wrong PostgreSQL address: `sslcert` and `sslkey` go together")]
    Identity,
    #[error(
        "a wrong PostgreSQL address: a socket is named by the absolute path of its folder, or by \"@NAME\""
    )]
    Socket,
}

impl PostgresAddress {
    pub fn parse(text: &str) -> Result<Self, WrongPostgresAddress> {
        let (start, query) = text.split_once('?').unwrap_or((text, ""));
        let (mut rest, mut folder, mut tls) = (Vec::new(), None, DatabaseTls::default());
        let (mut cert, mut key, mut port) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy();
            match name {
                "sslmode" => tls.mode = Some(TlsMode::of_libpq(&value).ok_or(WrongPostgresAddress::Mode)?),
                // libpq verifies fully with it.
                "sslrootcert" if value == "system" => tls.mode = tls.mode.or(Some(TlsMode::VerifyFull)),
                "sslrootcert" => tls.ca_file = Some(file("sslrootcert", &value)?),
                "sslcert" => cert = Some(file("sslcert", &value)?),
                "sslkey" => key = Some(file("sslkey", &value)?),
                "host" if value.starts_with(['/', '@']) => folder = Some(value.into_owned()),
                "port" if value.parse::<u16>().is_ok_and(|port| port > 0) => port = value.parse().ok(),
                _ => rest.push(pair),
            }
        }
        tls.identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(TlsIdentity { cert, key }),
            (Some(_), None) | (None, Some(_)) => return Err(WrongPostgresAddress::Identity),
        };
        let text = if rest.is_empty() { start.to_owned() } else { format!("{start}?{}", rest.join("&")) };
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            // The parser's message may quote the URL. Its source has the reason and quotes at most one key.
            let cause = error.source().map_or_else(String::new, |source| format!(": {source}"));
            WrongPostgresAddress::Url(cause)
        })?;
        config.ssl_mode(SslMode::Disable);
        let address = Self { config, tls, folder, port };
        if address.folder.is_none()
            && address.config.get_hosts().is_empty()
            && address.config.get_hostaddrs().is_empty()
        {
            return Err(WrongPostgresAddress::NoHost);
        }
        let is_nameless = address.folder.as_deref() == Some("@");
        if is_nameless || address.socket().is_some_and(|name| !socket::is_right(&name)) {
            return Err(WrongPostgresAddress::Socket);
        }
        Ok(address)
    }

    pub fn port(&self) -> u16 {
        self.port.or(self.config.get_ports().first().copied()).unwrap_or(DEFAULT_PORT)
    }

    /// The server's Unix socket: a path, or `@NAME` for an abstract one.
    pub fn socket(&self) -> Option<String> {
        let folder: Cow<'_, str> =
            match (&self.folder, self.config.get_hostaddrs().first(), self.config.get_hosts().first()) {
                (Some(folder), ..) => folder.into(),
                (None, None, Some(Host::Unix(folder))) => folder.to_string_lossy(),
                (None, ..) => return None,
            };
        Some(format!("{}/.s.PGSQL.{}", folder.trim_end_matches('/'), self.port()))
    }

    /// The name or address of the server's host; empty with a socket.
    pub fn host(&self) -> String {
        match (self.config.get_hostaddrs().first(), self.config.get_hosts().first()) {
            _ if self.folder.is_some() => String::new(),
            (Some(address), _) => address.to_string(),
            (None, Some(Host::Tcp(host))) => host.clone(),
            (None, Some(Host::Unix(_)) | None) => String::new(),
        }
    }

    /// The name that the server's certificate is for.
    pub fn server_name(&self) -> String {
        match self.config.get_hosts().first() {
            // `hostaddr` is where the server is, and `host` then its name.
            Some(Host::Tcp(host)) => host.clone(),
            Some(Host::Unix(_)) | None => self.host(),
        }
    }
}

fn file(option: &'static str, path: &str) -> Result<PathBuf, WrongPostgresAddress> {
    if path.starts_with('/') { Ok(path.into()) } else { Err(WrongPostgresAddress::File(option)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_libpq_say_when_tls_is_used() {
        let mode = |text: &str| PostgresAddress::parse(text).unwrap().tls.mode;
        assert_eq!(mode("postgres://u@h/d"), None);
        for (word, expected) in TlsMode::LIBPQ {
            assert_eq!(mode(&format!("postgres://u@h/d?sslmode={word}")), Some(expected), "{word}");
        }
        assert_eq!(mode("postgres://u@h/d?sslrootcert=system"), Some(TlsMode::VerifyFull));
        let files = "postgres://u@h/d?sslrootcert=%2Fca&sslcert=/c&sslkey=/k&application_name=x";
        let address = PostgresAddress::parse(files).unwrap();
        assert_eq!(address.tls.ca_file, Some("/ca".into()));
        assert_eq!(address.tls.identity, Some(TlsIdentity { cert: "/c".into(), key: "/k".into() }));
        assert_eq!(address.config.get_application_name(), Some("x"));
        for wrong in ["sslmode=on", "sslcert=/c", "sslrootcert=ca", "host=@", "color=red"] {
            let error = PostgresAddress::parse(&format!("postgres://u:s3cret@h/d?{wrong}")).unwrap_err();
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_certificate_is_for_the_name_also_where_the_address_is_given() {
        let address = PostgresAddress::parse("postgres://u@db.example/d?hostaddr=10.0.0.1").unwrap();
        assert_eq!((address.host().as_str(), address.server_name().as_str()), ("10.0.0.1", "db.example"));
    }
}
