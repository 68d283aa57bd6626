//! Whether a session is encrypted, and its change to TLS between the greeting and the login.

use super::{
    failure::Error,
    login::{Greeting, ssl_request},
    wire::Wire,
};
use crate::{
    config::{TlsMode, TlsOptions},
    probe::{
        Waiting,
        bounded::Bounded,
        tls::{Check, Tls, Wanted},
    },
};

/// The TLS that a probe wants.
pub(super) struct Encryption<'a> {
    pub(super) tls: &'a Tls,
    pub(super) mode: TlsMode,
    pub(super) options: &'a TlsOptions,
    pub(super) host: &'a str,
    pub(super) peer: &'a str,
    pub(super) waiting: &'a Waiting,
}

impl Encryption<'_> {
    /// Changes to TLS if it is wanted. Also returns whether it did.
    pub(super) async fn begin(&self, greeting: &Greeting, mut wire: Wire) -> Result<(Wire, bool), Error> {
        let offers = greeting.offers_tls();
        match self.mode {
            TlsMode::Disable => return Ok((wire, false)),
            TlsMode::Allow | TlsMode::Prefer if !offers => return Ok((wire, false)),
            TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull if !offers => {
                return Err(Error::NoTls);
            }
            TlsMode::Allow | TlsMode::Prefer | TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull => {
            }
        }
        wire.write(&ssl_request(greeting)).await?;
        let sequence = wire.sequence();
        let verified = !self.options.insecure;
        let check = match self.mode {
            TlsMode::VerifyFull if verified => Check::Full,
            TlsMode::VerifyCa if verified => Check::Chain,
            TlsMode::Disable
            | TlsMode::Allow
            | TlsMode::Prefer
            | TlsMode::Require
            | TlsMode::VerifyCa
            | TlsMode::VerifyFull => Check::Nothing,
        };
        let wanted = Wanted { options: self.options, check, alpn: &[], host: self.host, peer: self.peer };
        let stream = self.tls.connect(wire.into_stream()?, wanted, self.waiting).await.map_err(Error::Tls)?;
        Ok((Wire::goes_on(Bounded::new(stream), sequence), true))
    }
}
