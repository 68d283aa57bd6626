//! TLS of a probe: whom it trusts, and what it shows of itself.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use super::values::{At, Text};

/// The keys of a probe's `tls`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentRequired" = {"cert": ["key"], "key": ["cert"]}))]
pub(super) struct TlsKeys {
    /// A file of the certificates in PEM that are trusted, in place of the host's store.
    #[schemars(regex(pattern = "^/"))]
    pub(super) ca_file: At<String>,
    /// A file of the certificate in PEM that is shown to the server, and of those that sign it.
    #[schemars(regex(pattern = "^/"))]
    pub(super) cert: At<String>,
    /// The file of that certificate's private key in PEM.
    #[schemars(regex(pattern = "^/"))]
    pub(super) key: At<String>,
    /// The name or IP address that is asked for and that the server's certificate must be for; the host of the address if
    /// not given.
    pub(super) server_name: At<String>,
    /// Whether any certificate of the server is taken; false if not given.
    pub(super) insecure: At<bool>,
    /// A certificate of the server that expires within this time makes the service degraded: 1h to 3650d; no limit if not
    /// given.
    pub(super) expires_within: At<Text<Duration>>,
}

/// TLS of a probe, as far as its configuration has keys for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificates that are trusted; None: the host's store.
    pub ca_file: Option<PathBuf>,
    /// What is shown to the server.
    pub identity: Option<TlsIdentity>,
    /// The name that is asked for and verified; None: the host of the address.
    pub server_name: Option<String>,
    /// Any certificate is taken.
    pub insecure: bool,
    /// A certificate that expires within this time is remarked on.
    pub expires_within: Option<Duration>,
}

/// The files of a client's certificate and of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl TlsOptions {
    /// The files that it names, each with its key in the configuration.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &PathBuf)> {
        let identity = self.identity.iter();
        let identity = identity.flat_map(|TlsIdentity { cert, key }| [("cert", cert), ("key", key)]);
        self.ca_file.iter().map(|file| ("ca_file", file)).chain(identity)
    }
}

/// When a session with a database is encrypted and what is verified, as libpq's `sslmode` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    Disable,
    /// Only if the server asks for it.
    Allow,
    /// If the server is able to.
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub(super) const LIBPQ: [(&'static str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    /// The words of MySQL's clients.
    pub(super) const MYSQL: [(&'static str, Self); 5] = [
        ("DISABLED", Self::Disable),
        ("PREFERRED", Self::Prefer),
        ("REQUIRED", Self::Require),
        ("VERIFY_CA", Self::VerifyCa),
        ("VERIFY_IDENTITY", Self::VerifyFull),
    ];

    pub(super) fn of_libpq(word: &str) -> Option<Self> {
        Self::LIBPQ.into_iter().find(|(it, _)| *it == word).map(|(_, mode)| mode)
    }

    pub(super) fn of_mysql(word: &str) -> Option<Self> {
        Self::MYSQL.into_iter().find(|(it, _)| it.eq_ignore_ascii_case(word)).map(|(_, mode)| mode)
    }
}

/// What the address of a database says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseTls {
    pub mode: Option<TlsMode>,
    pub ca_file: Option<PathBuf>,
    pub identity: Option<TlsIdentity>,
}

impl DatabaseTls {
    /// TLS of a probe to `host`: what its `tls` says goes before what its address says.
    pub fn resolve(self, keys: Option<&TlsOptions>, host: &str) -> (TlsMode, TlsOptions) {
        let mode = self.mode.unwrap_or(match keys {
            Some(TlsOptions { insecure: true, .. }) => TlsMode::Require,
            Some(_) => TlsMode::VerifyFull,
            // Nothing that is sent over loopback can be read on the way.
            None if is_loopback(host) => TlsMode::Disable,
            None => TlsMode::Prefer,
        });
        let mut options = keys.cloned().unwrap_or_default();
        options.ca_file = options.ca_file.or(self.ca_file);
        options.identity = options.identity.or(self.identity);
        (mode, options)
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
